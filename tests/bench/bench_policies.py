"""What changing policies costs, for scripts/bench: rules that do not apply, a set put into force,
activations under load, and replay. Each function takes the bench (its helpers) and adds rows."""
import http.client
import json
import os
import random
import resource
import statistics
import subprocess
import time

EVALUATE, EVALUATIONS = "/access/v1/evaluation", "/access/v1/evaluations"


def many_rules(bench):
    """10,000 rules cost what 10 do, if five apply; and `on` alone needs no Lua."""
    n = json.loads(bench.run(os.path.join(bench.BUILD, "tests/bench/bench_policy"), "--json"))
    bench.numbers["rules"] = n
    ratio = n["many_ns"] / n["few_ns"]
    bench.row("10,000 rules of which 5 apply / 10 of which 5 do", f"{n['many_ns']}/{n['few_ns']} ns", ratio, "<= 1.5",
              ratio <= 1.5)
    bench.row("10,000 rules, one applies and has no when", f"{n['on_alone_ns']} ns")


class Changes:
    """Sets that differ in one rule, put into force through the server."""

    def __init__(self, bench, d):
        self.d, self.n = d, 0
        self.files = [{"path": path, "text": text} for path, text in bench.rules()]

    def body(self):
        self.n += 1
        more = f'policy "zz" {{ permit "version {self.n}" {{ on = {{ action = "zz/none" }} }} }}\n'
        return json.dumps({"files": self.files + [{"path": "zz.lua", "text": more}]})

    def apply(self, body=None):
        reply = self.d.admin("POST", "/v1/policies", body or self.body())
        if reply.status != 200:
            raise ValueError(f"apply: {reply}")
        return reply.json["generation"]


def reload(bench, d, body):
    """From asking for a set of 1,000 rules to the first decision by it."""
    changes, times = Changes(bench, d), []
    with open(body, encoding="utf-8") as f:
        question = f.read().replace("@@@@@@", "100000")
    for _ in range(8 if bench.quick else 25):
        new = changes.body()
        began = time.monotonic()
        generation = changes.apply(new)
        while d.http("POST", EVALUATE, question).json["context"]["generation"] != generation:
            pass
        times.append((time.monotonic() - began) * 1000)
    bench.numbers["reload_ms"] = times
    ms = statistics.median(times)
    bench.row("apply of 1,000 rules to the first decision by them", f"{ms:.0f} ms", None, "< 50 ms", ms < 50)


def storm(bench, d, body):
    """p99 under full load, quiet and with activations all the time; in turn, so that drift hits both."""
    changes, quiet, stormy, acts, seconds = Changes(bench, d), [], [], 0, 1.5 if bench.quick else 4
    command = [bench.LOAD, "--quiet", "--to", f"127.0.0.1:{d.port}", "--warmup", "0.2", "--seconds", str(seconds),
               "--connections", "32", "--path", EVALUATE, "--body", body, "--expect", '"decision":true']
    for _ in range(1 if bench.quick else 3):
        quiet.append(json.loads(bench.run(*command)))
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        # 20 a second: a hundred times what a busy team does.
        while process.poll() is None:
            began = time.monotonic()
            changes.apply()
            acts += 1
            time.sleep(max(0, 0.05 - (time.monotonic() - began)))
        out = process.communicate()[0]
        if process.returncode:
            raise ValueError(f"a request failed during activations: {out[-300:]!r}")
        stormy.append(json.loads(out))
    bench.numbers["storm"] = {"quiet": quiet, "stormy": stormy, "activations": acts}
    before, during = (statistics.median(r["p99_us"] for r in rs) for rs in (quiet, stormy))
    bench.row(f"p99 during {acts} activations / without, 32 connections", f"{during:,.0f}/{before:,.0f} us",
              during / before, "<= 2", during <= 2 * before)


def varied(d, agents, n):
    """@n decisions by batches, all different: agents, tools, amounts, texts of any length."""
    dice, connection = random.Random(7), http.client.HTTPConnection("127.0.0.1", d.port, timeout=60)
    for _ in range(n // 100):
        items = [{"subject": {"type": "agent", "id": dice.choice(agents),
                              "properties": {"session": f"s-{dice.randrange(10**6)}"}},
                  "action": {"name": "tools/call", "properties": {
                      "amount": dice.choice([1, 5.5, 499999, 500001, dice.randrange(10**6)]),
                      "to": dice.choice([f"supplier-{dice.randrange(9999)}", "ledger", "nobody"]),
                      "currency": dice.choice(["EUR"] * 5 + ["USD"]), "note": "invoice " + "x" * dice.randrange(300)}},
                  "resource": {"type": "tool", "id": f"bench/pay-{dice.randrange(255):03}"},
                  "context": {"trace": f"{dice.getrandbits(128):032x}", "channel": "mcp"}} for _ in range(100)]
        connection.request("POST", EVALUATIONS, json.dumps({"evaluations": items}),
                           {"Content-Type": "application/json"})
        reply = connection.getresponse()
        reply.read()
        if reply.status != 200:
            raise ValueError(f"a batch was answered with {reply.status}")


def replay(bench, d):
    """Decisions of all kinds computed again, on one core, beside the server."""
    agents = [f"spiffe://example.org/agent/replay-{n}" for n in range(40)]
    for n, agent in enumerate(agents):
        d.register(agent, attributes={"team": ("finance", "ops", "sales")[n % 3], "env": "prod"})
    agents.append("spiffe://example.org/agent/nobody")
    time.sleep(1.1)  # the log's earlier decisions are all alike, and of many generations
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    varied(d, agents, 20000 if bench.quick else 100000)
    least, decisions = None, 0
    for _ in range(1 if bench.quick else 3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = json.loads(d.writ("policy", "replay", "--json", "--since", since, timeout=120).stdout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if said["changed"] or said["decisions"] != said["same"] + said["settled"]:
            raise ValueError(f"replay: {said}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        least, decisions = min(cpu, least or cpu), said["decisions"]
    # By its processor time, start and loading of the policies included: others share the cores.
    rate = decisions / least
    bench.numbers["replay"] = {"decisions": decisions, "cpu_seconds": least}
    bench.row(f"writ policy replay, {decisions:,} different decisions, one core", f"{rate:,.0f}/s", None,
              ">= 200,000/s", rate >= 200000)
