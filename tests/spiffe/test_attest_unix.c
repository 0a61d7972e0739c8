/* What the kernel says of a caller: on real processes, and on a made-up /proc for what no kernel of
 * ours would say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "spiffe/attest_unix.h"
#include "spiffe/crypto.h"
#include "tests/fault/tmp_dir.h"

struct got {
	struct arena arena;
	struct str *items;
	size_t n;
	struct err e;
};

static bool attest(struct got *g, pid_t pid)
{
	arena_init(&g->arena, &mem_system, 1 << 20);
	return attest_unix_selectors(pid, geteuid(), getegid(), &g->arena, &g->items, &g->n, &g->e);
}

static bool has(const struct got *g, const char *selector)
{
	for (size_t i = 0; i < g->n; i++)
		if (str_eq(g->items[i], str_c(selector)))
			return true;
	return false;
}

static bool has_any(const struct got *g, const char *prefix)
{
	for (size_t i = 0; i < g->n; i++)
		if (str_starts(g->items[i], str_c(prefix)))
			return true;
	return false;
}

static void put_file(const char *path, struct str text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n && !close(fd));
	assert_int_equal(chmod(path, mode), 0);
}

static void get_file(const char *path, struct buf *out)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = 1;

	assert_true(fd >= 0);
	buf_init(out, mem_system, 64 << 20);
	while (n > 0) {
		char *at = buf_room(out, 65536);

		assert_non_null(at);
		n = read(fd, at, 65536);
		assert_true(n >= 0);
		out->n += (size_t)n;
	}
	close(fd);
}

static void sha256_selector(const char *path, char out[96])
{
	uint8_t hash[SHA256_LEN];
	AUTO_BUF b = { 0 };

	get_file(path, &b);
	crypto_sha256(buf_str(&b), hash);
	strcpy(out, "unix:sha256:");
	text_hex(hash, sizeof(hash), out + 12);
	out[12 + 2 * SHA256_LEN] = '\0';
}

static void tells_of_ourselves(void **state)
{
	char text[4200], path[4096];
	struct got g = { 0 };
	gid_t groups[ATTEST_UNIX_GROUPS];
	int ngroups = getgroups(ATTEST_UNIX_GROUPS, groups);
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	(void)state;
	assert_true(n > 0);
	path[n] = '\0';
	if (!attest(&g, getpid()))
		fail_msg("%s", g.e.msg);
	snprintf(text, sizeof(text), "unix:uid:%u", (unsigned)geteuid());
	assert_true(has(&g, text));
	snprintf(text, sizeof(text), "unix:gid:%u", (unsigned)getegid());
	assert_true(has(&g, text));
	snprintf(text, sizeof(text), "unix:path:%s", path);
	assert_true(has(&g, text));
	sha256_selector("/proc/self/exe", text);
	assert_true(has(&g, text));
	for (int i = 0; i < ngroups; i++) {
		snprintf(text, sizeof(text), "unix:supplementary_gid:%u", (unsigned)groups[i]);
		assert_true(has(&g, text));
	}
	if (geteuid() == 0)
		assert_true(has(&g, "unix:user:root"));
	arena_clear(&g.arena);
}

static void refuses_who_is_not_there(void **state)
{
	struct got g = { 0 };
	pid_t child;

	(void)state;
	assert_false(attest(&g, 0));
	assert_string_equal(g.e.code, "attestation_failed");
	assert_non_null(strstr(g.e.msg, "pid namespace"));
	assert_false(attest(&g, -1));
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)child, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
	assert_false(attest(&g, child)); /* a zombie */
	assert_non_null(strstr(g.e.msg, "has ended"));
	waitpid(child, NULL, 0);
	assert_false(attest(&g, child));
	assert_int_equal(g.e.class, ERR_UNAVAILABLE);
	arena_clear(&g.arena);
}

/* A child that waits, named @comm, running @path (or a copy of ourselves). */
static pid_t start(const char *comm, const char *path)
{
	pid_t child;
	int ready[2];
	char c;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (comm)
			prctl(PR_SET_NAME, comm);
		if (path)
			execl(path, path, "1000", (char *)NULL); /* closes the pipe */
		close(ready[1]);
		pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 0);
	close(ready[0]);
	return child;
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void reads_past_hostile_names(void **state)
{
	static const char *const names[] = { ") Z 1 1 1", "a b) S (", "x\nUid:\t0\t0", "\\n(",
					     ")" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		pid_t child = start(names[i], NULL);
		struct got g = { 0 };

		if (!attest(&g, child))
			fail_msg("%s: %s", names[i], g.e.msg);
		assert_true(has_any(&g, "unix:sha256:"));
		arena_clear(&g.arena);
		/* Whoever says it is somebody else's is refused. */
		arena_init(&g.arena, &mem_system, 1 << 20);
		assert_false(attest_unix_selectors(child, geteuid() + 1, getegid(), &g.arena,
						   &g.items, &g.n, &g.e));
		assert_false(attest_unix_selectors(child, geteuid(), getegid() + 1, &g.arena,
						   &g.items, &g.n, &g.e));
		assert_non_null(strstr(g.e.msg, "another user or group"));
		arena_clear(&g.arena);
		end(child);
	}
}

static void an_end_is_noticed(void **state)
{
	struct attest_unix_pin p;
	struct got g = { 0 };
	pid_t child = start(NULL, NULL);

	(void)state;
	arena_init(&g.arena, &mem_system, 1 << 20);
	assert_true(attest_unix_pin(child, geteuid(), getegid(), &p, &g.e));
	assert_true(attest_unix_check(&p, &g.e));
	assert_true(attest_unix_selectors_of(&p, &g.arena, &g.items, &g.n, &g.e));
	end(child);
	assert_false(attest_unix_check(&p, &g.e));
	assert_false(attest_unix_selectors_of(&p, &g.arena, &g.items, &g.n, &g.e));
	attest_unix_unpin(&p);
	attest_unix_unpin(&p);
	arena_clear(&g.arena);
}

/* Its path must lead us to the file that runs; its digest is of that file whatever became of the
 * name. */
static void a_path_that_leads_elsewhere_is_not_given(void **state)
{
	const char *path = tmp_dir_path(state, "agent");
	char by_path[4200], digest[96];
	struct got g = { 0 };
	AUTO_BUF sleep_bytes = { 0 };
	pid_t child;

	get_file("/bin/sleep", &sleep_bytes);
	put_file(path, buf_str(&sleep_bytes), 0755);
	sha256_selector(path, digest);
	snprintf(by_path, sizeof(by_path), "unix:path:%s", path);
	child = start(NULL, path);
	assert_true(attest(&g, child));
	assert_true(has(&g, by_path) && has(&g, digest));
	arena_clear(&g.arena);

	unlink(path);
	assert_true(attest(&g, child));
	assert_false(has_any(&g, "unix:path:"));
	assert_true(has(&g, digest));
	arena_clear(&g.arena);

	put_file(path, STR("another"), 0755); /* an update of the package */
	assert_true(attest(&g, child));
	assert_false(has_any(&g, "unix:path:"));
	assert_true(has(&g, digest));
	arena_clear(&g.arena);
	end(child);
}

static void hashes_a_settled_file_once(void **state)
{
	const char *fresh = tmp_dir_path(state, "fresh");
	struct got g = { 0 };
	AUTO_BUF bytes = { 0 };
	uint64_t before;
	pid_t child = start(NULL, "/bin/sleep");

	before = attest_unix_hashed();
	for (int i = 0; i < 3; i++) {
		assert_true(attest(&g, child));
		arena_clear(&g.arena);
	}
	assert_int_equal(attest_unix_hashed(), before + 1);
	end(child);

	/* One that was written this very moment could be written again with the same times. */
	get_file("/bin/sleep", &bytes);
	put_file(fresh, buf_str(&bytes), 0755);
	child = start(NULL, fresh);
	before = attest_unix_hashed();
	for (int i = 0; i < 2; i++) {
		assert_true(attest(&g, child));
		arena_clear(&g.arena);
	}
	assert_int_equal(attest_unix_hashed(), before + 2);
	end(child);
}

/* --- a made-up /proc --- */

#define STAT_TAIL " S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 "
#define STATUS(ids) "Name:\tx\nUid:\t1\t" ids "\t1\t1\nGid:\t1\t20\t1\t1\n"

static const struct {
	const char *why, *stat, *status, *cgroup;
	const char *gives, *not ; /* selectors, or what the refusal says if gives is NULL */
} procs[] = {
	{ "plain", "7 (x)" STAT_TAIL "99 0\n", STATUS("10") "Groups:\t4 24 \n", "0::/a.slice/b\n",
	  "unix:supplementary_gid:24", "systemd:" },
	{ "effective ids", "7 (x)" STAT_TAIL "99 0\n", STATUS("10"), "", "unix:uid:10",
	  "unix:uid:1\n" },
	{ "real id only", "7 (x)" STAT_TAIL "99 0\n", STATUS("0"), "", NULL, "another user" },
	{ "no ids", "7 (x)" STAT_TAIL "99 0\n", "Name:\tx\n", "", NULL, "has ended" },
	{ "ids in the name", "7 (x)" STAT_TAIL "99 0\n", "Name:\tUid:\t1\t10\t\n" STATUS("11"), "",
	  NULL, "another user" },
	{ "zombie", "7 (x) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0\n", STATUS("10"), "", NULL,
	  "has ended" },
	{ "first thread ended", "7 (x) Z 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 4 0 99 0\n",
	  STATUS("10"), "", "unix:uid:10", "unix:path" },
	{ "no bracket", "7 x S 1\n", STATUS("10"), "", NULL, "has ended" },
	{ "short stat", "7 (x) S 1 2\n", STATUS("10"), "", NULL, "has ended" },
	{ "start is no number", "7 (x)" STAT_TAIL "-9 0\n", STATUS("10"), "", NULL, "has ended" },
	{ "groups without end", "7 (x)" STAT_TAIL "99 0\n", STATUS("10") "Groups:\t4 24 ", "",
	  "unix:gid:20", "unix:supplementary" },
	{ "service", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/system.slice/agent.service\n",
	  "systemd:id:agent.service", "systemd:id:system" },
	{ "cgroup", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/system.slice/agent.service\n",
	  "unix:cgroup:/system.slice/agent.service", "unix:path" },
	{ "below a service", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"),
	  "0::/system.slice/docker.service/x/evil.service\n", "systemd:id:docker.service",
	  "systemd:id:evil.service" },
	{ "a user's own manager", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"),
	  "0::/user.slice/user-10.slice/user@10.service/app.slice/agent.service\n",
	  "systemd:id:user@10.service", "systemd:id:agent.service" },
	{ "a user's slice of that name", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"),
	  "0::/user.slice/user@10.service/system.slice/agent.service\n",
	  "systemd:id:user@10.service", "systemd:id:agent.service" },
	{ "nested slices", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"),
	  "0::/a.slice/a-b.slice/session-3.scope\n", "systemd:id:session-3.scope", "systemd:id:a" },
	{ "escaped", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/system.slice/_cpu.service\n",
	  "systemd:id:cpu.service", "systemd:id:_" },
	{ "a container", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/docker/4f/agent.service\n",
	  "unix:cgroup:/docker/4f/agent.service", "systemd:" },
	{ "slice alone", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/system.slice\n",
	  "unix:cgroup:/system.slice", "systemd:" },
	{ "root", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/\n", "unix:cgroup:/", "systemd:" },
	{ "outside", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/../agent.service\n",
	  "unix:uid:10", "unix:cgroup" },
	{ "removed", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"),
	  "0::/system.slice/agent.service (deleted)\n", "unix:uid:10", "unix:cgroup" },
	{ "version 1", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"),
	  "3:cpu,cpuacct:/x.service\n1:name=systemd:/system.slice/a.service\n0::/y.service\n",
	  "systemd:id:a.service", "systemd:id:y" },
	{ "colon in the path", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/a.slice/b:c.service\n",
	  "systemd:id:b:c.service", "unix:path" },
	{ "no unit's name", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/a.slice/b c.service\n",
	  "unix:cgroup:/a.slice/b c.service", "systemd:" },
	{ "no name before the dot", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"),
	  "0::/a.slice/.service\n", "unix:cgroup:/a.slice/.service", "systemd:" },
	{ "not UTF-8", "7 (x)" STAT_TAIL "9 0\n", STATUS("10"), "0::/a\xff\n", "unix:uid:10",
	  "unix:cgroup" },
};

static void put_proc(void **state, const char *stat, const char *status, const char *cgroup)
{
	mkdir(tmp_dir_path(state, "7"), 0700);
	put_file(tmp_dir_path(state, "7/stat"), str_c(stat), 0600);
	put_file(tmp_dir_path(state, "7/status"), str_c(status), 0600);
	put_file(tmp_dir_path(state, "7/cgroup"), str_c(cgroup), 0600);
}

static void reads_the_table(void **state)
{
	int proc = open(tmp_dir_path(state, "."), O_PATH | O_DIRECTORY);

	for (size_t i = 0; i < ARRAY_LEN(procs); i++) {
		struct attest_unix_pin p = { .dir = -1 };
		struct got g = { 0 };
		bool ok;

		put_proc(state, procs[i].stat, procs[i].status, procs[i].cgroup);
		arena_init(&g.arena, &mem_system, 1 << 20);
		ok = attest_unix_pin_at(proc, 7, 10, 20, &p, &g.e) &&
		     attest_unix_selectors_of(&p, &g.arena, &g.items, &g.n, &g.e);
		attest_unix_unpin(&p);
		if (ok != (procs[i].gives != NULL) ||
		    (ok ? !has(&g, procs[i].gives) || has_any(&g, procs[i].not )
			: !strstr(g.e.msg, procs[i].not )))
			fail_msg("%s: %s", procs[i].why, ok ? "other selectors" : g.e.msg);
		arena_clear(&g.arena);
	}
	close(proc);
}

static void a_reused_pid_is_noticed(void **state)
{
	int proc = open(tmp_dir_path(state, "."), O_PATH | O_DIRECTORY);
	struct attest_unix_pin p;
	struct got g = { 0 };

	put_proc(state, "7 (x)" STAT_TAIL "99 0\n", STATUS("10"), "");
	assert_true(attest_unix_pin_at(proc, 7, 10, 20, &p, &g.e));
	assert_true(attest_unix_check(&p, &g.e));
	put_proc(state, "7 (x)" STAT_TAIL "100 0\n", STATUS("10"), "");
	assert_false(attest_unix_check(&p, &g.e));
	assert_non_null(strstr(g.e.msg, "given anew"));
	attest_unix_unpin(&p);
	close(proc);
}

static void too_many_groups_give_none(void **state)
{
	int proc = open(tmp_dir_path(state, "."), O_PATH | O_DIRECTORY);
	struct attest_unix_pin p;
	struct got g = { 0 };
	AUTO_BUF status = { 0 };

	buf_init(&status, mem_system, 1 << 16);
	buf_lit(&status, STATUS("10") "Groups:\t");
	for (int i = 0; i <= ATTEST_UNIX_GROUPS; i++)
		buf_printf(&status, "%d ", 5000 + i);
	buf_lit(&status, "\n");
	buf_char(&status, '\0');
	put_proc(state, "7 (x)" STAT_TAIL "99 0\n", status.p, "");
	arena_init(&g.arena, &mem_system, 1 << 20);
	assert_true(attest_unix_pin_at(proc, 7, 10, 20, &p, &g.e));
	assert_true(attest_unix_selectors_of(&p, &g.arena, &g.items, &g.n, &g.e));
	assert_false(has_any(&g, "unix:supplementary"));
	attest_unix_unpin(&p);
	arena_clear(&g.arena);
	close(proc);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, tmp_dir_make, tmp_dir_remove)
	const struct CMUnitTest tests[] = {
		T(tells_of_ourselves),
		T(refuses_who_is_not_there),
		T(reads_past_hostile_names),
		T(an_end_is_noticed),
		T(a_path_that_leads_elsewhere_is_not_given),
		T(hashes_a_settled_file_once),
		T(reads_the_table),
		T(a_reused_pid_is_noticed),
		T(too_many_groups_give_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
