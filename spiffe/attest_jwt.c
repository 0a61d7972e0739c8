/* Tokens of configured issuers: which issuer, is it good, was it here before. */
#include "spiffe/attest_inside.h"
#include "spiffe/jws_key.h"

/* The row of the token's issuer. Nothing is proven yet: it only says which keys to try. */
static struct attest_keys *issuer_of(const struct jws *j, struct attest_keys *issuers, size_t n)
{
	const struct json *iss = json_get_type(j->claims, STR("iss"), JSON_STRING);

	for (size_t i = 0; iss && i < n; i++)
		if (issuers[i].config && str_eq(issuers[i].config->issuer, iss->s))
			return &issuers[i];
	return NULL;
}

/* Its keys, if there are any that may be used. Whoever needs them makes them be fetched again. */
static const struct jwks *keys_of(const struct attest_call *c, struct attest_keys *k, struct err *e)
{
	enum attest_source_state state;

	if (!k->fetched)
		return k->keys;
	state = attest_source_state(c->attest, &k->source, c->now_ms);
	if (state != SOURCE_NONE && state != SOURCE_EXPIRED)
		return k->source.keys;
	k->source.wanted = true;
	err_code(e, ERR_UNAVAILABLE, "no_issuer_keys",
		 state == SOURCE_NONE
			 ? "the keys of the token's issuer could not be fetched yet; try again, "
			   "and if that does not help, `writ doctor` tells an admin why"
			 : "the keys of the token's issuer could not be fetched for too long to "
			   "be trusted still; `writ doctor` tells an admin why");
	return NULL;
}

static bool verify(struct attest_keys *k, const struct jws *j, const struct jwks *keys,
		   struct err *e)
{
	if (jws_verify(j, keys, e))
		return true;
	if (!k->fetched || !j->kid.n || jwks_find(keys, j->kid))
		return false;
	k->source.wanted = true; /* it may be a new one */
	return err_code(e, ERR_UNAUTHENTICATED, "unknown_key",
			"token: no key that its issuer was seen to have bears its key id (kid); "
			"writ looks for new ones now, but once a minute at most: if the key is "
			"new, try again");
}

bool attest_token(const struct attest_call *c, struct attest_keys *issuers, size_t n,
		  struct jws *out, const struct attest_issuer **whose, int64_t *expires_s,
		  struct err *e)
{
	struct attest_keys *k;
	const struct jwks *keys;
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
				"token: its issuer (iss) is none of those configured here");
	keys = keys_of(c, k, e);
	if (!keys)
		return false;
	x = (struct jws_expected){ .issuer = k->config->issuer,
				   .audience = k->config->audience,
				   .now_s = c->now_ms / 1000,
				   .leeway_s = c->attest->config.leeway_s,
				   .life_max_s = ATTEST_LIFE_MAX_S };
	*whose = k->config;
	return verify(k, out, keys, e) && jws_check(out, &x, expires_s, e);
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
