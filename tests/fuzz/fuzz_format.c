/* Whatever a record's texts are: every JSON format stays JSON that says them again, every row stays
 * one line, and a row of CSV keeps its columns and has no formula. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/audit/format.h"
#include "authz/audit/record.h"
#include "authz/base/json.h"

static struct buf text, scratch, out;
static char leaf[FORMAT_LEAF_MAX + 1];

/* Five members of whatever comes, parted by a byte that is rare. */
static struct str draft(struct str in)
{
	static const char *const names[] = { "action", "agent", "kind", "reason", "tool" };
	const struct record_own own = { .boot = STR_INIT("b"), .node = STR_INIT("n"), .seq = 7 };
	struct record r;
	struct str part;

	buf_reset(&text);
	record_begin(&r, &text);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!str_cut(in, '\xff', &part, &in)) {
			part = in;
			in = (struct str){ NULL, 0 };
		}
		if (!part.n && str_eq(str_c(names[i]), STR("kind")))
			part = STR("authz.decision");
		record_str(&r, str_c(names[i]), part);
	}
	if (!record_ok(&r) || text.n + RECORD_OWN_MAX > sizeof(leaf))
		return (struct str){ NULL, 0 };
	return (struct str){ leaf, record_leaf(&r, &own, leaf) };
}

static void check_json(const struct audit_format *f, const struct format_record *r)
{
	const struct json *v;
	struct arena a;
	struct err e;

	arena_init(&a, &mem_system, (size_t)16 << 20);
	if (!json_parse(buf_str(&out), &json_default_limits, &a, &v, &e))
		abort();
	if (f == &format_cloudevents && !str_eq(json_get(v, STR("data"))->raw, r->leaf))
		abort();
	arena_clear(&a);
}

static void check_csv(void)
{
	size_t columns = 1, wanted = 1;
	bool quoted = false;
	int begins = 2; /* a cell: 1 behind its quote */

	for (const char *p = format_csv.head; *p; p++)
		wanted += *p == ',';
	for (size_t i = 0; i < out.n; i++) {
		char c = out.p[i];

		if (begins && memchr("=+-@\t\r\n", c, 7))
			abort();
		begins = !quoted && c == ',' ? 2 : begins == 2 && c == '"';
		quoted ^= c == '"';
		columns += !quoted && c == ',';
	}
	if (quoted || columns != wanted)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char hash[] =
		"0000000000000000000000000000000000000000000000000000000000000000";
	static struct format_chain chain;
	static struct format_record r = { .chain = &chain };
	struct str row;
	struct err e;

	if (n && memchr(p, 0, n)) /* what reads for writ refuses it */
		return 0;
	if (!out.max) {
		buf_init(&text, mem_system, FORMAT_LEAF_MAX);
		buf_init(&scratch, mem_system, FORMAT_LEAF_MAX + 1);
		buf_init(&out, mem_system, FORMAT_ROW_MAX);
		chain.sha = sha256_new(NULL);
	}
	row = draft((struct str){ (const char *)p, n });
	if (!row.n)
		return 0;
	if (!format_record_read(&r, STR("a/writ"), row, str_c(hash), &scratch, &e))
		abort(); /* what writ writes it reads */
	for (size_t i = 0; audit_formats[i]; i++) {
		chain.begun = false;
		if (audit_formats[i]->begin)
			audit_formats[i]->begin(&r, &out);
		buf_reset(&out);
		audit_formats[i]->row(&r, &out);
		if (!buf_ok(&out))
			abort();
		if (audit_formats[i] == &format_csv)
			check_csv();
		else if (memchr(out.p, '\n', out.n))
			abort();
		else if (audit_formats[i] != &format_cef)
			check_json(audit_formats[i], &r);
	}
	return 0;
}
