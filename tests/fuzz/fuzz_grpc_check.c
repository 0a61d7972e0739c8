/* CheckRequest: what is accepted keeps its promises, and a denial is never an empty message. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/protobuf.h"
#include "authz/base/text.h"
#include "authz/extauthz/grpc_message.h"

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

static void look(const struct grpc_described *d, struct str in)
{
	need(d->nheaders <= GRPC_HEADERS_MAX && d->nsettings <= GRPC_SETTINGS_MAX, "too many");
	need(d->http || (!d->nheaders && !d->body.n), "a request out of nothing");
	need(text_is_utf8(d->method) && text_is_utf8(d->host) && text_is_utf8(d->principal),
	     "a text that is not UTF-8");
	need(within(d->method, in) && within(d->target, in) && within(d->body, in) &&
		     within(d->certificate, in),
	     "a text from elsewhere");
	for (size_t i = 0; i < d->nheaders; i++) {
		const struct http_header *h = &d->headers[i];

		need(h->name.n && h->name.p[0] != ':' && within(h->value, in), "a header");
		need(!memchr(h->value.p, 0, h->value.n) && !memchr(h->value.p, '\r', h->value.n) &&
			     !memchr(h->value.p, '\n', h->value.n),
		     "a line's end in a header");
	}
}

/* A verdict with foreign texts in it: the first thing said is a status that denies. */
static void deny(struct str in)
{
	struct check_verdict v = { .status = 403, .reason = STR("no_rule"), .body = in };
	struct pb_reader r, s;
	struct pb_field f;
	uint64_t code = 0;
	struct buf b;

	buf_init(&b, mem_system, GRPC_RESPONSE_MAX);
	grpc_message_write(&b, &v);
	need(buf_ok(&b), "no answer");
	r = pb_reader(buf_str(&b));
	need(pb_next(&r, &f) && f.number == 1 && f.wire == PB_BYTES, "no status");
	s = pb_reader(f.bytes);
	need(pb_next(&s, &f) && f.number == 1, "no code");
	pb_u64(&s, &f, &code);
	need(code == 7, "a denial that allows");
	while (pb_next(&r, &f))
		;
	need(!r.why, "an answer that cannot be read");
	buf_clear(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };
	struct grpc_described d;
	struct arena a;
	struct err e;

	arena_init(&a, &mem_system, 1 << 20);
	if (grpc_message_read(in, &a, &d, &e))
		look(&d, in);
	else
		need(e.class != ERR_NONE && e.code && e.msg[0], "a refusal without a reason");
	deny(in);
	arena_clear(&a);
	return 0;
}
