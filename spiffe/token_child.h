/*
 * token_child - the life of the token's process: load the module, confine itself, answer.
 *
 * Purpose    The other side of token_process.h. A request is its op, the kind of key and its
 *            fields; the module is loaded with the first, so that what is wrong with it can be
 *            told, and from then on only what signer_confine leaves is allowed.
 * Ownership  Takes over the socket.
 * Threads    The process has one.
 */
#ifndef WRIT_SPIFFE_TOKEN_CHILD_H
#define WRIT_SPIFFE_TOKEN_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

enum token_op {
	TOKEN_LOGIN = 1, /* URI, PIN -> nothing */
	TOKEN_GENERATE,	 /* label -> id, SubjectPublicKeyInfo */
	TOKEN_SIGN,	 /* id, digest -> signature */
	TOKEN_KEEP,	 /* label, ids -> how many left (8 bytes) */
};

/* In the child, right after fork: never returns. @parent: who must still be there. */
_Noreturn void token_child(const char *module, bool network, int fd, pid_t parent);

#endif
