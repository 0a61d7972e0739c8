/* One verdict for a described request, without any wire: as a gRPC front would use check.h. And the
 * readers while memory fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "authz/base/text.h"
#include "authz/extauthz/check.h"
#include "tests/decide/tokens.h"
#include "tests/extauthz/traffic_help.h"

#define A1 "spiffe://test.example/agent/1"
#define A2 "spiffe://test.example/agent/2"

static const char catalogue[] =
	"tool 'files/read' { effect = 'read', args = { path = 'string' } }\n"
	"tool 'files/secret' { effect = 'write', args = { path = 'string' } }\n"
	"tool 'files/delete' { effect = 'delete', args = { path = 'string' } }\n";
static const char rules[] =
	"policy 'p' {\n"
	" permit 'read' { on = { action = 'tools/call', effect = 'read' } },\n"
	" deny 'delete' { on = { action = 'tools/call', tool = 'files/delete' }, reason = 'no_delete',"
	" message = 'Ask \"an\" operator.' },\n"
	" permit 'for alice' { on = { action = 'tools/call', tool = 'files/secret' }, when = "
	"function(q) return q.user.id == 'alice' and q.chain[#q.chain] == q.agent.id end },\n"
	" permit 'lists' { on = { action = 'tools/list' }, when = function(q) return q.http.path == "
	"'/mcp' and q.http.server == 'files' and q.http.version == '2025-03-26' end },\n"
	"}\n";

#define CALL(tool)                                                                                        \
	"{\"jsonrpc\":\"2.0\",\"id\":\"x\\u0041\",\"method\":\"tools/call\",\"params\":{\"name\":\"" tool \
	"\",\"arguments\":{\"path\":\"/a\"}}}"
#define MODERN                                                                                     \
	"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"delete\"," \
	"\"arguments\":{\"path\":\"/a\"},\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":"  \
	"\"2026-07-28\"}}}"

static const struct row {
	const char *why, *settings, *principal;
	const char *header, *value; /* one more, or NULL */
	bool may_200;
	const char *body;
	int status;
	const char *reason, *text; /* `text` stands in the body; NULL: no body at all */
} rows[] = {
	{ "permitted", "protocol=mcp server=files", A1, NULL, NULL, false, CALL("read"), 200,
	  "permitted", NULL },
	{ "denied", "protocol=mcp server=files", A1, NULL, NULL, true, CALL("delete"), 403,
	  "no_delete",
	  "\"id\":\"x\\u0041\",\"error\":{\"code\":-32001,\"message\":\"Ask \\\"an\\\" operator.\"" },
	{ "denied with 200", "protocol=mcp server=files style=jsonrpc", A1, NULL, NULL, true,
	  CALL("delete"), 200, "no_delete", "\"reason\":\"no_delete\",\"evaluation_id\":\"ev_" },
	{ "the proxy cannot", "protocol=mcp server=files style=jsonrpc", A1, NULL, NULL, false,
	  CALL("delete"), 403, "no_delete", "-32001" },
	{ "a result for the model", "protocol=mcp server=files style=tool_result", A1, NULL, NULL,
	  true, CALL("delete"), 200, "no_delete",
	  "\"result\":{\"isError\":true,\"content\":[{\"type\":\"text\"" },
	{ "a result of 2026-07-28", "protocol=mcp server=files style=tool_result", A1, "mcp-name",
	  "delete", true, MODERN, 200, "no_delete",
	  "\"id\":7,\"result\":{\"resultType\":\"complete\"," },
	{ "malformed is never 200", "protocol=mcp server=files style=jsonrpc", A1, NULL, NULL, true,
	  "{", 400, "invalid_json", "-32700" },
	{ "a list has no tool's style", "protocol=mcp server=files style=tool_result", A1, NULL,
	  NULL, true, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"prompts/list\"}", 200, "no_rule",
	  "\"error\":{\"code\":-32001" },
	{ "policies see the request", "protocol=mcp server=files", A1, NULL, NULL, true,
	  "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}", 200, "permitted", NULL },
	{ "a notification gets no JSON-RPC answer", "protocol=mcp server=files style=jsonrpc", A1,
	  NULL, NULL, true, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", 403,
	  "no_rule", NULL },
	{ "an unknown tool", "protocol=mcp server=files", A1, NULL, NULL, true, CALL("nope"), 403,
	  "unknown_tool", "-32602" },
	{ "nobody", "protocol=mcp server=files", NULL, NULL, NULL, true, CALL("read"), 401,
	  "unauthenticated", "" },
	{ "not registered", "protocol=mcp server=files", A2, NULL, NULL, true, CALL("read"), 403,
	  "unknown_agent", "" },
	{ "by a header", "protocol=mcp server=files peer=x-peer", NULL, "x-peer", A1, true,
	  CALL("read"), 200, "permitted", NULL },
	{ "connection and header differ", "protocol=mcp server=files peer=x-peer", A1, "x-peer", A2,
	  true, CALL("read"), 403, "agents_differ", "" },
	{ "a principal that is no SPIFFE ID", "protocol=mcp server=files", "CN=agent", NULL, NULL,
	  true, CALL("read"), 401, "invalid_peer", "" },
	{ "two principals", "protocol=mcp server=files", A1 "," A2, NULL, NULL, true, CALL("read"),
	  401, "invalid_peer", "" },
	{ "an empty header is no proof", "protocol=mcp server=files peer=x-peer", NULL, "x-peer",
	  "", true, CALL("read"), 401, "unauthenticated", "" },
};

struct seen {
	bool done;
	struct check_verdict v;
};

static void note(struct check *c, const struct check_verdict *v)
{
	struct seen *s = c->user;

	assert_false(s->done);
	s->done = true;
	s->v = *v;
}

static void set_all(const struct row *row, struct check *c)
{
	struct str rest = str_c(row->settings), one, name = { NULL, 0 }, value = { NULL, 0 };
	struct err e = { 0 };

	while (rest.n) {
		one = rest;
		if (!str_cut(rest, ' ', &one, &rest))
			rest.n = 0;
		if (!str_cut(one, '=', &name, &value) || !check_setting(c, name, value, &e))
			fail_msg("%s: %s", row->why, e.msg);
	}
}

static void ask(struct rig *r, const struct row *row, struct arena *a, struct seen *s)
{
	static const struct caller proxy = { .id = STR_INIT("spiffe://test.example/proxy"),
					     .roles = ROLE_PEP,
					     .proof = PROOF_MTLS };
	struct http_header headers[] = {
		{ STR_INIT("content-type"), STR_INIT("application/json") },
		{ STR_INIT("mcp-protocol-version"), STR_INIT("2026-07-28") },
		{ STR_INIT("mcp-method"), STR_INIT("tools/call") },
		{ { row->header, row->header ? strlen(row->header) : 0 }, str_c(row->value) },
	};
	struct check *c = check_new(&r->worker, a, a);
	bool modern = row->header && !strcmp(row->header, "mcp-name");

	assert_non_null(c);
	if (!modern) {
		headers[1] = headers[3];
	}
	c->caller = &proxy;
	c->principal = str_c(row->principal);
	c->may_answer_200 = row->may_200;
	c->request.method = STR("POST");
	c->request.path = STR("/mcp");
	c->request.headers = headers;
	c->request.nheaders = modern ? 4 : row->header ? 2 : 1;
	c->request.body = str_c(row->body);
	c->done = note;
	c->user = s;
	set_all(row, c);
	worker_turn_begin(&r->worker);
	check_run(c);
	while (!s->done && rig_pump(r, 5000))
		;
	assert_true(s->done);
}

static bool holds(struct str text, const char *part)
{
	return !part[0] || (text.n && memmem(text.p, text.n, part, strlen(part)));
}

static void verdicts(void **state)
{
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	rig_agent(&r, A1, "finance");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *row = &rows[i];
		struct seen s = { .done = false };
		uint64_t before = rig_size(&r);
		struct arena a;

		arena_init(&a, &mem_system, 1 << 24);
		ask(&r, row, &a, &s);
		if (s.v.status != row->status || !str_eq(s.v.reason, str_c(row->reason)) ||
		    (row->text ? !s.v.body.n || !holds(s.v.body, row->text) : s.v.body.n > 0) ||
		    s.v.body.n > 1024)
			fail_msg("%s: %d %.*s %.*s", row->why, s.v.status, STR_FMT(s.v.reason),
				 STR_FMT(s.v.body));
		/* 200 is no permit. */
		if (s.v.allow != !strcmp(row->reason, "permitted"))
			fail_msg("%s: allow", row->why);
		if (rig_size(&r) != before + 1)
			fail_msg("%s: %d records", row->why, (int)(rig_size(&r) - before));
		arena_clear(&a);
	}
	rig_stop(&r);
}

/* Whatever else a client sends, what says who it is does not reach the upstream. */
static void nothing_forged_passes(void **state)
{
	static const char *const forged[] = { "x-writ-a", "x-writ-b", "x-writ-c",
					      "x-writ-d", "x-writ-e", "x-writ-f" };
	static const struct caller proxy = { .id = STR_INIT("spiffe://test.example/proxy"),
					     .roles = ROLE_PEP,
					     .proof = PROOF_MTLS };
	struct err e;
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	rig_agent(&r, A1, "finance");
	for (size_t n = 0; n <= ARRAY_LEN(forged); n++) {
		struct http_header headers[ARRAY_LEN(forged) + 3];
		struct seen s = { .done = false };
		struct check *c;
		struct arena a;
		size_t found = 0;

		arena_init(&a, &mem_system, 1 << 24);
		c = check_new(&r.worker, &a, &a);
		assert_non_null(c);
		for (size_t i = 0; i < n; i++)
			headers[i] = (struct http_header){ str_c(forged[i]), STR("1") };
		headers[n] = (struct http_header){ STR("x-peer"), STR(A1) };
		headers[n + 1] = (struct http_header){ STR("x-forwarded-client-cert"), STR("x") };
		headers[n + 2] = (struct http_header){ STR("content-type"),
						       STR("application/json") };
		c->caller = &proxy;
		assert_true(check_setting(c, STR("protocol"), STR("mcp"), &e) &&
			    check_setting(c, STR("server"), STR("files"), &e) &&
			    check_setting(c, STR("peer"), STR("x-peer"), &e));
		c->request.method = STR("POST");
		c->request.path = STR("/mcp");
		c->request.headers = headers;
		c->request.nheaders = n + 3;
		c->request.body = STR(CALL("read"));
		c->done = note;
		c->user = &s;
		worker_turn_begin(&r.worker);
		check_run(c);
		while (!s.done && rig_pump(&r, 5000))
			;
		if (n > 5) {
			assert_true(str_eq(s.v.reason, STR("forged_headers")));
			assert_false(s.v.allow);
		} else {
			assert_true(s.v.allow);
			for (size_t i = 0; i < n + 2; i++)
				for (size_t k = 0; k < s.v.nremove; k++)
					found += str_eq(s.v.remove[k], headers[i].name);
			assert_int_equal(found, n + 2);
		}
		arena_clear(&a);
	}
	rig_stop(&r);
}

/* ---- memory ---- */

/* Each allocation fails in turn, for the arena's bound is exact: what comes of it is a refusal or
 * the whole, never less. */
static void memory_fails(void **state)
{
	static const struct {
		const char *route, *request;
	} cases[] = {
		{ "protocol=mcp server=files",
		  "POST /mcp\ncontent-type: application/json\nuser-agent: a\nuser-agent: b\n\n" CALL(
			  "read") },
		{ "protocol=openai",
		  "POST /v1/responses?key=x\ncontent-type: application/json\n\n{\"model\":\"m\",\"input\":\"i\",\"tools\":"
		  "[{\"type\":\"function\",\"name\":\"f\"},{\"type\":\"web_search\"},{\"type\":\"mcp\",\"server_url\":"
		  "\"https://x/\"}]}" },
		{ "protocol=a2a server=s",
		  "POST /a\ncontent-type: application/json\n\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"message/send\","
		  "\"params\":{\"message\":{\"parts\":[{\"url\":\"http://x/\"}]}}}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct traffic_request *r;
		struct arena whole, work;
		struct str wanted, got;
		struct traffic out;
		size_t refused = 0;
		struct err e;

		arena_init(&whole, &mem_system, 1 << 26);
		r = traffic_request_of("memory", cases[i].route, cases[i].request, &whole);
		wanted = traffic_line(r, &whole, &whole, &out, &e);
		assert_true(wanted.n && wanted.p[0] != '!');
		got = STR("");
		for (size_t max = 16; !str_eq(got, wanted); max += 16) {
			arena_init(&work, &mem_system, max);
			got = traffic_line(r, &work, &whole, &out, &e);
			if (!str_eq(got, wanted) && !str_starts(got, STR("!out_of_memory")))
				fail_msg("%.*s instead of %.*s", STR_FMT(got), STR_FMT(wanted));
			refused += !str_eq(got, wanted);
			arena_clear(&work);
		}
		assert_true(refused > 20);
		arena_clear(&whole);
	}
}

/* ---- delegated tokens ---- */

#define UPSTREAM "https://files.test.example/"
#define PLAIN "protocol=mcp server=files"
#define FOR_UPSTREAM PLAIN " audience=" UPSTREAM
#define XFCC PLAIN " peer=x-forwarded-client-cert"

/* What the proxy says of its client: nothing, its ID, and the certificate as well. */
enum tells { NOTHING, ID, ID_AND_CERTIFICATE };

static const struct {
	const char *why, *settings;
	unsigned caller_roles;
	const char *caller, *principal;
	enum tells tells;
	bool old; /* the certificate that is shown is not the one of the token */
	struct tokens_spec spec;
	const char *other; /* Authorization in place of the token */
	int status;
	const char *reason;
	bool stripped; /* Authorization does not reach the upstream */
} tokens[] = {
	{ "for alice",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .chain = { A1 } },
	  NULL,
	  200,
	  "permitted",
	  true },
	{ "with the certificate",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID_AND_CERTIFICATE,
	  false,
	  { .chain = { A1 } },
	  NULL,
	  200,
	  "permitted",
	  true },
	{ "for the upstream",
	  FOR_UPSTREAM,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .chain = { A1 }, .audience = UPSTREAM },
	  NULL,
	  200,
	  "permitted",
	  false },
	{ "the second hop",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A2,
	  ID,
	  false,
	  { .chain = { A1, A2 } },
	  NULL,
	  200,
	  "permitted",
	  true },
	{ "a sidecar",
	  PLAIN,
	  ROLE_AGENT,
	  A1,
	  NULL,
	  NOTHING,
	  false,
	  { .chain = { A1 } },
	  NULL,
	  200,
	  "permitted",
	  true },
	{ "a sidecar of another",
	  PLAIN,
	  ROLE_AGENT,
	  A2,
	  NULL,
	  NOTHING,
	  false,
	  { .chain = { A1 } },
	  NULL,
	  403,
	  "agents_differ",
	  false },
	{ "for bob",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .user = "bob", .chain = { A1 } },
	  NULL,
	  403,
	  "no_rule",
	  false },
	{ "for itself",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .user = "", .chain = { A1 } },
	  NULL,
	  403,
	  "no_rule",
	  false },
	{ "no token",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .chain = { A1 } },
	  "",
	  403,
	  "no_rule",
	  false },
	{ "an API key is the upstream's",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .chain = { A1 } },
	  "Bearer sk-123",
	  403,
	  "no_rule",
	  false },
	{ "somebody else's access token is the upstream's",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .chain = { A1 }, .issuer = "https://idp.example" },
	  NULL,
	  403,
	  "no_rule",
	  false },
	{ "nobody showed a certificate",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  NULL,
	  NOTHING,
	  false,
	  { .chain = { A1 } },
	  NULL,
	  401,
	  "invalid_token",
	  false },
	{ "by who got hold of it",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A2,
	  ID,
	  false,
	  { .chain = { A1 } },
	  NULL,
	  403,
	  "agents_differ",
	  false },
	{ "by who acted before",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .chain = { A1, A2 } },
	  NULL,
	  403,
	  "agents_differ",
	  false },
	{ "another certificate of the agent",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID_AND_CERTIFICATE,
	  true,
	  { .chain = { A1 } },
	  NULL,
	  401,
	  "invalid_token",
	  false },
	{ "for somebody else",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .chain = { A1 }, .audience = UPSTREAM },
	  NULL,
	  401,
	  "invalid_token",
	  false },
	{ "for writ, at a route of the upstream",
	  FOR_UPSTREAM,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .chain = { A1 } },
	  NULL,
	  401,
	  "invalid_token",
	  false },
	{ "expired",
	  PLAIN,
	  ROLE_PEP,
	  "gw",
	  A1,
	  ID,
	  false,
	  { .chain = { A1 }, .expires_s = -60 },
	  NULL,
	  401,
	  "invalid_token",
	  false },
	{ "XFCC",
	  XFCC,
	  ROLE_PEP,
	  "gw",
	  NULL,
	  ID,
	  false,
	  { .chain = { A1 } },
	  NULL,
	  200,
	  "permitted",
	  true },
	{ "XFCC with its hash",
	  XFCC,
	  ROLE_PEP,
	  "gw",
	  NULL,
	  ID_AND_CERTIFICATE,
	  false,
	  { .chain = { A1 } },
	  NULL,
	  200,
	  "permitted",
	  true },
	{ "XFCC with another hash",
	  XFCC,
	  ROLE_PEP,
	  "gw",
	  NULL,
	  ID_AND_CERTIFICATE,
	  true,
	  { .chain = { A1 } },
	  NULL,
	  401,
	  "invalid_token",
	  false },
};

static void describe_client(struct check *c, size_t i, X509 *shown, struct http_header *xfcc,
			    struct arena *a)
{
	char hex[2 * SHA256_LEN + 1] = "";

	c->principal = str_c(tokens[i].principal);
	c->has_certificate = tokens[i].tells == ID_AND_CERTIFICATE;
	X509_digest(shown, EVP_sha256(), c->certificate, NULL);
	if (tokens[i].principal || tokens[i].tells == NOTHING)
		return;
	text_hex(c->certificate, SHA256_LEN, hex);
	*xfcc = (struct http_header){ STR("x-forwarded-client-cert"),
				      c->has_certificate ? arena_printf(a, "Hash=%s;URI=" A1, hex)
							 : STR("URI=" A1) };
	c->has_certificate = false;
	memset(c->certificate, 0, sizeof(c->certificate));
}

static bool strips(const struct check_verdict *v)
{
	for (size_t k = 0; k < v->nremove; k++)
		if (str_eq(v->remove[k], STR("authorization")))
			return true;
	return false;
}

static void ask_with_token(struct rig *r, struct tokens_desk *desk, size_t i, struct seen *s,
			   struct arena *a)
{
	const struct row row = { .why = tokens[i].why, .settings = tokens[i].settings };
	const struct caller caller = { .id = str_c(tokens[i].caller),
				       .roles = tokens[i].caller_roles,
				       .proof = PROOF_MTLS };
	struct http_header headers[3] = { { STR("content-type"), STR("application/json") } };
	struct tokens_spec spec = tokens[i].spec;
	X509 *bound = tokens_certificate(A1), *other = tokens_certificate(A1);
	struct check *c = check_new(&r->worker, a, a);

	assert_non_null(c);
	spec.bound = bound;
	headers[1] = (struct http_header){
		STR("authorization"),
		tokens[i].other
			? str_c(tokens[i].other)
			: arena_printf(a, "Bearer %.*s", STR_FMT(tokens_delegated(desk, r, &spec)))
	};
	headers[2] = (struct http_header){ STR("accept"), STR("application/json") };
	describe_client(c, i, tokens[i].old ? other : bound, &headers[2], a);
	c->caller = &caller;
	c->request.method = STR("POST");
	c->request.path = STR("/mcp");
	c->request.headers = headers;
	c->request.nheaders = 3;
	c->request.body = STR(CALL("secret"));
	c->done = note;
	c->user = s;
	set_all(&row, c);
	worker_turn_begin(&r->worker);
	check_run(c);
	while (!s->done && rig_pump(r, 5000))
		;
	assert_true(s->done);
	X509_free(bound);
	X509_free(other);
}

static void delegated_tokens(void **state)
{
	struct tokens_desk desk;
	uint64_t first;
	struct rig r;

	(void)state;
	rig_start(&r, rules, catalogue);
	rig_agent(&r, A1, "finance");
	rig_agent(&r, A2, "finance");
	first = rig_size(&r);
	tokens_start(&desk, &r);
	for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
		struct seen s = { .done = false };
		struct arena a;

		arena_init(&a, &mem_system, 1 << 24);
		ask_with_token(&r, &desk, i, &s, &a);
		if (s.v.status != tokens[i].status ||
		    !str_eq(s.v.reason, str_c(tokens[i].reason)) ||
		    s.v.allow != (tokens[i].status == 200))
			fail_msg("%s: %d %.*s %.*s", tokens[i].why, s.v.status, STR_FMT(s.v.reason),
				 STR_FMT(s.v.body));
		if (s.v.allow && strips(&s.v) != tokens[i].stripped)
			fail_msg("%s: strips", tokens[i].why);
		arena_clear(&a);
	}
	/* The user is in the opening, the actors in the leaf. */
	assert_null(strstr(rig_leaf(&r, first), "idp.example"));
	assert_non_null(strstr(rig_leaf(&r, first), "\"actors\":\"" A1 "\""));
	assert_non_null(strstr(rig_leaf(&r, first + 3), "\"actors\":\"" A1 " " A2 "\""));
	tokens_stop(&desk);
	rig_stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verdicts),
		cmocka_unit_test(delegated_tokens),
		cmocka_unit_test(nothing_forged_passes),
		cmocka_unit_test(memory_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
