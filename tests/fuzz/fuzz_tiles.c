/*
 * A folder of tiles that somebody hostile made: a checkpoint, a tile and a bundle, cut out of the
 * input. It is never authentic; if all of it fits, the records were there.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/verify.h"

static char folder[64];

static void put(const char *name, const uint8_t *p, size_t n)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, p, n) != (ssize_t)n)
		abort();
	close(fd);
}

static void make_folders(void)
{
	static const char *const names[] = { "tile", "tile/0", "tile/1", "tile/entries" };
	const char *tmp = getenv("TMPDIR");
	char path[200];

	snprintf(folder, sizeof(folder), "%.30s/fuzz-tiles-%d",
		 access("/dev/shm", W_OK) ? tmp ? tmp : "/tmp" : "/dev/shm", (int)getpid());
	mkdir(folder, 0700);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		mkdir(path, 0700);
	}
}

static void remove_folders(void)
{
	static const char *const names[] = { "checkpoint",	 "tile/0/000",	 "tile/1/000",
					     "tile/entries/000", "tile/entries", "tile/1",
					     "tile/0",		 "tile",	 "" };
	char path[200];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		remove(path);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct verify_options o = { .at_least = 1 };
	struct verify_report r;
	size_t note, tile;
	struct err e;

	if (!folder[0]) {
		make_folders();
		atexit(remove_folders);
	}
	if (n < 4)
		return 0;
	note = ((size_t)p[0] << 8 | p[1]) % (n - 3);
	tile = ((size_t)p[2] << 8 | p[3]) % (n - 3 - note);
	p += 4;
	n -= 4;
	put("checkpoint", p, note);
	/* A full tile stands for any width. */
	put("tile/0/000", p + note, tile);
	put("tile/1/000", p + note, tile);
	put("tile/entries/000", p + note + tile, n - note - tile);
	if (!verify_tiles(folder, &o, &r, &e) || r.result == VERIFY_HOLDS ||
	    r.authenticity == VERDICT_YES)
		abort();
	if (r.result == VERIFY_UNAUTHENTICATED && (r.integrity != VERDICT_YES || !r.size))
		abort();
	return 0;
}
