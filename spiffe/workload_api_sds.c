/*
 * Envoy's secret discovery on the same socket, with SPIRE's names. A stream is a subscriber like
 * those of the Workload API, whose message is made of the resources it asked for. Envoy answers
 * each response: with its nonce and version it took it, with its nonce and an older version it did
 * not. Neither is a reason to send again; other names are.
 */
#include "authz/base/log.h"
#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/workload_api_inside.h"
#include "spiffe/workload_api_sds_wire.h"

#define NAME_DEFAULT "default" /* the first identity */
#define NAME_ROOTS "ROOTCA"    /* our own trust domain's roots */
#define NAME_ALL "ALL"	       /* those of all trust domains */
#define NAMES_BYTES (SDS_NAMES_MAX * 2049)
#define PEM_MAX (1024 * 1024)

struct sds {
	struct workload_subscriber s; /* first */
	struct buf names;	      /* as asked for last, each with a newline behind it */
	bool validator;
	uint64_t version;
	char nonce[9];
};

static struct sds *sds_of(struct workload_subscriber *s)
{
	return (struct sds *)s;
}

static struct str scratch_pem(struct workload_api *w, struct buf *b, const char *label,
			      struct str der)
{
	buf_in_arena(b, &w->scratch, PEM_MAX);
	crypto_pem(b, label, der);
	return buf_str(b);
}

static struct str scratch_chain(struct workload_api *w, struct buf *b, struct str chain)
{
	buf_in_arena(b, &w->scratch, PEM_MAX);
	x509_chain_pem(b, chain);
	return buf_str(b);
}

static void put_identity(struct workload_subscriber *s, struct buf *out, struct str name, size_t k)
{
	const struct workload_identity *i = s->shown[k].identity;
	struct buf chain, key;

	sds_put_certificate(out, name, scratch_chain(s->api, &chain, buf_str(&i->svid)),
			    scratch_pem(s->api, &key, "PRIVATE KEY", buf_str(&i->key)));
	out->failed = out->failed || !buf_ok(&chain) || !buf_ok(&key);
	if (key.p)
		mem_wipe(key.p, key.n);
}

static bool put_bundle(struct workload_subscriber *s, const struct workload_entries *entries,
		       struct buf *out, struct str name, const struct bundle *b)
{
	struct sds_roots one = { .trust_domain = b ? b->trust_domain : (struct str){ NULL, 0 } };
	struct buf pem;

	if (!b || !b->nauthorities || !workload_sees(s->api, entries, b->trust_domain))
		return false;
	buf_in_arena(&pem, &s->api->scratch, PEM_MAX);
	bundle_pem(b, &pem);
	out->failed = out->failed || !buf_ok(&pem);
	one.pem = buf_str(&pem);
	if (sds_of(s)->validator)
		sds_put_validator(out, name, &one, 1);
	else
		sds_put_roots(out, name, one.pem);
	return true;
}

/* Sorted by trust domain, so that equal states are equal bytes. */
static void put_all_bundles(struct workload_subscriber *s, const struct workload_entries *entries,
			    struct buf *out, struct str name)
{
	const struct bundle_set *set = worker_bundle(s->api->worker);
	struct sds_roots *roots = arena_alloc(&s->api->scratch, (set->n + 1) * sizeof(*roots));
	size_t n = 0;

	for (size_t k = 0; roots && k < set->n; k++) {
		const struct bundle *b = set->items[k];
		size_t at = n;
		struct buf pem;

		if (!b->nauthorities || !workload_sees(s->api, entries, b->trust_domain))
			continue;
		buf_in_arena(&pem, &s->api->scratch, PEM_MAX);
		bundle_pem(b, &pem);
		out->failed = out->failed || !buf_ok(&pem);
		for (; at > 0 && str_cmp(roots[at - 1].trust_domain, b->trust_domain) > 0; at--)
			roots[at] = roots[at - 1];
		roots[at] = (struct sds_roots){ b->trust_domain, buf_str(&pem) };
		n++;
	}
	if (roots)
		sds_put_validator(out, name, roots, n);
	else
		out->failed = true;
}

/* Everything: identities by their IDs, bundles by their trust domains'. */
static void put_everything(struct workload_subscriber *s, const struct workload_entries *entries,
			   struct buf *out)
{
	const struct bundle_set *set = worker_bundle(s->api->worker);

	for (size_t k = 0; k < s->nshown; k++)
		put_identity(s, out, s->shown[k].identity->id, k);
	for (size_t k = 0; k < set->n; k++) {
		struct str name = arena_printf(&s->api->scratch, "spiffe://%.*s",
					       STR_FMT(set->items[k]->trust_domain));

		(void)put_bundle(s, entries, out, name, set->items[k]);
	}
}

static bool put_named(struct workload_subscriber *s, const struct workload_entries *entries,
		      struct buf *out, struct str name)
{
	struct spiffe_id id;

	if (str_eq(name, STR(NAME_DEFAULT))) {
		put_identity(s, out, name, 0);
		return true;
	}
	if (str_eq(name, STR(NAME_ROOTS)))
		return put_bundle(s, entries, out, name, workload_own_bundle(s->api));
	if (str_eq(name, STR(NAME_ALL)) && sds_of(s)->validator) {
		put_all_bundles(s, entries, out, name);
		return true;
	}
	for (size_t k = 0; k < s->nshown; k++)
		if (str_eq(s->shown[k].identity->id, name)) {
			put_identity(s, out, name, k);
			return true;
		}
	return spiffe_id_parse(name, &id, NULL) && !id.path.n &&
	       put_bundle(s, entries, out, name,
			  bundle_find(worker_bundle(s->api->worker), id.trust_domain));
}

static bool build(struct workload_subscriber *s, const struct workload_entries *entries,
		  struct buf *out, bool *wait, struct err *e)
{
	struct str rest = buf_str(&sds_of(s)->names), name = { NULL, 0 };

	if (!workload_show(s, entries, WORKLOAD_X509, wait, e))
		return false;
	if (*wait)
		return true;
	if (!rest.n)
		put_everything(s, entries, out);
	while (str_cut(rest, '\n', &name, &rest)) {
		if (put_named(s, entries, out, name))
			continue;
		if (str_eq(name, STR(NAME_ALL)))
			return err_set(e, ERR_INVALID,
				       "the resource " NAME_ALL " needs Envoy's SPIFFE validator "
				       "(1.18, and not switched off by the node's metadata)");
		return err_set(e, ERR_INVALID,
			       "workload is not authorized for the requested identities "
			       "[\"%.*s\"]",
			       STR_FMT(str_first(name, 200)));
	}
	return true;
}

static struct str version_of(const struct sds *d, char out[static TEXT_U64_MAX])
{
	size_t n = text_put_u64(d->version, out);

	return (struct str){ out, n };
}

static void finish(struct workload_subscriber *s, struct buf *out)
{
	struct sds *d = sds_of(s);
	uint8_t random[4];
	char version[TEXT_U64_MAX];

	random_bytes(random, sizeof(random));
	text_hex(random, sizeof(random), d->nonce);
	d->version++;
	sds_put_rest(out, version_of(d, version), str_c(d->nonce));
}

static void clear(struct workload_subscriber *s)
{
	buf_clear(&sds_of(s)->names);
}

/* The names as one text: equal texts are equal sets. True: they are others than before. */
static bool take_names(struct sds *d, const struct sds_request *q)
{
	struct str old = buf_str(&d->names);
	struct buf b;
	bool same;

	buf_init(&b, mem_system, NAMES_BYTES);
	for (size_t i = 0; i < q->nnames; i++) {
		buf_add(&b, q->names[i]);
		buf_char(&b, '\n');
	}
	same = str_eq(buf_str(&b), old);
	if (same || !buf_ok(&b)) {
		buf_clear(&b);
		return !same;
	}
	buf_clear(&d->names);
	d->names = b;
	return true;
}

static void on_message(struct call *c, struct str message)
{
	struct workload_subscriber *s = c->user;
	struct sds *d = sds_of(s);
	char version[TEXT_U64_MAX];
	struct sds_request q;
	struct err e = { 0 };

	if (!sds_read(message, &q, &e)) {
		workload_end(s, &e);
		return;
	}
	if (!str_eq(q.nonce, str_c(d->nonce)))
		return; /* an answer to what was said before the last response */
	if (d->version && !str_eq(q.version, version_of(d, version)))
		log_event(LOG_WARN, "sds.refused", "uid=%lu version=%llu why=\"%.*s\"",
			  (unsigned long)c->peer->uid, (unsigned long long)d->version,
			  STR_FMT(str_first(q.error, 200)));
	if (take_names(d, &q)) {
		s->force = true;
		workload_touch(s);
	}
}

static void half_closed(struct call *c)
{
	workload_unsubscribe(c->user);
	call_finish(c);
}

static const struct grpc_events stream_events = { .message = on_message,
						  .half_closed = half_closed,
						  .ended = workload_ended };

static void open_call(struct workload_api *w, struct call *c, const struct workload_kind *kind,
		      const struct grpc_events *events)
{
	struct workload_caller caller;
	struct sds *d = NULL;
	struct sds_request q;
	struct err e = { 0 };

	if (!sds_read(c->body, &q, &e) || !workload_limit(w, c, &e) ||
	    !workload_attest(w, c, &caller, &e) ||
	    !(d = workload_subscriber_new(sizeof(*d), &caller, &e))) {
		workload_fail(c, w, &e);
		return;
	}
	d->names.alloc = mem_system;
	d->validator = q.validator;
	(void)take_names(d, &q);
	workload_subscribe(w, c, &d->s, kind, events);
}

void workload_stream_secrets(struct workload_api *w, struct call *c)
{
	static const struct workload_kind kind = {
		.build = build, .finish = finish, .clear = clear, .needs_identity = true
	};

	open_call(w, c, &kind, &stream_events);
}

void workload_fetch_secrets(struct workload_api *w, struct call *c)
{
	static const struct workload_kind kind = { .build = build,
						   .finish = finish,
						   .clear = clear,
						   .needs_identity = true,
						   .once = true };

	open_call(w, c, &kind, &workload_stream_events);
}
