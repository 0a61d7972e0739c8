test "models" {
  { agent = { team = "ops" }, model = "gpt-small", expect = "permit", rule = "research/small models for everyone" },
  { agent = false, model = "gpt-small", expect = "deny", reason = "no_rule" },
  { agent = { team = "research" }, model = "gpt-large", args = { max_tokens = 16384 }, expect = "permit", rule = "research/large models for research" },
  { agent = { team = "research" }, model = "gpt-large", args = { max_tokens = 16385 }, expect = "deny", reason = "too_many_tokens" },
  { agent = { team = "research" }, model = "gpt-medium", expect = "deny", reason = "no_rule" },
  { agent = { team = "ops" }, model = "gpt-large", expect = "deny", reason = "no_rule" },
  { agent = { team = "research" }, model = "gpt-huge", expect = "deny", reason = "unknown_model" },
}

test "public data" {
  call = "tickets/search", args = { query = "x" },
  { agent = { team = "research" }, expect = "permit", rule = "research/public data for research" },
  { agent = { team = "ops" }, expect = "deny", reason = "no_rule" },
}
