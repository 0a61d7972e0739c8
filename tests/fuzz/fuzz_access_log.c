/* StreamAccessLogsMessage: what is read of an entry is within the message and has a meaning. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/decide/outcome.h"
#include "authz/extauthz/access_log_message.h"

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

static bool within(struct str part, struct str whole)
{
	return !part.n || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

static void look(const struct access_log_entry *entry, struct str in)
{
	const char *outcome = access_log_outcome(entry);
	bool known = false;

	for (const char *const *n = outcome_names; *n; n++)
		known |= strcmp(*n, outcome) == 0;
	need(known, "an outcome without a name");
	need(within(entry->decisions, in) && within(entry->cluster, in) &&
		     within(entry->details, in),
	     "a text from elsewhere");
	need(text_is_utf8(entry->decisions) && text_is_utf8(entry->details), "not UTF-8");
	need(entry->duration_ms >= -1 && entry->input_tokens >= -1 && entry->output_tokens >= -1,
	     "a number below zero");
	need(!(entry->flags & 1) && entry->flags < 1u << (ACCESS_LOG_FLAGS + 1), "a flag");
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const struct usage_keys keys = { STR_INIT("u"), STR_INIT("i"), STR_INIT("o"),
						STR_INIT("c") };
	struct str in = { (const char *)p, n };
	struct access_log_message m;
	struct access_log_entry entry;
	size_t entries = 0;
	struct err e;

	if (!access_log_read(in, &m, &e))
		return 0;
	need(within(m.log_name, in), "a name from elsewhere");
	while (access_log_next(&m, &keys, &entry, &e)) {
		look(&entry, in);
		entries++;
	}
	need(entries * 2 <= n, "more entries than bytes");
	return 0;
}
