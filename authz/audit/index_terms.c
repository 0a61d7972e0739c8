#include "authz/audit/index_terms.h"

#include "authz/audit/flat.h"

const char *const index_members[INDEX_MEMBERS + 1] = {
	"trace_id", "delegation", "user",	"delegate", "agent",   "rule",	   "tool", "model",
	"reason",   "pep",	  "generation", "action",   "rollout", "decision", "kind", NULL
};

/* Its place, or INDEX_MEMBERS. Called for each member of each record: most are told apart by their
 * first byte. */
static size_t member_at(struct str name)
{
	size_t i = 0;

	while (i < INDEX_MEMBERS && (!name.n || name.p[0] != index_members[i][0] ||
				     !str_eq(name, str_c(index_members[i]))))
		i++;
	return i;
}

bool index_has_member(struct str name)
{
	return member_at(name) < INDEX_MEMBERS;
}

/* FNV-1a with a finish that spreads every bit. Whoever finds two values of one hash makes a search
 * for one of them look at the other's records, too, and nothing else. */
static uint64_t hash(struct str name, struct str value)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < name.n; i++)
		h = (h ^ (unsigned char)name.p[i]) * UINT64_C(0x100000001b3);
	h = (h ^ 0xff) * UINT64_C(0x100000001b3); /* no byte of a text: ends the name */
	for (size_t i = 0; i < value.n; i++)
		h = (h ^ (unsigned char)value.p[i]) * UINT64_C(0x100000001b3);
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 33;
}

struct index_term index_term_of(struct str name, struct str value)
{
	uint64_t h = hash(name, str_eq(name, STR("user")) ? STR("") : value);
	char bucket = (char)(h & 0xff);

	if (!str_eq(name, STR("trace_id")))
		return (struct index_term){ .hash = h };
	return (struct index_term){ .hash = hash(name, (struct str){ &bucket, 1 }),
				    .mark = (uint16_t)(h >> 8),
				    .marked = true };
}

/* "authz.*" of "authz.decision"; empty without a dot or if it does not fit. */
static struct str family(struct str kind, char out[static 64])
{
	struct str head, tail;

	if (!str_cut(kind, '.', &head, &tail) || head.n + 2 > 64)
		return (struct str){ NULL, 0 };
	memcpy(out, head.p, head.n);
	memcpy(out + head.n, ".*", 2);
	return (struct str){ out, head.n + 2 };
}

/* As index_term_of. */
static struct index_term term_by_memo(struct index_memo *memo, size_t at,
				      const struct flat_member *m)
{
	struct index_term term;
	struct str last = { memo->of[at].value, memo->of[at].n };

	if (last.n && str_eq(last, m->value))
		return (struct index_term){ .hash = memo->of[at].hash };
	term = index_term_of(m->name, m->value);
	if (!term.marked && m->value.n <= sizeof(memo->of[at].value)) {
		memo->of[at].hash = term.hash;
		memo->of[at].n = m->value.n;
		memcpy(memo->of[at].value, m->value.p, m->value.n);
	}
	return term;
}

/* The next of names with one blank between them. */
static bool next_word(struct str *rest, struct str *word)
{
	if (!rest->n)
		return false;
	if (!str_cut(*rest, ' ', word, rest)) {
		*word = *rest;
		rest->n = 0;
	}
	return true;
}

/* Terms that are not of one member and its one value. */
static void add_others(const struct flat_member *m, struct index_term *out, size_t *n)
{
	struct str rest = m->value, word;
	char text[64];

	if (str_eq(m->name, STR("kind")) && (rest = family(m->value, text)).n)
		out[(*n)++] = index_term_of(m->name, rest);
	else if (str_eq(m->name, STR("delegation")))
		out[(*n)++] = index_term_of(STR("user"), STR(""));
	else if (str_eq(m->name, STR("actors")))
		while (*n < INDEX_TERMS_MAX && next_word(&rest, &word))
			out[(*n)++] = index_term_of(STR("delegate"), word);
}

bool index_terms(struct str leaf, struct index_memo *memo,
		 struct index_term out[static INDEX_TERMS_MAX], size_t *n)
{
	struct flat f;
	struct flat_member m;

	*n = 0;
	flat_begin(&f, leaf);
	while (flat_next(&f, &m)) {
		size_t at = m.value.n ? member_at(m.name) : INDEX_MEMBERS;

		if (!m.value.n || *n + 2 > INDEX_TERMS_MAX)
			continue;
		if (at < INDEX_MEMBERS)
			out[(*n)++] = term_by_memo(memo, at, &m);
		add_others(&m, out, n);
	}
	return !f.failed;
}

static bool has_word(struct str words, struct str value)
{
	struct str word;

	while (next_word(&words, &word))
		if (str_eq(word, value))
			return true;
	return false;
}

bool index_leaf_has(struct str leaf, struct str name, struct str value)
{
	bool user = str_eq(name, STR("user")), delegate = str_eq(name, STR("delegate"));
	struct flat f;
	struct flat_member m;

	name = user ? STR("delegation") : delegate ? STR("actors") : name;
	flat_begin(&f, leaf);
	while (flat_next(&f, &m)) {
		if (!str_eq(m.name, name))
			continue;
		if (str_eq(name, STR("kind")) && str_ends(value, STR(".*")))
			return str_starts(m.value, str_first(value, value.n - 1));
		return user || (delegate ? has_word(m.value, value) : str_eq(m.value, value));
	}
	return false;
}
