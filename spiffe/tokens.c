#include "spiffe/tokens.h"

#include <stdlib.h>

#include "authz/base/digest.h"

#define PREFIX "wjt_"
#define SECRET 20 /* random bytes: 32 characters of five bits */

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567"; /* RFC 4648 6, lower case */

static const char *const schema[] = {
	"CREATE TABLE token ("
	"  number INTEGER PRIMARY KEY AUTOINCREMENT," /* never reused: records name it */
	"  hash BLOB NOT NULL UNIQUE,"
	"  id TEXT NOT NULL,"
	"  created_ms INTEGER NOT NULL,"
	"  expires_ms INTEGER NOT NULL,"
	"  used_ms INTEGER NOT NULL,"
	"  by TEXT NOT NULL) STRICT;"
	"CREATE INDEX token_of_id ON token (id) WHERE used_ms = 0;"
	"CREATE INDEX token_expiry ON token (expires_ms);",
};

struct tokens {
	struct db *db;
	struct sha256 *sha;
	struct db_stmt *insert, *find, *use, *count, *list, *list_all, *revoke, *prune;
};

bool tokens_open(struct db *db, struct tokens **out, struct err *e)
{
#define OPEN "used_ms = 0 AND expires_ms > ?1"
#define COLUMNS "SELECT number, id, created_ms, expires_ms, used_ms, by FROM token "
	struct tokens *t = calloc(1, sizeof(*t));

	if (!t)
		return err_set(e, ERR_NOMEM, "no memory for the join tokens");
	t->db = db;
	t->sha = sha256_new(e);
	if (!t->sha || !db_migrate(db, "tokens", schema, ARRAY_LEN(schema), e) ||
	    !db_prepare(db,
			"INSERT INTO token (hash, id, created_ms, expires_ms, used_ms, by) "
			"VALUES (?, ?, ?, ?, 0, ?)",
			&t->insert, e) ||
	    !db_prepare(db, COLUMNS "WHERE hash = ?", &t->find, e) ||
	    !db_prepare(db, "UPDATE token SET used_ms = ?1 WHERE number = ?2 AND " OPEN, &t->use,
			e) ||
	    !db_prepare(db, "SELECT count(*) FROM token WHERE id = ?2 AND " OPEN, &t->count, e) ||
	    !db_prepare(db, COLUMNS "WHERE id = ?2 AND " OPEN " ORDER BY number", &t->list, e) ||
	    !db_prepare(db, COLUMNS "WHERE " OPEN " ORDER BY number", &t->list_all, e) ||
	    !db_prepare(db, "DELETE FROM token WHERE id = ?2 AND " OPEN, &t->revoke, e) ||
	    !db_prepare(db, "DELETE FROM token WHERE expires_ms <= ?1", &t->prune, e)) {
		tokens_close(t);
		return false;
	}
	*out = t;
	return true;
#undef OPEN
#undef COLUMNS
}

void tokens_close(struct tokens *t)
{
	if (!t)
		return;
	db_finish(t->insert);
	db_finish(t->find);
	db_finish(t->use);
	db_finish(t->count);
	db_finish(t->list);
	db_finish(t->list_all);
	db_finish(t->revoke);
	db_finish(t->prune);
	sha256_free(t->sha);
	free(t);
}

/* --- making --- */

static void make_text(char text[static TOKEN_TEXT])
{
	uint8_t secret[SECRET];
	char *at = text + sizeof(PREFIX) - 1;
	uint32_t acc = 0;
	unsigned bits = 0;

	random_bytes(secret, sizeof(secret));
	memcpy(text, PREFIX, sizeof(PREFIX) - 1);
	for (size_t i = 0; i < sizeof(secret); i++) {
		acc = acc << 8 | secret[i];
		for (bits += 8; bits >= 5; bits -= 5)
			*at++ = alphabet[acc >> (bits - 5) & 31];
	}
	*at = '\0';
	mem_wipe(secret, sizeof(secret));
}

/* Refuse an agent that could not use what it is given. Suspension passes if @may_be_suspended. */
static bool check_agent(const struct registry_view *view, struct str id, int64_t now_ms,
			bool may_be_suspended, enum err_class class, struct err *e)
{
	const struct registry_entry *entry = registry_find(view, id);
	enum registry_state state;

	if (!entry)
		return err_code(e, class == ERR_CONFLICT ? ERR_NOT_FOUND : class, "unknown_agent",
				"%.*s is not registered", STR_FMT(str_first(id, 250)));
	state = registry_state(entry, now_ms);
	if (state == ENTRY_ACTIVE || (state == ENTRY_SUSPENDED && may_be_suspended))
		return true;
	return err_code(e, class,
			state == ENTRY_SUSPENDED ? "agent_suspended"
			: state == ENTRY_EXPIRED ? "agent_expired"
						 : "agent_retired",
			"%.*s is %s, so no join token of it is good; ask an admin",
			STR_FMT(str_first(id, 250)), registry_state_name(state));
}

static bool check_count(struct tokens *t, struct str id, int64_t now_ms, struct err *e)
{
	AUTO_RESET *s = t->count;
	bool row = false;

	db_bind_int(s, 1, now_ms);
	db_bind_text(s, 2, id);
	if (!db_step(s, &row, e))
		return false;
	if (row && db_column_int(s, 0) >= TOKEN_PER_AGENT)
		return err_code(
			e, ERR_CONFLICT, "too_many_tokens",
			"%d join tokens of %.*s wait to be used; let some expire, or suspend "
			"the agent and resume it, which takes all of them back",
			TOKEN_PER_AGENT, STR_FMT(str_first(id, 250)));
	return true;
}

bool token_create(struct tokens *t, const struct registry_view *view, struct str id, int64_t ttl_s,
		  int64_t now_ms, struct str by, char text[static TOKEN_TEXT], uint64_t *number,
		  struct err *e)
{
	uint8_t hash[SHA256_LEN];

	if (ttl_s < 1 || ttl_s > TOKEN_TTL_MAX)
		return err_code(e, ERR_INVALID, "invalid_ttl",
				"a join token lives 1 to %d seconds, not %lld", TOKEN_TTL_MAX,
				(long long)ttl_s);
	if (!check_agent(view, id, now_ms, true, ERR_CONFLICT, e) || !check_count(t, id, now_ms, e))
		return false;
	make_text(text);
	sha256_of(t->sha, str_c(text), hash);
	db_bind_blob(t->insert, 1, hash, sizeof(hash));
	db_bind_text(t->insert, 2, id);
	db_bind_int(t->insert, 3, now_ms);
	db_bind_int(t->insert, 4, now_ms + ttl_s * 1000);
	db_bind_text(t->insert, 5, by);
	if (!db_run(t->insert, e)) {
		mem_wipe(text, TOKEN_TEXT);
		return false;
	}
	*number = (uint64_t)db_last_id(t->db);
	return true;
}

/* --- using --- */

static bool has_shape(struct str text)
{
	if (text.n != TOKEN_TEXT - 1 || !str_starts(text, STR(PREFIX)))
		return false;
	for (size_t i = sizeof(PREFIX) - 1; i < text.n; i++)
		if (!text.p[i] || !strchr(alphabet, text.p[i]))
			return false;
	return true;
}

static void read_token(struct db_stmt *s, struct token *out)
{
	*out = (struct token){
		.number = (uint64_t)db_column_int(s, 0),
		.id = db_column_text(s, 1),
		.created_ms = db_column_int(s, 2),
		.expires_ms = db_column_int(s, 3),
		.used_ms = db_column_int(s, 4),
		.by = db_column_text(s, 5),
	};
}

/* The token as stored; its texts are copied to @a. Not good any more: false and why. */
static bool find(struct tokens *t, const uint8_t hash[static SHA256_LEN], int64_t now_ms,
		 struct arena *a, struct token *out, struct err *e)
{
	AUTO_RESET *s = t->find;
	bool row = false;

	db_bind_blob(s, 1, hash, SHA256_LEN);
	if (!db_step(s, &row, e))
		return false;
	if (!row)
		return err_code(e, ERR_UNAUTHENTICATED, "join_token_unknown",
				"no such join token; ask an admin for one (writ agent token ID)");
	read_token(s, out);
	out->id = arena_dup(a, out->id);
	out->by = (struct str){ 0 };
	if (!out->id.p)
		return err_set(e, ERR_NOMEM, "no memory to check a join token");
	if (out->used_ms)
		return err_code(e, ERR_UNAUTHENTICATED, "join_token_used",
				"join token %llu has been used already; if that was not you, tell "
				"an admin: somebody else holds an identity that was meant for you",
				(unsigned long long)out->number);
	if (now_ms >= out->expires_ms)
		return err_code(e, ERR_UNAUTHENTICATED, "join_token_expired",
				"join token %llu has expired; ask an admin for a new one",
				(unsigned long long)out->number);
	return true;
}

bool token_use(struct tokens *t, const struct registry_view *view, struct str text, int64_t now_ms,
	       struct arena *a, struct str *id, uint64_t *number, struct err *e)
{
	uint8_t hash[SHA256_LEN];
	struct token token;

	if (!has_shape(text))
		return err_code(e, ERR_UNAUTHENTICATED, "join_token_invalid",
				"this is no join token; one is \"" PREFIX "\" and 32 small letters "
				"and digits");
	sha256_of(t->sha, text, hash);
	if (!find(t, hash, now_ms, a, &token, e) ||
	    !check_agent(view, token.id, now_ms, false, ERR_UNAUTHENTICATED, e))
		return false;
	db_bind_int(t->use, 1, now_ms);
	db_bind_int(t->use, 2, (int64_t)token.number);
	if (!db_run(t->use, e))
		return false;
	if (db_changes(t->db) != 1) {
		/* Between the look and the grab another process was faster: say what it did. */
		if (find(t, hash, now_ms, a, &token, e))
			return err_set(e, ERR_INTERNAL, "join token %llu could not be marked",
				       (unsigned long long)token.number);
		return false;
	}
	*id = token.id;
	*number = token.number;
	return true;
}

/* --- keeping order --- */

bool tokens_list(struct tokens *t, struct str id, int64_t now_ms,
		 void (*each)(void *ctx, const struct token *token), void *ctx, struct err *e)
{
	AUTO_RESET *s = id.n ? t->list : t->list_all;
	bool row = false;

	db_bind_int(s, 1, now_ms);
	if (id.n)
		db_bind_text(s, 2, id);
	while (db_step(s, &row, e)) {
		struct token token;

		if (!row)
			return true;
		read_token(s, &token);
		each(ctx, &token);
	}
	return false;
}

bool tokens_revoke(struct tokens *t, struct str id, int64_t now_ms, int64_t *n, struct err *e)
{
	db_bind_int(t->revoke, 1, now_ms);
	db_bind_text(t->revoke, 2, id);
	if (!db_run(t->revoke, e))
		return false;
	if (n)
		*n = db_changes(t->db);
	return true;
}

bool tokens_prune(struct tokens *t, int64_t now_ms, int64_t age_ms, struct err *e)
{
	db_bind_int(t->prune, 1, now_ms - age_ms);
	return db_run(t->prune, e);
}
