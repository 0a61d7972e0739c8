/*
 * syslog by RFC 5424, facility 13 (log audit): one datagram a record over a Unix socket (/dev/log)
 * or UDP, octet counting (RFC 6587 3.4.1) over TCP. Datagrams have no receipt. Of a TCP page the
 * receiver's kernel has acknowledged each byte before the cursor moves; what its program then does
 * with them no syslog can tell.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "authz/audit/sink_out.h"
#include "authz/base/text.h"

#define FACILITY 13
#define DATAGRAM_MAX 60000 /* bytes of a message; UDP carries 65,507 */
#define ACK_MS 20	   /* between two looks whether all is acknowledged */

/* ---- the address ---- */

bool sink_address_parse(const char *text, struct sink_address *a, struct err *e)
{
	struct str s = str_c(text), host, port = STR("514");
	const char *colon;
	uint64_t number;

	if (str_starts(s, STR("unix:/")) && s.n - 5 < sizeof(((struct sockaddr_un *)0)->sun_path)) {
		a->kind = ADDRESS_UNIX;
		snprintf(a->host, sizeof(a->host), "%s", text + 5);
		return true;
	}
	a->kind = str_starts(s, STR("udp:")) ? ADDRESS_UDP : ADDRESS_TCP;
	host = str_from(s, 4);
	colon = host.n ? strrchr(host.p, ':') : NULL;
	if (host.n && host.p[0] == '[' && colon && colon[-1] != ']')
		colon = NULL;
	if (colon) {
		port = str_c(colon + 1);
		host.n = (size_t)(colon - host.p);
	}
	if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = (struct str){ host.p + 1, host.n - 2 };
	if ((!str_starts(s, STR("udp:")) && !str_starts(s, STR("tcp:"))) || !host.n ||
	    host.n >= sizeof(a->host) || !text_is_printable(host) || memchr(host.p, '/', host.n) ||
	    !text_u64(port, 65535, &number) || !number)
		return err_set(e, ERR_INVALID,
			       "\"%.100s\" is no address of a syslog; expected \"unix:/dev/log\", "
			       "\"udp:HOST:PORT\" or \"tcp:HOST:PORT\"",
			       text);
	snprintf(a->host, sizeof(a->host), "%.*s", STR_FMT(host));
	snprintf(a->port, sizeof(a->port), "%u", (unsigned)number);
	return true;
}

/* ---- a message ---- */

/* PRINTUSASCII of at most @max characters, "-" for nothing. */
static void field(struct buf *out, struct str text, size_t max)
{
	if (!text.n)
		buf_char(out, '-');
	for (size_t i = 0; i < text.n && i < max; i++)
		buf_char(out, text.p[i] > 0x20 && text.p[i] < 0x7f ? text.p[i] : '_');
}

void sink_syslog_head(const struct format_record *r, struct buf *out)
{
	static const int severities[] = {
		[GRAVITY_INFO] = 6, [GRAVITY_LOW] = 5, [GRAVITY_MEDIUM] = 4, [GRAVITY_HIGH] = 3
	};
	char at[CLOCK_RFC3339_MAX];

	clock_rfc3339(r->time_ms, at);
	buf_printf(out, "<%d>1 %s ", FACILITY * 8 + severities[format_gravity(r)], at);
	field(out, format_text(r, "node"), 255);
	buf_lit(out, " writ - ");
	field(out, format_text(r, "kind"), 32);
	buf_lit(out, " - ");
}

/* Cut to @max bytes, not within a character. */
static void cut(struct buf *b, size_t from, size_t max)
{
	if (!buf_ok(b) || b->n - from <= max)
		return;
	for (b->n = from + max; b->n > from && ((unsigned char)b->p[b->n] & 0xc0) == 0x80;)
		b->n--;
}

static void append(const struct sink_out *o, const struct format_record *r, struct sink_page *page)
{
	const struct audit_format *f = o->settings->format;
	struct buf *b = &page->text;
	size_t from = b->n, n;
	struct buf message;

	if (!str_starts(str_c(o->settings->target), STR("tcp:"))) {
		sink_syslog_head(r, b);
		buf_add(b, str_c(f->line_open));
		f->row(r, b);
		buf_add(b, str_c(f->line_close));
		cut(b, from, DATAGRAM_MAX);
		return;
	}
	buf_init(&message, mem_system, b->max);
	sink_syslog_head(r, &message);
	buf_add(&message, str_c(f->line_open));
	f->row(r, &message);
	buf_add(&message, str_c(f->line_close));
	n = message.n;
	buf_printf(b, "%zu ", n);
	buf_add(b, buf_str(&message));
	if (!buf_ok(&message))
		b->failed = true;
	buf_clear(&message);
}

/* ---- the connection ---- */

static bool connect_unix(struct sink_out *o, const char *path, struct err *e)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	memcpy(un.sun_path, path, strlen(path)); /* it fits: sink_address_parse */
	o->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (o->fd >= 0 && connect(o->fd, (const struct sockaddr *)&un, sizeof(un)) == 0)
		return true;
	return err_set(e, ERR_UNAVAILABLE, "%s: %s", path, strerror(errno));
}

static bool connect_one(struct sink_out *o, const struct addrinfo *a, struct err *e)
{
	int64_t deadline = clock_mono_ns(o->config->clock) + SINK_SEND_MS * INT64_C(1000000);
	socklen_t n = sizeof(int);
	int error = 0;

	sink_out_close(o);
	o->fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (o->fd < 0)
		return err_set(e, ERR_IO, "cannot make a socket: %s", strerror(errno));
	if (connect(o->fd, a->ai_addr, a->ai_addrlen) == 0)
		return true;
	error = errno;
	if (error == EINPROGRESS) {
		if (!sink_wait(o, o->fd, POLLOUT, deadline, e))
			return false;
		if (getsockopt(o->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
			error = errno;
	}
	return !error || err_set(e, ERR_UNAVAILABLE, "cannot connect: %s", strerror(error));
}

static bool connect_any(struct sink_out *o, const struct sink_address *a, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = a->kind == ADDRESS_UDP ? SOCK_DGRAM : SOCK_STREAM,
				  .ai_flags = AI_NUMERICSERV };
	struct addrinfo *all = NULL;
	int rc = getaddrinfo(a->host, a->port, &hints, &all);
	bool ok = false;

	if (rc != 0)
		return err_set(e, ERR_UNAVAILABLE, "%s", gai_strerror(rc));
	for (const struct addrinfo *at = all; at && !ok; at = at->ai_next)
		ok = connect_one(o, at, e);
	freeaddrinfo(all);
	return ok;
}

/* A receiver that went away while nothing was sent is noticed here, not by losing a page. */
static bool is_alive(const struct sink_out *o, const struct sink_address *a)
{
	char c;

	if (o->fd < 0)
		return false;
	if (a->kind != ADDRESS_TCP)
		return true;
	return recv(o->fd, &c, 1, MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR);
}

/* ---- sending ---- */

static bool send_bytes(const struct sink_out *o, struct str left, int64_t deadline, struct err *e)
{
	while (left.n) {
		ssize_t n = send(o->fd, left.p, left.n, MSG_NOSIGNAL);

		if (n >= 0)
			left = str_from(left, (size_t)n);
		else if (errno != EAGAIN && errno != EINTR)
			return err_set(e, ERR_UNAVAILABLE, "cannot send: %s", strerror(errno));
		else if (!sink_wait(o, o->fd, POLLOUT, deadline, e))
			return false;
	}
	return true;
}

static bool all_acknowledged(const struct sink_out *o, int64_t deadline, struct err *e)
{
	struct pollfd p = { .fd = o->fd };
	char c;
	int left;

	for (;;) {
		ssize_t n = recv(o->fd, &c, 1, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return err_set(e, ERR_UNAVAILABLE, "the other end closed the connection");
		if (ioctl(o->fd, SIOCOUTQ, &left) != 0)
			return err_set(e, ERR_IO, "SIOCOUTQ: %s", strerror(errno));
		if (left == 0)
			return true;
		if (atomic_load(o->stop))
			return err_set(e, ERR_UNAVAILABLE, "given up, writ is stopping");
		if (clock_mono_ns(o->config->clock) >= deadline)
			return err_set(e, ERR_TIMEOUT,
				       "the other end acknowledged nothing for %d s",
				       SINK_SEND_MS / 1000);
		(void)poll(&p, 1, ACK_MS);
	}
}

static bool send_rows(const struct sink_out *o, const struct sink_page *page, int64_t deadline,
		      struct err *e)
{
	size_t from = 0;

	for (size_t i = 0; i < page->n; i++) {
		struct str row = { page->text.p + from, page->ends[i] - from };

		if (!send_bytes(o, row, deadline, e))
			return false;
		from = page->ends[i];
	}
	return true;
}

static bool send_page(struct sink_out *o, struct sink_page *page, struct err *e)
{
	int64_t deadline = clock_mono_ns(o->config->clock) + SINK_SEND_MS * INT64_C(1000000);
	struct sink_address a;
	bool ok;

	if (!sink_address_parse(o->settings->target, &a, e))
		return false;
	ok = is_alive(o, &a);
	if (!ok) {
		sink_out_close(o);
		ok = a.kind == ADDRESS_UNIX ? connect_unix(o, a.host, e) : connect_any(o, &a, e);
	}
	if (ok)
		ok = a.kind == ADDRESS_TCP ? send_bytes(o, buf_str(&page->text), deadline, e) &&
						     all_acknowledged(o, deadline, e)
					   : send_rows(o, page, deadline, e);
	if (ok)
		return true;
	sink_out_close(o);
	return err_prefix(e, "%s", o->settings->target);
}

const struct sink_ops sink_syslog_ops = { append, send_page };
