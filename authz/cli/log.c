/* audit tail, checkpoint, key: the log through the server. export_log.c has the export. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/clock.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/export_log.h"
#include "authz/cli/print.h"
#include "spiffe/id.h"

#define TAIL_LINES 20
#define TAIL_PAGE 500
#define TAIL_POLL_MS 500
#define PATH_MAX_BYTES 8192

/* Members every record has, or that only a verifier reads. */
static bool is_noise(struct str name)
{
	static const char *const names[] = { "boot", "engine", "kind", "node",	   "policy_sha256",
					     "prev", "seq",    "time", "trace_id", "v" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(name, str_c(names[i])))
			return true;
	return str_ends(name, STR("_commit"));
}

static void print_record(struct cli *c, const struct json *v)
{
	const struct json *kind = json_get(v, STR("kind")), *seq = json_get(v, STR("seq"));
	AUTO_BUF b = { 0 };

	buf_init(&b, mem_system, 1024 * 1024);
	if (c->json) {
		buf_add(&b, v->raw);
	} else {
		print_time(&b, json_get(v, STR("time")));
		buf_lit(&b, " #");
		print_value(&b, seq);
		buf_char(&b, ' ');
		print_value(&b, kind);
		for (uint32_t i = 0; i < v->n; i++) {
			if (is_noise(v->items[i].name))
				continue;
			buf_char(&b, ' ');
			print_safe(&b, v->items[i].name);
			buf_char(&b, '=');
			print_value(&b, &v->items[i]);
		}
	}
	buf_char(&b, '\n');
	fwrite(b.p, 1, b.n, c->out);
}

/* The second line of a checkpoint is the size of the log. */
static bool size_of_note(struct str note, uint64_t *size)
{
	struct str origin, rest, number;

	return str_cut(note, '\n', &origin, &rest) && str_cut(rest, '\n', &number, &rest) &&
	       text_u64(number, UINT64_MAX, size);
}

/* How many records there are: by status, else by a fresh checkpoint. */
bool audit_log_size(struct cli *c, uint64_t *size, int *exit_code)
{
	struct client_request q = { .method = "POST", .path = "/v1/audit/checkpoint" };
	struct api api;
	struct err e = { 0 };
	const struct json *n;
	AUTO_ANSWER status = { 0 }, note = { 0 };

	if (!api_call(c, API_ADMIN, "GET", "/v1/status", (struct str){ 0 }, &status, exit_code))
		return false;
	n = json_get_type(json_get(status.value, STR("audit")), STR("size"), JSON_INT);
	if (n && n->i >= 0) {
		*size = (uint64_t)n->i;
		return true;
	}
	if (!api_open(c, API_ADMIN, &api, &e)) {
		*exit_code = cli_fail(c, &e);
		return false;
	}
	if (!api_ask(c, &api, &q, false, &note, exit_code))
		return false;
	if (!size_of_note(buf_str(&note.reply.body), size)) {
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's checkpoint is malformed");
		*exit_code = cli_fail(c, &e);
		return false;
	}
	return true;
}

struct walk {
	bool started;
	uint64_t after; /* the last record seen, if started */
};

static int tail_page(struct cli *c, struct walk *w, uint32_t *got)
{
	const struct json *records;
	AUTO_ANSWER a = { 0 };
	char path[128];
	int exit_code;

	if (w->started)
		snprintf(path, sizeof(path), "/v1/audit/records?after=%" PRIu64 "&limit=%d",
			 w->after, TAIL_PAGE);
	else
		snprintf(path, sizeof(path), "/v1/audit/records?limit=%d&order=oldest", TAIL_PAGE);
	if (!api_call(c, API_ADMIN, "GET", path, (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	records = json_get_type(a.value, STR("records"), JSON_ARRAY);
	*got = records ? records->n : 0;
	for (uint32_t i = 0; i < *got; i++) {
		const struct json *seq = json_get_type(&records->items[i], STR("seq"), JSON_INT);
		struct err e = { 0 };

		if (!seq || seq->i < 0 || (w->started && (uint64_t)seq->i <= w->after)) {
			err_code(&e, ERR_INTERNAL, "bad_response",
				 "the server's records are not in order");
			return cli_fail(c, &e);
		}
		w->started = true;
		w->after = (uint64_t)seq->i;
		print_record(c, &records->items[i]);
	}
	return CLI_DONE;
}

int run_audit_tail(struct cli *c)
{
	const struct timespec pause = { .tv_nsec = TAIL_POLL_MS * 1000000L };
	const char *lines = cli_value(c, "--lines");
	uint64_t n = TAIL_LINES, size = 0;
	struct walk w = { 0 };
	uint32_t got = 0;
	int exit_code = CLI_FAILED;

	if (lines && !text_u64(str_c(lines), 1000000, &n))
		return cli_misuse(c, "--lines %.60s: expected a number up to 1000000", lines);
	if (!audit_log_size(c, &size, &exit_code))
		return exit_code;
	if (size > n)
		w = (struct walk){ true, size - n - 1 };
	do {
		exit_code = tail_page(c, &w, &got);
		if (exit_code != CLI_DONE || fflush(c->out) != 0)
			return exit_code;
		if (got == 0 && cli_flag(c, "--follow"))
			nanosleep(&pause, NULL);
	} while (got || cli_flag(c, "--follow"));
	return exit_code;
}

int run_audit_checkpoint(struct cli *c)
{
	struct client_request q = { .method = "POST", .path = "/v1/audit/checkpoint" };
	struct api api;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF b = { 0 };
	uint64_t size;
	int exit_code = CLI_FAILED;

	if (!api_open(c, API_ADMIN, &api, &e))
		return cli_fail(c, &e);
	if (!api_ask(c, &api, &q, false, &a, &exit_code))
		return exit_code;
	if (!text_is_utf8(buf_str(&a.reply.body)) || !size_of_note(buf_str(&a.reply.body), &size)) {
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's checkpoint is malformed");
		return cli_fail(c, &e);
	}
	buf_init(&b, mem_system, CLIENT_BODY);
	if (c->json) {
		buf_lit(&b, "{\"checkpoint\":");
		buf_json(&b, buf_str(&a.reply.body));
		buf_lit(&b, "}\n");
	} else { /* byte for byte: it is signed */
		buf_add(&b, buf_str(&a.reply.body));
	}
	fwrite(b.p, 1, b.n, c->out);
	return CLI_DONE;
}

static int print_keys(struct cli *c, const struct json *value)
{
	static const struct column columns[] = {
		{ "CHECKPOINTS FROM", "from" },
		{ "TO", "to" },
		{ "RECORD", "record" },
		{ "VKEY", "vkey" },
	};
	const struct json *keys = json_get_type(value, STR("keys"), JSON_ARRAY);

	if (keys)
		print_table(c->out, columns, ARRAY_LEN(columns), keys, true);
	return CLI_DONE;
}

int run_audit_key(struct cli *c)
{
	bool rotate = cli_flag(c, "--rotate");
	const struct json *vkey;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	int exit_code;

	if (cli_flag(c, "--witness") + cli_flag(c, "--all") + rotate > 1)
		return cli_misuse(c, "--witness, --all and --rotate exclude each other");
	if (!api_call(c, API_ADMIN, rotate ? "POST" : "GET",
		      rotate ? "/v1/audit/key/rotate" : "/v1/audit/key",
		      rotate ? STR("{}") : (struct str){ 0 }, &a, &exit_code))
		return exit_code;
	if (cli_flag(c, "--all") && !c->json)
		return print_keys(c, a.value);
	if (cli_flag(c, "--witness") && !json_get(a.value, STR("witness_vkey"))) {
		err_code(&e, ERR_NOT_FOUND, "not_found",
			 "this writ is no witness; `witness.logs` names the logs that one watches");
		return cli_fail(c, &e);
	}
	vkey = json_get_type(a.value, cli_flag(c, "--witness") ? STR("witness_vkey") : STR("vkey"),
			     JSON_STRING);
	if (!vkey || !text_is_printable(vkey->s)) {
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's answer has no vkey");
		return cli_fail(c, &e);
	}
	if (c->json)
		answer_print(c, &a);
	else
		fprintf(c->out, "%.*s\n", STR_FMT(vkey->s));
	return CLI_DONE;
}
