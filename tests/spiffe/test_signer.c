/* spiffe/signer: the process, its clients, its confinement. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "authz/base/clock.h"
#include "spiffe/signer.h"
#include "spiffe/signer_child.h"
#include "tests/spiffe/folder.h"
#include "tests/spiffe/forge.h"

static struct signer *start(unsigned channels)
{
	struct signer_config c = { .folder = folder,
				   .trust_domain = STR("a.example"),
				   .channels = channels };
	struct signer *s = NULL;
	struct err e = { 0 };

	if (!signer_start(&c, &s, &e))
		fail_msg("%s", e.msg);
	return s;
}

#define JOBS 1000

static struct {
	struct signer_job job;
	struct buf out;
} jobs[JOBS];
static size_t finished, failed;

static void in_order(struct signer_job *j)
{
	assert_ptr_equal(j, &jobs[finished + failed].job);
	if (j->ok)
		finished++;
	else
		failed++;
}

static struct signer_job jwt_now(void)
{
	int64_t now = clock_wall_ms(&clock_system) / 1000;

	return (struct signer_job){ .op = SIGNER_JWT_SVID,
				    .jwt = { .spiffe_id = STR("spiffe://a.example/agent/7"),
					     .audience = { STR("us") },
					     .naudience = 1,
					     .issued_s = now,
					     .expires_s = now + 300 } };
}

static void send_all(struct signer_client *c)
{
	struct err e = { 0 };

	finished = failed = 0;
	for (size_t i = 0; i < JOBS; i++) {
		buf_init(&jobs[i].out, mem_system, LIMIT_TOKEN);
		jobs[i].job = jwt_now();
		jobs[i].job.done = in_order;
		jobs[i].job.out = &jobs[i].out;
		if (i % 10 == 3)
			jobs[i].job.jwt.spiffe_id = STR("spiffe://b.example/x");
		if (!signer_send(c, &jobs[i].job, &e))
			fail_msg("%s", e.msg);
	}
}

static void clear_all(void)
{
	for (size_t i = 0; i < JOBS; i++)
		buf_clear(&jobs[i].out);
}

static void a_pipeline_keeps_its_order(void **state)
{
	struct signer *s = start(2);
	struct signer_client *c = signer_client_new(s, NULL), *other = signer_client_new(s, NULL);
	struct signer_job one = jwt_now();
	struct err e = { 0 };
	struct buf out;

	(void)state;
	assert_null(signer_client_new(s, &e));
	send_all(c);
	assert_int_equal(signer_pending(c), JOBS);
	signer_flush(c);
	/* meanwhile another channel gets its turn */
	buf_init(&out, mem_system, LIMIT_TOKEN);
	one.out = &out;
	if (!signer_call(other, &one, &e))
		fail_msg("%s", e.msg);
	one.jwt.naudience = 0;
	assert_false(signer_call(other, &one, &e));
	assert_int_equal(e.class, ERR_INVALID);
	while (signer_pending(c)) {
		struct pollfd p = { .fd = signer_client_fd(c), .events = POLLIN };

		assert_int_equal(poll(&p, 1, 10000), 1);
		signer_readable(c);
	}
	assert_int_equal(finished, JOBS * 9 / 10);
	assert_int_equal(failed, JOBS / 10);
	assert_false(signer_dead(s));
	clear_all();
	buf_clear(&out);
	signer_client_free(other);
	signer_client_free(c);
	signer_stop(s);
}

static void when_the_signer_dies_every_job_fails(void **state)
{
	struct signer *s = start(1);
	struct signer_client *c = signer_client_new(s, NULL);
	struct signer_job one = jwt_now();
	struct err e = { 0 };

	(void)state;
	kill(signer_pid(s), SIGSTOP);
	send_all(c);
	signer_flush(c);
	kill(signer_pid(s), SIGKILL);
	while (signer_pending(c)) {
		struct pollfd p = { .fd = signer_client_fd(c), .events = POLLIN };

		assert_int_equal(poll(&p, 1, 10000), 1);
		signer_readable(c);
	}
	assert_int_equal(failed, JOBS);
	assert_int_equal(jobs[7].job.err.class, ERR_UNAVAILABLE);
	assert_true(signer_dead(s));
	assert_false(signer_send(c, &one, &e));
	assert_int_equal(e.class, ERR_UNAVAILABLE);
	clear_all();
	signer_client_free(c);
	signer_stop(s);
}

static void stopping_fails_what_waits(void **state)
{
	struct signer *s = start(1);
	struct signer_client *c = signer_client_new(s, NULL);

	(void)state;
	send_all(c);
	signer_client_free(c);
	assert_int_equal(finished + failed, JOBS);
	clear_all();
	signer_stop(s);
	signer_stop(NULL);
}

static void too_many_jobs_are_refused(void **state)
{
	struct signer *s = start(1);
	struct signer_client *c = signer_client_new(s, NULL);
	struct signer_job *many = calloc(SIGNER_PENDING_MAX + 1, sizeof(*many));
	struct err e = { 0 };
	struct buf out;

	(void)state;
	buf_init(&out, mem_system, 1 << 24);
	for (size_t i = 0; i <= SIGNER_PENDING_MAX; i++) {
		many[i] = jwt_now();
		many[i].out = &out;
		if (signer_send(c, &many[i], &e) != (i < SIGNER_PENDING_MAX))
			fail_msg("%zu: %s", i, e.msg);
	}
	assert_int_equal(e.class, ERR_UNAVAILABLE);
	signer_client_free(c);
	signer_stop(s);
	buf_clear(&out);
	free(many);
}

static void what_is_public_agrees(void **state)
{
	struct signer *s = start(1);
	const struct signer_public *p = signer_public(s);
	struct signer_keys k;
	uint8_t raw[32];
	size_t n = sizeof(raw);
	struct str der, spki;

	(void)state;
	assert_true(p->created);
	assert_true(open_keys("a.example", &k, NULL));
	der = forge_der(k.authority);
	spki = forge_spki(k.jwt);
	assert_true(str_eq(p->authority, der));
	assert_true(str_eq(p->jwt_spki, spki));
	assert_int_equal(p->jwt_kid.n, JWT_KID_LEN);
	EVP_PKEY_get_raw_public_key(k.log, raw, &n);
	assert_memory_equal(raw, p->log_key, 32);
	forge_free(der);
	forge_free(spki);
	signer_keys_clear(&k);
	signer_stop(s);
	s = start(1);
	assert_false(signer_public(s)->created);
	signer_stop(s);
}

static void a_start_that_fails_says_why(void **state)
{
	struct signer_config c = { .folder = folder,
				   .trust_domain = STR("a.example"),
				   .channels = 1 };
	struct signer *s = NULL;
	struct err e = { 0 };

	(void)state;
	made();
	assert_int_equal(chmod(folder, 0777), 0);
	assert_false(signer_start(&c, &s, &e));
	assert_int_equal(e.class, ERR_FORBIDDEN);
	assert_non_null(strstr(e.msg, "chmod 700"));
	assert_null(s);
	c.channels = 0;
	assert_false(signer_start(&c, &s, &e));
	c.channels = 1;
	c.trust_domain = STR("spiffe://a.example");
	assert_false(signer_start(&c, &s, &e));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
	assert_int_equal(errno, ECHILD);
}

/* What /proc says of the child: no files but its channels, no core dumps. */
static void the_child_holds_only_its_channels(void **state)
{
	struct signer *s = start(3);
	char path[64], target[64], line[128];
	unsigned sockets = 0, others = 0;
	const struct dirent *entry;
	FILE *f;
	DIR *dir;

	(void)state;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)signer_pid(s));
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (n < 0)
			continue;
		target[n] = '\0';
		if (strncmp(target, "socket:", 7) == 0 && strcmp(entry->d_name, "2") != 0)
			sockets++;
		else if (strcmp(entry->d_name, "2") != 0 && strcmp(target, "/dev/null") != 0)
			others++;
	}
	if (dir) { /* not readable for an ordinary user: the process is not dumpable */
		assert_true(sockets == 3 || (sockets == 0 && geteuid() != 0));
		assert_int_equal(others, 0);
		closedir(dir);
	}
	snprintf(path, sizeof(path), "/proc/%d/status", (int)signer_pid(s));
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "Seccomp:", 8) == 0)
			assert_int_equal(strtol(line + 8, NULL, 10),
					 signer_public(s)->confined ? 2 : 0);
	fclose(f);
	kill(signer_pid(s), SIGINT);
	kill(signer_pid(s), SIGTERM);
	assert_int_equal(waitpid(signer_pid(s), NULL, WNOHANG), 0); /* still there */
	signer_stop(s);
}

static bool forbidden(bool worked)
{
	return !worked && errno == EPERM;
}

/* In a process of its own: after the filter nothing opens, connects or runs any more; with a
 * token's module, only what such a module needs. Exit code: how many calls were not as they should
 * be. */
static int confined(enum confine how)
{
	bool files = how != CONFINE_ALL, network = how == CONFINE_NETWORK;
	int bad = 0;

	if (!signer_confine(how))
		return 42;
	bad += forbidden(open("/etc/passwd", O_RDONLY) >= 0) == files;
	bad += forbidden(unlink("/tmp/no/such/thing") == 0) == files;
	bad += forbidden(socket(AF_UNIX, SOCK_STREAM, 0) >= 0) == files;
	bad += forbidden(socket(AF_INET, SOCK_STREAM, 0) >= 0) == network;
	bad += forbidden(socket(AF_INET6, SOCK_DGRAM, 0) >= 0) == network;
	bad += !forbidden(socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
	bad += !forbidden(execl("/bin/true", "true", (char *)NULL) == 0);
	bad += !forbidden(fork() >= 0);
	bad += !forbidden(chmod("/tmp/no/such/thing", 0600) == 0);
	bad += !forbidden(listen(0, 1) == 0);
	bad += write(2, "", 0) != 0; /* what is open still works */
	return bad;
}

static void check_confinement(enum confine how)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(confined(how));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 42) {
		print_message("no seccomp on this machine\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void confinement_holds(void **state)
{
	(void)state;
	check_confinement(CONFINE_ALL);
	check_confinement(CONFINE_LOCAL);
	check_confinement(CONFINE_NETWORK);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, fresh_folder, drop_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(a_pipeline_keeps_its_order),
		IN_FOLDER(when_the_signer_dies_every_job_fails),
		IN_FOLDER(stopping_fails_what_waits),
		IN_FOLDER(too_many_jobs_are_refused),
		IN_FOLDER(what_is_public_agrees),
		IN_FOLDER(a_start_that_fails_says_why),
		IN_FOLDER(the_child_holds_only_its_channels),
		cmocka_unit_test(confinement_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
