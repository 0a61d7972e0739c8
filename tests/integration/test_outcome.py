#!/usr/bin/env -S python3 -B
"""What became of what was permitted: reported once, on record, and what nobody reported is listed."""
import json

from harness import AGENT, Deployment, check, equal, is_error, leaves, main, test

BOTH = 'callers = { { unix_user = "root", role = "admin" }, { unix_user = "root", role = "pep" } }\n'
shared = None


def server():
    global shared
    if shared is None:
        shared = Deployment(config=BOTH).start()
        shared.register()
    return shared


def permit(d=None):
    reply = (d or server()).evaluate("ledger/query", {"max_rows": 5}).json
    check(reply["decision"], f"not permitted: {reply}")
    return reply["context"]


def outcome(body, d=None):
    return (d or server()).http("POST", "/v1/audit/outcome", body)


def record(seq):
    reply = server().admin("GET", f"/v1/audit/records?from={seq}&limit=1")
    return reply.json["records"][0]


@test
def an_outcome_closes_its_decision():
    c = permit()
    reply = outcome({"evaluation_id": c["evaluation_id"], "outcome": "success", "duration_ms": 12,
                     "detail": {"rows": 5, "note": "secret-of-the-tool"}})
    equal(reply.status, 200, f"status ({reply})")
    equal(reply.json["repeated"], False, "repeated")
    r = record(reply.json["record"]["seq"])
    equal((r["kind"], r["closes"], r["outcome"], r["duration_ms"], r["agent"]),
          ("authz.outcome", c["record"]["seq"], "success", 12, AGENT), "record")
    check("input_commit" in r and "secret-of-the-tool" not in json.dumps(r), f"detail is not committed to: {r}")
    path = server().export("outcomes.jsonl")
    with open(path, "rb") as f:
        check(b"secret-of-the-tool" in f.read(), "the detail is in no opening")
    server().writ("audit", "verify", "--key", server().log_key(), path, code=0)
    check(r["seq"] in leaves(path), "the outcome is not in the export")


@test
def the_same_again_is_the_same_and_another_is_refused():
    c = permit()
    body = {"evaluation_id": c["evaluation_id"], "outcome": "failure", "detail": "no such table"}
    first = outcome(body)
    equal(first.status, 200, f"first ({first})")
    again = outcome(json.dumps(dict(reversed(list(body.items())))))  # members in another order
    equal((again.status, again.json["repeated"]), (200, True), "again")
    equal(again.json["record"]["seq"], first.json["record"]["seq"], "the record of both")
    for other in ({**body, "outcome": "success"}, {**body, "detail": "other"}, {**body, "duration_ms": 1}):
        equal(is_error(outcome(other), 409, str(other))["code"], "already_reported", "code")
    # Usage is another question about the same decision.
    usage = {"evaluation_id": c["evaluation_id"], "input_tokens": 100, "output_tokens": 7, "cost_micros": 1250}
    reply = server().http("POST", "/v1/usage", usage)
    equal(reply.status, 200, f"usage ({reply})")
    r = record(reply.json["record"]["seq"])
    equal((r["kind"], r["closes"], r["input_tokens"], r["output_tokens"], r["cost_micros"]),
          ("authz.usage", c["record"]["seq"], 100, 7, 1250), "record")
    equal(server().http("POST", "/v1/usage", usage).json["repeated"], True, "usage again")
    usage["output_tokens"] = 8
    equal(is_error(server().http("POST", "/v1/usage", usage), 409)["code"], "already_reported", "code")


@test
def what_cannot_be_reported_is_refused():
    d = server()
    c = permit()
    ident = c["evaluation_id"]
    key, seq = ident.split("_")[1:]
    denied = d.evaluate("files/delete").json["context"]["evaluation_id"]
    asked = d.evaluate("payments/create", {"amount": 501}).json["context"]["evaluation_id"]
    table = (
        ("no id", {"outcome": "success"}, 400, "invalid_request"),
        ("not ours", {"evaluation_id": f"ev_00000000_{seq}", "outcome": "success"}, 404, "unknown_evaluation"),
        ("not an id", {"evaluation_id": seq, "outcome": "success"}, 400, "invalid_request"),
        ("not yet there", {"evaluation_id": f"ev_{key}_99999999", "outcome": "success"}, 404, "unknown_evaluation"),
        ("no decision", {"evaluation_id": f"ev_{key}_0", "outcome": "success"}, 404, "unknown_evaluation"),
        ("denied", {"evaluation_id": denied, "outcome": "success"}, 409, "not_permitted"),
        ("asked", {"evaluation_id": asked, "outcome": "success"}, 409, "not_permitted"),
        ("no outcome", {"evaluation_id": ident}, 400, "invalid_request"),
        ("unknown outcome", {"evaluation_id": ident, "outcome": "fine"}, 400, "invalid_request"),
        ("unknown member", {"evaluation_id": ident, "outcome": "success", "details": 1}, 400, "unknown_member"),
        ("negative", {"evaluation_id": ident, "outcome": "success", "duration_ms": -1}, 400, "invalid_request"),
        ("fraction", {"evaluation_id": ident, "outcome": "success", "duration_ms": 1.5}, 400, "invalid_request"),
        ("long", {"evaluation_id": ident, "outcome": "success", "detail": "x" * 66000}, 413, "too_large"),
    )
    for what, body, status, code in table:
        equal(is_error(outcome(body), status, what)["code"], code, f"{what}: code")
    is_error(d.http("POST", "/v1/usage", {"evaluation_id": ident}), 400, "usage of nothing")
    # Another PEP: the operators' socket is another caller than the agents' door.
    reply = d.admin("POST", "/v1/audit/outcome", {"evaluation_id": ident, "outcome": "success"})
    equal(is_error(reply, 403, "another PEP")["code"], "foreign_evaluation", "code")
    equal(outcome({"evaluation_id": ident, "outcome": "success"}).status, 200, "status after all that")


@test
def only_a_pep_reports():
    d = Deployment(caller=None).start()
    d.register()
    is_error(d.http("POST", "/v1/audit/outcome", {"evaluation_id": "ev_00000000_1", "outcome": "success"}), 401)
    is_error(d.admin("POST", "/v1/usage", {"evaluation_id": "ev_00000000_1", "input_tokens": 1}), 403)
    d.close()


@test
def open_decisions_are_listed_until_they_are_closed():
    d = Deployment(config=BOTH).start()
    d.register()
    ids = [permit(d)["evaluation_id"] for _ in range(7)]
    d.evaluate("files/delete")
    outcome({"evaluation_id": ids[2], "outcome": "success"}, d)
    d.http("POST", "/v1/usage", {"evaluation_id": ids[3], "input_tokens": 1})  # closes nothing
    wanted = [i for n, i in enumerate(ids) if n != 2]
    got, after = [], ""
    for _ in range(10):
        page = d.admin("GET", f"/v1/audit/open?older=0&limit=2{after}").json
        check(len(page["open"]) <= 2, f"{page}")
        got += [o["evaluation_id"] for o in page["open"]]
        if "next" not in page:
            break
        after = f"&after={page['next']}"
    equal(got, wanted, "open decisions")
    equal(d.admin("GET", "/v1/audit/open").json["open"], [], "open for more than a minute")
    is_error(d.admin("GET", "/v1/audit/open?limit=0"), 400)
    is_error(d.admin("GET", "/v1/audit/open?oldest=1"), 400)
    printed = d.writ("audit", "open", "--older", "0", code=0).stdout
    check(all((i in printed) == (i in wanted) for i in ids), printed)
    check("ledger/query" in printed and AGENT in printed, printed)
    d.writ("audit", "open", "--older", "soon", code=2)
    # It survives a restart, because it is in the log.
    d.restart()
    equal(outcome({"evaluation_id": ids[2], "outcome": "success"}, d).json["repeated"], True, "after a restart")
    equal(is_error(outcome({"evaluation_id": ids[2], "outcome": "failure"}, d), 409)["code"], "already_reported", "code")
    d.close()


main()
