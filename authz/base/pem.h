/*
 * pem - certificates and private keys in PEM, and nobody is asked.
 *
 * Purpose    Any block of PEM may say that it is encrypted, a certificate's too (RFC 1421's
 *            Proc-Type). OpenSSL then asks for a passphrase, at the terminal or else on standard
 *            input, and waits: whoever sends such a block would stop the thread that reads it.
 *            Here what is encrypted cannot be read.
 * Ownership  The caller frees what it gets.
 * Threads    Any.
 */
#ifndef WRIT_PEM_H
#define WRIT_PEM_H

#include <openssl/pem.h>

/* The next certificate of @in, or the next private key. NULL: there is none, or it is malformed or
 * encrypted; OpenSSL's queue of errors says which, and is the caller's to empty. */
X509 *pem_certificate(BIO *in);
EVP_PKEY *pem_private_key(BIO *in);

/* There is none: for SSL_CTX_set_default_passwd_cb, where OpenSSL reads the files. */
int pem_no_passphrase(char *text, int size, int writing, void *ctx);

#endif
