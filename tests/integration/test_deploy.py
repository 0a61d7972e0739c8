#!/usr/bin/env -S python3 -B
"""The files of scripts/deploy that no program here can run: their syntax, and their fields by the tables of those who
read them (fact sheet ext-authz 10 and 11)."""
import os
import shutil
import subprocess
import sys
import tempfile

try:
    import yaml
except ImportError:  # another Python stands before Debian's, whose package scripts/packages installs
    if sys.executable == "/usr/bin/python3":
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3", "-B", *sys.argv])

from harness import ROOT, WRIT, check, equal, main, test

DEPLOY = os.path.join(ROOT, "scripts", "deploy")
BODY_LIMIT = 1048576 - 131072  # limits.body, less what a CheckRequest holds besides the body
SETTINGS = {"protocol", "server", "style", "peer", "audience", "batches", "headers", "gateway", "vhost"}


def documents(name):
    with open(os.path.join(DEPLOY, name), encoding="utf-8") as f:
        return list(yaml.safe_load_all(f))


def only(mapping, known, where):
    check(set(mapping) <= set(known), f"{where}: {sorted(set(mapping) - set(known))} is no field of it")


@test
def every_file_is_well_formed():
    for name in sorted(os.listdir(DEPLOY)):
        if name.endswith(".yaml"):
            check(all(isinstance(d, dict) for d in documents(name)), name)


@test
def istio():
    mesh, telemetry, policy, rule = documents("istio.yaml")
    provider, log = mesh["extensionProviders"]
    grpc = provider["envoyExtAuthzGrpc"]
    only(grpc, ("service", "port", "failOpen", "statusOnError", "timeout", "includeRequestBodyInCheck"), "envoyExtAuthzGrpc")
    only(grpc["includeRequestBodyInCheck"], ("maxRequestBytes", "allowPartialMessage", "packAsBytes"), "includeRequestBodyInCheck")
    equal((grpc["failOpen"], grpc["statusOnError"]), (False, "503"), "fails closed, and says so")
    equal(grpc["includeRequestBodyInCheck"], {"maxRequestBytes": BODY_LIMIT, "allowPartialMessage": False, "packAsBytes": True},
          "the body")
    only(log["envoyHttpAls"], ("service", "port", "logName", "filterStateObjectsToLog", "additionalRequestHeadersToLog",
                               "additionalResponseHeadersToLog", "additionalResponseTrailersToLog"), "envoyHttpAls")
    equal((telemetry["kind"], telemetry["spec"]["accessLogging"]), ("Telemetry", [{"providers": [{"name": log["name"]}]}]), "the log")
    equal((log["envoyHttpAls"]["service"], telemetry["spec"]["selector"]), (grpc["service"], policy["spec"]["selector"]), "of whom, to whom")
    equal((policy["kind"], policy["spec"]["action"], policy["spec"]["provider"]),
          ("AuthorizationPolicy", "CUSTOM", {"name": provider["name"]}), "the policy names the provider")
    equal((rule["kind"], rule["spec"]["host"], rule["spec"]["trafficPolicy"]["tls"]["mode"]),
          ("DestinationRule", grpc["service"], "MUTUAL"), "the rule is for the provider's host")


@test
def agentgateway():
    [doc] = documents("agentgateway.yaml")
    [route] = doc["binds"][0]["listeners"][0]["routes"]
    auth = route["policies"]["extAuthz"]
    only(auth, ("host", "policies", "protocol", "failureMode", "includeRequestHeaders", "includeRequestBody", "cache"), "extAuthz")
    only(auth["protocol"]["grpc"], ("context", "metadata"), "grpc")
    only(auth["protocol"]["grpc"]["context"], SETTINGS, "context")
    equal(auth["failureMode"], {"denyWithStatus": 503}, "fails closed")
    equal(auth["includeRequestBody"], {"maxRequestBytes": BODY_LIMIT, "allowPartialMessage": False, "packAsBytes": True}, "body")
    check("cache" not in auth, "a cached answer has no record")


@test
def agentgateway_mcp():
    [doc] = documents("agentgateway-mcp.yaml")
    [route] = doc["binds"][0]["listeners"][0]["routes"]
    [processor] = route["policies"]["mcpGuardrails"]["processors"]
    only(processor, ("kind", "host", "policies", "failureMode", "metadata", "requestHeaders", "methods"), "processor")
    equal((processor["kind"], processor["failureMode"]), ("remote", "failClosed"), "fails closed")
    equal(processor["metadata"], {"agent": "source.spiffeId"}, "who the agent is")
    check(set(processor["methods"].values()) <= {"request", "full"}, "every call is asked about, not the answer alone")
    equal(processor["methods"]["*"], "request", "methods not named")
    equal(len(route["backends"][0]["mcp"]["targets"]), 1, "one server behind a list")


@test
def kgateway():
    [doc] = documents("kgateway.yaml")
    auth = doc["spec"]["traffic"]["extAuth"]
    only(auth, ("backendRef", "cache", "conditional", "failureMode", "forwardBody", "grpc", "http", "url"), "extAuth")
    only(auth["grpc"], ("contextExtensions", "requestMetadata"), "grpc")
    only(auth["grpc"]["contextExtensions"], SETTINGS, "contextExtensions")
    equal((auth["failureMode"], auth["forwardBody"]), ("FailClosed", {"maxSize": BODY_LIMIT}), "fails closed, with bodies")


@test
def traefik():
    """By the options of Traefik 3's ForwardAuth."""
    [doc] = documents("traefik.yaml")
    http = doc["http"]
    only(http, ("middlewares", "routers", "services", "serversTransports"), "http")
    [(name, middleware)] = http["middlewares"].items()
    auth = middleware["forwardAuth"]
    only(auth, ("address", "addAuthCookiesToResponse", "authRequestHeaders", "authResponseHeaders", "authResponseHeadersRegex",
                "authSigninURL", "forwardBody", "headerField", "maxBodySize", "maxResponseBodySize", "preserveLocationHeader",
                "preserveRequestMethod", "tls", "trustForwardHeader"), "forwardAuth")
    only(auth["tls"], ("ca", "caOptional", "cert", "insecureSkipVerify", "key"), "tls")
    path = auth["address"].partition("/ext-authz/")[2].split(",")
    equal((path[0], {s.partition("=")[0] for s in path[1:]} <= SETTINGS), ("traefik", True), "the settings in the path")
    equal((auth["trustForwardHeader"], auth["forwardBody"], auth["maxBodySize"]), (False, True, 1048576), "whose headers, and the body")
    [router] = http["routers"].values()
    equal((router["middlewares"], router["service"] in http["services"]), ([name], True), "the router asks")


GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "models"}
WRIT_PORT = [{"name": "writ", "namespace": "writ", "port": 8443}]


@test
def envoy_ai_gateway():
    """By the CRDs of envoyproxy/gateway (gateway.envoyproxy.io) and envoyproxy/ai-gateway (aigateway.envoyproxy.io)."""
    docs = {d["kind"]: d for d in documents("envoy-ai-gateway.yaml")}
    versions = {"gateway.envoyproxy.io": "v1alpha1", "aigateway.envoyproxy.io": "v1beta1"}
    for kind, d in docs.items():
        group, _, version = d["apiVersion"].partition("/")
        equal(version, versions.get(group, version), kind)
    auth = docs["SecurityPolicy"]["spec"]["extAuth"]
    only(docs["SecurityPolicy"]["spec"], ("apiKeyAuth", "authorization", "basicAuth", "cors", "csrf", "extAuth", "jwt", "mergeType",
                                          "oidc", "targetRef", "targetRefs", "targetSelectors"), "SecurityPolicy")
    only(auth, ("bodyToExtAuth", "contextExtensions", "failOpen", "grpc", "headersToExtAuth", "http", "includeRouteMetadata",
                "recomputeRoute", "statusOnError", "timeout"), "extAuth")
    equal((auth["failOpen"], auth["statusOnError"], auth["bodyToExtAuth"]), (False, 503, {"maxRequestBytes": BODY_LIMIT}), "fails closed")
    only(auth["grpc"], ("backendRef", "backendRefs", "backendSettings"), "grpc")
    for c in auth["contextExtensions"]:
        equal((set(c), c["type"], c["name"] in SETTINGS), ({"name", "type", "value"}, "Value", True), f"{c}")
    for kind in ("SecurityPolicy", "ClientTrafficPolicy"):
        equal(docs[kind]["spec"]["targetRefs"], [GATEWAY], f"{kind}: all routes of the Gateway")
    validation = docs["ClientTrafficPolicy"]["spec"]["tls"]["clientValidation"]
    only(validation, ("allowExpiredCertificate", "caCertificateRefs", "certificateHashes", "crl", "mode", "optional", "spkiHashes",
                      "subjectAltNames"), "clientValidation")
    equal((validation["mode"], validation["subjectAltNames"]["uris"][0]["type"]), ("RequireAndVerify", "Prefix"), "who the agent is")
    patches = docs["EnvoyPatchPolicy"]["spec"]
    equal((patches["targetRef"], patches["type"]), (GATEWAY, "JSONPatch"), "patches")
    for p, field in zip(patches["jsonPatches"], ("with_request_body/pack_as_bytes", "include_peer_certificate")):
        gateway = docs["Gateway"]
        equal(p["name"], f"agents/models/{gateway['spec']['listeners'][0]['name']}", "the listener")
        only(p["operation"], ("from", "jsonPath", "op", "path", "value"), "operation")
        equal((p["operation"]["op"], p["operation"]["path"], p["operation"]["value"]), ("add", f"/typed_config/{field}", True), "a patch")
    [setting] = docs["EnvoyProxy"]["spec"]["telemetry"]["accessLog"]["settings"]
    [sink] = setting["sinks"]
    only(sink["als"], ("backendRef", "backendRefs", "backendSettings", "http", "logName", "type"), "als")
    equal((sink["type"], sink["als"]["type"]), ("ALS", "HTTP"), "the access log")
    equal((auth["grpc"]["backendRefs"], sink["als"]["backendRefs"]), (WRIT_PORT, WRIT_PORT), "both go to writ")
    route = docs["AIGatewayRoute"]["spec"]
    only(route, ("hostnames", "llmRequestCosts", "parentRefs", "rules"), "AIGatewayRoute")
    equal({c["type"]: c["metadataKey"] for c in route["llmRequestCosts"]},
          {"InputToken": "llm_input_token", "OutputToken": "llm_output_token"}, "what access_log of writ.lua looks for by default")
    equal(route["rules"][0]["backendRefs"], [{"name": docs["AIServiceBackend"]["metadata"]["name"]}], "the backend")
    only(docs["AIServiceBackend"]["spec"], ("backendRef", "bodyMutation", "headerMutation", "schema"), "AIServiceBackend")
    only(docs["Backend"]["spec"], ("appProtocols", "endpoints", "fallback", "tls", "type"), "Backend")


@test
def kubernetes():
    """The configuration is one that writ takes, and the policies load."""
    docs = {(d["kind"], d["metadata"]["name"]): d for d in documents("kubernetes.yaml")}
    [container] = docs["StatefulSet", "writ"]["spec"]["template"]["spec"]["containers"]
    equal(container["command"][1:], ["serve", "--config", "/etc/writ/writ.lua"], "the command")
    equal(docs["StatefulSet", "writ"]["spec"]["replicas"], 1, "one writer of one log")
    equal(docs["Service", "writ"]["spec"]["selector"], docs["StatefulSet", "writ"]["spec"]["selector"]["matchLabels"], "selector")
    volumes = {v["name"] for v in docs["StatefulSet", "writ"]["spec"]["template"]["spec"]["volumes"]} | {"data"}
    equal({m["name"] for m in container["volumeMounts"]}, volumes, "all volumes are mounted")
    with tempfile.TemporaryDirectory(prefix="writ-deploy-") as d:
        os.mkdir(os.path.join(d, "policies"))
        config = docs["ConfigMap", "writ-config"]["data"]["writ.lua"]
        for path, text in (("writ.lua", config.replace("/var/lib/writ", d).replace("/etc/writ", d)),
                           *((f"policies/{n}", t) for n, t in docs["ConfigMap", "writ-policies"]["data"].items())):
            with open(os.path.join(d, path), "w", encoding="utf-8") as f:
                f.write(text)
        done = subprocess.run([WRIT, "doctor", "--config", "writ.lua"], cwd=d, capture_output=True, text=True, timeout=60,
                              check=False)
        equal(done.returncode, 0, done.stdout)
        done = subprocess.run([WRIT, "policy", "check", "policies"], cwd=d, capture_output=True, text=True, timeout=60,
                              check=False)
        equal(done.returncode, 0, done.stdout + done.stderr)


@test
def systemd():
    with open(os.path.join(DEPLOY, "writ.service"), encoding="utf-8") as f:
        text = f.read()
    for line in ("ExecStart=/usr/local/bin/writ serve --config /etc/writ/writ.lua", "NoNewPrivileges=yes",
                 "ProtectSystem=strict", "CapabilityBoundingSet=", "StateDirectory=writ"):
        check(f"\n{line}\n" in text, line)
    if not shutil.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory(prefix="writ-deploy-") as d:
        unit = os.path.join(d, "writ.service")
        with open(unit, "w", encoding="utf-8") as f:
            f.write(text.replace("/usr/local/bin/writ", WRIT))
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
        equal((done.returncode, [line for line in done.stderr.splitlines() if "writ.service" in line]), (0, []), done.stderr)


main()
