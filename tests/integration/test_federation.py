#!/usr/bin/env -S python3 -B
"""Federation: two real servers by https_spiffe and https_web; endpoints that rotate, go down and lie."""
import base64
import http.client
import json
import os
import re
import ssl
import time

from harness import (AGENT, TRUST_DOMAIN, Deployment, call, check, equal, is_error, exchange, free_port,
                     join_token, leaves, main, openssl, test)
from web_double import Endpoint

OTHER = "other.example"
THIRD = "third.example"
PRIVATE = "fetch = { private = true }\nlimits = { attest_rate = 1000, attest_burst = 1000 }\n"
CALLERS = (f'callers = {{ {{ unix_user = "root", role = "admin" }}, '
           f'{{ spiffe_id = "spiffe://{OTHER}/mesh/*", role = "pep" }}, '
           f'{{ spiffe_id = "spiffe://{THIRD}/mesh/*", role = "pep" }} }}\n')
MESH = f"spiffe://{OTHER}/mesh/gate"
B64URL = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def deployment(trust_domain=TRUST_DOMAIN, config="", callers=CALLERS):
    d = Deployment(caller=None, config=PRIVATE + callers + config)
    d.config = d.config.replace(f'trust_domain = "{TRUST_DOMAIN}"', f'trust_domain = "{trust_domain}"')
    d.write("writ.lua", d.config)
    d.trust_domain = trust_domain
    return d


class Pair:
    """Our server and the other one, each with an agent."""

    def __init__(self):
        self.ours = deployment().start()
        self.other = deployment(OTHER).start()
        self.ours.register()
        self.other.register(MESH)
        self.svid = enrol(self.other, MESH)


pair = None


def servers():
    global pair
    if pair is None:
        pair = Pair()
    return pair


def enrol(d, spiffe_id):
    name = spiffe_id.rsplit("/", 1)[1]
    key = d.path(name + ".key")
    csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                  "-subj", "/CN=x").decode()
    token = join_token(d.admin("POST", "/v1/agents/token", {"spiffe_id": spiffe_id}))
    reply = d.http("POST", "/v1/attest", {"join_token": token, "csr": csr})
    equal(reply.status, 200, "attestation")
    return d.write(name + ".crt", reply.json["x509_svid"]), key


def accepted(d, cert):
    """Does @d answer a question of the holder of @cert? False: it does not know the certificate."""
    try:
        reply = d.https("POST", "/access/v1/evaluation", call(), cert=cert)
    except (ssl.SSLError, ConnectionError, http.client.HTTPException):
        return False
    if reply.status == 401:
        return False
    equal(reply.status, 200, f"evaluation: {reply}")
    return True


def peer(d, trust_domain=OTHER):
    found = d.admin("GET", f"/v1/federation?trust_domain={trust_domain}").json["federation"]
    return found[0] if found else None


def refresh(d, trust_domain=OTHER, code=0):
    return json.loads(d.writ("federation", "refresh", trust_domain, "--json", code=code).stdout)["federation"][0]


def records(d, kind):
    return [r for _, r in leaves(d.export(f"all-{time.monotonic_ns()}.jsonl")).values() if r["kind"] == kind]


class Authority:
    """An X.509 authority made with openssl, that signs leaves for anybody."""

    def __init__(self, folder, name, trust_domain):
        self.folder, self.name = folder, name
        self.crt, self.key = os.path.join(folder, name + ".crt"), os.path.join(folder, name + ".key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key,
                "-out", self.crt, "-subj", f"/CN={name}", "-days", "2", "-addext",
                f"subjectAltName=URI:spiffe://{trust_domain}", "-addext", "keyUsage=critical,keyCertSign",
                "-addext", "basicConstraints=critical,CA:TRUE")

    def jwk(self):
        der = openssl("x509", "-in", self.crt, "-outform", "DER")
        spki = openssl("pkey", "-pubin", "-outform", "DER", data=openssl("x509", "-in", self.crt, "-pubkey", "-noout"))
        return {"kty": "EC", "use": "x509-svid", "crv": "P-256", "x": B64URL(spki[-64:-32]), "y": B64URL(spki[-32:]),
                "x5c": [base64.b64encode(der).decode()]}

    def leaf(self, name, spiffe_id):
        crt, key = os.path.join(self.folder, name + ".crt"), os.path.join(self.folder, name + ".key")
        ext = os.path.join(self.folder, name + ".ext")
        with open(ext, "w", encoding="ascii") as f:
            f.write(f"subjectAltName=URI:{spiffe_id}\nbasicConstraints=critical,CA:FALSE\n"
                    "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n")
        csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                      key, "-subj", "/CN=x")
        with open(crt, "wb") as f:
            f.write(openssl("x509", "-req", "-CA", self.crt, "-CAkey", self.key, "-extfile", ext, "-days", "1",
                            data=csr))
        return crt, key


class Web:
    """Our server that trusts the test's web CA, and an endpoint for third.example."""

    def __init__(self):
        self.d = deployment()
        os.makedirs(self.d.path("web"), exist_ok=True)
        self.endpoint = Endpoint(self.d.path("web"))
        self.d.config += f'fetch = {{ private = true, ca_file = "{self.endpoint.ca}" }}\n'
        self.d.config = self.d.config.replace("fetch = { private = true }\n", "", 1)
        self.d.write("writ.lua", self.d.config)
        self.first = Authority(self.d.path("web"), "first", THIRD)
        self.second = Authority(self.d.path("web"), "second", THIRD)
        self.d.start()
        self.d.register()

    def bundle(self, *authorities, sequence=None, hint=60, **more):
        document = {"keys": [a.jwk() for a in authorities], "spiffe_refresh_hint": hint, **more}
        if sequence is not None:
            document["spiffe_sequence"] = sequence
        return document

    def add(self, code=0):
        return self.d.writ("federation", "add", THIRD, self.endpoint.url, "--profile", "https_web", "--json",
                           code=code)

    def remove(self):
        self.d.writ("federation", "remove", THIRD, code=0)


web_server = None


def web():
    global web_server
    if web_server is None:
        web_server = Web()
    return web_server


# --- two servers -----------------------------------------------------------------------------

@test
def two_servers_by_https_spiffe():
    s = servers()
    check(not accepted(s.ours, s.svid), "a foreign SVID is accepted before any federation")
    first = s.ours.write("first.json", json.dumps(s.other.http("GET", "/bundle").json))
    url = f"https://localhost:{s.other.tls_port}/bundle"
    added = json.loads(s.ours.writ(
        "federation", "add", OTHER, url, "--profile", "https_spiffe", "--endpoint-id",
        f"spiffe://{OTHER}/writ/server", "--bundle-file", first, "--json", code=0).stdout)["federation"][0]
    equal(added["state"], "fresh", f"state of {added}")
    equal(added.get("error"), None, "error")
    equal((added["authorities"], added["jwt_keys"]), (1, 1), "keys")
    check(accepted(s.ours, s.svid), "the foreign SVID is not accepted after federation")
    # One-way: nothing of ours is accepted there.
    check(not accepted(s.other, enrol(s.ours, AGENT)), "federation went both ways")
    kinds = [r["act"] for r in records(s.ours, "admin.action") if r.get("trust_domain") == OTHER]
    check("federation.add" in kinds, f"acts on record: {kinds}")
    taken = [r for r in records(s.ours, "key.federated") if r["outcome"] == "taken"]
    check(taken and taken[0]["trust_domain"] == OTHER and len(taken[0]["bundle_sha256"]) == 64, f"records: {taken}")


@test
def jwt_svids_across_trust_domains():
    s = servers()
    cert, key = s.svid
    reply = s.other.https("POST", "/v1/svid/jwt", {"audience": [f"spiffe://{TRUST_DOMAIN}/writ/server"]},
                          cert=(cert, key))
    equal(reply.status, 200, f"JWT-SVID: {reply}")
    bearer = {"Authorization": f"Bearer {reply.json['svid']}"}
    equal(s.ours.https("POST", "/access/v1/evaluation", call(), bearer).status, 200, "with a foreign token")
    # Signed by the other's key, but in our name: the header and signature of theirs, our subject.
    head, payload, signature = reply.json["svid"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["sub"] = AGENT
    forged = ".".join([head, B64URL(json.dumps(claims).encode()), signature])
    is_error(s.ours.https("POST", "/access/v1/evaluation", call(), {"Authorization": f"Bearer {forged}"}), 401)


@test
def a_removed_domain_stops_at_once_and_survives_no_restart():
    s = servers()
    check(accepted(s.ours, s.svid), "not accepted to begin with")
    s.ours.restart()
    check(accepted(s.ours, s.svid), "not accepted after a restart")
    # The other is down: its last bundle stays.
    s.other.stop()
    stale = refresh(s.ours, code=1)
    equal(stale["state"], "fresh", "state right after a failed poll")
    check(stale["error"] and stale["failures"] >= 1, f"no error: {stale}")
    check(accepted(s.ours, s.svid), "not accepted while the endpoint is down")
    ready = s.ours.admin("GET", "/readyz")
    equal(ready.status, 200, "readiness while an endpoint is down")
    detail = [c for c in ready.json["checks"] if c["name"] == "federation"][0]
    check(OTHER in detail.get("detail", ""), f"readyz does not tell: {detail}")
    check(any(OTHER in f["message"] for f in s.ours.admin("GET", "/v1/doctor").json["findings"]), "doctor is silent")
    metrics = s.ours.admin("GET", "/metrics").body.decode()
    check(re.search(rf'writ_federation_failures{{trust_domain="{OTHER}"}} [1-9]', metrics), "no metric of failures")
    check(f'writ_federation_usable{{trust_domain="{OTHER}"}} 1' in metrics, "no metric of use")
    s.other.start()
    equal(refresh(s.ours)["failures"], 0, "failures after the endpoint came back")
    s.ours.writ("federation", "remove", OTHER, code=0)
    check(not accepted(s.ours, s.svid), "accepted after the relationship was removed")
    s.ours.restart()
    check(not accepted(s.ours, s.svid), "accepted after removal and a restart")


@test
def the_endpoint_must_be_who_it_was_said_to_be():
    s = servers()
    first = s.ours.write("first.json", json.dumps(s.other.http("GET", "/bundle").json))
    url = f"https://localhost:{s.other.tls_port}/bundle"
    done = s.ours.writ("federation", "add", OTHER, url, "--profile", "https_spiffe", "--endpoint-id",
                       f"spiffe://{OTHER}/somebody/else", "--bundle-file", first, code=0)
    check(f"the endpoint is spiffe://{OTHER}/writ/server, expected" in done.stderr, f"says {done.stderr!r}")
    # By hand it was told what to believe, so that stands.
    equal(peer(s.ours)["state"], "fresh", "state with a bundle by hand")
    s.ours.writ("federation", "remove", OTHER, code=0)
    # Web PKI knows nothing of it, and there is no falling back to the other profile.
    done = s.ours.writ("federation", "add", OTHER, url, "--profile", "https_web", code=0)
    check("its certificate does not hold" in done.stderr, f"says {done.stderr!r}")
    equal(peer(s.ours)["state"], "none", "state without any bundle")
    check(not accepted(s.ours, s.svid), "accepted without a bundle")
    s.ours.writ("federation", "remove", OTHER, code=0)


# --- the command ------------------------------------------------------------------------------

@test
def refuses_what_makes_no_sense():
    d = web().d
    good = {"trust_domain": "x.example", "url": "https://x.example/", "profile": "https_web"}
    rows = [
        ("our own", dict(good, trust_domain=TRUST_DOMAIN), "invalid_federation"),
        ("our own as an ID", dict(good, trust_domain=f"spiffe://{TRUST_DOMAIN}"), "invalid_federation"),
        ("upper case", dict(good, trust_domain="X.example"), None),
        ("a path", dict(good, trust_domain="x.example/a"), None),
        ("none", {k: v for k, v in good.items() if k != "trust_domain"}, None),
        ("http", dict(good, url="http://x.example/"), "invalid_url"),
        ("user info", dict(good, url="https://u@x.example/"), "invalid_url"),
        ("profile", dict(good, profile="https"), "invalid_federation"),
        ("no profile", {k: v for k, v in good.items() if k != "profile"}, "invalid_federation"),
        ("web with an ID", dict(good, endpoint_spiffe_id="spiffe://x.example/a"), "invalid_federation"),
        ("spiffe without an ID", dict(good, profile="https_spiffe"), "invalid_federation"),
        ("ID without a path", dict(good, profile="https_spiffe", endpoint_spiffe_id="spiffe://x.example"), None),
        ("self-serving without a bundle",
         dict(good, profile="https_spiffe", endpoint_spiffe_id="spiffe://x.example/a"), "invalid_federation"),
        ("judged by a stranger",
         dict(good, profile="https_spiffe", endpoint_spiffe_id="spiffe://y.example/a"), "invalid_federation"),
        ("bundle of nothing", dict(good, bundle="hello"), "invalid_bundle"),
        ("unknown member", dict(good, urls="x"), "invalid_request"),
        ("number", dict(good, url=5), "invalid_request"),
    ]
    for why, body, code in rows:
        error = is_error(d.admin("POST", "/v1/federation", body), 400, why)
        if code:
            equal(error["code"], code, why)
    is_error(d.admin("POST", "/v1/federation/remove", {"trust_domain": "nobody.example"}), 404)
    is_error(d.admin("POST", "/v1/federation/refresh", {"trust_domain": "nobody.example"}), 404)
    is_error(d.operators("GET", "/v1/federation"), 401)
    d.writ("federation", "add", "x.example", "https://x.example/", code=2)
    d.writ("federation", "remove", "nobody.example", code=1)


# --- bundles that change, and lies -----------------------------------------------------------

@test
def a_bundle_by_https_web_and_its_rotation():
    w = web()
    w.endpoint.says(w.bundle(w.first, sequence=5))
    added = json.loads(w.add().stdout)["federation"][0]
    equal((added["state"], added["sequence"], added["refresh_seconds"]), ("fresh", "5", 60), f"{added}")
    old, new = w.first.leaf("old", f"spiffe://{THIRD}/mesh/a"), w.second.leaf("new", f"spiffe://{THIRD}/mesh/b")
    check(accepted(w.d, old) and not accepted(w.d, new), "the first authority alone")
    w.endpoint.says(w.bundle(w.first, w.second, sequence=6))
    refresh(w.d, THIRD)
    check(accepted(w.d, old) and accepted(w.d, new), "both authorities, as in a rotation")
    w.endpoint.says(w.bundle(w.second, sequence=7))
    refresh(w.d, THIRD)
    check(not accepted(w.d, old) and accepted(w.d, new), "the second authority alone")
    # Keys empty: nothing of the domain is trusted.
    w.endpoint.says(w.bundle(sequence=8))
    refresh(w.d, THIRD)
    check(not accepted(w.d, new), "accepted by an empty bundle")
    again = json.loads(w.d.writ("federation", "list", "--json", code=0).stdout)["federation"]
    equal([p["trust_domain"] for p in again], [THIRD], "the list")
    check(THIRD in w.d.writ("federation", "list", code=0).stdout, "the list for people")
    is_error(w.d.admin("POST", "/v1/federation", {"trust_domain": THIRD, "url": w.endpoint.url,
                                                   "profile": "https_web"}), 409)
    w.remove()


@test
def an_endpoint_that_lies_changes_nothing():
    w = web()
    w.endpoint.says(w.bundle(w.first, sequence=5))
    w.add()
    svid = w.first.leaf("liar", f"spiffe://{THIRD}/mesh/a")
    good = w.bundle(w.first, sequence=6)
    broken_key = dict(w.first.jwk(), x=w.second.jwk()["x"], y=w.second.jwk()["y"])
    rows = [
        ("sequence goes down", lambda: w.endpoint.says(w.bundle(w.second, sequence=4)), "sequence"),
        ("500", lambda: w.endpoint.says(good, status=500), "status 500"),
        ("404", lambda: w.endpoint.says(good, status=404), "status 404"),
        ("html", lambda: w.endpoint.says(good, kind="text/html"), "text/html"),
        ("no JSON", lambda: w.endpoint.says(b"hello"), "no JSON"),
        ("an array", lambda: w.endpoint.says([]), "no JSON object"),
        ("no keys", lambda: w.endpoint.says({"spiffe_sequence": 9}), "keys"),
        ("twice the same name", lambda: w.endpoint.says(b'{"keys":[],"keys":[]}'), "duplicate"),
        ("another key beside the certificate",
         lambda: w.endpoint.says({"keys": [broken_key], "spiffe_sequence": 9}), "keys[0]"),
        ("PEM", lambda: w.endpoint.says(open(w.second.crt, "rb").read()), "PEM"),
        ("600 KiB", lambda: w.endpoint.says(dict(good, padding="x" * 600000)), "longer"),
        ("elsewhere", lambda: w.endpoint.says(b"", status=302, Location="https://evil.example/"), "redirects"),
        ("to plain http", lambda: w.endpoint.says(b"", status=302, Location="http://localhost/"), "redirects"),
    ]
    for why, lie, says in rows:
        lie()
        after = refresh(w.d, THIRD, code=1)
        check(says in after["error"], f"{why}: error is {after['error']!r}")
        equal((after["sequence"], after["state"]), ("5", "fresh"), why)
        check(accepted(w.d, svid), f"{why}: the last good bundle is not in use")
    refused = [r["reason"] for r in records(w.d, "key.federated") if r["outcome"] == "refused"]
    check("sequence_went_down" in refused and "invalid_bundle" in refused, f"refusals on record: {refused}")
    # Other keys under the same number: taken, and said.
    w.endpoint.says(w.bundle(w.second, sequence=5))
    after = refresh(w.d, THIRD)
    check("did not" in after.get("warning", ""), f"no warning: {after}")
    check(not accepted(w.d, svid), "the old authority is still trusted")
    # A path on the same host is followed, and not remembered.
    w.endpoint.asked.clear()
    w.endpoint.says(b"", status=307, Location="/elsewhere")
    refresh(w.d, THIRD, code=1)
    equal(w.endpoint.asked[:2], ["/bundle", "/elsewhere"], "requests")
    w.remove()


@test
def a_foreign_authority_never_speaks_for_another_domain():
    w = web()
    rogue = Authority(w.d.path("web"), "rogue", TRUST_DOMAIN)  # says it is ours
    w.endpoint.says(w.bundle(w.first, rogue, sequence=1))
    w.add()
    check(accepted(w.d, w.first.leaf("honest", f"spiffe://{THIRD}/mesh/a")), "an honest SVID")
    for name, authority, spiffe_id in [
            ("ours", w.first, AGENT), ("ours-rogue", rogue, AGENT),
            ("server", w.first, f"spiffe://{TRUST_DOMAIN}/writ/server"),
            ("other", w.first, f"spiffe://{OTHER}/mesh/a")]:
        check(not accepted(w.d, authority.leaf("lie-" + name, spiffe_id)), f"{name}: accepted as {spiffe_id}")
    w.remove()


@test
def private_addresses_need_a_setting():
    d = Deployment(caller=None).start()
    for host in ("localhost", "127.0.0.1", "[::1]"):
        done = d.writ("federation", "add", "x.example", f"https://{host}:{d.tls_port}/bundle", "--profile",
                      "https_web", code=0)
        check("is not a public one" in done.stderr, f"{host}: says {done.stderr!r}")
        d.writ("federation", "remove", "x.example", code=0)
    done = d.writ("federation", "add", "x.example", "https://169.254.169.254/latest", "--profile", "https_web",
                  code=0)
    check("is not a public one" in done.stderr, f"metadata: says {done.stderr!r}")
    d.close()


# --- what we publish --------------------------------------------------------------------------

@test
def our_endpoint_answers_pollers():
    d = servers().other
    first = d.http("GET", "/bundle")
    equal(first.header("content-type").split(";")[0], "application/json", "Content-Type")
    bundle = first.json
    equal(bundle["spiffe_refresh_hint"] >= 60 and isinstance(bundle["spiffe_sequence"], int), True, f"{bundle}")
    tag = first.header("etag")
    check(re.fullmatch(r'"[0-9a-f]{64}"', tag or ""), f"ETag: {tag}")
    for why, header, status in [("its tag", tag, 304), ("weak", "W/" + tag, 304), ("one of several", f'"x", {tag}', 304),
                                ("any", "*", 304), ("another", '"x"', 200), ("a part", tag[:10] + '"', 200),
                                ("nothing", "", 200)]:
        reply = d.http("GET", "/bundle", headers={"If-None-Match": header})
        equal((reply.status, reply.body == b""), (status, status == 304), why)
        equal(reply.header("etag"), tag, f"{why}: ETag")
    # No client certificate is asked from a poller, and TLS proves the server's SPIFFE ID.
    equal(d.https("GET", "/bundle").json, bundle, "the bundle over TLS")
    is_error(d.http("POST", "/bundle", {}), 405)


@test
def openid_relying_parties():
    issuer = "https://id.example/writ"
    is_error(servers().ours.http("GET", "/.well-known/openid-configuration"), 404)
    d = deployment(config=f'jwt = {{ issuer = "{issuer}" }}\n').start()
    d.register()
    reply = d.http("GET", "/.well-known/openid-configuration")
    equal(reply.json, {"issuer": issuer, "jwks_uri": issuer + "/keys", "authorization_endpoint": "",
                       "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                       "id_token_signing_alg_values_supported": ["ES256"],
                       "claims_supported": ["iss", "sub", "aud", "exp", "iat"]}, "discovery document")
    equal(reply.header("content-type").split(";")[0], "application/json", "Content-Type")
    equal(reply.header("access-control-allow-origin"), "*", "CORS")
    # Whatever the client calls us, the document names the configured issuer.
    lied = d.http("GET", "/.well-known/openid-configuration", headers={"Host": "evil.example"})
    check(lied.status == 400 or lied.json == reply.json, f"by another Host: {lied}")
    keys = d.http("GET", "/keys")
    check("no-store" in keys.header("cache-control"), "keys may be kept")
    equal(list(keys.json), ["keys"], "members of the JWK Set")
    for key in keys.json["keys"]:
        equal((key["kty"], key["use"], key["alg"]), ("EC", "sig", "ES256"), f"key {key}")
        check(key["kid"] and "x5c" not in key, f"key {key}")
    token = d.https("POST", "/v1/svid/jwt", {"audience": ["cloud"]}, cert=enrol(d, AGENT)).json["svid"]
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    equal((claims["iss"], claims["sub"], claims["aud"]), (issuer, AGENT, ["cloud"]), "claims")
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    check(header["kid"] in [k["kid"] for k in keys.json["keys"]], "kid is not among the keys")
    d.close()


@test
def a_door_for_those_who_know_web_pki_alone():
    ours = web().d
    d = deployment(OTHER)
    os.makedirs(d.path("web"), exist_ok=True)
    web().endpoint.leaf(d.path("web"), "site", "DNS:localhost")
    port = free_port()
    d.config = d.config.replace("listen = {", f'listen = {{ web = "127.0.0.1:{port}",', 1) + (
        f'tls = {{ web = {{ certificate = "{d.path("web", "site.crt")}", key = "{d.path("web", "site.key")}" }} }}\n'
        f'jwt = {{ issuer = "https://localhost:{port}" }}\n')
    d.write("writ.lua", d.config)
    os.chmod(d.path("web", "site.key"), 0o644)
    d.spawn()
    equal(d.process.wait(20), 1, "start with a key that all may read")
    d.collect()
    check("must not be" in d.stderr(), d.stderr())
    os.chmod(d.path("web", "site.key"), 0o600)
    d.start()
    d.register(MESH)
    context = ssl.create_default_context(cafile=web().endpoint.ca)

    def get(path, method="GET"):
        c = http.client.HTTPSConnection("localhost", port, timeout=15, context=context)
        try:
            return exchange(c, method, path)
        finally:
            c.close()

    # An ordinary OpenID library: issuer, document, keys, all under Web PKI and the host's name.
    document = get("/.well-known/openid-configuration").json
    equal(document["issuer"], f"https://localhost:{port}", "issuer")
    equal(get(document["jwks_uri"].split(str(port))[1]).json, d.http("GET", "/keys").json, "keys")
    equal(get("/bundle").json, d.http("GET", "/bundle").json, "bundle")
    # Nothing else is there.
    for path in ("/v1/svid/x509", "/access/v1/evaluation", "/livez", "/metrics", "/v1/agents", "/v1/attest"):
        is_error(get(path, "POST"), 404, path)
    is_error(get("/bundle", "POST"), 405, "POST /bundle")
    # The other server polls it as https_web.
    ours.writ("federation", "add", OTHER, f"https://localhost:{port}/bundle", "--profile", "https_web", code=0)
    check(accepted(ours, enrol(d, MESH)), "not accepted after federation by https_web")
    ours.writ("federation", "remove", OTHER, code=0)
    # Renewed files are taken up; a pair that does not fit is not.
    before = ssl.get_server_certificate(("127.0.0.1", port))
    web().endpoint.leaf(d.path("web"), "newer", "DNS:localhost")
    os.rename(d.path("web", "newer.key"), d.path("web", "site.key"))
    os.rename(d.path("web", "newer.crt"), d.path("web", "site.crt"))
    end = time.monotonic() + 20
    while ssl.get_server_certificate(("127.0.0.1", port)) == before:
        check(time.monotonic() < end, "the renewed certificate is never shown")
        time.sleep(0.1)
    equal(get("/bundle").status, 200, "after the renewal")
    d.close()


if __name__ == "__main__":
    main()
