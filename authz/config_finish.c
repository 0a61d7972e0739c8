/*
 * What settings mean together: names that others compare byte for byte, files that go in pairs,
 * limits that contradict each other. Each is read by its type before (config_read.c).
 */
#include <string.h>
#include <unistd.h>

#include "authz/config_table.h"
#include "authz/decide/signing.h"
#include "authz/net/fetch.h"
#include "spiffe/id.h"
#include "spiffe/pkcs11_uri.h"

static bool finish_trust_domain(struct config_reader *r)
{
	struct err why = { 0 };
	struct str name;

	if (!spiffe_trust_domain_parse(str_c(r->c->trust_domain), &name, &why))
		return config_fail(r, "trust_domain", "%s", why.msg);
	name = arena_dup(&r->c->arena, name);
	if (!name.p)
		return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	r->c->trust_domain = name.p;
	return true;
}

/* Data folder and store name each other: "sqlite:<data>/writ.db". */
static bool finish_data(struct config_reader *r, bool data_given)
{
	struct config *c = r->c;
	const char *file;
	size_t n;

	if (c->store) {
		if (strncmp(c->store, "postgresql:", 11) == 0)
			return config_fail(r, "store",
					   "PostgreSQL is not part of this version; use "
					   "\"sqlite:FOLDER/writ.db\"");
		if (strncmp(c->store, "sqlite:", 7) != 0)
			return config_fail(r, "store",
					   "expected \"sqlite:FOLDER/writ.db\", got \"%.100s\"",
					   c->store);
		file = config_path(r, c->store + 7);
		if (!file)
			return false;
		n = strlen(file);
		if (!str_ends(str_c(file), STR("/writ.db")) || n == strlen("/writ.db"))
			return config_fail(
				r, "store",
				"the file must be called writ.db, in a folder of its own "
				"that holds all of writ's data");
		file = arena_dup(&c->arena, (struct str){ file, n - strlen("/writ.db") }).p;
		if (!file)
			return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
		if (data_given && strcmp(config_path(r, c->data), file) != 0)
			return config_fail(r, "store",
					   "is in %s, but data says %s; they are one folder: leave "
					   "one of them out",
					   file, c->data);
		c->data = file;
	} else {
		c->data = config_path(r, c->data);
	}
	if (!c->data)
		return false;
	c->store = arena_printf(&c->arena, "sqlite:%s/writ.db", c->data).p;
	return c->store ? true : err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
}

/* Letters of a host name only: the node's name stands in every record. */
static bool finish_node(struct config_reader *r)
{
	char host[64] = "";
	bool given = r->c->node != NULL;

	if (!given) {
		if (gethostname(host, sizeof(host) - 1))
			strcpy(host, "localhost");
		for (char *p = host; *p; p++) {
			if (*p >= 'A' && *p <= 'Z')
				*p = (char)(*p + 32);
			if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789.-", *p))
				*p = '-';
		}
		r->c->node = arena_dup(&r->c->arena, str_c(*host ? host : "localhost")).p;
		return r->c->node ? true : err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	}
	if (!*r->c->node ||
	    strspn(r->c->node, "abcdefghijklmnopqrstuvwxyz0123456789.-") != strlen(r->c->node))
		return config_fail(r, "node",
				   "\"%s\": expected small letters, digits, \".\" and \"-\"",
				   r->c->node);
	return true;
}

/* It is compared byte for byte by others, and URLs are put together from it. */
static bool finish_public_url(struct config_reader *r)
{
	const char *url = r->c->public_url, *host;

	if (!url)
		return true;
	host = strncmp(url, "https://", 8) == 0 ? url + 8 : "";
	for (const char *p = url; *p; p++)
		if (*p <= ' ' || *p >= 0x7f || strchr("?#\"\\<>^`{|}@", *p))
			host = "";
	if (*host && *host != '/' && *host != ':')
		return true;
	return config_fail(r, "public_url",
			   "expected \"https://HOST\" or \"https://HOST/PATH\" without user, query "
			   "and fragment, got \"%.100s\"",
			   url);
}

static bool finish_policy_keys(struct config_reader *r)
{
	struct signing_keys keys;
	struct err why = { 0 };

	if (!r->c->policies.key || signing_keys_parse(str_c(r->c->policies.key), &keys, &why))
		return true;
	return config_fail(r, "policies.key",
			   "%s; expected what `writ policy sign --key FILE` prints", why.msg);
}

/* "file:PATH" or "credential:NAME"; a name has no way out of its folder. */
static bool finish_secret(struct config_reader *r, const char *setting, const char *text,
			  const char **file, const char **credential)
{
	if (!text)
		return true;
	if (strncmp(text, "file:", 5) == 0 && text[5]) {
		*file = config_path(r, text + 5);
		return *file != NULL;
	}
	if (strncmp(text, "credential:", 11) == 0 && text[11] && text[11] != '.' &&
	    !strchr(text + 11, '/')) {
		*credential = text + 11;
		return true;
	}
	return config_fail(r, setting,
			   "expected \"file:PATH\" or \"credential:NAME\" (LoadCredential= of "
			   "systemd), got \"%.100s\"",
			   text);
}

static bool finish_keys(struct config_reader *r)
{
	struct config *c = r->c;

	return finish_secret(r, "keys.encrypt", c->keys.encrypt, &c->keys.file,
			     &c->keys.credential) &&
	       finish_secret(r, "authority.pkcs11.pin", c->authority.pkcs11.pin,
			     &c->authority.pkcs11.pin_file, &c->authority.pkcs11.pin_credential);
}

/* Module, PIN and at least one token go together. */
static bool finish_pkcs11(struct config_reader *r)
{
	static const char *const names[] = { "authority.pkcs11.x509", "authority.pkcs11.jwt" };
	struct config *c = r->c;
	bool any = false;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *uri = c->authority.pkcs11.uris[i];
		struct pkcs11_uri parsed;
		struct err e = { 0 };

		if (uri && !pkcs11_uri_parse(str_c(uri), &parsed, &e))
			return config_fail(r, names[i], "%s", e.msg);
		any = any || uri;
	}
	if (!any != !c->authority.pkcs11.module || !any != !c->authority.pkcs11.pin)
		return config_fail(r,
				   !any				? names[0]
				   : c->authority.pkcs11.module ? "authority.pkcs11.pin"
								: "authority.pkcs11.module",
				   "is missing: keys in a token need module, pin, and x509 or jwt "
				   "or both");
	if (!any && (c->authority.pkcs11.network || c->authority.pkcs11.leave))
		return config_fail(r, "authority.pkcs11", "says nothing without a module");
	if (any)
		c->authority.pkcs11.module = config_path(r, c->authority.pkcs11.module);
	return !any || c->authority.pkcs11.module;
}

/* Certificate, key and bundle go together. */
static bool finish_upstream(struct config_reader *r)
{
	struct config *c = r->c;
	const struct {
		const char *name, **path;
	} files[] = {
		{ "authority.upstream.certificate", &c->authority.certificate },
		{ "authority.upstream.key", &c->authority.key },
		{ "authority.upstream.bundle", &c->authority.bundle },
	};
	bool any = c->authority.certificate || c->authority.key || c->authority.bundle;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		if (any && !*files[i].path)
			return config_fail(r, files[i].name,
					   "is missing: an upstream needs certificate, key and "
					   "bundle");
		if (any && !(*files[i].path = config_path(r, *files[i].path)))
			return false;
	}
	if (c->authority.name_constraints && !any)
		return config_fail(r, "authority.upstream.name_constraints",
				   "says nothing without an upstream");
	return true;
}

static bool finish_listeners(struct config_reader *r)
{
	struct config *c = r->c;

	for (size_t i = 0; i < config_nsettings; i++) {
		const struct setting *s = &config_settings[i];
		const char *address = s->initial;

		if (s->type != SET_LISTEN || r->door_set[s->offset] ||
		    strcmp(s->initial, "none") == 0)
			continue;
		if (str_starts(str_c(address), STR("<data>")))
			address = arena_printf(&c->arena, "%s%s", c->data, address + 6).p;
		if (!address)
			return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
		if (!config_add_listener(r, s->name, (enum config_door)s->offset, address, NULL))
			return false;
	}
	c->listeners = arena_alloc(&c->arena, r->nlisteners * sizeof(*c->listeners));
	if (!c->listeners)
		return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	memcpy(c->listeners, r->listeners, r->nlisteners * sizeof(*c->listeners));
	c->nlisteners = r->nlisteners;
	return true;
}

/* Others compare it byte for byte, and put a well-known path into it. */
static bool check_issuer(struct config_reader *r, const char *name, const char *url)
{
	struct fetch_url parsed;

	if (!url || (fetch_url_parse(str_c(url), &parsed, NULL) && !strchr(url, '?') &&
		     !str_ends(str_c(url), STR("/"))))
		return true;
	return config_fail(
		r, name,
		"expected \"https://HOST\" or \"https://HOST/PATH\" without a slash at the "
		"end, user, query and fragment, got \"%.100s\"",
		url);
}

/* Two names: who takes a JWT-SVID as proof of an identity, and looks at neither typ nor act, must
 * not take a delegated token for one. */
static bool finish_issuers(struct config_reader *r)
{
	const char *svids = r->c->jwt.issuer, *tokens = r->c->delegation.issuer;

	if (!check_issuer(r, "jwt.issuer", svids) || !check_issuer(r, "delegation.issuer", tokens))
		return false;
	return !svids || !tokens || strcmp(svids, tokens) != 0 ||
	       config_fail(
		       r, "delegation.issuer",
		       "is also jwt.issuer; relying parties tell JWT-SVIDs and delegated tokens "
		       "apart by it, so give it a path of its own, as \"%.200s/delegation\"",
		       svids);
}

/* Files of the outside world, by absolute paths. */
static bool finish_files(struct config_reader *r)
{
	const char **files[] = { &r->c->fetch.ca_file, &r->c->tls.web.certificate,
				 &r->c->tls.web.key };

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (*files[i] && !(*files[i] = config_path(r, *files[i])))
			return false;
	if (!r->c->tls.web.certificate != !r->c->tls.web.key)
		return config_fail(r, "tls.web", "certificate and key belong together: give both");
	if (r->door_set[DOOR_WEB] != (r->c->tls.web.key != NULL))
		return config_fail(r, r->door_set[DOOR_WEB] ? "listen.web" : "tls.web",
				   "listen.web and tls.web belong together: the address, and the "
				   "certificate and key that it shows");
	return true;
}

bool config_finish(struct config_reader *r, bool data_given)
{
	struct config *c = r->c;

	if (!finish_trust_domain(r) || !finish_data(r, data_given) || !finish_node(r) ||
	    !finish_public_url(r) || !finish_issuers(r) || !finish_files(r) ||
	    !finish_policy_keys(r) || !finish_keys(r) || !finish_upstream(r) || !finish_pkcs11(r) ||
	    !finish_listeners(r))
		return false;
	c->policies.dir = config_path(r, c->policies.dir);
	if (!c->policies.dir)
		return false;
	if (c->limits.in_flight < c->limits.body)
		return config_fail(r, "limits.in_flight",
				   "is smaller than limits.body, so that no full request would "
				   "ever be let in; raise it or lower the other");
	if (c->limits.queue < c->limits.batch)
		return config_fail(r, "limits.queue",
				   "is smaller than limits.batch, so that the records of a full "
				   "batch would never be taken; raise it or lower the other");
	if (c->limits.request_ms < c->limits.decision_ms)
		return config_fail(r, "limits.request",
				   "is shorter than limits.decision; a decision is part of a "
				   "request");
	return true;
}
