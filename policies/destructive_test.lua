test "what cannot be undone waits for a person" {
  agent = { team = "ops" },
  { call = "files/delete", args = { path = "/x" }, expect = "ask", rule = "destructive/a person for what cannot be undone",
    approvers = { "operations", "security" } },
  { call = "cluster/drain", args = { node = "n1" }, expect = "ask" },
  { call = "cluster/drain", args = { node = "n1", force = false }, expect = "ask" },
  { call = "cluster/drain", args = { node = "n1", force = true }, expect = "deny", reason = "forced" },
  { name = "not destructive", call = "files/read", args = { path = "/x" }, expect = "deny", reason = "no_rule" },
}
