"""harness: a real writ in a folder of its own, and ways to talk to it.

Python's standard library only. A suite is an executable that decorates functions with @test and
ends with main(). Each prints "ok NAME" or "not ok NAME: why"; a suite fails when a test failed,
when nothing ran, or when a server printed a sanitizer's report.

    d = Deployment(policies={"a.lua": RULES})   # DIR/writ.lua, DIR/policies, DIR/writ-data
    d.start()
    d.http("POST", "/access/v1/evaluation", {...}) -> Reply
    d.admin("POST", "/v1/agents", {...})        # over the operators' Unix socket
    d.writ("audit", "verify", ...)              -> completed process, output captured
"""
import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("WRIT_BUILD", os.path.join(ROOT, "build")))
WRIT = os.environ.get("WRIT_BINARY", os.path.join(BUILD, "writ"))
SANITIZER = re.compile(r"(ERROR|WARNING): \w*Sanitizer|runtime error:|SUMMARY: \w*Sanitizer")
# Sanitizers slow everything down; shared machines too.
START_SECONDS = float(os.environ.get("WRIT_START_SECONDS", "20"))
TEST_SECONDS = int(os.environ.get("WRIT_TEST_SECONDS", "120"))

TRUST_DOMAIN = "example.org"
AGENT = f"spiffe://{TRUST_DOMAIN}/agent/finance-1"

CATALOGUE = """
tool "payments/create" { effect = "spend", destructive = true, args = { amount = "number", to = "string?" } }
tool "ledger/query"    { effect = "read", args = { max_rows = "integer?" } }
tool "files/delete"    { effect = "delete", destructive = true }
model "gpt-large"      { provider = "example", tier = 3, max_tokens = 16384 }
"""

RULES = """
policy "finance" {
  permit "read" {
    on = { action = "tools/call", effect = "read" },
  },
  ask "payment over 500" {
    on        = { action = "tools/call", tool = "payments/create" },
    when      = function(q) return q.args.amount > 500 end,
    approvers = "finance-leads",
  },
  permit "payments" {
    on   = { action = "tools/call", tool = "payments/create" },
    when = function(q) return q.agent.team == "finance" end,
  },
  deny "no deleting" {
    on      = { action = "tools/call", tool = "files/delete" },
    reason  = "deleting_forbidden",
    message = "Files are never deleted by agents; ask an operator.",
  },
}
"""
POLICIES = {"catalogue/tools.lua": CATALOGUE, "finance.lua": RULES}


class Failure(Exception):
    """What a test found wrong."""


def check(claim, why):
    if not claim:
        raise Failure(why)


def equal(got, wanted, what="value"):
    if got != wanted:
        raise Failure(f"{what} is {got!r}, expected {wanted!r}")


# --- the registry of tests ------------------------------------------------------------------

TESTS = []
DEPLOYMENTS = []


def test(function):
    TESTS.append(function)
    return function


def out_of_time(_signum, _frame):
    raise Failure(f"not over after {TEST_SECONDS} s")


def one_line(text):
    return " | ".join(line.strip() for line in str(text).strip().splitlines())[:1500]


def main():
    failed = 0
    wanted = sys.argv[1:]
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers are cleaned up
    for function in TESTS:
        name = function.__name__
        if wanted and name not in wanted:
            continue
        signal.alarm(TEST_SECONDS)
        try:
            function()
            print(f"ok {name}", flush=True)
        except Exception as e:  # whatever went wrong is this test's failure, not the suite's end
            failed += 1
            where = "" if isinstance(e, Failure) else f" [{one_line(traceback.format_exc(limit=-2))}]"
            print(f"not ok {name}: {one_line(e) or type(e).__name__}{where}", flush=True)
        finally:
            signal.alarm(0)
    for d in list(DEPLOYMENTS):
        d.close()
        for report in d.reports:
            failed += 1
            print(f"not ok sanitizer: {one_line(report)}", flush=True)
    if not TESTS:
        print("not ok suite: no test ran")
        failed += 1
    sys.exit(1 if failed else 0)


@atexit.register
def close_all():
    for d in list(DEPLOYMENTS):
        d.close()


# --- HTTP -----------------------------------------------------------------------------------

class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError as e:
            raise Failure(f"answer {self.status} is no JSON ({e}): {self.body[:200]!r}") from e

    def header(self, name):
        return self.headers.get(name.lower())

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def exchange(connection, method, path, body=None, headers=None):
    """One request on an open connection. A dict becomes JSON; bytes are sent as they are."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    if body is not None and not any(h.lower() == "content-type" for h in headers):
        headers["Content-Type"] = "application/json"
    # A header given as None is left out.
    headers = {k: v for k, v in headers.items() if v is not None}
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


PORTS = set()


def free_port():
    """One that nobody listens at, and that was not given before: the kernel may offer it twice."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        if port not in PORTS:
            PORTS.add(port)
            return port


def raw(address, data, seconds=5, finish=True):
    """Send bytes as they are and return all that comes back until the end, or until silence."""
    if isinstance(address, str):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        s = socket.socket()
    with s:
        s.settimeout(seconds)
        s.connect(address)
        got = b""
        try:
            s.sendall(data)
            if finish:
                s.shutdown(socket.SHUT_WR)
            while piece := s.recv(65536):
                got += piece
        except (ConnectionError, socket.timeout):
            pass
        return got


def raw_status(answer):
    m = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(m.group(1)) if m else 0


# --- a deployment ---------------------------------------------------------------------------

class Deployment:
    """A folder with writ.lua, policies/ and writ-data/, and the server that runs in it."""

    def __init__(self, policies=None, config="", caller="pep", listen="", binary=WRIT):
        # Short: a Unix socket's path has 107 bytes.
        self.dir = tempfile.mkdtemp(prefix="writ-", dir=os.environ.get("WRIT_TMP", "/tmp"))
        os.chmod(self.dir, 0o755)
        self.data = os.path.join(self.dir, "writ-data")
        self.port, self.tls_port, self.operators_port = free_port(), free_port(), free_port()
        self.admin_socket = os.path.join(self.data, "admin.sock")
        self.workload_socket = os.path.join(self.data, "workload.sock")
        self.binary = binary
        self.process = None
        self.reports = []
        self.errors = os.path.join(self.dir, "stderr")
        self.output = os.path.join(self.dir, "stdout")
        fixed = f', caller = "{caller}"' if caller else ""
        self.config = (
            f'trust_domain = "{TRUST_DOMAIN}"\n'
            f'listen = {{ http = {{ "127.0.0.1:{self.port}"{fixed} }},\n'
            f'  https = "127.0.0.1:{self.tls_port}", operators = "127.0.0.1:{self.operators_port}",\n'
            f'  workload = "writ-data/workload.sock", admin = "writ-data/admin.sock"{listen} }}\n')
        if "callers" not in config:
            self.config += 'callers = { { unix_user = "root", role = "admin" } }\n'
        self.config += config
        self.config_file = os.path.join(self.dir, "writ.lua")
        self.write("writ.lua", self.config)
        os.makedirs(os.path.join(self.dir, "policies"), exist_ok=True)
        for name, text in (POLICIES if policies is None else policies).items():
            self.policy(name, text)
        DEPLOYMENTS.append(self)

    # files

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # Whole or not at all: the server watches the folder.
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(path + ".new", path)
        return path

    def policy(self, name, text):
        return self.write(os.path.join("policies", name), text)

    # the server

    def spawn(self, env=None):
        check(os.path.exists(self.binary), f"there is no {self.binary}; build it first")
        check(self.process is None, "already started")
        environment = dict(os.environ, **(env or {}))
        with open(self.output, "ab") as out, open(self.errors, "ab") as err:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--config", self.config_file], cwd=self.dir, stdout=out, stderr=err,
                stdin=subprocess.PIPE, env=environment, start_new_session=True)  # whatever asks there waits
        return self

    def start(self, env=None, path="/readyz"):
        """Start and wait until @path answers 200 on the operators' Unix socket."""
        self.spawn(env)
        self.wait_for(path)
        return self

    def wait_for(self, path="/readyz", status=200, seconds=START_SECONDS):
        end = time.monotonic() + seconds
        last = "no answer"
        while time.monotonic() < end:
            if self.process.poll() is not None:
                code = self.process.returncode
                self.collect()
                raise Failure(f"writ serve ended with {code}: {one_line(self.stderr()[-1500:])}")
            try:
                reply = self.admin("GET", path)
                if reply.status == status:
                    return reply
                last = repr(reply)
            except (OSError, http.client.HTTPException) as e:
                last = repr(e)
            time.sleep(0.02)
        raise Failure(f"{path} did not answer {status} in {seconds:.0f} s: {last}; "
                      f"{one_line(self.stderr()[-800:])}")

    def stop(self, how=signal.SIGTERM, seconds=30):
        """Stop and return the exit code (negative: killed by that signal)."""
        if self.process is None:
            return None
        process = self.process
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"writ serve did not stop within {seconds} s") from None
        self.collect()
        return process.returncode

    def kill(self):
        """kill -9, the server and all it forked."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.collect()

    def restart(self, **how):
        self.stop()
        return self.start(**how)

    def collect(self):
        """The process is over: keep what sanitizers said."""
        self.process = None
        text = self.stderr()
        at = SANITIZER.search(text)
        if at and not self.reports:
            self.reports.append(text[at.start():at.start() + 3000])

    def close(self):
        if self in DEPLOYMENTS:
            DEPLOYMENTS.remove(self)
        if self.process is not None:
            try:
                self.stop()
            except Failure as e:
                self.reports.append(str(e))
        if not os.environ.get("WRIT_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def stderr(self):
        try:
            with open(self.errors, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    # talking to it

    def http(self, method, path, body=None, headers=None, timeout=15):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            return exchange(c, method, path, body, headers)
        finally:
            c.close()

    def operators(self, method, path, body=None, headers=None, timeout=15):
        c = http.client.HTTPConnection("127.0.0.1", self.operators_port, timeout=timeout)
        try:
            return exchange(c, method, path, body, headers)
        finally:
            c.close()

    def admin(self, method, path, body=None, headers=None, timeout=30):
        c = UnixConnection(self.admin_socket, timeout)
        try:
            return exchange(c, method, path, body, headers)
        finally:
            c.close()

    def https(self, method, path, body=None, headers=None, cert=None, timeout=15):
        """Over TLS; @cert is (certificate file, key file). The server must chain to our bundle."""
        c = http.client.HTTPSConnection("127.0.0.1", self.tls_port, timeout=timeout,
                                        context=self.tls_context(cert))
        try:
            return exchange(c, method, path, body, headers)
        finally:
            c.close()

    def tls_context(self, cert=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # a SPIFFE server is known by its ID, not by a name
        context.load_verify_locations(self.path("writ-data", "bundle.pem"))
        if cert:
            context.load_cert_chain(*cert)
        return context

    def writ(self, *args, code=None, text=None, env=None, timeout=60):
        """Run a writ command against this deployment; @code: the exit code it must have."""
        check(os.path.exists(WRIT), f"there is no {WRIT}; build it first")
        environment = dict(os.environ, WRIT_CONFIG=self.config_file, **(env or {}))
        done = subprocess.run([WRIT, *args], cwd=self.dir, capture_output=True, text=True, input=text,
                              env=environment, timeout=timeout, check=False)
        if SANITIZER.search(done.stderr):
            self.reports.append(done.stderr)
        if code is not None and done.returncode != code:
            raise Failure(f"writ {' '.join(args)} ended with {done.returncode}, expected {code}: "
                          f"{one_line(done.stdout[-600:])} {one_line(done.stderr[-900:])}")
        return done

    # what most tests need

    def register(self, spiffe_id=AGENT, owner="alice", **more):
        body = {"spiffe_id": spiffe_id, "owner": owner, "attributes": {"team": "finance"}}
        body.update(more)
        reply = self.admin("POST", "/v1/agents", body)
        check(reply.status in (200, 201), f"registering {spiffe_id}: {reply}")
        return reply

    def evaluate(self, tool="ledger/query", args=None, agent=AGENT, headers=None, **members):
        return self.http("POST", "/access/v1/evaluation", call(tool, args, agent, **members), headers)

    def export(self, name="export.jsonl", *more):
        path = self.path(name)
        self.writ("audit", "export", "--output", path, *more, code=0)
        return path

    def log_key(self):
        key = self.writ("audit", "key", code=0).stdout.strip()
        check(re.fullmatch(r"\S+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+", key), f"no verifier key: {key!r}")
        return key


def call(tool="ledger/query", args=None, agent=AGENT, **members):
    """An AuthZEN request for one tool call."""
    action = {"name": "tools/call"}
    if args is not None:
        action["properties"] = args
    request = {"subject": {"type": "agent", "id": agent}, "action": action,
               "resource": {"type": "tool", "id": tool}}
    request.update(members)
    return request


def is_error(reply, status, what=""):
    """@reply is our JSON error of this status (or one of these)."""
    statuses = status if isinstance(status, tuple) else (status,)
    check(reply.status in statuses, f"{what}: status is {reply.status}, expected {status}: {reply}")
    error = reply.json.get("error")
    check(isinstance(error, dict), f"{what}: no error object: {reply}")
    equal(error.get("status"), reply.status, f"{what}: error.status")
    check(re.fullmatch(r"[a-z0-9_]+", error.get("code", "")), f"{what}: error.code: {reply}")
    check(len(error.get("message", "")) > 5, f"{what}: error.message: {reply}")
    return error


def leaves(path):
    """The records of an export, as {seq: (line, object)}."""
    found = {}
    with open(path, "rb") as f:
        for line in f:
            value = json.loads(line)
            if "seq" in value and "kind" in value:
                found[value["seq"]] = (line.rstrip(b"\n"), value)
    return found


def openssl(*args, data=None):
    done = subprocess.run(["openssl", *args], input=data, capture_output=True, check=False)
    if done.returncode:
        raise Failure(f"openssl {' '.join(args[:3])}: {done.stderr.decode(errors='replace')[-400:]}")
    return done.stdout


def join_token(reply):
    """The join token of an answer of /v1/agents/token."""
    token = reply.json.get("join_token") or reply.json.get("token")
    check(isinstance(token, str) and len(token) >= 16, f"no join token in {reply}")
    return token
