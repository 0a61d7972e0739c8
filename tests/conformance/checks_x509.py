"""X.509-SVIDs and X.509 bundles, as the Workload API gives them."""
import time

import der
from report import API, BUNDLE, ID, SHOULD, X509, Skip, check, want
from target import Svid, trust_domain_of
from wire import parse

KEY_USAGE, SAN, CONSTRAINTS = "2.5.29.15", "2.5.29.17", "2.5.29.19"
RFC = "RFC 5280"


def leaves(t):
    return [(s, s.leaf) for s in t.svids]


def roots_of(t):
    return [(s, der.certificates(s.bundle)) for s in t.svids]


@check("x509.first-message", API, "4.3")
def first_message(t):
    """The first message comes at once."""
    _, seconds = t.first("FetchX509SVID")
    want(seconds < 5, f"it took {seconds:.1f} s")


@check("x509.mandatory-fields", API, "5.2.1")
def mandatory_fields(t):
    """Each X509SVID has an ID, a chain, a key and a bundle."""
    for i, s in enumerate(t.svids):
        for name in ("spiffe_id", "chain", "key", "bundle"):
            want(getattr(s, name), f"SVID {i} has no {name}")


@check("x509.spiffe-id", ID, "2")
def spiffe_id(t):
    """Each ID is a SPIFFE ID with a path."""
    for s in t.svids:
        trust_domain_of(s.spiffe_id, path=True)


@check("x509.trust-domain", ID, "2.1")
def trust_domain(t):
    """The IDs are of the trust domain of this server."""
    if not t.trust_domain:
        raise Skip("needs --trust-domain")
    for s in t.svids:
        want(trust_domain_of(s.spiffe_id) == t.trust_domain, f"{s.spiffe_id} is not of {t.trust_domain}")


@check("x509.hints", API, "5.2.1")
def hints(t):
    """No hint occurs twice in a response."""
    given = [s.hint for s in t.svids if s.hint]
    want(len(set(given)) == len(given), f"hints {given}")


@check("x509.ids-differ", API, "5.2.1")
def ids_differ(t):
    """One message for each identity."""
    ids = [s.spiffe_id for s in t.svids]
    want(len(set(ids)) == len(ids), f"{ids}")


@check("x509.default-stable", API, "8", SHOULD)
def default_stable(t):
    """The first identity is the default one, so the order is that of the stream before."""
    before = [s.spiffe_id for s in t.svids]
    again = [Svid(raw).spiffe_id for raw in parse(t.stream("FetchX509SVID")[1]).get(1, [])]
    want(before == again, f"{before}, then {again}")


@check("x509.chain-der", API, "5.2.1")
def chain_der(t):
    """The chain is DER certificates, one behind the other, and nothing else."""
    for s in t.svids:
        want(s.certificates, f"{s.spiffe_id}: no certificate")


@check("x509.version", RFC, "4.1.2.1")
def version(t):
    """Certificates with extensions are of version 3."""
    for s, c in leaves(t):
        want(c.version == 3, f"{s.spiffe_id}: version {c.version}")


@check("x509.serial", RFC, "4.1.2.2")
def serial(t):
    """A serial number is positive, of 20 bytes at most, and no two are the same."""
    numbers = [c.serial for _, c in leaves(t)]
    want(all(0 < n < 1 << 159 for n in numbers), f"serial numbers {numbers}")
    want(len(set(numbers)) == len(numbers), "one serial number for two certificates")


@check("x509.one-uri", X509, "2")
def one_uri(t):
    """A certificate has exactly one URI name."""
    for s, c in leaves(t):
        want(len(c.uris or []) == 1, f"{s.spiffe_id}: URI names {c.uris}")


@check("x509.uri-is-id", X509, "2")
def uri_is_id(t):
    """The URI name is the ID that the response says."""
    for s, c in leaves(t):
        want((c.uris or [None])[0] == s.spiffe_id, f"{s.spiffe_id}: URI name {c.uris}")


@check("x509.leaf-no-ca", X509, "4.1")
def leaf_no_ca(t):
    """A leaf has basic constraints, and cA is false."""
    for s, c in leaves(t):
        want(c.ca is False, f"{s.spiffe_id}: " + ("no basic constraints" if c.ca is None else "cA is true"))


@check("x509.key-usage", X509, "4.3")
def key_usage(t):
    """Key usage is there, critical, with digitalSignature."""
    for s, c in leaves(t):
        want(c.usage is not None and "digitalSignature" in c.usage, f"{s.spiffe_id}: key usage {c.usage}")
        want(c.critical(KEY_USAGE), f"{s.spiffe_id}: key usage is not critical")


@check("x509.key-usage-signs", X509, "4.3")
def key_usage_signs(t):
    """A leaf has neither keyCertSign nor cRLSign."""
    for s, c in leaves(t):
        want(not {"keyCertSign", "cRLSign"} & (c.usage or set()), f"{s.spiffe_id}: key usage {c.usage}")


@check("x509.purposes-there", X509, "4.4", SHOULD)
def purposes_there(t):
    """A leaf has extended key usage."""
    for s, c in leaves(t):
        want(c.purposes is not None, f"{s.spiffe_id}: none")


@check("x509.purposes", X509, "4.4")
def purposes(t):
    """Extended key usage, if there, has both serverAuth and clientAuth."""
    for s, c in leaves(t):
        want(c.purposes is None or {"serverAuth", "clientAuth"} <= c.purposes, f"{s.spiffe_id}: {c.purposes}")


@check("x509.empty-subject", RFC, "4.1.2.6")
def empty_subject(t):
    """With an empty subject the alternative names are critical."""
    for s, c in leaves(t):
        want(c.subject or c.critical(SAN), f"{s.spiffe_id}: subject empty, names not critical")


@check("x509.valid-now", X509, "5.1")
def valid_now(t):
    """A certificate is valid when it is given out."""
    for s, c in leaves(t):
        want(c.begins <= time.time() < c.ends, f"{s.spiffe_id}: valid from {c.begins} to {c.ends}, now is {time.time():.0f}")


@check("x509.chain-verifies", X509, "5.1")
def chain_verifies(t):
    """The chain leads to the bundle that comes with it."""
    for s, roots in roots_of(t):
        why = der.chain_error(s.certificates, roots, time.time())
        want(why is None, f"{s.spiffe_id}: {why}")


@check("x509.intermediates", X509, "3.2")
def intermediates(t):
    """Certificates after the leaf are CAs with keyCertSign."""
    for s in t.svids:
        for c in s.certificates[1:]:
            want(c.ca and "keyCertSign" in (c.usage or set()), f"{s.spiffe_id}: one that may not sign")


@check("x509.no-root", API, "5.2.1", SHOULD)
def no_root(t):
    """The root is in the bundle, not in the chain."""
    for s, roots in roots_of(t):
        want(not {r.der for r in roots} & {c.der for c in s.certificates}, f"{s.spiffe_id}: a root in the chain")


@check("x509.within-issuer", X509, "3", SHOULD)
def within_issuer(t):
    """A leaf does not outlive who signed it."""
    for s, roots in roots_of(t):
        c = s.leaf
        above = [a for a in (*s.certificates[1:], *roots) if a.subject == c.issuer and c.verify(a.key)]
        want(not above or c.ends <= max(a.ends for a in above), f"{s.spiffe_id}: it ends after its issuer")


@check("x509.key-pkcs8", API, "5.2.1")
def key_pkcs8(t):
    """The key is an unencrypted PKCS#8 key in DER."""
    for s in t.svids:
        der.private_key(s.key)


@check("x509.key-matches", API, "5.2.1")
def key_matches(t):
    """The key is that of the leaf."""
    for s, c in leaves(t):
        want(der.private_key(s.key) == c.key, f"{s.spiffe_id}: another key")


@check("x509.bundle", API, "5.2.1")
def bundle(t):
    """The bundle is DER certificates of CAs."""
    for s, roots in roots_of(t):
        want(roots and all(r.ca for r in roots), f"{s.spiffe_id}: a certificate in the bundle is no CA")


@check("x509.authority-usage", X509, "4.3")
def authority_usage(t):
    """A signing certificate has key usage, critical, with keyCertSign and without what leaves do."""
    for _, roots in roots_of(t):
        for r in roots:
            want("keyCertSign" in (r.usage or set()) and r.critical(KEY_USAGE), f"key usage {r.usage}")
            want(not r.usage - {"keyCertSign", "cRLSign"}, f"key usage {r.usage}")


@check("x509.authority-constraints", X509, "4.1")
def authority_constraints(t):
    """Basic constraints of a signing certificate are critical (RFC 5280 4.2.1.9)."""
    for _, roots in roots_of(t):
        want(all(r.critical(CONSTRAINTS) for r in roots), "not critical")


@check("x509.authority-id", X509, "3.2", SHOULD)
def authority_id(t):
    """A signing certificate is an SVID of the trust domain: one URI name, without a path."""
    for s, roots in roots_of(t):
        for r in roots:
            want(r.uris and len(r.uris) == 1, f"URI names {r.uris}")
            want(trust_domain_of(r.uris[0], path=False) == trust_domain_of(s.spiffe_id), f"{r.uris[0]} for {s.spiffe_id}")


@check("x509.crl", API, "5.2.1")
def crl(t):
    """Each revocation list is one DER structure."""
    for message, number in (("FetchX509SVID", 2), ("FetchX509Bundles", 1)):
        for one in parse(t.first(message)[0]).get(number, []):
            want(len(der.items(der.whole(one))) == 3, "no CertificateList")


@check("x509.federated-keys", API, "4.6")
def federated_keys(t):
    """Federated bundles are keyed by SPIFFE IDs of trust domains, and our own is not among them."""
    for key in t.federated:
        want(trust_domain_of(key, path=False) != t.domain, f"{key} is our own")


@check("x509.federated-der", API, "4.6")
def federated_der(t):
    """Federated bundles are DER certificates."""
    for key, value in t.federated.items():
        want(all(c.ca for c in der.certificates(value)), f"{key}: one is no CA")


@check("x509.bundles-own", API, "5.2.2")
def bundles_own(t):
    """FetchX509Bundles has at least the server's own trust domain."""
    want("spiffe://" + t.domain in t.x509_bundles, f"only {sorted(t.x509_bundles)}")


@check("x509.bundles-keys", API, "4.6")
def bundles_keys(t):
    """Bundles are keyed by SPIFFE IDs of trust domains."""
    for key in t.x509_bundles:
        trust_domain_of(key, path=False)


@check("x509.bundles-agree", BUNDLE, "3")
def bundles_agree(t):
    """FetchX509Bundles and FetchX509SVID say the same of one trust domain."""
    own = [s.bundle for s in t.svids if trust_domain_of(s.spiffe_id) == t.domain]
    given = t.x509_bundles.get("spiffe://" + t.domain, b"")
    want(all({c.der for c in der.certificates(b)} == {c.der for c in der.certificates(given)} for b in own), "they differ")
