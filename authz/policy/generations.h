/*
 * generations - policy sets as they were: numbered, immutable, one of them active.
 *
 * Purpose    Records name a generation, and replay computes them again with its sources; so the
 *            sources of every set that ever decided are kept in writ.db, by content: a file that
 *            did not change between generations is stored once. The number is a counter that is
 *            never reused; the same hash keeps its number.
 * Ownership  Borrows the db; owns its statements. Sources that are read out belong to the caller.
 * Threads    The control thread.
 */
#ifndef WRIT_POLICY_GENERATIONS_H
#define WRIT_POLICY_GENERATIONS_H

#include "authz/policy/policy.h"
#include "authz/store/db.h"

struct generations;

struct generation {
	uint64_t number; /* from 1 */
	uint8_t hash[32];
	size_t files;
	int64_t stored_ms;
	struct str by, message; /* who stored it and what for; may be empty */
};

/* Which one decides, and since when. */
struct generation_active {
	uint64_t number; /* 0: none yet */
	bool pinned;	 /* by a rollback: the watched folder does not replace it */
	int64_t since_ms;
};

MUST_USE bool generations_open(struct db *db, struct generations **out, struct err *e);
void generations_close(struct generations *g);

/* Keep @s and the zone files that @set, loaded from it, has read (NULL: none). *number is a new
 * one, or that of the generation with the same hash (*stored false). */
MUST_USE bool generations_store(struct generations *g, const struct policy_sources *s,
				const struct policy_set *set, struct str by, struct str message,
				int64_t now_ms, uint64_t *number, bool *stored, struct err *e);

/* If a set with the hash of @s is stored, give @s its zones: what has a number means the same for
 * ever, also when it comes from the folder again after tzdata has changed. */
MUST_USE bool generations_recall(struct generations *g, struct policy_sources *s, struct err *e);

/* Make a stored generation the active one. The set itself is published by the caller. */
MUST_USE bool generations_activate(struct generations *g, uint64_t number, bool pinned,
				   struct str by, int64_t now_ms, struct err *e);
MUST_USE bool generations_active(struct generations *g, struct generation_active *out,
				 struct err *e);

/* The sources of a generation with its zones, hashed again: what does not give its hash is
 * refused. */
MUST_USE bool generations_load(struct generations *g, uint64_t number, struct policy_sources *out,
			       struct err *e);

/* By number; a hash gives its number with generations_find. ERR_NOT_FOUND if there is none. */
MUST_USE bool generations_get(struct generations *g, uint64_t number, struct arena *a,
			      struct generation *out, struct err *e);
MUST_USE bool generations_find(struct generations *g, const uint8_t hash[static 32],
			       uint64_t *number, struct err *e);

/* Generations below @before (0: from the newest), newest first, at most @max. */
MUST_USE bool generations_list(struct generations *g, uint64_t before, size_t max,
			       void (*each)(void *ctx, const struct generation *gen), void *ctx,
			       struct err *e);

/* What was active when, newest first: "activate" and "rollback" in the order they happened. */
struct generation_activation {
	uint64_t number;
	bool pinned;
	int64_t at_ms;
	struct str by;
};
MUST_USE bool generations_history(struct generations *g, size_t max,
				  void (*each)(void *ctx, const struct generation_activation *act),
				  void *ctx, struct err *e);

#endif
