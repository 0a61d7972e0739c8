/*
 * What an agent without an SVID shows instead (spiffe/ATTEST.md): a join token, a token of its CI
 * system or its cluster, or a certificate of another PKI and a signature by its key.
 */
#include <openssl/err.h>
#include <openssl/rsa.h>

#include "authz/base/digest.h"
#include "authz/base/pem.h"
#include "authz/base/text.h"
#include "authz/cli/svid.h"
#include "spiffe/crypto.h"

#define TOKEN_BYTES 16384
#define PEM_BYTES (64 * 1024)
#define SIGNATURE_BYTES 1024 /* RSA 8192 */

static const struct {
	const char *option, *member;
} proofs[] = {
	{ "--join-token", "join_token" },
	{ "--oidc-token", "oidc" },
	{ "--k8s-token", "k8s_psat" },
	{ "--x509pop", "x509pop" },
};

bool svid_proof_given(const struct cli *c)
{
	for (size_t i = 0; i < ARRAY_LEN(proofs); i++)
		if (cli_value(c, proofs[i].option))
			return true;
	return false;
}

/* A nonce of the server, good for a minute. */
static bool ask_nonce(const struct api *api, struct buf *nonce, struct err *e)
{
	const struct client_request q = { .method = "POST",
					  .path = "/v1/attest/challenge",
					  .body = STR("{}") };
	const struct json *v = NULL, *text = NULL;
	struct arena a;
	AUTO_REPLY r = { 0 };
	bool ok;

	if (!client_ask(&api->target, &api->tls, &q, &r, e))
		return false;
	arena_init(&a, &mem_system, CLIENT_BODY);
	ok = json_parse(buf_str(&r.body), &json_default_limits, &a, &v, e);
	if (ok)
		text = json_get_type(v, STR("nonce"), JSON_STRING);
	if (text)
		buf_add(nonce, text->s);
	arena_clear(&a);
	if (ok && !nonce->n)
		ok = err_code(e, ERR_INTERNAL, "bad_response", "the server's answer has no nonce");
	return ok;
}

/* What is signed names the nonce and the key that is to be certified: whoever relays it cannot put
 * his own in. */
static bool statement(struct str nonce, EVP_PKEY *subject, struct buf *out, struct err *e)
{
	uint8_t hash[SHA256_LEN];
	AUTO_BUF spki;

	buf_init(&spki, mem_system, PEM_BYTES);
	if (!crypto_spki(subject, &spki, e))
		return false;
	crypto_sha256(buf_str(&spki), hash);
	buf_lit(out, "writ x509pop v1\n");
	buf_add(out, nonce);
	buf_char(out, '\n');
	buf_hex(out, hash, sizeof(hash));
	buf_char(out, '\n');
	return true;
}

/* SHA-256, with ECDSA or RSA-PSS (salt as long as the hash), in base64. */
static bool sign(EVP_PKEY *key, struct str text, struct buf *out, struct err *e)
{
	AUTO_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *how = NULL; /* ctx owns it */
	uint8_t signature[SIGNATURE_BYTES];
	size_t n = sizeof(signature);

	if (!ctx || EVP_DigestSignInit(ctx, &how, EVP_sha256(), NULL, key) != 1 ||
	    (EVP_PKEY_is_a(key, "RSA") &&
	     (EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PSS_PADDING) != 1 ||
	      EVP_PKEY_CTX_set_rsa_pss_saltlen(how, RSA_PSS_SALTLEN_DIGEST) != 1)) ||
	    EVP_DigestSign(ctx, signature, &n, (const unsigned char *)text.p, text.n) != 1)
		return crypto_err(e, "--x509pop-key: cannot sign with it");
	text_base64(out, BASE64_STD, signature, n);
	return true;
}

static bool read_key(const char *path, EVP_PKEY **out, struct err *e)
{
	AUTO_BUF pem;
	BIO *in;

	buf_init(&pem, mem_system, PEM_BYTES);
	if (!api_read_file(path, PEM_BYTES, &pem, e))
		return false;
	in = BIO_new_mem_buf(pem.p, (int)pem.n);
	*out = in ? pem_private_key(in) : NULL;
	ERR_clear_error();
	BIO_free(in);
	mem_wipe(pem.p, pem.n);
	return *out ||
	       err_code(e, ERR_INVALID, "wrong_usage",
			"--x509pop-key %.200s: it is no private key in PEM without a password",
			path);
}

static bool put_x509pop(const struct cli *c, const struct api *api, EVP_PKEY *subject,
			struct buf *body, struct err *e)
{
	const char *path = cli_value(c, "--x509pop-key");
	AUTO_PKEY *key = NULL;
	AUTO_BUF chain, nonce, text;

	buf_init(&chain, mem_system, PEM_BYTES);
	buf_init(&nonce, mem_system, 4096);
	buf_init(&text, mem_system, 8192);
	if (!path)
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--x509pop needs --x509pop-key, the certificate's private key");
	if (!api_read_file(cli_value(c, "--x509pop"), PEM_BYTES, &chain, e) ||
	    !read_key(path, &key, e) || !ask_nonce(api, &nonce, e) ||
	    !statement(buf_str(&nonce), subject, &text, e))
		return false;
	buf_lit(body, "{\"chain\":");
	buf_json(body, buf_str(&chain));
	buf_lit(body, ",\"nonce\":");
	buf_json(body, buf_str(&nonce));
	buf_lit(body, ",\"signature\":\"");
	if (!sign(key, buf_str(&text), body, e))
		return false;
	buf_lit(body, "\"}");
	return true;
}

static bool put_token(const char *option, const char *given, struct buf *body, struct err *e)
{
	AUTO_BUF token;
	bool ok;

	buf_init(&token, mem_system, TOKEN_BYTES);
	ok = api_read_token(option, given, &token, e);
	if (ok)
		buf_json(body, buf_str(&token));
	if (token.p)
		mem_wipe(token.p, token.n);
	return ok;
}

bool svid_proof_put(const struct cli *c, const struct api *api, EVP_PKEY *subject, struct buf *body,
		    struct err *e)
{
	const char *name = cli_value(c, "--name");
	size_t which = ARRAY_LEN(proofs);

	for (size_t i = 0; i < ARRAY_LEN(proofs); i++) {
		if (!cli_value(c, proofs[i].option))
			continue;
		if (which < ARRAY_LEN(proofs))
			return err_code(e, ERR_INVALID, "wrong_usage",
					"give one proof, not both %s and %s", proofs[which].option,
					proofs[i].option);
		which = i;
	}
	if (which == ARRAY_LEN(proofs))
		return err_code(e, ERR_INVALID, "wrong_usage",
				"a proof is missing, such as --join-token");
	buf_printf(body, "\"%s\":", proofs[which].member);
	if (!(strcmp(proofs[which].option, "--x509pop") == 0
		      ? put_x509pop(c, api, subject, body, e)
		      : put_token(proofs[which].option, cli_value(c, proofs[which].option), body,
				  e)))
		return false;
	if (name) {
		buf_lit(body, ",\"name\":");
		buf_json(body, str_c(name));
	}
	buf_char(body, ',');
	return true;
}
