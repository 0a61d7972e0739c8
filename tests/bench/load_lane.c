/* Connections of the load generator: opened blocking, then served without. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/bench/load_lane.h"

static bool watch(struct lane *c, int op)
{
	struct epoll_event ev = { .events = EPOLLIN | (c->want_write ? EPOLLOUT : 0),
				  .data.ptr = c };

	return epoll_ctl(c->load->epoll, op, c->fd, &ev) == 0;
}

/* Write what it takes; -1 only if the connection is beyond use. */
static ssize_t push(struct lane *c, const char *p, size_t n)
{
	ssize_t r;

	if (c->ssl) {
		ERR_clear_error();
		r = SSL_write(c->ssl, p, n > 65536 ? 65536 : (int)n);
		if (r > 0)
			return r;
		r = SSL_get_error(c->ssl, (int)r);
		return r == SSL_ERROR_WANT_WRITE || r == SSL_ERROR_WANT_READ ? 0 : -1;
	}
	r = send(c->fd, p, n, MSG_NOSIGNAL);
	return r < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : r;
}

bool lane_flush(struct lane *c)
{
	bool more;

	while (c->out_at < c->out_n) {
		ssize_t n = push(c, c->out + c->out_at, c->out_n - c->out_at);

		if (n < 0)
			return false;
		if (n == 0)
			break;
		c->out_at += (size_t)n;
	}
	more = c->out_at < c->out_n;
	if (!more)
		c->out_n = c->out_at = 0;
	if (more == c->want_write)
		return true;
	c->want_write = more;
	return watch(c, EPOLL_CTL_MOD);
}

char *lane_room(struct lane *c, size_t n)
{
	if (c->out_n + n > c->out_cap) {
		size_t cap = (c->out_n + n) * 2;
		char *out = realloc(c->out, cap);

		if (!out)
			return NULL;
		c->out = out;
		c->out_cap = cap;
	}
	c->out_n += n;
	return c->out + c->out_n - n;
}

bool lane_send(struct lane *c, const char *p, size_t n)
{
	char *out;

	if (!c->out_n) {
		ssize_t r = push(c, p, n);

		if (r < 0)
			return false;
		p += r;
		n -= (size_t)r;
	}
	if (!n)
		return true;
	out = lane_room(c, n);
	if (!out)
		return false;
	memcpy(out, p, n);
	return lane_flush(c);
}

ssize_t lane_receive(struct lane *c, char *p, size_t n)
{
	ssize_t r;

	if (c->ssl) {
		ERR_clear_error();
		r = SSL_read(c->ssl, p, (int)n);
		if (r > 0)
			return r;
		r = SSL_get_error(c->ssl, (int)r);
		return r == SSL_ERROR_WANT_READ || r == SSL_ERROR_WANT_WRITE ? 0 : -1;
	}
	r = recv(c->fd, p, n, 0);
	if (r > 0)
		return r;
	return r < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static bool handshake(struct lane *c, struct err *e)
{
	c->ssl = SSL_new(c->load->tls);
	if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1)
		return err_set(e, ERR_NOMEM, "cannot start TLS");
	SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (SSL_connect(c->ssl) == 1)
		return true;
	return err_set(e, ERR_UNAVAILABLE, "TLS handshake with %s failed: %s", c->load->o.to,
		       ERR_reason_error_string(ERR_peek_last_error()) ?: "connection closed");
}

bool lane_open(struct lane *c, struct err *e)
{
	const struct options *o = &c->load->o;
	const struct timeval patience = { .tv_sec = 10 };
	int one = 1;

	c->closing = c->want_write = false;
	c->in_n = c->out_n = c->out_at = c->inflight = 0;
	c->slots = o->streams ? o->streams : 1;
	c->fd = socket(o->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return err_set(e, ERR_IO, "socket: %s", strerror(errno));
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (o->address.ss_family != AF_UNIX)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (const struct sockaddr *)&o->address, o->address_len) != 0)
		return err_set(e, ERR_UNAVAILABLE, "cannot connect to %s: %s", o->to,
			       strerror(errno));
	if (c->load->tls && !handshake(c, e))
		return false;
	if (o->streams && !load_h2_open(c))
		return err_set(e, ERR_IO, "cannot begin HTTP/2 with %s", o->to);
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0 || !watch(c, EPOLL_CTL_ADD))
		return err_set(e, ERR_IO, "cannot watch a connection: %s", strerror(errno));
	c->load->open++;
	return true;
}

void lane_shut(struct lane *c)
{
	if (c->h2)
		load_h2_close(c);
	SSL_free(c->ssl);
	c->ssl = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->load->inflight -= c->inflight;
	c->inflight = 0;
}

void lane_free(struct lane *c)
{
	lane_shut(c);
	free(c->in);
	free(c->out);
}

static bool tls_fail(struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, "%s: %s", what,
		       ERR_reason_error_string(ERR_peek_last_error()) ?: "refused");
}

bool lane_tls(struct load *l, struct err *e)
{
	const struct options *o = &l->o;

	l->tls = SSL_CTX_new(TLS_client_method());
	if (!l->tls)
		return tls_fail(e, "TLS");
	if (o->cert && (SSL_CTX_use_certificate_chain_file(l->tls, o->cert) != 1 ||
			SSL_CTX_use_PrivateKey_file(l->tls, o->key, SSL_FILETYPE_PEM) != 1))
		return tls_fail(e, o->cert);
	if (o->ca) {
		/* A SPIFFE server is known by its chain; there is no host name to compare. */
		if (SSL_CTX_load_verify_locations(l->tls, o->ca, NULL) != 1)
			return tls_fail(e, o->ca);
		SSL_CTX_set_verify(l->tls, SSL_VERIFY_PEER, NULL);
	}
	if (o->streams && SSL_CTX_set_alpn_protos(l->tls, (const unsigned char *)"\2h2", 3) != 0)
		return tls_fail(e, "ALPN");
	return true;
}
