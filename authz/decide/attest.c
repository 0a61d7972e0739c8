/*
 * From a proof to an identity. The proof gives selectors; the registry says whose they are. In the
 * order that keeps both honest: the proof is checked, the agent found, the proof used up
 * (committed), then signed, then on record, and only then does the answer leave.
 */
#include "spiffe/attest.h"
#include "authz/base/log.h"
#include "authz/base/text.h"
#include "authz/decide/admin.h"
#include "authz/decide/issue.h"
#include "spiffe/registry_template.h"

#define CANDIDATES 16
#define MATCHES 256 /* registrations that one proof fits; of more, the first by ID count */

/* An agent that the proof could be for. */
struct candidate {
	struct str id;
	const struct registry_entry *template; /* or NULL: registered by itself */
};

struct search {
	const struct attest_request *q;
	const struct attested *proof;
	struct candidate found[CANDIDATES];
	size_t n;
	struct err why_not; /* of the last template that could not be filled */
};

static void add_candidate(struct search *s, struct str id, const struct registry_entry *template)
{
	if (s->q->spiffe_id.n && !str_eq(s->q->spiffe_id, id))
		return;
	if (s->n < CANDIDATES)
		s->found[s->n++] = (struct candidate){ id, template };
}

static bool find_candidates(struct search *s, const struct registry_view *v, int64_t now_ms,
			    struct arena *a)
{
	const struct registry_entry *out[MATCHES];
	size_t n;

	n = registry_match(v, s->proof->selectors, s->proof->n, now_ms, out, MATCHES);
	for (size_t i = 0; i < n; i++)
		add_candidate(s, out[i]->id, NULL);
	n = registry_match_templates(v, s->proof->selectors, s->proof->n, now_ms, out, MATCHES);
	for (size_t i = 0; i < n; i++) {
		struct str id;

		if (template_expand(out[i]->id, s->proof->selectors, s->proof->n, s->q->name, a,
				    &id, &s->why_not))
			add_candidate(s, id, out[i]);
	}
	return s->n == 1;
}

static bool none_found(const struct search *s, struct err *e)
{
	if (s->n > 1)
		return err_code(e, ERR_CONFLICT, "several_entries",
				"the proof fits more than one agent, among them %.*s and %.*s; say "
				"which: \"spiffe_id\"",
				STR_FMT(str_first(s->found[0].id, 120)),
				STR_FMT(str_first(s->found[1].id, 120)));
	if (s->why_not.class != ERR_NONE) {
		*e = s->why_not;
		return false;
	}
	return err_code(e, ERR_FORBIDDEN, "no_entry",
			"the proof holds, but no active registration %s; the record of this "
			"refusal tells an admin which selectors it gave",
			s->q->spiffe_id.n ? "of that SPIFFE ID matches it" : "matches it");
}

static bool check_state(const struct registry_entry *agent, int64_t now_ms, struct err *e)
{
	enum registry_state state = registry_state(agent, now_ms);

	return state == ENTRY_ACTIVE ||
	       err_code(e, ERR_FORBIDDEN,
			state == ENTRY_SUSPENDED ? REASON_AGENT_SUSPENDED
			: state == ENTRY_EXPIRED ? REASON_AGENT_EXPIRED
						 : "agent_retired",
			"%.*s is %s, so nothing is issued to it; ask an admin",
			STR_FMT(str_first(agent->id, 200)), registry_state_name(state));
}

/* An instance says what its template says, but for the selectors: those are the template's, and
 * would make every instance the identity of each. */
bool issue_instance(struct control *c, const struct registry_entry *template, struct str id,
		    struct str by, int64_t now_ms, struct err *e)
{
	const struct registry_entry *there = registry_prepared(c->registry, id);
	struct registry_change change = { .verb = REGISTRY_REGISTER,
					  .spec = registry_spec_of(template),
					  .by = by,
					  .now_ms = now_ms };

	if (there)
		return str_eq(there->definition, template->id) ||
		       err_code(e, ERR_CONFLICT, "id_taken",
				"%.*s was registered in another way, so a template cannot give it; "
				"ask an admin",
				STR_FMT(str_first(id, 200)));
	change.spec.id = id;
	change.spec.definition = template->id;
	change.spec.selectors = NULL;
	change.spec.nselectors = 0;
	return admin_change(c, &change, e);
}

static bool instance_of(struct control *c, const struct candidate *k,
			const struct attest_request *q, int64_t now_ms, struct err *e)
{
	char by[64] = "attest:";

	strncat(by, q->attestor->name, sizeof(by) - strlen(by) - 1);
	return issue_instance(c, k->template, k->id, str_c(by), now_ms, e);
}

static bool find_agent(struct control *c, struct issue *i, const struct attest_request *q,
		       const struct attested *proof, struct err *e)
{
	struct registry_view *view = (struct registry_view *)slot_acquire(&c->core->agents);
	struct search s = { .q = q, .proof = proof };
	int64_t now_ms = clock_wall_ms(c->core->clock);
	bool ok;

	if (proof->agent.n) {
		i->id = proof->agent;
		ok = !q->spiffe_id.n || str_eq(q->spiffe_id, proof->agent) ||
		     err_code(e, ERR_FORBIDDEN, "no_entry",
			      "this proof is for another agent than the one asked for");
	} else {
		ok = find_candidates(&s, view, now_ms, i->arena) || none_found(&s, e);
		ok = ok && (!s.found[0].template || instance_of(c, &s.found[0], q, now_ms, e));
		if (ok)
			i->id = arena_dup(i->arena, s.found[0].id);
		ok = ok && (i->id.p || err_set(e, ERR_UNAVAILABLE, "memory is short; try again"));
	}
	shared_release(&view->shared);
	return ok;
}

static bool prepare(struct control *c, struct issue *i, struct err *e)
{
	struct registry_view *view = (struct registry_view *)slot_acquire(&c->core->agents);
	const struct registry_entry *agent = registry_find(view, i->id);
	bool ok = agent ? check_state(agent, clock_wall_ms(c->core->clock), e)
			: err_code(e, ERR_FORBIDDEN, REASON_UNKNOWN_AGENT, "%.*s is not registered",
				   STR_FMT(str_first(i->id, 200)));

	if (ok)
		registry_note_seen(agent, clock_wall_ms(c->core->clock));
	ok = ok && issue_prepare(i, c->core, agent, e);
	shared_release(&view->shared);
	return ok;
}

/* What the proof said, for the record: foreign words. */
static struct str proof_json(const struct attested *proof, struct str wanted, struct arena *a)
{
	struct buf b;

	buf_in_arena(&b, a, (size_t)256 * 1024);
	buf_lit(&b, "{\"selectors\":[");
	for (size_t i = 0; i < proof->n; i++) {
		struct str line = arena_printf(a, "%.*s:%.*s", STR_FMT(proof->selectors[i].type),
					       STR_FMT(proof->selectors[i].value));

		if (i)
			buf_char(&b, ',');
		buf_json(&b, line);
	}
	buf_char(&b, ']');
	if (wanted.n) {
		buf_lit(&b, ",\"spiffe_id\":");
		buf_json(&b, wanted);
	}
	buf_char(&b, '}');
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

/* The proof held, and yet nothing is issued: worth a record of its own. Failing to write it changes
 * nothing for the caller, who is refused in any case. */
static void record_refusal(struct control *c, const struct issue *i, const struct attest_request *q,
			   const struct attested *proof, const struct err *why)
{
	struct act_record r;
	struct str opening;
	struct err e = { 0 };

	act_record_begin(&r);
	opening = proof_json(proof, text_is_utf8(q->spiffe_id) ? q->spiffe_id : STR(""), &r.arena);
	if (i->id.n)
		record_str(&r.job.record, STR("agent"), i->id);
	if (opening.n)
		record_commit(&r.job.record, OPENING_INPUT, opening, c->sha);
	record_str(&r.job.record, STR("kind"), STR("identity.refuse"));
	record_str(&r.job.record, STR("method"), str_c(q->attestor->name));
	record_str(&r.job.record, STR("reason"), str_c(why->code ? why->code : "internal"));
	if (!act_record_append(c, &r, &e))
		log_event(LOG_WARN, "attest.unrecorded", "why=\"%s\"", e.msg);
}

static void name_run(struct issue *i)
{
	uint8_t random[16];

	random_bytes(random, sizeof(random));
	memcpy(i->run, "run_", 4);
	text_hex(random, sizeof(random), i->run + 4);
	i->run[ISSUE_RUN_MAX - 1] = '\0';
}

static bool record_issue(struct control *c, struct issue *i, const struct attest_request *q,
			 const struct attested *proof, struct err *e)
{
	struct act_record r;
	struct str opening = { NULL, 0 };

	act_record_begin(&r);
	if (proof->n) {
		opening = proof_json(proof, (struct str){ NULL, 0 }, &r.arena);
		r.text.failed |= !opening.p; /* by what it was let in is the point of the record */
	}
	issue_record(i, &r.job.record, &r.arena, c->sha, q->attestor->name, opening);
	if (proof->token_number)
		record_int(&r.job.record, STR("token"), (int64_t)proof->token_number);
	return act_record_append(c, &r, e);
}

bool issue_attest(struct control *c, struct issue *i, const struct attest_request *q, struct err *e)
{
	struct registry_view *view = (struct registry_view *)slot_acquire(&c->core->agents);
	struct attest_call call = { .attest = c->attest,
				    .tokens = c->tokens,
				    .view = view,
				    .proof = q->proof,
				    .spki = i->spki,
				    .now_ms = clock_wall_ms(c->core->clock),
				    .arena = i->arena };
	struct attested proof = { 0 };
	bool ok = attest_prove(q->attestor, &call, &proof, e);

	shared_release(&view->shared);
	if (!ok)
		return false;
	name_run(i);
	/* Using it up is committed before anything is signed or recorded. */
	if (!find_agent(c, i, q, &proof, e) || !prepare(c, i, e) ||
	    !attest_use(c->attest, &proof, e)) {
		record_refusal(c, i, q, &proof, e);
		return false;
	}
	return signer_call(c->signer, &i->job, e) && record_issue(c, i, q, &proof, e);
}
