/*
 * fixture - a log in a folder of its own, with the sheet's test key, for the tests beside it.
 *
 * Purpose    Open it, append decisions like those of the service, throw the folder away.
 * Ownership  fixture_clear closes the log and removes the folder.
 * Threads    One test at a time.
 */
#ifndef WRIT_TESTS_AUDIT_FIXTURE_H
#define WRIT_TESTS_AUDIT_FIXTURE_H

#include "authz/audit/audit.h"
#include "authz/audit/note.h"

#define ORIGIN "acme.example/writ"

struct fixture {
	char folder[64];
	struct audit_config config;
	struct audit *audit;
	struct clock_fixed hands;
	struct clock clock;
	int fatal;	/* calls of config.fatal */
	int sign_fails; /* so many signatures fail */
	struct sha256 *sha;
};

/* sha256 of one hex digest text, for vectors. */
void unhex(const char *hex, uint8_t *out, size_t n);

void fixture_init(struct fixture *f);
void fixture_clear(struct fixture *f);

/* Open the log; the test fails if it cannot be. */
void fixture_open(struct fixture *f);
void fixture_close(struct fixture *f);

/* Sign with the test key; ctx is the fixture. */
bool fixture_sign(void *ctx, struct str text, uint8_t signature[static 64], struct err *e);
void fixture_key(struct note_key *k);

/* A decision number @i in @text, with all three openings in @text's allocator. */
void fixture_draft(struct fixture *f, int i, struct record *r, struct buf *text);

/* Append @n decisions one by one; the test fails if one is refused. */
void fixture_append(struct fixture *f, int n);

/* Walk the leaves as an outsider would: shape, seq, time, prev; then the tree against its row. The
 * number of records. */
uint64_t fixture_check(struct fixture *f);

/* Rows of log.db that a statement counts. */
int64_t fixture_count(const struct fixture *f, const char *sql);
/* Run a statement on log.db, behind the log's back. */
void fixture_sql(const struct fixture *f, const char *sql);

#endif
