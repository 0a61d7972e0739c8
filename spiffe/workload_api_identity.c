/*
 * X.509-SVIDs and WIT-SVIDs of entries. One is made when the first caller shows up, renewed when
 * half of its life is left (with jitter, so that a thousand of one moment do not come back in one
 * moment), and at once when no bundle vouches for it any more. While a new one is being made the
 * old one is shown, as long as it is valid.
 */
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/registry_view.h"
#include "spiffe/workload_api_inside.h"

#define RETRY_MS 5000		 /* after the signer or the log has failed */
#define RENEW_MIN_MS 5000	 /* between two, however short a life is left to give */
#define KEEP_MS (10 * 60 * 1000) /* without anybody who shows it */
#define SVID_MAX (64 * 1024)
#define ISSUE_BYTES ((size_t)512 * 1024)

static void wipe(struct buf *b)
{
	if (b->p)
		mem_wipe(b->p, b->cap);
	buf_clear(b);
}

static void free_identity(struct workload_identity *i)
{
	wipe(&i->key);
	wipe(&i->next_key);
	buf_clear(&i->svid);
	arena_clear(&i->arena);
	free(i);
}

/* Between 45 and 55 percent of the life. */
static int64_t jitter(int64_t life_ms)
{
	uint32_t r;

	random_bytes(&r, sizeof(r));
	return life_ms * 45 / 100 + life_ms / 10 * (int64_t)(r % 1024) / 1024;
}

/* Only what all of the file's own callers have in mind: is there something to show? */
bool workload_identity_ready(const struct workload_identity *i)
{
	return i->svid.n && !i->stale && !(i->tainted && i->busy) &&
	       i->expires_ms > workload_now_ms(i->api);
}

/* The signer ends a certificate no later than its authority, so the certificate says when; and by
 * which authority it was signed. */
static bool read_leaf(struct str der, int64_t *ms, char authority[static AUTHORITY_ID_MAX + 1],
		      struct err *e)
{
	AUTO_X509 *cert = NULL;
	const ASN1_OCTET_STRING *id;
	int64_t from_s, until_s;

	if (!crypto_certificate(x509_chain_leaf(der), &cert, e) ||
	    !x509_times(cert, &from_s, &until_s))
		return err_set(e, ERR_INTERNAL, "the signer's answer is no certificate");
	*ms = until_s * 1000;
	id = X509_get0_authority_key_id(cert);
	memset(authority, 0, AUTHORITY_ID_MAX + 1);
	if (id && ASN1_STRING_length(id) == X509_ID_LEN / 2)
		text_hex(ASN1_STRING_get0_data(id), X509_ID_LEN / 2, authority);
	return true;
}

/* Of a token: its end is what was asked for, and its header names the key. */
static bool read_token(const struct workload_identity *i, struct str token, int64_t *ms,
		       char authority[static AUTHORITY_ID_MAX + 1], struct err *e)
{
	*ms = i->issue.expires_s * 1000;
	return wit_kid_of(token, authority, AUTHORITY_ID_MAX + 1) ||
	       err_set(e, ERR_INTERNAL, "the signer's answer is no token");
}

static bool is_tainted(const struct workload_identity *i)
{
	const struct bundle *own = workload_own_bundle(i->api);

	return own && bundle_tainted(own, str_c(i->authority));
}

static bool take(struct workload_identity *i, struct str der, struct err *e)
{
	int64_t now = workload_now_ms(i->api), ends = 0;
	char authority[AUTHORITY_ID_MAX + 1];

	if (i->kind == WORKLOAD_X509 ? !read_leaf(der, &ends, authority, e)
				     : !read_token(i, der, &ends, authority, e))
		return false;
	buf_reset(&i->svid);
	buf_add(&i->svid, der);
	if (!buf_ok(&i->svid)) {
		buf_reset(&i->svid);
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	}
	wipe(&i->key);
	i->key = i->next_key;
	i->next_key = (struct buf){ .alloc = mem_system };
	i->expires_ms = ends;
	i->renew_ms = now + jitter(ends - now);
	if (i->renew_ms < now + RENEW_MIN_MS)
		i->renew_ms = now + RENEW_MIN_MS;
	i->ttl_s = i->next_ttl_s;
	memcpy(i->authority, authority, sizeof(authority));
	i->stale = false;
	i->tainted = is_tainted(i); /* meanwhile */
	i->retry_ms = i->tainted ? now + RETRY_MS : 0;
	return true;
}

static void issued(struct issue *issue, bool ok, const struct err *e)
{
	struct workload_identity *i = issue->user;
	struct err why = { 0 };

	i->busy = false;
	if (!ok || !take(i, buf_str(&issue->svid), &why)) {
		wipe(&i->next_key);
		i->failed = ok ? why : *e;
		i->retry_ms = workload_now_ms(i->api) + RETRY_MS;
	}
	workload_touch_shown(i);
}

static bool put_private(struct workload_identity *i, const EVP_PKEY *key, struct err *e)
{
	return i->kind == WORKLOAD_WIT ? wit_jwk(key, true, &i->next_key, e)
				       : crypto_pkcs8(key, &i->next_key, e);
}

/* A new key and a certificate for it, or a token. */
static void make(struct workload_identity *i, const struct registry_entry *entry, int64_t uid)
{
	struct workload_api *w = i->api;
	AUTO_PKEY *key = NULL;
	struct buf spki;
	struct err e = { 0 };

	arena_reset(&i->arena);
	i->busy = true;
	i->next_ttl_s = issue_ttl(w->core, entry, false);
	i->issue = (struct issue){ .worker = w->worker,
				   .arena = &i->arena,
				   .done = issued,
				   .user = i,
				   .uid = uid,
				   .wit = i->kind == WORKLOAD_WIT };
	buf_in_arena(&spki, &i->arena, CRYPTO_SPKI_MAX);
	buf_init(&i->next_key, mem_system, CRYPTO_SPKI_MAX);
	if (crypto_generate(&key, &e) && crypto_spki(key, &spki, &e) && put_private(i, key, &e)) {
		i->issue.spki = buf_str(&spki);
		issue_workload(&i->issue, entry);
	} else {
		issued(&i->issue, false, &e);
	}
}

/* One that lasts as long as its entry is not renewed: the next could not last longer. */
static bool is_due(const struct workload_identity *i, const struct registry_entry *entry)
{
	int64_t now = workload_now_ms(i->api);
	bool to_the_end = entry->expires_ms && i->expires_ms / 1000 >= entry->expires_ms / 1000;

	if (i->busy || now < i->retry_ms)
		return false;
	return !i->svid.n || i->stale || i->tainted || (now >= i->renew_ms && !to_the_end) ||
	       i->ttl_s != issue_ttl(i->api->core, entry, false);
}

static bool is_spare(const struct workload_identity *i, int64_t unused_ms)
{
	return !i->showing && !i->busy && i->used_ms + unused_ms <= workload_now_ms(i->api);
}

/* Where the identity of @id is linked, or would be. IDs are chosen by admins alone. */
static struct workload_identity **find(struct workload_api *w, struct str id,
				       enum workload_svid kind)
{
	struct workload_identity **at = &w->buckets[view_hash(0, id) % WORKLOAD_BUCKETS];

	while (*at && ((*at)->kind != kind || !str_eq((*at)->id, id)))
		at = &(*at)->chain;
	return at;
}

/* Give back those that nobody has shown for so long. */
static void evict(struct workload_api *w, int64_t unused_ms)
{
	for (struct workload_identity **at = &w->identities; *at;) {
		struct workload_identity *i = *at;

		if (!is_spare(i, unused_ms)) {
			at = &i->next;
			continue;
		}
		*at = i->next;
		w->nidentities--;
		*find(w, i->id, i->kind) = i->chain;
		free_identity(i);
	}
}

static struct workload_identity *add(struct workload_api *w, struct str id, enum workload_svid kind)
{
	struct workload_identity *i;
	char *text;

	if (w->nidentities >= w->settings.streams)
		evict(w, 0);
	if (w->nidentities >= w->settings.streams)
		return NULL;
	i = calloc(1, sizeof(*i) + id.n);
	if (!i)
		return NULL;
	text = (char *)(i + 1);
	memcpy(text, id.p, id.n);
	i->id = (struct str){ text, id.n };
	i->api = w;
	i->kind = kind;
	i->used_ms = workload_now_ms(w);
	buf_init(&i->svid, mem_system, SVID_MAX);
	i->key = i->next_key = (struct buf){ .alloc = mem_system };
	arena_init(&i->arena, &mem_system, ISSUE_BYTES);
	i->next = w->identities;
	w->identities = i;
	w->nidentities++;
	*find(w, id, kind) = i;
	return i;
}

struct workload_identity *workload_identity(struct workload_api *w,
					    const struct registry_entry *entry,
					    enum workload_svid kind, int64_t uid)
{
	struct workload_identity *i = *find(w, entry->id, kind);

	if (!i)
		i = add(w, entry->id, kind);
	if (i && is_due(i, entry))
		make(i, entry, uid);
	return i;
}

void workload_identity_hold(struct workload_identity *i, struct workload_showing *by)
{
	by->identity = i;
	by->prev = NULL;
	by->next = i->showing;
	if (by->next)
		by->next->prev = by;
	i->showing = by;
}

void workload_identity_drop(struct workload_showing *by)
{
	struct workload_identity *i = by->identity;

	*(by->prev ? &by->prev->next : &i->showing) = by->next;
	if (by->next)
		by->next->prev = by->prev;
	i->used_ms = workload_now_ms(i->api);
}

/* Is it still vouched for by a bundle? An authority that was revoked takes its SVIDs with it. */
static bool holds(const struct workload_identity *i)
{
	struct bundle_set *set = worker_bundle(i->api->worker);
	const struct bundle *own = workload_own_bundle(i->api);
	struct x509_svid svid;
	struct err e = { 0 };

	if (i->kind == WORKLOAD_WIT)
		return own && bundle_has_wit_key(own, str_c(i->authority));
	return set && x509_svid_verify_chain(set, buf_str(&i->svid), workload_now_ms(i->api) / 1000,
					     &svid, &e);
}

/* What was found out about identities of one issuer holds for all of them. */
struct vouchers {
	const struct workload_identity *of[8];
	bool ok[8];
	size_t n;
};

static bool same_issuer(const struct workload_identity *a, const struct workload_identity *b)
{
	struct str x = buf_str(&a->svid), y = buf_str(&b->svid);

	return a->authority[0] && a->kind == b->kind && strcmp(a->authority, b->authority) == 0 &&
	       (a->kind == WORKLOAD_WIT ||
		str_eq(str_from(x, x509_chain_leaf(x).n), str_from(y, x509_chain_leaf(y).n)));
}

static bool is_vouched_for(const struct workload_identity *i, struct vouchers *v)
{
	bool ok;

	if (i->expires_ms <= workload_now_ms(i->api))
		return false;
	for (size_t k = 0; k < v->n; k++)
		if (same_issuer(i, v->of[k]))
			return v->ok[k];
	ok = holds(i);
	if (v->n < ARRAY_LEN(v->of)) {
		v->of[v->n] = i;
		v->ok[v->n++] = ok;
	}
	return ok;
}

void workload_identities_sweep(struct workload_api *w, bool bundles)
{
	struct vouchers v = { .n = 0 };
	const struct registry_view *view = worker_registry(w->worker);
	int64_t now = workload_now_ms(w);

	evict(w, KEEP_MS);
	for (struct workload_identity *i = w->identities; i; i = i->next) {
		const struct registry_entry *entry = view ? registry_find(view, i->id) : NULL;

		if (bundles && i->svid.n) {
			i->tainted = is_tainted(i);
			i->stale = i->stale || !is_vouched_for(i, &v);
		}
		if (i->svid.n && i->expires_ms <= now)
			workload_touch_shown(i);
		if (!i->showing || !entry || registry_state(entry, now) != ENTRY_ACTIVE)
			continue;
		registry_note_seen(entry, now); /* its process has a stream open */
		if (is_due(i, entry))
			make(i, entry, -1); /* nobody asked: it is time */
	}
}

void workload_identities_free(struct workload_api *w)
{
	while (w->identities) {
		struct workload_identity *i = w->identities;

		w->identities = i->next;
		free_identity(i);
	}
}
