#include "authz/audit/tile_path.h"

#include <inttypes.h>
#include <stdio.h>

#include "authz/base/text.h"

/* The number in groups of three digits, all but the last with an x before. */
static size_t put_index(uint64_t index, char *out)
{
	unsigned groups[8];
	size_t n = 0, at = 0;

	do {
		groups[n++] = (unsigned)(index % 1000);
		index /= 1000;
	} while (index);
	while (n-- > 1)
		at += (size_t)sprintf(out + at, "x%03u/", groups[n]); /* NOLINT: 5 bytes each */
	return at + (size_t)sprintf(out + at, "%03u", groups[0]);     /* NOLINT */
}

size_t tile_path(const struct tile *t, char out[static TILE_PATH_MAX])
{
	size_t n;

	if (t->entries)
		n = (size_t)snprintf(out, TILE_PATH_MAX, "tile/entries/");
	else
		n = (size_t)snprintf(out, TILE_PATH_MAX, "tile/%u/", t->level);
	n += put_index(t->index, out + n);
	if (t->width < TILE_WIDTH)
		n += (size_t)snprintf(out + n, TILE_PATH_MAX - n, ".p/%u", t->width);
	return n;
}

static bool digits(struct str s, uint64_t *v)
{
	*v = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		*v = *v * 10 + (uint64_t)(s.p[i] - '0');
	}
	return s.n == 3;
}

/* What is read is written again and compared, so only the shape needs to be right here. */
bool tile_path_parse(struct str path, struct tile *t)
{
	struct tile read = { .width = TILE_WIDTH };
	struct str level, rest, group, width;
	char again[TILE_PATH_MAX];
	uint64_t v;

	if (path.n >= TILE_PATH_MAX || !str_starts(path, STR("tile/")) ||
	    !str_cut(str_from(path, 5), '/', &level, &rest))
		return false;
	read.entries = str_eq(level, STR("entries"));
	if (!read.entries && !text_u64(level, TILE_LEVELS - 1, &v))
		return false;
	read.level = read.entries ? 0 : (unsigned)v;
	for (size_t i = 0; i + 2 < rest.n; i++)
		if (memcmp(rest.p + i, ".p/", 3) == 0) {
			width = str_from(rest, i + 3);
			if (!text_u64(width, TILE_WIDTH - 1, &v) || !v)
				return false;
			read.width = (unsigned)v;
			rest.n = i;
			break;
		}
	while (str_cut(rest, '/', &group, &rest)) {
		if (group.n != 4 || group.p[0] != 'x' || !digits(str_from(group, 1), &v) ||
		    read.index > (uint64_t)TREE_SIZE_MAX / 1000000)
			return false;
		read.index = read.index * 1000 + v;
	}
	if (!digits(rest, &v))
		return false;
	read.index = read.index * 1000 + v;
	if (!str_eq(path, (struct str){ again, tile_path(&read, again) }))
		return false;
	*t = read;
	return true;
}

unsigned tile_width(unsigned level, uint64_t index, uint64_t size)
{
	uint64_t hashes = 8 * level < 64 ? size >> 8 * level : 0;

	if (index > hashes / TILE_WIDTH)
		return 0;
	hashes -= index * TILE_WIDTH;
	return hashes < TILE_WIDTH ? (unsigned)hashes : TILE_WIDTH;
}
