/*
 * err - why a call failed: a class, a stable code, and a sentence for the user.
 *
 * Purpose    A last parameter `struct err *` marks a call that can fail. The class
 *            decides the HTTP or gRPC status (one table in each front), the code is
 *            what programs compare, the sentence is what people read: what is wrong,
 *            where, and what was expected. Never anything secret.
 * Ownership  Held by value by the caller; `code` points to static storage.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_ERR_H
#define WRIT_ERR_H

#include "include/writ/str.h"

enum err_class {
	ERR_NONE = 0,
	ERR_INVALID,	     /* the input is malformed or out of range             400 */
	ERR_UNAUTHENTICATED, /* no proof of who is calling, or a bad one            401 */
	ERR_FORBIDDEN,	     /* known, but not allowed to do this                   403 */
	ERR_NOT_FOUND,	     /* no such thing                                       404 */
	ERR_CONFLICT,	     /* the state does not allow it (exists, used, pinned)  409 */
	ERR_TOO_LARGE,	     /* over a stated limit                                 413 */
	ERR_RATE,	     /* too many requests                                   429 */
	ERR_UNAVAILABLE,     /* try again later: overload, full disk, starting      503 */
	ERR_TIMEOUT,	     /* a deadline passed                                   504 */
	ERR_IO,		     /* the operating system refused a file or a socket     500 */
	ERR_NOMEM,	     /* an allocation failed or a memory bound was reached  500 */
	ERR_INTERNAL,	     /* a library failed in a way that input cannot cause   500 */
};

struct err {
	enum err_class class;
	const char *code; /* "invalid_request"; static, [a-z0-9_] */
	char msg[400];	  /* one sentence, NUL-terminated */
};

/* No error yet. Cheaper than { 0 }, which clears a message that nobody reads. */
static inline void err_none(struct err *e)
{
	e->class = ERR_NONE;
	e->code = NULL;
	e->msg[0] = '\0';
}

/* Fill @e (NULL is allowed) with the class's default code. Always false, so that
 * `return err_set(e, ...)` ends a failing function; compilers and analysers see that it is.
 * Control characters and bytes that are not UTF-8 in the message are replaced by '?': messages
 * reach terminals and JSON. */
#define err_set(e, class, ...)                         \
	({                                             \
		err_fill(e, class, NULL, __VA_ARGS__); \
		false;                                 \
	})

/* The same with a code of its own. */
#define err_code(e, class, code, ...)                  \
	({                                             \
		err_fill(e, class, code, __VA_ARGS__); \
		false;                                 \
	})

/* Put "<text>: " in front of the message of a failed call. Always false. */
#define err_prefix(e, ...)                      \
	({                                      \
		err_put_before(e, __VA_ARGS__); \
		false;                          \
	})

/* What stands behind them. @code NULL: the class's own. */
void err_fill(struct err *e, enum err_class class, const char *code, const char *fmt, ...)
	PRINTF(4, 5);
void err_put_before(struct err *e, const char *fmt, ...) PRINTF(2, 3);

/* The HTTP status of a class, by the table above. */
int err_status(enum err_class class);

#endif
