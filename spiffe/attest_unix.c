/*
 * Everything is read through one open folder, /proc/PID: it belongs to the process, not to the
 * number, and gives ESRCH once that process is gone. Its start time, read first and last, covers
 * the moment before the folder was opened.
 */
#include "spiffe/attest_unix.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "spiffe/attest_file.h"
#include "spiffe/registry.h"

#define STAT_MAX 4096
#define STATUS_MAX (16 * 1024)
#define CGROUP_MAX (64 * 1024)
#define NSS_MAX (64 * 1024)
#define SCRATCH_MAX (512 * 1024)

static bool gone(struct err *e, pid_t pid, const char *what)
{
	return err_code(e, ERR_UNAVAILABLE, "attestation_failed",
			"process %ld, which made this connection, %s; connect again", (long)pid,
			what);
}

/* A whole small file below the pin's folder. False: unreadable or larger than @max. */
static bool read_small(int dir, const char *name, char *room, size_t max, struct str *out)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t got = 1;

	if (fd < 0)
		return false;
	while (n < max && (got = read(fd, room + n, max - n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		n += (size_t)got;
	}
	close(fd);
	*out = (struct str){ room, n };
	return got == 0;
}

/* The command name may hold spaces, parentheses and line breaks: fields count from the last ")". */
static bool parse_stat(struct str text, uint64_t *start, bool *ended)
{
	const char *close = text.n ? memrchr(text.p, ')', text.n) : NULL;
	struct str rest, field;
	uint64_t threads = 0;

	if (!close)
		return false;
	rest = str_from(text, (size_t)(close - text.p) + 2);
	for (int i = 3; i <= 22; i++) {
		if (!str_cut(rest, ' ', &field, &rest))
			return false;
		if (i == 3 && field.n != 1)
			return false;
		if (i == 3)
			*ended = memchr("ZXx", field.p[0], 3) != NULL;
		if (i == 20 && !text_u64(field, INT32_MAX, &threads))
			return false;
	}
	/* A process whose first thread has ended lives on with its others. */
	*ended = *ended && threads <= 1;
	return text_u64(field, UINT64_MAX, start);
}

/* The rest of the line of @text that starts with @name. */
static bool line_of(struct str text, struct str name, struct str *out)
{
	struct str line;

	while (str_cut(text, '\n', &line, &text))
		if (str_starts(line, name)) {
			*out = str_from(line, name.n);
			return true;
		}
	return false;
}

/* "1000\t1000\t1000\t1000": real, effective, saved, file system. */
static bool effective(struct str status, struct str name, uint64_t *id)
{
	struct str line, real, second;

	return line_of(status, name, &line) && str_cut(line, '\t', &real, &line) &&
	       str_cut(line, '\t', &second, &line) && text_u64(second, UINT32_MAX, id);
}

static bool look(int dir, pid_t pid, uid_t uid, gid_t gid, uint64_t *start, struct err *e)
{
	char room[STATUS_MAX];
	uint64_t euid = 0, egid = 0;
	struct str text;
	bool ended = false;

	if (!read_small(dir, "stat", room, STAT_MAX, &text) || !parse_stat(text, start, &ended) ||
	    ended)
		return gone(e, pid, "has ended");
	/* A list of groups that does not fit comes after what is wanted here. */
	(void)!read_small(dir, "status", room, sizeof(room), &text);
	if (!effective(text, STR("Uid:\t"), &euid) || !effective(text, STR("Gid:\t"), &egid))
		return gone(e, pid, "has ended");
	if (euid != uid || egid != gid)
		return gone(e, pid, "is of another user or group by now");
	return true;
}

bool attest_unix_pin_at(int proc, pid_t pid, uid_t uid, gid_t gid, struct attest_unix_pin *out,
			struct err *e)
{
	struct attest_unix_pin p = { .pid = pid, .uid = uid, .gid = gid };
	char name[16];

	if (pid <= 0)
		return err_code(e, ERR_UNAVAILABLE, "attestation_failed",
				"the caller's process is in a pid namespace that writ does not "
				"see; run writ in the host's pid namespace");
	snprintf(name, sizeof(name), "%ld", (long)pid);
	p.dir = openat(proc, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p.dir < 0)
		return gone(e, pid, "has ended");
	if (!look(p.dir, pid, uid, gid, &p.start, e)) {
		close(p.dir);
		return false;
	}
	*out = p;
	return true;
}

bool attest_unix_pin(pid_t pid, uid_t uid, gid_t gid, struct attest_unix_pin *out, struct err *e)
{
	int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool ok;

	if (proc < 0)
		return err_code(e, ERR_UNAVAILABLE, "attestation_failed",
				"/proc cannot be opened; writ needs it to tell callers apart");
	ok = attest_unix_pin_at(proc, pid, uid, gid, out, e);
	close(proc);
	return ok;
}

void attest_unix_unpin(struct attest_unix_pin *p)
{
	if (p->dir >= 0)
		close(p->dir);
	p->dir = -1;
}

bool attest_unix_check(const struct attest_unix_pin *p, struct err *e)
{
	uint64_t start = 0;

	if (!look(p->dir, p->pid, p->uid, p->gid, &start, e))
		return false;
	return start == p->start || gone(e, p->pid, "has ended, and its number was given anew");
}

/* --- selectors --- */

struct list {
	struct arena *arena;
	struct arena scratch; /* what is read on the way */
	struct str *items;    /* ATTEST_UNIX_SELECTORS */
	size_t n;
	bool failed; /* out of memory */
};

/* What could not stand in an entry is no selector. */
static void add(struct list *l, const char *prefix, struct str value)
{
	struct str s;

	if (!value.n || value.n > REGISTRY_VALUE || !text_is_utf8(value) ||
	    !text_is_printable(value) || l->n == ATTEST_UNIX_SELECTORS)
		return;
	s = arena_printf(l->arena, "%s%.*s", prefix, STR_FMT(value));
	if (s.p)
		l->items[l->n++] = s;
	else
		l->failed = true;
}

static void add_number(struct list *l, const char *prefix, uint64_t n)
{
	char text[TEXT_U64_MAX];

	add(l, prefix, (struct str){ text, text_put_u64(n, text) });
}

static void add_user(struct list *l, const char *prefix, char *room, uid_t uid)
{
	struct passwd entry, *found = NULL;

	if (getpwuid_r(uid, &entry, room, NSS_MAX, &found) == 0 && found)
		add(l, prefix, str_c(found->pw_name));
}

static void add_group(struct list *l, const char *prefix, char *room, gid_t gid)
{
	struct group entry, *found = NULL;

	if (getgrgid_r(gid, &entry, room, NSS_MAX, &found) == 0 && found)
		add(l, prefix, str_c(found->gr_name));
}

/* "Groups:\t4 24 27 \n". A line that was cut or is too long gives none: half a list would be a
 * list that somebody chose. */
static void add_groups(struct list *l, struct str status, char *room)
{
	uint64_t gids[ATTEST_UNIX_GROUPS];
	struct str line, word;
	size_t n = 0;

	if (!line_of(status, STR("Groups:\t"), &line))
		return;
	while (str_cut(line, ' ', &word, &line))
		if (word.n) {
			if (n == ARRAY_LEN(gids) || !text_u64(word, UINT32_MAX, &gids[n]))
				return;
			n++;
		}
	for (size_t i = 0; i < n; i++) {
		add_number(l, "unix:supplementary_gid:", gids[i]);
		add_group(l, "unix:supplementary_group:", room, (gid_t)gids[i]);
	}
}

/* The path under which the open executable runs, if it leads us to the same file. */
static void add_path(struct list *l, int fd, const struct stat *exe)
{
	char link[32], path[REGISTRY_VALUE + 1];
	struct stat here;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path));
	if (n <= 0 || (size_t)n >= sizeof(path) || path[0] != '/')
		return;
	path[n] = '\0';
	if (stat(path, &here) == 0 && here.st_dev == exe->st_dev && here.st_ino == exe->st_ino)
		add(l, "unix:path:", (struct str){ path, (size_t)n });
}

static void add_executable(struct list *l, int dir)
{
	/* Not blocking, should it be no file at all. */
	int fd = openat(dir, "exe", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char hex[2 * SHA256_LEN];
	uint8_t hash[SHA256_LEN];
	struct statfs fs;
	struct stat exe;

	if (fd < 0)
		return;
	if (fstat(fd, &exe) == 0 && S_ISREG(exe.st_mode)) {
		add_path(l, fd, &exe);
		if (fstatfs(fd, &fs) == 0 && fs.f_type != FUSE_SUPER_MAGIC &&
		    exe.st_size <= ATTEST_UNIX_HASH_MAX && attest_file_hash(fd, &exe, hash)) {
			text_hex(hash, sizeof(hash), hex);
			add(l, "unix:sha256:", (struct str){ hex, sizeof(hex) });
		}
	}
	close(fd);
}

/* --- cgroups --- */

/* "0::/a/b" (version 2), or the line of systemd's own hierarchy (version 1). */
static bool cgroup_path(struct str text, struct str *path)
{
	struct str line, number, names;
	bool found = false;

	while (str_cut(text, '\n', &line, &text)) {
		if (!str_cut(line, ':', &number, &line) || !str_cut(line, ':', &names, &line))
			continue;
		if (str_eq(names, STR("name=systemd"))) {
			*path = line;
			return true;
		}
		if (str_eq(number, STR("0")) && !names.n) {
			*path = line;
			found = true;
		}
	}
	return found;
}

/* A cgroup that was removed, or lies outside of what we see, names nothing. */
static bool cgroup_plain(struct str path)
{
	return path.n && path.p[0] == '/' && !str_starts(path, STR("/..")) &&
	       !str_ends(path, STR(" (deleted)"));
}

static bool unit_name(struct str s)
{
	static const char marks[] = ":-_.\\@";

	for (size_t i = 0; i < s.n; i++)
		if (!((s.p[i] >= 'a' && s.p[i] <= 'z') || (s.p[i] >= 'A' && s.p[i] <= 'Z') ||
		      (s.p[i] >= '0' && s.p[i] <= '9') || memchr(marks, s.p[i], sizeof(marks) - 1)))
			return false;
	return (str_ends(s, STR(".service")) && s.n > 8) || (str_ends(s, STR(".scope")) && s.n > 6);
}

/* The first part that is no slice. Only root makes cgroups there, so it is systemd's word. */
static bool cgroup_unit(struct str path, struct str *unit)
{
	struct str rest = str_from(path, 1), part;

	do {
		if (!str_cut(rest, '/', &part, &rest)) {
			part = rest;
			rest = (struct str){ 0 };
		}
	} while (rest.n && str_ends(part, STR(".slice")));
	if (str_starts(part, STR("_"))) /* systemd's escape of names the kernel has taken */
		part = str_from(part, 1);
	*unit = part;
	return unit_name(part);
}

static void add_cgroup(struct list *l, int dir)
{
	char *room = arena_alloc(&l->scratch, CGROUP_MAX);
	struct str text, path, unit;

	l->failed |= !room;
	if (!room || !read_small(dir, "cgroup", room, CGROUP_MAX, &text) ||
	    !cgroup_path(text, &path) || !cgroup_plain(path))
		return;
	add(l, "unix:cgroup:", path);
	if (cgroup_unit(path, &unit))
		add(l, "systemd:id:", unit);
}

static void add_names(struct list *l, const struct attest_unix_pin *p)
{
	char *room = arena_alloc(&l->scratch, NSS_MAX), status[STATUS_MAX];
	struct str text;

	l->failed |= !room;
	if (!room)
		return;
	add_number(l, "unix:uid:", p->uid);
	add_user(l, "unix:user:", room, p->uid);
	add_number(l, "unix:gid:", p->gid);
	add_group(l, "unix:group:", room, p->gid);
	if (read_small(p->dir, "status", status, sizeof(status), &text))
		add_groups(l, text, room);
}

bool attest_unix_selectors_of(const struct attest_unix_pin *p, struct arena *a, struct str **out,
			      size_t *n, struct err *e)
{
	struct list l = { .arena = a };

	if (!attest_unix_check(p, e))
		return false;
	arena_init(&l.scratch, &mem_system, SCRATCH_MAX);
	l.items = arena_alloc(a, ATTEST_UNIX_SELECTORS * sizeof(*l.items));
	if (l.items) {
		add_names(&l, p);
		add_executable(&l, p->dir);
		add_cgroup(&l, p->dir);
	}
	arena_clear(&l.scratch);
	if (!l.items || l.failed)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	if (!attest_unix_check(p, e))
		return false;
	*out = l.items;
	*n = l.n;
	return true;
}

bool attest_unix_selectors(pid_t pid, uid_t uid, gid_t gid, struct arena *a, struct str **out,
			   size_t *n, struct err *e)
{
	struct attest_unix_pin p;
	bool ok;

	if (!attest_unix_pin(pid, uid, gid, &p, e))
		return false;
	ok = attest_unix_selectors_of(&p, a, out, n, e);
	attest_unix_unpin(&p);
	return ok;
}

uint64_t attest_unix_hashed(void)
{
	return attest_file_hashed();
}
