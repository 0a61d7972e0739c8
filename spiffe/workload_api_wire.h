/*
 * workload_api_wire - the messages of the SPIFFE Workload API as bytes (workloadapi.proto).
 *
 * Purpose    Requests are read strictly: what is mandatory and empty, or too much, is refused with
 *            the sentence for the client. Responses are put together field by field.
 * Ownership  What was read points into the request; responses go to the caller's buf.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SPIFFE_WORKLOAD_API_WIRE_H
#define WRIT_SPIFFE_WORKLOAD_API_WIRE_H

#include "authz/base/json.h"
#include "spiffe/jwt_svid.h"

/* JWTSVIDRequest { 1 audience[], 2 spiffe_id } */
struct workload_jwt_request {
	struct str audience[JWT_AUDIENCES_MAX];
	size_t naudience;     /* at least 1; empty ones and repetitions are left out */
	struct str spiffe_id; /* a valid ID, or empty: all */
};
MUST_USE bool workload_read_jwt(struct str message, struct workload_jwt_request *out,
				struct err *e);

/* ValidateJWTSVIDRequest { 1 audience, 2 svid }: neither is empty. */
struct workload_validate_request {
	struct str audience, svid;
};
MUST_USE bool workload_read_validate(struct str message, struct workload_validate_request *out,
				     struct err *e);

/* X509SVIDRequest, X509BundlesRequest, JWTBundlesRequest: no fields of ours, but a message. */
MUST_USE bool workload_read_empty(struct str message, struct err *e);

/* One of X509SVIDResponse.svids. */
struct workload_x509_svid {
	struct str spiffe_id, x509_svid, key, bundle, hint;
};
void workload_put_x509_svid(struct buf *b, const struct workload_x509_svid *s);

/* WITSVIDRequest { 1 spiffe_id }: a valid ID, or empty for all. */
MUST_USE bool workload_read_wit(struct str message, struct str *spiffe_id, struct err *e);

/* One of WITSVIDResponse.svids; @key is a private JWK. */
void workload_put_wit_svid(struct buf *b, struct str spiffe_id, struct str token, struct str key,
			   struct str hint);

/* One of JWTSVIDResponse.svids. */
void workload_put_jwt_svid(struct buf *b, struct str spiffe_id, struct str token, struct str hint);

/* The fields of the bundle maps. */
#define WORKLOAD_X509_SVID_FEDERATED 3 /* X509SVIDResponse.federated_bundles */
#define WORKLOAD_X509_BUNDLES 2	       /* X509BundlesResponse.bundles */
#define WORKLOAD_JWT_BUNDLES 1	       /* JWTBundlesResponse.bundles */
#define WORKLOAD_WIT_BUNDLES 1	       /* WITBundlesResponse.bundles */
/* An entry of map @field: "spiffe://<trust_domain>" to @value. */
void workload_put_bundle(struct buf *b, uint32_t field, struct str trust_domain, struct str value);

/* ValidateJWTSVIDResponse. `aud` is always a list. Of a @foreign token only sub, aud and exp are
 * passed on: what else it says means nothing here (JWT-SVID 3). */
void workload_put_validated(struct buf *b, struct str spiffe_id, const struct json *claims,
			    bool foreign);

#endif
