#!/usr/bin/env -S python3 -B
"""The real server while everything changes at once: policies, registrations, signals, its signer.

Under `make tsan` the same runs with a server that reports data races.
"""
import json
import os
import signal
import subprocess
import threading
import time

from harness import AGENT, BUILD, CATALOGUE, Deployment, call, check, equal, leaves, main, test

LOAD = os.path.join(BUILD, "tests/bench/bench_load")
STORM = int(os.environ.get("WRIT_STORM", "100"))  # activations; make soak: 1,000


def rules(letter):
    return f'policy "p" {{ permit "{letter}" {{ on = {{ action = "tools/call", effect = "read" }}, ' \
           f'reason = "policy_{letter}" }} }}\n'


def deployment():
    d = Deployment(policies={"catalogue/tools.lua": CATALOGUE, "rules.lua": rules("a")}).start()
    d.register()
    d.write("body.json", json.dumps(call("ledger/query", {})))
    return d


def load(d, seconds, connections=32, path="/access/v1/evaluation"):
    """The load generator, keeping every answer."""
    return subprocess.Popen([LOAD, "--to", f"127.0.0.1:{d.port}", "--connections", str(connections), "--seconds",
                             str(seconds), "--path", path, "--body", d.path("body.json"),
                             "--answers", d.path("answers"), "--quiet", "--tolerant"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process):
    out, err = process.communicate(timeout=90 + STORM)
    equal(process.returncode, 0, f"exit code of bench_load ({err.decode(errors='replace')[-300:]})")
    return json.loads(out)


def answers(d):
    """The decisions among the answers; all the others are errors of a server that stops."""
    found = []
    with open(d.path("answers"), "rb") as f:
        for line in f:
            try:
                value = json.loads(line)
            except ValueError:
                continue  # cut off with the connection
            if "decision" in value:
                found.append(value)
    return found


def check_answers(d, least):
    """Every answer is in the log, and says there what it said to its client."""
    path = d.export()
    d.writ("audit", "verify", "--key", d.log_key(), path, code=0, timeout=120)
    log = leaves(path)
    equal(sorted(log), list(range(len(log))), "sequence numbers")
    given = {r["generation"]: r["policy_sha256"] for _, r in log.values() if r["kind"] == "policy.load"}
    got = answers(d)
    check(len(got) >= least, f"only {len(got)} decisions")
    for a in got:
        context = a["context"]
        if not a["decision"]:
            equal(context.get("reason"), "audit_unavailable", f"reason of {a}")
            continue
        r = log[context["record"]["seq"]][1]
        equal(r["decision"], "permit", f"decision on record of {a}")
        equal(r["reason"], context["reason"], f"reason on record of {a}")
        # The generation on record is the set that gives this reason.
        equal(r["policy_sha256"], given[r["generation"]], f"policy on record of {a}")
    return log, got


def activate(d, letter):
    d.policy("rules.lua", rules(letter))
    os.kill(d.process.pid, signal.SIGHUP)  # look at the folder now


def put(d, letter):
    """By command: at once, where the folder is looked at four times a second."""
    reply = d.admin("POST", "/v1/policies", {"files": [{"path": "catalogue/tools.lua", "text": CATALOGUE},
                                                       {"path": "rules.lua", "text": rules(letter)}]})
    equal(reply.status, 200, f"apply: {reply}")


def change_policies(d, seconds, count, change):
    """@count changes, or what @seconds allow; each is felt before the next one. Returns how many."""
    end, n = time.monotonic() + seconds, 0
    while n < count and time.monotonic() < end:
        n += 1
        letter = "ab"[n % 2]
        change(d, letter)
        until = time.monotonic() + 10
        while (reason := d.evaluate().json["context"]["reason"]) != f"policy_{letter}":
            check(time.monotonic() < until, f"activation {n}: still {reason}")
    return n


@test
def policies_change_under_load():
    d = deployment()
    signal.alarm(120)
    process = load(d, 10)
    n = change_policies(d, 8, STORM, activate)
    said = finish(process)
    equal(list(said["statuses"]), ["200"], f"what was answered: {said}")
    log, got = check_answers(d, 100)
    check(n >= min(STORM, 20), f"only {n} activations")
    # Two sets, two generations, two reasons: they belong together in every single record.
    pairs = {(r["generation"], r["reason"]) for _, r in log.values() if r["kind"] == "authz.decision"}
    equal(len(pairs), 2, f"pairs of generation and reason {pairs}; their number")
    equal({a["context"]["reason"] for a in got if a["decision"]}, {"policy_a", "policy_b"}, "reasons seen")
    equal(d.stop(), 0, "exit code")


@test
def no_batch_is_decided_by_two_sets():
    """As many activations as asked for (make soak: 1,000), under batches of 20: all of them happen, no
    request fails, and within a batch there is one generation."""
    d = deployment()
    one = call("ledger/query", {})
    d.write("body.json", json.dumps({k: one[k] for k in ("subject", "action")} |
                                    {"evaluations": [{"resource": one["resource"]}] * 20}))
    done, process, seen, batches = 0, None, set(), 0
    signal.alarm(180 + STORM)
    while done < STORM:
        process = load(d, 4, connections=8, path="/access/v1/evaluations")
        done += change_policies(d, 3.5, STORM - done, put)
        said = finish(process)
        equal(list(said["statuses"]), ["200"], f"what was answered: {said}")
        with open(d.path("answers"), "rb") as f:
            for line in f:
                items = {(i["decision"], i["context"].get("generation"), i["context"]["reason"])
                         for i in json.loads(line)["evaluations"]}
                equal(len(items), 1, f"outcomes within one batch: {items}")
                seen |= items
                batches += 1
    equal(done, STORM, "activations")
    check(batches > 20 and {s[2] for s in seen} == {"policy_a", "policy_b"}, f"{batches} batches saw {seen}")
    acts = [r for _, r in leaves(d.export()).values() if r["kind"] == "policy.load" and r["act"] == "apply"]
    check(len(acts) >= STORM - 1, f"{len(acts)} activations on record")  # the first may change nothing
    equal(d.stop(), 0, "exit code")


@test
def everything_at_once():
    """Registrations, suspensions, tokens, exports and SIGHUPs beside the load: for ThreadSanitizer."""
    d = deployment()
    process = load(d, 6)
    stop, wrong = threading.Event(), []

    def again(body):
        def run():
            n = 0
            while not stop.is_set():
                n += 1
                try:
                    body(n)
                except Exception as e:  # a thread's failure is the test's
                    wrong.append(repr(e))
                    return
        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def registry(n):
        spiffe_id = f"spiffe://example.org/agent/storm-{n}"
        d.register(spiffe_id)
        equal(d.admin("POST", "/v1/agents/token", {"spiffe_id": spiffe_id}).status // 100, 2, "token")
        equal(d.admin("POST", "/v1/agents/suspend", {"spiffe_id": spiffe_id}).status, 200, "suspend")

    def policies(n):
        activate(d, "ab"[n % 2])
        time.sleep(0.05)

    def reading(n):
        for path in ("/v1/audit/export", "/metrics", "/readyz", "/v1/agents", "/v1/policies", "/v1/status"):
            reply = d.admin("GET", path)
            check(reply.status < 500, f"{path}: {reply}")

    threads = [again(f) for f in (registry, policies, reading)]
    try:
        finish(process)
    finally:
        stop.set()
        for t in threads:
            t.join()
    check(not wrong, "; ".join(wrong))
    check_answers(d, 100)
    equal(d.stop(), 0, "exit code")


@test
def terminated_under_load():
    """SIGTERM: who was answered is on record, and the log ends with its end."""
    d = deployment()
    for n in range(3):
        process = load(d, 4)
        time.sleep(0.7 + n / 3)
        equal(d.stop(), 0, "exit code")
        finish(process)
        d.start()
        log, _ = check_answers(d, 50)
        kinds = [log[seq][1]["kind"] for seq in sorted(log)]
        check("log.gap" not in kinds, "a clean stop left a gap")
        opened = [i for i, kind in enumerate(kinds) if kind == "log.open"]
        equal(len(opened), n + 2, "openings of the log")
        equal(kinds[opened[-1] - 1], "log.close", "the last record before the stop")


def signer_of(pid):
    for child in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{child}/stat", encoding="utf-8", errors="replace") as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                    return int(child)
        except (FileNotFoundError, ProcessLookupError):
            pass
    raise AssertionError("no signer")


@test
def without_its_signer_it_stops():
    d = deployment()
    process = load(d, 4)
    time.sleep(0.5)
    os.kill(signer_of(d.process.pid), signal.SIGKILL)
    code = d.process.wait(15)
    d.collect()
    equal(code, 1, "exit code")
    check("signer" in d.stderr() and "start it again" in d.stderr(), f"no clear message: {d.stderr()[-500:]}")
    finish(process)
    d.start()
    check_answers(d, 20)
    equal(d.evaluate(agent=AGENT).json["decision"], True, "the next decision")


if __name__ == "__main__":
    main()
