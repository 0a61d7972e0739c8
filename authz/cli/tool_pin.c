/* tool pin: what a server lists, as pins for the catalogue. Asks the MCP server, never writ's. */
#include <fcntl.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/mcp_client.h"
#include "authz/cli/pins_file.h"
#include "authz/cli/print.h"
#include "authz/store/file.h"

#define LIST_MAX (32 * 1024 * 1024) /* bytes of one -f */
#define TOKEN_MAX 16384
#define OUT_MAX (128 * 1024 * 1024)

struct pinning {
	struct cli *c;
	struct str server;
	struct mcp_tools tools;
	struct pins_tool *pins; /* in order of name */
	size_t n;
	struct buf text;	/* of the file */
	struct policy_set *old; /* what the file holds until now; NULL: no file, or unreadable */
	size_t added, changed, gone;
};

static void pinning_clear(struct pinning *p)
{
	mcp_tools_clear(&p->tools);
	buf_clear(&p->text);
	shared_release(p->old ? &p->old->shared : NULL);
}

static bool server_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && !strchr("_.-", c))
			return false;
	}
	return s.n && s.n <= 64;
}

/* ---- the list ---- */

static bool read_files(struct pinning *p, struct err *e)
{
	struct str cursor = { "", 0 };
	const char *path;
	size_t at = 0;

	if (!mcp_tools_init(&p->tools, e))
		return false;
	while ((path = cli_next(p->c, "--file", &at))) {
		AUTO_BUF text;

		buf_init(&text, mem_system, LIST_MAX + 1);
		if (!api_read_file(path, LIST_MAX, &text, e))
			return false;
		if (!mcp_tools_read(&p->tools, buf_str(&text), &cursor, e))
			return err_prefix(e, "%s", path);
	}
	return !cursor.n ||
	       err_code(e, ERR_INVALID, "invalid_list",
			"the list goes on at nextCursor \"%.*s\"; give the pages after "
			"it with -f, too",
			STR_FMT(str_first(cursor, 60)));
}

static bool ask_server(struct pinning *p, const char *url, struct err *e)
{
	const char *given = cli_value(p->c, "--token");
	struct mcp_server s = { .url = url, .ca_file = cli_value(p->c, "--ca-file") };
	AUTO_BUF token;

	buf_init(&token, mem_system, TOKEN_MAX);
	if (given) {
		if (!api_read_token("--token", given, &token, e))
			return false;
		buf_char(&token, '\0');
		s.token = token.p;
	}
	return mcp_list_tools(&s, &p->tools, e);
}

static int by_name(const void *pa, const void *pb)
{
	const struct pins_tool *a = pa, *b = pb;

	return str_cmp(a->definition.name, b->definition.name);
}

static bool wanted(const struct cli *c, struct str name)
{
	const char *one;
	bool any = false;
	size_t at = 0;

	while ((one = cli_next(c, "--tool", &at))) {
		any = true;
		if (str_eq(str_c(one), name))
			return true;
	}
	return !any;
}

/* Every --tool must be in the list: a slip would be a tool without a pin. */
static bool all_there(const struct pinning *p, struct err *e)
{
	const char *one;
	size_t at = 0;

	while ((one = cli_next(p->c, "--tool", &at))) {
		bool there = false;

		for (size_t i = 0; i < p->n && !there; i++)
			there = str_eq(p->pins[i].definition.name, str_c(one));
		if (!there)
			return err_code(e, ERR_NOT_FOUND, "unknown_tool",
					"the server lists no tool \"%.200s\"", one);
	}
	return p->n || err_code(e, ERR_NOT_FOUND, "unknown_tool", "the server lists no tools");
}

static bool take_digests(struct pinning *p, struct err *e)
{
	struct sha256 *sha = sha256_new(e);
	bool ok = sha != NULL;

	p->pins = ok ? arena_alloc(&p->tools.arena, (p->tools.n + 1) * sizeof(*p->pins)) : NULL;
	if (ok && !p->pins)
		ok = err_set(e, ERR_NOMEM, "no memory for a list of tools");
	for (size_t i = 0; ok && i < p->tools.n; i++) {
		struct definition d = definition_of(p->tools.items[i], sha, &p->tools.arena);

		if (!d.text.p)
			ok = err_set(e, ERR_NOMEM, "no memory for a list of tools");
		else if (wanted(p->c, d.name))
			p->pins[p->n++] = (struct pins_tool){ d, p->tools.items[i] };
	}
	sha256_free(sha);
	if (ok && p->n)
		qsort(p->pins, p->n, sizeof(*p->pins), by_name);
	return ok && all_there(p, e);
}

/* ---- the file ---- */

/* What is written is what the loader reads, or it is not written. */
static bool make_text(struct pinning *p, struct err *e)
{
	struct policy_set *set = NULL;
	const struct policy_pin *pins;
	size_t n;
	bool same;

	buf_init(&p->text, mem_system, OUT_MAX);
	pins_write(&p->text, p->server, p->pins, p->n, !cli_flag(p->c, "--digests"));
	if (!buf_ok(&p->text))
		return err_set(e, ERR_TOO_LARGE, "the definitions are too large");
	if (p->text.n > PINS_FILE_MAX)
		return err_code(e, ERR_TOO_LARGE, "too_large",
				"%zu KiB of pins, and a policy file has at most %d; pin fewer with "
				"--tool, in several files, or --digests alone",
				p->text.n >> 10, PINS_FILE_MAX >> 10);
	if (!pins_read(buf_str(&p->text), &set, e))
		return false;
	pins = policy_set_pins(set, &n);
	same = n == p->n;
	for (size_t i = 0; same && i < n; i++)
		same = str_eq(pins[i].digest, p->pins[i].definition.digest);
	shared_release(&set->shared);
	return same || err_set(e, ERR_INTERNAL, "the pins are not read back as they were written");
}

/* What stands in the file now. It is replaced as a whole, so it has to be ours. */
static bool read_old(struct pinning *p, const char *path, struct err *e)
{
	struct err why = { 0 };
	AUTO_BUF text;

	buf_init(&text, mem_system, PINS_FILE_MAX);
	if (!file_read(AT_FDCWD, path, PINS_FILE_MAX, &text, &why))
		return why.class == ERR_NOT_FOUND ||
		       err_code(e, why.class, why.code, "%s", why.msg);
	if (!pins_are_ours(buf_str(&text), p->server))
		return err_code(e, ERR_CONFLICT, "not_ours",
				"%.200s was not written by `writ tool pin %.*s`, so it is left as "
				"it is; name another file",
				path, STR_FMT(p->server));
	if (!pins_read(buf_str(&text), &p->old, &why))
		fprintf(p->c->err,
			"writ: tool pin: %s cannot be read any more, so what changes in "
			"it is not told: %s\n",
			path, why.msg);
	return true;
}

static const struct policy_pin *old_pin(const struct pinning *p, struct str name)
{
	const struct policy_pin *pins;
	size_t n = 0;

	pins = p->old ? policy_set_pins(p->old, &n) : NULL;
	for (size_t i = 0; i < n; i++)
		if (str_eq(str_from(pins[i].tool, p->server.n + 1), name))
			return &pins[i];
	return NULL;
}

static bool say_change(void *ctx, const struct definition_change *change)
{
	const struct cli *c = ctx;

	tool_put_difference(c->out, change->path, str_c(change->how), change->was, change->is);
	return true;
}

static void compare_one(struct pinning *p, const struct pins_tool *t)
{
	const struct policy_pin *old = old_pin(p, t->definition.name);
	const struct json *was = NULL;
	struct err ignored = { 0 };

	if (old && str_eq(old->digest, t->definition.digest))
		return;
	*(old ? &p->changed : &p->added) += 1;
	if (p->c->json)
		return;
	fprintf(p->c->out, "%.*s/", STR_FMT(p->server));
	print_text(p->c->out, t->definition.name);
	fprintf(p->c->out, old ? " changed\n" : " is new\n");
	if (old && old->definition.n &&
	    json_parse(old->definition, &json_default_limits, &p->tools.arena, &was, &ignored))
		definition_compare(was, t->value, say_change, p->c);
}

static bool still_there(const struct pinning *p, struct str tool)
{
	for (size_t i = 0; i < p->n; i++)
		if (str_eq(str_from(tool, p->server.n + 1), p->pins[i].definition.name))
			return true;
	return false;
}

static void compare_all(struct pinning *p)
{
	const struct policy_pin *pins;
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		compare_one(p, &p->pins[i]);
	pins = p->old ? policy_set_pins(p->old, &n) : NULL;
	for (size_t i = 0; i < n; i++) {
		if (still_there(p, pins[i].tool))
			continue;
		p->gone++;
		if (p->c->json)
			continue;
		print_text(p->c->out, pins[i].tool);
		fprintf(p->c->out, " is gone\n");
	}
}

/* ---- printing ---- */

static int print_json(struct pinning *p, const char *path)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, OUT_MAX);
	buf_lit(&b, "{\"server\":");
	buf_json(&b, p->server);
	if (p->tools.revision[0])
		buf_printf(&b, ",\"revision\":\"%s\"", p->tools.revision);
	if (path) {
		buf_lit(&b, ",\"file\":");
		buf_json(&b, str_c(path));
		buf_printf(&b, ",\"new\":%zu,\"changed\":%zu,\"gone\":%zu", p->added, p->changed,
			   p->gone);
	}
	buf_lit(&b, ",\"tools\":[");
	for (size_t i = 0; i < p->n; i++) {
		buf_add(&b, i ? STR(",{\"tool\":") : STR("{\"tool\":"));
		buf_json(&b, p->pins[i].definition.name);
		buf_lit(&b, ",\"digest\":");
		buf_json(&b, p->pins[i].definition.digest);
		buf_lit(&b, ",\"definition\":");
		buf_add(&b, p->pins[i].definition.text);
		buf_char(&b, '}');
	}
	buf_lit(&b, "]}\n");
	if (buf_ok(&b))
		fwrite(b.p, 1, b.n, p->c->out);
	return buf_ok(&b) ? CLI_DONE : CLI_FAILED;
}

static int finish_file(struct pinning *p, const char *path, bool check)
{
	struct err e = { 0 };
	int exit_code = CLI_DONE;

	if (!read_old(p, path, &e))
		return cli_fail(p->c, &e);
	if (check && !p->old) {
		err_code(&e, ERR_NOT_FOUND, "no_pins", "%.200s holds no pins to check against",
			 path);
		return cli_fail(p->c, &e);
	}
	compare_all(p);
	if (!check && !file_replace_path(path, buf_str(&p->text), 0644, &e))
		return cli_fail(p->c, &e);
	if (check && p->added + p->changed + p->gone)
		exit_code = CLI_FAILED;
	if (p->c->json)
		return print_json(p, path) == CLI_DONE ? exit_code : CLI_FAILED;
	fprintf(p->c->out, "%s %s: %zu pins, %zu new, %zu changed, %zu gone\n",
		check ? "checked" : "wrote", path, p->n, p->added, p->changed, p->gone);
	return exit_code;
}

static int finish(struct pinning *p)
{
	const char *file = cli_value(p->c, "--write"), *check = cli_value(p->c, "--check");

	if (file || check)
		return finish_file(p, file ? file : check, check != NULL);
	if (p->c->json)
		return print_json(p, NULL);
	fwrite(p->text.p, 1, p->text.n, p->c->out);
	return CLI_DONE;
}

int run_tool_pin(struct cli *c)
{
	const char *url = cli_value(c, "--server");
	struct pinning p = { .c = c, .server = str_c(c->operands[0]) };
	struct err e = { 0 };
	int exit_code;

	if (!server_ok(p.server))
		return cli_misuse(c,
				  "%.64s: expected the server's name in the catalogue, of "
				  "[a-z0-9_.-]: the part of its tools before the slash",
				  c->operands[0]);
	if (!url == !cli_value(c, "--file"))
		return cli_misuse(c, "expected -f FILE, or --server URL of the MCP server");
	if (cli_value(c, "--token") && !url)
		return cli_misuse(c, "--token belongs to --server");
	if (cli_value(c, "--write") && cli_value(c, "--check"))
		return cli_misuse(c, "--write changes a file and --check does not; give one");
	if ((url ? ask_server(&p, url, &e) : read_files(&p, &e)) && take_digests(&p, &e) &&
	    make_text(&p, &e))
		exit_code = finish(&p);
	else
		exit_code = cli_fail(c, &e);
	pinning_clear(&p);
	return exit_code;
}
