#!/usr/bin/env -S python3 -B
"""The service: health, stopping and starting again, and the data it refuses to trust."""
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time

from harness import AGENT, TRUST_DOMAIN, Deployment, Failure, check, equal, is_error, main, test

shared = None


def server():
    global shared
    if shared is None:
        shared = Deployment().start()
        shared.register()
    return shared


def refused(d, *words):
    """Starting must fail, with each of @words in what is said."""
    at = len(d.stderr())
    d.spawn()
    try:
        code = d.process.wait(20)
    except subprocess.TimeoutExpired:
        d.kill()
        raise Failure(f"the server started, but should say {words}") from None
    d.collect()
    said = d.stderr()[at:]
    check(code > 0, f"exit code is {code}")
    for word in words:
        check(word in said, f"'{word}' is missing in: {said[-600:]}")
    return said


@test
def health_and_version_at_both_doors():
    d = server()
    for ask in (d.http, d.operators, d.admin):
        for path in ("/livez", "/readyz", "/version"):
            reply = ask("GET", path)
            equal(reply.status, 200, path)
            check(reply.header("content-type").startswith("application/json"), f"{path}: {reply.headers}")
            check(isinstance(reply.json, dict), f"{path}: {reply}")
    version = d.http("GET", "/version").json["version"]
    check(version in d.writ("version", code=0).stdout, f"`writ version` does not say {version}")


@test
def unknown_paths_are_404_with_a_json_error():
    d = server()
    for ask in (d.http, d.operators, d.admin):
        for path in ("/", "/nothing", "/access/v1/evaluation/", "/access/v1/", "/livez/x", "//livez"):
            is_error(ask("GET", path), (400, 404), path)


@test
def a_stop_is_clean_and_the_next_start_carries_on():
    d = Deployment().start()
    d.register()
    first = d.evaluate().json["context"]["record"]["seq"]
    equal(d.stop(), 0, "exit code")
    try:
        d.http("GET", "/livez")
        raise Failure("the port still answers")
    except ConnectionError:
        pass
    d.start()
    reply = d.evaluate()
    equal(reply.json["decision"], True, "decision after a restart")
    check(reply.json["context"]["record"]["seq"] > first, f"the log began anew: {reply}")
    equal(d.stop(signal.SIGINT), 0, "exit code after SIGINT")


@test
def slow_clients_do_not_hold_up_a_stop():
    d = Deployment().start()
    ports = (d.port, d.port, d.tls_port, d.operators_port, d.operators_port)
    clients = [socket.create_connection(("127.0.0.1", port)) for port in ports]
    half = b"POST /access/v1/evaluation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"
    for c in clients[1:3]:
        c.sendall(half)
    time.sleep(0.2)
    began = time.monotonic()
    equal(d.stop(), 0, "exit code")
    took = time.monotonic() - began
    for c in clients:
        c.close()
    check(took < 3, f"a stop with idle connections and half-sent requests took {took:.1f} s")


@test
def no_answer_is_cut_off_by_a_stop():
    d = Deployment().start()
    d.register()
    wrong, answered, going = [], [0], threading.Event()

    def ask():
        while True:
            try:
                reply = d.evaluate()
            except ConnectionError:
                return  # not accepted any more
            except Exception as e:
                wrong.append(repr(e))
                return
            # While draining it may refuse, but what it answers is whole.
            if reply.status == 200:
                answered[0] += reply.json["decision"] is True
            elif reply.status != 503:
                wrong.append(repr(reply))
            if answered[0] > 20:
                going.set()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    going.wait(20)
    equal(d.stop(), 0, "exit code")
    for t in threads:
        t.join()
    check(answered[0] > 20 and not wrong, f"{answered[0]} answered; {wrong[:3]}")


@test
def a_second_server_on_the_same_data_is_refused():
    d = server()
    other = Deployment(config=f'data = "{d.data}"\n')
    other.config = other.config.replace("writ-data/", f"{other.dir}/")
    other.write("writ.lua", other.config)
    refused(other, str(d.process.pid))
    equal(d.http("GET", "/readyz").status, 200, "the first server")


@test
def a_port_in_use_is_named():
    d = server()
    other = Deployment()
    other.write("writ.lua", other.config.replace(f":{other.port}", f":{d.port}"))
    refused(other, f"127.0.0.1:{d.port}")
    refused(other, "stop what listens there, or choose another address under `listen`")
    other.write("writ.lua", other.config.replace(f'"127.0.0.1:{other.tls_port}"', f'"203.0.113.9:{other.tls_port}"'))
    refused(other, "no interface of this machine has it")


@test
def loose_permissions_are_refused():
    d = Deployment().start()
    d.stop()
    for name, mode in (("keys/log.key", 0o644), ("keys/storage.key", 0o640), ("keys/x509.key", 0o640), ("keys/jwt.key", 0o604),
                       ("writ.db", 0o666), ("log.db", 0o622), ("keys", 0o755), ("", 0o777)):
        path = os.path.join(d.data, name) if name else d.data
        was = stat.S_IMODE(os.stat(path).st_mode)
        os.chmod(path, mode)
        refused(d, name or d.data)
        os.chmod(path, was)
    d.start()


@test
def a_foreign_owner_is_refused():
    if os.geteuid() != 0:
        return  # only root can give a file away
    d = Deployment().start()
    d.stop()
    for name in ("keys/jwt.key", "writ.db", "log.db"):
        path = os.path.join(d.data, name)
        os.chown(path, 65534, 65534)
        refused(d, name)
        os.chown(path, 0, 0)
    d.start()


@test
def a_lost_registry_is_refused_and_comes_back_with_its_file():
    d = Deployment().start()
    d.stop()
    path = os.path.join(d.data, "writ.db")
    os.rename(path, path + ".away")
    refused(d, "log.db is there, but writ.db", "restore it from the backup")
    check(not os.path.exists(path), "an empty registry was begun beside an old log")
    os.rename(path + ".away", path)
    d.start()


@test
def data_of_another_format_is_refused_before_it_is_touched():
    d = Deployment().start()
    d.stop()
    path = os.path.join(d.data, "VERSION")
    with open(path, encoding="ascii") as f:
        ours = f.read()
    with open(path, "w", encoding="ascii") as f:
        f.write(re.sub(r"\d+", "99", ours))
    before = {n: os.stat(os.path.join(d.data, n)).st_mtime_ns for n in ("writ.db", "log.db")}
    refused(d, "99", d.data)
    equal({n: os.stat(os.path.join(d.data, n)).st_mtime_ns for n in before}, before, "times of the files")
    with open(path, "w", encoding="ascii") as f:
        f.write(ours)
    d.start()


@test
def the_data_folder_has_the_stated_modes():
    d = server()
    want = {"": 0o711, "keys": 0o700, "keys/x509.key": 0o600, "keys/jwt.key": 0o600, "keys/log.key": 0o600,
            "writ.db": 0o600, "log.db": 0o600, "bundle.pem": 0o644, "admin.sock": 0o600}
    got = {name: stat.S_IMODE(os.stat(os.path.join(d.data, name)).st_mode) for name in want}
    equal({k: oct(v) for k, v in got.items()}, {k: oct(v) for k, v in want.items()}, "modes")
    for name in os.listdir(os.path.join(d.data, "keys")):
        mode = os.stat(os.path.join(d.data, "keys", name)).st_mode
        check(not mode & 0o077, f"keys/{name} is open to others: {oct(mode)}")


CONFIG_ERRORS = (
    # why, second line of a file, words that must be said
    ("unknown key", 'trust_domian = "example.org"\n', ["trust_domian", "trust_domain"]),
    ("unknown key of a group", "limits = { dept = 5 }\n", ["dept", "depth"]),
    ("unknown door", "listen = { htpp = '127.0.0.1:1' }\n", ["htpp", "http"]),
    ("wrong type", "trust_domain = 7\n", ["trust_domain"]), ("wrong type of a list", "callers = 'root'\n", ["callers"]),
    ("bad trust domain", 'trust_domain = "Not A Domain"\n', ["trust_domain"]),
    ("plaintext in the open", "listen = { http = '0.0.0.0:8080' }\n", ["0.0.0.0:8080", "https"]),
    ("unknown role", "callers = { { unix_user = 'root', role = 'amdin' } }\n", ["amdin", "admin"]),
    ("out of range", "limits = { depth = 0 }\n", ["depth"]),
    ("a library", "data = os.getenv('HOME')\n", ["writ.lua"]),
    ("a syntax error", "trust_domain = = 1\n", ["writ.lua"]),
    ("no end", "while true do end\n", ["writ.lua"]),
)


@test
def configuration_errors_name_file_line_and_nearest_key():
    for why, text, words in CONFIG_ERRORS:
        d = Deployment()
        d.write("writ.lua", "-- " + why + "\n" + text)
        try:
            said = refused(d, "writ.lua", *words)
            check(re.search(r"writ\.lua:2\b", said), f"line 2 is not named: {said}")
        except Failure as e:
            raise Failure(f"{why}: {e}") from None
        finally:
            d.close()


@test
def without_a_caller_there_is_no_answer():
    d = Deployment(caller=None).start()
    d.register()
    reply = d.evaluate()
    is_error(reply, 401, "no credentials")
    check(reply.header("www-authenticate"), f"no WWW-Authenticate: {reply.headers}")
    for path in ("/livez", "/readyz", "/version"):
        equal(d.http("GET", path).status, 200, path)
    for token in ("Bearer x", "Bearer a.b.c", "Bearer " + "a" * 9000, "Basic YTpi", "Bearer"):
        is_error(d.evaluate(headers={"Authorization": token}), (400, 401, 431), token[:20])


@test
def a_fixed_caller_is_no_door_for_browsers():
    d = server()
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"},
                    {"Host": f"rebound.example:{d.port}"}):
        is_error(d.evaluate(headers=headers), (400, 403, 421), str(headers))
    equal(d.evaluate(headers={"Host": f"localhost:{d.port}"}).status, 200, "Host: localhost")
    equal(d.evaluate(headers={"Host": f"[::1]:{d.port}"}).status, 200, "Host: [::1]")


@test
def other_users_do_not_reach_the_admin_socket():
    if os.geteuid() != 0:
        return  # cannot become somebody else
    d = server()
    code = ("import os,socket,sys\nos.setgid(65534); os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "try:\n    s.connect(sys.argv[1])\nexcept PermissionError:\n    sys.exit(7)\n"
            "s.sendall(b'GET /v1/agents HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n"
            "sys.exit(7 if s.recv(100)[9:12] in (b'401', b'403') else 1)\n")
    done = subprocess.run(["python3", "-c", code, d.admin_socket], check=False)
    equal(done.returncode, 7, "exit code of another user's attempt")


@test
def refusals_say_what_is_needed_and_where():
    d = Deployment(caller="pep", config='callers = { { unix_uid = 65534, role = "auditor" } }\n').start()
    error = is_error(d.http("GET", "/v1/agents"), 404, "a path of the other door")
    check("it is at the operators' door" in error["message"], error)
    error = is_error(d.admin("POST", "/access/v1/evaluation", {}), 404, "a path of the other door")
    check("it is at the agents' door" in error["message"], error)
    check("; it is at" not in is_error(d.http("GET", "/nothing"), 404)["message"], "a door for nothing")
    if os.geteuid() != 0:
        return  # cannot become somebody else
    code = ("import os,socket,sys\nos.setgid(65534); os.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\n"
            "s.connect(sys.argv[1])\ns.sendall(b'POST /v1/agents HTTP/1.1\\r\\nHost: localhost\\r\\n'"
            "b'Content-Type: application/json\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}')\n"
            "while p := s.recv(4096): print(p.decode())\n")
    done = subprocess.run(["python3", "-c", code, d.admin_socket], capture_output=True, text=True, check=True)
    check("403" in done.stdout and "needs the role admin" in done.stdout, done.stdout)


@test
def a_folder_of_init_serves_at_once():
    d = Deployment(policies={})
    d.writ("init", d.path("new"), "--trust-domain", TRUST_DOMAIN, "--local-pep", "--http", f"127.0.0.1:{d.port}",
           "--https", f"127.0.0.1:{d.tls_port}", "--operators", f"127.0.0.1:{d.operators_port}", code=0)
    equal(d.writ("policy", "check", d.path("new", "policies")).returncode, 0, "exit code of policy check")
    # Not into a folder where something is already.
    d.writ("init", d.path("new"), code=1)
    d.config_file = d.path("new", "writ.lua")
    d.data = d.path("new", "writ-data")
    d.admin_socket = os.path.join(d.data, "admin.sock")
    d.start()
    d.register()
    equal(d.evaluate().status, 200, "status of a decision")


@test
def doctor_names_what_is_weakened():
    done = server().writ("doctor")
    check("caller" in done.stdout and str(server().port) in done.stdout,
          f"the fixed caller is not named: {done.stdout} {done.stderr}")
    # What both the configuration and the server show is one finding; a default is none.
    equal(done.stdout.count("fixed_caller"), 1, f"findings about the fixed caller in {done.stdout}")
    check("plaintext" not in done.stdout, done.stdout)


@test
def ready_checks_give_details_only_of_what_is_wrong():
    reply = server().admin("GET", "/readyz")
    for c in reply.json["checks"]:
        check(c["ok"] is True and "detail" not in c, f"detail although all is well: {c}")


@test
def all_doors_are_named():
    d = Deployment().start()
    status = d.admin("GET", "/v1/status").json
    equal(list(status["listen"]), ["http", "https", "workload", "operators", "admin"], "listeners")
    with open(d.output, encoding="utf-8") as f:
        said = f.read()
    check(f"unix:{d.workload_socket}" in said and f"http://127.0.0.1:{d.port}  (fixed caller)" in said, said)
    equal(os.stat(d.workload_socket).st_mode & 0o777, 0o666, "mode of the Workload API's socket")


@test
def status_speaks_of_the_parts():
    d = server()
    reply = d.admin("GET", "/v1/status")
    equal(reply.status, 200, "status")
    check(isinstance(reply.json, dict) and reply.json, repr(reply))
    check(TRUST_DOMAIN in d.writ("status", code=0).stdout + reply.body.decode(), "no trust domain in status")
    check(AGENT in d.writ("agent", "list", code=0).stdout, "agent list")


if __name__ == "__main__":
    main()
