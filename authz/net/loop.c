/*
 * Deadlines sit in a wheel of WHEEL slots, one tick each. A timer that is set to a later time
 * stays where it is and is moved on when its old slot comes up, so the deadline that each
 * request pushes back costs one store. `next_tick` is a lower bound of the first used slot.
 */
#include "authz/net/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "authz/base/mem.h"

#define WHEEL 256
#define TICK_NS ((int64_t)LOOP_TICK_MS * 1000000)
#define ROUNDS 8 /* of put-off work in one turn; the rest waits for the next */

struct loop {
	struct loop_settings settings;
	struct home home;
	int epoll;
	atomic_bool stop;
	bool inbox_ready;
	struct loop_watch inbox;
	int64_t now;
	int64_t tick, next_tick; /* served up to; nothing is due before */
	struct loop_timer wheel[WHEEL];
	struct loop_later *later, **later_end;
	struct epoll_event events[LOOP_EVENTS];
	int event, nevents; /* being served */
};

static void inbox_ready(struct loop_watch *w, uint32_t events)
{
	(void)events;
	LINK_OF(w, struct loop, inbox)->inbox_ready = true;
}

struct loop *loop_new(const struct loop_settings *s, struct err *e)
{
	struct loop *l = mem_zero(&mem_system, sizeof(*l));

	if (!l) {
		err_set(e, ERR_NOMEM, "no memory for an event loop");
		return NULL;
	}
	l->settings = *s;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->home.index = s->index;
	l->home.inbox = queue_new(LOOP_INBOX, true, e);
	l->later_end = &l->later;
	l->now = clock_mono_ns(&s->clock);
	l->tick = l->now / TICK_NS;
	l->next_tick = INT64_MAX;
	for (size_t i = 0; i < WHEEL; i++)
		l->wheel[i].next = l->wheel[i].prev = &l->wheel[i];
	if (l->epoll < 0)
		err_set(e, ERR_IO, "cannot create an epoll descriptor: %s", strerror(errno));
	if (l->epoll >= 0 && l->home.inbox) {
		l->inbox = (struct loop_watch){ queue_fd(l->home.inbox), inbox_ready };
		if (loop_watch(l, &l->inbox, EPOLLIN, e))
			return l;
	}
	loop_free(l);
	return NULL;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	queue_free(l->home.inbox);
	if (l->epoll >= 0)
		close(l->epoll);
	mem_free(&mem_system, l, sizeof(*l));
}

struct home *loop_home(struct loop *l)
{
	return &l->home;
}

int64_t loop_now(const struct loop *l)
{
	return l->now;
}

static bool control(struct loop *l, int op, struct loop_watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	return epoll_ctl(l->epoll, op, w->fd, &ev) == 0;
}

bool loop_watch(struct loop *l, struct loop_watch *w, uint32_t events, struct err *e)
{
	if (!control(l, EPOLL_CTL_ADD, w, events))
		return err_set(e, ERR_IO, "cannot watch a socket: %s", strerror(errno));
	return true;
}

void loop_rewatch(struct loop *l, struct loop_watch *w, uint32_t events)
{
	(void)control(l, EPOLL_CTL_MOD, w, events);
}

void loop_unwatch(struct loop *l, struct loop_watch *w)
{
	(void)control(l, EPOLL_CTL_DEL, w, 0);
	for (int i = l->event; i < l->nevents; i++)
		if (l->events[i].data.ptr == w)
			l->events[i].data.ptr = NULL;
}

static void unlink_timer(struct loop_timer *t)
{
	t->prev->next = t->next;
	t->next->prev = t->prev;
	t->prev = t->next = NULL;
}

static void link_timer(struct loop *l, struct loop_timer *t)
{
	int64_t tick = (t->at_ns + TICK_NS - 1) / TICK_NS;
	struct loop_timer *head;

	if (tick <= l->tick)
		tick = l->tick + 1;
	if (tick > l->tick + WHEEL - 1)
		tick = l->tick + WHEEL - 1;
	head = &l->wheel[tick % WHEEL];
	t->tick = tick;
	t->next = head;
	t->prev = head->prev;
	head->prev->next = t;
	head->prev = t;
	if (tick < l->next_tick)
		l->next_tick = tick;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_ns)
{
	t->at_ns = at_ns;
	if (t->next) {
		if ((at_ns + TICK_NS - 1) / TICK_NS >= t->tick)
			return; /* moved on when its slot comes up */
		unlink_timer(t);
	}
	link_timer(l, t);
}

void loop_timer_stop(struct loop *l, struct loop_timer *t)
{
	(void)l;
	t->at_ns = 0;
	if (t->next)
		unlink_timer(t);
}

/* Fire what is due in @head's slot and move the rest on. A fired timer may set or stop any
 * timer, so the slot is first taken over whole and then emptied one by one. */
static void serve_slot(struct loop *l, struct loop_timer *head)
{
	struct loop_timer due = { .next = &due, .prev = &due };

	if (head->next == head)
		return;
	due.next = head->next;
	due.prev = head->prev;
	due.next->prev = due.prev->next = &due;
	head->next = head->prev = head;
	while (due.next != &due) {
		struct loop_timer *t = due.next;

		unlink_timer(t);
		if (t->at_ns > l->now) {
			link_timer(l, t);
			continue;
		}
		t->at_ns = 0;
		t->fire(t);
	}
}

static void serve_timers(struct loop *l)
{
	int64_t tick = l->now / TICK_NS, from = l->tick + 1;

	if (tick < l->next_tick) {
		l->tick = tick;
		return;
	}
	if (from < l->next_tick)
		from = l->next_tick;
	if (tick - from >= WHEEL)
		from = tick - WHEEL + 1;
	l->tick = tick;
	l->next_tick = INT64_MAX;
	for (int64_t t = from; t <= tick; t++)
		serve_slot(l, &l->wheel[t % WHEEL]);
	for (int64_t t = tick + 1; t < tick + WHEEL && t < l->next_tick; t++)
		if (l->wheel[t % WHEEL].next != &l->wheel[t % WHEEL])
			l->next_tick = t;
}

void loop_put_off(struct loop *l, struct loop_later *later)
{
	if (later->waiting)
		return;
	later->waiting = true;
	later->next = NULL;
	*l->later_end = later;
	l->later_end = &later->next;
}

static void run_later(struct loop *l)
{
	struct loop_later *next = l->later;

	l->later = NULL;
	l->later_end = &l->later;
	while (next) {
		struct loop_later *later = next;

		next = later->next;
		later->waiting = false;
		later->run(later);
	}
}

static bool run_inbox(struct loop *l)
{
	struct chain c;

	l->inbox_ready = false;
	if (!queue_take(l->home.inbox, &c))
		return false;
	tasks_run(&c);
	return true;
}

static void end_turn(struct loop *l)
{
	for (int i = 0; i < ROUNDS; i++) {
		if (l->settings.turn_end)
			l->settings.turn_end(l->settings.ctx);
		if (!l->later)
			return;
		run_later(l);
	}
	if (l->settings.turn_end)
		l->settings.turn_end(l->settings.ctx);
}

static int wait_ms(const struct loop *l, int timeout_ms)
{
	int64_t ms;

	if (l->later)
		return 0;
	if (l->next_tick == INT64_MAX)
		return timeout_ms;
	ms = (l->next_tick * TICK_NS - l->now + 999999) / 1000000;
	if (ms < 0)
		ms = 0;
	return timeout_ms < 0 || ms < timeout_ms ? (int)ms : timeout_ms;
}

void loop_turn(struct loop *l, int timeout_ms)
{
	l->nevents = epoll_wait(l->epoll, l->events, LOOP_EVENTS, wait_ms(l, timeout_ms));
	l->now = clock_mono_ns(&l->settings.clock);
	if (l->settings.turn_begin)
		l->settings.turn_begin(l->settings.ctx);
	for (l->event = 0; l->event < l->nevents;) {
		struct epoll_event *ev = &l->events[l->event++];
		struct loop_watch *w = ev->data.ptr;

		if (w)
			w->ready(w, ev->events);
	}
	serve_timers(l);
	if (l->inbox_ready)
		run_inbox(l);
	end_turn(l);
}

void loop_run(struct loop *l)
{
	while (!loop_stopped(l))
		loop_turn(l, -1);
}

void loop_finish(struct loop *l)
{
	bool more = true;

	while (more) {
		more = run_inbox(l) || l->later;
		end_turn(l);
	}
}

void loop_stop(struct loop *l)
{
	atomic_store_explicit(&l->stop, true, memory_order_release);
	queue_wake(l->home.inbox);
}

bool loop_stopped(const struct loop *l)
{
	return atomic_load_explicit(&l->stop, memory_order_relaxed);
}
