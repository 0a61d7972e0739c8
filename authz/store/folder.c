/*
 * The order of opening: the folder itself, then the lock, then VERSION, then the rest. Nothing is
 * read before the lock is held, nothing but LOCK is written before VERSION is known to be ours. A
 * first start that dies half-way leaves a folder without VERSION, and with nothing else in it the
 * next start takes it as new.
 */
#include "authz/store/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "include/writ/words.h"

#define OTHERS_WRITE (S_IWGRP | S_IWOTH)
#define OTHERS_READ (S_IRGRP | S_IROTH)

/* Ours, and nobody else may change it (or, if secret, read it)? */
static bool check_mode(const struct stat *st, const char *shown, bool secret, struct err *e)
{
	mode_t loose = st->st_mode & (secret ? OTHERS_WRITE | OTHERS_READ : OTHERS_WRITE);

	if (st->st_uid != geteuid())
		return err_code(e, ERR_FORBIDDEN, "data_owner",
				"%s: belongs to user %u, but writ runs as user %u; run it as the "
				"owner, or chown it",
				shown, (unsigned)st->st_uid, (unsigned)geteuid());
	if (loose)
		return err_code(e, ERR_FORBIDDEN, "data_loose",
				"%s: other users may %s it (mode %04o); chmod %s it", shown,
				loose & OTHERS_WRITE ? "change" : "read",
				(unsigned)(st->st_mode & 07777), secret ? "go-rwx" : "go-w");
	return true;
}

bool folder_check_file(int dir, const char *name, const char *shown, bool secret, struct err *e)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW)) {
		if (errno == ENOENT)
			return true;
		return err_set(e, ERR_IO, "%s: %s", shown, strerror(errno));
	}
	if (!S_ISREG(st.st_mode))
		return err_code(e, ERR_FORBIDDEN, "data_loose", "%s: is not a regular file", shown);
	return check_mode(&st, shown, secret, e);
}

/* Make @name below @at if it is not there, and open it. A folder made here gets its mode against
 * the umask; one that was there must not be open to the writes of others. */
static int open_dir(int at, const char *name, const char *shown, mode_t mode, bool secret,
		    bool *created, struct err *e)
{
	struct stat st;
	int fd;

	*created = mkdirat(at, name, 0700) == 0;
	if (!*created && errno != EEXIST) {
		err_set(e, ERR_IO, "%s: cannot be made: %s", shown, strerror(errno));
		return -1;
	}
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || (*created && fchmod(fd, mode))) {
		err_set(e, ERR_IO, "%s: cannot be opened: %s", shown, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (!*created && !check_mode(&st, shown, secret, e)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* --- the lock --- */

/* Who holds the lock wrote its pid into it. */
static bool fail_locked(int fd, const char *path, struct err *e)
{
	char pid[24] = "";
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
	struct str text = { pid, n > 0 ? strcspn(pid, "\n") : 0 };
	uint64_t number;

	if (!text_u64(text, INT32_MAX, &number))
		return err_code(e, ERR_CONFLICT, "data_in_use",
				"%s: another writ is using this data folder; stop it, or give this "
				"one a folder of its own",
				path);
	return err_code(e, ERR_CONFLICT, "data_in_use",
			"%s: the writ with process id %llu is using this data folder; stop it, or "
			"give this one a folder of its own",
			path, (unsigned long long)number);
}

/* An open-file-description lock: it is not lost when another part of the process closes the file
 * (as POSIX locks are), a forked signer shares it, and it ends with the process however that
 * dies. */
static int take_lock(int dir, const char *path, struct err *e)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char pid[24];
	int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	int fd = openat(dir, "LOCK", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0) {
		err_set(e, ERR_IO, "%s/LOCK: cannot be opened: %s", path, strerror(errno));
		return -1;
	}
	if (fcntl(fd, F_OFD_SETLK, &whole)) {
		if (errno == EAGAIN || errno == EACCES)
			fail_locked(fd, path, e);
		else
			err_set(e, ERR_IO, "%s/LOCK: cannot be locked: %s", path, strerror(errno));
		close(fd);
		return -1;
	}
	/* The number is for people; the lock holds without it, a full disk included. */
	if (ftruncate(fd, 0) || pwrite(fd, pid, (size_t)n, 0) != n)
		(void)ftruncate(fd, 0);
	return fd;
}

/* --- the version --- */

/* Is there anything but LOCK and what a dying file_replace left? Then it is not a new folder. */
static bool is_empty(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	bool empty = d != NULL;

	if (!d && fd >= 0)
		close(fd);
	while (d && empty && (entry = readdir(d)) != NULL)
		empty = entry->d_name[0] == '.' || strcmp(entry->d_name, "LOCK") == 0;
	if (d)
		closedir(d);
	return empty;
}

static bool check_version(struct str text, const char *path, struct err *e)
{
	struct str number = text, rest;
	uint64_t version;

	if (!str_cut(text, '\n', &number, &rest) || rest.n || !str_starts(number, STR("writ ")) ||
	    !text_u64(str_from(number, 5), 1000000, &version))
		return err_code(e, ERR_CONFLICT, "data_version",
				"%s/VERSION: is not \"writ <number>\"; this is no data folder of "
				"writ, or it is damaged",
				path);
	if (version > FOLDER_FORMAT)
		return err_code(e, ERR_CONFLICT, "data_version",
				"%s/VERSION: has data format %llu, this writ (" WRIT_VERSION
				") knows "
				"format %d; run the newer writ that wrote it",
				path, (unsigned long long)version, FOLDER_FORMAT);
	if (version < FOLDER_FORMAT)
		return err_code(e, ERR_CONFLICT, "data_version",
				"%s/VERSION: has data format %llu, this writ (" WRIT_VERSION
				") needs "
				"format %d; start once the release in between, which converts it",
				path, (unsigned long long)version, FOLDER_FORMAT);
	return true;
}

static bool version(const struct file_calls *calls, int dir, const char *path, struct err *e)
{
	struct err why = { 0 };
	AUTO_BUF text = { 0 };
	char line[24];
	int n;

	buf_init(&text, mem_system, 8192);
	if (file_read(dir, "VERSION", 64, &text, &why))
		return check_version(buf_str(&text), path, e);
	if (why.class == ERR_TOO_LARGE)
		return check_version(STR(""), path, e);
	if (why.class != ERR_NOT_FOUND)
		return err_code(e, why.class, why.code, "%s/%s", path, why.msg);
	if (!is_empty(dir))
		return err_code(e, ERR_CONFLICT, "data_version",
				"%s: is not empty and has no VERSION file, so it is no data folder "
				"of writ; name another folder",
				path);
	n = snprintf(line, sizeof(line), "writ %d\n", FOLDER_FORMAT);
	if (!file_replace(calls, dir, "VERSION", (struct str){ line, (size_t)n }, 0600, e))
		return err_prefix(e, "%s", path);
	return true;
}

/* --- all together --- */

/* What is secret, or decides what writ believes, must not be loose. */
static bool check_files(const struct folder *f, struct err *e)
{
	static const struct {
		const char *name;
		bool in_keys, secret;
	} files[] = {
		{ "VERSION", false, false },	{ "LOCK", false, false },
		{ "writ.db", false, true },	{ "writ.db-wal", false, true },
		{ "log.db", false, true },	{ "log.db-wal", false, true },
		{ "index.db", false, true },	{ "last-checkpoint", false, false },
		{ "bundle.pem", false, false }, { "x509.key", true, true },
		{ "jwt.key", true, true },	{ "log.key", true, true },
		{ "log-next.key", true, true }, { "storage.key", true, true },
	};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char shown[512];

		snprintf(shown, sizeof(shown), "%s/%s%s", f->path, files[i].in_keys ? "keys/" : "",
			 files[i].name);
		if (!folder_check_file(files[i].in_keys ? f->keys : f->dir, files[i].name, shown,
				       files[i].secret, e))
			return false;
	}
	return true;
}

/* Keys are made before the log is. New ones beside an old log would sign nothing that anybody
 * believes, and stand in the way of the right ones. */
static bool has_its_keys(const struct folder *f, struct err *e)
{
	if (faccessat(f->dir, "log.db", F_OK, AT_SYMLINK_NOFOLLOW) != 0 || !is_empty(f->keys))
		return true;
	return err_code(
		e, ERR_CONFLICT, "keys_missing",
		"%s: log.db is there, but keys/ holds no keys: restore it from the backup that "
		"writ.db is of; or move the whole folder away to begin anew",
		f->path);
}

/* The registry remembers which IDs were ever given away. A new one beside an old log would give
 * them again, so it is made (empty) before there is a log, and a log without it is refused. */
static bool has_its_registry(const struct file_calls *calls, const struct folder *f, struct err *e)
{
	if (faccessat(f->dir, "writ.db", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return true;
	if (faccessat(f->dir, "log.db", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_code(e, ERR_CONFLICT, "registry_missing",
				"%s: log.db is there, but writ.db, which holds the registry, is "
				"not: restore it from the backup; or move the whole folder away to "
				"begin anew",
				f->path);
	return file_replace(calls, f->dir, "writ.db", STR(""), 0600, e) ||
	       err_prefix(e, "%s", f->path);
}

static bool open_into(const struct file_calls *calls, const char *path, struct folder *f,
		      struct err *e)
{
	char shown[512];
	bool created;

	f->dir = open_dir(AT_FDCWD, path, path, 0711, false, &f->created, e);
	if (f->dir < 0)
		return false;
	f->path = realpath(path, NULL);
	if (!f->path)
		return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
	f->lock = take_lock(f->dir, f->path, e);
	if (f->lock < 0 || !version(calls, f->dir, f->path, e))
		return false;
	snprintf(shown, sizeof(shown), "%s/keys", f->path);
	f->keys = open_dir(f->dir, "keys", shown, 0700, true, &created, e);
	if (f->keys < 0 || (created && !file_sync_folder(f->dir, e)))
		return false;
	if (f->created) { /* its name stands in its parent */
		int parent = openat(f->dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		bool ok = parent >= 0 && fsync(parent) == 0;

		if (parent >= 0)
			close(parent);
		if (!ok)
			return err_set(e, ERR_IO, "%s: cannot be flushed to disk: %s", path,
				       strerror(errno));
	}
	return check_files(f, e) && has_its_keys(f, e) && has_its_registry(calls, f, e);
}

bool folder_open(const struct file_calls *calls, const char *path, struct folder *out,
		 struct err *e)
{
	struct folder f = { .dir = -1, .keys = -1, .lock = -1 };

	if (!open_into(calls, path, &f, e)) {
		folder_close(&f);
		return false;
	}
	*out = f;
	return true;
}

void folder_close(struct folder *f)
{
	/* The lock goes last. LOCK itself stays: removing it would let two servers lock two files
	 * of one name. */
	if (f->keys >= 0)
		close(f->keys);
	if (f->dir >= 0)
		close(f->dir);
	if (f->lock >= 0)
		close(f->lock);
	free(f->path);
	*f = (struct folder){ .dir = -1, .keys = -1, .lock = -1 };
}

char *folder_path(const struct folder *f, const char *name)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", f->path, name) < 0 ? NULL : path;
}
