/*
 * jansson, not base/json: a spiffe_sequence has 64 bits, and the strict reader of decisions keeps
 * only what fits a double exactly. Duplicate names are refused here too.
 */
#include "spiffe/federation_read.h"

#include <jansson.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/jwk.h"

#define CODE "invalid_bundle"
#define KEYS_MAX 1024 /* of all kinds */
#define DER_MAX 16384 /* bytes of a certificate */
#define HINT_MAX UINT32_MAX

static struct str text_of(const json_t *object, const char *name)
{
	const json_t *v = json_object_get(object, name);

	return json_is_string(v) ? (struct str){ json_string_value(v), json_string_length(v) }
				 : (struct str){ NULL, 0 };
}

/* A whole number from 0 to @max, if it is there. */
static bool whole(const json_t *doc, const char *name, json_int_t max, bool *has, json_int_t *out,
		  struct err *e)
{
	const json_t *v = json_object_get(doc, name);

	*has = v != NULL;
	if (!v)
		return true;
	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > max)
		return err_code(e, ERR_INVALID, CODE,
				"%s must be a whole number from 0 to %" JSON_INTEGER_FORMAT, name,
				max);
	*out = json_integer_value(v);
	return true;
}

static bool key_of(const json_t *k, EVP_PKEY **out, struct err *e)
{
	const struct jwk members = { .kty = text_of(k, "kty"),
				     .crv = text_of(k, "crv"),
				     .x = text_of(k, "x"),
				     .y = text_of(k, "y"),
				     .n = text_of(k, "n"),
				     .e = text_of(k, "e") };

	return jwk_key(&members, out, e);
}

/* An authority is its certificate; the numbers beside it must be those of the same key, or two
 * readers of one document would trust two keys. */
static bool read_authority(const json_t *k, struct bundle *b, struct err *e)
{
	const json_t *x5c = json_object_get(k, "x5c"), *first = json_array_get(x5c, 0);
	uint8_t der[DER_MAX + 8];
	AUTO_PKEY *key = NULL;
	AUTO_X509 *cert = NULL;
	struct err why = { 0 };
	struct str bytes;
	size_t n = 0;

	if (!json_is_array(x5c) || !json_is_string(first))
		return err_code(e, ERR_INVALID, CODE, "x5c must be an array with one string");
	if (json_string_length(first) > DER_MAX / 3 * 4 ||
	    !text_unbase64((struct str){ json_string_value(first), json_string_length(first) },
			   BASE64_STD, der, &n))
		return err_code(e, ERR_INVALID, CODE,
				"x5c must be plain base64 (padded, no line breaks) of at most %d "
				"bytes of DER",
				DER_MAX);
	bytes = (struct str){ (char *)der, n };
	if (!crypto_certificate(bytes, &cert, e) || !key_of(k, &key, e))
		return false;
	if (EVP_PKEY_eq(key, X509_get0_pubkey(cert)) != 1)
		return err_code(e, ERR_INVALID, CODE,
				"its numbers are not the key of the certificate in x5c");
	if (bundle_add_authority(b, bytes, &why) || why.class == ERR_CONFLICT)
		return true; /* the same one twice says nothing new */
	*e = why;
	return false;
}

static bool read_token_key(const json_t *k, bool wit, struct bundle *b, struct err *e)
{
	AUTO_PKEY *key = NULL;
	AUTO_BUF spki;

	buf_init(&spki, mem_system, CRYPTO_SPKI_MAX);
	return key_of(k, &key, e) && crypto_spki(key, &spki, e) &&
	       (wit ? bundle_add_wit_key : bundle_add_jwt_key)(b, text_of(k, "kid"), buf_str(&spki),
							       e);
}

static bool read_key(const json_t *k, struct bundle *b, size_t *ignored, struct err *e)
{
	struct str use;

	if (!json_is_object(k))
		return err_code(e, ERR_INVALID, CODE, "not an object");
	use = text_of(k, "use");
	if (str_eq(use, STR("x509-svid")) && jwk_known(text_of(k, "kty")) &&
	    json_object_get(k, "x5c"))
		return read_authority(k, b, e);
	if (str_eq(use, STR("jwt-svid")) && jwk_known(text_of(k, "kty")))
		return read_token_key(k, false, b, e);
	if (str_eq(use, STR("wit-svid")) && jwk_known(text_of(k, "kty")))
		return read_token_key(k, true, b, e);
	++*ignored;
	return true;
}

/* A kid of a WIT key stands on no other key of the bundle, whatever its use (WIT-SVID 4). */
static bool wit_kids_alone(const json_t *keys, struct err *e)
{
	for (size_t i = 0; i < json_array_size(keys); i++) {
		const json_t *one = json_array_get(keys, i);
		struct str kid = text_of(one, "kid");

		if (!str_eq(text_of(one, "use"), STR("wit-svid")))
			continue;
		for (size_t j = 0; j < json_array_size(keys); j++)
			if (i != j && kid.n && str_eq(kid, text_of(json_array_get(keys, j), "kid")))
				return err_code(e, ERR_INVALID, CODE,
						"keys[%zu]: the kid of a wit-svid key is also that "
						"of keys[%zu]",
						i, j);
	}
	return true;
}

static bool read_document(const json_t *doc, struct bundle *b, struct federation_document *out,
			  struct err *e)
{
	const json_t *keys = json_object_get(doc, "keys");
	json_int_t sequence = 0, hint = 0;

	if (!json_is_array(keys))
		return err_code(e, ERR_INVALID, CODE, "it has no array \"keys\"");
	if (json_array_size(keys) > KEYS_MAX)
		return err_code(e, ERR_TOO_LARGE, CODE, "it has more than %d keys", KEYS_MAX);
	if (!whole(doc, "spiffe_sequence", INT64_MAX, &out->has_sequence, &sequence, e) ||
	    !whole(doc, "spiffe_refresh_hint", HINT_MAX, &out->has_hint, &hint, e))
		return false;
	if (!wit_kids_alone(keys, e))
		return false;
	for (size_t i = 0; i < json_array_size(keys); i++)
		if (!read_key(json_array_get(keys, i), b, &out->ignored, e))
			return err_prefix(e, "keys[%zu]", i);
	out->sequence = b->sequence = (uint64_t)sequence;
	out->hint_s = b->refresh_hint_s = (uint32_t)hint;
	return true;
}

/* Whatever is wrong with a key, a certificate or a kid is wrong with the bundle. */
static bool blame(struct err *e)
{
	if (e && (e->class == ERR_INVALID || e->class == ERR_CONFLICT)) {
		e->class = ERR_INVALID;
		e->code = CODE;
	}
	return false;
}

bool federation_read(struct str text, struct str trust_domain, struct bundle_set *set,
		     struct federation_document *out, struct err *e)
{
	struct federation_document found = { 0 };
	json_error_t why;
	struct bundle *b;
	json_t *doc;
	bool ok;

	if (text.n > FEDERATION_DOCUMENT_MAX)
		return err_code(e, ERR_TOO_LARGE, CODE, "the bundle is longer than %d KiB",
				FEDERATION_DOCUMENT_MAX / 1024);
	doc = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &why);
	if (!doc)
		return err_code(e, ERR_INVALID, CODE,
				"the bundle is no JSON object: byte %d: %.100s", why.position,
				why.text);
	ok = json_is_object(doc)
		     ? bundle_set_add(set, trust_domain, 0, 0, &b, e) &&
			       (read_document(doc, b, &found, e) || err_prefix(e, "the bundle"))
		     : err_code(e, ERR_INVALID, CODE, "the bundle is no JSON object");
	json_decref(doc);
	if (ok)
		*out = found;
	return ok || blame(e);
}

bool federation_read_pem(struct str text, struct str trust_domain, struct bundle_set *set,
			 struct err *e)
{
	static const char begin[] = "-----BEGIN CERTIFICATE-----";
	static const char end[] = "-----END CERTIFICATE-----";
	struct bundle *b;

	if (text.n > FEDERATION_DOCUMENT_MAX)
		return err_code(e, ERR_TOO_LARGE, CODE, "the bundle is longer than %d KiB",
				FEDERATION_DOCUMENT_MAX / 1024);
	if (!bundle_set_add(set, trust_domain, 0, 0, &b, e))
		return false;
	for (;;) {
		const char *from, *to;
		AUTO_BUF der;

		buf_init(&der, mem_system, DER_MAX);
		while (text.n && text.p[0] && strchr(" \t\r\n", text.p[0]))
			text = str_from(text, 1);
		if (!text.n)
			break;
		from = str_starts(text, str_c(begin)) ? text.p : NULL;
		to = from ? memmem(text.p, text.n, end, strlen(end)) : NULL;
		if (!to)
			return err_code(e, ERR_INVALID, CODE,
					"the bundle holds something that is no PEM certificate");
		to += strlen(end);
		if (!crypto_unpem((struct str){ from, (size_t)(to - from) }, "CERTIFICATE", &der,
				  e) ||
		    !bundle_add_authority(b, buf_str(&der), e))
			return err_prefix(e, "the bundle") || blame(e);
		text = str_from(text, (size_t)(to - text.p));
	}
	if (!b->nauthorities)
		return err_code(e, ERR_INVALID, CODE, "the bundle holds no certificate");
	return true;
}
