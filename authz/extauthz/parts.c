#include "authz/extauthz/parts.h"

#include "authz/base/json_order.h"
#include "authz/base/text.h"
#include "authz/net/chars.h"

/* ---- headers ---- */

bool header_twice(struct reader *rd, struct str name)
{
	return refuse(rd, ERR_INVALID, "duplicate_header", "header %.*s stands twice; send it once",
		      STR_FMT(name));
}

/* ---- bodies ---- */

/* Nothing, or a charset of UTF-8. */
static bool parameters_ok(struct str p)
{
	struct str one, name, value;

	while (p.n) {
		one = p;
		if (!str_cut(p, ';', &one, &p))
			p.n = 0;
		one = http_trim(one);
		if (!one.n)
			continue;
		if (!str_cut(one, '=', &name, &value))
			return false;
		if (http_equal_fold(http_trim(name), STR("charset")) &&
		    !http_equal_fold(value, STR("utf-8")) &&
		    !http_equal_fold(value, STR("\"utf-8\"")))
			return false;
	}
	return true;
}

static bool media_type(struct reader *rd, const char *also)
{
	struct str type, media, parameters = { NULL, 0 };

	if (!header_once(rd, HEADER_CONTENT_TYPE, &type))
		return false;
	media = type;
	(void)str_cut(type, ';', &media, &parameters);
	media = http_trim(media);
	if ((http_equal_fold(media, STR("application/json")) ||
	     (also && http_equal_fold(media, str_c(also)))) &&
	    parameters_ok(parameters))
		return true;
	return refuse(rd, ERR_INVALID, "media_type",
		      "Content-Type must be application/json in UTF-8, not \"%.*s\"",
		      STR_FMT(str_first(type, 80)));
}

static bool body_there(struct reader *rd)
{
	switch (rd->state) {
	case BODY_COMPLETE:
		return true;
	case BODY_NONE:
		return refuse(
			rd, ERR_INVALID, "body_required",
			"the decision needs the body of this request and the proxy sent none; "
			"let it forward bodies");
	case BODY_PARTIAL:
		return refuse(rd, ERR_TOO_LARGE, "body_truncated",
			      "the proxy sent only a part of the body (%zu bytes); send less, or "
			      "raise its limit",
			      rd->r->body.n);
	case BODY_ENCODED:
		break;
	}
	return refuse(rd, ERR_INVALID, "body_encoded",
		      "the body has a Content-Encoding, so nothing in it can be judged; send it "
		      "plain");
}

bool body_json(struct reader *rd, const char *also)
{
	if (rd->body)
		return true;
	rd->out->rpc_code = -32700;
	if (!body_there(rd) || !media_type(rd, also))
		return false;
	if (!rd->seen && !json_parse(rd->r->body, rd->limits, rd->a, &rd->seen, rd->e))
		return false;
	rd->body = rd->seen;
	rd->out->rpc_code = 0;
	return true;
}

bool body_object(struct reader *rd, const char *const *names)
{
	if (!body_json(rd, NULL))
		return false;
	if (rd->body->type != JSON_OBJECT)
		return refuse(rd, ERR_INVALID, "invalid_body",
			      "the body must be a JSON object, not %s",
			      json_type_name(rd->body->type));
	return names_exact(rd, rd->body, names);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* U+017F is a long s, U+212A the Kelvin sign. */
bool folds_to(struct str s, struct str name)
{
	size_t at = 0;

	for (size_t i = 0; i < name.n; i++) {
		char c;

		if (at >= s.n)
			return false;
		c = lower(s.p[at]);
		if ((unsigned char)c < 0x80) {
			;
		} else if (str_starts(str_from(s, at), STR("\xc5\xbf"))) {
			c = 's';
			at++;
		} else if (str_starts(str_from(s, at), STR("\xe2\x84\xaa"))) {
			c = 'k';
			at += 2;
		}
		if (c != lower(name.p[i]))
			return false;
		at++;
	}
	return at == s.n;
}

static bool ambiguous(struct reader *rd, struct str own, const char *name)
{
	return refuse(rd, ERR_INVALID, "ambiguous_member",
		      "member \"%.*s\" is \"%s\" in another case, and some servers would read it "
		      "so; spell it \"%s\"",
		      STR_FMT(str_first(own, 40)), name, name);
}

bool names_exact(struct reader *rd, const struct json *v, const char *const *names)
{
	for (uint32_t i = 0; v && v->type == JSON_OBJECT && i < v->n; i++) {
		struct str own = v->items[i].name;

		for (size_t k = 0; own.n && names[k]; k++) {
			/* Most differ in the first letter; the rest are most often the same. */
			if ((unsigned char)own.p[0] < 0x80 && lower(own.p[0]) != lower(names[k][0]))
				continue;
			if (!str_eq(own, str_c(names[k])) && folds_to(own, str_c(names[k])))
				return ambiguous(rd, own, names[k]);
		}
	}
	return true;
}

bool names_found(struct reader *rd, const struct json *v, const struct str *names, size_t n,
		 const struct json **found, const struct json **other)
{
	*other = NULL;
	for (size_t k = 0; k < n; k++)
		found[k] = NULL;
	for (uint32_t i = 0; v && v->type == JSON_OBJECT && i < v->n; i++) {
		const struct json *m = &v->items[i];
		size_t k = 0;

		while (k < n && !str_eq_short(m->name, names[k]))
			k++;
		if (k < n) {
			found[k] = m;
			continue;
		}
		for (k = 0; k < n; k++)
			if (folds_to(m->name, names[k]))
				return ambiguous(rd, m->name, names[k].p);
		if (!*other)
			*other = m;
	}
	return true;
}

bool member_is(struct reader *rd, const struct json *m, const char *name, enum json_type t,
	       const struct json **out)
{
	*out = NULL;
	if (!m || m->type == JSON_NULL)
		return true;
	if (m->type != t)
		return refuse(rd, ERR_INVALID, "invalid_member",
			      "\"%s\" must be of type %s, not %s", name, json_type_name(t),
			      json_type_name(m->type));
	*out = m;
	return true;
}

bool member(struct reader *rd, const struct json *v, const char *name, enum json_type t,
	    const struct json **out)
{
	return member_is(rd, json_get(v, str_c(name)), name, t, out);
}

bool text_fit(struct str s, size_t max)
{
	return s.n && s.n <= max && text_is_utf8(s) && text_is_printable(s);
}

/* A text of the reader's, which is UTF-8. */
static bool maybe_text(struct reader *rd, const struct json *m, const char *name, struct str *out)
{
	*out = (struct str){ NULL, 0 };
	if (!member_is(rd, m, name, JSON_STRING, &m))
		return false;
	if (!m)
		return true;
	if (m->s.n > 8192 || !text_is_printable(m->s))
		return refuse(rd, ERR_INVALID, "invalid_member",
			      "\"%s\" holds control characters or more than 8192 bytes", name);
	*out = m->s;
	return true;
}

bool member_maybe(struct reader *rd, const struct json *v, const char *name, struct str *out)
{
	return maybe_text(rd, json_get(v, str_c(name)), name, out);
}

bool member_is_text(struct reader *rd, const struct json *m, const char *name, struct str *out)
{
	if (!maybe_text(rd, m, name, out))
		return false;
	if (!out->n || out->n > 512)
		return refuse(rd, ERR_INVALID, "invalid_member",
			      "\"%s\" must be a text of 1 to 512 bytes", name);
	return true;
}

bool member_text(struct reader *rd, const struct json *v, const char *name, struct str *out)
{
	return member_is_text(rd, json_get(v, str_c(name)), name, out);
}

/* ---- building ---- */

void fields_begin(struct fields *f, struct arena *a, uint32_t room)
{
	f->a = a;
	f->object = arena_alloc(a, (room + 1) * sizeof(*f->object));
	f->n = 0;
	f->room = f->object ? room : 0;
	f->disordered = false;
}

static struct json *field(struct fields *f, struct str name, enum json_type t)
{
	struct json *v;

	if (f->n == f->room) {
		f->room = 0; /* a bug of ours, or no memory: there will be no object */
		f->object = NULL;
		return &f->lost;
	}
	v = &f->object[++f->n];
	*v = (struct json){ .type = t, .name = name };
	if (f->n > 1 && !str_before(v[-1].name, name))
		f->disordered = true;
	return v;
}

/* Of the value, what is known of its text is where it would stand behind the name. */
static struct json *named(struct fields *f, struct field_name name, enum json_type t)
{
	struct json *v = field(f, name.s, t);

	v->raw.p = name.s.p + name.s.n + 2;
	return v;
}

void field_str(struct fields *f, struct field_name name, struct str s)
{
	if (s.n)
		named(f, name, JSON_STRING)->s = s;
}

void field_text(struct fields *f, struct field_name name, struct str s)
{
	named(f, name, JSON_STRING)->s = s;
}

void field_foreign(struct fields *f, struct str name, struct str s)
{
	field(f, name, JSON_STRING)->s = s;
}

void field_int(struct fields *f, struct field_name name, int64_t i)
{
	named(f, name, JSON_INT)->i = i;
}

void field_bool(struct fields *f, struct field_name name, bool b)
{
	named(f, name, JSON_BOOL)->b = b;
}

void field_json(struct fields *f, struct field_name name, const struct json *v)
{
	struct json *m;

	if (!v)
		return;
	m = field(f, name.s, v->type);
	*m = *v;
	m->name = name.s;
}

/* The members of @f in canonical order, elsewhere. NULL: no memory, or a name twice, a bug of ours.
 */
static const struct json *ordered(struct fields *f)
{
	struct json *items = arena_alloc(f->a, f->n * sizeof(*items));

	return items && !json_order(f->object + 1, f->n, items) ? items : NULL;
}

struct json *fields_object(struct fields *f)
{
	struct json *v = f->object;
	const struct json *items;

	if (!v)
		return NULL;
	items = f->disordered ? ordered(f) : v + 1;
	if (!items)
		return NULL;
	*v = (struct json){ .type = JSON_OBJECT, .n = f->n, .items = items };
	return v;
}

bool add_action(struct reader *rd, struct str name, struct str type, struct str id,
		const struct json *args)
{
	if (rd->n >= TRAFFIC_ACTIONS_MAX)
		return refuse(rd, ERR_TOO_LARGE, "too_many_actions",
			      "more than %d actions in one request; send fewer at a time",
			      TRAFFIC_ACTIONS_MAX);
	if (rd->n == rd->room) {
		size_t room = rd->room ? 4 * rd->room : 2;
		struct traffic_action *more = arena_alloc(rd->a, room * sizeof(*more));

		if (!more)
			return refuse_memory(rd);
		if (rd->n)
			memcpy(more, rd->actions, rd->n * sizeof(*more));
		rd->actions = more;
		rd->room = room;
	}
	rd->actions[rd->n++] = (struct traffic_action){ name, type, id, args };
	return true;
}
