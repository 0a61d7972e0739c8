/*
 * The parts behind the doors: the signer, what all who decide share, the log, control. Each is
 * made from the settings and started here, with what it calls back.
 */
#include "authz/serving.h"

#include <stdlib.h>
#include <unistd.h>

#include "authz/audit/index.h"
#include "authz/audit/sink.h"
#include "authz/base/log.h"
#include "authz/decide/control.h"
#include "authz/setup.h"
#include "authz/witnesses.h"
#include "spiffe/registry.h"

#define LIMIT_KEYS_AGENTS 65536
#define LIMIT_KEYS_ADDRESSES 16384

/* log.db or writ.db: whatever is done without them would be undone by the next start. */
static void storage_is_lost(void *ctx, const struct err *e)
{
	struct serving *s = ctx;

	log_event(LOG_ERROR, "storage.lost",
		  "why=\"%s\" next=\"writ stops; check the disk and start it again\"", e->msg);
	(void)!write(s->wake[1], "!", 1);
}

bool serving_open_folder(struct serving *s, struct err *e)
{
	if (!folder_open(NULL, s->config->data, &s->folder, e))
		return false;
	s->has_folder = true;
	return true;
}

/* How long things live. Whoever configures a longer life than the signer's usual bound raises it;
 * registrations cannot. */
void serving_fill_ttls(struct core *core, const struct config *c)
{
	core->x509_ttl = c->ttl.x509_s;
	core->jwt_ttl = c->ttl.jwt_s;
	core->x509_ttl_max = c->ttl.x509_s > SIGNER_X509_TTL_MAX_S ? c->ttl.x509_s
								   : SIGNER_X509_TTL_MAX_S;
	core->jwt_ttl_max = c->ttl.jwt_s > SIGNER_JWT_TTL_MAX_S ? c->ttl.jwt_s
								: SIGNER_JWT_TTL_MAX_S;
	core->delegated_ttl = c->delegation.ttl_s;
	core->delegation_depth = c->delegation.depth;
	core->join_token_ttl = c->ttl.join_token_s;
	core->leeway_s = c->ttl.leeway_s;
	core->orphan_ms = c->registry.orphan_s * 1000;
	core->token_max = c->limits.token;
}

/* Empty without memory: the signer then signs none. */
static struct str token_issuer(struct serving *s)
{
	const char *given = s->config->delegation.issuer;

	return given ? str_c(given)
		     : arena_printf(&s->arena, "spiffe://%s" SPIFFE_SERVER_PATH,
				    s->config->trust_domain);
}

bool serving_start_signer(struct serving *s, struct err *e)
{
	char *keys = folder_path(&s->folder, "keys");
	struct signer_config c = { .folder = keys,
				   .trust_domain = str_c(s->config->trust_domain),
				   .issuer = str_c(s->config->jwt.issuer),
				   .token_issuer = token_issuer(s),
				   .x509_ttl_max_s = s->core.x509_ttl_max,
				   .jwt_ttl_max_s = s->core.jwt_ttl_max,
				   .authority_ttl_s = s->config->ttl.authority_s,
				   .channels = (unsigned)s->nloops + 2,
				   .witness = s->config->witness.logs.n > 0 };
	bool ok = (keys || err_set(e, ERR_NOMEM, "no memory")) &&
		  setup_keys(s->config, getenv("CREDENTIALS_DIRECTORY"), &s->arena, &c, e) &&
		  signer_start(&c, &s->signer, e);

	free(keys);
	if (!ok)
		return false;
	s->log_signer = signer_client_new(s->signer, e);
	return s->log_signer != NULL;
}

/* A sixteenth of the log's queue for what access logs report, shared by the fronts. */
static void fill_access_log(const struct serving *s, struct core *core)
{
	const struct config *c = s->config;

	core->usage_keys = (struct usage_keys){ .space = str_c(c->access_log.namespace),
						.input = str_c(c->access_log.input_tokens),
						.output = str_c(c->access_log.output_tokens) };
	if (c->access_log.cost_micros)
		core->usage_keys.cost = str_c(c->access_log.cost_micros);
	core->reports_max = c->limits.queue / 16 / s->nfronts + 1;
}

bool serving_fill_core(struct serving *s, struct err *e)
{
	const struct config_limits *l = &s->config->limits;
	struct core *core = &s->core;
	struct caller_rules *callers;
	struct bundle_set *bundle;

	core->clock = &clock_system;
	core->trust_domain = str_c(s->config->trust_domain);
	core->issuer = str_c(s->config->jwt.issuer);
	core->server_id = arena_printf(&s->arena, "spiffe://%s" SPIFFE_SERVER_PATH,
				       s->config->trust_domain);
	core->token_issuer = token_issuer(s);
	core->json = (struct json_limits){
		.string = l->string, .depth = l->depth, .members = l->members, .values = l->values
	};
	fill_access_log(s, core);
	core->decision_ns = (int64_t)l->decision_ms * 1000000;
	random_bytes(core->search_key, sizeof(core->search_key));
	core->agent_limit = limit_new(l->agent_rate, l->agent_burst, LIMIT_KEYS_AGENTS, e);
	core->attest_limit = core->agent_limit ? limit_new(l->attest_rate, l->attest_burst,
							   LIMIT_KEYS_ADDRESSES, e)
					       : NULL;
	if (!core->attest_limit || !core->server_id.p || !core->token_issuer.p)
		return err_set(e, ERR_NOMEM, "no memory for the limits");
	if (!setup_mask(s->config, &s->arena, &core->mask, e))
		return false;
	callers = setup_callers(s->config, e);
	if (!callers)
		return false;
	slot_publish(&core->callers, &callers->shared);
	bundle = setup_bundle(s->config, signer_public(s->signer), e);
	if (!bundle)
		return false;
	slot_publish(&core->bundles, &bundle->shared);
	return true;
}

bool serving_open_log(struct serving *s, struct err *e)
{
	struct str origin = arena_printf(&s->arena, "%s/writ", s->config->trust_domain);
	struct audit_config c = { .folder = s->folder.path,
				  .origin = origin.p,
				  .node = s->config->node,
				  .queue = s->config->limits.queue,
				  .checkpoint_ms = s->config->audit.checkpoint_ms,
				  .clock = &clock_system,
				  .sign = log_key_sign,
				  .hand_over = log_key_hand_over,
				  .switch_key = log_key_switch,
				  .ctx = s,
				  .fatal = storage_is_lost };
	struct audit_status status;

	memcpy(c.public_key, signer_public(s->signer)->log_key, sizeof(c.public_key));
	memcpy(c.next_key, signer_public(s->signer)->next_log_key, sizeof(c.next_key));
	if (!origin.p)
		return err_set(e, ERR_NOMEM, "no memory");
	if (!audit_open(&c, &s->core.audit, e))
		return false;
	audit_status(s->core.audit, &status);
	memcpy(s->core.log_key_id, status.log_key_id, sizeof(s->core.log_key_id));
	return true;
}

bool serving_open_index(struct serving *s, struct err *e)
{
	const struct index_config c = { .folder = s->folder.path };

	return index_open(&c, &s->service.index, e);
}

static void sink_changed(void *ctx, const char *name, const struct err *why)
{
	(void)ctx;
	if (why)
		log_event(
			LOG_WARN, "audit.sink",
			"name=%s why=\"%s\" effect=\"records wait in the log and are sent later\"",
			name, why->msg);
	else
		log_event(LOG_INFO, "audit.sink", "name=%s effect=\"it takes records again\"",
			  name);
}

bool serving_start_sinks(struct serving *s, struct err *e)
{
	struct sinks_config c = {
		.folder = s->folder.path,
		.origin = arena_printf(&s->arena, "%s/writ", s->config->trust_domain).p,
		.items = s->config->audit.sinks.items,
		.n = s->config->audit.sinks.n,
		.ca_file = s->config->fetch.ca_file,
		.clock = &clock_system,
		.say = sink_changed,
	};

	if (!c.n)
		return true;
	return c.origin ? sinks_open(&c, &s->service.sinks, e)
			: err_set(e, ERR_NOMEM, "no memory for the sinks");
}

bool serving_start_control(struct serving *s, struct err *e)
{
	char *db = folder_path(&s->folder, "writ.db");
	struct str *names = arena_zero(&s->arena, (s->config->tls.san.nnames + 1) * sizeof(*names));
	struct control_config c = {
		.core = &s->core,
		.db_path = db,
		.policies = s->config->policies.dir,
		.policy_keys = s->config->policies.key,
		.watch = s->config->policies.watch,
		.files_only = s->config->policies.files_only,
		.limits = { s->config->limits.policy_instructions, s->config->limits.policy_ms,
			    s->config->limits.policy_memory },
		.attest = setup_attest(s->config, &s->arena),
		.registry_require = setup_require(s->config),
		.registry_max = s->config->registry.max_entries,
		.signer = s->signer,
		.certificate = &s->certificate,
		.names = names,
		.nnames = s->config->tls.san.nnames,
		.fatal = storage_is_lost,
		.ctx = s,
		.authorities = { .data = s->folder.path,
				 .ttl_s = s->config->ttl.authority_s,
				 .x509_ttl_max_s = s->core.x509_ttl_max,
				 .jwt_ttl_max_s = s->core.jwt_ttl_max,
				 .wit = s->config->workload.wit,
				 .leeway_s = s->core.leeway_s,
				 .upstream_bundle = s->config->authority.bundle }
	};
	struct control *control = NULL;
	bool ok;

	c.witness = witnesses_of(s->config, signer_public(s->signer)->witness_key, &s->arena, e);
	if (!c.witness && e->class != ERR_NONE) {
		free(db);
		return false;
	}
	for (size_t kind = 0; kind < ARRAY_LEN(s->config->authority.pkcs11.uris); kind++) {
		c.authorities.has_token[kind] = s->config->authority.pkcs11.uris[kind] != NULL;
		c.authorities.token[kind] = c.authorities.has_token[kind] &&
					    !s->config->authority.pkcs11.leave;
	}
	c.federation = (struct federation_settings){ s->config->fetch.ca_file,
						     s->config->fetch.private_ok,
						     s->config->federation.keep_s };
	for (size_t i = 0; names && i < s->config->tls.san.nnames; i++)
		names[i] = str_c(s->config->tls.san.names[i]);
	ok = db && names && c.attest ? control_open(&c, &control, e)
				     : err_set(e, ERR_NOMEM, "no memory");
	free(db);
	return ok && control_start(control, e) &&
	       witnesses_start(s->config, s->folder.path, s->core.audit, &s->arena,
			       &s->service.cosigner, e);
}
