/* writ.lua: what is taken, and what each mistake is answered with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/config.h"
#include "include/writ/words.h"
#include "tests/fault/tmp_dir.h"

static struct config *parse(const char *text)
{
	struct config *c = NULL;
	struct err e = { 0 };

	if (!config_parse(str_c(text), "writ.lua", "/etc/writ", &c, &e))
		fail_msg("%s", e.msg);
	return c;
}

static const struct config_listener *listener(const struct config *c, enum config_door door)
{
	for (size_t i = 0; i < c->nlisteners; i++)
		if (c->listeners[i].door == door)
			return &c->listeners[i];
	return NULL;
}

static void an_empty_file_is_all_defaults(void **state)
{
	AUTO_CONFIG *c = parse("");

	(void)state;
	assert_string_equal(c->trust_domain, "example.org");
	assert_string_equal(c->data, "/etc/writ/writ-data");
	assert_string_equal(c->store, "sqlite:/etc/writ/writ-data/writ.db");
	assert_string_equal(c->policies.dir, "/etc/writ/policies");
	assert_true(c->policies.watch && !c->policies.files_only);
	assert_int_equal(c->nlisteners, DOOR_COUNT - 1);
	assert_string_equal(listener(c, DOOR_HTTP)->address, "127.0.0.1:8080");
	assert_true(listener(c, DOOR_HTTP)->loopback && !listener(c, DOOR_HTTP)->tls);
	assert_int_equal(listener(c, DOOR_HTTP)->caller_roles, 0);
	assert_true(listener(c, DOOR_HTTPS)->tls);
	assert_string_equal(listener(c, DOOR_WORKLOAD)->address,
			    "/etc/writ/writ-data/workload.sock");
	assert_string_equal(listener(c, DOOR_ADMIN)->address, "/etc/writ/writ-data/admin.sock");
	assert_true(listener(c, DOOR_ADMIN)->unix_socket);
	assert_int_equal(c->ncallers, 0);
	assert_int_equal(c->limits.body, LIMIT_BODY);
	assert_int_equal(c->limits.in_flight, LIMIT_IN_FLIGHT);
	assert_int_equal(c->limits.string, LIMIT_STRING);
	assert_int_equal(c->limits.depth, LIMIT_DEPTH);
	assert_int_equal(c->limits.members, LIMIT_MEMBERS);
	assert_int_equal(c->limits.values, LIMIT_VALUES);
	assert_int_equal(c->limits.headers, LIMIT_HEADERS);
	assert_int_equal(c->limits.url, LIMIT_URL);
	assert_int_equal(c->limits.token, LIMIT_TOKEN);
	assert_int_equal(c->limits.queue, LIMIT_QUEUE);
	assert_int_equal(c->limits.decision_ms, LIMIT_DECISION_MS);
	assert_int_equal(c->limits.request_ms, LIMIT_REQUEST_MS);
	assert_int_equal(c->ttl.x509_s, 3600);
	assert_int_equal(c->ttl.leeway_s, 30);
	assert_int_equal(c->log_level, LOG_INFO);
	assert_true(c->node[0] != '\0');
	assert_null(c->public_url);
	assert_null(c->fetch.ca_file);
	assert_false(c->fetch.private_ok);
}

static void reads_the_example_of_the_design(void **state)
{
	AUTO_CONFIG *c = parse(
		"trust_domain = \"acme.example\"\n"
		"listen = { http = { \"127.0.0.1:8080\", \"/run/writ.sock\", caller = \"pep\",\n"
		"                    server = \"files\", protocol = \"mcp\" }, https = false,\n"
		"  workload = \"d/workload.sock\", operators = \"10.0.0.1:8081\",\n"
		"  admin = \"d/admin.sock\" }\n"
		"store = \"sqlite:d/writ.db\"\n"
		"callers = { { spiffe_id = \"spiffe://acme.example/mesh/*\", role = \"pep\",\n"
		"              server = \"files\", answers = \"bare\" },\n"
		"            { unix_user = \"root\", role = { \"admin\", \"auditor\" } },\n"
		"            { unix_uid = 1000, role = \"metrics\" } }\n"
		"local kib = 1024\n"
		"limits = { body = 64 * kib, in_flight = '1MiB', decision = \"250ms\", }\n"
		"tls = { names = { \"writ.acme.example\", '10.0.0.1' } }\n"
		"registry = { require = { 'owner', 'expires' } }\n"
		"attest = { oidc = { { issuer = 'https://a.b/c', audience = 'writ',\n"
		"  jwks = 'file:keys.json', claims = { 'repository', 'ref' } } },\n"
		"  k8s = { { cluster = 'prod', issuer = 'https://k', audience = 'writ',\n"
		"    jwks = 'file:/k8s.json' },\n"
		"  { cluster = 'east', issuer = 'https://e/', audience = 'writ',\n"
		"    jwks = 'discover', ca_file = 'east.crt' },\n"
		"  { cluster = 'west', issuer = 'https://w', audience = 'writ',\n"
		"    jwks = 'https://w:6443/openid/v1/jwks' } }, refresh = '1m', keep = '2h' }\n"
		"delegation = { issuer = 'https://a.b/writ', users = { { issuer = 'https://login',\n"
		"  audience = 'writ', jwks = 'discover', scopes = { 'crm.read', 'mail' } } } }\n"
		"authority = { pkcs11 = { module = '/usr/lib/m.so', pin = 'credential:pin',\n"
		"  jwt = 'pkcs11:token=a%20b', leave = true } }\n"
		"ttl = { x509 = \"30m\", jwt = 60 } log_level = 'warn'\n");
	const struct config_listener *http = listener(c, DOOR_HTTP);

	(void)state;
	assert_string_equal(c->trust_domain, "acme.example");
	assert_string_equal(c->delegation.issuer, "https://a.b/writ");
	assert_int_equal(c->delegation.users.n, 1);
	assert_string_equal(c->delegation.users.items[0].scopes, "crm.read mail");
	assert_string_equal(c->data, "/etc/writ/d");
	assert_int_equal(c->nlisteners, 5);
	assert_int_equal(http->caller_roles, ROLE_PEP);
	assert_string_equal(http[1].address, "/run/writ.sock");
	assert_true(http[1].unix_socket && http[1].loopback);
	assert_int_equal(http[1].caller_roles, ROLE_PEP);
	assert_string_equal(http->server, "files");
	assert_string_equal(http->protocol, "mcp");
	assert_null(listener(c, DOOR_HTTPS));
	assert_true(listener(c, DOOR_OPERATORS)->tls && !listener(c, DOOR_OPERATORS)->loopback);
	assert_int_equal(c->ncallers, 3);
	assert_string_equal(c->callers[0].spiffe_id, "spiffe://acme.example/mesh/*");
	assert_true(c->callers[0].bare && c->callers[0].roles == ROLE_PEP);
	assert_int_equal(c->callers[1].uid, 0);
	assert_int_equal(c->callers[1].roles, ROLE_ADMIN | ROLE_AUDITOR);
	assert_int_equal(c->callers[2].uid, 1000);
	assert_int_equal(c->limits.body, 65536);
	assert_int_equal(c->limits.in_flight, 1 << 20);
	assert_int_equal(c->limits.decision_ms, 250);
	assert_int_equal(c->tls.san.nnames, 2);
	assert_string_equal(c->tls.san.names[1], "10.0.0.1");
	assert_int_equal(c->ttl.x509_s, 1800);
	assert_int_equal(c->ttl.jwt_s, 60);
	assert_int_equal(c->registry.require.nnames, 2);
	assert_int_equal(c->attest.oidc.n, 1);
	assert_string_equal(c->attest.oidc.items[0].jwks, "file:/etc/writ/keys.json");
	assert_string_equal(c->attest.oidc.items[0].claims.names[1], "ref");
	assert_false(c->attest.oidc.items[0].reuse);
	assert_true(c->attest.k8s.items[0].reuse);
	assert_null(c->attest.k8s.items[0].ca_file);
	assert_string_equal(c->attest.k8s.items[1].jwks, "discover");
	assert_string_equal(c->attest.k8s.items[1].ca_file, "/etc/writ/east.crt");
	assert_string_equal(c->attest.k8s.items[2].jwks, "https://w:6443/openid/v1/jwks");
	assert_string_equal(c->authority.pkcs11.module, "/usr/lib/m.so");
	assert_string_equal(c->authority.pkcs11.pin_credential, "pin");
	assert_null(c->authority.pkcs11.pin_file);
	assert_null(c->authority.pkcs11.uris[0]);
	assert_string_equal(c->authority.pkcs11.uris[1], "pkcs11:token=a%20b");
	assert_true(c->authority.pkcs11.leave && !c->authority.pkcs11.network);
	assert_int_equal(c->attest.refresh_s, 60);
	assert_int_equal(c->attest.keep_s, 7200);
	assert_int_equal(c->log_level, LOG_WARN);
}

static const struct {
	const char *text, *says;
} bad[] = {
	/* names */
	{ "trustdomain = 'a.b'",
	  "writ.lua:1: trustdomain: no such setting; did you mean \"trust_domain\"?" },
	{ "\n\nlimits = {\n  boddy = 1 }",
	  "writ.lua:4: limits.boddy: no such setting; did you mean \"limits.body\"?" },
	{ "body = 1", "did you mean \"limits.body\"?" },
	{ "listn = {}", "did you mean \"listen\"?" },
	{ "xyzzy = 1", "writ.lua:1: xyzzy: no such setting (writ serve --help" },
	{ "limits = { 5 }", "writ.lua:1: limits: expected settings by name" },
	{ "limits = 5", "limits: expected a table of settings, got a number" },
	{ "data = 'a'\ndata = 'b'", "writ.lua:2: data: is set twice" },
	{ "limits = { body = 2048,\n body = 4096 }", "writ.lua:2: limits.body: is set twice" },
	{ "limits = { [\"body\"] = 2048,\n\n body = 4096 }",
	  "writ.lua:3: limits.body: is set twice" },
	/* types */
	{ "trust_domain = 5", "trust_domain: expected a string, got a number" },
	{ "-- c\n--[[ x\n y ]] log_level = 'loud'",
	  "writ.lua:3: log_level: \"loud\" is not known" },
	{ "log_level = 'warm'", "\"warm\" is not known; did you mean" },
	{ "policies = { watch = 'yes' }", "policies.watch: expected true or false, got a string" },
	{ "limits = { queue = 99 }", "limits.queue: is smaller than limits.batch" },
	{ "limits = { depth = '64' }", "limits.depth: expected a whole number, got a string" },
	{ "limits = { depth = 64.5 }", "expected a whole number, got 64.5" },
	{ "limits = { depth = 0/0 }", "expected a whole number" },
	{ "limits = { body = '1 MiB' }", "expected bytes, as 65536 or \"64KiB\", got \"1 MiB\"" },
	{ "limits = { decision = 2 }", "expected a time, as \"500ms\" or \"2s\"" },
	/* what is not built is unknown, not ignored */
	{ "limits = { connections_per_address = 5 }", "no such setting" },
	{ "limits = { token = '9KiB' }", "limits.token: is out of range" },
	{ "ttl = { jwt = 'soon' }", "ttl.jwt: expected a time, as \"90s\"" },
	{ "data = 'a\\0b'", "one line of UTF-8" },
	{ "data = 'a\\xff'", "one line of UTF-8" },
	{ "tls = { names = 'a' }", "tls.names: expected a list of strings, got a string" },
	{ "tls = { names = { 'a',\n 5 } }", "writ.lua:2: tls.names[2]: expected a string" },
	{ "tls = { names = { x = 'a' } }", "plain list" },
	{ "registry = { require = { 'owner', 'purpos' } }",
	  "registry.require[2]: \"purpos\" is not known; did you mean \"purpose\"?" },
	{ "registry = { max_entries = 0 }", "registry.max_entries: is out of range" },
	{ "registry = { orphan = '1m' }", "registry.orphan: is out of range" },
	/* attestors */
	{ "attest = { oidc = 'x' }", "attest.oidc: expected a list of tables, got a string" },
	{ "attest = { oidc = { issuer = 'https://a' } }",
	  "attest.oidc.issuer: expected a plain list of tables" },
	{ "attest = { oidc = { 'x' } }", "attest.oidc[1]: expected a table" },
	{ "attest = { oidc = { [1.5] = {} } }", "attest.oidc: expected a plain list of tables" },
	{ "callers = { [2] = { unix_uid = 1, role = 'admin' } }",
	  "callers: expected a plain list of tables" },
	{ "attest = { oidc = { {\n issuer = 'http://a.b' } } }",
	  "writ.lua:2: attest.oidc[1].issuer: expected the https URL" },
	{ "attest = { oidc = { { issuer = 'https://u@a.b' } } }", "expected the https URL" },
	{ "attest = { oidc = { { isuer = 'https://a.b' } } }", "did you mean \"issuer\"?" },
	{ "attest = { oidc = { { cluster = 'x' } } }", "attest.oidc[1].cluster: no such member" },
	{ "attest = { oidc = { { issuer = 'https://a.b' } } }", "attest.oidc[1]: audience" },
	{ "attest = { oidc = { { issuer = 'https://a.b', audience = 'x' } } }", "jwks" },
	{ "attest = { oidc = { { jwks = 'http://a.b/keys' } } }", "expected \"file:PATH\"" },
	{ "attest = { oidc = { { jwks = 'https://u@a.b/keys' } } }", "https://u@a.b/keys\": " },
	{ "attest = { oidc = { { jwks = 'https:///keys' } } }", "https:///keys\": " },
	{ "attest = { oidc = { { issuer = 'https://a.b', audience = 'x', jwks = 'file:k',\n"
	  "  ca_file = 'c' } } }",
	  "attest.oidc[1]: ca_file is of no use" },
	{ "attest = { oidc = { { issuer = 'https://a.b?x', audience = 'x',\n"
	  "  jwks = 'discover' } } }",
	  "an issuer with a query" },
	{ "attest = { refresh = '10s' }", "attest.refresh" },
	{ "authority = { pkcs11 = { module = '/m', pin = 'file:p' } }",
	  "authority.pkcs11.x509: is missing" },
	{ "authority = { pkcs11 = { jwt = 'pkcs11:token=t', pin = 'file:p' } }",
	  "authority.pkcs11.module: is missing" },
	{ "authority = { pkcs11 = { jwt = 'pkcs11:token=t', module = '/m' } }",
	  "authority.pkcs11.pin: is missing" },
	{ "authority = { pkcs11 = { x509 = 'token=t', module = '/m', pin = 'file:p' } }",
	  "authority.pkcs11.x509: expected \"pkcs11:" },
	{ "authority = { pkcs11 = { x509 = 'pkcs11:token=t', module = '/m', pin = '1234' } }",
	  "authority.pkcs11.pin: expected \"file:PATH\"" },
	{ "authority = { pkcs11 = { leave = true } }", "says nothing without a module" },
	{ "attest = { oidc = { { claims = { 'a:b' } } } }", "a claim has letters" },
	{ "attest = { oidc = { { claims = { 'sub' } } } }", "is not for this list" },
	{ "attest = { k8s = { { issuer = 'https://a.b', audience = 'x', jwks = 'file:k' } } }",
	  "attest.k8s[1]: cluster: its name" },
	{ "attest = { k8s = { { cluster = 'A' } } }", "expected small letters" },
	{ "local a = { issuer = 'https://a.b', audience = 'x', jwks = 'file:k' }\n"
	  "attest = { oidc = { a, a } }",
	  "attest.oidc: issuer https://a.b is there twice" },
	{ "delegation = { users = { { issuer = 'https://a.b', audience = 'x', jwks = 'file:k',\n"
	  "  claims = { 'x' } } } }",
	  "delegation.users[1]" },
	{ "delegation = { users = { { reuse = true } } }", "delegation.users[1]" },
	{ "delegation = { users = { { scopes = { 'a b' } } } }", "scopes are names" },
	{ "delegation = { users = { { scopes = { 'a', 'a' } } } }", "scopes are names" },
	{ "attest = { oidc = { { scopes = { 'a' } } } }", "attest.oidc[1]" },
	{ "attest = { x509pop = 'ca.pem' }", "attest.x509pop: expected a list of strings" },
	/* ranges */
	{ "limits = { body = 5 }",
	  "writ.lua:1: limits.body: is out of range; expected 1KiB to 4MiB" },
	{ "limits = { body = '9999999999GiB' }", "limits.body:" },
	{ "ttl = { x509 = '1s' }", "ttl.x509: is out of range; expected 1m to 30d" },
	{ "limits = { policy_time = '2s' }", "expected 1ms to 1s" },
	{ "limits = { body = '4MiB', in_flight = '1MiB' }",
	  "limits.in_flight: is smaller than limits.body" },
	{ "limits = { request = '1s' }", "shorter than limits.decision" },
	/* data only */
	{ "data = os.getenv('HOME')",
	  "writ.lua:1: os: there is no such name; the configuration is data only" },
	{ "\nprint('x')", "writ.lua:2: print: there is no such name" },
	{ "data = example", "example: there is no such name" },
	{ "function f() end", "writ.lua:1: f: is a function; the configuration is data only" },
	{ "limits = { body = function() end }", "got a function; the configuration is data only" },
	{ "data = ('x'):rep(99)", "writ.lua:1: attempt to index a string" },
	{ "while true do end", "runs too long" },
	{ "local s = 'x' while true do s = s .. s end", "too much memory" },
	{ "local s = 'x' while true do s = 3 .. s end", "writ.lua" },
	{ "local t = {} for i = 1, 1e9 do t[i] = i end", "writ.lua:1: runs" },
	{ "trust_domain = ", "writ.lua:1: unexpected symbol" },
	{ "return", "" }, /* fine in itself */
	{ "\x1bLua", "binary chunk" },
	{ "_ENV = {}", "" },
	/* identity and storage */
	{ "trust_domain = 'Acme'", "writ.lua:1: trust_domain:" },
	{ "trust_domain = 'a..b'", "trust_domain:" },
	{ "store = 'mysql:x'", "store: expected \"sqlite:FOLDER/writ.db\", got \"mysql:x\"" },
	{ "store = 'postgresql://x'", "not part of this version" },
	{ "store = 'sqlite:a/b.db'", "must be called writ.db" },
	{ "store = 'sqlite:/writ.db'", "folder of its own" },
	{ "data = 'a'\nstore = 'sqlite:b/writ.db'",
	  "writ.lua:2: store: is in /etc/writ/b, but data says a" },
	{ "public_url = 'http://pdp.example'", "writ.lua:1: public_url: expected \"https://HOST" },
	{ "public_url = 'https://pdp.example/?a=b'", "without user, query and fragment" },
	{ "public_url = 'https://pdp.example#x'", "without user, query and fragment" },
	{ "public_url = 'https://me@pdp.example'", "without user, query and fragment" },
	{ "public_url = 'https:///path'", "public_url: expected" },
	{ "listen = { web = '0.0.0.0:443' }",
	  "listen.web: listen.web and tls.web belong together" },
	{ "tls = { web = { certificate = 'a', key = 'b' } }", "belong together" },
	{ "tls = { web = { key = 'b' } }", "certificate and key belong together" },
	{ "listen = { web = '/run/x' } tls = { web = { certificate = 'a', key = 'b' } }",
	  "Unix socket" },
	{ "jwt = { issuer = 'http://a.example' }", "jwt.issuer: expected \"https://HOST" },
	{ "delegation = { issuer = 'http://a.example' }",
	  "delegation.issuer: expected \"https://HOST" },
	{ "jwt = { issuer = 'https://a.example' } delegation = { issuer = 'https://a.example' }",
	  "delegation.issuer: is also jwt.issuer" },
	{ "jwt = { issuer = 'https://a.example/' }", "without a slash at the end" },
	{ "jwt = { issuer = 'https://a.example?x' }", "jwt.issuer: expected" },
	{ "jwt = { issuer = 'https://u@a.example' }", "jwt.issuer: expected" },
	{ "federation = { keep = '10s' }", "federation.keep" },
	{ "public_url = 'https://a b'", "public_url: expected" },
	{ "node = 'A b'", "node: \"A b\": expected small letters" },
	/* listeners */
	{ "listen = {\n http = '0.0.0.0:8080' }",
	  "writ.lua:2: listen.http: 0.0.0.0:8080 can be reached from outside" },
	{ "listen = { http = '[::]:8080' }", "not encrypted" },
	{ "listen = { http = '8080' }", "expected \"HOST:PORT\"" },
	{ "listen = { http = 'localhost:8080' }", "must be an IP address" },
	{ "listen = { http = '127.0.0.1:65536' }", "expected \"HOST:PORT\"" },
	{ "listen = { http = '127.1:80' }", "must be an IP address" },
	{ "listen = { http = true }",
	  "expected an address, a table of addresses, or false, got a boolean" },
	{ "listen = { http = {} }", "expected 1 to 8 addresses" },
	{ "listen = { http = { '127.0.0.1:1', caler = 'pep' } }",
	  "listen.http.caler: no such option; did you mean \"caller\"?" },
	{ "listen = { http = { '127.0.0.1:1',\n caller = 'peep' } }",
	  "writ.lua:2: listen.http.caller: \"peep\" is no role; did you mean \"pep\"?" },
	{ "listen = { http = { '127.0.0.1:1', caller = 'agent' } }", "name it" },
	{ "listen = { http = { '127.0.0.1:1', caller = 'spiffe://X/y' } }", "listen.http.caller:" },
	{ "listen = { http = { '127.0.0.1:1', protocol = 'mpc' } }", "no protocol writ reads" },
	{ "listen = { http = { '127.0.0.1:1', server = 'A/b' } }", "listen.http.server: \"A/b\"" },
	{ "listen = { https = { '0.0.0.0:1', caller = 'pep' } }", "callers prove who they are" },
	{ "listen = { operators = { '0.0.0.0:1', caller = 'admin' } }",
	  "lets in whoever connects" },
	{ "listen = { https = 'run/x.sock' }", "needs no TLS" },
	{ "listen = { admin = '127.0.0.1:9' }", "must be the path of a Unix socket" },
	{ "listen = { operators = '127.0.0.1:8080' }", "used by another listener already" },
	{ "listen = { admin = '/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/"
	  "0123456789/0123456789/0123456789/0123456789/s' }",
	  "the system takes 107" },
	/* callers */
	{ "callers = { { role = 'pep' } }", "callers[1]: expected exactly one of spiffe_id" },
	{ "callers = { { unix_uid = 1, unix_user = 'root', role = 'pep' } }", "exactly one" },
	{ "callers = { { unix_uid = 1 } }", "callers[1]: has no role" },
	{ "callers = {\n { unix_uid = 1, role = 'pep' },\n { unix_uid = 1,\n role = 'audit' } }",
	  "writ.lua:4: callers[2].role: \"audit\" is no role" },
	{ "callers = { { unix_uid = -1, role = 'pep' } }", "the number of a user" },
	{ "callers = { { unix_user = 'no-such-user-here', role = 'pep' } }",
	  "this machine has no user" },
	{ "callers = { { spiffe_id = 'spiffe://a/*/x*', role = 'pep' } }",
	  "callers[1].spiffe_id:" },
	{ "callers = { { spifeid = 'spiffe://a/b', role = 'pep' } }",
	  "did you mean \"spiffe_id\"?" },
	{ "callers = { { unix_uid = 1, role = 'pep', answers = 'terse' } }",
	  "expected \"bare\" or \"full\"" },
	{ "callers = { a = 1 }", "callers.a: expected a plain list" },
	{ "callers = { 'root' }", "callers[1]: expected a table" },
};

static void answers_each_mistake(void **state)
{
	int wrong = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct config *c = NULL;
		struct err e = { 0 };
		bool ok = config_parse(str_c(bad[i].text), "writ.lua", "/etc/writ", &c, &e);

		if (ok != !*bad[i].says || (!ok && !strstr(e.msg, bad[i].says)) ||
		    (!ok && strcmp(e.code, "invalid_config") != 0)) {
			print_error("%s\n  gave: %s\n  want: %s\n", bad[i].text,
				    ok ? "taken" : e.msg, bad[i].says);
			wrong++;
		}
		config_free(c);
	}
	assert_int_equal(wrong, 0);
}

static char changes[512];

static void note_change(void *ctx, const char *name, bool restart)
{
	size_t n = strlen(changes);

	(void)ctx;
	snprintf(changes + n, sizeof(changes) - n, "%s%s ", name, restart ? "!" : "");
}

static void tells_what_changed(void **state)
{
	AUTO_CONFIG *a = parse(
		"callers = { { unix_uid = 1, role = 'pep' } } limits = { body = 2048 }");
	AUTO_CONFIG *b = parse(
		"callers = { { unix_uid = 1, role = 'pep' } } limits = { body = 2048 }");
	AUTO_CONFIG *c = parse(
		"callers = { { unix_uid = 2, role = 'pep' } } limits = { body = 4096 }\n"
		"log_level = 'debug' listen = { http = false } ttl = { jwt = '1m' }\n"
		"tls = { names = { 'x' } } data = 'other'");

	(void)state;
	changes[0] = '\0';
	config_diff(a, b, note_change, NULL);
	assert_string_equal(changes, "");
	config_diff(a, c, note_change, NULL);
	assert_string_equal(changes,
			    "data! store! log_level listen.http! listen.workload! listen.admin! "
			    "callers tls.names! ttl.jwt! limits.body! ");
}

static void help_names_every_setting(void **state)
{
	AUTO_BUF out = { 0 };

	(void)state;
	buf_init(&out, mem_system, 100000);
	config_help(&out);
	buf_char(&out, '\0');
	assert_true(buf_ok(&out));
	assert_non_null(strstr(out.p, "limits.body"));
	assert_non_null(
		strstr(out.p, "bytes 1KiB to 4MiB; default 1MiB; a change needs a restart"));
	assert_non_null(strstr(out.p, "one of debug info warn error; default info; SIGHUP"));
}

static void spill(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void finds_its_file(void **state)
{
	const char *path = tmp_dir_path(state, "my.lua"), *link = tmp_dir_path(state, "link.lua");
	const char *sub = tmp_dir_path(state, "sub");
	struct config *c = NULL;
	struct err e = { 0 };
	char want[4200];

	assert_string_equal(config_choose("a", "b"), "a");
	assert_string_equal(config_choose(NULL, "b"), "b");
	assert_int_equal(chdir(*state), 0);
	assert_null(config_choose(NULL, ""));
	spill("writ.lua", "");
	assert_string_equal(config_choose(NULL, NULL), "writ.lua");
	spill(path, "data = 'd'");
	assert_int_equal(mkdir(sub, 0700) | symlink("../my.lua", tmp_dir_path(state, "sub/l.lua")),
			 0);
	(void)link;
	if (!config_load(tmp_dir_path(state, "sub/l.lua"), &c, &e))
		fail_msg("%s", e.msg);
	snprintf(want, sizeof(want), "%s/sub/d", (const char *)*state);
	assert_string_equal(c->data, want); /* counts from where the file was named */
	config_free(c);
	c = NULL;
	assert_true(config_load(NULL, &c, &e));
	snprintf(want, sizeof(want), "%s/writ-data", (const char *)*state);
	assert_string_equal(c->data, want);
	config_free(c);
	assert_false(config_load("none.lua", &c, &e));
	assert_int_equal(e.class, ERR_NOT_FOUND);
	assert_non_null(strstr(e.msg, "none.lua"));
	assert_false(config_load("/dev/zero", &c, &e));
	assert_non_null(strstr(e.msg, "regular file"));
	assert_int_equal(chdir("/"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_file_is_all_defaults),
		cmocka_unit_test(reads_the_example_of_the_design),
		cmocka_unit_test(answers_each_mistake),
		cmocka_unit_test(tells_what_changed),
		cmocka_unit_test(help_names_every_setting),
		cmocka_unit_test_setup_teardown(finds_its_file, tmp_dir_make, tmp_dir_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
