#!/usr/bin/env -S python3 -B
"""envoy.service.ext_proc.v3.ExternalProcessor/Process against the real server: lists, and what is not passed on.
scripts/interop/envoy has the same with a real Envoy."""
import hashlib
import json

from grpc_client import Client, field, parse
from harness import AGENT, Deployment, check, equal, main, test

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHECK = "/envoy.service.auth.v3.Authorization/Check"
REQUEST_HEADERS, RESPONSE_HEADERS, REQUEST_BODY, RESPONSE_BODY, REQUEST_TRAILERS, RESPONSE_TRAILERS = range(2, 8)
RULES = """
policy "gateway" {
  permit "sessions" { on = { action = { "tools/list", "prompts/list", "resources/list", "resources/templates/list", "ping",
                                        "stream/open" } } },
  permit "read" { on = { action = "tools/call", effect = "read" } },
  permit "prompts" { on = { action = "prompts/get", id = "review" } },
  permit "notes" { on = { action = "resources/read", id = { "file:///notes", "file:///{name}" } } },
}
"""
PINNED = [{"name": n, "description": "as reviewed"} for n in ("pinned", "other")]
PINS = 'pins "files" {' + "".join(' %s = "sha256:%s",' % (
    t["name"], hashlib.sha256(json.dumps(t, sort_keys=True, separators=(",", ":")).encode()).hexdigest()) for t in PINNED) + "}\n"
CATALOGUE = PINS + "".join('tool "files/%s" { effect = "read" }\n' % t["name"] for t in PINNED)
CATALOGUE += 'tool "files/read" { effect = "read" }\ntool "files/delete" { effect = "delete" }\n'
LISTS = (("tools/list", "tools", "name", ("read", "delete"), ["read"]),
         ("prompts/list", "prompts", "name", ("review", "other"), ["review"]),
         ("resources/list", "resources", "uri", ("file:///notes", "mail:///1"), ["file:///notes"]),
         ("resources/templates/list", "resourceTemplates", "uriTemplate", ("file:///{name}", "mail:///{n}"), ["file:///{name}"]))
SHARED = []


def server():
    if not SHARED:
        d = Deployment(policies={"catalogue/tools.lua": CATALOGUE, "gateway.lua": RULES}, caller="pep").start()
        d.register()
        d.grpc = Client(("127.0.0.1", d.port))
        SHARED.append(d)
    return SHARED[0]


# --- what Envoy sends --------------------------------------------------------------------------

def checked(method="tools/list", ident=7, http="POST", body=None, **settings):
    """The metadata that the answer to this request's Check leaves in Envoy, as it forwards it; and the answer."""
    def pair(key, value):
        return field(1, key) + field(2, value)
    settings = dict({"protocol": "mcp", "server": "files"}, **settings)
    body = json.dumps(body or {"jsonrpc": "2.0", "id": ident, "method": method}).encode() if http == "POST" else b""
    request = field(2, http) + field(3, pair("content-type", "application/json")) + field(4, "/mcp") + field(5, "files.example")
    request += field(9, len(body)) + (field(12, body) if body else b"")
    attributes = field(1, field(4, AGENT)) + field(4, field(2, request))
    attributes += b"".join(field(10, pair(k, v)) for k, v in settings.items())
    reply = server().grpc.call(CHECK, field(1, attributes))
    answer = parse(reply.messages[0])
    return field(8, field(1, field(1, "envoy.filters.http.ext_authz") + field(2, answer[4][0]))), answer


def headers(part, lines, end=False):
    options = b"".join(field(1, field(1, k) + field(3, v)) for k, v in lines.items())
    return field(part, field(1, options) + field(3, end))


def body(content, end=True, part=RESPONSE_BODY):
    return field(part, field(1, content) + field(2, end))


def config(mode=2):
    return field(11, field(2, mode))


JSON = {":status": "200", "content-type": "application/json; charset=utf-8"}


class Answer:
    def __init__(self, message):
        self.m = parse(message)
        self.part = next(n + 1 for n in self.m if n < 8)
        common = parse(parse(self.m[self.part - 1][0]).get(1, [b""])[0]) if self.part < 6 else {}
        mutation = parse(common.get(2, [b""])[0])
        self.removed = [v.decode() for v in mutation.get(2, [])]
        self.set = self.options(mutation)
        self.body = parse(common[3][0])[1][0] if 3 in common else None
        self.status = None
        if 7 in self.m:  # an ImmediateResponse
            i = parse(self.m[7][0])
            self.status, self.details = parse(i[1][0])[1][0], i[5][0].decode()
            self.set, self.body = self.options(parse(i[2][0])), i.get(3, [b""])[0]

    @staticmethod
    def options(mutation):
        out = {}
        for o in mutation.get(1, []):
            check(o.endswith(b"\x12\x00\x18\x02"), f"overwrite: {o}")
            kv = parse(parse(o)[1][0])
            out[kv[1][0].decode()] = kv[3][0].decode()
        return out


def process(*messages, client=None):
    """All answers in turn; the last one may be an immediate response. Then how the stream ended, if it did."""
    s = (client or server().grpc).open(PROCESS)
    out = []
    for m in messages:
        s.send(m)
        got = s.end_or_message()
        if got is None:
            return out, s.reply
        out.append(Answer(got))
    return out, s


def listing(kind=0, **kw):
    method, member, ident, there, _ = LISTS[kind]
    return json.dumps(dict({"jsonrpc": "2.0", "id": 7, "result": {member: [{ident: i} for i in there]}}, **kw)).encode()


# --- tests -------------------------------------------------------------------------------------

@test
def each_list_is_filtered():
    for n, (method, member, ident, _, left) in enumerate(LISTS):
        metadata, _ = checked(method)
        (first, second, third), s = process(headers(REQUEST_HEADERS, {":path": "/mcp"}) + metadata + config(),
                                            headers(RESPONSE_HEADERS, JSON), body(listing(n)))
        equal((first.part, first.removed), (REQUEST_HEADERS, ["accept-encoding"]), "the request")
        equal((second.part, second.m), (RESPONSE_HEADERS, {2: [b"\x0a\x00"]}), "the response's headers")
        equal(json.loads(third.body), {"jsonrpc": "2.0", "id": 7, "result": {member: [{ident: i} for i in left]}}, method)
        equal(third.set, {"content-length": str(len(third.body))}, "its length")
        equal(s.end().status, 0, "the stream is over")


@test
def events_leave_as_they_came_but_for_the_list():
    metadata, _ = checked()
    note = b'id: 1\r\ndata: {"jsonrpc":"2.0","method":"notifications/progress"}\r\n\r\n'
    answers, _ = process(headers(REQUEST_HEADERS, {}) + metadata, headers(RESPONSE_HEADERS, {":status": "200", "content-type":
                         "text/event-stream"}), body(b"\xef\xbb\xbf" + note + b": x\n\nevent: message\ndata:" + listing() + b"\n\n"))
    text = answers[-1].body
    check(text.startswith(b'id: 1\ndata: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n: x\n\nevent: message\ndata: '), text)
    equal(json.loads(text.split(b"data: ")[2])["result"], {"tools": [{"name": "read"}]}, "the list")
    check(text.endswith(b"}\n\n"), text)


@test
def pinned_tools_are_looked_at_before_the_list_goes_on():
    """Several lists in one answer too, as a stream of events may have them."""
    d = server()
    metadata, _ = checked()
    changed = [dict(t, description="another") for t in PINNED]
    messages = [json.dumps({"jsonrpc": "2.0", "id": n, "result": {"tools": [t, {"name": "read"}]}}).encode()
                for n, t in enumerate(changed)]
    answers, s = process(headers(REQUEST_HEADERS, {}) + metadata,
                         headers(RESPONSE_HEADERS, {":status": "200", "content-type": "text/event-stream"}),
                         body(b"".join(b"data: " + m + b"\n\n" for m in messages)))
    lists = [json.loads(line[6:])["result"]["tools"] for line in answers[-1].body.split(b"\n") if line.startswith(b"data: ")]
    equal(lists, [[{"name": "read"}]] * 2, "what is left")
    equal(s.end().status, 0, "the stream is over")
    records = [r for r in d.writ("audit", "export", "--format", "jsonl").stdout.splitlines() if '"kind":"tool.definition"' in r]
    equal(len(records), 2, f"records of changes: {records}")
    _, answer = checked(body={"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "other", "arguments": {}}})
    check(b"tool_definition_changed" in answer[4][0], answer)


@test
def what_is_no_list_is_let_go():
    metadata, _ = checked(body={"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "read"}})
    for what, first in (("a call", headers(REQUEST_HEADERS, {}) + metadata),
                        ("a ping", headers(REQUEST_HEADERS, {}) + checked("ping")[0] + config(0)),
                        ("a denial of ours", headers(RESPONSE_HEADERS, {":status": "403"}) + checked("prompts/get")[0]),
                        ("a denial of ours with 200", headers(RESPONSE_HEADERS, JSON) + checked(
                            body={"jsonrpc": "2.0", "id": 7, "method": "prompts/get", "params": {"name": "x"}}, style="jsonrpc")[0]),
                        ("an error of a filter before", headers(RESPONSE_HEADERS, {":status": "503"}))):
        (only,), s = process(first)
        equal((only.status, s.end().status), (None, 0), what)
    metadata, _ = checked()
    for what, response in (("an error", headers(RESPONSE_HEADERS, {":status": "500"})),
                           ("no body", headers(RESPONSE_HEADERS, JSON, end=True))):
        (_, second), s = process(headers(REQUEST_HEADERS, {}) + metadata, response)
        equal((second.part, s.end().status), (RESPONSE_HEADERS, 0), what)


@test
def a_list_that_cannot_be_read_is_not_passed_on():
    metadata, _ = checked()
    start = headers(REQUEST_HEADERS, {}) + metadata + config()
    good = headers(RESPONSE_HEADERS, JSON)
    batch, _ = checked(body=[{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, {"jsonrpc": "2.0", "id": 2, "method": "ping"}],
                       batches="allow")
    stream, _ = checked(http="GET")
    rows = (
        ("no decision", [headers(REQUEST_HEADERS, {})], 403, "not_checked"),
        ("another's metadata", [headers(REQUEST_HEADERS, {}) + metadata.replace(b"ext_authz", b"ext_other")], 403, "not_checked"),
        ("an answer without a decision", [headers(RESPONSE_HEADERS, JSON)], 403, "not_checked"),
        ("a body without a decision", [body(listing())], 403, "not_checked"),
        ("observed only", [start + field(10, 1)], 403, "not_enforced"),
        ("mode NONE", [headers(REQUEST_HEADERS, {}) + metadata + field(11, b"")], 403, "list_not_filtered"),
        ("mode STREAMED", [headers(REQUEST_HEADERS, {}) + metadata + config(1)], 403, "list_not_filtered"),
        ("mode BUFFERED_PARTIAL", [headers(REQUEST_HEADERS, {}) + metadata + config(3)], 403, "list_not_filtered"),
        ("a batch", [headers(REQUEST_HEADERS, {}) + batch + config()], 403, "list_not_filtered"),
        ("the server's stream", [headers(REQUEST_HEADERS, {}) + stream + config()], 405, "stream_not_filtered"),
        ("encoded", [start, headers(RESPONSE_HEADERS, dict(JSON, **{"content-encoding": "gzip"}))], 403, "list_not_filtered"),
        ("of another type", [start, headers(RESPONSE_HEADERS, dict(JSON, **{"content-type": "text/html"}))], 403, "list_not_filtered"),
        ("of no type", [start, headers(RESPONSE_HEADERS, {":status": "200"})], 403, "list_not_filtered"),
        ("headers that were skipped", [start, body(listing())], 403, "list_not_filtered"),
        ("cut off", [start, good, body(listing(), end=False)], 403, "list_not_filtered"),
        ("no JSON", [start, good, body(b"{")], 403, "invalid_json"),
        ("a name twice", [start, good, body(listing().replace(b'"tools"', b'"tools":[],"tools"'))], 403, "invalid_json"),
        ("a text", [start, good, body(b'"x"')], 403, "list_not_filtered"),
        ("several", [start, good, body(b"[" + listing() + b"]")], 403, "list_not_filtered"),
        ("another list", [start, good, body(listing(1))], 403, "invalid_list"),
        ("two results", [start, good, body(listing(RESULT={}))], 403, "list_not_filtered"),
        ("an event that cannot be read", [start, headers(RESPONSE_HEADERS, dict(JSON, **{"content-type": "text/event-stream"})),
                                          body(b"data: " + listing() + b"\n\ndata: x\n\n")], 403, "invalid_json"),
    )
    before = server().operators("GET", "/metrics").body.decode()
    for what, messages, status, reason in rows:
        answers, s = process(*messages)
        last = answers[-1]
        equal((len(answers), last.status, last.details, last.set["x-writ-reason"]), (len(messages), status, reason, reason), what)
        error = json.loads(last.body)
        equal((error["error"]["code"], error["error"]["data"]["reason"]), (-32603, reason), what)
        check(b"delete" not in last.body, what)
        equal(s.end().status, 0, what)
    # An error is an answer, and nothing but a result is touched.
    error = b'{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"tools"}}'
    answers, _ = process(start, good, body(error))
    equal(answers[-1].body, error, "an error")
    check(before != server().operators("GET", "/metrics").body.decode(), "nothing counted")
    records = server().admin("GET", "/v1/audit/records?kind=request.refused&limit=1000").json["records"]
    equal(sum(r["reason"] == "stream_not_filtered" for r in records), 1, "on record")


@test
def the_style_of_the_route_counts():
    for ident, shown in ((7, 7), ("a\"b", "a\"b")):
        metadata, _ = checked(ident=ident, style="jsonrpc")
        answers, _ = process(headers(REQUEST_HEADERS, {}) + metadata, headers(RESPONSE_HEADERS, {":status": "200"}))
        equal((answers[-1].status, json.loads(answers[-1].body)["id"]), (200, shown), "an answer with the request's id")


@test
def who_may_and_what_is_no_message():
    d = server()
    metadata, _ = checked()
    tls = Client(("127.0.0.1", d.tls_port), tls=d.tls_context())
    answers, _ = process(headers(REQUEST_HEADERS, {}) + metadata, client=tls)
    equal((answers[0].status, answers[0].details), (403, "unauthenticated"), "nobody")
    tls.close()
    for what, m in (("nothing", b""), ("two parts", headers(REQUEST_HEADERS, {}) + body(b"")), ("cut off", b"\x12\x05\x0a")):
        answers, reply = process(m)
        equal((answers, reply.status), ([], 3), what)
    answers, reply = process(headers(REQUEST_HEADERS, {}) + metadata, b"\xff")
    equal((len(answers), reply.status), (1, 3), "a second message that is none")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": AGENT, "reason": "test"})
    answers, _ = process(headers(REQUEST_HEADERS, {}) + metadata, headers(RESPONSE_HEADERS, JSON), body(listing()))
    equal((answers[-1].status, answers[-1].details), (403, "unknown_agent"), "an agent that was suspended meanwhile")
    d.admin("POST", "/v1/agents/resume", {"spiffe_id": AGENT})


@test
def clients_that_go_and_parts_that_nobody_asked_for():
    metadata, _ = checked()
    start = headers(REQUEST_HEADERS, {}) + metadata + config()
    answers, s = process(start, body(b"x" * 1000, part=REQUEST_BODY), field(REQUEST_TRAILERS, b""), headers(RESPONSE_HEADERS, JSON),
                         field(RESPONSE_TRAILERS, b""))
    equal([a.part for a in answers], [REQUEST_HEADERS, REQUEST_BODY, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS], "parts")
    s.half_close()
    equal(s.end().status, 0, "half closed")
    for n in range(20):
        s = server().grpc.open(PROCESS)
        s.send(start if n % 2 else headers(REQUEST_HEADERS, {}))  # the refusal is on its way to the log
        s.cancel()
    s = server().grpc.open(PROCESS)
    s.send(start)
    s.next()
    s.send(headers(RESPONSE_HEADERS, JSON))
    s.next()
    s.send(body(b" " * 1100000 + listing()))
    equal(s.end().status, 8, "longer than limits.body: an error, by which Envoy fails closed")
    each_list_is_filtered()


main()
