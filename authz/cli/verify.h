/*
 * verify - `audit verify`, for writ and for the verifier that is built alone.
 *
 * Purpose    Options, sources and the report. What talks to a server is handed in, so that the
 *            small binary (authz/verifier.c) has neither sockets nor TLS in it.
 */
#ifndef WRIT_CLI_VERIFY_H
#define WRIT_CLI_VERIFY_H

#include "authz/audit/verify.h"
#include "authz/cli/command.h"

/* Feed a server's export to @v. False with @e: it could not be had. */
typedef bool verify_live(struct cli *c, struct verifier *v, struct err *e);

/* @live NULL: there is no --server. Returns the exit code. */
int verify_command(struct cli *c, verify_live *live);

#endif
