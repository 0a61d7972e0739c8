/*
 * peer - TLS with writ's server: who we are, and whether it is who it should be.
 *
 * Purpose    The server proves that it is spiffe://<trust domain>/writ/server under the authorities
 *            we were given; host names play no part, and the system's own authorities have no say.
 * Ownership  Contexts are the caller's to free.
 * Threads    No state.
 */
#ifndef WRIT_CLI_PEER_H
#define WRIT_CLI_PEER_H

#include <openssl/ssl.h>

#include "authz/cli/client.h"
#include "spiffe/bundle.h"
#include "spiffe/crypto.h"

/* TLS 1.2 or later, with our certificate if @tls names one. NULL with @e. */
SSL_CTX *peer_context(const struct client_tls *tls, struct err *e);

/* Shake hands and judge the server; with @unproven, whoever it is. */
MUST_USE bool peer_connect(SSL *ssl, const struct client_tls *tls, bool unproven, struct err *e);

/* The authorities in @pem as a set. They must all be of one trust domain: it is the one whose
 * server is accepted, so a second one would accept a stranger's. An organisation's root that names
 * none (it signs our authority) is taken for one of @domain; empty: refused. */
MUST_USE bool peer_bundles(struct str pem, struct str domain, struct bundle_set **out,
			   struct err *e);

#endif
