#!/usr/bin/env python3
"""The SPIFFE Workload API on the real binary, as an unmodified client sees it."""
import array
import base64
import grp
import hashlib
import json
import os
import pwd
import re
import socket
import time

from grpc_client import Client, Ended, field, parse
from harness import TRUST_DOMAIN, Deployment, check, equal, leaves, main, openssl, raw, test

API = "/SpiffeWorkloadAPI/"
HEADER = {"workload.spiffe.io": "true"}
A, B = f"spiffe://{TRUST_DOMAIN}/agent/a", f"spiffe://{TRUST_DOMAIN}/agent/b"
MINE = [f"unix:uid:{os.geteuid()}"]
CODES = {"ok": 0, "invalid": 3, "denied": 7, "unimplemented": 12, "unavailable": 14}


def started(**options):
    return Deployment(**options).start()


def client(d, **options):
    return Client(d.workload_socket, **options)


def svids(message):
    """[(spiffe_id, certificate, key, bundle, hint)], and the federated bundles."""
    m = parse(message)
    found = []
    for one in m.get(1, []):
        s = parse(one)
        found.append((s[1][0].decode(), s[2][0], s[3][0], s[4][0], s.get(5, [b""])[0].decode()))
    return found, dict((parse(e)[1][0].decode(), parse(e)[2][0]) for e in m.get(3, []))


def ids(message):
    return [s[0] for s in svids(message)[0]]


def ended(stream, code):
    """The stream ends with this status, whatever it still says before."""
    reply = stream.end()
    equal(reply.status, CODES[code], f"the end of the stream ({reply.message})")
    return reply


@test
def every_call_needs_the_header():
    d = started()
    d.register(A, selectors=MINE)
    g = client(d)
    for method in ("FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID",
                   "FetchWITSVID", "FetchWITBundles", "NoSuchMethod"):
        for metadata in ({}, {"workload.spiffe.io": "True"}, {"workload.spiffe.io": "TRUE"},
                         {"workload.spiffe.io": "false"}, {"workload.spiffe.io": ""},
                         [("workload.spiffe.io", "true")] * 2):
            reply = g.call(API + method, b"", metadata)
            equal((reply.status, reply.messages), (3, []), f"{method} with {metadata}")
            check("security header missing" in reply.message, reply)
    for method in ("FetchWITSVID", "FetchWITBundles", "NoSuchMethod"):
        equal(g.call(API + method, b"", HEADER).status, 12, method)
    equal(g.call("/example.Other/Method", b"").status, 12, "another service")
    equal(g.call("/grpc.health.v1.Health/Check", b"").messages, [b"\x08\x01"], "health needs no header")
    equal(g.call("/grpc.health.v1.Health/Check", field(1, "grpc.health.v1.Health")).status, 0, "health")
    d.close()


@test
def who_is_nobody_gets_nothing():
    d = started()
    d.register(A)  # without selectors it is nobody's
    d.register(B, selectors=[MINE[0], "unix:uid:4294967294"])  # both are needed
    g = client(d)
    for method, request in (("FetchX509SVID", b""), ("FetchX509Bundles", b""), ("FetchJWTBundles", b""),
                            ("FetchJWTSVID", field(1, "svc"))):
        reply = g.call(API + method, request, HEADER)
        equal((reply.status, reply.messages, reply.blocks), (7, [], 1), method)
        check("no identity issued" in reply.message, reply)
    d.close()


@test
def every_fact_of_the_kernel_may_be_asked_for():
    """All selectors of an entry must be the caller's: one that is not, and it is somebody else's."""
    d = started()
    with open("/proc/self/exe", "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    facts = {"uid": f"unix:uid:{os.geteuid()}", "user": f"unix:user:{user}", "gid": f"unix:gid:{os.getegid()}",
             "group": f"unix:group:{group}", "path": f"unix:path:{os.path.realpath('/proc/self/exe')}",
             "sha256": f"unix:sha256:{digest}"}
    for name, selector in facts.items():
        d.register(f"spiffe://{TRUST_DOMAIN}/by/{name}", selectors=[selector])
    d.register(f"spiffe://{TRUST_DOMAIN}/by/all", selectors=list(facts.values()))
    for name, wrong in (("path", "unix:path:/usr/bin/true"), ("sha256", f"unix:sha256:{'0' * 64}"),
                        ("user", "unix:user:nobody-of-this-name"), ("type", f"k8s:uid:{os.geteuid()}")):
        d.register(f"spiffe://{TRUST_DOMAIN}/wrong/{name}", selectors=[*facts.values(), wrong])
    equal(ids(client(d).stream(API + "FetchX509SVID", b"", HEADER).next()),
          sorted(f"spiffe://{TRUST_DOMAIN}/by/{name}" for name in (*facts, "all")), "who this process is")
    d.close()


@test
def an_svid_is_what_the_standard_says():
    d = started()
    d.register(A, selectors=MINE, ttl="10m")
    g = client(d)
    (one,), federated = svids(g.stream(API + "FetchX509SVID", b"", HEADER).next())
    spiffe_id, certificate, key, bundle, hint = one
    equal((spiffe_id, hint, federated), (A, "", {}), "the response")
    for name, der in (("leaf", certificate), ("ca", bundle)):
        with open(d.path(name), "wb") as f:
            f.write(openssl("x509", "-inform", "DER", data=der))
    text = openssl("x509", "-in", d.path("leaf"), "-noout", "-text").decode()
    equal(re.findall(r"URI:(\S+)", text), [A], "URI names")
    for wanted in ("CA:FALSE", "Digital Signature", "TLS Web Server Authentication", "TLS Web Client Authentication"):
        check(wanted in text, f"no {wanted} in {text}")
    check("Certificate Sign" not in text, text)
    openssl("verify", "-CAfile", d.path("ca"), d.path("leaf"))
    with open(d.path("writ-data", "bundle.pem"), "rb") as f:
        equal(bundle, openssl("x509", "-outform", "DER", data=f.read()), "the bundle")
    public = openssl("pkey", "-inform", "DER", "-pubout", data=key)  # PKCS#8
    equal(public, openssl("x509", "-in", d.path("leaf"), "-noout", "-pubkey"), "the key")
    check(b"BEGIN PRIVATE KEY" in openssl("pkey", "-inform", "DER", data=key), "not PKCS#8")
    # On record before it was sent, with what was sent.
    records = [r for _, r in leaves(d.export()).values() if r["kind"] == "identity.issue"]
    mine = [r for r in records if r["method"] == "workload_api"]
    equal(len(mine), 1, f"records of an issuance in {records}")
    digest = openssl("dgst", "-sha256", "-r", data=certificate).split()[0].decode()
    equal((mine[0]["agent"], mine[0]["svid"], mine[0]["svid_sha256"], mine[0]["uid"]),
          (A, "x509", digest, os.geteuid()), "the record")
    # Who comes again is shown the same: no further signature.
    equal(svids(client(d).stream(API + "FetchX509SVID", b"", HEADER).next())[0], [one], "another stream")
    d.close()


@test
def streams_follow_the_registry():
    d = started()
    g = client(d)
    equal(g.call(API + "FetchX509SVID", b"", HEADER).status, 7, "before it is registered")
    d.register(B, selectors=MINE)
    s = g.stream(API + "FetchX509SVID", b"", HEADER)
    bundles = g.stream(API + "FetchX509Bundles", b"", HEADER)
    keys = g.stream(API + "FetchJWTBundles", b"", HEADER)
    first = s.next()
    equal(ids(first), [B], "one identity")
    bundles.next(), keys.next()
    d.register(A, selectors=MINE, attributes={"hint": "main"})
    both = s.next()
    equal(ids(both), [A, B], "two, in order")
    equal([x[4] for x in svids(both)[0]], ["main", ""], "hints")
    equal(svids(both)[0][1], svids(first)[0][0], "the one that was there stays as it was")
    # Nothing of ours: nothing is said.
    d.register(f"spiffe://{TRUST_DOMAIN}/agent/other", selectors=["unix:uid:4294967294"])
    check(s.quiet() and bundles.quiet(0.1) and keys.quiet(0.1), "said though nothing changed")
    # Another life is another certificate; another owner is not.
    d.admin("POST", "/v1/agents/update", {"spiffe_id": A, "owner": "bob"})
    check(s.quiet(), "a change of the owner made a new SVID")
    d.admin("POST", "/v1/agents/update", {"spiffe_id": A, "ttl": "30m"})
    changed = s.next()
    check(svids(changed)[0][0][1] != svids(both)[0][0][1], "the certificate is the old one")
    check(svids(changed)[0][0][2] != svids(both)[0][0][2], "the key is the old one")
    equal(svids(changed)[0][1], svids(both)[0][1], "the other identity")
    # A default of one's own choice.
    d.admin("POST", "/v1/agents/update", {"spiffe_id": B, "attributes": {"hint": "default"}})
    equal(ids(s.next()), [B, A], "the default first")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": B})
    equal(ids(s.next()), [A], "one is suspended")
    check(bundles.quiet(0.2), "bundles did not change")
    d.admin("POST", "/v1/agents/retire", {"spiffe_id": A})
    for stream in (s, bundles, keys):
        ended(stream, "denied")
    d.admin("POST", "/v1/agents/resume", {"spiffe_id": B})
    equal(ids(g.stream(API + "FetchX509SVID", b"", HEADER).next()), [B], "and back")
    d.close()


@test
def a_tainted_authority_is_left_at_once():
    d = started()
    d.register(A, selectors=MINE)
    s = client(d).stream(API + "FetchX509SVID", b"", HEADER)
    first = svids(s.next())[0][0]
    old = next(a["id"] for a in d.admin("GET", "/v1/authorities").json["authorities"]
               if a["kind"] == "x509" and a["state"] == "active")
    new = d.admin("POST", "/v1/authorities/prepare", {"kind": "x509"}).json["id"]
    both = svids(s.next())[0][0]
    equal((both[1], len(both[3]) > len(first[3])), (first[1], True), "the bundle alone has changed")
    d.admin("POST", "/v1/authorities/activate", {"id": new, "force": True})
    check(s.quiet(), "an SVID that is as good as before was made anew")
    equal(d.admin("POST", "/v1/authorities/taint", {"id": old}).status, 200, "taint")
    second = svids(s.next())[0][0]
    check(second[1] != first[1] and second[2] != first[2], "the SVID of the tainted authority stays")
    equal(d.admin("POST", "/v1/authorities/revoke", {"id": old}).status, 200, "revoke")
    third = svids(s.next())[0][0]
    check(len(third[3]) < len(second[3]), "the bundle still holds the revoked authority")
    equal(third[1:3], second[1:3], "the SVID of an authority that nobody has touched")
    jwt = next(a["id"] for a in d.admin("GET", "/v1/authorities").json["authorities"]
               if a["kind"] == "jwt" and a["state"] == "active")
    next_jwt = d.admin("POST", "/v1/authorities/prepare", {"kind": "jwt"}).json["id"]
    d.admin("POST", "/v1/authorities/activate", {"id": next_jwt, "force": True})
    for verb in ("taint", "revoke"):
        equal(d.admin("POST", f"/v1/authorities/{verb}", {"id": jwt}).status, 200, f"{verb} the JWT key")
    check(s.quiet(), "X.509-SVIDs were made anew for a key that signs none")
    d.close()


@test
def of_one_hint_the_older_stays():
    d = started()
    d.register(B, selectors=MINE, attributes={"hint": "x"})
    time.sleep(0.01)  # created_at is in milliseconds
    d.register(A, selectors=MINE, attributes={"hint": "x"})
    equal(ids(client(d).stream(API + "FetchX509SVID", b"", HEADER).next()), [B], "one per hint")
    d.close()


@test
def an_entry_ends_by_itself():
    d = started()
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    d.register(A, selectors=MINE, expires=end)
    s = client(d).stream(API + "FetchX509SVID", b"", HEADER)
    (one,), _ = svids(s.next())
    ends = openssl("x509", "-inform", "DER", "-noout", "-enddate", data=one[1]).decode()
    check(time.strftime("%M:%S ", time.strptime(end, "%Y-%m-%dT%H:%M:%SZ")) in ends, f"{ends}, {end}")
    ended(s, "denied")
    d.close()


@test
def the_command_fetches_from_the_socket():
    d = started()
    uri = f"unix://{d.workload_socket}"

    def x509(*args, code=0):
        return d.writ("svid", "x509", "--socket", uri, "--dir", d.path("mine"), *args, code=code)

    def part(token, n):
        text = token.split(".")[n]
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    said = x509(code=1).stderr
    check("no identity issued" in said, f"without a registration: {said}")
    d.register(A, selectors=MINE)
    d.register(B, selectors=MINE, attributes={"hint": "default"})
    os.makedirs(d.path("mine"))
    equal(json.loads(x509("--json").stdout)["spiffe_id"], B, "the default identity")
    equal(json.loads(x509("--id", A, "--json", "--key-mode", "0400").stdout)["spiffe_id"], A, "the one that was asked for")
    equal(os.stat(d.path("mine", "key.pem")).st_mode & 0o777, 0o400, "mode of the key")
    openssl("verify", "-CAfile", d.path("mine", "bundle.pem"), d.path("mine", "svid.pem"))
    equal(openssl("pkey", "-in", d.path("mine", "key.pem"), "-pubout"),
          openssl("x509", "-in", d.path("mine", "svid.pem"), "-noout", "-pubkey"), "the key")
    # What was fetched is good for writ's own door.
    equal(d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, cert=(d.path("mine", "svid.pem"), d.path("mine", "key.pem"))).status,
          200, "mutual TLS")
    jwt = ("svid", "jwt", "--socket", uri)
    token = d.writ(*jwt, "--audience", "one", "--audience", "two", "--id", A, code=0).stdout.strip()
    equal((part(token, 1)["sub"], part(token, 1)["aud"]), (A, ["one", "two"]), "claims")
    equal(part(json.loads(d.writ(*jwt, "--audience", "one", "--json", code=0).stdout)["svid"], 1)["sub"], B, "by default")
    d.writ(*jwt, "--audience", "one", "--output", d.path("mine", "token"), code=0)
    with open(d.path("mine", "token"), encoding="ascii") as f:
        equal(part(f.read(), 1)["aud"], ["one"], "the file")
    other = f"spiffe://{TRUST_DOMAIN}/agent/other"
    for args, code, says in (
            (("svid", "x509", "--socket", uri, "--id", other), 1, "no spiffe://"),
            ((*jwt, "--audience", "a", "--id", other), 1, "not entitled"), ((*jwt, "--audience", "a", "--id", "x"), 1, "does not start with"),
            (jwt, 2, "--audience is missing"),
            (("svid", "x509", "--socket", uri, "--join-token", "wjt_x"), 2, "needs no proof"),
            (("svid", "x509", "--socket", "unix:relative"), 2, "unix:///PATH"),
            (("svid", "x509", "--socket", "tcp://127.0.0.1:1"), 2, "unix:///PATH"),
            (("svid", "x509", "--socket", "unix:///" + "x" * 200), 2, "unix:///PATH"),
            (("svid", "x509", "--socket", f"unix://{d.path('none')}"), 1, "none"),
            (("svid", "x509", "--socket", f"unix://{d.admin_socket}"), 1, "svid x509: ")):
        done = d.writ(*args, code=code)
        check(says in done.stderr, f"{args}: {done.stderr}")
    d.close()


@test
def who_comes_here_has_been_seen():
    d = started()
    d.register(A, selectors=MINE)
    d.register(B, selectors=["unix:uid:4294967294"])

    def seen(spiffe_id):
        return "seen_at" in d.admin("GET", "/v1/agents?id=" + spiffe_id).json["agents"][0]
    check(not seen(A) and not seen(B), "before anybody came")
    equal(client(d).call(API + "FetchJWTSVID", field(1, "svc"), HEADER).status, 0, "FetchJWTSVID")
    check(seen(A) and not seen(B), "who came, and who did not")
    d.close()


@test
def jwt_svids():
    d = started()
    d.register(A, selectors=MINE, jwt_ttl="120s", attributes={"hint": "h"})
    d.register(B, selectors=MINE)
    d.register(f"spiffe://{TRUST_DOMAIN}/agent/other", selectors=["unix:uid:4294967294"])
    g = client(d)

    def fetch(*audience, spiffe_id=None):
        request = b"".join(field(1, a) for a in audience) + (field(2, spiffe_id) if spiffe_id is not None else b"")
        return g.call(API + "FetchJWTSVID", request, HEADER)

    def part(token, n):
        text = token.split(".")[n]
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))

    reply = fetch("svc1", "svc2")
    tokens = [parse(t) for t in parse(reply.messages[0])[1]]
    equal([t[1][0].decode() for t in tokens], [A, B], "identities")
    equal([t.get(3, [b""])[0] for t in tokens], [b"h", b""], "hints")
    token = tokens[0][2][0].decode()
    header, claims = part(token, 0), part(token, 1)
    equal((claims["sub"], claims["aud"], claims["exp"] - claims["iat"]), (A, ["svc1", "svc2"], 120), "claims")
    keys = json.loads(parse(parse(g.stream(API + "FetchJWTBundles", b"", HEADER).next())[1][0])[2][0])
    equal([(k["kid"], k["use"]) for k in keys["keys"]], [(header["kid"], "jwt-svid")], "the JWT bundle")
    check(not any("x5c" in k for k in keys["keys"]), "X.509 authorities in a JWT bundle")
    equal(len(parse(fetch("svc", spiffe_id=B).messages[0])[1]), 1, "one identity")
    for why, reply, code in (
            ("no audience", fetch(), "invalid"), ("an empty audience", fetch(""), "invalid"),
            ("a malformed ID", fetch("svc", spiffe_id="spiffe://Example/x"), "invalid"),
            ("an ID without a path", fetch("svc", spiffe_id=f"spiffe://{TRUST_DOMAIN}"), "invalid"),
            ("17 audiences", fetch(*(f"a{i}" for i in range(17))), "invalid"),
            ("an audience that is too long", fetch("x" * 3000), "invalid"),
            ("another's ID", fetch("svc", spiffe_id=f"spiffe://{TRUST_DOMAIN}/agent/other"), "denied"),
            ("an ID nobody has", fetch("svc", spiffe_id=f"spiffe://{TRUST_DOMAIN}/agent/none"), "denied"),
            ("a foreign ID", fetch("svc", spiffe_id="spiffe://other.example/a"), "denied"),
            ("bytes", g.call(API + "FetchJWTSVID", b"\xff\xff", HEADER), "invalid"),
            ("not UTF-8", g.call(API + "FetchJWTSVID", field(1, b"\xff"), HEADER), "invalid")):
        equal((reply.status, reply.messages), (CODES[code], []), f"{why} ({reply.message})")

    def validate(audience, svid):
        return g.call(API + "ValidateJWTSVID", field(1, audience) + field(2, svid), HEADER)

    reply = validate("svc2", token)
    m = parse(reply.messages[0])
    equal((reply.status, m[1][0].decode()), (0, A), "validated")
    said = dict((parse(e)[1][0].decode(), parse(parse(e)[2][0])) for e in parse(m[2][0])[1])
    equal(said["exp"], {2: [float(claims["exp"])]}, "exp")
    equal(said["sub"], {3: [A.encode()]}, "sub")
    equal([parse(v)[3][0] for v in parse(said["aud"][6][0])[1]], [b"svc1", b"svc2"], "aud")
    equal(validate("svc1", token).status, 0, "again")
    for why, reply in (("another audience", validate("svc3", token)), ("a changed token", validate("svc1", token[:-4] + "AAAA")),
                       ("no token", validate("svc1", "")), ("no audience", validate("", token)),
                       ("two parts", validate("svc1", token.rsplit(".", 1)[0]))):
        equal((reply.status, reply.messages), (3, []), f"{why} ({reply.message})")
    records = [r for _, r in leaves(d.export()).values() if r["kind"] == "identity.issue" and r["svid"] == "jwt"]
    equal(sorted(r["agent"] for r in records), [A, B, B], "JWT-SVIDs on record")
    d.close()


@test
def names_of_the_server_are_not_looked_at():
    d = started()
    d.register(A, selectors=MINE)
    for authority in ("localhost", d.workload_socket, d.workload_socket.replace("/", "%2F"), "[::]:50051", "", None,
                      "cluster_name"):
        g = client(d, authority=authority)
        equal(ids(g.stream(API + "FetchX509SVID", b"", HEADER).next()), [A], f"authority {authority!r}")
        g.close()
    d.close()


@test
def it_speaks_http2_only():
    d = started()
    equal(raw(d.workload_socket, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"), b"", "HTTP/1.1")
    equal(os.stat(d.workload_socket).st_mode & 0o777, 0o666, "mode of the socket")
    d.close()


@test
def a_process_that_has_ended_gets_nothing():
    """A socket outlives the process that connected it, when another one holds it too."""
    d = started()
    d.register(A, selectors=MINE)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    child = os.fork()
    if not child:
        s = socket.socket(socket.AF_UNIX)
        s.connect(d.workload_socket)
        theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
        theirs.recv(1)
        os._exit(0)
    _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    fd = array.array("i", ancillary[0][2])[0]
    g = Client.__new__(Client)
    real, socket.socket = socket.socket, lambda *_: type("S", (), {
        "__getattr__": lambda self, name: getattr(handed, name), "connect": lambda self, _: None})()
    handed = real(fileno=fd)
    try:
        g.__init__(d.workload_socket)
    finally:
        socket.socket = real
    s = g.stream(API + "FetchX509SVID", b"", HEADER)
    equal(ids(s.next()), [A], "while it lives")
    ours.send(b"x")
    os.waitpid(child, 0)
    for method, request in (("FetchX509SVID", b""), ("FetchJWTSVID", field(1, "svc"))):
        reply = g.call(API + method, request, HEADER)
        equal((reply.status, reply.messages), (14, []), f"{method} after its end ({reply.message})")
    d.register(B, selectors=MINE)  # what changes is not pushed to it any more
    reply = ended(s, "unavailable")
    equal(len(reply.messages), 1, "messages")
    d.close()


@test
def many_streams_and_what_is_cancelled():
    d = started()
    d.register(A, selectors=MINE)
    clients = [client(d) for _ in range(3)]
    streams = [(g, g.stream(API + "FetchX509SVID", b"", HEADER)) for g in clients for _ in range(80)]
    check(all(ids(s.next()) == [A] for _, s in streams), "first messages")
    for _, s in streams[::2]:
        s.cancel()
    # A reader that takes nothing holds nobody up.
    lazy = client(d, settings=b"\x00\x04\x00\x00\x00\x00")
    held = lazy.stream(API + "FetchX509SVID", b"", HEADER)
    clients[2].close()
    d.register(B, selectors=MINE)
    check(all(ids(s.next()) == [A, B] for g, s in streams[1::2] if g is not clients[2]), "second messages")
    equal(held.reply.messages, [], "who gives no window")
    d.close()


@test
def one_user_has_a_share_of_the_streams():
    d = started(config="limits = { agent_rate = 100000, agent_burst = 100000 }\n")
    d.register(A, selectors=MINE)
    clients = [client(d) for _ in range(9)]
    streams = [g.stream(API + "FetchX509Bundles", b"", HEADER) for g in clients for _ in range(120)]
    opened, refused = 0, []
    for s in streams:
        try:
            s.next()
            opened += 1
        except Ended as e:
            equal(e.reply.status, 14, "too many")
            refused.append(e.reply.message)
    equal((opened, len(refused)), (1024, 9 * 120 - 1024), "streams of one user")
    check(all("too many streams" in m for m in refused), refused[:2])
    clients[0].close()  # what is given back can be had again
    end = time.monotonic() + 10
    while client(d).stream(API + "FetchX509Bundles", b"", HEADER).end_or_message() is None and time.monotonic() < end:
        time.sleep(0.05)
    check(time.monotonic() < end, "nothing was given back")
    d.close()


@test
def the_bounds_are_settings():
    d = started(config="limits = { workload_streams = 16, workload_user_streams = 5, workload_connections = 20,\n"
                       "           workload_user_connections = 4 }\n")
    d.register(A, selectors=MINE)
    g = client(d)
    held = [g.stream(API + "FetchX509SVID", b"", HEADER) for _ in range(5)]
    check(all(ids(s.next()) == [A] for s in held), "up to the bound")
    reply = ended(g.stream(API + "FetchX509SVID", b"", HEADER), "unavailable")
    check("a user may have 5 (limits.workload_user_streams), all together 16" in reply.message, reply.message)
    held[0].cancel()
    equal(ids(g.stream(API + "FetchX509SVID", b"", HEADER).next()), [A], "what was given back")
    others = [raw(d.workload_socket, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", seconds=1, finish=False) for _ in range(1)]
    check(others[0], "a second connection")
    more = [client(d) for _ in range(3)]
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(d.workload_socket)
        equal(s.recv(1), b"", "a fifth connection")
    for m in more:
        m.close()
    d.close()


@test
def streams_end_with_the_server_and_come_back():
    d = started()
    d.register(A, selectors=MINE)
    g = client(d)
    s = g.stream(API + "FetchX509SVID", b"", HEADER)
    (before,), _ = svids(s.next())
    d.process.terminate()
    ended(s, "unavailable")
    check(g.goaway, "no GOAWAY")
    d.stop()
    check(not os.path.exists(d.workload_socket), "the socket is left behind")
    d.start()
    (after,), _ = svids(client(d).stream(API + "FetchX509SVID", b"", HEADER).next())
    equal((before[0], before[3]), (after[0], after[3]), "identity and bundle after a restart")
    d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)
    d.close()


main()
