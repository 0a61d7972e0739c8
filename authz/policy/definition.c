#include "authz/policy/definition.h"

#include "authz/base/json_order.h"
#include "authz/base/text.h"

#define PATH_MAX_BYTES 400 /* of a path for people; longer ones are cut */
#define SHOWN 3		   /* changes named in one line */
#define NAME_SHOWN 32	   /* bytes of an identifier in it */
#define LINE_PATH 48	   /* bytes of a path in it */

bool definition_digest_ok(struct str s)
{
	uint8_t hash[SHA256_LEN];

	return s.n == DEFINITION_DIGEST && str_starts(s, STR("sha256:")) &&
	       text_unhex(str_from(s, 7), hash, sizeof(hash));
}

struct definition definition_of(const struct json *tool, struct sha256 *sha, struct arena *a)
{
	const struct json *name = json_get_type(tool, STR("name"), JSON_STRING);
	struct definition none = { .name = { NULL, 0 } }, d = none;
	char *digest = arena_alloc(a, DEFINITION_DIGEST + 1);
	uint8_t hash[SHA256_LEN];
	struct buf b;

	/* A number may grow: 1e20 is written as 21 digits. */
	buf_in_arena(&b, a, 8 * tool->raw.n + 64);
	json_canonical(&b, tool);
	if (!digest || !buf_ok(&b))
		return none;
	d.name = name ? name->s : (struct str){ "", 0 };
	d.text = buf_str(&b);
	sha256_of(sha, d.text, hash);
	memcpy(digest, "sha256:", 7);
	text_hex(hash, sizeof(hash), digest + 7);
	digest[DEFINITION_DIGEST] = '\0';
	d.digest = (struct str){ digest, DEFINITION_DIGEST };
	return d;
}

/* ---- lists ---- */

static bool refuse(struct err *e, const char *what)
{
	return err_code(e, ERR_INVALID, "invalid_list",
			"%s; expected the result of tools/list, a JSON-RPC response that holds "
			"one, or an array of tools",
			what);
}

/* What stands in the way: an error of JSON-RPC, which is not a list. */
static bool says_error(const struct json *error, struct err *e)
{
	const struct json *code = json_get_type(error, STR("code"), JSON_INT);
	const struct json *message = json_get_type(error, STR("message"), JSON_STRING);

	return err_code(e, ERR_INVALID, "mcp_error", "the MCP server says error %lld: %.*s",
			(long long)(code ? code->i : 0),
			STR_FMT(str_first(message ? message->s : STR("nothing more"), 200)));
}

static bool check_tools(const struct json *tools, struct err *e)
{
	for (uint32_t i = 0; i < tools->n; i++) {
		const struct json *tool = &tools->items[i];
		const struct json *name = json_get_type(tool, STR("name"), JSON_STRING);

		if (!name || !name->s.n || name->s.n > DEFINITION_NAME_MAX ||
		    !text_is_printable(name->s))
			return err_code(e, ERR_INVALID, "invalid_list",
					"tool %u of the list is no object with a name of 1 to %d "
					"printable bytes",
					i + 1, DEFINITION_NAME_MAX);
		for (uint32_t k = 0; k < i; k++)
			if (str_eq(name->s, json_get(&tools->items[k], STR("name"))->s))
				return err_code(e, ERR_INVALID, "invalid_list",
						"tool \"%.*s\" stands twice in the list",
						STR_FMT(name->s));
	}
	return true;
}

bool definition_list(const struct json *v, const struct json **tools, struct str *cursor,
		     struct err *e)
{
	const struct json *next, *list = v;

	*cursor = (struct str){ "", 0 };
	if (v->type == JSON_OBJECT) {
		if (json_get_type(v, STR("error"), JSON_OBJECT))
			return says_error(json_get(v, STR("error")), e);
		if (json_get(v, STR("result")))
			v = json_get(v, STR("result"));
		next = json_get(v, STR("nextCursor"));
		if (next && next->type != JSON_STRING && next->type != JSON_NULL)
			return refuse(e, "nextCursor is no text");
		if (next && next->type == JSON_STRING)
			*cursor = next->s;
		list = json_get(v, STR("tools"));
	}
	if (!list || list->type != JSON_ARRAY)
		return refuse(e, "there is no list of tools");
	if (list->n > DEFINITIONS_MAX)
		return err_code(e, ERR_INVALID, "invalid_list",
				"the list has %u tools, more than %d", list->n, DEFINITIONS_MAX);
	if (!check_tools(list, e))
		return false;
	*tools = list;
	return true;
}

/* ---- comparing ---- */

struct comparison {
	bool (*each)(void *ctx, const struct definition_change *c);
	void *ctx;
	bool plain; /* for a line: "*" where a name is no short identifier */
	bool over;
	struct buf path;
	char room[PATH_MAX_BYTES];
};

static bool is_identifier(struct str s, size_t max)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && c != '_' && c != '$' &&
		    !(i && ((c >= '0' && c <= '9') || c == '-')))
			return false;
	}
	return s.n && s.n <= max;
}

static void put_name(struct comparison *c, struct str name)
{
	bool shown = is_identifier(name, c->plain ? NAME_SHOWN : PATH_MAX_BYTES);

	if (shown || c->plain) {
		if (c->path.n)
			buf_char(&c->path, '.');
		buf_add(&c->path, shown ? name : STR("*"));
		return;
	}
	buf_char(&c->path, '[');
	buf_json(&c->path, name);
	buf_char(&c->path, ']');
}

/* Paths do not grow beyond their room: what lies deeper has the path of what holds it. */
static void go_back(struct comparison *c, size_t to)
{
	c->path.n = to;
	c->path.failed = false;
}

static void tell(struct comparison *c, const struct json *was, const struct json *is)
{
	struct definition_change change = { .how = !was	 ? "added"
						   : !is ? "removed"
							 : "changed",
					    .path = c->path.n ? buf_str(&c->path)
							      : STR("the whole"),
					    .was = was,
					    .is = is };

	c->over = !c->each(c->ctx, &change);
}

static void compare(struct comparison *c, const struct json *was, const struct json *is);

static void compare_named(struct comparison *c, struct str name, const struct json *was,
			  const struct json *is)
{
	size_t at = c->path.n;

	put_name(c, name);
	if (!buf_ok(&c->path))
		go_back(c, at);
	compare(c, was, is);
	go_back(c, at);
}

/* Members stand in one order in both. */
static void compare_objects(struct comparison *c, const struct json *was, const struct json *is)
{
	uint32_t i = 0, k = 0;

	while (!c->over && (i < was->n || k < is->n)) {
		const struct json *a = i < was->n ? &was->items[i] : NULL;
		const struct json *b = k < is->n ? &is->items[k] : NULL;
		int order = a && b ? json_name_cmp(a->name, b->name) : 0;

		if (order > 0)
			a = NULL;
		else if (order < 0)
			b = NULL;
		i += a != NULL;
		k += b != NULL;
		compare_named(c, a ? a->name : b ? b->name : STR(""), a, b);
	}
}

static void compare_arrays(struct comparison *c, const struct json *was, const struct json *is)
{
	uint32_t n = was->n > is->n ? was->n : is->n;
	size_t at = c->path.n;

	for (uint32_t i = 0; !c->over && i < n; i++) {
		buf_printf(&c->path, "[%u]", i);
		if (!buf_ok(&c->path))
			go_back(c, at);
		compare(c, i < was->n ? &was->items[i] : NULL, i < is->n ? &is->items[i] : NULL);
		go_back(c, at);
	}
}

static bool same_scalar(const struct json *a, const struct json *b)
{
	switch (a->type) {
	case JSON_NULL:
		return true;
	case JSON_BOOL:
		return a->b == b->b;
	case JSON_INT:
		return a->i == b->i;
	case JSON_REAL:
		return a->d == b->d;
	default:
		return str_eq(a->s, b->s);
	}
}

/* As deep as the reader let it be. */
static void compare(struct comparison *c, const struct json *was, const struct json *is)
{
	if (!was || !is || was->type != is->type)
		tell(c, was, is);
	else if (was->type == JSON_OBJECT)
		compare_objects(c, was, is);
	else if (was->type == JSON_ARRAY)
		compare_arrays(c, was, is);
	else if (!same_scalar(was, is))
		tell(c, was, is);
}

static void run(struct comparison *c, const struct json *was, const struct json *is)
{
	/* It cannot grow, so nothing is allocated. */
	c->path = (struct buf){ .p = c->room, .cap = sizeof(c->room), .max = sizeof(c->room) };
	compare(c, was, is);
}

void definition_compare(const struct json *was, const struct json *is,
			bool (*each)(void *ctx, const struct definition_change *c), void *ctx)
{
	struct comparison c = { .each = each, .ctx = ctx };

	run(&c, was, is);
}

struct line {
	struct buf *out;
	size_t n;
};

static bool add_to_line(void *ctx, const struct definition_change *change)
{
	struct line *l = ctx;
	struct str path = change->path;

	if (l->n++ >= SHOWN)
		return l->n < 1000;
	if (l->n > 1)
		buf_lit(l->out, ", ");
	buf_add(l->out, str_first(path, LINE_PATH));
	if (path.n > LINE_PATH)
		buf_lit(l->out, "...");
	buf_char(l->out, ' ');
	buf_add(l->out, str_c(change->how));
	return true;
}

void definition_changes(const struct json *was, const struct json *is, struct buf *out)
{
	struct line l = { .out = out };
	struct comparison c = { .each = add_to_line, .ctx = &l, .plain = true };

	run(&c, was, is);
	if (l.n > SHOWN)
		buf_printf(out, ", %zu more", l.n - SHOWN);
}
