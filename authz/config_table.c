#include "authz/config_table.h"

#include <stddef.h>

const char *const config_door_names[DOOR_COUNT] = {
	[DOOR_HTTP] = "http",		[DOOR_HTTPS] = "https", [DOOR_WORKLOAD] = "workload",
	[DOOR_OPERATORS] = "operators", [DOOR_ADMIN] = "admin", [DOOR_WEB] = "web",
};

static const char *const required[] = { "owner", "purpose", "expires", NULL };
static const char *const levels[] = { "debug", "info", "warn", "error", NULL };

#define KIB 1024
#define MIB (1024 * 1024)
#define AT(m) offsetof(struct config, m)
#define STRING(n, m, lo, hi, dflt, help)                              \
	{                                                             \
		n, SET_STRING, false, AT(m), lo, hi, dflt, NULL, help \
	}
#define BOOL(n, m, run, dflt, help)                             \
	{                                                       \
		n, SET_BOOL, run, AT(m), 0, 1, dflt, NULL, help \
	}
#define U32(n, m, run, lo, hi, dflt, help)                       \
	{                                                        \
		n, SET_U32, run, AT(m), lo, hi, dflt, NULL, help \
	}
#define SIZE(n, m, lo, hi, dflt, help)                              \
	{                                                           \
		n, SET_SIZE, false, AT(m), lo, hi, dflt, NULL, help \
	}
#define SECONDS(n, m, lo, hi, dflt, help)                              \
	{                                                              \
		n, SET_SECONDS, false, AT(m), lo, hi, dflt, NULL, help \
	}
#define MS(n, m, lo, hi, dflt, help)                              \
	{                                                         \
		n, SET_MS, false, AT(m), lo, hi, dflt, NULL, help \
	}
#define LISTEN(n, door, dflt, help)                                \
	{                                                          \
		n, SET_LISTEN, false, door, 0, 0, dflt, NULL, help \
	}

const struct setting config_settings[] = {
	STRING("trust_domain", trust_domain, 1, 300, "example.org",
	       "the name all identities of this deployment share; settled at the first start"),
	STRING("data", data, 1, 4096, "writ-data",
	       "folder of everything writ keeps; relative paths count from this file"),
	STRING("store", store, 1, 4096, "sqlite:<data>/writ.db", "where the registry is kept"),
	STRING("node", node, 0, 63, "<host name>", "this machine's name in records"),
	STRING("public_url", public_url, 9, 1024, "<what the client used>",
	       "https URL by which AuthZEN clients know this server, as its metadata say"),
	{ "log_level", SET_CHOICE, true, AT(log_level), 0, 0, "info", levels,
	  "least important event to be logged on standard error" },
	U32("loops", loops, false, 0, 256, "0",
	    "threads that serve agents; 0: one less than cores"),

	LISTEN("listen.http", DOOR_HTTP, "127.0.0.1:8080",
	       "agents' door, plain: loopback or a Unix socket only"),
	LISTEN("listen.https", DOOR_HTTPS, "127.0.0.1:8443", "agents' door with TLS"),
	LISTEN("listen.workload", DOOR_WORKLOAD, "<data>/workload.sock",
	       "SPIFFE Workload API and SDS: a Unix socket"),
	LISTEN("listen.operators", DOOR_OPERATORS, "127.0.0.1:8081",
	       "management, console, audit, metrics; with TLS if not on loopback"),
	LISTEN("listen.admin", DOOR_ADMIN, "<data>/admin.sock",
	       "the same for `writ` on the command line: a Unix socket"),

	LISTEN("listen.web", DOOR_WEB, "none",
	       "trust bundle and OpenID documents alone, with the certificate of tls.web"),

	{ "callers", SET_CALLERS, true, AT(callers), 0, 256, "none", NULL,
	  "who may use writ's own interfaces, and as what" },

	STRING("policies.dir", policies.dir, 1, 4096, "policies", "folder of rules and catalogue"),
	STRING("policies.key", policies.key, 1, 4096, "<none>",
	       "public keys, separated by blanks: a policy set must be signed by one of them"),
	BOOL("policies.watch", policies.watch, false, "true",
	     "check, store and activate the folder when it changes"),
	BOOL("policies.files_only", policies.files_only, true, "false",
	     "the folder alone decides: refuse apply and rollback by command"),

	{ "tls.names", SET_NAMES, false, AT(tls.san), 1, 64, "none", NULL,
	  "further host names and addresses in writ's own certificate" },

	STRING("jwt.issuer", jwt.issuer, 9, 1024, "<none>",
	       "https URL by which OpenID relying parties know writ: \"iss\" of its JWT-SVIDs"),
	{ "delegation.users", SET_ISSUERS, false, AT(delegation.users), 2, 32, "none", NULL,
	  "OpenID Connect issuers whose tokens say for which user an agent acts" },
	U32("delegation.depth", delegation.depth, false, 1, 8, "4",
	    "agents that one delegation may go through"),
	SECONDS("delegation.ttl", delegation.ttl_s, 30, 3600, "5m",
		"life of a delegated token; none outlives what it was exchanged for"),
	STRING("delegation.issuer", delegation.issuer, 9, 1024, "<writ's own SPIFFE ID>",
	       "https URL by which others know writ as the issuer of delegated tokens: their "
	       "\"iss\"; never that of jwt.issuer"),
	STRING("fetch.ca_file", fetch.ca_file, 1, 4096, "<the system's>",
	       "PEM file of the authorities whose web servers writ fetches from"),
	BOOL("fetch.private", fetch.private_ok, false, "false",
	     "fetch from loopback and private addresses too, not from public ones alone"),
	STRING("keys.encrypt", keys.encrypt, 1, 4096, "<none>",
	       "what encrypts the private keys on disk: \"file:PATH\" (32 random bytes or more) or "
	       "\"credential:NAME\" of systemd"),
	STRING("authority.upstream.certificate", authority.certificate, 1, 4096, "<none>",
	       "PEM of the organisation's CA that signs our X.509 authority, and what is above it"),
	STRING("authority.upstream.key", authority.key, 1, 4096, "<none>",
	       "PEM of its private key, readable by writ's user only"),
	STRING("authority.upstream.bundle", authority.bundle, 1, 4096, "<none>",
	       "PEM of the roots that the trust bundle holds instead of our own authority"),
	BOOL("authority.upstream.name_constraints", authority.name_constraints, false, "false",
	     "limit the authority to this trust domain's URIs; some verifiers refuse that"),
	STRING("authority.pkcs11.module", authority.pkcs11.module, 1, 4096, "<none>",
	       "PKCS#11 library of a token that holds the authorities' keys"),
	STRING("authority.pkcs11.pin", authority.pkcs11.pin, 1, 4096, "<none>",
	       "where the token's PIN is: \"file:PATH\" or \"credential:NAME\" of systemd"),
	STRING("authority.pkcs11.x509", authority.pkcs11.uris[0], 1, 512, "<none>",
	       "token of the X.509 authorities: \"pkcs11:token=NAME\""),
	STRING("authority.pkcs11.jwt", authority.pkcs11.uris[1], 1, 512, "<none>",
	       "token of the JWT authorities: \"pkcs11:token=NAME\""),
	BOOL("authority.pkcs11.network", authority.pkcs11.network, false, "false",
	     "the module reaches its token by TCP or UDP, so the signer may, too"),
	BOOL("authority.pkcs11.leave", authority.pkcs11.leave, false, "false",
	     "make new keys in files again; those in the token sign until they are replaced"),
	{ "registry.require", SET_NAMES, false, AT(registry.require), 1, 3, "owner", required,
	  "what every registration must say: owner (always), purpose, expires" },
	U32("registry.max_entries", registry.max_entries, false, 1, 1000000, "1000000",
	    "registrations, retired ones included"),
	SECONDS("registry.orphan", registry.orphan_s, 3600, 3650 * 86400, "30d",
		"an agent not seen for so long is listed as an orphan"),

	{ "attest.oidc", SET_ISSUERS, false, AT(attest.oidc), 0, 32, "none", NULL,
	  "OIDC issuers whose tokens attest agents" },
	{ "attest.k8s", SET_ISSUERS, false, AT(attest.k8s), 1, 32, "none", NULL,
	  "Kubernetes clusters whose service-account tokens attest agents" },
	{ "attest.x509pop", SET_NAMES, false, AT(attest.x509pop), 1, 32, "none", NULL,
	  "files of certificates whose holders are attested by proof of possession" },
	SECONDS("attest.refresh", attest.refresh_s, 60, 86400, "5m",
		"between two fetches of an issuer's keys, where its jwks is no file"),
	SECONDS("attest.keep", attest.keep_s, 60, 365 * 86400, "1d",
		"how long such keys are used while they cannot be fetched anew"),

	BOOL("workload.wit", workload.wit, false, "false",
	     "WIT-SVIDs at the Workload API (incubating: the standard may still change)"),

	SECONDS("federation.keep", federation.keep_s, 60, 365 * 86400, "7d",
		"how long a foreign trust bundle is used while it cannot be fetched anew"),

	STRING("tls.web.certificate", tls.web.certificate, 1, 4096, "<none>",
	       "PEM file of listen.web's certificate and its chain; read again when it changes"),
	STRING("tls.web.key", tls.web.key, 1, 4096, "<none>", "PEM file of its private key"),

	SECONDS("ttl.x509", ttl.x509_s, 60, 30 * 86400, "1h", "life of an X.509-SVID"),
	SECONDS("ttl.jwt", ttl.jwt_s, 30, 86400, "5m", "life of a JWT-SVID"),
	SECONDS("ttl.join_token", ttl.join_token_s, 1, 86400, "600s", "life of a join token"),
	SECONDS("ttl.authority", ttl.authority_s, 3600, 3650 * 86400, "30d",
		"life of a new signing authority; it is replaced in time"),
	SECONDS("ttl.leeway", ttl.leeway_s, 0, 300, "30s",
		"how far clocks may be apart when a token is checked"),

	MS("audit.checkpoint", audit.checkpoint_ms, 100, 3600000, "1s",
	   "between signed checkpoints, if the log grew"),
	{ "audit.sinks", SET_SINKS, false, AT(audit.sinks), 0, 16, "none", NULL,
	  "where each record is sent on: files, standard output, syslog, webhooks, OTLP" },

	{ "audit.mask", SET_MASK, false, AT(audit.mask), 0, 64, "none", NULL,
	  "what of requests is not written down: fields, and detectors of secrets" },
	SECONDS("audit.retain", audit.retain_s, 1, CONFIG_FOR_EVER, "24855d",
		"how long a record stays at least before `writ audit prune` may take it; 24855d: for ever"),
	MS("audit.witness_interval", audit.witness_ms, 100, 86400000, "1m",
	   "between two checkpoints that witnesses are asked to cosign"),
	{ "audit.witnesses", SET_PARTIES, false, AT(audit.witnesses), 0, 16, "none", NULL,
	  "who is asked to cosign our checkpoints: url and key of each" },
	{ "witness.logs", SET_PARTIES, false, AT(witness.logs), 1, 64, "none", NULL,
	  "whose checkpoints we cosign, as a witness: key of each" },

	STRING("access_log.namespace", access_log.namespace, 1, 256, "io.envoy.ai_gateway",
	       "dynamic metadata of Envoy in which a filter keeps what a model call used"),
	STRING("access_log.input_tokens", access_log.input_tokens, 1, 256, "llm_input_token",
	       "the number in it that is the input's tokens"),
	STRING("access_log.output_tokens", access_log.output_tokens, 1, 256, "llm_output_token",
	       "the number that is the output's tokens"),
	STRING("access_log.cost_micros", access_log.cost_micros, 1, 256, "<none>",
	       "the number that is the cost, in millionths of the currency"),

	SIZE("limits.body", limits.body, KIB, 4 * MIB, "1MiB", "a request body"),
	SIZE("limits.in_flight", limits.in_flight, 64 * KIB, 4096LL * MIB, "16MiB",
	     "all requests being served, together"),
	SIZE("limits.string", limits.string, 256, 64 * MIB, "256KiB", "one JSON string"),
	SIZE("limits.headers", limits.headers, KIB, MIB, "16KiB", "a header block"),
	SIZE("limits.url", limits.url, 256, 64 * KIB, "8KiB", "a request target"),
	SIZE("limits.token", limits.token, 512, 8 * KIB, "8KiB", "a bearer token"),
	U32("limits.depth", limits.depth, false, 4, 256, "64", "nesting of JSON"),
	U32("limits.members", limits.members, false, 16, 65536, "256", "members of a JSON object"),
	U32("limits.values", limits.values, false, 64, 1000000, "65536", "values in one JSON text"),
	U32("limits.batch", limits.batch, false, 1, 1000, "100", "evaluations in one request"),
	U32("limits.queue", limits.queue, false, 16, 1000000, "4096",
	    "records waiting for the log"),
	MS("limits.decision", limits.decision_ms, 10, 60000, "2s", "deadline of a decision"),
	MS("limits.request", limits.request_ms, 100, 600000, "10s", "deadline of a whole request"),
	U32("limits.connections", limits.connections, false, 16, 1000000, "10000",
	    "connections at the agents' door"),
	U32("limits.workload_connections", limits.workload_connections, false, 16, 1000000, "10000",
	    "connections at the Workload API's socket"),
	U32("limits.workload_user_connections", limits.workload_user_connections, false, 4, 1000000,
	    "2500", "those of one user among them"),
	U32("limits.workload_streams", limits.workload_streams, false, 16, 1000000, "4096",
	    "open streams of the Workload API, and X.509-SVIDs kept for them"),
	U32("limits.workload_user_streams", limits.workload_user_streams, false, 4, 1000000, "1024",
	    "those of one user among them"),
	U32("limits.agent_rate", limits.agent_rate, false, 1, 1000000, "200",
	    "requests per second and agent"),
	U32("limits.agent_burst", limits.agent_burst, false, 1, 1000000, "400",
	    "requests an agent may save up"),
	U32("limits.attest_rate", limits.attest_rate, false, 1, 100000, "1",
	    "attestations per second and address"),
	U32("limits.attest_burst", limits.attest_burst, false, 1, 100000, "10",
	    "attestations an address may save up"),
	U32("limits.policy_instructions", limits.policy_instructions, false, 1000, 100000000,
	    "200000", "Lua instructions of one evaluation"),
	MS("limits.policy_time", limits.policy_ms, 1, 1000, "5ms", "time of one evaluation"),
	SIZE("limits.policy_memory", limits.policy_memory, 64 * KIB, 1024 * MIB, "1MiB",
	     "memory of one evaluation, besides 16 times the body"),
};
const size_t config_nsettings = ARRAY_LEN(config_settings);

/* --- for people --- */

static void show_bytes(struct buf *b, int64_t n)
{
	if (n >= MIB && n % MIB == 0)
		buf_printf(b, "%lldMiB", (long long)(n / MIB));
	else if (n >= KIB && n % KIB == 0)
		buf_printf(b, "%lldKiB", (long long)(n / KIB));
	else
		buf_printf(b, "%lld", (long long)n);
}

static void show_ms(struct buf *b, int64_t ms)
{
	static const struct {
		char unit;
		int64_t ms;
	} units[] = { { 'd', 86400000 }, { 'h', 3600000 }, { 'm', 60000 }, { 's', 1000 } };

	for (size_t i = 0; ms && i < ARRAY_LEN(units); i++)
		if (ms % units[i].ms == 0) {
			buf_printf(b, "%lld%c", (long long)(ms / units[i].ms), units[i].unit);
			return;
		}
	buf_printf(b, "%lldms", (long long)ms);
}

static void show_number(struct buf *b, enum setting_type type, int64_t n)
{
	if (type == SET_SIZE)
		show_bytes(b, n);
	else if (type == SET_MS || type == SET_SECONDS)
		show_ms(b, type == SET_MS ? n : n * 1000);
	else
		buf_i64(b, n);
}

void config_show_range(const struct setting *s, struct buf *out)
{
	show_number(out, s->type, s->min);
	buf_lit(out, " to ");
	show_number(out, s->type, s->max);
}

static void help_type(struct buf *b, const struct setting *s)
{
	static const char *const names[] = {
		[SET_STRING] = "string",
		[SET_BOOL] = "true or false",
		[SET_U32] = "number",
		[SET_SIZE] = "bytes",
		[SET_SECONDS] = "duration",
		[SET_MS] = "duration",
		[SET_CHOICE] = "one of",
		[SET_NAMES] = "list of strings",
		[SET_LISTEN] = "address",
		[SET_CALLERS] = "list of tables",
		[SET_ISSUERS] = "list of tables",
		[SET_SINKS] = "list of tables",
		[SET_PARTIES] = "list of tables",
	};

	buf_printf(b, "%s", names[s->type]);
	for (size_t i = 0; s->type == SET_CHOICE && s->choices[i]; i++)
		buf_printf(b, " %s", s->choices[i]);
	if (s->type == SET_U32 || s->type == SET_SIZE || s->type == SET_SECONDS ||
	    s->type == SET_MS) {
		buf_char(b, ' ');
		config_show_range(s, b);
	}
}

void config_help(struct buf *out)
{
	for (size_t i = 0; i < config_nsettings; i++) {
		const struct setting *s = &config_settings[i];

		buf_printf(out, "  %-32s %s\n%35s", s->name, s->help, "");
		help_type(out, s);
		buf_printf(out, "; default %s; %s\n", s->initial,
			   s->runtime ? "SIGHUP applies a change" : "a change needs a restart");
	}
}

/* --- values as text --- */

static void show_listeners(const struct config *c, enum config_door door, struct buf *out)
{
	for (size_t i = 0; i < c->nlisteners; i++) {
		const struct config_listener *l = &c->listeners[i];

		if (l->door == door)
			buf_printf(out, "%s caller=%u,%s server=%s protocol=%s;", l->address,
				   l->caller_roles, l->caller_id ? l->caller_id : "",
				   l->server ? l->server : "", l->protocol ? l->protocol : "");
	}
}

static void show_callers(const struct config *c, struct buf *out)
{
	for (size_t i = 0; i < c->ncallers; i++) {
		const struct config_caller *k = &c->callers[i];

		if (k->spiffe_id)
			buf_printf(out, "%s", k->spiffe_id);
		else
			buf_printf(out, "uid %u", (unsigned)k->uid);
		buf_printf(out, " roles=%u server=%s bare=%d;", k->roles,
			   k->server ? k->server : "", (int)k->bare);
	}
}

static void show_names(const struct config_names *l, struct buf *out)
{
	for (size_t i = 0; i < l->nnames; i++)
		buf_printf(out, "%s;", l->names[i]);
}

static void show_issuers(const struct config_issuers *l, struct buf *out)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct config_issuer *k = &l->items[i];

		buf_printf(out, "%s %s %s %s reuse=%d ", k->cluster ? k->cluster : "", k->issuer,
			   k->audience, k->jwks, (int)k->reuse);
		show_names(&k->claims, out);
	}
}

static void show_parties(const struct config_parties *l, struct buf *out)
{
	for (size_t i = 0; i < l->n; i++)
		buf_printf(out, "%s %s %s;", l->items[i].name,
			   l->items[i].url ? l->items[i].url : "", l->items[i].key);
}

void config_show(const struct config *c, const struct setting *s, struct buf *out)
{
	const char *at = (const char *)c + s->offset;

	switch (s->type) {
	case SET_STRING:
		buf_add(out, str_c(*(const char *const *)(const void *)at));
		return;
	case SET_BOOL:
		buf_printf(out, "%s", *(const bool *)at ? "true" : "false");
		return;
	case SET_U32:
	case SET_MS:
		show_number(out, s->type, *(const uint32_t *)(const void *)at);
		return;
	case SET_SIZE:
		show_bytes(out, (int64_t) * (const size_t *)(const void *)at);
		return;
	case SET_SECONDS:
		show_number(out, s->type, *(const int64_t *)(const void *)at);
		return;
	case SET_CHOICE:
		buf_printf(out, "%s", s->choices[*(const int *)(const void *)at]);
		return;
	case SET_NAMES:
	case SET_MASK:
		show_names((const struct config_names *)(const void *)at, out);
		return;
	case SET_ISSUERS:
		show_issuers((const struct config_issuers *)(const void *)at, out);
		return;
	case SET_SINKS:
		config_show_sinks((const struct config_sinks *)(const void *)at, out);
		return;
	case SET_PARTIES:
		show_parties((const struct config_parties *)(const void *)at, out);
		return;
	case SET_LISTEN:
		show_listeners(c, (enum config_door)s->offset, out);
		return;
	case SET_CALLERS:
		show_callers(c, out);
		return;
	}
}

void config_diff(const struct config *old, const struct config *new,
		 void (*each)(void *ctx, const char *name, bool restart), void *ctx)
{
	AUTO_BUF a = { 0 };
	AUTO_BUF b = { 0 };

	buf_init(&a, mem_system, 4 * CONFIG_FILE_MAX);
	buf_init(&b, mem_system, 4 * CONFIG_FILE_MAX);
	for (size_t i = 0; i < config_nsettings; i++) {
		const struct setting *s = &config_settings[i];

		buf_reset(&a);
		buf_reset(&b);
		config_show(old, s, &a);
		config_show(new, s, &b);
		/* Without memory to compare: say that it changed, never that it did not. */
		if (!buf_ok(&a) || !buf_ok(&b) || !str_eq(buf_str(&a), buf_str(&b)))
			each(ctx, s->name, !s->runtime);
	}
}
