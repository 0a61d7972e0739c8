#!/usr/bin/env -S python3 -B
"""Witnesses: two real servers that cosign each other's checkpoints; logs that lie; witnesses that do."""
import base64
import hashlib
import json
import os
import tempfile
import threading
import time

from harness import Deployment, check, equal, is_error, leaves, main, openssl, test

OTHER = "other.example"
FAST = 'audit = { witness_interval = "100ms"%s }\nfetch = { private = true%s }\n'
SEED = bytes(range(32))
LIAR = "liar.example/log"


# --- the bytes of C2SP, once more in another language ------------------------------------------

def sha256(data):
    return hashlib.sha256(data).digest()


def root(leaves_):
    if not leaves_:
        return sha256(b"")
    if len(leaves_) == 1:
        return leaves_[0]
    k = 1
    while k * 2 < len(leaves_):
        k *= 2
    return sha256(b"\1" + root(leaves_[:k]) + root(leaves_[k:]))


def consistency(m, leaves_, whole=True):
    n = len(leaves_)
    if m == n:
        return [] if whole else [root(leaves_)]
    k = 1
    while k * 2 < n:
        k *= 2
    if m <= k:
        return consistency(m, leaves_[:k], whole) + [root(leaves_[k:])]
    return consistency(m - k, leaves_[k:], False) + [root(leaves_[:k])]


def b64(data):
    return base64.b64encode(data).decode()


class Log:
    """A log that signs whatever it is told to."""

    def __init__(self, folder, origin=LIAR, seed=SEED):
        self.origin = origin
        self.key = os.path.join(folder, origin.replace("/", "-") + seed[:2].hex() + ".der")
        with open(self.key, "wb") as f:  # RFC 8410
            f.write(bytes.fromhex("302e020100300506032b657004220420") + seed)
        public = openssl("pkey", "-in", self.key, "-inform", "DER", "-pubout", "-outform", "DER")[-32:]
        self.id = sha256(origin.encode() + b"\n\1" + public)[:4]
        self.vkey = f"{origin}+{self.id.hex()}+{b64(bytes([1]) + public)}"

    def note(self, size, hash_, key=None):
        text = f"{self.origin}\n{size}\n{b64(hash_)}\n".encode()
        with open(self.key + ".text", "wb") as f:
            f.write(text)
        signature = openssl("pkeyutl", "-sign", "-inkey", (key or self).key, "-keyform", "DER", "-rawin", "-in",
                            self.key + ".text")
        return text + f"\n— {self.origin} {b64(self.id + signature)}\n".encode()

    def body(self, old, leaves_, proof=None, size=None):
        proof = consistency(old, leaves_) if proof is None and old else proof or []
        lines = [f"old {old}"] + [b64(h) for h in proof]
        return "\n".join(lines).encode() + b"\n\n" + self.note(len(leaves_) if size is None else size, root(leaves_))


def add(d, body):
    return d.operators("POST", "/witness/add-checkpoint", body, {"Content-Type": "text/plain"})


def tree(n, salt=b""):
    return [sha256(b"\0" + salt + bytes([i])) for i in range(n)]


def records(d, kind):
    return [r for _, r in leaves(d.export(f"all-{time.monotonic_ns()}.jsonl")).values() if r["kind"] == kind]


def verify_line(line, vkey, text):
    """Is @line the cosignature of @vkey over @text? Its time."""
    name, key_id, key = vkey.split("+", 2)
    dash, got, signature = line.split(" ")
    equal((dash, got), ("—", name), "who cosigned")
    raw, public = base64.b64decode(signature), base64.b64decode(key)
    equal(raw[:4].hex(), key_id, "key id")
    equal(len(raw), 76, "bytes of a cosignature")
    equal(public[0], 4, "type of the key")
    at = int.from_bytes(raw[4:12], "big")
    with tempfile.TemporaryDirectory(prefix="writ-") as folder:
        for part, data in (("key", bytes.fromhex("302a300506032b6570032100") + public[1:]), ("sig", raw[12:]),
                           ("msg", f"cosignature/v1\ntime {at}\n".encode() + text)):
            with open(os.path.join(folder, part), "wb") as f:
                f.write(data)
        openssl("pkeyutl", "-verify", "-pubin", "-inkey", f"{folder}/key", "-keyform", "DER", "-rawin", "-in",
                f"{folder}/msg", "-sigfile", f"{folder}/sig")
    return at


def witness_of(log, **more):
    d = Deployment(**more)
    d.config += f'witness = {{ logs = {{ {{ key = "{log.vkey}" }} }} }}\n'
    d.write("writ.lua", d.config)
    return d


@test
def add_checkpoint_by_the_book():
    d = Deployment()
    log = Log(d.dir)
    other = Log(d.dir, seed=bytes(32))
    stranger = Log(d.dir, origin="stranger.example/log")
    d.config += f'witness = {{ logs = {{ {{ origin = "{LIAR}", key = "{log.vkey}" }} }} }}\n'
    d.write("writ.lua", d.config)
    d.start()
    vkey = d.writ("audit", "key", "--witness", code=0).stdout.strip()
    check(vkey.startswith("example.org/writ/witness+"), vkey)
    five, eight = tree(5), tree(8)
    wrong = consistency(5, eight)
    wrong[0] = bytes(32)

    def now(body, status, why, text=None):
        reply = add(d, body)
        equal(reply.status, status, f"{why}: {reply}")
        if text is not None:
            equal(reply.body, text, why)
        return reply

    is_error(now(b"", 400, "empty"), 400)
    is_error(now(b"old 01\n\n" + log.note(5, root(five)), 400, "leading zero"), 400)
    is_error(now(b"old 0\nAAAA\n\n" + log.note(5, root(five)), 400, "a short hash"), 400)
    is_error(now(log.body(0, five)[:-1], 400, "cut"), 400)
    is_error(now(b"old 6\n\n" + log.note(5, root(five)), 400, "old is more than size"), 400)
    equal(is_error(now(stranger.body(0, five), 404, "unknown origin"), 404)["code"], "unknown_log", "code")
    forged = b"old 0\n\n" + log.note(5, root(five), key=other)
    equal(is_error(now(forged, 403, "a known key, a wrong signature"), 403)["code"], "bad_signature", "code")
    is_error(now(b"old 0\n\n" + other.note(5, root(five)), 403, "the origin, another key"), 403)
    is_error(now(log.body(0, five, proof=[bytes(32)]), 422, "a proof with old 0"), 422)
    is_error(now(log.body(0, five, size=0), 422, "size 0 with another root"), 422)
    reply = now(log.body(3, five), 409, "old is not what is held", b"0\n")
    equal(reply.headers.get("content-type"), "text/x.tlog.size", "type of a 409")

    reply = now(log.body(0, five), 200, "the first")
    first = log.note(5, root(five)).split(b"\n\n")[0] + b"\n"
    at = verify_line(reply.body.decode().rstrip("\n"), vkey, first)
    check(abs(at - time.time()) < 60, f"time of the cosignature: {at}")
    equal(now(log.body(5, five), 200, "the same again").body, reply.body, "a cosignature that was just made")
    now(log.body(0, eight), 409, "old is not what is held", b"5\n")
    is_error(now(log.body(5, eight, proof=wrong), 422, "a wrong proof"), 422)
    is_error(now(log.body(5, eight, proof=[]), 422, "no proof"), 422)
    is_error(now(log.body(5, tree(5, b"x"), proof=[]), 422, "the same size, another root"), 422)
    is_error(now(log.body(5, tree(9, b"x")), 422, "another history"), 422)
    now(log.body(3, tree(4)), 409, "a smaller tree", b"5\n")
    now(log.body(5, eight), 200, "it goes on")

    origin = hashlib.sha256(LIAR.encode()).hexdigest()
    kept = d.http("GET", f"/witness/{origin}/checkpoint")
    equal(kept.status, 200, "the last one")
    check(kept.body.startswith(log.note(8, root(eight))), f"the log's note comes first: {kept.body}")
    is_error(d.http("GET", f"/witness/{'0' * 64}/checkpoint"), 404)
    is_error(d.http("GET", "/witness/other"), 404)

    done = records(d, "witness.cosign")
    equal([(r["origin"], r["old_size"], r["log_size"]) for r in done], [(LIAR, 0, 5), (LIAR, 5, 8)], "on record")
    refused = records(d, "witness.refuse")
    forks = [r for r in refused if r["reason"] == "fork"]
    equal([(r["log_size"], r["held_size"]) for r in forks if "held_size" in r], [(5, 5)], "the fork")
    status = json.loads(d.writ("audit", "witness", "status", "--json", code=1).stdout)
    equal([(s["origin"], s["size"], s["cosigned"], s["forks"]) for s in status["logs"]], [(LIAR, 8, 2, 2)], "status")
    check("witnessed_fork" in d.writ("doctor").stdout, "doctor names the fork")
    check('writ_witnessed_records{origin="liar.example/log"} 8' in d.admin("GET", "/metrics").body.decode(), "metrics")


@test
def evidence_of_a_fork_is_on_record():
    d = Deployment()
    log = Log(d.dir)
    d = witness_of(log).start()
    equal(add(d, log.body(0, tree(5))).status, 200, "the first")
    lie = log.body(5, tree(5, b"x"), proof=[])
    for _ in range(3):
        equal(add(d, lie).status, 422, "a fork")
    forks = [r for r in records(d, "witness.refuse") if r["reason"] == "fork"]
    equal(len(forks), 1, "recorded once, however often it is shown")
    with open(d.export("evidence.jsonl"), encoding="utf-8") as f:
        openings = [json.loads(line)["opening"] for line in f if line.startswith('{"opening"')]
    found = [o["value"] for o in openings if o["seq"] == forks[0]["seq"]]
    equal(len(found), 1, "openings of the record")
    equal(found[0]["checkpoint"].encode(), lie.split(b"\n\n", 1)[1], "what was refused, whole")
    check(found[0]["held"].encode().startswith(log.note(5, root(tree(5)))), "what was cosigned, whole")


@test
def a_crash_loses_no_state():
    """kill -9 while it cosigns: what left is on disk, and what is on disk can be asked for again."""
    d = Deployment()
    log = Log(d.dir)
    d = witness_of(log).start()
    vkey = d.writ("audit", "key", "--witness", code=0).stdout.strip()
    held = 0
    for round_ in range(6):
        bodies = [log.body(old, tree(old + 1)) for old in range(held, held + 12)]
        got = []

        def ask():
            try:
                for body in bodies:
                    reply = add(d, body)
                    if reply.status == 200:
                        got.append(reply.body)
            except (OSError, Exception):
                pass

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.002 * round_ * round_)
        d.kill()
        thread.join()
        d.start()
        size = int(add(d, log.body(200, tree(201))).body)
        check(held + len(got) <= size <= held + len(got) + 1,
              f"{len(got)} cosignatures left since {held}, but it holds {size}")
        if size:  # the one whose cosignature did not leave
            reply = add(d, log.body(size, tree(size), proof=[]))
            equal(reply.status, 200, "asked again")
            verify_line(reply.body.decode().rstrip("\n"), vkey, log.note(size, root(tree(size))).split(b"\n\n")[0] + b"\n")
        equal(add(d, log.body(0, tree(max(size - 1, 1)), proof=[])).status, 409 if size else 200, "a smaller tree")
        held = max(size, 1)
    check(held > 3, f"only {held} were cosigned in all")


@test
def a_new_witness_key_is_not_the_old_witness():
    d = Deployment()
    log = Log(d.dir)
    d = witness_of(log).start()
    equal(add(d, log.body(0, tree(2))).status, 200, "the first")
    equal(os.stat(os.path.join(d.data, "keys", "witness.key")).st_mode & 0o777, 0o600, "mode of the key")
    d.stop()
    os.remove(os.path.join(d.data, "keys", "witness.key"))
    d.spawn()
    equal(d.process.wait(20), 1, "exit code")
    check("witness.key is not the key that cosigned" in d.stderr(), d.stderr()[-500:])
    d.collect()


@test
def one_address_asks_so_often():
    d = Deployment()
    log = Log(d.dir)
    d = witness_of(log).start()
    body = log.body(0, tree(2))
    statuses = [add(d, body).status for _ in range(300)]
    check(set(statuses) == {200, 409, 429}, f"statuses {set(statuses)}")
    check(statuses.index(429) >= 100, f"refused after {statuses.index(429)}")
    equal(len(records(d, "witness.cosign")), 1, "cosignatures on record")
    equal(d.admin("POST", "/v1/audit/checkpoint").status, 200, "who has to do with the server otherwise")


@test
def without_logs_there_is_no_witness():
    d = Deployment().start()
    log = Log(d.dir)
    is_error(add(d, log.body(0, tree(2))), 404)
    equal(d.writ("audit", "key", "--witness").returncode, 1, "exit code")
    check("no witnesses" in d.writ("audit", "witness", "status", code=0).stdout, "status")
    check(not os.path.exists(os.path.join(d.data, "keys", "witness.key")), "a key that nobody asked for")


# --- two real ones ---------------------------------------------------------------------------

def named(trust_domain):
    d = Deployment()
    d.config = d.config.replace('trust_domain = "example.org"', f'trust_domain = "{trust_domain}"')
    d.write("writ.lua", d.config)
    return d


def configure(d, of, of_vkey, witness_vkey=None):
    """@d watches @of, and is watched by it."""
    witnesses = (f', witnesses = {{ {{ name = "peer", url = "https://localhost:{of.tls_port}/witness",'
                 f' key = "{witness_vkey}" }} }}' if witness_vkey else "")
    d.write("writ.lua", d.config + FAST % (witnesses, f', ca_file = "{of.path("writ-data", "bundle.pem")}"') +
            f'witness = {{ logs = {{ {{ key = "{of_vkey}" }} }} }}\n')


def pair():
    ours, other = named("example.org").start(), named(OTHER).start()
    keys = ours.log_key(), other.log_key()
    configure(ours, other, keys[1])
    configure(other, ours, keys[0])
    ours.restart()
    other.restart()
    witness_keys = [d.writ("audit", "key", "--witness", code=0).stdout.strip() for d in (ours, other)]
    configure(ours, other, keys[1], witness_keys[1])
    configure(other, ours, keys[0], witness_keys[0])
    return ours.restart(), other.restart(), keys, witness_keys


def status(d):
    return json.loads(d.writ("audit", "witness", "status", "--json").stdout)


def wait_until(claim, why, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if claim():
            return
        time.sleep(0.05)
    check(False, why() if callable(why) else why)


def cosigned(d, least=1):
    wait_until(lambda: status(d)["witnesses"][0]["size"] >= least, lambda: f"not cosigned: {status(d)}")
    return status(d)["witnesses"][0]


@test
def two_that_watch_each_other():
    ours, other, keys, witness_keys = pair()
    for d, key, witness_key in ((ours, keys[0], witness_keys[1]), (other, keys[1], witness_keys[0])):
        cosigned(d, 5)
        policy = d.write("policy", f"log {key}\nwitness peer {witness_key}\nquorum peer\n")
        plain = d.export("plain.jsonl")
        done = d.writ("audit", "verify", "--key", key, plain, code=0)
        check("anchoring: unknown" in done.stdout, done.stdout)
        path = d.export("witnessed.jsonl", "--witnessed")
        done = d.writ("audit", "verify", "--witness-policy", policy, path, code=0)
        check("anchoring: yes" in done.stdout and "authenticity: yes" in done.stdout, done.stdout)
        check("witnessed" in done.stdout, done.stdout)
        # Tiles and a single proof carry the cosignature, too.
        public = d.path("public")
        d.writ("audit", "publish", public, "--entries", code=0)
        done = d.writ("audit", "verify", "--witness-policy", policy, public, code=0)
        check("anchoring: yes" in done.stdout, done.stdout)
        proof = d.path("one.tlog-proof")
        d.writ("audit", "prove", "1", "--output", proof, code=0)
        done = d.writ("audit", "verify", "--witness-policy", policy, proof, code=0)
        check("anchoring: yes" in done.stdout, done.stdout)
        shown = d.admin("GET", "/checkpoint").body.decode()
        line = [s for s in shown.split("\n") if s.startswith("— ") and "/witness " in s]
        equal(len(line), 1, f"cosignatures at /checkpoint: {shown}")
        verify_line(line[0], witness_key, shown.split("\n\n")[0].encode() + b"\n")
        check("peer" in d.writ("audit", "witness", "status").stdout, "the table")
        check('writ_witness_failures{witness="peer"} 0' in d.admin("GET", "/metrics").body.decode(), "metrics")
    # The one is down: nobody waits for it, and it is on record; it comes back and is asked again.
    other.stop()
    ours.register()
    wait_until(lambda: status(ours)["witnesses"][0]["state"] == "failing", "an outage is not seen")
    equal(ours.evaluate().status, 200, "a decision meanwhile")
    check("peer" in ours.writ("doctor").stdout, "doctor says nothing")
    other.start()
    size = status(ours)["witnesses"][0]["size"]
    cosigned(ours, size + 1)
    wait_until(lambda: [(r["outcome"], r["witness"]) for r in records(ours, "log.witness")][-2:] ==
               [("failed", "peer"), ("cosigned", "peer")], "the outage is not on record")
    # Without witnesses what they signed is not shown any longer.
    ours.write("writ.lua", ours.config)
    ours.restart()
    check("/witness " not in ours.admin("GET", "/checkpoint").body.decode(), "a cosignature of before is still shown")


@test
def a_log_that_was_rolled_back_is_caught():
    """The operator puts an older log back, anchor included: our side cannot see it, the witness does."""
    ours, other, keys, _ = pair()
    cosigned(ours, 3)
    ours.stop()
    old = {}
    for name in ("log.db", "last-checkpoint", "cosigned-checkpoint"):
        with open(os.path.join(ours.data, name), "rb") as f:
            old[name] = f.read()
    ours.start()
    ours.register()
    before = cosigned(ours, int(old["last-checkpoint"].split(b"\n")[1]) + 4)["size"]
    ours.stop()
    for name, data in old.items():
        with open(os.path.join(ours.data, name), "wb") as f:
            f.write(data)
    for name in ("log.db-wal", "log.db-shm"):
        if os.path.exists(os.path.join(ours.data, name)):
            os.remove(os.path.join(ours.data, name))
    ours.start()
    wait_until(lambda: status(ours)["witnesses"][0].get("code") in ("witness_ahead", "witness_disagrees"),
               lambda: f"not caught: {status(ours)}")
    check(status(other)["logs"][0]["size"] >= before, "the witness went back")


@test
def settings_are_checked():
    good = "writ.example/audit+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    witness = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
    for config, why in (
            (f'witness = {{ logs = {{ {{ key = "{witness}" }} }} }}', "expected a log's"),
            (f'witness = {{ logs = {{ {{ origin = "a" }} }} }}', "key: its verifier key is missing"),
            (f'witness = {{ logs = {{ {{ key = "{good}" }}, {{ key = "{good}" }} }} }}', "is there twice"),
            (f'audit = {{ witnesses = {{ {{ key = "{good}", url = "https://w" }} }} }}', "expected a witness's"),
            (f'audit = {{ witnesses = {{ {{ key = "{witness}" }} }} }}', "url: where it is asked is missing"),
            (f'audit = {{ witnesses = {{ {{ key = "{witness}", url = "http://witness" }} }} }}', "https"),
            (f'audit = {{ witnesses = {{ {{ key = "{witness}", url = "https://w/" }} }} }}', "without a slash"),
            (f'audit = {{ witnesses = {{ {{ key = "{witness}", ulr = "https://w" }} }} }}', 'did you mean "url"'),
            (f'audit = {{ witnesses = {{ {{ key = "{witness}", url = "https://w", name = "a b" }} }} }}', "visible ASCII")):
        d = Deployment()
        d.write("writ.lua", d.config + config + "\n")
        d.spawn()
        equal(d.process.wait(20), 1, f"exit code with {config}")
        check(why in d.stderr(), f"{config}: {d.stderr()[-400:]}")
        d.collect()


if __name__ == "__main__":
    main()
