/*
 * pkcs11_inside - what the parts of pkcs11.h share and nobody else sees.
 *
 * Ownership  As pkcs11.h.
 * Threads    As pkcs11.h.
 */
#ifndef WRIT_SPIFFE_PKCS11_INSIDE_H
#define WRIT_SPIFFE_PKCS11_INSIDE_H

#include <p11-kit-1/p11-kit/pkcs11.h>

#include "spiffe/pkcs11.h"

#define TOKENS_MAX 2

struct pkcs11_token {
	struct pkcs11 *module;
	struct pkcs11_uri uri;
	CK_SESSION_HANDLE session;
	unsigned generation; /* of the module when the session was opened; 0: none */
	size_t pin_len;
	char pin[PKCS11_PIN_MAX + 1];
};

struct pkcs11 {
	const struct clock *clock;
	void *library;
	CK_FUNCTION_LIST *f;
	bool initialised;
	unsigned generation; /* grows with each initialisation */
	int64_t next_reset_ns;
	bool refused; /* a token said, after a login that held, that the PIN is wrong */
	struct pkcs11_token tokens[TOKENS_MAX];
	size_t ntokens;
};

#define ATTR(type, value)                       \
	{                                       \
		type, &(value), sizeof((value)) \
	}

/* Fill @e (code "token_failed") with what @step says by @rv. Always false. */
bool pkcs11_say(struct err *e, enum err_class class, const char *step, CK_RV rv);

/* @step, and if it fails for whatever reason but a refused PIN, all of it again from the module's
 * initialisation on. What fails again and again is not begun anew each time. @e is not NULL. */
bool pkcs11_with_session(struct pkcs11_token *t,
			 bool (*step)(struct pkcs11_token *t, void *ctx, struct err *e), void *ctx,
			 struct err *e);

/* Handles of the objects that fit @template, at most @max. Within a step. */
bool pkcs11_find(struct pkcs11_token *t, CK_ATTRIBUTE *template, CK_ULONG n, CK_OBJECT_HANDLE *out,
		 size_t max, size_t *found, struct err *e);

#endif
