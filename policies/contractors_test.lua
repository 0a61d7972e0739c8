local contractor = { id = "spiffe://acme.example/contractor/initech/a1", company = "initech" }

test "contractors have their own folder" {
  agent = contractor, context = { ip = "10.1.2.3" }, call = "files/read",
  { args = { path = "/shared/initech/x" }, expect = "permit", rule = "contractors/their own folder" },
  { args = { path = "/shared/umbrella/x" }, expect = "deny", reason = "no_rule" },
  { args = { path = "/shared/initech/../x" }, expect = "deny", reason = "no_rule" },
  { name = "without a company", agent = { id = contractor.id }, args = { path = "/shared/initech/x" }, expect = "deny", reason = "policy_error" },
}

test "walls around contractors" {
  agent = contractor, context = { ip = "10.1.2.3" },
  { call = "mail/send", args = { to = { "x" }, subject = "", body = "" }, expect = "deny", rule = "contractors/no confidential data" },
  { context = { ip = "192.0.2.1" }, call = "tickets/search", args = { query = "x" }, expect = "deny", reason = "outside_network" },
  { context = {}, call = "tickets/search", args = { query = "x" }, expect = "deny", reason = "outside_network" },
  { name = "mapped into IPv6", context = { ip = "::ffff:10.1.2.3" }, call = "files/read", args = { path = "/shared/initech/x" }, expect = "permit" },
}
