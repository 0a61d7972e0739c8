#include "authz/audit/outcome.h"

#include <stdio.h>
#include <stdlib.h>

#include "authz/audit/rows.h"
#include "include/writ/words.h"

/* A module of its own in log.db: logs of before get the table at the next start. */
static const char *const schema[] = {
	"CREATE TABLE closed(seq INTEGER NOT NULL, kind INTEGER NOT NULL, record INTEGER NOT NULL,"
	" salt BLOB NOT NULL, said BLOB NOT NULL, PRIMARY KEY(seq, kind)) STRICT, WITHOUT ROWID;",
};

static void say(struct sha256 *sha, const uint8_t salt[static SALT_LEN], struct str text,
		uint8_t out[static SHA256_LEN])
{
	struct str parts[2] = { { (const char *)salt, SALT_LEN }, text };

	sha256_parts(sha, parts, 2, out);
}

void closing_say(struct closing *c, struct sha256 *sha, struct str text)
{
	sha256_salt(sha, c->salt, SALT_LEN);
	say(sha, c->salt, text, c->said);
}

bool closings_migrate(struct db *db, struct err *e)
{
	return db_migrate(db, "outcome", schema, ARRAY_LEN(schema), e);
}

bool closings_prepare(struct db *db, struct db_stmt **s, struct err *e)
{
	return db_prepare(db, "INSERT OR IGNORE INTO closed VALUES (?1, ?2, ?3, ?4, ?5)", s, e);
}

bool closings_add(struct db *db, struct db_stmt *s, const struct closing *c, uint64_t by,
		  bool *added, struct err *e)
{
	db_bind_int(s, 1, (int64_t)c->seq);
	db_bind_int(s, 2, c->kind);
	db_bind_int(s, 3, (int64_t)by);
	db_bind_blob(s, 4, c->salt, SALT_LEN);
	db_bind_blob(s, 5, c->said, SHA256_LEN);
	if (!db_run(s, e))
		return false;
	*added = db_changes(db) == 1;
	return true;
}

/* --- looking up --- */

struct closings {
	struct db *db;
	struct db_stmt *leaf, *closed;
	struct sha256 *sha;
};

bool closings_open(const char *folder, struct closings **out, struct err *e)
{
	const struct db_options options = { .read_only = true,
					    .autocheckpoint = -1,
					    .busy_ms = 1000 };
	struct closings *c = calloc(1, sizeof(*c));
	char path[4200];

	if (!c)
		return err_set(e, ERR_NOMEM, "no memory to read the log");
	c->sha = sha256_new(e);
	if (snprintf(path, sizeof(path), "%s/" ROWS_FILE, folder) >= (int)sizeof(path)) {
		err_set(e, ERR_INVALID, "the data folder's path is too long");
	} else if (c->sha && db_open(path, &options, &c->db, e) &&
		   db_prepare(c->db, "SELECT body FROM leaf WHERE seq = ?1", &c->leaf, e) &&
		   db_prepare(c->db,
			      "SELECT record, salt, said FROM closed WHERE seq = ?1 AND kind = ?2",
			      &c->closed, e)) {
		*out = c;
		return true;
	}
	closings_close(c);
	return false;
}

void closings_close(struct closings *c)
{
	if (!c)
		return;
	db_finish(c->leaf);
	db_finish(c->closed);
	db_close(c->db);
	sha256_free(c->sha);
	free(c);
}

struct str leaf_text(struct str text, struct str name, struct arena *a)
{
	struct flat f;
	struct flat_member m;
	struct buf b;

	flat_begin(&f, text);
	while (flat_next(&f, &m)) {
		if (!m.is_string || !str_eq(m.name, name))
			continue;
		buf_in_arena(&b, a, LIMIT_LEAF);
		return flat_unescape(m.value, &b) ? buf_str(&b) : (struct str){ NULL, 0 };
	}
	return (struct str){ NULL, 0 };
}

static bool find_record(struct closings *c, uint64_t seq, struct arena *a,
			struct closing_found *out, struct err *e)
{
	AUTO_RESET *s = c->leaf;
	struct str text;

	db_bind_int(s, 1, (int64_t)seq);
	if (!db_step(s, &out->record, e))
		return false;
	if (!out->record)
		return rows_pruned(c->db, &out->pruned, e);
	text = arena_dup(a, db_column_blob(s, 0));
	if (!text.p)
		return err_set(e, ERR_NOMEM, "no memory to read record %llu",
			       (unsigned long long)seq);
	if (!leaf_scan(text, &out->leaf))
		return rows_damaged(e, "record %llu is not readable", (unsigned long long)seq);
	out->pep = leaf_text(text, STR("pep"), a);
	return true;
}

bool closings_find(struct closings *c, uint64_t seq, enum closing_kind kind, struct str text,
		   struct arena *a, struct closing_found *out, struct err *e)
{
	AUTO_RESET *s = c->closed;
	uint8_t said[SHA256_LEN];
	struct str salt, was;
	bool row;

	memset(out, 0, sizeof(*out));
	err_none(e);
	if (seq > (uint64_t)INT64_MAX || !find_record(c, seq, a, out, e) || !out->record)
		return e->class == ERR_NONE;
	db_bind_int(s, 1, (int64_t)seq);
	db_bind_int(s, 2, kind);
	if (!db_step(s, &row, e))
		return false;
	if (!row)
		return true;
	out->by = (uint64_t)db_column_int(s, 0);
	salt = db_column_blob(s, 1);
	was = db_column_blob(s, 2);
	if (salt.n != SALT_LEN || was.n != SHA256_LEN) {
		out->state = CLOSING_ERASED;
		return true;
	}
	say(c->sha, (const uint8_t *)salt.p, text, said);
	out->state = memcmp(said, was.p, SHA256_LEN) == 0 ? CLOSING_SAME : CLOSING_OTHER;
	return true;
}

bool closings_of(struct closings *c, uint64_t seq, uint64_t by[static 2], size_t *n, struct err *e)
{
	static const enum closing_kind kinds[2] = { CLOSING_OUTCOME, CLOSING_USAGE };
	bool row;

	*n = 0;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		AUTO_RESET *s = c->closed;

		db_bind_int(s, 1, (int64_t)seq);
		db_bind_int(s, 2, kinds[i]);
		if (!db_step(s, &row, e))
			return false;
		if (row)
			by[(*n)++] = (uint64_t)db_column_int(s, 0);
	}
	return true;
}

bool closings_has_outcome(struct closings *c, uint64_t seq, bool *closed, struct err *e)
{
	AUTO_RESET *s = c->closed;

	db_bind_int(s, 1, (int64_t)seq);
	db_bind_int(s, 2, CLOSING_OUTCOME);
	return db_step(s, closed, e);
}
