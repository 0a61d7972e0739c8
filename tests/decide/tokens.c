#include "tests/decide/tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "tests/spiffe/forge.h"

#define USUAL_ID "AAAAAAAAAAAAAAAAAAAAAA"

void tokens_start(struct tokens_desk *d, struct rig *r)
{
	struct bundle_set *set = bundle_set_new(1, NULL);
	struct bundle *b;
	struct str spki;

	d->key = forge_key("P-256");
	d->signer = jwt_signer_new(d->key, STR("k"), NULL);
	buf_init(&d->text, mem_system, 1 << 16);
	spki = forge_spki(d->key);
	assert_true(d->signer && bundle_set_add(set, r->core.trust_domain, 1, 300, &b, NULL) &&
		    bundle_add_jwt_key(b, STR("k"), spki, NULL));
	forge_free(spki);
	slot_publish(&r->core.bundles, &set->shared);
	worker_turn_begin(&r->worker);
}

void tokens_stop(struct tokens_desk *d)
{
	jwt_signer_free(d->signer);
	EVP_PKEY_free(d->key);
	buf_clear(&d->text);
}

static const char *or_else(const char *given, const char *usual)
{
	return given ? given : usual;
}

struct str tokens_delegated(struct tokens_desk *d, struct rig *r, const struct tokens_spec *s)
{
	struct delegated_token t = { .issuer = r->core.token_issuer,
				     .subject = str_c(or_else(s->user, "alice")),
				     .subject_issuer = STR("https://idp.example"),
				     .audience = r->core.server_id,
				     .scope = str_c(or_else(s->scope, "")),
				     .id = str_c(or_else(s->id, USUAL_ID)),
				     .issued_s = r->time.ms / 1000,
				     .expires_s = r->time.ms / 1000 +
						  (s->expires_s ? s->expires_s : 300) };
	struct err e = { 0 };
	unsigned n = 0;

	if (s->issuer)
		t.issuer = str_c(s->issuer);
	if (s->audience)
		t.audience = str_c(s->audience);
	for (; t.nchain < 4 && s->chain[t.nchain]; t.nchain++)
		t.chain[t.nchain] = str_c(s->chain[t.nchain]);
	if (t.subject.n == 0) {
		t.subject = t.chain[0];
		t.subject_issuer = STR("");
	}
	if (s->line)
		t.line[t.nline++] = str_c(s->line);
	if (s->bound)
		X509_digest(s->bound, EVP_sha256(), t.bound, &n);
	if (s->expires_s < 0) /* it ended long ago */
		t.issued_s = t.expires_s - 300;
	buf_reset(&d->text);
	if (!delegated_token_issue(d->signer, &t, &d->text, &e))
		fail_msg("token: %s", e.msg);
	return buf_str(&d->text);
}

struct str tokens_svid(struct tokens_desk *d, struct rig *r, const char *id, const char *audience)
{
	struct jwt_request q = { .spiffe_id = str_c(id),
				 .audience = { r->core.server_id },
				 .naudience = 1,
				 .issued_s = r->time.ms / 1000,
				 .expires_s = r->time.ms / 1000 + 300 };
	struct err e = { 0 };

	if (audience)
		q.audience[0] = str_c(audience);
	buf_reset(&d->text);
	if (!jwt_svid_issue(d->signer, &q, &d->text, &e))
		fail_msg("token: %s", e.msg);
	return buf_str(&d->text);
}

X509 *tokens_certificate(const char *id)
{
	char san[300];
	struct forge f = { .san = san, .usage = "critical,digitalSignature" };

	snprintf(san, sizeof(san), "URI:%s", id);
	return forge_cert(&f);
}

void tokens_peer(struct peer *p, X509 *cert, const char *id)
{
	static const struct listener listener = { .name = "https", .tls = true };

	*p = (struct peer){ .listener = &listener, .address = "127.0.0.1:1", .pid = -1 };
	if (!cert)
		return;
	p->spiffe_id = str_c(id);
	p->chain = sk_X509_new_null();
	sk_X509_push(p->chain, cert);
}
