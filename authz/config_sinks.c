/* audit.sinks: where records are sent on. */
#include "authz/audit/sink.h"
#include "authz/base/text.h"
#include "authz/config_table.h"

static const char *const members[] = { "name",	  "type",      "format",      "path",
				       "address", "url",       "secret_file", "token_file",
				       "ca_file", "cert_file", "key_file",    NULL };

/* Which members a type needs and takes, and the format it has if none is named. */
static const struct {
	const char *target; /* the member that says where to; NULL: none */
	bool secret, token;
	const char *format;
} types[SINK_TYPES] = {
	[SINK_FILE] = { "path", false, false, "jsonl" },
	[SINK_STDOUT] = { NULL, false, false, "jsonl" },
	[SINK_SYSLOG] = { "address", false, false, "cef" },
	[SINK_WEBHOOK] = { "url", true, true, "cloudevents" },
	[SINK_OTLP] = { "url", false, true, "otlp" },
};

/* As it was written; judged when all of it is known. */
struct draft {
	const char *name, *type, *format;
	const char *path, *address, *url, *secret_file, *token_file;
	const char *ca_file, *cert_file, *key_file; /* of TLS */
};

static bool read_member(struct config_reader *r, const char *path, const char *name, void *draft)
{
	struct draft *d = draft;
	const struct {
		const char *name;
		const char **to;
		size_t max;
		bool file;
	} known[] = {
		{ "name", &d->name, SINK_NAME_MAX, false },
		{ "type", &d->type, 16, false },
		{ "format", &d->format, 16, false },
		{ "path", &d->path, 4096, true },
		{ "address", &d->address, 300, false },
		{ "url", &d->url, 2048, false },
		{ "secret_file", &d->secret_file, 4096, true },
		{ "token_file", &d->token_file, 4096, true },
		{ "ca_file", &d->ca_file, 4096, true },
		{ "cert_file", &d->cert_file, 4096, true },
		{ "key_file", &d->key_file, 4096, true },
	};
	const char *text;

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strcmp(name, known[i].name) != 0)
			continue;
		text = config_string(r, path, 1, known[i].max);
		if (text && known[i].file)
			text = config_path(r, text);
		*known[i].to = text;
		return text != NULL;
	}
	return config_no_member(r, path, name, members);
}

static bool check_name(struct config_reader *r, const char *path, const struct draft *d)
{
	if (!d->name)
		return config_fail(r, path, "name is missing: its cursor is kept under it");
	if (strspn(d->name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(d->name))
		return config_fail(r, path, "\"%s\": a name has small letters, digits and \"-\"",
				   d->name);
	return true;
}

static bool check_type(struct config_reader *r, const char *path, const struct draft *d,
		       struct sink_settings *s)
{
	const char *near;
	size_t i = 0;

	if (!d->type)
		return config_fail(r, path,
				   "type is missing: file, stdout, syslog, webhook or otlp");
	while (i < SINK_TYPES && strcmp(d->type, sink_type_names[i]) != 0)
		i++;
	near = i < SINK_TYPES ? NULL : text_nearest(str_c(d->type), sink_type_names);
	if (i == SINK_TYPES)
		return config_fail(
			r, path,
			"\"%s\" is no type of sink%s%s%s (file, stdout, syslog, webhook, "
			"otlp)",
			d->type, near ? "; did you mean \"" : "", near ? near : "",
			near ? "\"?" : "");
	s->type = (enum sink_type)i;
	return true;
}

static bool check_format(struct config_reader *r, const char *path, const struct draft *d,
			 struct sink_settings *s)
{
	struct err e = { 0 };

	s->format = audit_format_find_endless(str_c(d->format ? d->format : types[s->type].format),
					      &e);
	if (!s->format)
		return config_fail(r, path, "%s", e.msg);
	if (s->type == SINK_OTLP && s->format != &format_otlp)
		return config_fail(r, path, "a sink of type otlp has format otlp, not %s",
				   d->format);
	return true;
}

/* Members of another type would be a silent nothing. */
static bool check_members(struct config_reader *r, const char *path, const struct draft *d,
			  const struct sink_settings *s)
{
	const struct {
		const char *name, *value;
		bool wanted, needed;
	} rows[] = {
		{ "path", d->path, s->type == SINK_FILE, true },
		{ "address", d->address, s->type == SINK_SYSLOG, true },
		{ "url", d->url, types[s->type].target && strcmp(types[s->type].target, "url") == 0,
		  true },
		{ "secret_file", d->secret_file, types[s->type].secret, true },
		{ "token_file", d->token_file, types[s->type].token, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].value && !rows[i].wanted)
			return config_fail(r, path, "a sink of type %s has no %s",
					   sink_type_names[s->type], rows[i].name);
		if (!rows[i].value && rows[i].wanted && rows[i].needed)
			return config_fail(r, path, "%s is missing: a sink of type %s needs it",
					   rows[i].name, sink_type_names[s->type]);
	}
	return true;
}

static bool check_tls(struct config_reader *r, const char *path, const struct draft *d)
{
	bool tls = d->address && str_starts(str_c(d->address), STR("tls:"));

	if (!tls && (d->ca_file || d->cert_file || d->key_file))
		return config_fail(
			r, path,
			"ca_file, cert_file and key_file are for an address with \"tls:\"");
	if (!d->cert_file != !d->key_file)
		return config_fail(r, path, "%s is missing: a certificate needs its key",
				   d->cert_file ? "key_file" : "cert_file");
	return true;
}

/* Two sinks of one name would share a cursor, and each get a part. */
static bool check_twice(struct config_reader *r, const char *path,
			const struct sink_settings *items, size_t n)
{
	struct str name = str_c(items[n].name);

	for (size_t i = 0; i < n; i++)
		if (str_eq(name, str_c(items[i].name)))
			return config_fail(r, path, "a sink named %.*s is there already",
					   STR_FMT(name));
	return true;
}

static bool read_sink(struct config_reader *r, const char *path, size_t i, void *ctx)
{
	struct sink_settings *items = ctx, *s = &items[i];
	struct draft d = { 0 };
	struct err e = { 0 };

	if (!config_each_member(r, path, "a table, as { name = ..., type = ... }", read_member,
				&d) ||
	    !check_name(r, path, &d) || !check_type(r, path, &d, s) ||
	    !check_format(r, path, &d, s) || !check_members(r, path, &d, s) ||
	    !check_tls(r, path, &d))
		return false;
	s->name = d.name;
	s->target = d.path ? d.path : d.address ? d.address : d.url;
	s->secret_file = d.secret_file;
	s->token_file = d.token_file;
	s->ca_file = d.ca_file;
	s->cert_file = d.cert_file;
	s->key_file = d.key_file;
	if (s->target && !sink_target_ok(s->type, s->target, &e))
		return config_fail(r, path, "%s", e.msg);
	return check_twice(r, path, items, i);
}

bool config_read_sinks(struct config_reader *r, const struct setting *s)
{
	struct config_sinks *out = (struct config_sinks *)(void *)((char *)r->c + s->offset);
	struct sink_settings *items;
	size_t n;

	if (!config_read_rows(r, s, &n))
		return false;
	items = arena_zero(&r->c->arena, (n + 1) * sizeof(*items));
	if (!items)
		return err_set(r->e, ERR_NOMEM, "%s: no memory", r->name);
	*out = (struct config_sinks){ items, n };
	return config_each_row(r, s, n, read_sink, items);
}

void config_show_sinks(const struct config_sinks *l, struct buf *out)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct sink_settings *s = &l->items[i];

		buf_printf(out, "%s %s %s %s %s %s %s %s %s;", s->name, sink_type_names[s->type],
			   s->format->name, s->target ? s->target : "",
			   s->secret_file ? s->secret_file : "", s->token_file ? s->token_file : "",
			   s->ca_file ? s->ca_file : "", s->cert_file ? s->cert_file : "",
			   s->key_file ? s->key_file : "");
	}
}
