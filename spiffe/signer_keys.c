#include "spiffe/signer_keys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/store/file.h"
#include "spiffe/crypto.h"
#include "spiffe/x509_svid.h"

#define WITNESS_KEY "witness.key"
#define LOG_KEY "log.key"
#define LOG_NEXT_KEY "log-next.key" /* sealed as LOG_KEY, whose place it takes */
#define FILE_MAX (16 * 1024)

static void auto_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define AUTO_FD __attribute__((cleanup(auto_close))) int

void signer_keys_clear(struct signer_keys *k)
{
	EVP_PKEY_free(k->x509);
	EVP_PKEY_free(k->jwt);
	EVP_PKEY_free(k->log);
	EVP_PKEY_free(k->next);
	EVP_PKEY_free(k->witness);
	X509_free(k->authority);
	seal_clear(&k->seal);
	*k = (struct signer_keys){ 0 };
}

static bool write_file(int dir, const char *name, struct str text, struct err *e)
{
	AUTO_FD fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	size_t at = 0;

	while (fd >= 0 && at < text.n) {
		ssize_t n = write(fd, text.p + at, text.n - at);

		if (n <= 0)
			break;
		at += (size_t)n;
	}
	if (fd < 0 || at < text.n || fsync(fd) != 0)
		return err_set(e, ERR_IO, "keys: cannot write %s: %s", name, strerror(errno));
	return true;
}

/* A key as its file holds it: sealed if the folder is encrypted, else PKCS#8. */
static bool key_text(const struct seal *seal, const char *name, const EVP_PKEY *key,
		     struct buf *pem, struct err *e)
{
	AUTO_SECRET der = { 0 };

	/* Room from the start: growing would leave copies behind. */
	buf_init(&der, mem_system, FILE_MAX);
	buf_init(pem, mem_system, FILE_MAX);
	if (!buf_room(&der, 1024) || !buf_room(pem, 2048))
		return err_set(e, ERR_NOMEM, "no memory for a key");
	if (!crypto_pkcs8(key, &der, e))
		return false;
	if (seal->encrypted)
		return seal_close(seal, str_c(name), buf_str(&der), pem, e);
	crypto_pem(pem, "PRIVATE KEY", buf_str(&der));
	return true;
}

static bool write_key(int dir, const struct seal *seal, const char *name, const EVP_PKEY *key,
		      struct err *e)
{
	AUTO_SECRET pem = { 0 };

	return key_text(seal, name, key, &pem, e) && write_file(dir, name, buf_str(&pem), e);
}

static bool make_files(int dir, const char *path, struct str trust_domain, int64_t now_s,
		       int64_t ttl_s, const char *key_file, struct err *e)
{
	__attribute__((cleanup(seal_clear))) struct seal seal = { 0 };
	AUTO_PKEY *x509 = NULL;
	AUTO_PKEY *jwt = NULL;
	AUTO_PKEY *log = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	AUTO_BUF der = { 0 };
	AUTO_BUF pem = { 0 };

	buf_init(&der, mem_system, FILE_MAX);
	buf_init(&pem, mem_system, FILE_MAX);
	if (!log)
		return crypto_err(e, "cannot generate an Ed25519 key");
	if (!crypto_generate(&x509, e) || !crypto_generate(&jwt, e) ||
	    !x509_authority_issue(x509, trust_domain, now_s - X509_SVID_BACKDATE_S, now_s + ttl_s,
				  &der, e))
		return false;
	crypto_pem(&pem, "CERTIFICATE", buf_str(&der));
	if (!seal_open(dir, path, key_file, true, &seal, e) ||
	    !write_key(dir, &seal, LOG_KEY, log, e) || !write_key(dir, &seal, "jwt.key", jwt, e) ||
	    !write_key(dir, &seal, "x509.key", x509, e) ||
	    !write_file(dir, "x509.pem", buf_str(&pem), e))
		return false;
	if (fsync(dir) != 0)
		return err_set(e, ERR_IO, "keys: cannot sync the folder: %s", strerror(errno));
	return true;
}

/* What a crash during the first start left behind was never used for anything. */
static void remove_leftover(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	while (d && (entry = readdir(d)))
		unlinkat(dirfd(d), entry->d_name, 0); /* "." and ".." refuse */
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
	rmdir(path);
}

static bool sync_parent(const char *folder, struct err *e)
{
	char path[PATH_MAX];
	char *slash;
	AUTO_FD fd = -1;

	snprintf(path, sizeof(path), "%s", folder);
	slash = strrchr(path, '/');
	if (!slash)
		snprintf(path, sizeof(path), ".");
	else
		slash[slash == path] = '\0';
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		return err_set(e, ERR_IO, "keys: cannot sync %s: %s", path, strerror(errno));
	return true;
}

static bool make_folder(const char *folder, struct str trust_domain, int64_t now_s, int64_t ttl_s,
			const char *key_file, struct err *e)
{
	char path[PATH_MAX];
	AUTO_FD dir = -1;

	if (snprintf(path, sizeof(path), "%s.new", folder) >= (int)sizeof(path))
		return err_set(e, ERR_INVALID, "keys: the path of the folder is too long");
	remove_leftover(path);
	if (mkdir(path, 0700) != 0)
		return err_set(e, ERR_IO, "keys: cannot make %s: %s", path, strerror(errno));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fchmod(dir, 0700) != 0)
		return err_set(e, ERR_IO, "keys: cannot open %s: %s", path, strerror(errno));
	if (!make_files(dir, path, trust_domain, now_s, ttl_s, key_file, e)) {
		remove_leftover(path);
		return false;
	}
	if (rename(path, folder) != 0)
		return err_set(e, ERR_IO, "keys: cannot rename %s to %s: %s", path, folder,
			       strerror(errno));
	return sync_parent(folder, e);
}

/* Absent, or there without an entry. */
static bool folder_is_fresh(const char *folder)
{
	DIR *d = opendir(folder);
	const struct dirent *entry;
	bool fresh = true;

	if (!d)
		return errno == ENOENT;
	while (fresh && (entry = readdir(d)))
		fresh = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
	closedir(d);
	return fresh;
}

/* Whoever else can read a key can be us; whoever can write one decides whom we trust. */
static bool private_to_us(const struct stat *st, const char *folder, const char *name, mode_t loose,
			  struct err *e)
{
	if (st->st_uid != geteuid())
		return err_set(e, ERR_FORBIDDEN,
			       "keys: %s%s belongs to user %u, but writ runs as user %u: chown it",
			       folder, name, (unsigned)st->st_uid, (unsigned)geteuid());
	if (st->st_mode & loose)
		return err_set(e, ERR_FORBIDDEN,
			       "keys: %s%s has mode %04o, open to others: chmod %s %s%s", folder,
			       name, (unsigned)(st->st_mode & 07777), *name ? "600" : "700", folder,
			       name);
	return true;
}

static bool read_file(int dir, const char *folder, const char *name, mode_t loose, struct buf *out,
		      struct err *e)
{
	AUTO_FD fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char label[64];
	struct stat st;
	ssize_t n;

	snprintf(label, sizeof(label), "/%s", name);
	if (fd < 0 && errno == ENOENT)
		return err_set(e, ERR_NOT_FOUND,
			       "keys: %s/%s is missing, while others are there: restore it from a "
			       "backup; writ makes keys only where there are none",
			       folder, name);
	if (fd < 0 || fstat(fd, &st) != 0)
		return err_set(e, ERR_IO, "keys: cannot open %s/%s: %s", folder, name,
			       errno == ELOOP ? "it is a symbolic link" : strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > FILE_MAX)
		return err_set(e, ERR_INVALID, "keys: %s/%s is no file of 1 to %d bytes", folder,
			       name, FILE_MAX);
	if (!private_to_us(&st, folder, label, loose, e))
		return false;
	if (!buf_room(out, FILE_MAX))
		return err_set(e, ERR_NOMEM, "no memory for a key");
	n = read(fd, out->p, FILE_MAX);
	if (n <= 0)
		return err_set(e, ERR_IO, "keys: cannot read %s/%s: %s", folder, name,
			       strerror(errno));
	out->n = (size_t)n;
	return true;
}

static EVP_PKEY *key_of_pkcs8(struct str der)
{
	const unsigned char *p = (const unsigned char *)der.p;
	PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)der.n);
	EVP_PKEY *key = info && p == (const unsigned char *)der.p + der.n ? EVP_PKCS82PKEY(info)
									  : NULL;

	PKCS8_PRIV_KEY_INFO_free(info);
	return key;
}

static bool is_p256(const EVP_PKEY *key)
{
	char group[32] = "";
	size_t n;

	return EVP_PKEY_is_a(key, "EC") &&
	       EVP_PKEY_get_group_name(key, group, sizeof(group), &n) == 1 &&
	       strcmp(group, "prime256v1") == 0;
}

/* The PKCS#8 of a key file, plain or sealed as @as. */
static bool read_pkcs8(int dir, const char *folder, const char *name, const char *as,
		       const struct seal *seal, struct buf *der, bool *plain, struct err *e)
{
	AUTO_SECRET text = { 0 };

	buf_init(&text, mem_system, FILE_MAX);
	buf_init(der, mem_system, FILE_MAX);
	if (!read_file(dir, folder, name, 077, &text, e))
		return false;
	if (!buf_room(der, FILE_MAX))
		return err_set(e, ERR_NOMEM, "no memory for a key");
	*plain = !str_starts(buf_str(&text), STR("-----BEGIN " SEAL_LABEL "-----"));
	if (*plain ? crypto_unpem(buf_str(&text), "PRIVATE KEY", der, e)
		   : seal_break(seal, str_c(as), buf_str(&text), der, e))
		return true;
	return err_prefix(e, "keys: %s/%s", folder, name);
}

static bool read_key(int dir, const char *folder, const char *name, const struct seal *seal,
		     bool ed25519, EVP_PKEY **out, struct err *e)
{
	AUTO_SECRET der = { 0 };
	AUTO_SECRET sealed = { 0 };
	AUTO_PKEY *key = NULL;
	bool plain;

	const char *as = strcmp(name, LOG_NEXT_KEY) == 0 ? LOG_KEY : name;

	if (!read_pkcs8(dir, folder, name, as, seal, &der, &plain, e))
		return false;
	key = key_of_pkcs8(buf_str(&der));
	if (!key || !(ed25519 ? EVP_PKEY_is_a(key, "ED25519") : is_p256(key)))
		return err_set(e, ERR_INVALID, "keys: %s/%s holds no %s key in PKCS#8", folder,
			       name, ed25519 ? "Ed25519" : "EC P-256");
	/* Encryption was turned on since it was written. */
	if (plain && seal->encrypted &&
	    (!key_text(seal, as, key, &sealed, e) ||
	     !file_replace(NULL, dir, name, buf_str(&sealed), 0600, e)))
		return err_prefix(e, "keys: %s/%s cannot be encrypted", folder, name);
	*out = key;
	key = NULL;
	return true;
}

static bool is_authority_of(X509 *cert, struct str trust_domain)
{
	GENERAL_NAMES *sans = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; i < sk_GENERAL_NAME_num(sans); i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(sans, i);
		struct spiffe_id id;

		if (g->type != GEN_URI)
			continue;
		found = spiffe_id_parse((struct str){ (const char *)ASN1_STRING_get0_data(
							      g->d.uniformResourceIdentifier),
						      (size_t)ASN1_STRING_length(
							      g->d.uniformResourceIdentifier) },
					&id, NULL) &&
			id.path.n == 0 && spiffe_id_member_of(&id, trust_domain);
	}
	GENERAL_NAMES_free(sans);
	return found;
}

static bool read_authority(int dir, const char *folder, struct str trust_domain,
			   struct signer_keys *k, struct err *e)
{
	AUTO_BUF text = { 0 };
	AUTO_BUF der = { 0 };

	buf_init(&text, mem_system, FILE_MAX);
	buf_init(&der, mem_system, FILE_MAX);
	if (!read_file(dir, folder, "x509.pem", 022, &text, e))
		return false;
	if (!crypto_unpem(buf_str(&text), "CERTIFICATE", &der, e) ||
	    !crypto_certificate(buf_str(&der), &k->authority, e))
		return err_prefix(e, "keys: %s/x509.pem", folder);
	if (X509_check_private_key(k->authority, k->x509) != 1)
		return err_set(e, ERR_INVALID,
			       "keys: %s/x509.pem is not the certificate of x509.key", folder);
	if (!is_authority_of(k->authority, trust_domain))
		return err_set(
			e, ERR_CONFLICT,
			"keys: %s/x509.pem is no authority of trust domain \"%.*s\"; a trust "
			"domain is fixed at the first start, another needs its own data folder",
			folder, STR_FMT(trust_domain));
	return true;
}

/* Is there a key of this kind that was made while writ ran ("jwt-<id>.key")? */
static bool has_made(const char *folder, const char *kind)
{
	DIR *d = opendir(folder);
	const struct dirent *entry;
	size_t n = strlen(kind);
	bool found = false;

	while (d && !found && (entry = readdir(d)))
		found = strncmp(entry->d_name, kind, n) == 0 && entry->d_name[n] == '-';
	if (d)
		closedir(d);
	return found;
}

/* The first authority of a kind is gone for good once rotation has replaced it; before, its absence
 * is a loss. */
static bool is_replaced(int dir, const char *folder, const char *kind, const char *name)
{
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT &&
	       has_made(folder, kind);
}

static bool load_seal(int dir, const char *folder, const char *key_file, struct seal *out,
		      struct err *e)
{
	struct err why = { 0 };

	if (seal_open(dir, folder, key_file, false, out, &why))
		return true;
	if (why.class != ERR_NOT_FOUND)
		return err_set(e, why.class, "%s", why.msg);
	if (has_made(folder, "x509") || has_made(folder, "jwt"))
		return err_set(e, ERR_NOT_FOUND,
			       "keys: %s/" SEAL_FILE " is missing, while keys sealed under it are "
			       "there: restore it from a backup",
			       folder);
	return seal_open(dir, folder, key_file, true, out, e); /* of before there was one */
}

static bool load_authorities(int dir, const char *folder, struct str trust_domain,
			     struct signer_keys *k, struct err *e)
{
	if (!is_replaced(dir, folder, "jwt", "jwt.key") &&
	    !read_key(dir, folder, "jwt.key", &k->seal, false, &k->jwt, e))
		return false;
	if (is_replaced(dir, folder, "x509", "x509.key"))
		return true;
	return read_key(dir, folder, "x509.key", &k->seal, false, &k->x509, e) &&
	       read_authority(dir, folder, trust_domain, k, e);
}

/* A stop in the middle of a rotation may have left it. */
static bool load_next(int dir, const char *folder, struct signer_keys *k, struct err *e)
{
	if (faccessat(dir, LOG_NEXT_KEY, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
		return true;
	return read_key(dir, folder, LOG_NEXT_KEY, &k->seal, true, &k->next, e);
}

static bool load(const char *folder, struct str trust_domain, const char *key_file,
		 struct signer_keys *k, struct err *e)
{
	AUTO_FD dir = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (dir < 0 || fstat(dir, &st) != 0)
		return err_set(e, ERR_IO, "keys: cannot open the folder %s: %s", folder,
			       strerror(errno));
	return private_to_us(&st, folder, "", 077, e) &&
	       load_seal(dir, folder, key_file, &k->seal, e) &&
	       read_key(dir, folder, LOG_KEY, &k->seal, true, &k->log, e) &&
	       load_next(dir, folder, k, e) && load_authorities(dir, folder, trust_domain, k, e);
}

bool signer_keys_open(const char *folder, struct str trust_domain, int64_t now_s,
		      int64_t authority_ttl_s, const char *key_file, struct signer_keys *out,
		      struct err *e)
{
	struct signer_keys k = { 0 };
	bool fresh = folder_is_fresh(folder);

	if (fresh && !make_folder(folder, trust_domain, now_s, authority_ttl_s, key_file, e))
		return false;
	/* Also what was just made is read back: what cannot be loaded is noticed today. */
	if (!load(folder, trust_domain, key_file, &k, e)) {
		signer_keys_clear(&k);
		return false;
	}
	k.created = fresh;
	*out = k;
	return true;
}

bool signer_keys_next(struct signer_keys *k, struct buf *pem, struct err *e)
{
	AUTO_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	AUTO_SECRET der = { 0 };

	buf_init(&der, mem_system, FILE_MAX);
	if (!key || !buf_room(&der, 1024))
		return crypto_err(e, "cannot generate an Ed25519 key");
	/* Sealed in any case: it leaves this process. */
	if (!crypto_pkcs8(key, &der, e) ||
	    !seal_close(&k->seal, STR(LOG_KEY), buf_str(&der), pem, e))
		return false;
	EVP_PKEY_free(k->next);
	k->next = key;
	key = NULL;
	return true;
}

bool signer_keys_witness(const char *folder, struct signer_keys *k, struct err *e)
{
	AUTO_FD dir = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_SECRET pem = { 0 };
	AUTO_PKEY *key = NULL;

	if (dir < 0)
		return err_set(e, ERR_IO, "keys: cannot open the folder %s: %s", folder,
			       strerror(errno));
	if (faccessat(dir, WITNESS_KEY, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT) {
		key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
		if (!key)
			return crypto_err(e, "cannot generate an Ed25519 key");
		if (!key_text(&k->seal, WITNESS_KEY, key, &pem, e) ||
		    !file_replace(NULL, dir, WITNESS_KEY, buf_str(&pem), 0600, e))
			return err_prefix(e, "keys: %s/" WITNESS_KEY, folder);
	}
	/* Also what was just made is read back. */
	return read_key(dir, folder, WITNESS_KEY, &k->seal, true, &k->witness, e);
}
