/*
 * traffic_help - rows of "this request, these actions" for the readers of traffic.
 *
 * Purpose    A request is written as text ("POST /mcp\nheader: value\n\nbody"), a route as its
 *            settings ("protocol=mcp server=files"), what is expected as one line:
 *            "tools/call tool files/read {\"a\":1}; ..." or "!code" or "!code rpc_code".
 */
#ifndef TESTS_EXTAUTHZ_TRAFFIC_HELP_H
#define TESTS_EXTAUTHZ_TRAFFIC_HELP_H

#include "authz/extauthz/traffic.h"

struct traffic_row {
	const char *why, *route, *request, *expected;
};

/* Run the table; fails the test with the first row's differences. */
void traffic_rows(const struct traffic_row *rows, size_t n);

/* The request that the text stands for, in @a. */
const struct traffic_request *traffic_request_of(const char *why, const char *route,
						 const char *request, struct arena *a);

/* Read @r in @work: the line that stands for what came of it, in @text. */
struct str traffic_line(const struct traffic_request *r, struct arena *work, struct arena *text,
			struct traffic *out, struct err *e);

#endif
