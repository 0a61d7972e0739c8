#include "authz/decide/issuer_keys.h"

#include <stdio.h>
#include <stdlib.h>

#include "authz/base/log.h"
#include "authz/decide/fetching.h"

#define LOOK_NS 5000000000LL /* how often ages are looked at */

struct issuer_keys_desk {
	struct control *control;
	struct slot standing; /* struct issuer_keys_standing */
	int64_t next_look_ns;
};

/* One fetch. Sources and their configuration live as long as the process. */
struct trip {
	struct errand errand;
	struct issuer_keys_desk *desk;
	struct attest_source *source;
	struct buf document;
	bool ok;
	struct err err;
};

static struct trip *trip_of(struct errand *errand)
{
	return (struct trip *)(void *)errand; /* its first member */
}

static void trip_drop(struct errand *errand)
{
	struct trip *t = trip_of(errand);

	if (t->document.alloc.fn)
		buf_clear(&t->document);
	free(t);
}

/* ---- fetching thread ---- */

static struct fetch ask_for(const struct trip *t, const char *url, const atomic_bool *stop)
{
	static const char *const types[] = { "application/json", "application/jwk-set+json", NULL };
	const struct federation_settings *s = &t->desk->control->config.federation;
	const char *ca = t->source->config->ca_file;

	return (struct fetch){ .url = str_c(url),
			       .types = types,
			       .private_ok = s->private_ok,
			       .ca_file = ca ? ca : s->ca_file,
			       .stop = stop };
}

/* Where the issuer says its keys are: at the issuer's own host, since all else that it says comes
 * from there, too. */
static bool fetch_discovered(struct trip *t, const atomic_bool *stop)
{
	const struct attest_issuer *config = t->source->config;
	char url[FETCH_URL_MAX + 1];
	struct fetch_url issuer;
	struct str host;
	struct fetch f;
	AUTO_BUF doc = { 0 };

	if (!fetch_url_parse(config->issuer, &issuer, &t->err))
		return false;
	if (!attest_discovery_url(config->issuer, url))
		return err_code(&t->err, ERR_INVALID, "invalid_url", "the issuer is too long");
	f = ask_for(t, url, stop);
	f.body_max = ATTEST_DISCOVERY_MAX;
	if (!fetch_get(&f, &doc, &t->err) ||
	    !attest_discovery_read(buf_str(&doc), config->issuer, url, &t->err))
		return false;
	host = str_c(issuer.host);
	f = ask_for(t, url, stop);
	f.hosts = &host;
	f.nhosts = 1;
	return fetch_get(&f, &t->document, &t->err) || err_prefix(&t->err, "jwks_uri");
}

static void fetch(struct errand *errand, const atomic_bool *stop)
{
	struct trip *t = trip_of(errand);
	struct fetch f;

	if (str_eq(t->source->config->jwks, STR(ATTEST_DISCOVER))) {
		t->ok = fetch_discovered(t, stop);
		return;
	}
	f = ask_for(t, t->source->config->jwks.p, stop);
	t->ok = fetch_get(&f, &t->document, &t->err);
}

/* ---- control thread: what came ---- */

static bool record_keys(struct control *c, const struct attest_source *s,
			const struct attest_news *n, const struct err *refused, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_str(&r.job.record, STR("issuer"), s->config->issuer);
	if (n) {
		record_hash(&r.job.record, STR("jwks_sha256"), n->hash);
		record_int(&r.job.record, STR("keys"), (int64_t)jwks_count(n->keys));
	}
	record_str(&r.job.record, STR("kind"), STR("key.issuer"));
	record_str(&r.job.record, STR("outcome"), n ? STR("taken") : STR("refused"));
	if (refused)
		record_str(&r.job.record, STR("reason"), str_c(refused->code));
	return act_record_append(c, &r, e);
}

static bool take(struct control *c, struct attest_source *s, struct str document, bool *refused,
		 struct err *e)
{
	struct attest_news news;

	*refused = !attest_source_look(c->attest, s, document, &news, e);
	if (*refused)
		return false;
	if (news.changed && !record_keys(c, s, &news, NULL, e)) {
		attest_news_drop(&news);
		return err_prefix(e, "the new keys are not in force, as they cannot be recorded");
	}
	if (news.changed)
		log_event(LOG_INFO, "attest.keys", "issuer=%.*s keys=%zu",
			  STR_FMT(s->config->issuer), jwks_count(news.keys));
	return attest_source_take(c->attest, s, &news, document, clock_wall_ms(c->core->clock), e);
}

static void note_failure(struct control *c, struct attest_source *s, bool refused,
			 const struct err *why)
{
	bool again = s->failures && s->failed.code && why->code &&
		     strcmp(s->failed.code, why->code) == 0;
	struct err e = { 0 };

	s->failures++;
	s->failed = *why;
	if (again)
		return; /* said once; the standing keeps saying it */
	log_event(LOG_WARN, "attest.fetch", "issuer=%.*s code=%s why=\"%s\" effect=\"%s\"",
		  STR_FMT(s->config->issuer), why->code ? why->code : "", why->msg,
		  s->keys ? "its last keys stay" : "its tokens attest nobody");
	if (refused && !record_keys(c, s, NULL, why, &e))
		log_event(LOG_WARN, "attest.unrecorded", "why=\"%s\"", e.msg);
}

static void tell(struct issuer_keys_desk *d);

static void done(struct errand *errand)
{
	struct trip *t = trip_of(errand);
	struct issuer_keys_desk *d = t->desk;
	struct control *c = d->control;
	struct attest_source *s = t->source;
	struct err e = t->err;
	bool refused = false;
	uint32_t random;

	s->busy = false;
	s->attempts++;
	if (t->ok && take(c, s, buf_str(&t->document), &refused, &e)) {
		s->failures = 0;
		s->failed = (struct err){ 0 };
	} else {
		/* A discovery document that is wrong is as much a lie as keys that are. */
		refused = refused || (!t->ok && e.code && strcmp(e.code, "invalid_discovery") == 0);
		note_failure(c, s, refused, &e);
	}
	random_bytes(&random, sizeof(random));
	s->next_ns = clock_mono_ns(c->core->clock) +
		     fetch_delay((uint32_t)c->config.attest->refresh_s, s->keys != NULL,
				 s->failures, random) *
			     1000000000;
	trip_drop(errand);
	tell(d);
}

/* ---- what is due ---- */

static void set_out(struct issuer_keys_desk *d, struct attest_source *s)
{
	struct trip *t = calloc(1, sizeof(*t));

	if (!t) {
		s->busy = false;
		s->next_ns = clock_mono_ns(d->control->core->clock) + 10000000000LL;
		return;
	}
	t->errand = (struct errand){ .fetch = fetch, .done = done, .drop = trip_drop };
	t->desk = d;
	t->source = s;
	if (!fetching_send(d->control->fetching, &t->errand, &t->err))
		done(&t->errand);
}

/* The log hears it once when keys become old, or too old. */
static void look_at_ages(struct issuer_keys_desk *d)
{
	struct attest *a = d->control->attest;
	bool changed = false;

	for (size_t i = 0; i < attest_sources(a); i++) {
		struct attest_source *s = attest_source_at(a, i);
		enum attest_source_state state = attest_source_state(
			a, s, clock_wall_ms(d->control->core->clock));

		if (state == s->said)
			continue;
		changed = true;
		s->said = state;
		if (state == SOURCE_STALE || state == SOURCE_EXPIRED)
			log_event(LOG_WARN, "attest.old",
				  "issuer=%.*s state=%s why=\"%s\" effect=\"%s\"",
				  STR_FMT(s->config->issuer), attest_source_state_name(state),
				  s->failed.msg,
				  state == SOURCE_STALE ? "its last keys stay in use"
							: "its tokens attest nobody any more");
	}
	if (changed)
		tell(d);
}

void issuer_keys_tick(struct issuer_keys_desk *d)
{
	int64_t now = clock_mono_ns(d->control->core->clock);
	struct attest *a = d->control->attest;

	for (size_t i = 0; i < attest_sources(a); i++)
		if (attest_source_due(attest_source_at(a, i), now))
			set_out(d, attest_source_at(a, i));
	if (now < d->next_look_ns)
		return;
	d->next_look_ns = now + LOOK_NS;
	look_at_ages(d);
}

void issuer_keys_refresh(struct issuer_keys_desk *d)
{
	struct attest *a = d->control->attest;

	for (size_t i = 0; i < attest_sources(a); i++)
		attest_source_at(a, i)->next_ns = 0;
}

/* ---- how they stand ---- */

static void standing_free(struct shared *shared)
{
	free(shared);
}

static void tell(struct issuer_keys_desk *d)
{
	struct issuer_keys_standing *s = calloc(1, sizeof(*s));
	struct attest *a = d->control->attest;

	if (!s)
		return;
	s->n = attest_sources(a);
	for (size_t i = 0; i < s->n; i++) {
		const struct attest_source *from = attest_source_at(a, i);
		struct issuer_keys_report *r = &s->items[i];

		r->issuer = from->config->issuer;
		r->source = from->config->jwks;
		r->kind = from->kind;
		r->state = attest_source_state(a, from, clock_wall_ms(d->control->core->clock));
		r->keys = from->keys ? jwks_count(from->keys) : 0;
		r->fetched_ms = from->fetched_ms;
		r->attempts = from->attempts;
		r->failures = from->failures;
		r->busy = from->busy;
		if (from->failed.class != ERR_NONE)
			memcpy(r->failed, from->failed.msg, sizeof(r->failed));
	}
	shared_init(&s->shared, standing_free);
	slot_publish(&d->standing, &s->shared);
}

struct issuer_keys_standing *issuer_keys_standing(struct control *c)
{
	return c->issuer_keys
		       ? (struct issuer_keys_standing *)slot_acquire(&c->issuer_keys->standing)
		       : NULL;
}

const char *issuer_keys_trouble(const struct issuer_keys_report *k, char out[static 900])
{
	char since[CLOCK_RFC3339_MAX];
	struct str who = str_first(k->issuer, 300);

	out[0] = '\0';
	clock_rfc3339(k->fetched_ms, since);
	if (k->state == SOURCE_NONE && k->failures)
		snprintf(out, 900, "no keys of %.*s yet, so its tokens attest nobody: %.300s",
			 STR_FMT(who), k->failed);
	else if (k->state == SOURCE_EXPIRED)
		snprintf(out, 900,
			 "the keys of %.*s are of %s, which is too old (attest.keep): its tokens "
			 "attest nobody any more: %.300s",
			 STR_FMT(who), since, k->failed);
	else if (k->state == SOURCE_STALE || k->failures)
		snprintf(out, 900, "the keys of %.*s are of %s and stay in use: %.300s",
			 STR_FMT(who), since, k->failed);
	return out;
}

bool issuer_keys_open(struct control *c, struct issuer_keys_desk **out, struct err *e)
{
	struct issuer_keys_desk *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(e, ERR_NOMEM, "no memory for the keys of issuers");
	d->control = c;
	slot_init(&d->standing);
	tell(d);
	*out = d;
	return true;
}

void issuer_keys_close(struct issuer_keys_desk *d)
{
	if (!d)
		return;
	slot_clear(&d->standing);
	free(d);
}
