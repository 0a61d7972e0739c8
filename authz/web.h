/*
 * web - the certificate of listen.web: a Web PKI one, from files that others renew.
 *
 * Purpose    Pollers of the https_web profile and OpenID relying parties know Web PKI and no
 *            SPIFFE. Certificate and key come from two PEM files (of certbot and the like), which
 * are read again when they change; a pair that does not fit leaves the one in use. Ownership
 * Borrows the paths; owns its slot's content. Threads    web_look: one thread. The slot is read by
 * all.
 */
#ifndef WRIT_WEB_H
#define WRIT_WEB_H

#include <sys/stat.h>

#include "authz/net/tls.h"

struct web {
	struct slot certificate;	  /* struct tls_certificate */
	const char *cert_file, *key_file; /* NULL: there is none */
	bool refused;			  /* the last look said why */
	struct timespec seen[2];	  /* when the files were changed that were read last */
};

/* Read the files if they changed since the last look. False with @e: they do not serve, and this is
 * the first look that says so; what is in the slot stays. */
MUST_USE bool web_look(struct web *w, struct err *e);

#endif
