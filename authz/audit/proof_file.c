/* The .tlog-proof file (C2SP tlog-proof): header, extra, index, hashes, blank line, note. */
#include "authz/audit/proof.h"
#include "authz/base/text.h"

#define HEADER "c2sp.org/tlog-proof@v1"

void proof_file_format(const struct proof_file *p, struct buf *out)
{
	buf_lit(out, HEADER "\n");
	if (p->extra.n) {
		buf_lit(out, "extra ");
		buf_add(out, p->extra);
		buf_char(out, '\n');
	}
	buf_lit(out, "index ");
	buf_i64(out, (int64_t)p->index);
	buf_char(out, '\n');
	for (size_t i = 0; i < p->path.n; i++) {
		text_base64(out, BASE64_STD, p->path.hash[i], SHA256_LEN);
		buf_char(out, '\n');
	}
	buf_char(out, '\n');
	buf_add(out, p->note);
}

static bool malformed(struct err *e, const char *what)
{
	return err_set(e, ERR_INVALID, "not a proof of a record: %s", what);
}

static bool take(struct str *line, struct str word)
{
	if (!str_starts(*line, word))
		return false;
	*line = str_from(*line, word.n);
	return true;
}

static bool read_hashes(struct str *rest, struct tree_proof *path, struct err *e)
{
	uint8_t bytes[3 * 44 / 4 + 3];
	struct str line;
	size_t n;

	for (path->n = 0;; path->n++) {
		if (!str_cut(*rest, '\n', &line, rest))
			return malformed(e, "it ends before the blank line");
		if (!line.n)
			return true;
		if (path->n == TREE_LEVELS)
			return malformed(e, "it has more than 63 hashes");
		if (line.n != 44 || !text_unbase64(line, BASE64_STD, bytes, &n) || n != SHA256_LEN)
			return malformed(e, "a hash is not base64 of 32 bytes");
		memcpy(path->hash[path->n], bytes, SHA256_LEN);
	}
}

bool proof_file_parse(struct str text, struct proof_file *p, struct err *e)
{
	struct str line, rest;

	*p = (struct proof_file){ 0 };
	if (text.n > PROOF_FILE_MAX)
		return malformed(e, "it is longer than 512 KiB");
	if (!str_cut(text, '\n', &line, &rest) || !str_eq(line, STR(HEADER)))
		return malformed(e, "it does not begin with the line " HEADER);
	if (!str_cut(rest, '\n', &line, &rest))
		return malformed(e, "there is no line index");
	if (take(&line, STR("extra "))) {
		if (!line.n)
			return malformed(e, "the extra line is empty");
		p->extra = line;
		if (!str_cut(rest, '\n', &line, &rest))
			return malformed(e, "there is no line index");
	}
	if (!take(&line, STR("index ")) || !text_u64(line, (uint64_t)TREE_SIZE_MAX - 1, &p->index))
		return malformed(e, "there is no line index and a number");
	if (!read_hashes(&rest, &p->path, e))
		return false;
	p->note = rest;
	return true;
}
