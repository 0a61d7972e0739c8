/*
 * log_key - another key for the log, on record.
 *
 * Purpose    The signer makes it, it lies in keys/log-next.key before the log hears of it, and the
 *            log takes it (audit_rotate).
 * Threads    The control thread, from tasks.
 */
#ifndef WRIT_DECIDE_LOG_KEY_H
#define WRIT_DECIDE_LOG_KEY_H

#include "authz/decide/control.h"

#define LOG_KEY_FILE "log.key"
#define LOG_NEXT_KEY_FILE "log-next.key"

/* *seq: of the `key.rotate` record. @by is who asks. */
MUST_USE bool log_key_rotate(struct control *c, struct str by, uint64_t *seq, struct err *e);

#endif
