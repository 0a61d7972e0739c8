/*
 * fetch - one guarded GET over https: foreign bundles, JWK Sets, discovery documents; or one POST,
 *         to where the configuration sends records, and to witnesses.
 *
 * Purpose    Whoever makes writ fetch something would like to choose what, from where, how much
 *            and for how long. So: https only, TLS 1.2 or later; the URL stands in the
 *            configuration, or its host does (`hosts`); every address its name has must be a
 *            public one, and the connection goes to exactly the address that was judged; one total
 *            deadline; a bounded body; status 200 and a media type that was asked for, unencoded.
 *            Redirects (302, 307) are followed only where `redirects` says so, and only to the
 *            same host and port, with all checks again.
 *            The server proves itself by Web PKI and its host name, or, with `judge`, by what the
 *            caller says of its chain; then the name plays no part (SPIFFE Federation 5.2).
 * Ownership  Borrows all of a struct fetch. The body of a result is the caller's to clear.
 * Threads    Blocks up to its deadline: never on a front. Any thread that ignores SIGPIPE.
 *            The name's look-up has no deadline of its own in libc; it is held to two tries of two
 *            seconds for each of the resolver's servers.
 */
#ifndef WRIT_NET_FETCH_H
#define WRIT_NET_FETCH_H

#include "authz/base/buf.h"
#include "authz/net/dial.h"
#include "authz/net/response.h"
#include "include/writ/err.h"

#define FETCH_URL_MAX 2048	    /* bytes of a URL */
#define FETCH_BODY_MAX (512 * 1024) /* bytes of a body, where the caller says nothing */
#define FETCH_TIMEOUT_MS 5000	    /* all in all, where the caller says nothing */

/* An https URL in parts. */
struct fetch_url {
	char host[256]; /* lower case, without brackets */
	char port[6];
	char path[FETCH_URL_MAX]; /* with the query; begins with '/' */
	bool literal;		  /* the host is an address */
	bool plain;		  /* http, which fetch_url_parse refuses */
};

/* "https://HOST[:PORT][/PATH][?QUERY]": no user info, no fragment, ASCII. Refused with
 * ERR_INVALID "invalid_url". */
MUST_USE bool fetch_url_parse(struct str text, struct fetch_url *out, struct err *e);

/* The same, and "http://" to an address of this machine itself (127.0.0.0/8, [::1]): a collector
 * beside us needs no certificate. For URLs that stand in the configuration only. */
MUST_USE bool fetch_url_parse_local(struct str text, struct fetch_url *out, struct err *e);

struct fetch {
	struct str url;
	const struct str *hosts; /* the hosts a URL may be at, if it does not stand in the
				    configuration itself but came from elsewhere; else NULL */
	size_t nhosts;
	const char *const *types; /* media types that will do, NULL-terminated; NULL: JSON */
	size_t body_max;	  /* 0: FETCH_BODY_MAX */
	int timeout_ms;		  /* 0: FETCH_TIMEOUT_MS */
	unsigned redirects;	  /* how many to follow within the same host and port */
	bool private_ok;	  /* see dial_address_ok */
	const char *ca_file;	  /* PEM of the authorities of Web PKI; NULL: the system's */
	/* Judge the chain instead of Web PKI: as sent, leaf first, at least one. */
	bool (*judge)(void *ctx, STACK_OF(X509) * chain, struct err *e);
	void *ctx; /* of the functions */
	/* Of fetch_post: the body, its media type, and further lines "Name: value\r\n" or nothing.
	 */
	struct str post;
	const char *post_type;
	struct str headers;
	/* Of fetch_post, too: another method, with or without a body; a header of the answer that
	 * is kept; and whether what came of a body of status 200 is all that is wanted, so that a
	 * stream that stays open is not waited for. All may be NULL. */
	const char *method;
	const char *keep; /* its name, lower case */
	bool (*enough)(void *ctx, struct str body);
	const atomic_bool *stop;   /* give up within 100 ms when it is set; or NULL */
	const struct clock *clock; /* NULL: the system's */
};

/* Refusals: ERR_INVALID "invalid_url"; ERR_FORBIDDEN "forbidden_host", "forbidden_address";
 * ERR_UNAVAILABLE "unknown_host", "no_connection", "truncated_response"; ERR_TIMEOUT
 * "fetch_timeout"; ERR_UNAUTHENTICATED "untrusted_server", or what the judge says; ERR_INTERNAL
 * "bad_response", "unexpected_status", "unexpected_type", "unexpected_redirect"; ERR_TOO_LARGE.
 * Every message names the URL's host. On success the body is in @body, set up by the caller or
 * zero. */
MUST_USE bool fetch_get(const struct fetch *f, struct buf *body, struct err *e);

struct fetch_reply {
	int status;
	char type[128]; /* media type, lower case, without parameters; "": none */
	char location[RESPONSE_LOCATION_MAX + 1]; /* "": none */
	char kept[RESPONSE_KEPT_MAX + 1];	  /* the header that f->keep names; "": none */
	struct buf body;
};

/* POST f->post to a URL by fetch_url_parse_local, with the same guards. Whatever status comes is an
 * answer, and a redirect is one, too: what was meant for one server is never sent to another.
 * .types is what the Accept header says; whether the answer fits is the caller's to judge. On
 * success the caller clears out->body. Refusals as those of fetch_get. */
MUST_USE bool fetch_post(const struct fetch *f, struct fetch_reply *out, struct err *e);

/* Seconds until what is fetched every @refresh_s is fetched again. After a failure the wait
 * doubles, up to eight times (an hour at most, but never less than @refresh_s); where nothing is
 * held yet it begins at 10 s. @random spreads it over the last tenth, so that many who were started
 * together do not ask together. */
int64_t fetch_delay(uint32_t refresh_s, bool held, unsigned failures, uint32_t random);

#endif
