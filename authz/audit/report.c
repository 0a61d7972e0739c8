#include "authz/audit/verify.h"

const char *verify_fault_name(enum verify_fault f)
{
	static const char *const names[] = {
		[FAULT_NONE] = "none",		 [FAULT_EDIT] = "edit",
		[FAULT_DELETION] = "deletion",	 [FAULT_INSERTION] = "insertion",
		[FAULT_SWAP] = "swap",		 [FAULT_TRUNCATION] = "truncation",
		[FAULT_REWRITE] = "rewrite",	 [FAULT_FORK] = "fork",
		[FAULT_OPENING] = "opening",	 [FAULT_COUNT] = "count",
		[FAULT_SIGNATURE] = "signature", [FAULT_EMPTY] = "empty",
	};

	return names[f];
}

static void verdict(struct buf *out, const char *name, enum verdict v)
{
	static const char *const words[] = {
		[VERDICT_NO] = "no",
		[VERDICT_YES] = "yes",
		[VERDICT_UNKNOWN] = "unknown",
	};

	buf_printf(out, "\"%s\":\"%s\",", name, words[v]);
}

static void number(struct buf *out, const char *name, uint64_t v)
{
	buf_printf(out, "\"%s\":%llu,", name, (unsigned long long)v);
}

static void text(struct buf *out, const char *name, const char *v)
{
	if (!v || !*v)
		return;
	buf_printf(out, "\"%s\":", name);
	buf_json(out, str_c(v));
	buf_char(out, ',');
}

static const char *result_name(enum verify_result r)
{
	switch (r) {
	case VERIFY_HOLDS:
		return "holds";
	case VERIFY_BROKEN:
		return "broken";
	case VERIFY_UNAUTHENTICATED:
		return "not_authenticated";
	case VERIFY_UNREADABLE:
		break;
	}
	return "unreadable";
}

void verify_report_json(const struct verify_report *r, struct buf *out)
{
	static const char *const redactions[] = {
		[REDACTION_NONE] = "none",	 [REDACTION_SOME] = "some",
		[REDACTION_ALL] = "all",	 [REDACTION_BROKEN] = "broken",
		[REDACTION_UNKNOWN] = "unknown",
	};

	buf_char(out, '{');
	verdict(out, "anchoring", r->anchoring);
	verdict(out, "authenticity", r->authenticity);
	if (r->has_bad) {
		number(out, "bad_end", r->bad_end);
		number(out, "bad_seq", r->bad_seq);
	}
	verdict(out, "completeness", r->completeness);
	number(out, "count", r->count);
	if (r->fault)
		text(out, "fault", verify_fault_name(r->fault));
	number(out, "first", r->first);
	verdict(out, "integrity", r->integrity);
	text(out, "key_from", r->key_from);
	text(out, "key_id", r->key_id);
	text(out, "message", r->why.msg);
	number(out, "openings", r->openings);
	text(out, "origin", r->origin);
	if (r->pruned) {
		number(out, "pruned", r->pruned);
		number(out, "pruned_by", r->pruned_by);
	}
	number(out, "redacted", r->redacted);
	text(out, "redaction", redactions[r->redaction]);
	text(out, "result", result_name(r->result));
	if (r->integrity == VERDICT_YES) {
		buf_lit(out, "\"root\":\"");
		buf_hex(out, r->root, sizeof(r->root));
		buf_lit(out, "\",");
	}
	number(out, "size", r->size);
	if (r->stamped_s)
		number(out, "stamped", (uint64_t)r->stamped_s);
	number(out, "withheld", r->withheld);
	if (r->witnessed_s)
		number(out, "witnessed", r->witnessed_s);
	out->n -= buf_ok(out); /* the last comma */
	buf_char(out, '}');
}
