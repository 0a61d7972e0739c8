#include "authz/audit/diagnose.h"

#include "authz/base/text.h"

void chain_start(struct chain_state *c, uint64_t first)
{
	*c = (struct chain_state){ .expect = first };
}

static void found(struct chain_state *c, enum verify_fault fault, uint64_t seq, uint64_t count)
{
	c->stage = CHAIN_BROKEN;
	c->fault = fault;
	c->bad_seq = seq;
	c->bad_count = count;
}

/* Compared as text: what is not the one spelling of the hash is not the hash. */
static bool follows(const struct chain_record *r, const struct chain_record *before)
{
	char hex[64];

	text_hex(before->hash, 32, hex);
	return memcmp(r->prev, hex, 64) == 0;
}

static bool fits(const struct chain_state *c, const struct chain_record *r)
{
	static const struct chain_record nothing;

	if (!r->is_leaf)
		return r->shaped;
	if (!r->shaped || r->seq != c->expect)
		return false;
	if (!c->before.present) /* the first of a part: its prev is the tree's business */
		return c->expect > 0 || follows(r, &nothing);
	return follows(r, &c->before);
}

/* The suspect has the right place but does not follow: either it or the one before was changed,
 * and the next one knows which hash the suspect had. */
static void wrong_prev(struct chain_state *c, const struct chain_record *next)
{
	const struct chain_record *s = &c->suspect;
	bool genuine = !next->present || (next->is_leaf && next->shaped && follows(next, s));

	found(c, FAULT_EDIT, c->before.present && genuine ? c->at - 1 : c->at, 1);
}

/* A record from further on stands here. */
static void too_far(struct chain_state *c, const struct chain_record *next)
{
	const struct chain_record *s = &c->suspect;

	if (!next->present || !next->is_leaf || next->seq > s->seq) {
		found(c, FAULT_DELETION, c->at, s->seq - c->at);
	} else if (next->seq == c->at) {
		if (s->seq == c->at + 1)
			c->stage = CHAIN_NEAR_SWAP;
		else
			found(c, FAULT_INSERTION, c->at, 1);
	} else if (next->seq == c->at + 1) {
		if (c->before.present && follows(s, &c->before))
			found(c, FAULT_EDIT, c->at, 1); /* its own number was changed */
		else
			c->stage = CHAIN_FAR_SWAP;
	} else {
		found(c, FAULT_EDIT, c->at, 1);
	}
}

/* A record stands here that has been before. */
static void too_early(struct chain_state *c, const struct chain_record *next)
{
	const struct chain_record *s = &c->suspect;
	bool replaced = next->present && next->is_leaf && next->seq == c->at + 1;

	if (replaced)
		found(c, FAULT_EDIT, c->at, 1);
	else
		found(c, FAULT_INSERTION, s->seq + 1 == c->at ? s->seq : c->at, 1);
}

/* @next is the record after the suspect, or not present. */
static void decide(struct chain_state *c, const struct chain_record *next)
{
	const struct chain_record *s = &c->suspect;

	if (!s->shaped) {
		bool extra = next->present && next->is_leaf && next->shaped && next->seq == c->at;

		found(c, extra ? FAULT_INSERTION : FAULT_EDIT, c->at, 1);
	} else if (s->seq == c->at) {
		wrong_prev(c, next);
	} else if (s->seq > c->at) {
		too_far(c, next);
	} else {
		too_early(c, next);
	}
}

/* Near: x+1, x came; x+2 makes it a swap, x+1 again an insertion. */
static void confirm_near(struct chain_state *c, const struct chain_record *r)
{
	bool again = r->present && r->is_leaf && r->seq == c->at + 1;

	found(c, again ? FAULT_INSERTION : FAULT_SWAP, c->at, again ? 1 : 2);
}

/* Far: m came at x. At m's own place, x makes it a swap; else x was replaced. */
static void confirm_far(struct chain_state *c, const struct chain_record *r)
{
	if (r->present && c->expect < c->suspect.seq) {
		c->expect++;
		return;
	}
	found(c, r->present && r->is_leaf && r->seq == c->at ? FAULT_SWAP : FAULT_EDIT, c->at, 1);
}

bool chain_next(struct chain_state *c, const struct chain_record *r)
{
	switch (c->stage) {
	case CHAIN_FITS:
		if (fits(c, r)) {
			c->before = *r;
			c->expect++;
			return true;
		}
		c->suspect = *r;
		c->at = c->expect++;
		c->stage = CHAIN_SUSPECT;
		return false;
	case CHAIN_SUSPECT:
		c->expect++;
		decide(c, r);
		return false;
	case CHAIN_NEAR_SWAP:
		confirm_near(c, r);
		return false;
	case CHAIN_FAR_SWAP:
		confirm_far(c, r);
		return false;
	case CHAIN_BROKEN:
		break;
	}
	return false;
}

void chain_end(struct chain_state *c)
{
	const struct chain_record none = { 0 };

	if (c->stage == CHAIN_SUSPECT)
		decide(c, &none);
	if (c->stage == CHAIN_NEAR_SWAP)
		confirm_near(c, &none);
	if (c->stage == CHAIN_FAR_SWAP)
		confirm_far(c, &none);
}
