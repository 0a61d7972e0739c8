/*
 * rollout_report - what a roll-out has shown so far, added up, and whether it may go on.
 *
 * Purpose    A roll-out decides each of its requests twice: by the set in force and by the
 *            candidate. A report is the sum of what came of it over all fronts and all runs of the
 *            process: decisions, errors and times of both, and the decisions that came out
 *            otherwise, grouped by what they were and what they became. Gates are bounds on it.
 * Ownership  Plain values; a report is large (about 40 KiB): put it on the heap or into an arena.
 * Threads    No state.
 */
#ifndef WRIT_DECIDE_ROLLOUT_REPORT_H
#define WRIT_DECIDE_ROLLOUT_REPORT_H

#include "authz/base/buf.h"
#include "authz/base/json.h"
#include "include/writ/err.h"
#include "include/writ/words.h"

#define ROLLOUT_BUCKETS 64 /* of time: four to each doubling, from 256 ns to 14 ms */
#define ROLLOUT_GROUPS 64  /* kinds of change that are told apart; further ones are counted */
#define ROLLOUT_SAMPLES 8  /* the newest decisions of a group that are named */
#define ROLLOUT_RULE 160   /* bytes of a rule's name that are kept */
#define ROLLOUT_REASON 64

/* Who decided. */
enum rollout_side { ROLLOUT_BASE, ROLLOUT_CANDIDATE, ROLLOUT_SIDES };

struct rollout_counts {
	struct {
		uint64_t decisions[3]; /* by enum decision */
		uint64_t errors;       /* of them denials because a rule failed or ran too long */
		uint64_t buckets[ROLLOUT_BUCKETS];
	} sides[ROLLOUT_SIDES]; /* of the same requests */
};

/* One decision as far as it is told apart; texts are NUL-terminated. */
struct rollout_verdict {
	enum decision decision;
	char reason[ROLLOUT_REASON];
	char rule[ROLLOUT_RULE]; /* may be empty */
};

/* Where both are the same, the obligations differ. */
struct rollout_group {
	struct rollout_verdict was, is; /* by the set in force; by the candidate */
	uint64_t count;
	uint64_t samples[ROLLOUT_SAMPLES]; /* sequence numbers of records */
	size_t nsamples;
};

struct rollout_report {
	struct rollout_counts counts;
	uint64_t changed;   /* recorded decisions that came out otherwise */
	uint64_t ungrouped; /* of them in no group: there were too many kinds */
	struct rollout_group groups[ROLLOUT_GROUPS];
	size_t ngroups;
};

/* The bucket of a time, and the upper bound of a bucket in nanoseconds. */
size_t rollout_bucket(int64_t ns);
int64_t rollout_bucket_ns(size_t bucket);

uint64_t rollout_evaluations(const struct rollout_counts *c, enum rollout_side side);
/* Of the side's evaluations, 99 in 100 took at most so many microseconds; 0: there were none. */
int64_t rollout_p99_us(const struct rollout_counts *c, enum rollout_side side);
/* now - before, number by number. */
void rollout_counts_since(const struct rollout_counts *now, const struct rollout_counts *before,
			  struct rollout_counts *out);

/* Count @n changes of this kind more, the newest of them last in @samples. */
void rollout_report_group(struct rollout_report *r, const struct rollout_verdict *was,
			  const struct rollout_verdict *is, uint64_t n, const uint64_t *samples,
			  size_t nsamples);

/* As text, to be kept over a restart; and back. A text that was not written here gives an empty
 * report and false. */
void rollout_report_write(struct buf *b, const struct rollout_report *r);
bool rollout_report_read(struct str text, struct rollout_report *r);

/* ---- gates ---- */

/* Bounds that a candidate must keep. Rates are in parts per million of its evaluations; negative:
 * no such gate. */
struct rollout_gates {
	int64_t max_deny;	   /* its denials */
	int64_t max_deny_increase; /* its rate of denials less that of the set in force */
	int64_t max_error;	   /* its errors */
	int64_t max_p99_us;	   /* its time, microseconds */
	int64_t min_sample;	   /* below so many evaluations nothing is judged; from 1 */
};

#define ROLLOUT_MIN_SAMPLE 100		 /* where nothing is said */
#define ROLLOUT_MAX_DENY_INCREASE 100000 /* of a canary: ten in a hundred */
#define ROLLOUT_MAX_ERROR 10000		 /* one in a hundred */
#define ROLLOUT_MIN_SAMPLE_MAX 1000000

/* Is there enough in @c to judge by? */
bool rollout_judgeable(const struct rollout_gates *g, const struct rollout_counts *c);
/* The gate that @c does not keep ("max_deny_rate"...), with a sentence in @why; NULL: it keeps
 * all. */
const char *rollout_tripped(const struct rollout_gates *g, const struct rollout_counts *c,
			    char why[static 200]);

#endif
