/* Foreign trust domains over HTTP: /v1/federation and its acts, and what of them operation shows.
 */
#include "authz/decide/federation.h"

#include <inttypes.h>
#include <stdio.h>

#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define LIST_BYTES (4 * 1024 * 1024)

/* ---- listing ---- */

static void add_text(struct buf *b, const char *name, const char *text)
{
	if (!text || !*text)
		return;
	buf_printf(b, ",\"%s\":", name);
	buf_json(b, str_c(text));
}

static void add_time(struct buf *b, const char *name, int64_t ms)
{
	char text[CLOCK_RFC3339_MAX];

	clock_rfc3339(ms, text);
	buf_printf(b, ",\"%s\":\"%s\"", name, text);
}

static void add_peer(struct buf *b, const struct federation_report *p)
{
	buf_lit(b, "{\"trust_domain\":");
	buf_json(b, str_c(p->trust_domain));
	add_text(b, "url", p->url);
	buf_printf(b, ",\"profile\":\"%s\"", federation_profile_name(p->profile));
	add_text(b, "endpoint_spiffe_id", p->endpoint_id);
	buf_printf(b, ",\"state\":\"%s\"", federation_state_name(p->state));
	if (p->has_sequence)
		buf_printf(b, ",\"sequence\":\"%" PRIu64 "\"", p->sequence);
	buf_printf(b, ",\"authorities\":%zu,\"jwt_keys\":%zu,\"refresh_seconds\":%" PRIu32,
		   p->authorities, p->jwt_keys, p->refresh_s);
	if (p->state != FEDERATION_NONE)
		add_time(b, "fetched_at", p->fetched_ms);
	buf_printf(b, ",\"attempts\":%" PRIu64 ",\"failures\":%u,\"fetching\":%s", p->attempts,
		   p->failures, p->busy ? "true" : "false");
	add_text(b, "error", p->failed);
	add_text(b, "warning", p->warned);
	add_time(b, "added_at", p->added_ms);
	add_text(b, "added_by", p->by);
	buf_char(b, '}');
}

static void reply_list(struct request *r, struct str only)
{
	struct federation_standing *s = federation_standing(r->site->core->control);
	struct buf *b;
	bool first = true;

	call_reply(r->call, 200, "application/json", LIST_BYTES);
	b = &r->call->reply.body;
	buf_lit(b, "{\"federation\":[");
	for (size_t i = 0; s && i < s->n; i++) {
		if (only.n && !str_eq(str_c(s->peers[i].trust_domain), only))
			continue;
		if (!first)
			buf_char(b, ',');
		first = false;
		add_peer(b, &s->peers[i]);
	}
	buf_lit(b, "]}");
	shared_release(s ? &s->shared : NULL);
	request_send(r);
}

void handle_federation_list(struct request *r)
{
	static const char *const known[] = { "trust_domain", NULL };
	struct str only = { NULL, 0 };
	struct err e = { 0 };

	if (!request_query_only(r, known))
		return;
	(void)request_query(r, STR("trust_domain"), &only, &e);
	if (e.class != ERR_NONE)
		request_fail(r, &e);
	else
		reply_list(r, only);
}

/* ---- acts ---- */

/* "example.org" or "spiffe://example.org": a value with ":/" is an ID (SPIFFE-ID, arguments). */
static bool read_trust_domain(struct str text, struct str *out, struct err *e)
{
	struct spiffe_id id;

	*out = text;
	if (!text.n || !memmem(text.p, text.n, ":/", 2))
		return true;
	if (!spiffe_id_parse(text, &id, e))
		return false;
	*out = id.trust_domain;
	return true;
}

static bool read_members(const struct json *body, struct federation_spec *s, struct err *e)
{
	const struct {
		const char *name;
		struct str *to;
	} members[] = {
		{ "trust_domain", &s->trust_domain },
		{ "url", &s->url },
		{ "profile", &s->profile },
		{ "endpoint_spiffe_id", &s->endpoint_id },
		{ "bundle", &s->bundle },
	};

	for (uint32_t i = 0; i < body->n; i++) {
		const struct json *v = &body->items[i];
		size_t k = 0;

		while (k < ARRAY_LEN(members) && !str_eq(v->name, str_c(members[k].name)))
			k++;
		if (k == ARRAY_LEN(members))
			return err_code(e, ERR_INVALID, "invalid_request",
					"\"%.*s\" is no member of a relationship; those are "
					"trust_domain, url, profile, endpoint_spiffe_id, bundle",
					STR_FMT(str_first(v->name, 40)));
		if (v->type != JSON_STRING)
			return err_code(e, ERR_INVALID, "invalid_request",
					"%s must be a string, not %s", members[k].name,
					json_type_name(v->type));
		*members[k].to = v->s;
	}
	return read_trust_domain(s->trust_domain, &s->trust_domain, e);
}

/* The members of the body as a relationship, in the request's arena; NULL: answered. */
static struct federation_spec *read_spec(struct request *r)
{
	const struct json *body = request_json(r);
	struct federation_spec *s = body ? request_alloc(r, sizeof(*s)) : NULL;
	struct err e = { 0 };

	if (!s)
		return NULL;
	s->by = r->caller.id;
	r->user = s;
	if (read_members(body, s, &e))
		return s;
	request_fail(r, &e);
	return NULL;
}

static void reply_one(struct request *r)
{
	reply_list(r, ((struct federation_spec *)r->user)->trust_domain);
}

static void act_add(struct request *r, struct control *c)
{
	(void)!federation_act_add(c, r->user, &r->failed);
}

void handle_federation_add(struct request *r)
{
	if (read_spec(r))
		request_on_control(r, act_add, reply_one);
}

static void act_remove(struct request *r, struct control *c)
{
	const struct federation_spec *s = r->user;

	(void)!federation_act_remove(c, s->trust_domain, s->by, &r->failed);
}

void handle_federation_remove(struct request *r)
{
	if (read_spec(r))
		request_on_control(r, act_remove, reply_one);
}

static void act_refresh(struct request *r, struct control *c)
{
	const struct federation_spec *s = r->user;

	(void)!federation_act_refresh(c, s->trust_domain, s->by, &r->failed);
}

void handle_federation_refresh(struct request *r)
{
	if (read_spec(r))
		request_on_control(r, act_refresh, reply_one);
}

/* ---- operation ---- */

void federation_add_check(struct request *r, struct buf *b)
{
	struct federation_standing *s = federation_standing(r->site->core->control);
	char trouble[700];
	AUTO_BUF all;

	buf_init(&all, mem_system, 64 * 1024);
	for (size_t i = 0; s && i < s->n; i++)
		if (*federation_trouble(&s->peers[i], trouble)) {
			if (all.n)
				buf_lit(&all, "; ");
			buf_add(&all, str_c(trouble));
		}
	if (s && s->n) {
		buf_lit(b, ",{\"name\":\"federation\",\"ok\":true");
		if (all.n) {
			buf_lit(b, ",\"detail\":");
			buf_json(b, buf_str(&all));
		}
		buf_char(b, '}');
	}
	shared_release(s ? &s->shared : NULL);
}

void federation_add_metrics(struct request *r, struct buf *b)
{
	struct federation_standing *s = federation_standing(r->site->core->control);

	buf_lit(b, "# HELP writ_federation_bundle_fetched_seconds When the bundle in hand was last "
		   "confirmed; 0: there is none.\n"
		   "# TYPE writ_federation_bundle_fetched_seconds gauge\n");
	for (size_t i = 0; s && i < s->n; i++)
		buf_printf(b,
			   "writ_federation_bundle_fetched_seconds{trust_domain=\"%s\"} %" PRId64
			   "\n",
			   s->peers[i].trust_domain, s->peers[i].fetched_ms / 1000);
	buf_lit(b, "# HELP writ_federation_failures Polls that failed since the last success.\n"
		   "# TYPE writ_federation_failures gauge\n");
	for (size_t i = 0; s && i < s->n; i++)
		buf_printf(b, "writ_federation_failures{trust_domain=\"%s\"} %u\n",
			   s->peers[i].trust_domain, s->peers[i].failures);
	buf_lit(b, "# HELP writ_federation_usable 1 if SVIDs of the trust domain are accepted.\n"
		   "# TYPE writ_federation_usable gauge\n");
	for (size_t i = 0; s && i < s->n; i++)
		buf_printf(b, "writ_federation_usable{trust_domain=\"%s\"} %d\n",
			   s->peers[i].trust_domain,
			   s->peers[i].state == FEDERATION_FRESH ||
				   s->peers[i].state == FEDERATION_STALE);
	shared_release(s ? &s->shared : NULL);
}

void federation_add_findings(struct request *r, struct buf *b)
{
	struct federation_standing *s = federation_standing(r->site->core->control);
	char trouble[700];

	for (size_t i = 0; s && i < s->n; i++)
		if (*federation_trouble(&s->peers[i], trouble)) {
			buf_printf(b,
				   "%s{\"name\":\"federation\",\"severity\":\"warning\","
				   "\"message\":",
				   b->n && b->p[b->n - 1] == '[' ? "" : ",");
			buf_json(b, str_c(trouble));
			buf_char(b, '}');
		}
	shared_release(s ? &s->shared : NULL);
}
