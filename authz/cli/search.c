/* audit search, show, reindex: what was done, on whose behalf, and why it was let. */
#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

#define SEARCH_LINES 50
#define SEARCH_MAX 1000000
#define SEARCH_PAGE 500
#define PATH_MAX_BYTES 16384
#define SEARCH_PAGES 1000000 /* of which each may be empty */
#define BEHIND 10000	     /* records that the index may lack before it is worth a word */

/* ---- search ---- */

static bool put_filters(struct cli *c, struct buf *b)
{
	static const struct {
		const char *option, *name;
	} filters[] = {
		{ "--agent", "agent" },
		{ "--tool", "tool" },
		{ "--model", "model" },
		{ "--action", "action" },
		{ "--decision", "decision" },
		{ "--reason", "reason" },
		{ "--rule", "rule" },
		{ "--generation", "generation" },
		{ "--rollout", "rollout" },
		{ "--trace-id", "trace_id" },
		{ "--pep", "pep" },
		{ "--kind", "kind" },
		{ "--user", "user" },
		{ "--delegate", "delegate" },
		{ "--delegation", "delegation" },
		{ "--since", "since" },
		{ "--until", "until" },
	};

	buf_printf(b, "/v1/audit/records?order=%s", cli_flag(c, "--oldest") ? "oldest" : "newest");
	for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
		const char *value = cli_value(c, filters[i].option);

		if (!value)
			continue;
		buf_printf(b, "&%s=", filters[i].name);
		if (i >= ARRAY_LEN(filters) - 2)
			audit_put_moment(b, value);
		else
			client_encode(b, str_c(value));
	}
	return buf_ok(b);
}

/* A member, or a dash: columns stay where they are. */
static void put_member(struct buf *b, const struct json *record, const char *name)
{
	const struct json *v = json_get(record, str_c(name));

	buf_char(b, ' ');
	if (v)
		print_value(b, v);
	else
		buf_char(b, '-');
}

/* Time, decision, agent, action, what on, rule, reason, evaluation id; of other kinds: who and
 * what. */
static void put_line(struct buf *b, const struct json *v, const struct json *key)
{
	const struct json *seq = json_get_type(v, STR("seq"), JSON_INT);
	bool decided = json_get(v, STR("decision")) != NULL;

	print_time(b, json_get(v, STR("time")));
	put_member(b, v, decided ? "decision" : "kind");
	put_member(b, v, json_get(v, STR("agent")) ? "agent" : "pep");
	if (decided) {
		put_member(b, v, "action");
		put_member(b, v, json_get(v, STR("model")) ? "model" : "tool");
		put_member(b, v, "rule");
		put_member(b, v, "reason");
	} else {
		put_member(b, v, "act");
		put_member(b, v, "reason");
	}
	buf_lit(b, " ev_");
	print_value(b, key);
	buf_printf(b, "_%" PRId64 "\n", seq ? seq->i : -1);
}

struct found {
	uint64_t left;	 /* lines that may still be printed */
	uint64_t n;	 /* printed */
	struct buf next; /* token of the next page; empty: there is none */
	int64_t behind;	 /* records the index lacks */
};

static int print_page(struct cli *c, const struct answer *a, struct found *f)
{
	const struct json *records = json_get_type(a->value, STR("records"), JSON_ARRAY);
	const struct json *key = json_get_type(a->value, STR("key_id"), JSON_STRING);
	const struct json *next = json_get_type(a->value, STR("next_page"), JSON_STRING);
	const struct json *indexed = json_get_type(a->value, STR("indexed"), JSON_INT);
	const struct json *size = json_get_type(a->value, STR("size"), JSON_INT);
	struct err e = { 0 };
	AUTO_BUF b = { 0 };

	if (!records || !key || !indexed || !size || records->n > f->left) {
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's answer holds no records");
		return cli_fail(c, &e);
	}
	buf_init(&b, mem_system, 1024 * 1024);
	for (uint32_t i = 0; i < records->n; i++) {
		buf_reset(&b);
		if (c->json) {
			buf_add(&b, records->items[i].raw);
			buf_char(&b, '\n');
		} else {
			put_line(&b, &records->items[i], key);
		}
		fwrite(b.p, 1, b.n, c->out);
	}
	f->left -= records->n;
	f->n += records->n;
	f->behind = size->i - indexed->i;
	buf_reset(&f->next);
	if (next)
		buf_add(&f->next, next->s);
	return CLI_DONE;
}

static int one_page(struct cli *c, const struct api *api, struct str filters, struct found *f)
{
	struct client_request q = { .method = "GET" };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF path;
	int exit_code = CLI_FAILED;

	buf_init(&path, mem_system, 2 * PATH_MAX_BYTES);
	buf_add(&path, filters);
	buf_printf(&path, "&limit=%" PRIu64, f->left < SEARCH_PAGE ? f->left : SEARCH_PAGE);
	if (f->next.n) {
		buf_lit(&path, "&page=");
		client_encode(&path, buf_str(&f->next));
	}
	buf_char(&path, '\0');
	q.path = path.p;
	if (!buf_ok(&path))
		return cli_misuse(c, "the filters are longer than %d bytes", PATH_MAX_BYTES);
	return api_ask(c, api, &q, true, &a, &exit_code) ? print_page(c, &a, f) : exit_code;
}

int run_audit_search(struct cli *c)
{
	const char *limit = cli_value(c, "--limit");
	struct found f = { .left = SEARCH_LINES };
	struct api api;
	struct err e = { 0 };
	AUTO_BUF filters;
	int exit_code, pages = 0;

	buf_init(&filters, mem_system, PATH_MAX_BYTES);
	if (limit && (!text_u64(str_c(limit), SEARCH_MAX, &f.left) || !f.left))
		return cli_misuse(c, "--limit %.60s: expected a number from 1 to %d", limit,
				  SEARCH_MAX);
	if (!put_filters(c, &filters))
		return cli_misuse(c, "the filters are longer than %d bytes", PATH_MAX_BYTES);
	if (!api_open(c, API_ADMIN, &api, &e))
		return cli_fail(c, &e);
	buf_init(&f.next, mem_system, PATH_MAX_BYTES);
	do
		exit_code = one_page(c, &api, buf_str(&filters), &f);
	while (exit_code == CLI_DONE && f.left && f.next.n && ++pages < SEARCH_PAGES);
	if (exit_code == CLI_DONE && !f.n)
		fprintf(c->err, "No record is like that.\n");
	else if (exit_code == CLI_DONE && f.next.n)
		fprintf(c->err, "There are more: see --limit, --since and --until.\n");
	if (exit_code == CLI_DONE && f.behind > BEHIND)
		fprintf(c->err,
			"The index lacks %" PRId64 " records yet; they were read from the log.\n",
			f.behind);
	buf_clear(&f.next);
	return exit_code;
}

/* ---- show ---- */

static void print_members(FILE *out, const struct json *record)
{
	static const struct {
		const char *label, *member;
	} lines[] = {
		{ "kind", "kind" },
		{ "agent", "agent" },
		{ "asked by", "pep" },
		{ "action", "action" },
		{ "tool", "tool" },
		{ "model", "model" },
		{ "decision", "decision" },
		{ "rule", "rule" },
		{ "reason", "reason" },
		{ "generation", "generation" },
		{ "policy", "policy_sha256" },
		{ "trace", "trace_id" },
	};
	AUTO_BUF b;

	buf_init(&b, mem_system, 1024 * 1024);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		const struct json *v = json_get(record, str_c(lines[i].member));

		if (!v)
			continue;
		buf_printf(&b, "%-11s ", lines[i].label);
		print_value(&b, v);
		buf_char(&b, '\n');
	}
	/* What has no name here is shown as it is called. */
	for (uint32_t i = 0; i < record->n; i++) {
		bool known = str_ends(record->items[i].name, STR("_commit"));

		for (size_t k = 0; k < ARRAY_LEN(lines); k++)
			known |= str_eq(record->items[i].name, str_c(lines[k].member));
		if (known)
			continue;
		buf_printf(&b, "%-11.*s ", STR_FMT(str_first(record->items[i].name, 60)));
		if (str_eq(record->items[i].name, STR("time")))
			print_time(&b, &record->items[i]);
		else
			print_value(&b, &record->items[i]);
		buf_char(&b, '\n');
	}
	fwrite(b.p, 1, b.n, out);
}

int run_audit_show(struct cli *c)
{
	const struct json *record, *openings, *erased, *id;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF path = { 0 };
	AUTO_BUF b = { 0 };
	uint64_t n;
	int exit_code;

	buf_init(&path, mem_system, PATH_MAX_BYTES);
	buf_printf(&path, "/v1/audit/record?%s=",
		   text_u64(str_c(c->operands[0]), INT64_MAX - 1, &n) ? "seq" : "id");
	client_encode(&path, str_c(c->operands[0]));
	buf_char(&path, '\0');
	if (!buf_ok(&path))
		return cli_misuse(c, "%.60s: expected an evaluation id or the number of a record",
				  c->operands[0]);
	if (!api_call(c, API_ADMIN, "GET", path.p, (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	id = json_get_type(a.value, STR("id"), JSON_STRING);
	record = json_get_type(a.value, STR("record"), JSON_OBJECT);
	openings = json_get_type(a.value, STR("openings"), JSON_OBJECT);
	erased = json_get_type(a.value, STR("erased"), JSON_ARRAY);
	if (!id || !record || !openings || !erased) {
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's answer holds no record");
		return cli_fail(c, &e);
	}
	if (c->json) {
		answer_print(c, &a);
		return CLI_DONE;
	}
	buf_init(&b, mem_system, 1024);
	print_value(&b, id);
	fprintf(c->out, "%-11s %.*s\n", "id", STR_FMT(buf_str(&b)));
	print_members(c->out, record);
	print_object(c->out, openings);
	buf_reset(&b);
	print_value(&b, erased);
	if (erased->n)
		fprintf(c->out, "%-11s %.*s\n", "erased", STR_FMT(buf_str(&b)));
	return CLI_DONE;
}

int run_audit_reindex(struct cli *c)
{
	const struct json *size;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (!api_call(c, API_ADMIN, "POST", "/v1/audit/reindex", STR("{}"), &a, &exit_code))
		return exit_code;
	size = json_get_type(a.value, STR("size"), JSON_INT);
	if (!size) {
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's answer has no size");
		return cli_fail(c, &e);
	}
	if (c->json)
		answer_print(c, &a);
	else
		fprintf(c->out,
			"the index over %" PRId64 " records is made anew; `writ status` shows how "
			"far it is. Searches stay complete meanwhile.\n",
			size->i);
	return CLI_DONE;
}
