-- Retrieval: an agent searches the collections of its own tenant and no others. Collections are
-- named TENANT/NAME. The wall speaks of the attribute retrieval, so it holds for every such tool.

local function own(q)
  local tenant = q.agent.tenant
  return tenant ~= nil and tenant ~= "" and not str.contains(tenant, "/")
    and str.starts_with(q.args.collection, tenant .. "/")
    and not str.contains(q.args.collection, "..")
end

policy "tenants" {
  deny "collections of another tenant" {
    on      = { action = "tools/call", tool = { retrieval = true } },
    when    = function(q) return not own(q) end,
    reason  = "other_tenant",
    message = "Search collections of your own tenant: TENANT/NAME.",
  },

  -- The wall has looked at the collection: what comes here is the tenant's own.
  permit "the tenant's own collections" {
    on = { action = "tools/call", tool = "documents/search" },
  },
}
