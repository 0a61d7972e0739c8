/* What is in force: /v1/policies. */
#include <inttypes.h>

#include "authz/base/text.h"
#include "authz/server/handlers.h"

void add_rule_json(void *ctx, struct str policy, struct str rule, const char *effect,
		   struct str file, int line, struct str on)
{
	struct rules_listing *l = ctx;

	buf_add(l->b, l->first ? STR("{\"policy\":") : STR(",{\"policy\":"));
	l->first = false;
	buf_json(l->b, policy);
	buf_lit(l->b, ",\"rule\":");
	buf_json(l->b, rule);
	buf_printf(l->b, ",\"effect\":\"%s\",\"file\":", effect);
	buf_json(l->b, file);
	buf_printf(l->b, ",\"line\":%d,\"on\":", line);
	buf_json(l->b, on);
	buf_char(l->b, '}');
}

/* The content of the set in force: what If-Match of an act is held against. */
void put_etag(struct request *r, const uint8_t hash[static 32])
{
	char *tag = arena_alloc(r->call->arena, 66);

	if (!tag)
		return;
	tag[0] = tag[65] = '"';
	text_hex(hash, 32, tag + 1);
	call_reply_header(r->call, STR("etag"), (struct str){ tag, 66 });
}

void handle_policies(struct request *r)
{
	struct policy_standing *standing = (struct policy_standing *)slot_acquire(
		&r->worker->core->control->standing);
	struct policy_set *set = worker_policy(r->worker);
	struct buf *b = request_reply(r, 200);
	struct rules_listing l = { b, true };

	buf_printf(b, "{\"generation\":%" PRIu64, set ? set->generation : 0);
	if (set) {
		buf_lit(b, ",\"hash\":\"");
		buf_hex(b, set->hash, sizeof(set->hash));
		buf_char(b, '"');
		put_etag(r, set->hash);
	}
	if (standing && standing->generation) {
		char since[CLOCK_RFC3339_MAX];

		clock_rfc3339(standing->since_ms, since);
		buf_printf(b, ",\"since\":\"%s\",\"pinned\":%s", since,
			   standing->pinned ? "true" : "false");
	}
	if (standing && standing->failed.class != ERR_NONE) {
		buf_lit(b, ",\"refused\":");
		buf_json(b, str_c(standing->failed.msg));
	}
	shared_release(standing ? &standing->shared : NULL);
	buf_lit(b, ",\"rules\":[");
	if (set)
		policy_set_rules(set, add_rule_json, &l);
	buf_lit(b, "]}");
	request_send(r);
}
