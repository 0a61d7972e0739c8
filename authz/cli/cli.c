/*
 * The loop over the table: find the command, read its options, run it.
 *
 * Parsing is strict, since a mistyped option that is skipped over could mean a wider permission
 * than was meant: no abbreviations, no option twice unless it is a list, no surplus operand.
 */
#include "authz/cli/cli.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "authz/base/text.h"
#include "authz/cli/print.h"
#include "include/writ/words.h"

#define HELP_COLUMN 31
#define REST_BYTES (256 * 1024)

const struct option cli_common[] = {
	{ "--json", NULL, "print JSON instead of text", 0, false },
	{ "--config", "FILE", "configuration (else $WRIT_CONFIG, else ./writ.lua)", 0, false },
	{ "--help", NULL, "this text", 'h', false },
	{ NULL, NULL, NULL, 0, false },
};

const struct option cli_connect[] = {
	{ "--server", "URL", "unix:PATH, http://LOOPBACK:PORT or https://HOST:PORT", 0, false },
	{ "--svid", "FILE", "our X.509-SVID for an https:// server (PEM)", 0, false },
	{ "--key", "FILE", "its private key (PEM)", 0, false },
	{ "--bundle", "FILE", "authorities to believe the server by (PEM)", 0, false },
	{ NULL, NULL, NULL, 0, false },
};

static const struct command *find_command(const struct command *table, const char *name)
{
	for (; table->name; table++)
		if (strcmp(table->name, name) == 0)
			return table;
	return NULL;
}

/* The command's own options come first: they may shadow a common one (`audit verify --key` is
 * the log's key). */
static const struct option *find_option(const struct command *cmd, struct str name, char letter)
{
	const struct option *tables[] = { cmd->options, cmd->connects ? cli_connect : NULL,
					  cli_common };

	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		for (const struct option *o = tables[i]; o && o->name; o++)
			if (letter ? o->letter == letter : str_eq(str_c(o->name), name))
				return o;
	return NULL;
}

static int unknown_option(struct cli *c, const char *arg, struct str name)
{
	const char *names[64], *near;
	size_t n = 0;
	const struct option *tables[] = { c->command->options,
					  c->command->connects ? cli_connect : NULL, cli_common };

	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		for (const struct option *o = tables[i]; o && o->name; o++)
			if (n + 1 < ARRAY_LEN(names))
				names[n++] = o->name;
	names[n] = NULL;
	near = text_nearest(name, names);
	if (near)
		return cli_misuse(c, "unknown option %.60s; did you mean %s?", arg, near);
	return cli_misuse(c, "unknown option %.60s; see --help", arg);
}

static int unknown_command(struct cli *c, const struct command *table, const char *arg)
{
	const char *names[64], *near;
	size_t n = 0;

	for (const struct command *t = table; t->name && n + 1 < ARRAY_LEN(names); t++)
		names[n++] = t->name;
	names[n] = NULL;
	if (arg[0] == '-')
		return cli_misuse(c, "options stand behind the command: writ %s%sCOMMAND %.60s",
				  c->words, c->command ? " " : "", arg);
	near = text_nearest(str_c(arg), names);
	if (near)
		return cli_misuse(c, "unknown command %.60s; did you mean %s?", arg, near);
	return cli_misuse(c, "unknown command %.60s; see --help", arg);
}

/* One option with its value; *i is moved past what was used. */
static bool take_option(struct cli *c, int argc, char **argv, int *i, int *exit_code)
{
	const char *arg = argv[*i], *value = NULL;
	const struct option *o;
	struct str name = str_c(arg), tail;
	bool is_long = strncmp(arg, "--", 2) == 0;

	if (is_long && str_cut(name, '=', &name, &tail))
		value = tail.p;
	o = is_long  ? find_option(c->command, name, 0)
	    : arg[2] ? NULL
		     : /* -fx: no clusters */
		    find_option(c->command, name, arg[1]);
	if (!o) {
		*exit_code = unknown_option(c, arg, name);
		return false;
	}
	if (!o->value && value) {
		*exit_code = cli_misuse(c, "%s takes no value", o->name);
		return false;
	}
	if (o->value && !value) {
		if (*i + 1 >= argc) {
			*exit_code = cli_misuse(c, "%s needs a value: %s", o->name, o->value);
			return false;
		}
		value = argv[++*i];
	}
	if (!o->many && cli_value(c, o->name)) {
		*exit_code = cli_misuse(c, "%s is given twice", o->name);
		return false;
	}
	if (c->ngiven == CLI_OPTIONS) {
		*exit_code = cli_misuse(c, "more than %d options", CLI_OPTIONS);
		return false;
	}
	c->given[c->ngiven].option = o;
	c->given[c->ngiven++].value = value ? value : "";
	return true;
}

/* The IDs of authorities are base64url, so one in 64 begins with a dash. No option has one dash and
 * a word: what is that long is an operand, if the command takes any. */
static bool is_dashed_operand(const struct cli *c, const char *arg)
{
	return c->command->most > 0 && arg[1] != '-' && strlen(arg) >= 24;
}

static bool take_arguments(struct cli *c, int argc, char **argv, int i, int *exit_code)
{
	bool only_operands = false;

	for (; i < argc; i++) {
		if (!only_operands && strcmp(argv[i], "--") == 0) {
			only_operands = true;
		} else if (!only_operands && argv[i][0] == '-' && argv[i][1] &&
			   !is_dashed_operand(c, argv[i])) {
			if (!take_option(c, argc, argv, &i, exit_code))
				return false;
		} else if (c->noperands < (size_t)c->command->most) {
			c->operands[c->noperands++] = argv[i];
		} else {
			*exit_code = cli_misuse(c, "%.60s is one operand too many; expected %s",
						argv[i],
						c->command->operands ? c->command->operands
								     : "none");
			return false;
		}
	}
	return true;
}

static void help_options(FILE *out, const struct option *o)
{
	for (; o && o->name; o++) {
		char left[64];

		snprintf(left, sizeof(left), "%s%s%s", o->name, o->value ? " " : "",
			 o->value ? o->value : "");
		fprintf(out, "  %-24s %s%s\n", left, o->help, o->many ? " (repeatable)" : "");
	}
}

/* Each group of commands stands under what it is for. @above: the words before. */
static void help_table(FILE *out, const struct command *table, const char *above)
{
	bool after_group = false;

	for (; table->name; table++) {
		char left[80], words[48];

		snprintf(words, sizeof(words), "%s%s%s", above, *above ? " " : "", table->name);
		if (table->sub || after_group)
			fputc('\n', out);
		after_group = table->sub != NULL;
		if (table->sub) {
			fprintf(out, "%s:\n", table->help);
			help_table(out, table->sub, words);
			continue;
		}
		snprintf(left, sizeof(left), "%s%s%s", words, table->operands ? " " : "",
			 table->operands ? table->operands : "");
		if (strlen(left) > HELP_COLUMN) { /* then what it does has a line of its own */
			fprintf(out, "  %s\n", left);
			left[0] = '\0';
		}
		fprintf(out, "  %-*s %s\n", HELP_COLUMN, left, table->help);
	}
}

/* For one command, for a group of commands, or for writ. */
static void help(const struct cli *c, FILE *out)
{
	const struct command *cmd = c->command;

	if (!cmd || cmd->sub) {
		fprintf(out, "Usage: writ %s%sCOMMAND [OPTIONS]\n\n%s.\n\n", c->words,
			cmd ? " " : "",
			cmd ? cmd->help : "Identity, authorization and audit for AI agents");
		help_table(out, cmd ? cmd->sub : c->commands, c->words);
		fprintf(out, "\nOptions of every command:\n");
		help_options(out, cli_common);
		fprintf(out, "\nOptions of commands that talk to a server:\n");
		help_options(out, cli_connect);
		fprintf(out, "\nExit code: 0 done, 1 failed or denied, 2 wrong usage.\n");
		return;
	}
	fprintf(out, "Usage: writ %s%s%s [OPTIONS]\n\n%s.\n", c->words, cmd->operands ? " " : "",
		cmd->operands ? cmd->operands : "", cmd->help);
	if (cmd->more)
		fprintf(out, "%s\n", cmd->more);
	fprintf(out, "\nOptions:\n");
	help_options(out, cmd->options);
	if (cmd->connects)
		help_options(out, cli_connect);
	help_options(out, cli_common);
	if (cmd->put_rest) {
		AUTO_BUF b;

		buf_init(&b, mem_system, REST_BYTES);
		cmd->put_rest(&b);
		fprintf(out, "\n%s:\n%.*s", cmd->rest, STR_FMT(buf_str(&b)));
	}
}

static bool is_help(const char *arg)
{
	return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0 || strcmp(arg, "help") == 0;
}

/* Descend from the top of the table to a command that runs; *i is left behind its name. */
static bool find(struct cli *c, int argc, char **argv, int *i, int *exit_code)
{
	const struct command *table = c->commands;

	for (;;) {
		const struct command *found;
		size_t n = strlen(c->words);

		if (*i >= argc) {
			help(c, c->err);
			*exit_code = CLI_USAGE;
			return false;
		}
		if (is_help(argv[*i])) {
			help(c, c->out);
			*exit_code = CLI_DONE;
			return false;
		}
		found = find_command(table, argv[*i]);
		if (!found) {
			*exit_code = unknown_command(c, table, argv[*i]);
			return false;
		}
		++*i;
		c->command = found;
		snprintf(c->words + n, sizeof(c->words) - n, "%s%s", n ? " " : "", found->name);
		if (!found->sub)
			return true;
		table = found->sub;
	}
}

bool cli_parse(struct cli *c, int argc, char **argv, int *exit_code)
{
	int i = 1;

	if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
		fprintf(c->out, "writ %s\n", WRIT_VERSION);
		*exit_code = CLI_DONE;
		return false;
	}
	if (!find(c, argc, argv, &i, exit_code))
		return false;
	for (int k = i; k < argc; k++) /* so that errors of parsing are JSON as well */
		c->json |= strcmp(argv[k], "--json") == 0;
	if (!take_arguments(c, argc, argv, i, exit_code))
		return false;
	c->json = cli_flag(c, "--json");
	if (cli_flag(c, "--help")) {
		help(c, c->out);
		*exit_code = CLI_DONE;
		return false;
	}
	if (c->noperands < (size_t)c->command->least) {
		*exit_code = cli_misuse(c, "an operand is missing; expected %s",
					c->command->operands);
		return false;
	}
	return true;
}

const char *cli_value(const struct cli *c, const char *name)
{
	size_t at = 0;

	return cli_next(c, name, &at);
}

bool cli_flag(const struct cli *c, const char *name)
{
	return cli_value(c, name) != NULL;
}

const char *cli_output(const struct cli *c)
{
	const char *name = cli_value(c, "--output");

	return name && strcmp(name, "-") != 0 ? name : NULL;
}

const char *cli_next(const struct cli *c, const char *name, size_t *at)
{
	while (*at < c->ngiven) {
		size_t i = (*at)++;

		if (strcmp(c->given[i].option->name, name) == 0)
			return c->given[i].value;
	}
	return NULL;
}

/* "agent show: ", or nothing before a command is known. */
static void put_where(const struct cli *c, struct buf *b)
{
	if (c->command)
		buf_printf(b, "%s: ", c->words);
}

int cli_fail(struct cli *c, const struct err *e)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, 4096);
	fflush(c->out); /* what was done before the failure stands before it */
	if (c->json) {
		buf_printf(&b, "{\"error\":{\"status\":%d,\"code\":", err_status(e->class));
		buf_json(&b, str_c(e->code));
		buf_lit(&b, ",\"message\":");
		buf_json(&b, str_c(e->msg));
		buf_lit(&b, "}}\n");
	} else {
		buf_lit(&b, "writ: ");
		put_where(c, &b);
		buf_printf(&b, "%s\n", e->msg);
	}
	fwrite(b.p, 1, b.n, c->err);
	/* What an option's value means is often known only deep inside. */
	return e->code && strcmp(e->code, "wrong_usage") == 0 ? CLI_USAGE : CLI_FAILED;
}

int cli_misuse(struct cli *c, const char *fmt, ...)
{
	char msg[300];
	struct err e = { 0 };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	err_code(&e, ERR_INVALID, "wrong_usage", "%s", msg);
	cli_fail(c, &e);
	return CLI_USAGE;
}

int cli_run(const struct command *commands, FILE *out, FILE *err, int argc, char **argv)
{
	struct cli c = { .out = out, .err = err, .commands = commands };
	int exit_code = CLI_USAGE;

	if (cli_parse(&c, argc, argv, &exit_code))
		exit_code = c.command->run(&c);
	/* A full disk or a closed pipe must not look like success. */
	if ((fflush(out) != 0 || ferror(out)) && exit_code == CLI_DONE) {
		struct err e = { 0 };

		err_set(&e, ERR_IO, "not all output could be written");
		return cli_fail(&c, &e);
	}
	return exit_code;
}

int cli_main(int argc, char **argv)
{
	/* A reader that goes away is an error of a write, said like any other. */
	signal(SIGPIPE, SIG_IGN);
	return cli_run(cli_commands, stdout, stderr, argc, argv);
}
