/*
 * signer - the process that holds the long-lived private keys.
 *
 * Purpose    Forked before any thread starts. It has the X.509 authority's, the JWT and the log
 *            key, no network, no files after its start, and a short table of requests; each is
 *            checked on its side against what the configuration allows, so that whoever takes over
 *            the serving process still cannot mint an authority whose key it knows, an ID of
 *            another trust domain, a longer life, or two histories of the log. Rotation makes new
 *            keys here; they leave sealed (signer_seal.h), and the serving process keeps the files
 *            without being able to read them.
 * Ownership  struct signer owns the parent's ends of the channels; a client borrows one.
 * Threads    signer_start: before any thread. A client: its owner only. signer_dead,
 *            signer_failing, signer_public: any.
 */
#ifndef WRIT_SPIFFE_SIGNER_H
#define WRIT_SPIFFE_SIGNER_H

#include <sys/types.h>

#include "authz/base/buf.h"
#include "authz/base/clock.h"
#include "authz/base/queue.h"
#include "spiffe/authority.h"
#include "spiffe/delegated_token.h"
#include "spiffe/signer_token.h"
#include "spiffe/signer_upstream.h"
#include "spiffe/wit_svid.h"
#include "spiffe/x509_svid.h"

#define SIGNER_CHANNELS_MAX 64
#define SIGNER_PENDING_MAX 4096	   /* jobs of one client that wait, at most */
#define SIGNER_CHECKPOINT_MAX 1024 /* bytes of a checkpoint's text */
#define SIGNER_AUTHORITY_TTL_S (30 * 86400)
#define SIGNER_X509_TTL_MAX_S 86400
#define SIGNER_JWT_TTL_MAX_S 3600

struct signer_config {
	const char *folder; /* "<data>/keys"; made at the first start (its parent must exist) */
	struct str trust_domain; /* as spiffe_trust_domain_parse gave it */
	struct str issuer;	 /* the only "iss" JWT-SVIDs may carry; empty: none */
	struct str token_issuer; /* "iss" of delegated tokens; empty: none are signed */
	int64_t x509_ttl_max_s;	 /* longest life of a leaf; 0: 24 h */
	int64_t jwt_ttl_max_s;	 /* longest life of a token; 0: 1 h */
	int64_t authority_ttl_s; /* life of an authority that is made now; 0: 30 days */
	unsigned channels;	 /* how many clients there will be: front loops + control + ... */
	const char *key_file;	 /* encrypts the keys at rest; NULL: they are not encrypted */
	bool witness;		 /* has a key to cosign the checkpoints of other logs */
	struct upstream_files upstream;	  /* certificate NULL: authorities are self-signed */
	struct signer_token_config token; /* module NULL: all keys are files */
	const struct clock *clock; /* NULL: the system's. A test's must be in shared memory */
};

/* What everybody may know. The authorities are those of the first start, in use until somebody
 * asks for others (SIGNER_USE_KEY); empty once rotation has replaced them. */
struct signer_public {
	struct str authority; /* DER certificate, also in <folder>/x509.pem */
	int64_t authority_ends_s;
	struct str jwt_kid;
	struct str jwt_spki;	  /* DER */
	uint8_t log_key[32];	  /* raw Ed25519 public key */
	uint8_t next_log_key[32]; /* of log-next.key, a rotation that was not finished; or zeros */
	uint8_t witness_key[32];  /* the same; zeros without .witness */
	bool created;		  /* this start made the keys */
	bool confined;		  /* the kernel accepted the filter of system calls */
};

struct signer;

/* Fork, make or load the keys, wait for its word. @e carries the child's own message (loose
 * permissions, a missing file ...). */
MUST_USE bool signer_start(const struct signer_config *c, struct signer **out, struct err *e);
const struct signer_public *signer_public(const struct signer *s);
pid_t signer_pid(const struct signer *s);

/* Has a client seen it end? The wiring then stops the service: nothing can be signed any more. */
bool signer_dead(const struct signer *s);

/* Could the last SVID of @kind not be signed, for a reason that is not the request's? Then @why
 * (NUL-terminated) says it. */
bool signer_failing(struct signer *s, enum authority_kind kind, char why[static 400]);

/* Close the channels (all clients must be gone) and wait for the child. NULL is fine. */
void signer_stop(struct signer *s);

enum signer_op {
	SIGNER_X509_SVID = 1, /* -> DER of the leaf and, one behind the other, of what stands
			       * between it and the trust bundle (x509_chain_next) */
	SIGNER_JWT_SVID,      /* -> the token */
	SIGNER_CHECKPOINT,    /* -> 64 bytes of Ed25519 signature over the text */
	SIGNER_MAKE_KEY,      /* -> a new authority, its key sealed: signer_made_read */
	SIGNER_USE_KEY,	      /* -> nothing; all later SVIDs, of every client, are signed with it */
	/* Another key for the log, in this order: */
	SIGNER_MAKE_LOG_KEY,   /* -> its public key (32 bytes), and the key sealed for log.key */
	SIGNER_HAND_OVER,      /* -> 64 bytes: the old one's signature that the new one follows */
	SIGNER_SWITCH_LOG_KEY, /* -> nothing; the new one signs from now on, the old one is gone */
	SIGNER_KEEP_KEYS,      /* -> how many of our other keys of the kind left the token,
				* as 8 bytes */
	SIGNER_COSIGN, /* -> 64 bytes of Ed25519 signature, as a witness (tlog-cosignature) */
	SIGNER_DELEGATED_TOKEN, /* -> the token */
	SIGNER_WIT_SVID,	/* -> the token */
};

/* Which key to use: @sealed as SIGNER_MAKE_KEY gave it, or empty for that of the first start. */
struct signer_use {
	enum authority_kind kind;
	struct str id, sealed;
};

/* Those that stay: ids of a token's keys (signer_made.token), one behind the other. What is in hand
 * stays as well. */
struct signer_keep {
	enum authority_kind kind;
	struct str tokens;
};

/* A checkpoint's text, and when it is cosigned: seconds since 1970, about now. */
struct signer_cosign {
	int64_t at_s;
	struct str text;
};

struct signer_made {
	struct str id;
	int64_t begins_s, ends_s;
	struct str spki;   /* DER */
	struct str chain;  /* DER of an X.509 authority's certificate and of those above it, but
			    * roots; empty for a JWT key */
	struct str sealed; /* PEM */
	struct str token;  /* id of the key in a token (PKCS11_ID_LEN bytes); empty: it is sealed */
};

struct signer_made_log {
	uint8_t key[32];   /* public */
	struct str sealed; /* PEM: what keys/log-next.key is to hold */
};
/* Read the answer to SIGNER_MAKE_LOG_KEY; borrows from it. */
MUST_USE bool signer_made_log_read(struct str answer, struct signer_made_log *out, struct err *e);

/* Read the answer to SIGNER_MAKE_KEY; borrows from it. */
MUST_USE bool signer_made_read(struct str answer, struct signer_made *out, struct err *e);

/* A request and its answer. The job and all it points to belong to the client from signer_send
 * until done() runs; jobs of one client finish in order. */
struct signer_job {
	struct link link; /* private */
	bool over;	  /* private */
	enum signer_op op;
	union {
		struct x509_request x509;
		struct jwt_request jwt;
		struct delegated_token delegated;
		struct wit_request wit;
		struct str checkpoint;
		uint64_t hand_over; /* records under the old key; HAND_OVER and SWITCH */
		enum authority_kind make;
		struct signer_use use;
		struct signer_keep keep;
		struct signer_cosign cosign;
	};
	void (*done)(struct signer_job *j); /* may send further jobs; not used by signer_call */
	void *user;
	struct buf *out; /* the answer is appended here before done() */
	bool ok;
	struct err err; /* if not: ERR_INVALID (refused), ERR_UNAVAILABLE (signer gone) ... */
};

struct signer_client;

/* The next free channel's client. Front loops use send, flush, readable; others signer_call. */
struct signer_client *signer_client_new(struct signer *s, struct err *e);
/* Pending jobs fail (done runs) with ERR_UNAVAILABLE. */
void signer_client_free(struct signer_client *c);

/* Register for EPOLLIN only, level-triggered; call signer_readable then. */
int signer_client_fd(const struct signer_client *c);

/* Queue a job; it leaves with the next flush. False (nothing queued, done will not run): too many
 * jobs wait, the request is too large, or the signer is gone. */
MUST_USE bool signer_send(struct signer_client *c, struct signer_job *j, struct err *e);

/* Write what was queued: once per turn of the loop. Never blocks; what does not fit follows when
 * answers come in. */
void signer_flush(struct signer_client *c);

/* Take the answers that are there and run their jobs' done(). */
void signer_readable(struct signer_client *c);

size_t signer_pending(const struct signer_client *c);

/* Send one job and wait for its answer; for threads that may block (control, checkpointer). True
 * if it was signed; else @e says why. */
MUST_USE bool signer_call(struct signer_client *c, struct signer_job *j, struct err *e);

#endif
