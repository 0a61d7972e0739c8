#!/usr/bin/env -S python3 -B
"""federates_with: which foreign bundles the processes of a registration see."""
import json
import os

from grpc_client import Client, field, parse
from harness import TRUST_DOMAIN, Deployment, check, equal, is_error, main, test

A, B = f"spiffe://{TRUST_DOMAIN}/agent/a", f"spiffe://{TRUST_DOMAIN}/agent/b"
ONE, TWO = "one.example", "two.example"
OWN = f"spiffe://{TRUST_DOMAIN}"
API, HEADER = "/SpiffeWorkloadAPI/", {"workload.spiffe.io": "true"}
SDS = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
MINE = [f"unix:uid:{os.geteuid()}"]


def ids(*names):
    return sorted(f"spiffe://{n}" for n in names)


def started():
    """A server with the bundles of two other trust domains, which nobody can fetch anew."""
    d = Deployment(config="fetch = { private = true }\n").start()
    bundle = d.write("bundle.json", json.dumps(d.http("GET", "/bundle").json))
    for name in (ONE, TWO):
        d.writ("federation", "add", name, "https://127.0.0.1:9/bundle", "--profile", "https_spiffe", "--endpoint-id",
               f"spiffe://{name}/server", "--bundle-file", bundle)
    equal(sorted(p["trust_domain"] for p in d.admin("GET", "/v1/federation").json["federation"]), [ONE, TWO], "peers")
    return d


def bundle_map(message, number):
    return sorted(parse(e)[1][0].decode() for e in parse(message).get(number, []))


def federated(message):
    return bundle_map(message, 3)


def secrets(message):
    """What a DiscoveryResponse holds: {name: Secret}."""
    found = [parse(parse(one)[2][0]) for one in parse(message).get(2, [])]
    return {s[1][0].decode(): s for s in found}


def domains(secret):
    """The trust domains in Envoy's SPIFFE validator."""
    config = parse(parse(parse(secret[4][0])[12][0])[2][0])
    return sorted(parse(one)[1][0].decode() for one in parse(config[2][0])[1])


def update(d, value, spiffe_id=A, status=200):
    reply = d.admin("POST", "/v1/agents/update", {"spiffe_id": spiffe_id, "federates_with": value})
    equal(reply.status, status, f"update to {value}: {reply}")
    return reply


@test
def a_caller_sees_the_bundles_of_its_entries():
    d = started()
    d.register(A, selectors=MINE)
    g = Client(d.workload_socket)
    x, b, j = (g.stream(API + m, b"", HEADER) for m in ("FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"))

    def seen(*names):
        equal(federated(x.next()), ids(*names), "federated_bundles")
        equal(bundle_map(b.next(), 2), sorted([OWN, *ids(*names)]), "FetchX509Bundles")
        equal(bundle_map(j.next(), 1), sorted([OWN, *ids(*names)]), "FetchJWTBundles")

    seen(ONE, TWO)  # nothing said: all there are
    update(d, [f"spiffe://{TWO}"])
    seen(TWO)
    update(d, [])
    seen()
    d.admin("POST", "/v1/agents/update", {"spiffe_id": A, "purpose": "something else"})
    check(x.quiet() and b.quiet() and j.quiet(), "a purpose is no bundle")
    update(d, [TWO, ONE])
    seen(ONE, TWO)
    update(d, [ONE])
    seen(ONE)
    d.register(B, selectors=MINE, federates_with=[TWO])  # the union of its identities'
    equal(federated(x.next()), ids(ONE, TWO), "two identities")
    equal(bundle_map(b.next(), 2), sorted([OWN, *ids(ONE, TWO)]), "their bundles")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": B})
    equal(federated(x.next()), ids(ONE), "one again")
    update(d, None)
    equal(federated(x.next()), ids(ONE, TWO), "all again")
    d.writ("federation", "remove", ONE, code=0)
    equal(federated(x.next()), ids(TWO), "what is gone is gone")
    d.close()


@test
def tokens_and_secrets_of_other_domains_are_closed_as_well():
    d = started()
    d.register(A, selectors=MINE, federates_with=[ONE])
    g = Client(d.workload_socket)

    def fetch(*names):
        node = field(6, "envoy") + field(8, field(1, field(1, 1) + field(2, 30)))  # that knows the validator
        return g.call(SDS, field(2, node) + b"".join(field(3, n) for n in names) + field(4, SECRET))

    equal(domains(secrets(fetch("ALL").messages[0])["ALL"]), sorted([TRUST_DOMAIN, ONE]), "ALL")
    equal(sorted(secrets(fetch().messages[0])), sorted([A, OWN, *ids(ONE)]), "everything")
    equal(fetch(*ids(ONE)).status, 0, "named")
    equal(fetch(*ids(TWO)).status, 3, "not its own")
    # A token of TWO: its bundle has our own keys, so our signer can speak for it.
    own = parse(parse(g.call(API + "FetchJWTSVID", field(1, "svc"), HEADER).messages[0])[1][0])[2][0].decode()
    reply = g.call(API + "ValidateJWTSVID", field(1, "svc") + field(2, own), HEADER)
    equal(reply.status, 0, f"our own token: {reply.message}")
    d.close()


@test
def it_is_set_shown_exported_and_on_record():
    d, other = started(), started()
    said = d.writ("agent", "register", A, "--owner", "ann", "--federates-with", TWO, "--federates-with",
                  f"spiffe://{ONE}", "--json", code=0).stdout
    equal(json.loads(said)["federates_with"], [ONE, TWO], "registered")
    check("federates_with" in d.writ("agent", "show", A, code=0).stdout, "show")
    d.writ("agent", "register", B, "--owner", "ann", "--federates-with", "none", code=0)
    for entry, value in ((A, [ONE, TWO]), (B, [])):
        equal(json.loads(d.writ("agent", "show", entry, "--json", code=0).stdout)["federates_with"], value, entry)
    text = d.writ("agent", "export", code=0).stdout
    check('federates_with = { "one.example", "two.example" }' in text and "federates_with = {  }" in text, text)
    other.writ("agent", "import", other.write("in.lua", text), code=0)
    equal(other.writ("agent", "export", code=0).stdout, text, "read back")
    d.writ("agent", "update", A, "--federates-with", "all", code=0)
    check("federates_with" not in json.loads(d.writ("agent", "show", A, "--json", code=0).stdout), "all")
    d.restart()
    equal(json.loads(d.writ("agent", "show", B, "--json", code=0).stdout)["federates_with"], [], "after a restart")
    with open(d.export(), encoding="utf-8") as f:
        check('"federates_with":["one.example","two.example"]' in f.read().replace('\\"', '"'), "the record")
    d.close()
    other.close()


@test
def what_makes_no_sense_is_refused():
    d = started()
    d.register(A, selectors=MINE)
    for value, said in ((["three.example"], "there is no bundle of three.example"), (ONE, "must be an array"),
                        ([1], "must be an array"), (["UPPER"], "federates_with"), ([ONE, f"spiffe://{ONE}"], "twice"),
                        ([TRUST_DOMAIN], "is this trust domain"), ([f"spiffe://{ONE}/path"], "federates_with"),
                        ([f"x{n}.example" for n in range(65)], "too many"), ([""], "federates_with")):
        error = is_error(update(d, value, status=400), 400)
        check(said in error["message"], f"{value}: {error}")
    is_error(d.admin("POST", "/v1/agents", {"spiffe_id": f"spiffe://{ONE}/x", "owner": "x", "federates_with": [TWO]}), 400)
    for words in (("--federates-with", "all", "--federates-with", ONE), ("--federates-with", ONE, "--federates-with", "none")):
        check("stands alone" in d.writ("agent", "update", A, *words, code=2).stderr, words)
    bad = f'agents = {{ {{ spiffe_id = "{B}", owner = "x", federates_with = {{ "three.example" }} }} }}'
    said = d.writ("agent", "import", d.write("bad.lua", bad), code=1).stderr
    check("federates_with: there is no bundle of three.example" in said, f"import: {said}")
    d.close()


main()
