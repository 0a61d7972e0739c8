/*
 * agent export: the registry as a Lua file that import reads back to the same registry: what each
 * entry says, its state, and the IDs that were retired, so that they stay refused there as well.
 */
#include <errno.h>
#include <stdlib.h>

#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"
#include "authz/store/file.h"

#define EXPORT_MAX (512l * 1024 * 1024)
#define EXPORT_PAGE 1000

static void put_text(struct buf *b, const struct json *entry, const char *from, const char *name)
{
	const struct json *v = json_get_type(entry, str_c(from), JSON_STRING);

	if (!v)
		return;
	buf_printf(b, ", %s = ", name);
	print_lua(b, v->s);
}

static void put_attributes(struct buf *b, const struct json *entry)
{
	const struct json *v = json_get_type(entry, STR("attributes"), JSON_OBJECT);

	if (!v || !v->n)
		return;
	buf_lit(b, ",\n    attributes = { ");
	for (uint32_t i = 0; i < v->n; i++) {
		buf_printf(b, "%s[", i ? ", " : "");
		print_lua(b, v->items[i].name); /* some names are words of Lua: end, in, not */
		buf_lit(b, "] = ");
		print_lua(b, v->items[i].s);
	}
	buf_lit(b, " }");
}

/* An empty list is left out unless it means something: federates_with nobody. */
static void put_list(struct buf *b, const struct json *entry, const char *name, bool empty)
{
	const struct json *v = json_get_type(entry, str_c(name), JSON_ARRAY);

	if (!v || (!v->n && !empty))
		return;
	buf_printf(b, ",\n    %s = { ", name);
	for (uint32_t i = 0; i < v->n; i++) {
		if (i)
			buf_lit(b, ", ");
		print_lua(b, v->items[i].s);
	}
	buf_lit(b, " }");
}

static bool put_entry(struct buf *b, const struct json *entry)
{
	const struct json *id = json_get_type(entry, STR("spiffe_id"), JSON_STRING);
	const struct json *state = json_get_type(entry, STR("state"), JSON_STRING);
	static const char *const ttls[] = { "ttl", "jwt_ttl" };

	if (!id || !state)
		return false;
	buf_lit(b, "  { spiffe_id = ");
	print_lua(b, id->s);
	put_text(b, entry, "owner", "owner");
	put_text(b, entry, "purpose", "purpose");
	put_text(b, entry, "definition", "definition");
	put_attributes(b, entry);
	put_list(b, entry, "selectors", false);
	put_list(b, entry, "federates_with", true);
	for (size_t i = 0; i < ARRAY_LEN(ttls); i++) {
		const struct json *v = json_get_type(entry, str_c(ttls[i]), JSON_INT);
		char set[16];

		snprintf(set, sizeof(set), "%s_set", ttls[i]);
		if (v && json_get(entry, str_c(set)))
			buf_printf(b, ", %s = %lld", ttls[i], (long long)v->i);
	}
	put_text(b, entry, "expires_at", "expires");
	/* Expired is what an active entry becomes by itself. */
	if (!str_eq(state->s, STR("active")) && !str_eq(state->s, STR("expired")))
		put_text(b, entry, "state", "state");
	buf_lit(b, " },\n");
	return true;
}

/* One page from after @last. *more: there may be others. */
static bool put_page(struct cli *c, struct buf *out, struct buf *last, bool *more, struct err *e,
		     int *exit_code)
{
	const struct json *agents, *id = NULL;
	AUTO_ANSWER a = { 0 };
	AUTO_BUF path = { 0 };

	buf_init(&path, mem_system, 16384);
	buf_printf(&path, "/v1/agents?limit=%d", EXPORT_PAGE);
	if (last->n) {
		buf_lit(&path, "&after=");
		client_encode(&path, buf_str(last));
	}
	buf_char(&path, '\0');
	if (!buf_ok(&path))
		return err_set(e, ERR_NOMEM, "out of memory");
	if (!api_call(c, API_ADMIN, "GET", path.p, (struct str){ 0 }, &a, exit_code))
		return false;
	agents = json_get_type(a.value, STR("agents"), JSON_ARRAY);
	*more = agents && agents->n;
	for (uint32_t i = 0; *more && i < agents->n; i++)
		if (!put_entry(out, &agents->items[i]))
			return err_code(e, ERR_INTERNAL, "bad_response",
					"the server's answer is no list of agents");
	if (*more)
		id = json_get_type(&agents->items[agents->n - 1], STR("spiffe_id"), JSON_STRING);
	if (*more && (!id || str_cmp(id->s, buf_str(last)) <= 0)) /* would go on for ever */
		return err_code(e, ERR_INTERNAL, "bad_response",
				"the server's pages are not in order");
	buf_reset(last);
	if (id)
		buf_add(last, id->s);
	return true;
}

/* Whole or not at all, and for its owner alone: it says who may become whom. */
static bool write_out(struct cli *c, struct str text, struct err *e)
{
	const char *output = cli_output(c);

	if (output)
		return file_replace_path(output, text, 0600, e);
	return fwrite(text.p, 1, text.n, c->out) == text.n ||
	       err_set(e, ERR_IO, "cannot write: %s", strerror(errno));
}

int run_agent_export(struct cli *c)
{
	int exit_code = CLI_DONE;
	struct err e = { 0 };
	AUTO_BUF out = { 0 };
	AUTO_BUF last = { 0 };
	bool more = true;

	buf_init(&out, mem_system, EXPORT_MAX);
	buf_init(&last, mem_system, 4096);
	buf_lit(&out, "agents = {\n");
	while (more)
		if (!put_page(c, &out, &last, &more, &e, &exit_code))
			return e.class == ERR_NONE ? exit_code : cli_fail(c, &e);
	buf_lit(&out, "}\n");
	if (!buf_ok(&out))
		err_set(&e, ERR_TOO_LARGE, "the registry is larger than %ld MiB as Lua",
			EXPORT_MAX / 1024 / 1024);
	else
		(void)!write_out(c, buf_str(&out), &e);
	return e.class == ERR_NONE ? CLI_DONE : cli_fail(c, &e);
}
