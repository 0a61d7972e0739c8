"""What streams of the Workload API cost, for scripts/bench: memory, a rotation pushed to all, a registration that
reaches an open one. Many processes hold them, each a hard link of one program with an entry of its own."""
import json
import os
import statistics
import subprocess
import time

from harness import TRUST_DOMAIN, Deployment, check

STREAMS, PROCESSES, REGISTRATIONS = 10000, 20, 100
PER_CONNECTION = 2  # as go-spiffe's X.509 and JWT sources, and Envoy's certificate and roots
SETTLED = 3  # seconds until the hash of a file that was just written (or linked) is remembered
CONFIG = f"""limits = {{ workload_connections = {STREAMS + 100}, workload_user_connections = {STREAMS + 100},
           workload_streams = {STREAMS + 100}, workload_user_streams = {STREAMS + 100},
           agent_rate = 1000000, agent_burst = 1000000 }}
"""


def agent(name):
    return f"spiffe://{TRUST_DOMAIN}/agent/{name}"


class Holder:
    """A process that holds streams."""

    def __init__(self, program, socket, streams, per_connection):
        self.process = subprocess.Popen([program, socket, str(streams), str(per_connection)], text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def report(self):
        line = self.process.stdout.readline()
        check(line.startswith("{"), "the holder of streams gave up")
        return json.loads(line)

    def begin(self):
        self.process.stdin.write("again\n")
        check(self.process.stdout.readline() == "ready\n", "the holder of streams gave up")

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def program(bench, d, name):
    """The program under a name of its own, and an agent that it is."""
    link = os.path.join(d.dir, name)
    if not os.path.exists(link):
        os.link(os.path.join(bench.BUILD, "tests/bench/bench_workload"), link)
        d.register(agent(name), selectors=[f"unix:path:{link}"])
    return link


class Crowd:
    """STREAMS streams of PROCESSES processes, each of an agent of its own."""

    def __init__(self, bench, d, per_connection):
        self.d, links = d, [program(bench, d, f"holder-{n}") for n in range(PROCESSES)]
        time.sleep(SETTLED)
        self.holders = [Holder(link, d.workload, STREAMS // PROCESSES, per_connection) for link in links]
        self.opened = [h.report() for h in self.holders]

    def pushed(self, act):
        """Seconds from the act to the last message, one for each stream."""
        for h in self.holders:
            h.begin()
        began = time.monotonic_ns()
        act()
        return (max(h.report()["last_ns"] for h in self.holders) - began) / 1e9

    def close(self):
        for h in self.holders:
            h.close()


def act(d, path, body):
    reply = d.admin("POST", path, body)
    check(reply.status in (200, 201), f"{path}: {reply}")
    return reply.json


def rotation(crowd):
    """Prepare and activate change no SVID; taint renews all of them, revocation changes the bundle alone."""
    d, old = crowd.d, next(a["id"] for a in crowd.d.admin("GET", "/v1/authorities").json["authorities"]
                           if a["kind"] == "x509" and a["state"] == "active")
    new = []
    seconds = {"prepare": crowd.pushed(lambda: new.append(act(d, "/v1/authorities/prepare", {"kind": "x509"})["id"]))}
    act(d, "/v1/authorities/activate", {"id": new[0], "force": True})
    seconds["taint"] = crowd.pushed(lambda: act(d, "/v1/authorities/taint", {"id": old}))
    seconds["revoke"] = crowd.pushed(lambda: act(d, "/v1/authorities/revoke", {"id": old}))
    return seconds


def retire(d, late):
    while late:
        act(d, "/v1/agents/retire", {"spiffe_id": late.pop(), "reason": "bench"})


def registrations(bench, d):
    """Milliseconds from the request that registers an entry to the SVID on a stream of its process."""
    link = program(bench, d, "registered")
    time.sleep(SETTLED)
    holder, ms, late = Holder(link, d.workload, 1, 1), [], []
    holder.report()
    for n in range(REGISTRATIONS):
        if n == REGISTRATIONS // 2:  # a process shows no more than 64
            holder.close()
            retire(d, late)
            holder = Holder(link, d.workload, 1, 1)
            holder.report()
        holder.begin()
        began = time.monotonic_ns()
        late.append(agent(f"late-{began}"))
        act(d, "/v1/agents", {"spiffe_id": late[-1], "owner": "bench", "selectors": [f"unix:path:{link}"]})
        ms.append((holder.report()["last_ns"] - began) / 1e6)
    holder.close()
    retire(d, late)
    return sorted(ms)


def p99(ms):
    return ms[min(len(ms) - 1, len(ms) * 99 // 100)]


def measure(bench, rss_mib):
    d = Deployment(config=CONFIG).start()
    d.workload = d.path("writ-data", "workload.sock")
    alone = registrations(bench, d)
    before = rss_mib(d.process.pid)
    crowd = Crowd(bench, d, PER_CONNECTION)
    try:
        held = rss_mib(d.process.pid) - before
        beside = registrations(bench, d)
        seconds = rotation(crowd)
    finally:
        crowd.close()
    bench.numbers["streams"] = {"registered_ms": alone, "registered_beside_ms": beside, "rotation_s": seconds,
                                "mib": held, "opened": crowd.opened}
    bench.row("entry registered to SVID on an open stream: p50, p99",
              f"{statistics.median(alone):.1f}, {p99(alone):.1f} ms", None, "< 20 ms", p99(alone) < 20)
    bench.row(f"the same beside {STREAMS:,} open streams", f"{statistics.median(beside):.1f}, {p99(beside):.1f} ms",
              None, "< 20 ms", p99(beside) < 20)
    bench.row(f"streams of the Workload API per 100 MiB ({STREAMS:,}, {PER_CONNECTION} on each connection)",
              f"{STREAMS * 100 / max(held, 0.1):,.0f}", None, ">= 10,000", held <= 100)
    bench.row(f"rotation pushed to {STREAMS:,} streams of {PROCESSES} agents", f"{seconds['taint']:.2f} s", None,
              "< 5 s", seconds["taint"] < 5)
    bench.row("a changed bundle to all of them: prepare, revoke",
              f"{seconds['prepare']:.2f}, {seconds['revoke']:.2f} s")
    d.close()
