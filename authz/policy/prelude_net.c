/* glob, cidr, spiffe. */
#include <arpa/inet.h>
#include <lauxlib.h>

#include "authz/base/pattern.h"
#include "authz/base/text.h"
#include "authz/policy/prelude.h"
#include "authz/policy/sandbox.h"

/* `*` is any run of bytes, all else is itself. The parts between stars are looked for from left
 * to right, each once: linear, whatever the text. */
static bool glob_match(struct str pattern, struct str s)
{
	struct str part, rest;

	if (!str_cut(pattern, '*', &part, &rest))
		return str_eq(pattern, s);
	if (!str_starts(s, part))
		return false;
	/* By hand, not str_from: an empty rest keeps its pointer. */
	s = (struct str){ s.p + part.n, s.n - part.n };
	while (str_cut(rest, '*', &part, &rest)) {
		const char *at = memmem(s.p, s.n, part.p, part.n);

		if (!at)
			return false;
		s = (struct str){ at + part.n, s.n - (size_t)(at - s.p) - part.n };
	}
	return str_ends(s, rest);
}

static int glob(lua_State *L)
{
	struct str pattern = prelude_text(L, 1, "glob");

	lua_pushboolean(L, glob_match(pattern, prelude_text(L, 2, "glob")));
	return 1;
}

struct ip {
	uint8_t b[16];
	bool v6;
};

/* An address in its 16 bytes; ::ffff:10.0.0.1 is 10.0.0.1, or a rule on 10.0.0.0/8 would have a
 * way around it. */
static bool ip_read(struct str s, struct ip *ip)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	char text[INET6_ADDRSTRLEN];

	if (s.n == 0 || s.n >= sizeof(text) || memchr(s.p, '\0', s.n))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	memcpy(ip->b, mapped, sizeof(mapped));
	if (inet_pton(AF_INET, text, ip->b + 12) == 1) {
		ip->v6 = false;
		return true;
	}
	if (inet_pton(AF_INET6, text, ip->b) != 1)
		return false;
	ip->v6 = memcmp(ip->b, mapped, sizeof(mapped)) != 0;
	return true;
}

/* cidr("10.0.0.0/8", ip). A malformed address raises: in a deny rule a silent false would let
 * the caller through. */
static int cidr(lua_State *L)
{
	struct str net = prelude_text(L, 1, "cidr"), text = prelude_text(L, 2, "cidr");
	struct str address, length;
	struct ip a, b;
	uint64_t bits = 0;

	if (!str_cut(net, '/', &address, &length) || !ip_read(address, &a) ||
	    !text_u64(length, a.v6 ? 128 : 32, &bits))
		return luaL_error(L, "cidr: the first argument is no network such as 10.0.0.0/8");
	if (!ip_read(text, &b))
		return luaL_error(L, "cidr: the second argument is no IP address");
	if (!a.v6)
		bits += 96;
	for (unsigned i = 0; i < bits; i++) {
		unsigned mask = 0x80u >> i % 8;

		if ((a.b[i / 8] & mask) != (b.b[i / 8] & mask)) {
			lua_pushboolean(L, 0);
			return 1;
		}
	}
	lua_pushboolean(L, 1);
	return 1;
}

/* spiffe(id): { trust_domain = , path = }, or nil if the text is no SPIFFE ID. */
static int spiffe(lua_State *L)
{
	struct str id = prelude_text(L, 1, "spiffe"), rest, domain;

	if (!pattern_match(id, id)) { /* well formed and without stars */
		lua_pushnil(L);
		return 1;
	}
	rest = str_from(id, sizeof("spiffe://") - 1);
	domain = rest;
	for (domain.n = 0; domain.n < rest.n && rest.p[domain.n] != '/';)
		domain.n++;
	lua_createtable(L, 0, 2);
	lua_pushlstring(L, domain.p, domain.n);
	lua_setfield(L, -2, "trust_domain");
	lua_pushlstring(L, rest.p + domain.n, rest.n - domain.n);
	lua_setfield(L, -2, "path");
	return 1;
}

static const struct prelude_word words[] = {
	{ "glob", glob },
	{ "cidr", cidr },
	{ "spiffe", spiffe },
	{ NULL, NULL },
};

void prelude_open_net(lua_State *L)
{
	prelude_set(L, words);
}
