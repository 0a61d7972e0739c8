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
#include "authz/decide/signing.h"
#include "authz/net/fetch.h"
#include "authz/store/file.h"
#include "spiffe/id.h"

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

/* --- what settings mean together --- */

static bool finish_trust_domain(struct config_reader *r)
{
	struct err why = { 0 };
	struct str name;

	if (!spiffe_trust_domain_parse(str_c(r->c->trust_domain), &name, &why))
		return config_fail(r, "trust_domain", "%s", why.msg);
	name = arena_dup(&r->c->arena, name);
	if (!name.p)
		return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	r->c->trust_domain = name.p;
	return true;
}

/* Data folder and store name each other: "sqlite:<data>/writ.db". */
static bool finish_data(struct config_reader *r, bool data_given)
{
	struct config *c = r->c;
	const char *file;
	size_t n;

	if (c->store) {
		if (strncmp(c->store, "postgresql:", 11) == 0)
			return config_fail(r, "store",
					   "PostgreSQL is not part of this version; use "
					   "\"sqlite:FOLDER/writ.db\"");
		if (strncmp(c->store, "sqlite:", 7) != 0)
			return config_fail(r, "store",
					   "expected \"sqlite:FOLDER/writ.db\", got \"%.100s\"",
					   c->store);
		file = config_path(r, c->store + 7);
		if (!file)
			return false;
		n = strlen(file);
		if (!str_ends(str_c(file), STR("/writ.db")) || n == strlen("/writ.db"))
			return config_fail(
				r, "store",
				"the file must be called writ.db, in a folder of its own "
				"that holds all of writ's data");
		file = arena_dup(&c->arena, (struct str){ file, n - strlen("/writ.db") }).p;
		if (!file)
			return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
		if (data_given && strcmp(config_path(r, c->data), file) != 0)
			return config_fail(r, "store",
					   "is in %s, but data says %s; they are one folder: leave "
					   "one of them out",
					   file, c->data);
		c->data = file;
	} else {
		c->data = config_path(r, c->data);
	}
	if (!c->data)
		return false;
	c->store = arena_printf(&c->arena, "sqlite:%s/writ.db", c->data).p;
	return c->store ? true : err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
}

/* Letters of a host name only: the node's name stands in every record. */
static bool finish_node(struct config_reader *r)
{
	char host[64] = "";
	bool given = r->c->node != NULL;

	if (!given) {
		if (gethostname(host, sizeof(host) - 1))
			strcpy(host, "localhost");
		for (char *p = host; *p; p++) {
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p + 32);
			if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789.-", *p))
				*p = '-';
		}
		r->c->node = arena_dup(&r->c->arena, str_c(*host ? host : "localhost")).p;
		return r->c->node ? true : err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	}
	if (!*r->c->node ||
	    strspn(r->c->node, "abcdefghijklmnopqrstuvwxyz0123456789.-") != strlen(r->c->node))
		return config_fail(r, "node",
				   "\"%s\": expected small letters, digits, \".\" and \"-\"",
				   r->c->node);
	return true;
}

/* It is compared byte for byte by others, and URLs are put together from it. */
static bool finish_public_url(struct config_reader *r)
{
	const char *url = r->c->public_url, *host;

	if (!url)
		return true;
	host = strncmp(url, "https://", 8) == 0 ? url + 8 : "";
	for (const char *p = url; *p; p++)
		if (*p <= ' ' || *p >= 0x7f || strchr("?#\"\\<>^`{|}@", *p))
			host = "";
	if (*host && *host != '/' && *host != ':')
		return true;
	return config_fail(r, "public_url",
			   "expected \"https://HOST\" or \"https://HOST/PATH\" without user, query "
			   "and fragment, got \"%.100s\"",
			   url);
}

static bool finish_policy_keys(struct config_reader *r)
{
	struct signing_keys keys;
	struct err why = { 0 };

	if (!r->c->policies.key || signing_keys_parse(str_c(r->c->policies.key), &keys, &why))
		return true;
	return config_fail(r, "policies.key",
			   "%s; expected what `writ policy sign --key FILE` prints", why.msg);
}

/* "file:PATH" or "credential:NAME"; a name has no way out of its folder. */
static bool finish_keys(struct config_reader *r)
{
	struct config *c = r->c;
	const char *text = c->keys.encrypt;

	if (!text)
		return true;
	if (strncmp(text, "file:", 5) == 0 && text[5]) {
		c->keys.file = config_path(r, text + 5);
		return c->keys.file != NULL;
	}
	if (strncmp(text, "credential:", 11) == 0 && text[11] && text[11] != '.' &&
	    !strchr(text + 11, '/')) {
		c->keys.credential = text + 11;
		return true;
	}
	return config_fail(r, "keys.encrypt",
			   "expected \"file:PATH\" or \"credential:NAME\" (LoadCredential= of "
			   "systemd), got \"%.100s\"",
			   text);
}

/* Certificate, key and bundle go together. */
static bool finish_upstream(struct config_reader *r)
{
	struct config *c = r->c;
	const struct {
		const char *name, **path;
	} files[] = {
		{ "authority.upstream.certificate", &c->authority.certificate },
		{ "authority.upstream.key", &c->authority.key },
		{ "authority.upstream.bundle", &c->authority.bundle },
	};
	bool any = c->authority.certificate || c->authority.key || c->authority.bundle;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		if (any && !*files[i].path)
			return config_fail(r, files[i].name,
					   "is missing: an upstream needs certificate, key and "
					   "bundle");
		if (any && !(*files[i].path = config_path(r, *files[i].path)))
			return false;
	}
	if (c->authority.name_constraints && !any)
		return config_fail(r, "authority.upstream.name_constraints",
				   "says nothing without an upstream");
	return true;
}

static bool finish_listeners(struct config_reader *r)
{
	struct config *c = r->c;

	for (size_t i = 0; i < config_nsettings; i++) {
		const struct setting *s = &config_settings[i];
		const char *address = s->initial;

		if (s->type != SET_LISTEN || r->door_set[s->offset] ||
		    strcmp(s->initial, "none") == 0)
			continue;
		if (str_starts(str_c(address), STR("<data>")))
			address = arena_printf(&c->arena, "%s%s", c->data, address + 6).p;
		if (!address)
			return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
		if (!config_add_listener(r, s->name, (enum config_door)s->offset, address, NULL))
			return false;
	}
	c->listeners = arena_alloc(&c->arena, r->nlisteners * sizeof(*c->listeners));
	if (!c->listeners)
		return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	memcpy(c->listeners, r->listeners, r->nlisteners * sizeof(*c->listeners));
	c->nlisteners = r->nlisteners;
	return true;
}

/* Relying parties compare it byte for byte, and put /.well-known/openid-configuration behind it. */
static bool finish_issuer(struct config_reader *r)
{
	const char *url = r->c->jwt.issuer;
	struct fetch_url parsed;

	if (!url || (fetch_url_parse(str_c(url), &parsed, NULL) && !strchr(url, '?') &&
		     !str_ends(str_c(url), STR("/"))))
		return true;
	return config_fail(
		r, "jwt.issuer",
		"expected \"https://HOST\" or \"https://HOST/PATH\" without a slash at the "
		"end, user, query and fragment, got \"%.100s\"",
		url);
}

/* Files of the outside world, by absolute paths. */
static bool finish_files(struct config_reader *r)
{
	const char **files[] = { &r->c->fetch.ca_file, &r->c->tls.web.certificate,
				 &r->c->tls.web.key };

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (*files[i] && !(*files[i] = config_path(r, *files[i])))
			return false;
	if (!r->c->tls.web.certificate != !r->c->tls.web.key)
		return config_fail(r, "tls.web", "certificate and key belong together: give both");
	if (r->door_set[DOOR_WEB] != (r->c->tls.web.key != NULL))
		return config_fail(r, r->door_set[DOOR_WEB] ? "listen.web" : "tls.web",
				   "listen.web and tls.web belong together: the address, and the "
				   "certificate and key that it shows");
	return true;
}

static bool finish(struct config_reader *r, bool data_given)
{
	struct config *c = r->c;

	if (!finish_trust_domain(r) || !finish_data(r, data_given) || !finish_node(r) ||
	    !finish_public_url(r) || !finish_issuer(r) || !finish_files(r) ||
	    !finish_policy_keys(r) || !finish_keys(r) || !finish_upstream(r) ||
	    !finish_listeners(r))
		return false;
	c->policies.dir = config_path(r, c->policies.dir);
	if (!c->policies.dir)
		return false;
	if (c->limits.in_flight < c->limits.body)
		return config_fail(r, "limits.in_flight",
				   "is smaller than limits.body, so that no full request would "
				   "ever be let in; raise it or lower the other");
	if (c->limits.queue < c->limits.batch)
		return config_fail(r, "limits.queue",
				   "is smaller than limits.batch, so that the records of a full "
				   "batch would never be taken; raise it or lower the other");
	if (c->limits.request_ms < c->limits.decision_ms)
		return config_fail(r, "limits.request",
				   "is shorter than limits.decision; a decision is part of a "
				   "request");
	return true;
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
	w->ok = walk_table(r, NULL) && finish(r, data_given);
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
