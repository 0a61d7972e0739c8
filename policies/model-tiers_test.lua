-- A function test: every team against every tier.
test "each team up to its tier" (function(t)
  local tiers = { "gpt-small", "gpt-medium", "gpt-large" }
  for team, most in pairs { support = 1, engineering = 2, analytics = 3 } do
    for tier, model in ipairs(tiers) do
      local case = { agent = { team = team }, model = model, name = team .. " and " .. model }
      if tier <= most then t.permit(case) else t.deny(case) end
    end
  end
end)

test "other teams get nothing from here" {
  model = "gpt-medium",
  { agent = { team = "sales" }, expect = "deny", reason = "no_rule" },
  { agent = { team = "engineering" }, args = { max_tokens = 8193 }, expect = "deny", reason = "too_many_tokens" },
}
