/*
 * token_process - the process that has the PKCS#11 module, and how the signer talks to it.
 *
 * Purpose    A module is somebody else's code. It opens files and sockets, may hang for as long as
 *            a network does, and may crash. So it is loaded in a process of its own, forked before
 *            the signer has read any key: the signer, with the log's key, keeps its narrow filter
 *            of system calls, waits for a bounded time, and outlives it.
 *            Requests and answers are frames (signer_wire.h), one after the other. An answer that
 *            did not come in time is awaited before anything else is asked: a token that hangs
 *            costs one wait, not one for each signature.
 * Ownership  A struct token_process owns its end of the socket; the child ends when that closes.
 * Threads    One owner.
 */
#ifndef WRIT_SPIFFE_TOKEN_PROCESS_H
#define WRIT_SPIFFE_TOKEN_PROCESS_H

#include <sys/types.h>

#include "spiffe/authority.h"
#include "spiffe/pkcs11.h"

#define TOKEN_START_MS 12000 /* to load the module; to log in */
#define TOKEN_CALL_MS 3000   /* for anything later: three of them fit into a signer_call */

struct token_process {
	int fd;	   /* -1: none */
	bool late; /* an answer is still to come */
	struct buf in;
};

/* Fork it. It has nothing yet but @module's name. @network: see signer_confine. */
MUST_USE bool token_process_start(const char *module, bool network, struct token_process *out,
				  struct err *e);
void token_process_stop(struct token_process *p);

/* Load the module, and confine what it may do from then on; then log in for a kind of key. Codes as
 * of pkcs11.h. */
MUST_USE bool token_process_login(struct token_process *p, enum authority_kind kind, struct str uri,
				  struct str pin, struct err *e);

/* As pkcs11_generate, pkcs11_sign and pkcs11_keep. Further refusals: ERR_UNAVAILABLE
 * "token_timeout", "token_gone". */
MUST_USE bool token_process_generate(struct token_process *p, enum authority_kind kind,
				     const char *label, uint8_t id[static PKCS11_ID_LEN],
				     struct buf *spki, struct err *e);
MUST_USE bool token_process_sign(struct token_process *p, enum authority_kind kind,
				 const uint8_t id[static PKCS11_ID_LEN],
				 const uint8_t digest[static SHA256_LEN],
				 uint8_t out[static PKCS11_SIGNATURE], struct err *e);
MUST_USE bool token_process_keep(struct token_process *p, enum authority_kind kind,
				 const char *label, struct str keep, size_t *removed,
				 struct err *e);

#endif
