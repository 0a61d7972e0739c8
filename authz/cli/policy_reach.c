/* policy who, policy what: read from the rules in force and the registry, through the server. */
#include <inttypes.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

#define SHOWN 1000	 /* results, unless --limit says otherwise */
#define SHOWN_MAX 100000 /* all are held to be grouped */
#define PAGE 1000	 /* the server's largest */
#define PATH_MAX_BYTES ((size_t)64 * 1024)

/* One result: those of the same rules and outcome stand together. */
struct item {
	const struct json *value; /* in its page */
	struct str could, rules;  /* rules: as they came */
	struct str name;
};

/* Everything that came, page by page. */
struct pages {
	struct answer *answers;
	size_t nanswers;
	struct item *items;
	size_t n, limit;
	bool more;
};

static void pages_clear(struct pages *p)
{
	for (size_t i = 0; i < p->nanswers; i++)
		answer_clear(&p->answers[i]);
	free(p->answers);
	free(p->items);
}

static bool keep(struct pages *p, const struct json *results)
{
	uint32_t n = results ? results->n : 0;
	struct item *items = realloc(p->items, (p->n + n + 1) * sizeof(*items));

	if (!items)
		return false;
	p->items = items;
	for (uint32_t i = 0; i < n; i++) {
		const struct json *v = &results->items[i];
		const struct json *rules = json_get_type(v, STR("rules"), JSON_ARRAY);
		struct str name = answer_text(v, "spiffe_id");

		p->items[p->n++] = (struct item){ .value = v,
						  .could = answer_text(v, "could"),
						  .rules = rules ? rules->raw : STR("[]"),
						  .name = name.n ? name : answer_text(v, "id") };
	}
	return true;
}

/* @query begins with '?'. False: an error has been printed. */
static bool fetch(struct cli *c, struct pages *p, struct str query, int *exit_code)
{
	struct str after = { NULL, 0 };
	struct err e = { 0 };
	AUTO_BUF path;

	buf_init(&path, mem_system, PATH_MAX_BYTES);
	for (;;) {
		size_t left = p->limit - p->n;
		struct answer *more = realloc(p->answers, (p->nanswers + 1) * sizeof(*more));
		struct answer *a;

		buf_reset(&path);
		buf_add(&path, query);
		buf_printf(&path, "&limit=%zu", left < PAGE ? left : PAGE);
		if (after.n) {
			buf_lit(&path, "&after=");
			client_encode(&path, after);
		}
		buf_char(&path, '\0');
		if (more)
			p->answers = more;
		if (!more || !buf_ok(&path)) {
			err_set(&e, ERR_NOMEM, "no memory for the results");
			*exit_code = cli_fail(c, &e);
			return false;
		}
		a = &p->answers[p->nanswers++];
		*a = (struct answer){ 0 };
		if (!api_call(c, API_ADMIN, "GET", path.p, (struct str){ 0 }, a, exit_code))
			return false;
		if (!keep(p, json_get_type(a->value, STR("results"), JSON_ARRAY))) {
			err_set(&e, ERR_NOMEM, "no memory for the results");
			*exit_code = cli_fail(c, &e);
			return false;
		}
		after = answer_text(a->value, "next");
		p->more = after.n > 0;
		if (!after.n || p->n >= p->limit)
			return true;
	}
}

static int by_rules(const void *pa, const void *pb)
{
	const struct item *a = pa, *b = pb;
	int c = str_cmp(a->could, b->could);

	c = c ? c : str_cmp(a->rules, b->rules);
	return c ? c : str_cmp(a->name, b->name);
}

static void put_rule(struct buf *b, const struct json *rule)
{
	const struct json *line = json_get_type(rule, STR("line"), JSON_INT);
	const struct json *when = json_get_type(rule, STR("depends_on_when_at"), JSON_INT);

	buf_lit(b, "  ");
	print_safe(b, answer_text(rule, "effect"));
	buf_char(b, ' ');
	print_safe(b, answer_text(rule, "rule"));
	buf_lit(b, "  ");
	print_safe(b, answer_text(rule, "file"));
	buf_printf(b, ":%" PRId64, line ? line->i : 0);
	if (when) {
		buf_lit(b, ", depends on when at ");
		print_safe(b, answer_text(rule, "file"));
		buf_printf(b, ":%" PRId64, when->i);
	}
	buf_char(b, '\n');
}

static void put_heading(struct buf *b, const struct item *first)
{
	static const struct {
		struct str could;
		const char *text;
	} outcomes[] = {
		{ STR_INIT("permit"), "permitted" },
		{ STR_INIT("ask"), "asked about, each time" },
		{ STR_INIT("depends"), "depends on the request" },
	};
	const struct json *rules = json_get_type(first->value, STR("rules"), JSON_ARRAY);
	const struct json *more = json_get_type(first->value, STR("more_rules"), JSON_INT);

	buf_char(b, '\n');
	for (size_t i = 0; i < ARRAY_LEN(outcomes); i++)
		if (str_eq(outcomes[i].could, first->could))
			buf_printf(b, "%s, by\n", outcomes[i].text);
	for (uint32_t i = 0; rules && i < rules->n; i++)
		put_rule(b, &rules->items[i]);
	if (more)
		buf_printf(b, "  and %" PRId64 " rules more\n", more->i);
}

static int put_text(struct cli *c, struct pages *p, const char *none)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct item *x = &p->items[i];
		struct str type = answer_text(x->value, "type");
		AUTO_BUF b;

		buf_init(&b, mem_system, (size_t)1 << 20);
		if (!i || !str_eq(x->could, x[-1].could) || !str_eq(x->rules, x[-1].rules))
			put_heading(&b, x);
		buf_lit(&b, "    ");
		if (type.n) {
			print_safe(&b, type);
			buf_char(&b, ' ');
		}
		print_safe(&b, x->name);
		buf_char(&b, '\n');
		fwrite(b.p, 1, b.n, c->out);
	}
	if (!p->n)
		fprintf(c->out, "%s\n", none);
	if (p->more)
		fprintf(c->out, "\nthere may be more: --limit N shows up to %d\n", SHOWN_MAX);
	return CLI_DONE;
}

/* The first page's own members, and the results of all. */
static int put_json(struct cli *c, const struct pages *p)
{
	const struct json *head = p->answers[0].value;
	AUTO_BUF b;

	buf_init(&b, mem_system, (size_t)256 << 20);
	buf_char(&b, '{');
	for (uint32_t i = 0; i < head->n; i++) {
		const struct json *m = &head->items[i];

		if (str_eq(m->name, STR("results")) || str_eq(m->name, STR("next")) ||
		    str_eq(m->name, STR("looked_at")))
			continue;
		buf_json(&b, m->name);
		buf_char(&b, ':');
		json_canonical(&b, m);
		buf_char(&b, ',');
	}
	buf_lit(&b, "\"results\":[");
	for (size_t i = 0; i < p->n; i++) {
		if (i)
			buf_char(&b, ',');
		json_canonical(&b, p->items[i].value);
	}
	buf_printf(&b, "],\"more\":%s}\n", p->more ? "true" : "false");
	if (!buf_ok(&b)) {
		struct err e = { 0 };

		err_set(&e, ERR_NOMEM, "no memory for the results");
		return cli_fail(c, &e);
	}
	fwrite(b.p, 1, b.n, c->out);
	return CLI_DONE;
}

static bool read_limit(struct cli *c, struct pages *p, int *exit_code)
{
	const char *text = cli_value(c, "--limit");
	uint64_t limit = SHOWN;

	if (text && (!text_u64(str_c(text), SHOWN_MAX, &limit) || !limit)) {
		*exit_code = cli_misuse(c, "--limit %.60s: expected a number from 1 to %d", text,
					SHOWN_MAX);
		return false;
	}
	p->limit = limit;
	return true;
}

static void put_head(struct cli *c, const struct json *head)
{
	const struct json *generation = json_get_type(head, STR("generation"), JSON_INT);
	struct str action = answer_text(head, "action"), state = answer_text(head, "state");
	AUTO_BUF b;

	buf_init(&b, mem_system, 65536);
	print_safe(&b, action.n ? action : answer_text(head, "spiffe_id"));
	if (action.n) {
		buf_char(&b, ' ');
		print_safe(&b, answer_text(head, "id"));
		buf_lit(&b, ": agents that could be allowed");
	} else if (str_eq(state, STR("active"))) {
		buf_lit(&b, ": what it could be allowed");
	} else {
		buf_lit(&b, " is ");
		print_safe(&b, state);
		buf_lit(&b, ": it is denied everything");
	}
	buf_printf(&b, ", by generation %" PRId64 "\n", generation ? generation->i : 0);
	fwrite(b.p, 1, b.n, c->out);
}

static int reach(struct cli *c, struct str query, const char *none)
{
	struct pages p = { 0 };
	int exit_code;

	if (!read_limit(c, &p, &exit_code))
		return exit_code;
	if (fetch(c, &p, query, &exit_code)) {
		qsort(p.items, p.n, sizeof(*p.items), by_rules);
		if (c->json) {
			exit_code = put_json(c, &p);
		} else {
			put_head(c, p.answers[0].value);
			exit_code = put_text(c, &p, none);
		}
	}
	pages_clear(&p);
	return exit_code;
}

static void put_parameter(struct buf *b, const char *name, const char *value)
{
	if (!value)
		return;
	buf_printf(b, "%c%s=", memchr(b->p, '?', b->n) ? '&' : '?', name);
	client_encode(b, str_c(value));
}

int run_policy_who(struct cli *c)
{
	const char *tool = cli_value(c, "--tool"), *model = cli_value(c, "--model");
	AUTO_BUF q;

	buf_init(&q, mem_system, PATH_MAX_BYTES / 2);
	if (!tool == !model)
		return cli_misuse(
			c, "name what it is about: --tool SERVER/TOOL or --model ID, one of them");
	buf_lit(&q, "/v1/policies/who");
	put_parameter(&q, "tool", tool);
	put_parameter(&q, "model", model);
	put_parameter(&q, "action", cli_value(c, "--action"));
	return reach(c, buf_str(&q), "nobody: no active agent could be allowed this");
}

int run_policy_what(struct cli *c)
{
	const char *agent = cli_value(c, "--agent");
	AUTO_BUF q;

	buf_init(&q, mem_system, PATH_MAX_BYTES / 2);
	if (!agent)
		return cli_misuse(c, "name the agent with --agent SPIFFE_ID");
	buf_lit(&q, "/v1/policies/what");
	put_parameter(&q, "agent", agent);
	return reach(c, buf_str(&q), "nothing: there is no tool or model it could be allowed");
}
