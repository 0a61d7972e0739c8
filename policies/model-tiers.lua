-- Which team may invoke models up to which tier. One table to read and to change; a team that is
-- not in it gets nothing from here.

local most = { support = 1, engineering = 2, analytics = 3 }

policy "model-tiers" {
  permit "up to the team's tier" {
    on   = { action = "models/invoke", agent = { team = { "support", "engineering", "analytics" } } },
    when = function(q) return q.model.tier <= most[q.agent.team] end,
  },
}
