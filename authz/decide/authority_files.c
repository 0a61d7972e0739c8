/* The sealed keys in keys/: "x509-<id>.key", "jwt-<id>.key", beside those of the first start. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "authz/base/log.h"
#include "authz/base/text.h"
#include "authz/decide/authorities.h"
#include "authz/decide/control.h"
#include "spiffe/signer_wire.h"

#define SEALED_MAX (16 * 1024)
#define READ_AHEAD 8192 /* room that file_read wants beyond its bound */
#define NAME_MAX_ 128

static const char *name_of(enum authority_kind kind, struct str id, char out[static NAME_MAX_])
{
	snprintf(out, NAME_MAX_, "%s-%.*s.key", authority_kind_name(kind), STR_FMT(id));
	return out;
}

bool authority_file_write(struct authorities *a, enum authority_kind kind, struct str id,
			  struct str pem, struct err *e)
{
	char name[NAME_MAX_];

	if (a->keys < 0)
		return err_set(e, ERR_UNAVAILABLE, "there is no folder to keep a new key in");
	return file_replace(a->config.calls, a->keys, name_of(kind, id, name), pem, 0600, e) ||
	       err_prefix(e, "keys");
}

bool authority_file_read(struct authorities *a, const struct authority *of, struct buf *pem,
			 struct err *e)
{
	char name[NAME_MAX_];

	buf_init(pem, mem_system, SEALED_MAX + READ_AHEAD);
	name_of(of->kind, str_c(of->id), name);
	if (a->keys < 0)
		return err_set(e, ERR_UNAVAILABLE, "there is no folder to read a key from");
	if (file_read(a->keys, name, SEALED_MAX, pem, e))
		return true;
	if (e && e->class == ERR_NOT_FOUND)
		return err_set(
			e, ERR_NOT_FOUND,
			"keys/%s is missing, the key of the %s %s authority: restore it from "
			"a backup",
			name, authority_state_name(of->state), authority_kind_name(of->kind));
	return err_prefix(e, "keys");
}

/* ---- sweeping ---- */

static void remove_key(struct authorities *a, const char *name)
{
	const struct file_calls *calls = a->config.calls ? a->config.calls : &file_system_calls;

	if (calls->unlinkat(a->keys, name, 0) == 0)
		log_event(LOG_INFO, "key.dropped", "file=\"keys/%s\"", name);
	else if (errno != ENOENT)
		log_event(LOG_WARN, "key.undropped", "file=\"keys/%s\" why=\"%s\"", name,
			  strerror(errno));
}

/* Is this the file of a key that signs, or will? Files of other names are not ours to judge. */
static bool is_needed(const struct authorities *a, const char *name)
{
	char own[NAME_MAX_];

	for (size_t i = 0; i < a->db.n; i++) {
		const struct authority_row *r = &a->db.rows[i];

		if (!r->first &&
		    (r->a.state == AUTHORITY_PREPARED || r->a.state == AUTHORITY_ACTIVE) &&
		    strcmp(name, name_of(r->a.kind, str_c(r->a.id), own)) == 0)
			return true;
	}
	return false;
}

/* A key made by rotation, or what a stop left of one that was being written (file_replace). */
static bool is_ours(const char *name)
{
	struct str s = str_c(name);

	if (name[0] == '.')
		return strstr(name, ".key.") != NULL;
	return str_ends(s, STR(".key")) &&
	       (str_starts(s, STR("x509-")) || str_starts(s, STR("jwt-")) ||
		str_starts(s, STR("wit-")));
}

/* The key before the certificate: the signer takes a lone certificate for a leftover, but a lone
 * key for a loss. */
static void sweep_first(struct authorities *a)
{
	const struct authority_row *x509 = authority_db_active(&a->db, AUTHORITY_X509);
	const struct authority_row *jwt = authority_db_active(&a->db, AUTHORITY_JWT);

	if (x509 && !x509->first) {
		remove_key(a, "x509.key");
		remove_key(a, "x509.pem");
	}
	if (jwt && !jwt->first)
		remove_key(a, "jwt.key");
}

/* What the rows speak of stays in the token; so does what the signer has in hand. */
static bool sweep_token(struct authorities *a, enum authority_kind kind, struct err *e)
{
	char keep[AUTHORITY_MAX * PKCS11_ID_LEN];
	AUTO_BUF removed = { 0 };
	struct signer_job job = { .op = SIGNER_KEEP_KEYS,
				  .keep = { .kind = kind, .tokens = { keep, 0 } },
				  .out = &removed };
	struct wire w;
	int64_t n;

	for (size_t i = 0; i < a->db.n; i++) {
		const struct authority *of = &a->db.rows[i].a;

		if (of->kind == kind && of->token[0] && job.keep.tokens.n < sizeof(keep) &&
		    (of->state == AUTHORITY_PREPARED || of->state == AUTHORITY_ACTIVE) &&
		    text_unhex(str_c(of->token), (uint8_t *)keep + job.keep.tokens.n,
			       PKCS11_ID_LEN))
			job.keep.tokens.n += PKCS11_ID_LEN;
	}
	buf_init(&removed, mem_system, 64);
	if (!signer_call(a->c->signer, &job, e))
		return false;
	w = (struct wire){ .rest = buf_str(&removed) };
	n = wire_i64(&w);
	if (n > 0)
		log_event(LOG_INFO, "key.dropped", "kind=%s token_keys=%lld",
			  authority_kind_name(kind), (long long)n);
	return true;
}

static void sweep_tokens(struct authorities *a)
{
	for (int kind = 0; kind < AUTHORITY_KINDS; kind++) {
		struct err e = { 0 };

		if (a->config.has_token[kind] && !sweep_token(a, (enum authority_kind)kind, &e))
			log_event(LOG_WARN, "key.undropped", "kind=%s why=\"%s\"",
				  authority_kind_name((enum authority_kind)kind), e.msg);
	}
}

void authority_files_sweep(struct authorities *a)
{
	int fd = a->keys < 0 ? -1 : openat(a->keys, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(d)))
		if (is_ours(entry->d_name) && !is_needed(a, entry->d_name))
			remove_key(a, entry->d_name);
	closedir(d);
	sweep_first(a);
	sweep_tokens(a);
}
