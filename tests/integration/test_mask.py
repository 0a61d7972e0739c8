#!/usr/bin/env -S python3 -B
"""What audit.mask names is never written down; the decision is made on the real values."""
import hashlib
import json
import os

from harness import Deployment, Failure, call, check, equal, leaves, main, test

RULES = """
policy "vault" {
  permit "right password" {
    on   = { action = "tools/call", tool = "vault/open" },
    when = function(q) return q.args.password == "hunter2-secret" end,
    message = "fine",
  },
  deny "wrong" {
    on   = { action = "tools/call", tool = "vault/open" },
    when = function(q) return q.args.password ~= "hunter2-secret" end,
    message = "Bearer abcdefghijklmnop is not yours.",
  },
}
"""
POLICIES = {"catalogue/t.lua": 'tool "vault/open" { effect = "read" }\n', "vault.lua": RULES}
MASK = ('audit = { mask = { { field = "args.password" }, { field = "context.people.*.ssn" },\n'
        '  { detector = "token" }, { detector = "credit_card" } } }\n')
SECRETS = (b"hunter2-secret", b"123-45-6789", b"eyJhbGciOiJub25lIn0", b"4111111111111111", b"ghp_0123456789abcdef0123",
           b"abcdefghijklmnop")


def files(d):
    for folder, _, names in os.walk(d.data):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    yield name, f.read()


def request(password="hunter2-secret"):
    return call("vault/open", {"password": password, "card": 4111111111111111, "safe": "stays-readable"},
                context={"people": [{"ssn": "123-45-6789", "name": "ann"}],
                         "note": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2ln"})


@test
def masked_values_reach_no_file():
    d = Deployment(policies=POLICIES, config=MASK).start()
    d.register()
    reply = d.http("POST", "/access/v1/evaluation", request(), {"X-Request-ID": "ghp_0123456789abcdef0123"}).json
    check(reply["decision"], f"the decision is not made on the real value: {reply}")
    canonical = json.dumps({k: request()[k] for k in ("action", "context", "resource", "subject")}, sort_keys=True,
                           separators=(",", ":")).encode()
    equal(reply["context"]["input_digest"], "sha256:" + hashlib.sha256(canonical).hexdigest(), "digest of the real request")
    denied = d.http("POST", "/access/v1/evaluation", request("wrong-password")).json
    check(not denied["decision"] and "abcdefghijklmnop" in denied["context"]["message"], f"{denied}")
    path = d.export()
    records = leaves(path)
    equal([records[r["context"]["record"]["seq"]][1].get("masked") for r in (reply, denied)], [5, 5], "masked values")
    with open(path, encoding="utf-8") as f:
        opened = [json.loads(line)["opening"] for line in f if line.startswith('{"opening"')]
    found = next(o["value"] for o in opened if o["seq"] == reply["context"]["record"]["seq"] and o["name"] == "input")
    equal(found["request"]["action"]["properties"], {"card": "[masked:credit_card]", "password": "[masked:field]",
                                                     "safe": "stays-readable"}, "arguments")
    equal(found["request"]["context"], {"note": "[masked:jwt]", "people": [{"name": "ann", "ssn": "[masked:field]"}]},
          "context")
    equal((found["masked"], found["request_id"]), (5, "[masked:api_key]"), "what the opening says of itself")
    check("digest" not in found, "a digest of the real request stands beside the masked one")
    d.writ("audit", "verify", "--key", d.log_key(), path, code=0)
    for name, content in files(d):
        for secret in SECRETS + (b"wrong-password", reply["context"]["input_digest"].encode()):
            if secret in content and not (name == "writ.db" or name.startswith("writ.db-")):  # policies are there
                raise Failure(f"{secret!r} is in {name}")
    d.stop()
    # Not guessed: counted.
    said = d.writ("policy", "replay", code=0).stdout
    check("computed again: 0," in said and "masked), so not computed again: 2" in said, said)
    d.close()


@test
def a_request_without_secrets_is_as_it_was():
    d = Deployment(config=MASK).start()
    d.register()
    c = d.evaluate("ledger/query", {"max_rows": 5}).json["context"]
    records = leaves(d.export())
    check("masked" not in records[c["record"]["seq"]][1], "masked")
    with open(d.path("export.jsonl"), encoding="utf-8") as f:
        check(c["input_digest"] in f.read(), "the opening has no digest")
    d.close()


@test
def details_of_outcomes_are_masked():
    d = Deployment(config=MASK).start()
    d.register()
    c = d.evaluate("ledger/query").json["context"]
    reply = d.http("POST", "/v1/audit/outcome", {"evaluation_id": c["evaluation_id"], "outcome": "failure",
                                                 "detail": {"error": "401 for Bearer abcdefghijklmnop"}})
    equal(reply.status, 200, "status")
    records = leaves(d.export())
    equal(records[reply.json["record"]["seq"]][1].get("masked"), 1, "masked values")
    check(not any(b"abcdefghijklmnop" in content for _, content in files(d)), "the token is in a file")
    d.close()


@test
def rules_are_refused_where_they_are_wrong():
    for rule, words in (
            ('{ { field = "password" } }', "a path begins with"),
            ('{ { detector = "tokn" } }', 'did you mean "token"'),
            ('{ { fields = "args.a" } }', "expected field or detector"),
            ('{ { field = "args.a", detector = "key" } }', "one field or one detector"),
            ('{ {} }', "expected { field"),
            ('{ "args.a" }', "list of tables"),
            ('{ a = { field = "args.a" } }', "list of tables"),
            ('"args.a"', "list of tables")):
        d = Deployment(config=f"audit = {{ mask = {rule} }}\n")
        try:
            d.start()
        except Failure as e:
            check(words in str(e) and "writ.lua:" in str(e) and "audit.mask" in str(e), f"{rule}: {e}")
        else:
            raise Failure(f"{rule} was taken")
        finally:
            d.close()


main()
