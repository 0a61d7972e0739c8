/* writ's HTTP surface, all of it. Roles: one of those named opens the route; 0 is open to all. */
#include "authz/server/handlers.h"

#define BOTH (SIDE_AGENTS | SIDE_OPERATORS)
#define GRPC (SIDE_AGENTS | ROUTE_GRPC)
#define ANYBODY (ROUTE_OPEN_LOCALLY - 1) /* with a role at all */
/* A proxy: Authorization is the header of the request it asks about. */
#define BY_TRANSPORT (ROLE_PEP | ROLE_AGENT | ROUTE_BY_TRANSPORT)
#define READS_LOG (ROLE_AUDITOR | ROLE_ADMIN)
#define READS_TOOLS (ROLE_ADMIN | ROLE_APPROVER | ROLE_AUDITOR)
#define READS_METRICS (ROLE_METRICS | ROLE_ADMIN | ROLE_AUDITOR)

const struct route routes[] = {
	/* the agents' door */
	{ "POST", "/access/v1/evaluation", SIDE_AGENTS, ANYBODY, handle_evaluation },
	{ "POST", "/access/v1/evaluations", SIDE_AGENTS, ANYBODY, handle_evaluations },
	{ "POST", "/access/v1/search/subject", SIDE_AGENTS, ANYBODY, handle_search_subject },
	{ "POST", "/access/v1/search/resource", SIDE_AGENTS, ANYBODY, handle_search_resource },
	{ "POST", "/access/v1/search/action", SIDE_AGENTS, ANYBODY, handle_search_action },
	{ ANY_METHOD, "/ext-authz/*", SIDE_AGENTS, BY_TRANSPORT, handle_ext_authz },
	{ "GET", "/.well-known/authzen-configuration", SIDE_AGENTS, 0, handle_authzen_metadata },
	{ "GET", "/.well-known/authzen-configuration/*", SIDE_AGENTS, 0, handle_authzen_metadata },
	{ "POST", "/v1/attest", SIDE_AGENTS, 0, handle_attest },
	{ "POST", "/v1/attest/challenge", SIDE_AGENTS, 0, handle_attest_challenge },
	{ "POST", "/v1/svid/x509", SIDE_AGENTS, ANYBODY, handle_svid_x509 },
	{ "POST", "/v1/svid/jwt", SIDE_AGENTS, ANYBODY, handle_svid_jwt },
	/* Open to the router: who the client is, and how it is refused, is OAuth's to say. */
	{ "POST", "/oauth2/token", SIDE_AGENTS, 0, handle_oauth_token },
	{ "POST", "/oauth2/introspect", SIDE_AGENTS, 0, handle_oauth_introspect },
	{ "POST", "/oauth2/revoke", SIDE_AGENTS, 0, handle_oauth_revoke },
	{ "GET", "/.well-known/oauth-authorization-server", SIDE_AGENTS | SIDE_WEB, 0,
	  handle_oauth_metadata },
	{ "GET", "/.well-known/oauth-authorization-server/*", SIDE_AGENTS | SIDE_WEB, 0,
	  handle_oauth_metadata },
	{ "GET", "/bundle", SIDE_AGENTS | SIDE_WEB, 0, handle_bundle },
	{ "GET", "/keys", SIDE_AGENTS | SIDE_WEB, 0, handle_keys },
	{ "GET", "/.well-known/openid-configuration", SIDE_AGENTS | SIDE_WEB, 0,
	  handle_openid_configuration },

	{ "POST", "/witness/add-checkpoint", BOTH | SIDE_WEB, 0, handle_witness_add },
	{ "GET", "/witness/*", BOTH | SIDE_WEB, 0, handle_witness_last },

	/* gRPC */
	{ "POST", "/envoy.service.auth.v3.Authorization/Check", GRPC,
	  ROLE_PEP | ROLE_AGENT | ROUTE_DENIES, handle_ext_authz_grpc },
	{ "POST", "/agentgateway.dev.ext_mcp.ExtMcp/CheckRequest", GRPC, ROLE_PEP | ROUTE_DENIES,
	  handle_ext_mcp },
	{ "POST", "/agentgateway.dev.ext_mcp.ExtMcp/CheckResponse", GRPC, ROLE_PEP | ROUTE_DENIES,
	  handle_ext_mcp },
	{ "POST", "/envoy.service.ext_proc.v3.ExternalProcessor/Process", GRPC,
	  ROLE_PEP | ROUTE_DENIES, handle_ext_proc },
	{ "POST", "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs", GRPC, ROLE_PEP,
	  handle_access_log },
	{ "POST", "/grpc.health.v1.Health/Check", GRPC | SIDE_WORKLOAD, 0, handle_health_check },
	{ "POST", "/grpc.health.v1.Health/Watch", GRPC | SIDE_WORKLOAD, 0, handle_health_watch },

	/* both */
	{ "GET", "/livez", BOTH, 0, handle_livez },
	{ "GET", "/readyz", BOTH, 0, handle_readyz },
	{ "GET", "/version", BOTH, 0, handle_version },

	/* the operators' door */
	{ "GET", "/metrics", SIDE_OPERATORS, READS_METRICS | ROUTE_OPEN_LOCALLY, handle_metrics },
	{ "GET", "/v1/agents", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR, handle_agents_list },
	{ "POST", "/v1/agents", SIDE_OPERATORS, ROLE_ADMIN, handle_agents_register },
	{ "POST", "/v1/agents/update", SIDE_OPERATORS, ROLE_ADMIN, handle_agents_update },
	{ "POST", "/v1/agents/suspend", SIDE_OPERATORS, ROLE_ADMIN, handle_agents_suspend },
	{ "POST", "/v1/agents/resume", SIDE_OPERATORS, ROLE_ADMIN, handle_agents_resume },
	{ "POST", "/v1/agents/retire", SIDE_OPERATORS, ROLE_ADMIN, handle_agents_retire },
	{ "POST", "/v1/agents/import", SIDE_OPERATORS, ROLE_ADMIN, handle_agents_import },
	{ "POST", "/v1/agents/token", SIDE_OPERATORS, ROLE_ADMIN, handle_agents_token },
	{ "POST", "/v1/delegations/revoke", SIDE_OPERATORS, ROLE_ADMIN, handle_delegations_revoke },
	{ "GET", "/v1/federation", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR,
	  handle_federation_list },
	{ "POST", "/v1/federation", SIDE_OPERATORS, ROLE_ADMIN, handle_federation_add },
	{ "POST", "/v1/federation/remove", SIDE_OPERATORS, ROLE_ADMIN, handle_federation_remove },
	{ "POST", "/v1/federation/refresh", SIDE_OPERATORS, ROLE_ADMIN, handle_federation_refresh },
	{ "GET", "/v1/policies", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR, handle_policies },
	{ "POST", "/v1/policies", SIDE_OPERATORS, ROLE_ADMIN, handle_policies_apply },
	{ "POST", "/v1/policies/activate", SIDE_OPERATORS, ROLE_ADMIN, handle_policies_activate },
	{ "GET", "/v1/policies/generations", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR,
	  handle_generations },
	{ "GET", "/v1/policies/generation", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR,
	  handle_generation },
	{ "GET", "/v1/rollouts", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR, handle_rollouts },
	{ "POST", "/v1/rollouts", SIDE_OPERATORS, ROLE_ADMIN, handle_rollouts_start },
	{ "GET", "/v1/rollouts/*", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR, handle_rollout },
	{ "POST", "/v1/rollouts/*", SIDE_OPERATORS, ROLE_ADMIN, handle_rollout_act },
	{ "GET", "/v1/policies/who", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR, handle_reach_who },
	{ "GET", "/v1/policies/what", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR,
	  handle_reach_what },
	{ "GET", "/v1/tools", SIDE_OPERATORS, READS_TOOLS, handle_tools },
	{ "GET", "/v1/tools/show", SIDE_OPERATORS, READS_TOOLS, handle_tool },
	{ "POST", "/v1/tools/accept", SIDE_OPERATORS, ROLE_ADMIN | ROLE_APPROVER,
	  handle_tool_accept },
	{ "POST", "/v1/tools/withdraw", SIDE_OPERATORS, ROLE_ADMIN | ROLE_APPROVER,
	  handle_tool_withdraw },
	{ "GET", "/v1/authorities", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR, handle_authorities },
	{ "POST", "/v1/authorities/prepare", SIDE_OPERATORS, ROLE_ADMIN, handle_authority_prepare },
	{ "POST", "/v1/authorities/activate", SIDE_OPERATORS, ROLE_ADMIN,
	  handle_authority_activate },
	{ "POST", "/v1/authorities/taint", SIDE_OPERATORS, ROLE_ADMIN, handle_authority_taint },
	{ "POST", "/v1/authorities/revoke", SIDE_OPERATORS, ROLE_ADMIN, handle_authority_revoke },
	{ "GET", "/v1/audit/records", SIDE_OPERATORS, READS_LOG, handle_records },
	{ "GET", "/v1/audit/record", SIDE_OPERATORS, READS_LOG, handle_record },
	{ "POST", "/v1/audit/reindex", SIDE_OPERATORS, ROLE_ADMIN, handle_reindex },
	{ "GET", "/v1/audit/export", SIDE_OPERATORS, READS_LOG, handle_export },
	{ "POST", "/v1/audit/checkpoint", SIDE_OPERATORS, READS_LOG, handle_checkpoint },
	{ "GET", "/v1/audit/proof", SIDE_OPERATORS, READS_LOG, handle_proof },
	{ "GET", "/tile/*", SIDE_OPERATORS, READS_LOG, handle_tile },
	{ "GET", "/checkpoint", SIDE_OPERATORS, READS_LOG, handle_last_checkpoint },
	/* PEPs are where decisions are; those who operate writ may be PEPs as well. */
	{ "POST", "/v1/audit/outcome", BOTH, ROLE_PEP, handle_outcome },
	{ "POST", "/v1/usage", BOTH, ROLE_PEP, handle_usage },
	{ "GET", "/v1/audit/open", SIDE_OPERATORS, READS_LOG, handle_open },
	{ "POST", "/v1/audit/redact", SIDE_OPERATORS, ROLE_ADMIN, handle_redact },
	{ "GET", "/v1/audit/holds", SIDE_OPERATORS, READS_LOG, handle_holds },
	{ "POST", "/v1/audit/holds", SIDE_OPERATORS, ROLE_ADMIN, handle_hold_add },
	{ "POST", "/v1/audit/holds/remove", SIDE_OPERATORS, ROLE_ADMIN, handle_hold_remove },
	{ "GET", "/v1/audit/key", SIDE_OPERATORS, READS_LOG, handle_log_key },
	{ "POST", "/v1/audit/key/rotate", SIDE_OPERATORS, ROLE_ADMIN, handle_log_key_rotate },
	{ "GET", "/v1/audit/prune", SIDE_OPERATORS, READS_LOG, handle_prune_plan },
	{ "POST", "/v1/audit/prune", SIDE_OPERATORS, ROLE_ADMIN, handle_prune },
	{ "POST", "/v1/audit/timestamp", SIDE_OPERATORS, ROLE_ADMIN, handle_timestamp },
	{ "GET", "/v1/audit/witnesses", SIDE_OPERATORS, READS_LOG, handle_witnesses },
	{ "GET", "/v1/status", SIDE_OPERATORS, READS_METRICS, handle_status },
	{ "GET", "/v1/doctor", SIDE_OPERATORS, ROLE_ADMIN | ROLE_AUDITOR, handle_doctor },
};
const size_t route_count = ARRAY_LEN(routes);
