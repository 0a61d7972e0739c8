#include "spiffe/signer_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "spiffe/signer_desk.h"
#include "spiffe/signer_wire.h"

#define INPUT_MAX (64 * 1024)
#define OUTPUT_MAX (256 * 1024)
/* Answers leave when so many bytes have gathered: one write for several, yet the first of a large
 * batch does not wait for the last. */
#define OUTPUT_PIECE (8 * 1024)

struct channel {
	int fd; /* -1: closed */
	struct buf in, out;
};

/* Close all but @keep (ascending) and stderr; stdin and stdout become /dev/null. */
static void shed_files(const int *keep, unsigned n)
{
	unsigned from = 3;
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		_exit(1);
	for (unsigned i = 0; i < n; i++) {
		if ((unsigned)keep[i] > from)
			close_range(from, (unsigned)keep[i] - 1, 0);
		from = (unsigned)keep[i] + 1;
	}
	close_range(from, ~0u, 0);
}

/* A terminal's Ctrl-C is for the parent; we end when it has closed its channels. */
static void shed_signals(void)
{
	static const int ignored[] = { SIGINT,	SIGTERM, SIGHUP,  SIGQUIT,
				       SIGPIPE, SIGUSR1, SIGUSR2, SIGTSTP };
	sigset_t none;

	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
}

/* No core file, no ptrace by the same user, no life without the parent. */
static void shed_rights(pid_t parent)
{
	prctl(PR_SET_NAME, "writ-signer");
	if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
	    getppid() != parent) /* it died before PDEATHSIG was set */
		_exit(1);
}

static void channel_close(struct channel *ch)
{
	close(ch->fd);
	ch->fd = -1;
	buf_clear(&ch->in);
	buf_clear(&ch->out);
}

/* Write what is there. False: the channel is gone. */
static bool channel_write(struct channel *ch)
{
	while (ch->out.n) {
		ssize_t n = send(ch->fd, ch->out.p, ch->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		buf_drop(&ch->out, (size_t)n);
	}
	return true;
}

/* Answer the whole requests in ch->in, unless answers pile up. False: a broken channel. */
static bool channel_answer(struct channel *ch, struct signer_desk *d)
{
	size_t at = 0;
	ssize_t n = 0;

	while (ch->out.n < OUTPUT_MAX - SIGNER_FRAME_MAX - 4) {
		struct str body;

		n = wire_frame(str_from(buf_str(&ch->in), at), &body);
		if (n <= 0)
			break;
		if (!signer_desk_answer(d, body, &ch->out))
			return false;
		at += (size_t)n;
		if (ch->out.n >= OUTPUT_PIECE && !channel_write(ch))
			return false;
	}
	buf_drop(&ch->in, at);
	return n >= 0 && channel_write(ch);
}

static bool channel_read(struct channel *ch)
{
	size_t room = ch->in.max - ch->in.n;
	char *at = room ? buf_room(&ch->in, room) : NULL;
	ssize_t n;

	if (!at)
		return ch->in.n > 0; /* full: its requests wait for room in ch->out */
	n = recv(ch->fd, at, room, MSG_DONTWAIT);
	if (n > 0)
		ch->in.n += (size_t)n;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void serve(struct channel *channels, unsigned n, struct signer_desk *d)
{
	struct pollfd fds[SIGNER_CHANNELS_MAX];

	for (;;) {
		unsigned open = 0;

		for (unsigned i = 0; i < n; i++) {
			/* Whoever does not take his answers is not read from. */
			short events = channels[i].out.n ? POLLOUT : POLLIN;

			fds[i] = (struct pollfd){ .fd = channels[i].fd, .events = events };
			open += channels[i].fd >= 0;
		}
		if (!open)
			return;
		if (poll(fds, n, -1) < 0 && errno != EINTR)
			return;
		for (unsigned i = 0; i < n; i++) {
			struct channel *ch = &channels[i];
			bool ok = true;

			if (ch->fd < 0 || !fds[i].revents)
				continue;
			if (ch->out.n)
				ok = channel_write(ch);
			else
				ok = channel_read(ch);
			if (!ok || !channel_answer(ch, d))
				channel_close(ch);
		}
	}
}

static void send_greeting(int fd, struct buf *greeting)
{
	struct channel ch = { .fd = fd, .out = *greeting };

	channel_write(&ch); /* a socket's buffer holds more than this */
}

_Noreturn void signer_child(const struct signer_config *c, const int *fds, unsigned n, pid_t parent)
{
	static struct channel channels[SIGNER_CHANNELS_MAX];
	const struct clock *clock = c->clock ? c->clock : &clock_system;
	int64_t now_s = clock_wall_ms(clock) / 1000;
	struct signer_upstream upstream = { 0 };
	struct signer_keys keys = { 0 };
	struct signer_token token = { .process.fd = -1 };
	struct signer_desk *d = NULL;
	struct err e = { 0 };
	struct buf greeting;
	bool ok;

	shed_files(fds, n);
	shed_signals();
	shed_rights(parent);
	for (unsigned i = 0; i < n; i++) {
		channels[i].fd = fds[i];
		buf_init(&channels[i].in, mem_system, INPUT_MAX);
		buf_init(&channels[i].out, mem_system, OUTPUT_MAX);
	}
	buf_init(&greeting, mem_system, SIGNER_FRAME_MAX);
	/* The token's process before anything secret is read; then the upstream: what cannot work
	 * must not leave keys behind. */
	ok = (!c->token.module || signer_token_start(&c->token, &token, &e)) &&
	     (!c->upstream.certificate ||
	      signer_upstream_open(&c->upstream, now_s, &upstream, &e)) &&
	     signer_keys_open(c->folder, c->trust_domain, now_s,
			      c->authority_ttl_s ? c->authority_ttl_s : SIGNER_AUTHORITY_TTL_S,
			      c->key_file, &keys, &e) &&
	     (!c->witness || signer_keys_witness(c->folder, &keys, &e)) &&
	     (!c->token.module ||
	      signer_token_open(&c->token, c->folder, &keys.seal, &token, &e)) &&
	     (d = signer_desk_new(c, &keys, c->upstream.certificate ? &upstream : NULL,
				  c->token.module ? &token : NULL, clock, &e));
	if (ok)
		signer_desk_greet(d, signer_confine(CONFINE_ALL), &greeting);
	else
		signer_desk_regret(&e, &greeting);
	send_greeting(fds[0], &greeting);
	if (ok)
		serve(channels, n, d);
	signer_desk_free(d);
	signer_token_close(&token);
	signer_upstream_clear(&upstream);
	signer_keys_clear(&keys); /* OpenSSL wipes private keys as it frees them */
	_exit(ok ? 0 : 1);
}
