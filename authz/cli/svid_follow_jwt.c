/*
 * A token is asked for the identity of the X.509-SVID beside it, and looked at before it replaces
 * the one that is there: whose, for whom, until when. Its signature is for its audience to verify.
 */
#include "authz/cli/svid_follow_jwt.h"

#include <time.h>

#include "authz/base/clock.h"
#include "authz/base/protobuf.h"
#include "authz/base/text.h"
#include "authz/cli/print.h"
#include "authz/cli/workload.h"
#include "spiffe/jws.h"

#define TEXT_BYTES (256 * 1024)
#define IDLE_S 30

/* ---- the options ---- */

static const char *const taken[] = { "svid.pem", "key.pem", "bundle.pem", "key.pem.old" };

static bool good_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(taken); i++)
		if (strcmp(name, taken[i]) == 0)
			return false;
	return *name && *name != '.' && !strchr(name, '/') && strlen(name) <= 200 &&
	       text_is_printable(str_c(name));
}

static bool read_name(const char *option, const char *name, struct err *e)
{
	return good_name(name) ||
	       err_code(e, ERR_INVALID, "wrong_usage",
			"%s: \"%.200s\": expected the name of a file in DIR, other than "
			"svid.pem, key.pem and bundle.pem",
			option, name);
}

bool svid_token_read(const char *text, struct svid_token *out, struct err *e)
{
	const char *cut = strrchr(text, '=');
	struct svid_token t = {
		{ text, cut ? (size_t)(cut - text) : 0 }, cut ? cut + 1 : "", 0, 0
	};

	if (!t.audience.n)
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--jwt %.200s: expected AUDIENCE=FILE, such as "
				"spiffe://example.org/db=db.jwt",
				text);
	if (!read_name("--jwt", t.file, e))
		return false;
	*out = t;
	return true;
}

static bool is_new(const struct svid_jwt *j, const char *name, struct err *e)
{
	bool same = j->bundle_file && strcmp(j->bundle_file, name) == 0;

	for (size_t i = 0; i < j->ntokens; i++)
		same |= strcmp(j->tokens[i].file, name) == 0;
	return !same || err_code(e, ERR_INVALID, "wrong_usage",
				 "%.200s is the name of two files: give each its own", name);
}

bool svid_jwt_of(const struct cli *c, struct svid_jwt *out, struct err *e)
{
	struct svid_jwt j = { .bundle_file = cli_value(c, "--jwt-bundle") };
	const char *text;
	size_t at = 0;

	buf_init(&j.bundles, mem_system, WORKLOAD_REPLY_MAX);
	if (j.bundle_file && !read_name("--jwt-bundle", j.bundle_file, e))
		return false;
	while ((text = cli_next(c, "--jwt", &at))) {
		struct svid_token t;

		if (!svid_token_read(text, &t, e) || !is_new(&j, t.file, e))
			return false;
		if (j.ntokens == SVID_TOKENS_MAX)
			return err_code(e, ERR_INVALID, "wrong_usage", "--jwt: at most %d of them",
					SVID_TOKENS_MAX);
		j.tokens[j.ntokens++] = t;
	}
	*out = j;
	return true;
}

void svid_jwt_clear(struct svid_jwt *j)
{
	buf_clear(&j->bundles);
}

void svid_jwt_heard(struct svid_jwt *j, struct str message)
{
	buf_reset(&j->bundles);
	buf_add(&j->bundles, message);
}

void svid_jwt_forget(struct svid_jwt *j)
{
	for (size_t i = 0; i < j->ntokens; i++)
		j->tokens[i].renew_at_s = 0;
}

/* ---- tokens ---- */

static bool bad_token(struct err *e, const char *what)
{
	return err_code(e, ERR_INTERNAL, "bad_response", "the Workload API's token %s", what);
}

static bool is_for(const struct json *aud, struct str audience)
{
	if (aud && aud->type == JSON_STRING)
		return str_eq(aud->s, audience);
	for (uint32_t i = 0; aud && aud->type == JSON_ARRAY && i < aud->n; i++)
		if (aud->items[i].type == JSON_STRING && str_eq(aud->items[i].s, audience))
			return true;
	return false;
}

static bool check_claims(const struct json *claims, const struct svid_token *t, struct str id,
			 int64_t now, int64_t *to_s, struct err *e)
{
	const struct json *sub = json_get_type(claims, STR("sub"), JSON_STRING);
	const struct json *exp = json_get_type(claims, STR("exp"), JSON_INT);

	if (!sub || !str_eq(sub->s, id))
		return bad_token(e, "is another identity's (sub)");
	if (!is_for(json_get(claims, STR("aud")), t->audience))
		return bad_token(e, "is not for the audience that was asked for (aud)");
	if (!exp || exp->i <= now)
		return bad_token(e, "has expired, or does not say when (exp)");
	*to_s = exp->i;
	return true;
}

static bool look_at(struct str text, const struct svid_token *t, struct str id, int64_t now,
		    int64_t *to_s, struct err *e)
{
	struct arena a;
	struct jws token;
	bool ok;

	arena_init(&a, &mem_system, TEXT_BYTES);
	ok = jws_read(text, &a, &token, e) && check_claims(token.claims, t, id, now, to_s, e);
	arena_clear(&a);
	return ok;
}

static void say_token(const struct svid_watch *w, const struct svid_token *t, int64_t to_s)
{
	char expires[CLOCK_RFC3339_MAX];
	AUTO_BUF b;

	buf_init(&b, mem_system, TEXT_BYTES);
	clock_rfc3339(to_s * 1000, expires);
	if (w->c->json) {
		buf_printf(&b,
			   "{\"event\":\"token\",\"spiffe_id\":\"%s\",\"expires_at\":\"%s\","
			   "\"audience\":",
			   w->now.spiffe_id, expires);
		buf_json(&b, t->audience);
		buf_lit(&b, ",\"file\":");
		buf_json(&b, str_c(t->file));
		buf_lit(&b, "}\n");
	} else {
		buf_printf(&b, "token %s for %.*s until %s in %s/%s\n", w->now.spiffe_id,
			   STR_FMT(t->audience), expires, w->files.dir, t->file);
	}
	fwrite(b.p, 1, b.n, w->c->out);
	fflush(w->c->out);
}

static bool renew(struct svid_watch *w, struct svid_token *t, int64_t now, struct err *e)
{
	const struct str id = str_c(w->now.spiffe_id);
	int64_t to_s = 0;
	AUTO_BUF token;
	bool ok;

	buf_init(&token, mem_system, TEXT_BYTES);
	ok = svid_token_for(cli_value(w->c, "--socket"), t->audience, id, &token, e) &&
	     look_at(buf_str(&token), t, id, now, &to_s, e) &&
	     svid_put_file(&w->files, t->file, buf_str(&token), w->files.key_mode, e);
	if (token.p)
		mem_wipe(token.p, token.n);
	if (!ok)
		return err_prefix(e, "the token for %.*s", STR_FMT(str_first(t->audience, 200)));
	/* Half of what is left of it, by our own clock: it may come from the server's cache. */
	t->renew_at_s = svid_renew_at(now, to_s, 0, svid_any());
	if (t->renew_at_s <= now)
		t->renew_at_s = now + 1;
	say_token(w, t, to_s);
	return true;
}

/* Is there a new one? */
static bool renew_tokens(struct svid_jwt *j, struct svid_watch *w, int64_t now)
{
	bool changed = false;

	for (size_t i = 0; i < j->ntokens; i++) {
		struct svid_token *t = &j->tokens[i];
		struct err e = { 0 };

		if (now < t->renew_at_s)
			continue;
		if (renew(w, t, now, &e)) {
			t->failures = 0;
			changed = true;
			continue;
		}
		svid_complain(w, &e);
		j->failed = true;
		j->final |= e.class == ERR_INVALID || e.class == ERR_NOT_FOUND;
		t->failures++;
		t->renew_at_s = now + svid_retry_after(t->failures, svid_any());
	}
	return changed;
}

/* ---- the bundle ---- */

/* Of JWTBundlesResponse { map<string, bytes> bundles = 1 }, keyed by trust domains' SPIFFE IDs. */
static bool find_bundle(struct str message, struct str domain, struct str *out, struct err *e)
{
	struct pb_reader in = pb_reader(message);
	struct pb_field f;
	bool found = false;

	while (pb_next(&in, &f)) {
		struct str key = { NULL, 0 }, value = { NULL, 0 };
		struct pb_reader one;
		struct pb_field g;

		if (f.number != 1)
			continue;
		pb_message(&in, &f, &one);
		while (pb_next(&one, &g)) {
			if (g.number == 1)
				pb_string(&one, &g, &key);
			else if (g.number == 2)
				pb_bytes(&one, &g, &value);
		}
		pb_fail_with(&in, &one);
		if (str_starts(key, STR("spiffe://")) &&
		    str_eq(str_from(key, strlen("spiffe://")), domain)) {
			*out = value;
			found = true;
		}
	}
	return pb_ok(&in, "the Workload API's JWT bundles", e) &&
	       (found ||
		err_code(e, ERR_INTERNAL, "bad_response",
			 "the Workload API has no JWT bundle of spiffe://%.*s", STR_FMT(domain)));
}

static bool is_key_set(struct str text, struct err *e)
{
	const struct json *v = NULL;
	struct err why = { 0 };
	struct arena a;
	bool ok;

	arena_init(&a, &mem_system, WORKLOAD_REPLY_MAX);
	ok = json_parse(text, &json_default_limits, &a, &v, &why) &&
	     json_get_type(v, STR("keys"), JSON_ARRAY);
	arena_clear(&a);
	return ok || err_code(e, ERR_INTERNAL, "bad_response",
			      "the Workload API's JWT bundle is no JWK Set%s%.200s",
			      *why.msg ? ": " : "", why.msg);
}

static bool write_bundle(struct svid_jwt *j, struct svid_watch *w, bool *changed, struct err *e)
{
	AUTO_BUF before;
	struct spiffe_id id;
	struct str keys;

	svid_read_now(w, j->bundle_file, &before);
	if (!spiffe_id_parse(str_c(w->now.spiffe_id), &id, e) ||
	    !find_bundle(buf_str(&j->bundles), id.trust_domain, &keys, e) || !is_key_set(keys, e))
		return false;
	*changed = !str_eq(buf_str(&before), keys);
	return !*changed || svid_put_file(&w->files, j->bundle_file, keys, 0644, e);
}

int64_t svid_jwt_turn(struct svid_jwt *j, struct svid_watch *w)
{
	const int64_t now = (int64_t)time(NULL);
	bool bundle = false, tokens;
	int64_t wait_s = IDLE_S;
	struct err e = { 0 };

	j->failed = j->final = false;
	if (j->bundles.n && !write_bundle(j, w, &bundle, &e)) {
		svid_complain(w, &e);
		j->failed = true;
	}
	buf_reset(&j->bundles); /* a better one will be pushed */
	if (bundle)
		svid_say(w, "jwt_bundle");
	tokens = renew_tokens(j, w, now);
	if (bundle || tokens)
		svid_notify(w);
	for (size_t i = 0; i < j->ntokens; i++)
		if (j->tokens[i].renew_at_s - now < wait_s)
			wait_s = j->tokens[i].renew_at_s - now;
	return wait_s;
}
