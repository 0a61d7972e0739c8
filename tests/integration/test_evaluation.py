#!/usr/bin/env -S python3 -B
"""Decisions over HTTP: AuthZEN 1.0 and what writ adds to an answer."""
import hashlib
import http.client
import json
import re
import shutil
import subprocess

from harness import AGENT, TRUST_DOMAIN, Deployment, call, check, equal, exchange, is_error, main, raw, test

EVALUATE = "/access/v1/evaluation"
shared = None


def server():
    global shared
    if shared is None:
        shared = Deployment().start()
        shared.register()
        shared.register(f"spiffe://{TRUST_DOMAIN}/agent/ops-1", attributes={"team": "ops"})
    return shared


def ask(request, headers=None):
    return server().http("POST", EVALUATE, request, headers)


DECISIONS = (
    # why, request, decision, reason, rule
    ("read", call("ledger/query"), True, "permitted", "finance/read"),
    ("read with an argument", call("ledger/query", {"max_rows": 5}), True, "permitted", "finance/read"),
    ("payment", call("payments/create", {"amount": 500}), True, "permitted", "finance/payments"),
    ("payment with a text", call("payments/create", {"amount": 1.5, "to": "x"}), True, "permitted",
     "finance/payments"),
    ("just over", call("payments/create", {"amount": 500.01}), False, "approval_required",
     "finance/payment over 500"),
    ("one value, three spellings", '{"subject":{"type":"agent","id":"%s"},"action":{"name":"tools/call",'
     '"properties":{"amount":5.0e2}},"resource":{"type":"tool","id":"payments/create"}}' % AGENT, True,
     "permitted", "finance/payments"),
    ("another team", call("payments/create", {"amount": 5}, agent=f"spiffe://{TRUST_DOMAIN}/agent/ops-1"),
     False, "no_rule", None),
    ("deny rule", call("files/delete"), False, "deleting_forbidden", "finance/no deleting"),
    ("text for a number", call("payments/create", {"amount": "500"}), False, "invalid_arguments", None),
    ("undeclared argument", call("payments/create", {"amount": 5, "cc": "x"}), False, "invalid_arguments", None),
    ("missing argument", call("payments/create", {}), False, "invalid_arguments", None),
    ("no arguments at all", call("payments/create"), False, "invalid_arguments", None),
    ("null for a number", call("payments/create", {"amount": None}), False, "invalid_arguments", None),
    ("unknown tool", call("payments/refund", {"amount": 5}), False, "unknown_tool", None),
    ("other case", call("Payments/create", {"amount": 5}), False, "unknown_tool", None),
    ("no server", call("create", {"amount": 5}), False, "unknown_tool", None),
    ("unknown model", {"subject": {"type": "agent", "id": AGENT}, "action": {"name": "models/invoke"},
                       "resource": {"type": "model", "id": "gpt-tiny"}}, False, "unknown_model", None),
    ("no alias of the action", {"subject": {"type": "agent", "id": AGENT}, "action": {"name": "call"},
                                "resource": {"type": "tool", "id": "ledger/query"}}, False, "no_rule", None),
    ("unregistered", call(agent=f"spiffe://{TRUST_DOMAIN}/agent/nobody"), False, "unknown_agent", None),
    ("not even an ID", call(agent="finance-1"), False, "unknown_agent", None),
    ("an empty ID", call(agent=""), False, "unknown_agent", None),
    ("identity with agent", {"subject": {"type": "identity", "id": "alice"}, "action": {"name": "tools/call"},
                             "resource": {"type": "tool", "id": "ledger/query"},
                             "context": {"agent": AGENT}}, True, "permitted", "finance/read"),
    ("claims of the PEP are no facts", call("payments/create", {"amount": 5},
                                            agent=f"spiffe://{TRUST_DOMAIN}/agent/ops-1",
                                            context={"team": "finance", "agent": {"team": "finance"}}), False,
     "no_rule", None),
)


@test
def decisions_follow_the_rules():
    for why, request, decision, reason, rule in DECISIONS:
        reply = ask(request)
        equal(reply.status, 200, f"{why}: status of {reply}")
        answer = reply.json
        equal(answer["decision"], decision, f"{why}: decision of {reply}")
        equal(answer["context"].get("reason"), reason, f"{why}: reason of {reply}")
        equal(answer["context"].get("rule"), rule, f"{why}: rule of {reply}")


@test
def an_answer_has_the_stated_shape():
    permit, deny = ask(call()).json, ask(call("files/delete")).json
    for answer in (permit, deny):
        equal(sorted(answer), ["context", "decision"], "members")
        c = answer["context"]
        seq = c["record"]["seq"]
        check(re.fullmatch(rf"ev_[0-9a-f]{{8}}_{seq}", c["evaluation_id"]), f"evaluation_id: {c}")
        check(re.fullmatch(r"[0-9a-f]{64}", c["record"]["leaf"]), f"leaf: {c}")
        check(re.fullmatch(r"sha256:[0-9a-f]{64}", c["input_digest"]), f"input_digest: {c}")
        check(isinstance(c["generation"], int) and c["generation"] >= 1, f"generation: {c}")
        for name, value in c.items():
            check(value not in (None, "", [], {}), f"{name} is empty and should be absent: {c}")
    check("message" not in permit["context"], f"a permit has no message: {permit}")
    equal(deny["context"]["message"], "Files are never deleted by agents; ask an operator.", "message")
    check("message" in ask(call("payments/create", {"amount": "x"})).json["context"], "a denial says why")


@test
def a_permit_is_typed_and_small():
    reply = ask(call())
    equal(reply.header("content-type").split(";")[0], "application/json", "Content-Type")
    check(len(reply.body) < 1024, f"{len(reply.body)} bytes for a permit")


@test
def the_digest_is_of_the_canonical_input():
    one = ask('{"subject":{"type":"agent","id":"%s"},"action":{"name":"tools/call","properties":{"amount":5}},'
              '"resource":{"type":"tool","id":"payments/create"}}' % AGENT)
    two = ask('{ "resource": {"id":"payments\\/create","type":"\\u0074ool"}, "action": {"properties":'
              '{"amount":5.0}, "name":"tools/call"}, "subject":{"id":"%s","type":"agent"} }' % AGENT)
    other = ask(call("payments/create", {"amount": 6}))
    digest = [r.json["context"]["input_digest"] for r in (one, two, other)]
    equal(digest[0], digest[1], "digest of the same request spelled otherwise")
    check(digest[0] != digest[2], "another amount has the same digest")
    canonical = json.dumps({"action": {"name": "tools/call", "properties": {"amount": 5}},
                            "resource": {"id": "payments/create", "type": "tool"},
                            "subject": {"id": AGENT, "type": "agent"}}, separators=(",", ":"))
    equal(digest[0], "sha256:" + hashlib.sha256(canonical.encode()).hexdigest(), "digest (RFC 8785, SHA-256)")


@test
def the_same_request_gives_the_same_decision():
    for request in (call(), call("payments/create", {"amount": 700})):
        answers = [ask(request).json for _ in range(20)]
        same = {(a["decision"], a["context"]["reason"], a["context"].get("rule")) for a in answers}
        equal(len(same), 1, f"different decisions {same}")
        seqs = [a["context"]["record"]["seq"] for a in answers]
        check(seqs == sorted(set(seqs)), f"sequence numbers {seqs}")


@test
def request_ids_are_echoed_also_on_errors():
    for name in ("X-Request-ID", "x-request-id"):
        for request in (call(), call("files/delete"), "{", {"subject": 1}):
            equal(ask(request, {name: "5f0c-17 /"}).header("x-request-id"), "5f0c-17 /",
                  f"X-Request-ID for {request}")
    for path, method in (("/nothing", "GET"), (EVALUATE, "GET"), ("/livez", "GET")):
        reply = server().http(method, path, headers={"X-Request-ID": "abc"})
        equal(reply.header("x-request-id"), "abc", f"X-Request-ID of {method} {path}")
    is_error(ask(call(), {"X-Request-ID": "x" * 5000}), (400, 431), "a request id of 5,000 bytes")


@test
def media_types():
    body = json.dumps(call())
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON",
                 'application/json;charset="utf-8"'):
        equal(ask(body, {"Content-Type": kind}).status, 200, kind)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json5",
                 "multipart/form-data; boundary=x", "", "application/", "text/json"):
        is_error(ask(body, {"Content-Type": kind}), 400, f"Content-Type {kind!r}")
    c = http.client.HTTPConnection("127.0.0.1", server().port, timeout=15)
    c.request("POST", EVALUATE, body=body.encode(), headers={})
    equal(c.getresponse().status, 400, "no Content-Type")
    c.close()


S, A, R = {"type": "agent", "id": AGENT}, {"name": "tools/call"}, {"type": "tool", "id": "ledger/query"}
MALFORMED = (
    ("no subject", {"action": A, "resource": R}), ("no action", {"subject": S, "resource": R}),
    ("no resource", {"subject": S, "action": A}), ("nothing", {}),
    ("subject a text", {"subject": AGENT, "action": A, "resource": R}),
    ("subject null", {"subject": None, "action": A, "resource": R}),
    ("subject an array", {"subject": [S], "action": A, "resource": R}),
    ("no subject.type", {"subject": {"id": AGENT}, "action": A, "resource": R}),
    ("no subject.id", {"subject": {"type": "agent"}, "action": A, "resource": R}),
    ("subject.type a number", {"subject": {"type": 1, "id": AGENT}, "action": A, "resource": R}),
    ("subject.id null", {"subject": {"type": "agent", "id": None}, "action": A, "resource": R}),
    ("subject.id an object", {"subject": {"type": "agent", "id": {}}, "action": A, "resource": R}),
    ("action.name true", {"subject": S, "action": {"name": True}, "resource": R}),
    ("action without name", {"subject": S, "action": {}, "resource": R}),
    ("action a text", {"subject": S, "action": "tools/call", "resource": R}),
    ("resource.id a number", {"subject": S, "action": A, "resource": {"type": "tool", "id": 7}}),
    ("resource without type", {"subject": S, "action": A, "resource": {"id": "ledger/query"}}),
    ("subject.properties a text", {"subject": dict(S, properties="x"), "action": A, "resource": R}),
    ("action.properties an array", {"subject": S, "action": dict(A, properties=[]), "resource": R}),
    ("resource.properties a number", {"subject": S, "action": A, "resource": dict(R, properties=1)}),
    ("context a text", {"subject": S, "action": A, "resource": R, "context": "x"}),
    ("context an array", {"subject": S, "action": A, "resource": R, "context": []}),
)


@test
def wrong_types_are_400_with_the_member_named():
    for why, request in MALFORMED:
        error = is_error(ask(request), 400, why)
        if why not in ("nothing",):
            name = next(n for n in ("subject", "action", "resource", "context") if n in why)
            check(name in error["message"], f"{why}: message does not name {name}: {error}")


@test
def unknown_members_are_ignored():
    request = {"subject": dict(S, extra=1), "action": dict(A, why=[1, {"a": None}]), "resource": dict(R, x={}),
               "context": {"anything": [1, 2.5, "x", True, None]}, "options": "whatever", "zzz": 7,
               "evaluations": "not ours here"}
    reply = ask(request)
    equal((reply.status, reply.json["decision"]), (200, True), "a request with unknown members")


@test
def a_denial_is_no_error_and_context_is_optional():
    equal(ask(call("files/delete")).status, 200, "status of a denial")
    equal(ask(call()).status, 200, "without context")
    equal(ask(call(context={})).status, 200, "with an empty context")


@test
def only_post():
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        reply = server().http(method, EVALUATE)
        equal(reply.status, 405, method)
        check("POST" in (reply.header("allow") or ""), f"{method}: Allow is {reply.header('allow')}")


@test
def keep_alive_serves_many_requests():
    c = http.client.HTTPConnection("127.0.0.1", server().port, timeout=15)
    for n in range(50):
        request, status = ((call(), 200), ("{", 400), (call("files/delete"), 200))[n % 3]
        equal(exchange(c, "POST", EVALUATE, request).status, status, f"request {n} of a connection")
    c.close()


@test
def http2_answers_alike():
    if not shutil.which("curl"):
        return
    done = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", "-H", "Content-Type: application/json", "-H", "X-Request-ID: h2",
         "-d", json.dumps(call()), "-w", "\n%{http_version} %{http_code}",
         f"http://127.0.0.1:{server().port}{EVALUATE}"], capture_output=True, text=True, check=False)
    body, _, status = done.stdout.rpartition("\n")
    equal(status, "2 200", f"version and status ({done.stderr.strip()})")
    equal(json.loads(body)["decision"], True, "decision")


@test
def expect_100_and_chunked_bodies_work():
    body = json.dumps(call()).encode()
    head = (b"POST /access/v1/evaluation HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\n")
    got = raw(("127.0.0.1", server().port), head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" %
              len(body) + body, finish=False)
    check(b" 200 " in got and b'"decision":true' in got, f"Expect: {got[:200]}")
    got = raw(("127.0.0.1", server().port), head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body +
              b"\r\n0\r\n\r\n", finish=False)
    check(got.startswith(b"HTTP/1.1 200 ") and b'"decision":true' in got, f"chunked: {got[:200]}")


@test
def http_1_0_is_answered_and_closed():
    body = json.dumps(call()).encode()
    got = raw(("127.0.0.1", server().port), b"POST /access/v1/evaluation HTTP/1.0\r\nHost: localhost\r\n"
              b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body, finish=False)
    check(b" 200 " in got[:20] and b'"decision":true' in got, f"HTTP/1.0: {got[:200]}")


@test
def evaluate_from_the_shell():
    d = server()
    d.write("request.json", json.dumps(call()))
    done = d.writ("evaluate", "--json", d.path("request.json"), code=0)
    equal(json.loads(done.stdout)["decision"], True, "decision")
    d.write("request.json", json.dumps(call("files/delete")))
    d.writ("evaluate", d.path("request.json"), code=1)


if __name__ == "__main__":
    main()
