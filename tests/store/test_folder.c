/* The data folder and its files: modes, the lock, the version, and replacing under faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "authz/store/folder.h"
#include "tests/fault/tmp_dir.h"

/* --- file_replace with each system call failing in turn --- */

static long calls_left, calls_made;
static int calls_errno;

static bool due(void)
{
	calls_made++;
	if (--calls_left)
		return false;
	errno = calls_errno;
	return true;
}

static int bad_openat(int dir, const char *name, int flags, mode_t mode)
{
	return due() ? -1 : openat(dir, name, flags, mode);
}
static ssize_t bad_write(int fd, const void *p, size_t n)
{
	return due() ? -1 : write(fd, p, n > 3 ? 3 : n); /* short writes, too */
}
static int bad_fchmod(int fd, mode_t mode)
{
	return due() ? -1 : fchmod(fd, mode);
}
static int bad_fsync(int fd)
{
	return due() ? -1 : fsync(fd);
}
static int bad_close(int fd)
{
	int r = close(fd); /* the descriptor is gone, whatever close says */

	return due() ? -1 : r;
}
static int bad_renameat(int a, const char *from, int b, const char *to)
{
	return due() ? -1 : renameat(a, from, b, to);
}
static const struct file_calls faulty = { bad_openat, bad_write,    bad_fchmod, bad_fsync,
					  bad_close,  bad_renameat, unlinkat };

static void spill(void **state, const char *name, const char *text, mode_t mode)
{
	const char *path = tmp_dir_path(state, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static int count_files(int dir)
{
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY));
	int n = -2; /* "." and ".." */

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void replaces_a_file_at_once_or_not_at_all(void **state)
{
	int dir = open(*state, O_RDONLY | O_DIRECTORY);

	assert_true(file_replace(NULL, dir, "f", STR("old"), 0600, NULL));
	for (int code = 0; code < 2; code++)
		for (long nth = 1;; nth++) {
			struct err e = { 0 };
			AUTO_BUF text = { 0 };
			bool ok;

			buf_init(&text, mem_system, 8192);
			calls_left = nth;
			calls_made = 0;
			calls_errno = code ? EIO : ENOSPC;
			ok = file_replace(&faulty, dir, "f", STR("the new text"), 0644, &e);
			assert_true(file_read(dir, "f", 100, &text, &e));
			if (calls_made < nth) {
				assert_true(ok);
				assert_true(str_eq(buf_str(&text), STR("the new text")));
				break;
			}
			if (!str_eq(buf_str(&text), STR("old")) &&
			    !str_eq(buf_str(&text), STR("the new text")))
				fail_msg("call %ld left \"%.*s\"", nth, STR_FMT(buf_str(&text)));
			if (!ok)
				assert_int_equal(e.class, code ? ERR_IO : ERR_UNAVAILABLE);
			assert_int_equal(count_files(dir), 1); /* nothing left lying about */
			assert_true(file_replace(NULL, dir, "f", STR("old"), 0600, NULL));
		}
	close(dir);
}

static void gives_a_file_its_mode_whatever_the_umask(void **state)
{
	int dir = open(*state, O_RDONLY | O_DIRECTORY);
	mode_t old = umask(0777);
	struct stat st;

	assert_true(file_replace(NULL, dir, "f", STR("x"), 0644, NULL));
	umask(old);
	assert_int_equal(fstatat(dir, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_false(file_replace(NULL, dir, "a/b", STR("x"), 0644, NULL));
	close(dir);
}

static void replaces_the_file_of_a_path(void **state)
{
	static const struct {
		const char *why, *path;
		bool ok;
	} cases[] = {
		{ "below a folder", "%s/f", true },
		{ "again", "%s//f", true },
		{ "no such folder", "%s/none/f", false },
		{ "a folder, no file", "%s/", false },
		{ "a folder by its name", "%s/folder", false },
		{ "a pipe, as somebody may read it", "%s/pipe", false },
		{ "a link to a pipe, as /dev/stdout is one", "%s/to-pipe", false },
		{ "a link to a file is replaced itself", "%s/to-file", true },
		{ "a link to nothing", "%s/to-nothing", true },
	};
	int dir = open(*state, O_RDONLY | O_DIRECTORY);
	struct stat st;

	assert_int_equal(mkdirat(dir, "folder", 0700), 0);
	assert_int_equal(mkfifoat(dir, "pipe", 0600), 0);
	assert_int_equal(symlinkat("pipe", dir, "to-pipe"), 0);
	assert_int_equal(symlinkat("kept", dir, "to-file"), 0);
	assert_int_equal(symlinkat("nothing", dir, "to-nothing"), 0);
	spill(state, "kept", "as it was", 0600);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err e = { 0 };
		char path[4200];

		snprintf(path, sizeof(path), cases[i].path, (const char *)*state);
		if (file_is_replaceable(path, &e) != cases[i].ok ||
		    file_replace_path(path, STR("text"), 0640, &e) != cases[i].ok)
			fail_msg("%s: %s (%s)", cases[i].why, path, e.msg);
		if (cases[i].ok && (lstat(path, &st) || !S_ISREG(st.st_mode) || st.st_size != 4 ||
				    (st.st_mode & 07777) != 0640))
			fail_msg("%s: %s is another file", cases[i].why, path);
	}
	assert_int_equal(fstatat(dir, "pipe", &st, 0), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(fstatat(dir, "kept", &st, 0), 0);
	assert_int_equal(st.st_size, 9);
	close(dir);
}

static void reads_only_plain_files_within_bounds(void **state)
{
	int dir = open(*state, O_RDONLY | O_DIRECTORY);
	struct err e = { 0 };
	AUTO_BUF text = { 0 };

	buf_init(&text, mem_system, 100000);
	spill(state, "f", "12345", 0600);
	assert_int_equal(symlinkat("f", dir, "link"), 0);
	assert_int_equal(mkfifoat(dir, "fifo", 0600), 0);
	assert_true(file_read(dir, "f", 5, &text, &e));
	assert_false(file_read(dir, "f", 4, &text, &e));
	assert_int_equal(e.class, ERR_TOO_LARGE);
	assert_int_equal(text.n, 5);
	assert_false(file_read(dir, "link", 5, &text, &e));
	assert_non_null(strstr(e.msg, "symbolic link"));
	assert_false(file_read(dir, "fifo", 5, &text, &e));
	assert_non_null(strstr(e.msg, "regular file"));
	assert_false(file_read(dir, "none", 5, &text, &e));
	assert_int_equal(e.class, ERR_NOT_FOUND);
	close(dir);
}

/* --- the folder --- */

static mode_t mode_of(void **state, const char *name)
{
	struct stat st;

	assert_int_equal(lstat(tmp_dir_path(state, name), &st), 0);
	return st.st_mode & 07777;
}

static void makes_the_folder_and_comes_back(void **state)
{
	struct folder f = FOLDER_NONE;
	struct err e = { 0 };
	mode_t old = umask(077);
	char *path;

	if (!folder_open(NULL, tmp_dir_path(state, "data"), &f, &e))
		fail_msg("%s", e.msg);
	umask(old);
	assert_true(f.created);
	assert_int_equal(f.path[0], '/');
	path = folder_path(&f, "writ.db");
	assert_true(str_ends(str_c(path), STR("/data/writ.db")));
	free(path);
	folder_close(&f);
	assert_int_equal(mode_of(state, "data"), 0711);
	assert_int_equal(mode_of(state, "data/keys"), 0700);
	assert_int_equal(mode_of(state, "data/VERSION"), 0600);
	assert_int_equal(mode_of(state, "data/LOCK"), 0600);
	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	assert_false(f.created);
	folder_close(&f);
	folder_close(&f); /* twice is fine */
	assert_false(folder_open(NULL, tmp_dir_path(state, "no/such"), &f, &e));
	assert_int_equal(e.class, ERR_IO);
}

static void refuses_a_second_server_by_the_pid_of_the_first(void **state)
{
	struct folder f = FOLDER_NONE;
	struct err e = { 0 };
	int up[2], down[2], status;
	char c, pid[24];
	pid_t child;

	assert_int_equal(pipe(up) | pipe(down), 0);
	child = fork();
	if (child == 0) {
		struct folder mine = FOLDER_NONE;

		if (!folder_open(NULL, tmp_dir_path(state, "data"), &mine, NULL) ||
		    write(up[1], "x", 1) != 1 || read(down[0], &c, 1) != 1)
			_exit(1);
		raise(SIGKILL); /* the lock must not outlive even this */
	}
	assert_int_equal(read(up[0], &c, 1), 1);
	assert_false(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	assert_string_equal(e.code, "data_in_use");
	snprintf(pid, sizeof(pid), "process id %d ", (int)child);
	if (!strstr(e.msg, pid))
		fail_msg("%s", e.msg);
	assert_int_equal(write(down[1], "x", 1), 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	folder_close(&f);
	close(up[0]), close(up[1]), close(down[0]), close(down[1]);
}

static void refuses_other_formats_and_other_folders(void **state)
{
	static const struct {
		const char *version, *says;
	} cases[] = {
		{ "writ 2\n", "has data format 2" },
		{ "writ 2\n", "run the newer writ" },
		{ "writ 0\n", "needs format 1" },
		{ "writ 1", "damaged" },
		{ "writ 1\n\n", "damaged" },
		{ "writ 01\n", "damaged" },
		{ "", "damaged" },
		{ "something else that is rather long, longer than any version could ever be, so.\n",
		  "damaged" },
	};
	struct folder f = FOLDER_NONE;
	struct err e = { 0 };

	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	folder_close(&f);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		spill(state, "data/VERSION", cases[i].version, 0600);
		if (folder_open(NULL, tmp_dir_path(state, "data"), &f, &e) ||
		    strcmp(e.code, "data_version") != 0 || !strstr(e.msg, cases[i].says))
			fail_msg("VERSION \"%s\": %s", cases[i].version, e.msg);
	}
	assert_int_equal(unlink(tmp_dir_path(state, "data/VERSION")), 0);
	assert_false(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	assert_non_null(strstr(e.msg, "no VERSION"));
	assert_int_equal(rmdir(tmp_dir_path(state, "data/keys")), 0);
	assert_int_equal(unlink(tmp_dir_path(state, "data/writ.db")), 0);
	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e)); /* died half-way */
	folder_close(&f);
}

static void refuses_loose_modes(void **state)
{
	static const struct {
		const char *name;
		mode_t mode;
		const char *says; /* NULL: fine */
	} cases[] = {
		{ "data", 0777, "chmod go-w" },		 { "data", 0755, NULL },
		{ "data/keys", 0750, "may read" },	 { "data/keys", 0700, NULL },
		{ "data/writ.db", 0640, "may read" },	 { "data/writ.db", 0600, NULL },
		{ "data/log.db", 0644, "chmod go-rwx" }, { "data/log.db", 0600, NULL },
		{ "data/bundle.pem", 0644, NULL },	 { "data/bundle.pem", 0664, "may change" },
		{ "data/bundle.pem", 0644, NULL },	 { "data/keys/jwt.key", 0644, "may read" },
		{ "data/keys/jwt.key", 0600, NULL },	 { "data/VERSION", 0666, "may change" },
	};
	struct folder f = FOLDER_NONE;
	struct err e = { 0 };

	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	folder_close(&f);
	spill(state, "data/writ.db", "", 0600);
	spill(state, "data/log.db", "", 0600);
	spill(state, "data/bundle.pem", "", 0644);
	spill(state, "data/keys/jwt.key", "", 0600);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool ok;

		assert_int_equal(chmod(tmp_dir_path(state, cases[i].name), cases[i].mode), 0);
		ok = folder_open(NULL, tmp_dir_path(state, "data"), &f, &e);
		if (ok != !cases[i].says || (!ok && !strstr(e.msg, cases[i].says)))
			fail_msg("%s %o: %s", cases[i].name, (unsigned)cases[i].mode, e.msg);
		if (ok)
			folder_close(&f);
	}
}

static void an_old_log_gets_no_new_keys(void **state)
{
	struct folder f = FOLDER_NONE;
	struct err e = { 0 };

	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	folder_close(&f);
	spill(state, "data/keys/log.key", "", 0600);
	spill(state, "data/log.db", "", 0600);
	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	folder_close(&f);
	assert_int_equal(unlink(tmp_dir_path(state, "data/keys/log.key")), 0);
	for (int i = 0; i < 2; i++) { /* empty, then not there at all */
		e = (struct err){ 0 };
		assert_false(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
		assert_string_equal(e.code, "keys_missing");
		assert_non_null(strstr(e.msg, "restore it from the backup"));
		assert_int_equal(rmdir(tmp_dir_path(state, "data/keys")), 0);
	}
	assert_int_equal(unlink(tmp_dir_path(state, "data/log.db")), 0);
	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e)); /* died half-way */
	folder_close(&f);
}

static void an_old_log_gets_no_new_registry(void **state)
{
	struct folder f = FOLDER_NONE;
	struct err e = { 0 };

	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	folder_close(&f);
	assert_int_equal(mode_of(state, "data/writ.db"), 0600);
	spill(state, "data/keys/log.key", "", 0600);
	spill(state, "data/log.db", "", 0600);
	assert_int_equal(unlink(tmp_dir_path(state, "data/writ.db")), 0);
	assert_false(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e));
	assert_string_equal(e.code, "registry_missing");
	assert_non_null(strstr(e.msg, "restore it from the backup"));
	assert_int_equal(access(tmp_dir_path(state, "data/writ.db"), F_OK), -1);
	assert_int_equal(unlink(tmp_dir_path(state, "data/log.db")), 0);
	assert_true(folder_open(NULL, tmp_dir_path(state, "data"), &f, &e)); /* died half-way */
	folder_close(&f);
}

static void first_start_under_faults_can_be_repeated(void **state)
{
	for (long nth = 1;; nth++) {
		struct folder f = FOLDER_NONE;
		struct err e = { 0 };
		char name[32];
		bool ok, hit;

		snprintf(name, sizeof(name), "data%ld", nth);
		calls_left = nth;
		calls_made = 0;
		calls_errno = ENOSPC;
		ok = folder_open(&faulty, tmp_dir_path(state, name), &f, &e);
		hit = calls_made >= nth;
		if (ok)
			folder_close(&f);
		if (!folder_open(NULL, tmp_dir_path(state, name), &f, &e))
			fail_msg("after call %ld failed: %s", nth, e.msg);
		folder_close(&f);
		if (!hit)
			break;
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)
	const struct CMUnitTest tests[] = {
		T(replaces_a_file_at_once_or_not_at_all),
		T(gives_a_file_its_mode_whatever_the_umask),
		T(replaces_the_file_of_a_path),
		T(reads_only_plain_files_within_bounds),
		T(makes_the_folder_and_comes_back),
		T(refuses_a_second_server_by_the_pid_of_the_first),
		T(refuses_other_formats_and_other_folders),
		T(refuses_loose_modes),
		T(an_old_log_gets_no_new_keys),
		T(an_old_log_gets_no_new_registry),
		T(first_start_under_faults_can_be_repeated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
