/* Witnesses over HTTP: add-checkpoint for logs that we witness (C2SP tlog-witness), and how our own
 * witnesses stand. The checkpoint's signature says who asks, so the routes are open; without
 * `witness.logs` they are not there. */
#include <inttypes.h>

#include "authz/audit/cosigner.h"
#include "authz/base/text.h"
#include "authz/decide/witnessing.h"
#include "authz/server/handlers.h"
#include "authz/server/service.h"

#define LINES_MAX 4096

static struct witnessing *witness_of(struct request *r)
{
	struct witnessing *w = r->site->core->control->witnessing;
	struct err e = { 0 };

	if (!w) {
		err_code(&e, ERR_NOT_FOUND, "not_found",
			 "this writ is no witness; `witness.logs` names the logs that one watches");
		request_fail(r, &e);
	}
	return w;
}

/* ---- add-checkpoint ---- */

static void act_cosign(struct request *r, struct control *c)
{
	(void)!witnessing_act(c, r->user, &r->failed);
}

static void refuse(struct request *r, const struct witness_ask *a)
{
	static const char *const why[] = {
		[COSIGN_FOLLOWS] = "",
		[COSIGN_OLD_AHEAD] = "the old size is more than the checkpoint's",
		[COSIGN_OTHER_OLD] = "",
		[COSIGN_FORK] = "a tree of this size with another root was cosigned",
		[COSIGN_NO_PROOF] = "no proof that this tree goes on from the cosigned one",
	};
	struct err e = { 0 };

	refusals_count(&r->site->core->refusals, r->call->peer->listener->name,
		       cosign_verdict_name(a->verdict));
	err_code(&e, ERR_INVALID, cosign_verdict_name(a->verdict), "%s", why[a->verdict]);
	call_fail_as(r->call, cosign_verdict_status(a->verdict), &e);
	call_finish(r->call);
}

static void reply_cosign(struct request *r)
{
	const struct witness_ask *a = r->user;

	switch (a->verdict) {
	case COSIGN_FOLLOWS:
		call_reply(r->call, 200, "text/plain; charset=utf-8", LINES_MAX);
		buf_add(&r->call->reply.body, buf_str(a->out));
		request_send(r);
		return;
	case COSIGN_OTHER_OLD:
		call_reply(r->call, 409, COSIGN_SIZE_TYPE, LINES_MAX);
		buf_printf(&r->call->reply.body, "%" PRIu64 "\n", a->held);
		request_send(r);
		return;
	default:
		refuse(r, a);
	}
}

void handle_witness_add(struct request *r)
{
	static const char *const known[] = { NULL };
	struct witnessing *w = witness_of(r);
	struct witness_ask *a;
	struct err e = { 0 };

	if (!w || !request_query_only(r, known))
		return;
	if (!witnessing_admit(w, peer_host(r->call->peer), clock_mono_ns(r->worker->core->clock),
			      &r->retry_ms)) {
		err_set(&e, ERR_RATE,
			"too many checkpoints from this address; try again in %" PRId64 " ms",
			r->retry_ms);
		request_fail(r, &e);
		return;
	}
	a = request_alloc(r, sizeof(*a));
	if (!a)
		return;
	a->out = request_alloc(r, sizeof(*a->out));
	if (!a->out)
		return;
	buf_in_arena(a->out, r->call->arena, LINES_MAX);
	if (!witnessing_read(w, r->call->body, a, &e)) {
		request_fail(r, &e);
		return;
	}
	r->user = a;
	request_on_control(r, act_cosign, reply_cosign);
}

/* ---- the last one: /witness/<hex of SHA-256 of the origin>/checkpoint ---- */

struct last {
	uint8_t hash[SHA256_LEN];
	struct buf note;
};

static void act_last(struct request *r, struct control *c)
{
	struct last *l = r->user;

	(void)!witnessing_last(c, l->hash, &l->note, &r->failed);
}

static void reply_last(struct request *r)
{
	const struct last *l = r->user;

	call_reply(r->call, 200, "text/plain; charset=utf-8", 2 * NOTE_MAX);
	buf_add(&r->call->reply.body, buf_str(&l->note));
	request_send(r);
}

void handle_witness_last(struct request *r)
{
	struct str path = str_from(r->call->path, sizeof("/witness/") - 1);
	struct err e = { 0 };
	struct last *l;

	if (!witness_of(r) || !(l = request_alloc(r, sizeof(*l))))
		return;
	if (path.n != 64 + sizeof("/checkpoint") - 1 || !str_ends(path, STR("/checkpoint")) ||
	    !text_unhex(str_first(path, 64), l->hash, sizeof(l->hash))) {
		err_code(&e, ERR_NOT_FOUND, "not_found",
			 "expected /witness/<SHA-256 of the origin in hexadecimal>/checkpoint");
		request_fail(r, &e);
		return;
	}
	buf_in_arena(&l->note, r->call->arena, 2 * NOTE_MAX);
	r->user = l;
	request_on_control(r, act_last, reply_last);
}

/* ---- how they stand ---- */

void witness_add_key(struct request *r, struct buf *b)
{
	const struct witnessing *w = r->site->core->control->witnessing;
	struct buf vkey;

	if (!w)
		return;
	buf_in_arena(&vkey, r->call->arena, 1024);
	witnessing_vkey(w, &vkey);
	buf_lit(b, ",\"witness_vkey\":");
	buf_json(b, buf_str(&vkey));
}

static void add_time(struct buf *b, const char *name, int64_t s)
{
	char text[CLOCK_RFC3339_MAX];

	if (!s)
		return;
	clock_rfc3339(s * 1000, text);
	buf_printf(b, ",\"%s\":\"%s\"", name, text);
}

static void add_witness(struct buf *b, const struct cosigner_report *w)
{
	buf_lit(b, "{\"name\":");
	buf_json(b, str_c(w->name));
	buf_lit(b, ",\"url\":");
	buf_json(b, str_c(w->url));
	buf_printf(b, ",\"state\":\"%s\",\"size\":%" PRIu64 ",\"failures\":%u",
		   w->failed[0] ? "failing"
		   : w->at_s	? "cosigned"
				: "waiting",
		   w->size, w->failures);
	add_time(b, "cosigned_at", w->at_s);
	if (w->failed[0]) {
		buf_printf(b, ",\"code\":\"%s\",\"error\":", w->code);
		buf_json(b, str_c(w->failed));
	}
	buf_char(b, '}');
}

static void add_log(struct buf *b, const struct witnessing_state *s)
{
	buf_lit(b, "{\"origin\":");
	buf_json(b, str_c(s->origin));
	buf_printf(b,
		   ",\"size\":%" PRIu64 ",\"cosigned\":%" PRIu64 ",\"refused\":%" PRIu64
		   ",\"forks\":%" PRIu64,
		   atomic_load(&s->size), atomic_load(&s->cosigned), atomic_load(&s->refused),
		   atomic_load(&s->forks));
	add_time(b, "cosigned_at", (int64_t)atomic_load(&s->at_s));
	buf_char(b, '}');
}

void witness_add_status(struct request *r, struct buf *b)
{
	struct cosigner_standing *s = cosigner_standing(r->site->service->cosigner);
	const struct witnessing *w = r->site->core->control->witnessing;
	const struct witnessing_state *logs;
	size_t n = 0;

	buf_lit(b, "\"witnesses\":[");
	for (size_t i = 0; s && i < s->n; i++) {
		if (i)
			buf_char(b, ',');
		add_witness(b, &s->items[i]);
	}
	buf_lit(b, "],\"logs\":[");
	logs = w ? witnessing_states(w, &n) : NULL;
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_char(b, ',');
		add_log(b, &logs[i]);
	}
	buf_char(b, ']');
	shared_release(s ? &s->shared : NULL);
}

void handle_witnesses(struct request *r)
{
	static const char *const known[] = { NULL };
	struct buf *b;

	if (!request_query_only(r, known))
		return;
	b = request_reply(r, 200);
	buf_char(b, '{');
	witness_add_status(r, b);
	buf_char(b, '}');
	request_send(r);
}

static void gauge(struct buf *b, const char *name, const char *help)
{
	buf_printf(b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

void witness_add_metrics(struct request *r, struct buf *b)
{
	struct cosigner_standing *s = cosigner_standing(r->site->service->cosigner);
	const struct witnessing *w = r->site->core->control->witnessing;
	const struct witnessing_state *logs;
	size_t n = 0;

	if (s)
		gauge(b, "writ_witness_cosigned_seconds",
		      "When a witness last cosigned our checkpoint; 0: never.");
	for (size_t i = 0; s && i < s->n; i++)
		buf_printf(b, "writ_witness_cosigned_seconds{witness=\"%s\"} %" PRId64 "\n",
			   s->items[i].name, s->items[i].at_s);
	if (s)
		gauge(b, "writ_witness_failures", "Failed requests since the last cosignature.");
	for (size_t i = 0; s && i < s->n; i++)
		buf_printf(b, "writ_witness_failures{witness=\"%s\"} %u\n", s->items[i].name,
			   s->items[i].failures);
	logs = w ? witnessing_states(w, &n) : NULL;
	if (n)
		gauge(b, "writ_witnessed_records", "Records of a log that we cosigned.");
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "writ_witnessed_records{origin=\"%s\"} %" PRIu64 "\n", logs[i].origin,
			   atomic_load(&logs[i].size));
	if (n)
		gauge(b, "writ_witnessed_forks",
		      "Contradictions that a log signed, since the start.");
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "writ_witnessed_forks{origin=\"%s\"} %" PRIu64 "\n", logs[i].origin,
			   atomic_load(&logs[i].forks));
	shared_release(s ? &s->shared : NULL);
}

static void finding(struct buf *b, const char *name, const char *severity)
{
	buf_printf(b, "%s{\"name\":\"%s\",\"severity\":\"%s\",\"message\":",
		   b->n && b->p[b->n - 1] == '[' ? "" : ",", name, severity);
}

void witness_add_findings(struct request *r, struct buf *b)
{
	struct cosigner_standing *s = cosigner_standing(r->site->service->cosigner);
	const struct witnessing *w = r->site->core->control->witnessing;
	const struct witnessing_state *logs;
	size_t n = 0;
	struct buf text;

	buf_in_arena(&text, r->call->arena, 65536);
	for (size_t i = 0; s && i < s->n; i++) {
		if (!s->items[i].failed[0])
			continue;
		buf_reset(&text);
		buf_printf(&text, "witness %s has not cosigned: %s", s->items[i].name,
			   s->items[i].failed);
		finding(b, "witness", "warning");
		buf_json(b, buf_str(&text));
		buf_char(b, '}');
	}
	logs = w ? witnessing_states(w, &n) : NULL;
	for (size_t i = 0; i < n; i++) {
		if (!atomic_load(&logs[i].forks))
			continue;
		buf_reset(&text);
		buf_printf(&text,
			   "the log %s signed a history that contradicts what was cosigned; the "
			   "evidence is in the records of kind witness.refuse",
			   logs[i].origin);
		finding(b, "witnessed_fork", "warning");
		buf_json(b, buf_str(&text));
		buf_char(b, '}');
	}
	shared_release(s ? &s->shared : NULL);
}
