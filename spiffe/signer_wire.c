#include "spiffe/signer_wire.h"

static const uint8_t *take(struct wire *w, size_t n)
{
	const uint8_t *p = (const uint8_t *)w->rest.p;

	if (w->bad || w->rest.n < n) {
		w->bad = true;
		return NULL;
	}
	w->rest = (struct str){ w->rest.p + n, w->rest.n - n };
	return p;
}

static uint64_t be(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; p && i < n; i++)
		v = v << 8 | p[i];
	return v;
}

uint8_t wire_u8(struct wire *w)
{
	return (uint8_t)be(take(w, 1), 1);
}

int64_t wire_i64(struct wire *w)
{
	return (int64_t)be(take(w, 8), 8);
}

struct str wire_str(struct wire *w)
{
	size_t n = (size_t)be(take(w, 4), 4);
	const char *p = (const char *)take(w, n);

	return p ? (struct str){ p, n } : (struct str){ NULL, 0 };
}

ssize_t wire_frame(struct str in, struct str *body)
{
	size_t n;

	if (in.n < 4)
		return 0;
	n = (size_t)be((const uint8_t *)in.p, 4);
	if (n == 0 || n > SIGNER_FRAME_MAX)
		return -1;
	if (in.n < 4 + n)
		return 0;
	*body = (struct str){ in.p + 4, n };
	return (ssize_t)(4 + n);
}

static void put_be(struct buf *b, uint64_t v, unsigned n)
{
	while (n--)
		buf_char(b, (char)(uint8_t)(v >> (8 * n)));
}

void wire_put_u8(struct buf *b, uint8_t v)
{
	put_be(b, v, 1);
}

void wire_put_i64(struct buf *b, int64_t v)
{
	put_be(b, (uint64_t)v, 8);
}

void wire_put_str(struct buf *b, struct str s)
{
	put_be(b, s.n, 4);
	buf_add(b, s);
}

size_t wire_begin(struct buf *b)
{
	size_t at = b->n;

	put_be(b, 0, 4);
	return at;
}

bool wire_end(struct buf *b, size_t at)
{
	size_t n = b->n - at;

	if (!buf_ok(b) || n < 5 || n - 4 > SIGNER_FRAME_MAX) {
		b->n = at;
		b->failed = false;
		return false;
	}
	n -= 4;
	for (unsigned i = 0; i < 4; i++)
		b->p[at + i] = (char)(uint8_t)(n >> (8 * (3 - i)));
	return true;
}

static void put_x509(struct buf *b, const struct x509_request *r)
{
	wire_put_str(b, r->spiffe_id);
	wire_put_str(b, r->spki);
	wire_put_i64(b, r->not_before_s);
	wire_put_i64(b, r->not_after_s);
	wire_put_u8(b, (uint8_t)r->nnames);
	for (size_t i = 0; i < r->nnames; i++) {
		const struct x509_name *name = &r->names[i];

		wire_put_u8(b, name->dns.p ? 0 : name->ip_len);
		wire_put_str(b, name->dns.p ? name->dns
					    : (struct str){ (const char *)name->ip, name->ip_len });
	}
}

static void put_jwt(struct buf *b, const struct jwt_request *r)
{
	wire_put_str(b, r->spiffe_id);
	wire_put_i64(b, r->issued_s);
	wire_put_i64(b, r->expires_s);
	wire_put_str(b, r->issuer);
	wire_put_u8(b, (uint8_t)r->naudience);
	for (size_t i = 0; i < r->naudience; i++)
		wire_put_str(b, r->audience[i]);
}

static void put_texts(struct buf *b, const struct str *texts, size_t n)
{
	wire_put_u8(b, (uint8_t)n);
	for (size_t i = 0; i < n; i++)
		wire_put_str(b, texts[i]);
}

static void put_delegated(struct buf *b, const struct delegated_token *t)
{
	wire_put_str(b, t->issuer);
	wire_put_str(b, t->subject);
	wire_put_str(b, t->subject_issuer);
	wire_put_str(b, t->audience);
	wire_put_str(b, t->scope);
	put_texts(b, t->chain, t->nchain);
	wire_put_str(b, t->id);
	put_texts(b, t->line, t->nline);
	wire_put_i64(b, t->issued_s);
	wire_put_i64(b, t->expires_s);
	wire_put_str(b, (struct str){ (const char *)t->bound, sizeof(t->bound) });
}

static void put_wit(struct buf *b, const struct wit_request *r)
{
	wire_put_str(b, r->spiffe_id);
	wire_put_str(b, r->spki);
	wire_put_i64(b, r->issued_s);
	wire_put_i64(b, r->expires_s);
}

bool wire_put_job(struct buf *b, const struct signer_job *j)
{
	size_t at = wire_begin(b);

	wire_put_u8(b, (uint8_t)j->op);
	switch (j->op) {
	case SIGNER_X509_SVID:
		if (j->x509.nnames > X509_SVID_NAMES_MAX)
			b->failed = true;
		else
			put_x509(b, &j->x509);
		break;
	case SIGNER_JWT_SVID:
		if (j->jwt.naudience > JWT_AUDIENCES_MAX)
			b->failed = true;
		else
			put_jwt(b, &j->jwt);
		break;
	case SIGNER_CHECKPOINT:
		wire_put_str(b, j->checkpoint);
		break;
	case SIGNER_MAKE_KEY:
		wire_put_u8(b, (uint8_t)j->make);
		break;
	case SIGNER_MAKE_LOG_KEY:
		break;
	case SIGNER_HAND_OVER:
	case SIGNER_SWITCH_LOG_KEY:
		wire_put_i64(b, (int64_t)j->hand_over);
		break;
	case SIGNER_USE_KEY:
		wire_put_u8(b, (uint8_t)j->use.kind);
		wire_put_str(b, j->use.id);
		wire_put_str(b, j->use.sealed);
		break;
	case SIGNER_KEEP_KEYS:
		wire_put_u8(b, (uint8_t)j->keep.kind);
		wire_put_str(b, j->keep.tokens);
		break;
	case SIGNER_COSIGN:
		wire_put_i64(b, j->cosign.at_s);
		wire_put_str(b, j->cosign.text);
		break;
	case SIGNER_DELEGATED_TOKEN:
		if (j->delegated.nchain > DELEGATED_CHAIN_MAX ||
		    j->delegated.nline > DELEGATED_CHAIN_MAX)
			b->failed = true;
		else
			put_delegated(b, &j->delegated);
		break;
	case SIGNER_WIT_SVID:
		put_wit(b, &j->wit);
		break;
	}
	return wire_end(b, at);
}

static void read_x509(struct wire *w, struct x509_request *r)
{
	r->spiffe_id = wire_str(w);
	r->spki = wire_str(w);
	r->not_before_s = wire_i64(w);
	r->not_after_s = wire_i64(w);
	r->nnames = wire_u8(w);
	if (r->nnames > X509_SVID_NAMES_MAX)
		w->bad = true;
	for (size_t i = 0; !w->bad && i < r->nnames; i++) {
		struct x509_name *name = &r->names[i];
		struct str text;

		name->ip_len = wire_u8(w);
		text = wire_str(w);
		if (name->ip_len == 0 && text.n)
			name->dns = text;
		else if ((name->ip_len == 4 || name->ip_len == 16) && text.n == name->ip_len)
			memcpy(name->ip, text.p, text.n);
		else
			w->bad = true;
	}
}

static void read_jwt(struct wire *w, struct jwt_request *r)
{
	r->spiffe_id = wire_str(w);
	r->issued_s = wire_i64(w);
	r->expires_s = wire_i64(w);
	r->issuer = wire_str(w);
	r->naudience = wire_u8(w);
	if (r->naudience > JWT_AUDIENCES_MAX)
		w->bad = true;
	for (size_t i = 0; !w->bad && i < r->naudience; i++)
		r->audience[i] = wire_str(w);
}

static void read_texts(struct wire *w, struct str texts[static DELEGATED_CHAIN_MAX], size_t *n)
{
	*n = wire_u8(w);
	if (*n > DELEGATED_CHAIN_MAX)
		w->bad = true;
	for (size_t i = 0; !w->bad && i < *n; i++)
		texts[i] = wire_str(w);
}

static void read_delegated(struct wire *w, struct delegated_token *t)
{
	struct str bound;

	t->issuer = wire_str(w);
	t->subject = wire_str(w);
	t->subject_issuer = wire_str(w);
	t->audience = wire_str(w);
	t->scope = wire_str(w);
	read_texts(w, t->chain, &t->nchain);
	t->id = wire_str(w);
	read_texts(w, t->line, &t->nline);
	t->issued_s = wire_i64(w);
	t->expires_s = wire_i64(w);
	bound = wire_str(w);
	if (bound.n == sizeof(t->bound))
		memcpy(t->bound, bound.p, bound.n);
	else
		w->bad = true;
}

static void read_wit(struct wire *w, struct wit_request *r)
{
	r->spiffe_id = wire_str(w);
	r->spki = wire_str(w);
	r->issued_s = wire_i64(w);
	r->expires_s = wire_i64(w);
}

static enum authority_kind read_kind(struct wire *w)
{
	uint8_t kind = wire_u8(w);

	if (kind >= AUTHORITY_KINDS)
		w->bad = true;
	return w->bad ? AUTHORITY_X509 : (enum authority_kind)kind;
}

bool wire_job(struct str body, struct signer_job *j)
{
	struct wire w = { .rest = body };

	*j = (struct signer_job){ .op = (enum signer_op)wire_u8(&w) };
	switch (j->op) {
	case SIGNER_X509_SVID:
		read_x509(&w, &j->x509);
		break;
	case SIGNER_JWT_SVID:
		read_jwt(&w, &j->jwt);
		break;
	case SIGNER_CHECKPOINT:
		j->checkpoint = wire_str(&w);
		break;
	case SIGNER_MAKE_KEY:
		j->make = read_kind(&w);
		break;
	case SIGNER_MAKE_LOG_KEY:
		break;
	case SIGNER_HAND_OVER:
	case SIGNER_SWITCH_LOG_KEY:
		j->hand_over = (uint64_t)wire_i64(&w);
		break;
	case SIGNER_USE_KEY:
		j->use.kind = read_kind(&w);
		j->use.id = wire_str(&w);
		j->use.sealed = wire_str(&w);
		break;
	case SIGNER_KEEP_KEYS:
		j->keep.kind = read_kind(&w);
		j->keep.tokens = wire_str(&w);
		break;
	case SIGNER_COSIGN:
		j->cosign.at_s = wire_i64(&w);
		j->cosign.text = wire_str(&w);
		break;
	case SIGNER_DELEGATED_TOKEN:
		read_delegated(&w, &j->delegated);
		break;
	case SIGNER_WIT_SVID:
		read_wit(&w, &j->wit);
		break;
	default:
		return false;
	}
	return !w.bad && w.rest.n == 0;
}

bool signer_made_log_read(struct str answer, struct signer_made_log *out, struct err *e)
{
	struct wire w = { .rest = answer };
	struct str key = wire_str(&w);

	out->sealed = wire_str(&w);
	if (w.bad || w.rest.n || key.n != sizeof(out->key) || !out->sealed.n)
		return err_set(e, ERR_INTERNAL,
			       "signer: malformed answer to a request for a log key");
	memcpy(out->key, key.p, key.n);
	return true;
}

bool signer_made_read(struct str answer, struct signer_made *out, struct err *e)
{
	struct wire w = { .rest = answer };

	out->id = wire_str(&w);
	out->begins_s = wire_i64(&w);
	out->ends_s = wire_i64(&w);
	out->spki = wire_str(&w);
	out->chain = wire_str(&w);
	out->sealed = wire_str(&w);
	out->token = wire_str(&w);
	if (w.bad || w.rest.n || (out->token.n && out->token.n != PKCS11_ID_LEN) || !out->id.n ||
	    out->id.n > AUTHORITY_ID_MAX)
		return err_set(e, ERR_INTERNAL, "signer: malformed answer to a request for a key");
	return true;
}
