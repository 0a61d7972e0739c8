#include "authz/decide/replay.h"

#include <stdio.h>

#include "authz/base/text.h"
#include "authz/decide/decide.h"
#include "authz/decide/delegation.h"
#include "authz/policy/generations.h"

#define SETS_MAX 8 /* generations that are kept loaded */
#define ARENA_MAX ((size_t)256 * 1024 * 1024)

/* As recorded they were within the server's limits, and an opening wraps them twice. */
static const struct json_limits opening_limits = {
	.string = (size_t)4 * LIMIT_BODY, .depth = 256, .members = 65536, .values = 4 * LIMIT_VALUES
};

const char *const replay_verdict_names[REPLAY_VERDICTS] = {
	[REPLAY_SAME] = "same",
	[REPLAY_CHANGED] = "changed",
	[REPLAY_SETTLED] = "settled",
	[REPLAY_REDACTED] = "redacted",
	[REPLAY_TIMED] = "out_of_time",
	[REPLAY_ENGINE] = "other_engine",
	[REPLAY_UNKNOWN] = "unknown_generation",
};

const char *const replay_settlers[REPLAY_SETTLERS] = {
	REASON_UNKNOWN_AGENT,
	REASON_AGENT_SUSPENDED,
	REASON_AGENT_EXPIRED,
	REASON_SUBJECT_MISMATCH,
};

/* One generation, ready to decide. */
struct ready {
	uint64_t number, used;
	struct policy_set *set; /* NULL: it does not load */
	struct policy_state *state;
	char hash[64];
};

/* What a leaf says, as far as replay goes by it; still escaped. */
struct said {
	struct replay_side side;
	struct str engine, hash;
	uint64_t generation;
	uint64_t masked; /* values: what the record never had cannot be decided again either */
	struct replay_shadow shadow;
};

struct replay {
	struct replay_config c;
	struct audit_reader *reader;
	struct db *db;
	struct generations *generations;
	struct ready sets[SETS_MAX], candidate, baseline;
	uint64_t clock; /* counts uses of sets */
	/* Time stands still: a slow replay must not run into the wall-clock budget. */
	struct clock_fixed time;
	struct clock stopped;
	struct arena arena; /* of the row at hand */
	struct audit_row row;
	struct ready *with; /* what decides it */
	struct policy_request request;
	bool bare; /* who asked carries out nothing */
	bool computable;
};

static void ready_clear(struct ready *s)
{
	policy_state_free(s->state);
	if (s->set)
		shared_release(&s->set->shared);
	*s = (struct ready){ 0 };
}

/* Takes over the reference to @set. */
static bool ready_make(struct replay *r, struct ready *s, struct policy_set *set, struct err *e)
{
	s->set = set;
	text_hex(set->hash, sizeof(set->hash), s->hash);
	s->state = policy_state_new(set, r->c.alloc, &r->stopped, e);
	return s->state != NULL;
}

static bool open_stores(struct replay *r, struct err *e)
{
	const struct db_options o = { .read_only = true, .autocheckpoint = -1, .busy_ms = 1000 };
	struct audit_filter f = { .kind = STR("authz.decision"),
				  .agent = r->c.agent,
				  .since_ms = r->c.since_ms,
				  .until_ms = r->c.until_ms,
				  .from = r->c.from,
				  .to = r->c.to,
				  .openings = true };
	char path[4200];

	if (snprintf(path, sizeof(path), "%s/writ.db", r->c.folder) >= (int)sizeof(path))
		return err_set(e, ERR_INVALID, "the data folder's path is too long");
	return audit_reader_open(r->c.folder, r->c.alloc, &r->reader, e) &&
	       audit_reader_start(r->reader, &f, e) && db_open(path, &o, &r->db, e) &&
	       generations_open(r->db, &r->generations, e);
}

bool replay_open(const struct replay_config *c, struct replay **out, struct err *e)
{
	struct replay *r = mem_zero(c->alloc, sizeof(*r));

	if (!r)
		return err_set(e, ERR_NOMEM, "no memory to replay");
	r->c = *c;
	r->stopped = clock_of_fixed(&r->time);
	arena_init(&r->arena, c->alloc, ARENA_MAX);
	if (c->candidate)
		shared_acquire(&c->candidate->shared);
	if (c->baseline)
		shared_acquire(&c->baseline->shared);
	if (!open_stores(r, e) ||
	    (c->candidate && !ready_make(r, &r->candidate, c->candidate, e)) ||
	    (c->baseline && !ready_make(r, &r->baseline, c->baseline, e))) {
		replay_close(r);
		return false;
	}
	*out = r;
	return true;
}

void replay_close(struct replay *r)
{
	if (!r)
		return;
	if (r->c.candidate && !r->candidate.set)
		shared_release(&r->c.candidate->shared);
	if (r->c.baseline && !r->baseline.set)
		shared_release(&r->c.baseline->shared);
	ready_clear(&r->candidate);
	ready_clear(&r->baseline);
	for (size_t i = 0; i < SETS_MAX; i++)
		ready_clear(&r->sets[i]);
	generations_close(r->generations);
	db_close(r->db);
	audit_reader_close(r->reader);
	arena_clear(&r->arena);
	mem_free(r->c.alloc, r, sizeof(*r));
}

uint64_t replay_pruned(const struct replay *r)
{
	return audit_reader_pruned(r->reader);
}

uint64_t replay_left(const struct replay *r)
{
	uint64_t from, to;

	audit_reader_left(r->reader, &from, &to);
	return to - from;
}

/* ---- the policies ---- */

static bool load_generation(struct replay *r, struct ready *s, uint64_t number, struct err *e)
{
	struct policy_set *set = NULL;
	struct policy_sources src;
	struct err why = { 0 };
	bool ok;

	ready_clear(s);
	s->number = number;
	if (!generations_load(r->generations, number, &src, &why))
		return why.class == ERR_NOT_FOUND ||
		       err_code(e, why.class, why.code, "%s", why.msg);
	ok = policy_set_load(&src, &r->c.limits, &set, NULL, &why);
	policy_sources_clear(&src);
	if (!ok) /* this writ is stricter than the one that stored it */
		return why.class == ERR_INVALID || err_code(e, why.class, why.code, "%s", why.msg);
	set->generation = number;
	return ready_make(r, s, set, e);
}

/* The generation @number, loaded; without a set if there is none. */
static struct ready *ready_get(struct replay *r, uint64_t number, struct err *e)
{
	struct ready *oldest = &r->sets[0];

	for (size_t i = 0; i < SETS_MAX; i++) {
		struct ready *s = &r->sets[i];

		if (s->used && s->number == number) {
			s->used = ++r->clock;
			return s;
		}
		if (s->used < oldest->used)
			oldest = s;
	}
	if (!load_generation(r, oldest, number, e))
		return NULL;
	oldest->used = ++r->clock;
	return oldest;
}

/* ---- the record ---- */

/* A value of a leaf as it was before it was written. */
static struct str plain(struct replay *r, struct str value)
{
	struct buf b;

	if (!value.n || !memchr(value.p, '\\', value.n))
		return value;
	buf_in_arena(&b, &r->arena, value.n + 1);
	return flat_unescape(value, &b) ? buf_str(&b) : value;
}

/* In order of name, as the members of a leaf are. */
static const struct wanted {
	struct str name;
	bool number;
	size_t at; /* in struct said: a str or a uint64_t */
} wanted[] = {
	{ STR_INIT("decision"), false, offsetof(struct said, side.decision) },
	{ STR_INIT("engine"), false, offsetof(struct said, engine) },
	{ STR_INIT("generation"), true, offsetof(struct said, generation) },
	{ STR_INIT("masked"), true, offsetof(struct said, masked) },
	{ STR_INIT("model"), false, offsetof(struct said, side.model) },
	{ STR_INIT("policy_sha256"), false, offsetof(struct said, hash) },
	{ STR_INIT("reason"), false, offsetof(struct said, side.reason) },
	{ STR_INIT("rollout"), true, offsetof(struct said, shadow.rollout) },
	{ STR_INIT("rule"), false, offsetof(struct said, side.rule) },
	{ STR_INIT("shadow_decision"), false, offsetof(struct said, shadow.decision) },
	{ STR_INIT("shadow_generation"), true, offsetof(struct said, shadow.generation) },
	{ STR_INIT("shadow_reason"), false, offsetof(struct said, shadow.reason) },
	{ STR_INIT("shadow_rule"), false, offsetof(struct said, shadow.rule) },
	{ STR_INIT("tool"), false, offsetof(struct said, side.tool) },
};

static void take_member(struct replay *r, struct said *s, const struct wanted *w,
			const struct flat_member *m)
{
	void *at = (char *)s + w->at;

	if (w->number && !m->is_string && m->integer > 0)
		*(uint64_t *)at = (uint64_t)m->integer;
	if (!w->number && m->is_string)
		*(struct str *)at = plain(r, m->value);
}

static void read_leaf(struct replay *r, struct said *s)
{
	const struct wanted *w = wanted, *end = wanted + ARRAY_LEN(wanted);
	struct flat_member m;
	struct flat f;

	*s = (struct said){ 0 };
	flat_begin(&f, r->row.text);
	while (w < end && flat_next(&f, &m)) {
		while (w < end && (w->name.p[0] < m.name.p[0] || str_before(w->name, m.name)))
			w++;
		if (w < end && str_eq_short(w->name, m.name))
			take_member(r, s, w++, &m);
	}
	if (r->row.openings[OPENING_ANSWER].held)
		s->side.answer = r->row.openings[OPENING_ANSWER].value;
}

static bool redacted(const struct audit_row *row, const struct said *s)
{
	if (s->masked)
		return true;
	for (int i = 0; i < OPENING_COUNT; i++)
		if (row->leaf.commits[i].n && !row->openings[i].held)
			return true;
	return !row->openings[OPENING_INPUT].held || !row->openings[OPENING_FACTS].held;
}

static struct str text_of(const struct json *v, const char *name)
{
	const struct json *t = json_get_type(v, str_c(name), JSON_STRING);

	return t ? t->s : (struct str){ NULL, 0 };
}

static bool read_agent(struct replay *r, const struct json *agent)
{
	const struct json *list = json_get_type(agent, STR("attributes"), JSON_OBJECT);
	struct policy_request *q = &r->request;
	struct policy_attribute *at;

	if (!agent)
		return true;
	at = arena_alloc(&r->arena, ((list ? list->n : 0) + 1) * sizeof(*at));
	if (!at)
		return false;
	for (uint32_t i = 0; list && i < list->n; i++)
		at[i] = (struct policy_attribute){ list->items[i].name,
						   list->items[i].type == JSON_STRING
							   ? list->items[i].s
							   : STR("") };
	q->attributes = at;
	q->nattributes = list ? list->n : 0;
	q->agent_id = text_of(agent, "id");
	q->agent_owner = text_of(agent, "owner");
	q->agent_state = text_of(agent, "state");
	return q->agent_id.p != NULL;
}

/* What was known of the tool's definition: of one tool at most. */
static bool read_definition(struct replay *r, const struct json *v)
{
	struct policy_definition *d;

	if (!v)
		return true;
	d = arena_alloc(&r->arena, sizeof(*d));
	if (!d)
		return false;
	*d = (struct policy_definition){ .tool = text_of(v, "tool"),
					 .observed = text_of(v, "observed"),
					 .pinned = text_of(v, "pinned"),
					 .accepted = text_of(v, "accepted"),
					 .changes = text_of(v, "changes") };
	r->request.definitions = d;
	r->request.ndefinitions = 1;
	return d->tool.p != NULL;
}

/* The request and the facts, as they stood before the policies. */
static bool read_openings(struct replay *r, struct err *e)
{
	const struct json *input, *facts, *request, *now;
	struct policy_request *q = &r->request;
	struct err why = { 0 };

	*q = (struct policy_request){ 0 };
	if (!json_parse(r->row.openings[OPENING_INPUT].value, &opening_limits, &r->arena, &input,
			&why) ||
	    !json_parse(r->row.openings[OPENING_FACTS].value, &opening_limits, &r->arena, &facts,
			&why))
		return err_code(e, ERR_IO, "storage_corrupt",
				"the openings of record %llu cannot be read: %s",
				(unsigned long long)r->row.seq, why.msg);
	request = json_get_type(input, STR("request"), JSON_OBJECT);
	now = json_get_type(facts, STR("now"), JSON_INT);
	q->subject = json_get_type(request, STR("subject"), JSON_OBJECT);
	q->action = json_get_type(request, STR("action"), JSON_OBJECT);
	q->resource = json_get_type(request, STR("resource"), JSON_OBJECT);
	q->context = json_get(request, STR("context"));
	q->http = json_get_type(request, STR("http"), JSON_OBJECT);
	r->bare = json_get_type(facts, STR("no_obligations"), JSON_BOOL) != NULL;
	q->pep = text_of(facts, "pep");
	q->server = text_of(facts, "server");
	q->now_ms = now ? now->i : 0;
	if (!q->subject || !q->action || !q->resource || !now ||
	    !read_agent(r, json_get_type(facts, STR("agent"), JSON_OBJECT)) ||
	    !read_definition(r, json_get_type(facts, STR("definition"), JSON_OBJECT)) ||
	    !delegation_read_facts(json_get(facts, STR("delegation")), &r->arena, &q->delegation))
		return err_code(e, ERR_IO, "storage_corrupt",
				"the openings of record %llu are not those of a decision",
				(unsigned long long)r->row.seq);
	return true;
}

/* What stops before the policies names one of these and no rule. */
static bool settled(const struct replay_side *was, unsigned *by)
{
	for (unsigned i = 0; !was->rule.n && i < REPLAY_SETTLERS; i++)
		if (str_eq(was->reason, str_c(replay_settlers[i]))) {
			*by = i;
			return true;
		}
	return false;
}

static bool out_of_time(const struct replay_side *was)
{
	static const char text[] = "stopped: no time left";

	return str_eq(was->reason, STR(REASON_POLICY_BUDGET)) && was->answer.n &&
	       memmem(was->answer.p, was->answer.n, text, sizeof(text) - 1);
}

/* ---- deciding again ---- */

static void no_policy(struct policy_result *out)
{
	*out = (struct policy_result){
		.reason = STR(REASON_NO_POLICY),
		.message = STR("No policy is in force, so nothing is allowed."),
	};
}

/* What the policies of @with say; NULL: there are none. */
static struct replay_side decide_again(struct replay *r, struct ready *with)
{
	static const char *const names[] = {
		[DECISION_DENY] = "deny", [DECISION_ASK] = "ask", [DECISION_PERMIT] = "permit"
	};
	struct policy_result result;

	if (with)
		policy_evaluate(with->state, &r->request, &r->arena, &result);
	else
		no_policy(&result);
	if (r->bare)
		decide_bare(&result);
	return (struct replay_side){ str_c(names[result.decision]),
				     result.reason,
				     result.rule,
				     result.tool,
				     result.model,
				     decide_answer_opening(&result, &r->arena) };
}

static bool compute(struct replay *r, struct replay_row *row)
{
	const struct replay_side *was = &row->was;

	if (r->baseline.set)
		row->was = decide_again(r, &r->baseline);
	row->is = decide_again(r, r->with);
	return str_eq(row->is.decision, was->decision) && str_eq(row->is.reason, was->reason) &&
	       str_eq(row->is.rule, was->rule) && str_eq(row->is.tool, was->tool) &&
	       str_eq(row->is.model, was->model) && str_eq(row->is.answer, was->answer);
}

/* Who decides this row again? False with REPLAY_UNKNOWN in @row, or with an error. */
static bool choose(struct replay *r, const struct said *s, struct replay_row *row, struct err *e)
{
	r->with = NULL;
	if (r->candidate.set) {
		r->with = &r->candidate;
		return true;
	}
	if (!s->generation) /* no policy was in force */
		return true;
	r->with = ready_get(r, s->generation, e);
	if (r->with && r->with->set &&
	    str_eq(s->hash, (struct str){ r->with->hash, sizeof(r->with->hash) }))
		return true;
	r->with = NULL;
	row->verdict = REPLAY_UNKNOWN;
	return false;
}

static bool judge(struct replay *r, const struct said *s, struct replay_row *row, struct err *e)
{
	if (redacted(&r->row, s))
		row->verdict = REPLAY_REDACTED;
	else if (!str_eq(s->engine, STR(WRIT_ENGINE)))
		row->verdict = REPLAY_ENGINE;
	else if (settled(&s->side, &row->settler))
		row->verdict = REPLAY_SETTLED;
	else if (out_of_time(&s->side))
		row->verdict = REPLAY_TIMED;
	else if (!read_openings(r, e))
		return false;
	else if (choose(r, s, row, e)) {
		r->computable = true;
		row->verdict = compute(r, row) ? REPLAY_SAME : REPLAY_CHANGED;
	}
	return e->class == ERR_NONE;
}

bool replay_next(struct replay *r, struct replay_row *row, bool *got, struct err *e)
{
	struct said s;

	for (;;) {
		if (!audit_reader_next(r->reader, 0, &r->row, got, e))
			return false;
		if (!*got)
			return true;
		arena_reset(&r->arena);
		read_leaf(r, &s);
		if (!r->c.tool.n || str_eq(r->c.tool, s.side.tool))
			break;
	}
	r->computable = false;
	*row = (struct replay_row){ .seq = r->row.seq,
				    .time_ms = r->row.leaf.time_ms,
				    .generation = s.generation,
				    .agent = plain(r, r->row.leaf.agent),
				    .was = s.side,
				    .shadow = s.shadow };
	return judge(r, &s, row, e);
}

bool replay_explain(struct replay *r, struct policy_trace *out, struct err *e)
{
	if (!r->computable || !r->with)
		return err_code(e, ERR_NOT_FOUND, "not_computable",
				"record %llu cannot be computed again",
				(unsigned long long)r->row.seq);
	return policy_explain(r->with->state, &r->request, &r->arena, out, e);
}

struct str replay_opening(const struct replay *r, enum opening which)
{
	return r->row.openings[which].held ? r->row.openings[which].value : (struct str){ NULL, 0 };
}
