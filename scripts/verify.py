#!/usr/bin/env -S python3 -B
"""verify.py [--key VKEY|@FILE]... [--checkpoint FILE] [--at-least N] [--witness-policy FILE]
             [--record FILE] [--json] FILE|DIR

Check an export, a folder of tiles or a .tlog-proof of writ's log with nothing but Python's standard library. Written from
authz/audit/FORMAT.md, not from writ's code: the same verdicts from two programs are worth more than twice from one.

Exit status: 0 holds, 1 broken, 2 wrong usage, 3 not authenticated, 4 unreadable."""
import base64
import hashlib
import json
import os
import re
import sys

HOLDS, BROKEN, USAGE, UNAUTHENTICATED, UNREADABLE = 0, 1, 2, 3, 4
RESULTS = {0: "holds", 1: "broken", 3: "not_authenticated", 4: "unreadable"}
SIZE_MAX = 2**63 - 1
LINE_MAX = 16 * 1024 * 1024


class Malformed(Exception):
    """What was read is not of its format."""


class Usage(Exception):
    """What we were given to check by is wrong."""


class Quorum(Exception):
    """Not all the witnesses that the policy wants."""


# --- hashes, RFC 6962 2.1 ---------------------------------------------------------------------

def H(data):
    return hashlib.sha256(data).digest()


def leaf_hash(record):
    return H(b"\0" + record)


def node(left, right):
    return H(b"\1" + left + right)


def cover(lo, hi):
    """The fewest perfect nodes (level, index) over [lo, hi)."""
    while lo < hi:
        level = (hi - lo).bit_length() - 1
        if lo:
            level = min(level, (lo & -lo).bit_length() - 1)
        yield level, lo >> level
        lo += 1 << level


class Range:
    """The roots of the perfect subtrees of the first n leaves."""

    def __init__(self, n=0, hashes=()):
        hashes = list(hashes)
        if n > SIZE_MAX or len(hashes) != bin(n).count("1"):
            raise Malformed("a wrong number of hashes")
        self.n, self.node = n, {}
        for level in reversed(range(n.bit_length())):
            if n >> level & 1:
                self.node[level] = hashes.pop(0)

    def append(self, h, level=0):
        self.n += 1 << level
        while level in self.node:
            h = node(self.node.pop(level), h)
            level += 1
        self.node[level] = h

    def copy(self):
        other = Range()
        other.n, other.node = self.n, dict(self.node)
        return other

    def saved(self):
        return [self.node[level] for level in sorted(self.node, reverse=True)]

    def root(self):
        if not self.n:
            return H(b"")
        hashes = [self.node[level] for level in sorted(self.node)]
        root = hashes[0]
        for h in hashes[1:]:
            root = node(h, root)
        return root


class Span:
    """Leaves of a contiguous part: the perfect nodes that cover it."""

    def __init__(self, first):
        self.first, self.n, self.nodes = first, 0, []

    def append(self, h):
        index, level = self.first + self.n, 0
        self.n += 1
        while self.nodes and self.nodes[-1][0] == level and index >> level & 1:
            h = node(self.nodes.pop()[1], h)
            level += 1
        self.nodes.append((level, h))

    def copy(self):
        other = Span(self.first)
        other.n, other.nodes = self.n, list(self.nodes)
        return other

    def joined(self, hints):
        left = bin(self.first).count("1")
        if left > len(hints):
            raise Malformed("too few hints")
        r = Range(self.first, hints[:left])
        for level, h in self.nodes:
            r.append(h, level)
        return r

    def root(self, hints):
        return self.joined(hints).root()

    def finish(self, size, hints):
        r = self.joined(hints)
        right = list(cover(r.n, size))
        rest = hints[bin(self.first).count("1"):]
        if r.n > size or size > SIZE_MAX or len(rest) != len(right):
            raise Malformed("hints that are not those of this range")
        for (level, _), h in zip(right, rest):
            r.append(h, level)
        return r.root()


def inclusion_holds(index, size, leaf, path, root):
    if not 0 <= index < size <= SIZE_MAX:
        return False
    inner = (index ^ (size - 1)).bit_length()
    border = bin(index >> inner).count("1")
    if len(path) != inner + border:
        return False
    h = leaf
    for k, p in enumerate(path):
        h = node(p, h) if k >= inner or index >> k & 1 else node(h, p)
    return h == root


# --- Ed25519, RFC 8032 ------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
I = pow(2, (P - 1) // 4, P)


def ed_add(a, b):
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    u, v = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % P, g * h % P, f * g % P, e * h % P


def ed_mul(k, point):
    out = (0, 1, 1, 0)
    while k:
        if k & 1:
            out = ed_add(out, point)
        point = ed_add(point, point)
        k >>= 1
    return out


def ed_point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, (y & (2**255 - 1)) % P
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * I % P
    if (v * x * x - u) % P:
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def ed_bytes(point):
    z = pow(point[2], P - 2, P)
    x, y = point[0] * z % P, point[1] * z % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = ed_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed_verify(public, message, signature):
    s, a = int.from_bytes(signature[32:], "little"), ed_point(public)
    if len(signature) != 64 or s >= L or a is None:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    minus_a = (P - a[0], a[1], a[2], P - a[3])
    return ed_bytes(ed_add(ed_mul(s, BASE), ed_mul(h, minus_a))) == signature[:32]


# --- text -------------------------------------------------------------------------------------

def number(text, most=SIZE_MAX):
    if not re.fullmatch(rb"0|[1-9][0-9]{0,19}", text) or int(text) > most:
        raise Malformed("not a number")
    return int(text)


def unbase64(text):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Malformed("not base64") from None
    if base64.b64encode(data) != text:
        raise Malformed("not the one spelling in base64")
    return data


def unhex(text, n):
    if not re.fullmatch(rb"[0-9a-f]{%d}" % (2 * n), text):
        raise Malformed("not hexadecimal")
    return bytes.fromhex(text.decode())


MEMBER = re.compile(rb'"([a-z0-9_]+)":(?:"((?:[^"\\]|\\.)*)"|(-?(?:0|[1-9][0-9]*)))(,|$)', re.DOTALL)


def flat(text):
    """A flat canonical object: {name: bytes of a string or an int}, names ascending."""
    if len(text) < 2 or text[:1] != b"{" or text[-1:] != b"}":
        raise Malformed("not an object")
    text, at, last, found = text[1:-1], 0, b"", {}
    while at < len(text):
        m = MEMBER.match(text, at)
        if not m or m[1] <= last:
            raise Malformed("not flat canonical JSON")
        last = m[1]
        if m[3] is not None and (m[3] == b"-0" or abs(int(m[3])) > 2**53 - 1):
            raise Malformed("a number out of range")
        found[m[1].decode()] = m[2] if m[3] is None else int(m[3])
        at = m.end()
        if m[4] and at == len(text):
            raise Malformed("a comma at the end")
    return found


ESCAPES = {b'"': b'"', b"\\": b"\\", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"f": b"\f", b"r": b"\r"}


def unescape(value):
    def one(m):
        if m[1]:
            code = int(m[1], 16)
            if code >= 0x20 or bytes([code]) in b"\b\t\n\f\r":
                raise Malformed("an escape that is not canonical")
            return bytes([code])
        if m[2] not in ESCAPES:
            raise Malformed("an unknown escape")
        return ESCAPES[m[2]]
    if re.search(rb'[\x00-\x1f]', value):
        raise Malformed("a control character")
    return re.sub(rb"\\(?:u([0-9a-f]{4})|(.))", one, value, flags=re.DOTALL)


OPENINGS = (b"answer", b"facts", b"input")


def leaf(text):
    """A record, or Malformed."""
    r = flat(text)
    for name in ("boot", "kind", "node", "prev"):
        if not isinstance(r.get(name), bytes):
            raise Malformed("no " + name)
    for name in ("agent", "decision"):
        if not isinstance(r.get(name, b""), bytes):
            raise Malformed(name)
    for name in ("seq", "time"):
        if not isinstance(r.get(name), int) or r[name] < 0:
            raise Malformed("no " + name)
    for name in OPENINGS:
        c = r.get(name.decode() + "_commit", b"." * 64)
        if not isinstance(c, bytes) or len(c) != 64:
            raise Malformed("a commitment")
    if r.get("v") != 1 or len(r["prev"]) != 64:
        raise Malformed("v or prev")
    return r


def commitments(record):
    return {n: record[n.decode() + "_commit"] for n in OPENINGS if record.get(n.decode() + "_commit")}


# --- signed notes -----------------------------------------------------------------------------

SPACES = {9, 10, 11, 12, 13, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def name_ok(name):
    if not 1 <= len(name) <= 255:
        return False
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return all(ord(c) >= 0x20 and ord(c) != 0x7F and ord(c) not in SPACES and c != "+" for c in text)


class Key:
    """A verifier key: name+id+base64(type || key)."""

    def __init__(self, vkey, kind=1):
        parts = vkey.split(b"+", 2)
        try:
            name, material = parts[0], unbase64(parts[2])
            key_id = unhex(parts[1], 4)
        except (IndexError, Malformed):
            raise Usage("not a verifier key: expected name+hhhhhhhh+base64") from None
        if len(material) != 33 or material[0] != kind or not name_ok(name):
            raise Usage("not a verifier key of Ed25519")
        if H(name + b"\n" + material)[:4] != key_id:
            raise Usage("a verifier key with a wrong id")
        self.name, self.id, self.public = name, key_id, material[1:]

    @classmethod
    def made(cls, name, public):
        material = b"\x01" + public
        return cls(b"+".join((name, H(name + b"\n" + material)[:4].hex().encode(), base64.b64encode(material))))


ROTATION = H(b"rotation\n\xffkey.rotate")[:4]


class Note:
    def __init__(self, data):
        if len(data) > 65536:
            raise Malformed("a note of more than 64 KiB")
        try:
            data.decode()
        except UnicodeDecodeError:
            raise Malformed("a note that is not UTF-8") from None
        at = data.rfind(b"\n\n") + 2
        if re.search(rb"[\x00-\x09\x0b-\x1f]", data) or not data.endswith(b"\n") or at < 3:
            raise Malformed("not a signed note")
        self.text, self.signatures = data[:at - 1], []
        for line in data[at:].split(b"\n")[:-1]:
            parts = line.split(b" ", 2)
            if len(parts) != 3 or parts[0] != "—".encode() or not name_ok(parts[1]) or len(parts[2]) > 16384:
                raise Malformed("a malformed signature line")
            signature = unbase64(parts[2])
            if len(signature) < 5:
                raise Malformed("a signature that is too short")
            self.signatures.append((parts[1], signature[:4], signature[4:]))
        if not 1 <= len(self.signatures) <= 100:
            raise Malformed("no signature, or more than 100")
        lines = self.text.split(b"\n")
        if len(lines) < 4 or not 1 <= len(lines[0]) <= 255 or b"" in lines[3:-1]:
            raise Malformed("not a checkpoint")
        self.origin, self.size, self.root = lines[0], number(lines[1]), unbase64(lines[2])
        if len(self.root) != 32:
            raise Malformed("a root that has not 32 bytes")

    def by(self, key):
        return [s for name, key_id, s in self.signatures if name == key.name and key_id == key.id]

    def verify(self, keys):
        """The ids of those that signed. Malformed: none, or one whose signature is wrong."""
        good = []
        for key in keys:
            for s in self.by(key):
                if len(s) != 64 or not ed_verify(key.public, self.text, s):
                    raise Malformed("a wrong signature")
                good.append(key.id.hex())
        if not good:
            raise Malformed("no signature by a given key")
        return good

    def rotations(self):
        """What the line of key rotations says: (size, key, signature), in order; unverified."""
        lines, found = [s for name, key_id, s in self.signatures if (name, key_id) == (b"rotation", ROTATION)], []
        if len(lines) > 1 or any(not s or len(s) % 104 or len(s) > 64 * 104 for s in lines):
            raise Malformed("a malformed line of key rotations")
        for i in range(0, len(lines[0]) if lines else 0, 104):
            one = lines[0][i:i + 104]
            found.append((int.from_bytes(one[:8], "big"), one[8:40], one[40:]))
            if not (found[-2][0] if found[1:] else 0) < found[-1][0] <= SIZE_MAX:
                raise Malformed("a malformed line of key rotations")
        return found

    def handed(self, rotation, by):
        """Did the key @by sign this rotation?"""
        size, key, signature = rotation
        text = b"writ/key.rotate/v1\n%s\n%d\n%s\n" % (self.origin, size, base64.b64encode(key))
        return ed_verify(by, text, signature)

    def trusted(self, keys):
        """(id of the key that signed, id of the one given, records under keys before it). Malformed: by none that counts."""
        told = self.rotations()
        if not told:
            good = self.verify(keys)[0]
            return good, good, 0
        if told[-1][0] >= self.size:
            raise Malformed("a key rotation behind its end")
        if not all(self.handed(r, before[1]) for before, r in zip(told, told[1:])):
            raise Malformed("a key that the one before it did not sign")
        last, found = Key.made(self.origin, told[-1][1]), None
        for key in keys:
            at = [i + 1 for i, r in enumerate(told) if r[1] == key.public]
            if at or self.handed(told[0], key.public):
                found = (last.id.hex(), key.id.hex(), told[-1][0] if not at or at[-1] < len(told) else 0)
                if not found[2]:
                    break
        if not found:
            raise Malformed("its keys do not come from a given one")
        self.verify([last])
        return found

    def cosigned(self, key):
        """When, in seconds; None: not. Malformed: a wrong signature."""
        found = None
        for s in self.by(key):
            at = int.from_bytes(s[:8], "big")
            if len(s) != 72 or not ed_verify(key.public, b"cosignature/v1\ntime %d\n" % at + self.text, s[8:]):
                raise Malformed("a wrong cosignature")
            found = at
        return found


class Policy:
    """C2SP tlog-policy."""

    def __init__(self, data):
        self.logs, self.witnesses, self.groups, self.order, quorum, used = [], {}, {}, [], [], set()
        try:
            lines = data.decode().split("\n")
        except UnicodeDecodeError:
            raise Usage("witness policy: not UTF-8") from None
        for n, line in enumerate(lines, 1):
            words = re.split(r"[ \t]+", line.strip(" \t"))
            try:
                if not words[0] or words[0].startswith("#"):
                    continue
                if words[0] == "log":
                    self.logs.append(Key(words[1].encode()))
                elif words[0] == "witness":
                    self.add(words[1], self.witnesses, Key(words[2].encode(), 4))
                elif words[0] == "group":
                    members = words[3:]
                    if not members or len(set(members)) != len(members) or used & set(members) or \
                            not set(members) <= set(self.order):
                        raise Usage("members")
                    used |= set(members)
                    least = {"any": 1, "all": len(members)}.get(words[2])
                    least = number(words[2].encode(), len(members)) if least is None else least
                    if not least:
                        raise Usage("a group of none")
                    self.add(words[1], self.groups, (least, members))
                elif words[0] == "quorum" and not quorum:
                    quorum.append(words[1])
                    if words[1] != "none" and words[1] not in self.order:
                        raise Usage("the quorum is not defined above")
                else:
                    raise Usage("expected log, witness, group or quorum")
            except (IndexError, Malformed, Usage) as e:
                raise Usage(f"witness policy, line {n}: {e}") from None
        if not quorum:
            raise Usage("witness policy: there is no quorum line")
        self.quorum = None if quorum[0] == "none" else quorum[0]

    def add(self, name, where, what):
        if name in self.order or name == "none":
            raise Usage("this name is taken")
        self.order.append(name)
        where[name] = what

    def check(self, note):
        met, times = set(), []
        for name in self.order:
            if name in self.witnesses:
                at = note.cosigned(self.witnesses[name])
                if at is not None:
                    met.add(name)
                    times.append(at)
            else:
                least, members = self.groups[name]
                if len(met & set(members)) >= least:
                    met.add(name)
        if self.quorum and self.quorum not in met:
            raise Quorum()
        return min(times) if times else 0


# --- the chain: where was something done? -----------------------------------------------------

class Record:
    """What one line says. Of a withheld one only the hash is known."""

    def __init__(self, is_leaf, shaped, seq, prev, h):
        self.is_leaf, self.shaped, self.seq, self.prev, self.hash = is_leaf, shaped, seq, prev, h

    def follows(self, before):
        return self.prev == (before.hash if before else bytes(32)).hex().encode()


class Chain:
    """At the first record that does not fit, the next one or two tell what was done."""

    def __init__(self, first):
        self.expect, self.before, self.suspect, self.stage = first, None, None, "fits"
        self.at = self.fault = self.bad = None

    def found(self, fault, seq, count):
        self.stage, self.fault, self.bad = "broken", fault, (seq, seq + count)

    def fits(self, r):
        if not r.is_leaf:
            return r.shaped
        if not r.shaped or r.seq != self.expect:
            return False
        if self.before is None:
            return self.expect > 0 or r.follows(None)
        return r.follows(self.before)

    def decide(self, n):
        """@n: the record after the suspect, or None."""
        s, at, real = self.suspect, self.at, n is not None and n.is_leaf
        if not s.shaped:
            extra = real and n.shaped and n.seq == at
            self.found("insertion" if extra else "edit", at, 1)
        elif s.seq == at:
            genuine = n is None or (real and n.shaped and n.follows(s))
            self.found("edit", at - 1 if self.before is not None and genuine else at, 1)
        elif s.seq > at:
            if not real or n.seq > s.seq:
                self.found("deletion", at, s.seq - at)
            elif n.seq == at:
                if s.seq == at + 1:
                    self.stage = "near"
                else:
                    self.found("insertion", at, 1)
            elif n.seq == at + 1:
                if self.before is not None and s.follows(self.before):
                    self.found("edit", at, 1)
                else:
                    self.stage = "far"
            else:
                self.found("edit", at, 1)
        elif real and n.seq == at + 1:
            self.found("edit", at, 1)
        else:
            self.found("insertion", s.seq if s.seq + 1 == at else at, 1)

    def near(self, r):
        again = r is not None and r.is_leaf and r.seq == self.at + 1
        self.found("insertion" if again else "swap", self.at, 1 if again else 2)

    def far(self, r):
        if r is not None and self.expect < self.suspect.seq:
            self.expect += 1
            return
        self.found("swap" if r is not None and r.is_leaf and r.seq == self.at else "edit", self.at, 1)

    def next(self, r):
        if self.stage == "fits":
            if self.fits(r):
                self.before = r
                self.expect += 1
                return True
            self.suspect, self.at, self.stage = r, self.expect, "suspect"
            self.expect += 1
        elif self.stage == "suspect":
            self.expect += 1
            self.decide(r)
        elif self.stage == "near":
            self.near(r)
        elif self.stage == "far":
            self.far(r)
        return False

    def end(self):
        if self.stage == "suspect":
            self.decide(None)
        if self.stage == "near":
            self.near(None)
        if self.stage == "far":
            self.far(None)


# --- the verifier -----------------------------------------------------------------------------

class Verifier:
    def __init__(self, key=None, checkpoint=None, at_least=0, policy=None):
        self.policy = Policy(policy) if policy is not None else None
        given = [Key(k) for k in key.split()] if key else []
        if len(given) > 16:
            raise Usage("more than 16 keys were given")
        self.keys = given + (self.policy.logs if self.policy else [])
        self.key_from = "given" if given else "given by the witness policy" if self.keys else \
            "none: a key in the file proves nothing"
        self.at_least, self.held = at_least, None
        if checkpoint is not None:
            try:
                self.held = Note(checkpoint)
                if not self.keys:
                    raise Malformed("it says nothing without the log's key")
                self.held.trusted([k for k in self.keys if k.name == self.held.origin])
            except Malformed as e:
                raise Usage(f"the held checkpoint: {e}") from None
        self.fault = self.bad = self.unreadable = None
        self.why, self.quorum_missed, self.piecemeal = "", False, False
        self.integrity, self.authenticity, self.anchoring = "no", "unknown", "unknown"
        self.first = self.count = self.size = self.records = 0
        self.withheld = self.opened_count = self.redacted = self.witnessed = 0
        self.origin, self.key_id, self.root = b"", "", None
        self.commits, self.opened, self.leaf_fits, self.rotated = {}, set(), False, []
        self.absent, self.prune, self.pruned = 0, None, None

    # verdicts

    def tell(self, fault, why, bad=None):
        if not self.fault:
            self.fault, self.why = fault, why
        if bad and not self.bad:
            self.bad = bad

    def tell_chain(self):
        if not self.fault and self.chain.stage == "broken":
            self.tell(self.chain.fault, f"{self.chain.fault} at record {self.chain.bad[0]}", self.chain.bad)

    def report(self):
        if self.fault not in (None, "fork", "truncation"):
            self.integrity = "no"
        complete = "no" if self.fault or self.withheld or self.unreadable else "unknown" if self.piecemeal else "yes"
        if self.fault == "opening":
            redaction = "broken"
        elif self.integrity != "yes":
            redaction = "unknown"
        elif self.piecemeal and not self.redacted:
            redaction = "all"
        else:
            redaction = "none" if not self.redacted else "some" if self.opened_count else "all"
        result = UNREADABLE if self.unreadable else BROKEN if self.fault else \
            UNAUTHENTICATED if not self.keys or self.quorum_missed else HOLDS
        why = self.unreadable or self.why
        if result == UNAUTHENTICATED and not self.quorum_missed:
            why = "consistent in itself, but nothing says whose it is: give the log's key with --key"
        r = {"anchoring": self.anchoring, "authenticity": self.authenticity, "completeness": complete,
             "count": self.count, "first": self.first, "integrity": self.integrity, "key_from": self.key_from,
             "openings": self.opened_count, "redacted": self.redacted, "redaction": redaction,
             "result": RESULTS[result], "size": self.size, "withheld": self.withheld}
        if self.bad:
            r["bad_seq"], r["bad_end"] = self.bad
        for name, v in (("fault", self.fault), ("key_id", self.key_id), ("message", why),
                        ("origin", self.origin.decode(errors="replace"))):
            if v:
                r[name] = v
        if self.pruned:
            r["pruned"], r["pruned_by"] = self.pruned
        if self.integrity == "yes":
            r["root"] = self.root.hex()
        if self.witnessed:
            r["witnessed"] = self.witnessed
        return result, r

    # records

    def range(self, first, count, size):
        self.first, self.count, self.size = first, count, size
        self.chain, self.span = Chain(first), Span(first)
        self.at_held = self.span.copy() if self.held and self.held.size == first else None

    def count_redacted(self):
        self.redacted += len(set(self.commits) - self.opened)
        self.commits, self.opened = {}, set()

    def record(self, r):
        self.count_redacted()
        self.records += 1
        self.leaf_fits = self.chain.next(r) and r.is_leaf
        if self.chain.stage != "fits" or self.records > self.count or self.fault:
            return
        self.append(r.hash)

    def append(self, h):
        self.span.append(h)
        if self.held and self.first + self.span.n == self.held.size:
            self.at_held = self.span.copy()

    def leaf(self, text):
        try:
            value = leaf(text)
            r = Record(True, True, value["seq"], value["prev"], leaf_hash(text))
        except Malformed:
            value, r = None, Record(True, False, 0, b"", leaf_hash(text))
        self.record(r)
        self.commits = commitments(value) if value else {}
        if value and self.leaf_fits:
            self.rotation(value)
            self.pruning(value)
        return r

    def pruning(self, value):
        """Keep what a log.prune record says: its number, how far, and the root over what went."""
        if value["kind"] == b"log.prune" and isinstance(value.get("to"), int) and value["to"] > 0 and \
                isinstance(value.get("root"), bytes) and re.fullmatch(rb"[0-9a-f]{64}", value["root"]):
            self.prune = value["seq"], value["to"], value["root"]

    def check_pruned(self, end, root):
        """Records [0, end) are not here: does the log say that they were pruned?"""
        if end and self.prune and self.prune[1] == end:
            if root.hex().encode() != self.prune[2]:
                self.tell("fork", f"what record {self.prune[0]} says was pruned are not the first records of this log")
            else:
                self.pruned = end, self.prune[0]

    def rotation(self, value):
        """Keep what a key.rotate record of the log's own key says; a malformed one is one of no key."""
        if value["kind"] != b"key.rotate" or value.get("use") != b"log":
            return
        try:
            key, signature = Key(value["vkey"]).public, unbase64(value["signature"])
            if value["size"] != value["seq"] + 1 or len(signature) != 64:
                raise Malformed("another size")
        except (KeyError, TypeError, AttributeError, Malformed, Usage):
            key, signature = bytes(32), bytes(64)
        self.rotated.append((value["seq"] + 1, key, signature))

    def rotations(self, note):
        """The records and the note must tell of the same keys."""
        try:
            told = note.rotations()
        except Malformed as e:
            self.tell("signature", f"the checkpoint: {e}")
            return
        for r in self.rotated:
            if r[0] < note.size and r not in told:
                self.tell("signature", f"the checkpoint is not by the key that signs since record {r[0] - 1}", (r[0] - 1, r[0]))
        for r in told if not self.piecemeal and not self.withheld else ():
            if self.first + self.absent < r[0] <= self.first + self.records and r not in self.rotated:
                self.tell("signature", f"the checkpoint names a key that is not the one of record {r[0] - 1}", (r[0] - 1, r[0]))
        if len(self.rotated) > 64:
            self.tell("signature", "the log took another key more than 64 times")

    def withheld_line(self, rest):
        self.withheld += 1
        try:
            h = unhex(rest[:-2], 32)
            shaped = rest[-2:] == b'"}'
        except Malformed:
            h, shaped = bytes(32), False
        self.record(Record(False, shaped, self.chain.expect, b"", h))

    def opening(self, rest):
        self.opened_count += 1
        if self.fault or self.chain.stage != "fits":
            return
        m = re.fullmatch(rb'(answer|facts|input)","salt":"([0-9a-f]{32})","seq":(0|[1-9][0-9]*),"value":(.+)}}', rest, re.DOTALL)
        if self.leaf_fits and m and int(m[3]) == self.chain.before.seq and m[1] in self.commits and m[1] not in self.opened:
            self.opened.add(m[1])
            h = H(b"writ/commit/v1\0" + len(m[1]).to_bytes(2, "big") + m[1] + bytes.fromhex(m[2].decode()) + m[4])
            if h.hex().encode() == self.commits[m[1]]:
                return
        seq = self.first + self.records - 1
        self.tell("opening", f"an opening after record {seq} is not what the record committed to",
                  (seq, seq + 1) if self.records else None)

    # the end

    def note(self, data):
        try:
            note = Note(data)
            if self.keys:
                self.authenticity = "no"
                keys = [k for k in self.keys if k.name == note.origin]
                self.key_id, given, since = note.trusted(keys)
                if since:
                    self.key_from += f": {given}; {self.key_id} since record {since - 1}, by the log's own record"
                self.authenticity = "yes"
            if self.policy and self.policy.quorum:
                self.anchoring = "no"
                self.witnessed = self.policy.check(note)
                self.anchoring = "yes"
        except Malformed as e:
            self.tell("signature", f"the checkpoint: {e}")
            return None
        except Quorum:
            self.quorum_missed, self.why = True, "the witnesses that the policy wants have not all signed"
        return note

    def anchors(self, hints):
        if self.at_least > self.size:
            self.tell("truncation", f"a log of {self.size} records, at least {self.at_least} were expected",
                      (self.size, self.at_least))
        if not self.held:
            return
        m, known = self.held.size, None
        if m > self.size:
            self.anchoring = "no"
            self.tell("truncation", f"a log of {self.size} records, the held checkpoint is over {m}", (self.size, m))
            return
        if m == self.size:
            known = self.root
        elif hints is not None and self.at_held is not None:
            known = self.at_held.root(hints)
        if known is None:
            return
        if known != self.held.root:
            self.anchoring = "no"
            self.tell("fork", f"the first {m} records are not those of the held checkpoint")
        elif self.anchoring == "unknown":
            self.anchoring = "yes"

    # --- an export ---

    HEADER = {"count": int, "first": int, "format": bytes, "openings": int, "origin": bytes, "size": int}
    HEADER_MAY = {"filter_agent": bytes, "filter_decision": bytes, "filter_kind": bytes, "filter_since": int,
                  "filter_until": int, "tool": bytes, "vkey": bytes}
    TRAILER = {"checkpoint": bytes, "count": int, "first": int, "header": bytes, "hints": bytes, "openings": int,
               "range": bytes, "size": int, "withheld": int}

    @staticmethod
    def envelope(line, prefix, must, may):
        if not line.startswith(prefix) or not line.endswith(b"}"):
            raise Malformed("not an envelope")
        x = flat(line[len(prefix):-1])
        for name, v in x.items():
            kind = must.get(name) or may.get(name)
            if kind is None or not isinstance(v, kind) or (kind is int and v < 0):
                raise Malformed("a member that does not belong there: " + name)
        if not set(must) <= set(x):
            raise Malformed("a member is missing")
        return x

    def header(self, line):
        try:
            x = self.envelope(line, b'{"header":', self.HEADER, self.HEADER_MAY)
        except Malformed:
            x = {"openings": 2}
        if x["openings"] > 1 or x["format"] != b"writ-audit-export/1":
            self.unreadable = "not a writ export: it does not begin with a header of format writ-audit-export/1"
            return
        self.header_hash, self.has_openings, self.origin = H(line).hex().encode(), x["openings"], x["origin"]
        self.range(x["first"], x["count"], x["size"])
        if not self.count:
            self.tell("empty", "the export holds no records")
        elif self.first > self.size or self.count > self.size - self.first:
            self.tell("count", "the header claims more records than the log has")

    def counts(self, x):
        end = self.first + self.records
        self.chain.end()
        self.tell_chain()
        if self.records < self.count:
            self.tell("truncation", f"records from {end} on are missing", (end, self.first + self.count))
        elif self.records > self.count:
            self.tell("insertion", f"record {self.first + self.count} and what follows are too many",
                      (self.first + self.count, end))
        if (x["count"], x["first"], x["size"], x["withheld"], x["openings"]) != (
                self.count, self.first, self.size, self.withheld, self.opened_count) or (x["openings"] and not self.has_openings):
            self.tell("count", "the trailer's counts are not those of the header and the records")

    @staticmethod
    def hashes(text):
        out = [unhex(h, 32) for h in text.split(b" ")] if text else []
        if len(out) > 126:
            raise Malformed("too many hashes")
        return out

    def locate(self, stored, root):
        """Which part of the tree is another than the one that was signed?"""
        lo, hi = self.first, self.first + self.records
        try:
            nodes = self.hashes(stored)
            if self.first == 0 and self.records == self.size and Range(self.size, nodes).root() == root:
                hi = 0
                for (level, mine), theirs in zip(self.span.nodes, nodes):
                    lo, hi = hi, hi + (1 << level)
                    if mine != theirs:
                        break
        except Malformed:
            pass
        if hi - lo == 1:
            self.tell("edit", f"record {lo} was changed", (lo, hi))
        else:
            self.tell("rewrite", f"a record from {lo} to {hi - 1} was changed, and those after it chained anew", (lo, hi))

    def no_trailer(self):
        self.count_redacted()
        self.chain.end()
        self.tell_chain()
        self.tell("count", "the trailer is not readable")

    def is_spoiled_trailer(self, line):
        """After all that the header announced only the trailer can follow; is this nothing at all?"""
        if self.records != self.count:
            return False
        try:
            leaf(line)
        except Malformed:
            return True
        return False

    def trailer(self, line):
        self.count_redacted()
        try:
            x = self.envelope(line, b'{"trailer":', self.TRAILER, {})
            hints, text = self.hashes(x["hints"]), unescape(x["checkpoint"])
            if len(text) > 65536:
                raise Malformed("a note of more than 64 KiB")
        except Malformed:
            self.no_trailer()
            return
        self.counts(x)
        note = self.note(text)
        if self.fault:
            return
        self.root = note.root
        if note.size != self.size:
            short = note.size > self.size and self.first == 0 and self.records == self.size
            self.tell("truncation" if short else "count", f"the file says {self.size} records, its checkpoint {note.size}",
                      (self.size, note.size) if short else None)
            return
        try:
            root = self.span.finish(self.size, hints)
        except Malformed:
            self.tell("count", "the trailer's hints are not those of this range")
            return
        if root != note.root:
            self.locate(x["range"], note.root)
            return
        if x["header"] != self.header_hash:
            self.tell("count", "the header is not the one that the trailer was written for")
        elif self.origin != json.dumps(note.origin.decode(errors="replace"), ensure_ascii=False)[1:-1].encode():
            self.tell("count", "the header names another log than the checkpoint")
        else:
            try:
                if Range(self.size, self.hashes(x["range"])).root() != note.root:
                    raise Malformed("another root")
            except Malformed:
                self.tell("count", "the trailer's range does not make the signed root")
        if not self.fault:
            self.rotations(note)
        if self.fault:
            return
        self.integrity = "yes"
        if self.first:
            self.check_pruned(self.first, Span(self.first).root(hints))
        self.anchors(hints)

    def export(self, data):
        *lines, rest = data.split(b"\n")
        stage = "header"
        for line in lines:
            if len(line) > LINE_MAX:
                self.unreadable = "a line is longer than 16 MiB"
            elif stage == "header":
                self.header(line)
                stage = "body"
            elif stage == "after":
                self.tell("insertion", "something stands behind the trailer")
            elif line.startswith(b'{"opening":{"name":"'):
                self.opening(line[len(b'{"opening":{"name":"'):])
            elif line.startswith(b'{"trailer":'):
                stage = "after"
                self.trailer(line)
            elif line.startswith(b'{"leaf_hash":"'):
                self.withheld_line(line[len(b'{"leaf_hash":"'):])
            elif self.is_spoiled_trailer(line):
                stage = "after"
                self.no_trailer()
            else:
                self.leaf(line)
            if self.unreadable:
                return
        if len(rest) > LINE_MAX or stage == "header":
            self.unreadable = "not a writ export: it does not begin with a header"
        elif stage == "after" and rest:
            self.tell("insertion", "something stands behind the trailer")
        elif stage == "body":
            end = self.first + self.records
            self.chain.end()
            self.tell_chain()
            self.tell("truncation", "the file ends before its trailer", (end, self.first + self.count))

    # --- a folder of tiles ---

    def tile(self, level, index, width, entries=False):
        """The bytes of a tile, or None: told."""
        name = "%03d" % (index % 1000)
        n = index // 1000
        while n:
            name, n = "x%03d/" % (n % 1000) + name, n // 1000
        name = f"tile/{'entries' if entries else level}/{name}"
        bad = (index * 256 << 8 * level, min((index * 256 + width) << 8 * level, self.size))
        for path in ([name + f".p/{width}"] if width < 256 else []) + [name]:
            try:
                with open(os.path.join(self.folder, path), "rb") as f:
                    data = f.read(256 * 65537 + 1 if entries else 8193 + 65536)
                break
            except OSError:
                data = None
        if data is None or (entries and len(data) > 256 * 65537):
            self.chain.end()
            self.tell_chain()
            last = (index * 256 + width) << 8 * level >= self.size
            self.tell("truncation" if last else "deletion", f"{name} is not there", bad)
            return None
        if not entries and (len(data) < 32 * width or len(data) % 32):
            self.tell("edit", f"{name} holds {len(data)} bytes, not {32 * width}", bad)
            return None
        return data

    def bundle_there(self, index):
        name = "%03d" % (index % 1000)
        n = index // 1000
        while n:
            name, n = "x%03d/" % (n % 1000) + name, n // 1000
        return os.path.exists(os.path.join(self.folder, "tile/entries", name))

    def widths(self, level):
        hashes = self.size >> 8 * level
        return [256] * (hashes // 256) + ([hashes % 256] if hashes % 256 else [])

    def walk(self):
        """Records or hashes of all level 0 tiles; the first record that is not the one of its tile. None: told."""
        differs = None
        for index, width in enumerate(self.widths(0)):
            tile = self.tile(0, index, width)
            if tile is None:
                return None
            hashes = [tile[32 * i:32 * i + 32] for i in range(width)]
            if self.piecemeal:
                for h in hashes:
                    self.append(h)
                self.records += width
                continue
            if width == 256 and self.absent == 256 * index and not self.bundle_there(index):
                self.absent += 256
                self.chain = Chain(self.absent)
                for h in hashes:
                    self.append(h)
                self.records += width
                continue
            if self.absent == 256 * index:
                self.gone = self.span.copy()
            rest = self.tile(0, index, width, True)
            if rest is None:
                return None
            while rest:
                n = min(int.from_bytes(rest[:2], "big") if len(rest) >= 2 else 0, max(0, len(rest) - 2))
                r = self.leaf(rest[2:2 + n])
                rest = rest[2 + n:]
                at = r.seq - 256 * index
                if differs is None and self.leaf_fits and 0 <= at < width and r.hash != hashes[at]:
                    differs = r.seq
            if self.chain.stage == "broken":
                break
        return (differs,)

    def upper(self):
        for level in range(1, 8):
            for index, width in enumerate(self.widths(level)):
                tile = self.tile(level, index, width)
                if tile is None:
                    return
                for i in range(width):
                    below = self.tile(level - 1, index * 256 + i, 256)
                    if below is None:
                        return
                    r = Range()
                    for k in range(256):
                        r.append(below[32 * k:32 * k + 32])
                    if r.root() != tile[32 * i:32 * i + 32]:
                        lo = (index * 256 + i) << 8 * level
                        self.tell("edit", f"tile {level}/{index} is not over the tiles below it",
                                  (lo, min(lo + (1 << 8 * level), self.size)))
                        return

    def tiles(self, folder):
        self.folder = folder
        try:
            with open(os.path.join(folder, "checkpoint"), "rb") as f:
                data = f.read(65537)
            if len(data) > 65536:
                raise OSError("checkpoint: longer than 64 KiB")
        except OSError as e:
            self.unreadable = str(e)
            return
        note = self.note(data)
        if not note or self.fault:
            return
        self.origin, self.root = note.origin, note.root
        self.range(0, note.size, note.size)
        if not note.size:
            self.tell("empty", "the log holds no records")
            return
        self.piecemeal = not os.path.exists(os.path.join(folder, "tile/entries"))
        walked = self.walk()
        if walked is None:
            return
        self.count_redacted()
        self.chain.end()
        self.tell_chain()
        if self.records < self.size:
            self.tell("truncation", f"records from {self.records} on are missing", (self.records, self.size))
        elif self.records > self.size:
            self.tell("insertion", f"record {self.size} and what follows are too many", (self.size, self.records))
        if walked[0] is not None:
            self.tell("edit", f"record {walked[0]} is not the one of its tile", (walked[0], walked[0] + 1))
        if self.fault:
            return
        self.upper()
        if self.fault:
            return
        if self.span.finish(self.size, []) != note.root:
            self.tell("rewrite", "a record was changed, and those after it and the tiles made anew", (0, self.size))
            return
        self.rotations(note)
        if self.fault:
            return
        if self.absent and (not self.prune or self.prune[1] < self.absent):
            self.tell("deletion", f"records 0 to {self.absent - 1} are not there, and none says that they were pruned", (0, self.absent))
            return
        if self.absent:
            self.check_pruned(self.absent, self.gone.root([]))
        self.integrity = "yes"
        self.anchors([])

    # --- one record ---

    def proof(self, data, record):
        self.piecemeal = True
        try:
            head, note_text = data.split(b"\n\n", 1)
            lines = head.split(b"\n")
            extra = None
            if lines[0] != b"c2sp.org/tlog-proof@v1":
                raise Malformed("another first line")
            if len(lines) > 1 and lines[1].startswith(b"extra "):
                extra = unbase64(lines.pop(1)[6:])
                if not extra:
                    raise Malformed("an empty extra line")
            if len(lines) < 2 or not lines[1].startswith(b"index ") or len(lines) > 65 or len(data) > 512 * 1024:
                raise Malformed("no index")
            index, path = number(lines[1][6:], SIZE_MAX - 1), [unbase64(h) for h in lines[2:]]
            if any(len(h) != 32 for h in path):
                raise Malformed("a hash that has not 32 bytes")
            if extra is None and record is None:
                raise Malformed("the record is not in the proof; give it with --record")
        except (ValueError, Malformed) as e:
            self.unreadable = f"not a proof of a record: {e}"
            return
        if extra is not None and record is not None and extra != record:
            self.tell("edit", "the record given is not the one in the proof", (index, index + 1))
        record = extra if record is None else record
        self.range(index, 1, 0)
        note = self.note(note_text)
        if not note:
            return
        self.size, self.origin, self.root = note.size, note.origin, note.root
        if index >= note.size:
            self.tell("count", f"the proof is of record {index}, its checkpoint over {note.size}")
            return
        try:
            value = leaf(record)
            good = value["seq"] == index and inclusion_holds(index, note.size, leaf_hash(record), path, note.root)
        except Malformed:
            good = False
        if not good:
            self.tell("edit", f"this is not record {index} of the log that was signed", (index, index + 1))
            return
        self.redacted = len(commitments(value))
        self.rotation(value)
        self.rotations(note)
        if self.fault:
            return
        self.integrity = "yes"
        self.anchors(None)


# --- the command ------------------------------------------------------------------------------

def read(path, most):
    with sys.stdin.buffer if path == "-" else open(path, "rb") as f:
        data = f.read(most + 1)
    if len(data) > most:
        raise Usage(f"{path}: longer than {most} bytes")
    return data


def read_all(path):
    with open(path, "rb") as f:
        return f.read()


def options(argv):
    given, operands, i = {}, [], 0
    while i < len(argv):
        if argv[i] in ("--json", "--help", "-h"):
            given[argv[i]] = True
        elif argv[i] in ("--key", "--checkpoint", "--at-least", "--witness-policy", "--record") and i + 1 < len(argv):
            if argv[i] == "--key":
                given.setdefault("--key", []).append(argv[i + 1])
            else:
                given[argv[i]] = argv[i + 1]
            i += 1
        elif argv[i].startswith("-") and argv[i] != "-":
            raise Usage(f"unknown option {argv[i]}, or its value is missing")
        else:
            operands.append(argv[i])
        i += 1
    return given, operands


def check(given, source):
    keys = [read(k[1:], 8192) if k.startswith("@") else k.encode() for k in given.get("--key", ())]
    if not all(k.strip(b" \r\n") for k in keys):
        raise Usage("--key: no key in it")
    key = b"\n".join(keys)
    v = Verifier(key, read(given["--checkpoint"], 65536) if "--checkpoint" in given else None,
                 number(given.get("--at-least", "0").encode()),
                 read(given["--witness-policy"], 65536) if "--witness-policy" in given else None)
    record = read(given["--record"], 65535) if "--record" in given else None
    try:
        if os.path.isdir(source):
            v.tiles(source)
            return v
        data = sys.stdin.buffer.read() if source == "-" else read_all(source)
    except OSError as e:
        v.unreadable = str(e)
        return v
    if data.startswith(b"c2sp.org/tlog-proof@") and source != "-":
        v.proof(data, record)
    else:
        v.export(data)
    return v


def main(argv):
    try:
        given, operands = options(argv)
        if "--help" in given or "-h" in given:
            print(__doc__)
            return 0
        if len(operands) != 1:
            raise Usage("expected one file or folder; see --help")
        result, report = check(given, operands[0]).report()
    except (Usage, Malformed, OSError) as e:
        print(f"verify.py: {e}", file=sys.stderr)
        return USAGE
    if "--json" in given:
        print(json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
        return result
    print(f"{operands[0]}: {report['result']}")
    for name in ("fault", "bad_seq", "bad_end", "message", "integrity", "completeness", "authenticity", "anchoring",
                 "redaction", "pruned", "pruned_by", "key_from", "key_id", "origin", "root"):
        if name in report:
            print(f"{name}: {report[name]}")
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
