/* Event streams: taken apart as a browser would (HTML 9.2), and put together again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/extauthz/event_stream.h"

/* Each event's data, shown as <data>; put: the stream with "new" in place of each data. */
static const struct {
	const char *why, *text, *data, *put;
} rows[] = {
	{ "nothing", "", "", "" },
	{ "one", "data: a\n\n", "<a>", "data: new\n\n" },
	{ "no space", "data:a\n\n", "<a>", "data: new\n\n" },
	{ "two spaces", "data:  a\n\n", "< a>", "data: new\n\n" },
	{ "CR LF", "data: a\r\n\r\n", "<a>", "data: new\n\n" },
	{ "CR", "data: a\r\rdata: b\r\r", "<a><b>", "data: new\n\ndata: new\n\n" },
	{ "lines", "data: a\ndata: b\n\n", "<a\nb>", "data: new\n\n" },
	{ "lines around others", "data: a\nid: 7\ndata\ndata: b\n\n", "<a\n\nb>",
	  "id: 7\ndata: new\n\n" },
	{ "other fields", "event: message\nid: 7\nretry: 5\ndata: a\n\n", "<a>",
	  "event: message\nid: 7\nretry: 5\ndata: new\n\n" },
	{ "a comment", ": ping\n\ndata: a\n\n", "<><a>", ": ping\n\ndata: new\n\n" },
	{ "an id alone", "id: 7\ndata:\n\n", "<>", "id: 7\ndata:\n\n" },
	{ "empty lines", "\n\ndata: a\n\n", "<><><a>", "\n\ndata: new\n\n" },
	{ "no end", "data: a\n\ndata: b", "<a><b>", "data: new\n\ndata: new\n\n" },
	{ "another name", "dat: a\ndatax: b\nData: c\n\n", "<>", "dat: a\ndatax: b\nData: c\n\n" },
};

static void events(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct str text = str_c(rows[i].text);
		char data[100] = "", put[200] = "";
		struct buf seen = { .p = data, .cap = 100, .max = 100 };
		struct buf out = { .p = put, .cap = 200, .max = 200 };
		struct event e;
		struct arena a;

		arena_init(&a, &mem_system, 1 << 20);
		while (event_next(&text, &a, &e)) {
			buf_printf(&seen, "<%.*s>", STR_FMT(e.data));
			if (e.data.n)
				event_put(&out, &e, STR("new"));
			else
				buf_add(&out, e.raw);
		}
		if (text.n || !str_eq(buf_str(&seen), str_c(rows[i].data)) ||
		    !str_eq(buf_str(&out), str_c(rows[i].put)))
			fail_msg("%s: %.*s, %.*s", rows[i].why, STR_FMT(buf_str(&seen)),
				 STR_FMT(buf_str(&out)));
		arena_clear(&a);
	}
}

/* Data in several lines is one event's still. */
static void data_of_lines(void **state)
{
	struct event e = { .raw = STR_INIT("data: x\n\n") };
	char put[100] = "";
	struct buf out = { .p = put, .cap = 100, .max = 100 };

	(void)state;
	event_put(&out, &e, STR("{\n\"a\":\r\n1\r}"));
	assert_true(str_eq(buf_str(&out), STR("data: {\ndata: \"a\":\ndata: 1\ndata: }\n\n")));
}

static void without_memory(void **state)
{
	struct str text = STR("data: a\n\n");
	struct event e;
	struct arena a;

	(void)state;
	arena_init(&a, &mem_system, 1);
	assert_false(event_next(&text, &a, &e));
	assert_int_equal(text.n, 9);
	arena_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events),
		cmocka_unit_test(data_of_lines),
		cmocka_unit_test(without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
