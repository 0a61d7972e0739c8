/*
 * Which foreign trust bundles an entry's workloads see. Kept as one text: empty for all there are,
 * NONE for none, else names in order, each with a newline behind it. So equal sets are equal texts.
 */
#include "spiffe/bundle.h"
#include "spiffe/id.h"
#include "spiffe/registry.h"

#define NONE "-"

bool registry_federates(struct str list, struct str trust_domain)
{
	struct str name;

	if (!list.n)
		return true;
	while (str_cut(list, '\n', &name, &list))
		if (str_eq(name, trust_domain))
			return true;
	return false;
}

/* Into its place among the @n that are there. False: it is among them. */
static bool insert(struct str *sorted, size_t n, struct str name)
{
	size_t at = n;

	for (; at > 0 && str_cmp(sorted[at - 1], name) >= 0; at--) {
		if (str_eq(sorted[at - 1], name))
			return false;
		sorted[at] = sorted[at - 1];
	}
	sorted[at] = name;
	return true;
}

bool registry_federates_list(const struct str *names, size_t n, struct arena *a, struct str *out,
			     struct err *e)
{
	struct str sorted[REGISTRY_FEDERATES], name;
	struct buf b;

	if (n > REGISTRY_FEDERATES)
		return err_code(e, ERR_INVALID, "invalid_agent",
				"federates_with: %zu trust domains are too many; at most %d are "
				"kept, or leave it out for all",
				n, REGISTRY_FEDERATES);
	for (size_t i = 0; i < n; i++) {
		if (!spiffe_trust_domain_parse(names[i], &name, e))
			return err_prefix(e, "federates_with");
		if (!insert(sorted, i, name))
			return err_code(e, ERR_INVALID, "invalid_agent",
					"federates_with: %.*s is given twice", STR_FMT(name));
	}
	buf_in_arena(&b, a, REGISTRY_FEDERATES * (SPIFFE_TRUST_DOMAIN_MAX + 1) + sizeof(NONE));
	if (!n)
		buf_lit(&b, NONE);
	for (size_t i = 0; i < n; i++) {
		buf_add(&b, sorted[i]);
		buf_char(&b, '\n');
	}
	*out = buf_str(&b);
	return buf_ok(&b) || err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
}

bool registry_federates_check(struct str list, struct str own, struct err *e)
{
	struct str rest = list, name, last = { NULL, 0 }, parsed;
	size_t n = 0;

	if (!list.n || str_eq(list, STR(NONE)))
		return true;
	while (str_cut(rest, '\n', &name, &rest)) {
		if (!spiffe_trust_domain_parse(name, &parsed, e) || !str_eq(parsed, name) ||
		    (last.n && str_cmp(last, name) >= 0) || ++n > REGISTRY_FEDERATES)
			return err_code(e, ERR_INVALID, "invalid_agent",
					"federates_with is not a list of trust domains");
		if (str_eq(name, own))
			return err_code(e, ERR_INVALID, "invalid_agent",
					"federates_with: %.*s is this trust domain, whose bundle "
					"everybody gets; name others",
					STR_FMT(name));
		last = name;
	}
	return !rest.n || err_code(e, ERR_INVALID, "invalid_agent",
				   "federates_with is not a list of trust domains");
}

bool registry_federates_known(struct str list, const struct bundle_set *bundles, struct err *e)
{
	struct str name;

	while (str_cut(list, '\n', &name, &list))
		if (!bundles || !bundle_find(bundles, name))
			return err_code(e, ERR_INVALID, "unknown_trust_domain",
					"federates_with: there is no bundle of %.*s; add it first: "
					"writ federation add %.*s",
					STR_FMT(name), STR_FMT(name));
	return true;
}

void registry_write_federates(struct buf *b, struct str list)
{
	struct str name;
	bool first = true;

	buf_char(b, '[');
	while (str_cut(list, '\n', &name, &list)) {
		if (!first)
			buf_char(b, ',');
		buf_json(b, name);
		first = false;
	}
	buf_char(b, ']');
}
