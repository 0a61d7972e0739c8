#include "authz/audit/record.h"

#include <assert.h>
#include <endian.h>

#include "authz/base/text.h"
#include "include/writ/words.h"

/* The first eight bytes of a name as a number that sorts like it; a shorter one is filled up with
 * zeros. Of shorter ones, such as those of gaps are, it is all there is. */
static inline uint64_t key_of(struct str name)
{
	uint64_t w = 0;
	uint32_t head, tail;

	if (name.n >= 8) {
		memcpy(&w, name.p, 8);
		return be64toh(w);
	}
	if (name.n >= 4) {
		memcpy(&head, name.p, 4);
		memcpy(&tail, name.p + name.n - 4, 4);
		return (uint64_t)be32toh(head) << 32 | (uint64_t)be32toh(tail) << 8 * (8 - name.n);
	}
	for (size_t i = 0; i < name.n; i++)
		w |= (uint64_t)(unsigned char)name.p[i] << (56 - 8 * i);
	return w;
}

#define GAP_KEY(a, b, c, d) \
	((uint64_t)(a) << 56 | (uint64_t)(b) << 48 | (uint64_t)(c) << 40 | (uint64_t)(d) << 32)

static const uint64_t gap_keys[GAP_COUNT] = {
	[GAP_BOOT] = GAP_KEY('b', 'o', 'o', 't'), [GAP_NODE] = GAP_KEY('n', 'o', 'd', 'e'),
	[GAP_PREV] = GAP_KEY('p', 'r', 'e', 'v'), [GAP_SEQ] = GAP_KEY('s', 'e', 'q', 0),
	[GAP_TIME] = GAP_KEY('t', 'i', 'm', 'e'), [GAP_V] = GAP_KEY('v', 0, 0, 0),
};

static const struct str opening_names[OPENING_COUNT] = {
	[OPENING_ANSWER] = STR_INIT("answer"),
	[OPENING_FACTS] = STR_INIT("facts"),
	[OPENING_INPUT] = STR_INIT("input"),
};

struct str record_opening_name(enum opening which)
{
	return opening_names[which];
}

void record_begin(struct record *r, struct buf *text)
{
	*r = (struct record){ .text = text };
}

/* Write the name of the next member; the gaps that sort before it are here. */
static void member(struct record *r, struct str name, struct str suffix)
{
	size_t n = name.n + suffix.n;
	char *at = buf_room(r->text, n + 3);
	uint64_t key;

	if (!at)
		return;
	at[0] = '"';
	buf_copy(at + 1, name.p, name.n);
	buf_copy(at + 1 + name.n, suffix.p, suffix.n);
	at[1 + n] = '"';
	at[2 + n] = ':';
	key = suffix.n ? key_of((struct str){ at + 1, n }) : key_of(name);
	while (r->gaps < GAP_COUNT && gap_keys[r->gaps] < key)
		r->at[r->gaps++] = r->text->n;
	/* Bugs, not input: a leaf out of order could not be read back as canonical. The name before
	 * is read where it stands now, since the buf may have moved. */
	assert(r->gaps == GAP_COUNT || gap_keys[r->gaps] != key);
	assert(r->last_key < key ||
	       (r->last_key == key && str_before((struct str){ r->text->p + r->last_at, r->last_n },
						 (struct str){ at + 1, n })));
	r->last_key = key;
	r->last_at = r->text->n + 1;
	r->last_n = n;
	r->text->n += n + 3;
}

/* At most @max bytes of @s, not ending inside a UTF-8 sequence. */
static struct str cut(struct str s, size_t max)
{
	if (s.n <= max)
		return s;
	while (max && ((unsigned char)s.p[max] & 0xc0) == 0x80)
		max--;
	return str_first(s, max);
}

void record_str(struct record *r, struct str name, struct str value)
{
	if (!value.n)
		return;
	member(r, name, (struct str){ 0 });
	buf_json(r->text, cut(value, RECORD_VALUE_MAX));
	buf_char(r->text, ',');
}

void record_int(struct record *r, struct str name, int64_t value)
{
	/* Integers in the log are those that every JSON reader keeps (RFC 7493 2.2). */
	const int64_t limit = (INT64_C(1) << 53) - 1;

	member(r, name, (struct str){ 0 });
	buf_i64(r->text, value > limit ? limit : value < -limit ? -limit : value);
	buf_char(r->text, ',');
}

static void hash_member(struct record *r, struct str name, struct str suffix, const uint8_t *hash)
{
	char *at;

	member(r, name, suffix);
	at = buf_room(r->text, 2 * SHA256_LEN + 3);
	if (!at)
		return;
	at[0] = '"';
	text_hex(hash, SHA256_LEN, at + 1);
	at[1 + 2 * SHA256_LEN] = '"';
	at[2 + 2 * SHA256_LEN] = ',';
	r->text->n += 2 * SHA256_LEN + 3;
}

void record_hash(struct record *r, struct str name, const uint8_t hash[static SHA256_LEN])
{
	hash_member(r, name, (struct str){ 0 }, hash);
}

void record_commit(struct record *r, enum opening which, struct str value, struct sha256 *sha)
{
	uint8_t hash[SHA256_LEN];

	if (!value.p)
		return;
	sha256_salt(sha, r->openings[which].salt, SALT_LEN);
	r->openings[which].value = value;
	record_commitment(sha, opening_names[which], r->openings[which].salt, value, hash);
	hash_member(r, opening_names[which], STR("_commit"), hash);
}

bool record_ok(const struct record *r)
{
	return buf_ok(r->text) && r->text->n > 0 && r->text->n + RECORD_OWN_MAX <= LIMIT_LEAF;
}

void record_commitment(struct sha256 *sha, struct str name, const uint8_t salt[static SALT_LEN],
		       struct str value, uint8_t out[static SHA256_LEN])
{
	static const char domain[] = "writ/commit/v1"; /* its NUL is part of it */
	char head[sizeof(domain) + 2 + 64 + SALT_LEN];
	struct str parts[2];
	size_t n = sizeof(domain);

	/* In one piece: a call into the digest costs as much as hashing what it is given. */
	assert(name.n <= 64);
	memcpy(head, domain, n);
	head[n++] = (char)(name.n >> 8);
	head[n++] = (char)name.n;
	memcpy(head + n, name.p, name.n);
	memcpy(head + n + name.n, salt, SALT_LEN);
	parts[0] = (struct str){ head, n + name.n + SALT_LEN };
	parts[1] = value;
	sha256_parts(sha, parts, 2, out);
}

/* --- the leaf --- */

static char *put(char *p, struct str s)
{
	memcpy(p, s.p, s.n);
	return p + s.n;
}

static char *put_u64(char *p, uint64_t v)
{
	return p + text_put_u64(v, p);
}

static char *put_own(char *p, enum record_gap gap, const struct record_own *own)
{
	switch (gap) {
	case GAP_BOOT:
		p = put(put(put(p, STR("\"boot\":\"")), own->boot), STR("\""));
		break;
	case GAP_NODE:
		p = put(put(put(p, STR("\"node\":\"")), own->node), STR("\""));
		break;
	case GAP_PREV:
		p = put(p, STR("\"prev\":\""));
		text_hex(own->prev, SHA256_LEN, p);
		p = put(p + 2 * SHA256_LEN, STR("\""));
		break;
	case GAP_SEQ:
		p = put_u64(put(p, STR("\"seq\":")), own->seq);
		break;
	case GAP_TIME:
		p = put_u64(put(p, STR("\"time\":")), (uint64_t)own->time_ms);
		break;
	default:
		p = put(p, STR("\"v\":1"));
		break;
	}
	*p = ',';
	return p + 1;
}

size_t record_leaf(const struct record *r, const struct record_own *own, char *out)
{
	char *p = out;
	size_t from = 0;

	*p++ = '{';
	for (unsigned g = 0; g < GAP_COUNT; g++) {
		size_t at = g < r->gaps ? r->at[g] : r->text->n;

		p = put(p, (struct str){ r->text->p + from, at - from });
		from = at;
		p = put_own(p, (enum record_gap)g, own);
	}
	if (from < r->text->n)
		p = put(p, str_from(buf_str(r->text), from));
	p[-1] = '}'; /* in place of the last comma */
	return (size_t)(p - out);
}
