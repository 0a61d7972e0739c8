/* What indexing is made of: when it waits for the log; entries by term; values it knows already. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/audit/index_pace.h"
#include "authz/audit/index_posts.h"
#include "authz/base/buf.h"
#include "include/writ/str.h"

/* Looks at a log, in order: seconds, its size, the records in the index; does it wait? */
static const struct {
	const char *why;
	double at_s;
	uint64_t size, indexed;
	bool waits;
} looks[] = {
	{ "the first look says nothing", 10, 5000000, 0, false },
	{ "nor does one right after it", 10.001, 5001000, 0, false },
	{ "fast, but too far behind", 10.25, 5020000, 0, false },
	{ "as far as it may be", 10.5, 5040000, 4040000, false },
	{ "one record less", 10.501, 5040000, 4040001, true },
	{ "nothing to do", 10.502, 5040000, 5040000, false },
	{ "still fast", 10.75, 5060000, 5040000, true },
	{ "a moment without records is no calm", 10.76, 5060000, 5040000, true },
	{ "calm", 11, 5060001, 5040000, false },
	{ "just not fast", 12, 5070001, 5040000, false },
	{ "fast", 13, 5080002, 5040000, true },
	{ "another log", 13.2, 10, 0, false },
	{ "a long sleep", 1000, 9000000, 8900000, false },
};

static void it_waits_while_records_come_fast(void **state)
{
	struct index_pace p = { .lag_max = INDEX_LAG_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(looks); i++)
		if (index_pace_waits(&p, looks[i].size, looks[i].indexed,
				     (int64_t)(looks[i].at_s * 1e9)) != looks[i].waits)
			fail_msg("%s", looks[i].why);
}

/* More terms than the table begins with, in two rounds: each has its entries, in order. */
static void entries_by_term(void **state)
{
	enum { TERMS = 5000, EACH = 3 };
	struct index_posts p;
	struct err e = { 0 };

	(void)state;
	assert_true(index_posts_init(&p, (size_t)TERMS * EACH, &e));
	for (int round = 0; round < 2; round++) {
		uint64_t before = 0;

		index_posts_reset(&p);
		for (uint64_t seq = 0; seq < TERMS * EACH; seq++) {
			const struct index_term t = { .hash = seq % TERMS * 64,
						      .mark = (uint16_t)seq };

			assert_true(index_posts_room(&p, 1));
			assert_true(index_posts_add(&p, t, 1000 + seq, &e));
		}
		assert_false(index_posts_room(&p, 1));
		index_posts_sort(&p);
		assert_int_equal(p.nchains, TERMS);
		assert_int_equal(p.first, 1000);
		for (size_t c = 0; c < p.nchains; c++) {
			uint32_t i = p.chains[c].first;

			assert_true(!c || p.chains[c].hash > before);
			before = p.chains[c].hash;
			for (uint64_t n = 0; n < EACH; n++, i = p.entries[i - 1].next) {
				uint64_t want = before / 64 + n * TERMS;

				assert_int_equal(p.entries[i - 1].after, want);
				assert_int_equal(p.entries[i - 1].mark, (uint16_t)want);
			}
			assert_int_equal(i, 0);
		}
	}
	index_posts_reset(&p);
	assert_true(p.places < TERMS); /* the room of many terms is given back */
	index_posts_clear(&p);
	index_posts_clear(&p);
}

/* More than is kept of a value. */
#define TEN "aaaaaaaaaa"
#define LONG TEN TEN TEN TEN TEN TEN TEN TEN TEN

/* The same terms, whatever the record before had. */
static void known_values_change_nothing(void **state)
{
	static const char *const leaves[] = {
		"{\"agent\":\"a\",\"kind\":\"authz.decision\",\"tool\":\"x/y\",\"trace_id\":\"1\"}",
		"{\"agent\":\"a\",\"kind\":\"authz.decision\",\"tool\":\"x/y\",\"trace_id\":\"2\"}",
		"{\"agent\":\"x/y\",\"kind\":\"a\",\"tool\":\"a\",\"trace_id\":\"2\"}",
		"{\"agent\":\"\",\"generation\":12,\"kind\":\"log.open\",\"tool\":\"x/y\"}",
		"{\"agent\":\"" LONG "\",\"generation\":13,\"kind\":\"log.open\"}",
		"{\"agent\":\"a\",\"generation\":12,\"kind\":\"log.open\"}",
	};
	struct index_memo memo = { 0 };

	(void)state;
	for (size_t round = 0; round < 3; round++)
		for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
			struct index_term a[INDEX_TERMS_MAX], b[INDEX_TERMS_MAX];
			struct index_memo none = { 0 };
			size_t n, m;

			assert_true(index_terms(str_c(leaves[i]), &memo, a, &n));
			assert_true(index_terms(str_c(leaves[i]), &none, b, &m));
			assert_int_equal(n, m);
			for (size_t k = 0; k < n; k++)
				assert_true(a[k].hash == b[k].hash && a[k].mark == b[k].mark &&
					    a[k].marked == b[k].marked);
		}
}

static bool has_term(const char *leaf, const char *name, const char *value)
{
	const struct index_term t = index_term_of(str_c(name), str_c(value));
	struct index_term terms[INDEX_TERMS_MAX];
	struct index_memo memo = { 0 };
	size_t n;

	assert_true(index_terms(str_c(leaf), &memo, terms, &n));
	for (size_t i = 0; i < n; i++)
		if (terms[i].hash == t.hash)
			return true;
	return false;
}

/* What the index says, the leaf must say, and the other way round. */
static void delegations_have_terms(void **state)
{
	static const char leaf[] = "{\"actors\":\"spiffe://a/1 spiffe://a/22\",\"agent\":"
				   "\"spiffe://a/22\",\"delegation\":\"AA\",\"jti\":\"BB\"}",
			  plain[] = "{\"agent\":\"spiffe://a/1\",\"kind\":\"authz.decision\"}";
	static const struct {
		const char *leaf, *name, *value;
		bool has;
	} rows[] = {
		{ leaf, "delegate", "spiffe://a/1", true },
		{ leaf, "delegate", "spiffe://a/22", true },
		{ leaf, "delegate", "spiffe://a/2", false },
		{ leaf, "delegate", "spiffe://a/1 spiffe://a/22", false },
		{ leaf, "delegation", "AA", true },
		{ leaf, "delegation", "BB", false },
		{ leaf, "user", "anybody", true }, /* the opening tells */
		{ leaf, "agent", "spiffe://a/1", false },
		{ plain, "delegate", "spiffe://a/1", false },
		{ plain, "user", "anybody", false },
		{ plain, "delegation", "", false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (has_term(rows[i].leaf, rows[i].name, rows[i].value) != rows[i].has ||
		    index_leaf_has(str_c(rows[i].leaf), str_c(rows[i].name),
				   str_c(rows[i].value)) != rows[i].has)
			fail_msg("%s %s", rows[i].name, rows[i].value);
}

/* Eight agents of a chain and every member: there is room for all terms. */
static void all_terms_fit(void **state)
{
	static const char *const others[] = { "agent",	    "decision", "delegate", "delegation",
					      "generation", "kind",	"model",    "pep",
					      "reason",	    "rollout",	"rule",	    "tool",
					      "trace_id",   "user" };
	struct index_term terms[INDEX_TERMS_MAX];
	struct index_memo memo = { 0 };
	struct buf b;
	size_t n;

	(void)state;
	buf_init(&b, mem_system, 4096);
	buf_lit(&b, "{\"action\":\"x\",\"actors\":\"");
	for (int i = 0; i < 8; i++)
		buf_printf(&b, "%sspiffe://a/%d", i ? " " : "", i);
	buf_char(&b, '"');
	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		buf_printf(&b, ",\"%s\":\"x.y\"", others[i]);
	buf_char(&b, '}');
	assert_true(index_terms(buf_str(&b), &memo, terms, &n));
	/* each member, the family of the kind, that there is a user, and the chain */
	assert_int_equal(n, INDEX_MEMBERS + 2 + 8);
	buf_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_waits_while_records_come_fast),
		cmocka_unit_test(entries_by_term),
		cmocka_unit_test(known_values_change_nothing),
		cmocka_unit_test(delegations_have_terms),
		cmocka_unit_test(all_terms_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
