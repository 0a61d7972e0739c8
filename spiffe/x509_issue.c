/*
 * Issuing authorities; leaves are x509_leaf.c's. Extensions are built from structures, never from
 * OpenSSL's config strings, where a comma in a name would inject further names.
 */
#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/x509v3.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/x509_svid.h"

#define SERIAL_BYTES 16

static bool set_serial(X509 *cert, char hex[static 2 * SERIAL_BYTES + 1], struct err *e)
{
	uint8_t bytes[SERIAL_BYTES];
	BIGNUM *bn;
	bool ok;

	random_bytes(bytes, sizeof(bytes));
	bytes[0] |= 1; /* never zero, always 16 bytes */
	bn = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert));
	BN_free(bn);
	if (!ok)
		return crypto_err(e, "cannot set a serial number");
	for (size_t i = 0; i < sizeof(bytes); i++) {
		hex[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	hex[2 * SERIAL_BYTES] = '\0';
	return true;
}

static bool set_times(X509 *cert, int64_t not_before_s, int64_t not_after_s, struct err *e)
{
	if (not_after_s <= not_before_s)
		return err_set(e, ERR_INVALID, "a certificate must end after it begins");
	if (!ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)not_before_s) ||
	    !ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)not_after_s))
		return crypto_err(e, "cannot set the times of a certificate");
	return true;
}

static bool add_ext(X509 *cert, int nid, void *value, bool critical, struct err *e)
{
	if (!value || X509_add1_ext_i2d(cert, nid, value, critical, X509V3_ADD_APPEND) != 1)
		return crypto_err(e, "cannot add extension %s to a certificate", OBJ_nid2sn(nid));
	return true;
}

/* @leaves_only: pathLenConstraint 0, for an authority that is not the root itself. */
static bool add_constraints(X509 *cert, bool leaves_only, struct err *e)
{
	BASIC_CONSTRAINTS *c = BASIC_CONSTRAINTS_new();
	bool ok = c != NULL;

	if (c)
		c->ca = 0xff;
	if (c && leaves_only)
		ok = (c->pathlen = ASN1_INTEGER_new()) && ASN1_INTEGER_set(c->pathlen, 0);
	ok = add_ext(cert, NID_basic_constraints, ok ? c : NULL, true, e);
	BASIC_CONSTRAINTS_free(c);
	return ok;
}

/* keyCertSign and cRLSign (bits 5 and 6). */
static bool add_key_usage(X509 *cert, struct err *e)
{
	ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();
	bool ok = bits && ASN1_BIT_STRING_set_bit(bits, 5, 1) &&
		  ASN1_BIT_STRING_set_bit(bits, 6, 1);

	ok = add_ext(cert, NID_key_usage, ok ? bits : NULL, true, e);
	ASN1_BIT_STRING_free(bits);
	return ok;
}

static bool push_uri(GENERAL_NAMES *names, struct str uri)
{
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_STRING *text = ASN1_STRING_type_new(V_ASN1_IA5STRING);

	if (!name || !text || !ASN1_STRING_set(text, uri.p, (int)uri.n) ||
	    sk_GENERAL_NAME_push(names, name) <= 0) {
		GENERAL_NAME_free(name);
		ASN1_STRING_free(text);
		return false;
	}
	GENERAL_NAME_set0_value(name, GEN_URI, text);
	return true;
}

static bool add_uri(X509 *cert, struct str uri, struct err *e)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	bool ok = names && push_uri(names, uri);

	ok = add_ext(cert, NID_subject_alt_name, ok ? names : NULL, false, e);
	GENERAL_NAMES_free(names);
	return ok;
}

/* RFC 5280 4.2.1.2 (1): the SHA-1 of the public key's bits. A label, not a security value. */
static bool add_subject_key_id(X509 *cert, struct err *e)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
	bool ok = id && X509_pubkey_digest(cert, EVP_sha1(), hash, &n) == 1 &&
		  ASN1_OCTET_STRING_set(id, hash, (int)n);

	ok = add_ext(cert, NID_subject_key_identifier, ok ? id : NULL, false, e);
	ASN1_OCTET_STRING_free(id);
	return ok;
}

/* Read from the extension, not from the cache of a certificate that is still being built. A CA of
 * others may have no such extension: then its key is named as ours would be. */
static bool add_authority_key_id(X509 *cert, const X509 *issuer, struct err *e)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	AUTHORITY_KEYID *akid = AUTHORITY_KEYID_new();
	bool ok = akid != NULL;

	if (akid)
		akid->keyid = X509_get_ext_d2i(issuer, NID_subject_key_identifier, NULL, NULL);
	if (akid && !akid->keyid)
		ok = X509_pubkey_digest(issuer, EVP_sha1(), hash, &n) == 1 &&
		     (akid->keyid = ASN1_OCTET_STRING_new()) &&
		     ASN1_OCTET_STRING_set(akid->keyid, hash, (int)n);
	ok = add_ext(cert, NID_authority_key_identifier, ok ? akid : NULL, false, e);
	AUTHORITY_KEYID_free(akid);
	return ok;
}

/* The hash follows the key: P-384 signs with SHA-384, all else with SHA-256. */
static bool sign_to(X509 *cert, EVP_PKEY *key, struct buf *der, struct err *e)
{
	bool p384 = EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_bits(key) == 384;
	unsigned char *at;
	int n;

	if (X509_sign(cert, key, p384 ? EVP_sha384() : EVP_sha256()) <= 0)
		return crypto_err(e, "cannot sign a certificate");
	n = i2d_X509(cert, NULL);
	at = n > 0 ? (unsigned char *)buf_room(der, (size_t)n) : NULL;
	if (!at)
		return err_set(e, ERR_NOMEM, "no room for a certificate");
	i2d_X509(cert, &at);
	der->n += (size_t)n;
	return true;
}

static bool add_subject_text(X509 *cert, const char *field, const char *text, struct err *e)
{
	if (X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), field, MBSTRING_UTF8,
				       (const unsigned char *)text, -1, -1, 0) != 1)
		return crypto_err(e, "cannot set the subject of a certificate");
	return true;
}

/* permitted;URI:<trust domain>: the host of each URI name below must be it. */
static bool add_name_constraints(X509 *cert, struct str host, struct err *e)
{
	NAME_CONSTRAINTS *c = NAME_CONSTRAINTS_new();
	GENERAL_SUBTREE *tree = GENERAL_SUBTREE_new();
	ASN1_STRING *text = ASN1_STRING_type_new(V_ASN1_IA5STRING);
	bool ok = c && tree && text && ASN1_STRING_set(text, host.p, (int)host.n) &&
		  (c->permittedSubtrees = sk_GENERAL_SUBTREE_new_null());

	if (ok) {
		GENERAL_NAME_set0_value(tree->base, GEN_URI, text);
		text = NULL;
		ok = sk_GENERAL_SUBTREE_push(c->permittedSubtrees, tree) > 0;
		if (ok)
			tree = NULL;
	}
	ok = add_ext(cert, NID_name_constraints, ok ? c : NULL, true, e);
	ASN1_STRING_free(text);
	GENERAL_SUBTREE_free(tree);
	NAME_CONSTRAINTS_free(c);
	return ok;
}

/* @by NULL: self-signed. */
static bool issue_authority(const struct x509_issuer *by, EVP_PKEY *key, struct str trust_domain,
			    int64_t not_before_s, int64_t not_after_s, struct buf *der,
			    struct err *e)
{
	AUTO_X509 *cert = X509_new();
	char uri[SPIFFE_TRUST_DOMAIN_MAX + 16], serial[2 * SERIAL_BYTES + 1];
	struct str name;
	int n;

	if (!spiffe_trust_domain_parse(trust_domain, &name, e))
		return false;
	n = snprintf(uri, sizeof(uri), "spiffe://%.*s", STR_FMT(name));
	if (!cert || !X509_set_version(cert, X509_VERSION_3) || !X509_set_pubkey(cert, key))
		return crypto_err(e, "cannot start a certificate");
	/* The serial number in the subject keeps two authorities of one domain apart. */
	if (!set_serial(cert, serial, e) || !set_times(cert, not_before_s, not_after_s, e) ||
	    !add_subject_text(cert, "O", "writ", e) ||
	    !add_subject_text(cert, "serialNumber", serial, e))
		return false;
	if (!X509_set_issuer_name(cert, X509_get_subject_name(by ? by->cert : cert)))
		return crypto_err(e, "cannot set the issuer of a certificate");
	if (!add_constraints(cert, by != NULL, e) || !add_key_usage(cert, e) ||
	    !add_subject_key_id(cert, e) || !add_authority_key_id(cert, by ? by->cert : cert, e) ||
	    (by && by->constrain && !add_name_constraints(cert, name, e)) ||
	    !add_uri(cert, (struct str){ uri, (size_t)n }, e))
		return false;
	return sign_to(cert, by ? by->key : key, der, e);
}

bool x509_authority_issue(EVP_PKEY *key, struct str trust_domain, int64_t not_before_s,
			  int64_t not_after_s, struct buf *der, struct err *e)
{
	return issue_authority(NULL, key, trust_domain, not_before_s, not_after_s, der, e);
}

bool x509_intermediate_issue(const struct x509_issuer *by, EVP_PKEY *key, struct str trust_domain,
			     int64_t not_before_s, int64_t not_after_s, struct buf *der,
			     struct err *e)
{
	int64_t begins, ends;

	if (!x509_times(by->cert, &begins, &ends))
		return crypto_err(e, "cannot read the times of the upstream certificate");
	return issue_authority(by, key, trust_domain, not_before_s > begins ? not_before_s : begins,
			       not_after_s < ends ? not_after_s : ends, der, e);
}

bool x509_authority_id(const X509 *cert, char id[static X509_ID_LEN + 1], struct err *e)
{
	ASN1_OCTET_STRING *ski = X509_get_ext_d2i(cert, NID_subject_key_identifier, NULL, NULL);
	bool ok = ski && ASN1_STRING_length(ski) == X509_ID_LEN / 2;

	if (ok) {
		text_hex(ASN1_STRING_get0_data(ski), X509_ID_LEN / 2, id);
		id[X509_ID_LEN] = '\0';
	}
	ASN1_OCTET_STRING_free(ski);
	return ok || err_set(e, ERR_INVALID,
			     "authority: a subject key identifier of %d bytes is expected",
			     X509_ID_LEN / 2);
}

bool x509_chain_next(struct str *chain, struct str *der)
{
	const unsigned char *p = (const unsigned char *)chain->p;
	long n = 0;
	int tag, class;

	if (!chain->n ||
	    ASN1_get_object(&p, &n, &tag, &class, (long)chain->n) != V_ASN1_CONSTRUCTED ||
	    tag != V_ASN1_SEQUENCE) {
		if (chain->n)
			crypto_err(NULL, "-"); /* empties the queue */
		return false;
	}
	*der = str_first(*chain, (size_t)(p - (const unsigned char *)chain->p) + (size_t)n);
	*chain = str_from(*chain, der->n);
	return true;
}

struct str x509_chain_leaf(struct str chain)
{
	struct str leaf = { 0 };

	return x509_chain_next(&chain, &leaf) ? leaf : (struct str){ NULL, 0 };
}

void x509_chain_pem(struct buf *pem, struct str chain)
{
	struct str der;

	while (x509_chain_next(&chain, &der))
		crypto_pem(pem, "CERTIFICATE", der);
	if (chain.n)
		pem->failed = true;
}

static bool dns_label(struct str label)
{
	if (label.n == 0 || label.n > 63 || label.p[0] == '-' || label.p[label.n - 1] == '-')
		return false;
	for (size_t i = 0; i < label.n; i++) {
		char c = label.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '_'))
			return false;
	}
	return true;
}

bool x509_name_parse(struct str text, struct x509_name *out, struct err *e)
{
	struct x509_name name = { 0 };
	char address[INET6_ADDRSTRLEN + 1];
	struct str rest = text, label;

	if (text.n == 0 || text.n > X509_SVID_DNS_MAX)
		return err_set(e, ERR_INVALID, "name: 1 to %d bytes are expected",
			       X509_SVID_DNS_MAX);
	if (text.n < sizeof(address)) {
		memcpy(address, text.p, text.n);
		address[text.n] = '\0';
		name.ip_len = inet_pton(AF_INET, address, name.ip) == 1	   ? 4
			      : inet_pton(AF_INET6, address, name.ip) == 1 ? 16
									   : 0;
	}
	if (!name.ip_len) {
		bool more = true, ok = true;

		while (ok && more) {
			more = str_cut(rest, '.', &label, &rest);
			ok = dns_label(more ? label : rest);
		}
		if (!ok)
			return err_set(e, ERR_INVALID,
				       "name: \"%.*s\" is neither an IP address nor a DNS name",
				       STR_FMT(str_first(text, 128)));
		name.dns = text;
	}
	*out = name;
	return true;
}
