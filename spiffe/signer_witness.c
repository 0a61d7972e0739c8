#include "spiffe/signer_witness.h"

#include <stdlib.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/signer.h"

#define SLACK_S 60
#define ROOT_LEN 32
#define ORIGIN_MAX 255

struct seen {
	struct str origin;
	uint64_t size;
	uint8_t root[ROOT_LEN + 3];
};

/* Origin, size, root; lines of extension may follow (tlog-checkpoint), none of them empty. */
static bool read_text(struct str text, struct seen *s, struct err *e)
{
	struct str size, root, rest, line;
	size_t n = 0;

	if (text.n > SIGNER_CHECKPOINT_MAX || !text_is_utf8(text) ||
	    !str_cut(text, '\n', &s->origin, &rest) || !str_cut(rest, '\n', &size, &rest) ||
	    !str_cut(rest, '\n', &root, &rest) || !s->origin.n || s->origin.n > ORIGIN_MAX)
		return err_set(e, ERR_INVALID, "signer: a checkpoint begins with three lines");
	if (!text_u64(size, INT64_MAX, &s->size) || root.n != 44 ||
	    !text_unbase64(root, BASE64_STD, s->root, &n) || n != ROOT_LEN)
		return err_set(e, ERR_INVALID,
			       "signer: a checkpoint has a decimal size and a root of 32 bytes");
	while (rest.n)
		if (!str_cut(rest, '\n', &line, &rest) || !line.n)
			return err_set(e, ERR_INVALID, "signer: an extension line is empty");
	return true;
}

static bool contradicts(const struct signer_witness *w, size_t i, const struct seen *s,
			struct err *e)
{
	if (s->size > w->logs[i].size ||
	    (s->size == w->logs[i].size && memcmp(s->root, w->logs[i].root, ROOT_LEN) == 0))
		return false;
	err_set(e, ERR_CONFLICT,
		"signer: a checkpoint of %s over %llu records was cosigned already; this one of "
		"%llu contradicts it",
		w->logs[i].origin, (unsigned long long)w->logs[i].size,
		(unsigned long long)s->size);
	return true;
}

/* The place of this origin, made if it is new. */
static bool place_of(struct signer_witness *w, struct str origin, size_t *at, struct err *e)
{
	for (*at = 0; *at < w->n; ++*at)
		if (str_eq(origin, str_c(w->logs[*at].origin)))
			return true;
	if (w->n == SIGNER_WITNESS_LOGS)
		return err_set(e, ERR_UNAVAILABLE, "signer: %d logs are cosigned already",
			       SIGNER_WITNESS_LOGS);
	w->logs[w->n].origin = strndup(origin.p, origin.n);
	if (!w->logs[w->n].origin)
		return err_set(e, ERR_NOMEM, "no memory for the name of a log");
	w->logs[w->n].size = 0;
	memset(w->logs[w->n].root, 0, ROOT_LEN);
	return true;
}

static bool sign(EVP_PKEY *key, struct str message, struct buf *out, struct err *e)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t signature[64];
	size_t n = sizeof(signature);
	bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
		  EVP_DigestSign(ctx, signature, &n, (const unsigned char *)message.p, message.n) ==
			  1 &&
		  n == sizeof(signature);

	EVP_MD_CTX_free(ctx);
	if (!ok)
		return crypto_err(e, "cannot cosign a checkpoint");
	buf_add(out, (struct str){ (const char *)signature, n });
	return buf_ok(out) || err_set(e, ERR_NOMEM, "no room for a signature");
}

bool signer_witness_sign(struct signer_witness *w, struct str text, int64_t at_s, int64_t now_s,
			 struct buf *out, struct err *e)
{
	struct seen s = { .size = 0 };
	AUTO_BUF message;
	size_t at;

	buf_init(&message, mem_system, SIGNER_CHECKPOINT_MAX + 64);
	if (!w->key)
		return err_set(e, ERR_UNAVAILABLE, "signer: it was not started as a witness");
	if (at_s < 0 || at_s < now_s - SLACK_S || at_s > now_s + SLACK_S)
		return err_set(e, ERR_INVALID, "signer: a cosignature is of now");
	if (!read_text(text, &s, e) || !place_of(w, s.origin, &at, e))
		return false;
	if (at < w->n && contradicts(w, at, &s, e))
		return false;
	buf_printf(&message, "cosignature/v1\ntime %lld\n", (long long)at_s);
	buf_add(&message, text);
	if (!buf_ok(&message) || !sign(w->key, buf_str(&message), out, e)) {
		if (at == w->n) {
			free(w->logs[at].origin);
			w->logs[at].origin = NULL;
		}
		return buf_ok(&message) ? false : err_set(e, ERR_NOMEM, "no memory");
	}
	w->n += at == w->n;
	w->logs[at].size = s.size;
	memcpy(w->logs[at].root, s.root, ROOT_LEN);
	return true;
}

void signer_witness_clear(struct signer_witness *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->logs[i].origin);
	*w = (struct signer_witness){ 0 };
}
