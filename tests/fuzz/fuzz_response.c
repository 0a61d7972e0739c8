/* Whatever a server sends: the same reading in every cut, and never more than the bound. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/net/response.h"

#define BOUND 4096

struct cut {
	struct str rest;
	size_t piece;
};

static bool read_cut(void *ctx, char *p, size_t n, size_t *got, struct err *e)
{
	struct cut *c = ctx;

	(void)e;
	*got = c->piece < n ? c->piece : n;
	if (*got > c->rest.n)
		*got = c->rest.n;
	if (*got)
		memcpy(p, c->rest.p, *got);
	c->rest = str_from(c->rest, *got);
	return true;
}

static bool read_all(struct str bytes, size_t piece, struct response *r)
{
	const struct response_want want = { 0 };
	struct cut c = { bytes, piece };
	const struct response_source source = { read_cut, &c };
	struct err e = { 0 };
	bool ok;

	*r = (struct response){ 0 };
	buf_init(&r->body, mem_system, BOUND);
	ok = response_read(&source, &want, r, &e);
	if (!ok && (e.class == ERR_NONE || !e.msg[0]))
		abort(); /* a refusal says why */
	return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str bytes = { (const char *)p, n };
	struct response whole, cut;
	bool a = read_all(bytes, SIZE_MAX, &whole), b = read_all(bytes, 1, &cut);

	if (a != b || whole.body.n > BOUND)
		abort();
	if (a && (whole.status != cut.status || whole.status < 200 || whole.status > 599 ||
		  strcmp(whole.type, cut.type) != 0 || strcmp(whole.location, cut.location) != 0 ||
		  !str_eq(buf_str(&whole.body), buf_str(&cut.body)) || whole.body.n > n))
		abort();
	buf_clear(&whole.body);
	buf_clear(&cut.body);
	return 0;
}
