/* Values of the file into the struct, each checked against its row of the table. */
#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/config_table.h"

bool config_fail(struct config_reader *r, const char *path, const char *fmt, ...)
{
	char msg[sizeof(r->e->msg)];
	int line = config_lines_find(&r->lines, str_c(path));
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (line)
		return err_code(r->e, ERR_INVALID, "invalid_config", "%s:%d: %s: %s", r->name, line,
				path, msg);
	return err_code(r->e, ERR_INVALID, "invalid_config", "%s: %s: %s", r->name, path, msg);
}

bool config_fail_type(struct config_reader *r, const char *path, const char *expected)
{
	if (lua_type(r->L, -1) == LUA_TFUNCTION)
		return config_fail(r, path,
				   "expected %s, got a function; the configuration is data only",
				   expected);
	return config_fail(r, path, "expected %s, got a %s", expected, luaL_typename(r->L, -1));
}

static bool fail_nomem(struct config_reader *r)
{
	return err_set(r->e, ERR_NOMEM, "%s: no memory for the configuration", r->name);
}

const char *config_string(struct config_reader *r, const char *path, size_t min, size_t max)
{
	struct str s;

	if (lua_type(r->L, -1) != LUA_TSTRING) { /* a number is not taken for its digits */
		config_fail_type(r, path, "a string");
		return NULL;
	}
	s.p = lua_tolstring(r->L, -1, &s.n);
	if (s.n < min || s.n > max) {
		config_fail(r, path, "expected %zu to %zu bytes of text, got %zu", min, max, s.n);
		return NULL;
	}
	if (!text_is_utf8(s) || !text_is_printable(s)) {
		config_fail(r, path, "expected one line of UTF-8 text");
		return NULL;
	}
	s = arena_dup(&r->c->arena, s);
	if (!s.p)
		fail_nomem(r);
	return s.p;
}

const char *config_path(struct config_reader *r, const char *path)
{
	const char *p = path[0] == '/' ? path
				       : arena_printf(&r->c->arena, "%s/%s", r->c->base, path).p;

	if (!p)
		fail_nomem(r);
	return p;
}

/* --- numbers --- */

/* "16KiB" and the like; bytes without a unit. */
static bool parse_bytes(struct str s, int64_t *out)
{
	static const struct {
		struct str suffix;
		unsigned shift;
	} units[] = { { STR_INIT("KiB"), 10 }, { STR_INIT("MiB"), 20 }, { STR_INIT("GiB"), 30 } };
	unsigned shift = 0;
	uint64_t n;

	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (str_ends(s, units[i].suffix)) {
			s.n -= units[i].suffix.n;
			shift = units[i].shift;
			break;
		}
	if (!text_u64(s, (uint64_t)(INT64_MAX >> shift), &n))
		return false;
	*out = (int64_t)(n << shift);
	return true;
}

static bool parse_ms(struct str s, int64_t *out)
{
	uint64_t n;

	if (str_ends(s, STR("ms"))) {
		s.n -= 2;
		if (!text_u64(s, UINT32_MAX, &n))
			return false;
		*out = (int64_t)n;
		return true;
	}
	if (!text_duration(s, out))
		return false;
	*out *= 1000;
	return true;
}

/* A number as text: of a default, or of a string in the file. */
static bool parse_number(enum setting_type type, struct str s, int64_t *out)
{
	uint64_t n;

	if (type == SET_SIZE)
		return parse_bytes(s, out);
	if (type == SET_MS)
		return parse_ms(s, out);
	if (type == SET_SECONDS)
		return text_duration(s, out);
	if (!text_u64(s, UINT32_MAX, &n))
		return false;
	*out = (int64_t)n;
	return true;
}

static const char *expected(enum setting_type type)
{
	return type == SET_SIZE	     ? "bytes, as 65536 or \"64KiB\""
	       : type == SET_MS	     ? "a time, as \"500ms\" or \"2s\""
	       : type == SET_SECONDS ? "a time, as \"90s\", \"5m\", \"1h\" or \"30d\""
				     : "a whole number";
}

static void store_number(struct config *c, const struct setting *s, int64_t n)
{
	void *at = (char *)c + s->offset;

	if (s->type == SET_SIZE)
		*(size_t *)at = (size_t)n;
	else if (s->type == SET_SECONDS)
		*(int64_t *)at = n;
	else
		*(uint32_t *)at = (uint32_t)n;
}

static bool read_number(struct config_reader *r, const struct setting *s)
{
	int64_t n = 0;
	struct str text;
	int exact = 0;
	bool ok;

	if (lua_type(r->L, -1) == LUA_TNUMBER) {
		n = lua_tointegerx(r->L, -1, &exact);
		ok = exact && s->type != SET_MS; /* of what, one would have to guess */
	} else if (lua_type(r->L, -1) == LUA_TSTRING && s->type != SET_U32) {
		text.p = lua_tolstring(r->L, -1, &text.n);
		ok = parse_number(s->type, text, &n);
		if (!ok)
			return config_fail(r, s->name, "expected %s, got \"%.*s\"",
					   expected(s->type), STR_FMT(str_first(text, 60)));
	} else {
		return config_fail_type(r, s->name, expected(s->type));
	}
	if (!ok)
		return config_fail(r, s->name, "expected %s, got %g", expected(s->type),
				   lua_tonumber(r->L, -1));
	if (n < s->min || n > s->max) {
		struct buf range; /* in the arena */

		buf_in_arena(&range, &r->c->arena, 200);
		config_show_range(s, &range);
		return config_fail(r, s->name, "is out of range; expected %.*s",
				   STR_FMT(buf_str(&range)));
	}
	store_number(r->c, s, n);
	return true;
}

/* --- the rest --- */

static bool read_choice(struct config_reader *r, const struct setting *s)
{
	const char *text = config_string(r, s->name, 1, 64), *near;

	if (!text)
		return false;
	for (int i = 0; s->choices[i]; i++)
		if (strcmp(text, s->choices[i]) == 0) {
			*(int *)(void *)((char *)r->c + s->offset) = i;
			return true;
		}
	near = text_nearest(str_c(text), s->choices);
	return config_fail(r, s->name, "\"%s\" is not known%s%s%s", text,
			   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static bool one_of(struct config_reader *r, const char *path, const char *text,
		   const char *const *choices)
{
	const char *near;

	for (int i = 0; choices && choices[i]; i++)
		if (strcmp(text, choices[i]) == 0)
			return true;
	if (!choices)
		return true;
	near = text_nearest(str_c(text), choices);
	return config_fail(r, path, "\"%s\" is not known%s%s%s", text,
			   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

bool config_read_names(struct config_reader *r, const char *name, int max,
		       const char *const *choices, struct config_names *out)
{
	lua_Unsigned n;
	const char **names;

	if (lua_type(r->L, -1) != LUA_TTABLE)
		return config_fail_type(r, name, "a list of strings");
	n = lua_rawlen(r->L, -1);
	if (n > (lua_Unsigned)max)
		return config_fail(r, name, "at most %d names", max);
	names = arena_alloc(&r->c->arena, (size_t)n * sizeof(*names));
	if (!names)
		return fail_nomem(r);
	for (lua_Unsigned i = 0; i < n; i++) {
		const char *path = arena_printf(&r->c->arena, "%s[%d]", name, (int)i + 1).p;

		lua_rawgeti(r->L, -1, (lua_Integer)i + 1);
		names[i] = path ? config_string(r, path, 1, 253) : NULL;
		lua_pop(r->L, 1);
		if (!names[i])
			return path ? false : fail_nomem(r);
		if (!one_of(r, path, names[i], choices))
			return false;
	}
	lua_pushnil(r->L);
	while (lua_next(r->L, -2)) {
		lua_pop(r->L, 1);
		if (lua_type(r->L, -1) != LUA_TNUMBER)
			return config_fail(r, name, "expected a plain list of strings");
	}
	*out = (struct config_names){ names, (size_t)n };
	return true;
}

/* The key on top is no row's. */
static bool fail_row(struct config_reader *r, const struct setting *s)
{
	const char *path = s->name;

	if (lua_type(r->L, -1) == LUA_TSTRING)
		path = arena_printf(&r->c->arena, "%s.%.64s", s->name, lua_tostring(r->L, -1)).p;
	return config_fail(r, path ? path : s->name, "expected a plain list of tables");
}

bool config_read_rows(struct config_reader *r, const struct setting *s, size_t *n)
{
	lua_Unsigned rows;

	if (lua_type(r->L, -1) != LUA_TTABLE)
		return config_fail_type(r, s->name, "a list of tables");
	rows = lua_rawlen(r->L, -1);
	if (rows > (lua_Unsigned)s->max)
		return config_fail(r, s->name, "at most %d entries", (int)s->max);
	lua_pushnil(r->L);
	while (lua_next(r->L, -2)) {
		lua_pop(r->L, 1);
		if (!lua_isinteger(r->L, -1) || lua_tointeger(r->L, -1) < 1 ||
		    (lua_Unsigned)lua_tointeger(r->L, -1) > rows)
			return fail_row(r, s);
	}
	*n = (size_t)rows;
	return true;
}

bool config_each_row(struct config_reader *r, const struct setting *s, size_t n,
		     config_row_fn *read, void *ctx)
{
	bool ok = true;

	for (size_t i = 0; ok && i < n; i++) {
		const char *path = arena_printf(&r->c->arena, "%s[%zu]", s->name, i + 1).p;

		lua_rawgeti(r->L, -1, (lua_Integer)i + 1);
		ok = path ? read(r, path, i, ctx) : fail_nomem(r);
		lua_pop(r->L, 1);
	}
	return ok;
}

const char *config_member_path(struct config_reader *r, const char *path, const char **name)
{
	const char *p;

	*name = NULL;
	if (lua_type(r->L, -2) == LUA_TSTRING) {
		*name = lua_tostring(r->L, -2);
		p = arena_printf(&r->c->arena, "%s.%.64s", path, *name).p;
	} else {
		p = arena_printf(&r->c->arena, "%s[%lld]", path, (long long)lua_tointeger(r->L, -2))
			    .p;
	}
	if (!p)
		err_set(r->e, ERR_NOMEM, "%s: no memory for the configuration", r->name);
	return p;
}

bool config_each_member(struct config_reader *r, const char *path, const char *shape,
			config_member_fn *read, void *ctx)
{
	const char *name, *inner;
	bool ok = true;

	if (lua_type(r->L, -1) != LUA_TTABLE)
		return config_fail_type(r, path, shape);
	lua_pushnil(r->L);
	while (ok && lua_next(r->L, -2)) {
		inner = config_member_path(r, path, &name);
		ok = inner && (name ? read(r, inner, name, ctx)
				    : config_fail(r, inner, "expected members with names"));
		lua_pop(r->L, 1);
	}
	return ok;
}

bool config_no_member(struct config_reader *r, const char *path, const char *name,
		      const char *const *members)
{
	const char *near = text_nearest(str_c(name), members);

	return config_fail(r, path, "no such member%s%s%s", near ? "; did you mean \"" : "",
			   near ? near : "", near ? "\"?" : "");
}

bool config_read_setting(struct config_reader *r, const struct setting *s)
{
	void *at = (char *)r->c + s->offset;
	const char *text;

	switch (s->type) {
	case SET_STRING:
		text = config_string(r, s->name, (size_t)s->min, (size_t)s->max);
		if (text)
			*(const char **)at = text;
		return text != NULL;
	case SET_BOOL:
		if (lua_type(r->L, -1) != LUA_TBOOLEAN)
			return config_fail_type(r, s->name, "true or false");
		*(bool *)at = lua_toboolean(r->L, -1);
		return true;
	case SET_U32:
	case SET_SIZE:
	case SET_SECONDS:
	case SET_MS:
		return read_number(r, s);
	case SET_CHOICE:
		return read_choice(r, s);
	case SET_NAMES:
		return config_read_names(r, s->name, (int)s->max, s->choices, at);
	case SET_MASK:
		return config_read_mask(r, s);
	case SET_ISSUERS:
		return config_read_issuers(r, s);
	case SET_SINKS:
		return config_read_sinks(r, s);
	case SET_PARTIES:
		return config_read_parties(r, s);
	case SET_LISTEN:
		return config_read_listen(r, s);
	case SET_CALLERS:
		return config_read_callers(r, s);
	}
	return false;
}

/* Defaults that are not text of their own ("<data>/...") are made when the file has been read. */
bool config_set_initial(struct config_reader *r, const struct setting *s)
{
	void *at = (char *)r->c + s->offset;
	int64_t n = 0;

	switch (s->type) {
	case SET_STRING:
		*(const char **)at = s->initial[0] == '<' || strchr(s->initial, '<') ? NULL
										     : s->initial;
		return true;
	case SET_BOOL:
		*(bool *)at = strcmp(s->initial, "true") == 0;
		return true;
	case SET_CHOICE:
		for (int i = 0; s->choices[i]; i++)
			if (strcmp(s->initial, s->choices[i]) == 0)
				*(int *)at = i;
		return true;
	case SET_U32:
	case SET_SIZE:
	case SET_SECONDS:
	case SET_MS:
		if (!parse_number(s->type, str_c(s->initial), &n) || n < s->min || n > s->max)
			return err_set(r->e, ERR_INTERNAL, "default of %s is not in its range",
				       s->name);
		store_number(r->c, s, n);
		return true;
	case SET_NAMES:
	case SET_LISTEN:
	case SET_CALLERS:
	case SET_MASK:
	case SET_ISSUERS:
	case SET_SINKS:
	case SET_PARTIES:
		return true;
	}
	return true;
}
