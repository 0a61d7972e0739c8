/* OpenAI's API and what speaks like it: Azure, vLLM, llama.cpp, Cohere's paths. Listed paths only:
 * the same servers offer inference without a model's name, and administration, beside them. */
#include "authz/extauthz/model.h"

enum kind { CHAT, COMPLETE, RESPONSES, PLAIN };

static const struct api_call {
	struct str tail; /* after /v1, /openai/v1 or /openai/deployments/NAME */
	const char *operation;
	enum kind kind;
	bool bare; /* also without any prefix */
} calls[] = {
	{ STR_INIT("/chat/completions"), "chat", CHAT, true },
	{ STR_INIT("/completions"), "complete", COMPLETE, true },
	{ STR_INIT("/responses"), "responses", RESPONSES, false },
	{ STR_INIT("/embeddings"), "embed", PLAIN, true },
	{ STR_INIT("/moderations"), "moderate", PLAIN, false },
	{ STR_INIT("/images/generations"), "image", PLAIN, false },
	{ STR_INIT("/audio/speech"), "speech", PLAIN, false },
	{ STR_INIT("/rerank"), "rerank", PLAIN, true },
	{ STR_INIT("/tokenize"), "tokenize", PLAIN, true },
	{ STR_INIT("/detokenize"), "tokenize", PLAIN, true },
	{ STR_INIT("/pooling"), "embed", PLAIN, true },
	{ STR_INIT("/classify"), "classify", PLAIN, true },
	{ STR_INIT("/score"), "score", PLAIN, true },
};

/* What holds calls that are not seen: refused unless the operator says otherwise. */
static const struct str hidden[] = { STR_INIT("/batches"), STR_INIT("/files"), STR_INIT("/uploads"),
				     STR_INIT("/chat/completions/batch") };

static const struct api_call *find_call(struct str tail, bool bare)
{
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		if (str_eq(tail, calls[i].tail) && (!bare || calls[i].bare))
			return &calls[i];
	return NULL;
}

static bool below(struct str path, struct str root)
{
	return str_starts(path, root) && (path.n == root.n || path.p[root.n] == '/');
}

#define DEPLOYMENTS "/openai/deployments/"

/* What stands after the prefix; *model is Azure's deployment. p == NULL: no prefix of ours. */
static struct str tail_of(struct str path, struct str *model, bool *cohere)
{
	static const struct str prefixes[] = { STR_INIT("/openai/v1"), STR_INIT("/v1"),
					       STR_INIT("/v2") };
	struct str name, rest;

	*model = (struct str){ NULL, 0 };
	*cohere = below(path, STR("/v2"));
	if (str_starts(path, STR(DEPLOYMENTS))) {
		rest = str_from(path, sizeof(DEPLOYMENTS) - 1);
		if (!str_cut(rest, '/', &name, &rest) || !name.n)
			return (struct str){ NULL, 0 };
		*model = name;
		return (struct str){ rest.p - 1, rest.n + 1 };
	}
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (below(path, prefixes[i]))
			return (struct str){ path.p + prefixes[i].n, path.n - prefixes[i].n };
	return (struct str){ NULL, 0 };
}

bool openai_path(struct str path)
{
	struct str model, tail;
	bool cohere;

	if (str_starts(path, STR("/openai/")) || find_call(path, true))
		return true;
	tail = tail_of(path, &model, &cohere);
	if (!tail.p)
		return false;
	if (cohere)
		return str_eq(tail, STR("/chat")) || str_eq(tail, STR("/embed")) ||
		       str_eq(tail, STR("/rerank"));
	for (size_t i = 0; i < ARRAY_LEN(hidden); i++)
		if (below(tail, hidden[i]))
			return true;
	return find_call(tail, false) ||
	       (below(tail, STR("/models")) && !memchr(tail.p, ':', tail.n)) ||
	       below(tail, STR("/responses")) || below(tail, STR("/audio")) ||
	       below(tail, STR("/images")) || below(tail, STR("/realtime"));
}

/* ---- tools ---- */

static bool chat_tool(struct reader *rd, struct model_call *m, const struct json *tool)
{
	const struct json *inner;
	struct str type, name;
	bool custom;

	if (!member_text(rd, tool, "type", &type))
		return false;
	custom = str_eq(type, STR("custom"));
	if (!custom && !str_eq(type, STR("function"))) {
		return model_server(rd, m, type, NULL);
	}
	return member(rd, tool, custom ? "custom" : "function", JSON_OBJECT, &inner) &&
	       member_text(rd, inner, "name", &name) && model_tool(rd, m, name);
}

/* server_url, connector_id or tunnel_id: exactly one of them. */
static bool mcp_tool(struct reader *rd, struct model_call *m, const struct json *tool)
{
	static const char *const names[] = { "server_url", "connector_id", "tunnel_id", NULL };
	struct str id = { NULL, 0 }, one;

	for (size_t i = 0; names[i]; i++) {
		if (!member_maybe(rd, tool, names[i], &one))
			return false;
		if (id.n && one.n)
			return refuse(rd, ERR_INVALID, "invalid_member",
				      "a tool of type mcp names two servers");
		if (one.n)
			id = one;
	}
	return model_server(rd, m, id, tool);
}

static bool responses_tool(struct reader *rd, struct model_call *m, const struct json *tool)
{
	struct str type, name;

	if (!member_text(rd, tool, "type", &type))
		return false;
	if (str_eq(type, STR("mcp")))
		return mcp_tool(rd, m, tool);
	if (!str_eq(type, STR("function")) && !str_eq(type, STR("custom")))
		return model_server(rd, m, type, NULL);
	return member_text(rd, tool, "name", &name) && model_tool(rd, m, name);
}

static bool read_tools(struct reader *rd, struct model_call *m, bool responses)
{
	const struct json *tools, *functions;
	struct str name;

	if (!member(rd, rd->body, "tools", JSON_ARRAY, &tools) ||
	    !member(rd, rd->body, "functions", JSON_ARRAY, &functions))
		return false;
	for (uint32_t i = 0; tools && i < tools->n; i++)
		if (!(responses ? responses_tool : chat_tool)(rd, m, &tools->items[i]))
			return false;
	for (uint32_t i = 0; functions && i < functions->n; i++)
		if (!member_text(rd, &functions->items[i], "name", &name) ||
		    !model_tool(rd, m, name))
			return false;
	/* Search as an option of chat models, without a tool for it. */
	return !json_get(rd->body, STR("web_search_options")) ||
	       model_server(rd, m, STR("web_search"), NULL);
}

/* ---- bodies ---- */

static bool max_of(struct reader *rd, struct model_call *m)
{
	const struct json *newer, *older, *output;

	if (!model_count(rd, rd->body, "max_completion_tokens", &newer) ||
	    !model_count(rd, rd->body, "max_tokens", &older) ||
	    !model_count(rd, rd->body, "max_output_tokens", &output))
		return false;
	/* The largest of them: which one a server takes differs. */
	m->max_tokens = newer;
	if (older && (!m->max_tokens || older->i > m->max_tokens->i))
		m->max_tokens = older;
	if (output && (!m->max_tokens || output->i > m->max_tokens->i))
		m->max_tokens = output;
	return true;
}

static const struct json *input_of(const struct reader *rd)
{
	static const char *const names[] = { "messages", "input",     "prompt", "texts",
					     "query",	 "documents", NULL };

	for (size_t i = 0; names[i]; i++)
		if (json_get(rd->body, str_c(names[i])))
			return json_get(rd->body, str_c(names[i]));
	return NULL;
}

static bool common(struct reader *rd, struct model_call *m, struct str model)
{
	struct str named;

	if (!member_maybe(rd, rd->body, "model", &named) || !max_of(rd, m) ||
	    !model_flag(rd, rd->body, "stream", &m->stream) ||
	    !model_count(rd, rd->body, "n", &m->n) || !member_maybe(rd, rd->body, "user", &m->user))
		return false;
	if (model.n && named.n && !str_eq(model, named))
		return refuse(rd, ERR_INVALID, "model_mismatch",
			      "the path names model \"%.*s\", the body \"%.*s\"",
			      STR_FMT(str_first(model, 60)), STR_FMT(str_first(named, 60)));
	m->model = model.n ? model : named;
	m->input = input_of(rd);
	m->images = model_images(m->input, "content");
	return true;
}

bool openai_body(struct reader *rd, struct str provider, struct str model, const char *operation)
{
	struct model_call *m = model_begin(rd, provider, operation);

	if (!m || !body_object(rd, model_names) || !common(rd, m, model) ||
	    !read_tools(rd, m, false))
		return false;
	return model_done(rd, m);
}

/* Hidden state brings in what the request does not show; it is named to the policies. */
static bool read_responses(struct reader *rd, struct str model)
{
	static const struct field_name hides[] = { FIELD_INIT("conversation"), FIELD_INIT("prompt"),
						   FIELD_INIT("container") };
	struct model_call *m = model_begin(rd, STR("openai"), "responses");
	const struct json *store;

	if (!m || !body_object(rd, model_names) || !common(rd, m, model) ||
	    !read_tools(rd, m, true) ||
	    !member_maybe(rd, rd->body, "previous_response_id", &m->previous) ||
	    !model_flag(rd, rd->body, "background", &m->background) ||
	    !member(rd, rd->body, "store", JSON_BOOL, &store))
		return false;
	m->stored = store != NULL;
	m->store = store && store->b;
	for (size_t i = 0; i < ARRAY_LEN(hides); i++)
		if (json_get(rd->body, hides[i].s) &&
		    json_get(rd->body, hides[i].s)->type != JSON_NULL)
			field_bool(&rd->facts, hides[i], true);
	return model_done(rd, m);
}

/* GET, DELETE and cancel of one response. */
static bool response_of(struct reader *rd, struct str tail)
{
	struct str id = str_from(tail, sizeof("/responses/") - 1), rest;
	struct str method = rd->r->method;

	if (rd->state != BODY_NONE && !str_eq(method, STR("POST")))
		return refuse(rd, ERR_INVALID, "unexpected_body", "this request has no body");
	if (str_cut(id, '/', &id, &rest)) {
		if (!str_eq(method, STR("POST")) || !str_eq(rest, STR("cancel")))
			return model_endpoint(rd, STR("openai"), false);
		return add_action(rd, STR("responses/cancel"), STR("response"), id, NULL);
	}
	if (!id.n || (!str_eq(method, STR("GET")) && !str_eq(method, STR("DELETE"))))
		return model_endpoint(rd, STR("openai"), false);
	return add_action(rd,
			  str_eq(method, STR("GET")) ? STR("responses/get")
						     : STR("responses/delete"),
			  STR("response"), id, NULL);
}

static bool post(struct reader *rd, const struct api_call *c, struct str model)
{
	if (!str_eq(rd->r->method, STR("POST")))
		return model_endpoint(rd, STR("openai"), false);
	if (c->kind == RESPONSES)
		return read_responses(rd, model);
	return openai_body(rd, STR("openai"), model, c->operation);
}

bool openai_read(struct reader *rd)
{
	struct str model, tail;
	bool cohere;
	const struct api_call *c;

	tail = tail_of(rd->path, &model, &cohere);
	c = tail.p && !cohere ? find_call(tail, false) : find_call(rd->path, true);
	if (c)
		return post(rd, c, model);
	for (size_t i = 0; tail.p && i < ARRAY_LEN(hidden); i++)
		if (below(tail, hidden[i]))
			return model_endpoint(rd, STR("openai"), true);
	if (cohere && str_eq(rd->r->method, STR("POST")) &&
	    (str_eq(tail, STR("/chat")) || str_eq(tail, STR("/embed")) ||
	     str_eq(tail, STR("/rerank"))))
		return openai_body(rd, STR("cohere"), model,
				   str_eq(tail, STR("/chat"))	 ? "chat"
				   : str_eq(tail, STR("/embed")) ? "embed"
								 : "rerank");
	if (tail.p && below(tail, STR("/models")) && str_eq(rd->r->method, STR("GET")))
		return model_list(rd, STR("openai"));
	if (tail.p && str_starts(tail, STR("/responses/")))
		return response_of(rd, tail);
	return model_endpoint(rd, STR("openai"), false);
}
