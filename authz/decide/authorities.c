#include "authz/decide/authorities.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/base/log.h"
#include "authz/decide/control.h"
#include "spiffe/crypto.h"

#define REFRESH_HINT_S 300
#define LOOK_NS 60000000000LL /* how often the clock is asked */
#define BUNDLE_PEM_MAX (1024 * 1024)
#define BY_CLOCK STR("writ")
#define FALLBACK_S 30 /* seconds from one failure to the next attempt */

/* ---- open, close ---- */

static int open_folder(int at, const char *name)
{
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool open_folders(struct authorities *a, struct err *e)
{
	if (!a->config.data)
		return true;
	a->data = open(a->config.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	a->keys = a->data < 0 ? -1 : open_folder(a->data, "keys");
	return a->keys >= 0 ||
	       err_set(e, ERR_IO, "cannot open %s/keys: %s", a->config.data, strerror(errno));
}

static void make_plans(struct authorities *a)
{
	const struct authorities_config *c = &a->config;
	struct authority_times t = { .ttl_s = c->ttl_s ? c->ttl_s : SIGNER_AUTHORITY_TTL_S,
				     .svid_ttl_max_s = c->x509_ttl_max_s ? c->x509_ttl_max_s
									 : SIGNER_X509_TTL_MAX_S,
				     .refresh_hint_s = c->refresh_hint_s,
				     .leeway_s = c->leeway_s };

	a->plan[AUTHORITY_X509] = a->plan[AUTHORITY_WIT] = authority_plan(&t);
	t.svid_ttl_max_s = c->jwt_ttl_max_s ? c->jwt_ttl_max_s : SIGNER_JWT_TTL_MAX_S;
	a->plan[AUTHORITY_JWT] = authority_plan(&t);
}

bool authorities_open(struct control *c, const struct authorities_config *config,
		      struct authorities **out, struct err *e)
{
	struct authorities *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(e, ERR_NOMEM, "no memory for the authorities");
	a->c = c;
	a->config = *config;
	a->data = a->keys = -1;
	if (!a->config.refresh_hint_s)
		a->config.refresh_hint_s = REFRESH_HINT_S;
	slot_init(&a->standing);
	buf_init(&a->roots, mem_system, 2 * AUTHORITY_ROOTS_MAX);
	make_plans(a);
	if (!open_folders(a, e) || !authority_db_open(&a->db, c->db, e) ||
	    (config->upstream_bundle &&
	     !upstream_read_pem(config->upstream_bundle, AUTHORITY_ROOTS_MAX, &a->roots, e))) {
		authorities_close(a);
		return false;
	}
	*out = a;
	return true;
}

void authorities_close(struct authorities *a)
{
	if (!a)
		return;
	authority_db_close(&a->db);
	buf_clear(&a->roots);
	slot_clear(&a->standing);
	if (a->keys >= 0)
		close(a->keys);
	if (a->data >= 0)
		close(a->data);
	free(a);
}

/* ---- the bundle ---- */

/* Certificates that are there already are no mistake: authorities share their roots. */
static bool add_all(struct bundle *b, struct str ders, bool first_only, struct err *e)
{
	struct str der;

	while (x509_chain_next(&ders, &der)) {
		struct err why = { 0 };

		if (!bundle_add_authority(b, der, &why) && why.class != ERR_CONFLICT)
			return err_set(e, why.class, "%s", why.msg);
		if (first_only)
			break;
	}
	return true;
}

static bool add_row(struct bundle *b, const struct authority_row *r, struct err *e)
{
	if (r->a.kind == AUTHORITY_JWT)
		return bundle_add_jwt_key(b, str_c(r->a.id), r->spki, e);
	if (r->a.kind == AUTHORITY_WIT)
		return bundle_add_wit_key(b, str_c(r->a.id), r->spki, e);
	return r->roots.n ? add_all(b, r->roots, false, e) : add_all(b, r->chain, true, e);
}

static bool distrust(void *b, struct str spki, struct err *e)
{
	return bundle_distrust(b, spki, e);
}

static bool fill(struct authorities *a, struct bundle *b, struct err *e)
{
	for (size_t i = 0; i < a->db.n; i++)
		if (!add_row(b, &a->db.rows[i], e) ||
		    (a->db.rows[i].a.state == AUTHORITY_TAINTED &&
		     !bundle_taint(b, str_c(a->db.rows[i].a.id), e)))
			return err_prefix(e, "authority %s", a->db.rows[i].a.id);
	/* A root that is new in the file is announced before an authority leads to it. */
	return authority_db_distrusted(&a->db, distrust, b, e) &&
	       add_all(b, buf_str(&a->roots), false, e);
}

/* bundle.pem is a copy for people and for first contact; the bundle in force does not hang on it.
 */
static bool write_pem(struct authorities *a, const struct bundle *b, struct err *e)
{
	AUTO_BUF pem;

	buf_init(&pem, mem_system, BUNDLE_PEM_MAX);
	if (a->data < 0)
		return true;
	bundle_pem(b, &pem);
	if (!buf_ok(&pem))
		return err_set(e, ERR_NOMEM, "no memory for bundle.pem");
	return file_replace(a->config.calls, a->data, "bundle.pem", buf_str(&pem), 0644, e);
}

static void free_standing(struct shared *s)
{
	free(s);
}

static void publish_standing(struct authorities *a, const struct err *failed)
{
	struct authority_standing *s = calloc(1, sizeof(*s));

	if (!s)
		return; /* the old one stays: only a report */
	shared_init(&s->shared, free_standing);
	s->sequence = a->db.sequence;
	s->reissue = a->db.reissue;
	for (; s->n < a->db.n; s->n++)
		s->all[s->n] = a->db.rows[s->n].a;
	for (int k = 0; k < AUTHORITY_KINDS; k++)
		s->next_s[k] = authority_next_s(&a->plan[k], a->db.all, a->db.n,
						(enum authority_kind)k);
	if (failed)
		s->failed = *failed;
	slot_publish(&a->standing, &s->shared);
}

bool authorities_publish(struct authorities *a, struct err *e)
{
	struct core *core = a->c->core;
	struct bundle_set *old = (struct bundle_set *)slot_acquire(&core->bundles), *set;
	struct bundle *own = NULL;
	struct err late = { 0 };
	bool ok;

	/* Connections remember the version they were verified under: it is the generation. */
	set = bundle_set_new(atomic_load(&core->bundles.version) + 1, e);
	ok = set &&
	     bundle_set_add(set, core->trust_domain, a->db.sequence, a->config.refresh_hint_s, &own,
			    e) &&
	     fill(a, own, e) && bundle_set_share_others(set, old, core->trust_domain, e);
	bundle_set_release(old);
	if (!ok) {
		bundle_set_release(set);
		return err_prefix(e, "the trust bundle");
	}
	slot_publish(&core->bundles, &set->shared);
	a->stale = !write_pem(a, own, &late); /* it lives: only this thread publishes */
	publish_standing(a, a->stale ? &late : NULL);
	if (a->stale)
		log_event(LOG_ERROR, "bundle.unwritten", "why=\"%s\" next=again", late.msg);
	return true;
}

/* Of several roots, the one that issued the topmost certificate of the chain. */
static struct str root_of(const struct authority_row *r)
{
	struct str rest = r->chain, top = { 0 }, der, first = { 0 };
	AUTO_X509 *last = NULL;

	while (x509_chain_next(&rest, &der))
		top = der;
	if (!r->roots.n || !crypto_certificate(top, &last, NULL))
		return top;
	for (rest = r->roots; x509_chain_next(&rest, &der);) {
		AUTO_X509 *root = NULL;

		if (!first.n)
			first = der;
		if (crypto_certificate(der, &root, NULL) &&
		    X509_NAME_cmp(X509_get_subject_name(root), X509_get_issuer_name(last)) == 0)
			return der;
	}
	return first;
}

void authorities_fingerprint(const struct authorities *a, char out[static CRYPTO_FINGERPRINT_MAX])
{
	const struct authority_row *active = authority_db_active(&a->db, AUTHORITY_X509);

	if (active)
		crypto_fingerprint(root_of(active), out);
	else
		out[0] = '\0';
}

int64_t authorities_end_s(const struct control *c, enum authority_kind kind)
{
	struct authority_standing *s = c && c->authorities
					       ? (struct authority_standing *)slot_acquire(
							 &c->authorities->standing)
					       : NULL;
	int64_t end = INT64_MAX;

	for (size_t i = 0; s && i < s->n; i++)
		if (s->all[i].kind == kind && s->all[i].state == AUTHORITY_ACTIVE)
			end = s->all[i].not_after_s;
	shared_release(s ? &s->shared : NULL);
	return end;
}

/* ---- the clock ---- */

/* The active authority is not as one that is made now would be: under an upstream or on its own, in
 * a token or a file. */
static bool is_misplaced(const struct authorities *a, enum authority_kind kind)
{
	const struct authority_row *active = authority_db_active(&a->db, kind);

	return active && ((kind == AUTHORITY_X509 && (active->roots.n > 0) != (a->roots.n > 0)) ||
			  (active->a.token[0] != '\0') != a->config.token[kind]);
}

static bool find_prepared(const struct authorities *a, enum authority_kind kind, size_t *at)
{
	for (size_t i = 0; i < a->db.n; i++)
		if (a->db.rows[i].a.kind == kind && a->db.rows[i].a.state == AUTHORITY_PREPARED) {
			*at = i;
			return true;
		}
	return false;
}

static enum authority_verb due(const struct authorities *a, enum authority_kind kind, int64_t now,
			       size_t *which)
{
	enum authority_verb verb = authority_due(&a->plan[kind], a->db.all, a->db.n, kind, now,
						 which);

	if (kind == AUTHORITY_WIT && !a->config.wit && verb != AUTHORITY_RETIRE)
		return AUTHORITY_NOTHING;
	if (verb != AUTHORITY_NOTHING || !is_misplaced(a, kind))
		return verb;
	if (!find_prepared(a, kind, which))
		return AUTHORITY_PREPARE;
	return authority_propagated(&a->plan[kind], a->db.all[*which], now, NULL)
		       ? AUTHORITY_ACTIVATE
		       : AUTHORITY_NOTHING;
}

/* One thing that is due; *more: there may be another. */
static bool do_due(struct authorities *a, enum authority_kind kind, bool *more, struct err *e)
{
	int64_t now = clock_wall_ms(a->c->core->clock) / 1000;
	struct authority ignored;
	char id[AUTHORITY_ID_MAX + 1];
	size_t which = 0;
	enum authority_verb verb = due(a, kind, now, &which);

	*more = verb != AUTHORITY_NOTHING;
	if (!*more)
		return true;
	if (verb == AUTHORITY_PREPARE)
		return authority_prepare(a, kind, BY_CLOCK, &ignored, e);
	memcpy(id, a->db.all[which]->id, sizeof(id)); /* the rows move */
	if (verb == AUTHORITY_ACTIVATE)
		return authority_activate(a, str_c(id), true, BY_CLOCK, &ignored, e);
	return authority_withdraw(a, str_c(id), verb, BY_CLOCK, &ignored, e);
}

static bool do_all_due(struct authorities *a, struct err *e)
{
	bool more = true;

	if (a->keys < 0) /* without a folder nothing can be made */
		return true;
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++)
		for (int step = 0; step < 2 * AUTHORITY_MAX; step++) {
			if (!do_due(a, (enum authority_kind)kind, &more, e))
				return false;
			if (!more)
				break;
		}
	return true;
}

/* Read again what a failure may have left behind its rows. */
static bool catch_up(struct authorities *a, struct err *e)
{
	if (!authority_db_load(&a->db, e))
		return false;
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++)
		if (!authority_use_active(a, (enum authority_kind)kind, e))
			return false;
	if (!authorities_publish(a, e))
		return false;
	authority_files_sweep(a);
	return true;
}

void authorities_tick(struct authorities *a)
{
	int64_t now = clock_mono_ns(a->c->core->clock);
	struct err e = { 0 };

	if (now < a->next_ns)
		return;
	a->next_ns = now + LOOK_NS;
	if ((!a->stale || catch_up(a, &e)) && do_all_due(a, &e))
		return;
	a->next_ns = now + FALLBACK_S * 1000000000LL;
	publish_standing(a, &e);
	log_event(LOG_ERROR, "authority.due", "why=\"%s\" next=\"again in %d s\"", e.msg,
		  FALLBACK_S);
}

/* ---- start ---- */

static bool has_kind(const struct authorities *a, enum authority_kind kind)
{
	for (size_t i = 0; i < a->db.n; i++)
		if (a->db.rows[i].a.kind == kind)
			return true;
	return false;
}

/* The spki of an X.509 authority: so that no key can come back under another row. */
static bool first_x509(const struct signer_public *p, struct authority_row *row, struct buf *spki,
		       struct err *e)
{
	AUTO_X509 *cert = NULL;

	if (!crypto_certificate(p->authority, &cert, e) || !x509_authority_id(cert, row->a.id, e) ||
	    !x509_times(cert, &row->a.not_before_s, &row->a.not_after_s) ||
	    !crypto_spki(X509_get0_pubkey(cert), spki, e))
		return false;
	row->chain = p->authority;
	row->spki = buf_str(spki);
	return true;
}

/* Take the key that the first start made on as the active authority. The JWT key has no certificate
 * that says how long: as long as the other. */
static bool adopt(struct authorities *a, enum authority_kind kind, struct err *e)
{
	const struct signer_public *p = signer_public(a->c->config.signer);
	int64_t now = clock_wall_ms(a->c->core->clock) / 1000;
	struct authority_row row = { .first = true, .by = BY_CLOCK };
	AUTO_BUF spki = { 0 };

	if (has_kind(a, kind) || kind == AUTHORITY_WIT) /* which the first start does not make */
		return true;
	buf_init(&spki, mem_system, CRYPTO_SPKI_MAX);
	if (!p->authority.n || !p->jwt_kid.n)
		return err_set(e, ERR_CONFLICT,
			       "writ.db does not know the authorities in keys/: one of the two was "
			       "replaced; restore both from the same backup");
	if (!first_x509(p, &row, &spki, e))
		return false;
	if (kind == AUTHORITY_JWT) {
		memset(row.a.id, 0, sizeof(row.a.id));
		memcpy(row.a.id, p->jwt_kid.p, p->jwt_kid.n);
		row.chain = (struct str){ 0 };
		row.spki = p->jwt_spki;
	}
	row.a.kind = kind;
	row.a.state = AUTHORITY_ACTIVE;
	row.a.prepared_s = row.a.activated_s = now;
	return authority_db_add(&a->db, &row, e);
}

/* A new deployment under an upstream, or with a token: its first authority, self-signed and a file,
 * has signed nothing, and verifiers shall never see it. */
static bool begin_in_place(struct authorities *a, enum authority_kind kind, struct err *e)
{
	const struct authority_row *first = authority_db_active(&a->db, kind);
	struct authority next, ignored;
	char id[AUTHORITY_ID_MAX + 1];

	if (!signer_public(a->c->config.signer)->created || !is_misplaced(a, kind))
		return true;
	memcpy(id, first->a.id, sizeof(id));
	return authority_prepare(a, kind, BY_CLOCK, &next, e) &&
	       authority_activate(a, str_c(next.id), true, BY_CLOCK, &ignored, e) &&
	       authority_withdraw(a, str_c(id), AUTHORITY_REVOKE, BY_CLOCK, &ignored, e);
}

bool authorities_start(struct authorities *a, struct err *e)
{
	struct err late = { 0 };

	for (int kind = 0; kind < AUTHORITY_KINDS; kind++)
		if (!adopt(a, (enum authority_kind)kind, e) ||
		    !authority_use_active(a, (enum authority_kind)kind, e))
			return false;
	if (!authorities_publish(a, e) || !begin_in_place(a, AUTHORITY_X509, e) ||
	    !begin_in_place(a, AUTHORITY_JWT, e))
		return false;
	authority_files_sweep(a);
	a->next_ns = clock_mono_ns(a->c->core->clock) + LOOK_NS;
	/* What is due can wait if it must: there is one that signs. */
	if (!do_all_due(a, &late)) {
		publish_standing(a, &late);
		log_event(LOG_ERROR, "authority.due", "why=\"%s\" next=\"again\"", late.msg);
	}
	return true;
}
