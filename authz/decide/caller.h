/*
 * caller - who is asking, and as what.
 *
 * Purpose    Turns what the transport proves (client certificate, Unix peer), what the request
 *            carries (a JWT-SVID or a delegated token, addressed to writ) and what the
 * configuration says (a fixed caller on a loopback listener, the `callers` list) into one answer: a
 * name and a set of roles. Nothing else in writ decides who somebody is. Ownership  A caller
 * borrows from the call and the snapshots of the worker. Threads    caller_rules: immutable, any.
 * caller_authenticate: the worker's own thread.
 */
#ifndef WRIT_DECIDE_CALLER_H
#define WRIT_DECIDE_CALLER_H

#include <sys/types.h>

#include "authz/base/arena.h"
#include "authz/base/snapshot.h"
#include "authz/net/call.h"
#include "include/writ/roles.h"

/* One entry of `callers`. */
struct caller_rule {
	struct str spiffe_id; /* a pattern; p == NULL: not by SPIFFE ID */
	bool by_uid;
	uid_t uid;
	unsigned roles;
	struct str server; /* put before bare tool names; may be empty */
	bool bare;	   /* answers = "bare" */
};

struct caller_rules {
	struct shared shared;
	struct arena arena; /* holds the rules and their texts */
	struct caller_rule *rules;
	size_t n;
	uid_t own_uid; /* who runs the server: admin on the admin socket */
};

/* An empty list, to be filled before it is published. NULL: out of memory. */
struct caller_rules *caller_rules_new(void);

/* What a listener adds: its fixed caller, and whether it is the admin socket. */
struct listener_caller {
	unsigned roles; /* 0 and no id: nobody without proof */
	struct str id; /* a SPIFFE ID whose registration and entries tell its roles; may be empty */
	struct str server;
	struct str protocol; /* of ext_authz routes that do not say theirs; may be empty */
	bool bare;
	bool admin_socket;
};

struct delegation;
struct registry_entry;

enum proof { PROOF_NONE, PROOF_MTLS, PROOF_JWT, PROOF_DELEGATED, PROOF_UNIX, PROOF_FIXED };

struct caller {
	struct str id; /* SPIFFE ID, "unix:1000" or "listener:http" */
	unsigned roles;
	enum proof proof;
	struct str server;
	bool bare;
	const struct registry_entry *entry;  /* of a registered, active agent; else NULL */
	const struct delegation *delegation; /* of PROOF_DELEGATED; else NULL */
};

struct worker;

/* Find out who sent @c. False: nobody in particular, with ERR_UNAUTHENTICATED and a sentence that
 * tells what was wrong with the proof, if there was one. */
MUST_USE bool caller_authenticate(struct worker *w, const struct call *c, struct caller *out,
				  struct err *e);

/* The same by the connection alone: for proxies, whose Authorization is that of the request they
 * ask about. */
MUST_USE bool caller_by_transport(struct worker *w, const struct call *c, struct caller *out,
				  struct err *e);

#endif
