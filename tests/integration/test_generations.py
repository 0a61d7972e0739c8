#!/usr/bin/env -S python3 -B
"""Generations: apply, look, compare, go back; replay of the record; explanations."""
import json
import os
import pty
import subprocess
import time

from harness import AGENT, CATALOGUE, RULES, WRIT, Deployment, call, check, equal, is_error, leaves, main, test

# The mistake that a review overlooks.
STRICTER = RULES.replace("q.args.amount > 500", "q.args.amount >= 500")
CLOSED = 'policy "closed" { deny "all" { on = { action = "tools/call" } } }\n'


def folder(d, name, rules=RULES):
    d.write(f"{name}/catalogue/tools.lua", CATALOGUE)
    d.write(f"{name}/finance.lua", rules)
    return d.path(name)


def in_force(d):
    return d.admin("GET", "/v1/status").json["policy"]


def until(what, claim, seconds=15):
    end = time.monotonic() + seconds
    while not claim():
        check(time.monotonic() < end, f"{what}: not within {seconds} s")
        time.sleep(0.05)


def loads(d):
    """The acts on policies that are on record."""
    return [r for _, r in leaves(d.export("loads.jsonl")).values() if r["kind"].startswith("policy.")]


@test
def apply_stores_and_activates():
    d = Deployment().start()
    d.register()
    first = in_force(d)
    said = json.loads(d.writ("policy", "apply", "--json", "--message", "stop everything",
                             folder(d, "closed", CLOSED), code=0).stdout)
    equal((said["before"], said["changed"], said["pinned"], said["rules"]), (first["generation"], True, False, 1),
          "what apply said")
    equal(d.evaluate().json["context"]["rule"], "closed/all", "the rule that decides")
    equal(d.evaluate().json["context"]["generation"], said["generation"], "generation of a decision")
    shown = json.loads(d.writ("policy", "show", "--json", code=0).stdout)
    equal((shown["generation"], shown["hash"], shown["message"], shown["by"], shown["active"]),
          (said["generation"], said["hash"], "stop everything", "unix:0", True), "what show says")
    record = loads(d)[-1]
    equal((record["kind"], record["act"], record["pep"], record["generation"], record["policy_sha256"]),
          ("policy.load", "apply", "unix:0", said["generation"], said["hash"]), "the record")
    # The same files are the same generation, and nothing happens twice.
    before = len(loads(d))
    again = json.loads(d.writ("policy", "apply", "--json", d.path("closed"), code=0).stdout)
    equal((again["generation"], again["changed"]), (said["generation"], False), "applied again")
    equal(len(loads(d)), before, "records of an apply that changed nothing")
    # A folder decides when it changes, not because it is there: also after a restart.
    time.sleep(0.6)
    equal(in_force(d)["generation"], said["generation"], "generation after the watcher looked")
    d.restart()
    time.sleep(0.6)
    equal(in_force(d)["generation"], said["generation"], "generation after a restart")
    d.policy("finance.lua", STRICTER)
    until("the changed folder is activated", lambda: in_force(d)["generation"] not in (first["generation"], said["generation"]))
    d.close()


@test
def a_broken_apply_is_refused_with_findings():
    d = Deployment().start()
    d.register()
    before = in_force(d)
    bad = folder(d, "bad", 'policy "x" {\n  permit "y" { on = { acton = "tools/call" } },\n  permit "z" { },\n}\n')
    done = d.writ("policy", "apply", bad, code=1)
    check("finance.lua:2: error:" in done.stderr and "finance.lua:3: error:" in done.stderr,
          f"findings with file and line: {done.stderr}")
    reply = d.admin("POST", "/v1/policies", {"files": [{"path": "a.lua", "text": "policy ("}]})
    equal((is_error(reply, 400)["code"], reply.json["findings"][0]["file"], reply.json["findings"][0]["line"]),
          ("policy_refused", "a.lua", 1), "code, file and line")
    equal((in_force(d)["generation"], in_force(d)["hash"]), (before["generation"], before["hash"]), "in force")
    refused = [r for r in loads(d) if r["kind"] == "policy.refused"]
    equal([(r["act"], r["errors"] > 0) for r in refused], [("apply", True)] * 2, "refusals on record")
    for files, code in (([{"path": "../a.lua", "text": ""}], "invalid_request"),
                        ([{"path": "/a.lua", "text": ""}], "invalid_request"),
                        ([{"path": "a//b.lua", "text": ""}], "invalid_request"),
                        ([{"path": "a.txt", "text": ""}], "invalid_request"),
                        ([{"path": "a.lua"}], "invalid_request"),
                        ([{"path": "a.lua", "text": ""}] * 2, "invalid_request"),
                        ("a.lua", "invalid_request")):
        equal(is_error(d.admin("POST", "/v1/policies", {"files": files}), 400, repr(files))["code"], code, repr(files))
    is_error(d.admin("POST", "/v1/policies", {"files": [], "mesage": "x"}), 400, "a misspelt member")
    for n in range(5):
        d.write(f"large/a{n}.lua", "-- " + "x" * 250000)
    done = d.writ("policy", "apply", d.path("large"), code=1)
    check("larger" in done.stderr, f"a large set: {done.stderr}")
    equal(in_force(d)["generation"], before["generation"], "in force at the end")
    d.close()


@test
def a_set_whose_own_tests_fail_is_not_applied():
    d = Deployment().start()
    before = in_force(d)["generation"]
    typo = folder(d, "typo", STRICTER)
    d.write("typo/finance_test.lua", """test "the bound" {
  agent = { team = "finance" }, call = "payments/create",
  { args = { amount = 500, to = "x" }, expect = "permit" },
}
""")
    said = d.writ("policy", "apply", typo, code=1)
    check("finance_test.lua:3" in said.stderr and "the bound" in said.stderr, said.stderr)
    equal(in_force(d)["generation"], before, "generation in force")
    record = loads(d)[-1]
    equal((record["kind"], record["reason"], record["errors"]), ("policy.refused", "policy_tests_failed", 1), "the record")
    d.write("typo/finance.lua", RULES)
    d.writ("policy", "apply", typo, code=0)
    check(in_force(d)["generation"] > before, "a set whose tests pass is applied")
    d.close()


@test
def list_show_and_diff():
    d = Deployment().start()
    d.writ("policy", "apply", "-m", "a typo", folder(d, "next", STRICTER.replace(
        '  deny "no deleting"', '  deny "new one" { on = { tool = "files/delete" } },\n  deny "no deleting"')), code=0)
    listed = d.writ("policy", "list", "--all", code=0).stdout
    check("a typo" in listed and "writ:watch" in listed, listed)
    shown = d.writ("policy", "show", "1", "--sources", code=0).stdout
    for word in ("generation: 1\n", "writ:watch", "payment over 500", "finance.lua", "q.args.amount > 500 end"):
        check(word in shown, f"'{word}' is missing in {shown}")
    check("q.args.amount" not in d.writ("policy", "show", "1", code=0).stdout, "sources without --sources")
    compared = d.writ("policy", "diff", "1", "2", code=0).stdout
    check("changed  ask finance/payment over 500" in compared, compared)
    check("added    deny finance/new one" in compared, compared)
    check("rules that differ: 2" in compared, compared)
    check("\n-    when      = function(q) return q.args.amount > 500 end," in compared, compared)
    check("\n+    when      = function(q) return q.args.amount >= 500 end," in compared, compared)
    equal(d.writ("policy", "diff", "1", code=0).stdout, compared, "a generation against that in force")
    back = json.loads(d.writ("policy", "diff", "--json", "2", "1", code=0).stdout)
    equal(sorted((r["change"], r["rule"]["rule"]) for r in back["rules"]),
          [("changed", "payment over 500"), ("removed", "new one")], "the way back")
    d.writ("policy", "show", "77", code=1)
    d.writ("policy", "show", "0", code=2)
    equal(is_error(d.admin("GET", "/v1/policies/generation?number=77"), 404)["code"], "unknown_generation", "code")
    page = d.admin("GET", "/v1/policies/generations?limit=1").json
    equal(([g["generation"] for g in page["generations"]], page["next"]), ([2], 2), "a page")
    page = d.admin("GET", f"/v1/policies/generations?limit=1&before={page['next']}").json
    equal(([g["generation"] for g in page["generations"]], page.get("next")), ([1], None), "the next page")
    is_error(d.operators("GET", "/v1/policies/generations"), 401, "without a caller")
    is_error(d.operators("POST", "/v1/policies", {"files": []}), 401, "apply without a caller")
    d.close()


@test
def a_rollback_pins_until_the_next_apply():
    d = Deployment().start()
    d.register()
    good = in_force(d)["generation"]
    d.writ("policy", "rollback", code=1)  # there was nothing before
    d.policy("finance.lua", CLOSED)
    until("the folder's change", lambda: in_force(d)["generation"] != good)
    began = time.monotonic()
    said = d.writ("policy", "rollback", code=0).stdout
    check(time.monotonic() - began < 5 and "pinned" in said, said)
    equal((in_force(d)["generation"], in_force(d)["pinned"]), (good, True), "after the rollback")
    equal(d.evaluate().json["decision"], True, "decision")
    check("pinned" in d.writ("policy", "list", code=0).stdout, "list does not say that it is pinned")
    equal((loads(d)[-1]["act"], loads(d)[-1]["pinned"], loads(d)[-1]["generation"]), ("activate", 1, good), "record")
    # The folder changes, and nothing happens: now, and after a restart.
    d.policy("finance.lua", STRICTER)
    time.sleep(0.8)
    equal((in_force(d)["generation"], in_force(d)["pinned"]), (good, True), "with a changed folder")
    d.restart()
    time.sleep(0.6)
    equal((in_force(d)["generation"], in_force(d)["pinned"]), (good, True), "after a restart")
    # The next apply takes the pin off, also if it is the same set.
    same = json.loads(d.writ("policy", "apply", "--json", folder(d, "same"), code=0).stdout)
    equal((same["generation"], same["changed"], same["pinned"]), (good, True, False), "the same set applied")
    time.sleep(0.6)
    equal((in_force(d)["generation"], in_force(d)["pinned"]), (good, False), "what changed under the pin is old")
    d.policy("finance.lua", CLOSED)
    until("the watched folder again", lambda: in_force(d)["generation"] != good)
    equal(d.evaluate().json["decision"], False, "decision by the folder")
    d.close()


@test
def what_was_believed_must_still_be_so():
    d = Deployment().start()
    tag = d.admin("GET", "/v1/policies").header("ETag")
    equal(tag, '"%s"' % in_force(d)["hash"], "ETag")
    files = {"files": [{"path": "a.lua", "text": CLOSED}]}
    first = d.admin("POST", "/v1/policies", files, {"If-Match": tag})
    equal((first.status, first.header("ETag")), (200, '"%s"' % first.json["hash"]), "apply")
    for path, body in (("/v1/policies", {"files": []}), ("/v1/policies/activate", {"generation": 1})):
        equal(is_error(d.admin("POST", path, body, {"If-Match": tag}), 412)["code"], "generation_mismatch", path)
    is_error(d.admin("POST", "/v1/policies/activate", {"generation": 1}, {"If-Match": "w"}), 400, "no ETag")
    equal([(r["act"], r["reason"]) for r in loads(d) if r["kind"] == "policy.refused"],
          [("apply", "generation_mismatch"), ("activate", "generation_mismatch")], "refusals on record")
    equal(in_force(d)["generation"], first.json["generation"], "in force")
    again = d.admin("POST", "/v1/policies/activate", {"generation": 1}, {"If-Match": first.header("ETag")})
    equal((again.status, again.json["pinned"]), (200, True), repr(again))
    is_error(d.admin("POST", "/v1/policies/activate", {"generation": 9}), 404, "an unknown generation")
    is_error(d.admin("POST", "/v1/policies/activate", {"generation": "1"}), 400, "no number")
    d.close()


@test
def files_only_refuses_both():
    d = Deployment(config="policies = { files_only = true }\n").start()
    done = d.writ("policy", "apply", folder(d, "closed", CLOSED), code=1)
    check("files_only" in done.stderr, done.stderr)
    equal(is_error(d.admin("POST", "/v1/policies/activate", {"generation": 1}), 409)["code"], "files_only", "code")
    d.policy("finance.lua", CLOSED)
    until("the folder still decides", lambda: in_force(d)["generation"] == 2)
    d.close()


recorded = None


def with_a_past():
    """A server with decisions of several generations on record; their evaluation ids by amount."""
    global recorded
    if recorded is None:
        d = Deployment().start()
        d.register()
        d.register("spiffe://example.org/agent/ops-1", attributes={"team": "ops"})
        ids = {}
        for amount in range(0, 1000, 100):
            for agent in (AGENT, "spiffe://example.org/agent/ops-1", "spiffe://example.org/agent/nobody"):
                c = d.evaluate("payments/create", {"amount": amount, "to": 'a "quoted" \u00e9'}, agent=agent).json["context"]
                ids[agent, amount] = c["evaluation_id"]
        for tool in ("files/delete", "ledger/query", "no/such"):
            d.evaluate(tool)
        d.evaluate("payments/create", {"amount": "500"})
        d.writ("policy", "apply", folder(d, "closed", CLOSED), code=0)
        d.evaluate("payments/create", {"amount": 500})
        d.writ("policy", "rollback", code=0)
        d.evaluate("payments/create", {"amount": 5})
        d.writ("audit", "checkpoint", code=0)  # then the key's id is known
        recorded = d, ids
    return recorded


@test
def replay_gives_every_decision_again():
    d, _ = with_a_past()
    said = json.loads(d.writ("policy", "replay", "--json", code=0).stdout)
    equal((said["same"], said["settled"], said["changed"], said["unknown_generation"], said["decisions"]),
          (26, 10, 0, 0, 36), "counts")
    equal(said["settled_by"], {"unknown_agent": 10, "agent_suspended": 0, "agent_expired": 0, "subject_mismatch": 0},
          "what settled them")
    text = d.writ("policy", "replay", code=0).stdout
    check("denied before the policies were asked, so not computed again: 10\n    unknown_agent: 10\n" in text, text)
    check("computed again: 26, same: 26, changed: 0" in text and d.data in text, text)
    few = json.loads(d.writ("policy", "replay", "--json", "--tool", "files/delete", code=0).stdout)
    equal(few["decisions"], 1, "decisions with --tool")
    few = json.loads(d.writ("policy", "replay", "--json", "--agent", "spiffe://example.org/agent/ops-1", code=0).stdout)
    equal(few["decisions"], 10, "decisions with --agent")
    equal(json.loads(d.writ("policy", "replay", "--json", "--until", "1h", code=0).stdout)["decisions"], 0, "--until")
    equal(json.loads(d.writ("policy", "replay", "--json", "--since", "1h", code=0).stdout)["decisions"], 36, "--since")
    d.writ("policy", "replay", "--since", "soon", code=2)
    d.writ("policy", "replay", "--server", "unix:/x", code=2)


@test
def replay_shows_its_progress_on_a_terminal_only():
    d, _ = with_a_past()

    def run(*args):
        """What it writes to a terminal that stands for stderr, and to stdout."""
        outside, inside = pty.openpty()
        done = subprocess.run([WRIT, "policy", "replay", *args], stdout=subprocess.PIPE, stderr=inside, timeout=60,
                              env=dict(os.environ, WRIT_CONFIG=d.config_file), check=False)
        os.close(inside)
        seen = b""
        while True:
            try:
                part = os.read(outside, 65536)
            except OSError:  # the other end is closed
                part = b""
            if not part:
                break
            seen += part
        os.close(outside)
        equal(done.returncode, 0, f"exit code: {seen}")
        return seen.decode(), done.stdout.decode()

    seen, out = run()
    check("[--------------------]   0%" in seen and seen.endswith("\r\x1b[K"), f"a bar, taken away at the end: {seen!r}")
    check("%" not in out and "computed again" in out, out)
    seen, out = run("--json")
    equal(seen, "", "on the terminal with --json")
    json.loads(out)
    equal(d.writ("policy", "replay", code=0).stderr, "", "without a terminal")


@test
def replay_shows_what_a_typo_changes():
    d, ids = with_a_past()
    typo = folder(d, "typo", STRICTER)
    said = json.loads(d.writ("policy", "replay", "--json", "--since", "1h", typo, code=1).stdout)
    found = {c["change"]: c["evaluations"] for c in said["changes"]}
    bound = [k for k in found if k.startswith("permit finance/payments (permitted) -> ask finance/payment over 500")]
    equal([found[k] for k in bound], [[ids[AGENT, 500]]], f"the changed permit in {found}")
    other = [k for k in found if k.startswith("deny no_rule -> ask finance/payment over 500")]
    equal([found[k] for k in other], [[ids["spiffe://example.org/agent/ops-1", 500]]], f"the changed deny in {found}")
    # What was decided while all was closed changes as well, and nothing else.
    equal((said["changed"], len(found)), (3, 3), f"changes: {found}")
    text = d.writ("policy", "replay", typo, code=1).stdout
    check(ids[AGENT, 500] in text and "-> ask finance/payment over 500" in text, text)
    # A diff of two generations says it too, whichever of them decided at the time.
    d.writ("policy", "apply", typo, code=0)
    last = in_force(d)["generation"]
    d.writ("policy", "rollback", "1", code=0)
    compared = d.writ("policy", "diff", "--replay", "1", str(last), code=0).stdout
    for part in ("\n-    when      = function(q) return q.args.amount > 500 end,", ids[AGENT, 500],
                 f"by generation {last} against generation 1\n", "changed: 3",
                 "2  permit finance/payments (permitted) -> ask finance/payment over 500 (approval_required)"):
        check(part in compared, f"{part!r} is missing in {compared}")
    said = json.loads(d.writ("policy", "diff", "--replay", "--since", "1h", "--json", "1", str(last), code=0).stdout)
    equal((said["from"], said["to"], said["replay"]["changed"], len(said["rules"])), (1, last, 3, 1), "as JSON")
    check("replay" not in json.loads(d.writ("policy", "diff", "--json", "1", str(last), code=0).stdout), "without --replay")
    equal(json.loads(d.writ("policy", "diff", "--replay", "--json", "1", "1", code=0).stdout)["replay"]["changed"], 0,
          "against itself")
    # A stored generation is as good as a folder.
    by_number = json.loads(d.writ("policy", "replay", "--json", "1", code=1).stdout)
    equal((by_number["changed"], by_number["changes"][0]["count"]), (1, 1), "by generation 1")
    d.writ("policy", "replay", "77", code=1)


@test
def explain_names_rule_and_line():
    d, ids = with_a_past()
    text = d.writ("policy", "explain", ids[AGENT, 600], code=0).stdout
    for word in ("decision: ask, approval_required, by finance/payment over 500", "rules that apply: 2 of 4",
                 "-> ask    finance/payment over 500  finance.lua:6", "permit finance/payments  finance.lua:11",
                 "tool.id = payments/create", "when: true", '"team":"finance"', "generation 1"):
        check(word in text, f"'{word}' is missing in {text}")
    said = json.loads(d.writ("policy", "explain", "--json", "--all", ids[AGENT, 100], code=0).stdout)
    equal([(r["rule"], r["when"], r["decides"]) for r in said["rules"] if r["applies"]],
          [("finance/payment over 500", "false", False), ("finance/payments", "true", True)], "rules that apply")
    equal((said["rules_in_all"], len(said["rules"]), said["replay"]), (4, 4, "same"), "all rules")
    unmet = [c for r in said["rules"] if r["rule"] == "finance/no deleting" for c in r["on"] if not c["met"]]
    equal([c["condition"] for c in unmet], ["tool.id = files/delete"], "the condition that is not met")
    seq = ids[AGENT, 100].rsplit("_", 1)[1]
    equal(json.loads(d.writ("policy", "explain", "--json", seq, code=0).stdout)["rule"], "finance/payments", "by number")
    check("unknown_agent" in d.writ("policy", "explain", ids["spiffe://example.org/agent/nobody", 0], code=1).stderr,
          "a denial before the policies")
    d.writ("policy", "explain", "0", code=1)  # a record, but no decision
    d.writ("policy", "explain", "99999", code=1)
    d.writ("policy", "explain", "nonsense", code=2)
    d.writ("policy", "explain", code=2)
    other = d.writ("policy", "explain", f"ev_00000000_{seq}", code=1).stderr
    check("is of another log: the key of the one in" in other, f"an id of another log: {other}")


@test
def without_a_log_it_is_said_where_one_was_looked_for():
    d = Deployment()
    for command in (["replay"], ["explain", "1"], ["explain", "ev_0a1b2c3d_1"]):
        said = d.writ("policy", *command, code=1).stderr
        check("writ-data/log.db cannot be read: No such file" in said and "--config" in said, f"{command}: {said}")
    check(not os.path.exists(d.path("writ-data", "log.db")), "looking made a log")


@test
def explain_of_what_was_never_asked():
    d, _ = with_a_past()
    before = len(leaves(d.export("before.jsonl")))
    request = json.dumps(call("payments/create", {"amount": 7, "to": "x"}))
    d.write("request.json", request)
    live = json.loads(d.writ("policy", "explain", "--json", "--dry", "request.json", code=0).stdout)
    equal((live["decision"], live["rule"], live["facts"]["agent"]["attributes"]),
          ("permit", "finance/payments", {"team": "finance"}), "with the registry's facts")
    given = json.loads(d.writ("policy", "explain", "--json", "--dry", "-", "--set", "team=ops", text=request, code=0).stdout)
    equal((given["decision"], given["reason"]), ("deny", "no_rule"), "with given facts")
    other = d.writ("policy", "explain", "--dry", "request.json", folder(d, "closed", CLOSED), code=0).stdout
    check("-> deny   closed/all  finance.lua:1" in other, other)
    # Nobody was asked, so nothing is on record but the two exports themselves.
    after = [r["kind"] for _, r in leaves(d.export("after.jsonl")).values()][before:]
    equal([k for k in after if k.startswith("authz")], [], "decisions on record")
    d.write("bad.json", "{}")
    d.writ("policy", "explain", "--dry", "bad.json", code=1)
    d.writ("policy", "explain", "--set", "a=b", "1", code=2)


DELEGATED = """policy "delegated" {
  permit "for staff" {
    on   = { action = "tools/call" },
    when = function(q) return q.user.issuer == "https://login.example" and has(q.user.scope, "pay") end,
  },
  deny "at third hand" {
    on   = { action = "tools/call" },
    when = function(q) return #q.chain > 2 end,
  },
}
"""


@test
def explain_takes_on_whose_behalf():
    d, _ = with_a_past()
    d.write("request.json", json.dumps(call("payments/create", {"amount": 7, "to": "x"})))
    rules, planner, helper = folder(d, "delegated", DELEGATED), "spiffe://example.org/agent/planner", "spiffe://example.org/agent/x"

    def dry(*args, code=0):
        done = d.writ("policy", "explain", "--json", "--dry", "request.json", "--set", "team=ops", *args, rules, code=code)
        return json.loads(done.stdout) if code == 0 else done.stderr
    alice = ["--user", "alice", "--issuer", "https://login.example"]
    for args, rule in (([], ""), (alice, ""), ([*alice, "--scope", "read", "--scope", "pay"], "delegated/for staff"),
                       (["--scope", "pay"], ""), (["--user", "alice", "--issuer", "https://other.example", "--scope", "pay"], ""),
                       ([*alice, "--scope", "pay", "--via", planner], "delegated/for staff"),
                       ([*alice, "--scope", "pay", "--via", planner, "--via", helper], "delegated/at third hand")):
        equal(dry(*args)["rule"], rule, f"by {args}")
    equal(dry(*alice, "--scope", "read", "--scope", "pay", "--via", planner)["facts"]["delegation"],
          {"chain": [planner, AGENT], "scope": "read pay", "user": {"id": "alice", "issuer": "https://login.example"}}, "facts")
    check("delegation" not in dry()["facts"], "nobody was named")
    for args, word in ((["--user", "alice"], "belong together"), (["--issuer", "https://login.example"], "belong together"),
                       (["--via", "planner"], "--via planner: "), (["--scope", "a b"], "without blanks"),
                       (["--scope", ""], "without blanks"), (["--via", planner] * 17, "at most 16")):
        check(word in dry(*args, code=2), f"{args}: {dry(*args, code=2)}")
    for option in ("--user", "--issuer", "--scope", "--via"):
        check("belongs to --dry" in d.writ("policy", "explain", option, "x", "1", code=2).stderr, option)


@test
def replay_needs_no_server():
    d, _ = with_a_past()
    d.stop()
    said = json.loads(d.writ("policy", "replay", "--json", code=0).stdout)
    equal((said["same"], said["changed"]), (26, 0), "counts")
    d.close()


if __name__ == "__main__":
    main()
