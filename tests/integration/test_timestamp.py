#!/usr/bin/env -S python3 -B
"""RFC 3161 time stamps: `openssl ts` as the authority, by files and over https; stamps that do not hold."""
import atexit
import base64
import http.server
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import threading

from harness import Deployment, check, equal, is_error, leaves, main, openssl, test

CONFIG = """
[tsa]
default_tsa = here
[here]
serial = {dir}/serial
crypto_device = builtin
signer_cert = {dir}/tsa.crt
signer_key = {dir}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


class Authority:
    """A CA, a time-stamping authority and a web server under it."""

    def __init__(self, usage="critical,timeStamping"):
        self.dir = tempfile.mkdtemp(prefix="writ-tsa-")
        atexit.register(shutil.rmtree, self.dir, True)
        self.ca = self.path("ca.crt")
        openssl("req", "-x509", *self.new_key("ca"), "-out", self.ca, "-subj", "/CN=stamp CA", "-days", "2")
        self.leaf("tsa", f"extendedKeyUsage={usage}\nkeyUsage=critical,digitalSignature\n")
        self.leaf("web", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self.config = self.path("tsa.cnf")
        with open(self.config, "w", encoding="ascii") as f:
            f.write(CONFIG.format(dir=self.dir))
        with open(self.path("serial"), "w", encoding="ascii") as f:
            f.write("01\n")
        self.answer = None  # instead of a good one
        authority = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                authority.kind = self.headers["Content-Type"]
                status, kind, reply = authority.answer or (200, "application/timestamp-reply", authority.reply(body))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("web.crt"), self.path("web.key"))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://localhost:{self.server.server_address[1]}/tsr"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def path(self, name):
        return os.path.join(self.dir, name)

    def new_key(self, name):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.path(name + ".key"))

    def leaf(self, name, extensions):
        with open(self.path(name + ".ext"), "w", encoding="ascii") as f:
            f.write("basicConstraints=CA:FALSE\n" + extensions)
        csr = openssl("req", "-new", *self.new_key(name), "-subj", f"/CN={name}")
        with open(self.path(name + ".crt"), "wb") as f:
            f.write(openssl("x509", "-req", "-CA", self.ca, "-CAkey", self.path("ca.key"), "-extfile",
                            self.path(name + ".ext"), "-days", "1", data=csr))

    def reply(self, request):
        with open(self.path("q"), "wb") as f:
            f.write(request)
        out = self.path("reply")
        subprocess.run(["openssl", "ts", "-reply", "-config", self.config, "-queryfile", self.path("q"), "-out", out],
                       capture_output=True, check=False)
        with open(out, "rb") as f:
            return f.read()


tsa = None


def authority():
    global tsa
    if tsa is None:
        tsa = Authority()
    return tsa


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


@test
def by_files():
    d, t = Deployment().start(), authority()
    d.register()
    key = d.log_key()
    q, r = d.path("q.tsq"), d.path("r.tsr")
    d.writ("audit", "timestamp", "--request", q, code=0)
    shown = openssl("ts", "-query", "-in", q, "-text").decode()
    check("sha256" in shown and "Nonce: 0x" in shown and "Certificate required: yes" in shown, shown)
    text = read(q + ".checkpoint").split(b"\n\n")[0] + b"\n"
    write(r, t.reply(read(q)))
    check("OK" in openssl("ts", "-verify", "-data", write(d.path("text"), text), "-in", r, "-CAfile", t.ca).decode(),
          "openssl does not verify what it signed over our text")
    d.evaluate()
    done = json.loads(d.writ("audit", "timestamp", "--request", q, "--response", r, "--tsa-ca", t.ca, "--json",
                             code=0).stdout)
    equal(done["size"], int(text.split(b"\n")[1]), "records")
    stamps = [x for _, x in leaves(d.export("all.jsonl")).values() if x["kind"] == "log.timestamp"]
    equal([x["size"] for x in stamps], [done["size"]], "on record")

    # The export that ends there carries it, and says so to whoever names the authority.
    path = d.export("stamped.jsonl", "--timestamped")
    out = d.writ("audit", "verify", "--key", key, "--tsa-ca", t.ca, path, code=0).stdout
    check("anchoring: yes" in out and f"timestamp: {done['stamped_at'][:19]}" in out, out)
    out = d.writ("audit", "verify", "--key", key, path, code=0).stdout
    check("anchoring: unknown" in out and "timestamp:" not in out, out)
    out = d.writ("audit", "verify", "--key", key, "--tsa-ca", t.ca, d.path("all.jsonl"), code=3).stdout
    check("anchoring: NO" in out and "no time stamp" in out, out)
    equal(d.writ("audit", "verify", "--key", key, "--tsa-ca", d.config_file, path).returncode, 1, "no certificates")
    second = subprocess.run([os.path.join(os.path.dirname(__file__), "../../scripts/verify.py"), "--key", key, path],
                            capture_output=True, text=True, check=False)
    equal(second.returncode, 0, f"verify.py: {second.stdout}{second.stderr}")

    # And what is in the file is a token that openssl reads.
    note = json.loads(read(path).rstrip(b"\n").split(b"\n")[-1])["trailer"]["checkpoint"]
    line = [s for s in note.split("\n") if s.startswith("— timestamp ")]
    equal(len(line), 1, note)
    token = write(d.path("token"), base64.b64decode(line[0].split(" ")[2])[4:])
    check("OK" in openssl("ts", "-verify", "-data", d.path("text"), "-in", token, "-token_in", "-CAfile",
                          t.ca).decode(), "the token in the export")


@test
def over_https():
    d, t = Deployment().start(), authority()
    web = {"SSL_CERT_FILE": t.ca}
    t.answer = None
    args = ("audit", "timestamp", "--tsa", t.url, "--tsa-ca", t.ca)
    done = d.writ(*args, env=web, code=0).stdout
    check("stamped_at" in done, done)
    equal(t.kind, "application/timestamp-query", "media type")
    good = read(t.path("reply"))
    key = d.log_key()
    d.writ("audit", "verify", "--key", key, "--tsa-ca", t.ca, d.export("one.jsonl", "--timestamped"), code=0)
    for why, answer, says in (
            ("status", (500, "text/plain", b"no"), "status 500"),
            ("type", (200, "text/html", good), "text/html"),
            ("not DER", (200, "application/timestamp-reply", b"hello"), "no time-stamp response"),
            ("cut", (200, "application/timestamp-reply", good[:-1]), "no time-stamp response"),
            ("behind it", (200, "application/timestamp-reply", good + b"\0"), "no time-stamp response"),
            ("of another request", (200, "application/timestamp-reply", good), "nonce mismatch|imprint mismatch"),
            ("a refusal", (200, "application/timestamp-reply", t.reply(b"\x30\x03\x02\x01\x01")), "did not grant")):
        t.answer = answer
        failed = d.writ(*args, env=web, code=1).stderr
        check(any(word in failed for word in says.split("|")), f"{why}: {failed}")
    t.answer = None
    # Without Web PKI, or by http, nothing is asked; without an authority to believe, neither.
    check("certificate" in d.writ(*args, code=1).stderr, "an untrusted server")
    d.writ("audit", "timestamp", "--tsa", t.url.replace("https", "http"), "--tsa-ca", t.ca, code=1)
    d.writ("audit", "timestamp", "--tsa", t.url, code=2)
    d.writ("audit", "timestamp", code=2)


@test
def stamps_that_do_not_hold():
    d, t, other, weak = Deployment().start(), authority(), Authority(), Authority("clientAuth")
    q, r = d.path("q"), d.path("r")
    d.writ("audit", "timestamp", "--request", q, code=0)

    def fails(request, response, ca, says):
        write(r, response)
        failed = d.writ("audit", "timestamp", "--request", request, "--response", r, "--tsa-ca", ca, code=1).stderr
        check(any(word in failed for word in says.split("|")), failed)

    good = t.reply(read(q))
    fails(q, good, other.ca, "does not hold")
    fails(q, weak.reply(read(q)) if os.path.exists(weak.path("reply")) else b"", weak.ca, "no time-stamp response|hold")
    at = good.index(bytes.fromhex("0420")) + 10
    fails(q, good[:at] + bytes([good[at] ^ 1]) + good[at + 1:], t.ca, "does not hold|no time-stamp response")
    fails(q, good[:-5] + bytes([good[-5] ^ 1]) + good[-4:], t.ca, "does not hold")
    again = d.path("again")
    d.register()
    d.writ("audit", "timestamp", "--request", again, code=0)
    fails(again, good, t.ca, "mismatch")
    # A request for other text beside our checkpoint.
    write(d.path("other.txt"), b"something else")
    write(d.path("foreign"), openssl("ts", "-query", "-data", d.path("other.txt"), "-sha256", "-cert"))
    write(d.path("foreign.checkpoint"), read(q + ".checkpoint"))
    fails(d.path("foreign"), t.reply(read(d.path("foreign"))), t.ca, "mismatch")
    check(not os.path.exists(os.path.join(d.data, "timestamps")), "one that does not hold was kept")


@test
def the_server_takes_its_own_only():
    d, t = Deployment().start(), authority()
    q = d.path("q")
    d.writ("audit", "timestamp", "--request", q, code=0)
    note = read(q + ".checkpoint").decode()
    write(d.path("rsp"), t.reply(read(q)))
    openssl("ts", "-reply", "-in", d.path("rsp"), "-token_out", "-out", d.path("token"))
    token = base64.b64encode(read(d.path("token"))).decode()
    ask = lambda **body: d.admin("POST", "/v1/audit/timestamp", body)
    is_error(ask(checkpoint=note), 400)
    is_error(ask(checkpoint=note, token="AAAA", more=1), 400)
    is_error(ask(checkpoint=note, token="!"), 400)
    equal(is_error(ask(checkpoint=note, token="AAAA"), 400)["code"], "bad_timestamp", "code")
    is_error(ask(checkpoint="nothing", token=token), 400)
    lines = note.split("\n")
    forged = "\n".join([lines[0], str(int(lines[1]) + 1)] + lines[2:])
    is_error(ask(checkpoint=forged, token=token), 404)
    d.register()
    newer = d.writ("audit", "checkpoint", code=0).stdout
    equal(is_error(ask(checkpoint=newer, token=token), 400)["code"], "bad_timestamp", "a stamp of another checkpoint")
    equal(ask(checkpoint=note, token=token).status, 200, "its own")
    is_error(d.http("POST", "/v1/audit/timestamp", {"checkpoint": note, "token": token}), 404)
    is_error(d.admin("GET", "/v1/audit/export?timestamped=maybe"), 400)


@test
def nothing_is_stamped_by_itself():
    d = Deployment().start()
    failed = d.writ("audit", "export", "--timestamped", code=1).stderr
    check("no checkpoint has a time stamp" in failed, failed)
    failed = d.writ("audit", "export", "--witnessed", code=1).stderr
    check("no checkpoint was cosigned" in failed, failed)


if __name__ == "__main__":
    main()
