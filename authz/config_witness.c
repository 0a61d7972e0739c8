/* audit.witnesses and witness.logs: who cosigns our checkpoints, and whose we cosign. */
#include "authz/audit/note.h"
#include "authz/base/text.h"
#include "authz/config_table.h"
#include "authz/net/fetch.h"

#define WITNESSES 0 /* in struct setting.min */

static const char *const witness_members[] = { "name", "url", "key", NULL };
static const char *const log_members[] = { "origin", "key", NULL };

/* A name that stands in metrics, tables and URLs. */
static bool plain(const char *s)
{
	for (; *s; s++)
		if (*s <= ' ' || *s >= 0x7f || *s == '"' || *s == '\\')
			return false;
	return true;
}

static bool read_key(struct config_reader *r, const char *path, bool witness,
		     struct config_party *p)
{
	struct note_key key;
	struct err why = { 0 };

	p->key = config_string(r, path, 1, 1024);
	if (!p->key)
		return false;
	if (!note_key_parse_as(str_c(p->key), witness ? NOTE_COSIGNATURE : NOTE_ED25519, &key,
			       &why))
		return config_fail(
			r, path, "%s; %s", why.msg,
			witness ? "a witness prints its own by `writ audit key --witness`"
				: "a log prints its own by `writ audit key`");
	p->key_name = arena_printf(&r->c->arena, "%s", key.name).p;
	return p->key_name || err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
}

static bool read_url(struct config_reader *r, const char *path, struct config_party *p)
{
	struct fetch_url url;
	struct err why = { 0 };
	size_t n;

	p->url = config_string(r, path, 9, 1024);
	if (!p->url)
		return false;
	n = strlen(p->url);
	if (!fetch_url_parse(str_c(p->url), &url, &why))
		return config_fail(r, path, "%s", why.msg);
	if (p->url[n - 1] == '/' || strchr(p->url, '?'))
		return config_fail(r, path,
				   "expected the prefix of /add-checkpoint, without a slash at its "
				   "end and without a query, got \"%.100s\"",
				   p->url);
	return true;
}

static bool read_name(struct config_reader *r, const char *path, const char **out)
{
	*out = config_string(r, path, 1, NOTE_NAME_MAX);
	return *out &&
	       (plain(*out) ||
		config_fail(r, path, "expected visible ASCII without quotes and backslashes"));
}

static bool read_member(struct config_reader *r, const char *path, const char *name, bool witness,
			struct config_party *p)
{
	const char *near;

	if (strcmp(name, "key") == 0)
		return read_key(r, path, witness, p);
	if (witness && strcmp(name, "url") == 0)
		return read_url(r, path, p);
	if (strcmp(name, witness ? "name" : "origin") == 0)
		return read_name(r, path, &p->name);
	near = text_nearest(str_c(name), witness ? witness_members : log_members);
	return config_fail(r, path, "no such member%s%s%s", near ? "; did you mean \"" : "",
			   near ? near : "", near ? "\"?" : "");
}

static bool read_party(struct config_reader *r, const char *path, bool witness,
		       struct config_party *p)
{
	bool ok = true;

	if (lua_type(r->L, -1) != LUA_TTABLE)
		return config_fail_type(r, path,
					witness ? "a table, as { url = ..., key = ... }"
						: "a table, as { key = ... }");
	lua_pushnil(r->L);
	while (ok && lua_next(r->L, -2)) {
		const char *name = lua_type(r->L, -2) == LUA_TSTRING ? lua_tostring(r->L, -2)
								     : NULL;
		const char *inner = arena_printf(&r->c->arena, "%s.%.64s", path, name ? name : "?")
					    .p;

		if (!inner)
			ok = err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
		else if (!name)
			ok = config_fail(r, path, "expected members with names");
		else
			ok = read_member(r, inner, name, witness, p);
		lua_pop(r->L, 1);
	}
	if (!ok)
		return false;
	if (!p->key || (witness && !p->url))
		return config_fail(r, path, "%s is missing",
				   !p->key ? "key: its verifier key" : "url: where it is asked");
	if (!p->name && !plain(p->key_name))
		return config_fail(r, path, "give it a %s of visible ASCII",
				   witness ? "name" : "origin");
	if (!p->name)
		p->name = p->key_name;
	return true;
}

static bool check_twice(struct config_reader *r, const char *path, const struct config_parties *l)
{
	for (size_t i = 0; i < l->n; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(l->items[i].key, l->items[j].key) == 0)
				return config_fail(r, path, "the key %.100s is there twice",
						   l->items[i].key);
	return true;
}

bool config_read_parties(struct config_reader *r, const struct setting *s)
{
	struct config_parties *out = (struct config_parties *)(void *)((char *)r->c + s->offset);
	struct config_parties l = { 0 };
	lua_Unsigned n;
	bool ok = true;

	if (lua_type(r->L, -1) != LUA_TTABLE)
		return config_fail_type(r, s->name, "a list of tables");
	n = lua_rawlen(r->L, -1);
	if (n > (lua_Unsigned)s->max)
		return config_fail(r, s->name, "at most %d entries", (int)s->max);
	lua_pushnil(r->L);
	while (lua_next(r->L, -2)) {
		lua_pop(r->L, 1);
		if (lua_type(r->L, -1) != LUA_TNUMBER)
			return config_fail(r, s->name, "expected a list of tables");
	}
	l.items = arena_zero(&r->c->arena, ((size_t)n + 1) * sizeof(*l.items));
	for (; ok && l.items && l.n < n; l.n++) {
		const char *path = arena_printf(&r->c->arena, "%s[%d]", s->name, (int)l.n + 1).p;

		lua_rawgeti(r->L, -1, (lua_Integer)l.n + 1);
		ok = path && read_party(r, path, s->min == WITNESSES, &l.items[l.n]);
		lua_pop(r->L, 1);
	}
	if (!l.items)
		return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	*out = l;
	return ok && check_twice(r, s->name, &l);
}
