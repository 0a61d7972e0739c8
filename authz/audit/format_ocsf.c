/*
 * OCSF 1.8.0 (audit-log sheet 18.2). There is no class for a decision: a call that was judged is
 * API Activity. Whatever has no place in the schema stands under "unmapped", the record's number
 * too: metadata.sequence may hold only 32 bits. Required members are written for every record:
 * where the record does not say, the node and the service themselves stand in, and type "Other".
 */
#include "authz/audit/format.h"
#include "include/writ/words.h"

enum class_uid { ENTITY = 3004, AUTHENTICATION = 3002, EVENT_LOG = 1008, API = 6003 };

struct activity {
	const char *kind, *act; /* act: "*": any; a prefix of the kind if it ends with '.' */
	enum class_uid class;
	int id;
	const char *name;
};

/* The first row that fits. */
static const struct activity activities[] = {
	{ "authz.search", "*", API, 2, "Read" },
	{ "authz.", "*", API, 99, NULL }, /* what the tool does is not in the record */
	{ "request.", "*", API, 99, NULL },
	{ "identity.issue", "*", AUTHENTICATION, 3, "Authentication Ticket" },
	{ "identity.refuse", "*", AUTHENTICATION, 3, "Authentication Ticket" },
	{ "identity.", "*", AUTHENTICATION, 99, NULL },
	{ "token.issue", "*", AUTHENTICATION, 4, "Service Ticket Request" },
	{ "token.refuse", "*", AUTHENTICATION, 4, "Service Ticket Request" },
	{ "token.", "*", AUTHENTICATION, 99, NULL },
	{ "log.export", "*", EVENT_LOG, 3, "Export" },
	{ "log.prune", "*", EVENT_LOG, 2, "Delete" },
	{ "log.open", "*", EVENT_LOG, 6, "Start" },
	{ "log.close", "*", EVENT_LOG, 7, "Stop" },
	{ "key.rotate", "*", EVENT_LOG, 5, "Rotate" },
	{ "log.", "*", EVENT_LOG, 99, NULL },
	{ "admin.action", "agent.register", ENTITY, 1, "Create" },
	{ "admin.action", "agent.import", ENTITY, 1, "Create" },
	{ "admin.action", "agent.token", ENTITY, 6, "Enroll" },
	{ "admin.action", "agent.suspend", ENTITY, 12, "Suspend" },
	{ "admin.action", "agent.resume", ENTITY, 8, "Enable" },
	{ "admin.action", "agent.retire", ENTITY, 4, "Delete" },
	{ "admin.action", "agent.update", ENTITY, 3, "Update" },
	{ "admin.action", "federation.add", ENTITY, 1, "Create" },
	{ "admin.action", "federation.remove", ENTITY, 4, "Delete" },
	{ "admin.action", "federation.refresh", ENTITY, 3, "Update" },
	{ "policy.", "*", ENTITY, 3, "Update" },
	{ "key.federated", "*", ENTITY, 3, "Update" },
	{ "key.issuer", "*", ENTITY, 3, "Update" },
	{ "tool.", "*", ENTITY, 3, "Update" },
	{ "", "*", ENTITY, 99, NULL },
};

static const struct {
	enum class_uid uid;
	const char *name, *category;
} classes[] = {
	{ API, "API Activity", "Application Activity" },
	{ AUTHENTICATION, "Authentication", "Identity & Access Management" },
	{ ENTITY, "Entity Management", "Identity & Access Management" },
	{ EVENT_LOG, "Event Log Activity", "System Activity" },
};

static const struct activity *activity_of(const struct format_record *r)
{
	struct str kind = format_text(r, "kind"), act = format_text(r, "act");
	const struct activity *a = activities;

	for (;; a++) {
		struct str k = str_c(a->kind);
		bool family = !k.n || str_ends(k, STR("."));

		if ((family ? str_starts(kind, k) : str_eq(kind, k)) &&
		    (strcmp(a->act, "*") == 0 || str_eq(act, str_c(a->act))))
			return a;
	}
}

static struct str or_else(struct str text, struct str other)
{
	return text.n ? text : other;
}

static void member_int(struct buf *out, const char *name, int64_t v)
{
	buf_printf(out, ",\"%s\":%lld", name, (long long)v);
}

/* ---- what every event has ---- */

static void classification(const struct format_record *r, const struct activity *a, struct buf *out)
{
	struct str name = a->name ? str_c(a->name)
				  : or_else(format_text(r, "action"),
					    or_else(format_text(r, "act"), format_text(r, "kind")));
	size_t c = 0;
	struct buf type;

	while (classes[c].uid != a->class)
		c++;
	buf_printf(out, "{\"activity_id\":%d", a->id);
	format_json_str(out, "activity_name", name);
	member_int(out, "category_uid", a->class / 1000);
	format_json_str(out, "category_name", str_c(classes[c].category));
	member_int(out, "class_uid", a->class);
	format_json_str(out, "class_name", str_c(classes[c].name));
	member_int(out, "type_uid", (int)a->class * 100 + a->id);
	buf_init(&type, out->alloc, FORMAT_ROW_MAX);
	buf_printf(&type, "%s: ", classes[c].name);
	buf_add(&type, a->id == 99 ? STR("Other") : name);
	format_json_str(out, "type_name", buf_str(&type));
	if (!buf_ok(&type))
		out->failed = true;
	buf_clear(&type);
}

static void occurrence(const struct format_record *r, struct buf *out)
{
	static const struct {
		int id;
		const char *name;
	} severities[] = {
		[GRAVITY_INFO] = { 1, "Informational" },
		[GRAVITY_LOW] = { 2, "Low" },
		[GRAVITY_MEDIUM] = { 3, "Medium" },
		[GRAVITY_HIGH] = { 4, "High" },
	};
	enum format_gravity g = format_gravity(r);
	bool ok = format_succeeded(r);
	struct buf message;

	member_int(out, "severity_id", severities[g].id);
	format_json_str(out, "severity", str_c(severities[g].name));
	member_int(out, "time", r->time_ms);
	member_int(out, "status_id", ok ? 1 : 2);
	format_json_str(out, "status", ok ? STR("Success") : STR("Failure"));
	format_json_str(out, "status_code", format_text(r, "reason"));
	buf_init(&message, out->alloc, FORMAT_ROW_MAX);
	format_message(r, &message);
	format_json_str(out, "message", buf_str(&message));
	if (!buf_ok(&message))
		out->failed = true;
	buf_clear(&message);
}

static void metadata(const struct format_record *r, const struct activity *a, struct buf *out)
{
	struct buf uid;

	buf_lit(out, ",\"metadata\":{\"version\":\"" FORMAT_OCSF_VERSION "\"");
	if (a->class == API)
		buf_lit(out, ",\"profiles\":[\"security_control\"]");
	buf_lit(out,
		",\"product\":{\"name\":\"writ\",\"vendor_name\":\"writ\",\"version\":\"" WRIT_VERSION
		"\"}");
	format_json_str(out, "log_name", r->origin);
	format_json_str(out, "log_provider", STR("writ"));
	buf_init(&uid, out->alloc, FORMAT_ROW_MAX);
	buf_add(&uid, r->origin);
	buf_printf(&uid, "/%llu", (unsigned long long)r->seq);
	format_json_str(out, "uid", buf_str(&uid));
	format_json_str(out, "correlation_uid", format_text(r, "trace_id"));
	buf_char(out, '}');
	if (!buf_ok(&uid))
		out->failed = true;
	buf_clear(&uid);
}

/* ---- what a class has ---- */

/* An agent is an application; who acts without one is a user; else it was writ itself. */
static void actor(const struct format_record *r, bool with_authorization, struct buf *out)
{
	struct str agent = format_text(r, "agent"), pep = format_text(r, "pep");

	buf_lit(out, ",\"actor\":{");
	if (agent.n && with_authorization)
		format_json_str(out, "app_uid", agent);
	else if (!pep.n)
		format_json_str(out, "app_name", STR("writ"));
	if (pep.n) {
		if (out->p && out->p[out->n - 1] != '{')
			buf_char(out, ',');
		buf_lit(out, "\"user\":{");
		format_json_str(out, "uid", pep);
		buf_char(out, '}');
	}
	if (with_authorization) {
		buf_lit(out, ",\"authorizations\":[{");
		format_json_str(out, "decision", format_text(r, "decision"));
		buf_char(out, '}');
		buf_char(out, ']');
	}
	buf_char(out, '}');
}

static void policy(const struct format_record *r, struct buf *out)
{
	struct str uid = format_text(r, "policy_sha256"), rule = format_text(r, "rule");

	if (!uid.n && !rule.n)
		return;
	buf_lit(out, ",\"policy\":{");
	format_json_str(out, "name", rule);
	format_json_str(out, "uid", uid);
	format_json_str(out, "version", format_text(r, "generation"));
	buf_lit(out, ",\"is_applied\":true}");
}

static void control(const struct format_record *r, struct buf *out)
{
	struct str decision = format_text(r, "decision");
	bool ok = format_succeeded(r), ask = str_eq(decision, STR("ask"));

	member_int(out, "action_id", ok ? 1 : 2);
	format_json_str(out, "action", ok ? STR("Allowed") : STR("Denied"));
	member_int(out, "disposition_id", ok ? 1 : ask ? 23 : 2);
	format_json_str(out, "disposition",
			ok    ? STR("Allowed")
			: ask ? STR("Challenge")
			      : STR("Blocked"));
	policy(r, out);
}

static void api_activity(const struct format_record *r, struct buf *out)
{
	struct str tool = format_text(r, "tool"), model = format_text(r, "model");
	struct str kind = format_text(r, "kind"), server, rest;

	actor(r, format_text(r, "decision").n, out);
	control(r, out);
	buf_lit(out, ",\"api\":{");
	format_json_str(out, "operation", or_else(format_text(r, "action"), kind));
	if (str_cut(tool, '/', &server, &rest)) {
		buf_lit(out, ",\"service\":{");
		format_json_str(out, "name", server);
		buf_char(out, '}');
	}
	buf_char(out, '}');
	if (tool.n || model.n) {
		buf_lit(out, ",\"resources\":[{");
		format_json_str(out, "name", tool.n ? tool : model);
		format_json_str(out, "type", tool.n ? STR("tool") : STR("model"));
		buf_lit(out, "}]");
	}
	/* The enforcement point that asked: its address is not in the record. */
	buf_lit(out, ",\"src_endpoint\":{");
	format_json_str(out, "uid", format_text(r, "pep"));
	format_json_str(out, "name", or_else(format_text(r, "pep"), format_text(r, "node")));
	buf_char(out, '}');
}

static void authentication(const struct format_record *r, struct buf *out)
{
	struct str id = or_else(format_text(r, "agent"), format_text(r, "spiffe_id"));

	actor(r, false, out);
	buf_lit(out, ",\"user\":{");
	format_json_str(out, "name", or_else(id, STR("unknown")));
	format_json_str(out, "uid", id);
	buf_lit(out, "},\"service\":{\"name\":\"writ\"}");
	format_json_str(out, "auth_protocol", format_text(r, "method"));
	member_int(out, "auth_protocol_id", 99);
}

/* What was managed: an agent, a trust domain, the policies, a roll-out. */
static void entity_management(const struct format_record *r, struct buf *out)
{
	static const struct {
		const char *member, *type;
	} entities[] = {
		{ "agent", "agent" },	       { "trust_domain", "trust domain" },
		{ "issuer", "issuer" },	       { "rollout", "roll-out" },
		{ "policy_sha256", "policy" }, { "generation", "policy" },
	};
	struct str uid = { 0 }, kind = format_text(r, "kind");
	const char *type = "configuration";

	for (size_t i = 0; i < ARRAY_LEN(entities) && !uid.n; i++) {
		uid = format_text(r, entities[i].member);
		if (uid.n)
			type = entities[i].type;
	}
	actor(r, false, out);
	buf_lit(out, ",\"entity\":{");
	format_json_str(out, "uid", uid);
	format_json_str(out, "name", or_else(uid, kind));
	format_json_str(out, "type", str_c(type));
	format_json_str(out, "version", format_text(r, "generation"));
	buf_char(out, '}');
}

static void event_log(const struct format_record *r, struct buf *out)
{
	actor(r, false, out);
	buf_lit(out, ",\"device\":{\"type_id\":1,\"type\":\"Server\"");
	format_json_str(out, "hostname", format_text(r, "node"));
	buf_char(out, '}');
	format_json_str(out, "log_name", r->origin);
	format_json_str(out, "log_provider", STR("writ"));
}

static void ocsf_row(const struct format_record *r, struct buf *out)
{
	static const char *const nothing[] = { "v", "seq", "time", NULL };
	const struct activity *a = activity_of(r);

	classification(r, a, out);
	occurrence(r, out);
	metadata(r, a, out);
	switch (a->class) {
	case API:
		api_activity(r, out);
		break;
	case AUTHENTICATION:
		authentication(r, out);
		break;
	case ENTITY:
		entity_management(r, out);
		break;
	case EVENT_LOG:
		event_log(r, out);
		break;
	}
	buf_printf(out, ",\"unmapped\":{\"writ\":{\"index\":\"%llu\",", (unsigned long long)r->seq);
	(void)format_others(r, nothing, out);
	format_json_str(out, "leaf_hash", r->leaf_hash);
	buf_lit(out, "}}}");
}

const struct audit_format format_ocsf = {
	.name = "ocsf",
	.media_type = "application/x-ndjson",
	.help = "OCSF " FORMAT_OCSF_VERSION ", one JSON event a line",
	.row = ocsf_row,
	.line_end = "\n",
	.batch_type = "application/x-ndjson",
	.batch_between = "\n",
	.batch_close = "\n",
};
