/*
 * mask - what of a request is never written down: fields by name, secrets by their looks.
 *
 * Purpose    The log keeps requests for years; passwords, tokens and card numbers in them should
 *            not even be there for an hour. Rules say which values are replaced by a marker before
 *            a request becomes an opening. The decision is made on the real values.
 *            A field rule is a path from the top of the request: steps between dots, `*` for any
 *            one member or element, `**` at its beginning for any number of them. `args.X` is
 *            `action.properties.X`. All below a field goes with it. A detector replaces what it
 *            knows inside of any text, and whole numbers that are card numbers.
 * Ownership  Rules borrow their paths. A mask is constant once its rules are added.
 * Threads    A constant one: any.
 */
#ifndef WRIT_AUDIT_MASK_H
#define WRIT_AUDIT_MASK_H

#include "authz/base/json.h"

#define MASK_RULES 64 /* field rules */
#define MASK_STEPS 16 /* of one path */
#define MASK_PATH 256 /* bytes of a path as it is written in a rule */

enum {
	MASK_BEARER = 1,       /* what stands behind "Bearer " */
	MASK_JWT = 2,	       /* eyJ... of two or three parts */
	MASK_API_KEY = 4,      /* ghp_, sk-, xoxb-, AIza, ...: keys that say what they are */
	MASK_PRIVATE_KEY = 8,  /* PEM, from its BEGIN to its END */
	MASK_AWS_KEY = 16,     /* AKIA..., ASIA...: the id, for a secret key looks like any text */
	MASK_CREDIT_CARD = 32, /* 13 to 19 digits whose last one is right (ISO/IEC 7812-1) */
};

struct mask_field {
	struct str steps[MASK_STEPS];
	size_t n;
	bool anywhere; /* began with "**" */
};

struct mask {
	struct mask_field fields[MASK_RULES];
	size_t nfields;
	unsigned detectors;
};

/* Add the rule of a path. @e says what is wrong with it. */
MUST_USE bool mask_add_field(struct mask *m, struct str path, struct err *e);
/* "bearer", "jwt", "api_key", "private_key", "aws_key", "credit_card"; "token": the first three,
 * "key": the two after them. */
MUST_USE bool mask_add_detector(struct mask *m, struct str name, struct err *e);

/* Append the canonical form of member @name of a request with what the rules say replaced. Returns
 * how many values were. @m NULL: none. */
size_t mask_canonical(const struct mask *m, struct buf *b, struct str name, const struct json *v);

/* Append @text with what the detectors find replaced; how many were. @m NULL: none. */
size_t mask_text(const struct mask *m, struct str text, struct buf *b);

#endif
