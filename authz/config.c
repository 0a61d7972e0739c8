/*
 * The file runs in a Lua state that has nothing: no library, no name but those it sets itself. Its
 * globals go through a pair of hooks, so that a setting given twice, an unknown name and a call of
 * what is not there are each refused with their line. Then the values are walked by the table of
 * settings (config_table.c). All of it happens inside one protected call: Lua leaves by longjmp
 * when its capped allocator says no.
 */
#include "authz/config.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/config_table.h"
#include "authz/store/file.h"

#define LUA_MEMORY (16 * 1024 * 1024)
#define LUA_CHURN (256 * 1024 * 1024) /* bytes ever asked for: bounds the time of long strings */
#define LUA_INSTRUCTIONS 1000000
#define ARENA_MAX (16 * 1024 * 1024)

/* --- the state --- */

struct memory {
	size_t used, churn;
};

static void *capped(void *ud, void *p, size_t old, size_t n)
{
	struct memory *m = ud;
	void *q;

	if (!p)
		old = 0; /* then it is a kind of object */
	if (n == 0) {
		free(p);
		m->used -= old;
		return NULL;
	}
	if (n > old && (m->used + (n - old) > LUA_MEMORY || m->churn + n > LUA_CHURN))
		return NULL;
	q = realloc(p, n);
	if (!q)
		return n <= old ? p : NULL; /* shrinking may not fail */
	m->used += n - old;
	m->churn += n;
	return q;
}

static void too_long(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	luaL_where(L, 0); /* a hook is no level of its own, so luaL_error would look too high */
	lua_pushstring(L, "runs too long for a configuration; is there a loop without an end?");
	lua_concat(L, 2);
	lua_error(L);
}

/* Upvalue 1: the table of what was set. */
static int set_global(lua_State *L)
{
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";

	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
		return luaL_error(L, "%s: is set twice", name);
	if (lua_isfunction(L, 3))
		return luaL_error(L, "%s: is a function; the configuration is data only", name);
	lua_pushvalue(L, 2);
	lua_pushvalue(L, 3);
	lua_rawset(L, lua_upvalueindex(1));
	return 0;
}

static int get_global(lua_State *L)
{
	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
		return 1;
	return luaL_error(L,
			  "%s: there is no such name; the configuration is data only and calls "
			  "nothing (text stands in quotes)",
			  lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?");
}

/* Run the chunk on top of the stack; the table of settings takes its place. */
static void run(lua_State *L)
{
	static const struct {
		const char *event;
		lua_CFunction f;
	} hooks[] = { { "__newindex", set_global }, { "__index", get_global } };

	lua_newtable(L); /* what was set */
	lua_newtable(L); /* _ENV: stays empty */
	lua_newtable(L); /* its metatable */
	for (size_t i = 0; i < ARRAY_LEN(hooks); i++) {
		lua_pushvalue(L, -3);
		lua_pushcclosure(L, hooks[i].f, 1);
		lua_setfield(L, -2, hooks[i].event);
	}
	lua_setmetatable(L, -2);
	lua_setupvalue(L, -3, 1); /* a chunk's first upvalue is its _ENV */
	lua_insert(L, -2);	  /* settings below the chunk */
	lua_sethook(L, too_long, LUA_MASKCOUNT, LUA_INSTRUCTIONS);
	lua_call(L, 0, 0);
	lua_sethook(L, NULL, 0, 0);
}

/* --- walking --- */

static const struct setting *find_setting(const char *name)
{
	for (size_t i = 0; i < config_nsettings; i++)
		if (strcmp(config_settings[i].name, name) == 0)
			return &config_settings[i];
	return NULL;
}

/* Is there a setting "<name>.something"? */
static bool is_group(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < config_nsettings; i++)
		if (strncmp(config_settings[i].name, name, n) == 0 &&
		    config_settings[i].name[n] == '.')
			return true;
	return false;
}

/* "no such setting; did you mean "limits.body"?" Names of the same group come first, then the last
 * part of all names: somebody may know the name and not its group. */
static bool fail_unknown(struct config_reader *r, const char *path)
{
	const char *names[128], *near;
	const char *leaf = strrchr(path, '.');
	size_t n = 0;

	for (size_t i = 0; i < config_nsettings && n < ARRAY_LEN(names) - 2; i++)
		names[n++] = config_settings[i].name;
	names[n++] = "limits"; /* groups that have a name like nothing else */
	names[n] = NULL;
	near = text_nearest(str_c(path), names);
	for (size_t i = 0; !near && i < config_nsettings; i++) {
		const char *last = strrchr(config_settings[i].name, '.');

		if (strcmp(last ? last + 1 : config_settings[i].name, leaf ? leaf + 1 : path) == 0)
			near = config_settings[i].name;
	}
	for (size_t i = 0; !near && !leaf && i < config_nsettings; i++) {
		char group[32] = "";
		const char *one[] = { group, NULL };
		const char *dot = strchr(config_settings[i].name, '.');

		if (dot && (size_t)(dot - config_settings[i].name) < sizeof(group)) {
			memcpy(group, config_settings[i].name,
			       (size_t)(dot - config_settings[i].name));
			if (text_nearest(str_c(path), one))
				return config_fail(r, path, "no such setting; did you mean \"%s\"?",
						   group);
		}
	}
	return config_fail(r, path, "no such setting%s%s%s",
			   near ? "; did you mean \"" : " (writ serve --help lists them)",
			   near ? near : "", near ? "\"?" : "");
}

static bool walk_value(struct config_reader *r, const char *path);

/* The members of the table on top of the stack. */
static bool walk_table(struct config_reader *r, const char *group)
{
	bool ok = true;

	lua_pushnil(r->L);
	while (ok && lua_next(r->L, -2)) {
		if (lua_type(r->L, -2) != LUA_TSTRING) {
			ok = config_fail(r, group ? group : "?",
					 "expected settings by name, as in { name = value }");
		} else {
			const char *key = lua_tostring(r->L, -2);
			struct str path = group ? arena_printf(&r->c->arena, "%s.%.64s", group, key)
						: arena_printf(&r->c->arena, "%.64s", key);

			ok = path.p ? walk_value(r, path.p)
				    : err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
		}
		lua_pop(r->L, 1);
	}
	return ok;
}

static bool walk_value(struct config_reader *r, const char *path)
{
	const struct setting *s = find_setting(path);

	if (s)
		return config_read_setting(r, s);
	if (!is_group(path))
		return fail_unknown(r, path);
	if (lua_type(r->L, -1) != LUA_TTABLE)
		return config_fail_type(r, path, "a table of settings");
	return walk_table(r, path);
}

/* --- all together --- */

struct work {
	struct config_reader *r;
	struct str text;
	bool ok;
};

/* A message of Lua's own starts with "<file>:<line>: "; memory errors have none. */
static bool fail_lua(struct config_reader *r, int code)
{
	const char *msg = lua_type(r->L, -1) == LUA_TSTRING ? lua_tostring(r->L, -1) : "?";

	if (code == LUA_ERRMEM)
		return err_code(r->e, ERR_TOO_LARGE, "invalid_config",
				"%s: needs too much memory to be read; is there a loop without an "
				"end?",
				r->name);
	return err_code(r->e, ERR_INVALID, "invalid_config", "%s", msg);
}

static int work(lua_State *L)
{
	struct work *w = lua_touserdata(L, 1);
	struct config_reader *r = w->r;
	const char *chunk = lua_pushfstring(L, "@%s", r->name);
	bool data_given;

	luaL_checkstack(L, 64, NULL);
	/* Text only: what looks like compiled Lua could break the interpreter. */
	if (luaL_loadbufferx(L, w->text.p, w->text.n, chunk, "t") != LUA_OK)
		return lua_error(L);
	run(L);
	if (r->lines.twice.n) {
		w->ok = err_code(r->e, ERR_INVALID, "invalid_config", "%s:%d: %.*s: is set twice",
				 r->name, r->lines.twice_line, STR_FMT(r->lines.twice));
		return 0;
	}
	data_given = lua_getfield(L, -1, "data") != LUA_TNIL;
	lua_pop(L, 1);
	w->ok = walk_table(r, NULL) && config_finish(r, data_given);
	return 0;
}

static bool read_config(struct config_reader *r, struct str text)
{
	struct memory memory = { 0 };
	struct work w = { .r = r, .text = text };
	int code;

	r->L = lua_newstate(capped, &memory);
	if (!r->L)
		return err_set(r->e, ERR_NOMEM, "%s: no memory to read it", r->name);
	for (size_t i = 0; i < config_nsettings; i++)
		if (!config_set_initial(r, &config_settings[i])) {
			lua_close(r->L);
			return false;
		}
	lua_pushcfunction(r->L, work);
	lua_pushlightuserdata(r->L, &w);
	code = lua_pcall(r->L, 1, 0, 0);
	if (code != LUA_OK)
		w.ok = fail_lua(r, code);
	lua_close(r->L);
	return w.ok;
}

static void free_shared(struct shared *s)
{
	struct config *c = (struct config *)(void *)s;

	arena_clear(&c->arena);
	free(c);
}

void config_free(struct config *c)
{
	if (c)
		shared_release(&c->shared);
}

bool config_parse(struct str text, const char *name, const char *base, struct config **out,
		  struct err *e)
{
	struct err own = { 0 };
	struct config_reader *r = calloc(1, sizeof(*r));
	AUTO_CONFIG *c = calloc(1, sizeof(*c));
	bool ok;

	if (c) {
		shared_init(&c->shared, free_shared);
		arena_init(&c->arena, &mem_system, ARENA_MAX);
		c->base = arena_dup(&c->arena, str_c(base)).p;
	}
	if (!r || !c || !c->base) {
		free(r);
		return err_set(e, ERR_NOMEM, "%s: no memory to read it", name);
	}
	r->c = c;
	r->name = name;
	r->e = e ? e : &own;
	config_lines_read(&r->lines, text, &c->arena);
	ok = read_config(r, text);
	free(r);
	if (!ok)
		return false;
	*out = c;
	c = NULL;
	return true;
}

const char *config_choose(const char *given, const char *env)
{
	if (given && *given)
		return given;
	if (env && *env)
		return env;
	return access("writ.lua", F_OK) == 0 ? "writ.lua" : NULL;
}

/* The folder in which the file was named: a link to a file elsewhere (as Kubernetes makes them)
 * does not move the paths in it. */
static char *folder_of(const char *file)
{
	char *copy = file ? strdup(file) : NULL;
	char *real = file ? (copy ? realpath(dirname(copy), NULL) : NULL) : realpath(".", NULL);

	free(copy);
	return real;
}

bool config_load(const char *file, struct config **out, struct err *e)
{
	char *real = file ? realpath(file, NULL) : NULL;
	char *base = file && !real ? NULL : folder_of(file);
	AUTO_BUF text = { 0 };
	struct config *c = NULL;
	bool ok;

	buf_init(&text, mem_system, CONFIG_FILE_MAX + 8192);
	if (!base) {
		free(real);
		return err_set(e, errno == ENOMEM ? ERR_NOMEM : ERR_NOT_FOUND, "%s: %s",
			       file ? file : "the working folder", strerror(errno));
	}
	ok = (!file || file_read(AT_FDCWD, real, CONFIG_FILE_MAX, &text, e)) &&
	     config_parse(buf_str(&text), file ? file : "defaults", base, &c, e);
	free(base);
	free(real);
	if (!ok || !c)
		return false;
	if (file) {
		c->file = arena_dup(&c->arena, str_c(file)).p;
		if (!c->file) {
			config_free(c);
			return err_set(e, ERR_NOMEM, "%s: no memory", file);
		}
	}
	*out = c;
	return true;
}
