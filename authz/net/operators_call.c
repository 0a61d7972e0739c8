/*
 * What libmicrohttpd 0.9.75 lets through is refused at a request's first call, as far as an
 * application can see it: names that are not tokens (a space before the colon), two lengths,
 * length and chunked, other codings, two hosts. Folded lines and bare LF it cannot see; this door
 * is for operators, and behind no proxy whose reading could differ.
 */
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/net/chars.h"
#include "authz/net/operators_inside.h"

struct refusal {
	struct task task;
	struct operators *o;
	const struct listener *listener;
	struct err why;
};

static void tell_refusal(struct task *t)
{
	struct refusal *r = LINK_OF(t, struct refusal, task);
	const struct handler *h = &r->o->settings.handler;

	h->refused(h->ctx, r->listener, &r->why);
	mem_free(&r->o->alloc, r, sizeof(*r));
}

/* Handlers run at home only, so that is where a refusal is counted too. */
static void push_refusal(struct opcall *x)
{
	struct operators *o = x->door->o;
	struct refusal *r = o->settings.handler.refused ? mem_new(&o->alloc, sizeof(*r)) : NULL;

	if (!r)
		return;
	*r = (struct refusal){ { .run = tell_refusal }, o, x->door->listener, x->why };
	operators_push(o, &r->task);
}

static void spoil(struct opcall *x, int status, enum err_class class, const char *code,
		  const char *msg)
{
	if (x->refuse)
		return;
	x->refuse = status;
	err_code(&x->why, class, code, "%s", msg);
}

static void malformed(struct opcall *x, const char *msg)
{
	spoil(x, 400, ERR_INVALID, "invalid_request", msg);
}

void *operators_uri(void *cls, const char *uri, struct MHD_Connection *connection)
{
	struct opdoor *d = cls;
	struct operators *o = d->o;
	struct opcall *x = mem_zero(&o->alloc, sizeof(*x));

	if (!x)
		return NULL;
	arena_init(&x->arena, &o->alloc, o->limits.body * 16 + 1024 * 1024);
	x->door = d;
	x->connection = connection;
	x->call = (struct call){ .arena = &x->arena,
				 .scratch = &x->arena,
				 .home = &o->home,
				 .started_ns = clock_mono_ns(&o->settings.clock) };
	x->call.target = arena_dup(&x->arena, str_c(uri));
	buf_in_arena(&x->body, &x->arena, o->limits.body);
	buf_init(&x->piece, o->alloc, SIZE_MAX / 2);
	atomic_fetch_add(&o->active, 1);
	return x;
}

struct reading {
	struct opcall *x;
	struct http_header *all;
	size_t n, hosts, lengths, codings;
	uint64_t length;
};

static void read_known(struct reading *r, struct http_header h)
{
	struct opcall *x = r->x;

	if (str_eq(h.name, STR("host"))) {
		r->hosts++;
		if (!http_host_ok(h.value))
			malformed(x, "Host has a character that no host name has");
	} else if (str_eq(h.name, STR("content-length"))) {
		r->lengths++;
		if (!text_u64(h.value, UINT64_MAX, &r->length))
			malformed(x, "Content-Length must be a plain decimal number");
	} else if (str_eq(h.name, STR("transfer-encoding"))) {
		r->codings++;
		if (!http_equal_fold(h.value, STR("chunked")))
			malformed(x, "the only Transfer-Encoding accepted is \"chunked\"");
	} else if (str_eq(h.name, STR("x-request-id"))) {
		if (x->request_id.n || !http_request_id_ok(h.value))
			malformed(x, "X-Request-ID must be one of at most 256 printable ASCII "
				     "characters");
		else
			x->request_id = h.value;
	}
}

static enum MHD_Result read_header(void *cls, enum MHD_ValueKind kind, const char *key,
				   size_t key_n, const char *value, size_t value_n)
{
	struct reading *r = cls;
	struct opcall *x = r->x;
	struct str name = arena_dup(&x->arena, (struct str){ key, key_n });
	struct str v = arena_dup(&x->arena, (struct str){ value, value_n });
	union {
		const char *in;
		char *out;
	} p = { name.p };

	(void)kind;
	if (!name.p || !v.p) {
		spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
		return MHD_NO;
	}
	if (r->n == x->door->o->limits.headers)
		spoil(x, 431, ERR_TOO_LARGE, "headers_too_large",
		      "the request has too many header lines");
	else if (!http_lower_token(p.out, name.n))
		malformed(x, "a header line must be Name: value, the name a token without spaces");
	else if (!http_value_ok(v))
		malformed(x, "a header value has a control character");
	if (x->refuse)
		return MHD_NO;
	r->all[r->n++] = (struct http_header){ name, http_trim(v) };
	read_known(r, r->all[r->n - 1]);
	return MHD_YES;
}

static void check_request(struct opcall *x, const struct reading *r, const char *version)
{
	struct call *c = &x->call;
	const struct operators_limits *l = &x->door->o->limits;
	bool old = strcmp(version, "HTTP/1.0") == 0;

	if (!old && strcmp(version, "HTTP/1.1") != 0)
		malformed(x, "the request line must end with HTTP/1.1");
	else if (r->hosts > 1 || (r->hosts == 0 && !old))
		malformed(x, "a request must have exactly one Host header");
	else if (r->lengths > 1 || r->codings > 1)
		malformed(x, "Content-Length or Transfer-Encoding is given twice");
	else if (r->lengths && r->codings)
		malformed(x, "Content-Length and Transfer-Encoding exclude each other");
	else if (old && r->codings)
		malformed(x, "HTTP/1.0 has no Transfer-Encoding");
	else if (c->target.n > l->url)
		spoil(x, 414, ERR_TOO_LARGE, "url_too_long",
		      "the request target is longer than the server accepts");
	else if (!http_target_ok(c->target))
		malformed(x, "the request target must be a path that starts with '/' and has only "
			     "visible ASCII characters, without '#'");
	else if (r->length > l->body)
		spoil(x, 413, ERR_TOO_LARGE, "body_too_large",
		      "the body is larger than the server accepts");
}

static void begin(struct opcall *x, const char *method, const char *version)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		x->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	size_t room = x->door->o->limits.headers;
	struct reading r = { .x = x };

	x->state = OP_READING;
	x->client = info ? info->socket_context : NULL;
	r.all = arena_alloc(&x->arena, room * sizeof(*r.all));
	x->call.method = arena_dup(&x->arena, str_c(method));
	if (!x->client || !r.all || !x->call.method.p || !x->call.target.p) {
		spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
		return;
	}
	x->call.peer = &x->client->peer;
	(void)MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, read_header, &r);
	x->call.headers = r.all;
	x->call.nheaders = r.n;
	check_request(x, &r, version);
	if (!http_is_token(x->call.method) || x->call.method.n > 32)
		malformed(x, "the method is not a token of at most 32 characters");
	if (!str_cut(x->call.target, '?', &x->call.path, &x->call.query))
		x->call.path = x->call.target;
	if (atomic_load(&x->door->o->draining))
		spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "the server is shutting down");
}

static bool add_body(struct opcall *x, const char *data, size_t n)
{
	struct operators *o = x->door->o;
	int64_t age = clock_mono_ns(&o->settings.clock) - x->call.started_ns;

	if (age > OPERATORS_REQUEST_S * (int64_t)1000000000)
		return false;
	if (x->refuse) {
		x->dropped += n;
		return x->dropped <= o->limits.body;
	}
	if (n > o->limits.body - x->body.n) {
		spoil(x, 413, ERR_TOO_LARGE, "body_too_large",
		      "the body is larger than the server accepts");
	} else if (atomic_fetch_add(&o->in_flight, n) + n > o->limits.in_flight) {
		atomic_fetch_sub(&o->in_flight, n);
		spoil(x, 503, ERR_UNAVAILABLE, "unavailable",
		      "the requests being served hold all the memory the server allows");
	} else {
		size_t before = x->body.n;

		buf_add(&x->body, (struct str){ data, n });
		if (!buf_ok(&x->body)) {
			atomic_fetch_sub(&o->in_flight, n - (x->body.n - before));
			spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
		}
	}
	return true;
}

/* The next piece of a streamed reply: what was made, or nothing yet and one is asked for. */
static ssize_t read_piece(void *cls, uint64_t pos, char *out, size_t max)
{
	struct opcall *x = cls;
	size_t n = x->piece.n - x->piece_at;

	(void)pos;
	if (x->broken)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n == 0 && x->last)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n == 0) {
		MHD_suspend_connection(x->connection);
		x->state = OP_HOME;
		x->task.run = operators_piece;
		operators_push_piece(x->door->o, &x->task);
		return 0;
	}
	if (n > max)
		n = max;
	memcpy(out, x->piece.p + x->piece_at, n);
	x->piece_at += n;
	return (ssize_t)n;
}

static bool add_header(struct opcall *x, struct MHD_Response *r, struct str name, struct str value)
{
	struct str n = arena_dup(&x->arena, name), v = arena_dup(&x->arena, value);

	return n.p && v.p && MHD_add_response_header(r, n.p, v.p) == MHD_YES;
}

static struct MHD_Response *make_response(struct opcall *x)
{
	struct reply *reply = &x->call.reply;
	struct MHD_Response *r;
	bool ok = true;

	if (reply->more) {
		buf_add(&x->piece, buf_str(&reply->body));
		r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, OPERATORS_PIECE, read_piece,
						      x, NULL);
	} else {
		r = MHD_create_response_from_buffer(reply->body.n, reply->body.p,
						    MHD_RESPMEM_PERSISTENT);
	}
	if (!r)
		return NULL;
	if (reply->type)
		ok = add_header(x, r, STR("Content-Type"), str_c(reply->type));
	if (x->request_id.n)
		ok = ok && add_header(x, r, STR("X-Request-ID"), x->request_id);
	for (size_t i = 0; ok && i < reply->nheaders; i++)
		ok = add_header(x, r, reply->headers[i].name, reply->headers[i].value);
	if (reply->close || atomic_load(&x->door->o->draining))
		ok = ok && add_header(x, r, STR("Connection"), STR("close"));
	if (ok)
		return r;
	MHD_destroy_response(r);
	return NULL;
}

/* A reply must be whole; what a handler got wrong is the server's fault, and said so. */
static void seal(struct opcall *x)
{
	struct reply *r = &x->call.reply;
	struct err e;

	if (!r->more && !buf_ok(&r->body)) {
		err_set(&e, ERR_NOMEM, "the answer does not fit into the memory of one request");
		call_fail(&x->call, &e);
	} else if (r->status < 200 || r->status > 599) {
		err_set(&e, ERR_INTERNAL, "the server found no answer");
		call_fail(&x->call, &e);
	}
}

static enum MHD_Result answer(struct opcall *x)
{
	struct MHD_Response *r;
	enum MHD_Result ok;

	seal(x);
	r = make_response(x);
	if (!r)
		return MHD_NO;
	x->state = OP_SENT;
	ok = MHD_queue_response(x->connection, (unsigned)x->call.reply.status, r);
	MHD_destroy_response(r);
	return ok;
}

static enum MHD_Result refuse(struct opcall *x)
{
	push_refusal(x);
	call_fail_as(&x->call, x->refuse, &x->why);
	x->call.reply.close = true;
	return answer(x);
}

/* A call that operators_stop cut off: its handler may still write to it, so answer from here
 * without touching it. */
static enum MHD_Result cut(struct opcall *x)
{
	char text[] = "{\"error\":{\"status\":503,\"code\":\"unavailable\","
		      "\"message\":\"the server is shutting down\"}}\n";
	struct MHD_Response *r = MHD_create_response_from_buffer(sizeof(text) - 1, text,
								 MHD_RESPMEM_MUST_COPY);
	enum MHD_Result ok;

	if (!r)
		return MHD_NO;
	(void)MHD_add_response_header(r, "Content-Type", "application/json");
	(void)MHD_add_response_header(r, "Connection", "close");
	ok = MHD_queue_response(x->connection, 503, r);
	MHD_destroy_response(r);
	return ok;
}

enum MHD_Result operators_access(void *cls, struct MHD_Connection *connection, const char *url,
				 const char *method, const char *version, const char *data,
				 size_t *n, void **con_cls)
{
	struct opcall *x = *con_cls;

	(void)cls;
	(void)connection;
	(void)url;
	if (!x)
		return MHD_NO; /* there was no memory for it */
	switch (x->state) {
	case OP_NEW:
		begin(x, method, version);
		return x->refuse ? refuse(x) : MHD_YES;
	case OP_READING:
		if (*n) {
			size_t size = *n;

			*n = 0;
			return add_body(x, data, size) ? MHD_YES : MHD_NO;
		}
		if (x->refuse)
			return refuse(x);
		x->call.body = buf_str(&x->body);
		MHD_suspend_connection(x->connection);
		x->state = OP_HOME;
		x->task.run = operators_handle;
		operators_push(x->door->o, &x->task);
		return MHD_YES;
	case OP_BACK:
		return x->orphan ? cut(x) : answer(x);
	default:
		return MHD_YES;
	}
}

void operators_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
			 enum MHD_RequestTerminationCode why)
{
	struct opcall *x = *con_cls;
	struct opdoor *d = cls;

	(void)connection;
	(void)why;
	*con_cls = NULL;
	if (!x)
		return;
	if (x->orphan) {
		/* call_finish frees it */
	} else if (x->finished && x->call.reply.more) {
		x->task.run = operators_over;
		operators_push(d->o, &x->task);
	} else {
		opcall_free(x);
	}
	atomic_fetch_sub(&d->o->active, 1);
}
