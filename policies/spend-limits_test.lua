test "orders against the limit of the agent" {
  agent = { spend_limit = "200" }, call = "orders/create",
  { args = { amount = 100, item = "paper" }, expect = "permit", rule = "spend-limits/within the agent's limit" },
  { args = { amount = 100.01, item = "paper" }, expect = "ask", rule = "spend-limits/more than half of the limit" },
  { args = { amount = 200, item = "paper" }, expect = "ask" },
  { args = { amount = 200.01, item = "paper" }, expect = "deny", reason = "over_limit" },
  { args = { amount = 0, item = "paper" }, expect = "deny", reason = "no_rule" },
  { args = { amount = -1, item = "paper" }, expect = "deny", reason = "no_rule" },
  { name = "no limit is a limit of nothing", agent = {}, args = { amount = 1, item = "paper" }, expect = "deny", reason = "over_limit" },
  { name = "a limit that is no number", agent = { spend_limit = "lots" }, args = { amount = 1, item = "paper" }, expect = "deny", reason = "over_limit" },
}
