#include "authz/decide/signing.h"

#include <stdio.h>

#include "authz/base/text.h"
#include "authz/decide/generation_acts.h"

#define FIRST_LINE "writ policy set v1"

/* ---- statements ---- */

void signing_format(struct buf *out, const struct signing_statement *s)
{
	buf_printf(out, FIRST_LINE "\nversion %llu\nsha256 ", (unsigned long long)s->version);
	buf_hex(out, s->hash, sizeof(s->hash));
	buf_char(out, '\n');
}

/* One spelling only: what is read is written back, and must come out the same. */
bool signing_parse(struct str text, struct signing_statement *out, struct err *e)
{
	struct signing_statement s = { 0 };
	struct str first, version, hash, rest;
	AUTO_BUF again;

	buf_init(&again, mem_system, 4096);
	if (!str_cut(text, '\n', &first, &rest) || !str_cut(rest, '\n', &version, &rest) ||
	    !str_cut(rest, '\n', &hash, &rest) || rest.n || !str_eq(first, STR(FIRST_LINE)) ||
	    !str_starts(version, STR("version ")) || !str_starts(hash, STR("sha256 ")))
		return err_code(e, ERR_INVALID, "policy_signature",
				"expected the lines \"" FIRST_LINE "\", \"version N\" and "
				"\"sha256 HEX\"");
	if (!text_u64(str_from(version, 8), SIGNING_VERSION_MAX, &s.version) || !s.version)
		return err_code(e, ERR_INVALID, "policy_signature",
				"the version must be a number from 1 to %lld",
				(long long)SIGNING_VERSION_MAX);
	if (hash.n != 7 + 2 * SHA256_LEN || !text_unhex(str_from(hash, 7), s.hash, SHA256_LEN))
		return err_code(e, ERR_INVALID, "policy_signature",
				"sha256 must be 64 hexadecimal digits");
	signing_format(&again, &s);
	if (!str_eq(buf_str(&again), text))
		return err_code(e, ERR_INVALID, "policy_signature",
				"it is not spelt as `writ policy sign` spells it");
	*out = s;
	return true;
}

bool signing_keys_parse(struct str text, struct signing_keys *out, struct err *e)
{
	struct str rest = text, key;

	*out = (struct signing_keys){ .n = 0 };
	while (rest.n) {
		if (!str_cut(rest, ' ', &key, &rest)) {
			key = rest;
			rest.n = 0;
		}
		if (!key.n)
			continue;
		if (out->n == SIGNING_KEYS)
			return err_set(e, ERR_INVALID, "more than %d keys", SIGNING_KEYS);
		if (!note_key_parse(key, &out->keys[out->n], e))
			return false;
		out->n++;
	}
	return out->n > 0 || err_set(e, ERR_INVALID, "there is no key in it");
}

bool signing_open(struct str text, const struct signing_keys *keys,
		  const uint8_t hash[static SHA256_LEN], struct signing_statement *out,
		  const struct note_key **by, struct err *e)
{
	struct signing_statement s;
	struct err why = { 0 };
	struct note note;

	if (!text.n)
		return err_code(
			e, ERR_INVALID, "policy_unsigned",
			"the policy set is not signed: policies.key is set, so " SIGNING_FILE
			" must stand beside the rules; `writ policy sign --key FILE DIR` "
			"writes it");
	note.n = 0;
	if (!note_parse(text, &note, &why) || !note_verify(&note, keys->keys, keys->n, &why) ||
	    !signing_parse(note.text, &s, &why))
		return err_code(e, ERR_INVALID, "policy_signature",
				SIGNING_FILE " is refused: %s; sign the set again", why.msg);
	if (memcmp(s.hash, hash, SHA256_LEN) != 0)
		return err_code(e, ERR_INVALID, "policy_signature",
				SIGNING_FILE
				" is of another set (version %llu): a file was changed, added or "
				"removed since it was signed; sign the set again",
				(unsigned long long)s.version);
	for (size_t i = 0; i < keys->n; i++)
		if (note_verify(&note, &keys->keys[i], 1, &why)) {
			*by = &keys->keys[i];
			*out = s;
			return true;
		}
	return err_code(e, ERR_INVALID, "policy_signature", SIGNING_FILE " is refused: %s",
			why.msg);
}

/* ---- what came before ---- */

/* Signatures of sets that were let in, and the newest that counts. */
static const char *const schema[] = {
	"CREATE TABLE policy_signature ("
	"  hash BLOB PRIMARY KEY,"
	"  version INTEGER NOT NULL,"
	"  note BLOB NOT NULL) STRICT;"
	"CREATE TABLE policy_version ("
	"  one INTEGER PRIMARY KEY CHECK (one = 1),"
	"  version INTEGER NOT NULL,"
	"  hash BLOB NOT NULL) STRICT;",
};

static bool prepare(struct control *c, const char *sql, struct db_stmt **q, struct err *e)
{
	return db_migrate(c->db, "policy_signing", schema, ARRAY_LEN(schema), e) &&
	       db_prepare(c->db, sql, q, e);
}

/* The note of a set that was let in before; empty if there is none. */
static bool recall(struct control *c, const uint8_t hash[static SHA256_LEN], struct buf *note,
		   struct err *e)
{
	AUTO_STMT *q = NULL;
	bool row;

	if (!prepare(c, "SELECT note FROM policy_signature WHERE hash = ?", &q, e))
		return false;
	db_bind_blob(q, 1, hash, SHA256_LEN);
	if (!db_step(q, &row, e))
		return false;
	if (row)
		buf_add(note, db_column_blob(q, 0));
	return buf_ok(note) || err_set(e, ERR_NOMEM, "no memory for a signature");
}

static bool remember(struct control *c, const struct signing_statement *s, struct str note,
		     struct err *e)
{
	AUTO_STMT *q = NULL;

	if (!prepare(c, "INSERT OR REPLACE INTO policy_signature VALUES (?, ?, ?)", &q, e))
		return false;
	db_bind_blob(q, 1, s->hash, SHA256_LEN);
	db_bind_int(q, 2, (int64_t)s->version);
	db_bind_blob(q, 3, note.p, note.n);
	return db_run(q, e);
}

static bool set_newest(struct control *c, const struct signing_statement *s, struct err *e)
{
	AUTO_STMT *q = NULL;

	if (!prepare(c, "INSERT OR REPLACE INTO policy_version VALUES (1, ?, ?)", &q, e))
		return false;
	db_bind_int(q, 1, (int64_t)s->version);
	db_bind_blob(q, 2, s->hash, SHA256_LEN);
	return db_run(q, e);
}

static bool read_version(struct db_stmt *q, struct signing_statement *out, struct err *e)
{
	struct str hash;
	bool row;

	*out = (struct signing_statement){ 0 };
	if (!db_step(q, &row, e))
		return false;
	if (!row)
		return true;
	hash = db_column_blob(q, 1);
	if (hash.n != SHA256_LEN)
		return err_code(e, ERR_IO, "storage_corrupt",
				"writ.db: what is known of signed policies is damaged");
	out->version = (uint64_t)db_column_int(q, 0);
	memcpy(out->hash, hash.p, SHA256_LEN);
	return true;
}

/* The newest version that was in force: the one that is noted, or the one that is in force now and
 * came there since. It is noted when it is looked at: a set counts once it is in force, not when
 * it was let in and failed later. */
static bool newest(struct control *c, struct signing_statement *out, struct err *e)
{
	struct policy_set *set = (struct policy_set *)slot_acquire(&c->core->policies);
	struct signing_statement now = { 0 };
	AUTO_STMT *noted = NULL;
	AUTO_STMT *mine = NULL;
	bool ok = prepare(c, "SELECT version, hash FROM policy_version", &noted, e) &&
		  read_version(noted, out, e);

	if (ok && set &&
	    prepare(c, "SELECT version, hash FROM policy_signature WHERE hash = ?", &mine, e)) {
		db_bind_blob(mine, 1, set->hash, SHA256_LEN);
		ok = read_version(mine, &now, e);
	}
	shared_release(set ? &set->shared : NULL);
	if (!ok || e->class != ERR_NONE)
		return false;
	if (now.version <= out->version)
		return true;
	*out = now;
	return set_newest(c, out, e);
}

/* ---- letting in ---- */

static bool not_older(struct control *c, const struct signing_statement *s, bool allowed,
		      struct err *e)
{
	struct signing_statement last;

	if (!newest(c, &last, e))
		return false;
	if (s->version > last.version || !memcmp(s->hash, last.hash, SHA256_LEN))
		return true;
	if (allowed)
		return set_newest(c, s, e);
	if (s->version == last.version)
		return err_code(e, ERR_CONFLICT, "policy_older",
				"the policy set is signed as version %llu, which another set was "
				"already; sign it again with a higher one",
				(unsigned long long)s->version);
	return err_code(e, ERR_CONFLICT, "policy_older",
			"the policy set is signed as version %llu, older than version %llu that "
			"was in force; sign it again, or apply it with --allow-older",
			(unsigned long long)s->version, (unsigned long long)last.version);
}

static bool admits(struct control *c, const struct policy_sources *s, const struct policy_act *act,
		   struct err *e)
{
	struct signing_statement statement;
	const struct note_key *by;
	struct signing_keys keys;
	AUTO_BUF stored;
	struct str note = s->signature;

	buf_init(&stored, mem_system, NOTE_MAX + 1);
	if (!signing_keys_parse(str_c(c->config.policy_keys), &keys, e))
		return err_prefix(e, "policies.key");
	if (s->stored) {
		if (!recall(c, s->hash, &stored, e))
			return false;
		note = buf_str(&stored);
	}
	if (!signing_open(note, &keys, s->hash, &statement, &by, e))
		return false;
	/* The same set under a newer version is newer, and going back names what it goes back to.
	 */
	return s->stored ||
	       (not_older(c, &statement, act->allow_older, e) && remember(c, &statement, note, e));
}

bool signing_admits(struct control *c, const struct policy_sources *s, const struct policy_act *act,
		    struct err *e)
{
	if (!c->config.policy_keys || admits(c, s, act, e))
		return true;
	if (e->class == ERR_INVALID || e->class == ERR_CONFLICT)
		generation_refused(c, act, 0, s->hash, e->code);
	return false;
}

void signing_record(struct control *c, const uint8_t hash[static SHA256_LEN], struct record *r)
{
	struct signing_statement statement;
	const struct note_key *by;
	struct signing_keys keys;
	struct err ignored = { 0 };
	char id[NOTE_ID_LEN + 1];
	AUTO_BUF note;

	buf_init(&note, mem_system, NOTE_MAX + 1);
	if (!c->config.policy_keys ||
	    !signing_keys_parse(str_c(c->config.policy_keys), &keys, &ignored) ||
	    !recall(c, hash, &note, &ignored) ||
	    !signing_open(buf_str(&note), &keys, hash, &statement, &by, &ignored))
		return;
	snprintf(id, sizeof(id), "%08x", by->id);
	record_str(r, STR("signed_by"), str_c(id));
	record_int(r, STR("signed_version"), (int64_t)statement.version);
}
