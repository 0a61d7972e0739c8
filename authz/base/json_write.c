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

static void write_members(struct buf *b, const struct json *v)
{
	for (uint32_t i = 0; i < v->n; i++) {
		buf_char(b, i ? ',' : '{');
		buf_json(b, v->items[i].name);
		buf_char(b, ':');
		json_canonical(b, &v->items[i]);
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

void json_canonical(struct buf *b, const struct json *v)
{
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
		if (number_as_received(v))
			buf_add(b, v->raw);
		else
			json_number(b, v->d);
		break;
	case JSON_STRING:
		if (as_received(v))
			buf_add(b, v->raw);
		else
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
