/*
 * handlers - what stands behind the rows of the routing table.
 *
 * Purpose    One function per row of authz/server/routes.c; each answers its request once.
 */
#ifndef WRIT_SERVER_HANDLERS_H
#define WRIT_SERVER_HANDLERS_H

#include "authz/server/router.h"

/* authzen.c */
void handle_evaluation(struct request *r);

/* authzen_batch.c */
void handle_evaluations(struct request *r);

/* authzen_search.c */
void handle_search_subject(struct request *r);
void handle_search_resource(struct request *r);
void handle_search_action(struct request *r);

/* authzen_metadata.c */
void handle_authzen_metadata(struct request *r);

/* ext_authz.c */
void handle_ext_authz(struct request *r);
void handle_ext_authz_grpc(struct request *r);
void handle_ext_mcp(struct request *r);
void handle_ext_proc(struct request *r);
void handle_access_log(struct request *r);
/* Fill the reply with the denial of a route with ROUTE_DENIES. */
void ext_authz_refuse(const struct site *site, struct call *c, const struct err *e);

/* identity.c */
void handle_attest(struct request *r);
void handle_attest_challenge(struct request *r);
void handle_svid_x509(struct request *r);
void handle_svid_jwt(struct request *r);

/* oauth.c */
void handle_oauth_token(struct request *r);
/* oauth_tokens.c */
void handle_oauth_introspect(struct request *r);
void handle_oauth_revoke(struct request *r);
void handle_oauth_metadata(struct request *r);
void handle_delegations_revoke(struct request *r);

/* trust.c */
void handle_bundle(struct request *r);
void handle_keys(struct request *r);
void handle_openid_configuration(struct request *r);

/* agents.c */
void handle_agents_list(struct request *r);
void handle_agents_register(struct request *r);
void handle_agents_update(struct request *r);
void handle_agents_suspend(struct request *r);
void handle_agents_resume(struct request *r);
void handle_agents_retire(struct request *r);
void handle_agents_token(struct request *r);

/* federation.c */
void handle_federation_list(struct request *r);
void handle_federation_add(struct request *r);
void handle_federation_remove(struct request *r);
void handle_federation_refresh(struct request *r);
/* Its part of /readyz (never a failure: what others serve is not our readiness), /metrics and
 * /v1/doctor. */
void federation_add_check(struct request *r, struct buf *b);
void federation_add_metrics(struct request *r, struct buf *b);
void federation_add_findings(struct request *r, struct buf *b);

/* issuer_keys.c */
void issuer_keys_add_status(struct request *r, struct buf *b);
void issuer_keys_add_check(struct request *r, struct buf *b);
void issuer_keys_add_metrics(struct request *r, struct buf *b);
void issuer_keys_add_findings(struct request *r, struct buf *b);
/* agents_import.c */
void handle_agents_import(struct request *r);

/* policies.c */
void handle_policies(struct request *r);
struct rules_listing {
	struct buf *b;
	bool first;
};
/* For policy_set_rules, with a struct rules_listing: one rule as an object. */
void add_rule_json(void *ctx, struct str policy, struct str rule, const char *effect,
		   struct str file, int line, struct str on);
void put_etag(struct request *r, const uint8_t hash[static 32]);

/* generations.c */
void handle_policies_apply(struct request *r);
void handle_policies_activate(struct request *r);
void handle_generations(struct request *r);
void handle_generation(struct request *r);

/* For those who change policies. Is every member of @body one of @known (NULL-terminated)? A
 * misspelt one would be a silent default. False: refused and answered. */
bool members_only(struct request *r, const struct json *body, const char *const *known);
/* If-Match (RFC 9110 13.1.1) with one strong tag, as GET /v1/policies gave it; "*" is any. */
bool read_if_match(struct request *r, struct str *hash, struct err *e);
/* [{"path":...,"text":...},...] */
bool read_files(const struct json *list, struct arena *a, struct policy_sources *out,
		struct err *e);
/* The signature that stands beside them in the same @body, if there is one. */
bool read_signature(const struct json *body, struct policy_sources *out, struct err *e);
/* "findings":[...] */
void add_findings(struct buf *b, const struct policy_findings *f);
#define MESSAGE_MAX 4096 /* bytes of what an act is said to be for */

/* rollouts.c */
void handle_rollouts(struct request *r);
void handle_rollouts_start(struct request *r);
void handle_rollout(struct request *r);
void handle_rollout_act(struct request *r);

/* rollouts_write.c */
struct rollout_row;
struct rollout_report;
/* Members of an object, without its braces. */
void add_rollout(struct buf *b, const struct rollout_row *row);
void add_compared(struct buf *b, const struct rollout_report *report, const char *log_key_id);
/* The roll-out that runs: a member of the status, and metrics. */
void add_rollout_status(struct buf *b, struct request *r);
void add_rollout_metrics(struct buf *b, struct request *r);
/* reach.c */
void handle_reach_who(struct request *r);
void handle_reach_what(struct request *r);
/* tools.c */
void handle_tools(struct request *r);
void handle_tool(struct request *r);
void handle_tool_accept(struct request *r);
void handle_tool_withdraw(struct request *r);
/* tools_observe.c */
void handle_tools_observe(struct request *r);
/* Their part of /metrics and /v1/doctor. */
void tools_add_metrics(struct request *r, struct buf *b);
void tools_add_findings(struct request *r, struct buf *b);
/* authorities.c */
void handle_authorities(struct request *r);
void handle_authority_prepare(struct request *r);
void handle_authority_activate(struct request *r);
void handle_authority_taint(struct request *r);
void handle_authority_revoke(struct request *r);
/* Their part of /v1/status, /metrics and /v1/doctor (false: nothing to find). */
void add_authority_status(struct buf *b, struct request *r);
void add_authority_metrics(struct buf *b, struct request *r);
bool authority_finding(struct request *r, struct buf *message);

/* log.c */
struct audit_filter;
/* A number of the query; *given tells whether it is there. */
bool query_u64(struct request *r, const char *name, uint64_t max, uint64_t *out, bool *given,
	       struct err *e);
/* agent, decision, kind, since, until, from, to. */
bool query_log_filter(struct request *r, struct audit_filter *f, struct err *e);
void handle_records(struct request *r);
/* records.c */
void handle_records(struct request *r);
void handle_record(struct request *r);
void handle_reindex(struct request *r);
/* The index: a member of the status, and metrics. */
void add_index_status(struct buf *b, struct request *r);
void add_index_metrics(struct buf *b, struct request *r);

/* log.c */
/* A query parameter as a number up to @max. False: refused, e is set. */
bool query_u64(struct request *r, const char *name, uint64_t max, uint64_t *out, bool *given,
	       struct err *e);
/* As RFC 3339 in UTC, or milliseconds since 1970. Absent: *ms stays. */
bool query_time(struct request *r, const char *name, int64_t *ms, struct err *e);
void handle_export(struct request *r);
void handle_checkpoint(struct request *r);
void handle_log_key(struct request *r);
void handle_log_key_rotate(struct request *r);
void handle_prune_plan(struct request *r);
void handle_prune(struct request *r);

/* sinks.c: their part of /v1/status, /metrics and /v1/doctor. */
void sinks_add_status(struct request *r, struct buf *b);
void sinks_add_metrics(struct request *r, struct buf *b);
void sinks_add_findings(struct request *r, struct buf *b);

/* export.c */
void handle_export(struct request *r);
/* outcome.c */
void handle_outcome(struct request *r);
void handle_usage(struct request *r);
void handle_open(struct request *r);

/* redact.c */
void handle_redact(struct request *r);
void handle_holds(struct request *r);
void handle_hold_add(struct request *r);
void handle_hold_remove(struct request *r);

/* grpc_health.c */
void handle_health_check(struct request *r);
void handle_health_watch(struct request *r);
/* proofs.c */
void handle_proof(struct request *r);
void handle_tile(struct request *r);
void handle_last_checkpoint(struct request *r);

/* timestamp.c */
void handle_timestamp(struct request *r);
/* identity.c: the peer's address without its port, as a key of limits. */
struct str peer_host(const struct peer *p);
/* witness.c */
void handle_witness_add(struct request *r);
void handle_witness_last(struct request *r);
void handle_witnesses(struct request *r);
/* Their part of /v1/status (members of an object), /metrics and /v1/doctor. */
void witness_add_status(struct request *r, struct buf *b);
void witness_add_metrics(struct request *r, struct buf *b);
void witness_add_findings(struct request *r, struct buf *b);
/* Append ,"witness_vkey":"..." if we are a witness. */
void witness_add_key(struct request *r, struct buf *b);

/* health.c */
/* Is it ready, as /readyz says? @each (or NULL) is told of every check, and why if it fails. */
bool health_ready(struct request *r,
		  void (*each)(void *ctx, const char *name, bool ok, const char *why), void *ctx);
void handle_livez(struct request *r);
void handle_readyz(struct request *r);
void handle_version(struct request *r);
void handle_metrics(struct request *r);
void handle_status(struct request *r);
void handle_doctor(struct request *r);

#endif
