/* Tiles, proofs made from them, and the proof file: the sheet's 19.5 and 19.6, and a log of more
 * than one tile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/audit/proof.h"
#include "authz/audit/tiles.h"
#include "authz/base/text.h"
#include "tests/audit/fixture.h"

#define RECORDS 600 /* two full tiles and a part */

static struct fixture log_of_all;
static struct sha256 *sha;
static uint8_t leaf[RECORDS][SHA256_LEN];
static uint64_t at_early; /* size of a checkpoint in the middle */

/* --- names --- */

static const struct {
	struct tile tile;
	const char *path;
} paths[] = {
	{ { false, 0, 0, 256 }, "tile/0/000" },
	{ { false, 0, 1, 256 }, "tile/0/001" },
	{ { false, 0, 255, 256 }, "tile/0/255" },
	{ { false, 1, 999, 256 }, "tile/1/999" },
	{ { false, 0, 1000, 256 }, "tile/0/x001/000" },
	{ { false, 0, 999999, 256 }, "tile/0/x999/999" },
	{ { false, 0, 1000000, 256 }, "tile/0/x001/x000/000" },
	{ { false, 0, 1234067, 256 }, "tile/0/x001/x234/067" },
	{ { false, 0, 123456789, 256 }, "tile/0/x123/x456/789" },
	{ { false, 0, 273, 112 }, "tile/0/273.p/112" },
	{ { false, 0, 3906, 64 }, "tile/0/x003/906.p/64" },
	{ { true, 0, 0, 1 }, "tile/entries/000.p/1" },
	{ { true, 0, 1234067, 256 }, "tile/entries/x001/x234/067" },
};

static const char *const no_paths[] = {
	"",
	"tile",
	"tile/0",
	"tile/0/",
	"tile/0/0",
	"tile/0/00",
	"tile/0/0000",
	"tile/8/000",
	"tile/00/000",
	"tile/-1/000",
	"tile/0/1000",
	"tile/0/x000/000",
	"tile/0/x1/000",
	"tile/0/001/000",
	"tile/0/x001/x000",
	"tile/0/000.p/0",
	"tile/0/000.p/",
	"tile/0/000.p/256",
	"tile/0/000.p/01",
	"tile/0/000.p/1/2",
	"tile/0/000/",
	"tile/0//000",
	"tile/entries/0",
	"tile/entry/000",
	"/tile/0/000",
	"tile/0/..",
	"tile/0/x001/../000",
	"tile/0/000.p/+1",
	"tile/0/a00",
	"tile/0/x999/x999/x999/x999/x999/x999/x999/999",
};

static void tile_names(void **state)
{
	char path[TILE_PATH_MAX];
	struct tile t;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		assert_int_equal(tile_path(&paths[i].tile, path), strlen(paths[i].path));
		assert_string_equal(path, paths[i].path);
		assert_true(tile_path_parse(str_c(path), &t));
		assert_memory_equal(&t.index, &paths[i].tile.index, sizeof(t.index));
		assert_int_equal(t.width, paths[i].tile.width);
		assert_int_equal(t.level, paths[i].tile.level);
		assert_int_equal(t.entries, paths[i].tile.entries);
	}
	for (size_t i = 0; i < ARRAY_LEN(no_paths); i++)
		if (tile_path_parse(str_c(no_paths[i]), &t))
			fail_msg("%s is a tile", no_paths[i]);
}

/* The sheet's 19.6: the last tile of each level and its width; width 0: the level has no more. */
static void tiles_of_a_size(void **state)
{
	static const struct {
		uint64_t size;
		struct {
			uint64_t index;
			unsigned width;
		} last[3];
	} rows[] = {
		{ 1, { { 0, 1 }, { 0, 0 }, { 0, 0 } } },
		{ 255, { { 0, 255 }, { 0, 0 }, { 0, 0 } } },
		{ 256, { { 0, 256 }, { 0, 1 }, { 0, 0 } } },
		{ 257, { { 1, 1 }, { 0, 1 }, { 0, 0 } } },
		{ 511, { { 1, 255 }, { 0, 1 }, { 0, 0 } } },
		{ 65535, { { 255, 255 }, { 0, 255 }, { 0, 0 } } },
		{ 65536, { { 255, 256 }, { 0, 256 }, { 0, 1 } } },
		{ 65792, { { 256, 256 }, { 1, 1 }, { 0, 1 } } },
		{ 70000, { { 273, 112 }, { 1, 17 }, { 0, 1 } } },
		{ 1000000, { { 3906, 64 }, { 15, 66 }, { 0, 15 } } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (unsigned l = 0; l < 3; l++) {
			uint64_t n = rows[i].last[l].index;

			assert_int_equal(tile_width(l, n, rows[i].size), rows[i].last[l].width);
			assert_int_equal(tile_width(l, n + 1, rows[i].size), 0);
			if (n)
				assert_int_equal(tile_width(l, n - 1, rows[i].size), 256);
		}
	assert_int_equal(tile_width(7, 0, TREE_SIZE_MAX), 127);
	assert_int_equal(tile_width(0, UINT64_MAX / 256, TREE_SIZE_MAX), 0);
}

/* --- the proof file --- */

#define CLASSIC_CHECKPOINT                                                                         \
	"writ.example/audit\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n\n"                  \
	"\xe2\x80\x94 writ.example/audit 9604BOr2i10PqJeBhxKJKWl2B0YRQ5ecJUNvvVesmDD/"             \
	"RPcagPSimiKQi4j3Fuh7VxhoD4RRDHGvKNvsvJ3pMcR64gE=\n"                                       \
	"\xe2\x80\x94 witness.example/w1 IDJKvgAAAABlU/EA+7wsEYTc5xrXKrSM94s2WHA9sJ4uCwvLGpwFXMki" \
	"F/LxfSbnaQbOgmBtfRSEckmE8OLnYYySL2rzjdQsreAFBQ==\n"
#define H0 "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=\n"
#define H1 "yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=\n"
#define H2 "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=\n"
#define HEAD "c2sp.org/tlog-proof@v1\n"

static void the_classic_proof_file(void **state)
{
	const char *text = HEAD "index 5\n" H0 H1 H2 "\n" CLASSIC_CHECKPOINT;
	uint8_t hash[SHA256_LEN], want[SHA256_LEN];
	struct proof_file p;
	struct checkpoint c = { 0 };
	struct note n;
	struct err e;
	AUTO_BUF out;

	(void)state;
	assert_int_equal(strlen(text), 478);
	sha256_of(sha, str_c(text), hash);
	unhex("fa7ea2b1b29967e3ab1f489168dadb087ec279557ff4c2d4c0797f3335fa740a", want, 32);
	assert_memory_equal(hash, want, 32);
	assert_true(proof_file_parse(str_c(text), &p, &e));
	assert_int_equal(p.index, 5);
	assert_int_equal(p.extra.n, 0);
	assert_true(note_parse(p.note, &n, &e) && checkpoint_parse(n.text, &c, &e));
	tree_leaf_hash(sha, STR("@ABC"), hash); /* entry 5 of the classic tree: 40414243 */
	assert_true(tree_verify_inclusion(sha, p.index, c.size, hash, &p.path, c.root));
	buf_init(&out, mem_system, 4096);
	proof_file_format(&p, &out);
	assert_true(str_eq(buf_str(&out), str_c(text)));
	p.extra = STR("QEFCQw==");
	buf_reset(&out);
	proof_file_format(&p, &out);
	assert_true(proof_file_parse(buf_str(&out), &p, &e));
	assert_true(str_eq(p.extra, STR("QEFCQw==")));
}

static void malformed_proof_files(void **state)
{
	static const char *const rows[] = {
		"",
		"c2sp.org/tlog-proof@v1",
		HEAD,
		HEAD "index\n\nx",
		HEAD "index 05\n\nx",
		HEAD "index -1\n\nx",
		HEAD "index +1\n\nx",
		HEAD "index 9223372036854775807\n\nx",
		HEAD "index 18446744073709551616\n\nx",
		"c2sp.org/tlog-proof@v2\nindex 1\n\nx",
		HEAD "extra \nindex 1\n\nx",
		HEAD "extra AA==\nextra AA==\nindex 1\n\nx",
		HEAD "extra AA==\n",
		HEAD "index 1\n" H0, /* no blank line */
		HEAD "index 1\nAAAA\n\nx",
		HEAD "index 1\nvBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnmt=\n\nx", /* stray bits */
		HEAD "index 1\nvBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=\r\n\nx",
	};
	struct proof_file p;
	struct err e;
	AUTO_BUF many;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (proof_file_parse(str_c(rows[i]), &p, &e))
			fail_msg("row %zu is a proof", i);
	buf_init(&many, mem_system, 1 << 20);
	buf_lit(&many, HEAD "index 1\n");
	for (int i = 0; i < 64; i++)
		buf_lit(&many, H0);
	buf_lit(&many, "\nx");
	assert_false(proof_file_parse(buf_str(&many), &p, &e));
}

/* --- proofs of a log --- */

static void prove(enum proof_kind kind, uint64_t a, uint64_t b, uint64_t size, struct log_proof *p)
{
	struct proof_ask ask = { .kind = kind, .a = a, .b = b, .size = size };
	struct err e = { 0 };

	if (!proof_make(log_of_all.folder, NULL, &ask, p, &e))
		fail_msg("proof of %llu: %s", (unsigned long long)a, e.msg);
	assert_true(p->covered);
}

static void signed_root(const struct log_proof *p, uint8_t root[static SHA256_LEN])
{
	struct note_key k;
	struct checkpoint c;
	struct err e = { 0 };

	fixture_key(&k);
	if (!checkpoint_open(buf_str(&p->note), &k, &c, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(c.size, p->size);
	memcpy(root, c.root, SHA256_LEN);
}

static void root_of(uint64_t n, uint8_t out[static SHA256_LEN])
{
	struct tree_range r = { 0 };

	for (uint64_t i = 0; i < n; i++)
		tree_append(&r, sha, leaf[i]);
	tree_root(&r, sha, out);
}

/* Every so many records, by both checkpoints, with the folder of tiles empty and filled. */
static void every_record_is_proven(void **state)
{
	struct log_proof p;
	uint8_t root[SHA256_LEN];

	(void)state;
	for (uint64_t i = 0; i < RECORDS; i += 7) {
		uint64_t size = i < at_early ? at_early : 0;

		prove(PROOF_INCLUSION, i, 0, size, &p);
		assert_int_equal(p.size, size ? at_early : RECORDS);
		assert_memory_equal(p.leaf, leaf[i], SHA256_LEN);
		signed_root(&p, root);
		assert_true(tree_verify_inclusion(sha, i, p.size, leaf[i], &p.hashes, root));
		proof_clear(&p);
	}
}

static void every_size_is_a_prefix(void **state)
{
	struct log_proof p;
	uint8_t root[SHA256_LEN], old[SHA256_LEN];

	(void)state;
	for (uint64_t m = 1; m <= RECORDS; m += m < 20 ? 1 : 29) {
		prove(PROOF_CONSISTENCY, m, 0, 0, &p);
		signed_root(&p, root);
		root_of(m, old);
		assert_true(tree_verify_consistency(sha, m, p.size, &p.hashes, old, root));
		proof_clear(&p);
	}
}

static void ranges_are_proven(void **state)
{
	struct log_proof p;
	uint8_t root[SHA256_LEN], got[SHA256_LEN];

	(void)state;
	for (uint64_t a = 0; a < RECORDS; a += 83)
		for (uint64_t b = a + 1; b <= RECORDS; b += 101) {
			struct tree_span s = { .from = a };

			prove(PROOF_RANGE, a, b, 0, &p);
			signed_root(&p, root);
			for (uint64_t i = a; i < b; i++)
				tree_span_append(&s, sha, leaf[i]);
			assert_true(tree_span_finish(&s, sha, p.size, &p.hashes, got));
			assert_memory_equal(got, root, SHA256_LEN);
			proof_clear(&p);
		}
}

static void what_is_not_there_is_not_proven(void **state)
{
	static const struct proof_ask asks[] = {
		{ .kind = PROOF_INCLUSION, .a = RECORDS },
		{ .kind = PROOF_INCLUSION, .a = UINT64_MAX },
		{ .kind = PROOF_INCLUSION, .a = 0, .size = RECORDS + 1 },
		{ .kind = PROOF_CONSISTENCY, .a = 0 },
		{ .kind = PROOF_CONSISTENCY, .a = RECORDS + 1 },
		{ .kind = PROOF_RANGE, .a = 5, .b = 5 },
		{ .kind = PROOF_RANGE, .a = 6, .b = 5 },
		{ .kind = PROOF_RANGE, .a = 0, .b = RECORDS + 1 },
		{ .kind = PROOF_INCLUSION, .a = 590, .size = 1 }, /* the early one is too early */
	};
	struct log_proof p;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
		e = (struct err){ 0 };
		if (proof_make(log_of_all.folder, NULL, &asks[i], &p, &e))
			fail_msg("row %zu is proven", i);
		assert_int_equal(e.class, ERR_NOT_FOUND);
		proof_clear(&p);
	}
}

/* A record behind the newest checkpoint has a receipt without one. */
static void a_receipt_comes_before_its_proof(void **state)
{
	struct proof_ask ask = { .kind = PROOF_INCLUSION, .record = true };
	struct fixture f;
	struct log_proof p;
	uint8_t hash[SHA256_LEN];
	struct err e = { 0 };

	(void)state;
	fixture_init(&f);
	f.config.checkpoint_ms = 3600000;
	fixture_open(&f);
	fixture_append(&f, 5);
	ask.a = 3;
	if (!proof_make(f.folder, NULL, &ask, &p, &e))
		fail_msg("%s", e.msg);
	assert_false(p.covered);
	tree_leaf_hash(sha, buf_str(&p.record), hash);
	assert_memory_equal(hash, p.leaf, SHA256_LEN);
	proof_clear(&p);
	fixture_clear(&f);
}

/* --- tiles --- */

static void read_tile(struct tile t, struct buf *out)
{
	struct tiles *tiles;
	struct err e = { 0 };

	buf_reset(out);
	if (!tiles_open(log_of_all.folder, NULL, &tiles, &e) || !tiles_read(tiles, &t, out, &e))
		fail_msg("%s", e.msg);
	tiles_close(tiles);
}

static void tiles_hold_the_tree(void **state)
{
	struct tree_range r = { 0 };
	uint8_t hash[SHA256_LEN];
	size_t at = 0;
	AUTO_BUF out;

	(void)state;
	buf_init(&out, mem_system, TILES_BUNDLE_MAX);
	for (int twice = 0; twice < 2; twice++) { /* computed, then from the folder */
		read_tile((struct tile){ false, 0, 1, 256 }, &out);
		assert_int_equal(out.n, TILE_BYTES);
		assert_memory_equal(out.p, leaf[256], TILE_BYTES);
	}
	read_tile((struct tile){ false, 0, 2, 88 }, &out);
	assert_int_equal(out.n, 88 * SHA256_LEN);
	assert_memory_equal(out.p, leaf[512], out.n);
	read_tile((struct tile){ false, 1, 0, 2 }, &out);
	for (int i = 0; i < 256; i++)
		tree_append(&r, sha, leaf[256 + i]);
	tree_root(&r, sha, hash);
	assert_memory_equal(out.p + SHA256_LEN, hash, SHA256_LEN);
	read_tile((struct tile){ true, 0, 1, 256 }, &out);
	for (int i = 0; i < 256; i++) {
		size_t n = (size_t)(unsigned char)out.p[at] << 8 | (unsigned char)out.p[at + 1];

		tree_leaf_hash(sha, (struct str){ out.p + at + 2, n }, hash);
		assert_memory_equal(hash, leaf[256 + i], SHA256_LEN);
		at += 2 + n;
	}
	assert_int_equal(at, out.n);
}

/* The sheet's 19.5: the eight entries as a bundle, and their hashes as a tile. */
static void the_classic_bundle(void **state)
{
	uint8_t bundle[50], hash[SHA256_LEN], want[SHA256_LEN], tile[8][SHA256_LEN];
	size_t at = 0;

	(void)state;
	unhex("00000001000001100002202100023031000440414243000850515253545556570010606162636465666"
	      "768696a6b6c6d6e6f",
	      bundle, sizeof(bundle));
	sha256_of(sha, (struct str){ (char *)bundle, sizeof(bundle) }, hash);
	unhex("1afdc32f06ff88236207410a37b10ff2b5647186b52a531da0416d539b15a876", want, 32);
	assert_memory_equal(hash, want, 32);
	for (int i = 0; i < 8; i++) {
		size_t n = (size_t)bundle[at] << 8 | bundle[at + 1];

		tree_leaf_hash(sha, (struct str){ (char *)bundle + at + 2, n }, tile[i]);
		at += 2 + n;
	}
	assert_int_equal(at, sizeof(bundle));
	sha256_of(sha, (struct str){ (char *)tile, sizeof(tile) }, hash);
	unhex("aea2f1bbb5140fd5f8eacb503fdf54c00c3d860c72588e40233addd416bc8f10", want, 32);
	assert_memory_equal(hash, want, 32);
}

/* A changed record or a changed tile makes no proof, and it is said. */
static void damage_makes_no_proof(void **state)
{
	struct proof_ask ask = { .kind = PROOF_INCLUSION, .a = 20 };
	struct fixture f;
	struct log_proof p;
	struct err e = { 0 };
	char command[200];

	(void)state;
	fixture_init(&f);
	fixture_open(&f);
	fixture_append(&f, 400);
	fixture_close(&f);
	assert_true(proof_make(f.folder, NULL, &ask, &p, &e)); /* fills the folder of tiles */
	proof_clear(&p);
	fixture_sql(&f, "DROP TRIGGER leaf_update");
	fixture_sql(&f, "UPDATE leaf SET body = CAST(replace(CAST(body AS TEXT), 'permit', "
			"'forbid') AS BLOB) WHERE seq IN (20, 399)");
	assert_false(proof_make(f.folder, NULL, &ask, &p, &e));
	assert_string_equal(e.code, "storage_corrupt");
	proof_clear(&p);
	ask.a = 300; /* not itself changed, but its neighbourhood is computed from what is there */
	assert_false(proof_make(f.folder, NULL, &ask, &p, &e));
	proof_clear(&p);
	snprintf(command, sizeof(command),
		 "f=$(find %s/" TILES_FOLDER " -path '*/0/000'); [ -n \"$f\" ] && "
		 "printf x | dd of=$f bs=1 seek=700 conv=notrunc 2>/dev/null",
		 f.folder);
	assert_int_equal(system(command), 0); /* NOLINT: a test */
	ask.a = 21;
	assert_false(proof_make(f.folder, NULL, &ask, &p, &e));
	assert_string_equal(e.code, "storage_corrupt");
	proof_clear(&p);
	fixture_clear(&f);
}

static int begin(void **state)
{
	struct fixture *f = &log_of_all;
	struct log_proof p;
	struct err e = { 0 };
	AUTO_BUF note;

	(void)state;
	sha = sha256_new(NULL);
	buf_init(&note, mem_system, NOTE_MAX);
	fixture_init(f);
	f->config.checkpoint_ms = 3600000;
	fixture_open(f);
	fixture_append(f, 298);
	assert_true(audit_checkpoint(f->audit, &note, &e));
	at_early = 299; /* with log.open */
	fixture_append(f, RECORDS - 300);
	fixture_close(f); /* log.close is the last record, and is signed */
	assert_int_equal(fixture_count(f, "SELECT size FROM tree"), RECORDS);
	for (uint64_t i = 0; i < RECORDS; i++) {
		struct proof_ask ask = { .kind = PROOF_INCLUSION, .a = i, .record = true };

		if (!proof_make(f->folder, NULL, &ask, &p, &e))
			fail_msg("%s", e.msg);
		tree_leaf_hash(sha, buf_str(&p.record), leaf[i]);
		proof_clear(&p);
	}
	return 0;
}

static int end(void **state)
{
	(void)state;
	fixture_clear(&log_of_all);
	sha256_free(sha);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tile_names),
		cmocka_unit_test(tiles_of_a_size),
		cmocka_unit_test(the_classic_proof_file),
		cmocka_unit_test(malformed_proof_files),
		cmocka_unit_test(every_record_is_proven),
		cmocka_unit_test(every_size_is_a_prefix),
		cmocka_unit_test(ranges_are_proven),
		cmocka_unit_test(what_is_not_there_is_not_proven),
		cmocka_unit_test(a_receipt_comes_before_its_proof),
		cmocka_unit_test(tiles_hold_the_tree),
		cmocka_unit_test(the_classic_bundle),
		cmocka_unit_test(damage_makes_no_proof),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
