/* Gemini and Vertex AI: the model and the verb stand in the path, the rest in the body. */
#include "authz/extauthz/model.h"

/* The last two parts of .../models/MODEL:VERB; @publisher of Vertex, or empty. */
static bool split(struct str path, struct str *publisher, struct str *model, struct str *verb)
{
	struct str rest = path, at = { NULL, 0 };
	struct str names[12];
	size_t n = 0;

	rest = str_from(rest, 1);
	while (rest.n && n < ARRAY_LEN(names)) {
		names[n] = rest;
		if (!str_cut(rest, '/', &names[n], &rest))
			rest.n = 0;
		n++;
	}
	if (rest.n || n < 3 || !str_eq(names[n - 2], STR("models")))
		return false;
	at = names[n - 1];
	*publisher = (struct str){ NULL, 0 };
	if (n == 3) { /* /v1beta/models/... */
		if (!str_eq(names[0], STR("v1beta")) && !str_eq(names[0], STR("v1")))
			return false;
	} else if (n == 9 && str_eq(names[1], STR("projects")) &&
		   str_eq(names[3], STR("locations")) && str_eq(names[5], STR("publishers"))) {
		*publisher = names[6];
	} else {
		return false;
	}
	*model = at;
	*verb = (struct str){ NULL, 0 };
	return str_cut(at, ':', model, verb) && model->n && verb->n;
}

static bool vertex_openai(struct str path)
{
	return (str_starts(path, STR("/v1/projects/")) ||
		str_starts(path, STR("/v1beta1/projects/"))) &&
	       str_ends(path, STR("/endpoints/openapi/chat/completions"));
}

bool gemini_path(struct str path)
{
	struct str publisher, model, verb;

	return split(path, &publisher, &model, &verb) || vertex_openai(path) ||
	       str_starts(path, STR("/v1beta/")) || str_starts(path, STR("/v1/projects/")) ||
	       str_starts(path, STR("/v1beta1/projects/"));
}

/* One entry of tools[]: functions, or what Google runs. */
static bool tool(struct reader *rd, struct model_call *m, const struct json *v)
{
	const struct json *list;
	struct str name;

	if (v->type != JSON_OBJECT)
		return refuse(rd, ERR_INVALID, "invalid_member", "a tool is an object");
	for (uint32_t i = 0; i < v->n; i++) {
		const struct json *one = &v->items[i];
		bool functions = str_eq(one->name, STR("functionDeclarations")) ||
				 str_eq(one->name, STR("function_declarations"));

		if (!functions && !str_eq(one->name, STR("mcpServers"))) {
			if (!model_server(rd, m, one->name, NULL))
				return false;
			continue;
		}
		if (one->type != JSON_ARRAY)
			return refuse(rd, ERR_INVALID, "invalid_member", "\"%.*s\" must be a list",
				      STR_FMT(one->name));
		list = one;
		for (uint32_t k = 0; k < list->n; k++) {
			const struct json *http = json_get(&list->items[k],
							   STR("streamableHttpTransport"));

			if (functions ? !member_text(rd, &list->items[k], "name", &name) ||
						!model_tool(rd, m, name)
				      : !member_maybe(rd, http ? http : &list->items[k], "url",
						      &name) ||
						!model_server(rd, m, name, &list->items[k]))
				return false;
		}
	}
	return true;
}

/* proto3 JSON takes both spellings of a name: one of them, not both. */
static bool either(struct reader *rd, const struct json *v, const char *a, const char *b,
		   const struct json **out)
{
	*out = json_get(v, str_c(a));
	if (*out && json_get(v, str_c(b)))
		return refuse(rd, ERR_INVALID, "ambiguous_member",
			      "\"%s\" and \"%s\" are one member; send one of them", a, b);
	if (!*out)
		*out = json_get(v, str_c(b));
	if (*out && (*out)->type == JSON_NULL)
		*out = NULL;
	return true;
}

static bool read_limits(struct reader *rd, struct model_call *m)
{
	const struct json *config, *max, *n;

	if (!either(rd, rd->body, "generationConfig", "generation_config", &config) ||
	    !either(rd, config, "maxOutputTokens", "max_output_tokens", &max) ||
	    !either(rd, config, "candidateCount", "candidate_count", &n))
		return false;
	if ((max && (max->type != JSON_INT || max->i < 0)) ||
	    (n && (n->type != JSON_INT || n->i < 0)) || (config && config->type != JSON_OBJECT))
		return refuse(rd, ERR_INVALID, "invalid_member",
			      "generationConfig holds maxOutputTokens and candidateCount as "
			      "integers from 0 on");
	m->max_tokens = max;
	m->n = n;
	return true;
}

/* Models named in the body are the one of the path, or the call is another one. */
static bool same_model(struct reader *rd, const struct json *v, struct str model)
{
	struct str named;
	bool said;

	if (!member_maybe(rd, v, "model", &named))
		return false;
	said = named.n > 0;
	for (size_t i = named.n; i-- > 0;) /* "models/g", "projects/p/.../models/g" */
		if (named.p[i] == '/') {
			named = str_from(named, i + 1);
			break;
		}
	return !said || str_eq(named, model) ||
	       refuse(rd, ERR_INVALID, "model_mismatch", "path and body name two different models");
}

static bool generate(struct reader *rd, struct str model, const char *operation, bool stream)
{
	struct model_call *m = model_begin(rd, STR("gemini"), operation);
	const struct json *tools, *requests;

	if (!m || !body_object(rd, model_names) || !read_limits(rd, m) ||
	    !member(rd, rd->body, "tools", JSON_ARRAY, &tools) ||
	    !member(rd, rd->body, "requests", JSON_ARRAY, &requests) ||
	    !same_model(rd, rd->body, model))
		return false;
	for (uint32_t i = 0; tools && i < tools->n; i++)
		if (!tool(rd, m, &tools->items[i]))
			return false;
	for (uint32_t i = 0; requests && i < requests->n; i++)
		if (!same_model(rd, &requests->items[i], model))
			return false;
	m->model = model;
	m->stream = stream;
	m->input = json_get(rd->body, STR("contents"));
	if (!m->input)
		m->input = requests ? requests : json_get(rd->body, STR("content"));
	m->images = model_images(m->input, "parts");
	if (json_get(rd->body, STR("cachedContent")) || json_get(rd->body, STR("cached_content")))
		field_bool(&rd->facts, FIELD("cached_content"), true);
	return model_done(rd, m);
}

static const struct verb {
	struct str name;
	const char *operation;
	bool stream, raw; /* raw: the vendor's own body */
} verbs[] = {
	{ STR_INIT("generateContent"), "chat", false, false },
	{ STR_INIT("streamGenerateContent"), "chat", true, false },
	{ STR_INIT("countTokens"), "count_tokens", false, false },
	{ STR_INIT("embedContent"), "embed", false, false },
	{ STR_INIT("batchEmbedContents"), "embed", false, false },
	{ STR_INIT("predict"), "predict", false, false },
	{ STR_INIT("rawPredict"), "chat", false, true },
	{ STR_INIT("streamRawPredict"), "chat", true, true },
};

bool gemini_read(struct reader *rd)
{
	struct str publisher, model, verb;
	bool post = str_eq(rd->r->method, STR("POST"));

	if (memchr(rd->path.p, '%', rd->path.n))
		return refuse(rd, ERR_INVALID, "path_not_normal",
			      "the path of this API has no percent codes");
	if (post && vertex_openai(rd->path))
		return openai_body(rd, STR("vertex"), (struct str){ NULL, 0 }, "chat");
	if (str_eq(rd->r->method, STR("GET")) &&
	    (str_eq(rd->path, STR("/v1beta/models")) || str_eq(rd->path, STR("/v1/models")) ||
	     (str_starts(rd->path, STR("/v1beta/models/")) &&
	      !memchr(rd->path.p, ':', rd->path.n))))
		return model_list(rd, STR("gemini"));
	if (!post || !split(rd->path, &publisher, &model, &verb))
		return model_endpoint(rd, STR("gemini"), false);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		const struct verb *v = &verbs[i];

		if (!str_eq(verb, v->name))
			continue;
		if (!v->raw)
			return generate(rd, model, v->operation, v->stream);
		if (str_eq(publisher, STR("anthropic")))
			return anthropic_body(rd, STR("vertex"), model, v->operation, v->stream);
	}
	return model_endpoint(rd, STR("gemini"), false);
}
