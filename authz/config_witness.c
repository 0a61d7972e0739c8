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

struct draft {
	struct config_party *p;
	bool witness;
};

static bool read_member(struct config_reader *r, const char *path, const char *name, void *draft)
{
	struct config_party *p = ((struct draft *)draft)->p;
	bool witness = ((struct draft *)draft)->witness;

	if (strcmp(name, "key") == 0)
		return read_key(r, path, witness, p);
	if (witness && strcmp(name, "url") == 0)
		return read_url(r, path, p);
	if (strcmp(name, witness ? "name" : "origin") == 0)
		return read_name(r, path, &p->name);
	return config_no_member(r, path, name, witness ? witness_members : log_members);
}

struct rows {
	struct config_party *items;
	bool witness;
};

static bool read_party(struct config_reader *r, const char *path, size_t i, void *ctx)
{
	const struct rows *rows = ctx;
	struct config_party *p = &rows->items[i];
	bool witness = rows->witness;
	struct draft d = { p, witness };

	if (!config_each_member(r, path,
				witness ? "a table, as { url = ..., key = ... }"
					: "a table, as { key = ... }",
				read_member, &d))
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
	struct rows rows = { .witness = s->min == WITNESSES };
	size_t n;

	if (!config_read_rows(r, s, &n))
		return false;
	rows.items = arena_zero(&r->c->arena, (n + 1) * sizeof(*rows.items));
	if (!rows.items)
		return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	*out = (struct config_parties){ rows.items, n };
	return config_each_row(r, s, n, read_party, &rows) && check_twice(r, s->name, out);
}
