/* Which URLs are fit to be fetched from: a closed list, what is not recognised is refused. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/net/fetch.h"

static bool bad_url(struct str text, const char *why, struct err *e)
{
	AUTO_BUF shown;

	buf_init(&shown, mem_system, 256);
	for (size_t i = 0; i < text.n && i < 100; i++)
		buf_char(&shown, text.p[i] > 0x20 && text.p[i] < 0x7f ? text.p[i] : '?');
	return err_code(e, ERR_INVALID, "invalid_url",
			"URL %.*s: %s; expected https://HOST[:PORT][/PATH]",
			STR_FMT(buf_str(&shown)), why);
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A name of labels (letters, digits, inner hyphens), or a dotted quad. A last label of digits, or
 * of "0x" and more, that is no dotted quad is an address in disguise: resolvers read "127.1" and
 * "0x7f000001" as such. */
static const char *read_name(struct str s, struct fetch_url *out)
{
	struct in_addr v4;
	size_t label = 0;

	if (s.n == 0 || s.n >= sizeof(out->host))
		return "a host has 1 to 255 bytes";
	for (size_t i = 0; i <= s.n; i++) {
		if (i < s.n && s.p[i] != '.') {
			if (!is_alnum(s.p[i]) && s.p[i] != '-')
				return "its host has a character that names do not have";
			out->host[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + 32
									     : s.p[i]);
			continue;
		}
		if (i == label || i - label > 63 || s.p[label] == '-' || s.p[i - 1] == '-')
			return "its host has an empty or malformed label";
		out->host[i] = i < s.n ? '.' : '\0';
		label = i < s.n ? i + 1 : label;
	}
	out->literal = inet_pton(AF_INET, out->host, &v4) == 1;
	if (!out->literal && is_digit(out->host[label])) {
		const char *last = out->host + label;

		if (last[strspn(last, "0123456789")] == '\0' || strncmp(last, "0x", 2) == 0)
			return "its host is neither a name nor an address of four numbers";
	}
	return NULL;
}

static const char *read_v6(struct str s, struct fetch_url *out)
{
	struct in6_addr v6;

	if (s.n == 0 || s.n >= INET6_ADDRSTRLEN)
		return "its address is no IPv6 address";
	memcpy(out->host, s.p, s.n);
	out->host[s.n] = '\0';
	out->literal = true;
	return inet_pton(AF_INET6, out->host, &v6) == 1 ? NULL : "its address is no IPv6 address";
}

static const char *read_authority(struct str s, struct fetch_url *out)
{
	struct str host = s, port = out->plain ? STR("80") : STR("443"), tail = { NULL, 0 };
	const char *why;
	uint64_t number;

	if (s.n && memchr(s.p, '@', s.n))
		return "it has user info";
	if (s.n && s.p[0] == '[') {
		if (!str_cut(str_from(s, 1), ']', &host, &tail) || (tail.n && tail.p[0] != ':'))
			return "its address is no IPv6 address";
		if (tail.n)
			port = str_from(tail, 1);
		why = read_v6(host, out);
	} else {
		if (str_cut(s, ':', &host, &tail))
			port = tail;
		why = read_name(host, out);
	}
	if (why)
		return why;
	if (!text_u64(port, 65535, &number) || number == 0)
		return "its port is no number from 1 to 65535";
	snprintf(out->port, sizeof(out->port), "%u", (unsigned)number);
	return NULL;
}

static const char *read_path(struct str s, struct fetch_url *out)
{
	size_t n = 0;

	if (s.n == 0 || s.p[0] != '/')
		out->path[n++] = '/'; /* "https://host?query" */
	if (s.n + n >= sizeof(out->path))
		return "it is too long";
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '#')
			return "it has a fragment";
		if (s.p[i] <= 0x20 || s.p[i] >= 0x7f || strchr("\"<>\\^`{|}", s.p[i]))
			return "it has a character that URLs do not have";
		out->path[n++] = s.p[i];
	}
	out->path[n] = '\0';
	return NULL;
}

static bool parse(struct str text, struct str scheme, struct fetch_url *u, struct err *e)
{
	struct str rest = str_from(text, scheme.n);
	const char *why;
	size_t end = 0;

	if (text.n > FETCH_URL_MAX)
		return bad_url(text, "it is longer than 2,048 bytes", e);
	if (!str_starts(text, scheme))
		return bad_url(text, "it does not begin with https://", e);
	while (end < rest.n && !memchr("/?#\\", rest.p[end], 4))
		end++;
	why = read_authority(str_first(rest, end), u);
	if (!why)
		why = read_path(str_from(rest, end), u);
	return why ? bad_url(text, why, e) : true;
}

bool fetch_url_parse(struct str text, struct fetch_url *out, struct err *e)
{
	struct fetch_url u = { .host = "" };

	if (!parse(text, STR("https://"), &u, e))
		return false;
	*out = u;
	return true;
}

bool fetch_url_parse_local(struct str text, struct fetch_url *out, struct err *e)
{
	struct fetch_url u = { .host = "", .plain = true };

	if (!str_starts(text, STR("http://")))
		return fetch_url_parse(text, out, e);
	if (!parse(text, STR("http://"), &u, e))
		return false;
	if (!u.literal || (strncmp(u.host, "127.", 4) != 0 && strcmp(u.host, "::1") != 0))
		return bad_url(text,
			       "what goes over it is not encrypted, so its host must be this "
			       "machine by address, 127.0.0.1 or [::1]",
			       e);
	*out = u;
	return true;
}
