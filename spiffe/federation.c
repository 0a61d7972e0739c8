#include "spiffe/federation.h"

#include <stdlib.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"
#include "spiffe/federation_read.h"

#define CODE "invalid_federation"
#define STALE_AFTER 3 /* intervals without a successful poll */

static const char *const schema[] = {
	"CREATE TABLE federation ("
	"  trust_domain TEXT PRIMARY KEY,"
	"  url TEXT NOT NULL,"
	"  profile INTEGER NOT NULL,"
	"  endpoint_id TEXT NOT NULL,"
	"  by TEXT NOT NULL,"
	"  added_ms INTEGER NOT NULL,"
	"  document BLOB,"    /* the bundle held, as it came; NULL: none */
	"  sequence INTEGER," /* NULL: it has none */
	"  refresh_s INTEGER NOT NULL,"
	"  fetched_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
};

struct federation {
	struct db *db;
	char own[SPIFFE_TRUST_DOMAIN_MAX + 1];
	struct federation_peer *peers[FEDERATION_MAX];
	size_t n;
	struct db_stmt *insert, *remove, *update;
};

const char *federation_profile_name(enum federation_profile p)
{
	return p == FEDERATION_SPIFFE ? "https_spiffe" : "https_web";
}

const char *federation_state_name(enum federation_state s)
{
	static const char *const names[] = { [FEDERATION_NONE] = "none",
					     [FEDERATION_FRESH] = "fresh",
					     [FEDERATION_STALE] = "stale",
					     [FEDERATION_EXPIRED] = "expired" };

	return names[s];
}

size_t federation_count(const struct federation *f)
{
	return f->n;
}

struct federation_peer *federation_at(struct federation *f, size_t i)
{
	return f->peers[i];
}

struct federation_peer *federation_find(struct federation *f, struct str trust_domain)
{
	for (size_t i = 0; i < f->n; i++)
		if (str_eq(str_c(f->peers[i]->trust_domain), trust_domain))
			return f->peers[i];
	return NULL;
}

static void peer_free(struct federation_peer *p)
{
	if (!p)
		return;
	bundle_set_release(p->set);
	free(p);
}

static void keep_text(char *out, size_t max, struct str s)
{
	s = str_first(s, max);
	if (s.n)
		memcpy(out, s.p, s.n);
	out[s.n] = '\0';
}

static uint32_t poll_every(const struct federation_document *d)
{
	uint32_t s = d->has_hint ? d->hint_s : FEDERATION_HINT_S;

	return s < FEDERATION_HINT_MIN_S   ? FEDERATION_HINT_MIN_S
	       : s > FEDERATION_HINT_MAX_S ? FEDERATION_HINT_MAX_S
					   : s;
}

/* A document in either form, as a set of its own. */
static bool read_bundle(struct str text, struct str trust_domain, struct federation_document *d,
			struct bundle_set **out, struct err *e)
{
	struct bundle_set *set = bundle_set_new(0, e);
	bool ok;

	if (!set)
		return false;
	*d = (struct federation_document){ 0 };
	ok = str_starts(text, STR("-----BEGIN")) ? federation_read_pem(text, trust_domain, set, e)
						 : federation_read(text, trust_domain, set, d, e);
	if (ok)
		*out = set;
	else
		bundle_set_release(set);
	return ok;
}

/* ---- the table ---- */

static void hold(struct federation_peer *p, struct bundle_set *set, struct str document,
		 const struct federation_document *d, int64_t fetched_ms)
{
	bundle_set_release(p->set);
	p->set = set;
	p->has_sequence = d->has_sequence;
	p->sequence = d->sequence;
	p->refresh_s = poll_every(d);
	p->fetched_ms = fetched_ms;
	crypto_sha256(document, p->hash);
}

/* A document that no longer reads (an older writ was more lenient) is as none. */
static void load_bundle(struct federation_peer *p, struct db_stmt *q)
{
	struct str document = db_column_blob(q, 5);
	struct federation_document d;
	struct bundle_set *set = NULL;

	p->refresh_s = FEDERATION_HINT_S;
	if (db_column_null(q, 5))
		return;
	if (read_bundle(document, str_c(p->trust_domain), &d, &set, &p->failed)) {
		d.has_sequence = !db_column_null(q, 8); /* one by hand counts for nothing */
		hold(p, set, document, &d, db_column_int(q, 6));
	} else {
		(void)err_prefix(&p->failed, "the stored bundle does not hold any more");
	}
}

static bool load(struct federation *f, struct err *e)
{
	AUTO_STMT *q = NULL;
	bool row = false;

	if (!db_prepare(f->db,
			"SELECT trust_domain, url, profile, endpoint_id, by, document, fetched_ms,"
			" added_ms, sequence FROM federation ORDER BY trust_domain",
			&q, e))
		return false;
	while (db_step(q, &row, e) && row) {
		struct federation_peer *p = calloc(1, sizeof(*p));

		if (!p || f->n == FEDERATION_MAX) {
			free(p);
			db_reset(q);
			return err_set(e, ERR_NOMEM, "no memory for the federation");
		}
		f->peers[f->n++] = p;
		keep_text(p->trust_domain, SPIFFE_TRUST_DOMAIN_MAX, db_column_text(q, 0));
		keep_text(p->url, FETCH_URL_MAX, db_column_text(q, 1));
		p->profile = db_column_int(q, 2) == FEDERATION_SPIFFE ? FEDERATION_SPIFFE
								      : FEDERATION_WEB;
		keep_text(p->endpoint_id, SPIFFE_ID_MAX, db_column_text(q, 3));
		keep_text(p->by, FEDERATION_BY_MAX, db_column_text(q, 4));
		p->added_ms = db_column_int(q, 7);
		load_bundle(p, q);
	}
	return !row;
}

bool federation_open(struct db *db, struct str own_trust_domain, struct federation **out,
		     struct err *e)
{
	struct federation *f = calloc(1, sizeof(*f));

	if (!f)
		return err_set(e, ERR_NOMEM, "no memory for the federation");
	f->db = db;
	keep_text(f->own, SPIFFE_TRUST_DOMAIN_MAX, own_trust_domain);
	if (!db_migrate(db, "federation", schema, ARRAY_LEN(schema), e) ||
	    !db_prepare(db,
			"INSERT INTO federation (trust_domain, url, profile, endpoint_id, by, "
			"added_ms, document, sequence, refresh_s, fetched_ms) "
			"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			&f->insert, e) ||
	    !db_prepare(db, "DELETE FROM federation WHERE trust_domain = ?", &f->remove, e) ||
	    !db_prepare(db,
			"UPDATE federation SET document = ?2, sequence = ?3, refresh_s = ?4, "
			"fetched_ms = ?5 WHERE trust_domain = ?1",
			&f->update, e) ||
	    !load(f, e)) {
		federation_close(f);
		return false;
	}
	*out = f;
	return true;
}

void federation_close(struct federation *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++)
		peer_free(f->peers[i]);
	db_finish(f->insert);
	db_finish(f->remove);
	db_finish(f->update);
	free(f);
}

/* ---- adding and removing ---- */

static bool check_endpoint(struct federation *f, const struct federation_spec *spec, struct err *e)
{
	struct spiffe_id id;

	if (str_eq(spec->profile, STR("https_web"))) {
		if (spec->endpoint_id.n)
			return err_code(e, ERR_INVALID, CODE,
					"an https_web endpoint proves itself by its host name: it "
					"has no SPIFFE ID");
		return true;
	}
	if (!str_eq(spec->profile, STR("https_spiffe")))
		return err_code(
			e, ERR_INVALID, CODE,
			"the profile must be https_web or https_spiffe; it is never guessed");
	if (!spec->endpoint_id.n)
		return err_code(e, ERR_INVALID, CODE,
				"https_spiffe needs the SPIFFE ID that the endpoint presents "
				"(--endpoint-id)");
	if (!spiffe_id_parse_workload(spec->endpoint_id, &id, e))
		return err_prefix(e, "the endpoint's SPIFFE ID");
	if (str_eq(id.trust_domain, spec->trust_domain)) {
		if (spec->bundle.n)
			return true;
		return err_code(
			e, ERR_INVALID, CODE,
			"the endpoint is of the trust domain whose bundle it serves: give a "
			"first bundle that it can be judged by (--bundle-file)");
	}
	if (str_eq(id.trust_domain, str_c(f->own)) || federation_find(f, id.trust_domain))
		return true;
	return err_code(e, ERR_INVALID, CODE,
			"the endpoint is of trust domain %.*s, which writ has no bundle of; add "
			"that one first",
			STR_FMT(id.trust_domain));
}

bool federation_check(struct federation *f, const struct federation_spec *spec, struct err *e)
{
	struct federation_document d;
	struct bundle_set *set = NULL;
	struct fetch_url url;
	struct spiffe_id id;
	AUTO_BUF whole;

	buf_init(&whole, mem_system, 1024);
	buf_lit(&whole, "spiffe://");
	buf_add(&whole, spec->trust_domain);
	/* Foreign names are held to the grammar alone, not to what we would let ourselves do. */
	if (!spiffe_id_parse(buf_str(&whole), &id, e))
		return err_prefix(e, "trust domain");
	if (id.path.n)
		return err_code(e, ERR_INVALID, CODE, "a trust domain has no path");
	if (str_eq(spec->trust_domain, str_c(f->own)))
		return err_code(
			e, ERR_INVALID, CODE,
			"%s is our own trust domain; others federate with it by GET /bundle",
			f->own);
	if (federation_find(f, spec->trust_domain))
		return err_code(e, ERR_CONFLICT, "federation_exists",
				"there is a relationship with %.*s; remove it to change it",
				STR_FMT(spec->trust_domain));
	if (f->n == FEDERATION_MAX)
		return err_code(e, ERR_TOO_LARGE, CODE, "more than %d relationships",
				FEDERATION_MAX);
	if (!fetch_url_parse(spec->url, &url, e) || !check_endpoint(f, spec, e))
		return false;
	if (spec->bundle.n) {
		if (!read_bundle(spec->bundle, spec->trust_domain, &d, &set, e))
			return false;
		bundle_set_release(set);
	}
	return true;
}

static bool store_new(struct federation *f, const struct federation_peer *p, struct str document,
		      struct err *e)
{
	struct db_stmt *s = f->insert;

	db_bind_text(s, 1, str_c(p->trust_domain));
	db_bind_text(s, 2, str_c(p->url));
	db_bind_int(s, 3, p->profile);
	db_bind_text(s, 4, str_c(p->endpoint_id));
	db_bind_text(s, 5, str_c(p->by));
	db_bind_int(s, 6, p->added_ms);
	if (p->set)
		db_bind_blob(s, 7, document.p, document.n);
	else
		db_bind_null(s, 7);
	if (p->has_sequence)
		db_bind_int(s, 8, (int64_t)p->sequence);
	else
		db_bind_null(s, 8);
	db_bind_int(s, 9, p->refresh_s);
	db_bind_int(s, 10, p->fetched_ms);
	return db_run(s, e);
}

bool federation_add(struct federation *f, const struct federation_spec *spec, int64_t now_ms,
		    struct err *e)
{
	struct federation_document d = { 0 };
	struct bundle_set *set = NULL;
	struct federation_peer *p;
	size_t at = f->n;

	if (!federation_check(f, spec, e))
		return false;
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, ERR_NOMEM, "no memory for a relationship");
	keep_text(p->trust_domain, SPIFFE_TRUST_DOMAIN_MAX, spec->trust_domain);
	keep_text(p->url, FETCH_URL_MAX, spec->url);
	keep_text(p->endpoint_id, SPIFFE_ID_MAX, spec->endpoint_id);
	keep_text(p->by, FEDERATION_BY_MAX, spec->by);
	p->profile = spec->endpoint_id.n ? FEDERATION_SPIFFE : FEDERATION_WEB;
	p->added_ms = now_ms;
	p->refresh_s = FEDERATION_HINT_S;
	if (spec->bundle.n) {
		if (!read_bundle(spec->bundle, spec->trust_domain, &d, &set, e)) {
			peer_free(p);
			return false;
		}
		/* By hand: it yields to whatever the endpoint sends first (5, Refresh). */
		d.has_sequence = false;
		hold(p, set, spec->bundle, &d, now_ms);
	}
	if (!store_new(f, p, spec->bundle, e)) {
		peer_free(p);
		return false;
	}
	while (at && strcmp(f->peers[at - 1]->trust_domain, p->trust_domain) > 0) {
		f->peers[at] = f->peers[at - 1];
		at--;
	}
	f->peers[at] = p;
	f->n++;
	return true;
}

bool federation_remove(struct federation *f, struct str trust_domain, struct err *e)
{
	size_t at = 0;

	while (at < f->n && !str_eq(str_c(f->peers[at]->trust_domain), trust_domain))
		at++;
	if (at == f->n)
		return err_code(e, ERR_NOT_FOUND, "unknown_federation",
				"there is no relationship with %.*s",
				STR_FMT(str_first(trust_domain, 255)));
	for (size_t i = 0; i < f->n; i++) {
		struct spiffe_id id;

		if (i != at && f->peers[i]->profile == FEDERATION_SPIFFE &&
		    spiffe_id_parse(str_c(f->peers[i]->endpoint_id), &id, NULL) &&
		    str_eq(id.trust_domain, trust_domain))
			return err_code(e, ERR_CONFLICT, "federation_in_use",
					"the endpoint of %s is judged by this bundle; remove that "
					"relationship first",
					f->peers[i]->trust_domain);
	}
	db_bind_text(f->remove, 1, trust_domain);
	if (!db_run(f->remove, e))
		return false;
	peer_free(f->peers[at]);
	f->n--;
	for (; at < f->n; at++)
		f->peers[at] = f->peers[at + 1];
	return true;
}

/* ---- what an endpoint sent ---- */

bool federation_look(struct federation *f, const struct federation_peer *p, struct str document,
		     struct federation_news *news, struct err *e)
{
	struct federation_document d;
	struct federation_news n = { 0 };

	(void)f;
	if (str_starts(document, STR("-----BEGIN")))
		return err_code(e, ERR_INVALID, "invalid_bundle",
				"the endpoint sent PEM; a bundle is a JWK Set");
	if (!read_bundle(document, str_c(p->trust_domain), &d, &n.set, e))
		return false;
	n.has_sequence = d.has_sequence;
	n.sequence = d.sequence;
	n.refresh_s = poll_every(&d);
	crypto_sha256(document, n.hash);
	n.change = p->set && memcmp(n.hash, p->hash, sizeof(n.hash)) == 0 ? FEDERATION_SAME
									  : FEDERATION_CHANGED;
	if (p->set && p->has_sequence && d.has_sequence && d.sequence < p->sequence) {
		bundle_set_release(n.set);
		return err_code(e, ERR_CONFLICT, "sequence_went_down",
				"the endpoint sent sequence %llu after %llu: an old bundle, or one "
				"of somebody who starts anew; if that is meant, remove and add the "
				"relationship",
				(unsigned long long)d.sequence, (unsigned long long)p->sequence);
	}
	if (n.change == FEDERATION_CHANGED && p->set && p->has_sequence && d.has_sequence &&
	    d.sequence == p->sequence)
		(void)err_code(&n.warned, ERR_CONFLICT, "sequence_unchanged",
			       "the bundle changed and its sequence %llu did not; it was taken",
			       (unsigned long long)d.sequence);
	*news = n;
	return true;
}

void federation_drop(struct federation_news *news)
{
	bundle_set_release(news->set);
	news->set = NULL;
}

bool federation_take(struct federation *f, struct federation_peer *p, struct federation_news *news,
		     struct str document, int64_t now_ms, struct err *e)
{
	struct db_stmt *s = f->update;

	db_bind_text(s, 1, str_c(p->trust_domain));
	db_bind_blob(s, 2, document.p, document.n);
	if (news->has_sequence)
		db_bind_int(s, 3, (int64_t)news->sequence);
	else
		db_bind_null(s, 3);
	db_bind_int(s, 4, news->refresh_s);
	db_bind_int(s, 5, now_ms);
	if (!db_run(s, e)) {
		federation_drop(news);
		return false;
	}
	p->fetched_ms = now_ms;
	p->has_sequence = news->has_sequence; /* also of one by hand that is confirmed */
	p->sequence = news->sequence;
	p->refresh_s = news->refresh_s;
	if (news->change == FEDERATION_SAME) { /* the objects stay, and what was odd about them */
		federation_drop(news);
		return true;
	}
	bundle_set_release(p->set);
	p->set = news->set;
	p->warned = news->warned;
	memcpy(p->hash, news->hash, sizeof(p->hash));
	news->set = NULL;
	return true;
}

enum federation_state federation_state(const struct federation_peer *p, int64_t now_ms,
				       int64_t keep_ms)
{
	int64_t age = now_ms - p->fetched_ms;

	if (!p->set)
		return FEDERATION_NONE;
	if (age > keep_ms)
		return FEDERATION_EXPIRED;
	return age > (int64_t)p->refresh_s * 1000 * STALE_AFTER ? FEDERATION_STALE
								: FEDERATION_FRESH;
}

bool federation_share(struct federation *f, struct bundle_set *set, int64_t now_ms, int64_t keep_ms,
		      struct err *e)
{
	for (size_t i = 0; i < f->n; i++) {
		struct federation_peer *p = f->peers[i];
		enum federation_state state = federation_state(p, now_ms, keep_ms);

		if (state != FEDERATION_NONE && state != FEDERATION_EXPIRED &&
		    !bundle_set_share(set, p->set->items[0], e))
			return false;
	}
	return true;
}
