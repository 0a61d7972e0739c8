#include "authz/audit/witness.h"

#include <stdio.h>

#include "authz/base/text.h"

/* --- the file --- */

struct reader {
	struct witness_policy *p;
	unsigned line;
	bool quorum;
	uint64_t used; /* items that are members already */
};

static bool bad(const struct reader *r, struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, "witness policy, line %u: %s", r->line, what);
}

/* The next word of @s, empty at its end. */
static struct str word(struct str *s)
{
	struct str w;
	size_t n = 0;

	while (s->n && (s->p[0] == ' ' || s->p[0] == '\t'))
		*s = str_from(*s, 1);
	while (n < s->n && s->p[n] != ' ' && s->p[n] != '\t')
		n++;
	w = str_first(*s, n);
	*s = str_from(*s, n);
	return w;
}

static int find(const struct witness_policy *p, struct str name)
{
	for (size_t i = 0; i < p->nitems; i++)
		if (str_eq(name, str_c(p->items[i].name)))
			return (int)i;
	return -1;
}

/* A new item of this name, or NULL. */
static struct witness_item *add(struct reader *r, struct str name, struct err *e)
{
	struct witness_item *item;

	if (!name.n || name.n > NOTE_NAME_MAX || str_eq(name, STR("none")))
		bad(r, e, "a name is missing, too long or \"none\"");
	else if (find(r->p, name) >= 0)
		bad(r, e, "this name is taken");
	else if (r->p->nitems == WITNESS_ITEMS_MAX)
		bad(r, e, "more than 64 witnesses and groups");
	else {
		item = &r->p->items[r->p->nitems++];
		*item = (struct witness_item){ 0 };
		memcpy(item->name, name.p, name.n);
		return item;
	}
	return NULL;
}

static bool read_log(struct reader *r, struct str rest, struct err *e)
{
	if (r->p->nlogs == WITNESS_ITEMS_MAX)
		return bad(r, e, "more than 64 logs");
	if (!note_key_parse(word(&rest), &r->p->logs[r->p->nlogs], e))
		return err_prefix(e, "witness policy, line %u", r->line);
	r->p->nlogs++;
	return true;
}

static bool read_witness(struct reader *r, struct str rest, struct err *e)
{
	struct witness_item *item = add(r, word(&rest), e);

	if (!item)
		return false;
	if (!note_key_parse_as(word(&rest), NOTE_COSIGNATURE, &item->key, e))
		return err_prefix(e, "witness policy, line %u", r->line);
	return true;
}

static bool read_group(struct reader *r, struct str rest, struct err *e)
{
	struct witness_item *item = add(r, word(&rest), e);
	struct str least, member;
	uint64_t k = 0;

	if (!item)
		return false;
	item->group = true;
	least = word(&rest);
	for (member = word(&rest); member.n; member = word(&rest)) {
		int i = find(r->p, member);

		if (i < 0 || &r->p->items[i] == item)
			return bad(r, e, "a member is not defined above");
		if (r->used & UINT64_C(1) << i)
			return bad(r, e, "a member is one already");
		r->used |= UINT64_C(1) << i;
		item->members |= UINT64_C(1) << i;
	}
	item->least = (unsigned)__builtin_popcountll(item->members);
	if (str_eq(least, STR("any")))
		k = 1;
	else if (str_eq(least, STR("all")))
		k = item->least;
	else if (!text_u64(least, WITNESS_ITEMS_MAX, &k))
		k = 0;
	if (!k || k > item->least)
		return bad(r, e, "expected any, all, or a number of at most its members");
	item->least = (unsigned)k;
	return true;
}

static bool read_quorum(struct reader *r, struct str rest, struct err *e)
{
	struct str name = word(&rest);

	if (r->quorum)
		return bad(r, e, "a second quorum");
	r->quorum = true;
	if (str_eq(name, STR("none")))
		return true;
	r->p->quorum = find(r->p, name);
	return r->p->quorum >= 0 ? true : bad(r, e, "the quorum is not defined above");
}

static bool read_line(struct reader *r, struct str line, struct err *e)
{
	struct str what = word(&line);

	r->line++;
	if (!what.n || what.p[0] == '#')
		return true;
	if (str_eq(what, STR("log")))
		return read_log(r, line, e);
	if (str_eq(what, STR("witness")))
		return read_witness(r, line, e);
	if (str_eq(what, STR("group")))
		return read_group(r, line, e);
	if (str_eq(what, STR("quorum")))
		return read_quorum(r, line, e);
	return bad(r, e, "expected log, witness, group or quorum");
}

bool witness_policy_parse(struct str text, struct witness_policy *p, struct err *e)
{
	struct reader r = { .p = p };
	struct str line;

	*p = (struct witness_policy){ .quorum = -1 };
	if (text.n > WITNESS_POLICY_MAX || !text_is_utf8(text))
		return err_set(e, ERR_INVALID, "witness policy: longer than 64 KiB, or not UTF-8");
	while (text.n) {
		if (!str_cut(text, '\n', &line, &text)) {
			line = text;
			text.n = 0;
		}
		if (!read_line(&r, line, e))
			return false;
	}
	return r.quorum ? true : bad(&r, e, "there is no quorum line");
}

/* --- cosignatures --- */

bool witness_policy_met(const struct witness_policy *p, const struct note *n, uint64_t *oldest,
			struct err *e)
{
	uint64_t met = 0;

	*oldest = 0;
	for (size_t i = 0; i < p->nitems; i++) {
		const struct witness_item *item = &p->items[i];
		uint64_t at = 0;

		if (item->group) {
			unsigned have = (unsigned)__builtin_popcountll(item->members & met);

			met |= have >= item->least ? UINT64_C(1) << i : 0;
			continue;
		}
		switch (note_cosigned(n, &item->key, &at)) {
		case COSIGNED_NOT:
			break;
		case COSIGNED_BADLY:
			return err_set(e, ERR_INVALID, "the cosignature by %s is wrong",
				       item->name);
		case COSIGNED:
			met |= UINT64_C(1) << i;
			if (!*oldest || at < *oldest)
				*oldest = at;
			break;
		}
	}
	if (p->quorum >= 0 && !(met & UINT64_C(1) << p->quorum))
		return err_code(e, ERR_UNAUTHENTICATED, "quorum_missed",
				"the witnesses that the policy wants have not all signed: quorum "
				"\"%s\" is not met",
				p->items[p->quorum].name);
	return true;
}
