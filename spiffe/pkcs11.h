/*
 * pkcs11 - a module of PKCS#11 v2.40, and EC P-256 keys in a token behind it.
 *
 * Purpose    What the signer needs of a hardware security module, and nothing else: find one token,
 *            log in, make a key pair that cannot be taken out, find it by its id, sign a digest
 *            (ECDSA), remove it. The module is called directly: of Debian 12's ways through
 *            OpenSSL, the engine cannot make keys, and there is no provider.
 *            A session that is lost - the token was pulled and put back, the server behind it
 *            restarted - is opened again once per call, from the module's initialisation on. A PIN
 *            that the token refused is never shown to it again: tokens lock themselves.
 * Ownership  A struct pkcs11 owns its tokens; keys borrow them.
 * Threads    One owner. The module may make none of its own (CKF_LIBRARY_CANT_CREATE_OS_THREADS).
 */
#ifndef WRIT_SPIFFE_PKCS11_H
#define WRIT_SPIFFE_PKCS11_H

#include "authz/base/buf.h"
#include "authz/base/clock.h"
#include "authz/base/digest.h"
#include "include/writ/err.h"
#include "spiffe/pkcs11_uri.h"

#define PKCS11_ID_LEN 16    /* bytes of CKA_ID, random */
#define PKCS11_LABEL_MAX 64 /* bytes of CKA_LABEL */
#define PKCS11_PIN_MAX 255
#define PKCS11_SIGNATURE 64		 /* R and S side by side */
#define PKCS11_KEYS_MAX 256		 /* of one label, that are looked at */
#define PKCS11_PIN_REFUSED "pin_refused" /* code of an error: the token says the PIN is wrong */

struct pkcs11;
struct pkcs11_token;

/* Load the module at @path; @clock NULL: the system's. Refused if others than root and ourselves
 * may write it: what is loaded holds the keys. */
MUST_USE bool pkcs11_load(const char *path, const struct clock *clock, struct pkcs11 **out,
			  struct err *e);
void pkcs11_unload(struct pkcs11 *p); /* NULL is fine; wipes the PINs */

/* Find the one token that is present and fits, and log in. At most two of them. Refusals:
 * ERR_NOT_FOUND (none fits), ERR_CONFLICT (several do), ERR_FORBIDDEN code PKCS11_PIN_REFUSED, or
 * because one more wrong try would lock the PIN, or it is locked. */
MUST_USE bool pkcs11_login(struct pkcs11 *p, const struct pkcs11_uri *uri, struct str pin,
			   struct pkcs11_token **out, struct err *e);

/* Make a key pair: sensitive, not extractable, signing only, and stored. @id is chosen here; @spki
 * gets the SubjectPublicKeyInfo in DER. What fails half-way is removed again, if it can be. */
MUST_USE bool pkcs11_generate(struct pkcs11_token *t, const char *label,
			      uint8_t id[static PKCS11_ID_LEN], struct buf *spki, struct err *e);

/* Remove both halves of the keys labelled @label whose ids are not among the @n of @keep (of
 * PKCS11_ID_LEN bytes each). *removed: private keys that were. */
MUST_USE bool pkcs11_keep(struct pkcs11_token *t, const char *label, struct str keep,
			  size_t *removed, struct err *e);

/* A private key in a token. All zeros but token and id to begin with. */
struct pkcs11_key {
	struct pkcs11_token *token;
	uint8_t id[PKCS11_ID_LEN];
	unsigned long handle; /* private */
	unsigned generation;  /* private */
};

/* Refusals, as of the two above: ERR_UNAVAILABLE with the token's own word, code "token_failed",
 * "token_missing", "token_key_missing" ... */
MUST_USE bool pkcs11_sign(struct pkcs11_key *k, const uint8_t digest[static SHA256_LEN],
			  uint8_t out[static PKCS11_SIGNATURE], struct err *e);

/* --- for tests --- */

/* The functions in use, as CK_FUNCTION_LIST: to be replaced by others. */
void **pkcs11_functions(struct pkcs11 *p);

#endif
