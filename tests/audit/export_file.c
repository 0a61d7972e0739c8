#include "tests/audit/export_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "authz/audit/tree.h"
#include "authz/base/text.h"

void file_make(struct export_file *x, struct fixture *f, const struct audit_filter *filter)
{
	struct audit_export_options o = { .folder = f->folder, .filter = *filter };
	struct audit_export *e;
	struct str text, line;
	bool done = false;
	AUTO_BUF out;
	struct err why = { 0 };

	*x = (struct export_file){ 0 };
	buf_init(&out, mem_system, 1 << 24);
	if (!audit_export_open(&o, &e, &why))
		fail_msg("audit_export_open: %s", why.msg);
	while (!done)
		if (!audit_export_next(e, &out, &done, &why))
			fail_msg("audit_export_next: %s", why.msg);
	audit_export_close(e);
	text = buf_str(&out);
	while (str_cut(text, '\n', &line, &text)) {
		assert_true(x->n < FILE_LINES);
		x->line[x->n++] = strndup(line.p, line.n);
	}
	assert_int_equal(text.n, 0);
}

void file_clear(struct export_file *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->line[i]);
	x->n = 0;
}

static bool is_record(const char *line)
{
	return strncmp(line, "{\"header\":", 10) != 0 && strncmp(line, "{\"opening\":", 11) != 0 &&
	       strncmp(line, "{\"trailer\":", 11) != 0;
}

size_t file_records(const struct export_file *x)
{
	size_t n = 0;

	for (size_t i = 0; i < x->n; i++)
		n += is_record(x->line[i]);
	return n;
}

size_t file_record(const struct export_file *x, size_t i, size_t *lines)
{
	size_t at = 0, n = 1;

	for (;; at++) {
		assert_true(at < x->n);
		if (is_record(x->line[at]) && i-- == 0)
			break;
	}
	while (at + n < x->n && strncmp(x->line[at + n], "{\"opening\":", 11) == 0)
		n++;
	if (lines)
		*lines = n;
	return at;
}

void file_delete(struct export_file *x, size_t at, size_t n)
{
	assert_true(at + n <= x->n);
	for (size_t i = at; i < at + n; i++)
		free(x->line[i]);
	memmove(&x->line[at], &x->line[at + n], (x->n - at - n) * sizeof(*x->line));
	x->n -= n;
}

void file_insert(struct export_file *x, size_t at, const char *line)
{
	assert_true(x->n < FILE_LINES);
	memmove(&x->line[at + 1], &x->line[at], (x->n - at) * sizeof(*x->line));
	x->line[at] = strdup(line);
	x->n++;
}

void file_edit(struct export_file *x, size_t at, const char *from, const char *to)
{
	const char *old = x->line[at], *hit = strstr(old, from);
	char *made;

	if (!hit)
		fail_msg("no %s in %s", from, old);
	made = malloc(strlen(old) + strlen(to) + 1);
	sprintf(made, "%.*s%s%s", (int)(hit - old), old, to, hit + strlen(from)); /* NOLINT */
	free(x->line[at]);
	x->line[at] = made;
}

void file_rechain(struct export_file *x, struct fixture *f, size_t i)
{
	for (size_t n = file_records(x); i + 1 < n; i++) {
		char *next = x->line[file_record(x, i + 1, NULL)];
		uint8_t hash[32];

		tree_leaf_hash(f->sha, str_c(x->line[file_record(x, i, NULL)]), hash);
		text_hex(hash, 32, strstr(next, "\"prev\":\"") + 8);
	}
}

void file_join(const struct export_file *x, struct buf *out)
{
	for (size_t i = 0; i < x->n; i++) {
		buf_add(out, str_c(x->line[i]));
		buf_char(out, '\n');
	}
	assert_true(buf_ok(out));
}

void file_verify(const struct export_file *x, const struct verify_options *o,
		 struct verify_report *r)
{
	struct verifier *v;
	AUTO_BUF out;
	struct err e = { 0 };

	buf_init(&out, mem_system, 1 << 24);
	file_join(x, &out);
	if (!verifier_new(o, &v, &e))
		fail_msg("verifier_new: %s", e.msg);
	verifier_feed(v, buf_str(&out));
	verifier_finish(v, r);
	verifier_free(v);
}
