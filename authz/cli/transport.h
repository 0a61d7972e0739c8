/*
 * transport - a connected stream to a server: Unix socket, loopback TCP, or TLS.
 *
 * Purpose    Connects, proves both ends where there is TLS, then moves bytes; every wait is
 *            bounded by CLIENT_TIMEOUT_MS.
 * Ownership  A transport owns its socket and its TLS.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_TRANSPORT_H
#define WRIT_CLI_TRANSPORT_H

#include "authz/cli/client.h"

struct transport;

/* With @unproven the peer's certificate is not judged: only for reading what a fingerprint will
 * prove afterwards. */
MUST_USE bool transport_open(const struct target *t, const struct client_tls *tls, bool unproven,
			     struct transport **out, struct err *e);
MUST_USE bool transport_write(struct transport *t, struct str bytes, struct err *e);
/* As struct reply_source wants it. */
MUST_USE bool transport_read(void *t, char *p, size_t n, size_t *got, struct err *e);
/* Is there something to read within @ms? True as well when reading would fail. */
bool transport_wait(struct transport *t, int ms);
void transport_close(struct transport *t);

static inline void transport_close_p(struct transport **t)
{
	transport_close(*t);
}
#define AUTO_TRANSPORT __attribute__((cleanup(transport_close_p))) struct transport

#endif
