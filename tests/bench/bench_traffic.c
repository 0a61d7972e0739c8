/* bench_traffic: microseconds from a described request of 64 KiB to its judged actions: read the
 * traffic, write the canonical form that is recorded, its digest, run the rules. */
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/digest.h"
#include "authz/extauthz/traffic.h"
#include "authz/policy/policy.h"

#define SIZE ((size_t)64 * 1024)

static const char catalogue[] =
	"tool 'files/write' { effect = 'write', args = { path = 'string', content = 'any' } }\n"
	"model 'gpt-large' { provider = 'openai', tier = 3 }\n";
static const char rules[] =
	"policy 'p' {\n"
	" deny 'system files' { on = { action = 'tools/call', tool = 'files/write' }, when = "
	"function(q) return str.starts_with(q.args.path, '/etc/') end },\n"
	" permit 'write' { on = { action = 'tools/call', tool = 'files/write' }, when = "
	"function(q) return q.agent.team == 'finance' and q.http.method == 'POST' end },\n"
	" permit 'models' { on = { action = 'models/invoke' }, when = function(q) return "
	"q.model.tier > 2 and q.args.max_tokens <= 1000 end },\n"
	"}\n";

struct bench {
	struct policy_state *state;
	struct sha256 *sha;
	struct traffic_request request;
	struct arena arena;
	struct buf canonical;
	struct json subject;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_traffic: %s: %s\n", what, why);
	exit(1);
}

static struct policy_set *load(void)
{
	const struct policy_file files[] = { { STR("catalogue/all.lua"), str_c(catalogue) },
					     { STR("p.lua"), str_c(rules) } };
	/* Others' load must not end the measurement: the wall clock runs while we wait for a core.
	 */
	struct policy_limits limits = policy_default_limits;
	struct policy_set *set = NULL;
	struct policy_sources src;
	struct err e = { 0 };

	limits.wall_ms = 10000;

	if (!policy_sources_from(&src, files, 2, &e) ||
	    !policy_set_load(&src, &limits, &set, NULL, &e))
		die("load", e.msg);
	policy_sources_clear(&src);
	return set;
}

static struct json text(const char *name, struct str s)
{
	return (struct json){ .type = JSON_STRING, .s = s, .name = str_c(name) };
}

static void judge(struct bench *b, const struct traffic *t, const struct traffic_action *k)
{
	static const struct policy_attribute team = { STR_INIT("team"), STR_INIT("finance") };
	struct json action[2] = { text("name", k->name), { .type = JSON_NULL } };
	struct json resource[2] = { text("id", k->id), text("type", k->type) };
	struct json a = {
		.type = JSON_OBJECT, .n = k->args ? 2 : 1, .items = action, .raw = b->request.body
	};
	struct json r = { .type = JSON_OBJECT, .n = 2, .items = resource };
	struct policy_request q = { .subject = &b->subject,
				    .action = &a,
				    .resource = &r,
				    .http = t->http,
				    .pep = STR("spiffe://acme.example/gateway"),
				    .agent_id = STR("spiffe://acme.example/agent/a1"),
				    .agent_owner = STR("ann"),
				    .agent_state = STR("active"),
				    .attributes = &team,
				    .nattributes = 1,
				    .now_ms = 1 };
	struct policy_result out;
	uint8_t hash[SHA256_LEN];

	if (k->args) {
		action[1] = *k->args;
		action[1].name = STR("properties");
	}
	buf_reset(&b->canonical);
	json_canonical(&b->canonical, &a);
	json_canonical(&b->canonical, &r);
	json_canonical(&b->canonical, t->http);
	sha256_of(b->sha, buf_str(&b->canonical), hash);
	policy_evaluate(b->state, &q, &b->arena, &out);
	if (out.decision != DECISION_PERMIT)
		die("not permitted", out.error.n ? out.error.p : out.reason.p);
}

static void measure(struct bench *b, const char *name)
{
	int64_t best = INT64_MAX;
	struct traffic t;
	struct err e;

	for (int round = 0; round < 25; round++) {
		int64_t start = clock_mono_ns(&clock_system);

		for (int i = 0; i < 40; i++) {
			arena_reset(&b->arena);
			if (!traffic_read(&b->request, &json_default_limits, &b->arena, &t, &e))
				die(name, e.msg);
			if (t.protocol != TRAFFIC_MCP) { /* as check.c does */
				uint8_t hash[SHA256_LEN];

				sha256_of(b->sha, b->request.body, hash);
			}
			for (size_t k = 0; k < t.n; k++)
				judge(b, &t, &t.actions[k]);
		}
		start = (clock_mono_ns(&clock_system) - start) / 40;
		best = start < best ? start : best;
	}
	printf("%-38s %6zu bytes %7.1f us\n", name, b->request.body.n, (double)best / 1000);
}

/* @head, then records up to 64 KiB, then @tail. */
static struct str fill(struct arena *a, const char *head, const char *tail)
{
	struct buf b;

	buf_in_arena(&b, a, 2 * SIZE);
	buf_add(&b, str_c(head));
	for (unsigned i = 0; b.n < SIZE - strlen(tail) - 120; i++)
		buf_printf(
			&b,
			"%s{\"role\":\"user\",\"content\":\"line %u of a text that somebody wrote, "
			"with an escape\\n\",\"n\":%u.5}",
			i ? "," : "", i, i);
	buf_add(&b, str_c(tail));
	return buf_str(&b);
}

/* A file that is written: one text of 64 KiB with lines. */
static struct str document(struct arena *a)
{
	struct buf b;

	buf_in_arena(&b, a, 2 * SIZE);
	buf_lit(&b, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":"
		    "\"write\",\"arguments\":{\"path\":\"/srv/a\",\"content\":\"");
	while (b.n < SIZE - 100)
		buf_lit(&b, "A line of a file, with \\\"quotes\\\" and its end.\\n");
	buf_lit(&b, "\"}}}");
	return buf_str(&b);
}

int main(void)
{
	static const struct http_header json = { STR_INIT("content-type"),
						 STR_INIT("application/json") };
	struct policy_set *set = load();
	struct bench b = { .state = policy_state_new(set, &mem_system, &clock_system, NULL),
			   .sha = sha256_new(NULL),
			   .subject = { .type = JSON_OBJECT } };
	struct arena bodies;

	if (!b.state || !b.sha)
		die("start", "no memory");
	arena_init(&bodies, &mem_system, 8 << 20);
	arena_init(&b.arena, &mem_system, 16 << 20);
	buf_init(&b.canonical, mem_system, 4 << 20);
	b.request = (struct traffic_request){ .method = STR("POST"),
					      .path = STR("/mcp"),
					      .host = STR("tools.example"),
					      .scheme = STR("https"),
					      .headers = &json,
					      .nheaders = 1 };
	b.request.route.server = STR("files");
	b.request.route.protocol = TRAFFIC_MCP;
	b.request.body = fill(
		&bodies,
		"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":"
		"{\"name\":\"write\",\"arguments\":{\"path\":\"/srv/a\",\"content\":[",
		"]}}}");
	measure(&b, "tools/call with 600 objects, decided");
	b.request.body = document(&bodies);
	measure(&b, "tools/call with a document, decided");
	b.request.route.protocol = TRAFFIC_OPENAI;
	b.request.path = STR("/v1/chat/completions");
	b.request.body = fill(&bodies, "{\"model\":\"gpt-large\",\"max_tokens\":100,\"messages\":[",
			      "]}");
	measure(&b, "chat of 600 messages, decided");
	b.request.route.protocol = TRAFFIC_MCP;
	b.request.path = STR("/mcp");
	b.request.body = STR(
		"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":"
		"{\"name\":\"write\",\"arguments\":{\"path\":\"/srv/a\",\"content\":1}}}");
	measure(&b, "tools/call, decided");
	buf_clear(&b.canonical);
	arena_clear(&b.arena);
	arena_clear(&bodies);
	policy_state_free(b.state);
	sha256_free(b.sha);
	shared_release(&set->shared);
	return 0;
}
