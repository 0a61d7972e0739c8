#include "authz/base/pem.h"

int pem_no_passphrase(char *text, int size, int writing, void *ctx)
{
	(void)text, (void)size, (void)writing, (void)ctx;
	return -1;
}

X509 *pem_certificate(BIO *in)
{
	return PEM_read_bio_X509(in, NULL, pem_no_passphrase, NULL);
}

EVP_PKEY *pem_private_key(BIO *in)
{
	return PEM_read_bio_PrivateKey(in, NULL, pem_no_passphrase, NULL);
}
