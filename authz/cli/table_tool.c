/* The rows of `writ tool`: how tools are described, and what was reviewed of that. */
#include "authz/cli/commands.h"
#include "authz/cli/table.h"

const struct command cli_tool_commands[] = {
	{ .name = "list",
	  .help = "List the catalogue's tools and how their definitions stand",
	  .more = "\nunpinned; unseen: no list of its server was shown to writ yet; reviewed: as "
		  "pinned; changed:\nits calls are denied; proposed: by one, for another one to "
		  "accept; accepted: by two.",
	  .connects = true,
	  .run = run_tool_list },
	{ .name = "show",
	  .operands = "SERVER/TOOL",
	  .least = 1,
	  .most = 1,
	  .help = "Show all that is known of a pinned tool's definition",
	  .connects = true,
	  .run = run_tool_show },
	{ .name = "diff",
	  .operands = "SERVER/TOOL",
	  .least = 1,
	  .most = 1,
	  .help = "Show what of its definition is not as it was reviewed",
	  .connects = true,
	  .run = run_tool_diff },
	{ .name = "accept",
	  .operands = "SERVER/TOOL DIGEST",
	  .least = 2,
	  .most = 2,
	  .help = "Let the definition of this digest hold beside the pin; two persons have to",
	  .more = "\nThe digest is the one that `writ tool diff` shows. The first of two admins or "
		  "approvers\nproposes, the second accepts. It ends with the pin: pin the new "
		  "definition when you can.",
	  .connects = true,
	  .run = run_tool_accept },
	{ .name = "withdraw",
	  .operands = "SERVER/TOOL",
	  .least = 1,
	  .most = 1,
	  .help = "Undo what was proposed or accepted for a tool",
	  .connects = true,
	  .run = run_tool_withdraw },
	END_COMMANDS,
};
