"""What the scenario of ../spiffe.py leaves out: py-spiffe's sources and single calls, and what gRPC's C core makes of our
deadlines, limits and status codes. Ends with 0 if all of it is as it should be."""
import sys

import grpc
from spiffe import JwtSource, WorkloadApiClient, X509Source

AUDIENCE = "interop"
HEADER = (("workload.spiffe.io", "true"),)


def sources(uri, agent):
    with WorkloadApiClient(uri) as client:
        assert str(client.fetch_x509_svid().spiffe_id) == agent
        assert client.fetch_x509_bundles().get_bundle_for_trust_domain(client.fetch_x509_svid().spiffe_id.trust_domain)
    with X509Source(socket_path=uri) as source:
        assert str(source.svid.spiffe_id) == agent
    with JwtSource(socket_path=uri) as source:
        assert str(source.fetch_svid(audience={AUDIENCE}).spiffe_id) == agent


def raw(x):
    return x


def fails(code, call, **more):
    try:
        for _ in call(**more):
            pass
    except grpc.RpcError as e:
        assert e.code() == code, f"{e.code()} instead of {code}: {e.details()}"
        return e.details()
    raise AssertionError(f"no {code}")


def statuses(uri):
    with grpc.insecure_channel(uri) as channel:
        def stream(method, request=b"", **more):
            return channel.unary_stream("/SpiffeWorkloadAPI/" + method, raw, raw)(request, **more)

        health = channel.unary_unary("/grpc.health.v1.Health/Check", raw, raw)
        assert health(b"") == b"\x08\x01"
        said = fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: stream("FetchX509SVID"))
        assert "security header missing" in said, said
        fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: stream("FetchX509SVID", metadata=HEADER, timeout=0.5))
        fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: stream("FetchJWTSVID", b"\n\0", metadata=HEADER))
        fails(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: [health(b"x" * (2 << 20))])
        fails(grpc.StatusCode.UNIMPLEMENTED, lambda: stream("NoSuchMethod", metadata=HEADER))


sources(*sys.argv[1:])
statuses(sys.argv[1])
