/* Decisions while memory, the disk or time runs out: a permit is on record or it is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>
#include <sqlite3.h>

#include "authz/base/digest.h"
#include "tests/decide/rig.h"
#include "tests/fault/alloc_fault.h"
#include "tests/fault/vfs_fault.h"
#include "tests/spiffe/forge.h"

/* Longer than what is left of a record's first block of memory. */
#define TEN(x) x x x x x x x x x x
#define LONG "Ask finance-leads: " TEN(TEN(TEN("more ")))

/* A deny that must win, behind a permit that would: what a lost allocation could let slip. */
static const char rules[] =
	"policy \"finance\" {\n"
	"  permit \"payments\" { on = { action = \"tools/call\", tool = \"payments/create\" },\n"
	"    when = function(q) return q.agent.team == \"finance\" end },\n"
	"  ask \"large\" { on = { action = \"tools/call\", tool = \"payments/create\" },\n"
	"    when = function(q) return q.args.amount > 500 end, message = \"Ask finance-leads.\",\n"
	"    obligations = { { id = \"log\", type = \"custom\", properties = { text = \"" LONG
	"\" } } } },\n"
	"  deny \"blocked\" { on = { action = \"tools/call\", tool = \"payments/create\" },\n"
	"    when = function(q) return q.args.to == \"blocked\" end, reason = \"blocked_payee\" },\n"
	"}\n";
static const char catalogue[] =
	"tool \"payments/create\" { effect = \"spend\", args = { amount = \"number\", to = \"string\" } }\n";

#define FIN "spiffe://test.example/agent/fin"
#define PAY(amount, to)                                                                          \
	"{\"subject\":{\"type\":\"agent\",\"id\":\"" FIN "\"},"                                  \
	"\"action\":{\"name\":\"tools/call\",\"properties\":{\"amount\":" amount ",\"to\":\"" to \
	"\"}},\"resource\":{\"type\":\"tool\",\"id\":\"payments/create\"}}"

static const struct kind {
	const char *why, *request;
	unsigned roles;
	enum decision decision;
	const char *reason;
} kinds[] = {
	{ "permit", PAY("5", "x"), ROLE_AGENT | ROLE_PEP, DECISION_PERMIT, "permitted" },
	{ "ask", PAY("900", "x"), ROLE_PEP, DECISION_ASK, "approval_required" },
	{ "deny", PAY("5", "blocked"), ROLE_PEP, DECISION_DENY, "blocked_payee" },
	{ "refusal", PAY("5", "x"), ROLE_AUDITOR, DECISION_DENY, NULL },
};

static const char *ram(void)
{
	return access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
}

static void open_rig(struct rig *r, size_t queue)
{
	rig_start_with(r, &(struct rig_options){ .source = rules,
						 .catalogue = catalogue,
						 .base = ram(),
						 .queue = queue });
	rig_agent(r, FIN, "finance");
}

/* The record of an answer is in the log, says the same, and is the one that was named. */
static void check_record(struct rig *r, const struct kind *k, const struct decision_answer *a)
{
	static const char *const names[] = { [DECISION_DENY] = "\"decision\":\"deny\"",
					     [DECISION_ASK] = "\"decision\":\"ask\"",
					     [DECISION_PERMIT] = "\"decision\":\"permit\"" };
	const char *leaf = rig_leaf(r, a->seq);
	char reason[128], bytes[LIMIT_LEAF + 2] = { 0 };
	uint8_t hash[SHA256_LEN];
	size_t n = strlen(leaf);
	struct sha256 *sha = sha256_new(NULL);

	snprintf(reason, sizeof(reason), "\"reason\":\"%.*s\"", STR_FMT(a->result.reason));
	if (!strstr(leaf, names[a->result.decision]) || !strstr(leaf, reason))
		fail_msg("%s: answered %d %s, recorded %s", k->why, (int)a->result.decision, reason,
			 leaf);
	/* What the agent was told is part of it. */
	if (!strstr(leaf, "\"answer_commit\"") != !(a->result.message.n || a->result.error.n))
		fail_msg("%s: told \"%.*s\", recorded %s", k->why, STR_FMT(a->result.message),
			 leaf);
	memcpy(bytes + 1, leaf, n);
	sha256_of(sha, (struct str){ bytes, 1 + n }, hash);
	sha256_free(sha);
	assert_memory_equal(hash, a->leaf, SHA256_LEN);
}

/* True of every answer, whatever failed. */
static void check_answer(struct rig *r, const struct kind *k, const struct rig_answer *got,
			 long nth)
{
	const struct policy_result *result = &got->a.result;

	if (!got->done)
		fail_msg("%s %ld: no answer", k->why, nth);
	if (got->a.refused.class != ERR_NONE) {
		if (k->reason)
			assert_int_equal(got->a.refused.class, ERR_UNAVAILABLE);
		assert_true(got->a.refused.msg[0]);
		return;
	}
	if (!k->reason)
		fail_msg("%s %ld: answered", k->why, nth);
	if (result->decision != k->decision && result->decision != DECISION_DENY)
		fail_msg("%s %ld: decided %d", k->why, nth, (int)result->decision);
	if (got->a.recorded)
		check_record(r, k, &got->a);
	else if (result->decision != DECISION_DENY ||
		 !str_eq(result->reason, STR(REASON_AUDIT_UNAVAILABLE)))
		fail_msg("%s %ld: %d %.*s without a record", k->why, nth, (int)result->decision,
			 STR_FMT(result->reason));
}

/* Nothing fails any more: the answer is the right one again. */
static void check_healed(struct rig *r, const struct kind *k, const char *what, long nth)
{
	struct rig_answer got = rig_ask(r, STR(FIN), k->roles, k->request);

	check_answer(r, k, &got, nth);
	if (!k->reason)
		assert_int_equal(got.a.refused.class, ERR_FORBIDDEN);
	else if (!got.a.recorded || got.a.result.decision != k->decision ||
		 !str_eq(got.a.result.reason, str_c(k->reason)))
		fail_msg("%s after %s %ld: %d %.*s, %s", k->why, what, nth,
			 (int)got.a.result.decision, STR_FMT(got.a.result.reason),
			 got.a.unrecorded.msg);
}

/* --- memory --- */

static struct {
	long nth;
	bool stays, failed;
} memory;

static void memory_before(void *ctx)
{
	(void)ctx;
	alloc_fault_arm(memory.nth, memory.stays);
}

static void memory_after(void *ctx)
{
	(void)ctx;
	memory.failed = alloc_fault_disarm();
}

/* A new policy set each time, so that the new state, the first look into the rules, the evaluation,
 * the record and the commit are all under the fault. */
static bool decide_without(struct rig *r, const struct kind *k)
{
	struct rig_answer got;

	worker_clear(&r->worker); /* forgets the spare records, too */
	assert_true(worker_init(&r->worker, &r->core, &r->home, NULL, NULL));
	rig_policies(r, rules, catalogue, 7 + (uint64_t)memory.nth);
	r->before = memory_before;
	r->after = memory_after;
	got = rig_ask(r, STR(FIN), k->roles, k->request);
	r->before = r->after = NULL;
	check_answer(r, k, &got, memory.nth);
	check_healed(r, k, "allocation", memory.nth);
	return memory.failed;
}

static void each_allocation_of_a_decision_fails_in_turn(void **state)
{
	struct rig r;

	(void)state;
	open_rig(&r, 64);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		for (int stays = 0; stays < 2; stays++) {
			memory.stays = stays;
			for (memory.nth = 1; decide_without(&r, &kinds[i]); memory.nth++)
				;
			print_message("%s: %ld allocations\n", kinds[i].why, memory.nth - 1);
			assert_true(memory.nth > 4 && memory.nth < 20000);
		}
	assert_int_equal(r.fatal, 0);
	rig_stop(&r);
}

static void each_allocation_of_a_worker_fails_in_turn(void **state)
{
	struct home home = { 0 };
	bool failed = true;
	struct rig r;

	(void)state;
	open_rig(&r, 64);
	for (long nth = 1; failed; nth++) {
		struct worker w;
		struct err e = { 0 };
		bool ok;

		alloc_fault_arm(nth, false);
		ok = worker_init(&w, &r.core, &home, NULL, &e);
		failed = alloc_fault_disarm();
		if (ok)
			worker_clear(&w);
		else if (!e.msg[0] || w.core)
			fail_msg("allocation %ld: half a worker, or no sentence", nth);
		assert_true(ok || failed);
	}
	rig_stop(&r);
}

/* --- a caller's token --- */

static void token_for(EVP_PKEY *key, struct buf *out)
{
	char payload[200];

	snprintf(
		payload, sizeof(payload),
		"{\"aud\":[\"spiffe://test.example/writ/server\"],\"exp\":1800000300,\"iat\":1800000000,"
		"\"sub\":\"" FIN "\"}");
	forge_jws(out, "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"JWT\"}", payload, "ES256", key);
}

static void trust(struct rig *r, EVP_PKEY *key)
{
	struct str spki = forge_spki(key);
	struct bundle_set *set;
	struct bundle *b;
	struct err e = { 0 };

	set = bundle_set_new(1, &e);
	assert_non_null(set);
	assert_true(bundle_set_add(set, STR("test.example"), 1, 60, &b, &e));
	assert_true(bundle_add_jwt_key(b, STR("k"), spki, &e));
	slot_publish(&r->core.bundles, &set->shared);
	forge_free(spki);
}

static void each_allocation_of_an_authentication_fails_in_turn(void **state)
{
	EVP_PKEY *key = forge_key("P-256");
	struct listener l = { .name = "http" };
	struct peer peer = { .listener = &l };
	bool failed = true;
	char bearer[2000];
	struct rig r;
	AUTO_BUF token;

	(void)state;
	open_rig(&r, 64);
	trust(&r, key);
	buf_init(&token, mem_system, 2000);
	token_for(key, &token);
	snprintf(bearer, sizeof(bearer), "Bearer %.*s", STR_FMT(buf_str(&token)));
	for (long nth = 1; failed; nth++) {
		struct http_header h = { STR_INIT("authorization"), str_c(bearer) };
		struct call c = { .peer = &peer, .headers = &h, .nheaders = 1 };
		struct caller who = { 0 };
		struct arena arena;
		struct err e = { 0 };
		bool ok;

		worker_clear(&r.worker); /* a verifier that knows neither key nor token */
		assert_true(worker_init(&r.worker, &r.core, &r.home, NULL, &e));
		arena_init(&arena, &mem_system, 1 << 20);
		c.arena = &arena;
		alloc_fault_arm(nth, false);
		ok = caller_authenticate(&r.worker, &c, &who, &e);
		failed = alloc_fault_disarm();
		if (ok)
			assert_true(str_eq(who.id, STR(FIN)) && who.roles == ROLE_AGENT);
		else
			assert_true(failed && e.msg[0] && !who.roles && !who.id.n);
		if (!caller_authenticate(&r.worker, &c, &who, &e))
			fail_msg("after allocation %ld: %s", nth, e.msg);
		arena_clear(&arena);
	}
	EVP_PKEY_free(key);
	rig_stop(&r);
}

/* --- the disk --- */

static const struct fault {
	const char *why;
	unsigned which;
	int code;
	bool fatal;
} faults[] = {
	{ "disk full", VFS_WRITE, SQLITE_FULL, false },
	{ "write fails", VFS_WRITE, SQLITE_IOERR_WRITE, true },
	{ "fsync fails", VFS_SYNC, SQLITE_IOERR_FSYNC, true },
	{ "no room for the index", VFS_SHM, SQLITE_IOERR_SHMSIZE, true },
};

/* The nth call of one decision fails, and with @stays all that follow. False: it makes fewer. */
static bool fail_at(const struct fault *f, long nth, bool stays)
{
	struct rig_answer got;
	struct err e;
	struct rig r;
	bool hit;

	open_rig(&r, 64);
	check_healed(&r, &kinds[0], "nothing", 0);
	vfs_fault_only("log.db");
	vfs_fault_arm(f->which, nth, f->code, stays);
	got = rig_ask(&r, STR(FIN), ROLE_PEP, kinds[0].request);
	hit = vfs_fault_hits() > 0;
	vfs_fault_arm(0, 0, 0, false);
	if (hit && got.a.recorded)
		fail_msg("%s %ld: recorded all the same", f->why, nth);
	check_answer(&r, &kinds[0], &got, nth);
	if (hit && f->fatal) {
		/* For this process the log is over, however often it is asked. */
		for (int i = 0; i < 3; i++) {
			got = rig_ask(&r, STR(FIN), ROLE_PEP, kinds[0].request);
			assert_false(got.a.recorded);
			check_answer(&r, &kinds[0], &got, nth);
		}
		assert_false(audit_ready(r.core.audit, &e));
	} else {
		check_healed(&r, &kinds[0], f->why, nth);
	}
	assert_int_equal(r.fatal, hit && f->fatal);
	rig_stop(&r);
	return hit;
}

static void each_call_of_the_disk_fails_in_turn(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		for (int stays = 0; stays < 2; stays++) {
			long nth = 1;

			while (fail_at(&faults[i], nth, stays))
				nth++;
			/* The index is mapped once, when the log is opened. */
			assert_true(nth > 1 || faults[i].which == VFS_SHM);
		}
	vfs_fault_only(NULL);
}

static void a_full_disk_passes_by_itself(void **state)
{
	struct rig_answer got;
	struct rig r;
	struct err e;

	(void)state;
	open_rig(&r, 64);
	vfs_fault_only("log.db");
	vfs_fault_arm(VFS_WRITE, 1, SQLITE_FULL, true);
	for (int i = 0; i < 5; i++) {
		got = rig_ask(&r, STR(FIN), ROLE_PEP, kinds[0].request);
		assert_false(got.a.recorded);
		check_answer(&r, &kinds[0], &got, i);
	}
	vfs_fault_arm(0, 0, 0, false);
	for (int i = 0; i < 400 && !audit_ready(r.core.audit, &e); i++)
		usleep(10000);
	assert_true(audit_ready(r.core.audit, &e));
	check_healed(&r, &kinds[0], "full disk", 0);
	assert_int_equal(r.fatal, 0);
	vfs_fault_only(NULL);
	rig_stop(&r);
}

/* --- time --- */

/* The disk hangs: at the deadline everybody has an answer, and what waits stays bounded. */
static void a_disk_that_hangs_denies_at_the_deadline(void **state)
{
	enum { QUEUE = 8, ASKED = 20 };
	struct rig_answer *got[ASKED];
	struct audit_status status;
	struct rig r;
	uint64_t size;

	(void)state;
	open_rig(&r, QUEUE);
	size = rig_size(&r);
	vfs_fault_only("log.db");
	vfs_fault_hang(VFS_SYNC);
	for (int i = 0; i < ASKED; i++) {
		got[i] = rig_ask_only(&r, STR(FIN), ROLE_PEP, kinds[0].request);
		worker_turn_end(&r.worker);
		if (i == 0)
			vfs_fault_await();
	}
	audit_status(r.core.audit, &status);
	assert_int_equal(status.waiting, QUEUE);
	for (int i = 0; i < ASKED; i++) {
		assert_int_equal(got[i]->done, i >= QUEUE);
		if (i >= QUEUE)
			check_answer(&r, &kinds[0], got[i], i);
	}
	r.time.ns += r.core.decision_ns - 1;
	worker_turn_begin(&r.worker);
	assert_false(got[0]->done);
	r.time.ns += 1;
	worker_turn_begin(&r.worker);
	for (int i = 0; i < ASKED; i++) {
		assert_false(got[i]->a.recorded);
		check_answer(&r, &kinds[0], got[i], i);
	}
	/* It comes back: the records were true when they were drafted, so they are kept, and nobody
	 * is answered again. */
	vfs_fault_release();
	while (r.worker.oldest && rig_pump(&r, 5000))
		;
	assert_null(r.worker.oldest);
	assert_int_equal(rig_size(&r), size + QUEUE);
	vfs_fault_only(NULL);
	check_healed(&r, &kinds[0], "hanging disk", 0);
	rig_stop(&r);
}

static int hook(void **state)
{
	int rc = alloc_fault_hook(state);

	vfs_fault_default();
	return rc;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_of_a_worker_fails_in_turn),
		cmocka_unit_test(each_allocation_of_an_authentication_fails_in_turn),
		cmocka_unit_test(each_allocation_of_a_decision_fails_in_turn),
		cmocka_unit_test(each_call_of_the_disk_fails_in_turn),
		cmocka_unit_test(a_full_disk_passes_by_itself),
		cmocka_unit_test(a_disk_that_hangs_denies_at_the_deadline),
	};

	return cmocka_run_group_tests(tests, hook, NULL);
}
