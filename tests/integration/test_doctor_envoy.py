#!/usr/bin/env python3
"""writ doctor --envoy: each weakness by name, in the files of scripts/deploy with one thing changed."""
import json
import os
import subprocess
import tempfile

from harness import ROOT, WRIT, check, equal, main, test

GRPC, HTTP, LISTS, MODELS = (open(os.path.join(ROOT, "scripts/deploy", f"envoy-{f}.yaml"), encoding="utf-8").read()
                             for f in ("grpc", "http", "lists", "models"))
PROC = "message_timeout: 0.25s\n              "  # of ext_proc


def doctor(text, config=""):
    """The names found, with their severities, and the whole."""
    with tempfile.TemporaryDirectory() as d:
        for name, content in (("envoy", text), ("writ.lua", config)):
            with open(os.path.join(d, name), "wb") as f:
                f.write(content if isinstance(content, bytes) else content.encode())
        done = subprocess.run([WRIT, "doctor", "--json", "--config", "writ.lua", "--envoy", "envoy"], cwd=d,
                              capture_output=True, text=True, timeout=60, check=False)
    check(done.returncode in (0, 1) and not done.stderr, f"{done.returncode} {done.stderr} {done.stdout[-600:]}")
    findings = json.loads(done.stdout)["findings"]
    equal(done.returncode, 1 if any(f["severity"] == "error" for f in findings) else 0, "exit code")
    return {f["name"]: f["severity"] for f in findings}, done.stdout


ROUTE = ('                  envoy.filters.http.ext_proc:\n                    "@type": '
         'type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.')
ROWS = [  # file, what is changed, what it becomes, name, severity
    (GRPC, "failure_mode_allow: false", "failure_mode_allow: true", "envoy_failure_open", "error"),
    (GRPC, "failure_mode_allow: false", 'failureModeAllow: true', "envoy_failure_open", "error"),
    (GRPC, "failure_mode_allow: false", "filter_enabled: { default_value: { numerator: 50 } }", "envoy_not_always", "warning"),
    (GRPC, "status_on_error: { code: ServiceUnavailable }", "", "envoy_status_on_error", "warning"),
    (GRPC, "code: ServiceUnavailable", "code: Forbidden", "envoy_status_on_error", "warning"),
    (GRPC, "code: ServiceUnavailable", "code: 403", "envoy_status_on_error", "warning"),
    (GRPC, "include_peer_certificate: true", "", "envoy_no_certificate", "warning"),
    (GRPC, "validate_mutations: true", "", "envoy_mutations", "info"),
    (GRPC, "with_request_body:", "something_else:", "envoy_no_body", "warning"),
    (GRPC, "allow_partial_message: false", "allow_partial_message: true", "envoy_partial_body", "warning"),
    (GRPC, "pack_as_bytes: true", "pack_as_bytes: false", "envoy_body_as_text", "warning"),
    (GRPC, "max_request_bytes: 917504", "max_request_bytes: 917505", "envoy_body_limit", "warning"),
    (GRPC, "require_client_certificate: true", "require_client_certificate: false", "envoy_no_client_certificate", "warning"),
    (GRPC, "forward_client_cert_details: SANITIZE_SET", "forward_client_cert_details: APPEND_FORWARD", "envoy_foreign_xfcc",
     "warning"),
    (GRPC, "normalize_path: true", "", "envoy_path_not_normal", "info"),
    (GRPC, "check_settings:", "disabled: true\n                    check_settings:", "envoy_route_unasked", "warning"),
    (GRPC, "check_settings:", "check_settings:\n                      disable_request_body_buffering: true", "envoy_no_body",
     "warning"),
    (GRPC, "grpc_service:", "other_service:", "envoy_no_service", "error"),
    (HTTP, ",peer=x-writ-peer", "", "envoy_no_peer", "warning"),
    (HTTP, "- { key: x-writ-peer,", "- { key: x-other,", "envoy_forged_peer", "error"),
    (HTTP, "/ext-authz/envoy", "/authz", "envoy_path", "error"),
    (HTTP, "allowed_upstream_headers: { patterns: [ { prefix: x-writ- } ] }",
     'allowed_upstream_headers: { patterns: [ { prefix: x- } ] }', "envoy_loose_headers", "warning"),
    (HTTP, "allowed_upstream_headers: { patterns: [ { prefix: x-writ- } ] }",
     'allowed_upstream_headers: { patterns: [ { safe_regex: { regex: ".*" } } ] }', "envoy_loose_headers", "warning"),
    (HTTP, "max_request_bytes: 1048576", "max_request_bytes: 1048577", "envoy_body_limit", "warning"),
    (HTTP, "allow_partial_message: false", "allow_partial_message: true", "envoy_partial_body", "warning"),
    (LISTS, PROC + "failure_mode_allow: false", "failure_mode_allow: true", "envoy_proc_failure_open", "error"),
    (LISTS, PROC, "observability_mode: true\n              ", "envoy_proc_not_enforced", "error"),
    (LISTS, PROC, "disableImmediateResponse: true\n              ", "envoy_proc_not_enforced", "error"),
    (LISTS, "untyped: [ envoy.filters.http.ext_authz ]", "untyped: [ envoy.filters.http.lua ]", "envoy_proc_no_metadata", "error"),
    (LISTS, "metadata_options:", "other_options:", "envoy_proc_no_metadata", "error"),
    (LISTS, "processing_mode: ", "other_mode: ", "envoy_proc_mode", "error"),
    (LISTS, "response_body_mode: BUFFERED", "response_body_mode: BUFFERED_PARTIAL", "envoy_proc_mode", "error"),
    (LISTS, "response_body_mode: BUFFERED", "response_body_mode: 1", "envoy_proc_mode", "error"),
    (LISTS, "request_header_mode: SEND", "request_header_mode: SKIP", "envoy_proc_mode", "error"),
    (LISTS, "response_header_mode: SEND", "responseHeaderMode: SKIP", "envoy_proc_mode", "error"),
    (LISTS, "check_settings:", "disabled: false\n" + ROUTE + "ExtProcPerRoute\n                    disabled: true\n"
     "                  c:\n                    check_settings:", "envoy_proc_route_unasked", "warning"),
    (LISTS, "check_settings:", "disabled: false\n" + ROUTE + "ExtProcPerRoute\n                    overrides: "
     "{ failure_mode_allow: true }\n                  c:\n                    check_settings:", "envoy_proc_failure_open", "error"),
    (LISTS, "check_settings:", "disabled: false\n" + ROUTE + "ExtProcPerRoute\n                    overrides: { processing_mode: "
     "{ response_body_mode: NONE } }\n                  c:\n                    check_settings:", "envoy_proc_mode", "error"),
]


@test
def what_is_deployed_is_clean():
    for name, text in (("gRPC", GRPC), ("HTTP", HTTP), ("lists", LISTS), ("models", MODELS)):
        equal(doctor(text)[0], {}, name)
    same = LISTS.replace("response_body_mode: BUFFERED", "responseBodyMode: 2").replace("request_header_mode: SEND", "")
    equal(doctor(same)[0], {}, "the same in other words")
    equal(doctor(GRPC.replace("917504", "2000000"), "limits = { body = 4194304 }\n")[0].keys(), set(), "with writ's own limit")


@test
def each_weakness_has_its_name():
    for text, old, new, name, severity in ROWS:
        check(old in text, f"{old} is not in the file any more")
        found, out = doctor(text.replace(old, new))
        equal(found.get(name), severity, f"{old} -> {new}: {out}")
        equal(len(found), 1, f"nothing else of {old} -> {new}: {out}")


@test
def ext_proc_stands_behind_ext_authz_and_may_be_somebody_elses():
    head, rest = LISTS.split("          - name: envoy.filters.http.ext_authz\n")
    authz, rest = rest.split("          - name: envoy.filters.http.ext_proc ")
    proc, rest = rest.split("          - name: envoy.filters.http.router")
    swapped = (head + "          - name: envoy.filters.http.ext_proc " + proc + "          - name: envoy.filters.http.ext_authz\n" + authz
               + "          - name: envoy.filters.http.router" + rest)
    equal(doctor(swapped)[0], {"envoy_proc_order": "error"}, "the wrong order")
    foreign = proc.replace("cluster_name: writ", "cluster_name: other").replace("BUFFERED", "NONE")
    equal(doctor(LISTS.replace(proc, foreign))[0], {}, "another processor behind")
    equal(doctor(swapped.replace(proc, foreign))[0], {}, "another processor before")


@test
def says_where():
    _, out = doctor(GRPC.replace("failure_mode_allow: false", "failure_mode_allow: true"))
    check("static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config: "
          "failure_mode_allow is true" in out, out)


@test
def json_and_several_documents_are_read():
    bad = {"http_filters": [{"typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
           "failureModeAllow": True, "grpcService": {}, "includePeerCertificate": True, "validateMutations": True,
           "statusOnError": {"code": 503}, "withRequestBody": {"maxRequestBytes": 1, "packAsBytes": True}}}]}
    equal(doctor(json.dumps(bad))[0], {"envoy_failure_open": "error"}, "JSON")
    found, out = doctor("a: 1\n---\n" + GRPC.replace("pack_as_bytes: true", "") + "---\nb: 1\n")
    equal(found, {"envoy_body_as_text": "warning"}, "three documents")
    check("document 2 " in out, out)


@test
def what_cannot_be_read_is_an_error():
    for why, text in (("no YAML", "a: [1, 2"), ("a tab", "a:\n\t- b"), ("a name twice", "a: 1\na: 2\n"),
                      ("a merge key", "a: &x { b: 1 }\nc:\n  <<: *x\n"), ("an unknown alias", "a: *x\n"),
                      ("an alias of itself", "a: &x [ *x ]\n"), ("not UTF-8", b"a: \xff\n"), ("a list as a key", "? [a]\n: 1\n"),
                      ("deep", "[" * 100 + "]" * 100), ("very deep", "[" * 20000),
                      ("a billion laughs", "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
                          f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi"))),
                      ("too long", b"#" * (5 * 1024 * 1024))):
        equal(doctor(text)[0], {"envoy_unreadable": "error"}, why)
    for why, text in (("nothing", ""), ("no filter", "a: 1\n"), ("a number", "7")):
        equal(doctor(text)[0], {"envoy_no_ext_authz": "error"}, why)


main()
