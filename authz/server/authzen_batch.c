/*
 * AuthZEN 1.0, many evaluations in one request (sheet section 4). Items are decided in order within
 * one turn of the loop, and by one policy set; each is a record of its own, all are staged
 * together, and the answer leaves when the last of them is on disk. An item that cannot be
 * completed is a denial with context.error, and on record as a refusal; it fails nobody else.
 */
#include <inttypes.h>

#include "authz/decide/pending.h"
#include "authz/server/authzen_parts.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

/* How long a batch may keep its loop: as many evaluations as run into their budget. Whoever waits
 * behind it waits no longer than that; what is left of the batch is answered with an error. */
#define BATCH_NS 50000000

enum semantic { EXECUTE_ALL, DENY_ON_FIRST_DENY, PERMIT_ON_FIRST_PERMIT };

static const struct str semantics[] = {
	[EXECUTE_ALL] = STR_INIT("execute_all"),
	[DENY_ON_FIRST_DENY] = STR_INIT("deny_on_first_deny"),
	[PERMIT_ON_FIRST_PERMIT] = STR_INIT("permit_on_first_permit"),
};

struct batch;

struct item {
	struct evaluation d;
	struct batch *batch;
	struct err wrong; /* class != ERR_NONE: not decided, and why */
	struct decision_answer answer;
};

struct batch {
	struct request *r;
	struct item *items;
	uint32_t n, begun, waiting;
	enum semantic semantic;
};

/* ---- the answer ---- */

static bool permitted(const struct item *i)
{
	return i->wrong.class == ERR_NONE && i->answer.result.decision == DECISION_PERMIT;
}

/* A record that failed made a denial of a permit: the semantic holds for what is answered. */
static uint32_t answered(const struct batch *b)
{
	for (uint32_t i = 0; i < b->begun; i++)
		if (b->semantic ==
		    (permitted(&b->items[i]) ? PERMIT_ON_FIRST_PERMIT : DENY_ON_FIRST_DENY))
			return i + 1;
	return b->begun;
}

static void finish(struct batch *b)
{
	struct buf *out = request_reply(b->r, 200);
	uint32_t n = answered(b);

	buf_lit(out, "{\"evaluations\":[");
	for (uint32_t i = 0; i < n; i++) {
		const struct item *it = &b->items[i];

		if (i)
			buf_char(out, ',');
		if (it->wrong.class != ERR_NONE)
			authzen_write_error(out, &it->wrong, b->r->caller.bare);
		else
			authzen_write(out, &it->answer, b->r->caller.bare);
	}
	buf_lit(out, "]}");
	request_send(b->r);
}

static void one_less(struct batch *b)
{
	if (--b->waiting == 0)
		finish(b);
}

static void decided(struct evaluation *d, const struct decision_answer *a)
{
	struct item *i = d->user;

	i->wrong = a->refused;
	i->answer = *a;
	one_less(i->batch);
}

static void refused(void *owner, const struct recorded *r)
{
	struct item *i = owner;

	(void)r; /* a denial either way */
	one_less(i->batch);
}

/* ---- the items ---- */

/* Whole entities: what the item has is used as it is, what it lacks comes from the top. */
static const struct json *pick(const struct json *item, const struct json *top, struct str name)
{
	const struct json *own = json_get(item, name);

	return own ? own : json_get(top, name);
}

static bool resolve(const struct json *item, const struct json *top, struct arena *a,
		    struct decision_request *q, struct err *e)
{
	static const struct str names[] = { STR_INIT("action"), STR_INIT("context"),
					    STR_INIT("resource"), STR_INIT("subject") };
	struct json *members = arena_zero(a, ARRAY_LEN(names) * sizeof(*members));
	struct json whole = { .type = JSON_OBJECT, .items = members };

	if (!members)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (item->type != JSON_OBJECT)
		return err_code(e, ERR_INVALID, "invalid_request",
				"an item of evaluations must be an object, not %s",
				json_type_name(item->type));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct json *v = pick(item, top, names[i]);

		if (v)
			members[whole.n++] = *v;
	}
	return authzen_request(&whole, q, e);
}

static bool prepare_item(struct batch *b, struct item *i, const struct json *item,
			 const struct json *top)
{
	struct request *r = b->r;

	i->batch = b;
	i->d = (struct evaluation){ .request = { .request_id = r->request_id,
						 .trace_id = r->trace_id },
				    .caller = &r->caller,
				    .arena = r->call->arena,
				    .admitted = true,
				    .done = decided,
				    .user = i };
	return resolve(item, top, r->call->arena, &i->d.request, &i->wrong);
}

/* All are read before the first is decided: a canary's candidate decides the whole batch if it is
 * to decide each of its items, and none of it otherwise. */
static void prepare(struct batch *b, const struct json *items, const struct json *top)
{
	bool canary = true;

	for (uint32_t i = 0; i < b->n; i++)
		if (prepare_item(b, &b->items[i], &items->items[i], top))
			canary = canary && decide_in_canary(b->r->worker, &b->items[i].d);
	for (uint32_t i = 0; i < b->n; i++)
		b->items[i].d.in_force = !canary;
}

/* False: the semantic says that nothing follows. */
static bool run_item(struct batch *b, bool late)
{
	struct request *r = b->r;
	struct item *i = &b->items[b->begun++];
	bool permit;

	b->waiting++;
	if (late)
		err_code(&i->wrong, ERR_UNAVAILABLE, "batch_too_slow",
			 "the policies took too long over the items before; send fewer at a time");
	if (i->wrong.class != ERR_NONE) {
		worker_refuse(r->worker, &r->caller, &i->wrong, refused, i);
		return b->semantic != DENY_ON_FIRST_DENY;
	}
	permit = decide(r->worker, &i->d) == DECISION_PERMIT;
	return b->semantic != (permit ? PERMIT_ON_FIRST_PERMIT : DENY_ON_FIRST_DENY);
}

static void run(struct batch *b, const struct json *items, const struct json *top)
{
	const struct clock *clock = b->r->site->core->clock;
	int64_t until = clock_mono_ns(clock) + BATCH_NS;
	bool late = false;

	prepare(b, items, top);
	b->waiting = 1; /* ours: an item may be done before the next has begun */
	for (uint32_t i = 0; i < b->n; i++) {
		if (!run_item(b, late))
			break;
		late = late || clock_mono_ns(clock) > until;
	}
	one_less(b);
}

/* ---- the request ---- */

static bool read_semantic(const struct json *body, enum semantic *out, struct err *e)
{
	const struct json *options = json_get(body, STR("options"));
	const struct json *name = json_get(options, STR("evaluations_semantic"));

	*out = EXECUTE_ALL;
	if (options && options->type != JSON_OBJECT)
		return err_code(e, ERR_INVALID, "invalid_request",
				"options must be an object, not %s", json_type_name(options->type));
	if (!name)
		return true;
	for (size_t i = 0; name->type == JSON_STRING && i < ARRAY_LEN(semantics); i++)
		if (str_eq(name->s, semantics[i])) {
			*out = (enum semantic)i;
			return true;
		}
	return err_code(e, ERR_INVALID, "invalid_request",
			"options.evaluations_semantic must be \"execute_all\", "
			"\"deny_on_first_deny\" or \"permit_on_first_permit\"");
}

/* Defaults may be incomplete, which only those who inherit them notice; but they are objects. */
static bool check_defaults(const struct json *body, struct err *e)
{
	static const char *const names[] = { "subject", "action", "resource", "context" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct json *v = json_get(body, str_c(names[i]));

		if (v && v->type != JSON_OBJECT)
			return err_code(e, ERR_INVALID, "invalid_request",
					"%s must be an object, not %s", names[i],
					json_type_name(v->type));
	}
	return true;
}

static bool read_batch(struct request *r, const struct json *items, struct batch *b, struct err *e)
{
	uint32_t max = r->site->service->batch_max;

	if (items->type != JSON_ARRAY)
		return err_code(e, ERR_INVALID, "invalid_request",
				"evaluations must be an array, not %s",
				json_type_name(items->type));
	if (items->n > max)
		return err_code(e, ERR_INVALID, "batch_too_large",
				"%" PRIu32 " evaluations in one request; at most %" PRIu32
				" are taken",
				items->n, max);
	b->n = items->n;
	b->items = arena_zero(r->call->arena, items->n * sizeof(*b->items));
	if (!b->items)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	return true;
}

void handle_evaluations(struct request *r)
{
	const struct json *body = request_json(r), *items;
	struct batch *b;
	struct err e = { 0 };

	if (!body)
		return;
	items = json_get(body, STR("evaluations"));
	b = request_alloc(r, sizeof(*b));
	if (!b)
		return;
	b->r = r;
	if (!read_semantic(body, &b->semantic, &e) || !check_defaults(body, &e) ||
	    (items && !read_batch(r, items, b, &e))) {
		request_fail(r, &e);
		return;
	}
	if (!items || !b->n) {
		authzen_single(r, body);
		return;
	}
	/* Each item counts, or a batch would be the way around the rate. */
	if (!decide_admit(r->worker, &r->caller, b->n, &r->retry_ms, &e)) {
		request_fail(r, &e);
		return;
	}
	run(b, items, body);
}
