/* Revoked tokens: what goes with what, what is kept for how long, and that every front hears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/decide/delegation.h"
#include "authz/decide/revocations.h"
#include "tests/decide/tokens.h"

#define A1 "spiffe://test.example/agent/helpdesk"
#define IDP "https://idp.example"
#define ROOT "AAAAAAAAAAAAAAAAAAAAAA"
#define CHILD "BBBBBBBBBBBBBBBBBBBBBA"
#define OTHER "CCCCCCCCCCCCCCCCCCCCCA"
#define NOW INT64_C(1800000000)

static struct {
	struct rig rig;
	struct revocation_desk *desk;
	struct tokens_desk tokens;
} w;

static int set_up(void **state)
{
	struct err e = { 0 };

	(void)state;
	rig_start(&w.rig, NULL, NULL);
	rig_agent(&w.rig, A1, "support");
	tokens_start(&w.tokens, &w.rig);
	if (!revocations_open(w.rig.db, &w.rig.core.revocations, &w.desk, &e))
		fail_msg("%s", e.msg);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	revocations_close(w.desk);
	tokens_stop(&w.tokens);
	rig_stop(&w.rig);
	return 0;
}

static struct delegated_token token(const char *id, const char *line, const char *user,
				    const char *issuer, int64_t issued_s)
{
	struct delegated_token t = { .id = str_c(id),
				     .subject = str_c(user),
				     .subject_issuer = str_c(issuer),
				     .issued_s = issued_s };

	if (line)
		t.line[t.nline++] = str_c(line);
	return t;
}

static bool is_hit(const struct delegated_token *t)
{
	worker_turn_begin(&w.rig.worker);
	return revocations_hit(worker_revocations(&w.rig.worker), t, w.rig.worker.sha);
}

static void add(const struct revocation *r, const char *by)
{
	struct err e = { 0 };

	if (!revocations_add(w.desk, r, str_c(by), &e))
		fail_msg("%s", e.msg);
}

static void descendants_go_along(void **state)
{
	static const struct {
		const char *why, *revoked, *id, *line;
		bool hit;
	} rows[] = {
		{ "itself", ROOT, ROOT, NULL, true },
		{ "its child", ROOT, CHILD, ROOT, true },
		{ "its parent lives", CHILD, ROOT, NULL, false },
		{ "its sibling lives", CHILD, OTHER, ROOT, false },
		{ "a stranger lives", ROOT, OTHER, CHILD, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct delegated_token t = token(rows[i].id, rows[i].line, "alice", IDP, NOW);
		struct revocation r;
		struct err e = { 0 };

		assert_false(is_hit(&t));
		assert_true(revocation_of_token(str_c(rows[i].revoked), NOW + 300, &r));
		add(&r, "");
		if (is_hit(&t) != rows[i].hit)
			fail_msg("%s", rows[i].why);
		assert_true(revocations_prune(w.desk, NOW + 301, &e));
	}
}

static void users_until_now(void **state)
{
	static const struct {
		const char *why, *user, *issuer;
		int64_t issued_s;
		bool hit;
	} rows[] = {
		{ "before", "alice", IDP, NOW - 1, true },
		{ "in that second", "alice", IDP, NOW, true },
		{ "after", "alice", IDP, NOW + 1, false },
		{ "another user", "bob", IDP, NOW - 1, false },
		{ "of another issuer", "alice", "https://x", NOW - 1, false },
		{ "texts that meet elsewhere", "examplealice", "https://idp.", NOW - 1, false },
		{ "an agent of that name", "alice", "", NOW - 1, false },
	};
	struct revocation r;

	(void)state;
	revocation_of_user(STR(IDP), STR("alice"), NOW, 3600, w.rig.worker.sha, &r);
	add(&r, "");
	assert_int_equal(r.expires_s, NOW + 3600);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct delegated_token t = token(ROOT, NULL, rows[i].user, rows[i].issuer,
						 rows[i].issued_s);

		if (is_hit(&t) != rows[i].hit)
			fail_msg("%s", rows[i].why);
	}
	/* Revoked again, it reaches further, and never back. */
	revocation_of_user(STR(IDP), STR("alice"), NOW + 10, 3600, w.rig.worker.sha, &r);
	add(&r, "");
	revocation_of_user(STR(IDP), STR("alice"), NOW + 5, 3600, w.rig.worker.sha, &r);
	add(&r, "");
	assert_int_equal(revocations_count(w.desk), 1);
	for (int64_t at = 9; at < 12; at++) {
		struct delegated_token t = token(ROOT, NULL, "alice", IDP, NOW + at);

		assert_int_equal(is_hit(&t), at <= 10);
	}
}

static void kept_over_a_restart_until_nothing_is_left(void **state)
{
	struct delegated_token t = token(CHILD, ROOT, "alice", IDP, NOW);
	struct revocation r;
	struct err e = { 0 };

	(void)state;
	assert_true(revocation_of_token(STR(ROOT), NOW + 300, &r));
	add(&r, A1);
	revocations_close(w.desk);
	slot_publish(&w.rig.core.revocations, NULL);
	assert_false(is_hit(&t));
	assert_true(revocations_open(w.rig.db, &w.rig.core.revocations, &w.desk, &e));
	assert_true(is_hit(&t));
	assert_true(revocations_prune(w.desk, NOW + 300, &e));
	assert_true(is_hit(&t));
	assert_true(revocations_prune(w.desk, NOW + 301, &e));
	assert_false(is_hit(&t));
	assert_int_equal(revocations_count(w.desk), 0);
}

static void what_is_no_jti(void **state)
{
	static const char *const none[] = { "", "A", "AAAAAAAAAAAAAAAAAAAAAAA",
					    "AAAAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAB" };
	struct delegated_token t = token("x", NULL, "alice", IDP, NOW);
	struct revocation r;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_false(revocation_of_token(str_c(none[i]), NOW, &r));
	assert_true(revocation_of_token(STR(ROOT), NOW, &r));
	add(&r, "");
	assert_true(is_hit(&t)); /* what cannot be looked up is not let in */
}

/* One agent has its share; an admin goes on. */
static void one_agent_has_its_share(void **state)
{
	struct revocation r = { .before_s = INT64_MAX, .expires_s = NOW + 300 };
	struct err e = { 0 };

	(void)state;
	for (int i = 0; i < REVOCATIONS_OF_ONE; i++) {
		memcpy(r.key, &i, sizeof(i));
		add(&r, A1);
	}
	r.key[8] = 1;
	assert_false(revocations_add(w.desk, &r, STR(A1), &e));
	assert_int_equal(e.class, ERR_UNAVAILABLE);
	assert_string_equal(e.code, "too_many_revocations");
	add(&r, "spiffe://test.example/agent/other");
	r.key[8] = 2;
	add(&r, "");
	assert_int_equal(revocations_count(w.desk), REVOCATIONS_OF_ONE + 2);
}

/* At the door: what held before does not hold in the next turn. */
static void the_front_hears_of_it(void **state)
{
	const struct tokens_spec spec = { .chain = { A1 }, .id = CHILD, .line = ROOT };
	const struct delegation *d;
	struct revocation r;
	struct err e = { 0 };
	struct arena a;
	struct str text;

	(void)state;
	arena_init(&a, &mem_system, 1 << 20);
	text = tokens_delegated(&w.tokens, &w.rig, &spec);
	assert_true(delegation_verify(&w.rig.worker, text, w.rig.core.server_id, &a, &d, &e));
	assert_true(revocation_of_token(STR(ROOT), NOW + 300, &r));
	add(&r, "");
	worker_turn_begin(&w.rig.worker);
	assert_false(delegation_verify(&w.rig.worker, text, w.rig.core.server_id, &a, &d, &e));
	assert_non_null(strstr(e.msg, "revoked"));
	arena_clear(&a);
}

#define WITH_RIG(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(descendants_go_along),
		WITH_RIG(users_until_now),
		WITH_RIG(kept_over_a_restart_until_nothing_is_left),
		WITH_RIG(what_is_no_jti),
		WITH_RIG(one_agent_has_its_share),
		WITH_RIG(the_front_hears_of_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
