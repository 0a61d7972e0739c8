/*
 * agent import: a Lua file `agents = { { spiffe_id = "...", owner = "..." }, ... }`, data only.
 *
 * The file runs in a state of its own without any library, under a cap on instructions and memory,
 * and as text only (bytecode can crash an interpreter). Every entry is looked at before the first
 * one is sent; the server takes all of them or none.
 */
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdlib.h>

#include "authz/base/digest.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/import_lines.h"

#define IMPORT_FILE (128 * 1024 * 1024)
#define IMPORT_MEMORY (1024 * 1024 * 1024)
#define IMPORT_INSTRUCTIONS 100000000
#define IMPORT_DEPTH 4

struct budget {
	size_t used;
};

static void *bounded(void *ctx, void *p, size_t old, size_t n)
{
	struct budget *b = ctx;
	void *q;

	if (!p)
		old = 0; /* Lua passes a type there */
	if (n == 0) {
		free(p);
		b->used -= old;
		return NULL;
	}
	if (n > old && b->used + (n - old) > IMPORT_MEMORY)
		return NULL;
	q = realloc(p, n);
	if (q)
		b->used = b->used - old + n;
	return q;
}

static void stop(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	luaL_error(L, "the file computes too long; it should hold data only");
}

/* Is the table at the top a list 1..n? An empty table is what @as_list says. */
static bool is_list(lua_State *L, bool as_list, lua_Integer *n)
{
	lua_Integer count = 0;

	*n = (lua_Integer)lua_rawlen(L, -1);
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
		count++;
	return count ? count == *n : as_list;
}

static bool put_json(lua_State *L, struct buf *b, bool as_list, int depth, struct err *e);

static bool put_number(lua_State *L, struct buf *b, struct err *e)
{
	if (lua_isinteger(L, -1)) {
		buf_i64(b, lua_tointeger(L, -1));
		return true;
	}
	if (!isfinite(lua_tonumber(L, -1)))
		return err_set(e, ERR_INVALID, "a number that is not finite");
	json_number(b, lua_tonumber(L, -1));
	return true;
}

static bool put_table(lua_State *L, struct buf *b, bool as_list, int depth, struct err *e)
{
	lua_Integer n;
	bool first = true;

	if (depth == 0 || !lua_checkstack(L, 4))
		return err_set(e, ERR_INVALID, "tables are nested too deep");
	if (is_list(L, as_list, &n)) {
		buf_char(b, '[');
		for (lua_Integer i = 1; i <= n; i++) {
			if (i > 1)
				buf_char(b, ',');
			lua_rawgeti(L, -1, i);
			if (!put_json(L, b, false, depth - 1, e))
				return false;
			lua_pop(L, 1);
		}
		buf_char(b, ']');
		return true;
	}
	buf_char(b, '{');
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1), first = false) {
		struct str key;

		if (lua_type(L, -2) != LUA_TSTRING)
			return err_set(e, ERR_INVALID, "a name is missing: expected name = value");
		key.p = lua_tolstring(L, -2, &key.n);
		if (!first)
			buf_char(b, ',');
		buf_json(b, key);
		buf_char(b, ':');
		if (!put_json(L, b,
			      str_eq(key, STR("selectors")) || str_eq(key, STR("federates_with")),
			      depth - 1, e))
			return err_prefix(e, "%.*s", STR_FMT(str_first(key, 60)));
	}
	buf_char(b, '}');
	return true;
}

/* The value at the top of the stack as JSON. */
static bool put_json(lua_State *L, struct buf *b, bool as_list, int depth, struct err *e)
{
	struct str s;

	switch (lua_type(L, -1)) {
	case LUA_TSTRING:
		s.p = lua_tolstring(L, -1, &s.n);
		if (!text_is_utf8(s))
			return err_set(e, ERR_INVALID, "a text that is not UTF-8");
		buf_json(b, s);
		return true;
	case LUA_TBOOLEAN:
		buf_add(b, lua_toboolean(L, -1) ? STR("true") : STR("false"));
		return true;
	case LUA_TNUMBER:
		return put_number(L, b, e);
	case LUA_TTABLE:
		return put_table(L, b, as_list, depth, e);
	default:
		return err_set(e, ERR_INVALID, "a %s is no data", lua_typename(L, lua_type(L, -1)));
	}
}

static bool check_members(lua_State *L, struct err *e)
{
	static const char *const names[] = { "spiffe_id",  "owner",	     "purpose",
					     "attributes", "selectors",	     "ttl",
					     "jwt_ttl",	   "expires",	     "state",
					     "definition", "federates_with", NULL };

	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
		const char *near;
		struct str key = { NULL, 0 };
		size_t i = 0;

		if (lua_type(L, -2) == LUA_TSTRING)
			key.p = lua_tolstring(L, -2, &key.n);
		while (names[i] && !str_eq(key, str_c(names[i])))
			i++;
		if (names[i])
			continue;
		near = text_nearest(key, names);
		return err_set(
			e, ERR_INVALID,
			"unknown member %.*s%s%s; expected spiffe_id, owner, purpose, "
			"attributes, selectors, ttl, jwt_ttl, expires, federates_with or state",
			STR_FMT(str_first(key, 60)), near ? ", did you mean " : "",
			near ? near : "");
	}
	for (int i = 0; i < 2; i++) {
		int type = lua_getfield(L, -1, names[i]);

		lua_pop(L, 1);
		if (type != LUA_TSTRING)
			return err_set(e, ERR_INVALID, "%s is missing or no text", names[i]);
	}
	return true;
}

/* Bodies of requests, one per line, of every entry in the global `agents`. */
static bool put_agents(lua_State *L, struct buf *lines, struct err *e)
{
	lua_Integer n;

	if (lua_getglobal(L, "agents") != LUA_TTABLE || !is_list(L, true, &n) || n == 0)
		return err_set(
			e, ERR_INVALID,
			"expected agents = { { spiffe_id = \"...\", owner = \"...\" }, ... }");
	for (lua_Integer i = 1; i <= n; i++) {
		if (lua_rawgeti(L, -1, i) != LUA_TTABLE)
			return err_set(e, ERR_INVALID, "agents[%lld]: expected a table",
				       (long long)i);
		if (!check_members(L, e) || !put_json(L, lines, false, IMPORT_DEPTH, e))
			return err_prefix(e, "agents[%lld]", (long long)i);
		buf_char(lines, '\n');
		lua_pop(L, 1);
	}
	return buf_ok(lines) ? true : err_set(e, ERR_TOO_LARGE, "too many agents in one file");
}

struct loading {
	struct str text;
	const char *name; /* "@file", for messages */
	struct buf *lines;
	struct err *e;
	bool ok;
};

/* In protected mode, as any call on a state may run out of memory and jump. Owns nothing. */
static int load_agents(lua_State *L)
{
	struct loading *l = lua_touserdata(L, 1);

	if (luaL_loadbufferx(L, l->text.p, l->text.n, l->name, "t") != LUA_OK)
		return lua_error(L);
	lua_call(L, 0, 0);
	l->ok = put_agents(L, l->lines, l->e);
	return 0;
}

static bool read_agents(const char *path, struct str text, struct buf *lines, struct err *e)
{
	struct loading l = { .lines = lines, .e = e };
	struct budget budget = { 0 };
	char name[300];
	lua_State *L;

	L = lua_newstate(bounded, &budget);
	if (!L)
		return err_set(e, ERR_NOMEM, "out of memory");
	snprintf(name, sizeof(name), "@%s", path);
	l.text = text;
	l.name = name;
	lua_sethook(L, stop, LUA_MASKCOUNT, IMPORT_INSTRUCTIONS);
	lua_pushcfunction(L, load_agents);
	lua_pushlightuserdata(L, &l);
	if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
		l.ok = false;
		err_set(e, ERR_INVALID, "%s",
			lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : path);
	} else if (!l.ok) {
		err_prefix(e, "%s", path);
	}
	lua_close(L);
	return l.ok;
}

/* --- sending --- */

#define PART_ENTRIES 400
#define PART_BYTES (200 * 1024)

/* A name of this import, so that the server tells it from another one. */
static void name_import(char out[static 33])
{
	uint8_t random[16];

	random_bytes(random, sizeof(random));
	text_hex(random, sizeof(random), out);
	out[32] = '\0';
}

/* The next part of @rest; *from counts on. */
static void put_part(struct buf *b, const char *name, struct str *rest, int64_t *from)
{
	struct str line;
	int64_t n = 0;

	buf_reset(b);
	buf_printf(b, "{\"import\":\"%s\",\"from\":%lld,\"agents\":[", name, (long long)*from);
	while (n < PART_ENTRIES && b->n < PART_BYTES && str_cut(*rest, '\n', &line, rest)) {
		if (n++)
			buf_char(b, ',');
		buf_add(b, line);
	}
	*from += n;
	buf_printf(b, "],\"last\":%s}", rest->n ? "false" : "true");
}

/* "agents[7]: why" with the line of the file that the entry begins on. */
static int fail_at(struct cli *c, struct err *e, struct str text, const char *path)
{
	struct str message = str_c(e->msg), number, rest;
	uint64_t index;
	int line = 0;

	if (str_starts(message, STR("agents[")) &&
	    str_cut(str_from(message, strlen("agents[")), ']', &number, &rest) &&
	    text_u64(number, INT32_MAX, &index))
		line = import_line_of(text, index);
	if (line)
		err_prefix(e, "%s:%d", path, line);
	else
		err_prefix(e, "%s", path);
	return cli_fail(c, e);
}

static int send_parts(struct cli *c, struct str lines, struct str text, const char *path)
{
	struct client_request q = { .method = "POST", .path = "/v1/agents/import" };
	int64_t from = 0;
	struct err e = { 0 };
	struct api api = { 0 };
	char name[33];
	AUTO_BUF body = { 0 };

	buf_init(&body, mem_system, IMPORT_MEMORY);
	name_import(name);
	if (!api_open(c, API_ADMIN, &api, &e))
		return cli_fail(c, &e);
	while (lines.n) {
		struct client_reply reply = { 0 };
		bool ok;

		put_part(&body, name, &lines, &from);
		if (!buf_ok(&body))
			return cli_misuse(c, "an entry is too large");
		q.body = buf_str(&body);
		ok = client_ask(&api.target, &api.tls, &q, &reply, &e);
		client_reply_clear(&reply);
		if (!ok)
			return fail_at(c, &e, text, path);
	}
	if (c->json)
		fprintf(c->out, "{\"registered\":%lld}\n", (long long)from);
	else
		fprintf(c->out, "%lld registered\n", (long long)from);
	return CLI_DONE;
}

int run_agent_import(struct cli *c)
{
	const char *path = c->operands[0];
	struct err e = { 0 };
	AUTO_BUF lines = { 0 };
	AUTO_BUF text = { 0 };

	buf_init(&lines, mem_system, IMPORT_MEMORY);
	buf_init(&text, mem_system, IMPORT_FILE + 65536);
	if (!api_read_file(path, IMPORT_FILE, &text, &e))
		return cli_fail(c, &e);
	if (!read_agents(path, buf_str(&text), &lines, &e))
		return cli_fail(c, &e);
	return send_parts(c, buf_str(&lines), buf_str(&text), path);
}
