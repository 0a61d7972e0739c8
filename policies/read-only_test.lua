local contractor = { id = "spiffe://acme.example/contractor/initech/a1", company = "initech" }
local read_only  = { id = contractor.id, company = contractor.company, access = "read-only" }

test "a read-only contractor reads the own folder and writes nowhere" {
  context = { ip = "10.1.2.3" },
  { agent = read_only, call = "files/read", args = { path = "/shared/initech/x" }, expect = "permit", rule = "contractors/their own folder" },
  { agent = read_only, call = "files/write", args = { path = "/shared/initech/x", content = "" }, expect = "deny", rule = "read-only/nothing but reading" },
  { agent = contractor, call = "files/write", args = { path = "/shared/initech/x", content = "" }, expect = "permit" },
}
