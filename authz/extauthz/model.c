#include "authz/extauthz/model.h"

const char *const model_names[] = { "model",
				    "messages",
				    "input",
				    "prompt",
				    "tools",
				    "stream",
				    "max_tokens",
				    "max_completion_tokens",
				    "max_output_tokens",
				    "n",
				    "functions",
				    "mcp_servers",
				    "mcpServers",
				    "contents",
				    "generationConfig",
				    "toolConfig",
				    "inferenceConfig",
				    "options",
				    "previous_response_id",
				    "background",
				    "store",
				    "requests",
				    "system",
				    NULL };

struct model_call *model_begin(struct reader *rd, struct str provider, const char *operation)
{
	struct model_call *m = arena_zero(rd->a, sizeof(*m));

	if (!m) {
		(void)refuse_memory(rd);
		return NULL;
	}
	m->provider = provider;
	m->operation = str_c(operation);
	return m;
}

bool model_tool(struct reader *rd, struct model_call *m, struct str name)
{
	if (!text_fit(name, 512))
		return refuse(rd, ERR_INVALID, "invalid_member",
			      "the name of a tool must be a text of 1 to 512 bytes");
	if (m->ntools >= MODEL_TOOLS_MAX)
		return refuse(rd, ERR_TOO_LARGE, "too_many_tools", "more than %d tools in one call",
			      MODEL_TOOLS_MAX);
	if (m->ntools == m->tools_room) {
		uint32_t room = m->tools_room ? 4 * m->tools_room : 8;
		struct json *more = arena_alloc(rd->a, room * sizeof(*more));

		if (!more)
			return refuse_memory(rd);
		if (m->ntools)
			memcpy(more, m->tools, m->ntools * sizeof(*more));
		m->tools = more;
		m->tools_room = room;
	}
	m->tools[m->ntools++] = (struct json){ .type = JSON_STRING, .s = name };
	return true;
}

bool model_server(struct reader *rd, struct model_call *m, struct str id,
		  const struct json *settings)
{
	if (!text_fit(id, 2048))
		return refuse(rd, ERR_INVALID, "invalid_member",
			      "a tool that the provider runs has no type, URL or connector");
	if (m->nservers >= TRAFFIC_ACTIONS_MAX - 1)
		return refuse(rd, ERR_TOO_LARGE, "too_many_actions",
			      "more than %d tools of the provider in one call",
			      TRAFFIC_ACTIONS_MAX - 1);
	m->servers[m->nservers] = id;
	m->of[m->nservers++] = settings;
	return true;
}

bool model_count(struct reader *rd, const struct json *v, const char *name, const struct json **out)
{
	if (!member(rd, v, name, JSON_INT, out))
		return false;
	return !*out || (*out)->i >= 0 ||
	       refuse(rd, ERR_INVALID, "invalid_member", "\"%s\" must not be negative", name);
}

bool model_flag(struct reader *rd, const struct json *v, const char *name, bool *out)
{
	const struct json *b;

	if (!member(rd, v, name, JSON_BOOL, &b))
		return false;
	if (b)
		*out = b->b;
	return true;
}

static bool is_text(const struct json *part)
{
	static const struct str texts[] = { STR_INIT("text"),	     STR_INIT("input_text"),
					    STR_INIT("output_text"), STR_INIT("tool_use"),
					    STR_INIT("tool_result"), STR_INIT("thinking"),
					    STR_INIT("refusal") };
	const struct json *type = json_get_type(part, STR("type"), JSON_STRING);

	if (!type) /* Gemini and Bedrock name the kind by the member */
		return !json_get(part, STR("inlineData")) && !json_get(part, STR("fileData")) &&
		       !json_get(part, STR("image")) && !json_get(part, STR("document")) &&
		       !json_get(part, STR("video"));
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (str_eq(type->s, texts[i]))
			return true;
	return false;
}

bool model_images(const struct json *messages, const char *list)
{
	for (uint32_t i = 0; messages && messages->type == JSON_ARRAY && i < messages->n; i++) {
		const struct json *parts = json_get_type(&messages->items[i], str_c(list),
							 JSON_ARRAY);

		for (uint32_t k = 0; parts && k < parts->n; k++)
			if (!is_text(&parts->items[k]))
				return true;
	}
	return false;
}

/* Those of an MCP server that the provider calls, without its credentials. */
static const struct json *server_args(struct reader *rd, const struct model_call *m,
				      const struct json *v)
{
	static const char *const label[] = { "server_label", "name", NULL };
	static const char *const allowed[] = { "allowed_tools", "tool_configuration", NULL };
	struct fields f;

	fields_begin(&f, rd->a, 4);
	for (size_t i = 0; label[i]; i++)
		if (json_get_type(v, str_c(label[i]), JSON_STRING)) {
			field_json(&f, FIELD("label"), json_get(v, str_c(label[i])));
			break;
		}
	for (size_t i = 0; allowed[i]; i++)
		if (json_get(v, str_c(allowed[i]))) {
			field_json(&f, FIELD("allowed_tools"), json_get(v, str_c(allowed[i])));
			break;
		}
	field_json(&f, FIELD("require_approval"), json_get(v, STR("require_approval")));
	field_str(&f, FIELD("model"), m->model);
	return fields_object(&f);
}

static bool add_servers(struct reader *rd, const struct model_call *m)
{
	for (uint32_t i = 0; i < m->nservers; i++) {
		const struct json *args;
		struct fields f;
		struct str id = m->servers[i];

		if (m->of[i]) {
			args = server_args(rd, m, m->of[i]);
			if (!args)
				return refuse_memory(rd);
			if (!add_action(rd, STR("models/mcp_server"), STR("mcp_server"), id, args))
				return false;
			continue;
		}
		id = arena_printf(rd->a, "%.*s/%.*s", STR_FMT(m->provider), STR_FMT(id));
		fields_begin(&f, rd->a, 1);
		field_str(&f, FIELD("model"), m->model);
		args = fields_object(&f);
		if (!id.p || !args)
			return refuse_memory(rd);
		if (!add_action(rd, STR("models/server_tool"), STR("tool"), id, args))
			return false;
	}
	return true;
}

/* Ids of one kind, for q.args. */
static bool put_servers(struct reader *rd, const struct model_call *m, struct fields *f, bool mcp)
{
	struct json *items = arena_alloc(rd->a, (m->nservers + 1) * sizeof(*items));
	struct json list = { .type = JSON_ARRAY, .items = items };

	for (uint32_t i = 0; items && i < m->nservers; i++)
		if (mcp == (m->of[i] != NULL))
			items[list.n++] = (struct json){ .type = JSON_STRING, .s = m->servers[i] };
	field_json(f, mcp ? FIELD("mcp_servers") : FIELD("server_tools"), &list);
	return items || refuse_memory(rd);
}

bool model_done(struct reader *rd, struct model_call *m)
{
	struct json tools = { .type = JSON_ARRAY, .n = m->ntools, .items = m->tools };
	struct fields f;
	const struct json *args;

	if (!text_fit(m->model, 512))
		return refuse(rd, ERR_INVALID, "model_missing",
			      "the request names no model; \"model\" must be a text");
	fields_begin(&f, rd->a, FIELDS_MAX);
	field_str(&f, FIELD("operation"), m->operation);
	field_str(&f, FIELD("provider"), m->provider);
	field_bool(&f, FIELD("stream"), m->stream);
	field_bool(&f, FIELD("images"), m->images);
	field_json(&f, FIELD("max_tokens"), m->max_tokens);
	field_json(&f, FIELD("n"), m->n);
	field_json(&f, FIELD("tools"), &tools);
	if (!put_servers(rd, m, &f, false) || !put_servers(rd, m, &f, true))
		return false;
	field_str(&f, FIELD("user"), m->user);
	field_str(&f, FIELD("previous_response_id"), m->previous);
	if (m->background)
		field_bool(&f, FIELD("background"), true);
	if (m->stored)
		field_bool(&f, FIELD("store"), m->store);
	if (m->input) {
		field_int(&f, FIELD("input_bytes"), (int64_t)m->input->raw.n);
		field_int(&f, FIELD("messages"), m->input->type == JSON_ARRAY ? m->input->n : 1);
	}
	args = fields_object(&f);
	if (!args)
		return refuse_memory(rd);
	return add_action(rd, STR("models/invoke"), STR("model"), m->model, args) &&
	       add_servers(rd, m);
}

bool model_list(struct reader *rd, struct str provider)
{
	return add_action(rd, STR("models/list"), STR("model_api"), provider, NULL);
}

bool model_endpoint(struct reader *rd, struct str provider, bool batch)
{
	struct fields f;
	const struct json *args;

	if (!batch || !rd->r->route.batches)
		return refuse(rd, ERR_FORBIDDEN, "endpoint_refused",
			      "%.*s %.*s is no call that can be judged%s, so it is not let through",
			      STR_FMT(str_first(rd->r->method, 20)),
			      STR_FMT(str_first(rd->path, 100)),
			      batch ? " (batches and files hold calls that are not seen here)"
				    : "");
	fields_begin(&f, rd->a, 1);
	field_str(&f, FIELD("path"), rd->path);
	args = fields_object(&f);
	if (!args)
		return refuse_memory(rd);
	return add_action(rd, STR("models/batch"), STR("model_api"), provider, args);
}
