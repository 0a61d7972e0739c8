#include "authz/cli/reply.h"

#include <stdio.h>
#include <strings.h>

#include "authz/base/text.h"

#define INPUT (32 * 1024)
#define LINE_MAX_BYTES 8192
#define INFORMATIONAL 4 /* 1xx responses before the real one */
#define BODY_UNBOUNDED ((uint64_t)1 << 50)

struct reader {
	const struct reply_source *source;
	size_t from, to;     /* unread part of in */
	size_t header_bytes; /* read so far */
	char in[INPUT];
};

static bool malformed(struct err *e, const char *what)
{
	return err_code(e, ERR_INTERNAL, "bad_response",
			"the server's answer is malformed: %s; is this address writ's?", what);
}

/* At least one unread byte; *end at the end of the stream. */
static bool fill(struct reader *r, bool *end, struct err *e)
{
	size_t got = 0;

	*end = false;
	if (r->from < r->to)
		return true;
	if (!r->source->read(r->source->ctx, r->in, sizeof(r->in), &got, e))
		return false;
	r->from = 0;
	r->to = got;
	*end = got == 0;
	return true;
}

static bool ended_early(struct err *e, const char *where)
{
	return err_code(e, ERR_UNAVAILABLE, "truncated_response",
			"the server ended the connection %s; try again", where);
}

/* One line without its CRLF into @line. A bare LF or CR is refused. */
static bool read_line(struct reader *r, char line[static LINE_MAX_BYTES], struct str *out,
		      struct err *e)
{
	size_t n = 0;

	for (;;) {
		bool end;
		char c;

		if (!fill(r, &end, e))
			return false;
		if (end)
			return ended_early(e, "before its answer was complete");
		c = r->in[r->from++];
		if (++r->header_bytes > CLIENT_HEADERS)
			return malformed(e, "its headers are longer than 16 KiB");
		if (c == '\n') {
			if (n == 0 || line[n - 1] != '\r')
				return malformed(e, "a line ends without CR LF");
			*out = (struct str){ line, n - 1 };
			return memchr(line, '\r', n - 1) ? malformed(e, "a stray CR") : true;
		}
		if (n == LINE_MAX_BYTES)
			return malformed(e, "a header line is longer than 8 KiB");
		if (c == '\0')
			return malformed(e, "a NUL in its headers");
		line[n++] = c;
	}
}

static bool read_status(struct str line, int *status, struct err *e)
{
	uint64_t code;

	if (line.n < 12 ||
	    !(str_starts(line, STR("HTTP/1.1 ")) || str_starts(line, STR("HTTP/1.0 "))) ||
	    !text_u64(str_first(str_from(line, 9), 3), 599, &code) || code < 100 ||
	    (line.n > 12 && line.p[12] != ' '))
		return malformed(e, "it does not begin with an HTTP/1.1 status");
	*status = (int)code;
	return true;
}

static bool equal_fold(struct str a, const char *b)
{
	return a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

static struct str trim(struct str s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = str_from(s, 1);
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

struct framing {
	bool has_length, chunked, close, json;
	uint64_t length;
};

static bool read_header(struct str line, struct framing *f, struct err *e)
{
	struct str name, value;

	if (!str_cut(line, ':', &name, &value) || name.n == 0 || memchr(name.p, ' ', name.n) ||
	    memchr(name.p, '\t', name.n))
		return malformed(e, "a header line has no name");
	value = trim(value);
	if (equal_fold(name, "content-length")) {
		uint64_t length;

		if (!text_u64(value, BODY_UNBOUNDED, &length) ||
		    (f->has_length && f->length != length))
			return malformed(e, "its Content-Length is no length");
		f->has_length = true;
		f->length = length;
	} else if (equal_fold(name, "transfer-encoding")) {
		if (!equal_fold(value, "chunked") || f->chunked)
			return malformed(e, "an unknown Transfer-Encoding");
		f->chunked = true;
	} else if (equal_fold(name, "connection")) {
		f->close |= equal_fold(value, "close");
	} else if (equal_fold(name, "content-type")) {
		struct str type = str_first(value, strlen("application/json"));

		f->json = equal_fold(type, "application/json");
	}
	return true;
}

static bool take(const struct client_request *q, struct client_reply *r, struct str bytes,
		 struct err *e)
{
	if (q->sink && r->status == 200)
		return q->sink(q->ctx, bytes, e);
	buf_add(&r->body, bytes);
	if (!buf_ok(&r->body))
		return err_code(e, ERR_TOO_LARGE, "response_too_large",
				"the server's answer is longer than %zu MiB; ask for less at once",
				r->body.max >> 20);
	return true;
}

/* Exactly @n bytes of body; with @until_end, all there are. */
static bool read_body(struct reader *rd, const struct client_request *q, struct client_reply *r,
		      uint64_t n, bool until_end, struct err *e)
{
	while (n) {
		size_t some;
		bool end;

		if (!fill(rd, &end, e))
			return false;
		if (end)
			return until_end ? true : ended_early(e, "in the middle of its answer");
		some = rd->to - rd->from;
		if (some > n)
			some = (size_t)n;
		if (!take(q, r, (struct str){ rd->in + rd->from, some }, e))
			return false;
		rd->from += some;
		n -= some;
	}
	return true;
}

/* "1a2b" or "1a2b;extension": at most 8 digits. */
static bool read_chunk_size(struct str line, uint64_t *size, struct err *e)
{
	struct str digits = line, extension;
	uint64_t n = 0;

	(void)str_cut(line, ';', &digits, &extension);
	digits = trim(digits);
	if (digits.n == 0 || digits.n > 8)
		return malformed(e, "a chunk without a size");
	for (size_t i = 0; i < digits.n; i++) {
		char c = digits.p[i];
		int v = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;

		if (v < 0)
			return malformed(e, "the size of a chunk is not hexadecimal");
		n = n << 4 | (uint64_t)v;
	}
	*size = n;
	return true;
}

static bool read_chunks(struct reader *rd, const struct client_request *q, struct client_reply *r,
			struct err *e)
{
	char line[LINE_MAX_BYTES];
	struct str text = { NULL, 0 };
	uint64_t size = 0;

	for (;;) {
		rd->header_bytes = 0; /* the bound is per chunk; the body has its own */
		if (!read_line(rd, line, &text, e) || !read_chunk_size(text, &size, e))
			return false;
		if (size == 0)
			break;
		if (!read_body(rd, q, r, size, false, e) || !read_line(rd, line, &text, e))
			return false;
		if (text.n)
			return malformed(e, "a chunk is longer than its size");
	}
	do /* trailers say nothing we need */
		if (!read_line(rd, line, &text, e))
			return false;
	while (text.n);
	return true;
}

static bool read_head(struct reader *rd, struct client_reply *r, struct framing *f, struct err *e)
{
	char line[LINE_MAX_BYTES];
	struct str text = { NULL, 0 };

	*f = (struct framing){ 0 };
	if (!read_line(rd, line, &text, e) || !read_status(text, &r->status, e))
		return false;
	for (;;) {
		if (!read_line(rd, line, &text, e))
			return false;
		if (text.n == 0)
			break;
		if (!read_header(text, f, e))
			return false;
	}
	if (f->chunked && f->has_length)
		return malformed(e, "both Content-Length and Transfer-Encoding");
	r->json = f->json;
	return true;
}

bool reply_read(const struct reply_source *source, const struct client_request *q,
		struct client_reply *r, struct err *e)
{
	struct reader rd = { .source = source, .from = 0, .to = 0, .header_bytes = 0 };
	struct framing f;

	for (int i = 0;; i++) {
		if (!read_head(&rd, r, &f, e))
			return false;
		if (r->status >= 200)
			break;
		if (i == INFORMATIONAL || r->status == 101)
			return malformed(e, "it has too many interim answers");
	}
	if (r->status == 204 || r->status == 304)
		return true;
	if (f.chunked)
		return read_chunks(&rd, q, r, e);
	if (f.has_length)
		return read_body(&rd, q, r, f.length, false, e);
	if (!f.close)
		return malformed(e, "it does not say how long it is");
	return read_body(&rd, q, r, BODY_UNBOUNDED, true, e);
}
