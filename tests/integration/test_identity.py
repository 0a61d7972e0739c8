#!/usr/bin/env -S python3 -B
"""Identity: register, join token, attest, renew over mTLS, JWT-SVIDs; and all who should not get one."""
import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import ssl
import threading
import time

from harness import (AGENT, TRUST_DOMAIN, Deployment, Failure, call, check, equal, is_error, join_token, main,
                     openssl, test)

SERVER_ID = f"spiffe://{TRUST_DOMAIN}/writ/server"
LIMITS = "limits = { attest_rate = 1000, attest_burst = 1000 }\n"
shared = None


def server():
    """No fixed caller: who is not known gets 401."""
    global shared
    if shared is None:
        shared = Deployment(caller=None, config=LIMITS).start()
        shared.register()
    return shared


def fresh(path, d=None, **more):
    """A registered agent of its own for one test."""
    spiffe_id = f"spiffe://{TRUST_DOMAIN}/agent/{path}"
    (d or server()).register(spiffe_id, **more)
    return spiffe_id


def token_for(spiffe_id, d=None, **more):
    reply = (d or server()).admin("POST", "/v1/agents/token", dict({"spiffe_id": spiffe_id}, **more))
    check(reply.status in (200, 201), f"token for {spiffe_id}: {reply}")
    return join_token(reply)


def make_csr(name, *args, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), subject="/CN=x", d=None):
    """(CSR as PEM, key file)"""
    keyfile = (d or server()).path(name + ".key")
    csr = openssl("req", "-new", "-newkey", *key, "-nodes", "-keyout", keyfile, "-subj", subject, *args)
    return csr.decode(), keyfile


def attest(token, csr, d=None, **more):
    return (d or server()).http("POST", "/v1/attest", dict({"join_token": token, "csr": csr}, **more))


def enrol(spiffe_id, d=None):
    """(certificate file, key file) of a new X.509-SVID."""
    d = d or server()
    name = spiffe_id.rsplit("/", 1)[1]
    csr, key = make_csr(name, d=d)
    reply = attest(token_for(spiffe_id, d), csr, d)
    check(reply.status in (200, 201), f"attestation: {reply}")
    equal(reply.json["spiffe_id"], spiffe_id, "spiffe_id")
    return d.write(name + ".crt", reply.json["x509_svid"]), key


def certificate(pem):
    """What openssl reads in the first certificate."""
    return openssl("x509", "-noout", "-text", data=pem.encode()).decode()


def is_svid(pem, spiffe_id):
    text = certificate(pem)
    sans = re.search(r"Subject Alternative Name:.*\n\s*(.*)", text)
    equal(sans and sans.group(1).strip(), f"URI:{spiffe_id}", "subject alternative names")
    check(re.search(r"Basic Constraints: critical\s+CA:FALSE", text), f"basic constraints: {text}")
    check(re.search(r"Key Usage: critical\s+Digital Signature\n", text), f"key usage: {text}")
    for purpose in ("TLS Web Server Authentication", "TLS Web Client Authentication"):
        check(purpose in text, f"{purpose} is missing")
    return text


@test
def attestation_gives_an_svid_that_verifies():
    d = server()
    spiffe_id = fresh("attest-1")
    csr, key = make_csr("attest-1")
    reply = attest(token_for(spiffe_id), csr)
    check(reply.status in (200, 201), repr(reply))
    equal(sorted(reply.json), ["bundle", "expires_at", "spiffe_id", "x509_svid"], "members")
    is_svid(reply.json["x509_svid"], spiffe_id)
    crt = d.write("attest-1.crt", reply.json["x509_svid"])
    bundle = d.write("attest-1.bundle", reply.json["bundle"])
    openssl("verify", "-CAfile", bundle, crt)
    equal(openssl("x509", "-noout", "-pubkey", "-in", crt), openssl("pkey", "-pubout", "-in", key), "public key")
    openssl("x509", "-noout", "-checkend", "3400", "-in", crt)
    try:
        openssl("x509", "-noout", "-checkend", "3700", "-in", crt)
        raise AssertionError("valid for more than an hour")
    except Failure:
        pass
    check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", reply.json["expires_at"]), repr(reply))


@test
def attestation_with_a_bare_public_key():
    spiffe_id = fresh("attest-2")
    key = server().path("attest-2.key")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    public = openssl("pkey", "-pubout", "-in", key).decode()
    reply = server().http("POST", "/v1/attest", {"join_token": token_for(spiffe_id), "public_key": public})
    check(reply.status in (200, 201), repr(reply))
    is_svid(reply.json["x509_svid"], spiffe_id)
    for name in ("public_key", "csr"):
        said = is_error(server().http("POST", "/v1/attest", {"join_token": token_for(spiffe_id), name: "x"}), 400, name)
        check(said["message"].startswith(f"{name}: neither a public key (-----BEGIN PUBLIC KEY-----) nor"), repr(said))


@test
def a_join_token_works_once():
    spiffe_id = fresh("once")
    token = token_for(spiffe_id)
    csr, _ = make_csr("once")
    check(attest(token, csr).status in (200, 201), "the first use")
    is_error(attest(token, csr), 401, "the second use")


@test
def of_many_who_present_a_token_at_once_one_gets_in():
    spiffe_id = fresh("race")
    token = token_for(spiffe_id)
    csr, _ = make_csr("race")
    statuses, lock, go = [], threading.Lock(), threading.Barrier(12)

    def try_it():
        go.wait()
        status = attest(token, csr).status
        with lock:
            statuses.append(status)

    threads = [threading.Thread(target=try_it) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(len([s for s in statuses if s in (200, 201)]), 1, f"how many got in ({statuses})")
    equal(len([s for s in statuses if s == 401]), 11, f"how many were refused ({statuses})")


@test
def tokens_that_are_no_good():
    csr, _ = make_csr("bad-token")
    spiffe_id = fresh("bad-token")
    other = Deployment(caller=None, config=LIMITS).start()
    other.register()
    foreign = token_for(AGENT, other)
    other.close()
    short = token_for(spiffe_id, ttl="1s")
    good = token_for(spiffe_id)
    time.sleep(2.2)
    for why, token in (("foreign", foreign), ("expired", short), ("empty", ""), ("upper case", good.upper()),
                       ("cut", good[:-1]), ("longer", good + "a"), ("spaced", " " + good), ("huge", "x" * 100000)):
        is_error(attest(token, csr), (400, 401), why)
    for why, body in (("number", {"join_token": 7, "csr": csr}), ("none", {"csr": csr}),
                      ("no key", {"join_token": good}), ("both keys", {"join_token": good, "csr": csr,
                                                                        "public_key": "x"})):
        is_error(server().http("POST", "/v1/attest", body), (400, 401), why)


@test
def hostile_requests_for_certificates():
    spiffe_id = fresh("hostile")
    good, _ = make_csr("hostile-good")
    der = base64.b64decode("".join(good.splitlines()[1:-1]))
    flipped = der[:-3] + bytes([der[-3] ^ 1]) + der[-2:]

    def pem(data, kind="CERTIFICATE REQUEST"):
        return f"-----BEGIN {kind}-----\n" + base64.encodebytes(data).decode() + f"-----END {kind}-----\n"

    must_refuse = (
        ("RSA 1024", make_csr("h1", key=("rsa:1024",))[0]),
        ("P-192", make_csr("h2", key=("ec", "-pkeyopt", "ec_paramgen_curve:prime192v1"))[0]),
        ("explicit parameters", make_csr("h3", key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt",
                                                    "ec_param_enc:explicit"))[0]),
        ("a wrong signature", pem(flipped)), ("bytes behind it", pem(der + b"\0")), ("cut", pem(der[:-10])),
        ("another kind", pem(der, "CERTIFICATE")), ("no PEM", "hello"), ("empty", ""),
        ("two of them", good + good), ("huge", "x" * 200000),
        ("a certificate", openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                                  "-keyout", server().path("h4.key"), "-subj", "/CN=x", "-days", "1").decode()))
    for why, csr in must_refuse:
        is_error(attest(token_for(spiffe_id), csr), (400, 413), why)
    for why, extension in (("another's SAN", f"subjectAltName=URI:{AGENT}"),
                           ("more SANs", f"subjectAltName=URI:{spiffe_id},URI:{AGENT},DNS:evil.example,IP:10.0.0.1"),
                           ("a DNS name", "subjectAltName=DNS:example.org"),
                           ("a CA", "basicConstraints=critical,CA:TRUE"), ("signing", "keyUsage=keyCertSign,cRLSign"),
                           ("another trust domain", "subjectAltName=URI:spiffe://evil.example/x")):
        reply = attest(token_for(spiffe_id), make_csr("h5", "-addext", extension)[0])
        # What it asks for is not a right: refused, or left out.
        if reply.status in (200, 201):
            is_svid(reply.json["x509_svid"], spiffe_id)
            check("evil" not in certificate(reply.json["x509_svid"]), f"{why}: in the certificate")
        else:
            is_error(reply, 400, why)
    subject = make_csr("h6", subject="/O=Evil/CN=admin")[0]
    reply = attest(token_for(spiffe_id), subject)
    if reply.status in (200, 201):
        check("Evil" not in is_svid(reply.json["x509_svid"], spiffe_id), "the subject was taken over")


@test
def renewal_over_mtls():
    d, spiffe_id = server(), fresh("renew")
    cert = enrol(spiffe_id)
    csr, key = make_csr("renew-2")
    reply = d.https("POST", "/v1/svid/x509", {"csr": csr}, cert=cert)
    check(reply.status in (200, 201), repr(reply))
    equal(reply.json["spiffe_id"], spiffe_id, "spiffe_id")
    is_svid(reply.json["x509_svid"], spiffe_id)
    again = (d.write("renew-2.crt", reply.json["x509_svid"]), key)
    csr, _ = make_csr("renew-3")
    check(d.https("POST", "/v1/svid/x509", {"csr": csr}, cert=again).status in (200, 201), "with the renewed one")
    is_error(d.https("POST", "/v1/svid/x509", {"csr": csr}), 401, "without a certificate")
    is_error(d.http("POST", "/v1/svid/x509", {"csr": csr}), 401, "in plain HTTP")


def b64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def unb64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def verify_es256(token, jwks):
    head, payload, signature = token.split(".")
    header = json.loads(b64(head))
    key = next(k for k in jwks["keys"] if k.get("kid") == header["kid"])
    equal((key["kty"], key["crv"], header["alg"]), ("EC", "P-256", "ES256"), "key and algorithm")
    d = server()
    der = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200" "04") + b64(key["x"]) + b64(key["y"])
    public, sig = d.path("jwt.der"), d.path("jwt.sig")
    raw = b64(signature)
    equal(len(raw), 64, "bytes of the signature")

    def integer(b):
        b = b.lstrip(b"\0") or b"\0"
        b = b"\0" + b if b[0] & 0x80 else b
        return b"\x02" + bytes([len(b)]) + b

    body = integer(raw[:32]) + integer(raw[32:])
    for path, data in ((public, der), (sig, b"\x30" + bytes([len(body)]) + body)):
        with open(path, "wb") as f:
            f.write(data)
    openssl("dgst", "-sha256", "-verify", public, "-keyform", "DER", "-signature", sig,
            data=f"{head}.{payload}".encode())
    return header, json.loads(b64(payload))


def jwt(cert, *audience, d=None):
    reply = (d or server()).https("POST", "/v1/svid/jwt", {"audience": list(audience)}, cert=cert)
    check(reply.status in (200, 201), f"JWT-SVID: {reply}")
    return reply.json["svid"]


@test
def jwt_svids_verify_with_the_published_keys():
    d, spiffe_id = server(), fresh("jwt-1")
    reply = d.https("POST", "/v1/svid/jwt", {"audience": ["https://api.example", "b"]}, cert=enrol(spiffe_id))
    check(reply.status in (200, 201), repr(reply))
    equal(sorted(reply.json), ["expires_at", "spiffe_id", "svid"], "members")
    jwks = d.http("GET", "/keys").json
    check(all("d" not in k for k in jwks["keys"]), "a private key is published")
    header, claims = verify_es256(reply.json["svid"], jwks)
    equal(header.get("typ", "JWT"), "JWT", "typ")
    equal((claims["sub"], claims["aud"]), (spiffe_id, ["https://api.example", "b"]), "sub and aud")
    check(isinstance(claims["exp"], int) and 200 < claims["exp"] - time.time() < 310, f"exp: {claims}")
    for why, body in (("none", {}), ("empty", {"audience": []}), ("empty text", {"audience": [""]}),
                      ("text", {"audience": "x"}), ("number", {"audience": [1]}), ("long", {"audience": ["x" * 9000]}),
                      ("many", {"audience": [str(n) for n in range(1000)]})):
        is_error(d.https("POST", "/v1/svid/jwt", body, cert=enrol(spiffe_id)), (400, 413), f"audience: {why}")


@test
def a_bearer_token_asks_about_itself_and_mints_nothing():
    d, spiffe_id = server(), fresh("bearer")
    cert = enrol(spiffe_id)
    bearer = {"Authorization": "Bearer " + jwt(cert, SERVER_ID)}
    reply = d.evaluate(agent=spiffe_id, headers=bearer)
    equal((reply.status, reply.json["decision"]), (200, True), f"asking about itself ({reply})")
    reply = d.evaluate(agent=AGENT, headers=bearer)
    equal((reply.status, reply.json["decision"], reply.json["context"]["reason"]),
          (200, False, "subject_mismatch"), "asking about another")
    csr, _ = make_csr("bearer-2")
    for path, body in (("/v1/svid/x509", {"csr": csr}), ("/v1/svid/jwt", {"audience": ["x"]})):
        is_error(d.http("POST", path, body, bearer), (401, 403), f"{path} with a bearer token")
        is_error(d.https("POST", path, body, bearer), (401, 403), f"{path} with a bearer token over TLS")


@test
def forged_bearer_tokens_are_refused():
    d, spiffe_id = server(), fresh("forge")
    cert = enrol(spiffe_id)
    good = jwt(cert, SERVER_ID)
    head, payload, signature = good.split(".")
    claims, header = json.loads(b64(payload)), json.loads(b64(head))

    def part(value):
        return unb64(json.dumps(value).encode())

    key = d.http("GET", "/keys").body
    mac = unb64(hmac.new(key, f"{part(dict(header, alg='HS256'))}.{payload}".encode(), hashlib.sha256).digest())
    last = signature[:-1] + ("A" if signature[-1] != "A" else "Q")
    for why, token in (
            ("another audience", jwt(cert, "https://api.example")),
            ("alg none", f"{part({'alg': 'none'})}.{payload}."), ("no signature", f"{head}.{payload}."),
            ("HS256", f"{part(dict(header, alg='HS256'))}.{payload}.{mac}"),
            ("another subject", f"{head}.{part(dict(claims, sub=AGENT))}.{signature}"),
            ("a later end", f"{head}.{part(dict(claims, exp=claims['exp'] + 9999))}.{signature}"),
            ("a flipped signature", f"{head}.{payload}.{'B' if signature[0] != 'B' else 'C'}{signature[1:]}"),
            ("stray bits", f"{head}.{payload}.{last}"), ("a fourth part", good + ".x"), ("padding", good + "="),
            ("a space", good.replace(".", ". ", 1)),
            ("another kid", f"{part(dict(header, kid='x'))}.{payload}.{signature}")):
        reply = d.evaluate(agent=spiffe_id, headers={"Authorization": "Bearer " + token})
        is_error(reply, (400, 401), why)
    equal(d.evaluate(agent=spiffe_id, headers={"Authorization": "Bearer " + good}).status, 200, "the good one")


@test
def decisions_over_mtls():
    d, spiffe_id = server(), fresh("mtls")
    cert = enrol(spiffe_id)
    reply = d.https("POST", "/access/v1/evaluation", call(agent=spiffe_id), cert=cert)
    equal((reply.status, reply.json["decision"]), (200, True), f"about itself ({reply})")
    reply = d.https("POST", "/access/v1/evaluation", call(agent=AGENT), cert=cert)
    equal(reply.json["context"]["reason"], "subject_mismatch", f"about another ({reply})")
    is_error(d.https("POST", "/access/v1/evaluation", call(agent=spiffe_id)), 401, "without a certificate")


@test
def the_server_proves_itself():
    d = server()
    c = http.client.HTTPSConnection("127.0.0.1", d.tls_port, timeout=10, context=d.tls_context())
    c.connect()
    names = c.sock.getpeercert()["subjectAltName"]
    c.close()
    equal([v for k, v in names if k == "URI"], [SERVER_ID], "URI of the server's certificate")
    check(("DNS", "localhost") in names and ("IP Address", "127.0.0.1") in names, f"names: {names}")
    equal(openssl("x509", "-noout", "-pubkey", "-in", os.path.join(d.data, "bundle.pem"))[:10], b"-----BEGIN", "bundle")


@test
def certificates_of_others_are_refused():
    d = server()
    ours = fresh("imitated")
    key, crt = d.path("evil.key"), d.path("evil.crt")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", crt,
            "-subj", "/CN=x", "-days", "1", "-addext", f"subjectAltName=URI:{ours}")
    enrolled = enrol(ours)
    # An SVID is no authority: what it signs is nobody.
    forged, fkey = d.path("forged.crt"), d.path("forged.key")
    request = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", fkey,
                      "-subj", "/CN=x")
    ext = d.write("forged.ext", f"subjectAltName=URI:{AGENT}\nkeyUsage=critical,digitalSignature\n"
                                "basicConstraints=critical,CA:FALSE\n")
    leaf = openssl("x509", "-req", "-CA", enrolled[0], "-CAkey", enrolled[1], "-CAcreateserial", "-days", "1", "-extfile",
                   ext, data=request)
    with open(forged, "wb") as f, open(enrolled[0], "rb") as parent:
        f.write(leaf + parent.read())
    for why, cert in (("self-signed", (crt, key)), ("signed by an SVID", (forged, fkey))):
        try:
            reply = d.https("POST", "/access/v1/evaluation", call(agent=ours), cert=cert)
        except (ssl.SSLError, ConnectionError, http.client.HTTPException):
            continue
        is_error(reply, (401, 403), why)


@test
def suspended_agents_get_nothing_and_come_back():
    d, spiffe_id = server(), fresh("suspend")
    cert = enrol(spiffe_id)
    token = token_for(spiffe_id)
    bearer = {"Authorization": "Bearer " + jwt(cert, SERVER_ID)}
    kept = http.client.HTTPSConnection("127.0.0.1", d.tls_port, timeout=10, context=d.tls_context(cert))
    kept.connect()
    reply = d.admin("POST", "/v1/agents/suspend", {"spiffe_id": spiffe_id, "reason": "test"})
    equal(reply.status, 200, f"suspend: {reply}")
    csr, _ = make_csr("suspend-2")
    is_error(d.https("POST", "/v1/svid/x509", {"csr": csr}, cert=cert), (401, 403), "a renewal")
    is_error(d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, cert=cert), (401, 403), "a JWT-SVID")
    is_error(attest(token, csr), (401, 403), "its join token")
    kept.request("POST", "/v1/svid/jwt", '{"audience":["x"]}', {"Content-Type": "application/json"})
    check(kept.getresponse().status in (401, 403), "an open connection still issues")
    kept.close()
    for how in ({"cert": cert}, {"headers": bearer}):
        reply = d.https("POST", "/access/v1/evaluation", call(agent=spiffe_id), **how)
        equal((reply.status, reply.json.get("decision"), reply.json.get("context", {}).get("reason")),
              (200, False, "agent_suspended"), f"a decision ({reply})")
    equal(d.admin("POST", "/v1/agents/resume", {"spiffe_id": spiffe_id}).status, 200, "resume")
    equal(d.evaluate(agent=spiffe_id, headers=bearer).json["decision"], True, "after the resume")
    equal(d.admin("POST", "/v1/agents/retire", {"spiffe_id": spiffe_id}).status, 200, "retire")
    is_error(d.admin("POST", "/v1/agents/resume", {"spiffe_id": spiffe_id}), 409, "resuming a retired one")
    is_error(d.admin("POST", "/v1/agents", {"spiffe_id": spiffe_id, "owner": "eve"}), 409, "the ID again")


@test
def attestation_is_rate_limited():
    d = Deployment(caller=None).start()
    d.register()
    csr, _ = make_csr("rate", d=d)
    statuses = [attest("wjt_" + "a" * 32, csr, d).status for _ in range(25)]
    check(429 in statuses, f"25 guesses in a row: {statuses}")
    check(set(statuses) <= {400, 401, 429}, f"statuses {statuses}")
    d.close()


@test
def what_is_open_to_all():
    d = server()
    bundle = d.http("GET", "/bundle").json
    check(bundle["keys"], "the bundle is empty")
    uses = {k["use"] for k in bundle["keys"]}
    equal(uses, {"x509-svid", "jwt-svid"}, "uses of keys in the bundle")
    check("spiffe_sequence" in bundle and "spiffe_refresh_hint" in bundle, repr(bundle)[:200])


@test
def the_command_line_fetches_svids():
    d, spiffe_id = server(), fresh("cli-svid")
    folder = d.path("cli-svid")
    os.makedirs(folder)
    reply = d.admin("POST", "/v1/agents/token", {"spiffe_id": spiffe_id}).json
    url = f"https://127.0.0.1:{d.tls_port}"
    d.writ("svid", "x509", "--join-token", reply["join_token"], "--server", url, "--fingerprint", "00" * 32, "--dir",
           folder, code=1)
    equal(os.listdir(folder), [], "files after a wrong fingerprint")
    d.writ("svid", "x509", "--join-token", reply["join_token"], "--server", url, "--fingerprint",
           reply["ca_fingerprint"], "--dir", folder, code=0)
    equal(sorted(os.listdir(folder)), ["bundle.pem", "key.pem", "svid.pem"], "files")
    equal(os.stat(os.path.join(folder, "key.pem")).st_mode & 0o777, 0o600, "mode of the key")
    with open(os.path.join(folder, "svid.pem"), encoding="ascii") as f:
        first = f.read()
    is_svid(first, spiffe_id)
    d.writ("svid", "x509", "--dir", folder, "--server", url, code=0)
    with open(os.path.join(folder, "svid.pem"), encoding="ascii") as f:
        check(f.read() != first, "the SVID was not renewed")
    token = d.writ("svid", "jwt", "--audience", SERVER_ID, "--dir", folder, "--server", url, code=0).stdout.strip()
    reply = d.evaluate(agent=spiffe_id, headers={"Authorization": "Bearer " + token})
    equal(reply.status, 200, f"status with the token ({reply})")


@test
def an_entry_may_ask_for_the_longest_life_it_is_allowed():
    agent, days = f"spiffe://{TRUST_DOMAIN}/agent/long", 1
    d = server()
    d.writ("agent", "register", agent, "--owner", "bob", "--ttl", f"{days + 1}d", code=1)  # not cut in silence
    d.writ("agent", "register", agent, "--owner", "bob", "--ttl", f"{days}d", code=0)
    token = json.loads(d.writ("agent", "token", agent, "--json", code=0).stdout)["join_token"]
    folder = d.path("long")
    d.writ("svid", "x509", "--join-token", token, "--server", f"http://127.0.0.1:{d.port}", "--dir", folder, code=0)
    openssl("x509", "-in", os.path.join(folder, "svid.pem"), "-noout", "-checkend", str(days * 86400 - 600))


@test
def the_command_line_registers_and_shows():
    d = server()
    spiffe_id = f"spiffe://{TRUST_DOMAIN}/agent/cli-1"
    d.writ("agent", "register", spiffe_id, "--owner", "bob", "--set", "team=ops", "--set", "tier=2", "--selector",
           "unix:uid:1000", "--ttl", "30m", "--expires", "2099-01-31", code=0)
    shown = d.writ("agent", "show", spiffe_id, code=0).stdout
    for word in (spiffe_id, "bob", "team", "ops", "unix:uid:1000"):
        check(word in shown, f"'{word}' is missing in: {shown}")
    check(spiffe_id in d.writ("agent", "list", code=0).stdout, "agent list")
    token = re.search(r"wjt_[a-z0-9]{32}", d.writ("agent", "token", spiffe_id, code=0).stdout)
    check(token, "no token on stdout")
    csr, _ = make_csr("cli-1")
    check(attest(token.group(0), csr).status in (200, 201), "attesting with it")
    d.writ("agent", "suspend", spiffe_id, code=0)
    check("suspended" in d.writ("agent", "show", spiffe_id, code=0).stdout, "show says suspended")
    d.writ("agent", "register", spiffe_id, "--owner", "bob", code=1)
    d.writ("agent", "register", code=2)
    d.writ("agent", "show", f"spiffe://{TRUST_DOMAIN}/nobody", code=1)


if __name__ == "__main__":
    main()
