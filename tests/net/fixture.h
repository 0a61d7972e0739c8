/* A server on one loop, driven turn by turn from the test's own thread, on a clock that stands
 * still; and a client that never blocks. */
#ifndef WRIT_TESTS_NET_FIXTURE_H
#define WRIT_TESTS_NET_FIXTURE_H

#include "authz/base/clock.h"
#include "authz/net/loop.h"
#include "authz/net/server.h"
#include "authz/net/tls.h"

#define NET_HELD 300

struct net {
	struct clock_fixed time;
	struct loop *loop;
	struct server *server;
	struct listener tcp, local, tls;
	char path[64];
	/* The handler, by path: /later is held here until net_finish, /let-go as well but without
	 * its request, /hop answers by the inbox,
	 * /more streams, /bug forgets the answer, /who says who is calling, others echo. */
	struct call *held[NET_HELD];
	size_t nheld;
	struct chain hops;
	void (*grpc)(struct call *c);	   /* takes gRPC calls; set after net_open */
	void (*begin)(void), (*end)(void); /* of each turn; may be NULL */
	int handled, refused, turns, done_called;
	bool saw_gone;
	char why[400];		/* the last refusal */
	char text[1024 * 1024]; /* what net_talk has read */
	size_t n;
	bool closed;
};

/* @limits may be NULL; @tls NULL: no TLS listener. */
void net_open(struct net *t, const struct server_limits *limits, struct tls *tls);
void net_close(struct net *t);

int net_connect(struct net *t, const struct listener *l);
void net_pass(struct net *t, int64_t ms); /* let time pass, in steps, and serve */
void net_turns(struct net *t, int n);

/* Send @in (if any), then serve and read until @until has come, the server has closed, or (@until
 * NULL) nothing more comes. t->text and t->closed have the result, which is also returned. */
const char *net_talk(struct net *t, int fd, struct str in, const char *until);

/* Answer the held call @i with its path. */
void net_finish(struct net *t, size_t i);

#endif
