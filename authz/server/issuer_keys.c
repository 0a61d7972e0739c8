/* The keys of issuers whose tokens attest agents, as operation shows them. */
#include "authz/decide/issuer_keys.h"

#include <inttypes.h>

#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define TROUBLE 900

void issuer_keys_add_status(struct request *r, struct buf *b)
{
	struct issuer_keys_standing *s = issuer_keys_standing(r->site->core->control);
	char text[CLOCK_RFC3339_MAX];

	buf_lit(b, ",\"issuers\":[");
	for (size_t i = 0; s && i < s->n; i++) {
		const struct issuer_keys_report *k = &s->items[i];

		buf_printf(b, "%s{\"issuer\":", i ? "," : "");
		buf_json(b, k->issuer);
		buf_printf(b, ",\"attestor\":\"%s\",\"jwks\":", k->kind);
		buf_json(b, k->source);
		buf_printf(b, ",\"state\":\"%s\",\"keys\":%zu", attest_source_state_name(k->state),
			   k->keys);
		if (k->state != SOURCE_NONE) {
			clock_rfc3339(k->fetched_ms, text);
			buf_printf(b, ",\"fetched_at\":\"%s\"", text);
		}
		buf_printf(b, ",\"attempts\":%" PRIu64 ",\"failures\":%u", k->attempts,
			   k->failures);
		if (k->failed[0]) {
			buf_lit(b, ",\"error\":");
			buf_json(b, str_c(k->failed));
		}
		buf_char(b, '}');
	}
	buf_char(b, ']');
	shared_release(s ? &s->shared : NULL);
}

void issuer_keys_add_check(struct request *r, struct buf *b)
{
	struct issuer_keys_standing *s = issuer_keys_standing(r->site->core->control);
	char trouble[TROUBLE];
	AUTO_BUF all;

	buf_init(&all, mem_system, 64 * 1024);
	for (size_t i = 0; s && i < s->n; i++)
		if (*issuer_keys_trouble(&s->items[i], trouble)) {
			if (all.n)
				buf_lit(&all, "; ");
			buf_add(&all, str_c(trouble));
		}
	if (s && s->n) {
		buf_lit(b, ",{\"name\":\"issuers\",\"ok\":true");
		if (all.n) {
			buf_lit(b, ",\"detail\":");
			buf_json(b, buf_str(&all));
		}
		buf_char(b, '}');
	}
	shared_release(s ? &s->shared : NULL);
}

static void one_gauge(struct buf *b, const struct issuer_keys_standing *s, const char *name,
		      const char *help, int64_t (*value)(const struct issuer_keys_report *k))
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
	for (size_t i = 0; s && i < s->n; i++)
		/* An https URL has neither quotes nor backslashes: see config_attest.c. */
		buf_printf(b, "%s{attestor=\"%s\",issuer=\"%.*s\"} %" PRId64 "\n", name,
			   s->items[i].kind, STR_FMT(s->items[i].issuer), value(&s->items[i]));
}

static int64_t fetched(const struct issuer_keys_report *k)
{
	return k->fetched_ms / 1000;
}

static int64_t failures(const struct issuer_keys_report *k)
{
	return k->failures;
}

static int64_t usable(const struct issuer_keys_report *k)
{
	return k->state == SOURCE_FRESH || k->state == SOURCE_STALE;
}

void issuer_keys_add_metrics(struct request *r, struct buf *b)
{
	struct issuer_keys_standing *s = issuer_keys_standing(r->site->core->control);

	one_gauge(b, s, "writ_issuer_keys_fetched_seconds",
		  "When the keys in hand were last confirmed; 0: there are none.", fetched);
	one_gauge(b, s, "writ_issuer_keys_failures", "Fetches that failed since the last success.",
		  failures);
	one_gauge(b, s, "writ_issuer_keys_usable", "1 if tokens of the issuer attest agents.",
		  usable);
	shared_release(s ? &s->shared : NULL);
}

void issuer_keys_add_findings(struct request *r, struct buf *b)
{
	struct issuer_keys_standing *s = issuer_keys_standing(r->site->core->control);
	char trouble[TROUBLE];

	for (size_t i = 0; s && i < s->n; i++)
		if (*issuer_keys_trouble(&s->items[i], trouble)) {
			buf_printf(b,
				   "%s{\"name\":\"issuer_keys\",\"severity\":\"warning\","
				   "\"message\":",
				   b->n && b->p[b->n - 1] == '[' ? "" : ",");
			buf_json(b, str_c(trouble));
			buf_char(b, '}');
		}
	shared_release(s ? &s->shared : NULL);
}
