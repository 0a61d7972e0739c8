"""der: certificates, keys and signatures, on Python's standard library alone. For tests: nothing here is constant-time.

    c = Certificate(der); c.uris, c.usage, c.verify(issuer.key)
    certificates(der) -> [Certificate]           one behind the other, nothing after them
    k = private_key(pkcs8); k.public == c.key
    jwk_key({...}), verify_jws(key, "ES256", data, signature)

Keys are ("EC", curve, x, y) or ("RSA", n, e). What is wrong with the bytes raises Bad.
"""
import base64
import calendar
import hashlib
import time


class Bad(Exception):
    """Bytes that are not what they should be."""


# --- DER ------------------------------------------------------------------------------------

def read(data, at=0):
    """(tag, content, end) of the element at @at."""
    try:
        tag, n = data[at], data[at + 1]
        start = at + 2
        if tag & 31 == 31:
            raise Bad("DER: a tag of several bytes")
        if n == 128:
            raise Bad("DER: an indefinite length")
        if n > 128:
            size = n & 127
            n = int.from_bytes(data[start:start + size], "big")
            if size > 4 or n < 128 or data[start] == 0:
                raise Bad("DER: a length that is not the shortest")
            start += size
    except IndexError:
        raise Bad("DER: cut off") from None
    if start + n > len(data):
        raise Bad("DER: cut off")
    return tag, data[start:start + n], start + n


def items(data):
    out, at = [], 0
    while at < len(data):
        tag, content, at = read(data, at)
        out.append((tag, content))
    return out


def whole(data, tag=0x30):
    """The content of the one element that @data is."""
    got, content, end = read(data)
    if got != tag:
        raise Bad(f"DER: tag {got:#x}, expected {tag:#x}")
    if end != len(data):
        raise Bad(f"DER: {len(data) - end} bytes too many")
    return content


def oid(content):
    numbers, n = [], 0
    for byte in content:
        n = n << 7 | byte & 127
        if byte < 128:
            numbers.append(n)
            n = 0
    return ".".join(map(str, [min(numbers[0] // 40, 2), numbers[0] - 40 * min(numbers[0] // 40, 2), *numbers[1:]]))


def when(tag, content):
    text = content.decode("ascii")
    year = int(text[:4]) if tag == 0x18 else int(text[:2]) + (2000 if int(text[:2]) < 50 else 1900)
    rest = text[4 if tag == 0x18 else 2:]
    return calendar.timegm(time.strptime(f"{year:04}{rest}", "%Y%m%d%H%M%SZ"))


# --- keys -----------------------------------------------------------------------------------

class Curve:
    def __init__(self, name, p, b, n, gx, gy):
        self.name, self.p, self.b, self.n, self.g, self.size = name, p, b, n, (gx, gy), (p.bit_length() + 7) // 8

    def on(self, x, y):
        return 0 <= x < self.p and 0 <= y < self.p and (y * y - x * x * x + 3 * x - self.b) % self.p == 0

    def _double(self, q):
        x, y, z = q
        p = self.p
        if not y:
            return 0, 1, 0
        s = 4 * x * y * y % p
        m = 3 * (x - z * z) * (x + z * z) % p
        x3 = (m * m - 2 * s) % p
        return x3, (m * (s - x3) - 8 * pow(y, 4, p)) % p, 2 * y * z % p

    def _add(self, a, b):
        if not a[2]:
            return b
        if not b[2]:
            return a
        p = self.p
        za, zb = a[2] * a[2] % p, b[2] * b[2] % p
        u, v = a[0] * zb % p, b[0] * za % p
        s, t = a[1] * zb * b[2] % p, b[1] * za * a[2] % p
        if u == v:
            return self._double(a) if s == t else (0, 1, 0)
        h, r = (v - u) % p, (t - s) % p
        h2 = h * h % p
        h3, uh = h * h2 % p, u * h2 % p
        x = (r * r - h3 - 2 * uh) % p
        return x, (r * (uh - x) - s * h3) % p, h * a[2] * b[2] % p

    def multiply(self, k, point, l=0, other=None):
        """k * point + l * other, as (x, y); None: the point at infinity."""
        a, b = (*point, 1), (*other, 1) if other else (0, 1, 0)
        both, q = self._add(a, b), (0, 1, 0)
        for i in range(max(k.bit_length(), l.bit_length()) - 1, -1, -1):
            q = self._double(q)
            bits = k >> i & 1, l >> i & 1
            if any(bits):
                q = self._add(q, both if all(bits) else a if bits[0] else b)
        if not q[2]:
            return None
        z = pow(q[2], -1, self.p)
        return q[0] * z * z % self.p, q[1] * z * z * z % self.p


P256 = Curve("P-256", 2**256 - 2**224 + 2**192 + 2**96 - 1,
             0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b,
             0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551,
             0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296,
             0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5)
P384 = Curve("P-384", 2**384 - 2**128 - 2**96 + 2**32 - 1,
             0xb3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef,
             0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973,
             0xaa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7,
             0x3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f)
P521 = Curve("P-521", 2**521 - 1,
             0x0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00,
             0x01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409,
             0x00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66,
             0x011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650)
CURVES = {c.name: c for c in (P256, P384, P521)}
CURVE_OIDS = {"1.2.840.10045.3.1.7": P256, "1.3.132.0.34": P384, "1.3.132.0.35": P521}
EC_KEY, RSA_KEY = "1.2.840.10045.2.1", "1.2.840.113549.1.1.1"
# signature algorithms of certificates: (key, hash)
SIGNATURES = {"1.2.840.10045.4.3.2": ("EC", "sha256"), "1.2.840.10045.4.3.3": ("EC", "sha384"),
              "1.2.840.10045.4.3.4": ("EC", "sha512"), "1.2.840.113549.1.1.11": ("RSA", "sha256"),
              "1.2.840.113549.1.1.12": ("RSA", "sha384"), "1.2.840.113549.1.1.13": ("RSA", "sha512")}
DIGEST_INFO = {"sha256": "3031300d060960864801650304020105000420", "sha384": "3041300d060960864801650304020205000430",
               "sha512": "3051300d060960864801650304020305000440"}


def public_key(spki):
    """The key of a SubjectPublicKeyInfo (its content, not the outer tag)."""
    (_, algorithm), (_, bits) = items(spki)
    name, *parameters = items(algorithm)
    if oid(name[1]) == EC_KEY:
        curve = CURVE_OIDS.get(oid(parameters[0][1])) if parameters and parameters[0][0] == 6 else None
        if not curve:
            raise Bad("an EC key that is not on a named curve P-256, P-384 or P-521")
        point = bits[1:]
        if len(point) != 1 + 2 * curve.size or point[0] != 4:
            raise Bad("an EC key whose point is not uncompressed")
        x, y = (int.from_bytes(point[a:a + curve.size], "big") for a in (1, 1 + curve.size))
        if not curve.on(x, y):
            raise Bad("an EC key whose point is not on its curve")
        return "EC", curve.name, x, y
    if oid(name[1]) == RSA_KEY:
        (_, n), (_, e) = items(whole(bits[1:]))
        return "RSA", int.from_bytes(n, "big"), int.from_bytes(e, "big")
    raise Bad(f"a key of type {oid(name[1])}")


def private_key(data):
    """The public half of an unencrypted PKCS#8 key."""
    parts = items(whole(data))
    if len(parts) < 3 or parts[0][0] != 2 or parts[1][0] != 0x30 or parts[2][0] != 4:
        raise Bad("no unencrypted PKCS#8 PrivateKeyInfo")
    name, *parameters = items(parts[1][1])
    if oid(name[1]) == EC_KEY:
        curve = CURVE_OIDS.get(oid(parameters[0][1])) if parameters and parameters[0][0] == 6 else None
        if not curve:
            raise Bad("an EC key that is not on a named curve P-256, P-384 or P-521")
        scalar = int.from_bytes(items(whole(parts[2][1]))[1][1], "big")
        return "EC", curve.name, *curve.multiply(scalar, curve.g)
    if oid(name[1]) == RSA_KEY:
        numbers = [int.from_bytes(c, "big") for _, c in items(whole(parts[2][1]))]
        return "RSA", numbers[1], numbers[2]
    raise Bad(f"a key of type {oid(name[1])}")


def _ec_verify(key, r, s, digest):
    curve = CURVES[key[1]]
    if not (0 < r < curve.n and 0 < s < curve.n):
        return False
    z = int.from_bytes(digest, "big") >> max(0, 8 * len(digest) - curve.n.bit_length())
    w = pow(s, -1, curve.n)
    point = curve.multiply(z * w % curve.n, curve.g, r * w % curve.n, (key[2], key[3]))
    return point is not None and point[0] % curve.n == r


def _rsa_verify(key, signature, digest, hash_name):
    n, e = key[1], key[2]
    size = (n.bit_length() + 7) // 8
    tail = bytes.fromhex(DIGEST_INFO[hash_name]) + digest
    return len(signature) == size and pow(int.from_bytes(signature, "big"), e, n).to_bytes(size, "big") == \
        b"\0\1" + b"\xff" * (size - 3 - len(tail)) + b"\0" + tail


def _pss_verify(key, signature, digest, hash_name):
    n, e = key[1], key[2]
    bits, size, h = n.bit_length() - 1, (n.bit_length() + 7) // 8, len(digest)
    length = (bits + 7) // 8
    if len(signature) != size or int.from_bytes(signature, "big") >= n:
        return False
    block = pow(int.from_bytes(signature, "big"), e, n).to_bytes(size, "big")[size - length:]
    masked, seed = block[:length - h - 1], block[length - h - 1:-1]
    mask = b"".join(hashlib.new(hash_name, seed + i.to_bytes(4, "big")).digest() for i in range(len(masked) // h + 1))
    db = bytearray(a ^ b for a, b in zip(masked, mask))
    db[0] &= 0xff >> (8 * length - bits)
    salt = bytes(db[-h:])
    return block[-1] == 0xbc and bytes(db[:-h]) == b"\0" * (len(db) - h - 1) + b"\1" and \
        hashlib.new(hash_name, b"\0" * 8 + digest + salt).digest() == seed


def verify_jws(key, alg, data, signature):
    """True: @signature is one of @key's over @data, and @alg fits the key."""
    if alg[2:] not in ("256", "384", "512"):
        return False
    hash_name = "sha" + alg[2:]
    digest = hashlib.new(hash_name, data).digest()
    if alg[:2] == "ES" and key[0] == "EC":
        size = CURVES[key[1]].size
        fits = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[key[1]] == alg and len(signature) == 2 * size
        return fits and _ec_verify(key, int.from_bytes(signature[:size], "big"),
                                   int.from_bytes(signature[size:], "big"), digest)
    if key[0] == "RSA" and alg[:2] in ("RS", "PS"):
        return (_rsa_verify if alg[:2] == "RS" else _pss_verify)(key, signature, digest, hash_name)
    return False


def base64url(text):
    """Strict: no padding, no foreign characters."""
    if not isinstance(text, str) or not all(c.isascii() and (c.isalnum() or c in "-_") for c in text) or len(text) % 4 == 1:
        raise Bad("no base64url without padding")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jwk_key(jwk):
    number = lambda name: int.from_bytes(base64url(jwk.get(name)), "big")  # noqa: E731
    if jwk.get("kty") == "EC":
        curve = CURVES.get(jwk.get("crv"))
        if not curve:
            raise Bad(f"a JWK on curve {jwk.get('crv')!r}")
        if len(base64url(jwk.get("x"))) != curve.size or len(base64url(jwk.get("y"))) != curve.size:
            raise Bad("a JWK whose coordinates are not of full width")
        if not curve.on(number("x"), number("y")):
            raise Bad("a JWK whose point is not on its curve")
        return "EC", curve.name, number("x"), number("y")
    if jwk.get("kty") == "RSA":
        return "RSA", number("n"), number("e")
    raise Bad(f"a JWK of type {jwk.get('kty')!r}")


# --- certificates ---------------------------------------------------------------------------

USAGES = ("digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign",
          "cRLSign", "encipherOnly", "decipherOnly")
PURPOSES = {"1.3.6.1.5.5.7.3.1": "serverAuth", "1.3.6.1.5.5.7.3.2": "clientAuth"}


class Certificate:
    """What the X.509-SVID standard speaks of. Extensions that are absent are None."""

    def __init__(self, data):
        self.der = data
        (tag, _), (_, algorithm), (_, signature) = items(whole(data))
        if tag != 0x30:
            raise Bad("no certificate")
        self.tbs = whole(data)[:read(whole(data))[2]]
        self.algorithm, self.signature = oid(items(algorithm)[0][1]), signature[1:]
        parts = items(whole(self.tbs))
        self.version = 1
        if parts[0][0] == 0xa0:
            self.version = items(parts.pop(0)[1])[0][1][-1] + 1
        self.serial = int.from_bytes(parts[0][1], "big", signed=True)
        self.issuer, self.subject = parts[2][1], parts[4][1]
        self.begins, self.ends = (when(t, c) for t, c in items(parts[3][1]))
        self.key = public_key(parts[5][1])
        self.extensions = {}
        for tag, content in parts[6:]:
            if tag == 0xa3:
                for _, one in items(whole(content)):
                    self._extension(items(one))
        self._known()

    def _extension(self, parts):
        name = oid(parts[0][1])
        if name in self.extensions:
            raise Bad(f"extension {name} occurs twice")
        critical = len(parts) == 3 and parts[1][1] != b"\0"
        self.extensions[name] = (critical, parts[-1][1])

    def _known(self):
        def value(name):
            return self.extensions[name][1] if name in self.extensions else None
        self.ca = self.usage = self.purposes = self.uris = None
        if (raw := value("2.5.29.19")) is not None:
            inside = items(whole(raw))
            self.ca = bool(inside and inside[0][0] == 1 and inside[0][1] != b"\0")
        if (raw := value("2.5.29.15")) is not None:
            bits = whole(raw, 3)
            self.usage = {USAGES[i] for i in range(min(9, 8 * (len(bits) - 1))) if bits[1 + i // 8] & 128 >> i % 8}
        if (raw := value("2.5.29.37")) is not None:
            self.purposes = {PURPOSES.get(oid(c), oid(c)) for _, c in items(whole(raw))}
        if (raw := value("2.5.29.17")) is not None:
            self.uris = [c.decode("latin-1") for tag, c in items(whole(raw)) if tag == 0x86]

    def critical(self, name):
        return self.extensions.get(name, (False,))[0]

    def verify(self, key):
        """True: signed with @key."""
        kind, hash_name = SIGNATURES.get(self.algorithm, (None, None))
        if kind is None:
            raise Bad(f"a certificate signed with {self.algorithm}")
        digest = hashlib.new(hash_name, self.tbs).digest()
        if key[0] != kind:
            return False
        if kind == "RSA":
            return _rsa_verify(key, self.signature, digest, hash_name)
        (_, r), (_, s) = items(whole(self.signature))
        return _ec_verify(key, int.from_bytes(r, "big"), int.from_bytes(s, "big"), digest)


def certificates(data):
    """The certificates of a chain or a bundle: one behind the other, nothing else."""
    out, at = [], 0
    while at < len(data):
        end = read(data, at)[2]
        try:
            out.append(Certificate(data[at:end]))
        except (ValueError, IndexError) as e:
            raise Bad(f"certificate {len(out)} cannot be read: {e}") from e
        at = end
    return out


def chain_error(chain, roots, now):
    """Why @chain does not lead to one of @roots at @now; None: it does (RFC 5280 6, as far as SVIDs need it)."""
    at = chain[0]
    for depth, c in enumerate(chain):
        if not c.begins <= now < c.ends:
            return f"certificate {depth} is not valid now"
    rest = chain[1:]
    while True:
        for root in roots:
            if root.der == at.der or root.subject == at.issuer and root.begins <= now < root.ends and at.verify(root.key):
                return None
        if not rest:
            return "no certificate of the bundle has signed it"
        above = rest.pop(0)
        if above.subject != at.issuer or not at.verify(above.key):
            return "a certificate of the chain is not signed by the next one"
        at = above
