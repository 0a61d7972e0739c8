-- Office hours as a wall: whoever is registered with hours=office neither spends, sends nor changes
-- anything while nobody is there to see it. Reading stays possible. finance.lua shows hours in a permit.

local zone = "Europe/Berlin"

local function anybody_there(q)
  return time.weekday(q.now, zone) <= 5 and time.between(q.now, "08:00", "19:00", zone)
end

policy "office-hours" {
  deny "no changes while nobody is there" {
    on      = { action = "tools/call", effect = { "write", "delete", "spend", "send", "execute", "admin" }, agent = { hours = "office" } },
    when    = function(q) return not anybody_there(q) end,
    reason  = "outside_hours",
    message = "Try again from Monday to Friday, 08:00 to 19:00 in Berlin.",
  },
}
