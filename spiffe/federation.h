/*
 * federation - whose trust bundles writ fetches, from where, and what it holds of them.
 *
 * Purpose    A relationship is one-way and always explicit: a trust domain, the URL of its bundle
 *            endpoint, and how that endpoint proves itself (SPIFFE Federation 5). It is kept in
 *            writ.db with the last bundle that held. A bundle stays in use while fetching fails,
 *            but not for ever: past its keep time nothing of that trust domain is trusted.
 *            No sockets and no clock here: others fetch (decide/federation.h) and say what time
 *            it is.
 * Ownership  A federation owns its relationships; what federation_find gives lives until the next
 *            call that changes something.
 * Threads    One owner: the control thread.
 */
#ifndef WRIT_SPIFFE_FEDERATION_H
#define WRIT_SPIFFE_FEDERATION_H

#include "authz/base/digest.h"
#include "authz/net/fetch.h"
#include "authz/store/db.h"
#include "spiffe/bundle.h"
#include "spiffe/id.h"

#define FEDERATION_MAX 256	    /* relationships */
#define FEDERATION_HINT_S 300	    /* between polls, where a bundle says nothing */
#define FEDERATION_HINT_MIN_S 60    /* ... and whatever it says: never more often, */
#define FEDERATION_HINT_MAX_S 86400 /* never more rarely */
#define FEDERATION_BY_MAX 256	    /* bytes kept of who added it */

enum federation_profile { FEDERATION_WEB, FEDERATION_SPIFFE };
const char *federation_profile_name(enum federation_profile p); /* "https_web" ... */

/* How much a bundle is worth. */
enum federation_state {
	FEDERATION_NONE,    /* never fetched: nothing of the domain is trusted */
	FEDERATION_FRESH,   /* fetched when it should be */
	FEDERATION_STALE,   /* three times or more overdue; still in use */
	FEDERATION_EXPIRED, /* past the keep time: not used */
};
const char *federation_state_name(enum federation_state s);

/* What an admin asks for. */
struct federation_spec {
	struct str trust_domain, url, profile;
	struct str endpoint_id; /* https_spiffe only: what the endpoint must present */
	struct str bundle;	/* first bundle: a SPIFFE document or PEM; empty: none */
	struct str by;
};

struct federation_peer {
	char trust_domain[SPIFFE_TRUST_DOMAIN_MAX + 1];
	char url[FETCH_URL_MAX + 1];
	char endpoint_id[SPIFFE_ID_MAX + 1]; /* "" with https_web */
	char by[FEDERATION_BY_MAX + 1];
	enum federation_profile profile;
	int64_t added_ms;
	/* the bundle that is held, if any */
	struct bundle_set *set; /* it alone; NULL: none */
	bool has_sequence;
	uint64_t sequence;
	uint32_t refresh_s; /* between polls */
	int64_t fetched_ms; /* when it was last confirmed or replaced */
	uint8_t hash[SHA256_LEN];
	/* the running process's own */
	uint64_t attempts;
	unsigned failures; /* since the last success */
	int64_t next_ns;   /* when to poll, monotonic */
	bool busy;	   /* a poll is under way */
	struct err failed; /* the last poll; ERR_NONE: it succeeded, or there was none */
	struct err warned; /* what was odd about a bundle that was taken */
};

struct federation;

MUST_USE bool federation_open(struct db *db, struct str own_trust_domain, struct federation **out,
			      struct err *e);
void federation_close(struct federation *f); /* NULL is fine */

size_t federation_count(const struct federation *f);
struct federation_peer *federation_at(struct federation *f, size_t i); /* in order of name */
struct federation_peer *federation_find(struct federation *f, struct str trust_domain);

/* Would federation_add take @spec? Refusals: ERR_INVALID "invalid_federation", "invalid_url",
 * "invalid_bundle"; ERR_CONFLICT "federation_exists"; ERR_TOO_LARGE. For https_spiffe the
 * endpoint's trust domain must be one that can be judged: the fetched one with a first bundle,
 * ours, or one with a relationship of its own. */
MUST_USE bool federation_check(struct federation *f, const struct federation_spec *spec,
			       struct err *e);

/* Add a relationship; durable when it returns. The first poll is due at once. */
MUST_USE bool federation_add(struct federation *f, const struct federation_spec *spec,
			     int64_t now_ms, struct err *e);

/* End it: the stored bundle is deleted with it. Refused (ERR_CONFLICT "federation_in_use") while
 * another relationship's endpoint is judged by it. */
MUST_USE bool federation_remove(struct federation *f, struct str trust_domain, struct err *e);

/* What a poll brought. */
enum federation_change { FEDERATION_SAME, FEDERATION_CHANGED };

/* A document that was read but not yet taken: whoever takes it puts it on record first. */
struct federation_news {
	enum federation_change change;
	struct bundle_set *set;
	bool has_sequence;
	uint64_t sequence;
	uint32_t refresh_s;
	uint8_t hash[SHA256_LEN];
	struct err warned; /* ERR_NONE, or "sequence_unchanged": other keys under the same number */
};

/* Read what @p's endpoint sent. Refused: malformed ("invalid_bundle"), or its sequence is lower
 * than that of the bundle held ("sequence_went_down"). Without a sequence on either side the newest
 * fetch wins. federation_drop or federation_take clears *news. */
MUST_USE bool federation_look(struct federation *f, const struct federation_peer *p,
			      struct str document, struct federation_news *news, struct err *e);
void federation_drop(struct federation_news *news);

/* Make it the bundle held; durable when it returns. */
MUST_USE bool federation_take(struct federation *f, struct federation_peer *p,
			      struct federation_news *news, struct str document, int64_t now_ms,
			      struct err *e);

enum federation_state federation_state(const struct federation_peer *p, int64_t now_ms,
				       int64_t keep_ms);

/* Share every bundle that may be used at @now_ms into @set (of the caller's making). */
MUST_USE bool federation_share(struct federation *f, struct bundle_set *set, int64_t now_ms,
			       int64_t keep_ms, struct err *e);

#endif
