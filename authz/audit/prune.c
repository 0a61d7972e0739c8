#include "authz/audit/prune.h"

#include "authz/audit/parts.h"
#include "authz/audit/read.h"

#define PRUNE_PAUSE 5 /* times as long as a tile took: decisions go first */

/* --- what could go --- */

static bool find_in(struct audit_reader *reader, int64_t before_ms, uint64_t most,
		    struct prune_plan *p, struct err *e)
{
	const struct audit_filter older = { .until_ms = before_ms, .to = most ? most : 1 };
	struct tree_range range;
	bool found;

	if (!audit_reader_size(reader, &p->size, e) ||
	    !audit_reader_checkpoint(reader, 0, NULL, &range, &found, e) ||
	    !audit_reader_start(reader, &older, e))
		return false;
	audit_reader_left(reader, &p->from, &p->to);
	p->from = audit_reader_pruned(reader);
	p->covered = found ? range.n : 0;
	if (!most)
		p->to = 0;
	if (p->to > p->covered)
		p->to = p->covered;
	if (p->to == p->size && p->to) /* the last one tells how the log ended */
		p->to--;
	p->to -= p->to % ROWS_TILE;
	if (p->to < p->from)
		p->to = p->from;
	return audit_reader_going(reader, &p->going, e);
}

bool prune_find(const char *folder, int64_t before_ms, uint64_t most, struct prune_plan *p,
		struct err *e)
{
	struct audit_reader *reader = NULL;
	bool ok;

	*p = (struct prune_plan){ 0 };
	ok = audit_reader_open(folder, &mem_system, &reader, e) &&
	     find_in(reader, before_ms, most, p, e);
	audit_reader_close(reader);
	return ok;
}

bool prune_root(const char *folder, uint64_t size, uint8_t root[static SHA256_LEN], struct err *e)
{
	struct audit_reader *reader = NULL;
	struct sha256 *sha = sha256_new(e);
	struct tree_range range;
	bool ok = sha && audit_reader_open(folder, &mem_system, &reader, e) &&
		  audit_reader_range(reader, size, &range, e);

	if (ok)
		tree_root(&range, sha, root);
	audit_reader_close(reader);
	sha256_free(sha);
	return ok;
}

/* --- the committer --- */

static bool announce(struct log *l, const struct prune_order *p, uint64_t record, struct err *e)
{
	AUTO_STMT *s = NULL;

	if (!db_prepare(l->db, "INSERT INTO prune(upto, record, archive) VALUES (?1, ?2, ?3)", &s,
			e))
		return false;
	db_bind_int(s, 1, (int64_t)p->to);
	db_bind_int(s, 2, (int64_t)record);
	db_bind_text(s, 3, p->archive);
	return db_run(s, e);
}

bool log_prune(struct log *l, const struct prune_order *p, struct audit_job *job, struct err *e)
{
	return log_add(l, &job->record, job, e) == LOG_ADDED && announce(l, p, job->seq, e);
}

static bool keep_hashes(struct log *l, uint64_t from, struct err *e)
{
	uint8_t hashes[ROWS_TILE * SHA256_LEN];
	AUTO_STMT *get = NULL;
	AUTO_STMT *put = NULL;
	bool row;

	if (!db_prepare(l->db,
			"SELECT seq, body FROM leaf WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
			&get, e) ||
	    !db_prepare(l->db, "INSERT INTO hash(tile, hashes) VALUES (?1, ?2)", &put, e))
		return false;
	db_bind_int(get, 1, (int64_t)from);
	db_bind_int(get, 2, (int64_t)from + ROWS_TILE);
	for (uint64_t i = 0; i < ROWS_TILE; i++) {
		unsigned long long seq = from + i;

		if (!db_step(get, &row, e))
			return false;
		if (!row || (uint64_t)db_column_int(get, 0) != seq)
			return rows_damaged(e, "record %llu is missing", seq);
		tree_leaf_hash(l->sha, db_column_blob(get, 1), hashes + i * SHA256_LEN);
	}
	db_reset(get);
	db_bind_int(put, 1, (int64_t)(from / ROWS_TILE));
	db_bind_blob(put, 2, hashes, sizeof(hashes));
	return db_run(put, e);
}

bool log_prune_tile(struct log *l, uint64_t from, struct err *e)
{
	static const char *const each[] = {
		"UPDATE pruned SET upto = ?2 WHERE id = 0 AND upto = ?1",
		"DELETE FROM leaf WHERE seq >= ?1 AND seq < ?2",
		"DELETE FROM opening WHERE seq >= ?1 AND seq < ?2",
		"DELETE FROM closed WHERE seq >= ?1 AND seq < ?2",
	};

	if (!keep_hashes(l, from, e))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(each); i++) {
		AUTO_STMT *s = NULL;

		if (!db_prepare(l->db, each[i], &s, e))
			return false;
		db_bind_int(s, 1, (int64_t)from);
		db_bind_int(s, 2, (int64_t)from + ROWS_TILE);
		if (!db_run(s, e))
			return false;
		if (i == 0 && db_changes(l->db) != 1)
			return rows_damaged(e, "what was pruned is not what was announced");
	}
	/* Pages that are free go back to the file system; each was overwritten on the way. */
	return db_exec(l->db, "PRAGMA incremental_vacuum", e);
}

/* --- the checkpointer --- */

int prune_step(struct audit *a)
{
	struct order o = { .what = ORDER_PRUNE_TILE };
	int64_t began = clock_mono_ns(&clock_system);
	struct err e = { 0 };

	o.tile = atomic_load(&a->pruned);
	/* First the record must be under a signature. */
	if (o.tile >= atomic_load(&a->prune_to) ||
	    atomic_load(&a->checkpoint_size) <= atomic_load(&a->prune_record) ||
	    atomic_load(&a->stop))
		return 0;
	if (!order_run(a, &o, &e))
		return 0; /* no room, perhaps: once more at the next tick */
	atomic_store(&a->pruned, o.tile + ROWS_TILE);
	if (o.tile + ROWS_TILE < atomic_load(&a->prune_to))
		return 1 + (int)((clock_mono_ns(&clock_system) - began) * PRUNE_PAUSE / 1000000);
	atomic_store(&a->forget, true); /* the WAL has what went */
	return 0;
}

bool audit_prune(struct audit *a, const struct prune_order *p, struct audit_job *job, struct err *e)
{
	struct order o = { .what = ORDER_PRUNE, .prune = p, .job = job };

	if (p->to <= p->from || p->to % ROWS_TILE || p->from != atomic_load(&a->prune_to) ||
	    p->from != atomic_load(&a->pruned) || p->to > atomic_load(&a->checkpoint_size))
		return err_code(
			e, ERR_CONFLICT, "prune_changed",
			"records %llu to %llu cannot be pruned any more: the log begins with "
			"%llu, and records below %llu are on their way out; look again",
			(unsigned long long)p->from, (unsigned long long)p->to,
			(unsigned long long)atomic_load(&a->pruned),
			(unsigned long long)atomic_load(&a->prune_to));
	if (!record_ok(&job->record))
		return err_set(e, ERR_NOMEM, "no memory for the record of pruning");
	if (!order_run(a, &o, e))
		return false;
	atomic_store(&a->prune_record, job->seq);
	atomic_store(&a->prune_to, p->to);
	queue_wake(a->requests);
	return true;
}
