#include "authz/policy/index.h"

#include <stdlib.h>

#include "authz/base/pattern.h"
#include "authz/policy/value.h"

#define NOT_ONE UINT32_MAX

/* A kind of condition in use: a dimension and, for attributes, a name. */
struct probe {
	enum dim dim;
	struct str name;
	bool used; /* some rule is filed under it */
};

struct slot_key {
	uint32_t probe;
	const struct json *value; /* NULL: free */
};

struct bucket {
	struct slot_key key;
	uint32_t named;	  /* rules that name this value at all: its rarity */
	uint32_t n, room; /* rules filed here */
	uint32_t *rules;
};

struct index {
	const struct rule *rules;
	struct probe *probes;
	uint32_t nprobes;
	struct bucket *buckets;
	uint32_t mask;
	uint32_t *always, nalways; /* rules without a condition to be filed under */
	uint32_t *filed; /* of each rule: the condition that being found says is met, or NOT_ONE */
};

static struct bucket *find(const struct index *ix, uint32_t probe, const struct json *v)
{
	uint32_t at = (uint32_t)value_hash(probe, v) & ix->mask;

	for (;; at = (at + 1) & ix->mask) {
		struct bucket *b = &ix->buckets[at];

		if (!b->key.value || (b->key.probe == probe && value_equal(b->key.value, v)))
			return b;
	}
}

static uint32_t probe_of(struct index *ix, const struct condition *c)
{
	for (uint32_t i = 0; i < ix->nprobes; i++)
		if (ix->probes[i].dim == c->dim && str_eq(ix->probes[i].name, c->name))
			return i;
	ix->probes[ix->nprobes] = (struct probe){ c->dim, c->name, false };
	return ix->nprobes++;
}

static bool has_star(const struct condition *c)
{
	for (uint32_t i = 0; i < c->n; i++)
		if (c->dim == DIM_SUBJECT && c->values[i].s.n &&
		    memchr(c->values[i].s.p, '*', c->values[i].s.n))
			return true;
	return false;
}

/* The condition to file @r under: the one whose most common value is named least. */
static const struct condition *rarest(struct index *ix, const struct rule *r)
{
	const struct condition *best = NULL;
	uint32_t least = UINT32_MAX;

	for (uint32_t i = 0; i < r->non; i++) {
		const struct condition *c = &r->on[i];
		uint32_t most = 0, probe;

		if (has_star(c))
			continue;
		probe = probe_of(ix, c);
		for (uint32_t k = 0; k < c->n; k++) {
			uint32_t named = find(ix, probe, &c->values[k])->named;

			most = named > most ? named : most;
		}
		if (most < least) {
			least = most;
			best = c;
		}
	}
	return best;
}

static bool file_rule(struct bucket *b, uint32_t rule, struct arena *a)
{
	if (b->n && b->rules[b->n - 1] == rule)
		return true; /* a value written twice */
	if (b->n == b->room) {
		uint32_t room = b->room ? b->room * 2 : 4;
		uint32_t *more = arena_alloc(a, room * sizeof(*more));

		if (!more)
			return false;
		if (b->n)
			memcpy(more, b->rules, b->n * sizeof(*more));
		b->rules = more;
		b->room = room;
	}
	b->rules[b->n++] = rule;
	return true;
}

/* First pass: enter every value that is named, and count by how many rules. */
static void count_values(struct index *ix, const struct rule *r)
{
	for (uint32_t i = 0; i < r->non; i++) {
		uint32_t probe;

		if (has_star(&r->on[i]))
			continue;
		probe = probe_of(ix, &r->on[i]);
		for (uint32_t k = 0; k < r->on[i].n; k++) {
			struct bucket *b = find(ix, probe, &r->on[i].values[k]);

			b->key = (struct slot_key){ probe, &r->on[i].values[k] };
			b->named++;
		}
	}
}

struct index *index_build(const struct rule *rules, uint32_t n, struct arena *a)
{
	struct index *ix = arena_zero(a, sizeof(*ix));
	size_t values = 1, conditions = 1, size = 16;

	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < rules[i].non; k++, conditions++)
			values += rules[i].on[k].n;
	while (size < values * 2)
		size *= 2;
	if (!ix)
		return NULL;
	ix->rules = rules;
	ix->mask = (uint32_t)size - 1;
	ix->buckets = arena_zero(a, size * sizeof(*ix->buckets));
	ix->probes = arena_zero(a, conditions * sizeof(*ix->probes));
	ix->always = arena_zero(a, (n + 1) * sizeof(*ix->always));
	ix->filed = arena_zero(a, (n + 1) * sizeof(*ix->filed));
	if (!ix->buckets || !ix->probes || !ix->always || !ix->filed)
		return NULL;
	for (uint32_t i = 0; i < n; i++)
		count_values(ix, &rules[i]);
	for (uint32_t i = 0; i < n; i++) {
		const struct condition *c = rarest(ix, &rules[i]);

		ix->filed[i] = c && c->dim != DIM_SUBJECT ? (uint32_t)(c - rules[i].on) : NOT_ONE;
		if (!c)
			ix->always[ix->nalways++] = i;
		for (uint32_t k = 0; c && k < c->n; k++)
			if (!file_rule(find(ix, probe_of(ix, c), &c->values[k]), i, a))
				return NULL;
	}
	for (uint32_t i = 0; i <= ix->mask; i++)
		if (ix->buckets[i].n)
			ix->probes[ix->buckets[i].key.probe].used = true;
	return ix;
}

static int compare_attribute(const void *name, const void *attribute)
{
	return str_cmp(*(const struct str *)name,
		       ((const struct policy_attribute *)attribute)->name);
}

/* An attribute of the registered agent as a text in *room, or NULL. */
static const struct json *agent_fact(const struct policy_request *q, struct str name,
				     struct json *room)
{
	const struct policy_attribute *at;

	*room = (struct json){ .type = JSON_STRING };
	if (!q->agent_id.p)
		return NULL;
	if (str_eq(name, STR("id")))
		room->s = q->agent_id;
	else if (str_eq(name, STR("owner")))
		room->s = q->agent_owner;
	else if (str_eq(name, STR("state")))
		room->s = q->agent_state;
	else {
		at = q->nattributes ? bsearch(&name, q->attributes, q->nattributes,
					      sizeof(*q->attributes), compare_attribute)
				    : NULL;
		if (!at)
			return NULL;
		room->s = at->value;
	}
	return room;
}

/* What the request has in a dimension: a scalar or a list, or NULL. */
static const struct json *fact(const struct facts *f, enum dim dim, struct str name,
			       struct json *room)
{
	switch (dim) {
	case DIM_ACTION:
		return f->action;
	case DIM_RESOURCE:
		return f->type;
	case DIM_ID:
		return f->id;
	case DIM_SUBJECT:
		return agent_fact(f->q, STR("id"), room);
	case DIM_AGENT:
		return agent_fact(f->q, name, room);
	case DIM_TOOL:
		return f->tool ? json_get(f->tool->attributes, name) : NULL;
	case DIM_MODEL:
		return f->model ? json_get(f->model->attributes, name) : NULL;
	}
	return NULL;
}

static bool meets_scalar(const struct condition *c, const struct json *have)
{
	for (uint32_t i = 0; i < c->n; i++) {
		if (c->dim == DIM_SUBJECT ? pattern_match(c->values[i].s, have->s)
					  : value_equal(&c->values[i], have))
			return true;
	}
	return false;
}

/* A catalogue attribute that is a list meets a condition by any of its elements. */
static inline bool meets(const struct condition *c, const struct facts *f)
{
	struct json room;
	const struct json *have = fact(f, c->dim, c->name, &room);

	if (!have)
		return false;
	if (have->type != JSON_ARRAY)
		return meets_scalar(c, have);
	for (uint32_t i = 0; i < have->n; i++)
		if (meets_scalar(c, &have->items[i]))
			return true;
	return false;
}

bool index_meets(const struct condition *c, const struct facts *f)
{
	return meets(c, f);
}

/* @filed is the condition by which the rule was found, so it is met: what is filed together is
 * equal. (Not so for subjects, which are compared as SPIFFE IDs.) */
static bool applies(const struct rule *r, uint32_t filed, const struct facts *f)
{
	for (uint32_t i = 0; i < r->non; i++)
		if (i != filed && !meets(&r->on[i], f))
			return false;
	return true;
}

struct found {
	const struct facts *f;
	uint32_t *out, n;
};

static void take(struct found *to, const struct index *ix, const uint32_t *list, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (applies(&ix->rules[list[i]], ix->filed[list[i]], to->f))
			to->out[to->n++] = list[i];
}

static int compare_numbers(const void *pa, const void *pb)
{
	uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;

	return (a > b) - (a < b);
}

static uint32_t sort_unique(uint32_t *list, uint32_t n)
{
	uint32_t kept = 0;

	if (n < 2)
		return n;
	if (n > 32)
		qsort(list, n, sizeof(*list), compare_numbers);
	for (uint32_t i = 1; i < n && n <= 32; i++)
		for (uint32_t k = i; k && list[k - 1] > list[k]; k--) {
			uint32_t swap = list[k];

			list[k] = list[k - 1];
			list[k - 1] = swap;
		}
	for (uint32_t i = 0; i < n; i++)
		if (!i || list[i] != list[kept - 1])
			list[kept++] = list[i];
	return kept;
}

uint32_t index_find(const struct index *ix, const struct facts *f, uint32_t *out)
{
	struct found to = { f, out, 0 };

	take(&to, ix, ix->always, ix->nalways);
	for (uint32_t i = 0; i < ix->nprobes; i++) {
		const struct probe *p = &ix->probes[i];
		struct json room;
		const struct json *have = p->used ? fact(f, p->dim, p->name, &room) : NULL;
		const struct bucket *b;

		if (!have)
			continue;
		if (have->type != JSON_ARRAY) {
			b = find(ix, i, have);
			take(&to, ix, b->rules, b->n);
		} else if (have->n) {
			/* A rule under several elements would be found several times and overrun
			 * @out: lists are looked up one by one, duplicates dropped in between. */
			for (uint32_t k = 0; k < have->n; k++) {
				b = find(ix, i, &have->items[k]);
				if (b->n > 0) {
					take(&to, ix, b->rules, b->n);
					to.n = sort_unique(out, to.n);
				}
			}
		}
	}
	return sort_unique(out, to.n);
}
