#include "authz/audit/index_posts.h"

#include <stdlib.h>
#include <string.h>

#define PLACES 1024 /* kept; most logs have fewer terms at a time */

static bool make_places(struct index_posts *p, size_t places, struct err *e)
{
	p->chains = calloc(places, sizeof(*p->chains));
	if (!p->chains)
		return err_set(e, ERR_NOMEM, "no memory to index the log");
	p->places = places;
	p->nchains = 0;
	return true;
}

bool index_posts_init(struct index_posts *p, size_t max, struct err *e)
{
	*p = (struct index_posts){ .max = max };
	p->entries = malloc(max * sizeof(*p->entries));
	if (!p->entries)
		return err_set(e, ERR_NOMEM, "no memory to index the log");
	return make_places(p, PLACES, e);
}

void index_posts_clear(struct index_posts *p)
{
	free(p->entries);
	free(p->chains);
	*p = (struct index_posts){ 0 };
}

void index_posts_reset(struct index_posts *p)
{
	struct index_chain *less;

	if (p->places > PLACES) {
		p->places = PLACES;
		less = realloc(p->chains, PLACES * sizeof(*less));
		if (less)
			p->chains = less;
	}
	memset(p->chains, 0, p->places * sizeof(*p->chains));
	p->nchains = p->n = 0;
}

static struct index_chain *place(const struct index_posts *p, uint64_t hash)
{
	size_t i = hash & (p->places - 1);

	while (p->chains[i].first && p->chains[i].hash != hash)
		i = (i + 1) & (p->places - 1);
	return &p->chains[i];
}

/* Twice the places. */
static bool grow(struct index_posts *p, struct err *e)
{
	struct index_chain *old = p->chains;
	size_t places = p->places, kept = p->nchains;

	if (!make_places(p, 2 * places, e)) {
		p->chains = old;
		return false;
	}
	for (size_t i = 0; i < places; i++)
		if (old[i].first)
			*place(p, old[i].hash) = old[i];
	p->nchains = kept;
	free(old);
	return true;
}

bool index_posts_add(struct index_posts *p, struct index_term term, uint64_t seq, struct err *e)
{
	struct index_chain *c = place(p, term.hash);

	if (!c->first && 2 * p->nchains >= p->places) {
		if (!grow(p, e))
			return false;
		c = place(p, term.hash);
	}
	if (!p->n)
		p->first = seq;
	p->entries[p->n++] = (struct index_entry){ (uint32_t)(seq - p->first), 0, term.mark };
	if (!c->first) {
		*c = (struct index_chain){ term.hash, (uint32_t)p->n, 0, term.marked };
		p->nchains++;
	} else {
		p->entries[c->last - 1].next = (uint32_t)p->n;
	}
	c->last = (uint32_t)p->n;
	return true;
}

static int compare(const void *a, const void *b)
{
	const struct index_chain *x = a, *y = b;

	return (x->hash > y->hash) - (x->hash < y->hash);
}

void index_posts_sort(struct index_posts *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->places; i++)
		if (p->chains[i].first)
			p->chains[n++] = p->chains[i];
	qsort(p->chains, n, sizeof(*p->chains), compare);
}
