/*
 * init: a new deployment in a folder of its own: writ.lua and the example policies.
 *
 * The configuration is read back before it is written, so what init makes always starts. The data
 * folder is left to the server: it alone knows what a good one looks like.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/cli/commands.h"
#include "authz/cli/embedded.h"
#include "authz/cli/print.h"
#include "authz/config.h"
#include "authz/store/file.h"

#define CONFIG_BYTES 8192

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define AUTO_FD __attribute__((cleanup(close_fd))) int

static const char *or_default(const struct cli *c, const char *option, const char *value)
{
	const char *given = cli_value(c, option);

	return given ? given : value;
}

/* As a Lua string: everything that is not plain is escaped by its number. */
static void put_lua(struct buf *b, const char *s)
{
	buf_char(b, '"');
	for (; *s; s++)
		if (*s == '"' || *s == '\\' || (unsigned char)*s < 0x20)
			buf_printf(b, "\\%03d", (unsigned char)*s);
		else
			buf_char(b, *s);
	buf_char(b, '"');
}

static void put_caller(struct buf *b, const char *domain, const char *path, const char *role)
{
	char id[2100];

	snprintf(id, sizeof(id), "spiffe://%s%s", domain, path);
	buf_lit(b, "  { spiffe_id = ");
	put_lua(b, id);
	buf_printf(b, ", role = \"%s\" },\n", role);
}

static void put_config(const struct cli *c, struct buf *b)
{
	const char *domain = or_default(c, "--trust-domain", "example.org");
	bool local_pep = cli_flag(c, "--local-pep");

	buf_lit(b, "-- The configuration of this deployment: data only, checked whole. Paths count "
		   "from this file.\n"
		   "-- Every setting has a safe default; these are the ones to know first.\n\n"
		   "-- The name that all identities here begin with. Fixed once the server has "
		   "started.\n"
		   "trust_domain = ");
	put_lua(b, domain);
	buf_lit(b, "\n\nlisten = {\n"
		   "  -- The agents' door: decisions, ext_authz, identity. Plaintext stays on "
		   "loopback and Unix sockets.\n");
	if (local_pep)
		buf_lit(b, "  -- caller = \"pep\": whoever reaches this port on this machine may "
			   "ask about any agent.\n"
			   "  -- Good for trying writ out; `writ doctor` reminds you. Remove it "
			   "before anyone depends on it.\n");
	buf_lit(b, "  http = ");
	if (local_pep)
		buf_lit(b, "{ ");
	put_lua(b, or_default(c, "--http", "127.0.0.1:8080"));
	if (local_pep)
		buf_lit(b, ", caller = \"pep\" }");
	buf_lit(b, ",\n  https = ");
	put_lua(b, or_default(c, "--https", "127.0.0.1:8443"));
	buf_lit(b,
		",\n  -- The operators' door: management, log, health; and the same for `writ` on "
		"the command line.\n"
		"  operators = ");
	put_lua(b, or_default(c, "--operators", "127.0.0.1:8081"));
	buf_lit(b, ",\n  admin = \"writ-data/admin.sock\",\n}\n\n"
		   "-- Who may use writ's own interfaces beyond asking about itself. The user who "
		   "runs the server is\n"
		   "-- admin on the admin socket without an entry.\n"
		   "callers = {\n");
	put_caller(b, domain, "/mesh/*", "pep");
	put_caller(b, domain, "/audit/*", "auditor");
	buf_lit(b,
		"}\n\n"
		"-- What guards the private keys beyond the modes of their files: a key file that "
		"encrypts them, or a\n"
		"-- PKCS#11 token in which the authorities' keys are made (spiffe/PKCS11.md).\n"
		"-- keys = { encrypt = \"file:/run/secrets/writ\" }\n"
		"-- authority = { pkcs11 = { module = \"/usr/lib/softhsm/libsofthsm2.so\", pin = "
		"\"file:pin\",\n"
		"--                         x509 = \"pkcs11:token=writ\", jwt = "
		"\"pkcs11:token=writ\" } }\n");
}

/* @dir, made if it is not there; refused if anything is in it. */
static int open_empty(const char *dir, struct err *e)
{
	struct dirent *entry;
	bool empty = true;
	DIR *d;
	int fd;

	if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
		err_set(e, ERR_IO, "%s: %s", dir, strerror(errno));
		return -1;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = fd < 0 ? NULL : opendir(dir);
	if (!d) {
		err_set(e, ERR_IO, "%s: %s", dir, strerror(errno));
		close_fd(&fd);
		return -1;
	}
	while (empty && (entry = readdir(d)))
		empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
	closedir(d);
	if (empty)
		return fd;
	close(fd);
	err_code(e, ERR_CONFLICT, "not_empty",
		 "%s: the folder is not empty; give a new one, nothing was changed", dir);
	return -1;
}

/* "policies/catalogue/tools.lua": its folders, then the file. */
static bool write_embedded(int dir, const struct embedded_file *f, struct err *e)
{
	struct str rest = str_c(f->path), folder;
	AUTO_FD at = fcntl(dir, F_DUPFD_CLOEXEC, 0);

	while (at >= 0 && str_cut(rest, '/', &folder, &rest)) {
		char name[256];
		int below;

		snprintf(name, sizeof(name), "%.*s", STR_FMT(folder));
		if (mkdirat(at, name, 0755) != 0 && errno != EEXIST)
			return err_set(e, ERR_IO, "%s: %s", f->path, strerror(errno));
		below = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		close(at);
		at = below;
	}
	if (at < 0)
		return err_set(e, ERR_IO, "%s: %s", f->path, strerror(errno));
	return file_replace(NULL, at, rest.p, (struct str){ (const char *)f->text, f->n }, 0644, e);
}

static bool write_all(const char *dir, struct str config, size_t *files, struct err *e)
{
	AUTO_FD fd = open_empty(dir, e);

	if (fd < 0)
		return false;
	/* The configuration last: a folder with it is complete. */
	for (const struct embedded_file *f = embedded_files; f->path; f++, ++*files)
		if (!write_embedded(fd, f, e))
			return err_prefix(e, "%s", dir);
	if (mkdirat(fd, "policies", 0755) != 0 && errno != EEXIST)
		return err_set(e, ERR_IO, "%s/policies: %s", dir, strerror(errno));
	return file_replace(NULL, fd, "writ.lua", config, 0644, e) ? true
								   : err_prefix(e, "%s", dir);
}

int run_init(struct cli *c)
{
	const char *dir = c->operands[0];
	AUTO_CONFIG *read_back = NULL;
	struct err e = { 0 };
	size_t files = 0;
	AUTO_BUF b;

	buf_init(&b, mem_system, CONFIG_BYTES);
	put_config(c, &b);
	if (!buf_ok(&b))
		return cli_misuse(c, "the options are longer than %d bytes", CONFIG_BYTES);
	if (!config_parse(buf_str(&b), "writ.lua", dir, &read_back, &e))
		return cli_misuse(c, "these options make no good configuration: %s", e.msg);
	if (!write_all(dir, buf_str(&b), &files, &e))
		return cli_fail(c, &e);
	buf_reset(&b);
	if (c->json) {
		buf_lit(&b, "{\"config\":");
		buf_printf(&b, "\"writ.lua\",\"policies\":%zu,\"dir\":", files);
		buf_json(&b, str_c(dir));
		buf_lit(&b, "}\n");
	} else {
		buf_printf(&b, "wrote %s/writ.lua and %zu files in %s/policies\n", dir, files, dir);
		buf_printf(&b, "start it with: writ serve --config %s/writ.lua\n", dir);
	}
	fwrite(b.p, 1, b.n, c->out);
	return CLI_DONE;
}
