#!/usr/bin/env -S python3 -B
"""Attestors against the real server: OIDC and Kubernetes tokens, x509pop, templates, and what must not get in."""
import base64
import hashlib
import json
import os
import time

from harness import (TRUST_DOMAIN, Deployment, call, check, equal, is_error, leaves, main, openssl, test)
from token_double import Key

TD = f"spiffe://{TRUST_DOMAIN}"
OIDC, CLUSTER = "https://ci.example/oidc", "https://kubernetes.default.svc.cluster.local"
AUDIENCE = f"{TD}/writ/server"
CI, POD = f"{TD}/ci/{{oidc.repository}}/run", f"{TD}/ns/{{k8s.ns}}/sa/{{k8s.sa}}/agent/{{name}}"
shared = None


def server():
    global shared
    if shared is None:
        d = shared = Deployment(caller=None, config=f"""
limits = {{ attest_rate = 10000, attest_burst = 10000 }}
attest = {{
  oidc = {{ {{ issuer = "{OIDC}", audience = "{AUDIENCE}", jwks = "file:oidc.json",
             claims = {{ "repository", "ref", "protected", "groups" }} }} }},
  k8s = {{ {{ cluster = "prod", issuer = "{CLUSTER}", audience = "writ", jwks = "file:k8s.json" }} }},
  x509pop = {{ "pop-ca.pem" }},
}}
""")
        d.keys = {kind: Key(d, kind, kind.lower()) for kind in ("RS256", "ES256", "EdDSA")}
        d.cluster = Key(d, "ES256", "cluster")
        d.stranger = Key(d, "ES256", "stranger")
        d.write("oidc.json", json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}, {"kty": "new"}] + [
            k.jwk(use="sig") for k in d.keys.values()] + [d.stranger.jwk(use="enc")]}))
        d.write("k8s.json", json.dumps({"keys": [d.cluster.jwk()]}))
        make_pki(d)
        d.start()
        d.register(CI, selectors=[f"oidc:iss:{OIDC}", "oidc:ref:main"], attributes={"team": "build"})
        d.register(f"{TD}/release", selectors=[f"oidc:iss:{OIDC}", "oidc:sub:release", "oidc:groups:ops"])
        d.register(POD, selectors=["k8s:cluster:prod", "k8s:sa:crm"], purpose="customer mail")
        d.register(f"{TD}/host", selectors=["x509pop:subject:cn:host-7"])
        d.key = d.path("agent.key")
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", d.key)
        d.public = openssl("pkey", "-in", d.key, "-pubout").decode()
    return shared


def make_pki(d):
    for name in ("pop-ca", "other-ca"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                d.path(name + ".key"), "-out", d.path(name + ".pem"), "-subj", f"/CN={name}", "-days", "2")
    for name, ca, key in (("host", "pop-ca", ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")),
                          ("rsa", "pop-ca", ("rsa:2048",)),
                          ("fake", "other-ca", ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"))):
        openssl("req", "-newkey", *key, "-nodes", "-keyout", d.path(name + ".key"), "-out", d.path(name + ".csr"),
                "-subj", "/O=Acme/CN=host-7")
        openssl("x509", "-req", "-in", d.path(name + ".csr"), "-CA", d.path(ca + ".pem"), "-CAkey",
                d.path(ca + ".key"), "-days", "1", "-out", d.path(name + ".pem"))


def ci_claims(**more):
    now = int(time.time())
    claims = {"iss": OIDC, "sub": "repo", "aud": AUDIENCE, "exp": now + 300, "iat": now, "repository": "shop",
              "ref": "main", "nonce": os.urandom(8).hex()}
    claims.update(more)
    return {k: v for k, v in claims.items() if v is not None}


def pod_claims(pod="crm-1", ns="prod", sa="crm", **more):
    now = int(time.time())
    claims = {"iss": CLUSTER, "aud": ["writ"], "exp": now + 3600, "iat": now, "nbf": now,
              "sub": f"system:serviceaccount:{ns}:{sa}",
              "kubernetes.io": {"namespace": ns, "serviceaccount": {"name": sa, "uid": "u1"},
                                "pod": {"name": pod, "uid": "u-" + pod}, "node": {"name": "n1"}}}
    claims.update(more)
    return claims


def attest(**body):
    return server().http("POST", "/v1/attest", dict({"public_key": server().public}, **body))


def got(reply, spiffe_id):
    equal(reply.status, 200, repr(reply))
    equal(reply.json["spiffe_id"], spiffe_id, "spiffe_id")
    text = openssl("x509", "-noout", "-text", data=reply.json["x509_svid"].encode()).decode()
    check(f"URI:{spiffe_id}\n" in text, text)
    return dict(reply.json, run=reply.header("writ-run"))


def refused(reply, status, code, why):
    equal(is_error(reply, status, why)["code"], code, why)


@test
def each_kind_of_key_attests_a_ci_job():
    for key in server().keys.values():
        got(attest(oidc=key.token(ci_claims(repository=key.kid))), f"{TD}/ci/{key.kid}/run")
    got(attest(oidc=server().keys["RS256"].token(ci_claims(sub="release", ref="x", groups=["dev", "ops"]))),
        f"{TD}/release")


@test
def an_instance_is_an_agent_of_its_own():
    d = server()
    token = d.cluster.token(pod_claims("crm-7"))
    first = got(attest(k8s_psat=token, name="bot"), f"{TD}/ns/prod/sa/crm/agent/bot")
    again = got(attest(k8s_psat=token, name="bot"), f"{TD}/ns/prod/sa/crm/agent/bot")  # a container that starts again
    check(first["run"] != again["run"] and first["run"].startswith("run_"), "each start is a run of its own")
    entry = json.loads(d.writ("agent", "show", first["spiffe_id"], "--json", code=0).stdout)
    equal((entry["definition"], entry["purpose"], entry["selectors"], entry["revision"]),
          (POD, "customer mail", [], 1), "the instance")
    got(attest(k8s_psat=token, name="other"), f"{TD}/ns/prod/sa/crm/agent/other")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": first["spiffe_id"]})
    refused(attest(k8s_psat=token, name="bot"), 403, "agent_suspended", "a suspended instance")
    d.admin("POST", "/v1/agents/retire", {"spiffe_id": first["spiffe_id"]})
    refused(attest(k8s_psat=token, name="bot"), 403, "agent_retired", "a retired instance")
    refused(d.admin("POST", "/v1/agents", {"spiffe_id": first["spiffe_id"], "owner": "x"}), 409, "id_retired",
            "its ID given out again")


@test
def a_template_is_nobody_itself():
    d = server()
    reply = d.admin("POST", "/v1/agents/token", {"spiffe_id": POD})
    check(reply.status in (400, 404), repr(reply))
    refused(d.admin("POST", "/v1/agents", {"spiffe_id": f"{TD}/{{k8s.cluster}}/prod/sa/{{k8s.sa}}/agent/x",
                                           "owner": "x", "selectors": ["k8s:cluster:prod"]}), 409,
            "template_overlap", "another that could give the same IDs")
    refused(d.admin("POST", "/v1/agents", {"spiffe_id": f"{TD}/x-{{k8s.ns}}", "owner": "x",
                                           "selectors": ["k8s:cluster:prod"]}), 400, "invalid_spiffe_id",
            "part of a segment")


@test
def values_stay_in_their_segment():
    d = server()
    for why, name in (("slash", "a/b"), ("up", ".."), ("escape", "a%2fb"), ("placeholder", "{k8s.ns}"), ("space", "a b"),
                      ("long", "x" * 254), ("none", None)):
        body = {"k8s_psat": d.cluster.token(pod_claims())}
        if name is not None:
            body["name"] = name
        refused(attest(**body), 403, "template_value", why)
    refused(attest(oidc=d.keys["ES256"].token(ci_claims(repository="org/shop"))), 403, "template_value",
            "a claim with a slash")
    d.register(f"{TD}/ci/taken/run")
    refused(attest(oidc=d.keys["ES256"].token(ci_claims(repository="taken"))), 409, "id_taken",
            "an agent that an admin registered")


@test
def tokens_that_are_no_good():
    d, now = server(), int(time.time())
    key = d.keys["ES256"]
    bad = (
        ("another issuer", key.token(ci_claims(iss=OIDC + "/")), "unknown_issuer"),
        ("the cluster's key", d.cluster.token(ci_claims()), "invalid_token"),
        ("a key for encryption", d.stranger.token(ci_claims()), "invalid_token"),
        ("no kid, several keys", key.token(ci_claims(), kid=None), "invalid_token"),
        ("another alg of that key", key.token(ci_claims(), alg="ES384"), "invalid_token"),
        ("none", key.token(ci_claims(), alg="none"), "invalid_token"),
        ("HS256", key.token(ci_claims(), alg="HS256"), "invalid_token"),
        ("jku", key.token(ci_claims(), jku="https://evil.example/keys"), "invalid_token"),
        ("jwk", key.token(ci_claims(), jwk=key.jwk()), "invalid_token"),
        ("crit", key.token(ci_claims(), crit=["b64"]), "invalid_token"),
        ("another audience", key.token(ci_claims(aud="writ")), "invalid_token"),
        ("no audience", key.token(ci_claims(aud=None)), "invalid_token"),
        ("empty audience", key.token(ci_claims(aud=[])), "invalid_token"),
        ("no end", key.token(ci_claims(exp=None)), "invalid_token"),
        ("end as text", key.token(ci_claims(exp=str(now + 60))), "invalid_token"),
        ("ended", key.token(ci_claims(exp=now - 31)), "invalid_token"),
        ("too long a life", key.token(ci_claims(exp=now + 90000)), "invalid_token"),
        ("no iat", key.token(ci_claims(iat=None)), "invalid_token"),
        ("from the future", key.token(ci_claims(iat=now + 60)), "invalid_token"),
        ("not yet", key.token(ci_claims(nbf=now + 60)), "invalid_token"),
        ("no subject", key.token(ci_claims(sub=None)), "invalid_token"),
        ("two parts", "a.b", "invalid_token"), ("empty", "", "invalid_token"),
        ("huge", "x" * 9000, "invalid_token"),
        ("payload changed", ".".join([key.token(ci_claims()).split(".")[0]] + key.token(ci_claims()).split(".")[1:2] +
                                     key.token(ci_claims()).split(".")[2:]), "invalid_token"),
    )
    for why, token, code in bad:
        refused(attest(oidc=token), 401, code, why)
    for why, claims in (("not of a pod", dict(pod_claims(), **{"kubernetes.io": {
            "namespace": "prod", "serviceaccount": {"name": "crm"}}})),
                        ("sub of another", pod_claims(sub="system:serviceaccount:kube-system:admin")),
                        ("no service account", dict(pod_claims(), **{"kubernetes.io": {"namespace": "prod"}})),
                        ("a pod's token for its API server", pod_claims(aud=["https://kubernetes.default.svc"]))):
        refused(attest(k8s_psat=d.cluster.token(claims), name="bot"), 401, "invalid_token", why)
    refused(attest(k8s_psat=key.token(ci_claims()), name="bot"), 401, "unknown_issuer", "a CI token as a pod's")
    refused(attest(oidc=d.cluster.token(pod_claims())), 401, "unknown_issuer", "a pod's token as a CI job's")


@test
def a_token_of_ci_works_once():
    token = server().keys["EdDSA"].token(ci_claims(ref="nobody's"))
    refused(attest(oidc=token), 403, "no_entry", "no registration matches")
    refused(attest(oidc=token), 403, "no_entry", "what led to nothing is not used up")
    token = server().keys["ES256"].token(ci_claims(repository="once"))
    got(attest(oidc=token), f"{TD}/ci/once/run")
    refused(attest(oidc=token), 401, "proof_used", "again")
    server().restart()
    refused(attest(oidc=token), 401, "proof_used", "after a restart")


@test
def which_agent_if_several_match():
    d = server()
    token = d.keys["ES256"].token(ci_claims(sub="release", groups=["ops"], repository="several"))
    refused(attest(oidc=token), 409, "several_entries", "two match")
    refused(attest(oidc=token, spiffe_id=f"{TD}/host"), 403, "no_entry", "one that does not match")
    got(attest(oidc=token, spiffe_id=f"{TD}/release"), f"{TD}/release")


@test
def requests_that_make_no_sense():
    d = server()
    token = d.keys["ES256"].token(ci_claims(repository="sense"))
    for why, body in (("two proofs", {"oidc": token, "join_token": "wjt_x"}), ("none", {}), ("number", {"oidc": 5}),
                      ("object", {"oidc": {}}), ("unknown", {"oidc": token, "spiffeid": "x"}),
                      ("name", {"oidc": token, "name": 5}), ("array", {"x509pop": []})):
        is_error(attest(**body), 400, why)


def pop(name="host", ca="pop-ca", nonce=None, public=None, signer=None, padding=(), text=None):
    d = server()
    nonce = nonce or d.http("POST", "/v1/attest/challenge", {}).json["nonce"]
    der = openssl("pkey", "-pubin", "-outform", "DER", data=(public or d.public).encode())
    message = text or f"writ x509pop v1\n{nonce}\n{hashlib.sha256(der).hexdigest()}\n"
    d.write("message", message)
    signature = openssl("dgst", "-sha256", *padding, "-sign", d.path((signer or name) + ".key"), d.path("message"))
    with open(d.path(name + ".pem"), encoding="utf-8") as f:
        return {"x509pop": {"chain": f.read(), "nonce": nonce, "signature": base64.b64encode(signature).decode()}}


PSS = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32")


@test
def who_holds_the_key_of_a_certificate():
    d = server()
    got(attest(**pop()), f"{TD}/host")
    got(attest(**pop("rsa", padding=PSS)), f"{TD}/host")
    proof = pop()
    got(attest(**proof), f"{TD}/host")
    refused(attest(**proof), 401, "proof_used", "a nonce twice")
    refused(attest(**pop("fake", "other-ca")), 401, "invalid_certificate", "of another authority")
    refused(attest(**pop(signer="fake")), 401, "invalid_certificate", "signed by another key")
    refused(attest(**pop("rsa")), 401, "invalid_certificate", "PKCS#1 padding")
    refused(attest(**pop("pop-ca")), 401, "invalid_certificate", "the authority itself")
    locked = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAAAAAAAAAAAAAAAAAAAA=="
    refused(attest(x509pop={**pop()["x509pop"], "chain": f"-----BEGIN CERTIFICATE-----\n{locked}\n-----END CERTIFICATE-----\n"}),
            401, "invalid_certificate", "an encrypted certificate: nobody is asked for its passphrase")
    other = openssl("pkey", "-in", d.path("fake.key"), "-pubout").decode()
    refused(attest(**pop(public=other)), 401, "invalid_certificate", "a signature for another public key")
    nonce = d.http("POST", "/v1/attest/challenge", {}).json["nonce"]
    for why, forged in (("made up", "A" * 64), ("changed", ("A" if nonce[0] != "A" else "B") + nonce[1:]),
                        ("end changed", nonce[:40] + ("A" if nonce[40] != "A" else "B") + nonce[41:]),
                        ("short", nonce[:-4])):
        refused(attest(**pop(nonce=forged)), 401, "invalid_nonce", why)
    server().restart()
    refused(attest(**pop(nonce=nonce)), 401, "invalid_nonce", "of a server before")


@test
def the_command_shows_each_proof():
    d = server()
    where = ("--server", f"http://127.0.0.1:{d.port}")

    def fetch(*args, code=0):
        return d.writ("svid", "x509", "--dir", d.path("mine"), *where, *args, code=code)

    def one(token):
        return "@" + d.write("token", token + "\n")
    os.makedirs(d.path("mine"), exist_ok=True)
    host = ("--x509pop", d.path("host.pem"))
    for args, spiffe_id in (
            (("--oidc-token", one(d.keys["ES256"].token(ci_claims(repository="command")))), f"{TD}/ci/command/run"),
            (("--oidc-token", d.keys["ES256"].token(ci_claims(repository="argument"))), f"{TD}/ci/argument/run"),
            ((*host, "--x509pop-key", d.path("host.key")), f"{TD}/host"),
            (("--x509pop", d.path("rsa.pem"), "--x509pop-key", d.path("rsa.key")), f"{TD}/host"),
            (("--k8s-token", "@" + d.write("pod", d.cluster.token(pod_claims("crm-cli"))), "--name", "cli"),
             f"{TD}/ns/prod/sa/crm/agent/cli")):
        said = fetch(*args, "--json").stdout
        equal(json.loads(said)["spiffe_id"], spiffe_id, args[0])
        check(spiffe_id in openssl("x509", "-in", d.path("mine", "svid.pem"), "-noout", "-text").decode(), "on disk")
    for args, code, says in (
            ((*host, "--x509pop-key", d.path("fake.key")), 1, "invalid_certificate"),
            (host, 2, "needs --x509pop-key"),
            ((*host, "--x509pop-key", d.path("host.pem")), 2, "no private key"),
            (("--oidc-token", "a", "--k8s-token", "b"), 2, "give one proof"),
            (("--oidc-token", "@" + d.write("empty", "\n")), 2, "--oidc-token: no token in it"),
            (("--k8s-token", "@" + d.path("nothing")), 1, "nothing"),
            (("--oidc-token", "a.b.c"), 1, "")):
        said = fetch(*args, code=code).stderr
        check(says in said, f"{args}: {said}")
    # The pod's token is still good for a second container, and `watch` takes it as well.
    d.writ("svid", "watch", "--once", "--dir", d.path("watched"), *where, "--k8s-token", "@" + d.path("pod"), "--name", "cli",
           code=0)
    check(os.path.exists(d.path("watched", "svid.pem")), "nothing written")
    # A token is written into any folder that is there.
    over = ("--server", f"https://127.0.0.1:{d.tls_port}", "--dir", d.path("watched"), "--audience", "a")
    os.makedirs(d.path("out", "deep"))
    for output in (d.path("out", "deep", "token"), "out/token", "token-here"):
        d.writ("svid", "jwt", *over, "--output", output, code=0)
        with open(d.path(output), encoding="ascii") as f:
            equal(len(f.read().split(".")), 3, output)
        equal(os.stat(d.path(output)).st_mode & 0o777, 0o600, "mode")
    check("No such file" in d.writ("svid", "jwt", *over, "--output", d.path("none", "token"), code=1).stderr, "no folder")
    d.writ("svid", "jwt", *over, "--output", d.path("out") + "/", code=2)


@test
def a_suspended_template_gives_nothing_more():
    d = server()
    proof = d.cluster.token(pod_claims("crm-9"))
    reply = got(attest(k8s_psat=proof, name="held"), f"{TD}/ns/prod/sa/crm/agent/held")
    cert = (d.write("held.crt", reply["x509_svid"]), d.key)
    equal(d.https("POST", "/v1/svid/x509", {"public_key": d.public}, cert=cert).status, 200, "renewal")
    equal(d.https("POST", "/access/v1/evaluation", call(agent=reply["spiffe_id"]), cert=cert).status, 200, "known")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": POD})
    refused(attest(k8s_psat=proof, name="held"), 403, "no_entry", "a suspended template")
    is_error(d.https("POST", "/v1/svid/x509", {"public_key": d.public}, cert=cert), 403, "renewal of an instance")
    d.admin("POST", "/v1/agents/resume", {"spiffe_id": POD})
    got(attest(k8s_psat=proof, name="held"), reply["spiffe_id"])


@test
def keys_are_read_again_when_their_file_changes():
    d = server()
    d.stop()
    for why, text in (("no keys", '{"keys":[]}'), ("no JSON", "x"), ("a private key", json.dumps(
            {"keys": [dict(d.cluster.jwk(), d="AAAA")]})), ("equal kids", json.dumps(
                {"keys": [d.cluster.jwk(), d.cluster.jwk()]}))):
        d.write("k8s.json", text)
        done = d.writ("serve", "--config", d.config_file, code=1)
        check("k8s.json" in done.stderr, f"{why}: {done.stderr}")
    d.write("k8s.json", json.dumps({"keys": [d.stranger.jwk()]}))
    d.start()
    refused(attest(k8s_psat=d.cluster.token(pod_claims()), name="bot2"), 401, "invalid_token", "a withdrawn key")
    got(attest(k8s_psat=d.stranger.token(pod_claims()), name="bot2"), f"{TD}/ns/prod/sa/crm/agent/bot2")


@test
def every_issuance_and_refusal_is_on_record():
    d = server()
    got(attest(oidc=d.keys["ES256"].token(ci_claims(repository="recorded"))), f"{TD}/ci/recorded/run")
    refused(attest(oidc=d.keys["ES256"].token(ci_claims(ref="unrecorded"))), 403, "no_entry", "no entry")
    path = d.export("attest.jsonl")
    d.writ("audit", "verify", "--key", d.log_key(), path, code=0)
    records = [r for _, r in leaves(path).values()]
    issued = [r for r in records if r["kind"] == "identity.issue" and r.get("agent") == f"{TD}/ci/recorded/run"]
    equal(len(issued), 1, "issuances")
    equal(sorted(set(issued[0]) & {"agent", "definition", "method", "run", "serial", "input_commit", "svid_sha256"}),
          ["agent", "definition", "input_commit", "method", "run", "serial", "svid_sha256"], repr(issued[0]))
    equal((issued[0]["definition"], issued[0]["method"]), (CI, "oidc"), "the issuance")
    refusals = [r for r in records if r["kind"] == "identity.refuse"]
    equal((refusals[-1]["reason"], refusals[-1]["method"]), ("no_entry", "oidc"), "the refusal")
    with open(path, encoding="utf-8") as f:
        openings = [line for line in f if '"opening"' in line]
    check(any("oidc:ref:unrecorded" in o for o in openings), "selectors of the refusal")
    check(any("oidc:repository:recorded" in o for o in openings), "selectors of the issuance")


@test
def the_documents_configuration_is_one():
    with open(os.path.join(os.path.dirname(__file__), "../../spiffe/ATTEST.md"), encoding="utf-8") as f:
        text = f.read().split("```lua\n")[1].split("```")[0]
    d = Deployment(config=text)
    for name in ("ci", "prod"):
        d.write(name + "-keys.json", json.dumps({"keys": [Key(d, "ES256", name).jwk()]}))
    make_pki(d)
    os.rename(d.path("pop-ca.pem"), d.path("machines-ca.pem"))
    d.start()
    reply = d.admin("POST", "/v1/agents", {
        "spiffe_id": f"{TD}/ns/{{k8s.ns}}/sa/{{k8s.sa}}/agent/{{name}}", "owner": "crm", "purpose": "mail",
        "expires": "2037-01-31", "selectors": ["k8s:cluster:prod"]})
    equal(reply.status, 201, repr(reply))


if __name__ == "__main__":
    main()
