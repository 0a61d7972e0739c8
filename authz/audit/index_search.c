#include "authz/audit/index_search.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "authz/audit/flat.h"
#include "authz/audit/index_cursor.h"
#include "authz/audit/record.h"
#include "authz/audit/rows.h"
#include "authz/base/buf.h"
#include "authz/base/json.h"
#include "include/writ/words.h"

#define RENEW 512     /* records of the log that are read in one transaction */
#define CACHE_KIB 256 /* kept open, it should not keep much */

struct index_search {
	char *folder;
	struct db *log, *index; /* index NULL: not usable */
	struct stat opened;	/* the file that index is */
	struct db_stmt *leaf, *facts, *before, *from;
	struct index_filter filter;
	struct index_cursor cursors[INDEX_SEARCH_TERMS];
	size_t ncursors;
	struct buf text;
	uint64_t lo, hi; /* [lo, hi) is left */
	uint64_t indexed, size, pruned, work;
	uint64_t looked; /* records that were read */
	bool reading;	 /* in a transaction on the log */
	bool damaged;
};

/* --- opening --- */

static void close_cursors(struct index_search *s)
{
	for (size_t i = 0; i < s->ncursors; i++)
		index_cursor_close(&s->cursors[i]);
	s->ncursors = 0;
}

static void drop_index(struct index_search *s)
{
	close_cursors(s);
	db_finish(s->before);
	db_finish(s->from);
	s->before = s->from = NULL;
	db_close(s->index);
	s->index = NULL;
	s->indexed = 0;
}

/* A search goes on without the index, so what is wrong with it is no failure of the search. */
static void give_up_index(struct index_search *s, const struct err *e)
{
	s->damaged |= str_eq(str_c(e->code), STR("storage_corrupt"));
	drop_index(s);
}

static void open_index(struct index_search *s)
{
	const struct db_options o = {
		.read_only = true, .autocheckpoint = -1, .busy_ms = 100, .cache_kib = CACHE_KIB
	};
	char path[4200];
	struct err e = { 0 };

	if (!index_store_path(s->folder, path, &e) || stat(path, &s->opened) != 0 ||
	    !db_open(path, &o, &s->index, &e) ||
	    !db_prepare(s->index,
			"SELECT seq FROM mark WHERE time < ?1 ORDER BY time DESC, seq DESC LIMIT 1",
			&s->before, &e) ||
	    !db_prepare(s->index,
			"SELECT seq FROM mark WHERE time >= ?1 ORDER BY time, seq LIMIT 1",
			&s->from, &e))
		give_up_index(s, &e);
}

/* Is the open index still the file of that name? One that was damaged is replaced. */
static bool is_current(const struct index_search *s)
{
	struct stat now;
	char path[4200];
	struct err e;

	return s->index && index_store_path(s->folder, path, &e) && stat(path, &now) == 0 &&
	       now.st_dev == s->opened.st_dev && now.st_ino == s->opened.st_ino;
}

bool index_search_open(const char *folder, struct index_search **out, struct err *e)
{
	const struct db_options o = {
		.read_only = true, .autocheckpoint = -1, .busy_ms = 1000, .cache_kib = CACHE_KIB
	};
	struct index_search *s = calloc(1, sizeof(*s));
	char path[4200];

	if (!s)
		return err_set(e, ERR_NOMEM, "no memory for a search");
	buf_init(&s->text, mem_system, LIMIT_LEAF + 1);
	s->folder = strdup(folder);
	if (!s->folder)
		err_set(e, ERR_NOMEM, "no memory for a search");
	else if (snprintf(path, sizeof(path), "%s/" ROWS_FILE, folder) >= (int)sizeof(path))
		err_set(e, ERR_INVALID, "the data folder's path is too long");
	else if (db_open(path, &o, &s->log, e) &&
		 db_prepare(s->log, "SELECT body FROM leaf WHERE seq = ?1", &s->leaf, e) &&
		 db_prepare(s->log, "SELECT facts FROM opening WHERE seq = ?1", &s->facts, e)) {
		*out = s;
		return true;
	}
	index_search_close(s);
	return false;
}

void index_search_close(struct index_search *s)
{
	if (!s)
		return;
	drop_index(s);
	db_finish(s->leaf);
	db_finish(s->facts);
	db_close(s->log);
	buf_clear(&s->text);
	free(s->folder);
	free(s);
}

/* One transaction for many records: to begin one takes longer than to read one. Not for all of
 * them: the WAL waits. */
static bool renew(struct index_search *s, struct err *e)
{
	if (s->looked++ % RENEW)
		return true;
	if (s->reading && !db_exec(s->log, "COMMIT", e))
		return false;
	s->reading = db_exec(s->log, "BEGIN", e);
	return s->reading;
}

void index_search_end(struct index_search *s)
{
	struct err e;

	if (s->reading)
		(void)!db_exec(s->log, "COMMIT", &e);
	s->reading = false;
	s->looked = 0;
	close_cursors(s);
	if (s->index && !db_exec(s->index, "COMMIT", &e))
		drop_index(s);
}

/* --- records --- */

bool index_search_record(struct index_search *s, uint64_t seq, struct index_hit *hit, bool *got,
			 struct err *e)
{
	AUTO_RESET *q = s->leaf;

	*got = false;
	*hit = (struct index_hit){ 0 };
	if (seq > INT64_MAX)
		return true;
	db_bind_int(q, 1, (int64_t)seq);
	if (!db_step(q, got, e))
		return false;
	if (!*got)
		return true;
	buf_reset(&s->text);
	buf_add(&s->text, db_column_blob(q, 0));
	if (!buf_ok(&s->text))
		return err_set(e, ERR_NOMEM, "no memory for record %" PRIu64, seq);
	*hit = (struct index_hit){ seq, buf_str(&s->text) };
	return true;
}

/* --- where a search begins --- */

/* Records never go back in time. One that is not there was pruned: it is older than all. */
static bool time_of(struct index_search *s, uint64_t seq, int64_t *ms, struct err *e)
{
	struct index_hit hit;
	struct leaf leaf;
	bool got;

	if (!index_search_record(s, seq, &hit, &got, e))
		return false;
	*ms = got && leaf_scan(hit.text, &leaf) ? leaf.time_ms : INT64_MIN;
	return true;
}

static bool mark(struct db_stmt *with, int64_t ms, uint64_t *seq, bool *row, struct err *e)
{
	AUTO_RESET *q = with;

	db_bind_int(q, 1, ms);
	if (!db_step(q, row, e))
		return false;
	if (*row)
		*seq = (uint64_t)db_column_int(q, 0);
	return true;
}

/* The marks on both sides of @ms, if there are any: nearer bounds. */
static void near(struct index_search *s, int64_t ms, uint64_t *lo, uint64_t *hi)
{
	struct err e = { 0 };
	uint64_t a = 0, b = 0;
	bool before, from;

	if (!s->index)
		return;
	if (!mark(s->before, ms, &a, &before, &e) || !mark(s->from, ms, &b, &from, &e)) {
		give_up_index(s, &e);
		return;
	}
	if (before && a > *lo && a < *hi)
		*lo = a;
	if (from && b < *hi && b >= *lo)
		*hi = b;
}

/* The first record of [lo, hi) that is not before @ms. */
static bool bisect(struct index_search *s, uint64_t lo, uint64_t hi, int64_t ms, uint64_t *out,
		   struct err *e)
{
	near(s, ms, &lo, &hi);
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;
		int64_t at;

		if (!time_of(s, mid, &at, e))
			return false;
		if (at < ms)
			lo = mid + 1;
		else
			hi = mid;
	}
	*out = lo;
	return true;
}

/* How far the index reaches, and a cursor for each member that is asked for. All is read in one
 * transaction, so a rebuild meanwhile cannot pull the lists away. */
static bool start_index(struct index_search *s, struct err *e)
{
	int64_t version, next;

	if (!db_exec(s->index, "BEGIN", e) || !db_int(s->index, "PRAGMA user_version", &version, e))
		return false;
	if (version != INDEX_VERSION)
		return err_set(e, ERR_CONFLICT, "index.db is of another version of writ");
	if (!db_int(s->index, "SELECT next FROM head WHERE id = 0", &next, e))
		return false;
	s->indexed = next > 0 ? (uint64_t)next : 0;
	for (size_t i = 0; i < s->filter.n; i++) {
		const struct index_wanted *w = &s->filter.is[i];

		s->ncursors = i + 1;
		if (!index_cursor_open(s->index, index_term_of(w->name, w->value), &s->cursors[i],
				       e))
			return false;
	}
	return true;
}

bool index_search_start(struct index_search *s, const struct index_filter *f, struct err *e)
{
	struct err why = { 0 };

	err_none(e);
	s->damaged = false;
	if (!is_current(s)) {
		drop_index(s);
		open_index(s);
	}
	s->filter = *f;
	s->work = f->work ? f->work : INDEX_SEARCH_WORK;
	if (!renew(s, e) || !rows_size(s->log, &s->size, e))
		return false;
	if (s->index && !start_index(s, &why))
		give_up_index(s, &why);
	if (s->indexed > s->size) /* of another log, or of a newer copy: soon made anew */
		drop_index(s);
	if (!rows_pruned(s->log, &s->pruned, e))
		return false;
	s->hi = f->to && f->to < s->size ? f->to : s->size;
	s->lo = f->from > s->pruned ? f->from : s->pruned;
	if (s->lo > s->hi)
		s->lo = s->hi;
	if (f->until_ms && !bisect(s, s->lo, s->hi, f->until_ms, &s->hi, e))
		return false;
	return !f->since_ms || bisect(s, s->lo, s->hi, f->since_ms, &s->lo, e);
}

/* --- candidates --- */

/* Have all cursors agree on a number in [lo, hi) of the indexed part, going from its one end, and
 * take what was passed off what is left. */
static bool agree(struct index_search *s, uint64_t lo, uint64_t hi, uint64_t *seq, bool *found,
		  struct err *e)
{
	bool down = s->filter.newest_first, end = false;
	uint64_t blocks = 0, at = down ? hi - 1 : lo;
	size_t agreed = 0, i = 0;

	while (agreed < s->ncursors && !end && blocks < s->work) {
		uint64_t was = at;
		bool got;

		if (!index_cursor_leap(&s->cursors[i], down, &at, &got, &blocks, e))
			return false;
		end = !got || at < lo || at >= hi;
		agreed = at == was ? agreed + 1 : 1;
		i = (i + 1) % s->ncursors;
	}
	s->work -= blocks < s->work ? blocks : s->work;
	*found = !end && agreed == s->ncursors;
	*seq = at;
	if (down)
		s->hi = end ? lo : *found ? at : at + 1;
	else
		s->lo = end ? hi : *found ? at + 1 : at;
	return true;
}

/* The next record to look at; what is left is what comes after it. *got false: there was none in
 * what was looked at. */
static bool candidate(struct index_search *s, uint64_t *seq, bool *got, struct err *e)
{
	bool down = s->filter.newest_first;
	bool by_index = s->ncursors && (down ? s->hi <= s->indexed : s->lo < s->indexed);

	*got = true;
	if (by_index)
		return agree(s, s->lo, s->hi < s->indexed ? s->hi : s->indexed, seq, got, e);
	*seq = down ? --s->hi : s->lo++;
	return true;
}

/* The canonical text of the user's name in an opening, without its quotes. */
static struct str user_of(struct str facts, struct arena *a)
{
	static const struct json_limits limits = {
		.string = LIMIT_BODY, .depth = 16, .members = 65536, .values = LIMIT_VALUES
	};
	const struct json *v = NULL, *id;
	struct err ignored;

	if (!json_parse(facts, &limits, a, &v, &ignored))
		return (struct str){ NULL, 0 };
	v = json_get_type(v, STR("delegation"), JSON_OBJECT);
	id = json_get_type(json_get(v, STR("user")), STR("id"), JSON_STRING);
	return id && id->raw.n >= 2 ? (struct str){ id->raw.p + 1, id->raw.n - 2 }
				    : (struct str){ NULL, 0 };
}

/* Is record @seq on behalf of @user? Not if nobody can say so any more. */
static bool is_for(const struct index_search *s, uint64_t seq, struct str user)
{
	AUTO_RESET *q = s->facts;
	struct arena a;
	struct str facts;
	struct err ignored;
	bool row = false, is;

	db_bind_int(q, 1, (int64_t)seq);
	if (!db_step(q, &row, &ignored) || !row)
		return false;
	facts = str_from(db_column_blob(q, 0), SALT_LEN);
	arena_init(&a, &mem_system, (size_t)16 * LIMIT_BODY);
	is = facts.n && str_eq(user_of(facts, &a), user);
	arena_clear(&a);
	return is;
}

static bool matches(const struct index_search *s, const struct index_hit *hit)
{
	const struct index_filter *f = &s->filter;
	struct leaf leaf;

	if (!leaf_scan(hit->text, &leaf) || (f->since_ms && leaf.time_ms < f->since_ms) ||
	    (f->until_ms && leaf.time_ms >= f->until_ms))
		return false;
	for (size_t i = 0; i < f->n; i++)
		if (!index_leaf_has(hit->text, f->is[i].name, f->is[i].value) ||
		    (str_eq(f->is[i].name, STR("user")) && !is_for(s, hit->seq, f->is[i].value)))
			return false;
	return true;
}

bool index_search_next(struct index_search *s, struct index_hit *hit, bool *got, struct err *e)
{
	err_none(e);
	*got = false;
	while (s->lo < s->hi && s->work) {
		uint64_t seq;
		bool there;

		if (!candidate(s, &seq, &there, e)) {
			give_up_index(s, e); /* what is left is read from the log */
			err_none(e);
			continue;
		}
		if (!there)
			continue;
		s->work -= s->work > 0;
		if (!renew(s, e) || !index_search_record(s, seq, hit, &there, e))
			return false;
		if (there && matches(s, hit)) {
			*got = true;
			return true;
		}
	}
	return true;
}

void index_search_left(const struct index_search *s, struct index_left *left)
{
	*left = (struct index_left){ .from = s->lo,
				     .to = s->hi,
				     .indexed = s->indexed,
				     .size = s->size,
				     .pruned = s->pruned,
				     .damaged = s->damaged };
}
