#!/usr/bin/env -S python3 -B
"""Signed policy sets on the real binary: who may put what into force, and what comes back."""
import json
import os
import subprocess
import time

from harness import CATALOGUE, RULES, Deployment, check, equal, is_error, leaves, main, openssl, test

CLOSED = 'policy "closed" { deny "all" { on = { action = "tools/call" } } }\n'
OPEN = 'policy "open" { permit "all" { on = { action = "tools/call" } } }\n'


def folder(d, name, rules):
    d.write(f"{name}/catalogue/tools.lua", CATALOGUE)
    d.write(f"{name}/finance.lua", rules)
    return d.path(name)


def make_key(d, name):
    path = d.path(name)
    openssl("genpkey", "-algorithm", "ed25519", "-out", path)
    return path, d.writ("policy", "sign", "--key", path, code=0).stdout.strip()


def sign(d, key, where, *args, code=0):
    return d.writ("policy", "sign", "--key", key, *args, where, code=code)


def pinned(d, vkey, more=""):
    with open(d.config_file, encoding="utf-8") as f:
        text = f.read()
    d.write("writ.lua", text + f'policies = {{ key = "{vkey}"{more} }}\n')


def in_force(d):
    return d.admin("GET", "/v1/status").json["policy"]


def until(what, claim, seconds=15):
    end = time.monotonic() + seconds
    while not claim():
        check(time.monotonic() < end, f"{what}: not within {seconds} s")
        time.sleep(0.05)


def spawn(d):
    """Start a server that will not be ready."""
    def alive():
        try:
            return d.admin("GET", "/livez").status == 200
        except OSError:
            return False
    d.spawn()
    until("it serves", alive)


def acts(d):
    return [r for _, r in leaves(d.export("acts.jsonl")).values() if r["kind"].startswith("policy.")]


def signed_deployment(more=""):
    d = Deployment()
    key, vkey = make_key(d, "policy.key")
    pinned(d, vkey, more)
    sign(d, key, d.path("policies"), "--version", "10")
    d.start()
    d.register()
    return d, key, vkey


@test
def an_unsigned_folder_is_not_put_into_force():
    d = Deployment()
    key, vkey = make_key(d, "policy.key")
    pinned(d, vkey)
    spawn(d)
    d.register()
    reply = d.admin("GET", "/readyz")
    detail = next(c for c in reply.json["checks"] if c["name"] == "policy")
    equal((reply.status, "not signed" in json.dumps(detail)), (503, True), f"readiness {detail}")
    equal(d.evaluate().json["context"]["reason"], "no_policy", "a decision")
    sign(d, key, d.path("policies"))  # and it is seen by itself
    until("the signed folder", lambda: in_force(d)["generation"] == 1)
    record = [r for r in acts(d) if r["kind"] == "policy.load"][-1]
    equal((record["signed_by"], record["signed_version"] > 1700000000), (vkey.split("+")[1], True), "on record")
    check(any(r["kind"] == "policy.refused" and r["reason"] == "policy_unsigned" and r["act"] == "watch" for r in acts(d)),
          "the refusal on record")
    d.close()


@test
def the_watched_folder_stays_as_it_was():
    d, key, _ = signed_deployment(", files_only = true")
    equal(in_force(d)["generation"], 1, "generation")
    d.policy("finance.lua", OPEN)  # the signature is of the rules before
    until("it is refused", lambda: "of another set" in in_force(d).get("refused", ""))
    reply = d.admin("GET", "/readyz")
    equal((reply.status, in_force(d)["generation"]), (200, 1), "ready, with the old set")
    check("policies.sig is of another set (version 10)" in reply.body.decode(), f"detail of readiness: {reply}")
    sign(d, key, d.path("policies"), "--version", "9")
    until("an older one", lambda: "older than version 10" in in_force(d).get("refused", ""))
    sign(d, key, d.path("policies"), "--version", "10")
    until("the same number", lambda: "which another set was already" in in_force(d).get("refused", ""))
    equal(d.evaluate("ledger/query").json["context"]["rule"], "finance/read", "the old set decides")
    sign(d, key, d.path("policies"))
    until("a newer one", lambda: in_force(d)["generation"] == 2)
    equal(in_force(d).get("refused"), None, "what is wrong with the folder")
    os.unlink(d.path("policies", "policies.sig"))
    d.policy("finance.lua", CLOSED)
    until("without a signature", lambda: "not signed" in in_force(d).get("refused", ""))
    equal(in_force(d)["generation"], 2, "generation at the end")
    reasons = [r["reason"] for r in acts(d) if r["kind"] == "policy.refused"]
    equal(reasons, ["policy_signature", "policy_older", "policy_older", "policy_unsigned"], "refusals on record")
    d.close()


@test
def apply_takes_signed_sets_only():
    d, key, vkey = signed_deployment(", watch = false")
    other, _ = make_key(d, "other.key")
    open_, closed = folder(d, "open", OPEN), folder(d, "closed", CLOSED)
    check("is not signed" in d.writ("policy", "apply", open_, code=1).stderr, "unsigned")
    sign(d, other, open_)
    check("policies.sig is refused" in d.writ("policy", "apply", open_, code=1).stderr, "signed by another key")
    os.unlink(os.path.join(open_, "policies.sig"))
    sign(d, key, open_, "--version", "12")
    d.writ("policy", "apply", open_, code=0)
    equal(d.evaluate("files/delete").json["context"]["rule"], "open/all", "who decides")
    # Signed once and replaced since: copying it does not bring it back.
    sign(d, key, closed, "--version", "11")
    done = d.writ("policy", "apply", closed, code=1)
    check("signed as version 11, older than version 12" in done.stderr and "--allow-older" in done.stderr, done.stderr)
    equal(in_force(d)["generation"], 2, "in force")
    d.writ("policy", "apply", "--allow-older", closed, code=0)
    equal(d.evaluate("files/delete").json["context"]["rule"], "closed/all", "who decides now")
    # From there on the lower version counts.
    sign(d, key, open_, "--version", "12")
    d.writ("policy", "apply", open_, code=0)
    record = [r for r in acts(d) if r["kind"] == "policy.load"]
    equal([(r["signed_by"], r["signed_version"]) for r in record], [(vkey.split("+")[1], v) for v in (10, 12, 11, 12)],
          "who signed what came into force")
    equal([r["reason"] for r in acts(d) if r["kind"] == "policy.refused"],
          ["policy_unsigned", "policy_signature", "policy_older"], "refusals on record")
    # A changed byte of a rule.
    d.write("open/finance.lua", OPEN + "-- \n")
    check("is of another set" in d.writ("policy", "apply", open_, code=1).stderr, "a changed file")
    # And over HTTP, as text.
    body = {"files": [{"path": "finance.lua", "text": OPEN}]}
    equal(is_error(d.admin("POST", "/v1/policies", body), 400)["code"], "policy_unsigned", "code")
    equal(is_error(d.admin("POST", "/v1/policies", dict(body, signature="x")), 400)["code"], "policy_signature", "code")
    equal(is_error(d.admin("POST", "/v1/policies", dict(body, signature=7)), 400)["code"], "invalid_request", "code")
    equal(is_error(d.admin("POST", "/v1/policies", dict(body, allow_older="yes")), 400)["code"], "invalid_request", "code")
    d.close()


@test
def going_back_and_starting_again_need_the_signature_too():
    d, key, vkey = signed_deployment(", watch = false")
    open_ = folder(d, "open", OPEN)
    sign(d, key, open_)
    d.writ("policy", "apply", open_, code=0)
    d.writ("policy", "rollback", code=0)  # older, but named
    equal(in_force(d)["generation"], 1, "after the rollback")
    d.restart()
    equal((in_force(d)["generation"], in_force(d)["pinned"]), (1, True), "after a restart")
    # Signed by a key that is not trusted any more: nothing of it decides.
    other, other_vkey = make_key(d, "other.key")
    with open(d.config_file, encoding="utf-8") as f:
        text = f.read()
    d.write("writ.lua", text.replace(vkey, other_vkey))
    d.stop()
    spawn(d)
    equal(d.evaluate().json["context"]["reason"], "no_policy", "with another key")
    check("policies.sig is refused" in d.writ("policy", "rollback", "2", code=1).stderr, "going back with another key")
    sign(d, other, open_)
    d.writ("policy", "apply", open_, code=0)
    equal(d.evaluate("files/delete").json["context"]["rule"], "open/all", "signed again")
    # Two keys: either will do, so that keys can be changed without a gap.
    d.write("writ.lua", text.replace(vkey, f"{other_vkey} {vkey}"))
    d.restart()
    equal(in_force(d)["generation"], 2, "with both keys")
    d.writ("policy", "rollback", "1", code=0)
    d.close()


@test
def without_a_key_signatures_mean_nothing():
    d = Deployment()
    d.policy("policies.sig", "no signature at all")
    d.start()
    d.register()
    generation = in_force(d)["generation"]
    first = in_force(d)["hash"]
    os.unlink(d.path("policies", "policies.sig"))
    d.writ("policy", "apply", d.path("policies"), code=0)
    equal((in_force(d)["generation"], in_force(d)["hash"]), (generation, first), "the file is no part of the set")
    check(all("signed_by" not in r for r in acts(d)), "signers on record")
    d.close()


@test
def sign_says_what_it_did_and_what_it_cannot():
    d = Deployment()
    key, vkey = make_key(d, "policy.key")
    where = folder(d, "set", RULES)
    said = json.loads(d.writ("policy", "sign", "--json", "--key", key, "--version", "3", where, code=0).stdout)
    equal((said["version"], said["key"], said["key_id"]), (3, vkey, vkey.split("+")[1]), "what it said")
    with open(os.path.join(where, "policies.sig"), encoding="utf-8") as f:
        note = f.read()
    equal(note.splitlines()[:4], ["writ policy set v1", "version 3", f"sha256 {said['hash']}", ""], "the file")
    check(note.splitlines()[4].startswith("\u2014 policies "), note)
    # Without a version: higher than that of the file that is there, whatever the clock says.
    far = 9000000000000000
    sign(d, key, where, "--version", str(far))
    again = json.loads(d.writ("policy", "sign", "--json", "--key", key, where, code=0).stdout)
    equal(again["version"], far + 1, "the next version")
    equal(json.loads(d.writ("policy", "sign", "--json", "--key", key, "--name", "ops", where, code=0).stdout)["key"].split("+")[0],
          "ops", "name of the key")
    ec = d.path("ec.key")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", ec)
    locked = d.path("locked.key")
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:x", "-out", locked)
    d.write("broken/a.lua", "policy (")
    os.makedirs(d.path("empty"))
    for args, code, word in ((["--key", ec, where], 1, "no Ed25519 private key"),
                             (["--key", locked, where], 1, "without a passphrase"),
                             (["--key", d.path("none"), where], 1, "none"),
                             ([where], 2, "--key FILE"),
                             (["--key", key, "--version", "0", where], 2, "--version"),
                             (["--key", key, "--version", "9007199254740992", where], 2, "--version"),
                             (["--key", key, "--name", "a b", where], 1, "name"),
                             (["--key", key, d.path("broken")], 1, "does not load"),
                             (["--key", key, d.path("empty")], 1, "holds no policies"),
                             (["--key", key, d.path("nowhere")], 1, "nowhere")):
        done = d.writ("policy", "sign", *args, code=code)
        check(word in done.stderr, f"{args}: {done.stderr}")
    check("openssl genpkey" in d.writ("policy", "sign", "--help", code=0).stdout, "help")
    d.write("writ.lua", 'policies = { key = "policies+00000000+AAAA" }\n')
    done = subprocess.run([d.binary, "serve", "--config", d.config_file], capture_output=True, text=True, timeout=30, check=False)
    check(done.returncode != 0 and "policies.key" in done.stderr, f"a key that is none: {done.stderr}")
    d.close()


if __name__ == "__main__":
    main()
