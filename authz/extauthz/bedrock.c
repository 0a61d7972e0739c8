/* Amazon Bedrock: /model/ID/VERB, where the ID may be an ARN in percent codes. */
#include "authz/base/text.h"
#include "authz/extauthz/model.h"

bool bedrock_path(struct str path)
{
	return str_starts(path, STR("/model/")) && path.n > 7;
}

static bool converse(struct reader *rd, struct str model, bool stream)
{
	struct model_call *m = model_begin(rd, STR("bedrock"), "chat");
	const struct json *config, *tool_config, *tools, *spec, *system;
	struct str name;

	if (!m || !body_object(rd, model_names) ||
	    !member(rd, rd->body, "inferenceConfig", JSON_OBJECT, &config) ||
	    !model_count(rd, config, "maxTokens", &m->max_tokens) ||
	    !member(rd, rd->body, "toolConfig", JSON_OBJECT, &tool_config) ||
	    !member(rd, tool_config, "tools", JSON_ARRAY, &tools))
		return false;
	for (uint32_t i = 0; tools && i < tools->n; i++) {
		if (!member(rd, &tools->items[i], "toolSpec", JSON_OBJECT, &spec) ||
		    !member(rd, &tools->items[i], "systemTool", JSON_OBJECT, &system))
			return false;
		if (!spec && !system)
			continue; /* a cache point */
		if (!member_text(rd, spec ? spec : system, "name", &name) ||
		    !(spec ? model_tool(rd, m, name) : model_server(rd, m, name, NULL)))
			return false;
	}
	m->model = model;
	m->stream = stream;
	m->input = json_get(rd->body, STR("messages"));
	m->images = model_images(m->input, "content");
	return model_done(rd, m);
}

/* The vendor's own body: Anthropic's is known; of others what they have in common. */
static bool invoke(struct reader *rd, struct str model, bool stream)
{
	struct model_call *m;

	if (!body_object(rd, model_names))
		return false;
	if (json_get(rd->body, STR("anthropic_version")))
		return anthropic_body(rd, STR("bedrock"), model, "chat", stream);
	m = model_begin(rd, STR("bedrock"), "invoke");
	if (!m || !model_count(rd, rd->body, "max_tokens", &m->max_tokens))
		return false;
	/* A shape that is not known may name tools in any place: only what has none passes. */
	if (json_get(rd->body, STR("tools")) || json_get(rd->body, STR("toolConfig")))
		return refuse(rd, ERR_FORBIDDEN, "endpoint_refused",
			      "tools in a vendor's own body cannot be judged; use converse");
	m->model = model;
	m->stream = stream;
	m->input = rd->body;
	return model_done(rd, m);
}

bool bedrock_read(struct reader *rd)
{
	struct str rest, id, verb;

	if (!str_eq(rd->r->method, STR("POST")) || !bedrock_path(rd->path) ||
	    !str_cut(str_from(rd->path, 7), '/', &id, &verb))
		return model_endpoint(rd, STR("bedrock"), false);
	rest = id;
	if (!percent_decode(rd->a, rest, &id) || !text_fit(id, 2048))
		return refuse(rd, ERR_INVALID, "model_missing", "the model's id is malformed");
	if (str_eq(verb, STR("converse")) || str_eq(verb, STR("converse-stream")))
		return converse(rd, id, str_eq(verb, STR("converse-stream")));
	if (str_eq(verb, STR("invoke")) || str_eq(verb, STR("invoke-with-response-stream")))
		return invoke(rd, id, !str_eq(verb, STR("invoke")));
	if (str_eq(verb, STR("count-tokens"))) {
		struct model_call *m = model_begin(rd, STR("bedrock"), "count_tokens");

		if (!m || !body_object(rd, model_names))
			return false;
		m->model = id;
		m->input = rd->body;
		return model_done(rd, m);
	}
	return model_endpoint(rd, STR("bedrock"), false);
}
