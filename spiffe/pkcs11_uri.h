/*
 * pkcs11_uri - which token: the part of a PKCS#11 URI (RFC 7512) that names one.
 *
 * Purpose    "pkcs11:token=writ;serial=1234": the attributes token, manufacturer, model, serial and
 *            slot-id, percent-encoded, each at most once. What would name a key is refused, since
 *            writ makes its own keys in the token; so is a query, since module and PIN have
 *            settings of their own and a PIN never stands in a text.
 * Ownership  A struct pkcs11_uri holds its texts.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SPIFFE_PKCS11_URI_H
#define WRIT_SPIFFE_PKCS11_URI_H

#include <stdint.h>

#include "include/writ/err.h"

/* "": not said, any will do. Sizes are those of a token's fields (PKCS#11 v2.40, CK_TOKEN_INFO). */
struct pkcs11_uri {
	char token[32 + 1], manufacturer[32 + 1], model[16 + 1], serial[16 + 1];
	bool has_slot;
	uint64_t slot;
};

/* Refused with ERR_INVALID: no such URI, or one that names no token by label, serial or slot. */
MUST_USE bool pkcs11_uri_parse(struct str text, struct pkcs11_uri *out, struct err *e);

#endif
