test "an MCP session stands before any call" (function(t)
  local said = { "initialize", "notifications/initialized", "ping", "server/discover", "stream/open", "session/close" }
  for _, action in ipairs(said) do
    t.permit({ agent = { team = "support" }, action = action, resource = "mcp_server:files" }, { rule = "mcp-sessions/the frame of a session" })
  end
  t.permit({ agent = { team = "support" }, action = "tools/list", resource = "mcp_server:files" }, { rule = "mcp-sessions/looking around" })
end)

test "what is more than the frame needs a rule of its own" {
  agent = { team = "support" },
  { action = "client/reply", resource = "mcp_server:files", expect = "deny", reason = "no_rule" },
  { action = "completion/complete", resource = "prompt:review", expect = "deny", reason = "no_rule" },
  { action = "ping", resource = "task:7", expect = "deny", reason = "no_rule" },
}
