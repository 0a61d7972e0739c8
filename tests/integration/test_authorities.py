#!/usr/bin/env -S python3 -B
"""Authorities: rotation by hand, taint, revocation, restarts, keys at rest, an upstream CA."""
import base64
import glob
import http.client
import json
import os
import random
import re
import ssl
import threading
import time

from harness import (TRUST_DOMAIN, Deployment, Failure, check, equal, exchange, is_error, join_token, leaves, main,
                     openssl, test)

LIMITS = "limits = { attest_rate = 1000, attest_burst = 1000 }\n"


def deployment(config=""):
    return Deployment(caller=None, config=LIMITS + config)


def enrol(d, name):
    """(certificate file, key file) of a new X.509-SVID."""
    spiffe_id = f"spiffe://{TRUST_DOMAIN}/agent/{name}"
    d.register(spiffe_id)
    token = join_token(d.admin("POST", "/v1/agents/token", {"spiffe_id": spiffe_id}))
    key = d.path(name + ".key")
    csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                  "-subj", "/CN=x").decode()
    reply = d.http("POST", "/v1/attest", {"join_token": token, "csr": csr})
    check(reply.status in (200, 201), f"attestation: {reply}")
    return d.write(name + ".crt", reply.json["x509_svid"]), key


def renew(d, cert, name):
    csr = openssl("req", "-new", "-key", cert[1], "-subj", "/CN=x").decode()
    reply = d.https("POST", "/v1/svid/x509", {"csr": csr}, cert=cert)
    equal(reply.status, 200, f"renewal: {reply}")
    return d.write(name + ".crt", reply.json["x509_svid"]), cert[1]


def jwt(d, cert):
    reply = d.https("POST", "/v1/svid/jwt", {"audience": [f"spiffe://{TRUST_DOMAIN}/writ/server"]}, cert=cert)
    equal(reply.status, 200, f"JWT-SVID: {reply}")
    return reply.json["svid"]


def kid_of(token):
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]


def with_token(d, token):
    """What an endpoint for agents answers to this bearer token."""
    return d.http("POST", "/access/v1/search/action", {}, {"Authorization": f"Bearer {token}"}).status


def authorities(d):
    reply = d.admin("GET", "/v1/authorities")
    equal(reply.status, 200, repr(reply))
    return reply.json


def states(d, kind):
    return [a["state"] for a in authorities(d)["authorities"] if a["kind"] == kind]


def one(d, kind, state):
    found = [a["id"] for a in authorities(d)["authorities"] if a["kind"] == kind and a["state"] == state]
    equal(len(found), 1, f"{kind} authorities that are {state}")
    return found[0]


def act(d, verb, status=200, **body):
    reply = d.admin("POST", f"/v1/authorities/{verb}", body)
    equal(reply.status, status, f"{verb} {body}: {reply}")
    return reply.json


def bundle(d):
    return d.http("GET", "/bundle").json


def authority_of(certificate):
    text = openssl("x509", "-noout", "-text", "-in", certificate).decode()
    found = re.search(r"Authority Key Identifier:\s*(?:keyid:)?([0-9A-F:]+)", text)
    return found.group(1).replace(":", "").lower()


def key_files(d):
    return sorted(os.path.basename(p) for p in glob.glob(os.path.join(d.data, "keys", "*")))


def refused(d, cert):
    """Nobody with this certificate gets in: at the handshake, or with 401."""
    try:
        status = d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, cert=cert).status
    except (ssl.SSLError, ConnectionError, http.client.HTTPException):
        return True
    return status == 401


def fails_to_start(d, saying):
    try:
        d.start()
    except Failure:
        last = d.stderr().strip().splitlines()[-1]
        check(saying in last, f"{last!r} does not say {saying!r}")
    else:
        raise Failure(f"it started; expected {saying!r}")


def rotate(d, kind):
    new = act(d, "prepare", 201, kind=kind)["id"]
    old = one(d, kind, "active")
    act(d, "activate", id=new, force=True)
    return old, new


@test
def an_x509_authority_from_prepared_to_revoked():
    d = deployment().start()
    cert = enrol(d, "x")
    first = one(d, "x509", "active")
    equal(authority_of(cert[0]), first, "what signed the first SVID")
    before = bundle(d)
    new = act(d, "prepare", 201, kind="x509")
    equal((new["kind"], new["state"]), ("x509", "prepared"), "what was prepared")
    after = bundle(d)
    check(after["spiffe_sequence"] > before["spiffe_sequence"], "the sequence does not grow")
    equal(len([k for k in after["keys"] if k["use"] == "x509-svid"]), 2, "X.509 authorities in the bundle")
    equal(authority_of(renew(d, cert, "x1")[0]), first, "a prepared one signs nothing")
    with open(os.path.join(d.data, "bundle.pem"), encoding="utf-8") as f:  # as it was: the first stands before the new one
        d.write("stale.pem", f.read().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    is_error(d.admin("POST", "/v1/authorities/prepare", {"kind": "x509"}), 409, "a second one")

    error = is_error(d.admin("POST", "/v1/authorities/activate", {"id": new["id"]}), 409, "too early")
    equal(error["code"], "authority_not_propagated", "code")
    act(d, "activate", id=new["id"], force=True)
    equal(states(d, "x509"), ["old", "active"], "states")
    second = renew(d, cert, "x2")  # the old SVID still opens the door
    equal(authority_of(second[0]), new["id"], "what signs now")
    server = ssl.get_server_certificate(("127.0.0.1", d.tls_port))
    equal(authority_of(d.write("server.crt", server)), new["id"], "writ's own certificate")
    openssl("verify", "-CAfile", os.path.join(d.data, "bundle.pem"), second[0])
    openssl("verify", "-CAfile", os.path.join(d.data, "bundle.pem"), cert[0])
    check("x509.key" not in key_files(d), "the old key is still there")

    for verb in ("taint", "revoke"):
        is_error(d.admin("POST", f"/v1/authorities/{verb}", {"id": new["id"]}), 409, f"{verb} the active one")
    equal(authorities(d)["reissue"], 0, "reissue before a taint")
    act(d, "taint", id=first)
    check(authorities(d)["reissue"] > 0, "a taint does not say that SVIDs must be issued anew")
    equal(refused(d, cert), False, "a tainted authority still verifies")

    # A connection that is open stops working with the revocation, too.
    c = http.client.HTTPSConnection("127.0.0.1", d.tls_port, context=d.tls_context(cert), timeout=15)
    body = {"audience": ["x"]}
    equal(exchange(c, "POST", "/v1/svid/jwt", body).status, 200, "before the revocation")
    act(d, "revoke", id=first)
    equal(exchange(c, "POST", "/v1/svid/jwt", body).status, 401, "after the revocation")
    c.close()
    check(refused(d, cert), "an SVID of a revoked authority opens the door")
    equal(refused(d, second), False, "the new SVID")
    equal(states(d, "x509"), ["active"], "states at the end")
    equal([a["state"] for a in authorities(d)["left"]], ["revoked"], "those that left")
    is_error(d.admin("POST", "/v1/authorities/activate", {"id": first}), 404, "bringing it back")
    said = d.writ("status", "--server", f"https://127.0.0.1:{d.tls_port}", "--bundle", "stale.pem", code=1).stderr
    check("if its authorities were replaced, take bundle.pem" in said and
          "no authority in the bundle of its trust domain signed it" in said, f"an old bundle: {said}")
    d.restart()
    equal(one(d, "x509", "active"), new["id"], "after a restart")
    equal(authority_of(renew(d, second, "x3")[0]), new["id"], "what signs after a restart")
    d.close()


@test
def a_jwt_key_from_prepared_to_revoked():
    d = deployment().start()
    cert = enrol(d, "j")
    old = jwt(d, cert)
    first = one(d, "jwt", "active")
    equal(kid_of(old), first, "kid")
    new = act(d, "prepare", 201, kind="jwt")["id"]
    equal([k["kid"] for k in d.http("GET", "/keys").json["keys"]], [first, new], "/keys")
    equal(kid_of(jwt(d, cert)), first, "a prepared key signs nothing")
    act(d, "activate", id=new, force=True)
    fresh = jwt(d, cert)
    equal(kid_of(fresh), new, "what signs now")
    known = with_token(d, fresh)
    check(known not in (401,), f"a token of the new key: {known}")
    equal(with_token(d, old), known, "a token of the old key")
    act(d, "revoke", id=first)
    equal(with_token(d, old), 401, "a token of a revoked key, also if it was verified before")
    equal(with_token(d, fresh), known, "a token of the new key")
    equal([k["kid"] for k in d.http("GET", "/keys").json["keys"]], [new], "/keys at the end")
    equal(states(d, "x509"), ["active"], "the X.509 authorities have nothing to do with it")
    d.close()


@test
def a_restart_in_each_state_changes_nothing():
    d = deployment().start()
    cert = enrol(d, "r")
    for step in ("prepare", "activate", "taint", "revoke"):
        for kind in ("x509", "jwt"):
            if step == "prepare":
                act(d, "prepare", 201, kind=kind)
            elif step == "activate":
                act(d, "activate", id=one(d, kind, "prepared"), force=True)
            else:
                act(d, step, id=one(d, kind, {"taint": "old", "revoke": "tainted"}[step]))
        before = authorities(d), bundle(d), key_files(d)
        cert = renew(d, cert, "r-" + step)
        if step == "taint":
            d.kill()
            d.start()
        else:
            d.restart()
        equal((authorities(d), bundle(d), key_files(d)), before, f"after a restart: {step}")
        cert = renew(d, cert, "r2-" + step)
        equal(with_token(d, jwt(d, cert)) != 401, True, f"tokens after {step}")
    check(not {"x509.key", "x509.pem", "jwt.key"} & set(key_files(d)), f"first keys are left: {key_files(d)}")
    d.close()


@test
def killed_in_the_middle_of_a_rotation():
    """kill -9 at random moments of an endless rotation: the next start has one of each that signs."""
    d = deployment().start()
    cert = enrol(d, "k")
    known = {}
    for round_ in range(12):
        stop = threading.Event()

        def rotate_on():
            while not stop.is_set():
                try:
                    for kind in ("x509", "jwt"):
                        for a in d.admin("GET", "/v1/authorities").json["authorities"]:
                            verb = {"prepared": "activate", "old": "taint", "tainted": "revoke"}.get(a["state"])
                            if verb and a["kind"] == kind:
                                d.admin("POST", f"/v1/authorities/{verb}",
                                        dict({"id": a["id"]}, **({"force": True} if verb == "activate" else {})))
                        d.admin("POST", "/v1/authorities/prepare", {"kind": kind})
                except (OSError, http.client.HTTPException, Failure):
                    return

        worker = threading.Thread(target=rotate_on)
        worker.start()
        time.sleep(random.uniform(0.02, 0.4))
        d.kill()
        stop.set()
        worker.join()
        d.start()
        for key in bundle(d)["keys"]:
            if key["use"] == "jwt-svid":
                equal(known.setdefault(key["kid"], key["x"]), key["x"], f"the key of {key['kid']}")
        for kind in ("x509", "jwt"):
            equal(states(d, kind).count("active"), 1, f"active {kind} authorities in round {round_}")
        cert = enrol(d, f"k{round_}") if refused(d, cert) else renew(d, cert, f"k{round_}")
        check(with_token(d, jwt(d, cert)) != 401, f"a token in round {round_}")
    check(len(known) > 3, f"hardly anything was rotated: {known}")
    d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)
    d.close()


@test
def what_stands_for_nothing_is_swept_away():
    d = deployment().start()
    d.stop()
    keys = os.path.join(d.data, "keys")
    for name in ("x509-" + "0" * 40 + ".key", "jwt-AAAA.key", ".jwt-AAAA.key.0123456789abcdef", "note.txt"):
        with open(os.path.join(keys, name), "w", encoding="utf-8") as f:
            os.fchmod(f.fileno(), 0o600)
            f.write("left by a stop")
    d.start()
    equal(sorted(os.listdir(keys)), ["jwt.key", "log.key", "note.txt", "storage.key", "x509.key", "x509.pem"], "keys/")
    d.close()


@test
def a_lost_key_is_a_clear_refusal():
    d = deployment().start()
    _, new = rotate(d, "x509")
    d.stop()
    file = os.path.join(d.data, "keys", f"x509-{new}.key")
    with open(file, "rb") as f:
        kept = f.read()

    # All of them: none is made anew beside a log that has a key already.
    os.rename(os.path.join(d.data, "keys"), d.path("kept"))
    fails_to_start(d, "keys/ holds no keys: restore it")
    equal(os.listdir(os.path.join(d.data, "keys")), [], "keys/ after a refusal")
    os.rename(d.path("kept"), os.path.join(d.data, "keys"))

    os.unlink(file)
    os.close(os.open(os.path.join(d.data, "keys", "x509-00.key"), os.O_CREAT, 0o600))
    fails_to_start(d, "restore it from a backup")
    with open(file, "wb") as f:
        os.fchmod(f.fileno(), 0o600)
        f.write(kept[:120] + (b"A" if kept[120:121] != b"A" else b"B") + kept[121:])
    fails_to_start(d, "does not open")
    with open(file, "wb") as f:
        f.write(kept)
    d.start()
    equal(one(d, "x509", "active"), new, "the active one")
    d.close()


@test
def every_act_is_a_record():
    d = deployment().start()
    old, new = rotate(d, "jwt")
    act(d, "taint", id=old)
    act(d, "revoke", id=old)
    is_error(d.admin("POST", "/v1/authorities/revoke", {"id": new}), 409, "the active one")
    found = [(v["act"], v["authority"], v["use"], v["outcome"]) for _, v in leaves(d.export()).values()
             if v["kind"] == "key.rotate"]
    equal(found, [("prepare", new, "jwt", "done"), ("activate", new, "jwt", "done"), ("taint", old, "jwt", "done"),
                  ("revoke", old, "jwt", "done")], "records")
    refusals = [v for _, v in leaves(d.export("again.jsonl")).values() if v["kind"] == "request.refused"]
    equal([v["reason"] for v in refusals], ["authority_state"], "refusals")
    d.close()


@test
def only_admins_and_only_sense():
    d = deployment().start()
    cert = enrol(d, "a")
    for path, body in (("prepare", {"kind": "x509"}), ("revoke", {"id": one(d, "jwt", "active")})):
        reply = d.operators("POST", f"/v1/authorities/{path}", body)
        is_error(reply, 401, f"{path} by nobody")
        is_error(d.https("POST", f"/v1/authorities/{path}", body, cert=cert), 404, f"{path} at the agents' door")
    for path, body, status in (
            ("prepare", {"kind": "rsa"}, 400), ("prepare", {}, 400), ("prepare", {"kind": 1}, 400),
            ("prepare", {"kind": "x509", "now": True}, 400), ("activate", {"id": "x", "force": 1}, 400),
            ("activate", {"id": "x"}, 404), ("taint", {"id": ""}, 404), ("taint", {"id": "x", "force": True}, 400),
            ("revoke", {"id": "y" * 5000}, 404), ("revoke", [], 400), ("retire", {"id": "x"}, 404)):
        is_error(d.admin("POST", f"/v1/authorities/{path}", body), status, f"{path} {str(body)[:50]}")
    is_error(d.admin("GET", "/v1/authorities?state=old"), 400, "an unknown parameter")
    equal(authorities(d)["left"], [], "nothing happened")
    d.close()


@test
def the_command_line():
    d = deployment().start()
    first = one(d, "x509", "active")
    shown = d.writ("authority", "show", code=0).stdout
    check(re.search(rf"^x509 +active +{first}", shown, re.M) and "next by itself (jwt)" in shown, shown)
    prepared = d.writ("authority", "prepare", "x509", code=0).stdout
    new = re.fullmatch(r"x509 authority ([0-9a-f]{40}) is prepared\n", prepared).group(1)
    refusal = d.writ("authority", "activate", new, code=1).stderr
    check("or force it" in refusal, refusal)
    check("is active" in d.writ("authority", "activate", "--force", new, code=0).stdout, "activate")
    check("is tainted" in d.writ("authority", "taint", first, code=0).stdout, "taint")
    equal(json.loads(d.writ("authority", "revoke", first, "--json", code=0).stdout)["state"], "revoked", "--json")
    check(re.search(rf"^x509 +revoked +{first}", d.writ("authority", "show", code=0).stdout, re.M), "show at the end")
    equal(json.loads(d.writ("authority", "show", "--json", code=0).stdout), authorities(d), "show --json")
    d.writ("authority", "prepare", "rsa", code=2)
    d.writ("authority", "activate", code=2)
    check("compromise" in d.writ("authority", "revoke", "--help", code=0).stdout, "--help")
    # first contact by the fingerprint of what signs now
    agent = f"spiffe://{TRUST_DOMAIN}/agent/cli"
    d.register(agent)
    reply = d.admin("POST", "/v1/agents/token", {"spiffe_id": agent})
    d.writ("svid", "x509", "--join-token", join_token(reply), "--server", f"https://127.0.0.1:{d.tls_port}",
           "--fingerprint", reply.json["ca_fingerprint"], "--dir", d.path("agent"), code=0)
    equal(authority_of(d.path("agent", "svid.pem")), new, "what signed the agent's SVID")
    d.close()


@test
def status_metrics_and_doctor_tell():
    d = deployment().start()
    ends = authorities(d)["authorities"][0]["expires_at"]
    status = d.admin("GET", "/v1/status").json["authorities"]
    equal(status["x509"]["expires_at"], ends, "status")
    check("next" in status["jwt"], repr(status))
    metrics = d.admin("GET", "/metrics").body.decode()
    for line in (r'writ_authority_expiry_timestamp_seconds\{kind="x509"\} \d{10}', r"writ_authorities 2",
                 r"writ_bundle_sequence \d+", r"writ_authority_rotation_ok 1"):
        check(re.search(f"^{line}$", metrics, re.M), f"{line} is not in the metrics")
    check("authority_overdue" not in repr(d.admin("GET", "/v1/doctor").json), "doctor")
    d.close()


# --- keys at rest ---------------------------------------------------------------------------

def key_file(d, name="at-rest", content=None):
    path = d.path(name)
    with open(path, "wb") as f:
        os.fchmod(f.fileno(), 0o600)
        f.write(content or os.urandom(32))
    return path


def plain_keys(d):
    found = []
    for name in key_files(d):
        with open(os.path.join(d.data, "keys", name), encoding="ascii", errors="replace") as f:
            text = f.read()
        if "BEGIN PRIVATE KEY" in text or "BEGIN WRIT STORAGE KEY" in text:
            found.append(name)
    return found


@test
def keys_are_encrypted_from_when_it_is_asked_for():
    d = deployment().start()
    cert = enrol(d, "e")
    rotate(d, "jwt")
    equal(plain_keys(d), ["log.key", "storage.key", "x509.key"], "plain before")
    before = authorities(d)
    d.stop()
    key_file(d)
    d.write("writ.lua", d.config + 'keys = { encrypt = "file:at-rest" }\n')
    d.start()
    equal(plain_keys(d), [], "plain after")
    equal(authorities(d), before, "authorities")
    cert = renew(d, cert, "e1")
    rotate(d, "x509")
    renew(d, cert, "e2")
    d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)
    for config, saying in ((d.config, "keys.encrypt is not set"),
                           (d.config + 'keys = { encrypt = "file:other" }\n', "is not the key file"),
                           (d.config + 'keys = { encrypt = "file:absent" }\n', "cannot read"),
                           (d.config + 'keys = { encrypt = "credential:writ" }\n', "CREDENTIALS_DIRECTORY"),
                           (d.config + 'keys = { encrypt = "aes" }\n', "expected \"file:PATH\"")):
        key_file(d, "other")
        d.stop()
        d.write("writ.lua", config)
        fails_to_start(d, saying)
    # The same bytes as a credential of systemd.
    os.mkdir(d.path("credentials"))
    os.rename(d.path("at-rest"), d.path("credentials", "writ"))
    d.write("writ.lua", d.config + 'keys = { encrypt = "credential:writ" }\n')
    d.start(env={"CREDENTIALS_DIRECTORY": d.path("credentials")})
    equal(plain_keys(d), [], "plain at the end")
    d.close()


# --- an upstream ----------------------------------------------------------------------------

def organisation(d):
    """A root and an issuing CA below it, by openssl alone."""
    def path(name):
        return d.path("org-" + name)
    for name in ("root", "ca"):
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", path(name + ".key"))
        os.chmod(path(name + ".key"), 0o600)
    openssl("req", "-x509", "-new", "-key", path("root.key"), "-subj", "/O=Org/CN=Root", "-days", "90",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-out", path("root.pem"))
    csr = openssl("req", "-new", "-key", path("ca.key"), "-subj", "/O=Org/CN=Issuing")
    with open(path("ext"), "w", encoding="ascii") as f:
        f.write("basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign,cRLSign\n"
                "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
    pem = openssl("x509", "-req", "-CA", path("root.pem"), "-CAkey", path("root.key"), "-CAcreateserial", "-days",
                  "60", "-extfile", path("ext"), data=csr)
    with open(path("ca.pem"), "wb") as f:
        f.write(pem)
    return ('authority = { upstream = { certificate = "org-ca.pem", key = "org-ca.key", '
            'bundle = "org-root.pem" } }\n')


def blocks(text):
    return re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", text, re.S)


@test
def an_upstream_signs_from_the_first_start():
    d = deployment()
    d.config += organisation(d)
    d.write("writ.lua", d.config)
    d.start()
    with open(d.path("org-root.pem"), encoding="ascii") as f:
        root = f.read()
    with open(os.path.join(d.data, "bundle.pem"), encoding="ascii") as f:
        equal("".join(f.read().split()), "".join(root.split()), "bundle.pem is the organisation's root")
    equal(states(d, "x509"), ["active"], "states")
    cert = enrol(d, "u")
    with open(cert[0], encoding="ascii") as f:
        chain = blocks(f.read())
    equal(len(chain), 3, "certificates of the SVID: leaf, our authority, the issuing CA")
    d.write("u.leaf", chain[0])
    d.write("u.above", "".join(chain[1:]))
    openssl("verify", "-x509_strict", "-CAfile", d.path("org-root.pem"), "-untrusted", d.path("u.above"),
            d.path("u.leaf"))
    cert = renew(d, cert, "u1")  # both sides present their chains
    # A client that knows the root only, by first contact.
    agent = f"spiffe://{TRUST_DOMAIN}/agent/cli"
    d.register(agent)
    reply = d.admin("POST", "/v1/agents/token", {"spiffe_id": agent})
    d.writ("svid", "x509", "--join-token", join_token(reply), "--server", f"https://127.0.0.1:{d.tls_port}",
           "--fingerprint", reply.json["ca_fingerprint"], "--dir", d.path("agent"), code=0)
    d.writ("svid", "x509", "--server", f"https://127.0.0.1:{d.tls_port}", "--dir", d.path("agent"), code=0)
    d.writ("svid", "jwt", "--audience", "x", "--server", f"https://127.0.0.1:{d.tls_port}", "--dir", d.path("agent"),
           code=0)
    was = cert
    old, new = rotate(d, "x509")
    cert = renew(d, cert, "u2")
    equal(authority_of(cert[0]), new, "what signs after a rotation")
    equal(refused(d, was), False, "an SVID of the old authority")
    act(d, "revoke", id=old)
    # The root stays, but no chain leads through what was revoked.
    check(refused(d, was), "an SVID of a revoked authority opens the door")
    with open(os.path.join(d.data, "bundle.pem"), encoding="ascii") as f:
        equal(len(blocks(f.read())), 1, "roots after a rotation")
    d.restart()
    check(refused(d, was), "an SVID of a revoked authority opens the door after a restart")
    renew(d, cert, "u3")
    d.close()


@test
def an_upstream_can_come_later():
    d = deployment().start()
    cert = enrol(d, "l")
    first = one(d, "x509", "active")
    d.stop()
    d.write("writ.lua", d.config + organisation(d))
    d.start()
    # The next one is there at once; it takes over when verifiers know the root, or by hand.
    equal(states(d, "x509"), ["active", "prepared"], "states")
    equal(one(d, "x509", "active"), first, "what signs until then")
    act(d, "activate", id=one(d, "x509", "prepared"), force=True)
    renewed = renew(d, cert, "l1")
    with open(renewed[0], encoding="ascii") as f:
        equal(len(blocks(f.read())), 3, "certificates of the new SVID")
    equal(refused(d, cert), False, "the old SVID")
    d.close()


@test
def an_upstream_that_cannot_work_is_refused():
    d = deployment()
    good = organisation(d)
    for config, saying in ((good.replace("org-ca.key", "org-root.key"), "is not the key of"),
                           (good.replace("org-ca.pem", "org-none.pem"), "no such file"),
                           (good.replace("org-root.pem", "org-ca.key"), "holds no certificate"),
                           (good.replace(', bundle = "org-root.pem"', ""), "is missing"),
                           ("authority = { upstream = { name_constraints = true } }\n", "without an upstream")):
        d.write("writ.lua", d.config + config)
        fails_to_start(d, saying)
        check(not os.path.exists(os.path.join(d.data, "keys", "log.key")), "keys were left behind")
    d.close()


if __name__ == "__main__":
    main()
