#include "tests/cli/server.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	abort();
}

static ssize_t get(SSL *ssl, int fd, char *p, size_t n)
{
	return ssl ? SSL_read(ssl, p, (int)n) : recv(fd, p, n, 0);
}

static ssize_t put(SSL *ssl, int fd, const char *p, size_t n)
{
	return ssl ? SSL_write(ssl, p, (int)n) : send(fd, p, n, MSG_NOSIGNAL);
}

/* Head and, if it declares one, body. */
static bool read_request(struct scripted *s, SSL *ssl, int fd)
{
	size_t n = 0, want = 0;

	while (!want || n < want) {
		ssize_t got = get(ssl, fd, s->request + n, sizeof(s->request) - 1 - n);
		const char *end, *length;

		if (got <= 0)
			return false;
		n += (size_t)got;
		s->request[n] = '\0';
		end = strstr(s->request, "\r\n\r\n");
		if (end) {
			length = strstr(s->request, "Content-Length: ");
			want = (size_t)(end + 4 - s->request) +
			       (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
		}
	}
	return true;
}

static void serve_one(struct scripted *s, struct str rest, int fd)
{
	SSL *ssl = s->tls ? SSL_new(s->tls) : NULL;

	if ((!ssl || (SSL_set_fd(ssl, fd) == 1 && SSL_accept(ssl) == 1)) &&
	    read_request(s, ssl, fd))
		while (rest.n) {
			size_t n = s->piece && s->piece < rest.n ? s->piece : rest.n;
			ssize_t sent = put(ssl, fd, rest.p, n);

			if (sent <= 0)
				break; /* the client has had enough */
			rest = str_from(rest, (size_t)sent);
		}
	if (ssl)
		SSL_shutdown(ssl);
	SSL_free(ssl);
	close(fd);
}

static void *run(void *arg)
{
	struct scripted *s = arg;

	for (int i = 0; i < s->connections; i++) {
		int fd = accept(s->listener, NULL, NULL);

		must(fd >= 0, "accept");
		serve_one(s, i && s->next ? s->next[i - 1] : s->answer, fd);
		if (i == 0)
			snprintf(s->first, sizeof(s->first), "%.1000s", s->request);
	}
	return NULL;
}

static void listen_unix(struct scripted *s)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(s->folder, sizeof(s->folder), "/tmp/writ-test-XXXXXX");
	must(mkdtemp(s->folder) != NULL, "mkdtemp");
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", s->folder);
	s->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	must(bind(s->listener, (struct sockaddr *)&a, sizeof(a)) == 0, "bind");
	s->target.kind = TARGET_UNIX;
	memcpy(s->target.path, a.sun_path, sizeof(a.sun_path));
}

static void listen_tcp(struct scripted *s)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t n = sizeof(a);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s->listener = socket(AF_INET, SOCK_STREAM, 0);
	must(bind(s->listener, (struct sockaddr *)&a, sizeof(a)) == 0, "bind");
	must(getsockname(s->listener, (struct sockaddr *)&a, &n) == 0, "getsockname");
	s->target.kind = TARGET_HTTPS;
	snprintf(s->target.host, sizeof(s->target.host), "127.0.0.1");
	snprintf(s->target.port, sizeof(s->target.port), "%u", ntohs(a.sin_port));
}

void scripted_start(struct scripted *s)
{
	memset(&s->target, 0, sizeof(s->target));
	s->folder[0] = '\0';
	s->request[0] = '\0';
	if (!s->connections)
		s->connections = 1;
	if (s->tls)
		listen_tcp(s);
	else
		listen_unix(s);
	must(listen(s->listener, 5) == 0, "listen");
	must(pthread_create(&s->thread, NULL, run, s) == 0, "pthread_create");
}

void scripted_stop(struct scripted *s)
{
	pthread_join(s->thread, NULL);
	close(s->listener);
	if (s->folder[0]) {
		unlink(s->target.path);
		rmdir(s->folder);
	}
}
