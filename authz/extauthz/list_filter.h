/*
 * list_filter - MCP's lists as one agent may see them.
 *
 * Purpose    tools/list, prompts/list, resources/list and resources/templates/list, on their way to
 *            the agent: what no rule could allow it is taken out (as `writ policy what` reads the
 *            rules: one with a `when` might), a tool that is not in the catalogue, and a pinned
 * tool whose definition is neither the pinned nor an accepted one: an agent does not read what
 *            nobody reviewed. What is left
 *            is the agent's own, so a list that may be cached becomes private. Nothing is decided:
 *            what is left in may still be denied, what is taken out is denied when it is asked for.
 *            Rules speak of a prompt by name and of a resource by URI; a template is judged as if
 *            its text were the URI.
 * Ownership  Everything lives in the caller's arena or borrows from the result.
 * Threads    The worker's own.
 * Standards  MCP 2024-11-05 to 2026-07-28, results of the list methods; cacheScope of 2026-07-28.
 */
#ifndef WRIT_EXTAUTHZ_LIST_FILTER_H
#define WRIT_EXTAUTHZ_LIST_FILTER_H

#include "authz/base/json.h"
#include "authz/decide/definitions.h"
#include "authz/decide/worker.h"

#define LIST_MAX 2000 /* entries of one list */

struct list_kind {
	struct str method;	 /* "tools/list" */
	struct str member;	 /* of the result: "tools" */
	struct str id;		 /* member of an entry: "name" */
	struct str action, type; /* what an entry is for: "tools/call" on a "tool" */
};

/* NULL: @method lists nothing that is filtered. */
const struct list_kind *list_kind_of(struct str method);

/* What lists show of pinned tools that was not known: to be told before they go on (list_tell.h).
 * Zero it before the first list; the others add to it. */
struct list_news {
	struct definition_sighting *items;
	size_t n;
};

/* Append @result as @agent may see it. @server: of its tools; NULL: nobody says whose entries these
 * are, so none is left. False: it cannot be filtered, with "invalid_list", "unknown_agent",
 * "no_policy", or no memory; what stands in @b then is nothing. */
MUST_USE bool list_filter(struct worker *w, struct arena *a, const struct list_kind *k,
			  struct str agent, const struct str *server, const struct json *result,
			  struct list_news *news, struct buf *b, struct err *e);

#endif
