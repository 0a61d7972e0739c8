/*
 * AuthZEN 1.0, the single evaluation (sheet sections 2, 3, 7, 8). Foreign JSON in, a decision out:
 * nothing is judged here. A denial is a successful exchange (200); unknown members are ignored; a
 * wrong type is refused with the member's name.
 */
#include <inttypes.h>

#include "authz/server/authzen_parts.h"
#include "authz/server/handlers.h"

static void answer(struct evaluation *d, const struct decision_answer *a)
{
	struct request *r = d->user;

	if (a->refused.class != ERR_NONE) { /* recorded already */
		call_fail(r->call, &a->refused);
		if (a->refused.class == ERR_RATE)
			call_reply_header(r->call, STR("retry-after"),
					  arena_printf(r->call->arena, "%" PRId64,
						       a->retry_ms / 1000 + 1));
		call_finish(r->call);
		return;
	}
	authzen_write(request_reply(r, 200), a, r->caller.bare);
	request_send(r);
}

void handle_evaluation(struct request *r)
{
	const struct json *body = request_json(r);

	if (body)
		authzen_single(r, body);
}

void authzen_single(struct request *r, const struct json *body)
{
	struct evaluation *d = request_alloc(r, sizeof(*d));
	struct err e;

	if (!d)
		return;
	if (!authzen_request(body, &d->request, &e)) {
		request_fail(r, &e);
		return;
	}
	d->request.request_id = r->request_id;
	d->request.trace_id = r->trace_id;
	d->caller = &r->caller;
	d->arena = r->call->arena;
	d->done = answer;
	d->user = r;
	call_let_go(r->call);
	decide(r->worker, d);
}
