/* audit redact: erase openings, step by step, and report it. audit hold: what may not be erased. */
#include <inttypes.h>
#include <string.h>

#include "authz/base/clock.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"
#include "authz/store/file.h"

#define BODY_MAX (64 * 1024)
#define REPORT_MAX (256L * 1024 * 1024)

struct totals {
	uint64_t records, openings, held;
	bool forgotten;
	struct buf parts;  /* redactions of all steps, as JSON, with commas between */
	struct buf fields; /* as JSON */
	struct buf by, at; /* of the last step, as JSON */
};

static struct str raw_of(const struct json *v, const char *name)
{
	const struct json *m = json_get(v, str_c(name));

	return m ? m->raw : STR("null");
}

static uint64_t number_of(const struct json *v, const char *name)
{
	const struct json *n = json_get_type(v, str_c(name), JSON_INT);

	return n && n->i > 0 ? (uint64_t)n->i : 0;
}

/* ---- what is asked ---- */

static void put_text(struct cli *c, struct buf *b, const char *option, const char *member)
{
	const char *v = cli_value(c, option);

	if (!v)
		return;
	buf_printf(b, ",\"%s\":", member);
	buf_json(b, str_c(v));
}

static void put_list(struct cli *c, struct buf *b, const char *option, const char *member)
{
	const char *v;
	size_t at = 0;
	uint64_t n;
	bool any = false;

	while ((v = cli_next(c, option, &at))) {
		buf_printf(b, any ? "," : ",\"%s\":[", member);
		any = true;
		if (text_u64(str_c(v), INT64_MAX, &n))
			buf_printf(b, "%" PRIu64, n);
		else
			buf_json(b, str_c(v));
	}
	if (any)
		buf_char(b, ']');
}

static bool put_times(struct cli *c, struct buf *b, int *exit_code)
{
	static const char *const names[] = { "--since", "--until" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int64_t ms = 0;

		if (!cli_moment(c, names[i], &ms, exit_code))
			return false;
		if (ms > 0)
			buf_printf(b, ",\"%s\":%" PRId64, names[i] + 2, ms);
	}
	return true;
}

/* ---- the steps ---- */

static bool add_step(struct totals *t, const struct json *v, uint64_t *next)
{
	const struct json *parts = json_get_type(v, STR("redactions"), JSON_ARRAY);
	const struct json *forgotten = json_get_type(v, STR("forgotten"), JSON_BOOL);
	uint64_t before = *next;

	if (!parts || !forgotten)
		return false;
	t->records += number_of(v, "records");
	t->openings += number_of(v, "openings");
	t->held += number_of(v, "held");
	t->forgotten = forgotten->b;
	for (uint32_t i = 0; i < parts->n; i++) {
		if (t->parts.n)
			buf_char(&t->parts, ',');
		buf_add(&t->parts, parts->items[i].raw);
	}
	buf_reset(&t->fields);
	buf_add(&t->fields, raw_of(v, "fields"));
	buf_reset(&t->by);
	buf_add(&t->by, raw_of(v, "by"));
	buf_reset(&t->at);
	buf_add(&t->at, raw_of(v, "at"));
	*next = number_of(v, "next");
	return !*next || *next > before;
}

/* The server looks at, and erases, a bounded number of records at a time. */
static bool run_steps(struct cli *c, struct str members, struct totals *t, int *exit_code)
{
	uint64_t next = 0;
	struct err e = { 0 };

	do {
		AUTO_ANSWER a = { 0 };
		AUTO_BUF b;

		buf_init(&b, mem_system, BODY_MAX);
		buf_printf(&b, "{\"from\":%" PRIu64, next);
		buf_add(&b, members);
		buf_char(&b, '}');
		if (!buf_ok(&b)) {
			*exit_code = cli_misuse(c, "so much does not fit into one request");
			return false;
		}
		if (!api_call(c, API_ADMIN, "POST", "/v1/audit/redact", buf_str(&b), &a,
			      exit_code)) {
			if (t->records)
				fprintf(c->err,
					"writ: %" PRIu64 " records were erased before that\n",
					t->records);
			return false;
		}
		if (!add_step(t, a.value, &next)) {
			err_code(&e, ERR_INTERNAL, "bad_response",
				 "the server's answer is no step of an erasure");
			*exit_code = cli_fail(c, &e);
			return false;
		}
	} while (next);
	return true;
}

/* ---- the report ---- */

static bool put_proofs(struct cli *c, struct buf *b, const struct totals *t, int *exit_code)
{
	const struct json *parts = NULL;
	struct arena arena;
	struct err e = { 0 };
	AUTO_BUF list;
	bool ok;

	arena_init(&arena, &mem_system, REPORT_MAX);
	buf_init(&list, mem_system, REPORT_MAX);
	buf_char(&list, '[');
	buf_add(&list, buf_str(&t->parts));
	buf_char(&list, ']');
	ok = buf_ok(&list) && json_parse(buf_str(&list), &json_default_limits, &arena, &parts, &e);
	for (uint32_t i = 0; ok && i < parts->n; i++) {
		AUTO_ANSWER a = { 0 };
		char path[96];

		snprintf(path, sizeof(path), "/v1/audit/proof?record=yes&seq=%" PRIu64,
			 number_of(&parts->items[i], "seq"));
		ok = api_call(c, API_ADMIN, "GET", path, (struct str){ 0 }, &a, exit_code);
		if (!ok)
			break;
		buf_add(b, i ? STR(",") : STR(""));
		buf_add(b, raw_of(a.value, "tlog_proof"));
	}
	if (!ok && e.class != ERR_NONE)
		*exit_code = cli_fail(c, &e);
	arena_clear(&arena);
	return ok;
}

/* What was erased, when, by whom, why, and receipts of the records that say so: each verifies by
 * `writ audit verify` as it stands. */
static bool write_report(struct cli *c, const char *file, const struct totals *t, int *exit_code)
{
	static const char elsewhere[] =
		"\"not_reached\":[\"exports with openings that were made before\","
		"\"records that were sent to other systems\",\"backups of the data folder\"]";
	const char *reason = cli_value(c, "--reason"), *basis = cli_value(c, "--basis");
	struct client_request sign = { .method = "POST", .path = "/v1/audit/checkpoint" };
	struct api api;
	struct err e = { 0 };
	AUTO_ANSWER note = { 0 }, key = { 0 };
	AUTO_BUF b;

	buf_init(&b, mem_system, REPORT_MAX);
	if (!api_open(c, API_ADMIN, &api, &e)) {
		*exit_code = cli_fail(c, &e);
		return false;
	}
	/* The checkpoint first: it covers all that the proofs are of. */
	if (!api_ask(c, &api, &sign, false, &note, exit_code) ||
	    !api_call(c, API_ADMIN, "GET", "/v1/audit/key", (struct str){ 0 }, &key, exit_code))
		return false;
	buf_printf(&b, "{\"format\":\"writ-erasure-report/1\",\"at\":%.*s,\"by\":%.*s",
		   STR_FMT(buf_str(&t->at)), STR_FMT(buf_str(&t->by)));
	buf_lit(&b, ",\"reason\":");
	buf_json(&b, str_c(reason ? reason : ""));
	buf_lit(&b, ",\"basis\":");
	buf_json(&b, str_c(basis ? basis : ""));
	buf_printf(&b, ",\"records\":%" PRIu64 ",\"openings\":%" PRIu64 ",\"fields\":", t->records,
		   t->openings);
	buf_add(&b, buf_str(&t->fields));
	buf_printf(&b, ",\"held\":%" PRIu64 ",\"forgotten\":%s,\"redactions\":[", t->held,
		   t->forgotten ? "true" : "false");
	buf_add(&b, buf_str(&t->parts));
	buf_lit(&b, "],\"proofs\":[");
	if (!put_proofs(c, &b, t, exit_code))
		return false;
	buf_lit(&b, "],\"checkpoint\":");
	buf_json(&b, buf_str(&note.reply.body));
	buf_lit(&b, ",\"vkey\":");
	buf_add(&b, raw_of(key.value, "vkey"));
	buf_printf(&b, ",%s}\n", elsewhere);
	if (!buf_ok(&b))
		err_set(&e, ERR_NOMEM, "no memory for the report");
	else if (file_replace_path(file, buf_str(&b), 0644, &e))
		return true;
	*exit_code = cli_fail(c, &e);
	return false;
}

static void print_totals(struct cli *c, const struct totals *t, const char *file)
{
	if (c->json) {
		fprintf(c->out,
			"{\"records\":%" PRIu64 ",\"openings\":%" PRIu64 ",\"held\":%" PRIu64
			",\"forgotten\":%s,\"redactions\":[%.*s]}\n",
			t->records, t->openings, t->held, t->forgotten ? "true" : "false",
			STR_FMT(buf_str(&t->parts)));
		return;
	}
	fprintf(c->out, "erased %" PRIu64 " openings of %" PRIu64 " records\n", t->openings,
		t->records);
	if (!t->records)
		fprintf(c->out, "there was nothing left to erase\n");
	if (t->held)
		fprintf(c->out, "%" PRIu64 " records are under a legal hold and stay\n", t->held);
	if (!t->forgotten)
		fprintf(c->out,
			"a reader keeps old pages of the log's write-ahead file; they go when "
			"it has ended\n");
	if (file)
		fprintf(c->out, "wrote the report to %s\n", file);
}

int run_audit_redact(struct cli *c)
{
	const char *file = cli_value(c, "--report");
	struct totals t = { 0 };
	struct err e = { 0 };
	AUTO_BUF b;
	int exit_code = CLI_DONE;

	buf_init(&b, mem_system, BODY_MAX); /* freed on every way out */
	if (!cli_value(c, "--record") + !cli_value(c, "--agent") + !cli_value(c, "--person") +
		    !cli_flag(c, "--all") !=
	    3)
		return cli_misuse(c, "say what is to be erased by one of --record, --agent, "
				     "--person and --all");
	if (!cli_value(c, "--reason"))
		return cli_misuse(c,
				  "--reason is missing: why, in a few words and without personal "
				  "data");
	if (file &&
	    !file_is_replaceable(file, &e)) /* what is erased is not erased once more for it */
		return cli_fail(c, &e);
	buf_init(&t.parts, mem_system, REPORT_MAX);
	buf_init(&t.fields, mem_system, BODY_MAX);
	buf_init(&t.by, mem_system, BODY_MAX);
	buf_init(&t.at, mem_system, BODY_MAX);
	if (cli_flag(c, "--all"))
		buf_lit(&b, ",\"all\":true");
	put_list(c, &b, "--record", "records");
	put_list(c, &b, "--field", "fields");
	put_text(c, &b, "--agent", "agent");
	put_text(c, &b, "--person", "person");
	put_text(c, &b, "--reason", "reason");
	put_text(c, &b, "--basis", "basis");
	if (put_times(c, &b, &exit_code) && run_steps(c, buf_str(&b), &t, &exit_code)) {
		bool written = file && write_report(c, file, &t, &exit_code);

		print_totals(c, &t, written ? file : NULL);
	}
	buf_clear(&t.parts);
	buf_clear(&t.fields);
	buf_clear(&t.by);
	buf_clear(&t.at);
	return exit_code;
}

/* ---- holds ---- */

static const struct column columns[] = {
	{ "HOLD", "hold" },   { "AT", "at" },	    { "BY", "by" },
	{ "AGENT", "agent" }, { "FROM", "from" },   { "TO", "to" },
	{ "SINCE", "since" }, { "UNTIL", "until" }, { "REASON", "reason" },
};

static int list_holds(struct cli *c)
{
	const struct json *holds;
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (!api_call(c, API_ADMIN, "GET", "/v1/audit/holds", (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	holds = json_get_type(a.value, STR("holds"), JSON_ARRAY);
	if (c->json)
		answer_print(c, &a);
	else if (holds)
		print_table(c->out, columns, ARRAY_LEN(columns), holds, true);
	return CLI_DONE;
}

static int post_hold(struct cli *c, const char *path, struct buf *b, const char *done)
{
	AUTO_ANSWER a = { 0 };
	int exit_code;

	buf_char(b, '}');
	if (!buf_ok(b))
		return cli_misuse(c, "so much does not fit into one request");
	if (!api_call(c, API_ADMIN, "POST", path, buf_str(b), &a, &exit_code))
		return exit_code;
	if (c->json)
		answer_print(c, &a);
	else
		fprintf(c->out, "hold %" PRIu64 " is %s\n", number_of(a.value, "hold"), done);
	return CLI_DONE;
}

static int add_hold(struct cli *c, struct buf *b)
{
	static const char *const numbers[] = { "--from", "--to" };
	int exit_code;

	buf_printf(b, "{\"all\":%s", cli_flag(c, "--all") ? "true" : "false");
	put_text(c, b, "--agent", "agent");
	put_text(c, b, "--reason", "reason");
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		const char *v = cli_value(c, numbers[i]);
		uint64_t n;

		if (v && !text_u64(str_c(v), INT64_MAX, &n))
			return cli_misuse(c, "%s %.40s: expected the number of a record",
					  numbers[i], v);
		if (v)
			buf_printf(b, ",\"%s\":%" PRIu64, numbers[i] + 2, n);
	}
	if (!put_times(c, b, &exit_code))
		return exit_code;
	return post_hold(c, "/v1/audit/holds", b, "on");
}

int run_audit_hold(struct cli *c)
{
	const char *what = c->operands[0];
	bool removes;
	uint64_t id = 0;
	AUTO_BUF b;

	buf_init(&b, mem_system, BODY_MAX);
	if (strcmp(what, "list") == 0 && c->noperands == 1)
		return list_holds(c);
	removes = strcmp(what, "remove") == 0 && c->noperands == 2 &&
		  text_u64(str_c(c->operands[1]), INT64_MAX, &id);
	if (!removes && (strcmp(what, "add") != 0 || c->noperands != 1))
		return cli_misuse(c, "expected add, list, or remove and the number of a hold");
	if (!cli_value(c, "--reason"))
		return cli_misuse(c, "--reason is missing: why, in a few words");
	if (!removes)
		return add_hold(c, &b);
	buf_printf(&b, "{\"hold\":%" PRIu64, id);
	put_text(c, &b, "--reason", "reason");
	return post_hold(c, "/v1/audit/holds/remove", &b, "off");
}
