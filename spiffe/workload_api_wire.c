#include "spiffe/workload_api_wire.h"

#include "authz/base/protobuf.h"

#define SVIDS 1 /* in each response that has them */

static void add_audience(struct pb_reader *in, struct workload_jwt_request *q, struct str audience)
{
	if (!audience.n)
		return;
	for (size_t i = 0; i < q->naudience; i++)
		if (str_eq(q->audience[i], audience))
			return;
	if (audience.n > JWT_AUDIENCE_MAX)
		pb_fail(in, "an audience is longer than 2048 bytes");
	else if (q->naudience == JWT_AUDIENCES_MAX)
		pb_fail(in, "more than 16 audiences; ask for several tokens");
	else
		q->audience[q->naudience++] = audience;
}

bool workload_read_jwt(struct str message, struct workload_jwt_request *out, struct err *e)
{
	struct pb_reader in = pb_reader(message);
	struct workload_jwt_request q = { .naudience = 0 };
	struct spiffe_id id;
	struct pb_field f;

	while (pb_next(&in, &f)) {
		struct str audience = { NULL, 0 };

		if (f.number == 1) {
			pb_string(&in, &f, &audience);
			add_audience(&in, &q, audience);
		} else if (f.number == 2) {
			pb_string(&in, &f, &q.spiffe_id);
		}
	}
	if (!pb_ok(&in, "JWTSVIDRequest", e))
		return false;
	if (!q.naudience)
		return err_set(e, ERR_INVALID,
			       "audience must be specified: who the token is for, at least one");
	if (q.spiffe_id.n && !spiffe_id_parse_workload(q.spiffe_id, &id, e)) {
		e->class = ERR_INVALID;
		return false;
	}
	*out = q;
	return true;
}

bool workload_read_validate(struct str message, struct workload_validate_request *out,
			    struct err *e)
{
	struct workload_validate_request q = { { NULL, 0 }, { NULL, 0 } };
	struct pb_reader in = pb_reader(message);
	struct pb_field f;

	while (pb_next(&in, &f)) {
		if (f.number == 1)
			pb_string(&in, &f, &q.audience);
		else if (f.number == 2)
			pb_string(&in, &f, &q.svid);
	}
	if (!pb_ok(&in, "ValidateJWTSVIDRequest", e))
		return false;
	if (!q.audience.n)
		return err_set(e, ERR_INVALID,
			       "audience must be specified: whom the token must be for");
	if (!q.svid.n)
		return err_set(e, ERR_INVALID, "svid must be specified: the token to validate");
	*out = q;
	return true;
}

bool workload_read_wit(struct str message, struct str *spiffe_id, struct err *e)
{
	struct pb_reader in = pb_reader(message);
	struct str found = { NULL, 0 };
	struct spiffe_id id;
	struct pb_field f;

	while (pb_next(&in, &f))
		if (f.number == 1)
			pb_string(&in, &f, &found);
	if (!pb_ok(&in, "WITSVIDRequest", e))
		return false;
	if (found.n && !spiffe_id_parse_workload(found, &id, e)) {
		e->class = ERR_INVALID;
		return false;
	}
	*spiffe_id = found;
	return true;
}

bool workload_read_empty(struct str message, struct err *e)
{
	struct pb_reader in = pb_reader(message);
	struct pb_field f;

	while (pb_next(&in, &f))
		;
	return pb_ok(&in, "the request", e);
}

void workload_put_x509_svid(struct buf *b, const struct workload_x509_svid *s)
{
	size_t svid = pb_begin(b, SVIDS);

	pb_put_text(b, 1, s->spiffe_id);
	pb_put_bytes(b, 2, s->x509_svid);
	pb_put_bytes(b, 3, s->key);
	pb_put_bytes(b, 4, s->bundle);
	pb_put_text(b, 5, s->hint);
	pb_end(b, svid);
}

void workload_put_jwt_svid(struct buf *b, struct str spiffe_id, struct str token, struct str hint)
{
	size_t svid = pb_begin(b, SVIDS);

	pb_put_text(b, 1, spiffe_id);
	pb_put_text(b, 2, token);
	pb_put_text(b, 3, hint);
	pb_end(b, svid);
}

void workload_put_wit_svid(struct buf *b, struct str spiffe_id, struct str token, struct str key,
			   struct str hint)
{
	size_t svid = pb_begin(b, SVIDS);

	pb_put_text(b, 1, spiffe_id);
	pb_put_text(b, 2, token);
	pb_put_text(b, 3, key);
	pb_put_text(b, 4, hint);
	pb_end(b, svid);
}

void workload_put_bundle(struct buf *b, uint32_t field, struct str trust_domain, struct str value)
{
	size_t entry = pb_begin(b, field), key = pb_begin(b, 1);

	buf_lit(b, "spiffe://");
	buf_add(b, trust_domain);
	pb_end(b, key);
	pb_put_bytes(b, 2, value);
	pb_end(b, entry);
}

/* ---- claims as a google.protobuf.Struct ---- */

static void put_value(struct buf *b, const struct json *v);

static void put_member(struct buf *b, const struct json *v)
{
	size_t entry = pb_begin(b, 1), value;

	pb_put_bytes(b, 1, v->name);
	value = pb_begin(b, 2);
	put_value(b, v);
	pb_end(b, value);
	pb_end(b, entry);
}

static void put_list(struct buf *b, const struct json *items, size_t n)
{
	size_t list = pb_begin(b, 6);

	for (size_t i = 0; i < n; i++) {
		size_t value = pb_begin(b, 1);

		put_value(b, &items[i]);
		pb_end(b, value);
	}
	pb_end(b, list);
}

/* The one member of Value that is set is written even if it is 0, false or empty. The depth is that
 * of the claims, which the reader of JSON has bounded. */
/* NOLINTNEXTLINE(misc-no-recursion) */
static void put_value(struct buf *b, const struct json *v)
{
	size_t members;

	switch (v->type) {
	case JSON_NULL:
		pb_put_u64(b, 1, 0);
		return;
	case JSON_INT:
		pb_put_double(b, 2, (double)v->i);
		return;
	case JSON_REAL:
		pb_put_double(b, 2, v->d);
		return;
	case JSON_STRING:
		pb_put_bytes(b, 3, v->s);
		return;
	case JSON_BOOL:
		pb_put_bool(b, 4, v->b);
		return;
	case JSON_ARRAY:
		put_list(b, v->items, v->n);
		return;
	case JSON_OBJECT:
		members = pb_begin(b, 5);
		for (uint32_t i = 0; i < v->n; i++)
			put_member(b, &v->items[i]);
		pb_end(b, members);
		return;
	}
}

static bool passed_on(struct str name)
{
	return str_eq(name, STR("sub")) || str_eq(name, STR("aud")) || str_eq(name, STR("exp"));
}

void workload_put_validated(struct buf *b, struct str spiffe_id, const struct json *claims,
			    bool foreign)
{
	size_t all;

	pb_put_text(b, 1, spiffe_id);
	all = pb_begin(b, 2);
	for (uint32_t i = 0; i < claims->n; i++) {
		const struct json *v = &claims->items[i];
		struct json list = *v;

		if (foreign && !passed_on(v->name))
			continue;
		if (str_eq(v->name, STR("aud")) && v->type == JSON_STRING) {
			list.type = JSON_ARRAY;
			list.n = 1;
			list.items = v;
		}
		put_member(b, &list);
	}
	pb_end(b, all);
}
