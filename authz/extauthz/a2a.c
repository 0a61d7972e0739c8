/*
 * A2A 0.3 and 1.0 (agent-protocols sheet 6), JSON-RPC and REST: one operation, one name, that of
 * 1.0, whichever way it came. The method's name tells the generation; a header must not contradict.
 */
#include "authz/extauthz/parts.h"

enum target { ON_AGENT, ON_MESSAGE, ON_TASK, ON_PUSH };

static const struct operation {
	struct str name, old; /* of 1.0 and of 0.3 */
	enum target target;
} operations[] = {
	{ STR_INIT("SendMessage"), STR_INIT("message/send"), ON_MESSAGE },
	{ STR_INIT("SendStreamingMessage"), STR_INIT("message/stream"), ON_MESSAGE },
	{ STR_INIT("GetTask"), STR_INIT("tasks/get"), ON_TASK },
	{ STR_INIT("ListTasks"), STR_INIT("tasks/list"), ON_AGENT },
	{ STR_INIT("CancelTask"), STR_INIT("tasks/cancel"), ON_TASK },
	{ STR_INIT("SubscribeToTask"), STR_INIT("tasks/resubscribe"), ON_TASK },
	{ STR_INIT("CreateTaskPushNotificationConfig"),
	  STR_INIT("tasks/pushNotificationConfig/set"), ON_PUSH },
	{ STR_INIT("GetTaskPushNotificationConfig"), STR_INIT("tasks/pushNotificationConfig/get"),
	  ON_TASK },
	{ STR_INIT("ListTaskPushNotificationConfigs"),
	  STR_INIT("tasks/pushNotificationConfig/list"), ON_TASK },
	{ STR_INIT("DeleteTaskPushNotificationConfig"),
	  STR_INIT("tasks/pushNotificationConfig/delete"), ON_TASK },
	{ STR_INIT("GetExtendedAgentCard"), STR_INIT("agent/getAuthenticatedExtendedCard"),
	  ON_AGENT },
};

static const char *const message_names[] = { "jsonrpc", "id", "method", "params", NULL };
static const char *const param_names[] = {
	"message",  "configuration",	      "taskId", "id",  "tenant",
	"metadata", "pushNotificationConfig", "config", "url", "taskPushNotificationConfig",
	NULL
};

#define malformed(rd, ...) \
	((rd)->out->rpc_code = -32600, refuse(rd, ERR_INVALID, "invalid_message", __VA_ARGS__))

static const struct operation *by_name(struct str name, bool *old)
{
	for (size_t i = 0; i < ARRAY_LEN(operations); i++) {
		*old = str_eq(name, operations[i].old);
		if (*old || str_eq(name, operations[i].name))
			return &operations[i];
	}
	return NULL;
}

/* tasks/get and tasks/cancel are MCP's, too: there params have taskId, here id. */
bool a2a_method(struct str method, const struct json *params)
{
	bool old;

	if (!by_name(method, &old))
		return false;
	if (str_eq(method, STR("tasks/get")) || str_eq(method, STR("tasks/cancel")))
		return json_get(params, STR("id")) && !json_get(params, STR("taskId"));
	return !str_eq(method, STR("tasks/list")); /* 0.3 has it by REST only */
}

static struct str agent_of(const struct reader *rd)
{
	return rd->r->route.server.n ? rd->r->route.server : rd->r->host;
}

/* ---- parts of a message ---- */

static bool list_urls(struct reader *rd, const struct json *parts, struct json *urls)
{
	struct json *items = arena_alloc(rd->a, (parts ? parts->n : 0) * sizeof(*items));

	if (!items)
		return refuse_memory(rd);
	*urls = (struct json){ .type = JSON_ARRAY, .items = items };
	for (uint32_t i = 0; parts && i < parts->n; i++) {
		const struct json *file;
		struct str url;

		if (parts->items[i].type != JSON_OBJECT)
			return malformed(rd, "a part of a message is an object");
		if (!member_maybe(rd, &parts->items[i], "url", &url) ||
		    (!url.n && (!member(rd, &parts->items[i], "file", JSON_OBJECT, &file) ||
				!member_maybe(rd, file, "uri", &url))))
			return false;
		if (url.n)
			items[urls->n++] = (struct json){ .type = JSON_STRING, .s = url };
	}
	return true;
}

/* Where writ's own side is asked to call back: 0.3 and 1.0 put it in several places. */
static bool push_url(struct reader *rd, const struct json *v, struct str *out)
{
	static const char *const places[] = { "taskPushNotificationConfig",
					      "pushNotificationConfig", "config" };
	const struct json *inner;
	struct str found;

	if (!member_maybe(rd, v, "url", out))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		if (!member(rd, v, places[i], JSON_OBJECT, &inner) ||
		    (inner && !member_maybe(rd, inner, "url", &found)))
			return false;
		if (!inner || !found.n)
			continue;
		if (out->n && !str_eq(*out, found))
			return malformed(rd, "two different push notification URLs in one request");
		*out = found;
	}
	return true;
}

static bool on_message(struct reader *rd, struct str name, const struct json *params)
{
	const struct json *message, *parts, *configuration;
	struct str task, context, id, tenant, url = { NULL, 0 };
	struct fields f;
	const struct json *args;
	struct json urls;

	if (!member(rd, params, "message", JSON_OBJECT, &message) ||
	    !member(rd, params, "configuration", JSON_OBJECT, &configuration) ||
	    !member(rd, message, "parts", JSON_ARRAY, &parts) ||
	    !member_maybe(rd, message, "taskId", &task) ||
	    !member_maybe(rd, message, "contextId", &context) ||
	    !member_maybe(rd, message, "messageId", &id) ||
	    !member_maybe(rd, params, "tenant", &tenant) || !list_urls(rd, parts, &urls) ||
	    (configuration && !push_url(rd, configuration, &url)))
		return false;
	if (!message || !parts)
		return malformed(rd, "%s needs params.message with parts", name.p);
	fields_begin(&f, rd->a, 7);
	field_json(&f, FIELD("message"), message);
	field_str(&f, FIELD("task_id"), task);
	field_str(&f, FIELD("context_id"), context);
	field_str(&f, FIELD("message_id"), id);
	field_str(&f, FIELD("tenant"), tenant);
	field_str(&f, FIELD("push_url"), url);
	field_json(&f, FIELD("urls"), &urls);
	args = fields_object(&f);
	if (!args)
		return refuse_memory(rd);
	return add_action(rd, name, STR("a2a_agent"), agent_of(rd), args);
}

static bool on_task(struct reader *rd, const struct operation *op, struct str id,
		    const struct json *params)
{
	struct str url = { NULL, 0 };
	struct fields f;
	const struct json *args;

	if (!text_fit(id, 512))
		return malformed(rd, "%s needs the id of a task", op->name.p);
	if (op->target == ON_PUSH) {
		if (!push_url(rd, params, &url))
			return false;
		if (!url.n)
			return malformed(rd, "%s needs the URL to call", op->name.p);
	}
	fields_begin(&f, rd->a, 1);
	field_str(&f, FIELD("push_url"), url);
	args = fields_object(&f);
	if (!args)
		return refuse_memory(rd);
	return add_action(rd, op->name, STR("task"), id, args);
}

/* ---- JSON-RPC ---- */

static bool task_of(struct reader *rd, const struct operation *op, const struct json *params,
		    struct str *id)
{
	bool own = str_starts(op->old, STR("tasks/pushNotificationConfig/")) &&
		   str_eq(rd->out->version, STR("1.0"));
	struct str other;

	if (!member_maybe(rd, params, "taskId", id) || !member_maybe(rd, params, "id", &other))
		return false;
	/* In 1.0 `id` may be a push notification config's own. Everywhere else it is the task, and
	 * MCP's name for it beside it would be another task to somebody else. */
	if (!own && id->n && other.n && !str_eq(*id, other))
		return malformed(rd, "id and taskId name two tasks");
	if (!id->n)
		*id = other;
	return true;
}

static bool run(struct reader *rd, const struct operation *op, const struct json *params)
{
	struct str id;

	if (!names_exact(rd, params, param_names))
		return false;
	if (op->target == ON_MESSAGE)
		return on_message(rd, op->name, params);
	if (op->target == ON_AGENT)
		return add_action(rd, op->name, STR("a2a_agent"), agent_of(rd), NULL);
	return task_of(rd, op, params, &id) && on_task(rd, op, id, params);
}

/* The header says 1.0, 0.3 or nothing (0.3). */
static bool check_version(struct reader *rd, bool old)
{
	struct str v;

	if (!header_once(rd, HEADER_A2A_VERSION, &v))
		return false;
	rd->out->version = old ? STR("0.3") : STR("1.0");
	if (!v.n || str_eq(v, rd->out->version))
		return true;
	rd->out->rpc_code = -32009;
	return refuse(rd, ERR_INVALID, "unsupported_version",
		      "A2A-Version \"%.*s\" and a method of %s do not go together",
		      STR_FMT(str_first(v, 20)), rd->out->version.p);
}

static bool read_envelope(struct reader *rd, const struct json *v)
{
	const struct json *version = json_get_type(v, STR("jsonrpc"), JSON_STRING);
	const struct json *id = json_get(v, STR("id"));

	if (v->type != JSON_OBJECT)
		return malformed(rd, "A2A has no batches; send one message");
	if (!names_exact(rd, v, message_names))
		return false;
	if (id && ((id->type != JSON_STRING && id->type != JSON_INT) || id->raw.n > 256))
		return malformed(rd, "id must be a string or an integer of at most 256 bytes");
	if (id)
		rd->out->rpc_id = id->raw;
	rd->out->notification = !id;
	if (!id || !version || !str_eq(version->s, STR("2.0")))
		return malformed(rd, "an A2A request has jsonrpc \"2.0\" and an id");
	for (uint32_t i = 0; i < v->n; i++) {
		size_t k = 0;

		while (message_names[k] && !str_eq(v->items[i].name, str_c(message_names[k])))
			k++;
		if (!message_names[k])
			return malformed(rd, "\"%.*s\" is no member of a JSON-RPC request",
					 STR_FMT(str_first(v->items[i].name, 40)));
	}
	return true;
}

static bool read_rpc(struct reader *rd)
{
	const struct operation *op;
	const struct json *method, *params;
	bool old = false;

	if (!body_json(rd, NULL) || !read_envelope(rd, rd->body))
		return false;
	method = json_get_type(rd->body, STR("method"), JSON_STRING);
	op = method ? by_name(method->s, &old) : NULL;
	if (!op || (old && str_eq(method->s, STR("tasks/list")))) {
		rd->out->rpc_code = -32601;
		return refuse(rd, ERR_FORBIDDEN, "unknown_method",
			      "this is no method of A2A 0.3 or 1.0, so it is not let through");
	}
	return check_version(rd, old) && member(rd, rd->body, "params", JSON_OBJECT, &params) &&
	       run(rd, op, params);
}

/* ---- REST ---- */

static const struct rest {
	const char *method, *tail; /* after the prefix; {} is a task, * a config */
	size_t operation;
	bool body;
} rests[] = {
	{ "POST", "message:send", 0, true },
	{ "POST", "message:stream", 1, true },
	{ "GET", "tasks/{}", 2, false },
	{ "GET", "tasks", 3, false },
	{ "POST", "tasks/{}:cancel", 4, false },
	{ "POST", "tasks/{}:subscribe", 5, false },
	{ "GET", "tasks/{}:subscribe", 5, false },
	{ "POST", "tasks/{}/pushNotificationConfigs", 6, true },
	{ "GET", "tasks/{}/pushNotificationConfigs/*", 7, false },
	{ "GET", "tasks/{}/pushNotificationConfigs", 8, false },
	{ "DELETE", "tasks/{}/pushNotificationConfigs/*", 9, false },
	{ "GET", "extendedAgentCard", 10, false },
	{ "GET", "card", 10, false },
};

/* Does @path, whole, fit @pattern? *id is the task. */
static bool fits(struct str path, struct str pattern, struct str *id)
{
	while (pattern.n) {
		size_t n = 0;

		if (pattern.p[0] != '{' && pattern.p[0] != '*') {
			if (!path.n || path.p[0] != pattern.p[0])
				return false;
			path = str_from(path, 1);
			pattern = str_from(pattern, 1);
			continue;
		}
		while (n < path.n && path.p[n] != '/' && path.p[n] != ':')
			n++;
		if (!n)
			return false;
		if (pattern.p[0] == '{')
			*id = str_first(path, n);
		pattern = str_from(pattern, pattern.p[0] == '{' ? 2 : 1);
		path = str_from(path, n);
	}
	return path.n == 0;
}

/* The row for a path, behind any prefix of whole segments (a mount point, /v1, a tenant). */
static const struct rest *find_rest(struct str path, struct str method, struct str *id)
{
	for (struct str at = str_from(path, 1); at.n; at = str_from(at, 1)) {
		if (at.p != path.p + 1 && at.p[-1] != '/')
			continue;
		for (size_t i = 0; i < ARRAY_LEN(rests); i++)
			if ((!method.n || str_eq(method, str_c(rests[i].method))) &&
			    fits(at, str_c(rests[i].tail), id))
				return &rests[i];
	}
	return NULL;
}

static bool is_card(struct str path)
{
	return str_ends(path, STR("/.well-known/agent-card.json")) ||
	       str_ends(path, STR("/.well-known/agent.json"));
}

bool a2a_path(struct str path)
{
	return is_card(path) || str_ends(path, STR("/message:send")) ||
	       str_ends(path, STR("/message:stream")) || str_ends(path, STR("/extendedAgentCard"));
}

static bool read_rest(struct reader *rd, const struct rest *row, struct str id)
{
	const struct operation *op = &operations[row->operation];
	struct str v, named = { NULL, 0 };

	if (!header_once(rd, HEADER_A2A_VERSION, &v))
		return false;
	rd->out->version = v.n ? v : STR("0.3");
	if (v.n && !str_eq(v, STR("1.0")) && !str_eq(v, STR("0.3")))
		return refuse(rd, ERR_INVALID, "unsupported_version",
			      "A2A-Version must be 1.0 or 0.3, not \"%.*s\"",
			      STR_FMT(str_first(v, 20)));
	if (row->body) {
		if (!body_json(rd, "application/a2a+json"))
			return false;
		if (rd->body->type != JSON_OBJECT)
			return malformed(rd, "the body must be an object");
		if (!names_exact(rd, rd->body, param_names))
			return false;
	}
	if (op->target == ON_MESSAGE)
		return on_message(rd, op->name, rd->body);
	if (op->target == ON_AGENT)
		return add_action(rd, op->name, STR("a2a_agent"), agent_of(rd), NULL);
	if (rd->body && !member_maybe(rd, rd->body, "taskId", &named))
		return false;
	if (named.n && !str_eq(named, id))
		return malformed(rd, "path and body name two tasks");
	return on_task(rd, op, id, rd->body);
}

bool a2a_read(struct reader *rd)
{
	struct str method = rd->r->method, id = { NULL, 0 };
	const struct rest *row = find_rest(rd->path, method, &id);

	if (is_card(rd->path) && str_eq(method, STR("GET")) && rd->state == BODY_NONE) {
		rd->out->discovery = true;
		return add_action(rd, STR("GetAgentCard"), STR("a2a_agent"), agent_of(rd), NULL);
	}
	if (row)
		return read_rest(rd, row, id);
	if (!str_eq(method, STR("POST")) || find_rest(rd->path, (struct str){ NULL, 0 }, &id))
		return refuse(rd, ERR_FORBIDDEN, "unknown_method",
			      "%.*s of this path is no operation of A2A, so it is not let through",
			      STR_FMT(method));
	return read_rpc(rd);
}
