/* Who is calling, and which registered entries that is. */
#include "authz/net/process.h"
#include "spiffe/workload_api_inside.h"

#define ATTESTATION_FAILED "attestation_failed"

bool workload_alive(const struct workload_caller *caller, struct err *e)
{
	uint64_t started = 0;

	if (!caller->peer->started)
		return err_code(
			e, ERR_UNAVAILABLE, ATTESTATION_FAILED,
			"the calling process cannot be seen: it has ended, or it lives in a "
			"pid namespace that writ is not in");
	if (process_started(caller->peer->pid, &started) && started == caller->peer->started)
		return true;
	return err_code(e, ERR_UNAVAILABLE, ATTESTATION_FAILED,
			"the process that connected has ended");
}

bool workload_attest(struct workload_api *w, struct call *c, struct workload_caller *out,
		     struct err *e)
{
	struct workload_caller caller = { .peer = c->peer };
	const struct peer *p = c->peer;
	struct str *texts = NULL;
	size_t n = 0;

	if (!workload_alive(&caller, e))
		return false;
	if (!w->settings.selectors(p->pid, p->uid, p->gid, c->arena, &texts, &n, e)) {
		e->class = ERR_UNAVAILABLE;
		return err_prefix(e, "the calling process could not be attested");
	}
	caller.selectors = arena_alloc(c->arena, (n + 1) * sizeof(*caller.selectors));
	if (!caller.selectors)
		return err_set(e, ERR_NOMEM, "no memory for the caller's selectors");
	for (size_t i = 0; i < n; i++)
		if (registry_parse_selector(texts[i], &caller.selectors[caller.nselectors], NULL))
			caller.nselectors++;
	if (!workload_alive(&caller, e)) /* else they may be another's */
		return false;
	*out = caller;
	return true;
}

static struct str hint_of(const struct registry_entry *entry)
{
	const struct registry_attribute *a = registry_attribute(entry, STR("hint"));

	return a && a->value.n <= WORKLOAD_HINT_MAX ? a->value : (struct str){ NULL, 0 };
}

static bool is_older(const struct registry_entry *a, const struct registry_entry *b)
{
	return a->created_ms != b->created_ms ? a->created_ms < b->created_ms
					      : str_cmp(a->id, b->id) < 0;
}

/* Add @entry. Hints are unique in a response: of two entries with one, the older stays. */
static void add(struct workload_entries *out, const struct registry_entry *entry)
{
	struct str hint = hint_of(entry);

	for (size_t i = 0; hint.n && i < out->n; i++)
		if (str_eq(out->hint[i], hint)) {
			if (is_older(entry, out->entry[i]))
				out->entry[i] = entry;
			return;
		}
	out->entry[out->n] = entry;
	out->hint[out->n++] = hint;
}

/* The first is the default identity: one whose hint says so, else the first by ID. */
static void put_default_first(struct workload_entries *out)
{
	for (size_t i = 1; i < out->n; i++) {
		const struct registry_entry *entry = out->entry[i];
		struct str hint = out->hint[i];

		if (!str_eq(hint, STR("default")))
			continue;
		for (size_t k = i; k > 0; k--) {
			out->entry[k] = out->entry[k - 1];
			out->hint[k] = out->hint[k - 1];
		}
		out->entry[0] = entry;
		out->hint[0] = hint;
		return;
	}
}

bool workload_entries(struct workload_api *w, const struct workload_caller *caller,
		      struct workload_entries *out, struct err *e)
{
	const struct registry_view *view = worker_registry(w->worker);
	const struct registry_entry *found[WORKLOAD_ENTRIES_MAX];
	size_t n;

	out->n = 0;
	out->coming = false;
	out->refused = (struct err){ 0 };
	if (!view || !worker_bundle(w->worker))
		return err_set(e, ERR_UNAVAILABLE, "writ is starting; try again");
	n = registry_match(view, caller->selectors, caller->nselectors, workload_now_ms(w), found,
			   WORKLOAD_ENTRIES_MAX);
	n = workload_instances(w, caller, found, n, WORKLOAD_ENTRIES_MAX, out);
	for (size_t i = 0; i < n; i++) {
		struct spiffe_id id;

		if (spiffe_id_parse_workload(found[i]->id, &id, NULL) &&
		    spiffe_id_member_of(&id, w->core->trust_domain))
			add(out, found[i]);
	}
	for (size_t i = 0; i < out->n; i++)
		registry_note_seen(out->entry[i], workload_now_ms(w));
	put_default_first(out);
	if (out->n || out->coming)
		return true;
	if (out->refused.class) {
		*e = out->refused;
		return false;
	}
	return err_code(e, ERR_FORBIDDEN, "no_identity",
			"no identity issued: no registered, active agent has only selectors that "
			"this process holds (uid %lu, gid %lu)",
			(unsigned long)caller->peer->uid, (unsigned long)caller->peer->gid);
}

bool workload_sees(const struct workload_api *w, const struct workload_entries *entries,
		   struct str trust_domain)
{
	bool sees = str_eq(trust_domain, w->core->trust_domain);

	for (size_t i = 0; i < entries->n && !sees; i++)
		sees = registry_federates(entries->entry[i]->federates, trust_domain);
	return sees;
}

const struct bundle *workload_own_bundle(const struct workload_api *w)
{
	const struct bundle_set *set = worker_bundle(w->worker);

	return set ? bundle_find(set, w->core->trust_domain) : NULL;
}
