/*
 * federation_poll - one poll of an endpoint: out to the fetching thread and back.
 *
 * Purpose    The private side of federation.h.
 * Threads    The control thread, but for the fetching thread's own function.
 */
#ifndef WRIT_DECIDE_FEDERATION_POLL_H
#define WRIT_DECIDE_FEDERATION_POLL_H

#include "authz/decide/federation.h"

struct federation_desk {
	struct control *control;
	struct federation_settings settings;
	struct federation *federation;
	struct slot standing; /* struct federation_standing */
	uint64_t states;      /* what federation_publish last saw */
	int64_t next_look_ns;
};

/* Start a poll of @p: it is busy until the answer is judged. */
void federation_poll(struct federation_desk *d, struct federation_peer *p);

/* Publish the trust bundles; publish the standing alone. */
MUST_USE bool federation_publish(struct federation_desk *d, struct err *e);
void federation_tell(struct federation_desk *d);

/* After a poll: publish the bundles if @changed or if another one became usable or too old, else
 * the standing. A new set of bundles makes every connection and every remembered token be verified
 * again, so polls that bring nothing new must not make one. */
void federation_settle(struct federation_desk *d, bool changed);

#endif
