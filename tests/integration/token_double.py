"""token_double: an issuer's key pair, its JWK and tokens, made by openssl alone."""
import base64
import json

from harness import openssl


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """A key pair with its JWK, made by openssl alone."""

    def __init__(self, d, kind, kid):
        self.kid, self.kind, self.file = kid, kind, d.path(f"{kid}.pem")
        how = {"RS256": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
               "ES256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"), "EdDSA": ("ED25519",)}[kind]
        openssl("genpkey", "-algorithm", *how, "-out", self.file)
        self.der = openssl("pkey", "-in", self.file, "-pubout", "-outform", "DER")

    def jwk(self, **more):
        if self.kind == "RS256":
            n = openssl("rsa", "-in", self.file, "-noout", "-modulus").decode().strip().split("=")[1]
            parts = {"kty": "RSA", "n": url64(bytes.fromhex(n)), "e": "AQAB"}
        elif self.kind == "ES256":
            parts = {"kty": "EC", "crv": "P-256", "x": url64(self.der[-64:-32]), "y": url64(self.der[-32:])}
        else:
            parts = {"kty": "OKP", "crv": "Ed25519", "x": url64(self.der[-32:])}
        return dict(parts, kid=self.kid, **more)

    def sign(self, data):
        name = self.file + ".data"
        with open(name, "wb") as f:
            f.write(data)
        if self.kind == "EdDSA":
            return openssl("pkeyutl", "-sign", "-inkey", self.file, "-rawin", "-in", name)
        sig = openssl("dgst", "-sha256", "-sign", self.file, name)
        if self.kind == "RS256":
            return sig
        at, raw = 3 if sig[1] & 0x80 else 2, b""
        for _ in range(2):
            n = sig[at + 1]
            raw += sig[at + 2:at + 2 + n].lstrip(b"\0").rjust(32, b"\0")
            at += 2 + n
        return raw

    def token(self, claims, alg=None, **header):
        head = dict({"alg": alg or self.kind, "kid": self.kid, "typ": "JWT"}, **header)
        text = url64(json.dumps({k: v for k, v in head.items() if v is not None}).encode()) + "." + url64(
            json.dumps(claims).encode())
        return text + "." + url64(self.sign(text.encode()))
