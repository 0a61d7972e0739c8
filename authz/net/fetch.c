/*
 * One request and its answer over a connection (dial.h) that is made for it and closed behind it.
 */
#include "authz/net/fetch.h"

#include <stdio.h>

#include "include/writ/words.h"

static bool host_allowed(const struct fetch *f, const struct fetch_url *u, struct err *e)
{
	if (!f->hosts)
		return true;
	for (size_t i = 0; i < f->nhosts; i++)
		if (str_eq(f->hosts[i], str_c(u->host)))
			return true;
	return err_code(e, ERR_FORBIDDEN, "forbidden_host",
			"it is not among the hosts that the configuration names");
}

static bool ask(const struct fetch *f, const struct fetch_url *url, struct dial_conn *c,
		struct err *e)
{
	const char *colon = strchr(url->host, ':');
	AUTO_BUF b;

	buf_init(&b, mem_system, (size_t)4 * FETCH_URL_MAX);
	buf_printf(&b, "%s %s HTTP/1.1\r\nHost: %s%s%s",
		   f->method   ? f->method
		   : f->post.p ? "POST"
			       : "GET",
		   url->path, colon ? "[" : "", url->host, colon ? "]" : "");
	if (strcmp(url->port, url->plain ? "80" : "443") != 0)
		buf_printf(&b, ":%s", url->port);
	buf_lit(&b, "\r\nConnection: close\r\nAccept: ");
	if (!f->types)
		buf_lit(&b, "application/json");
	for (size_t i = 0; f->types && f->types[i]; i++)
		buf_printf(&b, "%s%s", i ? ", " : "", f->types[i]);
	buf_lit(&b, "\r\nAccept-Encoding: identity\r\nUser-Agent: writ/" WRIT_VERSION "\r\n");
	if (f->post.p)
		buf_printf(&b, "Content-Type: %s\r\nContent-Length: %zu\r\n", f->post_type,
			   f->post.n);
	buf_add(&b, f->headers);
	buf_lit(&b, "\r\n");
	if (!buf_ok(&b))
		return err_set(e, ERR_NOMEM, "no memory for a request");
	return dial_send(c, buf_str(&b), e) && (!f->post.p || dial_send(c, f->post, e));
}

static bool read_some(void *ctx, char *p, size_t n, size_t *got, struct err *e)
{
	return dial_read(ctx, p, n, got, e);
}

/* One request and its answer, of whatever status. */
static bool go(const struct fetch *f, const struct clock *clock, const struct fetch_url *url,
	       int64_t deadline_ns, struct response *r, struct err *out)
{
	const struct dial to = { .host = url->host,
				 .port = url->port,
				 .literal = url->literal,
				 .plain = url->plain,
				 .private_ok = f->private_ok,
				 .ca_file = f->ca_file,
				 .alpn = "http/1.1",
				 .judge = f->judge,
				 .ctx = f->ctx,
				 .clock = clock,
				 .stop = f->stop };
	struct dial_conn c = { .fd = -1 };
	const struct response_source source = { read_some, &c };
	const struct response_want want = { .enough = f->enough, .ctx = f->ctx, .keep = f->keep };
	struct err e = { 0 };
	bool ok = host_allowed(f, url, &e) && dial_open(&c, &to, deadline_ns, &e) &&
		  ask(f, url, &c, &e) && response_read(&source, &want, r, &e);

	dial_close(&c);
	if (ok)
		return true;
	if (e.class == ERR_TIMEOUT)
		(void)err_code(&e, ERR_TIMEOUT, "fetch_timeout", "no whole answer within %d ms",
			       f->timeout_ms ? f->timeout_ms : FETCH_TIMEOUT_MS);
	if (out)
		*out = e;
	return err_prefix(out, "%s", url->host);
}

/* ---- what came back ---- */

static bool type_wanted(const struct fetch *f, const struct response *r)
{
	if (!f->types)
		return r->json;
	for (size_t i = 0; f->types[i]; i++)
		if (strcmp(f->types[i], r->type) == 0)
			return true;
	return false;
}

static bool answer_fits(const struct fetch *f, const struct fetch_url *u, const struct response *r,
			struct err *e)
{
	if (r->status != 200)
		return err_code(e, ERR_INTERNAL, "unexpected_status",
				"%s answered with status %d, expected 200", u->host, r->status);
	if (r->encoded)
		return err_code(e, ERR_INTERNAL, "unexpected_type",
				"%s sent its answer encoded, which was not asked for", u->host);
	if (!type_wanted(f, r))
		return err_code(e, ERR_INTERNAL, "unexpected_type", "%s sent %.60s, expected %s",
				u->host, r->type[0] ? r->type : "no media type",
				f->types ? f->types[0] : "application/json");
	return true;
}

/* The next URL: the same host and port, whether it is written in full or as a path. */
static bool redirect(struct fetch_url *u, const struct response *r, struct err *e)
{
	struct str to = str_c(r->location);
	struct fetch_url next;
	AUTO_BUF whole;

	buf_init(&whole, mem_system, 2 * FETCH_URL_MAX);
	if (str_starts(to, STR("/")) && !str_starts(to, STR("//"))) {
		const char *colon = strchr(u->host, ':');

		buf_printf(&whole, "https://%s%s%s:%s", colon ? "[" : "", u->host, colon ? "]" : "",
			   u->port);
		buf_add(&whole, to);
		to = buf_str(&whole);
	}
	if (!fetch_url_parse(to, &next, e)) {
		if (e)
			e->class = ERR_INTERNAL;
		return err_prefix(e, "%s redirects", u->host);
	}
	if (strcmp(next.host, u->host) != 0 || strcmp(next.port, u->port) != 0)
		return err_code(e, ERR_INTERNAL, "unexpected_redirect",
				"%s redirects to %.100s port %s; writ follows a redirect within "
				"the same host and port only",
				u->host, next.host, next.port);
	*u = next;
	return true;
}

bool fetch_get(const struct fetch *f, struct buf *body, struct err *e)
{
	const struct clock *clock = f->clock ? f->clock : &clock_system;
	int64_t ms = f->timeout_ms ? f->timeout_ms : FETCH_TIMEOUT_MS;
	int64_t deadline = clock_mono_ns(clock) + ms * 1000000;
	struct fetch_url url;

	if (!fetch_url_parse(f->url, &url, e))
		return false;
	for (unsigned hops = 0;; hops++) {
		struct response r = { 0 };
		bool ok;

		buf_init(&r.body, mem_system, f->body_max ? f->body_max : FETCH_BODY_MAX);
		ok = go(f, clock, &url, deadline, &r, e);
		if (ok && f->redirects && (r.status == 302 || r.status == 307)) {
			buf_clear(&r.body);
			if (hops == f->redirects)
				return err_code(e, ERR_INTERNAL, "unexpected_redirect",
						"%s redirects more than %u times", url.host,
						f->redirects);
			if (!redirect(&url, &r, e))
				return false;
			continue;
		}
		if (!ok || !answer_fits(f, &url, &r, e)) {
			buf_clear(&r.body);
			return false;
		}
		*body = r.body;
		return true;
	}
}

bool fetch_post(const struct fetch *f, struct fetch_reply *out, struct err *e)
{
	const struct clock *clock = f->clock ? f->clock : &clock_system;
	int64_t ms = f->timeout_ms ? f->timeout_ms : FETCH_TIMEOUT_MS;
	int64_t deadline = clock_mono_ns(clock) + ms * 1000000;
	struct fetch_url url;
	struct response r = { 0 };

	if (!fetch_url_parse_local(f->url, &url, e))
		return false;
	buf_init(&r.body, mem_system, f->body_max ? f->body_max : FETCH_BODY_MAX);
	if (!go(f, clock, &url, deadline, &r, e) ||
	    (r.encoded &&
	     !err_code(e, ERR_INTERNAL, "unexpected_type",
		       "%s sent its answer encoded, which was not asked for", url.host))) {
		buf_clear(&r.body);
		return false;
	}
	out->status = r.status;
	memcpy(out->type, r.type, sizeof(out->type));
	memcpy(out->location, r.location, sizeof(out->location));
	memcpy(out->kept, r.kept, sizeof(out->kept));
	out->body = r.body;
	return true;
}

int64_t fetch_delay(uint32_t refresh_s, bool held, unsigned failures, uint32_t random)
{
	int64_t base = refresh_s, most;
	unsigned doublings = failures ? failures - 1 : 0;

	if (failures && !held)
		base = 10;
	most = refresh_s > 3600 ? refresh_s : 3600;
	base <<= doublings < 9 ? doublings : 9;
	if (held && base > (int64_t)refresh_s * 8)
		base = (int64_t)refresh_s * 8;
	if (base > most)
		base = most;
	return base - (int64_t)((uint64_t)base * (random % 1000) / 10000);
}
