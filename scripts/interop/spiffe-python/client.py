"""py-spiffe at writ's Workload API; see ../spiffe.py for what it prints."""
import base64
import json
import sys
import threading

from cryptography.hazmat.primitives.serialization import Encoding
from spiffe import JwtSvid, WorkloadApiClient

AUDIENCE = "interop"
PRINTING = threading.Lock()


def say(**event):
    with PRINTING:
        print(json.dumps(event), flush=True)


def der(certificate):
    return certificate.public_bytes(Encoding.DER).hex()


def updated(context):
    svid = context.default_svid
    roots = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain).x509_authorities
    top = svid.cert_chain[-1]
    for root in roots:
        if root.subject == top.issuer:
            top.verify_directly_issued_by(root)  # raises
            break
    else:
        raise ValueError("no root has signed it")
    say(event="x509", id=str(svid.spiffe_id), chain=[der(c) for c in svid.cert_chain], roots=[der(c) for c in roots])


def jwt(client):
    try:
        svid = client.fetch_jwt_svid(audience={AUDIENCE})
        client.validate_jwt_svid(svid.token, AUDIENCE)
        bundle = client.fetch_jwt_bundles().get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        JwtSvid.parse_and_validate(svid.token, bundle, {AUDIENCE})
        head = svid.token.split(".")[0]
        kid = json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]
        say(event="jwt", id=str(svid.spiffe_id), kid=kid)
    except Exception as e:  # whatever it is, the other side has to see it
        say(event="jwt", error=str(e) or type(e).__name__)


def main():
    with WorkloadApiClient(sys.argv[1]) as client:
        client.stream_x509_contexts(updated, lambda e: print(e, file=sys.stderr, flush=True))
        for _ in sys.stdin:
            jwt(client)


main()
