/* What may be registered: the rules for names, values, selectors and lifetimes. */
#include <stdarg.h>
#include <stdio.h>

#include "authz/base/text.h"
#include "spiffe/id.h"
#include "spiffe/registry_template.h"

#define X509_TTL_MIN 60
#define JWT_TTL_MIN 30

/* The selectors that some attestor of writ or of a foreign registry gives. A type that nobody
 * gives matches nothing, so a slip of the pen would be a silent refusal later. */
static const char *const types[] = { "docker",	"k8s",	"oidc",	   "slurm",
				     "systemd", "unix", "x509pop", NULL };
static const char *const unix_keys[] = {
	"cgroup", "gid",  "group", "path", "sha256", "supplementary_gid", "supplementary_group",
	"uid",	  "user", NULL
};

static bool invalid(struct err *e, const char *fmt, ...) PRINTF(2, 3);

static bool invalid(struct err *e, const char *fmt, ...)
{
	char msg[sizeof(e->msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return err_code(e, ERR_INVALID, "invalid_agent", "%s", msg);
}

static bool in_list(struct str s, const char *const *names)
{
	while (*names && !str_eq(s, str_c(*names)))
		names++;
	return *names != NULL;
}

/* Text that people read and that is kept as one line. */
static bool check_text(const char *what, struct str s, size_t max, struct err *e)
{
	if (s.n > max)
		return invalid(e, "%s is %zu bytes long; at most %zu are kept", what, s.n, max);
	if (!text_is_utf8(s) || !text_is_printable(s))
		return invalid(e, "%s must be one line of UTF-8 text", what);
	return true;
}

static bool check_attribute(const struct registry_attribute *a, struct err *e)
{
	static const char *const reserved[] = { "id", "owner", "state", NULL };
	bool ok = a->name.n > 0 && a->name.n <= REGISTRY_NAME && a->name.p[0] >= 'a' &&
		  a->name.p[0] <= 'z';

	for (size_t i = 0; ok && i < a->name.n; i++) {
		char c = a->name.p[i];

		ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
	}
	if (!ok)
		return invalid(e,
			       "attribute \"%.*s\": a name is a small letter, then small letters, "
			       "digits and \"_\", %d at most",
			       STR_FMT(str_first(a->name, 80)), REGISTRY_NAME);
	if (in_list(a->name, reserved))
		return invalid(e,
			       "attribute \"%.*s\" is writ's own (id, owner and state are part of "
			       "every entry); choose another name",
			       STR_FMT(a->name));
	if (!a->value.n)
		return invalid(e, "attribute \"%.*s\" has no value; leave it out instead",
			       STR_FMT(a->name));
	if (!check_text("the value", a->value, REGISTRY_VALUE, e))
		return err_prefix(e, "attribute \"%.*s\"", STR_FMT(a->name));
	return true;
}

static bool check_unix(struct str value, struct err *e)
{
	struct str key, rest;
	uint64_t n;
	const char *near;

	if (!str_cut(value, ':', &key, &rest) || !rest.n)
		return invalid(e,
			       "selector \"unix:%.*s\": expected unix:KEY:VALUE, as in "
			       "unix:uid:1000",
			       STR_FMT(str_first(value, 80)));
	if (!in_list(key, unix_keys)) {
		near = text_nearest(key, unix_keys);
		return invalid(e, "selector \"unix:%.*s\": no attestor gives \"%.*s\"%s%s%s",
			       STR_FMT(str_first(value, 80)), STR_FMT(str_first(key, 40)),
			       near ? "; did you mean \"" : "", near ? near : "",
			       near ? "\"?" : "");
	}
	if (str_ends(key, STR("id")) && !text_u64(rest, UINT32_MAX - 1, &n))
		return invalid(e,
			       "selector \"unix:%.*s\": \"%.*s\" is not a number of a user or "
			       "group",
			       STR_FMT(str_first(value, 80)), STR_FMT(str_first(rest, 40)));
	if ((str_eq(key, STR("path")) || str_eq(key, STR("cgroup"))) && rest.p[0] != '/')
		return invalid(e, "selector \"unix:%.*s\": a path starts with \"/\"",
			       STR_FMT(str_first(value, 80)));
	if (str_eq(key, STR("sha256"))) {
		uint8_t hash[32];

		if (!text_unhex(rest, hash, sizeof(hash)))
			return invalid(e, "selector \"unix:sha256:\": expected 64 small "
					  "hexadecimal digits");
	}
	return true;
}

static bool check_selector(const struct registry_selector *s, struct err *e)
{
	const char *near;

	if (!in_list(s->type, types)) {
		near = text_nearest(s->type, types);
		return invalid(e,
			       "selector \"%.*s:...\": no attestor has this name%s%s%s (known: "
			       "docker, k8s, oidc, slurm, systemd, unix, x509pop)",
			       STR_FMT(str_first(s->type, 40)), near ? "; did you mean \"" : "",
			       near ? near : "", near ? "\"?" : "");
	}
	if (!s->value.n)
		return invalid(e, "selector \"%.*s:\" has no value", STR_FMT(s->type));
	if (!check_text("its value", s->value, REGISTRY_VALUE, e))
		return err_prefix(e, "selector \"%.*s:...\"", STR_FMT(s->type));
	return str_eq(s->type, STR("unix")) ? check_unix(s->value, e) : true;
}

/* Entries are few (bounds above), so each is compared with those before it. */
static bool check_lists(const struct registry_spec *s, struct err *e)
{
	if (s->nattributes > REGISTRY_ATTRIBUTES)
		return invalid(e, "%zu attributes are too many; at most %d are kept",
			       s->nattributes, REGISTRY_ATTRIBUTES);
	if (s->nselectors > REGISTRY_SELECTORS)
		return invalid(e, "%zu selectors are too many; at most %d are kept", s->nselectors,
			       REGISTRY_SELECTORS);
	for (size_t i = 0; i < s->nattributes; i++) {
		if (!check_attribute(&s->attributes[i], e))
			return false;
		for (size_t j = 0; j < i; j++)
			if (str_eq(s->attributes[i].name, s->attributes[j].name))
				return invalid(e, "attribute \"%.*s\" is given twice",
					       STR_FMT(s->attributes[i].name));
	}
	for (size_t i = 0; i < s->nselectors; i++) {
		if (!check_selector(&s->selectors[i], e))
			return false;
		for (size_t j = 0; j < i; j++)
			if (str_eq(s->selectors[i].type, s->selectors[j].type) &&
			    str_eq(s->selectors[i].value, s->selectors[j].value))
				return invalid(e, "selector \"%.*s:%.*s\" is given twice",
					       STR_FMT(s->selectors[i].type),
					       STR_FMT(str_first(s->selectors[i].value, 80)));
	}
	return true;
}

static bool check_ttl(const char *what, int64_t s, int64_t min, int64_t max, struct err *e)
{
	if (s == 0 || (s >= min && s <= max))
		return true;
	return invalid(e,
		       "%s lifetime of %lld s is out of range; %lld to %lld s, or none for the "
		       "default",
		       what, (long long)s, (long long)min, (long long)max);
}

/* A subject means nothing without who says so, and several issuers can be configured. */
static bool check_issuer(const struct registry_spec *s, struct err *e)
{
	bool any = false, issuer = false;

	for (size_t i = 0; i < s->nselectors; i++) {
		if (!str_eq(s->selectors[i].type, STR("oidc")))
			continue;
		any = true;
		issuer |= str_starts(s->selectors[i].value, STR("iss:"));
	}
	return !any || issuer ||
	       invalid(e, "oidc selectors need oidc:iss:URL beside them: a claim means nothing "
			  "without the issuer that makes it");
}

/* A template is of our own trust domain, and known by selectors: nobody else could be meant. */
static bool check_template(const struct registry_spec *s, struct str trust_domain, struct err *e)
{
	struct str td, path;

	if (!template_check(s->id, e))
		return false;
	if (!str_cut(str_from(s->id, strlen("spiffe://")), '/', &td, &path) ||
	    !str_eq(td, trust_domain))
		return invalid(e, "a template is of writ's own trust domain, %.*s",
			       STR_FMT(trust_domain));
	return s->nselectors || invalid(e, "a template needs selectors: which proofs it is for");
}

static bool check_id(const struct registry_spec *s, struct str trust_domain, struct err *e)
{
	struct spiffe_id id;

	if (s->id.n && memchr(s->id.p, '{', s->id.n))
		return check_template(s, trust_domain, e);
	if (!spiffe_id_parse_workload(s->id, &id, e)) {
		if (e)
			e->code = "invalid_spiffe_id";
		return false;
	}
	if (str_eq(id.trust_domain, trust_domain)) {
		if (spiffe_path_reserved(id.path))
			return err_code(e, ERR_INVALID, "reserved_path",
					"%.*s: paths below /writ are writ's own; choose another",
					STR_FMT(str_first(s->id, 200)));
	} else if (s->nselectors || s->x509_ttl_s || s->jwt_ttl_s || s->federates.n) {
		return invalid(e,
			       "%.*s is of another trust domain: writ issues nothing to it, so "
			       "selectors, lifetimes and federates_with mean nothing there; leave "
			       "them out",
			       STR_FMT(str_first(s->id, 200)));
	}
	return true;
}

bool registry_check_spec(const struct registry_spec *s, struct str trust_domain, struct err *e)
{
	if (!check_id(s, trust_domain, e))
		return false;
	if (!s->owner.n)
		return invalid(e, "an agent needs an owner: a person or team that answers for it");
	if (!check_text("the owner", s->owner, REGISTRY_OWNER, e) ||
	    !check_text("the purpose", s->purpose, REGISTRY_PURPOSE, e))
		return false;
	if (s->expires_ms < 0)
		return invalid(e, "the moment of expiry lies before 1970");
	return check_lists(s, e) && check_issuer(s, e) &&
	       registry_federates_check(s->federates, trust_domain, e) &&
	       check_ttl("an X.509", s->x509_ttl_s, X509_TTL_MIN, REGISTRY_X509_TTL_MAX, e) &&
	       check_ttl("a JWT", s->jwt_ttl_s, JWT_TTL_MIN, REGISTRY_JWT_TTL_MAX, e);
}

struct registry_spec registry_spec_of(const struct registry_entry *n)
{
	return (struct registry_spec){
		.id = n->id,
		.owner = n->owner,
		.purpose = n->purpose,
		.definition = n->definition,
		.attributes = n->attributes,
		.nattributes = n->nattributes,
		.selectors = n->selectors,
		.nselectors = n->nselectors,
		.x509_ttl_s = n->x509_ttl_s,
		.jwt_ttl_s = n->jwt_ttl_s,
		.expires_ms = n->expires_ms,
		.federates = n->federates,
	};
}

bool registry_parse_selector(struct str text, struct registry_selector *out, struct err *e)
{
	if (!str_cut(text, ':', &out->type, &out->value))
		return invalid(e, "selector \"%.*s\": expected TYPE:VALUE, as in unix:uid:1000",
			       STR_FMT(str_first(text, 80)));
	return true;
}

/* --- words --- */

static const char *const states[] = {
	[ENTRY_ACTIVE] = "active",
	[ENTRY_SUSPENDED] = "suspended",
	[ENTRY_RETIRED] = "retired",
	[ENTRY_EXPIRED] = "expired",
};

enum registry_state registry_state(const struct registry_entry *n, int64_t now_ms)
{
	if (n->stored == ENTRY_ACTIVE && n->expires_ms && now_ms >= n->expires_ms)
		return ENTRY_EXPIRED;
	return n->stored;
}

const char *registry_state_name(enum registry_state s)
{
	return states[s];
}

bool registry_state_named(struct str name, enum registry_state *out)
{
	for (size_t i = 0; i < ARRAY_LEN(states); i++)
		if (str_eq(name, str_c(states[i]))) {
			*out = (enum registry_state)i;
			return true;
		}
	return false;
}

const char *registry_verb_name(enum registry_verb v)
{
	static const char *const verbs[] = {
		[REGISTRY_REGISTER] = "register", [REGISTRY_UPDATE] = "update",
		[REGISTRY_SUSPEND] = "suspend",	  [REGISTRY_RESUME] = "resume",
		[REGISTRY_RETIRE] = "retire",
	};

	return verbs[v];
}

const struct registry_attribute *registry_attribute(const struct registry_entry *n, struct str name)
{
	for (size_t i = 0; i < n->nattributes; i++)
		if (str_eq(n->attributes[i].name, name))
			return &n->attributes[i];
	return NULL;
}

void registry_write_attributes(struct buf *b, const struct registry_entry *entry)
{
	buf_char(b, '{');
	for (size_t i = 0; i < entry->nattributes; i++) {
		if (i)
			buf_char(b, ',');
		buf_json(b, entry->attributes[i].name);
		buf_char(b, ':');
		buf_json(b, entry->attributes[i].value);
	}
	buf_char(b, '}');
}
