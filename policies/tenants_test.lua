test "own collections only" {
  agent = { tenant = "acme" }, call = "documents/search",
  { args = { collection = "acme/handbook", query = "leave" }, expect = "permit", rule = "tenants/the tenant's own collections" },
  { args = { collection = "initech/handbook", query = "leave" }, expect = "deny", reason = "other_tenant" },
  { name = "a longer name", args = { collection = "acme2/handbook", query = "x" }, expect = "deny", reason = "other_tenant" },
  { name = "no slash", args = { collection = "acme", query = "x" }, expect = "deny", reason = "other_tenant" },
  { name = "a way out", args = { collection = "acme/../initech/x", query = "x" }, expect = "deny", reason = "other_tenant" },
  { name = "no tenant", agent = {}, args = { collection = "acme/handbook", query = "x" }, expect = "deny", reason = "other_tenant" },
  { name = "an empty tenant", agent = { tenant = "" }, args = { collection = "/handbook", query = "x" }, expect = "deny", reason = "other_tenant" },
  { name = "a wide permit does not help", agent = { team = "finance" }, args = { collection = "acme/handbook", query = "x" }, expect = "deny", reason = "other_tenant" },
}
