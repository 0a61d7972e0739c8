/*
 * router - which handler answers which path, who may call it, at which door.
 *
 * Purpose    One table says all of writ's HTTP surface: method, path, doors, roles, handler. The
 *            router checks in the order of the AuthZEN sheet's section 8: path (404), method
 *            (405 with Allow), caller (401), role (403); then the handler runs.
 * Ownership  A request's state (struct request) lives in the call's arena.
 * Threads    Handlers run on the thread of call->home, whose worker they use.
 */
#ifndef WRIT_SERVER_ROUTER_H
#define WRIT_SERVER_ROUTER_H

#include "authz/decide/control.h"
#include "authz/net/call.h"

enum side { SIDE_AGENTS = 1, SIDE_OPERATORS = 2, SIDE_WORKLOAD = 4, SIDE_WEB = 16 };

struct site;

/* A call with its caller. */
struct request {
	struct call *call;
	struct worker *worker;
	struct caller caller; /* proof PROOF_NONE on open routes without credentials */
	struct str trace_id;  /* of a well-formed traceparent header; may be empty */
	struct str request_id;
	int64_t retry_ms; /* with ERR_RATE: when to come again */
	const struct site *site;
	bool denies;	  /* ROUTE_DENIES */
	struct task task; /* of request_on_control */
	void (*act)(struct request *r, struct control *c);
	void (*reply)(struct request *r);
	void *user;	   /* the handler's own, in the call's arena */
	struct err failed; /* what an act left, or the refusal being recorded; last: see dispatch */
};

#define ROUTE_GRPC 8u /* beside the doors: a gRPC method; its handler gets gRPC calls only */
#define ROUTE_OPEN_LOCALLY (1u << 16) /* beside the roles: open on loopback and Unix sockets */

#define ROUTE_BY_TRANSPORT (1u << 17) /* beside the roles: Authorization is not the caller's */
/* Beside the roles: a refusal is a denial in the answer. An error would be a broken authorizer to a
 * proxy, and some let everything pass then. */
#define ROUTE_DENIES (1u << 18)
#define ANY_METHOD "*"

struct route {
	const char *method, *path; /* a path that ends in a star: all that begin like it */
	unsigned doors;
	unsigned roles; /* one of these; 0: open to everybody */
	void (*handle)(struct request *r);
};

/* What the handlers know of the deployment besides the core. One per door. */
struct site {
	struct core *core;
	enum side side;
	struct service *service; /* the running process: see authz/server/service.h */
};

/* handler.handle, .refused and .deny, with a struct site as context. */
void router_handle(void *site, struct call *c);
void router_refused(void *site, const struct listener *l, const struct err *e);
bool router_deny(void *site, struct call *c, const struct err *e);

/* Answer with an error. Of an authenticated caller it is put on record first, of others counted. */
void request_fail(struct request *r, const struct err *e);

/* Zeroed memory of the call's arena. NULL: refused and answered. */
void *request_alloc(struct request *r, size_t n);

/* Read the body as a JSON object into call->scratch: media type application/json (400 otherwise,
 * AuthZEN sheet 8), strict JSON. NULL: refused and answered. */
const struct json *request_json(struct request *r);

/* A member of @body that must be there and of this type; NULL: refused and answered. */
const struct json *request_member(struct request *r, const struct json *body, const char *name,
				  enum json_type t);

/* Answer 200 (or @status) with application/json; returns the buf to write it to. Then call
 * request_send. */
struct buf *request_reply(struct request *r, int status);
void request_send(struct request *r);
/* Answer 200 with what an act has written to @out, a buf in the call's arena. */
void request_send_made(struct request *r, const struct buf *out);

/* Is every query parameter one of @known (NULL-terminated)? A misspelt filter would silently show
 * something else. False: refused and answered. */
bool request_query_only(struct request *r, const char *const *known);

/* A task that runs on the control thread for this request and comes back here: @act there, then
 * @reply here (with the error @act left, if any). The request's arena is @act's meanwhile. */
bool request_on_control(struct request *r, void (*act)(struct request *r, struct control *c),
			void (*reply)(struct request *r));

/* The value of query parameter @name, percent-decoded strictly. False: absent (value untouched),
 * malformed or given twice (then e->class is set). */
bool request_query(const struct request *r, struct str name, struct str *value, struct err *e);

extern const struct route routes[];
extern const size_t route_count;

#endif
