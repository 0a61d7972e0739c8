/*
 * config - writ.lua: one file of settings, read once, checked whole.
 *
 * Purpose    One table (config_table.c) holds each setting's name, type, default, bounds, when a
 *            change takes effect and a line of help; reading, `writ serve --help` and the reference
 *            page come from it. The file is Lua without functions and without libraries, under an
 *            instruction and a memory cap. Whatever is unknown, of the wrong type, out of range or
 *            unsafe is refused with file, line, what was expected and the nearest known name.
 * Ownership  A config owns everything it points to. It is shared: reloading makes a new one.
 * Threads    Immutable once loaded: any.
 */
#ifndef WRIT_CONFIG_H
#define CONFIG_FOR_EVER ((int64_t)24855 * 86400) /* the longest that a setting can say */
#define WRIT_CONFIG_H

#include <stdint.h>
#include <sys/types.h>

#include "authz/base/arena.h"
#include "authz/base/buf.h"
#include "authz/base/log.h"
#include "authz/base/snapshot.h"
#include "include/writ/err.h"
#include "include/writ/roles.h"

#define CONFIG_FILE_MAX (1024 * 1024) /* bytes */

enum config_door {
	DOOR_HTTP,	/* the agents' door: decisions, ext_authz, gRPC, tokens */
	DOOR_HTTPS,	/* the same with TLS */
	DOOR_WORKLOAD,	/* SPIFFE Workload API and SDS */
	DOOR_OPERATORS, /* management, console, audit, metrics */
	DOOR_ADMIN,	/* the same on a Unix socket for `writ` on the command line */
	DOOR_WEB,	/* what is for everybody, under a certificate of Web PKI */
	DOOR_COUNT,
};
extern const char *const config_door_names[DOOR_COUNT]; /* "http" ... */

struct config_listener {
	enum config_door door;
	const char *address; /* "127.0.0.1:8080", "[::1]:8080", or an absolute socket path */
	bool unix_socket, loopback, tls;
	/* Fixed caller of this listener (plaintext loopback or Unix only): roles, or an ID whose
	 * registration and `callers` entries tell; both empty: none. */
	unsigned caller_roles;
	const char *caller_id; /* SPIFFE ID or NULL */
	const char *server;    /* tool server of bare MCP names, or NULL */
	const char *protocol;  /* of ext_authz routes without a hint, or NULL: detection */
};

/* Who may use writ's interfaces beyond what every registered agent may. */
struct config_caller {
	const char *spiffe_id; /* pattern (pattern_check), or NULL */
	uid_t uid;	       /* without spiffe_id: of a Unix peer */
	unsigned roles;
	const char *server; /* or NULL */
	bool bare;	    /* answers = "bare": the decision alone */
};

/* Strings of a list setting. */
struct config_names {
	const char *const *names;
	size_t nnames;
};

/* Whose tokens attest agents. */
struct config_issuer {
	const char *cluster; /* of attest.k8s: its name in selectors */
	const char *issuer, *audience;
	const char *jwks;	    /* "file:/absolute/path", an https URL or "discover" */
	const char *ca_file;	    /* absolute; NULL: fetch.ca_file */
	struct config_names claims; /* of attest.oidc: those that become selectors */
	const char *scopes;	    /* of delegation.users: of a token that names none; or NULL */
	bool reuse;		    /* a token may be presented again until it ends */
};
struct config_issuers {
	struct config_issuer *items;
	size_t n;
};

/* Where records are sent on (audit/sink.h). */
struct sink_settings;
struct config_sinks {
	struct sink_settings *items;
	size_t n;
};

/* Witnesses of our log, and logs that we witness. */
struct config_party {
	const char *name; /* of a log: its origin; as its key says, unless it was given */
	const char *url;  /* of a witness: prefix of /add-checkpoint */
	const char *key;  /* verifier key */
	const char *key_name;
};
struct config_parties {
	struct config_party *items;
	size_t n;
};

struct config_limits {
	size_t body, in_flight, string, headers, url, token;
	uint32_t depth, members, values, batch, queue;
	uint32_t decision_ms, request_ms;
	uint32_t connections;
	uint32_t workload_connections, workload_user_connections;
	uint32_t workload_streams, workload_user_streams;
	uint32_t agent_rate, agent_burst;   /* per second and agent */
	uint32_t attest_rate, attest_burst; /* per second and address */
	uint32_t policy_instructions, policy_ms;
	size_t policy_memory;
};

struct config {
	struct shared shared;
	struct arena arena;
	const char *file; /* that was read; NULL: none, all defaults */
	const char *base; /* folder from which relative paths count */

	const char *trust_domain;
	const char *data;	/* data folder, absolute */
	const char *store;	/* "sqlite:<data>/writ.db", for show: the file's name is settled */
	const char *node;	/* this machine's name in records */
	const char *public_url; /* as what AuthZEN clients know us; NULL: by what they use */
	int log_level;		/* enum log_level */
	uint32_t loops;		/* front loops; 0: cores - 1, at least 1 */

	struct config_listener *listeners;
	size_t nlisteners;
	struct config_caller *callers;
	size_t ncallers;

	struct {
		const char *dir;
		const char *key; /* verifier keys of signed sets; NULL: none is needed */
		bool watch, files_only;
	} policies;
	struct {
		struct config_names san; /* further ones of writ's own certificate */
		struct {
			const char *certificate, *key; /* absolute; NULL: none */
		} web;
	} tls;
	struct {
		struct config_names require; /* "owner", "purpose", "expires" */
		uint32_t max_entries;
		int64_t orphan_s; /* never seen for so long: listed as an orphan */
	} registry;
	struct {
		struct config_issuers oidc, k8s;
		struct config_names x509pop; /* files of certificates that vouch */
		int64_t refresh_s, keep_s;   /* of keys that are fetched */
	} attest;
	struct {
		const char *ca_file; /* absolute; NULL: the system's store */
		bool private_ok;
	} fetch;
	struct {
		const char *encrypt; /* as it was written; NULL: plain. One of the two follows: */
		const char *file;    /* absolute path of the key file */
		const char *credential; /* name below $CREDENTIALS_DIRECTORY */
	} keys;
	struct {
		const char *certificate, *key, *bundle; /* absolute paths, all or none */
		bool name_constraints;
		struct {
			const char *module; /* absolute; NULL: no token */
			const char *pin;    /* as it was written. One of the two follows: */
			const char *pin_file, *pin_credential;
			const char *uris[2]; /* of X.509, JWT authorities; NULL: files */
			bool network, leave;
		} pkcs11;
	} authority;
	struct {
		const char *issuer; /* "iss" of JWT-SVIDs, an https URL; NULL: none */
	} jwt;
	struct {
		const char *issuer; /* "iss" of delegated tokens; NULL: writ's own SPIFFE ID */
		struct config_issuers users;
		uint32_t depth; /* agents in one chain */
		int64_t ttl_s;
	} delegation;
	struct {
		bool wit; /* WIT-SVIDs, incubating */
	} workload;
	struct {
		int64_t keep_s; /* how long an unconfirmed foreign bundle is used */
	} federation;
	struct {
		int64_t x509_s, jwt_s, join_token_s, authority_s, leeway_s;
	} ttl;
	struct {
		uint32_t checkpoint_ms; /* between signed checkpoints, if the log grew */
		/* Rules as "field PATH" and "detector NAME". */
		struct config_names mask;
		struct config_sinks sinks;
		uint32_t witness_ms; /* between two that witnesses are asked to cosign */
		struct config_parties witnesses;
		int64_t retain_s; /* records stay at least so long; CONFIG_FOR_EVER: all of them */
	} audit;
	struct {
		struct config_parties logs;
	} witness;
	struct { /* of Envoy's access log: where a model call's usage stands (decide/worker.h) */
		const char *namespace, *input_tokens, *output_tokens, *cost_micros;
	} access_log;
	struct config_limits limits;
};

/* The file to use: @given (--config), else $WRIT_CONFIG, else ./writ.lua if there is one, else
 * NULL. @env is the variable's value or NULL. */
const char *config_choose(const char *given, const char *env);

/* Read @file, or with NULL take all defaults, relative to the working folder. */
MUST_USE bool config_load(const char *file, struct config **out, struct err *e);

/* The same from memory: @name stands in messages, @base is the folder of relative paths. */
MUST_USE bool config_parse(struct str text, const char *name, const char *base, struct config **out,
			   struct err *e);
void config_free(struct config *c); /* a maker's reference; NULL is fine */

/* Settings that differ, by their full names ("limits.body"). */
void config_diff(const struct config *old, const struct config *new,
		 void (*each)(void *ctx, const char *name, bool restart), void *ctx);

/* All settings for people: name, type, default, range, effect, help; one per line. */
void config_help(struct buf *out);

static inline void config_free_p(struct config **c)
{
	config_free(*c);
}
#define AUTO_CONFIG __attribute__((cleanup(config_free_p))) struct config

#endif
