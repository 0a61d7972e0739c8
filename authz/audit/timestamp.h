/*
 * timestamp - RFC 3161 time stamps of checkpoints.
 *
 * Purpose    A time-stamping authority says when a checkpoint existed, without having to know what
 *            a log is. Its token is over SHA-256 of the checkpoint's text (the three lines), so
 *            `openssl ts` makes and checks the same. It travels in the note as a signature line of
 *            a private type (signed-note 0xFF), which readers that do not know it pass over:
 *            "— timestamp <base64 of TIMESTAMP_ID and the DER token>".
 * Ownership  Nothing is kept.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_AUDIT_TIMESTAMP_H
#define WRIT_AUDIT_TIMESTAMP_H

#include "authz/audit/note.h"

#define TIMESTAMP_MAX 12000	      /* bytes of a token, with the certificates of its authority */
#define TIMESTAMP_REPLY_MAX 65536     /* bytes of a response */
#define TIMESTAMP_NAME "timestamp"    /* of the line */
#define TIMESTAMP_ID 0x8481e24cu      /* first 4 bytes of H("timestamp" 0x0A 0xFF "rfc3161") */
#define TIMESTAMP_FOLDER "timestamps" /* in the data folder: <size>.token */
#define TIMESTAMP_CA_MAX 262144	      /* bytes of PEM */

/* A request (RFC 3161 2.4.1) in DER: SHA-256 of @text, a fresh nonce, the certificates, please. */
MUST_USE bool timestamp_request(struct str text, struct buf *out, struct err *e);

/* Check the @response to @request: granted, the same nonce and imprint, and that of @text, signed
 * by an authority under the certificates @ca (PEM) for time stamping. Its token is appended. */
MUST_USE bool timestamp_answer(struct str response, struct str request, struct str text,
			       struct str ca, struct buf *token, int64_t *at_s, struct err *e);

/* Is @token over @text? With @ca (p != NULL) also: signed by an authority under it, whose
 * certificate was good at the time that the token says. */
MUST_USE bool timestamp_verify(struct str token, struct str text, struct str ca, int64_t *at_s,
			       struct err *e);

/* ---- in notes ---- */

void timestamp_line(struct str token, struct buf *out);
/* The token of the first such line, appended to @token. False: there is none. */
MUST_USE bool timestamp_find(const struct note *n, struct buf *token);

/* ---- beside the checkpoints ---- */

MUST_USE bool timestamp_store(const char *folder, uint64_t size, struct str token, struct err *e);
/* Put the line of the token that is stored for this checkpoint behind @note, if there is one. */
void timestamp_add(const char *folder, struct buf *note);
/* Records of the newest checkpoint that has one; 0: none. */
uint64_t timestamp_newest(const char *folder);

#endif
