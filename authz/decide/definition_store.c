#include "authz/decide/definition_store.h"

#include <stdlib.h>

static const char *const schema[] = {
	"CREATE TABLE tool_definition(tool TEXT PRIMARY KEY, digest TEXT NOT NULL,"
	" definition TEXT NOT NULL, good TEXT NOT NULL, good_definition TEXT NOT NULL,"
	" seen_by TEXT NOT NULL, seen_ms INTEGER NOT NULL, pin TEXT NOT NULL,"
	" proposed TEXT NOT NULL, proposed_by TEXT NOT NULL, proposed_ms INTEGER NOT NULL,"
	" accepted TEXT NOT NULL, accepted_first TEXT NOT NULL, accepted_by TEXT NOT NULL,"
	" accepted_ms INTEGER NOT NULL) STRICT;",
};

struct definition_store {
	struct db *db;
	struct db_stmt *get, *put, *forget, *list;
};

bool definition_store_open(struct db *db, struct definition_store **out, struct err *e)
{
#define COLUMNS(definition, good_definition)                                                      \
	"SELECT tool, digest, " definition ", good, " good_definition ", seen_by, seen_ms, pin, " \
	"proposed, proposed_by, proposed_ms, accepted, accepted_first, accepted_by, accepted_ms " \
	"FROM tool_definition "
	struct definition_store *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, ERR_NOMEM, "no memory for the definitions of tools");
	s->db = db;
	if (!db_migrate(db, "definitions", schema, ARRAY_LEN(schema), e) ||
	    !db_prepare(db, COLUMNS("definition", "good_definition") "WHERE tool = ?1", &s->get,
			e) ||
	    !db_prepare(db,
			"INSERT OR REPLACE INTO tool_definition VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,"
			" ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
			&s->put, e) ||
	    !db_prepare(db, "DELETE FROM tool_definition WHERE tool = ?1", &s->forget, e) ||
	    !db_prepare(db, COLUMNS("''", "''") "ORDER BY tool LIMIT ?1", &s->list, e)) {
		definition_store_close(s);
		return false;
	}
	*out = s;
	return true;
#undef COLUMNS
}

void definition_store_close(struct definition_store *s)
{
	if (!s)
		return;
	db_finish(s->get);
	db_finish(s->put);
	db_finish(s->forget);
	db_finish(s->list);
	free(s);
}

/* The texts of a row, by column; times stand between them. */
static bool read_row(struct db_stmt *q, struct arena *a, struct definition_row *r, struct err *e)
{
	struct str *const texts[] = { &r->tool,
				      &r->digest,
				      &r->definition,
				      &r->good,
				      &r->good_definition,
				      &r->seen_by,
				      NULL,
				      &r->pin,
				      &r->proposed,
				      &r->proposed_by,
				      NULL,
				      &r->accepted,
				      &r->accepted_first,
				      &r->accepted_by };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (!texts[i])
			continue;
		*texts[i] = arena_dup(a, db_column_text(q, (int)i));
		if (!texts[i]->p)
			return err_set(e, ERR_NOMEM, "no memory for the definitions of tools");
	}
	r->seen_ms = db_column_int(q, 6);
	r->proposed_ms = db_column_int(q, 10);
	r->accepted_ms = db_column_int(q, 14);
	return true;
}

bool definition_store_get(struct definition_store *s, struct str tool, struct arena *a,
			  struct definition_row *row, bool *found, struct err *e)
{
	AUTO_RESET *q = s->get;

	*row = (struct definition_row){ .tool = tool };
	db_bind_text(q, 1, tool);
	if (!db_step(q, found, e))
		return false;
	return !*found || read_row(q, a, row, e);
}

bool definition_store_put(struct definition_store *s, const struct definition_row *r, struct err *e)
{
	struct db_stmt *q = s->put;
	int i = 1;

	db_bind_text(q, i++, r->tool);
	db_bind_text(q, i++, r->digest);
	db_bind_text(q, i++, r->definition);
	db_bind_text(q, i++, r->good);
	db_bind_text(q, i++, r->good_definition);
	db_bind_text(q, i++, r->seen_by);
	db_bind_int(q, i++, r->seen_ms);
	db_bind_text(q, i++, r->pin);
	db_bind_text(q, i++, r->proposed);
	db_bind_text(q, i++, r->proposed_by);
	db_bind_int(q, i++, r->proposed_ms);
	db_bind_text(q, i++, r->accepted);
	db_bind_text(q, i++, r->accepted_first);
	db_bind_text(q, i++, r->accepted_by);
	db_bind_int(q, i, r->accepted_ms);
	return db_run(q, e);
}

bool definition_store_forget(struct definition_store *s, struct str tool, struct err *e)
{
	db_bind_text(s->forget, 1, tool);
	return db_run(s->forget, e);
}

bool definition_store_list(struct definition_store *s, struct arena *a,
			   struct definition_row **rows, size_t *n, struct err *e)
{
	AUTO_RESET *q = s->list;
	struct definition_row *list;
	int64_t count;
	bool row = true;

	*n = 0;
	if (!db_int(s->db, "SELECT count(*) FROM tool_definition", &count, e))
		return false;
	list = arena_zero(a, ((size_t)count + 1) * sizeof(*list));
	if (!list)
		return err_set(e, ERR_NOMEM, "no memory for the definitions of tools");
	db_bind_int(q, 1, count);
	*rows = list;
	for (;;) {
		if (!db_step(q, &row, e))
			return false;
		if (!row)
			return true;
		if (!read_row(q, a, &list[*n], e))
			return false;
		(*n)++;
	}
}
