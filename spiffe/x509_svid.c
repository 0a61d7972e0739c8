/*
 * Verifying. The order is the standard's: what the leaf says of itself decides which bundle is
 * asked, so it must be well-formed first; authorization comes after all of this, elsewhere.
 */
#include "spiffe/x509_svid.h"

#include <openssl/x509v3.h>
#include <time.h>

#include "spiffe/crypto.h"

#define CODE "invalid_certificate"

static bool refuse(struct err *e, const char *what)
{
	crypto_err(NULL, "-"); /* empties OpenSSL's queue: a stranger's fault, not ours */
	err_code(e, ERR_UNAUTHENTICATED, CODE, "certificate: %s", what);
	return false;
}

/* The one URI among the SANs, by pointer and length: an embedded NUL is no end. */
static bool only_uri(const GENERAL_NAMES *names, struct str *uri, struct err *e)
{
	int found = 0;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_URI)
			continue;
		found++;
		*uri = (struct str){
			(const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
			(size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier)
		};
	}
	if (found != 1)
		return refuse(e, found ? "it has more than one URI name; an X.509-SVID has one"
				       : "it has no URI name, so it is no X.509-SVID");
	return true;
}

/* @names (freed here) of a certificate: NULL for the reason that @critical is. */
static bool claim(GENERAL_NAMES *names, int critical, struct x509_svid *out, struct err *e)
{
	struct spiffe_id id;
	struct str uri = { 0 };
	bool ok;

	if (!names)
		return refuse(e, critical == -2 ? "it has the extension of names twice"
						: "it has no URI name, so it is no X.509-SVID");
	ok = only_uri(names, &uri, e);
	if (ok && !spiffe_id_parse_workload(uri, &id, e)) {
		ok = false;
		if (e) {
			e->class = ERR_UNAUTHENTICATED;
			e->code = CODE;
		}
		err_prefix(e, "certificate");
	}
	if (ok) {
		memcpy(out->text, uri.p, uri.n);
		out->text[uri.n] = '\0';
		/* It parsed once, so it does again: this time from where it stays. */
		ok = spiffe_id_parse_workload((struct str){ out->text, uri.n }, &out->id, e);
	}
	GENERAL_NAMES_free(names);
	return ok;
}

bool x509_svid_claim(X509 *leaf, struct x509_svid *out, struct err *e)
{
	int critical = -1;
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, &critical, NULL);

	return claim(names, critical, out, e);
}

/* ---- a certificate of which the names alone are read ---- */

/* Of RFC 5280 4.1: Certificate has three parts; the first one's last part, of at least eight (what
 * is optional before it are three), is [3] EXPLICIT Extensions. */
#define CERTIFICATE_PARTS 3
#define TBS_PARTS_MIN 8
#define TBS_PARTS_MAX 10
#define EXTENSIONS 3

/* The parts of a SEQUENCE that is all of @der. NULL: it is none. */
static ASN1_SEQUENCE_ANY *parts_of(struct str der)
{
	const unsigned char *p = (const unsigned char *)der.p, *end = p + der.n;
	ASN1_SEQUENCE_ANY *parts = d2i_ASN1_SEQUENCE_ANY(NULL, &p, (long)der.n);

	if (parts && p != end) {
		sk_ASN1_TYPE_pop_free(parts, ASN1_TYPE_free);
		parts = NULL;
	}
	return parts;
}

/* As it is encoded, if it is of @type. */
static struct str part(const ASN1_SEQUENCE_ANY *parts, int i, int type)
{
	const ASN1_TYPE *t = sk_ASN1_TYPE_value(parts, i);

	if (!t || t->type != type)
		return (struct str){ "", 0 };
	return (struct str){ (const char *)ASN1_STRING_get0_data(t->value.asn1_string),
			     (size_t)ASN1_STRING_length(t->value.asn1_string) };
}

static X509_EXTENSIONS *unwrap(struct str tagged)
{
	const unsigned char *p = (const unsigned char *)tagged.p, *end = p + tagged.n;
	X509_EXTENSIONS *found;
	int tag, class, is;
	long n;

	is = ASN1_get_object(&p, &n, &tag, &class, (long)tagged.n);
	if (is != V_ASN1_CONSTRUCTED || class != V_ASN1_CONTEXT_SPECIFIC || tag != EXTENSIONS ||
	    n != end - p)
		return NULL;
	found = d2i_X509_EXTENSIONS(NULL, &p, n);
	if (found && p != end) {
		sk_X509_EXTENSION_pop_free(found, X509_EXTENSION_free);
		found = NULL;
	}
	return found;
}

static X509_EXTENSIONS *extensions_of(struct str der)
{
	ASN1_SEQUENCE_ANY *whole = der.n <= CRYPTO_REQUEST_MAX ? parts_of(der) : NULL;
	ASN1_SEQUENCE_ANY *tbs = NULL;
	X509_EXTENSIONS *found = NULL;
	int n;

	if (sk_ASN1_TYPE_num(whole) == CERTIFICATE_PARTS)
		tbs = parts_of(part(whole, 0, V_ASN1_SEQUENCE));
	n = sk_ASN1_TYPE_num(tbs);
	if (n >= TBS_PARTS_MIN && n <= TBS_PARTS_MAX)
		found = unwrap(part(tbs, n - 1, V_ASN1_OTHER));
	sk_ASN1_TYPE_pop_free(tbs, ASN1_TYPE_free);
	sk_ASN1_TYPE_pop_free(whole, ASN1_TYPE_free);
	return found;
}

bool x509_svid_claim_der(struct str der, struct x509_svid *out, struct err *e)
{
	X509_EXTENSIONS *extensions = extensions_of(der);
	int critical = -1;
	GENERAL_NAMES *names;

	if (!extensions)
		return refuse(e, "not an X.509 v3 certificate in DER");
	names = X509V3_get_d2i(extensions, NID_subject_alt_name, &critical, NULL);
	sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
	return claim(names, critical, out, e);
}

static bool leaf_usage(X509 *leaf, struct err *e)
{
	const uint32_t both = XKU_SSL_SERVER | XKU_SSL_CLIENT;
	uint32_t flags, usage;

	if (X509_check_purpose(leaf, -1, 0) != 1)
		return refuse(e, "its extensions are malformed");
	flags = X509_get_extension_flags(leaf);
	usage = X509_get_key_usage(leaf); /* all ones if the extension is absent */
	if (flags & EXFLAG_CA)
		return refuse(e, "it is a CA certificate; those do not authenticate");
	if (!(flags & EXFLAG_KUSAGE))
		return refuse(e, "it has no key usage");
	if (usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN))
		return refuse(e,
			      "its key usage lets it sign certificates; such do not authenticate");
	if (!(usage & KU_DIGITAL_SIGNATURE))
		return refuse(e, "its key usage lacks digitalSignature");
	if ((flags & EXFLAG_XKUSAGE) && (X509_get_extended_key_usage(leaf) & both) != both)
		return refuse(e, "its extended key usage lacks serverAuth or clientAuth");
	return true;
}

/* Whatever path OpenSSL built, everything above the leaf must be a CA that says so. */
static bool path_of_authorities(const struct bundle *b, const STACK_OF(X509) * path, struct err *e)
{
	for (int i = 1; i < sk_X509_num(path); i++) {
		X509 *ca = sk_X509_value(path, i);
		uint32_t flags = X509_get_extension_flags(ca);

		if (!(flags & EXFLAG_CA) || !(flags & EXFLAG_KUSAGE) ||
		    !(X509_get_key_usage(ca) & KU_KEY_CERT_SIGN))
			return refuse(e, "a certificate above it is no CA with keyCertSign");
		if (bundle_distrusts(b, ca))
			return refuse(e, "the authority that signed it was revoked");
	}
	return true;
}

/* OpenSSL's words tell what it looked for, not what is wrong. */
static const char *why_not(int code)
{
	switch (code) {
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
		return "no authority in the bundle of its trust domain signed it";
	default:
		return X509_verify_cert_error_string(code);
	}
}

static bool path_holds(const struct bundle *b, X509 *leaf, STACK_OF(X509) * chain, int64_t now_s,
		       struct err *e)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;
	bool ok;

	if (!ctx || !X509_STORE_CTX_init(ctx, b->store, leaf, chain)) {
		X509_STORE_CTX_free(ctx);
		return crypto_err(e, "cannot start a verification");
	}
	param = X509_STORE_CTX_get0_param(ctx);
	/* Every certificate of a bundle is an anchor, self-signed or not. */
	X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
	X509_VERIFY_PARAM_set_time(param, (time_t)now_s);
	X509_VERIFY_PARAM_set_depth(param, X509_SVID_CHAIN_MAX);
	X509_VERIFY_PARAM_set_auth_level(param, 2); /* no RSA below 2048, no SHA-1 */
	ok = X509_verify_cert(ctx) == 1;
	if (!ok)
		refuse(e, why_not(X509_STORE_CTX_get_error(ctx)));
	else
		ok = path_of_authorities(b, X509_STORE_CTX_get0_chain(ctx), e);
	X509_STORE_CTX_free(ctx);
	return ok;
}

bool x509_svid_verify(const struct bundle_set *bundles, STACK_OF(X509) * chain, int64_t now_s,
		      struct x509_svid *out, struct err *e)
{
	X509 *leaf = chain && sk_X509_num(chain) > 0 ? sk_X509_value(chain, 0) : NULL;
	const struct bundle *b;
	int64_t begins;
	unsigned n = 0;

	if (!leaf)
		return refuse(e, "none was presented");
	if (sk_X509_num(chain) > X509_SVID_CHAIN_MAX)
		return refuse(e, "the chain is too long");
	if (!leaf_usage(leaf, e) || !x509_svid_claim(leaf, out, e))
		return false;
	/* Only the bundle of the ID's own trust domain may vouch for it. */
	b = bundle_find(bundles, out->id.trust_domain);
	if (!b)
		return err_code(e, ERR_UNAUTHENTICATED, CODE,
				"certificate: no trust bundle for trust domain \"%.*s\"",
				STR_FMT(out->id.trust_domain));
	if (!path_holds(b, leaf, chain, now_s, e))
		return false;
	if (!x509_times(leaf, &begins, &out->not_after_s) ||
	    X509_digest(leaf, EVP_sha256(), out->sha256, &n) != 1)
		return refuse(e, "its end cannot be read");
	return true;
}

bool x509_svid_verify_der(const struct bundle_set *bundles, const struct str *chain, size_t n,
			  int64_t now_s, struct x509_svid *out, struct err *e)
{
	STACK_OF(X509) *certs = sk_X509_new_null();
	bool ok = certs != NULL;

	if (!ok)
		return err_set(e, ERR_NOMEM, "no memory for a chain");
	for (size_t i = 0; ok && i < n && i <= X509_SVID_CHAIN_MAX; i++) {
		X509 *cert = NULL;

		ok = crypto_certificate(chain[i], &cert, NULL);
		if (ok && sk_X509_push(certs, cert) <= 0) {
			X509_free(cert);
			ok = false;
		}
	}
	ok = ok ? x509_svid_verify(bundles, certs, now_s, out, e)
		: refuse(e, "not an X.509 certificate in DER");
	sk_X509_pop_free(certs, X509_free);
	return ok;
}

bool x509_svid_verify_chain(const struct bundle_set *bundles, struct str chain, int64_t now_s,
			    struct x509_svid *out, struct err *e)
{
	struct str ders[X509_SVID_CHAIN_MAX];
	size_t n = 0;

	while (n < X509_SVID_CHAIN_MAX && x509_chain_next(&chain, &ders[n]))
		n++;
	if (chain.n)
		return refuse(e, n == X509_SVID_CHAIN_MAX ? "the chain is too long"
							  : "bytes follow its chain");
	return x509_svid_verify_der(bundles, ders, n, now_s, out, e);
}

static bool seconds(const ASN1_TIME *t, int64_t *out)
{
	struct tm tm;

	if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
		return false;
	*out = (int64_t)timegm(&tm);
	return true;
}

bool x509_times(const X509 *cert, int64_t *not_before_s, int64_t *not_after_s)
{
	return seconds(X509_get0_notBefore(cert), not_before_s) &&
	       seconds(X509_get0_notAfter(cert), not_after_s);
}
