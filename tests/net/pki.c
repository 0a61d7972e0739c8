#include "tests/net/pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>

static char *text_of(BIO *bio)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	char *text = malloc((size_t)n + 1);

	memcpy(text, p, (size_t)n);
	text[n] = '\0';
	BIO_free(bio);
	return text;
}

void pki_make(const char *name, char **cert, char **key)
{
	EVP_PKEY *k = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	BIO *c = BIO_new(BIO_s_mem()), *p = BIO_new(BIO_s_mem());
	X509_NAME *n = X509_get_subject_name(x);

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(x, n);
	X509_set_pubkey(x, k);
	assert_true(X509_sign(x, k, EVP_sha256()) > 0);
	PEM_write_bio_X509(c, x);
	PEM_write_bio_PrivateKey(p, k, NULL, NULL, 0, NULL, NULL);
	*cert = text_of(c);
	*key = text_of(p);
	X509_free(x);
	EVP_PKEY_free(k);
}

static const char *common_name(const X509 *x, char out[64])
{
	out[0] = '\0';
	if (x)
		X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, out, 64);
	return out;
}

static bool verify(void *ctx, STACK_OF(X509) * chain, struct tls_identity *out, struct err *e)
{
	struct pki *p = ctx;
	char name[64];

	p->verified++;
	common_name(sk_X509_value(chain, 0), name);
	if (strcmp(name, "good") != 0)
		return err_set(e, ERR_UNAUTHENTICATED, "nobody knows \"%s\"", name);
	snprintf(out->spiffe_id, sizeof(out->spiffe_id), "spiffe://test/%s", name);
	out->expires_ms = 4102444800000;
	out->generation = 7;
	return true;
}

static bool still_valid(void *ctx, struct peer *peer, struct err *e)
{
	struct pki *p = ctx;

	p->asked++;
	assert_non_null(peer->chain);
	assert_int_equal(peer->generation, 7);
	if (p->distrust)
		return err_set(e, ERR_UNAUTHENTICATED, "the client's certificate has expired");
	return true;
}

void pki_publish(struct pki *p, const char *name)
{
	struct tls_certificate *c;
	struct err e = { 0 };
	char *cert, *key;

	pki_make(name, &cert, &key);
	c = tls_certificate_from_pem(str_c(cert), str_c(key), &e);
	if (!c)
		fail_msg("%s", e.msg);
	slot_publish(&p->slot, &c->shared);
	free(cert);
	free(key);
}

void pki_open(struct pki *p)
{
	memset(p, 0, sizeof(*p));
	slot_init(&p->slot);
	p->verifier = (struct tls_verifier){ verify, still_valid, p };
	pki_publish(p, "server-1");
}

void pki_close(struct pki *p)
{
	slot_clear(&p->slot);
}

SSL_CTX *pki_client(const char *name, const char *alpn)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	char *cert, *key;
	BIO *c, *k;
	X509 *x;
	EVP_PKEY *pkey;

	if (alpn)
		SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)alpn, (unsigned)strlen(alpn));
	if (!name)
		return ctx;
	pki_make(name, &cert, &key);
	c = BIO_new_mem_buf(cert, -1);
	k = BIO_new_mem_buf(key, -1);
	x = PEM_read_bio_X509(c, NULL, NULL, NULL);
	pkey = PEM_read_bio_PrivateKey(k, NULL, NULL, NULL);
	assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, pkey), 1);
	X509_free(x);
	EVP_PKEY_free(pkey);
	BIO_free(c);
	BIO_free(k);
	free(cert);
	free(key);
	return ctx;
}

const char *pki_peer_name(const SSL *ssl, char out[64])
{
	X509 *x = SSL_get1_peer_certificate(ssl);

	common_name(x, out);
	X509_free(x);
	return out;
}
