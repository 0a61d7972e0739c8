/* load_conn - open, serve and shut the connections of the load generator. See load.h. */
#ifndef WRIT_TESTS_LOAD_CONN_H
#define WRIT_TESTS_LOAD_CONN_H

#include "tests/bench/load.h"

/* Prepare TLS for all connections. */
MUST_USE bool conn_tls(struct load *l, struct err *e);

/* Connect; on failure conn_shut is still due. */
MUST_USE bool conn_open(struct conn *c, struct err *e);
void conn_shut(struct conn *c);
void conn_free(struct conn *c);

#endif
