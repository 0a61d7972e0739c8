/*
 * One loop over the text and no recursion. Values are put on a stack; when an array or object
 * ends, its values move from the stack into the arena in one piece, those of an object in
 * canonical order. The stack starts in the caller's frame, which is enough for most requests.
 */
#include "authz/base/json.h"

#include <stdio.h>
#include <strings.h>

#include "authz/base/json_number.h"
#include "authz/base/json_order.h"
#include "authz/base/text.h"
#include "include/writ/words.h"

#define STACK_FIRST 64	/* values before the stack moves to the arena */
#define STACK_MANY 1024 /* values before it takes what it can ever need */

const struct json_limits json_default_limits = {
	.string = LIMIT_STRING,
	.depth = LIMIT_DEPTH,
	.members = LIMIT_MEMBERS,
	.values = LIMIT_VALUES,
};

struct reader {
	const char *p, *end;
	const char *start;
	const struct json_limits *limits;
	struct arena *arena;
	struct err *e;
	struct json *v;	    /* the stack: values whose array or object has not ended yet */
	uint32_t top, size; /* values on it, room */
	uint32_t open;	    /* where the values of the innermost open one start; 0: none is open */
	uint32_t depth, values;
	struct json first[STACK_FIRST];
};

#define INVALID(r, at, fmt, ...)                                                        \
	err_code((r)->e, ERR_INVALID, "invalid_json", "invalid JSON at byte %zu: " fmt, \
		 (size_t)((at) - (r)->start), ##__VA_ARGS__)
#define TOO_LARGE(r, at, fmt, ...)                                                       \
	err_code((r)->e, ERR_TOO_LARGE, "too_large", "JSON too large at byte %zu: " fmt, \
		 (size_t)((at) - (r)->start), ##__VA_ARGS__)

static bool no_memory(struct reader *r)
{
	return err_set(r->e, ERR_NOMEM,
		       "JSON at byte %zu: no memory is left for this request; send a smaller one",
		       (size_t)(r->p - r->start));
}

/* What stands at the cursor, for a message. */
struct found {
	char text[24];
};

static struct found found(const struct reader *r)
{
	struct found f;
	unsigned char c;

	if (r->p == r->end) {
		snprintf(f.text, sizeof(f.text), "the end of the text");
		return f;
	}
	c = (unsigned char)*r->p;
	if (c > 0x20 && c < 0x7f)
		snprintf(f.text, sizeof(f.text), "'%c'", c);
	else
		snprintf(f.text, sizeof(f.text), "byte 0x%02x", c);
	return f;
}

static bool expected(struct reader *r, const char *what)
{
	return INVALID(r, r->p, "expected %s, found %s", what, found(r).text);
}

static inline void skip_space(struct reader *r)
{
	while (r->p < r->end && (unsigned char)*r->p <= ' ' &&
	       (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t'))
		r->p++;
}

/* Four hexadecimal digits at @p, or -1. */
static int32_t hex4(const char *p, const char *end)
{
	int32_t v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int d = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;

		if (d < 0)
			return -1;
		v = v << 4 | d;
	}
	return v;
}

static char *put_utf8(char *to, int32_t c)
{
	if (c < 0x80) {
		*to++ = (char)c;
		return to;
	}
	if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*to++ = (char)(0xe0 | c >> 12);
		} else {
			*to++ = (char)(0xf0 | c >> 18);
			*to++ = (char)(0x80 | (c >> 12 & 0x3f));
		}
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*to++ = (char)(0x80 | (c & 0x3f));
	return to;
}

/* The escape \uXXXX, or a pair of them, at the cursor. */
static bool read_unicode(struct reader *r, char **to)
{
	int32_t low, c = hex4(r->p + 2, r->end);

	if (c < 0)
		return INVALID(r, r->p, "expected four hexadecimal digits after \\u");
	if (c == 0)
		return INVALID(r, r->p,
			       "U+0000 is not accepted in a string; "
			       "send such text in base64");
	if (c >= 0xd800 && c <= 0xdfff) {
		low = c < 0xdc00 && r->end - r->p >= 8 && r->p[6] == '\\' && r->p[7] == 'u'
			      ? hex4(r->p + 8, r->end)
			      : -1;
		if (low < 0xdc00 || low > 0xdfff)
			return INVALID(r, r->p,
				       "\\u%.4s is half of a surrogate pair without the other half",
				       r->p + 2);
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
		r->p += 6;
	}
	r->p += 6;
	*to = put_utf8(*to, c);
	return true;
}

/* The escape at the cursor. */
static bool read_escape(struct reader *r, char **to)
{
	static const char into[256] = { ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
					['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t' };
	char c;

	if (r->end - r->p >= 2 && r->p[1] == 'u')
		return read_unicode(r, to);
	c = r->end - r->p >= 2 ? into[(unsigned char)r->p[1]] : '\0';
	if (!c)
		return INVALID(r, r->p,
			       "a backslash starts no escape here; "
			       "write \\\\ for a backslash");
	*(*to)++ = c;
	r->p += 2;
	return true;
}

/* Move over what stands for itself, up to a quote or a backslash. */
static bool skip_plain(struct reader *r)
{
	for (;;) {
		size_t n;

		r->p += text_json_plain((struct str){ r->p, (size_t)(r->end - r->p) });
		if (r->p == r->end)
			return INVALID(r, r->p, "the text ends inside a string");
		if (*r->p == '"' || *r->p == '\\')
			return true;
		if ((unsigned char)*r->p < 0x20)
			return INVALID(r, r->p,
				       "control character 0x%02x in a string; write \\u%04x", *r->p,
				       *r->p);
		while ((n = text_utf8_char((struct str){ r->p, (size_t)(r->end - r->p) })) > 1)
			r->p += n;
		if (!n)
			return INVALID(r, r->p, "this is not UTF-8");
	}
}

/* A string whose first byte is @from: what is before the cursor stands for itself. */
static bool read_rest(struct reader *r, const char *from, struct str *out)
{
	const char *end;
	char *text, *to;

	if (!skip_plain(r))
		return false;
	if (*r->p == '"') {
		*out = (struct str){ from, (size_t)(r->p - from) };
		return true;
	}
	/* Unescaped it is no longer than up to its quote, or to the end if it has none. */
	for (end = r->p; end < r->end && *end != '"';)
		end += *end == '\\' && r->end - end > 1 ? 2 : 1;
	text = to = arena_alloc(r->arena, (size_t)(end - from));
	if (!text)
		return no_memory(r);
	for (;;) {
		memcpy(to, from, (size_t)(r->p - from));
		to += r->p - from;
		if (*r->p == '"')
			break;
		if (!read_escape(r, &to))
			return false;
		from = r->p;
		if (!skip_plain(r))
			return false;
	}
	*out = (struct str){ text, (size_t)(to - text) };
	return true;
}

/* The string whose opening quote is at the cursor. Most have neither escapes nor other than ASCII.
 */
static bool read_string(struct reader *r, struct str *out)
{
	const char *quote = r->p, *p = quote + 1;

	p += text_json_plain_short((struct str){ p, (size_t)(r->end - p) });
	*out = (struct str){ quote + 1, (size_t)(p - quote - 1) };
	r->p = p;
	if ((p == r->end || *p != '"') && !read_rest(r, quote + 1, out)) {
		*out = (struct str){ NULL, 0 };
		return false;
	}
	if (out->n > r->limits->string)
		return TOO_LARGE(r, quote, "a string has %zu bytes; at most %zu are accepted",
				 out->n, r->limits->string);
	r->p++;
	return true;
}

static bool read_literal(struct reader *r, struct str word)
{
	if (!str_starts((struct str){ r->p, (size_t)(r->end - r->p) }, word))
		return expected(r, "a value");
	r->p += word.n;
	return true;
}

/* NaN and the infinities are common enough, from Python or JavaScript, to be named. */
static bool no_value(struct reader *r)
{
	size_t left = (size_t)(r->end - r->p), sign = left && (*r->p == '-' || *r->p == '+');

	if (left - sign >= 3 &&
	    (!strncasecmp(r->p + sign, "nan", 3) || !strncasecmp(r->p + sign, "inf", 3)))
		return INVALID(r, r->p,
			       "NaN and infinities are no JSON numbers; "
			       "send null or a string");
	return expected(r, "a value");
}

static bool read_scalar(struct reader *r, struct json *v)
{
	const char *why;

	switch (r->p < r->end ? *r->p : '\0') {
	case '"':
		v->type = JSON_STRING;
		return read_string(r, &v->s);
	case 't':
		v->type = JSON_BOOL;
		v->b = true;
		return read_literal(r, STR("true"));
	case 'f':
		v->type = JSON_BOOL;
		v->b = false;
		return read_literal(r, STR("false"));
	case 'n':
		if (r->end - r->p > 1 && r->p[1] == 'a')
			return no_value(r);
		v->type = JSON_NULL;
		return read_literal(r, STR("null"));
	case '-':
		if (r->end - r->p > 1 && strchr("INin", r->p[1]) && r->p[1])
			return no_value(r);
		break;
	case '0':
	case '1':
	case '2':
	case '3':
	case '4':
	case '5':
	case '6':
	case '7':
	case '8':
	case '9':
		break;
	default:
		return no_value(r);
	}
	why = json_read_number(&r->p, r->end, v);
	return !why || INVALID(r, r->p, "%s", why);
}

/* The arena gets nothing back, so a long text costs one last stack instead of ever larger ones: a
 * value and what parts it from the next take two bytes at least. */
static bool grow_stack(struct reader *r)
{
	size_t most = (size_t)(r->end - r->p) / 2 + 1;
	size_t size = r->size;
	struct json *v;

	if (most > r->limits->values - r->values)
		most = r->limits->values - r->values;
	size += size < STACK_MANY && size < most ? size : most;
	v = arena_alloc(r->arena, size * sizeof(*v));
	if (!v)
		return no_memory(r);
	memcpy(v, r->v, r->top * sizeof(*v));
	r->v = v;
	r->size = (uint32_t)size;
	return true;
}

/* A place on the stack for the value at the cursor. */
static inline struct json *push(struct reader *r, struct str name)
{
	struct json *v;

	if (r->values >= r->limits->values) {
		TOO_LARGE(r, r->p, "more than %u values", r->limits->values);
		return NULL;
	}
	if (r->top == r->size && !grow_stack(r))
		return NULL;
	r->values++;
	v = &r->v[r->top++];
	v->n = 0;
	v->name = name;
	v->raw.p = r->p;
	return v;
}

/* The opening quote of the name in front of a value: for messages only, so it is looked for. */
static const char *name_of(const struct json *member)
{
	const char *p = member->raw.p;

	while (*--p != '"')
		; /* the closing quote */
	for (;;) {
		const char *backslash;

		while (*--p != '"')
			;
		for (backslash = p; backslash[-1] == '\\';)
			backslash--;
		if ((p - backslash) % 2 == 0)
			return p;
	}
}

/* The innermost open array or object ends: its values move into the arena. */
static bool close_innermost(struct reader *r)
{
	struct json *values = r->v + r->open, *v = values - 1;
	uint32_t n = r->top - r->open;
	struct json *items = NULL;

	if (n) {
		items = arena_alloc(r->arena, n * sizeof(*items));
		if (!items)
			return no_memory(r);
		if (v->type == JSON_ARRAY) {
			memcpy(items, values, n * sizeof(*items));
		} else {
			const struct json *twice = json_order(values, n, items);

			if (twice)
				return INVALID(r, name_of(twice),
					       "the name occurs a second time in one object");
		}
	}
	r->p++;
	r->top = r->open;
	r->open = v->n;
	r->depth--;
	v->n = n;
	v->items = items;
	v->raw.n = (size_t)(r->p - v->raw.p);
	return true;
}

/* The name of the next member and its colon. */
static bool read_name(struct reader *r, struct str *name)
{
	if (r->p == r->end || *r->p != '"')
		return expected(r, "a name in double quotes");
	if (r->top - r->open >= r->limits->members)
		return TOO_LARGE(r, r->p, "an object has more than %u members", r->limits->members);
	if (!read_string(r, name))
		return false;
	skip_space(r);
	if (r->p == r->end || *r->p != ':')
		return expected(r, "':' after a name");
	r->p++;
	skip_space(r);
	return true;
}

/* The array or object @v starts at the cursor. *done: it is empty and ended. */
static bool open_value(struct reader *r, struct json *v, struct str *name, bool *done)
{
	bool array = *r->p == '[';

	if (r->depth >= r->limits->depth)
		return TOO_LARGE(r, r->p, "arrays and objects are nested more than %u deep",
				 r->limits->depth);
	r->depth++;
	v->type = array ? JSON_ARRAY : JSON_OBJECT;
	v->n = r->open;
	r->open = r->top;
	r->p++;
	skip_space(r);
	*name = (struct str){ NULL, 0 };
	*done = r->p < r->end && *r->p == (array ? ']' : '}');
	if (*done)
		return close_innermost(r);
	return array || read_name(r, name);
}

/* After a value: what may follow. *done: the text is complete, else another value comes. */
static bool read_next(struct reader *r, struct str *name, bool *done)
{
	for (;;) {
		bool array;

		skip_space(r);
		if (!r->open) {
			*done = true;
			return r->p == r->end || expected(r, "the end of the text");
		}
		array = r->v[r->open - 1].type == JSON_ARRAY;
		if (r->p == r->end)
			return expected(r, array ? "',' or ']'" : "',' or '}'");
		if (*r->p == ',')
			break;
		if (*r->p != (array ? ']' : '}'))
			return expected(r, array ? "',' or ']'" : "',' or '}'");
		if (!close_innermost(r))
			return false;
	}
	*done = false;
	r->p++;
	skip_space(r);
	return r->v[r->open - 1].type == JSON_ARRAY || read_name(r, name);
}

static bool read_text(struct reader *r)
{
	struct str name = { NULL, 0 };
	bool done = false;

	skip_space(r);
	while (!done) {
		struct json *v = push(r, name);

		if (!v)
			return false;
		if (r->p < r->end && (*r->p == '{' || *r->p == '[')) {
			if (!open_value(r, v, &name, &done))
				return false;
			if (!done)
				continue;
		} else {
			if (!read_scalar(r, v))
				return false;
			v->raw.n = (size_t)(r->p - v->raw.p);
		}
		if (!read_next(r, &name, &done))
			return false;
	}
	return true;
}

bool json_parse(struct str text, const struct json_limits *limits, struct arena *a,
		const struct json **out, struct err *e)
{
	struct reader r;
	struct json *root;

	if (!text.n)
		return err_code(e, ERR_INVALID, "invalid_json",
				"invalid JSON at byte 0: expected a value, found nothing at all");
	r.start = r.p = text.p;
	r.end = text.p + text.n;
	r.limits = limits;
	r.arena = a;
	r.e = e;
	r.v = r.first;
	r.size = STACK_FIRST;
	r.top = r.open = r.depth = r.values = 0;
	if (str_starts(text, STR("\xef\xbb\xbf")))
		return INVALID(&r, r.p, "the text starts with a byte order mark; leave it out");
	root = arena_alloc(a, sizeof(*root));
	if (!root)
		return no_memory(&r);
	if (!read_text(&r))
		return false;
	*root = r.v[0];
	*out = root;
	return true;
}

/* json_get of objects and names of any size. */
static __attribute__((noinline)) const struct json *search(const struct json *v, struct str name)
{
	uint32_t lo = 0, hi = v->n;

	while (hi - lo > 8) {
		uint32_t middle = lo + (hi - lo) / 2;

		if (json_name_cmp(v->items[middle].name, name) <= 0)
			lo = middle;
		else
			hi = middle;
	}
	for (; lo < hi; lo++)
		if (str_eq(v->items[lo].name, name))
			return &v->items[lo];
	return NULL;
}

/* Most objects and names are small: then it needs no call. */
const struct json *json_get(const struct json *v, struct str name)
{
	if (!v || v->type != JSON_OBJECT)
		return NULL;
	if (v->n > 8 || name.n > 16)
		return search(v, name);
	for (uint32_t i = 0; i < v->n; i++)
		if (v->items[i].name.n == name.n && str_eq_short(v->items[i].name, name))
			return &v->items[i];
	return NULL;
}

const struct json *json_get_type(const struct json *v, struct str name, enum json_type t)
{
	const struct json *m = json_get(v, name);

	return m && m->type == t ? m : NULL;
}

const char *json_type_name(enum json_type t)
{
	static const char *const names[] = {
		[JSON_NULL] = "null",	  [JSON_BOOL] = "boolean",  [JSON_INT] = "integer",
		[JSON_REAL] = "number",	  [JSON_STRING] = "string", [JSON_ARRAY] = "array",
		[JSON_OBJECT] = "object",
	};

	return names[t];
}
