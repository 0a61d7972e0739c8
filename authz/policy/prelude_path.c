/* path and url: what a tool would make of a text that an agent chose. One spelling is accepted;
 * what could be read in two ways is nil, so that a comparison with it raises and the answer is no.
 * Everything here is linear. */
#include <arpa/inet.h>
#include <lauxlib.h>

#include "authz/base/text.h"
#include "authz/policy/prelude.h"
#include "authz/policy/sandbox.h"

#define HOST_MAX 253

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
}

/* %2e, %2f, %5c, %00: a tool that decodes would see another path than the rule. */
static bool hides(struct str s, size_t i)
{
	static const char *const codes[] = { "2e", "2f", "5c", "00", "25" };

	if (s.p[i] != '%' || s.n - i < 3)
		return false;
	for (size_t k = 0; k < ARRAY_LEN(codes); k++)
		if (lower(s.p[i + 1]) == codes[k][0] && lower(s.p[i + 2]) == codes[k][1])
			return true;
	return false;
}

static bool plain(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f || s.p[i] == '\\' || hides(s, i))
			return false;
	return s.n > 0;
}

/* Into @out (room for s.n + 1): "/a/b", "a/b", "/" or ".". False: there is no one reading. */
static bool normal_into(struct str s, char *out, size_t *n)
{
	bool rooted = s.n && s.p[0] == '/';
	size_t at = 0;

	if (!plain(s))
		return false;
	for (size_t i = 0; i <= s.n;) {
		const char *slash = i < s.n ? memchr(s.p + i, '/', s.n - i) : NULL;
		struct str part = { s.p + i, slash ? (size_t)(slash - s.p) - i : s.n - i };

		i += part.n + 1;
		if (str_eq(part, STR("..")))
			return false;
		if (part.n == 0 || str_eq(part, STR(".")))
			continue;
		if (at || rooted)
			out[at++] = '/';
		memcpy(out + at, part.p, part.n);
		at += part.n;
	}
	if (at == 0)
		out[at++] = rooted ? '/' : '.';
	*n = at;
	return true;
}

/* Leaves the normal form on the stack, or nil. */
static bool push_normal(lua_State *L, struct str s)
{
	luaL_Buffer b;
	char *p = luaL_buffinitsize(L, &b, s.n + 1);
	size_t n = 0;
	bool ok = normal_into(s, p, &n);

	luaL_pushresultsize(&b, n);
	if (ok)
		return true;
	lua_pop(L, 1);
	lua_pushnil(L);
	return false;
}

static int path_normal(lua_State *L)
{
	push_normal(L, prelude_text(L, 1, "path.normal"));
	return 1;
}

/* within(folder, path): the folder itself or something below it. */
static int path_within(lua_State *L)
{
	struct str folder = prelude_text(L, 1, "path.within"), path;

	path = prelude_text(L, 2, "path.within");
	lua_settop(L, 2);
	if (!push_normal(L, folder))
		return luaL_error(L,
				  "path.within: the first argument is no folder such as /shared");
	folder.p = lua_tolstring(L, -1, &folder.n);
	if (!push_normal(L, path)) {
		lua_pushboolean(L, 0);
		return 1;
	}
	path.p = lua_tolstring(L, -1, &path.n);
	if (str_eq(folder, STR("/")))
		lua_pushboolean(L, path.p[0] == '/');
	else
		lua_pushboolean(L, str_starts(path, folder) &&
					   (path.n == folder.n || path.p[folder.n] == '/'));
	return 1;
}

static bool letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool scheme_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!letter(s.p[i]) && !(i && (digit(s.p[i]) || strchr("+-.", s.p[i]))))
			return false;
	return s.n > 0;
}

/* Visible ASCII only. */
static bool visible(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= 0x20 || (unsigned char)s.p[i] >= 0x7f ||
		    s.p[i] == '\\')
			return false;
	return true;
}

static bool ip_ok(int family, struct str s)
{
	unsigned char ip[16];
	char text[INET6_ADDRSTRLEN];

	if (s.n >= sizeof(text))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	return inet_pton(family, text, ip) == 1;
}

/* A name of labels. Where the last one begins with a digit it is a dotted quad or nothing:
 * resolvers read 2130706433, 0x7f.1 and 127.1 as 127.0.0.1. */
static bool host_ok(struct str s, bool *ip)
{
	size_t label = 0;

	*ip = false;
	for (size_t i = 0; i <= s.n; i++) {
		if (i < s.n && s.p[i] != '.') {
			if (!letter(s.p[i]) && !digit(s.p[i]) && s.p[i] != '-' && s.p[i] != '_')
				return false;
			continue;
		}
		if (i == label || i - label > 63)
			return false; /* an empty label, or a dot at the end */
		if (i == s.n && digit(s.p[label])) {
			*ip = true;
			return ip_ok(AF_INET, s);
		}
		label = i + 1;
	}
	return s.n <= HOST_MAX;
}

struct url {
	struct str scheme, host, path, query;
	uint64_t port;
	bool ip;
};

static bool read_authority(struct str s, struct url *u)
{
	struct str port = { NULL, 0 };
	bool has_port;

	if (s.n && s.p[0] == '[') {
		const char *end = memchr(s.p, ']', s.n);

		if (!end)
			return false;
		u->host = (struct str){ s.p + 1, (size_t)(end - s.p) - 1 };
		u->ip = true;
		port = (struct str){ end + 1, s.n - u->host.n - 2 };
		has_port = port.n > 0;
		if (has_port && port.p[0] != ':')
			return false;
		port = str_from(port, 1);
		if (!ip_ok(AF_INET6, u->host))
			return false;
	} else {
		u->host = s;
		has_port = str_cut(s, ':', &u->host, &port);
		if (!host_ok(u->host, &u->ip)) /* an @ is no letter of a host */
			return false;
	}
	return !has_port || (text_u64(port, 65535, &u->port) && u->port > 0);
}

static bool read_url(struct str s, struct url *u)
{
	struct str rest, authority;
	size_t n = 0;

	if (!visible(s) || !str_cut(s, ':', &u->scheme, &rest) || !scheme_ok(u->scheme) ||
	    !str_starts(rest, STR("//")))
		return false;
	rest = (struct str){ rest.p + 2, rest.n - 2 };
	while (n < rest.n && !strchr("/?#", rest.p[n]))
		n++;
	authority = (struct str){ rest.p, n };
	rest = (struct str){ rest.p + n, rest.n - n };
	for (n = 0; n < rest.n && rest.p[n] != '#'; n++)
		;
	rest.n = n; /* what stands after # stays with the client */
	u->path = rest;
	str_cut(rest, '?', &u->path, &u->query);
	return read_authority(authority, u);
}

static void set_text(lua_State *L, const char *name, struct str s, bool fold)
{
	luaL_Buffer b;
	char *p = luaL_buffinitsize(L, &b, s.n);

	for (size_t i = 0; i < s.n; i++)
		p[i] = fold ? lower(s.p[i]) : s.p[i];
	luaL_pushresultsize(&b, s.n);
	lua_setfield(L, -2, name);
}

/* { scheme, host, port, path, query, ip }, or nil. */
static int url_parse(lua_State *L)
{
	struct url u = { 0 };

	if (!read_url(prelude_text(L, 1, "url.parse"), &u)) {
		lua_pushnil(L);
		return 1;
	}
	lua_createtable(L, 0, 6);
	set_text(L, "scheme", u.scheme, true);
	set_text(L, "host", u.host, true);
	set_text(L, "path", u.path.n ? u.path : STR("/"), false);
	if (u.query.p)
		set_text(L, "query", u.query, false);
	lua_getfield(L, -1, "scheme");
	if (!u.port)
		u.port = strcmp(lua_tostring(L, -1), "https") == 0  ? 443
			 : strcmp(lua_tostring(L, -1), "http") == 0 ? 80
								    : 0;
	lua_pop(L, 1);
	if (u.port) {
		lua_pushinteger(L, (lua_Integer)u.port);
		lua_setfield(L, -2, "port");
	}
	lua_pushboolean(L, u.ip);
	lua_setfield(L, -2, "ip");
	return 1;
}

static const struct prelude_word path_words[] = {
	{ "normal", path_normal },
	{ "within", path_within },
	{ NULL, NULL },
};
static const struct prelude_word url_words[] = {
	{ "parse", url_parse },
	{ NULL, NULL },
};

void prelude_open_path(lua_State *L)
{
	lua_createtable(L, 0, ARRAY_LEN(path_words));
	prelude_set(L, path_words);
}

void prelude_open_url(lua_State *L)
{
	lua_createtable(L, 0, ARRAY_LEN(url_words));
	prelude_set(L, url_words);
}
