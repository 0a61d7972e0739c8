/*
 * The reader against jansson. What we accept jansson accepts, with equal values. What it accepts
 * and we refuse is refused for a reason of our list: numbers that would not be kept, or a limit.
 * What we write we read back, and write again in the same bytes; a double too.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/json.h"
#include "authz/base/text.h"
#include "tests/jansson.h"

/* Below jansson's own depth of 2048, and small enough to be met. */
static const struct json_limits limits = { 3000, 100, 50, 5000 };

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz_json: %s\n", what);
	abort();
}

static void check_order(const struct json *v)
{
	for (uint32_t i = 0; i < v->n; i++) {
		need(json_get(v, v->items[i].name) == &v->items[i], "a member is not found");
		if (i) {
			struct str a = v->items[i - 1].name, b = v->items[i].name;
			bool bmp = true;

			for (size_t j = 0; j < a.n; j++)
				bmp = bmp && (unsigned char)a.p[j] < 0xee;
			for (size_t j = 0; j < b.n; j++)
				bmp = bmp && (unsigned char)b.p[j] < 0xee;
			need(!str_eq(a, b) && (!bmp || str_cmp(a, b) < 0),
			     "names are not in order");
		}
	}
}

/* Depth is bounded by our limits. */
static void check_equal(const struct json *v, const json_t *j, struct str text)
{
	need(v->raw.p >= text.p && v->raw.p + v->raw.n <= text.p + text.n,
	     "raw is outside the text");
	switch (v->type) {
	case JSON_NULL:
		need(json_typeof(j) == JANSSON_NULL, "null");
		break;
	case JSON_BOOL:
		need(v->b ? json_is_true(j) : json_is_false(j), "boolean");
		break;
	case JSON_INT: /* to jansson 1.0 is a real */
		need(json_typeof(j) == JSON_INTEGER   ? json_integer_value(j) == v->i
		     : json_typeof(j) == JANSSON_REAL ? json_real_value(j) == (double)v->i
						      : false,
		     "integer");
		need(v->i >= -9007199254740991 && v->i <= 9007199254740991,
		     "integer out of bounds");
		break;
	case JSON_REAL:
		need(json_typeof(j) == JANSSON_REAL && json_real_value(j) == v->d, "number");
		break;
	case JSON_STRING:
		need(json_typeof(j) == JANSSON_STRING && text_is_utf8(v->s) &&
			     str_eq((struct str){ json_string_value(j), json_string_length(j) },
				    v->s),
		     "string");
		break;
	case JSON_ARRAY:
		need(json_typeof(j) == JANSSON_ARRAY && json_array_size(j) == v->n, "array");
		for (uint32_t i = 0; i < v->n; i++)
			check_equal(&v->items[i], json_array_get(j, i), text);
		break;
	case JSON_OBJECT:
		need(json_typeof(j) == JANSSON_OBJECT && json_object_size(j) == v->n, "object");
		check_order(v);
		for (uint32_t i = 0; i < v->n; i++) {
			char *name = strndup(v->items[i].name.p, v->items[i].name.n);

			need(name, "memory");
			check_equal(&v->items[i], json_object_get(j, name), text);
			free(name);
		}
		break;
	}
}

static void check_canonical(const struct json *v, struct arena *a)
{
	AUTO_BUF once = { 0 };
	AUTO_BUF twice = { 0 };
	const struct json *again;
	struct err e;

	buf_init(&once, mem_system, 1 << 24);
	buf_init(&twice, mem_system, 1 << 24);
	json_canonical(&once, v);
	need(buf_ok(&once) && text_is_utf8(buf_str(&once)), "canonical form");
	need(json_parse(buf_str(&once), &limits, a, &again, &e), "the canonical form is refused");
	need(again->type == v->type, "the canonical form is of another type");
	json_canonical(&twice, again);
	need(str_eq(buf_str(&once), buf_str(&twice)), "the canonical form is not a fixed point");
}

/* jansson accepted what we refuse. */
static void check_reason(const struct err *e)
{
	static const char *const reasons[] = {
		"an integer beyond +-9007199254740991", "a number of more than 17 digits",
		"a number so near to zero",
		"found byte 0x00", /* a NUL after the value is the end of the text to jansson */
	};

	need(strstr(e->msg, " at byte ") != NULL, "a refusal without position");
	if (e->class == ERR_TOO_LARGE)
		return;
	need(e->class == ERR_INVALID && !strcmp(e->code, "invalid_json"), "class of a refusal");
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		if (strstr(e->msg, reasons[i]))
			return;
	need(false, e->msg);
}

/* The first eight bytes as a double: its text is read back as it, and one digit less is not. */
static void check_number(const uint8_t *p)
{
	char text[64], less[64];
	AUTO_BUF b = { 0 };
	int digits = 0;
	double d;

	memcpy(&d, p, sizeof(d));
	if (!isfinite(d))
		return;
	buf_init(&b, mem_system, sizeof(text) - 1);
	json_number(&b, d);
	need(buf_ok(&b), "the text of a number is too long");
	memcpy(text, b.p, b.n);
	text[b.n] = '\0';
	need(strtod(text, NULL) == d, "a number is not read back");
	for (const char *c = text + strspn(text, "-0."); *c && *c != 'e'; c++)
		digits += *c >= '0' && *c <= '9';
	if (strchr(text, '.') || strchr(text, 'e')) { /* else zeros at the end are no digits */
		need(digits <= 17, "a number has too many digits");
		snprintf(less, sizeof(less), "%.*e", digits > 1 ? digits - 2 : 0, d);
		need(digits == 1 || strtod(less, NULL) != d, "a number could be shorter");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str text = { (const char *)p, n };
	const struct json *v = NULL;
	struct err e = { 0 };
	json_error_t theirs;
	struct arena a;
	json_t *j;
	bool ok;

	if (n >= sizeof(double))
		check_number(p);
	arena_init(&a, &mem_system, 1 << 26);
	ok = json_parse(text, &limits, &a, &v, &e);
	j = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &theirs);
	if (ok) {
		need(j, theirs.text);
		check_equal(v, j, text);
		check_canonical(v, &a);
	} else {
		need(!v, "a value in spite of an error");
		if (j)
			check_reason(&e);
	}
	json_decref(j);
	arena_clear(&a);
	return 0;
}
