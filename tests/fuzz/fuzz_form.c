/* A form that is read, written again in the one spelling that needs no thought, says the same. */
#include <stdlib.h>

#include "authz/base/buf.h"
#include "authz/base/text.h"
#include "authz/net/form.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void put(struct buf *b, struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		buf_printf(b, "%%%02X", (unsigned char)s.p[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct form one, two;
	struct err e = { 0 };
	struct arena a;
	struct buf b;

	arena_init(&a, &mem_system, 1 << 20);
	if (!form_parse((struct str){ (const char *)p, n }, &a, &one, &e)) {
		if (e.class == ERR_NONE || !e.msg[0])
			abort();
		arena_clear(&a);
		return 0;
	}
	buf_in_arena(&b, &a, 1 << 19);
	for (size_t i = 0; i < one.n; i++) {
		if (!one.pairs[i].name.n || !one.pairs[i].value.n ||
		    !text_is_utf8(one.pairs[i].value) || form_count(&one, one.pairs[i].name) == 0)
			abort();
		if (i)
			buf_char(&b, '&');
		put(&b, one.pairs[i].name);
		buf_char(&b, '=');
		put(&b, one.pairs[i].value);
	}
	if (buf_ok(&b) && b.n <= FORM_BYTES_MAX) {
		if (!form_parse(buf_str(&b), &a, &two, &e) || two.n != one.n)
			abort();
		for (size_t i = 0; i < one.n; i++)
			if (!str_eq(one.pairs[i].name, two.pairs[i].name) ||
			    !str_eq(one.pairs[i].value, two.pairs[i].value))
				abort();
	}
	arena_clear(&a);
	return 0;
}
