#!/usr/bin/env -S python3 -B
"""Bytes that are wrong: each is refused with a 4xx and a JSON error, and the server goes on."""
import json
import os
import random
import re
import socket
import time

from harness import (AGENT, Deployment, Failure, call, check, equal, is_error, main, raw, raw_status, test)

EVALUATE = "/access/v1/evaluation"
GOOD = json.dumps(call(), separators=(",", ":")).encode()
shared = None


def server():
    global shared
    if shared is None:
        shared = Deployment().start()
        shared.register()
    return shared


def alive():
    reply = server().evaluate()
    equal((reply.status, reply.json["decision"]), (200, True), "the next good request")


def send(data, **how):
    return raw(("127.0.0.1", server().port), data, **how)


def request(head=b"", body=GOOD, line=b"POST /access/v1/evaluation HTTP/1.1", host=b"Host: localhost\r\n",
            kind=b"Content-Type: application/json\r\n", length=None):
    return (line + b"\r\n" + host + kind + head + b"Content-Length: %d\r\n\r\n" %
            (len(body) if length is None else length) + body)


def text(**members):
    """A good request with raw JSON text in the place of members."""
    parts = {"subject": '{"type":"agent","id":"%s"}' % AGENT, "action": '{"name":"tools/call"}',
             "resource": '{"type":"tool","id":"ledger/query"}'}
    parts.update(members)
    return "{" + ",".join(f'"{k}":{v}' for k, v in parts.items()) + "}"


DEEP = '{"a":' * 200 + "1" + "}" * 200
JSON = (
    # why, body
    ("empty", ""), ("white space", "   "), ("truncated", GOOD[:-5].decode()), ("half a text", '{"subject":"a'),
    ("an array", "[]"), ("a text", '"x"'), ("a number", "1"), ("null", "null"),
    ("trailing comma", text()[:-1] + ",}"), ("trailing text", text() + "x"), ("two values", text() + text()),
    ("single quotes", text().replace('"', "'")), ("a comment", "/**/" + text()),
    ("a byte order mark", "\ufeff" + text()), ("NaN", text(context='{"a":NaN}')),
    ("Infinity", text(context='{"a":-Infinity}')), ("leading zero", text(context='{"a":01}')),
    ("plus", text(context='{"a":+1}')), ("bare point", text(context='{"a":1.}')), ("hex", text(context='{"a":0x1}')),
    ("too large an exponent", text(context='{"a":1e999}')),
    ("an integer past 2^53", text(context='{"a":9007199254740993}')),
    ("too many digits", text(context='{"a":0.12345678901234567890}')), ("underflow", text(context='{"a":1e-400}')),
    ("a duplicate member", text(context='{"a":1,"a":1}')),
    ("a duplicate subject", text()[:-1] + ',"subject":{"type":"agent","id":"%s"}}' % AGENT),
    ("a duplicate behind an escape", text(context='{"a":1,"\\u0061":2}')),
    ("a duplicate deep down", text(context='{"x":[{"y":{"k":1,"j":2,"k":3}}]}')),
    ("a lone high surrogate", text(context='{"a":"\\ud800"}')), ("a lone low surrogate", text(context='{"a":"\\udc00x"}')),
    ("NUL by escape", text(context='{"a":"x\\u0000y"}')), ("NUL in a name", text(context='{"a\\u0000":1}')),
    ("a bad escape", text(context='{"a":"\\x41"}')), ("a cut escape", text(context='{"a":"\\u12"}')),
    ("a raw control character", text(context='{"a":"x\ny"}')), ("a raw tab", text(context='{"a":"x\ty"}')),
    ("too deep", text(context=DEEP)), ("too deep an array", text(context='{"a":' + "[" * 500 + "]" * 500 + "}")),
    ("too many members", text(context="{" + ",".join(f'"k{n}":1' for n in range(300)) + "}")),
    ("too many values", text(context='{"a":[' + ",".join(["1"] * 70000) + "]}")),
    ("too long a text", text(context='{"a":"' + "x" * 300000 + '"}')),
)
BYTES = (
    ("invalid UTF-8", text(context='{"a":"é"}').encode("latin-1")), ("overlong", b'{"a":"\xc0\xaf"}'),
    ("a surrogate in UTF-8", b'{"a":"\xed\xa0\x80"}'), ("UTF-16", text().encode("utf-16")),
    ("a raw NUL", text(context='{"a":"x\0y"}').encode()), ("NUL behind", GOOD + b"\0"),
)


@test
def bad_json_is_400():
    for why, body in JSON + BYTES:
        is_error(server().http("POST", EVALUATE, body if isinstance(body, bytes) else body.encode()), (400, 413),
                 why)
    alive()


@test
def a_message_tells_where():
    error = is_error(server().http("POST", EVALUATE, text(context='{"a":9007199254740993}')), 400, "big integer")
    check("string" in error["message"], f"no advice: {error}")
    error = is_error(server().http("POST", EVALUATE, text(context='{"a":1,"a":2}')), 400, "duplicate")
    check(any(c.isdigit() for c in error["message"]), f"no position: {error}")
    error = is_error(server().http("POST", EVALUATE, '{"<script>\x1b[31m": '), 400, "hostile text")
    check("\x1b" not in error["message"], f"control characters are echoed: {error}")


@test
def too_large_is_413():
    d = server()
    body = text(context='{"a":["' + '","'.join(["x" * 1000] * 1100) + '"]}')
    check(len(body) > 1024 * 1024, "the test's body is too small")
    is_error(d.http("POST", EVALUATE, body), 413, "1.1 MiB")
    # A promised length is enough; nothing needs to be sent.
    got = send(request(length=10 ** 12, body=b""), finish=False, seconds=5)
    equal(raw_status(got), 413, f"a promise of a terabyte: {got[:100]}")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    got = send(b"POST /access/v1/evaluation HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 40, finish=False)
    check(raw_status(got) in (413, 0), f"endless chunks: {got[:100]}")
    alive()


H = b"X-Filler: " + b"a" * 1000 + b"\r\n"
HTTP = (
    # why, bytes, statuses
    ("no Host", request(host=b""), {400}), ("two Hosts", request(b"Host: localhost\r\n"), {400}),
    ("space before the colon", request(b"X-A : 1\r\n"), {400}),
    ("Content-Length with a space before the colon", request().replace(b"Content-Length:", b"Content-Length :"),
     {400}),
    ("two lengths", request(b"Content-Length: 5\r\n"), {400}),
    ("two lengths in one", request(b"").replace(b"Content-Length: ", b"Content-Length: 5, "), {400}),
    ("a negative length", request(b"").replace(b"Content-Length: ", b"Content-Length: -"), {400}),
    ("a length with a plus", request(b"").replace(b"Content-Length: ", b"Content-Length: +"), {400}),
    ("a huge length", request(b"").replace(b"Content-Length: ", b"Content-Length: 9999999999999999999999"), {400, 413}),
    ("length and chunked", request(b"Transfer-Encoding: chunked\r\n"), {400}),
    ("gzip, chunked", request(b"Transfer-Encoding: gzip, chunked\r\n"), {400, 501}),
    ("identity", request(b"Transfer-Encoding: identity\r\n"), {400, 501}),
    ("chunked twice", request(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), {400, 501}),
    ("a folded line", request(b"X-A: 1\r\n folded\r\n"), {400}), ("bare LF", request().replace(b"\r\n", b"\n"), {400}),
    ("bare CR in a value", request(b"X-A: a\rb\r\n"), {400}), ("NUL in a value", request(b"X-A: a\0b\r\n"), {400}),
    ("an empty name", request(b": x\r\n"), {400}), ("no colon", request(b"nonsense\r\n"), {400}),
    ("HTTP/1.2", request(line=b"POST /access/v1/evaluation HTTP/1.2"), {400, 505}),
    ("HTTP/3.0", request(line=b"POST /access/v1/evaluation HTTP/3.0"), {400, 505}),
    ("no version", b"POST /access/v1/evaluation\r\n\r\n", {400}),
    ("a space in the target", request(line=b"POST /a b HTTP/1.1"), {400}),
    ("no slash", request(line=b"POST access HTTP/1.1"), {400}),
    ("lower case", request(line=b"post /access/v1/evaluation HTTP/1.1"), {400, 405, 501}),
    ("an unknown method", request(line=b"BREW /access/v1/evaluation HTTP/1.1"), {400, 405, 501}),
    ("an encoded path", request(line=b"POST /access/v1/%65valuation HTTP/1.1"), {400, 404}),
    ("NUL in the path", request(line=b"POST /access/v1/evaluation%00 HTTP/1.1"), {400, 404}),
    ("a dotted path", request(line=b"POST /access/v1/../v1/evaluation HTTP/1.1"), {400, 404}),
    ("a long target", request(line=b"POST /" + b"a" * 9000 + b" HTTP/1.1"), {400, 414, 431}),
    ("large headers", request(H * 20), {400, 413, 431}),
    ("garbage", os.urandom(64).replace(b"\n", b"x") + b"\r\n\r\n", {400, 0}),
    ("TLS at a plain port", bytes.fromhex("16030100c8010000c40303") + b"\0" * 60, {400, 0}),
)


@test
def malformed_http_is_refused_and_closed():
    for why, data, statuses in HTTP:
        got = send(data)
        status = raw_status(got)
        check(status in statuses, f"{why}: status {status}, expected {sorted(statuses)}: {got[:200]}")
        check(len(re.findall(rb"HTTP/1\.[01] \d{3} ", got)) <= 1, f"{why}: answered twice: {got[:600]}")
        if status:
            check(b'"error"' in got, f"{why}: no JSON error: {got[:300]}")
    alive()


@test
def nothing_is_smuggled_behind_a_refused_request():
    second = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for why, data, statuses in HTTP:
        if statuses & {404, 405}:
            continue  # well-formed: what follows is another request
        got = send(data + second)
        check(b'200 OK' not in got, f"{why}: what followed was served: {got[:400]}")


@test
def truncated_requests_are_not_evaluated():
    whole = request()
    for cut in (1, 10, 30, whole.index(b"\r\n\r\n") + 2, len(whole) - 1):
        got = send(whole[:cut])
        check(raw_status(got) in (0, 400, 408), f"cut at {cut}: {got[:200]}")
    alive()


@test
def pipelined_requests_are_answered_in_order():
    got = send(request() + b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" +
               request(b"Connection: close\r\n", body=b"{"), finish=False)
    statuses = [int(p[:3]) for p in got.split(b"HTTP/1.1 ")[1:]]
    equal(statuses, [200, 200, 400], "statuses")


@test
def a_slow_client_is_cut():
    d = server()
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", d.port)) as s:
        s.settimeout(30)
        try:
            for byte in request():  # a byte now and then never ends in time
                s.sendall(bytes([byte]))
                time.sleep(0.2)
                if time.monotonic() - began > 25:
                    raise Failure("a request may take more than 25 s")
                s.setblocking(False)
                try:
                    got = s.recv(1000)
                    check(not got or raw_status(got) == 408, f"answered {got[:100]}")
                    break
                except BlockingIOError:
                    pass
                finally:
                    s.setblocking(True)
        except ConnectionError:
            pass
    check(5 < time.monotonic() - began < 25, f"cut after {time.monotonic() - began:.1f} s, expected about 10")
    alive()


@test
def many_idle_connections_do_not_stop_the_service():
    idle = [socket.create_connection(("127.0.0.1", server().port)) for _ in range(300)]
    try:
        for s in idle[::3]:
            s.sendall(b"POST /access/v1/evaluation HTTP/1.1\r\n")
        alive()
    finally:
        for s in idle:
            s.close()
    alive()


@test
def random_damage_never_gets_a_permit_it_should_not():
    """Flip bytes of a denied request: whatever happens, no damage turns it into a permit."""
    rng = random.Random(20240229)
    denied = json.dumps(call("files/delete"), separators=(",", ":")).encode()
    for n in range(300):
        body = bytearray(denied)
        for _ in range(rng.randint(1, 4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        reply = server().http("POST", EVALUATE, bytes(body))
        check(reply.status in (200, 400, 413), f"{bytes(body)!r}: {reply}")
        if reply.status == 200:
            equal(reply.json["decision"], False, f"decision for {bytes(body)!r}")
    alive()


@test
def management_bodies_are_as_strict():
    d = server()
    for why, body in (("broken", "{"), ("array", "[]"), ("duplicate", '{"owner":"a","owner":"b"}'),
                      ("no ID", '{"owner":"a"}'), ("ID a number", '{"spiffe_id":1,"owner":"a"}'),
                      ("bad ID", '{"spiffe_id":"http://x/y","owner":"a"}'),
                      ("ID without a path", '{"spiffe_id":"spiffe://example.org","owner":"a"}'),
                      ("dots in the path", '{"spiffe_id":"spiffe://example.org/a/../b","owner":"a"}'),
                      ("reserved", '{"spiffe_id":"spiffe://example.org/writ/x","owner":"a"}'),
                      ("no owner", '{"spiffe_id":"spiffe://example.org/x"}'),
                      ("attribute no text", '{"spiffe_id":"spiffe://example.org/x","owner":"a","attributes":{"n":[]}}'),
                      ("attributes an array", '{"spiffe_id":"spiffe://example.org/x","owner":"a","attributes":[1]}'),
                      ("bad ttl", '{"spiffe_id":"spiffe://example.org/x","owner":"a","ttl":"soon"}'),
                      ("bad date", '{"spiffe_id":"spiffe://example.org/x","owner":"a","expires":"2027-02-30"}'),
                      ("bad selector", '{"spiffe_id":"spiffe://example.org/x","owner":"a","selectors":["unix"]}')):
        is_error(d.admin("POST", "/v1/agents", body), 400, why)
    is_error(d.admin("POST", "/v1/agents/suspend", {"spiffe_id": "spiffe://example.org/nobody"}), 404, "nobody")
    is_error(d.admin("DELETE", "/v1/agents"), 405, "DELETE")
    is_error(d.admin("POST", "/v1/agents", {"spiffe_id": AGENT, "owner": "bob"}), 409, "registered already")


if __name__ == "__main__":
    main()
