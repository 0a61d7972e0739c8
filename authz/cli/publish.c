/* audit publish: the log as a folder of tiles, from the data folder on this machine. */
#include "authz/audit/publish.h"

#include <inttypes.h>

#include "authz/cli/api.h"
#include "authz/cli/commands.h"

int run_audit_publish(struct cli *c)
{
	struct publish_options o = { .to = c->operands[0], .entries = cli_flag(c, "--entries") };
	struct publish_report r;
	struct config *config = NULL;
	struct err e = { 0 };
	bool ok;

	if (!api_config(c, &config, &e))
		return cli_fail(c, &e);
	o.folder = config->data;
	ok = publish(&o, &r, &e);
	config_free(config);
	if (!ok)
		return cli_fail(c, &e);
	if (c->json)
		fprintf(c->out,
			"{\"before\":%" PRIu64 ",\"size\":%" PRIu64 ",\"there\":%" PRIu64
			",\"written\":%" PRIu64 "}\n",
			r.before, r.size, r.there, r.written);
	else
		fprintf(c->out,
			"published %" PRIu64 " records (%" PRIu64 " before) in %s: %" PRIu64
			" files written, %" PRIu64 " were there\n",
			r.size, r.before, o.to, r.written, r.there);
	return CLI_DONE;
}
