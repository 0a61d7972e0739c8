#include "spiffe/authority_db.h"

#include <stdlib.h>

/* 1 prepared, 2 active, 3 old, 4 tainted, 5 revoked, 6 retired (enum authority_state). */
static const char *const schema[] = {
	"CREATE TABLE authority ("
	"  row INTEGER PRIMARY KEY,"
	"  id TEXT NOT NULL UNIQUE,"
	"  kind INTEGER NOT NULL,"
	"  state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 6),"
	"  first INTEGER NOT NULL,"
	"  not_before_s INTEGER NOT NULL,"
	"  not_after_s INTEGER NOT NULL,"
	"  prepared_s INTEGER NOT NULL,"
	"  activated_s INTEGER NOT NULL,"
	"  stopped_s INTEGER NOT NULL,"
	"  spki BLOB NOT NULL UNIQUE,"
	"  chain BLOB NOT NULL,"
	"  roots BLOB NOT NULL,"
	"  by TEXT NOT NULL) STRICT;"
	"CREATE UNIQUE INDEX authority_active ON authority (kind) WHERE state = 2;"
	"CREATE UNIQUE INDEX authority_prepared ON authority (kind) WHERE state = 1;"
	"CREATE TABLE authority_meta ("
	"  one INTEGER PRIMARY KEY CHECK (one = 1),"
	"  sequence INTEGER NOT NULL,"
	"  reissue INTEGER NOT NULL) STRICT;"
	"INSERT INTO authority_meta VALUES (1, 0, 0);"
	"CREATE TRIGGER authority_stays BEFORE DELETE ON authority BEGIN"
	"  SELECT RAISE(ABORT, 'authorities are never deleted'); END;"
	"CREATE TRIGGER authority_keeps BEFORE UPDATE OF row, id, kind, spki, chain, roots,"
	"  not_before_s, not_after_s, prepared_s ON authority BEGIN"
	"  SELECT RAISE(ABORT, 'an authority keeps its key'); END;"
	"CREATE TRIGGER authority_gone BEFORE UPDATE ON authority WHEN old.state > 4 BEGIN"
	"  SELECT RAISE(ABORT, 'what has left the bundle does not come back'); END;"
	"CREATE TRIGGER authority_sequence BEFORE UPDATE ON authority_meta"
	"  WHEN new.sequence <= old.sequence BEGIN"
	"  SELECT RAISE(ABORT, 'the sequence of the bundle only grows'); END;",
	/* 2: keys in a token, by their id there in hexadecimal; '': a file */
	"ALTER TABLE authority ADD COLUMN token TEXT NOT NULL DEFAULT '';"
	"CREATE TRIGGER authority_keeps_token BEFORE UPDATE OF token ON authority BEGIN"
	"  SELECT RAISE(ABORT, 'an authority keeps its key'); END;",
};

#define COLUMNS                                                                        \
	"id, kind, state, first, not_before_s, not_after_s, prepared_s, activated_s, " \
	"stopped_s, spki, chain, roots, by, token FROM authority "
enum {
	C_ID,
	C_KIND,
	C_STATE,
	C_FIRST,
	C_BEGINS,
	C_ENDS,
	C_PREPARED,
	C_ACTIVATED,
	C_STOPPED,
	C_SPKI,
	C_CHAIN,
	C_ROOTS,
	C_BY,
	C_TOKEN,
};

bool authority_db_open(struct authority_db *d, struct db *db, struct err *e)
{
	d->db = db;
	if (db_migrate(db, "authorities", schema, ARRAY_LEN(schema), e) &&
	    db_prepare(db,
		       "INSERT INTO authority (id, kind, state, first, not_before_s, not_after_s, "
		       "prepared_s, activated_s, stopped_s, spki, chain, roots, by, token) "
		       "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		       &d->insert, e) &&
	    db_prepare(db,
		       "UPDATE authority SET state = ?1, activated_s = CASE ?1 WHEN 2 THEN ?2 ELSE "
		       "activated_s END, stopped_s = CASE ?1 WHEN 3 THEN ?2 ELSE stopped_s END "
		       "WHERE id = ?3",
		       &d->update, e) &&
	    db_prepare(db, "SELECT " COLUMNS "WHERE state < 5 ORDER BY row", &d->list, e) &&
	    db_prepare(db, "SELECT " COLUMNS "WHERE state > 4 ORDER BY row DESC LIMIT ?",
		       &d->history, e) &&
	    db_prepare(db,
		       "SELECT spki FROM authority WHERE state = 5 AND kind = 0 AND "
		       "length(roots) > 0 ORDER BY row DESC LIMIT 64",
		       &d->distrusted, e) &&
	    db_prepare(db, "SELECT sequence, reissue FROM authority_meta", &d->read_meta, e) &&
	    db_prepare(db,
		       "UPDATE authority_meta SET reissue = CASE ?1 WHEN 1 THEN sequence + 1 ELSE "
		       "reissue END, sequence = sequence + 1",
		       &d->write_meta, e) &&
	    authority_db_load(d, e))
		return true;
	authority_db_close(d);
	return false;
}

static void clear_rows(struct authority_row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(rows[i].memory);
}

void authority_db_close(struct authority_db *d)
{
	clear_rows(d->rows, d->n);
	db_finish(d->insert);
	db_finish(d->update);
	db_finish(d->list);
	db_finish(d->history);
	db_finish(d->distrusted);
	db_finish(d->read_meta);
	db_finish(d->write_meta);
	*d = (struct authority_db){ 0 };
}

/* ---- reading ---- */

static bool read_authority(struct db_stmt *s, struct authority *a, struct err *e)
{
	struct str id = db_column_text(s, C_ID), token = db_column_text(s, C_TOKEN);
	int64_t kind = db_column_int(s, C_KIND), state = db_column_int(s, C_STATE);

	if (id.n == 0 || id.n > AUTHORITY_ID_MAX || kind < 0 || kind >= AUTHORITY_KINDS ||
	    state < AUTHORITY_PREPARED || state > AUTHORITY_RETIRED ||
	    (token.n && token.n != AUTHORITY_TOKEN))
		return err_set(e, ERR_IO, "writ.db: a row of the authorities is malformed");
	*a = (struct authority){ .kind = (enum authority_kind)kind,
				 .state = (enum authority_state)state,
				 .not_before_s = db_column_int(s, C_BEGINS),
				 .not_after_s = db_column_int(s, C_ENDS),
				 .prepared_s = db_column_int(s, C_PREPARED),
				 .activated_s = db_column_int(s, C_ACTIVATED),
				 .stopped_s = db_column_int(s, C_STOPPED) };
	memcpy(a->id, id.p, id.n);
	if (token.n)
		memcpy(a->token, token.p, token.n);
	return true;
}

static struct str keep(char **at, struct str s)
{
	struct str kept = { *at, s.n };

	if (s.n)
		memcpy(*at, s.p, s.n);
	*at += s.n;
	return kept;
}

static bool read_row(struct db_stmt *s, struct authority_row *r, struct err *e)
{
	struct str spki = db_column_blob(s, C_SPKI), chain = db_column_blob(s, C_CHAIN);
	struct str roots = db_column_blob(s, C_ROOTS), by = db_column_text(s, C_BY);
	char *at;

	*r = (struct authority_row){ .first = db_column_int(s, C_FIRST) != 0 };
	if (!read_authority(s, &r->a, e))
		return false;
	r->memory = at = malloc(spki.n + chain.n + roots.n + by.n + 1);
	if (!at)
		return err_set(e, ERR_NOMEM, "no memory for the authorities");
	r->spki = keep(&at, spki);
	r->chain = keep(&at, chain);
	r->roots = keep(&at, roots);
	r->by = keep(&at, by);
	return true;
}

static bool read_meta(struct authority_db *d, uint64_t *sequence, uint64_t *reissue, struct err *e)
{
	AUTO_RESET *s = d->read_meta;
	bool row = false;

	if (!db_step(s, &row, e))
		return false;
	if (!row)
		return err_set(e, ERR_IO, "writ.db: the sequence of the trust bundle is missing");
	*sequence = (uint64_t)db_column_int(s, 0);
	*reissue = (uint64_t)db_column_int(s, 1);
	return true;
}

bool authority_db_load(struct authority_db *d, struct err *e)
{
	struct authority_row rows[AUTHORITY_ROWS_MAX];
	uint64_t sequence, reissue;
	AUTO_RESET *s = d->list;
	bool row = false, ok;
	size_t n = 0;

	if (!read_meta(d, &sequence, &reissue, e))
		return false;
	while ((ok = db_step(s, &row, e)) && row) {
		ok = n < AUTHORITY_ROWS_MAX ? read_row(s, &rows[n], e)
					    : err_set(e, ERR_IO, "writ.db: too many authorities");
		if (!ok)
			break;
		n++;
	}
	if (!ok) {
		clear_rows(rows, n);
		return false;
	}
	clear_rows(d->rows, d->n);
	memcpy(d->rows, rows, n * sizeof(rows[0]));
	for (size_t i = 0; i < n; i++)
		d->all[i] = &d->rows[i].a;
	d->n = n;
	d->sequence = sequence;
	d->reissue = reissue;
	return true;
}

bool authority_db_left(struct authority_db *d, size_t max,
		       void (*each)(void *ctx, const struct authority *a), void *ctx, struct err *e)
{
	AUTO_RESET *s = d->history;
	bool row = false;

	db_bind_int(s, 1, (int64_t)max);
	while (db_step(s, &row, e)) {
		struct authority a;

		if (!row)
			return true;
		if (!read_authority(s, &a, e))
			return false;
		each(ctx, &a);
	}
	return false;
}

bool authority_db_distrusted(struct authority_db *d,
			     bool (*each)(void *ctx, struct str spki, struct err *e), void *ctx,
			     struct err *e)
{
	AUTO_RESET *s = d->distrusted;
	bool row = false;

	while (db_step(s, &row, e)) {
		if (!row)
			return true;
		if (!each(ctx, db_column_blob(s, 0), e))
			return false;
	}
	return false;
}

const struct authority_row *authority_db_find(const struct authority_db *d, struct str id)
{
	for (size_t i = 0; i < d->n; i++)
		if (str_eq(str_c(d->rows[i].a.id), id))
			return &d->rows[i];
	return NULL;
}

const struct authority_row *authority_db_active(const struct authority_db *d,
						enum authority_kind kind)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->rows[i].a.kind == kind && d->rows[i].a.state == AUTHORITY_ACTIVE)
			return &d->rows[i];
	return NULL;
}

/* ---- changes ---- */

static bool bump(struct authority_db *d, bool reissue, struct err *e)
{
	db_bind_int(d->write_meta, 1, reissue);
	return db_run(d->write_meta, e);
}

bool authority_db_add(struct authority_db *d, const struct authority_row *r, struct err *e)
{
	AUTO_TX tx = { 0 };

	if (!db_begin(d->db, &tx, e))
		return false;
	db_bind_text(d->insert, 1, str_c(r->a.id));
	db_bind_int(d->insert, 2, r->a.kind);
	db_bind_int(d->insert, 3, r->a.state);
	db_bind_int(d->insert, 4, r->first);
	db_bind_int(d->insert, 5, r->a.not_before_s);
	db_bind_int(d->insert, 6, r->a.not_after_s);
	db_bind_int(d->insert, 7, r->a.prepared_s);
	db_bind_int(d->insert, 8, r->a.activated_s);
	db_bind_int(d->insert, 9, r->a.stopped_s);
	db_bind_blob(d->insert, 10, r->spki.p, r->spki.n);
	db_bind_blob(d->insert, 11, r->chain.p, r->chain.n);
	db_bind_blob(d->insert, 12, r->roots.p, r->roots.n);
	db_bind_text(d->insert, 13, r->by);
	db_bind_text(d->insert, 14, str_c(r->a.token));
	return db_run(d->insert, e) && bump(d, false, e) && db_commit(&tx, e) &&
	       authority_db_load(d, e);
}

static bool set_state(struct authority_db *d, const char *id, enum authority_state to,
		      int64_t now_s, struct err *e)
{
	db_bind_int(d->update, 1, to);
	db_bind_int(d->update, 2, now_s);
	db_bind_text(d->update, 3, str_c(id));
	return db_run(d->update, e);
}

bool authority_db_move(struct authority_db *d, const struct authority *a, enum authority_state to,
		       int64_t now_s, struct err *e)
{
	const struct authority_row *active = authority_db_active(d, a->kind);
	bool distrust = a->state != AUTHORITY_PREPARED &&
			(to == AUTHORITY_TAINTED || to == AUTHORITY_REVOKED);
	AUTO_TX tx = { 0 };

	return db_begin(d->db, &tx, e) &&
	       (to != AUTHORITY_ACTIVE || !active ||
		set_state(d, active->a.id, AUTHORITY_OLD, now_s, e)) &&
	       set_state(d, a->id, to, now_s, e) && bump(d, distrust, e) && db_commit(&tx, e) &&
	       authority_db_load(d, e);
}
