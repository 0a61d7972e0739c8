/*
 * config_table - the settings, one row each; the private side of config.
 *
 * Purpose    Reading, help and the comparison of two configurations all walk this one table.
 * Threads    Constants, and a reader that has one owner.
 */
#ifndef WRIT_CONFIG_TABLE_H
#define WRIT_CONFIG_TABLE_H

#include <lua.h>

#include "authz/config.h"
#include "authz/config_lines.h"

enum setting_type {
	SET_STRING,
	SET_BOOL,
	SET_U32,     /* a whole number */
	SET_SIZE,    /* bytes: 1048576 or "1MiB"; a size_t */
	SET_SECONDS, /* "1h"; an int64_t */
	SET_MS,	     /* "500ms", "2s"; a uint32_t */
	SET_CHOICE,  /* one of .choices; an int, its index */
	SET_NAMES,   /* a list of strings */
	SET_LISTEN,  /* an address, or a table of addresses and options */
	SET_CALLERS,
	SET_MASK,    /* a list of tables: what records leave out */
	SET_ISSUERS, /* a list of tables: whose tokens attest agents */
	SET_SINKS,   /* a list of tables: where records are sent on */
	SET_PARTIES, /* a list of tables: witnesses (min 0), logs to be witnessed (min 1) */
};

struct setting {
	const char *name; /* "limits.body" */
	enum setting_type type;
	bool runtime;	     /* SIGHUP applies it; else a restart */
	size_t offset;	     /* in struct config; of SET_LISTEN the door */
	int64_t min, max;    /* numbers in their stored unit; bytes of a string */
	const char *initial; /* the default, as it would be written (strings without quotes) */
	const char *const *choices; /* of SET_NAMES: NULL, or what the names must be */
	const char *help;	    /* one line */
};
extern const struct setting config_settings[];
extern const size_t config_nsettings;

/* What a file is read with. */
struct config_reader {
	lua_State *L;
	struct config *c;
	const char *name; /* of the file, for messages */
	struct config_lines lines;
	struct err *e;
	struct config_listener listeners[DOOR_COUNT * 8];
	size_t nlisteners;
	bool door_set[DOOR_COUNT]; /* the file says something of it */
};

/* "writ.lua:12: limits.body: <sentence>". False. */
bool config_fail(struct config_reader *r, const char *path, const char *fmt, ...) PRINTF(3, 4);

/* "expected X, got a table" for the value on top of the stack. */
bool config_fail_type(struct config_reader *r, const char *path, const char *expected);

/* Read the value on top of the Lua stack into the setting (and leave it there). */
bool config_read_setting(struct config_reader *r, const struct setting *s);
/* For settings that are lists of tables: how many rows has the one on top? What a row is, is the
 * reader's to check. */
bool config_read_rows(struct config_reader *r, const struct setting *s, size_t *n);

/* Read row @i, a table on top of the stack, which messages call @path. */
typedef bool config_row_fn(struct config_reader *r, const char *path, size_t i, void *ctx);
/* Then its @n rows, in order, until one is refused. */
bool config_each_row(struct config_reader *r, const struct setting *s, size_t n,
		     config_row_fn *read, void *ctx);

/* Read member @name, whose value is on top of the stack and which messages call @path. */
typedef bool config_member_fn(struct config_reader *r, const char *path, const char *name,
			      void *ctx);
/* The members of the table on top; @shape says what was expected if it is none. */
bool config_each_member(struct config_reader *r, const char *path, const char *shape,
			config_member_fn *read, void *ctx);
/* The path of the member whose key and value are on top; *name is NULL if the key is no text. NULL:
 * no memory. */
const char *config_member_path(struct config_reader *r, const char *path, const char **name);
/* There is no member @name; @members are those there are, NULL-terminated. False. */
bool config_no_member(struct config_reader *r, const char *path, const char *name,
		      const char *const *members);

bool config_read_listen(struct config_reader *r, const struct setting *s);
bool config_read_mask(struct config_reader *r, const struct setting *s);
bool config_read_issuers(struct config_reader *r, const struct setting *s);
bool config_read_sinks(struct config_reader *r, const struct setting *s);
void config_show_sinks(const struct config_sinks *l, struct buf *out);
bool config_read_parties(struct config_reader *r, const struct setting *s);
bool config_read_names(struct config_reader *r, const char *path, int max,
		       const char *const *choices, struct config_names *out);
bool config_read_callers(struct config_reader *r, const struct setting *s);

/* After all settings are read: check those that depend on each other, fill in what follows from
 * others. @data_given: the file says where the data folder is. */
bool config_finish(struct config_reader *r, bool data_given);

/* Set the default of @s. */
bool config_set_initial(struct config_reader *r, const struct setting *s);

/* The string on top as text in the arena; NULL (and failed) unless it is one without a NUL, of
 * UTF-8, and of @min to @max bytes. */
const char *config_string(struct config_reader *r, const char *path, size_t min, size_t max);

/* One listener by address; @path for messages, @options may be NULL. */
bool config_add_listener(struct config_reader *r, const char *path, enum config_door door,
			 const char *address, const struct config_listener *options);

/* An absolute path for @path, which counts from the base folder. */
const char *config_path(struct config_reader *r, const char *path);

/* "1KiB to 64MiB". */
void config_show_range(const struct setting *s, struct buf *out);

/* The value of a setting as text, for comparing and showing. */
void config_show(const struct config *c, const struct setting *s, struct buf *out);

#endif
