/* Anthropic's Messages API; Vertex and Bedrock speak its body with the model in the path. */
#include "authz/extauthz/model.h"

bool anthropic_path(struct str path)
{
	return str_eq(path, STR("/v1/messages")) || str_starts(path, STR("/v1/messages/")) ||
	       str_eq(path, STR("/v1/models"));
}

/* A tool with a type of its own is one that the provider knows; some of these (bash_, text_editor_,
 * computer_, memory_) the client runs, which only a name shows. */
static bool tool(struct reader *rd, struct model_call *m, const struct json *v)
{
	struct str type, name;

	if (!member_maybe(rd, v, "type", &type) || !member_maybe(rd, v, "name", &name))
		return false;
	if (type.n && !str_eq(type, STR("custom")))
		return model_server(rd, m, type, NULL);
	return model_tool(rd, m, name);
}

static bool servers(struct reader *rd, struct model_call *m)
{
	const struct json *list;
	struct str url;

	if (!member(rd, rd->body, "mcp_servers", JSON_ARRAY, &list))
		return false;
	for (uint32_t i = 0; list && i < list->n; i++)
		if (!member_maybe(rd, &list->items[i], "url", &url) ||
		    !model_server(rd, m, url, &list->items[i]))
			return false;
	return true;
}

bool anthropic_body(struct reader *rd, struct str provider, struct str model, const char *operation,
		    bool stream)
{
	struct model_call *m = model_begin(rd, provider, operation);
	const struct json *tools, *metadata;
	struct str named;

	if (!m || !body_object(rd, model_names) || !member_maybe(rd, rd->body, "model", &named) ||
	    !member(rd, rd->body, "tools", JSON_ARRAY, &tools) ||
	    !member(rd, rd->body, "metadata", JSON_OBJECT, &metadata) ||
	    !member_maybe(rd, metadata, "user_id", &m->user) ||
	    !model_count(rd, rd->body, "max_tokens", &m->max_tokens) ||
	    !model_flag(rd, rd->body, "stream", &m->stream) || !servers(rd, m))
		return false;
	for (uint32_t i = 0; tools && i < tools->n; i++)
		if (!tool(rd, m, &tools->items[i]))
			return false;
	if (model.n && named.n && !str_eq(model, named))
		return refuse(rd, ERR_INVALID, "model_mismatch",
			      "path and body name two different models");
	m->stream = m->stream || stream;
	m->model = model.n ? model : named;
	m->input = json_get(rd->body, STR("messages"));
	m->images = model_images(m->input, "content");
	if (json_get(rd->body, STR("container")))
		field_bool(&rd->facts, FIELD("container"), true);
	return model_done(rd, m);
}

bool anthropic_read(struct reader *rd)
{
	struct str path = rd->path, none = { NULL, 0 };
	bool post = str_eq(rd->r->method, STR("POST"));

	if (!header_once(rd, HEADER_ANTHROPIC_VERSION, &rd->out->version))
		return false;
	if (!text_fit(rd->out->version, 40))
		rd->out->version = none;
	if (post && str_eq(path, STR("/v1/messages")))
		return anthropic_body(rd, STR("anthropic"), none, "chat", false);
	if (post && str_eq(path, STR("/v1/messages/count_tokens")))
		return anthropic_body(rd, STR("anthropic"), none, "count_tokens", false);
	if (str_eq(rd->r->method, STR("GET")) &&
	    (str_eq(path, STR("/v1/models")) || str_starts(path, STR("/v1/models/"))))
		return model_list(rd, STR("anthropic"));
	return model_endpoint(rd, STR("anthropic"),
			      str_starts(path, STR("/v1/messages/batches")) ||
				      str_starts(path, STR("/v1/files")));
}
