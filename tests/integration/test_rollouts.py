#!/usr/bin/env -S python3 -B
"""Roll-outs: shadow, canary, gates that abort by themselves, promote, compare, restarts."""
import http.client
import json
import signal
import sqlite3
import threading
import time

from harness import AGENT, CATALOGUE, RULES, Deployment, call, check, equal, exchange, is_error, leaves, main, test

CLOSED = 'policy "closed" { deny "all" { on = { action = "tools/call" }, message = "All is closed." } }\n'
STRICTER = RULES.replace("q.args.amount > 500", "q.args.amount >= 500")
OBLIGED = RULES.replace('  permit "read" {', '''  permit "read" {
    obligations = { { id = "tell", type = "notification", properties = { to = "ops", body = "read" } } },''')
FAILING = RULES.replace('on = { action = "tools/call", effect = "read" },',
                        'on = { action = "tools/call", effect = "read" }, when = function(q) return q.context.a.b == 1 end,')
AGENTS = [f"spiffe://example.org/agent/a{n}" for n in range(40)]


def folder(d, name, rules):
    d.write(f"{name}/catalogue/tools.lua", CATALOGUE)
    d.write(f"{name}/finance.lua", rules)
    return d.path(name)


def deployment(agents=AGENTS, **how):
    d = Deployment(**how).start()
    for agent in agents:
        d.register(agent)
    return d


def status(d):
    return d.admin("GET", "/v1/status").json


def running(d):
    return status(d).get("rollout")


def until(what, claim, seconds=30):
    end = time.monotonic() + seconds
    while not claim():
        check(time.monotonic() < end, f"{what}: not within {seconds} s")
        time.sleep(0.05)


def start(d, *args):
    return json.loads(d.writ("policy", *args, "--json", code=0).stdout)


def compare(d, *rollout):
    return json.loads(d.writ("policy", "diff", "--rollout", "--json", *rollout, code=0).stdout)


def records(d):
    return [r for _, r in leaves(d.export("records.jsonl")).values()]


def acts(d):
    return [(r["kind"], r["act"], r.get("reason")) for r in records(d) if r["kind"].startswith("policy.")]


def generations(d, agents=AGENTS):
    """Which generation decides for each agent."""
    return {a: d.evaluate(agent=a).json["context"]["generation"] for a in agents}


@test
def a_canary_that_denies_everything_rolls_itself_back():
    d = deployment()
    said = start(d, "canary", folder(d, "closed", CLOSED), "--percent", "50", "--min-sample", "30", "-m", "close it")
    equal((said["rollout"], said["kind"], said["state"], said["generation"], said["base"], said["percent"]),
          (1, "canary", "running", 2, 1, 50), "what canary said")
    equal(said["gates"], {"max_deny_increase": 0.1, "max_error_rate": 0.01, "min_sample": 30}, "gates of its own")
    equal((running(d)["rollout"], running(d)["generation"]), (1, 2), "status")
    # Nobody watches: only agents ask, until the candidate is gone.
    seen, end = {}, time.monotonic() + 60
    while not seen or any(len(s) == 1 and 2 in s for s in seen.values()):
        check(time.monotonic() < end, f"still running: {status(d)} {d.stderr()[-500:]}")
        for agent in AGENTS:
            reply = d.evaluate(agent=agent).json
            equal(reply["decision"], reply["context"]["generation"] == 1, "only the candidate denies")
            seen.setdefault(agent, set()).add(reply["context"]["generation"])
    picked = sum(2 in s for s in seen.values())
    check(8 <= picked <= 32, f"{picked} of 40 agents were in a canary of 50 %")
    equal(set(generations(d).values()), {1}, "generations after the abort")
    equal(running(d), None, "the roll-out in status")
    equal(acts(d)[-2:], [("policy.rollout", "start", None), ("policy.rollout", "abort", "max_deny_increase")], "on record")
    last = [r for r in records(d) if r["kind"] == "policy.rollout"][-1]
    equal((last["pep"], last["generation"], last["base"], last["denied"], last["denied_in_force"]),
          ("writ:gate", 2, 1, last["evaluations"], 0), "the abort's record")
    check(last["evaluations"] >= 30 and "100.00 %" in last["detail"], f"evidence: {last}")
    # Each decision names its generation; an agent never goes to and fro.
    by_agent = {}
    for r in records(d):
        if r["kind"] == "authz.decision":
            by_agent.setdefault(r["agent"], []).append(r["generation"])
            equal("rollout" in r, r["generation"] == 2, "member rollout of a canary's decisions only")
            equal(r["decision"], "deny" if r["generation"] == 2 else "permit", "decision and generation")
    for agent, order in by_agent.items():
        equal(order, sorted(order, reverse=True), f"generations of {agent} in order")
    listed = d.writ("policy", "rollouts", code=0).stdout
    for word in ("canary", "aborted", "max_deny_increase", "close it"):
        check(word in listed, f"'{word}' is missing in {listed}")
    told = d.writ("policy", "diff", "--rollout", "1", code=0).stdout
    check("permit by finance/read (permitted) -> deny by closed/all (denied)" in told, told)
    check(f"{last['changed']} times" in told and "ev_" in told, told)
    # Its decisions can be computed again: their generation is stored.
    said = json.loads(d.writ("policy", "replay", "--json", code=0).stdout)
    equal((said["same"], said["changed"]), (said["decisions"], 0), "replayed")
    # And the next morning, after a restart, it can still be seen.
    d.restart()
    equal(d.writ("policy", "diff", "--rollout", "1", code=0).stdout, told, "compared after a restart")
    d.close()


@test
def a_shadow_is_recorded_and_enforces_nothing():
    d = deployment([AGENT])
    plain = d.evaluate().json
    said = start(d, "shadow", folder(d, "next", OBLIGED.replace("> 500", ">= 500")))
    equal((said["kind"], said.get("percent"), said["gates"]), ("shadow", None, {"max_error_rate": 0.01, "min_sample": 100}),
          "what shadow said")
    d.register("spiffe://example.org/agent/other")
    reply = d.evaluate().json
    equal((reply["decision"], reply["context"].get("obligations"), reply["context"]["generation"]),
          (plain["decision"], None, 1), "the answer beside a shadow with obligations")
    check("shadow" not in json.dumps(reply), f"the shadow shows: {reply}")
    typo = [d.evaluate("payments/create", {"amount": 500}).json for _ in range(12)]
    check(all(t["decision"] for t in typo), "500 is allowed still")
    d.evaluate("payments/create", {"amount": 20})
    d.evaluate(agent="spiffe://example.org/agent/nobody")  # the policies are not asked
    found = {r["seq"]: r for r in records(d)}
    one = found[typo[0]["context"]["record"]["seq"]]
    equal((one["decision"], one["rule"], one["generation"], one["rollout"]), ("permit", "finance/payments", 1, 1), "enforced")
    equal((one["shadow_decision"], one["shadow_rule"], one["shadow_reason"], one["shadow_generation"]),
          ("ask", "finance/payment over 500", "approval_required", 2), "in the shadow")
    unknown = [r for r in found.values() if r.get("reason") == "unknown_agent"][0]
    check("rollout" not in unknown and "shadow_decision" not in unknown, f"before the rules: {unknown}")
    for line, r in leaves(d.path("records.jsonl")).values():
        if r["kind"] == "authz.decision":
            check(len(line) < 900, f"a leaf of {len(line)} bytes")
    said = compare(d)
    equal((said["rollout"], said["state"], said["evaluations"], said["changed"]), (1, "running", 14, 13), "compared")
    equal([(c["count"], c["was"]["rule"], c["is"]["rule"]) for c in said["changes"]],
          [(12, "finance/payments", "finance/payment over 500"), (1, "finance/read", "finance/read")], "changes")
    equal(said["changes"][0]["evaluations"], [t["context"]["evaluation_id"] for t in reversed(typo)][:8], "samples")
    equal((said["in_force"]["permit"], said["candidate"]["permit"], said["candidate"]["ask"]), (14, 2, 12), "sides")
    metrics = d.admin("GET", "/metrics").body.decode()
    for line in ("writ_rollout 1", 'writ_rollout_generation{kind="shadow"} 2', "writ_rollout_changed 13",
                 'writ_rollout_decisions{set="candidate",decision="ask"} 12'):
        check(line + "\n" in metrics, f"{line} is not in the metrics")
    check("rollout.kind: shadow" in d.writ("status", code=0).stdout, "writ status")
    # A record with a shadow verifies, replays and is explained as any other, with what stood beside it.
    d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)
    equal(json.loads(d.writ("policy", "replay", "--json", code=0).stdout)["same"], 15, "replayed")
    explained = d.writ("policy", "explain", typo[0]["context"]["evaluation_id"], code=0).stdout
    check("finance/payments" in explained and "beside it: ask, approval_required, by finance/payment over 500 "
          "(generation 2 in roll-out 1, without effect)\n" in explained, explained)
    equal(json.loads(d.writ("policy", "explain", "--json", typo[0]["context"]["evaluation_id"], code=0).stdout)["shadow"],
          {"decision": "ask", "reason": "approval_required", "rule": "finance/payment over 500", "generation": 2,
           "rollout": 1}, "explained as JSON")
    before = d.writ("policy", "explain", plain["context"]["evaluation_id"], code=0).stdout
    check("beside" not in before, f"nothing ran beside the first one: {before}")
    # Promoted, it decides; rolled back, it does not.
    equal(start(d, "promote")["state"], "promoted", "promoted")
    reply = d.evaluate("payments/create", {"amount": 500}).json
    equal((reply["decision"], reply["context"]["generation"]), (False, 2), "after the promotion")
    equal(acts(d)[-2:], [("policy.load", "promote", None), ("policy.rollout", "promote", "asked")], "on record")
    time.sleep(0.6)
    equal(status(d)["policy"]["generation"], 2, "the folder does not take it back")
    d.restart()
    equal(status(d)["policy"]["generation"], 2, "after a restart")
    equal(start(d, "rollback")["generation"], 1, "rolled back")
    check(d.evaluate("payments/create", {"amount": 500}).json["decision"], "as before")
    d.close()


@test
def errors_of_a_candidate_abort_it():
    d = deployment()
    start(d, "canary", folder(d, "failing", FAILING), "--percent", "60", "--max-deny-increase", "1", "--min-sample", "5")
    end = time.monotonic() + 60
    while running(d):
        check(time.monotonic() < end, "a canary that fails still runs")
        generations(d)
    equal(acts(d)[-1], ("policy.rollout", "abort", "max_error_rate"), "on record")
    # A shadow is ended by the gates it was given.
    start(d, "shadow", "2", "--max-error-rate", "0.5", "--min-sample", "5")
    generations(d)
    until("the shadow is ended by its gate", lambda: not running(d))
    equal(acts(d)[-1], ("policy.rollout", "abort", "max_error_rate"), "the shadow's end on record")
    d.close()


@test
def it_survives_a_restart():
    d = deployment()
    start(d, "canary", folder(d, "next", STRICTER), "--percent", "40", "-m", "a typo")
    before = generations(d)
    check(set(before.values()) == {1, 2}, f"both generations decide: {before}")
    counted = compare(d)["evaluations"]
    equal(counted, sum(g == 2 for g in before.values()), "evaluations")
    d.restart()
    equal((running(d)["rollout"], compare(d)["evaluations"]), (1, counted), "after a restart")
    equal(generations(d), before, "the same agents")
    d.kill()
    d.start()
    equal(running(d)["rollout"], 1, "after a kill")
    equal(generations(d), before, "the same agents after a kill")
    # Another roll-out picks others.
    d.writ("policy", "abort", "1", code=0)
    equal(set(generations(d).values()), {1}, "aborted")
    start(d, "canary", "2", "--percent", "40")
    again = generations(d)
    check(again != before, "the same agents are picked each time")
    d.writ("policy", "promote", "2", code=0)
    equal(set(generations(d).values()), {2}, "promoted")
    d.restart()
    equal(set(generations(d).values()), {2}, "promoted, after a restart")
    equal(running(d), None, "no roll-out any more")
    d.close()


@test
def one_that_cannot_go_on_is_ended_at_the_start():
    d = deployment(AGENTS[:3])
    start(d, "shadow", folder(d, "next", STRICTER))
    d.writ("policy", "promote", code=0)
    start(d, "shadow", "1")
    d.stop()
    db = sqlite3.connect(d.path("writ-data", "writ.db"))
    # Stopped between the activation and the end of the roll-out, in the middle of a promotion.
    db.execute("INSERT INTO activation (generation, pinned, at_ms, by) VALUES (1, 0, 1, 'test')")
    db.commit()
    db.close()
    d.start()
    equal((running(d), acts(d)[-1]), (None, ("policy.rollout", "promote", "promoted")), "half a promotion")
    start(d, "shadow", "2")
    start(d, "abort")
    start(d, "shadow", "2")
    d.stop()
    db = sqlite3.connect(d.path("writ-data", "writ.db"))
    db.execute("UPDATE rollout SET base = 2, candidate = 1 WHERE state = 0")
    db.execute("INSERT INTO generation (hash, files, stored_ms, by, message) VALUES (x'00', 0, 0, '', '')")
    db.execute("UPDATE rollout SET candidate = 3 WHERE state = 0")
    db.commit()
    db.close()
    d.start()
    equal((running(d), acts(d)[-1]), (None, ("policy.rollout", "abort", "candidate_lost")), "a candidate that is lost")
    check(d.evaluate(agent=AGENTS[0]).json["decision"], "the set in force decides")
    start(d, "shadow", "2")
    d.stop()
    d.write("writ.lua", d.config + "policies = { files_only = true }\n")
    d.start()
    equal((running(d), acts(d)[-1]), (None, ("policy.rollout", "abort", "files_only")), "files_only since")
    d.close()


@test
def one_at_a_time_and_the_set_in_force_stays():
    d = deployment(AGENTS[:2])
    start(d, "canary", folder(d, "closed", CLOSED), "--percent", "100", "--max-deny-increase", "1")
    equal(d.evaluate(agent=AGENTS[0]).json["context"]["generation"], 2, "a canary of all agents")
    for args in (("shadow", "1"), ("canary", d.path("closed"), "--percent", "5")):
        check("roll-out 1 is running" in d.writ("policy", *args, code=1).stderr, f"{args} beside another one")
    done = d.writ("policy", "apply", folder(d, "next", STRICTER), code=1)
    check("roll-out 1 is running" in done.stderr, done.stderr)
    # The folder waits until it is over.
    d.policy("finance.lua", STRICTER)
    time.sleep(1)
    equal(status(d)["policy"]["generation"], 1, "the folder's change while a roll-out runs")
    d.writ("policy", "abort", code=0)
    until("the folder's change afterwards", lambda: status(d)["policy"]["generation"] == 3)
    # A rollback ends the roll-out. Without a number that is all: it is what changed last.
    start(d, "canary", "2", "--percent", "100", "--max-deny-increase", "1")
    said = json.loads(d.writ("policy", "rollback", "--json", code=0).stdout)
    equal((said["aborted_rollout"], said["generation"], said["changed"], said["pinned"]), (2, 3, False, False), "rollback")
    check(d.evaluate(agent=AGENTS[0]).json["decision"], "after the rollback")
    start(d, "shadow", "2")
    told = d.writ("policy", "rollback", "1", code=0).stdout
    check("roll-out 3 was aborted" in told and "generation 1 is in force" in told, told)
    equal([a for a in acts(d) if a[1] in ("abort", "activate")][-2:],
          [("policy.rollout", "abort", "rollback"), ("policy.load", "activate", None)], "on record")
    for args, why in ((("abort",), "no roll-out is running"), (("promote",), "no roll-out is running"),
                      (("promote", "1"), "was aborted already"), (("abort", "99"), "no roll-out 99"),
                      (("shadow", "1"), "in force already"), (("shadow", "99"), "no generation 99"),
                      (("diff", "--rollout"), "no roll-out is running; `writ policy rollouts` shows those that ended")):
        check(why in d.writ("policy", *args, code=1).stderr, f"{args}: expected {why}")
    d.write("bad/a.lua", 'policy "x" {\n  permit "y" { on = { acton = "tools/call" } },\n}\n')
    check("a.lua:2: error:" in d.writ("policy", "shadow", d.path("bad"), code=1).stderr, "findings of a candidate")
    d.write("next/a_test.lua", 'test "x" { agent = { team = "finance" }, call = "payments/create",\n'
                               '  { args = { amount = 500 }, expect = "permit" } }\n')
    check("a_test.lua:2" in d.writ("policy", "shadow", d.path("next"), code=1).stderr, "a candidate's own tests")
    equal([r["reason"] for r in records(d) if r["kind"] == "policy.refused"], ["policy_refused", "policy_tests_failed"],
          "refusals on record")
    for args in (("canary", "1"), ("canary", "1", "--percent", "0"), ("canary", "1", "--percent", "101"),
                 ("shadow", "1", "--percent", "5"), ("shadow", "1", "--max-deny-rate", "1.5"),
                 ("shadow", "1", "--max-deny-rate", "x"), ("shadow", "1", "--min-sample", "0"), ("shadow",),
                 ("promote", "x"), ("diff",), ("diff", "--rollout", "1", "2")):
        d.writ("policy", *args, code=2)
    for verb in ("shadow", "canary", "promote", "abort", "rollouts", "diff"):
        check(f"writ policy {verb}" in d.writ("policy", verb, "--help", code=0).stdout, f"help of {verb}")
    d.close()


@test
def files_only_refuses_roll_outs():
    d = deployment([], config="policies = { files_only = true }\n")
    check("files_only" in d.writ("policy", "shadow", folder(d, "closed", CLOSED), code=1).stderr, "shadow")
    equal(is_error(d.admin("POST", "/v1/rollouts", {"kind": "shadow", "generation": 1}), 409)["code"], "files_only", "code")
    d.close()


@test
def a_batch_is_decided_by_one_generation():
    d = deployment()
    start(d, "canary", folder(d, "closed", CLOSED), "--percent", "50", "--max-deny-increase", "1")
    picked = generations(d)
    inside = [a for a, g in picked.items() if g == 2]
    outside = [a for a, g in picked.items() if g == 1]
    cases = ((inside, {2}), (outside, {1}), ([inside[0], outside[0], inside[1]], {1}),
             ([inside[0], "spiffe://example.org/agent/nobody"], {1}), ([inside[0], {"type": "service", "id": "x"}], {1}))
    for agents, wanted in cases:
        items = [call(agent=a) if isinstance(a, str) else call(subject=a) for a in agents]
        reply = d.http("POST", "/access/v1/evaluations", {"evaluations": items})
        found = {e["context"]["generation"] for e in reply.json["evaluations"]}
        equal((reply.status, len(reply.json["evaluations"]), found), (200, len(agents), wanted), f"batch of {agents[:2]}")
    # An item that cannot be read changes nothing for the others.
    reply = d.http("POST", "/access/v1/evaluations", {"evaluations": [call(agent=inside[0]), {"subject": 7}]}).json
    equal(reply["evaluations"][0]["context"]["generation"], 2, "beside an item that cannot be read")
    # Searches are answered by the set in force, whoever they are about.
    reply = d.http("POST", "/access/v1/search/resource",
                   {"subject": {"type": "agent", "id": inside[0]}, "action": {"name": "tools/call"},
                    "resource": {"type": "tool"}})
    check("ledger/query" in [r["id"] for r in reply.json["results"]], f"a search: {reply}")
    d.close()


@test
def management_over_http():
    d = deployment(AGENTS[:1])
    d.writ("policy", "apply", folder(d, "next", STRICTER), code=0)
    tag = d.admin("GET", "/v1/policies").header("etag")
    body = {"kind": "canary", "generation": 1, "percent": 7, "message": "back",
            "gates": {"max_deny_rate": 0.25, "max_deny_increase": 1, "max_error_rate": 0, "max_p99_us": 900, "min_sample": 10}}
    for wrong in ({}, {**body, "kind": "blue"}, {**body, "percent": 0}, {**body, "percent": 1.5}, {**body, "percent": None},
                  {**body, "percent": 101}, {"kind": "canary", "generation": 1}, {"kind": "shadow"},
                  {"kind": "shadow", "generation": 1, "percent": 5}, {"kind": "shadow", "generation": 0},
                  {"kind": "shadow", "generation": 1, "files": []}, {"kind": "shadow", "files": "x"},
                  {**body, "generation": "1"}, {**body, "gate": {}}, {**body, "gates": []}, {**body, "message": 7},
                  {**body, "gates": {"max_deny_rate": 1.1}}, {**body, "gates": {"max_deny_rate": -0.1}},
                  {**body, "gates": {"max_deny_rate": "0.1"}}, {**body, "gates": {"min_sample": 0}},
                  {**body, "gates": {"min_sample": 1.5}}, {**body, "gates": {"max_p99": 5}},
                  {"kind": "shadow", "files": [{"path": "../x.lua", "text": ""}]}):
        is_error(d.admin("POST", "/v1/rollouts", wrong), 400, json.dumps(wrong))
    equal(is_error(d.admin("POST", "/v1/rollouts", body, {"If-Match": '"' + "0" * 64 + '"'}), 412)["code"],
          "generation_mismatch", "another set is in force")
    is_error(d.admin("POST", "/v1/rollouts", body, {"If-Match": "3"}), 400, "no ETag")
    equal(is_error(d.admin("GET", "/v1/rollouts/running"), 404)["code"], "no_rollout", "none runs")
    reply = d.admin("POST", "/v1/rollouts", body, {"If-Match": tag})
    equal((reply.status, reply.header("etag")), (201, '"1-running"'), "started")
    one = d.admin("GET", "/v1/rollouts/1")
    equal((one.json["gates"], one.json["percent"], one.json["message"], one.json["by"]),
          (body["gates"], 7, "back", "unix:0"), "as it was asked for")
    equal((one.header("etag"), d.admin("GET", "/v1/rollouts/running").json), ('"1-running"', one.json), "by its other name")
    equal(is_error(d.admin("POST", "/v1/rollouts", body), 409)["code"], "rollout_running", "another one")
    for method, path, wanted in (("GET", "/v1/rollouts/0", 404), ("GET", "/v1/rollouts/x", 404), ("GET", "/v1/rollouts/2", 404),
                                 ("GET", "/v1/rollouts/1/", 404), ("GET", "/v1/rollouts/1/compare/x", 404),
                                 ("GET", "/v1/rollouts/1/promote", 404), ("POST", "/v1/rollouts/1", 404),
                                 ("POST", "/v1/rollouts/1/pause", 404), ("DELETE", "/v1/rollouts/1", 405),
                                 ("GET", "/v1/rollouts?limit=0", 400), ("GET", "/v1/rollouts?size=1", 400),
                                 ("GET", "/v1/rollouts/1?x=1", 400), ("POST", "/v1/rollouts/99/abort", 404)):
        is_error(d.admin(method, path), wanted, f"{method} {path}")
    is_error(d.admin("POST", "/v1/rollouts/1/abort", {"why": "x"}), 400, "a member that is not one")
    equal(is_error(d.admin("POST", "/v1/rollouts/1/promote", None, {"If-Match": '"1-aborted"'}), 412)["code"],
          "rollout_mismatch", "promote what was aborted meanwhile")
    is_error(d.admin("POST", "/v1/rollouts/1/abort", None, {"If-Match": "1-running"}), 400, "no ETag")
    reply = d.admin("POST", "/v1/rollouts/1/promote", {}, {"If-Match": '"1-running"'})
    equal((reply.status, reply.json["state"], reply.json["ended_by"], reply.header("etag")),
          (200, "promoted", "unix:0", '"1-promoted"'), "promoted")
    equal(status(d)["policy"]["generation"], 1, "in force")
    equal(is_error(d.admin("POST", "/v1/rollouts/1/abort"), 409)["code"], "rollout_ended", "aborted after its end")
    for n in range(3):
        d.admin("POST", "/v1/rollouts", {"kind": "shadow", "generation": 2})
        equal(d.admin("POST", "/v1/rollouts/running/abort").status, 200, "aborted")
    page = d.admin("GET", "/v1/rollouts?limit=3").json
    equal(([r["rollout"] for r in page["rollouts"]], page["next"]), ([4, 3, 2], 2), "the first page")
    page = d.admin("GET", "/v1/rollouts?limit=3&before=2").json
    equal(([r["rollout"] for r in page["rollouts"]], page.get("next")), ([1], None), "the last page")
    # Who may: nobody at the agents' door, nobody without a role.
    is_error(d.http("GET", "/v1/rollouts"), 404, "the agents' door")
    is_error(d.operators("GET", "/v1/rollouts"), 401, "without a caller")
    is_error(d.operators("POST", "/v1/rollouts", body), 401, "without a caller")
    d.close()


@test
def roll_outs_come_and_go_under_load():
    d = deployment(AGENTS[:6])
    d.writ("policy", "apply", folder(d, "closed", CLOSED), code=0)
    d.writ("policy", "rollback", code=0)
    over, wrong, asked = threading.Event(), [], [0] * 3

    def ask(n):
        c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=30)
        while not over.is_set():
            reply = exchange(c, "POST", "/access/v1/evaluation", call(agent=AGENTS[(asked[n] + n) % 6]))
            if reply.status != 200 or reply.json["decision"] != (reply.json["context"]["generation"] == 1):
                wrong.append(reply)
                return
            asked[n] += 1
        c.close()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    try:
        wide = {"kind": "canary", "generation": 2, "percent": 50, "gates": {"max_deny_increase": 1}}
        for n in range(12):
            for body in (wide, {"kind": "shadow", "generation": 2}):
                equal(d.admin("POST", "/v1/rollouts", body).status, 201, "started")
                at = sum(asked)
                until("some requests", lambda at=at: sum(asked) > at + 20 or wrong)
                d.admin("GET", "/v1/rollouts/running/compare")
                equal(d.admin("POST", f"/v1/rollouts/running/{'promote' if n % 3 == 2 else 'abort'}").status, 200, "ended")
                if n % 3 == 2:
                    equal(d.admin("POST", "/v1/policies/activate", {"generation": 1}).json["generation"], 1, "back")
    finally:
        over.set()
        for t in threads:
            t.join()
    equal(wrong, [], "answers")
    found = [r for r in records(d) if r["kind"] == "authz.decision"]
    equal(len(found), sum(asked), "a record for each answer")
    for r in found:
        equal(r["decision"], "permit" if r["generation"] == 1 else "deny", "decision and generation")
        if "rollout" in r:
            equal({r["generation"], r["shadow_generation"]}, {1, 2}, "the two sets of a roll-out")
            equal(r["shadow_decision"], "permit" if r["shadow_generation"] == 1 else "deny", "the other decision")
    check(sum("rollout" in r for r in found) > 100, "decisions of roll-outs")
    d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)
    d.close()


@test
def a_stop_in_the_middle_keeps_the_counts():
    d = deployment(AGENTS[:1])
    start(d, "shadow", folder(d, "closed", CLOSED))
    for _ in range(5):
        d.evaluate(agent=AGENTS[0])
    d.stop(signal.SIGTERM)
    d.start()
    d.evaluate(agent=AGENTS[0])
    said = compare(d)
    equal((said["evaluations"], said["changed"], said["changes"][0]["count"], len(said["changes"][0]["evaluations"])),
          (6, 6, 6, 6), "counted over a restart")
    d.close()


if __name__ == "__main__":
    main()
