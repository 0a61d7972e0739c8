#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <dirent.h>
#include <unistd.h>

#include "tests/spiffe/folder.h"
#include "tests/spiffe/forge.h"

char base[64], folder[96];

void path_of(const char *name, char out[static 160])
{
	snprintf(out, 160, "%s/%s", folder, name);
}

int fresh_folder(void **state)
{
	(void)state;
	snprintf(base, sizeof(base), "/tmp/test_signer_XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(folder, sizeof(folder), "%s/keys", base);
	return 0;
}

void remove_tree(const char *path)
{
	DIR *d = opendir(path);
	const struct dirent *entry;
	char below[400];

	while (d && (entry = readdir(d))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
		if (unlink(below) != 0)
			remove_tree(below);
	}
	if (d)
		closedir(d);
	rmdir(path);
}

int drop_folder(void **state)
{
	(void)state;
	remove_tree(base);
	return 0;
}

bool open_keys(const char *trust_domain, struct signer_keys *k, struct err *e)
{
	return signer_keys_open(folder, str_c(trust_domain), FORGE_NOW, 365 * 86400, NULL, k, e);
}

void made(void)
{
	struct signer_keys k;
	struct err e = { 0 };

	if (!open_keys("a.example", &k, &e))
		fail_msg("%s", e.msg);
	signer_keys_clear(&k);
}
