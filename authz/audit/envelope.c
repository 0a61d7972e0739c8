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

bool envelope_read(struct str line, size_t prefix, struct envelope *x)
{
	const struct {
		const char *name;
		uint64_t *number;
		struct str *string;
	} members[] = {
		{ "count", &x->count, NULL },	    { "first", &x->first, NULL },
		{ "size", &x->size, NULL },	    { "openings", &x->openings, NULL },
		{ "withheld", &x->withheld, NULL }, { "checkpoint", NULL, &x->checkpoint },
		{ "format", NULL, &x->format },	    { "hints", NULL, &x->hints },
		{ "range", NULL, &x->range },	    { "origin", NULL, &x->origin },
	};
	struct flat f;
	struct flat_member m;

	*x = (struct envelope){ 0 };
	flat_begin(&f, inner(line, prefix));
	while (flat_next(&f, &m))
		for (size_t i = 0; i < ARRAY_LEN(members); i++) {
			if (!str_eq(m.name, str_c(members[i].name)))
				continue;
			if (m.is_string != !members[i].number || m.integer < 0)
				return false;
			if (members[i].number) {
				*members[i].number = (uint64_t)m.integer;
				x->numbers |= 1u << i;
			} else {
				*members[i].string = m.value;
			}
		}
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
