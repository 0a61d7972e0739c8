/*
 * The log takes another key. The order, so that a stop at any point leaves a log that opens and one
 * key that signs: the new key is on disk as log-next.key; the record, with the old key's signature
 * for it, is committed, and that moment decides; the old key signs a last checkpoint; log-next.key
 * takes the place of log.key. A start that finds a record without the last step takes it; one that
 * finds log-next.key without a record removes it.
 */
#include <stdlib.h>

#include "authz/audit/parts.h"
#include "authz/audit/rows.h"
#include "authz/base/text.h"

/* --- what is known --- */

static void free_keys(struct shared *s)
{
	free((struct audit_keys *)(void *)s);
}

bool rotate_publish(struct audit *a, const struct key_history *h, struct err *e)
{
	struct audit_keys *keys = calloc(1, sizeof(*keys));

	if (!keys)
		return err_set(e, ERR_NOMEM, "no memory for the log's keys");
	keys->history = *h;
	shared_init(&keys->shared, free_keys);
	slot_publish(&a->keys, &keys->shared);
	return true;
}

void audit_keys(struct audit *a, struct key_history *out)
{
	struct audit_keys *keys = (struct audit_keys *)slot_acquire(&a->keys);

	*out = keys->history;
	shared_release(&keys->shared);
}

void audit_vkey(struct audit *a, struct buf *out)
{
	struct audit_keys *keys = (struct audit_keys *)slot_acquire(&a->keys);

	note_key_format(&keys->history.current, out);
	shared_release(&keys->shared);
}

/* --- the committer --- */

/* Members in ascending order. */
static bool draft(struct audit *a, const struct key_change *x, struct record *r, struct err *e)
{
	struct note_key key;
	AUTO_BUF text;

	buf_init(&text, a->alloc, 1024);
	if (!note_key_make(str_c(a->id.name), x->key, &key, e))
		return false;
	buf_reset(&a->own);
	record_begin(r, &a->own);
	record_str(r, STR("act"), STR("rotate"));
	note_key_format(&x->before, &text);
	record_str(r, STR("before"), buf_str(&text));
	record_str(r, STR("kind"), STR("key.rotate"));
	record_str(r, STR("pep"), x->by);
	buf_reset(&text);
	text_base64(&text, BASE64_STD, x->made.signature, sizeof(x->made.signature));
	record_str(r, STR("signature"), buf_str(&text));
	record_int(r, STR("size"), (int64_t)x->made.size);
	record_str(r, STR("use"), STR("log"));
	buf_reset(&text);
	note_key_format(&key, &text);
	record_str(r, STR("vkey"), buf_str(&text));
	return (buf_ok(&text) && record_ok(r)) ||
	       err_set(e, ERR_NOMEM, "no memory for the record of a new log key");
}

bool rotate_hand_over(struct audit *a, struct key_change *x, struct err *e)
{
	AUTO_BUF text;

	buf_init(&text, a->alloc, 1024);
	x->made.size = a->log->head.range.n + 1;
	memcpy(x->made.key, x->key, sizeof(x->key));
	if (!a->config.hand_over(a->config.ctx, x->made.size, x->made.signature, e))
		return false;
	/* What is in the log can never be taken back, so it is checked now. */
	rotation_text(str_c(a->id.name), x->made.size, x->key, &text);
	return (buf_ok(&text) &&
		note_ed25519(x->before.public_key, buf_str(&text), x->made.signature)) ||
	       err_set(e, ERR_INTERNAL, "the signer has not signed for the new log key");
}

bool rotate_fill(struct audit *a, struct key_change *x, struct err *e)
{
	struct record r;

	return draft(a, x, &r, e) && log_add(a->log, &r, NULL, e) == LOG_ADDED &&
	       rows_add_rotation(a->log->db, x->before.public_key, &x->made, e);
}

/* --- the checkpointer --- */

bool rotate_now(struct audit *a, struct key_change *x, struct err *e)
{
	struct order o = { .what = ORDER_ROTATE, .change = x };
	struct key_history h;
	struct err why = { 0 };

	audit_keys(a, &h);
	if (h.past.n == ROTATIONS_MAX)
		return err_code(
			e, ERR_CONFLICT, "too_many",
			"the log has had %d keys; no more fit into its checkpoints, start a "
			"new log",
			ROTATIONS_MAX + 1);
	x->before = h.current;
	if (!order_run(a, &o, e))
		return false;
	/* From here on the log has it. What the last checkpoint by the old key does not cover, the
	 * first one by the new key will. */
	(void)!checkpoint_over(a, &o.range, &why);
	h.past.at[h.past.n++] = x->made;
	if (note_key_make(str_c(a->id.name), x->key, &h.current, &why) &&
	    rotate_publish(a, &h, &why) && a->config.switch_key(a->config.ctx, x->made.size, &why))
		return true;
	return err_code(e, ERR_UNAVAILABLE, "rotation_unfinished",
			"the log has taken the new key in record %llu, but it cannot be used "
			"before a restart: %s",
			(unsigned long long)x->made.size - 1, why.msg);
}

bool audit_rotate(struct audit *a, const uint8_t key[static 32], struct str by, uint64_t *seq,
		  struct err *e)
{
	struct key_change x = { .by = by };
	struct request r = { .change = &x };
	bool ok;

	memcpy(x.key, key, sizeof(x.key));
	if (!a->config.hand_over || !a->config.switch_key)
		return err_set(e, ERR_INTERNAL, "this log's key cannot be changed");
	ok = request_run(a, &r, e);
	*seq = x.made.size - 1;
	return ok;
}
