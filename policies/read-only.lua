-- Read-only contractors: register them with access=read-only and they change nothing, whatever other
-- rules permit. Effects come from the catalogue, so a new tool that writes is covered.

policy "read-only" {
  deny "nothing but reading" {
    on      = { action = "tools/call", effect = { "write", "delete", "spend", "send", "execute", "admin" }, agent = { access = "read-only" } },
    reason  = "read_only",
    message = "You have read-only access; ask your contact to make the change.",
  },
}
