#!/usr/bin/env -S python3 -B
"""What a hostile outsider, an auditor and a reviewer asked of the whole: each test was a finding first."""
import base64
import json
import re
import signal
import socket
import subprocess
import time

from harness import (AGENT, TRUST_DOMAIN, WRIT, Deployment, call, check, equal, is_error, join_token, leaves, main,
                     openssl, raw, raw_status, test)

PEP = f"spiffe://{TRUST_DOMAIN}/mesh/gateway"
CALLERS = ('callers = { { unix_user = "root", role = "admin" },\n'
           f'  {{ spiffe_id = "spiffe://{TRUST_DOMAIN}/mesh/*", role = "pep" }} }}\n')
ATTEST = "limits = { attest_rate = 1000, attest_burst = 1000 }\n"
open_door = None


def server():
    """One deployment for what changes nothing: a fixed caller, the default settings."""
    global open_door
    if open_door is None:
        open_door = Deployment().start()
        open_door.register()
    return open_door


def enrol(d, spiffe_id):
    """(certificate file, key file, the certificate as text)"""
    name = spiffe_id.rsplit("/", 1)[1]
    key = d.path(name + ".key")
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    token = join_token(d.admin("POST", "/v1/agents/token", {"spiffe_id": spiffe_id}))
    reply = d.http("POST", "/v1/attest", {"join_token": token,
                                          "public_key": openssl("pkey", "-pubout", "-in", key).decode()})
    equal(reply.status, 200, f"attestation of {spiffe_id}: {reply}")
    return d.write(name + ".crt", reply.json["x509_svid"]), key



def seconds_to(text):
    return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.mktime(time.gmtime())


def between(value, low, high, what):
    check(low <= value <= high, f"{what} is {value:.0f}, expected {low} to {high}")


# --- settings are felt ------------------------------------------------------------------------

@test
def lifetimes_of_the_configuration_are_those_issued():
    d = Deployment(caller=None, config=ATTEST + 'ttl = { x509 = "10m", jwt = "1m", join_token = "40s", '
                   'authority = "2d", leeway = "1s" }\n').start()
    d.register()
    token = d.admin("POST", "/v1/agents/token", {"spiffe_id": AGENT})
    between(seconds_to(token.json["expires_at"]), 30, 41, "life of a join token")
    cert = enrol(d, AGENT)
    shown = d.admin("GET", f"/v1/agents?id={AGENT}").json["agents"][0]
    equal((shown["ttl"], shown["jwt_ttl"]), (600, 60), "what `agent show` says")
    openssl("x509", "-noout", "-checkend", "560", "-in", cert[0])
    check(subprocess.run(["openssl", "x509", "-noout", "-checkend", "660", "-in", cert[0]], check=False,
                         capture_output=True).returncode == 1, "the certificate lives longer than 10 minutes")
    jwt = d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, cert=cert).json["svid"]
    payload = jwt.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    equal(claims["exp"] - claims["iat"], 60, "life of a JWT-SVID")
    authority = d.path("writ-data", "bundle.pem")
    check(subprocess.run(["openssl", "x509", "-noout", "-checkend", str(3 * 86400), "-in", authority], check=False,
                         capture_output=True).returncode == 1, "the authority lives longer than 2 days")
    d.close()


@test
def a_long_life_in_a_registration_is_bounded_not_refused():
    d = Deployment(caller=None, config=ATTEST).start()
    d.register(ttl="7d", jwt_ttl="1d")
    cert = enrol(d, AGENT)
    check(subprocess.run(["openssl", "x509", "-noout", "-checkend", str(86400 + 60), "-in", cert[0]], check=False,
                         capture_output=True).returncode == 1, "the certificate lives longer than the signer allows")
    reply = d.https("POST", "/v1/svid/jwt", {"audience": ["x"]}, cert=cert)
    equal(reply.status, 200, f"a JWT-SVID: {reply}")
    between(seconds_to(reply.json["expires_at"]), 3500, 3601, "life of a JWT-SVID")
    d.close()


@test
def settings_that_nothing_uses_are_unknown():
    for text in ("limits = { batch = 5 }", "limits = { connections_per_address = 5 }", "limits = { token = '9KiB' }"):
        d = Deployment(config=text + "\n")
        d.spawn()
        equal(d.process.wait(20), 1, f"exit code with {text}")
        d.collect()
        check("limits." in d.stderr(), f"{text}: {d.stderr()[-300:]}")
        d.close()


@test
def a_token_over_its_limit_is_refused():
    d = Deployment(caller=None, config="limits = { token = 600 }\n").start()
    error = is_error(d.evaluate(headers={"Authorization": "Bearer " + "a" * 601}), 401, "a long token")
    check("601" in error["message"], repr(error))
    d.close()


if __name__ == "__main__":
    main()
