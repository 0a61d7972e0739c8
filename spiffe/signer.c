#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spiffe/signer_child.h"
#include "spiffe/signer_client.h"
#include "spiffe/signer_wire.h"

#define START_TIMEOUT_MS 15000

static void close_all(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Channels for parent (@ours) and child (@theirs); the latter in ascending order, as closing
 * everything between them wants it. */
static bool make_channels(unsigned n, int *ours, int *theirs, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
			close_all(ours, i);
			close_all(theirs, i);
			err_set(e, ERR_IO, "signer: no socket pair: %s", strerror(errno));
			return false;
		}
		ours[i] = pair[0];
		theirs[i] = pair[1];
		for (unsigned k = i; k && theirs[k] < theirs[k - 1]; k--) {
			int fd = theirs[k], own = ours[k];

			theirs[k] = theirs[k - 1];
			theirs[k - 1] = fd;
			ours[k] = ours[k - 1];
			ours[k - 1] = own;
		}
	}
	return true;
}

/* The first frame on channel 0. */
static bool await_greeting(struct signer *s, struct str *body, struct err *e)
{
	for (;;) {
		struct pollfd p = { .fd = s->fds[0], .events = POLLIN };
		char *at = buf_room(&s->greeting, 1024);
		ssize_t n = at ? poll(&p, 1, START_TIMEOUT_MS) : -1;

		if (n < 0 && at && errno == EINTR)
			continue;
		if (n == 0)
			return err_set(e, ERR_TIMEOUT, "signer: it did not start within %d s",
				       START_TIMEOUT_MS / 1000);
		n = n > 0 ? recv(s->fds[0], at, 1024, MSG_DONTWAIT) : -1;
		if (n <= 0)
			return err_set(e, ERR_UNAVAILABLE, "signer: it ended while it started");
		s->greeting.n += (size_t)n;
		n = wire_frame(buf_str(&s->greeting), body);
		if (n != 0)
			return n > 0 || err_set(e, ERR_INTERNAL, "signer: malformed greeting");
	}
}

static bool read_greeting(struct signer *s, struct err *e)
{
	struct wire w = { 0 };
	struct str body, log, next, witness;
	uint8_t class;

	if (!await_greeting(s, &body, e))
		return false;
	w.rest = body;
	class = wire_u8(&w);
	if (class != ERR_NONE)
		return err_set(e, class <= ERR_INTERNAL ? (enum err_class) class : ERR_INTERNAL,
			       "%.*s", STR_FMT(w.rest));
	s->public.authority = wire_str(&w);
	s->public.authority_ends_s = wire_i64(&w);
	s->public.jwt_kid = wire_str(&w);
	s->public.jwt_spki = wire_str(&w);
	log = wire_str(&w);
	next = wire_str(&w);
	witness = wire_str(&w);
	s->public.created = wire_u8(&w);
	s->public.confined = wire_u8(&w);
	if (w.bad || w.rest.n || log.n != sizeof(s->public.log_key) ||
	    (next.n && next.n != sizeof(s->public.next_log_key)) ||
	    (witness.n && witness.n != sizeof(s->public.witness_key)))
		return err_set(e, ERR_INTERNAL, "signer: malformed greeting");
	memcpy(s->public.log_key, log.p, log.n);
	if (next.n)
		memcpy(s->public.next_log_key, next.p, next.n);
	if (witness.n)
		memcpy(s->public.witness_key, witness.p, witness.n);
	return true;
}

static bool check_config(const struct signer_config *c, struct err *e)
{
	struct str name;

	if (c->channels == 0 || c->channels > SIGNER_CHANNELS_MAX)
		return err_set(e, ERR_INVALID, "signer: 1 to %d channels, not %u",
			       SIGNER_CHANNELS_MAX, c->channels);
	if (!spiffe_trust_domain_parse(c->trust_domain, &name, e))
		return false;
	if (!str_eq(name, c->trust_domain))
		return err_set(e, ERR_INVALID,
			       "signer: the bare name of the trust domain is expected");
	return true;
}

bool signer_start(const struct signer_config *c, struct signer **out, struct err *e)
{
	int theirs[SIGNER_CHANNELS_MAX];
	struct signer *s;
	pid_t parent = getpid();

	if (!check_config(c, e))
		return false;
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, ERR_NOMEM, "no memory for the signer");
	buf_init(&s->greeting, mem_system, SIGNER_FRAME_MAX + 1024);
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++)
		slot_init(&s->why[kind]);
	if (!make_channels(c->channels, s->fds, theirs, e)) {
		signer_stop(s);
		return false;
	}
	s->n = c->channels;
	s->pid = fork();
	if (s->pid == 0)
		signer_child(c, theirs, s->n, parent);
	close_all(theirs, s->n);
	if (s->pid < 0) {
		err_set(e, ERR_IO, "signer: cannot fork: %s", strerror(errno));
		signer_stop(s);
		return false;
	}
	if (!read_greeting(s, e)) {
		kill(s->pid, SIGKILL);
		signer_stop(s);
		return false;
	}
	*out = s;
	return true;
}

const struct signer_public *signer_public(const struct signer *s)
{
	return &s->public;
}

pid_t signer_pid(const struct signer *s)
{
	return s->pid;
}

bool signer_dead(const struct signer *s)
{
	return atomic_load(&s->dead);
}

bool signer_failing(struct signer *s, enum authority_kind kind, char why[static 400])
{
	struct signer_excuse *x;

	if (!atomic_load(&s->failing[kind]))
		return false;
	x = (struct signer_excuse *)slot_acquire(&s->why[kind]);
	if (!x)
		return false;
	memcpy(why, x->text, sizeof(x->text));
	shared_release(&x->shared);
	return true;
}

void signer_stop(struct signer *s)
{
	if (!s)
		return;
	close_all(s->fds, s->n);
	while (s->pid > 0 && waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	buf_clear(&s->greeting);
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++)
		slot_clear(&s->why[kind]);
	free(s);
}
