#include "authz/audit/timestamp.h"
#include "authz/audit/verify_parts.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "authz/base/text.h"

/* --- verdicts --- */

void verify_fault(struct verifier *v, enum verify_fault f, const char *fmt, ...)
{
	va_list ap;
	char text[sizeof(v->report.why.msg)];

	if (v->report.fault)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	v->report.fault = f;
	err_code(&v->report.why, ERR_INVALID, verify_fault_name(f), "%s", text);
}

void verify_bad_record(struct verifier *v, uint64_t seq, uint64_t end)
{
	if (v->report.has_bad)
		return;
	v->report.has_bad = true;
	v->report.bad_seq = seq;
	v->report.bad_end = end;
}

void verify_unreadable(struct verifier *v, const char *what)
{
	v->stage = STAGE_UNREADABLE;
	err_set(&v->report.why, ERR_INVALID, "not a writ export: %s", what);
}

void verify_tell_chain(struct verifier *v)
{
	const struct chain_state *c = &v->chain;
	uint64_t at = c->bad_seq;

	if (v->report.fault || c->stage != CHAIN_BROKEN)
		return;
	switch (c->fault) {
	case FAULT_DELETION:
		verify_fault(v, c->fault, "record %" PRIu64 " is missing (%" PRIu64 " in a row)",
			     at, c->bad_count);
		break;
	case FAULT_INSERTION:
		verify_fault(v, c->fault, "at record %" PRIu64 " there is one too many", at);
		break;
	case FAULT_SWAP:
		verify_fault(v, c->fault, "record %" PRIu64 " changed places with a later one", at);
		break;
	default:
		verify_fault(v, c->fault, "record %" PRIu64 " was changed", at);
		break;
	}
	verify_bad_record(v, at, at + c->bad_count);
}

void verifier_feed(struct verifier *v, struct str bytes)
{
	struct str line;

	while (v->stage != STAGE_UNREADABLE && str_cut(bytes, '\n', &line, &bytes)) {
		if (!v->line.n) {
			verify_line(v, line); /* most lines lie in one piece and are not copied */
			continue;
		}
		buf_add(&v->line, line);
		if (!buf_ok(&v->line))
			break;
		verify_line(v, buf_str(&v->line));
		buf_reset(&v->line);
	}
	if (v->stage == STAGE_UNREADABLE)
		return;
	buf_add(&v->line, bytes);
	if (!buf_ok(&v->line))
		verify_unreadable(v, "a line is longer than 16 MiB, or memory is short");
}

/* --- the verifier --- */

static bool set_policy(struct verifier *v, const struct verify_options *o, struct err *e)
{
	if (!o->policy.n)
		return true;
	v->policy = mem_zero(v->alloc, sizeof(*v->policy));
	if (!v->policy)
		return err_set(e, ERR_NOMEM, "no memory to verify");
	if (!witness_policy_parse(o->policy, v->policy, e))
		return false;
	for (size_t i = 0; i < v->policy->nlogs; i++)
		v->keys[v->nkeys++] = v->policy->logs[i];
	return true;
}

static bool set_held(struct verifier *v, const struct verify_options *o, struct err *e)
{
	struct rotation_trust trust;
	struct note note = { .n = 0 };

	if (!o->checkpoint.n)
		return true;
	if (!v->nkeys)
		return err_set(
			e, ERR_INVALID,
			"a checkpoint held before says nothing without the log's key (--key)");
	buf_add(&v->held_text, o->checkpoint);
	if (!buf_ok(&v->held_text))
		return err_set(e, ERR_INVALID, "the held checkpoint is longer than 64 KiB");
	if (!note_parse(buf_str(&v->held_text), &note, e) ||
	    !checkpoint_parse(note.text, &v->held, e) ||
	    !verify_keys(v, &note, &v->held, &trust, e))
		return err_prefix(e, "the held checkpoint");
	v->has_held = true;
	return true;
}

static bool set_keys(struct verifier *v, const struct verify_options *o, struct err *e)
{
	struct str rest = o->vkey;

	for (;;) {
		size_t n = 0;

		while (rest.n && strchr(" \t\r\n", rest.p[0]))
			rest = str_from(rest, 1);
		if (!rest.n)
			break;
		while (n < rest.n && !strchr(" \t\r\n", rest.p[n]))
			n++;
		if (v->nkeys == VERIFY_GIVEN_MAX)
			return err_set(e, ERR_INVALID, "more than %d keys were given",
				       VERIFY_GIVEN_MAX);
		if (!note_key_parse(str_first(rest, n), &v->keys[v->nkeys++], e))
			return false;
		rest = str_from(rest, n);
	}
	return set_policy(v, o, e) && set_held(v, o, e);
}

bool verifier_new(const struct verify_options *o, struct verifier **out, struct err *e)
{
	const struct alloc *alloc = o->alloc ? o->alloc : &mem_system;
	struct verifier *v = mem_zero(alloc, sizeof(*v));

	if (!v)
		return err_set(e, ERR_NOMEM, "no memory to verify");
	v->alloc = alloc;
	buf_init(&v->line, *alloc, VERIFY_LINE_MAX);
	buf_init(&v->held_text, *alloc, NOTE_MAX);
	buf_init(&v->tsa_ca, *alloc, TIMESTAMP_CA_MAX);
	buf_add(&v->tsa_ca, o->tsa_ca);
	buf_init(&v->tail, *alloc, VERIFY_LINE_MAX);
	v->at_least = o->at_least;
	v->sha = sha256_new(e);
	if (!buf_ok(&v->tsa_ca))
		err_set(e, ERR_TOO_LARGE, "the authorities of time stamps are longer than %d bytes",
			TIMESTAMP_CA_MAX);
	if (!buf_ok(&v->tsa_ca) || !v->sha || !set_keys(v, o, e)) {
		verifier_free(v);
		return false;
	}
	v->report.integrity = VERDICT_NO;
	v->report.authenticity = VERDICT_UNKNOWN;
	v->report.anchoring = VERDICT_UNKNOWN;
	snprintf(v->report.key_from, sizeof(v->report.key_from), "%s",
		 o->vkey.n  ? "given"
		 : v->nkeys ? "given by the witness policy"
			    : "none: a key in the file proves nothing");
	*out = v;
	return true;
}

void verifier_free(struct verifier *v)
{
	if (!v)
		return;
	sha256_free(v->sha);
	buf_clear(&v->line);
	buf_clear(&v->held_text);
	buf_clear(&v->tsa_ca);
	buf_clear(&v->tail);
	if (v->policy)
		mem_free(v->alloc, v->policy, sizeof(*v->policy));
	mem_free(v->alloc, v, sizeof(*v));
}

static enum redaction redaction_of(const struct verify_report *r)
{
	if (r->fault == FAULT_OPENING)
		return REDACTION_BROKEN;
	if (r->integrity != VERDICT_YES)
		return REDACTION_UNKNOWN;
	if (r->piecemeal && !r->redacted)
		return REDACTION_ALL;
	return !r->redacted ? REDACTION_NONE : r->openings ? REDACTION_SOME : REDACTION_ALL;
}

void verify_conclude(struct verifier *v, struct verify_report *r)
{
	/* Of a log that is too short or was replaced, what is here may still be whole. */
	if (v->report.fault && v->report.fault != FAULT_FORK && v->report.fault != FAULT_TRUNCATION)
		v->report.integrity = VERDICT_NO;
	v->report.completeness = v->report.fault || v->report.withheld ||
						 v->stage == STAGE_UNREADABLE
					 ? VERDICT_NO
				 : v->report.piecemeal ? VERDICT_UNKNOWN
						       : VERDICT_YES;
	v->report.redaction = redaction_of(&v->report);
	v->report.result = v->stage == STAGE_UNREADABLE	   ? VERIFY_UNREADABLE
			   : v->report.fault		   ? VERIFY_BROKEN
			   : !v->nkeys || v->quorum_missed ? VERIFY_UNAUTHENTICATED
							   : VERIFY_HOLDS;
	if (v->report.result == VERIFY_UNAUTHENTICATED && !v->quorum_missed)
		err_set(&v->report.why, ERR_UNAUTHENTICATED,
			"consistent in itself, but nothing says whose it is: give the log's key "
			"(writ audit key) with --key");
	*r = v->report;
}

void verifier_finish(struct verifier *v, struct verify_report *r)
{
	if (v->stage == STAGE_HEADER && !v->line.n)
		verify_unreadable(v, "it is empty");
	if (v->stage == STAGE_HEADER)
		verify_unreadable(v, "it does not begin with a header");
	if (v->stage == STAGE_AFTER && v->line.n)
		verify_fault(v, FAULT_INSERTION, "something stands behind the trailer");
	if (v->stage == STAGE_BODY) {
		chain_end(&v->chain);
		verify_tell_chain(v);
		verify_fault(v, FAULT_TRUNCATION,
			     "the file ends before its trailer: records from %" PRIu64
			     " on may be missing",
			     v->first + v->records);
		verify_bad_record(v, v->first + v->records, v->first + v->count);
	}
	verify_conclude(v, r);
}
