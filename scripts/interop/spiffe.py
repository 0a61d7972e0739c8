"""spiffe: what every foreign SPIFFE client has to live through, on a real writ.

A client is a program that gets the endpoint's URI as its argument, watches its X.509-SVIDs, and prints one JSON object a line:

    {"event": "x509", "id": "spiffe://..", "chain": [hex of DER..], "roots": [hex..]}    each time that something came
    {"event": "jwt", "id": "..", "kid": ".."}  or  {"event": "jwt", "error": "..."}       for each line "jwt" that it reads

It verifies what it gets with its own means before it says so, and ends with its input. A folder's run calls play(NAME, prepare);
prepare() returns the command, or raises Missing: no tool for it here (exit 77, a skip), or no packages (exit 78: a skip that
`interop/run --strict` does not let pass, as the tool is there).
"""
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
import harness  # noqa: E402
from harness import TRUST_DOMAIN, Deployment, check, equal, openssl  # noqa: E402

ID = f"spiffe://{TRUST_DOMAIN}/agent/foreign"
SECONDS = 60


class Missing(Exception):
    def __init__(self, what, code=77):
        super().__init__(what)
        self.code = code


def tool(name, debian, least=None, *arguments):
    """The path of a tool, at least of a version ("1.24")."""
    path = shutil.which(name)
    if not path:
        raise Missing(f"no {name} (Debian: {debian})")
    if least:
        said = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
        found = re.search(r"(\d+)\.(\d+)", said.stdout)
        if not found or tuple(map(int, found.groups())) < tuple(map(int, least.split("."))):
            raise Missing(f"{name} {least} or later is needed; this one says {said.stdout.strip()[:60]!r}")
    return path


def folder(name, *files):
    """build/interop/NAME, with our @files in it."""
    path = os.path.join(ROOT, "build", "interop", name)
    os.makedirs(path, exist_ok=True)
    for file in files:
        os.makedirs(os.path.dirname(os.path.join(path, file)), exist_ok=True)
        shutil.copy(os.path.join(HERE, name, file), os.path.join(path, file))
    return path


def fetch(command, cwd, env=None, seconds=200):
    """Run what downloads and builds."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False,
                              env=dict(os.environ, **(env or {})), stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise Missing(f"{command[0]} was not done in {seconds} s", 78) from None
    if done.returncode:
        raise Missing(f"{' '.join(command[:3])}: {(done.stderr or done.stdout).strip()[-400:]}", 78)


class Client:
    def __init__(self, command, uri):
        self.process = subprocess.Popen([*command, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=dict(os.environ, SPIFFE_ENDPOINT_SOCKET=uri))
        self.events = {"x509": queue.Queue(), "jwt": queue.Queue()}
        self.said = []
        for stream, take in ((self.process.stdout, self.take), (self.process.stderr, self.said.append)):
            threading.Thread(target=lambda s=stream, t=take: [t(line) for line in s], daemon=True).start()

    def take(self, line):
        try:
            event = json.loads(line)
            self.events[event["event"]].put(event)
        except (ValueError, KeyError):
            self.said.append(line)

    def next(self, kind, until, what):
        end, last = time.monotonic() + SECONDS, "nothing"
        while True:
            try:
                event = self.events[kind].get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                tail = "".join(self.said)[-500:]
                raise harness.Failure(f"{what}: not within {SECONDS} s; last: {str(last)[:300]}; it said: {tail}") from None
            last = event
            if until(event):
                return event

    def jwt(self):
        self.process.stdin.write("jwt\n")
        self.process.stdin.flush()
        return self.next("jwt", lambda e: True, "an answer to jwt")

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def act(d, path, status=200, **body):
    reply = d.admin("POST", path, body)
    equal(reply.status, status, f"{path} {body}: {reply}")
    return reply.json


def authority(d, kind, state):
    found = [a["id"] for a in d.admin("GET", "/v1/authorities").json["authorities"]
             if a["kind"] == kind and a["state"] == state]
    equal(len(found), 1, f"{kind} authorities that are {state}")
    return found[0]


def verified(d, event):
    """OpenSSL's opinion of what the client was given."""
    equal(event["id"], ID, "the identity")
    for name in ("chain", "roots"):
        with open(d.path(name), "wb") as f:
            for one in event[name]:
                f.write(openssl("x509", "-inform", "DER", data=bytes.fromhex(one)))
    openssl("verify", "-x509_strict", "-CAfile", d.path("roots"), "-untrusted", d.path("chain"), d.path("chain"))
    return event


def rotation(d, client, before):
    """prepare, activate, taint, revoke, for both kinds."""
    old = authority(d, "x509", "active")
    new = act(d, "/v1/authorities/prepare", 201, kind="x509")["id"]
    verified(d, client.next("x509", lambda e: len(e["roots"]) == 2, "a prepared authority"))
    act(d, "/v1/authorities/activate", id=new, force=True)
    act(d, "/v1/authorities/taint", id=old)
    event = client.next("x509", lambda e: e["chain"][0] != before["chain"][0], "a new SVID after the old authority is tainted")
    verified(d, event)
    act(d, "/v1/authorities/revoke", id=old)
    event = verified(d, client.next("x509", lambda e: len(e["roots"]) == 1, "the old authority gone"))
    key = client.jwt()
    act(d, "/v1/authorities/activate", id=act(d, "/v1/authorities/prepare", 201, kind="jwt")["id"], force=True)
    after = client.jwt()
    check(after.get("kid") and after["kid"] != key.get("kid"), f"the JWT key is not a new one: {key}, {after}")
    return event


def scenario(command):
    d = Deployment().start()
    d.register(ID, selectors=[f"unix:uid:{os.geteuid()}"])
    client = Client(command, f"unix://{d.workload_socket}")
    try:
        event = verified(d, client.next("x509", lambda e: True, "the first X.509-SVID"))
        equal(client.jwt().get("id"), ID, "the JWT-SVID")
        for _ in range(2):
            event = rotation(d, client, event)
        d.restart()
        verified(d, client.next("x509", lambda e: True, "an X.509-SVID after a restart"))
        equal(client.jwt().get("id"), ID, "a JWT-SVID after a restart")
        act(d, "/v1/agents/suspend", spiffe_id=ID)
        refused(client, "suspended")
        act(d, "/v1/agents/resume", spiffe_id=ID)
        verified(d, client.next("x509", lambda e: True, "an X.509-SVID after it was resumed"))
        equal(client.jwt().get("id"), ID, "a JWT-SVID after it was resumed")
        act(d, "/v1/agents/retire", spiffe_id=ID)
        refused(client, "retired")
        d.writ("audit", "verify", "--key", d.log_key(), d.export(), code=0)
    finally:
        client.close()
        d.close()


def refused(client, what):
    said = client.jwt()
    check(re.search(r"permission.?denied|no identity", said.get("error", ""), re.I), f"{what}: {said}")


def calls(command):
    """A program that gets the endpoint's URI and its agent, and ends with 0."""
    d = Deployment().start()
    d.register(ID, selectors=[f"unix:uid:{os.geteuid()}"])
    done = subprocess.run([*command, f"unix://{d.workload_socket}", ID], capture_output=True, text=True, timeout=SECONDS,
                          check=False, stdin=subprocess.DEVNULL)
    check(done.returncode == 0, f"it ended with {done.returncode}: {done.stderr[-600:]}")
    d.close()


def play(name, prepare, *programs):
    """A folder's run: "ok NAME" for the scenario, "ok NAME_PROGRAM" for each that stands in for the client's last word."""
    try:
        command = prepare()
    except Missing as e:
        print(" ".join(str(e).split()))
        sys.exit(e.code)

    def one():
        scenario(command)
    one.__name__ = name.replace("-", "_")
    harness.TEST_SECONDS = 4 * SECONDS
    harness.test(one)
    for program in programs:
        def more(program=program):
            calls([*command[:-1], os.path.join(os.path.dirname(command[-1]), program)])
        more.__name__ = f"{one.__name__}_{program.partition('.')[0]}"
        harness.test(more)
    harness.main()
