/*
 * policy - decide one request by the rules of a policy set.
 *
 * Purpose    A policy set is everything the policies folder holds, loaded as a whole: rules
 *            indexed by their `on`, the catalogue of tools and models, compiled Lua. It is
 *            immutable and shared. A policy state is one thread's Lua state for one set: it
 *            evaluates within a budget, and makes its Lua anew after a trip of it.
 * Ownership  policy_set_* return a reference (struct shared at the head). A state holds a
 *            reference to its set. Results live in the caller's arena.
 * Threads    A set: any. A state: its owner only.
 */
#ifndef WRIT_POLICY_POLICY_H
#define WRIT_POLICY_POLICY_H

#include "authz/base/arena.h"
#include "authz/base/clock.h"
#include "authz/base/json.h"
#include "authz/base/snapshot.h"
#include "include/writ/err.h"
#include "include/writ/words.h"

/* One file of a set: path relative to the folder ("finance.lua", "catalogue/tools.lua"). */
struct policy_file {
	struct str path, text;
};

/* The signature of a set, beside its rules: no part of it, and not looked at here. */
#define POLICY_SIGNATURE_FILE "policies.sig"
#define POLICY_SIGNATURE_MAX (16 * 1024) /* bytes */

/* The sources of a set, in order of path, with their hash (design 12, Generations: SHA-256 of
 * the sorted list of path and SHA-256 of every file, tests included). */
struct policy_sources {
	struct policy_file *files;
	size_t n;
	uint8_t hash[32];
	/* Of a stored generation: the zone files it was loaded with (path: the zone's name). It is
	 * loaded with these again, and reads others only for a zone that the text demands. */
	struct policy_file *zones;
	size_t nzones;
	bool stored;
	struct str signature; /* text of POLICY_SIGNATURE_FILE; not in the hash; empty: none */
	struct arena arena;   /* holds the above */
};

/* Read *.lua below @dir (bounded in files, bytes and depth; no symbolic links out of it). */
MUST_USE bool policy_sources_read(struct policy_sources *s, const char *dir, struct err *e);
/* Build from memory, for stored generations and tests. Copies the texts. */
MUST_USE bool policy_sources_from(struct policy_sources *s, const struct policy_file *files,
				  size_t n, struct err *e);
void policy_sources_clear(struct policy_sources *s);

/* What `check` has to say: errors stop a load, warnings do not. */
struct policy_finding {
	bool error;
	struct str file;
	int line, column;   /* from 1; 0: the whole file */
	const char *code;   /* [a-z-], static: what kind of mistake; programs compare it */
	struct str message; /* what is wrong, what was expected, how to mend it */
};
struct policy_findings {
	struct policy_finding *items;
	size_t n, errors;
	const char *code; /* of the findings that come next */
	struct arena arena;
};
void policy_findings_clear(struct policy_findings *f);

/* The budget of one evaluation (design 12, Rules). */
struct policy_limits {
	uint32_t instructions; /* 200,000 */
	uint32_t wall_ms;      /* 5 */
	size_t memory;	       /* 1 MiB; 16 x body is added per request */
};
extern const struct policy_limits policy_default_limits;

/* The head of a set; what follows it is private to authz/policy. */
struct policy_set {
	struct shared shared;
	uint64_t generation; /* set by the caller before it is published */
	uint8_t hash[32];
};

/* Load and check. Without errors *out is the set; else it is untouched, @e names the first
 * error and @findings (may be NULL) has them all. */
MUST_USE bool policy_set_load(const struct policy_sources *s, const struct policy_limits *limits,
			      struct policy_set **out, struct policy_findings *findings,
			      struct err *e);

/* The same with everything that a host may want to say. Zero means the default. */
struct policy_options {
	struct policy_limits limits;
	const struct alloc *alloc;	 /* mem_system; outlives the set */
	const char *zoneinfo;		 /* folder of TZif files, "/usr/share/zoneinfo" */
	const struct policy_file *zones; /* stored zone files (path: zone name), used before */
	size_t nzones;			 /* the folder is, so an old generation stays the same */
	bool lint;			 /* look for what works and is hardly meant, too */
};
MUST_USE bool policy_set_load_with(const struct policy_sources *s, const struct policy_options *o,
				   struct policy_set **out, struct policy_findings *findings,
				   struct err *e);

/* The time zones that the set read, with the bytes of their files: store them with the sources
 * of a generation, or a later tzdata changes what it decides. Borrowed from the set. */
const struct policy_file *policy_set_zones(const struct policy_set *s, size_t *n);

/* Rules, for `policy list`: calls @each with policy, rule, effect ("permit"...), file, line and
 * a one-line text of `on`. */
void policy_set_rules(const struct policy_set *s,
		      void (*each)(void *ctx, struct str policy, struct str rule,
				   const char *effect, struct str file, int line, struct str on),
		      void *ctx);
size_t policy_set_rule_count(const struct policy_set *s);

/* What searches enumerate: ids of the catalogue, action names that some rule's `on` speaks of (and
 * those by which tools are called and models invoked). In order, none twice; at most @max of those
 * after @after (empty: from the start). The names are borrowed from the set. */
enum policy_names { POLICY_TOOLS, POLICY_MODELS, POLICY_ACTIONS };
size_t policy_set_names(const struct policy_set *s, enum policy_names which, struct str after,
			struct str *out, size_t max);
/* Is @id a tool (or model) of the catalogue? */
bool policy_set_knows(const struct policy_set *s, enum policy_names which, struct str id);

/* What a tool's definition was when somebody reviewed it (definition.h). Borrowed from the set. */
struct policy_pin {
	struct str tool;       /* SERVER/TOOL */
	struct str digest;     /* "sha256:<hex>" */
	struct str definition; /* canonical JSON; empty: the catalogue has its digest only */
	struct str file;       /* where it stands */
	int line;
};
/* In order of tool. Those of tools that are not in the catalogue are among them. */
const struct policy_pin *policy_set_pins(const struct policy_set *s, size_t *n);
/* That of @tool, or NULL. */
const struct policy_pin *policy_set_pin(const struct policy_set *s, struct str tool);

/* What is known of a tool's definition besides. Digests are "sha256:<hex>", or empty. */
struct policy_definition {
	struct str tool;     /* SERVER/TOOL */
	struct str observed; /* as its server listed it last */
	struct str pinned;   /* the pin that the next two are about */
	struct str accepted; /* holds as well as that pin */
	struct str changes;  /* what of it is not as it was pinned, for a model to read; or empty */
};
/* Is @digest the pinned one, or the one that was accepted in place of this very pin? @d may be
 * NULL: nothing is known. */
bool policy_definition_holds(const struct policy_pin *pin, const struct policy_definition *d,
			     struct str digest);

/* Append it as a member of the opening `facts`, with the comma behind it. */
void policy_definition_write(struct buf *b, const struct policy_definition *d);

/* A trusted fact about the registered agent. The names id, owner and state are writ's. */
struct policy_attribute {
	struct str name, value;
};

/* On whose behalf an agent acts, as a verified token says it, never a PEP. */
struct policy_delegation {
	struct str user, user_issuer; /* p == NULL: nobody's, an agent began by itself */
	struct str scope;	      /* what the token is good for: names with one blank between */
	const struct str *chain;      /* SPIFFE IDs, in the order in which they came to act */
	size_t nchain;
};

struct policy_request {
	const struct json *subject, *action, *resource; /* as sent: objects */
	const struct json *context;			/* an object, or NULL if absent */
	const struct json *http; /* an object: the HTTP request that a proxy asks about; or NULL */
	struct str pep;		 /* SPIFFE ID or other name of who asks */
	struct str server; /* of the caller or route: stands before a tool's bare name; or empty */
	/* The registered agent; id.p == NULL: none, q.agent is empty. */
	struct str agent_id, agent_owner, agent_state;
	const struct policy_attribute *attributes; /* sorted by name */
	size_t nattributes;
	const struct policy_definition *definitions; /* sorted by tool */
	size_t ndefinitions;
	const struct policy_delegation *delegation; /* NULL: q.user and q.chain are empty */
	int64_t now_ms;
};

struct policy_result {
	enum decision decision;
	struct str reason;	/* stable code */
	struct str message;	/* one sentence for the agent; may be empty */
	struct str rule;	/* "policy/rule" that decided; may be empty */
	struct str obligations; /* canonical JSON array; empty if none */
	struct str approvers;	/* of an ask: canonical JSON array of names; empty if none */
	struct str error;	/* for records and admins: file, line, what; empty if none */
	/* Catalogue names for the record; empty if not in the catalogue. */
	struct str tool, model;
	const struct policy_definition *definition; /* that was looked at: one of the request's */
	uint32_t instructions; /* spent, in steps of the hook; work of C functions counts */
};

struct policy_state;

struct policy_state *policy_state_new(struct policy_set *set, const struct alloc *alloc,
				      const struct clock *clock, struct err *e);
void policy_state_free(struct policy_state *st);

/* Decide. Never fails: whatever goes wrong is a deny with its reason (policy_error,
 * policy_budget). After a trip the state rebuilds itself before the next evaluation. */
void policy_evaluate(struct policy_state *st, const struct policy_request *q, struct arena *a,
		     struct policy_result *out);

#endif
