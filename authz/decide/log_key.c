#include "authz/decide/log_key.h"

#include <errno.h>
#include <unistd.h>

#include "authz/base/log.h"
#include "authz/store/file.h"

#define ANSWER_MAX 16384

/* Nothing stands for it any more. Should it stay, the next start removes it. */
static void drop_next(struct control *c)
{
	const struct file_calls *calls = c->authorities->config.calls;

	if (!calls)
		calls = &file_system_calls;
	if (calls->unlinkat(c->authorities->keys, LOG_NEXT_KEY_FILE, 0) && errno != ENOENT)
		log_event(LOG_WARN, "key.undropped",
			  "file=\"keys/" LOG_NEXT_KEY_FILE "\" why=\"%s\"", strerror(errno));
}

bool log_key_rotate(struct control *c, struct str by, uint64_t *seq, struct err *e)
{
	AUTO_BUF answer;
	struct signer_job job = { .op = SIGNER_MAKE_LOG_KEY, .out = &answer };
	struct signer_made_log made;

	buf_init(&answer, mem_system, ANSWER_MAX);
	if (c->authorities->keys < 0)
		return err_set(e, ERR_UNAVAILABLE, "there is no folder to keep a new key in");
	if (!signer_call(c->signer, &job, e) || !signer_made_log_read(buf_str(&answer), &made, e))
		return false;
	if (!file_replace(c->authorities->config.calls, c->authorities->keys, LOG_NEXT_KEY_FILE,
			  made.sealed, 0600, e)) {
		drop_next(c);
		return err_prefix(e, "keys");
	}
	if (audit_rotate(c->core->audit, made.key, by, seq, e))
		return true;
	/* Once the log has it, the file is all that is left of it after a restart. */
	if (!str_eq(str_c(e->code), STR("rotation_unfinished")))
		drop_next(c);
	return false;
}
