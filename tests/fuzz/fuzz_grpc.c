/*
 * The real door on a socket pair: frames of HTTP/2 as they come, or, if the first byte says so, the
 * DATA of a gRPC call in pieces. A handler sees only messages that were sent, whole and in order,
 * and nothing outlives its connection.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "authz/net/conn.h"
#include "authz/net/grpc.h"

#define BODY_MAX 300

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

static struct str sent; /* what the DATA frames hold, if that is what is sent */
static size_t at;	/* how much of it messages have accounted for */
static int open_streams;

/* The next message must stand at its place in what was sent. */
static void account(struct str message)
{
	if (!sent.p)
		return;
	if (at + 5 + message.n > sent.n || message.n > BODY_MAX ||
	    (message.n && memcmp(sent.p + at + 5, message.p, message.n) != 0))
		abort();
	at += 5 + message.n;
}

static void on_message(struct call *c, struct str message)
{
	account(message);
	(void)!grpc_send(c, message);
	if (message.n == 3)
		grpc_wake_at(c, 1);
}

static void over(struct call *c)
{
	open_streams--;
	call_finish(c);
}

static const struct grpc_events events = {
	.message = on_message, .half_closed = over, .wake = over, .ended = over
};

static void handle(void *ctx, struct call *c)
{
	(void)ctx;
	if (!c->grpc) {
		call_reply(c, 200, "text/plain", 16);
		call_finish(c);
		return;
	}
	account(c->body);
	if (c->body.n == 1) {
		buf_add(grpc_reply(c, BODY_MAX), c->body);
		call_finish(c);
		return;
	}
	open_streams++;
	grpc_stream(c, &events);
	(void)!grpc_send(c, c->body);
}

static void put(struct buf *b, char type, char flags, struct str payload)
{
	const char head[] = { 0, (char)(payload.n >> 8), (char)payload.n, type, flags, 0, 0, 0, 1 };

	buf_add(b, (struct str){ head, sizeof(head) });
	buf_add(b, payload);
}

static void literal(struct buf *b, const char *name, const char *value)
{
	buf_char(b, 0x10);
	buf_char(b, (char)strlen(name));
	buf_add(b, str_c(name));
	buf_char(b, (char)strlen(value));
	buf_add(b, str_c(value));
}

/* HEADERS of a call, then @in as DATA in pieces of @piece bytes. */
static void put_call(struct buf *b, struct str in, size_t piece)
{
	char room[300];
	struct buf head = { .p = room, .cap = sizeof(room), .max = sizeof(room) };

	literal(&head, ":method", "POST");
	literal(&head, ":scheme", "http");
	literal(&head, ":path", "/a.B/C");
	literal(&head, ":authority", "a");
	literal(&head, "te", "trailers");
	literal(&head, "content-type", "application/grpc");
	put(b, 1, 4, buf_str(&head));
	for (size_t i = 0; i < in.n; i += piece)
		put(b, 0, i + piece >= in.n, str_first(str_from(in, i), piece));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct clock_fixed time = { 0, 1000000000 };
	struct loop_settings ls = { .clock = clock_of_fixed(&time) };
	struct listener l = {
		.name = "fuzz", .address = "", .loopback = true, .unix_socket = true
	};
	struct server_settings ss = { .clock = clock_of_fixed(&time),
				      .handler = { handle, NULL, NULL, NULL },
				      .limits = { .body = BODY_MAX } };
	struct sockaddr_storage from = { 0 };
	struct loop *loop = loop_new(&ls, NULL);
	struct server *server = loop ? server_new(&ss, &loop, 1, NULL) : NULL;
	struct buf out;
	int fds[2];

	if (!server || n < 2 || n > 4000 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)) {
		server_free(server);
		loop_free(loop);
		return 0;
	}
	buf_init(&out, mem_system, 1 << 20);
	buf_add(&out, (struct str){ preface, sizeof(preface) - 1 });
	sent = (struct str){ NULL, 0 };
	at = 0;
	open_streams = 0;
	if (p[0] & 1) {
		sent = (struct str){ (const char *)p + 1, n - 1 };
		put_call(&out, sent, (size_t)(p[0] >> 1) + 1);
	} else {
		buf_add(&out, (struct str){ (const char *)p + 1, n - 1 });
	}
	conn_open(&server->shards[0], &l, fds[0], &from);
	(void)!write(fds[1], out.p, out.n);
	for (int i = 0; i < 6; i++) {
		loop_turn(loop, 0);
		time.ns += 200000000;
	}
	close(fds[1]);
	for (int i = 0; i < 4; i++)
		loop_turn(loop, 0);
	if (server_connections(server) || server_in_flight(server) || open_streams)
		abort();
	loop_finish(loop);
	server_free(server);
	loop_free(loop);
	buf_clear(&out);
	return 0;
}
