/*
 * audit verify: an export, a folder of tiles, the proof of one record, or what a server says. Its
 * exit codes are those of enum verify_result, 2 for usage.
 */
#include "authz/cli/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/proof.h"
#include "authz/audit/timestamp.h"
#include "authz/audit/witness.h"
#include "authz/base/clock.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"

#define VKEY_MAX 8192 /* bytes of all keys that are given */

static const char *word(enum verdict v)
{
	return v == VERDICT_YES ? "yes" : v == VERDICT_NO ? "NO" : "unknown";
}

static void print_report(struct cli *c, const char *file, const struct verify_report *r)
{
	static const char *const results[] = {
		[VERIFY_HOLDS] = "holds",
		[VERIFY_BROKEN] = "BROKEN",
		[VERIFY_UNAUTHENTICATED] = "NOT AUTHENTICATED",
		[VERIFY_UNREADABLE] = "UNREADABLE",
	};
	static const char *const redactions[] = {
		[REDACTION_NONE] = "none",	 [REDACTION_SOME] = "some",
		[REDACTION_ALL] = "all",	 [REDACTION_BROKEN] = "BROKEN",
		[REDACTION_UNKNOWN] = "unknown",
	};
	char root[2 * SHA256_LEN], at[CLOCK_RFC3339_MAX];

	text_hex(r->root, sizeof(r->root), root);
	fprintf(c->out, "%s: %s\n", file, results[r->result]);
	if (r->fault != FAULT_NONE)
		fprintf(c->out, "fault: %s\n", verify_fault_name(r->fault));
	if (r->has_bad && r->bad_end > r->bad_seq + 1)
		fprintf(c->out, "record: one of %" PRIu64 " to %" PRIu64 "\n", r->bad_seq,
			r->bad_end - 1);
	else if (r->has_bad)
		fprintf(c->out, "record: %" PRIu64 "\n", r->bad_seq);
	if (r->why.class != ERR_NONE)
		fprintf(c->out, "why: %s\n", r->why.msg);
	if (r->result == VERIFY_UNREADABLE)
		return;
	/* Counts and the root are sums over what was read: of a broken file they mislead. */
	if (r->result != VERIFY_BROKEN)
		fprintf(c->out,
			"records: %" PRIu64 " from %" PRIu64 ", of a log of %" PRIu64 "; %" PRIu64
			" withheld, %" PRIu64 " openings, %" PRIu64 " redacted\n",
			r->count, r->first, r->size, r->withheld, r->openings, r->redacted);
	fprintf(c->out,
		"integrity: %s\ncompleteness: %s\nauthenticity: %s\nanchoring: %s\n"
		"redaction: %s\n",
		word(r->integrity), word(r->completeness), word(r->authenticity),
		word(r->anchoring), redactions[r->redaction]);
	if (r->pruned)
		fprintf(c->out, "pruned: records 0 to %" PRIu64 ", as record %" PRIu64 " says\n",
			r->pruned - 1, r->pruned_by);
	if (r->witnessed_s) {
		clock_rfc3339((int64_t)(r->witnessed_s & INT32_MAX) * 1000, at);
		fprintf(c->out, "witnessed: %s\n", at);
	}
	if (r->stamped_s) {
		clock_rfc3339(r->stamped_s * 1000, at);
		fprintf(c->out, "timestamp: %s\n", at);
	}
	fprintf(c->out, "key: %s%s%s\n", r->key_from, r->key_id[0] ? ", id " : "", r->key_id);
	if (r->origin[0])
		fprintf(c->out, "origin: %s\n", r->origin);
	if (r->result != VERIFY_BROKEN)
		fprintf(c->out, "root: %.64s\n", root);
	if (r->authenticity == VERDICT_UNKNOWN && r->result == VERIFY_UNAUTHENTICATED)
		fprintf(c->out, "A key from outside the file is needed: get it once with `writ "
				"audit key`, keep it elsewhere, and give --key VKEY|@FILE.\n");
}

static bool read_key(const char *given, struct buf *out, struct err *e)
{
	size_t from = out->n;

	if (given[0] != '@')
		buf_add(out, str_c(given));
	else if (!api_read_file(given + 1, VKEY_MAX, out, e))
		return false;
	while (out->n > from && strchr(" \r\n", out->p[out->n - 1]))
		out->n--;
	if (out->n == from)
		return err_code(e, ERR_INVALID, "wrong_usage", "--key: no key in it");
	buf_char(out, '\n');
	return buf_ok(out) || err_code(e, ERR_INVALID, "wrong_usage",
				       "--key: the keys are longer than %d bytes", VKEY_MAX);
}

static int report(struct cli *c, const char *file, const struct verify_report *r)
{
	AUTO_BUF b = { 0 };

	if (c->json) {
		buf_init(&b, mem_system, 1024 * 1024);
		verify_report_json(r, &b);
		fprintf(c->out, "%.*s\n", STR_FMT(buf_str(&b)));
	} else {
		print_report(c, file, r);
	}
	return (int)r->result;
}

/* What was given besides the source. */
struct given {
	struct buf vkey, note, policy, record, tsa_ca;
	struct verify_options o;
};

static void given_clear(struct given *g)
{
	buf_clear(&g->vkey);
	buf_clear(&g->note);
	buf_clear(&g->policy);
	buf_clear(&g->record);
	buf_clear(&g->tsa_ca);
}
#define AUTO_GIVEN __attribute__((cleanup(given_clear))) struct given

static bool read_given(struct cli *c, struct given *g, struct err *e)
{
	const char *at_least = cli_value(c, "--at-least"), *key;
	size_t at = 0;
	const struct {
		const char *option;
		size_t max;
		struct buf *to;
	} files[] = {
		{ "--checkpoint", NOTE_MAX, &g->note },
		{ "--witness-policy", WITNESS_POLICY_MAX, &g->policy },
		{ "--record", PROOF_RECORD_MAX, &g->record },
		{ "--tsa-ca", TIMESTAMP_CA_MAX, &g->tsa_ca },
	};
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	buf_init(&g->vkey, mem_system, 2 * VKEY_MAX + 65536);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		buf_init(files[i].to, mem_system, 2 * files[i].max + 65536);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (cli_value(c, files[i].option) &&
		    !api_read_file(cli_value(c, files[i].option), files[i].max, files[i].to, e))
			return false;
	while ((key = cli_next(c, "--key", &at)))
		if (!read_key(key, &g->vkey, e))
			return false;
	g->o = (struct verify_options){ .vkey = buf_str(&g->vkey),
					.checkpoint = buf_str(&g->note),
					.policy = buf_str(&g->policy),
					.tsa_ca = buf_str(&g->tsa_ca),
					.alloc = &mem_system,
					.threads = cores > 1 ? (unsigned)cores : 1 };
	if (at_least && !text_u64(str_c(at_least), (uint64_t)TREE_SIZE_MAX, &g->o.at_least))
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--at-least %.60s: expected a number of records", at_least);
	return true;
}

/* --- sources --- */

/* A proof says what it is in its first line. */
static bool is_proof(int fd)
{
	const struct str head = STR("c2sp.org/tlog-proof@");
	char text[20];

	return pread(fd, text, sizeof(text), 0) == (ssize_t)head.n &&
	       memcmp(text, head.p, head.n) == 0;
}

static bool check_proof(struct cli *c, const char *file, struct given *g, struct verify_report *r,
			struct err *e)
{
	struct str record = cli_value(c, "--record") ? buf_str(&g->record) : (struct str){ 0 };
	AUTO_BUF proof;

	buf_init(&proof, mem_system, 2 * PROOF_FILE_MAX);
	if (!api_read_file(file, PROOF_FILE_MAX, &proof, e)) {
		r->result = VERIFY_UNREADABLE;
		r->why = *e;
		return true;
	}
	/* An empty file is a record of no bytes, not none. */
	if (cli_value(c, "--record") && !record.p)
		record.p = "";
	return verify_proof(buf_str(&proof), record, &g->o, r, e);
}

static bool check_source(struct cli *c, const char *file, struct given *g, struct verify_report *r,
			 struct err *e)
{
	int fd = strcmp(file, "-") == 0 ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
	struct stat st = { .st_mode = 0 };
	bool ok;

	snprintf(r->key_from, sizeof(r->key_from), "not asked for");
	if (fd < 0 || fstat(fd, &st)) {
		r->result = VERIFY_UNREADABLE;
		err_set(&r->why, ERR_IO, "%s: %s", file, strerror(errno));
		ok = true;
	} else if (S_ISDIR(st.st_mode)) {
		ok = verify_tiles(file, &g->o, r, e);
	} else if (fd != STDIN_FILENO && is_proof(fd)) {
		ok = check_proof(c, file, g, r, e);
	} else {
		ok = verify_fd(fd, &g->o, r, e);
	}
	if (fd >= 0 && fd != STDIN_FILENO)
		close(fd);
	return ok;
}

static bool check_live(struct cli *c, verify_live *live, struct given *g, struct verify_report *r,
		       struct err *e)
{
	struct verifier *v;

	if (!verifier_new(&g->o, &v, e))
		return false;
	if (live(c, v, &r->why)) {
		verifier_finish(v, r);
	} else {
		r->result = VERIFY_UNREADABLE;
		snprintf(r->key_from, sizeof(r->key_from), "not asked for");
	}
	verifier_free(v);
	return true;
}

int verify_command(struct cli *c, verify_live *live)
{
	const char *server = live ? cli_value(c, "--server") : NULL;
	const char *source = server ? server : c->noperands ? c->operands[0] : NULL;
	struct verify_report r = { 0 };
	struct err e = { 0 };
	AUTO_GIVEN g = { 0 };

	if (!source || (server && c->noperands))
		return cli_misuse(c, "expected one source: a file, a folder of tiles, or --server");
	if (!read_given(c, &g, &e) ||
	    !(server ? check_live(c, live, &g, &r, &e) : check_source(c, source, &g, &r, &e))) {
		cli_fail(c, &e); /* the key or another thing we were given to check by */
		return CLI_USAGE;
	}
	return report(c, source, &r);
}
