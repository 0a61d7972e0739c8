/* What crosses the channel of the signer, and what comes back from disk. A request that is read
 * says the same when it is written again, byte for byte; a chain is cut into parts that add up;
 * nothing opens that was not sealed. */
#include <stdlib.h>

#include "spiffe/signer_seal.h"
#include "spiffe/signer_wire.h"
#include "spiffe/x509_svid.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void request(struct str in)
{
	struct signer_job j;
	struct buf out;
	struct str body;

	if (in.n == 0 || in.n > SIGNER_FRAME_MAX || !wire_job(in, &j))
		return;
	buf_init(&out, mem_system, 2 * SIGNER_FRAME_MAX);
	if (!wire_put_job(&out, &j) || wire_frame(buf_str(&out), &body) <= 0 || !str_eq(body, in))
		abort();
	buf_clear(&out);
}

static void chain(struct str in)
{
	struct str rest = in, der;
	size_t sum = 0;

	while (x509_chain_next(&rest, &der)) {
		if (der.n < 2 || der.p != in.p + sum)
			abort();
		sum += der.n;
	}
	if (sum + rest.n != in.n)
		abort();
}

static void sealed(struct str in)
{
	const struct seal seal = { .key = { 7 } };
	struct signer_made made;
	struct signer_made_log log;
	struct buf plain;
	struct err e = { 0 };

	buf_init(&plain, mem_system, 1 << 17);
	if (seal_break(&seal, STR("x509-00"), in, &plain, &e) || !e.msg[0])
		abort();
	buf_clear(&plain);
	if (signer_made_log_read(in, &log, &e) && (!log.sealed.n || log.sealed.n > in.n))
		abort();
	if (signer_made_read(in, &made, &e) && (made.id.n == 0 || made.id.n > AUTHORITY_ID_MAX))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };

	request(in);
	chain(in);
	sealed(in);
	return 0;
}
