/*
 * set - what a loaded policy set holds; private to authz/policy.
 *
 * Purpose    The facts that loading finds out once and that every state shares: files as compiled
 *            dumps, rules in the order of evaluation, the index, the catalogue, zones.
 * Ownership  One arena per set holds all of it. A state keeps a reference to the set.
 * Threads    Immutable once policy_set_load returned it.
 */
#ifndef WRIT_POLICY_SET_H
#define WRIT_POLICY_SET_H

#include "authz/policy/policy.h"
#include "authz/policy/tz.h"

enum file_kind { FILE_RULES, FILE_CATALOGUE, FILE_TEST };

struct source_file {
	struct str path, text; /* text: only while loading */
	enum file_kind kind;
	struct str dump;   /* lua_dump with line numbers, rules only */
	uint32_t first, n; /* its rules, in set->file_rules */
};

/* What a condition in `on` looks at. */
enum dim {
	DIM_ACTION,   /* action.name */
	DIM_RESOURCE, /* resource.type */
	DIM_ID,	      /* resource.id */
	DIM_SUBJECT,  /* pattern over the registered agent's SPIFFE ID */
	DIM_AGENT,    /* attribute of the registered agent */
	DIM_TOOL,     /* attribute of the tool in the catalogue; "id" and "effect" among them */
	DIM_MODEL,    /* the same of a model */
};

struct condition {
	enum dim dim;
	struct str name;	   /* of the attribute */
	const struct json *values; /* scalars: one of them must be met */
	uint32_t n;
};

struct rule {
	struct str policy, name, full; /* "finance", "payments", "finance/payments" */
	enum decision effect;
	uint32_t file; /* in set->files */
	int line;
	bool has_when;
	int when_line;			   /* where the function begins; 0: no `when` */
	struct str reason;		   /* never empty */
	struct str message;		   /* may be empty */
	struct str obligations, approvers; /* canonical JSON; may be empty */
	struct str on_text;		   /* for people */
	struct condition *on;
	uint32_t non;
};

enum arg_type {
	ARG_STRING,
	ARG_NUMBER,
	ARG_INTEGER,
	ARG_BOOLEAN,
	ARG_OBJECT,
	ARG_ARRAY,
	ARG_ANY,
};
struct arg {
	struct str name;
	enum arg_type type;
	bool optional;
};

/* A tool or a model. */
struct entry {
	struct str id;
	const struct json *attributes; /* an object; has "id" */
	bool has_args;
	struct arg *args; /* sorted by name */
	uint32_t nargs;
	const struct policy_pin *pin; /* of a tool's definition; NULL: none */
	uint32_t file;
	int line;
};
struct catalogue {
	struct entry *items; /* sorted by id */
	uint32_t n;
	uint32_t *places,
		mask; /* by hash of the id: number of the entry + 1, or 0; at most half full */
};

struct zone {
	struct policy_file file; /* name and bytes */
	struct tz tz;
};

struct set {
	struct policy_set pub; /* first: the pointer is the same */
	const struct alloc *alloc;
	struct arena arena;
	struct policy_limits limits;
	struct source_file *files;
	uint32_t nfiles;
	struct rule *rules; /* deny, ask, permit; within each by policy and name */
	uint32_t nrules;
	const struct rule **by_name; /* by policy and name */
	struct index *index;
	struct catalogue tools, models;
	struct policy_pin *pins; /* sorted by tool */
	uint32_t npins;
	struct json *declared; /* attributes of agents: by name, a text or a list of the values */
	uint32_t ndeclared;
	struct str *actions; /* sorted, none twice: names.c */
	uint32_t nactions;
	struct zone *zones; /* sorted by name */
	struct policy_file *zone_files;
	uint32_t nzones;
};

static inline const struct set *set_of(const struct policy_set *s)
{
	return (const struct set *)s;
}

/* What is declared of the agents' attribute @name, or NULL. writ's own count as declared. */
const struct json *declared_find(const struct set *s, struct str name);

/* The entry @id, or NULL. */
const struct entry *catalogue_find(const struct catalogue *c, struct str id);

/* Fill set->actions from the rules. False: out of memory. */
bool names_collect(struct set *s);

/* The zone @name, or NULL. */
const struct zone *set_zone(const struct set *s, struct str name);

#endif
