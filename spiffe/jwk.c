#include "spiffe/jwk.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"

#define NUMBER_MAX 1024 /* bytes: RSA of 8192 bits */
#define CODE "invalid_key"

static const struct {
	const char *crv, *group;
	size_t width;
} curves[] = {
	{ "P-256", "prime256v1", 32 },
	{ "P-384", "secp384r1", 48 },
	{ "P-521", "secp521r1", 66 },
};

bool jwk_known(struct str kty)
{
	return str_eq(kty, STR("EC")) || str_eq(kty, STR("RSA"));
}

/* @width: exactly so many bytes; 0: no leading zero, not empty, and any length to NUMBER_MAX. */
static bool number(struct str text, const char *name, size_t width, uint8_t out[static NUMBER_MAX],
		   size_t *n, struct err *e)
{
	uint8_t bytes[NUMBER_MAX + 8];

	if (!text.p)
		return err_code(e, ERR_INVALID, CODE, "\"%s\" is missing", name);
	if (text.n > (size_t)NUMBER_MAX * 4 / 3 + 4 || !text_unbase64(text, BASE64_URL, bytes, n) ||
	    *n > NUMBER_MAX)
		return err_code(e, ERR_INVALID, CODE,
				"\"%s\" must be base64url without padding of at most %d bytes",
				name, NUMBER_MAX);
	if (width && *n != width)
		return err_code(e, ERR_INVALID, CODE, "\"%s\" has %zu bytes, its curve has %zu",
				name, *n, width);
	if (!width && (*n == 0 || bytes[0] == 0))
		return err_code(e, ERR_INVALID, CODE,
				"\"%s\" must be a number without leading zeros", name);
	memcpy(out, bytes, *n);
	return true;
}

/* Is the point on its curve? Of an RSA modulus nothing is asked: looking for its factors takes
 * long, and a bad one is the risk of who published it. */
static bool holds(EVP_PKEY *key, const char *type)
{
	AUTO_PKEY_CTX *check = NULL;

	if (strcmp(type, "EC") != 0)
		return true;
	check = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	return check && EVP_PKEY_public_check(check) == 1;
}

static bool build(const char *type, OSSL_PARAM_BLD *b, EVP_PKEY **out, struct err *e)
{
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
	AUTO_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	AUTO_PKEY *key = NULL;
	bool ok = params && ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
		  EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1 &&
		  holds(key, type);

	OSSL_PARAM_free(params);
	if (!ok) {
		crypto_err(NULL, "-"); /* empties the queue: a stranger's fault */
		return err_code(e, ERR_INVALID, CODE, "its numbers are no %s key", type);
	}
	*out = key;
	key = NULL;
	return true;
}

static bool ec_key(const struct jwk *k, EVP_PKEY **out, struct err *e)
{
	uint8_t point[1 + 2 * NUMBER_MAX] = { 4 }; /* uncompressed */
	size_t c = 0, n;
	OSSL_PARAM_BLD *b;
	bool ok;

	while (c < ARRAY_LEN(curves) && !str_eq(k->crv, str_c(curves[c].crv)))
		c++;
	if (c == ARRAY_LEN(curves))
		return err_code(e, ERR_INVALID, CODE, "\"crv\" must be P-256, P-384 or P-521");
	if (!number(k->x, "x", curves[c].width, point + 1, &n, e) ||
	    !number(k->y, "y", curves[c].width, point + 1 + curves[c].width, &n, e))
		return false;
	b = OSSL_PARAM_BLD_new();
	ok = b &&
	     OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, curves[c].group, 0) &&
	     OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point,
					      1 + 2 * curves[c].width);
	ok = ok ? build("EC", b, out, e) : err_set(e, ERR_NOMEM, "no memory for a key");
	OSSL_PARAM_BLD_free(b);
	return ok;
}

static bool rsa_key(const struct jwk *k, EVP_PKEY **out, struct err *e)
{
	uint8_t bytes[NUMBER_MAX];
	BIGNUM *n = NULL, *exponent = NULL;
	OSSL_PARAM_BLD *b = NULL;
	size_t len;
	bool ok = number(k->n, "n", 0, bytes, &len, e);

	if (ok && (len < 256 || (len == 256 && bytes[0] < 0x80) || (bytes[len - 1] & 1) == 0))
		ok = err_code(e, ERR_INVALID, CODE, "\"n\" must be odd and of 2048 bits or more");
	if (ok)
		n = BN_bin2bn(bytes, (int)len, NULL);
	ok = ok && number(k->e, "e", 0, bytes, &len, e);
	/* A huge exponent would cost a verifier as much as a private operation. */
	if (ok && (len > 8 || (bytes[len - 1] & 1) == 0 || (len == 1 && bytes[0] < 3)))
		ok = err_code(e, ERR_INVALID, CODE,
			      "\"e\" must be odd, at least 3 and at most 8 bytes");
	if (ok) {
		exponent = BN_bin2bn(bytes, (int)len, NULL);
		b = OSSL_PARAM_BLD_new();
		ok = (n && exponent && b && OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n) &&
		      OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, exponent))
			     ? build("RSA", b, out, e)
			     : err_set(e, ERR_NOMEM, "no memory for a key");
	}
	OSSL_PARAM_BLD_free(b);
	BN_free(n);
	BN_free(exponent);
	return ok;
}

bool jwk_key(const struct jwk *k, EVP_PKEY **out, struct err *e)
{
	if (str_eq(k->kty, STR("EC")))
		return ec_key(k, out, e);
	if (str_eq(k->kty, STR("RSA")))
		return rsa_key(k, out, e);
	return err_code(e, ERR_INVALID, CODE, "\"kty\" must be EC or RSA");
}
