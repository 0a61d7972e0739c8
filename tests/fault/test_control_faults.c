/* Acts of administrators while memory or the disk runs out: what was granted is on record and
 * stays, what failed is not in force, a token opens one door once. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>
#include <sqlite3.h>

#include "authz/decide/admin.h"
#include "authz/decide/definitions.h"
#include "authz/decide/issue.h"
#include "authz/decide/rollout_acts.h"
#include "tests/decide/desk.h"
#include "tests/fault/alloc_fault.h"
#include "tests/fault/vfs_fault.h"

#define BY STR_INIT("unix:0")

/* --- looking --- */

static enum registry_state state_of(struct desk *d, const char *id)
{
	struct registry_view *v = (struct registry_view *)slot_acquire(&d->rig.core.agents);
	const struct registry_entry *entry = registry_find(v, str_c(id));
	enum registry_state s = entry ? registry_state(entry, d->rig.time.ms) : ENTRY_RETIRED;

	shared_release(&v->shared);
	return s;
}

/* --- acts --- */

static bool change(struct desk *d, const char *id, enum registry_verb verb, struct err *e)
{
	static const char long_value[REGISTRY_VALUE + 1] = { [0 ... REGISTRY_VALUE - 1] = 'x' };
	static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j" };
	struct registry_attribute
		attributes[ARRAY_LEN(names)]; /* more than one block of an arena */
	struct registry_selector user = { STR_INIT("unix"), STR_INIT("uid:1000") };
	struct registry_change c = {
		.verb = verb, .spec = { .id = str_c(id) }, .by = BY, .now_ms = d->rig.time.ms
	};

	if (verb == REGISTRY_REGISTER) {
		c.spec.owner = STR("ops@test.example");
		for (size_t i = 0; i < ARRAY_LEN(names); i++)
			attributes[i] = (struct registry_attribute){ str_c(names[i]),
								     str_c(long_value) };
		c.spec.attributes = attributes;
		c.spec.nattributes = ARRAY_LEN(attributes);
		c.spec.selectors = &user;
		c.spec.nselectors = 1;
	}
	return admin_change(d->control, &c, e);
}

static void must_change(struct desk *d, const char *id, enum registry_verb verb)
{
	struct err e = { 0 };

	if (!change(d, id, verb, &e))
		fail_msg("%s %s: %s", registry_verb_name(verb), id, e.msg);
}

static bool attest(struct desk *d, const char *token, struct err *e)
{
	struct arena a;
	struct issue i = { .arena = &a, .spki = d->spki };
	struct json proof = { .type = JSON_STRING, .s = str_c(token) };
	struct attest_request q = { .attestor = &attest_join_token, .proof = &proof };
	bool ok;

	arena_init(&a, &mem_system, 1 << 20);
	ok = issue_attest(d->control, &i, &q, e);
	if (ok)
		assert_true(i.svid.n > 100);
	arena_clear(&a);
	return ok;
}

/* --- what fails, and how a trial is run --- */

struct trial {
	struct desk *d;
	long nth;
	bool stays;
	const struct fault *disk; /* NULL: memory */
	uint64_t from;		  /* the log's size before */
	bool failed;
	char id[64];
};

static const struct fault {
	const char *why;
	unsigned which;
	int code;
} faults[] = {
	{ "disk full", VFS_WRITE, SQLITE_FULL },
	{ "write fails", VFS_WRITE, SQLITE_IOERR_WRITE },
	{ "fsync fails", VFS_SYNC, SQLITE_IOERR_FSYNC },
};

static void arm(struct trial *t)
{
	t->from = rig_size(&t->d->rig);
	if (t->disk)
		vfs_fault_arm(t->disk->which, t->nth, t->disk->code, t->stays);
	else
		alloc_fault_arm(t->nth, t->stays);
}

static void disarm(struct trial *t)
{
	t->failed = t->disk ? vfs_fault_hits() > 0 : alloc_fault_disarm();
	vfs_fault_arm(0, 0, 0, false);
}

/* After a fault of the disk the connection is lost until the next start. */
static void heal(struct trial *t)
{
	if (t->disk)
		desk_reopen(t->d);
}

static void try_register(struct trial *t)
{
	struct err e = { 0 };
	bool ok;

	arm(t);
	ok = change(t->d, t->id, REGISTRY_REGISTER, &e);
	disarm(t);
	for (int again = 0; again < 2; again++) { /* now, and after a restart */
		if (ok != (state_of(t->d, t->id) == ENTRY_ACTIVE))
			fail_msg("register %ld: said %d, is not so (%d)", t->nth, ok, again);
		heal(t);
	}
	if (ok)
		assert_int_equal(desk_records(t->d, t->from, t->id, "\"input_commit\""), 1);
	else if (!t->stays) /* a grant that is on record and failed is taken back there */
		assert_int_equal(desk_records(t->d, t->from, t->id, "\"outcome\":\"done\""),
				 desk_records(t->d, t->from, t->id, "\"outcome\":\"failed\""));
	if (!ok) {
		assert_true(t->failed && e.msg[0]);
		must_change(t->d, t->id, REGISTRY_REGISTER);
	}
}

static void try_suspend(struct trial *t)
{
	struct admin_token token;
	struct err e = { 0 };
	bool ok;

	must_change(t->d, t->id, REGISTRY_REGISTER);
	assert_true(admin_token(t->d->control, str_c(t->id), 600, STR("unix:0"), &token, &e));
	arm(t);
	ok = change(t->d, t->id, REGISTRY_SUSPEND, &e);
	disarm(t);
	if (ok)
		assert_int_equal(desk_records(t->d, t->from, t->id, "agent.suspend"), 1);
	for (int again = 0; again < 2; again++) {
		enum registry_state s = state_of(t->d, t->id);

		if (ok && s != ENTRY_SUSPENDED)
			fail_msg("suspend %ld: said so, is not (%d)", t->nth, again);
		/* Half taken away is not taken away: with the state go the tokens. */
		if (again && s == ENTRY_SUSPENDED) {
			must_change(t->d, t->id, REGISTRY_RESUME);
			assert_false(attest(t->d, token.text, &e));
		} else if (again) {
			must_change(t->d, t->id, REGISTRY_SUSPEND);
		}
		heal(t);
	}
}

static void try_token(struct trial *t)
{
	struct admin_token token = { 0 };
	struct err e = { 0 };
	bool ok;

	must_change(t->d, t->id, REGISTRY_REGISTER);
	arm(t);
	ok = admin_token(t->d->control, str_c(t->id), 600, STR("unix:0"), &token, &e);
	disarm(t);
	heal(t);
	if (!ok) {
		assert_true(t->failed && !token.text[0]);
		assert_true(
			admin_token(t->d->control, str_c(t->id), 600, STR("unix:0"), &token, &e));
	} else {
		assert_int_equal(desk_records(t->d, t->from, t->id, "agent.token"), 1);
	}
	if (!attest(t->d, token.text, &e))
		fail_msg("token %ld: %s", t->nth, e.msg);
}

static void try_attest(struct trial *t)
{
	struct admin_token token;
	struct err e = { 0 };
	bool ok;

	must_change(t->d, t->id, REGISTRY_REGISTER);
	assert_true(admin_token(t->d->control, str_c(t->id), 600, STR("unix:0"), &token, &e));
	arm(t);
	ok = attest(t->d, token.text, &e);
	disarm(t);
	assert_true(ok || (t->failed && e.msg[0]));
	if (ok)
		assert_int_equal(desk_records(t->d, t->from, t->id, "identity.issue"), 1);
	heal(t);
	/* Once, whatever failed on the way. */
	for (int again = 0; again < 3; again++) {
		bool now = attest(t->d, token.text, &e);

		if (ok && now)
			fail_msg("attest %ld: one token, two SVIDs", t->nth);
		ok = ok || now;
	}
	/* And the next one works. */
	assert_true(admin_token(t->d->control, str_c(t->id), 600, STR("unix:0"), &token, &e));
	if (!attest(t->d, token.text, &e))
		fail_msg("after attest %ld: %s", t->nth, e.msg);
}

static void write_policy(struct desk *d, const char *reason)
{
	char path[160];
	FILE *f;

	snprintf(path, sizeof(path), "%s/rules.lua", d->policies);
	f = fopen(path, "we");
	assert_non_null(f);
	fprintf(f, "policy \"p\" { deny \"all\" { reason = \"%s\" } }\n", reason);
	fclose(f);
}

static uint64_t in_force(struct desk *d)
{
	struct policy_set *set = (struct policy_set *)slot_acquire(&d->rig.core.policies);
	uint64_t n = set ? set->generation : 0;

	shared_release(set ? &set->shared : NULL);
	return n;
}

static void try_activate(struct trial *t)
{
	uint64_t before = in_force(t->d);
	struct err e = { 0 };
	bool ok;

	write_policy(t->d, strrchr(t->id, '/') + 1);
	arm(t);
	ok = control_activate_folder(t->d->control, STR("unix:0"), &e);
	disarm(t);
	if (ok != (in_force(t->d) != before))
		fail_msg("activate %ld: said %d, is not so", t->nth, ok);
	if (ok)
		assert_int_equal(desk_records(t->d, t->from, "policy.load", "generation"), 1);
	heal(t);
	if (!ok) {
		assert_true(t->failed && e.msg[0]);
		if (!control_activate_folder(t->d->control, STR("unix:0"), &e))
			fail_msg("after activate %ld: %s", t->nth, e.msg);
		assert_true(in_force(t->d) != before);
	}
}

/* What the fronts see; 0: no roll-out. */
static uint64_t rolling(struct desk *d)
{
	struct rollout *r = (struct rollout *)slot_acquire(&d->rig.core.rollouts);
	uint64_t id = r ? r->id : 0;

	shared_release(r ? &r->shared : NULL);
	return id;
}

/* What a start does with writ.db after control_open. */
static void resume(struct desk *d)
{
	struct err e = { 0 };

	slot_publish(&d->rig.core.rollouts, NULL);
	if (!control_activate_stored(d->control, &e))
		fail_msg("control_activate_stored: %s", e.msg);
	rollouts_resume(d->control);
	if (rolling(d) != rollouts_running(d->control))
		fail_msg("fronts run %llu", (unsigned long long)rolling(d));
}

static bool start_rollout(struct trial *t, struct err *e)
{
	struct policy_file file = { STR_INIT("rules.lua"), { NULL, 0 } };
	struct rollout_wish w = {
		.kind = ROLLOUT_CANARY, .percent = 50, .gates = { -1, -1, -1, -1, 0 }, .by = BY
	};
	struct policy_findings findings = { 0 };
	struct policy_sources s;
	struct rollout_row row;
	char text[160];
	bool ok;

	snprintf(text, sizeof(text), "policy \"p\" { deny \"all\" { reason = \"new_%s\" } }\n",
		 strrchr(t->id, '/') + 1);
	file.text = str_c(text);
	ok = policy_sources_from(&s, &file, 1, e);
	if (ok) {
		w.sources = &s;
		ok = rollout_start(t->d->control, &w, &row, &findings, e);
		policy_sources_clear(&s);
		policy_findings_clear(&findings);
	}
	return ok;
}

static bool abort_rollout(struct trial *t, struct err *e)
{
	const struct rollout_end end = { .by = BY, .reason = STR_INIT("asked") };
	struct rollout_row row;
	struct arena a;
	bool ok;

	arena_init(&a, &mem_system, 65536);
	ok = rollout_abort(t->d->control, &end, &row, &a, e);
	arena_clear(&a);
	return ok;
}

static void base_policy(struct trial *t)
{
	struct err e = { 0 };

	write_policy(t->d, "base");
	if (!control_activate_folder(t->d->control, STR("unix:0"), &e))
		fail_msg("base: %s", e.msg);
}

static void no_rollout(struct trial *t)
{
	struct err e = { 0 };

	if (rollouts_running(t->d->control) && !abort_rollout(t, &e))
		fail_msg("abort: %s", e.msg);
	assert_int_equal(rolling(t->d), 0);
}

/* On record, in force and in writ.db, or none of it. */
static void try_rollout(struct trial *t)
{
	struct err e = { 0 };
	bool ok;

	resume(t->d);
	no_rollout(t);
	base_policy(t);
	arm(t);
	ok = start_rollout(t, &e);
	disarm(t);
	if (!ok && !e.msg[0])
		fail_msg("rollout %ld: failed without a word", t->nth);
	if (ok != (rolling(t->d) != 0))
		fail_msg("rollout %ld: said %d, is not so", t->nth, ok);
	if (ok)
		assert_int_equal(desk_records(t->d, t->from, "policy.rollout",
					      "\"outcome\":\"done\""),
				 1);
	else if (!t->stays)
		assert_int_equal(desk_records(t->d, t->from, "policy.rollout",
					      "\"outcome\":\"done\""),
				 desk_records(t->d, t->from, "policy.rollout",
					      "\"outcome\":\"failed\""));
	desk_reopen(t->d);
	resume(t->d);
	if (ok != (rolling(t->d) != 0))
		fail_msg("rollout %ld: ran %d, is not so after a restart", t->nth, ok);
	no_rollout(t);
	if (!start_rollout(t, &e))
		fail_msg("after rollout %ld: %s", t->nth, e.msg);
	no_rollout(t);
}

/* The fronts are told, whatever else fails; and it is written down as soon as it can be. */
static void try_abort(struct trial *t)
{
	struct err e = { 0 };
	bool ok, told;

	resume(t->d);
	no_rollout(t);
	base_policy(t);
	if (!start_rollout(t, &e))
		fail_msg("start: %s", e.msg);
	arm(t);
	ok = abort_rollout(t, &e);
	told = !rolling(t->d);
	disarm(t);
	if (ok && !told)
		fail_msg("abort %ld: said so, still runs", t->nth);
	if (!ok)
		assert_true(t->failed && e.msg[0]);
	if (told && !t->disk) {
		rollouts_tick(t->d->control, t->d->rig.time.ns + 2000000000);
		assert_int_equal(rollouts_running(t->d->control), 0);
	}
	desk_reopen(t->d);
	resume(t->d);
	if (told && (ok || !t->disk))
		assert_int_equal(rolling(t->d), 0);
	no_rollout(t);
}

static void try_leaf(struct trial *t)
{
	struct err e = { 0 };
	bool ok;

	arm(t);
	ok = control_renew_leaf(t->d->control, &e);
	disarm(t);
	assert_true(ok || (t->failed && e.msg[0]));
	heal(t);
	assert_true(control_renew_leaf(t->d->control, &e));
}

/* ---- pinned tools ---- */

#define PIN "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

/* A digest of its own for each trial. */
static void digest_of_trial(const struct trial *t, char out[80])
{
	snprintf(out, 80, "sha256:%064ld", t->nth);
}

static void pin_tool(struct trial *t)
{
	char path[160];
	struct err e = { 0 };
	FILE *f;

	snprintf(path, sizeof(path), "%s/catalogue", t->d->policies);
	(void)mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/catalogue/tools.lua", t->d->policies);
	f = fopen(path, "we");
	assert_non_null(f);
	fprintf(f, "tool 'a/b' { effect = 'read', args = {}, digest = '" PIN "' }\n");
	fclose(f);
	write_policy(t->d, "pinned");
	if (!control_activate_folder(t->d->control, STR("unix:0"), &e))
		fail_msg("pinned: %s", e.msg);
	definitions_tick(t->d->control);
}

static bool see_tool(struct trial *t, struct err *e)
{
	char digest[80];
	struct definition_sighting s = { .tool = STR_INIT("a/b"), .text = STR_INIT("{}") };

	digest_of_trial(t, digest);
	s.digest = str_c(digest);
	t->d->rig.time.ms += DEFINITION_PAUSE_MS;
	return definitions_observe(t->d->control, &s, 1, STR("gateway"), e);
}

/* By which digest decisions think that it is listed; and is one accepted? */
static bool seen_so(struct trial *t, bool *accepted)
{
	struct definition_view *v = (struct definition_view *)slot_acquire(
		&t->d->rig.core.definitions);
	size_t i = definition_find(v, STR("a/b"));
	bool so = false;
	char digest[80];

	digest_of_trial(t, digest);
	if (i < v->n) {
		so = str_eq(v->known[i].observed, str_c(digest));
		*accepted = str_eq(v->known[i].accepted, str_c(digest));
	}
	shared_release(&v->shared);
	return so;
}

static void look_again(struct trial *t)
{
	struct err e = { 0 };

	heal(t);
	slot_publish(&t->d->rig.core.policies, NULL);
	if (!control_activate_stored(t->d->control, &e))
		fail_msg("control_activate_stored: %s", e.msg);
	definitions_tick(t->d->control);
}

/* In force, stored and on record; or the list that told of it is not shown, and the next one tells
 * it again. */
static void try_seen(struct trial *t)
{
	struct err e = { 0 };
	bool ok, accepted;

	pin_tool(t);
	arm(t);
	ok = see_tool(t, &e);
	disarm(t);
	if (ok && !seen_so(t, &accepted))
		fail_msg("seen %ld: said so, is not", t->nth);
	if (ok)
		assert_int_equal(desk_records(t->d, t->from, "tool.definition", "changed"), 1);
	else
		assert_true(t->failed && e.msg[0]);
	look_again(t);
	if (ok && !seen_so(t, &accepted))
		fail_msg("seen %ld: not after a restart", t->nth);
	if (!ok && !see_tool(t, &e))
		fail_msg("after seen %ld: %s", t->nth, e.msg);
	assert_true(seen_so(t, &accepted));
}

/* Two persons: what was said to be accepted is so, and nothing else is. */
static void try_accept(struct trial *t)
{
	struct err e = { 0 };
	bool ok, second = false, accepted = false;
	char digest[80];

	digest_of_trial(t, digest);
	pin_tool(t);
	if (!see_tool(t, &e) ||
	    !definition_accept(t->d->control, STR("a/b"), str_c(digest), STR("ann"), &second, &e))
		fail_msg("accept %ld: %s", t->nth, e.msg);
	assert_false(second);
	arm(t);
	ok = definition_accept(t->d->control, STR("a/b"), str_c(digest), STR("ben"), &second, &e);
	disarm(t);
	(void)seen_so(t, &accepted);
	if (ok != accepted)
		fail_msg("accept %ld: said %d, is not so", t->nth, ok);
	if (ok)
		assert_int_equal(desk_records(t->d, t->from, "tool.accept", "\"ben\""), 1);
	else
		assert_true(t->failed && e.msg[0]);
	look_again(t);
	(void)seen_so(t, &accepted);
	if (ok && !accepted)
		fail_msg("accept %ld: not after a restart", t->nth);
	if (!accepted &&
	    !definition_accept(t->d->control, STR("a/b"), str_c(digest), STR("ben"), &second, &e))
		fail_msg("after accept %ld: %s", t->nth, e.msg);
}

static const struct act {
	const char *name;
	void (*run)(struct trial *t);
	bool writes; /* to writ.db */
} acts[] = {
	{ "register", try_register, true }, { "suspend", try_suspend, true },
	{ "token", try_token, true },	    { "attest", try_attest, true },
	{ "activate", try_activate, true }, { "rollout", try_rollout, true },
	{ "abort", try_abort, true },	    { "leaf", try_leaf, false },
	{ "seen", try_seen, true },	    { "accept", try_accept, true },
};

/* All of one act: each call fails in turn until none does. */
static void in_turn(const struct act *act, const struct fault *disk, bool stays)
{
	struct desk d;
	struct trial t = { .d = &d, .stays = stays, .disk = disk };

	desk_open(&d);
	vfs_fault_only("writ.db");
	do {
		t.nth++;
		t.failed = false;
		snprintf(t.id, sizeof(t.id), "spiffe://test.example/%s/x%ld", act->name, t.nth);
		if (t.nth % 20 == 0) { /* each restart takes a channel of the signer */
			desk_close(&d);
			desk_open(&d);
		} else {
			desk_reopen(&d); /* what is made at the first use is made again */
		}
		act->run(&t);
	} while (t.failed && t.nth < 5000);
	vfs_fault_only(NULL);
	print_message("%s, %s: %ld calls\n", act->name, disk ? disk->why : "memory", t.nth - 1);
	assert_true(t.nth > 1 && !t.failed);
	assert_int_equal(d.rig.fatal, 0);
	desk_close(&d);
}

/* Of the control thread itself: it says once that writ.db is lost, and goes on answering. */
struct order {
	struct task task;
	struct desk *d;
	struct err err;
};

static void suspend(struct task *t)
{
	struct order *o = LINK_OF(t, struct order, task);

	o->err.class = ERR_NONE;
	(void)change(o->d, "spiffe://test.example/lost", REGISTRY_SUSPEND, &o->err);
}

static void a_lost_database_stops_the_service(void **state)
{
	struct desk d;
	struct order first = { .task.run = suspend, .d = &d }, second = first;
	struct err e = { 0 };
	char byte;

	(void)state;
	desk_open(&d);
	assert_int_equal(pipe2(d.lost, O_CLOEXEC | O_NONBLOCK), 0);
	must_change(&d, "spiffe://test.example/lost", REGISTRY_REGISTER);
	assert_true(control_start(d.control, &e));
	vfs_fault_only("writ.db");
	vfs_fault_arm(VFS_WRITE, 1, SQLITE_IOERR_WRITE, false);
	assert_true(control_do(d.control, &first.task, &e));
	assert_int_equal(poll(&(struct pollfd){ .fd = d.lost[0], .events = POLLIN }, 1, 60000), 1);
	assert_true(control_do(d.control, &second.task, &e));
	control_stop(d.control);
	vfs_fault_arm(0, 0, 0, false);
	vfs_fault_only(NULL);
	assert_int_equal(first.err.class, ERR_IO);
	assert_int_equal(second.err.class, ERR_IO);
	assert_int_equal(read(d.lost[0], &byte, 1), 1);
	assert_int_equal(read(d.lost[0], &byte, 1), -1);
	close(d.lost[0]);
	close(d.lost[1]);
	desk_close(&d);
}

static void each_allocation_of_an_act_fails_in_turn(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(acts); i++)
		for (int stays = 0; stays < 2; stays++)
			in_turn(&acts[i], NULL, stays);
}

static void each_call_of_the_disk_fails_in_turn(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(acts); i++)
		for (size_t k = 0; acts[i].writes && k < ARRAY_LEN(faults); k++)
			for (int stays = 0; stays < 2; stays++)
				in_turn(&acts[i], &faults[k], stays);
}

/* A start that is cut short leaves nothing behind. */
static void each_allocation_of_a_start_fails_in_turn(void **state)
{
	bool failed = true;
	struct desk d;
	long nth = 1, starts = 0;

	(void)state;
	desk_open(&d);
	must_change(&d, "spiffe://test.example/agent/1", REGISTRY_REGISTER);
	write_policy(&d, "one");
	control_close(d.control);
	while (failed && nth < 50000) {
		struct control_config c = { .core = &d.rig.core,
					    .db_path = d.db,
					    .policies = d.policies,
					    .limits = policy_default_limits,
					    .signer = d.signer,
					    .certificate = &d.certificate };
		struct err e = { 0 };
		bool ok;

		if (++starts % 40 == 0) { /* channels */
			d.control = NULL;
			desk_close(&d);
			desk_open(&d);
			must_change(&d, "spiffe://test.example/agent/1", REGISTRY_REGISTER);
			control_close(d.control);
			c.signer = d.signer;
		}
		alloc_fault_arm(nth, false);
		ok = control_open(&c, &d.control, &e);
		failed = alloc_fault_disarm();
		assert_true(ok || (failed && e.msg[0]));
		nth += 1 + nth / 40; /* the first ones all, then thinner: there are thousands */
		if (ok) {
			assert_int_equal(state_of(&d, "spiffe://test.example/agent/1"),
					 ENTRY_ACTIVE);
			control_close(d.control);
		}
	}
	print_message("start: below %ld allocations\n", nth);
	assert_false(failed);
	d.control = NULL;
	desk_close(&d);
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
		cmocka_unit_test(each_allocation_of_an_act_fails_in_turn),
		cmocka_unit_test(each_call_of_the_disk_fails_in_turn),
		cmocka_unit_test(a_lost_database_stops_the_service),
		cmocka_unit_test(each_allocation_of_a_start_fails_in_turn),
	};

	return cmocka_run_group_tests(tests, hook, NULL);
}
