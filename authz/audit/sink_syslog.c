/*
 * syslog by RFC 5424, facility 13 (log audit): one datagram a record over a Unix socket (/dev/log)
 * or UDP, octet counting over TCP (RFC 6587 3.4.1) and TLS (RFC 5425). Datagrams have no receipt.
 * Of a page over TCP or TLS the receiver's kernel has acknowledged each byte before the cursor
 * moves; what its program then does with them no syslog can tell.
 */
#include <arpa/inet.h>
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
	static const struct {
		const char *prefix, *port;
		enum sink_address_kind kind;
	} kinds[] = { { "udp:", "514", ADDRESS_UDP },
		      { "tcp:", "514", ADDRESS_TCP },
		      { "tls:", "6514", ADDRESS_TLS } };
	struct str s = str_c(text), host, port = STR("");
	const char *colon;
	uint64_t number;
	size_t k;

	if (str_starts(s, STR("unix:/")) && s.n - 5 < sizeof(((struct sockaddr_un *)0)->sun_path)) {
		a->kind = ADDRESS_UNIX;
		snprintf(a->host, sizeof(a->host), "%s", text + 5);
		return true;
	}
	for (k = 0; k < ARRAY_LEN(kinds) && !str_starts(s, str_c(kinds[k].prefix)); k++)
		;
	if (k < ARRAY_LEN(kinds)) {
		a->kind = kinds[k].kind;
		port = str_c(kinds[k].port);
	}
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
	if (k == ARRAY_LEN(kinds) || !host.n || host.n >= sizeof(a->host) ||
	    !text_is_printable(host) || memchr(host.p, '/', host.n) ||
	    !text_u64(port, 65535, &number) || !number)
		return err_set(e, ERR_INVALID,
			       "\"%.100s\" is no address of a syslog; expected \"unix:/dev/log\", "
			       "\"udp:HOST:PORT\", \"tcp:HOST:PORT\" or \"tls:HOST:PORT\"",
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

	if (str_starts(str_c(o->settings->target), STR("unix:")) ||
	    str_starts(str_c(o->settings->target), STR("udp:"))) {
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

/* A datagram socket is connected at once, so this waits for nobody but the resolver. */
static bool connect_udp(struct sink_out *o, const struct sink_address *a, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *all = NULL;
	int rc = getaddrinfo(a->host, a->port, &hints, &all);
	bool ok = false;

	if (rc != 0)
		return err_set(e, ERR_UNAVAILABLE, "%s", gai_strerror(rc));
	for (const struct addrinfo *at = all; at && !ok; at = at->ai_next) {
		sink_out_close(o);
		o->fd = socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		ok = o->fd >= 0 && connect(o->fd, at->ai_addr, at->ai_addrlen) == 0;
		if (!ok)
			err_set(e, ERR_UNAVAILABLE, "cannot connect: %s", strerror(errno));
	}
	freeaddrinfo(all);
	return ok;
}

static bool connect_stream(struct sink_out *o, const struct sink_address *a, int64_t deadline,
			   struct err *e)
{
	const struct sink_settings *s = o->settings;
	struct in6_addr any;
	struct dial to = { .host = o->host,
			   .port = o->port,
			   .plain = a->kind == ADDRESS_TCP,
			   .private_ok = true, /* it stands in the configuration */
			   .ca_file = s->ca_file ? s->ca_file : o->config->ca_file,
			   .cert_file = s->cert_file,
			   .key_file = s->key_file,
			   .clock = o->config->clock,
			   .stop = o->stop };

	if (s->key_file && !sink_owner_only(s->key_file, e))
		return false;
	snprintf(o->host, sizeof(o->host), "%s", a->host);
	snprintf(o->port, sizeof(o->port), "%s", a->port);
	to.literal = inet_pton(AF_INET, o->host, &any) == 1 ||
		     inet_pton(AF_INET6, o->host, &any) == 1;
	return dial_open(&o->conn, &to, deadline, e);
}

static bool connect_to(struct sink_out *o, const struct sink_address *a, int64_t deadline,
		       struct err *e)
{
	sink_out_close(o);
	switch (a->kind) {
	case ADDRESS_UNIX:
		return connect_unix(o, a->host, e);
	case ADDRESS_UDP:
		return connect_udp(o, a, e);
	default:
		return connect_stream(o, a, deadline, e);
	}
}

/* ---- sending ---- */

static bool send_datagram(const struct sink_out *o, struct str row, int64_t deadline, struct err *e)
{
	while (send(o->fd, row.p, row.n, MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return err_set(e, ERR_UNAVAILABLE, "cannot send: %s", strerror(errno));
		if (!sink_wait(o, o->fd, POLLOUT, deadline, e))
			return false;
	}
	return true;
}

static bool all_acknowledged(struct sink_out *o, int64_t deadline, struct err *e)
{
	struct pollfd p = { .fd = -1 }; /* what comes from there is looked at below, all at once */
	int left;

	for (;;) {
		if (!dial_alive(&o->conn))
			return err_set(e, ERR_UNAVAILABLE, "the other end closed the connection");
		if (ioctl(o->conn.fd, SIOCOUTQ, &left) != 0)
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

/* A receiver that went away while nothing was sent is noticed before anything is sent, not by
 * losing a page. */
static bool send_stream(struct sink_out *o, const struct sink_address *a,
			const struct sink_page *page, int64_t deadline, struct err *e)
{
	o->conn.deadline_ns = deadline;
	return (dial_alive(&o->conn) || connect_to(o, a, deadline, e)) &&
	       dial_send(&o->conn, buf_str(&page->text), e) && all_acknowledged(o, deadline, e);
}

static bool send_rows(const struct sink_out *o, const struct sink_page *page, int64_t deadline,
		      struct err *e)
{
	size_t from = 0;

	for (size_t i = 0; i < page->n; i++) {
		struct str row = { page->text.p + from, page->ends[i] - from };

		if (!send_datagram(o, row, deadline, e))
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
	if (a.kind == ADDRESS_TCP || a.kind == ADDRESS_TLS)
		ok = send_stream(o, &a, page, deadline, e);
	else
		ok = (o->fd >= 0 || connect_to(o, &a, deadline, e)) &&
		     send_rows(o, page, deadline, e);
	if (ok)
		return true;
	sink_out_close(o);
	return err_prefix(e, "%s", o->settings->target);
}

const struct sink_ops sink_syslog_ops = { append, send_page };
