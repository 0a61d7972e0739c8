"""What writ adds to a request through Envoy, for scripts/bench: 1,000 tool calls a second through a real Envoy with
scripts/deploy/envoy-grpc.yaml (agents' X.509-SVIDs, Envoy's own from writ, bodies in the Check, each decision on
disk), and through the same Envoy without the filter. The requests leave when they are due, however long the answers
take; nginx stands in for the MCP server."""
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import time

from harness import BUILD, ROOT, TRUST_DOMAIN, Failure, check, free_port, join_token, openssl

RATE = 1000
GATEWAY = f"spiffe://{TRUST_DOMAIN}/gateway"
CALL = ('{"jsonrpc":"2.0","id":@@@@@@,"method":"tools/call","params":{"name":"pay-137","arguments":{"amount":100,'
        '"to":"supplier-4711","currency":"EUR","note":"invoice 4711"}}}')
FILTER = re.compile(r" *- name: envoy\.filters\.http\.ext_authz\n.*?(?= *- name: envoy\.filters\.http\.router)", re.S)


def find():
    return shutil.which("envoy", path=os.pathsep.join([os.environ.get("PATH", ""),
                                                       os.path.join(BUILD, "interop", "envoy", "bin")]))


class Envoy:
    def __init__(self, program, config, port):
        self.log = config + ".log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([program, "-c", config, "--use-dynamic-base-id", "--concurrency", "1",
                                             "-l", "warning"], stdout=log, stderr=log)
        self.port = port
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.close()
                    with open(self.log, encoding="utf-8", errors="replace") as log:
                        raise Failure(f"Envoy does not listen: {log.read()[-800:]}") from None
                time.sleep(0.05)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def config(d, upstream, port, judged):
    """scripts/deploy/envoy-grpc.yaml with the paths and ports of here; without its filter if not @judged."""
    with open(os.path.join(ROOT, "scripts", "deploy", "envoy-grpc.yaml"), encoding="utf-8") as f:
        text = f.read()
    for old, new in (("/run/writ/authz.sock", d.path("writ-data/authz.sock")),
                     ("/run/writ/workload.sock", d.workload_socket), ("0.0.0.0", "127.0.0.1"),
                     ("port_value: 8443", f"port_value: {port}"), ("port_value: 3001", f"port_value: {upstream}"),
                     ("server: files", "server: bench"), ("timeout: 0.25s", "timeout: 5s")):
        check(old in text, f"scripts/deploy/envoy-grpc.yaml has no {old}")
        text = text.replace(old, new)
    if not judged:
        text, n = FILTER.subn("", text)
        check(n == 1, "scripts/deploy/envoy-grpc.yaml has no ext_authz filter")
    return d.write("envoy-judged.yaml" if judged else "envoy-alone.yaml", text)


def enrol(d, agent):
    key = d.path("agent.key")
    csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                  "-subj", "/CN=bench").decode()
    token = join_token(d.admin("POST", "/v1/agents/token", {"spiffe_id": agent}))
    reply = d.http("POST", "/v1/attest", {"join_token": token, "csr": csr})
    check(reply.status == 200, f"attestation: {reply}")
    return d.write("agent.crt", reply.json["x509_svid"]), key


def added(bench, deployment, nginx, agent):
    """@deployment starts a writ that listens at writ-data/authz.sock too, for a proxy."""
    label = f"p99 through Envoy at {RATE:,}/s, with writ and without"
    program = find()
    if not program or not nginx:
        bench.row(label, "skipped: no Envoy in PATH or build/interop (make interop fetches one)" if nginx else
                  "skipped: no nginx")
        return
    d = deployment()
    d.register(GATEWAY, selectors=[f"unix:uid:{os.geteuid()}"])
    certificate, key = enrol(d, agent)
    body = d.write("call.json", CALL)
    envoys, results = {}, {"alone": [], "judged": []}
    try:
        for name in results:
            port = free_port()
            envoys[name] = Envoy(program, config(d, nginx.port, port, name == "judged"), port)
        for _ in range(bench.rounds):
            for name, seen in results.items():
                seen.append(bench.load(
                    f"127.0.0.1:{envoys[name].port}", "--tls", "--cert", certificate, "--key", key, "--ca",
                    d.path("writ-data", "bundle.pem"), "--connections", "8", "--rate", str(RATE), "--path", "/mcp",
                    "--body", body, "--header", "accept: application/json, text/event-stream", "--header",
                    "mcp-protocol-version: 2025-06-18", "--expect", '"decision":true', seconds=2.5, warmup=0.5))
    finally:
        for envoy in envoys.values():
            envoy.close()
        d.close()
    bench.numbers["envoy"] = results

    def median(name, key):
        return statistics.median(r[key] for r in results[name])
    half, most = (median("judged", key) - median("alone", key) for key in ("p50_us", "p99_us"))
    bench.row(label, f"{median('judged', 'p99_us'):,.0f}, {median('alone', 'p99_us'):,.0f} us")
    bench.row("latency that writ adds to Envoy: p50, p99", f"{half:,.0f}, {most:,.0f} us", None, "p99 < 2,000 us",
              most < 2000)
