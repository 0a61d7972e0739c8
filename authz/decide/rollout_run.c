/*
 * A thread's tally is a few counters and a table of the kinds of change it has met. A kind's texts
 * are written once, before its count becomes other than zero, and stay; so a reader that sees a
 * count sees the texts, and no lock is needed.
 */
#include "authz/decide/rollout_run.h"

#include <stdlib.h>

#include "authz/base/text.h"

const char *const rollout_kind_names[] = {
	[ROLLOUT_SHADOW] = "shadow", [ROLLOUT_CANARY] = "canary"
};

const struct str decision_names[] = {
	[DECISION_DENY] = STR_INIT("deny"),
	[DECISION_ASK] = STR_INIT("ask"),
	[DECISION_PERMIT] = STR_INIT("permit"),
};

struct tally_group {
	struct rollout_verdict was, is;
	atomic_uint_fast64_t count;
	atomic_uint_fast64_t samples[ROLLOUT_SAMPLES]; /* a ring by count */
};

struct rollout_tally {
	struct rollout_tally *next;
	struct {
		atomic_uint_fast64_t decisions[3], errors, buckets[ROLLOUT_BUCKETS];
	} sides[ROLLOUT_SIDES];
	atomic_uint_fast64_t changed, ungrouped;
	struct tally_group groups[ROLLOUT_GROUPS];
};

/* ---- life ---- */

static void free_rollout(struct shared *s)
{
	struct rollout *r = (struct rollout *)s;
	struct rollout_tally *t = atomic_load(&r->tallies), *next;

	for (; t; t = next) {
		next = t->next;
		free(t);
	}
	shared_release(r->candidate ? &r->candidate->shared : NULL);
	free(r->carried);
	free(r);
}

struct rollout *rollout_new(struct policy_set *candidate, struct rollout_report *carried)
{
	struct rollout *r = calloc(1, sizeof(*r));

	if (!r) {
		shared_release(&candidate->shared);
		free(carried);
		return NULL;
	}
	shared_init(&r->shared, free_rollout);
	r->candidate = candidate;
	r->carried = carried;
	atomic_init(&r->tallies, NULL);
	return r;
}

bool rollout_picks(const struct rollout *r, struct str agent, struct sha256 *sha)
{
	const struct str parts[] = { { (const char *)r->salt, sizeof(r->salt) }, agent };
	uint8_t hash[SHA256_LEN];
	uint64_t n = 0;

	if (r->kind != ROLLOUT_CANARY || !agent.n)
		return false;
	sha256_parts(sha, parts, 2, hash);
	for (size_t i = 0; i < 8; i++)
		n = n << 8 | hash[i];
	return n % 100 < r->percent;
}

/* ---- writing, by the thread that joined ---- */

struct rollout_tally *rollout_join(struct rollout *r)
{
	struct rollout_tally *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->next = atomic_load(&r->tallies);
	while (!atomic_compare_exchange_weak(&r->tallies, &t->next, t))
		;
	return t;
}

static void add(atomic_uint_fast64_t *counter)
{
	uint_fast64_t n = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, n + 1, memory_order_relaxed);
}

static bool is_error(const struct policy_result *p)
{
	return str_eq(p->reason, STR(REASON_POLICY_ERROR)) ||
	       str_eq(p->reason, STR(REASON_POLICY_BUDGET));
}

void rollout_count(struct rollout_tally *t, enum rollout_side side, const struct policy_result *p,
		   int64_t ns)
{
	add(&t->sides[side].decisions[p->decision]);
	add(&t->sides[side].buckets[rollout_bucket(ns)]);
	if (is_error(p))
		add(&t->sides[side].errors);
}

bool rollout_differs(const struct policy_result *a, const struct policy_result *b)
{
	return a->decision != b->decision || !str_eq(a->reason, b->reason) ||
	       !str_eq(a->rule, b->rule) || !str_eq(a->obligations, b->obligations);
}

/* As much of @s as fits, in whole characters. */
static void keep(char *out, size_t size, struct str s)
{
	size_t n = 0, step;

	while (n < s.n && (step = text_utf8_char(str_from(s, n))) && n + step < size)
		n += step;
	if (n)
		memcpy(out, s.p, n);
	out[n] = '\0';
}

static void keep_verdict(struct rollout_verdict *v, const struct policy_result *p)
{
	*v = (struct rollout_verdict){ .decision = p->decision };
	keep(v->reason, sizeof(v->reason), p->reason);
	keep(v->rule, sizeof(v->rule), p->rule);
}

static bool same(const struct rollout_verdict *a, const struct rollout_verdict *b)
{
	return a->decision == b->decision && !strcmp(a->reason, b->reason) &&
	       !strcmp(a->rule, b->rule);
}

/* The group of this kind, new if need be; NULL: the table is full. */
static struct tally_group *find_group(struct rollout_tally *t, const struct rollout_verdict *was,
				      const struct rollout_verdict *is)
{
	for (size_t i = 0; i < ROLLOUT_GROUPS; i++) {
		struct tally_group *g = &t->groups[i];

		if (!atomic_load_explicit(&g->count, memory_order_relaxed)) {
			g->was = *was;
			g->is = *is;
			return g;
		}
		if (same(&g->was, was) && same(&g->is, is))
			return g;
	}
	return NULL;
}

void rollout_changed(struct rollout_tally *t, const struct policy_result *was,
		     const struct policy_result *is, uint64_t seq)
{
	struct rollout_verdict before, after;
	struct tally_group *g;
	uint_fast64_t n;

	keep_verdict(&before, was);
	keep_verdict(&after, is);
	add(&t->changed);
	g = find_group(t, &before, &after);
	if (!g) {
		add(&t->ungrouped);
		return;
	}
	n = atomic_load_explicit(&g->count, memory_order_relaxed);
	atomic_store_explicit(&g->samples[n % ROLLOUT_SAMPLES], seq, memory_order_relaxed);
	atomic_store_explicit(&g->count, n + 1, memory_order_release);
}

/* ---- reading, by anybody ---- */

static uint64_t get(const atomic_uint_fast64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_counts(struct rollout_counts *c, const struct rollout_tally *t)
{
	for (size_t s = 0; s < ROLLOUT_SIDES; s++) {
		for (size_t i = 0; i < 3; i++)
			c->sides[s].decisions[i] += get(&t->sides[s].decisions[i]);
		c->sides[s].errors += get(&t->sides[s].errors);
		for (size_t i = 0; i < ROLLOUT_BUCKETS; i++)
			c->sides[s].buckets[i] += get(&t->sides[s].buckets[i]);
	}
}

void rollout_total_counts(const struct rollout *r, struct rollout_counts *out)
{
	if (r->carried)
		*out = r->carried->counts;
	else
		memset(out, 0, sizeof(*out));
	for (const struct rollout_tally *t = atomic_load(&r->tallies); t; t = t->next)
		add_counts(out, t);
}

uint64_t rollout_total_changed(const struct rollout *r)
{
	uint64_t n = r->carried ? r->carried->changed : 0;

	for (const struct rollout_tally *t = atomic_load(&r->tallies); t; t = t->next)
		n += get(&t->changed);
	return n;
}

static void add_groups(struct rollout_report *out, const struct rollout_tally *t)
{
	for (size_t i = 0; i < ROLLOUT_GROUPS; i++) {
		const struct tally_group *g = &t->groups[i];
		uint64_t n = atomic_load_explicit(&g->count, memory_order_acquire);
		uint64_t samples[ROLLOUT_SAMPLES];
		size_t kept = n < ROLLOUT_SAMPLES ? (size_t)n : ROLLOUT_SAMPLES;

		if (!n)
			return;
		for (size_t k = 0; k < kept; k++)
			samples[k] = get(&g->samples[(n - kept + k) % ROLLOUT_SAMPLES]);
		rollout_report_group(out, &g->was, &g->is, n, samples, kept);
	}
}

void rollout_total(const struct rollout *r, struct rollout_report *out)
{
	if (r->carried)
		*out = *r->carried;
	else
		memset(out, 0, sizeof(*out));
	for (const struct rollout_tally *t = atomic_load(&r->tallies); t; t = t->next) {
		add_counts(&out->counts, t);
		out->changed += get(&t->changed);
		out->ungrouped += get(&t->ungrouped);
		add_groups(out, t);
	}
}
