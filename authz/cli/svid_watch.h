/*
 * svid_watch - when to renew, whom to tell: the parts of `writ svid watch`.
 *
 * Ownership  A watch borrows the command's options.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_SVID_WATCH_H
#define WRIT_CLI_SVID_WATCH_H

#include "authz/cli/svid.h"

/* When to renew an SVID of this life, in seconds since 1970: at half of it, spread over a tenth (45
 * to 55 percent) by @random, so that many do not come together; with @every_s no later than that
 * after its begin. */
int64_t svid_renew_at(int64_t from_s, int64_t to_s, int64_t every_s, uint32_t random);

/* Seconds to wait after so many failures: 1 to 60, doubling, the second half of it by @random. */
int64_t svid_retry_after(unsigned failures, uint32_t random);

/* "HUP" or "SIGHUP" ...; 0: not one that is sent here. */
int svid_signal_named(const char *name);

/* The content of a pid file: one number from 2 on. */
bool svid_read_pid(struct str text, pid_t *out);

struct svid_watch {
	struct cli *c;
	struct svid_files files;
	struct svid_found now;
	bool have; /* .now is what lies on disk, and it holds */
	int64_t every_s, renew_at_s, look_at_s;
	unsigned failures;
	int signal; /* 0: none */
	const char *pid_file, *command;
};

/* Say that this happened ("renewed", "bundle", "jwt_bundle", "withdrawn"); signal the process and
 * run the command; both. */
void svid_say(const struct svid_watch *w, const char *what);
void svid_notify(const struct svid_watch *w);
void svid_tell(const struct svid_watch *w, const char *what);
void svid_complain(const struct svid_watch *w, const struct err *e); /* on standard error */
uint32_t svid_any(void);					     /* at random */

/* What lies in the folder under @name, or nothing; @out begins here. */
void svid_read_now(const struct svid_watch *w, const char *name, struct buf *out);

/* Follow the Workload API at --socket until nothing that could be tried would help; returns the
 * exit code. */
int svid_follow(struct svid_watch *w);

#endif
