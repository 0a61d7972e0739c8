/*
 * nghttp2 turns bytes into frames; everything about messages is checked here, because its own
 * check refuses the :authority that gRPC clients send on Unix sockets (a path, or nothing) and
 * is therefore switched off: pseudo headers once, known and first, names in lower case, no
 * connection headers, Content-Length equal to the body, no trailers in requests.
 *
 * A stream's exchange lives until nghttp2 closes the stream, as replies are sent without a copy
 * of their headers; if the call is pending then, until call_finish. Replies of one turn leave in
 * one write: streams only mark their connection, which is served at the end of the turn.
 */
#include <nghttp2/nghttp2.h>

#include "authz/base/text.h"
#include "authz/net/chars.h"
#include "authz/net/conn.h"

#define WINDOW_STREAM (256 * 1024)
#define WINDOW_CONN (1024 * 1024)
#define UNSENT_SOFT (64 * 1024) /* no more frames are made while so much waits for the socket */
#define RESETS_BURST 200	/* streams a client may cancel at once, and then per second */
#define RESETS_RATE 50
#define CONTINUATIONS 8
#define CHECK_MS 1000 /* how often open streams' deadlines are looked at */
#define HEADERS_FIRST 16

struct http2 {
	nghttp2_session *session;
	struct exchange *streams; /* open, newest first */
	size_t nstreams;
	int64_t progress_ns; /* when bytes of a reply last left */
	bool draining;	     /* the client was told that we shall go */
	bool leaving;	     /* and that no further stream is accepted */
};

static struct exchange *stream_of(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

/* The stream's request breaks a rule: say so once its head has been read. */
static void spoil(struct exchange *x, int status, enum err_class class, const char *code,
		  const char *msg)
{
	if (x->h2.refuse)
		return;
	x->h2.refuse = status;
	err_code(&x->h2.why, class, code, "%s", msg);
}

static void malformed(struct exchange *x, const char *msg)
{
	spoil(x, 400, ERR_INVALID, "invalid_request", msg);
}

static void link_stream(struct http2 *h, struct exchange *x)
{
	x->prev = NULL;
	x->next = h->streams;
	if (h->streams)
		h->streams->prev = x;
	h->streams = x;
	h->nstreams++;
}

static void unlink_stream(struct http2 *h, struct exchange *x)
{
	if (x->prev)
		x->prev->next = x->next;
	else
		h->streams = x->next;
	if (x->next)
		x->next->prev = x->prev;
	x->prev = x->next = NULL;
	h->nstreams--;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct conn *c = user;
	struct exchange *x;

	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
		x = stream_of(session, frame->hd.stream_id);
		if (x)
			malformed(x, "trailers after a request's body are not accepted");
		if (x)
			x->h2.trailers = true;
		return 0;
	}
	x = exchange_new(c);
	if (!x)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	memset(&x->h2, 0, offsetof(struct exchange, h2.why) - offsetof(struct exchange, h2));
	x->h2.id = frame->hd.stream_id;
	buf_in_arena(&x->h2.body, &x->arena, c->shard->server->limits.body);
	link_stream(c->h2, x);
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, x);
	if (c->h2->nstreams == 1)
		conn_deadline(c, CHECK_MS);
	return 0;
}

static bool known_pseudo(struct exchange *x, struct str name, struct str value)
{
	struct call *c = &x->call;

	if (str_eq(name, STR(":method")) && !c->method.n) {
		c->method = value;
		return value.n > 0;
	}
	if (str_eq(name, STR(":path")) && !c->target.n) {
		c->target = value;
		return value.n > 0;
	}
	if (str_eq(name, STR(":scheme")) && !x->h2.has_scheme) {
		x->h2.has_scheme = true;
		return true;
	}
	if (str_eq(name, STR(":authority")) && !x->h2.authority.p) {
		x->h2.authority = value;
		return true;
	}
	return false;
}

static bool is_connection_header(struct str name)
{
	return str_eq(name, STR("connection")) || str_eq(name, STR("transfer-encoding")) ||
	       str_eq(name, STR("keep-alive")) || str_eq(name, STR("upgrade")) ||
	       str_eq(name, STR("proxy-connection"));
}

static bool name_ok(struct str name)
{
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] >= 'A' && name.p[i] <= 'Z')
			return false;
	return http_is_token(name);
}

static void read_known(struct exchange *x, struct http_header h)
{
	if (is_connection_header(h.name) ||
	    (str_eq(h.name, STR("te")) && !http_equal_fold(h.value, STR("trailers"))))
		malformed(x, "HTTP/2 has no connection headers");
	else if (str_eq(h.name, STR("content-length"))) {
		if (x->h2.has_length || !text_u64(h.value, UINT64_MAX, &x->h2.length))
			malformed(x, "Content-Length must be given once, as a plain number");
		x->h2.has_length = true;
	} else if (str_eq(h.name, STR("host"))) {
		if (x->h2.has_host)
			malformed(x, "Host is given twice");
		x->h2.has_host = true;
	} else if (str_eq(h.name, STR("x-request-id"))) {
		if (x->request_id.n || !http_request_id_ok(h.value))
			malformed(x, "X-Request-ID must be one of at most 256 printable ASCII "
				     "characters");
		else
			x->request_id = h.value;
	}
}

static bool add_header(struct exchange *x, struct http_header h)
{
	struct call *c = &x->call;
	struct http_header *all;

	if (c->nheaders == x->h2.headers_cap) {
		size_t cap = x->h2.headers_cap ? 2 * x->h2.headers_cap : HEADERS_FIRST;

		all = arena_alloc(&x->arena, cap * sizeof(*all));
		if (!all)
			return false;
		if (c->nheaders)
			memcpy(all, c->headers, c->nheaders * sizeof(*all));
		c->headers = all;
		x->h2.all = all;
		x->h2.headers_cap = cap;
	}
	x->h2.all[c->nheaders++] = h;
	return true;
}

static void read_header(struct exchange *x, struct http_header h)
{
	size_t max = x->conn->shard->server->limits.headers;

	if (h.name.n && h.name.p[0] == ':') {
		if (x->h2.regular || !known_pseudo(x, h.name, h.value))
			malformed(x, "pseudo headers must be known, come first, and only once");
		return;
	}
	x->h2.regular = true;
	if (!name_ok(h.name))
		malformed(x, "a header name must be a token in lower case");
	else if (!http_value_ok(h.value) || (h.value.n && http_trim(h.value).n != h.value.n))
		malformed(x, "a header value has a control character or spaces at an end");
	else if (x->call.nheaders == max)
		spoil(x, 431, ERR_TOO_LARGE, "headers_too_large",
		      "the request has too many header lines");
	else if (!add_header(x, h))
		spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
	else
		read_known(x, h);
}

/* Texts of the static table live for ever; others are copied. */
static struct str text_of(struct exchange *x, nghttp2_rcbuf *b)
{
	nghttp2_vec v = nghttp2_rcbuf_get_buf(b);
	struct str s = { (const char *)v.base, v.len };

	return nghttp2_rcbuf_is_static(b) ? s : arena_dup(&x->arena, s);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
		     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
	struct conn *c = user;
	struct exchange *x = stream_of(session, frame->hd.stream_id);
	struct http_header h;

	(void)flags;
	if (!x || x->h2.refuse || x->h2.trailers)
		return 0;
	x->h2.head_bytes += nghttp2_rcbuf_get_buf(name).len + nghttp2_rcbuf_get_buf(value).len + 4;
	if (x->h2.head_bytes > c->shard->server->limits.head) {
		spoil(x, 431, ERR_TOO_LARGE, "headers_too_large",
		      "the request's headers are larger than the server accepts");
		return 0;
	}
	h.name = text_of(x, name);
	h.value = text_of(x, value);
	if (!h.name.p || !h.value.p)
		spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
	else
		read_header(x, h);
	return 0;
}

/* On Unix sockets gRPC clients put a path or nothing there (grpc-java, older tonic). */
static bool authority_ok(const struct exchange *x)
{
	const struct call *c = &x->call;

	if (c->peer->listener->unix_socket)
		return http_value_ok(x->h2.authority);
	if (x->h2.authority.p && x->h2.has_host &&
	    !str_eq(x->h2.authority, call_header(c, STR("host"))))
		return false;
	return (x->h2.authority.p || x->h2.has_host) && http_host_ok(x->h2.authority) &&
	       http_host_ok(call_header(c, STR("host")));
}

static void check_head(struct exchange *x)
{
	struct call *c = &x->call;
	const struct server_limits *l = &x->conn->shard->server->limits;

	if (!c->method.n || !c->target.n || !x->h2.has_scheme)
		malformed(x, "a request must have :method, :scheme and :path");
	else if (c->method.n > 32 || !http_is_token(c->method))
		malformed(x, "the method is not a token of at most 32 characters");
	else if (c->target.n > l->url)
		spoil(x, 414, ERR_TOO_LARGE, "url_too_long",
		      "the request target is longer than the server accepts");
	else if (!http_target_ok(c->target))
		malformed(x, "the request target must be a path that starts with '/' and has only "
			     "visible ASCII characters, without '#'");
	else if (!authority_ok(x))
		malformed(x, "a request must have one :authority or Host, a host name");
	else if (x->h2.has_length && x->h2.length > l->body)
		spoil(x, 413, ERR_TOO_LARGE, "body_too_large",
		      "the body is larger than the server accepts");
	else if (x->h2.authority.p && !x->h2.has_host && c->nheaders < l->headers &&
		 !add_header(x, (struct http_header){ STR("host"), x->h2.authority }))
		spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
	if (!str_cut(c->target, '?', &c->path, &c->query))
		c->path = c->target;
	x->head_only = str_eq(c->method, STR("HEAD"));
}

/* Refuse: answer, and tell the client to send no more of this stream. */
static void refuse(struct exchange *x)
{
	if (x->finished)
		return;
	exchange_refuse(x, x->h2.refuse, &x->h2.why);
	x->finished = true;
	http2_answer(x);
}

static void hand(struct exchange *x)
{
	if (x->finished)
		return;
	if (x->h2.has_length && x->h2.length != x->h2.body.n)
		malformed(x, "the body is not as long as Content-Length says");
	if (x->h2.refuse) {
		refuse(x);
		return;
	}
	x->call.body = buf_str(&x->h2.body);
	if (exchange_hand(x))
		http2_answer(x);
	else
		(void)exchange_charge(x, x->h2.head_bytes + x->h2.body.n);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct exchange *x;

	(void)user;
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	x = stream_of(session, frame->hd.stream_id);
	if (!x)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS && !x->h2.trailers && !x->h2.refuse)
		check_head(x);
	if (frame->hd.type == NGHTTP2_HEADERS && x->h2.refuse)
		refuse(x);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		x->h2.complete = true;
		hand(x);
	}
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
		   void *user)
{
	struct conn *c = user;
	struct exchange *x = stream_of(session, id);

	(void)flags;
	if (!x || x->finished || x->handed)
		return 0;
	if (n > c->shard->server->limits.body - x->h2.body.n)
		spoil(x, 413, ERR_TOO_LARGE, "body_too_large",
		      "the body is larger than the server accepts");
	else
		buf_add(&x->h2.body, (struct str){ (const char *)p, n });
	if (!buf_ok(&x->h2.body) || !exchange_charge(x, x->h2.head_bytes + x->h2.body.n))
		spoil(x, 503, ERR_UNAVAILABLE, "unavailable",
		      "the requests being served hold all the memory the server allows; try again");
	if (x->h2.refuse)
		refuse(x);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
	struct conn *c = user;
	struct exchange *x = stream_of(session, id);

	(void)code;
	if (!x)
		return 0;
	unlink_stream(c->h2, x);
	if (c->h2->nstreams == 0)
		conn_deadline(c, c->h2->draining ? CHECK_MS : c->shard->server->limits.idle_ms);
	x->h2.closed = x->call.gone = true;
	if (!x->handed || x->finished)
		exchange_free(x);
	return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *out, size_t max,
			 uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct exchange *x = source->ptr;
	struct str rest = str_from(buf_str(&x->call.reply.body), x->h2.sent);
	size_t n = rest.n < max ? rest.n : max;

	(void)session;
	(void)id;
	(void)user;
	if (n)
		memcpy(out, rest.p, n);
	x->h2.sent += n;
	if (n == rest.n)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

static nghttp2_nv header(struct str name, struct str value)
{
	union {
		const char *in;
		uint8_t *out;
	} n = { name.p }, v = { value.p ? value.p : "" };

	return (nghttp2_nv){ n.out, v.out, name.n, value.n,
			     NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };
}

/* HTTP/2 wants names in lower case; handlers write them as in HTTP/1.1. */
static struct str lower_name(struct exchange *x, struct str name)
{
	struct str copy = arena_dup(&x->arena, name);
	union {
		const char *in;
		char *out;
	} p = { copy.p };

	return copy.p && http_lower_token(p.out, copy.n) ? copy : (struct str){ NULL, 0 };
}

static struct str decimal(struct exchange *x, size_t v)
{
	struct buf b;

	buf_in_arena(&b, &x->arena, 24);
	buf_i64(&b, (int64_t)v);
	return buf_str(&b);
}

void http2_answer(struct exchange *x)
{
	struct call *c = &x->call;
	struct reply *r = &c->reply;
	nghttp2_session *session = x->conn->h2->session;
	nghttp2_data_provider body = { .source.ptr = x, .read_callback = read_body };
	nghttp2_nv nv[REPLY_HEADERS_MAX + 4];
	size_t n = 0;
	bool bodiless;

	exchange_seal(x);
	bodiless = r->status == 204 || r->status == 304;
	nv[n++] = header(STR(":status"), decimal(x, (size_t)r->status));
	if (r->type && !bodiless)
		nv[n++] = header(STR("content-type"), str_c(r->type));
	if (!bodiless)
		nv[n++] = header(STR("content-length"), decimal(x, r->body.n));
	if (x->request_id.n)
		nv[n++] = header(STR("x-request-id"), x->request_id);
	for (size_t i = 0; i < r->nheaders; i++) {
		struct str name = lower_name(x, r->headers[i].name);

		if (name.p)
			nv[n++] = header(name, r->headers[i].value);
	}
	x->h2.sent = 0;
	x->h2.answered_ns = loop_now(x->conn->shard->loop);
	if (nghttp2_submit_response(session, x->h2.id, nv, n,
				    bodiless || x->head_only || !r->body.n ? NULL : &body))
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, x->h2.id,
					  NGHTTP2_INTERNAL_ERROR);
	if (r->close)
		http2_drain(x->conn);
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct conn *c = user;

	(void)session;
	if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)
		c->h2->progress_ns = loop_now(c->shard->loop);
	return 0;
}

static nghttp2_session *make_session(struct conn *c)
{
	nghttp2_session_callbacks *cb = NULL;
	nghttp2_session *session = NULL;
	nghttp2_option *opt = NULL;

	if (nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&opt) == 0) {
		nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
		nghttp2_session_callbacks_set_on_header_callback2(cb, on_header);
		nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
		nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
		nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
		nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
		nghttp2_option_set_no_http_messaging(opt, 1);
		nghttp2_option_set_no_closed_streams(opt, 1);
		nghttp2_option_set_stream_reset_rate_limit(opt, RESETS_BURST, RESETS_RATE);
		nghttp2_option_set_max_continuations(opt, CONTINUATIONS);
		nghttp2_option_set_max_settings(opt, 16);
		(void)nghttp2_session_server_new2(&session, cb, c, opt);
	}
	nghttp2_option_del(opt);
	nghttp2_session_callbacks_del(cb);
	return session;
}

bool http2_open(struct conn *c)
{
	const struct server_limits *l = &c->shard->server->limits;
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)l->streams },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_STREAM },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)l->head },
	};

	c->h2 = mem_zero(&c->shard->server->alloc, sizeof(*c->h2));
	if (!c->h2)
		return false;
	c->h2->session = make_session(c);
	if (!c->h2->session ||
	    nghttp2_submit_settings(c->h2->session, NGHTTP2_FLAG_NONE, settings,
				    ARRAY_LEN(settings)) ||
	    nghttp2_session_set_local_window_size(c->h2->session, NGHTTP2_FLAG_NONE, 0,
						  WINDOW_CONN))
		return false; /* conn_close frees what is there */
	conn_deadline(c, l->idle_ms);
	if (c->shard->draining)
		http2_drain(c);
	return true;
}

void http2_close(struct conn *c)
{
	struct http2 *h = c->h2;

	while (h->streams) {
		struct exchange *x = h->streams;

		unlink_stream(h, x);
		x->h2.closed = x->call.gone = true;
		if (!x->handed || x->finished)
			exchange_free(x);
	}
	nghttp2_session_del(h->session);
	mem_free(&c->shard->server->alloc, h, sizeof(*h));
	c->h2 = NULL;
}

bool http2_read(struct conn *c, struct str in)
{
	ssize_t rc = nghttp2_session_mem_recv(c->h2->session, (const uint8_t *)in.p, in.n);

	return rc == (ssize_t)in.n;
}

bool http2_write(struct conn *c)
{
	struct buf *out = &c->shard->out;

	while (c->unsent.n + out->n < UNSENT_SOFT) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(c->h2->session, &p);

		if (n < 0)
			return false;
		if (n == 0)
			break;
		buf_add(out, (struct str){ (const char *)p, (size_t)n });
	}
	return buf_ok(out);
}

bool http2_over(const struct conn *c)
{
	const struct http2 *h = c->h2;

	if (nghttp2_session_want_write(h->session))
		return false;
	return c->eof || !nghttp2_session_want_read(h->session) || (h->leaving && !h->nstreams);
}

/* First a notice, that requests under way are still served; the last word follows at the next
 * deadline, or when no stream is open. RFC 9113 6.8. */
void http2_drain(struct conn *c)
{
	if (c->h2->draining)
		return;
	c->h2->draining = true;
	nghttp2_submit_shutdown_notice(c->h2->session);
	conn_deadline(c, CHECK_MS);
}

static void leave(struct conn *c)
{
	struct http2 *h = c->h2;

	h->leaving = true;
	nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
			      nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
			      NULL, 0);
}

/* One stream past its time? A request that is not whole gets a 408, a reply that nobody fetches
 * is thrown away. A client that goes on sending after it was refused is asked to stop (RFC 9113
 * 8.1), but only now: some throw the answer away when the reset comes right behind it. */
static void check_stream(struct conn *c, struct exchange *x)
{
	const struct server_limits *l = &c->shard->server->limits;
	int64_t now = loop_now(c->shard->loop);

	if (!x->h2.complete && !x->finished && now - x->call.started_ns > l->request_ms * 1000000) {
		spoil(x, 408, ERR_INVALID, "request_timeout",
		      "the request was not complete in time");
		refuse(x);
	} else if (x->finished && !x->h2.complete &&
		   now - x->h2.answered_ns > CHECK_MS * (int64_t)1000000) {
		nghttp2_submit_rst_stream(c->h2->session, NGHTTP2_FLAG_NONE, x->h2.id,
					  NGHTTP2_NO_ERROR);
	} else if (x->finished && now - x->h2.answered_ns > l->send_ms * 1000000 &&
		   now - c->h2->progress_ns > l->send_ms * 1000000) {
		nghttp2_submit_rst_stream(c->h2->session, NGHTTP2_FLAG_NONE, x->h2.id,
					  NGHTTP2_ENHANCE_YOUR_CALM);
	}
}

bool http2_timeout(struct conn *c)
{
	struct http2 *h = c->h2;

	if (h->nstreams == 0 && !h->leaving && h->draining)
		leave(c);
	else if (h->nstreams == 0)
		nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
	else if (h->draining && !h->leaving)
		leave(c);
	for (struct exchange *x = h->streams, *next; x; x = next) {
		next = x->next;
		check_stream(c, x);
	}
	conn_deadline(c, CHECK_MS);
	return true;
}
