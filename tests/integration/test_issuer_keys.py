#!/usr/bin/env -S python3 -B
"""Keys of OIDC and Kubernetes issuers by https: rotation, outages, restarts, and servers that lie."""
import json
import os
import signal
import threading
import time

from harness import Deployment, TRUST_DOMAIN, check, equal, is_error, leaves, main, openssl, test
from token_double import Key
from web_double import Endpoint

TD = f"spiffe://{TRUST_DOMAIN}"
AUDIENCE = f"{TD}/writ/server"


class World:
    """Our server, and an issuer of each kind at an https server of ours."""

    def __init__(self, jwks=None, more=""):
        d = self.d = Deployment(caller=None)
        os.makedirs(d.path("web"), exist_ok=True)
        self.web = Endpoint(d.path("web"))
        self.oidc, self.cluster = f"https://localhost:{self.web.port}/ci/", f"https://localhost:{self.web.port}"
        jwks = jwks or f"https://localhost:{self.web.port}/keys"
        d.config += f"""
fetch = {{ private = true }}
limits = {{ attest_rate = 10000, attest_burst = 10000 }}
attest = {{
  oidc = {{ {{ issuer = "{self.oidc}", audience = "{AUDIENCE}", jwks = "{jwks}", ca_file = "web/ca.crt" }} }},
  k8s = {{ {{ cluster = "prod", issuer = "{self.cluster}", audience = "writ", jwks = "discover",
            ca_file = "{self.web.ca}" }} }},
{more}}}
"""
        d.write("writ.lua", d.config)
        self.first, self.second = Key(d, "ES256", "first"), Key(d, "EdDSA", "second")
        self.publish(self.first)
        d.start()
        d.register(f"{TD}/job", selectors=[f"oidc:iss:{self.oidc}"])
        d.register(f"{TD}/pod", selectors=["k8s:cluster:prod"])
        key = d.path("agent.key")
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        self.public = openssl("pkey", "-in", key, "-pubout").decode()

    def publish(self, *keys):
        document = json.dumps({"keys": [k.jwk(use="sig") for k in keys]}).encode()
        as_json = {"Content-Type": "application/json"}
        self.web.answers = {
            "/keys": (200, {"Content-Type": "application/jwk-set+json"}, document),
            "/openid/v1/jwks": (200, as_json, document),
            "/.well-known/openid-configuration": (200, as_json, json.dumps(
                {"issuer": self.cluster, "jwks_uri": f"{self.cluster}/openid/v1/jwks"}).encode())}

    def job(self, key, **header):
        now = int(time.time())
        token = key.token({"iss": self.oidc, "sub": "job", "aud": AUDIENCE, "exp": now + 300, "iat": now,
                           "n": os.urandom(8).hex()}, **header)
        return self.d.http("POST", "/v1/attest", {"public_key": self.public, "oidc": token})

    def pod(self, key):
        now = int(time.time())
        token = key.token({"iss": self.cluster, "aud": "writ", "exp": now + 300, "iat": now,
                           "sub": "system:serviceaccount:prod:crm",
                           "kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "crm"},
                                             "pod": {"name": "p", "uid": "u"}}})
        return self.d.http("POST", "/v1/attest", {"public_key": self.public, "k8s_psat": token})

    def issuer(self, attestor="oidc"):
        found = [i for i in self.d.admin("GET", "/v1/status").json["issuers"] if i["attestor"] == attestor]
        equal(len(found), 1, "issuers")
        return found[0]

    def until(self, wanted, attestor="oidc"):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            now = self.issuer(attestor)
            if wanted(now):
                return now
            time.sleep(0.02)
        raise AssertionError(f"not in a minute: {now}")

    def refresh(self, attestor="oidc"):
        """Fetch now, and come back when a fetch that began after this is over."""
        before = {kind: self.issuer(kind)["attempts"] for kind in ("oidc", "k8s")}
        self.d.process.send_signal(signal.SIGHUP)
        for kind, attempts in before.items():
            self.until(lambda now, least=attempts: now["attempts"] > least, kind)
        return self.issuer(attestor)

    def records(self):
        path = self.d.export(f"all-{time.monotonic_ns()}.jsonl")
        return [r for _, r in leaves(path).values() if r["kind"] == "key.issuer"]

    def check_of(self, name):
        return [c for c in self.d.admin("GET", "/readyz").json["checks"] if c["name"] == name][0]

    def findings(self):
        return [f["message"] for f in self.d.admin("GET", "/v1/doctor").json["findings"] if f["name"] == "issuer_keys"]


shared = None


def world():
    global shared
    if shared is None:
        shared = World()
    return shared


def attested(reply, spiffe_id):
    equal((reply.status, reply.json.get("spiffe_id")), (200, spiffe_id), repr(reply))


def refused(reply, status, code, why=""):
    equal(is_error(reply, status, why)["code"], code, why)


@test
def by_url_and_by_discovery():
    w = world()
    w.until(lambda now: now["state"] == "fresh")
    w.until(lambda now: now["state"] == "fresh", "k8s")
    attested(w.job(w.first), f"{TD}/job")
    attested(w.pod(w.first), f"{TD}/pod")
    refused(w.job(w.second), 401, "unknown_key", "a key that is not published")
    taken = w.records()
    equal(sorted((r["issuer"], r["outcome"], r["keys"]) for r in taken),
          sorted([(w.oidc, "taken", 1), (w.cluster, "taken", 1)]), "records")
    check(all(len(r["jwks_sha256"]) == 64 for r in taken), repr(taken))
    metrics = w.d.admin("GET", "/metrics").body.decode()
    check(f'writ_issuer_keys_usable{{attestor="oidc",issuer="{w.oidc}"}} 1\n' in metrics, "metrics")
    equal(w.check_of("issuers"), {"name": "issuers", "ok": True}, "readiness")
    check("fresh" in w.d.writ("status", code=0).stdout, "status")


@test
def a_token_under_a_new_key_has_the_keys_fetched():
    w = World()
    try:
        w.until(lambda now: now["state"] == "fresh")
        w.publish(w.first, w.second)
        refused(w.job(w.second), 401, "unknown_key", "not known yet")
        w.until(lambda now: now["keys"] == 2)
        attested(w.job(w.second), f"{TD}/job")
        asked = len([p for p in w.web.asked if p == "/keys"])
        for kid in ("x", "y", "z"):  # made up by anybody: no second time within the minute
            refused(w.job(w.second, kid=kid), 401, "unknown_key", kid)
        w.publish(w.second)
        attested(w.job(w.second), f"{TD}/job")
        equal(len([p for p in w.web.asked if p == "/keys"]), asked, "fetches")
        w.refresh()
        refused(w.job(w.first), 401, "unknown_key", "a withdrawn key")
        attested(w.job(w.second), f"{TD}/job")
    finally:
        w.d.close()


def slow(handler, released):
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    released.wait(60)


def document(w, *keys, **more):
    return json.dumps(dict({"keys": [k.jwk() for k in keys]}, **more)).encode()


@test
def hostile_answers_leave_the_keys_as_they_were():
    w = world()
    w.publish(w.first)
    w.refresh()
    good, as_json = document(w, w.second), {"Content-Type": "application/json"}
    for why, answer, says in (
            ("too large", (200, as_json, b'{"keys":[' + b" " * (513 * 1024) + good), "longer than"),
            ("wrong type", (200, {"Content-Type": "text/html"}, good), "text/html"),
            ("no type", (200, {}, good), "no media type"),
            ("redirect", (302, {"Location": f"https://localhost:{w.web.port}/other"}, b""), "status 302"),
            ("redirect elsewhere", (307, {"Location": "https://127.0.0.1/x"}, b""), "status 307"),
            ("error", (500, as_json, good), "status 500"),
            ("encoded", (200, dict(as_json, **{"Content-Encoding": "gzip"}), good), "encoded"),
            ("bad JSON", (200, as_json, good[:-1]), "JWK set"),
            ("not UTF-8", (200, as_json, good[:-2] + b',{"\xff":1}]}'), "JWK set"),
            ("no set", (200, as_json, b'{"key":[]}'), "keys"),
            ("empty", (200, as_json, b'{"keys":[]}'), "no key"),
            ("duplicate kid", (200, as_json, document(w, w.second, w.second)), "same key id"),
            ("duplicate member", (200, as_json, b'{"keys":[],' + good[1:]), "JWK set"),
            ("private key", (200, as_json, json.dumps({"keys": [w.second.jwk(d="AA")]}).encode()), "private key"),
            ("cut off", lambda h: h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                                b"Content-Length: 100\r\n\r\n{") and h.connection.close(), ""),
            ("no HTTP", lambda h: h.wfile.write(b"SSH-2.0-x\r\n\r\n") and h.connection.close(), "")):
        w.web.answers["/keys"] = answer
        now = w.refresh()
        check(now["failures"] > 0 and says in now["error"], f"{why}: {now}")
        equal((now["state"], now["keys"]), ("fresh", 1), why)
        attested(w.job(w.first), f"{TD}/job")
        refused(w.job(w.second), 401, "unknown_key", why)
    check("stay in use" in w.check_of("issuers")["detail"], "readiness")
    check(any(w.oidc in f for f in w.findings()), f"doctor: {w.findings()}")
    reasons = [r["reason"] for r in w.records() if r["outcome"] == "refused"]
    check({"invalid_jwks", "invalid_json"} <= set(reasons), f"documents that were refused are on record: {reasons}")
    w.publish(w.first)
    now = w.refresh()
    equal((now["failures"], now.get("error")), (0, None), "it recovers")
    equal(w.findings(), [], "doctor")


@test
def nobody_waits_for_a_slow_issuer():
    w, released, here = world(), threading.Event(), threading.Event()

    def hang(handler):
        here.set()
        slow(handler, released)
    w.publish(w.first)
    w.refresh()
    w.web.answers["/keys"] = hang
    before = w.issuer()["attempts"]
    w.d.process.send_signal(signal.SIGHUP)
    check(here.wait(60), "the fetch did not begin")
    attested(w.job(w.first), f"{TD}/job")
    attested(w.pod(w.first), f"{TD}/pod")
    equal(w.d.http("GET", "/livez").status, 200, "alive")
    equal(w.issuer()["attempts"], before, "all of that happened while the fetch was under way")
    now = w.until(lambda now: now["attempts"] > before)
    check("within" in now["error"], now)
    released.set()
    attested(w.job(w.first), f"{TD}/job")


@test
def discovery_that_lies():
    w = world()
    w.publish(w.first)
    w.refresh("k8s")
    as_json, known = {"Content-Type": "application/json"}, "/.well-known/openid-configuration"
    keys = f"{w.cluster}/openid/v1/jwks"
    for why, said, says in (
            ("another issuer", {"issuer": w.cluster + "/", "jwks_uri": keys}, "not the configured one"),
            ("no jwks_uri", {"issuer": w.cluster}, "jwks_uri"),
            ("another host", {"issuer": w.cluster, "jwks_uri": f"https://127.0.0.1:{w.web.port}/keys"}, "hosts"),
            ("http", {"issuer": w.cluster, "jwks_uri": keys.replace("https", "http")}, "https"),
            ("a file", {"issuer": w.cluster, "jwks_uri": "file:///etc/passwd"}, "https"),
            ("too large", {"issuer": w.cluster, "jwks_uri": keys, "x": "x" * 70000}, "longer")):
        w.web.answers[known] = (200, as_json, json.dumps(said).encode())
        now = w.refresh("k8s")
        check(now["failures"] > 0 and says in now["error"], f"{why}: {now}")
        attested(w.pod(w.first), f"{TD}/pod")
    check("invalid_discovery" in [r.get("reason") for r in w.records()], "on record")
    w.publish(w.second)
    equal(w.refresh("k8s")["failures"], 0, "it recovers")
    attested(w.pod(w.second), f"{TD}/pod")


@test
def a_restart_needs_no_network():
    w = World()
    try:
        w.until(lambda now: now["state"] == "fresh")
        w.web.close()
        w.d.restart()
        attested(w.job(w.first), f"{TD}/job")
        now = w.until(lambda now: now["failures"] > 0)
        equal((now["state"], now["keys"]), ("fresh", 1), "what was kept")
        w.d.kill()
        w.d.start()
        attested(w.job(w.first), f"{TD}/job")
    finally:
        w.d.close()


@test
def without_keys_nobody_gets_in():
    w = World(jwks="https://localhost:1/keys")
    try:
        now = w.until(lambda now: now["failures"] > 0)
        equal(now["state"], "none", repr(now))
        refused(w.job(w.first), 503, "no_issuer_keys", "no keys yet")
        check(any("attest nobody" in f for f in w.findings()), f"doctor: {w.findings()}")
        equal(w.d.admin("GET", "/readyz").status, 200, "the others are served")
    finally:
        w.d.close()


@test
def the_server_must_prove_itself():
    w = World()
    try:
        w.until(lambda now: now["state"] == "fresh")
        stranger = os.path.join(w.d.path("web"), "stranger")
        os.makedirs(stranger)
        other = Endpoint(stranger)
        w.d.stop()
        w.d.write("writ.lua", w.d.config.replace('ca_file = "web/ca.crt"', 'ca_file = "web/stranger/ca.crt"'))
        w.d.start()
        now = w.until(lambda now: now["failures"] > 0)
        check("certificate" in now["error"], repr(now))
        other.close()
    finally:
        w.d.close()


if __name__ == "__main__":
    main()
