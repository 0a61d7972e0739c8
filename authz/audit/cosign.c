#include "authz/audit/cosign.h"

#include "authz/base/text.h"

/* --- the body of add-checkpoint --- */

void cosign_request_format(const struct cosign_request *r, struct buf *out)
{
	buf_printf(out, "old %llu\n", (unsigned long long)r->old);
	for (size_t i = 0; i < r->proof.n; i++) {
		text_base64(out, BASE64_STD, r->proof.hash[i], SHA256_LEN);
		buf_char(out, '\n');
	}
	buf_char(out, '\n');
	buf_add(out, r->note);
}

static bool malformed(struct err *e, unsigned line, const char *what)
{
	return err_code(e, ERR_INVALID, "malformed_checkpoint",
			"line %u of the body: %s; expected \"old <size>\", the hashes of a "
			"consistency proof, an empty line and a signed checkpoint",
			line, what);
}

static bool read_hash(struct str line, uint8_t out[static SHA256_LEN])
{
	uint8_t bytes[3 * 44 / 4 + 3];
	size_t n;

	if (line.n != 44 || !text_unbase64(line, BASE64_STD, bytes, &n) || n != SHA256_LEN)
		return false;
	memcpy(out, bytes, SHA256_LEN);
	return true;
}

bool cosign_request_parse(struct str body, struct cosign_request *r, struct err *e)
{
	struct cosign_request read = { 0 };
	struct str line, rest;

	if (body.n > COSIGN_REQUEST_MAX)
		return err_code(e, ERR_TOO_LARGE, "too_large",
				"the body of add-checkpoint has at most %d bytes",
				COSIGN_REQUEST_MAX);
	if (!str_cut(body, '\n', &line, &rest) || !str_starts(line, STR("old ")) ||
	    !text_u64(str_from(line, 4), (uint64_t)INT64_MAX, &read.old))
		return malformed(e, 1, "it does not say the old size");
	for (unsigned n = 2;; n++) {
		if (!str_cut(rest, '\n', &line, &rest))
			return malformed(e, n, "it does not end");
		if (!line.n)
			break;
		if (read.proof.n == COSIGN_PROOF_MAX)
			return malformed(e, n, "the proof has more than 63 hashes");
		if (!read_hash(line, read.proof.hash[read.proof.n++]))
			return malformed(e, n, "not base64 of a hash of 32 bytes");
	}
	read.note = rest;
	*r = read;
	return true;
}

bool cosign_size_parse(struct str body, uint64_t *size)
{
	return str_ends(body, STR("\n")) &&
	       text_u64(str_first(body, body.n - 1), (uint64_t)INT64_MAX, size);
}

/* --- cosignatures --- */

void cosign_message(struct buf *out, uint64_t at_s, struct str text)
{
	buf_printf(out, "cosignature/v1\ntime %llu\n", (unsigned long long)at_s);
	buf_add(out, text);
}

void cosign_line(struct buf *out, const struct note_key *k, uint64_t at_s,
		 const uint8_t signature[static 64])
{
	uint8_t bytes[4 + 8 + 64];

	for (unsigned i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(k->id >> (24 - 8 * i));
	for (unsigned i = 0; i < 8; i++)
		bytes[4 + i] = (uint8_t)(at_s >> (56 - 8 * i));
	memcpy(bytes + 12, signature, 64);
	buf_printf(out, "\xe2\x80\x94 %s ", k->name);
	text_base64(out, BASE64_STD, bytes, sizeof(bytes));
	buf_char(out, '\n');
}

static bool bad_answer(struct err *e, const char *what)
{
	return err_code(e, ERR_INTERNAL, "bad_cosignature", "the witness's answer %s", what);
}

/* The lines of @k, and no others: a witness must not put signatures of its choice into our note. */
static bool take_lines(const struct note *n, const struct note_key *k, struct buf *out)
{
	bool found = false;

	for (size_t i = 0; i < n->n; i++) {
		const struct note_signature *s = &n->signatures[i];

		if (found || s->id != k->id || !str_eq(s->name, str_c(k->name)))
			continue;
		found = true;
		buf_printf(out, "\xe2\x80\x94 %s ", k->name);
		buf_add(out, s->base64);
		buf_char(out, '\n');
	}
	return found;
}

bool cosign_answer(struct str note, struct str lines, const struct note_key *k, struct buf *out,
		   uint64_t *at_s, struct err *e)
{
	struct note theirs = { .n = 0 }, ours = { .n = 0 };
	AUTO_BUF whole;
	struct err why;

	buf_init(&whole, mem_system, NOTE_MAX);
	if (!note_parse(note, &ours, e))
		return false;
	/* As a note of its own: the same strict reader. */
	buf_add(&whole, ours.text);
	buf_char(&whole, '\n');
	buf_add(&whole, lines);
	if (!buf_ok(&whole))
		return bad_answer(e, "is too long");
	if (!note_parse(buf_str(&whole), &theirs, &why) || !str_eq(theirs.text, ours.text))
		return bad_answer(e, "is not made of signature lines");
	switch (note_cosigned(&theirs, k, at_s)) {
	case COSIGNED_NOT:
		return bad_answer(e, "has no cosignature by the key that is configured for it");
	case COSIGNED_BADLY:
		return bad_answer(e, "has a cosignature that is not over this checkpoint");
	case COSIGNED:
		break;
	}
	buf_add(out, note);
	(void)take_lines(&theirs, k, out);
	return buf_ok(out) || err_set(e, ERR_NOMEM, "no memory for a cosigned checkpoint");
}

/* --- judging --- */

static const struct {
	const char *name;
	int status;
} verdicts[] = {
	[COSIGN_FOLLOWS] = { "cosigned", 200 },	   [COSIGN_OLD_AHEAD] = { "old_ahead", 400 },
	[COSIGN_OTHER_OLD] = { "other_old", 409 }, [COSIGN_FORK] = { "fork", 422 },
	[COSIGN_NO_PROOF] = { "no_proof", 422 },
};

const char *cosign_verdict_name(enum cosign_verdict v)
{
	return verdicts[v].name;
}

int cosign_verdict_status(enum cosign_verdict v)
{
	return verdicts[v].status;
}

static bool is_empty_root(struct sha256 *sha, const uint8_t root[static SHA256_LEN])
{
	const struct tree_range nothing = { 0 };
	uint8_t want[SHA256_LEN];

	tree_root(&nothing, sha, want);
	return memcmp(root, want, SHA256_LEN) == 0;
}

enum cosign_verdict cosign_judge(struct sha256 *sha, const struct cosign_held *held,
				 const struct cosign_request *r, const struct checkpoint *c)
{
	uint64_t size = held->found ? held->size : 0;

	if (r->old > c->size)
		return COSIGN_OLD_AHEAD;
	/* Two roots of one size need no proof to be a fork, and old does not matter. */
	if (held->found && c->size == size && memcmp(c->root, held->root, SHA256_LEN) != 0)
		return COSIGN_FORK;
	if (c->size == 0 && !is_empty_root(sha, c->root))
		return COSIGN_FORK;
	if (r->old != size)
		return COSIGN_OTHER_OLD;
	if (r->old == 0 || r->old == c->size)
		return r->proof.n ? COSIGN_NO_PROOF : COSIGN_FOLLOWS;
	return tree_verify_consistency(sha, r->old, c->size, &r->proof, held->root, c->root)
		       ? COSIGN_FOLLOWS
		       : COSIGN_NO_PROOF;
}
