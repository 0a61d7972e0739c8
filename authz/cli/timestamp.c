/* audit timestamp: have a checkpoint stamped by a time-stamping authority (RFC 3161), over https or
 * by files that go another way. */
#include "authz/audit/timestamp.h"

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/net/fetch.h"
#include "authz/store/file.h"

#define QUERY_MAX 4096

/* What goes to the authority, and what it is about. */
struct query {
	struct buf note, request, response;
	struct note parsed;
};

static void query_clear(struct query *q)
{
	buf_clear(&q->note);
	buf_clear(&q->request);
	buf_clear(&q->response);
}
#define AUTO_QUERY __attribute__((cleanup(query_clear))) struct query

static void query_init(struct query *q)
{
	buf_init(&q->note, mem_system, NOTE_MAX);
	buf_init(&q->request, mem_system, QUERY_MAX);
	buf_init(&q->response, mem_system, TIMESTAMP_REPLY_MAX);
}

/* A fresh checkpoint of the server and a request over it. */
static bool make_query(struct cli *c, struct query *q, int *exit_code)
{
	struct client_request post = { .method = "POST", .path = "/v1/audit/checkpoint" };
	struct api api;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };

	if (!api_open(c, API_ADMIN, &api, &e)) {
		*exit_code = cli_fail(c, &e);
		return false;
	}
	if (!api_ask(c, &api, &post, false, &a, exit_code))
		return false;
	buf_add(&q->note, buf_str(&a.reply.body));
	if (note_parse(buf_str(&q->note), &q->parsed, &e) &&
	    timestamp_request(q->parsed.text, &q->request, &e))
		return true;
	*exit_code = cli_fail(c, &e);
	return false;
}

static bool put_file(const char *path, const char *behind, struct str text, struct err *e)
{
	AUTO_BUF name;

	buf_init(&name, mem_system, 8192);
	buf_printf(&name, "%s%s", path, behind);
	buf_char(&name, '\0');
	return buf_ok(&name) ? file_replace_path(name.p, text, 0644, e)
			     : err_set(e, ERR_INVALID, "%.100s: the name is too long", path);
}

/* --request FILE alone: what to send, and beside it what it is about. */
static int write_request(struct cli *c, const char *file)
{
	int exit_code = CLI_FAILED;
	struct err e = { 0 };
	AUTO_QUERY q;

	query_init(&q);
	if (!make_query(c, &q, &exit_code))
		return exit_code;
	if (!put_file(file, "", buf_str(&q.request), &e) ||
	    !put_file(file, ".checkpoint", buf_str(&q.note), &e))
		return cli_fail(c, &e);
	fprintf(c->out,
		"wrote %s and %s.checkpoint; send the first to the authority as "
		"application/timestamp-query, then: writ audit timestamp --request %s --response "
		"FILE --tsa-ca CA\n",
		file, file, file);
	return CLI_DONE;
}

static bool read_files(struct query *q, const char *request, const char *response, struct err *e)
{
	AUTO_BUF name;

	buf_init(&name, mem_system, 8192);
	buf_printf(&name, "%s.checkpoint", request);
	buf_char(&name, '\0');
	return api_read_file(request, QUERY_MAX, &q->request, e) &&
	       api_read_file(name.p, NOTE_MAX - 1, &q->note, e) &&
	       api_read_file(response, TIMESTAMP_REPLY_MAX - 1, &q->response, e) &&
	       note_parse(buf_str(&q->note), &q->parsed, e);
}

static bool ask_authority(struct query *q, const char *url, struct err *e)
{
	static const char *const types[] = { "application/timestamp-reply", NULL };
	/* The address was typed by the one who runs this, on his machine. */
	const struct fetch f = { .url = str_c(url),
				 .types = types,
				 .post = buf_str(&q->request),
				 .post_type = "application/timestamp-query",
				 .body_max = TIMESTAMP_REPLY_MAX,
				 .timeout_ms = 30000,
				 .private_ok = true };
	struct fetch_reply reply = { .status = 0 };

	if (!fetch_post(&f, &reply, e))
		return false;
	buf_clear(&q->response);
	q->response = reply.body;
	if (reply.status != 200 || strcmp(reply.type, types[0]) != 0)
		return err_code(e, ERR_INTERNAL, "unexpected_status",
				"the authority answered with status %d and %s, expected 200 and %s",
				reply.status, reply.type[0] ? reply.type : "no media type",
				types[0]);
	return true;
}

/* Hand what was checked to the server, which keeps it. */
static int hand_over(struct cli *c, const struct query *q, struct str token)
{
	int exit_code = CLI_FAILED;
	AUTO_ANSWER a = { 0 };
	AUTO_BUF body;

	buf_init(&body, mem_system, 4 * TIMESTAMP_REPLY_MAX);
	buf_lit(&body, "{\"checkpoint\":");
	buf_json(&body, buf_str(&q->note));
	buf_lit(&body, ",\"token\":\"");
	text_base64(&body, BASE64_STD, token.p, token.n);
	buf_lit(&body, "\"}");
	if (!api_call(c, API_ADMIN, "POST", "/v1/audit/timestamp", buf_str(&body), &a, &exit_code))
		return exit_code;
	answer_show(c, &a);
	return CLI_DONE;
}

static int check_and_keep(struct cli *c, const struct query *q)
{
	struct err e = { 0 };
	AUTO_BUF token;
	AUTO_BUF ca;
	int64_t at;

	buf_init(&token, mem_system, 2 * TIMESTAMP_MAX);
	buf_init(&ca, mem_system, TIMESTAMP_CA_MAX + 65536);
	if (!api_read_file(cli_value(c, "--tsa-ca"), TIMESTAMP_CA_MAX, &ca, &e) ||
	    !timestamp_answer(buf_str(&q->response), buf_str(&q->request), q->parsed.text,
			      buf_str(&ca), &token, &at, &e))
		return cli_fail(c, &e);
	return hand_over(c, q, buf_str(&token));
}

int run_audit_timestamp(struct cli *c)
{
	const char *url = cli_value(c, "--tsa"), *request = cli_value(c, "--request");
	const char *response = cli_value(c, "--response");
	int exit_code = CLI_FAILED;
	struct err e = { 0 };
	AUTO_QUERY q;

	query_init(&q);
	if (!url == !request || (response && !request))
		return cli_misuse(c,
				  "expected --tsa URL, or --request FILE, or --request FILE with "
				  "--response FILE");
	if (request && !response)
		return write_request(c, request);
	if (!cli_value(c, "--tsa-ca"))
		return cli_misuse(c, "--tsa-ca FILE is missing: a time stamp of nobody in "
				     "particular says nothing");
	if (url && !make_query(c, &q, &exit_code))
		return exit_code;
	if (url ? !ask_authority(&q, url, &e) : !read_files(&q, request, response, &e))
		return cli_fail(c, &e);
	return check_and_keep(c, &q);
}
