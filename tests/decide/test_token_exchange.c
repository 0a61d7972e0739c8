/* An exchange with a real signer and a real log: what is asked of the policies, what becomes of it
 * when something changes half-way, and that no token is given without its record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>
#include <poll.h>

#include "authz/decide/revocations.h"
#include "authz/decide/token_exchange.h"
#include "tests/decide/tokens.h"
#include "tests/fault/tmp_dir.h"

#define A1 "spiffe://test.example/agent/helpdesk"
#define A2 "spiffe://test.example/agent/researcher"
#define CRM "https://crm.example/"
#define NOW INT64_C(1800000000)

static const char rules[] =
	"policy 'p' {\n"
	"  permit 'crm' { on = { action = 'token/exchange', resource = 'audience', id = '" CRM
	"' },\n"
	"    when = function(q) return q.user.id == 'alice' and q.user.scope[1] == 'crm.read' and #q.args.scope == 1 and\n"
	"      q.args.subject_token_type == 'id_token' and q.chain[#q.chain] == q.agent.id end },\n"
	"  ask 'later' { on = { action = 'token/exchange', id = 'https://ask.example/' } },\n"
	"}\n";

static struct {
	struct rig rig;
	struct signer *signer;
	struct signer_client *client;
	struct tokens_desk desk;
	struct arena arena;
	X509 *cert;
	struct peer peer;
	struct caller caller;
	bool done, failed;
	struct err err;
	struct audit *audit; /* while the log is away */
} w;

static void done(struct token_exchange *x, const struct err *e)
{
	(void)x;
	assert_false(w.done);
	w.done = true;
	w.failed = e != NULL;
	if (e)
		w.err = *e;
}

/* The signer first: it forks. */
static int set_up(void **state)
{
	static struct clock_fixed time = { NOW * 1000, 1000000000 };
	static struct clock clock;
	struct signer_config c = { .trust_domain = STR("test.example"),
				   .token_issuer = STR("https://writ.test.example"),
				   .channels = 1,
				   .clock = &clock };
	struct err e = { 0 };

	tmp_dir_make(state);
	clock = clock_of_fixed(&time);
	c.folder = tmp_dir_path(state, "keys");
	if (!signer_start(&c, &w.signer, &e) || !(w.client = signer_client_new(w.signer, &e)))
		fail_msg("%s", e.msg);
	rig_start(&w.rig, rules, NULL);
	w.rig.worker.signer = w.client;
	rig_agent(&w.rig, A1, "support");
	tokens_start(&w.desk, &w.rig);
	arena_init(&w.arena, &mem_system, 1 << 22);
	w.cert = tokens_certificate(A1);
	tokens_peer(&w.peer, w.cert, A1);
	w.peer.expires_ms = (NOW + 3600) * 1000;
	return 0;
}

static int tear_down(void **state)
{
	sk_X509_free(w.peer.chain);
	X509_free(w.cert);
	tokens_stop(&w.desk);
	w.rig.worker.signer = NULL;
	rig_stop(&w.rig);
	signer_client_free(w.client);
	signer_stop(w.signer);
	arena_clear(&w.arena);
	return tmp_dir_remove(state);
}

/* An ID token of alice's, as control would have read it. */
static struct token_exchange *begin(const char *target, const char *scope)
{
	struct token_exchange *x;

	arena_reset(&w.arena);
	w.done = false;
	worker_turn_begin(&w.rig.worker);
	w.caller = (struct caller){ .id = STR(A1),
				    .roles = ROLE_AGENT,
				    .proof = PROOF_MTLS,
				    .entry = registry_find(worker_registry(&w.rig.worker),
							   STR(A1)) };
	x = arena_zero(&w.arena, sizeof(*x));
	x->worker = &w.rig.worker;
	x->arena = &w.arena;
	x->caller = &w.caller;
	x->peer = &w.peer;
	x->type = SUBJECT_ID_TOKEN;
	x->subject_token = STR("an ID token");
	x->target = str_c(target);
	x->scope = str_c(scope);
	x->done = done;
	assert_true(token_exchange_begin(x));
	x->person = (struct attested_user){ .issuer = STR("https://idp.example"),
					    .subject = STR("alice"),
					    .scope = STR("crm.read mail"),
					    .expires_s = NOW + 100 };
	x->ends_s = NOW + 100;
	return x;
}

/* Until it is over; @signed_now runs when the signer's answer is there and not taken yet. */
static void finish(void (*signed_now)(void))
{
	struct pollfd fd = { .fd = signer_client_fd(w.client), .events = POLLIN };

	while (!w.done) {
		worker_turn_end(&w.rig.worker); /* rig_pump does so only with a log */
		(void)rig_pump(&w.rig, 100);
		if (w.done || poll(&fd, 1, 100) != 1)
			continue;
		if (signed_now)
			signed_now();
		signer_readable(w.client);
	}
}

static void the_token_is_what_was_decided(void **state)
{
	struct token_exchange *x = begin(CRM, "crm.read");
	const struct signer_public *public = signer_public(w.signer);
	struct bundle_set *set = bundle_set_new(2, NULL);
	struct jwt_verifier *v = jwt_verifier_new(&mem_system, 0, NULL);
	struct delegated_expected expected = { .trust_domain = STR("test.example"),
					       .issuer = STR("https://writ.test.example"),
					       .audience = &x->target,
					       .naudience = 1,
					       .now_s = NOW };
	struct delegated_token t = { 0 };
	struct err e = { 0 };
	struct bundle *b;
	uint64_t decided;

	(void)state;
	decided = rig_size(&w.rig);
	token_exchange_resume(x);
	finish(NULL);
	if (w.failed)
		fail_msg("%s", w.err.msg);
	assert_true(bundle_set_add(set, STR("test.example"), 1, 300, &b, &e) &&
		    bundle_add_jwt_key(b, public->jwt_kid, public->jwt_spki, &e));
	if (!delegated_token_verify(v, set, buf_str(&x->token), &expected, &w.arena, &t, &e))
		fail_msg("%s", e.msg);
	assert_true(str_eq(t.subject, STR("alice")) && str_eq(t.scope, STR("crm.read")));
	assert_int_equal(t.expires_s, NOW + 100); /* the user's token ends first */
	/* A decision, and the token's record that names it. */
	assert_int_equal(rig_size(&w.rig), decided + 2);
	assert_non_null(strstr(rig_leaf(&w.rig, decided), "\"action\":\"token/exchange\""));
	assert_non_null(strstr(rig_leaf(&w.rig, decided + 1), "\"kind\":\"token.issue\""));
	jwt_verifier_free(v);
	bundle_set_release(set);
}

static const struct {
	const char *why, *target, *scope, *error;
} refusals[] = {
	{ "no rule", "https://other.example/", "crm.read", "invalid_target" },
	{ "an ask is no yes", "https://ask.example/", "crm.read", "invalid_request" },
	{ "wider than the subject's", CRM, "crm.read crm.write", "invalid_scope" },
	{ "a scope that no rule speaks of", CRM, "mail", "invalid_target" },
};

static void refusals_give_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		struct token_exchange *x = begin(refusals[i].target, refusals[i].scope);

		token_exchange_resume(x);
		finish(NULL);
		if (!w.failed || strcmp(w.err.code, refusals[i].error) != 0 || x->token.n)
			fail_msg("%s: %s %s", refusals[i].why, w.failed ? w.err.code : "given",
				 w.err.msg);
	}
}

/* While the issuer's keys were asked, the agent was suspended: the snapshot of before is gone. */
static void an_agent_suspended_meanwhile(void **state)
{
	struct token_exchange *x = begin(CRM, "crm.read");

	(void)state;
	rig_change(&w.rig, A1, REGISTRY_SUSPEND);
	token_exchange_resume(x);
	finish(NULL);
	assert_true(w.failed);
	assert_int_equal(x->token.n, 0);
	assert_non_null(strstr(rig_leaf(&w.rig, rig_size(&w.rig) - 1), "agent_suspended"));
}

static void lose_the_log(void)
{
	w.audit = w.rig.core.audit;
	w.rig.core.audit = NULL;
}

/* The log goes before the decision, or between it and the token. */
static void no_token_without_its_record(void **state)
{
	(void)state;
	for (int later = 0; later < 2; later++) {
		struct token_exchange *x = begin(CRM, "crm.read");

		if (!later)
			lose_the_log();
		token_exchange_resume(x);
		finish(later ? lose_the_log : NULL);
		assert_true(w.failed);
		assert_int_equal(w.err.class, ERR_UNAVAILABLE);
		assert_string_equal(w.err.code, "temporarily_unavailable");
		w.rig.core.audit = w.audit;
	}
}

/* Its parent is revoked before it is signed: it is born dead. */
static void a_child_of_a_revoked_parent(void **state)
{
	const struct tokens_spec spec = { .chain = { A2 },
					  .audience = A1,
					  .id = "CCCCCCCCCCCCCCCCCCCCCA" };
	struct revocation_desk *desk;
	struct token_exchange *x;
	struct revocation r;
	struct err e = { 0 };

	(void)state;
	rig_agent(&w.rig, A2, "research");
	assert_true(revocations_open(w.rig.db, &w.rig.core.revocations, &desk, &e));
	x = begin(CRM, "");
	x->type = SUBJECT_ACCESS_TOKEN;
	x->subject_token = arena_dup(&w.arena, tokens_delegated(&w.desk, &w.rig, &spec));
	assert_false(token_exchange_begin(x));
	assert_true(x->parent && x->delegation.token.nline == 1);
	assert_true(revocation_of_token(STR("CCCCCCCCCCCCCCCCCCCCCA"), NOW + 300, &r));
	assert_true(revocations_add(desk, &r, STR(""), &e));
	finish(NULL);
	worker_turn_begin(&w.rig.worker);
	assert_true(revocations_hit(worker_revocations(&w.rig.worker), &x->delegation.token,
				    w.rig.worker.sha));
	revocations_close(desk);
}

#define WITH_SIGNER(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SIGNER(the_token_is_what_was_decided),
		WITH_SIGNER(refusals_give_nothing),
		WITH_SIGNER(an_agent_suspended_meanwhile),
		WITH_SIGNER(no_token_without_its_record),
		WITH_SIGNER(a_child_of_a_revoked_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
