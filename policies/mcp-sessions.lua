-- What every MCP client says before, between and after the calls that matter. At a proxy each message of
-- MCP is a question to the policies, so without these an agent gets no further than its first greeting.
-- None of them reads or changes anything; lists show what an agent could call (filtered at the gateway).

policy "mcp-sessions" {
  permit "the frame of a session" {
    on = { resource = "mcp_server", action = {
      "initialize", "server/discover", "ping", "logging/setLevel",
      "notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/roots/list_changed",
      "stream/open", "session/close",   -- GET and DELETE, up to 2025-11-25
    } },
  },
  permit "looking around" {
    on = { resource = "mcp_server", action = { "tools/list", "prompts/list", "resources/list", "resources/templates/list" } },
  },
}
