"""target: the server under test, and what it said: each message is fetched once and kept."""
import ipaddress
import json
import re
import subprocess
import time
import urllib.parse

import der
import wire
from report import Fail, Skip, want
from wire import field, mapping, parse, text

SERVICE = "/SpiffeWorkloadAPI/"
HEADER = (("workload.spiffe.io", "true"),)
CODES = {0: "OK", 1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND",
         7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE",
         16: "UNAUTHENTICATED"}


def trust_domain_of(spiffe_id, path=None):
    """The trust domain of a valid SPIFFE ID. @path: True, it needs one; False, it must have none."""
    m = re.fullmatch(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)*)", spiffe_id)
    if not m or len(spiffe_id) > 2048 or {".", ".."} & set(m.group(2).split("/")):
        raise Fail(f"{spiffe_id!r} is no SPIFFE ID")
    if path is not None and bool(m.group(2)) != path:
        raise Fail(f"{spiffe_id!r} has {'no' if path else 'a'} path")
    return m.group(1)


def address(uri):
    """Where a SPIFFE_ENDPOINT_SOCKET leads; ValueError says what is wrong with it."""
    u = urllib.parse.urlsplit(uri)
    if u.query or u.fragment or "?" in uri or "#" in uri:
        raise ValueError("a query or a fragment")
    if u.scheme == "unix":
        if u.netloc or not u.path.startswith("/"):
            raise ValueError("unix:///ABSOLUTE/PATH is expected, without an authority")
        return u.path
    if u.scheme == "tcp":
        if u.path or u.username is not None or u.port is None:
            raise ValueError("tcp://ADDRESS:PORT is expected, nothing else")
        return str(ipaddress.ip_address(u.hostname)), u.port
    raise ValueError("the scheme is neither unix nor tcp")


class Svid:
    """One X509SVID; what can be read of it at all."""

    def __init__(self, raw):
        m = parse(raw)
        self.spiffe_id, self.hint = text(m, 1), text(m, 5)
        self.chain, self.key, self.bundle = (m.get(n, [b""])[-1] for n in (2, 3, 4))

    @property
    def certificates(self):
        found = der.certificates(self.chain)
        want(found, f"{self.spiffe_id} has an empty chain")
        return found

    @property
    def leaf(self):
        return self.certificates[0]


class Token:
    """One JWTSVID, or any compact token."""

    def __init__(self, raw=None, svid=None):
        m = parse(raw) if raw is not None else {}
        self.spiffe_id, self.svid, self.hint = text(m, 1), svid or text(m, 2), text(m, 3)

    @property
    def parts(self):
        parts = self.svid.split(".")
        want(len(parts) == 3, f"a token of {len(parts)} parts; compact serialization has three")
        return [der.base64url(p) for p in parts]

    @property
    def header(self):
        return strict_json(self.parts[0])

    @property
    def claims(self):
        return strict_json(self.parts[1])


def strict_json(data):
    """An object without members that occur twice."""
    def pairs(members):
        found = dict(members)
        if len(found) != len(members):
            raise Fail("a JSON object has a member twice")
        return found
    value = json.loads(data, object_pairs_hook=pairs)
    want(isinstance(value, dict), "a JSON value that is no object")
    return value


class Target:
    def __init__(self, uri, trust_domain=None, audience="spiffe-conformance", no_identity=False, seconds=10, commands=None):
        self.uri, self.where = uri, address(uri)
        self.trust_domain, self.audience, self.no_identity, self.seconds = trust_domain, audience, no_identity, seconds
        self.commands = commands or {}
        self.kept, self.open = {}, []

    # talking

    def connection(self, **options):
        try:
            c = wire.Connection(self.where, seconds=self.seconds, **options)
        except OSError as e:
            raise Fail(f"cannot connect to {self.uri}: {e}") from e
        self.open.append(c)
        return c

    def tidy(self):
        for c in self.open:
            c.close()
        self.open = []

    def patient(self, ask):
        """@ask again while the answer is UNAVAILABLE (too many calls, say), as clients do."""
        end, pause = time.monotonic() + self.seconds, 0.01
        while True:
            got = ask()
            reply = got.reply if isinstance(got, wire.Ended) else got
            if getattr(reply, "status", None) != 14 or time.monotonic() > end:
                return got
            time.sleep(pause)
            pause = min(1, 2 * pause)

    def call(self, method, request=b"", metadata=HEADER, **options):
        return self.patient(lambda: self.connection(**options).call(SERVICE + method, request, metadata, self.seconds))

    def stream(self, method):
        """An open stream and its first message."""
        def ask():
            s = self.connection().stream(SERVICE + method, b"", HEADER)
            try:
                return s, s.next(self.seconds)
            except wire.Ended as e:
                return e
        if self.no_identity:
            raise Skip("the caller is said to have no identity (--no-identity)")
        got = self.patient(ask)
        if isinstance(got, wire.Ended):
            raise got
        return got

    def first(self, method):
        """The first message of a stream, and how long it took."""
        if method not in self.kept:
            began = time.monotonic()
            try:
                _, message = self.stream(method)
            except wire.Ended as e:
                raise Fail(f"{method}: {e.reply}") from e
            except wire.Late as e:
                raise Fail(f"{method}: no first message within {self.seconds:g} s") from e
            self.kept[method] = message, time.monotonic() - began
        return self.kept[method]

    def refused(self, reply, codes, what):
        codes = codes if isinstance(codes, tuple) else (codes,)
        want(reply.status in codes and not reply.messages,
             f"{what}: {reply}; expected {' or '.join(CODES[c] for c in codes)}")

    # what it says

    @property
    def svids(self):
        found = [Svid(raw) for raw in parse(self.first("FetchX509SVID")[0]).get(1, [])]
        want(found, "the response has no SVID")
        return found

    @property
    def default(self):
        return self.svids[0]

    @property
    def domain(self):
        return self.trust_domain or trust_domain_of(self.default.spiffe_id)

    @property
    def federated(self):
        return mapping(parse(self.first("FetchX509SVID")[0]), 3)

    @property
    def x509_bundles(self):
        return mapping(parse(self.first("FetchX509Bundles")[0]), 2)

    @property
    def jwt_bundles(self):
        return mapping(parse(self.first("FetchJWTBundles")[0]), 1)

    @property
    def jwks(self):
        """The keys of our own JWT bundle."""
        own = self.jwt_bundles.get("spiffe://" + self.domain)
        want(own is not None, f"no JWT bundle of spiffe://{self.domain}")
        keys = strict_json(own).get("keys")
        want(isinstance(keys, list) and all(isinstance(k, dict) for k in keys), "\"keys\" is no list of JWKs")
        return keys

    def jwt(self, *audience, spiffe_id=None):
        request = b"".join(field(1, a) for a in audience) + (field(2, spiffe_id) if spiffe_id is not None else b"")
        return self.call("FetchJWTSVID", request)

    @property
    def tokens(self):
        """Of two audiences: which is the harder case."""
        if "tokens" not in self.kept:
            if self.no_identity:
                raise Skip("the caller is said to have no identity (--no-identity)")
            reply = self.jwt(self.audience, self.audience + "-2")
            want(reply.status == 0 and len(reply.messages) == 1, f"FetchJWTSVID: {reply}")
            self.kept["tokens"] = reply.messages[0]
        found = [Token(raw) for raw in parse(self.kept["tokens"]).get(1, [])]
        want(found, "the response has no JWT-SVID")
        return found

    def validate(self, audience, svid):
        return self.call("ValidateJWTSVID", field(1, audience) + field(2, svid))

    # making it do something

    def does(self, what):
        """Run the operator's command --on-@what."""
        if self.no_identity:
            raise Skip("the caller is said to have no identity (--no-identity)")
        command = self.commands.get(what)
        if not command:
            raise Skip(f"needs --on-{what} COMMAND")

        def act():
            if callable(command):
                return command()
            done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
            want(done.returncode == 0, f"--on-{what} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
            return None
        return act
