"""client.py URL: the tools of an MCP server as the official SDK's client lists them, as JSON."""
import asyncio
import json
import sys


async def listed(url):
    try:
        from mcp import Client
    except ImportError:
        from mcp import ClientSession
        from mcp.client.streamable_http import streamablehttp_client
        async with streamablehttp_client(url) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return (await session.list_tools()).tools
    async with Client(url) as client:
        return (await client.list_tools()).tools


print(json.dumps([t.model_dump(by_alias=True, exclude_none=True, mode="json") for t in asyncio.run(listed(sys.argv[1]))]))
