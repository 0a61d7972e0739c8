/* What an evaluation costs: the requests of the tests, again and again. */
#include "authz/policy/test.h"

#include "authz/policy/test_inside.h"

#define REQUESTS_MAX 100000
#define BENCH_MEMORY ((size_t)256 * 1024 * 1024)

struct bench {
	struct policy_request *items;
	size_t n, room;
	bool full;
	struct arena arena;
	struct arena scratch; /* of one evaluation */
	struct policy_set *set;
	struct policy_state *st;
	struct clock_fixed hands;
	struct clock clock;
	struct watch watch;
	uint64_t evaluations, ns, steps, bytes;
};

void policy_bench_clear(struct policy_bench *b)
{
	if (b->arena.alloc)
		arena_clear(&b->arena);
	*b = (struct policy_bench){ 0 };
}

static bool copy_json(struct arena *a, const struct json **v)
{
	struct str text;
	struct err e;

	if (!*v)
		return true;
	text = arena_dup(a, (*v)->raw);
	return text.p && json_parse(text, &json_default_limits, a, v, &e);
}

static bool copy_text(struct arena *a, struct str *s)
{
	if (!s->p)
		return true;
	*s = arena_dup(a, *s);
	return s->p != NULL;
}

static bool copy_delegation(struct arena *a, const struct policy_delegation **of)
{
	struct policy_delegation *d;
	struct str *chain;
	bool ok;

	if (!*of)
		return true;
	d = arena_alloc(a, sizeof(*d));
	chain = arena_alloc(a, ((*of)->nchain + 1) * sizeof(*chain));
	if (!d || !chain)
		return false;
	*d = **of;
	ok = copy_text(a, &d->user) && copy_text(a, &d->user_issuer) && copy_text(a, &d->scope);
	for (size_t i = 0; ok && i < d->nchain; i++) {
		chain[i] = d->chain[i];
		ok = copy_text(a, &chain[i]);
	}
	d->chain = chain;
	*of = d;
	return ok;
}

/* A case's request outlives its case here. */
static bool copy(struct arena *a, struct policy_request *q)
{
	struct policy_attribute *list = arena_alloc(a, (q->nattributes + 1) * sizeof(*list));
	bool ok = list && copy_json(a, &q->subject) && copy_json(a, &q->action) &&
		  copy_json(a, &q->resource) && copy_json(a, &q->context) &&
		  copy_json(a, &q->http) && copy_text(a, &q->pep) && copy_text(a, &q->server) &&
		  copy_text(a, &q->agent_id) && copy_text(a, &q->agent_owner) &&
		  copy_text(a, &q->agent_state) && copy_delegation(a, &q->delegation);

	for (size_t i = 0; ok && i < q->nattributes; i++) {
		list[i] = q->attributes[i];
		ok = copy_text(a, &list[i].name) && copy_text(a, &list[i].value);
	}
	q->attributes = list;
	return ok;
}

static void take(void *ctx, const struct policy_request *q)
{
	struct bench *b = ctx;
	size_t room = b->room ? b->room * 2 : 64;

	if (b->n == b->room) {
		struct policy_request *more = room <= REQUESTS_MAX
						      ? arena_alloc(&b->arena, room * sizeof(*more))
						      : NULL;

		if (!more) {
			b->full = true;
			return;
		}
		if (b->n)
			memcpy(more, b->items, b->n * sizeof(*more));
		b->items = more;
		b->room = room;
	}
	b->items[b->n] = *q;
	if (copy(&b->arena, &b->items[b->n]))
		b->n++;
	else
		b->full = true;
}

static void once(struct bench *b)
{
	struct policy_result r;

	for (size_t i = 0; i < b->n; i++) {
		arena_reset(&b->scratch);
		policy_evaluate(b->st, &b->items[i], &b->scratch, &r);
	}
}

/* First the time, with nothing in the way; then, once, a count of every instruction. */
static bool measure(struct bench *b, int64_t milliseconds, struct err *e)
{
	size_t n = set_of(b->set)->nrules + 1;
	int64_t start, spent = 0;

	b->clock = clock_of_fixed(&b->hands);
	b->st = policy_state_new(b->set, &mem_system, &b->clock, e);
	b->watch.cost = arena_zero(&b->arena, n * sizeof(*b->watch.cost));
	if (!b->st || !b->watch.cost)
		return err_set(e, ERR_NOMEM, "no memory for the measurement");
	once(b); /* files are bound at their first use */
	start = clock_mono_ns(&clock_system);
	do {
		once(b);
		b->evaluations += b->n;
		spent = clock_mono_ns(&clock_system) - start;
	} while (spent < milliseconds * 1000000);
	b->ns = (uint64_t)spent;

	state_close(b->st);
	b->watch.step = 1;
	b->st->watch = &b->watch;
	once(b);
	memset(b->watch.cost, 0, n * sizeof(*b->watch.cost));
	for (size_t i = 0; i < b->n; i++) {
		struct policy_result r;
		uint64_t asked = b->st->sb.asked;

		arena_reset(&b->scratch);
		policy_evaluate(b->st, &b->items[i], &b->scratch, &r);
		b->steps += r.instructions;
		b->bytes += b->st->sb.asked - asked;
	}
	return true;
}

/* Time of a rule alone: with the count of instructions on, it would be another. */
static void time_rules(struct bench *b)
{
	size_t n = set_of(b->set)->nrules;

	for (size_t i = 0; i < n; i++)
		b->watch.cost[i].ns = b->watch.cost[i].runs = 0;
	state_close(b->st);
	b->watch.step = 0;
	for (int round = 0; round < 20; round++)
		once(b);
}

static bool report(struct bench *b, struct policy_bench *out)
{
	const struct set *s = set_of(b->set);
	struct watch_cost *counted;

	arena_init(&out->arena, &mem_system, BENCH_MEMORY);
	out->rules = arena_zero(&out->arena, (s->nrules + 1) * sizeof(*out->rules));
	counted = arena_alloc(&out->arena, (s->nrules + 1) * sizeof(*counted));
	if (!out->rules || !counted)
		return false;
	memcpy(counted, b->watch.cost, s->nrules * sizeof(*counted));
	time_rules(b);
	for (uint32_t i = 0; i < s->nrules; i++) {
		uint32_t at = (uint32_t)(s->by_name[i] - s->rules);
		const struct watch_cost *c = &counted[at], *timed = &b->watch.cost[at];
		struct policy_bench_rule *r = &out->rules[out->nrules];

		if (!c->runs || !timed->runs)
			continue;
		r->name = arena_dup(&out->arena, s->by_name[i]->full);
		r->runs = c->runs;
		r->ns = (double)timed->ns / (double)timed->runs;
		r->instructions = (double)c->steps / (double)c->runs;
		r->bytes = (double)c->bytes / (double)c->runs;
		out->nrules++;
	}
	out->requests = b->n;
	out->evaluations = b->evaluations;
	out->ns = (double)b->ns / (double)b->evaluations;
	out->instructions = (double)b->steps / (double)b->n;
	out->bytes = (double)b->bytes / (double)b->n;
	return true;
}

bool policy_bench_run(const struct policy_sources *s, const struct policy_test_options *given,
		      int64_t milliseconds, struct policy_bench *out, struct err *e)
{
	struct policy_test_options o = *given;
	struct policy_test_report tests;
	struct bench b = { 0 };
	bool ok;

	*out = (struct policy_bench){ 0 };
	arena_init(&b.arena, &mem_system, BENCH_MEMORY);
	arena_init(&b.scratch, &mem_system, 16 * 1024 * 1024);
	o.request = take;
	o.ctx = &b;
	o.result = NULL;
	ok = policy_test_run(s, &o, &tests, e);
	if (ok)
		policy_test_report_clear(&tests);
	if (ok && b.n == 0)
		ok = err_set(e, ERR_INVALID,
			     "there is no test to measure: write one in *_test.lua");
	ok = ok && policy_set_load_with(s, &o.load, &b.set, NULL, e) &&
	     measure(&b, milliseconds, e);
	if (ok && !report(&b, out))
		ok = err_set(e, ERR_NOMEM, "no memory for the measurement");
	policy_state_free(b.st);
	if (b.set)
		shared_release(&b.set->shared);
	arena_clear(&b.arena);
	arena_clear(&b.scratch);
	if (!ok)
		policy_bench_clear(out);
	return ok;
}
