/* Sinks step by step, with a clock of their own: nothing is lost, nothing comes out of order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/sink.h"
#include "authz/audit/sink_out.h"
#include "authz/base/json.h"
#include "tests/audit/fixture.h"

#define RECORDS 1001 /* log.open and 1,000 decisions: four pages */

static struct fixture f;
static char path[200], rotated[220], folder[150];
static struct sink_settings settings;
static struct sinks_config config;
static struct sink *sink;
static struct buf text;

static int set_up(void **state)
{
	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, RECORDS - 1);
	buf_init(&text, mem_system, (size_t)16 * 1024 * 1024);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	buf_clear(&text);
	fixture_clear(&f);
	return 0;
}

/* A sink to a file in a folder that is not there yet. */
static int new_sink(void **state)
{
	struct err e = { 0 };

	(void)state;
	snprintf(folder, sizeof(folder), "%s/out", f.folder);
	snprintf(path, sizeof(path), "%s/log", folder);
	snprintf(rotated, sizeof(rotated), "%s.1", path);
	settings = (struct sink_settings){
		.name = "test", .type = SINK_FILE, .format = &format_jsonl, .target = path
	};
	config = (struct sinks_config){
		.folder = f.folder, .origin = ORIGIN, .items = &settings, .n = 1, .clock = &f.clock
	};
	return sink_new(&config, 0, &sink, &e) ? 0 : -1;
}

static int end_sink(void **state)
{
	char cursor[200];

	(void)state;
	sink_free(sink);
	snprintf(cursor, sizeof(cursor), "%s/sink-test", f.folder);
	unlink(cursor);
	unlink(path);
	unlink(rotated);
	rmdir(folder);
	return 0;
}

static void restart(void)
{
	struct err e = { 0 };

	sink_free(sink);
	if (!sink_new(&config, 0, &sink, &e))
		fail_msg("%s", e.msg);
}

static struct sink_status status(void)
{
	struct sink_status s;

	sink_status(sink, &s);
	return s;
}

/* Step until there is nothing more; how many pages went out. */
static int drain(void)
{
	int pages = 0;

	while (sink_step(sink, 0) == 0)
		pages++;
	if (status().in_row)
		fail_msg("%s", status().why.msg);
	return pages;
}

static struct str content(const char *name)
{
	char piece[65536];
	FILE *in = fopen(name, "re");
	size_t n;

	assert_non_null(in);
	buf_reset(&text);
	while ((n = fread(piece, 1, sizeof(piece), in)) > 0)
		buf_add(&text, (struct str){ piece, n });
	fclose(in);
	return buf_str(&text);
}

/* The lines are the records [first, first + n), in order, each once. */
static void expect_records(struct str lines, uint64_t first, uint64_t n)
{
	struct str line = { 0 }, rest = lines;

	for (uint64_t i = 0; i < n; i++) {
		struct leaf l;

		if (!str_cut(rest, '\n', &line, &rest))
			fail_msg("line %llu is missing", (unsigned long long)i);
		assert_true(leaf_scan(line, &l));
		assert_int_equal(l.seq, first + i);
	}
	assert_int_equal(rest.n, 0);
}

static void down_for_days_loses_nothing(void **state)
{
	int64_t before = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		int64_t ms = sink_step(sink, 0);

		assert_true(ms >= before && ms >= SINK_BACKOFF_MS / 2 && ms <= SINK_BACKOFF_MAX_MS);
		before = ms;
	}
	assert_int_equal(status().in_row, 20);
	assert_int_equal(status().next, 0);
	assert_true(status().since_ms > 0);
	assert_non_null(strstr(status().why.msg, path));
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(drain(), 4);
	assert_int_equal(status().next, RECORDS);
	assert_int_equal(status().sent, RECORDS);
	assert_int_equal(status().failures, 20);
	assert_int_equal(status().since_ms, 0);
	expect_records(content(path), 0, RECORDS);
	assert_int_equal(sink_step(sink, 0), SINK_POLL_MS);
}

static void goes_on_where_it_was(void **state)
{
	(void)state;
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(sink_step(sink, 0), 0);
	restart();
	assert_int_equal(sink_step(sink, 0), 0);
	assert_int_equal(status().next, (size_t)2 * SINK_PAGE_ROWS);
	restart();
	assert_int_equal(drain(), 2);
	expect_records(content(path), 0, RECORDS);
}

static void a_rotated_file_is_begun_anew(void **state)
{
	(void)state;
	settings.format = &format_jsonl;
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(sink_step(sink, 0), 0);
	assert_int_equal(rename(path, rotated), 0);
	drain();
	expect_records(content(rotated), 0, SINK_PAGE_ROWS);
	expect_records(content(path), SINK_PAGE_ROWS, RECORDS - SINK_PAGE_ROWS);
}

static void each_file_of_csv_has_a_head(void **state)
{
	(void)state;
	settings.format = &format_csv;
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(sink_step(sink, 0), 0);
	assert_int_equal(rename(path, rotated), 0);
	drain();
	assert_true(str_starts(content(rotated), str_c(format_csv.head)));
	assert_true(str_starts(content(path), str_c(format_csv.head)));
	assert_null(strstr(content(path).p + 1, "index,time"));
}

/* A crash in the middle of a line: the line stays, and swallows nothing. */
static void half_a_line_is_ended(void **state)
{
	FILE *out;
	struct str line = { 0 }, rest = { 0 };

	(void)state;
	assert_int_equal(mkdir(folder, 0700), 0);
	out = fopen(path, "we");
	assert_non_null(out);
	fputs("{\"half\":", out);
	fclose(out);
	drain();
	assert_true(str_cut(content(path), '\n', &line, &rest));
	assert_true(str_eq(line, STR("{\"half\":")));
	expect_records(rest, 0, RECORDS);
}

static void what_is_no_file_of_ours_is_refused(void **state)
{
	(void)state;
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_true(sink_step(sink, 0) > 0);
	assert_int_equal(status().in_row, 1);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_true(sink_step(sink, 0) > 0);
	assert_non_null(strstr(status().why.msg, "not a regular file"));
}

static void cursors_are_read_strictly(void **state)
{
	static const struct {
		const char *cursor, *why; /* NULL: it will do */
	} cases[] = {
		{ "writ-sink/1\n" ORIGIN "\n1000\n", NULL },
		{ "writ-sink/1\n" ORIGIN "\n1001\n", NULL },
		{ "writ-sink/1\n" ORIGIN "\n1002\n", "not of one history" },
		{ "writ-sink/1\nother.example/writ\n5\n", "of the log other.example/writ" },
		{ "writ-sink/2\n" ORIGIN "\n5\n", "no cursor" },
		{ "writ-sink/1\n" ORIGIN "\n-5\n", "no cursor" },
		{ "writ-sink/1\n" ORIGIN "\n05\n", "no cursor" },
		{ "writ-sink/1\n" ORIGIN "\n5", "no cursor" },
		{ "writ-sink/1\n" ORIGIN "\n5\n5\n", "no cursor" },
		{ "", "no cursor" },
	};
	char cursor[200];

	(void)state;
	assert_int_equal(mkdir(folder, 0700), 0);
	snprintf(cursor, sizeof(cursor), "%s/sink-test", f.folder);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		FILE *out = fopen(cursor, "we");

		assert_non_null(out);
		fputs(cases[i].cursor, out);
		fclose(out);
		restart();
		(void)sink_step(sink, 0);
		if (!cases[i].why != !status().in_row ||
		    (cases[i].why && !strstr(status().why.msg, cases[i].why)))
			fail_msg("%s: %s", cases[i].cursor, status().why.msg);
	}
}

static void backs_off(void **state)
{
	static const struct {
		uint32_t failures, random;
		int64_t ms;
	} cases[] = {
		{ 1, 0, 500 },		{ 1, 500, 1000 },	{ 2, 0, 1000 },
		{ 3, 2000, 4000 },	{ 9, 0, 128000 },	{ 10, 0, 150000 },
		{ 10, 150000, 300000 }, { 1000000, 0, 150000 }, { UINT32_MAX, 150000, 300000 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(sink_delay_ms(cases[i].failures, cases[i].random), cases[i].ms);
	for (uint32_t i = 0; i < 1000; i++) {
		int64_t ms = sink_delay_ms(4, i * 2654435761u);

		assert_true(ms >= 4000 && ms <= 8000);
	}
}

/* The example of the Standard Webhooks specification. */
static void signs_as_standard_webhooks(void **state)
{
	static const struct {
		const char *secret, *signature; /* NULL: refused */
	} cases[] = {
		{ "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		  "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" },
		{ "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", NULL },
		{ "whsec_", NULL },
		{ "whsec_c2hvcnQ=", NULL },
		{ "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", NULL },
		{ "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		  "AAAAAAAAAAAAAAAAAA",
		  NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = { 0 };
		bool ok;

		buf_reset(&text);
		ok = sink_sign(str_c(cases[i].secret), STR("msg_p5jXN8AQM9LWM0D4loKWxJek"),
			       1614265330, STR("{\"test\": 2432232314}"), &text, &e);
		if (ok != !!cases[i].signature ||
		    (ok && !str_eq(buf_str(&text), str_c(cases[i].signature))))
			fail_msg("%s: %.*s", cases[i].secret, STR_FMT(buf_str(&text)));
	}
}

static void addresses_of_syslog(void **state)
{
	static const struct {
		const char *text;
		int kind;
		const char *host, *port; /* NULL: refused */
	} cases[] = {
		{ "unix:/dev/log", ADDRESS_UNIX, "/dev/log", "" },
		{ "udp:127.0.0.1:1514", ADDRESS_UDP, "127.0.0.1", "1514" },
		{ "udp:siem.example", ADDRESS_UDP, "siem.example", "514" },
		{ "tcp:siem.example:601", ADDRESS_TCP, "siem.example", "601" },
		{ "tcp:[::1]:601", ADDRESS_TCP, "::1", "601" },
		{ "tcp:[::1]", ADDRESS_TCP, "::1", "514" },
		{ "", 0, NULL, NULL },
		{ "unix:", 0, NULL, NULL },
		{ "unix:dev/log", 0, NULL, NULL },
		{ "tcp:", 0, NULL, NULL },
		{ "tcp::601", 0, NULL, NULL },
		{ "tcp:host:0", 0, NULL, NULL },
		{ "tcp:host:65536", 0, NULL, NULL },
		{ "tcp:host:port", 0, NULL, NULL },
		{ "tcp://host:601", 0, NULL, NULL },
		{ "tls:host:6515", ADDRESS_TLS, "host", "6515" },
		{ "tls:siem.example", ADDRESS_TLS, "siem.example", "6514" },
		{ "tls:[::1]", ADDRESS_TLS, "::1", "6514" },
		{ "tls:", 0, NULL, NULL },
		{ "ssl:host:6514", 0, NULL, NULL },
		{ "host:601", 0, NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct sink_address a = { .kind = ADDRESS_UNIX };
		struct err e = { 0 };
		bool ok = sink_address_parse(cases[i].text, &a, &e);

		if (ok != !!cases[i].host)
			fail_msg("%s: %s", cases[i].text, ok ? "accepted" : e.msg);
		if (ok && ((int)a.kind != cases[i].kind || strcmp(a.host, cases[i].host) != 0 ||
			   strcmp(a.port, cases[i].port) != 0))
			fail_msg("%s: %s %s", cases[i].text, a.host, a.port);
	}
}

static void heads_of_syslog(void **state)
{
	static const struct {
		const char *kind, *more, *head;
	} cases[] = {
		{ "authz.decision", "",
		  "<110>1 2025-10-09T08:53:20.123Z n1 writ - authz.decision - " },
		{ "request.refused", "",
		  "<108>1 2025-10-09T08:53:20.123Z n1 writ - request.refused - " },
		{ "log.gap", "", "<107>1 2025-10-09T08:53:20.123Z n1 writ - log.gap - " },
		{ "policy.load", "", "<109>1 2025-10-09T08:53:20.123Z n1 writ - policy.load - " },
		{ "a b\\n<1>c", "", "<110>1 2025-10-09T08:53:20.123Z n1 writ - a_b_<1>c - " },
	};
	struct format_record r;
	struct buf scratch;

	(void)state;
	buf_init(&scratch, mem_system, FORMAT_LEAF_MAX + 1);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *decision = i ? "" : "\"decision\":\"permit\",";
		struct err e = { 0 };
		char leaf[500];

		snprintf(leaf, sizeof(leaf),
			 "{\"boot\":\"b\",%s\"kind\":\"%s\",\"node\":\"n1\",\"prev\":\"%064d\","
			 "\"seq\":7,\"time\":1760000000123,\"v\":1}",
			 decision, cases[i].kind, 0);
		if (!format_record_read(&r, STR(ORIGIN), str_c(leaf), STR("00"), &scratch, &e))
			fail_msg("%s: %s", leaf, e.msg);
		buf_reset(&text);
		sink_syslog_head(&r, &text);
		if (!str_eq(buf_str(&text), str_c(cases[i].head)))
			fail_msg("%.*s", STR_FMT(buf_str(&text)));
	}
	buf_clear(&scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(down_for_days_loses_nothing, new_sink, end_sink),
		cmocka_unit_test_setup_teardown(goes_on_where_it_was, new_sink, end_sink),
		cmocka_unit_test_setup_teardown(a_rotated_file_is_begun_anew, new_sink, end_sink),
		cmocka_unit_test_setup_teardown(each_file_of_csv_has_a_head, new_sink, end_sink),
		cmocka_unit_test_setup_teardown(half_a_line_is_ended, new_sink, end_sink),
		cmocka_unit_test_setup_teardown(what_is_no_file_of_ours_is_refused, new_sink,
						end_sink),
		cmocka_unit_test_setup_teardown(cursors_are_read_strictly, new_sink, end_sink),
		cmocka_unit_test(backs_off),
		cmocka_unit_test(signs_as_standard_webhooks),
		cmocka_unit_test(addresses_of_syslog),
		cmocka_unit_test(heads_of_syslog),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
