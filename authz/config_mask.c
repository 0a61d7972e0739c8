/* audit.mask: what of requests is not written down. */
#include "authz/audit/mask.h"
#include "authz/config_table.h"

/* One rule, { field = "args.password" } or { detector = "token" }, as "field args.password". It is
 * tried here, so that a server never runs with less masked than its file says. */
static const char *read_rule(struct config_reader *r, const char *path, struct mask *m)
{
	const char *key, *text, *rule = NULL;
	struct err why = { 0 };
	bool field;

	lua_pushnil(r->L);
	if (!lua_next(r->L, -2)) {
		config_fail(r, path, "expected { field = \"PATH\" } or { detector = \"NAME\" }");
		return NULL;
	}
	key = lua_type(r->L, -2) == LUA_TSTRING ? lua_tostring(r->L, -2) : "";
	field = strcmp(key, "field") == 0;
	if (!field && strcmp(key, "detector") != 0) {
		config_fail(r, path, "\"%.64s\": expected field or detector", key);
		lua_pop(r->L, 2);
		return NULL;
	}
	text = config_string(r, path, 1, MASK_PATH);
	if (text && !(field ? mask_add_field : mask_add_detector)(m, str_c(text), &why)) {
		config_fail(r, path, "%s = \"%.100s\": %s", key, text, why.msg);
		text = NULL;
	}
	if (text)
		rule = arena_printf(&r->c->arena, "%s %s", key, text).p;
	lua_pop(r->L, 1);
	if (text && lua_next(r->L, -2)) {
		lua_pop(r->L, 2);
		config_fail(r, path, "a rule is one field or one detector");
		return NULL;
	}
	return rule;
}

bool config_read_mask(struct config_reader *r, const struct setting *s)
{
	struct config_names *out = (struct config_names *)(void *)((char *)r->c + s->offset);
	const char **names;
	size_t k = 0;
	struct mask *m = arena_zero(&r->c->arena, sizeof(*m));
	size_t n;

	if (!config_read_rows(r, s, &n))
		return false;
	names = arena_zero(&r->c->arena, (n + 1) * sizeof(*names));
	if (!names || !m)
		return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	for (; k < n; k++) {
		const char *path = arena_printf(&r->c->arena, "%s[%d]", s->name, (int)k + 1).p;

		lua_rawgeti(r->L, -1, (lua_Integer)k + 1);
		if (path && lua_type(r->L, -1) == LUA_TTABLE)
			names[k] = read_rule(r, path, m);
		else if (path)
			config_fail(r, path,
				    "expected a table in a list of tables, as { { field = ... } }");
		lua_pop(r->L, 1);
		if (!names[k])
			return r->e->class == ERR_NONE
				       ? err_set(r->e, ERR_NOMEM, "%s: no memory", r->name)
				       : false;
	}
	out->names = names;
	out->nnames = k;
	return true;
}
