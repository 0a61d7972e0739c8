/* audit prove: the receipt of one record, as a file that verifies by itself. */
#include <inttypes.h>

#include "authz/audit/note.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/store/file.h"

#define PATH_MAX_BYTES 512

static bool put_path(struct cli *c, const char *what, struct buf *b)
{
	uint64_t n;
	const char *name = text_u64(str_c(what), INT64_MAX - 1, &n) ? "seq" : "id";

	buf_printf(b, "/v1/audit/proof?%s=", name);
	client_encode(b, str_c(what));
	buf_add(b, cli_flag(c, "--bare") ? STR("&record=no") : STR("&record=yes"));
	buf_char(b, '\0');
	return buf_ok(b);
}

static bool is_covered(const struct answer *a)
{
	const struct json *covered = json_get_type(a->value, STR("covered"), JSON_BOOL);

	return covered && covered->b;
}

static int print_proof(struct cli *c, const struct answer *a)
{
	const char *output = cli_output(c);
	const struct json *text = json_get_type(a->value, STR("tlog_proof"), JSON_STRING);
	const struct json *seq = json_get_type(a->value, STR("seq"), JSON_INT);
	struct err e = { 0 };

	if (!text || !seq || !text_is_utf8(text->s)) {
		err_code(&e, ERR_INTERNAL, "bad_response", "the server's answer holds no proof");
		return cli_fail(c, &e);
	}
	if (output) {
		if (!file_replace_path(output, text->s, 0644, &e))
			return cli_fail(c, &e);
		if (!c->json)
			fprintf(c->out,
				"wrote the proof of record %" PRId64 " to %s; check it with: "
				"writ audit verify --key VKEY %s\n",
				seq->i, output, output);
	} else if (!c->json) {
		fwrite(text->s.p, 1, text->s.n, c->out);
	}
	if (c->json)
		answer_print(c, a);
	return CLI_DONE;
}

int run_audit_prove(struct cli *c)
{
	struct client_request q = { .method = "GET" };
	struct client_request sign = { .method = "POST", .path = "/v1/audit/checkpoint" };
	struct api api;
	struct err e = { 0 };
	AUTO_ANSWER first = { 0 }, note = { 0 }, again = { 0 };
	AUTO_BUF path;
	int exit_code = CLI_FAILED;

	buf_init(&path, mem_system, PATH_MAX_BYTES);
	if (!put_path(c, c->operands[0], &path))
		return cli_misuse(c, "%.60s: expected an evaluation id or the number of a record",
				  c->operands[0]);
	q.path = path.p;
	if (!api_open(c, API_ADMIN, &api, &e))
		return cli_fail(c, &e);
	if (!api_ask(c, &api, &q, true, &first, &exit_code))
		return exit_code;
	if (is_covered(&first))
		return print_proof(c, &first);
	/* Too new for the last checkpoint: have one signed. */
	if (!api_ask(c, &api, &sign, false, &note, &exit_code) ||
	    !api_ask(c, &api, &q, true, &again, &exit_code))
		return exit_code;
	return print_proof(c, &again);
}
