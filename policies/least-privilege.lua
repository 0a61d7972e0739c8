-- Least privilege: what no rule permits is denied, so an agent starts with nothing. These roles are
-- the least that is useful; give an agent one of them (--set role=reader) and add single tools later.

policy "least-privilege" {
  permit "readers read public data" {
    on = { action = "tools/call", effect = "read", tool = { data = "public" }, agent = { role = { "reader", "worker" } } },
  },

  -- Tools by name, never "everything that writes": what is added tomorrow is not in here.
  permit "workers use the tools of their job" {
    on = { action = "tools/call", tool = { "files/read", "ledger/query" }, agent = { role = "worker" } },
  },

  -- A permit elsewhere may be wider than its author thought. This holds against all of them.
  deny "no role deletes or administers" {
    on      = { action = "tools/call", effect = { "delete", "admin" }, agent = { role = { "reader", "worker" } } },
    reason  = "beyond_role",
    message = "Your role neither deletes nor administers; ask the owner of the system.",
  },
}
