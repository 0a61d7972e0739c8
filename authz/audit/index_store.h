/*
 * index_store - index.db: for each term, the records that have it.
 *
 * Purpose    A posting list per term, in blocks of about 960 bytes: the differences between
 *            sequence numbers, one to two bytes each. Sequence and time grow together, so a range
 *            of time is a range of numbers, and every list is in the order of time already; marks
 *            (one per 1,024 records) say which number was reached when. That is about a tenth of
 *            what a row and five indexes per record would take.
 *            What is stored here is derived: it can be lost, thrown away and made again. So it is
 *            written with synchronous=NORMAL (a power cut loses the last moments, never the
 *            file's consistency), and anything that does not fit is no disaster but a rebuild.
 * Ownership  A store owns its connection.
 * Threads    One owner at a time; any number of readers beside it (index_search.h).
 */
#ifndef WRIT_AUDIT_INDEX_STORE_H
#define WRIT_AUDIT_INDEX_STORE_H

#include "authz/audit/index_posts.h"
#include "authz/base/digest.h"
#include "authz/store/db.h"

#define INDEX_FILE "index.db"
#define INDEX_VERSION 2 /* another one in the file: it is made anew */
#define INDEX_BLOCK_BYTES 960
#define INDEX_BLOCK_ENTRIES 1024 /* more are in no block */
#define INDEX_MARK_EVERY 1024	 /* records between two marks of time */

/* How far the index reaches: records [0, next), the last of which has this leaf hash. */
struct index_head {
	uint64_t next;
	uint8_t hash[SHA256_LEN]; /* zeros: next is 0 */
};

struct index_mark {
	uint64_t seq;
	int64_t time_ms;
};

struct index_store;

/* Open or make @folder's index.db. ERR_CONFLICT "index_version": it is of another version of writ;
 * remove it. Damage is ERR_IO "storage_corrupt". @vfs as in db.h. */
MUST_USE bool index_store_open(const char *folder, const char *vfs, struct index_store **out,
			       struct err *e);
void index_store_close(struct index_store *s); /* NULL is fine */

/* Delete the file and what SQLite keeps beside it. Nobody may have it open for writing. */
void index_store_remove(const char *folder);

MUST_USE bool index_store_head(struct index_store *s, struct index_head *head, struct err *e);

/* Forget records [0, @upto), if it is worth it: they were pruned, and no search asks for them. */
MUST_USE bool index_store_forget(struct index_store *s, uint64_t upto, struct err *e);

/* Forget everything. */
MUST_USE bool index_store_clear(struct index_store *s, struct err *e);

/* One transaction: @posts are added (behind all that their terms have) and sorted, then the head
 * moves. On failure everything is as before. */
MUST_USE bool index_store_add(struct index_store *s, struct index_posts *posts,
			      const struct index_mark *marks, size_t nmarks,
			      const struct index_head *head, struct err *e);

/* Is the file that it has open still the one at its place? */
bool index_store_in_place(const struct index_store *s);

/* --- for those who read blocks --- */

/* The path of @folder's index.db in @path. False: too long. */
MUST_USE bool index_store_path(const char *folder, char path[static 4200], struct err *e);

/* Decode a block that begins with record @first; only entries with @want's mark, if it is marked.
 * The number of entries, or -1: it is malformed. */
int index_block_decode(struct str data, uint64_t first, struct index_term want,
		       uint64_t out[static INDEX_BLOCK_ENTRIES]);

#endif
