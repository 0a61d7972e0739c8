/*
 * A message at a time: its entries become reports, as many as there are slots, and the next message
 * is let in when all of them are on record. An entry has one report for each decision its request
 * stood on, and one more if it says what the first of them used.
 */
#include "authz/extauthz/access_log.h"

#include "authz/base/json_number.h"
#include "authz/base/text.h"
#include "authz/decide/outcome.h"
#include "authz/decide/refusals.h"
#include "authz/extauthz/access_log_message.h"
#include "authz/extauthz/parts.h"
#include "authz/net/grpc.h"

#define AGAIN_NS 250000000 /* until a report is tried again that the log could not take */
#define CROWD_NS 50000000  /* until it is looked whether others have left room */
#define REPORT_BYTES (1024 * 1024)
#define DENIED (1u << 13) /* unauthorized_details, of ResponseFlags */
#define TEXT_MAX 256

struct job {
	struct stream *s;
	struct arena arena;
	struct outcome_report report;
	bool denied; /* the proxy says that the request was */
	enum { FREE, BUSY, AGAIN } state;
};

struct stream {
	struct worker *w;
	struct call *call;
	struct caller caller;
	const char *folder;
	struct str trace_id, log_name;
	struct arena scratch; /* who the caller is, found out anew with each message */
	struct job jobs[ACCESS_LOG_SLOTS];
	size_t busy;
	struct task next_turn; /* the rest of this one's share */
	bool queued;	       /* next_turn is under way */
	bool open;	       /* a message is being worked off */
	bool advancing;	       /* further up */
	bool ended;	       /* nobody is there any more, or `failed` says why it ends */
	struct err failed;
	struct access_log_message message;
	/* What is left of the entry: ids, and usage if it was not reported yet. */
	struct access_log_entry entry;
	struct str ids;
	bool usage;
};

/* ---- one report ---- */

static void count(struct stream *s, const char *code)
{
	worker_count(&s->w->counters.log_refused);
	refusals_count(&s->w->core->refusals, s->call->peer->listener->name, code);
}

static const struct json *flags_of(struct arena *a, uint32_t flags)
{
	struct json *list = arena_zero(a, sizeof(*list));
	struct json *items = arena_zero(a, ACCESS_LOG_FLAGS * sizeof(*items));

	if (!list || !items)
		return NULL;
	for (unsigned i = 1; i <= ACCESS_LOG_FLAGS; i++)
		if (flags & (1u << i))
			items[list->n++] = (struct json){ .type = JSON_STRING,
							  .s = str_c(access_log_flag(i)) };
	list->type = JSON_ARRAY;
	list->items = items;
	return list;
}

/* As much of a foreign text as is kept, in whole characters. */
static struct str excerpt(struct str s)
{
	size_t n = s.n < TEXT_MAX ? s.n : TEXT_MAX;

	while (n && n < s.n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
		n--;
	s = str_first(s, n);
	return text_is_printable(s) ? s : STR("?");
}

static int64_t bytes(uint64_t n)
{
	return n < JSON_INT_MAX ? (int64_t)n : JSON_INT_MAX;
}

/* Foreign words: an opening, where fields and detectors of audit.mask are left out. */
static const struct json *detail_of(struct stream *s, struct arena *a)
{
	const struct access_log_entry *entry = &s->entry;
	struct fields f;

	fields_begin(&f, a, 8);
	field_str(&f, FIELD("source"), STR("access_log"));
	field_str(&f, FIELD("log"), s->log_name);
	field_int(&f, FIELD("status"), entry->status);
	field_str(&f, FIELD("details"), excerpt(entry->details));
	field_str(&f, FIELD("cluster"), excerpt(entry->cluster));
	field_int(&f, FIELD("request_bytes"), bytes(entry->request_bytes));
	field_int(&f, FIELD("response_bytes"), bytes(entry->response_bytes));
	if (entry->flags)
		field_json(&f, FIELD("flags"), flags_of(a, entry->flags));
	return fields_object(&f);
}

static const struct json *report_of(struct stream *s, struct arena *a, struct str id,
				    enum closing_kind kind)
{
	const struct access_log_entry *entry = &s->entry;
	struct fields f;

	fields_begin(&f, a, 4);
	field_str(&f, FIELD("evaluation_id"), id);
	if (kind == CLOSING_OUTCOME) {
		field_str(&f, FIELD("outcome"), str_c(access_log_outcome(entry)));
		field_json(&f, FIELD("detail"), detail_of(s, a));
		if (entry->duration_ms >= 0)
			field_int(&f, FIELD("duration_ms"), entry->duration_ms);
		return fields_object(&f);
	}
	if (entry->input_tokens >= 0)
		field_int(&f, FIELD("input_tokens"), entry->input_tokens);
	if (entry->output_tokens >= 0)
		field_int(&f, FIELD("output_tokens"), entry->output_tokens);
	if (entry->cost_micros >= 0)
		field_int(&f, FIELD("cost_micros"), entry->cost_micros);
	return fields_object(&f);
}

static void go_on(struct stream *s);

static void done(struct outcome_report *o)
{
	struct job *k = o->user;
	struct stream *s = k->s;

	s->busy--;
	s->w->reports--;
	k->state = FREE;
	if (o->failed.class == ERR_UNAVAILABLE || o->failed.class == ERR_IO)
		k->state = AGAIN; /* if it did get there, it is a repetition then */
	else if (o->failed.class == ERR_NONE)
		worker_count(&s->w->counters.log_closed);
	else if (k->denied && !strcmp(o->failed.code, "not_permitted"))
		worker_count(&s->w->counters.log_passed); /* it was we who denied it */
	else
		count(s, o->failed.code);
	if (!s->advancing)
		go_on(s);
}

static void send(struct job *k)
{
	k->state = BUSY;
	k->s->busy++;
	k->s->w->reports++;
	outcome_report(&k->report);
}

static void report(struct stream *s, struct job *k, struct str id, enum closing_kind kind)
{
	const struct json *body;
	struct err e;

	if (!k->arena.alloc)
		arena_init(&k->arena, &mem_system, REPORT_BYTES);
	arena_reset(&k->arena);
	k->s = s;
	k->denied = s->entry.flags & DENIED;
	k->report = (struct outcome_report){ .worker = s->w,
					     .caller = &s->caller,
					     .arena = &k->arena,
					     .folder = s->folder,
					     .trace_id = s->trace_id,
					     .patient = true,
					     .kind = kind,
					     .done = done,
					     .user = k };
	body = report_of(s, &k->arena, id, kind);
	if (!body)
		count(s, "out_of_memory");
	else if (!outcome_read(&k->report, body, &e))
		count(s, e.code);
	else
		send(k);
}

/* ---- entries ---- */

/* The next entry that says how a request of ours ended. False: there is none, or (*looked) this
 * turn's share is used up. */
static bool next_entry(struct stream *s, size_t *looked, struct err *e)
{
	while (*looked < ACCESS_LOG_TURN &&
	       access_log_next(&s->message, &s->w->core->usage_keys, &s->entry, e)) {
		++*looked;
		if (s->entry.bad_usage)
			count(s, "invalid_usage");
		if (!s->entry.intermediate && s->entry.decisions.n) {
			s->ids = s->entry.decisions;
			s->usage = s->entry.input_tokens >= 0 || s->entry.output_tokens >= 0 ||
				   s->entry.cost_micros >= 0;
			return true;
		}
		worker_count(&s->w->counters.log_passed);
	}
	return false;
}

static struct job *free_job(struct stream *s)
{
	for (size_t i = 0; i < ACCESS_LOG_SLOTS; i++)
		if (s->jobs[i].state == FREE)
			return &s->jobs[i];
	return NULL;
}

static bool is_idle(const struct stream *s)
{
	for (size_t i = 0; i < ACCESS_LOG_SLOTS; i++)
		if (s->jobs[i].state != FREE)
			return false;
	return true;
}

/* Usage first, while the id is still there: it is the first decision's. */
static void report_next(struct stream *s, struct job *k)
{
	struct str id = s->ids, rest = { NULL, 0 };

	(void)str_cut(s->ids, ',', &id, &rest);
	if (s->usage) {
		s->usage = false;
		report(s, k, id, CLOSING_USAGE);
		return;
	}
	s->ids = rest;
	report(s, k, id, CLOSING_OUTCOME);
}

/* ---- the stream ---- */

static void give_back(struct stream *s)
{
	for (size_t i = 0; i < ACCESS_LOG_SLOTS; i++)
		if (s->jobs[i].arena.alloc)
			arena_clear(&s->jobs[i].arena);
}

/* Somebody will still come back to it. */
static bool is_held(const struct stream *s)
{
	return s->busy || s->queued;
}

static void finish(struct stream *s)
{
	give_back(s);
	arena_clear(&s->scratch);
	s->w->logs--;
	if (s->failed.class != ERR_NONE)
		call_fail(s->call, &s->failed);
	call_finish(s->call);
}

static void end(struct stream *s)
{
	s->ended = true;
	for (size_t i = 0; i < ACCESS_LOG_SLOTS; i++)
		if (s->jobs[i].state == AGAIN)
			s->jobs[i].state = FREE;
	if (!is_held(s))
		finish(s);
}

static void fail(struct stream *s, const struct err *e)
{
	count(s, e->code);
	s->failed = *e;
	end(s);
}

static void try_again(struct stream *s)
{
	for (size_t i = 0; i < ACCESS_LOG_SLOTS; i++)
		if (s->jobs[i].state == AGAIN && s->w->reports < s->w->core->reports_max)
			send(&s->jobs[i]);
}

static void advance(struct stream *s);

static void run_next_turn(struct task *t)
{
	struct stream *s = LINK_OF(t, struct stream, next_turn);

	s->queued = false;
	if (s->open || s->ended)
		advance(s);
}

static void queue_next_turn(struct stream *s)
{
	struct chain one;

	if (s->queued)
		return;
	s->queued = true;
	s->next_turn.run = run_next_turn;
	chain_init(&one);
	chain_add(&one, &s->next_turn.link);
	queue_push_always(s->call->home->inbox, &one);
}

/* As far as jobs and this turn's share reach. True: the message is worked off. When it goes on is
 * settled here: when a job is done, in the next turn, or at a time. */
static bool work(struct stream *s, struct err *e)
{
	const int64_t now = clock_mono_ns(s->w->core->clock);
	size_t looked = 0;
	struct job *k;

	err_none(e);
	grpc_wake_at(s->call, now + AGAIN_NS);
	while ((k = free_job(s)) && looked < ACCESS_LOG_TURN) {
		if (s->w->reports >= s->w->core->reports_max) {
			grpc_wake_at(s->call, now + CROWD_NS);
			return false;
		}
		if (!s->ids.n && !next_entry(s, &looked, e) && looked < ACCESS_LOG_TURN)
			return true;
		if (s->ids.n) {
			report_next(s, k);
			looked++;
		}
	}
	if (looked >= ACCESS_LOG_TURN)
		queue_next_turn(s);
	return false;
}

static void advance(struct stream *s)
{
	struct err e;
	bool over;

	if (s->ended) {
		if (!is_held(s))
			finish(s);
		return;
	}
	s->advancing = true;
	over = work(s, &e);
	s->advancing = false;
	if (e.class != ERR_NONE) {
		fail(s, &e);
	} else if (over && is_idle(s)) {
		s->open = false;
		give_back(s);
		grpc_release(s->call);
	}
}

/* Reports look into log.db, and nobody waits for them: what this turn has answered leaves first. */
static void go_on(struct stream *s)
{
	if (s->ended)
		advance(s);
	else
		queue_next_turn(s);
}

/* A stream lives for months; the caller's right to it may not. (Its certificate is looked at where
 * the message came in.) */
static bool may_still(struct stream *s, struct err *e)
{
	struct call again = *s->call;
	struct caller now;

	arena_reset(&s->scratch);
	again.arena = &s->scratch;
	if (!caller_authenticate(s->w, &again, &now, e))
		return false;
	return ((now.roles & ROLE_PEP) && str_eq(now.id, s->caller.id)) ||
	       err_code(e, ERR_FORBIDDEN, "forbidden",
			"%.*s has no role pep any more, which access logs need",
			STR_FMT(s->caller.id));
}

static bool take(struct stream *s, struct str text, struct err *e)
{
	bool first = !s->log_name.p;

	if (!access_log_read(text, &s->message, e))
		return false;
	if (first != s->message.identified)
		return err_code(e, ERR_INVALID, "invalid_message",
				"%s message of a stream has %s identifier; the first one must "
				"have it and no other may",
				first ? "the first" : "a later", first ? "no" : "an");
	if (s->message.tcp)
		return err_code(e, ERR_INVALID, "not_http",
				"tcp_logs name no decision; send the log of HTTP requests "
				"(envoy.access_loggers.http_grpc)");
	if (first) {
		s->log_name = arena_dup(s->call->arena, excerpt(s->message.log_name));
		if (!s->log_name.p)
			return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	}
	return true;
}

static void message(struct call *call, struct str text)
{
	struct stream *s = call->user;
	struct err e;

	grpc_hold(call);
	s->open = true;
	if (may_still(s, &e) && take(s, text, &e))
		go_on(s);
	else
		fail(s, &e);
}

static void wake(struct call *call)
{
	struct stream *s = call->user;

	if (!s->open || s->ended)
		return;
	s->advancing = true;
	try_again(s);
	s->advancing = false;
	advance(s);
}

/* Envoy never does; others get their StreamAccessLogsResponse. */
static void half_closed(struct call *call)
{
	struct stream *s = call->user;

	if (!grpc_send(call, (struct str){ "", 0 }))
		err_set(&s->failed, ERR_UNAVAILABLE, "memory is short; try again later");
	end(s);
}

static void ended(struct call *call)
{
	end(call->user);
}

static const struct grpc_events events = {
	.message = message, .half_closed = half_closed, .wake = wake, .ended = ended
};

void access_log_stream(struct worker *w, struct call *call, const struct caller *caller,
		       const char *folder, struct str trace_id)
{
	struct stream *s = w->logs < ACCESS_LOG_STREAMS ? arena_zero(call->arena, sizeof(*s))
							: NULL;
	struct err e;

	if (!s) {
		err_code(&e, ERR_RATE, "too_many_logs",
			 "this loop serves %zu access logs, and no more than %d; try again later",
			 w->logs, ACCESS_LOG_STREAMS);
		refusals_count(&w->core->refusals, call->peer->listener->name, e.code);
		call_fail(call, &e);
		call_finish(call);
		return;
	}
	err_none(&s->failed);
	s->w = w;
	s->call = call;
	s->caller = *caller;
	s->folder = folder;
	s->trace_id = trace_id;
	arena_init(&s->scratch, &mem_system, REPORT_BYTES);
	w->logs++;
	call->user = s;
	grpc_stream(call, &events);
	message(call, call->body);
}
