#include "authz/audit/mask.h"

#include "authz/base/text.h"

/* --- rules --- */

bool mask_add_field(struct mask *m, struct str path, struct err *e)
{
	static const struct str tops[] = { STR_INIT("action"),	STR_INIT("args"),
					   STR_INIT("context"), STR_INIT("detail"),
					   STR_INIT("http"),	STR_INIT("resource"),
					   STR_INIT("subject"), STR_INIT("*") };
	struct mask_field f = { 0 };
	struct str rest = path;
	size_t top = 0;
	bool more = true;

	if (!path.n || path.n > MASK_PATH)
		return err_set(e, ERR_INVALID, "a path has 1 to %d bytes", MASK_PATH);
	if (str_eq(path, STR("**")) || str_starts(path, STR("**."))) {
		f.anywhere = true;
		rest = str_from(path, path.n == 2 ? 2 : 3);
	}
	while (more) {
		struct str step = rest, after = { 0 };

		more = str_cut(rest, '.', &step, &after);
		if (!step.n || str_eq(step, STR("**")) || f.n + 2 > MASK_STEPS)
			return err_set(e, ERR_INVALID,
				       "expected at most %d names or * between dots, and ** at the "
				       "beginning only",
				       MASK_STEPS - 2);
		if (!f.n && !f.anywhere && str_eq(step, STR("args"))) {
			f.steps[f.n++] = STR("action");
			step = STR("properties");
		}
		f.steps[f.n++] = step;
		rest = after;
	}
	while (top < ARRAY_LEN(tops) && !str_eq(tops[top], f.steps[0]))
		top++;
	if (!f.anywhere && top == ARRAY_LEN(tops))
		return err_set(e, ERR_INVALID,
			       "a path begins with action, args, context, detail, http, resource, "
			       "subject, * or **");
	if (m->nfields == MASK_RULES)
		return err_set(e, ERR_INVALID, "there are at most %d fields", MASK_RULES);
	m->fields[m->nfields++] = f;
	return true;
}

static const struct {
	const char *name;
	unsigned bits;
} detectors[] = {
	{ "bearer", MASK_BEARER },
	{ "jwt", MASK_JWT },
	{ "api_key", MASK_API_KEY },
	{ "private_key", MASK_PRIVATE_KEY },
	{ "aws_key", MASK_AWS_KEY },
	{ "credit_card", MASK_CREDIT_CARD },
	{ "token", MASK_BEARER | MASK_JWT | MASK_API_KEY },
	{ "key", MASK_PRIVATE_KEY | MASK_AWS_KEY },
};

bool mask_add_detector(struct mask *m, struct str name, struct err *e)
{
	const char *names[ARRAY_LEN(detectors) + 1] = { NULL };
	const char *near;

	for (size_t i = 0; i < ARRAY_LEN(detectors); i++) {
		names[i] = detectors[i].name;
		if (str_eq(name, str_c(detectors[i].name))) {
			m->detectors |= detectors[i].bits;
			return true;
		}
	}
	near = text_nearest(name, names);
	return err_set(
		e, ERR_INVALID,
		"\"%.*s\" is no detector%s%s%s: there are bearer, jwt, api_key, private_key, "
		"aws_key, credit_card, token and key",
		STR_FMT(str_first(name, 40)), near ? "; did you mean \"" : "", near ? near : "",
		near ? "\"?" : "");
}

/* --- detectors ---
 * Each is tried where a word begins, and says how many bytes from there are the secret (0: none),
 * and with *skip how many before it stay. What does not hit has looked at a bounded number of
 * bytes, so that a text costs time in proportion to its length; but for find_jwt, whose *skip then
 * says how far it need not be tried again. */

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_url64(char c)
{
	return is_alnum(c) || c == '-' || c == '_';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* token68 of RFC 9110 11.2. */
static bool is_token68(char c)
{
	return is_url64(c) || c == '.' || c == '~' || c == '+' || c == '/' || c == '=';
}

static size_t run_of(struct str s, bool (*is)(char c))
{
	size_t n = 0;

	while (n < s.n && is(s.p[n]))
		n++;
	return n;
}

static size_t find_bearer(struct str s, size_t *skip)
{
	static const char word[] = "bearer";
	size_t at = 0, n;

	for (; at < sizeof(word) - 1; at++)
		if (at >= s.n || (s.p[at] | 0x20) != word[at])
			return 0;
	while (at < s.n && at < sizeof(word) + 7 && s.p[at] == ' ')
		at++;
	if (at == sizeof(word) - 1)
		return 0;
	n = run_of(str_from(s, at), is_token68);
	*skip = at;
	return n >= 16 ? n : 0; /* shorter: "bearer of the news" */
}

/* Header and claims begin with `{"`, which is eyJ in base64url. */
static size_t find_jwt(struct str s, size_t *skip)
{
	size_t head, body, tail;

	if (!str_starts(s, STR("eyJ")))
		return 0;
	head = run_of(s, is_url64);
	*skip = head; /* whatever begins in this run has the same end */
	if (head < 8 || head + 1 >= s.n || s.p[head] != '.')
		return 0;
	body = run_of(str_from(s, head + 1), is_url64);
	if (body < 8)
		return 0;
	tail = head + 1 + body;
	while (tail < s.n && (is_url64(s.p[tail]) || s.p[tail] == '.')) /* a JWE has five parts */
		tail++;
	*skip = 0;
	return tail;
}

static size_t find_api_key(struct str s, size_t *skip)
{
	static const struct str known[] = {
		STR_INIT("github_pat_"), STR_INIT("ghp_"),     STR_INIT("gho_"),
		STR_INIT("ghu_"),	 STR_INIT("ghs_"),     STR_INIT("ghr_"),
		STR_INIT("glpat-"),	 STR_INIT("xoxb-"),    STR_INIT("xoxp-"),
		STR_INIT("xoxa-"),	 STR_INIT("xoxs-"),    STR_INIT("xapp-"),
		STR_INIT("sk-"),	 STR_INIT("sk_live_"), STR_INIT("rk_live_"),
		STR_INIT("AIza"),	 STR_INIT("hf_"),      STR_INIT("npm_"),
		STR_INIT("pypi-"),	 STR_INIT("dop_v1_"),
	};
	size_t n;

	(void)skip;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!str_starts(s, known[i]))
			continue;
		n = run_of(s, is_url64);
		return n >= known[i].n + 16 ? n : 0;
	}
	return 0;
}

static size_t find_private_key(struct str s, size_t *skip)
{
	static const char begin[] = "-----BEGIN ", label[] = "PRIVATE KEY-----",
			  end[] = "-----END ";
	struct str head = str_first(s, sizeof(begin) + 64);
	const char *at, *close;
	size_t n;

	(void)skip;
	if (!str_starts(s, str_c(begin)) || !memmem(head.p, head.n, label, sizeof(label) - 1))
		return 0;
	/* No end: the text was cut, and what is there is key. */
	at = memmem(s.p + sizeof(begin), s.n - sizeof(begin), end, sizeof(end) - 1);
	if (!at)
		return s.n;
	n = (size_t)(at - s.p) + sizeof(end) - 1;
	close = memmem(s.p + n, str_first(str_from(s, n), 80).n, "-----", 5);
	return close ? (size_t)(close - s.p) + 5 : s.n;
}

static size_t find_aws_key(struct str s, size_t *skip)
{
	size_t n = 4;

	(void)skip;
	if (!str_starts(s, STR("AKIA")) && !str_starts(s, STR("ASIA")) &&
	    !str_starts(s, STR("ABIA")) && !str_starts(s, STR("ACCA")))
		return 0;
	while (n < s.n && n < 21 && (is_digit(s.p[n]) || (s.p[n] >= 'A' && s.p[n] <= 'Z')))
		n++;
	return n == 20 && (n == s.n || !is_alnum(s.p[n])) ? n : 0;
}

/* ISO/IEC 7812-1, annex B. */
static bool luhn(const char *digits, size_t n)
{
	unsigned sum = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned d = (unsigned)(digits[n - 1 - i] - '0');

		d = i % 2 ? 2 * d : d;
		sum += d > 9 ? d - 9 : d;
	}
	return sum % 10 == 0;
}

/* Digits, with at most one space or hyphen between two of them. */
static size_t find_credit_card(struct str s, size_t *skip)
{
	char digits[19];
	size_t ends[19], n = 0, at = 0;

	(void)skip;
	if (!s.n || s.p[0] < '2' || s.p[0] > '6') /* what payment cards begin with */
		return 0;
	while (n < 19 && at < s.n && is_digit(s.p[at])) {
		digits[n] = s.p[at++];
		ends[n++] = at;
		if (at + 1 < s.n && (s.p[at] == ' ' || s.p[at] == '-') && is_digit(s.p[at + 1]))
			at++;
	}
	for (; n >= 13; n--) {
		size_t end = ends[n - 1];

		if ((end == s.n || !is_digit(s.p[end])) && luhn(digits, n))
			return end;
	}
	return 0;
}

static const struct {
	unsigned bit;
	const char *name;
	size_t (*find)(struct str s, size_t *skip);
} finders[] = {
	{ MASK_PRIVATE_KEY, "private_key", find_private_key },
	{ MASK_BEARER, "bearer", find_bearer },
	{ MASK_JWT, "jwt", find_jwt },
	{ MASK_API_KEY, "api_key", find_api_key },
	{ MASK_AWS_KEY, "aws_key", find_aws_key },
	{ MASK_CREDIT_CARD, "credit_card", find_credit_card },
};

/* *no_jwt: bytes from here in which no JWT can begin; brought up to date. */
static size_t find(unsigned which, struct str s, size_t *skip, size_t *no_jwt, const char **name)
{
	for (size_t i = 0; i < ARRAY_LEN(finders); i++) {
		bool jwt = finders[i].bit == MASK_JWT;
		size_t n;

		*skip = 0;
		if (!(which & finders[i].bit) || (jwt && *no_jwt))
			continue;
		n = finders[i].find(s, skip);
		if (n) {
			*name = finders[i].name;
			return n;
		}
		if (jwt)
			*no_jwt = *skip;
	}
	return 0;
}

static void put_marker(struct buf *b, const char *name)
{
	buf_printf(b, "[masked:%s]", name);
}

size_t mask_text(const struct mask *m, struct str text, struct buf *b)
{
	size_t from = 0, hits = 0, i = 0, no_jwt = 0;

	while (m && m->detectors && i < text.n) {
		const char *name = NULL;
		size_t skip = 0, n = 0;

		/* A secret begins where a word does. */
		if (!i || !is_alnum(text.p[i - 1]) || text.p[i] == '-')
			n = find(m->detectors, str_from(text, i), &skip, &no_jwt, &name);
		if (!n) {
			i++;
			no_jwt -= no_jwt > 0;
			continue;
		}
		no_jwt = 0;
		buf_add(b, (struct str){ text.p + from, i + skip - from });
		put_marker(b, name);
		i += skip + n;
		from = i;
		hits++;
	}
	buf_add(b, str_from(text, from));
	return hits;
}

/* --- walking a request --- */

struct walk {
	const struct mask *m;
	struct buf *b;
	struct str path[256 + 2]; /* limits.depth is 256 at most */
	size_t depth, hits;
};

static bool step_matches(struct str step, struct str name)
{
	return str_eq(step, STR("*")) || str_eq(step, name);
}

static bool is_masked_field(const struct walk *w)
{
	for (size_t i = 0; i < w->m->nfields; i++) {
		const struct mask_field *f = &w->m->fields[i];
		size_t n = f->n;

		if (f->anywhere ? w->depth < n : w->depth != n)
			continue;
		/* From the end: names differ there first. */
		while (n && step_matches(f->steps[n - 1], w->path[w->depth - (f->n - n) - 1]))
			n--;
		if (!n)
			return true;
	}
	return false;
}

static void put_text(struct walk *w, struct str text)
{
	struct buf plain;
	size_t hits;

	buf_init(&plain, mem_system, 2 * text.n + 64);
	hits = mask_text(w->m, text, &plain);
	if (!buf_ok(&plain))
		w->b->failed = true; /* rather no record than one with the secret */
	buf_json(w->b, hits ? buf_str(&plain) : text);
	w->hits += hits;
	buf_clear(&plain);
}

static void put_number(struct walk *w, const struct json *v)
{
	char digits[TEXT_U64_MAX + 1];
	struct str text = { digits, 0 };
	size_t skip;

	if (v->i > 0)
		text.n = text_put_u64((uint64_t)v->i, digits);
	if (w->m->detectors & MASK_CREDIT_CARD && find_credit_card(text, &skip) == text.n &&
	    text.n) {
		buf_char(w->b, '"');
		put_marker(w->b, "credit_card");
		buf_char(w->b, '"');
		w->hits++;
	} else {
		json_canonical(w->b, v);
	}
}

/* As deep as the reader of JSON lets a request be. */
static void put_value(struct walk *w, const struct json *v) /* NOLINT(misc-no-recursion) */
{
	bool object = v->type == JSON_OBJECT;

	if (is_masked_field(w)) {
		buf_lit(w->b, "\"[masked:field]\"");
		w->hits++;
	} else if (v->type == JSON_STRING) {
		put_text(w, v->s);
	} else if (v->type == JSON_INT) {
		put_number(w, v);
	} else if ((object || v->type == JSON_ARRAY) && w->depth == ARRAY_LEN(w->path)) {
		buf_lit(w->b, "\"[masked:depth]\""); /* deeper than limits.depth can be */
		w->hits++;
	} else if (object || v->type == JSON_ARRAY) {
		buf_char(w->b, object ? '{' : '[');
		for (uint32_t i = 0; i < v->n; i++) {
			if (i)
				buf_char(w->b, ',');
			if (object) {
				buf_json(w->b, v->items[i].name);
				buf_char(w->b, ':');
			}
			w->path[w->depth++] = object ? v->items[i].name : STR("");
			put_value(w, &v->items[i]);
			w->depth--;
		}
		buf_char(w->b, object ? '}' : ']');
	} else {
		json_canonical(w->b, v);
	}
}

size_t mask_canonical(const struct mask *m, struct buf *b, struct str name, const struct json *v)
{
	struct walk w;

	if (!m) {
		json_canonical(b, v);
		return 0;
	}
	w.m = m;
	w.b = b;
	w.path[0] = name;
	w.depth = 1;
	w.hits = 0;
	put_value(&w, v);
	return w.hits;
}
