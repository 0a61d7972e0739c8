-- Research: who may invoke which model. q.model is the catalogue's entry, so a price or a tier is
-- stated once, there.

policy "research" {
  permit "small models for everyone" {
    on   = { action = "models/invoke" },
    when = function(q) return q.agent.id ~= nil and q.model.tier == 1 end,
  },

  permit "large models for research" {
    on   = { action = "models/invoke", agent = { team = "research" } },
    when = function(q) return q.model.tier > 2 end,
  },

  -- What is not said is not checked: without max_tokens the model's own bound holds.
  deny "more tokens than the model takes" {
    on      = { action = "models/invoke" },
    when    = function(q) return q.args.max_tokens ~= nil and q.args.max_tokens > q.model.max_tokens end,
    reason  = "too_many_tokens",
    message = "Ask for fewer tokens: max_tokens is above what the model takes.",
  },

  permit "public data for research" {
    on = { action = "tools/call", effect = "read", agent = { team = "research" }, tool = { data = "public" } },
  },
}
