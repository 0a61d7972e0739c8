/* Identity over plain HTTP: attestation by any proof of spiffe/attest.h, renewal over mutual TLS
 * (design 12, Keys and bootstrap). */
#include <inttypes.h>
#include <stdio.h>

#include "authz/decide/issue.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"
#include "spiffe/crypto.h"

struct identity {
	struct issue issue;
	struct request *r;
	struct attest_request attest;
	char nonce[ATTEST_NONCE_TEXT];
	struct buf spki;
};

static struct identity *start(struct request *r)
{
	struct identity *i = request_alloc(r, sizeof(*i));

	if (!i)
		return NULL;
	i->r = r;
	i->issue.worker = r->worker;
	i->issue.arena = r->call->arena;
	i->issue.user = i;
	r->user = i;
	return i;
}

/* Exactly one of "csr" and "public_key", PEM. Only the public key is taken from it. */
static bool read_key(struct identity *i, const struct json *body, struct err *e)
{
	const struct json *csr = json_get(body, STR("csr"));
	const struct json *key = json_get(body, STR("public_key"));
	const struct json *one = csr ? csr : key;

	if (!one || (csr && key))
		return err_code(e, ERR_INVALID, "invalid_request",
				"send one of csr (PEM certificate request) and public_key (PEM)");
	if (one->type != JSON_STRING)
		return err_code(e, ERR_INVALID, "invalid_request",
				"%s must be a string of PEM, not %s", csr ? "csr" : "public_key",
				json_type_name(one->type));
	buf_in_arena(&i->spki, i->r->call->arena, CRYPTO_SPKI_MAX);
	if (!crypto_spki_of_request(one->s, &i->spki, e))
		return err_prefix(e, "%s", csr ? "csr" : "public_key");
	i->issue.spki = buf_str(&i->spki);
	return true;
}

/* What was made for one must not be found in a cache by another. */
static struct buf *secret_reply(struct request *r, int status)
{
	call_reply_header(r->call, STR("cache-control"), STR("no-store"));
	return request_reply(r, status);
}

static void add_expiry(struct buf *b, int64_t s)
{
	char text[CLOCK_RFC3339_MAX];

	clock_rfc3339(s * 1000, text);
	buf_printf(b, ",\"expires_at\":\"%s\"}", text);
}

/* {"spiffe_id","x509_svid","bundle","expires_at"} */
static void reply_x509(struct identity *i)
{
	struct request *r = i->r;
	const struct bundle *bundle = worker_bundle(r->worker)
					      ? bundle_find(worker_bundle(r->worker),
							    r->worker->core->trust_domain)
					      : NULL;
	struct buf *b = secret_reply(r, 200), pem;

	buf_in_arena(&pem, r->call->arena, LIMIT_BODY);
	x509_chain_pem(&pem, buf_str(&i->issue.svid));
	buf_lit(b, "{\"spiffe_id\":");
	buf_json(b, i->issue.id);
	buf_lit(b, ",\"x509_svid\":");
	buf_json(b, buf_str(&pem));
	buf_reset(&pem);
	if (bundle)
		bundle_pem(bundle, &pem);
	buf_lit(b, ",\"bundle\":");
	buf_json(b, buf_str(&pem));
	add_expiry(b, i->issue.expires_s);
	if (!buf_ok(&pem))
		b->failed = true;
	request_send(r);
}

static void reply_jwt(struct identity *i)
{
	struct buf *b = secret_reply(i->r, 200);

	buf_lit(b, "{\"spiffe_id\":");
	buf_json(b, i->issue.id);
	buf_lit(b, ",\"svid\":");
	buf_json(b, buf_str(&i->issue.svid));
	add_expiry(b, i->issue.expires_s);
	request_send(i->r);
}

static void issued(struct issue *issue, bool ok, const struct err *e)
{
	struct identity *i = issue->user;

	if (!ok)
		request_fail(i->r, e);
	else if (issue->naudience)
		reply_jwt(i);
	else
		reply_x509(i);
}

static bool read_audience(struct identity *i, const struct json *body, struct err *e)
{
	const struct json *v = json_get(body, STR("audience"));

	if (!v || v->type != JSON_ARRAY || v->n == 0 || v->n > JWT_AUDIENCES_MAX)
		return err_code(
			e, ERR_INVALID, "invalid_request",
			"audience must be an array of 1 to %d strings: who the token is for",
			JWT_AUDIENCES_MAX);
	for (uint32_t k = 0; k < v->n; k++) {
		if (v->items[k].type != JSON_STRING || !v->items[k].s.n ||
		    v->items[k].s.n > JWT_AUDIENCE_MAX)
			return err_code(e, ERR_INVALID, "invalid_request",
					"audience[%" PRIu32 "] must be a string of 1 to %d bytes",
					k, JWT_AUDIENCE_MAX);
		i->issue.audience[k] = v->items[k].s;
	}
	i->issue.naudience = v->n;
	return true;
}

/* @read takes from the body what the SVID is to be about. */
static void handle_svid(struct request *r,
			bool (*read)(struct identity *i, const struct json *body, struct err *e))
{
	const struct json *body = request_json(r);
	struct identity *i = body ? start(r) : NULL;
	struct err e = { 0 };

	if (!i)
		return;
	i->issue.done = issued;
	if (!read(i, body, &e))
		request_fail(r, &e);
	else
		issue_svid(&i->issue, &r->caller);
}

void handle_svid_x509(struct request *r)
{
	handle_svid(r, read_key);
}

void handle_svid_jwt(struct request *r)
{
	handle_svid(r, read_audience);
}

/* ---- attestation ---- */

static void act_attest(struct request *r, struct control *c)
{
	struct identity *i = r->user;

	(void)!issue_attest(c, &i->issue, &i->attest, &r->failed);
}

static void reply_attested(struct request *r)
{
	struct identity *i = r->user;

	worker_count(&r->worker->counters.issued_x509);
	call_reply_header(r->call, STR("writ-run"), str_c(i->issue.run));
	reply_x509(i);
}

/* The address without its port: who is limited. */
struct str peer_host(const struct peer *p)
{
	struct str s = str_c(p->address);

	while (s.n && s.p[s.n - 1] != ':')
		s.n--;
	return s.n ? s : str_c(p->address);
}

static bool may_attest(struct request *r)
{
	struct err e = { 0 };

	if (limit_take(r->worker->core->attest_limit, peer_host(r->call->peer),
		       clock_mono_ns(r->worker->core->clock), &r->retry_ms))
		return true;
	err_set(&e, ERR_RATE,
		"too many attestations from this address; try again in %" PRId64 " ms",
		r->retry_ms);
	request_fail(r, &e);
	return false;
}

static bool read_text(const struct json *body, const char *name, struct str *out, struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	if (v && v->type != JSON_STRING)
		return err_code(e, ERR_INVALID, "invalid_request", "%s must be a string, not %s",
				name, json_type_name(v->type));
	if (v)
		*out = v->s;
	return true;
}

/* Exactly one proof; a misspelt member would leave out what was meant to be asked for. */
static bool read_proof(struct attest_request *q, const struct json *body, struct err *e)
{
	static const char *const others[] = { "csr", "public_key", "spiffe_id", "name", NULL };
	struct buf list; /* in e's size */
	char room[120];

	for (uint32_t k = 0; k < body->n; k++) {
		const struct attestor *t = attestor_find(body->items[k].name);
		const char *const *o = others;

		while (*o && !str_eq(body->items[k].name, str_c(*o)))
			o++;
		if (!t && !*o)
			return err_code(e, ERR_INVALID, "unknown_member",
					"\"%.*s\" is not a member here",
					STR_FMT(str_first(body->items[k].name, 64)));
		if (t && q->attestor)
			return err_code(e, ERR_INVALID, "invalid_request",
					"send one proof, not both %s and %s", q->attestor->name,
					t->name);
		if (t) {
			q->attestor = t;
			q->proof = &body->items[k];
		}
	}
	if (q->attestor)
		return read_text(body, "spiffe_id", &q->spiffe_id, e) &&
		       read_text(body, "name", &q->name, e);
	buf_init(&list, mem_system, sizeof(room));
	for (size_t k = 0; attestors[k]; k++)
		buf_printf(&list, "%s%s", k ? ", " : "", attestors[k]->name);
	snprintf(room, sizeof(room), "%.*s", STR_FMT(buf_str(&list)));
	buf_clear(&list);
	return err_code(e, ERR_INVALID, "invalid_request", "a proof is missing: one of %s", room);
}

void handle_attest(struct request *r)
{
	const struct json *body = may_attest(r) ? request_json(r) : NULL;
	struct identity *i = body ? start(r) : NULL;
	struct err e = { 0 };

	if (!i)
		return;
	i->issue.worker = NULL;
	if (!read_proof(&i->attest, body, &e) || !read_key(i, body, &e)) {
		request_fail(r, &e);
		return;
	}
	request_on_control(r, act_attest, reply_attested);
}

/* Nothing is remembered of a challenge, so giving one costs nothing but its limit. */
static void act_challenge(struct request *r, struct control *c)
{
	struct identity *i = r->user;

	attest_challenge(c->attest, clock_wall_ms(c->core->clock), i->nonce);
}

static void reply_challenge(struct request *r)
{
	struct identity *i = r->user;
	struct buf *b = secret_reply(r, 200);

	buf_printf(b, "{\"nonce\":\"%s\"", i->nonce);
	add_expiry(b, clock_wall_ms(r->worker->core->clock) / 1000 + ATTEST_NONCE_S);
	request_send(r);
}

void handle_attest_challenge(struct request *r)
{
	if (may_attest(r) && start(r))
		request_on_control(r, act_challenge, reply_challenge);
}
