/* Exports, whole and in part, and everything that can be done to one afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "tests/audit/export_file.h"

#define RECORDS 13 /* log.open and twelve decisions: odd, so the last one is a subtree */

static struct fixture log_of_all;
static char vkey[200];
static struct buf early; /* a checkpoint over seven records */

static const struct audit_filter everything = { .openings = true };

static struct verify_options with_key(void)
{
	return (struct verify_options){ .vkey = str_c(vkey) };
}

static void expect(const struct verify_report *r, const char *why, enum verify_fault fault,
		   int64_t bad)
{
	enum verify_result result = fault ? VERIFY_BROKEN : VERIFY_HOLDS;

	if (r->result != result || r->fault != fault)
		fail_msg("%s: %d %s (%s)", why, r->result, verify_fault_name(r->fault), r->why.msg);
	if (bad >= 0 && (!r->has_bad || r->bad_seq != (uint64_t)bad))
		fail_msg("%s: names record %llu, not %lld (%s)", why,
			 r->has_bad ? (unsigned long long)r->bad_seq : 9999, (long long)bad,
			 r->why.msg);
	if (fault &&
	    (r->integrity == VERDICT_YES && fault != FAULT_FORK && fault != FAULT_TRUNCATION))
		fail_msg("%s: integrity", why);
	if (fault && !r->why.msg[0])
		fail_msg("%s: no sentence", why);
}

/* --- what holds --- */

static void the_whole_log_holds(void **state)
{
	struct verify_options o = with_key();
	struct export_file x;
	struct verify_report r;

	(void)state;
	file_make(&x, &log_of_all, &everything);
	file_verify(&x, &o, &r);
	expect(&r, "whole", FAULT_NONE, -1);
	assert_int_equal(r.count, RECORDS);
	assert_int_equal(r.openings, 3 * (RECORDS - 1));
	assert_int_equal(r.redacted, 0);
	assert_int_equal(r.integrity, VERDICT_YES);
	assert_int_equal(r.completeness, VERDICT_YES);
	assert_int_equal(r.authenticity, VERDICT_YES);
	assert_int_equal(r.anchoring, VERDICT_UNKNOWN);
	assert_string_equal(r.origin, ORIGIN);
	assert_string_equal(r.key_from, "given");
	/* The same with a checkpoint held from before. */
	o.checkpoint = buf_str(&early);
	file_verify(&x, &o, &r);
	expect(&r, "held", FAULT_NONE, -1);
	assert_int_equal(r.anchoring, VERDICT_YES);
	file_clear(&x);
}

static void without_a_key_nothing_is_proven(void **state)
{
	struct verify_options o = { 0 };
	struct export_file x;
	struct verify_report r;

	(void)state;
	file_make(&x, &log_of_all, &everything);
	file_verify(&x, &o, &r);
	assert_int_equal(r.result, VERIFY_UNAUTHENTICATED);
	assert_int_equal(r.authenticity, VERDICT_UNKNOWN);
	assert_int_equal(r.integrity, VERDICT_YES);
	assert_non_null(strstr(r.key_from, "none"));
	file_edit(&x, file_record(&x, 4, NULL), "permitted", "forbidden");
	file_verify(&x, &o, &r);
	expect(&r, "broken without a key", FAULT_EDIT, 4);
	file_clear(&x);
}

/* Every contiguous part, whatever lies around it. */
static void every_part_holds(void **state)
{
	struct verify_options o = with_key();

	(void)state;
	o.checkpoint = buf_str(&early);
	for (uint64_t from = 0; from < RECORDS; from++)
		for (uint64_t to = from + 1; to <= RECORDS; to++) {
			struct audit_filter f = { .from = from, .to = to, .openings = from % 2 };
			struct export_file x;
			struct verify_report r;

			file_make(&x, &log_of_all, &f);
			file_verify(&x, &o, &r);
			expect(&r, "part", FAULT_NONE, -1);
			assert_int_equal(r.first, from);
			assert_int_equal(r.count, to - from);
			/* The checkpoint behind the range is the nearest one. */
			assert_int_equal(r.size, to <= 7 ? 7 : RECORDS);
			if (from <= 7 && (to >= 7 || r.size == 7))
				assert_int_equal(r.anchoring, VERDICT_YES);
			else
				assert_int_equal(r.anchoring, VERDICT_UNKNOWN);
			file_clear(&x);
		}
}

static void filters_withhold_and_still_hold(void **state)
{
	static const struct {
		struct audit_filter f;
		uint64_t withheld;
	} cases[] = {
		{ { .agent = STR_INIT("spiffe://acme.example/agent/billing-7") }, 7 },
		{ { .decision = STR_INIT("deny") }, 9 },
		{ { .kind = STR_INIT("authz.*") }, 1 },
		{ { .kind = STR_INIT("log.open") }, 12 },
		{ { .kind = STR_INIT("nothing") }, 13 },
		{ { .since_ms = INT64_C(1760000000003), .until_ms = INT64_C(1760000000006) }, 0 },
	};
	struct verify_options o = with_key();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct export_file x;
		struct verify_report r;

		file_make(&x, &log_of_all, &cases[i].f);
		file_verify(&x, &o, &r);
		expect(&r, "filter", FAULT_NONE, -1);
		assert_int_equal(r.withheld, cases[i].withheld);
		assert_int_equal(r.completeness, cases[i].withheld ? VERDICT_NO : VERDICT_YES);
		if (cases[i].f.since_ms) {
			assert_int_equal(r.first, 3);
			assert_int_equal(r.count, 3);
		}
		file_clear(&x);
	}
}

static void nothing_to_export_is_said(void **state)
{
	static const struct audit_filter cases[] = {
		{ .from = 100 },
		{ .from = 5, .to = 5 },
		{ .since_ms = INT64_C(1990000000000) },
		{ .until_ms = 5 },
	};
	struct audit_export *x;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct audit_export_options o = { .folder = log_of_all.folder, .filter = cases[i] };

		assert_false(audit_export_open(&o, &x, &e));
		assert_int_equal(e.class, ERR_NOT_FOUND);
	}
}

static void erased_openings_are_counted(void **state)
{
	struct verify_options o = with_key();
	struct export_file x;
	struct verify_report r;
	size_t lines, at;

	(void)state;
	file_make(&x, &log_of_all, &everything);
	at = file_record(&x, 5, &lines);
	assert_int_equal(lines, 4);
	file_delete(&x, at + 2, 1);
	file_edit(&x, x.n - 1, "\"openings\":36", "\"openings\":35");
	file_verify(&x, &o, &r);
	expect(&r, "one opening less", FAULT_NONE, -1);
	assert_int_equal(r.redacted, 1);
	file_clear(&x);
}

/* --- what does not --- */

enum act {
	EDIT,	    /* a word of record a */
	EDIT_SEQ,   /* its number */
	EDIT_PREV,  /* its prev */
	BREAK,	    /* its shape */
	REWRITE,    /* edit record a, chain all anew */
	DELETE,	    /* records a .. b-1 */
	DELETE_FIX, /* the same, and counts of header and trailer made right */
	COPY,	    /* a copy of record a stands also before record b */
	FORGE,	    /* before record b, one made from record a, chained and numbered as b is */
	SWAP,	    /* records a and b */
	CUT,	    /* file ends before record a */
	CUT_FIX,    /* records from a on are missing, counts and sizes made right */
	OPENING,    /* the value of an opening of record a */
	SALT,	    /* its salt */
	MOVE,	    /* its openings behind record b */
	TWICE,	    /* an opening twice */
	TRAILER,    /* text a of the trailer replaced */
};

static void number(struct export_file *x, size_t at, const char *name, uint64_t from, uint64_t to)
{
	char a[50], b[50];

	snprintf(a, sizeof(a), "\"%s\":%llu", name, (unsigned long long)from);
	snprintf(b, sizeof(b), "\"%s\":%llu", name, (unsigned long long)to);
	file_edit(x, at, a, b);
}

/* What a careful forger adjusts. */
static void fix_counts(struct export_file *x, uint64_t gone)
{
	size_t openings = 0;

	for (size_t i = 0; i < x->n; i++)
		openings += strncmp(x->line[i], "{\"opening\":", 11) == 0;
	for (int end = 0; end < 2; end++) {
		size_t at = end ? x->n - 1 : 0;

		number(x, at, "count", RECORDS, RECORDS - gone);
		number(x, at, "size", RECORDS, RECORDS - gone);
	}
	number(x, x->n - 1, "openings", 36, openings);
}

static void delete_records(struct export_file *x, size_t a, size_t b)
{
	for (; b > a; b--) {
		size_t lines, at = file_record(x, a, &lines);

		file_delete(x, at, lines);
	}
}

static void move_lines(struct export_file *x, size_t from, size_t n, size_t to)
{
	for (size_t i = 0; i < n; i++) {
		char *line = strdup(x->line[from]);

		file_delete(x, from, 1);
		file_insert(x, to - 1, line);
		free(line);
	}
}

static void swap_records(struct export_file *x, size_t a, size_t b)
{
	size_t lines_a, lines_b, at_a, at_b = file_record(x, b, &lines_b);

	at_a = file_record(x, a, &lines_a);
	move_lines(x, at_a, lines_a, at_b + lines_b);
	at_b -= lines_a;
	for (size_t i = 0; i < lines_b; i++) {
		char *line = strdup(x->line[at_b + i]);

		file_delete(x, at_b + i, 1);
		file_insert(x, at_a + i, line);
		free(line);
	}
}

static void commit(struct export_file *x, enum act act, size_t a, size_t b)
{
	size_t lines, at = a < file_records(x) ? file_record(x, a, &lines) : 0;
	char *copy;

	switch (act) {
	case EDIT:
	case REWRITE:
		if (a)
			file_edit(x, at, "\"permitted\"", "\"forbidden\"");
		else
			file_edit(x, at, "log.open", "log.opem");
		if (act == REWRITE)
			file_rechain(x, &log_of_all, a);
		break;
	case EDIT_SEQ:
		number(x, at, "seq", a, b);
		break;
	case EDIT_PREV:
		copy = strstr(x->line[at], "\"prev\":\"") + 8;
		*copy = *copy == '0' ? '1' : '0';
		break;
	case BREAK:
		file_edit(x, at, "\"kind\"", "kind");
		break;
	case DELETE:
	case DELETE_FIX:
		delete_records(x, a, b);
		if (act == DELETE_FIX)
			fix_counts(x, b - a);
		break;
	case COPY:
		copy = strdup(x->line[at]);
		file_insert(x, file_record(x, b, NULL), copy);
		free(copy);
		break;
	case FORGE:
		copy = strdup(x->line[file_record(x, b, NULL)]);
		file_insert(x, file_record(x, b, NULL), copy);
		free(copy);
		file_edit(x, file_record(x, b, NULL), "acme.example", "acmf.example");
		break;
	case SWAP:
		swap_records(x, a, b);
		break;
	case CUT:
		file_delete(x, at, x->n - at);
		break;
	case CUT_FIX:
		delete_records(x, a, RECORDS);
		fix_counts(x, RECORDS - a);
		break;
	case OPENING:
		file_edit(x, at + 3, "/srv/", "/tmp/");
		break;
	case SALT:
		copy = strstr(x->line[at + 2], "\"salt\":\"") + 8;
		*copy = *copy == '0' ? '1' : '0';
		break;
	case MOVE:
		move_lines(x, at + 1, 3, file_record(x, b, &lines) + lines);
		break;
	case TWICE:
		file_insert(x, at + 1, x->line[at + 1]);
		break;
	case TRAILER:
		break;
	}
}

static void each_attack_has_its_name(void **state)
{
	static const struct {
		const char *why;
		enum act act;
		size_t a, b;
		enum verify_fault fault;
		int64_t bad;
	} cases[] = {
		{ "first record edited", EDIT, 0, 0, FAULT_EDIT, 0 },
		{ "record edited", EDIT, 5, 0, FAULT_EDIT, 5 },
		{ "last but one edited", EDIT, 11, 0, FAULT_EDIT, 11 },
		{ "last record edited", EDIT, 12, 0, FAULT_EDIT, 12 },
		{ "number edited, forward", EDIT_SEQ, 5, 9, FAULT_EDIT, 5 },
		{ "number edited, backward", EDIT_SEQ, 5, 2, FAULT_EDIT, 5 },
		{ "prev of the first edited", EDIT_PREV, 0, 0, FAULT_EDIT, 0 },
		{ "prev edited", EDIT_PREV, 5, 0, FAULT_EDIT, 5 },
		{ "no JSON any more", BREAK, 5, 0, FAULT_EDIT, 5 },
		{ "rewritten from the first on", REWRITE, 0, 0, FAULT_REWRITE, 0 },
		{ "rewritten from 5 on", REWRITE, 5, 0, FAULT_REWRITE, 0 },
		{ "rewritten from 9 on", REWRITE, 9, 0, FAULT_REWRITE, 8 },
		{ "only the last one rewritten", REWRITE, 12, 0, FAULT_EDIT, 12 },
		{ "first record deleted", DELETE, 0, 1, FAULT_DELETION, 0 },
		{ "record deleted", DELETE, 5, 6, FAULT_DELETION, 5 },
		{ "two neighbours deleted", DELETE, 5, 7, FAULT_DELETION, 5 },
		{ "last but one deleted", DELETE, 11, 12, FAULT_DELETION, 11 },
		{ "deleted, counts made right", DELETE_FIX, 5, 6, FAULT_DELETION, 5 },
		{ "a record again", COPY, 5, 6, FAULT_INSERTION, 5 },
		{ "an old record again", COPY, 2, 6, FAULT_INSERTION, 6 },
		{ "a later record before", COPY, 9, 6, FAULT_INSERTION, 6 },
		{ "the next record before", COPY, 7, 6, FAULT_INSERTION, 6 },
		{ "forged record before a real one", FORGE, 0, 6, FAULT_INSERTION, 6 },
		{ "neighbours swapped", SWAP, 5, 6, FAULT_SWAP, 5 },
		{ "first two swapped", SWAP, 0, 1, FAULT_SWAP, 0 },
		{ "last two swapped", SWAP, 11, 12, FAULT_SWAP, 11 },
		{ "far ones swapped", SWAP, 4, 9, FAULT_SWAP, 4 },
		{ "tail and trailer cut", CUT, 9, 0, FAULT_TRUNCATION, 9 },
		{ "only the header left", CUT, 0, 0, FAULT_TRUNCATION, 0 },
		{ "tail deleted", DELETE, 10, 13, FAULT_TRUNCATION, 10 },
		{ "last record deleted", DELETE, 12, 13, FAULT_TRUNCATION, 12 },
		{ "tail cut, counts made right", CUT_FIX, 10, 0, FAULT_TRUNCATION, 10 },
		{ "opening edited", OPENING, 5, 0, FAULT_OPENING, 5 },
		{ "salt edited", SALT, 5, 0, FAULT_OPENING, 5 },
		{ "openings moved", MOVE, 5, 6, FAULT_OPENING, 6 },
		{ "opening twice", TWICE, 5, 0, FAULT_OPENING, 5 },
	};
	struct verify_options o = with_key();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct export_file x;
		struct verify_report r;

		file_make(&x, &log_of_all, &everything);
		commit(&x, cases[i].act, cases[i].a, cases[i].b);
		file_verify(&x, &o, &r);
		expect(&r, cases[i].why, cases[i].fault, cases[i].bad);
		file_clear(&x);
	}
}

static void header_and_trailer_count(void **state)
{
	static const struct {
		const char *why, *from, *to;
		bool header;
		enum verify_fault fault;
	} cases[] = {
		{ "count up", "\"count\":13", "\"count\":14", false, FAULT_COUNT },
		{ "first", "\"first\":0", "\"first\":1", false, FAULT_COUNT },
		{ "size", "\"size\":13", "\"size\":14", false, FAULT_COUNT },
		{ "openings", "\"openings\":36", "\"openings\":35", false, FAULT_COUNT },
		{ "withheld", "\"withheld\":0", "\"withheld\":1", false, FAULT_COUNT },
		{ "no withheld", ",\"withheld\":0", "", false, FAULT_COUNT },
		{ "hints", "\"hints\":\"", "\"hints\":\"00", false, FAULT_COUNT },
		{ "range", "\"range\":\"", "\"range\":\"00", false, FAULT_COUNT },
		{ "no range", "\"range\"", "\"ranges\"", false, FAULT_COUNT },
		{ "one more", ",\"withheld\":0", ",\"withheld\":0,\"x\":0", false, FAULT_COUNT },
		{ "not an object", "}}", "}", false, FAULT_COUNT },
		{ "another name", "{\"trailer\"", "{\"trailor\"", false, FAULT_COUNT },
		{ "no JSON", "{\"trailer\"", "\"trailer\"", false, FAULT_COUNT },
		{ "tool in the header", "\"tool\":\"writ", "\"tool\":\"wrot", true, FAULT_COUNT },
		{ "no openings in the header", "\"openings\":1", "\"openings\":0", true,
		  FAULT_COUNT },
		{ "size in the checkpoint", "writ\\n13", "writ\\n12", false, FAULT_SIGNATURE },
		{ "root in the checkpoint", "=\\n\\n", "\\n\\n", false, FAULT_SIGNATURE },
		{ "origin in the checkpoint", "acme.example/writ\\n", "bcme.example/writ\\n", false,
		  FAULT_SIGNATURE },
		{ "name of the signer", " acme.example/writ ", " bcme.example/writ ", false,
		  FAULT_SIGNATURE },
		{ "count up in the header", "\"count\":13", "\"count\":14", true, FAULT_COUNT },
		{ "count down in the header", "\"count\":13", "\"count\":12", true,
		  FAULT_INSERTION },
		{ "nothing in the header", "\"count\":13", "\"count\":0", true, FAULT_EMPTY },
		{ "first in the header", "\"first\":0", "\"first\":1", true, FAULT_COUNT },
		{ "size in the header", "\"size\":13", "\"size\":99", true, FAULT_COUNT },
	};
	struct verify_options o = with_key();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct export_file x;
		struct verify_report r;

		file_make(&x, &log_of_all, &everything);
		file_edit(&x, cases[i].header ? 0 : x.n - 1, cases[i].from, cases[i].to);
		file_verify(&x, &o, &r);
		expect(&r, cases[i].why, cases[i].fault, -1);
		file_clear(&x);
	}
}

static void what_is_no_export(void **state)
{
	static const char *const cases[] = {
		"",
		"\n",
		"hello\n",
		"{\"header\":{}}\n",
		"{\"header\":{\"format\":\"writ-audit-export/1\"}}\n",
		"{\"header\":{\"count\":1,\"first\":0,\"format\":\"writ-audit-export/2\",\"size\":1}}\n",
		"{\"header\":{\"count\":-1,\"first\":0,\"format\":\"writ-audit-export/1\",\"size\":1}}\n",
	};
	struct verify_options o = with_key();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct verify_report r;
		struct verifier *v;

		assert_true(verifier_new(&o, &v, NULL));
		verifier_feed(v, str_c(cases[i]));
		verifier_finish(v, &r);
		verifier_free(v);
		if (r.result != VERIFY_UNREADABLE || !r.why.msg[0])
			fail_msg("%d: %s", r.result, cases[i]);
	}
}

static void an_empty_export_is_no_success(void **state)
{
	struct verify_options o = with_key();
	struct export_file x;
	struct verify_report r;

	(void)state;
	file_make(&x, &log_of_all, &everything);
	delete_records(&x, 0, RECORDS);
	number(&x, 0, "count", RECORDS, 0);
	number(&x, x.n - 1, "count", RECORDS, 0);
	number(&x, x.n - 1, "openings", 36, 0);
	file_verify(&x, &o, &r);
	expect(&r, "empty", FAULT_EMPTY, -1);
	file_clear(&x);
}

static void another_key_does_not_do(void **state)
{
	struct verify_options o;
	struct export_file x;
	struct verify_report r;
	struct note_key k;
	struct verifier *v;
	AUTO_BUF other;
	struct err e;

	(void)state;
	fixture_key(&k);
	k.public_key[0] ^= 1;
	assert_true(note_key_make(STR(ORIGIN), k.public_key, &k, &e));
	buf_init(&other, mem_system, 200);
	note_key_format(&k, &other);
	o = (struct verify_options){ .vkey = buf_str(&other) };
	file_make(&x, &log_of_all, &everything);
	file_verify(&x, &o, &r);
	expect(&r, "wrong key", FAULT_SIGNATURE, -1);
	assert_int_equal(r.authenticity, VERDICT_NO);
	file_clear(&x);
	o.vkey = STR("junk");
	assert_false(verifier_new(&o, &v, &e));
	o = with_key();
	o.checkpoint = STR("junk\n");
	assert_false(verifier_new(&o, &v, &e));
	o.vkey = (struct str){ 0 };
	o.checkpoint = buf_str(&early);
	assert_false(verifier_new(&o, &v, &e));
}

/* Signed by the same key, but not the history that was shown before. */
static void a_fork_is_told(void **state)
{
	struct verify_options o = with_key();
	struct fixture other;
	struct export_file x;
	struct verify_report r;
	AUTO_BUF note;
	struct err e;

	(void)state;
	fixture_init(&other);
	fixture_open(&other);
	fixture_append(&other, 20);
	buf_init(&note, mem_system, NOTE_MAX);
	assert_true(audit_checkpoint(other.audit, &note, &e));
	file_make(&x, &other, &everything);
	o.checkpoint = buf_str(&early);
	file_verify(&x, &o, &r);
	expect(&r, "fork", FAULT_FORK, -1);
	assert_int_equal(r.authenticity, VERDICT_YES);
	assert_int_equal(r.anchoring, VERDICT_NO);
	file_clear(&x);
	/* And the other way round: what is held is longer than what is shown. */
	file_make(&x, &log_of_all, &everything);
	o.checkpoint = buf_str(&note);
	file_verify(&x, &o, &r);
	expect(&r, "older than what is held", FAULT_TRUNCATION, RECORDS);
	file_clear(&x);
	fixture_clear(&other);
}

/* Records changed in the database itself, and chained anew there: the export shows it. */
static void a_changed_database_shows(void **state)
{
	struct verify_options o = with_key();
	struct fixture f;
	struct export_file x;
	struct verify_report r;
	AUTO_BUF note;
	struct err e;

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, 6);
	buf_init(&note, mem_system, NOTE_MAX);
	assert_true(audit_checkpoint(f.audit, &note, &e));
	fixture_sql(&f,
		    "DROP TRIGGER leaf_update; UPDATE leaf SET body = CAST(replace(CAST(body AS "
		    "TEXT), 'billing-7', 'billing-8') AS BLOB) WHERE seq = 3");
	file_make(&x, &f, &everything);
	file_verify(&x, &o, &r);
	expect(&r, "changed in the database", FAULT_EDIT, 3);
	file_clear(&x);
	fixture_sql(&f, "UPDATE opening SET input = NULL WHERE seq = 5");
	fixture_sql(&f, "UPDATE leaf SET body = CAST(replace(CAST(body AS TEXT), 'billing-8', "
			"'billing-7') AS BLOB) WHERE seq = 3");
	file_make(&x, &f, &everything);
	file_verify(&x, &o, &r);
	expect(&r, "one opening erased", FAULT_NONE, -1);
	assert_int_equal(r.redacted, 1);
	file_clear(&x);
	fixture_clear(&f);
}

/* --- how it is read --- */

static void pieces_of_any_size_give_one_verdict(void **state)
{
	static const size_t sizes[] = { 1, 2, 3, 7, 64, 1000, 4096 };
	struct verify_options o = with_key();
	struct export_file x;
	AUTO_BUF all;

	(void)state;
	file_make(&x, &log_of_all, &everything);
	buf_init(&all, mem_system, 1 << 24);
	file_join(&x, &all);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct verify_report r;
		struct verifier *v;

		assert_true(verifier_new(&o, &v, NULL));
		for (size_t at = 0; at < all.n; at += sizes[i])
			verifier_feed(v, str_first(str_from(buf_str(&all), at), sizes[i]));
		verifier_finish(v, &r);
		verifier_free(v);
		expect(&r, "pieces", FAULT_NONE, -1);
	}
	/* Cut at each byte: never a success. */
	for (size_t n = 0; n < all.n; n++) {
		struct verify_report r;
		struct verifier *v;

		assert_true(verifier_new(&o, &v, NULL));
		verifier_feed(v, str_first(buf_str(&all), n));
		verifier_finish(v, &r);
		verifier_free(v);
		if (r.result == VERIFY_HOLDS)
			fail_msg("holds after %zu of %zu bytes", n, all.n);
	}
	file_clear(&x);
}

/* Whatever byte of an export is another one: broken or unreadable, never a success. */
static void no_byte_is_idle(void **state)
{
	static const struct {
		struct audit_filter filter;
		char flip; /* a bit that makes another digit, another case of a letter, or no text
			    */
	} cases[] = {
		{ { .openings = true }, 0x01 },
		{ { .openings = true }, 0x20 },
		{ { .openings = true, .from = 3, .to = 6 }, 0x02 },
		{ { .openings = true, .from = 3, .to = 6 }, (char)0x80 },
		{ { .agent = STR_INIT("spiffe://acme.example/agent/billing-7"), .from = 5 }, 0x01 },
		{ { .kind = STR_INIT("log.open"), .since_ms = 1, .until_ms = 9999999999999 },
		  0x01 },
		{ { .decision = STR_INIT("deny"), .from = 5, .to = 7 }, 0x04 },
	};
	struct verify_options o = with_key();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct export_file x;
		AUTO_BUF all;

		file_make(&x, &log_of_all, &cases[i].filter);
		buf_init(&all, mem_system, 1 << 24);
		file_join(&x, &all);
		for (size_t at = 0; at < all.n; at++) {
			struct verify_report r;
			struct verifier *v;

			all.p[at] ^= cases[i].flip;
			assert_true(verifier_new(&o, &v, NULL));
			verifier_feed(v, buf_str(&all));
			verifier_finish(v, &r);
			verifier_free(v);
			all.p[at] ^= cases[i].flip;
			if (r.result != VERIFY_BROKEN && r.result != VERIFY_UNREADABLE)
				fail_msg("case %zu, byte %zu of %zu (%.30s): %d", i, at, all.n,
					 all.p + at, r.result);
		}
		file_clear(&x);
	}
}

static void a_file_is_read_and_reported(void **state)
{
	struct verify_options o = with_key();
	struct export_file x;
	struct verify_report r;
	AUTO_BUF all;
	AUTO_BUF json;
	struct err e;
	FILE *f = tmpfile();

	(void)state;
	file_make(&x, &log_of_all, &everything);
	buf_init(&all, mem_system, 1 << 24);
	file_join(&x, &all);
	assert_int_equal(fwrite(all.p, 1, all.n, f), all.n);
	rewind(f);
	assert_true(verify_fd(fileno(f), &o, &r, &e));
	expect(&r, "file", FAULT_NONE, -1);
	fclose(f);
	buf_init(&json, mem_system, 10000);
	verify_report_json(&r, &json);
	assert_true(str_starts(
		buf_str(&json),
		STR("{\"anchoring\":\"unknown\",\"authenticity\":\"yes\",\"completeness\":"
		    "\"yes\",\"count\":13,\"first\":0,\"integrity\":\"yes\",")));
	assert_true(verify_fd(-1, &o, &r, &e));
	assert_int_equal(r.result, VERIFY_UNREADABLE);
	file_clear(&x);
}

static int begin(void **state)
{
	struct note_key k;
	AUTO_BUF text;
	struct err e;

	(void)state;
	fixture_init(&log_of_all);
	/* No checkpoint by the timer: the rows below want to know where they are. */
	fixture_open(&log_of_all);
	buf_init(&early, mem_system, NOTE_MAX);
	buf_init(&text, mem_system, NOTE_MAX);
	fixture_append(&log_of_all, 6);
	assert_true(audit_checkpoint(log_of_all.audit, &early, &e));
	fixture_append(&log_of_all, 6);
	assert_true(audit_checkpoint(log_of_all.audit, &text, &e));
	buf_reset(&text);
	fixture_key(&k);
	note_key_format(&k, &text);
	snprintf(vkey, sizeof(vkey), "%.*s", STR_FMT(buf_str(&text)));
	return 0;
}

static int end(void **state)
{
	(void)state;
	buf_clear(&early);
	fixture_clear(&log_of_all);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_whole_log_holds),
		cmocka_unit_test(without_a_key_nothing_is_proven),
		cmocka_unit_test(every_part_holds),
		cmocka_unit_test(filters_withhold_and_still_hold),
		cmocka_unit_test(nothing_to_export_is_said),
		cmocka_unit_test(erased_openings_are_counted),
		cmocka_unit_test(each_attack_has_its_name),
		cmocka_unit_test(header_and_trailer_count),
		cmocka_unit_test(what_is_no_export),
		cmocka_unit_test(an_empty_export_is_no_success),
		cmocka_unit_test(another_key_does_not_do),
		cmocka_unit_test(a_fork_is_told),
		cmocka_unit_test(a_changed_database_shows),
		cmocka_unit_test(pieces_of_any_size_give_one_verdict),
		cmocka_unit_test(no_byte_is_idle),
		cmocka_unit_test(a_file_is_read_and_reported),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
