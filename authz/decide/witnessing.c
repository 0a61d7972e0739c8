#include "authz/decide/witnessing.h"

#include <stdlib.h>

#include "authz/base/log.h"

#define LIMIT_ADDRESSES 4096
#define AGAIN_S 10		  /* the same tree is not signed anew so soon */
#define REFUSALS_NS 10000000000LL /* a log's refusals are put on record once in so long */
#define EVIDENCE_MAX (4 * (size_t)NOTE_MAX)

struct witnessing {
	const struct witnessing_config *config;
	struct note_key key;
	struct limit *limit;
	struct witnessing_state states[WITNESSING_MAX];
	size_t nstates;
	struct db *db;
	struct db_stmt *find, *put;
};

static const char *const schema[] = {
	"CREATE TABLE witnessed(origin TEXT PRIMARY KEY, size INTEGER NOT NULL,"
	" root BLOB NOT NULL CHECK(length(root) = 32), note BLOB NOT NULL, line BLOB NOT NULL,"
	" at INTEGER NOT NULL) STRICT;"
	"CREATE TABLE witness_key(id INTEGER PRIMARY KEY CHECK(id = 0), vkey TEXT NOT NULL) STRICT;",
};

/* What the row of an origin holds. */
struct row {
	struct cosign_held held;
	int64_t at_s;
	struct buf note, line;
};

static void row_clear(struct row *r)
{
	buf_clear(&r->note);
	buf_clear(&r->line);
}

static bool row_read(struct witnessing *w, const char *origin, struct row *r, struct err *e)
{
	AUTO_RESET *q = w->find;
	struct str root;

	*r = (struct row){ .at_s = 0 };
	buf_init(&r->note, mem_system, NOTE_MAX);
	buf_init(&r->line, mem_system, NOTE_MAX);
	db_bind_text(q, 1, str_c(origin));
	if (!db_step(q, &r->held.found, e))
		return false;
	if (!r->held.found)
		return true;
	r->held.size = (uint64_t)db_column_int(q, 0);
	root = db_column_blob(q, 1);
	if (root.n != SHA256_LEN)
		return err_code(e, ERR_IO, "storage_corrupt", "writ.db: a root is not 32 bytes");
	memcpy(r->held.root, root.p, SHA256_LEN);
	buf_add(&r->note, db_column_blob(q, 2));
	buf_add(&r->line, db_column_blob(q, 3));
	r->at_s = db_column_int(q, 4);
	return (buf_ok(&r->note) && buf_ok(&r->line)) || err_set(e, ERR_NOMEM, "no memory");
}

/* ---- opening ---- */

/* Rows that another key signed say nothing for this one: whoever trusts the new key would believe
 * that it was there from the beginning. */
static bool check_key(struct witnessing *w, struct err *e)
{
	AUTO_STMT *get = NULL;
	AUTO_STMT *put = NULL;
	AUTO_BUF vkey;
	bool row;

	buf_init(&vkey, mem_system, 1024);
	witnessing_vkey(w, &vkey);
	if (!buf_ok(&vkey) ||
	    !db_prepare(w->db, "SELECT vkey FROM witness_key WHERE id = 0", &get, e) ||
	    !db_prepare(w->db, "INSERT INTO witness_key VALUES (0, ?1)", &put, e) ||
	    !db_step(get, &row, e))
		return false;
	if (row && !str_eq(db_column_text(get, 0), buf_str(&vkey)))
		return err_code(e, ERR_CONFLICT, "witness_key",
				"keys/witness.key is not the key that cosigned until now (%.*s): "
				"restore it from a backup, or empty the tables witnessed and "
				"witness_key of writ.db to begin as another witness",
				STR_FMT(str_first(db_column_text(get, 0), 200)));
	if (row)
		return true;
	db_bind_text(put, 1, buf_str(&vkey));
	return db_run(put, e);
}

/* One state per origin, in the order of the configuration. */
static bool make_states(struct witnessing *w, struct err *e)
{
	for (size_t i = 0; i < w->config->n; i++) {
		const char *origin = w->config->logs[i].origin;
		struct witnessing_state *s;
		struct row row;
		size_t k = 0;
		bool ok;

		while (k < w->nstates && strcmp(w->states[k].origin, origin) != 0)
			k++;
		if (k < w->nstates)
			continue;
		if (k == WITNESSING_MAX)
			return err_set(e, ERR_INVALID, "a witness of more than %d logs",
				       WITNESSING_MAX);
		s = &w->states[w->nstates++];
		s->origin = origin;
		ok = row_read(w, origin, &row, e);
		atomic_init(&s->size, row.held.size);
		atomic_init(&s->at_s, (uint64_t)row.at_s);
		row_clear(&row);
		if (!ok)
			return false;
	}
	return true;
}

bool witnessing_open(struct control *c, const struct witnessing_config *config,
		     struct witnessing **out, struct err *e)
{
	struct witnessing *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(e, ERR_NOMEM, "no memory for the witness");
	w->config = config;
	w->db = c->db;
	w->limit = limit_new(WITNESSING_RATE, WITNESSING_BURST, LIMIT_ADDRESSES, e);
	if (!w->limit ||
	    !note_key_make_as(str_c(config->name), NOTE_COSIGNATURE, config->public_key, &w->key,
			      e) ||
	    !db_migrate(w->db, "witness", schema, ARRAY_LEN(schema), e) || !check_key(w, e) ||
	    !db_prepare(w->db, "SELECT size, root, note, line, at FROM witnessed WHERE origin = ?1",
			&w->find, e) ||
	    !db_prepare(w->db,
			"INSERT INTO witnessed VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
			" ON CONFLICT(origin) DO UPDATE SET size = ?2, root = ?3, note = ?4,"
			" line = ?5, at = ?6",
			&w->put, e) ||
	    !make_states(w, e)) {
		witnessing_close(w);
		return false;
	}
	*out = w;
	return true;
}

void witnessing_close(struct witnessing *w)
{
	if (!w)
		return;
	limit_free(w->limit);
	db_finish(w->find);
	db_finish(w->put);
	free(w);
}

void witnessing_vkey(const struct witnessing *w, struct buf *out)
{
	note_key_format_as(&w->key, NOTE_COSIGNATURE, out);
}

const struct witnessing_state *witnessing_states(const struct witnessing *w, size_t *n)
{
	*n = w->nstates;
	return w->states;
}

/* ---- reading ---- */

bool witnessing_admit(struct witnessing *w, struct str address, int64_t now_ns, int64_t *wait_ms)
{
	return limit_take(w->limit, address, now_ns, wait_ms);
}

bool witnessing_read(const struct witnessing *w, struct str body, struct witness_ask *a,
		     struct err *e)
{
	struct rotation_trust trust;
	struct note_key keys[8];
	size_t n = 0;

	if (!cosign_request_parse(body, &a->request, e) ||
	    !note_parse(a->request.note, &a->note, e) ||
	    !checkpoint_parse(a->note.text, &a->checkpoint, e))
		return false;
	a->log = 0;
	while (a->log < w->nstates &&
	       !str_eq(a->checkpoint.origin, str_c(w->states[a->log].origin)))
		a->log++;
	if (a->log == w->nstates)
		return err_code(e, ERR_NOT_FOUND, "unknown_log",
				"no log of origin \"%.*s\" is witnessed here; see `witness.logs`",
				STR_FMT(str_first(a->checkpoint.origin, 100)));
	for (size_t i = 0; i < w->config->n && n < ARRAY_LEN(keys); i++)
		if (str_eq(a->checkpoint.origin, str_c(w->config->logs[i].origin)))
			keys[n++] = w->config->logs[i].key;
	if (rotations_verify(&a->note, &a->checkpoint, keys, n, &trust, e))
		return true;
	if (e) {
		e->class = ERR_FORBIDDEN;
		e->code = "bad_signature";
	}
	return false;
}

/* ---- records ---- */

static bool record_cosigned(struct control *c, const struct witness_ask *a, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_str(&r.job.record, STR("kind"), STR("witness.cosign"));
	record_int(&r.job.record, STR("log_size"), (int64_t)a->checkpoint.size);
	record_int(&r.job.record, STR("old_size"), (int64_t)a->held);
	record_str(&r.job.record, STR("origin"), a->checkpoint.origin);
	record_hash(&r.job.record, STR("root"), a->checkpoint.root);
	return act_record_append(c, &r, e);
}

/* Both checkpoints, whole: each is signed by the log, so together they convict it. */
static struct str evidence(struct arena *arena, const struct witness_ask *a, const struct row *row)
{
	struct buf b;

	buf_in_arena(&b, arena, EVIDENCE_MAX);
	buf_lit(&b, "{\"checkpoint\":");
	buf_json(&b, a->request.note);
	buf_lit(&b, ",\"held\":");
	buf_json(&b, buf_str(&row->note));
	buf_char(&b, '}');
	return buf_ok(&b) ? buf_str(&b) : (struct str){ NULL, 0 };
}

static bool record_refused(struct control *c, const struct witnessing_state *s,
			   const struct witness_ask *a, const struct row *row, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_int(&r.job.record, STR("count"), (int64_t)s->unrecorded);
	if (row->held.found) {
		record_hash(&r.job.record, STR("held_root"), row->held.root);
		record_int(&r.job.record, STR("held_size"), (int64_t)row->held.size);
	}
	if (a->verdict == COSIGN_FORK) {
		struct str opening = evidence(&r.arena, a, row);

		if (opening.p)
			record_commit(&r.job.record, OPENING_INPUT, opening, c->sha);
	}
	record_str(&r.job.record, STR("kind"), STR("witness.refuse"));
	record_int(&r.job.record, STR("log_size"), (int64_t)a->checkpoint.size);
	record_str(&r.job.record, STR("origin"), a->checkpoint.origin);
	record_str(&r.job.record, STR("reason"), str_c(cosign_verdict_name(a->verdict)));
	record_hash(&r.job.record, STR("root"), a->checkpoint.root);
	return act_record_append(c, &r, e);
}

/* Anybody can send a public checkpoint with a wrong old size or proof, as often as he likes; a fork
 * takes the log's own key. So the others are gathered, and a fork is recorded at once. */
static bool refuse(struct control *c, struct witnessing_state *s, struct witness_ask *a,
		   const struct row *row, struct err *e)
{
	int64_t now = clock_mono_ns(c->core->clock);
	bool fork = a->verdict == COSIGN_FORK && memcmp(s->fork, a->checkpoint.root, 32) != 0;

	atomic_fetch_add(&s->refused, 1);
	s->unrecorded++;
	if (a->verdict == COSIGN_FORK)
		atomic_fetch_add(&s->forks, 1);
	if (!fork && s->refusal_due_ns && now < s->refusal_due_ns)
		return true;
	if (!record_refused(c, s, a, row, e))
		return false;
	s->refusal_due_ns = now + REFUSALS_NS;
	s->unrecorded = 0;
	if (fork) {
		memcpy(s->fork, a->checkpoint.root, 32);
		log_event(LOG_ERROR, "witness.fork",
			  "origin=\"%s\" size=%llu why=\"its key signed two histories; both "
			  "checkpoints are in the log's record\"",
			  s->origin, (unsigned long long)a->checkpoint.size);
	}
	return true;
}

/* ---- cosigning ---- */

static bool sign(struct control *c, const struct witnessing *w, const struct witness_ask *a,
		 int64_t at_s, struct buf *line, struct err *e)
{
	AUTO_BUF signature;
	struct signer_job job = { .op = SIGNER_COSIGN,
				  .cosign = { at_s, a->note.text },
				  .out = &signature };
	struct buf whole;
	uint64_t at;
	bool ok;

	buf_init(&signature, mem_system, 64);
	if (!signer_call(c->signer, &job, e))
		return false;
	if (signature.n != 64)
		return err_set(e, ERR_INTERNAL, "the signer gave %zu bytes for a signature",
			       signature.n);
	cosign_line(line, &w->key, (uint64_t)at_s, (const uint8_t *)signature.p);
	/* What the signer gave is checked while nothing depends on it. */
	buf_init(&whole, mem_system, 2 * NOTE_MAX);
	ok = buf_ok(line) && cosign_answer(a->request.note, buf_str(line), &w->key, &whole, &at, e);
	buf_clear(&whole);
	return ok;
}

/* The log's own text and signatures of its keys, and our line: nothing that a stranger added. */
static void kept_note(const struct witnessing *w, const struct witness_ask *a, struct str line,
		      struct buf *out)
{
	buf_add(out, a->note.text);
	buf_char(out, '\n');
	for (size_t i = 0; i < a->note.n; i++) {
		const struct note_signature *s = &a->note.signatures[i];

		for (size_t k = 0; k < w->config->n; k++)
			if (s->id == w->config->logs[k].key.id &&
			    str_eq(s->name, str_c(w->config->logs[k].key.name))) {
				buf_lit(out, "\xe2\x80\x94 ");
				buf_add(out, s->name);
				buf_char(out, ' ');
				buf_add(out, s->base64);
				buf_char(out, '\n');
				break;
			}
	}
	buf_add(out, line);
}

static bool store(struct witnessing *w, const struct witness_ask *a, int64_t at_s, struct str line,
		  struct err *e)
{
	AUTO_RESET *q = w->put;
	AUTO_BUF note;

	buf_init(&note, mem_system, 2 * NOTE_MAX);
	kept_note(w, a, line, &note);
	if (!buf_ok(&note))
		return err_set(e, ERR_NOMEM, "no memory for a cosigned checkpoint");
	db_bind_text(q, 1, a->checkpoint.origin);
	db_bind_int(q, 2, (int64_t)a->checkpoint.size);
	db_bind_blob(q, 3, a->checkpoint.root, SHA256_LEN);
	db_bind_blob(q, 4, note.p, note.n);
	db_bind_blob(q, 5, line.p, line.n);
	db_bind_int(q, 6, at_s);
	return db_run(q, e);
}

static bool cosign(struct control *c, struct witnessing *w, struct witnessing_state *s,
		   struct witness_ask *a, const struct row *row, struct err *e)
{
	int64_t at_s = clock_wall_ms(c->core->clock) / 1000;
	AUTO_BUF line;

	buf_init(&line, mem_system, 1024);
	/* Whoever repeats a public checkpoint costs us neither a signature nor a record. */
	if (row->held.found && row->held.size == a->checkpoint.size && row->at_s <= at_s &&
	    at_s - row->at_s < AGAIN_S) {
		buf_add(a->out, buf_str(&row->line));
		return true;
	}
	if (!sign(c, w, a, at_s, &line, e) || !store(w, a, at_s, buf_str(&line), e) ||
	    !record_cosigned(c, a, e))
		return false;
	atomic_store(&s->size, a->checkpoint.size);
	atomic_store(&s->at_s, (uint64_t)at_s);
	atomic_fetch_add(&s->cosigned, 1);
	buf_add(a->out, buf_str(&line));
	return true;
}

bool witnessing_act(struct control *c, struct witness_ask *a, struct err *e)
{
	struct witnessing *w = c->witnessing;
	struct witnessing_state *s = &w->states[a->log];
	struct row row;
	bool ok = row_read(w, s->origin, &row, e);

	if (ok) {
		a->held = row.held.found ? row.held.size : 0;
		a->verdict = cosign_judge(c->sha, &row.held, &a->request, &a->checkpoint);
		ok = a->verdict == COSIGN_FOLLOWS ? cosign(c, w, s, a, &row, e)
						  : refuse(c, s, a, &row, e);
	}
	row_clear(&row);
	return ok;
}

bool witnessing_last(struct control *c, const uint8_t origin_hash[static SHA256_LEN],
		     struct buf *out, struct err *e)
{
	struct witnessing *w = c->witnessing;

	for (size_t i = 0; i < w->nstates; i++) {
		struct str parts[] = { str_c(w->states[i].origin) };
		uint8_t hash[SHA256_LEN];
		struct row row;
		bool ok;

		sha256_parts(c->sha, parts, 1, hash);
		if (memcmp(hash, origin_hash, SHA256_LEN) != 0)
			continue;
		ok = row_read(w, w->states[i].origin, &row, e);
		if (ok && !row.held.found)
			ok = err_code(e, ERR_NOT_FOUND, "not_found",
				      "no checkpoint of this log was cosigned yet");
		if (ok)
			buf_add(out, buf_str(&row.note));
		row_clear(&row);
		return ok;
	}
	return err_code(e, ERR_NOT_FOUND, "unknown_log", "no log of this origin is witnessed here");
}
