/* attest.oidc and attest.k8s: whose tokens attest agents, and by which keys; delegation.users:
 * whose say for which user an agent acts. */
#include "authz/base/text.h"
#include "authz/config_table.h"
#include "authz/net/fetch.h"
#include "spiffe/attest_source.h"
#include "spiffe/delegated_token.h"

#define CLAIMS_MAX 16

static const char *const oidc_members[] = { "issuer", "audience", "jwks", "ca_file",
					    "claims", "reuse",	  NULL };
static const char *const k8s_members[] = { "cluster", "issuer", "audience", "jwks",
					   "ca_file", "reuse",	NULL };

static const char *const user_members[] = {
	"issuer", "audience", "jwks", "ca_file", "scopes", NULL
};

/* As the settings' rows say in their `min`. */
enum kind { KIND_OIDC, KIND_K8S, KIND_USERS, KINDS };
static const char *const *const members_of[KINDS] = { oidc_members, k8s_members, user_members };

static bool is_https(const char *url)
{
	if (strncmp(url, "https://", 8) != 0 || !url[8] || url[8] == '/')
		return false;
	for (const char *p = url; *p; p++)
		if (*p <= ' ' || *p >= 0x7f || strchr("\"\\<>^`{|}@#", *p))
			return false;
	return true;
}

/* Where keys are: never the token's own say. */
static bool read_jwks(struct config_reader *r, const char *path, struct config_issuer *k)
{
	const char *text = config_string(r, path, 1, 4096);
	struct fetch_url url;
	struct err e = { 0 };

	if (!text)
		return false;
	k->jwks = text;
	if (strcmp(text, ATTEST_DISCOVER) == 0)
		return true;
	if (strncmp(text, "https:", 6) == 0)
		return fetch_url_parse(str_c(text), &url, &e) ||
		       config_fail(r, path, "\"%.100s\": %s", text, e.msg);
	if (strncmp(text, "file:", 5) != 0 || !text[5])
		return config_fail(r, path,
				   "expected \"file:PATH\" or the https URL of a JWK set, or "
				   "\"" ATTEST_DISCOVER "\", got \"%.100s\"",
				   text);
	text = config_path(r, text + 5);
	k->jwks = text ? arena_printf(&r->c->arena, "file:%s", text).p : NULL;
	return k->jwks || err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
}

static bool read_ca_file(struct config_reader *r, const char *path, struct config_issuer *k)
{
	const char *text = config_string(r, path, 1, 4096);

	k->ca_file = text ? config_path(r, text) : NULL;
	return k->ca_file != NULL;
}

/* Members that only make sense together. */
static bool check_source(struct config_reader *r, const char *path, const struct config_issuer *k)
{
	char url[FETCH_URL_MAX + 1];
	struct fetch_url parts;
	struct err e = { 0 };

	if (k->ca_file && strncmp(k->jwks, "file:", 5) == 0)
		return config_fail(r, path, "ca_file is of no use: its jwks is a file, not a URL");
	if (strcmp(k->jwks, ATTEST_DISCOVER) != 0)
		return true;
	if (strchr(k->issuer, '?'))
		return config_fail(r, path,
				   "an issuer with a query has no discovery document; say where "
				   "its jwks is");
	if (!attest_discovery_url(str_c(k->issuer), url) ||
	    !fetch_url_parse(str_c(url), &parts, &e))
		return config_fail(r, path, "nothing can be fetched from that issuer: %s", e.msg);
	return true;
}

/* Selector keys: "oidc:CLAIM:VALUE" is cut at its colons, and a template's key at its dots. */
static bool read_claims(struct config_reader *r, const char *path, struct config_issuer *k)
{
	static const char *const own[] = { "iss", "sub", "aud", "exp", "nbf", "iat", "jti", NULL };

	if (!config_read_names(r, path, CLAIMS_MAX, NULL, &k->claims))
		return false;
	for (size_t i = 0; i < k->claims.nnames; i++) {
		const char *name = k->claims.names[i];

		for (size_t j = 0; own[j]; j++)
			if (strcmp(own[j], name) == 0)
				return config_fail(r, path,
						   "\"%s\" is not for this list: iss and sub are "
						   "selectors already, and the others say when a "
						   "token is good",
						   name);
		if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				 "0123456789_-") != strlen(name))
			return config_fail(r, path,
					   "\"%s\": a claim has letters, digits, \"_\" and \"-\"",
					   name);
	}
	return true;
}

/* As they stand in a token: one text, with one blank between them. */
static bool read_scopes(struct config_reader *r, const char *path, struct config_issuer *k)
{
	struct config_names names;
	bool blank = false;
	struct buf b;

	if (!config_read_names(r, path, CLAIMS_MAX, NULL, &names))
		return false;
	buf_in_arena(&b, &r->c->arena, DELEGATED_SCOPE_MAX + 1);
	for (size_t i = 0; i < names.nnames; i++) {
		if (i)
			buf_char(&b, ' ');
		buf_add(&b, str_c(names.names[i]));
		blank |= strchr(names.names[i], ' ') != NULL;
	}
	if (blank || !delegated_scope_valid(buf_str(&b)))
		return config_fail(r, path,
				   "scopes are names of printable ASCII without blanks, quotes and "
				   "backslashes, each there once");
	buf_char(&b, '\0');
	k->scopes = buf_ok(&b) ? b.p : NULL;
	return k->scopes || err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
}

static bool read_bool(struct config_reader *r, const char *path, bool *out)
{
	if (lua_type(r->L, -1) != LUA_TBOOLEAN)
		return config_fail_type(r, path, "true or false");
	*out = lua_toboolean(r->L, -1);
	return true;
}

struct draft {
	struct config_issuer *k;
	enum kind kind;
};

static bool read_member(struct config_reader *r, const char *path, const char *name, void *draft)
{
	struct config_issuer *k = ((struct draft *)draft)->k;
	enum kind kind = ((struct draft *)draft)->kind;

	if (strcmp(name, "issuer") == 0) {
		k->issuer = config_string(r, path, 9, 1024);
		return k->issuer && (is_https(k->issuer) ||
				     config_fail(r, path,
						 "expected the https URL that stands as \"iss\" in "
						 "its tokens, got \"%.100s\"",
						 k->issuer));
	}
	if (strcmp(name, "audience") == 0)
		return (k->audience = config_string(r, path, 1, 1024)) != NULL;
	if (strcmp(name, "jwks") == 0)
		return read_jwks(r, path, k);
	if (strcmp(name, "ca_file") == 0)
		return read_ca_file(r, path, k);
	if (kind == KIND_USERS && strcmp(name, "scopes") == 0)
		return read_scopes(r, path, k);
	if (kind != KIND_USERS && strcmp(name, "reuse") == 0)
		return read_bool(r, path, &k->reuse);
	if (kind == KIND_K8S && strcmp(name, "cluster") == 0) {
		k->cluster = config_string(r, path, 1, 63);
		return k->cluster &&
		       (strspn(k->cluster, "abcdefghijklmnopqrstuvwxyz0123456789-") ==
				strlen(k->cluster) ||
			config_fail(r, path, "\"%s\": expected small letters, digits and \"-\"",
				    k->cluster));
	}
	if (kind == KIND_OIDC && strcmp(name, "claims") == 0)
		return read_claims(r, path, k);
	return config_no_member(r, path, name, members_of[kind]);
}

struct rows {
	struct config_issuer *items;
	enum kind kind;
};

static bool read_issuer(struct config_reader *r, const char *path, size_t i, void *ctx)
{
	const struct rows *rows = ctx;
	struct config_issuer *k = &rows->items[i];
	bool k8s = rows->kind == KIND_K8S;
	struct draft d = { k, rows->kind };

	k->reuse = k8s; /* a container that starts again has the token it had before */
	if (!config_each_member(r, path, "a table, as { issuer = ..., audience = ... }",
				read_member, &d))
		return false;
	if (!k->issuer || !k->audience || !k->jwks || (k8s && !k->cluster))
		return config_fail(r, path, "%s is missing",
				   !k->issuer	  ? "issuer"
				   : !k->audience ? "audience: whom the tokens must be for"
				   : !k->jwks	  ? "jwks: the issuer's keys"
						  : "cluster: its name in selectors");
	return check_source(r, path, k);
}

/* Two rows for one issuer would make it a matter of order which keys and audience count. */
static bool check_twice(struct config_reader *r, const char *path, const struct config_issuers *l)
{
	for (size_t i = 0; i < l->n; i++)
		for (size_t j = 0; j < i; j++) {
			if (strcmp(l->items[i].issuer, l->items[j].issuer) == 0)
				return config_fail(r, path, "issuer %.200s is there twice",
						   l->items[i].issuer);
			if (l->items[i].cluster &&
			    strcmp(l->items[i].cluster, l->items[j].cluster) == 0)
				return config_fail(r, path, "cluster %s is there twice",
						   l->items[i].cluster);
		}
	return true;
}

bool config_read_issuers(struct config_reader *r, const struct setting *s)
{
	struct config_issuers *out = (struct config_issuers *)(void *)((char *)r->c + s->offset);
	struct rows rows = { .kind = (enum kind)s->min };
	size_t n;

	if (!config_read_rows(r, s, &n))
		return false;
	rows.items = arena_zero(&r->c->arena, (n + 1) * sizeof(*rows.items));
	if (!rows.items)
		return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	*out = (struct config_issuers){ rows.items, n };
	return config_each_row(r, s, n, read_issuer, &rows) && check_twice(r, s->name, out);
}
