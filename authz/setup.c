#include "authz/setup.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/audit/mask.h"
#include "spiffe/x509_svid.h"

#define REFRESH_HINT_S 300

struct caller_rules *setup_callers(const struct config *c, struct err *e)
{
	struct caller_rules *r = caller_rules_new();

	if (r)
		r->rules = arena_zero(&r->arena, (c->ncallers + 1) * sizeof(*r->rules));
	if (!r || !r->rules) {
		if (r)
			shared_release(&r->shared);
		err_set(e, ERR_NOMEM, "no memory for the list of callers");
		return NULL;
	}
	r->own_uid = geteuid();
	for (size_t i = 0; i < c->ncallers; i++) {
		const struct config_caller *from = &c->callers[i];
		struct caller_rule *to = &r->rules[r->n];

		if (from->spiffe_id)
			to->spiffe_id = arena_dup(&r->arena, str_c(from->spiffe_id));
		to->by_uid = !from->spiffe_id;
		to->uid = from->uid;
		to->roles = from->roles;
		to->server = arena_dup(&r->arena, str_c(from->server));
		to->bare = from->bare;
		/* An entry whose pattern could not be copied would match nobody: fail closed. */
		if (!from->spiffe_id || to->spiffe_id.p)
			r->n++;
	}
	return r;
}

/* The file of a secret: as configured, or systemd's of that name. */
static bool secret_file(const char *setting, const char *file, const char *name,
			const char *credentials, struct arena *a, const char **out, struct err *e)
{
	*out = file;
	if (!name)
		return true;
	if (!credentials || !*credentials)
		return err_set(e, ERR_INVALID,
			       "%s: no $CREDENTIALS_DIRECTORY is set, so there is no credential "
			       "\"%s\"; start writ as a systemd service with "
			       "LoadCredential=%s:PATH",
			       setting, name, name);
	*out = arena_printf(a, "%s/%s", credentials, name).p;
	return *out || err_set(e, ERR_NOMEM, "no memory");
}

bool setup_keys(const struct config *c, const char *credentials, struct arena *a,
		struct signer_config *out, struct err *e)
{
	const char *pin = NULL;

	if (!secret_file("keys.encrypt", c->keys.file, c->keys.credential, credentials, a,
			 &out->key_file, e) ||
	    !secret_file("authority.pkcs11.pin", c->authority.pkcs11.pin_file,
			 c->authority.pkcs11.pin_credential, credentials, a, &pin, e))
		return false;
	out->token = (struct signer_token_config){
		.module = c->authority.pkcs11.module,
		.pin_file = pin,
		.uris = { [AUTHORITY_X509] = c->authority.pkcs11.uris[0],
			  [AUTHORITY_JWT] = c->authority.pkcs11.uris[1] },
		.network = c->authority.pkcs11.network,
		.leave = c->authority.pkcs11.leave,
	};
	out->upstream = (struct upstream_files){ .certificate = c->authority.certificate,
						 .key = c->authority.key,
						 .bundle = c->authority.bundle,
						 .constrain = c->authority.name_constraints };
	return true;
}

unsigned setup_require(const struct config *c)
{
	unsigned require = 0;

	for (size_t i = 0; i < c->registry.require.nnames; i++) {
		if (strcmp(c->registry.require.names[i], "purpose") == 0)
			require |= REGISTRY_REQUIRE_PURPOSE;
		if (strcmp(c->registry.require.names[i], "expires") == 0)
			require |= REGISTRY_REQUIRE_EXPIRES;
	}
	return require;
}

static struct str *strings_of(const struct config_names *from, struct arena *a)
{
	struct str *out = arena_zero(a, (from->nnames + 1) * sizeof(*out));

	for (size_t i = 0; out && i < from->nnames; i++)
		out[i] = str_c(from->names[i]);
	return out;
}

static const struct attest_issuer *issuers_of(const struct config_issuers *from,
					      const struct config_issuers *users, struct arena *a)
{
	struct attest_issuer *out = arena_zero(a, (from->n + 1) * sizeof(*out));

	for (size_t i = 0; out && i < from->n; i++) {
		const struct config_issuer *k = &from->items[i];

		out[i] = (struct attest_issuer){ .cluster = str_c(k->cluster),
						 .issuer = str_c(k->issuer),
						 .audience = str_c(k->audience),
						 .jwks = str_c(k->jwks),
						 .ca_file = k->ca_file,
						 .claims = strings_of(&k->claims, a),
						 .nclaims = k->claims.nnames,
						 .scopes = str_c(k->scopes),
						 .users = from == users,
						 .reuse = k->reuse };
		if (!out[i].claims)
			return NULL;
	}
	return out;
}

bool setup_mask(const struct config *c, struct arena *a, const struct mask **out, struct err *e)
{
	struct mask *m = NULL;

	*out = NULL;
	if (c->audit.mask.nnames) {
		m = arena_zero(a, sizeof(*m));
		if (!m)
			return err_set(e, ERR_NOMEM, "no memory for audit.mask");
	}
	for (size_t i = 0; i < c->audit.mask.nnames; i++) {
		struct str rule = str_c(c->audit.mask.names[i]), kind, what;

		/* Tried when the file was read. */
		if (!str_cut(rule, ' ', &kind, &what) ||
		    !(str_eq(kind, STR("field")) ? mask_add_field : mask_add_detector)(m, what, e))
			return false;
	}
	*out = m;
	return true;
}

const struct attest_config *setup_attest(const struct config *c, struct arena *a)
{
	const struct config_issuers *users = &c->delegation.users;
	struct attest_config *out = arena_zero(a, sizeof(*out));
	struct str *files = strings_of(&c->attest.x509pop, a);

	for (size_t i = 0; files && i < c->attest.x509pop.nnames; i++) {
		const char *path = c->attest.x509pop.names[i];

		/* Relative paths count from the configuration, as everywhere. */
		files[i] = path[0] == '/' ? str_c(path) : arena_printf(a, "%s/%s", c->base, path);
		if (!files[i].p)
			return NULL;
	}
	if (!out || !files)
		return NULL;
	*out = (struct attest_config){ .oidc = issuers_of(&c->attest.oidc, users, a),
				       .noidc = c->attest.oidc.n,
				       .k8s = issuers_of(&c->attest.k8s, users, a),
				       .nk8s = c->attest.k8s.n,
				       .users = issuers_of(users, users, a),
				       .nusers = users->n,
				       .x509pop = files,
				       .nx509pop = c->attest.x509pop.nnames,
				       .leeway_s = c->ttl.leeway_s,
				       .refresh_s = c->attest.refresh_s,
				       .keep_s = c->attest.keep_s };
	return out->oidc && out->k8s && out->users ? out : NULL;
}

struct bundle_set *setup_bundle(const struct config *c, const struct signer_public *p,
				struct err *e)
{
	struct bundle_set *set = bundle_set_new(1, e);
	struct bundle *b;

	if (!set)
		return NULL;
	if (!bundle_set_add(set, str_c(c->trust_domain), 1, REFRESH_HINT_S, &b, e) ||
	    (p->authority.n && !bundle_add_authority(b, p->authority, e)) ||
	    (p->jwt_kid.n && !bundle_add_jwt_key(b, p->jwt_kid, p->jwt_spki, e))) {
		bundle_set_release(set);
		return NULL;
	}
	return set;
}

bool setup_listeners(const struct config *c, struct arena *a, struct listener **out, size_t *n,
		     struct err *e)
{
	struct listener *l = arena_zero(a, (c->nlisteners + 1) * sizeof(*l));
	struct listener_caller *who = arena_zero(a, (c->nlisteners + 1) * sizeof(*who));

	if (!l || !who)
		return err_set(e, ERR_NOMEM, "no memory for the listeners");
	*n = 0;
	for (size_t i = 0; i < c->nlisteners * DOOR_COUNT; i++) {
		const struct config_listener *from = &c->listeners[i % c->nlisteners];

		if (from->door != (enum config_door)(i / c->nlisteners))
			continue;
		l[*n] = (struct listener){ .name = config_door_names[from->door],
					   .address = from->address,
					   .loopback = from->loopback || from->unix_socket,
					   .unix_socket = from->unix_socket,
					   .tls = from->tls,
					   .processes = from->door == DOOR_WORKLOAD,
					   .web = from->door == DOOR_WEB,
					   .user = &who[*n] };
		who[(*n)++] = (struct listener_caller){ .roles = from->caller_roles,
							.id = str_c(from->caller_id),
							.server = str_c(from->server),
							.protocol = str_c(from->protocol),
							.admin_socket = from->door == DOOR_ADMIN };
	}
	*out = l;
	return true;
}

unsigned setup_admin_mode(const struct config *c)
{
	for (size_t i = 0; i < c->ncallers; i++)
		if (!c->callers[i].spiffe_id && c->callers[i].uid != geteuid())
			return 0666;
	return 0600;
}

const char *setup_fixed_caller(const struct config_listener *l, struct arena *a)
{
	if (!l->caller_roles && !l->caller_id)
		return NULL;
	return arena_printf(a,
			    "listen.%s (%s): whoever reaches it is taken for %s; remove `caller` "
			    "and let callers prove who they are",
			    config_door_names[l->door], l->address,
			    l->caller_id		   ? l->caller_id
			    : l->caller_roles & ROLE_ADMIN ? "an admin"
			    : l->caller_roles & ROLE_PEP   ? "a PEP that may ask about any agent"
							   : "a caller with a role")
		.p;
}

const struct finding *setup_findings(const struct config *c, struct arena *a, size_t *n)
{
	struct finding *f = arena_zero(a, (c->nlisteners + 6) * sizeof(*f));

	*n = 0;
	if (!f)
		return NULL;
	for (size_t i = 0; i < c->nlisteners; i++) {
		f[*n].name = "fixed_caller";
		f[*n].message = setup_fixed_caller(&c->listeners[i], a);
		if (f[*n].message)
			++*n;
	}
	if (c->fetch.private_ok) {
		f[*n].name = "private_fetch";
		f[(*n)++].message =
			"fetch.private is set: writ fetches from loopback and private addresses "
			"too, so whoever may add a relationship can make it reach inside";
	}
	if (c->authority.pkcs11.module) {
		f[*n].name = "pkcs11_module";
		f[(*n)++].message =
			c->authority.pkcs11.network
				? "authority.pkcs11.network is set: the process with the token's "
				  "module may open files and connect to other machines"
				: "authority.pkcs11 is set: the process with the token's module "
				  "may open files and local sockets, which the signer may not";
	}
#ifdef WRIT_BENCH_UNRECORDED
	f[*n].name = "no_records";
	f[(*n)++].message = "this is the build of `make bench` that keeps no records; it is not "
			    "writ: use build/writ";
#endif
	if (setup_admin_mode(c) != 0600) {
		f[*n].name = "admin_socket_shared";
		f[(*n)++].message =
			"the admin socket is open to all local users, each checked by uid, "
			"because `callers` names other Unix users";
	}
	if (geteuid() == 0) {
		f[*n].name = "runs_as_root";
		f[(*n)++].message =
			"the server runs as root, which it does not need; run it as a user "
			"of its own";
	}
	return f;
}

#ifdef WRIT_BENCH_UNRECORDED
/* The build of `make bench` that answers without a record. Nobody may take it for writ. */
bool setup_may_run(const struct config *c, struct err *e)
{
	for (size_t i = 0; i < c->nlisteners; i++)
		if (!c->listeners[i].loopback && !c->listeners[i].unix_socket)
			return err_set(
				e, ERR_INVALID,
				"this is the build of `make bench` that keeps no records; it "
				"serves loopback and Unix sockets only, not %s",
				c->listeners[i].address);
	fprintf(stderr,
		"\n  *** THIS BUILD KEEPS NO RECORDS OF ITS DECISIONS. It measures what records "
		"cost\n  *** (`make bench`) and is not writ: never let anything depend on it.\n\n");
	return true;
}
#else
bool setup_may_run(const struct config *c, struct err *e)
{
	(void)c;
	(void)e;
	return true;
}
#endif

/* ---- client certificates ---- */

static bool verify_chain(struct core *core, STACK_OF(X509) * chain, struct x509_svid *svid,
			 uint64_t *generation, struct err *e)
{
	struct bundle_set *set = (struct bundle_set *)slot_acquire(&core->bundles);
	bool ok;

	if (!set)
		return err_set(e, ERR_UNAUTHENTICATED, "writ has no trust bundle yet");
	ok = x509_svid_verify(set, chain, clock_wall_ms(core->clock) / 1000, svid, e);
	*generation = set->generation;
	bundle_set_release(set);
	return ok;
}

static bool verify(void *ctx, STACK_OF(X509) * chain, struct tls_identity *out, struct err *e)
{
	struct x509_svid svid = { 0 };

	if (!verify_chain(ctx, chain, &svid, &out->generation, e))
		return false;
	snprintf(out->spiffe_id, sizeof(out->spiffe_id), "%s", svid.text);
	out->expires_ms = svid.not_after_s * 1000;
	return true;
}

/* Asked before each request: one clock read and one atomic load when nothing changed. */
static bool still_valid(void *ctx, struct peer *p, struct err *e)
{
	struct core *core = ctx;
	struct x509_svid svid = { 0 };

	if (p->expires_ms <= clock_wall_ms(core->clock))
		return err_code(e, ERR_UNAUTHENTICATED, "certificate_expired",
				"the client certificate has expired; connect again with a new one");
	if (p->generation == atomic_load_explicit(&core->bundles.version, memory_order_acquire))
		return true;
	svid.not_after_s = 0;
	if (!p->chain || !verify_chain(core, p->chain, &svid, &p->generation, e))
		return err_prefix(e, "the trust bundle changed");
	p->expires_ms = svid.not_after_s * 1000;
	return true;
}

struct tls_verifier setup_verifier(struct core *core)
{
	return (struct tls_verifier){ verify, still_valid, core };
}
