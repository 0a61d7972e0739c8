/*
 * loop - one thread's event loop: sockets, deadlines, an inbox.
 *
 * Purpose    Everything the agents' door does happens on a loop. A turn is: wait; turn_begin;
 *            ready sockets (at most LOOP_EVENTS), due timers and all inbox tasks; then, in
 *            rounds, turn_end and what was put off with loop_later, until nothing is put off.
 *            turn_end is always the last thing before the loop sleeps: a handler stages records
 *            during the turn and turn_end hands them to the committer, once.
 * Ownership  The loop owns its epoll descriptor and inbox. Watches, timers and put-off work are
 *            embedded in their owners, who remove them before they go.
 * Threads    A loop belongs to the thread that calls loop_run (or loop_turn). From others:
 *            loop_stop, and pushing tasks to loop_home()->inbox. Before the thread starts, the
 *            maker may use everything.
 *
 *	loops[i] = loop_new(&(struct loop_settings){ .clock = clock_system, .index = i,
 *		.turn_end = hand_over, .ctx = &workers[i] }, &e);
 *	loop_home(loops[i])->worker = &workers[i];
 *	server = server_new(&settings, loops, n, &e);  server_listen(server, &http, &e);
 *	pthread_create(..., run_loop, loops[i]);       // calls loop_run
 *	... SIGTERM: server_drain; wait for server_connections() == 0 or a deadline;
 *	loop_stop and join each; stop the committer; loop_finish each; server_free; loop_free each.
 */
#ifndef WRIT_NET_LOOP_H
#define WRIT_NET_LOOP_H

#include <stdint.h>

#include "authz/base/clock.h"
#include "authz/net/call.h"
#include "include/writ/err.h"

#define LOOP_EVENTS 256	       /* sockets served per turn */
#define LOOP_TICK_MS 50	       /* what a deadline may be late by */
#define LOOP_INBOX (64 * 1024) /* tasks waiting at most, for those who push with the bound */

struct loop;

struct loop_settings {
	struct clock clock;
	unsigned index;		       /* of loop_home() */
	void (*turn_begin)(void *ctx); /* or NULL */
	void (*turn_end)(void *ctx); /* or NULL; may finish calls; may run more than once a turn */
	void *ctx;
};

/* A descriptor with what to call when it is ready; @events are epoll's. */
struct loop_watch {
	int fd;
	void (*ready)(struct loop_watch *w, uint32_t events);
};

/* A deadline. Setting one again, later or earlier, costs a store or two. Zeroed: not set. */
struct loop_timer {
	struct loop_timer *prev, *next; /* of its slot; private */
	int64_t at_ns;			/* 0: not set */
	int64_t tick;			/* where it is linked; private */
	void (*fire)(struct loop_timer *t);
};

/* Work put off to the end of the turn, once however often it is asked for. Zeroed: not waiting.
 * While it waits it cannot be taken back: its owner stays until it has run. */
struct loop_later {
	struct loop_later *next;
	bool waiting;
	void (*run)(struct loop_later *l);
};

struct loop *loop_new(const struct loop_settings *s, struct err *e);
void loop_free(struct loop *l);

struct home *loop_home(struct loop *l);
int64_t loop_now(const struct loop *l); /* monotonic ns, read once per turn */

bool loop_watch(struct loop *l, struct loop_watch *w, uint32_t events, struct err *e);
void loop_rewatch(struct loop *l, struct loop_watch *w, uint32_t events);
void loop_unwatch(struct loop *l, struct loop_watch *w); /* also drops its event of this turn */

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_ns);
void loop_timer_stop(struct loop *l, struct loop_timer *t);

void loop_put_off(struct loop *l, struct loop_later *later);

/* Run until loop_stop. */
void loop_run(struct loop *l);
/* One turn; waits at most @timeout_ms (negative: until something happens). For tests. */
void loop_turn(struct loop *l, int timeout_ms);
/* After the thread has ended and all who push have stopped: run what is left in the inbox. */
void loop_finish(struct loop *l);
/* From any thread. */
void loop_stop(struct loop *l);
bool loop_stopped(const struct loop *l);

#endif
