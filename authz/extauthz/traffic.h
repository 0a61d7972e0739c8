/*
 * traffic - what a described HTTP request asks for: tool calls, model calls, messages, plain paths.
 *
 * Purpose    A proxy describes a request that it holds; this reads MCP in all five revisions, A2A
 *            0.3 and 1.0, the model APIs and plain HTTP into a list of actions that policies
 *            judge, or refuses: what two readers could understand differently is no request. The
 *            proxy may let it pass only if every action is permitted.
 * Ownership  Everything lives in the caller's arena and borrows from the request and its body,
 *            which must outlive the result. Bodies are not copied.
 * Threads    No state: call from any thread.
 * Standards  MCP 2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25, 2026-07-28; JSON-RPC 2.0; A2A 0.3
 *            and 1.0; RFC 3986 6.2.2 (normal form of a path), RFC 8259 and RFC 7493 (bodies).
 */
#ifndef WRIT_EXTAUTHZ_TRAFFIC_H
#define WRIT_EXTAUTHZ_TRAFFIC_H

#include "authz/base/json.h"
#include "authz/net/call.h"

struct header_index;

enum traffic_protocol {
	TRAFFIC_AUTO, /* the route does not say: found out, and refused where two fit */
	TRAFFIC_MCP,
	TRAFFIC_A2A,
	TRAFFIC_OPENAI, /* and what speaks like it: Azure, vLLM, Cohere's paths */
	TRAFFIC_ANTHROPIC,
	TRAFFIC_GEMINI, /* and Vertex AI */
	TRAFFIC_BEDROCK,
	TRAFFIC_OLLAMA,
	TRAFFIC_HTTP,
	TRAFFIC_PROTOCOLS,
};

/* "mcp", "a2a" ...: as routes, q.http.protocol and records spell it. */
extern const struct str traffic_protocol_names[TRAFFIC_PROTOCOLS];

/* How a denial is put (agent-protocols sheet 4.2). */
enum traffic_style {
	TRAFFIC_STYLE_HTTP,    /* a status, and the body that the API's clients know */
	TRAFFIC_STYLE_JSONRPC, /* 200 and a JSON-RPC error, where the proxy can; else as above */
	TRAFFIC_STYLE_TOOL_RESULT, /* 200 and a tool result with isError, for tools/call */
};

/* What the operator says of a route; never taken from what a client can send. */
struct traffic_route {
	enum traffic_protocol protocol;
	enum traffic_style style;
	struct str server; /* of tools, prompts, resources: "files"; may be empty */
	bool batches;	   /* JSON-RPC batches, and batch and file endpoints, may be asked for */
	bool headers_validated; /* the MCP server refuses headers that disagree with its body */
};

struct traffic_request {
	struct str method;		   /* as sent */
	struct str path;		   /* up to '?', as sent, not decoded */
	struct str query;		   /* after '?', or empty */
	struct str host;		   /* may be empty */
	struct str scheme;		   /* may be empty */
	const struct http_header *headers; /* names in lower case; repeated ones one by one */
	size_t nheaders;
	const struct header_index *index; /* of these headers; NULL: traffic_read makes it */
	struct str body;
	bool truncated; /* the proxy says that it cut the body */
	int64_t size;	/* of the body, as the proxy says; -1: it was cut; 0: not known */
	struct traffic_route route;
};

/* One question to the policies, in AuthZEN's words. */
struct traffic_action {
	struct str name;	 /* "tools/call", "models/invoke", "GET" */
	struct str type;	 /* of the resource: "tool", "model", "route" ... */
	struct str id;		 /* of the resource: "files/read_file", "gpt-large", "/a/b" */
	const struct json *args; /* an object, or NULL: none */
};

struct traffic {
	enum traffic_protocol protocol; /* never AUTO once it was read */
	struct str version;		/* of the protocol, as far as it has any; may be empty */
	const struct traffic_action *actions;
	size_t n;		 /* at least 1 */
	const struct json *http; /* q.http */
	bool discovery; /* a public description (agent card, protected resource metadata): agents
			 * fetch it before they can prove who they are */

	/* For the answer; filled as far as the request could be read, also when it is refused. */
	enum traffic_style style;
	struct str rpc_id; /* JSON text, byte by byte; empty: none, or not to be read */
	bool notification; /* nobody waits for a JSON-RPC answer */
	bool tool_call;	   /* one tools/call and nothing else */
	bool batch;	   /* of JSON-RPC messages: no id speaks for all of them */
	int rpc_code;	   /* of the refusal; 0: that of a denial */
};

/* Read @r. False: refused, *out is filled for the answer; e->class is ERR_INVALID (400),
 * ERR_TOO_LARGE (413), ERR_FORBIDDEN (403: an endpoint or method that is never let through) or
 * ERR_UNAVAILABLE; e->code names the kind of refusal, e->msg says what was wrong and what to do. */
MUST_USE bool traffic_read(const struct traffic_request *r, const struct json_limits *limits,
			   struct arena *a, struct traffic *out, struct err *e);

/* One setting of a route by name: protocol, server, style, batches, headers. False: e->msg says
 * what the name or value had to be. */
MUST_USE bool traffic_route_set(struct traffic_route *route, struct str name, struct str value,
				struct err *e);

/* Actions in one request, at most; more are refused. */
#define TRAFFIC_ACTIONS_MAX 100

#endif
