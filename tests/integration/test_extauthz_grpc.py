#!/usr/bin/env python3
"""envoy.service.auth.v3.Authorization/Check against the real server, as Envoy and agentgateway send it."""
import json
import struct
import urllib.parse

from grpc_client import Client, field, parse
from harness import AGENT, Deployment, check, equal, join_token, main, openssl, test

CHECK = "/envoy.service.auth.v3.Authorization/Check"
RULES = """
policy "gateway" {
  permit "sessions" { on = { action = { "initialize", "notifications/initialized", "tools/list" } } },
  permit "read" { on = { action = "tools/call", effect = "read" } },
  deny "no deleting" { on = { action = "tools/call", tool = "files/delete" },
    reason = "deleting_forbidden", message = "Files are never deleted by agents; ask an operator." },
  permit "models" { on = { action = "models/invoke", model = "gpt-large" },
    when = function(q) return q.args.max_tokens <= 100 end },
  permit "orders" { on = { action = "GET", resource = "route", id = "/orders" },
    when = function(q) return q.http.host == "shop.example" and q.http.scheme == "https" end },
  permit "cards" { on = { action = "GetAgentCard" } },
}
"""
CATALOGUE = """
tool "files/read" { effect = "read", args = { path = "string" } }
tool "files/delete" { effect = "delete", args = { path = "string" } }
tool "files/pinned" { effect = "read", digest = "sha256:%s" }
model "gpt-large" { provider = "example", tier = 3, max_tokens = 16384 }
""" % ("ab" * 32)
POLICIES = {"catalogue/tools.lua": CATALOGUE, "gateway.lua": RULES}
MCP = {"protocol": "mcp", "server": "files"}
SHARED = []


def server():
    if not SHARED:
        d = Deployment(policies=POLICIES, caller="pep").start()
        d.register()
        d.grpc = Client(("127.0.0.1", d.port))
        SHARED.append(d)
    return SHARED[0]


def call(tool="read", arguments=None, ident=7):
    return {"jsonrpc": "2.0", "id": ident, "method": "tools/call",
            "params": {"name": tool, "arguments": {"path": "/a"} if arguments is None else arguments}}


def pair(number, key, value, at=2):
    return field(number, field(1, key) + field(at, value))


def request(body=None, settings=MCP, principal=AGENT, method="POST", path="/mcp", headers=(), host="files.example",
            scheme="https", ident="17", size=None, raw=True, header_map=False, certificate=None, more=b""):
    """A CheckRequest as Envoy fills it."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [(":method", method), (":path", path), (":authority", host), (":scheme", scheme)]
    if body is not None:
        lines.append(("content-type", "application/json"))
    lines += headers
    http = field(1, ident) + field(2, method)
    if header_map:
        http += field(13, b"".join(pair(1, k, v, 3) for k, v in lines))
    else:
        http += b"".join(pair(3, k, v) for k, v in lines)
    http += field(4, path) + field(5, host) + field(6, scheme) + field(10, "HTTP/1.1")
    http += field(9, len(body or b"") if size is None else size)
    if body is not None:
        http += field(12 if raw else 11, body)
    source = field(1, field(1, field(2, "10.0.0.1") + field(3, 5000))) + field(2, "spiffe://example.org/agent/claimed")
    if principal:
        source += field(4, principal)
    if certificate:
        source += field(5, certificate)
    attributes = field(1, source) + field(2, field(4, "spiffe://example.org/gateway"))
    attributes += field(4, field(1, field(1, 1700000000)) + field(2, http))
    attributes += b"".join(pair(10, k, v) for k, v in settings.items())
    return field(1, attributes + more)


class Answer:
    """A CheckResponse: code, http (None: nothing said), headers, body, removed, added, metadata."""

    def __init__(self, message):
        m = parse(message)
        status = parse(m[1][0])
        self.code, self.why = status.get(1, [0])[0], status.get(2, [b""])[0].decode()
        check((3 in m) == (self.code == 0) and (2 in m) == (self.code != 0), f"code and answer disagree: {m}")
        inside = parse((m.get(2) or m[3])[0])
        self.http = parse(inside[1][0])[1][0] if 2 in m else None
        self.headers = self.options(inside.get(2, []))
        self.body = inside.get(3, [b""])[0] if 2 in m else b""
        self.removed = sorted(v.decode() for v in inside.get(5, []))
        self.added = self.options(inside.get(6, []))
        self.metadata = {}
        for entry in parse(m.get(4, [b""])[0]).get(1, []):
            e = parse(entry)
            value = parse(e[2][0])
            self.metadata[e[1][0].decode()] = value[3][0].decode() if 3 in value else value[2][0]

    @staticmethod
    def options(options):
        out = {}
        for o in options:
            check(o.endswith(b"\x12\x00\x18\x02"), f"append false and append_action 2: {o}")
            kv = parse(parse(o)[1][0])
            out[kv[1][0].decode()] = kv[2][0].decode()
        return out

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.code} {self.why} http={self.http} {self.headers} {self.body} {self.metadata}>"


def send(message, metadata=None, client=None):
    reply = (client or server().grpc).call(CHECK, message, metadata)
    equal(reply.status, 0, f"grpc-status: {reply}")
    equal(len(reply.messages), 1, "messages")
    return Answer(reply.messages[0])


def ask(*args, **kw):
    return send(request(*args, **kw))


def denied(a, code, http, reason):
    equal((a.code, a.http, a.why), (code, http, reason), repr(a))
    equal(a.headers.get("x-writ-reason"), reason, "x-writ-reason")
    check(len(a.body) <= 1024, "a short body")


@test
def allows_and_says_who_and_which():
    a = ask(call(), headers=[("x-writ-agent", "forged"), ("x-writ-status", "forged"),
                             ("x-forwarded-client-cert", f"URI={AGENT}")])
    equal(a.code, 0, repr(a))
    equal(a.headers["x-writ-agent"], AGENT, "agent")
    ident = a.headers["x-writ-decision-id"]
    check(ident.startswith("ev_"), "decision id")
    equal(a.added, {"x-writ-decision-id": ident}, "for the client")
    equal(a.removed, ["x-forwarded-client-cert", "x-writ-status"], "removed")
    equal({k: v for k, v in a.metadata.items() if k != "generation"},
          {"decision_id": ident, "reason_code": "permitted", "agent": AGENT, "rule": "gateway/read"}, "metadata")
    check(a.metadata["generation"] >= 1, "generation")
    records = server().writ("audit", "tail", "--json", code=0).stdout
    check(f'"seq":{ident.rsplit("_", 1)[1]},' in records.replace(" ", ""), f"the record of {ident}: {records[-400:]}")


@test
def denies_in_the_words_of_the_protocol():
    a = ask(call("delete"))
    denied(a, 7, 403, "deleting_forbidden")
    equal((a.json["id"], a.json["error"]["code"]), (7, -32001), repr(a))
    equal(a.headers["content-type"], "application/json", "type")
    equal(a.metadata["rule"], "gateway/no deleting", "rule")
    a = ask(call("delete"), dict(MCP, style="jsonrpc"))
    denied(a, 7, 200, "deleting_forbidden")
    equal(a.json["error"]["data"]["reason"], "deleting_forbidden", "JSON-RPC with 200")
    a = ask(call("delete"), dict(MCP, style="tool_result"))
    denied(a, 7, 200, "deleting_forbidden")
    equal(a.json["result"]["isError"], True, "tool result")
    denied(ask(b"{", dict(MCP, style="jsonrpc")), 3, 400, "invalid_json")
    denied(ask(call("nope")), 7, 403, "unknown_tool")


@test
def a_digest_that_is_not_the_pinned_one_is_denied_in_every_style():
    good, bad = (dict(MCP, definition_digest="sha256:" + two * 32) for two in ("ab", "ac"))
    equal(ask(call("pinned", {}), good).code, 0, "as pinned")
    denied(ask(call("pinned", {}), bad), 7, 403, "tool_definition_changed")
    a = ask(call("pinned", {}), dict(bad, style="jsonrpc"))
    denied(a, 7, 200, "tool_definition_changed")
    equal((a.json["id"], a.json["error"]["code"]), (7, -32001), "JSON-RPC")
    a = ask(call("pinned", {}), dict(bad, style="tool_result"))
    denied(a, 7, 200, "tool_definition_changed")
    check("list the tools again" in a.json["result"]["content"][0]["text"], repr(a))
    denied(ask(call("pinned", {}), dict(MCP, definition_digest="sha256:AB")), 3, 400, "invalid_route")


@test
def other_protocols():
    body = {"model": "gpt-large", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    equal(ask(body, {"protocol": "openai"}, path="/v1/chat/completions").code, 0, "openai")
    a = ask(dict(body, max_tokens=500), {"protocol": "openai"}, path="/v1/chat/completions")
    denied(a, 7, 403, "no_rule")
    equal(a.json["error"]["type"], "permission_error", "its error")
    # Nothing set, as Istio does: the request itself says what it is.
    equal(ask(body, {}, path="/v1/chat/completions").code, 0, "detected")
    equal(ask(None, {"protocol": "http"}, method="GET", path="/orders?x=1", host="shop.example").code, 0, "http")
    denied(ask(None, {"protocol": "http"}, method="GET", path="/orders", host="other.example"), 7, 403, "no_rule")
    denied(ask(None, {"protocol": "http"}, method="GET", path="/orders", host="shop.example", scheme="http"), 7, 403,
           "no_rule")
    denied(ask(None, {"protocol": "http"}, method="GET", path="/a/../orders"), 3, 400, "path_not_normal")
    a = ask(None, {}, principal=None, method="GET", path="/.well-known/agent-card.json")
    equal((a.code, a.headers["x-writ-agent"]), (0, "anonymous"), repr(a))


@test
def raw_headers_are_read_too():
    equal(ask(call(), header_map=True).code, 0, "header_map")
    a = ask(call(), header_map=True, headers=[("content-type", "text/plain")])
    equal((a.code, a.http), (3, 400), f"two types: {a}")
    a = ask(call(), header_map=True, headers=[("x-writ-b", b"\xff\xfe")])
    equal((a.code, a.removed), (0, ["x-writ-b"]), repr(a))


@test
def half_a_body_is_none():
    whole = json.dumps(call()).encode()
    denied(ask(call(), headers=[("x-envoy-auth-partial-body", "true")]), 8, 413, "body_truncated")
    equal(ask(call(), headers=[("x-envoy-auth-partial-body", "false")]).code, 0, "not partial")
    denied(ask(call(), size=-1), 8, 413, "body_truncated")
    denied(ask(call(), size=len(whole) + 1), 8, 413, "body_truncated")
    denied(ask(whole, headers=[("content-length", str(len(whole) + 1))]), 8, 413, "body_truncated")
    equal(ask(whole, headers=[("content-length", str(len(whole)))]).code, 0, "the whole")
    denied(ask(None), 3, 400, "body_required")
    denied(ask(b""), 3, 400, "body_required")


@test
def the_body_is_the_one_the_upstream_gets():
    equal(ask(call(), raw=False).code, 0, "a text without a doubt")
    a = ask(call(arguments={"path": "/a!"}), raw=False)
    denied(a, 3, 400, "body_altered")
    equal(ask(call(arguments={"path": "/a!"})).code, 0, "as bytes it is fine")
    agentgateway = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    exclaims, replaced = (json.dumps(call(arguments={"path": s}), ensure_ascii=False).encode() for s in ("/a!", "/a\ufffd"))
    equal(ask(exclaims, raw=False, ident=agentgateway).code, 0, "its mark is another")
    denied(ask(replaced, raw=False, ident=agentgateway), 3, 400, "body_altered")
    denied(ask(replaced, raw=False), 3, 400, "body_altered")
    denied(ask(json.dumps(call("list")).encode() + b"\0{}"), 3, 400, "invalid_json")
    denied(ask(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"re\xffad"}}'), 3, 400, "invalid_json")


@test
def bodies_over_a_window_do_not_stall():
    a = ask(call(arguments={"path": "x" * 200000}))
    equal(a.code, 0, repr(a))


@test
def who_the_agent_is():
    denied(ask(call(), principal=None), 16, 401, "unauthenticated")
    equal(ask(call(), principal=None).headers["www-authenticate"], 'Bearer realm="writ"', "challenge")
    denied(ask(call(), principal="spiffe://example.org/agent/unknown"), 7, 403, "unknown_agent")
    denied(ask(call(), principal="CN=agent,O=example"), 16, 401, "invalid_peer")
    # No setting names a header: none proves anything.
    denied(ask(call(), principal=None, headers=[("x-forwarded-client-cert", f"URI={AGENT}"), ("x-writ-peer", AGENT)]),
           16, 401, "unauthenticated")
    xfcc = dict(MCP, peer="x-forwarded-client-cert")
    one = [("x-forwarded-client-cert", f"By=spiffe://example.org/gw;Hash=ab;URI={AGENT}")]
    a = ask(call(), xfcc, principal=None, headers=one)
    equal((a.code, a.headers["x-writ-agent"], a.removed), (0, AGENT, ["x-forwarded-client-cert"]), repr(a))
    for bad in (f"URI=spiffe://example.org/x,URI={AGENT}", f"URI={AGENT};URI=spiffe://example.org/x"):
        denied(ask(call(), xfcc, principal=None, headers=[("x-forwarded-client-cert", bad)]), 16, 401, "peer_ambiguous")
    denied(ask(call(), xfcc, principal="spiffe://example.org/agent/other", headers=one), 7, 403, "agents_differ")


def certificate():
    d = server()
    if not hasattr(d, "agent"):
        key = d.path("agent.key")
        csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                      "-subj", "/CN=x").decode()
        svid = d.http("POST", "/v1/attest", {"join_token": join_token(
            d.admin("POST", "/v1/agents/token", {"spiffe_id": AGENT})), "csr": csr})
        d.agent = (d.write("agent.crt", svid.json["x509_svid"]), key)
    return d.agent


def token(audience="spiffe://example.org/writ/server"):
    r = server().https("POST", "/v1/svid/jwt", {"audience": [audience]}, cert=certificate())
    equal(r.status, 200, repr(r))
    return "Bearer " + r.json["svid"]


@test
def a_token_in_the_forwarded_request():
    mine = token()
    a = ask(call(), principal=None, headers=[("authorization", mine)])
    equal((a.code, a.headers["x-writ-agent"], a.removed), (0, AGENT, ["authorization"]), repr(a))
    equal(ask(call(), headers=[("authorization", mine)]).code, 0, "two proofs of one agent")
    denied(ask(call(), principal="spiffe://example.org/agent/other", headers=[("authorization", mine)]), 7, 403,
           "agents_differ")
    equal(ask(call(), principal=None, headers=[("authorization", mine[:-4] + "AAAA")]).code, 16, "a changed signature")
    equal(ask(call(), principal=None, headers=[("authorization", mine + "," + mine)]).code, 16, "two, joined by the proxy")
    theirs = token("https://mcp.example/mcp")
    equal(ask(call(), principal=None, headers=[("authorization", theirs)]).code, 16, "another audience")
    a = ask(call(), dict(MCP, audience="https://mcp.example/mcp"), principal=None, headers=[("authorization", theirs)])
    equal((a.code, a.removed), (0, []), repr(a))
    equal(ask(call(), headers=[("authorization", "Bearer sk-upstream-key")]).removed, [], "the upstream's key stays")


@test
def one_certificate_one_name():
    def pem(path):
        return urllib.parse.quote(open(path, encoding="ascii").read(), safe="")
    leaf = pem(certificate()[0])
    equal(ask(call(), certificate=leaf).code, 0, "the agent's own")
    equal(ask(call(), certificate=leaf).code, 0, "the agent's own once more")
    denied(ask(call(), certificate=leaf.replace("END", "ENX")), 16, 401, "invalid_peer")
    denied(ask(call(), principal="spiffe://example.org/agent/other", certificate=leaf), 7, 403, "agents_differ")
    denied(ask(call(), principal=None, certificate=leaf), 7, 403, "agents_differ")
    two = server().path("two.crt")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", server().path("two.key"),
            "-out", two, "-subj", "/CN=x", "-addext", f"subjectAltName=URI:{AGENT},URI:spiffe://example.org/agent/other")
    denied(ask(call(), certificate=pem(two)), 16, 401, "invalid_peer")
    for bad in ("nonsense", "%zz", "-----BEGIN%20CERTIFICATE-----", "A" * 40000):
        denied(ask(call(), certificate=bad), 16, 401, "invalid_peer")


@test
def settings_are_the_operators_and_strict():
    equal(ask(call(), dict(MCP, gateway="edge-1", vhost="tools", **{"x-team": "a"})).code, 0, "notes")
    for name, value in (("protocl", "mcp"), ("protocol", "grpc"), ("server", "A B"), ("peer", "authorization"),
                        ("batches", "yes"), ("audience", "")):
        settings = dict(MCP)
        settings[name] = value
        denied(ask(call(), settings), 3, 400, "invalid_route")


@test
def what_is_malformed_is_denied_in_so_many_words():
    for why, message in (("empty", b""), ("no attributes", field(2, "x")), ("cut off", request(call())[:-3]),
                         ("twice", request(call()) * 2), ("not UTF-8", field(1, field(1, field(4, b"\xff")))),
                         ("a number", field(1, 7))):
        a = send(message)
        equal((a.code, a.http, a.why), (3, 400, "invalid_message"), f"{why}: {a}")
    a = send(field(1, field(1, field(4, AGENT))))
    equal((a.code, a.http, a.why), (3, 400, "not_http"), f"a TCP connection: {a}")
    a = ask(call(), headers=[("X-Upper", "1")])
    equal((a.code, a.why), (3, "invalid_header"), repr(a))
    a = ask(call(), headers=[("x-a", "1\r\nx-b: 2")])
    equal((a.code, a.why), (3, "invalid_header"), repr(a))
    a = ask(call(), method="")
    equal((a.code, a.why), (3, "not_described"), repr(a))
    last = server().writ("audit", "tail", "--json", code=0).stdout
    check("request.refused" in last and "invalid_message" in last and "not_http" in last, last[-600:])
    deep = b""
    for _ in range(20000):  # what recursive decoders fall over
        deep = field(6, field(1, deep)) if len(deep) < 60000 else deep
    equal(ask(call(), more=field(11, field(1, field(1, "x") + field(2, field(1, deep))))).code, 0, "deep metadata")
    equal(ask(call(), more=field(99, b"\xff\xff")).code, 0, "an unknown field")


@test
def a_proxy_without_rights_gets_a_denial_not_an_error():
    d = server()
    tls = Client(("127.0.0.1", d.tls_port), tls=d.tls_context())
    a = send(request(call()), client=tls)
    equal((a.code, a.http, a.why), (7, 403, "unauthenticated"), repr(a))
    tls.close()
    # A sidecar of one agent asks as that agent, and for no other.
    tls = Client(("127.0.0.1", d.tls_port), tls=d.tls_context(certificate()))
    a = send(request(call(), principal=None), client=tls)
    equal((a.code, a.headers["x-writ-agent"]), (0, AGENT), repr(a))
    denied(send(request(call(), principal="spiffe://example.org/agent/other"), client=tls), 7, 403, "subject_mismatch")
    tls.close()
    web = Client(("127.0.0.1", d.port), authority="evil.example")
    equal(send(request(call()), client=web).why, "host_refused", "a fixed caller answers to local names")
    web.close()


@test
def a_listener_says_its_protocol():
    """Istio sends no settings: the door tells the protocol, the caller's entry the server."""
    d = Deployment(policies=POLICIES, config='callers = { { unix_user = "root", role = { "admin", "pep" }, server = "files" } }\n')
    d.config = d.config.replace(f'"127.0.0.1:{d.port}", caller = "pep"', '"writ-data/a.sock", protocol = "mcp"')
    d.write("writ.lua", d.config)
    d.start()
    d.register()
    g = Client(d.path("writ-data", "a.sock"))
    a = send(request(call(), {}), client=g)
    equal(a.code, 0, repr(a))
    a = send(request({"model": "gpt-large", "max_tokens": 5, "messages": []}, {}, path="/v1/chat/completions"), client=g)
    equal((a.code, a.json.get("jsonrpc")), (3, "2.0"), f"nothing else there: {a}")
    equal(send(request(None, {"protocol": "http"}, method="GET", path="/orders", host="shop.example"), client=g).code, 0,
          "a route's own setting wins")
    g.close()
    d.close()


@test
def over_a_unix_socket():
    d = Deployment(policies=POLICIES, config='callers = { { unix_user = "root", role = { "admin", "pep" } } }\n')
    d.config = d.config.replace(f'"127.0.0.1:{d.port}", caller = "pep"',
                                f'"127.0.0.1:{d.port}", "writ-data/agents.sock", caller = "pep"')
    d.write("writ.lua", d.config)
    d.start()
    d.register()
    g = Client(d.path("writ-data", "agents.sock"), authority="writ_grpc")
    a = send(request(call()), client=g)
    equal(a.code, 0, f"any authority on a Unix socket: {a}")
    equal(g.call("/grpc.health.v1.Health/Check", field(1, "envoy.service.auth.v3.Authorization")).messages, [b"\x08\x01"],
          "its health by name")
    g.close()
    d.close()


@test
def transport_habits():
    g = server().grpc
    equal(g.call("/envoy.service.auth.v2.Authorization/Check", request(call())).status, 12, "v2")
    for t in ("200m", "10S", "1H"):
        equal(send(request(call()), {"grpc-timeout": t}).code, 0, t)
    # What never becomes a message is denied as well, where failure_mode_allow would let an error pass.
    for why, data in (("compressed", b"\1" + struct.pack(">I", 2) + b"xx"), ("cut off", b"\0\0\0"),
                            ("too large", b"\0" + struct.pack(">I", 1 << 30) + b"x" * 50000)):
        s = g.open(CHECK)
        g.data(s.id, data, True)
        a = Answer(s.end().messages[0])
        check(a.code != 0 and a.http == 403, f"{why}: {a}")
    s = g.open("/grpc.health.v1.Health/Check")
    g.data(s.id, b"\0" + struct.pack(">I", 1 << 30), True)
    equal(s.end().status, 8, "elsewhere it is an error")
    s = g.open(CHECK)
    s.send(request(call()))
    s.send(request(call()), True)
    reply = s.end()
    check(reply.status != 0 or Answer(reply.messages[0]).code == 0, f"two messages: {reply}")
    cancelled = g.stream(CHECK, request(call()))
    cancelled.cancel()
    streams = [g.stream(CHECK, request(call("read" if i % 2 else "delete", ident=i))) for i in range(100)]
    for i, s in enumerate(streams):
        a = Answer(s.end().messages[0])
        equal(a.code, 0 if i % 2 else 7, f"stream {i}: {a}")


main()
