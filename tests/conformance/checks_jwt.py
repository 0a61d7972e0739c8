"""JWT-SVIDs, JWT bundles, and the server's own verification."""
import base64
import hashlib
import hmac
import json
import time

import der
from report import API, BUNDLE, JWT, SHOULD, Fail, check, want
from target import Token, strict_json, trust_domain_of
from wire import mapping, parse, text

ALGORITHMS = {a + n for a in ("RS", "ES", "PS") for n in ("256", "384", "512")}
INVALID, NO_PERMISSION = 3, 7


def b64(data):
    data = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@check("jwt.mandatory-fields", API, "6.2.1")
def mandatory_fields(t):
    """Each JWTSVID has an ID and a token."""
    for i, s in enumerate(t.tokens):
        want(s.spiffe_id and s.svid, f"JWT-SVID {i} lacks its ID or token")


@check("jwt.hints", API, "6.2.1")
def hints(t):
    """No hint occurs twice in a response."""
    given = [s.hint for s in t.tokens if s.hint]
    want(len(set(given)) == len(given), f"hints {given}")


@check("jwt.audience-missing", API, "4.5", SHOULD)
def audience_missing(t):
    """A request without an audience is INVALID_ARGUMENT."""
    t.refused(t.jwt(), INVALID, "no audience")


@check("jwt.audience-empty", API, "6.2.1", SHOULD)
def audience_empty(t):
    """An empty audience is none."""
    t.refused(t.jwt(""), INVALID, "an empty audience")


@check("jwt.id-malformed", API, "6.2.1", SHOULD)
def id_malformed(t):
    """A request for what is no SPIFFE ID is INVALID_ARGUMENT."""
    for wrong in ("spiffe://Example.org/x", "http://example.org/x", "spiffe://example.org/a/../b", "x"):
        t.refused(t.jwt(t.audience, spiffe_id=wrong), INVALID, repr(wrong))


@check("jwt.id-foreign", API, "6.2.1", SHOULD)
def id_foreign(t):
    """A request for another's ID is PERMISSION_DENIED."""
    for other in ("spiffe://conformance.invalid/x", f"spiffe://{t.domain}/conformance/nobody"):
        t.refused(t.jwt(t.audience, spiffe_id=other), NO_PERMISSION, other)


@check("jwt.id-own", API, "6.2.1")
def id_own(t):
    """A request for one ID gives that one only."""
    for s in t.tokens:
        reply = t.jwt(t.audience, spiffe_id=s.spiffe_id)
        want(reply.status == 0 and reply.messages, f"{s.spiffe_id}: {reply}")
        got = [Token(raw).spiffe_id for raw in parse(reply.messages[0]).get(1, [])]
        want(got == [s.spiffe_id], f"{s.spiffe_id}: {got}")


@check("jwt.all", API, "6.2.1")
def all_of_them(t):
    """A request without an ID gives a token for each identity."""
    ids, certified = [s.spiffe_id for s in t.tokens], [s.spiffe_id for s in t.svids]
    want(set(certified) <= set(ids), f"X.509-SVIDs for {certified}, JWT-SVIDs for {ids}")


@check("jwt.compact", JWT, "5.1")
def compact(t):
    """Tokens are in compact serialization: three parts, base64url without padding, objects without doubles."""
    for s in t.tokens:
        want(s.header and s.claims and s.parts[2], f"{s.spiffe_id}: an empty part")


@check("jwt.alg", JWT, "2.1")
def alg(t):
    """alg is one of the nine of RS, ES and PS."""
    for s in t.tokens:
        want(s.header.get("alg") in ALGORITHMS, f"alg {s.header.get('alg')!r}")


@check("jwt.typ", JWT, "2.3")
def typ(t):
    """typ, if there, is JWT or JOSE."""
    for s in t.tokens:
        want(s.header.get("typ", "JWT") in ("JWT", "JOSE"), f"typ {s.header.get('typ')!r}")


@check("jwt.header", JWT, "2")
def header(t):
    """The header has alg, kid and typ only."""
    for s in t.tokens:
        want(not set(s.header) - {"alg", "kid", "typ"}, f"header {sorted(s.header)}")


@check("jwt.kid", JWT, "2.2", SHOULD)
def kid(t):
    """The header names the key: most clients refuse a token without kid."""
    for s in t.tokens:
        want(isinstance(s.header.get("kid"), str) and s.header["kid"], "no kid")


@check("jwt.sub", JWT, "3.1")
def sub(t):
    """sub is the SPIFFE ID, with a path."""
    for s in t.tokens:
        trust_domain_of(str(s.claims.get("sub")), path=True)
        want(s.claims["sub"] == s.spiffe_id, f"sub {s.claims['sub']!r} for {s.spiffe_id}")


@check("jwt.aud", API, "6.2.1")
def aud(t):
    """aud is what was asked for."""
    for s in t.tokens:
        got = s.claims.get("aud")
        want(set([got] if isinstance(got, str) else got or []) == {t.audience, t.audience + "-2"}, f"aud {got!r}")


@check("jwt.aud-array", JWT, "3.2", SHOULD)
def aud_array(t):
    """aud is an array even for one audience: some clients read a text letter by letter."""
    reply = t.jwt(t.audience)
    want(reply.status == 0 and reply.messages, repr(reply))
    for raw in parse(reply.messages[0]).get(1, []):
        want(isinstance(Token(raw).claims.get("aud"), list), f"aud {Token(raw).claims.get('aud')!r}")


@check("jwt.exp", JWT, "3.3")
def exp(t):
    """exp is there, a number, and not past."""
    for s in t.tokens:
        got = s.claims.get("exp")
        want(isinstance(got, (int, float)) and not isinstance(got, bool) and got > time.time() - 60, f"exp {got!r}")


@check("jwt.iat", JWT, "3")
def iat(t):
    """iat and nbf, if there, are not in the future: clients would refuse the token."""
    for s in t.tokens:
        for name in ("iat", "nbf"):
            want(s.claims.get(name, 0) <= time.time() + 60, f"{name} {s.claims.get(name)!r}")


@check("jwt.signature", JWT, "4")
def signature(t):
    """The token verifies with the key of the bundle that its kid names."""
    keys = {k.get("kid"): k for k in t.jwks}
    for s in t.tokens:
        want(s.header.get("kid") in keys, f"kid {s.header.get('kid')!r} is not in the bundle")
        signed = s.svid.rsplit(".", 1)[0].encode()
        want(der.verify_jws(der.jwk_key(keys[s.header["kid"]]), str(s.header.get("alg")), signed, s.parts[2]),
             f"{s.spiffe_id}: the signature does not hold")


# --- bundles --------------------------------------------------------------------------------

@check("jwt.bundles-first-message", API, "4.3")
def bundles_first_message(t):
    """The first message comes at once."""
    _, seconds = t.first("FetchJWTBundles")
    want(seconds < 5, f"it took {seconds:.1f} s")


@check("jwt.bundles-own", API, "6.2.2")
def bundles_own(t):
    """FetchJWTBundles has at least the server's own trust domain."""
    want("spiffe://" + t.domain in t.jwt_bundles, f"only {sorted(t.jwt_bundles)}")


@check("jwt.bundles-keys", API, "4.6")
def bundles_keys(t):
    """Bundles are keyed by SPIFFE IDs of trust domains."""
    for key in t.jwt_bundles:
        trust_domain_of(key, path=False)


def every_jwk(t):
    for domain, value in t.jwt_bundles.items():
        keys = strict_json(value).get("keys")
        want(isinstance(keys, list), f"{domain}: \"keys\" is no list")
        for k in keys:
            yield domain, k


@check("jwt.bundles-jwks", BUNDLE, "4.1")
def bundles_jwks(t):
    """Each bundle is a JWK Set with \"keys\", and each key has kty and what it consists of."""
    for domain, k in every_jwk(t):
        want(isinstance(k, dict) and k.get("kty"), f"{domain}: a key without kty")
        der.jwk_key(k)


@check("jwt.bundles-kid", JWT, "6.1")
def bundles_kid(t):
    """Each key has a kid, and no two of a bundle have the same."""
    found = [(d, k.get("kid")) for d, k in every_jwk(t)]
    want(all(kid for _, kid in found), "a key without kid")
    want(len(set(found)) == len(found), "one kid for two keys")


@check("jwt.bundles-use", JWT, "6.1", SHOULD)
def bundles_use(t):
    """use is jwt-svid: some clients leave out the others."""
    for domain, k in every_jwk(t):
        want(k.get("use") == "jwt-svid", f"{domain}: use {k.get('use')!r}")


@check("jwt.bundles-no-x509", API, "6.2.2")
def bundles_no_x509(t):
    """There are no X.509 authorities in a JWT bundle."""
    for domain, k in every_jwk(t):
        want("x5c" not in k and k.get("use") != "x509-svid", f"{domain}: an X.509 authority")


@check("jwt.bundles-public", BUNDLE, "4.2")
def bundles_public(t):
    """Keys are public ones."""
    for domain, k in every_jwk(t):
        want(not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(k), f"{domain}: a private key")


# --- ValidateJWTSVID ------------------------------------------------------------------------

def accepted(t):
    token = t.tokens[0]
    reply = t.validate(t.audience, token.svid)
    want(reply.status == 0 and len(reply.messages) == 1, f"a token of this server: {reply}")
    return token, parse(reply.messages[0])


def rejected(t, why, svid, audience=None):
    reply = t.validate(audience or t.audience, svid)
    want(reply.status not in (None, 0, 14) and not reply.messages, f"{why}: {reply}")


def control(t):
    """A rejection means something only if the token itself is accepted."""
    return accepted(t)[0]


@check("validate.accepts", API, "6.2.3")
def accepts(t):
    """A token of this server for this audience is valid, and its ID is said."""
    token, m = accepted(t)
    want(text(m, 1) == token.spiffe_id, f"spiffe_id {text(m, 1)!r}")


@check("validate.claims", API, "6.2.3", SHOULD)
def claims(t):
    """The claims are in the answer: sub a text, aud a list, exp a number."""
    token, m = accepted(t)
    got = {k: parse(v) for k, v in mapping(parse(m.get(2, [b""])[0]), 1).items()}
    want(got.get("sub", {}).get(3) == [token.spiffe_id.encode()], f"sub {got.get('sub')}")
    want(got.get("exp", {}).get(2) == [float(token.claims["exp"])], f"exp {got.get('exp')}")
    values = [parse(v).get(3, [None])[0] for v in parse(got.get("aud", {}).get(6, [b""])[0]).get(1, [])]
    want(sorted(v.decode() for v in values if v) == sorted(token.claims["aud"]), f"aud {got.get('aud')}")


@check("validate.audience", JWT, "3.2")
def audience(t):
    """A token for others is not valid."""
    rejected(t, "another audience", control(t).svid, "conformance-other")


@check("validate.empty", API, "4.5", SHOULD)
def empty(t):
    """A request without audience or token is INVALID_ARGUMENT."""
    svid = control(t).svid
    t.refused(t.validate("", svid), INVALID, "no audience")
    t.refused(t.validate(t.audience, ""), INVALID, "no token")


@check("validate.signature", JWT, "4")
def bad_signature(t):
    """One changed bit of the signature is too many."""
    token = control(t)
    head, body, _ = token.svid.split(".")
    for at in (0, len(token.parts[2]) - 1):
        changed = bytearray(token.parts[2])
        changed[at] ^= 1
        rejected(t, f"byte {at} of the signature changed", f"{head}.{body}.{b64(bytes(changed))}")


@check("validate.payload", JWT, "4")
def payload(t):
    """Changed claims are not valid."""
    token = control(t)
    head, _, tail = token.svid.split(".")
    for change in ({"exp": token.claims["exp"] + 3600}, {"sub": token.spiffe_id + "x"},
                   {"sub": "spiffe://conformance.invalid/x"}):
        rejected(t, f"{change}", f"{head}.{b64(dict(token.claims, **change))}.{tail}")


@check("validate.none", JWT, "2.1")
def alg_none(t):
    """alg none is refused, with and without a signature."""
    _, body, tail = control(t).svid.split(".")
    for name in ("none", "None", "NONE"):
        rejected(t, f"alg {name}", f"{b64({'alg': name, 'typ': 'JWT'})}.{body}.")
        rejected(t, f"alg {name} with a signature", f"{b64({'alg': name, 'typ': 'JWT'})}.{body}.{tail}")


@check("validate.hmac", JWT, "2.1")
def alg_hmac(t):
    """HMAC is refused, above all with the public key as secret."""
    token = control(t)
    _, body, _ = token.svid.split(".")
    jwk = next((k for k in t.jwks if k.get("kid") == token.header.get("kid")), None)
    want(jwk, "the token's key is not in the bundle")
    secrets = [json.dumps(jwk, separators=(",", ":")).encode(), der.base64url(jwk.get("x") or jwk.get("n")), b""]
    for secret in secrets:
        signed = f"{b64({'alg': 'HS256', 'kid': jwk['kid'], 'typ': 'JWT'})}.{body}"
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        rejected(t, "HS256", f"{signed}.{b64(mac)}")


@check("validate.alg-fits", JWT, "2.1")
def alg_fits(t):
    """An alg that does not fit the key is refused, never guessed."""
    token = control(t)
    _, body, tail = token.svid.split(".")
    for name in sorted(ALGORITHMS - {token.header["alg"]}) + ["EdDSA", "ES256K"]:
        rejected(t, f"alg {name}", f"{b64(dict(token.header, alg=name))}.{body}.{tail}")


@check("validate.kid", JWT, "2.2")
def unknown_kid(t):
    """A key that the bundle has not is refused."""
    token = control(t)
    _, body, tail = token.svid.split(".")
    rejected(t, "an unknown kid", f"{b64(dict(token.header, kid='conformance'))}.{body}.{tail}")


@check("validate.serialization", JWT, "5.1")
def serialization(t):
    """Two or four parts, JSON serialization, padding and what is no base64url are refused."""
    svid = control(t).svid
    head, body, tail = svid.split(".")
    for why, wrong in (("two parts", f"{head}.{body}"), ("four parts", svid + ".x"), ("padding", svid + "=="),
                       ("a line break", svid + "\n"), ("JSON", json.dumps(
                           {"payload": body, "protected": head, "signature": tail})), ("no base64url", f"{head}.{body}.%%")):
        rejected(t, why, wrong)
