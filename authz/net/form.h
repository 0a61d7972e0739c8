/*
 * form - application/x-www-form-urlencoded, read in one way or not at all.
 *
 * Purpose    Bodies of OAuth endpoints (RFC 6749 Appendix B, RFC 8693 2.1). Two readers must not
 *            find two requests in one text: names and values are UTF-8 without control characters,
 *            '+' is a blank, %XX an octet, and whatever else would need a guess is refused, with
 *            its byte. A parameter without a value counts as absent (RFC 6749 3.1), but a name that
 *            stands there twice is told apart from one that does not.
 * Ownership  Names and values live in the arena, or are parts of the body.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_NET_FORM_H
#define WRIT_NET_FORM_H

#include "authz/base/arena.h"
#include "include/writ/err.h"

#define FORM_PAIRS_MAX 64
#define FORM_BYTES_MAX (64 * 1024)

struct form_pair {
	struct str name, value;
};

struct form {
	const struct form_pair *pairs; /* in the order of the body; none without a value */
	size_t n;
};

/* Refusals: ERR_INVALID "invalid_request", ERR_TOO_LARGE. */
MUST_USE bool form_parse(struct str body, struct arena *a, struct form *out, struct err *e);

/* The value of @name; p == NULL: absent. */
struct str form_get(const struct form *f, struct str name);
/* How often @name is there. */
size_t form_count(const struct form *f, struct str name);

#endif
