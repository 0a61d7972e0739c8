/*
 * index_search - find records by what is in them, page by page.
 *
 * Purpose    Candidates come from the index where it reaches and one by one from the log where it
 *            does not, and each is compared with the record itself before it is given. So a search
 *            is complete and exact whatever state index.db is in; the index only makes it fast.
 *            The work for one page is bounded: it may end early and say where to go on.
 * Ownership  A hit points into the search and lives until the next call on it.
 * Threads    One owner at a time, beside the log's writer and the indexer.
 */
#ifndef WRIT_AUDIT_INDEX_SEARCH_H
#define WRIT_AUDIT_INDEX_SEARCH_H

#include "authz/audit/index_store.h"

#define INDEX_SEARCH_TERMS 15	/* members that one search can name */
#define INDEX_SEARCH_WORK 20000 /* records and blocks looked at for one page */

struct index_wanted {
	struct str name;  /* one of index_members */
	struct str value; /* escaped, as in a leaf; of kind also a family, "authz.*" */
};

struct index_filter {
	int64_t since_ms, until_ms; /* [since, until); 0: open */
	uint64_t from, to;	    /* [from, to) of seq; to == 0: to the end */
	uint64_t work;		    /* 0: INDEX_SEARCH_WORK */
	bool newest_first;
	size_t n;
	struct index_wanted is[INDEX_SEARCH_TERMS]; /* all of them */
};

struct index_hit {
	uint64_t seq;
	struct str text; /* the leaf */
};

struct index_search;

/* Open the log; index.db is opened by a start. Without a usable one the log alone is read. */
MUST_USE bool index_search_open(const char *folder, struct index_search **out, struct err *e);
void index_search_close(struct index_search *s); /* NULL is fine */

/* One search after another: end the one before. The strs of @f must live as long as the search. An
 * index.db that was made anew, or could not be used before, is opened again. */
MUST_USE bool index_search_start(struct index_search *s, const struct index_filter *f,
				 struct err *e);

/* Over: nothing of the files is held any more, and they stay open for the next start. Otherwise the
 * transactions that they are read in would keep their WALs from being reused. */
void index_search_end(struct index_search *s);

/* The next hit. *got false: the end, or the work is used up; index_search_left tells. */
MUST_USE bool index_search_next(struct index_search *s, struct index_hit *hit, bool *got,
				struct err *e);

struct index_left {
	uint64_t from, to;	/* [from, to) is left to search; empty: done */
	uint64_t indexed, size; /* records in the index and in the log, when the search started */
	uint64_t pruned;	/* records [0, pruned) are in archives, and are not found */
	bool damaged;		/* index.db does not read well: it should be made anew */
};
void index_search_left(const struct index_search *s, struct index_left *left);

/* One record by its number, with or without a search. *got false: it is not there. */
MUST_USE bool index_search_record(struct index_search *s, uint64_t seq, struct index_hit *hit,
				  bool *got, struct err *e);

#endif
