/* The files of a set: from a folder or from memory, bounded, in order of path, with their hash. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/digest.h"
#include "authz/policy/policy.h"

#define FILES_MAX 4096
#define FILE_BYTES_MAX (256 * 1024)
#define ALL_BYTES_MAX (32 * 1024 * 1024)
#define DEPTH_MAX 4
#define PATH_BYTES_MAX 512
#define ENTRIES_MAX 65536 /* looked at in all folders, whatever their names */

static int compare(const void *pa, const void *pb)
{
	return str_cmp(((const struct policy_file *)pa)->path,
		       ((const struct policy_file *)pb)->path);
}

static bool seal(struct policy_sources *s, struct err *e)
{
	struct sha256 *h = sha256_new(e);
	struct str *parts;
	uint8_t *digests;

	if (!h)
		return false;
	if (s->n)
		qsort(s->files, s->n, sizeof(*s->files), compare);
	parts = arena_alloc(&s->arena, (3 * s->n + 1) * sizeof(*parts));
	digests = arena_alloc(&s->arena, s->n * SHA256_LEN);
	if (!parts || !digests) {
		sha256_free(h);
		return err_set(e, ERR_NOMEM, "no memory for the policy files");
	}
	/* Over path NUL digest: neither part can run into the other. */
	for (size_t i = 0; i < s->n; i++) {
		uint8_t *digest = digests + i * SHA256_LEN;

		sha256_of(h, s->files[i].text, digest);
		parts[3 * i] = s->files[i].path;
		parts[3 * i + 1] = (struct str){ "", 1 };
		parts[3 * i + 2] = (struct str){ (const char *)digest, SHA256_LEN };
	}
	sha256_parts(h, parts, 3 * s->n, s->hash);
	sha256_free(h);
	return true;
}

static bool add(struct policy_sources *s, struct str path, struct str text, struct err *e)
{
	struct policy_file *f;

	if (s->n >= FILES_MAX)
		return err_set(e, ERR_TOO_LARGE, "more than %d policy files", FILES_MAX);
	if (!s->files)
		s->files = arena_alloc(&s->arena, FILES_MAX * sizeof(*s->files));
	if (!s->files)
		return err_set(e, ERR_NOMEM, "no memory for the policy files");
	f = &s->files[s->n];
	*f = (struct policy_file){ arena_dup(&s->arena, path), text };
	if (!f->path.p)
		return err_set(e, ERR_TOO_LARGE, "the policy files are larger than %d MiB together",
			       ALL_BYTES_MAX / (1024 * 1024));
	s->n++;
	return true;
}

static bool read_file(struct policy_sources *s, int dir, const char *name, const char *path,
		      struct err *e)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	ssize_t got = 0;
	size_t n = 0;
	char *text;

	if (fd < 0 || fstat(fd, &st) != 0) {
		if (fd >= 0)
			close(fd);
		return err_set(e, ERR_IO, "policy file %s cannot be read: %s", path,
			       errno == ELOOP ? "it is a symbolic link" : strerror(errno));
	}
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX) {
		close(fd);
		return err_set(e, ERR_INVALID,
			       S_ISREG(st.st_mode) ? "policy file %s is larger than 256 KiB"
						   : "policy file %s is not a regular file",
			       path);
	}
	/* One byte more than it had: a file that grows meanwhile is seen. */
	text = arena_alloc(&s->arena, (size_t)st.st_size + 1);
	while (text && n <= (size_t)st.st_size) {
		got = read(fd, text + n, (size_t)st.st_size + 1 - n);
		if (got <= 0 && !(got < 0 && errno == EINTR))
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	close(fd);
	if (!text)
		return err_set(e, ERR_TOO_LARGE, "the policy files are larger than %d MiB together",
			       ALL_BYTES_MAX / (1024 * 1024));
	if (got < 0)
		return err_set(e, ERR_IO, "policy file %s cannot be read: %s", path,
			       strerror(errno));
	if (n > (size_t)st.st_size)
		return err_set(e, ERR_CONFLICT,
			       "policy file %s changed while it was read; try again", path);
	return add(s, str_c(path), (struct str){ text, n }, e);
}

static bool read_folder(struct policy_sources *s, int fd, const char *prefix, int depth,
			size_t *entries, struct err *e)
{
	DIR *dir = fdopendir(fd);
	bool ok = true;

	if (!dir) {
		close(fd);
		return err_set(e, ERR_IO, "folder %s cannot be read: %s", prefix, strerror(errno));
	}
	for (struct dirent *d; ok && (d = readdir(dir));) { /* NOLINT: the stream is our own */
		char path[PATH_BYTES_MAX];
		struct stat st;
		int n = snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "/" : "",
				 d->d_name);

		if (++*entries > ENTRIES_MAX)
			ok = err_set(e, ERR_TOO_LARGE,
				     "the policies folder has more than %d entries", ENTRIES_MAX);
		if (!ok || d->d_name[0] == '.' ||
		    fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (n < 0 || (size_t)n >= sizeof(path)) {
			ok = err_set(e, ERR_TOO_LARGE, "a path below the policies is too long");
		} else if (S_ISDIR(st.st_mode)) {
			int sub = depth < DEPTH_MAX
					  ? openat(dirfd(dir), d->d_name,
						   O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
					  : -1;

			if (depth >= DEPTH_MAX)
				ok = err_set(
					e, ERR_INVALID,
					"folder %s is nested more than %d deep; policies below "
					"it would be lost",
					path, DEPTH_MAX);
			else if (sub < 0)
				ok = err_set(e, ERR_IO, "folder %s cannot be read: %s", path,
					     strerror(errno));
			else
				ok = read_folder(s, sub, path, depth + 1, entries, e);
		} else if (str_ends(str_c(d->d_name), STR(".lua"))) {
			ok = read_file(s, dirfd(dir), d->d_name, path, e);
		}
	}
	closedir(dir);
	return ok;
}

/* A set may have a signature; one that is there and cannot be read is no set without one. */
static bool read_signature(struct policy_sources *s, int dir, struct err *e)
{
	int fd = openat(dir, POLICY_SIGNATURE_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char *text = arena_alloc(&s->arena, POLICY_SIGNATURE_MAX + 1);
	struct stat st;
	ssize_t n = -1;

	if (fd < 0 && errno == ENOENT)
		return true;
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && text)
		n = read(fd, text, POLICY_SIGNATURE_MAX + 1);
	if (fd >= 0)
		close(fd);
	if (n < 0 || n > POLICY_SIGNATURE_MAX)
		return err_set(e, ERR_INVALID,
			       POLICY_SIGNATURE_FILE
			       " cannot be read: expected a regular file of at most %d bytes",
			       POLICY_SIGNATURE_MAX);
	s->signature = (struct str){ text, (size_t)n };
	return true;
}

bool policy_sources_read(struct policy_sources *s, const char *dir, struct err *e)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct policy_sources made = { 0 };
	size_t entries = 0;

	if (fd < 0)
		return err_set(e, ERR_IO, "the policies folder %s cannot be read: %s", dir,
			       strerror(errno));
	arena_init(&made.arena, &mem_system, ALL_BYTES_MAX);
	if (!read_signature(&made, fd, e)) {
		close(fd);
		policy_sources_clear(&made);
		return false;
	}
	if (!read_folder(&made, fd, "", 1, &entries, e) || !seal(&made, e)) {
		policy_sources_clear(&made);
		return false;
	}
	*s = made;
	return true;
}

bool policy_sources_from(struct policy_sources *s, const struct policy_file *files, size_t n,
			 struct err *e)
{
	struct policy_sources made = { 0 };
	bool ok = true;

	arena_init(&made.arena, &mem_system, ALL_BYTES_MAX);
	for (size_t i = 0; ok && i < n; i++) {
		struct str text = arena_dup(&made.arena, files[i].text);

		if (files[i].text.n > FILE_BYTES_MAX)
			ok = err_set(e, ERR_TOO_LARGE, "policy file %.*s is larger than 256 KiB",
				     STR_FMT(files[i].path));
		else if (!text.p)
			ok = err_set(e, ERR_TOO_LARGE,
				     "the policy files are larger than %d MiB together",
				     ALL_BYTES_MAX / (1024 * 1024));
		else
			ok = add(&made, files[i].path, text, e);
	}
	ok = ok && seal(&made, e);
	for (size_t i = 1; ok && i < made.n; i++)
		if (str_eq(made.files[i - 1].path, made.files[i].path))
			ok = err_set(e, ERR_INVALID, "policy file %.*s is there twice",
				     STR_FMT(made.files[i].path));
	if (!ok) {
		policy_sources_clear(&made);
		return false;
	}
	*s = made;
	return true;
}

void policy_sources_clear(struct policy_sources *s)
{
	if (s->arena.alloc)
		arena_clear(&s->arena);
	*s = (struct policy_sources){ 0 };
}
