#include "spiffe/registry.h"

#include <assert.h>

#include "authz/base/text.h"
#include "spiffe/id.h"
#include "spiffe/registry_db.h"

struct registry {
	const struct alloc *alloc;
	struct registry_db tables;
	struct slot *slot;
	struct view *current; /* as published; our own reference */
	struct view *next;    /* with what is prepared, or NULL */
	struct db_tx tx;      /* open while there is a next */
	unsigned require;
	size_t max;
	struct str trust_domain;
	char trust_domain_text[256];
};

struct registry_db *registry_tables(struct registry *r)
{
	return &r->tables;
}

const struct view *registry_current(const struct registry *r)
{
	return r->current;
}

/* --- opening --- */

static void publish(struct registry *r, struct view *v)
{
	if (r->current)
		shared_release(&r->current->pub.shared);
	shared_acquire(&v->pub.shared);
	r->current = v;
	slot_publish(r->slot, &v->pub.shared);
}

static bool open_into(struct registry *r, const struct registry_config *c, struct err *e)
{
	struct view *v;

	if (!registry_db_open(&r->tables, c->db, e))
		return false;
	v = view_new(r->alloc);
	if (!v)
		return err_set(e, ERR_NOMEM, "no memory for the registry");
	if (!registry_db_load(&r->tables, v, e)) {
		shared_release(&v->pub.shared);
		return false;
	}
	v->pub.version = 1;
	publish(r, v);
	return registry_db_load_seen(&r->tables, v, e);
}

bool registry_open(const struct registry_config *c, struct registry **out, struct err *e)
{
	struct registry *r = mem_zero(c->alloc, sizeof(*r));

	if (!r)
		return err_set(e, ERR_NOMEM, "no memory for the registry");
	r->alloc = c->alloc;
	r->slot = c->slot;
	r->require = c->require;
	r->max = c->max && c->max < REGISTRY_MAX ? c->max : REGISTRY_MAX;
	r->trust_domain = str_first(c->trust_domain, sizeof(r->trust_domain_text));
	if (r->trust_domain.n)
		memcpy(r->trust_domain_text, r->trust_domain.p, r->trust_domain.n);
	r->trust_domain.p = r->trust_domain_text;
	if (!open_into(r, c, e)) {
		registry_close(r);
		return false;
	}
	*out = r;
	return true;
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	registry_abort(r);
	registry_db_close(&r->tables);
	if (r->current)
		shared_release(&r->current->pub.shared);
	mem_free(r->alloc, r, sizeof(*r));
}

/* --- the rules of each change --- */

static bool fail_state(const struct registry_entry *old, const char *what, struct err *e)
{
	const char *state = registry_state_name(old->stored);

	if (strcmp(state, what) == 0)
		return err_code(e, ERR_CONFLICT, "bad_state", "%.*s is %s already",
				STR_FMT(str_first(old->id, 250)), state);
	return err_code(e, ERR_CONFLICT, "bad_state", "%.*s is %s and cannot be %s",
			STR_FMT(str_first(old->id, 250)), state, what);
}

static bool check_register(const struct registry *r, const struct registry_entry *old,
			   struct err *e)
{
	const struct view *v = r->next ? r->next : r->current;

	if (old && old->stored == ENTRY_RETIRED)
		return err_code(e, ERR_CONFLICT, "id_retired",
				"%.*s was retired; an ID is never given out again, since records "
				"name it: choose another",
				STR_FMT(str_first(old->id, 250)));
	if (old)
		return err_code(
			e, ERR_CONFLICT, "already_registered",
			"%.*s is registered already (revision %llu); use update to change it",
			STR_FMT(str_first(old->id, 250)), (unsigned long long)old->revision);
	if (v->pub.n >= r->max)
		return err_code(e, ERR_TOO_LARGE, "registry_full",
				"the registry is full: %zu entries, retired ones included; raise "
				"registry.max_entries",
				r->max);
	return true;
}

static bool check_existing(const struct registry_change *c, const struct registry_entry *old,
			   struct err *e)
{
	if (!old) {
		err_code(e, ERR_NOT_FOUND, "unknown_agent", "%.*s is not registered",
			 STR_FMT(str_first(c->spec.id, 250)));
		return false;
	}
	if (c->if_revision && c->if_revision != old->revision)
		return err_code(e, ERR_CONFLICT, "revision_conflict",
				"%.*s has revision %llu by now, not %llu; look at it again, then "
				"change it",
				STR_FMT(str_first(old->id, 250)), (unsigned long long)old->revision,
				(unsigned long long)c->if_revision);
	switch (c->verb) {
	case REGISTRY_UPDATE:
		return old->stored != ENTRY_RETIRED || fail_state(old, "changed", e);
	case REGISTRY_SUSPEND:
		return old->stored == ENTRY_ACTIVE || fail_state(old, "suspended", e);
	case REGISTRY_RESUME:
		return old->stored == ENTRY_SUSPENDED || fail_state(old, "resumed", e);
	case REGISTRY_RETIRE:
		return old->stored != ENTRY_RETIRED || fail_state(old, "retired", e);
	case REGISTRY_REGISTER:
		break;
	}
	return err_set(e, ERR_INTERNAL, "unknown change %d of the registry", (int)c->verb);
}

static bool check_notes(const struct registry_change *c, struct err *e)
{
	if (c->by.n > SPIFFE_ID_MAX || !text_is_utf8(c->by) || c->reason.n > REGISTRY_REASON ||
	    !text_is_utf8(c->reason) || !text_is_printable(c->reason))
		return err_code(e, ERR_INVALID, "invalid_agent",
				"the reason must be one line of UTF-8 text, at most %d bytes",
				REGISTRY_REASON);
	return true;
}

static bool check_required(const struct registry *r, const struct registry_spec *s, struct err *e)
{
	if ((r->require & REGISTRY_REQUIRE_PURPOSE) && !s->purpose.n)
		return err_code(e, ERR_INVALID, "invalid_agent",
				"an agent needs a purpose here (setting registry.require): say in "
				"one line what it is for");
	if ((r->require & REGISTRY_REQUIRE_EXPIRES) && !s->expires_ms)
		return err_code(e, ERR_INVALID, "invalid_agent",
				"a registration must end some day here (setting "
				"registry.require): say when it expires");
	return true;
}

/* Two templates for one ID would let the holder of the one proof take the name of the other. */
static bool check_template(const struct registry *r, const struct registry_entry *next,
			   struct err *e)
{
	const struct registry_entry *other = view_overlap(r->next ? r->next : r->current, next);

	return !other ||
	       err_code(e, ERR_CONFLICT, "template_overlap",
			"%.*s could give the same IDs as %.*s; let them differ in a "
			"segment that is fixed in both",
			STR_FMT(str_first(next->id, 150)), STR_FMT(str_first(other->id, 150)));
}

/* May this be done, and what is the entry then? @next borrows from @c and @old. */
static bool plan(const struct registry *r, const struct registry_change *c,
		 const struct registry_entry *old, struct registry_entry *next, struct err *e)
{
	const enum registry_verb verb = c->verb;
	bool whole = verb == REGISTRY_REGISTER || verb == REGISTRY_UPDATE;
	struct registry_spec s;

	if (!check_notes(c, e) || (whole && (!registry_check_spec(&c->spec, r->trust_domain, e) ||
					     !check_required(r, &c->spec, e))))
		return false;
	if (verb == REGISTRY_REGISTER ? !check_register(r, old, e) : !check_existing(c, old, e))
		return false;
	assert(old || verb == REGISTRY_REGISTER);
	s = whole ? c->spec : registry_spec_of(old);
	if (whole && !c->as_it_was && s.expires_ms && s.expires_ms <= c->now_ms &&
	    !(old && old->expires_ms == s.expires_ms))
		return err_code(e, ERR_INVALID, "invalid_agent",
				"the moment of expiry has passed already; name one to come, or "
				"suspend the agent");
	*next = (struct registry_entry){
		.id = s.id,
		.owner = s.owner,
		.purpose = s.purpose,
		.definition = old ? old->definition : s.definition,
		.template = memchr(s.id.p, '{', s.id.n) != NULL,
		.attributes = s.attributes,
		.nattributes = s.nattributes,
		.selectors = s.selectors,
		.nselectors = s.nselectors,
		.x509_ttl_s = s.x509_ttl_s,
		.jwt_ttl_s = s.jwt_ttl_s,
		.expires_ms = s.expires_ms,
		.federates = s.federates,
		.stored = verb == REGISTRY_SUSPEND  ? ENTRY_SUSPENDED
			  : verb == REGISTRY_RETIRE ? ENTRY_RETIRED
			  : verb == REGISTRY_UPDATE ? old->stored
						    : ENTRY_ACTIVE,
		.created_ms = old ? old->created_ms : c->now_ms,
		.updated_ms = c->now_ms,
		.revision = old ? old->revision + 1 : 1,
	};
	return !next->template || verb != REGISTRY_REGISTER || check_template(r, next, e);
}

/* --- preparing and committing --- */

static bool begin(struct registry *r, struct err *e)
{
	if (r->next)
		return true;
	r->next = view_copy(r->current);
	if (!r->next)
		return err_set(e, ERR_NOMEM, "no memory for a change of the registry");
	if (db_begin(r->tables.db, &r->tx, e))
		return true;
	registry_abort(r);
	return false;
}

bool registry_prepare(struct registry *r, const struct registry_change *c, struct err *e)
{
	const struct box *old = view_find(r->next ? r->next : r->current, c->spec.id);
	bool first = !r->next;
	struct registry_entry next;
	struct box *b;

	if (!plan(r, c, old ? &old->entry : NULL, &next, e))
		return false;
	b = box_new(r->alloc, &next, old ? old->row : 0);
	if (!b)
		return err_set(e, ERR_NOMEM, "no memory for a change of the registry");
	if (!begin(r, e)) {
		box_release(b);
		return false;
	}
	if (!view_put(r->next, b)) { /* nothing of this change was done yet */
		box_release(b);
		if (first)
			registry_abort(r);
		return err_set(e, ERR_NOMEM, "no memory for a change of the registry");
	}
	if (!registry_db_write(&r->tables, &b->entry, c, &b->row, e)) {
		registry_abort(r);
		return false;
	}
	return true;
}

const struct registry_entry *registry_prepared(const struct registry *r, struct str id)
{
	return registry_look(r->next ? &r->next->pub : &r->current->pub, id);
}

bool registry_commit(struct registry *r, struct err *e)
{
	struct view *v = r->next;

	if (!v)
		return true;
	if (!db_commit(&r->tx, e)) {
		registry_abort(r);
		return false;
	}
	v->pub.version++;
	r->next = NULL;
	publish(r, v);
	return true;
}

void registry_abort(struct registry *r)
{
	db_rollback(&r->tx);
	if (r->next)
		shared_release(&r->next->pub.shared);
	r->next = NULL;
}

bool registry_apply(struct registry *r, const struct registry_change *c, struct err *e)
{
	return registry_prepare(r, c, e) && registry_commit(r, e);
}
