#!/usr/bin/env -S python3 -B
"""The scripts that judge the rest: a judge that is never wrong is worth a test of its own."""
import os
import shutil
import subprocess
import tempfile

from harness import BUILD, ROOT, check, equal, main, test

FLOORS = os.path.join(ROOT, "scripts/check-floors")
RUN_TESTS = os.path.join(ROOT, "scripts/run-tests")


class Tree:
    """A folder that lasts as long as a with."""

    def __init__(self, files):
        self.files = files

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="writ-scripts-")
        for name, text in self.files.items():
            path = os.path.join(self.dir, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            os.chmod(path, 0o755)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def run(self, *command, **more):
        done = subprocess.run(command, cwd=self.dir, capture_output=True, text=True, check=False, **more)
        return done.returncode, done.stdout + done.stderr


BASE = {"include/writ/str.h": "", "authz/base/buf.h": '#include "include/writ/str.h"\n', "authz/net/http.h": "",
        "authz/store/db.h": "", "authz/policy/policy.h": '#include "authz/base/buf.h"\n', "authz/audit/audit.h": "",
        "spiffe/id.h": '#include "authz/store/db.h"\n#include "spiffe/svid.h"\n', "spiffe/svid.h": "",
        "spiffe/workload_api.c": '#include "authz/decide/decide.h"\n#include "spiffe/id.h"\n',
        "authz/decide/decide.h": '#include "authz/policy/policy.h"\n#include "spiffe/id.h"\n',
        "authz/main.c": '#include "authz/cli/cli.h"\n#include <stdio.h>\n', "authz/cli/cli.h": '#include "authz/main.h"\n',
        "authz/main.h": "", "include/writ/err.h": '#include "include/writ/str.h"\n'}
BAD_INCLUDES = (
    # why, file, include, what is said
    ("climbs one floor", "authz/net/http.h", "authz/policy/policy.h", "climbs"),
    ("climbs from the ground", "authz/base/buf.h", "authz/net/http.h", "climbs"),
    ("climbs to the wiring", "authz/decide/decide.h", "authz/main.h", "climbs"),
    ("a neighbour", "authz/policy/policy.h", "authz/audit/audit.h", "neighbours"),
    ("another neighbour", "spiffe/id.h", "authz/policy/policy.h", "neighbours"),
    ("storage and sockets", "authz/store/db.h", "authz/net/http.h", "neighbours"),
    ("the Workload API from below", "spiffe/id.h", "spiffe/workload_api.h", "climbs"),
    ("a relative path", "authz/policy/policy.h", "policy.h", "not a path from the root"),
    ("a path upwards", "authz/policy/policy.h", "../audit/audit.h", "not a path from the root"),
    ("no such file", "authz/policy/policy.h", "authz/base/nothing.h", "not a path from the root"),
)


@test
def floors_accept_this_tree():
    done = subprocess.run([FLOORS, ROOT], capture_output=True, text=True, check=False)
    equal((done.returncode, done.stdout.strip()), (0, "floors: ok"), f"answer ({done.stdout} {done.stderr})")


@test
def floors_accept_looking_down():
    with Tree(BASE) as t:
        equal(t.run(FLOORS), (0, "floors: ok\n"), "answer")


@test
def floors_catch_what_is_wrong():
    for why, name, include, said in BAD_INCLUDES:
        files = dict(BASE)
        files["spiffe/workload_api.h"] = ""
        files[name] += f'  #  include "{include}"\n'
        line = files[name].count("\n")
        with Tree(files) as t:
            code, out = t.run(FLOORS)
            equal(code, 1, f"{why}: exit code ({out})")
            check(f"{name}:{line}:" in out and said in out, f"{why}: {out}")
            equal(out.count("\n"), 1, f"{why}: lines of {out!r}")


@test
def floors_know_no_new_folder():
    with Tree(dict(BASE, **{"authz/extra/x.h": ""})) as t:
        code, out = t.run(FLOORS)
        check(code == 1 and "authz/extra" in out and "no floor" in out, out)


def program(*lines, code=0):
    return "#!/bin/sh\n" + "\n".join(lines) + f"\nexit {code}\n"


GOOD = program("echo 'ok one'", "echo 'ok two'")
CMOCKA = ("echo '[==========] Running 2 test(s).'", "echo '[ RUN      ] a_test'", "echo '[       OK ] a_test'",
          "echo '[ RUN      ] b_test'")
PROGRAMS = (
    # why, program, passed, failed
    ("two that pass", GOOD, 2, 0),
    ("one that fails", program("echo 'ok one'", "echo 'not ok two: why'", code=1), 1, 1),
    ("a failure with exit 0", program("echo 'not ok two: why'"), 0, 1),
    ("passes, then ends badly", program("echo 'ok one'", code=3), 1, 1),
    ("passes, then crashes", program("echo 'ok one'", "kill -SEGV $$"), 1, 1),
    ("fails, then crashes", program("echo 'not ok one: x'", "kill -ABRT $$"), 0, 2),
    ("says nothing", program(), 0, 1), ("says something else", program("echo fine"), 0, 1),
    ("only fails to start", program(code=127), 0, 1),
    ("cmocka, good", program(*CMOCKA, "echo '[       OK ] b_test'", "echo '[  PASSED  ] 2 test(s).'"), 2, 0),
    ("cmocka, one failed", program(*CMOCKA, "echo '[  FAILED  ] b_test'", "echo '[  PASSED  ] 1 test(s).'",
                                   "echo '[  FAILED  ] tests: 1 test(s), listed below:'", "echo '[  FAILED  ] b_test'",
                                   code=1), 1, 1),
    ("cmocka, stopped in the middle", program(*CMOCKA, "kill -ABRT $$"), 1, 1),
    ("an ok in the middle of a line", program("echo 'this is not ok at all'", "echo 'ok one'"), 1, 0),
)


@test
def run_tests_counts_right():
    for why, text, passed, failed in PROGRAMS:
        with Tree({"t": text}) as t:
            code, out = t.run(RUN_TESTS, t.dir, "./t")
            equal(out.strip().splitlines()[-1], f"{passed} passed, {failed} failed", f"{why}: last line of {out!r}")
            equal(code, 0 if passed and not failed else 1, f"{why}: exit code")


@test
def run_tests_adds_up_and_shows_the_failures():
    with Tree({"a": GOOD, "b": program("echo 'not ok two: because of this'", code=1), "c": GOOD}) as t:
        code, out = t.run(RUN_TESTS, t.dir, "./a", "./b", "./c")
        equal((code, out.strip().splitlines()[-1]), (1, "4 passed, 1 failed"), "answer")
        check("because of this" in out and "FAILED ./b" in out, out)


@test
def run_tests_does_not_overlook_a_program():
    with Tree({"a": GOOD, "b": GOOD}) as t:
        os.chmod(os.path.join(t.dir, "b"), 0o644)
        equal(t.run(RUN_TESTS, t.dir, "./a", "./b")[0], 1, "exit code with a test that is not executable")
        equal(t.run(RUN_TESTS, t.dir, "./a", "./c")[0], 1, "exit code with a test that is not there")
        equal(t.run(RUN_TESTS, t.dir)[0], 1, "exit code with no test at all")


@test
def run_tests_ends_what_hangs():
    stubborn = "#!/bin/sh\necho 'ok one'\ntrap '' TERM\nwhile :; do sleep 0.1; done\n"
    with Tree({"a": stubborn}) as t:
        code, out = t.run(RUN_TESTS, t.dir, "./a", env=dict(os.environ, TEST_TIMEOUT="1", TEST_KILL_AFTER="1"), timeout=30)
        equal((code, out.strip().splitlines()[-1]), (1, "1 passed, 1 failed"), "answer")


@test
def run_tests_tells_where_the_build_is():
    with Tree({"a": program('echo "ok $WRIT_BUILD"', '[ "$WRIT_BUILD" = /some/where ] || exit 1')}) as t:
        equal(t.run(RUN_TESTS, "/some/where", "./a")[0], 0, "exit code")


@test
def lint_fails_when_one_step_does():
    if not shutil.which("clang-format"):
        return  # lint installs it
    files = {"authz/base/x.h": "#ifndef X_H\n#define X_H\nint   x( void );\n#endif\n",
             ".clang-format": "BasedOnStyle: LLVM\n"}
    for name in ("lint", "check-floors"):
        with open(os.path.join(ROOT, "scripts", name), encoding="utf-8") as f:
            files[f"scripts/{name}"] = f.read()
    with Tree(files) as t:
        code, out = t.run("scripts/lint", "authz/base/x.h", env=dict(os.environ, MAKE="true"))
        check(code == 1 and "not ok lint: format" in out and "ok lint: floors" in out, out)
        with open(os.path.join(t.dir, "authz/base/x.h"), "w", encoding="utf-8") as f:
            f.write("#ifndef X_H\n#define X_H\nuint32_t x(void);\n#endif\n")
        code, out = t.run("scripts/lint", "authz/base/x.h", env=dict(os.environ, MAKE="true"))
        check(code == 1 and "not ok lint: headers" in out, f"a header that needs another is accepted: {out}")


@test
def packages_say_nothing_when_nothing_is_missing_and_what_to_do_when_it_is():
    with open(os.path.join(ROOT, "scripts/packages"), encoding="utf-8") as f:
        text = f.read()
    # dpkg of a machine of our own making: all is installed, but what $ABSENT names.
    dpkg = program('for name; do :; done', '[ "$name" = "$ABSENT" ] || echo installed')
    tools = {"bin/dpkg-query": dpkg, "bin/id": program("echo 1000"), "packages": text}
    with Tree(tools) as t:
        for tool in ("sh", "grep", "tr", "sed"):
            os.symlink(shutil.which(tool), os.path.join(t.dir, "bin", tool))
        path = {"PATH": os.path.join(t.dir, "bin")}
        equal(t.run("sh", "packages", env=dict(path, ABSENT="none")), (0, ""), "answer with all there")
        code, out = t.run("sh", "packages", env=dict(path, ABSENT="tzdata"))
        equal(code, 1, f"exit code without root and sudo ({out})")
        check("tzdata (time zones in policies)" in out and "As root, run: apt-get install" in out, out)
        asked = os.path.join(t.dir, "asked")
        for name, text in (("sudo", f'echo "$@" >>{asked}'), ("apt-get", "exit 9")):
            with open(os.path.join(t.dir, "bin", name), "w", encoding="utf-8") as f:
                f.write(program(text))
            os.chmod(os.path.join(t.dir, "bin", name), 0o755)
        code, out = t.run("sh", "packages", env=dict(path, ABSENT="tzdata"))
        equal(code, 0, f"exit code with sudo ({out})")
        with open(asked, encoding="utf-8") as f:
            lines = f.read()
        check("--no-install-recommends install tzdata" in lines and "update" in lines, lines)
        os.remove(os.path.join(t.dir, "bin", "dpkg-query"))
        code, out = t.run("sh", "packages", env=path)
        check(code == 1 and "Debian 12" in out and "liblua5.4-dev" in out, out)


@test
def the_load_generator_loads_this_machine_only():
    load = os.path.join(BUILD, "tests/bench/bench_load")
    check(os.path.exists(load), f"{load} is missing")
    for address in ("192.0.2.1:80", "example.org:80", "[2001:db8::1]:80", "0.0.0.0:80", "128.0.0.1:80", "127.0.0.1",
                    "127.0.0.1:0", "127.0.0.1:70000", "[::]:80", "[::ffff:192.0.2.1]:80"):
        done = subprocess.run([load, "--to", address, "--seconds", "0.1"], capture_output=True, text=True, check=False)
        equal(done.returncode, 2, f"exit code for {address}")
        check("--to" in done.stderr, f"{address}: {done.stderr}")


if __name__ == "__main__":
    main()
