/*
 * json - a strict I-JSON reader (RFC 8259, RFC 7493) and the canonical form (RFC 8785).
 *
 * Purpose    The one reader of foreign JSON on the path of a decision. It refuses, with the byte
 *            position: duplicate names (after unescaping, at every depth), lone surrogates,
 *            U+0000, malformed UTF-8, a BOM, NaN and infinities in any spelling, numbers that
 *            would change when kept (integers beyond +-(2^53-1), decimals of more than 17
 *            significant digits, 1e999, underflow), trailing bytes, and anything past a limit.
 *            Members of an object are kept in canonical order (UTF-16 code units), so look-up,
 *            the duplicate check and the canonical form cost one sort.
 * Ownership  Values live in the arena; strings without escapes point into the input text, so the
 *            text must live as long.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_JSON_H
#define WRIT_JSON_H

#include <stdint.h>

#include "authz/base/arena.h"
#include "authz/base/buf.h"
#include "include/writ/err.h"

enum json_type {
	JSON_NULL,
	JSON_BOOL,
	JSON_INT,  /* any number of integral value within +-(2^53-1): 1, 1.0, 1e0 are one value */
	JSON_REAL, /* any other number; |d| is below 2^53 or, in exponent form, from 1e21 on */
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
};

struct json {
	enum json_type type;
	uint32_t n; /* elements or members */
	union {
		bool b;
		int64_t i;
		double d;
		struct str s;
		const struct json *items; /* n values; of an object, in canonical order of name */
	};
	struct str name; /* of a member of an object, unescaped; else empty */
	struct str raw;	 /* its text in the input */
};

struct json_limits {
	size_t string;	  /* bytes of one string, names included, unescaped */
	uint32_t depth;	  /* nesting of arrays and objects */
	uint32_t members; /* of one object */
	uint32_t values;  /* in all */
};

extern const struct json_limits json_default_limits; /* words.h */

/* Read all of @text. On failure *out is untouched; e->class is ERR_INVALID, ERR_TOO_LARGE or, if
 * @a is full, ERR_NOMEM; e->code is "invalid_json", "too_large" or "out_of_memory". e->msg names
 * the byte position (from 0) and quotes at most one byte of the text. */
MUST_USE bool json_parse(struct str text, const struct json_limits *limits, struct arena *a,
			 const struct json **out, struct err *e);

/* The member @name of an object, or NULL (also if @v is NULL or no object). */
const struct json *json_get(const struct json *v, struct str name);

/* json_get of a member of the given type; NULL if absent or of another type. */
const struct json *json_get_type(const struct json *v, struct str name, enum json_type t);

/* Append the canonical form. @v came from json_parse, so this fails only as @b fails, and what it
 * writes is read back as the same value. */
void json_canonical(struct buf *b, const struct json *v);

/* A str of a literal that is the name of a member we make ourselves. It stands in quotes and with a
 * colon behind it, as json_canonical writes it; a value whose raw.p is where that text ends tells
 * it so. */
#define JSON_NAME_INIT(lit)                           \
	{                                             \
		&("\"" lit "\":")[1], sizeof(lit) - 1 \
	}

/* Append a number in ECMAScript's shortest form (RFC 8785 3.2.2.3). @d is finite. */
void json_number(struct buf *b, double d);

/* "string", "object" ... for messages. */
const char *json_type_name(enum json_type t);

#endif
