"""server.py PORT HOW: an MCP server of the official SDK, of either generation, with two tools. HOW: stream or json."""
import sys

port, how = int(sys.argv[1]), sys.argv[2]
try:
    from mcp.server.mcpserver import MCPServer as Server
    settings, running = {}, {"host": "127.0.0.1", "port": port, "json_response": how == "json"}
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server
    settings, running = {"host": "127.0.0.1", "port": port, "json_response": how == "json"}, {}

server = Server("files", **settings)


@server.tool(title="Read é")
def read(path: str, lines: int = 10, deep: list[dict[str, float]] | None = None) -> str:
    """Read a file. Ünïcode, "quotes" and \\ signs."""
    return f"contents of {path} {lines} {deep}"


@server.tool()
def delete(path: str) -> bool:
    """Delete a file."""
    return bool(path)


server.run(transport="streamable-http", **running)
