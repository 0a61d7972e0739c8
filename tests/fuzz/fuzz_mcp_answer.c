/* What an MCP server answers: a response is found only where one is, with the number that was asked
 * for; a list of tools in it can be pinned, and the file of pins is read back as it was written. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/cli/mcp_client.h"
#include "authz/cli/pins_file.h"

static void check_file(const struct mcp_tools *t, struct arena *a)
{
	static struct sha256 *sha;
	struct pins_tool *pins = arena_alloc(a, (t->n + 1) * sizeof(*pins));
	const struct policy_pin *read;
	struct policy_set *set = NULL;
	struct err e = { 0 };
	AUTO_BUF text = { 0 };
	size_t n;

	if (!sha)
		sha = sha256_new(&e);
	if (!pins)
		return;
	for (size_t i = 0; i < t->n; i++)
		pins[i] = (struct pins_tool){ definition_of(t->items[i], sha, a), t->items[i] };
	buf_init(&text, mem_system, PINS_FILE_MAX);
	pins_write(&text, STR("files"), pins, t->n, true);
	if (!buf_ok(&text) || !pins_are_ours(buf_str(&text), STR("files")))
		return;
	if (!pins_read(buf_str(&text), &set, &e)) {
		if (!strstr(e.msg, "JSON too large") && !strstr(e.msg, "no memory"))
			abort(); /* beyond what policies may hold, or a bug of ours */
		return;
	}
	read = policy_set_pins(set, &n);
	if (n != t->n)
		abort();
	for (size_t i = 0; i < n; i++) {
		size_t found = 0;

		for (size_t k = 0; k < n; k++)
			found += str_eq(read[i].digest, pins[k].definition.digest) &&
				 str_eq(read[i].definition, pins[k].definition.text);
		if (!found)
			abort();
	}
	shared_release(&set->shared);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char *const types[] = { "application/json", "text/event-stream", "text/html" };
	struct str body = { (const char *)p, n };
	struct mcp_tools tools;
	struct err e = { 0 };
	struct str cursor;

	if (!mcp_tools_init(&tools, &e))
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		const struct json *v = mcp_find_answer(types[i], body, 1, &tools.arena);
		const struct json *id = json_get_type(v, STR("id"), JSON_INT);

		if (v && (i == 2 || !id || id->i != 1))
			abort();
		if (v && mcp_tools_add(&tools, v, &cursor, &e)) {
			check_file(&tools, &tools.arena);
			break;
		}
		tools.n = 0;
	}
	mcp_tools_clear(&tools);
	return 0;
}
