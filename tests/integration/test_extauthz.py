#!/usr/bin/env python3
"""ext_authz over HTTP: every proxy's habits against the real server, and real nginx and HAProxy."""
import atexit
import http.client
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from harness import (AGENT, ROOT, Deployment, Failure, UnixConnection, check, equal, exchange, free_port, join_token, main, openssl,
                     test)

RULES = """
policy "gateway" {
  permit "sessions" { on = { action = { "initialize", "notifications/initialized", "tools/list", "stream/open" } } },
  permit "read" { on = { action = "tools/call", effect = "read" } },
  deny "no deleting" { on = { action = "tools/call", tool = "files/delete" },
    reason = "deleting_forbidden", message = "Files are never deleted by agents; ask an operator." },
  permit "models" { on = { action = "models/invoke", model = "gpt-large" },
    when = function(q) return q.http.method == "POST" and q.args.max_tokens <= 100 end },
  permit "search" { on = { action = "models/server_tool", id = "openai/web_search" } },
  permit "orders" { on = { action = "GET", resource = "route", id = "/orders" },
    when = function(q) return q.http.host == "shop.example" end },
  permit "cards" { on = { action = "GetAgentCard" } },
  permit "with a duty" { on = { action = "GET", id = "/duty" },
    obligations = { { id = "o", type = "custom", properties = { a = 1 } } } },
  deny "step up" { on = { action = "GET", id = "/secret" }, reason = "step_up",
    obligations = { { id = "s", type = "step-up", properties = { acr_value = "urn:mfa" } } } },
}
"""
CATALOGUE = """
tool "files/read" { effect = "read", args = { path = "string" } }
tool "files/delete" { effect = "delete", args = { path = "string" } }
model "gpt-large" { provider = "example", tier = 3, max_tokens = 16384 }
"""
POLICIES = {"catalogue/tools.lua": CATALOGUE, "gateway.lua": RULES}
MCP = "protocol=mcp,server=files"
SHARED = []


def server():
    if not SHARED:
        d = Deployment(policies=POLICIES, caller="pep").start()
        d.register()
        SHARED.append(d)
    return SHARED[0]


def call(tool="read", arguments=None, ident=7):
    return {"jsonrpc": "2.0", "id": ident, "method": "tools/call",
            "params": {"name": tool, "arguments": {"path": "/a"} if arguments is None else arguments}}


def envoy(method, path, body=None, settings=MCP, agent=AGENT, **headers):
    h = {k.replace("_", "-"): v for k, v in headers.items()}
    if agent:
        h["x-writ-peer"] = agent
    return server().http(method, f"/ext-authz/envoy,peer=x-writ-peer{',' + settings if settings else ''}{path}", body, h)


@test
def allows_with_exactly_200_and_headers():
    r = envoy("POST", "/mcp", call())
    equal(r.status, 200, repr(r))
    equal(r.body, b"", "body")
    equal(r.header("x-writ-agent"), AGENT, "agent")
    check(r.header("x-writ-decision-id").startswith("ev_"), "decision id")
    equal(r.header("x-envoy-auth-headers-to-remove"), "x-writ-peer", "removed")


@test
def denies_with_the_words_of_the_protocol():
    r = envoy("POST", "/mcp", call("delete"))
    equal(r.status, 403, repr(r))
    equal(r.json["id"], 7, "id")
    equal(r.json["error"]["code"], -32001, "code")
    equal(r.json["error"]["data"]["reason"], "deleting_forbidden", "reason")
    check(r.json["error"]["data"]["evaluation_id"].startswith("ev_"), "evaluation id")
    check("www-authenticate" not in r.headers, "no challenge where no token helps")
    equal(envoy("POST", "/mcp", call("unknown")).json["error"]["data"]["reason"], "unknown_tool", "reason")
    equal(envoy("POST", "/mcp", call(arguments={"path": 7})).json["error"]["data"]["reason"], "invalid_arguments", "reason")


@test
def gives_back_the_id_as_it_came():
    for text in ('7', '"7"', '"a\\u0062"', '0', '-1', '1.0'):
        body = '{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"delete","arguments":{"path":"/"}}}' % text
        r = envoy("POST", "/mcp", body.encode())
        check(('"id":' + text + ",").encode() in r.body, f"{text}: {r}")


@test
def styles_are_hinted_where_the_proxy_cannot_answer_200():
    r = envoy("POST", "/mcp", call("delete"), MCP + ",style=jsonrpc")
    equal((r.status, r.header("x-writ-status")), (403, "200"), "status")
    r = envoy("POST", "/mcp", call("delete"), MCP + ",style=tool_result")
    equal((r.status, r.header("x-writ-status")), (403, "200"), "status")
    equal(r.json["result"]["isError"], True, "isError")
    check("resultType" not in r.json["result"], "resultType is of 2026-07-28")
    equal(r.json["result"]["content"][0]["text"], "Files are never deleted by agents; ask an operator.", "text")


@test
def the_agent_must_be_proven():
    r = envoy("POST", "/mcp", call(), agent=None)
    equal(r.status, 401, repr(r))
    equal(r.header("www-authenticate"), 'Bearer realm="writ"', "challenge")
    r = envoy("POST", "/mcp", call(), agent="spiffe://example.org/agent/unknown")
    equal((r.status, r.header("x-writ-reason")), (403, "unknown_agent"), repr(r))
    # A header that the route does not name proves nothing.
    r = server().http("POST", f"/ext-authz/envoy,{MCP}/mcp", call(), {"x-writ-peer": AGENT,
                      "x-forwarded-client-cert": f"URI={AGENT}"})
    equal(r.status, 401, repr(r))


@test
def xfcc_is_one_element_or_nothing():
    def ask(value):
        return server().http("POST", f"/ext-authz/envoy,peer=x-forwarded-client-cert,{MCP}/mcp", call(),
                             {"x-forwarded-client-cert": value})
    equal(ask(f"By=spiffe://example.org/gw;Hash=ab;Subject=\"CN=a,O=b;c\";URI={AGENT}").status, 200, "one")
    for bad in (f"URI=spiffe://example.org/x,URI={AGENT}", f"URI={AGENT},By=x;URI=spiffe://example.org/x",
                f"URI={AGENT};URI=spiffe://example.org/x", f'Subject="a;URI={AGENT}', f"URI=\"{AGENT}\"",
                f'Subject="x\\";URI=spiffe://example.org/x', "URI", f"URI={AGENT}/../x", "URI=https://x/y"):
        r = ask(bad)
        equal(r.status, 401, f"{bad}: {r}")
    r = server().http("POST", f"/ext-authz/envoy,peer=x-forwarded-client-cert,{MCP}/mcp", call())
    equal(r.status, 401, "without")


@test
def tokens_are_read_from_the_forwarded_request():
    d = server()
    # Not a JWT-SVID: between the agent and the upstream, and no contradiction.
    equal(envoy("POST", "/mcp", call(), authorization="Bearer sk-test").status, 200, "API key")
    equal(envoy("POST", "/mcp", call(), authorization="Basic YTpi").status, 200, "basic")
    forged = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzcGlmZmU6Ly9leGFtcGxlLm9yZy9hZ2VudC9maW5hbmNlLTEifQ.AAAA"
    r = envoy("POST", "/mcp", call(), authorization="Bearer " + forged)
    equal(r.status, 401, repr(r))
    check('error="invalid_token"' in r.header("www-authenticate"), "challenge")
    equal(d.http("GET", "/livez").status, 200, "alive")


def certificate():
    """The agent's own X.509-SVID, and a way to get JWT-SVIDs with it."""
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
    check(r.status == 200, repr(r))
    return "Bearer " + r.json["svid"]


@test
def a_token_proves_the_agent():
    mine = token()
    r = envoy("POST", "/mcp", call(), agent=None, authorization=mine)
    equal((r.status, r.header("x-writ-agent")), (200, AGENT), repr(r))
    equal(r.header("x-envoy-auth-headers-to-remove"), "authorization", "a token for writ ends here")
    equal(envoy("POST", "/mcp", call(), authorization=mine).status, 200, "both proofs name one agent")
    r = envoy("POST", "/mcp", call(), agent="spiffe://example.org/agent/other", authorization=mine)
    equal((r.status, r.header("x-writ-reason")), (403, "agents_differ"), repr(r))
    r = envoy("POST", "/mcp", call(), agent=None, authorization=mine[:-4] + "AAAA")
    equal(r.status, 401, "a changed signature")
    r = server().http("POST", f"/ext-authz/envoy,{MCP}/mcp", call(), {"Authorization": mine, "x-writ-peer": "forged"})
    equal(r.header("x-envoy-auth-headers-to-remove").split(", "), ["authorization", "x-writ-peer"], "stripped")


@test
def a_token_for_the_upstream_stays():
    theirs = token("https://mcp.example/mcp")
    r = envoy("POST", "/mcp", call(), agent=None, authorization=theirs)
    equal(r.status, 401, "another audience than the route's")
    r = envoy("POST", "/mcp", call(), MCP + ",audience=https%3a%2f%2fmcp.example%2fmcp", agent=None, authorization=theirs)
    equal((r.status, r.header("x-envoy-auth-headers-to-remove")), (200, None), repr(r))


@test
def the_proxy_is_known_by_its_connection():
    d = server()
    path = f"/ext-authz/envoy,peer=x-writ-peer,{MCP}/mcp"
    r = d.https("POST", path, call(), {"x-writ-peer": AGENT, "Authorization": token()})
    equal(r.status, 401, "a token in the forwarded request is not the proxy's")
    # A sidecar of one agent asks as that agent, and for no other.
    r = d.https("POST", f"/ext-authz/envoy,{MCP}/mcp", call(), cert=certificate())
    equal((r.status, r.header("x-writ-agent")), (200, AGENT), repr(r))
    r = d.https("POST", path, call(), {"x-writ-peer": "spiffe://example.org/agent/other"}, cert=certificate())
    equal((r.status, r.header("x-writ-reason")), (403, "subject_mismatch"), repr(r))


@test
def agents_have_a_rate():
    d = server()
    c = http.client.HTTPSConnection("127.0.0.1", d.tls_port, timeout=60, context=d.tls_context(certificate()))
    batch = [call(ident=n) for n in range(100)]  # each action counts
    for _ in range(40):
        r = exchange(c, "POST", f"/ext-authz/nginx,batches=allow,{MCP}", batch,
                     {"x-forwarded-method": "POST", "x-forwarded-uri": "/mcp"})
        if r.status != 200:
            break
    c.close()
    equal((r.status, r.header("x-writ-status"), r.header("x-writ-reason")), (403, "429", "rate_limited"), repr(r))
    check(int(r.header("retry-after")) >= 1, "retry-after")


@test
def what_cannot_be_read_is_denied_and_on_record():
    d = server()
    r = envoy("POST", "/mcp", b'{"jsonrpc":"2.0","id":1,"id":2}', content_type="application/json")
    equal((r.status, r.header("x-writ-reason")), (400, "invalid_json"), repr(r))
    equal(r.json["error"]["code"], -32700, "code")
    r = envoy("POST", "/mcp", call(), content_encoding="gzip")
    equal((r.status, r.header("x-writ-reason")), (400, "body_encoded"), repr(r))
    r = envoy("POST", "/mcp", call(), x_envoy_auth_partial_body="true")
    equal((r.status, r.header("x-writ-reason")), (413, "body_truncated"), repr(r))
    r = envoy("GET", "/a/..%2fb", settings="protocol=http")
    equal((r.status, r.header("x-writ-reason")), (400, "path_not_normal"), repr(r))
    r = envoy("POST", "/v1/batches", {"x": 1}, "protocol=openai")
    equal((r.status, r.json["error"]["code"]), (403, "endpoint_refused"), repr(r))
    last = d.writ("audit", "tail", "--json", code=0).stdout
    check("request.refused" in last and "endpoint_refused" in last, last[-600:])


@test
def models_speak_their_own_errors():
    body = {"model": "gpt-large", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    equal(envoy("POST", "/v1/chat/completions", body, "").status, 200, "openai")
    big = dict(body, max_tokens=500)
    r = envoy("POST", "/v1/chat/completions", big, "")
    equal((r.status, r.json["error"]["type"], r.json["error"]["code"]), (403, "permission_error", "no_rule"), repr(r))
    r = envoy("POST", "/v1/messages", dict(big), "", anthropic_version="2023-06-01")
    equal((r.status, r.json["type"], r.json["error"]["type"]), (403, "error", "permission_error"), repr(r))
    r = envoy("POST", "/v1beta/models/nope:generateContent", {"contents": []}, "")
    equal((r.status, r.json["error"]["status"]), (403, "PERMISSION_DENIED"), repr(r))
    r = envoy("POST", "/model/nope/converse", {"messages": []}, "")
    equal((r.status, r.header("x-amzn-errortype")), (403, "AccessDeniedException"), repr(r))
    r = envoy("POST", "/api/chat", {"model": "nope", "messages": []}, "")
    equal((r.status, r.json["error"]["code"]), (403, "unknown_model"), repr(r))


@test
def several_actions_need_every_permit():
    ok = {"model": "gpt-large", "max_output_tokens": 50, "input": "hi", "tools": [{"type": "web_search"}]}
    r = envoy("POST", "/v1/responses", ok, "")
    equal(r.status, 200, repr(r))
    equal(len(r.header("x-writ-decision-id").split(",")), 2, "one decision for each")
    bad = dict(ok, tools=ok["tools"] + [{"type": "mcp", "server_label": "x", "server_url": "https://evil.example/mcp"}])
    r = envoy("POST", "/v1/responses", bad, "")
    equal((r.status, r.json["error"]["code"]), (403, "no_rule"), repr(r))


@test
def plain_routes_and_discovery():
    equal(envoy("GET", "/orders?x=1", settings="", host="shop.example").status, 403, "a foreign host at a fixed caller")
    head = {"x-forwarded-method": "GET", "x-forwarded-uri": "/orders?x=1", "x-forwarded-host": "shop.example",
            "x-writ-peer": AGENT}
    equal(server().http("GET", "/ext-authz/check,peer=x-writ-peer", None, head).status, 200, "GET")
    r = server().http("GET", "/ext-authz/check,peer=x-writ-peer", None, dict(head, **{"x-forwarded-method": "POST"}))
    equal((r.status, r.json["error"]["code"]), (403, "no_rule"), repr(r))
    r = envoy("GET", "/.well-known/agent-card.json", settings="", agent=None)
    equal((r.status, r.header("x-writ-agent")), (200, "anonymous"), repr(r))
    r = envoy("GET", "/.well-known/oauth-protected-resource/mcp", settings="", agent=None)
    equal((r.status, r.header("x-writ-reason")), (403, "no_rule"), repr(r))


@test
def obligations_are_for_those_who_can():
    r = envoy("GET", "/duty", settings="protocol=http")
    equal((r.status, r.header("x-writ-reason")), (403, "obligations_unsupported"), repr(r))
    d = server()
    ident = r.header("x-writ-decision-id")
    record = d.admin("GET", f"/v1/audit/records?from={ident.split('_')[2]}&limit=1").json["records"][0]
    equal((record["decision"], record["reason"]), ("deny", "obligations_unsupported"), "the record says what is enforced")
    check("answer_commit" in record and record["rule"], f"which permit, and which obligations: {record}")
    equal(d.http("POST", "/v1/audit/outcome", {"evaluation_id": ident, "outcome": "success"}).json["error"]["code"], "not_permitted",
          "nothing came of it")
    # One who can carry it out is permitted, and both are decided again as they were.
    body = {"subject": {"type": "agent", "id": AGENT}, "action": {"name": "GET"}, "resource": {"type": "route", "id": "/duty"}}
    able = d.http("POST", "/access/v1/evaluation", body).json
    check(able["decision"] and able["context"]["obligations"], f"{able}")
    replayed = json.loads(d.writ("policy", "replay", "--json", code=0).stdout)
    equal(replayed["changed"], 0, f"{replayed}")
    r = envoy("GET", "/secret", settings="protocol=http")
    equal(r.header("www-authenticate"), 'Bearer error="insufficient_user_authentication", acr_values="urn:mfa"', repr(r))


@test
def proxies_describe_the_request_in_headers():
    d = server()
    base = {"x-writ-peer": AGENT, "x-forwarded-method": "POST", "x-forwarded-uri": "/mcp"}

    def ask(proxy="haproxy", query="", body=call(), **change):
        h = dict(base)
        h.update({k.replace("_", "-"): v for k, v in change.items()})
        h = {k: v for k, v in h.items() if v is not None}
        return d.http("POST", f"/ext-authz/{proxy},peer=x-writ-peer,{MCP}{query}", body, h)

    for proxy in ("nginx", "traefik", "caddy", "haproxy", "check"):
        equal(ask(proxy).status, 200, proxy)
    equal(ask(x_forwarded_uri=None, x_original_uri="/mcp").status, 200, "X-Original-URI")
    equal(ask(x_forwarded_uri=None, x_original_url="https://h/mcp").status, 200, "X-Original-URL")
    for change in ({"x_forwarded_uri": None}, {"x_forwarded_method": None}):
        r = ask(**change)
        equal((r.status, r.header("x-writ-reason")), (400, "not_described"), f"{change} {r}")
    r = ask(x_original_uri="/harmless")
    equal((r.status, r.header("x-writ-reason")), (400, "conflicting_headers"), repr(r))
    equal(ask(x_original_uri="/mcp").status, 200, "two that agree")
    r = ask("nginx", x_original_uri="/harmless")
    equal((r.status, r.header("x-writ-status")), (403, "400"), "nginx knows 401 and 403")
    equal(ask("caddy", "?a=1", x_forwarded_uri="/mcp?a=1").status, 200, "Caddy appends the query")
    r = ask("nginx", "?protocol=http")
    equal((r.status, r.header("x-writ-reason")), (403, "invalid_route"), repr(r))


@test
def routes_are_the_operators_and_strict():
    d = server()
    for path in ("/ext-authz/", "/ext-authz/mcp", "/ext-authz/envoy", "/ext-authz/envoy,protocl=mcp/mcp",
                 "/ext-authz/envoy,protocol=grpc/mcp", "/ext-authz/envoy,server=A/mcp", "/ext-authz/envoy,x/mcp",
                 "/ext-authz/envoy,peer=authorization/mcp", "/ext-authz/envoy,batches=yes/mcp",
                 "/ext-authz/nginx/mcp", "/ext-authz/envoy,audience=%zz/mcp"):
        r = d.http("POST", path, call(), {"x-writ-peer": AGENT, "x-forwarded-method": "POST", "x-forwarded-uri": "/"})
        check(r.status in (400, 403), f"{path}: {r}")
    for method in ("HEAD", "OPTIONS", "PATCH", "PURGE"):
        r = envoy(method, "/orders", settings="protocol=http")
        equal(r.status, 403, f"{method}: {r}")
        equal(r.body == b"", method == "HEAD", method)


# --- real proxies, with the files of scripts/deploy ------------------------------------------

class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers with what reached it."""
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        out = json.dumps({"method": self.command, "path": self.path, "body": body.decode(),
                          "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_):
        pass


class Proxy:
    """A program of scripts/deploy in a folder of its own, with its ports replaced."""

    def __init__(self, files, command, port):
        upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        upstream.daemon_threads = True
        upstream.handle_error = lambda *_: None  # a proxy hangs up as it likes
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        self.port = free_port()
        self.dir = tempfile.mkdtemp(prefix="writ-proxy-")
        os.mkdir(os.path.join(self.dir, "tmp"))
        for name in files:
            with open(os.path.join(ROOT, "scripts", "deploy", name), encoding="utf-8") as f:
                text = f.read()
            for old, new in ((":8080", f":{server().port}"), (f":{port}", f":{self.port}"),
                             (":3001", f":{upstream.server_port}")):
                text = text.replace(old, new)
            with open(os.path.join(self.dir, name), "w", encoding="utf-8") as f:
                f.write(text)
        program = shutil.which(command[0]) or f"/usr/sbin/{command[0]}"
        check(os.path.exists(program), f"{command[0]} is not installed; scripts/packages installs it")
        self.log = open(os.path.join(self.dir, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen([program] + [c.replace("DIR", self.dir) for c in command[1:]], cwd=self.dir,
                                        stdout=self.log, stderr=self.log)
        atexit.register(self.close)
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.log.seek(0)
                    raise Failure(f"{command[0]} did not start: {self.log.read()[-800:]}") from None
                time.sleep(0.02)

    def ask(self, method, path, body=None, headers=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            return exchange(c, method, path, body, headers)
        finally:
            c.close()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)


@test
def a_real_nginx_asks():
    p = Proxy(["nginx.conf"], ["nginx", "-p", "DIR", "-c", "nginx.conf"], 8090)
    host = {"Host": "shop.example"}
    r = p.ask("GET", "/orders?x=1", headers=dict(host, **{"X-Writ-Agent": "forged", "Origin": "http://x"}))
    equal(r.status, 200, repr(r))
    equal(r.json["headers"]["x-writ-agent"], AGENT, "the agent at the upstream")
    check(r.json["headers"]["x-writ-decision-id"].startswith("ev_"), "the decision at the upstream")
    equal(p.ask("GET", "/orders", headers={"Host": "other.example"}).status, 403, "another host")
    r = p.ask("POST", "/orders", b"x" * 5000, dict(host, **{"Content-Type": "text/plain"}))
    equal((r.status, r.json["error"]["code"]), (403, "no_rule"), repr(r))
    for path in ("/a//b", "/a/%2e%2e/orders", "/orders;x", "/orders/../orders"):
        r = p.ask("GET", path, headers=host)
        equal((r.status, r.json["error"]["code"]), (403, "path_not_normal"), f"{path}: {r}")
    for forged in ({"X-Forwarded-Uri": "/orders"}, {"X-Original-Uri": "/orders"}, {"X-Forwarded-Method": "GET"},
                   {"X-Original-Url": "/orders"}, {"X-Original-Method": "GET"}, {"X-Writ-Peer": "spiffe://example.org/x"}):
        r = p.ask("DELETE", "/other", headers=dict(host, **forged))
        equal((r.status, r.json["error"]["code"]), (403, "no_rule"), f"{forged}: {r}")
    r = p.ask("GET", "/orders", headers=dict(host, **{"X-HTTP-Method-Override": "DELETE"}))
    equal((r.status, r.json["error"]["code"]), (403, "override_header"), repr(r))


@test
def a_real_haproxy_asks_with_the_body():
    p = Proxy(["haproxy.cfg", "haproxy_writ.lua"], ["haproxy", "-db", "-f", "haproxy.cfg"], 8091)
    r = p.ask("POST", "/mcp", call(), {"X-Writ-Agent": "forged", "Origin": "http://x"})
    equal(r.status, 200, repr(r))
    equal(json.loads(r.json["body"]), call(), "what was judged is what arrives")
    equal(r.json["headers"]["x-writ-agent"], AGENT, "the agent at the upstream")
    check("x-writ-peer" not in r.json["headers"], "the proxy's own header stays there")
    r = p.ask("POST", "/mcp", call("delete"))
    equal((r.status, r.json["id"], r.json["error"]["code"]), (200, 7, -32001), "style jsonrpc")
    r = p.ask("POST", "/mcp", call("read", {"path": "x" * 100000}))
    equal(r.status, 200, "a large body arrives whole")
    r = p.ask("POST", "/mcp", b"{", {"Content-Type": "application/json"})
    equal((r.status, r.json["error"]["code"]), (400, -32700), repr(r))
    r = p.ask("GET", "/mcp", headers={"X-Forwarded-Uri": "/x", "X-Original-Url": "/y"})
    equal(r.status, 200, repr(r))
    c = http.client.HTTPConnection("127.0.0.1", p.port, timeout=10)
    c.request("POST", "/mcp", body=iter([json.dumps(call()).encode()]), encode_chunked=True,
              headers={"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
    equal(c.getresponse().status, 411, "a body without a length")
    c.close()
    r = p.ask("DELETE", "/mcp")
    equal((r.status, r.header("x-writ-reason")), (403, "no_rule"), repr(r))


@test
def envoy_comes_by_a_unix_socket():
    """Where it may send any Host: a page in a browser reaches no Unix socket."""
    d = Deployment(policies=POLICIES, config='callers = { { unix_user = "root", role = "admin" }, '
                   f'{{ unix_uid = {os.getuid()}, role = "pep" }} }}\n')
    d.write("writ.lua", d.config.replace(f'"127.0.0.1:{d.port}"', '"writ-data/authz.sock"'))
    d.start()
    d.register()
    c = UnixConnection(d.path("writ-data", "authz.sock"), 15)
    for host, status in (("shop.example", 200), ("other.example", 403)):
        r = exchange(c, "GET", "/ext-authz/envoy,protocol=http,peer=x-writ-peer/orders", None,
                     {"Host": host, "x-writ-peer": AGENT})
        equal(r.status, status, f"{host}: {r}")
    c.close()
    d.close()


@test
def the_readme_is_true():
    with open(os.path.join(ROOT, "authz", "extauthz", "README.md"), encoding="utf-8") as f:
        text = f.read()
    rules = re.findall(r"```lua policy\n(.*?)```", text, re.S)
    commands = re.findall(r"```sh\n(.*?)```\n\n```text\n(.*?)```", text, re.S)
    settings = re.findall(r"```lua\n(.*?)```", text, re.S)
    check(len(rules) == len(commands) == 1 and len(settings) == 2, "blocks")
    d = Deployment(policies={"catalogue/tools.lua": CATALOGUE, "gateway.lua": rules[0]}, caller="pep",
                   config=settings[0].split("\n", 2)[2] + settings[1]).start()
    d.register()
    shell, wanted = commands[0]
    out = subprocess.run(["sh", "-c", shell.replace(":8080", f":{d.port}")], capture_output=True, text=True, check=True)
    for line in wanted.strip().splitlines():
        want = line.replace("ev_...", "ev_")
        check(any(got.startswith(want) for got in out.stdout.splitlines()), f"{want!r} is not in {out.stdout!r}")
    r = d.http("POST", "/ext-authz/check,peer=x-writ-peer", {"model": "gpt-large", "messages": []},
               {"x-writ-peer": AGENT, "x-forwarded-method": "POST", "x-forwarded-uri": "/v1/chat/completions"})
    equal(r.status, 403, "16,384 tokens, the model's own maximum")
    d.close()
    for name in re.findall(r"`([\w.-]+\.(?:conf|cfg|lua|yaml)|Caddyfile)`", text):
        check(name in ("writ.lua", "policies/gateway.lua") or os.path.exists(os.path.join(ROOT, "scripts", "deploy", name)), name)


@test
def decisions_replay():
    d = server()
    out = d.writ("policy", "replay", "--json", code=0).stdout
    summary = json.loads(out.strip().splitlines()[-1])
    check(summary.get("changed", 0) == 0 and summary.get("same", 0) > 5, out[-400:])


if __name__ == "__main__":
    main()
