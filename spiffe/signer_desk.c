#include "spiffe/signer_desk.h"

#include <stdlib.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/signer_hold.h"
#include "spiffe/signer_wire.h"
#include "spiffe/signer_witness.h"

#define SLACK_S 60 /* how far a request's times may be off: it waits in queues */
#define ED25519_LEN 64
#define ROOT_LEN 32

struct signer_desk {
	struct str trust_domain, issuer, token_issuer;
	int64_t x509_ttl_max_s, jwt_ttl_max_s;
	struct signer_keys *keys;
	struct clock clock;
	struct signer_hold hold;
	EVP_MD_CTX *log;
	struct signer_witness witness;
	char origin[SPIFFE_TRUST_DOMAIN_MAX + 8]; /* "<trust domain>/writ" */
	bool has_checkpoint;
	uint64_t size;	/* of the newest checkpoint signed by this process */
	uint64_t least; /* records that a checkpoint must be over: the key before signed the others
			 */
	uint8_t root[ROOT_LEN];
};

struct signer_desk *signer_desk_new(const struct signer_config *c, struct signer_keys *k,
				    const struct signer_upstream *upstream,
				    struct signer_token *token, const struct clock *clock,
				    struct err *e)
{
	struct signer_desk *d = calloc(1, sizeof(*d));

	if (!d) {
		err_set(e, ERR_NOMEM, "no memory for the signer");
		return NULL;
	}
	d->trust_domain = c->trust_domain;
	d->issuer = c->issuer;
	d->token_issuer = c->token_issuer;
	d->x509_ttl_max_s = c->x509_ttl_max_s ? c->x509_ttl_max_s : SIGNER_X509_TTL_MAX_S;
	d->jwt_ttl_max_s = c->jwt_ttl_max_s ? c->jwt_ttl_max_s : SIGNER_JWT_TTL_MAX_S;
	d->keys = k;
	d->witness.key = k->witness;
	d->clock = *clock;
	snprintf(d->origin, sizeof(d->origin), "%.*s/writ", STR_FMT(c->trust_domain));
	if (!signer_hold_init(&d->hold, k, upstream, token, c->trust_domain,
			      c->authority_ttl_s ? c->authority_ttl_s : SIGNER_AUTHORITY_TTL_S,
			      e)) {
		signer_desk_free(d);
		return NULL;
	}
	d->log = EVP_MD_CTX_new();
	if (!d->log) {
		signer_desk_free(d);
		err_set(e, ERR_NOMEM, "no memory for the signer");
		return NULL;
	}
	return d;
}

void signer_desk_free(struct signer_desk *d)
{
	if (!d)
		return;
	signer_hold_clear(&d->hold);
	signer_witness_clear(&d->witness);
	EVP_MD_CTX_free(d->log);
	free(d);
}

static int64_t now_s(const struct signer_desk *d)
{
	return clock_wall_ms(&d->clock) / 1000;
}

/* An ID that this signer vouches for: a workload of its trust domain; of the reserved paths only
 * writ's own. */
static bool id_allowed(const struct signer_desk *d, struct str text, bool *server, struct err *e)
{
	struct spiffe_id id;

	if (!spiffe_id_parse_workload(text, &id, e))
		return false;
	if (!spiffe_id_member_of(&id, d->trust_domain))
		return err_set(
			e, ERR_INVALID,
			"signer: \"%.*s\" is not in trust domain %.*s; its SVIDs are not ours "
			"to sign",
			STR_FMT(str_first(text, 128)), STR_FMT(d->trust_domain));
	*server = str_eq(id.path, STR(SPIFFE_SERVER_PATH));
	if (!*server && spiffe_path_reserved(id.path))
		return err_set(e, ERR_INVALID, "signer: paths below /writ/ are reserved");
	return true;
}

static bool life_allowed(const struct signer_desk *d, int64_t from_s, int64_t to_s, int64_t max_s,
			 struct err *e)
{
	int64_t now = now_s(d);

	if (from_s < now - SLACK_S || from_s > now + SLACK_S)
		return err_set(e, ERR_INVALID,
			       "signer: the life of an SVID begins now, not %lld s "
			       "from now",
			       (long long)(from_s - now));
	if (to_s <= from_s || to_s > now + max_s + SLACK_S)
		return err_set(e, ERR_INVALID,
			       "signer: an SVID may live 1 to %lld s; its end is %lld s from now",
			       (long long)max_s, (long long)(to_s - now));
	return true;
}

static bool sign_x509(struct signer_desk *d, const struct signer_job *j, struct buf *out,
		      struct err *e)
{
	const struct x509_request *r = &j->x509;
	bool server = false;

	/* i64 from a hostile side: keep the sums above from overflowing */
	if (r->not_before_s < 0 || r->not_after_s < 0)
		return err_set(e, ERR_INVALID, "signer: times are seconds since 1970");
	if (!id_allowed(d, r->spiffe_id, &server, e) ||
	    !life_allowed(d, r->not_before_s, r->not_after_s, d->x509_ttl_max_s, e))
		return false;
	if (r->nnames && !server)
		return err_set(e, ERR_INVALID, "signer: only %s has DNS names and addresses",
			       SPIFFE_SERVER_PATH);
	for (size_t i = 0; i < r->nnames; i++) {
		struct x509_name name;

		if (r->names[i].dns.p &&
		    (!x509_name_parse(r->names[i].dns, &name, e) || !name.dns.p))
			return err_set(e, ERR_INVALID, "signer: \"%.*s\" is no DNS name",
				       STR_FMT(str_first(r->names[i].dns, 64)));
	}
	if (!d->hold.authority)
		return err_set(e, ERR_UNAVAILABLE, "signer: no X.509 authority is in use");
	if (!x509_svid_issue(d->hold.authority, d->hold.x509_key, r, out, e)) {
		signer_hold_blame(&d->hold, AUTHORITY_X509, e);
		return false;
	}
	if (d->hold.chain.n)
		buf_add(out, buf_str(&d->hold.chain));
	return true;
}

/* Is there a key of tokens that holds @at_s? @name: "JWT", "WIT". */
static bool has_key(const struct jwt_signer *key, int64_t ends_s, const char *name, int64_t at_s,
		    struct err *e)
{
	if (key && ends_s > at_s)
		return true;
	return key ? err_set(e, ERR_UNAVAILABLE,
			     "the %s authority has expired: nothing can be signed with it", name)
		   : err_set(e, ERR_UNAVAILABLE,
			     "signer: no %s authority is in use: nothing can be signed with it",
			     name);
}

static bool has_jwt(const struct signer_desk *d, int64_t at_s, struct err *e)
{
	return has_key(d->hold.jwt, d->hold.jwt_ends_s, "JWT", at_s, e);
}

static bool jwt_made(struct signer_desk *d, bool made, struct err *e)
{
	if (!made)
		signer_hold_blame(&d->hold, AUTHORITY_JWT, e);
	return made;
}

static bool sign_jwt(struct signer_desk *d, const struct signer_job *j, struct buf *out,
		     struct err *e)
{
	const struct jwt_request *r = &j->jwt;
	bool server = false;

	if (r->issued_s < 0 || r->expires_s < 0)
		return err_set(e, ERR_INVALID, "signer: times are seconds since 1970");
	if (!id_allowed(d, r->spiffe_id, &server, e) ||
	    !life_allowed(d, r->issued_s, r->expires_s, d->jwt_ttl_max_s, e))
		return false;
	if (r->issuer.n && !str_eq(r->issuer, d->issuer))
		return err_set(e, ERR_INVALID, "signer: iss must be the configured issuer");
	return has_jwt(d, r->issued_s, e) && jwt_made(d, jwt_svid_issue(d->hold.jwt, r, out, e), e);
}

/* Agents of this trust domain act; nobody else, and never writ itself. */
static bool sign_delegated(struct signer_desk *d, const struct signer_job *j, struct buf *out,
			   struct err *e)
{
	const struct delegated_token *t = &j->delegated;
	bool server = false;

	if (t->issued_s < 0 || t->expires_s < 0)
		return err_set(e, ERR_INVALID, "signer: times are seconds since 1970");
	if (!d->token_issuer.n || !str_eq(t->issuer, d->token_issuer))
		return err_set(e, ERR_INVALID, "signer: iss must be the configured issuer");
	for (size_t i = 0; i < t->nchain; i++)
		if (!id_allowed(d, t->chain[i], &server, e))
			return false;
		else if (server)
			return err_set(e, ERR_INVALID,
				       "signer: " SPIFFE_SERVER_PATH " acts for nobody");
	return life_allowed(d, t->issued_s, t->expires_s, d->jwt_ttl_max_s, e) &&
	       has_jwt(d, t->issued_s, e) &&
	       jwt_made(d, delegated_token_issue(d->hold.jwt, t, out, e), e);
}

/* It lives as long as an X.509-SVID may: it is worth nothing without its key, either. */
static bool sign_wit(struct signer_desk *d, const struct signer_job *j, struct buf *out,
		     struct err *e)
{
	const struct wit_request *r = &j->wit;
	bool server = false;

	if (r->issued_s < 0 || r->expires_s < 0)
		return err_set(e, ERR_INVALID, "signer: times are seconds since 1970");
	if (!id_allowed(d, r->spiffe_id, &server, e) ||
	    !life_allowed(d, r->issued_s, r->expires_s, d->x509_ttl_max_s, e))
		return false;
	return has_key(d->hold.wit, d->hold.wit_ends_s, "WIT", r->issued_s, e) &&
	       wit_svid_issue(d->hold.wit, r, out, e);
}

/* "<origin>\n<size>\n<base64 of the root>\n", nothing more (tlog-checkpoint). */
static bool read_checkpoint(const struct signer_desk *d, struct str text, uint64_t *size,
			    uint8_t root[static ROOT_LEN + 3], struct err *e)
{
	struct str origin, count, hash, rest;
	size_t n = 0;

	if (text.n > SIGNER_CHECKPOINT_MAX || !str_cut(text, '\n', &origin, &rest) ||
	    !str_cut(rest, '\n', &count, &rest) || !str_cut(rest, '\n', &hash, &rest) || rest.n)
		return err_set(e, ERR_INVALID, "signer: a checkpoint has three lines");
	if (!str_eq(origin, str_c(d->origin)))
		return err_set(e, ERR_INVALID, "signer: the first line of a checkpoint is \"%s\"",
			       d->origin);
	if (!text_u64(count, INT64_MAX, size) || hash.n != 44 ||
	    !text_unbase64(hash, BASE64_STD, root, &n) || n != ROOT_LEN)
		return err_set(e, ERR_INVALID,
			       "signer: a checkpoint has a decimal size and a root of 32 bytes");
	return true;
}

static bool sign_text(struct signer_desk *d, struct str text, uint8_t signature[static ED25519_LEN],
		      struct err *e)
{
	size_t n = ED25519_LEN;

	if (EVP_DigestSignInit(d->log, NULL, NULL, NULL, d->keys->log) == 1 &&
	    EVP_DigestSign(d->log, signature, &n, (const unsigned char *)text.p, text.n) == 1 &&
	    n == ED25519_LEN)
		return true;
	return crypto_err(e, "cannot sign with the log key");
}

/* A log that signs two histories is worthless, so this process never does: sizes do not shrink, and
 * one size has one root. */
static bool sign_checkpoint(struct signer_desk *d, const struct signer_job *j, struct buf *out,
			    struct err *e)
{
	struct str text = j->checkpoint;
	uint8_t root[ROOT_LEN + 3] = { 0 }, signature[ED25519_LEN];
	uint64_t size = 0;

	if (!read_checkpoint(d, text, &size, root, e))
		return false;
	if (d->has_checkpoint &&
	    (size < d->size || (size == d->size && memcmp(root, d->root, ROOT_LEN) != 0)))
		return err_set(
			e, ERR_CONFLICT,
			"signer: a checkpoint of %llu records was signed already; this one of "
			"%llu contradicts it",
			(unsigned long long)d->size, (unsigned long long)size);
	if (size < d->least)
		return err_set(e, ERR_CONFLICT,
			       "signer: this log key signs checkpoints over %llu records and more",
			       (unsigned long long)d->least);
	if (!sign_text(d, text, signature, e))
		return false;
	d->has_checkpoint = true;
	d->size = size;
	memcpy(d->root, root, ROOT_LEN);
	buf_add(out, (struct str){ (const char *)signature, sizeof(signature) });
	return buf_ok(out) || err_set(e, ERR_NOMEM, "no room for a signature");
}

/* ---- another key for the log ---- */

static bool make_log_key(struct signer_desk *d, const struct signer_job *j, struct buf *out,
			 struct err *e)
{
	uint8_t raw[32];
	size_t n = sizeof(raw);
	AUTO_BUF pem;

	(void)j;
	buf_init(&pem, mem_system, SIGNER_FRAME_MAX);
	if (!signer_keys_next(d->keys, &pem, e))
		return false;
	if (EVP_PKEY_get_raw_public_key(d->keys->next, raw, &n) != 1 || n != sizeof(raw))
		return crypto_err(e, "cannot read a new log key");
	wire_put_str(out, (struct str){ (const char *)raw, n });
	wire_put_str(out, buf_str(&pem));
	return buf_ok(out) || err_set(e, ERR_NOMEM, "no room for a key");
}

/* What the old key signs (audit/rotation.h). Only for a key that was made here, so nobody can have
 * the log handed over to his own. */
static bool hand_over(struct signer_desk *d, const struct signer_job *j, struct buf *out,
		      struct err *e)
{
	uint8_t raw[32], signature[ED25519_LEN];
	size_t n = sizeof(raw);
	AUTO_BUF text = { 0 };

	if (!d->keys->next)
		return err_set(e, ERR_CONFLICT, "signer: no log key was made that could follow");
	if (!j->hand_over || j->hand_over > INT64_MAX || j->hand_over <= d->size)
		return err_set(e, ERR_CONFLICT,
			       "signer: a log key follows after more than the %llu records that "
			       "were signed",
			       (unsigned long long)d->size);
	if (EVP_PKEY_get_raw_public_key(d->keys->next, raw, &n) != 1 || n != sizeof(raw))
		return crypto_err(e, "cannot read the next log key");
	buf_init(&text, mem_system, SIGNER_CHECKPOINT_MAX);
	buf_printf(&text, "writ/key.rotate/v1\n%s\n%llu\n", d->origin,
		   (unsigned long long)j->hand_over);
	text_base64(&text, BASE64_STD, raw, n);
	buf_char(&text, '\n');
	if (!buf_ok(&text) || !sign_text(d, buf_str(&text), signature, e))
		return false;
	buf_add(out, (struct str){ (const char *)signature, sizeof(signature) });
	return buf_ok(out) || err_set(e, ERR_NOMEM, "no room for a signature");
}

static bool switch_log_key(struct signer_desk *d, const struct signer_job *j, struct buf *out,
			   struct err *e)
{
	(void)out;
	if (!d->keys->next || !j->hand_over || j->hand_over >= INT64_MAX)
		return err_set(e, ERR_CONFLICT, "signer: no log key was made that could follow");
	EVP_MD_CTX_reset(d->log);    /* it would go on with the key it has seen */
	EVP_PKEY_free(d->keys->log); /* OpenSSL wipes it */
	d->keys->log = d->keys->next;
	d->keys->next = NULL;
	d->least = j->hand_over + 1;
	return true;
}

static bool make_key(struct signer_desk *d, const struct signer_job *j, struct buf *out,
		     struct err *e)
{
	return signer_hold_make(&d->hold, j->make, now_s(d), out, e);
}

static bool use_key(struct signer_desk *d, const struct signer_job *j, struct buf *out,
		    struct err *e)
{
	(void)out;
	return signer_hold_use(&d->hold, j->use.kind, j->use.id, j->use.sealed, e);
}

static bool keep_keys(struct signer_desk *d, const struct signer_job *j, struct buf *out,
		      struct err *e)
{
	size_t removed = 0;

	if (!signer_hold_keep(&d->hold, j->keep.kind, j->keep.tokens, &removed, e))
		return false;
	wire_put_i64(out, (int64_t)removed);
	return true;
}

static bool cosign(struct signer_desk *d, const struct signer_job *j, struct buf *out,
		   struct err *e)
{
	return signer_witness_sign(&d->witness, j->cosign.text, j->cosign.at_s, now_s(d), out, e);
}

static const struct {
	enum signer_op op;
	bool (*sign)(struct signer_desk *d, const struct signer_job *j, struct buf *out,
		     struct err *e);
} table[] = {
	{ SIGNER_X509_SVID, sign_x509 },
	{ SIGNER_JWT_SVID, sign_jwt },
	{ SIGNER_CHECKPOINT, sign_checkpoint },
	{ SIGNER_MAKE_KEY, make_key },
	{ SIGNER_USE_KEY, use_key },
	{ SIGNER_MAKE_LOG_KEY, make_log_key },
	{ SIGNER_HAND_OVER, hand_over },
	{ SIGNER_SWITCH_LOG_KEY, switch_log_key },
	{ SIGNER_KEEP_KEYS, keep_keys },
	{ SIGNER_COSIGN, cosign },
	{ SIGNER_DELEGATED_TOKEN, sign_delegated },
	{ SIGNER_WIT_SVID, sign_wit },
};

static bool sign(struct signer_desk *d, struct str body, struct buf *out, struct err *e)
{
	struct signer_job j;

	if (!wire_job(body, &j))
		return err_set(e, ERR_INVALID, "signer: malformed request");
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (table[i].op == j.op)
			return table[i].sign(d, &j, out, e);
	return err_set(e, ERR_INVALID, "signer: unknown request");
}

bool signer_desk_answer(struct signer_desk *d, struct str body, struct buf *out)
{
	struct err e = { 0 };
	size_t at = wire_begin(out);

	wire_put_u8(out, ERR_NONE);
	if (sign(d, body, out, &e) && wire_end(out, at))
		return true;
	out->n = at;
	out->failed = false;
	signer_desk_regret(&e, out);
	return out->n > at;
}

void signer_desk_regret(const struct err *e, struct buf *out)
{
	size_t at = wire_begin(out);

	wire_put_u8(out, (uint8_t)(e->class ? e->class : ERR_TOO_LARGE));
	buf_add(out, str_c(e->class ? e->msg : "signer: the answer is too large"));
	if (!wire_end(out, at))
		out->n = at;
}

/* The keys of the first start; empty where rotation has replaced them. */
static bool greet_authorities(const struct signer_desk *d, struct buf *out, struct err *e)
{
	const struct signer_keys *k = d->keys;
	char kid[JWT_KID_LEN + 1] = "";
	AUTO_BUF spki = { 0 };
	unsigned char *der = NULL;
	int64_t begins, ends = 0;
	int len = k->authority ? i2d_X509(k->authority, &der) : 0;
	bool ok = len >= 0 && (!k->authority || x509_times(k->authority, &begins, &ends));

	buf_init(&spki, mem_system, CRYPTO_SPKI_MAX);
	if (ok && k->jwt)
		ok = jwt_kid(k->jwt, kid, e) && crypto_spki(k->jwt, &spki, e);
	wire_put_str(out, (struct str){ (const char *)der, ok ? (size_t)len : 0 });
	wire_put_i64(out, ends);
	wire_put_str(out, str_c(kid));
	wire_put_str(out, buf_str(&spki));
	OPENSSL_free(der);
	return ok;
}

void signer_desk_greet(const struct signer_desk *d, bool confined, struct buf *out)
{
	uint8_t raw[32] = { 0 }, next[32] = { 0 }, witness[32] = { 0 };
	size_t at = wire_begin(out), n = sizeof(raw), nnext = 0, nwitness = 0;
	struct err e = { 0 };

	wire_put_u8(out, ERR_NONE);
	if (d->keys->witness) {
		nwitness = sizeof(witness);
		if (EVP_PKEY_get_raw_public_key(d->keys->witness, witness, &nwitness) != 1)
			n = 0;
	}
	if (d->keys->next) {
		nnext = sizeof(next);
		if (EVP_PKEY_get_raw_public_key(d->keys->next, next, &nnext) != 1)
			n = 0;
	}
	if (!greet_authorities(d, out, &e) || !n ||
	    EVP_PKEY_get_raw_public_key(d->keys->log, raw, &n) != 1 || n != sizeof(raw)) {
		out->n = at;
		crypto_err(&e, "signer: cannot tell its public keys");
		signer_desk_regret(&e, out);
		return;
	}
	wire_put_str(out, (struct str){ (const char *)raw, n });
	wire_put_str(out, (struct str){ (const char *)next, nnext });
	wire_put_str(out, (struct str){ (const char *)witness, nwitness });
	wire_put_u8(out, d->keys->created);
	wire_put_u8(out, confined);
	if (!wire_end(out, at))
		out->n = at;
}
