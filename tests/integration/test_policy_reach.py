#!/usr/bin/env -S python3 -B
"""writ policy who and what on the real binary, and the two endpoints behind them."""
import json

from harness import AGENT, Deployment, check, equal, is_error, main, test

OTHER = "spiffe://example.org/agent/sales-1"
RULES = """
policy "finance" {
  permit "read" { on = { action = "tools/call", effect = "read", agent = { team = "finance" } } },
  ask "payment over 500" {
    on        = { action = "tools/call", tool = "payments/create" },
    when      = function(q) return q.args.amount > 500 end,
    approvers = "finance-leads",
  },
  permit "payments" {
    on   = { action = "tools/call", tool = "payments/create", agent = { team = "finance" } },
    when = function(q) return q.args.to ~= "thief" end,
  },
  deny "no deleting" { on = { action = "tools/call", tool = "files/delete" } },
  permit "deletes" { on = { action = "tools/call", tool = "files/delete" } },
}
"""


def deployment():
    d = Deployment()
    d.policy("finance.lua", RULES)
    d.start()
    d.register()
    d.register(OTHER, attributes={"team": "sales"})
    return d


def asked(d, *args, code=0):
    return json.loads(d.writ("policy", *args, "--json", code=code).stdout)


@test
def who_and_what_say_the_same_from_two_sides():
    d = deployment()
    tools = ["payments/create", "ledger/query", "files/delete"]
    who = {(r["spiffe_id"], tool): r["could"] for tool in tools
           for r in asked(d, "who", "--tool", tool)["results"]}
    what = {(agent, r["id"]): r["could"] for agent in (AGENT, OTHER)
            for r in asked(d, "what", "--agent", agent)["results"]}
    equal(who, what, "who against what")
    equal(who, {(AGENT, "payments/create"): "depends", (AGENT, "ledger/query"): "permit",
                (OTHER, "payments/create"): "depends"}, "who")
    # What is impossible is denied, and what is certain is permitted.
    for agent in (AGENT, OTHER):
        for tool in tools:
            could = who.get((agent, tool), "no")
            decision = d.evaluate(tool, {"amount": 1, "to": "x"} if tool == "payments/create" else {}, agent)
            if could in ("no", "permit"):
                equal(decision.json["decision"], could == "permit", f"{agent} {tool}")
    d.close()


@test
def the_line_of_a_when_is_told():
    d = deployment()
    out = d.writ("policy", "who", "--tool", "payments/create", code=0).stdout
    for line in ("tools/call payments/create: agents that could be allowed, by generation 1",
                 "depends on the request, by",
                 "  ask finance/payment over 500  finance.lua:4, depends on when at finance.lua:6",
                 "  permit finance/payments  finance.lua:9, depends on when at finance.lua:11",
                 f"    {AGENT}", f"    {OTHER}"):
        check(line in out.splitlines(), f"'{line}' is missing in {out}")
    out = d.writ("policy", "what", "--agent", AGENT, code=0).stdout
    check("permitted, by\n  permit finance/read  finance.lua:3\n    tool ledger/query\n" in out, out)
    check("files/delete" not in out, out)
    check("nobody" in d.writ("policy", "who", "--tool", "files/delete", code=0).stdout, "a deny without when")
    check("nobody" in d.writ("policy", "who", "--model", "gpt-large", code=0).stdout, "a model without rules")
    check("nobody" in d.writ("policy", "who", "--tool", "ledger/query", "--action", "tools/list", code=0).stdout,
          "another action")
    equal(d.admin("POST", "/v1/agents/suspend", {"spiffe_id": AGENT}).status, 200, "suspended")
    check("is suspended: it is denied everything" in d.writ("policy", "what", "--agent", AGENT, code=0).stdout,
          "what of a suspended agent")
    equal([r["spiffe_id"] for r in asked(d, "who", "--tool", "payments/create")["results"]], [OTHER],
          "who without the suspended one")
    d.close()


@test
def pages_and_limits():
    d = deployment()
    for n in range(20):
        d.register(f"spiffe://example.org/agent/more-{n}")
    got, after, pages = [], "", 0
    while True:
        page = d.admin("GET", f"/v1/policies/who?tool=ledger/query&limit=3{after}").json
        check(len(page["results"]) <= 3, page)
        got += [r["spiffe_id"] for r in page["results"]]
        pages += 1
        if "next" not in page:
            break
        after = "&after=" + page["next"]
    equal((len(got), len(set(got)), pages >= 7), (21, 21, True), "all of them, each once")
    said = asked(d, "who", "--tool", "ledger/query", "--limit", "5")
    equal((len(said["results"]), said["more"]), (5, True), "a limit")
    check("there may be more" in d.writ("policy", "who", "--tool", "ledger/query", "--limit", "5", code=0).stdout, "text")
    said = asked(d, "who", "--tool", "ledger/query")
    equal((len(said["results"]), said["more"]), (21, False), "all")
    d.close()


@test
def misuse_is_refused_precisely():
    d = deployment()
    for args, code, word in ((["who"], 2, "--tool SERVER/TOOL or --model ID"),
                             (["who", "--tool", "a/b", "--model", "c"], 2, "one of them"),
                             (["who", "--tool", "ledger/query", "--limit", "0"], 2, "1 to 100000"),
                             (["who", "--tool", "no/such"], 1, "not in the catalogue"),
                             (["what"], 2, "--agent SPIFFE_ID"),
                             (["what", "--agent", "spiffe://example.org/none"], 1, "is not registered")):
        done = d.writ("policy", *args, code=code)
        check(word in done.stderr, f"{args}: {done.stderr}")
    for query, code in (("who", "invalid_request"), ("who?tool=a&model=b", "invalid_request"),
                        ("who?tool=a&limit=1001", "invalid_request"), ("who?tol=a", "unknown_parameter"),
                        ("what", "invalid_request"), (f"what?agent={AGENT}&after=x", "invalid_request"),
                        ("who?tool=a&tool=b", "invalid_request")):
        equal(is_error(d.admin("GET", f"/v1/policies/{query}"), 400, query)["code"], code, query)
    is_error(d.operators("GET", "/v1/policies/who?tool=ledger/query"), 401, "without a caller")
    is_error(d.http("GET", "/v1/policies/who?tool=ledger/query"), 404, "at the agents' door")
    for command in ("who", "what"):
        check("depends" in d.writ("policy", command, "--help", code=0).stdout, f"help of {command}")
    d.close()


if __name__ == "__main__":
    main()
