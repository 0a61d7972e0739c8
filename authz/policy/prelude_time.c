/* time: what a clock on the wall shows at q.now. No clock of its own. */
#include <lauxlib.h>
#include <stdio.h>

#include "authz/policy/prelude.h"
#include "authz/policy/sandbox.h"
#include "authz/policy/set.h"

/* Argument 1 as milliseconds and argument @zone (optional, default UTC) as a place. */
static void local_time(lua_State *L, int zone, struct tz_local *out)
{
	lua_Integer ms;
	int64_t s;
	const struct zone *z;
	struct str name;

	if (!lua_isinteger(L, 1))
		luaL_error(L, "time: the first argument is q.now, an integer");
	ms = lua_tointeger(L, 1);
	if (ms < -62135596800000 || ms > 253402300799999) /* years 1 to 9999 */
		luaL_error(L, "time: no such time");
	s = ms / 1000 - (ms % 1000 < 0);
	sandbox_charge(L, 4);
	if (lua_isnoneornil(L, zone)) {
		tz_split(NULL, s, out);
		return;
	}
	name = prelude_text(L, zone, "time");
	z = set_zone(sandbox_of(L)->set, name);
	if (!z && !str_eq(name, STR("UTC")))
		luaL_error(L, "time: zone '%s' was not read at load; name it in a literal text",
			   name.p);
	tz_split(z ? &z->tz : NULL, s, out);
}

static int weekday(lua_State *L)
{
	struct tz_local t;

	local_time(L, 2, &t);
	lua_pushinteger(L, t.weekday);
	return 1;
}

static int minutes(lua_State *L)
{
	struct tz_local t;

	local_time(L, 2, &t);
	lua_pushinteger(L, t.minutes);
	return 1;
}

static int date(lua_State *L)
{
	struct tz_local t;
	char text[32];

	local_time(L, 2, &t);
	snprintf(text, sizeof(text), "%04d-%02d-%02d", (int)t.year, t.month, t.day);
	lua_pushstring(L, text);
	return 1;
}

/* "09:00" to "24:00", in minutes. */
static int read_minutes(lua_State *L, int i)
{
	struct str s = prelude_text(L, i, "time.between");
	int h, m;

	for (size_t k = 0; k < 5; k++)
		if (s.n != 5 || (k == 2 ? s.p[k] != ':' : s.p[k] < '0' || s.p[k] > '9'))
			return luaL_error(L, "time.between: '%s' is not a time such as 09:00", s.p);
	h = (s.p[0] - '0') * 10 + s.p[1] - '0';
	m = (s.p[3] - '0') * 10 + s.p[4] - '0';
	if (m > 59 || h * 60 + m > 24 * 60)
		return luaL_error(L, "time.between: '%s' is not a time such as 09:00", s.p);
	return h * 60 + m;
}

/* between(now, from, to, zone): from is inside, to is not. 22:00 to 06:00 goes past midnight. */
static int between(lua_State *L)
{
	struct tz_local t;
	int from = read_minutes(L, 2), to = read_minutes(L, 3);

	if (from == to)
		return luaL_error(L, "time.between: from and to are the same time");
	local_time(L, 4, &t);
	lua_pushboolean(L, from < to ? t.minutes >= from && t.minutes < to
				     : t.minutes >= from || t.minutes < to);
	return 1;
}

static const struct prelude_word words[] = {
	{ "between", between }, { "weekday", weekday }, { "minutes", minutes },
	{ "date", date },	{ NULL, NULL },
};

void prelude_open_time(lua_State *L)
{
	lua_createtable(L, 0, ARRAY_LEN(words));
	prelude_set(L, words);
}
