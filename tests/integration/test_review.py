#!/usr/bin/env -S python3 -B
"""What a hostile outsider, an auditor and a reviewer asked of the whole: each test was a finding first."""
import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from harness import (AGENT, TRUST_DOMAIN, Deployment, call, check, equal, exchange, is_error, join_token, leaves,
                     main, openssl, raw, raw_status, test)

PEP = f"spiffe://{TRUST_DOMAIN}/mesh/gateway"
CALLERS = ('callers = { { unix_user = "root", role = "admin" },\n'
           f'  {{ spiffe_id = "spiffe://{TRUST_DOMAIN}/mesh/*", role = "pep" }} }}\n')
ATTEST = "limits = { attest_rate = 1000, attest_burst = 1000 }\n"
open_door = None


def server():
    """One deployment for what changes nothing: a fixed caller, the default settings."""
    global open_door
    if open_door is None:
        open_door = Deployment().start()
        open_door.register()
    return open_door


def enrol(d, spiffe_id):
    """(certificate file, key file, the certificate as text)"""
    name = spiffe_id.rsplit("/", 1)[1]
    key = d.path(name + ".key")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    token = join_token(d.admin("POST", "/v1/agents/token", {"spiffe_id": spiffe_id}))
    reply = d.http("POST", "/v1/attest", {"join_token": token,
                                          "public_key": openssl("pkey", "-pubout", "-in", key).decode()})
    equal(reply.status, 200, f"attestation of {spiffe_id}: {reply}")
    return d.write(name + ".crt", reply.json["x509_svid"]), key



def seconds_to(text):
    return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.mktime(time.gmtime())


def between(value, low, high, what):
    check(low <= value <= high, f"{what} is {value:.0f}, expected {low} to {high}")


# --- settings are felt ------------------------------------------------------------------------

@test
def lifetimes_of_the_configuration_are_those_issued():
    d = Deployment(caller=None, config=ATTEST + 'ttl = { x509 = "10m", jwt = "1m", join_token = "40s", '
                   'authority = "2d", leeway = "1s" }\n').start()
    d.register()
    token = d.admin("POST", "/v1/agents/token", {"spiffe_id": AGENT})
    between(seconds_to(token.json["expires_at"]), 30, 41, "life of a join token")
    cert = enrol(d, AGENT)
    shown = d.admin("GET", f"/v1/agents?id={AGENT}").json["agents"][0]
    equal((shown["ttl"], shown["jwt_ttl"]), (600, 60), "what `agent show` says")
    openssl("x509", "-noout", "-checkend", "560", "-in", cert[0])
    check(subprocess.run(["openssl", "x509", "-noout", "-checkend", "660", "-in", cert[0]], check=False,
                         capture_output=True).returncode == 1, "the certificate lives longer than 10 minutes")
    jwt = d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, cert=cert).json["svid"]
    payload = jwt.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    equal(claims["exp"] - claims["iat"], 60, "life of a JWT-SVID")
    authority = d.path("writ-data", "bundle.pem")
    check(subprocess.run(["openssl", "x509", "-noout", "-checkend", str(3 * 86400), "-in", authority], check=False,
                         capture_output=True).returncode == 1, "the authority lives longer than 2 days")
    d.close()


@test
def a_long_life_in_a_registration_is_refused_there_and_not_later():
    d = Deployment(caller=None, config=ATTEST).start()
    for ttls in ({"ttl": "7d"}, {"ttl": "1h", "jwt_ttl": "1d"}):
        error = is_error(d.admin("POST", "/v1/agents", {"spiffe_id": AGENT, "owner": "o", **ttls}), 400, str(ttls))
        check("lifetime" in error["message"], repr(error))
    d.register(ttl="1d", jwt_ttl="1h")
    cert = enrol(d, AGENT)
    check(subprocess.run(["openssl", "x509", "-noout", "-checkend", str(86400 + 60), "-in", cert[0]], check=False,
                         capture_output=True).returncode == 1, "the certificate lives longer than the signer allows")
    reply = d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, cert=cert)
    equal(reply.status, 200, f"a JWT-SVID: {reply}")
    between(seconds_to(reply.json["expires_at"]), 3500, 3601, "life of a JWT-SVID")
    d.close()


@test
def settings_that_nothing_uses_are_unknown():
    for text in ("limits = { connections_per_address = 5 }", "limits = { token = '9KiB' }"):
        d = Deployment(config=text + "\n")
        d.spawn()
        equal(d.process.wait(20), 1, f"exit code with {text}")
        d.collect()
        check("limits." in d.stderr(), f"{text}: {d.stderr()[-300:]}")
        d.close()


@test
def a_token_over_its_limit_is_refused():
    d = Deployment(caller=None, config="limits = { token = 600 }\n").start()
    error = is_error(d.evaluate(headers={"Authorization": "Bearer " + "a" * 601}), 401, "a long token")
    check("601" in error["message"], repr(error))
    d.close()


# --- who asks -----------------------------------------------------------------------------------

@test
def a_suspended_agent_keeps_nothing_that_callers_gave_it():
    d = Deployment(caller=None, config=CALLERS + ATTEST).start()
    d.register()
    d.register(PEP)
    cert = enrol(d, PEP)
    ask = lambda: d.https("POST", "/access/v1/evaluation", call(), cert=cert)
    equal(ask().json["decision"], True, "a PEP about an agent")
    equal(d.admin("POST", "/v1/agents/suspend", {"spiffe_id": PEP}).status, 200, "suspend")
    answer = ask()
    equal((answer.status, answer.json["decision"], answer.json["context"]["reason"]),
          (200, False, "subject_mismatch"), "a suspended PEP about an agent")
    about_itself = d.https("POST", "/access/v1/evaluation", call(agent=PEP), cert=cert)
    equal(about_itself.json["context"]["reason"], "agent_suspended", "a suspended PEP about itself")
    for path, body in (("/v1/svid/x509", {"csr": "x"}), ("/v1/svid/jwt", {"audience": ["x"]})):
        check(d.https("POST", path, body, cert=cert).status in (400, 403), f"{path} for a suspended agent")
    equal(d.admin("POST", "/v1/agents/resume", {"spiffe_id": PEP}).status, 200, "resume")
    equal(ask().json["decision"], True, "a PEP that may again")
    equal(d.admin("POST", "/v1/agents/retire", {"spiffe_id": PEP}).status, 200, "retire")
    is_error(ask(), 403, "a retired PEP")
    d.close()


@test
def an_agent_named_by_no_text_is_nobody_we_know():
    d = server()
    for agent in (5, None, [AGENT], {"id": AGENT}, "", AGENT + "/", AGENT.upper()):
        for kind in ("identity", "user"):
            reply = d.evaluate(subject={"type": kind, "id": "alice"}, context={"agent": agent})
            equal((reply.status, reply.json["decision"], reply.json["context"]["reason"]),
                  (200, False, "unknown_agent"), f"context.agent = {agent!r}")
    reply = d.evaluate(agent="")
    equal(reply.json["context"]["reason"], "unknown_agent", "subject.id of nothing")


@test
def a_listener_with_a_fixed_caller_answers_no_web_page():
    d = server()
    hosts = [("localhost", 200), (f"127.0.0.1:{d.port}", 200), ("127.8.9.1", 200), ("[::1]:80", 200),
             ("LOCALHOST:1", 200), ("evil.example", 403), ("[::1]evil", 403), ("127.0.0.1.evil.example", 403),
             ("localhost.evil.example", 403), ("127.evil", 403), ("", 403)]
    for host, status in hosts:
        for path in ("/livez", "/bundle"):
            got = raw_status(raw(("127.0.0.1", d.port), f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close"
                                 "\r\n\r\n".encode(), finish=False))
            check(got == status or (not host and got in (400, 403)), f"Host {host!r}: {path} gave {got}, not {status}")
    for path, body in (("/v1/attest", {"join_token": "x", "csr": "x"}), ("/access/v1/evaluation", call())):
        is_error(d.http("POST", path, body, headers={"Origin": "http://localhost"}), 403, f"{path} with an Origin")


# --- HTTP ------------------------------------------------------------------------------------------

@test
def what_is_allowed_is_what_works():
    d = server()
    reply = d.http("POST", "/bundle", {})
    is_error(reply, 405, "POST /bundle")
    equal(reply.header("Allow"), "GET, HEAD", "Allow")
    equal(d.http("HEAD", "/bundle").status, 200, "HEAD")
    equal(d.http("HEAD", "/bundle").body, b"", "body of HEAD")
    both = d.admin("DELETE", "/v1/agents")
    equal(both.header("Allow"), "GET, HEAD, POST", "Allow of /v1/agents")


@test
def who_comes_too_often_hears_when_to_come_again():
    d = Deployment(caller=None, config="limits = { attest_rate = 1, attest_burst = 1 }\n").start()
    d.http("POST", "/v1/attest", {"join_token": "x", "csr": "x"})
    reply = d.http("POST", "/v1/attest", {"join_token": "x", "csr": "x"})
    is_error(reply, 429, "the second attestation in a second")
    check(re.fullmatch(r"[1-9]\d*", reply.header("Retry-After") or ""), f"Retry-After: {reply.headers}")
    d.close()


@test
def no_certificate_that_expired_gets_a_decision_on_an_open_connection():
    d = Deployment(caller=None, config=ATTEST).start()
    end = time.time() + 8  # of the registration, which no SVID outlives
    d.register(expires=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end)))
    cert = enrol(d, AGENT)
    c = http.client.HTTPSConnection("127.0.0.1", d.tls_port, timeout=15, context=d.tls_context(cert))
    equal(exchange(c, "POST", "/access/v1/evaluation", call()).status, 200, "before")
    time.sleep(max(0, end - time.time()) + 0.5)
    reply = exchange(c, "POST", "/access/v1/evaluation", call())
    is_error(reply, 401, "after the certificate's end")
    check(reply.header("WWW-Authenticate"), f"no challenge: {reply.headers}")
    c.close()
    d.close()


@test
def filters_that_would_show_something_else_are_refused():
    d = server()
    for query in ("openings=maybe", "openings=No", "decision=allow", "decision=deny&decision=permit"):
        is_error(d.admin("GET", "/v1/audit/export?" + query), 400, query)
    is_error(d.admin("GET", "/v1/audit/records?decision=allow"), 400, "decision=allow")
    is_error(d.admin("GET", "/v1/audit/records?after=9223372036854775807"), 400, "after the last of all")
    equal(d.admin("GET", "/v1/audit/records?after=9223372036854775806").json["records"], [], "after the end")


@test
def a_revision_of_the_wrong_type_is_no_revision():
    d = server()
    for revision in ("1", 0, -1, 1.5, None):
        is_error(d.admin("POST", "/v1/agents/update", {"spiffe_id": AGENT, "owner": "bob", "revision": revision}),
                 400, f"revision {revision!r}")


@test
def metrics_name_each_pair_once():
    d = server()
    for _ in range(3):
        d.http("GET", "/nothing")
        d.operators("GET", "/nothing")
    text = d.operators("GET", "/metrics").body.decode()
    series = [line.rsplit(" ", 1)[0] for line in text.splitlines() if line and line[0] != "#"]
    equal(sorted(set(series)), sorted(series), "series")
    check(re.search(r'writ_refused_total\{listener="http",code="not_found"\} [3-9]', text), text)


# --- bodies ---------------------------------------------------------------------------------------

@test
def a_full_body_of_many_values_is_decided():
    d = server()
    rows = [[0] * 9 for _ in range(6000)]  # 60,000 values and more
    for context, status in (({"x": rows}, 200), ({"x": [1e15] * 45000}, 200), ({"x": ["a" * 200000] * 5}, 200),
                            ({"x": [0] * 70000}, (400, 413))):
        reply = d.evaluate(context=context)
        check(reply.status == status or (isinstance(status, tuple) and reply.status in status), repr(reply))
        if status == 200:
            equal(reply.json["decision"], True, f"decision: {reply}")
            check(reply.json["context"]["record"]["leaf"], repr(reply))


@test
def the_largest_body_that_can_be_configured_is_decided():
    d = Deployment(config="limits = { body = '4MiB', string = '4MiB' }\n").start()
    d.register()
    reply = d.evaluate(context={"x": "a" * (4 * 1024 * 1024 - 1000)})
    equal((reply.status, reply.json.get("decision")), (200, True), f"{reply}")
    check(reply.json["context"]["record"]["leaf"], repr(reply))
    d.close()


# --- start, SIGHUP, stop ---------------------------------------------------------------------------

@test
def a_port_in_use_ends_the_start_and_the_log_in_order():
    d = Deployment()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", d.operators_port))
        taken.listen()
        d.spawn()
        equal(d.process.wait(20), 1, "exit code")
        d.collect()
    check(str(d.operators_port) in d.stderr(), d.stderr()[-400:])
    d.start()
    kinds = [value["kind"] for _, value in leaves(d.export()).values()]
    check("log.close" in kinds, f"kinds: {kinds}")
    check("log.gap" not in kinds, f"kinds: {kinds}")
    d.close()


@test
def readiness_names_only_what_is_wrong():
    for check_ in server().operators("GET", "/readyz").json["checks"]:
        equal(sorted(check_), ["name", "ok"], f"members of {check_}")


@test
def a_stop_in_the_middle_of_everything_is_clean():
    """Changes, attestations and decisions in flight, and an export that nobody reads."""
    d = Deployment(config="limits = { attest_rate = 10000, attest_burst = 10000 }\n").start()
    d.register()
    for _ in range(300):
        d.evaluate(context={"x": "y" * 20000})
    slow = socket.socket(socket.AF_UNIX)
    slow.connect(d.admin_socket)
    slow.sendall(b"GET /v1/audit/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
    over = threading.Event()

    def busy(n):
        k = 0
        while not over.is_set():
            k += 1
            try:
                spiffe_id = f"spiffe://{TRUST_DOMAIN}/agent/busy-{n}-{k}"
                d.admin("POST", "/v1/agents", {"spiffe_id": spiffe_id, "owner": "o"}, timeout=5)
                d.admin("POST", "/v1/agents/update", {"spiffe_id": spiffe_id, "owner": 5}, timeout=5)
                d.http("POST", "/v1/attest", {"join_token": "x", "csr": "x"}, timeout=5)
                d.evaluate()
            except (OSError, http.client.HTTPException):
                pass  # it is stopping

    threads = [threading.Thread(target=busy, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    time.sleep(1)
    equal(d.stop(seconds=60), 0, "exit code")
    over.set()
    for t in threads:
        t.join()
    slow.close()
    d.start()
    path = d.export()
    d.writ("audit", "verify", "--key", d.log_key(), path, code=0)
    check("log.gap" not in [value["kind"] for _, value in leaves(path).values()], "the stop was not clean")
    d.close()


@test
def sighup_loads_a_folder_that_is_not_watched():
    d = Deployment(config="policies = { watch = false }\n").start()
    d.register()
    equal(d.evaluate().json["context"]["generation"], 1, "generation")
    d.policy("more.lua", 'policy "more" { deny "all" { on = { action = "tools/call" } } }\n')
    time.sleep(1)
    equal(d.evaluate().json["context"]["generation"], 1, "generation, unwatched")
    d.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while d.evaluate().json["context"]["generation"] == 1 and time.monotonic() < end:
        time.sleep(0.05)
    equal(d.evaluate().json["context"]["reason"], "denied", "after SIGHUP")
    check(f'config.read file="{d.config_file}"' in d.stderr(), f"SIGHUP is not confirmed: {d.stderr()[-500:]}")
    d.close()


@test
def a_file_that_moves_to_another_folder_is_seen():
    d = Deployment().start()
    d.register()
    d.policy("a/x.lua", 'policy "x" { deny "all" { on = { action = "tools/call" } } }\n')
    wait_generation(d, 2)
    os.makedirs(d.path("policies", "b"))
    os.rename(d.path("policies", "a", "x.lua"), d.path("policies", "b", "x.lua"))
    wait_generation(d, 3)
    d.close()


@test
def a_folder_behind_a_link_is_watched():
    d = Deployment()
    os.rename(d.path("policies"), d.path("real"))
    os.symlink("real", d.path("policies"))
    d.start()
    d.register()
    d.write("real/more.lua", 'policy "more" { deny "all" { on = { action = "tools/call" } } }\n')
    wait_generation(d, 2)
    d.close()


def wait_generation(d, number):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        got = d.evaluate().json["context"].get("generation")
        if got == number:
            return
        time.sleep(0.05)
    equal(got, number, "generation")


if __name__ == "__main__":
    main()
