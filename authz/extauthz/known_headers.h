/*
 * known_headers - where in a request the headers stand that somebody here asks for.
 *
 * Purpose    Reading a request asks for some forty headers, of which it has a few. Each of its own
 *            is told by name once; after that every question is one about a number.
 * Ownership  An index borrows the headers it was made of.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_EXTAUTHZ_KNOWN_HEADERS_H
#define WRIT_EXTAUTHZ_KNOWN_HEADERS_H

#include "authz/base/json.h"
#include "authz/net/call.h"

/* In the order of their names, which is that of q.http.headers. */
enum header {
	HEADER_OTHER,
	HEADER_A2A_EXTENSIONS,
	HEADER_A2A_VERSION,
	HEADER_ACCEPT,
	HEADER_ANTHROPIC_BETA,
	HEADER_ANTHROPIC_VERSION,
	HEADER_AUTHORIZATION,
	HEADER_CONTENT_ENCODING,
	HEADER_CONTENT_LENGTH,
	HEADER_CONTENT_TYPE,
	HEADER_HOST,
	HEADER_MCP_METHOD,
	HEADER_MCP_NAME,
	HEADER_MCP_PROTOCOL_VERSION,
	HEADER_MCP_SESSION_ID,
	HEADER_OPENAI_BETA,
	HEADER_OPENAI_ORGANIZATION,
	HEADER_OPENAI_PROJECT,
	HEADER_ORIGIN,
	HEADER_TRANSFER_ENCODING,
	HEADER_USER_AGENT,
	HEADER_X_ENVOY_AUTH_PARTIAL_BODY,
	HEADER_X_FORWARDED_CLIENT_CERT,
	HEADER_X_GOOG_API_KEY,
	HEADER_X_GOOG_USER_PROJECT,
	HEADER_X_HTTP_METHOD,
	HEADER_X_HTTP_METHOD_OVERRIDE,
	HEADER_X_METHOD_OVERRIDE,
	HEADER_X_ORIGINAL_METHOD,
	HEADER_X_ORIGINAL_URI,
	HEADER_X_ORIGINAL_URL,
	HEADER_X_REWRITE_URL,
	HEADERS
};

#define HEADER_BIT(h) (UINT64_C(1) << (h))

extern const struct str header_names[HEADERS]; /* in lower case; JSON_NAME_INIT */

struct header_index {
	const struct http_header *all;
	uint64_t there, twice;	 /* HEADER_BITs: that stand in the request; more than once */
	uint32_t first[HEADERS]; /* of those that are there: the first place in `all` */
	bool other_mcp;		 /* there are headers mcp-... beside these */
	size_t forged;		 /* headers x-writ-..., which only writ sets, but for those two that
				  * it sets anew in any case */
};

enum header header_of(struct str name);

/* @index is filled from nothing. Names are in lower case. */
void header_index(struct header_index *index, const struct http_header *all, size_t n);

bool header_is_forged(struct str name);

/* The value of the first header @h; p == NULL: there is none. */
static inline struct str header_first(const struct header_index *index, enum header h)
{
	struct str v = { NULL, 0 };

	if (!(index->there & HEADER_BIT(h)))
		return v;
	v = index->all[index->first[h]].value;
	if (!v.p)
		v.p = "";
	return v;
}

#endif
