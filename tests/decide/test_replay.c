/* replay: every decision comes out as it is on record, and what would change is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>
#include <sqlite3.h>

#include "authz/decide/definitions.h"
#include "authz/decide/replay.h"
#include "authz/policy/generations.h"
#include "tests/decide/rig.h"

#define FIN "spiffe://test.example/agent/fin"
#define OPS "spiffe://test.example/agent/ops"
#define OUT "spiffe://test.example/agent/out"
#define PEP "spiffe://test.example/mesh/gw"

#define DIGEST "sha256:000000000000000000000000000000000000000000000000000000000000000"
static const char catalogue[] =
	"tool \"payments/create\" { effect = \"spend\", args = { amount = \"number\", to = \"string\" } }\n"
	"tool \"ledger/query\" { effect = \"read\", digest = \"" DIGEST "1\" }\n"
	"tool \"files/delete\" { effect = \"delete\" }\n"
	"model \"gpt-large\" { tier = 3 }\n";

/* %s: the comparison that the next generation changes. */
static const char rules[] =
	"policy \"finance\" {\n"
	"  permit \"payments\" { on = { action = \"tools/call\", tool = \"payments/create\" },\n"
	"    when = function(q) return q.agent.team == \"finance\" end,\n"
	"    obligations = { { type = \"custom\", id = \"log\", properties = { level = 2 } } } },\n"
	"  ask \"large\" { on = { action = \"tools/call\", tool = \"payments/create\" },\n"
	"    when = function(q) return q.args.amount %s 500 end, message = \"Ask \\\"finance\\\".\" },\n"
	"  permit \"read at night\" { on = { action = \"tools/call\", effect = \"read\" },\n"
	"    when = function(q) return q.now %% 2 == 0 end },\n"
	"  deny \"broken\" { on = { action = \"tools/call\", tool = \"files/delete\" },\n"
	"    when = function(q) return q.args.x.y end },\n"
	"  deny \"endless\" { on = { action = \"models/invoke\" },\n"
	"    when = function(q) while q.args.loop do end return q.args.tier == 1 end },\n"
	"}\n";

static struct generations *stored;

/* Store these rules as a generation and put them into force. */
static uint64_t put(struct rig *r, const char *comparison)
{
	char text[4096];
	struct policy_file files[] = { { STR("catalogue/tools.lua"), str_c(catalogue) },
				       { STR("rules.lua"), { NULL, 0 } } };
	struct policy_sources s;
	struct policy_set *set = NULL;
	struct err e = { 0 };
	bool new;

	snprintf(text, sizeof(text), rules, comparison);
	files[1].text = str_c(text);
	if (!policy_sources_from(&s, files, 2, &e) ||
	    !policy_set_load(&s, &policy_default_limits, &set, NULL, &e) ||
	    !generations_store(stored, &s, set, STR("test"), STR(""), r->time.ms, &set->generation,
			       &new, &e)) {
		fail_msg("%s", e.msg);
		return 0;
	}
	policy_sources_clear(&s);
	slot_publish(&r->core.policies, &set->shared);
	return set->generation;
}

static const char *const tools[] = { "payments/create", "ledger/query", "files/delete", "no/such" };
static const char *const agents[] = { FIN, OPS, OUT, "spiffe://test.example/agent/none" };

/* Something of everything, @n of it: agents known, unknown and suspended, arguments right and
 * wrong, rules that permit, ask, deny, fail and run for ever. Says how many stand at the bound of
 * 500. */
static size_t ask_for_much(struct rig *r, size_t n)
{
	size_t at_bound = 0;
	char request[1024];

	for (size_t i = 0; i < n; i++) {
		const char *agent = agents[i % 7 < 4 ? 0 : i % 4],
			   *tool = tools[i % 5 < 2 ? 0 : i % 4];
		int amount = (int)(i * 100 % 1100);

		if (i % 16 == 15)
			snprintf(request, sizeof(request),
				 "{\"subject\":{\"type\":\"agent\",\"id\":\"%s\"},\"action\":{"
				 "\"name\":\"models/invoke\",\"properties\":{%s}},"
				 "\"resource\":{\"type\":\"model\",\"id\":\"gpt-large\"}}",
				 agent, i % 64 == 63 ? "\"loop\":true" : "\"tier\":1");
		else
			snprintf(
				request, sizeof(request),
				"{\"subject\":{\"type\":\"%s\",\"id\":\"%s\"},\"action\":{"
				"\"name\":\"tools/call\",\"properties\":{\"amount\":%d%s}},"
				"\"resource\":{\"type\":\"tool\",\"id\":\"%s\",\"x\":[1,2.5,\"\\u00e9\"]},"
				"\"context\":{\"n\":%zu}}",
				i % 9 == 8 ? "service" : "agent", agent, amount,
				i % 11 ? ",\"to\":\"a \\\"b\\\"\"" : "", tool, i);
		r->time.ms += 7;
		if (!rig_ask(r, STR(PEP), ROLE_PEP, request).a.recorded)
			fail_msg("%zu: not on record", i);
		/* "large" asks about everybody whom the rules are asked about. */
		at_bound += amount == 500 && i % 11 && i % 16 != 15 && tool == tools[0] &&
			    (i % 9 == 8 || agent == agents[0] || agent == agents[1]);
	}
	return at_bound;
}

static void free_view(struct shared *shared)
{
	free(shared);
}

/* From now on ledger/query, which is pinned, was seen last by the digest that ends like this. */
static void see(struct rig *r, char digit, struct str accepted)
{
	struct {
		struct definition_view view;
		struct policy_definition known;
		struct definition_standing standing;
		char digest[sizeof(DIGEST) + 1];
	} *v = calloc(1, sizeof(*v));

	assert_non_null(v);
	snprintf(v->digest, sizeof(v->digest), DIGEST "%c", digit);
	v->known = (struct policy_definition){ .tool = STR_INIT("ledger/query"),
					       .observed = str_c(v->digest),
					       .pinned = STR_INIT(DIGEST "1"),
					       .accepted = accepted,
					       .changes = STR_INIT("title added, a \"b\"") };
	v->view.known = &v->known;
	v->view.standing = &v->standing;
	v->view.n = 1;
	shared_init(&v->view.shared, free_view);
	slot_publish(&r->core.definitions, &v->view.shared);
}

/* All rows' verdicts, counted; the first one of @bad is told. */
static void count(struct rig *r, struct policy_set *candidate, uint64_t counts[REPLAY_VERDICTS],
		  enum replay_verdict bad)
{
	struct replay_config c = { .folder = r->folder,
				   .alloc = &mem_system,
				   .limits = policy_default_limits,
				   .candidate = candidate };
	struct replay *replay = NULL;
	struct replay_row row;
	struct err e = { 0 };
	bool got = true;

	memset(counts, 0, REPLAY_VERDICTS * sizeof(*counts));
	if (!replay_open(&c, &replay, &e)) {
		fail_msg("%s", e.msg);
		return;
	}
	while (replay_next(replay, &row, &got, &e) && got) {
		counts[row.verdict]++;
		if (row.verdict == bad)
			fail_msg("record %llu: %s; was %.*s %.*s %.*s %.*s, is %.*s %.*s %.*s %.*s",
				 (unsigned long long)row.seq, replay_verdict_names[bad],
				 STR_FMT(row.was.decision), STR_FMT(row.was.reason),
				 STR_FMT(row.was.rule), STR_FMT(row.was.answer),
				 STR_FMT(row.is.decision), STR_FMT(row.is.reason),
				 STR_FMT(row.is.rule), STR_FMT(row.is.answer));
	}
	if (e.class != ERR_NONE)
		fail_msg("%s", e.msg);
	replay_close(replay);
}

static void start(struct rig *r)
{
	struct err e = { 0 };

	rig_start(r, NULL, NULL);
	if (!generations_open(r->db, &stored, &e))
		fail_msg("%s", e.msg);
	rig_agent(r, FIN, "finance");
	rig_agent(r, OPS, "ops");
	rig_agent(r, OUT, "finance");
	rig_change(r, OUT, REGISTRY_SUSPEND);
}

static void stop(struct rig *r)
{
	generations_close(stored);
	rig_stop(r);
}

static void sql(struct rig *r, const char *text)
{
	char path[128], *why = NULL;
	sqlite3 *db = NULL;

	snprintf(path, sizeof(path), "%s/log.db", r->folder);
	if (sqlite3_open(path, &db) || sqlite3_exec(db, text, NULL, NULL, &why))
		fail_msg("%s: %s", text, why ? why : "cannot open");
	sqlite3_close(db);
}

static void every_decision_comes_out_again(void **state)
{
	uint64_t counts[REPLAY_VERDICTS];
	struct rig r;

	(void)state;
	start(&r);
	ask_for_much(&r, 40); /* no policy yet */
	assert_int_equal(put(&r, ">"), 1);
	ask_for_much(&r, 300);
	assert_int_equal(put(&r, ">="), 2);
	ask_for_much(&r, 300);
	assert_int_equal(put(&r, ">"), 1);
	ask_for_much(&r, 60);
	count(&r, NULL, counts, REPLAY_CHANGED);
	assert_int_equal(counts[REPLAY_SAME] + counts[REPLAY_SETTLED], 700);
	assert_true(counts[REPLAY_SAME] > 500);
	assert_true(counts[REPLAY_SETTLED] > 50);
	stop(&r);
}

/* A record has what was known of a definition: it is not looked up again. */
static void pinned_tools_come_out_again(void **state)
{
	uint64_t counts[REPLAY_VERDICTS], size;
	struct policy_set *candidate;
	struct rig r;
	int changed = 0;

	(void)state;
	start(&r);
	put(&r, ">");
	ask_for_much(&r, 100);
	see(&r, '1', STR(""));
	ask_for_much(&r, 100);
	see(&r, '2', STR(""));
	ask_for_much(&r, 100);
	see(&r, '2', STR(DIGEST "2"));
	ask_for_much(&r, 100);
	size = rig_size(&r);
	for (uint64_t seq = 0; seq < size; seq++)
		changed += strstr(rig_leaf(&r, seq), "\"reason\":\"tool_definition_changed\"") !=
			   NULL;
	assert_true(changed > 5);
	count(&r, NULL, counts, REPLAY_CHANGED);
	assert_int_equal(counts[REPLAY_SAME] + counts[REPLAY_SETTLED], 400);
	/* The same rules as a candidate: held against the same facts, too. */
	candidate = (struct policy_set *)slot_acquire(&r.core.policies);
	count(&r, candidate, counts, REPLAY_CHANGED);
	assert_int_equal(counts[REPLAY_SAME] + counts[REPLAY_SETTLED], 400);
	shared_release(&candidate->shared);
	stop(&r);
}

static void a_candidate_changes_what_it_changes(void **state)
{
	uint64_t counts[REPLAY_VERDICTS];
	struct policy_set *candidate;
	struct rig r;
	size_t at_bound;

	(void)state;
	start(&r);
	put(&r, ">");
	at_bound = ask_for_much(&r, 300);
	assert_true(at_bound > 5);
	put(&r, ">=");
	candidate = (struct policy_set *)slot_acquire(&r.core.policies);
	count(&r, candidate, counts, REPLAY_REDACTED);
	assert_int_equal(counts[REPLAY_CHANGED], at_bound);
	shared_release(&candidate->shared);
	stop(&r);
}

static void what_cannot_be_computed_is_counted(void **state)
{
	uint64_t counts[REPLAY_VERDICTS];
	struct rig r;

	(void)state;
	start(&r);
	put(&r, ">");
	ask_for_much(&r, 2);
	/* Something that is computed: without this the rest would prove nothing. */
	count(&r, NULL, counts, REPLAY_CHANGED);
	assert_int_equal(counts[REPLAY_SAME], 2);
	sql(&r, "UPDATE opening SET input = NULL WHERE seq = (SELECT max(seq) FROM leaf)");
	count(&r, NULL, counts, REPLAY_CHANGED);
	assert_int_equal(counts[REPLAY_SAME], 1);
	assert_int_equal(counts[REPLAY_REDACTED], 1);
	stop(&r);
}

static void another_engine_and_lost_sources(void **state)
{
	uint64_t counts[REPLAY_VERDICTS];
	struct policy_set *set;
	struct rig r;

	(void)state;
	start(&r);
	put(&r, ">");
	ask_for_much(&r, 2);
	sql(&r,
	    "DROP TRIGGER leaf_update; UPDATE leaf SET body = CAST(replace(CAST(body AS TEXT), '\"engine\":\"writ-1\"', "
	    "'\"engine\":\"writ-0\"') AS BLOB) WHERE seq = (SELECT max(seq) FROM leaf)");
	count(&r, NULL, counts, REPLAY_CHANGED);
	assert_int_equal(counts[REPLAY_ENGINE], 1);
	/* A number that is not stored. */
	set = (struct policy_set *)slot_acquire(&r.core.policies);
	set->generation = 77;
	ask_for_much(&r, 2);
	count(&r, NULL, counts, REPLAY_CHANGED);
	assert_int_equal(counts[REPLAY_UNKNOWN], 2);
	/* A number that is another set's. */
	put(&r, ">=");
	set->generation = 2;
	shared_acquire(&set->shared);
	slot_publish(&r.core.policies, &set->shared);
	ask_for_much(&r, 2);
	count(&r, NULL, counts, REPLAY_CHANGED);
	assert_int_equal(counts[REPLAY_UNKNOWN], 4);
	shared_release(&set->shared);
	stop(&r);
}

/* A record whose opening says something else than what was decided does not pass. */
static void a_changed_opening_is_seen(void **state)
{
	uint64_t counts[REPLAY_VERDICTS];
	struct rig r;

	(void)state;
	start(&r);
	put(&r, ">");
	ask_for_much(&r, 2);
	sql(&r, "UPDATE opening SET input = CAST(replace(CAST(input AS TEXT), '\"amount\":100', "
		"'\"amount\":900') AS BLOB)");
	count(&r, NULL, counts, REPLAY_REDACTED);
	assert_int_equal(counts[REPLAY_CHANGED], 1);
	stop(&r);
}

/* A suspended agent was suspended: the facts on record say so, and no policy is asked. */
static void facts_say_how_the_agent_stood(void **state)
{
	static const char request[] =
		"{\"subject\":{\"type\":\"agent\",\"id\":\"" OUT "\"},\"action\":{\"name\":"
		"\"tools/call\"},\"resource\":{\"type\":\"tool\",\"id\":\"ledger/query\"}}";
	struct replay_config c = { .alloc = &mem_system, .limits = policy_default_limits };
	struct replay *replay = NULL;
	struct policy_trace trace;
	struct replay_row row = { 0 };
	struct err e = { 0 };
	struct str facts;
	bool got = false;
	struct rig r;

	(void)state;
	start(&r);
	put(&r, ">");
	assert_true(rig_ask(&r, STR(PEP), ROLE_PEP, request).a.recorded);
	c.folder = r.folder;
	if (!replay_open(&c, &replay, &e) || !replay_next(replay, &row, &got, &e) || !got)
		fail_msg("%s", e.msg);
	assert_int_equal(row.verdict, REPLAY_SETTLED);
	assert_string_equal(replay_settlers[row.settler], "agent_suspended");
	facts = replay_opening(replay, OPENING_FACTS);
	assert_non_null(memmem(facts.p, facts.n, "\"state\":\"suspended\"", 19));
	assert_false(replay_explain(replay, &trace, &e));
	assert_string_equal(e.code, "not_computable");
	replay_close(replay);
	stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_decision_comes_out_again),
		cmocka_unit_test(pinned_tools_come_out_again),
		cmocka_unit_test(a_candidate_changes_what_it_changes),
		cmocka_unit_test(what_cannot_be_computed_is_counted),
		cmocka_unit_test(another_engine_and_lost_sources),
		cmocka_unit_test(a_changed_opening_is_seen),
		cmocka_unit_test(facts_say_how_the_agent_stood),
	};

	return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
