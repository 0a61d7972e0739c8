#include "authz/decide/federation_poll.h"

#include <stdlib.h>

#include "authz/base/log.h"
#include "authz/decide/fetching.h"
#include "spiffe/x509_svid.h"

#define REDIRECTS 3 /* within the same host and port */

/* One poll. It knows its relationship by name and birth: that may have ended meanwhile. */
struct poll {
	struct errand errand;
	struct federation_desk *desk;
	char trust_domain[SPIFFE_TRUST_DOMAIN_MAX + 1];
	char url[FETCH_URL_MAX + 1];
	char endpoint_id[SPIFFE_ID_MAX + 1];
	int64_t added_ms;
	struct bundle_set *anchors; /* what the endpoint is judged by; NULL: Web PKI */
	struct buf document;
	bool ok;
	struct err err;
};

static struct poll *poll_of(struct errand *errand)
{
	return (struct poll *)(void *)errand; /* its first member */
}

static void poll_drop(struct errand *errand)
{
	struct poll *p = poll_of(errand);

	bundle_set_release(p->anchors);
	if (p->document.alloc.fn)
		buf_clear(&p->document);
	free(p);
}

/* ---- fetching thread ---- */

/* https_spiffe: exactly this ID, under the bundle of its own trust domain; no host name. */
static bool judge(void *ctx, STACK_OF(X509) * chain, struct err *e)
{
	const struct poll *p = ctx;
	struct x509_svid svid;
	int64_t now = clock_wall_ms(p->desk->control->core->clock) / 1000;

	if (!x509_svid_verify(p->anchors, chain, now, &svid, e))
		return false;
	if (strcmp(svid.text, p->endpoint_id) == 0)
		return true;
	return err_code(e, ERR_UNAUTHENTICATED, "untrusted_server",
			"the endpoint is %.150s, expected %.150s", svid.text, p->endpoint_id);
}

static void fetch(struct errand *errand, const atomic_bool *stop)
{
	struct poll *p = poll_of(errand);
	const struct federation_desk *d = p->desk;
	static const char *const types[] = { "application/json", "application/jwk-set+json", NULL };
	const struct fetch f = { .url = str_c(p->url),
				 .types = types,
				 .redirects = REDIRECTS,
				 .private_ok = d->settings.private_ok,
				 .ca_file = d->settings.ca_file,
				 .judge = p->anchors ? judge : NULL,
				 .ctx = p,
				 .stop = stop };

	p->ok = fetch_get(&f, &p->document, &p->err);
}

/* ---- control thread ---- */

static bool record_bundle(struct federation_desk *d, const struct federation_peer *p,
			  const struct federation_news *n, const struct err *refused, struct err *e)
{
	struct control *c = d->control;
	struct act_record r;

	act_record_begin(&r);
	if (n) {
		record_int(&r.job.record, STR("authorities"),
			   (int64_t)n->set->items[0]->nauthorities);
		record_hash(&r.job.record, STR("bundle_sha256"), n->hash);
		record_int(&r.job.record, STR("jwt_keys"), (int64_t)n->set->items[0]->njwt_keys);
	}
	record_str(&r.job.record, STR("kind"), STR("key.federated"));
	record_str(&r.job.record, STR("outcome"), n ? STR("taken") : STR("refused"));
	if (refused && refused->class != ERR_NONE)
		record_str(&r.job.record, STR("reason"), str_c(refused->code));
	if (n && n->has_sequence) /* a text: it may be more than JSON's numbers hold exactly */
		record_str(&r.job.record, STR("sequence"),
			   arena_printf(&r.arena, "%llu", (unsigned long long)n->sequence));
	record_str(&r.job.record, STR("trust_domain"), str_c(p->trust_domain));
	return act_record_append(c, &r, e);
}

/* What an endpoint sent: read it, put its change on record, then take it. *refused: it was the
 * document that was at fault, which is to be on record; not a socket. */
static bool take(struct federation_desk *d, struct federation_peer *p, struct str document,
		 bool *refused, bool *changed, struct err *e)
{
	struct federation_news news;

	*refused = !federation_look(d->federation, p, document, &news, e);
	if (*refused)
		return false;
	*changed = news.change == FEDERATION_CHANGED;
	if (*changed && !record_bundle(d, p, &news, &news.warned, e)) {
		federation_drop(&news);
		return err_prefix(e, "the new bundle is not in force, as it cannot be recorded");
	}
	if (!federation_take(d->federation, p, &news, document,
			     clock_wall_ms(d->control->core->clock), e))
		return false;
	if (*changed)
		log_event(LOG_INFO, "federation.bundle",
			  "trust_domain=%s sequence=%llu authorities=%zu jwt_keys=%zu",
			  p->trust_domain, (unsigned long long)p->sequence,
			  p->set->items[0]->nauthorities, p->set->items[0]->njwt_keys);
	return true;
}

static void note_failure(struct federation_desk *d, struct federation_peer *p, bool refused,
			 const struct err *why)
{
	bool again = p->failed.code && why->code && strcmp(p->failed.code, why->code) == 0;
	struct err e = { 0 };

	p->failures++;
	p->failed = *why;
	if (again)
		return; /* said once; the standing keeps saying it */
	log_event(LOG_WARN, "federation.poll", "trust_domain=%s code=%s why=\"%s\" effect=\"%s\"",
		  p->trust_domain, why->code, why->msg,
		  p->set ? "its last bundle stays" : "nothing of it is trusted");
	if (refused && !record_bundle(d, p, NULL, why, &e))
		log_event(LOG_WARN, "federation.unrecorded", "why=\"%s\"", e.msg);
}

static void polled(struct errand *errand)
{
	struct poll *poll = poll_of(errand);
	struct federation_desk *d = poll->desk;
	struct federation_peer *p = federation_find(d->federation, str_c(poll->trust_domain));
	struct err e = poll->err;
	bool refused = false, changed = false;
	uint32_t random;

	if (p && p->added_ms == poll->added_ms && p->busy) {
		p->busy = false;
		if (poll->ok && take(d, p, buf_str(&poll->document), &refused, &changed, &e)) {
			p->failures = 0;
			p->failed = (struct err){ 0 };
		} else {
			note_failure(d, p, refused, &e);
		}
		p->attempts++;
		random_bytes(&random, sizeof(random));
		p->next_ns = clock_mono_ns(d->control->core->clock) +
			     fetch_delay(p->refresh_s, p->set != NULL, p->failures, random) *
				     1000000000;
		federation_settle(d, changed);
	}
	poll_drop(errand);
}

/* The bundle the endpoint's own trust domain has now: ours as published, another as held, even if
 * it is too old to vouch for anything else (5, https_spiffe: the newest stored one). */
static bool find_anchors(struct federation_desk *d, const struct federation_peer *p,
			 struct bundle_set **out, struct err *e)
{
	struct core *core = d->control->core;
	struct bundle_set *set = bundle_set_new(0, e);
	struct bundle_set *ours = NULL;
	const struct federation_peer *other;
	struct bundle *b = NULL;
	struct spiffe_id id;
	bool ok;

	if (!set || !spiffe_id_parse(str_c(p->endpoint_id), &id, e)) {
		bundle_set_release(set);
		return false;
	}
	if (str_eq(id.trust_domain, core->trust_domain)) {
		ours = (struct bundle_set *)slot_acquire(&core->bundles);
		for (size_t i = 0; ours && i < ours->n; i++)
			if (str_eq(ours->items[i]->trust_domain, id.trust_domain))
				b = ours->items[i];
	} else {
		other = federation_find(d->federation, id.trust_domain);
		b = other && other->set ? other->set->items[0] : NULL;
	}
	ok = b ? bundle_set_share(set, b, e)
	       : err_code(e, ERR_UNAVAILABLE, "no_bundle",
			  "no bundle of %.*s yet, which its endpoint is judged by",
			  STR_FMT(id.trust_domain));
	bundle_set_release(ours);
	if (ok)
		*out = set;
	else
		bundle_set_release(set);
	return ok;
}

void federation_poll(struct federation_desk *d, struct federation_peer *p)
{
	struct poll *poll = calloc(1, sizeof(*poll));

	p->busy = true;
	if (!poll) {
		p->busy = false;
		p->next_ns = clock_mono_ns(d->control->core->clock) + 10000000000LL;
		return;
	}
	poll->errand = (struct errand){ .fetch = fetch, .done = polled, .drop = poll_drop };
	poll->desk = d;
	memcpy(poll->trust_domain, p->trust_domain, sizeof(poll->trust_domain));
	memcpy(poll->url, p->url, sizeof(poll->url));
	memcpy(poll->endpoint_id, p->endpoint_id, sizeof(poll->endpoint_id));
	poll->added_ms = p->added_ms;
	if (p->profile == FEDERATION_SPIFFE && !find_anchors(d, p, &poll->anchors, &poll->err)) {
		polled(&poll->errand);
		return;
	}
	if (!fetching_send(d->control->fetching, &poll->errand, &poll->err))
		polled(&poll->errand);
}

/* ---- life ---- */

bool federation_desk_open(struct control *c, const struct federation_settings *s,
			  struct federation_desk **out, struct err *e)
{
	struct federation_desk *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(e, ERR_NOMEM, "no memory for the federation");
	d->control = c;
	d->settings = *s;
	slot_init(&d->standing);
	if (!federation_open(c->db, c->core->trust_domain, &d->federation, e) ||
	    !federation_publish(d, e)) {
		federation_desk_close(d);
		return false;
	}
	*out = d;
	return true;
}

void federation_desk_close(struct federation_desk *d)
{
	if (!d)
		return;
	federation_close(d->federation);
	slot_clear(&d->standing);
	free(d);
}
