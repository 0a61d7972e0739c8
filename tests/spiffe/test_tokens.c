/* Join tokens: one use, whoever races for it, whatever breaks. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <sqlite3.h>
#include <stdio.h>

#include "authz/base/buf.h"
#include "spiffe/tokens.h"
#include "tests/fault/tmp_dir.h"
#include "tests/fault/vfs_fault.h"

#define NOW 1700000000000
#define BOT "spiffe://example.org/agent/bot"

struct world {
	struct db *db;
	struct registry *registry;
	struct tokens *tokens;
	struct slot slot;
	struct arena arena;
};

static void world_open(struct world *w, void **state, const char *vfs)
{
	struct db_options o = { .create = true, .vfs = vfs, .busy_ms = 5000 };
	struct registry_config c = { .trust_domain = STR("example.org"),
				     .slot = &w->slot,
				     .alloc = &mem_system };
	struct err e = { 0 };

	*w = (struct world){ 0 };
	slot_init(&w->slot);
	arena_init(&w->arena, &mem_system, 100000);
	if (!db_open(tmp_dir_path(state, "writ.db"), &o, &w->db, &e))
		fail_msg("%s", e.msg);
	c.db = w->db;
	if (!registry_open(&c, &w->registry, &e) || !tokens_open(w->db, &w->tokens, &e))
		fail_msg("%s", e.msg);
}

static void world_close(struct world *w)
{
	tokens_close(w->tokens);
	registry_close(w->registry);
	slot_clear(&w->slot);
	db_close(w->db);
	arena_clear(&w->arena);
}

static void change(struct world *w, enum registry_verb verb, int64_t expires_ms)
{
	struct registry_change c = {
		.verb = verb,
		.spec = { .id = STR(BOT), .owner = STR("ann"), .expires_ms = expires_ms },
		.now_ms = NOW
	};
	struct err e = { 0 };

	if (!registry_apply(w->registry, &c, &e))
		fail_msg("%s", e.msg);
}

static bool make(struct world *w, char text[static TOKEN_TEXT], struct err *e)
{
	AUTO_REGISTRY_VIEW *v = (void *)slot_acquire(&w->slot);
	uint64_t number;

	return token_create(w->tokens, v, STR(BOT), TOKEN_TTL, NOW, STR("unix:0"), text, &number,
			    e);
}

/* "" if the token let its bearer in, else the code. */
static const char *use(struct world *w, const char *text, int64_t at)
{
	AUTO_REGISTRY_VIEW *v = (void *)slot_acquire(&w->slot);
	struct err e = { 0 };
	struct str id;
	uint64_t number;

	if (!token_use(w->tokens, v, str_c(text), at, &w->arena, &id, &number, &e))
		return e.code;
	assert_true(str_eq(id, STR(BOT)));
	return "";
}

static void works_once(void **state)
{
	char text[TOKEN_TEXT], other[TOKEN_TEXT];
	struct err e = { 0 };
	struct world w;

	world_open(&w, state, NULL);
	change(&w, REGISTRY_REGISTER, 0);
	assert_true(make(&w, text, &e));
	assert_true(make(&w, other, &e));
	assert_int_equal(strlen(text), 36);
	assert_int_equal(strspn(text + 4, "abcdefghijklmnopqrstuvwxyz234567"), 32);
	assert_string_not_equal(text, other);
	assert_string_equal(use(&w, text, NOW + 599999), "");
	assert_string_equal(use(&w, text, NOW + 599999), "join_token_used");
	world_close(&w);
	world_open(&w, state, NULL); /* and after a restart */
	assert_string_equal(use(&w, text, NOW + 599999), "join_token_used");
	assert_string_equal(use(&w, other, NOW + 600000), "join_token_expired");
	other[5] = other[5] == 'a' ? 'b' : 'a';
	assert_string_equal(use(&w, other, NOW), "join_token_unknown");
	assert_string_equal(use(&w, "wjt_", NOW), "join_token_invalid");
	assert_string_equal(use(&w, "", NOW), "join_token_invalid");
	other[5] = 'A';
	assert_string_equal(use(&w, other, NOW), "join_token_invalid");
	world_close(&w);
}

static void is_nowhere_in_the_file(void **state)
{
	char text[TOKEN_TEXT];
	struct err e = { 0 };
	struct world w;
	AUTO_BUF file = { 0 };
	FILE *f;
	int c;

	world_open(&w, state, NULL);
	change(&w, REGISTRY_REGISTER, 0);
	assert_true(make(&w, text, &e));
	assert_true(db_checkpoint(w.db, DB_TRUNCATE, NULL, NULL, &e));
	buf_init(&file, mem_system, 10000000);
	f = fopen(tmp_dir_path(state, "writ.db"), "rb");
	assert_non_null(f);
	while ((c = getc(f)) != EOF)
		buf_char(&file, (char)c);
	fclose(f);
	assert_non_null(memmem(file.p, file.n, BOT, strlen(BOT)));
	assert_null(memmem(file.p, file.n, text + 4, 32));
	world_close(&w);
}

static void follows_the_state_of_its_agent(void **state)
{
	char text[TOKEN_TEXT];
	struct err e = { 0 };
	struct world w;

	world_open(&w, state, NULL);
	assert_false(make(&w, text, &e));
	assert_string_equal(e.code, "unknown_agent");
	change(&w, REGISTRY_REGISTER, NOW + 5000);
	assert_true(make(&w, text, &e));
	change(&w, REGISTRY_SUSPEND, 0);
	assert_string_equal(use(&w, text, NOW), "agent_suspended");
	change(&w, REGISTRY_RESUME, 0);
	assert_string_equal(use(&w, text, NOW + 5000), "agent_expired");
	assert_string_equal(use(&w, text, NOW), ""); /* a refusal has used up nothing */
	assert_true(make(&w, text, &e));
	change(&w, REGISTRY_RETIRE, 0);
	assert_string_equal(use(&w, text, NOW), "agent_retired");
	assert_false(make(&w, text, &e));
	assert_string_equal(e.code, "agent_retired");
	assert_int_equal(e.class, ERR_CONFLICT);
	world_close(&w);
}

static int listed;

static void count(void *ctx, const struct token *t)
{
	(void)ctx;
	assert_true(str_eq(t->id, STR(BOT)) && t->number && !t->used_ms);
	assert_true(str_eq(t->by, STR("unix:0")));
	listed++;
}

static void keeps_its_bounds(void **state)
{
	AUTO_REGISTRY_VIEW *v = NULL;
	char text[TOKEN_TEXT];
	struct err e = { 0 };
	struct world w;
	uint64_t number;
	int64_t n;

	world_open(&w, state, NULL);
	change(&w, REGISTRY_REGISTER, 0);
	v = (void *)slot_acquire(&w.slot);
	assert_false(token_create(w.tokens, v, STR(BOT), 0, NOW, STR(""), text, &number, &e));
	assert_false(token_create(w.tokens, v, STR(BOT), TOKEN_TTL_MAX + 1, NOW, STR(""), text,
				  &number, &e));
	assert_string_equal(e.code, "invalid_ttl");
	for (int i = 0; i < TOKEN_PER_AGENT; i++)
		assert_true(make(&w, text, &e));
	assert_false(make(&w, text, &e));
	assert_string_equal(e.code, "too_many_tokens");
	assert_non_null(strstr(e.msg, "suspend the agent and resume it"));
	assert_string_equal(use(&w, text, NOW), "");
	listed = 0;
	assert_true(tokens_list(w.tokens, STR(BOT), NOW, count, NULL, &e));
	assert_int_equal(listed, TOKEN_PER_AGENT - 1);
	assert_true(tokens_list(w.tokens, STR(""), NOW + 600000, count, NULL, &e));
	assert_true(tokens_list(w.tokens, STR("spiffe://x/y"), NOW, count, NULL, &e));
	assert_int_equal(listed, TOKEN_PER_AGENT - 1);
	assert_true(tokens_revoke(w.tokens, STR(BOT), NOW, &n, &e));
	assert_int_equal(n, TOKEN_PER_AGENT - 1);
	assert_string_equal(use(&w, text, NOW), "join_token_used"); /* the used one is remembered */
	assert_true(tokens_prune(w.tokens, NOW + 600001, 0, &e));
	assert_string_equal(use(&w, text, NOW), "join_token_unknown");
	world_close(&w);
}

/* --- two connections, one token --- */

struct racer {
	struct world w;
	const char *text;
	pthread_barrier_t *start;
	int wins, used, other;
	pthread_t thread;
};

#define ROUNDS 50
static char race_tokens[ROUNDS][TOKEN_TEXT];

static void *race(void *arg)
{
	struct racer *r = arg;

	for (int i = 0; i < ROUNDS; i++) {
		const char *got;

		pthread_barrier_wait(r->start);
		got = use(&r->w, race_tokens[i], NOW);
		if (!*got)
			r->wins++;
		else if (strcmp(got, "join_token_used") == 0)
			r->used++;
		else
			r->other++;
	}
	return NULL;
}

static void of_two_that_race_one_gets_in(void **state)
{
	pthread_barrier_t start;
	struct racer r[2] = { 0 };
	struct err e = { 0 };

	pthread_barrier_init(&start, NULL, 2);
	world_open(&r[0].w, state, NULL);
	change(&r[0].w, REGISTRY_REGISTER, 0);
	world_open(&r[1].w, state, NULL);
	for (int i = 0; i < ROUNDS; i++)
		assert_true(make(&r[0].w, race_tokens[i], &e));
	for (int i = 0; i < 2; i++) {
		r[i].start = &start;
		assert_int_equal(pthread_create(&r[i].thread, NULL, race, &r[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(r[i].thread, NULL);
	assert_int_equal(r[0].wins + r[1].wins, ROUNDS);
	assert_int_equal(r[0].used + r[1].used, ROUNDS);
	assert_int_equal(r[0].other + r[1].other, 0);
	world_close(&r[0].w);
	world_close(&r[1].w);
	pthread_barrier_destroy(&start);
}

/* --- a failing disk --- */

/* A token whose use failed may be used or not afterwards; one whose use succeeded is used. */
static void no_fault_lets_a_token_in_twice(void **state)
{
	static const int codes[] = { SQLITE_FULL, SQLITE_IOERR_FSYNC };
	struct world w;

	vfs_fault_register();
	vfs_fault_arm(0, 0, 0, false);
	world_open(&w, state, NULL);
	change(&w, REGISTRY_REGISTER, 0);
	world_close(&w);
	for (size_t c = 0; c < ARRAY_LEN(codes); c++)
		for (long nth = 1;; nth++) {
			char text[TOKEN_TEXT];
			const char *got;
			struct err e = { 0 };
			int wins;
			bool hit;

			world_open(&w, state, "fault");
			assert_true(make(&w, text, &e));
			vfs_fault_arm(VFS_WRITE | VFS_SYNC, nth, codes[c], false);
			got = use(&w, text, NOW);
			hit = vfs_fault_hits() > 0;
			vfs_fault_arm(0, 0, 0, false);
			wins = !*got;
			if (hit)
				assert_int_equal(wins, 0);
			world_close(&w);
			world_open(&w, state, NULL);
			wins += !*use(&w, text, NOW);
			wins += !*use(&w, text, NOW);
			assert_true(wins <= 1);
			if (codes[c] == SQLITE_FULL)
				assert_int_equal(wins, 1); /* refused, not used up */
			world_close(&w);
			if (!hit)
				break;
		}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)
	const struct CMUnitTest tests[] = {
		T(works_once),
		T(is_nowhere_in_the_file),
		T(follows_the_state_of_its_agent),
		T(keeps_its_bounds),
		T(of_two_that_race_one_gets_in),
		T(no_fault_lets_a_token_in_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
