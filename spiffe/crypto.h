/*
 * crypto - what the floor shares of OpenSSL: owned locals, errors, keys in and out.
 *
 * Purpose    Public keys that strangers send are accepted here and nowhere else: EC on the named
 *            curves P-256 and P-384, RSA of 2048 to 8192 bits. Of a CSR only the public key is
 *            taken (after its own signature held, which proves possession); names, extensions
 *            and attributes in it are never read, so nothing in them can end up in a certificate.
 * Ownership  Out-parameters are the caller's to free; written on success only.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SPIFFE_CRYPTO_H
#define WRIT_SPIFFE_CRYPTO_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "authz/base/buf.h"
#include "authz/base/digest.h"
#include "include/writ/err.h"

#define CRYPTO_REQUEST_MAX (16 * 1024) /* bytes of a CSR or public key, PEM or DER */
#define CRYPTO_SPKI_MAX 2048	       /* bytes of a SubjectPublicKeyInfo */

/* Fill @e with ERR_INTERNAL, the text, and the reason of OpenSSL's oldest queued error; empties
 * the queue (a stale entry would change what SSL_get_error says later). Returns false. */
bool crypto_err(struct err *e, const char *fmt, ...) PRINTF(2, 3);

/* A fresh EC P-256 key. */
MUST_USE bool crypto_generate(EVP_PKEY **out, struct err *e);

/* Is this a key that SVIDs may be issued for? */
MUST_USE bool crypto_key_acceptable(const EVP_PKEY *key, struct err *e);

/* The public key out of "-----BEGIN CERTIFICATE REQUEST-----" or "-----BEGIN PUBLIC KEY-----" (one
 * block, nothing around it but white space), checked as above, appended to @spki as DER. */
MUST_USE bool crypto_spki_of_request(struct str pem, struct buf *spki, struct err *e);

/* The same for a CSR in DER. */
MUST_USE bool crypto_spki_of_csr(struct str der, struct buf *spki, struct err *e);

/* A SubjectPublicKeyInfo in DER, all of it, checked as above. */
MUST_USE bool crypto_key_of_spki(struct str der, EVP_PKEY **out, struct err *e);

/* Append the SubjectPublicKeyInfo, or the unencrypted PKCS#8 PrivateKeyInfo, in DER. Wipe the
 * latter (mem_wipe) when done. */
MUST_USE bool crypto_spki(const EVP_PKEY *key, struct buf *der, struct err *e);
MUST_USE bool crypto_pkcs8(const EVP_PKEY *key, struct buf *der, struct err *e);

/* PEM: append a block; read the one block of @label that @text must consist of. */
void crypto_pem(struct buf *b, const char *label, struct str der);
MUST_USE bool crypto_unpem(struct str text, const char *label, struct buf *der, struct err *e);

/* Exactly one certificate in DER, nothing behind it. */
MUST_USE bool crypto_certificate(struct str der, X509 **out, struct err *e);

/* SHA-256, without a context at hand; for set-up, not for the path of a request. */
void crypto_sha256(struct str text, uint8_t out[static SHA256_LEN]);

/* "sha256:<hex>" of a certificate's DER or a SubjectPublicKeyInfo: what a join token's printout
 * carries so that an agent can check the authority it is given. */
#define CRYPTO_FINGERPRINT_MAX (7 + 2 * SHA256_LEN + 1)
void crypto_fingerprint(struct str der, char out[static CRYPTO_FINGERPRINT_MAX]);

void crypto_auto_pkey(EVP_PKEY **p);
void crypto_auto_x509(X509 **p);
void crypto_auto_md_ctx(EVP_MD_CTX **p);
void crypto_auto_pkey_ctx(EVP_PKEY_CTX **p);
#define AUTO_PKEY __attribute__((cleanup(crypto_auto_pkey))) EVP_PKEY
#define AUTO_X509 __attribute__((cleanup(crypto_auto_x509))) X509
#define AUTO_MD_CTX __attribute__((cleanup(crypto_auto_md_ctx))) EVP_MD_CTX
#define AUTO_PKEY_CTX __attribute__((cleanup(crypto_auto_pkey_ctx))) EVP_PKEY_CTX

#endif
