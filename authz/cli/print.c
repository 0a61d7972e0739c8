#include "authz/cli/print.h"

#include <inttypes.h>

#include "authz/base/clock.h"
#include "authz/base/mem.h"
#include "authz/base/text.h"

#define COLUMNS 10
#define COLUMN_WIDEST 72 /* beyond this a row is ragged rather than the table unreadable */
#define TEXT_MAX (1024 * 1024)

/* Bytes of the UTF-8 sequence at s.p[0] (1 to 4), or 0 if it is malformed. */
static size_t sequence(struct str s)
{
	unsigned char c = (unsigned char)s.p[0];
	size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

	return n <= s.n && text_is_utf8(str_first(s, n)) ? n : 0;
}

/* Controls, line and paragraph separators, marks that turn or hide text, and the letters that
 * nobody sees: tags (U+E0000 on), by which text is smuggled past people to models. */
static bool is_deceptive(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
	       (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
	       (c >= 0xe0000 && c <= 0xe0fff);
}

size_t print_char(struct str s, uint32_t *c, bool *shown)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t n = sequence(s);

	*c = n <= 1 ? p[0] : p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++)
		*c = *c << 6 | (p[i] & 0x3f);
	*shown = n && !is_deceptive(*c);
	return n ? n : 1;
}

void print_safe(struct buf *b, struct str s)
{
	while (s.n) {
		uint32_t c;
		bool shown;
		size_t n = print_char(s, &c, &shown);

		buf_add(b, shown ? str_first(s, n) : STR("?"));
		s = str_from(s, n);
	}
}

void print_lua(struct buf *b, struct str s)
{
	buf_char(b, '"');
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '"' || c == '\\')
			buf_printf(b, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			buf_printf(b, "\\x%02x", c);
		else
			buf_char(b, (char)c);
	}
	buf_char(b, '"');
}

void print_text(FILE *out, struct str s)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, TEXT_MAX);
	print_safe(&b, s);
	if (b.n)
		fwrite(b.p, 1, b.n, out);
}

void print_value(struct buf *b, const struct json *v)
{
	if (!v)
		return;
	switch (v->type) {
	case JSON_STRING:
		print_safe(b, v->s);
		return;
	case JSON_NULL:
		buf_char(b, '-');
		return;
	case JSON_ARRAY:
	case JSON_OBJECT:
		for (uint32_t i = 0; i < v->n; i++) {
			if (i)
				buf_char(b, v->type == JSON_ARRAY ? ',' : ' ');
			if (v->type == JSON_OBJECT) {
				print_safe(b, v->items[i].name);
				buf_char(b, '=');
			}
			print_value(b, &v->items[i]);
		}
		return;
	case JSON_BOOL:
		buf_add(b, v->b ? STR("yes") : STR("no"));
		return;
	default:
		print_safe(b, v->raw);
	}
}

void print_time(struct buf *b, const struct json *v)
{
	char text[CLOCK_RFC3339_MAX];

	if (!v || v->type != JSON_INT || v->i < 0 || v->i > INT64_C(253402300799999)) {
		print_value(b, v);
		return;
	}
	/* Seconds until the year 5138, milliseconds from 1973 on. */
	clock_rfc3339(v->i < INT64_C(100000000000) ? v->i * 1000 : v->i, text);
	buf_add(b, str_c(text));
}

static bool is_time(struct str name)
{
	return str_eq(name, STR("time")) || str_ends(name, STR("_at"));
}

static void put_value(struct buf *b, const struct json *v)
{
	if (v && is_time(v->name))
		print_time(b, v);
	else
		print_value(b, v);
}

static void put_object(FILE *out, struct str prefix, const struct json *v)
{
	for (uint32_t i = 0; i < v->n; i++) {
		const struct json *m = &v->items[i];
		AUTO_BUF b;

		buf_init(&b, mem_system, TEXT_MAX);
		buf_add(&b, prefix);
		print_safe(&b, m->name);
		if (m->type == JSON_OBJECT && m->n) {
			buf_char(&b, '.');
			put_object(out, buf_str(&b), m);
			continue;
		}
		buf_lit(&b, ": ");
		if (m->type == JSON_ARRAY && m->n && m->items[0].type == JSON_OBJECT) {
			for (uint32_t k = 0; k < m->n; k++) {
				AUTO_BUF row;

				buf_init(&row, mem_system, TEXT_MAX);
				print_value(&row, &m->items[k]);
				fprintf(out, "%.*s%.*s\n", STR_FMT(buf_str(&b)),
					STR_FMT(buf_str(&row)));
			}
			continue;
		}
		put_value(&b, m);
		fprintf(out, "%.*s\n", STR_FMT(buf_str(&b)));
	}
}

void print_object(FILE *out, const struct json *v)
{
	if (v && v->type == JSON_OBJECT)
		put_object(out, STR(""), v);
}

static int width(struct str s)
{
	int n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static void put_cell(struct buf *b, const struct json *row, const char *member)
{
	const struct json *v = json_get(row, str_c(member));

	buf_reset(b);
	put_value(b, v);
	if (b->n == 0)
		buf_char(b, '-');
}

void print_table(FILE *out, const struct column *columns, size_t n, const struct json *rows,
		 bool heading)
{
	int widest[COLUMNS] = { 0 };
	AUTO_BUF cell;

	buf_init(&cell, mem_system, TEXT_MAX);
	for (size_t c = 0; c < n; c++) {
		widest[c] = width(str_c(columns[c].heading));
		for (uint32_t r = 0; r < rows->n; r++) {
			int w;

			put_cell(&cell, &rows->items[r], columns[c].member);
			w = width(buf_str(&cell));
			if (w > widest[c] && w <= COLUMN_WIDEST)
				widest[c] = w;
		}
	}
	for (size_t c = 0; heading && c < n; c++)
		fprintf(out, c + 1 < n ? "%-*s  " : "%.*s\n", c + 1 < n ? widest[c] : 80,
			columns[c].heading);
	for (uint32_t r = 0; r < rows->n; r++)
		for (size_t c = 0; c < n; c++) {
			int pad;

			put_cell(&cell, &rows->items[r], columns[c].member);
			pad = widest[c] - width(buf_str(&cell));
			fprintf(out, "%.*s", STR_FMT(buf_str(&cell)));
			if (c + 1 == n)
				fputc('\n', out);
			else
				fprintf(out, "%*s  ", pad > 0 ? pad : 0, "");
		}
}
