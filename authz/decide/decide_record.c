/*
 * The record of a decision: a leaf of values that a standard or the catalogue names, and beside it,
 * committed to, what the caller sent, what writ knew, and what the policy said.
 */
#include "authz/audit/mask.h"
#include "authz/base/text.h"
#include "authz/decide/decide_inside.h"
#include "authz/decide/delegation.h"
#include "authz/decide/rollout_beside.h"

/* The leaf names only actions that a standard defines; others are the caller's words, and those
 * belong into the opening. */
static bool known_action(struct str name)
{
	static const struct str names[] = {
		STR_INIT("tools/call"),	       STR_INIT("models/invoke"),
		STR_INIT("tools/list"),	       STR_INIT("resources/list"),
		STR_INIT("resources/read"),    STR_INIT("resources/subscribe"),
		STR_INIT("prompts/get"),       STR_INIT("prompts/list"),
		STR_INIT("initialize"),	       STR_INIT("completion/complete"),
		STR_INIT("logging/setLevel"),  STR_INIT("resources/unsubscribe"),
		STR_INIT("tasks/get"),	       STR_INIT("tasks/list"),
		STR_INIT("tasks/result"),      STR_INIT("tasks/cancel"),
		STR_INIT("server/discover"),   STR_INIT("subscriptions/listen"),
		STR_INIT("models/list"),       STR_INIT("models/count_tokens"),
		STR_INIT("models/mcp_server"), STR_INIT("models/server_tool"),
		STR_INIT("SendMessage"),       STR_INIT("SendStreamingMessage"),
		STR_INIT("token/exchange"),
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(name, names[i]))
			return true;
	return false;
}

/* The canonical request, as the mask says; how many values it replaced. NULL: none. */
static size_t put_request(struct buf *b, const struct decision_request *q, const struct mask *m)
{
	size_t hits = 0;

	buf_lit(b, "{\"action\":");
	hits += mask_canonical(m, b, STR("action"), q->action);
	if (q->context) {
		buf_lit(b, ",\"context\":");
		hits += mask_canonical(m, b, STR("context"), q->context);
	}
	if (q->http) { /* part of the call: a digest, and what is bound to it, covers it */
		buf_lit(b, ",\"http\":");
		hits += mask_canonical(m, b, STR("http"), q->http);
	}
	buf_lit(b, ",\"resource\":");
	hits += mask_canonical(m, b, STR("resource"), q->resource);
	buf_lit(b, ",\"subject\":");
	hits += mask_canonical(m, b, STR("subject"), q->subject);
	buf_char(b, '}');
	return hits;
}

/* The opening `input` without what rules mask. It has no digest: that is of the request as it came,
 * and a short secret can be guessed by it. p == NULL: nothing was masked, or (*failed) no memory.
 */
static struct str write_masked(struct inquiry *i, struct arena *a, bool *failed)
{
	const struct decision_request *q = &i->d->request;
	struct buf b, request, id;

	buf_in_arena(&request, a, (size_t)4 * LIMIT_BODY);
	buf_in_arena(&id, a, (size_t)4 * LIMIT_REQUEST_ID);
	buf_in_arena(&b, a, (size_t)4 * LIMIT_BODY);
	i->masked = put_request(&request, q, i->w->core->mask);
	i->masked += mask_text(i->w->core->mask, q->request_id, &id);
	*failed = !buf_ok(&request) || !buf_ok(&id);
	if (*failed || !i->masked)
		return (struct str){ NULL, 0 };
	buf_printf(&b, "{\"masked\":%zu,\"request\":", i->masked);
	buf_add(&b, buf_str(&request));
	if (id.n) {
		buf_lit(&b, ",\"request_id\":");
		buf_json(&b, buf_str(&id));
	}
	buf_char(&b, '}');
	*failed = !buf_ok(&b);
	return *failed ? (struct str){ NULL, 0 } : buf_str(&b);
}

/* The opening `input`: the canonical request, its digest, and the caller's request id. */
static struct str write_input(struct inquiry *i, struct arena *a)
{
	static const char zeros[] =
		"0000000000000000000000000000000000000000000000000000000000000000";
	const struct decision_request *q = &i->d->request;
	uint8_t hash[SHA256_LEN];
	size_t at_digest, from;
	struct str masked;
	bool failed;
	struct buf b;

	buf_in_arena(&b, a, (size_t)4 * LIMIT_BODY);
	(void)buf_room(&b, 1024); /* most fit: not grown in steps */
	buf_lit(&b, "{\"digest\":\"sha256:");
	at_digest = b.n;
	buf_add(&b, str_c(zeros));
	buf_lit(&b, "\",\"request\":");
	from = b.n;
	(void)put_request(&b, q, NULL);
	if (!buf_ok(&b))
		return (struct str){ NULL, 0 };
	sha256_of(i->w->sha, str_from(buf_str(&b), from), hash);
	memcpy(i->answer.digest, "sha256:", 7);
	text_hex(hash, sizeof(hash), i->answer.digest + 7);
	i->answer.digest[71] = '\0';
	if (i->w->core->mask) {
		masked = write_masked(i, a, &failed);
		if (failed || masked.p)
			return masked;
	}
	memcpy(b.p + at_digest, i->answer.digest + 7, 64);
	if (q->request_id.n) {
		buf_lit(&b, ",\"request_id\":");
		buf_json(&b, q->request_id);
	}
	buf_char(&b, '}');
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

/* What was known of the tool's definition, if a pin was held against it. While a roll-out runs one
 * of the two sets may have a pin and the other none. */
static void put_definition(struct inquiry *i, struct buf *b)
{
	const struct policy_definition *d = i->answer.result.definition;

	if (!d && i->beside)
		d = i->beside->result.definition;
	if (d)
		policy_definition_write(b, d);
}

/* The opening `facts`: all that writ itself added to the request, so that it can be decided again.
 */
static struct str write_facts(struct inquiry *i, struct arena *a)
{
	struct buf b;

	buf_in_arena(&b, a, LIMIT_BODY);
	(void)buf_room(&b, 512);
	buf_char(&b, '{');
	if (i->agent) {
		buf_lit(&b, "\"agent\":{\"attributes\":");
		registry_write_attributes(&b, i->agent);
		buf_lit(&b, ",\"id\":");
		buf_json(&b, i->agent->id);
		buf_lit(&b, ",\"owner\":");
		buf_json(&b, i->agent->owner);
		buf_lit(&b, ",\"state\":\"");
		buf_add(&b, str_c(registry_state_name(registry_state(i->agent, i->now_ms))));
		buf_lit(&b, "\"},");
	}
	put_definition(i, &b);
	if (i->delegation)
		delegation_write_facts(&b, i->delegation);
	if (i->d->bare)
		buf_lit(&b, "\"no_obligations\":true,");
	buf_lit(&b, "\"now\":");
	buf_i64(&b, i->now_ms);
	buf_lit(&b, ",\"pep\":");
	buf_json(&b, i->d->caller->id);
	if (i->d->caller->server.n) {
		buf_lit(&b, ",\"server\":");
		buf_json(&b, i->d->caller->server);
	}
	buf_char(&b, '}');
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

static bool has_reply(const struct policy_result *r)
{
	return r->message.n || r->obligations.n || r->error.n;
}

/* The opening `answer`: what the policy said to the agent beyond decision and reason. */
struct str decide_answer_opening(const struct policy_result *r, struct arena *a)
{
	bool first = true;
	struct buf b;

	if (!has_reply(r))
		return (struct str){ NULL, 0 };
	buf_in_arena(&b, a, LIMIT_BODY);
	buf_char(&b, '{');
	if (r->error.n) {
		buf_lit(&b, "\"error\":");
		buf_json(&b, r->error);
		first = false;
	}
	if (r->message.n) {
		buf_add(&b, first ? STR("\"message\":") : STR(",\"message\":"));
		buf_json(&b, r->message);
		first = false;
	}
	if (r->obligations.n) {
		buf_add(&b, first ? STR("\"obligations\":") : STR(",\"obligations\":"));
		buf_add(&b, r->obligations);
	}
	buf_char(&b, '}');
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

/* A policy may have put a secret of the request into its words. @r is a copy. */
static bool mask_reply(struct inquiry *i, struct policy_result *r, struct arena *a)
{
	struct str *const texts[] = { &r->error, &r->message };

	for (size_t k = 0; k < ARRAY_LEN(texts); k++) {
		struct buf b;

		buf_in_arena(&b, a, LIMIT_BODY);
		i->masked += mask_text(i->w->core->mask, *texts[k], &b);
		if (!buf_ok(&b))
			return false;
		*texts[k] = buf_str(&b);
	}
	return true;
}

static struct str write_reply(struct inquiry *i, struct arena *a)
{
	struct policy_result r;

	if (!i->w->core->mask || !has_reply(&i->answer.result))
		return decide_answer_opening(&i->answer.result, a);
	r = i->answer.result;
	return mask_reply(i, &r, a) ? decide_answer_opening(&r, a) : (struct str){ NULL, 0 };
}

/* The leaf. Members in ascending order of name. */
bool decide_write_record(struct inquiry *i, struct pending *p)
{
	const struct policy_result *r = &i->answer.result;
	const struct json *action = json_get_type(i->d->request.action, STR("name"), JSON_STRING);
	struct str input = write_input(i, &p->arena);
	struct str facts = write_facts(i, &p->arena);
	struct str reply = write_reply(i, &p->arena);
	struct record *rec = &p->job.record;

	if (!input.p || !facts.p || (has_reply(r) && !reply.p))
		return false;
	if (action && known_action(action->s))
		record_str(rec, STR("action"), action->s);
	if (i->agent) {
		delegation_record_actors(rec, i->delegation, &p->arena);
		record_str(rec, STR("agent"), i->agent->id);
	}
	if (reply.p)
		record_commit(rec, OPENING_ANSWER, reply, i->w->sha);
	record_int(rec, STR("cost_us"), (clock_mono_ns(i->w->core->clock) - i->started_ns) / 1000);
	record_str(rec, STR("decision"), decision_names[r->decision]);
	delegation_record_names(rec, i->delegation);
	record_str(rec, STR("engine"), STR(WRIT_ENGINE));
	record_commit(rec, OPENING_FACTS, facts, i->w->sha);
	record_int(rec, STR("generation"), (int64_t)i->answer.generation);
	record_commit(rec, OPENING_INPUT, input, i->w->sha);
	delegation_record_token(rec, i->delegation);
	record_str(rec, STR("kind"), STR("authz.decision"));
	if (i->masked)
		record_int(rec, STR("masked"), (int64_t)i->masked);
	record_str(rec, STR("model"), r->model);
	record_str(rec, STR("pep"), i->d->caller->id);
	record_hash(rec, STR("policy_sha256"), i->policy_hash);
	record_str(rec, STR("reason"), r->reason);
	if (i->beside)
		record_int(rec, STR("rollout"), (int64_t)i->beside->id);
	record_str(rec, STR("rule"), r->rule);
	beside_record(i->beside, rec);
	record_str(rec, STR("tool"), r->tool);
	record_str(rec, STR("trace_id"), i->d->request.trace_id);
	return record_ok(rec);
}
