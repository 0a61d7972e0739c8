#!/usr/bin/env -S python3 -B
"""Exports for other systems: every format, over the command line and over HTTP, row by row against the log."""
import csv
import hashlib
import io
import json

from harness import AGENT, Deployment, check, equal, is_error, leaves, main, test

shared = None


def server():
    global shared
    if shared is None:
        shared = Deployment().start()
        shared.register()
        for n in range(10):
            shared.evaluate("payments/create", {"amount": n * 100, "to": "=HYPERLINK(1)"})
            shared.evaluate("files/delete")
    return shared


def read(path):
    with open(path, "rb") as f:
        return f.read()


def leaf_hash(line):
    return hashlib.sha256(b"\0" + line).hexdigest()


def both(fmt):
    """The log as @fmt, and the records it was made of."""
    d = server()
    rows = read(d.export("rows." + fmt, "--format", fmt))
    return rows, leaves(d.export("rows.jsonl"))


@test
def csv_has_a_row_for_each_record():
    text, records = both("csv")
    check(text.count(b"\r\n") >= len(text.splitlines()) - 1, "line ends")
    rows = list(csv.DictReader(io.StringIO(text.decode(), newline="")))
    equal([int(r["index"]) for r in rows], list(range(len(rows))), "indexes")
    for r in rows:
        line, record = records[int(r["index"])]
        equal(r["leaf_hash"], leaf_hash(line), "leaf hash")
        equal((r["kind"], r["decision"]), (record["kind"], record.get("decision", "")), "cells")
        equal(list(r)[0], "index", "first column")
        equal(list(r)[-1], "leaf_hash", "last column")


@test
def every_json_format_carries_index_and_leaf_hash():
    for fmt, place in (("ocsf", lambda v: (v["unmapped"]["writ"]["index"], v["unmapped"]["writ"]["leaf_hash"])),
                       ("cloudevents", lambda v: (v["logindex"], v["leafhash"])),
                       ("otlp", otlp_place)):
        text, records = both(fmt)
        lines = text.splitlines()
        check(len(lines) > 20, f"{fmt}: {len(lines)} lines")
        for n, line in enumerate(lines):
            equal(place(json.loads(line)), (str(n), leaf_hash(records[n][0])), f"{fmt}: place of line {n}")


def otlp_place(v):
    record, = v["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    attributes = {a["key"]: a["value"] for a in record["attributes"]}
    return attributes["writ.log.index"]["intValue"], attributes["writ.log.leaf_hash"]["stringValue"]


@test
def cef_lines_stay_lines():
    text, records = both("cef")
    lines = text.decode().splitlines()
    for n, line in enumerate(lines):
        check(line.startswith("CEF:0|writ|writ|"), line)
        check(f" cs2Label=leafHash cs2={leaf_hash(records[n][0])} " in line, line)
    check(any("|authz.decision|Tool call denied|4|" in line for line in lines), "no denial")


@test
def nothing_foreign_is_in_them():
    for fmt in ("csv", "cef", "ocsf", "otlp", "cloudevents"):
        check(b"HYPERLINK" not in both(fmt)[0], fmt)


@test
def filters_leave_rows_out():
    d = server()
    text = read(d.export("denials.csv", "--format", "csv", "--decision", "deny"))
    rows = list(csv.DictReader(io.StringIO(text.decode(), newline="")))
    equal({r["decision"] for r in rows}, {"deny"}, "decisions")
    equal({r["agent"] for r in rows}, {AGENT}, "agents")
    equal(len(rows), 10, "denials")


@test
def over_http():
    d = server()
    for fmt, media in (("csv", "text/csv"), ("ocsf", "application/x-ndjson"), ("cef", "text/plain")):
        r = d.admin("GET", f"/v1/audit/export?format={fmt}&from=2&to=5")
        equal(r.status, 200, fmt)
        check(r.header("Content-Type").startswith(media), r.header("Content-Type"))
        equal(len(r.body.splitlines()), 3 + (fmt == "csv"), f"{fmt}: lines")
    e = is_error(d.admin("GET", "/v1/audit/export?format=xml"), 400)
    check("jsonl, csv, cef, ocsf, otlp or cloudevents" in e["message"], e["message"])
    is_error(d.admin("GET", "/v1/audit/export?format=csv&openings=yes"), 400)
    is_error(d.admin("GET", "/v1/audit/export?format=csv&from=999999"), 404)
    is_error(d.admin("GET", "/v1/audit/export?format=csv&offset=-1"), 400)
    equal(d.http("GET", "/v1/audit/export?format=csv").status, 404, "at the agents' door")


@test
def the_same_range_goes_on_anywhere():
    d = server()
    for fmt in ("jsonl", "csv", "otlp"):
        path = f"/v1/audit/export?format={fmt}&from=1&to=15"
        whole = d.admin("GET", path).body
        equal(d.admin("GET", path).body, whole, f"{fmt}: again")
        for offset in (0, 1, 700, len(whole) - 1, len(whole)):
            equal(d.admin("GET", f"{path}&offset={offset}").body, whole[offset:], f"{fmt}: from byte {offset}")


@test
def an_export_is_on_record_with_what_was_asked_for():
    d = server()
    d.admin("GET", "/v1/audit/export?format=cef&from=1&to=3&decision=deny&agent=" + AGENT)
    records = [r for _, r in leaves(d.export("acts.jsonl")).values() if r["kind"] == "log.export"]
    mine = [r for r in records if r.get("format") == "cef" and r.get("to") == 3]
    equal(len(mine), 1, "records")
    equal((mine[0]["from"], mine[0]["filter_decision"], mine[0]["filter_agent"], mine[0]["openings"]),
          (1, "deny", AGENT, 0), "record")


if __name__ == "__main__":
    main()
