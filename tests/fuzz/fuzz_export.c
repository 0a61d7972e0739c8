/*
 * The verifier never falls over, gives one verdict for any cut into pieces, and never calls
 * anything authentic: no input of a fuzzer holds a signature by a key it does not have. What it
 * finds consistent without a key has as many records as it says.
 */
#include <stdint.h>
#include <stdlib.h>

#include "authz/audit/flat.h"
#include "authz/audit/verify.h"

static void verify(struct str in, size_t piece, struct str vkey, struct verify_report *r)
{
	struct verify_options o = { .vkey = vkey };
	struct verifier *v;
	struct err e;

	if (!verifier_new(&o, &v, &e))
		abort();
	for (size_t at = 0; at < in.n; at += piece)
		verifier_feed(v, str_first(str_from(in, at), piece));
	verifier_finish(v, r);
	verifier_free(v);
}

static void same(const struct verify_report *a, const struct verify_report *b)
{
	if (a->result != b->result || a->fault != b->fault || a->bad_seq != b->bad_seq ||
	    a->integrity != b->integrity || a->withheld != b->withheld ||
	    a->openings != b->openings || strcmp(a->why.msg, b->why.msg) != 0)
		abort();
}

/* Scanning a flat object visits all of its bytes. */
static void scan(struct str in)
{
	struct flat f;
	struct flat_member m;
	size_t bytes = 2;
	bool first = true;

	flat_begin(&f, in);
	while (flat_next(&f, &m)) {
		bytes += (first ? 0 : 1) + m.name.n + 3 + m.value.n + (m.is_string ? 2 : 0);
		first = false;
	}
	if (!f.failed && bytes != in.n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const struct str vkey = STR("writ.example/audit+f7ad3804+"
				    "AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4");
	struct str in = { (const char *)p, n };
	struct verify_report whole, pieces, keyed;
	struct buf json;
	uint64_t lines = 0;

	scan(in);
	verify(in, n ? n : 1, (struct str){ 0 }, &whole);
	verify(in, 1 + n / 7, (struct str){ 0 }, &pieces);
	verify(in, n ? n : 1, vkey, &keyed);
	same(&whole, &pieces);
	if (whole.result == VERIFY_HOLDS || keyed.result == VERIFY_HOLDS ||
	    keyed.authenticity == VERDICT_YES || keyed.result == VERIFY_UNAUTHENTICATED)
		abort();
	for (size_t i = 0; i < n; i++)
		lines += p[i] == '\n';
	if (whole.result == VERIFY_UNAUTHENTICATED &&
	    (whole.integrity != VERDICT_YES || whole.count + whole.openings + 2 != lines))
		abort();
	buf_init(&json, mem_system, 65536);
	verify_report_json(&whole, &json);
	if (!buf_ok(&json))
		abort();
	buf_clear(&json);
	return 0;
}
