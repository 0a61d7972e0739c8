/* Ollama's own API. It streams unless told not to; pulling and deleting models is no call. */
#include "authz/extauthz/model.h"

static const struct {
	struct str path;
	const char *operation;
} calls[] = {
	{ STR_INIT("/api/chat"), "chat" },
	{ STR_INIT("/api/generate"), "complete" },
	{ STR_INIT("/api/embed"), "embed" },
	{ STR_INIT("/api/embeddings"), "embed" },
};

static const struct str others[] = { STR_INIT("/api/tags"), STR_INIT("/api/ps"),
				     STR_INIT("/api/pull"), STR_INIT("/api/delete"),
				     STR_INIT("/api/push"), STR_INIT("/api/create"),
				     STR_INIT("/api/copy") };

bool ollama_path(struct str path)
{
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		if (str_eq(path, calls[i].path))
			return true;
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (str_eq(path, others[i]))
			return true;
	return false;
}

static bool call(struct reader *rd, const char *operation)
{
	struct model_call *m = model_begin(rd, STR("ollama"), operation);
	const struct json *options, *tools, *inner;
	struct str name;

	if (!m || !body_object(rd, model_names) ||
	    !member(rd, rd->body, "options", JSON_OBJECT, &options) ||
	    !member(rd, rd->body, "tools", JSON_ARRAY, &tools) ||
	    !member(rd, options, "num_predict", JSON_INT, &m->max_tokens))
		return false;
	if (m->max_tokens && m->max_tokens->i < 0)
		m->max_tokens = NULL;	 /* -1, -2: without end */
	m->stream = operation[0] == 'c'; /* chat, complete */
	if (!model_flag(rd, rd->body, "stream", &m->stream) ||
	    !member_maybe(rd, rd->body, "model", &m->model))
		return false;
	for (uint32_t i = 0; tools && i < tools->n; i++)
		if (!member(rd, &tools->items[i], "function", JSON_OBJECT, &inner) ||
		    !member_text(rd, inner, "name", &name) || !model_tool(rd, m, name))
			return false;
	m->input = json_get(rd->body, STR("messages"));
	if (!m->input)
		m->input = json_get(rd->body, STR("prompt"));
	if (!m->input)
		m->input = json_get(rd->body, STR("input"));
	m->images = json_get(rd->body, STR("images")) != NULL;
	for (uint32_t i = 0; m->input && m->input->type == JSON_ARRAY && i < m->input->n; i++)
		m->images = m->images || json_get(&m->input->items[i], STR("images"));
	return model_done(rd, m);
}

bool ollama_read(struct reader *rd)
{
	bool get = str_eq(rd->r->method, STR("GET"));

	for (size_t i = 0; str_eq(rd->r->method, STR("POST")) && i < ARRAY_LEN(calls); i++)
		if (str_eq(rd->path, calls[i].path))
			return call(rd, calls[i].operation);
	if (get && (str_eq(rd->path, STR("/api/tags")) || str_eq(rd->path, STR("/api/ps"))))
		return model_list(rd, STR("ollama"));
	return model_endpoint(rd, STR("ollama"), false);
}
