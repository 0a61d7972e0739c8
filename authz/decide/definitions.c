/*
 * What takes away (a tool is described otherwise now) is stored and in force before it is on
 * record; what gives (it is as it was again, or accepted) is on record first.
 */
#include "authz/decide/definitions.h"

#include <stdlib.h>

#include "authz/base/log.h"
#include "authz/decide/definitions_inside.h"
#include "authz/policy/definition.h"

#define VIEW_BYTES ((size_t)256 * 1024 * 1024)
#define ACT_BYTES ((size_t)256 * 1024 * 1024)

/* As long as what is kept can be, whatever the limits of requests were. */
static const struct json_limits kept_limits = {
	.string = (size_t)4 * LIMIT_BODY, .depth = 256, .members = 65536, .values = 4 * LIMIT_VALUES
};

/* ---- for fronts ---- */

size_t definition_find(const struct definition_view *v, struct str tool)
{
	size_t lo = 0, hi = v ? v->n : 0;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = str_cmp(tool, v->known[mid].tool);

		if (c == 0)
			return mid;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return v ? v->n : 0;
}

bool definition_judge(const struct definition_view *v, const struct policy_pin *pin,
		      struct str digest, int64_t now_ms, bool *news)
{
	size_t i = definition_find(v, pin->tool);
	const struct policy_definition *known = v && i < v->n ? &v->known[i] : NULL;
	bool good = policy_definition_holds(pin, known, digest);

	if (!known || !known->observed.n)
		*news = true;
	else if (str_eq(known->observed, digest))
		*news = false;
	else if (!good && policy_definition_holds(pin, known, known->observed))
		*news = true;
	else
		*news = now_ms < v->standing[i].seen_ms ||
			now_ms - v->standing[i].seen_ms >= DEFINITION_PAUSE_MS;
	return good;
}

/* ---- the view ---- */

static void view_free(struct shared *shared)
{
	struct definition_view *v = (struct definition_view *)(void *)shared;

	arena_clear(&v->arena);
	free(v);
}

const struct json *definition_parse(struct str text, struct arena *a)
{
	const struct json *v = NULL;
	struct err ignored = { 0 };

	return text.n && json_parse(text, &kept_limits, a, &v, &ignored) ? v : NULL;
}

/* The pinned definition: from the catalogue, else as it was seen while it held. */
struct str definition_pinned(const struct policy_pin *pin, const struct definition_row *row)
{
	if (pin->definition.n)
		return pin->definition;
	return str_eq(row->good, pin->digest) ? row->good_definition : (struct str){ "", 0 };
}

struct str definition_changes_of(const struct policy_pin *pin, const struct definition_row *row,
				 struct arena *a)
{
	const struct json *was = definition_parse(definition_pinned(pin, row), a);
	const struct json *is = definition_parse(row->definition, a);
	struct buf b;

	if (!was || !is)
		return (struct str){ "", 0 };
	buf_in_arena(&b, a, DEFINITION_CHANGES);
	definition_changes(was, is, &b);
	return buf_ok(&b) && b.n ? buf_str(&b) : (struct str){ "", 0 };
}

struct definition_standing definition_standing_of(const struct definition_row *row, bool about)
{
	struct definition_standing s = { .seen_by = row->seen_by, .seen_ms = row->seen_ms };

	if (about) {
		s.proposed = row->proposed;
		s.proposed_by = row->proposed_by;
		s.proposed_ms = row->proposed_ms;
		s.accepted_first = row->accepted_first;
		s.accepted_by = row->accepted_by;
		s.accepted_ms = row->accepted_ms;
	}
	return s;
}

/* One row of the view; the pin in force may be another than the row is about, or none. */
static bool fill(struct definitions *d, struct definition_view *v, struct definition_row *row,
		 const struct policy_set *set, struct arena *scratch, struct err *e)
{
	const struct policy_pin *pin = set ? policy_set_pin(set, row->tool) : NULL;
	struct policy_definition *k = &v->known[v->n];
	bool about = !pin || str_eq(row->pin, pin->digest), found;

	*k = (struct policy_definition){
		.tool = row->tool,
		.observed = row->digest,
		.pinned = pin ? arena_dup(&v->arena, pin->digest) : row->pin,
		.accepted = about ? row->accepted : STR(""),
	};
	v->standing[v->n] = definition_standing_of(row, about);
	if (pin && !policy_definition_holds(pin, k, k->observed)) {
		if (!definition_store_get(d->store, row->tool, scratch, row, &found, e))
			return false;
		k->changes = arena_dup(&v->arena, definition_changes_of(pin, row, scratch));
		arena_reset(scratch);
		if (!k->changes.p)
			return err_set(e, ERR_NOMEM, "no memory for the definitions of tools");
	}
	v->n++;
	return true;
}

static bool fill_all(struct definitions *d, struct definition_view *v, struct definition_row *rows,
		     size_t n, const struct policy_set *set, struct err *e)
{
	struct arena scratch;
	bool ok = true;

	v->known = arena_alloc(&v->arena, (n + 1) * sizeof(*v->known));
	v->standing = arena_alloc(&v->arena, (n + 1) * sizeof(*v->standing));
	if (!v->known || !v->standing)
		return err_set(e, ERR_NOMEM, "no memory for the definitions of tools");
	arena_init(&scratch, &mem_system, ACT_BYTES);
	for (size_t i = 0; ok && i < n; i++)
		ok = fill(d, v, &rows[i], set, &scratch, e);
	arena_clear(&scratch);
	return ok;
}

bool definitions_publish(struct control *c, struct err *e)
{
	struct definitions *d = c->definitions;
	uint64_t version = atomic_load(&c->core->policies.version);
	struct policy_set *set = (struct policy_set *)slot_acquire(&c->core->policies);
	struct definition_view *v = calloc(1, sizeof(*v));
	struct definition_row *rows;
	size_t n;
	bool ok = v != NULL || err_set(e, ERR_NOMEM, "no memory for the definitions of tools");

	if (ok) {
		shared_init(&v->shared, view_free);
		arena_init(&v->arena, &mem_system, VIEW_BYTES);
		ok = definition_store_list(d->store, &v->arena, &rows, &n, e) &&
		     fill_all(d, v, rows, n, set, e);
	}
	shared_release(set ? &set->shared : NULL);
	if (!ok) {
		if (v)
			shared_release(&v->shared);
		d->policies = UINT64_MAX; /* the next look tries again */
		return false;
	}
	slot_publish(&c->core->definitions, &v->shared);
	d->policies = version;
	return true;
}

bool definitions_open(struct control *c, struct err *e)
{
	c->definitions = calloc(1, sizeof(*c->definitions));
	if (!c->definitions)
		return err_set(e, ERR_NOMEM, "no memory for the definitions of tools");
	return definition_store_open(c->db, &c->definitions->store, e) && definitions_publish(c, e);
}

void definitions_close(struct control *c)
{
	if (!c->definitions)
		return;
	definition_store_close(c->definitions->store);
	free(c->definitions);
	c->definitions = NULL;
}

void definitions_tick(struct control *c)
{
	struct err e = { 0 };

	if (atomic_load(&c->core->policies.version) != c->definitions->policies &&
	    !definitions_publish(c, &e))
		log_event(LOG_ERROR, "definitions.publish", "why=\"%s\"", e.msg);
}

/* ---- what was seen ---- */

enum turn { STAYS, CHANGED, RESTORED };

/* One that is news. */
struct sighted {
	const struct definition_sighting *s;
	const struct policy_pin *pin;
	struct definition_row row; /* as it will be */
	struct str before;	   /* seen before that; empty: nothing was */
	enum turn turn;
};

struct observation {
	struct control *c;
	struct str by;
	int64_t now_ms;
	const struct policy_set *set;
	const struct definition_view *view;
	struct arena arena;
	struct sighted *news;
	size_t n;
	const struct definition_sighting *list;
	size_t nlist;
};

static void draft_turn(struct observation *o, const struct sighted *k, struct act_record *r)
{
	struct buf b;

	act_record_begin(r);
	record_str(&r->job.record, STR("digest"), k->row.digest);
	record_str(&r->job.record, STR("digest_before"), k->before);
	record_str(&r->job.record, STR("digest_pinned"), k->pin->digest);
	if (k->turn == CHANGED) { /* the server's own words */
		buf_in_arena(&b, &r->arena, (size_t)2 * LIMIT_BODY);
		buf_lit(&b, "{\"changes\":");
		buf_json(&b, definition_changes_of(k->pin, &k->row, &o->arena));
		if (k->row.definition.n) {
			buf_lit(&b, ",\"definition\":");
			buf_add(&b, k->row.definition);
		}
		buf_char(&b, '}');
		if (buf_ok(&b))
			record_commit(&r->job.record, OPENING_INPUT, buf_str(&b), o->c->sha);
		else
			r->text.failed = true;
	}
	record_str(&r->job.record, STR("kind"), STR("tool.definition"));
	record_str(&r->job.record, STR("outcome"),
		   k->turn == CHANGED ? STR("changed") : STR("restored"));
	record_str(&r->job.record, STR("pep"), o->by);
	record_str(&r->job.record, STR("tool"), k->row.tool);
}

/* A server that is replaced may describe all of its tools otherwise at once. */
static bool record_turns(struct observation *o, enum turn turn, struct err *e)
{
	struct act_record *r = arena_alloc(&o->arena, ACT_RECORDS_MAX * sizeof(*r));
	size_t n = 0;

	if (!r)
		return err_set(e, ERR_NOMEM, "no memory for the records of definitions");
	for (size_t i = 0; i < o->n; i++) {
		if (o->news[i].turn == turn)
			draft_turn(o, &o->news[i], &r[n++]);
		if (n == ACT_RECORDS_MAX && !act_records_append(o->c, r, n, e))
			return false;
		n %= ACT_RECORDS_MAX;
	}
	return !n || act_records_append(o->c, r, n, e);
}

/* Is the same tool listed in another way as well, which does not hold? Then that one counts. */
static bool has_worse(const struct observation *o, const struct policy_pin *pin)
{
	bool news;

	for (size_t i = 0; i < o->nlist; i++)
		if (str_eq(o->list[i].tool, pin->tool) &&
		    !definition_judge(o->view, pin, o->list[i].digest, o->now_ms, &news))
			return true;
	return false;
}

/* Is this one news, and what does it turn? Others may have told the same meanwhile. */
static bool look(struct observation *o, const struct definition_sighting *s, struct err *e)
{
	const struct policy_pin *pin = o->set ? policy_set_pin(o->set, s->tool) : NULL;
	struct sighted *k = &o->news[o->n];
	struct policy_definition known = { .tool = s->tool };
	bool news, good, was, found;

	if (!pin)
		return true;
	good = definition_judge(o->view, pin, s->digest, o->now_ms, &news);
	if (!news || (good && has_worse(o, pin)))
		return true;
	*k = (struct sighted){ .s = s, .pin = pin };
	if (!definition_store_get(o->c->definitions->store, s->tool, &o->arena, &k->row, &found, e))
		return false;
	known.pinned = k->row.pin;
	known.accepted = k->row.accepted;
	was = !found || policy_definition_holds(pin, &known, k->row.digest);
	k->before = found ? k->row.digest : STR("");
	k->turn = good == was ? STAYS : good ? RESTORED : CHANGED;
	if (!good && !was) /* another one that nobody reviewed */
		k->turn = CHANGED;
	k->row.digest = s->digest;
	k->row.definition = s->text.n <= DEFINITION_KEPT_MAX ? s->text : STR("");
	k->row.seen_by = o->by;
	k->row.seen_ms = o->now_ms;
	if (str_eq(s->digest, pin->digest)) {
		k->row.good = k->row.digest;
		k->row.good_definition = k->row.definition;
	}
	o->n++;
	return true;
}

/* Room for @more rows; those of tools that are not pinned any more make way. */
static bool make_room(struct observation *o, size_t more, struct err *e)
{
	struct definition_store *store = o->c->definitions->store;
	struct definition_row *rows;
	size_t n, left;

	if (!o->view || o->view->n + more <= DEFINITION_ROWS_MAX)
		return true;
	if (!definition_store_list(store, &o->arena, &rows, &n, e))
		return false;
	left = n;
	for (size_t i = 0; i < n && left + more > DEFINITION_ROWS_MAX; i++)
		if (!policy_set_pin(o->set, rows[i].tool)) {
			if (!definition_store_forget(store, rows[i].tool, e))
				return false;
			left--;
		}
	return left + more <= DEFINITION_ROWS_MAX ||
	       err_code(e, ERR_UNAVAILABLE, "too_many",
			"the definitions of more than %d pinned tools are known; pin fewer",
			DEFINITION_ROWS_MAX);
}

static bool store(struct observation *o, struct err *e)
{
	AUTO_TX tx = { 0 };
	size_t more = 0;

	for (size_t i = 0; i < o->n; i++)
		more += o->news[i].before.n == 0;
	if (!db_begin(o->c->db, &tx, e) || !make_room(o, more, e))
		return false;
	for (size_t i = 0; i < o->n; i++)
		if (!definition_store_put(o->c->definitions->store, &o->news[i].row, e))
			return false;
	return db_commit(&tx, e);
}

static bool observe(struct observation *o, struct err *e)
{
	struct err unrecorded = { 0 };
	bool published;

	o->news = arena_alloc(&o->arena, (o->nlist + 1) * sizeof(*o->news));
	if (!o->news)
		return err_set(e, ERR_NOMEM, "no memory for the definitions of tools");
	for (size_t i = 0; i < o->nlist; i++)
		if (!look(o, &o->list[i], e))
			return false;
	if (!o->n)
		return true;
	if (!record_turns(o, RESTORED, e) || !store(o, e))
		return false;
	/* What is stored is on record, even if the fronts are told only by the next look. */
	published = definitions_publish(o->c, e);
	if (!record_turns(o, CHANGED, published ? e : &unrecorded)) {
		log_event(LOG_ERROR, "tool.unrecorded", "why=\"%s\"",
			  published ? e->msg : unrecorded.msg);
		return false;
	}
	return published;
}

bool definitions_observe(struct control *c, const struct definition_sighting *list, size_t n,
			 struct str by, struct err *e)
{
	struct policy_set *set = (struct policy_set *)slot_acquire(&c->core->policies);
	struct definition_view *view;
	struct observation o = { .c = c, .by = by, .set = set, .list = list, .nlist = n };
	bool ok;

	definitions_tick(c); /* so that the view is about these pins */
	view = (struct definition_view *)slot_acquire(&c->core->definitions);
	o.view = view;
	o.now_ms = clock_wall_ms(c->core->clock);
	arena_init(&o.arena, &mem_system, ACT_BYTES);
	ok = observe(&o, e);
	for (size_t i = 0; ok && i < o.n; i++)
		if (o.news[i].turn != STAYS)
			log_event(LOG_WARN, "tool.definition",
				  "tool=\"%.*s\" outcome=%s digest=%.*s",
				  STR_FMT(o.news[i].row.tool),
				  o.news[i].turn == CHANGED ? "changed" : "restored",
				  STR_FMT(o.news[i].row.digest));
	arena_clear(&o.arena);
	shared_release(set ? &set->shared : NULL);
	shared_release(view ? &view->shared : NULL);
	return ok;
}
