/*
 * The head is gathered in one buffer and read line by line, each line once its LF has come.
 * All checks look at a whole line, or at how many bytes came without a LF, and are made in the
 * order of the bytes; so the outcome does not depend on how TCP cut the stream. A body that is
 * already there behind its head is used in place.
 */
#include "authz/net/http1.h"

#include "authz/base/text.h"
#include "authz/net/chars.h"
#include "include/writ/words.h"

enum phase { REQUEST_LINE, HEADER_LINE, BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, LAST, DONE, BAD };

#define PIECE 1024	 /* bytes taken from the input at a time while reading a head */
#define METHOD_MAX 32	 /* bytes */
#define LINE_EXTRA 64	 /* of a request line, beside the target */
#define CHUNK_LINE_MAX 8 /* hexadecimal digits of a chunk's size */
#define HEADERS_FIRST 24 /* header lines to make room for at first */

void http1_begin(struct http1 *r, const struct http1_limits *limits, struct arena *a)
{
	*r = (struct http1){ .limits = limits, .arena = a, .phase = REQUEST_LINE };
	buf_in_arena(&r->head, a, limits->head + PIECE + 1);
	buf_in_arena(&r->text, a, limits->body);
}

#define REFUSE(r, e, st, code, ...) \
	((r)->phase = BAD, (r)->status = (st), err_code((e), class_of(st), (code), __VA_ARGS__))

static enum err_class class_of(int status)
{
	switch (status) {
	case 413:
	case 414:
	case 431:
		return ERR_TOO_LARGE;
	case 503:
		return ERR_UNAVAILABLE;
	default:
		return ERR_INVALID;
	}
}

static bool bad(struct http1 *r, struct err *e, const char *what)
{
	return REFUSE(r, e, 400, "invalid_request", "%s", what);
}

static bool no_memory(struct http1 *r, struct err *e)
{
	return REFUSE(r, e, 503, "unavailable",
		      "the request needs more memory than the server has left; try again");
}

static bool read_target(struct http1 *r, struct str target, struct err *e)
{
	if (target.n > r->limits->url)
		return REFUSE(r, e, 414, "url_too_long",
			      "the request target has %zu bytes; at most %zu are accepted",
			      target.n, r->limits->url);
	if (!http_target_ok(target))
		return bad(r, e,
			   "the request target must be a path that starts with '/' and has only "
			   "visible ASCII characters, without '#'");
	r->target = target;
	if (!str_cut(target, '?', &r->path, &r->query))
		r->path = target;
	return true;
}

static bool read_version(struct http1 *r, struct str v, struct err *e)
{
	if (str_eq(v, STR("HTTP/1.1")))
		return true;
	r->minor0 = str_eq(v, STR("HTTP/1.0"));
	if (r->minor0)
		return true;
	if (v.n == 8 && str_starts(v, STR("HTTP/")) && v.p[5] != '1' && v.p[5] >= '0' &&
	    v.p[5] <= '9' && v.p[6] == '.')
		return REFUSE(r, e, 505, "version_not_supported",
			      "HTTP version %.*s is not spoken here; use HTTP/1.1 or HTTP/2",
			      STR_FMT(str_from(v, 5)));
	return bad(r, e,
		   "the request line must be METHOD SP target SP HTTP/1.1, with single spaces");
}

static bool read_request_line(struct http1 *r, struct str line, struct err *e)
{
	struct str rest, target, version;

	if (!str_cut(line, ' ', &r->method, &rest) || !str_cut(rest, ' ', &target, &version)) {
		r->method = (struct str){ NULL, 0 };
		return bad(r, e,
			   "the request line must be METHOD SP target SP HTTP/1.1, with single "
			   "spaces");
	}
	if (r->method.n > METHOD_MAX || !http_is_token(r->method)) {
		r->method = (struct str){ NULL, 0 };
		return bad(r, e, "the method is not a token of at most 32 characters");
	}
	r->head_only = str_eq(r->method, STR("HEAD"));
	return read_version(r, version, e) && read_target(r, target, e);
}

static bool read_length(struct http1 *r, struct str v, struct err *e)
{
	uint64_t n;

	if (r->has_length)
		return bad(r, e, "Content-Length is given twice");
	r->has_length = true;
	if (!text_u64(v, SIZE_MAX, &n)) {
		bool digits = v.n > 0 && v.p[0] != '0';

		for (size_t i = 0; i < v.n; i++)
			digits = digits && v.p[i] >= '0' && v.p[i] <= '9';
		if (!digits)
			return bad(r, e, "Content-Length must be a plain decimal number");
		n = SIZE_MAX;
	}
	r->want = (size_t)n;
	return true;
}

static bool read_connection(struct http1 *r, struct str v)
{
	struct str one = v, rest = { NULL, 0 };
	bool more;

	do {
		more = str_cut(v, ',', &one, &rest);
		if (http_equal_fold(http_trim(more ? one : v), STR("close")))
			r->close = true;
		v = rest;
	} while (more);
	return true;
}

/* The headers that this reader itself must understand; the rest is the handler's. */
static bool read_known(struct http1 *r, struct http_header h, struct err *e)
{
	if (str_eq_short(h.name, STR("host"))) {
		if (r->has_host)
			return bad(r, e, "Host is given twice");
		r->has_host = true;
		return http_host_ok(h.value) ||
		       bad(r, e, "Host has a character that no host name has");
	}
	if (str_eq_short(h.name, STR("content-length")))
		return read_length(r, h.value, e);
	if (str_eq_short(h.name, STR("transfer-encoding"))) {
		if (r->chunked)
			return bad(r, e, "Transfer-Encoding is given twice");
		r->chunked = true;
		return http_equal_fold(h.value, STR("chunked")) ||
		       bad(r, e, "the only Transfer-Encoding accepted is \"chunked\"");
	}
	if (str_eq_short(h.name, STR("connection")))
		return read_connection(r, h.value);
	if (str_eq_short(h.name, STR("expect"))) {
		r->expect = !r->minor0;
		return http_equal_fold(h.value, STR("100-continue")) ||
		       REFUSE(r, e, 417, "expectation_failed",
			      "the only expectation accepted is \"100-continue\"");
	}
	if (str_eq_short(h.name, STR("x-request-id"))) {
		if (r->request_id.n)
			return bad(r, e, "X-Request-ID is given twice");
		if (!http_request_id_ok(h.value))
			return bad(r, e,
				   "X-Request-ID must be at most 256 printable ASCII characters");
		r->request_id = h.value;
	}
	return true;
}

static bool add_header(struct http1 *r, struct http_header h, struct err *e)
{
	if (r->nheaders == r->limits->headers)
		return REFUSE(r, e, 431, "headers_too_large",
			      "the request has more than %zu header lines", r->limits->headers);
	if (r->nheaders == r->headers_cap) {
		size_t cap = r->headers_cap ? 2 * r->headers_cap : HEADERS_FIRST;
		struct http_header *more = arena_alloc(r->arena, cap * sizeof(*more));

		if (!more)
			return no_memory(r, e);
		if (r->nheaders)
			memcpy(more, r->headers, r->nheaders * sizeof(*more));
		r->headers = more;
		r->headers_cap = cap;
	}
	r->headers[r->nheaders++] = h;
	return true;
}

static bool read_header_line(struct http1 *r, char *line, size_t n, struct err *e)
{
	struct http_header h;
	char *colon;

	if (line[0] == ' ' || line[0] == '\t')
		return bad(r, e, "a header line is folded (starts with a space)");
	colon = memchr(line, ':', n);
	if (!colon || !http_lower_token(line, (size_t)(colon - line)))
		return bad(r, e,
			   "a header line must be Name: value, the name a token without spaces");
	h.name = (struct str){ line, (size_t)(colon - line) };
	h.value = http_trim((struct str){ colon + 1, n - h.name.n - 1 });
	if (!http_value_ok(h.value))
		return REFUSE(r, e, 400, "invalid_request",
			      "the value of header \"%.*s\" has a control character",
			      STR_FMT(str_first(h.name, 64)));
	return add_header(r, h, e) && read_known(r, h, e);
}

/* All header lines are there: what do they say together? */
static bool end_head(struct http1 *r, struct err *e)
{
	if (!r->has_host && !r->minor0)
		return bad(r, e, "an HTTP/1.1 request must have a Host header");
	if (r->chunked && (r->has_length || r->minor0))
		return bad(r, e,
			   r->minor0 ? "HTTP/1.0 has no Transfer-Encoding"
				     : "Content-Length and Transfer-Encoding exclude each other");
	if (!r->chunked && r->want > r->limits->body)
		return REFUSE(r, e, 413, "body_too_large",
			      "the body is larger than %zu bytes, which is the most accepted",
			      r->limits->body);
	r->keep_alive = !r->minor0 && !r->close;
	r->phase = r->chunked ? CHUNK_SIZE : r->want ? BODY : DONE;
	return true;
}

/* Too many bytes, wherever the line at r->line would end? @end is the first byte after what is
 * known of it. */
static bool line_fits(struct http1 *r, size_t end, struct err *e)
{
	if (r->phase == REQUEST_LINE && end > r->limits->url + LINE_EXTRA)
		return REFUSE(r, e, 414, "url_too_long",
			      "the request target is longer than %zu bytes", r->limits->url);
	if (end > r->limits->head)
		return REFUSE(r, e, 431, "headers_too_large",
			      "request line and headers are longer than %zu bytes",
			      r->limits->head);
	return true;
}

/* Read all whole lines in r->head. Stops behind the empty line that ends the head. */
static bool read_lines(struct http1 *r, struct err *e)
{
	while (r->phase == REQUEST_LINE || r->phase == HEADER_LINE) {
		char *from = r->head.p + r->scanned;
		char *lf = memchr(from, '\n', r->head.n - r->scanned);
		char *line = r->head.p + r->line;
		size_t n;

		r->scanned = lf ? (size_t)(lf - r->head.p) + 1 : r->head.n;
		if (!line_fits(r, r->scanned, e))
			return false;
		if (!lf)
			return true;
		n = (size_t)(lf - line);
		if (n == 0 || line[n - 1] != '\r')
			return bad(r, e, "a line ends with LF alone; lines end with CR LF");
		n--;
		r->line = r->scanned;
		if (r->phase == REQUEST_LINE) {
			if (!read_request_line(r, (struct str){ line, n }, e))
				return false;
			r->phase = HEADER_LINE;
		} else if (n ? !read_header_line(r, line, n, e) : !end_head(r, e)) {
			return false;
		}
	}
	return true;
}

static bool feed_head(struct http1 *r, struct str in, size_t *used, struct err *e)
{
	while (*used < in.n && (r->phase == REQUEST_LINE || r->phase == HEADER_LINE)) {
		struct str piece = str_first(str_from(in, *used), PIECE);

		if (r->head.n == 0 && !http_is_token((struct str){ piece.p, 1 }))
			return bad(r, e, "this is not HTTP: a request starts with a method");
		buf_add(&r->head, piece);
		if (!buf_ok(&r->head))
			return no_memory(r, e);
		*used += piece.n;
		if (!read_lines(r, e))
			return false;
	}
	if (r->phase == REQUEST_LINE || r->phase == HEADER_LINE)
		return true;
	/* The last piece held more than the head. */
	if (r->phase == BODY && !r->expect && r->want <= r->head.n - r->line) {
		r->body = (struct str){ r->head.p + r->line, r->want };
		r->line += r->want;
		r->phase = DONE;
	}
	*used -= r->head.n - r->line;
	return true;
}

static bool feed_data(struct http1 *r, struct str in, size_t *used, struct err *e)
{
	struct str piece = str_first(str_from(in, *used), r->want);

	buf_add(&r->text, piece);
	if (!buf_ok(&r->text))
		return no_memory(r, e);
	*used += piece.n;
	r->want -= piece.n;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of a chunk's size line: digits, CR, LF and nothing else. */
static bool feed_size(struct http1 *r, char c, struct err *e)
{
	int digit = hex_digit(c);

	if (digit >= 0 && !r->cr && r->digits < CHUNK_LINE_MAX) {
		r->want = r->want * 16 + (size_t)digit;
		r->digits++;
		return true;
	}
	if (c == '\r' && !r->cr && r->digits) {
		r->cr = true;
		return true;
	}
	if (c != '\n' || !r->cr)
		return bad(r, e,
			   "a chunk's size must be 1 to 8 hexadecimal digits and CR LF, without "
			   "extensions");
	if (r->want > r->limits->body - r->text.n)
		return REFUSE(r, e, 413, "body_too_large",
			      "the body is larger than %zu bytes, which is the most accepted",
			      r->limits->body);
	r->phase = r->want ? CHUNK_DATA : LAST;
	r->cr = false;
	r->digits = 0;
	return true;
}

/* CR LF after a chunk's data or after the last chunk, where trailers would stand. */
static bool feed_crlf(struct http1 *r, char c, struct err *e)
{
	if (c == '\r' && !r->cr) {
		r->cr = true;
		return true;
	}
	if (c != '\n' || !r->cr)
		return bad(r, e,
			   r->phase == LAST ? "trailers after a chunked body are not accepted"
					    : "a chunk's data must be followed by CR LF");
	r->cr = false;
	if (r->phase == LAST) {
		r->body = buf_str(&r->text);
		r->phase = DONE;
	} else {
		r->phase = CHUNK_SIZE;
	}
	return true;
}

static bool feed_body(struct http1 *r, struct str in, size_t *used, struct err *e)
{
	while (*used < in.n && r->phase != DONE) {
		bool ok = true;

		if (r->phase == BODY || r->phase == CHUNK_DATA)
			ok = feed_data(r, in, used, e);
		else if (r->phase == CHUNK_SIZE)
			ok = feed_size(r, in.p[(*used)++], e);
		else
			ok = feed_crlf(r, in.p[(*used)++], e);
		if (!ok)
			return false;
		if (r->phase == CHUNK_DATA && r->want == 0)
			r->phase = CHUNK_END;
		if (r->phase == BODY && r->want == 0) {
			r->body = buf_str(&r->text);
			r->phase = DONE;
		}
	}
	return true;
}

enum http1_state http1_feed(struct http1 *r, struct str in, size_t *used, struct err *e)
{
	*used = 0;
	if (r->phase == REQUEST_LINE || r->phase == HEADER_LINE) {
		if (!feed_head(r, in, used, e))
			return HTTP1_REFUSED;
		if (r->expect && (r->phase == BODY || r->phase == CHUNK_SIZE))
			return HTTP1_CONTINUE;
	}
	if (r->phase >= BODY && r->phase < DONE && !feed_body(r, in, used, e))
		return HTTP1_REFUSED;
	if (r->phase == BAD)
		return HTTP1_REFUSED;
	return r->phase == DONE ? HTTP1_DONE : HTTP1_MORE;
}
