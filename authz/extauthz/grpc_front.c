#include "authz/extauthz/grpc_front.h"

#include "authz/base/text.h"
#include "authz/extauthz/grpc_message.h"
#include "authz/extauthz/parts.h"
#include "authz/net/grpc.h"
#include "spiffe/crypto.h"
#include "spiffe/peer_cache.h"
#include "spiffe/x509_svid.h"

static void answer(struct check *c, const struct check_verdict *v)
{
	struct call *call = c->user;

	grpc_message_write(grpc_reply(call, GRPC_RESPONSE_MAX), v);
	call_finish(call);
}

void grpc_front_refuse(struct call *call, const struct err *e)
{
	/* Not 401: it is the proxy that has no credentials, and the client cannot help that. */
	grpc_message_deny(grpc_reply(call, 1024), 403, str_c(e->code));
}

/* ---- what the proxy says ---- */

static bool is_note(struct str name)
{
	return str_eq(name, STR("gateway")) || str_eq(name, STR("vhost")) ||
	       str_starts(name, STR("x-"));
}

/* The listener's own protocol comes first: Istio has no settings of a route. */
static bool take_settings(struct check *c, const struct grpc_described *d, struct err *e)
{
	const struct call *call = c->user;
	const struct listener_caller *l = call->peer->listener->user;

	if (l && l->protocol.n && !check_setting(c, STR("protocol"), l->protocol, e))
		return false;
	for (size_t i = 0; i < d->nsettings; i++) {
		const struct grpc_setting *s = &d->settings[i];

		if (!is_note(s->name) && !check_setting(c, s->name, s->value, e))
			return false;
	}
	return true;
}

/* What @certificate, PEM in percent codes, says; @svid holds the text of it. */
static bool read_claim(struct check *c, struct str certificate, struct x509_svid *svid,
		       struct peer_claim *out, struct err *e)
{
	struct str pem;
	struct buf der;

	buf_in_arena(&der, c->scratch, CRYPTO_REQUEST_MAX);
	if (!percent_decode(c->scratch, certificate, &pem) ||
	    !crypto_unpem(pem, "CERTIFICATE", &der, NULL))
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_peer",
				"source.certificate is no certificate in PEM and percent codes");
	if (!x509_svid_claim_der(buf_str(&der), svid, NULL))
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_peer",
				"the client's certificate is no X.509-SVID; it must name one "
				"SPIFFE ID and nothing else as URI");
	out->id = str_c(svid->text);
	sha256_of(c->worker->sha, buf_str(&der), out->sha256);
	return true;
}

/* A proxy reports the first URI of a certificate. One with more is no SVID, and who it names
 * depends on who reads it (sheet 6.2). It sends the certificate with each request: reading it costs
 * more than deciding, so what it says is kept. Only if it is an SVID, for what is refused may be
 * refused for want of memory. */
static bool one_identity(struct check *c, const struct grpc_described *d, struct err *e)
{
	const struct peer_claim *claim = NULL;
	struct peer_cache *known;
	struct peer_claim now;
	struct x509_svid svid;

	if (!d->certificate.n)
		return true;
	known = worker_peers(c->worker);
	if (known)
		claim = peer_cache_find(known, d->certificate);
	if (!claim) {
		if (!read_claim(c, d->certificate, &svid, &now, e))
			return false;
		if (known)
			peer_cache_add(known, d->certificate, &now);
		claim = &now;
	}
	c->has_certificate = true;
	memcpy(c->certificate, claim->sha256, sizeof(c->certificate));
	return str_eq(claim->id, d->principal) ||
	       err_code(e, ERR_FORBIDDEN, "agents_differ",
			"source.principal and source.certificate name two clients");
}

/* "00-4bf9...-00f0...-01": how agentgateway names a request. Envoy's names are numbers. */
static bool is_traceparent(struct str id)
{
	return id.n == 55 && id.p[2] == '-' && id.p[35] == '-' && id.p[52] == '-';
}

/* What the proxy made of bytes that are not UTF-8 is a '!' (Envoy) or U+FFFD (agentgateway), so a
 * text without any is the body that the upstream gets. One with some may not be. */
static bool body_is_whole(const struct grpc_described *d, struct err *e)
{
	static const char replacement[] = "\xef\xbf\xbd";
	bool doubt;

	if (!d->body_as_text)
		return true;
	doubt = memmem(d->body.p, d->body.n, replacement, 3) ||
		(!is_traceparent(d->id) && memchr(d->body.p, '!', d->body.n));
	return !doubt ||
	       err_code(e, ERR_INVALID, "body_altered",
			"the proxy sent the body as text, in which '!' or U+FFFD may stand for "
			"other bytes; set pack_as_bytes: true");
}

static bool describe(struct check *c, const struct grpc_described *d, struct err *e)
{
	struct traffic_request *q = &c->request;

	if (!d->http)
		return err_code(e, ERR_INVALID, "not_http",
				"the proxy describes a TCP connection; only HTTP requests can be "
				"judged, so use the HTTP filter");
	if (!d->method.n || !d->target.n)
		return err_code(e, ERR_INVALID, "not_described",
				"the proxy does not say what the original %s is",
				d->method.n ? "path" : "method");
	q->method = d->method;
	q->path = d->target;
	(void)str_cut(d->target, '?', &q->path, &q->query);
	q->host = d->host;
	q->scheme = d->scheme;
	q->headers = d->headers;
	q->nheaders = d->nheaders;
	q->body = d->body;
	q->size = d->size;
	c->principal = d->principal;
	return take_settings(c, d, e) && body_is_whole(d, e) && one_identity(c, d, e);
}

void grpc_front_check(struct worker *w, struct call *call, const struct caller *caller,
		      struct str request_id, struct str trace_id)
{
	struct check *c = check_new(w, call->arena, call->scratch);
	struct grpc_described d;
	struct err e;

	if (!c) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		grpc_front_refuse(call, &e);
		call_finish(call);
		return;
	}
	c->caller = caller;
	c->request_id = request_id;
	c->trace_id = trace_id;
	c->may_answer_200 = true;
	c->done = answer;
	c->user = call;
	call_let_go(call);
	if (grpc_message_read(call->body, call->scratch, &d, &e) && describe(c, &d, &e))
		check_run(c);
	else
		check_refuse(c, &e);
}
