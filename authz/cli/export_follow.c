/*
 * audit export --follow: print records as they come, for whoever collects them with a tool of their
 * own. Into a file the position is kept beside it (FILE.cursor), written after the rows are on
 * disk: what was interrupted goes on, and at worst prints one page twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "authz/audit/format.h"
#include "authz/audit/tree.h"
#include "authz/base/text.h"
#include "authz/cli/export_log.h"
#include "authz/store/file.h"

#define PAGE 500
#define POLL_MS 500
#define RETRY_MAX_MS 60000
#define FOLLOW_ARENA ((size_t)64 * 1024 * 1024)
#define CURSOR_FORMAT "writ-follow/1\n"

struct follow {
	struct cli *c;
	struct api api;
	const struct audit_format *format;
	char origin[256];
	FILE *to;
	bool started; /* `after` means something */
	uint64_t after;
	char cursor[4096], fresh[4096]; /* empty: none is kept */
	struct sha256 *sha;
	struct buf scratch, row;
	struct format_record record;
	bool headed;
};

/* ---- the cursor ---- */

static bool read_cursor(struct follow *f, bool *found, struct err *e)
{
	struct str text;
	AUTO_BUF b;

	buf_init(&b, mem_system, 16384);
	*found = false;
	if (!file_read(AT_FDCWD, f->cursor, 256, &b, e)) {
		if (e->class != ERR_NOT_FOUND)
			return false;
		err_none(e);
		return true;
	}
	text = buf_str(&b);
	if (!str_starts(text, STR(CURSOR_FORMAT)) || !str_ends(text, STR("\n")) ||
	    !text_u64((struct str){ text.p + sizeof(CURSOR_FORMAT) - 1,
				    text.n - sizeof(CURSOR_FORMAT) },
		      INT64_MAX, &f->after))
		return err_set(e, ERR_INVALID,
			       "%s is no cursor; remove it to begin with record 0 again",
			       f->cursor);
	f->started = *found = true;
	return true;
}

static bool write_cursor(struct follow *f, struct err *e)
{
	FILE *out = fopen(f->fresh, "we");
	bool ok = out != NULL;

	if (ok) {
		fprintf(out, CURSOR_FORMAT "%" PRIu64 "\n", f->after);
		ok = fflush(out) == 0 && fsync(fileno(out)) == 0;
		ok = fclose(out) == 0 && ok && rename(f->fresh, f->cursor) == 0;
	}
	return ok || err_set(e, ERR_IO, "%s: %s", f->cursor, strerror(errno));
}

/* ---- rows ---- */

static bool put_record(struct follow *f, const struct json *v, struct err *e)
{
	uint8_t hash[SHA256_LEN];
	char hex[2 * SHA256_LEN];

	tree_leaf_hash(f->sha, v->raw, hash);
	text_hex(hash, sizeof(hash), hex);
	if (!format_record_read(&f->record, str_c(f->origin), v->raw,
				(struct str){ hex, sizeof(hex) }, &f->scratch, e) ||
	    (f->started && f->record.seq <= f->after))
		return err_code(e, ERR_INTERNAL, "bad_response",
				"the server's records are malformed or not in order");
	buf_reset(&f->row);
	if (!f->headed && f->format->head)
		buf_add(&f->row, str_c(f->format->head));
	f->headed = true;
	audit_format_line(f->format, &f->record, &f->row);
	if (!buf_ok(&f->row) || fwrite(f->row.p, 1, f->row.n, f->to) != f->row.n)
		return err_set(e, ERR_IO, "cannot write: %s", strerror(errno));
	f->started = true;
	f->after = f->record.seq;
	return true;
}

static void put_path(const struct follow *f, struct buf *b)
{
	static const char *const filters[] = { "agent", "decision" };

	buf_printf(b, "/v1/audit/records?order=oldest&limit=%d", PAGE);
	if (f->started)
		buf_printf(b, "&after=%" PRIu64, f->after);
	for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
		char option[16];
		const char *value;

		snprintf(option, sizeof(option), "--%s", filters[i]);
		value = cli_value(f->c, option);
		if (!value)
			continue;
		buf_printf(b, "&%s=", filters[i]);
		client_encode(b, str_c(value));
	}
	buf_char(b, '\0');
}

/* One page. *n: rows; *more: the walk came to the end of what it looks at, not of the log. */
static bool page(struct follow *f, uint32_t *n, bool *more, struct err *e)
{
	struct client_request q = { .method = "GET" };
	const struct json *v = NULL, *records, *next, *size;
	struct client_reply reply = { 0 };
	struct arena a;
	AUTO_BUF path;
	bool ok;

	buf_init(&path, mem_system, 8192);
	put_path(f, &path);
	q.path = path.p;
	arena_init(&a, &mem_system, FOLLOW_ARENA);
	ok = client_ask(&f->api.target, &f->api.tls, &q, &reply, e) &&
	     json_parse(buf_str(&reply.body), &json_default_limits, &a, &v, e);
	records = json_get_type(v, STR("records"), JSON_ARRAY);
	next = json_get_type(v, STR("next"), JSON_INT);
	size = json_get_type(v, STR("size"), JSON_INT);
	if (ok && (!records || !next || !size))
		ok = err_code(e, ERR_INTERNAL, "bad_response",
			      "the server's answer has no records");
	for (uint32_t i = 0; ok && i < records->n; i++)
		ok = put_record(f, &records->items[i], e);
	if (ok) {
		*n = records->n;
		/* What a filter left out has been looked at, too. */
		if (next->i > 0 && (!f->started || (uint64_t)next->i > f->after)) {
			f->started = true;
			f->after = (uint64_t)next->i;
		}
		*more = size->i > 0 && f->started && f->after + 1 < (uint64_t)size->i;
	}
	client_reply_clear(&reply);
	arena_clear(&a);
	return ok;
}

static bool settle(struct follow *f, struct err *e)
{
	if (fflush(f->to) != 0 || (f->cursor[0] && fdatasync(fileno(f->to)) != 0))
		return err_set(e, ERR_IO, "cannot write: %s", strerror(errno));
	return !f->cursor[0] || !f->started || write_cursor(f, e);
}

/* ---- following ---- */

static void pause_ms(int64_t ms)
{
	const struct timespec t = { ms / 1000, (ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* A server that is away comes back; anything else ends it. */
static int follow(struct follow *f)
{
	int64_t wait = 0;
	uint64_t kept = 0;
	bool has_kept = false;

	for (;;) {
		struct err e = { 0 };
		bool more = false;
		uint32_t n = 0;

		if (page(f, &n, &more, &e)) {
			bool moved = f->started && (!has_kept || f->after != kept);

			wait = 0;
			if ((n || moved) && !settle(f, &e))
				return cli_fail(f->c, &e);
			kept = f->after;
			has_kept = f->started;
			if (!n && !more)
				pause_ms(POLL_MS);
			continue;
		}
		if (e.class != ERR_UNAVAILABLE && e.class != ERR_TIMEOUT && e.class != ERR_RATE)
			return cli_fail(f->c, &e);
		if (!wait)
			fprintf(f->c->err, "writ: audit export: %s; trying again\n", e.msg);
		wait = wait ? wait * 2 : POLL_MS;
		wait = wait > RETRY_MAX_MS ? RETRY_MAX_MS : wait;
		pause_ms(wait);
	}
}

/* The origin is the name in the verifier key. */
static bool ask_origin(struct follow *f, int *exit_code)
{
	const struct json *vkey;
	struct str name, rest;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };

	if (!api_call(f->c, API_ADMIN, "GET", "/v1/audit/key", (struct str){ 0 }, &a, exit_code))
		return false;
	vkey = json_get_type(a.value, STR("vkey"), JSON_STRING);
	if (vkey && str_cut(vkey->s, '+', &name, &rest) && name.n < sizeof(f->origin)) {
		memcpy(f->origin, name.p, name.n);
		return true;
	}
	err_code(&e, ERR_INTERNAL, "bad_response", "the server's answer has no vkey");
	*exit_code = cli_fail(f->c, &e);
	return false;
}

static bool open_output(struct follow *f, const char *name, struct err *e)
{
	bool found;
	int fd;

	if (snprintf(f->cursor, sizeof(f->cursor), "%s.cursor", name) >= (int)sizeof(f->cursor) ||
	    snprintf(f->fresh, sizeof(f->fresh), "%s.cursor.new", name) >= (int)sizeof(f->fresh))
		return err_code(e, ERR_INVALID, "wrong_usage", "--output: the name is too long");
	if (!read_cursor(f, &found, e))
		return false;
	if (found && cli_value(f->c, "--from"))
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--from: %s says where to go on; remove it to begin elsewhere",
				f->cursor);
	fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	f->to = fd < 0 ? NULL : fdopen(fd, "a");
	if (!f->to) {
		err_set(e, ERR_IO, "%s: %s", name, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	f->headed = lseek(fd, 0, SEEK_END) > 0;
	return true;
}

static int start(struct follow *f)
{
	const char *from = cli_value(f->c, "--from"), *name = cli_output(f->c);
	struct err e = { 0 };
	int exit_code = CLI_FAILED;
	uint64_t number;

	if (from && text_u64(str_c(from), INT64_MAX, &number) && number) {
		f->started = true;
		f->after = number - 1;
	}
	f->to = f->c->out;
	f->sha = sha256_new(&e);
	if (!f->sha || !api_open(f->c, API_ADMIN, &f->api, &e) ||
	    (name && !open_output(f, name, &e)))
		return cli_fail(f->c, &e);
	return ask_origin(f, &exit_code) ? follow(f) : exit_code;
}

int audit_export_follow(struct cli *c)
{
	const char *format = cli_value(c, "--format");
	struct follow *f = calloc(1, sizeof(*f));
	struct err e = { 0 };
	int exit_code;

	if (!f) {
		err_set(&e, ERR_NOMEM, "no memory to follow the log");
		return cli_fail(c, &e);
	}
	f->c = c;
	f->format = audit_format_find(format ? str_c(format) : STR("jsonl"), &e);
	buf_init(&f->scratch, mem_system, FORMAT_LEAF_MAX + 1);
	buf_init(&f->row, mem_system, (size_t)2 * FORMAT_ROW_MAX);
	exit_code = start(f);
	if (f->to && f->to != c->out)
		fclose(f->to);
	sha256_free(f->sha);
	buf_clear(&f->scratch);
	buf_clear(&f->row);
	free(f);
	return exit_code;
}
