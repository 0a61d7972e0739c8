/*
 * writ's own TLS leaf: spiffe://<trust domain>/writ/server, an hour long, with a key that lives in
 * this process only and is made anew each time (design 12, Keys and bootstrap).
 */
#include <unistd.h>

#include "authz/decide/control.h"
#include "authz/net/tls.h"
#include "spiffe/crypto.h"

#define LEAF_TTL_S 3600

static bool add_name(struct x509_request *r, const char *text)
{
	struct err ignored;

	if (r->nnames < X509_SVID_NAMES_MAX &&
	    x509_name_parse(str_c(text), &r->names[r->nnames], &ignored)) {
		r->nnames++;
		return true;
	}
	return false;
}

/* The record: a certificate for writ itself is an issuance like any other. */
static bool record_own_leaf(struct control *c, const struct x509_request *q, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_int(&r.job.record, STR("expires"), q->not_after_s);
	record_str(&r.job.record, STR("kind"), STR("identity.issue"));
	record_str(&r.job.record, STR("method"), STR("own"));
	record_str(&r.job.record, STR("spiffe_id"), q->spiffe_id);
	record_str(&r.job.record, STR("svid"), STR("x509"));
	return act_record_append(c, &r, e);
}

/* The leaf and what stands between it and the bundle. */
static bool read_chain(struct str ders, X509 **leaf, STACK_OF(X509) * above, struct err *e)
{
	struct str der;

	if (!x509_chain_next(&ders, &der) || !crypto_certificate(der, leaf, e))
		return err_set(e, ERR_INTERNAL, "the signer gave no certificate");
	while (x509_chain_next(&ders, &der)) {
		X509 *cert = NULL;

		if (!crypto_certificate(der, &cert, e))
			return false;
		if (sk_X509_push(above, cert) <= 0) {
			X509_free(cert);
			return err_set(e, ERR_NOMEM, "no memory for a chain");
		}
	}
	return true;
}

/* Publish what the signer gave as writ's certificate. */
static bool publish_leaf(struct control *c, struct str ders, EVP_PKEY *key, struct err *e)
{
	STACK_OF(X509) *above = sk_X509_new_null();
	struct tls_certificate *certificate = NULL;
	AUTO_X509 *leaf = NULL;

	if (!above)
		return err_set(e, ERR_NOMEM, "no memory for a chain");
	if (read_chain(ders, &leaf, above, e))
		certificate = tls_certificate_new(leaf, above, key, e);
	sk_X509_pop_free(above, X509_free);
	if (!certificate)
		return err_prefix(e, "writ's own certificate");
	slot_publish(c->config.certificate, &certificate->shared);
	return true;
}

bool control_renew_leaf(struct control *c, struct err *e)
{
	AUTO_PKEY *key = NULL;
	int64_t now = clock_wall_ms(c->core->clock) / 1000;
	char host[256] = "";
	AUTO_BUF spki, der;
	struct signer_job job = { .op = SIGNER_X509_SVID, .out = &der };

	buf_init(&spki, mem_system, CRYPTO_SPKI_MAX);
	buf_init(&der, mem_system, 64 * 1024);
	if (!crypto_generate(&key, e) || !crypto_spki(key, &spki, e))
		return false;
	job.x509 = (struct x509_request){ .spiffe_id = c->core->server_id,
					  .spki = buf_str(&spki),
					  .not_before_s = now - X509_SVID_BACKDATE_S,
					  .not_after_s = now + LEAF_TTL_S };
	add_name(&job.x509, "localhost");
	add_name(&job.x509, "127.0.0.1");
	add_name(&job.x509, "::1");
	if (gethostname(host, sizeof(host) - 1) == 0)
		add_name(&job.x509, host); /* a host name that is no DNS name is left out */
	for (size_t i = 0; i < c->config.nnames; i++)
		if (!add_name(&job.x509, c->config.names[i].p))
			return err_set(e, ERR_INVALID,
				       "tls.names: \"%.*s\" is no DNS name or address",
				       STR_FMT(c->config.names[i]));
	if (!record_own_leaf(c, &job.x509, e) || !signer_call(c->signer, &job, e))
		return err_prefix(e, "writ's own certificate");
	if (!publish_leaf(c, buf_str(&der), key, e))
		return false;
	c->leaf_ends_ms = (now + LEAF_TTL_S) * 1000;
	return true;
}
