#include "authz/witnesses.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/audit/cosigned.h"
#include "authz/base/log.h"

#define ANSWER_MAX 65536

static bool post(void *ctx, const char *url, struct str body, const atomic_bool *stop,
		 struct fetch_reply *out, struct err *e)
{
	const struct config *c = ctx;
	static const char *const types[] = { "text/plain", COSIGN_SIZE_TYPE, NULL };
	const struct fetch f = { .url = str_c(url),
				 .types = types,
				 .body_max = ANSWER_MAX,
				 .post = body,
				 .post_type = "text/plain",
				 .private_ok = c->fetch.private_ok,
				 .ca_file = c->fetch.ca_file,
				 .stop = stop };

	return fetch_post(&f, out, e);
}

static void tell(void *ctx, const struct cosigner_report *r)
{
	(void)ctx;
	if (r->failed[0])
		log_event(LOG_WARN, "witness.failed",
			  "witness=%s code=%s why=\"%s\" effect=\"it is tried again\"", r->name,
			  r->code, r->failed);
	else
		log_event(LOG_INFO, "witness.back", "witness=%s size=%llu", r->name,
			  (unsigned long long)r->size);
}

static bool forget(const char *folder, struct arena *arena, struct err *e)
{
	struct str path = arena_printf(arena, "%s/" COSIGNED_FILE, folder);

	if (!path.p)
		return err_set(e, ERR_NOMEM, "no memory");
	if (unlink(path.p) != 0 && errno != ENOENT)
		return err_set(e, ERR_IO, "cannot remove %s: %s", path.p, strerror(errno));
	return true;
}

bool witnesses_start(struct config *c, const char *folder, struct audit *audit, struct arena *arena,
		     struct cosigner **out, struct err *e)
{
	const struct config_parties *from = &c->audit.witnesses;
	struct cosigner_witness *w = arena_zero(arena, (from->n + 1) * sizeof(*w));
	struct cosigner_config config = { .folder = folder,
					  .audit = audit,
					  .witnesses = w,
					  .n = from->n,
					  .interval_ms = c->audit.witness_ms,
					  .clock = &clock_system,
					  .post = post,
					  .tell = tell,
					  .ctx = c };

	*out = NULL;
	if (!w)
		return err_set(e, ERR_NOMEM, "no memory for the witnesses");
	if (!from->n)
		return forget(folder, arena, e);
	for (size_t i = 0; i < from->n; i++) {
		w[i].name = from->items[i].name;
		w[i].url = from->items[i].url;
		if (!note_key_parse_as(str_c(from->items[i].key), NOTE_COSIGNATURE, &w[i].key, e))
			return false;
	}
	return cosigner_open(&config, out, e) && cosigner_start(*out, e);
}

const struct witnessing_config *witnesses_of(const struct config *c,
					     const uint8_t public_key[static 32],
					     struct arena *arena, struct err *e)
{
	const struct config_parties *from = &c->witness.logs;
	struct witnessing_config *out = arena_zero(arena, sizeof(*out));
	struct witnessed_log *logs = arena_zero(arena, (from->n + 1) * sizeof(*logs));
	struct str name = arena_printf(arena, "%s/writ/witness", c->trust_domain);

	err_none(e);
	if (!from->n)
		return NULL;
	if (!out || !logs || !name.p) {
		err_set(e, ERR_NOMEM, "no memory for the witness");
		return NULL;
	}
	for (size_t i = 0; i < from->n; i++) {
		logs[i].origin = from->items[i].name;
		if (!note_key_parse(str_c(from->items[i].key), &logs[i].key, e))
			return NULL;
	}
	*out = (struct witnessing_config){ .logs = logs, .n = from->n, .name = name.p };
	memcpy(out->public_key, public_key, sizeof(out->public_key));
	return out;
}
