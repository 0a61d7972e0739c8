#!/usr/bin/env -S python3 -B
"""writ svid watch: keeps an SVID fresh on disk, tells a program, and survives what goes wrong."""
import base64
import json
import os
import signal
import subprocess
import time

from harness import (WRIT, AGENT, SANITIZER, Deployment, check, equal, join_token, main, one_line, openssl, test)
from spiffe_double import FOREIGN_KEY, Double

LIMITS = "limits = { attest_rate = 1000, attest_burst = 1000 }\n"
shared = None


def server():
    global shared
    if shared is None:
        shared = Deployment(caller=None, config=LIMITS).start()
        shared.register()
    return shared


def token(d, agent=AGENT):
    return join_token(d.admin("POST", "/v1/agents/token", {"spiffe_id": agent}))


def files(folder):
    return {name: open(os.path.join(folder, name), "rb").read() for name in ("svid.pem", "key.pem", "bundle.pem")}


def belongs(folder):
    """Do certificate and key belong together, under the bundle?"""
    crt = openssl("x509", "-in", os.path.join(folder, "svid.pem"), "-noout", "-pubkey")
    key = openssl("pkey", "-in", os.path.join(folder, "key.pem"), "-pubout")
    equal(crt, key, "public key")
    openssl("verify", "-CAfile", os.path.join(folder, "bundle.pem"), os.path.join(folder, "svid.pem"))


class Watch:
    """A running `writ svid watch`."""

    def __init__(self, d, *args):
        self.d = d
        self.out, self.err = d.path(f"watch-{time.monotonic_ns()}.out"), d.path(f"watch-{time.monotonic_ns()}.err")
        with open(self.out, "w") as out, open(self.err, "w") as err:
            self.process = subprocess.Popen([WRIT, "svid", "watch", *args], cwd=d.dir, stdout=out, stderr=err,
                                            stdin=subprocess.DEVNULL, env=dict(os.environ, WRIT_CONFIG=d.config_file))

    def said(self):
        return open(self.out).read()

    def complained(self):
        return open(self.err).read()

    def until(self, what, found, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found():
                return
            if self.process.poll() is not None and not found():
                break
            time.sleep(0.05)
        check(False, f"{what}: never; {one_line(self.said())} / {one_line(self.complained())}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(10)
        check(not SANITIZER.search(self.complained()), self.complained())


@test
def the_first_one_by_token_and_the_next_by_itself():
    d = server()
    folder = d.path("once")
    done = d.writ("svid", "watch", "--once", "--dir", folder, "--join-token", token(d), "--json", code=0)
    event = json.loads(done.stdout)
    equal((event["event"], event["spiffe_id"]), ("renewed", AGENT), "event")
    first = files(folder)
    belongs(folder)
    equal([os.stat(os.path.join(folder, n)).st_mode & 0o777 for n in ("svid.pem", "key.pem", "bundle.pem")],
          [0o644, 0o600, 0o644], "modes")
    equal(os.stat(folder).st_mode & 0o777, 0o700, "mode of the folder")
    # The token is used up; what is there renews itself, with a new key.
    d.writ("svid", "watch", "--once", "--dir", folder, "--key-mode", "0640", "--owner", "root:daemon", code=0)
    second = files(folder)
    belongs(folder)
    check(first["key.pem"] != second["key.pem"] and first["svid.pem"] != second["svid.pem"], "nothing was renewed")
    stat = os.stat(os.path.join(folder, "key.pem"))
    equal((stat.st_mode & 0o777, stat.st_gid), (0o640, __import__("grp").getgrnam("daemon").gr_gid), "key.pem")
    check(not [n for n in os.listdir(folder) if n not in first], f"left behind: {os.listdir(folder)}")


@test
def tells_a_process_and_runs_a_command():
    d = server()
    folder, marks, pid_file = d.path("told"), d.path("marks"), d.path("reader.pid")
    hups = d.path("hups")
    # The reader has its handler before its number is known.
    reader = subprocess.Popen(["sh", "-c", f"trap 'echo hup >>{hups}' HUP; echo $$ >{pid_file}.new; "
                                           f"mv {pid_file}.new {pid_file}; while :; do sleep 0.05; done"])
    w = None
    try:
        while not os.path.exists(pid_file):
            time.sleep(0.01)
        w = Watch(d, "--dir", folder, "--join-token", token(d), "--every", "1s", "--signal", "SIGHUP", "--pid-file",
                  pid_file, "--exec", f"cat {folder}/svid.pem >/dev/null && echo ran >>{marks}")
        w.until("three renewals", lambda: w.said().count("renewed") >= 3)
        w.until("the command", lambda: os.path.exists(marks) and open(marks).read().count("ran") >= 3)
        w.until("the signal", lambda: os.path.exists(hups))
        # A bundle that was changed comes back, and is told.
        with open(os.path.join(folder, "bundle.pem"), "ab") as f:
            f.write(b"\n")
        w.until("the bundle", lambda: files(folder)["bundle.pem"].rstrip(b"\n") + b"\n" == files(folder)["bundle.pem"])
        equal(w.complained(), "", "complaints")
    finally:
        if w:
            w.stop()
        reader.kill()
        reader.wait()
    belongs(folder)


@test
def what_fails_is_said_and_tried_again():
    d = Deployment(caller=None, config=LIMITS).start()
    d.register()
    folder = d.path("svid")
    w = Watch(d, "--dir", folder, "--join-token", token(d), "--every", "1s", "--signal", "HUP", "--pid-file",
              d.path("nobody.pid"), "--exec", "exit 7")
    try:
        w.until("the first", lambda: "renewed" in w.said())
        w.until("a failing command is named", lambda: "exit code 7" in w.complained())
        check("nobody was signalled" in w.complained(), w.complained())
        d.stop()
        w.until("a server that is down is named", lambda: "nobody answers" in w.complained())
        belongs(folder)
        check(w.process.poll() is None, "it ended because the server was down")
        before = w.said().count("renewed")
        d.start()
        w.until("renewal after the server is back", lambda: w.said().count("renewed") > before)
    finally:
        w.stop()
    d.close()


@test
def ends_when_there_is_nothing_to_renew():
    d = server()
    empty = d.path("empty")
    os.makedirs(empty)
    done = d.writ("svid", "watch", "--dir", empty, code=1)
    check("--join-token" in done.stderr and "agent token" in done.stderr, done.stderr)
    done = d.writ("svid", "watch", "--dir", empty, "--join-token", "wjt_wrong", code=1)
    equal(os.listdir(empty), [], "files")
    used = token(d)
    d.writ("svid", "x509", "--dir", d.path("other"), "--join-token", used, code=0)
    done = d.writ("svid", "watch", "--dir", empty, "--join-token", used, code=1)
    # A key that is not the certificate's is no SVID.
    for name, text in files(d.path("other")).items():
        with open(os.path.join(empty, name), "wb") as f:
            f.write(text if name != "key.pem" else openssl("genpkey", "-algorithm", "EC", "-pkeyopt",
                                                           "ec_paramgen_curve:P-256"))
    done = d.writ("svid", "watch", "--dir", empty, "--once", code=1)
    check("another key" in done.stderr, done.stderr)
    # And a token mends it.
    d.writ("svid", "watch", "--dir", empty, "--once", "--join-token", token(d), code=0)
    belongs(empty)


@test
def a_power_cut_between_key_and_svid():
    d = server()
    folder = d.path("cut")
    d.writ("svid", "watch", "--once", "--dir", folder, "--join-token", token(d), code=0)
    before = files(folder)
    # As it is after the new key was written, and before its SVID was.
    os.link(os.path.join(folder, "key.pem"), os.path.join(folder, "key.pem.old"))
    with open(os.path.join(folder, "key.pem.new"), "wb") as f:
        f.write(openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
    os.rename(os.path.join(folder, "key.pem.new"), os.path.join(folder, "key.pem"))
    d.writ("svid", "watch", "--once", "--dir", folder, code=0)
    belongs(folder)
    check(files(folder)["svid.pem"] != before["svid.pem"], "nothing was renewed")
    equal(sorted(os.listdir(folder)), sorted(before), "files")


@test
def refuses_wrong_usage():
    d = server()
    for args in (["--signal", "HUP"], ["--pid-file", "x"], ["--signal", "KILL", "--pid-file", "x"],
                 ["--every", "soon"], ["--key-mode", "0644"], ["--key-mode", "0666"], ["--key-mode", "99"],
                 ["--key-mode", ""], ["--key-mode", "00000000000000000000000600"], ["--owner", "no-such-user"],
                 ["--owner", "root:no-such-group"]):
        d.writ("svid", "watch", "--dir", d.path("never"), *args, code=2)
    check(not os.path.exists(d.path("never")), "it began all the same")


# --- following a Workload API ----------------------------------------------------------------

@test
def follows_a_server_that_is_not_writ():
    d, other = server(), Double()
    folder, ran = d.path("follow"), d.path("ran")
    w = Watch(d, "--socket", f"unix://{other.path}", "--dir", folder, "--key-mode", "0640", "--exec", f"echo ran >>{ran}",
              "--json")

    def events():
        return [json.loads(line)["event"] for line in w.said().splitlines()]
    try:
        w.until("the first SVID", lambda: events() == ["renewed"])
        belongs(folder)
        equal(os.stat(os.path.join(folder, "key.pem")).st_mode & 0o777, 0o640, "mode")
        before = files(folder)
        other.commands["renew"]()
        w.until("a renewal", lambda: events() == ["renewed"] * 2)
        belongs(folder)
        check(files(folder)["svid.pem"] != before["svid.pem"], "the SVID is the old one")
        other.commands["authority"]()
        w.until("a new authority", lambda: events() == ["renewed", "renewed", "bundle"])
        equal(files(folder)["bundle.pem"].count(b"BEGIN"), 2, "authorities")
        other.commands["restart"]()  # ends all streams; what it says then is nothing new
        w.until("the end of the stream", lambda: "grpc-status 14" in w.complained() or "closed" in w.complained())
        other.commands["renew"]()
        w.until("a renewal on the next connection", lambda: events()[3:] == ["renewed"])
        before = files(folder)
        other.commands["revoke"]()
        w.until("that it is over", lambda: events()[4:] == ["withdrawn"])
        equal(files(folder), before, "the files of an identity that is gone")
        other.commands["grant"]()
        other.commands["renew"]()
        w.until("that it is back", lambda: events()[5:] == ["renewed"])
        w.until("the command, each time", lambda: open(ran).read() == "ran\n" * 6)
    finally:
        w.stop()
        other.close()


@test
def keeps_the_files_while_the_server_is_away():
    d = Deployment(caller=None).start()
    d.register("spiffe://example.org/agent/follower", selectors=[f"unix:uid:{os.geteuid()}"])
    folder = d.path("away")
    uri = f"unix://{d.workload_socket}"
    sleeper = subprocess.Popen(["sleep", "1000"])
    d.write("pid", f"{sleeper.pid}\n")
    w = Watch(d, "--socket", uri, "--dir", folder, "--on-denied", "remove", "--signal", "TERM", "--pid-file", d.path("pid"))
    try:
        w.until("the first SVID", lambda: "renewed" in w.said())
        equal(sleeper.wait(10), -15, "the signal")
        before = files(folder)
        d.stop()
        w.until("that the server is away", lambda: w.complained())
        equal(files(folder), before, "the files")
        belongs(folder)
        d.start()
        w.until("another SVID", lambda: w.said().count("renewed") == 2)  # the new server makes a new key
        belongs(folder)
        d.admin("POST", "/v1/agents/suspend", {"spiffe_id": "spiffe://example.org/agent/follower"})
        w.until("that it is over", lambda: "withdrawn" in w.said())
        equal(os.listdir(folder), ["bundle.pem"], "what is left")
    finally:
        w.stop()
        sleeper.kill()
        sleeper.wait()
    done = d.writ("svid", "watch", "--socket", uri, "--dir", folder, "--once", code=1)
    check("no identity issued" in done.stderr, done.stderr)
    d.admin("POST", "/v1/agents/resume", {"spiffe_id": "spiffe://example.org/agent/follower"})
    d.writ("svid", "watch", "--socket", uri, "--dir", folder, "--once", code=0)
    belongs(folder)
    done = d.writ("svid", "watch", "--socket", uri, "--dir", folder, "--once", "--id", "spiffe://example.org/agent/x", code=1)
    check("gives this process no spiffe://example.org/agent/x" in done.stderr, done.stderr)
    d.close()


# --- tokens beside it --------------------------------------------------------------------------

def claims(path):
    text = open(path, encoding="ascii").read().split(".")[1]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def mode(path):
    return os.stat(path).st_mode & 0o777


@test
def keeps_tokens_and_the_jwt_bundle():
    d, other = server(), Double()
    folder, ran, life = d.path("jwt"), d.path("jwt-ran"), [4]

    def short(request):
        other.w.claims = {"exp": int(time.time()) + life[0]}
        return other.w.jwt(request)
    other.w.method["FetchJWTSVID"] = short
    w = Watch(d, "--socket", f"unix://{other.path}", "--dir", folder, "--jwt", "https://db.example/?a=b=db.jwt",
              "--jwt", "ledger=ledger.jwt", "--jwt-bundle", "jwks.json", "--exec", f"echo ran >>{ran}", "--json",
              "--on-denied", "remove")

    def events(what):
        return [e for e in map(json.loads, w.said().splitlines()) if e["event"] == what]

    def renewed(name):
        return len([e for e in events("token") if e["file"] == name])
    try:
        w.until("both tokens", lambda: renewed("db.jwt") and renewed("ledger.jwt") and events("jwt_bundle"))
        first = claims(d.path("jwt", "ledger.jwt"))
        equal((claims(d.path("jwt", "db.jwt"))["aud"], first["aud"], first["sub"]),
              (["https://db.example/?a=b"], ["ledger"], "spiffe://example.org/a"), "claims")
        equal([mode(d.path("jwt", n)) for n in ("db.jwt", "ledger.jwt", "jwks.json")], [0o600, 0o600, 0o644], "modes")
        equal([k["kid"] for k in json.load(open(d.path("jwt", "jwks.json")))["keys"]], ["k1"], "keys")
        equal(len(events("renewed")), 1, "X.509-SVIDs")
        # At half of its life, which is two seconds, the next one comes; it lives for longer.
        life[0] = 3600
        w.until("renewed tokens", lambda: renewed("db.jwt") >= 2 and renewed("ledger.jwt") >= 2)
        check(claims(d.path("jwt", "ledger.jwt"))["exp"] > first["exp"], "the token is the old one")
        other.commands["jwt-key"]()
        w.until("a new JWT key", lambda: len(events("jwt_bundle")) == 2)
        equal(len(json.load(open(d.path("jwt", "jwks.json")))["keys"]), 2, "keys")
        w.until("the command", lambda: open(ran).read().count("ran") >= 4)
        other.commands["revoke"]()
        w.until("that it is over", lambda: events("withdrawn"))
        equal(sorted(os.listdir(folder)), ["bundle.pem", "jwks.json"], "what is left")
        before = renewed("db.jwt")
        other.commands["grant"]()
        w.until("that it is back", lambda: renewed("db.jwt") > before)
    finally:
        w.stop()
        other.close()


@test
def a_token_that_is_not_what_was_asked_for_replaces_nothing():
    d = server()
    for wrong, word in (({"aud": ["x"]}, "(aud)"), ({"sub": "spiffe://example.org/b"}, "(sub)"), ({"exp": 1}, "(exp)"),
                        ({"exp": None}, "(exp)")):
        other = Double()
        other.w.claims = wrong
        folder = d.path(f"bad{word}")
        done = d.writ("svid", "watch", "--socket", f"unix://{other.path}", "--dir", folder, "--once", "--jwt", "db=db", code=1)
        check(word in done.stderr and "the token for db" in done.stderr, done.stderr)
        equal(sorted(os.listdir(folder)), ["bundle.pem", "key.pem", "svid.pem"], "files")
        other.close()
    for bundles, word in (({"spiffe://fed.example": "{}"}, "no JWT bundle of spiffe://example.org"),
                          ({"spiffe://example.org": "{}"}, "no JWK Set"), ({"spiffe://example.org": "["}, "no JWK Set")):
        other = Double()
        other.w.jwt_bundles = lambda _, bundles=bundles: bundles
        done = d.writ("svid", "watch", "--socket", f"unix://{other.path}", "--dir", d.path("bad-keys"), "--once",
                      "--jwt-bundle", "jwks", code=1)
        check(word in done.stderr, done.stderr)
        check("jwks" not in os.listdir(d.path("bad-keys")), "it was written")
        other.close()
    # An audience that is refused will be refused for ever: no --once is needed to end it.
    other = Double()
    other.w.method["FetchJWTSVID"] = lambda _: (3, "no such audience")
    done = d.writ("svid", "watch", "--socket", f"unix://{other.path}", "--dir", d.path("refused"), "--jwt", "db=db", code=1)
    check("no such audience" in done.stderr, done.stderr)
    other.close()


@test
def tokens_of_the_real_server():
    d = Deployment(caller=None).start()
    d.register("spiffe://example.org/agent/follower", selectors=[f"unix:uid:{os.geteuid()}"])
    folder = d.path("real")
    done = d.writ("svid", "watch", "--socket", f"unix://{d.workload_socket}", "--dir", folder, "--once", "--key-mode", "0640",
                  "--jwt", "spiffe://example.org/db=db.jwt", "--jwt-bundle", "jwks.json", code=0)
    check("token spiffe://example.org/agent/follower for spiffe://example.org/db until " in done.stdout, done.stdout)
    said = claims(d.path("real", "db.jwt"))
    equal((said["sub"], said["aud"]), ("spiffe://example.org/agent/follower", ["spiffe://example.org/db"]), "claims")
    equal((mode(d.path("real", "db.jwt")), mode(d.path("real", "jwks.json"))), (0o640, 0o644), "modes")
    equal([k["kty"] for k in json.load(open(d.path("real", "jwks.json")))["keys"]], ["EC"], "keys")
    # A bundle that is what lies there is nothing new; a token is.
    done = d.writ("svid", "watch", "--socket", f"unix://{d.workload_socket}", "--dir", folder, "--once",
                  "--jwt", "spiffe://example.org/db=db.jwt", "--jwt-bundle", "jwks.json", code=0)
    check("token " in done.stdout and "jwt_bundle" not in done.stdout, done.stdout)
    d.close()


@test
def refuses_names_that_are_none():
    d, uri = server(), "unix:///nobody"
    for args in (["--jwt", "db"], ["--jwt", "=db.jwt"], ["--jwt", "db="], ["--jwt", "db=a/b"], ["--jwt", "db=.x"],
                 ["--jwt", "db=key.pem"], ["--jwt", "a=x", "--jwt", "b=x"], ["--jwt", "a=x", "--jwt-bundle", "x"],
                 ["--jwt-bundle", "svid.pem"], ["--jwt-bundle", "../x"],
                 [a for i in range(17) for a in ("--jwt", f"a{i}=x{i}")]):
        d.writ("svid", "watch", "--socket", uri, "--dir", d.path("never"), *args, code=2)
    d.writ("svid", "watch", "--dir", d.path("never"), "--jwt", "a=x", code=2)
    check(not os.path.exists(d.path("never")), "it began all the same")


@test
def what_a_server_says_for_ever_ends_it():
    d = server()
    for status, word in ((3, "security header"), (12, "no such method")):
        other = Double()
        other.w.method["FetchX509SVID"] = lambda _, status=status, word=word: (status, word)
        done = d.writ("svid", "watch", "--socket", f"unix://{other.path}", "--dir", d.path("never"), code=1)
        check(word in done.stderr, done.stderr)
        other.close()
    # What does not hold is not kept: a certificate for another key.
    other = Double()
    other.w.key_bytes = FOREIGN_KEY.pkcs8
    done = d.writ("svid", "watch", "--socket", f"unix://{other.path}", "--dir", d.path("never"), "--once", code=1)
    check("another key" in done.stderr and not os.path.exists(d.path("never")), done.stderr)
    other.close()
    for args in (["--every", "1m"], ["--join-token", "x"], ["--on-denied", "panic"]):
        d.writ("svid", "watch", "--socket", "unix:///nobody", "--dir", d.path("never"), *args, code=2)
    d.writ("svid", "watch", "--socket", "tcp://127.0.0.1:1", "--dir", d.path("never"), code=1)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    main()
