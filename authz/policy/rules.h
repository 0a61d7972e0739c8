/*
 * rules - the words policy, permit, deny, ask, tool and model.
 *
 * Purpose    A rule file is run twice: once to load the set, when what it states is checked and
 *            copied into C; and once in each state, when only the `when` functions are taken.
 *            Both go through the same words; the job at hand tells them apart.
 * Ownership  What is stated lives in the set's arena.
 * Threads    As the state.
 */
#ifndef WRIT_POLICY_RULES_H
#define WRIT_POLICY_RULES_H

#include "authz/policy/findings.h"
#include "authz/policy/prelude.h"
#include "authz/policy/set.h"

/* Something that was begun (permit "x") and must be finished and used. */
struct pending {
	const char *word;
	struct str name;
	int line;
	bool built, placed; /* got its table; stands in a policy */
};

/* What running one file is for. */
struct job {
	enum { JOB_LOAD, JOB_BIND } kind;
	struct set *set;
	uint32_t file;
	/* JOB_LOAD */
	struct policy_findings *findings;
	bool lint; /* look at tests, too */
	bool out_of_memory;
	struct pending *pending;
	uint32_t npending, room_pending;
	uint32_t room_rules, room_tools, room_models, room_declared, room_pins;
	/* JOB_BIND */
	int line;  /* of the rule whose function is frozen */
	int whens; /* where in the registry the functions are, by number of rule */
};

/* Words for each kind of file. */
extern const struct prelude_word rules_words[], catalogue_words[];
extern const char *const rules_word_names[], *const catalogue_word_names[];

/* After a file ran: what was begun and never used. */
void rules_check_pending(struct job *j);

/* Complain about the file at hand. */
#define job_error(j, line, ...) \
	finding((j)->findings, true, (j)->set->files[(j)->file].path, line, __VA_ARGS__)
#define job_warn(j, line, ...) \
	finding((j)->findings, false, (j)->set->files[(j)->file].path, line, __VA_ARGS__)

/* Shared by the words: the line of the caller, and "begun" entries. */
int job_line(lua_State *L);
struct job *job_of(lua_State *L);
uint32_t job_begin(struct job *j, const char *word, struct str name, int line);

/* Read a rule's table (at @index) into @r; complaints become findings. */
void rule_read(lua_State *L, struct job *j, int index, struct rule *r);
/* Complain about what no PEP could carry out in the obligations of @r, a list of objects. */
void obligations_check(struct job *j, const struct rule *r, const struct json *list);
/* The `on` of it. */
void on_read(lua_State *L, struct job *j, int index, struct rule *r);

/* Add the tool or model @id from its table. */
void catalogue_read(lua_State *L, struct job *j, int index, struct str id, int line, bool tool);
/* Sort, refuse duplicates; then check what rules name against it. */
void catalogue_finish(struct job *j);

/* pins.c: the definition of @tool is pinned by @v, "sha256:<hex>" or a table of digest and
 * definition. */
void pin_read(struct job *j, struct str tool, const struct json *v, int line);
/* pins "SERVER" { TOOL = "sha256:<hex>", ... } */
int word_pins(lua_State *L);
/* Sort, refuse duplicates, and tell the tools of the catalogue, which is finished. */
void pins_finish(struct job *j);
void catalogue_check_rules(struct job *j);
/* Is @name an attribute of any tool (or model)? If not and @near, the nearest one's text. */
bool catalogue_knows(const struct catalogue *c, struct str name);
const char *catalogue_near(const struct catalogue *c, struct str name, struct arena *a);

/* attributes { team = "string", tier = { "gold", "silver" } }: what agents may be registered with.
 * Where anything is declared, rules that name something else are warned of. */
int word_attributes(lua_State *L);
void declared_check(struct job *j, struct str name, int line, const struct condition *c);

/* Make room for one more in an array that lives in an arena. */
bool job_room(struct job *j, void **items, uint32_t n, uint32_t *room, size_t size);

/* Sort rules into the order of evaluation and refuse duplicates. */
void rules_finish(struct job *j);
/* The number of the rule policy/name, or -1. */
int64_t rules_find(const struct set *s, struct str policy, struct str name);

#endif
