/*
 * signer_child - the life of the signer process: confine itself, then answer until nobody is left.
 *
 * Purpose    Order of its life: shed what it inherited, open the keys, give up the right to files,
 *            sockets and programs, answer. It ends when the last channel closes.
 * Ownership  Takes over the channels.
 * Threads    The process has one.
 */
#ifndef WRIT_SPIFFE_SIGNER_CHILD_H
#define WRIT_SPIFFE_SIGNER_CHILD_H

#include "spiffe/signer.h"

/* In the child, right after fork: never returns. @parent: who must still be there. */
_Noreturn void signer_child(const struct signer_config *c, const int *channels, unsigned n,
			    pid_t parent);

/* Forbid this process files, sockets, programs and other processes, for good (seccomp). What
 * is left to the process with a token's module are files and Unix sockets, and sockets of the
 * network if it needs them. False if the kernel or the machine does not offer it. */
enum confine { CONFINE_ALL, CONFINE_LOCAL, CONFINE_NETWORK };
bool signer_confine(enum confine how);

#endif
