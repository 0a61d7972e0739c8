/* policy sign: a signature beside the rules, made where the key is and not where writ runs. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <unistd.h>

#include "authz/base/pem.h"
#include "authz/base/text.h"
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/print.h"
#include "authz/decide/signing.h"
#include "authz/store/file.h"

#define KEY_FILE_MAX 16384

static void free_pkey(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

/* The prompt of libcrypto would ask a terminal that is not there. */
static EVP_PKEY *parse_key(struct str pem)
{
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	EVP_PKEY *key = bio ? pem_private_key(bio) : NULL;

	BIO_free(bio);
	if (key && !EVP_PKEY_is_a(key, "ED25519")) {
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

/* Read the private key and put together its public half under the key's name. */
static bool read_key(const char *path, const char *name, EVP_PKEY **out, struct note_key *public,
		     struct err *e)
{
	uint8_t raw[32];
	size_t n = sizeof(raw);
	EVP_PKEY *key;
	AUTO_BUF text;
	bool read;

	buf_init(&text, mem_system, KEY_FILE_MAX + 4096);
	read = api_read_file(path, KEY_FILE_MAX, &text, e);
	key = read ? parse_key(buf_str(&text)) : NULL;
	if (text.n)
		mem_wipe(text.p, text.n);
	if (!read)
		return false;
	if (!key || EVP_PKEY_get_raw_public_key(key, raw, &n) != 1 || n != sizeof(raw)) {
		EVP_PKEY_free(key);
		return err_set(
			e, ERR_INVALID,
			"%s holds no Ed25519 private key in PEM without a passphrase; openssl "
			"genpkey -algorithm ed25519 makes one",
			path);
	}
	if (!note_key_make(str_c(name), raw, public, e)) {
		EVP_PKEY_free(key);
		return false;
	}
	*out = key;
	return true;
}

static bool sign(EVP_PKEY *key, struct str text, uint8_t out[static 64], struct err *e)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t n = 64;
	bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
		  EVP_DigestSign(ctx, out, &n, (const unsigned char *)text.p, text.n) == 1 &&
		  n == 64;

	EVP_MD_CTX_free(ctx);
	return ok || err_set(e, ERR_INTERNAL, "libcrypto cannot sign with this key");
}

/* The version of the signature that is there: what comes next is higher, also with a clock that
 * went back. 0: there is none that says. */
static uint64_t version_there(const struct policy_sources *s)
{
	struct signing_statement there;
	struct err ignored = { 0 };
	struct note note;

	note.n = 0;
	return s->signature.n && note_parse(s->signature, &note, &ignored) &&
			       signing_parse(note.text, &there, &ignored)
		       ? there.version
		       : 0;
}

static bool choose_version(struct cli *c, const struct policy_sources *s, uint64_t *version)
{
	const char *given = cli_value(c, "--version");
	uint64_t there = version_there(s);

	if (given)
		return text_u64(str_c(given), SIGNING_VERSION_MAX, version) && *version;
	*version = (uint64_t)(clock_wall_ms(&clock_system) / 1000);
	if (*version <= there)
		*version = there + 1;
	return true;
}

static bool write_note(const char *folder, struct str note, struct err *e)
{
	int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok;

	if (dir < 0)
		return err_set(e, ERR_IO, "%s cannot be opened: %s", folder, strerror(errno));
	ok = file_replace(NULL, dir, SIGNING_FILE, note, 0644, e);
	close(dir);
	return ok;
}

static void put_public(struct cli *c, const struct note_key *public)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, 4096);
	note_key_format(public, &b);
	if (c->json)
		fprintf(c->out, "{\"key\":\"%.*s\"}\n", STR_FMT(buf_str(&b)));
	else
		fprintf(c->out, "%.*s\n", STR_FMT(buf_str(&b)));
}

static void put_signed(struct cli *c, const char *folder, const struct note_key *public,
		       const struct signing_statement *s)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, 65536);
	if (c->json) {
		buf_lit(&b, "{\"file\":");
		buf_json(&b, STR(SIGNING_FILE));
		buf_printf(&b, ",\"version\":%" PRIu64 ",\"hash\":\"", s->version);
		buf_hex(&b, s->hash, sizeof(s->hash));
		buf_printf(&b, "\",\"key_id\":\"%08x\",\"key\":\"", public->id);
		note_key_format(public, &b);
		buf_lit(&b, "\"}\n");
	} else {
		buf_printf(&b, "%s/" SIGNING_FILE ": version %" PRIu64 " of sha256 ", folder,
			   s->version);
		buf_hex(&b, s->hash, sizeof(s->hash));
		buf_printf(&b, ", by key %08x\nthe server needs  policies = { key = \"",
			   public->id);
		note_key_format(public, &b);
		buf_lit(&b, "\" }\n");
	}
	fwrite(b.p, 1, b.n, c->out);
}

/* A set that does not load would be refused by every server: it is not signed in the first place.
 */
static bool sign_set(struct cli *c, const struct policy_sources *s, EVP_PKEY *key,
		     const struct note_key *public, struct err *e)
{
	struct signing_statement statement;
	struct policy_set *set = NULL;
	uint8_t signature[64];
	AUTO_BUF note;

	buf_init(&note, mem_system, POLICY_SIGNATURE_MAX);
	if (!s->n)
		return err_code(e, ERR_NOT_FOUND, "no_policies",
				"%s holds no policies: expected *.lua", c->operands[0]);
	if (!policy_set_load(s, &policy_default_limits, &set, NULL, e))
		return err_prefix(e, "%s does not load", c->operands[0]);
	shared_release(&set->shared);
	if (!choose_version(c, s, &statement.version))
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--version %.60s: expected a number from 1 to %" PRId64,
				cli_value(c, "--version"), SIGNING_VERSION_MAX);
	memcpy(statement.hash, s->hash, sizeof(statement.hash));
	signing_format(&note, &statement);
	if (!buf_ok(&note) || !sign(key, buf_str(&note), signature, e))
		return false;
	note_sign_line(&note, public, signature);
	if (!write_note(c->operands[0], buf_str(&note), e))
		return false;
	put_signed(c, c->operands[0], public, &statement);
	return true;
}

int run_policy_sign(struct cli *c)
{
	__attribute__((cleanup(free_pkey))) EVP_PKEY *key = NULL;
	const char *path = cli_value(c, "--key"), *name = cli_value(c, "--name");
	struct policy_sources s = { 0 };
	struct note_key public;
	struct err e = { 0 };
	int exit_code = CLI_DONE;

	if (!path)
		return cli_misuse(c, "name the private key with --key FILE");
	if (!read_key(path, name ? name : "policies", &key, &public, &e))
		return cli_fail(c, &e);
	if (!c->noperands) {
		put_public(c, &public);
		return CLI_DONE;
	}
	if (!policy_sources_read(&s, c->operands[0], &e) || !sign_set(c, &s, key, &public, &e))
		exit_code = cli_fail(c, &e);
	policy_sources_clear(&s);
	return exit_code;
}
