/* Server-sent events in every cut, and answers of which no more is read than is wanted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <string.h>

#include "authz/net/response.h"
#include "authz/net/sse.h"

static const struct {
	const char *why, *body, *events; /* '|' behind each */
} rows[] = {
	{ "nothing", "", "" },
	{ "one", "data: a\n\n", "a|" },
	{ "without a blank", "data:a\n\n", "a|" },
	{ "two blanks", "data:  a\n\n", " a|" },
	{ "CR LF", "data: a\r\n\r\n", "a|" },
	{ "two lines", "data: a\ndata: b\n\n", "a\nb|" },
	{ "an empty line of data", "data\ndata:\ndata: b\n\n", "\n\nb|" },
	{ "names, ids, comments", "event: message\nid: 7\n: hi\nretry: 5\ndata: a\n\n", "a|" },
	{ "a comment alone", ": ping\n\ndata: a\n\n", "a|" },
	{ "blank lines", "\n\n\ndata: a\n\n\n\ndata: b\n\n", "a|b|" },
	{ "a byte order mark",
	  "\xef\xbb\xbf"
	  "data: a\n\n",
	  "a|" },
	{ "other fields", "date: x\ndatas: y\n data: z\nDATA: w\n\ndata: a\n\n", "a|" },
	{ "empty data", "data:\n\n", "|" },
	{ "not over yet", "data: a\n\ndata: b\n", "a|" },
	{ "not even a line", "data: a", "" },
	{ "colons", "data: a: b:c\n\n", "a: b:c|" },
};

static void events_are_read_in_every_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (size_t cut = 0; cut <= strlen(rows[i].body); cut++) {
			struct str body = str_c(rows[i].body);
			struct sse s = { 0 };
			AUTO_BUF all;
			AUTO_BUF data;

			buf_init(&all, mem_system, 1000);
			buf_init(&data, mem_system, 1000);
			for (int whole = 0; whole < 2; whole++)
				while (sse_next(&s, whole ? body : str_first(body, cut), &data)) {
					buf_add(&all, buf_str(&data));
					buf_char(&all, '|');
				}
			if (!str_eq(buf_str(&all), str_c(rows[i].events)))
				fail_msg("%s, cut at %zu: %.*s", rows[i].why, cut,
					 STR_FMT(buf_str(&all)));
		}
}

/* ---- enough ---- */

struct drip {
	struct str rest;
	size_t piece;
	bool over; /* somebody read behind the end: on a socket it would wait */
};

static bool drip_read(void *ctx, char *p, size_t n, size_t *got, struct err *e)
{
	struct drip *d = ctx;

	(void)e;
	d->over = d->rest.n == 0;
	*got = d->piece < n ? d->piece : n;
	if (*got > d->rest.n)
		*got = d->rest.n;
	if (*got)
		memcpy(p, d->rest.p, *got);
	d->rest = str_from(d->rest, *got);
	return true;
}

static bool has_b(void *ctx, struct str body)
{
	(void)ctx;
	return memchr(body.p, 'b', body.n) != NULL;
}

#define OK "HTTP/1.1 200 OK\r\nKeep-Me: x y\r\n"
static const struct {
	const char *why, *answer;
	const char *kept; /* NULL: refused */
	bool cut, over;
} answers[] = {
	{ "a stream that stays open", OK "Connection: close\r\n\r\naab", "x y", true, false },
	{ "chunks without an end", OK "Transfer-Encoding: chunked\r\n\r\n2\r\naa\r\n3\r\nabc\r\n",
	  "x y", true, false },
	{ "in the middle of a length", OK "Content-Length: 100\r\n\r\nab", "x y", true, false },
	{ "never enough", OK "Content-Length: 2\r\n\r\naa", "x y", false, false },
	{ "never enough, to the end", OK "Connection: close\r\n\r\naa", "x y", false, true },
	{ "another status", "HTTP/1.1 202 A\r\nConnection: close\r\n\r\nb", "", false, true },
	{ "no such header", "HTTP/1.1 200 A\r\nContent-Length: 0\r\n\r\n", "", false, false },
	{ "in an interim answer",
	  "HTTP/1.1 100 C\r\nKeep-Me: z\r\n\r\n" OK "Content-Length: 0\r\n\r\n", "x y", false,
	  false },
	{ "twice", OK "KEEP-ME: x y\r\nContent-Length: 0\r\n\r\n", NULL, false, false },
};

static void no_more_is_read_than_is_wanted(void **state)
{
	static const size_t pieces[] = { 1, 2, 1000 };
	const struct response_want want = { .enough = has_b, .keep = "keep-me" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
			struct drip d = { str_c(answers[i].answer), pieces[p], false };
			const struct response_source source = { drip_read, &d };
			struct response r = { 0 };
			struct err e = { 0 };
			bool ok;

			buf_init(&r.body, mem_system, 1000);
			ok = response_read(&source, &want, &r, &e);
			if (ok != (answers[i].kept != NULL) ||
			    (ok && (strcmp(r.kept, answers[i].kept) != 0 ||
				    r.cut != answers[i].cut || d.over != answers[i].over)))
				fail_msg("%s by %zu: %d %s, kept \"%s\", cut %d, over %d",
					 answers[i].why, pieces[p], ok, e.msg, r.kept, r.cut,
					 d.over);
			buf_clear(&r.body);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_are_read_in_every_cut),
		cmocka_unit_test(no_more_is_read_than_is_wanted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
