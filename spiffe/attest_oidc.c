/*
 * oidc: a token of a configured OpenID Connect issuer (CI jobs, clouds, an enterprise's login).
 *
 * oidc:iss:<issuer> oidc:sub:<sub>, and oidc:<claim>:<value> for each claim that the configuration
 * names: a text, a whole number, true or false, or a list of texts, which gives one selector each.
 */
#include <inttypes.h>

#include "spiffe/attest_inside.h"

#define LIST_MAX 32 /* values of one claim; of a longer list none is given */

static bool add_claim(const struct attest_call *c, struct attested *out, struct str name,
		      const struct json *v, struct err *e)
{
	struct str text;

	if (v->type == JSON_STRING)
		return attested_add(c, out, "oidc", name, v->s, e);
	if (v->type == JSON_BOOL)
		return attested_add(c, out, "oidc", name, v->b ? STR("true") : STR("false"), e);
	if (v->type != JSON_INT)
		return true;
	text = arena_printf(c->arena, "%" PRId64, v->i);
	return text.p ? attested_add(c, out, "oidc", name, text, e)
		      : err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
}

static bool add_claims(const struct attest_call *c, struct attested *out,
		       const struct attest_issuer *whose, const struct json *claims, struct err *e)
{
	for (size_t i = 0; i < whose->nclaims; i++) {
		const struct json *v = json_get(claims, whose->claims[i]);

		if (v && v->type == JSON_ARRAY) {
			for (uint32_t k = 0; v->n <= LIST_MAX && k < v->n; k++)
				if (v->items[k].type == JSON_STRING &&
				    !add_claim(c, out, whose->claims[i], &v->items[k], e))
					return false;
		} else if (v && !add_claim(c, out, whose->claims[i], v, e)) {
			return false;
		}
	}
	return true;
}

static bool prove(const struct attest_call *c, struct attested *out, struct err *e)
{
	const struct attest_issuer *whose = NULL;
	const struct json *sub;
	int64_t expires_s = 0;
	struct jws j;

	if (!attest_token(c, c->attest->oidc, c->attest->config.noidc, &j, &whose, &expires_s, e))
		return false;
	sub = json_get_type(j.claims, STR("sub"), JSON_STRING);
	if (!sub || !sub->s.n)
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
				"token: sub must be a string that says who it is about");
	attest_token_once(c, whose, &j, expires_s, out);
	return attested_add(c, out, "oidc", STR("iss"), whose->issuer, e) &&
	       attested_add(c, out, "oidc", STR("sub"), sub->s, e) &&
	       add_claims(c, out, whose, j.claims, e);
}

const struct attestor attest_oidc = { "oidc", "a token of a configured OIDC issuer", prove };
