#!/usr/bin/env -S python3 -B
"""WIT-SVIDs (workload.wit): keys of their own that rotate, streams that follow, and nothing of it where it is off. What the
tokens are is tests/conformance."""
import base64
import json
import os

from grpc_client import Client, field, parse
from harness import TRUST_DOMAIN, Deployment, check, equal, is_error, leaves, main, test

API, HEADER = "/SpiffeWorkloadAPI/", {"workload.spiffe.io": "true"}
A, B = f"spiffe://{TRUST_DOMAIN}/agent/a", f"spiffe://{TRUST_DOMAIN}/agent/b"
MINE = [f"unix:uid:{os.geteuid()}"]
ON = "workload = { wit = true }\n"


def svids(message):
    """[(ID, kid, token, key)]"""
    found = []
    for raw in parse(message)[1]:
        s = {k: v[0].decode() for k, v in parse(raw).items()}
        found.append((s[1], json.loads(base64.urlsafe_b64decode(s[2].split(".")[0] + "=="))["kid"], s[2], s[3]))
    return found


def kids(message):
    (one,) = (parse(e) for e in parse(message)[1])
    return [k["kid"] for k in json.loads(one[2][0])["keys"]]


def authorities(d, state):
    return [a["id"] for a in d.admin("GET", "/v1/authorities").json["authorities"]
            if a["kind"] == "wit" and a["state"] == state]


def act(d, verb, status=200, **body):
    reply = d.admin("POST", f"/v1/authorities/{verb}", body)
    equal(reply.status, status, f"{verb} {body}: {reply}")
    return reply.json


@test
def keys_of_their_own_that_rotate():
    d = Deployment(config=ON).start()
    d.register(A, selectors=MINE)
    g = Client(d.workload_socket)
    s, b, x = (g.stream(API + m, b"", HEADER) for m in ("FetchWITSVID", "FetchWITBundles", "FetchX509SVID"))
    ((spiffe_id, kid, _, key),) = svids(s.next())
    equal(([kid], spiffe_id, kids(b.next())), (authorities(d, "active"), A, [kid]), "the first key")
    x.next()
    keys = {k["use"]: k.get("kid") for k in d.http("GET", "/bundle").json["keys"]}
    check(keys["wit-svid"] == kid != keys["jwt-svid"], f"the bundle: {keys}")
    check(kid not in json.dumps(d.http("GET", "/keys").json), "OpenID relying parties are told of a WIT key")
    new = json.loads(d.writ("authority", "prepare", "wit", "--json", code=0).stdout)["id"]
    equal(kids(b.next()), [kid, new], "prepared")
    act(d, "activate", id=new, force=True)
    check(s.quiet(), "a token that is as good as before was made anew")
    act(d, "taint", id=kid)
    ((_, second, _, next_key),) = svids(s.next())
    check(second == new and next_key != key, "the token of the tainted key stays")
    act(d, "revoke", id=kid)
    equal(kids(b.next()), [new], "revoked")
    check(s.quiet() and x.quiet(), "a token that nobody has touched was made anew")
    d.register(B, selectors=MINE)
    equal([i for i, *_ in svids(s.next())], [A, B], "another identity")
    one = g.stream(API + "FetchWITSVID", field(1, B), HEADER)
    equal([i for i, *_ in svids(one.next())], [B], "one of them")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": B})
    equal((one.end().status, [i for i, *_ in svids(s.next())]), (7, [A]), "without it")
    d.restart()
    ((_, kid, _, _),) = svids(Client(d.workload_socket).stream(API + "FetchWITSVID", b"", HEADER).next())
    equal(kid, new, "after a restart")
    issued = [r for _, r in leaves(d.export()).values() if r["kind"] == "identity.issue" and r["svid"] == "wit"]
    equal({r["agent"] for r in issued}, {A, B}, "records")
    check(all("serial" not in r and r["method"] == "workload_api" for r in issued), issued[:1])
    metrics = d.operators("GET", "/metrics").body.decode()
    check('writ_svids_issued_total{type="wit"} 1' in metrics, "metrics")
    d.close()


@test
def off_it_is_not_there():
    d = Deployment().start()
    d.register(A, selectors=MINE)
    g = Client(d.workload_socket)
    for method in ("FetchWITSVID", "FetchWITBundles"):
        equal(g.call(API + method, b"", HEADER).status, 12, method)
    equal(is_error(d.admin("POST", "/v1/authorities/prepare", {"kind": "wit"}), 409)["code"], "wit_off", "prepare")
    equal(authorities(d, "active"), [], "keys")
    d.stop()
    config = d.config
    d.write("writ.lua", config + ON)
    d.start()
    ((_, kid, _, _),) = svids(Client(d.workload_socket).stream(API + "FetchWITSVID", b"", HEADER).next())
    d.stop()
    d.write("writ.lua", config)
    d.start()
    equal(Client(d.workload_socket).call(API + "FetchWITSVID", b"", HEADER).status, 12, "off again")
    check(kid in json.dumps(d.http("GET", "/bundle").json), "tokens that are out still verify")
    d.close()


main()
