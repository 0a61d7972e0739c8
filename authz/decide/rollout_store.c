#include "authz/decide/rollout_store.h"

#include <stdlib.h>

#define REPORT_MAX ((size_t)512 * 1024) /* bytes of a report as text */

const char *const rollout_state_names[] = { [ROLLOUT_RUNNING] = "running",
					    [ROLLOUT_PROMOTED] = "promoted",
					    [ROLLOUT_ABORTED] = "aborted" };

static const char *const schema[] = {
	"CREATE TABLE rollout ("
	"  id INTEGER PRIMARY KEY AUTOINCREMENT," /* never reused: records name it */
	"  kind INTEGER NOT NULL,"
	"  state INTEGER NOT NULL,"
	"  candidate INTEGER NOT NULL REFERENCES generation,"
	"  base INTEGER NOT NULL REFERENCES generation,"
	"  percent INTEGER NOT NULL,"
	"  salt BLOB NOT NULL,"
	"  max_deny INTEGER NOT NULL,"
	"  max_deny_increase INTEGER NOT NULL,"
	"  max_error INTEGER NOT NULL,"
	"  max_p99_us INTEGER NOT NULL,"
	"  min_sample INTEGER NOT NULL,"
	"  started_ms INTEGER NOT NULL,"
	"  ended_ms INTEGER NOT NULL,"
	"  by TEXT NOT NULL,"
	"  message TEXT NOT NULL,"
	"  ended_by TEXT NOT NULL,"
	"  reason TEXT NOT NULL,"
	"  detail TEXT NOT NULL,"
	"  report TEXT NOT NULL) STRICT;"
	"CREATE UNIQUE INDEX rollout_running ON rollout (state) WHERE state = 0;",
};

struct rollout_store {
	struct db *db;
	struct db_stmt *insert, *save, *end, *get, *running, *report, *list;
};

bool rollout_store_open(struct db *db, struct rollout_store **out, struct err *e)
{
#define COLUMNS                                                                                 \
	"SELECT id, kind, state, candidate, base, percent, salt, max_deny, max_deny_increase, " \
	"max_error, max_p99_us, min_sample, started_ms, ended_ms, by, message, ended_by, "      \
	"reason, detail FROM rollout "
	struct rollout_store *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, ERR_NOMEM, "no memory for the roll-outs");
	s->db = db;
	if (!db_migrate(db, "rollouts", schema, ARRAY_LEN(schema), e) ||
	    !db_prepare(db,
			"INSERT INTO rollout (kind, state, candidate, base, percent, salt, "
			"max_deny, max_deny_increase, max_error, max_p99_us, min_sample, "
			"started_ms, ended_ms, by, message, ended_by, reason, detail, report) "
			"VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, '', '', '', '')",
			&s->insert, e) ||
	    !db_prepare(db, "UPDATE rollout SET report = ? WHERE id = ?", &s->save, e) ||
	    !db_prepare(db,
			"UPDATE rollout SET state = ?, ended_ms = ?, ended_by = ?, reason = ?, "
			"detail = ?, report = ? WHERE id = ? AND state = 0",
			&s->end, e) ||
	    !db_prepare(db, COLUMNS "WHERE id = ?", &s->get, e) ||
	    !db_prepare(db, COLUMNS "WHERE state = 0", &s->running, e) ||
	    !db_prepare(db, "SELECT report FROM rollout WHERE id = ?", &s->report, e) ||
	    !db_prepare(db, COLUMNS "WHERE id < ? ORDER BY id DESC LIMIT ?", &s->list, e)) {
		rollout_store_close(s);
		return false;
	}
	*out = s;
	return true;
#undef COLUMNS
}

void rollout_store_close(struct rollout_store *s)
{
	if (!s)
		return;
	db_finish(s->insert);
	db_finish(s->save);
	db_finish(s->end);
	db_finish(s->get);
	db_finish(s->running);
	db_finish(s->report);
	db_finish(s->list);
	free(s);
}

/* ---- writing ---- */

bool rollout_store_insert(struct rollout_store *s, struct rollout_row *row, struct err *e)
{
	struct db_stmt *q = s->insert;
	const struct rollout_gates *g = &row->gates;
	int i = 1;

	db_bind_int(q, i++, row->kind);
	db_bind_int(q, i++, (int64_t)row->candidate);
	db_bind_int(q, i++, (int64_t)row->base);
	db_bind_int(q, i++, row->percent);
	db_bind_blob(q, i++, row->salt, sizeof(row->salt));
	db_bind_int(q, i++, g->max_deny);
	db_bind_int(q, i++, g->max_deny_increase);
	db_bind_int(q, i++, g->max_error);
	db_bind_int(q, i++, g->max_p99_us);
	db_bind_int(q, i++, g->min_sample);
	db_bind_int(q, i++, row->started_ms);
	db_bind_text(q, i++, row->by);
	db_bind_text(q, i, row->message);
	if (!db_run(q, e))
		return false;
	row->id = (uint64_t)db_last_id(s->db);
	row->state = ROLLOUT_RUNNING;
	return true;
}

static bool write_report(struct buf *b, const struct rollout_report *report, struct err *e)
{
	buf_init(b, mem_system, REPORT_MAX);
	rollout_report_write(b, report);
	return buf_ok(b) || err_set(e, ERR_NOMEM, "no memory to keep what the roll-out counted");
}

bool rollout_store_save(struct rollout_store *s, uint64_t id, const struct rollout_report *report,
			struct err *e)
{
	AUTO_BUF b;

	if (!write_report(&b, report, e))
		return false;
	db_bind_text(s->save, 1, buf_str(&b));
	db_bind_int(s->save, 2, (int64_t)id);
	return db_run(s->save, e);
}

bool rollout_store_end(struct rollout_store *s, const struct rollout_row *row,
		       const struct rollout_report *report, struct err *e)
{
	struct db_stmt *q = s->end;
	AUTO_BUF b;

	if (!write_report(&b, report, e))
		return false;
	db_bind_int(q, 1, row->state);
	db_bind_int(q, 2, row->ended_ms);
	db_bind_text(q, 3, row->ended_by);
	db_bind_text(q, 4, row->reason);
	db_bind_text(q, 5, row->detail);
	db_bind_text(q, 6, buf_str(&b));
	db_bind_int(q, 7, (int64_t)row->id);
	return db_run(q, e);
}

/* ---- reading ---- */

/* The texts live until the statement moves on. */
static bool read_row(struct db_stmt *q, struct rollout_row *out, struct err *e)
{
	struct str salt = db_column_blob(q, 6);
	int64_t kind = db_column_int(q, 1), state = db_column_int(q, 2);

	*out = (struct rollout_row){
		.id = (uint64_t)db_column_int(q, 0),
		.kind = (enum rollout_kind)kind,
		.state = (enum rollout_state)state,
		.candidate = (uint64_t)db_column_int(q, 3),
		.base = (uint64_t)db_column_int(q, 4),
		.percent = (unsigned)db_column_int(q, 5),
		.gates = { db_column_int(q, 7), db_column_int(q, 8), db_column_int(q, 9),
			   db_column_int(q, 10), db_column_int(q, 11) },
		.started_ms = db_column_int(q, 12),
		.ended_ms = db_column_int(q, 13),
		.by = db_column_text(q, 14),
		.message = db_column_text(q, 15),
		.ended_by = db_column_text(q, 16),
		.reason = db_column_text(q, 17),
		.detail = db_column_text(q, 18),
	};
	if (salt.n != sizeof(out->salt) || kind < 0 || kind > ROLLOUT_CANARY || state < 0 ||
	    state > ROLLOUT_ABORTED || out->percent > 100)
		return err_code(e, ERR_IO, "storage_corrupt",
				"writ.db: the row of roll-out %llu is not one that writ wrote; "
				"restore the file from a backup",
				(unsigned long long)out->id);
	memcpy(out->salt, salt.p, sizeof(out->salt));
	return true;
}

static bool keep_texts(struct rollout_row *row, struct arena *a, struct err *e)
{
	struct str *const texts[] = { &row->by, &row->message, &row->ended_by, &row->reason,
				      &row->detail };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		*texts[i] = arena_dup(a, *texts[i]);
		if (!texts[i]->p)
			return err_set(e, ERR_NOMEM, "no memory to look at a roll-out");
	}
	return true;
}

static bool fail_missing(uint64_t id, struct err *e)
{
	if (!id)
		return err_code(e, ERR_NOT_FOUND, "no_rollout",
				"no roll-out is running; `writ policy rollouts` shows those that "
				"ended, and why");
	return err_code(e, ERR_NOT_FOUND, "unknown_rollout",
			"there is no roll-out %llu; `writ policy rollouts` shows those there are",
			(unsigned long long)id);
}

bool rollout_store_get(struct rollout_store *s, uint64_t id, struct arena *a,
		       struct rollout_row *out, struct err *e)
{
	AUTO_RESET *q = id ? s->get : s->running;
	struct rollout_row found;
	bool row = false;

	if (id)
		db_bind_int(q, 1, id > INT64_MAX ? 0 : (int64_t)id);
	if (!db_step(q, &row, e))
		return false;
	if (!row)
		return fail_missing(id, e);
	if (!read_row(q, &found, e) || !keep_texts(&found, a, e))
		return false;
	*out = found;
	return true;
}

bool rollout_store_report(struct rollout_store *s, uint64_t id, struct rollout_report *out,
			  struct err *e)
{
	AUTO_RESET *q = s->report;
	bool row = false;

	db_bind_int(q, 1, (int64_t)id);
	if (!db_step(q, &row, e))
		return false;
	if (!row)
		return fail_missing(id, e);
	if (!rollout_report_read(db_column_text(q, 0), out) && db_column_text(q, 0).n)
		return err_code(e, ERR_IO, "storage_corrupt",
				"writ.db: what roll-out %llu counted cannot be read",
				(unsigned long long)id);
	return true;
}

bool rollout_store_list(struct rollout_store *s, uint64_t before, size_t max,
			void (*each)(void *ctx, const struct rollout_row *row), void *ctx,
			struct err *e)
{
	AUTO_RESET *q = s->list;
	struct rollout_row found;
	bool row = false;

	db_bind_int(q, 1, before && before < INT64_MAX ? (int64_t)before : INT64_MAX);
	db_bind_int(q, 2, max > INT32_MAX ? INT32_MAX : (int64_t)max);
	while (db_step(q, &row, e)) {
		if (!row)
			return true;
		if (!read_row(q, &found, e))
			return false;
		each(ctx, &found);
	}
	return false;
}
