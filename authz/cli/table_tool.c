/* The rows of `writ tool`: how tools are described, and what was reviewed of that. */
#include "authz/cli/commands.h"
#include "authz/cli/table.h"

static const struct option pin_options[] = {
	{ "--file", "FILE", "a tools/list result, response or array; - is stdin", 'f', true },
	{ "--server", "URL", "instead: ask this MCP server (streamable HTTP)", 0, false },
	{ "--token", "TOKEN", "for that server, as a bearer token; or @FILE", 0, false },
	{ "--ca-file", "FILE", "authorities to believe it by (PEM; the system's)", 0, false },
	{ "--tool", "NAME", "only this tool", 0, true },
	{ "--write", "FILE", "write the pins there, such as policies/catalogue/pins-files.lua", 0,
	  false },
	{ "--check", "FILE", "only compare with the pins there; exit code 1 if anything differs", 0,
	  false },
	{ "--digests", NULL, "digests alone, without the definitions", 0, false },
	END_OPTIONS,
};

const struct command cli_tool_commands[] = {
	{ .name = "pin",
	  .operands = "SERVER",
	  .least = 1,
	  .most = 1,
	  .help = "Print pins of a server's tools for the catalogue, or write them to a file",
	  .more = "\nSERVER is its name in the catalogue. Review what is written: it is what agents "
		  "are told. --write\nshows what changes; it replaces only a file that it wrote for "
		  "this server. Of a list in\nseveral pages -f is given once for each.",
	  .options = pin_options,
	  .run = run_tool_pin },
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
