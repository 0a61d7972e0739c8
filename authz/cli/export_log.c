/*
 * audit export. A file of the given name is always a whole export: it is written as FILE.part
 * first. With --resume the range is fixed at the start and written to FILE.resume; so an export
 * that was cut off is asked for again from the byte where it stopped, a little before it, and what
 * comes twice must be the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/format.h"
#include "authz/base/clock.h"
#include "authz/base/text.h"
#include "authz/cli/commands.h"
#include "authz/cli/export_log.h"
#include "authz/store/file.h"
#include "spiffe/id.h"

#define PATH_MAX_BYTES 8192
#define OVERLAP ((size_t)64 * 1024) /* bytes that are compared where two parts meet */
#define PROGRESS_NS 500000000
#define STATE_FORMAT "writ-resume/1"
#define STATE_MAX 32768

static const struct {
	const char *option, *name;
	bool moment;
} filters[] = {
	{ "--agent", "agent", false }, { "--decision", "decision", false },
	{ "--since", "since", true },  { "--until", "until", true },
	{ "--from", "from", false },   { "--format", "format", false },
};

/* "7d" is that long ago; anything else is a time the server reads. */
void audit_put_moment(struct buf *b, const char *text)
{
	char at[CLOCK_RFC3339_MAX];
	int64_t seconds;

	if (text_duration(str_c(text), &seconds)) {
		clock_rfc3339(clock_wall_ms(&clock_system) - seconds * 1000, at);
		text = at;
	}
	client_encode(b, str_c(text));
}

static void put_path(struct cli *c, struct buf *b)
{
	char before = '?';

	buf_lit(b, "/v1/audit/export");
	for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
		const char *value = cli_value(c, filters[i].option);

		if (!value)
			continue;
		buf_printf(b, "%c%s=", before, filters[i].name);
		before = '&';
		if (filters[i].moment)
			audit_put_moment(b, value);
		else
			client_encode(b, str_c(value));
	}
	if (cli_flag(c, "--witnessed")) {
		buf_printf(b, "%cwitnessed=yes", before);
		before = '&';
	}
	if (cli_flag(c, "--timestamped"))
		buf_printf(b, "%ctimestamped=yes", before);
}

/* What was asked for, as it was asked: "7d" stays "7d". */
static void put_options(struct cli *c, struct buf *b)
{
	for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
		const char *value = cli_value(c, filters[i].option);

		if (!value)
			continue;
		buf_printf(b, "%s%s=", b->n ? " " : "", filters[i].option);
		client_encode(b, str_c(value));
	}
}

/* ---- one export under way ---- */

struct output {
	FILE *to;
	uint64_t bytes;	    /* in the file, those of an earlier run included */
	struct buf overlap; /* what must come first */
	size_t compared;
	bool progress;
	int64_t told_ns;
};

static void tell_progress(struct output *o)
{
	int64_t now = clock_mono_ns(&clock_system);

	if (!o->progress || now - o->told_ns < PROGRESS_NS)
		return;
	o->told_ns = now;
	fprintf(stderr, "\r%" PRIu64 " KiB", o->bytes / 1024);
	fflush(stderr);
}

static bool write_piece(void *ctx, struct str bytes, struct err *e)
{
	struct output *o = ctx;
	struct str wanted = str_from(buf_str(&o->overlap), o->compared);

	if (wanted.n) {
		struct str first = str_first(bytes, wanted.n);

		if (!str_eq(first, str_first(wanted, first.n)))
			return err_code(e, ERR_CONFLICT, "export_changed",
					"the log's export is not what the part that is here began "
					"with (something was erased, or it is another log); remove "
					"the .resume file beside it and start anew");
		o->compared += first.n;
		bytes = str_from(bytes, first.n);
	}
	o->bytes += bytes.n;
	tell_progress(o);
	if (bytes.n && fwrite(bytes.p, 1, bytes.n, o->to) != bytes.n)
		return err_set(e, ERR_IO, "cannot write the export: %s", strerror(errno));
	return true;
}

static int ask(struct cli *c, const char *path, struct output *o)
{
	struct client_request q = { .method = "GET", .path = path, .sink = write_piece, .ctx = o };
	struct api api;
	struct err e = { 0 };
	AUTO_ANSWER a = { 0 };
	int exit_code = CLI_FAILED;

	if (!api_open(c, API_ADMIN, &api, &e))
		return cli_fail(c, &e);
	if (!api_ask(c, &api, &q, false, &a, &exit_code))
		return exit_code;
	if (o->compared != o->overlap.n) {
		err_code(&e, ERR_CONFLICT, "export_changed",
			 "the log's export is shorter than the part that is here; remove the "
			 ".resume file beside it and start anew");
		return cli_fail(c, &e);
	}
	return CLI_DONE;
}

/* ---- files ---- */

struct files {
	const char *name;
	char part[4096], resume[4096];
	struct buf path; /* what is asked for, NUL-terminated */
	bool resumable;
};

/* FILE.resume: format, options, path. *found false: there is none, or no part. */
static bool read_state(struct cli *c, struct files *f, bool *found, struct err *e)
{
	struct str format, options, path, rest;
	AUTO_BUF text;
	AUTO_BUF wanted;

	buf_init(&text, mem_system, (size_t)2 * STATE_MAX);
	buf_init(&wanted, mem_system, STATE_MAX);
	*found = false;
	if (!file_read(AT_FDCWD, f->resume, STATE_MAX, &text, e)) {
		if (e->class != ERR_NOT_FOUND)
			return false;
		err_none(e);
		return true;
	}
	if (access(f->part, F_OK) != 0)
		return true;
	put_options(c, &wanted);
	if (!str_cut(buf_str(&text), '\n', &format, &rest) ||
	    !str_cut(rest, '\n', &options, &rest) || !str_cut(rest, '\n', &path, &rest) || rest.n ||
	    !str_eq(format, STR(STATE_FORMAT)) || !str_starts(path, STR("/v1/audit/export?")) ||
	    !text_is_printable(path))
		return err_set(e, ERR_INVALID, "%s is malformed; remove it to start anew",
			       f->resume);
	if (!str_eq(options, buf_str(&wanted)))
		return err_set(
			e, ERR_CONFLICT,
			"%s is of an export with other options (%.*s); give the same ones, or "
			"remove it to start anew",
			f->resume, STR_FMT(str_first(options, 150)));
	buf_reset(&f->path);
	buf_add(&f->path, path);
	*found = true;
	return true;
}

static bool write_state(struct cli *c, struct files *f, struct err *e)
{
	AUTO_BUF text;
	AUTO_BUF options;
	bool ok;
	int fd;

	buf_init(&text, mem_system, STATE_MAX);
	buf_init(&options, mem_system, STATE_MAX);
	put_options(c, &options);
	buf_lit(&text, STATE_FORMAT "\n");
	buf_add(&text, buf_str(&options));
	buf_char(&text, '\n');
	buf_add(&text, buf_str(&f->path));
	buf_char(&text, '\n');
	if (!buf_ok(&text) || !buf_ok(&options))
		return err_set(e, ERR_NOMEM, "no memory for the state of an export");
	/* Before the part: half of a state is of no use, and refused when it is read. */
	fd = open(f->resume, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	ok = fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n && fsync(fd) == 0;
	if (!ok)
		err_set(e, ERR_IO, "%s: %s", f->resume, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Go on behind what is there: its end is asked for once more. */
static bool take_up(struct files *f, struct output *o, struct err *e)
{
	struct stat st;
	uint64_t from;
	char *room;
	int fd = fileno(o->to);

	if (fstat(fd, &st) != 0)
		return err_set(e, ERR_IO, "%s: %s", f->part, strerror(errno));
	o->bytes = (uint64_t)st.st_size;
	from = o->bytes > OVERLAP ? o->bytes - OVERLAP : 0;
	room = buf_room(&o->overlap, OVERLAP);
	if (!room)
		return err_set(e, ERR_NOMEM, "no memory to compare two parts");
	if (pread(fd, room, o->bytes - from, (off_t)from) != (ssize_t)(o->bytes - from) ||
	    lseek(fd, 0, SEEK_END) < 0)
		return err_set(e, ERR_IO, "%s: %s", f->part, strerror(errno));
	o->overlap.n = o->bytes - from;
	buf_printf(&f->path, "&offset=%" PRIu64, from);
	return true;
}

/* The range first, so that it can be asked for again. */
static bool fix_range(struct cli *c, struct files *f, int *exit_code)
{
	struct err e = { 0 };
	uint64_t size;

	if (!audit_log_size(c, &size, exit_code))
		return false;
	buf_printf(&f->path, "%cto=%" PRIu64, memchr(f->path.p, '?', f->path.n) ? '&' : '?', size);
	if (write_state(c, f, &e))
		return true;
	*exit_code = cli_fail(c, &e);
	return false;
}

static bool open_part(struct files *f, bool again, struct output *o, struct err *e)
{
	int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (again ? 0 : O_TRUNC);
	int fd = open(f->part, flags, 0600);

	o->to = fd < 0 ? NULL : fdopen(fd, "r+");
	if (o->to)
		return true;
	err_set(e, ERR_IO, "%s: %s", f->part, strerror(errno));
	if (fd >= 0)
		close(fd);
	return false;
}

static void print_done(struct cli *c, const struct files *f, uint64_t bytes)
{
	const char *format = cli_value(c, "--format");
	bool proves = !format || strcmp(format, "jsonl") == 0;

	if (c->json)
		fprintf(c->out, "{\"bytes\":%" PRIu64 "}\n", bytes);
	else if (proves)
		fprintf(c->out,
			"wrote %" PRIu64 " bytes to %s; check it with: "
			"writ audit verify --key VKEY %s\n",
			bytes, f->name, f->name);
	else
		fprintf(c->out, "wrote %" PRIu64 " bytes to %s\n", bytes, f->name);
}

/* Close the part; a whole one gets its name. */
static int finish(struct cli *c, struct files *f, struct output *o, int exit_code)
{
	struct err e = { 0 };
	bool written = fflush(o->to) == 0 && fsync(fileno(o->to)) == 0;

	written = fclose(o->to) == 0 && written;
	if (o->told_ns)
		fputs("\r", stderr);
	if (exit_code == CLI_DONE && (!written || rename(f->part, f->name) != 0)) {
		err_set(&e, ERR_IO, "%s: %s", f->name, strerror(errno));
		exit_code = cli_fail(c, &e);
	}
	if (exit_code != CLI_DONE && f->resumable && o->bytes) {
		if (!c->json)
			fprintf(c->err,
				"%" PRIu64
				" bytes are in %s; the same command goes on from there\n",
				o->bytes, f->part);
		return exit_code;
	}
	if (exit_code != CLI_DONE)
		unlink(f->part);
	if (f->resumable)
		unlink(f->resume);
	if (exit_code == CLI_DONE)
		print_done(c, f, o->bytes);
	return exit_code;
}

static int export_to_file(struct cli *c, struct files *f)
{
	struct output o = { .progress = !c->json && isatty(STDERR_FILENO) == 1 };
	struct err e = { 0 };
	bool again = false;
	int exit_code = CLI_FAILED;

	if (snprintf(f->part, sizeof(f->part), "%s.part", f->name) >= (int)sizeof(f->part) ||
	    snprintf(f->resume, sizeof(f->resume), "%s.resume", f->name) >= (int)sizeof(f->resume))
		return cli_misuse(c, "--output: the name is too long");
	if (!file_is_replaceable(f->name, &e) || (f->resumable && !read_state(c, f, &again, &e)))
		return cli_fail(c, &e);
	if (f->resumable && !again && !fix_range(c, f, &exit_code))
		return exit_code;
	if (!open_part(f, again, &o, &e))
		return cli_fail(c, &e);
	buf_init(&o.overlap, mem_system, OVERLAP);
	if (again && !take_up(f, &o, &e)) {
		exit_code = cli_fail(c, &e);
	} else {
		buf_char(&f->path, '\0');
		exit_code = ask(c, f->path.p, &o);
	}
	buf_clear(&o.overlap);
	return finish(c, f, &o, exit_code);
}

static int check_options(struct cli *c)
{
	const char *decision = cli_value(c, "--decision"), *from = cli_value(c, "--from");
	const char *agent = cli_value(c, "--agent"), *format = cli_value(c, "--format");
	struct spiffe_id id;
	struct err e = { 0 };
	uint64_t number;

	if (decision && strcmp(decision, "permit") != 0 && strcmp(decision, "deny") != 0 &&
	    strcmp(decision, "ask") != 0)
		return cli_misuse(c, "--decision %.60s: expected permit, deny or ask", decision);
	if (from && !text_u64(str_c(from), UINT64_MAX, &number))
		return cli_misuse(c, "--from %.60s: expected the number of a record", from);
	if (agent && !spiffe_id_parse(str_c(agent), &id, &e))
		return cli_misuse(c, "--agent: %s", e.msg);
	if (format && !(cli_flag(c, "--follow") ? audit_format_find_endless(str_c(format), &e)
						: audit_format_find(str_c(format), &e)))
		return cli_misuse(c, "--format: %s", e.msg);
	if (cli_flag(c, "--follow") &&
	    (cli_flag(c, "--resume") || cli_value(c, "--since") || cli_value(c, "--until")))
		return cli_misuse(c, "--follow goes on from --from or FILE.cursor, and has no end: "
				     "leave --resume, --since and --until out");
	return CLI_DONE;
}

int run_audit_export(struct cli *c)
{
	const char *name = cli_output(c);
	struct files f = { .name = name, .resumable = cli_flag(c, "--resume") };
	struct output o = { .to = c->out };
	int exit_code = check_options(c);

	if (exit_code != CLI_DONE)
		return exit_code;
	if (cli_flag(c, "--follow"))
		return audit_export_follow(c);
	if (f.resumable && !name)
		return cli_misuse(c, "--resume: what is there is in a file; name it with --output");
	buf_init(&f.path, mem_system, PATH_MAX_BYTES);
	put_path(c, &f.path);
	if (!buf_ok(&f.path)) {
		exit_code = cli_misuse(c, "the filters are longer than %d bytes", PATH_MAX_BYTES);
	} else if (name) {
		exit_code = export_to_file(c, &f);
	} else {
		buf_char(&f.path, '\0');
		exit_code = ask(c, f.path.p, &o);
	}
	buf_clear(&f.path);
	return exit_code;
}
