/*
 * Sockets stay blocking and carry SO_RCVTIMEO and SO_SNDTIMEO, so silence ends a call without a
 * loop of our own; connecting waits in poll for the same reason.
 */
#include "authz/cli/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "authz/cli/peer.h"

struct transport {
	int fd;
	SSL_CTX *ctx;
	SSL *ssl; /* NULL: plain */
};

static bool set_timeouts(int fd, struct err *e)
{
	struct timeval tv = { .tv_sec = CLIENT_TIMEOUT_MS / 1000 };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) != 0)
		return err_set(e, ERR_IO, "cannot set the timeouts of a socket: %s",
			       strerror(errno));
	return true;
}

/* connect(2) within the time limit; false leaves the reason in errno. */
static bool connect_within(int fd, const struct sockaddr *address, socklen_t n)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int flags = fcntl(fd, F_GETFL), error = 0;
	socklen_t len = sizeof(error);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return false;
	if (connect(fd, address, n) != 0) {
		int rc;

		if (errno != EINPROGRESS)
			return false;
		while ((rc = poll(&p, 1, CLIENT_TIMEOUT_MS)) < 0 && errno == EINTR)
			;
		if (rc == 0)
			errno = ETIMEDOUT;
		if (rc <= 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
			return false;
		if (error) {
			errno = error;
			return false;
		}
	}
	return fcntl(fd, F_SETFL, flags) == 0;
}

static bool no_server(const struct target *t, int error, struct err *e)
{
	char name[TARGET_NAME_MAX];

	target_name(t, name);
	if (error == EACCES || error == EPERM)
		return err_code(e, ERR_FORBIDDEN, "permission_denied",
				"%s: permission denied; run writ as the user who runs the server, "
				"or name your user in `callers` of its configuration",
				name);
	if (error == ECONNREFUSED || error == ENOENT)
		return err_code(e, ERR_UNAVAILABLE, "no_server",
				"%s: nobody answers (%s); is the server running? start it with "
				"`writ serve` and the same configuration",
				name, strerror(error));
	return err_code(e, ERR_UNAVAILABLE, "no_server", "%s: cannot connect: %s", name,
			strerror(error));
}

static bool connect_unix(const struct target *t, int *fd, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	_Static_assert(sizeof(a.sun_path) == sizeof(t->path), "a target holds any socket's path");
	memcpy(a.sun_path, t->path, sizeof(a.sun_path));
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*fd < 0)
		return err_set(e, ERR_IO, "cannot make a socket: %s", strerror(errno));
	if (!connect_within(*fd, (const struct sockaddr *)&a, sizeof(a)))
		return no_server(t, errno, e);
	return true;
}

/* Every address of the name in turn. */
static bool connect_tcp(const struct target *t, int *fd, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *all = NULL;
	int rc = getaddrinfo(t->host, t->port, &hints, &all), error = ECONNREFUSED;

	if (rc != 0)
		return err_code(e, ERR_UNAVAILABLE, "no_server", "%s: %s", t->host,
				gai_strerror(rc));
	for (const struct addrinfo *a = all; a && *fd < 0; a = a->ai_next) {
		*fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (*fd >= 0 && connect_within(*fd, a->ai_addr, a->ai_addrlen))
			break;
		error = errno;
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
	freeaddrinfo(all);
	return *fd >= 0 ? true : no_server(t, error, e);
}

static bool start_tls(struct transport *tr, const struct target *t, const struct client_tls *tls,
		      bool unproven, struct err *e)
{
	char host[sizeof(t->host)];

	tr->ctx = peer_context(tls, e);
	if (!tr->ctx)
		return false;
	tr->ssl = SSL_new(tr->ctx);
	if (!tr->ssl || SSL_set_fd(tr->ssl, tr->fd) != 1)
		return crypto_err(e, "cannot start TLS");
	/* The name only helps the server to choose; what it must prove is its SPIFFE ID. */
	snprintf(host, sizeof(host), "%s", t->host);
	if (host[strspn(host, "0123456789.:")])
		SSL_set_tlsext_host_name(tr->ssl, host);
	if (!peer_connect(tr->ssl, tls, unproven, e)) {
		char name[TARGET_NAME_MAX];

		return err_prefix(e, "%s", target_name(t, name));
	}
	return true;
}

static bool connect_to(struct transport *tr, const struct target *t, const struct client_tls *tls,
		       bool unproven, struct err *e)
{
	bool ok = t->kind == TARGET_UNIX ? connect_unix(t, &tr->fd, e) : connect_tcp(t, &tr->fd, e);

	return ok && set_timeouts(tr->fd, e) &&
	       (t->kind != TARGET_HTTPS || start_tls(tr, t, tls, unproven, e));
}

bool transport_open(const struct target *t, const struct client_tls *tls, bool unproven,
		    struct transport **out, struct err *e)
{
	struct transport *tr = calloc(1, sizeof(*tr));

	if (!tr)
		return err_set(e, ERR_NOMEM, "out of memory");
	tr->fd = -1;
	if (!connect_to(tr, t, tls, unproven, e)) {
		transport_close(tr);
		return false;
	}
	*out = tr;
	return true;
}

static bool broken(struct err *e)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return err_code(e, ERR_TIMEOUT, "timeout",
				"the server was silent for %d seconds; see its log",
				CLIENT_TIMEOUT_MS / 1000);
	return err_code(e, ERR_UNAVAILABLE, "connection_lost",
			"the connection to the server broke: %s", strerror(errno));
}

bool transport_write(struct transport *t, struct str bytes, struct err *e)
{
	while (bytes.n) {
		size_t n = 0;

		errno = 0;
		if (t->ssl) {
			if (SSL_write_ex(t->ssl, bytes.p, bytes.n, &n) != 1)
				return errno ? broken(e)
					     : crypto_err(e, "TLS with the server failed");
		} else {
			ssize_t rc = send(t->fd, bytes.p, bytes.n, MSG_NOSIGNAL);

			if (rc < 0 && errno == EINTR)
				continue;
			if (rc < 0)
				return broken(e);
			n = (size_t)rc;
		}
		bytes = str_from(bytes, n);
	}
	return true;
}

static bool read_tls(struct transport *t, char *p, size_t n, size_t *got, struct err *e)
{
	errno = 0;
	if (SSL_read_ex(t->ssl, p, n, got) == 1)
		return true;
	*got = 0;
	/* Only a close_notify is an end: a cut by a stranger on the wire is not. */
	if (SSL_get_error(t->ssl, 0) == SSL_ERROR_ZERO_RETURN)
		return true;
	return errno ? broken(e) : crypto_err(e, "TLS with the server failed");
}

bool transport_read(void *ctx, char *p, size_t n, size_t *got, struct err *e)
{
	struct transport *t = ctx;
	ssize_t rc;

	if (t->ssl)
		return read_tls(t, p, n, got, e);
	do
		rc = recv(t->fd, p, n, 0);
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return broken(e);
	*got = (size_t)rc;
	return true;
}

bool transport_wait(struct transport *t, int ms)
{
	struct pollfd p = { .fd = t->fd, .events = POLLIN };

	if (t->ssl && SSL_pending(t->ssl))
		return true;
	return poll(&p, 1, ms) != 0;
}

void transport_close(struct transport *t)
{
	if (!t)
		return;
	if (t->ssl)
		SSL_shutdown(t->ssl);
	SSL_free(t->ssl);
	SSL_CTX_free(t->ctx);
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}
