"""The WIT-SVID profile (incubating): tokens that are bound to a key, and the bundles that verify them. Skipped where a server
does not have it."""
import json

import der
import wire
from checks_jwt import ALGORITHMS, INVALID, NO_PERMISSION, b64
from report import API, BUNDLE, SHOULD, WIT, Skip, check, want
from target import HEADER, SERVICE, Token, strict_json, trust_domain_of
from wire import field, mapping, parse, text

UNIMPLEMENTED = 12


class Wit(Token):
    """One WITSVID."""

    def __init__(self, raw):
        super().__init__(raw)
        m = parse(raw)
        self.key, self.hint = text(m, 3), text(m, 4)

    @property
    def cnf(self):
        found = self.claims.get("cnf")
        want(isinstance(found, dict) and isinstance(found.get("jwk"), dict), f"cnf {found!r}; expected a jwk in it")
        return found["jwk"]


def ask(t, method, request=b""):
    """The first message of a stream, or what ended it."""
    def once():
        try:
            return t.connection().stream(SERVICE + method, request, HEADER).next(t.seconds)
        except wire.Ended as e:
            return e.reply
    if t.no_identity:
        raise Skip("the caller is said to have no identity (--no-identity)")
    got = t.patient(once)
    if getattr(got, "status", None) == UNIMPLEMENTED:
        raise Skip("the server has no WIT-SVID profile")
    return got


def svids(t, spiffe_id=None):
    got = ask(t, "FetchWITSVID", field(1, spiffe_id) if spiffe_id else b"")
    want(isinstance(got, bytes), f"FetchWITSVID: {got}")
    found = [Wit(raw) for raw in parse(got).get(1, [])]
    want(found, "the response has no WIT-SVID")
    return found


def bundles(t):
    got = ask(t, "FetchWITBundles")
    want(isinstance(got, bytes), f"FetchWITBundles: {got}")
    return mapping(parse(got), 1)


def keys(t):
    own = bundles(t).get("spiffe://" + t.domain)
    want(own is not None, f"no WIT bundle of spiffe://{t.domain}")
    found = strict_json(own).get("keys")
    want(isinstance(found, list) and all(isinstance(k, dict) for k in found), "\"keys\" is no list of JWKs")
    return found


@check("wit.mandatory-fields", API, "7.2.1")
def mandatory_fields(t):
    """Each WITSVID has an ID, a token and a key."""
    for i, s in enumerate(svids(t)):
        want(s.spiffe_id and s.svid and s.key, f"WIT-SVID {i} lacks its ID, token or key")


@check("wit.hints", API, "7.2.1")
def hints(t):
    """No hint occurs twice in a response."""
    given = [s.hint for s in svids(t) if s.hint]
    want(len(set(given)) == len(given), f"hints {given}")


@check("wit.id-malformed", API, "7.2.1", SHOULD)
def id_malformed(t):
    """A request for what is no SPIFFE ID is INVALID_ARGUMENT."""
    for wrong in ("spiffe://Example.org/x", "http://example.org/x", "x"):
        got = ask(t, "FetchWITSVID", field(1, wrong))
        want(getattr(got, "status", None) == INVALID, f"{wrong!r}: {got}")


@check("wit.id-foreign", API, "7.2.1", SHOULD)
def id_foreign(t):
    """A request for another's ID is PERMISSION_DENIED."""
    for other in ("spiffe://conformance.invalid/x", f"spiffe://{t.domain}/conformance/nobody"):
        got = ask(t, "FetchWITSVID", field(1, other))
        want(getattr(got, "status", None) == NO_PERMISSION, f"{other}: {got}")


@check("wit.id-own", API, "7.2.1")
def id_own(t):
    """A request for one ID gives that one only; one without gives all."""
    for s in svids(t):
        got = [one.spiffe_id for one in svids(t, s.spiffe_id)]
        want(got == [s.spiffe_id], f"{s.spiffe_id}: {got}")


@check("wit.header", WIT, "2")
def header(t):
    """alg is one of the nine of RS, ES and PS, typ is wit+jwt, and kid is there."""
    for s in svids(t):
        want(s.header.get("alg") in ALGORITHMS, f"alg {s.header.get('alg')!r}")
        want(s.header.get("typ") == "wit+jwt", f"typ {s.header.get('typ')!r}")
        want(isinstance(s.header.get("kid"), str) and s.header["kid"], "no kid")


@check("wit.header-only", WIT, "2.4", SHOULD)
def header_only(t):
    """The header has nothing else."""
    for s in svids(t):
        want(not set(s.header) - {"alg", "kid", "typ"}, f"header {sorted(s.header)}")


@check("wit.sub", WIT, "3.1")
def sub(t):
    """sub is the SPIFFE ID, with a path."""
    for s in svids(t):
        trust_domain_of(str(s.claims.get("sub")), path=True)
        want(s.claims["sub"] == s.spiffe_id, f"sub {s.claims['sub']!r} for {s.spiffe_id}")


@check("wit.exp", WIT, "3.4")
def exp(t):
    """exp is there, a number."""
    for s in svids(t):
        want(isinstance(s.claims.get("exp"), (int, float)) and not isinstance(s.claims["exp"], bool), f"exp {s.claims.get('exp')!r}")


@check("wit.no-aud", WIT, "3.8")
def no_aud(t):
    """There is no aud: a WIT-SVID is not for somebody, its proof of possession is."""
    for s in svids(t):
        want("aud" not in s.claims, f"aud {s.claims.get('aud')!r}")


@check("wit.cnf", WIT, "3.2")
def cnf(t):
    """cnf holds a public key, whose alg is one of the nine."""
    for s in svids(t):
        want(s.cnf.get("alg") in ALGORITHMS, f"alg of the key {s.cnf.get('alg')!r}")
        want(not set(s.cnf) & {"d", "p", "q", "dp", "dq", "qi", "k"}, "the token holds private key material")
        der.jwk_key(s.cnf)


@check("wit.key", API, "7.2.1")
def key(t):
    """The key is a private JWK, and the one of cnf."""
    for s in svids(t):
        jwk = strict_json(s.key)
        want("d" in jwk, "the key has no private part")
        want(der.jwk_key(jwk) == der.jwk_key(s.cnf), "the key is not the one that cnf names")


@check("wit.signature", WIT, "4")
def signature(t):
    """The token verifies with the key of the WIT bundle that its kid names."""
    known = {k.get("kid"): k for k in keys(t)}
    for s in svids(t):
        want(s.header.get("kid") in known, f"kid {s.header.get('kid')!r} is not in the bundle")
        signed = s.svid.rsplit(".", 1)[0].encode()
        want(der.verify_jws(der.jwk_key(known[s.header["kid"]]), str(s.header.get("alg")), signed, s.parts[2]),
             f"{s.spiffe_id}: the signature does not hold")


@check("wit.bundles-own", API, "7.2.2")
def bundles_own(t):
    """FetchWITBundles has at least the server's own trust domain, and trust domain IDs as its keys."""
    given = bundles(t)
    want("spiffe://" + t.domain in given, f"only {sorted(given)}")
    for name in given:
        trust_domain_of(name, path=False)


@check("wit.bundles-kid", WIT, "6.1")
def bundles_kid(t):
    """Each key has a kid, which no other has, in the JWT bundle either."""
    given = [k.get("kid") for k in keys(t)]
    want(all(isinstance(k, str) and k for k in given) and len(set(given)) == len(given), f"kids {given}")
    both = set(given) & {k.get("kid") for k in t.jwks}
    want(not both, f"kids of JWT keys as well: {sorted(both)}")


@check("wit.bundles-public", BUNDLE, "4.1")
def bundles_public(t):
    """A bundle holds public keys."""
    for k in keys(t):
        want("d" not in k and "k" not in k, f"key {k.get('kid')!r} has a private part")
        der.jwk_key(k)


@check("wit.no-bearer", WIT, "7.1")
def no_bearer(t):
    """What validates JWT-SVIDs refuses a WIT-SVID, also one that is made to look like a JWT-SVID."""
    for s in svids(t):
        _, body, tail = s.svid.split(".")
        for token in (s.svid, f"{b64(dict(s.header, typ='JWT'))}.{body}.{tail}",
                      f"{b64(dict(s.header, typ='JWT'))}.{b64(json.loads(json.dumps(dict(s.claims, aud=[t.audience]))))}.{tail}"):
            t.refused(t.validate(t.audience, token), INVALID, "a WIT-SVID as a JWT-SVID")
