/* POST /v1/agents/import: many registrations, all or none, in parts. */
#include <inttypes.h>

#include "authz/decide/import.h"
#include "authz/server/agents.h"
#include "authz/server/handlers.h"

#define PART_MAX 5000

struct importing {
	struct import_part part;
	uint64_t registered, taken;
};

static const char *const part_members[] = { "import", "from", "agents", "last", NULL };
static const char *const entry_members[] = { "spiffe_id",  "owner",	     "purpose",
					     "attributes", "selectors",	     "ttl",
					     "jwt_ttl",	   "expires",	     "state",
					     "definition", "federates_with", NULL };

static bool read_entry(const struct json *v, struct arena *a, struct import_entry *out,
		       struct err *e)
{
	const struct json *state = json_get(v, STR("state"));
	const struct json *definition = json_get(v, STR("definition"));

	if (v->type != JSON_OBJECT)
		return err_code(e, ERR_INVALID, "invalid_agent", "expected an object, not %s",
				json_type_name(v->type));
	if (!agents_only_known(v, entry_members, e) || !agents_read_spec(v, a, &out->spec, e))
		return false;
	if (definition && definition->type != JSON_STRING)
		return err_code(e, ERR_INVALID, "invalid_agent", "definition must be a string");
	if (definition)
		out->spec.definition = definition->s;
	if (state && (state->type != JSON_STRING || !registry_state_named(state->s, &out->state) ||
		      out->state == ENTRY_EXPIRED))
		return err_code(e, ERR_INVALID, "invalid_agent",
				"state must be active, suspended or retired");
	return true;
}

static bool read_part(const struct json *body, struct arena *a, struct import_part *p,
		      struct err *e)
{
	const struct json *name = json_get_type(body, STR("import"), JSON_STRING);
	const struct json *from = json_get_type(body, STR("from"), JSON_INT);
	const struct json *agents = json_get_type(body, STR("agents"), JSON_ARRAY);
	const struct json *last = json_get_type(body, STR("last"), JSON_BOOL);
	struct import_entry *entries;

	if (!agents_only_known(body, part_members, e))
		return false;
	if (!name || !from || !agents || !last || name->s.n < 1 || name->s.n > IMPORT_NAME ||
	    from->i < 0 || agents->n > PART_MAX)
		return err_code(e, ERR_INVALID, "invalid_request",
				"expected import (1 to %d bytes that name it), from (how many came "
				"before), agents (at most %d) and last (true or false)",
				IMPORT_NAME, PART_MAX);
	for (size_t i = 0; i < name->s.n; i++)
		if (name->s.p[i] <= ' ' || name->s.p[i] >= 0x7f)
			return err_code(e, ERR_INVALID, "invalid_request",
					"import must be letters and digits");
	entries = arena_zero(a, (agents->n + 1) * sizeof(*entries));
	if (!entries)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	for (uint32_t i = 0; i < agents->n; i++)
		if (!read_entry(&agents->items[i], a, &entries[i], e))
			return err_prefix(e, "agents[%" PRId64 "]", from->i + i + 1);
	p->name = name->s;
	p->from = (uint64_t)from->i;
	p->entries = entries;
	p->n = agents->n;
	p->last = last->b;
	return true;
}

static void act_import(struct request *r, struct control *c)
{
	struct importing *m = r->user;

	m->taken = m->part.from + m->part.n;
	(void)!import_take(c, &m->part, &m->registered, &r->failed);
}

static void reply_import(struct request *r)
{
	struct importing *m = r->user;

	buf_printf(request_reply(r, 200), "{\"taken\":%" PRIu64 ",\"registered\":%" PRIu64 "}",
		   m->taken, m->registered);
	request_send(r);
}

void handle_agents_import(struct request *r)
{
	const struct json *body = request_json(r);
	struct importing *m = body ? request_alloc(r, sizeof(*m)) : NULL;
	struct err e = { 0 };

	if (!m)
		return;
	r->user = m;
	m->part.by = r->caller.id;
	if (read_part(body, r->call->arena, &m->part, &e))
		request_on_control(r, act_import, reply_import);
	else
		request_fail(r, &e);
}
