/* svid watch: when it renews, how long it waits, whom it signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include <signal.h>

#include "authz/cli/svid_follow_jwt.h"

static void renews_at_half_of_the_life(void **state)
{
	static const struct {
		int64_t from, to, every, earliest, latest;
	} rows[] = {
		{ 1000, 4600, 0, 2620, 2980 }, /* 45 to 55 percent of an hour */
		{ 1000, 1060, 0, 1027, 1033 },	  { 1000, 1005, 0, 1002, 1002 },
		{ 1000, 1000, 0, 1000, 1000 },	  { 1000, 4600, 60, 1060, 1060 },
		{ 1000, 1060, 3600, 1027, 1033 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t low = INT64_MAX, high = 0;

		for (uint32_t r = 0; r < 20000; r++) {
			int64_t at = svid_renew_at(rows[i].from, rows[i].to, rows[i].every, r);

			low = at < low ? at : low;
			high = at > high ? at : high;
		}
		if (low != rows[i].earliest || high != rows[i].latest)
			fail_msg("row %zu: %lld to %lld", i, (long long)low, (long long)high);
	}
}

static void waits_longer_after_each_failure(void **state)
{
	static const struct {
		unsigned failures;
		int64_t least, most;
	} rows[] = { { 1, 1, 2 },   { 2, 1, 2 },   { 3, 2, 4 },	     { 4, 4, 8 },
		     { 6, 16, 32 }, { 7, 30, 60 }, { 4000, 30, 60 }, { UINT32_MAX, 30, 60 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (uint32_t r = 0; r < 1000; r++) {
			int64_t s = svid_retry_after(rows[i].failures, r);

			if (s < rows[i].least || s > rows[i].most)
				fail_msg("%u failures: %lld s", rows[i].failures, (long long)s);
		}
}

static void knows_its_signals(void **state)
{
	(void)state;
	assert_int_equal(svid_signal_named("HUP"), SIGHUP);
	assert_int_equal(svid_signal_named("SIGUSR1"), SIGUSR1);
	assert_int_equal(svid_signal_named("KILL"), 0);
	assert_int_equal(svid_signal_named("9"), 0);
	assert_int_equal(svid_signal_named("hup"), 0);
	assert_int_equal(svid_signal_named("SIG"), 0);
	assert_int_equal(svid_signal_named(""), 0);
}

static void reads_pid_files(void **state)
{
	static const struct {
		const char *text;
		pid_t pid; /* 0: refused */
	} rows[] = { { "123", 123 },	  { "123\n", 123 }, { "2147483647", INT32_MAX },
		     { "2\r\n ", 2 },	  { "", 0 },	    { "0", 0 },
		     { "1", 0 },	  { "-1", 0 },	    { "-123", 0 },
		     { "12 34", 0 },	  { " 12", 0 },	    { "0x10", 0 },
		     { "2147483648", 0 }, { "12a", 0 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		pid_t pid = 0;

		if (svid_read_pid(str_c(rows[i].text), &pid) != (rows[i].pid != 0) ||
		    pid != rows[i].pid)
			fail_msg("\"%s\": %d", rows[i].text, (int)pid);
	}
}

static void reads_tokens_that_are_wanted(void **state)
{
	static const struct {
		const char *text, *audience, *file; /* no audience: refused */
	} rows[] = {
		{ "db=db.jwt", "db", "db.jwt" },
		{ "https://db.example/?a=b=t", "https://db.example/?a=b", "t" },
		{ "spiffe://a.example/b=..x", NULL, NULL },
		{ "db", NULL, NULL },
		{ "=db.jwt", NULL, NULL },
		{ "db=", NULL, NULL },
		{ "db=a/b", NULL, NULL },
		{ "db=a\nb", NULL, NULL },
		{ "db=svid.pem", NULL, NULL },
		{ "db=key.pem.old", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct svid_token t = { 0 };
		struct err e = { 0 };
		bool ok = svid_token_read(rows[i].text, &t, &e);

		if (ok != !!rows[i].audience)
			fail_msg("%s: %s", rows[i].text, e.msg);
		if (ok && rows[i].file &&
		    (!str_eq(t.audience, str_c(rows[i].audience)) ||
		     strcmp(t.file, rows[i].file) != 0))
			fail_msg("%s: %s", rows[i].text, t.file);
		if (!ok)
			assert_string_equal(e.code, "wrong_usage");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(renews_at_half_of_the_life),
		cmocka_unit_test(waits_longer_after_each_failure),
		cmocka_unit_test(knows_its_signals),
		cmocka_unit_test(reads_pid_files),
		cmocka_unit_test(reads_tokens_that_are_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
