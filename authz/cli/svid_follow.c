/*
 * svid watch --socket: a SPIFFE Workload API, writ's or another server's, says when an SVID or its
 * bundle changes, and what it says goes to disk. What spiffe-helper does.
 *
 * The files stay while the server is away: they are good until they expire, and the next connection
 * brings newer ones. PERMISSION_DENIED says that this process is nobody (any more), and is asked
 * again with a growing pause, since the registration may be on its way; what it had before should
 * not be used from then on. INVALID_ARGUMENT and UNIMPLEMENTED will be said again for ever (SPIFFE
 * Workload Endpoint): it ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "authz/cli/svid_watch.h"
#include "authz/cli/workload.h"

#define FILE_MAX (256 * 1024)

/* What lies there, or nothing. */
static void read_now(const struct svid_watch *w, const char *name, struct buf *out)
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

	read_now(w, name, &after);
	return !str_eq(buf_str(before), buf_str(&after));
}

static void remove_files(const struct svid_watch *w)
{
	static const char *const names[] = { "key.pem", "svid.pem", "key.pem.old" };
	int dir = open(w->files.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct err e = { 0 };

	for (size_t i = 0; dir >= 0 && i < ARRAY_LEN(names); i++)
		if (unlinkat(dir, names[i], 0) != 0 && errno != ENOENT) {
			err_set(&e, ERR_IO, "%s/%s stays: %s", w->files.dir, names[i],
				strerror(errno));
			svid_complain(w, &e);
		}
	if (dir >= 0)
		close(dir);
}

/* The identity was taken away. Said once. */
static void withdraw(struct svid_watch *w)
{
	const char *what = cli_value(w->c, "--on-denied");

	if (!w->have)
		return;
	w->have = false;
	if (what && strcmp(what, "remove") == 0)
		remove_files(w);
	svid_tell(w, "withdrawn");
}

static bool on_message(void *ctx, struct str message)
{
	struct svid_watch *w = ctx;
	struct err e = { 0 };
	AUTO_BUF svid, bundle;

	w->failures = 0;
	read_now(w, "svid.pem", &svid);
	read_now(w, "bundle.pem", &bundle);
	if (!svid_from_message(w->c, message, &w->files, &w->now, &e)) {
		svid_complain(w, &e);
		if (e.class == ERR_FORBIDDEN) /* there are others, but not --id */
			withdraw(w);
		return !cli_flag(w->c, "--once");
	}
	w->have = true;
	if (has_changed(w, "svid.pem", &svid))
		svid_tell(w, "renewed");
	else if (has_changed(w, "bundle.pem", &bundle))
		svid_tell(w, "bundle");
	return !cli_flag(w->c, "--once");
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

int svid_follow(struct svid_watch *w)
{
	int exit_code = check_usage(w);
	struct err none = { 0 };

	if (exit_code != CLI_DONE)
		return exit_code;
	w->have = svid_on_disk(&w->files, (int64_t)time(NULL), &w->now, &none);
	for (;;) {
		struct err e = { 0 };

		if (workload_follow(cli_value(w->c, "--socket"), "FetchX509SVID",
				    (struct str){ "", 0 }, on_message, w, &e))
			return w->have ? CLI_DONE : CLI_FAILED; /* once */
		svid_complain(w, &e);
		if (e.class == ERR_FORBIDDEN)
			withdraw(w);
		if (is_final(&e) || cli_flag(w->c, "--once"))
			return CLI_FAILED;
		w->failures++;
		(void)sleep((unsigned)svid_retry_after(w->failures, svid_any()));
	}
}
