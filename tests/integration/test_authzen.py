#!/usr/bin/env -S python3 -B
"""AuthZEN 1.0 beyond one question: batches, searches, metadata, obligations, error shapes.

The tables follow the fact sheet, sections 3 to 8 and 16, against the real binary."""
import json
import os
import re
import signal
import threading
import time

from harness import (AGENT, TRUST_DOMAIN, Deployment, call, check, equal, exchange, is_error, join_token, leaves, main,
                     openssl, test)

EVALUATE, BATCH = "/access/v1/evaluation", "/access/v1/evaluations"
SUBJECTS, RESOURCES, ACTIONS = (f"/access/v1/search/{what}" for what in ("subject", "resource", "action"))
WELL_KNOWN = "/.well-known/authzen-configuration"
FIVE = (EVALUATE, BATCH, SUBJECTS, RESOURCES, ACTIONS)
OPS = f"spiffe://{TRUST_DOMAIN}/agent/ops-1"
GONE = f"spiffe://{TRUST_DOMAIN}/agent/gone-1"

CATALOGUE = """
tool "ledger/query"    { effect = "read", args = { max_rows = "integer?" } }
tool "ledger/close"    { effect = "write", args = {} }
tool "payments/create" { effect = "spend", args = { amount = "number" } }
tool "files/delete"    { effect = "delete", args = {} }
model "gpt-small"      { tier = 1 }
model "gpt-large"      { tier = 3 }
"""
RULES = """
policy "tools" {
  permit "read"  { on = { action = "tools/call", effect = "read" } },
  permit "close" {
    on          = { action = "tools/call", tool = "ledger/close", agent = { team = "finance" } },
    obligations = {
      { id = "mail", type = "notification", properties = { to = "books@example.org", body = "closed" } },
      { id = "again", type = "step-up", properties = { acr_value = "urn:example:loa:3", amr_values = { "hwk" } } },
    },
  },
  permit "pay"   { on = { action = "tools/call", tool = "payments/create" },
                   when = function(q) return q.args.amount <= 500 end },
  deny "delete"  { on = { action = "tools/call", tool = "files/delete" },
                   obligations = { { id = "tell", type = "custom", properties = {} } } },
  permit "small" { on = { action = "models/invoke", model = { tier = 1 } } },
}
-- People and records, as the certification scenario has them: no agent, no catalogue.
policy "records" {
  permit "view"  { on = { action = "view", resource = "record" } },
  permit "edit"  { on = { action = "edit", resource = "record" },
                   when = function(q) return q.subject.properties ~= nil and q.subject.properties.role == "admin" end },
  permit "open"  { on = { action = "open", resource = "record" },
                   when = function(q) return q.resource.properties ~= nil and q.resource.properties.public == true end },
  permit "soft"  { on = { action = "erase", resource = "record" },
                   when = function(q) return q.action.properties ~= nil and q.action.properties.soft == true end },
  permit "night" { on = { action = "night", resource = "record" },
                   when = function(q) return q.context ~= nil and q.context.hour == 2 end },
  permit "spin"  { on = { action = "spin", resource = "record" },
                   when = function(q) for i = 1, 1000000000 do end return true end },
  permit "break" { on = { action = "break", resource = "record" }, when = function(q) return q.args.a.b.c == 1 end },
}
"""
POLICIES = {"catalogue/all.lua": CATALOGUE, "rules.lua": RULES}

ALICE, BOB = {"type": "user", "id": "alice"}, {"type": "user", "id": "bob"}
ADMIN = {"type": "user", "id": "alice", "properties": {"role": "admin"}}
RECORD, PUBLIC = {"type": "record", "id": "r1"}, {"type": "record", "id": "r2", "properties": {"public": True}}
VIEW, EDIT, OPEN, NIGHT, BREAK = ({"name": n} for n in ("view", "edit", "open", "night", "break"))
ME, CALL = {"type": "agent", "id": AGENT}, {"name": "tools/call"}
LEDGER, DELETE = {"type": "tool", "id": "ledger/query"}, {"type": "tool", "id": "files/delete"}

shared = None


def server():
    """One deployment for all tables: a PEP's listener, and an agent with a certificate."""
    global shared
    if shared is None:
        shared = Deployment(POLICIES).start()
        shared.register()
        shared.register(OPS, attributes={"team": "ops"})
        shared.register(GONE)
        equal(shared.admin("POST", "/v1/agents/suspend", {"spiffe_id": GONE}).status, 200, "suspending")
        key = shared.path("agent.key")
        csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                      "-subj", "/CN=x").decode()
        token = join_token(shared.admin("POST", "/v1/agents/token", {"spiffe_id": AGENT}))
        svid = shared.http("POST", "/v1/attest", {"join_token": token, "csr": csr})
        shared.agent = (shared.write("agent.crt", svid.json["x509_svid"]), key)
    return shared


def post(path, request, headers=None):
    return server().http("POST", path, request, headers)


def as_agent(path, request):
    d = server()
    return d.https("POST", path, request, cert=d.agent)


def size():
    """Records in the log: a refused request tells, since it is one itself."""
    return ask_one(call())["context"]["record"]["seq"]


def ask_one(request):
    reply = post(EVALUATE, request)
    equal(reply.status, 200, f"status of {reply}")
    return reply.json


# --- certification-like: fixed decisions on ids and properties, single and batch alike ----------

SCENARIO = (
    # why, subject, action, resource, context, decision
    ("anyone views", ALICE, VIEW, RECORD, None, True),
    ("another views", BOB, VIEW, RECORD, None, True),
    ("an unknown action", ALICE, {"name": "shred"}, RECORD, None, False),
    ("an unknown type", ALICE, VIEW, {"type": "printer", "id": "p"}, None, False),
    ("no role", ALICE, EDIT, RECORD, None, False),
    ("a role", ADMIN, EDIT, RECORD, None, True),
    ("another role", dict(ADMIN, properties={"role": "guest"}), EDIT, RECORD, None, False),
    ("empty properties", dict(ADMIN, properties={}), EDIT, RECORD, None, False),
    ("public", BOB, OPEN, PUBLIC, None, True),
    ("not public", BOB, OPEN, RECORD, None, False),
    ("action property", BOB, {"name": "erase", "properties": {"soft": True}}, RECORD, None, True),
    ("without it", BOB, {"name": "erase"}, RECORD, None, False),
    ("context", BOB, NIGHT, RECORD, {"hour": 2}, True),
    ("other context", BOB, NIGHT, RECORD, {"hour": 3}, False),
    ("empty context", BOB, NIGHT, RECORD, {}, False),
    ("empty strings", {"type": "", "id": ""}, {"name": ""}, {"type": "", "id": ""}, None, False),
    ("a tool", ME, CALL, LEDGER, None, True),
    ("a denied tool", ME, CALL, DELETE, None, False),
)


def item(subject, action, resource, context):
    found = {"subject": subject, "action": action, "resource": resource}
    return found if context is None else dict(found, context=context)


@test
def the_scenario_one_by_one_and_again():
    for why, *parts, decision in SCENARIO:
        for _ in range(2):
            equal(ask_one(item(*parts))["decision"], decision, why)


@test
def the_scenario_as_a_batch():
    items = [item(*parts) for _, *parts, _ in SCENARIO]
    reply = post(BATCH, {"evaluations": items})
    equal(reply.status, 200, f"status of {reply}")
    equal(list(reply.json), ["evaluations"], "members")
    for (why, *_, decision), got in zip(SCENARIO, reply.json["evaluations"], strict=True):
        equal(got["decision"], decision, why)
        check("error" not in got["context"], f"{why}: {got}")


@test
def a_failing_policy_is_a_denial_with_an_error():
    one = ask_one(item(ALICE, BREAK, RECORD, None))
    two = post(BATCH, {"evaluations": [item(ALICE, BREAK, RECORD, None), item(ALICE, VIEW, RECORD, None)]})
    equal(two.status, 200, "status of a batch with a failing policy")
    for got in (one, two.json["evaluations"][0]):
        equal((got["decision"], got["context"]["reason"]), (False, "policy_error"), "decision")
        equal(got["context"]["error"]["status"], 500, "context.error.status")
        check(got["context"]["record"]["seq"] > 0, f"not on record: {got}")
        check("rules.lua" not in json.dumps(got), f"tells an agent about the source: {got}")
    equal(two.json["evaluations"][1]["decision"], True, "the item beside it")


# --- batches ----------------------------------------------------------------------------------

TOP = {"subject": ALICE, "action": VIEW, "resource": RECORD}
E400 = "400"  # an item that cannot be completed
BATCHES = (
    # why, request, decisions (True, False, E400)
    ("defaults for all", dict(TOP, evaluations=[{}, {}]), [True, True]),
    ("each overridden", dict(TOP, evaluations=[{"subject": BOB}, {"action": EDIT}, {"resource": PUBLIC}]),
     [True, False, True]),
    ("a whole entity, no merging", dict(TOP, subject=ADMIN, action=EDIT, evaluations=[{}, {"subject": ALICE}]),
     [True, False]),
    ("properties do not mix", dict(TOP, action=OPEN, resource=PUBLIC,
                                   evaluations=[{}, {"resource": {"type": "record", "id": "r2"}}]), [True, False]),
    ("context is one too", dict(TOP, action=NIGHT, context={"hour": 2}, evaluations=[{}, {"context": {}}]),
     [True, False]),
    ("an incomplete default matters to heirs only",
     {"subject": ALICE, "action": VIEW, "resource": {"type": "record"}, "evaluations": [{"resource": RECORD}, {}]},
     [True, E400]),
    ("nothing at the top", {"evaluations": [dict(TOP), {"subject": ALICE, "action": VIEW}]}, [True, E400]),
    ("all incomplete", {"evaluations": [{}, {"subject": ALICE}]}, [E400, E400]),
    ("wrong type inside an item", dict(TOP, evaluations=[{"resource": "r1"}, {"context": 1}, {"action": None}, {}]),
     [E400, E400, E400, True]),
    ("wrong type deep in an item", dict(TOP, evaluations=[{"subject": {"type": "user", "id": 7}}, {}]),
     [E400, True]),
    ("items that are no objects", dict(TOP, evaluations=[1, None, [], "x", {}]), [E400] * 4 + [True]),
    ("unknown members", dict(TOP, zzz=1, options={"x": [1]}, evaluations=[{"more": {}, "decision": True}]), [True]),
    ("an unknown agent", {"subject": {"type": "agent", "id": "x"}, "action": CALL, "resource": LEDGER,
                          "evaluations": [{}, {"subject": ME}]}, [False, True]),
)
AND, OR = "deny_on_first_deny", "permit_on_first_permit"
YES, NO, BAD = {}, {"action": EDIT}, {"resource": {"type": "record"}}
SEMANTICS = (
    # semantic, items, decisions
    ("execute_all", [YES, NO, BAD, YES], [True, False, E400, True]),
    (None, [NO, YES], [False, True]),
    (AND, [YES, YES, YES], [True, True, True]),
    (AND, [YES, NO, YES], [True, False]),
    (AND, [NO, YES], [False]),
    (AND, [YES, BAD, YES], [True, E400]),
    (AND, [YES, 7, YES], [True, E400]),
    (OR, [YES, NO], [True]),
    (OR, [NO, YES, YES], [False, True]),
    (OR, [NO, BAD, YES, NO], [False, E400, True]),
    (OR, [NO, NO], [False, False]),
    (OR, [BAD], [E400]),
)


def decisions(why, reply):
    equal(reply.status, 200, f"{why}: status of {reply}")
    found = []
    for got in reply.json["evaluations"]:
        check(set(got) <= {"decision", "context"}, f"{why}: members of {got}")
        error = got["context"].get("error")
        if error:
            check(got["decision"] is False and len(error["message"]) > 5, f"{why}: {got}")
        found.append(str(error["status"]) if error else got["decision"])
    return found


@test
def batches_follow_the_table():
    for why, request, wanted in BATCHES:
        equal(decisions(why, post(BATCH, request)), wanted, why)


@test
def semantics_truncate():
    for semantic, items, wanted in SEMANTICS:
        request = dict(TOP, evaluations=items)
        if semantic:
            request["options"] = {"evaluations_semantic": semantic}
        why = f"{semantic} of {items}"
        equal(decisions(why, post(BATCH, request)), wanted, why)


@test
def each_answered_item_is_a_record_and_no_other():
    d = server()
    for semantic, items, wanted in SEMANTICS:
        request = dict(TOP, evaluations=items)
        if semantic:
            request["options"] = {"evaluations_semantic": semantic}
        before = size()
        answers = post(BATCH, request).json["evaluations"]
        equal(size() - before - 1, len(wanted), f"records of {semantic} of {items}")
        seqs = [a["context"]["record"]["seq"] for a in answers if "record" in a["context"]]
        equal(seqs, [before + 1 + i for i, w in enumerate(wanted) if w is not E400], "their order")
    records = leaves(d.export("batch.jsonl"))
    for a in answers:
        if "record" in a["context"]:
            equal(records[a["context"]["record"]["seq"]][1]["kind"], "authz.decision", "kind")
    refused = [r for _, r in records.values() if r["kind"] == "request.refused"]
    check(any(r["reason"] == "invalid_request" for r in refused), f"no incomplete item on record: {refused}")


@test
def without_evaluations_it_is_one_evaluation():
    for request in (TOP, dict(TOP, evaluations=[]), dict(TOP, evaluations=[], options={})):
        reply = post(BATCH, request)
        equal(reply.status, 200, f"status of {reply}")
        equal(sorted(reply.json), ["context", "decision"], "members")
        equal(reply.json["decision"], True, "decision")
    for missing in ("subject", "action", "resource"):
        request = dict(TOP, evaluations=[])
        del request[missing]
        check(missing in is_error(post(BATCH, request), 400, f"no {missing}")["message"], "does not name it")


BAD_BATCHES = (
    ("evaluations null", dict(TOP, evaluations=None)), ("evaluations an object", dict(TOP, evaluations={})),
    ("evaluations a text", dict(TOP, evaluations="x")), ("default subject a text", dict(TOP, subject="x", evaluations=[{}])),
    ("default action null", dict(TOP, action=None, evaluations=[dict(TOP)])),
    ("default resource an array", dict(TOP, resource=[], evaluations=[dict(TOP)])),
    ("default context a number", dict(TOP, context=1, evaluations=[{"context": {}}])),
    ("options an array", dict(TOP, options=[], evaluations=[{}])),
    ("options null", dict(TOP, options=None, evaluations=[{}])),
    ("unknown semantic", dict(TOP, options={"evaluations_semantic": "some"}, evaluations=[{}])),
    ("semantic of another case", dict(TOP, options={"evaluations_semantic": "Execute_All"}, evaluations=[{}])),
    ("semantic a number", dict(TOP, options={"evaluations_semantic": 1}, evaluations=[{}])),
    ("semantic null", dict(TOP, options={"evaluations_semantic": None}, evaluations=[{}])),
)


@test
def a_malformed_batch_fails_whole():
    for why, request in BAD_BATCHES:
        is_error(post(BATCH, request), 400, why)


@test
def a_batch_has_a_published_bound():
    top = server().https("GET", WELL_KNOWN).json["evaluations_max"]
    equal(top, 100, "evaluations_max")
    reply = post(BATCH, dict(TOP, evaluations=[{}] * top))
    equal(decisions("a full batch", reply), [True] * top, "decisions")
    seqs = [a["context"]["record"]["seq"] for a in reply.json["evaluations"]]
    equal(seqs, list(range(seqs[0], seqs[0] + top)), "records of one batch stand together")
    error = is_error(post(BATCH, dict(TOP, evaluations=[{}] * (top + 1))), 400, "one too many")
    equal(error["code"], "batch_too_large", "code")


@test
def slow_policies_do_not_let_a_batch_keep_the_loop():
    # Each of them runs into its budget; after 50 ms of that the rest is answered without being decided.
    answers = post(BATCH, dict(TOP, action={"name": "spin"}, evaluations=[{}] * 99 + [{"action": VIEW}])).json
    reasons = [a["context"]["reason"] for a in answers["evaluations"]]
    equal(len(reasons), 100, "answers")
    decided = reasons.index("batch_too_slow") if "batch_too_slow" in reasons else 100
    check(1 <= decided < 100, f"{decided} were decided")
    equal(set(reasons[:decided]), {"policy_budget"}, "reasons before")
    equal(set(reasons[decided:]), {"batch_too_slow"}, "reasons behind")
    last = answers["evaluations"][-1]
    equal((last["decision"], last["context"]["error"]["status"]), (False, 503), "an item that was not reached")
    equal(ask_one(TOP)["decision"], True, "the next request")


@test
def a_batch_of_an_agent_counts_item_by_item():
    d = Deployment(POLICIES, caller=AGENT, config="limits = { agent_rate = 1, agent_burst = 30 }\n").start()
    d.register()
    mine = {"subject": ME, "action": CALL, "resource": LEDGER}
    equal(decisions("within", d.http("POST", BATCH, dict(mine, evaluations=[{}] * 20))), [True] * 20, "decisions")
    refused = d.http("POST", BATCH, dict(mine, evaluations=[{}] * 20))
    is_error(refused, 429, "20 more than the burst holds")
    check(int(refused.header("retry-after")) >= 1, f"Retry-After: {refused.headers}")
    d.close()


@test
def an_agent_asks_about_itself_in_batches_too():
    reply = as_agent(BATCH, {"subject": ME, "action": CALL, "resource": LEDGER,
                             "evaluations": [{}, {"subject": {"type": "agent", "id": OPS}}]})
    equal(decisions("self and other", reply), [True, False], "decisions")
    equal(reply.json["evaluations"][1]["context"]["reason"], "subject_mismatch", "reason")


@test
def a_batch_never_mixes_policies():
    d = Deployment({"catalogue/all.lua": CATALOGUE, "rules.lua": ""})
    sets = ['policy "p" { permit "view" { on = { action = "view" } } }',
            'policy "p" { permit "edit" { on = { action = "edit" } } }']
    d.policy("rules.lua", sets[0])
    d.start()
    over, changed = threading.Event(), threading.Event()

    def storm():
        # The next change when the last one has been seen: where all cores are busy, the thread that loads policies has
        # to wait for its turn, and of changes back and forth meanwhile it would find the last one only.
        n = 1
        while not over.is_set():
            d.policy("rules.lua", sets[n % 2])
            os.kill(d.process.pid, signal.SIGHUP)
            if changed.wait(1):
                n += 1
                changed.clear()

    flipping = threading.Thread(target=storm)
    flipping.start()
    seen, changes = [], 0
    end = time.monotonic() + 120
    try:
        while time.monotonic() < end and changes < 6:
            reply = d.http("POST", BATCH, dict(TOP, evaluations=[{}, {"action": EDIT}] * 50))
            answers = reply.json["evaluations"]
            generations = {a["context"]["generation"] for a in answers}
            equal(len(generations), 1, f"generations in one batch: {generations}")
            kinds = {tuple(a["decision"] for a in answers[i:i + 2]) for i in range(0, 100, 2)}
            equal(len(kinds), 1, f"decisions in one batch: {kinds}")
            check(kinds <= {(True, False), (False, True)}, f"decisions {kinds}")
            generation = generations.pop()
            if seen and seen[-1] != generation:
                changes += 1
                changed.set()
            seen.append(generation)
    finally:
        over.set()
        flipping.join()
    check(changes >= 6, f"only {changes} changes of policy in {len(seen)} batches")
    d.close()


# --- searches -----------------------------------------------------------------------------------

def search(path, request, why="", agent=False):
    """All results, page by page."""
    found, request = [], dict(request)
    for _ in range(1000):
        reply = (as_agent if agent else post)(path, request)
        equal(reply.status, 200, f"{why}: status of {reply}")
        answer = reply.json
        check(list(answer)[0] == "page" or "page" not in answer, f"{why}: page comes first: {reply}")
        check(set(answer) <= {"page", "results", "context"}, f"{why}: members of {reply}")
        found += answer["results"]
        page = answer.get("page")
        if "page" in request:
            check(page is not None, f"{why}: no page: {reply}")
        if page is None:
            return found
        check(isinstance(page["next_token"], str), f"{why}: next_token of {page}")
        equal(page["count"], len(answer["results"]), f"{why}: count")
        if not page["next_token"]:
            return found
        request["page"] = dict(request.get("page", {}), token=page["next_token"])
    raise AssertionError("no end of pages")


def names(results):
    return sorted(r.get("id", r.get("name")) for r in results)


WHO, WHAT, ANY = {"type": "agent"}, {"type": "tool"}, {"name": "tools/call"}
SEARCHES = (
    # why, path, request, names found
    ("who may read", SUBJECTS, {"subject": WHO, "action": CALL, "resource": LEDGER}, [AGENT, OPS]),
    ("who may close", SUBJECTS, {"subject": WHO, "action": CALL, "resource": dict(LEDGER, id="ledger/close")}, [AGENT]),
    ("an id is ignored", SUBJECTS, {"subject": dict(WHO, id=GONE), "action": CALL, "resource": LEDGER}, [AGENT, OPS]),
    ("an id of any type", SUBJECTS, {"subject": dict(WHO, id=7), "action": CALL, "resource": LEDGER}, [AGENT, OPS]),
    ("nobody deletes", SUBJECTS, {"subject": WHO, "action": CALL, "resource": DELETE}, []),
    ("unknown subject type", SUBJECTS, {"subject": {"type": "robot"}, "action": CALL, "resource": LEDGER}, []),
    ("unknown tool", SUBJECTS, {"subject": WHO, "action": CALL, "resource": dict(LEDGER, id="no/such")}, []),
    ("unknown action", SUBJECTS, {"subject": WHO, "action": {"name": "fly"}, "resource": LEDGER}, []),
    ("which tools, without arguments", RESOURCES, {"subject": ME, "action": CALL, "resource": WHAT},
     ["ledger/close", "ledger/query"]),
    ("which tools take this amount", RESOURCES,
     {"subject": ME, "action": dict(CALL, properties={"amount": 500}), "resource": WHAT}, ["payments/create"]),
    ("or that", RESOURCES, {"subject": ME, "action": dict(CALL, properties={"amount": 501}), "resource": WHAT}, []),
    ("another agent", RESOURCES, {"subject": dict(ME, id=OPS), "action": CALL, "resource": WHAT}, ["ledger/query"]),
    ("an id is ignored here, too", RESOURCES, {"subject": ME, "action": CALL, "resource": dict(WHAT, id="x")},
     ["ledger/close", "ledger/query"]),
    ("models", RESOURCES, {"subject": ME, "action": {"name": "models/invoke"}, "resource": {"type": "model"}},
     ["gpt-small"]),
    ("unknown resource type", RESOURCES, {"subject": ME, "action": CALL, "resource": {"type": "spoon"}}, []),
    ("unknown agent", RESOURCES, {"subject": dict(ME, id="spiffe://x/y"), "action": CALL, "resource": WHAT}, []),
    ("suspended agent", RESOURCES, {"subject": dict(ME, id=GONE), "action": CALL, "resource": WHAT}, []),
    ("unknown type of subject", RESOURCES, {"subject": {"type": "x", "id": "y"}, "action": {"name": "view"},
                                            "resource": {"type": "record"}}, []),
    ("what may I do with it", ACTIONS, {"subject": ME, "resource": LEDGER}, ["tools/call"]),
    ("an action is ignored", ACTIONS, {"subject": ME, "resource": LEDGER, "action": 7}, ["tools/call"]),
    ("nothing", ACTIONS, {"subject": ME, "resource": DELETE}, []),
    ("records", ACTIONS, {"subject": ADMIN, "resource": PUBLIC}, ["edit", "open", "view"]),
    ("records, by context", ACTIONS, {"subject": ALICE, "resource": RECORD, "context": {"hour": 2}},
     ["night", "view"]),
    ("a model", ACTIONS, {"subject": ME, "resource": {"type": "model", "id": "gpt-small"}}, ["models/invoke"]),
    ("unknown resource", ACTIONS, {"subject": ME, "resource": {"type": "spoon", "id": "s"}}, []),
    ("unknown members", ACTIONS, {"subject": ME, "resource": LEDGER, "zzz": {}, "page": {"zzz": 1, "properties": {}}},
     ["tools/call"]),
)


@test
def searches_follow_the_table():
    for why, path, request, wanted in SEARCHES:
        found = search(path, request, why)
        equal(names(found), sorted(wanted), why)
        for result in found:
            if path != ACTIONS:
                kind = "subject" if path == SUBJECTS else "resource"
                equal(result["type"], request[kind]["type"], f"{why}: type of {result}")
                check(set(result) <= {"type", "id", "properties", "obligations"}, f"{why}: {result}")
            else:
                check(set(result) <= {"name", "properties", "obligations"}, f"{why}: {result}")


@test
def what_is_found_is_permitted_when_asked():
    for why, path, request, _ in SEARCHES:
        kind = {SUBJECTS: "subject", RESOURCES: "resource", ACTIONS: "action"}[path]
        for result in search(path, request, why):
            result.pop("obligations", None)
            whole = {k: v for k, v in request.items() if k in ("subject", "action", "resource", "context")}
            equal(ask_one(dict(whole, **{kind: result}))["decision"], True, f"{why}: asking about {result}")


@test
def obligations_stand_on_their_result_and_in_the_answer():
    wanted = [{"id": "mail", "properties": {"body": "closed", "to": "books@example.org"}, "type": "notification"},
              {"id": "again", "properties": {"acr_value": "urn:example:loa:3", "amr_values": ["hwk"]},
               "type": "step-up"}]
    close = {"type": "tool", "id": "ledger/close"}
    equal(ask_one({"subject": ME, "action": CALL, "resource": close})["context"]["obligations"], wanted,
          "obligations of a permit")
    equal(ask_one({"subject": ME, "action": CALL, "resource": DELETE})["context"]["obligations"],
          [{"id": "tell", "properties": {}, "type": "custom"}], "obligations of a denial")
    found = {r["id"]: r for r in search(RESOURCES, {"subject": ME, "action": CALL, "resource": WHAT})}
    equal(found["ledger/close"]["obligations"], wanted, "obligations of a result")
    check("obligations" not in found["ledger/query"], f"of another result: {found}")


@test
def an_agent_searches_as_itself_only():
    rows = (
        ("tools of its own", RESOURCES, {"subject": ME, "action": CALL, "resource": WHAT},
         ["ledger/close", "ledger/query"]),
        ("tools of another", RESOURCES, {"subject": dict(ME, id=OPS), "action": CALL, "resource": WHAT}, []),
        ("actions of its own", ACTIONS, {"subject": ME, "resource": LEDGER}, ["tools/call"]),
        ("actions of another", ACTIONS, {"subject": dict(ME, id=OPS), "resource": LEDGER}, []),
        ("actions of a person", ACTIONS, {"subject": ALICE, "resource": RECORD}, []),
        ("who: nobody else", SUBJECTS, {"subject": WHO, "action": CALL, "resource": LEDGER}, [AGENT]),
        ("who: nobody", SUBJECTS, {"subject": WHO, "action": CALL, "resource": DELETE}, []),
    )
    for why, path, request, wanted in rows:
        equal(names(search(path, request, why, agent=True)), wanted, why)


@test
def pages_lead_to_the_end():
    d = server()
    for i in range(200):
        d.register(f"spiffe://{TRUST_DOMAIN}/crowd/{i}", attributes={"team": "finance" if i % 4 == 0 else "ops"})
    request = {"subject": WHO, "action": CALL, "resource": dict(LEDGER, id="ledger/close")}
    wanted = sorted([AGENT] + [f"spiffe://{TRUST_DOMAIN}/crowd/{i}" for i in range(0, 200, 4)])
    equal(names(search(SUBJECTS, request)), wanted, "without pages")
    for limit in (1, 7, 50, 51, 52, 1000, 2 ** 40):
        equal(names(search(SUBJECTS, dict(request, page={"limit": limit}), f"limit {limit}")), wanted, f"limit {limit}")
    first = post(SUBJECTS, dict(request, page={"limit": 5})).json
    equal((first["page"]["count"], len(first["results"])), (5, 5), "first page")
    check(first["page"]["next_token"], "no token for the rest")
    # As the standard's own example: the second call names no limit, the first one's holds.
    second = post(SUBJECTS, dict(request, page={"token": first["page"]["next_token"]})).json
    check(0 < len(second["results"]) <= 5, f"limit of the first page: {len(second['results'])} results")
    check(not set(names(first["results"])) & set(names(second["results"])), "a result twice")
    none = post(SUBJECTS, dict(request, page={"limit": 0})).json
    equal((none["results"], none["page"]["count"]), ([], 0), "limit 0")
    equal(names(search(SUBJECTS, dict(request, page={"token": none["page"]["next_token"], "limit": 100}))), wanted,
          "on from limit 0")
    empty = post(SUBJECTS, dict(request, resource=DELETE, page={})).json
    equal((empty["results"], set(empty["page"])), ([], {"next_token", "count"}), "page of no results")


@test
def a_token_is_good_for_its_own_search_only():
    request = {"subject": WHO, "action": CALL, "resource": LEDGER, "context": {"a": 1}}
    token = post(SUBJECTS, dict(request, page={"limit": 1})).json["page"]["next_token"]
    check(re.fullmatch(r"[A-Za-z0-9_-]+", token), f"token {token!r}")
    page = {"token": token, "limit": 1}
    equal(post(SUBJECTS, dict(request, page=page)).status, 200, "the same request")
    equal(post(SUBJECTS, dict(request, page=page, extra=1, subject=dict(WHO, id="z"))).status, 200, "what is ignored")
    changed = (
        ("another tool", SUBJECTS, dict(request, resource=DELETE)),
        ("another action", SUBJECTS, dict(request, action={"name": "fly"})),
        ("arguments", SUBJECTS, dict(request, action=dict(CALL, properties={"max_rows": 1}))),
        ("another type", SUBJECTS, dict(request, subject={"type": "user"})),
        ("another context", SUBJECTS, dict(request, context={"a": 2})),
        ("no context", SUBJECTS, {k: v for k, v in request.items() if k != "context"}),
        ("another search", RESOURCES, {"subject": ME, "action": CALL, "resource": LEDGER, "context": {"a": 1}}),
    )
    for why, path, other in changed:
        equal(is_error(post(path, dict(other, page=page)), 400, why)["code"], "invalid_page_token", why)
    is_error(as_agent(SUBJECTS, dict(request, page=page)), 400, "another caller")
    flipped = ("B" if token[40] == "A" else "A")
    for bad in ("x", token[:-1], token + "A", token[:40] + flipped + token[41:], "A" * 5000):
        is_error(post(SUBJECTS, dict(request, page={"token": bad})), 400, f"token {bad[:20]}")


BAD_SEARCHES = (
    ("no subject", SUBJECTS, {"action": CALL, "resource": LEDGER}),
    ("no subject.type", SUBJECTS, {"subject": {"id": "x"}, "action": CALL, "resource": LEDGER}),
    ("no action", SUBJECTS, {"subject": WHO, "resource": LEDGER}),
    ("no action.name", SUBJECTS, {"subject": WHO, "action": {}, "resource": LEDGER}),
    ("no resource.id", SUBJECTS, {"subject": WHO, "action": CALL, "resource": WHAT}),
    ("no resource", SUBJECTS, {"subject": WHO, "action": CALL}),
    ("subject without id", RESOURCES, {"subject": WHO, "action": CALL, "resource": WHAT}),
    ("resource without type", RESOURCES, {"subject": ME, "action": CALL, "resource": {"id": "x"}}),
    ("no action", RESOURCES, {"subject": ME, "resource": WHAT}),
    ("no subject", ACTIONS, {"resource": LEDGER}),
    ("subject without id", ACTIONS, {"subject": WHO, "resource": LEDGER}),
    ("resource without id", ACTIONS, {"subject": ME, "resource": WHAT}),
    ("subject.id a number", ACTIONS, {"subject": dict(ME, id=1), "resource": LEDGER}),
    ("subject.type null", SUBJECTS, {"subject": {"type": None}, "action": CALL, "resource": LEDGER}),
    ("context a text", ACTIONS, {"subject": ME, "resource": LEDGER, "context": "x"}),
    ("page a number", ACTIONS, {"subject": ME, "resource": LEDGER, "page": 1}),
    ("page null", ACTIONS, {"subject": ME, "resource": LEDGER, "page": None}),
    ("limit negative", ACTIONS, {"subject": ME, "resource": LEDGER, "page": {"limit": -1}}),
    ("limit broken", ACTIONS, {"subject": ME, "resource": LEDGER, "page": {"limit": 1.5}}),
    ("limit a text", ACTIONS, {"subject": ME, "resource": LEDGER, "page": {"limit": "1"}}),
    ("token a number", ACTIONS, {"subject": ME, "resource": LEDGER, "page": {"token": 1}}),
    ("page.properties a text", ACTIONS, {"subject": ME, "resource": LEDGER, "page": {"properties": "x"}}),
)


@test
def incomplete_searches_are_400():
    for why, path, request in BAD_SEARCHES:
        is_error(post(path, request), 400, f"{path}: {why}")


@test
def a_search_is_one_record_and_no_decision():
    d = server()
    before = size()
    search(ACTIONS, {"subject": ME, "resource": LEDGER})
    search(RESOURCES, {"subject": dict(ME, id=OPS), "action": CALL, "resource": WHAT})
    records = {s: r for s, (_, r) in leaves(d.export("search.jsonl")).items() if s > before}
    found = [r for r in records.values() if r["kind"] == "authz.search"]
    check([r["search"] for r in found][:1] == ["action"] and found[-1]["search"] == "resource", f"records {records}")
    check(not any(r["kind"] == "authz.decision" for r in records.values()), f"decisions on record: {records}")
    equal(sum(r["results"] for r in found), 2, "results on record")
    for r in found:
        check(r["candidates"] >= r["results"] and r["generation"] >= 1 and r["pep"] == "listener:http", f"record {r}")
        check("input_commit" in r and "policy_sha256" in r, f"record {r}")


# --- all five endpoints ---------------------------------------------------------------------------

GOOD = {EVALUATE: TOP, BATCH: dict(TOP, evaluations=[{}]), SUBJECTS: SEARCHES[0][2], RESOURCES: SEARCHES[8][2],
        ACTIONS: {"subject": ME, "resource": LEDGER}}
BODIES = (
    ("empty", ""), ("no JSON", "{"), ("an array", "[]"), ("a text", '"x"'), ("null", "null"),
    ("a name twice", '{"subject":{"type":"a","id":"b"},"subject":{"type":"a","id":"c"}}'),
    ("a name twice, deep", '{"context":{"a":1,"\\u0061":2}}'), ("not UTF-8", b'{"context":{"a":"\xff"}}'),
    ("a lone surrogate", '{"context":{"a":"\\ud800"}}'), ("two values", "{} {}"),
    ("a number that would change", '{"context":{"a":9007199254740993}}'),
    ("too deep", '{"context":' + '{"a":' * 100 + "1" + "}" * 101),
)


@test
def errors_have_one_shape_on_all_endpoints():
    for path in FIVE:
        equal(post(path, GOOD[path]).status, 200, f"{path}: good request")
        for why, body in BODIES:
            reply = post(path, body, {"X-Request-ID": "id-1"})
            is_error(reply, 413 if why == "too deep" else 400, f"{path}: {why}")
            equal(reply.header("content-type"), "application/json", f"{path}: {why}: Content-Type")
            equal(reply.header("x-request-id"), "id-1", f"{path}: {why}: X-Request-ID")
        is_error(post(path, '{"context":"' + "x" * (1 << 20) + '"}'), 413, f"{path}: too large")


@test
def media_types_on_all_endpoints():
    for path in FIVE:
        for kind, status in (("application/json", 200), ("application/json; charset=utf-8", 200),
                             ("Application/Json;charset=UTF-8", 200), ("text/plain", 400), ("application/jsonp", 400),
                             ("application/x-www-form-urlencoded", 400)):
            equal(post(path, json.dumps(GOOD[path]), {"Content-Type": kind}).status, status, f"{path}: {kind}")


@test
def methods_and_paths():
    for path in FIVE:
        for method in ("GET", "PUT", "DELETE"):
            reply = server().http(method, path, headers={"X-Request-ID": "m"})
            is_error(reply, 405, f"{method} {path}")
            equal(reply.header("allow"), "POST", f"Allow of {method} {path}")
            equal(reply.header("x-request-id"), "m", "X-Request-ID")
        for wrong in (path + "/", path + "x", path.upper()):
            reply = post(wrong, GOOD[path], {"X-Request-ID": "p"})
            is_error(reply, 404, wrong)
            equal(reply.header("x-request-id"), "p", "X-Request-ID")
    is_error(server().https("POST", WELL_KNOWN, {}), 405, "POST on the metadata")


@test
def who_asks_is_settled_before_what_is_asked():
    d = Deployment(POLICIES, caller="").start()
    for path in FIVE:
        reply = d.http("POST", path, "{", {"X-Request-ID": "u"})
        is_error(reply, 401, path)
        check(reply.header("www-authenticate"), f"{path}: no WWW-Authenticate")
        equal(reply.header("x-request-id"), "u", "X-Request-ID")
    d.close()
    d = Deployment(POLICIES, caller="auditor").start()
    for path in FIVE:
        is_error(d.http("POST", path, GOOD[path]), 403, f"{path}: no role for it")
    d.close()


@test
def request_ids_are_echoed_on_success():
    for path in FIVE:
        for name in ("X-Request-ID", "x-request-id"):
            equal(post(path, GOOD[path], {name: "5f0c-17 /"}).header("x-request-id"), "5f0c-17 /", path)


# --- metadata ---------------------------------------------------------------------------------------

def check_metadata(reply, identifier, base):
    equal(reply.status, 200, f"status of {reply}")
    equal(reply.header("content-type"), "application/json", "Content-Type")
    check(re.match(r"max-age=\d+", reply.header("cache-control") or ""), f"Cache-Control: {reply.headers}")
    equal(reply.json["policy_decision_point"], identifier, "policy_decision_point")
    for name, path in (("access_evaluation", EVALUATE), ("access_evaluations", BATCH), ("search_subject", SUBJECTS),
                       ("search_resource", RESOURCES), ("search_action", ACTIONS)):
        equal(reply.json[f"{name}_endpoint"], base + path, name)
    equal(reply.json["supported_obligations"], ["step-up", "notification", "session_termination", "custom"],
          "supported_obligations")
    for name, value in reply.json.items():
        check(value not in (None, "", [], {}), f"{name} is empty")


@test
def metadata_name_what_the_client_used():
    d = server()
    for host in ("pdp.example.com", "PDP.example.com:8443", f"127.0.0.1:{d.tls_port}", "[::1]:9"):
        for path in ("", "/t7", "/a/b.c~d", "/", "/t%37"):
            reply = d.https("GET", WELL_KNOWN + path, headers={"Host": host})
            check_metadata(reply, f"https://{host}{path}", f"https://{host}")
    reply = d.https("HEAD", WELL_KNOWN)
    equal((reply.status, reply.body), (200, b""), "HEAD")
    is_error(d.https("GET", WELL_KNOWN + "x"), 404, "another path")
    is_error(d.https("GET", WELL_KNOWN + "/a%22b<"), (400, 404), "no path of a URL")


@test
def plain_listeners_have_no_https_url():
    message = is_error(server().http("GET", WELL_KNOWN), 404, "over plain HTTP")["message"]
    check("public_url" in message, f"does not say what to do: {message}")


@test
def a_configured_url_is_the_only_one():
    for url, base, path in (("https://pdp.example.com", "https://pdp.example.com", ""),
                            ("https://pdp.example.com/", "https://pdp.example.com", "/"),
                            ("https://pdp.example.com:444/t7", "https://pdp.example.com:444/t7", "/t7")):
        d = Deployment(POLICIES, config=f'public_url = "{url}"\n').start()
        for get in (d.http, d.https):
            check_metadata(get("GET", WELL_KNOWN + path), url, base)
            is_error(get("GET", WELL_KNOWN + path + "/else"), 404, "another identifier")
        d.close()


@test
def a_connection_serves_them_all():
    import http.client
    c = http.client.HTTPConnection("127.0.0.1", server().port, timeout=15)
    for _ in range(3):
        for path in FIVE:
            equal(exchange(c, "POST", path, GOOD[path]).status, 200, path)
            equal(exchange(c, "POST", path, "{").status, 400, path)
    c.close()


if __name__ == "__main__":
    main()
