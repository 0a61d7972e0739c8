"""The Workload Endpoint and gRPC: who is answered at all, and how."""
import time

import wire
from report import API, ENDPOINT, SHOULD, Fail, Skip, check, want
from target import HEADER, SERVICE, address
from wire import field, parse, text

GRPC = "gRPC over HTTP/2"
METHODS = {"FetchX509SVID": b"", "FetchX509Bundles": b"", "FetchJWTSVID": field(1, "a"), "FetchJWTBundles": b"",
           "ValidateJWTSVID": field(1, "a") + field(2, "a.b.c")}
INVALID, NO_PERMISSION, UNIMPLEMENTED, UNAVAILABLE = 3, 7, 12, 14


@check("endpoint.uri", ENDPOINT, "4")
def uri(t):
    """The endpoint is found by unix:///ABSOLUTE/PATH or tcp://ADDRESS:PORT and nothing more."""
    try:
        address(t.uri)
    except ValueError as e:
        raise Fail(f"{t.uri}: {e}") from e


@check("endpoint.plain", ENDPOINT, "3.1")
def plain(t):
    """gRPC is served without TLS: HTTP/2 by prior knowledge."""
    g = t.connection()
    end = time.monotonic() + t.seconds
    while not g.settled and not g.closed and time.monotonic() < end:
        g.pump(0.2)
    want(g.settled, "no HTTP/2 SETTINGS came")


@check("endpoint.no-credentials", ENDPOINT, "5")
def no_credentials(t):
    """No password, token or certificate is asked for."""
    reply = t.jwt(t.audience)
    want(reply.status in (0, NO_PERMISSION, UNAVAILABLE), f"{reply}; UNAUTHENTICATED and the like ask for credentials")


@check("endpoint.header-missing", ENDPOINT, "6")
def header_missing(t):
    """A request without the metadata workload.spiffe.io is answered with INVALID_ARGUMENT."""
    for method, request in METHODS.items():
        t.refused(t.call(method, request, ()), INVALID, f"{method} without the header")


@check("endpoint.header-value", ENDPOINT, "3")
def header_value(t):
    """The value is \"true\", in this case of letters; anything else is as if it were missing."""
    for value in ("false", "TRUE", "True", "1", ""):
        for method in ("FetchX509SVID", "FetchJWTSVID"):
            t.refused(t.call(method, METHODS[method], (("workload.spiffe.io", value),)), INVALID,
                      f"{method} with workload.spiffe.io: {value!r}")


@check("endpoint.reflection", ENDPOINT, "7", SHOULD)
def reflection(t):
    """gRPC server reflection says which services there are."""
    for version in ("v1", "v1alpha"):
        s = t.connection().open(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo", HEADER)
        s.send(field(7, ""), last=False)
        try:
            m = parse(s.next(t.seconds))
        except wire.Ended:
            continue
        services = [text(parse(x), 1) for x in parse(m.get(6, [b""])[0]).get(1, [])]
        want("SpiffeWorkloadAPI" in services, f"SpiffeWorkloadAPI is not among {services}")
        return
    raise Fail("neither grpc.reflection.v1 nor v1alpha")


@check("api.not-extended", API, "2")
def not_extended(t):
    """The service has the methods of the standard only: others are UNIMPLEMENTED."""
    for method in ("FetchX509", "fetchX509SVID", "Status"):
        t.refused(t.call(method), UNIMPLEMENTED, method)


@check("api.wit", API, "7.2")
def wit(t):
    """Without the WIT-SVID profile its methods are UNIMPLEMENTED; with it, mandatory fields are set."""
    for method in ("FetchWITSVID", "FetchWITBundles"):
        try:
            m = parse(t.connection().stream(SERVICE + method, b"", HEADER).next(t.seconds))
        except wire.Ended as e:
            want(e.reply.status in (UNIMPLEMENTED, NO_PERMISSION), f"{method}: {e.reply}")
            continue
        if method == "FetchWITSVID":
            svids = [parse(s) for s in m.get(1, [])]
            want(svids and all(text(s, n) for s in svids for n in (1, 2, 3)), "a WITSVID lacks ID, token or key")
        else:
            want(m.get(1), "FetchWITBundles: no bundle")


@check("grpc.response", GRPC, "Responses")
def response(t):
    """An answer is HTTP 200 of type application/grpc, and ends with grpc-status in trailers."""
    for method, request in (("FetchJWTSVID", field(1, t.audience)), ("NoSuchMethod", b"")):
        reply = t.call(method, request)
        want(reply.http == 200 and reply.status is not None, f"{method}: {reply}")
        kind = reply.headers.get("content-type", "")
        want(kind == "application/grpc" or kind.startswith(("application/grpc+", "application/grpc;")),
             f"{method}: content-type {kind!r}")
        want(bool(reply.messages) == (reply.status == 0), f"{method}: {reply}")


@check("grpc.split", GRPC, "Requests")
def split(t):
    """A message may come in any number of DATA frames."""
    def ask(size):
        s = t.connection().open(SERVICE + "FetchJWTSVID", HEADER)
        body = field(1, t.audience)
        s.connection.data(s.id, b"\0" + len(body).to_bytes(4, "big") + body, True, size)
        return s.end(t.seconds)
    whole, pieces = t.patient(lambda: ask(16384)), t.patient(lambda: ask(1))
    want(pieces.status == whole.status, f"in frames of one byte: {pieces}; in one frame: {whole}")


@check("grpc.unknown-fields", GRPC, "Messages")
def unknown_fields(t):
    """Fields that a server does not know are skipped (protobuf)."""
    body, more = field(1, t.audience), field(1000, 7) + field(1001, b"later") + field(1002, 1.5)
    known, unknown = t.call("FetchJWTSVID", body), t.call("FetchJWTSVID", more + body)
    want(unknown.status == known.status, f"with unknown fields: {unknown}; without: {known}")


@check("grpc.authority", GRPC, "Requests")
def authority(t):
    """Whatever clients put into :authority on a Unix socket is served: they do not agree on it."""
    path = t.where if isinstance(t.where, str) else "127.0.0.1"
    for name in ("localhost", path.replace("/", "%2F"), path, "[::]:50051", "some_cluster"):
        reply = t.call("FetchJWTSVID", field(1, t.audience), authority=name)
        want(reply.status in (0, NO_PERMISSION), f":authority {name!r}: {reply}")


@check("grpc.ping", GRPC, "Keepalive")
def ping(t):
    """A PING is acknowledged, and many of them close nothing: clients measure bandwidth with them."""
    g = t.connection()
    for _ in range(20):
        g.frame(wire.PING, 0, 0, b"12345678")
    end = time.monotonic() + t.seconds
    while g.pongs < 20 and not g.closed and time.monotonic() < end:
        g.pump(0.2)
    want(g.pongs == 20 and not g.goaway, f"{g.pongs} of 20 acknowledged" + (", then GOAWAY" if g.goaway else ""))


@check("grpc.one-connection", GRPC, "Requests")
def one_connection(t):
    """Streams and calls share a connection: clients hold several streams on one."""
    t.first("FetchX509SVID")
    g = t.connection()
    streams = [g.stream(SERVICE + m, b"", HEADER) for m in ("FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles") * 8]
    reply = g.call(SERVICE + "FetchJWTSVID", field(1, t.audience), HEADER, t.seconds)
    want(reply.status == 0, f"a call beside 24 streams: {reply}")
    for s in streams:
        s.next(t.seconds)


@check("grpc.cancelled", GRPC, "Cancellation")
def cancelled(t):
    """Streams that clients cancel or leave are freed: many of them in turn hurt nobody."""
    t.first("FetchX509SVID")
    for _ in range(8):
        g = t.connection()
        streams = [g.stream(SERVICE + "FetchX509SVID", b"", HEADER) for _ in range(80)]
        for s in streams[::2]:
            s.cancel()
        try:
            streams[-1].next(t.seconds)
        except wire.Ended as e:
            want(e.reply.status == UNAVAILABLE, f"the 80th stream of a connection: {e.reply}")
        g.close()
    try:
        t.stream("FetchX509SVID")
    except wire.Ended as e:
        raise Fail(f"after 640 streams that were given up: {e.reply}") from e


@check("denied.x509", API, "5.2.1", SHOULD)
def denied_x509(t):
    """Who has no identity gets PERMISSION_DENIED and no message."""
    need_nobody(t)
    t.refused(t.call("FetchX509SVID"), NO_PERMISSION, "FetchX509SVID")


@check("denied.jwt", API, "6.2.1", SHOULD)
def denied_jwt(t):
    """Who has no identity gets PERMISSION_DENIED and no token."""
    need_nobody(t)
    t.refused(t.jwt(t.audience), NO_PERMISSION, "FetchJWTSVID")


@check("denied.bundles", API, "5.2.2, 6.2.2", SHOULD)
def denied_bundles(t):
    """Who may not have bundles gets PERMISSION_DENIED; a server may give its own to anybody."""
    need_nobody(t)
    for method, number in (("FetchX509Bundles", 2), ("FetchJWTBundles", 1)):
        try:
            s = t.connection().stream(SERVICE + method, b"", HEADER)
            given = wire.mapping(parse(s.next(t.seconds)), number)
        except wire.Ended as e:
            t.refused(e.reply, NO_PERMISSION, method)
            continue
        want(len(given) == 1, f"{method}: foreign bundles for nobody: {sorted(given)}")


def need_nobody(t):
    if not t.no_identity:
        raise Skip("needs a caller without an identity (--no-identity)")
