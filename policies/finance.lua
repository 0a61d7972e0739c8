-- Finance: books may be read in office hours, money moves with a person's yes above a limit.

local office = { from = "09:00", to = "18:00", zone = "Europe/Berlin" }
local limit  = 500 -- in the currency of the ledger

-- From Monday to Friday, in office hours. A helper is plain Lua; it sees what it is given.
local function in_office(q)
  return time.weekday(q.now, office.zone) <= 5 and time.between(q.now, office.from, office.to, office.zone)
end

policy "finance" {
  permit "read-only tools in office hours" {
    on   = { action = "tools/call", effect = "read", agent = { team = "finance" } },
    when = in_office,
  },

  -- An ask beats a permit: of the two rules on payments, this one decides large ones.
  ask "payment over 500" {
    on        = { action = "tools/call", tool = "payments/create" },
    when      = function(q) return q.args.amount > limit end,
    approvers = "finance-leads",
    message   = "Payments over 500 need a yes from a finance lead.",
  },

  permit "payments" {
    on          = { action = "tools/call", tool = "payments/create", agent = { team = "finance" } },
    -- What the caller must do as well, or not act at all: AuthZEN's step-up, notification,
    -- session_termination, or custom.
    obligations = {
      { id = "tell-audit", type = "notification", properties = { to = "finance-audit", body = "a payment was permitted" } },
    },
  },

  -- A deny needs no `on`: with none it looks at every request. This one is narrow.
  deny "amounts of nothing or less" {
    on      = { action = "tools/call", tool = "payments/create" },
    when    = function(q) return q.args.amount <= 0 end,
    reason  = "bad_amount",
    message = "An amount is more than zero.",
  },
}
