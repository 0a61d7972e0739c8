#!/usr/bin/env -S python3 -B
"""writ policy check, test and bench on the real binary: what an admin's pull request runs into."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as xml

from harness import ROOT, WRIT, check, equal, main, test

RULES = """policy "p" {
  permit "small" {
    on = { action = "x" }, when = function(q) return q.context.n < 5 end,
  },
}
"""
TESTS = """test "small" {
  action = "x", resource = "d:1",
  { context = { n = 4 }, expect = "permit" },
  { context = { n = 5 }, expect = "deny" },
}
"""


class Folder:
    """A set of policies of its own; None: a copy of the library."""

    def __init__(self, files=None):
        self.top = tempfile.mkdtemp(prefix="writ-policies-")
        self.dir = os.path.join(self.top, "policies")
        if files is None:
            shutil.copytree(os.path.join(ROOT, "policies"), self.dir)
        for name, text in (files or {}).items():
            self.write(name, text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.top)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)

    def replace(self, name, old, new):
        with open(self.path(name), encoding="utf-8") as f:
            text = f.read()
        check(old in text, f"{name} has no {old!r}")
        self.write(name, text.replace(old, new, 1))

    def run(self, command, *args, code=0):
        done = subprocess.run([WRIT, "policy", command, self.dir, *args], cwd=self.top, capture_output=True, text=True,
                              timeout=120, check=False)
        equal(done.returncode, code, f"exit code of {command} {args}: {done.stdout}{done.stderr}")
        return done

    def line(self, name, part):
        with open(self.path(name), encoding="utf-8") as f:
            return next(n for n, text in enumerate(f, 1) if part in text)


@test
def the_library_passes_with_full_coverage():
    with Folder() as f:
        out = f.run("test", "--threshold", "100").stdout
        check("coverage: 100.0 % of the outcomes" in out and "100.0 % of lines" in out, out)
        out = f.run("check").stdout
        check(out.endswith("errors: 0, warnings: 0\n"), out)


@test
def a_changed_comparison_is_stopped_and_named():
    # file, what a pull request changes, what the tests say
    changes = (
        ("finance.lua", "q.args.amount > limit", "q.args.amount >= limit", "payments, case 1", "finance/payment over 500"),
        ("finance.lua", "q.args.amount <= 0", "q.args.amount < 0", "payments, case 3", "finance/payments"),
        ("finance.lua", '"18:00"', '"18:01"', "books may be read in office hours, case 3", "finance/read-only tools"),
        ("finance.lua", "<= 5", "<= 6", "case 5 (Saturday)", "finance/read-only tools"),
        ("finance.lua", "finance-leads", "finance", "payments, case 2", "approvers"),
        ("research.lua", "q.model.tier > 2", "q.model.tier >= 2", "models, case 5", "research/large models"),
        ("contractors.lua", "not str.contains", "str.contains", "contractors have their own folder, case 1", "no_rule"),
        ("spend-limits.lua", "> limit(q) end,\n    reason", ">= limit(q) end,\n    reason", "orders against the limit of the agent, case 3", "spend-limits/over"),
        ("tenants.lua", 'tenant .. "/"', "tenant", "own collections only, case 3 (a longer name)", "tenants/"),
        ("egress.lua", '".wikipedia.org"', '"wikipedia.org"', "everything else", "egress/fetch"),
        ("model-tiers.lua", "engineering = 2", "engineering = 3", "engineering and gpt-large", "model-tiers/"),
        ("workspaces.lua", "and path.within(", "and str.starts_with(", "paths of the own workspace", ""),
        ("least-privilege.lua", '"delete", "admin"', '"delete"', "case 4", "ask"),
        ("office-hours.lua", '"08:00"', '"07:59"', "case 2", "finance/payments"),
        ("mcp-sessions.lua", '"ping", ', "", "an MCP session stands before any call", "no_rule"),
        ("mcp-sessions.lua", 'resource = "mcp_server", action = {\n', "action = {\n", "more than the frame", "mcp-sessions/the frame"),
        ("on-behalf.lua", "q.user.issuer == staff and has(q.user", "has(q.user", "case 6 (another alice)", "on-behalf/mail for the person"),
        ("on-behalf.lua", "#q.chain > 2", "#q.chain > 3", "case 3 (handed on twice)", "on-behalf/mail for the person"),
        ("read-only.lua", '"write", ', "", "a read-only contractor", "contractors/their own folder"),
    )
    for name, old, new, case, rule in changes:
        with Folder() as f:
            f.replace(name, old, new)
            done = subprocess.run([WRIT, "policy", "test", f.dir], capture_output=True, text=True, timeout=120, check=False)
            equal(done.returncode, 1, f"{name}: {old} to {new}: exit code")
            out = done.stdout
            check(any(case in line and rule in line for line in out.splitlines()), f"{name}: {old} to {new}: {out}")


@test
def a_failure_names_file_and_line_of_the_case():
    with Folder() as f:
        f.replace("finance.lua", "q.args.amount > limit", "q.args.amount >= limit")
        line = f.line("finance_test.lua", "amount = 500, to")
        rule = f.line("finance.lua", 'ask "payment over 500"')
        out = f.run("test", code=1).stdout
        wanted = (f'finance_test.lua:{line}: payments, case 1: expected "permit", got ask (approval_required) '
                  f"by finance/payment over 500 (finance.lua:{rule})")
        check(wanted in out, f"not {wanted!r} in {out}")


@test
def exit_codes():
    with Folder({"p.lua": RULES, "p_test.lua": TESTS}) as f:
        f.run("test")
        check("holds what --run says" in f.run("test", "--run", "nothing at all", code=1).stdout, "--run of nothing")
        f.run("test", "--threshold", "100")
        f.run("test", "--threshold", "101", code=2)
        f.run("test", "--threshold", "a lot", code=2)
        f.run("test", "--unknown", code=2)
        os.remove(f.path("p_test.lua"))
        check("no test ran" in f.run("test", code=1).stdout, "nothing ran")
        f.run("bench", code=1)
        f.write("p_test.lua", TESTS.replace("{ context = { n = 5 }, expect = \"deny\" },", ""))
        f.run("test")
        out = f.run("test", "--threshold", "80", code=1).stdout
        check("p/small was never seen false" in out and "below 80 %" in out, out)
        f.write("p.lua", "policy 'p' {")
        check("p.lua:1" in f.run("test", code=1).stderr, "a set that does not load")
        f.run("check", code=1)


@test
def machines_can_read_it():
    with Folder({"p.lua": RULES, "p_test.lua": TESTS + "test 'wrong' { action = 'x', resource = '<d>&\"', expect = 'deny' }\n"
                                                      "skip 'later' {}\n"}) as f:
        report = os.path.join(f.top, "junit.xml")
        answer = json.loads(f.run("test", "--json", "--coverage", "--junit", report, code=1).stdout)
        equal((answer["ok"], answer["passed"], answer["failed"], answer["skipped"]), (False, 2, 1, 1))
        equal([(c["line"], c["outcome"]) for c in answer["cases"]],
              [(3, "passed"), (4, "passed"), (6, "failed"), (7, "skipped")])
        equal(answer["coverage"]["rules"],
              [{"rule": "p/small", "file": "p.lua", "line": 2, "seen_true": True, "seen_false": True}])
        suites = xml.parse(report).getroot()
        equal((suites.get("tests"), suites.get("failures"), suites.get("skipped")), ("4", "1", "1"))
        equal(len(suites.findall(".//failure")), 1)
        check("p_test.lua:6" in suites.find(".//failure").get("message"), "file and line")


@test
def findings_are_for_editors():
    with Folder({"p.lua": RULES.replace("q.context.n < 5", "q.contxt.n < 5")}) as f:
        answer = json.loads(f.run("check", "--json", code=1).stdout)
        got = answer["findings"][0]
        equal(sorted(got), ["code", "column", "file", "line", "message", "severity"])
        equal((got["file"], got["line"], got["severity"]), ("p.lua", 3, "error"))
        equal(got["column"], RULES.splitlines()[2].replace("q.context", "q.contxt").index("contxt") + 1)
        check('did you mean "context"' in got["message"], got["message"])
    with Folder({"p.lua": RULES}) as f:
        out = f.run("check").stdout
        check("there are no tests" in out and "warnings: 1" in out, out)
        codes = [x["code"] for x in json.loads(f.run("check", "--json").stdout)["findings"]]
        equal(codes, ["untested"])


@test
def the_first_rule_of_the_readme_works_and_so_does_its_test():
    with open(os.path.join(ROOT, "policies/README.md"), encoding="utf-8") as f:
        text = f.read()
    rule = next(b for b in text.split("```lua\n") if b.startswith('policy "support"')).split("```")[0]
    # Tests stand indented, as does what is no file of rules by itself: what is between fences is rules.
    plain = "".join(text.split("```")[::2])
    blocks = re.findall(r"(?:^    .*\n)+", plain, re.M)
    tests = "".join(line[4:] for b in blocks if b.startswith("    test ") for line in b.splitlines(keepends=True))
    check(tests.count("test \"") > 0, "no test is shown")
    with Folder() as f:
        f.write("support.lua", rule)
        f.write("support_test.lua", tests)
        f.run("test", "--threshold", "100")
        check("warnings: 0" in f.run("check").stdout, "warnings")
        f.replace("support.lua", "<=", "<")
        out = f.run("test", code=1).stdout
        check("support searches tickets, case 1" in out, out)


@test
def bench_prints_rules():
    with Folder({"p.lua": RULES, "p_test.lua": TESTS}) as f:
        answer = json.loads(f.run("bench", "--json").stdout)
        equal([r["rule"] for r in answer["rules"]], ["p/small"])
        check(answer["ns"] > 0 and answer["instructions"] > 0 and answer["requests"] == 2, repr(answer))
        check("p/small" in f.run("bench").stdout, "text")


if __name__ == "__main__":
    main()
