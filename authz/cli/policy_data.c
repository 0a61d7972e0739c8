#include "authz/cli/policy_data.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "authz/audit/read.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/policy/generations.h"

bool policy_data_open(const struct cli *c, struct policy_data *d, struct err *e)
{
	char path[4200];

	if (cli_value(c, "--server"))
		return err_code(
			e, ERR_INVALID, "wrong_usage",
			"this reads the data folder on this machine: name it with --config, "
			"not --server");
	if (!api_config(c, &d->config, e))
		return false;
	if (snprintf(path, sizeof(path), "%s/log.db", d->config->data) < (int)sizeof(path) &&
	    access(path, R_OK) != 0) {
		err_code(e, ERR_NOT_FOUND, "no_log",
			 "%s cannot be read: %s; run this as the server's user, on its machine, "
			 "and name its configuration with --config",
			 path, strerror(errno));
		policy_data_close(d);
		return false;
	}
	d->limits = (struct policy_limits){ d->config->limits.policy_instructions,
					    d->config->limits.policy_ms,
					    d->config->limits.policy_memory };
	return true;
}

void policy_data_close(struct policy_data *d)
{
	config_free(d->config);
	d->config = NULL;
}

static bool load_generation(const struct policy_data *d, uint64_t number,
			    struct policy_sources *out, struct err *e)
{
	const struct db_options o = { .read_only = true, .autocheckpoint = -1, .busy_ms = 1000 };
	struct generations *g = NULL;
	AUTO_DB *db = NULL;
	char path[4200];
	bool ok;

	if (snprintf(path, sizeof(path), "%s/writ.db", d->config->data) >= (int)sizeof(path))
		return err_set(e, ERR_INVALID, "the data folder's path is too long");
	ok = db_open(path, &o, &db, e) && generations_open(db, &g, e) &&
	     generations_load(g, number, out, e);
	generations_close(g);
	return ok;
}

bool policy_data_set(const struct policy_data *d, const char *text, struct policy_set **out,
		     char *what, size_t nwhat, struct err *e)
{
	struct policy_sources s;
	uint64_t number;
	bool ok;

	if (text_u64(str_c(text), INT64_MAX, &number) && number) {
		snprintf(what, nwhat, "generation %s", text);
		if (!load_generation(d, number, &s, e))
			return false;
	} else {
		number = 0;
		snprintf(what, nwhat, "the policies in %.200s", text);
		if (!policy_sources_read(&s, text, e))
			return false;
	}
	ok = policy_set_load(&s, &d->limits, out, NULL, e);
	policy_sources_clear(&s);
	if (ok)
		(*out)->generation = number;
	return ok;
}

/* The last line of a note: dash, name, base64 of key id and signature. */
static bool note_key_id(struct str note, uint8_t id[static 4])
{
	struct str rest = note, line = { NULL, 0 }, dash, name, text;
	uint8_t raw[256];
	size_t n;

	while (str_cut(rest, '\n', &line, &rest) && rest.n)
		;
	if (!str_cut(line, ' ', &dash, &text) || !str_cut(text, ' ', &name, &text) ||
	    text.n > 128 || !text_unbase64(text, BASE64_STD, raw, &n) || n < 4)
		return false;
	memcpy(id, raw, 4);
	return true;
}

void policy_data_key_id(const struct policy_data *d, char out[static 9])
{
	struct audit_reader *r = NULL;
	struct tree_range range;
	struct err e = { 0 };
	bool found = false;
	uint8_t id[4];
	AUTO_BUF note;

	buf_init(&note, mem_system, 65536);
	out[0] = '\0';
	if (audit_reader_open(d->config->data, &mem_system, &r, &e) &&
	    /* Ids are by the log's first key, and that signed the oldest checkpoint. */
	    audit_reader_checkpoint(r, 1, &note, &range, &found, &e) && found &&
	    note_key_id(buf_str(&note), id)) {
		text_hex(id, sizeof(id), out);
		out[8] = '\0';
	}
	audit_reader_close(r);
}
