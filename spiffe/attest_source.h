/*
 * attest_source - the keys of an issuer that are fetched, not read from a file.
 *
 * Purpose    Keys of OIDC and Kubernetes issuers change when their owners like. Where the
 *            configuration names an https URL (or "discover": OpenID Connect Discovery 4, which
 *            Kubernetes serves as well), what was fetched last is kept in writ.db, so that a start
 *            needs no network, and stays in use while fetching fails, but not for ever: past the
 *            keep time no token of that issuer attests anybody.
 *            A token that names an unknown key asks for an early fetch, at most once a minute; it
 *            never waits for one. No sockets and no clock here: others fetch
 *            (decide/issuer_keys.h) and say what time it is.
 * Ownership  A source belongs to its struct attest.
 * Threads    The control thread, but for the discovery functions: any.
 */
#ifndef WRIT_SPIFFE_ATTEST_SOURCE_H
#define WRIT_SPIFFE_ATTEST_SOURCE_H

#include "authz/base/digest.h"
#include "authz/net/fetch.h"
#include "spiffe/attest.h"
#include "spiffe/jws.h"

#define ATTEST_SOURCES (3 * ATTEST_ISSUERS)
#define ATTEST_EARLY_S 60 /* between two fetches that tokens asked for */

enum attest_source_state {
	SOURCE_NONE,	/* never fetched: tokens of the issuer attest nobody */
	SOURCE_FRESH,	/* fetched when it should be */
	SOURCE_STALE,	/* three times or more overdue; still in use */
	SOURCE_EXPIRED, /* past the keep time: not used */
};
const char *attest_source_state_name(enum attest_source_state s);

struct attest_source {
	const struct attest_issuer *config;
	const char *kind;  /* "oidc", "k8s", "users" */
	struct jwks *keys; /* NULL: none */
	uint8_t hash[SHA256_LEN];
	int64_t fetched_ms; /* when they were last confirmed or replaced */
	/* the running process's own */
	uint64_t attempts;
	unsigned failures;	   /* since the last success */
	int64_t next_ns, early_ns; /* when to fetch, and when a token may make it earlier */
	bool busy;		   /* a fetch is under way */
	bool wanted;		   /* a token asks for an early one */
	struct err failed;	   /* the last fetch; ERR_NONE: it succeeded, or there was none */
	enum attest_source_state said; /* what the log was told last */
};

size_t attest_sources(const struct attest *a);
struct attest_source *attest_source_at(struct attest *a, size_t i);

enum attest_source_state attest_source_state(const struct attest *a, const struct attest_source *s,
					     int64_t now_ms);

/* Is a fetch due at @now_ns? If so, it is taken to begin now. */
bool attest_source_due(struct attest_source *s, int64_t now_ns);

/* What was fetched, read but not taken yet: whoever takes it puts it on record first. */
struct attest_news {
	bool changed;
	struct jwks *keys;
	uint8_t hash[SHA256_LEN];
};

/* Refused: ERR_INVALID "invalid_jwks". attest_source_take or attest_news_drop clears *news. */
MUST_USE bool attest_source_look(struct attest *a, const struct attest_source *s,
				 struct str document, struct attest_news *news, struct err *e);
void attest_news_drop(struct attest_news *news);

/* Make them the keys in use; durable when it returns. */
MUST_USE bool attest_source_take(struct attest *a, struct attest_source *s,
				 struct attest_news *news, struct str document, int64_t now_ms,
				 struct err *e);

/* ---- discovery ---- */

#define ATTEST_DISCOVER "discover" /* as attest_issuer.jwks */
#define ATTEST_DISCOVERY_MAX 65536 /* bytes of a discovery document */

/* Where @issuer's discovery document is: NUL-terminated. False: it would be too long. */
bool attest_discovery_url(struct str issuer, char out[static FETCH_URL_MAX + 1]);

/* The jwks_uri of a discovery document, NUL-terminated. Its "issuer" must be @issuer, byte for
 * byte (Discovery 4.3). Refused: ERR_INVALID "invalid_discovery". */
MUST_USE bool attest_discovery_read(struct str document, struct str issuer,
				    char out[static FETCH_URL_MAX + 1], struct err *e);

#endif
