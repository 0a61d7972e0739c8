#include <openssl/evp.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "spiffe/attest_inside.h"

/* The table. */
const struct attestor *const attestors[] = { &attest_join_token, &attest_oidc, &attest_k8s_psat,
					     &attest_x509pop, NULL };

static const char *const schema[] = {
	"CREATE TABLE attest_used ("
	"  hash BLOB PRIMARY KEY,"
	"  expires_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE INDEX attest_used_expiry ON attest_used (expires_ms);",
	"CREATE TABLE attest_jwks ("
	"  kind TEXT NOT NULL,"
	"  issuer TEXT NOT NULL,"
	"  source TEXT NOT NULL,"   /* where it came from */
	"  document BLOB NOT NULL," /* as it came */
	"  fetched_ms INTEGER NOT NULL,"
	"  PRIMARY KEY (kind, issuer)) STRICT;",
};

const struct attestor *attestor_find(struct str name)
{
	for (size_t i = 0; attestors[i]; i++)
		if (str_eq(name, str_c(attestors[i]->name)))
			return attestors[i];
	return NULL;
}

static bool load(struct attest *a, struct err *e)
{
	const struct attest_config *c = &a->config;

	for (size_t i = 0; i < c->noidc && i < ATTEST_ISSUERS; i++)
		if (!attest_keys_load(a, &a->oidc[i], &c->oidc[i], e))
			return false;
	for (size_t i = 0; i < c->nk8s && i < ATTEST_ISSUERS; i++)
		if (!attest_keys_load(a, &a->k8s[i], &c->k8s[i], e))
			return false;
	for (size_t i = 0; i < c->nusers && i < ATTEST_ISSUERS; i++)
		if (!attest_keys_load(a, &a->users[i], &c->users[i], e))
			return false;
	return !c->nx509pop || attest_anchors_load(c, &a->anchors, e);
}

static bool open_table(struct attest *a, struct db *db, struct err *e)
{
	int64_t used = 0;

	a->db = db;
	if (!db_migrate(db, "attest", schema, ARRAY_LEN(schema), e) ||
	    !db_prepare(db, "INSERT OR IGNORE INTO attest_used VALUES (?, ?)", &a->use, e) ||
	    !db_prepare(db, "DELETE FROM attest_used WHERE expires_ms <= ?", &a->prune, e) ||
	    !db_prepare(db, "INSERT OR REPLACE INTO attest_jwks VALUES (?, ?, ?, ?, ?)", &a->keep,
			e) ||
	    !db_prepare(db, "DELETE FROM attest_jwks WHERE fetched_ms < ?", &a->forget, e) ||
	    !db_int(db, "SELECT count(*) FROM attest_used", &used, e))
		return false;
	a->used = (size_t)used;
	return true;
}

bool attest_open(const struct attest_config *c, struct db *db, struct attest **out, struct err *e)
{
	struct attest *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(e, ERR_NOMEM, "no memory for attestation");
	a->config = *c;
	random_bytes(a->nonce_key, sizeof(a->nonce_key));
	a->sha = sha256_new(e);
	if (!a->sha || !open_table(a, db, e) || !load(a, e)) {
		attest_close(a);
		return false;
	}
	*out = a;
	return true;
}

void attest_close(struct attest *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < ATTEST_ISSUERS; i++) {
		jwks_free(a->oidc[i].keys);
		jwks_free(a->oidc[i].source.keys);
		jwks_free(a->k8s[i].keys);
		jwks_free(a->k8s[i].source.keys);
		jwks_free(a->users[i].keys);
		jwks_free(a->users[i].source.keys);
	}
	X509_STORE_free(a->anchors);
	db_finish(a->use);
	db_finish(a->prune);
	db_finish(a->keep);
	db_finish(a->forget);
	sha256_free(a->sha);
	mem_wipe(a->nonce_key, sizeof(a->nonce_key));
	free(a);
}

bool attest_refresh(struct attest *a, int64_t now_ms, struct err *e)
{
	bool ok = true;

	db_bind_int(a->prune, 1, now_ms);
	if (!db_run(a->prune, e))
		return false;
	a->used -= (size_t)db_changes(a->db);
	db_bind_int(a->forget, 1, now_ms - a->config.keep_s * 1000);
	if (!db_run(a->forget, e))
		return false;
	for (size_t i = 0; i < ATTEST_ISSUERS; i++)
		ok = attest_keys_refresh(&a->oidc[i], e) && attest_keys_refresh(&a->k8s[i], e) &&
		     attest_keys_refresh(&a->users[i], e) && ok;
	return ok;
}

bool attest_prove(const struct attestor *t, const struct attest_call *c, struct attested *out,
		  struct err *e)
{
	struct attested got = { 0 };

	got.selectors = arena_alloc(c->arena, ATTEST_SELECTORS * sizeof(*got.selectors));
	if (!got.selectors)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (!t->prove(c, &got, e))
		return false;
	*out = got;
	return true;
}

bool attested_add(const struct attest_call *c, struct attested *out, const char *type,
		  struct str key, struct str value, struct err *e)
{
	struct str text;

	if (!value.n || key.n + 1 + value.n > REGISTRY_VALUE || !text_is_utf8(value) ||
	    !text_is_printable(value) || out->n == ATTEST_SELECTORS)
		return true;
	text = arena_printf(c->arena, "%.*s:%.*s", STR_FMT(key), STR_FMT(value));
	if (!text.p)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	out->selectors[out->n++] = (struct registry_selector){ str_c(type), text };
	return true;
}

bool attest_use(struct attest *a, const struct attested *proof, struct err *e)
{
	uint8_t hash[SHA256_LEN];

	if (!proof->once.n)
		return true;
	/* To forget one would let it in again: refuse what cannot be remembered. */
	if (a->used >= ATTEST_USED_MAX)
		return err_code(e, ERR_UNAVAILABLE, "too_many_proofs",
				"%d proofs of attestation are remembered until they end; try again "
				"later",
				ATTEST_USED_MAX);
	sha256_of(a->sha, proof->once, hash);
	db_bind_blob(a->use, 1, hash, sizeof(hash));
	db_bind_int(a->use, 2, proof->once_until_ms);
	if (!db_run(a->use, e))
		return false;
	if (db_changes(a->db) != 1)
		return err_code(e, ERR_UNAUTHENTICATED, "proof_used",
				"this proof was used before and works once; get a new one, and if "
				"it was not you who used it, tell an admin");
	a->used++;
	return true;
}

/* --- join tokens: the attestor that knows its agent --- */

static bool prove_join_token(const struct attest_call *c, struct attested *out, struct err *e)
{
	if (c->proof->type != JSON_STRING)
		return err_code(e, ERR_INVALID, "invalid_request",
				"join_token must be a string, not %s",
				json_type_name(c->proof->type));
	return token_use(c->tokens, c->view, c->proof->s, c->now_ms, c->arena, &out->agent,
			 &out->token_number, e);
}

const struct attestor attest_join_token = { "join_token", "a string from `writ agent token`",
					    prove_join_token };
