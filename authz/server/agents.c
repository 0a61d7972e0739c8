/* The registry over HTTP: /v1/agents and its acts (design 12, Registering). */
#include <inttypes.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "authz/decide/admin.h"
#include "authz/decide/issue.h"
#include "authz/server/agents.h"
#include "authz/server/handlers.h"
#include "spiffe/crypto.h"

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000
#define PAGE_BYTES (2 * 1024 * 1024)

struct agent_act {
	struct registry_change change;
	bool owner, purpose, attributes, selectors, ttl, jwt_ttl, expires,
		federates; /* members an update names */
	int64_t token_ttl_s;
	struct admin_token token;
	char fingerprint[CRYPTO_FINGERPRINT_MAX];
	struct buf out;
};

static void add_time(struct buf *b, const char *name, int64_t ms)
{
	char text[CLOCK_RFC3339_MAX];

	clock_rfc3339(ms, text);
	buf_printf(b, ",\"%s\":\"%s\"", name, text);
}

static void add_entry(struct buf *b, const struct core *core, const struct registry_entry *entry,
		      int64_t now_ms)
{
	buf_lit(b, "{\"spiffe_id\":");
	buf_json(b, entry->id);
	buf_lit(b, ",\"owner\":");
	buf_json(b, entry->owner);
	if (entry->purpose.n) {
		buf_lit(b, ",\"purpose\":");
		buf_json(b, entry->purpose);
	}
	if (entry->definition.n) {
		buf_lit(b, ",\"definition\":");
		buf_json(b, entry->definition);
	}
	buf_printf(b, ",\"state\":\"%s\",\"attributes\":",
		   registry_state_name(registry_state(entry, now_ms)));
	registry_write_attributes(b, entry);
	buf_lit(b, ",\"selectors\":[");
	for (size_t i = 0; i < entry->nselectors; i++) {
		char room[REGISTRY_VALUE + REGISTRY_NAME + 2];

		snprintf(room, sizeof(room), "%.*s:%.*s", STR_FMT(entry->selectors[i].type),
			 STR_FMT(entry->selectors[i].value));
		if (i)
			buf_char(b, ',');
		buf_json(b, str_c(room));
	}
	buf_printf(b, "],\"ttl\":%" PRId64 ",\"jwt_ttl\":%" PRId64, issue_ttl(core, entry, false),
		   issue_ttl(core, entry, true));
	/* What the entry itself says; an export leaves out what it does not. */
	if (entry->x509_ttl_s)
		buf_lit(b, ",\"ttl_set\":true");
	if (entry->jwt_ttl_s)
		buf_lit(b, ",\"jwt_ttl_set\":true");
	if (entry->federates.n) {
		buf_lit(b, ",\"federates_with\":");
		registry_write_federates(b, entry->federates);
	}
	if (entry->expires_ms)
		add_time(b, "expires_at", entry->expires_ms);
	add_time(b, "created_at", entry->created_ms);
	add_time(b, "updated_at", entry->updated_ms);
	if (registry_seen_ms(entry))
		add_time(b, "seen_at", registry_seen_ms(entry));
	buf_printf(b, ",\"revision\":%" PRIu64 "}", entry->revision);
}

/* ---- reading what the admin sent ---- */

static bool text_member(const struct json *body, const char *name, struct str *out, bool *given,
			struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	if (given)
		*given = v != NULL;
	if (!v)
		return true;
	if (v->type != JSON_STRING)
		return err_code(e, ERR_INVALID, "invalid_agent", "%s must be a string, not %s",
				name, json_type_name(v->type));
	*out = v->s;
	return true;
}

static bool read_attributes(const struct json *body, struct agent_act *act, struct arena *a,
			    struct err *e)
{
	const struct json *v = json_get(body, STR("attributes"));
	struct registry_attribute *list;

	act->attributes = v != NULL;
	if (!v)
		return true;
	if (v->type != JSON_OBJECT)
		return err_code(e, ERR_INVALID, "invalid_agent",
				"attributes must be an object of strings, not %s",
				json_type_name(v->type));
	list = arena_zero(a, (v->n + 1) * sizeof(*list));
	if (!list)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	for (uint32_t i = 0; i < v->n; i++) {
		const struct json *m = &v->items[i];

		if (m->type != JSON_STRING)
			return err_code(e, ERR_INVALID, "invalid_agent",
					"attribute %.*s must be a string, not %s",
					STR_FMT(str_first(m->name, 64)), json_type_name(m->type));
		list[i] = (struct registry_attribute){ m->name, m->s };
	}
	act->change.spec.attributes = list;
	act->change.spec.nattributes = v->n;
	return true;
}

static bool read_selectors(const struct json *body, struct agent_act *act, struct arena *a,
			   struct err *e)
{
	const struct json *v = json_get(body, STR("selectors"));
	struct registry_selector *list;

	act->selectors = v != NULL;
	if (!v)
		return true;
	if (v->type != JSON_ARRAY)
		return err_code(e, ERR_INVALID, "invalid_agent",
				"selectors must be an array of strings like \"unix:uid:1000\"");
	list = arena_zero(a, (v->n + 1) * sizeof(*list));
	if (!list)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	for (uint32_t i = 0; i < v->n; i++) {
		if (v->items[i].type != JSON_STRING)
			return err_code(
				e, ERR_INVALID, "invalid_agent",
				"selectors must be an array of strings like \"unix:uid:1000\"");
		if (!registry_parse_selector(v->items[i].s, &list[i], e))
			return false;
	}
	act->change.spec.selectors = list;
	act->change.spec.nselectors = v->n;
	return true;
}

/* null: all there are, as if it had never been said. */
static bool read_federates(const struct json *body, struct agent_act *act, struct arena *a,
			   struct err *e)
{
	static const char expected[] =
		"federates_with must be an array of trust domains like \"other.example\", or null "
		"for all";
	const struct json *v = json_get(body, STR("federates_with"));
	struct str *names;

	act->federates = v != NULL;
	if (!v || v->type == JSON_NULL)
		return true;
	if (v->type != JSON_ARRAY)
		return err_code(e, ERR_INVALID, "invalid_agent", expected);
	names = arena_zero(a, (v->n + 1) * sizeof(*names));
	if (!names)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	for (uint32_t i = 0; i < v->n; i++) {
		if (v->items[i].type != JSON_STRING)
			return err_code(e, ERR_INVALID, "invalid_agent", expected);
		names[i] = v->items[i].s;
	}
	return registry_federates_list(names, v->n, a, &act->change.spec.federates, e);
}

/* "1h" or a number of seconds. */
static bool read_ttl(const struct json *body, const char *name, int64_t *out, bool *given,
		     struct err *e)
{
	const struct json *v = json_get(body, str_c(name));

	if (given)
		*given = v != NULL;
	if (!v)
		return true;
	if (v->type == JSON_INT && v->i > 0) {
		*out = v->i;
		return true;
	}
	if (v->type != JSON_STRING || !text_duration(v->s, out))
		return err_code(e, ERR_INVALID, "invalid_agent",
				"%s must be a duration like \"90s\", \"15m\", \"1h\", \"7d\"",
				name);
	return true;
}

/* "2027-01-31" (its end, UTC) or "2027-01-31T12:00:00Z". */
static bool parse_expires(struct str text, int64_t *ms)
{
	char room[CLOCK_RFC3339_MAX];

	if (text.n != 10)
		return clock_parse_rfc3339(text, ms);
	snprintf(room, sizeof(room), "%.*sT00:00:00Z", STR_FMT(text));
	if (!clock_parse_rfc3339(str_c(room), ms))
		return false;
	*ms += 86400000;
	return true;
}

static bool read_expires(const struct json *body, struct agent_act *act, struct err *e)
{
	const struct json *v = json_get(body, STR("expires"));

	act->expires = v != NULL;
	if (!v || v->type == JSON_NULL)
		return true;
	if (v->type != JSON_STRING || !parse_expires(v->s, &act->change.spec.expires_ms))
		return err_code(e, ERR_INVALID, "invalid_agent",
				"expires must be a day like \"2027-01-31\" or a time like "
				"\"2027-01-31T12:00:00Z\"");
	return true;
}

bool agents_only_known(const struct json *body, const char *const *known, struct err *e)
{
	for (uint32_t i = 0; i < body->n; i++) {
		const char *const *k = known;
		const char *near;

		while (*k && !str_eq(body->items[i].name, str_c(*k)))
			k++;
		if (*k)
			continue;
		near = text_nearest(body->items[i].name, known);
		return err_code(e, ERR_INVALID, "unknown_member",
				"\"%.*s\" is not a member here%s%s%s",
				STR_FMT(str_first(body->items[i].name, 64)),
				near ? "; did you mean \"" : "", near ? near : "",
				near ? "\"?" : "");
	}
	return true;
}

static const char *const spec_members[] = { "spiffe_id", "owner",    "purpose",	       "attributes",
					    "selectors", "ttl",	     "jwt_ttl",	       "expires",
					    "reason",	 "revision", "federates_with", NULL };

static bool read_spec(const struct json *body, struct agent_act *act, struct arena *a,
		      struct err *e)
{
	struct registry_spec *spec = &act->change.spec;

	return text_member(body, "spiffe_id", &spec->id, NULL, e) &&
	       text_member(body, "owner", &spec->owner, &act->owner, e) &&
	       text_member(body, "purpose", &spec->purpose, &act->purpose, e) &&
	       text_member(body, "reason", &act->change.reason, NULL, e) &&
	       read_attributes(body, act, a, e) && read_selectors(body, act, a, e) &&
	       read_federates(body, act, a, e) &&
	       read_ttl(body, "ttl", &spec->x509_ttl_s, &act->ttl, e) &&
	       read_ttl(body, "jwt_ttl", &spec->jwt_ttl_s, &act->jwt_ttl, e) &&
	       read_expires(body, act, e) &&
	       (spec->id.n || err_code(e, ERR_INVALID, "invalid_agent",
				       "spiffe_id is missing; send the agent's SPIFFE ID"));
}

bool agents_read_spec(const struct json *body, struct arena *a, struct registry_spec *out,
		      struct err *e)
{
	struct agent_act act = { 0 };

	if (!read_spec(body, &act, a, e))
		return false;
	*out = act.change.spec;
	return true;
}

static struct agent_act *read_act(struct request *r, enum registry_verb verb)
{
	const struct json *body = request_json(r), *revision;
	struct agent_act *act = body ? request_alloc(r, sizeof(*act)) : NULL;
	struct err e = { 0 };
	bool ok;

	if (!act)
		return NULL;
	r->user = act;
	act->change.verb = verb;
	act->change.by = r->caller.id;
	act->change.now_ms = clock_wall_ms(r->worker->core->clock);
	ok = agents_only_known(body, spec_members, &e) && read_spec(body, act, r->call->arena, &e);
	if (ok && act->change.spec.expires_ms && act->change.spec.expires_ms <= act->change.now_ms)
		ok = err_code(&e, ERR_INVALID, "invalid_agent", "expires lies in the past");
	revision = json_get(body, STR("revision"));
	if (ok && revision && (revision->type != JSON_INT || revision->i < 1))
		ok = err_code(&e, ERR_INVALID, "invalid_agent",
			      "revision must be the number that `show` gave, from 1");
	else if (revision)
		act->change.if_revision = (uint64_t)revision->i;
	if (!ok) {
		request_fail(r, &e);
		return NULL;
	}
	return act;
}

/* ---- acting ---- */

/* An update replaces the members it names and keeps the others. */
static bool complete_update(struct agent_act *act, const struct registry_view *view, struct err *e)
{
	const struct registry_entry *entry = registry_look(view, act->change.spec.id);
	struct registry_spec *spec = &act->change.spec, now;

	if (!entry)
		return err_code(e, ERR_NOT_FOUND, REASON_UNKNOWN_AGENT, "%.*s is not registered",
				STR_FMT(str_first(spec->id, 200)));
	now = registry_spec_of(entry);
	if (!act->owner)
		spec->owner = now.owner;
	if (!act->purpose)
		spec->purpose = now.purpose;
	if (!act->attributes) {
		spec->attributes = now.attributes;
		spec->nattributes = now.nattributes;
	}
	if (!act->selectors) {
		spec->selectors = now.selectors;
		spec->nselectors = now.nselectors;
	}
	if (!act->ttl)
		spec->x509_ttl_s = now.x509_ttl_s;
	if (!act->jwt_ttl)
		spec->jwt_ttl_s = now.jwt_ttl_s;
	if (!act->expires)
		spec->expires_ms = now.expires_ms;
	if (!act->federates)
		spec->federates = now.federates;
	return true;
}

/* What stays as it was may name a trust domain that has gone since. */
static bool federates_known(const struct agent_act *act, struct control *c, struct err *e)
{
	struct bundle_set *bundles;
	bool ok;

	if (!act->federates)
		return true;
	bundles = (struct bundle_set *)slot_acquire(&c->core->bundles);
	ok = registry_federates_known(act->change.spec.federates, bundles, e);
	bundle_set_release(bundles);
	return ok;
}

static void act_change(struct request *r, struct control *c)
{
	struct agent_act *act = r->user;
	struct registry_view *view = (struct registry_view *)slot_acquire(&c->core->agents);
	bool ok = act->change.verb != REGISTRY_UPDATE || complete_update(act, view, &r->failed);

	/* What an update keeps borrows from this view. */
	ok = ok && federates_known(act, c, &r->failed) && admin_change(c, &act->change, &r->failed);
	shared_release(&view->shared);
	if (!ok)
		return;
	view = (struct registry_view *)slot_acquire(&c->core->agents);
	buf_in_arena(&act->out, r->call->arena, LIMIT_BODY);
	add_entry(&act->out, c->core, registry_look(view, act->change.spec.id), act->change.now_ms);
	shared_release(&view->shared);
}

static void reply_changed(struct request *r)
{
	struct agent_act *act = r->user;
	struct buf *b = request_reply(r, act->change.verb == REGISTRY_REGISTER ? 201 : 200);

	buf_add(b, buf_str(&act->out));
	b->failed = b->failed || !buf_ok(&act->out);
	request_send(r);
}

static void change(struct request *r, enum registry_verb verb)
{
	if (read_act(r, verb))
		request_on_control(r, act_change, reply_changed);
}

void handle_agents_register(struct request *r)
{
	change(r, REGISTRY_REGISTER);
}

void handle_agents_update(struct request *r)
{
	change(r, REGISTRY_UPDATE);
}

void handle_agents_suspend(struct request *r)
{
	change(r, REGISTRY_SUSPEND);
}

void handle_agents_resume(struct request *r)
{
	change(r, REGISTRY_RESUME);
}

void handle_agents_retire(struct request *r)
{
	change(r, REGISTRY_RETIRE);
}

static void act_token(struct request *r, struct control *c)
{
	struct agent_act *act = r->user;

	if (admin_token(c, act->change.spec.id, act->token_ttl_s, r->caller.id, &act->token,
			&r->failed))
		authorities_fingerprint(c->authorities, act->fingerprint);
}

static void reply_token(struct request *r)
{
	struct agent_act *act = r->user;
	struct buf *b = request_reply(r, 201);

	call_reply_header(r->call, STR("cache-control"), STR("no-store"));
	buf_lit(b, "{\"spiffe_id\":");
	buf_json(b, act->change.spec.id);
	buf_printf(b, ",\"join_token\":\"%s\"", act->token.text);
	add_time(b, "expires_at", act->token.expires_ms);
	buf_printf(b, ",\"ca_fingerprint\":\"%s\"}", act->fingerprint);
	mem_wipe(&act->token, sizeof(act->token));
	request_send(r);
}

void handle_agents_token(struct request *r)
{
	static const char *const known[] = { "spiffe_id", "ttl", NULL };
	const struct json *body = request_json(r), *id;
	struct agent_act *act;
	struct err e = { 0 };

	if (!body)
		return;
	id = request_member(r, body, "spiffe_id", JSON_STRING);
	if (!id)
		return;
	act = request_alloc(r, sizeof(*act));
	if (!act)
		return;
	act->token_ttl_s = r->site->core->join_token_ttl;
	act->change.spec.id = id->s;
	if (!agents_only_known(body, known, &e) ||
	    !read_ttl(body, "ttl", &act->token_ttl_s, NULL, &e)) {
		request_fail(r, &e);
		return;
	}
	if (act->token_ttl_s > TOKEN_TTL_MAX) {
		err_code(&e, ERR_INVALID, "invalid_agent",
			 "ttl of a join token is at most %d s (1d)", TOKEN_TTL_MAX);
		request_fail(r, &e);
		return;
	}
	r->user = act;
	request_on_control(r, act_token, reply_token);
}

/* ---- looking ---- */

static void list_one(struct request *r, struct str id)
{
	const struct registry_entry *entry = registry_look(worker_registry(r->worker), id);
	struct err e = { 0 };
	struct buf *b;

	if (!entry) {
		err_code(&e, ERR_NOT_FOUND, REASON_UNKNOWN_AGENT, "%.*s is not registered",
			 STR_FMT(str_first(id, 200)));
		request_fail(r, &e);
		return;
	}
	b = request_reply(r, 200);
	buf_lit(b, "{\"agents\":[");
	add_entry(b, r->site->core, entry, clock_wall_ms(r->worker->core->clock));
	buf_lit(b, "]}");
	request_send(r);
}

static bool query_filter(struct request *r, struct registry_filter *f, uint64_t *limit,
			 struct err *e)
{
	struct str text;

	(void)request_query(r, STR("after"), &f->after, e);
	(void)request_query(r, STR("owner"), &f->owner, e);
	if (request_query(r, STR("limit"), &text, e) &&
	    (!text_u64(text, PAGE_MAX, limit) || !*limit))
		err_code(e, ERR_INVALID, "invalid_request", "limit must be 1 to %d", PAGE_MAX);
	if (request_query(r, STR("state"), &text, e)) {
		f->by_state = true;
		if (!registry_state_named(text, &f->state))
			err_code(e, ERR_INVALID, "invalid_request",
				 "state must be active, suspended, expired or retired");
	}
	if (request_query(r, STR("orphans"), &text, e)) {
		f->orphan_ms = r->site->core->orphan_ms;
		if (!str_eq(text, STR("true")))
			err_code(e, ERR_INVALID, "invalid_request", "orphans must be \"true\"");
	}
	return e->class == ERR_NONE;
}

void handle_agents_list(struct request *r)
{
	static const char *const known[] = { "id",    "after",	 "owner", "limit",
					     "state", "orphans", NULL };
	int64_t now = clock_wall_ms(r->worker->core->clock);
	const struct registry_entry **page;
	struct registry_filter f = { .now_ms = now };
	uint64_t limit = PAGE_DEFAULT;
	struct err e = { 0 };
	struct str id;
	size_t n;
	struct buf *b;

	if (!request_query_only(r, known))
		return;
	if (request_query(r, STR("id"), &id, &e)) {
		list_one(r, id);
		return;
	}
	if (!query_filter(r, &f, &limit, &e)) {
		request_fail(r, &e);
		return;
	}
	page = request_alloc(r, (limit + 1) * sizeof(struct registry_entry *));
	if (!page)
		return;
	n = registry_list(worker_registry(r->worker), &f, page, limit);
	b = request_reply(r, 200);
	buf_lit(b, "{\"agents\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_char(b, ',');
		add_entry(b, r->site->core, page[i], now);
		if (f.orphan_ms) { /* inside the object */
			b->n--;
			buf_printf(b, ",\"orphan\":\"%s\"}",
				   registry_orphan(worker_registry(r->worker), page[i], now,
						   f.orphan_ms));
		}
		if (b->n > PAGE_BYTES) /* a shorter page, so that the next one follows */
			limit = n = i + 1;
	}
	buf_char(b, ']');
	if (n == limit) {
		buf_lit(b, ",\"next\":");
		buf_json(b, page[n - 1]->id);
	}
	buf_char(b, '}');
	request_send(r);
}
