-- What finance.lua promises. The table before the cases is shared; each case says what is different.

test "books may be read in office hours" {
  agent = { team = "finance" }, call = "ledger/query", args = { account = "cash" },
  { now = "2026-03-04T09:00:00+01:00", expect = "permit", rule = "finance/read-only tools in office hours" },
  { now = "2026-03-04T17:59:59+01:00", expect = "permit" },
  { now = "2026-03-04T18:00:00+01:00", expect = "deny", reason = "no_rule" },
  { now = "2026-03-04T08:59:59+01:00", expect = "deny" },
  { name = "Saturday", now = "2026-03-07T10:00:00+01:00", expect = "deny" },
  { name = "summer time", now = "2026-07-01T09:00:00+02:00", expect = "permit" },
  { name = "another team", agent = { team = "sales" }, expect = "deny" },
}

test "payments" {
  agent = { team = "finance" }, call = "payments/create",
  { args = { amount = 500, to = "ACME" }, expect = "permit", rule = "finance/payments",
    obligations = { { id = "tell-audit", type = "notification",
                      properties = { to = "finance-audit", body = "a payment was permitted" } } } },
  { args = { amount = 500.01, to = "ACME" }, expect = "ask", rule = "finance/payment over 500",
    approvers = "finance-leads" },
  { args = { amount = 0, to = "ACME" }, expect = "deny", reason = "bad_amount" },
  { args = { amount = -5, to = "ACME" }, expect = "deny", reason = "bad_amount" },
  { args = { amount = "500", to = "ACME" }, expect = "deny", reason = "invalid_arguments" },
  { name = "another team", agent = { team = "sales" }, args = { amount = 5, to = "ACME" }, expect = "deny", reason = "no_rule" },
}

-- The same with a loop, where a table would be long.
test "no payment is too small to be looked at" (function(t)
  for _, amount in ipairs { 0.01, 1, 499.99, 500 } do
    t.permit { agent = { team = "finance" }, call = "payments/create", args = { amount = amount, to = "ACME" } }
  end
end)
