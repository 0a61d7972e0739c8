#include "authz/decide/revocations.h"

#include <stdlib.h>

#include "authz/base/text.h"

struct row {
	uint8_t key[REVOCATION_KEY];
	int64_t before_s;
};

struct revocations {
	struct shared shared;
	size_t n;
	struct row rows[]; /* by key */
};

struct revocation_desk {
	struct db *db;
	struct slot *slot;
	struct db_stmt *insert, *all, *of_one, *prune;
	size_t n;
};

static const char *const schema[] = {
	"CREATE TABLE delegation_revoked ("
	"  key BLOB PRIMARY KEY," /* 16 bytes: a jti, or the head of a user's hash */
	"  before_s INTEGER NOT NULL,"
	"  expires_s INTEGER NOT NULL,"
	"  by TEXT NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE INDEX delegation_revoked_expiry ON delegation_revoked (expires_s);"
	"CREATE INDEX delegation_revoked_by ON delegation_revoked (by) WHERE by <> '';",
};

/* ---- keys ---- */

static bool key_of_token(struct str id, uint8_t out[static REVOCATION_KEY])
{
	uint8_t bytes[REVOCATION_KEY + 3];
	size_t n = 0;

	if (id.n != DELEGATED_ID_LEN || !text_unbase64(id, BASE64_URL, bytes, &n) ||
	    n != REVOCATION_KEY)
		return false;
	memcpy(out, bytes, REVOCATION_KEY);
	return true;
}

static void key_of_user(struct str issuer, struct str user, struct sha256 *sha,
			uint8_t out[static REVOCATION_KEY])
{
	const struct str parts[] = { STR("user\0"), issuer, STR("\0"), user };
	uint8_t hash[SHA256_LEN];

	sha256_parts(sha, parts, ARRAY_LEN(parts), hash);
	memcpy(out, hash, REVOCATION_KEY);
}

bool revocation_of_token(struct str id, int64_t expires_s, struct revocation *out)
{
	*out = (struct revocation){ .before_s = INT64_MAX, .expires_s = expires_s };
	return key_of_token(id, out->key);
}

void revocation_of_user(struct str issuer, struct str user, int64_t now_s, int64_t life_s,
			struct sha256 *sha, struct revocation *out)
{
	*out = (struct revocation){ .before_s = now_s, .expires_s = now_s + life_s };
	key_of_user(issuer, user, sha, out->key);
}

/* ---- the view ---- */

static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, REVOCATION_KEY); /* the key is a row's first member */
}

static bool hit(const struct revocations *r, const uint8_t key[static REVOCATION_KEY],
		int64_t issued_s)
{
	const struct row *row = bsearch(key, r->rows, r->n, sizeof(r->rows[0]), by_key);

	return row && issued_s <= row->before_s;
}

bool revocations_hit(const struct revocations *r, const struct delegated_token *t,
		     struct sha256 *sha)
{
	uint8_t key[REVOCATION_KEY];

	if (!r || !r->n)
		return false;
	/* A jti that cannot be read cannot be looked up either. */
	if (!key_of_token(t->id, key) || hit(r, key, t->issued_s))
		return true;
	for (size_t i = 0; i < t->nline; i++)
		if (!key_of_token(t->line[i], key) || hit(r, key, t->issued_s))
			return true;
	if (!t->subject_issuer.n)
		return false;
	key_of_user(t->subject_issuer, t->subject, sha, key);
	return hit(r, key, t->issued_s);
}

static void view_free(struct shared *s)
{
	free(s);
}

static bool view_read(struct revocation_desk *d, struct revocations *v, size_t room, struct err *e)
{
	AUTO_RESET *q = d->all;
	bool row = true;

	while (db_step(q, &row, e) && row) {
		struct str key = db_column_blob(q, 0);

		if (key.n != REVOCATION_KEY || v->n == room)
			return err_code(e, ERR_IO, "storage_corrupt",
					"writ.db: the revoked tokens are damaged");
		memcpy(v->rows[v->n].key, key.p, REVOCATION_KEY);
		v->rows[v->n++].before_s = db_column_int(q, 1);
	}
	return !row; /* a step that fails leaves it true */
}

/* In order of key, as the table is. */
static bool publish(struct revocation_desk *d, struct err *e)
{
	struct revocations *v;
	int64_t n = 0;

	if (!db_int(d->db, "SELECT count(*) FROM delegation_revoked", &n, e))
		return false;
	v = calloc(1, sizeof(*v) + (size_t)n * sizeof(v->rows[0]));
	if (!v)
		return err_set(e, ERR_NOMEM, "no memory for the revoked tokens");
	shared_init(&v->shared, view_free);
	if (!view_read(d, v, (size_t)n, e)) {
		free(v);
		return false;
	}
	d->n = v->n;
	slot_publish(d->slot, &v->shared);
	return true;
}

/* ---- the desk ---- */

bool revocations_open(struct db *db, struct slot *slot, struct revocation_desk **out, struct err *e)
{
	struct revocation_desk *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(e, ERR_NOMEM, "no memory for the revoked tokens");
	d->db = db;
	d->slot = slot;
	if (!db_migrate(db, "revocations", schema, ARRAY_LEN(schema), e) ||
	    !db_prepare(db,
			"INSERT INTO delegation_revoked VALUES (?, ?, ?, ?) ON CONFLICT (key) DO "
			"UPDATE SET before_s = max(before_s, excluded.before_s), "
			"expires_s = max(expires_s, excluded.expires_s)",
			&d->insert, e) ||
	    !db_prepare(db, "SELECT key, before_s FROM delegation_revoked ORDER BY key", &d->all,
			e) ||
	    !db_prepare(db, "SELECT count(*) FROM delegation_revoked WHERE by = ? AND by <> ''",
			&d->of_one, e) ||
	    !db_prepare(db, "DELETE FROM delegation_revoked WHERE expires_s < ?", &d->prune, e) ||
	    !publish(d, e)) {
		revocations_close(d);
		return false;
	}
	*out = d;
	return true;
}

void revocations_close(struct revocation_desk *d)
{
	if (!d)
		return;
	db_finish(d->insert);
	db_finish(d->all);
	db_finish(d->of_one);
	db_finish(d->prune);
	free(d);
}

static bool has_room(struct revocation_desk *d, struct str by, struct err *e)
{
	AUTO_RESET *q = d->of_one;
	bool row = false;

	if (d->n >= REVOCATIONS_MAX)
		return err_code(e, ERR_UNAVAILABLE, "too_many_revocations",
				"%d revocations are kept until what they concern has ended; try "
				"again in a few minutes",
				REVOCATIONS_MAX);
	if (!by.n)
		return true;
	db_bind_text(q, 1, by);
	if (!db_step(q, &row, e))
		return false;
	return !row || db_column_int(q, 0) < REVOCATIONS_OF_ONE ||
	       err_code(e, ERR_UNAVAILABLE, "too_many_revocations",
			"%d tokens of this agent are revoked already; let some of them end",
			REVOCATIONS_OF_ONE);
}

bool revocations_add(struct revocation_desk *d, const struct revocation *r, struct str by,
		     struct err *e)
{
	if (!has_room(d, by, e))
		return false;
	db_bind_blob(d->insert, 1, r->key, sizeof(r->key));
	db_bind_int(d->insert, 2, r->before_s);
	db_bind_int(d->insert, 3, r->expires_s);
	db_bind_text(d->insert, 4, by);
	return db_run(d->insert, e) && publish(d, e);
}

bool revocations_prune(struct revocation_desk *d, int64_t now_s, struct err *e)
{
	db_bind_int(d->prune, 1, now_s);
	if (!db_run(d->prune, e))
		return false;
	return db_changes(d->db) == 0 || publish(d, e);
}

size_t revocations_count(const struct revocation_desk *d)
{
	return d->n;
}
