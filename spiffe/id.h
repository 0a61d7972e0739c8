/*
 * id - parse and compare SPIFFE IDs (spiffe://trust-domain/path).
 *
 * Purpose    The one parser: certificates, tokens, callers and registrations all use it. Nothing
 *            is ever normalised: IDs are compared byte for byte, and whatever would need
 *            normalising (upper case in the trust domain, dot segments, escapes) is refused.
 * Ownership  An id borrows its text and lives as long as the text does; there is nothing to free.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SPIFFE_ID_H
#define WRIT_SPIFFE_ID_H

#include "include/writ/err.h"

#define SPIFFE_ID_MAX 2048 /* bytes; the standard's own limit */
#define SPIFFE_TRUST_DOMAIN_MAX 255

/* writ's own identity: its TLS leaf and the audience of tokens addressed to it. */
#define SPIFFE_SERVER_PATH "/writ/server"

struct spiffe_id {
	struct str trust_domain; /* "acme.example", never empty */
	struct str path;	 /* "/agent/7", or empty */
};

/* On failure *id is untouched and e->msg says which byte is wrong. */
MUST_USE bool spiffe_id_parse(struct str text, struct spiffe_id *id, struct err *e);

/* The same for a workload's ID, which must have a path. */
MUST_USE bool spiffe_id_parse_workload(struct str text, struct spiffe_id *id, struct err *e);

bool spiffe_id_equal(const struct spiffe_id *a, const struct spiffe_id *b);
bool spiffe_id_member_of(const struct spiffe_id *id, struct str trust_domain);

/* "/writ" and all below it belong to writ itself and cannot be registered. */
bool spiffe_path_reserved(struct str path);

/* A trust domain that an administrator configures, "example.org" or "spiffe://example.org".
 * Stricter than the grammar: no leading or trailing dot and no "..", since Go's X.509 parser
 * refuses every certificate of such a domain. *name borrows from @text. */
MUST_USE bool spiffe_trust_domain_parse(struct str text, struct str *name, struct err *e);

#endif
