/*
 * A sealed thing is version (1 byte), nonce (12), ciphertext, tag (16). The storage key's own block
 * has a salt (16) behind its version: the key file's bytes are turned into a key of their own for
 * each time it is written, so that no key of AES-GCM ever meets two of its nonces.
 */
#include "spiffe/signer_seal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/store/file.h"
#include "spiffe/crypto.h"

#define VERSION 1
#define NONCE 12
#define TAG 16
#define SALT 16
#define ROOM (32 * 1024) /* of one sealed thing, and its PEM */
#define STORAGE_MAX 2048 /* bytes of storage.key */
#define READ_AHEAD 8192	 /* room that file_read wants beyond its bound */
#define PLAIN_LABEL "WRIT STORAGE KEY"
#define ENCRYPTED_LABEL "WRIT ENCRYPTED STORAGE KEY"
#define STORAGE_NAME STR("writ storage key")

void seal_auto_wipe(struct buf *b)
{
	if (b->p)
		mem_wipe(b->p, b->cap);
	buf_clear(b);
}

void seal_clear(struct seal *s)
{
	mem_wipe(s, sizeof(*s));
}

static bool secret_buf(struct buf *b, size_t n, struct err *e)
{
	buf_init(b, mem_system, n);
	return buf_room(b, n) || err_set(e, ERR_NOMEM, "no memory for a key");
}

static void auto_cipher(EVP_CIPHER_CTX **p)
{
	EVP_CIPHER_CTX_free(*p);
}
#define AUTO_CIPHER __attribute__((cleanup(auto_cipher))) EVP_CIPHER_CTX

/* nonce, ciphertext, tag. */
static bool gcm_seal(const uint8_t key[static SEAL_KEY_LEN], struct str name, struct str plain,
		     struct buf *out, struct err *e)
{
	AUTO_CIPHER *ctx = EVP_CIPHER_CTX_new();
	uint8_t nonce[NONCE];
	char *at = buf_room(out, NONCE + plain.n + TAG);
	unsigned char *text;
	int n = 0, last = 0;

	if (!at)
		return err_set(e, ERR_NOMEM, "no room for a sealed key");
	text = (unsigned char *)at + NONCE;
	random_bytes(nonce, sizeof(nonce));
	memcpy(at, nonce, sizeof(nonce));
	if (!ctx || EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce) != 1 ||
	    EVP_EncryptUpdate(ctx, NULL, &n, (const unsigned char *)name.p, (int)name.n) != 1 ||
	    EVP_EncryptUpdate(ctx, text, &n, (const unsigned char *)plain.p, (int)plain.n) != 1 ||
	    EVP_EncryptFinal_ex(ctx, text + n, &last) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, text + plain.n) != 1)
		return crypto_err(e, "cannot seal a key");
	out->n += NONCE + plain.n + TAG;
	return true;
}

/* False, without a word, if it does not open: the caller knows what that means. */
static bool gcm_open(const uint8_t key[static SEAL_KEY_LEN], struct str name, struct str in,
		     struct buf *plain)
{
	AUTO_CIPHER *ctx = EVP_CIPHER_CTX_new();
	const unsigned char *p = (const unsigned char *)in.p;
	unsigned char tag[TAG], *at;
	size_t size;
	int n = 0, last = 0;
	bool ok;

	if (in.n < NONCE + TAG)
		return false;
	size = in.n - NONCE - TAG;
	at = (unsigned char *)buf_room(plain, size + 1);
	memcpy(tag, p + NONCE + size, TAG);
	ok = ctx && at && EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, p) == 1 &&
	     EVP_DecryptUpdate(ctx, NULL, &n, (const unsigned char *)name.p, (int)name.n) == 1 &&
	     EVP_DecryptUpdate(ctx, at, &n, p + NONCE, (int)size) == 1 &&
	     EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 &&
	     EVP_DecryptFinal_ex(ctx, at + n, &last) == 1;
	if (ok)
		plain->n += size;
	else
		crypto_err(NULL, "-"); /* empties the queue */
	return ok;
}

bool seal_close(const struct seal *s, struct str name, struct str plain, struct buf *pem,
		struct err *e)
{
	AUTO_BUF der = { 0 };

	if (plain.n == 0 || plain.n > ROOM / 2)
		return err_set(e, ERR_TOO_LARGE, "a key of %zu bytes is not sealed", plain.n);
	buf_init(&der, mem_system, ROOM);
	buf_char(&der, VERSION);
	if (!gcm_seal(s->key, name, plain, &der, e))
		return false;
	crypto_pem(pem, SEAL_LABEL, buf_str(&der));
	return buf_ok(pem) || err_set(e, ERR_NOMEM, "no room for a sealed key");
}

bool seal_break(const struct seal *s, struct str name, struct str pem, struct buf *plain,
		struct err *e)
{
	AUTO_BUF der = { 0 };

	buf_init(&der, mem_system, ROOM);
	if (!crypto_unpem(pem, SEAL_LABEL, &der, e))
		return false;
	if (der.n == 0 || der.p[0] != VERSION)
		return err_set(e, ERR_INVALID, "sealed key: version %d is expected", VERSION);
	return gcm_open(s->key, name, str_from(buf_str(&der), 1), plain) ||
	       err_set(e, ERR_FORBIDDEN,
		       "sealed key: it does not open; it was changed, belongs under another name, "
		       "or was sealed under another " SEAL_FILE);
}

/* ---- the key file ---- */

/* systemd hands a credential to root or to us, with an access list that shows as group-readable. */
static bool check_key_file(const char *path, const struct stat *st, struct err *e)
{
	if (!S_ISREG(st->st_mode))
		return err_set(e, ERR_FORBIDDEN, "keys.encrypt: %s is no regular file", path);
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(e, ERR_FORBIDDEN,
			       "keys.encrypt: %s belongs to user %u, neither root nor us: chown it",
			       path, (unsigned)st->st_uid);
	if (st->st_mode & 027)
		return err_set(e, ERR_FORBIDDEN,
			       "keys.encrypt: %s has mode %04o, open to others: chmod 600 %s", path,
			       (unsigned)(st->st_mode & 07777), path);
	if (st->st_size < SEAL_KEY_FILE_MIN || st->st_size > SEAL_KEY_FILE_MAX)
		return err_set(e, ERR_INVALID,
			       "keys.encrypt: %s has %lld bytes; %d to %d random ones are expected "
			       "(head -c 32 /dev/urandom > %s)",
			       path, (long long)st->st_size, SEAL_KEY_FILE_MIN, SEAL_KEY_FILE_MAX,
			       path);
	return true;
}

static bool read_key_file(const char *path, struct buf *out, struct err *e)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return err_set(e, ERR_FORBIDDEN,
			       "keys.encrypt: cannot read %s: %s; without it the keys stay shut",
			       path, strerror(errno));
	if (!check_key_file(path, &st, e))
		return false;
	return secret_buf(out, SEAL_KEY_FILE_MAX + READ_AHEAD, e) &&
	       file_read(AT_FDCWD, path, SEAL_KEY_FILE_MAX, out, e);
}

/* HKDF (RFC 5869): the key file's bytes may be any, and longer than a key. */
static bool derive(const struct buf *secret, const uint8_t salt[static SALT],
		   uint8_t out[static SEAL_KEY_LEN], struct err *e)
{
	char digest[] = "SHA256", info[] = "writ keys 1";
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	uint8_t salted[SALT];
	OSSL_PARAM params[5];
	bool ok;

	memcpy(salted, salt, SALT);
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	params[1] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret->p, secret->n);
	params[2] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salted, SALT);
	params[3] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof(info) - 1);
	params[4] = OSSL_PARAM_construct_end();
	ok = ctx && EVP_KDF_derive(ctx, out, SEAL_KEY_LEN, params) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok || crypto_err(e, "cannot derive a key from keys.encrypt");
}

/* ---- the storage key ---- */

static bool write_plain(int dir, const struct seal *s, struct err *e)
{
	AUTO_SECRET pem = { 0 };

	if (!secret_buf(&pem, 512, e))
		return false;
	crypto_pem(&pem, PLAIN_LABEL, (struct str){ (const char *)s->key, sizeof(s->key) });
	return file_replace(NULL, dir, SEAL_FILE, buf_str(&pem), 0600, e);
}

static bool write_encrypted(int dir, const struct seal *s, const struct buf *secret, struct err *e)
{
	uint8_t salt[SALT], key[SEAL_KEY_LEN];
	AUTO_BUF der = { 0 };
	AUTO_BUF pem = { 0 };
	bool ok;

	buf_init(&der, mem_system, 512);
	buf_init(&pem, mem_system, 1024);
	random_bytes(salt, sizeof(salt));
	buf_char(&der, VERSION);
	buf_add(&der, (struct str){ (const char *)salt, sizeof(salt) });
	ok = derive(secret, salt, key, e) &&
	     gcm_seal(key, STORAGE_NAME, (struct str){ (const char *)s->key, sizeof(s->key) }, &der,
		      e);
	mem_wipe(key, sizeof(key));
	if (!ok)
		return false;
	crypto_pem(&pem, ENCRYPTED_LABEL, buf_str(&der));
	return file_replace(NULL, dir, SEAL_FILE, buf_str(&pem), 0600, e);
}

static bool decrypt(struct str der, const struct buf *secret, const char *key_file,
		    const char *folder, struct seal *s, struct err *e)
{
	uint8_t key[SEAL_KEY_LEN];
	AUTO_SECRET plain = { 0 };
	bool ok;

	if (der.n != 1 + SALT + NONCE + SEAL_KEY_LEN + TAG || der.p[0] != VERSION)
		return err_set(e, ERR_INVALID, "keys: %s/" SEAL_FILE " is damaged", folder);
	if (!secret_buf(&plain, 64, e) || !derive(secret, (const uint8_t *)der.p + 1, key, e))
		return false;
	ok = gcm_open(key, STORAGE_NAME, str_from(der, 1 + SALT), &plain);
	mem_wipe(key, sizeof(key));
	if (!ok || plain.n != SEAL_KEY_LEN)
		return err_set(e, ERR_FORBIDDEN,
			       "keys.encrypt: %s is not the key file that %s/" SEAL_FILE
			       " was encrypted with; give the right one",
			       key_file, folder);
	memcpy(s->key, plain.p, SEAL_KEY_LEN);
	s->encrypted = true;
	return true;
}

/* What storage.key says, whichever of the two it is. @secret NULL: no key file. */
static bool read_storage(struct str text, const struct buf *secret, const char *key_file,
			 const char *folder, struct seal *s, struct err *e)
{
	AUTO_SECRET der = { 0 };
	struct err ignored;

	if (!secret_buf(&der, 1024, e))
		return false;
	if (crypto_unpem(text, PLAIN_LABEL, &der, &ignored)) {
		if (der.n != SEAL_KEY_LEN)
			return err_set(e, ERR_INVALID, "keys: %s/" SEAL_FILE " is damaged", folder);
		memcpy(s->key, der.p, SEAL_KEY_LEN);
		s->encrypted = false;
		return true;
	}
	if (!crypto_unpem(text, ENCRYPTED_LABEL, &der, &ignored))
		return err_set(e, ERR_INVALID, "keys: %s/" SEAL_FILE " holds no storage key",
			       folder);
	if (!secret)
		return err_set(e, ERR_FORBIDDEN,
			       "keys: %s is encrypted, but keys.encrypt is not set; name the key "
			       "file it was encrypted with",
			       folder);
	return decrypt(buf_str(&der), secret, key_file, folder, s, e);
}

bool seal_open(int dir, const char *folder, const char *key_file, bool create, struct seal *out,
	       struct err *e)
{
	AUTO_SECRET secret = { 0 };
	AUTO_SECRET text = { 0 };
	struct seal s = { 0 };
	bool ok;

	if (key_file && !read_key_file(key_file, &secret, e))
		return false;
	if (!secret_buf(&text, STORAGE_MAX + READ_AHEAD, e))
		return false;
	if (create) {
		random_bytes(s.key, sizeof(s.key));
		s.encrypted = key_file != NULL;
		ok = key_file ? write_encrypted(dir, &s, &secret, e) : write_plain(dir, &s, e);
	} else {
		ok = file_read(dir, SEAL_FILE, STORAGE_MAX, &text, e) &&
		     read_storage(buf_str(&text), key_file ? &secret : NULL, key_file, folder, &s,
				  e);
		if (ok && key_file && !s.encrypted) {
			s.encrypted = true;
			ok = write_encrypted(dir, &s, &secret, e);
		}
	}
	if (ok)
		*out = s;
	seal_clear(&s);
	return ok;
}
