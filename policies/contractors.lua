-- Contractors: agents that run for other companies, told apart by their SPIFFE ID. A `*` at the end
-- is one or more segments, elsewhere exactly one; it never stands for the trust domain.

local contractors = "spiffe://acme.example/contractor/*"

policy "contractors" {
  -- A deny wins over whatever other files permit, so this is a wall and not a default.
  deny "no confidential data" {
    on      = { subject = contractors, tool = { data = "confidential" } },
    reason  = "confidential",
    message = "Contractors do not get confidential data; ask your contact for an extract.",
  },

  deny "not from outside our network" {
    on   = { subject = contractors },
    when = function(q)
      return q.context == nil or q.context.ip == nil or not cidr("10.0.0.0/8", q.context.ip)
    end,
    reason  = "outside_network",
    message = "Contractors work from inside the network only.",
  },

  permit "their own folder" {
    on   = { subject = contractors, tool = { "files/read", "files/write" } },
    -- An agent without a company ends here in an error, and an error in a rule that applies denies.
    when = function(q)
      local own = "/shared/" .. q.agent.company .. "/"
      return str.starts_with(q.args.path, own) and not str.contains(q.args.path, "..")
    end,
  },
}
