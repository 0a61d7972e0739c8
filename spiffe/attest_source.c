#include "spiffe/attest_source.h"

#include <stdio.h>

#include "spiffe/attest_inside.h"

#define CODE "invalid_discovery"
#define STALE_AFTER 3 /* intervals without a successful fetch */

const char *attest_source_state_name(enum attest_source_state s)
{
	static const char *const names[] = { [SOURCE_NONE] = "none",
					     [SOURCE_FRESH] = "fresh",
					     [SOURCE_STALE] = "stale",
					     [SOURCE_EXPIRED] = "expired" };

	return names[s];
}

size_t attest_sources(const struct attest *a)
{
	return a->nsources;
}

struct attest_source *attest_source_at(struct attest *a, size_t i)
{
	return a->sources[i];
}

enum attest_source_state attest_source_state(const struct attest *a, const struct attest_source *s,
					     int64_t now_ms)
{
	int64_t age = now_ms - s->fetched_ms;

	if (!s->keys)
		return SOURCE_NONE;
	if (age > a->config.keep_s * 1000)
		return SOURCE_EXPIRED;
	return age > a->config.refresh_s * 1000 * STALE_AFTER ? SOURCE_STALE : SOURCE_FRESH;
}

bool attest_source_due(struct attest_source *s, int64_t now_ns)
{
	bool early = s->wanted && now_ns >= s->early_ns;

	if (s->busy || (!early && now_ns < s->next_ns))
		return false;
	if (early)
		s->early_ns = now_ns + (int64_t)ATTEST_EARLY_S * 1000000000;
	s->wanted = false;
	s->busy = true;
	return true;
}

/* ---- what is held ---- */

/* Keys of before, if they came from where the configuration says now. */
static bool read_stored(struct attest *a, struct attest_source *s, struct db_stmt *q, struct err *e)
{
	struct str document;
	bool row;

	db_bind_text(q, 1, str_c(s->kind));
	db_bind_text(q, 2, s->config->issuer);
	db_bind_text(q, 3, s->config->jwks);
	if (!db_step(q, &row, e))
		return false;
	if (row) {
		document = db_column_blob(q, 0);
		s->fetched_ms = db_column_int(q, 1);
		sha256_of(a->sha, document, s->hash);
		/* What this release does not read is fetched again. */
		(void)!jwks_read(document, &s->keys, &s->failed);
	}
	return true;
}

bool attest_source_open(struct attest *a, struct attest_source *s,
			const struct attest_issuer *config, struct err *e)
{
	AUTO_STMT *q = NULL;

	s->config = config;
	s->kind = config->users ? "users" : config->cluster.n ? "k8s" : "oidc";
	a->sources[a->nsources++] = s;
	return db_prepare(a->db,
			  "SELECT document, fetched_ms FROM attest_jwks"
			  " WHERE kind = ? AND issuer = ? AND source = ?",
			  &q, e) &&
	       read_stored(a, s, q, e);
}

bool attest_source_look(struct attest *a, const struct attest_source *s, struct str document,
			struct attest_news *news, struct err *e)
{
	*news = (struct attest_news){ 0 };
	if (!jwks_read(document, &news->keys, e))
		return false;
	sha256_of(a->sha, document, news->hash);
	news->changed = !s->keys || memcmp(news->hash, s->hash, sizeof(s->hash)) != 0;
	return true;
}

void attest_news_drop(struct attest_news *news)
{
	jwks_free(news->keys);
	news->keys = NULL;
}

bool attest_source_take(struct attest *a, struct attest_source *s, struct attest_news *news,
			struct str document, int64_t now_ms, struct err *e)
{
	db_bind_text(a->keep, 1, str_c(s->kind));
	db_bind_text(a->keep, 2, s->config->issuer);
	db_bind_text(a->keep, 3, s->config->jwks);
	db_bind_blob(a->keep, 4, document.p, document.n);
	db_bind_int(a->keep, 5, now_ms);
	if (!db_run(a->keep, e)) {
		attest_news_drop(news);
		return false;
	}
	jwks_free(s->keys);
	s->keys = news->keys;
	s->fetched_ms = now_ms;
	memcpy(s->hash, news->hash, sizeof(s->hash));
	news->keys = NULL;
	return true;
}

/* ---- discovery ---- */

bool attest_discovery_url(struct str issuer, char out[static FETCH_URL_MAX + 1])
{
	int n;

	while (issuer.n && issuer.p[issuer.n - 1] == '/')
		issuer.n--;
	n = snprintf(out, FETCH_URL_MAX + 1, "%.*s/.well-known/openid-configuration",
		     STR_FMT(issuer));
	return n <= FETCH_URL_MAX;
}

static bool read_members(const struct json *doc, struct str issuer,
			 char out[static FETCH_URL_MAX + 1], struct err *e)
{
	const struct json *who = json_get_type(doc, STR("issuer"), JSON_STRING);
	const struct json *where = json_get_type(doc, STR("jwks_uri"), JSON_STRING);

	if (!who || !where)
		return err_code(e, ERR_INVALID, CODE,
				"discovery document: expected an object with the strings issuer "
				"and jwks_uri");
	if (!str_eq(who->s, issuer))
		return err_code(
			e, ERR_INVALID, CODE,
			"discovery document: its issuer is \"%.*s\", not the configured one",
			STR_FMT(str_first(who->s, 200)));
	if (where->s.n > FETCH_URL_MAX)
		return err_code(e, ERR_INVALID, CODE,
				"discovery document: jwks_uri is longer than %d bytes",
				FETCH_URL_MAX);
	memcpy(out, where->s.p, where->s.n);
	out[where->s.n] = '\0';
	return true;
}

bool attest_discovery_read(struct str document, struct str issuer,
			   char out[static FETCH_URL_MAX + 1], struct err *e)
{
	static const struct json_limits limits = {
		.string = 8192, .depth = 8, .members = 128, .values = 4096
	};
	const struct json *doc = NULL;
	struct err why = { 0 };
	struct arena arena;
	bool ok;

	arena_init(&arena, &mem_system, (size_t)16 * ATTEST_DISCOVERY_MAX);
	ok = json_parse(document, &limits, &arena, &doc, &why) ||
	     err_code(e, ERR_INVALID, CODE, "discovery document: %.300s", why.msg);
	ok = ok && read_members(doc, issuer, out, e);
	arena_clear(&arena);
	return ok;
}
