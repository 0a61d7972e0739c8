"""What ext_authz over gRPC costs, for scripts/bench: Check with a durable record beside nginx, Check without
one beside the health check of the same server, and connections that idle."""
import os
import resource
import socket
import statistics
import time

from grpc_client import PREFACE, SETTINGS, field
from harness import TRUST_DOMAIN, Deployment

CHECK, HEALTH = "/envoy.service.auth.v3.Authorization/Check", "/grpc.health.v1.Health/Check"
GRPC = ["--header", "content-type: application/grpc", "--header", "te: trailers"]
IDLE = 10000
AGENT = f"spiffe://{TRUST_DOMAIN}/agent/bench-1"


def framed(message):
    return b"\0" + len(message).to_bytes(4, "big") + message


def pair(number, key, value):
    return field(number, field(1, key) + field(2, value))


def check_request(agent):
    """As Envoy sends it: 15 headers, the body of a tool call; the run of '@' is a number."""
    body = ('{"jsonrpc":"2.0","id":@@@@@@,"method":"tools/call","params":{"name":"pay-137","arguments":{"amount":100,'
            '"to":"supplier-4711","currency":"EUR","note":"invoice 4711"}}}')
    headers = {":method": "POST", ":path": "/mcp", ":authority": "bench.example", ":scheme": "https",
               "content-type": "application/json", "content-length": str(len(body)), "user-agent": "python-httpx/0.28.1",
               "accept": "application/json, text/event-stream", "accept-encoding": "gzip, deflate",
               "mcp-protocol-version": "2025-06-18", "mcp-session-id": "1868a90c-7f1e-4f2a-9f27-1f1c7c2a5a11",
               "x-forwarded-proto": "https", "x-request-id": "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
               "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-envoy-internal": "true"}
    http = field(1, "1234567890") + field(2, "POST") + b"".join(pair(3, k, v) for k, v in headers.items())
    http += field(4, "/mcp") + field(5, "bench.example") + field(6, "https") + field(9, len(body))
    http += field(10, "HTTP/2") + field(12, body)
    address = field(1, field(2, "10.0.0.7") + field(3, 51234))
    attributes = field(1, field(1, address) + field(4, agent)) + field(2, field(1, address))
    attributes += field(4, field(1, field(1, 1700000000)) + field(2, http))
    attributes += pair(10, "protocol", "mcp") + pair(10, "server", "bench")
    return field(1, attributes)


def speed(bench, d, bare, nginx):
    files = {}
    for name, message in (("check", check_request(AGENT)), ("health", b"")):
        files[name] = os.path.join(d.dir, name + ".grpc")
        with open(files[name], "wb") as f:
            f.write(framed(message))

    def ask(server, path, name, expect, *args):
        return lambda: bench.load(f"127.0.0.1:{server.port}", *args, *GRPC, "--path", path, "--body", files[name],
                                  "--expect", expect)
    wide, narrow = ("--connections", "16", "--streams", "32"), ("--connections", "8", "--streams", "16")
    points = {"grpc durable 16x32": ask(d, CHECK, "check", "permitted", *wide)}
    if nginx:
        points["grpc nginx 128"] = lambda: bench.load(f"127.0.0.1:{nginx.port}", "--connections", "128", "--path", "/")
    if bare:
        points["grpc health 8x16"] = ask(bare, HEALTH, "health", "\x08\x01", *narrow)
        points["grpc not recorded 8x16"] = ask(bare, CHECK, "check", "permitted", *narrow)
    for _ in range(bench.rounds):
        for name, step in points.items():
            bench.numbers.setdefault(name, []).append(step())

    def line(name, label, other=None, least=None, of=""):
        rate = statistics.median(r["rps"] for r in bench.numbers[name])
        base = statistics.median(r["rps"] for r in bench.numbers[other]) if other in points else None
        ratio = rate / base if base else None
        bench.row(label, f"{rate:,.0f}/s", ratio, f">= {least} of {of}" if least else "",
                  ratio >= least if least and ratio else None)
    line("grpc durable 16x32", "gRPC Check, durable, 16 connections x 32 streams", "grpc nginx 128", 0.9, "nginx at 128")
    if bare:
        line("grpc health 8x16", "gRPC health check, 8 connections x 16 streams")
        line("grpc not recorded 8x16", "gRPC Check, not recorded, 8 x 16", "grpc health 8x16", 0.3, "the health check")


def idle(bench, rss_mib):
    """10,000 connections of HTTP/2 that have said hello and wait."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 1000:
        raise ValueError(f"this machine allows {hard} files; {IDLE + 1000} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    d = Deployment(policies=dict(bench.rules()), config=f"limits = {{ connections = {IDLE + 100} }}\n").start()
    held = []
    try:
        before = rss_mib(d.process.pid)
        for _ in range(IDLE):
            s = socket.create_connection(("127.0.0.1", d.port), 10)
            s.sendall(PREFACE + b"\0\0\0" + bytes([SETTINGS, 0]) + b"\0\0\0\0")
            held.append(s)
        for s in held:  # its settings: the server has taken it
            if not s.recv(9):
                raise ValueError("a connection was closed")
        time.sleep(0.2)
        after = rss_mib(d.process.pid)
    finally:
        for s in held:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    d.close()
    bench.numbers["grpc idle"] = {"before": before, "after": after, "connections": IDLE}
    bench.row(f"resident memory with {IDLE:,} idle gRPC connections", f"{after:.0f} MiB", None, "< 200 MiB", after < 200)
