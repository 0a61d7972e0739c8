#!/usr/bin/env -S python3 -B
"""Authorities' keys in a token (SoftHSM): from the first SVID through rotation, crashes and a token that goes away."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import time

from harness import Deployment, Failure, TRUST_DOMAIN, check, equal, is_error, join_token, leaves, main, openssl, test

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "4711"
LIMITS = "limits = { attest_rate = 1000, attest_burst = 1000 }\n"
BOTH = 'x509 = "pkcs11:token=writ", jwt = "pkcs11:token=writ"'


class Token(Deployment):
    """A deployment with a token of its own, named "writ"."""

    def __init__(self, keys=BOTH, config="", more=""):
        super().__init__(caller=None, config=LIMITS + config)
        self.plain = self.config
        self.keys, self.more = keys, more
        os.makedirs(self.path("tokens"))
        self.write("softhsm2.conf", f"directories.tokendir = {self.path('tokens')}\nlog.level = ERROR\n")
        self.env = {"SOFTHSM2_CONF": self.path("softhsm2.conf")}
        self.pin(PIN)
        self.init("writ")
        self.configure(keys, more)

    def init(self, label):
        subprocess.run(["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN],
                       check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, **self.env))

    def pin(self, pin, mode=0o600):
        os.chmod(self.write("pin", pin + "\n"), mode)

    def configure(self, keys=None, more="", module=MODULE):
        self.config = self.plain
        if keys is not None:
            self.config += (f'authority = {{ pkcs11 = {{ module = "{module}", pin = "file:pin", {keys}'
                            f'{", " + more if more else ""} }} }}\n')
        self.write("writ.lua", self.config)

    def spawn(self, env=None):
        return super().spawn(dict(self.env, **(env or {})))

    def objects(self, kind="priv"):
        """What the token holds, as another program sees it: {id: label}."""
        out = subprocess.run(["pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN, "--token-label", "writ",
                              "--list-objects", "--type", f"{kind}key"], check=True, capture_output=True, text=True,
                             env=dict(os.environ, **self.env)).stdout
        found = {}
        for block in re.split(r"(?m)^(?=\S)", out):
            label, name = re.search(r"label: +(.*)", block), re.search(r"ID: +([0-9a-f]+)", block)
            if label and name:
                found[name.group(1)] = label.group(1)
                if kind == "priv":
                    check("never extractable" in block and "sensitive" in block, block)
        return found


def authorities(d):
    return d.admin("GET", "/v1/authorities").json["authorities"]


def active(d, kind):
    found = [a for a in authorities(d) if a["kind"] == kind and a["state"] == "active"]
    equal(len(found), 1, f"active {kind} authorities")
    return found[0]


def token_id(authority):
    check(authority["key"].startswith("pkcs11:type=private;id=%"), f"not in the token: {authority}")
    return authority["key"].split("id=")[1].replace("%", "")


def act(d, verb, status=200, **body):
    reply = d.admin("POST", f"/v1/authorities/{verb}", body)
    equal(reply.status, status, f"{verb} {body}: {reply}")
    return reply.json


def rotate(d, kind):
    new = act(d, "prepare", 201, kind=kind)
    old = active(d, kind)
    act(d, "activate", id=new["id"], force=True)
    return old, new


def enrol(d, name):
    spiffe_id = f"spiffe://{TRUST_DOMAIN}/agent/{name}"
    d.register(spiffe_id)
    key = d.path(name + ".key")
    csr = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                  "-subj", "/CN=x").decode()
    reply = d.http("POST", "/v1/attest", {"join_token": join_token(d.admin("POST", "/v1/agents/token",
                                                                           {"spiffe_id": spiffe_id})), "csr": csr})
    equal(reply.status, 200, repr(reply))
    return d.write(name + ".crt", reply.json["x509_svid"]), key


def renew(d, cert):
    public = openssl("pkey", "-in", cert[1], "-pubout").decode()
    return d.https("POST", "/v1/svid/x509", {"public_key": public}, cert=cert)


def jwt(d, cert):
    return d.https("POST", "/v1/svid/jwt", {"audience": [f"spiffe://{TRUST_DOMAIN}/writ/server"]}, cert=cert)


def verifies(d, certificate):
    """By openssl alone, under the bundle as it is on disk."""
    said = subprocess.run(["openssl", "verify", "-CAfile", os.path.join(d.data, "bundle.pem"), certificate],
                          capture_output=True, text=True, check=False)
    check(said.returncode == 0, said.stdout + said.stderr)


def accepted(d, token):
    return d.http("POST", "/access/v1/search/action", {}, {"Authorization": f"Bearer {token}"}).status != 401


def key_files(d):
    return sorted(os.path.basename(p) for p in glob.glob(os.path.join(d.data, "keys", "*")))


def fails_to_start(d, saying):
    try:
        d.start()
    except Failure:
        last = d.stderr().strip().splitlines()[-1]
        check(saying in last, f"{last!r} does not say {saying!r}")
        return last
    raise Failure(f"it started; expected {saying!r}")


@test
def from_the_first_start_to_a_revocation():
    d = Token().start()
    cert = enrol(d, "a")
    verifies(d, cert[0])
    token = jwt(d, cert).json["svid"]
    check(accepted(d, token), "a token signed by the token")
    # No key of an authority was ever used but in the token, and none is on disk.
    x509, jwt_key = active(d, "x509"), active(d, "jwt")
    equal(sorted(d.objects()), sorted([token_id(x509), token_id(jwt_key)]), "keys in the token")
    equal([f for f in key_files(d) if f in ("x509.key", "jwt.key")], [], "keys of the first start")
    equal(sorted(label.rsplit(" ", 1)[0] for label in d.objects().values()), ["writ jwt", "writ x509"], "labels")
    for name in key_files(d):
        with open(os.path.join(d.data, "keys", name), "rb") as f:
            check(b"PRIVATE KEY" not in f.read() or name == "log.key", name)
    first_run = [a["state"] for a in d.admin("GET", "/v1/authorities").json["left"]]
    equal(first_run, ["revoked", "revoked"], "the authorities that were files")
    check("pkcs11_module" in [f["name"] for f in d.admin("GET", "/v1/doctor").json["findings"]], "doctor")
    check(token_id(x509)[:2] in d.writ("authority", "show", code=0).stdout, "authority show")
    # rotation: both old and new verify, and the old key leaves the token
    old, new = rotate(d, "x509")
    equal(old["id"], x509["id"], "what was active")
    rotate(d, "jwt")
    equal(len(d.objects()), 2, "the old ones left")
    check(token_id(old) not in d.objects() and token_id(active(d, "x509")) in d.objects(), "keys in the token")
    equal(len(d.objects("pub")), 2, "their public halves left with them")
    verifies(d, cert[0])
    check(accepted(d, token), "a token signed before")
    reply = renew(d, cert)
    equal(reply.status, 200, repr(reply))
    again = d.write("again.crt", reply.json["x509_svid"])
    verifies(d, again)
    # restart: nothing changes
    d.restart()
    equal(active(d, "x509")["id"], new["id"], "after a restart")
    equal(renew(d, (again, cert[1])).status, 200, "it signs")
    check(accepted(d, token), "a token of before")
    # taint and revoke
    act(d, "taint", id=old["id"])
    act(d, "revoke", id=old["id"])
    try:
        check(renew(d, cert).status == 401, "an SVID of a revoked authority")
    except OSError:
        pass
    verifies(d, again)
    prepared = act(d, "prepare", 201, kind="x509")
    check(token_id(prepared) in d.objects(), "prepared in the token")
    act(d, "revoke", id=prepared["id"])
    check(token_id(prepared) not in d.objects(), "revoked and gone")
    kinds = [r for _, r in leaves(d.export("all.jsonl")).values() if r["kind"] == "key.rotate"]
    check(any(r["act"] == "revoke" and r["authority"] == prepared["id"] and r["token"] == token_id(prepared)
              for r in kinds), "on record")
    d.close()


@test
def a_pin_that_is_wrong_is_tried_once():
    d = Token()
    d.pin("0000")
    fails_to_start(d, "the PIN is wrong")
    # A service manager starts it again and again; a token locks itself after a few tries.
    for _ in range(3):
        fails_to_start(d, "it is not tried again")
    d.pin(PIN)
    d.start()
    equal([f for f in key_files(d) if f == "pin.refused"], [], "what was remembered")
    d.stop()
    for why, spoil, says in (
            ("readable", lambda: d.pin(PIN, 0o644), "chmod 600"),
            ("empty", lambda: d.pin(""), "one line"),
            ("two lines", lambda: d.pin("1\n2"), "one line"),
            ("missing", lambda: os.remove(d.path("pin")), "pin")):
        spoil()
        check("PIN" in fails_to_start(d, says) or "pin" in d.stderr(), why)
    d.pin(PIN)
    d.start()
    check(PIN not in d.stderr() and PIN not in d.writ("authority", "show", "--json", code=0).stdout, "the PIN leaks")
    d.close()


@test
def what_must_be_there_at_the_start():
    d = Token()
    for why, how, says in (
            ("no token", {"keys": 'x509 = "pkcs11:token=other"'}, "no token \"other\""),
            ("no module", {"keys": BOTH, "module": "/usr/lib/softhsm/none.so"}, "No such file"),
            ("no library", {"keys": BOTH, "module": "/bin/true"}, "cannot be loaded"),
            ("no URI", {"keys": 'x509 = "token=writ"'}, "pkcs11:token=NAME"),
            ("a PIN in it", {"keys": f'x509 = "pkcs11:token=writ?pin-value={PIN}"'}, "a query is not taken"),
            ("a key in it", {"keys": 'jwt = "pkcs11:token=writ;object=x"'}, "writ makes its own keys")):
        d.configure(**how)
        check(fails_to_start(d, says), why)
    d.init("writ")
    d.configure(BOTH)
    fails_to_start(d, "2 tokens are \"writ\"")
    d.close()


@test
def a_deployment_moves_into_a_token_and_out_again():
    d = Token()
    d.configure(None)
    d.config += "ttl = { authority = '2h', x509 = '60s', jwt = '30s' }\n"
    d.write("writ.lua", d.config)
    d.plain = d.config
    d.start()
    cert = enrol(d, "mover")
    equal(active(d, "x509")["key"], "file", "to begin with")
    d.stop()
    d.configure('x509 = "pkcs11:token=writ"')
    d.start()
    # prepared at once; verifiers read it before it signs
    prepared = [a for a in authorities(d) if a["state"] == "prepared"]
    equal([(a["kind"], a["key"][:6]) for a in prepared], [("x509", "pkcs11")], "what was prepared")
    equal(active(d, "jwt")["key"], "file", "the other kind")
    act(d, "activate", id=prepared[0]["id"], force=True)
    verifies(d, cert[0])
    reply = renew(d, cert)
    equal(reply.status, 200, repr(reply))
    verifies(d, d.write("in.crt", reply.json["x509_svid"]))
    d.stop()
    # Without its token the key cannot be used, and nothing else takes its place by itself.
    d.configure(None)
    fails_to_start(d, "authority.pkcs11.x509")
    d.configure('x509 = "pkcs11:token=writ"', "leave = true")
    d.start()
    prepared = [a for a in authorities(d) if a["state"] == "prepared"]
    equal([(a["kind"], a["key"]) for a in prepared], [("x509", "file")], "on the way out")
    act(d, "activate", id=prepared[0]["id"], force=True)
    equal(d.objects(), {}, "what the token holds in the end")
    d.stop()
    d.configure(None)
    d.start()
    verifies(d, cert[0])
    equal(renew(d, (d.path("in.crt"), cert[1])).status, 200, "it signs")
    d.close()


@test
def under_the_organisations_ca_sealed_and_with_a_credential():
    d = Token()
    for name, ca, extra in (("root", None, ()), ("ca", "root", ())):
        openssl("req", "-x509" if not ca else "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", d.path(name + ".key"), "-out", d.path(name + (".pem" if not ca else ".csr")), "-subj",
                f"/CN={name}", *(("-days", "99", "-addext", "keyUsage=critical,keyCertSign") if not ca else ()))
    d.write("ca.ext", "basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign\n"
                      "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
    openssl("x509", "-req", "-in", d.path("ca.csr"), "-CA", d.path("root.pem"), "-CAkey", d.path("root.key"), "-extfile",
            d.path("ca.ext"), "-days", "90", "-out", d.path("ca.pem"))
    os.chmod(d.path("ca.key"), 0o600)
    os.makedirs(d.path("credentials"))
    shutil.move(d.path("pin"), d.path("credentials", "token-pin"))
    with open(d.path("sealing"), "wb") as f:
        f.write(os.urandom(32))
    os.chmod(d.path("sealing"), 0o600)
    d.config = d.plain + f"""
keys = {{ encrypt = "file:sealing" }}
authority = {{
  upstream = {{ certificate = "ca.pem", key = "ca.key", bundle = "root.pem" }},
  pkcs11 = {{ module = "{MODULE}", pin = "credential:token-pin", {BOTH}, network = true }},
}}
"""
    d.write("writ.lua", d.config)
    fails_to_start(d, "LoadCredential=token-pin")
    d.env["CREDENTIALS_DIRECTORY"] = d.path("credentials")
    d.start()
    cert = enrol(d, "deep")
    text = openssl("x509", "-in", cert[0], "-noout", "-issuer").decode()
    check("O = writ" in text, text)
    said = subprocess.run(["openssl", "verify", "-CAfile", d.path("root.pem"), "-untrusted", cert[0], cert[0]],
                          capture_output=True, text=True, check=False)
    check(said.returncode == 0, said.stdout + said.stderr)
    check(token_id(active(d, "x509")) in d.objects(), "the intermediate's key")
    rotate(d, "x509")
    d.restart()
    equal(renew(d, cert).status, 200, "after a rotation and a restart")
    message = [f["message"] for f in d.admin("GET", "/v1/doctor").json["findings"] if f["name"] == "pkcs11_module"]
    check(message and "connect to other machines" in message[0], repr(message))
    d.close()


def refused(reply, saying):
    error = is_error(reply, 503, saying)
    check(saying in error["message"], f"{error} does not say {saying!r}")


@test
def a_token_that_goes_away():
    d = Token().start()
    cert = enrol(d, "b")
    equal(jwt(d, cert).status, 200, "before")
    shutil.move(d.path("tokens"), d.path("elsewhere"))
    os.makedirs(d.path("tokens"))
    refused(jwt(d, cert), "token")
    refused(renew(d, cert), "token")
    equal(d.admin("POST", "/v1/authorities/prepare", {"kind": "jwt"}).status, 503, "a rotation")
    still_decides(d, cert, "b")
    said = [f["message"] for f in d.admin("GET", "/v1/doctor").json["findings"] if f["name"] == "signer"]
    check(said and "JWT-SVID could not be signed: token: no token" in said[0] and "X.509-SVID" in said[0], repr(said))
    equal(d.admin("GET", "/readyz").status, 200, "ready")
    # and it comes back without a restart
    shutil.rmtree(d.path("tokens"))
    shutil.move(d.path("elsewhere"), d.path("tokens"))
    end = time.monotonic() + 60
    while jwt(d, cert).status != 200:
        check(time.monotonic() < end, "it does not come back")
        time.sleep(0.05)
    equal(renew(d, cert).status, 200, "X.509 as well")
    equal([f for f in d.admin("GET", "/v1/doctor").json["findings"] if f["name"] == "signer"], [], "doctor")
    rotate(d, "jwt")
    d.close()


def process(d, name):
    """The pid of a process that the server forked, or its signer did."""
    below, found = {d.process.pid}, []
    for _ in range(2):
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path, encoding="utf-8") as f:
                    pid, comm, parent = re.match(r"(\d+) \((.*)\) \S (\d+)", f.read()).groups()
            except (OSError, AttributeError):
                continue
            if int(parent) in below:
                below.add(int(pid))
                if comm == name:
                    found.append(int(pid))
    equal(len(set(found)), 1, f"processes named {name}")
    return found[0]


def still_decides(d, cert, name):
    ask = {"subject": {"type": "agent", "id": f"spiffe://{TRUST_DOMAIN}/agent/{name}"},
           "action": {"name": "tools/call"}, "resource": {"type": "tool", "id": "ledger/query"}}
    reply = d.https("POST", "/access/v1/evaluation", ask, cert=cert)
    equal((reply.status, "record" in reply.json["context"]), (200, True), repr(reply))
    d.writ("audit", "checkpoint", code=0)


@test
def a_module_that_hangs_or_dies():
    d = Token().start()
    cert = enrol(d, "h")
    pid = process(d, "writ-token")
    os.kill(pid, signal.SIGSTOP)
    refused(jwt(d, cert), "did not answer within")
    for _ in range(3):  # one wait for all of them
        refused(renew(d, cert), "an earlier request")
    still_decides(d, cert, "h")
    os.kill(pid, signal.SIGCONT)
    end = time.monotonic() + 60
    while jwt(d, cert).status != 200:
        check(time.monotonic() < end, "it does not come back")
        time.sleep(0.02)
    equal(renew(d, cert).status, 200, "X.509 as well")
    rotate(d, "x509")
    os.kill(process(d, "writ-token"), signal.SIGKILL)
    refused(jwt(d, cert), "has ended")
    refused(renew(d, cert), "has ended")
    still_decides(d, cert, "h")
    d.restart()
    equal(jwt(d, cert).status, 200, "after a restart")
    # The signer itself has neither module nor token open.
    with open(f"/proc/{process(d, 'writ-signer')}/maps", encoding="utf-8") as f:
        check("softhsm" not in f.read(), "the signer has the module in its memory")
    d.close()


@test
def a_key_that_is_missing():
    d = Token().start()
    gone = token_id(active(d, "jwt"))
    d.stop()
    subprocess.run(["pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN, "--token-label", "writ", "--delete-object",
                    "--type", "privkey", "--id", gone], check=True, capture_output=True, env=dict(os.environ, **d.env))
    last = fails_to_start(d, f"no private key with id {gone}")
    check("active jwt authority" in last, last)
    d.close()


@test
def a_crash_at_any_step_of_a_rotation():
    d = Token().start()
    cert = enrol(d, "c")
    kinds = ("x509", "jwt")
    for turn in range(6):
        before = {k: active(d, k)["id"] for k in kinds}
        kind = kinds[turn % 2]
        # Killed while it prepares, or activates: whatever was reached, one that works is there.
        script = f"""
import http.client, json, socket, sys
def post(path, body):
    s = socket.socket(socket.AF_UNIX); s.connect({d.path("writ-data", "admin.sock")!r})
    c = http.client.HTTPConnection("localhost"); c.sock = s
    c.request("POST", path, json.dumps(body), {{"Content-Type": "application/json"}})
    return json.loads(c.getresponse().read())
while True:
    made = post("/v1/authorities/prepare", {{"kind": {kind!r}}})
    print(1, flush=True)
    post("/v1/authorities/activate", {{"id": made["id"], "force": True}})
"""
        child = subprocess.Popen(["python3", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(turn + 1):
            child.stdout.readline()
        d.kill()
        child.kill()
        child.wait()
        child.stdout.close()
        d.start()
        now = {k: active(d, k) for k in kinds}
        equal(now[kinds[1 - turn % 2]]["id"], before[kinds[1 - turn % 2]], "the other kind")
        verifies(d, cert[0])
        reply = renew(d, cert)
        equal(reply.status, 200, f"turn {turn}: {reply}")
        equal(jwt(d, cert).status, 200, "a token")
        cert = (d.write("c.crt", reply.json["x509_svid"]), cert[1])
        verifies(d, cert[0])
        needed = sorted(token_id(a) for a in authorities(d) if a["state"] in ("active", "prepared"))
        equal(sorted(d.objects()), needed, "leftovers in the token")
        for a in authorities(d):
            if a["state"] == "prepared":
                act(d, "revoke", id=a["id"])
            elif a["state"] == "old":  # or its sixteen places are full before the test is over
                act(d, "revoke", id=a["id"]) if a["kind"] == "jwt" else None
    d.close()


@test
def two_deployments_share_a_token():
    a = Token().start()
    b = Token()
    b.env = a.env
    b.start()
    equal(len(a.objects()), 4, "keys of both")
    rotate(a, "x509")
    rotate(b, "jwt")
    a.restart()
    b.restart()
    held = [token_id(active(d, kind)) for d in (a, b) for kind in ("x509", "jwt")]
    equal(sorted(a.objects()), sorted(held), "nobody took the other's for leftovers")
    a.close()
    b.close()


if __name__ == "__main__":
    main()
