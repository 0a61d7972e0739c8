#include "tests/spiffe/softhsm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#include "tests/fault/tmp_dir.h"

int softhsm_make(void **state)
{
	FILE *f;

	if (tmp_dir_make(state) != 0)
		return -1;
	if (mkdir(tmp_dir_path(state, "tokens"), 0700) != 0)
		return -1;
	f = fopen(tmp_dir_path(state, "softhsm2.conf"), "we");
	if (!f)
		return -1;
	fprintf(f, "directories.tokendir = %s\nlog.level = ERROR\n", tmp_dir_path(state, "tokens"));
	fclose(f);
	return setenv("SOFTHSM2_CONF", tmp_dir_path(state, "softhsm2.conf"), 1);
}

int softhsm_remove(void **state)
{
	unsetenv("SOFTHSM2_CONF");
	return tmp_dir_remove(state);
}

void softhsm_token(const char *label)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "softhsm2-util --init-token --free --label %s --so-pin 12345678 --pin " SOFTHSM_PIN
		 " >/dev/null",
		 label);
	/* NOLINTNEXTLINE(cert-env33-c): our own words */
	if (system(command) != 0)
		fail_msg("%s", command);
}
