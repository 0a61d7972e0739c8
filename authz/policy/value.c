#include "authz/policy/value.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>

#include "authz/base/json_order.h"
#include "authz/base/text.h"

#define DEPTH_MAX 16
#define INTEGER_MAX ((INT64_C(1) << 53) - 1)

static int compare_names(const void *pa, const void *pb)
{
	return json_name_cmp(((const struct json *)pa)->name, ((const struct json *)pb)->name);
}

static bool copy_text(lua_State *L, int index, struct arena *a, struct str *out, const char **why)
{
	struct str s;

	s.p = lua_tolstring(L, index, &s.n);
	if (!text_is_utf8(s) || (s.n && memchr(s.p, '\0', s.n))) {
		*why = "a text that is not UTF-8";
		return false;
	}
	*out = arena_dup(a, s);
	*why = "no memory";
	return out->p != NULL;
}

static bool copy_number(lua_State *L, int index, struct json *out, const char **why)
{
	lua_Number d = lua_tonumber(L, index);

	*why = "a number beyond +-(2^53-1), or none at all";
	if (lua_isinteger(L, index) || (d == floor(d) && fabs(d) <= (double)INTEGER_MAX)) {
		out->type = JSON_INT;
		out->i = lua_isinteger(L, index) ? lua_tointeger(L, index) : (int64_t)d;
		return out->i <= INTEGER_MAX && out->i >= -INTEGER_MAX;
	}
	out->type = JSON_REAL;
	out->d = d;
	return isfinite(d);
}

static bool copy(lua_State *L, int index, int depth, struct arena *a, struct json *out,
		 const char **why);

/* The members of the table at @t: keys are all texts, or all of 1..n. */
static bool copy_table(lua_State *L, int t, int depth, struct arena *a, struct json *out,
		       const char **why)
{
	size_t n = 0, listed = lua_rawlen(L, t);
	struct json *items;

	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1))
		n++;
	*why = "no memory";
	items = n <= 65536 ? arena_zero(a, n * sizeof(*items)) : NULL;
	if (!items)
		return false;
	out->type = n && listed == n ? JSON_ARRAY : JSON_OBJECT;
	out->n = (uint32_t)n;
	out->items = items;
	for (size_t i = 0; out->type == JSON_ARRAY && i < n; i++) {
		bool ok;

		lua_rawgeti(L, t, (lua_Integer)i + 1);
		ok = copy(L, lua_gettop(L), depth + 1, a, &items[i], why);
		lua_pop(L, 1);
		if (!ok)
			return false;
	}
	if (out->type == JSON_ARRAY)
		return true;
	n = 0;
	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1)) {
		*why = "a table that is neither a list nor has names only";
		if (lua_type(L, -2) != LUA_TSTRING ||
		    !copy(L, lua_gettop(L), depth + 1, a, &items[n], why) ||
		    !copy_text(L, -2, a, &items[n].name, why))
			return lua_settop(L, -3), false;
		n++;
	}
	qsort(items, n, sizeof(*items), compare_names);
	return true;
}

static bool copy(lua_State *L, int index, int depth, struct arena *a, struct json *out,
		 const char **why)
{
	switch (lua_type(L, index)) {
	case LUA_TBOOLEAN:
		out->type = JSON_BOOL;
		out->b = lua_toboolean(L, index);
		return true;
	case LUA_TNUMBER:
		return copy_number(L, index, out, why);
	case LUA_TSTRING:
		out->type = JSON_STRING;
		return copy_text(L, index, a, &out->s, why);
	case LUA_TTABLE:
		*why = "tables nested more than 16 deep";
		return depth < DEPTH_MAX && lua_checkstack(L, 8) &&
		       copy_table(L, index, depth, a, out, why);
	case LUA_TFUNCTION:
		*why = "a function";
		return false;
	default:
		*why = "a value that is no data";
		return false;
	}
}

bool value_from_lua(lua_State *L, int index, struct arena *a, struct json *out, const char **why)
{
	struct json v = { 0 };

	if (!copy(L, lua_absindex(L, index), 0, a, &v, why))
		return false;
	*out = v;
	return true;
}

bool value_equal(const struct json *a, const struct json *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case JSON_BOOL:
		return a->b == b->b;
	case JSON_INT:
		return a->i == b->i;
	case JSON_REAL:
		return a->d == b->d;
	case JSON_STRING:
		return str_eq_short(a->s, b->s);
	default:
		return false;
	}
}

/* Every bit of both counts in every bit of what comes out. */
static inline uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)(a ^ UINT64_C(0x9e3779b97f4a7c15)) *
			      (b ^ UINT64_C(0xbf58476d1ce4e5b9));

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t hash_text(uint64_t h, struct str s)
{
	uint64_t head, tail = 0;
	uint32_t from, to;

	for (; s.n > 16; s = str_from(s, 8)) {
		memcpy(&head, s.p, 8);
		h = mix(h, head);
	}
	if (s.n >= 8) { /* what is left, in two words that overlap */
		memcpy(&head, s.p, 8);
		memcpy(&tail, s.p + s.n - 8, 8);
		return mix(h ^ head, tail);
	}
	if (s.n >= 4) {
		memcpy(&from, s.p, 4);
		memcpy(&to, s.p + s.n - 4, 4);
		return mix(h ^ from, to);
	}
	for (size_t i = 0; i < s.n; i++)
		tail = tail << 8 | (unsigned char)s.p[i];
	return mix(h, tail);
}

uint64_t value_hash(uint64_t seed, const struct json *v)
{
	uint64_t h = seed << 4 | v->type, word;

	switch (v->type) {
	case JSON_BOOL:
		return mix(h, v->b);
	case JSON_INT:
		return mix(h, (uint64_t)v->i);
	case JSON_REAL:
		memcpy(&word, &v->d, sizeof(word));
		return mix(h, word);
	case JSON_STRING:
		return hash_text(h ^ (uint64_t)v->s.n << 32, v->s);
	default:
		return h;
	}
}

struct str value_canonical(const struct json *v, struct arena *a)
{
	struct buf b;

	buf_in_arena(&b, a, 64 * 1024);
	json_canonical(&b, v);
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}
