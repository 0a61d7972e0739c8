#!/usr/bin/env -S python3 -B
"""tests/conformance: the real writ passes, and each check fails where a server does what it forbids."""
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

from harness import ROOT, TRUST_DOMAIN, Deployment, check, equal, main, openssl, test
from spiffe_double import A, B, FOREIGN_KEY, JWT_KEY, LEAF_KEY, NEXT_KEY, ROOT_KEY, TD, Double, authority, certificate
from grpc_client import Inflater

import checks_endpoint  # noqa: F401  (spiffe_double has put tests/conformance on the path)
import checks_x509  # noqa: F401
import checks_jwt  # noqa: F401
import checks_stream  # noqa: F401
import checks_wit  # noqa: F401
import der
import report
import wire
from target import Target, address, trust_domain_of

RUN = os.path.join(ROOT, "tests", "conformance", "run")
MINE = [f"unix:uid:{os.geteuid()}"]
WRIT_LACKS = {"endpoint.reflection"}  # a SHOULD


def suite(*args, env=None):
    return subprocess.run([RUN, *args], capture_output=True, text=True, check=False, timeout=100,
                          env=dict(os.environ, **(env or {})))


@test
def writ_passes():
    d = Deployment(config="workload = { wit = true }\n").start()
    one, two = (f"spiffe://{TRUST_DOMAIN}/agent/{n}" for n in ("a", "b"))
    d.register(one, selectors=MINE, attributes={"hint": "first"})
    d.register(two, selectors=MINE)
    ttl = iter(range(1800, 1900))

    def act(verb, path="/v1/agents", status=200, **body):
        equal(d.admin("POST", f"{path}/{verb}", body).status, status, f"{verb} {body}")

    def both(verb):
        return lambda: [act(verb, spiffe_id=s) for s in (one, two)]

    def prepare(kind):
        def prepared():
            listed = d.admin("GET", "/v1/authorities").json["authorities"]
            for a in listed:  # one that is prepared already is activated first: a rotation each time
                if a["kind"] == kind and a["state"] == "prepared":
                    act("activate", "/v1/authorities", id=a["id"], force=True)
            act("prepare", "/v1/authorities", 201, kind=kind)
        return prepared
    target = Target(f"unix://{d.workload_socket}", TRUST_DOMAIN, commands={
        "renew": lambda: act("update", spiffe_id=one, ttl=f"{next(ttl)}s"), "authority": prepare("x509"),
        "jwt-key": prepare("jwt"), "revoke": both("suspend"), "grant": both("resume"), "restart": d.restart})
    results = list(report.run(target))
    failed = {r.check.name: r.why for r in results if r.outcome == "fail"}
    equal(set(failed), WRIT_LACKS, f"what fails ({failed})")
    equal({r.check.name for r in results if r.outcome == "skip"}, {"denied.x509", "denied.jwt", "denied.bundles"},
          f"what is skipped ({[r.why for r in results if r.outcome == 'skip']})")
    d.close()


@test
def without_the_wit_profile_its_checks_are_skipped():
    d = Deployment().start()
    d.register(f"spiffe://{TRUST_DOMAIN}/agent/a", selectors=MINE)
    done = suite(f"unix://{d.workload_socket}", "--only", "wit", "--only", "api.wit", "--json", "-")
    got = {c["name"]: c["outcome"] for c in json.loads(done.stdout)["checks"]}
    equal(got.pop("api.wit"), "pass", "the methods")
    equal((set(got.values()), len(got) > 10), ({"skip"}, True), f"{got}")
    d.close()


@test
def writ_passes_for_nobody():
    d = Deployment().start()
    done = suite(f"unix://{d.workload_socket}", "--no-identity", "--json", "-")
    equal(done.returncode, 0, f"exit code ({done.stdout} {done.stderr})")
    got = {c["name"]: c["outcome"] for c in json.loads(done.stdout)["checks"]}
    equal([got[n] for n in ("denied.x509", "denied.jwt", "denied.bundles")], ["pass"] * 3, f"{got}")
    equal(got["x509.spiffe-id"], "skip", "what needs an identity")
    d.close()


# --- each check can fail --------------------------------------------------------------------

def w(**changes):
    return lambda d: [setattr(d.w, k, v) for k, v in changes.items()]


def leaf(**options):
    return w(leaf=options)


def fields(change):
    def changed(f):
        change(f)
        return f
    return w(svid_fields=changed)


def put(index, value):
    return fields(lambda f: f.__setitem__(index, value))


def answer(**methods):
    return lambda d: d.w.method.update({k: (lambda _, v=v: v) for k, v in methods.items()})


def jwk(**members):
    return w(jwk=lambda k: dict(k, **members))


def bundles(change):
    return w(jwt_bundles=lambda given: change(given) or given)


def command(**acts):
    """An operator's command that does something else."""
    return lambda d: [d.commands.__setitem__(k.replace("_", "-"), lambda act=act: act(d)) for k, act in acts.items()]


def unchecked(*what):
    return lambda d: d.w.checks.difference_update(what)


def replace_roots(d):
    d.w.roots = [authority(NEXT_KEY, "new")]


def unsigned_root(d):
    d.w.roots = [*d.w.roots, authority(NEXT_KEY, "other", usage=("digitalSignature",))]


def same_key(d):
    d.w.leaf_key, d.w.version = LEAF_KEY, d.w.version + 1


def forget_identity(d):
    d.w.ids = [A + "x"]
    d.restart()


def intermediate(**options):
    key = NEXT_KEY
    return certificate(key, ROOT_KEY, "middle", "root", ("spiffe://" + TD,),
                       **{"ca": True, "usage": ("keyCertSign",), "purposes": (), **options})


PEM = b"-----BEGIN CERTIFICATE-----\n"
FAULTS = {
    "endpoint.plain": w(http2=False),
    "endpoint.no-credentials": answer(FetchJWTSVID=(16, "who are you?")),
    "endpoint.header-missing": w(header_needed=lambda v: v in ([], ["true"])),
    "endpoint.header-value": w(header_needed=lambda v: bool(v) and v[0].lower() == "true"),
    "endpoint.reflection": lambda d: d.w.method.update(reflection=True),
    "api.not-extended": answer(Status=b""),
    "api.wit": answer(FetchWITSVID=wire.field(1, wire.field(1, A))),
    "grpc.response": w(content_type="application/octet-stream"),
    "grpc.split": w(no_split=True),
    "grpc.unknown-fields": w(no_unknown=True),
    "grpc.authority": w(authorities={"localhost"}),
    "grpc.ping": w(pong=False),
    "grpc.one-connection": w(one_stream=True),
    "grpc.cancelled": w(limit=400),
    "denied.x509": w(), "denied.jwt": w(),
    "denied.bundles": w(),
    "x509.first-message": w(first_delay=5.5),
    "x509.mandatory-fields": put(3, b""),
    "x509.spiffe-id": w(ids=["spiffe://" + TD]),
    "x509.trust-domain": w(ids=["spiffe://other.example/a", B]),
    "x509.hints": w(hints=["x", "x"]),
    "x509.ids-differ": w(ids=[A, A]),
    "x509.default-stable": w(reorder=True),
    "x509.chain-der": w(tail=b"\x30"),
    "x509.version": leaf(version=1),
    "x509.serial": w(serial=7),
    "x509.one-uri": w(uris=[A, "https://example.org/"]),
    "x509.uri-is-id": w(uris=["spiffe://example.org/other"]),
    "x509.leaf-no-ca": leaf(ca=None),
    "x509.key-usage": leaf(usage_critical=False),
    "x509.key-usage-signs": leaf(usage=("digitalSignature", "cRLSign")),
    "x509.purposes-there": leaf(purposes=()),
    "x509.purposes": leaf(purposes=("1.3.6.1.5.5.7.3.1",)),
    "x509.empty-subject": w(subject=""),
    "x509.valid-now": leaf(begins=time.time() - 7200, ends=time.time() - 3600),
    "x509.chain-verifies": w(signer=FOREIGN_KEY),
    "x509.intermediates": w(signer=NEXT_KEY, issuer="middle", extra_chain=intermediate(ca=False)),
    "x509.no-root": lambda d: setattr(d.w, "extra_chain", d.w.roots[0]),
    "x509.within-issuer": leaf(ends=time.time() + 7 * 86400),
    "x509.key-pkcs8": lambda d: setattr(d.w, "key_bytes", LEAF_KEY.sec1),
    "x509.key-matches": w(key_bytes=NEXT_KEY.pkcs8),
    "x509.bundle": w(roots=[authority(ca=False)]),
    "x509.authority-usage": unsigned_root,
    "x509.authority-constraints": w(roots=[authority(constraints_critical=False)]),
    "x509.authority-id": w(roots=[authority(uris=("spiffe://example.org/ca",))]),
    "x509.crl": w(crl=[b"\x30\x00"]),
    "x509.federated-keys": w(federated={"spiffe://fed.example/": authority(FOREIGN_KEY)}),
    "x509.federated-der": w(federated={"spiffe://fed.example": PEM}),
    "x509.bundles-own": w(x509_bundles={"spiffe://fed.example": authority(FOREIGN_KEY)}),
    "x509.bundles-keys": w(x509_bundles={"example.org": authority(FOREIGN_KEY)}),
    "x509.bundles-agree": w(x509_bundles={"spiffe://example.org": authority(FOREIGN_KEY)}),
    "jwt.mandatory-fields": answer(FetchJWTSVID=wire.field(1, wire.field(1, A))),
    "jwt.hints": w(hints=["x", "x"]),
    "jwt.audience-missing": answer(FetchJWTSVID=(0, "")),
    "jwt.audience-empty": answer(FetchJWTSVID=(13, "")),
    "jwt.id-malformed": answer(FetchJWTSVID=(7, "")),
    "jwt.id-foreign": answer(FetchJWTSVID=(3, "")),
    "jwt.id-own": lambda d: d.w.method.update(FetchJWTSVID=lambda r, f=d.w.jwt: f(b"".join(
        wire.field(1, a) for a in wire.parse(r).get(1, [])))),
    "jwt.all": w(jwt_ids=[A]),
    "jwt.compact": w(token=lambda t: t + "="),
    "jwt.alg": w(header={"alg": "HS256"}),
    "jwt.typ": w(header={"typ": "jwt"}),
    "jwt.header": w(header={"jku": "https://example.org/"}),
    "jwt.kid": w(header={"kid": None}),
    "jwt.sub": w(claims={"sub": B + "c"}),
    "jwt.aud": w(claims={"aud": ["other"]}),
    "jwt.aud-array": w(claims={"aud": "spiffe-conformance"}),
    "jwt.exp": w(claims={"exp": None}),
    "jwt.iat": w(claims={"iat": int(time.time()) + 3600}),
    "jwt.signature": w(jwt_signer=NEXT_KEY),
    "jwt.bundles-first-message": w(first_delay=5.5),
    "jwt.bundles-own": bundles(lambda b: b.pop("spiffe://" + TD) and None),
    "jwt.bundles-keys": bundles(lambda b: b.update({"spiffe://fed.example/": '{"keys":[]}'})),
    "jwt.bundles-jwks": bundles(lambda b: b.update({"spiffe://fed.example": ""})),
    "jwt.bundles-kid": w(jwt_keys=[("k1", NEXT_KEY), ("k1", FOREIGN_KEY)]),
    "jwt.bundles-use": jwk(use="sig"),
    "jwt.bundles-no-x509": jwk(x5c=[base64.b64encode(authority()).decode()]),
    "jwt.bundles-public": jwk(d="AAAA"),
    "validate.accepts": answer(ValidateJWTSVID=(3, "never")),
    "validate.claims": w(claims_out=lambda c: dict(c, aud=c["aud"][0])),
    "validate.audience": unchecked("audience"),
    "validate.empty": lambda d: d.w.method.update(ValidateJWTSVID=lambda r, f=d.w.validate: (
        (13, "empty") if isinstance(f(r), tuple) else f(r))),
    "validate.signature": unchecked("signature"),
    "validate.payload": unchecked("signature"),
    "validate.none": unchecked("alg", "kid"),
    "validate.hmac": unchecked("alg"),
    "validate.alg-fits": unchecked("alg"),
    "validate.kid": unchecked("kid"),
    "validate.serialization": unchecked("shape"),
    "wit.mandatory-fields": w(wit_fields=lambda f: [*f[:2], "", f[3]]),
    "wit.hints": w(hints=["x", "x"]),
    "wit.id-malformed": w(wit_malformed=(7, "not yours")),
    "wit.id-foreign": w(wit_foreign=(3, "what?")),
    "wit.id-own": w(wit_filter=False),
    "wit.header": w(wit_header={"typ": "JWT"}),
    "wit.header-only": w(wit_header={"jku": "https://example.org/"}),
    "wit.sub": w(wit_claims={"sub": B + "c"}),
    "wit.exp": w(wit_claims={"exp": None}),
    "wit.no-aud": w(wit_claims={"aud": ["x"]}),
    "wit.cnf": w(wit_claims={"cnf": {"jwk": LEAF_KEY.private()}}),
    "wit.key": w(wit_key=NEXT_KEY.private()),
    "wit.signature": w(wit_signer=NEXT_KEY),
    "wit.bundles-own": w(wit_bundles=lambda b: {"spiffe://fed.example": '{"keys":[]}'}),
    "wit.bundles-kid": w(wit_keys=[("w1", JWT_KEY), ("k1", NEXT_KEY)]),
    "wit.bundles-public": w(wit_jwk=lambda k: dict(k, d="AAAA")),
    "wit.no-bearer": w(takes_wit=True),
    "stream.quiet": w(chatty=True),
    "stream.svid": command(renew=same_key),
    "stream.bundle": command(authority=replace_roots),
    "stream.old-svid": command(authority=replace_roots),
    "stream.revoked": w(on_revoke_status=0),
    "stream.restart": command(restart=forget_identity),
    "stream.jwt-key": command(jwt_key=lambda d: setattr(d.w, "jwt_keys", [("k9", NEXT_KEY)])),
}


def outcome(name, fault=None, uri=None, **options):
    d = Double(fault)
    try:
        options = {"trust_domain": TD, "commands": d.commands, "seconds": 2 if name != "x509.first-message" and
                   name != "jwt.bundles-first-message" else 8, **options}
        t = Target("unix://" + d.path, **options)
        t.uri = uri or t.uri
        (found,) = [r for r in report.run(t, [name]) if r.check.name == name]
        return found
    finally:
        d.close()


@test
def a_right_server_passes_each_check():
    d = Double()
    results = list(report.run(Target("unix://" + d.path, TD, commands=d.commands)))
    bad = {r.check.name: (r.outcome, r.why) for r in results if r.outcome != "pass"}
    equal(set(bad), {"denied.x509", "denied.jwt", "denied.bundles"}, f"what does not pass ({bad})")
    d.close()


@test
def each_check_can_fail():
    checks_stream.PATIENCE = 2
    names = {c.name for c in report.CHECKS}
    equal(names - set(FAULTS), {"endpoint.uri"}, "checks without a fault")
    wrong = []
    for name in sorted(FAULTS):
        nobody = {"no_identity": True} if name.startswith("denied.") else {}
        r = outcome(name, FAULTS[name], **nobody)
        if r.outcome != "fail" or len(r.why) < 6:
            wrong.append(f"{name}: {r.outcome} {r.why}")
    check(not wrong, "; ".join(wrong))
    for uri in ("unix:relative", "unix://host/path", "tcp://localhost:80", "tcp://127.0.0.1:8000/", "tcp://127.0.0.1",
                "unix:///a?b", "tcp://u@127.0.0.1:1", "http://127.0.0.1:1"):
        equal(outcome("endpoint.uri", uri=uri).outcome, "fail", uri)
    equal(address("unix:///run/a.sock"), "/run/a.sock", "a path")
    equal(address("tcp://[::1]:80"), ("::1", 80), "an address")


@test
def ids():
    for good in ("spiffe://example.org/agent/researcher", "spiffe://a_b-1.example/ns/x/sa/Y", "spiffe://10.0.0.1/x",
                 "spiffe://td", "spiffe://td/...", "spiffe://td/a.b", "spiffe://td/" + "a" * 2036):
        trust_domain_of(good)
    for bad in ("", "spiffe:/td/a", "SPIFFE://td/a", "http://td/a", "spiffe:///a", "spiffe://", "spiffe://TD/a",
                "spiffe://td:80/a", "spiffe://u@td/a", "spiffe://t$d/a", "spiffe://td/", "spiffe://td//a", "spiffe://td/a/",
                "spiffe://td/./a", "spiffe://td/a/..", "spiffe://td/a%41", "spiffe://td/a!b", "spiffe://td/a?x=1",
                "spiffe://td/a#f", "spiffe://[::1]/a", "spiffe://td/\u00e4", "spiffe://td/a\n", "spiffe://td/" + "a" * 2037,
                "spiffe://" + "a" * 256):
        try:
            trust_domain_of(bad)
        except report.Fail:
            continue
        check(False, f"{bad!r} is taken for a SPIFFE ID")


@test
def keys_and_signatures_of_openssl():
    folder = tempfile.mkdtemp(prefix="conformance-")
    file = lambda n: os.path.join(folder, n)  # noqa: E731
    for kind, algs, *how in (("P-256", ["ES256"], "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                             ("P-384", ["ES384"], "ec", "-pkeyopt", "ec_paramgen_curve:P-384"),
                             ("P-521", ["ES512"], "ec", "-pkeyopt", "ec_paramgen_curve:P-521"),
                             ("RSA", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"], "rsa:2048")):
        openssl("req", "-x509", "-newkey", *how, "-nodes", "-keyout", file("k"), "-out", file("c"), "-subj", "/CN=x",
                "-addext", "subjectAltName=URI:spiffe://td/a")
        (c,) = der.certificates(openssl("x509", "-in", file("c"), "-outform", "DER"))
        check(c.verify(c.key) and c.uris == ["spiffe://td/a"] and c.ca, f"{kind}: certificate")
        key = der.private_key(openssl("pkcs8", "-topk8", "-nocrypt", "-in", file("k"), "-outform", "DER"))
        equal(key, c.key, f"{kind}: the key")
        for alg in algs:
            pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"] if alg[0] == "P" else []
            signature = openssl("dgst", f"-sha{alg[2:]}", "-sign", file("k"), *pss, data=b"text")
            if alg[0] == "E":
                size = der.CURVES[kind].size
                signature = b"".join(int.from_bytes(v, "big").to_bytes(size, "big")
                                     for _, v in der.items(der.whole(signature)))
            check(der.verify_jws(key, alg, b"text", signature), f"{alg}: a good signature")
            check(not der.verify_jws(key, alg, b"texts", signature), f"{alg}: another text")
            check(not der.verify_jws(key, alg, b"text", signature[:-1] + bytes([signature[-1] ^ 1])), f"{alg}: a changed one")
            check(not der.verify_jws(key, "ES256" if alg != "ES256" else "RS256", b"text", signature), f"{alg}: another alg")


@test
def header_blocks():
    """Our HPACK reader and libnghttp2's read the same out of blocks of RFC 7541, appendix C."""
    for blocks in (["400a637573746f6d2d6b65790d637573746f6d2d686561646572"],
                   ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf",
                    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"],
                   ["488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                    "4883640effc1c0bf", "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b3"
                    "35dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"]):
        ours, theirs = wire.Headers(), Inflater()
        for block in blocks:
            equal(ours.read(bytes.fromhex(block)), theirs.read(bytes.fromhex(block)), block)
    for bad in ("ff", "40", "418cf1e3c2e5f23a6ba0ab90f4", "be", "0085ffffffffff00"):
        try:
            wire.Headers().read(bytes.fromhex(bad))
        except wire.Broken:
            continue
        check(False, f"{bad} was read")


@test
def what_it_prints():
    d = Double(FAULTS["jwt.kid"])
    folder = tempfile.mkdtemp(prefix="conformance-")
    out, xml = os.path.join(folder, "r.json"), os.path.join(folder, "r.xml")
    where = "unix://" + d.path
    only = ("--only", "jwt.kid", "--only", "jwt.sub", "--only", "stream.revoked")
    done = suite(where, *only, "--json", out, "--junit", xml)
    equal(done.returncode, 0, "a SHOULD does not hold")
    check("FAIL jwt.kid" in done.stdout and "needs --on-revoke" in done.stdout, done.stdout)
    check(done.stdout.rstrip().endswith("1 passed, 0 MUST and 1 SHOULD failed, 1 skipped"), done.stdout)
    with open(out, encoding="utf-8") as f:
        equal({c["name"]: c["outcome"] for c in json.load(f)["checks"]},
              {"jwt.kid": "fail", "jwt.sub": "pass", "stream.revoked": "skip"}, "JSON")
    cases = ET.parse(xml).getroot()
    equal((cases.get("tests"), cases.get("failures"), cases.get("skipped")), ("3", "1", "1"), "JUnit")
    equal(suite(where, *only, "--strict").returncode, 1, "--strict")
    equal(suite("--only", "jwt.sub", env={"SPIFFE_ENDPOINT_SOCKET": where}).returncode, 0, "by the environment")
    equal(suite(where, "--only", "stream.revoked").returncode, 3, "nothing could be checked")
    equal(suite(where, "--only", "nothing").returncode, 2, "no such check")
    equal(suite("unix://x/y").returncode, 2, "no endpoint")
    equal(suite(f"unix://{folder}/none", "--only", "jwt").returncode, 1, "nobody there")
    equal(len(suite("--list").stdout.splitlines()), len(report.CHECKS), "--list")
    marker = os.path.join(folder, "ran")
    done = suite(where, "--only", "stream.revoked", "--on-revoke", f"touch {marker}; exit 7", "--on-grant", "true")
    check(done.returncode == 1 and os.path.exists(marker) and "ended with 7" in done.stdout, done.stdout)
    d.close()


main()
