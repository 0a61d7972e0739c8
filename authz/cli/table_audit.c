/* The rows of `writ audit`: the log, and what others can check of it. */
#include "authz/cli/commands.h"
#include "authz/cli/table.h"

static const struct option tail_options[] = {
	{ "--follow", NULL, "go on with new records", 'f', false },
	{ "--lines", "N", "begin with the last N (20)", 'n', false },
	END_OPTIONS,
};

static const struct option redact_options[] = {
	{ "--record", "ID", "an evaluation id or number; with what was reported on it", 0, true },
	{ "--agent", "SPIFFE_ID", "all records of this agent", 0, false },
	{ "--person", "TEXT", "all records in whose openings this is the whole of a text", 0,
	  false },
	{ "--all", NULL, "all records before --until, but those under a hold", 0, false },
	{ "--since", "TIME", "only from then on: RFC 3339, or 7d for a week ago", 0, false },
	{ "--until", "TIME", "only before", 0, false },
	{ "--field", "PATH", "only the opening it is in: args.password goes with all of the input",
	  0, true },
	{ "--reason", "TEXT", "goes on record; required; no personal data", 0, false },
	{ "--basis", "CODE", "the legal basis, such as gdpr-17", 0, false },
	{ "--report", "FILE", "write what was erased, with proofs, as JSON", 0, false },
	END_OPTIONS,
};

static const struct option hold_options[] = {
	{ "--agent", "SPIFFE_ID", "add: records of this agent", 0, false },
	{ "--from", "SEQ", "add: records from this one on", 0, false },
	{ "--to", "SEQ", "add: records before this one", 0, false },
	{ "--since", "TIME", "add: records from then on: RFC 3339, or 7d for a week ago", 0,
	  false },
	{ "--until", "TIME", "add: records before", 0, false },
	{ "--all", NULL, "add: all records", 0, false },
	{ "--reason", "TEXT", "goes on record; required to add and to remove", 0, false },
	END_OPTIONS,
};

static const struct option open_options[] = {
	{ "--older", "DURATION", "only those older than this (60s)", 0, false },
	END_OPTIONS,
};

static const struct option search_options[] = {
	{ "--agent", "SPIFFE_ID", "only this agent's", 0, false },
	{ "--tool", "TOOL", "only calls of this tool (server/tool)", 0, false },
	{ "--model", "MODEL", "only uses of this model", 0, false },
	{ "--action", "NAME", "only this action, such as tools/call", 0, false },
	{ "--decision", "WORD", "only permit, deny or ask", 0, false },
	{ "--reason", "CODE", "only with this reason", 0, false },
	{ "--rule", "POLICY/RULE", "only decided by this rule", 0, false },
	{ "--generation", "N", "only by this policy set", 0, false },
	{ "--rollout", "N", "only while this roll-out ran", 0, false },
	{ "--trace-id", "HEX", "only of this trace", 0, false },
	{ "--pep", "CALLER", "only asked or done by this caller", 0, false },
	{ "--user", "NAME", "only on behalf of this user, by a delegated token", 0, false },
	{ "--delegate", "SPIFFE_ID", "only where this agent is in the chain that acted", 0, false },
	{ "--delegation", "ID", "only of this delegation: the jti of its first token", 0, false },
	{ "--kind", "KIND", "only of this kind; authz.* is a family of kinds", 0, false },
	{ "--since", "TIME", "RFC 3339, or 7d for a week ago", 0, false },
	{ "--until", "TIME", "RFC 3339, or 1h for an hour ago", 0, false },
	{ "--oldest", NULL, "begin with the oldest, not with the newest", 0, false },
	{ "--limit", "N", "at most so many (50)", 'n', false },
	END_OPTIONS,
};

static const struct option export_options[] = {
	{ "--format", "NAME",
	  "jsonl (verifies by itself), csv, cef, ocsf, otlp, cloudevents, sep-3004, aat", 0,
	  false },
	{ "--output", "FILE", "instead of standard output; only ever a whole export", 'o', false },
	{ "--agent", "SPIFFE_ID", "only this agent's; others stand as hashes", 0, false },
	{ "--decision", "WORD", "only permit, deny or ask", 0, false },
	{ "--since", "TIME", "RFC 3339, or 7d for a week ago", 0, false },
	{ "--until", "TIME", "RFC 3339, or 1h for an hour ago", 0, false },
	{ "--from", "SEQ", "only from this record on", 0, false },
	{ "--follow", NULL, "go on with records as they come; jsonl is then the records alone", 0,
	  false },
	{ "--resume", NULL, "fix the range now, and go on where an earlier run was cut off", 0,
	  false },
	{ "--witnessed", NULL, "only up to the newest checkpoint that witnesses cosigned", 0,
	  false },
	{ "--timestamped", NULL, "only up to the newest checkpoint with a time stamp", 0, false },
	END_OPTIONS,
};

static const struct option timestamp_options[] = {
	{ "--tsa", "URL", "https URL of the authority: ask it now", 0, false },
	{ "--request", "FILE", "write the request there, to be sent another way", 0, false },
	{ "--response", "FILE", "what came back for that request", 0, false },
	{ "--tsa-ca", "FILE", "authorities to believe the time stamp by (PEM)", 0, false },
	END_OPTIONS,
};

static const struct option prune_options[] = {
	{ "--before", "TIME", "what is older goes (RFC 3339, or 400d); else audit.retain", 0,
	  false },
	{ "--archive", "FILE", "where it goes to; must not be there", 0, false },
	{ "--no-openings", NULL, "archive the records alone, not what they commit to", 0, false },
	{ "--reason", "TEXT", "goes on record, as an opening", 0, false },
	{ "--dry-run", NULL, "only say what would go", 0, false },
	END_OPTIONS,
};

static const struct option key_options[] = {
	{ "--witness", NULL, "of the key that cosigns other logs, instead", 0, false },
	{ "--all", NULL, "all keys the log has had, and what each of them signed", 0, false },
	{ "--rotate", NULL, "let another key follow, which signs from now on", 0, false },
	END_OPTIONS,
};

static const struct option prove_options[] = {
	{ "--output", "FILE", "instead of standard output; usually *.tlog-proof", 'o', false },
	{ "--bare", NULL, "without the record itself: who checks it must have its bytes", 0,
	  false },
	END_OPTIONS,
};

static const struct option publish_options[] = {
	{ "--entries", NULL, "the records, too, not only their hashes", 0, false },
	END_OPTIONS,
};

static const struct option verify_options[] = {
	{ "--key", "VKEY", "a key of the log from outside (`writ audit key`), or @FILE", 0, true },
	{ "--checkpoint", "FILE", "a checkpoint held from before: the log must extend it", 0,
	  false },
	{ "--at-least", "N", "the log must hold at least N records", 0, false },
	{ "--witness-policy", "FILE", "who else must have signed (C2SP tlog-policy)", 0, false },
	{ "--tsa-ca", "FILE", "authorities of a time stamp that there must be (PEM)", 0, false },
	{ "--record", "FILE", "the record of a proof that does not hold it", 0, false },
	{ "--server", "URL", "instead of a file: export the log of a running server", 0, false },
	{ "--svid", "FILE", "our X.509-SVID for an https:// server (PEM)", 0, false },
	{ "--svid-key", "FILE", "its private key (PEM)", 0, false },
	{ "--bundle", "FILE", "authorities to believe the server by (PEM)", 0, false },
	END_OPTIONS,
};

static const struct command witness_commands[] = {
	{ .name = "status",
	  .help = "Show who cosigns our checkpoints, and whose we cosign",
	  .more = "\nExit code 1 if a witness fails or a log that we watch has signed a fork.",
	  .connects = true,
	  .run = run_audit_witness_status },
	END_COMMANDS,
};

const struct command cli_audit_commands[] = {
	{ .name = "tail",
	  .help = "Show the last records",
	  .options = tail_options,
	  .connects = true,
	  .run = run_audit_tail },
	{ .name = "search",
	  .help = "Find records: what an agent did, and why it was let",
	  .options = search_options,
	  .connects = true,
	  .run = run_audit_search },
	{ .name = "show",
	  .operands = "EVALUATION_ID|SEQ",
	  .least = 1,
	  .most = 1,
	  .help = "Show one record with all it was decided from; this goes on record",
	  .connects = true,
	  .run = run_audit_show },
	{ .name = "reindex",
	  .help = "Have the search index made anew from the log",
	  .connects = true,
	  .run = run_audit_reindex },
	{ .name = "export",
	  .help = "Write the log, or a part of it, as a file that verifies",
	  .more = "\nOther formats than jsonl prove nothing; each row has the record's number and "
		  "leaf hash.",
	  .options = export_options,
	  .connects = true,
	  .run = run_audit_export },
	{ .name = "prove",
	  .operands = "EVALUATION_ID|SEQ",
	  .least = 1,
	  .most = 1,
	  .help = "Prove one record: its receipt, which verifies by itself",
	  .options = prove_options,
	  .connects = true,
	  .run = run_audit_prove },
	{ .name = "publish",
	  .operands = "DIR",
	  .least = 1,
	  .most = 1,
	  .help = "Write the log's tree as files that any web server can serve",
	  .more = "\nReads the data folder on this machine. A run that was cut off is finished by "
		  "the next.",
	  .options = publish_options,
	  .run = run_audit_publish },
	{ .name = "verify",
	  .operands = "[FILE|DIR]",
	  .most = 1,
	  .help = "Check an export, a folder of tiles, a proof, or a server's log",
	  .more = "\nExit code: 0 holds, 1 broken, 2 wrong usage, 3 consistent but no key was "
		  "given or\nwitnesses are missing, 4 unreadable.",
	  .options = verify_options,
	  .run = run_audit_verify },
	{ .name = "reconcile",
	  .operands = "FILE",
	  .least = 1,
	  .most = 1,
	  .help = "Compare what PEPs saw with what is on record",
	  .more = "\nFILE is JSON Lines (- is stdin): answers as PEPs received them, and their counts,\n"
		  "{\"counter\":{\"pep\":..,\"since\":..,\"until\":..,\"permitted\":N,\"denied\":N}}.\n"
		  "Exit code: 0 all of it is on record, 1 it is not, or failed, 2 wrong usage.",
	  .connects = true,
	  .run = run_audit_reconcile },
	{ .name = "redact",
	  .help = "Erase what records were about, for good; the proofs stay",
	  .more = "\nErased are openings: requests, facts, answers. A commitment is over a whole "
		  "opening, so there\nis no erasing of a part of one. Records under a legal hold are "
		  "refused. Copies that were\nexported before are beyond the server's reach.",
	  .options = redact_options,
	  .connects = true,
	  .run = run_audit_redact },
	{ .name = "prune",
	  .help = "Archive the oldest records, then let them leave the database",
	  .more = "\nThe archive is an export of what goes; it is written, flushed and verified before "
		  "anything goes.\nLeaf hashes stay, so all proofs can still be made. What is under a "
		  "legal hold, or was not sent by a\nsink yet, stays, and what is younger than "
		  "audit.retain.",
	  .options = prune_options,
	  .connects = true,
	  .run = run_audit_prune },
	{ .name = "hold",
	  .operands = "add|list|remove [HOLD]",
	  .least = 1,
	  .most = 2,
	  .help = "Legal holds: records that may not be erased",
	  .more = "\nA hold counts for the records that all of its conditions fit, those to come "
		  "included.",
	  .options = hold_options,
	  .connects = true,
	  .run = run_audit_hold },
	{ .name = "open",
	  .help = "List permits of which nobody reported what became of them",
	  .options = open_options,
	  .connects = true,
	  .run = run_audit_open },
	{ .name = "checkpoint",
	  .help = "Sign the log as it is now, and print that",
	  .connects = true,
	  .run = run_audit_checkpoint },
	{ .name = "timestamp",
	  .help = "Have the log as it is now stamped by a time-stamping authority (RFC 3161)",
	  .more = "\nThe request is one of `openssl ts`, over the three lines of a fresh checkpoint. "
		  "What comes back\nis checked, kept beside the checkpoint, and goes with it into "
		  "exports and proofs.",
	  .options = timestamp_options,
	  .connects = true,
	  .run = run_audit_timestamp },
	{ .name = "key",
	  .help = "Print the log's verifier key, or let another one follow",
	  .options = key_options,
	  .connects = true,
	  .run = run_audit_key },
	{ .name = "witness", .help = "See who watches whom", .sub = witness_commands },
	END_COMMANDS,
};
