/*
 * Both sides are non-blocking and neither can starve the other: the signer stops reading only while
 * its own answers do not fit, and we always take answers. So bytes of ours that did not fit into
 * the socket mean requests the signer has yet to answer; its answer makes our end readable, and
 * then we write on. That is why a loop need not watch for EPOLLOUT.
 */
#include "spiffe/signer_client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "spiffe/signer_wire.h"

#define QUEUED_MAX (4 * 1024 * 1024) /* bytes of requests that do not fit into the socket */
#define ANSWERS_MAX (64 * 1024)
#define CALL_TIMEOUT_MS 10000

struct signer_client {
	struct signer *signer;
	int fd;
	bool dead;
	struct chain pending; /* sent or queued, in order */
	struct buf in, out;
};

struct signer_client *signer_client_new(struct signer *s, struct err *e)
{
	unsigned i = atomic_fetch_add(&s->next, 1);
	struct signer_client *c = i < s->n ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		err_set(e, ERR_INTERNAL, "signer: all %u channels are taken", s->n);
		return NULL;
	}
	c->signer = s;
	c->fd = s->fds[i];
	chain_init(&c->pending);
	buf_init(&c->in, mem_system, ANSWERS_MAX);
	buf_init(&c->out, mem_system, QUEUED_MAX);
	/* Now: an answer that finds no memory could only be met by giving up the signer. */
	if (!buf_room(&c->in, ANSWERS_MAX)) {
		signer_client_free(c);
		err_set(e, ERR_NOMEM, "no memory for a channel to the signer");
		return NULL;
	}
	return c;
}

static struct signer_job *first_pending(struct signer_client *c)
{
	struct link *l = c->pending.first;

	if (!l)
		return NULL;
	c->pending.first = l->next;
	if (!l->next)
		c->pending.end = &c->pending.first;
	c->pending.n--;
	return LINK_OF(l, struct signer_job, link);
}

static void finish(struct signer_job *j)
{
	j->over = true;
	if (j->done)
		j->done(j);
}

/* The channel is of no more use: every job that waits fails. */
static void die(struct signer_client *c)
{
	struct signer_job *j;

	c->dead = true;
	atomic_store(&c->signer->dead, true);
	while ((j = first_pending(c))) {
		j->ok = false;
		err_set(&j->err, ERR_UNAVAILABLE, "the signer process has ended; restart writ");
		finish(j);
	}
}

void signer_client_free(struct signer_client *c)
{
	struct signer_job *j;

	if (!c)
		return;
	c->dead = true;
	while ((j = first_pending(c))) {
		j->ok = false;
		err_set(&j->err, ERR_UNAVAILABLE, "writ is stopping");
		finish(j);
	}
	buf_clear(&c->in);
	buf_clear(&c->out);
	free(c);
}

int signer_client_fd(const struct signer_client *c)
{
	return c->fd;
}

size_t signer_pending(const struct signer_client *c)
{
	return c->pending.n;
}

bool signer_send(struct signer_client *c, struct signer_job *j, struct err *e)
{
	if (c->dead)
		return err_set(e, ERR_UNAVAILABLE, "the signer process has ended; restart writ");
	if (c->pending.n >= SIGNER_PENDING_MAX || c->out.n > QUEUED_MAX - SIGNER_FRAME_MAX - 4)
		return err_set(e, ERR_UNAVAILABLE, "signer: %zu requests are waiting; try again",
			       c->pending.n);
	if (!wire_put_job(&c->out, j))
		return err_set(e, ERR_TOO_LARGE, "signer: the request is larger than %d bytes",
			       SIGNER_FRAME_MAX);
	j->ok = j->over = false;
	chain_add(&c->pending, &j->link);
	return true;
}

void signer_flush(struct signer_client *c)
{
	size_t at = 0;

	while (!c->dead && at < c->out.n) {
		ssize_t n = send(c->fd, c->out.p + at, c->out.n - at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			at += (size_t)n;
		} else if (errno != EINTR) {
			if (errno != EAGAIN && errno != EWOULDBLOCK)
				die(c);
			break;
		}
	}
	buf_drop(&c->out, at);
}

static void free_excuse(struct shared *s)
{
	free(s);
}

/* What goes wrong with every SVID is for operators to see, too. */
static void note(struct signer *s, const struct signer_job *j)
{
	enum authority_kind kind = j->op == SIGNER_JWT_SVID ? AUTHORITY_JWT : AUTHORITY_X509;
	struct signer_excuse *x;

	if (j->op != SIGNER_JWT_SVID && j->op != SIGNER_X509_SVID)
		return;
	if (j->ok) {
		if (atomic_load_explicit(&s->failing[kind], memory_order_relaxed))
			atomic_store(&s->failing[kind], false);
		return;
	}
	if (j->err.class != ERR_UNAVAILABLE || atomic_load(&s->failing[kind]))
		return;
	x = calloc(1, sizeof(*x));
	if (!x)
		return; /* only a report */
	shared_init(&x->shared, free_excuse);
	memcpy(x->text, j->err.msg, sizeof(x->text));
	slot_publish(&s->why[kind], &x->shared);
	atomic_store(&s->failing[kind], true);
}

/* One answer for the oldest job. False: not what a signer says. */
static bool take_answer(struct signer_client *c, struct str body)
{
	struct wire w = { .rest = body };
	uint8_t class = wire_u8(&w);
	struct signer_job *j = first_pending(c);

	if (!j)
		return false;
	j->ok = class == ERR_NONE;
	if (j->ok) {
		buf_add(j->out, w.rest);
		j->ok = buf_ok(j->out) ||
			err_set(&j->err, ERR_NOMEM, "no room for what the signer signed");
	} else {
		err_set(&j->err, class <= ERR_INTERNAL ? (enum err_class) class : ERR_INTERNAL,
			"%.*s", STR_FMT(w.rest));
	}
	note(c->signer, j);
	finish(j);
	return true;
}

static bool take_answers(struct signer_client *c)
{
	struct str body;
	size_t at = 0;
	ssize_t n;

	while ((n = wire_frame(str_from(buf_str(&c->in), at), &body)) > 0) {
		at += (size_t)n;
		if (!take_answer(c, body))
			return false;
	}
	buf_drop(&c->in, at);
	return n == 0;
}

void signer_readable(struct signer_client *c)
{
	while (!c->dead) {
		size_t room = c->in.max - c->in.n;
		char *at = buf_room(&c->in, room);
		ssize_t n = at ? recv(c->fd, at, room, MSG_DONTWAIT) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n <= 0) {
			die(c);
			break;
		}
		c->in.n += (size_t)n;
		if (!take_answers(c)) {
			die(c);
			break;
		}
		if ((size_t)n < room)
			break; /* that was all */
	}
	signer_flush(c);
}

bool signer_call(struct signer_client *c, struct signer_job *j, struct err *e)
{
	j->done = NULL;
	if (!signer_send(c, j, e))
		return false;
	signer_flush(c);
	while (!j->over) {
		struct pollfd p = { .fd = c->fd, .events = c->out.n ? POLLIN | POLLOUT : POLLIN };
		int n = poll(&p, 1, CALL_TIMEOUT_MS);

		if (n < 0 && errno == EINTR)
			continue;
		/* A signer that hangs is as good as none; and the job must not outlive this call.
		 */
		if (n <= 0)
			die(c);
		else
			signer_readable(c);
	}
	if (!j->ok && e)
		*e = j->err;
	return j->ok;
}
