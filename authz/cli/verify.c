/* audit verify: an export, offline. Its exit codes are those of enum verify_result, 2 for usage. */
#include "authz/audit/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "authz/audit/note.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"

#define VKEY_MAX 4096

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
	char root[2 * SHA256_LEN];

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
	fprintf(c->out, "integrity: %s\ncompleteness: %s\nauthenticity: %s\ncontinuity: %s\n",
		word(r->integrity), word(r->completeness), word(r->authenticity),
		word(r->continuity));
	if (r->origin[0])
		fprintf(c->out, "origin: %s\n", r->origin);
	if (r->result != VERIFY_BROKEN)
		fprintf(c->out, "root: %.64s\n", root);
	if (r->result == VERIFY_UNAUTHENTICATED)
		fprintf(c->out, "A key from outside the file is needed: get it once with `writ "
				"audit key`, keep it elsewhere, and give --key VKEY|@FILE.\n");
}

static bool read_key(const char *given, struct buf *out, struct err *e)
{
	if (given[0] != '@')
		buf_add(out, str_c(given));
	else if (!api_read_file(given + 1, VKEY_MAX, out, e))
		return false;
	while (out->n && strchr(" \r\n", out->p[out->n - 1]))
		out->n--;
	return out->n ? true : err_code(e, ERR_INVALID, "wrong_usage", "--key: no key in it");
}

static int report(struct cli *c, const char *file, const struct verify_report *r)
{
	AUTO_BUF b;

	if (c->json) {
		buf_init(&b, mem_system, 1024 * 1024);
		verify_report_json(r, &b);
		fprintf(c->out, "%.*s\n", STR_FMT(buf_str(&b)));
	} else {
		print_report(c, file, r);
	}
	return (int)r->result;
}

int run_audit_verify(struct cli *c)
{
	const char *key = cli_value(c, "--key"), *held = cli_value(c, "--checkpoint");
	const char *file = c->operands[0];
	struct verify_options o = { .alloc = &mem_system };
	struct verify_report r = { 0 };
	struct err e = { 0 };
	AUTO_BUF vkey, note;
	bool ok;
	int fd;

	buf_init(&vkey, mem_system, 2 * VKEY_MAX + 65536);
	buf_init(&note, mem_system, 2 * NOTE_MAX);
	if ((key && !read_key(key, &vkey, &e)) ||
	    (held && !api_read_file(held, NOTE_MAX, &note, &e))) {
		cli_fail(c, &e);
		return CLI_USAGE;
	}
	o.vkey = buf_str(&vkey);
	o.checkpoint = buf_str(&note);
	fd = strcmp(file, "-") == 0 ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		err_set(&e, ERR_IO, "%s: %s", file, strerror(errno));
		cli_fail(c, &e);
		return VERIFY_UNREADABLE;
	}
	ok = verify_fd(fd, &o, &r, &e);
	if (fd != STDIN_FILENO)
		close(fd);
	if (!ok) { /* the key or the checkpoint we were given */
		cli_fail(c, &e);
		return CLI_USAGE;
	}
	return report(c, file, &r);
}
