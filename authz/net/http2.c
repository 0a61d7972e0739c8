/*
 * nghttp2 turns bytes into frames and back; http2_message.c judges the messages.
 *
 * A stream's exchange lives until nghttp2 closes the stream, as replies are sent without a copy
 * of their headers; if the call is pending then, until call_finish. Replies of one turn leave in
 * one write: streams only mark their connection, which is served at the end of the turn.
 */
#include <nghttp2/nghttp2.h>

#include "authz/net/chars.h"
#include "authz/net/grpc_inside.h"

#define WINDOW_CONN (1024 * 1024)
#define UNSENT_SOFT (64 * 1024) /* no more frames are made while so much waits for the socket */
#define RESETS_BURST 200	/* streams a client may cancel at once, and then per second */
#define RESETS_RATE 50
#define CONTINUATIONS 8
#define CHECK_MS 1000 /* how often open streams' deadlines are looked at */

struct http2 {
	nghttp2_session *session;
	struct exchange *streams; /* open, newest first */
	size_t nstreams;
	int64_t progress_ns; /* when bytes of a reply last left */
	bool more;	     /* frames wait for room */
	bool draining;	     /* the client was told that we shall go */
	bool leaving;	     /* and that no further stream is accepted */
};

static struct exchange *stream_of(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
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
			http2_spoil(x, 400, ERR_INVALID, "invalid_request",
				    "trailers after a request's body are not accepted");
		if (x)
			x->h2.trailers = true;
		return 0;
	}
	x = exchange_new(c);
	if (!x)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	memset(&x->h2, 0, offsetof(struct exchange, h2.why) - offsetof(struct exchange, h2));
	x->h2.id = frame->hd.stream_id;
	buf_in_arena(&x->h2.body, x->call.scratch, c->shard->server->limits.body + GRPC_PREFIX);
	link_stream(c->h2, x);
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, x);
	if (c->h2->nstreams == 1)
		conn_deadline(c, CHECK_MS);
	return 0;
}

/* Texts of the static table live for ever; others are copied. */
static struct str text_of(struct exchange *x, nghttp2_rcbuf *b)
{
	nghttp2_vec v = nghttp2_rcbuf_get_buf(b);
	struct str s = { (const char *)v.base, v.len };

	return nghttp2_rcbuf_is_static(b) ? s : arena_dup(x->call.scratch, s);
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
		http2_spoil(x, 431, ERR_TOO_LARGE, "headers_too_large",
			    "the request's headers are larger than the server accepts");
		return 0;
	}
	h.name = text_of(x, name);
	h.value = text_of(x, value);
	if (!h.name.p || !h.value.p)
		http2_spoil(x, 503, ERR_UNAVAILABLE, "unavailable", "no memory for the request");
	else
		http2_read_header(x, h);
	return 0;
}

/* Refuse: answer, and tell the client to send no more of this stream. */
static void refuse(struct exchange *x)
{
	if (x->finished)
		return;
	if (x->handed) { /* a gRPC call: it is handed on before the client has ended its side */
		grpc_cut(x->call.grpc, GRPC_INVALID_ARGUMENT, x->h2.why.msg);
		return;
	}
	exchange_refuse(x, x->h2.refuse, &x->h2.why);
	x->finished = true;
	http2_answer(x);
}

static void hand(struct exchange *x)
{
	size_t n;

	if (x->call.grpc) {
		grpc_complete(x);
		return;
	}
	if (x->finished)
		return;
	if (x->h2.has_length && x->h2.length != x->h2.body.n)
		http2_spoil(x, 400, ERR_INVALID, "invalid_request",
			    "the body is not as long as Content-Length says");
	if (x->h2.refuse) {
		refuse(x);
		return;
	}
	x->call.body = buf_str(&x->h2.body);
	n = x->h2.head_bytes + x->h2.body.n;
	if (exchange_hand(x))
		http2_answer(x);
	else
		(void)exchange_charge(x, n);
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
		http2_check_head(x);
	if (frame->hd.type == NGHTTP2_HEADERS && x->h2.refuse)
		refuse(x);
	if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
		x->h2.complete = true;
		hand(x);
	}
	return 0;
}

static void add_body(struct conn *c, struct exchange *x, const uint8_t *p, size_t n)
{
	if (x->finished || x->handed)
		return;
	if (n > c->shard->server->limits.body - x->h2.body.n)
		http2_spoil(x, 413, ERR_TOO_LARGE, "body_too_large",
			    "the body is larger than the server accepts");
	else
		buf_add(&x->h2.body, (struct str){ (const char *)p, n });
	if (!buf_ok(&x->h2.body) || !exchange_charge(x, x->h2.head_bytes + x->h2.body.n))
		http2_spoil(
			x, 503, ERR_UNAVAILABLE, "unavailable",
			"the requests being served hold all the memory the server allows; try again");
	if (x->h2.refuse)
		refuse(x);
}

/* What waits holds its own stream's window; the connection's belongs to all. */
static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
		   void *user)
{
	struct exchange *x = stream_of(session, id);
	size_t waits = 0;

	(void)flags;
	if (x && x->call.grpc)
		waits = grpc_data(x, (struct str){ (const char *)p, n });
	else if (x)
		add_body(user, x, p, n);
	if (nghttp2_session_consume_connection(session, n) ||
	    nghttp2_session_consume_stream(session, id, n - waits))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return 0;
}

void http2_consumed(struct exchange *x, size_t n)
{
	(void)nghttp2_session_consume_stream(http2_session(x->conn), x->h2.id, n);
}

/* Nobody reads or writes it any more. */
static void close_stream(struct exchange *x)
{
	x->h2.closed = x->call.gone = true;
	if (!x->handed || x->finished)
		exchange_free(x);
	else if (x->call.grpc)
		grpc_gone(x);
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
	close_stream(x);
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

nghttp2_nv http2_header(struct str name, struct str value)
{
	union {
		const char *in;
		uint8_t *out;
	} n = { name.p }, v = { value.p ? value.p : "" };

	return (nghttp2_nv){ n.out, v.out, name.n, value.n,
			     NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };
}

nghttp2_nv http2_header_once(struct str name, struct str value)
{
	nghttp2_nv nv = http2_header(name, value);

	nv.flags |= NGHTTP2_NV_FLAG_NO_INDEX;
	return nv;
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

	if (c->grpc) {
		grpc_answer(x);
		return;
	}
	exchange_seal(x);
	bodiless = r->status == 204 || r->status == 304;
	nv[n++] = http2_header(STR(":status"), decimal(x, (size_t)r->status));
	if (r->type && !bodiless)
		nv[n++] = http2_header(STR("content-type"), str_c(r->type));
	if (!bodiless)
		nv[n++] = http2_header(STR("content-length"), decimal(x, r->body.n));
	if (x->request_id.n)
		nv[n++] = http2_header_once(STR("x-request-id"), x->request_id);
	for (size_t i = 0; i < r->nheaders; i++) {
		struct str name = lower_name(x, r->headers[i].name);

		if (name.p)
			nv[n++] = http2_header(name, r->headers[i].value);
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
	nghttp2_mem mem = http2_mem_of(&c->shard->http2_mem);
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
		nghttp2_option_set_no_auto_window_update(opt, 1);
		nghttp2_option_set_stream_reset_rate_limit(opt, RESETS_BURST, RESETS_RATE);
		nghttp2_option_set_max_continuations(opt, CONTINUATIONS);
		nghttp2_option_set_max_settings(opt, 16);
		(void)nghttp2_session_server_new3(&session, cb, c, opt, &mem);
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
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_WINDOW },
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

	c->pending++; /* streams that end here must not free their connection under us */
	while (h->streams) {
		struct exchange *x = h->streams;

		unlink_stream(h, x);
		close_stream(x);
	}
	c->pending--;
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

	c->h2->more = true;
	while (c->unsent.n + out->n < UNSENT_SOFT) {
		const uint8_t *p;
		ssize_t n = nghttp2_session_mem_send(c->h2->session, &p);

		if (n < 0)
			return false;
		if (n == 0) {
			c->h2->more = false;
			break;
		}
		buf_add(out, (struct str){ (const char *)p, (size_t)n });
	}
	return buf_ok(out);
}

nghttp2_session *http2_session(const struct conn *c)
{
	return c->h2->session;
}

bool http2_has_more(const struct conn *c)
{
	return c->h2->more;
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
	for (struct exchange *x = c->h2->streams; x; x = x->next)
		grpc_drain(x);
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

	if (!x->h2.complete && !x->finished && !x->handed &&
	    now - x->call.started_ns > l->request_ms * 1000000) {
		http2_spoil(x, 408, ERR_INVALID, "request_timeout",
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
