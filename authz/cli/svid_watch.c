/*
 * svid watch: keep an X.509-SVID and its bundle fresh on disk, and tell a program when they change.
 *
 * It renews over mutual TLS with the SVID it has, at half of its life; a join token is for the
 * first one, and for the case that the one at hand has expired. Being killed at any moment leaves
 * whole files. What goes wrong is said on standard error and tried again; it ends only when nothing
 * it could try would help. With --socket it follows a Workload API instead (svid_follow.c).
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/clock.h"
#include "authz/base/digest.h"
#include "authz/base/text.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"
#include "authz/cli/svid_watch.h"

#define EXEC_LIMIT_S 60 /* how long a command may take */
#define SLEEP_MAX_S 30	/* the clock may be set meanwhile */

int64_t svid_renew_at(int64_t from_s, int64_t to_s, int64_t every_s, uint32_t random)
{
	int64_t life = to_s - from_s, tenth = life / 10;
	int64_t at = from_s + life / 2 - tenth / 2;

	if (tenth > 0)
		at += random % (uint64_t)(tenth + 1);
	if (every_s && at > from_s + every_s)
		at = from_s + every_s;
	return at;
}

int64_t svid_retry_after(unsigned failures, uint32_t random)
{
	int64_t base = failures > 6 ? 60 : (int64_t)1 << (failures ? failures - 1 : 0);

	if (base > 60)
		base = 60;
	return base / 2 + (int64_t)(random % (uint64_t)(base - base / 2 + 1)) + (base == 1);
}

static const struct {
	const char *name;
	int number;
} signals[] = {
	{ "HUP", SIGHUP },   { "INT", SIGINT },	  { "TERM", SIGTERM },	 { "QUIT", SIGQUIT },
	{ "USR1", SIGUSR1 }, { "USR2", SIGUSR2 }, { "WINCH", SIGWINCH },
};

int svid_signal_named(const char *name)
{
	const char *bare = strncmp(name, "SIG", 3) == 0 ? name + 3 : name;

	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (strcmp(bare, signals[i].name) == 0)
			return signals[i].number;
	return 0;
}

bool svid_read_pid(struct str text, pid_t *out)
{
	uint64_t n;

	while (text.n && strchr(" \t\r\n", text.p[text.n - 1]) && text.p[text.n - 1])
		text.n--;
	/* 0 and below are groups of processes, 1 is the system's first. */
	if (!text_u64(text, INT32_MAX, &n) || n < 2)
		return false;
	*out = (pid_t)n;
	return true;
}

void svid_complain(const struct svid_watch *w, const struct err *e)
{
	(void)cli_fail(w->c, e);
	fflush(w->c->err);
}

/* ---- telling others ---- */

static void send_signal(const struct svid_watch *w)
{
	struct err e = { 0 };
	AUTO_BUF text;
	pid_t pid = 0;

	buf_init(&text, mem_system, 4096);
	if (!api_read_file(w->pid_file, 64, &text, &e))
		(void)err_prefix(&e, "nobody was signalled");
	else if (!svid_read_pid(buf_str(&text), &pid))
		err_set(&e, ERR_INVALID, "nobody was signalled: %s holds no process id",
			w->pid_file);
	else if (kill(pid, w->signal) != 0)
		err_set(&e, ERR_IO, "process %d was not signalled: %s", (int)pid, strerror(errno));
	if (e.class != ERR_NONE)
		svid_complain(w, &e);
}

/* The group of a command that does not end in time is killed: the next renewal must not wait. */
static int wait_for(pid_t pid)
{
	const struct timespec pause = { .tv_nsec = 50000000 };
	int status = 0;

	for (int i = 0; i < EXEC_LIMIT_S * 20; i++) {
		pid_t rc = waitpid(pid, &status, WNOHANG);

		if (rc == pid || (rc < 0 && errno != EINTR))
			return status;
		nanosleep(&pause, NULL);
	}
	kill(-pid, SIGKILL);
	(void)waitpid(pid, &status, 0);
	return status;
}

static void run_command(const struct svid_watch *w)
{
	char sh[] = "sh", option[] = "-c", *command = strdup(w->command);
	char *const argv[] = { sh, option, command, NULL };
	posix_spawnattr_t attr;
	struct err e = { 0 };
	pid_t pid;
	int rc, status;

	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
	rc = !command ? ENOMEM : posix_spawn(&pid, "/bin/sh", NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	free(command);
	if (rc) {
		err_set(&e, ERR_IO, "cannot run the command: %s", strerror(rc));
		svid_complain(w, &e);
		return;
	}
	status = wait_for(pid);
	if (WIFSIGNALED(status))
		err_set(&e, ERR_IO, "the command was ended by signal %d%s", WTERMSIG(status),
			WTERMSIG(status) == SIGKILL ? " (it may have taken over a minute)" : "");
	else if (WEXITSTATUS(status))
		err_set(&e, ERR_IO, "the command ended with exit code %d", WEXITSTATUS(status));
	if (e.class != ERR_NONE)
		svid_complain(w, &e);
}

void svid_say(const struct svid_watch *w, const char *what)
{
	char expires[CLOCK_RFC3339_MAX];

	clock_rfc3339(w->now.to_s * 1000, expires);
	if (w->c->json)
		fprintf(w->c->out,
			"{\"event\":\"%s\",\"spiffe_id\":\"%s\",\"expires_at\":\"%s\"}\n", what,
			w->now.spiffe_id, expires);
	else
		fprintf(w->c->out, "%s %s until %s in %s\n", what, w->now.spiffe_id, expires,
			w->files.dir);
	fflush(w->c->out);
}

void svid_notify(const struct svid_watch *w)
{
	if (w->signal)
		send_signal(w);
	if (w->command)
		run_command(w);
}

void svid_tell(const struct svid_watch *w, const char *what)
{
	svid_say(w, what);
	svid_notify(w);
}

/* ---- renewing ---- */

uint32_t svid_any(void)
{
	uint32_t n;

	random_bytes(&n, sizeof(n));
	return n;
}

/* Would trying again as we are ever help? */
static bool hopeless(const struct svid_watch *w, const struct err *e)
{
	if (w->have)
		return false;
	return e->class != ERR_UNAVAILABLE && e->class != ERR_TIMEOUT && e->class != ERR_RATE &&
	       e->class != ERR_IO && e->class != ERR_NOMEM && e->class != ERR_INTERNAL;
}

static bool renew(struct svid_watch *w, int64_t now, struct err *e)
{
	const bool proof = svid_proof_given(w->c);
	struct svid_found found;
	struct err none = { 0 };

	w->have = svid_on_disk(&w->files, now, &w->now, &none);
	if (!w->have && !proof)
		return err_code(e, ERR_INVALID, "no_svid",
				"%.250s; give a join token of `writ agent token` by --join-token",
				none.msg);
	if (!svid_obtain(w->c, &w->files, !w->have, &found, e))
		return false;
	w->now = found;
	w->have = true;
	w->renew_at_s = svid_renew_at(found.from_s, found.to_s, w->every_s, svid_any());
	/* Its begin lies a little back, so that clocks may differ; never renew in a circle. */
	if (w->renew_at_s <= now)
		w->renew_at_s = now + 1;
	return true;
}

/* True: go on. False: the exit code is set. */
static bool step(struct svid_watch *w, int64_t now, int *exit_code)
{
	struct err e = { 0 };

	if (renew(w, now, &e)) {
		w->failures = 0;
		w->look_at_s = now + 1;
		svid_tell(w, "renewed");
		return true;
	}
	svid_complain(w, &e);
	if (hopeless(w, &e)) {
		*exit_code = CLI_FAILED;
		return false;
	}
	w->failures++;
	w->renew_at_s = now + svid_retry_after(w->failures, svid_any());
	return true;
}

/* The bundle may change between renewals. An SVID that no longer holds under it is renewed at once:
 * its authority was withdrawn. */
static void look_at_bundle(struct svid_watch *w, int64_t now)
{
	int64_t next_s = 60;
	struct svid_found found;
	bool changed;
	struct err e = { 0 };

	if (!svid_refresh_bundle(w->c, &w->files, &changed, &next_s, &e)) {
		svid_complain(w, &e);
	} else if (changed) {
		svid_tell(w, "bundle");
		if (!svid_on_disk(&w->files, now, &found, &e))
			w->renew_at_s = now;
	}
	w->look_at_s = now + next_s;
}

static int watch(struct svid_watch *w)
{
	int exit_code = CLI_DONE;
	struct err e = { 0 };

	/* One that is there and young needs nothing yet; with --once it is renewed all the same. */
	if (!cli_flag(w->c, "--once") &&
	    svid_on_disk(&w->files, (int64_t)time(NULL), &w->now, &e)) {
		w->have = true;
		w->renew_at_s = svid_renew_at(w->now.from_s, w->now.to_s, w->every_s, svid_any());
	}
	for (;;) {
		int64_t now = (int64_t)time(NULL), next;

		if (now >= w->renew_at_s && !step(w, now, &exit_code))
			return exit_code;
		if (cli_flag(w->c, "--once"))
			return w->failures ? CLI_FAILED : CLI_DONE;
		if (w->have && now >= w->look_at_s && !w->failures)
			look_at_bundle(w, now);
		next = w->have && !w->failures && w->look_at_s < w->renew_at_s ? w->look_at_s
									       : w->renew_at_s;
		now = (int64_t)time(NULL);
		if (next > now)
			(void)sleep(
				(unsigned)(next - now < SLEEP_MAX_S ? next - now : SLEEP_MAX_S));
	}
}

int run_svid_watch(struct cli *c)
{
	const char *name = cli_value(c, "--signal"), *every = cli_value(c, "--every");
	struct svid_watch w = { .c = c,
				.pid_file = cli_value(c, "--pid-file"),
				.command = cli_value(c, "--exec") };
	struct err e = { 0 };

	if (!svid_files_of(c, &w.files, &e))
		return cli_fail(c, &e);
	if (every && !text_duration(str_c(every), &w.every_s))
		return cli_misuse(c, "--every %.40s: expected a time, such as 15m", every);
	if (!name != !w.pid_file)
		return cli_misuse(c, "--signal and --pid-file belong together: what, and to whom");
	if (name && !(w.signal = svid_signal_named(name)))
		return cli_misuse(c,
				  "--signal %.40s: expected HUP, INT, TERM, QUIT, USR1, USR2 or "
				  "WINCH",
				  name);
	if (cli_value(c, "--socket"))
		return svid_follow(&w);
	if (cli_flag(c, "--jwt") || cli_flag(c, "--jwt-bundle"))
		return cli_misuse(c, "--jwt and --jwt-bundle are for --socket; without it, "
				     "`writ svid jwt` fetches a token");
	return watch(&w);
}
