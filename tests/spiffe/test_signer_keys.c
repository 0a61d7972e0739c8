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
#include "tests/spiffe/forge.h"

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

/* ---- encryption at rest ---- */

static void put_file(const char *path, const char *text, size_t n, mode_t mode)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), (ssize_t)n);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static bool file_holds(const char *name, const char *text)
{
	char path[160], bytes[4096] = "";
	FILE *f;
	size_t n;

	path_of(name, path);
	f = fopen(path, "re");
	assert_non_null(f);
	n = fread(bytes, 1, sizeof(bytes) - 1, f);
	fclose(f);
	return memmem(bytes, n, text, strlen(text)) != NULL;
}

static bool open_with(const char *key_file, struct signer_keys *k, struct err *e)
{
	return signer_keys_open(folder, STR("a.example"), FORGE_NOW, 365 * 86400, key_file, k, e);
}

#define GOOD_KEY "0123456789abcdef0123456789abcdef"

/* Turned on over plain keys, they are encrypted one by one; a stop in between leaves a mix, which
 * the next start reads and finishes. */
static void encryption_is_turned_on_at_any_time(void **state)
{
	static const char *const names[] = { "log.key", "jwt.key", "x509.key" };
	struct signer_keys before, after;
	struct err e = { 0 };
	char key_file[160], path[160], copy[200];

	(void)state;
	snprintf(key_file, sizeof(key_file), "%s/at-rest", base);
	put_file(key_file, GOOD_KEY, 32, 0600);
	assert_true(open_keys("a.example", &before, &e));
	path_of("jwt.key", path);
	snprintf(copy, sizeof(copy), "%s/copy", base);
	assert_int_equal(link(path, copy), 0);
	for (int round = 0; round < 2; round++) {
		if (!open_with(key_file, &after, &e))
			fail_msg("%s", e.msg);
		assert_true(after.seal.encrypted);
		assert_memory_equal(before.seal.key, after.seal.key, SEAL_KEY_LEN);
		assert_int_equal(EVP_PKEY_eq(before.x509, after.x509), 1);
		assert_int_equal(EVP_PKEY_eq(before.jwt, after.jwt), 1);
		assert_int_equal(EVP_PKEY_eq(before.log, after.log), 1);
		signer_keys_clear(&after);
		for (size_t i = 0; i < ARRAY_LEN(names); i++)
			if (file_holds(names[i], "PRIVATE KEY") ||
			    !file_holds(names[i], "BEGIN " SEAL_LABEL))
				fail_msg("%s is not sealed", names[i]);
		assert_false(file_holds(SEAL_FILE, "BEGIN WRIT STORAGE KEY"));
		/* The stop in between: one of them is plain as it was. */
		assert_int_equal(rename(copy, path), round ? -1 : 0);
	}
	signer_keys_clear(&before);
}

static void a_first_start_may_encrypt(void **state)
{
	struct signer_keys k;
	struct err e = { 0 };
	char key_file[160];

	(void)state;
	snprintf(key_file, sizeof(key_file), "%s/at-rest", base);
	put_file(key_file, GOOD_KEY, 32, 0400);
	if (!open_with(key_file, &k, &e))
		fail_msg("%s", e.msg);
	assert_false(file_holds("log.key", "PRIVATE KEY"));
	signer_keys_clear(&k);
}

static void what_does_not_open_says_why(void **state)
{
	static const struct {
		const char *why, *key, *says;
		size_t n;
		mode_t mode;
	} rows[] = {
		{ "none given", NULL, "keys.encrypt is not set", 0, 0 },
		{ "another", "another key of thirty-two bytes!", "is not the key file", 32, 0600 },
		{ "too short", "short", "32 to 4096 random", 5, 0600 },
		{ "loose", GOOD_KEY, "chmod 600", 32, 0644 },
		{ "group may write", GOOD_KEY, "chmod 600", 32, 0620 },
		{ "gone", "", "cannot read", 0, 0 },
	};
	struct signer_keys k;
	struct err e = { 0 };
	char key_file[160], other[160];

	(void)state;
	snprintf(key_file, sizeof(key_file), "%s/at-rest", base);
	snprintf(other, sizeof(other), "%s/other", base);
	put_file(key_file, GOOD_KEY, 32, 0600);
	assert_true(open_with(key_file, &k, &e));
	signer_keys_clear(&k);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		e = (struct err){ 0 };
		unlink(other);
		if (rows[i].mode)
			put_file(other, rows[i].key, rows[i].n, rows[i].mode);
		if (open_with(rows[i].key ? other : NULL, &k, &e) || !strstr(e.msg, rows[i].says) ||
		    strstr(e.msg, GOOD_KEY))
			fail_msg("%s: %s", rows[i].why, e.msg);
	}
	if (!open_with(key_file, &k, &e)) /* nothing was harmed by trying */
		fail_msg("%s", e.msg);
	signer_keys_clear(&k);
}

/* storage.key appears in a folder of before it existed, but never beside keys sealed under it. */
static void a_lost_storage_key_is_not_replaced(void **state)
{
	struct signer_keys k;
	struct err e = { 0 };
	char path[160];

	(void)state;
	made();
	path_of(SEAL_FILE, path);
	assert_int_equal(unlink(path), 0);
	made();
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unlink(path), 0);
	path_of("jwt-AAAA.key", path);
	put_file(path, "x", 1, 0600);
	assert_false(open_keys("a.example", &k, &e));
	assert_non_null(strstr(e.msg, "restore it from a backup"));
}

/* Once rotation has put others beside them, the first keys may be gone. */
static void first_keys_may_have_been_replaced(void **state)
{
	struct signer_keys k;
	struct err e = { 0 };
	char path[160];

	(void)state;
	made();
	path_of("x509-00.key", path);
	put_file(path, "x", 1, 0600);
	path_of("jwt-00.key", path);
	put_file(path, "x", 1, 0600);
	path_of("x509.key", path);
	assert_int_equal(unlink(path), 0);
	for (int round = 0; round < 2; round++) { /* with and without the certificate */
		if (!open_keys("a.example", &k, &e))
			fail_msg("%s", e.msg);
		assert_null(k.x509);
		assert_null(k.authority);
		assert_non_null(k.jwt);
		assert_false(k.created);
		signer_keys_clear(&k);
		path_of("x509.pem", path);
		assert_int_equal(unlink(path), round ? -1 : 0);
	}
	path_of("log.key", path);
	assert_int_equal(unlink(path), 0);
	assert_false(open_keys("a.example", &k, &e));
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
		IN_FOLDER(encryption_is_turned_on_at_any_time),
		IN_FOLDER(a_first_start_may_encrypt),
		IN_FOLDER(what_does_not_open_says_why),
		IN_FOLDER(a_lost_storage_key_is_not_replaced),
		IN_FOLDER(first_keys_may_have_been_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
