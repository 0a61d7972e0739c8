#!/usr/bin/env -S python3 -B
"""Erasure: what is erased is in no file any more, and the log proves itself as before."""
import json
import os
import sqlite3
import time

from harness import AGENT, Deployment, check, equal, is_error, leaves, main, test

SECRET = "very-personal-iban-de89370400440532013000"


def deployment(**more):
    d = Deployment(**more).start()
    d.register()
    return d


def ask(d, to=SECRET, user=None, **more):
    if user:
        more["context"] = {"agent": AGENT, "approver": user}
    reply = d.evaluate("payments/create", {"amount": 5, "to": to}, **more).json
    check(reply["decision"], f"{reply}")
    return reply["context"]


def places(d, secret):
    """The files of the data folder in which @secret is."""
    found = []
    for folder, _, names in os.walk(d.data):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                with open(path, "rb") as f:
                    if secret.encode() in f.read():
                        found.append(name)
    return found


def openings(path):
    with open(path, encoding="utf-8") as f:
        return {(o["seq"], o["name"]) for o in (json.loads(line)["opening"] for line in f if line.startswith('{"opening"'))}


def verdict(d, path):
    done = d.writ("audit", "verify", "--json", "--key", d.log_key(), path, code=0)
    return json.loads(done.stdout)["redaction"]


@test
def what_is_erased_is_in_no_file():
    d = deployment()
    c = ask(d)
    ask(d, to="somebody-else")
    check("log.db-wal" in places(d, SECRET), f"the test looks in the wrong place: {places(d, SECRET)}")
    before = d.export("before.jsonl")
    equal(verdict(d, before), "none", "redaction before")
    report = d.path("report.json")
    os.mkfifo(d.path("pipe"))
    for place in (d.path("pipe"), d.path("none", "report.json")):  # erasing is not done again for a report
        done = d.writ("audit", "redact", "--record", c["evaluation_id"], "--reason", "x", "--report", place, code=1)
        check(place in done.stderr and places(d, SECRET), f"erased without a place for the report: {done.stderr}")
    done = d.writ("audit", "redact", "--record", c["evaluation_id"], "--reason", "case 4711", "--basis", "gdpr-17",
                  "--report", report, code=0)
    check("erased 2 openings of 1 records" in done.stdout, done.stdout)
    equal(places(d, SECRET), [], "files that hold what was erased, while the server runs")
    after = d.export("after.jsonl")
    equal(verdict(d, after), "some", "redaction after")
    records, old = leaves(after), leaves(before)
    check(all(records[seq][0] == line for seq, (line, _) in old.items()), "a record changed")
    equal({o for o in openings(before) if o not in openings(after)},
          {(c["record"]["seq"], "facts"), (c["record"]["seq"], "input")}, "what is gone")
    redact = [r for _, r in records.values() if r["kind"] == "log.redact"]
    equal([(r["records"], r["count"], r["fields"], r["basis"]) for r in redact],
          [(str(c["record"]["seq"]), 1, "answer,facts,input", "gdpr-17")], "record of the erasure")
    check(redact[0]["pep"] and "4711" not in json.dumps(redact[0]), f"{redact[0]}")

    # The report says it, and proves that the record of it is in the log.
    with open(report, encoding="utf-8") as f:
        said = json.load(f)
    equal((said["records"], said["openings"], said["reason"], said["forgotten"]), (1, 2, "case 4711", True), "report")
    equal([r["seq"] for r in said["redactions"]], [redact[0]["seq"]], "redactions in the report")
    equal(said["vkey"], d.log_key(), "key in the report")
    for proof in said["proofs"]:
        path = d.write("one.tlog-proof", proof)
        d.writ("audit", "verify", "--key", d.log_key(), path, code=0)
    check(said["not_reached"], "the report does not say what it could not reach")

    # Again: nothing is left, and nothing is recorded.
    done = d.writ("audit", "redact", "--record", c["evaluation_id"], "--reason", "again", "--json", code=0)
    equal(json.loads(done.stdout)["records"], 0, "records erased again")
    # The commitment and the proofs are still there.
    reply = d.admin("GET", f"/v1/audit/proof?id={c['evaluation_id']}&record=yes").json
    check("input_commit" in reply["record"], f"{reply}")
    d.restart()
    equal(places(d, SECRET), [], "files that hold what was erased, after a restart")
    d.stop()
    said = d.writ("policy", "replay", code=0).stdout
    check("computed again: 1," in said and "so not computed again: 1" in said, said)
    d.close()


@test
def a_large_opening_leaves_no_trace_either():
    d = deployment()
    c = ask(d, to=" ".join(f"{SECRET}-{n:05d}" for n in range(4000)))  # many overflow pages
    for n in range(50):
        ask(d, to=f"other-{n}")
    d.admin("POST", "/v1/audit/redact", {"records": [c["record"]["seq"]], "fields": ["args.to"], "reason": "x"})
    equal(places(d, SECRET), [], "files that hold what was erased")
    check(places(d, "other-49"), "everything is gone")
    d.close()


@test
def a_field_goes_with_its_opening():
    d = deployment()
    for fields, gone in ((["args.to"], {"input"}), (["facts"], {"facts"}), (["context.x", "agent.owner"], {"input", "facts"})):
        c = ask(d)
        reply = d.admin("POST", "/v1/audit/redact", {"records": [c["evaluation_id"]], "fields": fields, "reason": "x"})
        equal(reply.status, 200, f"{fields}: {reply}")
        equal(set(reply.json["fields"]), gone, f"{fields}: what it says")
        left = {name for seq, name in openings(d.export()) if seq == c["record"]["seq"]}
        equal(left, {"input", "facts"} - gone, f"{fields}: what is left")
    d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)
    d.close()


@test
def a_person_is_erased_everywhere():
    d = deployment()
    hers, others = [], []
    for n in range(600):  # more than one step, and more than one record can name
        (hers if n % 2 else others).append(ask(d, to=f"p-{n}", user="eve@example.org" if n % 2 else "bob@example.org"))
    mentioned = ask(d, to="for eve@example.org only")  # not the whole of a text
    done = d.writ("audit", "redact", "--person", "eve@example.org", "--reason", "case 1", "--json", code=0)
    said = json.loads(done.stdout)
    equal((said["records"], said["forgotten"]), (300, True), "erased")
    check(len(said["redactions"]) > 1, f"{said}")
    path = d.export()
    left = {seq for seq, _ in openings(path)}
    check(not left & {c["record"]["seq"] for c in hers}, "some of hers are left")
    check({c["record"]["seq"] for c in others} <= left, "some of the others' are gone")
    check(mentioned["record"]["seq"] in left, "what only mentions her is gone")
    # Every number that is named was hers, and all of hers are named.
    named = set()
    for r in (r for _, r in leaves(path).values() if r["kind"] == "log.redact"):
        part = set()
        for one in r["records"].split(","):
            first, _, last = one.partition("-")
            part |= set(range(int(first), int(last or first) + 1))
        equal(len(part), r["count"], "count of a log.redact")
        named |= part
    equal(named, {c["record"]["seq"] for c in hers}, "named records")
    # Her name is nowhere but where it is only mentioned.
    check(not any("eve@example.org" in json.dumps(r) for _, r in leaves(path).values()), "she is named in a record")
    d.writ("audit", "verify", "--key", d.log_key(), path, code=0)
    d.close()


@test
def an_agent_is_erased_within_a_time():
    d = deployment()
    other = AGENT.replace("finance-1", "finance-2")
    d.register(other)
    mine, theirs = ask(d), ask(d, agent=other)
    reply = d.admin("POST", "/v1/audit/redact", {"agent": AGENT, "until": "2020-01-01T00:00:00Z", "reason": "x"})
    equal(reply.json["records"], 0, "records before the log began")
    d.writ("audit", "redact", "--agent", AGENT, "--since", "1h", "--reason", "x", code=0)
    left = {seq for seq, _ in openings(d.export())}
    check(mine["record"]["seq"] not in left and theirs["record"]["seq"] in left, f"left: {left}")
    d.close()


@test
def what_is_too_old_goes_but_for_what_is_held():
    d = deployment()
    asked = [ask(d, to=f"{SECRET}-{n}") for n in range(20)]
    held = asked[7]["record"]["seq"]
    d.writ("audit", "hold", "add", "--from", str(held), "--to", str(held + 1), "--reason", "court", code=0)
    is_error(d.admin("POST", "/v1/audit/redact", {"all": True, "reason": "x"}), 400, "all of it")
    reply = d.admin("POST", "/v1/audit/redact", {"all": True, "until": "2020-01-01T00:00:00Z", "reason": "x"})
    equal((reply.status, reply.json["records"]), (200, 0), "before the log began")
    now = d.admin("GET", f"/v1/audit/records?from={asked[-1]['record']['seq']}&limit=1").json["records"][0]["time"]
    while time.time() * 1000 <= now + 2:  # what follows is later by the log's clock
        pass
    last = ask(d, to="stays")["record"]["seq"]
    done = d.admin("POST", "/v1/audit/redact", {"all": True, "until": now + 1, "reason": "retention"})
    equal(done.json["held"], 1, f"held ({done})")
    left = {seq for seq, _ in openings(d.export())}
    check({held, last} <= left and not left & {c["record"]["seq"] for c in asked if c["record"]["seq"] != held}, f"{left}")
    said = d.writ("audit", "redact", "--all", "--until", "2100-01-01T00:00:00Z", "--reason", "retention", code=0).stdout
    check("1 records are under a legal hold and stay" in said, said)
    check(places(d, SECRET + "-7") and not places(d, SECRET + "-8"), "what is left")
    d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)
    d.close()


@test
def reports_go_with_their_decision():
    d = deployment()
    c = ask(d)
    body = {"evaluation_id": c["evaluation_id"], "outcome": "failure", "detail": "refused by " + SECRET}
    equal(d.http("POST", "/v1/audit/outcome", body).json["repeated"], False, "repeated")
    d.writ("audit", "redact", "--record", c["evaluation_id"], "--reason", "x", code=0)
    equal(places(d, SECRET), [], "files")
    error = is_error(d.http("POST", "/v1/audit/outcome", body), 409)
    check("were erased" in error["message"], f"{error}")
    d.close()


@test
def a_hold_stops_an_erasure():
    d = deployment()
    first, second = ask(d), ask(d)
    done = d.writ("audit", "hold", "add", "--from", str(second["record"]["seq"]), "--reason", "court 12 O 7/26", code=0)
    check("hold 1 is on" in done.stdout, done.stdout)
    listed = d.writ("audit", "hold", "list", code=0).stdout
    check("court 12 O 7/26" in listed and str(second["record"]["seq"]) in listed, listed)
    done = d.writ("audit", "redact", "--agent", AGENT, "--reason", "x", code=1)
    check(f"record {second['record']['seq']} is under legal hold 1 (court" in done.stderr, done.stderr)
    check("input" in {n for s, n in openings(d.export()) if s == first["record"]["seq"]}, "something was erased")
    d.writ("audit", "redact", "--record", first["evaluation_id"], "--reason", "x", code=0)  # not held
    d.restart()
    error = is_error(d.admin("POST", "/v1/audit/redact", {"records": [second["evaluation_id"]], "reason": "x"}), 409)
    equal(error["code"], "legal_hold", "code")
    d.writ("audit", "hold", "remove", "1", code=2)  # no reason
    for words in (["ad"], ["add", "1"], ["remove"], ["remove", "one"], ["list", "1"]):
        said = d.writ("audit", "hold", *words, code=2).stderr
        check("expected add, list, or remove and the number" in said, f"{words}: {said}")
    d.writ("audit", "hold", "remove", "2", "--reason", "x", code=1)
    d.writ("audit", "hold", "remove", "1", "--reason", "settled", code=0)
    d.writ("audit", "redact", "--record", second["evaluation_id"], "--reason", "x", code=0)
    acts = [r["act"] for _, r in leaves(d.export()).values() if r.get("act", "").startswith("hold.")]
    equal(acts, ["hold.add", "hold.remove"], "acts on record")
    d.close()


@test
def what_makes_no_sense_is_refused():
    d = deployment()
    seq = ask(d)["record"]["seq"]
    for what, body, status, code in (
            ("nothing", {"reason": "x"}, 400, "invalid_request"),
            ("two things", {"records": [seq], "agent": AGENT, "reason": "x"}, 400, "invalid_request"),
            ("no reason", {"records": [seq]}, 400, "invalid_request"),
            ("no such field", {"records": [seq], "fields": ["password"], "reason": "x"}, 400, "invalid_request"),
            ("no fields", {"records": [seq], "fields": [], "reason": "x"}, 400, "invalid_request"),
            ("no such record", {"records": [10 ** 9], "reason": "x"}, 404, "unknown_record"),
            ("another log's", {"records": [f"ev_00000000_{seq}"], "reason": "x"}, 404, "unknown_evaluation"),
            ("negative", {"records": [-1], "reason": "x"}, 400, "invalid_request"),
            ("basis", {"records": [seq], "basis": "Art. 17", "reason": "x"}, 400, "invalid_request"),
            ("time", {"agent": AGENT, "since": "yesterday", "reason": "x"}, 400, "invalid_request"),
            ("misspelt", {"record": [seq], "reason": "x"}, 400, "unknown_member")):
        equal(is_error(d.admin("POST", "/v1/audit/redact", body), status, what)["code"], code, f"{what}: code")
    for what, body in (("no condition", {"reason": "x"}), ("all and one", {"all": True, "from": 1, "reason": "x"}),
                       ("no reason", {"all": True})):
        is_error(d.admin("POST", "/v1/audit/holds", body), 400, what)
    d.writ("audit", "redact", "--reason", "x", code=2)
    d.writ("audit", "redact", "--record", "1", "--agent", AGENT, "--reason", "x", code=2)
    d.writ("audit", "redact", "--record", "1", code=2)
    check("input" in {n for s, n in openings(d.export()) if s == seq}, "something was erased")
    # Nobody who does not say who he is, and nobody at the agents' door.
    is_error(d.operators("POST", "/v1/audit/redact", {"records": [seq], "reason": "x"}), 401)
    is_error(d.operators("POST", "/v1/audit/holds", {"all": True, "reason": "x"}), 401)
    is_error(d.http("POST", "/v1/audit/redact", {"records": [seq], "reason": "x"}), 404)
    equal(d.admin("GET", "/v1/audit/holds").json, {"holds": []}, "holds")
    d.close()


@test
def a_reader_delays_and_does_not_prevent():
    d = deployment()
    c = ask(d)
    reader = sqlite3.connect(f"file:{d.data}/log.db?mode=ro", uri=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM leaf").fetchone()
    done = d.writ("audit", "redact", "--record", c["evaluation_id"], "--reason", "x", code=0)
    check("a reader keeps" in done.stdout, done.stdout)
    check(places(d, SECRET), "a reader kept nothing: this test tests nothing")
    reader.close()
    end = time.monotonic() + 20
    while places(d, SECRET) and time.monotonic() < end:
        time.sleep(0.1)
    equal(places(d, SECRET), [], "files, after the reader has ended")
    d.close()


main()
