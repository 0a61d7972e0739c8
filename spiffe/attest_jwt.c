/* Tokens of configured issuers: which issuer, is it good, was it here before. */
#include "spiffe/attest_inside.h"

/* The row of the token's issuer. Nothing is proven yet: it only says which keys to try. */
static const struct attest_keys *issuer_of(const struct jws *j, const struct attest_keys *issuers,
					   size_t n)
{
	const struct json *iss = json_get_type(j->claims, STR("iss"), JSON_STRING);

	for (size_t i = 0; iss && i < n; i++)
		if (issuers[i].keys && str_eq(issuers[i].config->issuer, iss->s))
			return &issuers[i];
	return NULL;
}

bool attest_token(const struct attest_call *c, const struct attest_keys *issuers, size_t n,
		  struct jws *out, const struct attest_issuer **whose, int64_t *expires_s,
		  struct err *e)
{
	const struct attest_keys *k;
	struct jws_expected x;

	if (c->proof->type != JSON_STRING)
		return err_code(e, ERR_INVALID, "invalid_request",
				"the token must be a string, not %s",
				json_type_name(c->proof->type));
	if (!jws_read(c->proof->s, c->arena, out, e))
		return false;
	k = issuer_of(out, issuers, n);
	if (!k)
		return err_code(e, ERR_UNAUTHENTICATED, "unknown_issuer",
				"token: its issuer (iss) is none of those configured under attest");
	x = (struct jws_expected){ .issuer = k->config->issuer,
				   .audience = k->config->audience,
				   .now_s = c->now_ms / 1000,
				   .leeway_s = c->attest->config.leeway_s,
				   .life_max_s = ATTEST_LIFE_MAX_S };
	*whose = k->config;
	return jws_verify(out, k->keys, e) && jws_check(out, &x, expires_s, e);
}

void attest_token_once(const struct attest_call *c, const struct attest_issuer *whose,
		       const struct jws *j, int64_t expires_s, struct attested *out)
{
	if (whose->reuse)
		return;
	/* What was signed, not the signature: of that, ECDSA lets anybody make a second one. */
	out->once = j->signing_input;
	out->once_until_ms = (expires_s + c->attest->config.leeway_s) * 1000;
}
