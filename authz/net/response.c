#include "authz/net/response.h"

#include <stdio.h>
#include <strings.h>

#include "authz/base/text.h"

#define INPUT (32 * 1024)
#define LINE_MAX_BYTES 8192
#define INFORMATIONAL 4 /* 1xx responses before the real one */
#define BODY_UNBOUNDED ((uint64_t)1 << 50)

struct reader {
	const struct response_source *source;
	const struct response_want *want;
	size_t from, to;     /* unread part of in */
	size_t header_bytes; /* read so far */
	char in[INPUT];
};

static bool malformed(const struct reader *r, struct err *e, const char *what)
{
	return err_code(e, ERR_INTERNAL, "bad_response", "the server's answer is malformed: %s%s",
			what, r->want->hint ? r->want->hint : "");
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
		if (++r->header_bytes > RESPONSE_HEADERS)
			return malformed(r, e, "its headers are longer than 16 KiB");
		if (c == '\n') {
			if (n == 0 || line[n - 1] != '\r')
				return malformed(r, e, "a line ends without CR LF");
			*out = (struct str){ line, n - 1 };
			return memchr(line, '\r', n - 1) ? malformed(r, e, "a stray CR") : true;
		}
		if (n == LINE_MAX_BYTES)
			return malformed(r, e, "a header line is longer than 8 KiB");
		if (c == '\0')
			return malformed(r, e, "a NUL in its headers");
		line[n++] = c;
	}
}

static bool read_status(const struct reader *r, struct str line, int *status, struct err *e)
{
	uint64_t code;

	if (line.n < 12 ||
	    !(str_starts(line, STR("HTTP/1.1 ")) || str_starts(line, STR("HTTP/1.0 "))) ||
	    !text_u64(str_first(str_from(line, 9), 3), 599, &code) || code < 100 ||
	    (line.n > 12 && line.p[12] != ' '))
		return malformed(r, e, "it does not begin with an HTTP/1.1 status");
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
	bool has_length, chunked, close;
	uint64_t length;
};

static bool is_json(const char *type)
{
	return strcmp(type, "application/json") == 0;
}

/* The media type without its parameters, in lower case. Too long: as if there were none. */
static void keep_type(struct str value, char out[static RESPONSE_TYPE_MAX + 1])
{
	struct str type = value, parameters;

	(void)str_cut(value, ';', &type, &parameters);
	type = trim(type);
	out[0] = '\0';
	if (type.n > RESPONSE_TYPE_MAX)
		return;
	for (size_t i = 0; i < type.n; i++)
		out[i] = (char)(type.p[i] >= 'A' && type.p[i] <= 'Z' ? type.p[i] + 32 : type.p[i]);
	out[type.n] = '\0';
}

static bool read_header(const struct reader *r, struct str line, struct framing *f,
			struct response *out, struct err *e)
{
	struct str name, value;

	if (!str_cut(line, ':', &name, &value) || name.n == 0 || memchr(name.p, ' ', name.n) ||
	    memchr(name.p, '\t', name.n))
		return malformed(r, e, "a header line has no name");
	value = trim(value);
	if (equal_fold(name, "content-length")) {
		uint64_t length;

		if (!text_u64(value, BODY_UNBOUNDED, &length) ||
		    (f->has_length && f->length != length))
			return malformed(r, e, "its Content-Length is no length");
		f->has_length = true;
		f->length = length;
	} else if (equal_fold(name, "transfer-encoding")) {
		if (!equal_fold(value, "chunked") || f->chunked)
			return malformed(r, e, "an unknown Transfer-Encoding");
		f->chunked = true;
	} else if (equal_fold(name, "connection")) {
		f->close |= equal_fold(value, "close");
	} else if (equal_fold(name, "content-encoding")) {
		out->encoded |= !equal_fold(value, "identity");
	} else if (equal_fold(name, "content-type")) {
		keep_type(value, out->type);
		out->json = is_json(out->type);
	} else if (r->want->keep && equal_fold(name, r->want->keep)) {
		/* Two of them, and nobody knows which one is meant. */
		if (out->kept[0] || value.n > RESPONSE_KEPT_MAX || !text_is_printable(value))
			return malformed(r, e, "a header that stands twice or cannot be kept");
		memcpy(out->kept, value.p, value.n);
		out->kept[value.n] = '\0';
	} else if (equal_fold(name, "location") && value.n <= RESPONSE_LOCATION_MAX) {
		memcpy(out->location, value.p, value.n);
		out->location[value.n] = '\0';
	}
	return true;
}

static bool take(const struct response_want *q, struct response *r, struct str bytes, struct err *e)
{
	if (q->sink && r->status == 200)
		return q->sink(q->ctx, bytes, e);
	buf_add(&r->body, bytes);
	if (!buf_ok(&r->body))
		return err_code(e, ERR_TOO_LARGE, "response_too_large",
				"the server's answer is longer than %zu KiB; ask for less at once",
				r->body.max >> 10);
	r->cut = q->enough && r->status == 200 && q->enough(q->ctx, buf_str(&r->body));
	return true;
}

/* Exactly @n bytes of body; with @until_end, all there are. */
static bool read_body(struct reader *rd, struct response *r, uint64_t n, bool until_end,
		      struct err *e)
{
	while (n && !r->cut) {
		size_t some;
		bool end;

		if (!fill(rd, &end, e))
			return false;
		if (end)
			return until_end ? true : ended_early(e, "in the middle of its answer");
		some = rd->to - rd->from;
		if (some > n)
			some = (size_t)n;
		if (!take(rd->want, r, (struct str){ rd->in + rd->from, some }, e))
			return false;
		rd->from += some;
		n -= some;
	}
	return true;
}

/* "1a2b" or "1a2b;extension": at most 8 digits. */
static bool read_chunk_size(const struct reader *r, struct str line, uint64_t *size, struct err *e)
{
	struct str digits = line, extension;
	uint64_t n = 0;

	(void)str_cut(line, ';', &digits, &extension);
	digits = trim(digits);
	if (digits.n == 0 || digits.n > 8)
		return malformed(r, e, "a chunk without a size");
	for (size_t i = 0; i < digits.n; i++) {
		char c = digits.p[i];
		int v = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;

		if (v < 0)
			return malformed(r, e, "the size of a chunk is not hexadecimal");
		n = n << 4 | (uint64_t)v;
	}
	*size = n;
	return true;
}

static bool read_chunks(struct reader *rd, struct response *r, struct err *e)
{
	char line[LINE_MAX_BYTES];
	struct str text = { NULL, 0 };
	uint64_t size = 0;

	for (;;) {
		rd->header_bytes = 0; /* the bound is per chunk; the body has its own */
		if (!read_line(rd, line, &text, e) || !read_chunk_size(rd, text, &size, e))
			return false;
		if (size == 0)
			break;
		if (!read_body(rd, r, size, false, e))
			return false;
		if (r->cut)
			return true;
		if (!read_line(rd, line, &text, e))
			return false;
		if (text.n)
			return malformed(rd, e, "a chunk is longer than its size");
	}
	do /* trailers say nothing we need */
		if (!read_line(rd, line, &text, e))
			return false;
	while (text.n);
	return true;
}

static bool read_head(struct reader *rd, struct response *r, struct framing *f, struct err *e)
{
	char line[LINE_MAX_BYTES];
	struct str text = { NULL, 0 };

	*f = (struct framing){ 0 };
	r->json = r->encoded = false; /* of an interim answer */
	r->type[0] = r->location[0] = r->kept[0] = '\0';
	if (!read_line(rd, line, &text, e) || !read_status(rd, text, &r->status, e))
		return false;
	for (;;) {
		if (!read_line(rd, line, &text, e))
			return false;
		if (text.n == 0)
			break;
		if (!read_header(rd, text, f, r, e))
			return false;
	}
	if (f->chunked && f->has_length)
		return malformed(rd, e, "both Content-Length and Transfer-Encoding");
	return true;
}

bool response_read(const struct response_source *source, const struct response_want *want,
		   struct response *r, struct err *e)
{
	struct reader rd = {
		.source = source, .want = want, .from = 0, .to = 0, .header_bytes = 0
	};
	struct framing f;

	for (int i = 0;; i++) {
		if (!read_head(&rd, r, &f, e))
			return false;
		if (r->status >= 200)
			break;
		if (i == INFORMATIONAL || r->status == 101)
			return malformed(&rd, e, "it has too many interim answers");
	}
	if (r->status == 204 || r->status == 304)
		return true;
	if (f.chunked)
		return read_chunks(&rd, r, e);
	if (f.has_length)
		return read_body(&rd, r, f.length, false, e);
	if (!f.close)
		return malformed(&rd, e, "it does not say how long it is");
	return read_body(&rd, r, BODY_UNBOUNDED, true, e);
}
