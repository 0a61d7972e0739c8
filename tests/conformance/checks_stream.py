"""What streams do in the course of time. Most of it needs an operator's command: --on-WHAT COMMAND."""
import time

import der
import wire
from report import API, BUNDLE, ENDPOINT, SHOULD, X509, Fail, check, want
from target import Svid, Token, strict_json
from wire import mapping, parse

STREAMS = ("FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles")
PATIENCE = 60  # seconds until what a command did has to be seen


def svids_of(message):
    return [Svid(raw) for raw in parse(message).get(1, [])]


def until(stream, claim, why):
    """The first message that fulfils @claim."""
    end = time.monotonic() + PATIENCE
    while True:
        left = end - time.monotonic()
        try:
            message = stream.next(max(left, 0.01))
        except wire.Late:
            raise Fail(f"{why} within {PATIENCE} s") from None
        except wire.Ended as e:
            raise Fail(f"{why}: {e.reply}") from e
        if claim(message):
            return message


@check("stream.quiet", API, "4.3", SHOULD)
def quiet(t):
    """Nothing is sent while nothing changes."""
    for method in STREAMS:
        s, _ = t.stream(method)
        try:
            s.next(0.7)
        except wire.Late:
            continue
        raise Fail(f"{method}: a second message though nothing changed")


@check("stream.svid", API, "4.3")
def svid(t):
    """A renewed SVID is sent on open streams: new certificate, new key, still the full set (--on-renew)."""
    act = t.does("renew")
    s, first = t.stream("FetchX509SVID")
    before = {x.spiffe_id: x for x in svids_of(first)}
    act()
    after = svids_of(until(s, lambda m: any(x.chain != before[x.spiffe_id].chain for x in svids_of(m)
                                            if x.spiffe_id in before), "no renewed SVID"))
    want({x.spiffe_id for x in after} == set(before), "the message does not have all identities")
    for x in after:
        old = before[x.spiffe_id]
        want((x.chain == old.chain) == (x.key == old.key), f"{x.spiffe_id}: a new certificate for the old key")
        why = der.chain_error(x.certificates, der.certificates(x.bundle), time.time())
        want(why is None, f"{x.spiffe_id}: {why}")


@check("stream.bundle", BUNDLE, "4.1.3")
def bundle(t):
    """A new authority is sent on all streams, the old one stays, SVIDs still verify (--on-authority)."""
    act = t.does("authority")
    streams = {m: t.stream(m) for m in STREAMS[:2]}
    roots = {c.der for c in der.certificates(svids_of(streams["FetchX509SVID"][1])[0].bundle)}
    act()
    m = until(streams["FetchX509SVID"][0],
              lambda m: {c.der for c in der.certificates(svids_of(m)[0].bundle)} != roots, "no new authority")
    now = {c.der for c in der.certificates(svids_of(m)[0].bundle)}
    want(roots <= now, "the old authority has gone, and what it signed with it")
    own = "spiffe://" + t.domain
    until(streams["FetchX509Bundles"][0], lambda m: {c.der for c in der.certificates(mapping(parse(m), 2).get(own, b""))} == now,
          "FetchX509Bundles does not say so")
    for x in svids_of(m):
        why = der.chain_error(x.certificates, der.certificates(x.bundle), time.time())
        want(why is None, f"{x.spiffe_id}: {why}")


@check("stream.old-svid", X509, "5.1")
def old_svid(t):
    """An SVID that was given out before a rotation still verifies after it (--on-authority)."""
    act = t.does("authority")
    s, first = t.stream("FetchX509SVID")
    old = svids_of(first)[0]
    act()
    roots = {c.der for c in der.certificates(old.bundle)}
    m = until(s, lambda m: {c.der for c in der.certificates(svids_of(m)[0].bundle)} != roots, "no new authority")
    why = der.chain_error(old.certificates, der.certificates(svids_of(m)[0].bundle), time.time())
    want(why is None, f"the old SVID with the new bundle: {why}")


@check("stream.revoked", API, "5.2.1")
def revoked(t):
    """When the last identity goes, streams end with PERMISSION_DENIED (--on-revoke, --on-grant)."""
    revoke, grant = t.does("revoke"), t.does("grant")
    streams = {m: t.stream(m)[0] for m in STREAMS}
    revoke()
    try:
        for method, s in streams.items():
            try:
                reply = s.end(PATIENCE)
            except wire.Late:
                raise Fail(f"{method} goes on") from None
            want(reply.status == 7, f"{method}: {reply}; expected PERMISSION_DENIED")
        t.refused(t.call("FetchX509SVID"), 7, "asked again")
        t.refused(t.jwt(t.audience), 7, "FetchJWTSVID")
    finally:
        grant()
    returned(t)


@check("stream.restart", ENDPOINT, "6", SHOULD)
def restart(t):
    """A server that stops ends its streams as UNAVAILABLE; after that identities and trust are the same (--on-restart)."""
    act = t.does("restart")
    s, first = t.stream("FetchX509SVID")
    before = svids_of(first)
    act()
    reply = s.end(PATIENCE)
    want(reply.status == 14 or reply.status is None and reply.lost, f"{reply}; expected UNAVAILABLE")
    after = returned(t)
    want([x.spiffe_id for x in after] == [x.spiffe_id for x in before], "other identities")
    why = der.chain_error(before[0].certificates, der.certificates(after[0].bundle), time.time())
    want(why is None, f"the SVID from before with the bundle from after: {why}")


def returned(t):
    """Identities come back, however long it takes within reason."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return svids_of(t.stream("FetchX509SVID")[1])
        except (wire.Ended, wire.Late, Fail) as e:
            if time.monotonic() > end:
                raise Fail(f"no identities after {PATIENCE} s: {e}") from e
            time.sleep(0.2)


@check("stream.jwt-key", BUNDLE, "4.1.3")
def jwt_key(t):
    """A new JWT key is in the bundle before its first use, and the old one stays (--on-jwt-key)."""
    act = t.does("jwt-key")
    s, first = t.stream("FetchJWTBundles")
    own = "spiffe://" + t.domain
    kids = lambda m: {k["kid"] for k in strict_json(mapping(parse(m), 1)[own])["keys"]}  # noqa: E731
    before = kids(first)
    act()
    after = kids(until(s, lambda m: kids(m) != before, "no new JWT key"))
    want(before <= after, "the old key has gone, and what it signed with it")
    reply = t.jwt(t.audience)
    want(reply.status == 0, repr(reply))
    token = Token(parse(reply.messages[0])[1][0])
    want(token.header.get("kid") in after, "signed with a key that the bundle has not")
