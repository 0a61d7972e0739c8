/*
 * prune - let the oldest records leave the database, once they are in an archive.
 *
 * Purpose    A prefix of the log goes: records, openings, what closed them. Its leaf hashes stay,
 * 32 bytes a record, so the tree is what it was: every proof, of what is left and of what went, can
 * still be made, only the bytes of a pruned record must come from its archive. A `log.prune` record
 * announces it (how far, the root over what goes, the archive's hash, who) and is under a signed
 * checkpoint before the first record leaves. Then they go in tiles of 256, a transaction each,
 * between the batches of decisions; a stop at any point is taken up by the next start, which knows
 * how far it came. Ownership  Nothing is kept. Threads    prune_find: any, beside the writer.
 * audit_prune blocks until it is announced.
 */
#ifndef WRIT_AUDIT_PRUNE_H
#define WRIT_AUDIT_PRUNE_H

#include "authz/audit/audit.h"
#include "authz/audit/rows.h"

#define PRUNE_ARCHIVE_MAX 1000 /* bytes of an archive's name */

struct prune_plan {
	uint64_t from, to; /* records that would go, whole tiles; empty if from == to */
	uint64_t size;	   /* of the log */
	uint64_t covered;  /* records under the newest checkpoint */
	uint64_t going;	   /* announced and not over: records below it are on their way out; or 0 */
};

/* What is older than @before_ms (0: of any age) and below record @most, of what a checkpoint
 * covers. */
MUST_USE bool prune_find(const char *folder, int64_t before_ms, uint64_t most,
			 struct prune_plan *plan, struct err *e);

/* The root over the first @size records. */
MUST_USE bool prune_root(const char *folder, uint64_t size, uint8_t root[static SHA256_LEN],
			 struct err *e);

struct prune_order {
	uint64_t from, to;
	struct str archive; /* its name; UTF-8 */
};

/* Append @job's record and let the records go, soon. ERR_CONFLICT "prune_changed": @from is not
 * where the log begins, or something is still going. */
MUST_USE bool audit_prune(struct audit *a, const struct prune_order *p, struct audit_job *job,
			  struct err *e);

/* --- the committer's, in an open transaction --- */
struct log;
MUST_USE bool log_prune(struct log *l, const struct prune_order *p, struct audit_job *job,
			struct err *e);
/* The tile of records from @from on goes. */
MUST_USE bool log_prune_tile(struct log *l, uint64_t from, struct err *e);

#endif
