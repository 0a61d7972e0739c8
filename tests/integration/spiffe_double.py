"""spiffe_double: a Workload API server in Python that can be told to do one thing wrong.

Right without a fault. FAULTS names, for each check of tests/conformance, what breaks it: a function that changes the
server before it starts. The suite is worth something only if each of its checks can fail.
"""
import base64
import hashlib
import json
import os
import re
import secrets
import select
import socket
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "conformance"))

import der  # noqa: E402
import wire  # noqa: E402
from wire import field, literal, parse, text  # noqa: E402

TD = "example.org"
A, B = f"spiffe://{TD}/a", f"spiffe://{TD}/b"
CURVE = der.P256


# --- making certificates and tokens ---------------------------------------------------------

def tlv(tag, *content):
    body = b"".join(content)
    n = len(body)
    head = bytes([n]) if n < 128 else bytes([128 + (n.bit_length() + 7) // 8]) + n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([tag]) + head + body


def integer(n):
    return tlv(2, n.to_bytes(n.bit_length() // 8 + 1, "big", signed=True))


def oid(dotted):
    first, second, *rest = map(int, dotted.split("."))
    out = bytes([40 * first + second])
    for n in rest:
        piece = bytes([n & 127])
        while n := n >> 7:
            piece = bytes([n & 127 | 128]) + piece
        out += piece
    return tlv(6, out)


class Key:
    def __init__(self):
        self.d = secrets.randbelow(CURVE.n - 1) + 1
        self.x, self.y = CURVE.multiply(self.d, CURVE.g)
        self.point = b"\4" + self.x.to_bytes(32, "big") + self.y.to_bytes(32, "big")
        self.algorithm = tlv(0x30, oid(der.EC_KEY), oid("1.2.840.10045.3.1.7"))
        self.spki = tlv(0x30, self.algorithm, tlv(3, b"\0", self.point))
        self.sec1 = tlv(0x30, integer(1), tlv(4, self.d.to_bytes(32, "big")))
        self.pkcs8 = tlv(0x30, integer(0), self.algorithm, tlv(4, self.sec1))

    def sign(self, data):
        z, k = int.from_bytes(hashlib.sha256(data).digest(), "big"), secrets.randbelow(CURVE.n - 1) + 1
        r = CURVE.multiply(k, CURVE.g)[0] % CURVE.n
        return r, pow(k, -1, CURVE.n) * (z + r * self.d) % CURVE.n

    def jwk(self, kid):
        return {"kty": "EC", "use": "jwt-svid", "kid": kid, "crv": "P-256", "x": b64(self.point[1:33]),
                "y": b64(self.point[33:])}

    def cnf(self, **more):
        return {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": b64(self.point[1:33]), "y": b64(self.point[33:]), **more}

    def private(self):
        return self.cnf(d=b64(self.d.to_bytes(32, "big")))


def b64(data):
    data = json.dumps(data).encode() if isinstance(data, (dict, list)) else data
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def name(common):
    return tlv(0x30, tlv(0x31, tlv(0x30, oid("2.5.4.3"), tlv(12, common.encode())))) if common else tlv(0x30)


def moment(t):
    return tlv(0x17, time.strftime("%y%m%d%H%M%SZ", time.gmtime(t)).encode())


def extension(number, critical, value):
    return tlv(0x30, oid(number), *([tlv(1, b"\xff")] if critical else []), tlv(4, value))


def certificate(key, signer, subject, issuer, uris, **o):
    """Options: version serial begins ends ca usage usage_critical constraints_critical purposes san_critical."""
    o = {"version": 3, "serial": secrets.randbits(120) + 1, "begins": time.time() - 60, "ends": time.time() + 3600,
         "ca": False, "usage": ("digitalSignature",), "usage_critical": True, "constraints_critical": True,
         "purposes": ("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"), "san_critical": False, **o}
    more = []
    if o["ca"] is not None:
        more.append(extension("2.5.29.19", o["constraints_critical"], tlv(0x30, *([tlv(1, b"\xff")] if o["ca"] else []))))
    if o["usage"] is not None:
        bits = sum(1 << 15 - der.USAGES.index(u) for u in o["usage"])
        more.append(extension("2.5.29.15", o["usage_critical"], tlv(3, b"\0", bits.to_bytes(2, "big"))))
    if o["purposes"]:
        more.append(extension("2.5.29.37", False, tlv(0x30, *map(oid, o["purposes"]))))
    if uris:
        more.append(extension("2.5.29.17", o["san_critical"], tlv(0x30, *(tlv(0x86, u.encode()) for u in uris))))
    algorithm = tlv(0x30, oid("1.2.840.10045.4.3.2"))
    tbs = tlv(0x30, *([tlv(0xa0, integer(2))] if o["version"] == 3 else []), integer(o["serial"]), algorithm,
              name(issuer), tlv(0x30, moment(o["begins"]), moment(o["ends"])), name(subject), key.spki,
              tlv(0xa3, tlv(0x30, *more)))
    return tlv(0x30, tbs, algorithm, tlv(3, b"\0", tlv(0x30, *map(integer, signer.sign(tbs)))))


ROOT_KEY, NEXT_KEY, FOREIGN_KEY, JWT_KEY, LEAF_KEY, WIT_KEY = (Key() for _ in range(6))


def authority(key=ROOT_KEY, common="root", uris=("spiffe://" + TD,), **o):
    return certificate(key, key, common, common, uris, **{"ca": True, "usage": ("keyCertSign", "cRLSign"),
                                                          "ends": time.time() + 86400, "purposes": (), **o})


# --- what it says ---------------------------------------------------------------------------

class World:
    """All that a fault may change."""

    def __init__(self):
        self.lock = threading.RLock()
        self.ids, self.hints = [A, B], ["one", "two"]
        self.leaf, self.uris, self.subject, self.signer, self.issuer = {}, None, "leaf", ROOT_KEY, "root"
        self.roots, self.extra_chain, self.tail = [authority()], b"", b""
        self.foreign = {"spiffe://fed.example": authority(FOREIGN_KEY, "fed", ("spiffe://fed.example",))}
        self.federated, self.x509_bundles, self.crl = None, None, []
        self.key_bytes, self.serial = LEAF_KEY.pkcs8, None
        self.jwt_keys, self.jwt_signer, self.kid = [("k1", JWT_KEY)], JWT_KEY, "k1"
        self.header, self.claims = {}, {}
        self.wit_header, self.wit_claims, self.wit_key, self.wit_signer = {}, {}, LEAF_KEY.private(), WIT_KEY
        self.wit_keys, self.wit_jwk, self.wit_bundles, self.takes_wit = [("w1", WIT_KEY)], lambda k: k, lambda b: b, False
        self.wit_malformed, self.wit_foreign = (3, "no SPIFFE ID"), (7, "not yours")
        self.wit_fields, self.wit_filter = lambda fields: fields, True
        self.jwt_ids = None
        self.svid_fields = lambda fields: fields
        self.token = lambda token: token
        self.jwk, self.jwks, self.jwt_bundles = (lambda jwk: jwk), None, lambda bundles: bundles
        self.method = {}          # name -> function(request) -> (status, message) or bytes
        self.header_needed = lambda value: value == ["true"]
        self.trust_kid_less, self.checks = False, {"audience", "signature", "alg", "kid", "shape"}
        self.first_delay, self.chatty, self.content_type, self.authorities = 0, False, "application/grpc", None
        self.http2, self.pong, self.limit, self.status_in_head = True, True, 10000, False
        self.one_stream = False
        self.on_revoke_status, self.restart_status = 7, 14
        self.entitled, self.version, self.reorder, self.calls = True, 0, False, 0
        self.no_split = self.no_unknown = False
        self.cache = {}
        self.claims_out = lambda claims: claims

    def chain(self, spiffe_id):
        key = spiffe_id, self.version
        if key not in self.cache:
            o = dict(self.leaf)
            if self.serial is not None:
                o["serial"] = self.serial
            uris = [spiffe_id] if self.uris is None else self.uris
            self.cache[key] = certificate(LEAF_KEY if not self.version else self.leaf_key, self.signer, self.subject,
                                          self.issuer, uris, **o) + self.extra_chain + self.tail
        return self.cache[key]

    def renew(self):
        self.leaf_key = Key()
        self.key_bytes, self.version = self.leaf_key.pkcs8, self.version + 1

    def x509(self):
        out, ids = b"", list(zip(self.ids, self.hints))
        if self.reorder:
            self.calls += 1
            ids = ids[::-1] if self.calls % 2 else ids
        for one, hint in ids:
            fields = self.svid_fields([one, self.chain(one), self.key_bytes, b"".join(self.roots), hint])
            out += field(1, b"".join(field(i + 1, v) for i, v in enumerate(fields) if v))
        federated = self.foreign if self.federated is None else self.federated
        return out + b"".join(field(2, c) for c in self.crl) + b"".join(
            field(3, field(1, k) + field(2, v)) for k, v in federated.items())

    def bundles(self):
        given = self.x509_bundles
        given = {"spiffe://" + TD: b"".join(self.roots), **self.foreign} if given is None else given
        return b"".join(field(2, field(1, k) + field(2, v)) for k, v in given.items())

    def keys(self):
        own = json.dumps({"keys": [self.jwk(k.jwk(kid)) for kid, k in self.jwt_keys]}) if self.jwks is None else self.jwks
        given = self.jwt_bundles({"spiffe://" + TD: own, "spiffe://fed.example": '{"keys":[]}'})
        return b"".join(field(1, field(1, k) + field(2, v)) for k, v in given.items())

    def jwt(self, request):
        m = parse(request)
        audience, wanted = [a.decode() for a in m.get(1, [])], text(m, 2)
        if not all(audience) or not audience:
            return 3, "no audience"
        if wanted and not re.fullmatch(r"spiffe://[a-z0-9.-]+(/[a-z]+)+", wanted):
            return 3, "no SPIFFE ID"
        ids = self.ids if self.jwt_ids is None else self.jwt_ids
        given = [(i, h) for i, h in zip(ids, self.hints) if not wanted or i == wanted]
        if not given:
            return 7, "not yours"
        out = b""
        for one, hint in given:
            now = int(time.time())
            claims = {"sub": one, "aud": audience, "exp": now + 300, "iat": now, **self.claims}
            header = {"alg": "ES256", "kid": self.kid, "typ": "JWT", **self.header}
            signed = ".".join(b64({k: v for k, v in x.items() if v is not None}) for x in (header, claims))
            r, s = self.jwt_signer.sign(signed.encode())
            token = self.token(f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}")
            out += field(1, field(1, one) + field(2, token) + field(3, hint))
        return out

    def wit(self, wanted=""):
        out, now = b"", int(time.time())
        for one, hint in zip(self.ids, self.hints):
            if wanted and one != wanted and self.wit_filter:
                continue
            header = {"alg": "ES256", "kid": "w1", "typ": "wit+jwt", **self.wit_header}
            claims = {"sub": one, "exp": now + 3600, "cnf": {"jwk": LEAF_KEY.cnf()}, **self.wit_claims}
            signed = ".".join(b64({k: v for k, v in x.items() if v is not None}) for x in (header, claims))
            r, s = self.wit_signer.sign(signed.encode())
            token = f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"
            fields = self.wit_fields([one, token, json.dumps(self.wit_key), hint])
            out += field(1, b"".join(field(i + 1, v) for i, v in enumerate(fields) if v))
        return out

    def wit_sets(self):
        own = json.dumps({"keys": [self.wit_jwk(dict(k.jwk(kid), use="wit-svid")) for kid, k in self.wit_keys]})
        return b"".join(field(1, field(1, k) + field(2, v)) for k, v in self.wit_bundles({"spiffe://" + TD: own}).items())

    def validate(self, request):
        m = parse(request)
        audience, token = text(m, 1), text(m, 2)
        if not audience or not token:
            return 3, "empty"
        try:
            parts = token.split(".")
            if "shape" in self.checks and (len(parts) != 3 or not re.fullmatch(r"[A-Za-z0-9_.-]+", token)):
                return 3, "no compact token"
            head, claims, signature = ((base64.urlsafe_b64decode(p + "==") for p in parts[:3])
                                       if "shape" not in self.checks and len(parts) > 2 else map(der.base64url, parts[:3]))
            head, claims = json.loads(head), json.loads(claims)
            if self.takes_wit and "cnf" in claims:
                return self.struct({"sub": A, "aud": ["x"], "exp": 1})
            if "alg" in self.checks and head.get("alg") != "ES256":
                return 3, "alg"
            if "kid" in self.checks and head.get("kid") not in dict(self.jwt_keys):
                return 3, "kid"
            if head.get("alg") == "ES256" and "signature" in self.checks and "kid" in self.checks and \
                    not der.verify_jws(("EC", "P-256", JWT_KEY.x, JWT_KEY.y), "ES256", ".".join(parts[:2]).encode(), signature):
                return 3, "signature"
            if "audience" in self.checks and audience not in claims["aud"]:
                return 3, "audience"
        except (ValueError, der.Bad) as e:
            return (3, str(e)) if "shape" in self.checks else self.struct({"sub": A, "aud": ["x"], "exp": 1})
        return self.struct(self.claims_out(claims))

    @staticmethod
    def struct(claims):
        def value(v):
            if isinstance(v, str):
                return field(3, v)
            if isinstance(v, list):
                return field(6, b"".join(field(1, value(x)) for x in v))
            return field(2, float(v))
        return field(1, claims.get("sub", "")) + field(2, b"".join(
            field(1, field(1, k) + field(2, value(v))) for k, v in claims.items()))


STREAMS = {"FetchX509SVID": World.x509, "FetchX509Bundles": World.bundles, "FetchJWTBundles": World.keys,
           "FetchWITSVID": World.wit, "FetchWITBundles": World.wit_sets}


class Conversation(threading.Thread):
    """One connection: reads frames, answers, and looks for what has changed."""

    def __init__(self, double, s):
        super().__init__(daemon=True)
        self.double, self.w, self.s = double, double.w, s
        self.headers, self.open, self.said, self.frames = wire.Headers(), {}, {}, {}

    def frame(self, kind, flags, sid, payload):
        self.s.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", sid) + payload)

    def run(self):
        try:
            self.serve()
        except (OSError, wire.Broken):
            pass
        finally:
            if self.w.limit == 10000:
                self.double.streams -= len(self.said)
            self.s.close()

    def serve(self):
        data, self.generation = b"", self.double.generation
        self.frame(wire.SETTINGS if self.w.http2 else wire.DATA, 0, 0, b"")
        while not self.double.stopped and self.generation == self.double.generation:
            if select.select([self.s], [], [], 0.02)[0]:
                got = self.s.recv(65536)
                if not got:
                    return
                data += got
            data = data.removeprefix(wire.PREFACE)
            while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                n = int.from_bytes(data[:3], "big")
                self.take(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:9 + n])
                data = data[9 + n:]
            with self.w.lock:
                self.push()
        for sid in list(self.said):
            self.status(sid, self.w.restart_status, "stopping")

    def take(self, kind, flags, sid, payload):
        if kind == wire.PING and not flags & 1 and self.w.pong:
            self.frame(wire.PING, 1, 0, payload)
        elif kind == wire.RST:
            if self.said.pop(sid, None) is not None and self.w.limit == 10000:
                self.double.streams -= 1
        elif kind == wire.HEADERS:
            self.open[sid] = [self.headers.read(payload), b""]
            self.frames[sid] = 0
        elif kind == wire.DATA and sid in self.open:
            self.open[sid][1] += payload
            self.frames[sid] += 1
            body = self.open[sid][1]
            if len(body) >= 5 and len(body) >= 5 + int.from_bytes(body[1:5], "big"):
                headers = self.open.pop(sid)[0]
                with self.w.lock:
                    self.answer(sid, headers, body[5:])

    def head(self, sid, more=(), flags=4):
        self.frame(wire.HEADERS, flags, sid, b"".join(literal(n, v) for n, v in (
            (":status", "200"), ("content-type", self.w.content_type), *more)))

    def status(self, sid, code, message=""):
        more = (("grpc-status", str(code)), ("grpc-message", message))
        if sid in self.said:
            self.frame(wire.HEADERS, 5, sid, b"".join(literal(n, v) for n, v in more))
            del self.said[sid]
            self.double.streams -= 1
        else:
            self.head(sid, more, 5)

    def message(self, sid, body):
        body = b"\0" + struct.pack(">I", len(body)) + body
        self.frame(wire.DATA, 0, sid, body)

    def answer(self, sid, headers, body):
        values = dict(headers)
        service, _, method = values[":path"].rpartition("/")
        w = self.w
        if "ServerReflection" in values[":path"]:
            if "reflection" in w.method:
                return self.status(sid, 12)
            self.head(sid)
            return self.message(sid, field(6, field(1, field(1, "SpiffeWorkloadAPI"))))
        if not w.header_needed([v for n, v in headers if n == "workload.spiffe.io"]):
            return self.status(sid, 3, "security header missing from request")
        if w.authorities is not None and values.get(":authority") not in w.authorities:
            return self.status(sid, 13, "authority")
        if w.no_split and self.frames[sid] > 1 or w.no_unknown and any(n > 5 for n in parse(body)):
            return self.status(sid, 13, "cannot read")
        if method in w.method:
            got = w.method[method](body)
        elif not w.entitled and method in (*STREAMS, "FetchJWTSVID"):
            got = 7, "no identity"
        elif method == "FetchJWTSVID":
            got = w.jwt(body)
        elif method == "FetchWITSVID" and body and (refusal := self.refuse_wit(text(parse(body), 1))):
            got = refusal
        elif method == "ValidateJWTSVID":
            got = w.validate(body)
        elif method in STREAMS:
            if self.double.streams >= w.limit or w.one_stream and self.said:
                return self.status(sid, 8, "too many streams")
            got = None
        else:
            got = 12, "unimplemented"
        if isinstance(got, tuple):
            return self.status(sid, *got)
        if got is not None:
            self.head(sid, (("grpc-status", "0"),) if w.status_in_head else ())
            self.message(sid, got)
            if w.status_in_head:
                return self.frame(wire.DATA, 1, sid, b"")
            return self.frame(wire.HEADERS, 5, sid, literal("grpc-status", "0"))
        time.sleep(w.first_delay)
        self.double.streams += 1
        self.head(sid)
        self.said[sid] = (method, None) if not body or method != "FetchWITSVID" else (f"{method} {text(parse(body), 1)}", None)
        return None

    def refuse_wit(self, wanted):
        if not re.fullmatch(r"spiffe://[a-z0-9.-]+(/[a-z]+)+", wanted):
            return self.w.wit_malformed
        return None if wanted in self.w.ids else self.w.wit_foreign

    def push(self):
        for sid, (method, last) in list(self.said.items()):
            if not self.w.entitled:
                self.status(sid, self.w.on_revoke_status, "no identity any more")
                continue
            if last is not None and (self.w.reorder or method.startswith("FetchWITSVID")):  # a signature is new each time
                continue
            name, _, wanted = method.partition(" ")
            now = STREAMS[name](self.w, *filter(None, [wanted]))
            if now != last or self.w.chatty:
                self.message(sid, now)
                self.said[sid] = method, now


class Double:
    def __init__(self, fault=None):
        self.w, self.stopped, self.generation, self.streams = World(), False, 0, 0
        self.commands = {"renew": self.w.renew, "authority": self.authority, "jwt-key": self.jwt_key,
                         "revoke": lambda: setattr(self.w, "entitled", False),
                         "grant": lambda: setattr(self.w, "entitled", True), "restart": self.restart}
        if fault:
            fault(self)
        for what, act in list(self.commands.items()):
            self.commands[what] = lambda act=act: self.locked(act)
        self.dir = tempfile.mkdtemp(prefix="double-")
        self.path = os.path.join(self.dir, "s")
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(self.path)
        self.s.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def locked(self, act):
        with self.w.lock:
            act()

    def authority(self):
        self.w.roots = [*self.w.roots, authority(NEXT_KEY, f"root-{len(self.w.roots)}")]

    def jwt_key(self):
        self.w.jwt_keys = [*self.w.jwt_keys, (f"k{len(self.w.jwt_keys) + 1}", NEXT_KEY)]

    def restart(self):
        self.generation += 1

    def accept(self):
        while True:
            try:
                s, _ = self.s.accept()
            except OSError:
                return
            Conversation(self, s).start()

    def close(self):
        self.stopped = True
        self.s.close()
        os.unlink(self.path)
        os.rmdir(self.dir)
