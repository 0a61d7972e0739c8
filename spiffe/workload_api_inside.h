/*
 * workload_api_inside - how the files of the Workload API share callers, identities and streams.
 *
 * Purpose    For spiffe/workload_api*.c only. A caller is who asks, attested. An identity is the
 *            X.509-SVID of one registered entry with its key. A subscriber is an open stream.
 * Ownership  A caller lives in its call's arena, a subscriber and its copy of the caller on the
 * heap (the request's memory is given back), identities on the heap, by who shows them. Threads The
 * API's loop.
 */
#ifndef WRIT_SPIFFE_WORKLOAD_API_INSIDE_H
#define WRIT_SPIFFE_WORKLOAD_API_INSIDE_H

#include "authz/base/tally.h"
#include "authz/decide/issue.h"
#include "authz/net/grpc.h"
#include "spiffe/workload_api.h"
#include "spiffe/workload_api_wire.h"
#include "spiffe/x509_svid.h"

#define WORKLOAD_ENTRIES_MAX 64		       /* identities of one caller */
#define WORKLOAD_BUCKETS 4096		       /* of the table of X.509-SVIDs */
#define WORKLOAD_MESSAGE_MAX (4 * 1024 * 1024) /* clients take no more */
#define WORKLOAD_HINT_MAX 1024

struct workload_caller {
	const struct peer *peer;
	struct registry_selector *selectors;
	size_t nselectors;
};

/* What a caller is, now: entries in order, the default one first. */
struct workload_entries {
	const struct registry_entry *entry[WORKLOAD_ENTRIES_MAX];
	struct str hint[WORKLOAD_ENTRIES_MAX];
	size_t n;
	bool coming;	    /* an instance of a template is being registered: there may be more */
	struct err refused; /* or could not be; class ERR_NONE: nothing of that kind */
};

/* A call that waits for such a registration; in its own arena. */
struct workload_coming;
struct workload_parked {
	struct workload_parked *next;
	struct call *call;
	void (*handle)(struct workload_api *w, struct call *c);
};

struct workload_subscriber;

enum workload_svid { WORKLOAD_X509, WORKLOAD_WIT };

/* A subscriber shows an identity: a link between the two. */
struct workload_showing {
	struct workload_showing *prev, *next; /* of the identity's */
	struct workload_identity *identity;
	struct workload_subscriber *subscriber;
};

struct workload_identity {
	struct workload_identity *next, *chain; /* of all; of its bucket */
	struct workload_api *api;
	struct str id;
	enum workload_svid kind;
	struct workload_showing *showing; /* who shows it */
	int64_t used_ms;		  /* when the last one went */
	/* What is there; svid.n == 0: nothing yet. */
	struct buf svid, key; /* DER and PKCS#8; of a WIT-SVID the token and a private JWK */
	int64_t expires_ms, renew_ms, ttl_s, next_ttl_s;
	char authority[AUTHORITY_ID_MAX + 1]; /* that signed it; empty: it does not say */
	/* What is being made. */
	bool busy, stale; /* stale: not to be shown any more, whenever it ends */
	bool tainted;	  /* its authority is: to be replaced, but it holds until then */
	int64_t retry_ms; /* after a failure; 0: none */
	struct err failed;
	struct issue issue;
	struct arena arena; /* of the issue */
	struct buf next_key;
};

struct workload_kind {
	/* The stream's message as things are now. False with @e: the stream ends; with *wait set:
	 * an SVID is being made, and it will be asked again. */
	bool (*build)(struct workload_subscriber *s, const struct workload_entries *entries,
		      struct buf *out, bool *wait, struct err *e);
	/* What is added to the message that is sent, beyond what it says; or NULL. */
	void (*finish)(struct workload_subscriber *s, struct buf *out);
	void (*clear)(struct workload_subscriber *s); /* the stream is over; or NULL */
	bool needs_identity;
	bool once; /* one message, and the call is over */
};

struct workload_subscriber {
	struct workload_subscriber *prev, *next;
	struct workload_api *api;
	struct call *call;
	const struct workload_kind *kind;
	struct workload_caller caller;
	struct workload_showing *shown; /* as many as are shown; on the heap */
	size_t nshown;
	struct workload_subscriber *dirty_prev, *dirty_next; /* if dirty: of those to look at */
	bool waiting, sent, dirty;
	bool force;		    /* say it again even if it is the same */
	uint8_t digest[SHA256_LEN]; /* of the last message */
	int64_t look_ms;	    /* when time alone may change something; 0: never */
};

struct workload_api {
	struct workload_api_settings settings;
	struct worker *worker;
	struct core *core;
	struct sha256 *sha;
	struct jwt_verifier *jwt; /* remembers nothing: claims are wanted each time */
	struct workload_subscriber *subscribers;
	struct workload_subscriber *dirty, *dirty_last;
	size_t nsubscribers;
	struct tally users; /* streams of each */
	struct workload_identity *identities;
	struct workload_identity *buckets[WORKLOAD_BUCKETS];
	size_t nidentities;
	struct workload_coming *coming; /* instances that are being registered */
	size_t ncoming;
	struct workload_parked *parked;
	struct arena names;   /* of instances, of one look */
	struct arena scratch; /* of one look at one stream */
	struct loop_timer sweep;
	struct loop_later look;
	struct registry_view *view; /* that was looked at last, held; NULL: none yet */
	uint64_t bundle_version;
};

/* workload_api.c: refusing, for all */
void workload_fail(struct call *c, const struct workload_api *w, const struct err *e);
int64_t workload_now_ms(const struct workload_api *w);

/* workload_api_caller.c */
/* Who is at the other end of @c; ERR_UNAVAILABLE if that cannot be told. */
MUST_USE bool workload_attest(struct workload_api *w, struct call *c, struct workload_caller *out,
			      struct err *e);
/* Is it still the process that connected? */
MUST_USE bool workload_alive(const struct workload_caller *caller, struct err *e);
/* Its entries; none, and none is coming: ERR_FORBIDDEN, or why an instance was refused. */
MUST_USE bool workload_entries(struct workload_api *w, const struct workload_caller *caller,
			       struct workload_entries *out, struct err *e);
const struct bundle *workload_own_bundle(const struct workload_api *w);
/* May who is @entries see the bundle of @trust_domain? Our own everybody may. */
bool workload_sees(const struct workload_api *w, const struct workload_entries *entries,
		   struct str trust_domain);

/* workload_api_x509.c */
/* The keys of @b that @kind shows, as a JWK Set, in the map of bundles that is field @field. */
void workload_put_jwks(struct workload_subscriber *s, const struct bundle *b, enum bundle_jwks kind,
		       uint32_t field, struct buf *out);

/* workload_api_template.c */
/* Put the instances of templates that @caller is into @found, which is in order of ID and has @n of
 * @max; returns how many there are then. One that is not registered yet is asked for. */
size_t workload_instances(struct workload_api *w, const struct workload_caller *caller,
			  const struct registry_entry **found, size_t n, size_t max,
			  struct workload_entries *out);
/* Have @handle called again when what is coming is there, or was refused. */
void workload_park(struct workload_api *w, struct call *c,
		   void (*handle)(struct workload_api *w, struct call *c));
/* At the start of a turn, and every second. */
void workload_coming_look(struct workload_api *w);
void workload_coming_free(struct workload_api *w);

/* workload_api_identity.c */
/* The identity of @entry, made if need be, and renewed; NULL: too many. */
struct workload_identity *workload_identity(struct workload_api *w,
					    const struct registry_entry *entry,
					    enum workload_svid kind, int64_t uid);
bool workload_identity_ready(const struct workload_identity *i);
void workload_identity_hold(struct workload_identity *i, struct workload_showing *by);
void workload_identity_drop(struct workload_showing *by);
/* Time has passed, or the bundles have changed (@bundles): renew what is due. */
void workload_identities_sweep(struct workload_api *w, bool bundles);
void workload_identities_free(struct workload_api *w);

/* workload_api_stream.c */
/* Make @c a stream of @kind and show it what it may see. @s: the head of the kind's own struct,
 * from workload_subscriber_new; it is taken over. If it comes to nothing kind->clear is called. */
void workload_subscribe(struct workload_api *w, struct call *c, struct workload_subscriber *s,
			const struct workload_kind *kind, const struct grpc_events *events);
/* Replace the selectors by a copy, in one block from malloc. */
MUST_USE bool workload_copy_selectors(struct workload_caller *c);
/* Zeroed, @size bytes, with a copy of @caller. NULL with @e: no memory. */
void *workload_subscriber_new(size_t size, const struct workload_caller *caller, struct err *e);
extern const struct grpc_events workload_stream_events;
/* Look at it soon; at all; at those that show @i, so also at those that wait for it; at those whom
 * a changed entry may concern. */
void workload_touch(struct workload_subscriber *s);
void workload_touch_all(struct workload_api *w);
void workload_touch_shown(const struct workload_identity *i);
void workload_touch_concerned(struct workload_api *w, const struct registry_view *v,
			      const struct registry_changed *changed, size_t n);
void workload_look_dirty(struct loop_later *l);
void workload_tick(struct loop_timer *t);
void workload_unsubscribe(struct workload_subscriber *s); /* then finish the call */
void workload_end(struct workload_subscriber *s, const struct err *e);
void workload_ended(struct call *c); /* events->ended */
/* Hold the identities of @entries for @s. *wait: one is being made. */
MUST_USE bool workload_show(struct workload_subscriber *s, const struct workload_entries *entries,
			    enum workload_svid kind, bool *wait, struct err *e);
/* A method without parameters that streams. In workload_api_x509.c. */
void workload_open_stream(struct workload_api *w, struct call *c, const struct workload_kind *kind);

/* ERR_UNAVAILABLE: this user asks too often. */
MUST_USE bool workload_limit(struct workload_api *w, const struct call *c, struct err *e);

/* The methods: workload_api_x509.c, workload_api_jwt.c, workload_api_wit.c, workload_api_sds.c */
void workload_fetch_wit_svid(struct workload_api *w, struct call *c);
void workload_fetch_wit_bundles(struct workload_api *w, struct call *c);
void workload_fetch_x509_svid(struct workload_api *w, struct call *c);
void workload_fetch_x509_bundles(struct workload_api *w, struct call *c);
void workload_fetch_jwt_svid(struct workload_api *w, struct call *c);
void workload_fetch_jwt_bundles(struct workload_api *w, struct call *c);
void workload_validate_jwt_svid(struct workload_api *w, struct call *c);
void workload_stream_secrets(struct workload_api *w, struct call *c);
void workload_fetch_secrets(struct workload_api *w, struct call *c);

#endif
