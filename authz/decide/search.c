#include "authz/decide/search.h"

#include "authz/audit/mask.h"
#include "authz/decide/pending.h"
#include "authz/decide/worker.h"

#define CHUNK 64 /* candidates fetched at a time */
#define SCRATCH (8 * 1024 * 1024)

/* A page in the making. */
struct page {
	struct search *s;
	struct worker *w;
	struct arena scratch; /* of one evaluation */
	struct json members[2];
	struct json candidate; /* what takes the place of the searched entity */
	uint32_t evaluated;
	int64_t started_ns;
	bool over; /* no other candidate can come out better */
};

static struct str type_of(const struct json *entity)
{
	const struct json *v = json_get_type(entity, STR("type"), JSON_STRING);

	return v ? v->s : (struct str){ NULL, 0 };
}

/* ---- candidates ---- */

static size_t subjects(const struct page *p, struct str after, struct str *out)
{
	const struct registry_view *agents = worker_registry(p->w);
	const struct caller *c = p->s->caller;
	const struct registry_entry *found[CHUNK];
	int64_t now = clock_wall_ms(p->w->core->clock);
	size_t n;

	if (!agents || !str_eq(type_of(p->s->request.subject), STR("agent")))
		return 0;
	if (!(c->roles & ROLE_PEP)) {
		out[0] = c->id;
		return after.n ? 0 : 1;
	}
	n = registry_scan(agents, after, now, found, CHUNK);
	for (size_t i = 0; i < n; i++)
		out[i] = found[i]->id;
	return n;
}

static size_t fetch(const struct page *p, struct str after, struct str *out)
{
	const struct policy_set *set = worker_policy(p->w);
	struct str type;

	if (p->s->kind == SEARCH_SUBJECT)
		return subjects(p, after, out);
	if (!set)
		return 0;
	if (p->s->kind == SEARCH_ACTION)
		return policy_set_names(set, POLICY_ACTIONS, after, out, CHUNK);
	type = type_of(p->s->request.resource);
	if (str_eq(type, STR("tool")))
		return policy_set_names(set, POLICY_TOOLS, after, out, CHUNK);
	if (str_eq(type, STR("model")))
		return policy_set_names(set, POLICY_MODELS, after, out, CHUNK);
	return 0;
}

/* ---- one candidate ---- */

/* The entity as a result will name it, so that asking about the result gives the same answer. */
static void dress(struct page *p, struct str name, struct decision_request *q)
{
	*q = p->s->request;
	p->candidate = (struct json){ .type = JSON_OBJECT, .items = p->members };
	if (p->s->kind == SEARCH_ACTION) {
		p->members[0] = (struct json){ .type = JSON_STRING,
					       .name = STR("name"),
					       .s = name };
		p->candidate.n = 1;
		q->action = &p->candidate;
		return;
	}
	p->members[0] = (struct json){ .type = JSON_STRING, .name = STR("id"), .s = name };
	p->members[1] = (struct json){ .type = JSON_STRING, .name = STR("type") };
	p->candidate.n = 2;
	if (p->s->kind == SEARCH_SUBJECT) {
		p->members[1].s = type_of(q->subject);
		q->subject = &p->candidate;
	} else {
		p->members[1].s = type_of(q->resource);
		q->resource = &p->candidate;
	}
}

/* Denied before the rules, for what the subject is: so would be all others. */
static bool hopeless(const struct page *p, const struct policy_result *r)
{
	static const struct str reasons[] = {
		STR_INIT(REASON_SUBJECT_MISMATCH), STR_INIT(REASON_UNKNOWN_AGENT),
		STR_INIT(REASON_AGENT_SUSPENDED),  STR_INIT(REASON_AGENT_EXPIRED),
		STR_INIT(REASON_NO_POLICY),
	};

	if (p->s->kind == SEARCH_SUBJECT || r->rule.n)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		if (str_eq(r->reason, reasons[i]))
			return true;
	return false;
}

/* False: out of memory. */
static bool try_one(struct page *p, struct str name)
{
	struct search *s = p->s;
	struct evaluation d = { .caller = s->caller, .arena = &p->scratch };
	struct search_result *to = &s->results[s->n];
	struct policy_result r;

	dress(p, name, &d.request);
	arena_reset(&p->scratch);
	decide_peek(p->w, &d, &r);
	p->evaluated++;
	p->over = hopeless(p, &r);
	if (r.decision != DECISION_PERMIT)
		return true;
	*to = (struct search_result){ .name = arena_dup(s->arena, name) };
	if (r.obligations.n)
		to->obligations = arena_dup(s->arena, r.obligations);
	s->n++;
	return to->name.p && to->obligations.n == r.obligations.n;
}

static bool full(const struct page *p)
{
	return p->s->n >= p->s->limit || p->evaluated >= SEARCH_CANDIDATES ||
	       (p->evaluated && clock_mono_ns(p->w->core->clock) - p->started_ns > SEARCH_NS);
}

/* Fill the page. False: out of memory. */
static bool fill(struct page *p)
{
	struct search *s = p->s;
	struct str names[CHUNK], last = s->after;
	size_t n;

	do {
		n = fetch(p, last, names);
		for (size_t i = 0; i < n && !p->over; i++) {
			if (full(p)) {
				s->more = true;
				s->last = arena_dup(s->arena, last);
				return s->last.p != NULL;
			}
			if (!try_one(p, names[i]))
				return false;
			last = names[i];
		}
	} while (n == CHUNK && !p->over);
	return true;
}

/* ---- the record ---- */

static size_t part(struct buf *b, bool *first, struct str name, const struct json *v,
		   const struct mask *m)
{
	if (!v)
		return 0;
	buf_char(b, *first ? '{' : ',');
	*first = false;
	buf_json(b, name);
	buf_char(b, ':');
	return mask_canonical(m, b, name, v);
}

static size_t put_request(const struct search *s, struct buf *b, const struct mask *m)
{
	bool first = true;
	size_t hits = part(b, &first, STR("action"), s->request.action, m);

	hits += part(b, &first, STR("context"), s->request.context, m);
	hits += part(b, &first, STR("resource"), s->request.resource, m);
	hits += part(b, &first, STR("subject"), s->request.subject, m);
	buf_char(b, '}');
	return hits;
}

void search_canonical(const struct search *s, struct buf *b)
{
	(void)put_request(s, b, NULL);
}

/* With what rules mask left out; *masked says how many values. */
static struct str write_input(const struct search *s, const struct mask *m, struct arena *a,
			      size_t *masked)
{
	struct buf b, id;

	buf_in_arena(&b, a, (size_t)4 * LIMIT_BODY);
	buf_in_arena(&id, a, (size_t)4 * LIMIT_REQUEST_ID);
	buf_lit(&b, "{\"request\":");
	*masked = put_request(s, &b, m) + mask_text(m, s->request.request_id, &id);
	b.failed = b.failed || !buf_ok(&id);
	if (id.n) {
		buf_lit(&b, ",\"request_id\":");
		buf_json(&b, buf_str(&id));
	}
	buf_char(&b, '}');
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

/* Members in ascending order of name. */
static bool write_record(const struct page *page, struct pending *p)
{
	static const struct str kinds[] = { STR_INIT("subject"), STR_INIT("resource"),
					    STR_INIT("action") };
	const struct policy_set *set = worker_policy(page->w);
	const struct search *s = page->s;
	size_t masked;
	struct str input = write_input(s, page->w->core->mask, &p->arena, &masked);
	struct record *rec = &p->job.record;

	if (!input.p)
		return false;
	record_int(rec, STR("candidates"), page->evaluated);
	record_int(rec, STR("cost_us"),
		   (clock_mono_ns(page->w->core->clock) - page->started_ns) / 1000);
	record_str(rec, STR("engine"), STR(WRIT_ENGINE));
	record_int(rec, STR("generation"), set ? (int64_t)set->generation : 0);
	record_commit(rec, OPENING_INPUT, input, page->w->sha);
	record_str(rec, STR("kind"), STR("authz.search"));
	if (masked)
		record_int(rec, STR("masked"), (int64_t)masked);
	record_str(rec, STR("pep"), s->caller->id);
	if (set)
		record_hash(rec, STR("policy_sha256"), set->hash);
	record_int(rec, STR("results"), (int64_t)s->n);
	record_str(rec, STR("search"), kinds[s->kind]);
	record_str(rec, STR("trace_id"), s->request.trace_id);
	return record_ok(rec);
}

static void recorded(void *owner, const struct recorded *r)
{
	struct search *s = owner;
	struct err e = { 0 };

	if (!r->ok)
		err_code(&e, ERR_UNAVAILABLE, REASON_AUDIT_UNAVAILABLE,
			 "the search could not be put on record: %s", r->err.msg);
	s->done(s, &e);
}

static void record(const struct page *page)
{
	struct recorded none = { .ok = false };
	struct pending *p = pending_new(page->w, &none.err);

	if (p && write_record(page, p)) {
		pending_stage(p, recorded, page->s);
		return;
	}
	if (p)
		err_set(&none.err, ERR_UNAVAILABLE, "its record is too large or memory is short");
	pending_drop(p);
	recorded(page->s, &none);
}

/* An agent's search is worth more than one request if it looked at many. */
static void charge(const struct page *p)
{
	const struct caller *c = p->s->caller;
	int64_t wait;

	for (uint32_t i = SEARCH_COST; !(c->roles & ROLE_PEP) && i <= p->evaluated;
	     i += SEARCH_COST)
		if (!limit_take(p->w->core->agent_limit, c->id, p->started_ns, &wait))
			return;
}

void search_run(struct worker *w, struct search *s)
{
	struct page p = { .s = s, .w = w, .started_ns = clock_mono_ns(w->core->clock) };
	struct err e = { 0 };
	bool ok;

	if (!decide_admit(w, s->caller, 1, &s->retry_ms, &e)) {
		s->done(s, &e);
		return;
	}
	if (s->limit > SEARCH_CANDIDATES)
		s->limit = SEARCH_CANDIDATES;
	s->results = arena_alloc(s->arena, (s->limit + 1) * sizeof(*s->results));
	arena_init(&p.scratch, &mem_system, SCRATCH);
	ok = s->results && fill(&p);
	arena_clear(&p.scratch);
	if (!ok) {
		err_set(&e, ERR_UNAVAILABLE, "memory is short; try again later");
		s->done(s, &e);
		return;
	}
	charge(&p);
	record(&p);
}
