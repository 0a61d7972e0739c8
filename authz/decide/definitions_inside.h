/*
 * definitions_inside - what the acts on definitions share; for definition*.c only.
 *
 * Purpose    definitions.c sees and publishes, definition_acts.c accepts and reports.
 * Ownership  Texts live in the arena that is handed in.
 * Threads    The control thread.
 */
#ifndef WRIT_DECIDE_DEFINITIONS_INSIDE_H
#define WRIT_DECIDE_DEFINITIONS_INSIDE_H

#include "authz/decide/definition_store.h"
#include "authz/decide/definitions.h"

struct definitions {
	struct definition_store *store;
	uint64_t policies; /* version of the slot that the view was made for */
};

/* Make the view anew from writ.db and publish it. */
MUST_USE bool definitions_publish(struct control *c, struct err *e);

/* @about: what was proposed and accepted in it is for the pin in force. */
struct definition_standing definition_standing_of(const struct definition_row *row, bool about);
/* A definition that was kept; NULL: it was not. */
const struct json *definition_parse(struct str text, struct arena *a);
/* The pinned definition's text, as far as it is known; else empty. */
struct str definition_pinned(const struct policy_pin *pin, const struct definition_row *row);
/* What changed against the pin in one line; empty if that is not known. */
struct str definition_changes_of(const struct policy_pin *pin, const struct definition_row *row,
				 struct arena *a);

#endif
