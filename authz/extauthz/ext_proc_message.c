#include "authz/extauthz/ext_proc_message.h"

#include "authz/extauthz/metadata.h"

#define MESSAGE "ProcessingRequest"
#define OVERWRITE_IF_EXISTS_OR_ADD 2

/* ---- reading ---- */

/* config.core.v3.HeaderValue: 1 key, 2 value, 3 raw_value. */
static void read_header(struct proc_request *out, struct pb_reader *in)
{
	struct str key = { "", 0 }, value = { "", 0 };
	struct pb_field f;
	const struct {
		struct str name;
		struct str *to;
	} known[] = { { STR_INIT(":status"), &out->status },
		      { STR_INIT("content-type"), &out->content_type },
		      { STR_INIT("content-encoding"), &out->content_encoding } };

	while (pb_next(in, &f)) {
		if (f.number == 1)
			pb_string(in, &f, &key);
		else if ((f.number == 2 && !value.n) || f.number == 3)
			pb_bytes(in, &f, &value);
	}
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!str_eq(key, known[i].name))
			continue;
		out->twice |= known[i].to->p != NULL;
		*known[i].to = value;
	}
}

/* config.core.v3.HeaderMap: 1 headers. */
static void read_header_map(struct proc_request *out, struct pb_reader *in)
{
	struct pb_reader header;
	struct pb_field f;

	while (pb_next(in, &f)) {
		if (f.number != 1)
			continue;
		header = pb_reader((struct str){ "", 0 });
		pb_message(in, &f, &header);
		read_header(out, &header);
		pb_fail_with(in, &header);
	}
}

/* HttpHeaders: 1 headers, 3 end_of_stream. */
static void read_headers(struct proc_request *out, struct pb_reader *in)
{
	struct pb_reader map;
	struct pb_field f;

	while (pb_next(in, &f)) {
		if (f.number == 3)
			pb_bool(in, &f, &out->end_of_stream);
		if (f.number != 1)
			continue;
		map = pb_reader((struct str){ "", 0 });
		pb_message(in, &f, &map);
		read_header_map(out, &map);
		pb_fail_with(in, &map);
	}
}

/* HttpBody: 1 body, 2 end_of_stream. */
static void read_body(struct proc_request *out, struct pb_reader *in)
{
	struct pb_field f;

	while (pb_next(in, &f)) {
		if (f.number == 1)
			pb_bytes(in, &f, &out->body);
		else if (f.number == 2)
			pb_bool(in, &f, &out->end_of_stream);
	}
}

static void read_checked(struct proc_checked *out, struct pb_reader *in)
{
	const struct {
		struct str name;
		struct str *to;
	} known[] = { { STR_INIT("decision_id"), &out->decisions },
		      { STR_INIT("agent"), &out->agent },
		      { STR_INIT("list"), &out->list },
		      { STR_INIT("server"), &out->server },
		      { STR_INIT("rpc_id"), &out->rpc_id },
		      { STR_INIT("style"), &out->style } };
	struct metadata_member m;

	while (metadata_member(in, &m))
		for (size_t i = 0; i < ARRAY_LEN(known); i++)
			if (m.text.p && str_eq(m.name, known[i].name))
				*known[i].to = m.text;
	out->known = out->decisions.n != 0;
}

static void read_metadata(struct proc_request *out, struct pb_reader *in)
{
	struct pb_reader members;
	struct str name;

	while (metadata_next(in, &name, &members)) {
		if (str_eq(name, STR(METADATA_EXT_AUTHZ)))
			read_checked(&out->checked, &members);
		pb_fail_with(in, &members);
	}
}

/* ProtocolConfiguration: 2 response_body_mode, which is left out if it is NONE. */
static void read_config(struct proc_request *out, struct pb_reader *in)
{
	struct pb_field f;

	out->has_mode = true;
	while (pb_next(in, &f))
		if (f.number == 2)
			pb_i32(in, &f, &out->response_body_mode);
}

/* ProcessingRequest: a oneof of 2 to 7, 8 metadata_context, 10 observability_mode (1 async_mode in
 * older proxies), 11 protocol_config. */
bool proc_read(struct str message, struct proc_request *out, struct err *e)
{
	struct pb_reader in = pb_reader(message), inside;
	struct pb_field f;

	*out = (struct proc_request){ .part = PROC_NONE };
	while (pb_next(&in, &f)) {
		if (f.number == 10 || f.number == 1) {
			pb_bool(&in, &f, &out->observed);
			continue;
		}
		if (!(f.number >= 2 && f.number <= 8) && f.number != 11)
			continue;
		inside = pb_reader((struct str){ "", 0 });
		pb_message(&in, &f, &inside);
		if (f.number == 8) {
			read_metadata(out, &inside);
		} else if (f.number == 11) {
			read_config(out, &inside);
		} else {
			if (out->part != PROC_NONE)
				pb_fail(&in, "there are two parts in one message");
			out->part = (enum proc_part)f.number;
			if (f.number <= PROC_RESPONSE_HEADERS)
				read_headers(out, &inside);
			else if (f.number <= PROC_RESPONSE_BODY)
				read_body(out, &inside);
		}
		pb_fail_with(&in, &inside);
	}
	if (!in.why && out->part == PROC_NONE)
		pb_fail(&in, "there is no part of a request or response in it");
	return pb_ok(&in, MESSAGE, e);
}

/* ---- writing ---- */

/* HeadersResponse and BodyResponse: 1 response, a CommonResponse. */
static void begin(struct buf *b, enum proc_part part, size_t at[static 2])
{
	at[0] = pb_begin(b, (uint32_t)part - 1);
	at[1] = pb_begin(b, 1);
}

static void end(struct buf *b, const size_t at[static 2])
{
	pb_end(b, at[1]);
	pb_end(b, at[0]);
}

/* HeaderValueOption: 1 header, 2 append, 3 append_action; HeaderValue: 1 key, 3 raw_value. */
static void put_header(struct buf *b, struct str name, struct str value)
{
	size_t option = pb_begin(b, 1), at = pb_begin(b, 1);

	pb_put_text(b, 1, name);
	pb_put_bytes(b, 3, value);
	pb_end(b, at);
	pb_put_bytes(b, 2, (struct str){ "", 0 });
	pb_put_number(b, 3, OVERWRITE_IF_EXISTS_OR_ADD);
	pb_end(b, option);
}

void proc_put_continue(struct buf *b, enum proc_part part)
{
	size_t at[2];

	if (part >= PROC_REQUEST_TRAILERS) { /* a TrailersResponse has no CommonResponse */
		pb_put_bytes(b, (uint32_t)part - 1, (struct str){ "", 0 });
		return;
	}
	begin(b, part, at);
	end(b, at);
}

/* CommonResponse: 2 header_mutation { 1 set_headers, 2 remove_headers }, 3 body_mutation { 1 body
 * }. */
void proc_put_plain(struct buf *b)
{
	size_t at[2], mutation;

	begin(b, PROC_REQUEST_HEADERS, at);
	mutation = pb_begin(b, 2);
	pb_put_text(b, 2, STR("accept-encoding"));
	pb_end(b, mutation);
	end(b, at);
}

void proc_put_body(struct buf *b, struct str body)
{
	static const struct str described[] = {
		STR_INIT("etag"),	 STR_INIT("digest"),	  STR_INIT("content-digest"),
		STR_INIT("repr-digest"), STR_INIT("content-md5"), STR_INIT("accept-ranges"),
	};
	char digits[24];
	struct buf length = { .p = digits, .cap = sizeof(digits), .max = sizeof(digits) };
	size_t at[2], mutation;

	buf_i64(&length, (int64_t)body.n);
	begin(b, PROC_RESPONSE_BODY, at);
	mutation = pb_begin(b, 2);
	put_header(b, STR("content-length"), buf_str(&length));
	for (size_t i = 0; i < ARRAY_LEN(described); i++)
		pb_put_text(b, 2, described[i]);
	pb_end(b, mutation);
	mutation = pb_begin(b, 3);
	pb_put_bytes(b, 1, body);
	pb_end(b, mutation);
	end(b, at);
}

/* ImmediateResponse: 1 status { 1 code }, 2 headers, 3 body, 5 details. */
void proc_put_immediate(struct buf *b, int status, struct str reason, struct str body)
{
	size_t at = pb_begin(b, 7), inside = pb_begin(b, 1);

	pb_put_number(b, 1, (uint64_t)status);
	pb_end(b, inside);
	inside = pb_begin(b, 2);
	put_header(b, STR("content-type"), STR("application/json"));
	put_header(b, STR("x-writ-reason"), reason);
	if (status == 405)
		put_header(b, STR("allow"), STR("POST, DELETE"));
	pb_end(b, inside);
	pb_put_bytes(b, 3, body);
	pb_put_text(b, 5, reason);
	pb_end(b, at);
}
