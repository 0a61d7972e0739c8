#!/usr/bin/env -S python3 -B
"""Delegation: an agent exchanges a user's token, uses what it got, hands it on, and has it taken back."""
import base64
import json
import os
import re
import shlex
import shutil
import threading
import time
import urllib.parse

from harness import ROOT, Deployment, TRUST_DOMAIN, call, check, equal, is_error, join_token, leaves, main, openssl, test
from token_double import Key

TD = f"spiffe://{TRUST_DOMAIN}"
SERVER = f"{TD}/writ/server"
ISSUER = "https://writ.acme.example/delegation"
IDP = "https://login.acme.example"
CRM = "https://crm.acme.example/"
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPE = "urn:ietf:params:oauth:token-type:"
HELPDESK, RESEARCHER, WRITER = f"{TD}/agent/helpdesk", f"{TD}/agent/researcher", f"{TD}/agent/writer"
GATEWAY = f"{TD}/mesh/gateway"

RULES = f"""
policy "delegation" {{
  permit "the CRM, for staff" {{ on = {{ action = "token/exchange", resource = "audience", id = "{CRM}" }},
    when = function(q) return q.user.issuer == "{IDP}" and not has(q.args.scope, "crm.admin") end }},
  permit "writ itself" {{ on = {{ action = "token/exchange", resource = "audience", id = "{SERVER}" }} }},
  permit "to hand on" {{ on = {{ action = "token/exchange", resource = "audience",
      id = {{ "{RESEARCHER}", "{WRITER}", "{HELPDESK}" }} }},
    when = function(q) return q.args.ttl <= 300 end }},
  deny "no scope of admins" {{ on = {{ action = "token/exchange" }},
    when = function(q) return has(q.args.scope, "crm.admin") end, reason = "invalid_scope" }},
  permit "with a duty" {{ on = {{ action = "token/exchange", id = "https://duty.example/" }},
    obligations = {{ {{ id = "o", type = "custom", properties = {{ a = 1 }} }} }} }},
  deny "never" {{ on = {{ action = "token/exchange", id = "https://never.example/" }}, reason = "not_this_one" }},
}}
policy "crm" {{
  permit "own customers" {{ on = {{ action = "tools/call", tool = "crm/read" }},
    when = function(q) return q.user.id == "alice" and has(q.user.scope, "crm.read") and
      q.chain[#q.chain] == q.agent.id end }},
}}
"""
POLICIES = {"catalogue/tools.lua": 'tool "crm/read" { effect = "read" }\n', "delegation.lua": RULES}
shared = None


class World:
    def __init__(self):
        d = self.d = Deployment(policies=POLICIES, caller=None, config=f"""
callers = {{ {{ unix_user = "root", role = "admin" }}, {{ spiffe_id = "{GATEWAY}", role = "pep" }} }}
""")
        d.config += f"""
limits = {{ attest_rate = 10000, attest_burst = 10000, agent_rate = 10000, agent_burst = 10000 }}
delegation = {{ issuer = "{ISSUER}", depth = 3,
  users = {{ {{ issuer = "{IDP}", audience = "writ", jwks = "file:idp.json", scopes = {{ "crm.read", "crm.admin" }} }} }} }}
attest = {{ oidc = {{ {{ issuer = "https://ci.acme.example", audience = "writ", jwks = "file:ci.json" }} }} }}
"""
        d.write("writ.lua", d.config)
        self.idp, self.ci = Key(d, "RS256", "idp-1"), Key(d, "ES256", "ci-1")
        d.write("idp.json", json.dumps({"keys": [self.idp.jwk(use="sig")]}))
        d.write("ci.json", json.dumps({"keys": [self.ci.jwk(use="sig")]}))
        d.start()
        self.certs = {}
        for agent in (HELPDESK, RESEARCHER, WRITER):
            d.register(agent, attributes={"team": "support"})
            self.certs[agent] = self.enrol(agent)
        d.register(GATEWAY)

    def enrol(self, agent):
        name = agent.rsplit("/", 1)[1] + os.urandom(3).hex()
        key = self.d.path(name + ".key")
        csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                      "-subj", "/CN=x").decode()
        token = join_token(self.d.admin("POST", "/v1/agents/token", {"spiffe_id": agent}))
        reply = self.d.http("POST", "/v1/attest", {"join_token": token, "csr": csr})
        check(reply.status in (200, 201), f"attest: {reply}")
        return self.d.write(name + ".pem", reply.json["x509_svid"]), key

    def form(self, path, pairs, agent=HELPDESK, cert=None, **headers):
        body = urllib.parse.urlencode(pairs) if not isinstance(pairs, (str, bytes)) else pairs
        head = {"Content-Type": "application/x-www-form-urlencoded"}
        head.update({k.replace("_", "-"): v for k, v in headers.items()})
        return self.d.https("POST", path, body, head, cert=cert or self.certs.get(agent))

    def user_token(self, key=None, header=None, **claims):
        now = int(time.time())
        all_claims = dict({"iss": IDP, "sub": "alice", "aud": "writ", "iat": now, "exp": now + 3600}, **claims)
        return (key or self.idp).token({k: v for k, v in all_claims.items() if v is not None}, **(header or {}))

    def exchange(self, subject=None, kind="id_token", agent=HELPDESK, audience=CRM, scope="crm.read", **more):
        pairs = {"grant_type": GRANT, "subject_token": subject or self.user_token(),
                 "subject_token_type": TYPE + kind, "audience": audience, "scope": scope}
        cert = more.pop("cert", None)
        pairs.update(more)
        return self.form("/oauth2/token", {k: v for k, v in pairs.items() if v is not None}, agent, cert)

    def token(self, **more):
        reply = self.exchange(**more)
        equal(reply.status, 200, repr(reply))
        return reply.json["access_token"]

    def svid(self, agent, audience=SERVER):
        return self.d.https("POST", "/v1/svid/jwt", {"audience": [audience]}, cert=self.certs[agent]).json["svid"]

    def records(self, kind):
        return [leaf for _, (_, leaf) in sorted(leaves(self.d.export()).items()) if leaf["kind"] == kind]


def world():
    global shared
    if shared is None:
        shared = World()
    return shared


def claims(token, part=1):
    text = token.split(".")[part]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def refused(reply, error, status=400, what=""):
    equal((reply.status, reply.json.get("error")), (status, error), f"{what}: {reply}")
    check(set(reply.json) == {"error", "error_description"} and reply.json["error_description"], f"{what}: {reply}")
    equal(reply.header("cache-control"), "no-store", f"{what}: cache-control")


# --- what comes out -------------------------------------------------------------------------

@test
def a_users_token_becomes_the_agents():
    w = world()
    reply = w.exchange()
    equal(reply.status, 200, repr(reply))
    equal(reply.header("cache-control"), "no-store", "cache-control")
    equal(reply.header("content-type"), "application/json", "media type")
    answer = reply.json
    equal((answer["issued_token_type"], answer["token_type"], answer["scope"]),
          (TYPE + "access_token", "Bearer", "crm.read"), repr(reply))
    check(0 < answer["expires_in"] <= 300 and "refresh_token" not in answer, repr(reply))
    head, body = claims(answer["access_token"], 0), claims(answer["access_token"])
    equal((head["typ"], head["alg"], set(head)), ("at+jwt", "ES256", {"typ", "alg", "kid"}), str(head))
    check(head["kid"] in [k["kid"] for k in w.d.http("GET", "/keys").json["keys"]], "kid is published")
    equal((body["iss"], body["sub"], body["aud"], body["client_id"], body["scope"]),
          (ISSUER, "alice", CRM, HELPDESK, "crm.read"), str(body))
    equal(body["act"], {"iss": ISSUER, "sub": HELPDESK, "sub_profile": "ai_agent"}, "act")
    equal(body["exp"] - body["iat"], answer["expires_in"], "life")
    der = openssl("x509", "-in", w.certs[HELPDESK][0], "-outform", "DER")
    digest = openssl("dgst", "-sha256", "-binary", data=der)
    equal(body["cnf"], {"x5t#S256": base64.urlsafe_b64encode(digest).rstrip(b"=").decode()}, "cnf")


@test
def openssl_agrees_with_the_signature():
    w = world()
    token = w.token()
    head, body, sig = token.split(".")
    jwk = next(k for k in w.d.http("GET", "/keys").json["keys"] if k["kid"] == claims(token, 0)["kid"])
    raw = {n: base64.urlsafe_b64decode(jwk[n] + "=") for n in ("x", "y")}
    spki = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + b"\x04" + raw["x"] + raw["y"]
    rs = base64.urlsafe_b64decode(sig + "==")

    def integer(b):
        b = b.lstrip(b"\0") or b"\0"
        b = b"\0" + b if b[0] & 0x80 else b
        return b"\x02" + bytes([len(b)]) + b
    inner = integer(rs[:32]) + integer(rs[32:])
    for name, data in (("t.key", spki), ("t.sig", b"\x30" + bytes([len(inner)]) + inner), ("t.txt", f"{head}.{body}".encode())):
        with open(w.d.path(name), "wb") as f:
            f.write(data)
    said = openssl("dgst", "-sha256", "-verify", w.d.path("t.key"), "-keyform", "DER", "-signature", w.d.path("t.sig"),
                   w.d.path("t.txt"))
    check(b"Verified OK" in said, str(said))


@test
def every_kind_of_subject():
    w = world()
    access = w.user_token(header={"typ": "at+jwt"}, scope="crm.read mail")
    body = claims(w.token(subject=access, kind="access_token", scope="crm.read"))
    equal(body["sub"], "alice", "an access token")
    own = w.exchange(subject=w.svid(HELPDESK), kind="jwt", audience=SERVER, scope="index")
    body = claims(own.json["access_token"])
    equal((body["sub"], body["client_id"], body["sub_profile"]), (HELPDESK, HELPDESK, "ai_agent"), str(body))
    check("act" not in body, "an agent for itself")
    # A scope that is not asked for is not given.
    bare = w.exchange(scope=None)
    equal(bare.json["scope"], "", repr(bare))
    check("scope" not in claims(bare.json["access_token"]), "no scope")
    # RFC 8693: actor_token may say again who acts.
    equal(w.exchange(actor_token=w.svid(HELPDESK), actor_token_type=TYPE + "jwt").status, 200, "actor_token")
    equal(w.exchange(client_id=HELPDESK, requested_token_type=TYPE + "access_token").status, 200, "client_id")
    equal(w.exchange(audience=None, resource=CRM).status, 200, "resource")
    equal(w.exchange(subject=w.user_token(may_act={"sub": HELPDESK, "iss": ISSUER})).status, 200, "may_act")
    equal(w.exchange(subject=w.user_token(may_act={"sub": HELPDESK})).status, 200, "may_act without iss")


@test
def a_chain_grows_and_shrinks_in_what_it_may():
    w = world()
    first = w.token(audience=RESEARCHER)
    second = w.token(subject=first, kind="access_token", agent=RESEARCHER, audience=WRITER)
    body = claims(second)
    equal(body["act"]["sub"], RESEARCHER, "outermost")
    equal(body["act"]["act"]["sub"], HELPDESK, "inside")
    equal(body["client_id"], RESEARCHER, "client_id")
    check(body["exp"] <= claims(first)["exp"], "no longer than its parent")
    equal(body[ISSUER + "/claims"]["line"], [claims(first)["jti"]], "line")
    third = w.token(subject=second, kind="access_token", agent=WRITER, audience=CRM)
    equal(claims(third)[ISSUER + "/claims"]["line"], [claims(first)["jti"], claims(second)["jti"]], "line")
    # depth = 3
    handed = w.token(subject=second, kind="access_token", agent=WRITER, audience=HELPDESK)
    refused(w.exchange(subject=handed, kind="access_token", agent=HELPDESK), "invalid_request", what="loop, and depth")
    back = w.token(subject=first, kind="access_token", agent=RESEARCHER, audience=HELPDESK)
    refused(w.exchange(subject=back, kind="access_token", agent=HELPDESK), "invalid_request", what="A-B-A")
    reasons = [r["reason"] for r in w.records("token.refuse")]
    check("chain_loop" in reasons, str(reasons))
    # Scope never grows.
    refused(w.exchange(subject=first, kind="access_token", agent=RESEARCHER, scope="crm.read mail"), "invalid_scope")
    narrow = w.token(audience=RESEARCHER, scope=None)
    refused(w.exchange(subject=narrow, kind="access_token", agent=RESEARCHER), "invalid_scope", what="none to have")
    # Who acts by it may have it again for less, and the chain stays.
    own = w.token(audience=SERVER)
    again = claims(w.token(subject=own, kind="access_token", scope=None))
    equal(again["act"], {"iss": ISSUER, "sub": HELPDESK, "sub_profile": "ai_agent"}, "act")
    # A user's token that ends soon bounds all of it.
    soon = w.exchange(subject=w.user_token(exp=int(time.time()) + 20))
    check(soon.json["expires_in"] <= 20, repr(soon))


@test
def at_the_same_time_both_are_good():
    w, subject, got = world(), world().user_token(), []
    threads = [threading.Thread(target=lambda: got.append(w.token(subject=subject))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(len({claims(t)["jti"] for t in got}), 8, "jti")


# --- what does not ----------------------------------------------------------------------------

@test
def subjects_that_are_refused():
    w, now = world(), int(time.time())
    good = w.user_token()
    head, body, sig = good.split(".")
    rows = {
        "expired": w.user_token(exp=now - 60),
        "not yet valid": w.user_token(nbf=now + 120),
        "no exp": w.user_token(exp=None),
        "exp a text": w.user_token(exp=str(now + 60)),
        "for a third service": w.user_token(aud=CRM),
        "another issuer": w.user_token(iss=IDP + "/"),
        "issuer in capitals": w.user_token(iss=IDP.upper()),
        "the issuer of CI jobs": w.user_token(key=w.ci, iss="https://ci.acme.example", sub="job"),
        "a key of CI jobs": w.user_token(key=w.ci),
        "alg none": head_of({"alg": "none", "kid": "idp-1"}) + "." + body + ".",
        "HS256": head_of({"alg": "HS256", "kid": "idp-1"}) + "." + body + "." + sig,
        "kid with a path": w.user_token(header={"kid": "../../etc/passwd"}),
        "crit": w.user_token(header={"crit": ["x"], "x": 1}),
        "jku": w.user_token(header={"jku": "https://127.0.0.1/"}),
        "an agent's name": w.user_token(sub=RESEARCHER),
        "truncated": good[:-4],
        "no token": "x",
        "may_act of another": w.user_token(may_act={"sub": RESEARCHER}),
        "may_act of another issuer": w.user_token(may_act={"sub": HELPDESK, "iss": IDP}),
        "may_act of another shape": w.user_token(may_act=[{"sub": HELPDESK}]),
        "an access token": w.user_token(header={"typ": "at+jwt"}),
        "a JWT-SVID": w.svid(HELPDESK),
    }
    said = set()
    for why, token in rows.items():
        reply = w.exchange(subject=token)
        refused(reply, "invalid_request", what=why)
        said.add(reply.json["error_description"])
    equal(len(said), 1, "one sentence for all of them")
    for why, token, kind in (
            ("typ JWT where at+jwt is due", good, "access_token"),
            ("a JWT-SVID as access token", w.svid(HELPDESK), "access_token"),
            ("another agent's SVID", w.svid(RESEARCHER), "jwt"),
            ("an SVID for somebody else", w.svid(HELPDESK, CRM), "jwt"),
            ("an ID token as jwt", good, "jwt"),
            ("a delegated token that is for the CRM", w.token(agent=RESEARCHER), "access_token"),
            ("a delegated token as ID token", w.token(audience=RESEARCHER), "id_token")):
        refused(w.exchange(subject=token, kind=kind), "invalid_request", what=why)
    # Addressed to the CRM: who acts by it cannot have another by it, nor can the CRM's own agent.
    refused(w.exchange(subject=w.token(), kind="access_token"), "invalid_request", what="not for us")
    reasons = {r["reason"] for r in w.records("token.refuse")}
    check({"invalid_token", "may_act", "unknown_issuer", "callers_differ"} <= reasons, str(reasons))


def head_of(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@test
def requests_that_are_refused():
    w = world()
    rows = [
        ("invalid_target", {"audience": None}, "no target"),
        ("invalid_target", {"resource": CRM}, "two targets"),
        ("invalid_target", {"audience": None, "resource": CRM + "#x"}, "a fragment"),
        ("invalid_target", {"audience": None, "resource": "/crm"}, "no absolute URI"),
        ("invalid_target", {"audience": "https://mail.example/"}, "no rule for it"),
        ("invalid_target", {"audience": "x" * 3000}, "a target too long"),
        ("invalid_request", {"audience": "https://never.example/"}, "a rule against it"),
        ("invalid_request", {"audience": "https://duty.example/"}, "obligations"),
        ("invalid_scope", {"scope": "crm.read mail"}, "wider than the subject's"),
        ("invalid_scope", {"scope": "crm.admin"}, "what a rule forbids"),
        ("invalid_scope", {"scope": " crm.read"}, "a blank in front"),
        ("invalid_scope", {"scope": 'crm."read"'}, "quotes"),
        ("invalid_scope", {"scope": "CRM.read"}, "another case"),
        ("unsupported_grant_type", {"grant_type": "client_credentials"}, "grant"),
        ("unsupported_grant_type", {"grant_type": GRANT.upper()}, "grant in capitals"),
        ("invalid_request", {"grant_type": None}, "no grant"),
        ("invalid_request", {"subject_token_type": None}, "no type"),
        ("invalid_request", {"subject_token_type": TYPE + "saml2"}, "saml"),
        ("invalid_request", {"subject_token_type": TYPE + "refresh_token"}, "refresh token"),
        ("invalid_request", {"requested_token_type": TYPE + "refresh_token"}, "wants a refresh token"),
        ("invalid_request", {"actor_token": "x"}, "actor_token without type"),
        ("invalid_request", {"actor_token_type": TYPE + "jwt"}, "type without actor_token"),
        ("invalid_request", {"actor_token": "x", "actor_token_type": TYPE + "id_token"}, "another type of actor"),
        ("invalid_request", {"actor_token": w.svid(RESEARCHER), "actor_token_type": TYPE + "jwt"}, "another actor"),
        ("invalid_request", {"client_assertion": "x"}, "another way to prove it"),
        ("invalid_request", {"client_secret": "x"}, "a secret"),
        ("invalid_authorization_details", {"authorization_details": "[]"}, "authorization_details"),
    ]
    for error, change, why in rows:
        refused(w.exchange(**change), error, what=why)
    refused(w.exchange(client_id=RESEARCHER), "invalid_client", 401, "client_id of another")
    base = urllib.parse.urlencode({"grant_type": GRANT, "subject_token": w.user_token(),
                                   "subject_token_type": TYPE + "id_token", "audience": CRM})
    equal(w.form("/oauth2/token", base).status, 200, "the same, well formed")
    for why, body in (("twice", base + "&scope=a&scope=b"), ("twice, one encoded", base + "&scope=a&sc%6fpe=b"),
                      ("nothing at the end", base + "&"), ("half a code", base + "&x=%4"), ("a line break", base + "\n"),
                      ("no UTF-8", base + "&x=%ff"), ("NUL", base + "&x=%00"), ("nothing", "")):
        refused(w.form("/oauth2/token", body), "invalid_request", what=why)
    equal(w.form("/oauth2/token", base + "&audience=" + "b").json["error"], "invalid_target", "two audiences")
    equal(w.form("/oauth2/token", base + "&act=x&unknown=y&scope=").status, 200, "unknown parameters are passed over")
    refused(w.form("/oauth2/token?x=y", base), "invalid_request", what="a query")
    refused(w.form("/oauth2/token", base, Content_Type="application/json"), "invalid_request", what="media type")
    refused(w.form("/oauth2/token", base, Authorization="Basic eDp5"), "invalid_request", what="Basic")
    equal(w.form("/oauth2/token", base + "&x=" + "y" * 70000).status, 413, "64 KiB")
    for path in ("/oauth2/token", "/oauth2/introspect", "/oauth2/revoke"):
        equal(w.d.https("GET", path).status, 405, path)


@test
def only_over_mutual_tls():
    w = world()
    form = {"grant_type": GRANT, "subject_token": w.user_token(), "subject_token_type": TYPE + "id_token",
            "audience": CRM}
    as_form = {"Content-Type": "application/x-www-form-urlencoded"}
    refused(w.d.http("POST", "/oauth2/token", urllib.parse.urlencode(form), as_form), "invalid_client", 401, "plain")
    refused(w.d.https("POST", "/oauth2/token", urllib.parse.urlencode(form), as_form), "invalid_client", 401, "no cert")
    refused(w.d.https("POST", "/oauth2/token", urllib.parse.urlencode(form),
                      dict(as_form, Authorization="Bearer " + w.svid(HELPDESK))), "invalid_request", 400, "bearer")
    for path in ("/oauth2/introspect", "/oauth2/revoke"):
        refused(w.d.https("POST", path, "token=x", as_form), "invalid_client", 401, path)
    # A delegated token makes no SVID either, with whatever certificate it comes.
    bearer = {"Authorization": "Bearer " + w.token(audience=SERVER)}
    is_error(w.d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, bearer, cert=w.certs[HELPDESK]), 403, "JWT-SVID")


@test
def agents_that_may_not():
    w = world()
    agent = f"{TD}/agent/leaver"
    w.d.register(agent)
    cert = w.enrol(agent)
    equal(w.exchange(agent=agent, cert=cert).status, 200, "while it is active")
    held = w.token(agent=agent, cert=cert, audience=RESEARCHER)
    equal(w.d.admin("POST", "/v1/agents/suspend", {"spiffe_id": agent}).status, 200, "suspend")
    refused(w.exchange(agent=agent, cert=cert), "invalid_client", 401, "suspended")
    # What went through it is void with it, and good again when it is back.
    refused(w.exchange(subject=held, kind="access_token", agent=RESEARCHER), "invalid_request", what="its token")
    equal(w.d.admin("POST", "/v1/agents/resume", {"spiffe_id": agent}).status, 200, "resume")
    equal(w.exchange(subject=held, kind="access_token", agent=RESEARCHER).status, 200, "its token, later")


# --- in use -----------------------------------------------------------------------------------

@test
def decisions_know_the_user():
    w = world()
    token = w.token(audience=SERVER)

    def ask(token, agent=HELPDESK, cert=None, about=None):
        return w.d.https("POST", "/access/v1/evaluation", call("crm/read", agent=about or agent),
                         {"Authorization": "Bearer " + token}, cert=cert or w.certs[agent])
    yes = ask(token)
    equal((yes.status, yes.json["decision"]), (200, True), repr(yes))
    equal(ask(w.token(audience=SERVER, scope=None)).json["decision"], False, "without the scope")
    bob = w.token(subject=w.user_token(sub="bob"), audience=SERVER)
    equal(ask(bob).json["decision"], False, "for bob")
    equal(ask(w.svid(HELPDESK)).json["decision"], False, "for nobody")
    equal(ask(token, about=RESEARCHER).json["context"]["reason"], "subject_mismatch", "about another")
    is_error(ask(token, cert=w.certs[RESEARCHER]), 401, "by whoever got hold of it")
    is_error(ask(token, cert=w.enrol(HELPDESK)), 401, "by another certificate of the agent")
    is_error(w.d.http("POST", "/access/v1/evaluation", call("crm/read", agent=HELPDESK),
                      {"Authorization": "Bearer " + token}), 401, "without a certificate")
    is_error(ask(w.token()), 401, "for the CRM")
    chain = w.token(subject=w.token(audience=RESEARCHER), kind="access_token", agent=RESEARCHER, audience=SERVER)
    equal(ask(chain, agent=RESEARCHER).json["decision"], True, "through two")
    # The log: who acted, in the leaf; for whom, in an opening; and it is computed again.
    leaf = next(r for r in reversed(w.records("authz.decision")) if r.get("tool") == "crm/read")
    equal(leaf["actors"], f"{HELPDESK} {RESEARCHER}", "actors")
    equal((leaf["jti"], leaf["delegation"]),
          (claims(chain)["jti"], claims(chain)[ISSUER + "/claims"]["line"][0]), "names")
    check("alice" not in json.dumps(leaf), "no person in the leaf")
    replayed = json.loads(w.d.writ("policy", "replay", "--json", code=0).stdout)
    check(replayed["same"] > 5 and not replayed.get("changed"), str(replayed)[:400])


@test
def a_proxy_hands_it_on():
    """ext_authz: the forwarded request's token, beside what the proxy tells of the client's certificate."""
    w = world()
    token, crm = w.token(audience=SERVER), w.token()
    der = openssl("x509", "-in", w.certs[HELPDESK][0], "-outform", "DER")
    digest = openssl("dgst", "-sha256", "-binary", data=der).hex()
    gateway = w.enrol(GATEWAY)

    def ask(bearer, xfcc, settings=""):
        path = f"/ext-authz/envoy,protocol=mcp,server=crm,peer=x-forwarded-client-cert{settings}/mcp"
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read", "arguments": {}}}
        head = {"x-forwarded-client-cert": xfcc, "authorization": f"Bearer {bearer}" if bearer else None}
        return w.d.https("POST", path, body, head, cert=gateway)
    yes = ask(token, f"Hash={digest};URI={HELPDESK}")
    equal((yes.status, yes.header("x-writ-agent")), (200, HELPDESK), repr(yes))
    check("authorization" in yes.header("x-envoy-auth-headers-to-remove"), "it is for writ and does not reach the upstream")
    equal(ask(token, f"URI={HELPDESK}").status, 200, "the proxy tells only whose it is")
    for why, status, reply in (
            ("nobody's behalf", 403, ask(None, f"URI={HELPDESK}")), ("no certificate", 401, ask(token, "By=x")),
            ("another agent", 403, ask(token, f"URI={RESEARCHER}")),
            ("another certificate", 401, ask(token, f"Hash={'0' * 64};URI={HELPDESK}")),
            ("for the CRM", 401, ask(crm, f"URI={HELPDESK}"))):
        equal(reply.status, status, f"{why}: {reply}")
    quoted = urllib.parse.quote(CRM, safe="")
    through = ask(crm, f"URI={HELPDESK}", f",audience={quoted}")
    equal(through.status, 200, f"at the CRM's own route: {through}")
    check("authorization" not in (through.header("x-envoy-auth-headers-to-remove") or ""), "which is to get it")


@test
def each_exchange_is_on_record():
    w = world()
    before = len(w.records("token.issue"))
    body = claims(w.token())
    leaf = w.records("token.issue")[before]
    equal((leaf["agent"], leaf["jti"], leaf["expires"], leaf["actors"]),
          (HELPDESK, body["jti"], body["exp"], HELPDESK), str(leaf))
    decision = next(r for r in w.records("authz.decision") if r["seq"] == leaf["evaluation"])
    equal((decision["action"], decision["decision"], decision["jti"]), ("token/exchange", "permit", body["jti"]), "decision")
    check("alice" not in json.dumps(leaf) and CRM not in json.dumps(leaf), "no person, no foreign word")
    # The record of the token closes its decision; one that was refused after the decision has no token.
    w.d.https("POST", "/access/v1/evaluation", call("crm/read", agent=HELPDESK),
              {"Authorization": "Bearer " + w.token(audience=SERVER)}, cert=w.certs[HELPDESK])
    used = w.records("authz.decision")[-1]["seq"]
    still = {r["seq"] for r in w.d.admin("GET", f"/v1/audit/open?after={decision['seq'] - 1}&older=0").json["open"]}
    check(used in still and decision["seq"] not in still, f"{decision['seq']}, {used}: {still}")
    child = claims(w.token(subject=w.token(audience=RESEARCHER), kind="access_token", agent=RESEARCHER))
    leaf = w.records("token.issue")[-1]
    equal((leaf["jti"], leaf["parent"]), (child["jti"], child[ISSUER + "/claims"]["line"][-1]), "parent")


# --- introspection and revocation ---------------------------------------------------------------

@test
def introspection_tells_those_whom_it_concerns():
    w = world()
    token = w.token(audience=RESEARCHER)
    for agent in (HELPDESK, RESEARCHER):
        reply = w.form("/oauth2/introspect", {"token": token}, agent)
        equal((reply.status, reply.json["active"]), (200, True), f"{agent}: {reply}")
        equal(reply.header("cache-control"), "no-store", "cache-control")
        body = claims(token)
        for name in ("iss", "sub", "aud", "client_id", "scope", "exp", "iat", "jti", "cnf", "act"):
            equal(reply.json[name], body[name], name)
        equal(reply.json["token_type"], "Bearer", "token_type")
    for why, text, agent in (("not its to see", token, WRITER), ("of others", w.user_token(), HELPDESK),
                             ("an SVID", w.svid(HELPDESK), HELPDESK), ("nothing", "x", HELPDESK)):
        reply = w.form("/oauth2/introspect", {"token": text, "token_type_hint": "access_token"}, agent)
        equal((reply.status, reply.json), (200, {"active": False}), why)
    refused(w.form("/oauth2/introspect", {"x": "y"}), "invalid_request", what="no token")
    refused(w.form("/oauth2/introspect", "token=a&token=b"), "invalid_request", what="two")


@test
def a_revoked_token_takes_its_descendants_along():
    w = world()
    root = w.token(audience=RESEARCHER)
    child = w.token(subject=root, kind="access_token", agent=RESEARCHER, audience=WRITER)
    leaf = w.token(subject=child, kind="access_token", agent=WRITER)
    other = w.token(audience=RESEARCHER)
    refused(w.form("/oauth2/revoke", {"token": child}, WRITER), "unauthorized_client", what="another's")
    equal(w.form("/oauth2/introspect", {"token": leaf}, WRITER).json["active"], True, "it lives")
    equal(w.form("/oauth2/revoke", {"token": child}, RESEARCHER).status, 200, "revoke")
    for token, agent, alive in ((root, HELPDESK, True), (child, RESEARCHER, False), (leaf, WRITER, False),
                                (other, HELPDESK, True)):
        equal(w.form("/oauth2/introspect", {"token": token}, agent).json["active"], alive, agent)
    refused(w.exchange(subject=child, kind="access_token", agent=WRITER), "invalid_request", what="revoked")
    equal(w.form("/oauth2/revoke", {"token": child}, RESEARCHER).status, 200, "again")
    equal(w.form("/oauth2/revoke", {"token": "unknown"}, RESEARCHER).status, 200, "unknown")
    record = w.records("token.revoke")[-1]
    equal((record["agent"], record["jti"], record["what"]), (RESEARCHER, claims(child)["jti"], "token"), str(record))


@test
def revocations_survive_a_restart():
    w = World()
    token = w.token(audience=SERVER)
    equal(w.form("/oauth2/revoke", {"token": token}).status, 200, "revoke")
    w.d.kill()
    w.d.start()
    is_error(w.d.https("POST", "/access/v1/evaluation", call("crm/read", agent=HELPDESK),
                       {"Authorization": "Bearer " + token}, cert=w.certs[HELPDESK]), 401, "after kill -9")
    equal(w.exchange(audience=SERVER).status, 200, "a new one")
    w.d.close()


@test
def an_admin_revokes_by_name():
    w = world()
    carol = w.user_token(sub="carol")
    first, alices = w.token(subject=carol, audience=SERVER), w.token(audience=SERVER)

    def active(token):
        return w.form("/oauth2/introspect", {"token": token}).json["active"]
    for body, why in (({}, "nothing"), ({"user": "carol"}, "no issuer"), ({"jti": "x"}, "no jti"),
                      ({"jti": claims(first)["jti"], "user": "carol", "issuer": IDP}, "both"),
                      ({"user": "carol", "isuer": IDP}, "misspelt"), ({"user": 7, "issuer": IDP}, "a number")):
        is_error(w.d.admin("POST", "/v1/delegations/revoke", body), 400, why)
    reply = w.d.admin("POST", "/v1/delegations/revoke", {"user": "carol", "issuer": IDP, "reason": "left the company"})
    equal(reply.status, 200, repr(reply))
    equal((active(first), active(alices)), (False, True), "carol's alone")
    record = w.records("token.revoke")[-1]
    check("carol" not in json.dumps(record) and record["what"] == "user", str(record))
    end = time.monotonic() + 10
    while not active(w.token(subject=carol, audience=SERVER)):  # of the same second: void as well
        check(time.monotonic() < end, "a token of a later second is good")
    equal(w.d.admin("POST", "/v1/delegations/revoke", {"jti": claims(alices)["jti"]}).status, 200, "by jti")
    equal(active(alices), False, "by jti")
    is_error(w.d.https("POST", "/v1/delegations/revoke", {"jti": claims(alices)["jti"]}, cert=w.certs[HELPDESK]), 404,
             "at the agents' door")


@test
def metadata_say_what_there_is():
    w = world()
    path = "/.well-known/oauth-authorization-server"
    reply = w.d.http("GET", path + "/delegation")
    equal(reply.status, 200, repr(reply))
    doc = reply.json
    equal(doc["issuer"], ISSUER, "issuer")
    equal(doc["token_endpoint"], "https://writ.acme.example/oauth2/token", "token_endpoint")
    equal(doc["jwks_uri"], "https://writ.acme.example/keys", "jwks_uri")
    equal(doc["grant_types_supported"], [GRANT], "grants")
    equal(doc["response_types_supported"], [], "response types")
    check(doc["tls_client_certificate_bound_access_tokens"] is True, "bound")
    # The document is found where its issuer says, and nowhere else (RFC 8414 3.3).
    is_error(w.d.http("GET", path), 404, "the path of another issuer")
    plain = Deployment(policies=POLICIES, caller=None).start()
    is_error(plain.http("GET", path), 404, "no issuer by https")
    plain.close()


# --- searching, and erasing -----------------------------------------------------------------------

@test
def the_log_is_searched_by_user_and_delegate():
    w = World()

    def find(*options):
        out = w.d.writ("audit", "search", "--json", "--oldest", *options, code=0).stdout
        return [json.loads(line) for line in out.splitlines()]

    erin = w.user_token(sub="erin")
    first = w.token(subject=erin, audience=RESEARCHER)
    second = w.token(subject=first, kind="access_token", agent=RESEARCHER, audience=WRITER)
    w.token()
    w.exchange(subject=w.svid(HELPDESK), kind="jwt", audience=SERVER)
    root = claims(first)["jti"]

    def look():
        equal([r["kind"] for r in find("--user", "erin")], ["authz.decision", "token.issue"] * 2, "erin's")
        equal(len(find("--user", "erin", "--agent", RESEARCHER, "--kind", "token.*")), 1, "and an agent")
        equal(find("--user", "eri") + find("--user", "nobody"), [], "nobody else's")
        through = find("--delegate", HELPDESK, "--kind", "token.issue")
        equal({r["jti"] for r in through if r["agent"] == RESEARCHER}, {claims(second)["jti"]}, "through the helpdesk")
        equal({r["jti"] for r in find("--delegation", root)}, {root, claims(second)["jti"]}, "one delegation")
    look()
    end = time.monotonic() + 30  # once more, when the index has them
    while w.d.admin("GET", "/v1/audit/records?user=erin").json["indexed"] < 5:
        check(time.monotonic() < end, "the index follows")
    look()
    # Erasing a person takes the openings that name her; the log still verifies, and no search finds her.
    w.d.writ("audit", "redact", "--person", "erin", "--basis", "gdpr-17", "--reason", "case 7", code=0)
    equal(find("--user", "erin"), [], "after erasure")
    equal(len(find("--delegation", root)), 4, "the records stay")
    w.d.writ("audit", "verify", "--key", w.d.log_key(), w.d.export("after.jsonl"), code=0)
    check(b"erin" not in b"".join(open(w.d.path("writ-data", n), "rb").read() for n in ("log.db", "index.db", "writ.db")),
          "nothing of her on disk")
    w.d.close()


# --- the command line, and the document -----------------------------------------------------------

@test
def the_document_keeps_its_word():
    w = world()
    with open(os.path.join(ROOT, "spiffe", "DELEGATION.md"), encoding="utf-8") as f:
        text = f.read()
    commands = re.findall(r"(?:^    |`)writ (token [^`\n]*)", text, re.M)
    equal(len(commands), 5, "commands of the document")
    for name, source in zip(("svid.pem", "key.pem"), w.certs[HELPDESK]):
        shutil.copy(source, w.d.path(name))
    shutil.copy(w.d.path("writ-data", "bundle.pem"), w.d.path("bundle.pem"))
    w.d.write("id-token", w.user_token() + "\n")
    w.d.writ(*shlex.split(commands[0]), code=0)
    with open(w.d.path("token"), encoding="utf-8") as f:
        token = f.read()
    equal(os.stat(w.d.path("token")).st_mode & 0o777, 0o600, "mode")
    said = w.d.writ(*shlex.split(commands[1]), code=0).stdout
    for part in ("alice", CRM, HELPDESK, "crm.read", claims(token)["jti"]):
        check(part in said, f"{part}: {said}")
    w.d.writ(*shlex.split(commands[2]), code=0)
    check("not active" in w.d.writ(*shlex.split(commands[1]), code=1).stdout, "revoked")
    equal(json.loads(w.d.writ("token", "introspect", "--json", "@token", code=1).stdout), {"active": False}, "--json")
    other = w.token(subject=w.user_token(sub="dave"))
    w.d.writ(*shlex.split(commands[3].replace("ID", claims(other)["jti"])), code=0)
    equal(w.form("/oauth2/introspect", {"token": other}).json["active"], False, "--jti")
    w.d.writ(*shlex.split(commands[4].replace("alice", "dave")), code=0)
    # What is refused is told in OAuth's words.
    no = w.d.writ("token", "exchange", "--subject-token", "@id-token", "--type", "id_token", "--audience",
                  "https://mail.example/", code=1)
    check("invalid_target" in no.stderr, no.stderr)
    for wrong in (("exchange", "--audience", CRM), ("exchange", "--subject-token", "x"),
                  ("exchange", "--subject-token", "x", "--audience", CRM, "--type", "saml"), ("revoke",),
                  ("revoke", "--user", "alice"), ("revoke", "x", "--jti", "y"), ("revoke", "x", "--reason", "y")):
        w.d.writ("token", *wrong, code=2)
    # The rule that it shows is one, and permits what it says.
    rule = re.search(r"```lua\n(policy .*?)```", text, re.S).group(1)
    folder = w.d.path("shown")
    os.makedirs(folder)
    w.d.write("shown/delegation.lua", rule)
    w.d.write("shown/delegation_test.lua", f"""
test "the document" {{ action = "token/exchange", resource = "audience:{CRM}", agent = {{ team = "support" }},
  {{ args = {{ scope = {{ "crm.read" }} }}, user = {{ id = "alice", issuer = "{IDP}" }}, expect = "permit" }},
  {{ args = {{ scope = {{ "crm.admin" }} }}, user = {{ id = "alice", issuer = "{IDP}" }}, expect = "deny" }},
  {{ args = {{ scope = {{ "crm.read" }} }}, user = {{ id = "alice", issuer = "https://x" }}, expect = "deny" }},
  {{ args = {{ scope = {{ "crm.read" }} }}, expect = "deny" }},
}}
""")
    w.d.writ("policy", "test", folder, code=0)


if __name__ == "__main__":
    main()
