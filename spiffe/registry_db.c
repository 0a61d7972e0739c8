#include "spiffe/registry_db.h"

#include "authz/base/buf.h"
#include "spiffe/id.h"
#include "spiffe/registry_template.h"

/* Revisions are only ever added, and the database itself refuses anything else: an accident in
 * our code or at the sqlite3 prompt must not rewrite who an agent was. */
static const char *const schema[] = {
	"CREATE TABLE entry ("
	"  row INTEGER PRIMARY KEY,"
	"  id TEXT NOT NULL UNIQUE,"
	"  revision INTEGER NOT NULL,"
	"  created_ms INTEGER NOT NULL) STRICT;"
	"CREATE TABLE entry_revision ("
	"  entry INTEGER NOT NULL REFERENCES entry,"
	"  revision INTEGER NOT NULL,"
	"  at_ms INTEGER NOT NULL,"
	"  verb INTEGER NOT NULL,"
	"  state INTEGER NOT NULL,"
	"  owner TEXT NOT NULL,"
	"  attributes TEXT NOT NULL,"
	"  selectors TEXT NOT NULL,"
	"  x509_ttl_s INTEGER NOT NULL,"
	"  jwt_ttl_s INTEGER NOT NULL,"
	"  expires_ms INTEGER NOT NULL,"
	"  by TEXT NOT NULL,"
	"  reason TEXT NOT NULL,"
	"  PRIMARY KEY (entry, revision)) STRICT, WITHOUT ROWID;"
	"CREATE TRIGGER entry_stays BEFORE DELETE ON entry BEGIN"
	"  SELECT RAISE(ABORT, 'entries are never deleted'); END;"
	"CREATE TRIGGER entry_keeps_id BEFORE UPDATE OF row, id, created_ms ON entry BEGIN"
	"  SELECT RAISE(ABORT, 'an entry keeps its ID'); END;"
	"CREATE TRIGGER revision_stays BEFORE DELETE ON entry_revision BEGIN"
	"  SELECT RAISE(ABORT, 'revisions are never deleted'); END;"
	"CREATE TRIGGER revision_keeps BEFORE UPDATE ON entry_revision BEGIN"
	"  SELECT RAISE(ABORT, 'revisions are never changed'); END;",
	"ALTER TABLE entry_revision ADD COLUMN purpose TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE entry_revision ADD COLUMN definition TEXT NOT NULL DEFAULT '';",
	"CREATE TABLE entry_seen ("
	"  entry INTEGER PRIMARY KEY REFERENCES entry,"
	"  at_ms INTEGER NOT NULL) STRICT;",
	"ALTER TABLE entry_revision ADD COLUMN federates TEXT NOT NULL DEFAULT '';",
};

#define COLUMNS                                                                      \
	"e.row, e.id, e.created_ms, r.revision, r.at_ms, r.verb, r.state, r.owner, " \
	"r.attributes, r.selectors, r.x509_ttl_s, r.jwt_ttl_s, r.expires_ms, r.by, " \
	"r.reason, r.purpose, r.definition, r.federates "                            \
	"FROM entry e JOIN entry_revision r ON r.entry = e.row "
enum {
	C_ROW,
	C_ID,
	C_CREATED,
	C_REVISION,
	C_AT,
	C_VERB,
	C_STATE,
	C_OWNER,
	C_ATTRIBUTES,
	C_SELECTORS,
	C_X509_TTL,
	C_JWT_TTL,
	C_EXPIRES,
	C_BY,
	C_REASON,
	C_PURPOSE,
	C_DEFINITION,
	C_FEDERATES,
};

bool registry_db_open(struct registry_db *d, struct db *db, struct err *e)
{
	d->db = db;
	return db_migrate(db, "registry", schema, ARRAY_LEN(schema), e) &&
	       db_prepare(db, "INSERT INTO entry (id, revision, created_ms) VALUES (?, ?, ?)",
			  &d->insert_entry, e) &&
	       db_prepare(db,
			  "INSERT INTO entry_revision VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
			  "?, ?, ?, ?)",
			  &d->insert_revision, e) &&
	       db_prepare(db, "INSERT OR REPLACE INTO entry_seen VALUES (?, ?)", &d->keep_seen,
			  e) &&
	       db_prepare(db, "UPDATE entry SET revision = ? WHERE row = ?", &d->set_revision, e) &&
	       db_prepare(db, "SELECT " COLUMNS "WHERE e.id = ? ORDER BY r.revision DESC LIMIT ?",
			  &d->history, e);
}

void registry_db_close(struct registry_db *d)
{
	db_finish(d->insert_entry);
	db_finish(d->insert_revision);
	db_finish(d->set_revision);
	db_finish(d->history);
	db_finish(d->keep_seen);
}

/* --- reading --- */

/* One stored entry with the lists its texts are split into. */
struct loaded {
	struct registry_entry entry;
	struct registry_attribute attributes[REGISTRY_ATTRIBUTES];
	struct registry_selector selectors[REGISTRY_SELECTORS];
};

/* "a=1\nb=2\n" into pairs (both kinds of pair are two strs). False: not of that form. */
static bool split(struct str text, char by, struct registry_attribute *out, size_t max, size_t *n)
{
	struct str line;

	for (*n = 0; text.n; (*n)++)
		if (*n == max || !str_cut(text, '\n', &line, &text) ||
		    !str_cut(line, by, &out[*n].name, &out[*n].value))
			return false;
	return true;
}

static bool read_row(struct db_stmt *s, struct loaded *l, struct err *e)
{
	struct registry_attribute pairs[REGISTRY_SELECTORS];
	int64_t state = db_column_int(s, C_STATE), verb = db_column_int(s, C_VERB);
	struct str id = db_column_text(s, C_ID);
	bool template = id.n && memchr(id.p, '{', id.n);
	size_t nattributes, nselectors;
	struct spiffe_id parsed;

	if (!(template ? template_check(id, NULL) : spiffe_id_parse_workload(id, &parsed, NULL)) ||
	    state < 0 || state > ENTRY_RETIRED || verb < 0 || verb > REGISTRY_RETIRE ||
	    db_column_int(s, C_REVISION) < 1 ||
	    !split(db_column_text(s, C_ATTRIBUTES), '=', l->attributes, REGISTRY_ATTRIBUTES,
		   &nattributes) ||
	    !split(db_column_text(s, C_SELECTORS), ':', pairs, REGISTRY_SELECTORS, &nselectors))
		return err_code(e, ERR_IO, "storage_corrupt",
				"writ.db: the entry of \"%.*s\" (row %lld) is damaged; restore the "
				"file from a backup",
				STR_FMT(str_first(id, 200)), (long long)db_column_int(s, C_ROW));
	for (size_t i = 0; i < nselectors; i++)
		l->selectors[i] = (struct registry_selector){ pairs[i].name, pairs[i].value };
	l->entry = (struct registry_entry){
		.id = id,
		.owner = db_column_text(s, C_OWNER),
		.purpose = db_column_text(s, C_PURPOSE),
		.definition = db_column_text(s, C_DEFINITION),
		.federates = db_column_text(s, C_FEDERATES),
		.template = template,
		.attributes = l->attributes,
		.nattributes = nattributes,
		.selectors = l->selectors,
		.nselectors = nselectors,
		.x509_ttl_s = db_column_int(s, C_X509_TTL),
		.jwt_ttl_s = db_column_int(s, C_JWT_TTL),
		.expires_ms = db_column_int(s, C_EXPIRES),
		.stored = (enum registry_state)state,
		.created_ms = db_column_int(s, C_CREATED),
		.updated_ms = db_column_int(s, C_AT),
		.revision = (uint64_t)db_column_int(s, C_REVISION),
	};
	return true;
}

bool registry_db_load(struct registry_db *d, struct view *v, struct err *e)
{
	AUTO_STMT *s = NULL;
	int64_t entries;
	bool row = false;

	if (!db_prepare(d->db, "SELECT " COLUMNS "AND r.revision = e.revision", &s, e))
		return false;
	while (db_step(s, &row, e)) {
		struct loaded l;
		struct box *b;

		if (!row) {
			if (!db_int(d->db, "SELECT count(*) FROM entry", &entries, e))
				return false;
			return (uint64_t)entries == v->pub.n ||
			       err_code(e, ERR_IO, "storage_corrupt",
					"writ.db: %lld agents, but %zu of them have their "
					"revision; restore the file from a backup",
					(long long)entries, v->pub.n);
		}
		if (!read_row(s, &l, e))
			return false;
		b = box_new(v->alloc, &l.entry, db_column_int(s, C_ROW));
		if (!b || !view_put(v, b)) {
			box_release(b);
			return err_set(e, ERR_NOMEM, "no memory for the registry");
		}
	}
	return false;
}

bool registry_history(struct registry *r, struct str id, size_t max,
		      void (*each)(void *ctx, const struct registry_revision *rev), void *ctx,
		      struct err *e)
{
	AUTO_RESET *s = registry_tables(r)->history;
	bool row = false;

	db_bind_text(s, 1, id);
	db_bind_int(s, 2, max > INT32_MAX ? INT32_MAX : (int64_t)max);
	while (db_step(s, &row, e)) {
		struct registry_revision rev;
		struct loaded l;

		if (!row)
			return true;
		if (!read_row(s, &l, e))
			return false;
		rev.entry = l.entry;
		rev.verb = (enum registry_verb)db_column_int(s, C_VERB);
		rev.by = db_column_text(s, C_BY);
		rev.reason = db_column_text(s, C_REASON);
		each(ctx, &rev);
	}
	return false;
}

/* --- writing --- */

static void join(struct buf *b, struct str name, char by, struct str value)
{
	buf_add(b, name);
	buf_char(b, by);
	buf_add(b, value);
	buf_char(b, '\n');
}

#define LINES_MAX \
	((REGISTRY_ATTRIBUTES + REGISTRY_SELECTORS) * (REGISTRY_VALUE + REGISTRY_NAME + 2))

bool registry_db_write(struct registry_db *d, const struct registry_entry *n,
		       const struct registry_change *c, int64_t *row, struct err *e)
{
	struct db_stmt *s = n->revision == 1 ? d->insert_entry : d->set_revision;
	AUTO_BUF attributes = { 0 };
	AUTO_BUF selectors = { 0 };
	int i = 0;

	buf_init(&attributes, mem_system, LINES_MAX);
	buf_init(&selectors, mem_system, LINES_MAX);
	for (size_t k = 0; k < n->nattributes; k++)
		join(&attributes, n->attributes[k].name, '=', n->attributes[k].value);
	for (size_t k = 0; k < n->nselectors; k++)
		join(&selectors, n->selectors[k].type, ':', n->selectors[k].value);
	if (!buf_ok(&attributes) || !buf_ok(&selectors))
		return err_set(e, ERR_NOMEM, "no memory to write an entry");
	if (n->revision == 1) {
		db_bind_text(s, 1, n->id);
		db_bind_int(s, 2, 1);
		db_bind_int(s, 3, n->created_ms);
	} else {
		db_bind_int(s, 1, (int64_t)n->revision);
		db_bind_int(s, 2, *row);
	}
	if (!db_run(s, e))
		return false;
	if (n->revision == 1)
		*row = db_last_id(d->db);
	s = d->insert_revision;
	db_bind_int(s, ++i, *row);
	db_bind_int(s, ++i, (int64_t)n->revision);
	db_bind_int(s, ++i, n->updated_ms);
	db_bind_int(s, ++i, c->verb);
	db_bind_int(s, ++i, n->stored);
	db_bind_text(s, ++i, n->owner);
	db_bind_text(s, ++i, buf_str(&attributes));
	db_bind_text(s, ++i, buf_str(&selectors));
	db_bind_int(s, ++i, n->x509_ttl_s);
	db_bind_int(s, ++i, n->jwt_ttl_s);
	db_bind_int(s, ++i, n->expires_ms);
	db_bind_text(s, ++i, c->by);
	db_bind_text(s, ++i, c->reason);
	db_bind_text(s, ++i, n->purpose);
	db_bind_text(s, ++i, n->definition);
	db_bind_text(s, ++i, n->federates);
	return db_run(s, e);
}
