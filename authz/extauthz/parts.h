/*
 * parts - what the readers of the protocols share; private to authz/extauthz.
 *
 * Purpose    Headers that may stand once, members whose names have one spelling, bodies that are
 *            there as a whole, objects built for the policies.
 * Ownership  Everything lives in reader->a, or borrows from the request.
 * Threads    No state: call from any thread.
 *
 * Functions that return bool refuse by returning false with reader->e filled.
 */
#ifndef WRIT_EXTAUTHZ_PARTS_H
#define WRIT_EXTAUTHZ_PARTS_H

#include "authz/extauthz/known_headers.h"
#include "authz/extauthz/traffic.h"

#define FIELDS_MAX 24

enum body_state { BODY_NONE, BODY_COMPLETE, BODY_PARTIAL, BODY_ENCODED };

/* The name of a member of ours, as FIELD writes it. */
struct field_name {
	struct str s;
};
#define FIELD_INIT(lit)             \
	{                           \
		JSON_NAME_INIT(lit) \
	}
#define FIELD(lit) ((struct field_name)FIELD_INIT(lit))

/* An object in the making, where it will stay; names are ASCII literals, none twice. Cheapest when
 * they come in canonical order. */
struct fields {
	struct arena *a;
	struct json *object; /* what is made, and behind it its members; NULL: no memory */
	uint32_t n, room;
	bool disordered;
	struct json lost; /* where a member goes that has no room */
};

struct reader {
	const struct traffic_request *r;
	const struct json_limits *limits;
	struct arena *a;
	struct traffic *out;
	struct err *e;
	enum body_state state;
	struct str path;	 /* in its normal form */
	const struct json *seen; /* the body as detection read it; or NULL */
	const struct json *body; /* once it was read */
	struct traffic_action *actions;
	size_t n, room;
	const struct header_index *headers;
	struct fields facts; /* of q.http; last: traffic_read clears what stands before it */
};

/* Refuse: false, and the text for people. */
#define refuse(rd, class, code, ...) err_code((rd)->e, class, code, __VA_ARGS__)
#define refuse_memory(rd) \
	err_code((rd)->e, ERR_UNAVAILABLE, "out_of_memory", "memory is short; try again later")

/* ---- headers ---- */

/* The refusal of a header that stands twice. */
bool header_twice(struct reader *rd, struct str name);

/* The one header @h; *value is empty with p == NULL if there is none. Two of them are refused:
 * somebody reads the first, somebody else the last. */
MUST_USE static inline bool header_once(struct reader *rd, enum header h, struct str *value)
{
	*value = header_first(rd->headers, h);
	return !(rd->headers->twice & HEADER_BIT(h)) || header_twice(rd, header_names[h]);
}

static inline bool header_there(const struct reader *rd, enum header h)
{
	return (rd->headers->there & HEADER_BIT(h)) != 0;
}

/* ---- bodies ---- */

/* Read the body as JSON into rd->body. @also: a media type accepted beside application/json, or
 * NULL. What is cut off, encoded, absent or of another type is refused. */
MUST_USE bool body_json(struct reader *rd, const char *also);
/* The same, and it has to be an object whose members are not spelt in two ways. */
MUST_USE bool body_object(struct reader *rd, const char *const *names);

/* No member of @v is one of @names (NULL-terminated) in another case: some servers would take it
 * for that (Go's encoding/json folds case, U+017F and U+212A too). */
MUST_USE bool names_exact(struct reader *rd, const struct json *v, const char *const *names);

/* The same of @n names, in one pass that also finds them: found[i] is the member whose name is
 * names[i], or NULL; *other the first that has none of these names, or NULL. */
MUST_USE bool names_found(struct reader *rd, const struct json *v, const struct str *names,
			  size_t n, const struct json **found, const struct json **other);

/* Is @s the ASCII text @name to somebody who does not look at case? */
bool folds_to(struct str s, struct str name);

/* Member @name: absent (*out NULL) or of this type; null counts as absent. */
MUST_USE bool member(struct reader *rd, const struct json *v, const char *name, enum json_type t,
		     const struct json **out);
/* The same of a member that was looked up already; NULL: it is absent. */
MUST_USE bool member_is(struct reader *rd, const struct json *m, const char *name, enum json_type t,
			const struct json **out);
MUST_USE bool member_is_text(struct reader *rd, const struct json *m, const char *name,
			     struct str *out);
/* member, for a text that must be there and be printable, 1 to 512 bytes. */
MUST_USE bool member_text(struct reader *rd, const struct json *v, const char *name,
			  struct str *out);
/* A text that may be absent: then empty. */
MUST_USE bool member_maybe(struct reader *rd, const struct json *v, const char *name,
			   struct str *out);

/* Is this a name that can be shown and compared: UTF-8, no control characters, 1 to @max bytes? */
bool text_fit(struct str s, size_t max);

/* ---- paths ---- */

/* The normal form of @raw in *out: hexadecimal digits of percent codes in upper case. Everything
 * that somebody could read as another path is refused: empty and dot segments, encoded slashes,
 * codes for characters that need none, ';', '\', codes that are not UTF-8. @slashes: %2F may
 * stand in it (Bedrock's ARNs). */
MUST_USE bool path_normal(struct reader *rd, struct str raw, bool slashes, struct str *out);
/* %XX resolved. */
MUST_USE bool percent_decode(struct arena *a, struct str in, struct str *out);

/* ---- building ---- */

/* Begin an object of at most @room members. */
void fields_begin(struct fields *f, struct arena *a, uint32_t room);
void field_str(struct fields *f, struct field_name name, struct str s);	 /* left out if empty */
void field_text(struct fields *f, struct field_name name, struct str s); /* also an empty one */
/* A name of somebody else's. */
void field_foreign(struct fields *f, struct str name, struct str s);
void field_int(struct fields *f, struct field_name name, int64_t i);
void field_bool(struct fields *f, struct field_name name, bool b);
void field_json(struct fields *f, struct field_name name,
		const struct json *v); /* NULL: left out */
/* The end of @f. NULL: no memory. */
struct json *fields_object(struct fields *f);

MUST_USE bool add_action(struct reader *rd, struct str name, struct str type, struct str id,
			 const struct json *args);

/* ---- the protocols: each in a file of its name ---- */

MUST_USE bool mcp_read(struct reader *rd);
MUST_USE bool a2a_read(struct reader *rd);
MUST_USE bool openai_read(struct reader *rd);
MUST_USE bool anthropic_read(struct reader *rd);
MUST_USE bool gemini_read(struct reader *rd);
MUST_USE bool bedrock_read(struct reader *rd);
MUST_USE bool ollama_read(struct reader *rd);
MUST_USE bool http_route_read(struct reader *rd);

/* Is this path one of the protocol's own? For detection. */
bool a2a_path(struct str path);
bool openai_path(struct str path);
bool anthropic_path(struct str path);
bool gemini_path(struct str path);
bool bedrock_path(struct str path);
bool ollama_path(struct str path);

/* Does a JSON-RPC message with this method belong to A2A? */
bool a2a_method(struct str method, const struct json *params);

#endif
