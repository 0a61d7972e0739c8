/*
 * audit reconcile: what PEPs saw against what is on record. No log proves that everything is in it
 * (sheet 10.4); those who asked can tell what should be. FILE is JSON Lines: answers as they were
 * received, and counts, {"counter":{"pep","since","until","permitted","denied"}}.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "authz/audit/tree.h"
#include "authz/base/clock.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"

#define FILE_MAX (1024L * 1024 * 1024)
#define RECEIPTS_MAX 4000000
#define COUNTERS_MAX 1000
#define PAGE 1000

struct receipt {
	uint64_t seq;
	uint8_t leaf[SHA256_LEN];
	bool permitted;
};

struct counter {
	struct str pep;
	int64_t since_ms, until_ms;
	uint64_t permitted, denied; /* as the PEP counted */
	uint64_t found_permitted, found_denied;
};

struct reconcile {
	struct cli *c;
	struct arena arena; /* of texts that stay */
	struct sha256 *sha;
	struct receipt *receipts;
	struct counter counters[COUNTERS_MAX];
	size_t nreceipts, room, ncounters;
	uint64_t unrecorded; /* answers that say that they are on no record */
	uint64_t wrong;
	struct buf found; /* differences as JSON, with commas between */
};

/* ---- the file ---- */

static bool read_answer(struct reconcile *x, const struct json *line, struct err *e)
{
	const struct json *decision = json_get_type(line, STR("decision"), JSON_BOOL);
	const struct json *context = json_get_type(line, STR("context"), JSON_OBJECT);
	const struct json *record = json_get_type(context, STR("record"), JSON_OBJECT);
	const struct json *seq = json_get_type(record, STR("seq"), JSON_INT);
	const struct json *leaf = json_get_type(record, STR("leaf"), JSON_STRING);
	struct receipt *r;

	if (!decision)
		return err_set(e, ERR_INVALID,
			       "expected an answer as it was received "
			       "({\"decision\":...}), or {\"counter\":{...}}");
	if (!record && !decision->b) {
		x->unrecorded++;
		return true;
	}
	if (x->nreceipts == x->room) {
		size_t room = x->room ? 2 * x->room : 1024;
		void *more = room > RECEIPTS_MAX
				     ? NULL
				     : realloc(x->receipts, room * sizeof(*x->receipts));

		if (!more)
			return err_set(e, ERR_TOO_LARGE,
				       "so many answers do not fit; reconcile fewer at a time");
		x->receipts = more;
		x->room = room;
	}
	r = &x->receipts[x->nreceipts];
	if (!seq || seq->i < 0 || !leaf || !text_unhex(leaf->s, r->leaf, sizeof(r->leaf)))
		return err_set(
			e, ERR_INVALID,
			"the answer has no record with seq and leaf (a permit without one is "
			"no answer of writ's)");
	r->seq = (uint64_t)seq->i;
	r->permitted = decision->b;
	x->nreceipts++;
	return true;
}

static bool read_counter(struct reconcile *x, const struct json *v, struct err *e)
{
	const struct json *pep = json_get_type(v, STR("pep"), JSON_STRING);
	const struct json *since = json_get_type(v, STR("since"), JSON_STRING);
	const struct json *until = json_get_type(v, STR("until"), JSON_STRING);
	const struct json *permitted = json_get_type(v, STR("permitted"), JSON_INT);
	const struct json *denied = json_get_type(v, STR("denied"), JSON_INT);
	struct counter *k;

	if (x->ncounters == COUNTERS_MAX)
		return err_set(e, ERR_TOO_LARGE, "there are more than %d counters", COUNTERS_MAX);
	k = &x->counters[x->ncounters];
	if (!pep || !since || !until || !permitted || !denied || permitted->i < 0 ||
	    denied->i < 0 || !clock_parse_rfc3339(since->s, &k->since_ms) ||
	    !clock_parse_rfc3339(until->s, &k->until_ms) || k->since_ms >= k->until_ms)
		return err_set(e, ERR_INVALID,
			       "a counter has pep, since and until (2026-11-21T10:00:00Z, in this "
			       "order), permitted and denied");
	k->permitted = (uint64_t)permitted->i;
	k->denied = (uint64_t)denied->i;
	k->pep = arena_dup(&x->arena, pep->s);
	if (!k->pep.p)
		return err_set(e, ERR_NOMEM, "no memory");
	x->ncounters++;
	return true;
}

static bool read_lines(struct reconcile *x, const char *file, struct str text, struct err *e)
{
	struct arena a;
	size_t number = 0;
	bool ok = true;

	arena_init(&a, &mem_system, 64 * 1024 * 1024);
	while (ok && text.n) {
		struct str line = text, rest = { 0 };
		const struct json *v = NULL, *counter;

		(void)str_cut(text, '\n', &line, &rest);
		text = rest;
		number++;
		if (!line.n)
			continue;
		arena_reset(&a);
		ok = json_parse(line, &json_default_limits, &a, &v, e);
		counter = ok ? json_get_type(v, STR("counter"), JSON_OBJECT) : NULL;
		ok = ok && (counter ? read_counter(x, counter, e) : read_answer(x, v, e));
		if (!ok)
			err_prefix(e, "%s: line %zu", file, number);
	}
	arena_clear(&a);
	return ok;
}

/* ---- differences ---- */

static void differ(struct reconcile *x, const char *fmt, ...) PRINTF(2, 3);
static void differ(struct reconcile *x, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (x->wrong++)
		buf_char(&x->found, ',');
	buf_json(&x->found, str_c(text));
	if (!x->c->json) {
		print_text(x->c->out, str_c(text));
		fputc('\n', x->c->out);
	}
}

static void compare(struct reconcile *x, const struct receipt *r, const struct json *record)
{
	const struct json *kind = json_get_type(record, STR("kind"), JSON_STRING);
	const struct json *decision = json_get_type(record, STR("decision"), JSON_STRING);
	uint8_t leaf[SHA256_LEN];

	/* The record's bytes as they stand in the reply are its bytes in the log. */
	tree_leaf_hash(x->sha, record->raw, leaf);
	if (memcmp(leaf, r->leaf, sizeof(leaf)) != 0)
		differ(x, "record %" PRIu64 ": is not what the PEP was told: its hash is another",
		       r->seq);
	else if (!kind || !str_eq(kind->s, STR("authz.decision")) || !decision)
		differ(x, "record %" PRIu64 ": is no decision", r->seq);
	else if (str_eq(decision->s, STR("permit")) != r->permitted)
		differ(x, "record %" PRIu64 ": says %.*s, and the PEP was told %s", r->seq,
		       STR_FMT(str_first(decision->s, 10)), r->permitted ? "permit" : "deny");
}

/* ---- receipts ---- */

static int by_seq(const void *left, const void *right)
{
	const struct receipt *a = left, *b = right;

	return (a->seq > b->seq) - (a->seq < b->seq);
}

/* One page holds PAGE records in order from the first receipt's on, or the log ends before. */
static bool check_page(struct reconcile *x, size_t *at, int *exit_code)
{
	uint64_t from = x->receipts[*at].seq;
	const struct json *records;
	AUTO_ANSWER a = { 0 };
	char path[128];

	snprintf(path, sizeof(path), "/v1/audit/records?limit=%d&from=%" PRIu64, PAGE, from);
	if (!api_call(x->c, API_ADMIN, "GET", path, (struct str){ 0 }, &a, exit_code))
		return false;
	records = json_get_type(a.value, STR("records"), JSON_ARRAY);
	for (; *at < x->nreceipts && x->receipts[*at].seq - from < PAGE; (*at)++) {
		uint64_t i = x->receipts[*at].seq - from;

		if (!records || i >= records->n)
			differ(x, "record %" PRIu64 ": is not in the log", x->receipts[*at].seq);
		else
			compare(x, &x->receipts[*at], &records->items[i]);
	}
	return true;
}

/* ---- counters ---- */

static bool count_page(struct reconcile *x, struct counter *k, int64_t *after, int *exit_code)
{
	const struct json *records, *next, *size;
	AUTO_ANSWER a = { 0 };
	char path[256], go_on[40] = "";

	if (*after >= 0)
		snprintf(go_on, sizeof(go_on), "&after=%" PRId64, *after);
	snprintf(path, sizeof(path),
		 "/v1/audit/records?order=oldest&kind=authz.decision&limit=%d&since=%" PRId64
		 "&until=%" PRId64 "%s",
		 PAGE, k->since_ms, k->until_ms, go_on);
	if (!api_call(x->c, API_ADMIN, "GET", path, (struct str){ 0 }, &a, exit_code))
		return false;
	records = json_get_type(a.value, STR("records"), JSON_ARRAY);
	next = json_get_type(a.value, STR("next"), JSON_INT);
	size = json_get_type(a.value, STR("size"), JSON_INT);
	for (uint32_t i = 0; records && i < records->n; i++) {
		const struct json *pep = json_get_type(&records->items[i], STR("pep"), JSON_STRING);
		const struct json *d = json_get_type(&records->items[i], STR("decision"),
						     JSON_STRING);

		if (!pep || !d || !str_eq(pep->s, k->pep))
			continue;
		if (str_eq(d->s, STR("permit")))
			k->found_permitted++;
		else
			k->found_denied++;
	}
	/* `next` is the last record that was looked at; it stands still at the end. */
	if (!records || !next || !size || next->i <= *after || next->i >= size->i - 1)
		*after = -1;
	else
		*after = next->i;
	return true;
}

static bool check_counter(struct reconcile *x, struct counter *k, int *exit_code)
{
	int64_t after = -1;

	do {
		if (!count_page(x, k, &after, exit_code))
			return false;
	} while (after >= 0);
	if (k->found_permitted != k->permitted)
		differ(x, "%.*s: counted %" PRIu64 " permitted, and %" PRIu64 " are on record",
		       STR_FMT(str_first(k->pep, 200)), k->permitted, k->found_permitted);
	if (k->found_denied != k->denied)
		differ(x, "%.*s: counted %" PRIu64 " denied, and %" PRIu64 " are on record",
		       STR_FMT(str_first(k->pep, 200)), k->denied, k->found_denied);
	return true;
}

/* ---- the command ---- */

static bool check_all(struct reconcile *x, int *exit_code)
{
	size_t at = 0;

	if (x->nreceipts)
		qsort(x->receipts, x->nreceipts, sizeof(*x->receipts), by_seq);
	while (at < x->nreceipts)
		if (!check_page(x, &at, exit_code))
			return false;
	for (size_t i = 0; i < x->ncounters; i++)
		if (!check_counter(x, &x->counters[i], exit_code))
			return false;
	return true;
}

static int put_result(struct reconcile *x)
{
	if (x->c->json)
		fprintf(x->c->out,
			"{\"answers\":%zu,\"counters\":%zu,\"unrecorded\":%" PRIu64
			",\"differences\":[%.*s]}\n",
			x->nreceipts, x->ncounters, x->unrecorded, STR_FMT(buf_str(&x->found)));
	else
		fprintf(x->c->out,
			"%zu answers and %zu counters compared, %" PRIu64 " differences\n",
			x->nreceipts, x->ncounters, x->wrong);
	if (!x->c->json && x->unrecorded)
		fprintf(x->c->out, "%" PRIu64 " denials were answered without a record\n",
			x->unrecorded);
	return x->wrong ? CLI_FAILED : CLI_DONE;
}

int run_audit_reconcile(struct cli *c)
{
	struct reconcile *x = calloc(1, sizeof(*x));
	struct err e = { 0 };
	int exit_code = CLI_FAILED;
	AUTO_BUF text;

	buf_init(&text, mem_system, FILE_MAX);
	if (!x)
		return CLI_FAILED;
	x->c = c;
	arena_init(&x->arena, &mem_system, 4 * 1024 * 1024);
	buf_init(&x->found, mem_system, FILE_MAX);
	x->sha = sha256_new(&e);
	if (!x->sha || !api_read_file(c->operands[0], FILE_MAX, &text, &e) ||
	    !read_lines(x, c->operands[0], buf_str(&text), &e))
		exit_code = cli_fail(c, &e);
	else if (!x->nreceipts && !x->ncounters)
		exit_code = cli_misuse(c,
				       "%.200s holds neither answers nor counters, so nothing "
				       "was compared",
				       c->operands[0]);
	else if (check_all(x, &exit_code))
		exit_code = put_result(x);
	free(x->receipts);
	buf_clear(&x->found);
	arena_clear(&x->arena);
	sha256_free(x->sha);
	free(x);
	return exit_code;
}
