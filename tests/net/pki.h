/* A certificate per name, made on the spot, and a verifier that knows good from bad. */
#ifndef WRIT_TESTS_NET_PKI_H
#define WRIT_TESTS_NET_PKI_H

#include <openssl/ssl.h>

#include "authz/net/tls.h"

struct pki {
	struct slot slot;
	struct tls_verifier verifier; /* "good" passes as spiffe://test/good, others fail */
	int verified;		      /* how often verify was called */
	bool distrust;		      /* still_valid says no */
	int asked;		      /* how often still_valid was called */
};

void pki_open(struct pki *p); /* publishes a certificate for "server-1" */
void pki_close(struct pki *p);
void pki_publish(struct pki *p, const char *name);

/* The PEM of a self-signed certificate and its key; the caller frees them with free(). */
void pki_make(const char *name, char **cert, char **key);

/* A client context; @name NULL: no certificate. @alpn in wire form or NULL. */
SSL_CTX *pki_client(const char *name, const char *alpn);

/* The common name of the peer's certificate. */
const char *pki_peer_name(const SSL *ssl, char out[64]);

#endif
