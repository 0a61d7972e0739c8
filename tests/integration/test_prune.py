#!/usr/bin/env -S python3 -B
"""Old records leave the database: nothing of them is lost, the log holds without them, and says what is absent and why.

Verdicts are those of two verifiers, which must agree.
"""
import hashlib
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import threading
import time

from harness import AGENT, WRIT, Deployment, check, equal, is_error, leaves, main, test
from two_verifiers import Log, Signer, both, broken, grow, holds, plan, prune, verify, wait_for_plan

RETAIN = 'audit = { retain = "1s"%s }\n'
shared = {}


def status(d):
    return d.admin("GET", "/v1/status").json["audit"]


def on_disk(d):
    return sum(os.stat(os.path.join(d.data, f)).st_blocks * 512 for f in os.listdir(d.data) if f.startswith("log.db"))


def small_wal(d):
    end = time.monotonic() + 30
    while time.monotonic() < end and os.path.getsize(os.path.join(d.data, "log.db-wal")) > 200000:
        threading.Event().wait(0.05)


def deployment():
    """A log of 1,600 records of which 1,280 were pruned, and what was seen on the way."""
    if "d" not in shared:
        d = Deployment(config=RETAIN % "").start()
        d.register()
        answer = d.evaluate(tool="payments/create", args={"amount": 987654321}).json["context"]
        grow(d, 700)
        with open(d.path("held"), "wb") as f:
            f.write(d.admin("POST", "/v1/audit/checkpoint").body)
        d.writ("audit", "publish", "--entries", d.path("early"), code=0)
        grow(d, 1600)
        shared.update(d=d, key=d.log_key(), answer=answer, before=d.export("before.jsonl"), size=on_disk(d))
        shared["first"] = prune(d, "archive.jsonl", 1280)
        grow(d, 2100)
        shared["after"] = d.export("after.jsonl")
    return shared["d"]


@test
def the_archive_and_the_rest_are_the_log():
    d = deployment()
    got = holds(d.path("archive.jsonl"), "--key", shared["key"])
    to = shared["first"]["to"]
    equal((got["first"], got["count"], got["completeness"], got["redaction"]), (0, to, "yes", "none"), "the archive")
    got = holds(shared["after"], "--key", shared["key"])
    equal((got["first"], got["completeness"], got["pruned"], got["pruned_by"]), (to, "yes", to, shared["first"]["record"]), "the rest")
    whole, old, new = leaves(shared["before"]), leaves(d.path("archive.jsonl")), leaves(shared["after"])
    for seq, (line, _) in whole.items():
        equal((old if seq < to else new)[seq][0], line, f"record {seq}")
    equal(min(new), to, "where the log begins")
    record = new[shared["first"]["record"]][1]
    with open(d.path("archive.jsonl"), "rb") as f:
        data = f.read()
    equal((record["kind"], record["from"], record["to"], record["count"], record["archive"], record["archive_sha256"]),
          ("log.prune", 0, to, to, d.path("archive.jsonl"), hashlib.sha256(data).hexdigest()), "the record")
    check(record["pep"], "who")
    done = d.writ("audit", "verify", "--key", shared["key"], shared["after"], code=0)
    check(f"pruned: records 0 to {to - 1}, as record {shared['first']['record']} says" in done.stdout, done.stdout)


@test
def the_disk_is_free():
    d = deployment()
    small_wal(d)
    check(on_disk(d) < shared["size"] * 0.6, f"{on_disk(d)} bytes after {shared['size']}")
    for name in ("log.db", "log.db-wal"):
        with open(os.path.join(d.data, name), "rb") as f:
            check(b'987654321' not in f.read(), f"what was pruned is still in {name}")


@test
def the_index_forgets_too():
    d = deployment()
    path, to = os.path.join(d.data, "index.db"), shared["first"]["to"]

    def oldest():
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return db.execute("SELECT min(last) FROM posting").fetchone()[0], db.execute("SELECT min(seq) FROM mark").fetchone()[0]
        finally:
            db.close()
    end = time.monotonic() + 30
    while time.monotonic() < end and oldest()[0] < to:
        d.evaluate()
        threading.Event().wait(0.05)
    check(min(oldest()) >= to, f"{oldest()}")
    found = json.loads("[" + ",".join(d.writ("audit", "search", "--agent", AGENT, "--limit", "5000", "--json", code=0).stdout.splitlines()) + "]")
    whole = [v["seq"] for _, v in leaves(d.export("now.jsonl")).values() if v.get("agent") == AGENT]
    equal(sorted(r["seq"] for r in found)[:3], sorted(whole)[:3], "what is found")


@test
def every_proof_is_still_there():
    d = deployment()
    to, whole = shared["first"]["to"], leaves(shared["before"])
    for seq in (0, 1, 255, 256, to - 1):
        d.writ("audit", "prove", str(seq), "--bare", "--output", d.path("p"), code=0)
        with open(d.path("r"), "wb") as f:
            f.write(whole[seq][0])
        equal(holds(d.path("p"), "--key", shared["key"], "--record", d.path("r"))["first"], seq, "a pruned record")
        done = d.writ("audit", "prove", str(seq), "--output", d.path("p"))
        check(done.returncode == 1 and "archive" in done.stderr and "--bare" in done.stderr, done.stderr)
    for seq in (to, to + 1, 1590):
        d.writ("audit", "prove", str(seq), "--output", d.path("p"), code=0)
        holds(d.path("p"), "--key", shared["key"])
    # Consistency with what was signed and held before: every old size.
    with open(d.path("held"), "rb") as f:
        held = int(f.read().split(b"\n")[1])
    for old in (1, 7, 256, held, to, to + 3):
        reply = d.admin("GET", f"/v1/audit/proof?old={old}")
        equal(reply.status, 200, f"{old}: {reply}")
    reply = d.admin("GET", f"/v1/audit/proof?first=100&count={to - 60}")
    equal(reply.status, 200, f"range: {reply}")


@test
def tiles_of_what_is_left():
    d = deployment()
    to = shared["first"]["to"]
    d.writ("audit", "publish", d.path("hashes"), code=0)
    equal(holds(d.path("hashes"), "--key", shared["key"], "--checkpoint", d.path("held"))["anchoring"], "yes", "hashes")
    d.writ("audit", "publish", "--entries", d.path("tiles"), code=0)
    got = holds(d.path("tiles"), "--key", shared["key"], "--checkpoint", d.path("held"))
    equal((got["pruned"], got["pruned_by"], got["completeness"], got["anchoring"]), (to, shared["first"]["record"], "yes", "yes"), f"{got}")
    # What was published before keeps its bundles.
    d.writ("audit", "publish", "--entries", d.path("early"), code=0)
    got = both(d.path("early"), "--key", shared["key"])
    check(got["result"] in ("holds", "broken"), f"{got}")
    is_error(d.admin("GET", "/tile/entries/000"), 404, "a bundle")
    equal(d.admin("GET", "/tile/0/000").status, 200, "its hashes")
    # A bundle less, and no record says so.
    shutil.copytree(d.path("tiles"), d.path("less"))
    os.remove(d.path("less", "tile", "entries", "%03d" % (to // 256)))
    broken("deletion", d.path("less"), "--key", shared["key"])


@test
def who_asks_is_told():
    d = deployment()
    to, record = shared["first"]["to"], shared["first"]["record"]
    for argv in (("audit", "show", "5"), ("audit", "redact", "--record", "5", "--reason", "x")):
        done = d.writ(*argv)
        check(done.returncode == 1 and "pruned" in done.stderr and "archive" in done.stderr and f"record {record}" in done.stderr,
              f"{argv}: {done.stderr}")
    reply = d.http("POST", "/v1/audit/outcome", {"evaluation_id": shared["answer"]["evaluation_id"], "outcome": "success"})
    equal(is_error(reply, 404, "an outcome")["code"], "pruned", "code")
    reply = d.admin("GET", "/v1/audit/records?agent=" + AGENT + "&limit=3&order=oldest").json
    equal((reply["pruned"], min(r["seq"] for r in reply["records"]) >= to), (to, True), f"{reply}")
    reply = d.admin("GET", "/v1/audit/open?older=0").json
    equal(reply["pruned"], to, "open decisions")
    d.writ("audit", "reindex", code=0)
    done = d.writ("policy", "replay", "--since", "1h")
    check("pruned" in done.stdout or "pruned" in done.stderr, f"replay: {done.stdout} {done.stderr}")
    reply = d.admin("GET", "/v1/audit/export?from=3&to=9")
    is_error(reply, 404, "an export of what is gone")


@test
def after_a_restart_and_once_more():
    d = deployment()
    d.restart()
    equal(status(d)["pruned"], shared["first"]["to"], "pruned")
    holds(d.export("again.jsonl"), "--key", shared["key"])
    first = shared["first"]["to"]
    equal(plan(d)["from"], first, "where the next one begins")
    grow(d, first + 1200)
    second = prune(d, "second.jsonl", first + 512)
    equal(holds(d.path("second.jsonl"), "--key", shared["key"])["first"], first, "the archives meet")
    got = holds(d.export("later.jsonl"), "--key", shared["key"])
    equal((got["pruned"], got["pruned_by"]), (second["to"], second["record"]), f"{got}")
    done = d.writ("audit", "prune", "--archive", d.path("second.jsonl"))
    check(done.returncode in (0, 1) and (plan(d)["records"] == 0 or "there already" in done.stderr), done.stderr)
    d.writ("audit", "prove", "3", "--bare", "--output", d.path("p"), code=0)


@test
def with_the_record_of_a_new_key():
    """The key changed in what was pruned: the first key still verifies both halves, and every start knows it."""
    d = Deployment(config=RETAIN % "").start()
    d.register()
    first = d.log_key()
    grow(d, 150)
    second = json.loads(d.writ("audit", "key", "--rotate", "--json", code=0).stdout)
    grow(d, 700)
    to = prune(d, "a", 512)["to"]
    check(second["record"] < to, "the record of the new key was pruned")
    d.restart()
    equal(d.log_key(), second["vkey"], "who signs")
    d.writ("audit", "publish", "--entries", d.path("tiles"), code=0)
    for source, key in ((d.path("a"), first), (d.export(), first), (d.path("tiles"), first), (d.path("a"), second["vkey"])):
        equal(holds(source, "--key", key)["authenticity"], "yes", source)
    d.writ("audit", "key", "--rotate", code=0)
    holds(d.export("b"), "--key", first)


# --- what stays -----------------------------------------------------------------------------

@test
def what_must_stay_stays():
    d = Deployment().start()
    d.register()
    grow(d, 600)
    done = d.writ("audit", "prune", "--before", "1s", "--dry-run")
    check(done.returncode == 1 and "audit.retain" in done.stderr, f"by default all stays: {done.stderr}")
    d.write("writ.lua", d.config + RETAIN % f', sinks = {{ {{ name = "slow", type = "webhook", url = "http://127.0.0.1:9/x", '
            f'secret_file = "{d.path("secret")}" }} }}')
    with open(d.path("secret"), "w", encoding="ascii") as f:
        f.write("whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" + "\n")
    os.chmod(d.path("secret"), 0o600)
    d.restart()
    end = time.monotonic() + 30
    while time.monotonic() < end and "slow" not in plan(d).get("limit", ""):
        threading.Event().wait(0.05)
    p = plan(d)
    equal((p["to"], "sink slow" in p["limit"]), (0, True), f"nothing unsent goes: {p}")
    d.stop()
    d.write("writ.lua", d.config + RETAIN % "")
    d.start()
    wait_for_plan(d, 512)
    d.writ("audit", "hold", "add", "--from", "300", "--to", "310", "--reason", "court", code=0)
    p = plan(d)
    equal((p["to"], "hold" in p["limit"]), (256, True), f"a hold: {p}")
    reply = d.admin("POST", "/v1/audit/prune", {"from": 0, "to": 512, "archive": "x", "archive_sha256": "0" * 64})
    equal(is_error(reply, 409, "over a hold")["code"], "prune_changed", "code")
    d.writ("audit", "hold", "remove", "1", "--reason", "over", code=0)
    d.writ("audit", "hold", "add", "--agent", AGENT, "--reason", "court", code=0)
    equal(plan(d)["to"], 0, "a hold on an agent")
    d.writ("audit", "hold", "remove", "2", "--reason", "over", code=0)
    for body, why in (({"from": 0, "to": 100}, "no tile"), ({"from": 256, "to": 512}, "not from the beginning"),
                      ({"from": 0, "to": 51200}, "too far"), ({"from": 0, "to": 0}, "nothing")):
        reply = d.admin("POST", "/v1/audit/prune", {"archive": "x", "archive_sha256": "0" * 64, **body})
        is_error(reply, 409, why)
    for body in ({}, {"from": 0, "to": 256}, {"from": 0, "to": 256, "archive": "x", "archive_sha256": "zz"},
                 {"from": -1, "to": 256, "archive": "x", "archive_sha256": "0" * 64}):
        is_error(d.admin("POST", "/v1/audit/prune", body), 400, str(body))
    is_error(d.operators("POST", "/v1/audit/prune", {}), (401, 403), "somebody")
    equal(d.writ("audit", "prune").returncode, 2, "no archive")
    equal(status(d).get("pruned"), None, "nothing has gone")


@test
def an_archive_that_cannot_be_written():
    """No room, at each step of the archive: nothing goes, and nothing half written stays."""
    d = Deployment(config=RETAIN % "").start()
    d.register()
    grow(d, 400)
    wait_for_plan(d, 256)
    for limit in (0, 1000, 100000, 300000):
        def bound(limit=limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        done = subprocess.run([WRIT, "audit", "prune", "--archive", d.path("a")], cwd=d.dir, capture_output=True, text=True,
                              env=dict(os.environ, WRIT_CONFIG=d.config_file), preexec_fn=bound, restore_signals=False,
                              timeout=60, check=False)
        check(done.returncode == 1 and done.stderr, f"{limit}: {done}")
        check(not os.path.exists(d.path("a")) and not os.path.exists(d.path("a.part")), f"{limit}: {os.listdir(d.dir)}")
    done = d.writ("audit", "prune", "--archive", d.path("nowhere", "a"))
    equal(done.returncode, 1, done.stderr)
    equal(status(d).get("pruned"), None, "nothing has gone")
    prune(d, "a")
    holds(d.path("a"), "--key", d.log_key())


# --- stops ----------------------------------------------------------------------------------

@test
def killed_while_records_go():
    """kill -9 while records go and decisions come: each is in an archive or in the log, once."""
    d = Deployment(config=RETAIN % "").start()
    d.register()
    key, answered, archives = d.log_key(), [], []
    for turn in range(3):
        grow(d, 1500 * (turn + 1))
        p = wait_for_plan(d, 1024 * (turn + 1))
        stop = threading.Event()

        def work():
            while not stop.is_set():
                try:
                    answered.append(d.evaluate().json["context"]["record"])
                except (OSError, ValueError, KeyError):
                    return
        threads = [threading.Thread(target=work) for _ in range(2)]
        for t in threads:
            t.start()
        name = d.path(f"archive-{turn}")
        going = subprocess.Popen([WRIT, "audit", "prune", "--archive", name], cwd=d.dir, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, env=dict(os.environ, WRIT_CONFIG=d.config_file))
        end = time.monotonic() + 60
        while time.monotonic() < end and going.poll() is None:
            try:
                s = status(d)
            except OSError:
                break
            if s.get("prune_to", 0) > p["from"] and s["pruned"] > p["from"]:
                break
        d.kill()
        stop.set()
        for t in threads:
            t.join()
        going.wait()
        d.start()
        end = time.monotonic() + 60
        while time.monotonic() < end and status(d).get("pruned", 0) != status(d).get("prune_to", 0):
            threading.Event().wait(0.05)
        archives.append(name)
    found = {}
    path = d.export()
    for source in [*archives, path]:
        if os.path.exists(source):
            holds(source, "--key", key)
            found.update(leaves(source))
    size = status(d)["pruned"]
    check(size > 0, "nothing was pruned")
    check(all(seq in found for seq in range(max(found) + 1)), "a record is in no archive and not in the log")
    for a in answered:
        if a["seq"] in found:
            equal(hashlib.sha256(b"\0" + found[a["seq"]][0]).hexdigest(), a["leaf"], "a record that was answered")


def through_the_file(d, *sql):
    db = sqlite3.connect(os.path.join(d.data, "log.db"))
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    for one in sql:
        db.execute(one)
    db.commit()
    db.close()


@test
def a_stop_between_the_record_and_the_first_tile():
    """What a stop leaves right behind the announcement, and behind a part of it."""
    d = Deployment(config=RETAIN % "").start()
    d.register()
    grow(d, 900)
    wait_for_plan(d, 768)
    key = d.log_key()
    prune(d, "a", 768)
    d.stop()
    # Put back what the last two tiles held, as if they had not gone yet.
    rows = leaves(d.path("a"))
    db = sqlite3.connect(os.path.join(d.data, "log.db"))
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    db.execute("DELETE FROM hash WHERE tile > 0")
    db.execute("UPDATE pruned SET upto = 256")
    for seq in range(256, 768):
        db.execute("INSERT INTO leaf(seq, body) VALUES (?, ?)", (seq, rows[seq][0]))
    db.commit()
    db.close()
    d.start()
    end = time.monotonic() + 30
    while time.monotonic() < end and status(d)["pruned"] < 768:
        threading.Event().wait(0.02)
    equal(status(d)["pruned"], 768, "it went on")
    equal(holds(d.export(), "--key", key)["pruned"], 768, "the export")


# --- lies -----------------------------------------------------------------------------------

@test
def the_database_of_a_pruned_log():
    d = Deployment(config=RETAIN % "").start()
    d.register()
    grow(d, 900)
    key = d.log_key()
    to = prune(d, "a", 768)["to"]
    d.stop()
    shutil.copytree(d.data, d.path("good"), ignore=shutil.ignore_patterns("*.sock"))
    for sql, starts in ((f"DELETE FROM leaf WHERE seq = {to}", False), ("DELETE FROM hash WHERE tile = 2", False),
                        (f"UPDATE pruned SET upto = {to + 256}", False), ("UPDATE pruned SET upto = 256", False),
                        ("DELETE FROM prune", False), (f"DELETE FROM leaf WHERE seq = {to + 20}", True),
                        ("DELETE FROM hash WHERE tile = 1", True), ("UPDATE hash SET hashes = zeroblob(8192) WHERE tile = 0", True)):
        shutil.rmtree(d.data)
        shutil.copytree(d.path("good"), d.data)
        shutil.rmtree(os.path.join(d.data, "tiles"), ignore_errors=True)
        through_the_file(d, sql)
        if not starts:
            done = d.writ("serve", "--config", d.config_file)
            check(done.returncode == 1 and ("damaged" in done.stderr or "rollback" in done.stderr), f"{sql}: {done.stderr}")
            continue
        d.start()
        done = d.writ("audit", "export", "--output", d.path("x"))
        # The hints of the part before may come from a checkpoint that was stored; a proof does not.
        if done.returncode == 0 and both(d.path("x"), "--key", key)["result"] == "holds":
            done = d.writ("audit", "prove", str(to + 1), "--output", d.path("p"))
            check(done.returncode == 1 and "damaged" in done.stderr, f"{sql}: {done.stdout} {done.stderr}")
        elif done.returncode:
            check("damaged" in done.stderr or "before its answer" in done.stderr, f"{sql}: {done.stderr}")
        d.stop()


@test
def the_export_of_a_pruned_log():
    """Even with the log's key nobody can say that something else was pruned, if the hashes before are given."""
    d = deployment()
    signer = Signer(d.dir, os.path.join(d.data, "keys/log.key"), shared["key"].split("+")[0].encode())
    to, record = shared["first"]["to"], shared["first"]["record"]
    x = Log(shared["after"])
    trailer = json.loads(x.lines[-1])["trailer"]
    hints = [bytes.fromhex(h) for h in trailer["hints"].split()]

    def write(path):
        r = verify.Range(to, hints[:bin(to).count("1")])
        for line in x.records():
            r.append(verify.leaf_hash(line))
        t = dict(trailer, checkpoint=signer.note(r.n, r.root()).decode(), size=r.n, count=len(x.at),
                 range=" ".join(h.hex() for h in r.saved()), hints=" ".join(h.hex() for h in hints[:bin(to).count("1")]))
        x.lines[0] = re.sub(rb'"size":\d+', b'"size":%d' % r.n, re.sub(rb'"count":\d+', b'"count":%d' % len(x.at), x.lines[0]))
        t["header"] = hashlib.sha256(x.lines[0]).hexdigest()
        x.lines[-1] = json.dumps({"trailer": t}, separators=(",", ":"), ensure_ascii=False).encode()
        with open(path, "wb") as f:
            f.write(b"\n".join(x.lines) + b"\n")
        return path
    equal(holds(write(d.path("same.jsonl")), "--key", shared["key"])["pruned"], to, "put together again")
    at = record - to
    old = x.lines[x.at[at]]
    x.change(at, rb'"root":"[0-9a-f]{4}', b'"root":"ffff')
    check(x.lines[x.at[at]] != old, "changed")
    broken("fork", write(d.path("root.jsonl")), "--key", shared["key"])
    x = Log(shared["after"])
    x.change(at, rb'"to":\d+', b'"to":%d' % (to - 256))
    got = holds(write(d.path("to.jsonl")), "--key", shared["key"])
    check("pruned" not in got, f"no record accounts for it: {got}")


if __name__ == "__main__":
    main()
