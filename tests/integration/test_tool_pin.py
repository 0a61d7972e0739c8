#!/usr/bin/env python3
"""writ tool pin against MCP servers of every era, and against what is none."""
import atexit
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading

from harness import SANITIZER, WRIT, Deployment, Failure, check, equal, main, one_line, test

TOOLS = [{"name": n, "description": f"Does {n} \u00e9", "inputSchema": {"type": "object", "properties": {"a": {"type": "number", "maximum": 1.50}}}}
         for n in ("write", "read", "with/slash", "Ünïcode")]
WORK = tempfile.mkdtemp(prefix="writ-pin-")
atexit.register(shutil.rmtree, WORK, ignore_errors=True)


def digest(tool):
    text = json.dumps(tool, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class Double(http.server.BaseHTTPRequestHandler):
    """An MCP server; what kind of one, self.server.how says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", kind="application/json", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        if body:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events, stay_open):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for e in events:
            data = f": ping\r\nevent: message\r\ndata: {json.dumps(e)}\r\n\r\n".encode()
            for piece in (data[:7], data[7:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.flush()
        if stay_open:
            self.server.over.wait(30)  # until the client has gone on
        self.wfile.write(b"0\r\n\r\n")

    def page(self, params):
        """{"tools", "nextCursor"}: two at a time."""
        at = int(params.get("cursor", "0"))
        result = {"tools": self.server.tools[at:at + 2]}
        if at + 2 < len(self.server.tools):
            result["nextCursor"] = str(at + 2)
        return result

    def do_DELETE(self):
        self.server.seen.append(("DELETE", self.headers.get("Mcp-Session-Id")))
        self.answer(200)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((body["method"], {k.lower(): v for k, v in self.headers.items()}, body))
        getattr(self, self.server.how)(body, body.get("params", {}))

    def result(self, body, result, **headers):
        self.answer(200, {"jsonrpc": "2.0", "id": body["id"], "result": result}, **headers)

    def modern(self, body, params):
        meta = params.get("_meta", {})
        version = meta.get("io.modelcontextprotocol/protocolVersion")
        if version != "2026-07-28" or self.headers["MCP-Protocol-Version"] != version or \
                self.headers["Mcp-Method"] != body["method"] or "io.modelcontextprotocol/clientCapabilities" not in meta:
            self.answer(400, {"jsonrpc": "2.0", "id": body["id"], "error": {"code": -32020, "message": "headers"}})
        elif body["method"] == "tools/list":
            self.result(body, dict(self.page(params), resultType="complete", ttlMs=1000, cacheScope="public"))
        else:
            self.answer(404, {"jsonrpc": "2.0", "id": body["id"], "error": {"code": -32601, "message": "gone"}})

    def legacy(self, body, params, stream=False, stay_open=False, revision="2025-06-18"):
        if body["method"] == "initialize":
            self.result(body, {"protocolVersion": revision, "capabilities": {"tools": {}}, "serverInfo": {"name": "d", "version": "1"}},
                        Mcp_Session_Id="s-1")
        elif self.headers["Mcp-Session-Id"] != "s-1":
            self.answer(400, {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "Bad Request: Server not initialized"}})
        elif body["method"] == "notifications/initialized":
            self.answer(202)
        elif stream:
            self.stream([{"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "hello"}},
                         {"jsonrpc": "2.0", "id": body["id"], "method": "ping"},
                         {"jsonrpc": "2.0", "id": body["id"], "result": self.page(params)}], stay_open)
        else:
            self.result(body, self.page(params))

    def legacy_stream(self, body, params):
        self.legacy(body, params, stream=True)

    def legacy_open_stream(self, body, params):
        self.legacy(body, params, stream=True, stay_open=True)

    def legacy_2025_03_26(self, body, params):
        self.legacy(body, params, revision="2025-03-26")

    def unknown_revision(self, body, params):
        self.legacy(body, params, revision="2031-01-01")

    def no_tools(self, body, _params):
        if body["method"] != "initialize":
            self.answer(400)
        else:
            self.result(body, {"protocolVersion": "2025-06-18", "capabilities": {"prompts": {}}})

    def token(self, body, params):
        if self.headers["Authorization"] != "Bearer s3cret":
            self.answer(401, WWW_Authenticate="Bearer")
        else:
            self.modern(body, params)

    def redirect(self, _body, _params):
        self.answer(307, Location="/mcp/")

    def error(self, body, _params):
        self.answer(200, {"jsonrpc": "2.0", "id": body["id"], "error": {"code": -32603, "message": "no \u001b[2J luck"}})

    def web_page(self, _body, _params):
        self.answer(200, b"<html>welcome</html>", "text/html")

    def not_found(self, _body, _params):
        self.answer(404, b"nothing here", "text/plain")

    def another_id(self, body, _params):
        self.answer(200, {"jsonrpc": "2.0", "id": body["id"] + 1, "result": {"tools": []}})

    def big_number(self, body, _params):
        self.answer(200, b'{"jsonrpc":"2.0","id":%d,"result":{"tools":[{"name":"a","max":9223372036854775807}]}}' % body["id"])

    def twice(self, body, _params):
        self.result(body, {"tools": [{"name": "a"}, {"name": "a"}]})

    def twice_on_two_pages(self, body, params):
        self.result(body, {"tools": [{"name": "a"}], "nextCursor": "x"} if "cursor" not in params else {"tools": [{"name": "a"}]})

    def for_ever(self, body, params):
        n = int(params.get("cursor", "0"))
        self.result(body, {"tools": [{"name": f"t{n}"}], "nextCursor": str(n + 1)})

    def nothing(self, body, _params):
        self.result(body, {"tools": []})

    def gzip(self, body, _params):
        self.answer(200, b"\x1f\x8b", Content_Encoding="gzip")

    def hang_up(self, _body, _params):
        self.close_connection = True


class Server:
    def __init__(self, how, tools=None):
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Double)
        self.http.how, self.http.tools, self.http.seen = how, TOOLS if tools is None else tools, []
        self.http.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.http.server_port}/mcp"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.over.set()
        self.http.shutdown()
        self.http.server_close()

    def methods(self):
        return [s[0] for s in self.http.seen]


def pin(*args, code=0, text=None):
    done = subprocess.run([WRIT, "tool", "pin", *args], cwd=WORK, capture_output=True, text=True, input=text, timeout=60, check=False)
    check(not SANITIZER.search(done.stderr), done.stderr)
    if done.returncode != code:
        raise Failure(f"{args} ended with {done.returncode}: {one_line(done.stdout[-500:])} {one_line(done.stderr[-900:])}")
    return done.stdout if code == 0 else done.stderr


def put(name, value):
    with open(os.path.join(WORK, name), "w", encoding="utf-8") as f:
        f.write(value if isinstance(value, str) else json.dumps(value))
    return name


def get(name):
    with open(os.path.join(WORK, name), encoding="utf-8") as f:
        return f.read()


@test
def every_era_gives_the_same_pins():
    want = pin("files", "-f", put("list.json", TOOLS))
    for t in TOOLS:
        check(digest(t) in want, f"the digest of {t['name']}")
    for how, revision, calls in (
            ("modern", "2026-07-28", ["tools/list"] * 2),
            ("legacy", "2025-06-18", ["tools/list", "initialize", "notifications/initialized", "tools/list", "tools/list", "DELETE"]),
            ("legacy_stream", "2025-06-18", None), ("legacy_open_stream", "2025-06-18", None),
            ("legacy_2025_03_26", "2025-03-26", None)):
        with Server(how) as s:
            equal(pin("files", "--server", s.url), want, how)
            if calls:
                equal(s.methods(), calls, how)
            s.http.seen.clear()
            equal(json.loads(pin("files", "--server", s.url, "--json"))["revision"], revision, how)
            for name, headers, body in (x for x in s.http.seen if x[0] != "DELETE"):
                equal(headers["accept"], "application/json, text/event-stream", f"{how} {name}")
                equal(body["jsonrpc"], "2.0", how)
            last = [x for x in s.http.seen if x[0] == "tools/list"][-1]
            equal(last[1].get("mcp-protocol-version"), None if revision == "2025-03-26" else revision, f"{how}: version")
            if how != "modern":
                equal(s.http.seen[-1], ("DELETE", "s-1"), f"{how}: the session is ended")


@test
def lists_in_files():
    want = pin("files", "-f", put("list.json", TOOLS))
    equal(pin("files", "-f", put("a.json", {"tools": TOOLS})), want, "a result")
    equal(pin("files", "-f", put("b.json", {"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS}})), want, "a response")
    equal(pin("files", "-f", "-", text=json.dumps(TOOLS)), want, "standard input")
    first = put("p1.json", {"tools": TOOLS[:2], "nextCursor": "2"})
    equal(pin("files", "-f", first, "-f", put("p2.json", {"tools": TOOLS[2:]})), want, "two pages")
    check("give the pages after it" in pin("files", "-f", first, code=1), "a page is missing")
    check("stands on two pages" in pin("files", "-f", "a.json", "-f", "b.json", code=1), "twice")
    check("no JSON" in pin("files", "-f", put("bad.json", "{"), code=1) or "invalid JSON" in pin("files", "-f", "bad.json", code=1), "no JSON")
    check("there is no list of tools" in pin("files", "-f", put("bad.json", {"prompts": []}), code=1), "no list")
    check("error -32601: no" in pin("files", "-f", put("bad.json", {"error": {"code": -32601, "message": "no"}}), code=1), "an error")
    check("No such file" in pin("files", "-f", "none.json", code=1), "no file")
    equal(pin("files", "-f", "list.json", "--tool", "read").count("digest ="), 1, "one of them")
    check('lists no tool "raed"' in pin("files", "-f", "list.json", "--tool", "read", "--tool", "raed", code=1), "a slip")
    for args in ((), ("files",), ("files", "--server", "http://127.0.0.1:1/", "-f", "list.json"), ("Files", "-f", "list.json"),
                 ("a/b", "-f", "list.json"), ("files", "-f", "list.json", "--token", "x")):
        pin(*args, code=2)


@test
def a_file_of_pins_is_reviewed_and_replaced():
    name = "pins-files.lua"
    said = pin("files", "-f", "list.json", "--write", name)
    check("files/read is new" in said and f"wrote {name}: 4 pins, 4 new, 0 changed, 0 gone" in said, said)
    text = get(name)
    check('"description": "Does read é"' in text and text.count("\n") > 40, "line by line, for a diff")
    equal(pin("files", "-f", "list.json", "--write", name), f"wrote {name}: 4 pins, 0 new, 0 changed, 0 gone\n", "again")
    changed = [dict(TOOLS[0], description="IMPORTANT \u202e \U000e0041 ]=] ]==]", annotations={"readOnlyHint": True})] + TOOLS[1:3]
    said = pin("files", "-f", put("changed.json", changed), "--write", name)
    check("files/write changed\nannotations added\n  + {\"readOnlyHint\":true}\ndescription changed\n" in said, said)
    check("files/Ünïcode is gone" in said and "\u202e" not in said and "\U000e0041" not in said, said)
    check("\\u202e \\udb40\\udc41 ]=] ]==]" in get(name), "what cannot be seen is written as its number")
    equal(json.loads(pin("files", "-f", "list.json", "--write", name, "--json"))["changed"], 1, "JSON")
    before = get(name)
    equal(pin("files", "-f", "list.json", "--check", name), f"checked {name}: 4 pins, 0 new, 0 changed, 0 gone\n", "as it stands")
    done = subprocess.run([WRIT, "tool", "pin", "files", "-f", "changed.json", "--check", name], cwd=WORK, capture_output=True, text=True,
                          timeout=60, check=False)
    equal((done.returncode, get(name)), (1, before), "something differs, and nothing is written")
    check("files/write changed\nannotations added" in done.stdout and "0 new, 1 changed, 1 gone" in done.stdout, done.stdout)
    check("holds no pins to check against" in pin("files", "-f", "list.json", "--check", "none.lua", code=1), "no file to check against")
    pin("files", "-f", "list.json", "--check", name, "--write", name, code=2)
    check("was not written by `writ tool pin mail`" in pin("mail", "-f", "list.json", "--write", name, code=1), "another server's")
    put("mine.lua", "-- mine\n")
    check("it is left as it is" in pin("files", "-f", "list.json", "--write", "mine.lua", code=1), "somebody else's file")
    equal((get(name), get("mine.lua")), (before, "-- mine\n"), "nothing was touched")
    put(name, before.replace("sha256:", "sha256:0", 1))
    check("wrote" in pin("files", "-f", "list.json", "--write", name), "a file that does not load any more is replaced")
    huge = [{"name": f"t{i}", "description": "x" * 3000} for i in range(100)]
    check("a policy file has at most 256" in pin("files", "-f", put("huge.json", huge), "--write", "huge.lua", code=1), "too large")
    check("100 pins" in pin("files", "-f", "huge.json", "--write", "huge.lua", "--digests"), "digests alone")


@test
def what_is_written_is_in_force():
    d = Deployment(policies={"catalogue/tools.lua": "".join(f'tool "files/{t["name"]}" {{ effect = "read" }}\n' for t in TOOLS),
                             "p.lua": 'policy "p" { permit "all" { on = { action = "tools/call" } } }'}, caller="pep").start()
    d.register()
    with Server("legacy_stream") as s:
        pin("files", "--server", s.url, "--write", d.path("policies/catalogue/pins-files.lua"))
    d.writ("policy", "apply", d.path("policies"), code=0)
    listed = json.loads(d.writ("tool", "list", "--json", code=0).stdout)["tools"]
    equal({t["tool"]: (t["state"], t["pinned"]) for t in listed}, {f"files/{t['name']}": ("unseen", digest(t)) for t in TOOLS}, "pins")
    for stated, want in ((digest(TOOLS[1]), True), (digest(TOOLS[0]), False)):
        r = d.http("POST", "/access/v1/evaluation", {
            "subject": {"type": "agent", "id": "spiffe://example.org/agent/finance-1"}, "action": {"name": "tools/call"},
            "resource": {"type": "tool", "id": "files/read", "properties": {"definition_digest": stated}}})
        equal(r.json["decision"], want, repr(r))


@test
def tokens_are_sent_to_that_server_only():
    with Server("token") as s:
        check("give it a token with --token @FILE" in pin("files", "--server", s.url, code=1), "none")
        check("the token does not do" in pin("files", "--server", s.url, "--token", "wrong", code=1), "a wrong one")
        equal(s.methods(), ["tools/list"] * 2, "no second try in another era")
        put("token", "s3cret\n")
        check("files" in pin("files", "--server", s.url, "--token", "@token"), "from a file")
        put("token", "a\nX-Forged: 1")
        check("no token in it" in pin("files", "--server", s.url, "--token", "@token", code=2), "two lines")
    with Server("redirect") as s:
        check("redirects to /mcp/; if that is right, give that URL" in pin("files", "--server", s.url, code=1), "a redirect")
        equal(len(s.http.seen), 1, "it is not followed")


@test
def what_is_no_list_is_told():
    for how, want in (("error", "error -32603: no ?[2J luck"), ("web_page", "status 200, text/html"), ("not_found", "status 404, text/plain"),
                      ("another_id", "status 200, application/json"), ("big_number", "an integer beyond"), ("twice", "stands twice"),
                      ("twice_on_two_pages", "stands on two pages"), ("for_ever", "more than 200 pages"), ("nothing", "lists no tools"),
                      ("unknown_revision", 'speaks revision "2031-01-01"'), ("no_tools", "says that it has no tools"),
                      ("gzip", "encoded"), ("hang_up", "127.0.0.1")):
        with Server(how) as s:
            said = pin("files", "--server", s.url, code=1)
            check(want in said, f"{how}: {said}")
            check("\x1b" not in said, f"{how}: {said!r}")
            said = json.loads(subprocess.run([WRIT, "tool", "pin", "files", "--server", s.url, "--json"], capture_output=True, text=True,
                                             timeout=60, check=False).stderr)
            check(said["error"]["code"], f"{how}: {said}")
    for url, want in (("http://127.0.0.1:1/mcp", "Connection refused"), ("http://example.org/mcp", "https"), ("ftp://x/", "https"), ("", "https")):
        said = pin("files", "--server", url, code=1)
        check(want in said, f"{url}: {said}")


main()
