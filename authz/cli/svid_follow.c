/*
 * svid watch --socket: a SPIFFE Workload API, writ's or another server's, says when an SVID or its
 * bundle changes, and what it says goes to disk. What spiffe-helper does.
 *
 * The files stay while the server is away: they are good until they expire, and the next connection
 * brings newer ones. PERMISSION_DENIED says that this process is nobody (any more), and is asked
 * again with a growing pause, since the registration may be on its way; what it had before should
 * not be used from then on. INVALID_ARGUMENT and UNIMPLEMENTED will be said again for ever (SPIFFE
 * Workload Endpoint): it ends. JWT-SVIDs and JWT bundles are kept beside it on request, the bundles
 * by a stream on the same connection (svid_follow_jwt.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "authz/cli/svid_follow_jwt.h"
#include "authz/cli/workload.h"

#define FILE_MAX (512 * 1024)

struct follow {
	struct svid_watch *w;
	struct svid_jwt jwt;
	bool fresh; /* this connection has brought an SVID that holds */
};

void svid_read_now(const struct svid_watch *w, const char *name, struct buf *out)
{
	struct err e = { 0 };
	AUTO_BUF path;

	buf_init(out, mem_system, FILE_MAX);
	buf_init(&path, mem_system, 4096);
	buf_printf(&path, "%s/%s", w->files.dir, name);
	buf_char(&path, '\0');
	if (!buf_ok(&path) || !api_read_file(path.p, FILE_MAX, out, &e))
		buf_reset(out);
}

static bool has_changed(const struct svid_watch *w, const char *name, const struct buf *before)
{
	AUTO_BUF after;

	svid_read_now(w, name, &after);
	return !str_eq(buf_str(before), buf_str(&after));
}

static void remove_file(const struct svid_watch *w, int dir, const char *name)
{
	struct err e = { 0 };

	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return;
	err_set(&e, ERR_IO, "%s/%s stays: %s", w->files.dir, name, strerror(errno));
	svid_complain(w, &e);
}

/* All that proves who we are. */
static void remove_files(const struct follow *f)
{
	static const char *const names[] = { "key.pem", "svid.pem", "key.pem.old" };
	int dir = open(f->w->files.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		remove_file(f->w, dir, names[i]);
	for (size_t i = 0; i < f->jwt.ntokens; i++)
		remove_file(f->w, dir, f->jwt.tokens[i].file);
	close(dir);
}

/* The identity was taken away. Said once. */
static void withdraw(struct follow *f)
{
	const char *what = cli_value(f->w->c, "--on-denied");

	f->fresh = false;
	svid_jwt_forget(&f->jwt);
	if (!f->w->have)
		return;
	f->w->have = false;
	if (what && strcmp(what, "remove") == 0)
		remove_files(f);
	svid_tell(f->w, "withdrawn");
}

static bool on_svid(void *ctx, struct str message)
{
	struct follow *f = ctx;
	struct svid_watch *w = f->w;
	struct svid_found before = w->now;
	struct err e = { 0 };
	AUTO_BUF svid, bundle;

	w->failures = 0;
	svid_read_now(w, "svid.pem", &svid);
	svid_read_now(w, "bundle.pem", &bundle);
	if (!svid_from_message(w->c, message, &w->files, &w->now, &e)) {
		svid_complain(w, &e);
		if (e.class == ERR_FORBIDDEN) /* there are others, but not --id */
			withdraw(f);
		return !cli_flag(w->c, "--once");
	}
	w->have = f->fresh = true;
	if (strcmp(before.spiffe_id, w->now.spiffe_id) != 0)
		svid_jwt_forget(&f->jwt);
	if (has_changed(w, "svid.pem", &svid))
		svid_tell(w, "renewed");
	else if (has_changed(w, "bundle.pem", &bundle))
		svid_tell(w, "bundle");
	return true;
}

static bool on_jwt_bundles(void *ctx, struct str message)
{
	struct follow *f = ctx;

	svid_jwt_heard(&f->jwt, message);
	return true;
}

static int64_t turn(void *ctx)
{
	struct follow *f = ctx;
	int64_t wait_s = f->fresh ? svid_jwt_turn(&f->jwt, f->w) : INT32_MAX;

	return f->jwt.final || cli_flag(f->w->c, "--once") ? WORKLOAD_ENOUGH : wait_s;
}

/* Would the server say the same again for ever? */
static bool is_final(const struct err *e)
{
	return e->class == ERR_INVALID || e->class == ERR_NOT_FOUND;
}

static int check_usage(const struct svid_watch *w)
{
	const char *what = cli_value(w->c, "--on-denied");

	if (svid_proof_given(w->c) || w->every_s)
		return cli_misuse(w->c,
				  "--socket stands without a proof and without --every: the "
				  "server knows this process by itself, and says when to renew");
	if (what && strcmp(what, "keep") != 0 && strcmp(what, "remove") != 0)
		return cli_misuse(w->c, "--on-denied %.40s: expected keep or remove", what);
	return CLI_DONE;
}

static int follow(struct follow *f)
{
	struct svid_watch *w = f->w;
	const struct workload_follow streams = {
		{ { "FetchX509SVID", { "", 0 }, on_svid },
		  { "FetchJWTBundles", { "", 0 }, on_jwt_bundles } },
		f->jwt.bundle_file ? 2 : 1,
		f,
		turn
	};

	for (;;) {
		struct err e = { 0 };

		f->fresh = false;
		if (workload_follow(cli_value(w->c, "--socket"), &streams, &e))
			return f->fresh && !f->jwt.failed ? CLI_DONE : CLI_FAILED;
		svid_complain(w, &e);
		if (e.class == ERR_FORBIDDEN)
			withdraw(f);
		if (is_final(&e) || cli_flag(w->c, "--once"))
			return CLI_FAILED;
		w->failures++;
		(void)sleep((unsigned)svid_retry_after(w->failures, svid_any()));
	}
}

int svid_follow(struct svid_watch *w)
{
	int exit_code = check_usage(w);
	struct follow f = { .w = w };
	struct err e = { 0 };

	if (exit_code != CLI_DONE)
		return exit_code;
	if (!svid_jwt_of(w->c, &f.jwt, &e))
		return cli_fail(w->c, &e);
	w->have = svid_on_disk(&w->files, (int64_t)time(NULL), &w->now, &e);
	exit_code = follow(&f);
	svid_jwt_clear(&f.jwt);
	return exit_code;
}
