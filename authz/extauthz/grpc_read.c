/*
 * A message that stands twice is refused: decoders merge them, each in its way, and no proxy sends
 * such. Of a text that stands twice the last counts (proto3). A header that does is kept twice: who
 * needs it once says so further on.
 */
#include "authz/base/protobuf.h"
#include "authz/base/text.h"
#include "authz/extauthz/grpc_message.h"
#include "authz/net/chars.h"

#define MESSAGE "CheckRequest"
#define LIST_FIRST 16 /* headers, or settings, to make room for at first */

struct message {
	struct arena *a;
	struct grpc_described *out;
	struct err *e;
	struct http_header *headers;
	struct grpc_setting *settings;
	size_t nentries; /* of headers, also those that are not kept */
	size_t headers_room, settings_room;
	struct str text, raw; /* body, raw_body */
	bool has_raw;
	bool no_memory;
	const char *bad_header; /* why, static */
};

/* The first of its kind, and a reader over it. */
static bool only(struct pb_reader *in, const struct pb_field *f, bool *seen,
		 struct pb_reader *inside)
{
	*inside = pb_reader((struct str){ NULL, 0 });
	if (*seen) {
		pb_fail(in, "a message stands twice where one is expected");
		return false;
	}
	*seen = true;
	pb_message(in, f, inside);
	return !in->why;
}

/* An entry as all senders write it: key, then value, each with a byte of length. */
static inline __attribute__((always_inline)) bool plain_pair(struct str s, uint32_t value_field,
							     struct str *key, struct str *value)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t at;

	if (s.n < 4 || p[0] != (1 << 3 | PB_BYTES) || p[1] >= 0x80 || p[1] > s.n - 4)
		return false;
	at = 2 + (size_t)p[1];
	if (p[at] != (value_field << 3 | PB_BYTES) || p[at + 1] >= 0x80 ||
	    p[at + 1] != s.n - at - 2)
		return false;
	*key = (struct str){ s.p + 2, at - 2 };
	*value = (struct str){ s.p + at + 2, s.n - at - 2 };
	return true;
}

/* An entry of a map: key 1, value 2, both strings. The value may hold any byte. */
static void read_pair(struct pb_reader *in, const struct pb_field *f, struct str *key,
		      struct str *value, uint32_t value_field)
{
	struct pb_reader entry = pb_reader((struct str){ NULL, 0 });
	struct pb_field g;

	if (f->wire == PB_BYTES && plain_pair(f->bytes, value_field, key, value))
		return;
	*key = *value = (struct str){ "", 0 };
	pb_message(in, f, &entry);
	while (pb_next(&entry, &g)) {
		if (g.number == 1)
			pb_bytes(&entry, &g, key); /* what it may be is the caller's to say */
		else if (g.number == value_field || g.number == 2)
			pb_bytes(&entry, &g, value);
	}
	pb_fail_with(in, &entry);
}

/* ---- headers ---- */

/* RFC 9110 5.6.2, in lower case. */
static bool name_fits(struct str s)
{
	static const bool token[256] = {
		['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1,	    ['&'] = 1,	       ['\''] = 1,
		['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,	    ['^'] = 1,	       ['_'] = 1,
		['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['a' ... 'z'] = 1,
	};

	if (s.n && text_is_dashed(s))
		return true;
	for (size_t i = 0; i < s.n; i++)
		if (!token[(unsigned char)s.p[i]])
			return false;
	return s.n > 0;
}

/* @list of @n entries, all that it has room for, in twice the room. NULL: no memory, now or before.
 */
static void *enlarged(struct message *m, void *list, size_t n, size_t *room, size_t size)
{
	void *more;

	*room = *room ? 2 * *room : LIST_FIRST;
	more = arena_alloc(m->a, *room * size);
	if (!more)
		m->no_memory = true;
	else if (list)
		memcpy(more, list, n * size);
	return more;
}

static void add_header(struct message *m, struct pb_reader *in, struct str name, struct str value)
{
	struct grpc_described *d = m->out;

	if (in->why)
		return;
	if (m->nentries++ == GRPC_HEADERS_MAX) {
		pb_fail(in, "there are more than 1000 headers");
		return;
	}
	if (name.n && name.p[0] == ':')
		return; /* what pseudo-headers say stands in fields of its own */
	if (!name_fits(name)) {
		m->bad_header = "a header's name is no token in lower case";
		return;
	}
	if (!http_value_ok(value)) {
		m->bad_header = "a header's value holds a control character";
		return;
	}
	if (d->nheaders == m->headers_room)
		m->headers = enlarged(m, m->headers, d->nheaders, &m->headers_room,
				      sizeof(*m->headers));
	if (m->headers)
		m->headers[d->nheaders++] = (struct http_header){ name, value };
}

/* HeaderMap: 1 headers, of HeaderValue: 1 key, 2 value, 3 raw_value. */
static void read_header_map(struct message *m, struct pb_reader *in, const struct pb_field *f)
{
	struct pb_reader map = pb_reader((struct str){ NULL, 0 });
	struct pb_field g;
	struct str name, value;

	pb_message(in, f, &map);
	while (pb_next(&map, &g))
		if (g.number == 1) {
			read_pair(&map, &g, &name, &value, 3);
			add_header(m, &map, name, value);
		}
	pb_fail_with(in, &map);
}

/* ---- HttpRequest ---- */

static void read_http_field(struct message *m, struct pb_reader *in, const struct pb_field *f,
			    bool *map_seen)
{
	struct grpc_described *d = m->out;
	struct str name, value;

	switch (f->number) {
	case 1:
		pb_bytes(in, f, &d->id);
		break;
	case 2:
		pb_string(in, f, &d->method);
		break;
	case 3:
		read_pair(in, f, &name, &value, 2);
		add_header(m, in, name, value);
		break;
	case 4:
		pb_bytes(in, f, &d->target);
		break;
	case 5:
		pb_string(in, f, &d->host);
		break;
	case 6:
		pb_string(in, f, &d->scheme);
		break;
	case 9:
		pb_i64(in, f, &d->size);
		break;
	case 11:
		pb_bytes(in, f, &m->text);
		break;
	case 12:
		pb_bytes(in, f, &m->raw);
		m->has_raw = true;
		break;
	case 13:
		if (*map_seen)
			pb_fail(in, "header_map stands twice");
		*map_seen = true;
		read_header_map(m, in, f);
		break;
	default:
		break;
	}
}

/* Headers stand one after the other, and nearly all in the same form: read up to the first that has
 * another, as read_http_field would. */
static void read_plain_headers(struct message *m, struct pb_reader *in)
{
	const unsigned char *p = (const unsigned char *)in->text.p;
	struct str name, value;

	for (;;) {
		size_t left = in->text.n - in->at;
		struct str entry;

		if (in->why || left < 2 || p[in->at] != (3 << 3 | PB_BYTES) ||
		    p[in->at + 1] >= 0x80 || p[in->at + 1] > left - 2)
			return;
		entry = (struct str){ in->text.p + in->at + 2, p[in->at + 1] };
		if (!plain_pair(entry, 2, &name, &value))
			return;
		in->field = 3;
		in->at += 2 + entry.n;
		add_header(m, in, name, value);
	}
}

static void read_http(struct message *m, struct pb_reader *in)
{
	struct pb_field f;
	bool map_seen = false;

	for (;;) {
		read_plain_headers(m, in);
		if (!pb_next(in, &f))
			break;
		read_http_field(m, in, &f, &map_seen);
	}
	m->out->headers = m->headers;
	if (m->text.n && m->raw.n && !str_eq(m->text, m->raw))
		pb_fail(in, "body and raw_body are two bodies");
	m->out->body = m->has_raw && (m->raw.n || !m->text.n) ? m->raw : m->text;
	m->out->body_as_text = m->text.n && !m->raw.n;
}

/* ---- AttributeContext ---- */

/* Peer: 4 principal, 5 certificate. Not 2: a header of the client's. */
static void read_source(struct message *m, struct pb_reader *in)
{
	struct pb_field f;

	while (pb_next(in, &f)) {
		if (f.number == 4)
			pb_string(in, &f, &m->out->principal);
		else if (f.number == 5)
			pb_string(in, &f, &m->out->certificate);
	}
}

/* Request: 2 http. */
static void read_request(struct message *m, struct pb_reader *in)
{
	struct pb_reader http;
	struct pb_field f;

	while (pb_next(in, &f))
		if (f.number == 2 && only(in, &f, &m->out->http, &http)) {
			read_http(m, &http);
			pb_fail_with(in, &http);
		}
}

static void read_setting(struct message *m, struct pb_reader *in, const struct pb_field *f)
{
	struct grpc_described *d = m->out;
	struct grpc_setting s;

	read_pair(in, f, &s.name, &s.value, 2);
	if (d->nsettings == GRPC_SETTINGS_MAX) {
		pb_fail(in, "there are more than 64 context_extensions");
		return;
	}
	if (d->nsettings == m->settings_room)
		m->settings = enlarged(m, m->settings, d->nsettings, &m->settings_room, sizeof(s));
	if (!m->settings)
		return;
	for (size_t i = 0; i < d->nsettings; i++)
		if (str_eq(m->settings[i].name, s.name)) {
			pb_fail(in, "a name stands twice in context_extensions");
			return;
		}
	m->settings[d->nsettings++] = s;
}

/* AttributeContext: 1 source, 4 request, 10 context_extensions. */
static void read_attributes(struct message *m, struct pb_reader *in)
{
	bool source_seen = false, request_seen = false;
	struct pb_reader inside;
	struct pb_field f;

	while (pb_next(in, &f)) {
		if (f.number == 1 && only(in, &f, &source_seen, &inside)) {
			read_source(m, &inside);
			pb_fail_with(in, &inside);
		} else if (f.number == 4 && only(in, &f, &request_seen, &inside)) {
			read_request(m, &inside);
			pb_fail_with(in, &inside);
		} else if (f.number == 10) {
			read_setting(m, in, &f);
		}
	}
	m->out->settings = m->settings;
}

bool grpc_message_read(struct str message, struct arena *a, struct grpc_described *out,
		       struct err *e)
{
	struct message m = { .a = a, .out = out, .e = e };
	struct pb_reader in = pb_reader(message), inside;
	struct pb_field f;
	bool seen = false;

	*out = (struct grpc_described){ .http = false };
	while (pb_next(&in, &f))
		if (f.number == 1 && only(&in, &f, &seen, &inside)) {
			read_attributes(&m, &inside);
			pb_fail_with(&in, &inside);
		}
	if (!in.why && !seen)
		pb_fail(&in, "it has no attributes, so it describes nothing");
	if (m.no_memory)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (!pb_ok(&in, MESSAGE, e))
		return false;
	if (m.bad_header)
		return err_code(e, ERR_INVALID, "invalid_header", "%s", m.bad_header);
	return true;
}
