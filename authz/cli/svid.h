/*
 * svid - an X.509-SVID on disk: obtain one, look at the one that is there.
 *
 * Purpose    What `writ svid x509` does once and `writ svid watch` does again and again. The key is
 *            made here; what the server gives is verified before it replaces anything.
 * Ownership  Results are copied into the caller's storage.
 * Threads    One owner.
 */
#ifndef WRIT_CLI_SVID_H
#define WRIT_CLI_SVID_H

#include <openssl/evp.h>
#include <sys/types.h>

#include "authz/cli/api.h"
#include "spiffe/id.h"

#define SVID_DIR_DEFAULT "."

/* How the files are left. */
struct svid_files {
	const char *dir;
	mode_t key_mode; /* of key.pem and of tokens; the others are 0644 */
	uid_t owner;	 /* (uid_t)-1: as whoever runs */
	gid_t group;
};

struct svid_found {
	char spiffe_id[SPIFFE_ID_MAX + 1];
	int64_t from_s, to_s; /* its life */
};

/* --dir, --key-mode, --owner. */
MUST_USE bool svid_files_of(const struct cli *c, struct svid_files *out, struct err *e);

/* The SVID in the folder, if it holds at @now_s under the bundle beside it and the key is its own.
 * A key left behind by a power cut is put back first. False: why not. */
MUST_USE bool svid_on_disk(const struct svid_files *files, int64_t now_s, struct svid_found *out,
			   struct err *e);

/* Our own SVID in the folder stands in for --svid, --key and --bundle that are not given. @own
 * holds the paths and has to stay. */
struct svid_own {
	char svid[4096], key[4096], bundle[4096];
};
void svid_use_own(const struct cli *c, struct svid_own *own, struct api *api);

/* Is a proof for attestation among the options: --join-token, --oidc-token, --k8s-token, --x509pop?
 */
bool svid_proof_given(const struct cli *c);

/* Append the one proof that is given, and --name, as members of a request for /v1/attest, each with
 * a comma behind. For
 * --x509pop the server is asked for a nonce, and what is signed names @subject, the key to be
 * certified. */
MUST_USE bool svid_proof_put(const struct cli *c, const struct api *api, EVP_PKEY *subject,
			     struct buf *body, struct err *e);

/* Is @svid (PEM, leaf first) an SVID for @key and @id under @bundle? If so the three files are
 * replaced. */
MUST_USE bool svid_keep(const struct svid_files *files, EVP_PKEY *key, struct str id,
			struct str svid, struct str bundle, struct svid_found *out, struct err *e);

/* From the Workload API at --socket: the identity of --id, else the default one. */
MUST_USE bool svid_from_workload(const struct cli *c, const struct svid_files *files,
				 struct svid_found *out, struct err *e);
/* A JWT-SVID as --audience and --id want it. */
MUST_USE bool svid_token_from_workload(struct cli *c, struct buf *token, struct err *e);
/* Append to @token one for @audience; @id: this identity, empty: the default one. */
MUST_USE bool svid_token_for(const char *uri, struct str audience, struct str id, struct buf *token,
			     struct err *e);

/* Replace the file @name in the folder. */
MUST_USE bool svid_put_file(const struct svid_files *files, const char *name, struct str text,
			    mode_t mode, struct err *e);

/* The same from a message of FetchX509SVID. */
MUST_USE bool svid_from_message(const struct cli *c, struct str message,
				const struct svid_files *files, struct svid_found *out,
				struct err *e);

/* Get a new one: with @by_proof by the proof given, else over mutual TLS with the one in the
 * folder. On success the three files are replaced. */
MUST_USE bool svid_obtain(struct cli *c, const struct svid_files *files, bool by_proof,
			  struct svid_found *out, struct err *e);

/* Bring bundle.pem up to date by GET /bundle; *changed tells. *next_s: when to look again, in
 * seconds, as the bundle says. */
MUST_USE bool svid_refresh_bundle(struct cli *c, const struct svid_files *files, bool *changed,
				  int64_t *next_s, struct err *e);

#endif
