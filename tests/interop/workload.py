#!/usr/bin/env python3
"""Foreign clients at the Workload API: py-spiffe (on grpcio), and grpcio by itself.

Not part of `make test`: needs a virtual environment with `pip install grpcio spiffe`:

    python3 -m venv build/interop && build/interop/bin/pip install grpcio spiffe
    build/interop/bin/python tests/interop/workload.py
"""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))

import grpc  # noqa: E402
from grpc_client import field, parse  # noqa: E402
from harness import TRUST_DOMAIN, Deployment, Failure, check, equal, main, test  # noqa: E402
from spiffe import WorkloadApiClient, X509Source, JwtSource  # noqa: E402

A, B = f"spiffe://{TRUST_DOMAIN}/agent/a", f"spiffe://{TRUST_DOMAIN}/agent/b"
MINE = [f"unix:uid:{os.geteuid()}"]
HEADER = (("workload.spiffe.io", "true"),)


def raw(x):
    return x


@test
def py_spiffe():
    d = Deployment().start()
    d.register(A, selectors=MINE)
    with WorkloadApiClient(f"unix://{d.workload_socket}") as client:
        svid = client.fetch_x509_svid()
        equal(str(svid.spiffe_id), A, "X.509-SVID")
        bundles = client.fetch_x509_bundles()
        check(bundles is not None, "X.509 bundles")
        context = client.fetch_x509_context()
        equal(str(context.default_svid.spiffe_id), A, "X.509 context")
        token = client.fetch_jwt_svid(audience={"svc"})
        equal(str(token.spiffe_id), A, "JWT-SVID")
        check(client.fetch_jwt_bundles() is not None, "JWT bundles")
        equal(str(client.validate_jwt_svid(token.token, "svc").spiffe_id), A, "validated")
    with X509Source(socket_path=f"unix://{d.workload_socket}") as source:
        equal(str(source.get_x509_context().default_svid.spiffe_id), A, "an X509Source")
        changed = threading.Event()
        source.subscribe_for_updates(changed.set)
        d.register(f"spiffe://{TRUST_DOMAIN}/agent/0", selectors=MINE)
        check(changed.wait(10), "no update")
        equal(str(source.get_x509_context().default_svid.spiffe_id), f"spiffe://{TRUST_DOMAIN}/agent/0", "after an update")
    with JwtSource(socket_path=f"unix://{d.workload_socket}") as source:
        equal(str(source.fetch_svid(audience={"svc"}).spiffe_id), f"spiffe://{TRUST_DOMAIN}/agent/0", "a JwtSource")
    d.close()


def fails(code, what, calls):
    try:
        for _ in calls():
            pass
    except grpc.RpcError as e:
        equal(e.code(), code, what)
        return e.details()
    raise Failure(f"{what}: no error")


@test
def grpcio_streams_and_statuses():
    d = Deployment().start()
    d.register(A, selectors=MINE)
    with grpc.insecure_channel(f"unix://{d.workload_socket}") as channel:
        fetch = channel.unary_stream("/SpiffeWorkloadAPI/FetchX509SVID", raw, raw)
        fetch_jwt = channel.unary_unary("/SpiffeWorkloadAPI/FetchJWTSVID", raw, raw)
        health = channel.unary_unary("/grpc.health.v1.Health/Check", raw, raw)
        equal(health(b""), b"\x08\x01", "health")
        said = fails(grpc.StatusCode.INVALID_ARGUMENT, "without the header", lambda: fetch(b""))
        check("security header missing" in said, said)
        stream = fetch(b"", metadata=HEADER)
        equal(parse(parse(next(stream))[1][0])[1][0].decode(), A, "first")
        d.register(B, selectors=MINE)
        equal(len(parse(next(stream))[1]), 2, "a push")
        fails(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline", lambda: fetch(b"", metadata=HEADER, timeout=0.5))
        for agent in (A, B):
            d.admin("POST", "/v1/agents/suspend", {"spiffe_id": agent})
        fails(grpc.StatusCode.PERMISSION_DENIED, "the end", lambda: stream)
        fails(grpc.StatusCode.INVALID_ARGUMENT, "no audience", lambda: [fetch_jwt(field(1, ""), metadata=HEADER)])
        fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "too large", lambda: [health(b"x" * (2 << 20))])
        fails(grpc.StatusCode.UNIMPLEMENTED, "no such method",
              lambda: [channel.unary_unary("/SpiffeWorkloadAPI/FetchWITBundles", raw, raw)(b"", metadata=HEADER)])
    d.close()


if __name__ == "__main__":
    main()
