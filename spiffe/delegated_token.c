/*
 * Reading and writing stand side by side here: each member that one writes the other demands.
 *
 * A token is never known by its text. ECDSA lets anybody who has one make a second text of the same
 * token that verifies as well (n - s in place of s); so it is revoked, recorded and counted by its
 * jti, and the text is a key only of the memory of signatures that held.
 */
#include "spiffe/delegated_token.h"

#include "authz/base/text.h"
#include "spiffe/jwt_inside.h"

#define OWN_CLAIMS "/claims"
#define PROFILE "ai_agent"
#define X5T "x5t#S256"

/* ---- texts ---- */

static bool is_id(struct str s)
{
	uint8_t bytes[24];
	size_t n = 0;

	return s.n == DELEGATED_ID_LEN && text_unbase64(s, BASE64_URL, bytes, &n) && n == 16;
}

static bool is_text(struct str s, size_t max)
{
	return s.n > 0 && s.n <= max && text_is_utf8(s) && text_is_printable(s);
}

/* %x21 / %x23-5B / %x5D-7E */
static bool scope_char(char c)
{
	return c > 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static bool scope_next(struct str *rest, struct str *name)
{
	if (!rest->n)
		return false;
	if (!str_cut(*rest, ' ', name, rest)) {
		*name = *rest;
		rest->n = 0;
	}
	return true;
}

static bool scope_has(struct str whole, struct str name)
{
	struct str one;

	while (scope_next(&whole, &one))
		if (str_eq(one, name))
			return true;
	return false;
}

bool delegated_scope_valid(struct str scope)
{
	struct str rest = scope, name;

	if (scope.n > DELEGATED_SCOPE_MAX || (scope.n && scope.p[scope.n - 1] == ' '))
		return false;
	while (scope_next(&rest, &name)) {
		if (!name.n || scope_has(rest, name))
			return false;
		for (size_t i = 0; i < name.n; i++)
			if (!scope_char(name.p[i]))
				return false;
	}
	return true;
}

bool delegated_scope_within(struct str part, struct str whole)
{
	struct str name;

	while (scope_next(&part, &name))
		if (!scope_has(whole, name))
			return false;
	return true;
}

void delegated_new_id(char out[static DELEGATED_ID_LEN + 1])
{
	uint8_t random[16];
	AUTO_BUF text = { 0 };

	buf_init(&text, mem_system, 64);
	random_bytes(random, sizeof(random));
	text_base64(&text, BASE64_URL, random, sizeof(random));
	memset(out, 0, DELEGATED_ID_LEN + 1);
	if (buf_ok(&text)) /* else a token without jti, which nobody issues */
		memcpy(out, text.p, DELEGATED_ID_LEN);
}

/* ---- what must hold of any of them, read or to be written ---- */

static bool fail(struct err *e, const char *what)
{
	return err_code(e, ERR_INVALID, JWT_CODE, "token: %s", what);
}

static bool check_chain(const struct delegated_token *t, struct err *e)
{
	struct spiffe_id id;

	if (t->nchain == 0 || t->nchain > DELEGATED_CHAIN_MAX)
		return fail(e, "the chain of its actors is empty or too long");
	for (size_t i = 0; i < t->nchain; i++) {
		if (!spiffe_id_parse_workload(t->chain[i], &id, e))
			return err_prefix(e, "token: an actor");
		for (size_t j = 0; j < i; j++)
			if (str_eq(t->chain[i], t->chain[j]))
				return fail(e, "an agent is in the chain of its actors twice");
	}
	return true;
}

static bool check_line(const struct delegated_token *t, struct err *e)
{
	if (!is_id(t->id))
		return fail(e, "jti must be 22 characters of base64url");
	if (t->nline > DELEGATED_CHAIN_MAX)
		return fail(e, "its line is too long");
	for (size_t i = 0; i < t->nline; i++)
		if (!is_id(t->line[i]))
			return fail(e, "its line must be of jti");
	return true;
}

/* A user's name never looks like an agent's. */
static bool check_subject(const struct delegated_token *t, struct err *e)
{
	if (!t->subject_issuer.n)
		return str_eq(t->subject, t->chain[0]) ||
		       fail(e, "without a user, sub is the agent that began");
	if (!is_text(t->subject_issuer, 1024) || !is_text(t->subject, DELEGATED_SUBJECT_MAX))
		return fail(e, "sub and its issuer must be printable texts");
	return !str_starts(t->subject, STR("spiffe:")) ||
	       fail(e, "a user's name must not look like a SPIFFE ID");
}

static bool check_all(const struct delegated_token *t, struct err *e)
{
	if (!is_text(t->issuer, 1024) || !is_text(t->audience, JWT_AUDIENCE_MAX))
		return fail(e, "iss and aud must be printable texts");
	if (!delegated_scope_valid(t->scope))
		return fail(e, "scope must be names with one blank between them, each once");
	if (t->issued_s <= 0 || t->expires_s <= t->issued_s)
		return fail(e, "it must end after it begins (iat, exp)");
	return check_chain(t, e) && check_subject(t, e) && check_line(t, e);
}

/* ---- writing ---- */

static void put(struct buf *b, const char *name, struct str value)
{
	buf_printf(b, ",\"%s\":", name);
	buf_json(b, value);
}

/* Who acts now is outermost. Of an agent that acts for itself there is none. */
static void put_act(struct buf *b, const struct delegated_token *t)
{
	size_t first = t->subject_issuer.n ? 0 : 1, depth = 0;

	for (size_t i = t->nchain; i > first; i--, depth++) {
		buf_add(b, depth ? STR(",\"act\":{\"iss\":") : STR("\"act\":{\"iss\":"));
		buf_json(b, t->issuer);
		put(b, "sub", t->chain[i - 1]);
		put(b, "sub_profile", STR(PROFILE));
	}
	for (size_t i = 0; i < depth; i++)
		buf_char(b, '}');
	if (depth)
		buf_char(b, ',');
}

static void put_own(struct buf *b, const struct delegated_token *t)
{
	struct buf name;

	buf_init(&name, mem_system, 1100);
	buf_add(&name, t->issuer);
	buf_lit(&name, OWN_CLAIMS);
	buf_char(b, ',');
	buf_json(b, buf_str(&name));
	buf_lit(b, ":{\"line\":[");
	for (size_t i = 0; i < t->nline; i++) {
		if (i)
			buf_char(b, ',');
		buf_json(b, t->line[i]);
	}
	buf_char(b, ']');
	if (t->subject_issuer.n)
		put(b, "sub_iss", t->subject_issuer);
	buf_char(b, '}');
	b->failed |= !buf_ok(&name);
	buf_clear(&name);
}

void delegated_token_claims(const struct delegated_token *t, struct buf *b)
{
	put_act(b, t);
	buf_lit(b, "\"aud\":");
	buf_json(b, t->audience);
	put(b, "client_id", delegated_actor(t));
	buf_lit(b, ",\"cnf\":{\"" X5T "\":\"");
	text_base64(b, BASE64_URL, t->bound, sizeof(t->bound));
	buf_lit(b, "\"},\"exp\":");
	buf_i64(b, t->expires_s);
	buf_lit(b, ",\"iat\":");
	buf_i64(b, t->issued_s);
	put(b, "iss", t->issuer);
	put(b, "jti", t->id);
	if (t->scope.n)
		put(b, "scope", t->scope);
	put(b, "sub", t->subject);
	if (!t->subject_issuer.n)
		put(b, "sub_profile", STR(PROFILE));
	put_own(b, t);
}

bool delegated_token_issue(struct jwt_signer *s, const struct delegated_token *t, struct buf *out,
			   struct err *e)
{
	AUTO_BUF json = { 0 };

	if (!check_all(t, e))
		return false;
	buf_init(&json, mem_system, LIMIT_TOKEN);
	buf_char(&json, '{');
	delegated_token_claims(t, &json);
	buf_char(&json, '}');
	if (!buf_ok(&json))
		return err_set(e, ERR_TOO_LARGE, "the token would have more than %d bytes",
			       LIMIT_TOKEN);
	return jwt_sign(s, JWT_TYPE_DELEGATED, buf_str(&json), out, e);
}

/* ---- reading ---- */

static bool get(const struct json *claims, const char *name, struct str *out, struct err *e)
{
	const struct json *v = json_get_type(claims, str_c(name), JSON_STRING);

	if (!v)
		return err_code(e, ERR_UNAUTHENTICATED, JWT_CODE, "token: %s must be a string",
				name);
	*out = v->s;
	return true;
}

/* From the outermost in, so the chain comes back to front. */
static bool read_act(const struct json *claims, struct delegated_token *t, struct err *e)
{
	struct str inwards[DELEGATED_CHAIN_MAX], iss;
	size_t n = 0;

	for (const struct json *act = json_get(claims, STR("act")); act;
	     act = json_get(act, STR("act"))) {
		if (act->type != JSON_OBJECT)
			return jwt_refuse(e, "act must be an object");
		if (n == DELEGATED_CHAIN_MAX)
			return jwt_refuse(e, "the chain of its actors is too long");
		if (!get(act, "sub", &inwards[n], e) || !get(act, "iss", &iss, e))
			return err_prefix(e, "act");
		if (!str_eq(iss, t->issuer))
			return jwt_refuse(e, "an actor is of another issuer");
		n++;
	}
	if (!t->subject_issuer.n)
		t->chain[t->nchain++] = t->subject;
	if (t->nchain + n > DELEGATED_CHAIN_MAX)
		return jwt_refuse(e, "the chain of its actors is too long");
	while (n)
		t->chain[t->nchain++] = inwards[--n];
	return true;
}

static bool read_own(const struct json *claims, struct arena *a, struct delegated_token *t,
		     struct err *e)
{
	struct str name = arena_printf(a, "%.*s" OWN_CLAIMS, STR_FMT(t->issuer));
	const struct json *own = json_get_type(claims, name, JSON_OBJECT);
	const struct json *line = json_get_type(own, STR("line"), JSON_ARRAY);

	if (!name.p)
		return err_set(e, ERR_NOMEM, "no memory for a token's claims");
	if (!line || line->n > DELEGATED_CHAIN_MAX)
		return jwt_refuse(e, "the claims of its issuer are missing or malformed");
	for (uint32_t i = 0; i < line->n; i++) {
		if (line->items[i].type != JSON_STRING)
			return jwt_refuse(e, "its line must be of jti");
		t->line[t->nline++] = line->items[i].s;
	}
	return !json_get(own, STR("sub_iss")) || get(own, "sub_iss", &t->subject_issuer, e);
}

/* Binding is not an option: a token that anybody could use would be a bearer token. */
static bool read_binding(const struct json *claims, struct delegated_token *t, struct err *e)
{
	const struct json *cnf = json_get_type(claims, STR("cnf"), JSON_OBJECT);
	const struct json *x5t = json_get_type(cnf, STR(X5T), JSON_STRING);
	uint8_t hash[SHA256_LEN + 3];
	size_t n = 0;

	if (!x5t || cnf->n != 1 || x5t->s.n != 43 || !text_unbase64(x5t->s, BASE64_URL, hash, &n) ||
	    n != SHA256_LEN)
		return jwt_refuse(e, "cnf must hold " X5T ", and nothing else");
	memcpy(t->bound, hash, SHA256_LEN);
	return true;
}

static bool read_times(const struct json *claims, const struct delegated_expected *x,
		       int64_t leeway_s, struct jwt_cached *entry, struct delegated_token *t,
		       struct err *e)
{
	const struct json *iat = json_get_type(claims, STR("iat"), JSON_INT);

	if (!iat)
		return jwt_refuse(e, "iat must be an integer (seconds since 1970)");
	if (!jwt_check_times(claims, x->now_s, leeway_s, entry, e))
		return false;
	t->issued_s = iat->i;
	t->expires_s = entry->expires_s;
	return true;
}

static bool is_for_us(const struct delegated_expected *x, struct str audience, struct err *e)
{
	for (size_t i = 0; i < x->naudience; i++)
		if (x->audience[i].n && str_eq(x->audience[i], audience))
			return true;
	return x->any_audience || jwt_refuse(e, "aud: it is addressed to others");
}

static bool read_claims(const struct json *claims, const struct delegated_expected *x,
			int64_t leeway_s, struct arena *a, struct jwt_cached *entry,
			struct delegated_token *t, struct err *e)
{
	struct str client;

	if (!get(claims, "iss", &t->issuer, e) || !get(claims, "sub", &t->subject, e) ||
	    !get(claims, "aud", &t->audience, e) || !get(claims, "jti", &t->id, e) ||
	    !get(claims, "client_id", &client, e) ||
	    (json_get(claims, STR("scope")) && !get(claims, "scope", &t->scope, e)))
		return false;
	if (!x->issuer.n || !str_eq(t->issuer, x->issuer))
		return jwt_refuse(e, "iss is not this server");
	if (!read_own(claims, a, t, e) || !read_act(claims, t, e) || !read_binding(claims, t, e) ||
	    !read_times(claims, x, leeway_s, entry, t, e) || !is_for_us(x, t->audience, e))
		return false;
	if (!check_all(t, e)) {
		e->class = ERR_UNAUTHENTICATED;
		e->code = JWT_CODE;
		return false;
	}
	return str_eq(client, delegated_actor(t)) ||
	       jwt_refuse(e, "client_id is not the one who acts");
}

/* RFC 9068 4: with or without "application/" (RFC 7515 4.1.9) */
static bool is_type(struct str typ)
{
	return str_eq(typ, STR(DELEGATED_TYPE)) || str_eq(typ, STR("application/" DELEGATED_TYPE));
}

bool delegated_token_claimed(struct str token, struct arena *a)
{
	return is_type(jwt_typ(token, a));
}

static bool verify(struct jwt_verifier *v, struct str text, const struct delegated_expected *x,
		   struct arena *a, struct delegated_token *out, struct err *e)
{
	const struct str parts[] = { STR(DELEGATED_TYPE), STR("\0"), text };
	struct jwt_cached entry = { 0 };
	const struct bundle *b = bundle_find(v->bundles, x->trust_domain);
	struct jwt_token t = { 0 };
	bool known;

	if (!jwt_take_apart(text, a, &t, e))
		return false;
	if (!is_type(t.typ))
		return jwt_refuse(e, "typ must be \"" DELEGATED_TYPE "\"");
	if (!b || !t.has_kid)
		return jwt_refuse(e, b ? "kid is missing" : "there is no trust bundle of ours yet");
	sha256_parts(v->sha, parts, ARRAY_LEN(parts), entry.key);
	known = jwt_cache_find(&v->cache, entry.key, x->now_s) != NULL;
	if ((!known && !jwt_check_signature(v, b, &t, e)) ||
	    !read_claims(t.claims, x, v->leeway_s, a, &entry, out, e))
		return false;
	if (known) {
		v->counts.hits++;
		return true;
	}
	v->counts.verified++;
	entry.id = out->id;
	jwt_cache_add(&v->cache, &entry);
	return true;
}

bool delegated_token_verify(struct jwt_verifier *v, struct bundle_set *bundles, struct str token,
			    const struct delegated_expected *x, struct arena *a,
			    struct delegated_token *out, struct err *e)
{
	struct delegated_token t = { 0 };

	jwt_verifier_use(v, bundles);
	if (!verify(v, token, x, a, &t, e)) {
		v->counts.refused++;
		return false;
	}
	*out = t;
	return true;
}
