/*
 * oauth - what the handlers of OAuth's endpoints share.
 *
 * Purpose    Requests are forms and errors are OAuth's own (RFC 6749 5.2), so nothing of the other
 *            endpoints' ways of reading and refusing is used here.
 * Ownership  As router.h.
 * Threads    As router.h.
 */
#ifndef WRIT_SERVER_OAUTH_H
#define WRIT_SERVER_OAUTH_H

#include "authz/net/form.h"
#include "authz/server/router.h"

/* The error of @e: its code is an `error` of OAuth, its class the status, its message the
 * description. Of an authenticated caller it is put on record first (kind request.refused), of
 * others counted; @recorded: that is done already. */
void oauth_fail(struct request *r, const struct err *e, bool recorded);

/* The form in the body. Names of @once (NULL-terminated) may be there once; unknown ones are passed
 * over (RFC 6749 3.2). False: refused and answered. */
MUST_USE bool oauth_form(struct request *r, const char *const *once, struct form *out);

/* Answer 200 with JSON that no cache keeps. Then call request_send. */
struct buf *oauth_reply(struct request *r);

#endif
