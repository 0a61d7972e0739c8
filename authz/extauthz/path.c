/* Paths: one spelling each, or none (RFC 3986 6.2.2). What a proxy, a framework and a file system
 * would resolve in three ways is refused, so that a rule about a path is a rule about what runs. */
#include "authz/base/text.h"
#include "authz/extauthz/parts.h"

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("-._~", c));
}

/* pchar of RFC 3986 without ';', which some servers cut paths at. */
static bool plain(char c)
{
	return unreserved(c) || (c && strchr("!$&'()*+,=:@", c));
}

/* The byte of the code at @p, or -1. */
static int code_at(struct str s)
{
	int hi = s.n > 2 ? hex(s.p[1]) : -1, lo = s.n > 2 ? hex(s.p[2]) : -1;

	return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

bool percent_decode(struct arena *a, struct str in, struct str *out)
{
	char *p = arena_alloc(a, in.n + 1);
	size_t n = 0;

	if (!p)
		return false;
	for (size_t i = 0; i < in.n; i++) {
		int c = (unsigned char)in.p[i];

		if (c == '%') {
			c = code_at(str_from(in, i));
			i += 2;
		}
		if (c < 0)
			return false;
		p[n++] = (char)c;
	}
	*out = (struct str){ p, n };
	return true;
}

/* What a code may stand for: nothing that needs no code, nothing that separates. */
static bool code_ok(int c, bool slashes)
{
	if (c == '/')
		return slashes;
	return c > 0x20 && c != 0x7f && !unreserved((char)c) && !strchr("\\%;?#", c);
}

static bool segment_ok(struct str s)
{
	return s.n && !str_eq(s, STR(".")) && !str_eq(s, STR(".."));
}

static bool not_normal(struct reader *rd, struct str raw, const char *what)
{
	return refuse(rd, ERR_INVALID, "path_not_normal",
		      "the path \"%.*s\" %s, so proxy and server may not mean the same; send it in "
		      "its plain form",
		      STR_FMT(str_first(raw, 100)), what);
}

static bool segments_ok(struct reader *rd, struct str raw)
{
	struct str rest = str_from(raw, 1), one;

	while (rest.n) {
		one = rest;
		if (!str_cut(rest, '/', &one, &rest))
			rest.n = 0;
		if (!segment_ok(one))
			return not_normal(rd, raw, one.n ? "has a dot segment" : "has two slashes");
	}
	return true;
}

bool path_normal(struct reader *rd, struct str raw, bool slashes, struct str *out)
{
	static const char digits[] = "0123456789ABCDEF";
	struct str decoded;
	char *p;

	if (!raw.n || raw.p[0] != '/')
		return refuse(rd, ERR_INVALID, "path_not_normal",
			      "the path must start with a slash; \"%.*s\" does not",
			      STR_FMT(str_first(raw, 60)));
	p = arena_alloc(rd->a, raw.n + 1);
	if (!p)
		return refuse_memory(rd);
	for (size_t i = 0; i < raw.n; i++) {
		int c;

		p[i] = raw.p[i];
		if (raw.p[i] == '/' || plain(raw.p[i]))
			continue;
		if (raw.p[i] != '%')
			return not_normal(rd, raw,
					  "has a character that stands for more than itself");
		c = code_at(str_from(raw, i));
		if (c < 0)
			return not_normal(rd, raw, "has a '%' without two hexadecimal digits");
		if (!code_ok(c, slashes))
			return not_normal(rd, raw, "has a percent code that must not be one");
		p[i + 1] = digits[c >> 4];
		p[i + 2] = digits[c & 15];
		i += 2;
	}
	*out = (struct str){ p, raw.n };
	if (!percent_decode(rd->a, *out, &decoded))
		return refuse_memory(rd);
	if (!text_is_utf8(decoded))
		return not_normal(rd, raw, "has percent codes that are not UTF-8");
	return segments_ok(rd, *out);
}
