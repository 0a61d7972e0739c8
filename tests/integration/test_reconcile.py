#!/usr/bin/env -S python3 -B
"""What PEPs saw is on record, and what is not is named."""
import json
import sqlite3

from harness import Deployment, check, equal, leaves, main, test

SINCE, UNTIL = "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"


@test
def answers_and_counts_are_compared_with_the_log():
    d = Deployment().start()
    d.register()
    answers = [d.evaluate("ledger/query").json for _ in range(1100)]  # more than a page
    answers += [d.evaluate("files/delete").json for _ in range(5)]
    answers += [d.evaluate("payments/create", {"amount": 501}).json]  # ask: denied, to a PEP
    pep = next(r["pep"] for _, r in leaves(d.export()).values() if r["kind"] == "authz.decision")

    def run(lines, code, as_json=True):
        path = d.write("seen.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        done = d.writ("audit", "reconcile", *(["--json"] if as_json else []), path, code=code)
        return json.loads(done.stdout) if as_json and done.stdout else done

    counter = {"counter": {"pep": pep, "since": SINCE, "until": UNTIL, "permitted": 1100, "denied": 6}}
    said = run(answers[::-1] + [counter], 0)
    equal((said["answers"], said["counters"], said["differences"]), (1106, 1, []), "whole")
    check("0 differences" in run(answers[:3], 0, False).stdout, "for people")

    # A denial that says itself that it is on no record is counted, and is no difference.
    equal(run([{"decision": False, "context": {"reason": "audit_unavailable"}}, answers[0]], 0)["unrecorded"], 1, "unrecorded")

    def changed(answer, **more):
        a = json.loads(json.dumps(answer))
        a["context"]["record"].update(more)
        return a
    leaf = answers[5]["context"]["record"]["leaf"]
    flipped = ("0" if leaf[0] != "0" else "1") + leaf[1:]
    seq = answers[5]["context"]["record"]["seq"]
    turned = dict(answers[1100], decision=True)
    wrong_counter = {"counter": dict(counter["counter"], permitted=1101, denied=5)}
    early = {"counter": dict(counter["counter"], until="2020-01-02T00:00:00Z")}
    stranger = {"counter": dict(counter["counter"], pep="spiffe://example.org/mesh/other", permitted=1, denied=0)}
    for what, lines, words in (
            ("another leaf", [changed(answers[5], leaf=flipped)], [f"record {seq}: is not what the PEP was told"]),
            ("another number", [changed(answers[5], seq=seq + 1)], [f"record {seq + 1}: is not what the PEP was told"]),
            ("behind the end", [changed(answers[5], seq=10 ** 6)], ["record 1000000: is not in the log"]),
            ("a denial enforced as permit", [turned], ["says deny, and the PEP was told permit"]),
            ("counts", [wrong_counter], ["counted 1101 permitted, and 1100", "counted 5 denied, and 6"]),
            ("another time", [early], ["counted 1100 permitted, and 0", "counted 6 denied, and 0"]),
            ("another pep", [stranger], ["counted 1 permitted, and 0"])):
        said = run(answers[:10] + lines, 1)["differences"]
        equal(len(said), len(words), f"{what}: {said}")
        for one, word in zip(said, words):
            check(word in one, f"{what}: {one}")

    for what, text, code, words in (
            ("nothing", "\n", 2, "nothing"), ("no JSON", "{\n", 1, "line 1"),
            ("no answer", '{"a":1}\n', 1, "line 1"), ("a permit on no record", '\n{"decision":true}\n', 1, "line 2"),
            ("half a counter", '{"counter":{"pep":"x"}}\n', 1, "a counter has"),
            ("times", json.dumps({"counter": dict(counter["counter"], since=UNTIL)}), 1, "in this order")):
        done = d.writ("audit", "reconcile", d.write("bad.jsonl", text), code=code)
        check(words in done.stderr, f"{what}: {done.stderr}")

    # A record that somebody changed in the file is not what the PEP was told.
    d.stop()
    with sqlite3.connect(d.data + "/log.db") as db:
        db.execute("DROP TRIGGER leaf_update")
        db.execute("UPDATE leaf SET body = CAST(replace(CAST(body AS TEXT), '\"decision\":\"permit\"', '\"decision\":\"deny\"')"
                   " AS BLOB) WHERE seq = ?", (seq,))
    db.close()
    d.start()
    said = run(answers, 1)["differences"]
    equal(len(said), 1, f"differences: {said}")
    check(f"record {seq}: is not what" in said[0], said[0])
    d.close()


main()
