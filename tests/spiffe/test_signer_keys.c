/* spiffe/signer_keys: keys on disk, made once, refused when loose, broken or gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/spiffe/folder.h"

static void the_first_start_makes_keys(void **state)
{
	static const char *const names[] = { "x509.key", "jwt.key", "log.key" };
	struct signer_keys k, again;
	struct err e = { 0 };
	struct stat st;
	char path[160];

	(void)state;
	assert_true(open_keys("a.example", &k, &e));
	assert_true(k.created);
	assert_int_equal(stat(folder, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		path_of(names[i], path);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
	}
	assert_true(open_keys("a.example", &again, &e));
	assert_false(again.created);
	assert_int_equal(EVP_PKEY_eq(k.x509, again.x509), 1);
	assert_int_equal(EVP_PKEY_eq(k.jwt, again.jwt), 1);
	assert_int_equal(EVP_PKEY_eq(k.log, again.log), 1);
	assert_int_equal(EVP_PKEY_eq(k.x509, k.jwt), 0);
	assert_int_equal(X509_cmp(k.authority, again.authority), 0);
	signer_keys_clear(&k);
	signer_keys_clear(&again);
}

static void an_empty_folder_counts_as_none(void **state)
{
	(void)state;
	assert_int_equal(mkdir(folder, 0755), 0);
	made();
}

/* A crash while the keys were made leaves "keys.new" behind, and no keys. */
static void a_first_start_cut_short_is_begun_again(void **state)
{
	char path[160];
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "%s.new", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s.new/log.key", folder);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "-----BEG", 8), 8);
	close(fd);
	made();
	assert_int_equal(access(path, F_OK), -1);
}

static void spoil_mode(const char *path)
{
	assert_int_equal(chmod(path, 0640), 0);
}

static void spoil_owner(const char *path)
{
	if (geteuid() == 0)
		assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
	else
		spoil_mode(path);
}

static void spoil_link(const char *path)
{
	char elsewhere[200];

	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", base);
	assert_int_equal(rename(path, elsewhere), 0);
	assert_int_equal(symlink(elsewhere, path), 0);
}

static void spoil_gone(const char *path)
{
	assert_int_equal(unlink(path), 0);
}

static void spoil_empty(const char *path)
{
	assert_int_equal(truncate(path, 0), 0);
}

static void spoil_cut(const char *path)
{
	assert_int_equal(truncate(path, 100), 0);
}

static void spoil_fifo(const char *path)
{
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
}

static void loose_or_broken_keys_are_refused(void **state)
{
	static const struct {
		void (*spoil)(const char *path);
		const char *name, *says;
	} rows[] = {
		{ spoil_mode, "jwt.key", "chmod 600" },
		{ spoil_mode, "log.key", "mode 0640" },
		{ spoil_owner, "x509.key", "chown" },
		{ spoil_link, "jwt.key", "symbolic link" },
		{ spoil_gone, "log.key", "log.key is missing" },
		{ spoil_gone, "x509.key", "restore it from a backup" },
		{ spoil_gone, "x509.pem", "missing" },
		{ spoil_empty, "jwt.key", "bytes" },
		{ spoil_cut, "x509.key", "x509.key" },
		{ spoil_cut, "x509.pem", "x509.pem" },
		{ spoil_fifo, "jwt.key", "no file" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *says = rows[i].says;
		struct signer_keys k;
		struct err e = { 0 };
		char path[160];

		if (rows[i].spoil == spoil_owner && geteuid() != 0)
			says = "chmod";
		made();
		path_of(rows[i].name, path);
		rows[i].spoil(path);
		if (open_keys("a.example", &k, &e) || !strstr(e.msg, says))
			fail_msg("%zu %s: %s", i, rows[i].name, e.msg);
		remove_tree(folder);
	}
	made();
	assert_int_equal(chmod(folder, 0750), 0);
	{
		struct signer_keys k;
		struct err e = { 0 };

		assert_false(open_keys("a.example", &k, &e));
		assert_non_null(strstr(e.msg, "chmod 700"));
	}
}

static void keys_in_each_others_place_are_refused(void **state)
{
	struct signer_keys k;
	struct err e = { 0 };
	char jwt[160], x509[160], log[160], tmp[160];

	(void)state;
	made();
	path_of("jwt.key", jwt);
	path_of("x509.key", x509);
	path_of("log.key", log);
	path_of("tmp", tmp);
	assert_int_equal(rename(jwt, tmp) | rename(x509, jwt) | rename(tmp, x509), 0);
	assert_false(open_keys("a.example", &k, &e));
	assert_non_null(strstr(e.msg, "not the certificate of x509.key"));
	assert_int_equal(rename(x509, tmp) | rename(log, x509) | rename(tmp, log), 0);
	assert_false(open_keys("a.example", &k, &e));
	assert_non_null(strstr(e.msg, "no Ed25519 key"));
}

static void another_trust_domain_is_refused(void **state)
{
	struct signer_keys k;
	struct err e = { 0 };

	(void)state;
	made();
	assert_false(open_keys("b.example", &k, &e));
	assert_int_equal(e.class, ERR_CONFLICT);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, fresh_folder, drop_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(the_first_start_makes_keys),
		IN_FOLDER(an_empty_folder_counts_as_none),
		IN_FOLDER(a_first_start_cut_short_is_begun_again),
		IN_FOLDER(loose_or_broken_keys_are_refused),
		IN_FOLDER(keys_in_each_others_place_are_refused),
		IN_FOLDER(another_trust_domain_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
