-- Whatever cannot be undone waits for a person. This speaks of an attribute of the catalogue, so
-- a tool that is added tomorrow with destructive = true is covered without a new rule.

policy "destructive" {
  -- An ask that was answered with yes is the permit for that one call: no permit is needed beside
  -- it, so an ask is written as narrowly as a permit. Payments have one of their own in finance.lua.
  ask "a person for what cannot be undone" {
    on        = { action = "tools/call", tool = { destructive = true }, effect = { "delete", "admin" } },
    approvers = { "operations", "security" },
    message   = "This cannot be undone, so a person has to agree to this exact call.",
  },

  deny "no forced drains" {
    on   = { action = "tools/call", tool = "cluster/drain" },
    when = function(q) return q.args.force == true end,
    reason  = "forced",
    message = "Drain without force, or do it by hand.",
  },
}
