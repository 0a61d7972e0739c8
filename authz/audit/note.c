#include "authz/audit/note.h"

#include <openssl/evp.h>

#include "authz/base/text.h"

#define DASH "\xe2\x80\x94 "	   /* U+2014 and one space: how a signature line begins */
#define SIGNATURE_BASE64_MAX 16384 /* a time stamp brings certificates */

/* --- keys --- */

/* One code point of valid UTF-8; *n is its length. */
static uint32_t code_point(const unsigned char *p, size_t *n)
{
	*n = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	switch (*n) {
	case 1:
		return p[0];
	case 2:
		return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
	case 3:
		return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
	default:
		return 0x10000; /* no white space up there */
	}
}

static bool is_space(uint32_t c)
{
	return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
	       c == 0x205f || c == 0x3000;
}

static bool name_ok(struct str name)
{
	size_t n;

	if (!name.n || name.n > NOTE_NAME_MAX || !text_is_utf8(name) || !text_is_printable(name))
		return false;
	for (size_t i = 0; i < name.n; i += n) {
		uint32_t c = code_point((const unsigned char *)name.p + i, &n);

		if (is_space(c) || c == '+')
			return false;
	}
	return true;
}

bool note_key_make_as(struct str name, uint8_t type, const uint8_t public_key[static 32],
		      struct note_key *k, struct err *e)
{
	const char between[2] = { '\n', (char)type };
	struct sha256 *sha;
	uint8_t hash[SHA256_LEN];
	struct str parts[] = { name, { between, 2 }, { (const char *)public_key, 32 } };

	if (!name_ok(name))
		return err_set(e, ERR_INVALID,
			       "the name of a log key must be 1 to %d characters without spaces "
			       "and '+', such as acme.example/writ",
			       NOTE_NAME_MAX);
	sha = sha256_new(e);
	if (!sha)
		return false;
	sha256_parts(sha, parts, ARRAY_LEN(parts), hash);
	sha256_free(sha);
	memcpy(k->name, name.p, name.n);
	k->name[name.n] = '\0';
	memcpy(k->public_key, public_key, 32);
	k->id = (uint32_t)hash[0] << 24 | (uint32_t)hash[1] << 16 | (uint32_t)hash[2] << 8 |
		hash[3];
	return true;
}

bool note_key_make(struct str name, const uint8_t public_key[static 32], struct note_key *k,
		   struct err *e)
{
	return note_key_make_as(name, NOTE_ED25519, public_key, k, e);
}

static void id_bytes(uint32_t id, uint8_t out[static 4])
{
	out[0] = (uint8_t)(id >> 24);
	out[1] = (uint8_t)(id >> 16);
	out[2] = (uint8_t)(id >> 8);
	out[3] = (uint8_t)id;
}

bool note_key_parse_as(struct str vkey, uint8_t type, struct note_key *k, struct err *e)
{
	struct str name, rest, id, base64;
	uint8_t bytes[64], want[4], got[4];
	struct note_key made = { .id = 0 };
	size_t n;

	/* Only the first two '+' separate: base64 may hold more of them. */
	if (!str_cut(vkey, '+', &name, &rest) || !str_cut(rest, '+', &id, &base64) ||
	    !text_unhex(id, want, 4))
		return err_set(e, ERR_INVALID,
			       "not a verifier key: expected name+hhhhhhhh+base64, as printed by "
			       "`writ audit key`");
	if (base64.n > 60 || !text_unbase64(base64, BASE64_STD, bytes, &n) || n != 33)
		return err_set(e, ERR_INVALID,
			       "not a verifier key: its third part must be base64 of 33 bytes");
	if (bytes[0] != type)
		return err_set(e, ERR_INVALID, "verifier key of type %u: expected %s (type %u)",
			       bytes[0],
			       type == NOTE_ED25519 ? "a log's, Ed25519" : "a witness's, Ed25519",
			       type);
	if (!note_key_make_as(name, type, bytes + 1, &made, e))
		return false;
	id_bytes(made.id, got);
	if (memcmp(want, got, 4) != 0)
		return err_set(
			e, ERR_INVALID,
			"verifier key with a wrong id: %.*s given, %02x%02x%02x%02x computed; "
			"was it copied in full?",
			STR_FMT(id), got[0], got[1], got[2], got[3]);
	*k = made;
	return true;
}

bool note_key_parse(struct str vkey, struct note_key *k, struct err *e)
{
	return note_key_parse_as(vkey, NOTE_ED25519, k, e);
}

void note_key_format(const struct note_key *k, struct buf *out)
{
	note_key_format_as(k, NOTE_ED25519, out);
}

void note_key_format_as(const struct note_key *k, uint8_t type, struct buf *out)
{
	uint8_t bytes[33] = { type };

	memcpy(bytes + 1, k->public_key, 32);
	buf_printf(out, "%s+%08x+", k->name, k->id);
	text_base64(out, BASE64_STD, bytes, sizeof(bytes));
}

/* --- notes --- */

static bool malformed(struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, "not a signed note: %s", what);
}

/* The first byte after the last blank line, or 0. */
static size_t after_blank(struct str s)
{
	for (size_t i = s.n; i >= 2; i--)
		if (s.p[i - 1] == '\n' && s.p[i - 2] == '\n')
			return i;
	return 0;
}

static bool signature_line(struct str line, struct note_signature *s, struct err *e)
{
	uint8_t bytes[3 * SIGNATURE_BASE64_MAX / 4 + 3];
	size_t n;

	if (!str_starts(line, STR(DASH)) ||
	    !str_cut(str_from(line, sizeof(DASH) - 1), ' ', &s->name, &s->base64))
		return malformed(e,
				 "a signature line must be an em dash, the key's name and base64");
	if (!name_ok(s->name))
		return malformed(e, "a signature's key name is empty or holds a space or '+'");
	if (s->base64.n > SIGNATURE_BASE64_MAX ||
	    !text_unbase64(s->base64, BASE64_STD, bytes, &n) || n < 5)
		return malformed(e, "a signature is not base64 of a key id and a signature");
	s->id = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
		bytes[3];
	return true;
}

bool note_parse(struct str bytes, struct note *n, struct err *e)
{
	struct str lines, line;
	size_t at;

	if (bytes.n > NOTE_MAX)
		return malformed(e, "it is longer than 64 KiB");
	if (!text_is_utf8(bytes))
		return malformed(e, "it is not UTF-8");
	for (size_t i = 0; i < bytes.n; i++)
		if ((unsigned char)bytes.p[i] < 0x20 && bytes.p[i] != '\n')
			return malformed(e, "it holds a control character");
	if (!str_ends(bytes, STR("\n")))
		return malformed(e, "the last newline is missing");
	at = after_blank(bytes);
	if (at < 3) /* at least one character, its newline and the blank line */
		return malformed(e, "there is no text followed by a blank line");
	n->text = str_first(bytes, at - 1);
	n->n = 0;
	lines = str_from(bytes, at);
	while (str_cut(lines, '\n', &line, &lines)) {
		if (n->n == NOTE_SIGNATURES_MAX)
			return malformed(e, "it has more than 100 signatures");
		if (!signature_line(line, &n->signatures[n->n++], e))
			return false;
	}
	return n->n ? true : malformed(e, "it has no signature");
}

bool note_ed25519(const uint8_t key[static 32], struct str text, const uint8_t signature[static 64])
{
	EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = pkey && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
		  EVP_DigestVerify(ctx, signature, 64, (const unsigned char *)text.p, text.n) == 1;

	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pkey);
	return ok;
}

bool note_verify(const struct note *n, const struct note_key *keys, size_t count, struct err *e)
{
	size_t good = 0;

	for (size_t i = 0; i < n->n; i++) {
		const struct note_signature *s = &n->signatures[i];

		for (size_t k = 0; k < count; k++) {
			uint8_t bytes[3 * SIGNATURE_BASE64_MAX / 4 + 3];
			size_t len;

			if (s->id != keys[k].id || !str_eq(s->name, str_c(keys[k].name)))
				continue;
			if (!text_unbase64(s->base64, BASE64_STD, bytes, &len) || len != 4 + 64 ||
			    !note_ed25519(keys[k].public_key, n->text, bytes + 4))
				return err_set(e, ERR_INVALID,
					       "the signature by %s (key %08x) is wrong",
					       keys[k].name, keys[k].id);
			good++;
		}
	}
	if (!good)
		return err_set(e, ERR_INVALID, "none of its %zu signatures is by a given key (%s)",
			       n->n, count ? keys[0].name : "no key was given");
	return true;
}

/* The signed message: header, time, and the checkpoint's text. */
static bool cosignature_good(const struct note *n, const struct note_key *k, uint64_t at,
			     const uint8_t *signature)
{
	AUTO_BUF text;

	buf_init(&text, mem_system, NOTE_MAX + 64);
	buf_printf(&text, "cosignature/v1\ntime %llu\n", (unsigned long long)at);
	buf_add(&text, n->text);
	return buf_ok(&text) && note_ed25519(k->public_key, buf_str(&text), signature);
}

enum cosigned note_cosigned(const struct note *n, const struct note_key *k, uint64_t *at)
{
	enum cosigned found = COSIGNED_NOT;

	for (size_t i = 0; i < n->n; i++) {
		const struct note_signature *s = &n->signatures[i];
		uint8_t bytes[3 * SIGNATURE_BASE64_MAX / 4 + 3];
		size_t len;

		if (s->id != k->id || !str_eq(s->name, str_c(k->name)))
			continue;
		if (!text_unbase64(s->base64, BASE64_STD, bytes, &len) || len != 4 + 8 + 64)
			return COSIGNED_BADLY;
		*at = 0;
		for (int b = 4; b < 12; b++)
			*at = *at << 8 | bytes[b];
		if (!cosignature_good(n, k, *at, bytes + 12))
			return COSIGNED_BADLY;
		found = COSIGNED;
	}
	return found;
}

void note_sign_line(struct buf *out, const struct note_key *k, const uint8_t signature[static 64])
{
	uint8_t bytes[4 + 64];

	id_bytes(k->id, bytes);
	memcpy(bytes + 4, signature, 64);
	buf_printf(out, "\n" DASH "%s ", k->name);
	text_base64(out, BASE64_STD, bytes, sizeof(bytes));
	buf_char(out, '\n');
}

/* --- checkpoints --- */

void checkpoint_format(struct buf *out, const struct checkpoint *c)
{
	buf_add(out, c->origin);
	buf_char(out, '\n');
	buf_i64(out, (int64_t)c->size);
	buf_char(out, '\n');
	text_base64(out, BASE64_STD, c->root, SHA256_LEN);
	buf_char(out, '\n');
}

bool checkpoint_parse(struct str text, struct checkpoint *c, struct err *e)
{
	struct str origin, size, root, rest, line;
	uint8_t bytes[3 * 44 / 4 + 3];
	uint64_t n;
	size_t len;

	if (!str_cut(text, '\n', &origin, &rest) || !str_cut(rest, '\n', &size, &rest) ||
	    !str_cut(rest, '\n', &root, &rest))
		return err_set(e, ERR_INVALID,
			       "not a checkpoint: expected the lines origin, size and root");
	if (!origin.n || origin.n > NOTE_NAME_MAX)
		return err_set(e, ERR_INVALID, "checkpoint: the origin must be 1 to %d bytes long",
			       NOTE_NAME_MAX);
	if (!text_u64(size, (uint64_t)INT64_MAX, &n))
		return err_set(e, ERR_INVALID, "checkpoint: \"%.*s\" is no tree size",
			       STR_FMT(str_first(size, 40)));
	if (root.n != 44 || !text_unbase64(root, BASE64_STD, bytes, &len) || len != SHA256_LEN)
		return err_set(e, ERR_INVALID, "checkpoint: the root is not base64 of 32 bytes");
	while (rest.n) /* extension lines say nothing that we could check, but they must be lines */
		if (!str_cut(rest, '\n', &line, &rest) || !line.n)
			return err_set(e, ERR_INVALID, "checkpoint: an extension line is empty");
	c->origin = origin;
	c->size = n;
	memcpy(c->root, bytes, SHA256_LEN);
	return true;
}

bool checkpoint_open(struct str bytes, const struct note_key *key, struct checkpoint *c,
		     struct err *e)
{
	struct checkpoint read = { 0 };
	struct note note = { .n = 0 };

	if (!note_parse(bytes, &note, e) || !checkpoint_parse(note.text, &read, e) ||
	    !note_verify(&note, key, 1, e))
		return false;
	if (!str_eq(read.origin, str_c(key->name)))
		return err_set(e, ERR_INVALID,
			       "the checkpoint is of log \"%.*s\", the key of \"%s\"",
			       STR_FMT(str_first(read.origin, 100)), key->name);
	*c = read;
	return true;
}
