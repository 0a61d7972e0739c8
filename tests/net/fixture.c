#include "tests/net/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct hop {
	struct task task;
	struct call *call;
};

static void echo(struct call *c)
{
	call_reply(c, 200, "text/plain", 4096);
	buf_printf(&c->reply.body, "%.*s %.*s ?%.*s %zu\n", STR_FMT(c->method), STR_FMT(c->path),
		   STR_FMT(c->query), c->body.n);
	call_finish(c);
}

static void land(struct task *t)
{
	echo(LINK_OF(t, struct hop, task)->call);
}

static bool more(struct call *c, struct buf *out, struct err *e)
{
	int n = (*(int *)c->user)++;

	if (n == 0 && str_eq(c->query, STR("fail")))
		return !err_set(e, ERR_IO, "the disk is gone");
	buf_printf(out, "piece %d\n", n);
	return n < 2;
}

static void more_done(struct call *c)
{
	++*(int *)c->home->worker;
}

static void who(struct call *c)
{
	call_reply(c, 200, "text/plain", 8192);
	buf_printf(&c->reply.body, "listener=%s id=%.*s uid=%d from=%s host=%.*s\n",
		   c->peer->listener->name, STR_FMT(c->peer->spiffe_id), (int)c->peer->uid,
		   c->peer->address, STR_FMT(call_header(c, STR("host"))));
	call_finish(c);
}

static void handle(void *ctx, struct call *c)
{
	struct net *t = ctx;

	t->handled++;
	if (c->grpc) {
		t->grpc(c);
		return;
	}
	if (str_eq(c->path, STR("/later")) && t->nheld < NET_HELD) {
		t->held[t->nheld++] = c;
	} else if (str_eq(c->path, STR("/let-go")) && t->nheld < NET_HELD) {
		t->held[t->nheld++] = c;
		memset(arena_alloc(c->scratch, 100), 'x', 100);
		call_let_go(c);
	} else if (str_eq(c->path, STR("/hop"))) {
		struct hop *h = arena_alloc(c->arena, sizeof(*h));

		*h = (struct hop){ .task.run = land, .call = c };
		chain_add(&t->hops, &h->task.link);
	} else if (str_eq(c->path, STR("/more"))) {
		call_reply(c, 200, "text/plain", 4096);
		c->user = arena_zero(c->arena, sizeof(int));
		c->reply.more = more;
		c->reply.done = more_done;
		call_finish(c);
	} else if (str_eq(c->path, STR("/bug"))) {
		call_finish(c);
	} else if (str_eq(c->path, STR("/who"))) {
		who(c);
	} else if (str_eq(c->path, STR("/big"))) {
		char *at;

		call_reply(c, 200, "text/plain", 4 * 1024 * 1024);
		at = buf_room(&c->reply.body, 3 * 1024 * 1024);
		memset(at, 'x', 3 * 1024 * 1024);
		c->reply.body.n = 3 * 1024 * 1024;
		call_finish(c);
	} else {
		echo(c);
	}
}

static void refused(void *ctx, const struct listener *l, const struct err *e)
{
	struct net *t = ctx;

	assert_non_null(l->name);
	t->refused++;
	snprintf(t->why, sizeof(t->why), "%s", e->msg);
}

static void turn_begin(void *ctx)
{
	struct net *t = ctx;

	if (t->begin)
		t->begin();
}

static void turn_end(void *ctx)
{
	struct net *t = ctx;

	if (t->end)
		t->end();
	t->turns++;
	if (t->hops.first)
		queue_push_always(loop_home(t->loop)->inbox, &t->hops);
}

void net_open(struct net *t, const struct server_limits *limits, struct tls *tls)
{
	struct server_settings s = { .handler = { handle, t, refused, NULL }, .tls = tls };
	static int opened; /* a failed test leaves its socket behind */
	struct err e = { 0 };

	memset(t, 0, sizeof(*t));
	t->time.ns = 1000000000;
	chain_init(&t->hops);
	snprintf(t->path, sizeof(t->path), "/tmp/writ-test-%d-%d.sock", (int)getpid(), opened++);
	t->tcp = (struct listener){ .name = "http", .address = "127.0.0.1:0", .loopback = true };
	t->local = (struct listener){
		.name = "local", .address = t->path, .loopback = true, .unix_socket = true
	};
	t->tls = (struct listener){
		.name = "https", .address = "127.0.0.1:0", .loopback = true, .tls = true
	};
	t->loop = loop_new(&(struct loop_settings){ .clock = clock_of_fixed(&t->time),
						    .turn_begin = turn_begin,
						    .turn_end = turn_end,
						    .ctx = t },
			   &e);
	assert_non_null(t->loop);
	loop_home(t->loop)->worker = &t->done_called;
	s.clock = clock_of_fixed(&t->time);
	if (limits)
		s.limits = *limits;
	t->server = server_new(&s, &t->loop, 1, &e);
	assert_non_null(t->server);
	if (!server_listen(t->server, &t->tcp, 0, &e) ||
	    !server_listen(t->server, &t->local, 0600, &e) ||
	    (tls && !server_listen(t->server, &t->tls, 0, &e)))
		fail_msg("%s", e.msg);
}

void net_close(struct net *t)
{
	struct server_stats stats;

	loop_finish(t->loop);
	net_turns(t, 5);
	server_stats(t->server, &stats);
	server_free(t->server);
	loop_free(t->loop);
	assert_int_equal(stats.requests, t->handled);
	assert_int_not_equal(access(t->path, F_OK), 0);
}

int net_connect(struct net *t, const struct listener *l)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)server_port(t->server, l)) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(l->unix_socket ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
	int rc, one = 1;

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", l->address);
	rc = l->unix_socket ? connect(fd, (struct sockaddr *)&un, sizeof(un))
			    : connect(fd, (struct sockaddr *)&in, sizeof(in));
	if (rc != 0) {
		close(fd);
		return -1;
	}
	if (!l->unix_socket)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

void net_turns(struct net *t, int n)
{
	for (int i = 0; i < n; i++)
		loop_turn(t->loop, 0);
}

void net_pass(struct net *t, int64_t ms)
{
	for (int64_t left = ms; left > 0; left -= 200) {
		t->time.ns += (left < 200 ? left : 200) * 1000000;
		t->time.ms += left < 200 ? left : 200;
		net_turns(t, 2);
	}
}

static void send_some(int fd, struct str *in)
{
	ssize_t rc = in->n ? send(fd, in->p, in->n, MSG_NOSIGNAL) : 0;

	if (rc > 0)
		*in = str_from(*in, (size_t)rc);
	else if (rc < 0 && errno != EAGAIN)
		in->n = 0; /* the server has closed: what it said may still be read */
}

const char *net_talk(struct net *t, int fd, struct str in, const char *until)
{
	int quiet = 0;

	t->n = 0;
	t->text[0] = '\0';
	t->closed = false;
	while (quiet < (until ? 2000 : 50)) {
		ssize_t rc;

		send_some(fd, &in);
		loop_turn(t->loop, quiet ? 1 : 0);
		rc = recv(fd, t->text + t->n, sizeof(t->text) - 1 - t->n, 0);
		if (rc == 0 || (rc < 0 && errno != EAGAIN)) {
			t->closed = true;
			break;
		}
		quiet = rc > 0 || in.n ? 0 : quiet + 1;
		if (rc > 0)
			t->n += (size_t)rc;
		t->text[t->n] = '\0';
		if (until && strstr(t->text, until))
			break;
	}
	return t->text;
}

void net_finish(struct net *t, size_t i)
{
	struct call *c = t->held[i];

	t->saw_gone = c->gone;
	t->held[i] = NULL;
	echo(c);
}
