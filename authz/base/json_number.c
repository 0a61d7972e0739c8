/*
 * Reading keeps to one rule: what the text says must be what is kept, or it is refused. So an
 * integer must be within +-(2^53-1), however it is spelled, and a decimal have at most 17 digits
 * that count. From 2^53 to 1e21 the canonical form has neither point nor exponent, so a number
 * there is an integer beyond the bound; from 1e21 on it has an exponent, and an exponent (or a
 * point) is what the text must have too.
 *
 * Writing finds the fewest digits that are read back as the same double, and of those the nearest
 * to it. The well-known loop over printf("%.*e") does not: below a power of two doubles are closer
 * together than above, and there the text nearest to the double may not be read back as it while a
 * neighbour of the same length is (2^-44 is 5.684341886080802e-14, printf says ...801e-14).
 */
#include "authz/base/json_number.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPONENT_MAX 1000000000000000 /* no text is as long; larger ones mean the same */
#define DIGITS_MAX 17

/* digits * 10^exp; digits is 0 or does not end in 0 */
struct decimal {
	uint64_t digits;
	int64_t exp;
};

static const double powers[] = { 1e0,  1e1,  1e2,  1e3,	 1e4,  1e5,  1e6,  1e7,
				 1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
				 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

/* The double nearest to @v, or infinity, or 0. */
static double to_double(struct decimal v)
{
	char text[48];

	/* Both sides are exact, so one operation rounds once. */
	if (FLT_EVAL_METHOD == 0 && v.digits <= JSON_INT_MAX && v.exp >= -22 && v.exp <= 22)
		return v.exp < 0 ? (double)v.digits / powers[-v.exp]
				 : (double)v.digits * powers[v.exp];
	/* Without a point there is nothing in it that a locale could read otherwise. */
	snprintf(text, sizeof(text), "%llue%lld", (unsigned long long)v.digits, (long long)v.exp);
	return strtod(text, NULL);
}

/* @d is positive and within [2^-16, 2^53): all candidates can be compared exactly in 128 bits. */
static struct decimal shortest_exact(uint64_t m, int e)
{
	const unsigned __int128 one = 1;
	/* d = m * 2^e has its point such that 17 or 18 digits are before it in d * 10^k. */
	int k = 16 - (((e + 52) * 315653) >> 20), shift = 2 - e;
	unsigned __int128 scale = 1, value, low, high;
	uint64_t lo, hi, base, unit = 1;

	for (int i = 0; i < k; i++)
		scale *= 10;
	/* All times 2^shift. What lies between low and high is read as d. Whether they are too
	 * makes no difference: they have more decimals than d. Nor does it that below a power of
	 * two the gap is half as wide: here these have at most 16 digits, so nothing shorter is so
	 * near. */
	value = 4 * m * scale;
	low = value - 2 * scale;
	high = value + 2 * scale;
	lo = (uint64_t)((low + (one << shift) - 1) >> shift);
	hi = (uint64_t)(high >> shift);
	/* Drop digits while some multiple of the next power of ten is between them. */
	while (hi / 10 >= (lo + 9) / 10) {
		lo = (lo + 9) / 10;
		hi /= 10;
		unit *= 10;
		k--;
	}
	/* Of what is left the nearest; of two as near the even one (1125899906842624.25 is between
	 * ...4.2 and ...4.3). */
	base = (uint64_t)(value >> shift) / unit;
	value = 2 * (value - ((unsigned __int128)base * unit << shift));
	scale = (unsigned __int128)unit << shift;
	if (value > scale || (value == scale && base & 1))
		base++;
	return (struct decimal){ base, -k };
}

/* The @n digits nearest to @d, or with @up the next ones above. */
static struct decimal rounded(double d, int n, bool up)
{
	char text[40];
	struct decimal v = { 0, 0 };
	const char *p = text;

	snprintf(text, sizeof(text), "%.*e", n - 1, d);
	for (; *p != 'e'; p++) /* the point may be another sign */
		if (*p >= '0' && *p <= '9')
			v.digits = v.digits * 10 + (uint64_t)(*p - '0');
	v.exp = strtol(p + 1, NULL, 10) - (n - 1);
	v.digits += up;
	return v;
}

/* Find @n digits that are read back as @d: the nearest, or below a power of two the next ones. */
static bool find(double d, int n, struct decimal *v)
{
	int e;

	*v = rounded(d, n, false);
	if (to_double(*v) == d)
		return true;
	if (frexp(d, &e) != 0.5)
		return false;
	*v = rounded(d, n, true);
	return to_double(*v) == d;
}

/* @d is positive and finite. */
static struct decimal shortest(double d)
{
	struct decimal v = { 0, 0 }, found = { 0, 0 };
	/* Fewer than 15 digits of a normal number are its 15 digits without zeros. */
	int e, least = d < DBL_MIN ? 1 : 15, most = DIGITS_MAX;

	if (d >= 0x1p-16 && d < 0x1p53) {
		uint64_t m = (uint64_t)ldexp(frexp(d, &e), 53);

		return shortest_exact(m, e - 53);
	}
	while (least < most) { /* if n digits do, so do n + 1 */
		int n = (least + most) / 2;

		if (find(d, n, &v)) {
			most = n;
			found = v;
		} else {
			least = n + 1;
		}
	}
	if (most == DIGITS_MAX)
		found = rounded(d, DIGITS_MAX, false);
	while (found.digits % 10 == 0) {
		found.digits /= 10;
		found.exp++;
	}
	return found;
}

/* Collects digits without the zeros that lead or trail. */
struct digits {
	struct decimal v;
	size_t n, zeros; /* digits that count; zeros after them that may yet come to count */
};

static inline void add_digit(struct digits *d, char c)
{
	if (c == '0') {
		d->zeros += d->v.digits != 0;
		return;
	}
	d->n += d->zeros + 1;
	if (d->n > DIGITS_MAX) {
		d->zeros = 0;
		return;
	}
	for (; d->zeros; d->zeros--)
		d->v.digits *= 10;
	d->v.digits = d->v.digits * 10 + (uint64_t)(c - '0');
}

static inline bool is_digit(const char *p, const char *end)
{
	return p < end && *p >= '0' && *p <= '9';
}

/* RFC 8259 section 6. *plain: neither point nor exponent. */
static const char *read_digits(const char **at, const char *end, struct digits *d, bool *plain)
{
	const char *p = *at;

	*plain = true;
	if (!is_digit(p, end))
		goto no_digit;
	if (*p == '0' && is_digit(p + 1, end)) {
		*at = p;
		return "a number starts with 0 only if nothing or a point follows";
	}
	for (; is_digit(p, end); p++)
		add_digit(d, *p);
	if (p < end && *p == '.') {
		*plain = false;
		if (!is_digit(++p, end))
			goto no_digit;
		for (; is_digit(p, end); p++) {
			add_digit(d, *p);
			d->v.exp--;
		}
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		int64_t e = 0;
		bool negative = p + 1 < end && p[1] == '-';

		*plain = false;
		p += 1 + (p + 1 < end && (p[1] == '-' || p[1] == '+'));
		if (!is_digit(p, end))
			goto no_digit;
		for (; is_digit(p, end); p++)
			if (e < EXPONENT_MAX)
				e = e * 10 + (*p - '0');
		d->v.exp += negative ? -e : e;
	}
	d->v.exp += (int64_t)d->zeros;
	*at = p;
	return NULL;
no_digit:
	*at = p;
	return "a number needs a digit here";
}

static const char integer_too_large[] =
	"an integer beyond +-9007199254740991 would not be kept exactly; send it as a string";

/* @d: its value is not zero. */
static const char *keep(const struct digits *d, bool plain, bool negative, struct json *v)
{
	int64_t point = (int64_t)d->n + d->v.exp; /* 0.digits * 10^point */
	double kept;

	if (plain && point > 16)
		return integer_too_large;
	if (d->n > DIGITS_MAX)
		return "a number of more than 17 digits would not be kept exactly; "
		       "send it as a string";
	if (point > 309)
		return "a number beyond 1.7976931348623157e308 cannot be kept; send it as a string";
	kept = point < -330 ? 0 : to_double(d->v);
	if (isinf(kept))
		return "a number beyond 1.7976931348623157e308 cannot be kept; send it as a string";
	if (kept < DBL_MIN) {
		struct decimal same = kept > 0 ? shortest(kept) : (struct decimal){ 0, 0 };

		if (same.digits != d->v.digits || same.exp != d->v.exp)
			return "a number so near to zero would not be kept exactly; "
			       "send it as a string";
	}
	if (kept > JSON_INT_MAX && (plain || kept < 1e21))
		return integer_too_large;
	if (kept <= JSON_INT_MAX && kept == (double)(int64_t)kept) {
		v->type = JSON_INT;
		v->i = negative ? -(int64_t)kept : (int64_t)kept;
	} else {
		v->type = JSON_REAL;
		v->d = negative ? -kept : kept;
	}
	return NULL;
}

const char *json_read_number(const char **at, const char *end, struct json *v)
{
	const char *p = *at, *why;
	struct digits d = { { 0, 0 }, 0, 0 };
	bool negative = *p == '-', plain;

	p += negative;
	why = read_digits(&p, end, &d, &plain);
	if (why) {
		*at = p;
		return why;
	}
	if (!d.v.digits) { /* -0 is 0 */
		v->type = JSON_INT;
		v->i = 0;
	} else {
		why = keep(&d, plain, negative, v);
		if (why)
			return why;
	}
	*at = p;
	return NULL;
}

/* The form of Number::toString in ECMAScript (RFC 8785 3.2.2.3). */
static void write_decimal(struct buf *b, struct decimal v)
{
	char text[24], *p = text + sizeof(text);
	struct str digits;
	int64_t point;

	do {
		*--p = (char)('0' + v.digits % 10);
		v.digits /= 10;
	} while (v.digits);
	digits = (struct str){ p, (size_t)(text + sizeof(text) - p) };
	point = (int64_t)digits.n + v.exp; /* digits before the point */
	if (point > 0 && point <= 21) {
		buf_add(b, str_first(digits, (size_t)point));
		if ((size_t)point < digits.n) {
			buf_char(b, '.');
			buf_add(b, str_from(digits, (size_t)point));
		}
		for (; point > (int64_t)digits.n; point--)
			buf_char(b, '0');
	} else if (point <= 0 && point > -6) {
		buf_add(b, str_first(STR("0.00000"), (size_t)(2 - point)));
		buf_add(b, digits);
	} else {
		buf_char(b, digits.p[0]);
		if (digits.n > 1)
			buf_char(b, '.');
		buf_add(b, str_from(digits, 1));
		buf_add(b, point > 0 ? STR("e+") : STR("e"));
		buf_i64(b, point - 1);
	}
}

void json_number(struct buf *b, double d)
{
	assert(isfinite(d));
	if (fabs(d) <= JSON_INT_MAX && d == (double)(int64_t)d) {
		buf_i64(b, (int64_t)d); /* -0 too */
		return;
	}
	if (d < 0)
		buf_char(b, '-');
	write_decimal(b, shortest(fabs(d)));
}
