#include "spiffe/id.h"

#define SCHEME "spiffe://"

static bool is_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

static bool is_segment(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

static bool is_dots(struct str segment)
{
	return str_eq(segment, STR(".")) || str_eq(segment, STR(".."));
}

static bool bad_byte(struct str text, size_t at, const char *where, const char *allowed,
		     struct err *e)
{
	unsigned char c = (unsigned char)text.p[at];

	if (c > 0x20 && c < 0x7f)
		return err_set(e, ERR_INVALID,
			       "SPIFFE ID: '%c' at byte %zu is not allowed in %s (%s)", c, at,
			       where, allowed);
	return err_set(e, ERR_INVALID,
		       "SPIFFE ID: byte 0x%02x at byte %zu is not allowed in %s (%s)", c, at, where,
		       allowed);
}

/* The end of the trust domain that starts after the scheme: '/' or the end of the text. */
static bool scan_trust_domain(struct str text, size_t *end, struct err *e)
{
	size_t from = sizeof(SCHEME) - 1, i = from;

	for (; i < text.n && text.p[i] != '/'; i++)
		if (!is_lower(text.p[i]))
			return bad_byte(text, i, "the trust domain", "a-z 0-9 . - _", e);
	if (i == from)
		return err_set(e, ERR_INVALID, "SPIFFE ID: the trust domain is empty");
	if (i - from > SPIFFE_TRUST_DOMAIN_MAX)
		return err_set(e, ERR_INVALID,
			       "SPIFFE ID: the trust domain has %zu bytes, at most %d", i - from,
			       SPIFFE_TRUST_DOMAIN_MAX);
	*end = i;
	return true;
}

static bool scan_path(struct str text, size_t from, struct err *e)
{
	for (size_t i = from; i < text.n;) {
		size_t start = ++i; /* past the '/' */
		struct str segment;

		while (i < text.n && text.p[i] != '/' && is_segment(text.p[i]))
			i++;
		segment = (struct str){ text.p + start, i - start };
		if (i < text.n && text.p[i] != '/')
			return bad_byte(text, i, "the path", "A-Z a-z 0-9 . - _", e);
		if (segment.n == 0)
			return err_set(
				e, ERR_INVALID,
				"SPIFFE ID: empty path segment at byte %zu (no \"//\", no '/' "
				"at the end)",
				start);
		if (is_dots(segment))
			return err_set(
				e, ERR_INVALID,
				"SPIFFE ID: \"%.*s\" at byte %zu is not allowed as a path segment",
				STR_FMT(segment), start);
	}
	return true;
}

bool spiffe_id_parse(struct str text, struct spiffe_id *id, struct err *e)
{
	const size_t scheme = sizeof(SCHEME) - 1;
	size_t end = 0;

	if (text.n > SPIFFE_ID_MAX)
		return err_set(e, ERR_INVALID, "SPIFFE ID: %zu bytes, at most %d are allowed",
			       text.n, SPIFFE_ID_MAX);
	if (!str_starts(text, STR(SCHEME)))
		return err_set(e, ERR_INVALID,
			       "SPIFFE ID: \"%.*s\" does not start with \"" SCHEME "\"",
			       STR_FMT(str_first(text, 64)));
	if (!scan_trust_domain(text, &end, e) || !scan_path(text, end, e))
		return false;
	id->trust_domain = (struct str){ text.p + scheme, end - scheme };
	id->path = str_from(text, end);
	return true;
}

bool spiffe_id_parse_workload(struct str text, struct spiffe_id *id, struct err *e)
{
	struct spiffe_id parsed = { 0 };

	if (!spiffe_id_parse(text, &parsed, e))
		return false;
	if (parsed.path.n == 0)
		return err_set(
			e, ERR_INVALID,
			"SPIFFE ID: \"%.*s\" names a trust domain; a workload's ID has a path",
			STR_FMT(str_first(text, 128)));
	*id = parsed;
	return true;
}

bool spiffe_id_equal(const struct spiffe_id *a, const struct spiffe_id *b)
{
	return str_eq(a->trust_domain, b->trust_domain) && str_eq(a->path, b->path);
}

bool spiffe_id_member_of(const struct spiffe_id *id, struct str trust_domain)
{
	return str_eq(id->trust_domain, trust_domain);
}

bool spiffe_path_reserved(struct str path)
{
	return str_eq(path, STR("/writ")) || str_starts(path, STR("/writ/"));
}

bool spiffe_trust_domain_parse(struct str text, struct str *name, struct err *e)
{
	char whole[sizeof(SCHEME) + SPIFFE_TRUST_DOMAIN_MAX];
	size_t n = sizeof(SCHEME) - 1;
	struct str bare = text;
	struct spiffe_id id = { 0 };

	if (str_starts(text, STR(SCHEME)))
		bare = str_from(text, n);
	if (bare.n == 0 || bare.n > SPIFFE_TRUST_DOMAIN_MAX)
		return err_set(e, ERR_INVALID,
			       "trust domain: %zu bytes; a name of 1 to %d bytes such as "
			       "\"example.org\" is expected",
			       bare.n, SPIFFE_TRUST_DOMAIN_MAX);
	memcpy(whole, SCHEME, n);
	memcpy(whole + n, bare.p, bare.n);
	if (!spiffe_id_parse((struct str){ whole, n + bare.n }, &id, e))
		return err_prefix(e, "trust domain");
	if (id.path.n)
		return err_set(e, ERR_INVALID,
			       "trust domain: \"%.*s\" has a path; only the name is "
			       "expected",
			       STR_FMT(str_first(text, 128)));
	if (bare.p[0] == '.' || bare.p[bare.n - 1] == '.' || memmem(bare.p, bare.n, "..", 2))
		return err_set(e, ERR_INVALID,
			       "trust domain: \"%.*s\" has an empty label; Go clients refuse all "
			       "certificates of such a domain",
			       STR_FMT(bare));
	*name = bare;
	return true;
}
