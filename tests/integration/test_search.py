#!/usr/bin/env -S python3 -B
"""Search over the log: what is found, in which order, page by page, by whom, and with no index at all."""
import json
import os
import re
import time

from harness import AGENT, Deployment, check, equal, is_error, main, test

OTHER = "spiffe://example.org/agent/other-1"
SERVER = None
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def server():
    """One deployment with a history: two agents, permits and denials, one of them traced."""
    global SERVER
    if SERVER is None:
        d = SERVER = Deployment().start()
        d.register()
        d.register(OTHER)
        for i in range(30):
            d.evaluate(agent=AGENT if i % 3 else OTHER, tool="ledger/query" if i % 2 else "no/such")
        d.evaluate(headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    return SERVER


def get(d, query="", status=200):
    reply = d.admin("GET", "/v1/audit/records" + query)
    equal(reply.status, status, f"{query}: {reply}")
    return reply.json


def pages(d, query, limit):
    """All records of a search, @limit at a time."""
    found, page = [], ""
    for _ in range(1000):
        answer = get(d, f"?limit={limit}&{query}{page}")
        check(len(answer["records"]) <= limit, f"{len(answer['records'])} records on a page")
        found += answer["records"]
        if "next_page" not in answer:
            return found
        page = "&page=" + answer["next_page"]
    raise AssertionError("pages without end")


def everything(d):
    return get(d, "?limit=1000&order=oldest")["records"]


def indexed(d, seconds=20):
    """Wait until the index is behind the log by nothing."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        index = d.admin("GET", "/v1/status").json["index"]
        if index["lag"] == 0 and index["indexed"] > 0:
            return index
        time.sleep(0.05)
    raise AssertionError(f"the index does not catch up: {index}")


@test
def what_is_found_is_what_a_walk_finds():
    d = server()
    records = everything(d)
    queries = {
        f"agent={AGENT}": lambda r: r.get("agent") == AGENT,
        f"agent={OTHER}&decision=deny": lambda r: r.get("agent") == OTHER and r.get("decision") == "deny",
        "decision=permit": lambda r: r.get("decision") == "permit",
        "tool=ledger/query": lambda r: r.get("tool") == "ledger/query",
        "reason=unknown_tool": lambda r: r.get("reason") == "unknown_tool",
        "kind=authz.*": lambda r: r["kind"].startswith("authz."),
        "kind=log.open": lambda r: r["kind"] == "log.open",
        "generation=1&decision=permit": lambda r: r.get("generation") == 1 and r.get("decision") == "permit",
        f"trace_id={TRACE}": lambda r: r.get("trace_id") == TRACE,
        "agent=spiffe://example.org/nobody": lambda r: False,
        "action=tools/call&from=10&to=20": lambda r: r.get("action") == "tools/call" and 10 <= r["seq"] < 20,
        f"since={records[9]['time']}&until={records[20]['time']}&decision=deny":
            lambda r: records[9]["time"] <= r["time"] < records[20]["time"] and r.get("decision") == "deny",
    }
    last = records[-1]["seq"]
    for query, wanted in queries.items():
        want = [r["seq"] for r in records if wanted(r)]
        check(want or "nobody" in query, f"the test's own history has nothing for {query}")
        for limit in (1000, 3):
            seen = [r["seq"] for r in pages(d, query + "&order=oldest", limit) if r["seq"] <= last]
            equal(seen, want, f"{query}, oldest first, {limit} at a time")
            seen = [r["seq"] for r in pages(d, query + "&order=newest", limit) if r["seq"] <= last]
            equal(seen, want[::-1], f"{query}, newest first, {limit} at a time")
    rule = next(r["rule"] for r in records if r.get("rule"))
    found = get(d, "?rule=" + rule.replace(" ", "%20"))["records"]
    check(found and all(r["rule"] == rule for r in found), f"rule {rule}: {found[:2]}")


@test
def the_order_is_said():
    d = server()
    newest = get(d, "?limit=1")
    equal(newest["order"], "newest", "without a place to begin")
    equal(newest["records"][0]["seq"], newest["size"] - 1, "the newest")
    equal(get(d, "?limit=1&order=oldest")["records"][0]["seq"], 0, "the oldest")
    placed = get(d, "?limit=2&after=4")
    equal((placed["order"], [r["seq"] for r in placed["records"]], placed["next"]), ("oldest", [5, 6], 6), "after")
    equal([r["seq"] for r in get(d, "?limit=2&from=4&to=9&order=newest")["records"]], [8, 7], "from, newest first")


@test
def a_page_token_is_good_for_its_search_only():
    d = server()
    token = get(d, "?limit=2&decision=deny")["next_page"]
    check(len(get(d, f"?limit=5&decision=deny&page={token}")["records"]) == 5, "another limit is no other search")
    for query in (f"?decision=permit&page={token}", f"?page={token}", f"?decision=deny&order=oldest&page={token}",
                  f"?decision=deny&page={token[:-2]}", "?page=AAAA", "?page="):
        equal(is_error(d.admin("GET", "/v1/audit/records" + query), 400, query)["code"], "invalid_page_token", query)
    for query in ("decision=allow", "generation=x", "agent=", "order=up", "limit=0", "since=yesterday", "agnet=x",
                  "tool=a&tool=b", "tool=%ff", "from=-1"):
        is_error(d.admin("GET", "/v1/audit/records?" + query), 400, query)


@test
def who_searched_is_on_record_once():
    d = server()
    query = "?reason=no_rule&kind=authz.decision"
    before = [r for r in everything(d) if r["kind"] == "log.search"]
    for _ in range(5):
        get(d, query)
    after = [r for r in everything(d) if r["kind"] == "log.search"]
    equal(len(after), len(before) + 1, "five times the same search")
    shown = d.writ("audit", "show", str(after[-1]["seq"]), "--json", code=0)
    equal(json.loads(shown.stdout)["openings"]["input"],
          {"search": {"kind": "authz.decision", "reason": "no_rule"}}, "what was searched for")
    check(after[-1]["pep"].startswith("unix:"), f"who: {after[-1]}")
    check("no_rule" not in json.dumps(after[-1]), "what is searched for is in the opening, not in the record")
    size = d.admin("GET", "/v1/status").json["audit"]["size"]
    for _ in range(10):
        get(d, "?after=0")
    equal(d.admin("GET", "/v1/status").json["audit"]["size"], size, "reading does not feed on itself")


@test
def a_record_is_shown_with_what_it_was_decided_from():
    d = server()
    answer = d.evaluate(args={"account": "q-17"}, context={"purpose": "month end"}).json
    evaluation = answer["context"]["evaluation_id"]
    seq = answer["context"]["record"]["seq"]
    reply = d.admin("GET", "/v1/audit/record?id=" + evaluation).json
    equal((reply["id"], reply["leaf"]), (evaluation, answer["context"]["record"]["leaf"]), "which record")
    equal(reply["record"]["agent"], AGENT, "agent")
    check("month end" in json.dumps(reply["openings"]["input"]), f"input: {reply['openings']}")
    equal(reply["erased"], [], "erased")
    text = d.writ("audit", "show", evaluation, code=0).stdout
    for said in (evaluation, AGENT, "asked by", "month end", "decision", "generation"):
        check(said in text, f"show does not say {said}: {text}")
    shows = [r for r in everything(d) if r["kind"] == "log.show" and r["record"] == seq]
    equal(len(shows), 2, "both looks are on record")
    for query, status in (("", 400), ("?seq=x", 400), ("?seq=99999999", 404), ("?id=ev_00000000_1", 404),
                          (f"?id={evaluation}&seq=1", 400), ("?id=17", 400), ("?nonsense=1", 400)):
        is_error(d.admin("GET", "/v1/audit/record" + query), status, query)
    is_error(d.http("GET", "/v1/audit/record?seq=1"), 404, "at the agents' door")
    is_error(d.operators("GET", "/v1/audit/record?seq=1"), 401, "without a caller")


@test
def search_on_the_command_line():
    d = server()
    lines = d.writ("audit", "search", "--agent", OTHER, "--decision", "deny", "--since", "1h", code=0).stdout
    want = [r for r in everything(d) if r.get("agent") == OTHER and r.get("decision") == "deny"]
    check(want and len(lines.splitlines()) == len(want), lines)
    for line in lines.splitlines():
        check(re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\S+Z deny {OTHER} tools/call \S+ \S+ \S+ ev_[0-9a-f]{{8}}_\d+", line), line)
    first = d.writ("audit", "search", "--oldest", "--limit", "1", "--json", code=0)
    equal(json.loads(first.stdout)["seq"], 0, "--oldest")
    check("more" in first.stderr, first.stderr)
    check("--limit" in d.writ("audit", "search", "--limit", "0", code=2).stderr, "--limit 0")
    check("decision must be" in d.writ("audit", "search", "--decision", "allow", code=1).stderr, "--decision allow")
    done = d.writ("audit", "search", "--tool", "no/such", code=0)
    equal((done.stdout, done.stderr), ("", "No record is like that.\n"), "a search without a find")


@test
def the_index_is_made_anew():
    d = server()
    indexed(d)
    rebuilds = d.admin("GET", "/v1/status").json["index"]["rebuilds"]
    d.writ("audit", "reindex", code=0)
    end = time.monotonic() + 20
    while d.admin("GET", "/v1/status").json["index"]["rebuilds"] == rebuilds and time.monotonic() < end:
        time.sleep(0.05)
    index = indexed(d)
    equal(index["rebuilds"], rebuilds + 1, "rebuilds")
    check(any(r.get("act") == "log.reindex" for r in everything(d)), "it is on record")
    metrics = d.operators("GET", "/metrics").body.decode()
    check(re.search(r"^writ_index_records \d+$", metrics, re.M) and "writ_index_lag_records" in metrics, metrics[:400])
    check("index.indexed: " in d.writ("status", code=0).stdout, "status")


@test
def whatever_happens_to_the_file_the_answer_is_the_same():
    d = Deployment().start()
    d.register()
    for i in range(20):
        d.evaluate(tool="ledger/query" if i % 2 else "no/such")
    want = [r["seq"] for r in pages(d, "decision=deny", 1000)]
    check(len(want) == 10, repr(want))
    path = os.path.join(d.data, "index.db")

    def lose():
        for end in ("", "-wal", "-shm"):
            if os.path.exists(path + end):
                os.unlink(path + end)

    def spoil():
        lose()
        with open(path, "wb") as f:
            f.write(b"not a database, and long enough to be read as one" * 100)
        os.chmod(path, 0o600)

    def cut():
        os.truncate(path, os.path.getsize(path) // 2)

    for damage in (lose, spoil, cut):
        indexed(d)
        d.stop()
        damage()
        d.start()
        equal([r["seq"] for r in pages(d, "decision=deny", 1000)], want, f"after {damage.__name__}, at once")
        indexed(d)
        equal([r["seq"] for r in pages(d, "decision=deny", 1000)], want, f"after {damage.__name__}, indexed")
    # Under it while it runs.
    indexed(d)
    lose()
    equal([r["seq"] for r in pages(d, "decision=deny", 1000)], want, "lost while it runs")
    d.evaluate(tool="no/such")
    indexed(d)
    check(os.path.exists(path), "it is there again")
    equal(len(pages(d, "decision=deny", 1000)), len(want) + 1, "found again")
    # It cannot be made: that is said, and nothing else suffers.
    lose()
    os.mkdir(path)
    end = time.monotonic() + 20
    while "why" not in (index := d.admin("GET", "/v1/status").json["index"]) and time.monotonic() < end:
        time.sleep(0.05)
    check("tried again" in index["why"], repr(index))
    equal(d.evaluate().json["decision"], True, "a decision")
    equal(len(pages(d, "decision=deny", 1000)), len(want) + 1, "a search")
    os.rmdir(path)
    indexed(d)
    check(os.path.isfile(path), "it is there again")
    d.close()


@test
def killed_at_any_moment_it_goes_on():
    d = Deployment().start()
    d.register()
    sent = 0
    for _ in range(8):
        for i in range(40):
            d.evaluate(tool="ledger/query" if i % 2 else "no/such")
            sent += 1
        d.kill()
        d.start()
    index = indexed(d)
    equal(index["rebuilds"], 0, "what was indexed is not indexed again")
    records = everything(d)
    equal(len([r for r in records if r["kind"] == "authz.decision"]), sent, "decisions")
    for query in ("decision=deny", f"agent={AGENT}&decision=permit"):
        want = [r["seq"] for r in records if all(str(r.get(k)) == v for k, v in (p.split("=", 1) for p in query.split("&")))]
        equal([r["seq"] for r in pages(d, query + "&order=oldest", 100)], want, query)
    d.close()


if __name__ == "__main__":
    main()
