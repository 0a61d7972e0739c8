/*
 * authzen_parts - what the AuthZEN endpoints share: reading entities, writing decisions.
 *
 * Purpose    Single, batch and search read the same four entities and give the same answers, so
 *            a member is checked, and a decision written, in one place.
 * Ownership  What is read is borrowed from the body.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_SERVER_AUTHZEN_PARTS_H
#define WRIT_SERVER_AUTHZEN_PARTS_H

#include "authz/decide/decide.h"
#include "authz/server/router.h"

/* The entity @name of @body: an object that must be there. */
MUST_USE bool authzen_entity(const struct json *body, const char *name, const struct json **out,
			     struct err *e);

/* Is member @name of @entity (called @of in messages) of this type, or absent if not @required? */
MUST_USE bool authzen_member(const struct json *entity, const char *of, const char *name,
			     enum json_type type, bool required, struct err *e);

/* The members that subject and resource share: type and id (if @id) as strings, properties as an
 * object. */
MUST_USE bool authzen_thing(const struct json *entity, const char *of, bool id, struct err *e);

/* action.name, action.properties. */
MUST_USE bool authzen_action(const struct json *action, struct err *e);

/* context: absent, or an object. */
MUST_USE bool authzen_context(const struct json *body, const struct json **out, struct err *e);

/* Take all four from one object, and see that they are complete. */
MUST_USE bool authzen_request(const struct json *body, struct decision_request *q, struct err *e);

/* Answer @body as the one question it asks (authzen.c). */
void authzen_single(struct request *r, const struct json *body);

/* One decision object; @bare: the decision alone. */
void authzen_write(struct buf *b, const struct decision_answer *a, bool bare);

/* An item that could not be decided: a denial with the reason as context.error. */
void authzen_write_error(struct buf *b, const struct err *e, bool bare);

#endif
