/*
 * Proofs, policies and names of tiles: what is accepted is written again as it was; nothing holds
 * without a key, nor with one for a record that is none.
 */
#include <stdint.h>
#include <stdlib.h>

#include "authz/audit/proof.h"
#include "authz/audit/tile_path.h"
#include "authz/audit/verify.h"
#include "authz/audit/witness.h"

static void proof(struct str in)
{
	struct verify_options o = { 0 };
	struct verify_report r;
	struct proof_file p;
	struct buf out;
	struct err e;

	buf_init(&out, mem_system, 1 << 20);
	if (proof_file_parse(in, &p, &e)) {
		proof_file_format(&p, &out);
		if (!str_eq(buf_str(&out), in))
			abort();
	}
	if (!verify_proof(in, (struct str){ 0 }, &o, &r, &e) || r.result == VERIFY_HOLDS)
		abort();
	o.vkey = STR("writ.example/audit+f7ad3804+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4");
	if (!verify_proof(in, STR("{}"), &o, &r, &e) || r.result == VERIFY_HOLDS)
		abort();
	buf_clear(&out);
}

static void policy(struct str in)
{
	static const char *const notes[] = {
		"writ.example/audit\n8\nXcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=\n\n"
		"\xe2\x80\x94 w1 IDJKvgAAAABlU/EA+7wsEYTc5xrXKrSM94s2WHA9sJ4uCwvLGpwFXMki"
		"F/LxfSbnaQbOgmBtfRSEckmE8OLnYYySL2rzjdQsreAFBQ==\n",
	};
	struct witness_policy p;
	struct note n;
	uint64_t at;
	struct err e;

	if (!witness_policy_parse(in, &p, &e))
		return;
	if (!note_parse(str_c(notes[0]), &n, &e))
		abort();
	/* Nobody's key is w1's: a quorum cannot be met. */
	if (witness_policy_met(&p, &n, &at, &e) && p.quorum >= 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };
	char path[TILE_PATH_MAX];
	struct tile t;

	proof(in);
	policy(in);
	if (tile_path_parse(in, &t) && !str_eq(in, (struct str){ path, tile_path(&t, path) }))
		abort();
	return 0;
}
