/*
 * The log's key, between the log and the signer. The signer has no files, so the key that follows
 * lies in keys/log-next.key, sealed, and takes log.key's place here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/base/log.h"
#include "authz/decide/log_key.h"
#include "authz/serving.h"
#include "authz/store/file.h"

static bool ask(struct serving *s, struct signer_job job, uint8_t signature[static 64],
		struct err *e)
{
	AUTO_BUF out;

	buf_init(&out, mem_system, 64);
	job.out = &out;
	if (!signer_call(s->log_signer, &job, e))
		return false;
	if (out.n != 64)
		return err_set(e, ERR_INTERNAL, "the signer gave %zu bytes for a signature", out.n);
	memcpy(signature, out.p, 64);
	return true;
}

bool log_key_sign(void *serving, struct str text, uint8_t signature[static 64], struct err *e)
{
	struct signer_job job = { .op = SIGNER_CHECKPOINT, .checkpoint = text };

	return ask(serving, job, signature, e);
}

bool log_key_hand_over(void *serving, uint64_t size, uint8_t signature[static 64], struct err *e)
{
	struct signer_job job = { .op = SIGNER_HAND_OVER, .hand_over = size };

	return ask(serving, job, signature, e);
}

/* @size 0: the next one goes, and the old one stays. */
static bool move_file(int keys, uint64_t size, struct err *e)
{
	int failed = size ? renameat(keys, LOG_NEXT_KEY_FILE, keys, LOG_KEY_FILE)
			  : unlinkat(keys, LOG_NEXT_KEY_FILE, 0);

	if (failed)
		return err_set(e, ERR_IO, "keys/" LOG_NEXT_KEY_FILE ": %s", strerror(errno));
	return file_sync_folder(keys, e);
}

bool log_key_switch(void *serving, uint64_t size, struct err *e)
{
	struct serving *s = serving;
	AUTO_BUF none;
	struct signer_job job = { .op = SIGNER_SWITCH_LOG_KEY, .hand_over = size, .out = &none };
	char *path = folder_path(&s->folder, "keys");
	int keys = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct err why = { 0 };
	bool moved = keys >= 0 ? move_file(keys, size, &why)
			       : err_set(&why, ERR_IO, "the folder of keys cannot be opened");

	buf_init(&none, mem_system, 64);
	free(path);
	if (keys >= 0)
		close(keys);
	/* The next start moves it: the log says which of the two signs. */
	if (!moved)
		log_event(LOG_ERROR, "log_key.not_moved",
			  "why=\"%s\" next=\"the next start tries again\"", why.msg);
	return !size || signer_call(s->log_signer, &job, e);
}
