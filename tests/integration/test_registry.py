#!/usr/bin/env -S python3 -B
"""The registry in bulk: import all or nothing, export and back, orphans, what every entry must say."""
import json
import os

from harness import TRUST_DOMAIN, Deployment, check, equal, is_error, leaves, main, test

TD = f"spiffe://{TRUST_DOMAIN}"
FILE = f"""-- a comment with {{ braces }}
agents = {{
  {{ spiffe_id = "{TD}/a", owner = "ann", purpose = "says \\"hi\\" in M\\u{{fc}}nchen",
    attributes = {{ ["end"] = "word of Lua", team = "x" }}, selectors = {{ "unix:uid:1000", "unix:path:/opt/a:b" }},
    ttl = "30m", jwt_ttl = 60, expires = "2037-01-31" }},
  {{ spiffe_id = "{TD}/b", owner = "{TD}/a", state = "suspended" }},
  {{ spiffe_id = "{TD}/c", owner = "bob", state = "retired" }},
  {{ spiffe_id = "{TD}/old", owner = "bob", expires = "2020-01-01T00:00:00Z" }},
  {{ spiffe_id = "{TD}/ns/{{k8s.ns}}/{{name}}", owner = "bob", selectors = {{ "k8s:sa:x" }} }},
  {{ spiffe_id = "{TD}/ns/prod/bot", owner = "bob", definition = "{TD}/ns/{{k8s.ns}}/{{name}}" }},
  {{ spiffe_id = "spiffe://partner.example/x", owner = "bob" }},
}}
"""


def importing(d, text, code=0):
    return d.writ("agent", "import", d.write("in.lua", text), code=code)


@test
def an_export_read_back_is_the_same_registry():
    d, other = Deployment().start(), Deployment().start()
    equal(importing(d, FILE).stdout.strip(), "7 registered", "the import")
    first = d.writ("agent", "export", code=0).stdout
    equal(importing(other, first).stdout.strip(), "7 registered", "the second import")
    equal(other.writ("agent", "export", code=0).stdout, first, "the export of the import of the export")
    for path in ("/a", "/b", "/old", "/ns/{k8s.ns}/{name}", "/ns/prod/bot"):
        one, two = (json.loads(x.writ("agent", "show", TD + path, "--json", code=0).stdout) for x in (d, other))
        for entry in (one, two):
            for name in ("created_at", "updated_at"):
                entry.pop(name)
        equal(one, two, path)
    entry = json.loads(other.writ("agent", "show", TD + "/a", "--json", code=0).stdout)
    equal((entry["purpose"], entry["ttl"], entry["jwt_ttl"], entry["attributes"]["end"]),
          ('says "hi" in München', 1800, 60, "word of Lua"), "values")
    equal(is_error(other.admin("POST", "/v1/agents", {"spiffe_id": TD + "/c", "owner": "x"}), 409)["code"],
          "id_retired", "a retired ID stays refused in the new registry")
    d.writ("agent", "export", "--output", d.path("out.lua"), code=0)
    with open(d.path("out.lua"), encoding="ascii") as f:
        equal(f.read(), first, "the file")
    equal(d.writ("agent", "export", "--output", "-", code=0).stdout, first, "standard output by its name")
    os.mkfifo(d.path("pipe"))
    for what in ("agent", "audit"):
        check("no regular file" in d.writ(what, "export", "--output", d.path("pipe"), code=1).stderr, what)


@test
def all_or_nothing_with_the_line():
    d = Deployment().start()
    d.register(f"{TD}/there")
    for why, text, line, says in (
            ("registered already", f'agents = {{ {{ spiffe_id = "{TD}/x", owner = "a" }},\n\n'
             f'  {{ spiffe_id = "{TD}/there", owner = "a" }} }}', 3, "registered already"),
            ("twice in the file", f'agents = {{\n{{ spiffe_id = "{TD}/x", owner = "a" }}, --[[ {{\n ]]\n'
             f'{{ spiffe_id = "{TD}/x", owner = "a" }} }}', 4, "registered already"),
            ("a bad selector", f'local t = {{ 1 }}\nagents = {{\n  {{ spiffe_id = "{TD}/x", owner = "a" }},\n'
             f'  {{ owner = "{{", spiffe_id = "{TD}/y",\n selectors = {{ "unix:usr:x" }} }} }}', 4, "did you mean"),
            ("no ID", f'agents = {{ {{ spiffe_id = "{TD}/x", owner = "a" }},\n{{ spiffe_id = "x", owner = "a" }} }}',
             2, "")):
        done = importing(d, text, code=1)
        check(f"in.lua:{line}: " in done.stderr and says in done.stderr, f"{why}: {done.stderr}")
        equal(is_error(d.admin("POST", "/v1/agents/suspend", {"spiffe_id": f"{TD}/x"}), 404)["code"], "unknown_agent",
              f"{why}: the first entry")
    many = f'agents = {{}} for i = 1, 1000 do agents[i] = {{ spiffe_id = "{TD}/m/" .. i, owner = "a" }} end\n'
    done = importing(d, many + f'agents[950] = {{ spiffe_id = "{TD}/there", owner = "a" }}', code=1)
    check("agents[950]: " in done.stderr, done.stderr)
    equal(importing(d, many).stdout.strip(), "1000 registered", "in several parts")
    is_error(d.admin("POST", "/v1/agents/import", {"import": "x", "from": 5, "agents": [], "last": True}), 409, "order")
    is_error(d.admin("POST", "/v1/agents/import", {"import": "x", "from": 0, "agents": [], "lst": True}), 400, "member")
    first = {"import": "one", "from": 0, "agents": [{"spiffe_id": f"{TD}/p", "owner": "a"}], "last": False}
    equal(d.admin("POST", "/v1/agents/import", first).json, {"taken": 1, "registered": 0}, "a first part")
    equal(is_error(d.admin("POST", "/v1/agents/import", dict(first, **{"import": "two"})), 409)["code"], "import_busy",
          "another in between")
    path = d.export()
    d.writ("audit", "verify", "--key", d.log_key(), path, code=0)
    acts = [r for _, r in leaves(path).values() if r.get("act") == "agent.import" and r["outcome"] == "done"]
    equal(sum(r["agents"] for r in acts), 1000, "entries on record")


@test
def who_looks_like_nobodys():
    d = Deployment(config="registry = { orphan = \"1h\" }\n").start()
    importing(d, FILE)

    def orphans():
        listed = json.loads(d.writ("agent", "list", "--orphans", "--json", code=0).stdout)["agents"]
        return {a["spiffe_id"].rsplit("/", 1)[1]: a["orphan"] for a in listed}

    equal(orphans(), {"old": "expired"}, "at first")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": f"{TD}/a"})
    equal(orphans(), {"old": "expired", "b": "owner_gone"}, "with its owner suspended")
    check("owner_gone" in d.writ("agent", "list", "--orphans", code=0).stdout, "the table")
    d.register()
    check("seen_at" not in d.admin("GET", f"/v1/agents?id={TD}/ns/prod/bot").json["agents"][0], "not seen yet")
    d.evaluate(agent=f"{TD}/ns/prod/bot")
    seen = d.admin("GET", f"/v1/agents?id={TD}/ns/prod/bot").json["agents"][0]["seen_at"]
    d.restart()
    equal(d.admin("GET", f"/v1/agents?id={TD}/ns/prod/bot").json["agents"][0]["seen_at"], seen, "after a restart")


@test
def what_every_entry_must_say():
    d = Deployment(config='registry = { require = { "owner", "purpose", "expires" }, max_entries = 2 }\n').start()
    check("purpose" in d.writ("agent", "register", f"{TD}/a", "--owner", "ann", code=1).stderr, "no purpose")
    check("expires" in d.writ("agent", "register", f"{TD}/a", "--owner", "ann", "--purpose", "mail", code=1).stderr,
          "no end")
    args = ("--owner", "ann", "--purpose", "mail", "--expires", "2037-01-31")
    d.writ("agent", "register", f"{TD}/a", *args, code=0)
    d.writ("agent", "retire", f"{TD}/a", code=0)
    d.writ("agent", "register", f"{TD}/a", *args, code=1)
    d.writ("agent", "register", f"{TD}/b", *args, code=0)
    check("full" in d.writ("agent", "register", f"{TD}/c", *args, code=1).stderr, "a third")


if __name__ == "__main__":
    main()
