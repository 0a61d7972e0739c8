#!/usr/bin/env python3
"""grpc.health.v1.Health on the real binary: Check and Watch, over the agents' door."""
from grpc_client import Client, field
from harness import POLICIES, Deployment, check, equal, main, test

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"


def started(**options):
    d = Deployment(policies=POLICIES, **options)
    d.start()
    return d


@test
def check_says_what_readyz_says():
    d = started()
    g = Client(("127.0.0.1", d.port))
    reply = g.call(CHECK)
    equal((reply.http, reply.status, reply.messages), (200, 0, [SERVING]), "Check")
    equal(reply.blocks, 2, "header blocks")
    equal(g.call(CHECK, field(1, "grpc.health.v1.Health")).messages, [SERVING], "a service that is here")
    reply = g.call(CHECK, field(1, "example.Nothing"))
    equal((reply.status, reply.messages, reply.blocks), (5, [], 1), "a service that is not")
    check("example.Nothing" in reply.message, reply.message)
    equal(g.call(CHECK, b"\x0a\x05ab").status, 3, "a request that is not well-formed")
    equal(g.call(CHECK, field(1, b"\xff")).status, 3, "a service that is not UTF-8")
    equal(g.call("/grpc.health.v1.Health/Other").status, 12, "an unknown method")
    equal(g.call("/access/v1/evaluation").status, 12, "an HTTP endpoint")
    for metadata in ({"grpc-timeout": "1S"}, {"grpc-timeout": "5000m"}):
        equal(g.call(CHECK, b"", metadata).status, 0, str(metadata))
    plain = d.http("POST", CHECK, {})
    equal(plain.status, 400, "without gRPC")
    check("Content-Type application/grpc" in plain.body.decode(), plain.body)
    d.close()


@test
def watch_follows():
    d = started()
    g = Client(("127.0.0.1", d.port))
    s = g.stream(WATCH)
    equal(s.next(), SERVING, "first")
    unknown = g.stream(WATCH, field(1, "example.Nothing"))
    equal(unknown.next(), SERVICE_UNKNOWN, "unknown service")
    cancelled = g.stream(WATCH)
    equal(cancelled.next(), SERVING, "another")
    cancelled.cancel()
    check(s.quiet(1.5) and unknown.quiet(0.1), "something was said though nothing changed")
    d.process.terminate()
    reply = s.end()
    equal(reply.status, 14, "at the stop")
    check("stopping" in reply.message and g.goaway, reply)
    d.stop()
    d.close()


@test
def not_serving_without_policies():
    d = Deployment(policies={})
    d.start(path="/livez")
    g = Client(("127.0.0.1", d.port))
    equal(g.call(CHECK).messages, [NOT_SERVING], "without policies")
    s = g.stream(WATCH)
    equal(s.next(), NOT_SERVING, "watched without policies")
    for name, text in POLICIES.items():
        d.policy(name, text)
    equal(s.next(), SERVING, "once there are some")
    d.close()


main()
