/* However the bytes of a request are cut, the reader sees the same; and what it accepts, written
 * out again from what it understood, reads as the same request: no byte means two things. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/net/http1.h"

static const struct http1_limits limits = { .head = 2048, .url = 256, .headers = 16, .body = 512 };

struct result {
	enum http1_state state;
	struct arena arena;
	struct http1 r;
	struct err e;
	size_t used;
};

static void read_all(struct result *o, struct str in, size_t cut)
{
	struct str pieces[] = { str_first(in, cut), str_from(in, cut) };

	arena_init(&o->arena, &mem_system, 256 * 1024);
	http1_begin(&o->r, &limits, &o->arena);
	o->state = HTTP1_MORE;
	o->used = 0;
	for (size_t i = 0; i < ARRAY_LEN(pieces) && o->state == HTTP1_MORE; i++) {
		struct str rest = pieces[i];
		size_t used;

		do {
			o->state = http1_feed(&o->r, rest, &used, &o->e);
			if (used > rest.n)
				abort();
			o->used += used;
			rest = str_from(rest, used);
		} while (o->state == HTTP1_CONTINUE);
		if (o->state == HTTP1_MORE && rest.n)
			abort();
	}
}

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void must_equal(const struct result *a, const struct result *b)
{
	must(a->state == b->state);
	if (a->state == HTTP1_REFUSED) {
		must(a->r.status == b->r.status && strcmp(a->e.msg, b->e.msg) == 0);
		return;
	}
	must(a->used == b->used && a->r.nheaders == b->r.nheaders);
	must(str_eq(a->r.method, b->r.method) && str_eq(a->r.target, b->r.target));
	must(str_eq(a->r.body, b->r.body) && a->r.keep_alive == b->r.keep_alive);
	for (size_t i = 0; i < a->r.nheaders; i++)
		must(str_eq(a->r.headers[i].name, b->r.headers[i].name) &&
		     str_eq(a->r.headers[i].value, b->r.headers[i].value));
}

/* The request as the reader understood it, in the plainest form. */
static void write_again(struct buf *out, const struct http1 *r, bool old)
{
	buf_add(out, r->method);
	buf_char(out, ' ');
	buf_add(out, r->target);
	buf_add(out, old ? STR(" HTTP/1.0\r\n") : STR(" HTTP/1.1\r\n"));
	for (size_t i = 0; i < r->nheaders; i++) {
		if (str_eq(r->headers[i].name, STR("transfer-encoding")))
			continue;
		buf_add(out, r->headers[i].name);
		buf_char(out, ':');
		buf_add(out, r->headers[i].value);
		buf_lit(out, "\r\n");
	}
	if (r->chunked)
		buf_printf(out, "content-length:%zu\r\n", r->body.n);
	buf_lit(out, "\r\n");
	buf_add(out, r->body);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };
	struct result whole, cut, again;

	read_all(&whole, in, n);
	read_all(&cut, in, n ? p[n - 1] * n / 256 : 0);
	must_equal(&whole, &cut);
	if (whole.state == HTTP1_DONE) {
		AUTO_BUF out;

		buf_init(&out, mem_system, 16384);
		write_again(&out, &whole.r, whole.r.minor0);
		/* Its length line may be one too many or too long for the limits. */
		read_all(&again, buf_str(&out), out.n);
		if (again.state != HTTP1_DONE || again.used != out.n)
			must(again.state == HTTP1_REFUSED && whole.r.chunked &&
			     again.r.status == 431);
		else
			must(str_eq(again.r.body, whole.r.body) &&
			     str_eq(again.r.target, whole.r.target) &&
			     again.r.keep_alive == whole.r.keep_alive);
		arena_clear(&again.arena);
	}
	arena_clear(&whole.arena);
	arena_clear(&cut.arena);
	return 0;
}
