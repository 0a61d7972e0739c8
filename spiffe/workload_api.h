/*
 * workload_api - the SPIFFE Workload API and Envoy's secret discovery, on a Unix socket.
 *
 * Purpose    Local processes prove nothing: the kernel says who they are, the registry which
 *            entries' selectors they hold, and for each of those they get what SPIFFE defines:
 *            X.509-SVIDs with fresh keys, JWT-SVIDs, bundles. Streams follow: what changes in the
 *            registry, in the bundles or by the passing of time is pushed, complete each time, and
 *            a caller whose last identity is gone is told PERMISSION_DENIED (SPIFFE Workload
 *            Endpoint, Workload API; SPIRE's names for SDS).
 *
 *            An entry's X.509-SVID and key are shared by all callers of that entry, as one node's
 *            SPIRE agent shares them: a client that reconnects costs no signature. Each one that
 *            is signed is a record before it is sent.
 * Ownership  Settings and what they point to are borrowed and outlive the API. workload_api_free
 *            when no call is pending and the signer's client is gone.
 * Threads    One loop, its own: it looks into /proc and makes keys, which no decision waits for.
 */
#ifndef WRIT_SPIFFE_WORKLOAD_API_H
#define WRIT_SPIFFE_WORKLOAD_API_H

#include "authz/decide/worker.h"
#include "authz/net/loop.h"

struct workload_api;

struct workload_api_settings {
	struct worker *worker; /* of the loop */
	struct loop *loop;
	bool wit;		      /* the WIT-SVID profile; else UNIMPLEMENTED */
	size_t streams, user_streams; /* open at most: of all callers, of one user's */
	struct handler next;	      /* answers what is neither Workload API nor SDS: health */
	/* The selectors a process holds, in @a: attest_unix_selectors. */
	bool (*selectors)(pid_t pid, uid_t uid, gid_t gid, struct arena *a, struct str **out,
			  size_t *n, struct err *e);
};

struct workload_api *workload_api_new(const struct workload_api_settings *s, struct err *e);
void workload_api_free(struct workload_api *w); /* NULL is fine */

/* For the server: handler.handle and handler.refused, with the API as context. */
void workload_api_handle(void *api, struct call *c);
void workload_api_refused(void *api, const struct listener *l, const struct err *e);

/* At the start of each turn of the loop, after worker_turn_begin: push what has changed. */
void workload_api_turn(struct workload_api *w);

#endif
