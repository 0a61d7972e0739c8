-- Egress: tools that reach the internet reach listed hosts only. url.parse accepts one spelling of a
-- URL and gives nil for what two programs could read differently: user@host, backslashes, 0x7f.1.

local hosts   = { "docs.acme.example", "api.github.com" }
local domains = { ".wikipedia.org" } -- and all below them

local function listed(text)
  local u = url.parse(text)
  if u == nil or u.scheme ~= "https" or u.port ~= 443 or u.ip then return false end
  return has(hosts, u.host) or any(domains, function(d) return str.ends_with(u.host, d) end)
end

policy "egress" {
  deny "hosts that are not listed" {
    on      = { action = "tools/call", tool = { egress = true } },
    when    = function(q) return not listed(q.args.url) end,
    reason  = "host_not_listed",
    message = "Only https URLs of listed hosts can be fetched; ask for a host to be listed.",
  },

  permit "fetch from listed hosts" {
    on = { action = "tools/call", tool = "web/fetch", agent = { web = "listed" } },
  },
}
