/*
 * MCP (agent-protocols sheet 3): five revisions, told apart by header and body. The body decides;
 * a header that disagrees is a refusal in every revision, for a proxy may route by it.
 */
#include "authz/base/text.h"
#include "authz/extauthz/parts.h"

enum version { V2024_11, V2025_03, V2025_06, V2025_11, V2026_07, VERSIONS };

static const struct str version_names[VERSIONS] = {
	[V2024_11] = STR_INIT("2024-11-05"), [V2025_03] = STR_INIT("2025-03-26"),
	[V2025_06] = STR_INIT("2025-06-18"), [V2025_11] = STR_INIT("2025-11-25"),
	[V2026_07] = STR_INIT("2026-07-28"),
};

enum target { ON_SERVER, ON_TOOL, ON_RESOURCE, ON_PROMPT, ON_TASK, ON_REFERENCE, ON_LISTEN };

/* The table of sheet 3.3. @named: its name stands in Mcp-Name, too. */
static const struct method {
	struct str name;
	enum version from, to;
	enum target target;
	bool notification, named;
} methods[] = {
	{ STR_INIT("initialize"), V2024_11, V2025_11, ON_SERVER, false, false },
	{ STR_INIT("notifications/initialized"), V2024_11, V2025_11, ON_SERVER, true, false },
	{ STR_INIT("server/discover"), V2026_07, V2026_07, ON_SERVER, false, false },
	{ STR_INIT("ping"), V2024_11, V2025_11, ON_SERVER, false, false },
	{ STR_INIT("tools/list"), V2024_11, V2026_07, ON_SERVER, false, false },
	{ STR_INIT("tools/call"), V2024_11, V2026_07, ON_TOOL, false, true },
	{ STR_INIT("resources/list"), V2024_11, V2026_07, ON_SERVER, false, false },
	{ STR_INIT("resources/templates/list"), V2024_11, V2026_07, ON_SERVER, false, false },
	{ STR_INIT("resources/read"), V2024_11, V2026_07, ON_RESOURCE, false, true },
	{ STR_INIT("resources/subscribe"), V2024_11, V2025_11, ON_RESOURCE, false, false },
	{ STR_INIT("resources/unsubscribe"), V2024_11, V2025_11, ON_RESOURCE, false, false },
	{ STR_INIT("subscriptions/listen"), V2026_07, V2026_07, ON_LISTEN, false, false },
	{ STR_INIT("prompts/list"), V2024_11, V2026_07, ON_SERVER, false, false },
	{ STR_INIT("prompts/get"), V2024_11, V2026_07, ON_PROMPT, false, true },
	{ STR_INIT("completion/complete"), V2024_11, V2026_07, ON_REFERENCE, false, false },
	{ STR_INIT("logging/setLevel"), V2024_11, V2025_11, ON_SERVER, false, false },
	{ STR_INIT("tasks/get"), V2025_11, V2026_07, ON_TASK, false, true },
	{ STR_INIT("tasks/result"), V2025_11, V2025_11, ON_TASK, false, false },
	{ STR_INIT("tasks/list"), V2025_11, V2025_11, ON_SERVER, false, false },
	{ STR_INIT("tasks/cancel"), V2025_11, V2026_07, ON_TASK, false, true },
	{ STR_INIT("tasks/update"), V2026_07, V2026_07, ON_TASK, false, true },
	{ STR_INIT("notifications/cancelled"), V2024_11, V2026_07, ON_SERVER, true, false },
	{ STR_INIT("notifications/progress"), V2024_11, V2025_11, ON_SERVER, true, false },
	{ STR_INIT("notifications/roots/list_changed"), V2024_11, V2025_11, ON_SERVER, true,
	  false },
};

enum message_member {
	MEMBER_JSONRPC,
	MEMBER_ID,
	MEMBER_METHOD,
	MEMBER_PARAMS,
	MEMBER_RESULT,
	MEMBER_ERROR,
	MEMBERS
};
static const struct str message_names[MEMBERS] = {
	[MEMBER_JSONRPC] = STR_INIT("jsonrpc"), [MEMBER_ID] = STR_INIT("id"),
	[MEMBER_METHOD] = STR_INIT("method"),	[MEMBER_PARAMS] = STR_INIT("params"),
	[MEMBER_RESULT] = STR_INIT("result"),	[MEMBER_ERROR] = STR_INIT("error"),
};
enum param {
	PARAM_NAME,
	PARAM_ARGUMENTS,
	PARAM_URI,
	PARAM_META,
	PARAM_TASK_ID,
	PARAM_REF,
	PARAM_NOTIFICATIONS,
	PARAM_TASK,
	PARAM_INPUT_RESPONSES,
	PARAM_REQUEST_STATE,
	PARAM_PROTOCOL_VERSION,
	PARAMS
};
static const struct str param_names[PARAMS] = {
	[PARAM_NAME] = STR_INIT("name"),
	[PARAM_ARGUMENTS] = STR_INIT("arguments"),
	[PARAM_URI] = STR_INIT("uri"),
	[PARAM_META] = STR_INIT("_meta"),
	[PARAM_TASK_ID] = STR_INIT("taskId"),
	[PARAM_REF] = STR_INIT("ref"),
	[PARAM_NOTIFICATIONS] = STR_INIT("notifications"),
	[PARAM_TASK] = STR_INIT("task"),
	[PARAM_INPUT_RESPONSES] = STR_INIT("inputResponses"),
	[PARAM_REQUEST_STATE] = STR_INIT("requestState"),
	[PARAM_PROTOCOL_VERSION] = STR_INIT("protocolVersion"),
};

#define META_VERSION "io.modelcontextprotocol/protocolVersion"

struct mcp {
	struct reader *rd;
	enum version version;
	bool stated; /* by MCP-Protocol-Version */
	struct str method_header, name_header;
	const struct json *members[MEMBERS], *params[PARAMS]; /* of the message at hand, or NULL */
};

/* Header and body disagree: MCP's own code, with HTTP 400. */
#define mismatch(m, ...)                  \
	((m)->rd->out->rpc_code = -32020, \
	 refuse((m)->rd, ERR_INVALID, "header_mismatch", __VA_ARGS__))
#define malformed(m, ...)                 \
	((m)->rd->out->rpc_code = -32600, \
	 refuse((m)->rd, ERR_INVALID, "invalid_message", __VA_ARGS__))

/* ---- headers ---- */

static bool read_version(struct mcp *m)
{
	struct str v;

	if (!header_once(m->rd, HEADER_MCP_PROTOCOL_VERSION, &v))
		return false;
	m->version = V2025_03; /* what a server assumes without it */
	m->stated = v.p != NULL;
	for (int i = 0; v.p && i < VERSIONS; i++)
		if (str_eq_short(v, version_names[i])) {
			m->version = (enum version)i;
			m->rd->out->version = version_names[i];
			return true;
		}
	if (!v.p) {
		m->rd->out->version = version_names[m->version];
		return true;
	}
	m->rd->out->rpc_code = -32022;
	return refuse(m->rd, ERR_INVALID, "unsupported_version",
		      "MCP-Protocol-Version \"%.*s\" is none that writ can read; the newest is %s",
		      STR_FMT(str_first(v, 40)), version_names[VERSIONS - 1].p);
}

/* "=?base64?...?=" is the wrapping of what is not plain ASCII. */
static bool unwrap(struct mcp *m, struct str v, struct str *out)
{
	struct str inner;
	uint8_t *p;
	size_t n;

	*out = v;
	if (!str_starts(v, STR("=?base64?")))
		return true;
	if (v.n < 11 || !str_ends(v, STR("?=")))
		return mismatch(m, "Mcp-Name begins like base64 and does not end so");
	inner = str_first(str_from(v, 9), v.n - 11);
	p = arena_alloc(m->rd->a, inner.n + 4);
	if (!p)
		return refuse_memory(m->rd);
	if (!text_unbase64(inner, BASE64_STD, p, &n) || !text_is_utf8((struct str){ (char *)p, n }))
		return mismatch(m, "Mcp-Name is not well-formed base64 of UTF-8");
	*out = (struct str){ (char *)p, n };
	return true;
}

static bool read_headers(struct mcp *m)
{
	struct str v, session;

	if (!read_version(m) || !header_once(m->rd, HEADER_MCP_METHOD, &m->method_header) ||
	    !header_once(m->rd, HEADER_MCP_NAME, &v) ||
	    !header_once(m->rd, HEADER_MCP_SESSION_ID, &session))
		return false;
	if (session.p && (!text_fit(session, 1024) || memchr(session.p, ' ', session.n)))
		return refuse(m->rd, ERR_INVALID, "invalid_header",
			      "Mcp-Session-Id must be visible characters, at most 1024");
	m->name_header = v;
	return !v.p || unwrap(m, v, &m->name_header);
}

/* Mcp-Param-NAME mirrors an argument. Which one, only the tool's schema says; where an argument
 * has that very name, both must be equal. */
static bool same_value(struct reader *rd, struct str header, const struct json *v)
{
	const struct json *n = NULL;
	struct err ignored;

	if (v->type == JSON_STRING)
		return str_eq(header, v->s);
	if (v->type == JSON_BOOL)
		return str_eq(header, v->b ? STR("true") : STR("false"));
	if (v->type != JSON_INT && v->type != JSON_REAL)
		return false;
	if (!json_parse(header, rd->limits, rd->a, &n, &ignored) || n->type != v->type)
		return false;
	return v->type == JSON_INT ? n->i == v->i : !(n->d < v->d) && !(n->d > v->d);
}

static bool folded(struct str argument, struct str lower)
{
	return argument.n == lower.n && !strncasecmp(argument.p, lower.p, lower.n);
}

static bool check_params(struct mcp *m, const struct json *arguments)
{
	const struct traffic_request *r = m->rd->r;

	for (size_t i = 0; m->rd->headers->other_mcp && i < r->nheaders; i++) {
		struct str name = r->headers[i].name, value = r->headers[i].value;

		if (!str_starts(name, STR("mcp-param-")))
			continue;
		for (size_t k = 0; k < r->nheaders; k++)
			if (k != i && str_eq(r->headers[k].name, name))
				return header_twice(m->rd, name);
		if (!unwrap(m, value, &value))
			return false;
		for (uint32_t k = 0; arguments && k < arguments->n; k++)
			if (folded(arguments->items[k].name, str_from(name, 10)) &&
			    !same_value(m->rd, value, &arguments->items[k]))
				return mismatch(m, "header %.*s differs from the argument",
						STR_FMT(str_first(name, 80)));
	}
	return true;
}

/* ---- messages ---- */

static const struct method *find_method(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (str_eq_short(name, methods[i].name))
			return &methods[i];
	return NULL;
}

static bool known_method(struct mcp *m, struct str name, const struct method **out)
{
	const struct method *t = find_method(name);

	*out = t;
	if (t && m->version >= t->from && m->version <= t->to)
		return true;
	m->rd->out->rpc_code = -32601;
	return refuse(m->rd, ERR_FORBIDDEN, "unknown_method",
		      "\"%.*s\" is no method of MCP %s, so it is not let through",
		      STR_FMT(str_first(name, 64)), version_names[m->version].p);
}

static bool param(struct mcp *m, enum param p, enum json_type t, const struct json **out)
{
	return member_is(m->rd, m->params[p], param_names[p].p, t, out);
}

static bool param_text(struct mcp *m, enum param p, struct str *out)
{
	return member_is_text(m->rd, m->params[p], param_names[p].p, out);
}

/* params._meta says the version from 2026-07-28 on; then the header says the same. */
static bool check_meta(struct mcp *m)
{
	const struct json *meta, *v;

	if (!param(m, PARAM_META, JSON_OBJECT, &meta) ||
	    !member(m->rd, meta, META_VERSION, JSON_STRING, &v))
		return false;
	if (v && (!m->stated || !str_eq(v->s, version_names[m->version])))
		return mismatch(m, "_meta says version \"%.*s\", MCP-Protocol-Version \"%s\"",
				STR_FMT(str_first(v->s, 40)),
				m->stated ? version_names[m->version].p : "nothing");
	if (!v && m->version >= V2026_07)
		return mismatch(m,
				"params._meta[\"" META_VERSION "\"] is missing; it must be \"%s\"",
				version_names[m->version].p);
	return true;
}

static bool check_method_header(struct mcp *m, const struct method *t)
{
	if (!m->method_header.p && m->version >= V2026_07)
		return mismatch(m, "Mcp-Method is missing; it must be \"%s\"", t->name.p);
	if (m->method_header.p && !str_eq(m->method_header, t->name))
		return mismatch(m, "Mcp-Method says \"%.*s\", the body \"%s\"",
				STR_FMT(str_first(m->method_header, 64)), t->name.p);
	return true;
}

static bool check_name_header(struct mcp *m, const struct method *t, struct str name)
{
	if (!m->name_header.p && t->named && m->version >= V2026_07)
		return mismatch(m, "Mcp-Name is missing; %s needs it", t->name.p);
	if (m->name_header.p && !str_eq(m->name_header, name))
		return mismatch(m, "Mcp-Name says \"%.*s\", the body something else",
				STR_FMT(str_first(m->name_header, 64)));
	return true;
}

/* "files/read": the server comes from the route and from nowhere else. */
static bool tool_id(struct mcp *m, struct str name, struct str *out)
{
	struct str server = m->rd->r->route.server;
	char *p;

	if (!server.n)
		return refuse(m->rd, ERR_FORBIDDEN, "route_incomplete",
			      "the route does not say which server this tool is on; the operator "
			      "sets `server`");
	p = arena_alloc(m->rd->a, server.n + 1 + name.n);
	if (!p)
		return refuse_memory(m->rd);
	memcpy(p, server.p, server.n);
	p[server.n] = '/';
	memcpy(p + server.n + 1, name.p, name.n);
	*out = (struct str){ p, server.n + 1 + name.n };
	return true;
}

static struct str server_of(const struct mcp *m)
{
	const struct traffic_request *r = m->rd->r;

	return r->route.server.n ? r->route.server : r->host;
}

static bool on_tool(struct mcp *m, const struct method *t)
{
	const struct json *arguments, *task;
	struct str name, id;

	if (!param_text(m, PARAM_NAME, &name) ||
	    !param(m, PARAM_ARGUMENTS, JSON_OBJECT, &arguments) ||
	    !param(m, PARAM_TASK, JSON_OBJECT, &task) || !check_name_header(m, t, name) ||
	    !check_params(m, arguments) || !tool_id(m, name, &id))
		return false;
	if (task)
		field_bool(&m->rd->facts, FIELD("task"), true);
	return add_action(m->rd, t->name, STR("tool"), id, arguments);
}

static bool on_prompt(struct mcp *m, const struct method *t)
{
	const struct json *arguments;
	struct str name;

	return param_text(m, PARAM_NAME, &name) &&
	       param(m, PARAM_ARGUMENTS, JSON_OBJECT, &arguments) &&
	       check_name_header(m, t, name) &&
	       add_action(m->rd, t->name, STR("prompt"), name, arguments);
}

/* prompts by name, resources by URI. */
static bool on_reference(struct mcp *m, const struct method *t, const struct json *params)
{
	const struct json *ref, *argument;
	struct fields f;
	const struct json *args;
	struct str type, id;
	bool prompt;

	if (!param(m, PARAM_REF, JSON_OBJECT, &ref) ||
	    !member(m->rd, params, "argument", JSON_OBJECT, &argument) ||
	    !member_text(m->rd, ref, "type", &type) ||
	    !check_name_header(m, t, (struct str){ NULL, 0 }))
		return false;
	prompt = str_eq(type, STR("ref/prompt"));
	if (!prompt && !str_eq(type, STR("ref/resource")))
		return malformed(m, "ref.type must be \"ref/prompt\" or \"ref/resource\"");
	if (!member_text(m->rd, ref, prompt ? "name" : "uri", &id))
		return false;
	fields_begin(&f, m->rd->a, 1);
	field_json(&f, FIELD("argument"), argument);
	args = fields_object(&f);
	if (!args)
		return refuse_memory(m->rd);
	return add_action(m->rd, t->name, prompt ? STR("prompt") : STR("resource"), id, args);
}

static bool on_listen(struct mcp *m, const struct method *t)
{
	const struct json *wanted, *uris;

	if (!param(m, PARAM_NOTIFICATIONS, JSON_OBJECT, &wanted) ||
	    !member(m->rd, wanted, "resourceSubscriptions", JSON_ARRAY, &uris) ||
	    !check_name_header(m, t, (struct str){ NULL, 0 }))
		return false;
	for (uint32_t i = 0; uris && i < uris->n; i++) {
		const struct json *uri = &uris->items[i];

		if (uri->type != JSON_STRING || !text_fit(uri->s, 2048))
			return malformed(m, "resourceSubscriptions is a list of URIs");
		if (!add_action(m->rd, t->name, STR("resource"), uri->s, NULL))
			return false;
	}
	/* Whatever else it listens to is the server's as a whole. */
	if (uris && uris->n && wanted->n == 1)
		return true;
	return add_action(m->rd, t->name, STR("mcp_server"), server_of(m), wanted);
}

static bool on_named(struct mcp *m, const struct method *t, enum param p, struct str type)
{
	struct str id;

	return param_text(m, p, &id) && check_name_header(m, t, id) &&
	       add_action(m->rd, t->name, type, id, NULL);
}

static bool dispatch(struct mcp *m, const struct method *t, const struct json *params)
{
	switch (t->target) {
	case ON_TOOL:
		return on_tool(m, t);
	case ON_PROMPT:
		return on_prompt(m, t);
	case ON_RESOURCE:
		return on_named(m, t, PARAM_URI, STR("resource"));
	case ON_TASK: /* A2A has the same methods and names the task `id` */
		if (json_get(params, STR("id")))
			return malformed(m, "%s has taskId, not id", t->name.p);
		return on_named(m, t, PARAM_TASK_ID, STR("task"));
	case ON_REFERENCE:
		return on_reference(m, t, params);
	case ON_LISTEN:
		return on_listen(m, t);
	case ON_SERVER:
		break;
	}
	return check_name_header(m, t, (struct str){ NULL, 0 }) &&
	       add_action(m->rd, t->name, STR("mcp_server"), server_of(m), NULL);
}

/* Strings and integers; their text is given back byte by byte. */
static bool read_id(struct mcp *m)
{
	const struct json *id = m->members[MEMBER_ID];

	if (!id)
		return true;
	if ((id->type != JSON_STRING && id->type != JSON_INT) || id->raw.n > 256)
		return malformed(m, "id must be a string or an integer of at most 256 bytes");
	m->rd->out->rpc_id = id->raw;
	return true;
}

static bool check_members(struct mcp *m, const struct json *v)
{
	const struct json *version, *other;

	if (v->type != JSON_OBJECT)
		return malformed(m, "a message is an object, not %s", json_type_name(v->type));
	if (!names_found(m->rd, v, message_names, MEMBERS, m->members, &other) || !read_id(m))
		return false;
	version = m->members[MEMBER_JSONRPC];
	if (!version || version->type != JSON_STRING || !str_eq(version->s, STR("2.0")))
		return malformed(m, "jsonrpc must be \"2.0\"");
	return !other || malformed(m, "\"%.*s\" is no member of a JSON-RPC message",
				   STR_FMT(str_first(other->name, 40)));
}

/* The client's answer to a server's request, up to 2025-11-25. */
static bool read_response(struct mcp *m)
{
	if (m->version >= V2026_07 || !m->members[MEMBER_ID] || m->members[MEMBER_METHOD] ||
	    m->members[MEMBER_PARAMS] || (m->members[MEMBER_RESULT] && m->members[MEMBER_ERROR]))
		return malformed(m, "this is neither a request nor a response of MCP %s",
				 version_names[m->version].p);
	m->rd->out->notification = true; /* nobody waits for an answer */
	if (m->method_header.p || m->name_header.p)
		return mismatch(m, "a response has no Mcp-Method and no Mcp-Name");
	return add_action(m->rd, STR("client/reply"), STR("mcp_server"), server_of(m), NULL);
}

static bool read_message(struct mcp *m, const struct json *v)
{
	const struct json *name, *params, *other;
	const struct method *t;
	bool has_id;

	if (!check_members(m, v))
		return false;
	if (m->members[MEMBER_RESULT] || m->members[MEMBER_ERROR])
		return read_response(m);
	has_id = m->members[MEMBER_ID] != NULL;
	m->rd->out->notification = !has_id;
	name = m->members[MEMBER_METHOD];
	if (!name || name->type != JSON_STRING)
		return malformed(m, "method must be a string");
	if (!known_method(m, name->s, &t))
		return false;
	if (t->notification == has_id)
		return malformed(m, "%s %s", t->name.p,
				 has_id ? "is a notification and has no id" : "needs an id");
	if (!member_is(m->rd, m->members[MEMBER_PARAMS], "params", JSON_OBJECT, &params) ||
	    !names_found(m->rd, params, param_names, PARAMS, m->params, &other) ||
	    !check_method_header(m, t))
		return false;
	if (!t->notification && !check_meta(m))
		return false;
	if (m->params[PARAM_INPUT_RESPONSES] || m->params[PARAM_REQUEST_STATE])
		field_bool(&m->rd->facts, FIELD("retry"), true);
	m->rd->out->tool_call = t->target == ON_TOOL;
	return dispatch(m, t, params);
}

static bool read_batch(struct mcp *m)
{
	const struct json *list = m->rd->body;

	m->rd->out->batch = true;
	m->rd->out->rpc_code = -32600;
	if (m->version != V2025_03 || !m->rd->r->route.batches)
		return refuse(m->rd, ERR_INVALID, "batch_refused",
			      "JSON-RPC batches exist in MCP 2025-03-26 only, where the operator "
			      "allows them; send one message at a time");
	if (!list->n)
		return malformed(m, "the batch is empty");
	if (m->method_header.p || m->name_header.p)
		return mismatch(m, "Mcp-Method and Mcp-Name cannot speak for a batch");
	for (uint32_t i = 0; i < list->n; i++) {
		m->rd->facts.n = 0; /* they speak of one message */
		if (!read_message(m, &list->items[i]))
			return false;
	}
	m->rd->out->rpc_code = 0;
	m->rd->out->rpc_id = (struct str){ NULL, 0 };
	m->rd->out->notification = m->rd->out->tool_call = false;
	return true;
}

/* ---- legs without a body ---- */

/* By headers alone: only servers of 2026-07-28 refuse headers that disagree with the body, and
 * only where the operator vouches for it. Calls of tools have arguments: never. */
static bool headers_only(struct mcp *m)
{
	const struct method *t;
	struct str type;

	if (m->version < V2026_07 || !m->rd->r->route.headers_validated || !m->method_header.p)
		return body_json(m->rd, NULL); /* refused: there is none */
	if (!known_method(m, m->method_header, &t))
		return false;
	m->rd->out->notification = t->notification;
	switch (t->target) {
	case ON_SERVER:
		return dispatch(m, t, NULL);
	case ON_RESOURCE:
		type = STR("resource");
		break;
	case ON_PROMPT:
		type = STR("prompt");
		break;
	case ON_TASK:
		type = STR("task");
		break;
	case ON_TOOL:
	case ON_REFERENCE:
	case ON_LISTEN:
	default:
		return body_json(m->rd, NULL);
	}
	if (!text_fit(m->name_header, 512))
		return mismatch(m, "Mcp-Name is missing or no name; %s needs it", t->name.p);
	return add_action(m->rd, t->name, type, m->name_header, NULL);
}

/* GET opens the server's stream, DELETE ends the session: a stolen session id would do. */
static bool read_leg(struct mcp *m, bool get)
{
	if (m->version >= V2026_07)
		return refuse(m->rd, ERR_FORBIDDEN, "unknown_method", "MCP 2026-07-28 has no %s",
			      get ? "GET" : "DELETE");
	if (m->rd->state != BODY_NONE)
		return refuse(m->rd, ERR_INVALID, "unexpected_body", "this request has no body");
	if (m->method_header.p || m->name_header.p)
		return mismatch(m, "Mcp-Method and Mcp-Name belong to a POST");
	m->rd->out->notification = true;
	return add_action(m->rd, get ? STR("stream/open") : STR("session/close"), STR("mcp_server"),
			  server_of(m), NULL);
}

bool mcp_read(struct reader *rd)
{
	struct mcp m = { .rd = rd };

	if (!read_headers(&m))
		return false;
	if (str_eq(rd->r->method, STR("GET")) || str_eq(rd->r->method, STR("DELETE")))
		return read_leg(&m, str_eq(rd->r->method, STR("GET")));
	if (!str_eq(rd->r->method, STR("POST")))
		return refuse(rd, ERR_FORBIDDEN, "http_method",
			      "MCP uses POST, GET and DELETE, not %.*s",
			      STR_FMT(str_first(rd->r->method, 20)));
	if (rd->state == BODY_NONE)
		return headers_only(&m);
	if (!body_json(rd, NULL))
		return false;
	return rd->body->type == JSON_ARRAY ? read_batch(&m) : read_message(&m, rd->body);
}
