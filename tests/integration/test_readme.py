#!/usr/bin/env -S python3 -B
"""The documents keep their word: every ```sh block of every document runs and prints what it says.

A document's blocks run in order in one shell. A command ends with 0, or with N where its line says
"# exit code N". A ```text block behind a block holds parts of its output, in order; "..." stands for
anything in between. Only ports, the build and the folder of the deployment are put in other words.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from harness import BUILD, ROOT, SANITIZER, START_SECONDS, WRIT, Failure, check, equal, free_port, main, test

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
OTHER_LANGUAGES = ("lua", "json", "c")  # shown, not run
DOCUMENTS = (
    "README.md",
    "SECURITY.md",
    "policies/README.md",
    "spiffe/README.md",
    "spiffe/DELEGATION.md",
    "spiffe/FEDERATION.md",
    "spiffe/PKCS11.md",
    "authz/README.md",
    "authz/extauthz/README.md",
    "authz/audit/FORMAT.md",
    "authz/audit/README.md",
)
NOT_OURS = ("acme/writ.lua", "policies/gateway.lua")  # made by writ init, and by the reader


def document(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def blocks(text):
    """[(shell text, expected text or "")]"""
    found = []
    for language, body in BLOCK.findall(text):
        if language == "sh":
            found.append([body, ""])
        elif language == "text" and found:
            found[-1][1] += body
        else:
            check(language in OTHER_LANGUAGES, f"a block of language {language!r} which nobody checks: {body[:80]}")
    return found


def put(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def run(found, cwd, replacements=(), env=None):
    """Run the blocks in one bash in @cwd; each ends as it says. Returns what they printed."""
    work = tempfile.mkdtemp(prefix="writ-readme-")
    script = ["trap 'codes+=($?)' ERR"]
    for i, (body, _) in enumerate(found):
        for old, new in replacements:
            body = body.replace(old, new)
        put(f"{work}/{i}.sh", body)
        script += ["codes=()", f"source {work}/{i}.sh >{work}/{i}.out 2>&1 </dev/null", f'echo "${{codes[@]}}" >{work}/{i}.codes']
    put(f"{work}/all.sh", "\n".join(script) + "\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WRIT")}
    try:
        subprocess.run(["bash", f"{work}/all.sh"], cwd=cwd, env=dict(environment, **(env or {})), timeout=110, check=True,
                       stdin=subprocess.DEVNULL)
        printed = [document(f"{work}/{i}.out") for i in range(len(found))]
        for i, (body, expected) in enumerate(found):
            judge(body, expected, printed[i], document(f"{work}/{i}.codes"))
        return printed
    finally:
        shutil.rmtree(work)


def judge(body, expected, out, codes):
    said = f"\n{body}printed: {out[-1500:]}"
    check(not SANITIZER.search(out), said)
    # A block's last failure shows twice: in the block, and as the end of `source`.
    wanted = re.findall(r"# exit code (\d+)", body)
    got = codes.split()
    if len(got) > 1 and len(got) == len(wanted) + 1 and got[-1] == got[-2]:
        got.pop()
    equal(got, wanted, f"exit codes other than 0 of {said}")
    at = 0
    for line in expected.splitlines():
        for part in filter(None, (p.strip() for p in line.split("..."))):
            found = out.find(part, at)
            check(found >= 0, f"{part!r} is missing behind the parts before it in {said}")
            at = found + len(part)


class Tour:
    """What `make run` starts, on free ports and with a folder of its own."""

    def __init__(self, settings=""):
        self.settings = settings

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="writ-tour-")
        self.home = os.path.join(self.dir, ".writ")
        self.ports = {"8080": str(free_port()), "8443": str(free_port()), "8081": str(free_port())}
        at = {k: f"127.0.0.1:{v}" for k, v in self.ports.items()}
        subprocess.run([WRIT, "init", self.home, "--local-pep", "--http", at["8080"], "--https", at["8443"],
                        "--operators", at["8081"]], check=True, capture_output=True)
        with open(os.path.join(self.home, "writ.lua"), "a", encoding="ascii") as f:
            f.write(self.settings)
        os.symlink(BUILD, os.path.join(self.dir, "build"))
        self.log = os.path.join(self.dir, "server.log")
        self.start()
        return self

    def start(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([os.path.join(ROOT, "scripts/run"), "build/writ"], cwd=self.dir, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                            env={k: v for k, v in os.environ.items() if not k.startswith("WRIT")})
        end = time.monotonic() + START_SECONDS
        while "Ctrl-C stops it" not in self.said():
            check(self.process.poll() is None and time.monotonic() < end, f"make run is not ready: {self.said()}")
            time.sleep(0.05)

    def said(self):
        return document(self.log)

    def replacements(self):
        return list(self.ports.items())

    def stop(self):
        """Ctrl-C. Returns how long it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        equal(self.process.wait(30), 0, "exit code after Ctrl-C")
        return time.monotonic() - began

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        said = self.said()
        shutil.rmtree(self.dir)
        if SANITIZER.search(said):
            raise Failure(said[-3000:])


@test
def the_tour_of_the_readme():
    found = blocks(document("README.md"))
    check(len(found) > 15, f"the tour has {len(found)} blocks only")
    with Tour() as t:
        run(found, t.dir, t.replacements())


@test
def what_make_run_prints_works():
    with Tour() as t:
        first = t.said()
        export = re.search(r"^  (export PATH=.*)$", first, re.M).group(1)
        commands = re.findall(r"^  (writ .*)$", first, re.M)
        equal(len(commands), 3, f"commands of {first}")
        curl = first[first.index("  curl -s"):first.index("Ctrl-C stops")].strip() + "\n"
        follow = commands[2].replace("writ audit tail --follow", "writ audit tail")
        found = [(export + "\n", ""), (curl, '{"decision":false ... unknown_agent ... ask your administrator'),
                 (commands[0] + "\n", "registered"), (curl, '{"decision":true ... finance/payments'),
                 (curl.replace(":100", ":501"), '{"decision":false ... approval_required'),
                 (commands[1] + "\n", "payment over 500"), (follow + "\n", "authz.decision")]
        run(found, t.dir)
        check(t.stop() < 5, "Ctrl-C takes longer than 5 s")
        t.start()
        check("going on from its data" in t.said(), t.said())
        run([found[0], (curl, '{"decision":true')], t.dir)


@test
def what_documents_point_to_is_there():
    found = 0
    for name in DOCUMENTS:
        text, folder = document(name), os.path.dirname(name)
        pointers = [p for p in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in p]
        pointers += re.findall(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:[ch]|lua|py|md))`", text)
        for pointer in pointers:
            found += 1
            places = (os.path.join(folder, pointer), os.path.join(folder, "audit", pointer),
                      os.path.join("scripts/deploy", pointer), pointer)
            check(any(os.path.exists(os.path.join(ROOT, p)) for p in places) or pointer in NOT_OURS,
                  f"{name} points to {pointer}, which is not there")
    check(found > 20, f"{found} pointers found")


@test
def the_other_documents():
    """policies/, authz/ and SECURITY.md: what they have of shell runs beside the example policies."""
    for name in ("policies/README.md", "spiffe/README.md", "spiffe/PKCS11.md", "authz/README.md", "SECURITY.md"):
        found = blocks(document(name))
        if found:
            run(found, ROOT, env={"PATH": f"{os.path.dirname(WRIT)}:{os.environ['PATH']}"})


@test
def policies_shown_are_policies():
    shown = [body for language, body in BLOCK.findall(document("policies/README.md")) if language == "lua"]
    check(shown, "no policy is shown")
    for text in shown:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(os.path.join(ROOT, "policies/catalogue"), os.path.join(folder, "catalogue"))
            put(os.path.join(folder, "shown.lua"), text)
            done = subprocess.run([WRIT, "policy", "check", folder], capture_output=True, text=True, check=False)
            equal(done.returncode, 0, f"exit code of policy check ({done.stdout}{done.stderr}) of {text}")


@test
def verifying_by_hand():
    """FORMAT.md: the chain, an opening, the signature and the root, with a shell and OpenSSL."""
    found = blocks(document("authz/audit/FORMAT.md"))
    check(len(found) >= 4, f"{len(found)} blocks")
    with Tour() as t:
        run([("export PATH=\"$PWD/build:$PATH\" WRIT_CONFIG=\"$PWD/.writ/writ.lua\"\n"
              "for i in 1 2 3 4 5 6 7; do writ agent register spiffe://example.org/agent/$i --owner you; done\n"
              "writ audit export --output export.jsonl\nwrit audit key > log.vkey\n", "registered")], t.dir)
        key = document(os.path.join(t.dir, "log.vkey")).strip()
        said = "".join(run(found, t.dir, [("acme.example/writ+1234abcd+AQ...", key)]))
        check("does not follow" not in said, said)


@test
def the_auditors_walk():
    """authz/audit/README.md, from an export to a published folder, on a log with one denial in it."""
    found = blocks(document("authz/audit/README.md"))
    check(len(found) > 10, f"{len(found)} blocks")
    call = json.dumps({"subject": {"type": "agent", "id": "spiffe://example.org/agent/ann"}, "action": {"name": "tools/call"},
                       "resource": {"type": "tool", "id": "files/delete"}})
    with Tour('audit = { retain = "1s" }\n') as t:
        run([("export PATH=\"$PWD/build:$PATH\" WRIT_CONFIG=\"$PWD/.writ/writ.lua\"\n"
              # A log of more than one tile, so that there is something to prune.
              "curl -sf -o ignored --unix-socket .writ/writ-data/admin.sock -X POST 'http://x[1-260]/v1/audit/checkpoint'\n"
              "writ agent register spiffe://example.org/agent/ann --owner you\n"
              f"echo '{call}' | writ evaluate -    # exit code 1\n", "registered ... deny"), *found], t.dir,
            [*t.replacements(), ("scripts/verify.py", os.path.join(ROOT, "scripts/verify.py"))])


@test
def ten_minutes_behind_a_proxy():
    """authz/extauthz/README.md: its policy, and what it asks as a proxy would."""
    text = document("authz/extauthz/README.md").replace("```lua policy", "```lua")
    rules = [body for language, body in BLOCK.findall(text) if language == "lua" and body.startswith("policy ")]
    equal(len(rules), 1, "policies shown")
    with Tour() as t:
        for name in os.listdir(os.path.join(t.home, "policies")):
            if name.endswith(".lua"):
                os.remove(os.path.join(t.home, "policies", name))
        put(os.path.join(t.home, "policies", "gateway.lua"), rules[0])
        run([("export PATH=\"$PWD/build:$PATH\" WRIT_CONFIG=\"$PWD/.writ/writ.lua\"\n"
              "writ policy apply .writ/policies\n"
              "writ agent register spiffe://example.org/agent/finance-1 --owner you --set team=finance\n", "registered"),
             *blocks(text)], t.dir, [*t.replacements(), ("scripts/deploy", os.path.join(ROOT, "scripts/deploy"))])


if __name__ == "__main__":
    main()
