/* Read the compiled form (lua_dump of 5.4) for what tokens cannot tell: to which variable a name
 * belongs. The bytes come from our own process, a moment ago; still every read is bounded. */
#include <lua.h>

#include "authz/base/text.h"
#include "authz/policy/scan.h"

/* lopcodes.h, the same in all of 5.4 */
enum { OP_SETUPVAL = 10, OP_GETTABUP = 11, OP_SETTABUP = 15 };

#define ABSOLUTE_LINE (-128)
#define DEPTH_MAX 250

struct in {
	struct job *j;
	const char *const *words;
	const unsigned char *p, *end;
	bool bad;
	void (*line)(void *ctx, int line); /* or NULL: then the code is checked */
	void *ctx;
};

static const unsigned char *bytes(struct in *in, size_t n)
{
	const unsigned char *p = in->p;

	if (n > (size_t)(in->end - in->p)) {
		in->bad = true;
		return NULL;
	}
	in->p += n;
	return p;
}

static unsigned char byte(struct in *in)
{
	const unsigned char *p = bytes(in, 1);

	return p ? *p : 0;
}

static size_t number(struct in *in)
{
	size_t x = 0;
	unsigned char b;

	do {
		b = byte(in);
		if (x >> 56)
			in->bad = true;
		x = x << 7 | (b & 0x7f);
	} while (!(b & 0x80) && !in->bad);
	return x;
}

static struct str text(struct in *in)
{
	size_t n = number(in);
	const unsigned char *p;

	if (n == 0)
		return (struct str){ NULL, 0 };
	p = bytes(in, n - 1);
	return (struct str){ (const char *)p, p ? n - 1 : 0 };
}

struct code {
	const unsigned char *code, *lines, *absolute, *constants, *upvalues;
	size_t n, nupvalues;
	int first_line;
};

/* Constants are of varying size, so the k-th is found by walking. */
static struct str constant(const struct in *in, const unsigned char *at, size_t k)
{
	struct in walk = *in;
	struct str s = { NULL, 0 };

	walk.p = at;
	walk.bad = false;
	for (size_t i = 0; i <= k && !walk.bad; i++) {
		unsigned char type = byte(&walk);

		s = (struct str){ NULL, 0 };
		if (type == LUA_TNUMBER || type == (LUA_TNUMBER | 1 << 4))
			bytes(&walk, 8);
		else if ((type & 0x0f) == LUA_TSTRING)
			s = text(&walk);
	}
	return s;
}

static void skip_constants(struct in *in, size_t n)
{
	for (size_t i = 0; i < n && !in->bad; i++) {
		unsigned char type = byte(in);

		if (type == LUA_TNUMBER || type == (LUA_TNUMBER | 1 << 4))
			bytes(in, 8);
		else if ((type & 0x0f) == LUA_TSTRING)
			text(in);
	}
}

static bool known(const char *const *names, struct str name)
{
	for (; *names; names++)
		if (str_eq(str_c(*names), name))
			return true;
	return false;
}

static void check_global(struct in *in, struct str name, int line, bool write)
{
	char near[100], other[100];

	if (write) {
		job_error(in->j, line,
			  "assignment to global \"%.*s\": write local %.*s = ... (nothing global "
			  "survives a call)",
			  STR_FMT(name), STR_FMT(name));
		return;
	}
	if (known(prelude_globals, name) || known(in->words, name))
		return;
	did_you_mean(name, prelude_globals, near);
	did_you_mean(name, in->words, other);
	job_error(in->j, line, "\"%.*s\" is not known here%s", STR_FMT(name), *near ? near : other);
}

/* The name of upvalue @k. */
static struct str upvalue(const struct in *in, const struct code *c, size_t k)
{
	struct in walk = *in;
	struct str s = { NULL, 0 };

	walk.p = c->upvalues;
	walk.bad = false;
	for (size_t i = 0; i <= k && k < c->nupvalues && !walk.bad; i++)
		s = text(&walk);
	return s;
}

static bool is_env(const struct in *in, const struct code *c, size_t k)
{
	return str_eq(upvalue(in, c, k), STR("_ENV"));
}

static void check_instruction(struct in *in, const struct code *c, const unsigned char *i, int line)
{
	uint32_t word = (uint32_t)i[0] | (uint32_t)i[1] << 8 | (uint32_t)i[2] << 16 |
			(uint32_t)i[3] << 24;
	uint32_t op = word & 0x7f, a = word >> 7 & 0xff, b = word >> 16 & 0xff, k = word >> 24;

	if (op == OP_SETUPVAL)
		job_error(in->j, line,
			  "assignment to \"%.*s\", a local of an enclosing function: it would "
			  "live on between calls; return the value instead",
			  STR_FMT(upvalue(in, c, b)));
	else if (op == OP_GETTABUP && is_env(in, c, b))
		check_global(in, constant(in, c->constants, k), line, false);
	else if (op == OP_SETTABUP && is_env(in, c, a))
		check_global(in, constant(in, c->constants, b), line, true);
}

/* Lines are differences; where one does not fit a byte, a (pc, line) pair has it. */
static void check_code(struct in *in, const struct code *c, int depth)
{
	struct in absolute = *in;
	int line = c->first_line;

	absolute.p = c->absolute;
	for (size_t pc = 0; pc < c->n && !in->bad; pc++) {
		int step = c->lines ? (signed char)c->lines[pc] : 0;

		if (step == ABSOLUTE_LINE) {
			number(&absolute);
			line = (int)number(&absolute);
		} else {
			line += step;
		}
		/* The return that stands behind every function runs only if nothing returned
		 * before; what runs in the main chunk ran at load. */
		if (!in->line)
			check_instruction(in, c, c->code + 4 * pc, line);
		else if (depth > 0 && pc + 1 < c->n)
			in->line(in->ctx, line);
	}
}

/* What follows the nested functions: lines and names. */
static void read_debug(struct in *in, struct code *c)
{
	size_t n = number(in);

	c->lines = bytes(in, n);
	if (n != c->n)
		c->lines = NULL;
	n = number(in);
	c->absolute = in->p;
	for (size_t i = 0; i < n && !in->bad; i++) {
		number(in);
		number(in);
	}
	n = number(in);
	for (size_t i = 0; i < n && !in->bad; i++) { /* locals */
		text(in);
		number(in);
		number(in);
	}
	c->nupvalues = number(in);
	c->upvalues = in->p;
	for (size_t i = 0; i < c->nupvalues && !in->bad; i++)
		text(in);
}

static void read_function(struct in *in, int depth)
{
	struct code c = { 0 };
	size_t n;

	if (depth > DEPTH_MAX) {
		in->bad = true;
		return;
	}
	text(in); /* source */
	c.first_line = (int)number(in);
	number(in);
	bytes(in, 3);
	c.n = number(in);
	if (c.n > SIZE_MAX / 4)
		in->bad = true;
	c.code = in->bad ? NULL : bytes(in, 4 * c.n);
	n = number(in);
	c.constants = in->p;
	skip_constants(in, n);
	n = number(in);
	for (size_t i = 0; i < n && !in->bad; i++)
		bytes(in, 3);
	n = number(in);
	for (size_t i = 0; i < n && !in->bad; i++)
		read_function(in, depth + 1); /* NOLINT(misc-no-recursion): bounded */
	read_debug(in, &c);
	if (!in->bad && c.code)
		check_code(in, &c, depth);
}

static void read_all(struct in *in)
{
	/* Signature, version, format, check bytes; sizes of instruction, integer, float; one of
	 * each */
	static const size_t header = 4 + 1 + 1 + 6 + 3 + 8 + 8;
	const unsigned char *head = bytes(in, header + 1); /* and the number of upvalues */

	if (!head || memcmp(head, "\x1bLua\x54\x00", 6) != 0 || head[12] != 4)
		in->bad = true;
	else
		read_function(in, 0);
}

void scan_lines(struct str dump, void (*line)(void *ctx, int line), void *ctx)
{
	struct in in = { .p = (const unsigned char *)dump.p,
			 .end = (const unsigned char *)dump.p + dump.n,
			 .line = line,
			 .ctx = ctx };

	if (dump.n)
		read_all(&in);
}

void scan_dump(struct job *j, struct str dump, const char *const *words)
{
	struct in in = { j, words, (const unsigned char *)dump.p,
			 (const unsigned char *)dump.p + dump.n, .bad = false };

	read_all(&in);
	if (in.bad) /* better no set than one that was not looked at */
		job_error(j, 0, "the compiled form of Lua %s is not the one this writ knows",
			  LUA_VERSION_MAJOR "." LUA_VERSION_MINOR);
}
