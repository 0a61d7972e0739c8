#!/usr/bin/env -S python3 -B
"""The log: what is in it, that it proves itself to an outsider, and that no damage goes unseen."""
import base64
import hashlib
import json
import os
import re
import shutil
import sqlite3

from harness import AGENT, TRUST_DOMAIN, Deployment, Failure, check, equal, leaves, main, openssl, test

shared = exported = key = None


def server():
    """A server with some of everything on record, its export and its verifier key."""
    global shared, exported, key
    if shared is None:
        shared = Deployment().start()
        shared.register()
        for n in range(20):
            shared.evaluate("payments/create", {"amount": n * 100, "to": "supplier"},
                            headers={"X-Request-ID": f"secret-request-{n}"})
            shared.evaluate("files/delete")
        shared.evaluate(agent="mallory@evil.example")
        exported, key = shared.export(), shared.log_key()
    return shared


def leaf_hash(line):
    return hashlib.sha256(b"\0" + line).hexdigest()


def verify(path, *more, with_key=True):
    return server().writ("audit", "verify", *(["--key", key] if with_key else []), *more, path)


@test
def an_export_verifies():
    server()
    done = verify(exported)
    equal(done.returncode, 0, f"exit code ({done.stdout} {done.stderr})")
    equal(verify(exported, with_key=False).returncode, 3, "exit code without a key from outside")
    with open(server().path("log.vkey"), "w", encoding="ascii") as f:
        f.write(key + "\n")
    equal(server().writ("audit", "verify", "--key", "@" + f.name, exported).returncode, 0, "exit code with @FILE")


@test
def exit_codes_of_verify():
    d = server()
    other = Deployment(policies={}).start(path="/livez")
    foreign = other.log_key()
    other.close()
    code = d.writ("audit", "verify", "--key", foreign, exported).returncode
    check(code in (1, 3), f"another log's key: exit code {code}")
    equal(d.writ("audit", "verify", "--key", key, d.path("nothing")).returncode, 4, "exit code, no such file")
    equal(d.writ("audit", "verify", "--key", "nonsense", exported).returncode, 2, "exit code, no key at all")
    equal(d.writ("audit", "verify", "--key", key).returncode, 2, "exit code, no file given")
    garbage = d.path("garbage")
    for content in (b"", b"\n", b"{}\n", b"\0" * 100, b"hello\n"):
        with open(garbage, "wb") as f:
            f.write(content)
        code = d.writ("audit", "verify", "--key", key, garbage).returncode
        check(code in (1, 4), f"{content[:10]!r}: exit code {code}")


@test
def sequence_and_chain_have_no_gaps():
    server()
    records = leaves(exported)
    equal(sorted(records), list(range(len(records))), "sequence numbers")
    before, time = "0" * 64, 0
    for seq in sorted(records):
        line, record = records[seq]
        equal(record["prev"], before, f"prev of record {seq}")
        check(record["time"] >= time, f"time of record {seq} goes back")
        before, time = leaf_hash(line), record["time"]


@test
def an_answer_is_in_the_export_as_it_said():
    d = server()
    answers = [d.evaluate("payments/create", {"amount": n}).json["context"] for n in range(5)]
    path = d.export("answers.jsonl")
    records = leaves(path)
    for c in answers:
        line, record = records[c["record"]["seq"]]
        equal(leaf_hash(line), c["record"]["leaf"], "leaf hash")
        equal((record["decision"], record["rule"], record["generation"]), ("permit", "finance/payments",
                                                                           c["generation"]), "record")
    equal(d.writ("audit", "verify", "--key", key, path).returncode, 0, "exit code")


@test
def a_decision_record_is_flat_and_complete():
    server()
    for line, record in leaves(exported).values():
        check(all(type(v) in (str, int) for v in record.values()), f"not flat: {record}")
        canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        equal(canonical, line, "canonical form")
        for name in ("v", "seq", "time", "node", "boot", "kind", "prev"):
            check(name in record, f"{name} is missing: {record}")
        check(len(line) < 900, f"{len(line)} bytes: {record}")
    decisions = [r for _, r in leaves(exported).values() if r["kind"] == "authz.decision"]
    check(len(decisions) >= 41, f"{len(decisions)} decisions")
    for record in decisions:
        for name in ("pep", "action", "decision", "reason", "generation", "policy_sha256", "engine", "cost_us",
                     "input_commit", "facts_commit"):
            check(name in record, f"{name} is missing: {record}")
        # An answer without message and obligations has nothing to be committed to.
        if record["reason"] in ("deleting_forbidden", "unknown_agent"):
            check("answer_commit" in record, f"answer_commit is missing: {record}")
        check(record["decision"] in ("permit", "deny", "ask"), repr(record))
    equal({r["decision"] for r in decisions}, {"permit", "deny", "ask"}, "decisions")
    check(all(r.get("agent") == AGENT for r in decisions if r["reason"] != "unknown_agent"), "agents")
    check(all(r["tool"] in ("payments/create", "files/delete", "ledger/query") for r in decisions if "tool" in r), "tools")


@test
def leaves_hold_nothing_foreign():
    server()
    with open(exported, "rb") as f:
        text = f.read()
    lines = [line for line, _ in leaves(exported).values()]
    for secret in (b"secret-request", b"mallory", b"supplier"):
        check(not any(secret in line for line in lines), f"{secret!r} is in a leaf")
        check(secret in text, f"{secret!r} is in no opening")


@test
def openings_open_their_commitments():
    """Whatever the formula, an opening's change must be seen; see the table of damage. Here: each
    decision has its three openings, and the input is the request in canonical form."""
    server()
    with open(exported, "rb") as f:
        openings = [json.loads(line) for line in f if line.startswith(b'{"opening"')]
    check(openings, "no openings")
    check(any('"amount":300' in json.dumps(o, separators=(",", ":")).replace('\\"', '"') for o in openings),
          "no opening holds a request")


@test
def kinds_tell_the_story():
    d = server()
    kinds = [r["kind"] for _, (_, r) in sorted(leaves(d.export("kinds.jsonl")).items())]
    equal(kinds[0], "log.open", "first record")
    for kind in ("policy.load", "admin.action", "authz.decision", "log.export"):
        check(kind in kinds, f"no {kind} in {sorted(set(kinds))}")
    check(kinds.index("policy.load") < kinds.index("authz.decision"), "a decision before its policies")


def root_of(hashes):
    """RFC 6962 2.1, by the book."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\1" + root_of(hashes[:k]) + root_of(hashes[k:])).digest()


@test
def a_checkpoint_is_a_signed_note_over_the_tree():
    """Computed again here with nothing of writ's: tree, root, key id, Ed25519."""
    d = server()
    reply = d.admin("POST", "/v1/audit/checkpoint")
    check(reply.status in (200, 201), repr(reply))
    note = reply.body.decode()
    if note.startswith("{"):
        note = reply.json["checkpoint"]
    text, signatures = note.split("\n\n")
    origin, size, root = text.split("\n")[:3]
    equal(origin, f"{TRUST_DOMAIN}/writ", "origin")
    records = leaves(d.export("tree.jsonl"))
    hashes = [bytes.fromhex(leaf_hash(records[n][0])) for n in range(int(size))]
    equal(base64.b64encode(root_of(hashes)).decode(), root, "root")
    name, key_id, material = key.split("+", 2)
    equal(name, origin, "name of the key")
    material = base64.b64decode(material)
    equal(material[0], 1, "signature type")
    equal(hashlib.sha256(name.encode() + b"\n" + material).hexdigest()[:8], key_id, "key id")
    signature = base64.b64decode(re.search(r"— " + re.escape(name) + r" (\S+)", signatures).group(1))
    equal(signature[:4].hex(), key_id, "key id of the signature")
    files = {n: d.path(n) for n in ("pub", "msg", "sig")}
    for name, data in (("pub", bytes.fromhex("302a300506032b6570032100") + material[1:]), ("msg", text.encode() + b"\n"),
                       ("sig", signature[4:])):
        with open(files[name], "wb") as f:
            f.write(data)
    openssl("pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", files["pub"], "-rawin", "-in", files["msg"],
            "-sigfile", files["sig"])


# --- damage ---------------------------------------------------------------------------------

def lines_of(path):
    with open(path, "rb") as f:
        return f.read().splitlines(keepends=True)


def at(lines, seq):
    return next(i for i, line in enumerate(lines) if b'"kind":' in line and
                re.search(rb'[,{]"seq":%d[,}]' % seq, line) and not line.startswith(b'{"opening"'))


def edit(lines, seq):
    i = at(lines, seq)
    new = lines[i].replace(b'"decision":"deny"', b'"decision":"ask!"')
    check(new != lines[i], "the test chose a record without a deny")
    lines[i] = new


def edit_time(lines, seq):
    i = at(lines, seq)
    lines[i] = re.sub(rb'("time":\d+)(\d)', lambda m: m.group(1) + (b"1" if m.group(2) != b"1" else b"2"), lines[i])


def delete(lines, seq):
    i = at(lines, seq)
    del lines[i]
    while lines[i].startswith(b'{"opening"'):
        del lines[i]


def insert(lines, seq):
    i = at(lines, seq)
    lines.insert(i, lines[i])


def swap(lines, seq):
    i, j = at(lines, seq), at(lines, seq + 1)
    lines[i], lines[j] = lines[j], lines[i]


def opening(lines, seq):
    i = at(lines, seq) + 1
    while b"files/delete" not in lines[i]:  # the input's; each record has up to three
        check(lines[i].startswith(b'{"opening"'), f"record {seq} has no opening of its input")
        i += 1
    lines[i] = lines[i].replace(b"files/delete", b"files/remove")


def rechain(lines, seq):
    """What an operator who can do everything but sign would do: edit, and repair the chain."""
    edit(lines, seq)
    before = None
    for i, line in enumerate(lines):
        if line.startswith((b'{"opening"', b'{"header"', b'{"trailer"', b'{"leaf_hash"')):
            continue
        if before:
            line = re.sub(rb'"prev":"[0-9a-f]{64}"', b'"prev":"%s"' % before.encode(), line)
            lines[i] = line
        before = leaf_hash(line.rstrip(b"\n"))


def denied():
    """The number of a denied decision in the middle of the export."""
    found = [s for s, (_, r) in leaves(exported).items() if r.get("decision") == "deny" and r.get("tool")]
    return sorted(found)[len(found) // 2]


@test
def each_damage_is_seen_and_the_record_named():
    d = server()
    seq = denied()
    for why, damage, fault, named in (
            ("edit", edit, "edit", {seq}), ("edited time", edit_time, "edit", {seq}),
            ("deletion", delete, "deletion", {seq}), ("insertion", insert, "insertion", {seq, seq + 1}),
            ("swap", swap, "swap", {seq, seq + 1}), ("edited opening", opening, "opening", {seq})):
        lines = lines_of(exported)
        damage(lines, seq)
        path = d.path("damaged.jsonl")
        with open(path, "wb") as f:
            f.writelines(lines)
        done = verify(path)
        said = done.stdout + done.stderr
        equal(done.returncode, 1, f"{why}: exit code ({said})")
        check(any(re.search(rf"record: (one of )?{n}\b", said) for n in named),
              f"{why}: record {sorted(named)} is not named: {said}")
        check(f"fault: {fault}" in said, f"{why}: expected the fault {fault}: {said}")


@test
def a_repaired_chain_does_not_help():
    lines = lines_of(exported if server() else None)
    rechain(lines, denied())
    path = server().path("rechained.jsonl")
    with open(path, "wb") as f:
        f.writelines(lines)
    done = verify(path)
    equal(done.returncode, 1, "exit code")
    check("fault: rewrite" in done.stdout, f"expected the fault rewrite: {done.stdout}")


@test
def a_checkpoint_held_from_before_catches_a_rollback():
    d = server()
    early = d.export("early.jsonl")
    d.evaluate()
    held = d.path("held.note")
    with open(held, "w", encoding="utf-8") as f:
        f.write(d.writ("audit", "checkpoint", code=0).stdout)
    late = d.export("late.jsonl")
    equal(verify(late, "--checkpoint", held).returncode, 0, "exit code of a log that goes on")
    equal(verify(early).returncode, 0, "exit code of the early export by itself")
    equal(verify(early, "--checkpoint", held).returncode, 1, "exit code of a log shorter than what was signed")
    with open(held, "a", encoding="utf-8") as f:
        f.write("nonsense\n")
    equal(verify(late, "--checkpoint", held).returncode, 2, "exit code with a malformed checkpoint")


@test
def truncation_is_seen():
    d = server()
    for why, cut in (("the trailer is gone", lambda ls: ls[:-1]),
                     ("the last records are gone", lambda ls: ls[:-8] + ls[-1:]),
                     ("half a line", lambda ls: ls[:-1] + [ls[-1][:-10]]),
                     ("the header is gone", lambda ls: ls[1:]),
                     ("the first records are gone", lambda ls: ls[:1] + ls[6:]),
                     ("only the ends", lambda ls: [ls[0], ls[-1]])):
        path = d.path("cut.jsonl")
        with open(path, "wb") as f:
            f.writelines(cut(lines_of(exported)))
        done = verify(path)
        check(done.returncode in (1, 4), f"{why}: exit code {done.returncode} ({done.stdout} {done.stderr})")


@test
def every_byte_counts():
    """Flip one bit in each of many places of the records and their openings: none verifies."""
    d = server()
    with open(exported, "rb") as f:
        data = f.read()
    path = d.path("flipped.jsonl")
    first, last = data.index(b"\n") + 1, data.rindex(b"\n", 0, -1)
    for n in range(first + 7, last, max(1, (last - first) // 60)):
        damaged = bytearray(data)
        damaged[n] ^= 1
        with open(path, "wb") as f:
            f.write(damaged)
        check(verify(path).returncode != 0, f"byte {n} was changed unseen: {data[n - 40:n + 40]!r}")


@test
def a_change_in_the_database_is_seen():
    d = Deployment().start()
    d.register()
    for _ in range(10):
        d.evaluate("files/delete")
    k = d.log_key()
    d.stop()
    db = sqlite3.connect(os.path.join(d.data, "log.db"))
    # Who can write the file can also remove what guards it.
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f'DROP TRIGGER "{name}"')
    columns = {row[1]: row[2] for row in db.execute("PRAGMA table_info(leaf)")}
    check(columns, "there is no table leaf")
    changed = None
    for column in columns:
        for rowid, value in db.execute(f"SELECT rowid, {column} FROM leaf ORDER BY rowid LIMIT -1 OFFSET 4").fetchall():
            data = value if isinstance(value, bytes) else str(value).encode()
            if b'"decision":"deny"' in data and changed is None:
                new = data.replace(b'"decision":"deny"', b'"decision":"ask!"')
                db.execute(f"UPDATE leaf SET {column} = ? WHERE rowid = ?",
                           (new if isinstance(value, bytes) else new.decode(), rowid))
                changed = json.loads(data)["seq"]
    db.commit()
    db.close()
    check(changed is not None, f"no denied record found in the columns {columns}")
    # Either it refuses to go on with such a log, or what it exports does not verify.
    try:
        d.start()
    except Failure:
        return
    path = d.path("tampered.jsonl")
    if d.writ("audit", "export", "--output", path).returncode == 0:
        done = d.writ("audit", "verify", "--key", k, path)
        equal(done.returncode, 1, "exit code")
        check(re.search(rf"\b{changed}\b", done.stdout + done.stderr), f"record {changed} is not named: {done}")


@test
def an_older_copy_of_the_log_is_refused():
    d = Deployment().start()
    d.register()
    d.stop()
    old = {n: d.path(n + ".old") for n in os.listdir(d.data) if n.startswith("log.db")}
    for name, copy in old.items():
        shutil.copy2(os.path.join(d.data, name), copy)
    d.start()
    for _ in range(5):
        d.evaluate()
    d.admin("POST", "/v1/audit/checkpoint")
    d.stop()
    for name in [n for n in os.listdir(d.data) if n.startswith("log.db")]:
        os.unlink(os.path.join(d.data, name))
    for name, copy in old.items():
        shutil.copy2(copy, os.path.join(d.data, name))
    try:
        d.start()
    except Failure as e:
        check("ended with" in str(e), str(e))
        return
    raise Failure("it started with a log that is older than its last checkpoint")


@test
def a_filtered_export_verifies_and_shows_its_gaps():
    d = server()
    path = d.export("filtered.jsonl", "--decision", "deny")
    done = verify(path)
    equal(done.returncode, 0, f"exit code ({done.stdout} {done.stderr})")
    with open(path, "rb") as f:
        withheld = sum(line.startswith(b'{"leaf_hash"') for line in f)
    check(withheld > 0, "nothing is withheld")
    check(re.search(rf"\b{withheld}\b", done.stdout), f"verify does not speak of {withheld} withheld: {done.stdout}")
    check(all(r.get("decision") == "deny" for _, r in leaves(path).values()), "others are in it")
    path = d.export("range.jsonl", "--from", "10")
    equal(verify(path).returncode, 0, "exit code for a range")
    equal(min(leaves(path)), 10, "first record of the range")


@test
def records_are_paged():
    d = server()
    newest = d.admin("GET", "/v1/audit/records?limit=5").json["records"]
    equal(len(newest), 5, "records without a place to begin: the newest")
    seen, after = [], 0
    for _ in range(1000):
        reply = d.admin("GET", f"/v1/audit/records?limit=7&after={after}")
        equal(reply.status, 200, repr(reply))
        page = reply.json["records"]
        if not page:
            break
        check(len(page) <= 7, f"{len(page)} records on a page")
        numbers = [r["seq"] for r in page]
        check(numbers[0] > after, f"page after {after} begins with {numbers[0]}")
        seen += numbers
        after = numbers[-1]
    check(seen == list(range(1, len(seen) + 1)), "records came twice, out of order or with gaps")
    check(len(seen) >= 40 and newest[-1]["seq"] in seen, f"{len(seen)} records in all")
    only = d.admin("GET", "/v1/audit/records?limit=1000&after=0&decision=ask").json["records"]
    check(only and all(r["decision"] == "ask" for r in only), f"filtered: {only[:3]}")
    for query in ("?limit=0", "?limit=x", "?after=-1", "?limit=99999999999", "?nonsense=1", "?limit=1&limit=2"):
        status = d.admin("GET", "/v1/audit/records" + query).status
        equal(status, 400, f"status for {query}")


@test
def an_answer_of_a_stopped_log_is_kept_across_restarts():
    d = Deployment().start()
    d.register()
    c = d.evaluate().json["context"]
    d.restart()
    records = leaves(d.export())
    line, _ = records[c["record"]["seq"]]
    equal(leaf_hash(line), c["record"]["leaf"], "leaf hash after a restart")
    kinds = [r["kind"] for _, (_, r) in sorted(records.items())]
    check(kinds.count("log.open") == 2 and "log.close" in kinds and "log.gap" not in kinds, f"kinds {kinds}")
    equal(d.writ("audit", "verify", "--key", d.log_key(), d.path("export.jsonl")).returncode, 0, "exit code")


if __name__ == "__main__":
    main()
