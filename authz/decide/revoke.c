#include "authz/decide/revoke.h"

#include "authz/decide/revocations.h"

/* The person, and what a person said. */
static bool put_facts(struct control *c, const struct revoke_act *act, struct act_record *r)
{
	struct buf b;

	if (!act->user.n && !act->reason.n)
		return true;
	buf_in_arena(&b, &r->arena, 32 * 1024);
	buf_char(&b, '{');
	if (act->reason.n) {
		buf_lit(&b, "\"reason\":");
		buf_json(&b, act->reason);
	}
	if (act->user.n) {
		buf_add(&b, act->reason.n ? STR(",\"user\":{\"id\":") : STR("\"user\":{\"id\":"));
		buf_json(&b, act->user);
		buf_lit(&b, ",\"issuer\":");
		buf_json(&b, act->issuer);
		buf_char(&b, '}');
	}
	buf_char(&b, '}');
	if (!buf_ok(&b))
		return false;
	record_commit(&r->job.record, OPENING_FACTS, buf_str(&b), c->sha);
	return true;
}

static bool put_on_record(struct control *c, const struct revoke_act *act, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	if (act->by_holder)
		record_str(&r.job.record, STR("agent"), act->by);
	r.text.failed |= !put_facts(c, act, &r);
	record_str(&r.job.record, STR("jti"), act->jti);
	record_str(&r.job.record, STR("kind"), STR("token.revoke"));
	record_str(&r.job.record, STR("pep"), act->by);
	record_str(&r.job.record, STR("what"), act->user.n ? STR("user") : STR("token"));
	return act_record_append(c, &r, e);
}

bool revoke(struct control *c, const struct revoke_act *act, struct err *e)
{
	int64_t now_s = clock_wall_ms(c->core->clock) / 1000;
	int64_t end_s = act->expires_s ? act->expires_s : now_s + c->core->delegated_ttl;
	struct revocation r;

	if (act->user.n)
		revocation_of_user(act->issuer, act->user, now_s, c->core->delegated_ttl, c->sha,
				   &r);
	else if (!revocation_of_token(act->jti, end_s, &r))
		return err_code(e, ERR_INVALID, "invalid_request",
				"a jti has 22 characters of base64url");
	return revocations_add(c->revocations, &r, act->by_holder ? act->by : STR(""), e) &&
	       put_on_record(c, act, e);
}
