/*
 * api - what commands share when they talk to a server.
 *
 * Purpose    Chooses the door (--server, else the configuration's), asks, reads the JSON of the
 *            answer, and prints errors in one way.
 * Ownership  An answer owns its reply and its parsed value.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_API_H
#define WRIT_CLI_API_H

#include "authz/base/arena.h"
#include "authz/cli/client.h"
#include "authz/cli/command.h"
#include "authz/config.h"

enum api_door {
	API_ADMIN,  /* the admin socket */
	API_AGENTS, /* the agents' door: http of the configuration, else https */
	API_TLS,    /* the agents' door by https: what issues SVIDs for an SVID */
};

struct api {
	struct target target;
	struct client_tls tls;
	char bundle[4096]; /* the data folder's, if no --bundle is given */
	bool no_file;	   /* the target is a default: no configuration was found */
};

struct answer {
	struct client_reply reply;
	struct arena arena;
	const struct json *value; /* NULL: the body is no JSON */
};

/* The configuration by --config, $WRIT_CONFIG, ./writ.lua or defaults. */
MUST_USE bool api_config(const struct cli *c, struct config **out, struct err *e);

MUST_USE bool api_open(const struct cli *c, enum api_door door, struct api *api, struct err *e);

/* Ask and read. False: an error has been printed, *exit_code is set. @body with p == NULL: none.
 * @json: the answer must be a JSON object. */
MUST_USE bool api_ask(struct cli *c, const struct api *api, const struct client_request *q,
		      bool json, struct answer *a, int *exit_code);

/* api_open and api_ask for the usual command. */
MUST_USE bool api_call(struct cli *c, enum api_door door, const char *method, const char *path,
		       struct str body, struct answer *a, int *exit_code);

void answer_clear(struct answer *a);
/* The server's JSON as it came, on a line of its own. */
void answer_print(const struct cli *c, const struct answer *a);
/* So with --json, else a member a line, for a person. */
void answer_show(const struct cli *c, const struct answer *a);

/* A member of an answer, or of an object in it; what is not there is 0, "" or no. */
int64_t answer_number(const struct json *v, const char *name);
struct str answer_text(const struct json *v, const char *name);
bool answer_flag(const struct json *v, const char *name);

/* All of a file, "-" for standard input; over @max: refused. */
MUST_USE bool api_read_file(const char *path, size_t max, struct buf *out, struct err *e);

/* What is given as --@option: a token itself, or "@FILE", so that it need not stand in the list of
 * processes. White space behind it goes. */
MUST_USE bool api_read_token(const char *option, const char *given, struct buf *out, struct err *e);

#define AUTO_ANSWER __attribute__((cleanup(answer_clear))) struct answer

#endif
