/*
 * bundle - trust bundles: for each trust domain its X.509 authorities and JWT keys.
 *
 * Purpose    Everything that verifies an SVID reads one immutable set. Bundles of different
 *            trust domains are never pooled: each has its own X509_STORE and its own keys, or
 *            one domain could mint IDs of another.
 * Ownership  bundle_set_new gives one reference (struct shared at the head). The set is built by
 *            one thread with bundle_set_add, bundle_add_* and bundle_set_share, then published and
 *            never changed; what bundle_find returns lives as long as the set. A bundle may stand
 *            in several sets: each set holds a reference.
 * Threads    A published set: any.
 */
#ifndef WRIT_SPIFFE_BUNDLE_H
#define WRIT_SPIFFE_BUNDLE_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "authz/base/buf.h"
#include "authz/base/snapshot.h"
#include "include/writ/err.h"

#define BUNDLE_AUTHORITIES_MAX 64 /* X.509 authorities of one trust domain */
#define BUNDLE_JWT_KEYS_MAX 64	  /* JWT keys of one trust domain */
#define BUNDLE_DOMAINS_MAX 1024	  /* trust domains in a set */
#define BUNDLE_KID_MAX 256	  /* bytes of a key id */
#define BUNDLE_DISTRUSTED_MAX 64  /* authorities that no chain may lead through */
#define BUNDLE_TAINTED_MAX 64	  /* authorities that are tainted */
#define BUNDLE_TAINTED_ID 64	  /* bytes of an authority's id */
#define BUNDLE_HASH 32		  /* SHA-256 */

enum bundle_key_type {
	BUNDLE_KEY_RSA,	 /* RS256 RS384 RS512 PS256 PS384 PS512 */
	BUNDLE_KEY_P256, /* ES256 */
	BUNDLE_KEY_P384, /* ES384 */
	BUNDLE_KEY_P521, /* ES512 */
};

struct bundle_jwt_key {
	struct str kid; /* never empty, unique in the bundle */
	char *text;	/* private: what kid points to */
	EVP_PKEY *key;
	enum bundle_key_type type;
};

struct bundle {
	struct str trust_domain;
	char *name;		 /* private: what trust_domain points to */
	uint64_t sequence;	 /* spiffe_sequence: changes whenever the content does */
	uint32_t refresh_hint_s; /* spiffe_refresh_hint */
	X509 *authorities[BUNDLE_AUTHORITIES_MAX];
	size_t nauthorities;
	struct bundle_jwt_key jwt_keys[BUNDLE_JWT_KEYS_MAX];
	size_t njwt_keys;
	struct bundle_jwt_key wit_keys[BUNDLE_JWT_KEYS_MAX]; /* of WIT-SVIDs, and of those alone */
	size_t nwit_keys;
	X509_STORE *store; /* the authorities as trust anchors, extension caches warm */
	char (*tainted)[BUNDLE_TAINTED_ID + 1]; /* private: see bundle_taint */
	size_t ntainted;
	uint8_t (*distrusted)[BUNDLE_HASH]; /* private: see bundle_distrust */
	size_t ndistrusted;
	atomic_uint refs; /* private: sets it stands in */
};

struct bundle_set {
	struct shared shared;
	uint64_t generation; /* grows with each set a process publishes */
	struct bundle **items;
	size_t n;
};

struct bundle_set *bundle_set_new(uint64_t generation, struct err *e);
static inline void bundle_set_release(struct bundle_set *s)
{
	if (s)
		shared_release(&s->shared);
}

/* A new, empty bundle in the set; refused if @trust_domain is there already. Copies the name. */
MUST_USE bool bundle_set_add(struct bundle_set *s, struct str trust_domain, uint64_t sequence,
			     uint32_t refresh_hint_s, struct bundle **out, struct err *e);

/* Let @b, of another set, stand in this one as well, as it is: a new set replaces one domain and
 * shares the rest. Refused if its trust domain is there already. */
MUST_USE bool bundle_set_share(struct bundle_set *s, struct bundle *b, struct err *e);

/* Share all bundles of @from (NULL: none) but that of @except. */
MUST_USE bool bundle_set_share_others(struct bundle_set *s, const struct bundle_set *from,
				      struct str except, struct err *e);

/* Add an authority: one DER certificate that is a CA with keyCertSign. */
MUST_USE bool bundle_add_authority(struct bundle *b, struct str der, struct err *e);

/* No chain may lead through the CA with this public key (@spki: DER). For an authority that was
 * revoked while what vouches for it, an organisation's root, stays in the bundle. */
MUST_USE bool bundle_distrust(struct bundle *b, struct str spki, struct err *e);
/* Is it one of those? */
bool bundle_distrusts(const struct bundle *b, const X509 *ca);

/* The authority @id (an X.509 one's subject key identifier in hexadecimal, a JWT key's kid), of our
 * own domain, is tainted: what it signed still verifies, but whoever holds an SVID of it renews
 * that at once. */
MUST_USE bool bundle_taint(struct bundle *b, struct str id, struct err *e);
bool bundle_tainted(const struct bundle *b, struct str id);

/* Add a JWT key: @spki in DER, RSA >= 2048 or EC P-256/P-384/P-521. Copies @kid. */
MUST_USE bool bundle_add_jwt_key(struct bundle *b, struct str kid, struct str spki, struct err *e);

/* The same for a key of WIT-SVIDs; no key of another use has its kid (WIT-SVID 6.1). */
MUST_USE bool bundle_add_wit_key(struct bundle *b, struct str kid, struct str spki, struct err *e);
/* Is there a WIT key of this id? */
bool bundle_has_wit_key(const struct bundle *b, struct str kid);

/* The bundle of a trust domain, or NULL: then nothing of that domain is trusted. */
const struct bundle *bundle_find(const struct bundle_set *s, struct str trust_domain);

/* The SPIFFE bundle document (GET /bundle). */
void bundle_json(const struct bundle *b, struct buf *out);

/* A plain JWK Set of the WIT keys only, or of the JWT keys only: for OIDC (GET /keys; with alg and
 * "use":"sig"), or for the Workload API ("use":"jwt-svid", as its clients want it). */
enum bundle_jwks { BUNDLE_JWKS_OIDC, BUNDLE_JWKS_WORKLOAD, BUNDLE_JWKS_WIT };
void bundle_jwks(const struct bundle *b, enum bundle_jwks kind, struct buf *out);

/* The authorities: PEM blocks (bundle.pem), or DER one behind the other (Workload API). */
void bundle_pem(const struct bundle *b, struct buf *out);
void bundle_der(const struct bundle *b, struct buf *out);

#endif
