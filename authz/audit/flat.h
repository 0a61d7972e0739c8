/*
 * flat - scan flat canonical JSON: one object of strings and integers, names ascending.
 *
 * Purpose    Leaves, and the header and trailer of an export, have this one shape; so a verifier
 *            needs no general parser, and reads a leaf in a third of the time its hash takes.
 * Ownership  Everything points into the scanned text.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_FLAT_H
#define WRIT_AUDIT_FLAT_H

#include <stdint.h>

#include "authz/base/buf.h"
#include "include/writ/str.h"

struct flat {
	const char *p, *end; /* what is left */
	struct str last;     /* name of the member before */
	bool failed;	     /* the text is not of this shape */
};

struct flat_member {
	struct str name; /* [a-z0-9_]+ */
	struct str
		value; /* as it stands in the text: of a string without its quotes, still escaped */
	bool is_string;
	int64_t integer; /* if it is one; within +-(2^53-1) */
};

/* Scan @text, which must be "{...}" without white space. */
void flat_begin(struct flat *f, struct str text);

/* The next member. False at the end, and then f->failed tells whether all of it was well-formed. */
bool flat_next(struct flat *f, struct flat_member *m);

/* Undo the escapes of a string's value. False: an escape that the canonical form does not use. */
MUST_USE bool flat_unescape(struct str value, struct buf *out);

/* What verifiers and filters want of a leaf. */
struct leaf {
	uint64_t seq;
	int64_t time_ms;
	struct str prev; /* 64 characters, to be compared with a hash in hexadecimal */
	struct str kind, agent, decision; /* still escaped; empty: absent */
	struct str commits[3];		  /* 64 characters, by enum opening; empty: none */
};

/* False if @text is no leaf: not flat, or v, seq, time, node, boot, kind or prev is missing. */
MUST_USE bool leaf_scan(struct str text, struct leaf *l);

#endif
