#include "authz/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "authz/base/text.h"

void buf_init(struct buf *b, struct alloc alloc, size_t max)
{
	*b = (struct buf){ .max = max, .alloc = alloc };
}

void buf_in_arena(struct buf *b, struct arena *a, size_t max)
{
	buf_init(b, arena_as_alloc(a), max);
}

void buf_clear(struct buf *b)
{
	mem_free(&b->alloc, b->p, b->cap);
	b->p = NULL;
	b->n = b->cap = 0;
}

char *buf_grow(struct buf *b, size_t n)
{
	size_t cap = b->cap ? b->cap * 2 : 256;
	char *p;

	if (b->failed)
		return NULL;
	if (n > b->max - b->n) {
		b->failed = true;
		return NULL;
	}
	if (cap < b->n + n)
		cap = b->n + n;
	if (cap > b->max)
		cap = b->max;
	p = mem_resize(&b->alloc, b->p, b->cap, cap);
	if (!p) {
		b->failed = true;
		return NULL;
	}
	b->p = p;
	b->cap = cap;
	return p + b->n;
}

void buf_drop(struct buf *b, size_t n)
{
	if (n >= b->n) {
		b->n = 0;
		return;
	}
	memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}

void buf_i64(struct buf *b, int64_t v)
{
	char text[TEXT_U64_MAX + 1];
	bool room = b->p && !b->failed && b->cap - b->n >= sizeof(text);
	char *at = room ? b->p + b->n : text; /* no more than it takes: a buf may have no more */
	size_t n = v < 0;

	*at = '-';
	n += text_put_u64(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, at + n);
	if (room)
		b->n += n;
	else
		buf_add(b, (struct str){ text, n });
}

void buf_hex(struct buf *b, const void *p, size_t n)
{
	char *at = buf_room(b, 2 * n);

	if (!at)
		return;
	text_hex(p, n, at);
	b->n += 2 * n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	char small[256], *at;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(small)) {
		buf_add(b, (struct str){ small, (size_t)n });
		return;
	}
	at = n < 0 ? NULL : buf_room(b, (size_t)n + 1);
	if (!at) {
		b->failed = true;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(at, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->n += (size_t)n;
}

/* What RFC 8785 3.2.2.2 escapes, and nothing else. */
static void escape(struct buf *b, unsigned char c)
{
	static const char named[] = "btn\0fr"; /* 0x08 .. 0x0d; 0x0b has no short form */
	char text[7] = "\\u00";

	if (c == '"' || c == '\\') {
		text[1] = (char)c;
		buf_add(b, (struct str){ text, 2 });
	} else if (c >= 0x08 && c <= 0x0d && c != 0x0b) {
		text[1] = named[c - 0x08];
		buf_add(b, (struct str){ text, 2 });
	} else {
		text_hex(&c, 1, text + 4);
		buf_add(b, (struct str){ text, 6 });
	}
}

/* Copy a text of 1 to 16 bytes if all of it stands for itself. */
static inline bool copy_short(char *to, struct str s)
{
	uint64_t half[2];
	uint32_t tail;

	text_halves(s, half);
	if (s.n >= 8) {
		memcpy(to, &half[0], 8);
		memcpy(to + s.n - 8, &half[1], 8);
	} else if (s.n >= 4) {
		memcpy(to, s.p, 4);
		memcpy(&tail, s.p + s.n - 4, 4);
		memcpy(to + s.n - 4, &tail, 4);
	} else {
		to[0] = s.p[0];
		to[s.n / 2] = s.p[s.n / 2];
		to[s.n - 1] = s.p[s.n - 1];
	}
	return text_halves_plain(half);
}

/* Copy @s if all of it stands for itself; else what stands at @to means nothing. */
static inline bool copy_plain(char *to, struct str s)
{
	if (s.n <= 16)
		return !s.n || copy_short(to, s);
#ifdef __SSE2__
	__m128i v = _mm_loadu_si128((const void *)(s.p + s.n - 16));
	unsigned hits = text_json_hits16(v);

	_mm_storeu_si128((void *)(to + s.n - 16), v); /* the end, together with what is before it */
	for (size_t i = 0; s.n - i > 16; i += 16) {
		v = _mm_loadu_si128((const void *)(s.p + i));
		_mm_storeu_si128((void *)(to + i), v);
		hits |= text_json_hits16(v);
	}
	return !hits;
#else
	if (text_json_plain(s) < s.n)
		return false;
	memcpy(to, s.p, s.n);
	return true;
#endif
}

/* buf_json of any text, into any buf. */
static __attribute__((noinline)) void add_escaped(struct buf *b, struct str s)
{
	size_t from = 0, i = text_json_plain(s);

	if (!buf_room(b, s.n + 2)) /* it fails before anything is written */
		return;
	buf_char(b, '"');
	for (; i < s.n; i += text_json_plain(str_from(s, i))) {
		unsigned char c = (unsigned char)s.p[i];
		size_t n = c < 0x80 ? 0 : text_utf8_char(str_from(s, i));

		if (n) {
			i += n;
			continue;
		}
		buf_add(b, (struct str){ s.p + from, i - from });
		from = ++i;
		if (c >= 0x80)
			buf_lit(b, "\xef\xbf\xbd");
		else
			escape(b, c);
	}
	buf_add(b, str_from(s, from));
	buf_char(b, '"');
}

/* Nearly always there is room and nothing to be escaped. */
void buf_json(struct buf *b, struct str s)
{
	size_t n = s.n + 2;
	char *at = b->p ? b->p + b->n : NULL;

	if (!at || n > b->cap - b->n || b->failed || !copy_plain(at + 1, s)) {
		add_escaped(b, s);
		return;
	}
	at[0] = at[n - 1] = '"';
	b->n += n;
}
