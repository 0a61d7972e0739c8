/* Every value is looked at, wherever it stands: what matters is told by its "@type". Field names
 * are compared without underscores and case, as protobuf's JSON has them in two spellings (fact
 * sheet ext-authz 7 to 9). */
#include "authz/cli/doctor_envoy.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "authz/base/text.h"

#define MESSAGE_OVERHEAD (128 * 1024) /* of a CheckRequest, besides the body */
#define PATH_MAX_BYTES 400

struct look {
	void (*find)(void *ctx, const struct envoy_finding *f);
	void *ctx;
	size_t body_limit;
	size_t filters;
	struct str authz;      /* the cluster that gRPC ext_authz asks */
	struct str early_proc; /* that an ext_proc before any ext_authz asks */
	char path[PATH_MAX_BYTES];
	size_t n;
};

static void PRINTF(4, 5)
	say(struct look *l, const char *severity, const char *name, const char *fmt, ...)
{
	char text[1200];
	struct envoy_finding f = { severity, name, text };
	int n = snprintf(text, sizeof(text), "%.*s: ", (int)l->n, l->path);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	l->find(l->ctx, &f);
}

/* ---- fields ---- */

static bool same_name(struct str name, const char *wanted)
{
	size_t k = 0;

	for (size_t i = 0; i < name.n; i++) {
		if (name.p[i] == '_')
			continue;
		if (!wanted[k] || (name.p[i] | 0x20) != wanted[k])
			return false;
		k++;
	}
	return !wanted[k];
}

/* Member @wanted ("failuremodeallow") of @v, or NULL. */
static const struct json *get(const struct json *v, const char *wanted)
{
	for (uint32_t i = 0; v && v->type == JSON_OBJECT && i < v->n; i++)
		if (same_name(v->items[i].name, wanted))
			return &v->items[i];
	return NULL;
}

static bool is_true(const struct json *v)
{
	return v && ((v->type == JSON_BOOL && v->b) ||
		     (v->type == JSON_STRING && str_eq(v->s, STR("true"))));
}

static struct str text(const struct json *v)
{
	return v && v->type == JSON_STRING ? v->s : (struct str){ "", 0 };
}

static bool ends(struct str s, const char *end)
{
	size_t n = strlen(end);

	return s.n >= n && !memcmp(s.p + s.n - n, end, n);
}

static struct str cluster_of(const struct json *filter)
{
	return text(get(get(get(filter, "grpcservice"), "envoygrpc"), "clustername"));
}

/* ---- bodies ---- */

static void check_body(struct look *l, const struct json *body, bool grpc)
{
	const struct json *max = get(body, "maxrequestbytes");
	size_t most = l->body_limit - (grpc ? MESSAGE_OVERHEAD : 0);

	if (is_true(get(body, "allowpartialmessage")))
		say(l, "warning", "envoy_partial_body",
		    "with_request_body.allow_partial_message is true: a body that is too long comes "
		    "cut off, and writ denies what it cannot read; with false Envoy answers 413");
	if (grpc && !is_true(get(body, "packasbytes")))
		say(l, "warning", "envoy_body_as_text",
		    "with_request_body.pack_as_bytes is not true: Envoy replaces bytes that are not "
		    "UTF-8, so writ refuses each body with a '!' in it");
	if (max && max->type == JSON_INT && (max->i < 0 || (size_t)max->i > most))
		say(l, "warning", "envoy_body_limit",
		    "with_request_body.max_request_bytes is %lld: writ's limits.body is %zu, so set "
		    "at most %zu, or a long body is an error of the authorizer",
		    (long long)max->i, l->body_limit, most);
}

/* ---- the filter ---- */

/* The header that the settings in path_prefix name as the client's: "peer=NAME". */
static struct str peer_of(struct str prefix)
{
	struct str rest = prefix, one, name, value;

	while (rest.n) {
		one = rest;
		if (!str_cut(rest, ',', &one, &rest))
			rest.n = 0;
		if (str_cut(one, '=', &name, &value) && str_eq(name, STR("peer"))) {
			(void)str_cut(value, '/', &value, &name);
			return value;
		}
	}
	return (struct str){ "", 0 };
}

static bool is_set_by_proxy(const struct json *http, struct str header)
{
	const struct json *list = get(get(http, "authorizationrequest"), "headerstoadd");

	for (uint32_t i = 0; list && list->type == JSON_ARRAY && i < list->n; i++) {
		struct str key = text(get(&list->items[i], "key"));

		if (key.n == header.n && !strncasecmp(key.p, header.p, key.n))
			return true;
	}
	return false;
}

/* A list of matchers that takes more than writ's own headers. */
static void check_list(struct look *l, const struct json *response, const char *wanted,
		       const char *shown)
{
	const struct json *patterns = get(get(response, wanted), "patterns");

	for (uint32_t i = 0; patterns && patterns->type == JSON_ARRAY && i < patterns->n; i++) {
		const struct json *p = &patterns->items[i];
		struct str exact = text(get(p, "exact")), prefix = text(get(p, "prefix"));

		if (!exact.n && !str_starts(prefix, STR("x-writ-")))
			say(l, "warning", "envoy_loose_headers",
			    "authorization_response.%s[%u] matches more than exact names and "
			    "x-writ-*: whatever answers for writ could set any header of the request",
			    shown, (unsigned)i);
	}
}

static void check_http(struct look *l, const struct json *http)
{
	struct str prefix = text(get(http, "pathprefix")), peer = peer_of(prefix);
	const struct json *response = get(http, "authorizationresponse");

	if (!str_starts(prefix, STR("/ext-authz/")))
		say(l, "error", "envoy_path",
		    "http_service.path_prefix is not /ext-authz/envoy,...: writ answers there only");
	if (!peer.n)
		say(l, "warning", "envoy_no_peer",
		    "path_prefix has no setting peer=HEADER: writ never learns whose certificate "
		    "Envoy verified, and agents must send bearer tokens");
	else if (!str_eq(peer, STR("x-forwarded-client-cert")) && !is_set_by_proxy(http, peer))
		say(l, "error", "envoy_forged_peer",
		    "path_prefix names %.*s as the client, but headers_to_add does not set it: a "
		    "client could name any agent",
		    STR_FMT(str_first(peer, 80)));
	check_list(l, response, "allowedupstreamheaders", "allowed_upstream_headers");
	check_list(l, response, "allowedupstreamheaderstoappend",
		   "allowed_upstream_headers_to_append");
}

static void check_grpc(struct look *l, const struct json *filter)
{
	if (!is_true(get(filter, "includepeercertificate")))
		say(l, "warning", "envoy_no_certificate",
		    "include_peer_certificate is not true: of a client certificate with several "
		    "names writ sees the first only");
	if (!is_true(get(filter, "validatemutations")))
		say(l, "info", "envoy_mutations",
		    "validate_mutations is not true: headers of an answer are applied unchecked");
}

static bool is_forbidden(const struct json *status)
{
	const struct json *code = get(status, "code");

	if (!code)
		return true;
	return (code->type == JSON_INT && code->i == 403) || str_eq(text(code), STR("Forbidden")) ||
	       str_eq(text(code), STR("403"));
}

static void check_filter(struct look *l, const struct json *v)
{
	const struct json *http = get(v, "httpservice"), *grpc = get(v, "grpcservice");
	const struct json *body = get(v, "withrequestbody");

	l->filters++;
	if (grpc) {
		l->authz = cluster_of(v);
		if (l->early_proc.n && str_eq(l->early_proc, l->authz))
			say(l, "error", "envoy_proc_order",
			    "ext_proc stands before this ext_authz: it sees requests that nothing "
			    "has decided, and writ denies them");
	}
	if (is_true(get(v, "failuremodeallow")))
		say(l, "error", "envoy_failure_open",
		    "failure_mode_allow is true: while writ cannot be reached every request passes, "
		    "and nothing is on record");
	if (get(v, "filterenabled") || get(v, "filterenabledmetadata"))
		say(l, "warning", "envoy_not_always",
		    "filter_enabled or filter_enabled_metadata is set: some requests may pass "
		    "without asking");
	if (is_forbidden(get(v, "statusonerror")))
		say(l, "warning", "envoy_status_on_error",
		    "status_on_error is 403 (the default): nobody can tell a denial from an outage; "
		    "set ServiceUnavailable");
	if (!body)
		say(l, "warning", "envoy_no_body",
		    "with_request_body is missing: what a request asks for stands in its body, so "
		    "calls of tools, agents and models are all denied");
	else
		check_body(l, body, grpc != NULL);
	if (http)
		check_http(l, http);
	else if (grpc)
		check_grpc(l, v);
	else
		say(l, "error", "envoy_no_service", "neither grpc_service nor http_service is set");
}

/* ---- ext_proc ---- */

static bool is_mode(const struct json *mode, const char *part, const char *wanted, int number,
		    bool by_default)
{
	const struct json *v = get(mode, part);

	if (!v || (v->type == JSON_INT && v->i == 0))
		return by_default;
	return (v->type == JSON_INT && v->i == number) || str_eq(text(v), str_c(wanted)) ||
	       (by_default && str_eq(text(v), STR("DEFAULT")));
}

static void check_mode(struct look *l, const struct json *mode)
{
	if (!is_mode(mode, "requestheadermode", "SEND", 1, true) ||
	    !is_mode(mode, "responseheadermode", "SEND", 1, true) ||
	    !is_mode(mode, "responsebodymode", "BUFFERED", 2, false))
		say(l, "error", "envoy_proc_mode",
		    "processing_mode is not SEND for both headers and BUFFERED for the response's "
		    "body: lists cannot be filtered, so they are denied, or pass in an Envoy that "
		    "does not tell its mode");
}

static bool forwards(const struct json *filter)
{
	const struct json *list = get(get(get(filter, "metadataoptions"), "forwardingnamespaces"),
				      "untyped");

	for (uint32_t i = 0; list && list->type == JSON_ARRAY && i < list->n; i++)
		if (str_eq(text(&list->items[i]), STR("envoy.filters.http.ext_authz")))
			return true;
	return false;
}

/* Only one that asks writ: the cluster that ext_authz asks. */
static void check_proc(struct look *l, const struct json *v)
{
	struct str cluster = cluster_of(v);

	if (!l->authz.n)
		l->early_proc = cluster;
	if (!l->authz.n || !str_eq(cluster, l->authz))
		return;
	if (is_true(get(v, "failuremodeallow")))
		say(l, "error", "envoy_proc_failure_open",
		    "failure_mode_allow is true: while writ cannot be reached, and when a list is "
		    "too long for it, lists pass unfiltered");
	if (is_true(get(v, "observabilitymode")) || is_true(get(v, "disableimmediateresponse")))
		say(l, "error", "envoy_proc_not_enforced",
		    "observability_mode or disable_immediate_response is true: Envoy does not do "
		    "what writ answers");
	if (!forwards(v))
		say(l, "error", "envoy_proc_no_metadata",
		    "metadata_options.forwarding_namespaces.untyped does not name "
		    "envoy.filters.http.ext_authz: writ cannot know whose list it is, and denies");
	check_mode(l, get(v, "processingmode"));
}

static void check_proc_route(struct look *l, const struct json *v)
{
	const struct json *overrides = get(v, "overrides");

	if (is_true(get(v, "disabled")))
		say(l, "warning", "envoy_proc_route_unasked",
		    "disabled is true: lists of this route pass unfiltered");
	if (is_true(get(overrides, "failuremodeallow")))
		say(l, "error", "envoy_proc_failure_open",
		    "failure_mode_allow is true for this route: lists pass unfiltered when writ "
		    "cannot be reached");
	if (get(overrides, "processingmode"))
		check_mode(l, get(overrides, "processingmode"));
}

/* ---- around it ---- */

static void check_manager(struct look *l, const struct json *v)
{
	struct str xfcc = text(get(v, "forwardclientcertdetails"));

	if (xfcc.n && !str_eq(xfcc, STR("SANITIZE")) && !str_eq(xfcc, STR("SANITIZE_SET")))
		say(l, "warning", "envoy_foreign_xfcc",
		    "forward_client_cert_details is %.*s: X-Forwarded-Client-Cert may be the "
		    "client's own; set SANITIZE_SET",
		    STR_FMT(str_first(xfcc, 40)));
	if (!is_true(get(v, "normalizepath")))
		say(l, "info", "envoy_path_not_normal",
		    "normalize_path is not true: writ denies paths that are not in normal form");
}

static void check_route(struct look *l, const struct json *v)
{
	const struct json *settings = get(v, "checksettings");

	if (is_true(get(v, "disabled")))
		say(l, "warning", "envoy_route_unasked",
		    "disabled is true: what this route matches passes without asking");
	if (is_true(get(settings, "disablerequestbodybuffering")))
		say(l, "warning", "envoy_no_body",
		    "disable_request_body_buffering is true: the bodies of this route are not sent");
	if (get(settings, "withrequestbody"))
		check_body(l, get(settings, "withrequestbody"), !get(settings, "httpservice"));
}

static void check_tls(struct look *l, const struct json *v)
{
	if (!is_true(get(v, "requireclientcertificate")))
		say(l, "warning", "envoy_no_client_certificate",
		    "require_client_certificate is not true: clients without a certificate get in, "
		    "and only a bearer JWT-SVID tells who they are");
}

static void check_value(struct look *l, const struct json *v)
{
	static const struct {
		const char *type;
		void (*check)(struct look *l, const struct json *v);
	} kinds[] = {
		{ ".filters.http.ext_authz.v3.ExtAuthz", check_filter },
		{ ".filters.http.ext_authz.v3.ExtAuthzPerRoute", check_route },
		{ ".filters.http.ext_proc.v3.ExternalProcessor", check_proc },
		{ ".filters.http.ext_proc.v3.ExtProcPerRoute", check_proc_route },
		{ ".http_connection_manager.v3.HttpConnectionManager", check_manager },
		{ ".transport_sockets.tls.v3.DownstreamTlsContext", check_tls },
	};
	struct str type = text(json_get(v, STR("@type")));

	for (size_t i = 0; type.n && i < ARRAY_LEN(kinds); i++)
		if (ends(type, kinds[i].type))
			kinds[i].check(l, v);
}

/* ---- all of it ---- */

static void PRINTF(2, 3) add_path(struct look *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->path + l->n, sizeof(l->path) - l->n, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->n = l->n + (size_t)n < sizeof(l->path) ? l->n + (size_t)n : sizeof(l->path) - 1;
}

/* The reader has bounded the depth. */
static void walk(struct look *l, const struct json *v)
{
	size_t n = l->n;

	if (v->type != JSON_OBJECT && v->type != JSON_ARRAY)
		return;
	if (v->type == JSON_OBJECT)
		check_value(l, v);
	for (uint32_t i = 0; i < v->n; i++) {
		if (v->type == JSON_ARRAY)
			add_path(l, "[%u]", (unsigned)i);
		else
			add_path(l, "%s%.*s", l->n ? "." : "",
				 STR_FMT(str_first(v->items[i].name, 80)));
		walk(l, &v->items[i]);
		l->n = n;
	}
}

void doctor_envoy(const struct json *root, size_t body_limit,
		  void (*find)(void *ctx, const struct envoy_finding *f), void *ctx)
{
	struct look l = { .find = find, .ctx = ctx, .body_limit = body_limit };

	for (uint32_t i = 0; root->type == JSON_ARRAY && i < root->n; i++) {
		if (root->n > 1)
			add_path(&l, "document %u ", (unsigned)i + 1);
		walk(&l, &root->items[i]);
		l.n = 0;
	}
	if (!l.filters) {
		add_path(&l, "the file");
		say(&l, "error", "envoy_no_ext_authz",
		    "holds no filter of type envoy.extensions.filters.http.ext_authz.v3.ExtAuthz: "
		    "nothing asks writ");
	}
}
