/* A CSR or public key that is accepted gives a key of a kind we issue for, and the same bytes
 * again: as DER, as PEM, and as the key of a certificate. */
#include <stdlib.h>

#include "spiffe/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void is_canonical(struct buf *spki)
{
	struct buf again;
	EVP_PKEY *key;
	struct err e;

	if (!crypto_key_of_spki(buf_str(spki), &key, &e) || !crypto_key_acceptable(key, &e))
		abort();
	buf_init(&again, mem_system, 1 << 16);
	if (!crypto_spki(key, &again, &e) || !str_eq(buf_str(&again), buf_str(spki)))
		abort();
	buf_clear(&again);
	EVP_PKEY_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };
	struct buf spki, pem, round;
	X509 *cert = NULL;
	EVP_PKEY *key = NULL;
	struct err e;

	buf_init(&spki, mem_system, 1 << 16);
	buf_init(&pem, mem_system, 1 << 20);
	buf_init(&round, mem_system, 1 << 20);
	if (crypto_spki_of_csr(in, &spki, &e))
		is_canonical(&spki);
	buf_reset(&spki);
	if (crypto_spki_of_request(in, &spki, &e))
		is_canonical(&spki);
	if (crypto_key_of_spki(in, &key, &e) && !crypto_key_acceptable(key, &e))
		abort();
	if (crypto_certificate(in, &cert, &e) && !cert)
		abort();
	/* our PEM is read back as it was written */
	if (n) {
		crypto_pem(&pem, "CERTIFICATE REQUEST", in);
		if (!crypto_unpem(buf_str(&pem), "CERTIFICATE REQUEST", &round, &e) ||
		    !str_eq(buf_str(&round), in))
			abort();
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	buf_clear(&spki);
	buf_clear(&pem);
	buf_clear(&round);
	return 0;
}
