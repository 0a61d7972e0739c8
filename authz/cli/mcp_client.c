#include "authz/cli/mcp_client.h"

#include <stdio.h>

#include "authz/base/text.h"
#include "authz/net/fetch.h"
#include "authz/net/sse.h"
#include "authz/policy/definition.h"
#include "include/writ/words.h"

#define MODERN "2026-07-28"
#define LEGACY "2025-11-25"	/* what initialize asks for */
#define REQUEST_MAX (64 * 1024) /* bytes of a request: cursors are the server's */
#define TOOLS_BYTES ((size_t)256 * 1024 * 1024)

static const struct json_limits answer_limits = {
	.string = MCP_PAGE_MAX, .depth = 128, .members = 65536, .values = 1024 * 1024
};

struct session {
	const struct mcp_server *server;
	struct mcp_tools *out;
	bool modern;
	char revision[16];		/* that is spoken; "": not known yet */
	char id[RESPONSE_KEPT_MAX + 1]; /* Mcp-Session-Id; "": none */
	int64_t number;			/* of the last request */
	struct sse stream;		/* as far as it was looked at */
};

/* ---- answers ---- */

static const struct json *answer_in(struct str text, int64_t id, struct arena *a)
{
	const struct json *v = NULL, *number;
	struct str own = arena_dup(a, text); /* values point into it */
	struct err ignored = { 0 };

	if (!own.p || !json_parse(own, &answer_limits, a, &v, &ignored))
		return NULL;
	number = json_get_type(v, STR("id"), JSON_INT);
	return number && number->i == id &&
			       (json_get(v, STR("result")) || json_get(v, STR("error")))
		       ? v
		       : NULL;
}

static const struct json *next_answer(struct sse *s, struct str body, int64_t id, struct arena *a)
{
	const struct json *found = NULL;
	AUTO_BUF data;

	buf_init(&data, mem_system, MCP_PAGE_MAX);
	while (!found && sse_next(s, body, &data))
		if (buf_ok(&data)) /* other messages of the server are not for us */
			found = answer_in(buf_str(&data), id, a);
	return found;
}

const struct json *mcp_find_answer(const char *type, struct str body, int64_t id, struct arena *a)
{
	struct sse s = { 0 };

	if (strcmp(type, "text/event-stream") == 0)
		return next_answer(&s, body, id, a);
	return strcmp(type, "application/json") == 0 ? answer_in(body, id, a) : NULL;
}

/* A stream may stay open behind the answer. Of JSON nothing looks like an event. */
static bool is_there(void *ctx, struct str body)
{
	struct session *s = ctx;
	struct arena a;
	bool there;

	arena_init(&a, &mem_system, TOOLS_BYTES);
	there = next_answer(&s->stream, body, s->number, &a) != NULL;
	arena_clear(&a);
	return there;
}

/* ---- requests ---- */

static void put_headers(const struct session *s, const char *method, struct buf *b)
{
	if (s->modern)
		buf_printf(b, "MCP-Protocol-Version: " MODERN "\r\nMcp-Method: %s\r\n", method);
	else if (strcmp(s->revision, "2025-06-18") >= 0)
		buf_printf(b, "MCP-Protocol-Version: %s\r\n", s->revision);
	if (s->id[0])
		buf_printf(b, "Mcp-Session-Id: %s\r\n", s->id);
	if (s->server->token)
		buf_printf(b, "Authorization: Bearer %s\r\n", s->server->token);
}

static void put_message(struct session *s, const char *method, bool notification, struct str params,
			struct buf *b)
{
	bool first = true;

	buf_lit(b, "{\"jsonrpc\":\"2.0\",");
	if (!notification)
		buf_printf(b, "\"id\":%lld,", (long long)++s->number);
	buf_printf(b, "\"method\":\"%s\",\"params\":{", method);
	if (s->modern) {
		buf_lit(b,
			"\"_meta\":{\"io.modelcontextprotocol/clientCapabilities\":{},"
			"\"io.modelcontextprotocol/clientInfo\":{\"name\":\"writ\",\"version\":\"" WRIT_VERSION
			"\"},\"io.modelcontextprotocol/protocolVersion\":\"" MODERN "\"}");
		first = false;
	}
	if (params.n) {
		if (!first)
			buf_char(b, ',');
		buf_add(b, params);
	}
	buf_lit(b, "}}");
}

/* One message out, whatever answer in. */
static bool send_message(struct session *s, const char *method, bool notification,
			 struct str params, struct fetch_reply *reply, struct err *e)
{
	static const char *const types[] = { "application/json", "text/event-stream", NULL };
	struct fetch f = { .url = str_c(s->server->url),
			   .types = types,
			   .body_max = MCP_PAGE_MAX,
			   .timeout_ms = MCP_TIMEOUT_MS,
			   .private_ok = true, /* typed by the one who runs this */
			   .ca_file = s->server->ca_file,
			   .post_type = "application/json",
			   .keep = "mcp-session-id",
			   .enough = is_there,
			   .ctx = s };
	AUTO_BUF headers;
	AUTO_BUF body;

	buf_init(&headers, mem_system, REQUEST_MAX);
	buf_init(&body, mem_system, REQUEST_MAX);
	put_message(s, method, notification, params, &body);
	put_headers(s, method, &headers);
	if (!buf_ok(&headers) || !buf_ok(&body))
		return err_set(e, ERR_TOO_LARGE, "%s: the request is too large", method);
	f.post = buf_str(&body);
	f.headers = buf_str(&headers);
	s->stream = (struct sse){ 0 };
	return fetch_post(&f, reply, e) || err_prefix(e, "%s", method);
}

/* An answer that is none: by its status, and in the server's words if there are any. */
static bool refused(const struct session *s, const char *method, const struct fetch_reply *reply,
		    struct err *e)
{
	const struct json *v = NULL, *message;
	struct err ignored = { 0 };
	struct arena a;

	if (reply->status == 401 || reply->status == 403)
		return err_code(e, ERR_UNAUTHENTICATED, "mcp_token",
				"%s: the MCP server answered with status %d; %s", method,
				reply->status,
				s->server->token ? "the token does not do"
						 : "give it a token with --token @FILE");
	if (reply->status >= 300 && reply->status < 400)
		return err_code(
			e, ERR_INVALID, "mcp_redirect",
			"%s: the MCP server redirects to %.200s; if that is right, give that "
			"URL",
			method, reply->location[0] ? reply->location : "nowhere");
	arena_init(&a, &mem_system, TOOLS_BYTES);
	if (!json_parse(buf_str(&reply->body), &answer_limits, &a, &v, &ignored) &&
	    reply->status == 200 && strcmp(reply->type, "application/json") == 0) {
		arena_clear(&a);
		return err_code(e, ERR_INTERNAL, "mcp_answer",
				"%s: the MCP server's answer cannot be read: %s", method,
				ignored.msg);
	}
	message = json_get_type(json_get(v, STR("error")), STR("message"), JSON_STRING);
	err_code(e, ERR_INTERNAL, "mcp_answer",
		 "%s: the MCP server answered with status %d, %s%s%.*s; is this the URL of its "
		 "streamable HTTP endpoint?",
		 method, reply->status, reply->type[0] ? reply->type : "no media type",
		 message ? ": " : "", STR_FMT(str_first(message ? message->s : STR(""), 120)));
	arena_clear(&a);
	return false;
}

/* Ask, and find the result; it lives in the list's arena. */
static bool request(struct session *s, const char *method, struct str params,
		    const struct json **result, struct err *e)
{
	struct fetch_reply reply = { .status = 0 };
	const struct json *answer = NULL, *error;
	bool ok;

	if (!send_message(s, method, false, params, &reply, e))
		return false;
	if (reply.status == 200)
		answer = mcp_find_answer(reply.type, buf_str(&reply.body), s->number,
					 &s->out->arena);
	ok = answer != NULL || refused(s, method, &reply, e);
	if (ok && !s->modern && !s->id[0])
		memcpy(s->id, reply.kept, sizeof(s->id));
	buf_clear(&reply.body);
	if (!ok)
		return false;
	error = json_get(answer, STR("error"));
	if (error) {
		const struct json *code = json_get_type(error, STR("code"), JSON_INT);
		const struct json *message = json_get_type(error, STR("message"), JSON_STRING);

		return err_code(e, ERR_INTERNAL, "mcp_error",
				"%s: the MCP server says error %lld: %.*s", method,
				(long long)(code ? code->i : 0),
				STR_FMT(str_first(message ? message->s : STR("nothing more"),
						  200)));
	}
	*result = json_get(answer, STR("result"));
	return true;
}

/* ---- the list ---- */

static bool known_name(const struct mcp_tools *t, struct str name)
{
	for (size_t i = 0; i < t->n; i++)
		if (str_eq(json_get(t->items[i], STR("name"))->s, name))
			return true;
	return false;
}

bool mcp_tools_add(struct mcp_tools *t, const struct json *v, struct str *cursor, struct err *e)
{
	const struct json *tools;

	if (!definition_list(v, &tools, cursor, e))
		return false;
	for (uint32_t i = 0; i < tools->n; i++) {
		const struct json *tool = &tools->items[i];

		if (known_name(t, json_get(tool, STR("name"))->s))
			return err_code(e, ERR_INVALID, "invalid_list",
					"tool \"%.*s\" stands on two pages of the list",
					STR_FMT(json_get(tool, STR("name"))->s));
		if (t->n == DEFINITIONS_MAX)
			return err_code(e, ERR_INVALID, "invalid_list",
					"the list has more than %d tools", DEFINITIONS_MAX);
		t->items[t->n++] = tool;
	}
	return true;
}

bool mcp_tools_init(struct mcp_tools *t, struct err *e)
{
	*t = (struct mcp_tools){ .n = 0 };
	arena_init(&t->arena, &mem_system, TOOLS_BYTES);
	t->items = arena_alloc(&t->arena, DEFINITIONS_MAX * sizeof(struct json *));
	return t->items || err_set(e, ERR_NOMEM, "no memory for a list of tools");
}

bool mcp_tools_read(struct mcp_tools *t, struct str text, struct str *cursor, struct err *e)
{
	struct str own = arena_dup(&t->arena, text); /* values point into it */
	const struct json *v = NULL;

	if (!own.p)
		return err_set(e, ERR_NOMEM, "no memory for a list of tools");
	return json_parse(own, &answer_limits, &t->arena, &v, e) && mcp_tools_add(t, v, cursor, e);
}

static bool list_all(struct session *s, struct err *e)
{
	struct str cursor = { NULL, 0 };
	AUTO_BUF params;

	buf_init(&params, mem_system, REQUEST_MAX);
	s->out->n = 0;
	for (int page = 0; page < MCP_PAGES_MAX; page++) {
		const struct json *result;

		buf_reset(&params);
		if (cursor.n) {
			buf_lit(&params, "\"cursor\":");
			buf_json(&params, cursor);
		}
		if (!buf_ok(&params))
			return err_code(e, ERR_INVALID, "invalid_list",
					"the server's cursor is longer than %d KiB",
					REQUEST_MAX / 1024);
		if (!request(s, "tools/list", buf_str(&params), &result, e) ||
		    !mcp_tools_add(s->out, result, &cursor, e))
			return false;
		if (!cursor.n)
			return true;
	}
	return err_code(e, ERR_INVALID, "invalid_list", "the list has more than %d pages",
			MCP_PAGES_MAX);
}

/* ---- eras ---- */

static bool speak_modern(struct session *s, struct err *e)
{
	s->modern = true;
	memcpy(s->revision, MODERN, sizeof(MODERN));
	return list_all(s, e);
}

static bool take_revision(struct session *s, const struct json *result, struct err *e)
{
	static const char *const known[] = { "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05",
					     NULL };
	const struct json *v = json_get_type(result, STR("protocolVersion"), JSON_STRING);

	for (size_t i = 0; v && known[i]; i++)
		if (str_eq(v->s, str_c(known[i]))) {
			snprintf(s->revision, sizeof(s->revision), "%s", known[i]);
			return true;
		}
	return err_code(e, ERR_INTERNAL, "mcp_revision",
			"the MCP server speaks revision \"%.*s\", which writ does not know",
			STR_FMT(str_first(v ? v->s : STR("?"), 40)));
}

static bool speak_legacy(struct session *s, struct err *e)
{
	struct fetch_reply reply = { .status = 0 };
	const struct json *result;

	s->modern = false;
	s->revision[0] = s->id[0] = '\0';
	if (!request(s, "initialize",
		     STR("\"protocolVersion\":\"" LEGACY "\",\"capabilities\":{},\"clientInfo\":"
			 "{\"name\":\"writ\",\"version\":\"" WRIT_VERSION "\"}"),
		     &result, e) ||
	    !take_revision(s, result, e))
		return false;
	if (!json_get_type(json_get(result, STR("capabilities")), STR("tools"), JSON_OBJECT))
		return err_code(e, ERR_INVALID, "invalid_list",
				"the MCP server says that it has no tools");
	if (!send_message(s, "notifications/initialized", true, STR(""), &reply, e))
		return false;
	buf_clear(&reply.body);
	if (reply.status < 200 || reply.status > 299)
		return refused(s, "notifications/initialized", &reply, e);
	return list_all(s, e);
}

/* The server would keep it until it forgets. Nothing depends on whether it listens. */
static void end_session(const struct session *s)
{
	struct fetch_reply reply = { .status = 0 };
	struct err ignored = { 0 };
	struct fetch f = { .url = str_c(s->server->url),
			   .method = "DELETE",
			   .private_ok = true,
			   .timeout_ms = MCP_TIMEOUT_MS / 5,
			   .ca_file = s->server->ca_file };
	AUTO_BUF headers = { 0 };

	if (s->modern || !s->id[0])
		return;
	buf_init(&headers, mem_system, REQUEST_MAX);
	put_headers(s, "", &headers);
	f.headers = buf_str(&headers);
	if (buf_ok(&headers) && fetch_post(&f, &reply, &ignored))
		buf_clear(&reply.body);
}

/* What has nothing to do with the era. */
static bool final(const struct err *e)
{
	return e->class == ERR_UNAUTHENTICATED || e->class == ERR_FORBIDDEN ||
	       e->class == ERR_NOMEM || strcmp(e->code, "invalid_url") == 0 ||
	       strcmp(e->code, "unknown_host") == 0 || strcmp(e->code, "no_connection") == 0 ||
	       strcmp(e->code, "mcp_redirect") == 0 || strcmp(e->code, "invalid_list") == 0;
}

bool mcp_list_tools(const struct mcp_server *server, struct mcp_tools *out, struct err *e)
{
	struct session s = { .server = server, .out = out };
	bool ok;

	if (!mcp_tools_init(out, e))
		return false;
	ok = speak_modern(&s, e);
	if (!ok && !final(e)) {
		err_none(e);
		ok = speak_legacy(&s, e);
	}
	end_session(&s);
	memcpy(out->revision, s.revision, sizeof(out->revision));
	return ok;
}

void mcp_tools_clear(struct mcp_tools *t)
{
	if (t->arena.alloc)
		arena_clear(&t->arena);
}
