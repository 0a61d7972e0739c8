#include "authz/audit/envelope.h"

#include "authz/audit/flat.h"
#include "authz/base/text.h"

/* The object inside {"header":...} or {"trailer":...}. */
static struct str inner(struct str line, size_t prefix)
{
	return line.n > prefix + 1 && line.p[line.n - 1] == '}'
		       ? (struct str){ line.p + prefix, line.n - prefix - 1 }
		       : (struct str){ 0 };
}

/* Both are of our own making, so what is not known here was put in or changed. */
bool envelope_read(struct str line, size_t prefix, enum envelope_kind kind, struct envelope *x)
{
	const struct {
		const char *name;
		unsigned in, must; /* bits of enum envelope_kind */
		uint64_t *number;
		struct str *string;
	} members[] = {
		{ "checkpoint", ENVELOPE_TRAILER, ENVELOPE_TRAILER, NULL, &x->checkpoint },
		{ "count", ENVELOPE_BOTH, ENVELOPE_BOTH, &x->count, NULL },
		{ "filter_agent", ENVELOPE_HEADER, 0, NULL, &x->other },
		{ "filter_decision", ENVELOPE_HEADER, 0, NULL, &x->other },
		{ "filter_kind", ENVELOPE_HEADER, 0, NULL, &x->other },
		{ "filter_since", ENVELOPE_HEADER, 0, &x->time, NULL },
		{ "filter_until", ENVELOPE_HEADER, 0, &x->time, NULL },
		{ "first", ENVELOPE_BOTH, ENVELOPE_BOTH, &x->first, NULL },
		{ "format", ENVELOPE_HEADER, ENVELOPE_HEADER, NULL, &x->format },
		{ "header", ENVELOPE_TRAILER, ENVELOPE_TRAILER, NULL, &x->header },
		{ "hints", ENVELOPE_TRAILER, ENVELOPE_TRAILER, NULL, &x->hints },
		{ "openings", ENVELOPE_BOTH, ENVELOPE_BOTH, &x->openings, NULL },
		{ "origin", ENVELOPE_HEADER, ENVELOPE_HEADER, NULL, &x->origin },
		{ "range", ENVELOPE_TRAILER, ENVELOPE_TRAILER, NULL, &x->range },
		{ "size", ENVELOPE_BOTH, ENVELOPE_BOTH, &x->size, NULL },
		{ "tool", ENVELOPE_HEADER, 0, NULL, &x->other },
		{ "vkey", ENVELOPE_HEADER, 0, NULL, &x->other },
		{ "withheld", ENVELOPE_TRAILER, ENVELOPE_TRAILER, &x->withheld, NULL },
	};
	unsigned seen = 0;
	struct flat f;
	struct flat_member m;

	*x = (struct envelope){ 0 };
	flat_begin(&f, inner(line, prefix));
	while (flat_next(&f, &m)) {
		size_t i = 0;

		while (i < ARRAY_LEN(members) && !str_eq(m.name, str_c(members[i].name)))
			i++;
		if (i == ARRAY_LEN(members) || !(members[i].in & kind) ||
		    m.is_string != !members[i].number || m.integer < 0)
			return false;
		seen |= 1u << i;
		if (members[i].number)
			*members[i].number = (uint64_t)m.integer;
		else
			*members[i].string = m.value;
	}
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		if ((members[i].must & kind) && !(seen & 1u << i))
			return false;
	return !f.failed;
}

bool envelope_hashes(struct str text, struct tree_proof *p)
{
	p->n = 0;
	while (text.n) {
		if (p->n == TREE_HASHES_MAX ||
		    !text_unhex(str_first(text, 2 * SHA256_LEN), p->hash[p->n++], SHA256_LEN))
			return false;
		text = str_from(text, 2 * SHA256_LEN);
		if (!text.n)
			break;
		if (text.p[0] != ' ' || text.n == 1)
			return false;
		text = str_from(text, 1);
	}
	return true;
}
