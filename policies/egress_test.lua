test "listed hosts" (function(t)
  local base = { agent = { web = "listed" }, call = "web/fetch" }
  for _, url in ipairs { "https://docs.acme.example/", "https://API.GitHub.com:443/repos?x=1", "https://de.wikipedia.org" } do
    t.expect(base, { args = { url = url }, expect = "permit", rule = "egress/fetch from listed hosts" })
  end
end)

test "everything else" (function(t)
  local base = { agent = { web = "listed" }, call = "web/fetch", expect = "deny", reason = "host_not_listed" }
  for _, url in ipairs {
    "http://docs.acme.example/", "https://evil.example/", "https://docs.acme.example@evil.example/",
    "https://docs.acme.example:8443/", "https://docs.acme.example.evil.example/", "https://wikipedia.org.evil.example",
    "https://evilwikipedia.org/", "https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://[::1]/",
    "https://evil.example\\@docs.acme.example/", "https://docs.acme.example\t.evil.example/", "//docs.acme.example/",
    "https:docs.acme.example", "file:///etc/passwd", "https://", "",
  } do
    t.expect(base, { args = { url = url }, name = url })
  end
end)

test "an agent that is not registered for it" {
  agent = {}, call = "web/fetch", args = { url = "https://docs.acme.example/" }, expect = "deny", reason = "no_rule",
}
