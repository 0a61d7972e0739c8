/* The Workload API's and SDS's messages: bytes as protoc makes them, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "authz/base/protobuf.h"
#include "authz/base/text.h"
#include "spiffe/workload_api_sds_wire.h"
#include "spiffe/workload_api_wire.h"

static struct arena arena;
static struct buf out;

static int set_up(void **state)
{
	(void)state;
	arena_init(&arena, &mem_system, 1 << 20);
	buf_in_arena(&out, &arena, 1 << 16);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	arena_clear(&arena);
	return 0;
}

static void hex_is(const char *wanted)
{
	struct buf hex;

	buf_in_arena(&hex, &arena, 1 << 16);
	assert_true(buf_ok(&out));
	buf_hex(&hex, out.p, out.n);
	if (!str_eq(buf_str(&hex), str_c(wanted)))
		fail_msg("%.*s\nexpected %s", STR_FMT(buf_str(&hex)), wanted);
	buf_reset(&out);
}

static struct str unhex(const char *hex)
{
	size_t n = strlen(hex) / 2;
	uint8_t *p = arena_alloc(&arena, n + 1);

	assert_true(text_unhex(str_c(hex), p, n));
	return (struct str){ (const char *)p, n };
}

/* SPIFFE sheet 18: made with protoc 3.21. */
static void writes_the_vectors(void **state)
{
	const struct workload_x509_svid svid = { .spiffe_id = STR("spiffe://example.org/a"),
						 .x509_svid = STR("\x30\x01"),
						 .key = STR("\x30\x02"),
						 .bundle = STR("\x30\x03"),
						 .hint = STR("int") };
	const struct json *claims;
	struct err e = { 0 };

	(void)state;
	workload_put_x509_svid(&out, &svid);
	workload_put_bundle(&out, WORKLOAD_X509_SVID_FEDERATED, STR("fed.test"), STR("\x30\x04"));
	hex_is("0a290a167370696666653a2f2f6578616d706c652e6f72672f61120230011a023002220230032a0369"
	       "6e741a170a117370696666653a2f2f6665642e7465737412023004");
	workload_put_bundle(&out, WORKLOAD_X509_BUNDLES, STR("example.org"), STR("\x30\x03"));
	hex_is("121a0a147370696666653a2f2f6578616d706c652e6f726712023003");
	workload_put_jwt_svid(&out, STR("spiffe://example.org/a"), STR("h.p.s"), STR("int"));
	hex_is("0a240a167370696666653a2f2f6578616d706c652e6f72672f611205682e702e731a03696e74");
	workload_put_bundle(&out, WORKLOAD_JWT_BUNDLES, STR("example.org"), STR("{\"keys\":[]}"));
	hex_is("0a230a147370696666653a2f2f6578616d706c652e6f7267120b7b226b657973223a5b5d7d");
	assert_true(json_parse(STR("{\"aud\":[\"svc1\"],\"exp\":1700000000,\"ok\":true}"),
			       &json_default_limits, &arena, &claims, &e));
	workload_put_validated(&out, STR("spiffe://example.org/a"), claims, false);
	hex_is("0a167370696666653a2f2f6578616d706c652e6f72672f61122f0a110a03617564120a32080a061a04"
	       "737663310a100a0365787012091100000040fc54d9410a080a026f6b12022001");
}

static void writes_the_vectors_of_sds(void **state)
{
	struct pb_reader in, any;
	struct pb_field f, v;
	struct str secret = { NULL, 0 };

	(void)state;
	sds_put_certificate(&out, STR("default"), STR("C"), STR("K"));
	in = pb_reader(buf_str(&out));
	assert_true(pb_next(&in, &f) && f.number == 2);
	any = pb_reader(f.bytes);
	while (pb_next(&any, &v))
		if (v.number == 2)
			secret = v.bytes;
	assert_true(str_eq(secret, unhex("0a0764656661756c74120a0a03120143120312014b")));
	buf_reset(&out);
	sds_put_roots(&out, STR("ROOTCA"), STR("P"));
	assert_true(str_ends(buf_str(&out), unhex("0a06524f4f54434122050a03120150")));
	buf_reset(&out);
	/* All but control_plane (6), which the vector has not. */
	sds_put_rest(&out, STR("1"), STR("ab"));
	hex_is("0a0131"
	       "2244747970652e676f6f676c65617069732e636f6d2f656e766f792e657874656e73696f6e732e7472"
	       "616e73706f72745f736f636b6574732e746c732e76332e536563726574"
	       "2a026162"
	       "32060a0477726974");
}

/* Of a foreign token only sub, aud and exp; a single audience is a list all the same; every kind of
 * value has its place. */
static void writes_claims(void **state)
{
	static const char text[] = "{\"aud\":\"a\",\"exp\":1,\"x\":{\"n\":null,\"r\":1.5,\"f\":"
				   "false,\"l\":[],\"s\":\"\"},\"sub\":\"s\"}";
	const struct json *claims;
	struct err e = { 0 };

	(void)state;
	assert_true(json_parse(str_c(text), &json_default_limits, &arena, &claims, &e));
	workload_put_validated(&out, STR("i"), claims, true);
	hex_is("0a0169122e0a0e0a03617564120732050a031a01610a100a03657870120911000000000000f03f0a0a0a0373756212031a0173");
	workload_put_validated(&out, STR("i"), claims, false);
	hex_is("0a0169126b0a0e0a03617564120732050a031a01610a100a03657870120911000000000000f03f0a0a0a0373756212031a01730a3b0a017812362a340a070a0166120220000a070a016c120232000a070a016e120208000a0e0a0172120911000000000000f83f0a070a017312021a00");
}

static const struct {
	const char *why, *hex;
	size_t audiences; /* 0: refused, and then `says` is in the message */
	const char *id, *says;
} fetches[] = {
	{ "of the sheet",
	  "0a04737663310a047376633212167370696666653a2f2f6578616d706c652e6f72672f61", 2,
	  "spiffe://example.org/a", NULL },
	{ "one", "0a0161", 1, "", NULL },
	{ "the same twice", "0a01610a0161", 1, "", NULL },
	{ "an empty one beside", "0a000a0161", 1, "", NULL },
	{ "an ID that is a number", "0a01611001", 0, NULL, "wire type" },
	{ "unknown field 7", "0a01613a0178", 1, "", NULL },
	{ "the last ID counts",
	  "0a0161120178121673706966"
	  "66653a2f2f6578616d706c652e6f72672f61",
	  1, "spiffe://example.org/a", NULL },
	{ "none", "", 0, NULL, "audience must be specified" },
	{ "empty ones", "0a000a00", 0, NULL, "audience must be specified" },
	{ "an ID that is none", "0a0161120178", 0, NULL, "SPIFFE ID" },
	{ "not UTF-8", "0a01ff", 0, NULL, "UTF-8" },
	{ "an audience that is a number", "0801", 0, NULL, "wire type" },
	{ "cut", "0a0261", 0, NULL, "longer than the message" },
};

static void reads_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fetches); i++) {
		struct workload_jwt_request q;
		struct err e = { 0 };
		bool ok = workload_read_jwt(unhex(fetches[i].hex), &q, &e);

		if (ok != (fetches[i].audiences > 0) || (!ok && e.class != ERR_INVALID))
			fail_msg("%s: %s", fetches[i].why, ok ? "accepted" : e.msg);
		if (!ok && fetches[i].says && !strstr(e.msg, fetches[i].says))
			fail_msg("%s: %s", fetches[i].why, e.msg);
		if (ok && (q.naudience != fetches[i].audiences ||
			   !str_eq(q.spiffe_id, str_c(fetches[i].id))))
			fail_msg("%s: %zu, %.*s", fetches[i].why, q.naudience,
				 STR_FMT(q.spiffe_id));
	}
}

static void reads_validations(void **state)
{
	struct workload_validate_request q = { { NULL, 0 }, { NULL, 0 } };
	struct err e = { 0 };

	(void)state;
	assert_true(workload_read_validate(unhex("0a04737663311205682e702e73"), &q, &e));
	assert_true(str_eq(q.audience, STR("svc1")) && str_eq(q.svid, STR("h.p.s")));
	assert_false(workload_read_validate(unhex("1205682e702e73"), &q, &e));
	assert_non_null(strstr(e.msg, "audience"));
	assert_false(workload_read_validate(unhex("0a0473766331"), &q, &e));
	assert_non_null(strstr(e.msg, "svid"));
	assert_true(workload_read_empty(STR(""), &e));
	assert_true(workload_read_empty(unhex("7a0161"), &e));
	assert_false(workload_read_empty(unhex("7a02"), &e));
}

static void reads_discovery(void **state)
{
	struct sds_request q;
	struct err e = { 0 };
	struct str many;

	(void)state;
	/* names b, a, b; version 7; nonce n; error{13,"no"} */
	assert_true(sds_read(unhex("1a01621a01611a01620a01372a016e3206080d12026e6f"), &q, &e));
	assert_int_equal(q.nnames, 2);
	assert_true(str_eq(q.names[0], STR("a")) && str_eq(q.names[1], STR("b")));
	assert_true(str_eq(q.version, STR("7")) && str_eq(q.nonce, STR("n")) &&
		    str_eq(q.error, STR("no")));
	assert_false(q.has_node || q.validator);
	/* node { build_version { version { 1, 18 } } }, then 1.17, then 2.0 */
	assert_true(sds_read(unhex("120842060a0408011012"), &q, &e) && q.validator);
	assert_true(sds_read(unhex("120842060a0408011011"), &q, &e) && !q.validator && q.has_node);
	assert_true(sds_read(unhex("120642040a020802"), &q, &e) && q.validator);
	assert_false(sds_read(unhex("1a00"), &q, &e));
	assert_false(sds_read(unhex("1a010a"), &q, &e));
	assert_false(sds_read(unhex("220178"), &q, &e));
	assert_non_null(strstr(e.msg, "type_url"));
	assert_false(sds_read(unhex("12024201"), &q, &e)); /* deep inside */
	buf_reset(&out);
	for (int i = 0; i <= SDS_NAMES_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", i);
		pb_put_text(&out, 3, str_c(name));
	}
	many = buf_str(&out);
	assert_false(sds_read(many, &q, &e));
	assert_non_null(strstr(e.msg, "64"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_the_vectors, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writes_the_vectors_of_sds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writes_claims, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_requests, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_validations, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_discovery, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
