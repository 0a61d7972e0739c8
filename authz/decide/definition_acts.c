/* Accepting a definition that is not the pinned one, and what there is to know before. */
#include "authz/base/log.h"
#include "authz/decide/definitions.h"
#include "authz/decide/definitions_inside.h"

#define ACT_BYTES ((size_t)4 * 1024 * 1024)

static bool record_act(struct control *c, const char *act, const struct definition_row *row,
		       struct str digest, struct str by, const char *outcome, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_str(&r.job.record, STR("act"), str_c(act));
	record_str(&r.job.record, STR("digest"), digest);
	record_str(&r.job.record, STR("digest_pinned"), row->pin);
	record_str(&r.job.record, STR("kind"), STR("admin.action"));
	record_str(&r.job.record, STR("outcome"), str_c(outcome));
	record_str(&r.job.record, STR("pep"), by);
	if (strcmp(act, "tool.accept") == 0)
		record_str(&r.job.record, STR("proposed_by"), row->accepted_first);
	record_str(&r.job.record, STR("tool"), row->tool);
	return act_record_append(c, &r, e);
}

static bool unknown_pin(struct str tool, struct err *e)
{
	return err_code(e, ERR_NOT_FOUND, "unknown_pin",
			"no pin of \"%.*s\" is in force; see `writ tool list`",
			STR_FMT(str_first(tool, 200)));
}

/* May @digest be accepted at all? What stands for another pin is void. */
static bool acceptable(const struct policy_pin *pin, struct definition_row *row, bool found,
		       struct str digest, struct err *e)
{
	struct policy_definition known;

	if (!str_eq(row->pin, pin->digest)) {
		row->pin = pin->digest;
		row->proposed = row->proposed_by = row->accepted = STR("");
		row->accepted_first = row->accepted_by = STR("");
		row->proposed_ms = row->accepted_ms = 0;
	}
	known = (struct policy_definition){ .pinned = row->pin, .accepted = row->accepted };
	if (policy_definition_holds(pin, &known, digest))
		return err_code(e, ERR_CONFLICT, "nothing_to_accept",
				"that definition of \"%.*s\" is %s already",
				STR_FMT(str_first(pin->tool, 200)),
				str_eq(digest, pin->digest) ? "pinned" : "accepted");
	if (found && str_eq(row->digest, digest))
		return true;
	return err_code(e, ERR_CONFLICT, "definition_mismatch",
			"\"%.*s\" was not seen last by that digest but by %.*s; look at it again "
			"with `writ tool diff`",
			STR_FMT(str_first(pin->tool, 120)),
			STR_FMT(found ? row->digest : STR("none")));
}

/* What grants is on record first; if it then cannot be stored, that is on record, too. */
static bool grant(struct control *c, const char *act, const struct definition_row *row,
		  struct str digest, struct str by, struct err *e)
{
	struct err ignored = { 0 };

	if (!record_act(c, act, row, digest, by, "done", e))
		return false;
	if (!definition_store_put(c->definitions->store, row, e)) {
		if (!record_act(c, act, row, digest, by, "failed", &ignored))
			log_event(LOG_ERROR, "admin.unrecorded", "why=\"%s\"", ignored.msg);
		return false;
	}
	return definitions_publish(c, e) || err_prefix(e, "it is stored, and not in force yet");
}

static bool propose(struct control *c, struct definition_row *row, struct str digest, struct str by,
		    struct err *e)
{
	row->proposed = digest;
	row->proposed_by = by;
	row->proposed_ms = clock_wall_ms(c->core->clock);
	return grant(c, "tool.propose", row, digest, by, e);
}

static bool accept(struct control *c, struct definition_row *row, struct str digest, struct str by,
		   struct err *e)
{
	row->accepted = digest;
	row->accepted_first = row->proposed_by;
	row->accepted_by = by;
	row->accepted_ms = clock_wall_ms(c->core->clock);
	row->proposed = row->proposed_by = STR("");
	row->proposed_ms = 0;
	return grant(c, "tool.accept", row, digest, by, e);
}

static bool accept_for(struct control *c, const struct policy_pin *pin, struct str digest,
		       struct str by, bool *accepted, struct arena *a, struct err *e)
{
	struct definition_row row;
	bool found;

	if (!definition_store_get(c->definitions->store, pin->tool, a, &row, &found, e) ||
	    !acceptable(pin, &row, found, digest, e))
		return false;
	*accepted = str_eq(row.proposed, digest);
	if (!*accepted)
		return propose(c, &row, digest, by, e);
	if (str_eq(row.proposed_by, by))
		return err_code(e, ERR_FORBIDDEN, "second_person",
				"%.*s has proposed this definition already; another admin or "
				"approver has to accept it",
				STR_FMT(str_first(by, 200)));
	return accept(c, &row, digest, by, e);
}

bool definition_accept(struct control *c, struct str tool, struct str digest, struct str by,
		       bool *accepted, struct err *e)
{
	struct policy_set *set = (struct policy_set *)slot_acquire(&c->core->policies);
	const struct policy_pin *pin = set ? policy_set_pin(set, tool) : NULL;
	struct arena a;
	bool ok;

	arena_init(&a, &mem_system, ACT_BYTES);
	ok = pin ? accept_for(c, pin, digest, by, accepted, &a, e) : unknown_pin(tool, e);
	arena_clear(&a);
	shared_release(set ? &set->shared : NULL);
	return ok;
}

static bool withdraw(struct control *c, struct str tool, struct str by, struct arena *a,
		     struct err *e)
{
	struct definition_row row, was;
	bool found;

	if (!definition_store_get(c->definitions->store, tool, a, &row, &found, e))
		return false;
	if (!row.proposed.n && !row.accepted.n)
		return err_code(e, ERR_NOT_FOUND, "nothing_to_withdraw",
				"nothing is proposed or accepted for \"%.*s\"",
				STR_FMT(str_first(tool, 200)));
	was = row;
	row.proposed = row.proposed_by = row.accepted = row.accepted_first = row.accepted_by = STR(
		"");
	row.proposed_ms = row.accepted_ms = 0;
	if (!definition_store_put(c->definitions->store, &row, e) || !definitions_publish(c, e))
		return false;
	if (record_act(c, "tool.withdraw", &row, was.accepted.n ? was.accepted : was.proposed, by,
		       "done", e))
		return true;
	return err_prefix(e, "nothing is accepted any more, but this act is not on record");
}

bool definition_withdraw(struct control *c, struct str tool, struct str by, struct err *e)
{
	struct arena a;
	bool ok;

	arena_init(&a, &mem_system, ACT_BYTES);
	ok = withdraw(c, tool, by, &a, e);
	arena_clear(&a);
	return ok;
}

/* Copies: the set may be gone before the answer is written. */
static bool copy_pin(const struct policy_pin *pin, struct arena *a, struct policy_pin *out)
{
	*out = (struct policy_pin){ .tool = arena_dup(a, pin->tool),
				    .digest = arena_dup(a, pin->digest),
				    .definition = arena_dup(a, pin->definition),
				    .file = arena_dup(a, pin->file),
				    .line = pin->line };
	return out->tool.p && out->digest.p && out->definition.p && out->file.p;
}

static bool report(struct control *c, const struct policy_pin *pin, struct arena *a,
		   struct definition_report *out, struct err *e)
{
	struct definition_row row;
	bool found, about;

	if (!definition_store_get(c->definitions->store, pin->tool, a, &row, &found, e))
		return false;
	if (!copy_pin(pin, a, &out->pin))
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	about = str_eq(row.pin, pin->digest);
	out->known = (struct policy_definition){ .tool = out->pin.tool,
						 .observed = row.digest,
						 .pinned = out->pin.digest,
						 .accepted = about ? row.accepted : STR("") };
	out->standing = definition_standing_of(&row, about);
	out->good = !found || policy_definition_holds(pin, &out->known, row.digest);
	if (!out->good)
		out->known.changes = definition_changes_of(&out->pin, &row, a);
	out->was = definition_parse(definition_pinned(&out->pin, &row), a);
	out->is = definition_parse(row.definition, a);
	return true;
}

bool definition_report(struct control *c, struct str tool, struct arena *a,
		       struct definition_report *out, struct err *e)
{
	struct policy_set *set = (struct policy_set *)slot_acquire(&c->core->policies);
	const struct policy_pin *pin = set ? policy_set_pin(set, tool) : NULL;
	bool ok;

	*out = (struct definition_report){ .good = true };
	ok = pin ? report(c, pin, a, out, e) : unknown_pin(tool, e);
	shared_release(set ? &set->shared : NULL);
	return ok;
}
