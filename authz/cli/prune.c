/*
 * audit prune: archive the oldest records, check the archive, and have the server let them go. The
 * archive is an export like any other; nothing is asked for before it is on disk, verified, and the
 * whole of what goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/verify.h"
#include "authz/base/clock.h"
#include "authz/base/digest.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"
#include "authz/store/file.h"

#define BODY_MAX 8192
#define WAIT_MS 100

struct prune {
	struct cli *c;
	const char *name; /* of the archive */
	char part[4096];
	uint64_t from, to;
	char before[CLOCK_RFC3339_MAX]; /* or "" */
	char vkey[400], sha256[2 * SHA256_LEN + 1];
	FILE *out;
	uint64_t bytes;
};

/* ---- the plan ---- */

static bool ask_plan(struct prune *p, struct answer *a, int *exit_code)
{
	AUTO_BUF path;

	buf_init(&path, mem_system, 512);
	buf_lit(&path, "/v1/audit/prune");
	if (p->before[0])
		buf_printf(&path, "?before=%s", p->before);
	buf_char(&path, '\0');
	if (!api_call(p->c, API_ADMIN, "GET", path.p, (struct str){ 0 }, a, exit_code))
		return false;
	p->from = (uint64_t)answer_number(a->value, "from");
	p->to = (uint64_t)answer_number(a->value, "to");
	return true;
}

static void print_plan(struct prune *p, const struct answer *a)
{
	struct cli *c = p->c;
	struct str limit = answer_text(a->value, "limit");

	if (c->json) {
		answer_print(c, a);
		return;
	}
	if (p->to > p->from)
		fprintf(c->out,
			"%" PRIu64 " records would go: %" PRIu64 " to %" PRIu64 ", of %" PRId64
			" in the log\n",
			p->to - p->from, p->from, p->to - 1, answer_number(a->value, "size"));
	else
		fprintf(c->out,
			"nothing would go: the log begins with record %" PRIu64
			", and records go in tiles of 256\n",
			p->from);
	if (limit.n) {
		fprintf(c->out, "more is as old, but ");
		print_text(c->out, limit);
		fputc('\n', c->out);
	}
}

/* ---- the archive ---- */

static bool write_piece(void *ctx, struct str bytes, struct err *e)
{
	struct prune *p = ctx;

	p->bytes += bytes.n;
	return fwrite(bytes.p, 1, bytes.n, p->out) == bytes.n ||
	       err_set(e, ERR_IO, "cannot write the archive: %s", strerror(errno));
}

static bool fetch(struct prune *p, int *exit_code)
{
	struct client_request q = { .method = "GET", .sink = write_piece, .ctx = p };
	struct api api;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	AUTO_BUF path;

	buf_init(&path, mem_system, 512);
	buf_printf(&path, "/v1/audit/export?from=%" PRIu64 "&to=%" PRIu64 "%s", p->from, p->to,
		   cli_flag(p->c, "--no-openings") ? "&openings=no" : "");
	buf_char(&path, '\0');
	q.path = path.p;
	if (!api_open(p->c, API_ADMIN, &api, &e)) {
		*exit_code = cli_fail(p->c, &e);
		return false;
	}
	return api_ask(p->c, &api, &q, false, &a, exit_code);
}

/* The first one: it leads to all that followed, and the archive may be of any of them. */
static bool ask_key(struct prune *p, int *exit_code)
{
	AUTO_ANSWER a = { 0 };
	const struct json *keys;

	if (!api_call(p->c, API_ADMIN, "GET", "/v1/audit/key", (struct str){ 0 }, &a, exit_code))
		return false;
	keys = json_get_type(a.value, STR("keys"), JSON_ARRAY);
	if (keys && keys->n)
		snprintf(p->vkey, sizeof(p->vkey), "%.*s",
			 STR_FMT(answer_text(&keys->items[0], "vkey")));
	return true;
}

/* It must hold, under the log's key, and be all of what goes. */
static bool verify(struct prune *p, int fd, struct err *e)
{
	const struct verify_options o = { .vkey = str_c(p->vkey), .alloc = &mem_system };
	struct verify_report r;

	if (lseek(fd, 0, SEEK_SET) != 0)
		return err_set(e, ERR_IO, "%s: %s", p->part, strerror(errno));
	if (!verify_fd(fd, &o, &r, e))
		return false;
	if (r.result != VERIFY_HOLDS)
		return err_set(e, ERR_CONFLICT,
			       "the archive does not verify, so nothing was pruned: %s", r.why.msg);
	if (r.completeness != VERDICT_YES || r.first != p->from || r.count != p->to - p->from)
		return err_set(e, ERR_CONFLICT,
			       "the archive has %" PRIu64 " records from %" PRIu64
			       " on, not those that were to go, so nothing was pruned",
			       r.count, r.first);
	return true;
}

static bool hash_file(struct prune *p, int fd, struct err *e)
{
	struct sha256 *s = sha256_new(e);
	uint8_t hash[SHA256_LEN];
	char piece[65536];
	ssize_t n = 1;

	if (!s)
		return false;
	sha256_begin(s);
	for (off_t at = 0; n > 0; at += n) {
		n = pread(fd, piece, sizeof(piece), at);
		if (n > 0)
			sha256_add(s, (struct str){ piece, (size_t)n });
	}
	sha256_end(s, hash);
	sha256_free(s);
	if (n < 0)
		return err_set(e, ERR_IO, "%s: %s", p->part, strerror(errno));
	text_hex(hash, sizeof(hash), p->sha256);
	return true;
}

/* To be found under its name after a crash. */
static bool sync_folder(const char *path, struct err *e)
{
	char folder[4096];
	char *slash;
	bool ok;
	int fd;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ok = fd >= 0 ? file_sync_folder(fd, e)
		     : err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool store(struct prune *p, struct err *e)
{
	int fd = fileno(p->out);

	if (fflush(p->out) != 0 || fsync(fd) != 0)
		return err_set(e, ERR_IO, "%s: %s", p->part, strerror(errno));
	if (!verify(p, fd, e) || !hash_file(p, fd, e))
		return false;
	/* Never over an archive that is there. */
	if (link(p->part, p->name) != 0)
		return err_set(e, ERR_IO, "%s: %s", p->name, strerror(errno));
	unlink(p->part);
	return sync_folder(p->name, e);
}

static bool archive(struct prune *p, int *exit_code)
{
	struct err e = { 0 };
	bool ok;
	int fd;

	if (snprintf(p->part, sizeof(p->part), "%s.part", p->name) >= (int)sizeof(p->part)) {
		*exit_code = cli_misuse(p->c, "--archive: the name is too long");
		return false;
	}
	if (access(p->name, F_OK) == 0) {
		err_set(&e, ERR_CONFLICT, "%s is there already; each archive is a file of its own",
			p->name);
		*exit_code = cli_fail(p->c, &e);
		return false;
	}
	if (!ask_key(p, exit_code))
		return false;
	fd = open(p->part, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	p->out = fd < 0 ? NULL : fdopen(fd, "r+");
	if (!p->out) {
		err_set(&e, ERR_IO, "%s: %s", p->part, strerror(errno));
		*exit_code = cli_fail(p->c, &e);
		return false;
	}
	ok = fetch(p, exit_code);
	if (ok && !store(p, &e)) {
		*exit_code = cli_fail(p->c, &e);
		ok = false;
	}
	fclose(p->out);
	if (!ok)
		unlink(p->part);
	return ok;
}

/* ---- letting go ---- */

static bool let_go(struct prune *p, struct answer *a, int *exit_code)
{
	const char *reason = cli_value(p->c, "--reason");
	char full[4096];
	AUTO_BUF b;

	if (!realpath(p->name, full))
		snprintf(full, sizeof(full), "%s", p->name);
	buf_init(&b, mem_system, BODY_MAX);
	buf_printf(&b, "{\"from\":%" PRIu64 ",\"to\":%" PRIu64 ",\"archive_sha256\":\"%s\"",
		   p->from, p->to, p->sha256);
	if (p->before[0])
		buf_printf(&b, ",\"before\":\"%s\"", p->before);
	if (reason) {
		buf_lit(&b, ",\"reason\":");
		buf_json(&b, str_c(reason));
	}
	buf_lit(&b, ",\"archive\":");
	buf_json(&b, str_c(full));
	buf_char(&b, '}');
	if (api_call(p->c, API_ADMIN, "POST", "/v1/audit/prune", buf_str(&b), a, exit_code))
		return true;
	if (!p->c->json)
		fprintf(p->c->err, "nothing was pruned; the archive stays: %s\n", p->name);
	return false;
}

/* They go while the server runs; whoever does not want to wait may stop this. */
static bool wait_until_gone(struct prune *p, int *exit_code)
{
	for (;;) {
		AUTO_ANSWER a = { 0 };

		if (!api_call(p->c, API_ADMIN, "GET", "/v1/status", (struct str){ 0 }, &a,
			      exit_code))
			return false;
		if ((uint64_t)answer_number(json_get(a.value, STR("audit")), "pruned") >= p->to)
			return true;
		(void)poll(NULL, 0, WAIT_MS);
	}
}

static int prune(struct prune *p)
{
	int exit_code = CLI_DONE;
	AUTO_ANSWER plan = { 0 };
	AUTO_ANSWER done = { 0 };

	if (!ask_plan(p, &plan, &exit_code))
		return exit_code;
	if (cli_flag(p->c, "--dry-run") || p->from == p->to) {
		print_plan(p, &plan);
		return CLI_DONE;
	}
	if (!archive(p, &exit_code) || !let_go(p, &done, &exit_code) ||
	    !wait_until_gone(p, &exit_code))
		return exit_code;
	if (p->c->json)
		answer_print(p->c, &done);
	else
		fprintf(p->c->out,
			"pruned records %" PRIu64 " to %" PRIu64 " (record %" PRId64 " says so)\n"
			"archive: %s, %" PRIu64 " bytes, sha256 %s; keep it: the log's own copy is "
			"gone\n",
			p->from, p->to - 1, answer_number(done.value, "record"), p->name, p->bytes,
			p->sha256);
	return CLI_DONE;
}

int run_audit_prune(struct cli *c)
{
	struct prune p = { .c = c, .name = cli_value(c, "--archive") };
	int exit_code = CLI_DONE;
	int64_t before = 0;

	if (!p.name && !cli_flag(c, "--dry-run"))
		return cli_misuse(c,
				  "--archive: where the records go to is missing; --dry-run shows "
				  "which would");
	if (!cli_moment(c, "--before", &before, &exit_code))
		return exit_code;
	if (before)
		clock_rfc3339(before, p.before);
	return prune(&p);
}
