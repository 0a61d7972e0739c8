"""client.py URL CA CERT KEY MODE: the official SDK's client as an agent; prints what it got as JSON."""
import asyncio
import json
import ssl
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

url, ca, cert, key, mode = sys.argv[1:]
tls = ssl.create_default_context(cafile=ca)
tls.check_hostname = False  # the gateway is known by its SPIFFE ID; Envoy's has no DNS name
tls.load_cert_chain(cert, key)
out = {}


async def story():
    async with httpx2.AsyncClient(verify=tls, timeout=20) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode, read_timeout_seconds=20) as client:
            out["version"] = str(client.protocol_version)
            out["tools"] = sorted(t.name for t in (await client.list_tools()).tools)
            out["read"] = (await client.call_tool("read", {"path": "/a!é"})).content[0].text
            try:
                r = await client.call_tool("delete", {"path": "/a"})
                out["delete"] = {"is_error": r.is_error, "text": r.content[0].text}
            except Exception as e:
                out["delete"] = {"error": str(e)}


try:
    asyncio.run(story())
except BaseException as e:
    out["failed"] = repr(e) + repr(getattr(e, "exceptions", ""))
print(json.dumps(out))
