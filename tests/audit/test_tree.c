/* The tree against the sheet's 19.1 to 19.3, and hostile proofs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <openssl/evp.h>
#include <stdio.h>

#include "authz/audit/tree.h"
#include "authz/base/text.h"
#include "tests/audit/fixture.h"

#define LEAVES_MAX 70000

static struct sha256 *sha;
static uint8_t (*leaves)[SHA256_LEN]; /* of the tree under test */
static uint64_t leaf_count;

/* A source that knows the leaves only: slow, and independent of the compact range. */
static bool slow_node(void *ctx, unsigned level, uint64_t index,
		      uint8_t out[static SHA256_LEN]) // NOLINT
{
	uint8_t l[SHA256_LEN], r[SHA256_LEN];

	if (((index + 1) << level) > leaf_count)
		return false;
	if (level == 0) {
		memcpy(out, leaves[index], SHA256_LEN);
		return true;
	}
	if (!slow_node(ctx, level - 1, 2 * index, l) ||
	    !slow_node(ctx, level - 1, 2 * index + 1, r))
		return false;
	tree_node_hash(sha, l, r, out);
	return true;
}

static const struct tree_source source = { slow_node, NULL };

static void add_leaf(const void *p, size_t n)
{
	tree_leaf_hash(sha, (struct str){ p, n }, leaves[leaf_count++]);
}

static void root_of(uint64_t n, uint8_t out[static SHA256_LEN])
{
	struct tree_range r = { 0 };

	for (uint64_t i = 0; i < n; i++)
		tree_append(&r, sha, leaves[i]);
	tree_root(&r, sha, out);
}

static void expect(const uint8_t *got, const char *want, const char *what)
{
	char hex[65] = { 0 };

	text_hex(got, SHA256_LEN, hex);
	if (strcmp(hex, want) != 0)
		fail_msg("%s: %s, expected %s", what, hex, want);
}

static const struct {
	const char *entry, *leaf, *root; /* root: of this and those before */
} classic[] = {
	{ "", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
	  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d" },
	{ "00", "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
	  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125" },
	{ "10", "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
	  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77" },
	{ "2021", "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
	  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7" },
	{ "3031", "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
	  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4" },
	{ "40414243", "4271a26be0d8a84f0bd54c8c302e7cb3a3b5d1fa6780a40bcce2873477dab658",
	  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef" },
	{ "5051525354555657", "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
	  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c" },
	{ "606162636465666768696a6b6c6d6e6f",
	  "46f6ffadd3d06a09ff3c5860d2755c8b9819db7df44251788c7d8e3180de8eb1",
	  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328" },
};

#define N23 "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
#define N45 "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
#define N67 "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
#define N46 "837dbb152e9b079010717e84e865da4ebc0fa198a806d59d31bf15accef22d0e"
#define N47 "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
#define LEAF(i) classic[i].leaf
#define ROOT(n) classic[(n)-1].root

static void load_classic(void)
{
	uint8_t bytes[16];

	leaf_count = 0;
	for (size_t i = 0; i < ARRAY_LEN(classic); i++) {
		size_t n = strlen(classic[i].entry) / 2;

		unhex(classic[i].entry, bytes, n);
		add_leaf(bytes, n);
		expect(leaves[i], LEAF(i), "leaf");
	}
}

static void hash_primitives(void **state)
{
	uint8_t h[SHA256_LEN];
	struct tree_range none = { 0 };

	(void)state;
	tree_root(&none, sha, h);
	expect(h, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "empty");
	tree_leaf_hash(sha, STR("L123456"), h);
	expect(h, "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56", "L123456");
	/* The node prefix, on four-byte children, as the sheet gives it. */
	sha256_of(sha, STR("\x01N123N456"), h);
	expect(h, "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb", "N123 N456");
}

static void the_classic_tree(void **state)
{
	static const struct {
		uint64_t lo, hi;
		const char *hash;
	} inner[] = { { 2, 4, N23 }, { 4, 6, N45 }, { 6, 8, N67 }, { 4, 7, N46 }, { 4, 8, N47 } };
	uint8_t h[SHA256_LEN];

	(void)state;
	load_classic();
	for (uint64_t n = 1; n <= 8; n++) {
		root_of(n, h);
		expect(h, ROOT(n), "root");
		assert_true(tree_subtree(&source, sha, 0, n, h));
		expect(h, ROOT(n), "root by recursion");
	}
	for (size_t i = 0; i < ARRAY_LEN(inner); i++) {
		assert_true(tree_subtree(&source, sha, inner[i].lo, inner[i].hi, h));
		expect(h, inner[i].hash, "inner node");
	}
}

static void expect_proof(const struct tree_proof *p, const char *const *want, const char *what)
{
	size_t n = 0;

	for (; want[n]; n++) {
		assert_true(n < p->n);
		expect(p->hash[n], want[n], what);
	}
	assert_int_equal(p->n, n);
}

static void the_classic_proofs(void **state)
{
	const struct {
		uint64_t m, n;
		const char *path[5];
	} inclusion[] = {
		{ 0, 1, { NULL } },	 { 0, 8, { LEAF(1), N23, N47 } },
		{ 5, 8, { LEAF(4), N67, ROOT(4) } }, { 2, 3, { ROOT(2) } },
		{ 1, 5, { LEAF(0), N23, LEAF(4) } }, { 6, 7, { N45, ROOT(4) } },
		{ 4, 5, { ROOT(4) } },
	}, consistency[] = {
		{ 1, 8, { LEAF(1), N23, N47 } },
		{ 6, 8, { N45, N67, ROOT(4) } },
		{ 2, 5, { N23, LEAF(4) } },
		{ 4, 8, { N47 } },
		{ 3, 7, { LEAF(2), LEAF(3), ROOT(2), N46 } },
		{ 7, 8, { LEAF(6), LEAF(7), N45, ROOT(4) } },
		{ 8, 8, { NULL } },
	};
	const char *const hints[] = { ROOT(2), LEAF(5), N67, NULL };
	struct tree_proof p;

	(void)state;
	load_classic();
	for (size_t i = 0; i < ARRAY_LEN(inclusion); i++) {
		assert_true(tree_prove_inclusion(&source, sha, inclusion[i].m, inclusion[i].n, &p));
		expect_proof(&p, inclusion[i].path, "inclusion");
	}
	for (size_t i = 0; i < ARRAY_LEN(consistency); i++) {
		assert_true(tree_prove_consistency(&source, sha, consistency[i].m, consistency[i].n,
						   &p));
		expect_proof(&p, consistency[i].path, "consistency");
	}
	assert_true(tree_prove_range(&source, 2, 5, 8, &p));
	expect_proof(&p, hints, "range");
}

/* A running SHA-256 over many hashes. */
static EVP_MD_CTX *all_begin(void)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	assert_int_equal(EVP_DigestInit_ex(c, EVP_sha256(), NULL), 1);
	return c;
}

static void all_end(EVP_MD_CTX *c, const char *want, const char *what)
{
	uint8_t h[SHA256_LEN];

	EVP_DigestFinal_ex(c, h, NULL);
	EVP_MD_CTX_free(c);
	expect(h, want, what);
}

static void whole_algorithms(void **state)
{
	EVP_MD_CTX *roots = all_begin(), *inclusion = all_begin(), *consistency = all_begin();
	uint8_t root[65][SHA256_LEN];
	size_t hashes[2] = { 0, 0 };
	struct tree_proof p;

	(void)state;
	leaf_count = 0;
	for (int i = 0; i < 64; i++)
		add_leaf(&(uint8_t){ (uint8_t)i }, 1);
	for (uint64_t n = 0; n <= 64; n++) {
		root_of(n, root[n]);
		EVP_DigestUpdate(roots, root[n], SHA256_LEN);
	}
	for (uint64_t n = 1; n <= 64; n++) {
		for (uint64_t m = 0; m < n; m++) {
			assert_true(tree_prove_inclusion(&source, sha, m, n, &p));
			assert_true(tree_verify_inclusion(sha, m, n, leaves[m], &p, root[n]));
			EVP_DigestUpdate(inclusion, p.hash, p.n * SHA256_LEN);
			hashes[0] += p.n;
		}
		for (uint64_t m = 1; m <= n; m++) {
			assert_true(tree_prove_consistency(&source, sha, m, n, &p));
			assert_true(tree_verify_consistency(sha, m, n, &p, root[m], root[n]));
			EVP_DigestUpdate(consistency, p.hash, p.n * SHA256_LEN);
			hashes[1] += p.n;
		}
	}
	assert_int_equal(hashes[0], 11376);
	assert_int_equal(hashes[1], 11055);
	expect(root[64], "4433a69f32158463382405ec957c31b8bc89a1f08964b920f6cf53dc13098cb3", "64");
	all_end(roots, "01bcda9a59015b35cb20d01dc934c6208ff7dd5dc3abc1154caccfac266c17d6", "roots");
	all_end(inclusion, "5601b22ed7d83190e79b81a3512e0977a7225be0e32a0fa968c9e4d20cd6b473",
		"inclusion");
	all_end(consistency, "ca04516c086549670889a022a6b2609f0f5b74814ce936780c0951bd5ed5c2b7",
		"consistency");
}

static void bigger_trees(void **state)
{
	static const struct {
		uint64_t n;
		const char *root;
	} cases[] = {
		{ 255, "bb3b9743e08118ea583ae77df04a1449a0601cde6f75146d79c2cab6366ce210" },
		{ 256, "15e2dd4973ae44de8c8cf3048fd98d17adaaea6287f4e0606a55a643617408c0" },
		{ 257, "d418c0873259bce7d0561ab004486112416c1c4490865415342bfe06e673146c" },
		{ 1000, "c89faf3395d034a77c12c76d636db96358d6d2839c3c68f6329a07231e82fce2" },
		{ 65536, "bc9bca909516d5bf148c2bf2dea0a0d9f717ce4987d2fe7504d6694363b41598" },
		{ 70000, "0759167a0f98e35e802d46ff7c7d29d2c3f03a63a256deb6abbff357a91b63b1" },
	};
	struct tree_range r = { 0 }, copy;
	uint8_t h[SHA256_LEN], saved[TREE_LEVELS * SHA256_LEN];
	size_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		while (r.n < cases[i].n) {
			uint8_t be[8];

			for (int b = 0; b < 8; b++)
				be[b] = (uint8_t)(r.n >> (56 - 8 * b));
			tree_leaf_hash(sha, (struct str){ (char *)be, 8 }, h);
			tree_append(&r, sha, h);
		}
		tree_root(&r, sha, h);
		expect(h, cases[i].root, "u64 entries");
	}
	n = tree_range_save(&r, saved);
	assert_int_equal(n, 6 * SHA256_LEN);
	assert_true(tree_range_load(&copy, r.n, (struct str){ (char *)saved, n }));
	tree_root(&copy, sha, h);
	expect(h, cases[5].root, "loaded");
	assert_false(tree_range_load(&copy, r.n, (struct str){ (char *)saved, n - 1 }));
	assert_false(tree_range_load(&copy, r.n + 1, (struct str){ (char *)saved, n }));
	assert_false(tree_range_load(&copy, UINT64_MAX, (struct str){ (char *)saved, n }));
}

static void covers(void **state)
{
	static const struct {
		uint64_t lo, hi;
		size_t n;
		struct tree_coord want[8];
	} cases[] = {
		{ 0, 21, 3, { { 4, 0 }, { 2, 4 }, { 0, 20 } } },
		{ 6, 21, 4, { { 1, 3 }, { 3, 1 }, { 2, 4 }, { 0, 20 } } },
		{ 5, 5, 0, { { 0, 0 } } },
		{ 0, 1, 1, { { 0, 0 } } },
	};
	struct tree_coord got[TREE_HASHES_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(tree_cover(cases[i].lo, cases[i].hi, got), cases[i].n);
		for (size_t k = 0; k < cases[i].n; k++) {
			assert_int_equal(got[k].level, cases[i].want[k].level);
			assert_int_equal(got[k].index, cases[i].want[k].index);
		}
	}
	/* The longest there is stays within the bound. */
	assert_true(tree_cover(1, TREE_SIZE_MAX, got) <= TREE_HASHES_MAX);
}

/* Every range of every tree up to 33 leaves verifies, and no other number of hints does. */
static void ranges(void **state)
{
	uint8_t root[SHA256_LEN], got[SHA256_LEN], part[SHA256_LEN];
	struct tree_proof p;

	(void)state;
	leaf_count = 0;
	for (int i = 0; i < 33; i++)
		add_leaf(&(uint8_t){ (uint8_t)i }, 1);
	for (uint64_t n = 1; n <= 33; n++) {
		root_of(n, root);
		for (uint64_t a = 0; a <= n; a++)
			for (uint64_t b = a; b <= n; b++) {
				struct tree_span s = { .from = a };

				assert_true(tree_prove_range(&source, a, b, n, &p));
				for (uint64_t i = a; i < b; i++)
					tree_span_append(&s, sha, leaves[i]);
				assert_true(tree_span_finish(&s, sha, n, &p, got));
				assert_memory_equal(got, root, SHA256_LEN);
				assert_true(tree_span_root(&s, sha, &p, got));
				root_of(b, part);
				assert_memory_equal(got, part, SHA256_LEN);
				p.n++;
				assert_false(tree_span_finish(&s, sha, n, &p, got));
				if (p.n >= 2) {
					p.n -= 2;
					assert_false(tree_span_finish(&s, sha, n, &p, got));
				}
			}
	}
	assert_false(tree_prove_range(&source, 3, 2, 8, &p));
	assert_false(tree_prove_range(&source, 0, 9, 8, &p));
}

static void hostile_proofs_are_refused(void **state)
{
	uint8_t r6[SHA256_LEN], r8[SHA256_LEN], other[SHA256_LEN] = { 0 };
	struct tree_proof in, con, p;

	(void)state;
	load_classic();
	root_of(6, r6);
	root_of(8, r8);
	assert_true(tree_prove_inclusion(&source, sha, 5, 8, &in));
	assert_true(tree_prove_consistency(&source, sha, 6, 8, &con));
	for (size_t i = 0; i < in.n; i++)
		for (int bit = 0; bit < 256; bit += 37) {
			p = in;
			p.hash[i][bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_false(tree_verify_inclusion(sha, 5, 8, leaves[5], &p, r8));
			p = con;
			p.hash[i][bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_false(tree_verify_consistency(sha, 6, 8, &p, r6, r8));
		}
	for (uint64_t i = 0; i < 10; i++)
		assert_true(tree_verify_inclusion(sha, i, 8, leaves[5], &in, r8) == (i == 5));
	for (uint64_t n = 0; n <= 5; n++)
		assert_false(tree_verify_inclusion(sha, 5, n, leaves[5], &in, r8));
	for (size_t n = 0; n <= TREE_HASHES_MAX; n++) {
		p = in;
		p.n = n;
		assert_true(tree_verify_inclusion(sha, 5, 8, leaves[5], &p, r8) == (n == in.n));
		p = con;
		p.n = n;
		assert_true(tree_verify_consistency(sha, 6, 8, &p, r6, r8) == (n == con.n));
	}
	assert_false(tree_verify_inclusion(sha, 5, 8, leaves[4], &in, r8));
	/* Each root alone right: history replaced, or the future. */
	assert_false(tree_verify_consistency(sha, 6, 8, &con, other, r8));
	assert_false(tree_verify_consistency(sha, 6, 8, &con, r6, other));
	p.n = 0;
	assert_false(tree_verify_consistency(sha, 0, 8, &p, r6, r8));
	assert_false(tree_verify_consistency(sha, 8, 6, &p, r8, r6));
	assert_false(tree_verify_consistency(sha, 8, 8, &p, r6, r8));
	assert_true(tree_verify_consistency(sha, 8, 8, &p, r8, r8));
	assert_false(tree_verify_inclusion(sha, 0, UINT64_MAX, leaves[0], &in, r8));
	assert_false(tree_verify_consistency(sha, 1, UINT64_MAX, &con, r6, r8));
	assert_false(tree_prove_inclusion(&source, sha, 8, 8, &p));
	assert_false(tree_prove_inclusion(&source, sha, 0, 9, &p)); /* the source has eight */
	assert_false(tree_prove_consistency(&source, sha, 0, 8, &p));
	assert_false(tree_prove_consistency(&source, sha, 9, 8, &p));
}

static int begin(void **state)
{
	(void)state;
	sha = sha256_new(NULL);
	leaves = calloc(LEAVES_MAX, sizeof(*leaves));
	return sha && leaves ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	sha256_free(sha);
	free(leaves);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_primitives),
		cmocka_unit_test(the_classic_tree),
		cmocka_unit_test(the_classic_proofs),
		cmocka_unit_test(whole_algorithms),
		cmocka_unit_test(bigger_trees),
		cmocka_unit_test(covers),
		cmocka_unit_test(ranges),
		cmocka_unit_test(hostile_proofs_are_refused),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
