/*
 * setup - from settings to what the floors below take.
 *
 * Purpose    Each module takes its own small struct and reads no setting. Here the one struct
 *            config is turned into caller rules, listeners, the trust bundle and the list of
 *            weakened defaults.
 * Ownership  Results borrow from the config, which must outlive them, but for the snapshots.
 * Threads    Start-up and the main thread (SIGHUP).
 */
#ifndef WRIT_SETUP_H
#define WRIT_SETUP_H

#include "authz/config.h"
#include "authz/decide/worker.h"
#include "authz/net/tls.h"
#include "authz/server/service.h"
#include "spiffe/attest.h"

/* `callers` as a snapshot; the caller publishes it. NULL with @e: out of memory. */
struct caller_rules *setup_callers(const struct config *c, struct err *e);

/* Where the signer's keys come from and what encrypts them: @out's key_file, upstream and token.
 * @credentials is $CREDENTIALS_DIRECTORY or NULL. */
MUST_USE bool setup_keys(const struct config *c, const char *credentials, struct arena *a,
			 struct signer_config *out, struct err *e);

/* `registry.require` as a sum of enum registry_require. */
unsigned setup_require(const struct config *c);

/* `audit.mask` compiled, in @a. *@out is NULL if there are no rules. */
struct mask;
MUST_USE bool setup_mask(const struct config *c, struct arena *a, const struct mask **out,
			 struct err *e);

/* `attest` as its module takes it; texts and lists in @a or the config. NULL: out of memory. */
const struct attest_config *setup_attest(const struct config *c, struct arena *a);

/* The trust bundle of our own domain: what the signer made public. It holds until the control
 * thread publishes that of all authorities (decide/authorities.h), before a door opens. */
struct bundle_set *setup_bundle(const struct config *c, const struct signer_public *p,
				struct err *e);

/* The listeners, in the order of the doors, with their fixed callers behind
 * `user`; in @a. */
MUST_USE bool setup_listeners(const struct config *c, struct arena *a, struct listener **out,
			      size_t *n, struct err *e);

/* 0600, or 0666 if other Unix users may be somebody (each is then checked by its uid). */
unsigned setup_admin_mode(const struct config *c);

/* What the fixed caller of @l means, for whoever runs it; in @a. NULL: it has none. */
const char *setup_fixed_caller(const struct config_listener *l, struct arena *a);

/* Every weakened default, by name. */
const struct finding *setup_findings(const struct config *c, struct arena *a, size_t *n);

/* False: this build must not serve what @c says (the one of `make bench` that keeps no records). */
MUST_USE bool setup_may_run(const struct config *c, struct err *e);

/* How client certificates are judged: against the core's bundle. @ctx is the core. */
struct tls_verifier setup_verifier(struct core *core);

#endif
