#include "spiffe/attest_user.h"

#include "authz/base/text.h"
#include "spiffe/attest_inside.h"

static bool refuse(struct err *e, const char *what)
{
	return err_code(e, ERR_UNAUTHENTICATED, "invalid_token", "token: %s", what);
}

/* An access token says that it is one (RFC 9068 4), and an ID token that it is none. */
static bool check_typ(const struct jws *j, bool access, struct err *e)
{
	const struct json *typ = json_get(j->header, STR("typ"));
	bool is_access = typ && typ->type == JSON_STRING &&
			 (str_eq(typ->s, STR("at+jwt")) ||
			  str_eq(typ->s, STR("application/at+jwt")));

	if (access)
		return is_access || refuse(e, "typ must be \"at+jwt\", as that of an access token");
	return !typ || (typ->type == JSON_STRING && str_eq(typ->s, STR("JWT"))) ||
	       refuse(e, "typ must be \"JWT\" or absent, as that of an ID token");
}

/* A name that could be an agent's, or could not be written down, is nobody's. */
static bool read_subject(const struct jws *j, struct str *out, struct err *e)
{
	const struct json *sub = json_get_type(j->claims, STR("sub"), JSON_STRING);

	if (!sub || !sub->s.n || sub->s.n > DELEGATED_SUBJECT_MAX || !text_is_printable(sub->s) ||
	    str_starts(sub->s, STR("spiffe:")))
		return refuse(e, "sub must be a printable text that names a person");
	*out = sub->s;
	return true;
}

/* Scope that cannot be read is no scope, not all of it. */
static struct str scope_of(const struct jws *j, const struct attest_issuer *whose)
{
	const struct json *scope = json_get(j->claims, STR("scope"));

	if (!scope)
		return whose->scopes;
	return scope->type == JSON_STRING && delegated_scope_valid(scope->s)
		       ? scope->s
		       : (struct str){ NULL, 0 };
}

bool attest_user(struct attest *attest, struct str token, bool access, int64_t now_ms,
		 struct arena *a, struct attested_user *out, struct err *e)
{
	const struct json proof = { .type = JSON_STRING, .s = token };
	const struct attest_call call = {
		.attest = attest, .proof = &proof, .now_ms = now_ms, .arena = a
	};
	const struct attest_issuer *whose = NULL;
	struct attested_user u = { 0 };
	struct jws j;

	if (!attest_token(&call, attest->users, attest->config.nusers, &j, &whose, &u.expires_s,
			  e) ||
	    !check_typ(&j, access, e) || !read_subject(&j, &u.subject, e))
		return false;
	u.issuer = whose->issuer;
	u.scope = scope_of(&j, whose);
	u.may_act = json_get(j.claims, STR("may_act"));
	*out = u;
	return true;
}
