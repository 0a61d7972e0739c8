/* The commands of writ. What stands here is what parsing, help and the tests go by. */
#include "authz/cli/cli.h"
#include "authz/cli/commands.h"

#define END_OPTIONS                        \
	{                                  \
		NULL, NULL, NULL, 0, false \
	}

static const struct option init_options[] = {
	{ "--trust-domain", "NAME", "what all identities begin with (example.org)", 0, false },
	{ "--http", "ADDRESS", "agents' door, plain (127.0.0.1:8080)", 0, false },
	{ "--https", "ADDRESS", "agents' door, TLS (127.0.0.1:8443)", 0, false },
	{ "--operators", "ADDRESS", "operators' door (127.0.0.1:8081)", 0, false },
	{ "--local-pep", NULL, "callers of the plain port are a PEP, to try writ out", 0, false },
	END_OPTIONS,
};

static const struct option register_options[] = {
	{ "--owner", "OWNER", "who answers for the agent; required", 0, false },
	{ "--set", "NAME=VALUE", "an attribute policies can trust", 0, true },
	{ "--selector", "SELECTOR", "how its process is known, such as unix:uid:1000", 0, true },
	{ "--ttl", "DURATION", "life of its X.509-SVIDs (1h)", 0, false },
	{ "--expires", "DATE", "when the registration ends, such as 2027-01-31", 0, false },
	END_OPTIONS,
};

static const struct option update_options[] = {
	{ "--owner", "OWNER", "who answers for the agent", 0, false },
	{ "--set", "NAME=VALUE", "add or change an attribute", 0, true },
	{ "--unset", "NAME", "remove an attribute", 0, true },
	{ "--selector", "SELECTOR", "replaces all selectors", 0, true },
	{ "--ttl", "DURATION", "life of its X.509-SVIDs", 0, false },
	{ "--expires", "DATE", "when the registration ends", 0, false },
	END_OPTIONS,
};

static const struct option reason_options[] = {
	{ "--reason", "TEXT", "goes on record", 0, false },
	END_OPTIONS,
};

static const struct option token_options[] = {
	{ "--ttl", "DURATION", "how long the token waits to be used (10m)", 0, false },
	END_OPTIONS,
};

static const struct option x509_options[] = {
	{ "--join-token", "TOKEN", "from `writ agent token`; or @FILE that holds it", 0, false },
	{ "--fingerprint", "HEX", "of the server's authority, for first contact by https", 0,
	  false },
	{ "--dir", "DIR", "where svid.pem, key.pem and bundle.pem are (.)", 0, false },
	END_OPTIONS,
};

static const struct option jwt_options[] = {
	{ "--audience", "ID", "whom the token is for; required", 0, true },
	{ "--dir", "DIR", "where svid.pem, key.pem and bundle.pem are (.)", 0, false },
	{ "--output", "FILE", "write the token there (mode 0600)", 'o', false },
	END_OPTIONS,
};

static const struct option tail_options[] = {
	{ "--follow", NULL, "go on with new records", 'f', false },
	{ "--lines", "N", "begin with the last N (20)", 'n', false },
	END_OPTIONS,
};

static const struct option export_options[] = {
	{ "--output", "FILE", "instead of standard output; only ever a whole export", 'o', false },
	{ "--agent", "SPIFFE_ID", "only this agent's; others stand as hashes", 0, false },
	{ "--decision", "WORD", "only permit, deny or ask", 0, false },
	{ "--since", "TIME", "RFC 3339, or 7d for a week ago", 0, false },
	{ "--until", "TIME", "RFC 3339, or 1h for an hour ago", 0, false },
	{ "--from", "SEQ", "only from this record on", 0, false },
	END_OPTIONS,
};

static const struct option verify_options[] = {
	{ "--key", "VKEY", "the log's key from outside (`writ audit key`), or @FILE", 0, false },
	{ "--checkpoint", "FILE", "a checkpoint held from before: the log must extend it", 0,
	  false },
	END_OPTIONS,
};

#define END_COMMANDS         \
	{                    \
		.name = NULL \
	}

static const struct command agent_commands[] = {
	{ .name = "register",
	  .operands = "SPIFFE_ID",
	  .least = 1,
	  .most = 1,
	  .help = "Make an agent known",
	  .options = register_options,
	  .connects = true,
	  .run = run_agent_register },
	{ .name = "list",
	  .help = "List the registered agents",
	  .connects = true,
	  .run = run_agent_list },
	{ .name = "show",
	  .operands = "SPIFFE_ID",
	  .least = 1,
	  .most = 1,
	  .help = "Show one agent",
	  .connects = true,
	  .run = run_agent_show },
	{ .name = "update",
	  .operands = "SPIFFE_ID",
	  .least = 1,
	  .most = 1,
	  .help = "Change an agent's entry",
	  .options = update_options,
	  .connects = true,
	  .run = run_agent_update },
	{ .name = "suspend",
	  .operands = "SPIFFE_ID",
	  .least = 1,
	  .most = 1,
	  .help = "Deny an agent everything until it is resumed",
	  .options = reason_options,
	  .connects = true,
	  .run = run_agent_state },
	{ .name = "resume",
	  .operands = "SPIFFE_ID",
	  .least = 1,
	  .most = 1,
	  .help = "End a suspension",
	  .options = reason_options,
	  .connects = true,
	  .run = run_agent_state },
	{ .name = "retire",
	  .operands = "SPIFFE_ID",
	  .least = 1,
	  .most = 1,
	  .help = "End an agent for good; its ID is never used again",
	  .options = reason_options,
	  .connects = true,
	  .run = run_agent_state },
	{ .name = "token",
	  .operands = "SPIFFE_ID",
	  .least = 1,
	  .most = 1,
	  .help = "Make a join token, good for one SVID",
	  .options = token_options,
	  .connects = true,
	  .run = run_agent_token },
	{ .name = "import",
	  .operands = "FILE",
	  .least = 1,
	  .most = 1,
	  .help = "Register all agents of a Lua file",
	  .more = "\nThe file: agents = { { spiffe_id = \"spiffe://example.org/a\", owner = \"team\",\n"
		  "  attributes = { team = \"finance\" }, selectors = { \"unix:uid:1000\" },\n"
		  "  ttl = \"1h\", expires = \"2027-01-31\" }, ... }",
	  .connects = true,
	  .run = run_agent_import },
	END_COMMANDS,
};

static const struct command svid_commands[] = {
	{ .name = "x509",
	  .help = "Fetch an X.509-SVID: by join token, or renew the one in DIR",
	  .more = "\nThe key is made here and stays here. Files are replaced whole, and only by an "
		  "SVID that holds.",
	  .options = x509_options,
	  .connects = true,
	  .run = run_svid_x509 },
	{ .name = "jwt",
	  .help = "Fetch a JWT-SVID with the X.509-SVID in DIR",
	  .options = jwt_options,
	  .connects = true,
	  .run = run_svid_jwt },
	END_COMMANDS,
};

static const struct command policy_commands[] = {
	{ .name = "check",
	  .operands = "[DIR]",
	  .most = 1,
	  .help = "Check the policies in a folder, without a server",
	  .run = run_policy_check },
	{ .name = "list",
	  .help = "List the rules in force",
	  .connects = true,
	  .run = run_policy_list },
	END_COMMANDS,
};

static const struct command audit_commands[] = {
	{ .name = "tail",
	  .help = "Show the last records",
	  .options = tail_options,
	  .connects = true,
	  .run = run_audit_tail },
	{ .name = "export",
	  .help = "Write the log, or a part of it, as a file that verifies",
	  .options = export_options,
	  .connects = true,
	  .run = run_audit_export },
	{ .name = "verify",
	  .operands = "FILE",
	  .least = 1,
	  .most = 1,
	  .help = "Check an export, without a server",
	  .more = "\nExit code: 0 holds, 1 broken, 2 wrong usage, 3 consistent but no key was "
		  "given, 4 unreadable.",
	  .options = verify_options,
	  .run = run_audit_verify },
	{ .name = "checkpoint",
	  .help = "Sign the log as it is now, and print that",
	  .connects = true,
	  .run = run_audit_checkpoint },
	{ .name = "key",
	  .help = "Print the log's verifier key",
	  .connects = true,
	  .run = run_audit_key },
	END_COMMANDS,
};

const struct command cli_commands[] = {
	{ .name = "serve", .help = "Run the service", .run = run_serve },
	{ .name = "init",
	  .operands = "DIR",
	  .least = 1,
	  .most = 1,
	  .help = "Make a new deployment: configuration, example policies",
	  .options = init_options,
	  .run = run_init },
	{ .name = "agent", .help = "Register agents", .sub = agent_commands },
	{ .name = "svid", .help = "Fetch identities", .sub = svid_commands },
	{ .name = "evaluate",
	  .operands = "FILE",
	  .least = 1,
	  .most = 1,
	  .help = "Ask for one decision (AuthZEN request; - is stdin)",
	  .more = "\nExit code: 0 permit, 1 deny or failed, 2 wrong usage.",
	  .connects = true,
	  .run = run_evaluate },
	{ .name = "policy", .help = "Look at policies", .sub = policy_commands },
	{ .name = "audit", .help = "Read, export and verify the log", .sub = audit_commands },
	{ .name = "status", .help = "Show how the server is", .connects = true, .run = run_status },
	{ .name = "doctor",
	  .help = "Name every weakened default",
	  .connects = true,
	  .run = run_doctor },
	{ .name = "version", .help = "Print the version", .run = run_version },
	END_COMMANDS,
};
