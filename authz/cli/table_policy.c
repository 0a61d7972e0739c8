/* The rows of `writ policy`: from a folder of rules to what is in force, and back. */
#include "authz/cli/commands.h"
#include "authz/cli/table.h"

static const struct option policy_test_options[] = {
	{ "--run", "PATTERN", "only tests whose \"FILE: NAME\" holds this (* and ? are wild)", 0,
	  false },
	{ "--coverage", NULL, "tell which rules and lines no test reached", 0, false },
	{ "--threshold", "PERCENT", "fail if the coverage is below", 0, false },
	{ "--junit", "FILE", "write the outcomes as JUnit XML, too", 0, false },
	END_OPTIONS,
};

static const struct option apply_options[] = {
	{ "--message", "TEXT", "what for; kept with the generation", 'm', false },
	{ "--allow-older", NULL, "also a set signed before one that was in force", 0, false },
	END_OPTIONS,
};

#define GATE_OPTIONS                                                                               \
	{ "--max-deny-rate", "RATE", "abort above this share of denials (0 to 1)", 0, false },     \
		{ "--max-deny-increase", "RATE",                                                   \
		  "abort when it denies this much more than the set in force", 0, false },         \
		{ "--max-error-rate", "RATE", "abort above this share of failed evaluations", 0,   \
		  false },                                                                         \
		{ "--max-p99-us", "N", "abort when 1 in 100 evaluations takes longer", 0, false }, \
		{ "--min-sample", "N", "judge no fewer evaluations at a time (100)", 0, false },   \
		{ "--message", "TEXT", "what for; kept with the roll-out", 'm', false },           \
		END_OPTIONS

static const struct option shadow_options[] = { GATE_OPTIONS };

static const struct option canary_options[] = {
	{ "--percent", "N", "of the agents, 1 to 100; required", 0, false },
	GATE_OPTIONS,
};

static const struct option policy_list_options[] = {
	{ "--all", NULL, "every stored generation instead of the rules in force", 0, false },
	END_OPTIONS,
};

static const struct option policy_show_options[] = {
	{ "--sources", NULL, "print the files as well", 0, false },
	END_OPTIONS,
};

static const struct option policy_diff_options[] = {
	{ "--rollout", NULL, "decisions that a roll-out changed; the operand is its number", 0,
	  false },
	{ "--replay", NULL, "also which recorded decisions one makes otherwise", 0, false },
	{ "--since", "TIME", "with --replay: RFC 3339, or 7d for a week ago", 0, false },
	{ "--until", "TIME", "with --replay: RFC 3339, or 1h for an hour ago", 0, false },
	{ "--ids", "N", "with --replay: how many to name in each group (10)", 0, false },
	END_OPTIONS,
};

static const struct option replay_options[] = {
	{ "--since", "TIME", "RFC 3339, or 7d for a week ago", 0, false },
	{ "--until", "TIME", "RFC 3339, or 1h for an hour ago", 0, false },
	{ "--agent", "SPIFFE_ID", "only this agent's", 0, false },
	{ "--tool", "NAME", "only calls of this tool", 0, false },
	{ "--ids", "N", "how many changed decisions to name in each group (10)", 0, false },
	END_OPTIONS,
};

static const struct option explain_options[] = {
	{ "--dry", "FILE", "explain this AuthZEN request instead; - is stdin", 0, false },
	{ "--set", "NAME=VALUE", "with --dry: the agent's attributes, not the registry's", 0,
	  true },
	{ "--user", "ID", "with --dry: on whose behalf the agent acts (q.user.id) ...", 0, false },
	{ "--issuer", "URL", "... a user of this issuer (q.user.issuer)", 0, false },
	{ "--scope", "NAME", "with --dry: what the token is good for (q.user.scope)", 0, true },
	{ "--via", "SPIFFE_ID",
	  "with --dry: an agent that acted before, the first in front (q.chain)", 0, true },
	{ "--all", NULL, "also the rules that do not apply, and why not", 0, false },
	END_OPTIONS,
};

static const struct option sign_options[] = {
	{ "--key", "FILE", "Ed25519 private key (PEM, PKCS#8); required", 0, false },
	{ "--name", "NAME", "of the key, in messages and in policies.key (policies)", 0, false },
	{ "--version", "N", "higher than all before (the time in seconds)", 0, false },
	END_OPTIONS,
};

static const struct option who_options[] = {
	{ "--tool", "SERVER/TOOL", "who could be allowed to call this tool", 0, false },
	{ "--model", "ID", "who could be allowed to invoke this model", 0, false },
	{ "--action", "NAME", "another action than tools/call or models/invoke", 0, false },
	{ "--limit", "N", "how many to show (1000)", 0, false },
	END_OPTIONS,
};

static const struct option what_options[] = {
	{ "--agent", "SPIFFE_ID", "whose tools and models; required", 0, false },
	{ "--limit", "N", "how many to show (1000)", 0, false },
	END_OPTIONS,
};

const struct command cli_policy_commands[] = {
	{ .name = "check",
	  .operands = "[DIR]",
	  .most = 1,
	  .help = "Check the policies in a folder, without a server",
	  .more = "Prints file, line, column, and how to mend it. Errors stop a set from loading and\n"
		  "give exit code 1; warnings do not.\n",
	  .run = run_policy_check },
	{ .name = "test",
	  .operands = "[DIR]",
	  .most = 1,
	  .help = "Run the tests (*_test.lua) of the policies in a folder, without a server",
	  .more = "Exit code 1 if a test fails, if none ran, or if the coverage is too small.\n",
	  .options = policy_test_options,
	  .run = run_policy_test },
	{ .name = "bench",
	  .operands = "[DIR]",
	  .most = 1,
	  .help = "Measure what an evaluation costs, over the requests of the tests",
	  .run = run_policy_bench },
	{ .name = "list",
	  .help = "List the rules in force, or all generations",
	  .options = policy_list_options,
	  .connects = true,
	  .run = run_policy_list },
	{ .name = "show",
	  .operands = "[GENERATION]",
	  .most = 1,
	  .help = "Show a generation (the one in force): hash, author, rules, files",
	  .options = policy_show_options,
	  .connects = true,
	  .run = run_policy_show },
	{ .name = "diff",
	  .operands = "GENERATION [GENERATION] | --rollout [ROLLOUT]",
	  .most = 2,
	  .help = "Compare two generations, or one with that in force; or a roll-out's decisions",
	  .more = "\nWith --rollout: what the candidate of a roll-out (the running one) decides "
		  "otherwise than\nthe set in force, with counts and evaluation ids.",
	  .options = policy_diff_options,
	  .connects = true,
	  .run = run_policy_diff },
	{ .name = "sign",
	  .operands = "[DIR]",
	  .most = 1,
	  .help = "Sign the policies in a folder, or print the public key",
	  .more = "\nWrites DIR/policies.sig. A server with policies.key in its configuration takes "
		  "no other sets,\nand none with a lower version than one before. Make a key with\n"
		  "  openssl genpkey -algorithm ed25519 -out FILE\nand keep it off the server. "
		  "Without DIR: prints what policies.key has to be.",
	  .options = sign_options,
	  .run = run_policy_sign },
	{ .name = "apply",
	  .operands = "DIR",
	  .least = 1,
	  .most = 1,
	  .help = "Check the policies in a folder and put them into force",
	  .options = apply_options,
	  .connects = true,
	  .run = run_policy_apply },
	{ .name = "rollback",
	  .operands = "[GENERATION]",
	  .most = 1,
	  .help = "Go back to a generation (the one before), and stay there",
	  .more = "\nThe watched folder does not replace it until the next apply. A roll-out that runs "
		  "is\naborted first; without GENERATION that is all.",
	  .connects = true,
	  .run = run_policy_rollback },
	{ .name = "shadow",
	  .operands = "DIR|GENERATION",
	  .least = 1,
	  .most = 1,
	  .help = "Evaluate a candidate beside the set in force, without enforcing it",
	  .more = "\nBoth decisions go on record. Gates end it by themselves; unless given, "
		  "--max-error-rate\nis 0.01. One roll-out runs at a time; until it ends, nothing "
		  "else is put into force.",
	  .options = shadow_options,
	  .connects = true,
	  .run = run_policy_shadow },
	{ .name = "canary",
	  .operands = "DIR|GENERATION",
	  .least = 1,
	  .most = 1,
	  .help = "Let a candidate decide for some of the agents",
	  .more = "\nWhole agents, by a hash salted for each roll-out. Gates are judged every second "
		  "over what\ncame since, and abort it by themselves; unless given, "
		  "--max-deny-increase is 0.1 and\n--max-error-rate is 0.01.",
	  .options = canary_options,
	  .connects = true,
	  .run = run_policy_canary },
	{ .name = "promote",
	  .operands = "[ROLLOUT]",
	  .most = 1,
	  .help = "Put the candidate of the roll-out into force for everybody",
	  .connects = true,
	  .run = run_policy_promote },
	{ .name = "abort",
	  .operands = "[ROLLOUT]",
	  .most = 1,
	  .help = "End the roll-out; the set in force stays",
	  .connects = true,
	  .run = run_policy_abort },
	{ .name = "rollouts",
	  .help = "List the roll-outs, and how they ended",
	  .connects = true,
	  .run = run_policy_rollouts },
	{ .name = "who",
	  .help = "Show which agents could be allowed a tool or model, and by which rules",
	  .more = "\nRead from the rules in force and the registry; no Lua runs. A rule with a "
		  "`when` may hit or\nnot: then it depends, and the line is told. What an agent would "
		  "be told about one request:\nwrit evaluate, writ policy explain --dry.",
	  .options = who_options,
	  .connects = true,
	  .run = run_policy_who },
	{ .name = "what",
	  .help = "Show which tools and models an agent could be allowed, and by which rules",
	  .more = "\nRead from the rules in force and the registry; no Lua runs. A rule with a "
		  "`when` may hit or\nnot: then it depends, and the line is told. Other kinds of "
		  "resources are listed nowhere, so\nthey are not among the results.",
	  .options = what_options,
	  .connects = true,
	  .run = run_policy_what },
	{ .name = "replay",
	  .operands = "[DIR|GENERATION]",
	  .most = 1,
	  .help = "Compute recorded decisions again, and show those that change",
	  .more = "\nBy the policies in a folder, by a stored generation, or (to check the record) by "
		  "the one\nthat decided. Reads the data folder on this machine beside the server. "
		  "Exit code: 0 none\nchanged, 1 some changed or failed, 2 wrong usage.",
	  .options = replay_options,
	  .run = run_policy_replay },
	{ .name = "explain",
	  .operands = "[EVALUATION_ID|SEQ|DIR]",
	  .most = 1,
	  .help = "Show how a decision came about, rule by rule",
	  .more = "\nA recorded decision is computed again from the data folder on this machine; what a "
		  "roll-out\nsaid beside it is read from the record. With --dry a request that was "
		  "never made is decided\nby the policies in force, or by those in DIR.",
	  .options = explain_options,
	  .connects = true,
	  .run = run_policy_explain },
	END_COMMANDS,
};
