/* agent: the registry, from the shell. The body of a request is built member by member. */
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

#define AGENT_BODY (256 * 1024)
#define AGENT_PAGE 500

static const struct column columns[] = {
	{ "STATE", "state" }, { "SPIFFE ID", "spiffe_id" }, { "OWNER", "owner" },
	{ "TTL", "ttl" },     { "EXPIRES", "expires_at" },  { "ATTRIBUTES", "attributes" },
};

/* ,"name": or {"name": */
static void put_name(struct buf *b, const char *name)
{
	buf_char(b, b->n ? ',' : '{');
	buf_json(b, str_c(name));
	buf_char(b, ':');
}

static void put_string(struct buf *b, const char *name, const char *value)
{
	if (!value)
		return;
	put_name(b, name);
	buf_json(b, str_c(value));
}

static void put_selectors(struct cli *c, struct buf *b)
{
	const char *value;
	size_t at = 0;
	bool first = true;

	if (!cli_flag(c, "--selector"))
		return;
	put_name(b, "selectors");
	while ((value = cli_next(c, "--selector", &at))) {
		buf_char(b, first ? '[' : ',');
		first = false;
		buf_json(b, str_c(value));
	}
	buf_char(b, ']');
}

/* Names, or one word: none of them, or all there are. */
static int put_federates(struct cli *c, struct buf *b)
{
	const char *value, *only = NULL;
	size_t at = 0, n = 0;

	if (!cli_flag(c, "--federates-with"))
		return CLI_DONE;
	put_name(b, "federates_with");
	while ((value = cli_next(c, "--federates-with", &at))) {
		if (strcmp(value, "none") == 0 || strcmp(value, "all") == 0)
			only = value;
		buf_char(b, n++ ? ',' : '[');
		buf_json(b, str_c(value));
	}
	if (only && n > 1)
		return cli_misuse(c, "--federates-with %s stands alone", only);
	if (!only) {
		buf_char(b, ']');
		return CLI_DONE;
	}
	b->n -= strlen(only) + strlen("[\"\"");
	buf_add(b, only[0] == 'n' ? STR("[]") : STR("null"));
	return CLI_DONE;
}

static bool is_unset(struct cli *c, struct str name)
{
	const char *value;
	size_t at = 0;

	while ((value = cli_next(c, "--unset", &at)))
		if (str_eq(str_c(value), name))
			return true;
	return false;
}

static bool is_set(struct cli *c, struct str name, size_t until)
{
	struct str key, text;
	const char *value;
	size_t at = 0;

	while (at < until && (value = cli_next(c, "--set", &at)) && at <= until)
		if (str_cut(str_c(value), '=', &key, &text) && str_eq(key, name))
			return true;
	return false;
}

/* A slip of the finger must not leave a right in place and say "updated". */
static bool unset_are_there(struct cli *c, const struct json *old, struct err *e)
{
	const char *value;
	size_t at = 0;

	while ((value = cli_next(c, "--unset", &at)))
		if (!old || !json_get(old, str_c(value)))
			return err_code(e, ERR_NOT_FOUND, "unknown_attribute",
					"--unset %.80s: it has no such attribute, so nothing was "
					"changed; `writ agent show` prints those it has",
					value);
	return true;
}

/* The attributes as they shall be: those of @old that are neither set nor unset, and those set. */
static int put_attributes(struct cli *c, struct buf *b, const struct json *old)
{
	struct str key, text;
	const char *value;
	size_t at = 0;
	bool first = true;

	if (!cli_flag(c, "--set") && !cli_flag(c, "--unset"))
		return CLI_DONE;
	put_name(b, "attributes");
	buf_char(b, '{');
	for (uint32_t i = 0; old && i < old->n; i++) {
		const struct json *m = &old->items[i];

		if (is_unset(c, m->name) || is_set(c, m->name, SIZE_MAX))
			continue;
		if (!first)
			buf_char(b, ',');
		first = false;
		buf_json(b, m->name);
		buf_char(b, ':');
		json_canonical(b, m);
	}
	for (;;) {
		size_t before = at;

		value = cli_next(c, "--set", &at);
		if (!value)
			break;
		if (!str_cut(str_c(value), '=', &key, &text) || key.n == 0)
			return cli_misuse(c, "--set %.60s: expected NAME=VALUE", value);
		if (is_set(c, key, before) || is_unset(c, key))
			return cli_misuse(c, "attribute %.*s is given twice", STR_FMT(key));
		if (!first)
			buf_char(b, ',');
		first = false;
		buf_json(b, key);
		buf_char(b, ':');
		buf_json(b, text);
	}
	buf_char(b, '}');
	return CLI_DONE;
}

static int put_times(struct cli *c, struct buf *b)
{
	const char *ttl = cli_value(c, "--ttl");
	int64_t seconds;

	if (ttl && !text_duration(str_c(ttl), &seconds))
		return cli_misuse(c, "--ttl %.60s: expected a duration such as 90s, 15m, 1h or 7d",
				  ttl);
	put_string(b, "ttl", ttl);
	put_string(b, "expires", cli_value(c, "--expires"));
	return CLI_DONE;
}

static const struct column orphan_columns[] = {
	{ "WHY", "orphan" },  { "STATE", "state" },  { "SPIFFE ID", "spiffe_id" },
	{ "OWNER", "owner" }, { "SEEN", "seen_at" }, { "EXPIRES", "expires_at" },
};

static int print_entry(struct cli *c, const struct answer *a, const char *done)
{
	const struct json *id = json_get_type(a->value, STR("spiffe_id"), JSON_STRING);

	if (c->json) {
		answer_print(c, a);
		return CLI_DONE;
	}
	if (done && id) {
		fprintf(c->out, "%s ", done);
		print_text(c->out, id->s);
		fputc('\n', c->out);
	}
	print_object(c->out, a->value);
	return CLI_DONE;
}

int run_agent_register(struct cli *c)
{
	AUTO_ANSWER a = { 0 };
	AUTO_BUF b = { 0 };
	int exit_code;

	if (!cli_value(c, "--owner"))
		return cli_misuse(c, "--owner is missing: who answers for this agent");
	buf_init(&b, mem_system, AGENT_BODY);
	put_string(&b, "spiffe_id", c->operands[0]);
	put_string(&b, "owner", cli_value(c, "--owner"));
	put_string(&b, "purpose", cli_value(c, "--purpose"));
	if ((exit_code = put_attributes(c, &b, NULL)) != CLI_DONE ||
	    (exit_code = put_times(c, &b)) != CLI_DONE)
		return exit_code;
	put_selectors(c, &b);
	if ((exit_code = put_federates(c, &b)) != CLI_DONE)
		return exit_code;
	buf_char(&b, '}');
	if (!buf_ok(&b))
		return cli_misuse(c, "too much for one agent: over %d KiB", AGENT_BODY / 1024);
	if (!api_call(c, API_ADMIN, "POST", "/v1/agents", buf_str(&b), &a, &exit_code))
		return exit_code;
	return print_entry(c, &a, "registered");
}

/* The one entry of an ID, or an error on stderr. */
static const struct json *find_entry(struct cli *c, const char *id, struct answer *a,
				     int *exit_code)
{
	const struct json *agents;
	struct err e = { 0 };
	AUTO_BUF path;

	buf_init(&path, mem_system, 16384);
	buf_lit(&path, "/v1/agents?id=");
	client_encode(&path, str_c(id));
	buf_char(&path, '\0');
	if (!buf_ok(&path)) {
		*exit_code = cli_misuse(c, "a SPIFFE ID has at most 2048 bytes");
		return NULL;
	}
	if (!api_call(c, API_ADMIN, "GET", path.p, (struct str){ 0 }, a, exit_code))
		return NULL;
	agents = json_get_type(a->value, STR("agents"), JSON_ARRAY);
	if (agents && agents->n == 1 && agents->items[0].type == JSON_OBJECT)
		return &agents->items[0];
	err_code(&e, ERR_NOT_FOUND, "unknown_agent",
		 "%.200s is not registered; see: writ agent list", id);
	*exit_code = cli_fail(c, &e);
	return NULL;
}

int run_agent_show(struct cli *c)
{
	AUTO_ANSWER a = { 0 };
	int exit_code = CLI_FAILED;
	const struct json *entry = find_entry(c, c->operands[0], &a, &exit_code);

	if (!entry)
		return exit_code;
	if (c->json)
		fprintf(c->out, "%.*s\n", STR_FMT(entry->raw));
	else
		print_object(c->out, entry);
	return CLI_DONE;
}

/* One page from after @last; *last becomes the last ID of it. @more: there may be others. */
static int list_page(struct cli *c, struct buf *last, bool first, bool *more)
{
	bool orphans = cli_flag(c, "--orphans");
	const struct json *agents, *id;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF path;
	int exit_code;

	buf_init(&path, mem_system, 16384);
	buf_printf(&path, "/v1/agents?limit=%d%s", AGENT_PAGE, orphans ? "&orphans=true" : "");
	if (last->n) {
		buf_lit(&path, "&after=");
		client_encode(&path, buf_str(last));
	}
	buf_char(&path, '\0');
	if (!api_call(c, API_ADMIN, "GET", path.p, (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	agents = json_get_type(a.value, STR("agents"), JSON_ARRAY);
	*more = agents && agents->n;
	if (!*more) {
		if (first && orphans && !c->json)
			fprintf(c->out, "no orphans\n");
		else if (first && !c->json)
			fprintf(c->out, "no agents; register one with: "
					"writ agent register SPIFFE_ID --owner OWNER\n");
		return CLI_DONE;
	}
	id = json_get_type(&agents->items[agents->n - 1], STR("spiffe_id"), JSON_STRING);
	if (!id || str_cmp(id->s, buf_str(last)) <= 0) { /* would go on for ever */
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's pages are not in order");
		return cli_fail(c, &e);
	}
	if (c->json)
		for (uint32_t i = 0; i < agents->n; i++)
			fprintf(c->out, "%s%.*s", first && i == 0 ? "" : ",",
				STR_FMT(agents->items[i].raw));
	else if (orphans)
		print_table(c->out, orphan_columns, ARRAY_LEN(orphan_columns), agents, first);
	else
		print_table(c->out, columns, ARRAY_LEN(columns), agents, first);
	buf_reset(last);
	buf_add(last, id->s);
	return CLI_DONE;
}

int run_agent_list(struct cli *c)
{
	bool first = true, more = true;
	int exit_code = CLI_DONE;
	AUTO_BUF last;

	buf_init(&last, mem_system, 4096);
	while (more && exit_code == CLI_DONE) {
		if (c->json && first)
			fprintf(c->out, "{\"agents\":[");
		exit_code = list_page(c, &last, first, &more);
		first = false;
	}
	if (c->json)
		fprintf(c->out, "]}\n");
	return exit_code;
}

int run_agent_update(struct cli *c)
{
	static const char *const changes[] = { "--owner",   "--purpose",       "--set",
					       "--unset",   "--selector",      "--ttl",
					       "--expires", "--federates-with" };
	const struct json *entry, *attributes;
	AUTO_ANSWER old = { 0 }, a = { 0 };
	AUTO_BUF b = { 0 };
	struct err e = { 0 };
	bool any = false;
	int exit_code = CLI_FAILED;

	for (size_t i = 0; i < ARRAY_LEN(changes); i++)
		any |= cli_flag(c, changes[i]);
	if (!any)
		return cli_misuse(c, "nothing to change; see --help");
	entry = find_entry(c, c->operands[0], &old, &exit_code);
	if (!entry)
		return exit_code;
	attributes = json_get_type(entry, STR("attributes"), JSON_OBJECT);
	if (!unset_are_there(c, attributes, &e))
		return cli_fail(c, &e);
	buf_init(&b, mem_system, AGENT_BODY);
	put_string(&b, "spiffe_id", c->operands[0]);
	put_string(&b, "owner", cli_value(c, "--owner"));
	put_string(&b, "purpose", cli_value(c, "--purpose"));
	exit_code = put_attributes(c, &b, attributes);
	if (exit_code != CLI_DONE || (exit_code = put_times(c, &b)) != CLI_DONE)
		return exit_code;
	put_selectors(c, &b);
	if ((exit_code = put_federates(c, &b)) != CLI_DONE)
		return exit_code;
	buf_char(&b, '}');
	if (!api_call(c, API_ADMIN, "POST", "/v1/agents/update", buf_str(&b), &a, &exit_code))
		return exit_code;
	return print_entry(c, &a, "updated");
}

int run_agent_state(struct cli *c)
{
	const char *name = c->command->name;
	const char *done = strcmp(name, "suspend") == 0	 ? "suspended"
			   : strcmp(name, "resume") == 0 ? "resumed"
							 : "retired";
	AUTO_ANSWER a = { 0 };
	char path[64];
	AUTO_BUF b = { 0 };
	int exit_code;

	snprintf(path, sizeof(path), "/v1/agents/%s", name);
	buf_init(&b, mem_system, AGENT_BODY);
	put_string(&b, "spiffe_id", c->operands[0]);
	put_string(&b, "reason", cli_value(c, "--reason"));
	buf_char(&b, '}');
	if (!api_call(c, API_ADMIN, "POST", path, buf_str(&b), &a, &exit_code))
		return exit_code;
	return print_entry(c, &a, done);
}

int run_agent_token(struct cli *c)
{
	static const char *const wanted[] = { "join_token", "expires_at", "ca_fingerprint" };
	const char *ttl = cli_value(c, "--ttl");
	AUTO_ANSWER a = { 0 };
	int64_t seconds;
	AUTO_BUF b = { 0 };
	int exit_code;

	if (ttl && !text_duration(str_c(ttl), &seconds))
		return cli_misuse(c, "--ttl %.60s: expected a duration such as 10m", ttl);
	buf_init(&b, mem_system, AGENT_BODY);
	put_string(&b, "spiffe_id", c->operands[0]);
	put_string(&b, "ttl", ttl);
	buf_char(&b, '}');
	if (!api_call(c, API_ADMIN, "POST", "/v1/agents/token", buf_str(&b), &a, &exit_code))
		return exit_code;
	if (c->json) {
		answer_print(c, &a);
		return CLI_DONE;
	}
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
		const struct json *v = json_get_type(a.value, str_c(wanted[i]), JSON_STRING);

		if (!v)
			continue;
		fprintf(c->out, "%s: ", wanted[i]);
		print_text(c->out, v->s);
		fputc('\n', c->out);
	}
	fprintf(c->out, "It works once. Use it with:\n  writ svid x509 --join-token TOKEN --server "
			"https://HOST:PORT --fingerprint FINGERPRINT --dir DIR\n");
	return CLI_DONE;
}
