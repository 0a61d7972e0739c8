/* math: what is pure in the stock library, by name. Its random numbers stay out. */
#include <lauxlib.h>
#include <lualib.h>

#include "authz/policy/prelude.h"

void prelude_open_math(lua_State *L)
{
	const char *const *names = prelude_members(STR("math"));

	lua_newtable(L);
	lua_pushcfunction(L, luaopen_math);
	lua_call(L, 0, 1);
	for (; *names; names++) {
		lua_getfield(L, -1, *names);
		lua_setfield(L, -3, *names);
	}
	lua_pop(L, 1);
}
