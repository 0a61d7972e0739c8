/*
 * words - the nouns that every floor shares: decisions, reasons, limits, version.
 *
 * Purpose    Names that appear in answers, records and metrics are written down once.
 * Ownership  Constants only.
 */
#ifndef WRIT_WORDS_H
#define WRIT_WORDS_H

#define WRIT_VERSION "0.1.0"

/* The version of the decision engine. It is in every record: replay runs only what the same
 * engine can compute again, so raise it when a rule or an argument check changes its meaning. */
#define WRIT_ENGINE "writ-1"

/* What a policy can say; the order is the strength. */
enum decision {
	DECISION_DENY = 0, /* the default of everything */
	DECISION_ASK,	   /* a person must say yes to this exact call */
	DECISION_PERMIT,
};

/* Reason codes of writ's own (a rule may name another). Stable: programs compare them. */
#define REASON_PERMITTED "permitted"
#define REASON_DENIED "denied"
#define REASON_APPROVAL_REQUIRED "approval_required"
#define REASON_NO_RULE "no_rule"
#define REASON_NO_POLICY "no_policy"
#define REASON_POLICY_ERROR "policy_error"
#define REASON_POLICY_BUDGET "policy_budget"
#define REASON_INVALID_ARGUMENTS "invalid_arguments"
#define REASON_UNKNOWN_TOOL "unknown_tool"
#define REASON_UNKNOWN_MODEL "unknown_model"
#define REASON_TOOL_DEFINITION_CHANGED "tool_definition_changed"
#define REASON_UNKNOWN_AGENT "unknown_agent"
#define REASON_AGENT_SUSPENDED "agent_suspended"
#define REASON_AGENT_EXPIRED "agent_expired"
#define REASON_SUBJECT_MISMATCH "subject_mismatch"
#define REASON_AUDIT_UNAVAILABLE "audit_unavailable"
#define REASON_OBLIGATIONS "obligations_unsupported"

/* Default limits; each has a setting of the same meaning in writ.lua. */
#define LIMIT_BODY (1024 * 1024)	   /* bytes of a request body */
#define LIMIT_IN_FLIGHT (16 * 1024 * 1024) /* bytes of all requests being served */
#define LIMIT_STRING (256 * 1024)	   /* bytes of one JSON string */
#define LIMIT_DEPTH 64			   /* nesting of JSON */
#define LIMIT_MEMBERS 256		   /* members of one JSON object */
#define LIMIT_VALUES 65536		   /* values in one JSON text */
#define LIMIT_HEADERS (16 * 1024)	   /* bytes of a header block */
#define LIMIT_URL (8 * 1024)		   /* bytes of a request target */
#define LIMIT_TOKEN (8 * 1024)		   /* bytes of a bearer token */
#define LIMIT_BATCH 100			   /* evaluations in one request */
#define LIMIT_QUEUE 4096		   /* records waiting for the log */
#define LIMIT_DECISION_MS 2000		   /* deadline of a decision */
#define LIMIT_REQUEST_MS 10000		   /* deadline of a whole request */
#define LIMIT_LEAF 65535		   /* bytes of one record (tlog-tiles entry) */
#define LIMIT_REQUEST_ID 256		   /* bytes of X-Request-ID */

#endif
