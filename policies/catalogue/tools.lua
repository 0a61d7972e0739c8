-- What the tools of this organisation do. A tool that is not here cannot be called at all; an
-- argument that is not here cannot be passed.
--
--   effect   read write delete spend send execute admin: what the call does to the world
--   args     name = type; string number integer boolean object array any, with ? if optional
--   digest   "sha256:...", pins the tool's definition as its server lists it: see `writ tool pin`
--
-- Any other name is an attribute of yours: rules see it in `on` and in q.tool.

tool "ledger/query" {
  effect = "read", data = "internal",
  args   = { account = "string", from = "string?", to = "string?" },
}

tool "payments/create" {
  effect = "spend", destructive = true, data = "confidential",
  args   = { amount = "number", to = "string", reference = "string?" },
}

tool "files/read" {
  effect = "read", data = "internal",
  args   = { path = "string" },
}

tool "files/write" {
  effect = "write", data = "internal",
  args   = { path = "string", content = "string" },
}

tool "files/delete" {
  effect = "delete", destructive = true, data = "internal",
  args   = { path = "string" },
}

tool "mail/send" {
  effect = "send", data = "confidential",
  args   = { to = "array", subject = "string", body = "string" },
}

tool "tickets/search" {
  effect = "read", data = "public",
  args   = { query = "string", limit = "integer?" },
}

tool "cluster/drain" {
  effect = "admin", destructive = true, data = "internal",
  args   = { node = "string", force = "boolean?" },
}

tool "orders/create" {
  effect = "spend", data = "internal",
  args   = { amount = "number", item = "string" },
}

tool "documents/search" {
  effect = "read", data = "internal", retrieval = true,
  args   = { collection = "string", query = "string" },
}

tool "web/fetch" {
  effect = "read", data = "public", egress = true,
  args   = { url = "string" },
}

tool "workspace/read" {
  effect = "read", data = "internal", workspace = true,
  args   = { path = "string" },
}

tool "workspace/write" {
  effect = "write", data = "internal", workspace = true,
  args   = { path = "string", content = "string" },
}
