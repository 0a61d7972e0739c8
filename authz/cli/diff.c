#include "authz/cli/diff.h"

#include <stdlib.h>

#include "authz/cli/print.h"

#define CONTEXT 3
#define CELLS_MAX ((size_t)16 * 1024 * 1024) /* of the table of common lengths */

struct lines {
	struct str *v;
	size_t n;
};

static bool split(struct str s, struct lines *out)
{
	struct str line;
	size_t room = 1;

	for (size_t i = 0; i < s.n; i++)
		room += s.p[i] == '\n';
	out->v = calloc(room, sizeof(*out->v));
	if (!out->v)
		return false;
	while (str_cut(s, '\n', &line, &s))
		out->v[out->n++] = line;
	if (s.n)
		out->v[out->n++] = s;
	return true;
}

/* The edit script: ' ' in both, '-' of a, '+' of b. */
struct script {
	char *op;
	size_t n;
};

/* Lengths of the longest common rest, (na + 1) x (nb + 1), and the walk along them. */
static bool walk(const struct str *a, size_t na, const struct str *b, size_t nb, struct script *s)
{
	size_t w = nb + 1, i = 0, j = 0;
	uint32_t *common = NULL;

	if (na && nb && na <= CELLS_MAX / w) {
		common = calloc((na + 1) * w, sizeof(*common));
		if (!common)
			return false;
		for (size_t x = na; x-- > 0;)
			for (size_t y = nb; y-- > 0;) {
				uint32_t down = common[(x + 1) * w + y],
					 right = common[x * w + y + 1];

				common[x * w + y] = str_eq(a[x], b[y])
							    ? common[(x + 1) * w + y + 1] + 1
						    : down > right ? down
								   : right;
			}
	}
	while (common && i < na && j < nb) {
		if (str_eq(a[i], b[j])) {
			s->op[s->n++] = ' ';
			i++;
			j++;
		} else if (common[(i + 1) * w + j] >= common[i * w + j + 1]) {
			s->op[s->n++] = '-';
			i++;
		} else {
			s->op[s->n++] = '+';
			j++;
		}
	}
	for (; i < na; i++)
		s->op[s->n++] = '-';
	for (; j < nb; j++)
		s->op[s->n++] = '+';
	free(common);
	return true;
}

static bool compare(const struct lines *a, const struct lines *b, struct script *s)
{
	size_t head = 0, tail = 0;

	while (head < a->n && head < b->n && str_eq(a->v[head], b->v[head]))
		head++;
	while (tail < a->n - head && tail < b->n - head &&
	       str_eq(a->v[a->n - 1 - tail], b->v[b->n - 1 - tail]))
		tail++;
	s->op = malloc(a->n + b->n + 1);
	if (!s->op)
		return false;
	memset(s->op, ' ', head);
	s->n = head;
	if (!walk(a->v + head, a->n - head - tail, b->v + head, b->n - head - tail, s))
		return false;
	memset(s->op + s->n, ' ', tail);
	s->n += tail;
	return true;
}

/* From @at on: the end of the hunk that begins there, with its context. */
static size_t hunk_end(const struct script *s, size_t at)
{
	size_t end = at, quiet = 0;

	for (size_t i = at; i < s->n && quiet <= 2 * CONTEXT; i++) {
		quiet = s->op[i] == ' ' ? quiet + 1 : 0;
		if (!quiet)
			end = i + 1;
	}
	return end + CONTEXT < s->n ? end + CONTEXT : s->n;
}

static void put_hunk(struct buf *out, const struct script *s, size_t from, size_t to,
		     const struct lines *a, const struct lines *b, size_t ia, size_t ib)
{
	size_t na = 0, nb = 0;

	for (size_t k = from; k < to; k++) {
		na += s->op[k] != '+';
		nb += s->op[k] != '-';
	}
	buf_printf(out, "@@ -%zu,%zu +%zu,%zu @@\n", na ? ia + 1 : ia, na, nb ? ib + 1 : ib, nb);
	for (size_t k = from; k < to; k++) {
		buf_char(out, s->op[k]);
		print_safe(out, s->op[k] == '+' ? b->v[ib] : a->v[ia]);
		buf_char(out, '\n');
		ia += s->op[k] != '+';
		ib += s->op[k] != '-';
	}
}

static void put_hunks(struct buf *out, const struct script *s, const struct lines *a,
		      const struct lines *b)
{
	size_t ia = 0, ib = 0, done = 0;

	for (size_t i = 0; i < s->n;) {
		size_t from, to;

		if (s->op[i] == ' ') {
			i++;
			continue;
		}
		from = i - done > CONTEXT ? i - CONTEXT : done;
		to = hunk_end(s, i);
		for (; done < from; done++) { /* all ' ' */
			ia++;
			ib++;
		}
		put_hunk(out, s, from, to, a, b, ia, ib);
		for (; done < to; done++) {
			ia += s->op[done] != '+';
			ib += s->op[done] != '-';
		}
		i = to;
	}
}

bool diff_lines(struct buf *out, struct str a, struct str b)
{
	struct lines la = { 0 }, lb = { 0 };
	struct script s = { 0 };
	bool ok = split(a, &la) && split(b, &lb) && compare(&la, &lb, &s);

	if (ok)
		put_hunks(out, &s, &la, &lb);
	free(la.v);
	free(lb.v);
	free(s.op);
	return ok;
}
