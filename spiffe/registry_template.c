#include "spiffe/registry_template.h"

#include "spiffe/id.h"

static bool segment_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '-' || c == '_';
}

static bool is_segment(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!segment_char(s.p[i]))
			return false;
	return s.n && !str_eq(s, STR(".")) && !str_eq(s, STR(".."));
}

/* The next segment of "/a/b"; false at the end. */
static bool next_segment(struct str *path, struct str *segment)
{
	struct str rest;

	if (!path->n)
		return false;
	rest = str_from(*path, 1);
	if (str_cut(rest, '/', segment, &rest))
		*path = (struct str){ rest.p - 1, rest.n + 1 };
	else
		*segment = rest, *path = (struct str){ 0 };
	return true;
}

/* "{k8s.ns}": what stands between the braces. */
static bool placeholder(struct str segment, struct str *inside)
{
	if (segment.n < 3 || segment.p[0] != '{' || segment.p[segment.n - 1] != '}')
		return false;
	*inside = (struct str){ segment.p + 1, segment.n - 2 };
	return true;
}

static bool known_shape(struct str inside)
{
	struct str type, key;

	if (str_eq(inside, STR("name")))
		return true;
	return is_segment(inside) && str_cut(inside, '.', &type, &key) && type.n && key.n &&
	       key.p[0] != '.' && key.p[key.n - 1] != '.';
}

/* "spiffe://td" and "/path" of an ID or template. */
static bool split(struct str id, struct str *head, struct str *path)
{
	struct str scheme = STR("spiffe://"), rest;
	const char *slash;

	if (!str_starts(id, scheme))
		return false;
	rest = str_from(id, scheme.n);
	slash = rest.n ? memchr(rest.p, '/', rest.n) : NULL;
	if (!slash)
		return false;
	*head = str_first(id, (size_t)(slash - id.p));
	*path = str_from(id, head->n);
	return true;
}

/* The ID with @value(ctx, inside) for each placeholder, checked as an ID. */
static bool fill(struct str template, struct buf *out,
		 bool (*value)(void *ctx, struct str inside, struct str *v, struct err *e),
		 void *ctx, struct err *e)
{
	struct str head, path, segment, inside, v;
	struct spiffe_id id;
	int n = 0;

	if (!split(template, &head, &path))
		return err_code(e, ERR_INVALID, "invalid_spiffe_id",
				"a template starts like a SPIFFE ID: spiffe://TRUST_DOMAIN/...");
	buf_add(out, head);
	while (next_segment(&path, &segment)) {
		buf_char(out, '/');
		if (!placeholder(segment, &inside)) {
			buf_add(out, segment);
			continue;
		}
		if (!known_shape(inside) || ++n > TEMPLATE_PLACEHOLDERS)
			return err_code(e, ERR_INVALID, "invalid_spiffe_id",
					"\"{%.*s}\": a placeholder is {name} or {TYPE.KEY} of a "
					"selector, as {k8s.ns}; at most %d of them",
					STR_FMT(str_first(inside, 60)), TEMPLATE_PLACEHOLDERS);
		if (!value(ctx, inside, &v, e))
			return false;
		buf_add(out, v);
	}
	if (!buf_ok(out))
		return err_code(e, ERR_INVALID, "invalid_spiffe_id",
				"the SPIFFE ID would be longer than %d bytes", SPIFFE_ID_MAX);
	if (!spiffe_id_parse_workload(buf_str(out), &id, e)) {
		if (e)
			e->code = "invalid_spiffe_id";
		return err_prefix(e, "a placeholder is a whole path segment");
	}
	if (spiffe_path_reserved(id.path))
		return err_code(e, ERR_FORBIDDEN, "reserved_path",
				"%.*s: paths below /writ are writ's own",
				STR_FMT(str_first(buf_str(out), 200)));
	return true;
}

static bool any_value(void *ctx, struct str inside, struct str *v, struct err *e)
{
	(void)ctx;
	(void)inside;
	(void)e;
	*v = STR("x");
	return true;
}

bool template_check(struct str id, struct err *e)
{
	AUTO_BUF b = { 0 };

	buf_init(&b, mem_system, SPIFFE_ID_MAX);
	return fill(id, &b, any_value, NULL, e);
}

bool template_overlap(struct str a, struct str b)
{
	struct str head_a, head_b, x, y, inside;

	if (!split(a, &head_a, &a) || !split(b, &head_b, &b) || !str_eq(head_a, head_b))
		return false;
	for (;;) {
		bool more_a = next_segment(&a, &x), more_b = next_segment(&b, &y);

		if (!more_a || !more_b)
			return more_a == more_b;
		if (!placeholder(x, &inside) && !placeholder(y, &inside) && !str_eq(x, y))
			return false;
	}
}

/* --- values --- */

struct proof {
	const struct registry_selector *attested;
	size_t n;
	struct str name;
};

/* Is @s the selector that @inside ("x509pop.subject.cn") names? */
static bool names_selector(struct str inside, const struct registry_selector *s, struct str *v)
{
	struct str type, key;

	if (!str_cut(inside, '.', &type, &key) || !str_eq(type, s->type) || s->value.n <= key.n ||
	    s->value.p[key.n] != ':')
		return false;
	for (size_t i = 0; i < key.n; i++)
		if (s->value.p[i] != (key.p[i] == '.' ? ':' : key.p[i]))
			return false;
	*v = str_from(s->value, key.n + 1);
	return true;
}

static bool proven_value(void *ctx, struct str inside, struct str *v, struct err *e)
{
	const struct proof *p = ctx;
	size_t found = 0;
	struct str one;

	if (str_eq(inside, STR("name"))) {
		*v = p->name;
		found = p->name.n != 0;
	}
	for (size_t i = 0; i < p->n; i++)
		if (names_selector(inside, &p->attested[i], &one)) {
			found++;
			*v = one;
		}
	if (found != 1)
		return err_code(e, ERR_FORBIDDEN, "template_value", "{%.*s} has %s; %s",
				STR_FMT(str_first(inside, 60)),
				found ? "more than one value" : "no value",
				str_eq(inside, STR("name"))
					? "send the agent's own name as \"name\""
					: "the proof must give exactly one");
	if (v->n > TEMPLATE_VALUE || !is_segment(*v))
		return err_code(e, ERR_FORBIDDEN, "template_value",
				"the value \"%.*s\" of {%.*s} cannot stand in a SPIFFE ID: 1 to %d "
				"letters, digits, \".\", \"-\" and \"_\" can",
				STR_FMT(str_first(*v, 60)), STR_FMT(str_first(inside, 60)),
				TEMPLATE_VALUE);
	return true;
}

bool template_expand(struct str template, const struct registry_selector *attested, size_t n,
		     struct str name, struct arena *a, struct str *out, struct err *e)
{
	struct proof p = { attested, n, name };
	struct buf b;

	buf_in_arena(&b, a, SPIFFE_ID_MAX);
	if (!fill(template, &b, proven_value, &p, e))
		return false;
	*out = buf_str(&b);
	return true;
}
