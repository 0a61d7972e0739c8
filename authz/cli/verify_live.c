/* audit verify --server: the log as the server exports it now. */
#include "authz/cli/api.h"
#include "authz/cli/commands.h"
#include "authz/cli/verify.h"

static bool feed(void *ctx, struct str bytes, struct err *e)
{
	(void)e;
	verifier_feed(ctx, bytes);
	return true;
}

/* --key is the log's here, so the key of our own certificate has a name of its own. */
static bool live(struct cli *c, struct verifier *v, struct err *e)
{
	const struct client_request q = {
		.method = "GET", .path = "/v1/audit/export", .sink = feed, .ctx = v
	};
	const struct client_tls tls = { .svid = cli_value(c, "--svid"),
					.key = cli_value(c, "--svid-key"),
					.bundle = cli_value(c, "--bundle") };
	struct target t;
	AUTO_REPLY r = { 0 };

	return target_parse(cli_value(c, "--server"), &t, e) && client_ask(&t, &tls, &q, &r, e);
}

int run_audit_verify(struct cli *c)
{
	return verify_command(c, live);
}
