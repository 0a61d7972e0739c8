#include "spiffe/authority.h"

#define DAY 86400
#define SLACK_S 60 /* an SVID may live so much longer than asked for: the signer's own slack */

static const char *const kinds[AUTHORITY_KINDS] = { "x509", "jwt", "wit" };

static const char *const states[] = {
	[AUTHORITY_PREPARED] = "prepared", [AUTHORITY_ACTIVE] = "active",
	[AUTHORITY_OLD] = "old",	   [AUTHORITY_TAINTED] = "tainted",
	[AUTHORITY_REVOKED] = "revoked",   [AUTHORITY_RETIRED] = "retired",
};

static const char *const verbs[] = {
	[AUTHORITY_NOTHING] = "nothing",   [AUTHORITY_PREPARE] = "prepare",
	[AUTHORITY_ACTIVATE] = "activate", [AUTHORITY_TAINT] = "taint",
	[AUTHORITY_REVOKE] = "revoke",	   [AUTHORITY_RETIRE] = "retire",
};

const char *authority_kind_name(enum authority_kind k)
{
	return kinds[k];
}

const char *authority_state_name(enum authority_state s)
{
	return states[s];
}

const char *authority_verb_name(enum authority_verb v)
{
	return verbs[v];
}

bool authority_kind_parse(struct str name, enum authority_kind *out)
{
	for (int i = 0; i < AUTHORITY_KINDS; i++)
		if (str_eq(name, str_c(kinds[i]))) {
			*out = (enum authority_kind)i;
			return true;
		}
	return false;
}

bool authority_trusted(const struct authority *a)
{
	return a->state < AUTHORITY_REVOKED;
}

/* ---- times ---- */

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

struct authority_plan authority_plan(const struct authority_times *t)
{
	struct authority_plan p;

	p.propagate_s = least(3 * t->refresh_hint_s, t->ttl_s / 6);
	p.linger_s = t->svid_ttl_max_s + t->leeway_s + SLACK_S;
	p.activate_before_s = least(most(least(t->ttl_s / 6, (int64_t)7 * DAY), p.linger_s),
				    t->ttl_s / 3);
	p.prepare_before_s = most(least(t->ttl_s / 2, (int64_t)30 * DAY),
				  p.activate_before_s + p.propagate_s);
	return p;
}

/* ---- transitions ---- */

static const struct {
	enum authority_verb verb;
	enum authority_state from, to;
} table[] = {
	{ AUTHORITY_ACTIVATE, AUTHORITY_PREPARED, AUTHORITY_ACTIVE },
	{ AUTHORITY_TAINT, AUTHORITY_OLD, AUTHORITY_TAINTED },
	{ AUTHORITY_REVOKE, AUTHORITY_PREPARED, AUTHORITY_REVOKED },
	{ AUTHORITY_REVOKE, AUTHORITY_OLD, AUTHORITY_REVOKED },
	{ AUTHORITY_REVOKE, AUTHORITY_TAINTED, AUTHORITY_REVOKED },
	{ AUTHORITY_RETIRE, AUTHORITY_PREPARED, AUTHORITY_RETIRED }, /* expired unused */
	{ AUTHORITY_RETIRE, AUTHORITY_OLD, AUTHORITY_RETIRED },
	{ AUTHORITY_RETIRE, AUTHORITY_TAINTED, AUTHORITY_RETIRED },
};

bool authority_after(const struct authority *a, enum authority_verb verb, enum authority_state *out,
		     struct err *e)
{
	static const char *const wanted[] = {
		[AUTHORITY_NOTHING] = "",
		[AUTHORITY_PREPARE] = "nothing is prepared twice",
		[AUTHORITY_ACTIVATE] = "only a prepared one is activated",
		[AUTHORITY_TAINT] = "only an old one is tainted: activate another first",
		[AUTHORITY_REVOKE] = "the active one is never revoked: activate another first",
		[AUTHORITY_RETIRE] = "only what signs no more is retired",
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (table[i].verb == verb && table[i].from == a->state) {
			*out = table[i].to;
			return true;
		}
	return err_code(e, ERR_CONFLICT, "authority_state", "%s authority %s is %s; %s",
			kinds[a->kind], a->id, states[a->state],
			a->state >= AUTHORITY_REVOKED ? "that is for good" : wanted[verb]);
}

static bool find(const struct authority *const *all, size_t n, enum authority_kind kind,
		 enum authority_state state, size_t *at)
{
	for (size_t i = 0; i < n; i++)
		if (all[i]->kind == kind && all[i]->state == state) {
			*at = i;
			return true;
		}
	return false;
}

bool authority_may_prepare(const struct authority *const *all, size_t n, enum authority_kind kind,
			   struct err *e)
{
	size_t at, trusted = 0;

	if (find(all, n, kind, AUTHORITY_PREPARED, &at))
		return err_code(e, ERR_CONFLICT, "authority_prepared",
				"%s authority %s is prepared already: activate or revoke it first",
				kinds[kind], all[at]->id);
	for (size_t i = 0; i < n; i++)
		trusted += all[i]->kind == kind && authority_trusted(all[i]);
	if (trusted >= AUTHORITY_MAX)
		return err_code(e, ERR_CONFLICT, "too_many_authorities",
				"%zu %s authorities are in the bundle, %d at most: revoke old ones",
				trusted, kinds[kind], AUTHORITY_MAX);
	return true;
}

bool authority_propagated(const struct authority_plan *p, const struct authority *a, int64_t now_s,
			  struct err *e)
{
	int64_t wait = a->prepared_s + p->propagate_s - now_s;

	if (wait <= 0)
		return true;
	return err_code(e, ERR_CONFLICT, "authority_not_propagated",
			"%s authority %s is in the bundle for %lld s only; verifiers that have not "
			"looked since would refuse what it signs: wait %lld s, or force it",
			kinds[a->kind], a->id, (long long)(now_s - a->prepared_s), (long long)wait);
}

/* Is the prepared @a to take over from @active (NULL: nothing can sign)? */
static bool takes_over(const struct authority_plan *p, const struct authority *a,
		       const struct authority *active, int64_t now_s)
{
	/* Waiting for verifiers is of no use once nothing else can sign. */
	if (!active || active->not_after_s <= now_s)
		return true;
	return active->not_after_s - now_s <= p->activate_before_s &&
	       authority_propagated(p, a, now_s, NULL);
}

static bool is_over(const struct authority_plan *p, const struct authority *a, int64_t now_s)
{
	if (a->state == AUTHORITY_PREPARED)
		return a->not_after_s <= now_s;
	return (a->state == AUTHORITY_OLD || a->state == AUTHORITY_TAINTED) &&
	       a->stopped_s + p->linger_s <= now_s;
}

enum authority_verb authority_due(const struct authority_plan *p,
				  const struct authority *const *all, size_t n,
				  enum authority_kind kind, int64_t now_s, size_t *which)
{
	const struct authority *active = NULL;
	size_t at;

	for (size_t i = 0; i < n; i++)
		if (all[i]->kind == kind && is_over(p, all[i], now_s)) {
			*which = i;
			return AUTHORITY_RETIRE;
		}
	if (find(all, n, kind, AUTHORITY_ACTIVE, &at))
		active = all[at];
	if (find(all, n, kind, AUTHORITY_PREPARED, &at)) {
		if (!takes_over(p, all[at], active, now_s))
			return AUTHORITY_NOTHING;
		*which = at;
		return AUTHORITY_ACTIVATE;
	}
	return !active || active->not_after_s - now_s <= p->prepare_before_s ? AUTHORITY_PREPARE
									     : AUTHORITY_NOTHING;
}

int64_t authority_next_s(const struct authority_plan *p, const struct authority *const *all,
			 size_t n, enum authority_kind kind)
{
	int64_t next = INT64_MAX;
	size_t active, prepared;

	for (size_t i = 0; i < n; i++)
		if (all[i]->kind == kind &&
		    (all[i]->state == AUTHORITY_OLD || all[i]->state == AUTHORITY_TAINTED))
			next = least(next, all[i]->stopped_s + p->linger_s);
	if (!find(all, n, kind, AUTHORITY_ACTIVE, &active))
		return next;
	if (find(all, n, kind, AUTHORITY_PREPARED, &prepared))
		return least(next, most(all[active]->not_after_s - p->activate_before_s,
					all[prepared]->prepared_s + p->propagate_s));
	return least(next, all[active]->not_after_s - p->prepare_before_s);
}
