#!/usr/bin/env -S python3 -B
"""kill -9 under load: what was answered is in the log, and the log verifies.

WRIT_SOAK says how many rounds (5). Each kills the server at a random moment under 128
connections, starts it again without any repair, and holds each answer against the export.
"""
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import time

from harness import BUILD, TRUST_DOMAIN, Deployment, check, equal, main, test

ROUNDS = int(os.environ.get("WRIT_SOAK", "5"))
PER_DEPLOYMENT = 5  # then a new one: checking takes as long as the log is
LOAD = os.path.join(BUILD, "tests/bench/bench_load")
BODY = json.dumps({"subject": {"type": "agent", "id": f"spiffe://{TRUST_DOMAIN}/agent/finance-1"},
                   "action": {"name": "tools/call", "properties": {"amount": "N"}},
                   "resource": {"type": "tool", "id": "payments/create"}}).replace('"N"', "@@@@@")
ANSWER = re.compile(rb'"evaluation_id":"ev_[0-9a-f]{8}_(\d+)"')
RECORD = re.compile(rb'[,{]"seq":(\d+)[,}]')
LEAF = re.compile(rb'"leaf":"([0-9a-f]{64})"')
rng = random.Random(int(os.environ.get("WRIT_SEED", "7")))


def left_behind(group):
    """Processes of the group that are not yet gone (zombies do not count)."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                state, _, of = f.read().rsplit(")", 1)[1].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == group and state != "Z":
            found.append(int(pid))
    return found


def crash(d, number, answers):
    """Load, and kill the server at a random moment; on odd rounds the main process alone."""
    load = subprocess.Popen([LOAD, "--to", f"127.0.0.1:{d.port}", "--connections", "128", "--seconds", "20",
                             "--path", "/access/v1/evaluation", "--body", d.path("body.json"), "--answers", answers,
                             "--quiet", "--tolerant"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        time.sleep(0.1 + rng.random() * 0.5)
        if number % 2:
            group = d.process.pid
            os.kill(group, signal.SIGKILL)
            end = time.monotonic() + 5
            while left_behind(group) and time.monotonic() < end:
                time.sleep(0.02)
            check(not left_behind(group), f"processes outlive the server: {left_behind(group)}")
        d.kill()
        out, err = load.communicate(timeout=60)
    finally:
        load.kill()
    check(load.returncode == 0, f"bench_load: {err.decode(errors='replace')[-400:]}")
    return json.loads(out)


def recorded(path):
    """{seq: leaf hash} of an export."""
    found = {}
    with open(path, "rb") as f:
        for line in f:
            if line.startswith((b'{"opening"', b'{"header"', b'{"trailer"')):
                continue
            m = RECORD.search(line)
            if m:
                found[int(m.group(1))] = hashlib.sha256(b"\0" + line.rstrip(b"\n")).hexdigest().encode()
    return found


def check_log(d, answers):
    path = d.export()
    done = d.writ("audit", "verify", "--key", d.log_key(), path, timeout=120)
    equal(done.returncode, 0, f"exit code of verify ({done.stdout[-300:]} {done.stderr[-300:]})")
    log = recorded(path)
    equal(len(log), max(log) + 1, "records are without gaps; their number")
    answered = 0
    with open(answers, "rb") as f:
        for line in f:
            seq, leaf = ANSWER.search(line), LEAF.search(line)
            if not seq:
                # No record, no allow.
                check(b'"decision":true' not in line, f"a permit without a record: {line[:300]!r}")
                continue
            answered += 1
            equal(log.get(int(seq.group(1))), leaf.group(1), f"leaf of the answered record {seq.group(1).decode()}")
    return answered, len(log)


@test
def killed_at_random_moments():
    check(os.path.exists(LOAD), f"{LOAD} is missing: make {os.path.relpath(LOAD)}")
    signal.alarm(60 + ROUNDS * 60)
    d, total = None, 0
    for number in range(ROUNDS):
        if number % PER_DEPLOYMENT == 0:
            if d:
                d.close()
            d = Deployment().start()
            d.register()
            d.write("body.json", BODY)
            answers = d.path("answers")
        result = crash(d, number, answers)
        check(result["requests"] > 100, f"round {number}: only {result['requests']} answers")
        equal(result["non_2xx"], 0, f"round {number}: refused requests")
        d.start()
        total, size = check_log(d, answers)
        check(total >= result["requests"], f"round {number}: {total} answers read")
        reply = d.evaluate("payments/create", {"amount": 5})
        equal(reply.json["decision"], True, f"round {number}: the next decision")
        check(reply.json["context"]["record"]["seq"] >= size, f"round {number}: a sequence number was used twice")
    kinds = {json.loads(line)["kind"] for line in open(d.export(), "rb") if b'"kind":"log.' in line}
    check("log.gap" in kinds, f"no log.gap after an unclean stop: {kinds}")


@test
def killed_while_starting():
    """A start that is cut off leaves nothing that the next start stumbles over."""
    d = Deployment()
    for n in range(8):
        d.spawn()
        time.sleep(rng.random() * 0.12)
        d.kill()
    d.start()
    d.register()
    equal(d.evaluate().json["decision"], True, "decision")
    d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)


@test
def killed_while_stopping():
    d = Deployment().start()
    d.register()
    for n in range(5):
        answer = d.evaluate().json["context"]
        d.process.send_signal(signal.SIGTERM)
        time.sleep(rng.random() * 0.03)
        d.kill()
        d.start()
        log = recorded(d.export())
        equal(log.get(answer["record"]["seq"]), answer["record"]["leaf"].encode(), f"record answered before stop {n}")
    d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)


if __name__ == "__main__":
    main()
