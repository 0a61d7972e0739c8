-- On whose behalf: an agent with a delegated token acts for a person, with no more than that person gave.
-- q.user and q.chain come from the verified token; what is said of a user under q.context proves nothing.

local staff = "https://login.acme.example" -- another issuer may have an alice, too: this comes before the name

policy "on-behalf" {
  -- No token comes out unless a rule says so. Here q.user and q.chain are what the new one would say.
  permit "tokens for mail, for staff" {
    on   = { action = "token/exchange", resource = "audience", id = "https://mail.acme.example/", agent = { team = "helpdesk" } },
    when = function(q) return q.user.issuer == staff and not has(q.args.scope, "mail.admin") end,
  },

  permit "mail for the person who asked" {
    on   = { action = "tools/call", tool = "mail/send", agent = { team = "helpdesk" } },
    when = function(q) return q.user.issuer == staff and has(q.user.scope, "mail.send") end,
  },

  -- q.chain[1] got the person's token, q.chain[#q.chain] is the agent that acts now.
  deny "mail at third hand" {
    on      = { action = "tools/call", tool = "mail/send" },
    when    = function(q) return #q.chain > 2 end,
    reason  = "third_hand",
    message = "One agent may hand this on, not two: let the first one send it.",
  },
}
