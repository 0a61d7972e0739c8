/*
 * workload_api_sds_wire - Envoy's secret discovery as bytes: DiscoveryRequest, DiscoveryResponse,
 * Secret (envoy.service.discovery.v3, envoy.extensions.transport_sockets.tls.v3).
 *
 * Purpose    Of a request what decides the answer is read, strictly; the rest is stepped over.
 * Ownership  What was read points into the request; responses go to the caller's buf.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SPIFFE_WORKLOAD_API_SDS_WIRE_H
#define WRIT_SPIFFE_WORKLOAD_API_SDS_WIRE_H

#include "authz/base/buf.h"
#include "include/writ/err.h"

#define SDS_NAMES_MAX 64 /* resources of one request */
#define SDS_SECRET_TYPE "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

struct sds_request {
	struct str version, nonce, error; /* what is answered to; empty in the first */
	struct str names[SDS_NAMES_MAX];  /* sorted, none twice; each printable, not empty */
	size_t nnames;
	bool has_node;
	/* Of the node: can it use Envoy's SPIFFE validator? From 1.18 on, unless its metadata has
	 * "disable_spiffe_cert_validation". */
	bool validator;
};
MUST_USE bool sds_read(struct str message, struct sds_request *out, struct err *e);

/* DiscoveryResponse.resources: a Secret with a certificate chain and its key, both PEM. */
void sds_put_certificate(struct buf *b, struct str name, struct str chain, struct str key);
/* A Secret with roots: PEM of one trust domain. */
void sds_put_roots(struct buf *b, struct str name, struct str pem);

/* A Secret with the roots of several trust domains, for the SPIFFE validator. */
struct sds_roots {
	struct str trust_domain; /* "example.org" */
	struct str pem;
};
void sds_put_validator(struct buf *b, struct str name, const struct sds_roots *roots, size_t n);

/* What a DiscoveryResponse has beside its resources. */
void sds_put_rest(struct buf *b, struct str version, struct str nonce);

#endif
