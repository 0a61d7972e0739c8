/*
 * bench_workload SOCKET STREAMS PER_CONNECTION: hold streams of FetchX509SVID and tell when
 * messages come; for scripts/bench.
 *
 * Prints one line of JSON when each stream has its first message. Then each line on standard input
 * begins a count: it is answered with "ready", and when each stream has had one more message, with
 * one line of JSON that says when the first and the last of those came (CLOCK_MONOTONIC, which is
 * Python's time.monotonic_ns). Ends with its input.
 *
 * A few hundred bytes of HTTP/2 by hand: ten thousand sessions of a library would cost this side
 * more than what is measured. A frame that says that a stream is over ends the program.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define FRAME 9 /* bytes of a frame's head */
#define EVENTS 256

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW = 8 };
enum { END_STREAM = 1, END_HEADERS = 4, ACK = 1 };

struct stream {
	uint8_t prefix[5]; /* of the message that is coming */
	uint32_t nprefix, left;
	unsigned round; /* of its last whole message */
};

struct conn {
	int fd;
	uint8_t head[FRAME + 8]; /* of the frame that is coming, and a PING's payload */
	uint32_t nhead, left;	 /* bytes of head that are there; of payload to come */
	struct stream *streams;
};

static struct conn *conns;
static unsigned nstreams, per, nconns;
static unsigned round_now = 1, missing; /* streams without a message of this round */
static int64_t began_ns, first_ns, last_ns;
static uint64_t message_bytes;

static void die(const char *what)
{
	fprintf(stderr, "bench_workload: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
	exit(1);
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- out: all that is ever sent fits into a socket's buffer ---- */

static size_t put_head(uint8_t *at, size_t length, int type, int flags, uint32_t id)
{
	const uint8_t head[FRAME] = {
		(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length,
		(uint8_t)type,		 (uint8_t)flags,	 (uint8_t)(id >> 24),
		(uint8_t)(id >> 16),	 (uint8_t)(id >> 8),	 (uint8_t)id
	};

	memcpy(at, head, FRAME);
	return FRAME;
}

static void say(const struct conn *c, const uint8_t *p, size_t n)
{
	if (send(c->fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		die("send");
}

static void hello(const struct conn *c)
{
	/* Windows as large as they may be, so that none must be moved. */
	static const uint8_t window[] = { 0, 4, 0x7f, 0xff, 0xff, 0xff };
	static const uint8_t more[] = { 0x7f, 0xff, 0, 0 };
	uint8_t out[128];
	size_t n = sizeof(PREFACE) - 1;

	memcpy(out, PREFACE, n);
	n += put_head(out + n, sizeof(window), SETTINGS, 0, 0);
	memcpy(out + n, window, sizeof(window));
	n += sizeof(window);
	n += put_head(out + n, sizeof(more), WINDOW, 0, 0);
	memcpy(out + n, more, sizeof(more));
	say(c, out, n + sizeof(more));
}

/* A header field as a literal that no table remembers. */
static size_t put_field(uint8_t *at, const char *name, const char *value)
{
	size_t a = strlen(name), b = strlen(value);

	at[0] = 0;
	at[1] = (uint8_t)a;
	memcpy(at + 2, name, a);
	at[2 + a] = (uint8_t)b;
	memcpy(at + 3 + a, value, b);
	return 3 + a + b;
}

static void ask(const struct conn *c, unsigned k)
{
	static const char *const fields[][2] = {
		{ ":method", "POST" },
		{ ":scheme", "http" },
		{ ":path", "/SpiffeWorkloadAPI/FetchX509SVID" },
		{ ":authority", "localhost" },
		{ "te", "trailers" },
		{ "content-type", "application/grpc" },
		{ "user-agent", "grpc-go/1.64.0" },
		{ "workload.spiffe.io", "true" },
	};
	uint8_t out[512];
	uint32_t id = 2 * k + 1;
	size_t n = FRAME;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		n += put_field(out + n, fields[i][0], fields[i][1]);
	put_head(out, n - FRAME, HEADERS, END_HEADERS, id);
	n += put_head(out + n, 5, DATA, END_STREAM, id);
	memset(out + n, 0, 5);
	say(c, out, n + 5);
}

static void open_conn(struct conn *c, const struct sockaddr_un *to)
{
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)(const void *)to, sizeof(*to)))
		die("connect");
	hello(c);
}

/* ---- in ---- */

static void told(struct stream *s)
{
	if (s->round == round_now)
		return;
	s->round = round_now;
	last_ns = now();
	if (!first_ns)
		first_ns = last_ns;
	missing--;
}

static void take_data(struct stream *s, const uint8_t *p, size_t n)
{
	while (n) {
		size_t some;

		if (s->nprefix < sizeof(s->prefix)) {
			s->prefix[s->nprefix++] = *p++;
			n--;
			if (s->nprefix == sizeof(s->prefix))
				s->left = (uint32_t)s->prefix[1] << 24 |
					  (uint32_t)s->prefix[2] << 16 |
					  (uint32_t)s->prefix[3] << 8 | s->prefix[4];
			message_bytes = s->left;
			continue;
		}
		some = n < s->left ? n : s->left;
		p += some;
		n -= some;
		s->left -= (uint32_t)some;
		if (s->left)
			continue;
		s->nprefix = 0;
		told(s);
	}
}

/* A frame's head is there; what it says at once. */
static void frame(struct conn *c)
{
	int type = c->head[3], flags = c->head[4];
	uint8_t out[FRAME + 8];

	if (type == SETTINGS && !(flags & ACK))
		say(c, out, put_head(out, 0, SETTINGS, ACK, 0));
	if (type == RST_STREAM || type == GOAWAY || (type == HEADERS && flags & END_STREAM))
		die("a stream has ended");
}

static void pong(const struct conn *c)
{
	uint8_t out[FRAME + 8];

	put_head(out, 8, PING, ACK, 0);
	memcpy(out + FRAME, c->head + FRAME, 8);
	say(c, out, sizeof(out));
}

static void payload(struct conn *c, const uint8_t *p, size_t n)
{
	uint32_t id = (uint32_t)c->head[7] << 8 | c->head[8];

	if (c->head[3] == DATA && n)
		take_data(&c->streams[(id - 1) / 2], p, n);
	if (c->head[3] == PING && c->nhead + n <= sizeof(c->head)) {
		memcpy(c->head + c->nhead, p, n);
		c->nhead += (uint32_t)n;
		if (c->left == n && !(c->head[4] & ACK))
			pong(c);
	}
}

static void take(struct conn *c, const uint8_t *p, size_t n)
{
	while (n) {
		size_t some;

		if (c->nhead < FRAME) {
			c->head[c->nhead++] = *p++;
			n--;
			if (c->nhead < FRAME)
				continue;
			c->left = (uint32_t)c->head[0] << 16 | (uint32_t)c->head[1] << 8 |
				  c->head[2];
			frame(c);
		} else {
			some = n < c->left ? n : c->left;
			payload(c, p, some);
			p += some;
			n -= some;
			c->left -= (uint32_t)some;
		}
		if (!c->left)
			c->nhead = 0;
	}
}

static void readable(struct conn *c)
{
	static uint8_t in[65536];
	ssize_t n = recv(c->fd, in, sizeof(in), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		die("the server closed a connection");
	if (n > 0)
		take(c, in, (size_t)n);
}

/* Until each stream has had a message of this round, or there is a line of input. */
static bool wait_for(int epoll, bool all)
{
	struct epoll_event got[EVENTS];

	while (!all || missing) {
		int n = epoll_wait(epoll, got, EVENTS, 30000);

		if (n == 0 && all) {
			fprintf(stderr, "bench_workload: %u streams have nothing\n", missing);
			exit(1);
		}
		for (int i = 0; i < n; i++) {
			if (!got[i].data.ptr)
				return true;
			readable(got[i].data.ptr);
		}
	}
	return false;
}

static void report(void)
{
	printf("{\"streams\":%u,\"connections\":%u,\"message_bytes\":%" PRIu64
	       ",\"began_ns\":%" PRId64 ",\"first_ns\":%" PRId64 ",\"last_ns\":%" PRId64 "}\n",
	       nstreams, nconns, message_bytes, began_ns, first_ns, last_ns);
	fflush(stdout);
}

static void begin(void)
{
	round_now++;
	missing = nstreams;
	first_ns = 0;
	began_ns = now();
	puts("ready");
	fflush(stdout);
}

static void open_all(const char *path, int epoll)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(to.sun_path))
		die("the socket's path is too long");
	memcpy(to.sun_path, path, strlen(path));
	for (unsigned i = 0, open = 0; i < nconns; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = &conns[i] };

		open_conn(&conns[i], &to);
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, conns[i].fd, &e))
			die("epoll");
		for (unsigned k = 0; k < per && open < nstreams; k++, open++)
			ask(&conns[i], k);
	}
}

static bool number(const char *text, unsigned long max, unsigned *out)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	*out = (unsigned)n;
	return *text && !*end && n > 0 && n <= max;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	struct epoll_event input = { .events = EPOLLIN };
	char line[64];
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (argc != 4 || !number(argv[2], 100000, &nstreams) || !number(argv[3], 100, &per)) {
		fprintf(stderr, "usage: bench_workload SOCKET STREAMS PER_CONNECTION\n");
		return 2;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	nconns = (nstreams + per - 1) / per;
	conns = calloc(nconns, sizeof(*conns));
	for (unsigned i = 0; conns && i < nconns; i++)
		if (!(conns[i].streams = calloc(per, sizeof(struct stream))))
			die("memory");
	if (!conns || epoll < 0)
		die("memory");
	missing = nstreams;
	began_ns = now();
	open_all(argv[1], epoll);
	wait_for(epoll, true);
	report();
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input))
		die("standard input");
	while (wait_for(epoll, false) && read(STDIN_FILENO, line, sizeof(line)) > 0) {
		begin();
		if (wait_for(epoll, true))
			break; /* input while it counts: over */
		report();
	}
	return 0;
}
