/*
 * The order is: what no protocol may have (two spellings, methods in headers), then whose request
 * it is, then its own reader. A route that the operator declared is read as declared and as
 * nothing else; one that is not declared must fit one protocol only, for the client could choose
 * the reader otherwise.
 */
#include "authz/extauthz/traffic.h"

#include "authz/base/text.h"
#include "authz/extauthz/parts.h"
#include "authz/net/chars.h"

const struct str traffic_protocol_names[TRAFFIC_PROTOCOLS] = {
	[TRAFFIC_AUTO] = STR_INIT("auto"),
	[TRAFFIC_MCP] = STR_INIT("mcp"),
	[TRAFFIC_A2A] = STR_INIT("a2a"),
	[TRAFFIC_OPENAI] = STR_INIT("openai"),
	[TRAFFIC_ANTHROPIC] = STR_INIT("anthropic"),
	[TRAFFIC_GEMINI] = STR_INIT("gemini"),
	[TRAFFIC_BEDROCK] = STR_INIT("bedrock"),
	[TRAFFIC_OLLAMA] = STR_INIT("ollama"),
	[TRAFFIC_HTTP] = STR_INIT("http"),
};

static bool (*const readers[TRAFFIC_PROTOCOLS])(struct reader *rd) = {
	[TRAFFIC_MCP] = mcp_read,	[TRAFFIC_A2A] = a2a_read,
	[TRAFFIC_OPENAI] = openai_read, [TRAFFIC_ANTHROPIC] = anthropic_read,
	[TRAFFIC_GEMINI] = gemini_read, [TRAFFIC_BEDROCK] = bedrock_read,
	[TRAFFIC_OLLAMA] = ollama_read, [TRAFFIC_HTTP] = http_route_read,
};

/* ---- routes ---- */

static bool set_server(struct traffic_route *route, struct str v, struct err *e)
{
	for (size_t i = 0; i < v.n; i++) {
		char c = v.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && !(c && strchr("_.-", c)))
			v.n = 0;
	}
	if (!v.n || v.n > 128)
		return err_code(e, ERR_INVALID, "invalid_route",
				"setting server must be 1 to 128 of a-z 0-9 _ . -");
	route->server = v;
	return true;
}

static bool set_protocol(struct traffic_route *route, struct str v, struct err *e)
{
	for (int i = TRAFFIC_MCP; i < TRAFFIC_PROTOCOLS; i++)
		if (str_eq(v, traffic_protocol_names[i])) {
			route->protocol = (enum traffic_protocol)i;
			return true;
		}
	return err_code(e, ERR_INVALID, "invalid_route",
			"setting protocol must be mcp, a2a, openai, anthropic, gemini, bedrock, "
			"ollama or http, not \"%.*s\"",
			STR_FMT(str_first(v, 40)));
}

static bool set_style(struct traffic_route *route, struct str v, struct err *e)
{
	static const struct str names[] = { [TRAFFIC_STYLE_HTTP] = STR_INIT("http"),
					    [TRAFFIC_STYLE_JSONRPC] = STR_INIT("jsonrpc"),
					    [TRAFFIC_STYLE_TOOL_RESULT] = STR_INIT("tool_result") };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(v, names[i])) {
			route->style = (enum traffic_style)i;
			return true;
		}
	return err_code(e, ERR_INVALID, "invalid_route",
			"setting style must be http, jsonrpc or tool_result, not \"%.*s\"",
			STR_FMT(str_first(v, 40)));
}

bool traffic_route_set(struct traffic_route *route, struct str name, struct str value,
		       struct err *e)
{
	if (str_eq(name, STR("protocol")))
		return set_protocol(route, value, e);
	if (str_eq(name, STR("server")))
		return set_server(route, value, e);
	if (str_eq(name, STR("style")))
		return set_style(route, value, e);
	if (str_eq(name, STR("batches"))) {
		route->batches = str_eq(value, STR("allow"));
		return route->batches || err_code(e, ERR_INVALID, "invalid_route",
						  "setting batches can only be \"allow\"");
	}
	if (str_eq(name, STR("headers"))) {
		route->headers_validated = str_eq(value, STR("validated"));
		return route->headers_validated ||
		       err_code(e, ERR_INVALID, "invalid_route",
				"setting headers can only be \"validated\"");
	}
	return err_code(e, ERR_INVALID, "invalid_route",
			"\"%.*s\" is no setting of a route; there are protocol, server, style, "
			"batches, headers, peer, audience",
			STR_FMT(str_first(name, 40)));
}

/* ---- what no request may have ---- */

/* Another method or path than the one that is judged. */
static bool no_overrides(struct reader *rd)
{
	static const uint8_t others[] = {
		HEADER_X_HTTP_METHOD_OVERRIDE, HEADER_X_HTTP_METHOD, HEADER_X_METHOD_OVERRIDE,
		HEADER_X_ORIGINAL_URL,	       HEADER_X_REWRITE_URL, HEADER_X_ORIGINAL_URI,
		HEADER_X_ORIGINAL_METHOD,
	};
	struct str rest = rd->r->query, one;

	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (header_there(rd, others[i]))
			return refuse(rd, ERR_INVALID, "override_header",
				      "header %.*s would make another request of this one; leave "
				      "it out",
				      STR_FMT(header_names[others[i]]));
	while (rest.n) {
		one = rest;
		if (!str_cut(rest, '&', &one, &rest))
			rest.n = 0;
		if (str_starts(one, STR("_method=")) || str_starts(one, STR("_method%")))
			return refuse(rd, ERR_INVALID, "override_header",
				      "parameter _method would make another request of this one");
	}
	return true;
}

static bool query_ok(struct reader *rd)
{
	for (size_t i = 0; i < rd->r->query.n; i++)
		if (rd->r->query.p[i] <= ' ' || rd->r->query.p[i] > '~' || rd->r->query.p[i] == '#')
			return refuse(rd, ERR_INVALID, "invalid_query",
				      "the query has a character that a URL cannot have");
	return true;
}

/* Those that a decision reads may stand once only. */
static bool single_headers(struct reader *rd)
{
	static const uint8_t single[] = {
		HEADER_CONTENT_TYPE,	  HEADER_CONTENT_LENGTH,
		HEADER_CONTENT_ENCODING,  HEADER_HOST,
		HEADER_AUTHORIZATION,	  HEADER_TRANSFER_ENCODING,
		HEADER_ANTHROPIC_VERSION, HEADER_A2A_VERSION,
	};

	for (size_t i = 0; rd->headers->twice && i < ARRAY_LEN(single); i++)
		if (rd->headers->twice & HEADER_BIT(single[i]))
			return header_twice(rd, header_names[single[i]]);
	return true;
}

/* The three signals of a cut body (ext-authz sheet 1.5), and those of smuggling. */
static bool body_state(struct reader *rd)
{
	const struct traffic_request *r = rd->r;
	struct str length, encoding, partial, transfer;
	uint64_t n = r->body.n;

	if (!header_once(rd, HEADER_CONTENT_LENGTH, &length) ||
	    !header_once(rd, HEADER_CONTENT_ENCODING, &encoding) ||
	    !header_once(rd, HEADER_TRANSFER_ENCODING, &transfer) ||
	    !header_once(rd, HEADER_X_ENVOY_AUTH_PARTIAL_BODY, &partial))
		return false;
	if (length.p && length.n && !text_u64(length, UINT64_MAX / 2, &n))
		return refuse(rd, ERR_INVALID, "invalid_length",
			      "Content-Length is no plain decimal number");
	if (length.n && transfer.n)
		return refuse(rd, ERR_INVALID, "invalid_length",
			      "Content-Length and Transfer-Encoding contradict each other");
	if (length.n && n < r->body.n)
		return refuse(rd, ERR_INVALID, "invalid_length",
			      "the body is longer than its Content-Length");
	if (r->truncated || r->size < 0 || (uint64_t)r->size > r->body.n ||
	    http_equal_fold(partial, STR("true")) || (r->body.n && n > r->body.n))
		rd->state = BODY_PARTIAL;
	else if (!r->body.n)
		rd->state = BODY_NONE;
	else if (encoding.n && !http_equal_fold(encoding, STR("identity")))
		rd->state = BODY_ENCODED;
	else
		rd->state = BODY_COMPLETE;
	return true;
}

/* ---- whose request is it ---- */

static unsigned by_headers(const struct reader *rd)
{
	static const struct {
		enum header header;
		enum traffic_protocol protocol;
	} signs[] = {
		{ HEADER_MCP_METHOD, TRAFFIC_MCP },
		{ HEADER_MCP_PROTOCOL_VERSION, TRAFFIC_MCP },
		{ HEADER_MCP_SESSION_ID, TRAFFIC_MCP },
		{ HEADER_A2A_VERSION, TRAFFIC_A2A },
		{ HEADER_ANTHROPIC_VERSION, TRAFFIC_ANTHROPIC },
		{ HEADER_X_GOOG_API_KEY, TRAFFIC_GEMINI },
	};
	unsigned set = 0;

	for (size_t i = 0; i < ARRAY_LEN(signs); i++)
		if (header_there(rd, signs[i].header))
			set |= 1u << signs[i].protocol;
	return set;
}

static unsigned by_path(const struct reader *rd)
{
	static const struct {
		bool (*fits)(struct str path);
		enum traffic_protocol protocol;
	} paths[] = {
		{ a2a_path, TRAFFIC_A2A },	   { anthropic_path, TRAFFIC_ANTHROPIC },
		{ openai_path, TRAFFIC_OPENAI },   { gemini_path, TRAFFIC_GEMINI },
		{ bedrock_path, TRAFFIC_BEDROCK }, { ollama_path, TRAFFIC_OLLAMA },
	};
	unsigned set = 0;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		if (paths[i].fits(rd->path))
			set |= 1u << paths[i].protocol;
	return set;
}

/* A JSON-RPC message, whatever its Content-Type says. */
static bool by_body(struct reader *rd, unsigned *set)
{
	struct str b = rd->r->body;
	const struct json *method;
	const struct json *v = NULL;
	size_t i = 0;

	*set = 0;
	while (i < b.n && (b.p[i] == ' ' || b.p[i] == '\t' || b.p[i] == '\r' || b.p[i] == '\n'))
		i++;
	if (rd->state != BODY_COMPLETE || i == b.n || (b.p[i] != '{' && b.p[i] != '['))
		return true;
	if (!json_parse(b, rd->limits, rd->a, &v, rd->e))
		return false; /* half of it could be a message to somebody less strict */
	rd->seen = v;
	if (v->type == JSON_ARRAY)
		v = v->n ? &v->items[0] : v;
	if (!json_get(v, STR("jsonrpc")))
		return true;
	method = json_get_type(v, STR("method"), JSON_STRING);
	*set = 1u << (method && a2a_method(method->s, json_get(v, STR("params"))) ? TRAFFIC_A2A
										  : TRAFFIC_MCP);
	return true;
}

/* A model API's path may be shared: Anthropic's header tells /v1/models apart. */
static bool detect(struct reader *rd, enum traffic_protocol *out)
{
	unsigned headers = by_headers(rd), path = by_path(rd), body, all;

	if ((headers & path) && !(headers & ~path))
		path = headers;
	else if (path == (1u << TRAFFIC_OPENAI | 1u << TRAFFIC_ANTHROPIC))
		path = 1u << TRAFFIC_OPENAI; /* the list of models is the same question */
	all = headers | path;
	if (!all) {
		if (!by_body(rd, &body))
			return false;
		all = body;
	}
	if (!all) {
		*out = TRAFFIC_HTTP;
		return true;
	}
	if (all & (all - 1))
		return refuse(rd, ERR_INVALID, "ambiguous_protocol",
			      "this request looks like more than one protocol; the operator names "
			      "the right one in the route's setting `protocol`");
	*out = (enum traffic_protocol)__builtin_ctz(all);
	return true;
}

/* ---- q.http ---- */

/* What policies see of the headers: what says how to read the request, nothing that proves who
 * sent it. With them all that begin with "mcp-" and are not known here. */
#define SHOWN                                                                         \
	(HEADER_BIT(HEADER_ACCEPT) | HEADER_BIT(HEADER_CONTENT_TYPE) |                \
	 HEADER_BIT(HEADER_CONTENT_ENCODING) | HEADER_BIT(HEADER_USER_AGENT) |        \
	 HEADER_BIT(HEADER_ORIGIN) | HEADER_BIT(HEADER_A2A_VERSION) |                 \
	 HEADER_BIT(HEADER_A2A_EXTENSIONS) | HEADER_BIT(HEADER_ANTHROPIC_VERSION) |   \
	 HEADER_BIT(HEADER_ANTHROPIC_BETA) | HEADER_BIT(HEADER_OPENAI_BETA) |         \
	 HEADER_BIT(HEADER_OPENAI_ORGANIZATION) | HEADER_BIT(HEADER_OPENAI_PROJECT) | \
	 HEADER_BIT(HEADER_X_GOOG_USER_PROJECT) | HEADER_BIT(HEADER_MCP_METHOD) |     \
	 HEADER_BIT(HEADER_MCP_NAME) | HEADER_BIT(HEADER_MCP_PROTOCOL_VERSION))

static bool shown(struct str name)
{
	enum header h = header_of(name);

	return h == HEADER_OTHER ? str_starts(name, STR("mcp-")) : (SHOWN & HEADER_BIT(h)) != 0;
}

/* Of several headers of one name the values, with commas between. */
static const struct json *all_headers(struct reader *rd)
{
	const struct traffic_request *r = rd->r;
	struct fields f;

	fields_begin(&f, rd->a, FIELDS_MAX);
	for (size_t i = 0; i < r->nheaders && f.object; i++) {
		struct str name = r->headers[i].name, value = r->headers[i].value;
		struct json *items = f.object + 1;
		uint32_t k = 0;

		if (!shown(name))
			continue;
		while (k < f.n && !str_eq(items[k].name, name))
			k++;
		if (k == FIELDS_MAX || !text_is_utf8(value)) {
			(void)refuse(rd, ERR_INVALID, "invalid_header",
				     "header %.*s is not UTF-8, or too many of its kind",
				     STR_FMT(str_first(name, 60)));
			return NULL;
		}
		if (k == f.n) {
			field_foreign(&f, name, value);
			continue;
		}
		items[k].s = arena_printf(rd->a, "%.*s, %.*s", STR_FMT(items[k].s), STR_FMT(value));
		if (!items[k].s.p)
			return NULL;
	}
	return fields_object(&f);
}

/* Most requests have none of the kind twice, and none that is not known: then the order of the
 * index is theirs. */
static const struct json *headers_object(struct reader *rd)
{
	const struct header_index *index = rd->headers;
	uint64_t set = index->there & SHOWN;
	struct fields f;

	if (index->other_mcp || (index->twice & SHOWN))
		return all_headers(rd);
	fields_begin(&f, rd->a, (uint32_t)__builtin_popcountll(set));
	for (; set; set &= set - 1) {
		enum header h = (enum header)__builtin_ctzll(set);
		struct str value = header_first(index, h);

		if (!text_is_utf8(value))
			return all_headers(rd); /* which says so of the first */
		field_text(&f, (struct field_name){ header_names[h] }, value);
	}
	return fields_object(&f);
}

/* The query without the values of what may be a credential. */
static struct str masked_query(struct reader *rd)
{
	static const struct str secret[] = { STR_INIT("key"),	       STR_INIT("api_key"),
					     STR_INIT("api-key"),      STR_INIT("token"),
					     STR_INIT("access_token"), STR_INIT("sessionid"),
					     STR_INIT("session_id"),   STR_INIT("sig"),
					     STR_INIT("signature"),    STR_INIT("password"),
					     STR_INIT("secret"),       STR_INIT("code") };
	struct str rest = rd->r->query, one, name, value;
	struct buf b;

	if (!rest.n)
		return rest;
	buf_in_arena(&b, rd->a, rd->r->query.n + 64);
	while (rest.n) {
		bool hide = false;

		one = rest;
		if (!str_cut(rest, '&', &one, &rest))
			rest.n = 0;
		if (b.n)
			buf_char(&b, '&');
		if (str_cut(one, '=', &name, &value))
			for (size_t i = 0; i < ARRAY_LEN(secret); i++)
				hide = hide || http_equal_fold(name, secret[i]);
		buf_add(&b, hide ? name : one);
		if (hide)
			buf_lit(&b, "=*");
	}
	return buf_ok(&b) ? buf_str(&b) : STR("*");
}

static bool describe(struct reader *rd)
{
	static const char *const states[] = { [BODY_NONE] = "none",
					      [BODY_COMPLETE] = "complete",
					      [BODY_PARTIAL] = "partial",
					      [BODY_ENCODED] = "encoded" };
	struct fields *f = &rd->facts;
	const struct json *headers = headers_object(rd);

	if (!headers)
		return rd->e->class != ERR_NONE ? false : refuse_memory(rd);
	/* In the order that they will have. */
	field_str(f, FIELD("body"), str_c(states[rd->state]));
	field_int(f, FIELD("body_bytes"), (int64_t)rd->r->body.n);
	field_json(f, FIELD("headers"), headers);
	field_str(f, FIELD("host"), rd->r->host);
	field_str(f, FIELD("method"), rd->r->method);
	field_str(f, FIELD("path"), rd->path);
	field_str(f, FIELD("protocol"), traffic_protocol_names[rd->out->protocol]);
	field_str(f, FIELD("query"), masked_query(rd));
	field_str(f, FIELD("scheme"), rd->r->scheme);
	field_str(f, FIELD("server"), rd->r->route.server);
	field_str(f, FIELD("version"), rd->out->version);
	rd->out->http = fields_object(f);
	return rd->out->http || refuse_memory(rd);
}

static bool read_all(struct reader *rd)
{
	const struct traffic_request *r = rd->r;
	bool bedrock = r->route.protocol == TRAFFIC_BEDROCK ||
		       (r->route.protocol == TRAFFIC_AUTO && bedrock_path(r->path));

	if (!http_is_token(r->method) || r->method.n > 32 || !http_host_ok(r->host) ||
	    !http_value_ok(r->scheme) || !text_is_utf8(r->scheme))
		return refuse(rd, ERR_INVALID, "invalid_request",
			      "the method or host of the request is malformed");
	if (!path_normal(rd, r->path, bedrock, &rd->path) || !query_ok(rd) || !no_overrides(rd) ||
	    !single_headers(rd) || !body_state(rd))
		return false;
	if (r->route.protocol != TRAFFIC_AUTO)
		rd->out->protocol = r->route.protocol;
	else if (!detect(rd, &rd->out->protocol))
		return false;
	return readers[rd->out->protocol](rd) && describe(rd);
}

bool traffic_read(const struct traffic_request *r, const struct json_limits *limits,
		  struct arena *a, struct traffic *out, struct err *e)
{
	struct traffic_request own = *r;
	struct header_index index;
	struct reader rd;
	struct str *texts[] = { &own.method, &own.path,	  &own.query,
				&own.host,   &own.scheme, &own.body };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (!texts[i]->p) /* what is absent is empty, and can be counted from */
			*texts[i] = STR("");
	memset(&rd, 0, offsetof(struct reader, facts));
	rd.r = &own;
	rd.limits = limits;
	rd.a = a;
	rd.out = out;
	rd.e = e;
	fields_begin(&rd.facts, a, FIELDS_MAX);
	rd.headers = r->index;
	if (!rd.headers) {
		header_index(&index, r->headers, r->nheaders);
		rd.headers = &index;
	}
	err_none(e);
	*out = (struct traffic){ .style = r->route.style };
	out->protocol = r->route.protocol; /* also of what is refused early */
	if (!read_all(&rd))
		return false;
	out->rpc_code = 0;
	out->actions = rd.actions;
	out->n = rd.n;
	return true;
}
