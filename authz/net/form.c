#include "authz/net/form.h"

#include "authz/base/text.h"

static bool refuse(struct err *e, size_t at, const char *what)
{
	return err_code(e, ERR_INVALID, "invalid_request", "form: byte %zu: %s", at, what);
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* One name or value; @at: where it stands, for messages. */
static bool decode(struct str in, size_t at, struct arena *a, struct str *out, struct err *e)
{
	char *p = arena_alloc(a, in.n + 1);
	size_t n = 0;

	if (!p)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	for (size_t i = 0; i < in.n; i++) {
		unsigned char c = (unsigned char)in.p[i];
		int hi, lo;

		if (c <= 0x20 || c >= 0x7f)
			return refuse(e, at + i, "it must be written as %XX");
		if (c != '%') {
			p[n++] = c == '+' ? ' ' : (char)c;
			continue;
		}
		hi = in.n - i > 2 ? hex_value(in.p[i + 1]) : -1;
		lo = hi >= 0 ? hex_value(in.p[i + 2]) : -1;
		if (lo < 0)
			return refuse(e, at + i, "% is followed by two hexadecimal digits");
		p[n++] = (char)(hi << 4 | lo);
		i += 2;
	}
	*out = (struct str){ p, n };
	if (!text_is_utf8(*out) || !text_is_printable(*out))
		return refuse(e, at, "it must be UTF-8 without control characters");
	return true;
}

static bool read_pair(struct str part, size_t at, struct arena *a, struct form_pair *out,
		      struct err *e)
{
	struct str name = part, value = { "", 0 };

	(void)str_cut(part, '=', &name, &value);
	if (!name.n)
		return refuse(e, at, "a parameter has no name");
	return decode(name, at, a, &out->name, e) &&
	       decode(value, at + name.n + 1, a, &out->value, e);
}

bool form_parse(struct str body, struct arena *a, struct form *out, struct err *e)
{
	struct form_pair *pairs = arena_alloc(a, FORM_PAIRS_MAX * sizeof(*pairs));
	struct str rest = body, part;
	size_t n = 0;

	if (body.n > FORM_BYTES_MAX)
		return err_set(e, ERR_TOO_LARGE, "a form has at most %d bytes", FORM_BYTES_MAX);
	if (!pairs)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	for (bool more = body.n > 0; more;) {
		size_t at = body.n - rest.n;

		part = rest;
		more = str_cut(rest, '&', &part, &rest);
		if (n == FORM_PAIRS_MAX)
			return refuse(e, at, "there are too many parameters");
		if (!read_pair(part, at, a, &pairs[n], e))
			return false;
		n += pairs[n].value.n > 0;
	}
	*out = (struct form){ pairs, n };
	return true;
}

struct str form_get(const struct form *f, struct str name)
{
	for (size_t i = 0; i < f->n; i++)
		if (str_eq(f->pairs[i].name, name))
			return f->pairs[i].value;
	return (struct str){ NULL, 0 };
}

size_t form_count(const struct form *f, struct str name)
{
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++)
		n += str_eq(f->pairs[i].name, name);
	return n;
}
