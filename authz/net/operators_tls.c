/* The operators' door speaks TLS by GnuTLS, because libmicrohttpd does; who is trusted is still
 * decided by the same verifier, on certificates as OpenSSL reads them. */
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "authz/net/operators_inside.h"

#define CHAIN_MAX 10

static STACK_OF(X509) * read_chain(const gnutls_datum_t *raw, unsigned int n)
{
	STACK_OF(X509) *chain = sk_X509_new_null();

	for (unsigned int i = 0; chain && i < n; i++) {
		const unsigned char *p = raw[i].data;
		X509 *x = d2i_X509(NULL, &p, (long)raw[i].size);

		if (!x || p != raw[i].data + raw[i].size || !sk_X509_push(chain, x)) {
			X509_free(x);
			sk_X509_pop_free(chain, X509_free);
			chain = NULL;
		}
	}
	ERR_clear_error();
	return chain;
}

/* In the handshake, when the client has sent a certificate. */
static int verify(gnutls_session_t session)
{
	struct opclient *c = gnutls_db_get_ptr(session);
	const struct tls_verifier *v = &c->o->settings.verifier;
	unsigned int n = 0;
	const gnutls_datum_t *raw = gnutls_certificate_get_peers(session, &n);
	struct tls_identity *id;
	struct err e;

	if (!raw || n == 0)
		return c->o->settings.require_certificate ? GNUTLS_E_CERTIFICATE_ERROR : 0;
	if (n > CHAIN_MAX || !v->verify || c->chain)
		return GNUTLS_E_CERTIFICATE_ERROR;
	c->chain = read_chain(raw, n);
	id = calloc(1, sizeof(*id));
	if (!c->chain || !id || !v->verify(v->ctx, c->chain, id, &e)) {
		ERR_clear_error();
		free(id);
		return GNUTLS_E_CERTIFICATE_ERROR;
	}
	ERR_clear_error();
	c->identity = id;
	c->peer.spiffe_id = str_c(id->spiffe_id);
	c->peer.expires_ms = id->expires_ms;
	c->peer.generation = id->generation;
	c->peer.chain = c->chain;
	return 0;
}

/* The session's own pointer belongs to libmicrohttpd; that of the resumption database is free,
 * as nothing is resumed. */
void operators_tls_begin(struct opclient *c, gnutls_session_t session)
{
	gnutls_db_set_ptr(session, c);
	gnutls_certificate_server_set_request(session, c->o->settings.require_certificate
							       ? GNUTLS_CERT_REQUIRE
							       : GNUTLS_CERT_REQUEST);
	/* No list of names: some clients withhold their certificate after a root's rotation. */
	gnutls_certificate_send_x509_rdn_sequence(session, 1);
	gnutls_session_set_verify_function(session, verify);
}

static bool import_key(EVP_PKEY *key, gnutls_privkey_t *out)
{
	PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
	unsigned char *der = NULL;
	int n = p8 ? i2d_PKCS8_PRIV_KEY_INFO(p8, &der) : -1;
	gnutls_datum_t data = { der, n > 0 ? (unsigned int)n : 0 };
	bool ok = n > 0 && gnutls_privkey_init(out) == 0;

	if (ok && gnutls_privkey_import_x509_raw(*out, &data, GNUTLS_X509_FMT_DER, NULL, 0) != 0) {
		gnutls_privkey_deinit(*out);
		ok = false;
	}
	if (n > 0)
		OPENSSL_clear_free(der, (size_t)n);
	PKCS8_PRIV_KEY_INFO_free(p8);
	return ok;
}

static bool import_certificate(X509 *x, gnutls_pcert_st *out)
{
	unsigned char *der = NULL;
	int n = i2d_X509(x, &der);
	gnutls_datum_t data = { der, n > 0 ? (unsigned int)n : 0 };
	bool ok = n > 0 && gnutls_pcert_import_x509_raw(out, &data, GNUTLS_X509_FMT_DER, 0) == 0;

	OPENSSL_free(der);
	return ok;
}

static int import_all(const struct tls_certificate *c, gnutls_pcert_st **certs,
		      unsigned int *ncerts, gnutls_privkey_t *key)
{
	int more = sk_X509_num(c->chain), n = 0;
	gnutls_pcert_st *all = gnutls_calloc((size_t)more + 1, sizeof(*all));
	bool ok = all && import_certificate(c->leaf, &all[n]);

	while (ok && n < more) {
		n++;
		ok = import_certificate(sk_X509_value(c->chain, n - 1), &all[n]);
		n -= !ok;
	}
	if (ok && import_key(c->key, key)) {
		*certs = all;
		*ncerts = (unsigned int)n + 1;
		return 0;
	}
	for (int i = 0; all && i <= n; i++)
		gnutls_pcert_deinit(&all[i]);
	gnutls_free(all);
	return -1;
}

/* The certificate of this moment, as a copy of the handshake's own: it may be replaced at any
 * time, and a handshake here is rare. */
int operators_tls_certificate(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
			      gnutls_pcert_st **certs, unsigned int *ncerts,
			      gnutls_ocsp_data_st **ocsp, unsigned int *nocsp,
			      gnutls_privkey_t *key, unsigned int *flags)
{
	struct opclient *c = gnutls_db_get_ptr(session);
	struct tls_certificate *cert;
	int rc = -1;

	(void)info;
	*ocsp = NULL;
	*nocsp = 0;
	if (!c || !c->o->settings.certificate)
		return -1;
	cert = (struct tls_certificate *)slot_acquire(c->o->settings.certificate);
	if (cert)
		rc = import_all(cert, certs, ncerts, key);
	shared_release(cert ? &cert->shared : NULL);
	*flags = GNUTLS_CERT_RETR_DEINIT_ALL;
	return rc;
}
