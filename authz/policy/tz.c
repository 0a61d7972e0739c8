#include "authz/policy/tz.h"

#define DAY 86400

bool tz_name_ok(struct str name)
{
	bool start = true;

	if (name.n == 0 || name.n > 64)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');

		if (start ? !letter : !letter && !(c >= '0' && c <= '9') && !strchr("_+-/", c))
			return false;
		start = c == '/';
	}
	return !start;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t be64(const uint8_t *p)
{
	return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

/* The footer: std offset dst [offset] , start [/time] , end [/time] (POSIX TZ). */

static char peek(const struct str *s)
{
	return s->n ? s->p[0] : '\0';
}

static bool take(struct str *s, char c)
{
	if (peek(s) != c || s->n == 0)
		return false;
	*s = str_from(*s, 1);
	return true;
}

static bool take_number(struct str *s, int max, int *out)
{
	int v = 0, digits = 0;

	while (peek(s) >= '0' && peek(s) <= '9' && digits < 4) {
		v = v * 10 + (peek(s) - '0');
		*s = str_from(*s, 1);
		digits++;
	}
	*out = v;
	return digits && v <= max;
}

static bool take_name(struct str *s)
{
	size_t n = 0;

	if (take(s, '<')) {
		while (peek(s) && peek(s) != '>')
			*s = str_from(*s, 1);
		return take(s, '>');
	}
	while ((peek(s) >= 'A' && peek(s) <= 'Z') || (peek(s) >= 'a' && peek(s) <= 'z')) {
		*s = str_from(*s, 1);
		n++;
	}
	return n >= 3;
}

/* [+-]hh[:mm[:ss]]; version 3 allows up to 167 hours in the time of a change. */
static bool take_time(struct str *s, int max_hours, int32_t *out)
{
	int sign = take(s, '-') ? -1 : 1, h, m = 0, sec = 0;

	if (sign == 1)
		take(s, '+');
	if (!take_number(s, max_hours, &h) || (take(s, ':') && !take_number(s, 59, &m)))
		return false;
	if (take(s, ':') && !take_number(s, 59, &sec))
		return false;
	*out = sign * (h * 3600 + m * 60 + sec);
	return true;
}

static bool take_rule(struct str *s, struct tz_rule *r)
{
	bool ok;

	*r = (struct tz_rule){ .time = 2 * 3600 };
	if (!take(s, ','))
		return false;
	if (take(s, 'M')) {
		r->kind = TZ_MONTH_WEEK_DAY;
		ok = take_number(s, 12, &r->month) && r->month && take(s, '.') &&
		     take_number(s, 5, &r->week) && r->week && take(s, '.') &&
		     take_number(s, 6, &r->day);
	} else if (take(s, 'J')) {
		r->kind = TZ_JULIAN_NO_LEAP;
		ok = take_number(s, 365, &r->day) && r->day;
	} else {
		r->kind = TZ_DAY_OF_YEAR;
		ok = take_number(s, 365, &r->day);
	}
	return ok && (!take(s, '/') || take_time(s, 167, &r->time));
}

static bool read_footer(struct tz *tz, struct str s)
{
	if (s.n == 0)
		return true; /* none: the last entry of the table holds on */
	tz->has_rule = true;
	if (!take_name(&s) || !take_time(&s, 24, &tz->std_offset))
		return false;
	tz->std_offset = -tz->std_offset; /* POSIX counts west of Greenwich */
	if (s.n == 0)
		return true;
	tz->has_dst = true;
	tz->dst_offset = tz->std_offset + 3600;
	if (!take_name(&s))
		return false;
	if (peek(&s) != ',') {
		if (!take_time(&s, 24, &tz->dst_offset))
			return false;
		tz->dst_offset = -tz->dst_offset;
	}
	return take_rule(&s, &tz->to_dst) && take_rule(&s, &tz->to_std) && s.n == 0;
}

#define HEADER 44

struct header {
	uint32_t isut, isstd, leap, times, types, chars;
};

static bool read_header(struct str f, struct header *h)
{
	const uint8_t *p = (const uint8_t *)f.p;

	if (f.n < HEADER || memcmp(p, "TZif", 4) != 0)
		return false;
	*h = (struct header){ be32(p + 20), be32(p + 24), be32(p + 28),
			      be32(p + 32), be32(p + 36), be32(p + 40) };
	return h->isut <= 256 && h->isstd <= 256 && h->leap <= 4096 && h->times <= 8192 &&
	       h->types <= 256 && h->chars <= 4096;
}

static size_t block_size(const struct header *h, size_t time)
{
	return h->times * (time + 1) + h->types * 6 + h->chars + h->leap * (time + 4) + h->isstd +
	       h->isut;
}

static bool tables_ok(const struct tz *tz)
{
	for (uint32_t i = 0; i < tz->ntimes; i++)
		if (tz->kinds[i] >= tz->ntypes ||
		    (i && be64(tz->times + 8 * (i - 1)) >= be64(tz->times + 8 * i)))
			return false;
	for (uint32_t i = 0; i < tz->ntypes; i++) {
		int32_t off = (int32_t)be32(tz->types + 6 * i);

		if (off < -26 * 3600 || off > 26 * 3600)
			return false;
	}
	return true;
}

bool tz_parse(struct str file, struct tz *out, struct err *e)
{
	struct header h;
	struct tz tz = { 0 };
	struct str rest, footer;
	size_t first;

	if (file.n > TZ_FILE_MAX || !read_header(file, &h) || file.p[4] < '2')
		return err_set(e, ERR_INVALID, "not a TZif file of version 2 or later");
	first = HEADER + block_size(&h, 4); /* the 32-bit table is skipped */
	rest = str_from(file, first);
	if (!read_header(rest, &h) || h.types == 0 || h.leap != 0)
		return err_set(e, ERR_INVALID,
			       "the TZif file has no 64-bit table, or counts leap seconds");
	if (rest.n < HEADER + block_size(&h, 8))
		return err_set(e, ERR_INVALID, "the TZif file is cut short");
	tz.times = (const uint8_t *)rest.p + HEADER;
	tz.kinds = tz.times + (size_t)h.times * 8;
	tz.types = tz.kinds + h.times;
	tz.ntimes = h.times;
	tz.ntypes = h.types;
	footer = str_from(rest, HEADER + block_size(&h, 8));
	if (footer.n < 2 || footer.p[0] != '\n' || footer.p[footer.n - 1] != '\n' ||
	    !read_footer(&tz, (struct str){ footer.p + 1, footer.n - 2 }) || !tables_ok(&tz))
		return err_set(e, ERR_INVALID, "the TZif file contradicts itself");
	*out = tz;
	return true;
}

/* Days since 1970 of the first of a month (proleptic Gregorian; H. Hinnant's arithmetic). */
static int64_t days_of(int64_t y, int m, int d)
{
	int64_t era, doe;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	doe = (y - era * 400) * 365 + (y - era * 400) / 4 - (y - era * 400) / 100 +
	      (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + doe - 719468;
}

static void civil_of(int64_t days, int64_t *y, int *m, int *d)
{
	int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

	*d = (int)(doy - (153 * mp + 2) / 5 + 1);
	*m = (int)(mp < 10 ? mp + 3 : mp - 9);
	*y = yoe + era * 400 + (*m <= 2);
}

static int weekday_from_sunday(int64_t days)
{
	return (int)(((days % 7) + 11) % 7); /* 1970-01-01 was a Thursday */
}

static bool leap(int64_t y)
{
	return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* When, in seconds of local time, the rule strikes in @year. */
static int64_t strikes(const struct tz_rule *r, int64_t year)
{
	int64_t jan1 = days_of(year, 1, 1), days = jan1 + r->day;

	if (r->kind == TZ_JULIAN_NO_LEAP) {
		days = jan1 + r->day - 1 + (leap(year) && r->day >= 60);
	} else if (r->kind == TZ_MONTH_WEEK_DAY) {
		int64_t first = days_of(year, r->month, 1);
		int64_t next = r->month == 12 ? days_of(year + 1, 1, 1)
					      : days_of(year, r->month + 1, 1);

		days = first + (r->day - weekday_from_sunday(first) + 7) % 7 + 7 * (r->week - 1);
		while (days >= next)
			days -= 7;
	}
	return days * DAY + r->time;
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int32_t rule_offset(const struct tz *tz, int64_t t)
{
	int64_t year, on, off;
	int m, d;

	if (!tz->has_dst)
		return tz->std_offset;
	civil_of(floor_div(t + tz->std_offset, DAY), &year, &m, &d);
	on = strikes(&tz->to_dst, year) - tz->std_offset;
	off = strikes(&tz->to_std, year) - tz->dst_offset;
	if (on < off)
		return t >= on && t < off ? tz->dst_offset : tz->std_offset;
	return t >= off && t < on ? tz->std_offset : tz->dst_offset; /* southern summer */
}

int32_t tz_offset(const struct tz *tz, int64_t t)
{
	uint32_t lo = 0, hi = tz->ntimes;

	if (tz->has_rule && (!tz->ntimes || t >= be64(tz->times + 8 * (tz->ntimes - 1))))
		return rule_offset(tz, t);
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (be64(tz->times + 8 * mid) <= t)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (int32_t)be32(tz->types + 6 * (lo ? tz->kinds[lo - 1] : 0));
}

void tz_split(const struct tz *tz, int64_t unix_s, struct tz_local *out)
{
	int64_t local = unix_s + (tz ? tz_offset(tz, unix_s) : 0);
	int64_t days = floor_div(local, DAY);
	int sunday = weekday_from_sunday(days);

	civil_of(days, &out->year, &out->month, &out->day);
	out->weekday = sunday ? sunday : 7;
	out->minutes = (int)((local - days * DAY) / 60);
}
