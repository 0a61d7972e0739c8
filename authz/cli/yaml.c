/* The events of libyaml are written as JSON text, which the strict reader then reads: so duplicate
 * names, depth and size are refused in one place. */
#include "authz/cli/yaml.h"

#include <yaml.h>

#include "authz/base/text.h"

#define DEPTH_MAX 60
#define ANCHORS_MAX 256
#define NONE (-1)

struct level {
	bool map, value; /* in a mapping: its value comes next */
	size_t n;	 /* values so far */
	int anchor;	 /* ends with this level; or NONE */
};

struct writer {
	struct arena *a;
	struct buf *b;
	struct err *e;
	size_t line;
	struct level levels[DEPTH_MAX];
	size_t depth;
	struct {
		struct str name;
		size_t from, n; /* what it stands for, in b; n == 0: not whole yet */
	} anchors[ANCHORS_MAX];
	size_t nanchors;
};

static const struct json_limits limits = {
	.string = 1 << 20, .depth = DEPTH_MAX + 4, .members = 10000, .values = 200000
};

static struct str text_of(const yaml_char_t *p, size_t n)
{
	return (struct str){ (const char *)p, n };
}

static bool bad(struct writer *w, const char *why)
{
	return err_set(w->e, ERR_INVALID, "line %zu: %s", w->line, why);
}

/* ---- scalars ---- */

/* [-] digits [. digits]: few enough to be a number in JSON that is kept as it is. */
static bool is_number(struct str s)
{
	size_t i = s.n && s.p[0] == '-', whole = i, dots = 0;

	for (; i < s.n; i++) {
		if (s.p[i] == '.' && !dots && i > whole && i + 1 < s.n)
			dots++;
		else if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	}
	return s.n > whole && s.n <= 15 &&
	       (s.p[whole] != '0' || s.n == whole + 1 || s.p[whole + 1] == '.');
}

static void put_scalar(struct buf *b, struct str s, bool plain)
{
	if (plain && (!s.n || str_eq(s, STR("~")) || str_eq(s, STR("null"))))
		buf_lit(b, "null");
	else if (plain && (str_eq(s, STR("true")) || str_eq(s, STR("false")) || is_number(s)))
		buf_add(b, s);
	else
		buf_json(b, s);
}

/* ---- structure ---- */

/* What stands before the next value; *key: it is a member's name. */
static void before(struct writer *w, bool *key)
{
	struct level *l = &w->levels[w->depth - 1];

	*key = l->map && !l->value;
	if (l->map && l->value) {
		buf_char(w->b, ':');
		l->value = false;
		return;
	}
	if (l->n++)
		buf_char(w->b, ',');
	l->value = l->map;
}

static bool set_anchor(struct writer *w, const yaml_char_t *name, int *index)
{
	*index = NONE;
	if (!name)
		return true;
	if (w->nanchors == ANCHORS_MAX)
		return bad(w, "there are more than 256 anchors");
	*index = (int)w->nanchors;
	w->anchors[w->nanchors].name = arena_dup(w->a, str_c((const char *)name));
	w->anchors[w->nanchors].from = w->b->n;
	w->anchors[w->nanchors++].n = 0;
	return true;
}

static void end_anchor(struct writer *w, int index)
{
	if (index != NONE)
		w->anchors[index].n = w->b->n - w->anchors[index].from;
}

static bool open_level(struct writer *w, bool map, const yaml_char_t *anchor)
{
	int index;
	bool key;

	if (w->depth == DEPTH_MAX)
		return bad(w, "it is nested too deeply");
	before(w, &key);
	if (key)
		return bad(w, "a key that is not a text");
	if (!set_anchor(w, anchor, &index))
		return false;
	buf_char(w->b, map ? '{' : '[');
	w->levels[w->depth++] = (struct level){ .map = map, .anchor = index };
	return true;
}

static bool close_level(struct writer *w)
{
	struct level *l = &w->levels[--w->depth];

	buf_char(w->b, l->map ? '}' : ']');
	end_anchor(w, l->anchor);
	return true;
}

static bool scalar(struct writer *w, const yaml_event_t *event)
{
	struct str s = text_of(event->data.scalar.value, event->data.scalar.length);
	int index;
	bool key;

	before(w, &key);
	if (key && str_eq(s, STR("<<")))
		return bad(w, "merge keys (<<) are not read; write the members out");
	if (!set_anchor(w, event->data.scalar.anchor, &index))
		return false;
	put_scalar(w->b, s, event->data.scalar.plain_implicit && !key);
	end_anchor(w, index);
	return true;
}

static bool alias(struct writer *w, const yaml_event_t *event)
{
	struct str name = str_c((const char *)event->data.alias.anchor);
	bool key;

	before(w, &key);
	for (size_t i = w->nanchors; i-- > 0 && !key;)
		if (str_eq(w->anchors[i].name, name) && w->anchors[i].n) {
			/* A copy: the buf may move while it grows. */
			struct str part = arena_dup(w->a,
						    (struct str){ w->b->p + w->anchors[i].from,
								  w->anchors[i].n });

			if (!part.p)
				return err_set(w->e, ERR_TOO_LARGE, "its anchors grow too large");
			buf_add(w->b, part);
			return true;
		}
	return bad(w, "an alias of nothing, of what it stands in, or as a key");
}

static bool take(struct writer *w, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return scalar(w, event);
	case YAML_ALIAS_EVENT:
		return alias(w, event);
	case YAML_MAPPING_START_EVENT:
		return open_level(w, true, event->data.mapping_start.anchor);
	case YAML_SEQUENCE_START_EVENT:
		return open_level(w, false, event->data.sequence_start.anchor);
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		return close_level(w);
	case YAML_DOCUMENT_START_EVENT:
		w->nanchors = 0;
		return true;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		break;
	}
	return true;
}

static bool events(struct writer *w, yaml_parser_t *p)
{
	yaml_event_t event;
	bool more = true, ok;

	while (more) {
		if (!yaml_parser_parse(p, &event)) {
			w->line = p->problem_mark.line + 1;
			return bad(w, p->problem ? p->problem : "it is no YAML");
		}
		w->line = event.start_mark.line + 1;
		more = event.type != YAML_STREAM_END_EVENT;
		ok = take(w, &event);
		yaml_event_delete(&event);
		if (!ok)
			return false;
		if (!buf_ok(w->b))
			return err_set(w->e, ERR_TOO_LARGE, "it is larger than %d bytes as JSON",
				       YAML_BYTES_MAX);
	}
	return true;
}

bool yaml_read(struct str text, struct arena *a, const struct json **out, struct err *e)
{
	struct writer *w = arena_zero(a, sizeof(*w));
	yaml_parser_t parser;
	struct buf b;
	bool ok;

	if (text.n > YAML_BYTES_MAX)
		return err_set(e, ERR_TOO_LARGE, "it is larger than %d bytes", YAML_BYTES_MAX);
	if (!w || !yaml_parser_initialize(&parser))
		return err_set(e, ERR_NOMEM, "no memory for YAML");
	buf_in_arena(&b, a, YAML_BYTES_MAX);
	*w = (struct writer){ .a = a, .b = &b, .e = e, .depth = 1 };
	w->levels[0].anchor = NONE;
	buf_char(&b, '[');
	yaml_parser_set_input_string(&parser, (const unsigned char *)(text.p ? text.p : ""),
				     text.n);
	ok = events(w, &parser);
	yaml_parser_delete(&parser);
	buf_char(&b, ']');
	return ok && json_parse(buf_str(&b), &limits, a, out, e);
}
