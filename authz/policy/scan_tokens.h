/*
 * scan_tokens - a Lua source as names, texts, numbers and marks.
 *
 * Purpose    What looks over a policy without running it begins here. The source has been
 *            compiled before, so the text is Lua.
 * Ownership  Tokens live in the arena and point into the source.
 * Threads    No state.
 */
#ifndef WRIT_POLICY_SCAN_TOKENS_H
#define WRIT_POLICY_SCAN_TOKENS_H

#include "authz/base/arena.h"

enum token_kind { TOKEN_END, TOKEN_NAME, TOKEN_TEXT, TOKEN_NUMBER, TOKEN_MARK };

struct token {
	enum token_kind kind;
	struct str text; /* of a text: between its quotes, as written */
	int line;
};

struct tokens {
	struct token *items; /* nine TOKEN_END follow */
	size_t n;
};

/* False without memory. */
MUST_USE bool tokens_read(struct str text, struct arena *a, struct tokens *out);

/* A name or mark that is @text. Inline, so that the length of a literal is no question: every token
 * is held against dozens of words. */
static inline bool token_is(const struct token *t, const char *text)
{
	return t->text.n && *t->text.p == *text && t->kind != TOKEN_TEXT &&
	       str_eq(t->text, str_c(text));
}

#endif
