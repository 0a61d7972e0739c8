#include "authz/audit/rotation.h"

#include <inttypes.h>

#include "authz/audit/flat.h"
#include "authz/base/text.h"

#define LINE_MAX_BYTES (4 + ROTATIONS_MAX * ROTATION_LEN)
#define TEXT_MAX 1024

void rotation_text(struct str origin, uint64_t size, const uint8_t key[static 32], struct buf *out)
{
	buf_lit(out, "writ/key.rotate/v1\n");
	buf_add(out, origin);
	buf_printf(out, "\n%" PRIu64 "\n", size);
	text_base64(out, BASE64_STD, key, 32);
	buf_char(out, '\n');
}

/* --- the line --- */

static void put_be(uint8_t *to, uint64_t v, unsigned n)
{
	while (n--)
		*to++ = (uint8_t)(v >> (8 * n));
}

void rotations_line(const struct rotations *r, uint64_t size, struct buf *out)
{
	uint8_t bytes[LINE_MAX_BYTES], *at = bytes + 4;

	put_be(bytes, ROTATION_ID, 4);
	for (size_t i = 0; i < r->n && r->at[i].size < size; i++, at += ROTATION_LEN) {
		put_be(at, r->at[i].size, 8);
		memcpy(at + 8, r->at[i].key, 32);
		memcpy(at + 40, r->at[i].signature, 64);
	}
	if (at == bytes + 4)
		return;
	buf_lit(out, "\xe2\x80\x94 " ROTATION_NAME " ");
	text_base64(out, BASE64_STD, bytes, (size_t)(at - bytes));
	buf_char(out, '\n');
}

static bool malformed(struct err *e)
{
	return err_set(e, ERR_INVALID, "its line of key rotations is malformed");
}

static bool read_line(struct str base64, struct rotations *r, struct err *e)
{
	uint8_t bytes[LINE_MAX_BYTES + 3];
	uint64_t last = 0;
	size_t n;

	if (base64.n > 4 * (LINE_MAX_BYTES + 2) / 3 ||
	    !text_unbase64(base64, BASE64_STD, bytes, &n) || n == 4 || (n - 4) % ROTATION_LEN)
		return malformed(e);
	for (const uint8_t *at = bytes + 4; at < bytes + n; at += ROTATION_LEN) {
		struct rotation *one = &r->at[r->n++];

		one->size = 0;
		for (int i = 0; i < 8; i++)
			one->size = one->size << 8 | at[i];
		if (one->size <= last || one->size > INT64_MAX)
			return malformed(e);
		last = one->size;
		memcpy(one->key, at + 8, 32);
		memcpy(one->signature, at + 40, 64);
	}
	return true;
}

bool rotations_read(const struct note *n, struct rotations *r, struct err *e)
{
	r->n = 0;
	for (size_t i = 0; i < n->n; i++) {
		const struct note_signature *s = &n->signatures[i];

		if (s->id != ROTATION_ID || !str_eq(s->name, STR(ROTATION_NAME)))
			continue;
		if (r->n)
			return malformed(e);
		if (!read_line(s->base64, r, e))
			return false;
	}
	return true;
}

/* --- trust --- */

static bool signed_by(const struct rotation *r, const uint8_t key[static 32], struct str origin)
{
	AUTO_BUF text;

	buf_init(&text, mem_system, TEXT_MAX);
	rotation_text(origin, r->size, r->key, &text);
	return buf_ok(&text) && note_ed25519(key, buf_str(&text), r->signature);
}

/* Where the given @key stands among them: *next is the first rotation that it, or one after it, has
 * signed. False: nowhere. */
static bool place(const struct rotations *r, struct str origin, const struct note_key *key,
		  size_t *next)
{
	for (size_t i = r->n; i > 0; i--)
		if (memcmp(r->at[i - 1].key, key->public_key, 32) == 0) {
			*next = i;
			return true;
		}
	*next = 0;
	return r->n && signed_by(&r->at[0], key->public_key, origin);
}

/* Each is by the key that the one before it names. */
static bool is_chain(const struct rotations *r, struct str origin, struct err *e)
{
	for (size_t i = 1; i < r->n; i++)
		if (!signed_by(&r->at[i], r->at[i - 1].key, origin))
			return err_set(e, ERR_INVALID,
				       "the key of record %" PRIu64
				       " is not signed by the one before it",
				       r->at[i].size - 1);
	return true;
}

/* By the last key of the line, which one of @keys must lead to. */
static bool verify_rotated(const struct note *n, const struct checkpoint *c,
			   const struct rotations *r, const struct note_key *keys, size_t count,
			   struct rotation_trust *t, struct err *e)
{
	const struct rotation *last = &r->at[r->n - 1];
	bool found = false;
	size_t next;

	if (last->size >= c->size)
		return err_set(e, ERR_INVALID,
			       "it is over %" PRIu64
			       " records, and tells of a key rotation after %" PRIu64,
			       c->size, last->size);
	if (!is_chain(r, c->origin, e))
		return false;
	for (size_t i = 0; i < count && !(found && !t->since); i++) {
		if (!place(r, c->origin, &keys[i], &next))
			continue;
		found = true;
		t->given = keys[i].id;
		t->since = next < r->n ? last->size : 0;
	}
	if (!found)
		return err_set(e, ERR_INVALID,
			       "the keys that it names since record %" PRIu64
			       " do not come from a given one (%s)",
			       r->at[0].size - 1, count ? keys[0].name : "no key was given");
	return note_key_make(c->origin, last->key, &t->key, e) && note_verify(n, &t->key, 1, e);
}

bool rotations_verify(const struct note *n, const struct checkpoint *c, const struct note_key *keys,
		      size_t count, struct rotation_trust *t, struct err *e)
{
	struct rotations r;
	struct err why;

	*t = (struct rotation_trust){ 0 };
	if (!rotations_read(n, &r, e))
		return false;
	if (r.n)
		return verify_rotated(n, c, &r, keys, count, t, e);
	if (!note_verify(n, keys, count, e))
		return false;
	for (size_t i = 0; i < count; i++)
		if (note_verify(n, &keys[i], 1, &why)) {
			t->key = keys[i];
			t->given = keys[i].id;
			return true;
		}
	return err_set(e, ERR_INTERNAL, "a signature that was verified is gone");
}

/* --- the record --- */

bool rotation_of_leaf(struct str text, struct rotation *r)
{
	struct str vkey = { 0 }, signature = { 0 }, use = { 0 };
	uint8_t bytes[96];
	struct note_key key;
	struct flat f;
	struct flat_member m;
	int64_t seq = -1, size = -1;
	size_t n;

	flat_begin(&f, text);
	while (flat_next(&f, &m)) {
		if (str_eq(m.name, STR("use")))
			use = m.value;
		else if (str_eq(m.name, STR("vkey")))
			vkey = m.value;
		else if (str_eq(m.name, STR("signature")))
			signature = m.value;
		else if (str_eq(m.name, STR("size")) && !m.is_string)
			size = m.integer;
		else if (str_eq(m.name, STR("seq")) && !m.is_string)
			seq = m.integer;
	}
	if (f.failed || seq < 0 || !str_eq(use, STR("log")))
		return false;
	*r = (struct rotation){ .size = (uint64_t)seq + 1 };
	if (size != seq + 1 || !note_key_parse(vkey, &key, NULL) || signature.n != 88 ||
	    !text_unbase64(signature, BASE64_STD, bytes, &n) || n != 64)
		return true;
	memcpy(r->key, key.public_key, 32);
	memcpy(r->signature, bytes, 64);
	return true;
}

/* --- the log's own side --- */

bool key_history_make(struct str origin, const uint8_t first[static 32],
		      const struct rotations *past, struct key_history *h, struct err *e)
{
	h->past = *past;
	if (!note_key_make(origin, first, &h->first, e))
		return false;
	h->current = h->first;
	if (!past->n)
		return true;
	if (!signed_by(&past->at[0], first, origin))
		return err_set(e, ERR_INVALID,
			       "the key of record %" PRIu64 " is not signed by the first one",
			       past->at[0].size - 1);
	return is_chain(past, origin, e) &&
	       note_key_make(origin, past->at[past->n - 1].key, &h->current, e);
}

struct note_key key_history_at(const struct key_history *h, uint64_t size)
{
	struct note_key k = h->first;
	size_t i = 0;

	while (i < h->past.n && h->past.at[i].size < size)
		i++;
	if (i)
		(void)!note_key_make(str_c(h->first.name), h->past.at[i - 1].key, &k, NULL);
	return k;
}
