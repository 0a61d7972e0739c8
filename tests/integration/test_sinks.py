#!/usr/bin/env -S python3 -B
"""Follow mode: every type of sink against a receiver of its own, down and up again."""
import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time

from harness import AGENT, ROOT, Deployment, Failure, call, check, equal, free_port, main, openssl, test

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def eventually(claim, why, seconds=60):
    end = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > end:
            raise Failure(why() if callable(why) else why)
        time.sleep(0.05)


def deployment(sinks):
    d = Deployment(config="audit = { sinks = { " + sinks + " } }\n")
    d.write("secret", SECRET + "\n")
    d.write("token", "t0ken\n")
    for name in ("secret", "token"):
        os.chmod(d.path(name), 0o600)
    return d


def sink(d, name):
    for s in d.admin("GET", "/v1/status").json["sinks"]:
        if s["name"] == name:
            return s
    raise Failure(f"no sink {name}")


def drained(d, name):
    def done():
        s = sink(d, name)
        return s["ok"] and s["lag"] == 0
    eventually(done, lambda: f"{name} lags: {sink(d, name)}")
    return sink(d, name)


class Receiver(http.server.ThreadingHTTPServer):
    """Takes POSTs; @answer(handler, body) may answer something else than 200."""
    daemon_threads = True

    def __init__(self, port, answer=None):
        receiver = self
        self.bodies, self.headers, self.answer = [], [], answer

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, text = (receiver.answer or (lambda *_: (200, b"{}")))(len(receiver.bodies), body)
                if status == 200:
                    receiver.bodies.append(body)
                    receiver.headers.append((self.path, dict(self.headers)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()


@test
def a_webhook_that_was_down_gets_every_record_in_order():
    port = free_port()
    d = deployment(f'{{ name = "hook", type = "webhook", url = "http://127.0.0.1:{port}/in", '
                   'secret_file = "secret", token_file = "token" }')
    d.start()
    d.register()
    batch = {"evaluations": [call(agent=AGENT, args={"max_rows": n}) for n in range(100)]}
    for _ in range(100):
        r = d.http("POST", "/access/v1/evaluations", batch, timeout=60)
        equal(r.status, 200, "status of a batch")
        check(all("record" in e["context"] for e in r.json["evaluations"]), "decisions while the sink is down")
    s = sink(d, "hook")
    check(not s["ok"] and s["next"] == 0 and s["lag"] > 10000 and "127.0.0.1" in s["why"], f"down: {s}")
    findings = d.admin("GET", "/v1/doctor").json["findings"]
    check(any(f["name"] == "sink_failing" and "none is lost" in f["message"] for f in findings), f"{findings}")
    metrics = d.admin("GET", "/metrics").body.decode()
    check(re.search(r'writ_sink_lag_records\{sink="hook",type="webhook"\} 1\d{4}\n', metrics), metrics[-2000:])
    check(re.search(r'writ_sink_failures_total\{sink="hook",type="webhook"\} [1-9]', metrics), metrics[-2000:])
    answers = []

    def moody(n, _body):
        """Every third page it has a problem of its own."""
        answers.append(n)
        return (503, b"later") if len(answers) % 3 == 2 and len(answers) < 6 else (200, b"")

    receiver = Receiver(port, moody)
    d.restart()  # the back-off of the old process may be long by now
    drained(d, "hook")
    numbers = [int(e["logindex"]) for body in receiver.bodies for e in json.loads(body)]
    equal(numbers, list(range(len(numbers))), "records")
    check(len(numbers) > 10000, f"{len(numbers)} records")
    for body, (path, headers) in zip(receiver.bodies, receiver.headers):
        equal(path, "/in", "path")
        equal(headers["Content-Type"], "application/cloudevents-batch+json", "media type")
        equal(headers["Authorization"], "Bearer t0ken", "token")
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        equal(headers["webhook-signature"], wanted, "signature")
        check("." not in headers["webhook-id"], headers["webhook-id"])
        check(abs(int(headers["webhook-timestamp"]) - time.time()) < 300, "timestamp")
    equal(len({h["webhook-id"] for _, h in receiver.headers}), len(receiver.bodies), "ids")
    event = json.loads(receiver.bodies[0])[0]
    leaf = json.dumps(event["data"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    equal(event["leafhash"], hashlib.sha256(b"\0" + leaf).hexdigest(), "leaf hash")
    receiver.close()
    d.close()


@test
def a_page_that_is_too_large_is_sent_in_halves():
    port = free_port()
    receiver = Receiver(port, lambda _n, body: (413, b"") if len(json.loads(body)) > 20 else (200, b""))
    d = deployment(f'{{ name = "hook", type = "webhook", url = "http://127.0.0.1:{port}/", secret_file = "secret" }}')
    d.start()
    d.register()
    batch = {"evaluations": [call(agent=AGENT) for _ in range(60)]}
    d.http("POST", "/access/v1/evaluations", batch)
    drained(d, "hook")
    numbers = [int(e["logindex"]) for body in receiver.bodies for e in json.loads(body)]
    equal(numbers, list(range(len(numbers))), "records")
    receiver.close()
    d.close()


@test
def otlp_over_http():
    port = free_port()
    receiver = Receiver(port, lambda _n, _b: (200, b'{"partialSuccess":{"rejectedLogRecords":"2"}}'))
    d = deployment(f'{{ name = "otel", type = "otlp", url = "http://127.0.0.1:{port}/v1/logs" }}')
    d.start()
    d.register()
    d.evaluate("files/delete")
    s = drained(d, "otel")
    records = []
    for body, (path, headers) in zip(receiver.bodies, receiver.headers):
        equal((path, headers["Content-Type"]), ("/v1/logs", "application/json"), "request")
        logs, = json.loads(body)["resourceLogs"]
        records += logs["scopeLogs"][0]["logRecords"]
    index = [next(a["value"]["intValue"] for a in r["attributes"] if a["key"] == "writ.log.index") for r in records]
    equal(index, [str(n) for n in range(len(index))], "records")
    check(any(r["eventName"] == "writ.authz.decision" and r["severityNumber"] == 13 for r in records), "the denial")
    equal(s["rejected"], 2 * len(receiver.bodies), "rejected")
    receiver.close()
    d.close()


def frames(data):
    """RFC 6587 3.4.1: octet counting."""
    while data:
        n, _, data = data.partition(b" ")
        yield data[:int(n)]
        data = data[int(n):]


MESSAGE = re.compile(rb"<1\d\d>1 \d{4}-\d\d-\d\dT[\d:.]+Z \S+ writ - (\S+) - (CEF:0\|writ\|.* cn1Label=index cn1=(\d+) .*)$",
                     re.S)


def check_messages(messages):
    numbers = []
    for m in messages:
        found = MESSAGE.match(m + b" ")
        check(found, f"not RFC 5424 with CEF: {m!r}")
        numbers.append(int(found[3]))
    equal(numbers, list(range(len(numbers))), "records")
    return len(numbers)


@test
def syslog_over_tcp():
    port = free_port()
    d = deployment(f'{{ name = "tcp", type = "syslog", address = "tcp:127.0.0.1:{port}" }}')
    d.start()
    d.register()
    eventually(lambda: not sink(d, "tcp")["ok"], "it works without a receiver")
    listener = socket.create_server(("127.0.0.1", port))
    listener.settimeout(30)
    connection, _ = listener.accept()
    connection.settimeout(30)
    s = drained(d, "tcp")
    data = b""
    while len(list(frames(data))) < s["next"] or not data:
        data += connection.recv(65536)
    check_messages(frames(data))
    connection.close()
    listener.close()
    d.close()


class Ca:
    """An authority and what it signs, by openssl."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        self.crt = self.path("ca.crt")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=ca", "-days", "2",
                "-keyout", self.path("ca.key"), "-out", self.crt)

    def path(self, name):
        return os.path.join(self.folder, name)

    def leaf(self, name, san):
        key, crt = self.path(name + ".key"), self.path(name + ".crt")
        with open(self.path("ext"), "w", encoding="ascii") as f:
            f.write(f"subjectAltName={san}\n")
        csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
                      "-keyout", key)
        with open(crt, "wb") as f:
            f.write(openssl("x509", "-req", "-CA", self.crt, "-CAkey", self.path("ca.key"), "-CAcreateserial", "-days", "2",
                            "-extfile", self.path("ext"), data=csr))
        return crt, key


def received(listener, context, d, name):
    """All that comes of one connection until the sink is drained."""
    while True:
        raw, _ = listener.accept()
        raw.settimeout(30)
        with contextlib.suppress(OSError):
            connection = context.wrap_socket(raw, server_side=True)
            break
    s = drained(d, name)
    data = b""
    while len(list(frames(data))) < s["next"] or not data:
        data += connection.recv(65536)
    connection.close()
    return data


@test
def syslog_over_tls_in_both_directions():
    d = deployment("")
    ca, stranger = Ca(d.path("ca")), Ca(d.path("stranger"))
    client, key = ca.leaf("writ", "DNS:writ.example")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)
    address = f"tls:localhost:{listener.getsockname()[1]}"
    d.config = d.config.replace("sinks = {  }", f'''sinks = {{ {{ name = "tls", type = "syslog", address = "{address}",
        ca_file = "{ca.crt}", cert_file = "{client}", key_file = "{key}" }} }}''')
    d.write("writ.lua", d.config)

    def context(crt, key):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.load_cert_chain(crt, key)
        c.load_verify_locations(ca.crt)
        c.verify_mode = ssl.CERT_REQUIRED
        return c

    d.start()
    d.register()
    for crt, why in ((stranger.leaf("server", "DNS:localhost"), "does not hold"),
                     (ca.leaf("other", "DNS:other.example"), "hostname mismatch")):
        raw, _ = listener.accept()
        raw.settimeout(30)
        try:
            context(*crt).wrap_socket(raw, server_side=True).recv(1)
            check(False, f"it spoke to {crt}")
        except OSError:
            pass
        eventually(lambda why=why: why in sink(d, "tls").get("why", ""), f"no word of: {why}")
    equal(sink(d, "tls")["next"], 0, "taken by nobody")
    check_messages(frames(received(listener, context(*ca.leaf("server", "DNS:localhost")), d, "tls")))
    os.chmod(key, 0o644)
    d.evaluate("files/delete")
    eventually(lambda: "chmod 600" in sink(d, "tls").get("why", ""), "a key for everybody is used")
    listener.close()
    d.close()


@test
def syslog_by_datagrams():
    for family in (socket.AF_INET, socket.AF_UNIX):
        d = deployment("")
        receiver = socket.socket(family, socket.SOCK_DGRAM)
        receiver.settimeout(30)
        if family == socket.AF_UNIX:
            address = "unix:" + d.path("log.sock")
            receiver.bind(d.path("log.sock"))
        else:
            receiver.bind(("127.0.0.1", 0))
            address = f"udp:127.0.0.1:{receiver.getsockname()[1]}"
        d.config = d.config.replace("sinks = {  }",
                                    f'sinks = {{ {{ name = "log", type = "syslog", address = "{address}" }} }}')
        d.write("writ.lua", d.config)
        d.start()
        d.register()
        n = drained(d, "log")["next"]
        check_messages([receiver.recv(65536) for _ in range(n)])
        receiver.close()
        d.close()


@test
def files_and_standard_output():
    d = deployment('{ name = "file", type = "file", path = "out.ocsf", format = "ocsf" }, '
                   '{ name = "lines", type = "file", path = "out.jsonl" }, '
                   '{ name = "out", type = "stdout", format = "csv" }')
    d.start()
    d.register()
    d.evaluate("files/delete")
    drained(d, "file")
    s = drained(d, "lines")
    with open(d.path("out.ocsf"), encoding="utf-8") as f:
        events = [json.loads(line) for line in f]
    equal([e["unmapped"]["writ"]["index"] for e in events][:s["next"]],
          [str(n) for n in range(len(events))][:s["next"]], "records")
    before = "0" * 64
    with open(d.path("out.jsonl"), "rb") as f:
        for n, line in enumerate(f):
            record = json.loads(line)
            equal((record["seq"], record["prev"]), (n, before), "record")
            before = hashlib.sha256(b"\0" + line.rstrip(b"\n")).hexdigest()
    equal(os.stat(d.path("out.ocsf")).st_mode & 0o777, 0o600, "mode")
    n = drained(d, "out")["next"]
    with open(d.output, encoding="utf-8", newline="") as f:
        numbers = re.findall(r"(?m)^(\d+),\d{4}-\d\d", f.read())
    equal(numbers[:n], [str(i) for i in range(n)], "rows on standard output")
    d.close()


@test
def settings_are_checked():
    for text, why in (
            ('{ type = "stdout" }', "name is missing"),
            ('{ name = "A", type = "stdout" }', "small letters"),
            ('{ name = "../a", type = "stdout" }', "small letters"),
            ('{ name = "a" }', "type is missing"),
            ('{ name = "a", type = "sysolg" }', 'did you mean "syslog"'),
            ('{ name = "a", type = "file" }', "path is missing"),
            ('{ name = "a", type = "stdout", path = "x" }', "has no path"),
            ('{ name = "a", type = "stdout", format = "xml" }', "format must be"),
            ('{ name = "a", type = "stdout", frmat = "csv" }', 'did you mean "format"'),
            ('{ name = "a", type = "stdout" }, { name = "a", type = "stdout" }', "is there already"),
            ('{ name = "a", type = "webhook", url = "https://h/" }', "secret_file is missing"),
            ('{ name = "a", type = "otlp", url = "http://collector:4318/v1/logs" }', "not encrypted"),
            ('{ name = "a", type = "otlp", url = "https://h/v1/logs", format = "csv" }', "has format otlp"),
            ('{ name = "a", type = "syslog", address = "siem:514" }', "no address of a syslog"),
            ('{ name = "a", type = "syslog", address = "tcp:siem:514", ca_file = "x" }', 'for an address with "tls:"'),
            ('{ name = "a", type = "syslog", address = "tls:siem", cert_file = "x" }', "key_file is missing"),
            ('{ name = "a", type = "stdout", format = "aat" }', "chains the rows of one whole file"),
            ('"a"', "expected a table"), ('name = "a"', "list of tables")):
        d = deployment(text)
        d.write("writ.lua", d.config)
        done = d.writ("serve", "--config", d.path("writ.lua"))
        check(done.returncode != 0 and why in done.stderr, f"{text}: {done.stderr}")
        d.close()


def followed(path):
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        return [json.loads(line)["seq"] for line in f.read().split(b"\n")[:-1]]


@test
def following_from_the_command_line():
    d = Deployment().start()
    d.register()
    path = d.path("followed.jsonl")
    size = lambda: d.admin("GET", "/v1/status").json["audit"]["size"]
    args = [d.binary, "audit", "export", "--follow", "--output", path, "--config", d.config_file]

    def follow(*more):
        return subprocess.Popen(args + list(more), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    first = follow()
    try:
        eventually(lambda: len(followed(path)) >= size(), "the first records")
        d.restart()  # it waits for the server, and goes on
        d.evaluate("files/delete")
        eventually(lambda: len(followed(path)) >= size(), "after a restart")
    finally:
        first.kill()
        first.communicate()
    d.http("POST", "/access/v1/evaluations", {"evaluations": [call() for _ in range(90)]})
    eventually(lambda: os.path.exists(path + ".cursor"), "a cursor")
    refused = d.writ("audit", "export", "--follow", "--output", path, "--from", "0", "--config", d.config_file)
    check(refused.returncode == 2 and "says where to go on" in refused.stderr, refused.stderr)
    again = follow()
    try:
        eventually(lambda: len(set(followed(path))) >= size(), "by a second run")
    finally:
        again.kill()
        again.communicate()
    seen = followed(path)
    equal(sorted(set(seen)), list(range(len(set(seen)))), "records")
    check(seen == sorted(seen) or len(seen) > len(set(seen)), "out of order")
    csv = subprocess.Popen([d.binary, "audit", "export", "--follow", "--format", "csv", "--from", "3", "--decision",
                            "deny", "--config", d.config_file], stdout=subprocess.PIPE)
    check(csv.stdout.readline().startswith(b"index,time,"), "no head")
    check(b",authz.decision," in csv.stdout.readline(), "no denial")
    csv.kill()
    csv.communicate()
    for wrong in (("--resume",), ("--since", "1h"), ("--format", "xml")):
        equal(d.writ("audit", "export", "--follow", *wrong).returncode, 2, f"{wrong}")
    d.close()


@test
def the_page_about_sinks():
    """The settings of SINKS.md start a server, and its secret is one."""
    with open(os.path.join(ROOT, "authz", "audit", "SINKS.md"), encoding="utf-8") as f:
        text = f.read()
    d = Deployment(config=re.search(r"```lua\n(.*?)```", text, re.S)[1])
    command = re.search(r"`(\(umask 077; .*?)`", text)[1]
    subprocess.run(["sh", "-ec", command], cwd=d.dir, check=True)
    d.start()
    equal([s["name"] for s in d.admin("GET", "/v1/status").json["sinks"]], ["siem", "soc", "hook", "otel", "lake", "out"],
          "sinks")
    eventually(lambda: not sink(d, "hook")["ok"], "no such host, and yet it works")
    check("secret" not in sink(d, "hook")["why"], sink(d, "hook")["why"])
    drained(d, "out")
    d.close()


if __name__ == "__main__":
    main()
