/*
 * federation - poll the bundle endpoints of others, and put into force what they send.
 *
 * Purpose    The control thread knows what is due and decides what becomes of an answer; another
 *            one fetches (fetching.h). What is trusted is published as one set: our own
 *            bundle as it is, beside each foreign one that may be used; verification picks by the
 *            peer's trust domain before it builds a chain, so no foreign key speaks for another
 *            domain than its own.
 *            Every added or ended relationship, every changed bundle and every bundle that was
 *            refused is a record.
 * Ownership  A desk owns its relationships; it borrows the control's database.
 * Threads    federation_standing: any. The acts and federation_tick: the control thread.
 */
#ifndef WRIT_DECIDE_FEDERATION_H
#define WRIT_DECIDE_FEDERATION_H

#include "authz/decide/control.h"
#include "spiffe/federation.h"

/* Open the relationships and publish their bundles. */
MUST_USE bool federation_desk_open(struct control *c, const struct federation_settings *s,
				   struct federation_desk **out, struct err *e);
void federation_desk_close(struct federation_desk *d); /* NULL is fine */

/* Poll what is due; take out of force what has become too old. */
void federation_tick(struct federation_desk *d);

/* ---- acts: from tasks of the control thread ---- */

MUST_USE bool federation_act_add(struct control *c, const struct federation_spec *spec,
				 struct err *e);
MUST_USE bool federation_act_remove(struct control *c, struct str trust_domain, struct str by,
				    struct err *e);
/* Poll now: one, or with an empty name all. The answer shows later in the standing. */
MUST_USE bool federation_act_refresh(struct control *c, struct str trust_domain, struct str by,
				     struct err *e);

/* ---- how they stand, for anybody ---- */

struct federation_report {
	char trust_domain[SPIFFE_TRUST_DOMAIN_MAX + 1];
	char url[FETCH_URL_MAX + 1];
	char endpoint_id[SPIFFE_ID_MAX + 1];
	char by[FEDERATION_BY_MAX + 1];
	enum federation_profile profile;
	enum federation_state state;
	int64_t added_ms, fetched_ms;
	bool has_sequence, busy;
	uint64_t sequence, attempts;
	uint32_t refresh_s;
	unsigned failures;
	size_t authorities, jwt_keys;
	char failed[400], warned[400]; /* "" : nothing to say */
};

struct federation_standing {
	struct shared shared;
	size_t n;
	struct federation_report *peers;
};

/* With a reference: release it. NULL: none yet. */
struct federation_standing *federation_standing(struct control *c);

/* One sentence on what is wrong with @p, or "" if nothing is. */
const char *federation_trouble(const struct federation_report *p, char out[static 700]);

#endif
