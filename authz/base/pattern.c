#include "authz/base/pattern.h"

#define SCHEME "spiffe://"
#define ID_MAX 2048 /* bytes; SPIFFE-ID 2.3 */

static bool is_domain_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

static bool is_path_char(char c)
{
	return is_domain_char(c) || (c >= 'A' && c <= 'Z');
}

/* Take the first segment off @path, which starts with '/'. */
static struct str next_segment(struct str *path)
{
	struct str rest = str_from(*path, 1), segment = rest;
	const char *slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;

	if (slash)
		segment.n = (size_t)(slash - rest.p);
	*path = str_from(rest, segment.n);
	return segment;
}

static bool is_star(struct str s)
{
	return s.n == 1 && s.p[0] == '*';
}

static bool segment_ok(struct str s)
{
	if (s.n == 0 || str_eq(s, STR(".")) || str_eq(s, STR("..")))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!is_path_char(s.p[i]))
			return false;
	return true;
}

/* Split after the trust domain; false if the text is no SPIFFE ID (or pattern, if @stars). */
static bool split(struct str text, bool stars, struct str *domain, struct str *path)
{
	struct str rest, walk;
	size_t n = 0;

	if (text.n > ID_MAX || !str_starts(text, STR(SCHEME)))
		return false;
	rest = str_from(text, sizeof(SCHEME) - 1);
	while (n < rest.n && is_domain_char(rest.p[n]))
		n++;
	if (n == 0 || n > 255 || (n < rest.n && rest.p[n] != '/'))
		return false;
	walk = str_from(rest, n);
	while (walk.n) {
		struct str s = next_segment(&walk);

		if (!segment_ok(s) && !(stars && is_star(s)))
			return false;
	}
	*domain = str_first(rest, n);
	*path = str_from(rest, n);
	return true;
}

bool pattern_check(struct str pattern, struct err *e)
{
	struct str domain, path;

	if (split(pattern, true, &domain, &path))
		return true;
	return err_set(
		e, ERR_INVALID,
		"\"%.*s\" is no pattern of SPIFFE IDs: write spiffe://TRUST-DOMAIN/SEGMENT/..., "
		"where a whole segment may be *",
		(int)(pattern.n < 200 ? pattern.n : 200), pattern.p ? pattern.p : "");
}

bool pattern_match(struct str pattern, struct str spiffe_id)
{
	struct str pd, pp, d, p;

	if (!split(pattern, true, &pd, &pp) || !split(spiffe_id, false, &d, &p) || !str_eq(pd, d))
		return false;
	while (pp.n && p.n) {
		struct str want = next_segment(&pp), have = next_segment(&p);

		if (is_star(want) && pp.n == 0)
			return true; /* at the end: this segment and all that follow */
		if (!is_star(want) && !str_eq(want, have))
			return false;
	}
	return pp.n == 0 && p.n == 0;
}
