"""two_verifiers: one verdict from writ and from scripts/verify.py, and means to make what they judge.

Signer signs with the file of a log's key, as somebody would who has it; Log is an export taken apart, to be put together
as somebody else would.
"""
import base64
import hashlib
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import threading
import time

from harness import AGENT, BUILD, ROOT, WRIT, check, equal, openssl

spec = importlib.util.spec_from_file_location("verify", os.path.join(ROOT, "scripts", "verify.py"))
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)

SMALL = os.path.join(BUILD, "writ-verify")
WORDS = ("result", "fault", "bad_seq", "bad_end", "integrity", "completeness", "authenticity", "anchoring", "redaction",
         "key_id", "key_from", "pruned", "pruned_by")


def both(source, *options):
    """The one verdict of both verifiers."""
    argv = [*options, source]
    command = [SMALL] if os.path.exists(SMALL) and random.random() < 0.5 else [WRIT, "audit", "verify"]
    done = subprocess.run([*command, "--json", *argv], capture_output=True, text=True, timeout=120, check=False)
    check("Sanitizer" not in done.stderr and "runtime error" not in done.stderr and done.stdout,
          f"no verdict: {done.stderr[-900:]}")
    mine = json.loads(done.stdout)
    given, operands = verify.options(argv)
    code, theirs = verify.check(given, operands[0]).report()
    for name in WORDS:
        equal(theirs.get(name), mine.get(name), f"{name} by scripts/verify.py ({theirs}; writ says {mine})")
    equal(done.returncode, code, "exit code")
    return mine


def holds(source, *options):
    got = both(source, *options)
    equal(got["result"], "holds", f"{options}: {got}")
    return got


def broken(fault, source, *options, at=None):
    got = both(source, *options)
    equal((got["result"], got.get("fault")), ("broken", fault), f"{options}: {got}")
    check(at is None or got.get("bad_seq") == at, f"record {at} is not named: {got}")
    return got


def grow(d, records, amount=lambda i: i):
    """Until the log has about so many: decisions of all kinds, in batches."""
    size = d.admin("GET", "/v1/status").json["audit"]["size"]
    while size < records:
        many = [{"action": {"name": "tools/call", "properties": {"amount": amount(i)}}} for i in range(100)]
        body = {"subject": {"type": "agent", "id": AGENT}, "resource": {"type": "tool", "id": "payments/create"},
                "evaluations": many}
        equal(d.http("POST", "/access/v1/evaluations", body, timeout=60).status, 200, "status")
        size += 100


def plan(d):
    return json.loads(d.writ("audit", "prune", "--dry-run", "--json", code=0).stdout)


def wait_for_plan(d, to):
    """Records become old enough, and the index reaches them."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        p = plan(d)
        if p["to"] >= to:
            return p
        threading.Event().wait(0.05)
    check(False, f"nothing becomes old: {p}")
    return None


def prune(d, name, to=None, **how):
    if to:
        wait_for_plan(d, to)
    done = d.writ("audit", "prune", "--archive", d.path(name), "--json", code=0, **how)
    return json.loads(done.stdout)


class Signer:
    """Whoever has the file of a log key."""

    def __init__(self, folder, path, origin):
        self.path, self.origin = os.path.join(folder, f"{os.path.basename(path)}.{os.urandom(3).hex()}"), origin
        shutil.copy(path, self.path)
        self.text = self.path + ".text"
        self.public = openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")[-32:]
        self.id = verify.Key.made(origin, self.public).id
        self.vkey = f"{origin.decode()}+{self.id.hex()}+{base64.b64encode(bytes([1]) + self.public).decode()}"

    def sign(self, text):
        with open(self.text, "wb") as f:
            f.write(text)
        return openssl("pkeyutl", "-sign", "-inkey", self.path, "-rawin", "-in", self.text)

    def note(self, size, root, rotations=b""):
        text = b"%s\n%d\n%s\n" % (self.origin, size, base64.b64encode(root))
        line = base64.b64encode(self.id + self.sign(text))
        more = "— rotation ".encode() + base64.b64encode(verify.ROTATION + rotations) + b"\n" if rotations else b""
        return text + b"\n" + "— ".encode() + self.origin + b" " + line + b"\n" + more

    def hand_over(self, size, key):
        """One entry of the line."""
        text = b"writ/key.rotate/v1\n%s\n%d\n%s\n" % (self.origin, size, base64.b64encode(key))
        return size.to_bytes(8, "big") + key + self.sign(text)


class Log:
    """An export taken apart, so that it can be put together as somebody else would."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.lines = f.read().splitlines()
        self.at = [i for i, line in enumerate(self.lines)
                   if not line.startswith((b'{"header"', b'{"opening"', b'{"trailer"'))]

        self.first = int(re.search(rb'"first":(\d+)', self.lines[0])[1])

    def copy(self):
        x = Log.__new__(Log)
        x.lines, x.at, x.first = list(self.lines), self.at, self.first
        return x

    def openings(self, i):
        """The lines of those of the @i-th record."""
        i, found = self.at[i] + 1, []
        while self.lines[i].startswith(b'{"opening"'):
            found.append(i)
            i += 1
        return found

    def rechain(self, i):
        """What comes after the @i-th record follows what is there now."""
        before = hashlib.sha256(b"\0" + self.lines[self.at[i]]).hexdigest().encode()
        for k in self.at[i + 1:]:
            self.lines[k] = re.sub(rb'"prev":"[0-9a-f]{64}"', b'"prev":"' + before + b'"', self.lines[k])
            before = hashlib.sha256(b"\0" + self.lines[k]).hexdigest().encode()

    def records(self):
        return [self.lines[i] for i in self.at]

    def root(self, n=None):
        r = verify.Range()
        for record in self.records()[:n]:
            r.append(verify.leaf_hash(record))
        return r

    def cut(self, n):
        """Only the first @n records."""
        end = self.at[n] if n < len(self.at) else len(self.lines) - 1
        self.lines, self.at = self.lines[:end] + [self.lines[-1]], self.at[:n]

    def change(self, seq, what, to):
        """One record, and all behind it chained anew."""
        self.lines[self.at[seq]] = re.sub(what, to, self.lines[self.at[seq]])
        self.rechain(seq)

    def write(self, path, note):
        """With @note, and every count as it should be."""
        n, r = len(self.at), self.root()
        for name in (b"count", b"size"):
            self.lines[0] = re.sub(b'"%s":\\d+' % name, b'"%s":%d' % (name, n), self.lines[0])
        openings = sum(line.startswith(b'{"opening"') for line in self.lines)
        trailer = {"checkpoint": note.decode(), "count": n, "first": 0, "header": hashlib.sha256(self.lines[0]).hexdigest(),
                   "hints": "", "openings": openings, "range": " ".join(h.hex() for h in r.saved()), "size": n, "withheld": 0}
        self.lines[-1] = json.dumps({"trailer": trailer}, separators=(",", ":"), ensure_ascii=False).encode()
        return self.save(path)

    def save(self, path):
        """As it is."""
        with open(path, "wb") as f:
            f.write(b"\n".join(self.lines) + b"\n")
        return path
