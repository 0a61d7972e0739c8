#include "authz/extauthz/access_log_message.h"

#include "authz/extauthz/metadata.h"

#define MESSAGE "StreamAccessLogsMessage"
#define EXACT 9007199254740991.0 /* 2^53-1: whole numbers of a double */

/* AccessLogType: what an entry without one has, and the last entry of a request. */
enum { NOT_SET = 0, DOWNSTREAM_END = 6 };

static const char *const flags[ACCESS_LOG_FLAGS + 1] = {
	NULL,
	"failed_local_healthcheck",
	"no_healthy_upstream",
	"upstream_request_timeout",
	"local_reset",
	"upstream_remote_reset",
	"upstream_connection_failure",
	"upstream_connection_termination",
	"upstream_overflow",
	"no_route_found",
	"delay_injected",
	"fault_injected",
	"rate_limited",
	"unauthorized_details",
	"rate_limit_service_error",
	"downstream_connection_termination",
	"upstream_retry_limit_exceeded",
	"stream_idle_timeout",
	"invalid_envoy_request_headers",
	"downstream_protocol_error",
	"upstream_max_stream_duration_reached",
	"response_from_cache_filter",
	"no_filter_config_found",
	"duration_timeout",
	"upstream_protocol_error",
	"no_cluster_found",
	"overload_manager",
	"dns_resolution_failure",
	"downstream_remote_reset",
};

/* What each says of the call, by field number. */
#define FLAG(n) (1u << (n))
#define HARMLESS (FLAG(10) | FLAG(21))
#define NEVER_SENT                                                                           \
	(FLAG(2) | FLAG(6) | FLAG(8) | FLAG(9) | FLAG(11) | FLAG(12) | FLAG(13) | FLAG(14) | \
	 FLAG(18) | FLAG(22) | FLAG(25) | FLAG(26) | FLAG(27))
#define TIMEOUTS (FLAG(3) | FLAG(17) | FLAG(20) | FLAG(23))
#define CANCELLED (FLAG(15) | FLAG(28))

const char *access_log_flag(unsigned number)
{
	return number <= ACCESS_LOG_FLAGS ? flags[number] : NULL;
}

/* A connection that fails says so after its host was chosen; nothing was sent to it then. Without
 * such a flag, a request for which no host was chosen was answered by the proxy itself. */
const char *access_log_outcome(const struct access_log_entry *entry)
{
	uint32_t wrong = entry->flags & ~HARMLESS;
	bool good = entry->status > 0 && entry->status < 400;
	bool unsent = entry->upstream_sent == 0 && entry->attempts <= 1;

	if (unsent && ((wrong & NEVER_SENT) || (!good && !entry->upstream && entry->attempts == 0)))
		return "not_executed";
	if (wrong & TIMEOUTS)
		return "timeout";
	if (wrong & CANCELLED)
		return "cancelled";
	return wrong || !good ? "failure" : "success";
}

/* StreamAccessLogsMessage.Identifier: 1 node, 2 log_name. */
static void read_identifier(struct access_log_message *m, struct pb_reader *in)
{
	struct pb_field f;

	m->identified = true;
	while (pb_next(in, &f))
		if (f.number == 2)
			pb_string(in, &f, &m->log_name);
}

/* StreamAccessLogsMessage: 1 identifier, and of a oneof 2 http_logs, 3 tcp_logs. */
bool access_log_read(struct str message, struct access_log_message *out, struct err *e)
{
	struct pb_reader in = pb_reader(message), inside;
	struct pb_field f;
	bool entries = false;

	*out = (struct access_log_message){ .entries = pb_reader((struct str){ "", 0 }) };
	while (pb_next(&in, &f)) {
		inside = pb_reader((struct str){ "", 0 });
		if (f.number == 1) {
			pb_message(&in, &f, &inside);
			read_identifier(out, &inside);
			pb_fail_with(&in, &inside);
		} else if (f.number == 2) {
			if (entries)
				pb_fail(&in, "there are two lists of entries");
			entries = true;
			pb_message(&in, &f, &out->entries);
		} else if (f.number == 3) {
			out->tcp = true;
		}
	}
	return pb_ok(&in, MESSAGE, e);
}

/* google.protobuf.Duration: 1 seconds, 2 nanos. */
static void read_duration(struct pb_reader *in, const struct pb_field *f, int64_t *ms)
{
	struct pb_reader d = pb_reader((struct str){ "", 0 });
	int64_t seconds = 0;
	int32_t nanos = 0;
	struct pb_field g;

	pb_message(in, f, &d);
	while (pb_next(&d, &g)) {
		if (g.number == 1)
			pb_i64(&d, &g, &seconds);
		else if (g.number == 2)
			pb_i32(&d, &g, &nanos);
	}
	pb_fail_with(in, &d);
	if (seconds >= 0 && seconds <= 315576000000 && nanos >= 0 && nanos < 1000000000)
		*ms = seconds * 1000 + nanos / 1000000;
}

/* ResponseFlags: bools, but 13 unauthorized_details { 1 reason }, which is there or not. */
static void read_flags(struct access_log_entry *entry, struct pb_reader *in,
		       const struct pb_field *f)
{
	struct pb_reader all = pb_reader((struct str){ "", 0 });
	struct pb_field g;
	bool set;

	pb_message(in, f, &all);
	while (pb_next(&all, &g)) {
		if (g.number > ACCESS_LOG_FLAGS)
			continue;
		set = g.number == 13;
		if (!set)
			pb_bool(&all, &g, &set);
		entry->flags &= ~FLAG(g.number);
		entry->flags |= set ? FLAG(g.number) : 0;
	}
	pb_fail_with(in, &all);
}

static void read_usage(const struct usage_keys *keys, struct access_log_entry *entry,
		       const struct metadata_member *m)
{
	const struct {
		struct str name;
		int64_t *to;
	} known[] = { { keys->input, &entry->input_tokens },
		      { keys->output, &entry->output_tokens },
		      { keys->cost, &entry->cost_micros } };

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!known[i].name.n || !str_eq(m->name, known[i].name))
			continue;
		if (m->is_number && m->number >= 0 && m->number <= EXACT &&
		    (double)(int64_t)m->number == m->number)
			*known[i].to = (int64_t)m->number;
		else
			entry->bad_usage = true;
	}
}

/* As grpc_write.c puts it, and as Envoy keeps the header of writ's answer over HTTP
 * (dynamic_metadata_from_headers). */
static bool is_decision(struct str name)
{
	return str_eq(name, STR("decision_id")) || str_eq(name, STR("x-writ-decision-id"));
}

static void read_metadata(const struct usage_keys *keys, struct access_log_entry *entry,
			  struct pb_reader *in, const struct pb_field *f)
{
	struct pb_reader all = pb_reader((struct str){ "", 0 }), members;
	struct metadata_member m;
	struct str name;
	bool ours, usage;

	pb_message(in, f, &all);
	while (metadata_next(&all, &name, &members)) {
		ours = str_eq(name, STR(METADATA_EXT_AUTHZ));
		usage = keys->space.n && str_eq(name, keys->space);
		while ((ours || usage) && metadata_member(&members, &m)) {
			if (ours && m.text.p && is_decision(m.name))
				entry->decisions = m.text;
			if (usage)
				read_usage(keys, entry, &m);
		}
		pb_fail_with(&all, &members);
	}
	pb_fail_with(in, &all);
}

/* AccessLogCommon: 12 time_to_last_downstream_tx_byte, 13 upstream_remote_address, 15
 * upstream_cluster, 16 response_flags, 17 metadata, 23 duration, 24 upstream_request_attempt_count,
 * 27 intermediate_log_entry, 31 upstream_wire_bytes_sent, 33 access_log_type. */
static void read_common(const struct usage_keys *keys, struct access_log_entry *entry,
			struct pb_reader *in)
{
	int64_t last_byte_ms = -1;
	uint64_t type = NOT_SET;
	bool intermediate = false;
	struct pb_field f;

	while (pb_next(in, &f)) {
		if (f.number == 12)
			read_duration(in, &f, &last_byte_ms);
		else if (f.number == 13)
			entry->upstream = true;
		else if (f.number == 15)
			pb_string(in, &f, &entry->cluster);
		else if (f.number == 16)
			read_flags(entry, in, &f);
		else if (f.number == 17)
			read_metadata(keys, entry, in, &f);
		else if (f.number == 23)
			read_duration(in, &f, &entry->duration_ms);
		else if (f.number == 24)
			pb_u32(in, &f, &entry->attempts);
		else if (f.number == 27)
			pb_bool(in, &f, &intermediate);
		else if (f.number == 31)
			pb_u64(in, &f, &entry->upstream_sent);
		else if (f.number == 33)
			pb_u64(in, &f, &type);
	}
	if (entry->duration_ms < 0)
		entry->duration_ms = last_byte_ms;
	entry->intermediate = intermediate || (type != NOT_SET && type != DOWNSTREAM_END);
}

/* google.protobuf.UInt32Value: 1 value. */
static void read_status(struct access_log_entry *entry, struct pb_reader *in,
			const struct pb_field *f)
{
	struct pb_reader value = pb_reader((struct str){ "", 0 });
	struct pb_field g;

	pb_message(in, f, &value);
	while (pb_next(&value, &g))
		if (g.number == 1)
			pb_u32(&value, &g, &entry->status);
	pb_fail_with(in, &value);
}

/* HTTPRequestProperties: 12 request_body_bytes. */
static void read_request(struct access_log_entry *entry, struct pb_reader *in)
{
	struct pb_field f;

	while (pb_next(in, &f))
		if (f.number == 12)
			pb_u64(in, &f, &entry->request_bytes);
}

/* HTTPResponseProperties: 1 response_code, 3 response_body_bytes, 6 response_code_details. */
static void read_response(struct access_log_entry *entry, struct pb_reader *in)
{
	struct pb_field f;

	while (pb_next(in, &f)) {
		if (f.number == 1)
			read_status(entry, in, &f);
		else if (f.number == 3)
			pb_u64(in, &f, &entry->response_bytes);
		else if (f.number == 6)
			pb_string(in, &f, &entry->details);
	}
}

/* HTTPAccessLogEntry: 1 common_properties, 3 request, 4 response. */
static void read_entry(const struct usage_keys *keys, struct access_log_entry *entry,
		       struct pb_reader *in)
{
	struct pb_reader inside;
	struct pb_field f;

	while (pb_next(in, &f)) {
		if (f.number != 1 && f.number != 3 && f.number != 4)
			continue;
		inside = pb_reader((struct str){ "", 0 });
		pb_message(in, &f, &inside);
		if (f.number == 1)
			read_common(keys, entry, &inside);
		else if (f.number == 3)
			read_request(entry, &inside);
		else
			read_response(entry, &inside);
		pb_fail_with(in, &inside);
	}
}

/* HTTPAccessLogEntries: 1 log_entry. */
bool access_log_next(struct access_log_message *m, const struct usage_keys *keys,
		     struct access_log_entry *out, struct err *e)
{
	struct pb_reader *in = &m->entries, inside;
	struct pb_field f;

	err_none(e);
	while (pb_next(in, &f)) {
		if (f.number != 1)
			continue;
		*out = (struct access_log_entry){ .duration_ms = -1,
						  .input_tokens = -1,
						  .output_tokens = -1,
						  .cost_micros = -1 };
		inside = pb_reader((struct str){ "", 0 });
		pb_message(in, &f, &inside);
		read_entry(keys, out, &inside);
		pb_fail_with(in, &inside);
		if (!in->why)
			return true;
	}
	(void)!pb_ok(in, MESSAGE, e);
	return false;
}
