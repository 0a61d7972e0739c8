test "a reader reads what is public" {
  agent = { role = "reader" },
  { call = "tickets/search", args = { query = "printer" }, expect = "permit", rule = "least-privilege/readers read public data" },
  { call = "files/read", args = { path = "/x" }, expect = "deny", reason = "no_rule" },
  { call = "files/delete", args = { path = "/x" }, expect = "deny", reason = "beyond_role" },
}

test "a worker has the tools of the job, and no others" {
  agent = { role = "worker" },
  { call = "files/read", args = { path = "/x" }, expect = "permit", rule = "least-privilege/workers use the tools of their job" },
  { call = "tickets/search", args = { query = "printer" }, expect = "permit" },
  { call = "files/write", args = { path = "/x", content = "" }, expect = "deny", reason = "no_rule" },
  { call = "cluster/drain", args = { node = "n1" }, expect = "deny", reason = "beyond_role",
    message = "Your role neither deletes nor administers; ask the owner of the system." },
}

test "without a role there is nothing" {
  call = "tickets/search", args = { query = "printer" },
  { agent = {}, expect = "deny", reason = "no_rule" },
  { agent = false, expect = "deny", reason = "no_rule" },
}
