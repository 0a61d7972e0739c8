#include "authz/audit/erase.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/audit/parts.h"
#include "authz/audit/read.h"
#include "authz/audit/rows.h"
#include "authz/base/text.h"

#define FORGET_TRIES 10
#define FORGET_WAIT_MS 30

bool erase_opening_of(struct str path, enum opening *out)
{
	static const struct {
		struct str top;
		enum opening in;
	} tops[] = {
		{ STR_INIT("input"), OPENING_INPUT },
		{ STR_INIT("action"), OPENING_INPUT },
		{ STR_INIT("args"), OPENING_INPUT },
		{ STR_INIT("context"), OPENING_INPUT },
		{ STR_INIT("detail"), OPENING_INPUT },
		{ STR_INIT("http"), OPENING_INPUT },
		{ STR_INIT("request_id"), OPENING_INPUT },
		{ STR_INIT("resource"), OPENING_INPUT },
		{ STR_INIT("subject"), OPENING_INPUT },
		{ STR_INIT("facts"), OPENING_FACTS },
		{ STR_INIT("agent"), OPENING_FACTS },
		{ STR_INIT("answer"), OPENING_ANSWER },
		{ STR_INIT("error"), OPENING_ANSWER },
		{ STR_INIT("message"), OPENING_ANSWER },
		{ STR_INIT("obligations"), OPENING_ANSWER },
	};
	struct str top = path, rest;

	(void)str_cut(path, '.', &top, &rest);
	for (size_t i = 0; i < ARRAY_LEN(tops); i++)
		if (str_eq(top, tops[i].top)) {
			*out = tops[i].in;
			return true;
		}
	return false;
}

/* --- finding --- */

/* Is the text @quoted, with its quotes, somewhere in @value? Openings are canonical JSON, so one
 * text has one spelling; a quote inside of a text is escaped, so this is a whole text. */
static bool holds_text(struct str value, struct str quoted)
{
	return quoted.n && memmem(value.p, value.n, quoted.p, quoted.n) != NULL;
}

static bool is_wanted(const struct erase_ask *ask, struct str quoted, const struct audit_row *row)
{
	bool held = false, named = !ask->person.n;

	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++) {
		if (!row->openings[o].held)
			continue;
		held = held || ask->which & 1u << o;
		named = named || holds_text(row->openings[o].value, quoted);
	}
	return held && named;
}

static bool keep(struct erase_found *f, const struct audit_row *row, struct arena *a, struct err *e)
{
	struct erase_row *r = &f->rows[f->n++];

	r->seq = row->seq;
	r->time_ms = row->leaf.time_ms;
	r->agent = leaf_text(row->text, STR("agent"), a);
	return row->leaf.agent.n && !r->agent.p ? err_set(e, ERR_NOMEM, "no memory for a selection")
						: true;
}

static bool find_one(struct audit_reader *reader, const struct erase_ask *ask, uint64_t seq,
		     struct arena *a, struct erase_found *f, struct err *e)
{
	struct audit_filter filter = { .from = seq, .to = seq + 1, .openings = true };
	struct audit_row row;
	bool got;

	for (size_t i = 0; i < f->n; i++)
		if (f->rows[i].seq == seq)
			return true;
	if (!audit_reader_start(reader, &filter, e) || !audit_reader_next(reader, 0, &row, &got, e))
		return false;
	if (!got && seq < audit_reader_pruned(reader))
		return audit_reader_gone(reader, seq, e);
	if (!got)
		return err_code(e, ERR_NOT_FOUND, "unknown_record",
				"there is no record %" PRIu64 " in this log", seq);
	if (!is_wanted(ask, (struct str){ 0 }, &row))
		return true;
	if (f->n == ERASE_STEP)
		return err_code(e, ERR_TOO_LARGE, "too_large",
				"these are more than %d records; name fewer of them", ERASE_STEP);
	return keep(f, &row, a, e);
}

static int by_seq(const void *left, const void *right)
{
	const struct erase_row *a = left, *b = right;

	return (a->seq > b->seq) - (a->seq < b->seq);
}

/* What was reported about a decision is about it, too. */
static bool find_listed(const char *folder, struct audit_reader *reader,
			const struct erase_ask *ask, struct arena *a, struct erase_found *f,
			struct err *e)
{
	struct closings *closings = NULL;
	uint64_t by[2];
	size_t n = 0;
	bool ok = closings_open(folder, &closings, e);

	for (size_t i = 0; ok && i < ask->nseqs; i++) {
		ok = find_one(reader, ask, ask->seqs[i], a, f, e) &&
		     closings_of(closings, ask->seqs[i], by, &n, e);
		for (size_t k = 0; ok && k < n; k++)
			ok = find_one(reader, ask, by[k], a, f, e);
	}
	closings_close(closings);
	qsort(f->rows, f->n, sizeof(f->rows[0]), by_seq);
	return ok;
}

static bool find_walking(struct audit_reader *reader, const struct erase_ask *ask, struct arena *a,
			 struct erase_found *f, struct err *e)
{
	struct audit_filter filter = { .agent = ask->agent,
				       .since_ms = ask->since_ms,
				       .until_ms = ask->until_ms,
				       .from = ask->from,
				       .openings = true };
	uint64_t began, from, to;
	struct audit_row row;
	bool got = true;
	AUTO_BUF quoted;

	buf_init(&quoted, mem_system, 16384);
	buf_json(&quoted, ask->person);
	if (!buf_ok(&quoted) || !audit_reader_start(reader, &filter, e))
		return buf_ok(&quoted) ? false : err_set(e, ERR_NOMEM, "no memory for a selection");
	audit_reader_left(reader, &began, &to);
	for (from = began; got && f->n < ERASE_STEP && from - began < ERASE_SCAN;) {
		if (!audit_reader_next(reader, ERASE_SCAN, &row, &got, e))
			return false;
		if (got && is_wanted(ask, buf_str(&quoted), &row) && !keep(f, &row, a, e))
			return false;
		audit_reader_left(reader, &from, &to);
	}
	f->next = from < to ? from : 0;
	return true;
}

bool erase_find(const char *folder, const struct erase_ask *ask, struct arena *a,
		struct erase_found *out, struct err *e)
{
	struct audit_reader *reader = NULL;
	bool ok;

	out->n = 0;
	out->next = 0;
	if (!audit_reader_open(folder, &mem_system, &reader, e))
		return false;
	ok = ask->nseqs ? find_listed(folder, reader, ask, a, out, e)
			: find_walking(reader, ask, a, out, e);
	audit_reader_close(reader);
	return ok;
}

size_t erase_ranges(const struct erase_row *rows, size_t n, size_t max, struct buf *out)
{
	size_t i = 0;

	while (i < n) {
		char range[2 * TEXT_U64_MAX + 4];
		size_t last = i;
		int len;

		while (last + 1 < n && rows[last + 1].seq == rows[last].seq + 1)
			last++;
		len = last == i ? snprintf(range, sizeof(range), "%s%" PRIu64, i ? "," : "",
					   rows[i].seq)
				: snprintf(range, sizeof(range), "%s%" PRIu64 "-%" PRIu64,
					   i ? "," : "", rows[i].seq, rows[last].seq);
		if (out->n + (size_t)len > max)
			break;
		buf_add(out, (struct str){ range, (size_t)len });
		i = last + 1;
	}
	return i;
}

/* --- erasing --- */

/* What a report said is known by a hash in the table of closed decisions: that goes as well. */
static bool wipe_said(struct db *db, uint64_t seq, struct err *e)
{
	AUTO_STMT *leaf = NULL;
	AUTO_STMT *wipe = NULL;
	int64_t closes = -1;
	struct flat_member m;
	struct flat f;
	bool row;

	if (!db_prepare(db, "SELECT body FROM leaf WHERE seq = ?1", &leaf, e) ||
	    !db_prepare(db,
			"UPDATE closed SET salt = x'', said = x'' WHERE seq = ?1 AND record = ?2",
			&wipe, e))
		return false;
	db_bind_int(leaf, 1, (int64_t)seq);
	if (!db_step(leaf, &row, e))
		return false;
	if (row) {
		flat_begin(&f, db_column_blob(leaf, 0));
		while (flat_next(&f, &m))
			if (!m.is_string && str_eq(m.name, STR("closes")))
				closes = m.integer;
	}
	db_reset(leaf);
	if (closes < 0)
		return true;
	db_bind_int(wipe, 1, closes);
	db_bind_int(wipe, 2, (int64_t)seq);
	return db_run(wipe, e);
}

static bool erase_row(struct db_stmt *count, struct db_stmt *update, struct db_stmt *empty,
		      uint64_t seq, struct erasure *x, struct err *e)
{
	AUTO_RESET *s = count;
	bool row;

	db_bind_int(s, 1, (int64_t)seq);
	if (!db_step(s, &row, e))
		return false;
	for (int o = 0; row && o < OPENING_COUNT; o++)
		x->openings += x->which & 1u << o && db_column_int(s, o);
	db_reset(s);
	db_bind_int(update, 1, (int64_t)seq);
	for (int o = 0; o < OPENING_COUNT; o++)
		db_bind_int(update, 2 + o, x->which >> o & 1);
	db_bind_int(empty, 1, (int64_t)seq);
	return db_run(update, e) && db_run(empty, e);
}

bool log_erase(struct log *l, struct erasure *x, struct err *e)
{
	AUTO_STMT *count = NULL;
	AUTO_STMT *update = NULL;
	AUTO_STMT *empty = NULL;

	x->openings = 0;
	if (!db_prepare(l->db,
			"SELECT answer IS NOT NULL, facts IS NOT NULL, input IS NOT NULL"
			" FROM opening WHERE seq = ?1",
			&count, e) ||
	    !db_prepare(
		    l->db,
		    "UPDATE opening SET answer = iif(?2, NULL, answer),"
		    " facts = iif(?3, NULL, facts), input = iif(?4, NULL, input) WHERE seq = ?1",
		    &update, e) ||
	    !db_prepare(l->db,
			"DELETE FROM opening WHERE seq = ?1 AND answer IS NULL AND facts IS NULL"
			" AND input IS NULL",
			&empty, e))
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (!erase_row(count, update, empty, x->rows[i].seq, x, e) ||
		    (x->which & 1u << OPENING_INPUT && !wipe_said(l->db, x->rows[i].seq, e)))
			return false;
	return true;
}

bool audit_erase(struct audit *a, struct erasure *x, struct audit_job *job, struct err *e)
{
	struct order o = { .what = ORDER_ERASE, .erasure = x, .job = job };

	if (x->n > ERASE_STEP || !record_ok(&job->record))
		return err_set(e, ERR_INTERNAL, "no erasure of this size fits into one record");
	return order_run(a, &o, e);
}

/* Most pages are moved beside the commits; the committer pauses only for the rest. */
bool audit_forget(struct audit *a)
{
	const struct db_options options = { .autocheckpoint = -1 };
	struct order o = { .what = ORDER_FORGET };
	struct err e = { 0 };
	char path[4200];
	AUTO_DB *db = NULL;

	atomic_store(&a->forget, true);
	snprintf(path, sizeof(path), "%s/" ROWS_FILE, a->folder);
	if (db_open(path, &options, &db, &e))
		(void)!db_checkpoint(db, DB_PASSIVE, NULL, NULL, &e);
	for (int i = 0; i < FORGET_TRIES; i++) {
		if (i)
			(void)poll(NULL, 0, FORGET_WAIT_MS);
		if (order_run(a, &o, &e))
			return true;
	}
	return false;
}
