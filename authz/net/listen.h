/*
 * listen - open listening sockets; say who connected.
 *
 * Purpose    Both doors' sockets: "127.0.0.1:8080", "[::1]:8080", or the path of a Unix socket.
 * Ownership  The caller closes the descriptor; a Unix socket's path is removed by listen_close.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_NET_LISTEN_H
#define WRIT_NET_LISTEN_H

#include <sys/socket.h>

#include "authz/net/call.h"
#include "include/writ/err.h"

/* A non-blocking listening descriptor, or -1. Plain TCP is refused on all but loopback
 * addresses, whatever the configuration says. *port: in, what to use in place of port 0 (or 0);
 * out, the port that is used. With @share the port may be opened several times, by us or by another
 * process of this user. A Unix socket's path is taken over if nobody answers there. */
int listen_open(const struct listener *l, unsigned mode, bool share, unsigned *port, struct err *e);
void listen_close(const struct listener *l, int fd);

/* Fill address and, for Unix sockets, pid, uid, gid. */
void listen_peer(const struct listener *l, int fd, const struct sockaddr_storage *from,
		 struct peer *out);

#endif
