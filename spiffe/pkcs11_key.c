#define OPENSSL_SUPPRESS_DEPRECATED /* see pkcs11_key.h */
#include "spiffe/pkcs11_key.h"

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <stdlib.h>

#include "spiffe/crypto.h"

struct held {
	struct pkcs11_way way;
	uint8_t id[PKCS11_ID_LEN];
	struct err failed; /* of the last signature; ERR_NONE: it succeeded */
};

static EC_KEY_METHOD *method;
static int slot = -1; /* of an EC_KEY, for the struct held */

static void drop(void *parent, void *p, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
	(void)parent;
	(void)data;
	(void)index;
	(void)argl;
	(void)argp;
	free(p);
}

static ECDSA_SIG *sign(const unsigned char *digest, int n, const BIGNUM *kinv, const BIGNUM *rp,
		       EC_KEY *ec)
{
	struct held *k = EC_KEY_get_ex_data(ec, slot);
	uint8_t raw[PKCS11_SIGNATURE];
	ECDSA_SIG *sig;
	BIGNUM *r, *s;

	(void)kinv;
	(void)rp;
	if (!k || n != SHA256_LEN)
		return NULL;
	k->failed = (struct err){ 0 };
	if (!k->way.sign(k->way.ctx, k->id, digest, raw, &k->failed))
		return NULL;
	sig = ECDSA_SIG_new();
	r = BN_bin2bn(raw, PKCS11_SIGNATURE / 2, NULL);
	s = BN_bin2bn(raw + PKCS11_SIGNATURE / 2, PKCS11_SIGNATURE / 2, NULL);
	if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1)
		return sig;
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(sig);
	return NULL;
}

/* Once in the life of the process, which has one thread. */
static bool make_method(struct err *e)
{
	int (*plain)(int, const unsigned char *, int, unsigned char *, unsigned *, const BIGNUM *,
		     const BIGNUM *, EC_KEY *);
	int (*setup)(EC_KEY *, BN_CTX *, BIGNUM **, BIGNUM **);

	if (method)
		return true;
	if (slot < 0)
		slot = EC_KEY_get_ex_new_index(0, NULL, NULL, NULL, drop);
	method = slot < 0 ? NULL : EC_KEY_METHOD_new(EC_KEY_OpenSSL());
	if (!method)
		return crypto_err(e, "cannot prepare for keys in a token");
	EC_KEY_METHOD_get_sign(method, &plain, &setup, NULL);
	EC_KEY_METHOD_set_sign(method, plain, setup, sign);
	return true;
}

/* The key with its public half, and the token's way to sign. */
static EVP_PKEY *wrap(struct held *k, EVP_PKEY *public)
{
	EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
	EVP_PKEY *key = EVP_PKEY_new();
	unsigned char *point = NULL;
	size_t n = EVP_PKEY_get1_encoded_public_key(public, &point);
	bool ok = ec && key && n && EC_KEY_oct2key(ec, point, n, NULL) == 1 &&
		  EC_KEY_set_method(ec, method) == 1 && EC_KEY_set_ex_data(ec, slot, k) == 1;

	OPENSSL_free(point);
	if (ok && EVP_PKEY_assign_EC_KEY(key, ec) == 1)
		return key;
	if (ok)
		(void)EC_KEY_set_ex_data(ec, slot, NULL); /* the caller frees it */
	EC_KEY_free(ec);
	EVP_PKEY_free(key);
	return NULL;
}

/* Does what it signs verify under the public half, by OpenSSL's own code? */
static bool proves_itself(EVP_PKEY *key, EVP_PKEY *public, struct err *e)
{
	AUTO_PKEY_CTX *with = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	AUTO_PKEY_CTX *under = EVP_PKEY_CTX_new_from_pkey(NULL, public, NULL);
	uint8_t digest[SHA256_LEN], sig[80];
	size_t n = sizeof(sig);

	random_bytes(digest, sizeof(digest));
	if (!with || !under || EVP_PKEY_sign_init(with) != 1 || EVP_PKEY_verify_init(under) != 1)
		return crypto_err(e, "cannot prepare for keys in a token");
	if (EVP_PKEY_sign(with, sig, &n, digest, sizeof(digest)) != 1) {
		crypto_err(e, "cannot sign by the token");
		(void)pkcs11_key_failed(key, e);
		return false;
	}
	if (EVP_PKEY_verify(under, sig, n, digest, sizeof(digest)) == 1)
		return true;
	crypto_err(NULL, "-");
	return err_code(e, ERR_CONFLICT, "token_key_differs",
			"token: the key of that id is another one than it was");
}

bool pkcs11_key_open(const struct pkcs11_way *way, struct str id, struct str spki, EVP_PKEY **out,
		     struct err *e)
{
	struct held *k;
	AUTO_PKEY *public = NULL;
	AUTO_PKEY *key = NULL;

	if (id.n != PKCS11_ID_LEN)
		return err_set(e, ERR_INVALID, "token: a key's id has %d bytes", PKCS11_ID_LEN);
	if (!make_method(e) || !crypto_key_of_spki(spki, &public, e))
		return false;
	k = calloc(1, sizeof(*k));
	if (!k)
		return err_set(e, ERR_NOMEM, "no memory for a key");
	k->way = *way;
	memcpy(k->id, id.p, id.n);
	key = wrap(k, public);
	if (!key) {
		free(k);
		return crypto_err(e, "cannot use a key in a token");
	}
	if (!proves_itself(key, public, e))
		return false;
	*out = key;
	key = NULL;
	return true;
}

bool pkcs11_key_failed(const EVP_PKEY *key, struct err *e)
{
	const EC_KEY *ec = slot >= 0 && key && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC
				   ? EVP_PKEY_get0_EC_KEY(key)
				   : NULL;
	const struct held *k = ec ? EC_KEY_get_ex_data(ec, slot) : NULL;

	if (!k || k->failed.class == ERR_NONE)
		return false;
	if (e)
		*e = k->failed;
	return true;
}
