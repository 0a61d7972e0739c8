#include "authz/decide/admin.h"

#include <inttypes.h>
#include <stdio.h>

#include "authz/base/log.h"
#include "spiffe/id.h"

/* The opening of a registry act: the entry as it is after it. Owner and attributes can be
 * personal, so the leaf only commits to them. */
static struct str entry_json(struct arena *a, const struct registry_entry *entry, struct str why)
{
	struct buf b;

	buf_in_arena(&b, a, LIMIT_BODY);
	buf_lit(&b, "{\"attributes\":");
	registry_write_attributes(&b, entry);
	buf_printf(&b, ",\"expires\":%" PRId64, entry->expires_ms);
	if (entry->federates.n) {
		buf_lit(&b, ",\"federates_with\":");
		registry_write_federates(&b, entry->federates);
	}
	buf_lit(&b, ",\"owner\":");
	buf_json(&b, entry->owner);
	if (entry->purpose.n) {
		buf_lit(&b, ",\"purpose\":");
		buf_json(&b, entry->purpose);
	}
	if (why.n) {
		buf_lit(&b, ",\"reason\":");
		buf_json(&b, why);
	}
	buf_lit(&b, ",\"selectors\":[");
	for (size_t i = 0; i < entry->nselectors; i++) {
		AUTO_BUF text;

		if (i)
			buf_char(&b, ',');
		buf_init(&text, mem_system, 4096);
		buf_add(&text, entry->selectors[i].type);
		buf_char(&text, ':');
		buf_add(&text, entry->selectors[i].value);
		if (!buf_ok(&text))
			b.failed = true;
		buf_json(&b, buf_str(&text));
	}
	buf_lit(&b, "]}");
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

static bool record_change(struct control *c, const struct registry_change *change,
			  const struct registry_entry *entry, const char *outcome, struct err *e)
{
	struct act_record r;
	struct str opening;
	char act[32];

	act_record_begin(&r);
	snprintf(act, sizeof(act), "agent.%s", registry_verb_name(change->verb));
	record_str(&r.job.record, STR("act"), str_c(act));
	record_str(&r.job.record, STR("agent"), change->spec.id);
	if (entry) {
		opening = entry_json(&r.arena, entry, change->reason);
		if (opening.p)
			record_commit(&r.job.record, OPENING_INPUT, opening, c->sha);
		else /* what was granted is the point of the record */
			r.text.failed = true;
	}
	record_str(&r.job.record, STR("kind"), STR("admin.action"));
	record_str(&r.job.record, STR("outcome"), str_c(outcome));
	record_str(&r.job.record, STR("pep"), change->by);
	if (entry)
		record_int(&r.job.record, STR("revision"), (int64_t)entry->revision);
	return act_record_append(c, &r, e);
}

static bool takes_away(enum registry_verb v)
{
	return v == REGISTRY_SUSPEND || v == REGISTRY_RETIRE;
}

/* State and tokens go in one transaction: an agent that is resumed later must not find a token that
 * a failure left behind. */
static bool stop_agent(struct control *c, const struct registry_change *change, struct err *e)
{
	if (!registry_prepare(c->registry, change, e))
		return false;
	if (tokens_revoke(c->tokens, change->spec.id, change->now_ms, NULL, e))
		return registry_commit(c->registry, e);
	registry_abort(c->registry);
	return false;
}

/* Suspending and retiring hold first, tokens included; a record that then fails is reported, but
 * the agent stays out. */
static bool take_away(struct control *c, const struct registry_change *change, struct err *e)
{
	struct registry_view *view;
	bool ok;

	if (!stop_agent(c, change, e))
		return false;
	view = (struct registry_view *)slot_acquire(&c->core->agents);
	ok = record_change(c, change, registry_look(view, change->spec.id), "done", e);
	shared_release(&view->shared);
	if (!ok)
		return err_prefix(e, "the agent is stopped, but this act is not on record");
	return true;
}

static bool grant(struct control *c, const struct registry_change *change, struct err *e)
{
	struct err ignored = { 0 };

	if (!registry_prepare(c->registry, change, e))
		return false;
	if (!record_change(c, change, registry_prepared(c->registry, change->spec.id), "done", e)) {
		registry_abort(c->registry);
		return false;
	}
	if (registry_commit(c->registry, e))
		return true;
	/* The log now tells of something that did not happen: say so there too. */
	if (!record_change(c, change, NULL, "failed", &ignored))
		log_event(LOG_ERROR, "admin.unrecorded", "why=\"%s\"", ignored.msg);
	return false;
}

bool admin_change(struct control *c, const struct registry_change *change, struct err *e)
{
	return takes_away(change->verb) ? take_away(c, change, e) : grant(c, change, e);
}

bool admin_token(struct control *c, struct str id, int64_t ttl_s, struct str by,
		 struct admin_token *out, struct err *e)
{
	struct registry_view *view;
	int64_t now = clock_wall_ms(c->core->clock);
	struct act_record r;
	struct spiffe_id parsed;
	bool ok;

	if (!spiffe_id_parse_workload(id, &parsed, e))
		return false;
	if (!spiffe_id_member_of(&parsed, c->core->trust_domain))
		return err_code(e, ERR_INVALID, "foreign_trust_domain",
				"%.*s is of another trust domain; writ issues SVIDs for %.*s only",
				STR_FMT(id), STR_FMT(c->core->trust_domain));
	view = (struct registry_view *)slot_acquire(&c->core->agents);
	ok = token_create(c->tokens, view, id, ttl_s, now, by, out->text, &out->number, e);
	shared_release(&view->shared);
	if (!ok)
		return false;
	out->expires_ms = now + ttl_s * 1000;
	act_record_begin(&r);
	record_str(&r.job.record, STR("act"), STR("agent.token"));
	record_str(&r.job.record, STR("agent"), id);
	record_int(&r.job.record, STR("expires"), out->expires_ms / 1000);
	record_str(&r.job.record, STR("kind"), STR("admin.action"));
	record_str(&r.job.record, STR("pep"), by);
	record_int(&r.job.record, STR("token"), (int64_t)out->number);
	ok = act_record_append(c, &r, e); /* unrecorded, nobody gets to see the token */
	if (!ok)
		mem_wipe(out->text, sizeof(out->text));
	return ok;
}

bool admin_record(struct control *c, const char *act, struct str by, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_str(&r.job.record, STR("act"), str_c(act));
	record_str(&r.job.record, STR("kind"), STR("admin.action"));
	record_str(&r.job.record, STR("pep"), by);
	return act_record_append(c, &r, e);
}
