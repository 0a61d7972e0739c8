/*
 * model - what a call of a model asks for, whatever API it came by; private to authz/extauthz.
 *
 * Purpose    The readers of the APIs fill a struct model_call; model_done makes the actions of it:
 *            models/invoke on the model, models/server_tool on each tool that the provider runs,
 *            models/mcp_server on each MCP server that the provider calls. Texts of the
 *            conversation are not passed on: what is recorded holds no prompt.
 * Ownership  As parts.h.
 * Threads    As parts.h.
 */
#ifndef WRIT_EXTAUTHZ_MODEL_H
#define WRIT_EXTAUTHZ_MODEL_H

#include "authz/extauthz/parts.h"

#define MODEL_TOOLS_MAX 512 /* functions that a call may declare */

struct model_call {
	struct str provider;	     /* "openai", "anthropic" ... */
	struct str model, operation; /* "chat", "complete", "embed", "responses" ... */
	bool stream, images;
	const struct json *max_tokens, *n;
	struct json *tools; /* names of functions */
	uint32_t ntools, tools_room;
	struct str user, previous;
	bool background, store, stored;		    /* `stored`: `store` was said */
	const struct json *input;		    /* what is sent: messages, prompt, contents */
	struct str servers[TRAFFIC_ACTIONS_MAX];    /* ids of what the provider runs ... */
	const struct json *of[TRAFFIC_ACTIONS_MAX]; /* ... an MCP server's settings; NULL: a tool */
	uint32_t nservers;
};

/* A call without anything in it yet; NULL: refused. */
struct model_call *model_begin(struct reader *rd, struct str provider, const char *operation);

/* One more function by name. */
MUST_USE bool model_tool(struct reader *rd, struct model_call *m, struct str name);
/* A tool that the provider runs ("web_search"), or, with @settings, an MCP server by URL or
 * connector. */
MUST_USE bool model_server(struct reader *rd, struct model_call *m, struct str id,
			   const struct json *settings);

/* Member @name as a number of tokens or choices: absent, or an integer from 0 on. */
MUST_USE bool model_count(struct reader *rd, const struct json *v, const char *name,
			  const struct json **out);
MUST_USE bool model_flag(struct reader *rd, const struct json *v, const char *name, bool *out);

/* Are there images or files in @messages, each with a list `content` (or @list) of typed parts? */
bool model_images(const struct json *messages, const char *list);

MUST_USE bool model_done(struct reader *rd, struct model_call *m);

/* GET of a list of models. */
MUST_USE bool model_list(struct reader *rd, struct str provider);
/* Batches, files, administration: refused, unless the route allows batches and @batch. */
MUST_USE bool model_endpoint(struct reader *rd, struct str provider, bool batch);

/* Names that no member may have in another case. */
extern const char *const model_names[];

/* Anthropic's body is spoken by Vertex and Bedrock, too (anthropic.c). @model: from the path, or
 * empty: in the body. */
MUST_USE bool anthropic_body(struct reader *rd, struct str provider, struct str model,
			     const char *operation, bool stream);
/* OpenAI's chat body (openai.c), as Azure and Vertex speak it. */
MUST_USE bool openai_body(struct reader *rd, struct str provider, struct str model,
			  const char *operation);

#endif
