#include "authz/audit/flat.h"

#include "authz/audit/record.h"
#include "authz/base/text.h"

void flat_begin(struct flat *f, struct str text)
{
	*f = (struct flat){ .failed = true };
	if (text.n < 2 || text.p[0] != '{' || text.p[text.n - 1] != '}')
		return;
	f->failed = false;
	f->p = text.p + 1;
	f->end = text.p + text.n - 1;
}

static bool fail(struct flat *f)
{
	f->failed = true;
	return false;
}

/* The first quote or backslash from @p on, or @end. */
static inline const char *quote_or_slash(const char *p, const char *end)
{
#ifdef __SSE2__
	for (; end - p >= 16; p += 16) {
		__m128i v = _mm_loadu_si128((const void *)p);
		int hits = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
							  _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))));

		if (hits)
			return p + __builtin_ctz((unsigned)hits);
	}
#endif
	while (p < end && *p != '"' && *p != '\\')
		p++;
	return p;
}

/* From after the opening quote; leaves f->p after the closing one. */
static inline bool string(struct flat *f, struct str *out)
{
	const char *p = quote_or_slash(f->p, f->end);

	while (p < f->end && *p == '\\') {
		if (f->end - p < 2)
			return fail(f);
		p = quote_or_slash(p + 2, f->end);
	}
	if (p == f->end)
		return fail(f);
	*out = (struct str){ f->p, (size_t)(p - f->p) };
	f->p = p + 1;
	return true;
}

static bool name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || c == '_' || (c >= '0' && c <= '9');
}

#ifdef __SSE2__
static inline __m128i between(__m128i v, char first, char last)
{
	return _mm_and_si128(_mm_cmpgt_epi8(v, _mm_set1_epi8((char)(first - 1))),
			     _mm_cmplt_epi8(v, _mm_set1_epi8((char)(last + 1))));
}
#endif

static inline size_t name_length(const char *p, const char *end)
{
	size_t n = 0;

#ifdef __SSE2__
	if (end - p >= 16) {
		__m128i v = _mm_loadu_si128((const void *)p);
		__m128i good = _mm_or_si128(between(v, 'a', 'z'), between(v, '0', '9'));
		unsigned others;

		good = _mm_or_si128(good, _mm_cmpeq_epi8(v, _mm_set1_epi8('_')));
		others = ~(unsigned)_mm_movemask_epi8(good) & 0xffff;
		if (others)
			return (size_t)__builtin_ctz(others);
		n = 16;
	}
#endif
	while (p + n < end && name_byte(p[n]))
		n++;
	return n;
}

static inline bool name(struct flat *f, struct str *out)
{
	*out = (struct str){ f->p, name_length(f->p, f->end) };
	f->p += out->n;
	if (!out->n || f->end - f->p < 3 || f->p[0] != '"' || f->p[1] != ':')
		return fail(f);
	f->p += 2;
	return true;
}

/* str_before: where names differ, they do so in their first bytes. */
static inline bool before(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n, i = 0;

	while (i < n && a.p[i] == b.p[i])
		i++;
	return i < n ? a.p[i] < b.p[i] : a.n < b.n;
}

#define DIGITS_PLAIN 15 /* as many are below 2^53, whatever they are */

static inline bool integer(struct flat *f, struct flat_member *m)
{
	const char *from = f->p;
	bool minus = f->p < f->end && *f->p == '-';
	struct str digits;
	uint64_t v = 0;

	f->p += minus;
	digits.p = f->p;
	for (; f->p < f->end && *f->p >= '0' && *f->p <= '9'; f->p++)
		v = v * 10 + (uint64_t)(*f->p - '0'); /* of more than fit, text_u64 tells */
	digits.n = (size_t)(f->p - digits.p);
	if (digits.n > DIGITS_PLAIN ? !text_u64(digits, (UINT64_C(1) << 53) - 1, &v)
				    : !digits.n || (digits.n > 1 && digits.p[0] == '0'))
		return fail(f);
	if (minus && !v)
		return fail(f);
	m->integer = minus ? -(int64_t)v : (int64_t)v;
	m->is_string = false;
	m->value = (struct str){ from, (size_t)(f->p - from) };
	return true;
}

bool flat_next(struct flat *f, struct flat_member *m)
{
	if (f->failed || f->p == f->end)
		return false;
	if (f->last.p && *f->p++ != ',')
		return fail(f);
	if (f->p == f->end || *f->p++ != '"' || !name(f, &m->name) || !before(f->last, m->name))
		return fail(f);
	f->last = m->name;
	if (*f->p != '"')
		return integer(f, m);
	f->p++;
	m->is_string = true;
	m->integer = 0;
	return string(f, &m->value);
}

/* The byte that "\u00xx" stands for, if the canonical form spells it so. */
static bool control(struct str hex, char *out)
{
	uint8_t b[2];

	if (!text_unhex(hex, b, 2) || b[0] != 0 || b[1] >= 0x20 ||
	    (b[1] >= 0x08 && b[1] <= 0x0d && b[1] != 0x0b))
		return false;
	*out = (char)b[1];
	return true;
}

bool flat_unescape(struct str value, struct buf *out)
{
	static const char named[][2] = { { '"', '"' },	{ '\\', '\\' }, { 'b', '\b' },
					 { 't', '\t' }, { 'n', '\n' },	{ 'f', '\f' },
					 { 'r', '\r' } };

	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];
		size_t k;

		if ((unsigned char)c < 0x20 || c == '"')
			return false;
		if (c != '\\') {
			buf_char(out, c);
			continue;
		}
		if (++i == value.n)
			return false;
		for (k = 0; k < ARRAY_LEN(named) && named[k][0] != value.p[i]; k++)
			;
		if (k < ARRAY_LEN(named)) {
			c = named[k][1];
		} else {
			if (value.p[i] != 'u' || !control(str_first(str_from(value, i + 1), 4), &c))
				return false;
			i += 4;
		}
		buf_char(out, c);
	}
	return buf_ok(out);
}

/* --- leaves --- */

enum {
	HAS_BOOT = 1,
	HAS_KIND = 2,
	HAS_NODE = 4,
	HAS_PREV = 8,
	HAS_SEQ = 16,
	HAS_TIME = 32,
	HAS_V = 64
};
#define HAS_ALL 127

static bool is_commit(struct str name)
{
	return name.n > 7 && memcmp(name.p + name.n - 7, "_commit", 7) == 0;
}

static bool commit_member(struct leaf *l, const struct flat_member *m)
{
	struct str stem = str_first(m->name, m->name.n - 7);

	for (enum opening o = OPENING_ANSWER; o < OPENING_COUNT; o++)
		if (str_eq(stem, record_opening_name(o))) {
			l->commits[o] = m->value;
			return m->is_string && m->value.n == 2 * SHA256_LEN;
		}
	return true; /* a commitment of a kind that this version does not open */
}

/* Fill in what we know by name; the first byte tells most names apart. */
static bool leaf_member(struct leaf *l, const struct flat_member *m, unsigned *has)
{
	struct str n = m->name;
	bool text = m->is_string, number = !text && m->integer >= 0;
	struct str *keep = NULL;

	switch (n.p[0]) {
	case 'a':
		keep = str_eq(n, STR("agent")) ? &l->agent : NULL;
		break;
	case 'b':
		*has |= text && str_eq(n, STR("boot")) ? HAS_BOOT : 0;
		break;
	case 'd':
		keep = str_eq(n, STR("decision")) ? &l->decision : NULL;
		break;
	case 'k':
		keep = str_eq(n, STR("kind")) ? &l->kind : NULL;
		*has |= text && keep ? HAS_KIND : 0;
		break;
	case 'n':
		*has |= text && str_eq(n, STR("node")) ? HAS_NODE : 0;
		break;
	case 'p':
		keep = str_eq(n, STR("prev")) ? &l->prev : NULL;
		*has |= text && keep && m->value.n == 2 * SHA256_LEN ? HAS_PREV : 0;
		break;
	case 's':
		if (number && str_eq(n, STR("seq"))) {
			l->seq = (uint64_t)m->integer;
			*has |= HAS_SEQ;
		}
		break;
	case 't':
		if (number && str_eq(n, STR("time"))) {
			l->time_ms = m->integer;
			*has |= HAS_TIME;
		}
		break;
	case 'v':
		*has |= number && n.n == 1 && m->integer == 1 ? HAS_V : 0;
		break;
	default:
		break;
	}
	if (keep)
		*keep = m->value;
	if (is_commit(n) && !commit_member(l, m))
		return false;
	return text || !keep;
}

bool leaf_scan(struct str text, struct leaf *l)
{
	struct flat f;
	struct flat_member m;
	unsigned has = 0;

	*l = (struct leaf){ 0 };
	flat_begin(&f, text);
	while (flat_next(&f, &m))
		if (!leaf_member(l, &m, &has))
			return false;
	return !f.failed && has == HAS_ALL;
}
