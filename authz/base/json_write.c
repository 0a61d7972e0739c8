#include "authz/base/json.h"

/* A string without escapes is in the input as it has to be written. */
static inline bool as_received(const struct json *v)
{
	return v->raw.p && v->s.p == v->raw.p + 1 && v->s.n + 2 == v->raw.n;
}

/* So is a number with a point whose digits, at most 15, begin and end with those that count: no two
 * of such decimals are one double, and so none is shorter. From a millionth on: below, and above
 * what 15 digits write, the form is another. */
static bool number_as_received(const struct json *v)
{
	struct str s = v->raw;
	size_t at = s.n && s.p[0] == '-', zeros = at, point = 0;

	if (s.n - at < 3 || s.n - at > 16 || !memchr(s.p, '.', s.n) || s.p[s.n - 1] == '0')
		return false;
	for (size_t i = at; i < s.n; i++) {
		if (s.p[i] == '.')
			point = i;
		else if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		if (zeros == i && (s.p[i] == '0' || s.p[i] == '.'))
			zeros++;
	}
	return zeros <= point + 6;
}

/* And an integer of digits alone; not -0, nor 1.0 or 1e0. */
static bool integer_as_received(const struct json *v)
{
	struct str s = v->raw;
	bool digits = s.n > 0 && (s.p[0] != '-' || v->i);

	for (size_t i = digits && s.p[0] == '-'; i < s.n; i++)
		digits = digits && s.p[i] >= '0' && s.p[i] <= '9';
	return digits;
}

/* The text of a scalar that is written as it came; else p == NULL. */
static inline struct str received(const struct json *v)
{
	bool same = v->type == JSON_STRING ? as_received(v)
		    : v->type == JSON_INT  ? integer_as_received(v)
		    : v->type == JSON_REAL ? number_as_received(v)
					   : false;

	return same ? v->raw : (struct str){ NULL, 0 };
}

/* A name that stands right before its value has no escapes: unescaped it would be elsewhere. */
static inline bool name_as_received(const struct json *v)
{
	return v->raw.p && v->name.p == v->raw.p - 2 - v->name.n && v->raw.p[-1] == ':' &&
	       v->raw.p[-2] == '"';
}

static void write_value(struct buf *b, const struct json *v, struct str text);

static void write_members(struct buf *b, const struct json *v)
{
	for (uint32_t i = 0; i < v->n; i++) {
		const struct json *m = &v->items[i];
		struct str value = received(m);
		bool together = name_as_received(m);
		size_t n = together ? m->name.n + 2 + value.n : 0;
		char *at = buf_room(b, n + 2);

		if (!at)
			return;
		*at = i ? ',' : '{';
		b->n++;
		if (together) { /* name, colon and what is known of the value in one piece */
			at[1] = '"';
			buf_copy(at + 2, m->name.p, n);
			b->n += n + 1;
			if (value.p)
				continue;
		} else {
			buf_json(b, m->name);
			buf_char(b, ':');
		}
		if (m->type == JSON_STRING && !value.p) {
			buf_json(b, m->s);
			continue;
		}
		write_value(b, m, value);
	}
	if (!v->n)
		buf_char(b, '{');
	buf_char(b, '}');
}

static void write_elements(struct buf *b, const struct json *v)
{
	buf_char(b, '[');
	for (uint32_t i = 0; i < v->n; i++) {
		if (i)
			buf_char(b, ',');
		json_canonical(b, &v->items[i]);
	}
	buf_char(b, ']');
}

/* @text: received(v) */
static void write_value(struct buf *b, const struct json *v, struct str text)
{
	if (text.p) {
		buf_add(b, text);
		return;
	}
	switch (v->type) {
	case JSON_NULL:
		buf_lit(b, "null");
		break;
	case JSON_BOOL:
		buf_add(b, v->b ? STR("true") : STR("false"));
		break;
	case JSON_INT:
		buf_i64(b, v->i);
		break;
	case JSON_REAL:
		json_number(b, v->d);
		break;
	case JSON_STRING:
		buf_json(b, v->s);
		break;
	case JSON_ARRAY: /* as deep as the reader let it be */
		write_elements(b, v);
		break;
	case JSON_OBJECT:
		write_members(b, v);
		break;
	}
}

void json_canonical(struct buf *b, const struct json *v)
{
	write_value(b, v, received(v));
}
