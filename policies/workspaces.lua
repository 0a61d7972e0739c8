-- Paths in arguments: path.within compares normal forms, and what could be read in two ways ("..",
-- backslashes, %2e) is within nothing. str.starts_with alone would let /workspace/a/../b through.

local function inside(q)
  local name = q.agent.workspace
  return name ~= nil and path.normal(name) == name and not str.contains(name, "/") and name ~= "."
    and path.within("/workspace/" .. name, q.args.path)
end

policy "workspaces" {
  deny "paths outside of the workspace" {
    on      = { action = "tools/call", tool = { workspace = true } },
    when    = function(q) return not inside(q) end,
    reason  = "outside_workspace",
    message = "Use plain paths below /workspace/NAME, without '..'.",
  },

  -- The wall has looked at the path.
  permit "the agent's own workspace" {
    on = { action = "tools/call", tool = { "workspace/read", "workspace/write" } },
  },
}
