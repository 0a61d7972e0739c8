/* load_lane - open, serve and shut the connections of the load generator. See load.h. */
#ifndef WRIT_TESTS_LOAD_LANE_H
#define WRIT_TESTS_LOAD_LANE_H

#include "tests/bench/load.h"

/* Prepare TLS for all connections. */
MUST_USE bool lane_tls(struct load *l, struct err *e);

/* Connect; on failure lane_shut is still due. */
MUST_USE bool lane_open(struct lane *c, struct err *e);
void lane_shut(struct lane *c);
void lane_free(struct lane *c);

#endif
