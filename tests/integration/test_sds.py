#!/usr/bin/env python3
"""Envoy's secret discovery on the Workload API's socket, as Envoy speaks it."""
import os
import re

from grpc_client import Client, Ended, field, parse
from harness import TRUST_DOMAIN, Deployment, check, equal, main, openssl, test

SDS = "/envoy.service.secret.v3.SecretDiscoveryService/"
TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
VALIDATOR = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
A, B = f"spiffe://{TRUST_DOMAIN}/agent/a", f"spiffe://{TRUST_DOMAIN}/agent/b"
ROOT = f"spiffe://{TRUST_DOMAIN}"
MINE = [f"unix:uid:{os.geteuid()}"]


def node(major=1, minor=30, metadata=b""):
    build = field(1, field(1, major) + field(2, minor))
    return field(1, "envoy-1") + field(2, "cluster") + field(6, "envoy") + field(8, build) + metadata


def metadata(key, value):
    return field(3, field(1, field(1, key) + field(2, value)))


def request(*names, version="", nonce="", node=None, type_url=TYPE, error=None):
    out = field(1, version) if version else b""
    out += field(2, node) if node is not None else b""
    out += b"".join(field(3, n) for n in names)
    out += field(4, type_url) if type_url else b""
    out += field(5, nonce) if nonce else b""
    return out + (field(6, field(1, 13) + field(2, error)) if error else b"")


class Response:
    def __init__(self, message):
        m = parse(message)
        self.version, self.type, self.nonce = (m[k][0].decode() for k in (1, 4, 5))
        self.secrets = {}
        for one in m.get(2, []):
            a = parse(one)
            equal(a[1][0].decode(), TYPE, "type of a resource")
            secret = parse(a[2][0])
            self.secrets[secret[1][0].decode()] = secret


def certificate(secret):
    """(chain, key) in PEM."""
    c = parse(secret[2][0])
    return parse(c[1][0])[2][0], parse(c[2][0])[2][0]


def roots(secret):
    """{trust domain: PEM} of a SPIFFE validator, or PEM of trusted_ca."""
    context = parse(secret[4][0])
    if 1 in context:
        return parse(context[1][0])[2][0]
    extension = parse(context[12][0])
    equal(extension[1][0], b"envoy.tls.cert_validator.spiffe", "the extension")
    config = parse(extension[2][0])
    equal(config[1][0].decode(), VALIDATOR, "its type")
    found = {}
    for one in parse(config[2][0])[1]:
        d = parse(one)
        found[d[1][0].decode()] = parse(d[2][0])[2][0]
    return found


def started():
    d = Deployment().start()
    d.register(A, selectors=MINE)
    d.register(B, selectors=MINE)
    return d


def bundle_pem(d):
    with open(d.path("writ-data", "bundle.pem"), "rb") as f:
        return f.read()


@test
def fetch_by_name():
    d = started()
    g = Client(d.workload_socket, authority="sds_cluster")  # no header of the Workload API

    def fetch(*names, **more):
        reply = g.call(SDS + "FetchSecrets", request(*names, **more))
        equal((reply.status, len(reply.messages)), (0, 1), f"{names} {reply.message}")
        return Response(reply.messages[0])

    r = fetch("default")
    equal((list(r.secrets), r.version, r.type), (["default"], "1", TYPE), "default")
    chain, key = certificate(r.secrets["default"])
    equal(re.findall(r"URI:(\S+)", openssl("x509", "-noout", "-ext", "subjectAltName", data=chain).decode()), [A], "ID")
    equal(openssl("pkey", "-pubout", data=key), openssl("x509", "-noout", "-pubkey", data=chain), "key")
    check(key.startswith(b"-----BEGIN PRIVATE KEY-----"), key[:40])
    chain, _ = certificate(fetch(B).secrets[B])
    check(B.encode() in openssl("x509", "-noout", "-text", data=chain), "another identity")
    pem = bundle_pem(d)
    # Without a word on Envoy's version, or before 1.18: plain roots.
    for n in (None, node(1, 17), node(metadata=metadata("disable_spiffe_cert_validation", field(4, True))),
              node(metadata=metadata("disable_spiffe_cert_validation", field(3, "true")))):
        equal(roots(fetch("ROOTCA", node=n).secrets["ROOTCA"]), pem, f"plain roots with {n}")
        equal(roots(fetch(ROOT, node=n).secrets[ROOT]), pem, "by trust domain")
        reply = g.call(SDS + "FetchSecrets", request("ALL", node=n))
        equal((reply.status, reply.messages), (3, []), f"ALL without the validator: {reply.message}")
    for n in (node(), node(1, 18), node(2, 0), node(metadata=metadata("disable_spiffe_cert_validation", field(4, False))),
              node(metadata=metadata("other", field(4, True)))):
        for name in ("ROOTCA", "ALL", ROOT):
            equal(roots(fetch(name, node=n).secrets[name]), {TRUST_DOMAIN: pem}, f"{name} with {n}")
    equal(sorted(fetch(node=node()).secrets), sorted([A, B, ROOT]), "no names: everything")
    equal(sorted(fetch("default", "ROOTCA", "default", B, node=node()).secrets), sorted(["default", "ROOTCA", B]), "several")
    equal(list(fetch("default", type_url="").secrets), ["default"], "no type")
    for why, body in (("another's", request(f"{ROOT}/agent/other")), ("a foreign domain", request("spiffe://other.example")),
                      ("an unknown name", request("Default")), ("one of two", request("default", "nothing")),
                      ("another type", request("default", type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")),
                      ("an empty name", request("")), ("a name with a newline", request("a\nb")),
                      ("65 names", request(*(f"n{i}" for i in range(65)))), ("no message", b"\xff")):
        reply = g.call(SDS + "FetchSecrets", body)
        equal((reply.status, reply.messages), (3, []), f"{why}: {reply.message}")
    equal(g.call(SDS + "DeltaSecrets", b"").status, 12, "DeltaSecrets")
    d.close()


@test
def streams_answer_to_other_names_and_states_only():
    d = started()
    g = Client(d.workload_socket, authority="sds_cluster")
    s = g.stream(SDS + "StreamSecrets", request("default", node=node()), last=False)
    first = Response(s.next())
    equal((list(first.secrets), first.version), (["default"], "1"), "first")
    check(re.fullmatch(r"[0-9a-f]{8}", first.nonce), first.nonce)
    s.send(request("default", version="1", nonce=first.nonce))  # taken
    check(s.quiet(), "an answer to an ACK")
    s.send(request("default", version="0", nonce=first.nonce, error="bad certificate"))  # refused
    check(s.quiet(), "an answer to a NACK")
    check("bad certificate" in d.stderr(), "the NACK is not in the log")
    s.send(request("ROOTCA", version="1", nonce="00000000"))  # stale
    check(s.quiet(), "an answer to a stale nonce")
    s.send(request("ROOTCA", "default", version="1", nonce=first.nonce))
    second = Response(s.next())
    equal((sorted(second.secrets), second.version), (["ROOTCA", "default"], "2"), "other names")
    equal(roots(second.secrets["ROOTCA"]), {TRUST_DOMAIN: bundle_pem(d)}, "the node of the first request counts")
    check(second.nonce != first.nonce, "the nonce is the old one")
    s.send(request("default", "ROOTCA", version="2", nonce=second.nonce))
    check(s.quiet(), "the same names in another order")
    d.admin("POST", "/v1/agents/update", {"spiffe_id": A, "ttl": "30m"})
    third = Response(s.next())
    equal((sorted(third.secrets), third.version), (["ROOTCA", "default"], "3"), "a new certificate")
    check(certificate(third.secrets["default"]) != certificate(second.secrets["default"]), "the certificate is the old one")
    equal(third.secrets["ROOTCA"], second.secrets["ROOTCA"], "the roots")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": A})
    chain, _ = certificate(Response(s.next()).secrets["default"])
    check(B.encode() in openssl("x509", "-noout", "-text", data=chain), "the default is another identity now")
    s.half_close()
    equal(s.end().status, 0, "the end")
    d.close()


@test
def streams_end_when_the_name_is_not_theirs():
    d = started()
    g = Client(d.workload_socket)
    held = g.stream(SDS + "StreamSecrets", request(A), last=False)
    other = g.stream(SDS + "StreamSecrets", request("default", node=node()), last=False)
    r = Response(held.next())
    first = Response(other.next())
    other.send(request(f"{ROOT}/agent/none", version="1", nonce=first.nonce))
    reply = other.end()
    equal(reply.status, 3, reply.message)
    check("not authorized" in reply.message, reply)
    bad = g.stream(SDS + "StreamSecrets", request("default"), last=False)
    bad.next()
    bad.send(b"\x0b\x0c")
    equal(bad.end().status, 3, "a message that is none")
    check(list(r.secrets) == [A] and not held.closed, "another stream ended as well")
    d.admin("POST", "/v1/agents/retire", {"spiffe_id": A})
    equal(held.end().status, 3, "the identity is gone")
    d.admin("POST", "/v1/agents/retire", {"spiffe_id": B})
    try:
        g.stream(SDS + "StreamSecrets", request("default"), last=False).next()
        check(False, "secrets for nobody")
    except Ended as e:
        equal(e.reply.status, 7, f"no identity ({e.reply.message})")
    d.close()


main()
