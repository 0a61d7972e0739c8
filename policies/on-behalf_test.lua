local planner, helper = "spiffe://acme.example/agent/planner", "spiffe://acme.example/agent/helper"
local alice = { id = "alice", issuer = "https://login.acme.example", scope = { "mail.read", "mail.send" } }

test "mail is sent for a person" {
  agent = { id = helper, team = "helpdesk" }, call = "mail/send", args = { to = { "bob" }, subject = "", body = "" },
  { user = alice, expect = "permit", rule = "on-behalf/mail for the person who asked" },
  { name = "handed on once", user = alice, chain = { planner, helper }, expect = "permit" },
  { name = "handed on twice", user = alice, chain = { "spiffe://acme.example/agent/front", planner, helper }, expect = "deny",
    reason = "third_hand" },
  { name = "for nobody", expect = "deny", reason = "no_rule" },
  { name = "a token that is not good for it", user = { id = "alice", scope = { "mail.read" } }, expect = "deny", reason = "no_rule" },
  { name = "another alice", user = { id = "alice", issuer = "https://login.other.example", scope = alice.scope },
    expect = "deny", reason = "no_rule" },
  { name = "what a gateway says of a user", context = { user = "alice", issuer = alice.issuer, scope = alice.scope },
    expect = "deny", reason = "no_rule" },
  { name = "another team", agent = { id = helper, team = "sales" }, user = alice, expect = "deny", reason = "no_rule" },
}

test "what a token comes out for" {
  agent = { id = helper, team = "helpdesk" }, action = "token/exchange", resource = "audience:https://mail.acme.example/",
  args = { scope = { "mail.send" } },
  { user = alice, expect = "permit", rule = "on-behalf/tokens for mail, for staff" },
  { name = "for more", user = alice, args = { scope = { "mail.send", "mail.admin" } }, expect = "deny", reason = "no_rule" },
  { name = "for somebody else's users", user = { id = "alice", issuer = "https://login.other.example" }, expect = "deny",
    reason = "no_rule" },
  { name = "for the agent itself", expect = "deny", reason = "no_rule" },
  { name = "for another service", user = alice, resource = "audience:https://crm.acme.example/", expect = "deny", reason = "no_rule" },
}
