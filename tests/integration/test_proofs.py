#!/usr/bin/env -S python3 -B
"""Proofs, receipts and tiles over the operators' door: right, bounded, and for those who may read the log only."""
import base64
import hashlib
import importlib.util
import json
import os

from harness import AGENT, ROOT, Deployment, check, equal, is_error, main, test

spec = importlib.util.spec_from_file_location("verify", os.path.join(ROOT, "scripts", "verify.py"))
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)
shared = {}


def deployment():
    if not shared:
        # A minute between checkpoints: what is covered is the test's to say.
        d = Deployment(config='audit = { checkpoint = "60s" }\n').start()
        d.register()
        shared["answers"] = [d.evaluate("payments/create", {"amount": n}).json["context"] for n in range(300)]
        d.writ("audit", "checkpoint", code=0)
        shared.update(d=d, key=verify.Key(d.log_key().encode()))
    return shared["d"]


def proof(query, status=200):
    reply = deployment().admin("GET", "/v1/audit/proof?" + query)
    if status != 200:
        return is_error(reply, status, query)
    equal(reply.status, 200, f"{query}: {reply}")
    return reply.json


def signed(p):
    note = verify.Note(p["checkpoint"].encode())
    note.verify([shared["key"]])
    equal(note.size, p["size"], "size")
    return note


def hashes(p):
    return [base64.b64decode(h) for h in p["hashes"]]


@test
def every_decision_has_a_receipt_and_a_proof():
    deployment()
    for c in shared["answers"][::23]:
        p = proof("record=yes&id=" + c["evaluation_id"])
        equal((p["seq"], p["leaf"]), (c["record"]["seq"], c["record"]["leaf"]), "the receipt in the answer")
        equal(hashlib.sha256(b"\0" + p["record"].encode()).hexdigest(), p["leaf"], "leaf hash of the record")
        equal(proof(f"seq={p['seq']}&record=yes"), p, "by number")
        note = signed(p)
        check(verify.inclusion_holds(p["seq"], p["size"], bytes.fromhex(p["leaf"]), hashes(p), note.root), "inclusion")


@test
def a_receipt_before_its_checkpoint():
    d = deployment()
    c = d.evaluate("payments/create", {"amount": 1}).json["context"]
    p = proof("id=" + c["evaluation_id"])
    equal((p["covered"], p["leaf"], p.get("checkpoint")), (False, c["record"]["leaf"], None), "receipt")
    done = d.writ("audit", "prove", c["evaluation_id"], code=0)  # has one signed
    check(done.stdout.startswith("c2sp.org/tlog-proof@v1\n"), done.stdout[:60])
    equal(proof("id=" + c["evaluation_id"])["covered"], True, "covered")


@test
def sizes_and_ranges():
    deployment()
    whole = proof("first=0&count=1")
    path = shared["d"].export("x.jsonl")
    with open(path, "rb") as f:
        leaves = [verify.leaf_hash(line.rstrip(b"\n")) for line in f
                  if not line.startswith((b'{"opening"', b'{"header"', b'{"trailer"'))]

    def root(n):
        r = verify.Range()
        for h in leaves[:n]:
            r.append(h)
        return r.root()
    size = whole["size"]
    for old in (1, 2, 3, 255, 256, 257, 300, size):
        p = proof(f"old={old}&size={size}")
        note = signed(p)
        equal(note.root, root(size), "root")
        # RFC 9162 2.1.4.2, by its words
        path, fn, sn = hashes(p), old - 1, size - 1
        if old == size:
            equal(path, [], "a proof of the same size")
            continue
        if old & (old - 1) == 0:
            path = [root(old), *path]
        while fn & 1:
            fn, sn = fn >> 1, sn >> 1
        fr = sr = path[0]
        for c in path[1:]:
            check(sn, "a proof that is too long")
            if fn & 1 or fn == sn:
                fr, sr = verify.node(c, fr), verify.node(c, sr)
                while fn and not fn & 1:
                    fn, sn = fn >> 1, sn >> 1
            else:
                sr = verify.node(sr, c)
            fn, sn = fn >> 1, sn >> 1
        equal((fr, sr, sn), (root(old), note.root, 0), f"consistency from {old}")
    for first, count in ((0, size), (5, 1), (17, 250), (size - 1, 1)):
        p = proof(f"first={first}&count={count}&size={size}")
        span = verify.Span(first)
        for h in leaves[first:first + count]:
            span.append(h)
        equal(span.finish(size, hashes(p)), signed(p).root, f"range {first}, {count}")


@test
def what_is_asked_wrongly_is_refused():
    d = deployment()
    key = d.admin("GET", "/v1/status").json
    for query, status in (("", 400), ("seq=1&old=1", 400), ("seq=x", 400), ("seq=-1", 400), ("seq=01", 400), ("seq=1&seq=2", 400),
                          ("first=1", 400), ("count=1", 400), ("sek=1", 400), ("seq=1&record=maybe", 400), ("seq=99999999", 404),
                          ("seq=9223372036854775807", 400), ("old=0", 404), ("old=99999999", 404), ("first=3&count=0", 404),
                          ("first=9223372036854775806&count=9223372036854775806", 404), ("seq=1&size=99999999", 404),
                          ("id=ev_00000000_1", 404), ("id=ev_1", 400), ("id=x", 400), ("size=1", 400)):
        proof(query, status)
    check(key["ready"], "the server is not well afterwards")


@test
def tiles_are_served():
    d = deployment()
    reply = d.admin("GET", "/checkpoint")
    equal((reply.status, reply.headers["content-type"]), (200, "text/plain; charset=utf-8"), "checkpoint")
    check("max-age=1" in reply.headers["cache-control"].split(", "), reply.headers["cache-control"])
    size = verify.Note(reply.body).size
    full = d.admin("GET", "/tile/0/000")
    equal((full.status, len(full.body), full.headers["content-type"]), (200, 8192, "application/octet-stream"), "a full tile")
    equal(full.headers["cache-control"], "private, max-age=31536000, immutable", "caching")
    part = d.admin("GET", f"/tile/0/001.p/{size - 256}")
    equal((part.status, len(part.body)), (200, 32 * (size - 256)), "the partial tile")
    equal(d.admin("GET", "/tile/0/000.p/7").body, full.body[:7 * 32], "an earlier partial tile")
    bundle = d.admin("GET", "/tile/entries/000").body
    for i in range(256):
        n = int.from_bytes(bundle[:2], "big")
        equal(verify.leaf_hash(bundle[2:2 + n]), full.body[32 * i:32 * i + 32], f"entry {i}")
        bundle = bundle[2 + n:]
    equal(bundle, b"", "what follows the entries")
    for path in ("/tile/0/001", "/tile/0/002", f"/tile/0/001.p/{size - 255}", "/tile/1/000", "/tile/2/000.p/1", "/tile/8/000",
                 "/tile/0/1", "/tile/", "/tile/0/../../checkpoint", "/tile/entries/999", "/tile/0/000.p/0", "/tile/0/000/"):
        reply = d.admin("GET", path)
        check(reply.status in (400, 404), f"{path}: {reply}")
        check("immutable" not in reply.headers.get("cache-control", ""), f"{path}: an error is cached for ever")
    equal(d.admin("GET", "/tile/0/000?x=1").status, 400, "a query")


@test
def only_those_who_read_the_log():
    d = deployment()
    for path in ("/checkpoint", "/tile/0/000", "/v1/audit/proof?seq=1"):
        equal(d.operators("GET", path).status, 401, f"{path} without a caller")
        check(d.http("GET", path).status == 404, f"{path} at the agents' door")


@test
def a_restart_changes_nothing():
    d = deployment()
    before = proof("seq=42&size=256")
    d.restart()
    equal(proof("seq=42&size=256"), before, "the proof")
    kept = [os.path.join(at, n) for at, _, names in os.walk(os.path.join(d.data, "tiles")) for n in names]
    check(kept, "no tile is kept")
    for path in kept:
        with open(path, "r+b") as f:
            f.write(b"\0" * 40)
    equal(proof("seq=42&size=256"), before, "the proof, when what was kept is damaged")
    for path in kept:
        with open(path, "rb") as f:
            check("/tile/0/" not in path or f.read(40) != b"\0" * 40, "the damage is still kept")
        os.remove(path)
    equal(proof("seq=42&size=256"), before, "the proof without what was kept")
    equal(d.evaluate("payments/create", {"amount": 1}, agent=AGENT).json["decision"], True, "decisions go on")
    check(json.dumps(before), "a proof")


if __name__ == "__main__":
    main()
