/*
 * log - one line per event on stderr: time level event key=value ...
 *
 * Purpose    For the operator. The audit log is elsewhere; nothing here is a record. Lower
 *            floors return errors and do not log, fronts and main do, so nothing is said twice.
 *            Never a token, a key or a request body.
 * Threads    Any: a line is one write(2).
 */
#ifndef WRIT_LOG_H
#define WRIT_LOG_H

#include "include/writ/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level least);

/* log_event(LOG_INFO, "policy.loaded", "generation=%d rules=%zu", g, n). Values that may hold
 * spaces or foreign bytes go through LOG_TEXT: key="%s". Control characters become '?'. */
void log_event(enum log_level level, const char *event, const char *fmt, ...) PRINTF(3, 4);

#endif
