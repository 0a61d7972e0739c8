/* The authorities of the trust domain over HTTP: look, prepare, activate, taint, revoke. */
#include <inttypes.h>

#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define LEFT_MAX 32 /* how many of those that left the bundle are shown */

/* A further member; none for a time that is not there. */
static void add_time(struct buf *b, const char *name, int64_t s)
{
	char text[CLOCK_RFC3339_MAX];

	if (!s || s == INT64_MAX)
		return;
	clock_rfc3339(s * 1000, text);
	if (b->n && b->p[b->n - 1] != '{')
		buf_char(b, ',');
	buf_printf(b, "\"%s\":\"%s\"", name, text);
}

static void add_authority(struct buf *b, const struct authority *a)
{
	buf_printf(b, "{\"id\":\"%s\",\"kind\":\"%s\",\"state\":\"%s\"", a->id,
		   authority_kind_name(a->kind), authority_state_name(a->state));
	add_time(b, "not_before", a->not_before_s);
	add_time(b, "expires_at", a->not_after_s);
	add_time(b, "prepared_at", a->prepared_s);
	add_time(b, "activated_at", a->activated_s);
	add_time(b, "stopped_at", a->stopped_s);
	buf_lit(b, ",\"key\":\"");
	if (a->token[0])
		buf_lit(b, "pkcs11:type=private;id=");
	for (size_t i = 0; a->token[i] && a->token[i + 1]; i += 2)
		buf_printf(b, "%%%.2s", a->token + i);
	buf_printf(b, "%s\"}", a->token[0] ? "" : "file");
}

/* ---- acts ---- */

struct authority_act {
	enum authority_verb verb;
	enum authority_kind kind; /* prepare */
	struct str id;		  /* the others */
	bool force;
	struct authority out;
};

static void act(struct request *r, struct control *c)
{
	struct authority_act *a = r->user;
	struct authorities *all = c->authorities;

	if (a->verb == AUTHORITY_PREPARE)
		(void)!authority_prepare(all, a->kind, r->caller.id, &a->out, &r->failed);
	else if (a->verb == AUTHORITY_ACTIVATE)
		(void)!authority_activate(all, a->id, a->force, r->caller.id, &a->out, &r->failed);
	else
		(void)!authority_withdraw(all, a->id, a->verb, r->caller.id, &a->out, &r->failed);
}

static void reply_act(struct request *r)
{
	const struct authority_act *a = r->user;
	struct buf *b = request_reply(r, a->verb == AUTHORITY_PREPARE ? 201 : 200);

	add_authority(b, &a->out);
	request_send(r);
}

static void begin(struct request *r, const struct authority_act *what)
{
	struct authority_act *a = request_alloc(r, sizeof(*a));

	if (!a)
		return;
	*a = *what;
	r->user = a;
	request_on_control(r, act, reply_act);
}

void handle_authority_prepare(struct request *r)
{
	static const char *const known[] = { "kind", NULL };
	struct authority_act a = { .verb = AUTHORITY_PREPARE };
	const struct json *body = request_json(r), *kind;
	struct err e = { 0 };

	if (!body || !members_only(r, body, known))
		return;
	kind = request_member(r, body, "kind", JSON_STRING);
	if (!kind)
		return;
	if (authority_kind_parse(kind->s, &a.kind)) {
		begin(r, &a);
		return;
	}
	err_code(&e, ERR_INVALID, "invalid_request", "kind must be \"x509\", \"jwt\" or \"wit\"");
	request_fail(r, &e);
}

static void handle_one(struct request *r, enum authority_verb verb)
{
	static const char *const activate[] = { "id", "force", NULL };
	static const char *const others[] = { "id", NULL };
	struct authority_act a = { .verb = verb };
	const struct json *body = request_json(r), *id, *force;
	struct err e = { 0 };

	if (!body || !members_only(r, body, verb == AUTHORITY_ACTIVATE ? activate : others))
		return;
	id = request_member(r, body, "id", JSON_STRING);
	if (!id)
		return;
	force = json_get(body, STR("force"));
	if (force && force->type != JSON_BOOL) {
		err_code(&e, ERR_INVALID, "invalid_request", "force must be true or false");
		request_fail(r, &e);
		return;
	}
	a.id = id->s;
	a.force = force && force->b;
	begin(r, &a);
}

void handle_authority_activate(struct request *r)
{
	handle_one(r, AUTHORITY_ACTIVATE);
}

void handle_authority_taint(struct request *r)
{
	handle_one(r, AUTHORITY_TAINT);
}

void handle_authority_revoke(struct request *r)
{
	handle_one(r, AUTHORITY_REVOKE);
}

/* ---- looking ---- */

static struct authority_standing *standing_of(struct control *c)
{
	return (struct authority_standing *)slot_acquire(&c->authorities->standing);
}

struct look {
	struct buf out;
	bool comma;
};

static void add_left(void *ctx, const struct authority *a)
{
	struct look *l = ctx;

	if (l->comma)
		buf_char(&l->out, ',');
	l->comma = true;
	add_authority(&l->out, a);
}

static void act_look(struct request *r, struct control *c)
{
	struct authority_standing *s = standing_of(c);
	struct look *l = r->user;

	buf_in_arena(&l->out, r->call->arena, LIMIT_BODY);
	buf_printf(&l->out, "{\"sequence\":%" PRIu64 ",\"reissue\":%" PRIu64 ",\"authorities\":[",
		   s ? s->sequence : 0, s ? s->reissue : 0);
	for (size_t i = 0; s && i < s->n; i++)
		add_left(l, &s->all[i]);
	buf_lit(&l->out, "],\"left\":[");
	l->comma = false;
	if (authority_db_left(&c->authorities->db, LEFT_MAX, add_left, l, &r->failed)) {
		buf_lit(&l->out, "],\"due\":{");
		for (int k = 0; s && k < AUTHORITY_KINDS; k++)
			add_time(&l->out, authority_kind_name((enum authority_kind)k),
				 s->next_s[k]);
		buf_char(&l->out, '}');
		if (s && s->failed.class != ERR_NONE) {
			buf_lit(&l->out, ",\"failed\":");
			buf_json(&l->out, str_c(s->failed.msg));
		}
		buf_char(&l->out, '}');
	}
	shared_release(s ? &s->shared : NULL);
}

static void reply_look(struct request *r)
{
	struct look *l = r->user;

	request_send_made(r, &l->out);
}

void handle_authorities(struct request *r)
{
	static const char *const known[] = { NULL };

	if (!request_query_only(r, known))
		return;
	r->user = request_alloc(r, sizeof(struct look));
	if (r->user)
		request_on_control(r, act_look, reply_look);
}

/* ---- for health.c ---- */

void add_authority_status(struct buf *b, struct request *r)
{
	struct authority_standing *s = standing_of(r->worker->core->control);
	const char *comma = "";

	buf_lit(b, ",\"authorities\":{");
	for (size_t i = 0; s && i < s->n; i++) {
		if (s->all[i].state != AUTHORITY_ACTIVE)
			continue;
		buf_printf(b, "%s\"%s\":{\"id\":\"%s\"", comma, authority_kind_name(s->all[i].kind),
			   s->all[i].id);
		add_time(b, "expires_at", s->all[i].not_after_s);
		add_time(b, "next", s->next_s[s->all[i].kind]);
		buf_char(b, '}');
		comma = ",";
	}
	if (s && s->failed.class != ERR_NONE) {
		buf_printf(b, "%s\"failed\":", comma);
		buf_json(b, str_c(s->failed.msg));
	}
	buf_char(b, '}');
	shared_release(s ? &s->shared : NULL);
}

void add_authority_metrics(struct buf *b, struct request *r)
{
	struct authority_standing *s = standing_of(r->worker->core->control);

	if (!s)
		return;
	buf_lit(b, "# HELP writ_authority_expiry_timestamp_seconds End of the active authority.\n"
		   "# TYPE writ_authority_expiry_timestamp_seconds gauge\n");
	for (size_t i = 0; i < s->n; i++)
		if (s->all[i].state == AUTHORITY_ACTIVE)
			buf_printf(b,
				   "writ_authority_expiry_timestamp_seconds{kind=\"%s\"} %" PRId64
				   "\n",
				   authority_kind_name(s->all[i].kind), s->all[i].not_after_s);
	buf_printf(b,
		   "# HELP writ_authorities Authorities in the trust bundle.\n"
		   "# TYPE writ_authorities gauge\nwrit_authorities %zu\n"
		   "# HELP writ_bundle_sequence Number of the trust bundle.\n"
		   "# TYPE writ_bundle_sequence counter\nwrit_bundle_sequence %" PRIu64 "\n"
		   "# HELP writ_authority_rotation_ok 1 if what was due could be done.\n"
		   "# TYPE writ_authority_rotation_ok gauge\nwrit_authority_rotation_ok %d\n",
		   s->n, s->sequence, s->failed.class == ERR_NONE);
	shared_release(&s->shared);
}

bool authority_finding(struct request *r, struct buf *message)
{
	struct authority_standing *s = standing_of(r->worker->core->control);
	bool failed = s && s->failed.class != ERR_NONE;

	if (failed)
		buf_printf(message, "what is due for a signing authority could not be done: %s",
			   s->failed.msg);
	shared_release(s ? &s->shared : NULL);
	return failed;
}
