#!/usr/bin/env python3
"""The command line of the real binary, without a server."""
import json
import os
import socket
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WRIT = os.path.join(os.path.abspath(os.environ.get("WRIT_BUILD", os.path.join(ROOT, "build"))), "writ")
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def writ(*args, code, cwd, text=None):
    env = {k: v for k, v in os.environ.items() if k != "WRIT_CONFIG"}
    done = subprocess.run([WRIT, *args], cwd=cwd, env=env, input=text, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == code, f"writ {' '.join(args)}: exit {done.returncode}: {done.stdout}{done.stderr}"
    return done


@test
def usage_goes_to_stdout_when_asked_for_and_to_stderr_when_not(d):
    asked, bare = writ("--help", code=0, cwd=d), writ(code=2, cwd=d)
    assert asked.stdout == bare.stderr and not asked.stderr and not bare.stdout
    for command in ("serve", "agent register SPIFFE_ID", "audit verify [FILE|DIR]", "doctor"):
        assert f"  {command}" in asked.stdout, command
    assert "\n\nRegister agents:\n  agent register" in asked.stdout, asked.stdout
    assert "Usage: writ agent COMMAND" in writ("agent", "--help", code=0, cwd=d).stdout
    settings = writ("serve", "--help", code=0, cwd=d).stdout
    assert all(name in settings for name in ("trust_domain", "authority.pkcs11.module", "limits.policy_memory")), settings


@test
def a_missing_file_is_named_with_what_to_do(d):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        for args in (("svid", "x509"), ("svid", "jwt", "--audience", "x")):
            done = writ(*args, "--server", url, "--bundle", "x", code=1, cwd=d)
            assert "svid.pem: No such file" in done.stderr and "--join-token" in done.stderr, done.stderr
    os.mkdir(os.path.join(d, "empty"))
    for args in (("policy", "check", "empty"), ("policy", "check", "absent"), ("evaluate", "absent"),
                 ("agent", "import", "absent")):
        done = writ(*args, code=1, cwd=d)
        assert args[-1] in done.stderr, done.stderr


@test
def wrong_usage_is_2_and_names_the_near_word(d):
    for args, said in ((("agnet",), "did you mean agent?"), (("agent", "lst"), "did you mean list?"),
                       (("agent", "list", "--jsn"), "did you mean --json?"), (("evaluate",), "an operand is missing"),
                       (("status", "--server", "http://example.org"), "plain http is for loopback only"),
                       (("audit", "export", "--agent", "nonsense"), "does not start with"),
                       (("--json", "status"), "options stand behind the command: writ COMMAND --json"),
                       (("agent", "--json", "list"), "writ agent COMMAND --json"),
                       (("version", "--server", "unix:/x"), "unknown option --server")):
        done = writ(*args, code=2, cwd=d)
        assert said in done.stderr and not done.stdout, done.stderr


@test
def without_a_server_it_says_which_socket_and_what_to_do(d):
    for args in (("status",), ("agent", "list"), ("audit", "tail"), ("policy", "list")):
        done = writ(*args, code=1, cwd=d)
        assert "writ-data/admin.sock" in done.stderr and "writ serve" in done.stderr, done.stderr
        assert "no writ.lua here" in done.stderr and "--config" in done.stderr, done.stderr
    writ("init", "new", code=0, cwd=d)
    done = writ("status", "--config", "new/writ.lua", code=1, cwd=d)
    assert "new/writ-data/admin.sock" in done.stderr and "no writ.lua here" not in done.stderr, done.stderr
    error = json.loads(writ("status", "--json", code=1, cwd=d).stderr)["error"]
    assert error["code"] == "no_server" and error["status"] == 503, error


@test
def init_makes_a_folder_that_checks(d):
    writ("init", "new", "--trust-domain", "acme.example", "--http", "127.0.0.1:18080", code=0, cwd=d)
    with open(os.path.join(d, "new", "writ.lua"), encoding="utf-8") as f:
        config = f.read()
    assert 'trust_domain = "acme.example"' in config and '"127.0.0.1:18080"' in config
    assert 'caller = "pep"' not in config  # only --local-pep opens that door
    shipped = os.path.join(ROOT, "policies")
    for folder, _, names in os.walk(shipped):
        for name in (n for n in names if n.endswith(".lua")):
            relative = os.path.relpath(os.path.join(folder, name), ROOT)
            with open(os.path.join(ROOT, relative), "rb") as a, open(os.path.join(d, "new", relative), "rb") as b:
                assert a.read() == b.read(), relative
    before = sorted(os.listdir(os.path.join(d, "new")))
    assert "not empty" in writ("init", "new", code=1, cwd=d).stderr
    assert sorted(os.listdir(os.path.join(d, "new"))) == before


@test
def init_writes_nothing_that_would_not_start(d):
    for args in (("--http", "0.0.0.0:80"), ("--trust-domain", "Not A Domain"), ("--https", "nonsense")):
        done = writ("init", "bad", *args, code=2, cwd=d)
        assert "no good configuration" in done.stderr, done.stderr
        assert not os.path.exists(os.path.join(d, "bad"))


@test
def doctor_works_without_a_server(d):
    writ("init", "open", "--local-pep", code=0, cwd=d)
    config = os.path.join("open", "writ.lua")
    done = writ("doctor", "--config", config, code=0, cwd=d)
    assert "fixed_caller" in done.stdout and "server_not_asked" in done.stdout, done.stdout
    os.makedirs(os.path.join(d, "open", "writ-data", "keys"))
    os.chmod(os.path.join(d, "open", "writ-data"), 0o777)
    os.chmod(os.path.join(d, "open", "writ-data", "keys"), 0o755)
    findings = json.loads(writ("doctor", "--json", "--config", config, code=1, cwd=d).stdout)["findings"]
    loose = [f["message"] for f in findings if f["name"] == "loose_file" and f["severity"] == "error"]
    assert len(loose) == 2 and any("/keys has mode 0755" in m for m in loose), findings


@test
def a_bad_configuration_is_named(d):
    with open(os.path.join(d, "bad.lua"), "w", encoding="utf-8") as f:
        f.write('trust_domian = "x"\n')
    done = writ("status", "--config", "bad.lua", code=1, cwd=d)
    assert "bad.lua:1" in done.stderr and "trust_domain" in done.stderr, done.stderr
    assert "bad_config" in writ("doctor", "--config", "bad.lua", code=1, cwd=d).stdout


@test
def verify_tells_unreadable_from_usage(d):
    with open(os.path.join(d, "no-export"), "w", encoding="utf-8") as f:
        f.write("hello\n")
    writ("audit", "verify", "no-export", code=4, cwd=d)
    writ("audit", "verify", "absent", code=4, cwd=d)
    writ("audit", "verify", "--key", "nonsense", "no-export", code=2, cwd=d)
    writ("audit", "verify", "--key", "@absent", "no-export", code=2, cwd=d)
    writ("audit", "verify", code=2, cwd=d)


def main():
    failed = 0
    for function in TESTS:
        with tempfile.TemporaryDirectory() as d:
            try:
                function(d)
                print(f"ok {function.__name__}")
            except Exception as e:  # each failure is one line; the others still run
                failed += 1
                print(f"not ok {function.__name__}: {type(e).__name__} {' '.join(str(e).split())}"[:1500])
    sys.exit(1 if failed or not TESTS else 0)


if __name__ == "__main__":
    main()
