/*
 * desk - the rig with a signer and a control thread's state, whose acts a test carries out itself.
 *
 * Purpose    Acts of administrators on the test's own thread: no queue, no waiting, a clock that
 *            stands still.
 * Threads    The test's own.
 */
#ifndef TESTS_DECIDE_DESK_H
#define TESTS_DECIDE_DESK_H

#include "authz/decide/control.h"
#include "tests/decide/rig.h"

struct desk {
	struct rig rig;
	struct signer *signer;
	struct signer_public public;
	struct slot certificate;
	struct control *control;
	char dir[96], db[128], policies[128], keys[128];
	struct str spki;
	/* A test that expects to lose writ.db makes this pipe: one byte for each time the control
	 * thread gives it up. */
	int lost[2];
};

void desk_open(struct desk *d);
void desk_close(struct desk *d);

/* What a restart does: all of writ.db's users go, and it is read anew. Takes one of the signer's 64
 * channels. */
void desk_reopen(struct desk *d);

/* How many records from @from on hold both texts. */
int desk_records(struct desk *d, uint64_t from, const char *one, const char *two);

#endif
