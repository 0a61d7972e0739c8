/*
 * chars - which characters HTTP allows where (RFC 9110 5.5, 5.6.2; RFC 3986).
 *
 * Purpose    Both HTTP versions and both doors judge names, values and targets by these.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_NET_CHARS_H
#define WRIT_NET_CHARS_H

#include "include/writ/str.h"

/* A token of at least one character. */
bool http_is_token(struct str s);

/* A token, turned to lower case in place. */
bool http_lower_token(char *p, size_t n);

/* Without spaces and tabs at both ends. */
struct str http_trim(struct str s);

/* ASCII letters compared without case. */
bool http_equal_fold(struct str a, struct str b);

/* A field value: no control character but tab. */
bool http_value_ok(struct str s);

/* '/' and then visible ASCII without '#'. */
bool http_target_ok(struct str s);

/* What can stand in Host or :authority; empty is allowed. */
bool http_host_ok(struct str s);

/* X-Request-ID: at most LIMIT_REQUEST_ID printable ASCII characters. */
bool http_request_id_ok(struct str s);

#endif
