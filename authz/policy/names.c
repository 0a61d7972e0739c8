/* The names in a set that somebody can ask about: for searches. */
#include <stdlib.h>

#include "authz/policy/set.h"

static int compare(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

bool names_collect(struct set *s)
{
	/* Rules that name no action speak of every one, of these too. */
	static const struct str always[] = { STR_INIT("models/invoke"), STR_INIT("tools/call") };
	uint32_t n = ARRAY_LEN(always), kept = 0;
	struct str *all;

	for (uint32_t i = 0; i < s->nrules; i++)
		for (uint32_t k = 0; k < s->rules[i].non; k++)
			if (s->rules[i].on[k].dim == DIM_ACTION)
				n += s->rules[i].on[k].n;
	all = arena_alloc(&s->arena, n * sizeof(*all));
	if (!all)
		return false;
	memcpy(all, always, sizeof(always));
	n = ARRAY_LEN(always);
	for (uint32_t i = 0; i < s->nrules; i++)
		for (uint32_t k = 0; k < s->rules[i].non; k++) {
			const struct condition *c = &s->rules[i].on[k];

			for (uint32_t v = 0; c->dim == DIM_ACTION && v < c->n; v++)
				all[n++] = c->values[v].s;
		}
	qsort(all, n, sizeof(*all), compare);
	for (uint32_t i = 0; i < n; i++)
		if (!kept || !str_eq(all[i], all[kept - 1]))
			all[kept++] = all[i];
	s->actions = all;
	s->nactions = kept;
	return true;
}

static struct str name_at(const struct set *s, enum policy_names which, uint32_t i)
{
	switch (which) {
	case POLICY_TOOLS:
		return s->tools.items[i].id;
	case POLICY_MODELS:
		return s->models.items[i].id;
	case POLICY_ACTIONS:
		break;
	}
	return s->actions[i];
}

size_t policy_set_names(const struct policy_set *set, enum policy_names which, struct str after,
			struct str *out, size_t max)
{
	const struct set *s = set_of(set);
	uint32_t n = which == POLICY_TOOLS    ? s->tools.n
		     : which == POLICY_MODELS ? s->models.n
					      : s->nactions;
	uint32_t lo = 0, hi = n;
	size_t given = 0;

	while (after.n && lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (str_cmp(name_at(s, which, mid), after) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	while (lo < n && given < max)
		out[given++] = name_at(s, which, lo++);
	return given;
}

bool policy_set_knows(const struct policy_set *set, enum policy_names which, struct str id)
{
	const struct set *s = set_of(set);

	return which != POLICY_ACTIONS &&
	       catalogue_find(which == POLICY_TOOLS ? &s->tools : &s->models, id) != NULL;
}
