-- Which models may be invoked, and what is known of them. Prices are per million tokens.

model "gpt-small" { provider = "openai", tier = 1, price = { input = 0.5, output = 1.5 }, max_tokens = 4096 }
model "gpt-medium" { provider = "openai", tier = 2, price = { input = 2, output = 6 }, max_tokens = 8192 }
model "gpt-large" { provider = "openai", tier = 3, price = { input = 5, output = 15 }, max_tokens = 16384 }
model "local-7b"  { provider = "house",  tier = 1, price = { input = 0, output = 0 }, max_tokens = 8192 }
