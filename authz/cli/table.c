/*
 * The commands of writ. What stands here is what parsing, help and the tests go by. The rows of
 * `writ policy` and `writ audit` have their own files.
 */
#include "authz/cli/table.h"
#include "authz/cli/cli.h"
#include "authz/cli/commands.h"
#include "authz/config.h"

static const struct option init_options[] = {
	{ "--trust-domain", "NAME", "what all identities begin with (example.org)", 0, false },
	{ "--http", "ADDRESS", "agents' door, plain (127.0.0.1:8080)", 0, false },
	{ "--https", "ADDRESS", "agents' door, TLS (127.0.0.1:8443)", 0, false },
	{ "--operators", "ADDRESS", "operators' door (127.0.0.1:8081)", 0, false },
	{ "--local-pep", NULL, "callers of the plain port are a PEP, to try writ out", 0, false },
	END_OPTIONS,
};

static const struct option doctor_options[] = {
	{ "--envoy", "FILE", "look into an Envoy configuration (YAML or JSON) instead", 0, false },
	END_OPTIONS,
};

static const struct option register_options[] = {
	{ "--owner", "OWNER", "who answers for the agent; required", 0, false },
	{ "--purpose", "TEXT", "what it is for, in one line", 0, false },
	{ "--set", "NAME=VALUE", "an attribute policies can trust", 0, true },
	{ "--selector", "SELECTOR", "how its process is known, such as unix:uid:1000", 0, true },
	{ "--federates-with", "TRUST_DOMAIN",
	  "a foreign trust domain whose bundle its processes see; or none (all there are)", 0,
	  true },
	{ "--ttl", "DURATION", "life of its X.509-SVIDs (1h)", 0, false },
	{ "--expires", "DATE", "when the registration ends, such as 2027-01-31", 0, false },
	END_OPTIONS,
};

static const struct option update_options[] = {
	{ "--owner", "OWNER", "who answers for the agent", 0, false },
	{ "--purpose", "TEXT", "what it is for", 0, false },
	{ "--set", "NAME=VALUE", "add or change an attribute", 0, true },
	{ "--unset", "NAME", "remove an attribute", 0, true },
	{ "--selector", "SELECTOR", "replaces all selectors", 0, true },
	{ "--federates-with", "TRUST_DOMAIN", "replaces all of them; or none, or all", 0, true },
	{ "--ttl", "DURATION", "life of its X.509-SVIDs", 0, false },
	{ "--expires", "DATE", "when the registration ends", 0, false },
	END_OPTIONS,
};

static const struct option agent_list_options[] = {
	{ "--orphans", NULL, "only those that look like nobody's: expired, owner gone, not seen", 0,
	  false },
	END_OPTIONS,
};

static const struct option agent_export_options[] = {
	{ "--output", "FILE", "instead of standard output", 'o', false },
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

/* Of what an agent shows to get its first SVID; one of them. */
#define PROOF_OPTIONS                                                                              \
	{ "--oidc-token", "TOKEN", "instead: of a CI system or the like; or @FILE", 0, false },    \
		{ "--k8s-token", "TOKEN", "instead: a pod's projected token; or @FILE", 0,         \
		  false },                                                                         \
		{ "--x509pop", "FILE", "instead: a certificate of another PKI, with its chain", 0, \
		  false },                                                                         \
		{ "--x509pop-key", "FILE", "its private key, which signs and is not sent", 0,      \
		  false },                                                                         \
	{                                                                                          \
		"--name", "NAME", "the {name} of a registration that is a template", 0, false      \
	}

static const struct option x509_options[] = {
	{ "--join-token", "TOKEN", "from `writ agent token`; or @FILE that holds it", 0, false },
	PROOF_OPTIONS,
	{ "--fingerprint", "HEX", "of the server's authority, for first contact by https", 0,
	  false },
	{ "--dir", "DIR", "where svid.pem, key.pem and bundle.pem are (.)", 0, false },
	{ "--key-mode", "MODE", "of key.pem: 0400, 0440, 0600 or 0640 (0600)", 0, false },
	{ "--owner", "USER[:GROUP]", "whose the files become", 0, false },
	{ "--socket", "URI", "from a SPIFFE Workload API instead, such as unix:///run/w.sock", 0,
	  false },
	{ "--id", "SPIFFE_ID", "with --socket: this identity, not the default one", 0, false },
	END_OPTIONS,
};

static const struct option watch_options[] = {
	{ "--join-token", "TOKEN", "for the first SVID, if there is none yet; or @FILE", 0, false },
	PROOF_OPTIONS,
	{ "--fingerprint", "HEX", "of the server's authority, for first contact by https", 0,
	  false },
	{ "--dir", "DIR", "where svid.pem, key.pem and bundle.pem are (.)", 0, false },
	{ "--key-mode", "MODE", "of key.pem: 0400, 0440, 0600 or 0640 (0600)", 0, false },
	{ "--owner", "USER[:GROUP]", "whose the files become", 0, false },
	{ "--signal", "NAME", "sent to the process in --pid-file after a change, such as HUP", 0,
	  false },
	{ "--pid-file", "FILE", "read anew each time", 0, false },
	{ "--exec", "COMMAND", "run by sh -c after a change; a minute at most", 0, false },
	{ "--every", "DURATION", "renew at least this often (half of the SVID's life)", 0, false },
	{ "--once", NULL, "renew once and end", 0, false },
	{ "--socket", "URI", "follow a SPIFFE Workload API instead, such as unix:///run/w.sock", 0,
	  false },
	{ "--id", "SPIFFE_ID", "with --socket: which identity, if there are several", 0, false },
	{ "--jwt", "AUDIENCE=FILE",
	  "with --socket: keep a JWT-SVID for AUDIENCE in DIR/FILE as well, mode as --key-mode", 0,
	  true },
	{ "--jwt-bundle", "FILE", "with --socket: keep the JWK Set of our trust domain in DIR/FILE",
	  0, false },
	{ "--on-denied", "WHAT",
	  "with --socket, when the identity is taken away: keep the files (the default), or remove "
	  "key.pem, svid.pem and tokens",
	  0, false },
	END_OPTIONS,
};

static const struct option jwt_options[] = {
	{ "--audience", "ID", "whom the token is for; required", 0, true },
	{ "--dir", "DIR", "where svid.pem, key.pem and bundle.pem are (.)", 0, false },
	{ "--output", "FILE", "write the token there (mode 0600)", 'o', false },
	{ "--socket", "URI", "from a SPIFFE Workload API instead, such as unix:///run/w.sock", 0,
	  false },
	{ "--id", "SPIFFE_ID", "with --socket: this identity, not the default one", 0, false },
	END_OPTIONS,
};

static const struct option exchange_options[] = {
	{ "--subject-token", "TOKEN", "for whom the agent acts; or @FILE; required", 0, false },
	{ "--type", "TYPE", "of it: access_token, id_token or jwt (access_token)", 0, false },
	{ "--audience", "ID", "whom the new token is for; required", 0, false },
	{ "--scope", "NAME", "what it is to be good for", 0, true },
	{ "--dir", "DIR", "where svid.pem, key.pem and bundle.pem are (.)", 0, false },
	{ "--output", "FILE", "write the token there (mode 0600)", 'o', false },
	END_OPTIONS,
};

static const struct option introspect_options[] = {
	{ "--dir", "DIR", "where svid.pem, key.pem and bundle.pem are (.)", 0, false },
	END_OPTIONS,
};

static const struct option revoke_options[] = {
	{ "--dir", "DIR", "where svid.pem, key.pem and bundle.pem are (.)", 0, false },
	{ "--jti", "ID", "instead, as an admin: the token of this name", 0, false },
	{ "--user", "NAME", "instead, as an admin: all tokens for this user ...", 0, false },
	{ "--issuer", "URL", "... of this issuer", 0, false },
	{ "--reason", "TEXT", "goes on record; of an admin", 0, false },
	END_OPTIONS,
};

static const struct option federation_add_options[] = {
	{ "--profile", "PROFILE", "https_web or https_spiffe; required, never guessed", 0, false },
	{ "--endpoint-id", "SPIFFE_ID", "https_spiffe: what the endpoint must present", 0, false },
	{ "--bundle-file", "FILE", "a first bundle, by hand: SPIFFE JSON or PEM; - is stdin", 0,
	  false },
	END_OPTIONS,
};

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
	  .options = agent_list_options,
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
	{ .name = "export",
	  .help = "Print all registrations as Lua that import reads",
	  .options = agent_export_options,
	  .connects = true,
	  .run = run_agent_export },
	{ .name = "import",
	  .operands = "FILE",
	  .least = 1,
	  .most = 1,
	  .help = "Register all agents of a Lua file, or none if one is refused",
	  .more = "\nThe file: agents = { { spiffe_id = \"spiffe://example.org/a\", owner = \"team\",\n"
		  "  attributes = { team = \"finance\" }, selectors = { \"unix:uid:1000\" },\n"
		  "  federates_with = { \"partner.example\" }, ttl = \"1h\", expires = \"2027-01-31\" }, ... }",
	  .connects = true,
	  .run = run_agent_import },
	END_COMMANDS,
};

static const struct option activate_options[] = {
	{ "--force", NULL, "even if verifiers may not have read it yet", 0, false },
	END_OPTIONS,
};

static const struct command authority_commands[] = {
	{ .name = "show",
	  .help = "List the authorities, and when something is due by itself",
	  .connects = true,
	  .run = run_authority_show },
	{ .name = "prepare",
	  .operands = "x509|jwt",
	  .least = 1,
	  .most = 1,
	  .help = "Make the next one and add it to the trust bundle; it signs nothing yet",
	  .connects = true,
	  .run = run_authority_prepare },
	{ .name = "activate",
	  .operands = "ID",
	  .least = 1,
	  .most = 1,
	  .help = "Sign with a prepared one from now on; the active one becomes old",
	  .options = activate_options,
	  .connects = true,
	  .run = run_authority_change },
	{ .name = "taint",
	  .operands = "ID",
	  .least = 1,
	  .most = 1,
	  .help = "Have all that an old one signed issued anew at once",
	  .connects = true,
	  .run = run_authority_change },
	{ .name = "revoke",
	  .operands = "ID",
	  .least = 1,
	  .most = 1,
	  .help = "Take one out of the trust bundle at once; what it signed is refused",
	  .more = "\nAfter a compromise: prepare, activate --force, taint the old one, and revoke "
		  "it when\nagents have their new SVIDs. Without a compromise there is nothing to do. "
		  "An ID that begins\nwith - goes behind --.",
	  .connects = true,
	  .run = run_authority_change },
	END_COMMANDS,
};

static const struct command svid_commands[] = {
	{ .name = "x509",
	  .help = "Fetch an X.509-SVID: by join token or another proof, or renew the one in DIR",
	  .more = "\nThe key is made here and stays here. Files are replaced whole, and only by an "
		  "SVID that holds.",
	  .options = x509_options,
	  .connects = true,
	  .run = run_svid_x509 },
	{ .name = "watch",
	  .help = "Keep the X.509-SVID and the bundle in DIR fresh",
	  .more = "\nRenews over mutual TLS with the SVID in DIR, in time and with a new key; a join "
		  "token is for\nthe first one. Files are replaced whole, key first; then the signal "
		  "is sent and the command\nrun. What fails is said and tried again. Ends with 1 when "
		  "there is no SVID left to renew.",
	  .options = watch_options,
	  .connects = true,
	  .run = run_svid_watch },
	{ .name = "jwt",
	  .help = "Fetch a JWT-SVID with the X.509-SVID in DIR",
	  .options = jwt_options,
	  .connects = true,
	  .run = run_svid_jwt },
	END_COMMANDS,
};

static const struct command token_commands[] = {
	{ .name = "exchange",
	  .help = "Exchange a user's token for one of the agent in DIR",
	  .more = "\nOver mutual TLS with the X.509-SVID in DIR, which the new token is bound to. "
		  "What it may be\nfor, the policies say (action token/exchange).",
	  .options = exchange_options,
	  .connects = true,
	  .run = run_token_exchange },
	{ .name = "introspect",
	  .operands = "TOKEN",
	  .least = 1,
	  .most = 1,
	  .help = "Tell what a delegated token is, and whether it is good (or @FILE)",
	  .more = "\nExit code: 0 it is active, 1 it is not or failed, 2 wrong usage.",
	  .options = introspect_options,
	  .connects = true,
	  .run = run_token_introspect },
	{ .name = "revoke",
	  .operands = "[TOKEN]",
	  .most = 1,
	  .help = "Take a delegated token back, and all that came from it (or @FILE)",
	  .more = "\nThe agent in DIR revokes its own; an admin any, by --jti or --user and "
		  "--issuer.",
	  .options = revoke_options,
	  .connects = true,
	  .run = run_token_revoke },
	END_COMMANDS,
};

static const struct command federation_commands[] = {
	{ .name = "list",
	  .help = "List foreign trust domains and how fresh their bundles are",
	  .connects = true,
	  .run = run_federation_list },
	{ .name = "add",
	  .operands = "TRUST_DOMAIN URL",
	  .least = 2,
	  .most = 2,
	  .help = "Accept SVIDs of another trust domain: fetch its bundle from URL",
	  .more = "\nhttps_web: the endpoint proves itself by Web PKI and its host name.\n"
		  "https_spiffe: by an X.509-SVID with exactly --endpoint-id; if that is of the same "
		  "trust\ndomain, --bundle-file says what to believe the first time. One-way: the "
		  "other side adds\nours by GET /bundle.",
	  .options = federation_add_options,
	  .connects = true,
	  .run = run_federation_add },
	{ .name = "remove",
	  .operands = "TRUST_DOMAIN",
	  .least = 1,
	  .most = 1,
	  .help = "Stop accepting it: its bundle is deleted at once",
	  .connects = true,
	  .run = run_federation_remove },
	{ .name = "refresh",
	  .operands = "[TRUST_DOMAIN]",
	  .most = 1,
	  .help = "Fetch its bundle (or all) now",
	  .connects = true,
	  .run = run_federation_refresh },
	END_COMMANDS,
};

const struct command cli_commands[] = {
	{ .name = "serve",
	  .help = "Run the service",
	  .rest = "Settings of writ.lua, as in: ttl = { x509 = \"30m\" }",
	  .put_rest = config_help,
	  .run = run_serve },
	{ .name = "init",
	  .operands = "DIR",
	  .least = 1,
	  .most = 1,
	  .help = "Make a new deployment: configuration, example policies",
	  .options = init_options,
	  .run = run_init },
	{ .name = "evaluate",
	  .operands = "FILE",
	  .least = 1,
	  .most = 1,
	  .help = "Ask for one decision (AuthZEN request; - is stdin)",
	  .more = "\nExit code: 0 permit, 1 deny or failed, 2 wrong usage.",
	  .connects = true,
	  .run = run_evaluate },
	{ .name = "agent", .help = "Register agents", .sub = agent_commands },
	{ .name = "svid", .help = "Fetch identities", .sub = svid_commands },
	{ .name = "token", .help = "Act for a user, by delegated tokens", .sub = token_commands },
	{ .name = "authority", .help = "Rotate signing keys", .sub = authority_commands },
	{ .name = "policy",
	  .help = "Check, apply and compare policies",
	  .sub = cli_policy_commands },
	{ .name = "tool", .help = "Pin definitions of tools", .sub = cli_tool_commands },
	{ .name = "federation", .help = "Trust other trust domains", .sub = federation_commands },
	{ .name = "audit", .help = "Read, export and verify the log", .sub = cli_audit_commands },
	{ .name = "status", .help = "Show how the server is", .connects = true, .run = run_status },
	{ .name = "doctor",
	  .help = "Name every weakened default",
	  .options = doctor_options,
	  .connects = true,
	  .run = run_doctor },
	{ .name = "version", .help = "Print the version", .run = run_version },
	END_COMMANDS,
};
