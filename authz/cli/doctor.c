/*
 * doctor: every weakened default by name.
 *
 * What can be seen without a server (configuration, data folder) is looked at here, so it works
 * when nothing runs; what only the running server knows is asked for. A weakness is named however
 * good its reason may be: whether it is meant is the reader's to know.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/doctor_envoy.h"
#include "authz/cli/print.h"
#include "authz/cli/yaml.h"
#include "authz/setup.h"

#define X509_TTL_LONG (24 * 3600)
#define JWT_TTL_LONG 3600
#define JOIN_TOKEN_LONG 3600
#define LEEWAY_LONG 120

enum severity { INFO, WARNING, ERROR };
static const char *const severities[] = { "info", "warning", "error" };

#define FINDINGS_MAX 256
#define FINDINGS_BYTES (64 * 1024 * 1024) /* with a proxy's configuration */

struct report {
	struct cli *c;
	struct arena arena;
	size_t n;
	struct {
		struct str name, message;
	} said[FINDINGS_MAX];
	bool errors;
};

/* The server sees some of what the configuration shows: one weakness is one finding. */
static bool is_said(const struct report *r, struct str name, struct str message)
{
	for (size_t i = 0; i < r->n && i < FINDINGS_MAX; i++)
		if (str_eq(r->said[i].name, name) && str_eq(r->said[i].message, message))
			return true;
	return false;
}

static void put(struct report *r, struct str severity, struct str name, struct str message)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, 65536);
	if (is_said(r, name, message))
		return;
	if (r->n < FINDINGS_MAX) {
		r->said[r->n].name = arena_dup(&r->arena, name);
		r->said[r->n].message = arena_dup(&r->arena, message);
	}
	if (r->c->json) {
		buf_add(&b, r->n ? STR(",{\"severity\":") : STR("{\"severity\":"));
		buf_json(&b, severity);
		buf_lit(&b, ",\"name\":");
		buf_json(&b, name);
		buf_lit(&b, ",\"message\":");
		buf_json(&b, message);
		buf_char(&b, '}');
	} else {
		print_safe(&b, severity);
		buf_lit(&b, ": ");
		print_safe(&b, name);
		buf_lit(&b, ": ");
		print_safe(&b, message);
		buf_char(&b, '\n');
	}
	fwrite(b.p, 1, b.n, r->c->out);
	r->n++;
	r->errors |= str_eq(severity, STR("error"));
}

static void PRINTF(4, 5)
	find(struct report *r, enum severity severity, const char *name, const char *fmt, ...)
{
	char message[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	put(r, str_c(severities[severity]), str_c(name), str_c(message));
}

static void check_listeners(struct report *r, const struct config *cfg)
{
	for (size_t i = 0; i < cfg->nlisteners; i++) {
		const struct config_listener *l = &cfg->listeners[i];
		const char *fixed = setup_fixed_caller(l, &r->arena);

		if (fixed)
			find(r, WARNING, "fixed_caller", "%s", fixed);
		if (!l->tls && !l->unix_socket && !l->loopback)
			find(r, ERROR, "plaintext_listener",
			     "listen.%s (%s): plaintext beyond loopback; anyone on the way can "
			     "read and change decisions",
			     config_door_names[l->door], l->address);
	}
}

static void check_callers(struct report *r, const struct config *cfg)
{
	for (size_t i = 0; i < cfg->ncallers; i++) {
		const struct config_caller *caller = &cfg->callers[i];

		if (caller->spiffe_id && strchr(caller->spiffe_id, '*') &&
		    caller->roles & (ROLE_ADMIN | ROLE_APPROVER))
			find(r, WARNING, "wide_role",
			     "callers: the pattern %s gives %s to every ID it matches; name each "
			     "one",
			     caller->spiffe_id, caller->roles & ROLE_ADMIN ? "admin" : "approver");
	}
}

static void check_settings(struct report *r, const struct config *cfg)
{
	const struct {
		const char *name;
		int64_t value, longest;
		const char *why;
	} times[] = {
		{ "ttl.x509", cfg->ttl.x509_s, X509_TTL_LONG, "a stolen X.509-SVID" },
		{ "ttl.jwt", cfg->ttl.jwt_s, JWT_TTL_LONG, "a stolen JWT-SVID" },
		{ "ttl.join_token", cfg->ttl.join_token_s, JOIN_TOKEN_LONG, "a leaked join token" },
		{ "ttl.leeway", cfg->ttl.leeway_s, LEEWAY_LONG, "an expired token" },
	};

	if (!cfg->file)
		find(r, INFO, "no_config", "no configuration file: everything is at its default");
	if (!cfg->policies.watch)
		find(r, INFO, "policies_not_watched",
		     "policies.watch is off: a change of %s has no effect until the next start",
		     cfg->policies.dir);
	if (cfg->log_level == LOG_DEBUG)
		find(r, INFO, "debug_log", "log_level is debug: the log grows with every request");
	for (size_t i = 0; i < ARRAY_LEN(times); i++)
		if (times[i].value > times[i].longest)
			find(r, WARNING, "long_lifetime", "%s is %lld s: %s works for that long",
			     times[i].name, (long long)times[i].value, times[i].why);
}

struct changed {
	struct report *r;
};

/* Limits and rates bound what a stranger can cost us: any other value is worth a line. */
static void each_changed(void *ctx, const char *name, bool restart)
{
	struct changed *ch = ctx;

	(void)restart;
	if (strncmp(name, "limits.", strlen("limits.")) == 0)
		find(ch->r, INFO, "changed_limit", "%s is not at its default", name);
}

static void check_limits(struct report *r, const struct config *cfg)
{
	struct changed ch = { r };
	AUTO_CONFIG *defaults = NULL;
	struct err e = { 0 };

	if (config_parse(STR(""), "defaults", cfg->base, &defaults, &e))
		config_diff(defaults, cfg, each_changed, &ch);
}

/* @forbidden: bits that @path must not have. Absent is fine. */
static void check_mode(struct report *r, const char *path, mode_t forbidden, const char *what)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return;
	if (S_ISLNK(st.st_mode))
		find(r, WARNING, "loose_file", "%s is a symbolic link; %s", path, what);
	else if (st.st_mode & forbidden)
		find(r, ERROR, "loose_file", "%s has mode %04o: %s; chmod %s %s", path,
		     (unsigned)(st.st_mode & 07777), what, forbidden & 044 ? "go-rwx" : "go-w",
		     path);
	if (st.st_uid != geteuid() && st.st_uid != 0 && geteuid() == 0)
		find(r, WARNING, "foreign_file", "%s belongs to uid %u", path, (unsigned)st.st_uid);
}

static void check_folder(struct report *r, const struct config *cfg)
{
	static const struct {
		const char *name;
		mode_t forbidden;
		const char *what;
	} files[] = {
		{ "", 0022, "others could replace what is in it" },
		{ "/keys", 0077, "others could reach the keys" },
		{ "/keys/x509.key", 0077, "others could mint any identity" },
		{ "/keys/jwt.key", 0077, "others could mint any token" },
		{ "/keys/log.key", 0077, "others could sign another history" },
		{ "/keys/log-next.key", 0077, "others could sign another history" },
		{ "/keys/storage.key", 0077, "others could open the sealed keys" },
		{ "/writ.db", 0077, "others could read or change the registry" },
		{ "/log.db", 0077, "others could read or change the log" },
		{ "/index.db", 0077, "others could read what agents asked" },
		{ "/bundle.pem", 0022, "others could make agents trust them" },
		{ "/last-checkpoint", 0022, "others could hide a cut of the log" },
	};
	char path[4200];

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s%s", cfg->data, files[i].name);
		check_mode(r, path, files[i].forbidden, files[i].what);
	}
	if (cfg->file)
		check_mode(r, cfg->file, 0022, "others could change the configuration");
	check_mode(r, cfg->policies.dir, 0022, "others could change the policies");
}

/* What the server says of itself. No server is a finding, not a failure. */
static void ask_server(struct report *r)
{
	struct client_request q = { .method = "GET", .path = "/v1/doctor" };
	const struct json *findings;
	struct client_reply reply = { 0 };
	struct api api;
	struct err e = { 0 };
	struct arena a;
	const struct json *v = NULL;

	arena_init(&a, &mem_system, CLIENT_BODY);
	if (!api_open(r->c, API_ADMIN, &api, &e) ||
	    !client_ask(&api.target, &api.tls, &q, &reply, &e) ||
	    !json_parse(buf_str(&reply.body), &json_default_limits, &a, &v, &e))
		find(r, INFO, "server_not_asked", "%s", e.msg);
	findings = json_get_type(v, STR("findings"), JSON_ARRAY);
	for (uint32_t i = 0; findings && i < findings->n; i++) {
		const struct json *f = &findings->items[i];
		const struct json *severity = json_get_type(f, STR("severity"), JSON_STRING);
		const struct json *name = json_get_type(f, STR("name"), JSON_STRING);
		const struct json *message = json_get_type(f, STR("message"), JSON_STRING);

		if (name && message)
			put(r, severity ? severity->s : STR("warning"), name->s, message->s);
	}
	arena_clear(&a);
	client_reply_clear(&reply);
}

/* ---- a proxy's configuration ---- */

static void found_in_envoy(void *ctx, const struct envoy_finding *f)
{
	put(ctx, str_c(f->severity), str_c(f->name), str_c(f->message));
}

static void check_envoy(struct report *r, const char *path, const struct config *cfg)
{
	const struct json *root = NULL;
	struct err e = { 0 };
	AUTO_BUF text;

	buf_init(&text, mem_system, YAML_BYTES_MAX + 1);
	if (!api_read_file(path, YAML_BYTES_MAX, &text, &e))
		find(r, ERROR, "envoy_unreadable", "%s", e.msg);
	else if (!yaml_read(buf_str(&text), &r->arena, &root, &e))
		find(r, ERROR, "envoy_unreadable", "%s: %s", path, e.msg);
	else
		doctor_envoy(root, cfg->limits.body, found_in_envoy, r);
}

int run_doctor(struct cli *c)
{
	const char *envoy = cli_value(c, "--envoy");
	struct report r = { .c = c };
	AUTO_CONFIG *cfg = NULL;
	struct err e = { 0 };

	arena_init(&r.arena, &mem_system, FINDINGS_BYTES);
	if (c->json)
		fprintf(c->out, "{\"findings\":[");
	if (!api_config(c, &cfg, &e)) {
		find(&r, ERROR, "bad_config", "%s", e.msg);
	} else if (envoy) {
		check_envoy(&r, envoy, cfg);
	} else {
		check_listeners(&r, cfg);
		check_callers(&r, cfg);
		check_settings(&r, cfg);
		check_limits(&r, cfg);
		check_folder(&r, cfg);
		ask_server(&r);
	}
	if (c->json)
		fprintf(c->out, "]}\n");
	else if (r.n == 0)
		fprintf(c->out, "nothing is weakened\n");
	arena_clear(&r.arena);
	return r.errors ? CLI_FAILED : CLI_DONE;
}
