/*
 * svid_watch - when to renew, whom to tell: the parts of `writ svid watch` that tests can ask.
 *
 * Threads    No state.
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

#endif
