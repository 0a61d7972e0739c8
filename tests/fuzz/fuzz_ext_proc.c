/* ProcessingRequest, and event streams: nothing of them is lost, and what is put in is what comes
 * out. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/extauthz/event_stream.h"
#include "authz/extauthz/ext_proc_message.h"

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

static bool within(struct str part, struct str whole)
{
	return !part.n || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

static void message(struct str in)
{
	struct proc_request q;
	struct err e;

	if (!proc_read(in, &q, &e))
		return;
	need(q.part >= PROC_REQUEST_HEADERS && q.part <= PROC_RESPONSE_TRAILERS, "no part");
	need(within(q.body, in) && within(q.content_type, in) && within(q.checked.list, in),
	     "a text from elsewhere");
	need(q.checked.known == (q.checked.decisions.n != 0), "a decision out of nothing");
}

/* The same event with other data, read again, has that data and no other. */
static void replace(const struct event *event, struct arena *a)
{
	struct str text;
	struct event again;
	struct buf b;

	buf_in_arena(&b, a, 2 * event->raw.n + 100);
	event_put(&b, event, STR("new\nlines"));
	need(buf_ok(&b), "no room");
	text = buf_str(&b);
	need(event_next(&text, a, &again) && str_eq(again.data, STR("new\nlines")), "other data");
	need(text.n == 0, "one event became two");
}

static void events(struct str in)
{
	struct str text = in;
	size_t seen = 0;
	struct event e;
	struct arena a;

	arena_init(&a, &mem_system, 1 << 26);
	while (event_next(&text, &a, &e)) {
		need(e.raw.n && e.raw.p == in.p + seen, "a gap");
		seen += e.raw.n;
		need(!memchr(e.data.p, '\r', e.data.n), "a line's end in data");
		if (e.data.n)
			replace(&e, &a);
	}
	need(text.n || seen == in.n, "something is lost");
	arena_clear(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };

	message(in);
	if (n < 4096)
		events(in);
	return 0;
}
