#!/usr/bin/env -S python3 -B
"""Templates for callers of the Workload API: what the kernel says of a process makes it an agent of its own."""
import os
import pwd
import grp

from grpc_client import Client, field, parse
from harness import TRUST_DOMAIN, Deployment, check, equal, leaves, main, test

API, HEADER = "/SpiffeWorkloadAPI/", {"workload.spiffe.io": "true"}
TD = f"spiffe://{TRUST_DOMAIN}"
UID, GID = os.geteuid(), os.getegid()
USER, GROUP = pwd.getpwuid(UID).pw_name, grp.getgrgid(GID).gr_name
MINE = [f"unix:uid:{UID}"]


def ids(message):
    return [parse(s)[1][0].decode() for s in parse(message)[1]]


def stream(g, method="FetchX509SVID"):
    return g.stream(API + method, b"", HEADER)


def show(d, spiffe_id):
    return d.admin("GET", f"/v1/agents?id={spiffe_id}").json["agents"][0]


def denied(s, code=7):
    reply = s.end()
    equal(reply.status, code, f"the end of the stream ({reply.message})")
    return reply.message


@test
def a_process_is_the_instance_that_the_kernel_names():
    d = Deployment().start()
    template = f"{TD}/user/{{unix.user}}/{{unix.uid}}"
    d.register(template, owner="platform", selectors=[f"unix:gid:{GID}"], purpose="what users run", ttl="30m")
    me = f"{TD}/user/{USER}/{UID}"
    g = Client(d.workload_socket)
    equal(ids(stream(g).next()), [me], "the first message")
    entry = show(d, me)
    equal((entry["definition"], entry["owner"], entry["purpose"], entry["selectors"], entry["ttl"], entry["state"]),
          (template, "platform", "what users run", [], 1800, "active"), "the instance")
    tokens = g.call(API + "FetchJWTSVID", field(1, "svc"), HEADER)
    equal([parse(s)[1][0].decode() for s in parse(tokens.messages[0])[1]], [me], "its JWT-SVID")
    equal(ids(stream(Client(d.workload_socket)).next()), [me], "another process of it")
    acts = [r for _, r in leaves(d.export()).values() if r.get("act") == "agent.register" and r["agent"] == me]
    equal([a["pep"] for a in acts], ["attest:unix"], "one registration, on record")
    d.close()


@test
def a_call_waits_for_its_registration():
    d = Deployment().start()
    d.register(f"{TD}/group/{{unix.group}}", selectors=MINE)
    g = Client(d.workload_socket)
    reply = g.call(API + "FetchJWTSVID", field(1, "svc"), HEADER)
    equal((reply.status, [parse(s)[1][0].decode() for s in parse(reply.messages[0])[1]]), (0, [f"{TD}/group/{GROUP}"]),
          f"a first call ({reply.message})")
    reply = g.call(API + "FetchJWTSVID", field(1, "svc") + field(2, f"{TD}/group/other"), HEADER)
    equal(reply.status, 7, "another instance is another's")
    d.close()


@test
def templates_and_plain_entries_side_by_side():
    d = Deployment().start()
    d.register(f"{TD}/z", selectors=MINE)
    g = Client(d.workload_socket)
    s = stream(g)
    equal(ids(s.next()), [f"{TD}/z"], "plain")
    d.register(f"{TD}/gid/{{unix.gid}}", selectors=MINE)  # while it is open
    equal(ids(s.next()), [f"{TD}/gid/{GID}", f"{TD}/z"], "in order of ID")
    d.register(f"{TD}/named/{{name}}", selectors=MINE)  # a process has no name to give
    d.register(f"{TD}/digest/{{unix.path}}", selectors=MINE)  # a path is no segment
    d.register(f"{TD}/pod/{{k8s.ns}}", selectors=MINE)
    d.register(f"{TD}/others/{{unix.uid}}", selectors=["unix:uid:4294967290"])
    check(s.quiet(), "templates that are not for it")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": f"{TD}/gid/{GID}"})
    equal(ids(s.next()), [f"{TD}/z"], "the instance is suspended")
    d.admin("POST", "/v1/agents/resume", {"spiffe_id": f"{TD}/gid/{GID}"})
    equal(ids(s.next()), [f"{TD}/gid/{GID}", f"{TD}/z"], "and resumed")
    d.admin("POST", "/v1/agents/suspend", {"spiffe_id": f"{TD}/gid/{{unix.gid}}"})
    equal(ids(s.next()), [f"{TD}/z"], "the template is suspended")
    d.close()


@test
def an_id_is_given_once():
    d = Deployment().start()
    d.register(f"{TD}/uid/{UID}")  # by an admin, for somebody else
    d.register(f"{TD}/uid/{{unix.uid}}", selectors=MINE)
    g = Client(d.workload_socket)
    denied(stream(g))
    equal(show(d, f"{TD}/uid/{UID}").get("definition"), None, "it stays what it was")
    d.register(f"{TD}/user/{{unix.user}}", selectors=MINE)
    s = stream(g)
    equal(ids(s.next()), [f"{TD}/user/{USER}"], "another template")
    d.admin("POST", "/v1/agents/retire", {"spiffe_id": f"{TD}/user/{USER}"})
    denied(s)
    denied(stream(g))
    equal(show(d, f"{TD}/user/{USER}")["state"], "retired", "a retired instance")
    d.restart()
    denied(stream(Client(d.workload_socket)))
    d.close()


@test
def what_cannot_be_registered_is_tried_again():
    d = Deployment(config="registry = { max_entries = 2 }\n").start()
    d.register(f"{TD}/uid/{{unix.uid}}", selectors=MINE)
    d.register(f"{TD}/full")
    message = denied(stream(Client(d.workload_socket)), 14)
    check("registrations" in message or "full" in message, message)
    d.close()


main()
