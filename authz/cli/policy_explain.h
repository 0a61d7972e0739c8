/*
 * policy_explain - what the two halves of `writ policy explain` share.
 *
 * Ownership  Everything is borrowed for the call.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_POLICY_EXPLAIN_H
#define WRIT_CLI_POLICY_EXPLAIN_H

#include "authz/cli/command.h"
#include "authz/cli/policy_data.h"
#include "authz/decide/replay.h"

#define EXPLAIN_MAX ((size_t)64 * 1024 * 1024) /* bytes of one explanation */

/* What is explained, beside the trace. */
struct explained {
	const char *id;			    /* evaluation id; NULL: a dry run */
	const char *policies;		    /* which */
	const char *verdict;		    /* of replay, or NULL */
	struct str request, facts;	    /* JSON */
	const struct replay_shadow *shadow; /* NULL: no roll-out decided it as well */
};

/* Print it; returns the exit code. */
int explain_put(struct cli *c, const struct explained *s, const struct policy_trace *t);

/* The request in the file of --dry, which nobody asks: by the folder that is named, or by the
 * policies in force. Returns the exit code. */
int explain_dry(struct cli *c, const struct policy_data *data);

#endif
