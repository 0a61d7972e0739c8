/*
 * check - may this request pass? The core behind every ext_authz front, HTTP or gRPC.
 *
 * Purpose    A front says what a proxy asks about (struct check); this finds out who the agent is,
 *            reads the traffic (traffic.h), lets decide() judge each action, and comes back with
 *            one verdict when all records are on disk: allow only if every action is permitted.
 *            Whatever goes wrong is a verdict that denies, with a reason; there is no other way
 *            out. Nothing here knows how a verdict is written on a wire.
 * Ownership  A check and its verdict live in check->arena until `done` has run. The request, and
 *            what is made of it on the way to a decision, is looked at until check_run or
 *            check_refuse returns: it may live in check->scratch, which the front may let go of
 *            then (call_let_go).
 * Threads    The worker's own; `done` runs there, perhaps before check_run returns.
 *
 * A front does:
 *     struct check *c = check_new(worker, arena, scratch);   zeroed, with defaults
 *     c->caller, c->request (method, path, headers, body ...), c->request_id, c->trace_id
 *     check_setting(c, name, value, &e) for each setting   context_extensions, parts of the URL
 *     c->principal                                         what the proxy proved about its client
 *     c->done, c->user
 *     check_run(c)   or, if the front itself found the request unusable,   check_refuse(c, &e)
 */
#ifndef WRIT_EXTAUTHZ_CHECK_H
#define WRIT_EXTAUTHZ_CHECK_H

#include "authz/decide/decide.h"
#include "authz/decide/worker.h"
#include "authz/extauthz/traffic.h"

#define CHECK_HEADERS_MAX 6
#define CHECK_REMOVE_MAX 8

struct check_verdict {
	bool allow;

	/* Denied: the answer for the client. status is never 0, 2xx (unless the style of the route
	 * asks for 200 and check->may_answer_200) or 5xx. */
	int status;
	struct http_header
		headers[CHECK_HEADERS_MAX]; /* denied: for the client; allowed: to be set
					     * on the request, in place of the client's */
	size_t nheaders;
	struct str content_type; /* of the body */
	struct str body;	 /* below 1 KiB; empty: none */

	/* Allowed: headers of the request that must not reach the upstream. */
	struct str remove[CHECK_REMOVE_MAX];
	size_t nremove;

	/* Both, for logs and metadata: texts without anything secret. */
	struct str reason;	   /* stable code: "permitted", "no_rule", "invalid_json" ... */
	struct str agent;	   /* SPIFFE ID, or empty */
	struct str evaluation_ids; /* "ev_..", several with a comma; empty: no decision was made */
	struct str rule;	   /* "policy/rule" of the first of them; may be empty */
	uint64_t generation;	   /* of the policies that decided; 0: no decision was made */
	int64_t retry_s;	   /* with 429: when to come again */

	/* Allowed, and the answer is a list of MCP's or may bring one: what its filter has to know
	 * (ext_proc.h). list: the method, or "batch"; style: empty where denials have a status. */
	struct str list, server, rpc_id, style;
};

struct check {
	struct worker *worker;
	struct arena *arena, *scratch;
	const struct caller *caller; /* the proxy; authenticated by its connection, never by a
				      * header of the request it asks about */
	struct traffic_request request;
	struct str principal; /* SPIFFE ID from the client certificate that the proxy verified, as
			       * it says outside of the client's headers; empty: none */
	bool has_certificate; /* the proxy shows that certificate, too: SHA-256 of its DER */
	uint8_t certificate[SHA256_LEN];
	struct str peer_header; /* setting `peer`: the header in which this proxy states the
				 * principal; x-forwarded-client-cert is read as such */
	struct str audience;	/* setting `audience`: of bearer tokens of both kinds; empty: writ's
				 * own ID */
	struct str definition;	/* setting `definition_digest`: of the tool that is called, as the
				 * proxy holds it; empty: it does not say */
	struct str request_id, trace_id;
	bool may_answer_200; /* the front can deny with status 200 */
	bool only_401_403;   /* the proxy makes 500 of every other denial: nginx */
	void (*done)(struct check *c, const struct check_verdict *v);
	void *user;
};

/* In @a. NULL: out of memory. */
struct check *check_new(struct worker *w, struct arena *a, struct arena *scratch);

/* One setting of the route, by the names of traffic_route_set and peer, audience,
 * definition_digest. Settings come
 * from the operator, never from a client. */
MUST_USE bool check_setting(struct check *c, struct str name, struct str value, struct err *e);

/* Decide. */
void check_run(struct check *c);

/* Refuse what cannot be described at all; on record as a refusal, like those of check_run. */
void check_refuse(struct check *c, const struct err *e);

#endif
