#include "authz/cli/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/cli/print.h"

#define ANSWER_ARENA (64 * 1024 * 1024)

/* Lists of agents and records are longer than what a request may hold. */
static const struct json_limits answer_limits = {
	.string = 1024 * 1024, .depth = 64, .members = 4096, .values = 1024 * 1024
};

bool api_config(const struct cli *c, struct config **out, struct err *e)
{
	return config_load(config_choose(cli_value(c, "--config"), getenv("WRIT_CONFIG")), out, e);
}

static const struct config_listener *listener(const struct config *cfg, enum config_door door)
{
	for (size_t i = 0; i < cfg->nlisteners; i++)
		if (cfg->listeners[i].door == door)
			return &cfg->listeners[i];
	return NULL;
}

static bool no_listener(const char *door, struct err *e)
{
	return err_code(e, ERR_NOT_FOUND, "no_listener",
			"the configuration has no listener `%s`; name the server with --server",
			door);
}

static bool target_of(const struct config_listener *l, struct target *t, struct err *e)
{
	struct str address = str_c(l->address), host, port;
	char url[600];

	if (l->unix_socket)
		snprintf(url, sizeof(url), "unix:%s", l->address);
	else if (str_starts(address, STR("0.0.0.0:")) && str_cut(address, ':', &host, &port))
		snprintf(url, sizeof(url), "%s://127.0.0.1:%.*s", l->tls ? "https" : "http",
			 STR_FMT(port));
	else if (str_starts(address, STR("[::]:")))
		snprintf(url, sizeof(url), "%s://[::1]:%s", l->tls ? "https" : "http",
			 address.p + strlen("[::]:"));
	else
		snprintf(url, sizeof(url), "%s://%s", l->tls ? "https" : "http", l->address);
	return target_parse(url, t, e);
}

static bool target_by_config(const struct cli *c, enum api_door door, struct api *api,
			     struct err *e)
{
	AUTO_CONFIG *cfg = NULL;
	const struct config_listener *l = NULL;

	if (!api_config(c, &cfg, e))
		return false;
	api->no_file = !cfg->file;
	snprintf(api->bundle, sizeof(api->bundle), "%s/bundle.pem", cfg->data);
	if (door == API_ADMIN) {
		l = listener(cfg, DOOR_ADMIN);
		return l ? target_of(l, &api->target, e) : no_listener("admin", e);
	}
	if (door == API_AGENTS)
		l = listener(cfg, DOOR_HTTP);
	if (!l)
		l = listener(cfg, DOOR_HTTPS);
	return l ? target_of(l, &api->target, e)
		 : no_listener(door == API_TLS ? "https" : "http", e);
}

bool api_open(const struct cli *c, enum api_door door, struct api *api, struct err *e)
{
	const char *server = cli_value(c, "--server");

	memset(api, 0, sizeof(*api));
	if (!(server ? target_parse(server, &api->target, e) : target_by_config(c, door, api, e)))
		return false;
	api->tls.svid = cli_value(c, "--svid");
	api->tls.key = cli_value(c, "--key");
	api->tls.bundle = cli_value(c, "--bundle");
	if (!api->tls.svid != !api->tls.key)
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--svid and --key belong together: the certificate and its key");
	if (!api->tls.bundle && api->bundle[0])
		api->tls.bundle = api->bundle;
	return true;
}

/* The server's own error object is worth more to a program than our words about it. */
static int refused(struct cli *c, const struct answer *a, const struct err *e)
{
	if (!c->json || a->reply.status < 300 || !json_get(a->value, STR("error")))
		return cli_fail(c, e);
	fprintf(c->err, "%.*s\n", STR_FMT(a->value->raw));
	return CLI_FAILED;
}

bool api_ask(struct cli *c, const struct api *api, const struct client_request *q, bool json,
	     struct answer *a, int *exit_code)
{
	struct err e = { 0 }, bad = { 0 };
	bool ok, parsed = false;

	memset(a, 0, sizeof(*a));
	arena_init(&a->arena, &mem_system, ANSWER_ARENA);
	ok = client_ask(&api->target, &api->tls, q, &a->reply, &e);
	if (!ok && api->no_file && e.code && strcmp(e.code, "no_server") == 0)
		err_prefix(&e, "there is no writ.lua here, and neither --config nor $WRIT_CONFIG "
			       "names one");
	if (a->reply.json || json)
		parsed = json_parse(buf_str(&a->reply.body), &answer_limits, &a->arena, &a->value,
				    &bad);
	if (!ok) {
		*exit_code = refused(c, a, &e);
		return false;
	}
	if (json && (!parsed || a->value->type != JSON_OBJECT)) {
		err_code(&e, ERR_INTERNAL, "bad_response",
			 "the server's answer is no JSON object (%.200s); is this address writ's?",
			 parsed ? "it is another value" : bad.msg);
		*exit_code = cli_fail(c, &e);
		return false;
	}
	return true;
}

bool api_call(struct cli *c, enum api_door door, const char *method, const char *path,
	      struct str body, struct answer *a, int *exit_code)
{
	struct client_request q = { .method = method, .path = path, .body = body };
	struct api api;
	struct err e = { 0 };

	memset(a, 0, sizeof(*a));
	if (!api_open(c, door, &api, &e)) {
		*exit_code = cli_fail(c, &e);
		return false;
	}
	return api_ask(c, &api, &q, true, a, exit_code);
}

void answer_clear(struct answer *a)
{
	client_reply_clear(&a->reply);
	if (a->arena.alloc)
		arena_clear(&a->arena);
}

void answer_print(const struct cli *c, const struct answer *a)
{
	fwrite(a->value->raw.p, 1, a->value->raw.n, c->out);
	fputc('\n', c->out);
}

void answer_show(const struct cli *c, const struct answer *a)
{
	if (c->json)
		answer_print(c, a);
	else
		print_object(c->out, a->value);
}

int64_t answer_number(const struct json *v, const char *name)
{
	const struct json *n = json_get_type(v, str_c(name), JSON_INT);

	return n ? n->i : 0;
}

struct str answer_text(const struct json *v, const char *name)
{
	const struct json *t = json_get_type(v, str_c(name), JSON_STRING);

	return t ? t->s : (struct str){ "", 0 };
}

bool answer_flag(const struct json *v, const char *name)
{
	const struct json *b = json_get_type(v, str_c(name), JSON_BOOL);

	return b && b->b;
}
