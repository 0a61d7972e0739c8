#include "authz/net/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/net/process.h"

#define BACKLOG 1024

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un un;
	struct sockaddr_storage storage;
};

static bool parse_port(struct str s, unsigned *port)
{
	uint64_t v;

	if (!text_u64(s, 65535, &v))
		return false;
	*port = (unsigned)v;
	return true;
}

/* "1.2.3.4:80" or "[::1]:80". Names are not looked up: a listener must not depend on DNS. */
static bool parse_tcp(const struct listener *l, union address *a, socklen_t *len, unsigned *port,
		      struct err *e)
{
	struct str s = str_c(l->address);
	const char *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
	char host[64] = "";
	size_t n = colon ? (size_t)(colon - s.p) : 0;
	unsigned asked = 0;
	bool v6 = n > 2 && s.p[0] == '[' && s.p[n - 1] == ']';

	if (n > 0 && n < sizeof(host) && v6)
		memcpy(host, s.p + 1, n - 2);
	else if (n > 0 && n < sizeof(host))
		memcpy(host, s.p, n);
	memset(a, 0, sizeof(*a));
	if (!n || !parse_port(str_from(s, n + 1), &asked) ||
	    inet_pton(v6 ? AF_INET6 : AF_INET, host,
		      v6 ? (void *)&a->v6.sin6_addr : (void *)&a->v4.sin_addr) != 1)
		return err_set(e, ERR_INVALID,
			       "listener %s: \"%s\" is not an address; write it as "
			       "\"127.0.0.1:8080\" or \"[::1]:8080\"",
			       l->name, l->address);
	if (asked == 0)
		asked = *port;
	a->any.sa_family = v6 ? AF_INET6 : AF_INET;
	if (v6)
		a->v6.sin6_port = htons((uint16_t)asked);
	else
		a->v4.sin_port = htons((uint16_t)asked);
	*len = v6 ? sizeof(a->v6) : sizeof(a->v4);
	return true;
}

static bool is_loopback(const union address *a)
{
	if (a->any.sa_family == AF_INET)
		return ntohl(a->v4.sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr);
}

static const char *what_to_do(int why)
{
	switch (why) {
	case EADDRINUSE:
		return "; stop what listens there, or choose another address under `listen`";
	case EADDRNOTAVAIL:
		return "; no interface of this machine has it: choose another under `listen`";
	case EACCES:
		return "; this user may not (ports below 1024 take a right): choose another under "
		       "`listen`";
	default:
		return "";
	}
}

static int fail(const struct listener *l, int fd, struct err *e)
{
	err_set(e, ERR_IO, "listener %s: cannot listen on %s: %s%s", l->name, l->address,
		strerror(errno), what_to_do(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static int open_tcp(const struct listener *l, bool share, unsigned *port, struct err *e)
{
	union address a;
	socklen_t len = 0;
	int fd, one = 1;

	if (!parse_tcp(l, &a, &len, port, e))
		return -1;
	if (!l->tls && !is_loopback(&a)) {
		err_set(e, ERR_INVALID,
			"listener %s: %s is not a loopback address, so it needs TLS; plaintext is "
			"served on loopback addresses and Unix sockets only",
			l->name, l->address);
		return -1;
	}
	fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(l, fd, e);
	/* Accepted sockets inherit TCP_NODELAY: a reply is one write and must not wait. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    (share && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one))) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    (a.any.sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one))) ||
	    bind(fd, &a.any, len) || listen(fd, BACKLOG) || getsockname(fd, &a.any, &len))
		return fail(l, fd, e);
	*port = ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
	return fd;
}

/* A socket that a dead server left behind is removed; a living one, or a file, is not. */
static bool clear_path(const struct listener *l, const union address *a, struct err *e)
{
	struct stat st;
	int fd, rc;

	if (lstat(l->address, &st))
		return errno == ENOENT || fail(l, -1, e) == 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, ERR_CONFLICT,
			       "listener %s: %s exists and is not a socket; remove it or choose "
			       "another path",
			       l->name, l->address);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(l, fd, e) == 0;
	rc = connect(fd, &a->any, sizeof(a->un)) ? errno : 0;
	close(fd);
	if (rc != ECONNREFUSED)
		return err_set(e, ERR_CONFLICT, "listener %s: another server already listens on %s",
			       l->name, l->address);
	return unlink(l->address) == 0 || fail(l, -1, e) == 0;
}

static int open_unix(const struct listener *l, unsigned mode, struct err *e)
{
	struct str path = str_c(l->address);
	union address a;
	int fd;

	memset(&a, 0, sizeof(a));
	a.un.sun_family = AF_UNIX;
	if (path.n == 0 || path.n >= sizeof(a.un.sun_path)) {
		err_set(e, ERR_INVALID,
			"listener %s: the path of a Unix socket has 1 to %zu bytes, not %zu",
			l->name, sizeof(a.un.sun_path) - 1, path.n);
		return -1;
	}
	memcpy(a.un.sun_path, path.p, path.n);
	if (!clear_path(l, &a, e))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* Nobody can connect before listen, so the mode is right before the first byte. */
	if (fd < 0 || bind(fd, &a.any, sizeof(a.un)) || chmod(l->address, mode) ||
	    listen(fd, BACKLOG))
		return fail(l, fd, e);
	return fd;
}

int listen_open(const struct listener *l, unsigned mode, bool share, unsigned *port, struct err *e)
{
	return l->unix_socket ? open_unix(l, mode, e) : open_tcp(l, share, port, e);
}

void listen_close(const struct listener *l, int fd)
{
	if (fd < 0)
		return;
	if (l->unix_socket)
		(void)unlink(l->address);
	close(fd);
}

void listen_peer(const struct listener *l, int fd, const struct sockaddr_storage *from,
		 struct peer *out)
{
	union address a = { .storage = *from };
	char host[INET6_ADDRSTRLEN] = "?";
	struct ucred cred;
	socklen_t len = sizeof(cred);

	*out = (struct peer){ .listener = l, .pid = -1, .uid = (uid_t)-1, .gid = (gid_t)-1 };
	if (l->unix_socket) {
		memcpy(out->address, "unix", sizeof("unix"));
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0) {
			out->pid = cred.pid;
			out->uid = cred.uid;
			out->gid = cred.gid;
		}
		if (l->processes && !process_started(out->pid, &out->started))
			out->started = 0;
		return;
	}
	if (a.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a.v6.sin6_addr, host, sizeof(host));
		snprintf(out->address, sizeof(out->address), "[%s]:%u", host,
			 ntohs(a.v6.sin6_port));
	} else {
		inet_ntop(AF_INET, &a.v4.sin_addr, host, sizeof(host));
		snprintf(out->address, sizeof(out->address), "%s:%u", host, ntohs(a.v4.sin_port));
	}
}
