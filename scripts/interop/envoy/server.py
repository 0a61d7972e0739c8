"""server.py PORT: an MCP server of the official SDK, with two tools."""
import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("files")


@server.tool()
def read(path: str) -> str:
    """Read a file."""
    return f"contents of {path}"


@server.tool()
def delete(path: str) -> str:
    """Delete a file."""
    return f"{path} is gone"


server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
