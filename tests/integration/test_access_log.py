#!/usr/bin/env -S python3 -B
"""Envoy's gRPC access log service: entries close the decisions that their requests stood on."""
import os
import re
import signal
import struct

from grpc_client import Client, field, parse
from harness import AGENT, Deployment, check, equal, main, test

STREAM = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
EXT_AUTHZ, GATEWAY = "envoy.filters.http.ext_authz", "io.envoy.ai_gateway"
SHARED = []


def server():
    if not SHARED:
        d = Deployment(caller="pep").start()
        d.register()
        SHARED.append(d)
    return SHARED[0]


# --- messages, by the field tables of als.proto and accesslog.proto --------------------------

def number(value):
    return b"\x11" + struct.pack("<d", value)


def namespace(name, values):
    members = b"".join(field(1, field(1, k) + field(2, field(3, v) if isinstance(v, str) else number(v)))
                       for k, v in values.items())
    return field(1, field(1, name) + field(2, members))


def entry(ident=None, status=200, flags=(), usage=None, ms=12, sent=100, kind=6, name="decision_id", more=b""):
    """HTTPAccessLogEntry as Envoy fills it for a request that ext_authz let pass."""
    metadata = namespace("envoy.filters.http.jwt_authn", {"sub": "x"})
    if ident is not None:
        metadata += namespace(EXT_AUTHZ, {name: ident, "reason_code": "permitted", "generation": 1.0})
    if usage:
        metadata += namespace(GATEWAY, usage)
    common = field(13, field(1, field(2, "10.0.0.2"))) + field(15, "mcp_backend")
    if flags:
        common += field(16, b"".join(field(n, 1) for n in flags))
    common += field(17, metadata) + field(23, field(1, ms // 1000) + field(2, ms % 1000 * 1000000))
    common += field(24, 1) + field(31, sent) + field(33, kind) + more
    response = (field(1, field(1, status)) if status else b"") + field(3, 5) + field(6, "via_upstream")
    return field(1, common) + field(2, 2) + field(3, field(12, 40)) + field(4, response)


def identifier(name="writ"):
    return field(1, field(1, field(1, "edge-1")) + field(2, name))


def http_logs(*entries):
    return field(2, b"".join(field(1, e) for e in entries))


class Log:
    def __init__(self, d=None, first=None, **kw):
        self.client = Client(("127.0.0.1", (d or server()).port), **kw)
        self.stream = self.client.stream(STREAM, identifier() if first is None else first, last=False)

    def send(self, *entries):
        self.stream.send(http_logs(*entries), patient=True)
        return self

    def end(self, status=0):
        """All that was sent is on record when the reply is here."""
        self.stream.half_close()
        reply = self.stream.end()
        equal(reply.status, status, f"{reply}")
        equal(reply.messages, [b""] if status == 0 else [], "StreamAccessLogsResponse")
        self.client.close()
        return reply


def log(*entries, d=None):
    Log(d, identifier() + http_logs(*entries)).end()


def counts(d=None):
    text = (d or server()).operators("GET", "/metrics").body.decode()
    out = {k: int(v) for k, v in re.findall(r'writ_access_log_total{result="(\w+)"} (\d+)', text)}
    out.update({k: int(v) for k, v in re.findall(r'writ_refused_total{listener="http",code="(\w+)"} (\d+)', text)})
    return out


def change(before, after):
    return {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}


def permit(d=None, **more):
    c = (d or server()).evaluate("ledger/query", {"max_rows": 5}, **more).json
    check(c["decision"], f"not permitted: {c}")
    return c["context"]


def closing(c, d=None):
    """The records that close this decision, by kind."""
    d = d or server()
    out, at = {}, c["record"]["seq"] + 1
    while True:
        page = d.admin("GET", f"/v1/audit/records?from={at}&limit=1000").json["records"]
        for r in page:
            if r.get("closes") == c["record"]["seq"]:
                out[r["kind"]] = r
        if not page:
            return out
        at = page[-1]["seq"] + 1


# --- tests ------------------------------------------------------------------------------------

@test
def an_entry_closes_its_decision():
    c = permit()
    before = counts()
    log(entry(c["evaluation_id"], ms=1234, usage={"llm_input_token": 100.0, "llm_output_token": 7.0}))
    r = closing(c)
    outcome, usage = r["authz.outcome"], r["authz.usage"]
    equal((outcome["outcome"], outcome["duration_ms"], outcome["agent"], outcome["pep"]),
          ("success", 1234, AGENT, "listener:http"), "outcome")
    equal((usage["input_tokens"], usage["output_tokens"]), (100, 7), "usage")
    check("cost_micros" not in usage, "a cost that nobody said")
    equal(change(before, counts()), {"closed": 2}, "counted")
    path = server().export("log.jsonl")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for said in ('\\"log\\":\\"writ\\"', '\\"details\\":\\"via_upstream\\"', '\\"cluster\\":\\"mcp_backend\\"',
                 '\\"status\\":200', '\\"request_bytes\\":40', '\\"response_bytes\\":5'):
        check(said in text or said.replace("\\", "") in text, f"{said} is in no opening")
    server().writ("audit", "verify", "--key", server().log_key(), path, code=0)


@test
def it_is_the_same_report_as_over_http():
    c = permit()
    log(entry(c["evaluation_id"], status=503, flags=[5], usage={"llm_input_token": 3.0}))
    usage = {"evaluation_id": c["evaluation_id"], "input_tokens": 3}
    reply = server().http("POST", "/v1/usage", usage)
    equal((reply.status, reply.json["repeated"]), (200, True), "the usage over HTTP")
    other = server().http("POST", "/v1/audit/outcome", {"evaluation_id": c["evaluation_id"], "outcome": "success"})
    equal((other.status, other.json["error"]["code"]), (409, "already_reported"), "another outcome")
    before = counts()
    log(entry(c["evaluation_id"], status=503, flags=[5], usage={"llm_input_token": 3.0}))
    equal(change(before, counts()), {"closed": 2}, "the same entry again")
    log(entry(c["evaluation_id"]))
    equal(change(before, counts()), {"closed": 2, "refused": 1, "already_reported": 1}, "another entry")
    equal(closing(c)["authz.outcome"]["outcome"], "failure", "the record")


@test
def what_became_of_it():
    rows = (("success", {}), ("failure", {"status": 500}), ("timeout", {"status": 504, "flags": [3]}),
            ("cancelled", {"status": 0, "flags": [15]}), ("not_executed", {"status": 503, "flags": [6], "sent": 0}))
    decisions = [permit() for _ in rows]
    log(*(entry(c["evaluation_id"], **row[1]) for c, row in zip(decisions, rows)))
    for c, (wanted, how) in zip(decisions, rows):
        equal(closing(c)["authz.outcome"]["outcome"], wanted, str(how))


@test
def several_decisions_of_one_request():
    two = permit(), permit()
    log(entry(",".join(c["evaluation_id"] for c in two), usage={"llm_output_token": 5.0}, name="x-writ-decision-id"))
    equal(sorted(closing(two[0])), ["authz.outcome", "authz.usage"], "the first")
    equal(sorted(closing(two[1])), ["authz.outcome"], "the second: usage is not counted twice")
    # One of two was denied, so the proxy let neither pass.
    c, denied = permit(), server().evaluate("files/delete").json["context"]
    before = counts()
    log(entry(f"{c['evaluation_id']},{denied['evaluation_id']}", status=403, flags=[13], sent=0))
    equal(closing(c)["authz.outcome"]["outcome"], "not_executed", "the permit")
    equal(change(before, counts()), {"closed": 1, "passed": 1}, "counted")


@test
def what_closes_nothing():
    d = server()
    c = permit()
    key, seq = c["evaluation_id"].split("_")[1:]
    denied = d.evaluate("files/delete").json["context"]["evaluation_id"]
    rows = (
        ("no decision", entry(None), {"passed": 1}),
        ("not ours at all", entry("x"), {"refused": 1, "invalid_request": 1}),
        ("another log", entry(f"ev_00000000_{seq}"), {"refused": 1, "unknown_evaluation": 1}),
        ("not there", entry(f"ev_{key}_99999999"), {"refused": 1, "unknown_evaluation": 1}),
        ("a denial", entry(denied, status=403, flags=[13]), {"passed": 1}),
        ("a denial that was carried out", entry(denied), {"refused": 1, "not_permitted": 1}),
        ("DownstreamStart", entry(c["evaluation_id"], kind=4), {"passed": 1}),
        ("DownstreamPeriodic", entry(c["evaluation_id"], kind=5), {"passed": 1}),
        ("UpstreamEnd", entry(c["evaluation_id"], kind=9), {"passed": 1}),
        ("intermediate", entry(c["evaluation_id"], kind=0, more=field(27, 1)), {"passed": 1}),
        ("a list of nothing", entry(","), {"refused": 1, "invalid_request": 1}),
        ("usage that is none", entry(c["evaluation_id"], kind=4, usage={"llm_input_token": -1.0}),
         {"passed": 1, "refused": 1, "invalid_usage": 1}),
    )
    for what, one, wanted in rows:
        before = counts()
        log(one)
        equal(change(before, counts()), wanted, what)
    equal(closing(c), {}, "nothing closed it")


@test
def messages_that_are_none():
    table = (
        ("no identifier", http_logs(entry(None))),
        ("nothing", b""),
        ("an identifier that is a number", field(1, 1)),
        ("TCP", identifier() + field(3, field(1, b""))),
        ("two lists", identifier() + http_logs(entry()) + http_logs(entry())),
        ("cut off", identifier() + http_logs(entry())[:-1]),
        ("a broken entry", identifier() + http_logs(b"\x08\x01")),
        ("metadata that nests for ever", identifier() + http_logs(field(1, field(17, b"\x0a\x7f")))),
    )
    for what, first in table:
        log_ = Log(first=first)
        reply = log_.stream.end()
        equal(reply.status, 3, f"{what}: {reply}")
        log_.client.close()
    # What came before the broken entry is closed; a second identifier ends the stream.
    c = permit()
    log_ = Log(first=identifier() + http_logs(entry(c["evaluation_id"]), b"\x08\x01"))
    equal(log_.stream.end().status, 3, "a broken entry behind a good one")
    check("authz.outcome" in closing(c), "the good one is lost")
    log_ = Log()
    log_.send(entry(None))
    log_.stream.send(identifier())
    reply = log_.stream.end()
    equal((reply.status, "identifier" in reply.message), (3, True), f"a second identifier: {reply}")


@test
def a_flood_is_worked_off_beside_decisions():
    d = server()
    decisions = [permit() for _ in range(300)]
    before = counts()
    unknown = [entry("ev_00000000_1") for _ in range(2000)]
    logs = [Log() for _ in range(4)]
    for n, log_ in enumerate(logs):  # each waits for the others' share of the log
        mine = [entry(c["evaluation_id"]) for c in decisions[n::4]]
        log_.send(*unknown, *mine)
        log_.send(*[b""] * 20000)  # entries of nothing
        log_.send(entry("," * 5000))
    for _ in range(20):
        check(d.evaluate("ledger/query", {"max_rows": 5}).json["decision"], "a decision is denied meanwhile")
    for log_ in logs:
        log_.end()
    got = change(before, counts())
    equal((got["closed"], got["passed"], got["unknown_evaluation"], got["invalid_request"]),
          (300, 80000, 8000, 4 * 5000), "counted")
    equal(d.admin("GET", "/v1/audit/open?older=0&limit=1000").json["open"][-20:][0]["agent"], AGENT, "open ones remain")
    check(decisions[0]["evaluation_id"] not in str(d.admin("GET", "/v1/audit/open?older=0&limit=1000").json), "still open")


@test
def only_a_pep_sends_it():
    d = Deployment(caller=None, config='callers = { { unix_user = "root", role = "admin" } }\n').start()
    log_ = Log(d)
    equal(log_.stream.end().status, 16, "nobody")
    d.close()
    d = Deployment(caller="metrics").start()
    equal(Log(d).stream.end().status, 7, "another role")
    d.close()


@test
def a_stream_ends_with_the_role_and_with_the_server():
    d = Deployment(caller=None, listen=', ')
    d.config = d.config.replace(f'"127.0.0.1:{d.port}"', f'"127.0.0.1:{d.port}", "writ-data/pep.sock"')
    peps = d.config.replace('role = "admin"', 'role = { "admin", "pep" }')
    d.write("writ.lua", peps)
    d.start()
    d.register()

    def stream():
        g = Client(d.path("writ-data/pep.sock"))
        return g, g.stream(STREAM, identifier(), last=False)

    g, s = stream()
    s.send(http_logs(entry(None)))
    check(s.quiet(), "an answer")
    d.write("writ.lua", d.config)
    os.kill(d.process.pid, signal.SIGHUP)
    while g.call("/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs", identifier()).status == 0:
        pass
    s.send(http_logs(entry(None)))
    reply = s.end()
    equal(reply.status, 7, f"without the role: {reply}")
    d.write("writ.lua", peps)
    os.kill(d.process.pid, signal.SIGHUP)
    while g.call(STREAM, identifier()).status != 0:
        pass
    g, s = stream()
    s.send(http_logs(entry(None)))
    check(s.quiet(), "an answer")
    d.stop()
    equal(s.end().status, 14, "the server stops")
    d.close()


@test
def keys_of_usage_are_settings():
    d = Deployment(config='access_log = { namespace = "my.filter", input_tokens = "in", output_tokens = "out",\n'
                          '  cost_micros = "cost" }\n').start()
    d.register()
    c = permit(d)
    first = entry(c["evaluation_id"], usage={"llm_input_token": 1.0})
    log(first[:0] + entry(c["evaluation_id"], kind=4), d=d)
    body = entry(c["evaluation_id"])
    mine = namespace("my.filter", {"in": 11.0, "out": 12.0, "cost": 13.0, "llm_input_token": 14.0})
    log(body + field(1, field(17, mine + namespace(EXT_AUTHZ, {"decision_id": c["evaluation_id"]}))), d=d)
    r = closing(c, d)["authz.usage"]
    equal((r["input_tokens"], r["output_tokens"], r["cost_micros"]), (11, 12, 13), "usage")
    d.close()


main()
