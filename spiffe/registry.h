/*
 * registry - the registered agents: who exists, who answers for them, what they may present.
 *
 * Purpose    Every entry is a SPIFFE ID with an owner, flat attributes that policies trust, the
 *            selectors by which the Workload API knows its process, lifetimes and a state. Each
 *            change is a new revision in writ.db; nothing is overwritten, and an ID once retired is
 *            never given out again (an old record must not come to mean a new agent).
 * Ownership  A registry owns its statements and borrows the db. A view is shared (struct shared at
 *            the head); an entry lives as long as a view that holds it.
 * Threads    Changes: the control thread alone. Views: any thread, through the slot. A change
 *            rebuilds one of REGISTRY_SHARDS parts of the view, so it costs the same with ten
 *            agents and with a hundred thousand.
 *
 * A change is prepared (checked, written into an open transaction, the next view built) and then
 * committed. What grants (register, resume, update) is put on record between the two; what takes
 * away (suspend, retire) is committed first and recorded then: at every crash point the log knows
 * of each grant and no revoked right survives.
 */
#ifndef WRIT_SPIFFE_REGISTRY_H
#define WRIT_SPIFFE_REGISTRY_H

#include <stdatomic.h>
#include <stdint.h>

#include "authz/base/arena.h"
#include "authz/base/buf.h"
#include "authz/base/mem.h"
#include "authz/base/snapshot.h"
#include "authz/store/db.h"
#include "include/writ/err.h"

#define REGISTRY_SHARDS 1024
#define REGISTRY_MAX 1000000   /* entries */
#define REGISTRY_ATTRIBUTES 64 /* per entry */
#define REGISTRY_SELECTORS 32  /* per entry */
#define REGISTRY_NAME 64       /* bytes of an attribute's name */
#define REGISTRY_VALUE 1024    /* bytes of an attribute's or selector's value */
#define REGISTRY_OWNER 256     /* bytes */
#define REGISTRY_PURPOSE 1024  /* bytes */
#define REGISTRY_TEMPLATES 256 /* that are not retired */
#define REGISTRY_REASON 1024   /* bytes of why a change was made */
#define REGISTRY_FEDERATES 64  /* trust domains of federates_with */
#define REGISTRY_X509_TTL 3600 /* seconds, unless the entry says otherwise */
#define REGISTRY_JWT_TTL 300
#define REGISTRY_X509_TTL_MAX 86400 /* what the signer signs: more would be cut in silence */
#define REGISTRY_JWT_TTL_MAX 3600

struct registry_attribute {
	struct str name, value;
};
struct registry_selector { /* "unix:uid:1000": type "unix", value "uid:1000" */
	struct str type, value;
};

enum registry_state {
	ENTRY_ACTIVE,
	ENTRY_SUSPENDED,
	ENTRY_RETIRED, /* for good */
	ENTRY_EXPIRED, /* never stored: what registry_state says of an active entry past its time */
};

struct registry_entry {
	struct str id, owner;
	struct str purpose;    /* what it is for; may be empty */
	struct str definition; /* the template that this agent is an instance of, or empty */
	struct str federates;  /* whose bundles it sees: registry_federates */
	bool template;	       /* the ID is a pattern (registry_template.h): nobody's identity */
	const struct registry_attribute *attributes; /* sorted by name, no name twice */
	size_t nattributes;
	const struct registry_selector *selectors; /* sorted, none twice */
	size_t nselectors;
	int64_t x509_ttl_s, jwt_ttl_s; /* 0: the server's default */
	int64_t expires_ms;	       /* 0: never */
	enum registry_state stored;    /* see registry_state() */
	int64_t created_ms, updated_ms;
	uint64_t revision;	      /* 1 when registered */
	atomic_int_fast64_t *seen_ms; /* private, NULL outside of views; see registry_seen_ms */
};

/* --- looking up: any thread --- */

struct registry_view {
	struct shared shared;
	uint64_t version; /* grows with every commit */
	size_t n;	  /* entries, retired ones included */
			  /* the rest is private */
};

/* The entry of @id, or NULL. IDs are compared byte for byte. A template is nobody: NULL. */
const struct registry_entry *registry_find(const struct registry_view *v, struct str id);
/* The same, templates included: for operators. */
const struct registry_entry *registry_look(const struct registry_view *v, struct str id);

/* The state at a moment: an active entry past its time is expired. */
enum registry_state registry_state(const struct registry_entry *entry, int64_t now_ms);
const char *registry_state_name(enum registry_state s); /* "active" ... */
bool registry_state_named(struct str name, enum registry_state *out);

/* {"team":"finance",...}, in order of name. */
void registry_write_attributes(struct buf *b, const struct registry_entry *entry);

const struct registry_attribute *registry_attribute(const struct registry_entry *entry,
						    struct str name);

/* The agent showed itself: it proved its SVID, asked, or was asked about. Kept to the minute. From
 * any thread; touches shared memory at most once a minute. */
static inline void registry_note_seen(const struct registry_entry *entry, int64_t now_ms)
{
	if (entry->seen_ms &&
	    now_ms - atomic_load_explicit(entry->seen_ms, memory_order_relaxed) >= 60000)
		atomic_store_explicit(entry->seen_ms, now_ms, memory_order_relaxed);
}
/* When that was; 0: never. */
static inline int64_t registry_seen_ms(const struct registry_entry *entry)
{
	return entry->seen_ms ? atomic_load_explicit(entry->seen_ms, memory_order_relaxed) : 0;
}

/* Why an entry looks like nobody's, if it does: "expired"; "owner_gone": its owner is a SPIFFE ID
 * of which no active agent is; "never_seen", "not_seen": not within the last @after_ms. NULL: it
 * does not; retired ones never do, suspended ones and templates are not expected to be seen. */
const char *registry_orphan(const struct registry_view *v, const struct registry_entry *entry,
			    int64_t now_ms, int64_t after_ms);

/* One page of entries in order of ID, templates included. */
struct registry_filter {
	struct str after;	/* only IDs after this one; empty: from the start */
	struct str prefix;	/* of the ID; empty: all */
	struct str owner;	/* empty: all */
	struct str name, value; /* an attribute and its value; empty name: all */
	bool by_state;
	enum registry_state state; /* with by_state; at now_ms */
	int64_t orphan_ms;	   /* only orphans after so long; 0: all */
	int64_t now_ms;
};
/* Fill @out with at most @max entries; returns how many. Walks all entries: for operators. */
size_t registry_list(const struct registry_view *v, const struct registry_filter *f,
		     const struct registry_entry **out, size_t max);

/* Fill @out with at most @max entries that are active at @now_ms and come behind the ID @after
 * (empty: from the start); fewer means: that was the end. The order is nobody's but its own: an ID
 * keeps its place for the life of the process, whatever else comes and goes. The work is bounded by
 * @max and the size of a shard, not by the registry: for front loops. */
size_t registry_scan(const struct registry_view *v, struct str after, int64_t now_ms,
		     const struct registry_entry **out, size_t max);

/* The active entries whose selectors are all among the @n attested ones, in order of ID; at most
 * @max are given. An entry without selectors matches nobody. */
size_t registry_match(const struct registry_view *v, const struct registry_selector *attested,
		      size_t n, int64_t now_ms, const struct registry_entry **out, size_t max);
/* The same for templates, which registry_match leaves out. */
size_t registry_match_templates(const struct registry_view *v,
				const struct registry_selector *attested, size_t n, int64_t now_ms,
				const struct registry_entry **out, size_t max);

/* What differs between a view and a later one: the entry as it was (NULL: it is new) and as it is.
 * At most @max are given; returns how many there are, or max + 1 for more than that. Costs what has
 * changed, not what is there. */
struct registry_changed {
	const struct registry_entry *was, *is;
};
size_t registry_changes(const struct registry_view *old, const struct registry_view *new,
			struct registry_changed *out, size_t max);

/* Are all selectors of @entry among the @n attested ones? Without selectors: nobody's. */
bool registry_holds(const struct registry_selector *attested, size_t n,
		    const struct registry_entry *entry);

/* --- changing: the control thread --- */

enum registry_verb {
	REGISTRY_REGISTER,
	REGISTRY_UPDATE,
	REGISTRY_SUSPEND,
	REGISTRY_RESUME,
	REGISTRY_RETIRE,
};

/* What an admin says of an entry. An update replaces all of it: start from registry_spec_of. */
struct registry_spec {
	struct str id, owner, purpose;
	struct str definition; /* of an instance: its template; only when it is registered */
	const struct registry_attribute *attributes; /* any order */
	size_t nattributes;
	const struct registry_selector *selectors;
	size_t nselectors;
	int64_t x509_ttl_s, jwt_ttl_s, expires_ms;
	struct str federates; /* from registry_federates_list; empty: all */
};

struct registry_change {
	enum registry_verb verb;
	struct registry_spec spec; /* the id; the rest for register and update */
	uint64_t if_revision;	   /* refuse unless this is the current one; 0: whichever it is */
	struct str by;		   /* who: for the history */
	struct str reason;	   /* why; may be empty */
	int64_t now_ms;
	bool as_it_was; /* read back from an export: what has expired may be registered as such */
};

struct registry;

/* What every entry must say beyond its ID and owner, if an administrator wants it so. Entries that
 * were registered before keep what they have until they are updated. */
enum registry_require {
	REGISTRY_REQUIRE_PURPOSE = 1,
	REGISTRY_REQUIRE_EXPIRES = 2,
};

struct registry_config {
	struct db *db;		   /* writ.db; the registry makes its tables */
	struct str trust_domain;   /* ours: /writ/ below it is reserved */
	struct slot *slot;	   /* where views are published */
	unsigned require;	   /* sum of enum registry_require */
	size_t max;		   /* entries, retired ones included; 0: REGISTRY_MAX */
	const struct alloc *alloc; /* of entries and views */
};

/* Load everything and publish the first view. */
MUST_USE bool registry_open(const struct registry_config *c, struct registry **out, struct err *e);
void registry_close(struct registry *r);

/* Check @c, write it into the open transaction (opening one if there is none) and into the view to
 * come. Several changes may be prepared for one commit; one that is refused leaves the others as
 * they are, but a failing store gives up all of them. Codes: already_registered, id_retired,
 * unknown_agent, revision_conflict, bad_state, reserved_path, invalid_spiffe_id, invalid_agent,
 * template_overlap, registry_full.
 * Single statements of others on the same db (tokens_revoke of a retired agent) join the open
 * transaction; other transactions must wait until the commit. */
MUST_USE bool registry_prepare(struct registry *r, const struct registry_change *c, struct err *e);

/* An entry as it will be after the commit: for the record of a grant. */
const struct registry_entry *registry_prepared(const struct registry *r, struct str id);

/* Commit and publish. On failure nothing was changed. */
MUST_USE bool registry_commit(struct registry *r, struct err *e);
void registry_abort(struct registry *r); /* nothing prepared: nothing happens */

/* Prepare and commit one change. */
MUST_USE bool registry_apply(struct registry *r, const struct registry_change *c, struct err *e);

/* Write down when agents were last seen, where that moved by an hour or more. Not between prepare
 * and commit. What was not written is forgotten at a restart. */
MUST_USE bool registry_keep_seen(struct registry *r, struct err *e);

/* Past revisions, newest first. The texts live until @each returns. */
struct registry_revision {
	struct registry_entry entry; /* as it was from updated_ms on */
	enum registry_verb verb;
	struct str by, reason;
};
MUST_USE bool registry_history(struct registry *r, struct str id, size_t max,
			       void (*each)(void *ctx, const struct registry_revision *rev),
			       void *ctx, struct err *e);

const char *registry_verb_name(enum registry_verb v);

/* --- specs from text, for command line, JSON and import files --- */

/* Everything an existing entry says, borrowed: the start of an update. */
struct registry_spec registry_spec_of(const struct registry_entry *entry);

/* "unix:uid:1000". Splits at the first ':' only. */
MUST_USE bool registry_parse_selector(struct str text, struct registry_selector *out,
				      struct err *e);
/* Check a spec without a registry (dry run, import files): the same rules as prepare. */
MUST_USE bool registry_check_spec(const struct registry_spec *s, struct str trust_domain,
				  struct err *e);

/* --- federates_with: the foreign trust domains whose bundles an entry's workloads see --- */

struct bundle_set;

/* Is @trust_domain, not our own, one of those that @list (of an entry or a spec) names? */
bool registry_federates(struct str list, struct str trust_domain);
/* @n names ("example.org" or "spiffe://example.org"), in @a, as a spec keeps them; n == 0: none. */
MUST_USE bool registry_federates_list(const struct str *names, size_t n, struct arena *a,
				      struct str *out, struct err *e);
/* Is it one that registry_federates_list has made, and names our own domain nowhere? */
MUST_USE bool registry_federates_check(struct str list, struct str own, struct err *e);
/* Is there a bundle of each? ERR_INVALID, unknown_trust_domain. */
MUST_USE bool registry_federates_known(struct str list, const struct bundle_set *bundles,
				       struct err *e);
/* ["a.example",...]; not for an empty list, which is all. */
void registry_write_federates(struct buf *b, struct str list);

#define AUTO_REGISTRY_VIEW \
	__attribute__((cleanup(registry_view_release))) const struct registry_view
static inline void registry_view_release(const struct registry_view **v)
{
	union {
		const struct registry_view *in;
		struct registry_view *out;
	} view = { *v };

	shared_release(view.out ? &view.out->shared : NULL);
}

#endif
