-- Spend limits per call. The limit stands with the agent (--set spend_limit=200), so raising one is
-- an act on record and no change of policy. Attributes are texts: tonumber makes a number of them.

local person_from = 0.5 -- of the limit: above, a person agrees

local function limit(q)
  return tonumber(q.agent.spend_limit or "") or 0
end

policy "spend-limits" {
  permit "within the agent's limit" {
    on   = { action = "tools/call", tool = "orders/create" },
    when = function(q) return q.args.amount > 0 and q.args.amount <= limit(q) end,
  },

  ask "more than half of the limit" {
    on        = { action = "tools/call", tool = "orders/create" },
    when      = function(q) return q.args.amount > limit(q) * person_from end,
    approvers = "purchasing",
    message   = "Orders over half of your limit need a yes from purchasing.",
  },

  -- An ask that was answered with yes is a permit; this deny keeps a person from saying yes to more.
  deny "over the agent's limit" {
    on      = { action = "tools/call", tool = "orders/create" },
    when    = function(q) return q.args.amount > limit(q) end,
    reason  = "over_limit",
    message = "The amount is over your limit; order less, or have the limit raised.",
  },
}
