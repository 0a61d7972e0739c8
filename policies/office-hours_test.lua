test "spending in and out of office hours" {
  agent = { hours = "office", team = "finance" }, call = "payments/create", args = { amount = 5, to = "ACME" },
  { now = "2026-03-04T08:00:00+01:00", expect = "permit", rule = "finance/payments" },
  { now = "2026-03-04T07:59:59+01:00", expect = "deny", reason = "outside_hours" },
  { now = "2026-03-04T19:00:00+01:00", expect = "deny", rule = "office-hours/no changes while nobody is there" },
  { name = "Sunday", now = "2026-03-08T12:00:00+01:00", expect = "deny", reason = "outside_hours" },
  { name = "an agent without hours", agent = { team = "finance" }, now = "2026-03-08T12:00:00+01:00", expect = "permit" },
}
