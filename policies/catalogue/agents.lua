-- What agents are registered with (writ agent register ... --set team=finance). Attributes are texts;
-- a list names all that one may be. `writ policy check` warns of rules that name anything else.

attributes {
  team        = "string",
  company     = "string",
  role        = { "reader", "worker" },
  access      = { "read-only" },
  hours       = { "office" },
  spend_limit = "string",
  tenant      = "string",
  web         = { "listed" },
  workspace   = "string",
}
