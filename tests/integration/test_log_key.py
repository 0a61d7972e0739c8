#!/usr/bin/env -S python3 -B
"""The log takes another key: who trusted the old one still knows whose signature it is, and nobody can hand it to himself.

Each verdict is that of two verifiers, writ's and scripts/verify.py, which must agree in every word that programs read.
"""
import base64
import hashlib
import json
import os
import shutil
import sqlite3
import threading

from harness import ROOT, Deployment, check, equal, is_error, leaves, main, openssl, test
from two_verifiers import WORDS, Log, Signer, both, broken, holds

def key_id(vkey):
    return vkey.split("+")[1]


def rotate(d):
    """(number of the record, the new key)"""
    answer = json.loads(d.writ("audit", "key", "--rotate", "--json", code=0).stdout)
    return answer["record"], answer["vkey"]


def some(d, n):
    return [d.evaluate().json["context"] for _ in range(n)]


def note_of(d):
    return d.admin("POST", "/v1/audit/checkpoint").body


def new_key(d, name):
    path = d.path(name)
    openssl("genpkey", "-algorithm", "ed25519", "-out", path)
    return path


@test
def the_vectors():
    """tests/data/audit-rotated: what others can try their verifiers on."""
    data = os.path.join(ROOT, "tests/data/audit-rotated")
    with open(os.path.join(data, "expected.json"), encoding="ascii") as f:
        rows = json.load(f)
    equal({r["source"] for r in rows} | {"first.vkey", "second.vkey", "expected.json"}, set(os.listdir(data)), "sources")
    for row in rows:
        got = both(os.path.join(data, row["source"]), "--key", "@" + os.path.join(data, row["key"]))
        equal({w: got.get(w) for w in WORDS}, {w: row.get(w) for w in WORDS}, f"{row['source']} {row['key']}")


shared = {}


def rotated():
    """A log of three keys, with what was seen on the way."""
    if "d" not in shared:
        d = Deployment().start()
        d.register()
        keys = [d.log_key()]
        answers = some(d, 20)
        with open(d.path("held-old"), "wb") as f:
            f.write(note_of(d))
        shared.update(d=d, keys=keys, at=[], before=d.export("before.jsonl"))
        origin = keys[0].split("+")[0].encode()
        shared["stolen"] = [Signer(d.dir, os.path.join(d.data, "keys/log.key"), origin)]
        for _ in range(2):
            seq, key = rotate(d)
            shared["at"].append(seq)
            keys.append(key)
            answers += some(d, 20)
        with open(d.path("held-new"), "wb") as f:
            f.write(note_of(d))
        some(d, 5)
        d.writ("audit", "publish", "--entries", d.path("tiles"), code=0)
        shared.update(answers=answers, whole=d.export("whole.jsonl"))
        d.writ("audit", "publish", d.path("hashes"), code=0)
        d.writ("audit", "prove", "3", "--output", d.path("old.tlog-proof"), code=0)
    return shared["d"]


@test
def who_trusted_the_first_key_knows_the_third():
    d = rotated()
    first, second, third = shared["keys"]
    for source in (shared["whole"], d.path("tiles"), d.path("hashes"), d.path("old.tlog-proof")):
        for key, since in ((first, True), (second, True), (third, False)):
            got = holds(source, "--key", key)
            equal((got["authenticity"], got["key_id"]), ("yes", key_id(third)), source)
            said = f"given: {key_id(key)}; {key_id(third)} since record {shared['at'][1]}, by the log's own record"
            equal(got["key_from"], said if since else "given", "where the key came from")
        equal(holds(source, "--key", first, "--key", third)["key_from"], "given", "both were given")
    # Before: the old key signed, and a later one says nothing of that.
    equal(holds(shared["before"], "--key", first)["key_id"], key_id(first), "before")
    broken("signature", shared["before"], "--key", third)
    equal(both(shared["whole"])["result"], "not_authenticated", "without a key")


@test
def what_was_held_before_is_still_held():
    d = rotated()
    first, second, third = shared["keys"]
    for held in ("held-old", "held-new"):
        for key in (first, second):
            got = both(shared["whole"], "--key", key, "--checkpoint", d.path(held)) if (held, key) != ("held-old", second) else None
            check(got is None or got["anchoring"] == "yes", f"{held}: {got}")
    # A checkpoint by a key that was not given, and that nothing leads to from the given one, is no usage.
    done = d.writ("audit", "verify", "--key", third, "--checkpoint", d.path("held-old"), shared["whole"])
    equal(done.returncode, 2, f"{done.stdout} {done.stderr}")
    with open(d.path("keys"), "w", encoding="ascii") as f:
        f.write(f"{first}\n{third}\n")
    equal(holds(shared["whole"], "--key", "@" + d.path("keys"), "--checkpoint", d.path("held-old"))["anchoring"], "yes", "both keys")


@test
def parts_and_filters():
    d = rotated()
    first, r = shared["keys"][0], shared["at"][1]
    for what in (f"from={r + 1}", f"from={r}", f"from=3&to={r}", "decision=permit", f"from={r - 3}&decision=deny"):
        with open(d.path("part.jsonl"), "wb") as f:
            f.write(d.admin("GET", "/v1/audit/export?" + what).body)
        got = both(d.path("part.jsonl"), "--key", first)
        equal((got["result"], got["authenticity"]), ("holds", "yes"), f"{what}: {got}")


@test
def the_log_says_so():
    d = rotated()
    first, second, third = shared["keys"]
    record = leaves(shared["whole"])[shared["at"][0]][1]
    equal({k: record[k] for k in ("kind", "act", "use", "before", "vkey", "size")},
          {"kind": "key.rotate", "act": "rotate", "use": "log", "before": first, "vkey": second, "size": shared["at"][0] + 1}, "record")
    check(record["pep"], "who did it")
    keys = json.loads(d.writ("audit", "key", "--json", code=0).stdout)
    equal(keys["vkey"], third, "the current one")
    equal([(k["from"], k.get("to"), k.get("record"), k["vkey"]) for k in keys["keys"]],
          [(0, shared["at"][0] + 1, None, first), (shared["at"][0] + 2, shared["at"][1] + 1, shared["at"][0], second),
           (shared["at"][1] + 2, None, shared["at"][1], third)], "all of them")
    out = d.writ("audit", "key", "--all", code=0).stdout
    check(all(k in out for k in shared["keys"]), out)
    equal(d.writ("audit", "key", code=0).stdout.strip(), third, "one line for a file")


@test
def ids_stay_what_they_were():
    d = rotated()
    ids = [a["evaluation_id"] for a in shared["answers"]]
    equal({i.split("_")[1] for i in ids}, {key_id(shared["keys"][0])}, "ids name the log's first key")
    for i in (ids[0], ids[25], ids[-1]):
        reply = d.admin("GET", f"/v1/audit/record?id={i}")
        equal((reply.status, reply.json["record"]["seq"]), (200, int(i.split("_")[2])), f"{i}: {reply}")
        equal(d.http("POST", "/v1/audit/outcome", {"evaluation_id": i, "outcome": "success"}).status, 200, f"closing {i}")


@test
def only_admins_and_nothing_else():
    d = rotated()
    is_error(d.admin("POST", "/v1/audit/key/rotate", {"key": "x"}), 400, "a member too many")
    is_error(d.operators("POST", "/v1/audit/key/rotate", {}), (401, 403), "somebody")
    equal(d.writ("audit", "key", "--all", "--rotate").returncode, 2, "both")
    equal(d.log_key(), shared["keys"][-1], "nothing happened")


# --- lies -----------------------------------------------------------------------------------

@test
def a_key_handed_to_oneself():
    """Without the old key's signature no rotation is one, whatever the record says."""
    d = rotated()
    first, r = shared["keys"][0], shared["at"][0]
    thief = Signer(d.dir, new_key(d, "thief.pem"), shared["stolen"][0].origin)
    # In place of the genuine rotation, his own.
    x = Log(shared["whole"])
    x.cut(shared["at"][1] - 1)
    own = thief.hand_over(r + 1, thief.public)  # signed by himself
    x.change(r, rb'"vkey":"[^"]+"', b'"vkey":"' + thief.vkey.encode() + b'"')
    x.change(r, rb'"signature":"[^"]+"', b'"signature":"' + base64.b64encode(own[40:]) + b'"')
    path = x.write(d.path("lie.jsonl"), thief.note(len(x.at), x.root().root(), own))
    broken("signature", path, "--key", first)
    broken("signature", x.write(path, thief.note(len(x.at), x.root().root())), "--key", first)
    # The genuine signature under another key or another size.
    genuine = base64.b64decode(leaves(shared["whole"])[r][1]["signature"])
    for size in (r + 1, r):
        lie = size.to_bytes(8, "big") + thief.public + genuine
        broken("signature", x.write(path, thief.note(len(x.at), x.root().root(), lie)), "--key", first)
    # His line behind the genuine one.
    second = base64.b64decode(shared["keys"][1].split("+", 2)[2])[1:]
    chain = (r + 1).to_bytes(8, "big") + second + genuine + thief.hand_over(r + 5, thief.public)
    broken("signature", x.write(path, thief.note(len(x.at), x.root().root(), chain)), "--key", first)


@test
def the_old_key_after_it_was_given_up():
    d = rotated()
    first, r, stolen = shared["keys"][0], shared["at"][0], shared["stolen"][0]
    equal(stolen.vkey, first, "the key that was stolen")
    x = Log(shared["whole"])
    genuine = base64.b64decode(leaves(shared["whole"])[r][1]["signature"])
    second = base64.b64decode(shared["keys"][1].split("+", 2)[2])[1:]
    # Back to the old key: the records say that it signs no more.
    path = x.write(d.path("back.jsonl"), stolen.note(len(x.at), x.root().root()))
    broken("signature", path, "--key", first, at=r)
    broken("signature", path, "--key", shared["keys"][2])
    line = (r + 1).to_bytes(8, "big") + second + genuine
    broken("signature", x.write(path, stolen.note(len(x.at), x.root().root(), line)), "--key", first)
    # Up to its last checkpoint it is right to sign.
    x.cut(r + 1)
    holds(x.write(path, stolen.note(len(x.at), x.root().root())), "--key", first)
    # Another history from before the rotation: who holds a later checkpoint sees the fork.
    x = Log(shared["whole"])
    for seq in shared["at"]:
        x.change(seq, rb'"use":"log"', b'"use":"jwt"')
    path = x.write(d.path("fork.jsonl"), stolen.note(len(x.at), x.root().root()))
    holds(path, "--key", first)  # what the chain cannot prove
    broken("signature", path, "--key", shared["keys"][2])
    broken("fork", path, "--key", first, "--checkpoint", d.path("held-new"))


@test
def a_record_and_a_checkpoint_that_disagree():
    d = rotated()
    first, stolen = shared["keys"][0], shared["stolen"][0]
    heir = Signer(d.dir, new_key(d, "heir.pem"), stolen.origin)
    # Signed for, but no record says so: nobody could have seen it.
    x = Log(shared["before"])
    chain = stolen.hand_over(10, heir.public)
    path = x.write(d.path("secret.jsonl"), heir.note(len(x.at), x.root().root(), chain))
    broken("signature", path, "--key", first, at=9)
    # Lines that are none.
    with open(path, "rb") as f:
        good = f.read()
    for line in (b"", b"x" * 50, chain + chain, chain[:-1], bytes(8) + chain[8:]):
        y = Log(path)
        broken("signature", y.write(path, heir.note(len(y.at), y.root().root(), line or b"\0")), "--key", first)
        with open(path, "wb") as f:
            f.write(good)
    # A rotation behind the checkpoint's end.
    y = Log(path)
    n = len(y.at)
    broken("signature", y.write(path, stolen.note(n, y.root().root(), stolen.hand_over(n, heir.public))), "--key", first)


@test
def tiles_of_a_forged_rotation():
    d = rotated()
    r, stolen = shared["at"][0], shared["stolen"][0]
    x = Log(shared["whole"])
    shutil.rmtree(d.path("lying"), ignore_errors=True)
    shutil.copytree(d.path("tiles"), d.path("lying"))
    with open(d.path("lying", "checkpoint"), "rb") as f:
        size = int(f.read().split(b"\n")[1])
    with open(d.path("lying", "checkpoint"), "wb") as f:
        f.write(stolen.note(size, x.root(size).root()))
    broken("signature", d.path("lying"), "--key", shared["keys"][0], at=r)


# --- stops ----------------------------------------------------------------------------------

@test
def a_stop_at_each_step():
    d = Deployment().start()
    d.register()
    some(d, 3)
    keys, first = os.path.join(d.data, "keys"), d.log_key()
    shutil.copy(os.path.join(keys, "log.key"), d.path("first.key"))
    d.stop()
    shutil.copytree(d.data, d.path("before"), ignore=shutil.ignore_patterns("*.sock"))
    d.start()
    r, second = rotate(d)
    shutil.copy(os.path.join(keys, "log.key"), d.path("second.key"))
    check(not os.path.exists(os.path.join(keys, "log-next.key")), "the next key has taken its place")
    # Killed before the files were moved: the record is there, so the start moves them.
    d.kill()
    shutil.copy(d.path("second.key"), os.path.join(keys, "log-next.key"))
    shutil.copy(d.path("first.key"), os.path.join(keys, "log.key"))
    d.start()
    equal(d.log_key(), second, "the log's word")
    check(not os.path.exists(os.path.join(keys, "log-next.key")), "moved")
    some(d, 3)
    equal(holds(d.export("one.jsonl"), "--key", first)["key_id"], key_id(second), "finished by the start")
    # Killed before the record: log-next.key stands for nothing.
    d.kill()
    shutil.copy(d.path("first.key"), os.path.join(keys, "log-next.key"))
    d.start()
    equal(d.log_key(), second, "nothing happened")
    check(not os.path.exists(os.path.join(keys, "log-next.key")), "removed")
    # Neither file is the key that the log goes on under.
    d.stop()
    shutil.copy(d.path("first.key"), os.path.join(keys, "log.key"))
    done = d.writ("serve", "--config", d.config_file)
    check(done.returncode == 1 and f"since record {r}" in done.stderr and "backup" in done.stderr, done.stderr)
    # The log is of before, the keys of after: it has lost records that were signed.
    shutil.copy(d.path("second.key"), os.path.join(keys, "log.key"))
    for name in os.listdir(d.path("before")):
        if name.startswith("log.db"):
            shutil.copy(d.path("before", name), os.path.join(d.data, name))
    for name in ("log.db-wal", "log.db-shm"):
        if not os.path.exists(d.path("before", name)) and os.path.exists(os.path.join(d.data, name)):
            os.remove(os.path.join(d.data, name))
    done = d.writ("serve", "--config", d.config_file)
    check(done.returncode == 1 and "rollback detected" in done.stderr, done.stderr)


@test
def a_row_that_no_record_tells_of():
    d = Deployment().start()
    d.register()
    some(d, 3)
    r, _ = rotate(d)
    d.stop()
    shutil.copy(os.path.join(d.data, "log.db"), d.path("good.db"))
    for sql in (f"UPDATE rotation SET size = {r}", "UPDATE rotation SET key = zeroblob(32)", "UPDATE rotation SET signature = x'00'",
                "UPDATE rotation SET before = zeroblob(32)", "DELETE FROM rotation"):
        shutil.copy(d.path("good.db"), os.path.join(d.data, "log.db"))
        db = sqlite3.connect(os.path.join(d.data, "log.db"))
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute(sql)
        db.commit()
        db.close()
        done = d.writ("serve", "--config", d.config_file)
        check(done.returncode == 1 and len(done.stderr) > 20, f"{sql}: it started: {done.stderr}")


@test
def under_load_and_killed():
    """kill -9 while keys change: every start has one key, and the first one verifies all of it."""
    d = Deployment().start()
    d.register()
    first, answered = d.log_key(), []
    for turn in range(6):
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
        rotating = threading.Thread(target=lambda: [d.writ("audit", "key", "--rotate") for _ in range(4)])
        rotating.start()
        while len(answered) < 40 * (turn + 1) and any(t.is_alive() for t in threads):
            pass
        d.kill()
        stop.set()
        for t in [*threads, rotating]:
            t.join()
        d.start()
    path = d.export()
    holds(path, "--key", first)
    found = leaves(path)
    for a in answered:
        equal(hashlib.sha256(b"\0" + found[a["seq"]][0]).hexdigest(), a["leaf"], "a record that was answered")
    keys = json.loads(d.writ("audit", "key", "--json", code=0).stdout)["keys"]
    check(len(keys) > 1, "no rotation took place")
    equal(len([v for _, v in found.values() if v["kind"] == "key.rotate" and v.get("use") == "log"]), len(keys) - 1, "records")


@test
def encrypted_keys_follow_encrypted():
    d = Deployment(config='keys = { encrypt = "file:key-file" }\n')
    with open(d.path("key-file"), "wb") as f:
        f.write(os.urandom(32))
    os.chmod(d.path("key-file"), 0o600)
    d.start()
    first = d.log_key()
    _, second = rotate(d)
    d.restart()
    equal(d.log_key(), second, "read back")
    holds(d.export(), "--key", first)


@test
def a_witness_follows():
    """One that was told the first key cosigns what the second one signs."""
    other, a = Deployment(), Deployment()
    a.start()
    a.register()
    key = a.log_key()
    other.write("writ.lua", other.config.replace("example.org", "other.example") +
                f'witness = {{ logs = {{ {{ key = "{key}" }} }} }}\n')
    other.start()
    witness = other.writ("audit", "key", "--witness", code=0).stdout.strip()
    a.stop()
    a.write("writ.lua", a.config + f'audit = {{ witness_interval = "100ms", witnesses = {{ {{ name = "w", key = "{witness}", '
            f'url = "https://localhost:{other.tls_port}/witness" }} }} }}\n'
            f'fetch = {{ private = true, ca_file = "{other.path("writ-data", "bundle.pem")}" }}\n')
    a.start()
    _, second = rotate(a)
    some(a, 3)
    size = int(note_of(a).split(b"\n")[1])

    def cosigned():
        path = os.path.join(a.data, "cosigned-checkpoint")
        if not os.path.exists(path):
            return False
        with open(path, "rb") as f:
            return int(f.read().split(b"\n")[1]) >= size
    for _ in range(3000):
        if cosigned():
            break
        threading.Event().wait(0.01)
    check(cosigned(), a.admin("GET", "/v1/audit/witnesses").body)
    path = a.export("witnessed.jsonl", "--witnessed")
    a.write("policy", f"log {key}\nwitness w {witness}\nquorum w\n")
    got = holds(path, "--witness-policy", a.path("policy"))
    equal((got["anchoring"], got["key_id"]), ("yes", key_id(second)), f"{got}")


if __name__ == "__main__":
    main()
