#!/usr/bin/env -S python3 -B
"""The data folder of an older writ: today's starts on it, keeps all it says, and goes on.

An old folder is made from a new one: the tables that came since are dropped, the numbers of the formats put back.
"""
import json
import os
import sqlite3

from harness import AGENT, TRUST_DOMAIN, Deployment, call, check, equal, join_token, leaves, main, openssl, test

SUSPENDED, RETIRED, WAITING = (f"spiffe://{TRUST_DOMAIN}/agent/{name}" for name in ("suspended", "retired", "waiting"))

# What the databases held before rotation, roll-outs, federation, attestation, outcomes and holds.
FIRST_LOG = {"formats": {"audit": 1}, "tables": ["checkpoint", "leaf", "opening", "schema", "tree"]}
FIRST = {
    "formats": {"registry": 1, "tokens": 1, "generations": 2, "policy_folder": 1},
    "tables": ["activation", "entry", "entry_revision", "generation", "generation_file", "generation_zone",
               "policy_folder", "schema", "source", "token"],
    "entry_revision": ["entry", "revision", "at_ms", "verb", "state", "owner", "attributes", "selectors", "x509_ttl_s",
                       "jwt_ttl_s", "expires_ms", "by", "reason"],
}


def without_what_came_since(db, first):
    db.execute("PRAGMA foreign_keys = OFF")
    names = [n for (n,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    for name in set(names) - set(first["tables"]):
        db.execute(f"DROP TABLE {name}")
    db.execute("DELETE FROM schema")
    db.executemany("INSERT INTO schema VALUES (?, ?)", first["formats"].items())
    equal(sorted(n for n in names if n in first["tables"]), first["tables"], "tables of the old folder")


def downgrade(d):
    with sqlite3.connect(os.path.join(d.data, "log.db")) as db:
        without_what_came_since(db, FIRST_LOG)
    db.close()
    with sqlite3.connect(os.path.join(d.data, "writ.db")) as db:
        without_what_came_since(db, FIRST)
        for column in [row[1] for row in db.execute("PRAGMA table_info(entry_revision)")]:
            if column not in FIRST["entry_revision"]:
                db.execute(f"ALTER TABLE entry_revision DROP COLUMN {column}")
    db.close()
    for name in os.listdir(d.data):
        if name.startswith("index.db"):
            os.unlink(os.path.join(d.data, name))
    os.unlink(os.path.join(d.data, "keys", "storage.key"))


def enrol(d, spiffe_id, token, name):
    key = d.path(name + ".key")
    csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                  "-subj", "/CN=x").decode()
    reply = d.http("POST", "/v1/attest", {"join_token": token, "csr": csr})
    equal((reply.status, reply.json.get("spiffe_id")), (200, spiffe_id), f"attestation: {reply}")
    return d.write(name + ".crt", reply.json["x509_svid"]), key


def old_folder():
    """A stopped deployment with a past, and (the log's key, an SVID, a join token that waits, evaluation ids)."""
    d = Deployment().start()
    d.register(selectors=["unix:uid:4711"], ttl=7200)
    for spiffe_id in (SUSPENDED, RETIRED, WAITING):
        d.register(spiffe_id)
    d.writ("agent", "suspend", SUSPENDED, "--reason", "looks odd", code=0)
    d.writ("agent", "retire", RETIRED, code=0)
    def token(i):
        return join_token(d.admin("POST", "/v1/agents/token", {"spiffe_id": i}))

    svid, waiting = enrol(d, AGENT, token(AGENT), "old"), token(WAITING)
    ids = [d.http("POST", "/access/v1/evaluation", call("payments/create", {"amount": a})).json["context"]["evaluation_id"]
           for a in (1, 2, 501)]
    d.policy("more.lua", 'policy "more" { deny "all" { on = { action = "tools/call", tool = "ledger/query" } } }\n')
    d.writ("policy", "apply", "policies", code=0)
    d.writ("policy", "rollback", code=0)  # pinned to generation 1
    key = d.log_key()
    d.stop()
    downgrade(d)
    return d, key, svid, waiting, ids


@test
def an_older_folder_is_taken_over_whole():
    d, key, svid, waiting, ids = old_folder()
    d.start()
    listed = {a["spiffe_id"]: a for a in json.loads(d.writ("agent", "list", "--json", code=0).stdout)["agents"]}
    equal({i: a["state"] for i, a in listed.items()},
          {AGENT: "active", SUSPENDED: "suspended", RETIRED: "retired", WAITING: "active"}, "the registry")
    equal((listed[AGENT]["attributes"], listed[AGENT]["selectors"], listed[AGENT]["ttl"]),
          ({"team": "finance"}, ["unix:uid:4711"], 7200), "an entry")
    # Identities: the SVID of before opens the door, the token that waited works, once.
    equal(d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, cert=svid).status, 200, "a JWT-SVID by the old SVID")
    enrol(d, WAITING, waiting, "waiting")
    # Decisions: pinned as before, and the past is computed again as it was.
    reply = d.http("POST", "/access/v1/evaluation", call("payments/create", {"amount": 3})).json
    equal((reply["decision"], reply["context"]["generation"]), (True, 1), "a decision")
    check("payment over 500" in d.writ("policy", "explain", ids[2], code=0).stdout, "explain of an old record")
    said = json.loads(d.writ("policy", "replay", "--json", code=0).stdout)
    equal((said["same"], said["changed"]), (4, 0), "replay")
    # What came since works on it, and the log is one.
    found = d.writ("audit", "search", "--agent", AGENT, code=0).stdout
    check(ids[0] in found, f"search of old records: {found}")
    seq = ids[1].rsplit("_", 1)[1]
    d.writ("audit", "redact", "--record", seq, "--reason", "asked for", code=0)
    d.writ("policy", "shadow", "2", code=0)
    d.writ("policy", "promote", code=0)
    for kind in ("x509", "jwt"):
        new = json.loads(d.writ("authority", "prepare", kind, "--json", code=0).stdout)["id"]
        d.writ("authority", "activate", "--force", new, code=0)
    d.restart()
    equal(d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, cert=svid).status, 200, "the old SVID after a rotation")
    path = d.export()
    d.writ("audit", "verify", "--key", key, path, code=0)
    log = leaves(path)
    equal(sorted(log), list(range(len(log))), "sequence numbers")
    d.close()


@test
def a_newer_folder_is_refused_by_name():
    d = Deployment().start()
    d.stop()
    for module in ("registry", "authorities", "rollouts", "federation", "generations", "tokens"):
        with sqlite3.connect(os.path.join(d.data, "writ.db")) as db:
            (version,) = db.execute("SELECT version FROM schema WHERE module = ?", (module,)).fetchone()
            db.execute("UPDATE schema SET version = 99 WHERE module = ?", (module,))
        db.close()
        done = d.writ("serve", code=1)
        check(f"its {module} tables have format 99, this writ knows formats up to {version}" in done.stderr, done.stderr)
        with sqlite3.connect(os.path.join(d.data, "writ.db")) as db:
            db.execute("UPDATE schema SET version = ? WHERE module = ?", (version, module))
        db.close()
    d.start()
    d.close()


if __name__ == "__main__":
    main()
