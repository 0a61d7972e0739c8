/* A list of definitions: whatever is accepted can be named, pinned and compared. Two definitions
 * have one digest exactly if nothing is told to be different, and what is told to a model holds
 * nothing of the server's but short identifiers. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/policy/definition.h"

static bool count(void *ctx, const struct definition_change *c)
{
	if (!c->path.n || (!c->was && !c->is))
		abort();
	return ++*(size_t *)ctx < 1000;
}

static void check_line(struct str line)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_$-.[]*, ";

	for (size_t i = 0; i < line.n; i++)
		if (!line.p[i] || !strchr(allowed, line.p[i]))
			abort();
}

static void check_pair(const struct json *was, const struct json *is, struct sha256 *sha,
		       struct arena *a)
{
	struct definition d = definition_of(was, sha, a), f = definition_of(is, sha, a);
	struct buf line;
	size_t n = 0;

	if (!definition_digest_ok(d.digest) || !definition_digest_ok(f.digest))
		abort();
	buf_in_arena(&line, a, DEFINITION_CHANGES);
	definition_compare(was, is, count, &n);
	definition_changes(was, is, &line);
	if (!buf_ok(&line) || (n == 0) != str_eq(d.digest, f.digest) || (n == 0) != (line.n == 0))
		abort();
	check_line(buf_str(&line));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct sha256 *sha;
	const struct json *v = NULL, *tools = NULL;
	struct err e = { 0 };
	struct str cursor;
	struct arena a;

	if (!sha)
		sha = sha256_new(&e);
	arena_init(&a, &mem_system, (size_t)64 * 1024 * 1024);
	if (json_parse((struct str){ (const char *)p, n }, &json_default_limits, &a, &v, &e)) {
		if (definition_list(v, &tools, &cursor, &e)) {
			for (uint32_t i = 0; i < tools->n && i < 8; i++)
				check_pair(&tools->items[i], &tools->items[i ? i - 1 : 0], sha, &a);
		} else if (e.class != ERR_INVALID || !e.msg[0]) {
			abort();
		}
		if (v->type == JSON_ARRAY && v->n >= 2) /* of any type */
			check_pair(&v->items[0], &v->items[1], sha, &a);
	}
	arena_clear(&a);
	return 0;
}
