/* What a PEP was told of a server's tools: /v1/tools/observe. For enforcement points that see lists
 * of tools and are no gateway that shows them to writ by itself. */
#include "authz/decide/definitions.h"

#include "authz/policy/definition.h"
#include "authz/server/handlers.h"

struct observed {
	struct definition_sighting *news;
	size_t n;
	struct str by;
	struct buf out;
};

/* One tool of the list: what becomes of it, for the PEP to leave out what was not reviewed. */
static bool look(struct request *r, struct observed *o, const struct json *tool, struct str server)
{
	struct str name = json_get(tool, STR("name"))->s;
	struct str id = arena_printf(r->call->arena, "%.*s/%.*s", STR_FMT(server), STR_FMT(name));
	const struct policy_pin *pin = id.p ? policy_set_pin(worker_policy(r->worker), id) : NULL;
	const char *state = "unpinned";
	struct definition d;
	bool good, news;

	if (!id.p || !buf_ok(&o->out))
		return false;
	if (pin) {
		d = definition_of(tool, r->worker->sha, r->call->arena);
		if (!d.text.p)
			return false;
		good = definition_judge(worker_definitions(r->worker), pin, d.digest,
					clock_wall_ms(r->worker->core->clock), &news);
		state = !good ? "changed" : str_eq(d.digest, pin->digest) ? "reviewed" : "accepted";
		if (news)
			o->news[o->n++] = (struct definition_sighting){ id, d.digest, d.text };
	} else if (!policy_set_knows(worker_policy(r->worker), POLICY_TOOLS, id)) {
		state = "unknown";
	}
	buf_add(&o->out, o->out.p[o->out.n - 1] == '[' ? STR("{\"tool\":") : STR(",{\"tool\":"));
	buf_json(&o->out, id);
	buf_printf(&o->out, ",\"state\":\"%s\"}", state);
	return true;
}

static bool look_at_all(struct request *r, struct observed *o, const struct json *tools,
			struct str server, struct err *e)
{
	if (!worker_policy(r->worker))
		return err_code(e, ERR_UNAVAILABLE, REASON_NO_POLICY, "no policies are in force");
	o->news = arena_alloc(r->call->arena, (tools->n + 1) * sizeof(*o->news));
	o->by = arena_dup(r->call->arena, r->caller.id); /* what it borrows from may change */
	buf_in_arena(&o->out, r->call->arena, LIMIT_BODY);
	buf_lit(&o->out, "{\"tools\":[");
	for (uint32_t i = 0; o->news && o->by.p && i < tools->n; i++)
		if (!look(r, o, &tools->items[i], server))
			o->by.p = NULL;
	buf_lit(&o->out, "]}");
	return (o->news && o->by.p) ||
	       err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
}

static void act_observe(struct request *r, struct control *c)
{
	const struct observed *o = r->user;

	(void)!definitions_observe(c, o->news, o->n, o->by, &r->failed);
}

static void reply_observed(struct request *r)
{
	request_send_made(r, &((struct observed *)r->user)->out);
}

void handle_tools_observe(struct request *r)
{
	static const char *const members[] = { "server", "tools", NULL };
	struct observed *o = request_alloc(r, sizeof(*o));
	const struct json *body = o ? request_json(r) : NULL, *server, *tools;
	struct err e = { 0 };
	struct str cursor;

	if (!body || !members_only(r, body, members))
		return;
	server = request_member(r, body, "server", JSON_STRING);
	if (!server)
		return;
	r->user = o;
	if (!server->s.n || memchr(server->s.p, '/', server->s.n))
		err_code(&e, ERR_INVALID, "invalid_request",
			 "server must be the name before the slash of its tools in the catalogue");
	else if (definition_list(body, &tools, &cursor, &e) &&
		 look_at_all(r, o, tools, server->s, &e)) {
		/* Nobody goes on by it before it is in force and on record. */
		if (o->n)
			request_on_control(r, act_observe, reply_observed);
		else
			reply_observed(r);
		return;
	}
	request_fail(r, &e);
}
