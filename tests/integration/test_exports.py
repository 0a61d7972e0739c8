#!/usr/bin/env -S python3 -B
"""Exports for other systems: every format, over the command line and over HTTP, row by row against the log."""
import contextlib
import csv
import hashlib
import io
import json
import os
import socket
import threading

from harness import AGENT, Deployment, call, check, equal, is_error, leaves, main, test

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


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@test
def sep_3004_is_one_chain_that_a_stranger_computes():
    text, records = both("sep-3004")
    previous = None
    for n, line in enumerate(text.splitlines()):
        row = json.loads(line)
        equal(canonical(row), line, f"line {n}")
        equal(row["previous_hash"], previous, f"line {n}: previous_hash")
        previous = row.pop("event_hash")
        equal(hashlib.sha256(canonical(row)).hexdigest(), previous, f"line {n}: event_hash")
        equal(row["extensions"]["writ"]["index"], str(n), "index")
        equal(row["extensions"]["writ"]["leaf_hash"], leaf_hash(records[n][0]), "leaf hash")


@test
def agent_audit_trail_is_one_session():
    text, records = both("aat")
    lines = text.splitlines()
    equal(len(lines), len(records) + 1, "lines")
    equal(len({json.loads(line)["session_id"] for line in lines}), 1, "sessions")
    equal(len({json.loads(line)["record_id"] for line in lines}), len(lines), "record ids")
    for n, line in enumerate(lines):
        row = json.loads(line)
        equal(canonical(row), line, f"line {n}")
        equal(row["prev_hash"], hashlib.sha256(lines[n - 1]).hexdigest() if n else None, f"line {n}: prev_hash")
        if n:
            equal(row["action_detail"]["leaf_hash"], leaf_hash(records[n - 1][0]), "leaf hash")
            check(row["outcome"] != "denied" or row["action_type"] != "decision" or
                  row["record_phase"] == "pre_execution", line)


@test
def chains_are_for_whole_files():
    d = server()
    for fmt in ("sep-3004", "aat"):
        done = d.writ("audit", "export", "--follow", "--format", fmt)
        equal(done.returncode, 2, fmt)
        check("chains the rows of one whole file" in done.stderr, done.stderr)


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
    for fmt in ("csv", "cef", "ocsf", "otlp", "cloudevents", "sep-3004", "aat"):
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
    check("jsonl, csv, cef, ocsf, otlp, cloudevents, sep-3004 or aat" in e["message"], e["message"])
    is_error(d.admin("GET", "/v1/audit/export?format=csv&openings=yes"), 400)
    is_error(d.admin("GET", "/v1/audit/export?format=csv&from=999999"), 404)
    is_error(d.admin("GET", "/v1/audit/export?format=csv&offset=-1"), 400)
    equal(d.http("GET", "/v1/audit/export?format=csv").status, 404, "at the agents' door")


@test
def the_same_range_goes_on_anywhere():
    d = server()
    for fmt in ("jsonl", "csv", "otlp", "aat"):
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


@test
def the_header_of_an_export_is_proven_by_its_record():
    """Filters and range stand outside the tree: the record of the export signs them."""
    d = server()
    path = d.export("manifest.jsonl", "--decision", "deny")
    digest = hashlib.sha256(read(path).split(b"\n")[0]).hexdigest()
    later = leaves(d.export("later.jsonl"))
    mine = [r for _, r in later.values() if r["kind"] == "log.export" and r.get("header") == digest]
    equal([r["filter_decision"] for r in mine], ["deny"], "record")
    header = json.loads(read(path).split(b"\n")[0])["header"]
    check(header["first"] + header["count"] <= mine[0]["seq"], "the header knew its own record")
    receipt = d.path("export.tlog-proof")
    d.writ("audit", "prove", str(mine[0]["seq"]), "--output", receipt, code=0)
    d.writ("audit", "verify", "--key", d.log_key(), receipt, code=0)
    check(all("header" not in r for _, r in later.values() if r.get("format") == "csv"), "a header without a header")
    is_error(d.admin("GET", "/v1/audit/export?from=99999999"), 404)


class CuttingProxy:
    """Stands before the admin socket, and hangs up after so many bytes of an answer to an export."""

    def __init__(self, d, path):
        self.path, self.cut, self.requests = path, None, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.upstream = d.admin_socket
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
                self.serve(client, server)

    def serve(self, client, server):
        server.connect(self.upstream)
        request = client.recv(65536)
        self.requests.append(request.split(b"\r\n")[0].decode())
        server.sendall(request)
        left = self.cut if b"/export" in request and self.cut is not None else 1 << 40
        while left > 0:
            data = server.recv(min(left, 65536))
            if not data:
                break
            client.sendall(data)
            left -= len(data)


@test
def an_export_that_was_cut_off_goes_on():
    d = server()
    proxy = CuttingProxy(d, d.path("cut.sock"))
    while len(d.admin("GET", "/v1/audit/export?format=jsonl").body) < 200000:
        d.http("POST", "/access/v1/evaluations", {"evaluations": [call() for _ in range(40)]})
    for fmt in ("jsonl", "csv", "otlp", "aat"):
        path = d.path("resumed." + fmt)
        command = ("audit", "export", "--resume", "--format", fmt, "--since", "1h", "--output", path,
                   "--server", "unix:" + proxy.path)
        for cut in (3000, 90000, 66000):  # of one run: also less than what is asked for twice
            proxy.cut = cut
            done = d.writ(*command)
            check(done.returncode == 1 and "goes on from there" in done.stderr, f"{fmt}: {done.stderr}")
            check(not os.path.exists(path), f"{fmt}: a file that is not whole")
            d.evaluate("files/delete")  # the log goes on meanwhile; the range does not
        state = read(path + ".resume").decode().splitlines()
        proxy.cut = None
        other = d.writ(*command, "--decision", "deny")
        check(other.returncode == 1 and "other options" in other.stderr, other.stderr)
        equal(d.writ(*command).returncode, 0, f"{fmt}: exit code")
        check("&offset=" in proxy.requests[-1], proxy.requests[-1])
        equal(read(path), d.admin("GET", state[2]).body, f"{fmt}: the whole")
        check(not os.path.exists(path + ".part") and not os.path.exists(path + ".resume"), "leftovers")
        if fmt == "jsonl":
            done = d.writ("audit", "verify", "--key", d.log_key(), path)
            equal(done.returncode, 0, f"verify: {done.stdout}{done.stderr}")


@test
def a_part_of_something_else_is_not_continued():
    d = server()
    proxy = CuttingProxy(d, d.path("other.sock"))
    path = d.path("changed.csv")
    command = ("audit", "export", "--resume", "--format", "csv", "--output", path, "--server", "unix:" + proxy.path)
    for change in ("flip", "grow"):
        proxy.cut = 3000
        d.writ(*command)
        part = bytearray(read(path + ".part"))
        if change == "flip":
            part[-10] ^= 1
        else:
            part += b"x" * 10000000
        with open(path + ".part", "wb") as f:
            f.write(part)
        proxy.cut = None
        done = d.writ(*command)
        check(done.returncode == 1 and "remove the .resume file" in done.stderr, f"{change}: {done.stderr}")
        check(not os.path.exists(path), "it was continued")
        os.unlink(path + ".resume")
    equal(d.writ(*command).returncode, 0, "anew")


if __name__ == "__main__":
    main()
