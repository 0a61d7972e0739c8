/*
 * commands - the functions behind the table of commands, one subject per file.
 *
 * Purpose    Each takes what the parser read, does its work, prints, and returns the exit code.
 */
#ifndef WRIT_CLI_COMMANDS_H
#define WRIT_CLI_COMMANDS_H

#include "authz/cli/command.h"

/* service.c */
int run_serve(struct cli *c);
int run_status(struct cli *c);
int run_version(struct cli *c);
int run_evaluate(struct cli *c);
/* init.c, doctor.c */
int run_init(struct cli *c);
int run_doctor(struct cli *c);
/* agent.c, import.c */
int run_agent_register(struct cli *c);
int run_agent_list(struct cli *c);
int run_agent_show(struct cli *c);
int run_agent_update(struct cli *c);
int run_agent_state(struct cli *c); /* suspend, resume, retire */
int run_agent_token(struct cli *c);
int run_agent_import(struct cli *c);
/* authority.c */
int run_authority_show(struct cli *c);
int run_authority_prepare(struct cli *c);
int run_authority_change(struct cli *c); /* activate, taint, revoke */
int run_agent_export(struct cli *c);
/* svid.c */
int run_svid_x509(struct cli *c);
/* svid_jwt.c */
int run_svid_jwt(struct cli *c);
/* token.c */
int run_token_exchange(struct cli *c);
int run_token_introspect(struct cli *c);
int run_token_revoke(struct cli *c);
/* svid_watch.c */
int run_svid_watch(struct cli *c);
/* tool.c */
int run_tool_list(struct cli *c);
int run_tool_show(struct cli *c);
int run_tool_diff(struct cli *c);
int run_tool_accept(struct cli *c);
int run_tool_withdraw(struct cli *c);
/* One difference of two definitions, for a person. */
void tool_put_difference(FILE *out, struct str path, struct str change, const struct json *was,
			 const struct json *is);
/* tool_pin.c */
int run_tool_pin(struct cli *c);
/* federation.c */
int run_federation_list(struct cli *c);
int run_federation_add(struct cli *c);
int run_federation_remove(struct cli *c);
int run_federation_refresh(struct cli *c);
/* outcome.c, redact.c */
int run_audit_open(struct cli *c);
int run_audit_reconcile(struct cli *c); /* reconcile.c */
int run_audit_redact(struct cli *c);
int run_audit_prune(struct cli *c); /* prune.c */
int run_audit_hold(struct cli *c);
/* The option's time in ms, RFC 3339 or so long ago; *ms stays if it is not given. False: misuse. */
bool cli_moment(struct cli *c, const char *option, int64_t *ms, int *exit_code);
/* policy.c */
int run_policy_check(struct cli *c);
int run_policy_list(struct cli *c);
/* policy_generations.c */
int run_policy_apply(struct cli *c);
int run_policy_show(struct cli *c);
int run_policy_diff(struct cli *c);
int run_policy_rollback(struct cli *c);
/* For commands that send policies: the files of @dir as an array and, if they are signed,
 * `,"signature":"..."`. */
struct buf;
bool policy_put_files(const char *dir, struct buf *b, struct err *e);
struct answer;
/* POST, and print what is said of the policies. False: that was all, *exit_code is set. */
bool policy_post(struct cli *c, const char *path, struct str body, struct answer *a,
		 int *exit_code);
/* policy_rollouts.c */
int run_policy_shadow(struct cli *c);
int run_policy_canary(struct cli *c);
int run_policy_promote(struct cli *c);
int run_policy_abort(struct cli *c);
int run_policy_rollouts(struct cli *c);
int policy_diff_rollout(struct cli *c); /* policy diff --rollout */
/* policy_replay.c, policy_explain.c */
int run_policy_replay(struct cli *c);
/* What recorded decisions come to by one generation and by another: for `policy diff --replay`.
 * Prints @before, the report and @after, or an error alone. */
int policy_replay_between(struct cli *c, uint64_t from, uint64_t to, struct str before,
			  struct str after);
int run_policy_explain(struct cli *c);
int policy_list_all(struct cli *c); /* policy list --all */
/* policy_sign.c */
int run_policy_sign(struct cli *c);
/* policy_reach.c */
int run_policy_who(struct cli *c);
int run_policy_what(struct cli *c);
/* policy_test.c */
int run_policy_test(struct cli *c);
int run_policy_bench(struct cli *c);
/* log.c, prove.c, publish.c, verify.c */
int run_audit_tail(struct cli *c);
int run_audit_export(struct cli *c);
int run_audit_checkpoint(struct cli *c);
int run_audit_key(struct cli *c);
int run_audit_prove(struct cli *c);
int run_audit_publish(struct cli *c);
int run_audit_verify(struct cli *c);
/* A time for a query: "7d" is that long ago, anything else is for the server to read. */
void audit_put_moment(struct buf *b, const char *text);
/* search.c */
int run_audit_search(struct cli *c);
int run_audit_show(struct cli *c);
int run_audit_reindex(struct cli *c);
/* timestamp.c */
int run_audit_timestamp(struct cli *c);
/* witness.c */
int run_audit_witness_status(struct cli *c);

#endif
