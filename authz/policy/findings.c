#include "authz/policy/findings.h"

#include <stdio.h>
#include <stdlib.h>

#include "authz/base/text.h"

#define FINDINGS_MAX 1000
#define MESSAGE_MAX 400

void findings_init(struct policy_findings *f, const struct alloc *alloc)
{
	*f = (struct policy_findings){ 0 };
	f->code = "policy";
	arena_init(&f->arena, alloc, 4 * 1024 * 1024);
}

void policy_findings_clear(struct policy_findings *f)
{
	if (f->arena.alloc)
		arena_clear(&f->arena);
	*f = (struct policy_findings){ 0 };
}

static bool room(struct policy_findings *f)
{
	struct policy_finding *items;

	if (f->n >= FINDINGS_MAX)
		return false;
	if (f->n & (f->n - 1) || f->n == 1)
		return true;
	/* 0, 2, 4, 8 ...: the array is full and doubles */
	items = arena_alloc(&f->arena, (f->n ? f->n * 2 : 2) * sizeof(*items));
	if (!items)
		return false;
	if (f->n)
		memcpy(items, f->items, f->n * sizeof(*items));
	f->items = items;
	return true;
}

void finding(struct policy_findings *f, bool error, struct str file, int line, const char *fmt, ...)
{
	char text[MESSAGE_MAX];
	struct str copy;
	va_list ap;

	f->errors += error;
	if (!room(f))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	copy = arena_dup(&f->arena, str_c(text));
	file = arena_dup(&f->arena, file);
	if (copy.p && file.p)
		f->items[f->n++] = (struct policy_finding){
			.error = error, .file = file, .line = line, .code = f->code, .message = copy
		};
}

/* The line @n of @text. */
static struct str line_of(struct str text, int n)
{
	struct str line = text, rest = text;

	for (int i = 0; i < n; i++) {
		if (!str_cut(rest, '\n', &line, &rest)) {
			line = i + 1 == n ? rest : STR("");
			break;
		}
	}
	return line;
}

/* Where @word stands, or what follows a slash in it: the line of "finance/payments" has the second
 * half only. */
static const char *find_word(struct str line, struct str word)
{
	struct str head;

	for (;;) {
		const char *p = word.n && line.n ? memmem(line.p, line.n, word.p, word.n) : NULL;

		if (p || !str_cut(word, '/', &head, &word))
			return p;
	}
}

/* At the first word that the message quotes and that stands on the line, else at the first that is
 * not blank. */
void finding_place(struct policy_finding *f, struct str text)
{
	struct str line = line_of(text, f->line), before, word, rest = f->message;
	const char *p = NULL;
	size_t at = 0;

	if (f->line <= 0)
		return;
	while (at < line.n && (line.p[at] == ' ' || line.p[at] == '\t'))
		at++;
	while (!p && str_cut(rest, '"', &before, &rest) && str_cut(rest, '"', &word, &rest))
		p = find_word(line, word);
	f->column = (int)(p ? (size_t)(p - line.p) : at) + 1;
}

static int compare(const void *pa, const void *pb)
{
	const struct policy_finding *a = pa, *b = pb;
	int c = str_cmp(a->file, b->file);

	if (c == 0)
		c = (a->line > b->line) - (a->line < b->line);
	return c ? c : str_cmp(a->message, b->message);
}

void findings_sort(struct policy_findings *f)
{
	if (f->n)
		qsort(f->items, f->n, sizeof(*f->items), compare);
}

const char *did_you_mean(struct str word, const char *const *names, char text[static 100])
{
	const char *near = text_nearest(word, names);

	text[0] = '\0';
	if (near)
		snprintf(text, 100, "; did you mean \"%.80s\"?", near);
	return text;
}
