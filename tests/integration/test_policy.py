#!/usr/bin/env -S python3 -B
"""Policies on a running server: reloading, broken sets, runaway rules, the commands."""
import threading
import time

from harness import CATALOGUE, RULES, Deployment, Failure, check, equal, main, test

shared = None
CLOSED = RULES.replace('permit "read" {', 'deny "read" {')


def server():
    global shared
    if shared is None:
        shared = Deployment().start()
        shared.register()
    return shared


def until(what, claim, seconds=15):
    """Wait until claim() is true; its last value tells what was seen."""
    end = time.monotonic() + seconds
    while True:
        value = claim()
        if value is True:
            return
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s, last {value!r}")
        time.sleep(0.05)


@test
def without_policies_all_is_denied():
    d = Deployment(policies={}).start(path="/livez")
    d.register()
    equal(d.admin("GET", "/readyz").status, 503, "/readyz")
    reply = d.evaluate()
    equal((reply.status, reply.json["decision"], reply.json["context"]["reason"]), (200, False, "no_policy"), repr(reply))
    d.policy("catalogue/tools.lua", CATALOGUE)
    d.policy("finance.lua", RULES)
    until("ready", lambda: d.admin("GET", "/readyz").status == 200)
    equal(d.evaluate().json["decision"], True, "decision with policies")
    d.close()


@test
def a_broken_set_at_the_start_denies_and_says_so():
    d = Deployment(policies={"a.lua": "policy 'x' {"}).start(path="/livez")
    d.register()
    equal(d.admin("GET", "/readyz").status, 503, "/readyz")
    equal(d.evaluate().json["context"]["reason"], "no_policy", "reason")
    check("a.lua:1" in d.stderr(), f"file and line are not logged: {d.stderr()[-500:]}")
    d.close()


@test
def a_change_takes_effect_without_a_dropped_request():
    d = server()
    wrong, generations, decisions, stop = [], [], [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                answer = d.evaluate().json
                generations.append(answer["context"]["generation"])
                decisions.append((answer["context"]["generation"], answer["decision"]))
            except Exception as e:
                wrong.append(repr(e))
                return

    before = d.evaluate().json["context"]["generation"]
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for t in threads:
        t.start()
    try:
        for text, decision in ((CLOSED, False), (RULES, True), (CLOSED, False), (RULES, True)):
            d.policy("finance.lua", text)
            until(f"decision {decision}", lambda want=decision: d.evaluate().json["decision"] is want)
    finally:
        stop.set()
        for t in threads:
            t.join()
    check(not wrong, f"dropped: {wrong[:3]}")
    check(len(generations) > 50, f"only {len(generations)} answers")
    # One generation says one thing, and the same content is the same generation.
    equal(len(set(decisions)), 2, f"generations and decisions {set(decisions)}")
    equal(d.evaluate().json["context"]["generation"], before, "generation of the same content")


BROKEN = (
    ("syntax", 'policy "x" { permit "y" { on = {', "finance.lua:"),
    ("unknown key of on", 'policy "x" { permit "y" { on = { acton = "tools/call" } } }', "action"),
    ("unknown key of a rule",
     'policy "x" { permit "y" { on = { action = "tools/call" }, wen = function(q) return true end } }', "when"),
    ("no on", 'policy "x" { permit "y" { when = function(q) return true end } }', "on"),
    ("two rules of a name", 'policy "x" { deny "y" {}, deny "y" {} }', "y"),
    ("os", 'os.execute("true")', "os"), ("io", 'io.open("/etc/passwd")', "io"), ("require", 'require "x"', "require"),
    ("pcall", 'policy "x" { permit "y" { on = { action = "tools/call" }, when = function(q) return pcall(error) end } }',
     "pcall"),
    ("a global", 'policy "x" { permit "y" { on = { action = "tools/call" }, when = function(q) n = 1 return true end } }',
     "n"),
    ("writing q", 'policy "x" { permit "y" { on = { action = "tools/call" }, when = function(q) q.agent.a = 1 return true end } }',
     "read-only"),
    ("endless", "while true do end", "finance.lua"), ("budget is not built yet",
     'policy "x" { permit "y" { on = { action = "tools/call" }, budget = { name = "n" } } }', "budget"),
    ("bad name", 'policy "Not OK" { }', "Not OK"), ("no text", b"\x1bLua".decode("latin-1"), "finance.lua"),
)


@test
def a_broken_set_never_replaces_a_good_one():
    d = server()
    d.policy("finance.lua", RULES)
    until("the good set", lambda: d.evaluate().json["decision"] is True)
    good = d.evaluate().json["context"]["generation"]
    for why, text, word in BROKEN:
        d.policy("finance.lua", text)
        done = d.writ("policy", "check", d.path("policies"))
        equal(done.returncode, 1, f"{why}: exit code of policy check ({done.stdout} {done.stderr})")
        check(word in done.stdout + done.stderr, f"{why}: '{word}' is not named: {done.stdout} {done.stderr}")
        check("finance.lua" in done.stdout + done.stderr, f"{why}: the file is not named")
        time.sleep(0.3)
        reply = d.evaluate()
        equal((reply.json["decision"], reply.json["context"]["generation"]), (True, good), f"{why}: answer")
    d.policy("finance.lua", CLOSED)
    until("the next good set", lambda: d.evaluate().json["decision"] is False)
    d.policy("finance.lua", RULES)
    until("the first set again", lambda: d.evaluate().json["decision"] is True)


RUNAWAY = """
policy "runaway" {
  permit "loop"   { on = { action = "tools/call", tool = "run/loop" },   when = function(q) while true do end end },
  permit "nested" { on = { action = "tools/call", tool = "run/nested" },
                    when = function(q) local function f() while true do local g = f end end return f() end },
  permit "memory" { on = { action = "tools/call", tool = "run/memory" },
                    when = function(q) local t = {} while true do t[#t + 1] = { #t, {} } end end },
  permit "error"  { on = { action = "tools/call", tool = "run/error" },  when = function(q) return q.args.x.y.z end },
  permit "deep"   { on = { action = "tools/call", tool = "run/deep" },
                    when = function(q) local function f() return 1 + f() end return f() > 0 end },
  permit "number" { on = { action = "tools/call", tool = "run/number" }, when = function(q) return 1 end },
  permit "change" { on = { action = "tools/call", tool = "run/change" },
                    when = function(q) local function f(t) t.team = "root" end f(q.agent) return true end },
  permit "team"   { on = { action = "tools/call", tool = "run/team" },
                    when = function(q) return q.agent.team == "root" end },
  permit "good"   { on = { action = "tools/call", tool = "run/good" } },
}
"""


@test
def runaway_rules_deny_and_hurt_nobody():
    names = ("loop", "nested", "memory", "error", "deep", "number", "change", "team", "good")
    d = Deployment(policies={"run.lua": RUNAWAY, "catalogue/t.lua": "".join(
        f'tool "run/{n}" {{ effect = "read" }}\n' for n in names)})
    d.writ("policy", "check", d.path("policies"), code=0)
    d.start()
    d.register()
    for name, reasons in (("loop", ("policy_budget",)), ("nested", ("policy_budget",)),
                          ("memory", ("policy_budget", "policy_error")), ("error", ("policy_error",)),
                          ("deep", ("policy_budget", "policy_error")), ("number", ("policy_error",))):
        for n in range(3):
            began = time.monotonic()
            reply = d.evaluate(f"run/{name}")
            equal((reply.status, reply.json["decision"]), (200, False), f"{name}: {reply}")
            check(reply.json["context"]["reason"] in reasons, f"{name}: reason in {reply}")
            check(time.monotonic() - began < 2, f"{name} took {time.monotonic() - began:.1f} s")
            equal(d.evaluate("run/good").json["decision"], True, f"the next request after {name} ({n})")
    # Nothing that a rule writes outlives its evaluation.
    for _ in range(3):
        d.evaluate("run/change")
        equal(d.evaluate("run/team").json["decision"], False, "a decision after a rule wrote to q")
    equal(d.evaluate("run/good").json["decision"], True, "the last request")
    d.close()


@test
def the_order_of_files_does_not_matter():
    parts = {"a.lua": 'policy "p-a" { permit "all" { on = { action = "tools/call" } } }',
             "b.lua": 'policy "p-b" { deny "none" { on = { action = "tools/call", tool = "files/delete" } } }',
             "catalogue/t.lua": CATALOGUE}
    swapped = dict(parts, **{"a.lua": parts["b.lua"], "b.lua": parts["a.lua"]})
    seen = []
    for policies in (parts, swapped):
        d = Deployment(policies=policies).start()
        d.register()
        seen.append([(r["decision"], r["context"]["reason"], r["context"]["rule"])
                     for r in (d.evaluate(tool).json for tool in ("files/delete", "ledger/query"))])
        d.close()
    equal(seen[0], seen[1], "decisions")
    equal(seen[0][0], (False, "denied", "p-b/none"), "a deny beats a permit")


@test
def the_commands_show_what_is_active():
    d = server()
    listed = d.writ("policy", "list", code=0).stdout
    for word in ("finance/payments", "finance/payment over 500", "permit", "ask", "deny"):
        check(word in listed or word.split("/")[-1] in listed, f"'{word}' is missing in: {listed}")
    reply = d.admin("GET", "/v1/policies")
    equal(reply.status, 200, repr(reply))
    check(reply.json, "an empty answer")
    equal(d.writ("policy", "check", d.path("policies")).returncode, 0, "exit code of policy check")
    d.writ("policy", "check", d.path("no such folder"), code=1)


if __name__ == "__main__":
    main()
