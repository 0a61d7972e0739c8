/*
 * signer_token - the authorities' keys in a token, as the signer keeps them.
 *
 * Purpose    With a PKCS#11 module configured, authorities of the kinds that name a token are made
 *            there and never leave it. What is on disk of such a key is sealed like any other, and
 *            holds its id and public half. Each deployment labels its keys by a tag of its own
 *            (from storage.key), so that several may share one token.
 *            A PIN that the token refused is remembered in keys/pin.refused, as a keyed hash: a
 *            service manager that starts writ again and again would lock the token otherwise.
 * Ownership  signer_token_close frees and wipes. Only the signer has one.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_SIGNER_TOKEN_H
#define WRIT_SPIFFE_SIGNER_TOKEN_H

#include <openssl/evp.h>

#include "spiffe/authority.h"
#include "spiffe/pkcs11_key.h"
#include "spiffe/signer_seal.h"
#include "spiffe/token_process.h"

#define SIGNER_PIN_REFUSED_FILE "pin.refused"

struct signer_token_config {
	const char *module;		   /* absolute path; NULL: there is no token */
	const char *pin_file;		   /* 0600; its last newline does not count */
	const char *uris[AUTHORITY_KINDS]; /* NULL: keys of that kind are files */
	bool network;			   /* the module talks to its token by TCP or UDP */
	bool leave; /* new keys are files again; those in the token sign on */
};

struct signer_token {
	struct token_process process;
	bool has[AUTHORITY_KINDS];
	char labels[AUTHORITY_KINDS][PKCS11_LABEL_MAX];
	bool leave;
};

/* Fork the token's process: before any key is read, so that it has none. */
MUST_USE bool signer_token_start(const struct signer_token_config *c, struct signer_token *t,
				 struct err *e);
/* Read the PIN and log in. @folder is that of the keys. */
MUST_USE bool signer_token_open(const struct signer_token_config *c, const char *folder,
				const struct seal *seal, struct signer_token *t, struct err *e);
void signer_token_close(struct signer_token *t);

/* Are new keys of @kind made in a token? */
bool signer_token_makes(const struct signer_token *t, enum authority_kind kind);

/* A new key: its id (PKCS11_ID_LEN bytes, appended) and public half. */
MUST_USE bool signer_token_make(struct signer_token *t, enum authority_kind kind, struct buf *id,
				struct buf *spki, EVP_PKEY **out, struct err *e);
/* One that was made before. */
MUST_USE bool signer_token_use(struct signer_token *t, enum authority_kind kind, struct str id,
			       struct str spki, EVP_PKEY **out, struct err *e);
/* Remove our keys of @kind but those whose ids are in @ids, one behind the other. Without a token
 * of that kind nothing happens. */
MUST_USE bool signer_token_keep(struct signer_token *t, enum authority_kind kind, struct str ids,
				size_t *removed, struct err *e);

#endif
