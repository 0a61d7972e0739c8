test "paths of the own workspace" (function(t)
  local base = { agent = { workspace = "a" }, call = "workspace/read", expect = "permit" }
  for _, path in ipairs { "/workspace/a", "/workspace/a/x.txt", "/workspace//a/./b/", "/workspace/a/..." } do
    t.expect(base, { args = { path = path }, name = path })
  end
end)

test "paths that lead elsewhere, or might" (function(t)
  local base = { agent = { workspace = "a" }, call = "workspace/write", expect = "deny", reason = "outside_workspace" }
  for _, path in ipairs {
    "/workspace/b/x", "/workspace/ab", "/workspace/a/../b", "workspace/a/x", "/etc/passwd", "", "/workspace/a/%2e%2e/b",
    "/workspace/a/..%2Fb", "/workspace/a\\..\\b", "/workspace/a/%252e%252e/b", "/workspace/a/\n",
  } do
    t.expect(base, { args = { path = path, content = "" }, name = path })
  end
end)

test "agents whose workspace is no name" {
  call = "workspace/read", args = { path = "/workspace/a/x" }, expect = "deny", reason = "outside_workspace",
  { agent = {} },
  { agent = { workspace = "." } },
  { agent = { workspace = "a/.." } },
  { agent = { workspace = "" } },
  { agent = { team = "finance" } },
}
