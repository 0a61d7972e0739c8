#!/usr/bin/env -S python3 -B
"""Everything that can be done to the log afterwards is found, named, and named the same by two verifiers.

The attacks of the audit-log sheet's 10.1, at places chosen by a seed, on an export, on a folder of tiles and on the
database itself; each is judged by `writ audit verify` and by scripts/verify.py. WRIT_TAMPER says how many records (600)
and how many cases (200) there are, as "RECORDS,CASES"; WRIT_SEED chooses others.
"""
import hashlib
import json
import os
import random
import re
import shutil
import sqlite3

import two_verifiers
from harness import ROOT, Deployment, check, equal, main, test
from two_verifiers import Log, grow, prune, verify

RECORDS, CASES = (int(n) for n in os.environ.get("WRIT_TAMPER", "600,200").split(","))
rng = random.Random(int(os.environ.get("WRIT_SEED", "11")))
VERDICTS = ("result", "fault", "bad_seq", "bad_end", "integrity", "completeness", "authenticity", "anchoring",
            "redaction")

DATA = os.path.join(ROOT, "tests/data/audit")
shared = {}


def deployment():
    if "d" not in shared:
        d = Deployment().start()
        d.register()
        grow(d, RECORDS // 2, amount)
        shared["early"] = d.export("early.jsonl")
        with open(d.path("held"), "wb") as f:
            f.write(d.admin("POST", "/v1/audit/checkpoint").body)
        shared["middle"] = d.export("middle.jsonl")
        grow(d, RECORDS, amount)
        shared.update(d=d, key=d.log_key(), export=d.export())
        d.writ("audit", "publish", "--entries", d.path("tiles"), code=0)
        d.writ("audit", "publish", d.path("hashes"), code=0)
    return shared["d"]


def amount(_):
    return rng.randrange(900)


def both(source, *options):
    """The one verdict of both verifiers."""
    return two_verifiers.both(source, "--key", shared["key"], *options)


def expect(why, got, faults, named=None):
    """@faults: those that may be said; @named: records of which the first bad one may be one."""
    check(got["result"] != "holds", f"{why}: it holds")
    if faults is not None:
        check(got.get("fault") in faults, f"{why}: fault is {got.get('fault')}, expected one of {faults}: {got}")
    if named is not None:
        check("bad_seq" in got and set(range(got["bad_seq"], got["bad_end"])) & set(named),
              f"{why}: record {sorted(named)[:5]} is not named: {got}")
    check(got.get("message"), f"{why}: nothing is said")
    check(not why.endswith("a_no_trailer") or "trailer" in got["message"], f"{why}: {got['message']}")


@test
def the_vectors():
    """tests/data/audit: what others can try their verifiers on."""
    old = shared.get("key")
    with open(os.path.join(DATA, "vkey"), encoding="ascii") as f:
        shared["key"] = f.read().strip()
    with open(os.path.join(DATA, "expected.json"), encoding="ascii") as f:
        rows = json.load(f)
    equal({r["source"] for r in rows} | {"vkey", "held", "expected.json"}, set(os.listdir(DATA)), "sources")
    for row in rows:
        got = both(os.path.join(DATA, row["source"]), *(os.path.join(DATA, o) if o == "held" else o for o in row["options"]))
        for name in VERDICTS:
            equal(got.get(name), row.get(name), f"{name} of {row['source']} {row['options']}")
    shared["key"] = old


# --- exports ----------------------------------------------------------------------------------

def leaf_hash(record):
    return hashlib.sha256(b"\0" + record).hexdigest().encode()


def change(record):
    """Another record of the same shape."""
    choices = [(rb'"decision":"\w+"', b'"decision":"never"'), (rb'"time":(\d+)', b'"time":1'),
               (rb'"kind":"[a-z.]+"', b'"kind":"admin.act"'), (rb'"cost_us":\d+', b'"cost_us":99999999'),
               (rb'"reason":"\w+"', b'"reason":"because"'), (rb'"node":"[^"]+"', b'"node":"elsewhere"')]
    while True:
        what, to = rng.choice(choices)
        new = re.sub(what, to, record)
        if new != record:
            return new


def seq_of(x, least=1, most=None):
    return rng.randrange(least, most or len(x.at) - 3)


def a_edit(x):
    s = seq_of(x)
    x.lines[x.at[s]] = change(x.lines[x.at[s]])
    return {"edit"}, {s}


def a_bit(x):
    s = seq_of(x)
    line = bytearray(x.lines[x.at[s]])
    while True:
        at = rng.randrange(len(line))
        new = line[at] ^ 1 << rng.randrange(8)
        if new != 10:
            break
    line[at] = new
    x.lines[x.at[s]] = bytes(line)
    # A bit of seq or prev looks like another attack; what matters is that the place is named.
    return {"edit", "deletion", "insertion", "swap", "opening", "count"}, {s - 1, s, s + 1}


def a_prev(x):
    s = seq_of(x)
    x.lines[x.at[s]] = re.sub(rb'"prev":"[0-9a-f]', b'"prev":"' + rng.choice([b"0", b"f"]), x.lines[x.at[s]], count=1)
    if leaf_hash(x.lines[x.at[s]]) in x.lines[x.at[s + 1]]:
        return a_prev(x)
    return {"edit"}, {s}


def a_delete(x):
    n, s = rng.choice([1, 1, 1, 2, 5, 30]), seq_of(x, most=len(x.at) - 40)
    del x.lines[x.at[s]:x.at[s + n]]
    return {"deletion"}, {s}


def a_insert(x):
    s = seq_of(x)
    x.lines.insert(x.at[s], x.lines[x.at[rng.choice([s - 1, s])]] if rng.random() < 0.5 else change(x.lines[x.at[s]]))
    return {"insertion", "edit"}, {s - 1, s, s + 1}


def a_junk(x):
    s = seq_of(x)
    x.lines.insert(x.at[s], rng.choice([b"{}", b"", b"null", b'{"leaf_hash":"00"}', b"\xff\xfe", b'{"seq":1}',
                                        b'{"header":{}}', b" " * 1000]))
    return {"insertion", "edit"}, {s - 1, s, s + 1}


def a_swap(x):
    s = seq_of(x, most=len(x.at) - 40)
    t = s + rng.choice([1, 1, 2, 3, 17])
    a, b = x.lines[x.at[s]:x.at[s + 1]], x.lines[x.at[t]:x.at[t + 1]]
    x.lines[x.at[s]:x.at[t + 1]] = b + x.lines[x.at[s + 1]:x.at[t]] + a
    return {"swap"}, {s}


def a_rechain(x):
    s = seq_of(x)
    x.lines[x.at[s]] = change(x.lines[x.at[s]])
    x.rechain(s)
    # An opening may notice first, if a commitment was hit; the tree says in which part it was.
    return {"rewrite", "edit"}, {s}


def a_renumber(x):
    """Delete one, renumber and chain the others: only the counts and the root can tell."""
    s = seq_of(x, most=len(x.at) - 40)
    lines, at = [], []
    for seq, i in enumerate(x.at):
        block = x.lines[i:x.at[seq + 1] if seq + 1 < len(x.at) else len(x.lines) - 1]
        if seq == s:
            continue
        n = x.first + seq - (seq > s)
        block = [re.sub(rb'"seq":\d+', b'"seq":%d' % n, line) for line in block]
        at.append(len(lines) + 1)
        lines += block
    y = x
    y.lines, y.at = [x.lines[0], *lines, x.lines[-1]], at
    y.rechain(s - 1)
    return {"truncation", "rewrite", "count"}, None


def a_tail(x):
    n = rng.choice([1, 2, 10, 100])
    del x.lines[x.at[-n]:-1]
    return {"truncation"}, {len(x.at) - n}


def a_cut(x):
    del x.lines[rng.randrange(1, len(x.lines)):]
    return {"truncation"}, None


def a_tail_hidden(x):
    """Cut the tail, and mend every count: the checkpoint speaks of more."""
    n = rng.choice([1, 2, 10, 100])
    left = len(x.at) - n
    del x.lines[x.at[left]:-1]
    x.lines[0] = re.sub(rb'"count":\d+', b'"count":%d' % left, x.lines[0])
    x.lines[0] = re.sub(rb'"size":\d+', b'"size":%d' % (x.first + left), x.lines[0])
    openings = sum(line.startswith(b'{"opening"') for line in x.lines)
    for name, v in (("count", left), ("size", x.first + left), ("openings", openings)):
        x.lines[-1] = re.sub(rb'"%s":\d+' % name.encode(), b'"%s":%d' % (name.encode(), v), x.lines[-1])
    x.lines[-1] = re.sub(rb'"header":"[0-9a-f]+"', b'"header":"' + hashlib.sha256(x.lines[0]).hexdigest().encode() + b'"',
                         x.lines[-1])
    return {"truncation"}, {left}


def a_head(x):
    n = rng.choice([1, 2, 50])
    del x.lines[x.at[0]:x.at[n]]
    return {"deletion", "truncation", "edit"}, {0}


def a_opening(x):
    s = seq_of(x)
    while not x.openings(s):
        s = seq_of(x)
    i = rng.choice(x.openings(s))
    line = x.lines[i]
    what = rng.choice(["value", "salt", "name", "seq", "again"])
    if what == "value":
        at = line.index(b'"value":') + 9
        at = rng.randrange(at, len(line) - 2)
        line = line[:at] + (b"x" if line[at:at + 1] != b"x" else b"y") + line[at + 1:]
    elif what == "salt":
        line = re.sub(rb'"salt":"..', b'"salt":"' + (b"00" if b'"salt":"00' not in line else b"11"), line)
    elif what == "name":
        line = line.replace(b'"name":"input"', b'"name":"facts"') if b'"name":"input"' in line else \
            re.sub(rb'"name":"\w+"', b'"name":"input"', line)
    elif what == "seq":
        line = re.sub(rb'"seq":(\d+)', lambda m: b'"seq":%d' % (int(m[1]) + 1), line)
    else:
        x.lines.insert(i, line)
    x.lines[i] = line
    return {"opening"}, {s}


def a_no_opening(x):
    s = seq_of(x)
    while not x.openings(s):
        s = seq_of(x)
    del x.lines[rng.choice(x.openings(s))]
    return {"count"}, None


def a_withhold(x):
    """A record as a hash only, which the counts do not admit."""
    s = seq_of(x)
    x.lines[x.at[s]:x.at[s + 1]] = [b'{"leaf_hash":"' + leaf_hash(x.lines[x.at[s]]) + b'"}']
    return {"count"}, None


def a_withhold_other(x):
    s = seq_of(x)
    x.lines[x.at[s]:x.at[s + 1]] = [b'{"leaf_hash":"' + rng.randbytes(32).hex().encode() + b'"}']
    return {"edit", "count"}, None


def a_header(x):
    old = x.lines[0]
    while x.lines[0] == old:
        x.lines[0] = rng.choice([
            lambda h: re.sub(rb'"(count|first|size)":\d+', lambda m: b'"%s":%d' % (m[1], rng.randrange(2000)), h, count=1),
            lambda h: h.replace(b'"openings":1', b'"filter_agent":"x","openings":1'),
            lambda h: h.replace(b'"origin":"', b'"origin":"other.'),
            lambda h: h.replace(b'"tool":"writ', b'"tool":"Writ'),
            lambda h: h.replace(b'"format":"writ', b'"format":"Writ'),
            lambda h: h.replace(b"}}", b',"x":1}}'),
            lambda h: h[:-1]])(old)
    return None, None


def a_trailer(x):
    old = x.lines[-1]
    while x.lines[-1] == old:
        at = rng.randrange(len(old) - 2)
        x.lines[-1] = old[:at] + bytes([old[at] ^ 1]) + old[at + 1:]
        if b"\n" in x.lines[-1]:
            x.lines[-1] = old
    return None, None


def a_no_trailer(x):
    """What stands where the trailer was is nothing at all; it is not taken for a record."""
    x.lines[-1] = rng.choice([b"{}", b"", b"null", x.lines[-1][1:], x.lines[-1].replace(b"trailer", b"trailor"), b"\xff"])
    return {"count"}, None


def a_old_trailer(x):
    """The genuine trailer of an earlier export."""
    x.lines[-1] = Log(shared["middle"]).lines[-1]
    return None, None


def a_behind(x):
    x.lines.append(rng.choice([b"", b"{}", x.lines[x.at[5]], x.lines[-1]]))
    return {"insertion"}, None


EXPORT_ATTACKS = [a_edit, a_edit, a_bit, a_bit, a_prev, a_delete, a_delete, a_insert, a_junk, a_swap, a_swap, a_rechain,
                  a_rechain, a_renumber, a_tail, a_cut, a_tail_hidden, a_head, a_opening, a_opening, a_no_opening, a_withhold,
                  a_withhold_other, a_header, a_trailer, a_no_trailer, a_old_trailer, a_behind]


@test
def nothing_done_holds():
    d = deployment()
    for source in (shared["export"], d.path("tiles"), d.path("hashes")):
        for options in ((), ("--checkpoint", d.path("held")), ("--at-least", str(RECORDS))):
            got = both(source, *options)
            equal(got["result"], "holds", f"{source} {options}: {got}")
            equal(got["anchoring"], "yes" if "--checkpoint" in options else "unknown", "anchoring")
            equal(got["completeness"], "unknown" if "hashes" in source else "yes", "completeness")
    got = both(shared["early"], "--checkpoint", d.path("held"))
    equal((got["fault"], got["completeness"], got["anchoring"]), ("truncation", "no", "no"), "an old export")
    got = both(shared["middle"], "--at-least", str(RECORDS))
    equal(got["fault"], "truncation", "a short export")


@test
def exports():
    d, n = deployment(), 0
    whole = Log(shared["export"])
    while n < CASES:
        for attack in EXPORT_ATTACKS:
            x = whole.copy()
            faults, named = attack(x)
            why = f"case {n}, {attack.__name__}"
            expect(why, both(x.save(d.path("damaged.jsonl"))), faults, named)
            n += 1


# --- another key, another beginning -----------------------------------------------------------

def of_kind(x, kind):
    return [i for i, at in enumerate(x.at) if b'"kind":"' + kind + b'"' in x.lines[at]]


def k_note(x):
    """A checkpoint that does not tell how its key came to sign."""
    x.lines[-1] = re.sub(rb"\xe2\x80\x94 rotation [^\\]*\\n", b"", x.lines[-1])
    return {"signature"}, None


def k_record(x):
    """Another key in the record that hands over."""
    found = of_kind(x, b"key.rotate")
    if not found:
        return k_note(x)
    i = rng.choice(found)
    x.lines[x.at[i]] = re.sub(rb'("vkey":"[^"]{20})..', rb"\1ff", x.lines[x.at[i]])
    if rng.random() < 0.5:
        x.rechain(i)
        return {"rewrite", "edit", "signature"}, None
    return {"edit"}, {i}


def k_gone(x):
    found = of_kind(x, b"key.rotate")
    if not found:
        return k_note(x)
    i = rng.choice(found)
    del x.lines[x.at[i]:x.at[i + 1]]
    return {"deletion"}, {i}


def p_record(x):
    """What the record of a pruning says has left."""
    found = of_kind(x, b"log.prune")
    if not found:
        return k_note(x)
    x.lines[x.at[found[0]]] = re.sub(rb'"root":"..', b'"root":"zz', x.lines[x.at[found[0]]])
    return {"edit"}, {found[0]}


def other_logs():
    """A log with a second and a third key that has lost its beginning: before, what left, and what is left."""
    if "others" not in shared:
        d = Deployment(config='audit = { retain = "1s" }\n').start()
        d.register()
        key = d.log_key()
        grow(d, 150, amount)
        d.writ("audit", "key", "--rotate", code=0)
        grow(d, 700, amount)
        whole = d.export("whole.jsonl")
        prune(d, "archive.jsonl", 512)
        d.writ("audit", "key", "--rotate", code=0)
        grow(d, 900, amount)
        shared["others"] = d, key, (whole, d.path("archive.jsonl"), d.export("left.jsonl"))
    return shared["others"]


@test
def rotated_and_pruned():
    deployment()
    d, key, sources = other_logs()
    shared["key"], old = key, shared["key"]
    for source in sources:
        whole, before = Log(source), both(source)
        equal((before["result"], before["authenticity"]), ("holds", "yes"), source)
        equal(before.get("pruned"), whole.first or None, f"pruned, of {source}")
        for attack in [*dict.fromkeys(EXPORT_ATTACKS), k_note, k_record, k_gone, p_record] * max(1, CASES // 200):
            x = whole.copy()
            faults, named = attack(x)
            if faults and whole.first:
                faults = faults | {"count"} if "truncation" in faults else faults  # a size is not a tail here
            why = f"{os.path.basename(source)}, {attack.__name__}"
            got = both(x.save(d.path("damaged.jsonl")))
            expect(why, got, faults, named and {whole.first + n for n in named} if got.get("fault") != "count" else None)
    shared["key"] = old


@test
def single_proofs():
    d = deployment()
    path = d.path("one.tlog-proof")
    for _ in range(max(4, CASES // 60)):
        seq = rng.randrange(RECORDS)
        d.writ("audit", "prove", str(seq), "--output", path, code=0)
        got = both(path, "--checkpoint", d.path("held"))
        equal((got["result"], got["count"], got["first"]), ("holds", 1, seq), "a proof")
        with open(path, "rb") as f:
            good = f.read()
        for n in range(12):
            bad, at = bytearray(good), rng.randrange(len(good))
            bad[at] ^= 1 << rng.randrange(7)
            with open(path, "wb") as f:
                f.write(bad)
            got = both(path)
            check(got["result"] in ("broken", "unreadable"), f"byte {at} of a proof was changed unseen: {got}")
    # Without the record in it, the record's bytes are asked for.
    d.writ("audit", "prove", "7", "--bare", "--output", path, code=0)
    equal(both(path)["result"], "unreadable", "a bare proof alone")
    whole = Log(shared["export"])
    for seq, result in ((7, "holds"), (8, "broken")):
        with open(d.path("record"), "wb") as f:
            f.write(whole.lines[whole.at[seq]])
        equal(both(path, "--record", d.path("record"))["result"], result, f"with record {seq}")


# --- tiles ------------------------------------------------------------------------------------

def tile_file(d, level, index, size):
    """The path of a tile of a log of @size, and its width."""
    width = min(256, (size >> 8 * (0 if level == "entries" else level)) - 256 * index)
    assert index < 1000
    return os.path.join(d, "tile", str(level), "%03d" % index + (f".p/{width}" if width < 256 else "")), width


class Tiles:
    def __init__(self, folder):
        self.folder = folder
        with open(os.path.join(folder, "checkpoint"), encoding="utf-8") as f:
            self.size = int(f.read().split("\n")[1])

    def path(self, level, index):
        return tile_file(self.folder, level, index, self.size)[0]

    def records(self, index):
        with open(self.path("entries", index), "rb") as f:
            data, found = f.read(), []
        while data:
            n = int.from_bytes(data[:2], "big")
            found.append(data[2:2 + n])
            data = data[2 + n:]
        return found

    def put(self, index, records):
        with open(self.path("entries", index), "wb") as f:
            for r in records:
                f.write(len(r).to_bytes(2, "big") + r)

    def remake(self):
        """All hash tiles from the records that are there: what an operator without the key can do."""
        hashes = [bytes.fromhex(leaf_hash(r).decode()) for i in range((self.size + 255) // 256) for r in self.records(i)]
        level = 0
        while hashes:
            for index in range((len(hashes) + 255) // 256):
                with open(self.path(level, index), "wb") as f:
                    f.write(b"".join(hashes[256 * index:256 * index + 256]))
            for _ in range(8):
                hashes = [verify.node(hashes[i], hashes[i + 1]) for i in range(0, len(hashes) - 1, 2)]
            level += 1


def flip(path):
    with open(path, "r+b") as f:
        data = f.read()
        at = rng.randrange(len(data))
        f.seek(at)
        f.write(bytes([data[at] ^ 1 << rng.randrange(8)]))
    return at


def t_edit(t):
    s = rng.randrange(1, t.size - 3)
    records = t.records(s // 256)
    records[s % 256] = change(records[s % 256])
    t.put(s // 256, records)
    return {"edit"}, {s}


def t_rechain(t):
    """Edit one, chain the others, leave the tiles."""
    s, before = rng.randrange(1, t.size - 3), None
    for index in range(s // 256, (t.size + 255) // 256):
        records = t.records(index)
        for i, r in enumerate(records):
            if 256 * index + i < s:
                continue
            if before:
                r = re.sub(rb'"prev":"[0-9a-f]{64}"', b'"prev":"' + before + b'"', r)
            else:
                r = change(r)
            records[i], before = r, leaf_hash(r)
        t.put(index, records)
    return {"edit"}, {s}


def t_remake(t):
    t_rechain(t)
    t.remake()
    return {"rewrite"}, None


def t_delete(t):
    s = rng.randrange(1, t.size - 300)
    records = t.records(s // 256)
    del records[s % 256]
    t.put(s // 256, records)
    return {"deletion"}, {s}


def t_insert(t):
    s = rng.randrange(1, t.size - 300)
    records = t.records(s // 256)
    records.insert(s % 256, records[s % 256])
    t.put(s // 256, records)
    return {"insertion"}, {s, s + 1}


def t_swap(t):
    s = rng.randrange(1, t.size - 300)
    s -= s % 256 == 255
    records = t.records(s // 256)
    records[s % 256], records[s % 256 + 1] = records[s % 256 + 1], records[s % 256]
    t.put(s // 256, records)
    return {"swap"}, {s}


def t_bundle(t):
    index = rng.randrange((t.size + 255) // 256)
    flip(t.path("entries", index))
    return None, range(256 * index - 1, 256 * index + 257)


def t_hash(t):
    index = rng.randrange((t.size + 255) // 256)
    s = 256 * index + flip(t.path(0, index)) // 32
    return {"edit"}, {s}


def t_upper(t):
    s = flip(t.path(1, 0)) // 32
    return {"edit"}, {256 * s}


def t_gone(t):
    index = rng.randrange((t.size + 255) // 256)
    os.remove(t.path(rng.choice([0, "entries"]), index))
    return {"deletion", "truncation"}, {256 * index}


def t_short(t):
    index = rng.randrange((t.size + 255) // 256)
    path = t.path(rng.choice([0, "entries"]), index)
    os.truncate(path, rng.randrange(os.path.getsize(path)))
    return None, range(256 * index - 1, 256 * index + 257)


def t_checkpoint(t):
    path = os.path.join(t.folder, "checkpoint")
    with open(path, "rb") as f:
        good = f.read()
    flip(path)
    with open(path, "rb") as f:
        if f.read() == good:
            return t_checkpoint(t)
    return {"signature", "truncation", "deletion"}, None


TILE_ATTACKS = [t_edit, t_edit, t_rechain, t_remake, t_delete, t_insert, t_swap, t_bundle, t_hash, t_upper, t_gone, t_short,
                t_checkpoint]


@test
def tiles():
    d, n = deployment(), 0
    while n < CASES // 2:
        for attack in TILE_ATTACKS:
            shutil.rmtree(d.path("damaged"), ignore_errors=True)
            shutil.copytree(d.path("tiles"), d.path("damaged"))
            faults, named = attack(Tiles(d.path("damaged")))
            expect(f"case {n}, {attack.__name__}", both(d.path("damaged")), faults, named)
            n += 1


# --- the database -----------------------------------------------------------------------------

def s_edit(db, size):
    s = rng.randrange(1, size - 20)
    body = db.execute("SELECT body FROM leaf WHERE seq = ?", (s,)).fetchone()[0]
    db.execute("UPDATE leaf SET body = ? WHERE seq = ?", (change(body), s))
    return {s}


def s_rechain(db, size):
    (s,) = s_edit(db, size)
    before = None
    for seq, body in db.execute("SELECT seq, body FROM leaf WHERE seq >= ? ORDER BY seq", (s,)).fetchall():
        if before:
            body = re.sub(rb'"prev":"[0-9a-f]{64}"', b'"prev":"' + before + b'"', body)
            db.execute("UPDATE leaf SET body = ? WHERE seq = ?", (body, seq))
        before = leaf_hash(body)
    return {s}


def s_delete(db, size):
    s = rng.randrange(1, size - 20)
    db.execute("DELETE FROM leaf WHERE seq = ?", (s,))
    return {s}


def s_swap(db, size):
    s = rng.randrange(1, size - 20)
    for seq, to in ((s, -1), (s + 1, s), (-1, s + 1)):
        db.execute("UPDATE leaf SET seq = ? WHERE seq = ?", (to, seq))
    return {s}


def s_tail(db, size):
    db.execute("DELETE FROM leaf WHERE seq >= ?", (size - rng.choice([1, 5]),))
    return None


def s_tail_whole(db, size):
    """Back to an earlier signed state, which is consistent in itself."""
    old, kept = db.execute("SELECT size, range FROM checkpoint WHERE size < ? ORDER BY size DESC", (size,)).fetchone()
    db.execute("DELETE FROM leaf WHERE seq >= ?", (old,))
    db.execute("DELETE FROM opening WHERE seq >= ?", (old,))
    db.execute("DELETE FROM checkpoint WHERE size > ?", (old,))
    db.execute("UPDATE tree SET size = ?, range = ?", (old, kept))
    return None


DATABASE_ATTACKS = [s_edit, s_rechain, s_delete, s_swap, s_tail, s_tail_whole]


@test
def databases():
    """Through the file: the server refuses to go on, or to prove or publish, or its export does not verify."""
    d = Deployment().start()
    d.register()
    grow(d, 300, amount)
    d.restart()
    shared["key"], key = d.log_key(), shared.get("key")
    d.stop()
    shutil.copytree(d.data, d.path("good"))
    for n in range(max(len(DATABASE_ATTACKS), CASES // 25)):
        attack = DATABASE_ATTACKS[n % len(DATABASE_ATTACKS)]
        shutil.rmtree(d.data)
        shutil.copytree(d.path("good"), d.data)
        db = sqlite3.connect(os.path.join(d.data, "log.db"))
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        named = attack(db, db.execute("SELECT size FROM tree").fetchone()[0])
        db.commit()
        db.close()
        why = f"case {n}, {attack.__name__}"
        if attack is not s_tail_whole:  # a folder that is made only now cannot know what was cut
            done = d.writ("audit", "publish", "--entries", d.path(f"published-{n}"))
            check(done.returncode == 1 and "damaged" in done.stderr, f"{why}: it was published: {done.stdout} {done.stderr}")
        d.spawn()
        try:
            d.wait_for()
        except Exception as e:  # the harness says why it did not start
            check("rollback detected" in str(e) or "damaged" in str(e), f"{why}: {e}")
            continue
        done = d.writ("audit", "export", "--output", d.path("damaged.jsonl"))
        if done.returncode == 0:
            got = both(d.path("damaged.jsonl"))
            check(got["result"] == "broken", f"{why}: {got}")
            if named:
                check(set(range(got["bad_seq"], got["bad_end"])) & named, f"{why}: {named} is not named: {got}")
        else:
            # A stream that is already under way can only be cut.
            check("damaged" in done.stderr or "before its answer was complete" in done.stderr, f"{why}: {done.stderr}")
        d.stop()
    shared["key"] = key


@test
def a_forked_log():
    """An old backup goes on under the same key: two histories, each of them signed."""
    d = Deployment().start()
    d.register()
    grow(d, 50, amount)
    d.stop()
    shutil.copytree(d.data, d.path("backup"))
    shared["key"], key = "", shared.get("key")
    d.start()
    shared["key"] = d.log_key()
    grow(d, 150, amount)
    with open(d.path("held"), "wb") as f:
        f.write(d.admin("POST", "/v1/audit/checkpoint").body)
    d.writ("audit", "publish", d.path("public"), code=0)
    d.stop()
    shutil.rmtree(d.data)
    shutil.copytree(d.path("backup"), d.data)
    d.start()
    grow(d, 400, amount)
    path = d.export("forked.jsonl")
    equal(both(path)["result"], "holds", "the fork by itself")
    got = both(path, "--checkpoint", d.path("held"))
    equal((got["fault"], got["integrity"], got["anchoring"]), ("fork", "yes", "no"), "against the held checkpoint")
    done = d.writ("audit", "publish", d.path("public"))
    check(done.returncode == 1 and "fork" in done.stderr + done.stdout or "not over the first" in done.stderr,
          f"published over the other history: {done.stdout} {done.stderr}")
    equal(both(d.path("public"))["result"], "holds", "what was published before")
    shared["key"] = key


if __name__ == "__main__":
    main()
