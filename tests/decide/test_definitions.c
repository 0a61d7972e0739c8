/* Pinned tools: what is seen of their definitions, what follows from it, and who accepts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "authz/audit/read.h"
#include "authz/base/text.h"
#include "authz/decide/definitions.h"
#include "authz/decide/rollout_run.h"
#include "tests/decide/desk.h"

#define GATE STR("spiffe://test.example/mesh/gw")
#define ANN STR("spiffe://test.example/ann")
#define BEN STR("unix:1000")

static const char rules[] = "policy 'p' { permit 'all' { on = { action = 'tools/call' } } }";

#define V1 "{\"description\":\"Reads a file\",\"inputSchema\":{},\"name\":\"read\"}"
#define V2 "{\"description\":\"Reads it. IMPORTANT: ...\",\"inputSchema\":{},\"name\":\"read\"}"
#define V3 "{\"description\":\"Reads a file\",\"inputSchema\":{\"x\":1},\"name\":\"read\"}"
#define ANYTHING "{\"name\":\"write\"}"

static struct sha256 *sha;
static struct arena arena;

static struct definition_sighting sighting(const char *tool, const char *text)
{
	uint8_t hash[SHA256_LEN];
	char hex[2 * SHA256_LEN];

	sha256_of(sha, str_c(text), hash);
	text_hex(hash, sizeof(hash), hex);
	return (struct definition_sighting){ str_c(tool), arena_printf(&arena, "sha256:%.64s", hex),
					     str_c(text) };
}

static struct str digest_of(const char *text)
{
	return sighting("", text).digest;
}

/* files/read is pinned as @text; with @full the pin has the definition beside it. */
static void pin(struct desk *d, const char *text, bool full, uint64_t generation)
{
	struct str catalogue = arena_printf(
		&arena,
		"tool 'files/read' { effect = 'read' }\ntool 'files/write' { effect = 'write' }\n"
		"tool 'files/free' { effect = 'read' }\n"
		"pins 'files' { read = { digest = '%.*s'%s%s%s }, write = '%.*s' }",
		STR_FMT(digest_of(text)), full ? ", definition = [[" : "", full ? text : "",
		full ? "]]" : "", STR_FMT(digest_of(ANYTHING)));

	rig_policies(&d->rig, rules, catalogue.p, generation);
	definitions_tick(d->control);
}

static void see(struct desk *d, const char *tool, const char *text)
{
	const struct definition_sighting s = sighting(tool, text);
	struct err e = { 0 };

	if (!definitions_observe(d->control, &s, 1, GATE, &e))
		fail_msg("%s: %s", tool, e.msg);
}

static void later(struct desk *d, int64_t ms)
{
	d->rig.time.ms += ms;
}

/* "permit permitted", "deny tool_definition_changed"; and the message holds @part. */
static void expect(struct desk *d, const char *tool, const char *reason, const char *part)
{
	struct str request = arena_printf(&arena,
					  "{\"subject\":{\"type\":\"service\",\"id\":\"x\"},"
					  "\"action\":{\"name\":\"tools/call\"},\"resource\":"
					  "{\"type\":\"tool\",\"id\":\"%s\"}}",
					  tool);
	struct rig_answer a = rig_ask(&d->rig, GATE, ROLE_PEP, request.p);
	struct str message = arena_dup(&arena, a.a.result.message);

	if (!a.done || !a.a.recorded || !str_eq(a.a.result.reason, str_c(reason)) ||
	    !strstr(message.p, part))
		fail_msg("%s: %.*s, %s; expected %s, %s", tool, STR_FMT(a.a.result.reason),
			 message.p, reason, part);
}

#define GOOD "permitted", ""
#define CHANGED(part) "tool_definition_changed", part

static void open_desk(struct desk *d)
{
	desk_open(d);
	arena_init(&arena, &mem_system, (size_t)16 * 1024 * 1024);
	sha = sha256_new(NULL);
	assert_non_null(sha);
}

static void close_desk(struct desk *d)
{
	desk_close(d);
	arena_clear(&arena);
	sha256_free(sha);
}

static void a_changed_definition_is_denied_until_it_is_back(void **state)
{
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, true, 1);
	expect(&d, "files/read", GOOD);
	see(&d, "files/read", V1);
	expect(&d, "files/read", GOOD);
	assert_int_equal(desk_records(&d, 0, "tool.definition", ""), 0);
	see(&d, "files/read", V2);
	expect(&d, "files/read", CHANGED(": description changed; your administrator"));
	expect(&d, "files/write", GOOD);
	expect(&d, "files/free", GOOD);
	assert_int_equal(desk_records(&d, 0, "\"kind\":\"tool.definition\"",
				      "\"outcome\":\"changed\""),
			 1);
	assert_int_equal(desk_records(&d, 0, "tool.definition",
				      arena_printf(&arena,
						   "\"digest\":\"%.*s\",\"digest_before\":"
						   "\"%.*s\",\"digest_pinned\":\"%.*s\"",
						   STR_FMT(digest_of(V2)), STR_FMT(digest_of(V1)),
						   STR_FMT(digest_of(V1)))
					      .p),
			 1);
	/* The server's words are in no leaf. */
	assert_int_equal(desk_records(&d, 0, "IMPORTANT", ""), 0);
	assert_int_equal(desk_records(&d, 0, "description changed", ""), 0);
	/* It goes to and fro: what is not worse waits. */
	see(&d, "files/read", V1);
	expect(&d, "files/read", CHANGED(": description changed"));
	later(&d, DEFINITION_PAUSE_MS - 1);
	see(&d, "files/read", V3);
	expect(&d, "files/read", CHANGED(": description changed"));
	later(&d, 1);
	see(&d, "files/read", V3);
	expect(&d, "files/read", CHANGED(": inputSchema.x added;"));
	later(&d, DEFINITION_PAUSE_MS);
	see(&d, "files/read", V1);
	expect(&d, "files/read", GOOD);
	see(&d, "files/read", V2); /* and what is worse does not */
	expect(&d, "files/read", CHANGED("description changed"));
	assert_int_equal(desk_records(&d, 0, "tool.definition", "\"outcome\":\"changed\""), 3);
	assert_int_equal(desk_records(&d, 0, "tool.definition", "\"outcome\":\"restored\""), 1);
	close_desk(&d);
}

static void what_was_seen_outlives_a_restart(void **state)
{
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, true, 1);
	see(&d, "files/read", V2);
	desk_reopen(&d);
	definitions_tick(d.control);
	expect(&d, "files/read", CHANGED(": description changed"));
	close_desk(&d);
}

/* Of a pin that is a digest alone, the definition is known once it was listed so. */
static void definitions_are_learned(void **state)
{
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, false, 1);
	see(&d, "files/read", V2);
	expect(&d, "files/read", CHANGED("reviewed; your administrator"));
	later(&d, DEFINITION_PAUSE_MS);
	see(&d, "files/read", V1);
	see(&d, "files/read", V2);
	expect(&d, "files/read", CHANGED(": description changed"));
	close_desk(&d);
}

static void only_pinned_tools_are_kept(void **state)
{
	struct definition_view *v;
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, true, 1);
	see(&d, "files/free", V2);
	see(&d, "no/such", V2);
	v = (struct definition_view *)slot_acquire(&d.rig.core.definitions);
	assert_int_equal(v->n, 0);
	shared_release(&v->shared);
	close_desk(&d);
}

/* Other policies, other pins: what is known is held against those in force. */
static void another_pin_counts_at_once(void **state)
{
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, true, 1);
	see(&d, "files/read", V2);
	expect(&d, "files/read", CHANGED("description changed"));
	pin(&d, V2, true, 2);
	expect(&d, "files/read", GOOD);
	pin(&d, V3, true, 3);
	expect(&d, "files/read", CHANGED("description changed, inputSchema.x removed"));
	close_desk(&d);
}

/* Of two definitions under one name in one list the worse one counts. */
static void one_name_twice(void **state)
{
	struct definition_sighting list[3];
	struct err e = { 0 };
	struct desk d;

	(void)state;
	open_desk(&d);
	for (uint64_t i = 0; i < 2; i++) {
		pin(&d, i ? V3 : V1, true, 1 + i);
		list[i] = sighting("files/read", i ? V3 : V1);
		list[1 - i] = sighting("files/read", V2);
		list[2] = list[i];
		assert_true(definitions_observe(d.control, list, 3, GATE, &e));
		expect(&d, "files/read", CHANGED("description changed"));
		later(&d, DEFINITION_PAUSE_MS);
	}
	close_desk(&d);
}

/* The opening `facts` of the newest record. */
static const char *newest_facts(struct desk *d)
{
	uint64_t seq = rig_size(&d->rig) - 1;
	struct audit_filter f = { .from = seq, .to = seq + 1, .openings = true };
	struct audit_reader *reader = NULL;
	struct audit_row row = { 0 };
	struct err e = { 0 };
	struct str facts = { NULL, 0 };
	bool got = false;

	if (!audit_reader_open(d->rig.folder, &mem_system, &reader, &e) ||
	    !audit_reader_start(reader, &f, &e) || !audit_reader_next(reader, 0, &row, &got, &e) ||
	    !got || !row.openings[OPENING_FACTS].held)
		fail_msg("no facts of %llu: %s", (unsigned long long)seq, e.msg);
	else
		facts = arena_dup(&arena, row.openings[OPENING_FACTS].value);
	audit_reader_close(reader);
	return facts.p ? facts.p : "";
}

/* What one of the two sets went by is among the facts, whichever has the pin. */
static void a_roll_out_may_have_the_pin_alone(void **state)
{
	struct rollout *r;
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, true, 1);
	expect(&d, "files/read", GOOD);
	assert_null(strstr(newest_facts(&d), "\"definition\"")); /* nothing is known */
	see(&d, "files/read", V2);
	expect(&d, "files/read", CHANGED("description"));
	assert_non_null(strstr(newest_facts(&d),
			       "{\"definition\":{\"accepted\":\"\",\"changes\":\"description "
			       "changed\",\"observed\":\"sha256:"));
	r = rollout_new((struct policy_set *)slot_acquire(&d.rig.core.policies), NULL);
	assert_non_null(r);
	r->id = 3;
	r->kind = ROLLOUT_SHADOW;
	r->base = 2;
	slot_publish(&d.rig.core.rollouts, &r->shared);
	rig_policies(&d.rig, rules, "tool 'files/read' { effect = 'read' }", 2);
	definitions_tick(d.control);
	expect(&d, "files/read", GOOD);
	assert_int_equal(desk_records(&d, rig_size(&d.rig) - 1, "\"decision\":\"permit\"",
				      "\"shadow_reason\":\"tool_definition_changed\""),
			 1);
	assert_non_null(strstr(newest_facts(&d), "{\"definition\":{\"accepted\""));
	close_desk(&d);
}

/* ---- accepting ---- */

static void accept(struct desk *d, const char *text, struct str by, const char *code, bool accepted)
{
	struct err e = { 0 };
	bool got = !accepted;
	bool ok = definition_accept(d->control, STR("files/read"), digest_of(text), by, &got, &e);

	if (ok != !code || (ok && got != accepted) || (code && strcmp(e.code, code) != 0))
		fail_msg("%.*s: %s %s, expected %s", STR_FMT(by), ok ? "ok" : e.code, e.msg,
			 code ? code : "ok");
}

static void two_persons_accept(void **state)
{
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, true, 1);
	accept(&d, V2, ANN, "definition_mismatch", false);
	see(&d, "files/read", V2);
	accept(&d, V3, ANN, "definition_mismatch", false);
	accept(&d, V1, ANN, "nothing_to_accept", false);
	accept(&d, V2, ANN, NULL, false);
	expect(&d, "files/read", CHANGED("description"));
	accept(&d, V2, ANN, "second_person", false);
	expect(&d, "files/read", CHANGED("description"));
	desk_reopen(&d); /* a proposal outlives it */
	accept(&d, V2, BEN, NULL, true);
	expect(&d, "files/read", GOOD);
	accept(&d, V2, ANN, "nothing_to_accept", false);
	assert_int_equal(desk_records(&d, 0, "\"act\":\"tool.propose\"", "ann\""), 1);
	assert_int_equal(desk_records(&d, 0, "\"act\":\"tool.accept\"",
				      "\"pep\":\"unix:1000\",\"prev\""),
			 1);
	assert_int_equal(desk_records(&d, 0, "\"act\":\"tool.accept\"",
				      "\"proposed_by\":\"spiffe://test.example/ann\""),
			 1);
	/* The pinned one holds as well; a third one does not. */
	later(&d, DEFINITION_PAUSE_MS);
	see(&d, "files/read", V1);
	expect(&d, "files/read", GOOD);
	see(&d, "files/read", V3);
	expect(&d, "files/read", CHANGED("inputSchema.x added"));
	later(&d, DEFINITION_PAUSE_MS);
	see(&d, "files/read", V2);
	expect(&d, "files/read", GOOD);
	desk_reopen(&d);
	definitions_tick(d.control);
	expect(&d, "files/read", GOOD);
	close_desk(&d);
}

static void what_is_proposed_is_bound_to_what_was_seen(void **state)
{
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, true, 1);
	see(&d, "files/read", V2);
	accept(&d, V2, ANN, NULL, false);
	/* It changes between the two. */
	later(&d, DEFINITION_PAUSE_MS);
	see(&d, "files/read", V3);
	accept(&d, V2, BEN, "definition_mismatch", false);
	accept(&d, V3, BEN, NULL, false); /* a proposal of his own */
	accept(&d, V3, ANN, NULL, true);
	expect(&d, "files/read", GOOD);
	/* Bound to the pin, too. */
	pin(&d, V2, true, 2);
	expect(&d, "files/read", CHANGED("description changed"));
	accept(&d, V3, BEN, NULL, false);
	accept(&d, V3, BEN, "second_person", false);
	/* And void for good: it is not back with the old pin. */
	pin(&d, V1, true, 3);
	expect(&d, "files/read", CHANGED("inputSchema.x added"));
	close_desk(&d);
}

static void what_was_accepted_can_be_withdrawn(void **state)
{
	struct err e = { 0 };
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, true, 1);
	see(&d, "files/read", V2);
	assert_false(definition_withdraw(d.control, STR("files/read"), ANN, &e));
	assert_string_equal(e.code, "nothing_to_withdraw");
	accept(&d, V2, ANN, NULL, false);
	assert_true(definition_withdraw(d.control, STR("files/read"), BEN, &e));
	accept(&d, V2, BEN, NULL, false); /* from the start */
	accept(&d, V2, ANN, NULL, true);
	expect(&d, "files/read", GOOD);
	assert_true(definition_withdraw(d.control, STR("files/read"), ANN, &e));
	expect(&d, "files/read", CHANGED("description"));
	assert_int_equal(desk_records(&d, 0, "\"act\":\"tool.withdraw\"", ""), 2);
	close_desk(&d);
}

static void what_is_not_pinned_cannot_be_accepted(void **state)
{
	struct definition_report report;
	struct err e = { 0 };
	struct desk d;
	bool accepted;

	(void)state;
	open_desk(&d);
	assert_false(
		definition_accept(d.control, STR("files/read"), digest_of(V1), ANN, &accepted, &e));
	assert_string_equal(e.code, "unknown_pin"); /* no policies */
	pin(&d, V1, true, 1);
	assert_false(
		definition_accept(d.control, STR("files/free"), digest_of(V1), ANN, &accepted, &e));
	assert_string_equal(e.code, "unknown_pin");
	assert_false(definition_report(d.control, STR("files/free"), &arena, &report, &e));
	assert_string_equal(e.code, "unknown_pin");
	close_desk(&d);
}

static void reports_tell_all(void **state)
{
	struct definition_report r;
	struct err e = { 0 };
	struct desk d;

	(void)state;
	open_desk(&d);
	pin(&d, V1, true, 1);
	assert_true(definition_report(d.control, STR("files/read"), &arena, &r, &e));
	assert_true(r.good && r.was && !r.is && !r.known.observed.n);
	see(&d, "files/read", V3);
	accept(&d, V3, ANN, NULL, false);
	assert_true(definition_report(d.control, STR("files/read"), &arena, &r, &e));
	assert_true(!r.good && r.was && r.is &&
		    str_eq(r.known.changes, STR("inputSchema.x added")));
	assert_true(str_eq(r.standing.proposed_by, ANN) && str_eq(r.standing.seen_by, GATE));
	assert_int_equal(r.standing.seen_ms, d.rig.time.ms);
	close_desk(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_changed_definition_is_denied_until_it_is_back),
		cmocka_unit_test(what_was_seen_outlives_a_restart),
		cmocka_unit_test(definitions_are_learned),
		cmocka_unit_test(only_pinned_tools_are_kept),
		cmocka_unit_test(another_pin_counts_at_once),
		cmocka_unit_test(one_name_twice),
		cmocka_unit_test(a_roll_out_may_have_the_pin_alone),
		cmocka_unit_test(two_persons_accept),
		cmocka_unit_test(what_is_proposed_is_bound_to_what_was_seen),
		cmocka_unit_test(what_was_accepted_can_be_withdrawn),
		cmocka_unit_test(what_is_not_pinned_cannot_be_accepted),
		cmocka_unit_test(reports_tell_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
