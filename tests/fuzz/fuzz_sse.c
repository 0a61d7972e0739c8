/* An event stream: the same events however it comes in pieces, and nothing that was not in it. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/net/sse.h"

static void read_on(struct sse *s, struct str body, struct buf *all)
{
	AUTO_BUF data;

	buf_init(&data, mem_system, 1 << 20);
	while (sse_next(s, body, &data)) {
		if (s->at > body.n || data.n > body.n)
			abort();
		buf_add(all, buf_str(&data));
		buf_char(all, '\0');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str body = { (const char *)p, n };
	struct sse once = { 0 }, bit = { 0 };
	AUTO_BUF whole;
	AUTO_BUF cut;

	buf_init(&whole, mem_system, 1 << 21);
	buf_init(&cut, mem_system, 1 << 21);
	read_on(&once, body, &whole);
	for (size_t i = 0; i <= n; i += n > 1000 ? n / 1000 : 1)
		read_on(&bit, str_first(body, i), &cut);
	read_on(&bit, body, &cut);
	if (!str_eq(buf_str(&whole), buf_str(&cut)) || whole.n > n)
		abort();
	return 0;
}
