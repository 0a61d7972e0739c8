/*
 * writ-verify: `writ audit verify` alone, as one static file (`make verifier`), for auditors who
 * want nothing else of writ on their machine.
 */
#include <stdlib.h>

#include "authz/cli/cli.h"
#include "authz/cli/verify.h"

static int run(struct cli *c)
{
	return verify_command(c, NULL);
}

static const struct option options[] = {
	{ "--key", "VKEY", "a key of the log from outside (`writ audit key`), or @FILE", 0, true },
	{ "--checkpoint", "FILE", "a checkpoint held from before: the log must extend it", 0,
	  false },
	{ "--at-least", "N", "the log must hold at least N records", 0, false },
	{ "--witness-policy", "FILE", "who else must have signed (C2SP tlog-policy)", 0, false },
	{ "--record", "FILE", "the record of a proof that does not hold it", 0, false },
	{ NULL, NULL, NULL, 0, false },
};

const struct command cli_commands[] = {
	{ .name = "verify",
	  .operands = "FILE|DIR",
	  .least = 1,
	  .most = 1,
	  .help = "Check an export, a folder of tiles, or the proof of one record",
	  .options = options,
	  .run = run },
	{ .name = NULL },
};

/* The one command need not be named. */
int main(int argc, char **argv)
{
	static char verify[] = "verify";
	char **args = calloc((size_t)argc + 2, sizeof(*args));
	int n = 0, code;

	if (!args)
		return 4;
	args[n++] = argv[0];
	if (argc < 2 || strcmp(argv[1], "verify") != 0)
		args[n++] = verify;
	for (int i = 1; i < argc; i++)
		args[n++] = argv[i];
	code = cli_main(n, args);
	free(args);
	return code;
}
