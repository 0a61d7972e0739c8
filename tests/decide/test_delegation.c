/* Delegated tokens: who may show one, what a decision is told, what stands in the record, and that
 * it is decided again the same way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/audit/read.h"
#include "authz/decide/delegation.h"
#include "authz/decide/replay.h"
#include "authz/policy/generations.h"
#include "tests/decide/tokens.h"

#define A1 "spiffe://test.example/agent/helpdesk"
#define A2 "spiffe://test.example/agent/researcher"
#define A3 "spiffe://test.example/agent/suspended"
#define GONE "spiffe://test.example/agent/gone"
#define JTI0 "AAAAAAAAAAAAAAAAAAAAAA"
#define JTI1 "BBBBBBBBBBBBBBBBBBBBBA"

static const char rules[] =
	"policy 'crm' {\n"
	"  permit 'own customers' { on = { action = 'tools/call', tool = 'crm/read' },\n"
	"    when = function(q) return q.user.id == 'alice' and\n"
	"      q.user.issuer == 'https://idp.example' and has(q.user.scope, 'crm.read') and\n"
	"      #q.chain <= 2 and q.chain[#q.chain] == q.agent.id end },\n"
	"}\n";
static const char catalogue[] = "tool 'crm/read' { effect = 'read' }\n";

#define CALL(agent)                                                                            \
	"{\"subject\":{\"type\":\"agent\",\"id\":\"" agent "\"},\"action\":{\"name\":\"tools/" \
	"call\"},\"resource\":{\"type\":\"tool\",\"id\":\"crm/read\"},\"context\":{\"user\":"  \
	"\"mallory\"}}"

static struct {
	struct rig rig;
	struct tokens_desk desk;
	struct arena arena;
	X509 *one, *renewed, *two, *three, *gone;
	struct generations *generations;
} w;

static X509 *certificate_of(int which)
{
	X509 *const all[] = { NULL, w.one, w.renewed, w.two, w.three, w.gone };

	return all[which];
}

/* What a caller shows: a certificate, and a token bound to one. */
enum shown { NONE, ONE, RENEWED, TWO, THREE, OF_GONE };

static int set_up(void **state)
{
	struct caller_rules *callers = caller_rules_new();
	struct err e = { 0 };

	(void)state;
	rig_start(&w.rig, NULL, NULL);
	rig_agent(&w.rig, A1, "support");
	rig_agent(&w.rig, A2, "research");
	rig_agent(&w.rig, A3, "support");
	rig_change(&w.rig, A3, REGISTRY_SUSPEND);
	tokens_start(&w.desk, &w.rig);
	arena_init(&w.arena, &mem_system, 1 << 20);
	w.one = tokens_certificate(A1);
	w.renewed = tokens_certificate(A1);
	w.two = tokens_certificate(A2);
	w.three = tokens_certificate(A3);
	w.gone = tokens_certificate(GONE);
	callers->rules = arena_zero(&callers->arena, sizeof(*callers->rules));
	callers->rules[0] = (struct caller_rule){ .spiffe_id = STR(A1),
						  .roles = ROLE_PEP | ROLE_ADMIN };
	callers->n = 1;
	slot_publish(&w.rig.core.callers, &callers->shared);
	worker_turn_begin(&w.rig.worker);
	return generations_open(w.rig.db, &w.generations, &e) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	generations_close(w.generations);
	for (int i = ONE; i <= OF_GONE; i++)
		X509_free(certificate_of(i));
	tokens_stop(&w.desk);
	arena_clear(&w.arena);
	rig_stop(&w.rig);
	return 0;
}

/* ---- who may show one ---- */

static const struct {
	const char *why;
	enum shown shown, bound;
	struct tokens_spec spec;
	bool svid, twice;
	const char *code, *says; /* code NULL: let in */
	unsigned roles;
} callers[] = {
	{ "an agent for a user",
	  ONE,
	  ONE,
	  { .chain = { A1 } },
	  false,
	  false,
	  NULL,
	  "",
	  ROLE_AGENT },
	{ "an agent for itself",
	  ONE,
	  ONE,
	  { .user = "", .chain = { A1 } },
	  false,
	  false,
	  NULL,
	  "",
	  ROLE_AGENT },
	{ "the second hop", TWO, TWO, { .chain = { A1, A2 } }, false, false, NULL, "", ROLE_AGENT },
	{ "a JWT-SVID, with all that callers gives it",
	  ONE,
	  ONE,
	  { .chain = { A1 } },
	  true,
	  false,
	  NULL,
	  "",
	  ROLE_AGENT | ROLE_PEP | ROLE_ADMIN },
	{ "without a certificate",
	  NONE,
	  ONE,
	  { .chain = { A1 } },
	  false,
	  false,
	  "invalid_token",
	  "none was shown",
	  0 },
	{ "by whoever got hold of it",
	  TWO,
	  ONE,
	  { .chain = { A1 } },
	  false,
	  false,
	  "callers_differ",
	  "another agent",
	  0 },
	{ "by one who acted before",
	  ONE,
	  TWO,
	  { .chain = { A1, A2 } },
	  false,
	  false,
	  "callers_differ",
	  "another agent",
	  0 },
	{ "after the SVID was renewed",
	  RENEWED,
	  ONE,
	  { .chain = { A1 } },
	  false,
	  false,
	  "invalid_token",
	  "another certificate",
	  0 },
	{ "bound to nothing that is there",
	  ONE,
	  NONE,
	  { .chain = { A1 } },
	  false,
	  false,
	  "invalid_token",
	  "another certificate",
	  0 },
	{ "for somebody else",
	  ONE,
	  ONE,
	  { .chain = { A1 }, .audience = "https://crm" },
	  false,
	  false,
	  "invalid_token",
	  "addressed to others",
	  0 },
	{ "for the agent itself",
	  ONE,
	  ONE,
	  { .chain = { A1 }, .audience = A1 },
	  false,
	  false,
	  "invalid_token",
	  "addressed to others",
	  0 },
	{ "of another issuer",
	  ONE,
	  ONE,
	  { .chain = { A1 }, .issuer = "https://x" },
	  false,
	  false,
	  "invalid_token",
	  "iss",
	  0 },
	{ "expired",
	  ONE,
	  ONE,
	  { .chain = { A1 }, .expires_s = -60 },
	  false,
	  false,
	  "invalid_token",
	  "expired",
	  0 },
	{ "through one that is suspended",
	  ONE,
	  ONE,
	  { .chain = { A3, A1 } },
	  false,
	  false,
	  "invalid_token",
	  "not active",
	  0 },
	{ "through one that nobody knows",
	  ONE,
	  ONE,
	  { .chain = { GONE, A1 } },
	  false,
	  false,
	  "invalid_token",
	  "not active",
	  0 },
	{ "by one that is suspended: told so by its denial",
	  THREE,
	  THREE,
	  { .chain = { A3 } },
	  false,
	  false,
	  NULL,
	  "",
	  ROLE_AGENT },
	{ "by one that nobody knows",
	  OF_GONE,
	  OF_GONE,
	  { .chain = { GONE } },
	  false,
	  false,
	  NULL,
	  "",
	  0 },
	{ "twice",
	  ONE,
	  ONE,
	  { .chain = { A1 } },
	  false,
	  true,
	  "invalid_token",
	  "more than one",
	  0 },
};

static const char *id_of(enum shown s)
{
	static const char *const ids[] = { NULL, A1, A1, A2, A3, GONE };

	return ids[s];
}

static bool authenticate(size_t i, struct caller *c, struct err *e)
{
	struct http_header headers[2] = { { STR("authorization"), { NULL, 0 } },
					  { STR("authorization"), { NULL, 0 } } };
	struct tokens_spec spec = callers[i].spec;
	struct call call = { .arena = &w.arena, .headers = headers, .nheaders = 1 };
	struct peer peer;
	struct str token;
	bool ok;

	spec.bound = certificate_of(callers[i].bound);
	token = callers[i].svid ? tokens_svid(&w.desk, &w.rig, spec.chain[0], NULL)
				: tokens_delegated(&w.desk, &w.rig, &spec);
	headers[0].value = arena_printf(&w.arena, "Bearer %.*s", STR_FMT(token));
	headers[1].value = headers[0].value;
	call.nheaders += callers[i].twice;
	tokens_peer(&peer, certificate_of(callers[i].shown), id_of(callers[i].shown));
	call.peer = &peer;
	ok = caller_authenticate(&w.rig.worker, &call, c, e);
	sk_X509_free(peer.chain);
	return ok;
}

static void callers_of_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
		struct caller c = { 0 };
		struct err e = { 0 };
		bool ok = authenticate(i, &c, &e);

		if (ok != !callers[i].code ||
		    (!ok && (strcmp(e.code, callers[i].code) != 0 ||
			     !strstr(e.msg, callers[i].says) || e.class != ERR_UNAUTHENTICATED)))
			fail_msg("%s: %s", callers[i].why, ok ? "let in" : e.msg);
		if (!ok)
			continue;
		if (c.roles != callers[i].roles || !str_eq(c.id, str_c(id_of(callers[i].shown))) ||
		    c.proof != (callers[i].svid ? PROOF_JWT : PROOF_DELEGATED) ||
		    !c.delegation != callers[i].svid)
			fail_msg("%s: roles %u, %.*s", callers[i].why, c.roles, STR_FMT(c.id));
		arena_reset(&w.arena);
	}
}

/* ---- decisions ---- */

static struct delegation delegation_of(const char *user, const char *scope, const char *first,
				       const char *second)
{
	struct delegation d = { .token = { .issuer = w.rig.core.token_issuer,
					   .subject = str_c(user),
					   .subject_issuer = STR("https://idp.example"),
					   .scope = str_c(scope),
					   .chain = { str_c(first), str_c(second) },
					   .nchain = second ? 2 : 1,
					   .id = STR(JTI1),
					   .line = { STR(JTI0) },
					   .nline = second ? 1 : 0 } };

	if (!*user) {
		d.token.subject = d.token.chain[0];
		d.token.subject_issuer = STR("");
	}
	return d;
}

static const struct {
	const char *why, *user, *scope, *first, *second;
	const char *caller;
	unsigned roles;
	const char *request;
	const char *reason;
} decisions[] = {
	{ "for alice", "alice", "x crm.read", A1, NULL, A1, ROLE_AGENT, CALL(A1), "permitted" },
	{ "for alice, by the second", "alice", "crm.read", A1, A2, A2, ROLE_AGENT, CALL(A2),
	  "permitted" },
	{ "behind a proxy", "alice", "crm.read", A1, NULL, "gw", ROLE_PEP, CALL(A1), "permitted" },
	{ "for bob", "bob", "crm.read", A1, NULL, A1, ROLE_AGENT, CALL(A1), "no_rule" },
	{ "without the scope", "alice", "crm.readonly", A1, NULL, A1, ROLE_AGENT, CALL(A1),
	  "no_rule" },
	{ "for itself", "", "crm.read", A1, NULL, A1, ROLE_AGENT, CALL(A1), "no_rule" },
	{ "about one who acted before", "alice", "crm.read", A1, A2, A2, ROLE_AGENT, CALL(A1),
	  "subject_mismatch" },
	{ "a proxy about another agent", "alice", "crm.read", A1, A2, "gw", ROLE_PEP, CALL(A1),
	  "subject_mismatch" },
	{ "a suspended one", "alice", "crm.read", A3, NULL, A3, ROLE_AGENT, CALL(A3),
	  "agent_suspended" },
};

/* The rules as a stored generation, so that replay finds them. */
static void put_policies(void)
{
	struct policy_file files[] = { { STR("catalogue/tools.lua"), str_c(catalogue) },
				       { STR("rules.lua"), str_c(rules) } };
	struct policy_set *set = NULL;
	struct policy_sources s;
	struct err e = { 0 };
	bool new;

	if (!policy_sources_from(&s, files, 2, &e) ||
	    !policy_set_load(&s, &policy_default_limits, &set, NULL, &e) ||
	    !generations_store(w.generations, &s, set, STR("test"), STR(""), w.rig.time.ms,
			       &set->generation, &new, &e)) {
		fail_msg("%s", e.msg);
		return;
	}
	policy_sources_clear(&s);
	slot_publish(&w.rig.core.policies, &set->shared);
}

/* Each decision of the log comes out as it was. */
static void replay_all(uint64_t expected)
{
	struct replay_config c = { .folder = w.rig.folder,
				   .alloc = &mem_system,
				   .limits = policy_default_limits };
	struct replay *replay = NULL;
	struct replay_row row;
	struct err e = { 0 };
	uint64_t same = 0;
	bool got;

	if (!replay_open(&c, &replay, &e))
		fail_msg("%s", e.msg);
	while (replay_next(replay, &row, &got, &e) && got) {
		if (row.verdict != REPLAY_SAME && row.verdict != REPLAY_SETTLED)
			fail_msg("record %llu: %s", (unsigned long long)row.seq,
				 replay_verdict_names[row.verdict]);
		same += row.verdict == REPLAY_SAME;
	}
	if (e.class != ERR_NONE)
		fail_msg("%s", e.msg);
	assert_int_equal(same, expected);
	replay_close(replay);
}

static void decides_the_table(void **state)
{
	uint64_t computed = 0;

	(void)state;
	put_policies();
	for (size_t i = 0; i < ARRAY_LEN(decisions); i++) {
		struct delegation d = delegation_of(decisions[i].user, decisions[i].scope,
						    decisions[i].first, decisions[i].second);
		struct rig_answer a;

		delegation_describe(&d);
		w.rig.delegation = &d;
		a = rig_ask(&w.rig, str_c(decisions[i].caller), decisions[i].roles,
			    decisions[i].request);
		if (!a.a.recorded || !str_eq(a.a.result.reason, str_c(decisions[i].reason)))
			fail_msg("%s: %.*s %.*s", decisions[i].why, STR_FMT(a.a.result.reason),
				 STR_FMT(a.a.result.error));
		computed += !strcmp(decisions[i].reason, "permitted") ||
			    !strcmp(decisions[i].reason, "no_rule");
	}
	w.rig.delegation = NULL;
	/* A PEP's word is no token. */
	assert_true(str_eq(rig_ask(&w.rig, STR("gw"), ROLE_PEP, CALL(A1)).a.result.reason,
			   STR("no_rule")));
	replay_all(computed + 1);
}

/* ---- records ---- */

static void facts_of(uint64_t seq, char *out, size_t room)
{
	struct audit_filter f = { .from = seq, .to = seq + 1, .openings = true };
	struct audit_reader *reader;
	struct audit_row row = { 0 };
	struct err e = { 0 };
	bool got = false;

	assert_true(audit_reader_open(w.rig.folder, &mem_system, &reader, &e) &&
		    audit_reader_start(reader, &f, &e) &&
		    audit_reader_next(reader, 0, &row, &got, &e) && got);
	snprintf(out, room, "%.*s", STR_FMT(row.openings[OPENING_FACTS].value));
	audit_reader_close(reader);
}

static void the_user_is_in_the_opening_alone(void **state)
{
	struct delegation d = delegation_of("alice", "crm.read", A1, A2);
	struct rig_answer a;
	char facts[4096];
	const char *leaf;

	(void)state;
	put_policies();
	delegation_describe(&d);
	w.rig.delegation = &d;
	a = rig_ask(&w.rig, STR(A2), ROLE_AGENT, CALL(A2));
	w.rig.delegation = NULL;
	assert_true(a.a.recorded);
	leaf = rig_leaf(&w.rig, a.a.seq);
	if (strstr(leaf, "alice") || strstr(leaf, "idp.example") || strstr(leaf, "crm.read") ||
	    !strstr(leaf, "\"action\":\"tools/call\",\"actors\":\"" A1 " " A2 "\",\"agent\":\"" A2
			  "\"") ||
	    !strstr(leaf, "\"delegation\":\"" JTI0 "\"") || !strstr(leaf, "\"jti\":\"" JTI1 "\""))
		fail_msg("%s", leaf);
	facts_of(a.a.seq, facts, sizeof(facts));
	if (!strstr(facts, "\"delegation\":{\"chain\":[\"" A1 "\",\"" A2 "\"],\"id\":\"" JTI0
			   "\",\"jti\":\"" JTI1 "\",\"scope\":\"crm.read\",\"user\":{\"id\":"
			   "\"alice\",\"issuer\":\"https://idp.example\"}},\"now\":"))
		fail_msg("%s", facts);
}

/* An agent that nobody knows is somebody's word. */
static void the_leaf_names_registered_actors_alone(void **state)
{
	struct delegation d = delegation_of("alice", "crm.read", GONE, NULL);
	struct rig_answer a;

	(void)state;
	put_policies();
	delegation_describe(&d);
	w.rig.delegation = &d;
	a = rig_ask(&w.rig, STR("gw"), ROLE_PEP, CALL(GONE));
	w.rig.delegation = NULL;
	assert_true(str_eq(a.a.result.reason, STR("unknown_agent")));
	assert_null(strstr(rig_leaf(&w.rig, a.a.seq), GONE));
}

/* IDs of a kilobyte each: what does not fit is left out as a whole, never cut. */
static void actors_are_never_cut(void **state)
{
	static char ids[3][1100];
	struct delegation d = delegation_of("alice", "crm.read", A1, NULL);
	struct rig_answer a;

	(void)state;
	put_policies();
	for (int i = 0; i < 2; i++) {
		snprintf(ids[i], sizeof(ids[i]), "spiffe://test.example/agent/%01000d", i);
		d.token.chain[i] = str_c(ids[i]);
	}
	d.token.chain[2] = STR(A1);
	d.token.nchain = 3;
	delegation_describe(&d);
	w.rig.delegation = &d;
	a = rig_ask(&w.rig, STR(A1), ROLE_AGENT, CALL(A1));
	w.rig.delegation = NULL;
	assert_true(a.a.recorded);
	assert_null(strstr(rig_leaf(&w.rig, a.a.seq), "\"actors\""));
	assert_non_null(strstr(rig_leaf(&w.rig, a.a.seq), "\"delegation\""));
}

#define WITH_RIG(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(callers_of_the_table),
		WITH_RIG(decides_the_table),
		WITH_RIG(the_user_is_in_the_opening_alone),
		WITH_RIG(the_leaf_names_registered_actors_alone),
		WITH_RIG(actors_are_never_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
