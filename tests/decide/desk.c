#include "tests/decide/desk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the standard headers first */
#include <cmocka.h>

#include "tests/spiffe/forge.h"

/* One byte through the pipe for each time the control thread gives up writ.db. */
static void db_is_lost(void *ctx, const struct err *e)
{
	const struct desk *d = ctx;

	assert_int_equal(e->class, ERR_IO);
	assert_int_equal(write(d->lost[1], "!", 1), 1);
}

static void open_control(struct desk *d)
{
	struct control_config c = { .core = &d->rig.core,
				    .db_path = d->db,
				    .policies = d->policies,
				    .limits = policy_default_limits,
				    .signer = d->signer,
				    .certificate = &d->certificate,
				    .fatal = db_is_lost,
				    .ctx = d };
	struct err e = { 0 };

	if (!control_open(&c, &d->control, &e))
		fail_msg("control_open: %s", e.msg);
}

void desk_reopen(struct desk *d)
{
	control_close(d->control);
	open_control(d);
}

void desk_open(struct desk *d)
{
	const char *base = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	struct signer_config c = { .folder = d->keys,
				   .trust_domain = STR("test.example"),
				   .channels = 64 };
	EVP_PKEY *key = forge_key("P-256");
	struct err e = { 0 };

	*d = (struct desk){ 0 };
	snprintf(d->dir, sizeof(d->dir), "%s/writ-desk-XXXXXX", base);
	assert_non_null(mkdtemp(d->dir));
	snprintf(d->db, sizeof(d->db), "%s/writ.db", d->dir);
	snprintf(d->keys, sizeof(d->keys), "%s/keys", d->dir);
	snprintf(d->policies, sizeof(d->policies), "%s/policies", d->dir);
	assert_int_equal(mkdir(d->policies, 0700), 0);
	if (!signer_start(&c, &d->signer, &e)) /* forks: before there are threads */
		fail_msg("signer_start: %s", e.msg);
	rig_start_with(&d->rig, &(struct rig_options){ .base = base,
						       .now_ms = clock_wall_ms(&clock_system),
						       .no_registry = true });
	slot_init(&d->certificate);
	d->spki = forge_spki(key);
	EVP_PKEY_free(key);
	open_control(d);
}

void desk_close(struct desk *d)
{
	char command[128];

	control_close(d->control);
	rig_stop(&d->rig);
	slot_clear(&d->certificate);
	signer_stop(d->signer);
	forge_free(d->spki);
	snprintf(command, sizeof(command), "rm -rf %s", d->dir);
	if (system(command)) /* NOLINT(cert-env33-c): a test's own folder */
		fail_msg("cannot remove %s", d->dir);
}

int desk_records(struct desk *d, uint64_t from, const char *one, const char *two)
{
	uint64_t size = rig_size(&d->rig);
	int n = 0;

	for (uint64_t seq = from; seq < size; seq++) {
		const char *leaf = rig_leaf(&d->rig, seq);

		n += strstr(leaf, one) && strstr(leaf, two);
	}
	return n;
}
