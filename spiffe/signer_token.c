#include "spiffe/signer_token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/store/file.h"
#include "spiffe/crypto.h"

#define READ_AHEAD 8192 /* room that file_read wants beyond its bound */
#define MARK_LEN (2 * SHA256_LEN)

/* ---- PIN ---- */

static bool read_pin(const char *path, struct buf *pin, struct err *e)
{
	struct stat st;

	buf_init(pin, mem_system, PKCS11_PIN_MAX + 1 + READ_AHEAD);
	if (stat(path, &st) == 0 && (st.st_mode & 027))
		return err_set(e, ERR_FORBIDDEN,
			       "authority.pkcs11.pin: %s has mode %04o, open to others: chmod 600 "
			       "%s",
			       path, (unsigned)(st.st_mode & 07777), path);
	if (!buf_room(pin, PKCS11_PIN_MAX + 1 + READ_AHEAD) ||
	    !file_read(AT_FDCWD, path, PKCS11_PIN_MAX + 1, pin, e))
		return err_prefix(e, "authority.pkcs11.pin: %s", path);
	if (pin->n && pin->p[pin->n - 1] == '\n')
		pin->n--;
	return (pin->n && pin->n <= PKCS11_PIN_MAX && !memchr(pin->p, '\n', pin->n)) ||
	       err_set(e, ERR_INVALID,
		       "authority.pkcs11.pin: %s: one line of 1 to %d bytes is "
		       "expected",
		       path, PKCS11_PIN_MAX);
}

/* A keyed hash of what was tried where: says nothing without storage.key. */
static bool mark_of(const struct seal *seal, const char *uri, struct str pin,
		    char out[static MARK_LEN], struct err *e)
{
	AUTO_SECRET text = { 0 };
	uint8_t hash[SHA256_LEN];
	size_t n = 0;

	buf_init(&text, mem_system, 16384);
	if (!buf_room(&text, 8192))
		return err_set(e, ERR_NOMEM, "no memory for a PIN");
	buf_printf(&text, "PIN of %s", uri);
	buf_char(&text, '\0');
	buf_add(&text, pin);
	if (!buf_ok(&text) ||
	    !EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, seal->key, sizeof(seal->key),
		       (const unsigned char *)text.p, text.n, hash, sizeof(hash), &n))
		return crypto_err(e, "cannot hash a PIN");
	text_hex(hash, sizeof(hash), out);
	return true;
}

static bool was_refused(int dir, const char mark[static MARK_LEN])
{
	AUTO_BUF old = { 0 };

	buf_init(&old, mem_system, 1024 + READ_AHEAD);
	return file_read(dir, SIGNER_PIN_REFUSED_FILE, 1024, &old, NULL) &&
	       memmem(old.p, old.n, mark, MARK_LEN);
}

/* What cannot be written down is not worse than without: the message tells to stop. */
static void note_refusal(int dir, const char mark[static MARK_LEN])
{
	(void)!file_replace(NULL, dir, SIGNER_PIN_REFUSED_FILE, (struct str){ mark, MARK_LEN },
			    0600, NULL);
}

/* ---- login ---- */

static bool login(struct signer_token *t, enum authority_kind kind, const char *uri, struct str pin,
		  const struct seal *seal, int dir, struct err *e)
{
	char mark[MARK_LEN];

	if (!mark_of(seal, uri, pin, mark, e))
		return false;
	if (was_refused(dir, mark))
		return err_code(
			e, ERR_FORBIDDEN, PKCS11_PIN_REFUSED,
			"authority.pkcs11.pin: the token refused this PIN at an earlier "
			"start, and it is not tried again; write the right one to its file, "
			"or remove keys/" SIGNER_PIN_REFUSED_FILE " if the token's was "
			"changed to it");
	t->has[kind] = token_process_login(&t->process, kind, str_c(uri), pin, e);
	if (t->has[kind])
		return true;
	if (e && e->code && strcmp(e->code, PKCS11_PIN_REFUSED) == 0)
		note_refusal(dir, mark);
	return err_prefix(e, "authority.pkcs11.%s", authority_kind_name(kind));
}

/* Two deployments that share a token must not take each other's keys for leftovers. */
static bool make_labels(struct signer_token *t, const struct seal *seal, struct err *e)
{
	static const char what[] = "label of keys in a token";
	uint8_t hash[SHA256_LEN];
	char tag[2 * 8 + 1];
	size_t n = 0;

	if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, seal->key, sizeof(seal->key),
		       (const unsigned char *)what, sizeof(what), hash, sizeof(hash), &n))
		return crypto_err(e, "cannot make a label");
	text_hex(hash, 8, tag);
	tag[sizeof(tag) - 1] = '\0';
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++)
		snprintf(t->labels[kind], sizeof(t->labels[kind]), "writ %s %s",
			 authority_kind_name((enum authority_kind)kind), tag);
	return true;
}

static bool open_all(const struct signer_token_config *c, struct signer_token *t, int dir,
		     const struct seal *seal, struct err *e)
{
	AUTO_SECRET pin = { 0 };

	if (!read_pin(c->pin_file, &pin, e) || !make_labels(t, seal, e))
		return false;
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++)
		if (c->uris[kind] && !login(t, (enum authority_kind)kind, c->uris[kind],
					    buf_str(&pin), seal, dir, e))
			return false;
	(void)unlinkat(dir, SIGNER_PIN_REFUSED_FILE, 0); /* what it said is over */
	return true;
}

bool signer_token_start(const struct signer_token_config *c, struct signer_token *t, struct err *e)
{
	*t = (struct signer_token){ .leave = c->leave };
	return token_process_start(c->module, c->network, &t->process, e);
}

bool signer_token_open(const struct signer_token_config *c, const char *folder,
		       const struct seal *seal, struct signer_token *t, struct err *e)
{
	int dir = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool ok;

	if (dir < 0)
		return err_set(e, ERR_IO, "keys: cannot open the folder %s: %s", folder,
			       strerror(errno));
	ok = open_all(c, t, dir, seal, e);
	close(dir);
	return ok;
}

void signer_token_close(struct signer_token *t)
{
	token_process_stop(&t->process);
}

/* ---- keys ---- */

static bool sign_x509(void *ctx, const uint8_t id[static PKCS11_ID_LEN],
		      const uint8_t digest[static SHA256_LEN], uint8_t out[static PKCS11_SIGNATURE],
		      struct err *e)
{
	return token_process_sign(ctx, AUTHORITY_X509, id, digest, out, e);
}

static bool sign_jwt(void *ctx, const uint8_t id[static PKCS11_ID_LEN],
		     const uint8_t digest[static SHA256_LEN], uint8_t out[static PKCS11_SIGNATURE],
		     struct err *e)
{
	return token_process_sign(ctx, AUTHORITY_JWT, id, digest, out, e);
}

static struct pkcs11_way way_of(struct signer_token *t, enum authority_kind kind)
{
	return (struct pkcs11_way){ kind == AUTHORITY_JWT ? sign_jwt : sign_x509, &t->process };
}

bool signer_token_makes(const struct signer_token *t, enum authority_kind kind)
{
	return t && t->has[kind] && !t->leave;
}

bool signer_token_make(struct signer_token *t, enum authority_kind kind, struct buf *id,
		       struct buf *spki, EVP_PKEY **out, struct err *e)
{
	const struct pkcs11_way way = way_of(t, kind);
	uint8_t raw[PKCS11_ID_LEN];

	if (!token_process_generate(&t->process, kind, t->labels[kind], raw, spki, e))
		return false;
	buf_add(id, (struct str){ (const char *)raw, sizeof(raw) });
	if (!buf_ok(id))
		return err_set(e, ERR_NOMEM, "no memory for a key");
	return pkcs11_key_open(&way, (struct str){ (const char *)raw, sizeof(raw) }, buf_str(spki),
			       out, e);
}

bool signer_token_use(struct signer_token *t, enum authority_kind kind, struct str id,
		      struct str spki, EVP_PKEY **out, struct err *e)
{
	struct pkcs11_way way;

	if (!t || !t->has[kind])
		return err_set(e, ERR_NOT_FOUND,
			       "the key is in a token: configure authority.pkcs11.%s as it was, "
			       "with authority.pkcs11.leave to move to files",
			       authority_kind_name(kind));
	way = way_of(t, kind);
	return pkcs11_key_open(&way, id, spki, out, e);
}

bool signer_token_keep(struct signer_token *t, enum authority_kind kind, struct str ids,
		       size_t *removed, struct err *e)
{
	*removed = 0;
	if (!t || !t->has[kind])
		return true;
	if (ids.n % PKCS11_ID_LEN)
		return err_set(e, ERR_INVALID, "signer: ids of keys have %d bytes each",
			       PKCS11_ID_LEN);
	return token_process_keep(&t->process, kind, t->labels[kind], ids, removed, e);
}
