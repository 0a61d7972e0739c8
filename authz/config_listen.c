/* Where writ listens and who may call: addresses, fixed callers, roles. */
#include <arpa/inet.h>
#include <lauxlib.h>
#include <pwd.h>
#include <sys/un.h>

#include "authz/base/pattern.h"
#include "authz/base/text.h"
#include "authz/config_table.h"
#include "spiffe/id.h"

static const char *const role_names[] = ROLE_NAMES;

/* --- addresses --- */

/* "127.0.0.1:8080", "[::1]:8080", "localhost:8080". *loopback: nobody else can connect. */
static bool check_tcp(struct config_reader *r, const char *path, struct str text, bool *loopback)
{
	struct str host = text, port = { 0 };
	unsigned char ip[16];
	char name[INET6_ADDRSTRLEN];
	uint64_t number;
	bool six = text.n && text.p[0] == '[';

	for (size_t i = text.n; i > 0 && !port.p; i--)
		if (text.p[i - 1] == ':') {
			host = str_first(text, i - 1);
			port = (struct str){ text.p + i, text.n - i };
		}
	if (!port.p || !text_u64(port, 65535, &number))
		return config_fail(r, path,
				   "\"%.*s\" is no address; expected \"HOST:PORT\", as in "
				   "\"127.0.0.1:8080\", or the path of a socket",
				   STR_FMT(str_first(text, 100)));
	if (six && host.n > 2 && host.p[host.n - 1] == ']')
		host = (struct str){ host.p + 1, host.n - 2 };
	if (host.n >= sizeof(name))
		host.n = 0;
	memcpy(name, host.p, host.n);
	name[host.n] = '\0';
	if (inet_pton(six ? AF_INET6 : AF_INET, name, ip) != 1)
		return config_fail(r, path,
				   "\"%.*s\": the host must be an IP address (0.0.0.0 and [::] are "
				   "all of this machine's)",
				   STR_FMT(str_first(text, 100)));
	*loopback = six ? memcmp(ip, &in6addr_loopback, 16) == 0 : ip[0] == 127;
	return true;
}

static bool check_door(struct config_reader *r, const char *path, const struct config_listener *l)
{
	switch (l->door) {
	case DOOR_HTTP:
		if (!l->loopback)
			return config_fail(r, path,
					   "%s can be reached from outside, and what goes over it "
					   "is not encrypted; use listen.https there, or 127.0.0.1",
					   l->address);
		return true;
	case DOOR_HTTPS:
		if (l->unix_socket)
			return config_fail(r, path,
					   "%s is a Unix socket, which needs no TLS; name it in "
					   "listen.http",
					   l->address);
		return true;
	case DOOR_WEB:
		if (l->unix_socket)
			return config_fail(r, path,
					   "%s is a Unix socket, where nobody knows Web PKI",
					   l->address);
		return true;
	case DOOR_WORKLOAD:
	case DOOR_ADMIN:
		if (!l->unix_socket)
			return config_fail(r, path,
					   "must be the path of a Unix socket: it knows callers by "
					   "what the kernel says of them, and %s cannot tell",
					   l->address);
		return true;
	case DOOR_OPERATORS:
	case DOOR_COUNT:
		break;
	}
	return true;
}

static bool check_options(struct config_reader *r, const char *path,
			  const struct config_listener *l)
{
	if (!l->caller_roles && !l->caller_id)
		return true;
	if (l->door != DOOR_HTTP && l->door != DOOR_OPERATORS)
		return config_fail(r, path,
				   "a fixed caller can be given to listen.http and "
				   "listen.operators only; here callers prove who they are");
	if (l->tls || !l->loopback)
		return config_fail(r, path,
				   "a fixed caller lets in whoever connects, so the address must "
				   "be loopback or a Unix socket, not %s",
				   l->address);
	return true;
}

static bool is_taken(const struct config_reader *r, const char *address)
{
	for (size_t i = 0; i < r->nlisteners; i++) {
		struct str port;

		if (strcmp(r->listeners[i].address, address) != 0)
			continue;
		port = str_c(address);
		if (!str_ends(port, STR(":0"))) /* any free port: twice is fine */
			return true;
	}
	return false;
}

bool config_add_listener(struct config_reader *r, const char *path, enum config_door door,
			 const char *address, const struct config_listener *options)
{
	struct config_listener l = options ? *options : (struct config_listener){ 0 };
	struct sockaddr_un un;

	l.door = door;
	l.unix_socket = strchr(address, '/') != NULL;
	l.address = l.unix_socket ? config_path(r, address) : address;
	if (!l.address)
		return false;
	if (l.unix_socket && strlen(l.address) >= sizeof(un.sun_path))
		return config_fail(r, path,
				   "the socket's path %s is %zu bytes long; the system takes %zu "
				   "at most: choose a shorter folder",
				   l.address, strlen(l.address), sizeof(un.sun_path) - 1);
	if (l.unix_socket)
		l.loopback = true;
	else if (!check_tcp(r, path, str_c(address), &l.loopback))
		return false;
	l.tls = door == DOOR_HTTPS || door == DOOR_WEB || (door == DOOR_OPERATORS && !l.loopback);
	if (!check_door(r, path, &l) || !check_options(r, path, &l))
		return false;
	if (is_taken(r, l.address))
		return config_fail(r, path, "%s is used by another listener already", l.address);
	if (r->nlisteners == ARRAY_LEN(r->listeners))
		return config_fail(r, path, "too many addresses; at most %zu in all",
				   ARRAY_LEN(r->listeners));
	r->listeners[r->nlisteners++] = l;
	return true;
}

/* --- options of a listener, members of a caller --- */

static bool parse_role(struct config_reader *r, const char *path, const char *text, unsigned *roles)
{
	const char *near;

	for (unsigned i = 0; role_names[i]; i++)
		if (strcmp(text, role_names[i]) == 0) {
			*roles |= 1u << i;
			return true;
		}
	near = text_nearest(str_c(text), role_names);
	return config_fail(r, path,
			   "\"%.60s\" is no role%s%s%s (agent, pep, admin, approver, auditor, "
			   "metrics)",
			   text, near ? "; did you mean \"" : "", near ? near : "",
			   near ? "\"?" : "");
}

static const char *read_server(struct config_reader *r, const char *path)
{
	const char *text = config_string(r, path, 1, 128);

	if (text && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != strlen(text)) {
		config_fail(r, path,
			    "\"%s\": a tool server's name has small letters, digits, \"_\", \".\" "
			    "and \"-\"",
			    text);
		return NULL;
	}
	return text;
}

static bool read_fixed_caller(struct config_reader *r, const char *path, struct config_listener *l)
{
	const char *text = config_string(r, path, 1, SPIFFE_ID_MAX);
	struct spiffe_id id;
	struct err why = { 0 };

	if (!text)
		return false;
	if (!str_starts(str_c(text), STR("spiffe:"))) {
		if (!parse_role(r, path, text, &l->caller_roles))
			return false;
		if (l->caller_roles == ROLE_AGENT)
			return config_fail(r, path,
					   "an agent asks about itself, so name it: caller = "
					   "\"spiffe://...\"");
		return true;
	}
	if (!spiffe_id_parse_workload(str_c(text), &id, &why))
		return config_fail(r, path, "%s", why.msg);
	l->caller_id = text;
	return true;
}

static bool read_listen_option(struct config_reader *r, const char *path, const char *name,
			       struct config_listener *l)
{
	static const char *const names[] = { "caller", "protocol", "server", NULL };
	static const char *const protocols[] = { "a2a", "anthropic", "bedrock", "gemini", "http",
						 "mcp", "ollama",    "openai",	NULL };
	const char *near;

	if (strcmp(name, "caller") == 0)
		return read_fixed_caller(r, path, l);
	if (strcmp(name, "server") == 0)
		return (l->server = read_server(r, path)) != NULL;
	if (strcmp(name, "protocol") == 0) {
		l->protocol = config_string(r, path, 1, 32);
		if (!l->protocol)
			return false;
		for (size_t i = 0; protocols[i]; i++)
			if (strcmp(protocols[i], l->protocol) == 0)
				return true;
		near = text_nearest(str_c(l->protocol), protocols);
		return config_fail(r, path, "\"%s\" is no protocol writ reads%s%s%s", l->protocol,
				   near ? "; did you mean \"" : "", near ? near : "",
				   near ? "\"?" : "");
	}
	near = text_nearest(str_c(name), names);
	return config_fail(r, path, "no such option%s%s%s (caller, protocol, server)",
			   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* First the options, since they belong to every address of the table. */
static bool read_listen_table(struct config_reader *r, const struct setting *s)
{
	struct config_listener options = { 0 };
	const char *path, *name, *address;
	lua_Unsigned n = lua_rawlen(r->L, -1);
	bool ok = true;

	lua_pushnil(r->L);
	while (lua_next(r->L, -2)) {
		lua_Integer index = lua_type(r->L, -2) == LUA_TNUMBER ? lua_tointeger(r->L, -2) : 0;

		path = config_member_path(r, s->name, &name);
		ok = path != NULL;
		if (ok && name)
			ok = read_listen_option(r, path, name, &options);
		else if (ok && (index < 1 || (lua_Unsigned)index > n))
			ok = config_fail(r, path, "no such option (caller, protocol, server)");
		lua_pop(r->L, 1);
		if (!ok)
			return false;
	}
	if (n < 1 || n > 8)
		return config_fail(r, s->name,
				   "expected 1 to 8 addresses, as in { \"127.0.0.1:8080\", caller "
				   "= \"pep\" }");
	for (lua_Unsigned i = 1; i <= n && ok; i++) {
		path = arena_printf(&r->c->arena, "%s[%d]", s->name, (int)i).p;
		if (!path)
			return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
		lua_rawgeti(r->L, -1, (lua_Integer)i);
		address = config_string(r, path, 1, 4096);
		ok = address &&
		     config_add_listener(r, path, (enum config_door)s->offset, address, &options);
		lua_pop(r->L, 1);
	}
	return ok;
}

bool config_read_listen(struct config_reader *r, const struct setting *s)
{
	const char *address;

	r->door_set[s->offset] = true;
	if (lua_type(r->L, -1) == LUA_TTABLE)
		return read_listen_table(r, s);
	if (lua_type(r->L, -1) == LUA_TSTRING) {
		address = config_string(r, s->name, 1, 4096);
		return address &&
		       config_add_listener(r, s->name, (enum config_door)s->offset, address, NULL);
	}
	if (lua_type(r->L, -1) == LUA_TBOOLEAN && !lua_toboolean(r->L, -1))
		return true; /* switched off */
	return config_fail_type(r, s->name, "an address, a table of addresses, or false");
}

/* --- callers --- */

static bool read_roles(struct config_reader *r, const char *path, unsigned *roles)
{
	const char *text;
	bool ok = true;

	if (lua_type(r->L, -1) != LUA_TTABLE) {
		text = config_string(r, path, 1, 64);
		return text && parse_role(r, path, text, roles);
	}
	for (lua_Unsigned i = 1; i <= lua_rawlen(r->L, -1) && ok; i++) {
		lua_rawgeti(r->L, -1, (lua_Integer)i);
		text = config_string(r, path, 1, 64);
		ok = text && parse_role(r, path, text, roles);
		lua_pop(r->L, 1);
	}
	return ok;
}

static bool read_user(struct config_reader *r, const char *path, struct config_caller *k)
{
	const char *name = config_string(r, path, 1, 256);
	struct passwd entry, *found = NULL;
	char text[4096];

	if (!name)
		return false;
	if (getpwnam_r(name, &entry, text, sizeof(text), &found) || !found)
		return config_fail(
			r, path, "this machine has no user \"%s\"; mend the name, or use unix_uid",
			name);
	k->uid = found->pw_uid;
	return true;
}

struct caller_draft {
	struct config_caller *k;
	unsigned whos; /* members that say who it is */
};

static bool read_caller_member(struct config_reader *r, const char *path, const char *name,
			       void *draft)
{
	struct caller_draft *d = draft;
	struct config_caller *k = d->k;
	static const char *const names[] = { "answers",	 "role",      "server", "spiffe_id",
					     "unix_uid", "unix_user", NULL };
	struct err why = { 0 };
	const char *text;
	int exact;

	if (strcmp(name, "spiffe_id") == 0) {
		d->whos++;
		k->spiffe_id = config_string(r, path, 1, SPIFFE_ID_MAX);
		if (k->spiffe_id && !pattern_check(str_c(k->spiffe_id), &why))
			return config_fail(r, path, "%s", why.msg);
		return k->spiffe_id != NULL;
	}
	if (strcmp(name, "unix_user") == 0) {
		d->whos++;
		return read_user(r, path, k);
	}
	if (strcmp(name, "unix_uid") == 0) {
		lua_Integer uid = lua_tointegerx(r->L, -1, &exact);

		d->whos++;
		if (lua_type(r->L, -1) != LUA_TNUMBER || !exact || uid < 0 ||
		    uid > (lua_Integer)UINT32_MAX - 1)
			return config_fail_type(r, path, "the number of a user");
		k->uid = (uid_t)uid;
		return true;
	}
	if (strcmp(name, "role") == 0)
		return read_roles(r, path, &k->roles);
	if (strcmp(name, "server") == 0)
		return (k->server = read_server(r, path)) != NULL;
	if (strcmp(name, "answers") == 0) {
		text = config_string(r, path, 1, 16);
		k->bare = text && strcmp(text, "bare") == 0;
		return text && (k->bare || strcmp(text, "full") == 0 ||
				config_fail(r, path, "expected \"bare\" or \"full\""));
	}
	return config_no_member(r, path, name, names);
}

static bool read_caller(struct config_reader *r, const char *path, size_t i, void *ctx)
{
	struct config_caller *callers = ctx;
	struct caller_draft d = { .k = &callers[i] };

	if (!config_each_member(r, path, "a table, as { spiffe_id = ..., role = ... }",
				read_caller_member, &d))
		return false;
	if (d.whos != 1)
		return config_fail(r, path,
				   "expected exactly one of spiffe_id, unix_user and unix_uid");
	if (!d.k->roles)
		return config_fail(r, path, "has no role; a caller without one may do nothing");
	return true;
}

bool config_read_callers(struct config_reader *r, const struct setting *s)
{
	size_t n;

	if (!config_read_rows(r, s, &n))
		return false;
	r->c->callers = arena_zero(&r->c->arena, (n + 1) * sizeof(*r->c->callers));
	if (!r->c->callers)
		return err_set(r->e, ERR_NOMEM, "%s: no memory for the callers", r->name);
	r->c->ncallers = n;
	return config_each_row(r, s, n, read_caller, r->c->callers);
}
