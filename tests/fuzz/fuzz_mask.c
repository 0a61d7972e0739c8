/*
 * What is masked: a text without a secret stays byte for byte, every marker is one that was
 * counted, and nothing but a marker is new. Of JSON, what comes out is read back, and is as it was
 * if nothing was masked.
 */
#include <stdio.h>
#include <stdlib.h>

#include "authz/audit/mask.h"

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz_mask: %s\n", what);
	abort();
}

static size_t markers(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i + 8 <= s.n; i++)
		n += memcmp(s.p + i, "[masked:", 8) == 0;
	return n;
}

static void text(const struct mask *m, struct str in)
{
	AUTO_BUF out;
	size_t hits;

	buf_init(&out, mem_system, 64 << 20);
	hits = mask_text(m, in, &out);
	need(buf_ok(&out), "no memory");
	need(hits || str_eq(buf_str(&out), in), "a text without a secret changed");
	/* A secret has no bracket but a private key, so markers of the input stay or are part of
	 * one. */
	need(markers(buf_str(&out)) >= hits && markers(buf_str(&out)) <= markers(in) + hits,
	     "a marker that was not counted");
}

static void json(const struct mask *m, struct str in)
{
	const struct json *v = NULL, *again = NULL;
	struct arena a;
	struct err e;
	AUTO_BUF plain, masked;
	size_t hits;

	arena_init(&a, &mem_system, 64 << 20);
	buf_init(&plain, mem_system, 64 << 20);
	buf_init(&masked, mem_system, 64 << 20);
	if (json_parse(in, &json_default_limits, &a, &v, &e)) {
		json_canonical(&plain, v);
		hits = mask_canonical(m, &masked, STR("action"), v);
		need(hits || str_eq(buf_str(&plain), buf_str(&masked)),
		     "unmasked, and not as it was");
		need(json_parse(buf_str(&masked), &json_default_limits, &a, &again, &e) ||
			     e.class != ERR_INVALID,
		     "what was written is no JSON");
	}
	arena_clear(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };
	struct mask m = { 0 };
	struct err e;

	if (n && !(p[0] & 1)) {
		need(mask_add_field(&m, STR("args.password"), &e), "a rule was refused");
		need(mask_add_field(&m, STR("**.a.*"), &e), "a rule was refused");
	}
	need(mask_add_detector(&m, STR("token"), &e) && mask_add_detector(&m, STR("key"), &e) &&
		     mask_add_detector(&m, STR("credit_card"), &e),
	     "a detector was refused");
	text(&m, in);
	json(&m, in);
	return 0;
}
