#include "tests/cli/run.h"

#include <stdlib.h>
#include <string.h>

#define ARGUMENTS 24

struct run run_line(const struct command *commands, const char *line)
{
	struct run r = { 0 };
	FILE *out = open_memstream(&r.out, &r.nout), *err = open_memstream(&r.err, &r.nerr);
	char words[2000], *argv[ARGUMENTS + 1] = { NULL }, *save = NULL;
	int argc = 0;

	if (!out || !err)
		abort();
	snprintf(words, sizeof(words), "%s", line);
	for (char *w = strtok_r(words, " ", &save); w && argc < ARGUMENTS;
	     w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	r.exit_code = cli_run(commands, out, err, argc, argv);
	fclose(out);
	fclose(err);
	return r;
}

void run_free(struct run *r)
{
	free(r->out);
	free(r->err);
}
