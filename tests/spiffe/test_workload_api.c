/* The Workload API on a clock that stands still: renewal, failing signers, foreign bundles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "authz/base/protobuf.h"
#include "authz/net/process.h"
#include "spiffe/crypto.h"
#include "spiffe/workload_api.h"
#include "tests/decide/rig.h"
#include "tests/net/h2client.h"
#include "tests/spiffe/folder.h"
#include "tests/spiffe/forge.h"

#define TD "test.example"
#define AGENT "spiffe://" TD "/agent/a"
#define CALL(method)                                                                             \
	":method", "POST", ":scheme", "http", ":path", method, "te", "trailers", "content-type", \
		"application/grpc", "workload.spiffe.io", "true", NULL
#define MINUTES(n) ((n)*60)

static struct net t;
static struct rig rig;
static struct h2_client c;
static struct signer *signer;
static struct signer_client *signing;
static struct loop_watch signer_watch;
static struct worker worker;
static struct workload_api *api;
static uint64_t sets;
static const char *tainted; /* an authority of the own bundle, or NULL */
static bool cannot_attest;
static X509 *other_authority; /* in place of the signer's, if set */

static void begin(void)
{
	worker_turn_begin(&worker);
	workload_api_turn(api);
}

static void end(void)
{
	worker_turn_end(&worker);
}

static void signer_ready(struct loop_watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	signer_readable(signing);
}

static bool selectors(pid_t pid, uid_t uid, gid_t gid, struct arena *a, struct str **out, size_t *n,
		      struct err *e)
{
	struct str *all = arena_alloc(a, sizeof(*all));

	(void)pid;
	(void)gid;
	if (cannot_attest || !all)
		return err_set(e, ERR_IO, "no /proc");
	*all = arena_printf(a, "unix:uid:%lu", (unsigned long)uid);
	*out = all;
	*n = 1;
	return true;
}

static void handle(struct call *call)
{
	workload_api_handle(api, call);
}

/* Our own bundle, and perhaps those of others: X.509 only, and JWT only. */
static void publish(X509 *foreign, EVP_PKEY *foreign_key)
{
	const struct signer_public *p = signer_public(signer);
	struct bundle_set *set = bundle_set_new(++sets, NULL);
	struct str own = other_authority ? forge_der(other_authority) : p->authority;
	struct bundle *b;
	struct err e = { 0 };

	if (!bundle_set_add(set, STR(TD), sets, 300, &b, &e) || !bundle_add_authority(b, own, &e) ||
	    !bundle_add_jwt_key(b, p->jwt_kid, p->jwt_spki, &e) ||
	    (tainted && !bundle_taint(b, str_c(tainted), &e)))
		fail_msg("%s", e.msg);
	if (other_authority)
		forge_free(own);
	if (foreign) {
		struct str der = forge_der(foreign);

		if (!bundle_set_add(set, STR("x509.example"), 1, 300, &b, &e) ||
		    !bundle_add_authority(b, der, &e))
			fail_msg("%s", e.msg);
		forge_free(der);
	}
	if (foreign_key) {
		struct str spki = forge_spki(foreign_key);

		if (!bundle_set_add(set, STR("jwt.example"), 1, 300, &b, &e) ||
		    !bundle_add_jwt_key(b, STR("k1"), spki, &e))
			fail_msg("%s", e.msg);
		forge_free(spki);
	}
	slot_publish(&rig.core.bundles, &set->shared);
}

static void agent_of(const char *id, enum registry_verb verb, uid_t who)
{
	char uid[32];
	struct registry_selector s = { STR_INIT("unix"), { uid, 0 } };
	struct registry_change change = { .verb = verb,
					  .spec = { .id = str_c(id),
						    .owner = STR_INIT("alice"),
						    .selectors = &s,
						    .nselectors = 1 },
					  .by = STR_INIT("test"),
					  .now_ms = rig.time.ms };
	struct err e = { 0 };

	s.value.n = (size_t)snprintf(uid, sizeof(uid), "uid:%lu", (unsigned long)who);
	if (!registry_apply(rig.registry, &change, &e))
		fail_msg("%s", e.msg);
}

static void agent(const char *id, enum registry_verb verb)
{
	agent_of(id, verb, geteuid());
}

static void agent_federates(const char *id, struct str list)
{
	AUTO_REGISTRY_VIEW *v = (const struct registry_view *)(void *)slot_acquire(
		&rig.core.agents);
	struct registry_change change = { .verb = REGISTRY_UPDATE,
					  .spec = registry_spec_of(registry_find(v, str_c(id))),
					  .by = STR_INIT("test"),
					  .now_ms = rig.time.ms };
	struct err e = { 0 };

	change.spec.federates = list;
	if (!registry_apply(rig.registry, &change, &e))
		fail_msg("%s", e.msg);
}

static int set_up(void **state)
{
	struct signer_config config = { .folder = folder, .trust_domain = STR(TD), .channels = 1 };
	struct workload_api_settings settings = {
		.worker = &worker, .streams = 4096, .user_streams = 1024, .selectors = selectors
	};
	struct err e = { 0 };

	fresh_folder(state);
	if (!signer_start(&config, &signer, &e)) /* before any thread */
		fail_msg("%s", e.msg);
	signing = signer_client_new(signer, &e);
	/* The signer's clock is the machine's. */
	rig_start_with(&rig, &(struct rig_options){ .now_ms = clock_wall_ms(&clock_system) / 1000 *
							      1000 });
	net_open(&t, NULL, NULL);
	t.local.processes = true;
	t.grpc = handle;
	t.time.ms = rig.time.ms;
	sets = 0;
	cannot_attest = false;
	publish(NULL, NULL);
	if (!worker_init(&worker, &rig.core, loop_home(t.loop), signing, &e))
		fail_msg("%s", e.msg);
	signer_watch = (struct loop_watch){ signer_client_fd(signing), signer_ready };
	assert_true(loop_watch(t.loop, &signer_watch, EPOLLIN, &e));
	settings.loop = t.loop;
	api = workload_api_new(&settings, &e);
	assert_non_null(api);
	t.begin = begin;
	t.end = end;
	h2_open(&c, &t, &t.local, NULL);
	return 0;
}

static int tear_down(void **state)
{
	h2_close(&c);
	while (worker.oldest)
		loop_turn(t.loop, 10);
	net_turns(&t, 10);
	loop_unwatch(t.loop, &signer_watch);
	signer_client_free(signing);
	while (worker.oldest)
		loop_turn(t.loop, 10);
	t.begin = t.end = NULL;
	workload_api_free(api);
	net_close(&t);
	worker_clear(&worker);
	rig_stop(&rig);
	signer_stop(signer);
	return drop_folder(state);
}

/* Let time pass on all clocks. */
static void pass(int64_t seconds)
{
	for (int64_t i = 0; i < seconds; i++) {
		rig.time.ms += 1000;
		rig.time.ns += 1000000000;
		t.time.ms += 1000;
		t.time.ns += 1000000000;
		net_turns(&t, 2);
		/* What is under way takes real time; it must not seem to take minutes. */
		while (worker.oldest || signer_pending(signing))
			loop_turn(t.loop, 5);
	}
}

static struct h2_reply *call(const char *const *headers, struct str message)
{
	static char body[8][4096];
	static int next;
	char *b = body[next++ % 8];

	assert_true(message.n < 4000);
	b[0] = b[1] = b[2] = 0;
	b[3] = (char)(message.n >> 8);
	b[4] = (char)message.n;
	if (message.n)
		memcpy(b + 5, message.p, message.n);
	return h2_send(&c, headers, b, 5 + message.n);
}

/* The @n-th message (from 0) of a stream; false: it is not there. */
static bool message(const struct h2_reply *r, int n, struct str *out)
{
	struct str rest = { r->text, r->n };
	const char *at = memmem(rest.p, rest.n, "\n\n", 2);

	if (!at)
		return false;
	rest = str_from(rest, (size_t)(at - rest.p) + 2);
	for (;; n--) {
		const uint8_t *p = (const uint8_t *)rest.p;
		size_t length;

		if (rest.n < 5 || p[0] != 0)
			return false;
		length = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
		if (rest.n < 5 + length)
			return false;
		if (n == 0) {
			*out = (struct str){ rest.p + 5, length };
			return true;
		}
		rest = str_from(rest, 5 + length);
	}
}

/* Wait for it: a record is being synced meanwhile. */
static struct str await(struct h2_reply *r, int n)
{
	struct str out = { NULL, 0 };

	for (int i = 0; i < 300 && !message(r, n, &out); i++)
		h2_pump(&c);
	if (!out.p && !message(r, n, &out))
		fail_msg("no message %d: %.*s", n, (int)r->n, r->text);
	return out;
}

static void await_end(struct h2_reply *r, const char *status)
{
	for (int i = 0; i < 300 && !r->closed; i++)
		h2_pump(&c);
	if (!r->closed || !memmem(r->text, r->n, status, strlen(status)))
		fail_msg("%d, %.*s, expected %s", r->closed, (int)r->n, r->text, status);
}

/* Field @number, the @n-th (from 0), of a message. */
static struct str field(struct str in, uint32_t number, int n)
{
	struct pb_reader r = pb_reader(in);
	struct pb_field f;

	while (pb_next(&r, &f))
		if (f.number == number && n-- == 0)
			return f.bytes;
	return (struct str){ NULL, 0 };
}

static const char *const fetch[] = { CALL("/SpiffeWorkloadAPI/FetchX509SVID") };

static void renews_at_half_life(void **state)
{
	struct h2_reply *r;
	struct str first, second, none;

	(void)state;
	rig.core.x509_ttl = 60; /* the signer's own clock does not go along */
	agent(AGENT, REGISTRY_REGISTER);
	r = call(fetch, STR(""));
	first = field(await(r, 0), 1, 0);
	assert_true(str_eq(field(first, 1, 0), STR(AGENT)));
	pass(26); /* of a minute: not before 45 percent of it */
	h2_pump(&c);
	assert_false(message(r, 1, &none));
	pass(9); /* and not after 55 */
	second = field(await(r, 1), 1, 0);
	assert_false(str_eq(field(first, 2, 0), field(second, 2, 0)));
	assert_false(str_eq(field(first, 3, 0), field(second, 3, 0)));
	assert_true(str_eq(field(first, 4, 0), field(second, 4, 0)));
	/* Nobody shows it, nothing is renewed. */
	nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, h2_id(&c, r), NGHTTP2_CANCEL);
	h2_pump(&c);
	pass(120);
	assert_int_equal(atomic_load(&worker.counters.issued_x509), 2);
}

/* Whoever has an SVID keeps it, as long as it is valid. */
static void outlives_the_signer(void **state)
{
	struct h2_reply *r, *other;
	struct str none;

	(void)state;
	agent(AGENT, REGISTRY_REGISTER);
	r = call(fetch, STR(""));
	(void)await(r, 0);
	kill(signer_pid(signer), SIGKILL);
	pass(MINUTES(50));
	h2_pump(&c);
	assert_false(r->closed || message(r, 1, &none));
	other = call(fetch, STR("")); /* it is shown what is there */
	(void)await(other, 0);
	pass(MINUTES(11));
	await_end(r, "grpc-status: 14");
	await_end(other, "grpc-status: 14");
	other = call(fetch, STR(""));
	await_end(other, "grpc-status: 14");
}

static void shows_foreign_bundles(void **state)
{
	static const char *const x509[] = { CALL("/SpiffeWorkloadAPI/FetchX509Bundles") };
	static const char *const jwt[] = { CALL("/SpiffeWorkloadAPI/FetchJWTBundles") };
	EVP_PKEY *ca_key = forge_key("P-256"), *jwt_key = forge_key("P-256");
	X509 *ca = forge_authority("x509.example", ca_key);
	struct str der = forge_der(ca), m, none;
	struct h2_reply *s, *x, *j;

	(void)state;
	agent(AGENT, REGISTRY_REGISTER);
	s = call(fetch, STR(""));
	x = call(x509, STR(""));
	j = call(jwt, STR(""));
	assert_null(field(await(s, 0), 3, 0).p);
	assert_null(field(await(x, 0), 2, 1).p);
	assert_null(field(await(j, 0), 1, 1).p);
	publish(ca, jwt_key);
	m = await(s, 1); /* X.509 authorities only: a domain without any is left out */
	assert_true(str_eq(field(field(m, 3, 0), 1, 0), STR("spiffe://x509.example")));
	assert_true(str_eq(field(field(m, 3, 0), 2, 0), der));
	assert_null(field(m, 3, 1).p);
	m = await(x, 1);
	assert_true(str_eq(field(field(m, 2, 0), 1, 0), STR("spiffe://" TD)));
	assert_true(str_eq(field(field(m, 2, 1), 1, 0), STR("spiffe://x509.example")));
	m = await(j, 1);
	assert_true(str_eq(field(field(m, 1, 1), 1, 0), STR("spiffe://x509.example")));
	assert_true(str_eq(field(field(m, 1, 1), 2, 0), STR("{\"keys\":[]}")));
	assert_non_null(memmem(field(field(m, 1, 2), 2, 0).p, field(field(m, 1, 2), 2, 0).n,
			       "\"kid\":\"k1\"", 10));
	publish(ca, jwt_key); /* the same again: nothing is said */
	h2_pump(&c);
	assert_false(message(s, 2, &none) || message(x, 2, &none) || message(j, 2, &none));
	publish(NULL, NULL); /* withdrawn */
	assert_null(field(await(s, 2), 3, 0).p);
	assert_null(field(await(x, 2), 2, 1).p);
	assert_null(field(await(j, 2), 1, 1).p);
	assert_int_equal(atomic_load(&worker.counters.issued_x509), 1);
	forge_free(der);
	X509_free(ca);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(jwt_key);
}

/* A certificate that no authority vouches for any more is made anew at once. */
static void replaces_what_no_bundle_vouches_for(void **state)
{
	EVP_PKEY *key = forge_key("P-256");
	struct str first, second;
	struct h2_reply *r;

	(void)state;
	agent(AGENT, REGISTRY_REGISTER);
	r = call(fetch, STR(""));
	first = field(await(r, 0), 1, 0);
	other_authority = forge_authority(TD, key);
	publish(NULL, NULL);
	second = field(await(r, 1), 1, 0);
	assert_false(str_eq(field(first, 2, 0), field(second, 2, 0)));
	assert_false(str_eq(field(first, 4, 0), field(second, 4, 0)));
	X509_free(other_authority);
	other_authority = NULL;
	EVP_PKEY_free(key);
}

/* What a tainted authority signed is made anew at once, and nothing else. */
static void renews_what_a_tainted_authority_signed(void **state)
{
	const struct signer_public *p = signer_public(signer);
	char id[X509_ID_LEN + 1];
	AUTO_X509 *own = NULL;
	struct h2_reply *r;
	struct str first, second, none;

	(void)state;
	assert_true(crypto_certificate(p->authority, &own, NULL));
	assert_true(x509_authority_id(own, id, NULL));
	agent(AGENT, REGISTRY_REGISTER);
	r = call(fetch, STR(""));
	first = field(await(r, 0), 1, 0);
	tainted = "0123456789abcdef0123456789abcdef01234567";
	publish(NULL, NULL);
	pass(10);
	assert_int_equal(atomic_load(&worker.counters.issued_x509), 1);
	assert_false(message(r, 1, &none));
	/* The signer still signs with it: the next one is no better, and tried again later. */
	tainted = id;
	publish(NULL, NULL);
	second = field(await(r, 1), 1, 0);
	assert_false(str_eq(field(first, 2, 0), field(second, 2, 0)));
	pass(2);
	assert_int_equal(atomic_load(&worker.counters.issued_x509), 2);
	pass(5);
	(void)await(r, 2);
	assert_int_equal(atomic_load(&worker.counters.issued_x509), 3);
	/* And if nothing can be signed, what holds stays. */
	kill(signer_pid(signer), SIGKILL);
	pass(10);
	tainted = NULL;
	publish(NULL, NULL);
	pass(10);
	assert_false(r->closed || message(r, 3, &none));
}

/* A registration is looked at by those whom it concerns, and many at once by all. */
static void follows_what_concerns_it(void **state)
{
	struct h2_reply *r;
	char id[64];

	(void)state;
	agent(AGENT, REGISTRY_REGISTER);
	r = call(fetch, STR(""));
	(void)await(r, 0);
	agent("spiffe://" TD "/agent/b", REGISTRY_REGISTER);
	assert_true(field(await(r, 1), 1, 1).p);
	agent("spiffe://" TD "/agent/b", REGISTRY_SUSPEND);
	assert_null(field(await(r, 2), 1, 1).p);
	for (uid_t i = 0; i < 40;
	     i++) { /* before the loop's next turn, and one of them is its own */
		snprintf(id, sizeof(id), "spiffe://" TD "/many/%02u", i);
		agent_of(id, REGISTRY_REGISTER, i == 20 ? geteuid() : geteuid() + 1 + i);
	}
	assert_true(str_eq(field(field(await(r, 3), 1, 1), 1, 0), STR("spiffe://" TD "/many/20")));
	agent("spiffe://" TD "/many/20", REGISTRY_RETIRE);
	agent(AGENT, REGISTRY_RETIRE);
	await_end(r, "grpc-status: 7");
}

/* What a foreign token says beyond sub, aud and exp means nothing here. */
static void validates_foreign_tokens(void **state)
{
	static const char *const validate[] = { CALL("/SpiffeWorkloadAPI/ValidateJWTSVID") };
	EVP_PKEY *key = forge_key("P-256");
	AUTO_BUF token, request;
	char payload[200];
	struct h2_reply *r;
	struct str m;

	(void)state;
	buf_init(&token, mem_system, 4096);
	buf_init(&request, mem_system, 4096);
	publish(NULL, key);
	snprintf(payload, sizeof(payload),
		 "{\"sub\":\"spiffe://jwt.example/a\",\"aud\":\"us\",\"exp\":%" PRId64
		 ",\"admin\":true}",
		 rig.time.ms / 1000 + 100);
	forge_jws(&token, "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"JWT\"}", payload, "ES256",
		  key);
	pb_put_text(&request, 1, STR("us"));
	pb_put_text(&request, 2, buf_str(&token));
	r = call(validate, buf_str(&request)); /* by somebody without an identity */
	await_end(r, "grpc-status: 3");
	agent(AGENT, REGISTRY_REGISTER);
	r = call(validate, buf_str(&request));
	m = await(r, 0);
	assert_true(str_eq(field(m, 1, 0), STR("spiffe://jwt.example/a")));
	assert_true(str_eq(field(field(field(m, 2, 0), 1, 0), 1, 0), STR("aud")));
	assert_true(str_eq(field(field(field(m, 2, 0), 1, 2), 1, 0), STR("sub")));
	assert_null(field(field(m, 2, 0), 1, 3).p);
	agent_federates(AGENT, STR("x509.example\n")); /* its bundle is none of ours any more */
	await_end(call(validate, buf_str(&request)), "grpc-status: 3");
	agent_federates(AGENT, STR("jwt.example\n"));
	(void)await(call(validate, buf_str(&request)), 0);
	pass(200);
	h2_close(&c); /* which the server has closed: it was idle */
	h2_open(&c, &t, &t.local, NULL);
	r = call(validate, buf_str(&request));
	await_end(r, "grpc-status: 3"); /* it has expired */
	EVP_PKEY_free(key);
}

static void says_when_it_cannot_tell(void **state)
{
	static const char *const jwt[] = { CALL("/SpiffeWorkloadAPI/FetchJWTSVID") };
	struct h2_reply *r;

	(void)state;
	agent(AGENT, REGISTRY_REGISTER);
	cannot_attest = true;
	await_end(call(fetch, STR("")), "grpc-status: 14");
	cannot_attest = false;
	slot_publish(&rig.core.bundles, NULL); /* not loaded yet */
	await_end(call(fetch, STR("")), "grpc-status: 14");
	publish(NULL, NULL);
	r = call(jwt, STR("\n\2us"));
	(void)await(r, 0);
	await_end(r, "grpc-status: 0");
	kill(signer_pid(signer), SIGKILL);
	await_end(call(jwt, STR("\n\2us")), "grpc-status: 14");
}

/* Two callers of one entry at once cost one signature; a user that asks without end is slowed. */
static void is_bounded(void **state)
{
	static const char *const validate[] = { CALL("/SpiffeWorkloadAPI/ValidateJWTSVID") };
	struct h2_reply *r[100];
	int refused = 0;

	(void)state;
	agent(AGENT, REGISTRY_REGISTER);
	for (int i = 0; i < 100; i++)
		r[i] = call(fetch, STR(""));
	for (int i = 0; i < 100; i++)
		(void)await(r[i], 0);
	assert_int_equal(atomic_load(&worker.counters.issued_x509), 1);
	for (int i = 0; i < 100; i++)
		nghttp2_submit_rst_stream(c.session, NGHTTP2_FLAG_NONE, h2_id(&c, r[i]), 8);
	h2_pump(&c);
	h2_close(&c);
	h2_open(&c, &t, &t.local, NULL);
	for (int round = 0; round < 4; round++) { /* 400 in one moment are all */
		for (int i = 0; i < 80; i++)
			r[i] = call(validate, STR("\n\1a\22\1b"));
		h2_pump(&c);
		for (int i = 0; i < 80; i++) {
			assert_true(r[i]->closed);
			refused += memmem(r[i]->text, r[i]->n, "grpc-status: 14", 15) != NULL;
		}
	}
	assert_int_equal(refused, 100 + 4 * 80 - 400);
}

static void knows_processes_by_their_start(void **state)
{
	uint64_t own = 0, again = 0, child_start = 0;
	pid_t child;

	(void)state;
	assert_true(process_started(getpid(), &own) && own > 0);
	assert_true(process_started(getpid(), &again) && again == own);
	assert_false(process_started(0, &again));
	assert_false(process_started(-1, &again));
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	assert_true(process_started(child, &child_start) && child_start >= own);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_false(process_started(child, &again));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(renews_at_half_life, set_up, tear_down),
		cmocka_unit_test_setup_teardown(outlives_the_signer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(shows_foreign_bundles, set_up, tear_down),
		cmocka_unit_test_setup_teardown(replaces_what_no_bundle_vouches_for, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(renews_what_a_tainted_authority_signed, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(follows_what_concerns_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(validates_foreign_tokens, set_up, tear_down),
		cmocka_unit_test_setup_teardown(says_when_it_cannot_tell, set_up, tear_down),
		cmocka_unit_test_setup_teardown(is_bounded, set_up, tear_down),
		cmocka_unit_test(knows_processes_by_their_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
