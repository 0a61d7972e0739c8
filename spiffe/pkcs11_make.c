/* Keys that come into a token, and go. */
#include <stdio.h>

#include "authz/base/digest.h"
#include "spiffe/pkcs11_inside.h"

#define POINT_LEN 65 /* 0x04, X, Y */

/* ---- making ---- */

/* An uncompressed point of P-256 as the SubjectPublicKeyInfo around it. */
static bool put_spki(struct buf *spki, const uint8_t *point)
{
	static const uint8_t head[] = { 0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
					0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
					0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00 };

	buf_add(spki, (struct str){ (const char *)head, sizeof(head) });
	buf_add(spki, (struct str){ (const char *)point, POINT_LEN });
	return buf_ok(spki);
}

/* CKA_EC_POINT is the DER of an OCTET STRING (v2.40, 2.3.3); some tokens give the bare point. */
static bool read_point(struct pkcs11_token *t, CK_OBJECT_HANDLE public, struct buf *spki,
		       struct err *e)
{
	uint8_t point[POINT_LEN + 2];
	CK_ATTRIBUTE want = { CKA_EC_POINT, point, sizeof(point) };
	CK_RV rv = t->module->f->C_GetAttributeValue(t->session, public, &want, 1);
	const uint8_t *at = point;

	if (rv != CKR_OK)
		return pkcs11_say(e, ERR_UNAVAILABLE, "the public key", rv);
	if (want.ulValueLen == POINT_LEN + 2 && point[0] == 0x04 && point[1] == POINT_LEN)
		at += 2;
	else if (want.ulValueLen != POINT_LEN)
		at = NULL;
	if (!at || at[0] != 0x04)
		return err_set(e, ERR_INTERNAL, "token: its public key is no point of P-256");
	return put_spki(spki, at) || err_set(e, ERR_NOMEM, "no memory for a key");
}

/* A token that took the template but not its point: a key that can leave is as good as a file. */
static bool stays_inside(struct pkcs11_token *t, CK_OBJECT_HANDLE key, struct err *e)
{
	CK_BBOOL sensitive = CK_FALSE, extractable = CK_TRUE;
	CK_ATTRIBUTE want[] = { ATTR(CKA_SENSITIVE, sensitive),
				ATTR(CKA_EXTRACTABLE, extractable) };
	CK_RV rv = t->module->f->C_GetAttributeValue(t->session, key, want, ARRAY_LEN(want));

	if (rv != CKR_OK)
		return pkcs11_say(e, ERR_UNAVAILABLE, "the new key's attributes", rv);
	return (sensitive && !extractable) ||
	       err_set(e, ERR_FORBIDDEN, "token: it made a key that could be taken out of it");
}

struct make_step {
	char label[PKCS11_LABEL_MAX + 1];
	uint8_t *id;
	struct buf *spki;
};

static bool generate(struct pkcs11_token *t, void *ctx, struct err *e)
{
	uint8_t p256[] = { 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07 };
	struct make_step *m = ctx;
	CK_FUNCTION_LIST *f = t->module->f;
	CK_MECHANISM how = { CKM_EC_KEY_PAIR_GEN, NULL, 0 };
	CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
	CK_ATTRIBUTE public[] = { ATTR(CKA_TOKEN, yes),
				  ATTR(CKA_VERIFY, yes),
				  ATTR(CKA_EC_PARAMS, p256),
				  { CKA_ID, m->id, PKCS11_ID_LEN },
				  { CKA_LABEL, m->label, strlen(m->label) } };
	CK_ATTRIBUTE private[] = { ATTR(CKA_TOKEN, yes),
				   ATTR(CKA_PRIVATE, yes),
				   ATTR(CKA_SENSITIVE, yes),
				   ATTR(CKA_EXTRACTABLE, no),
				   ATTR(CKA_SIGN, yes),
				   { CKA_ID, m->id, PKCS11_ID_LEN },
				   { CKA_LABEL, m->label, strlen(m->label) } };
	CK_OBJECT_HANDLE halves[2];
	CK_RV rv;

	random_bytes(m->id, PKCS11_ID_LEN); /* a second try is another key */
	rv = f->C_GenerateKeyPair(t->session, &how, public, ARRAY_LEN(public), private,
				  ARRAY_LEN(private), &halves[0], &halves[1]);
	if (rv != CKR_OK)
		return pkcs11_say(e, ERR_UNAVAILABLE, "making a key", rv);
	m->spki->n = 0;
	if (read_point(t, halves[0], m->spki, e) && stays_inside(t, halves[1], e))
		return true;
	(void)f->C_DestroyObject(t->session, halves[0]);
	(void)f->C_DestroyObject(t->session, halves[1]);
	return false;
}

bool pkcs11_generate(struct pkcs11_token *t, const char *label, uint8_t id[static PKCS11_ID_LEN],
		     struct buf *spki, struct err *e)
{
	struct make_step step = { .id = id, .spki = spki };
	struct err why = { 0 };

	snprintf(step.label, sizeof(step.label), "%s", label);
	if (pkcs11_with_session(t, generate, &step, &why))
		return true;
	if (e)
		*e = why;
	return false;
}

/* ---- removing ---- */

struct keep_step {
	char label[PKCS11_LABEL_MAX + 1];
	struct str keep;
	size_t removed;
};

static bool is_kept(struct pkcs11_token *t, CK_OBJECT_HANDLE object, struct str keep)
{
	char id[PKCS11_ID_LEN];
	CK_ATTRIBUTE want = { CKA_ID, id, sizeof(id) };

	/* An id that is not one of ours: an object that is not ours, whatever its label. */
	if (t->module->f->C_GetAttributeValue(t->session, object, &want, 1) != CKR_OK ||
	    want.ulValueLen != sizeof(id))
		return true;
	for (size_t i = 0; i + PKCS11_ID_LEN <= keep.n; i += PKCS11_ID_LEN)
		if (memcmp(keep.p + i, id, PKCS11_ID_LEN) == 0)
			return true;
	return false;
}

static bool remove_others(struct pkcs11_token *t, struct keep_step *s, CK_OBJECT_CLASS class,
			  struct err *e)
{
	CK_ATTRIBUTE template[] = { ATTR(CKA_CLASS, class),
				    { CKA_LABEL, s->label, strlen(s->label) } };
	CK_OBJECT_HANDLE all[PKCS11_KEYS_MAX];
	size_t n;

	if (!pkcs11_find(t, template, ARRAY_LEN(template), all, ARRAY_LEN(all), &n, e))
		return false;
	for (size_t i = 0; i < n; i++) {
		CK_RV rv;

		if (is_kept(t, all[i], s->keep))
			continue;
		rv = t->module->f->C_DestroyObject(t->session, all[i]);
		if (rv != CKR_OK)
			return pkcs11_say(e, ERR_UNAVAILABLE, "removing a key", rv);
		s->removed += class == CKO_PRIVATE_KEY;
	}
	return true;
}

static bool keep(struct pkcs11_token *t, void *ctx, struct err *e)
{
	return remove_others(t, ctx, CKO_PRIVATE_KEY, e) &&
	       remove_others(t, ctx, CKO_PUBLIC_KEY, e);
}

bool pkcs11_keep(struct pkcs11_token *t, const char *label, struct str ids, size_t *removed,
		 struct err *e)
{
	struct keep_step step = { .keep = ids };
	struct err why = { 0 };
	bool ok;

	snprintf(step.label, sizeof(step.label), "%s", label);
	ok = pkcs11_with_session(t, keep, &step, &why);
	*removed = step.removed;
	if (!ok && e)
		*e = why;
	return ok;
}
