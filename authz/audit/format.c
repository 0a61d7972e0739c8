#include "authz/audit/format.h"

#include "authz/audit/record.h"
#include "authz/base/text.h"

const struct audit_format *const audit_formats[] = {
	&format_jsonl,	     &format_csv,     &format_cef, &format_ocsf, &format_otlp,
	&format_cloudevents, &format_sep3004, &format_aat, NULL,
};

const struct audit_format *audit_format_find(struct str name, struct err *e)
{
	for (size_t i = 0; audit_formats[i]; i++)
		if (str_eq(name, str_c(audit_formats[i]->name)))
			return audit_formats[i];
	(void)err_code(e, ERR_INVALID, "invalid_request",
		       "format must be jsonl, csv, cef, ocsf, otlp, cloudevents, sep-3004 "
		       "or aat, not \"%.*s\"",
		       STR_FMT(str_first(name, 40)));
	return NULL;
}

const struct audit_format *audit_format_find_endless(struct str name, struct err *e)
{
	const struct audit_format *f = audit_format_find(name, e);

	if (!f || !f->chained)
		return f;
	(void)err_code(e, ERR_INVALID, "invalid_request",
		       "format %s chains the rows of one whole file: export it (writ audit export "
		       "--format %s --output FILE)",
		       f->name, f->name);
	return NULL;
}

static void put(struct buf *out, const char *text)
{
	if (text)
		buf_add(out, str_c(text));
}

void audit_format_line(const struct audit_format *f, const struct format_record *r, struct buf *out)
{
	if (f->begin && !r->chain->begun) {
		f->begin(r, out);
		put(out, f->line_end);
	}
	put(out, f->line_open);
	f->row(r, out);
	put(out, f->line_close);
	put(out, f->line_end);
}

/* ---- a leaf, taken apart ---- */

/* The scratch has room for all texts from the start, so that what points into it stays. */
static bool add_member(struct format_record *r, const struct flat_member *m, struct buf *scratch)
{
	struct format_member *to = &r->members[r->n];
	size_t from = scratch->n;

	if (r->n == ARRAY_LEN(r->members))
		return false;
	r->n++;
	to->name = m->name;
	to->text = to->value = m->value;
	to->is_string = m->is_string;
	if (!m->is_string)
		return true;
	to->value = (struct str){ m->value.p - 1, m->value.n + 2 };
	if (!m->value.n || !memchr(m->value.p, '\\', m->value.n))
		return true;
	if (!flat_unescape(m->value, scratch) || !buf_ok(scratch))
		return false;
	to->text = str_from(buf_str(scratch), from);
	return true;
}

bool format_record_read(struct format_record *r, struct str origin, struct str leaf,
			struct str leaf_hash, struct buf *scratch, struct err *e)
{
	struct leaf known;
	struct flat f;
	struct flat_member m;

	r->origin = origin;
	r->leaf = leaf;
	r->leaf_hash = leaf_hash;
	r->n = 0;
	buf_reset(scratch);
	if (!buf_room(scratch, leaf.n + 1))
		return err_set(e, ERR_NOMEM, "no memory for a record of the log");
	if (!leaf_scan(leaf, &known))
		return err_set(e, ERR_INTERNAL, "a record of the log is malformed");
	r->seq = known.seq;
	r->time_ms = known.time_ms;
	flat_begin(&f, leaf);
	while (flat_next(&f, &m))
		if (!add_member(r, &m, scratch))
			return err_set(e, ERR_INTERNAL,
				       "record %llu of the log has more than %d members, or an "
				       "escape that is not canonical",
				       (unsigned long long)r->seq, FORMAT_MEMBERS_MAX);
	return true;
}

/* Most names differ in their first byte: to measure and compare them takes longer than that. */
static bool is_name(struct str name, const char *is)
{
	return name.n && *name.p == *is && str_eq(name, str_c(is));
}

struct str format_text(const struct format_record *r, const char *name)
{
	for (size_t i = 0; i < r->n; i++)
		if (is_name(r->members[i].name, name))
			return r->members[i].text;
	return (struct str){ 0 };
}

static bool is_one_of(struct str name, const char *const *names)
{
	for (size_t i = 0; names[i]; i++)
		if (is_name(name, names[i]))
			return true;
	return false;
}

size_t format_others(const struct format_record *r, const char *const *known, struct buf *out)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n; i++) {
		if (is_one_of(r->members[i].name, known))
			continue;
		if (n++)
			buf_char(out, ',');
		buf_char(out, '"');
		buf_add(out, r->members[i].name);
		buf_lit(out, "\":");
		buf_add(out, r->members[i].value);
	}
	return n;
}

void format_json_str(struct buf *out, const char *name, struct str value)
{
	if (!value.n || !buf_ok(out) || !out->n)
		return;
	if (out->p[out->n - 1] != '{' && out->p[out->n - 1] != '[')
		buf_char(out, ',');
	buf_printf(out, "\"%s\":", name);
	buf_json(out, value);
}

/* ---- rows that hold the hash of the one before ---- */

static void hash_hex(struct format_chain *c, struct str text, char out[static 2 * SHA256_LEN])
{
	uint8_t hash[SHA256_LEN];

	sha256_of(c->sha, text, hash);
	text_hex(hash, sizeof(hash), out);
}

void format_chain_add(struct format_chain *c, struct str text)
{
	hash_hex(c, text, c->previous);
	c->begun = true;
}

struct str format_chain_hash(const struct format_chain *c)
{
	return (struct str){ c->previous, sizeof(c->previous) };
}

void format_chain_name(struct format_chain *c, struct str text)
{
	hash_hex(c, text, c->session);
}

/* ---- what a record means ---- */

void format_principal(const struct format_record *r, struct buf *out)
{
	struct str who = format_text(r, "agent"), domain = r->origin;

	if (!who.n)
		who = format_text(r, "pep");
	if (who.n) {
		buf_json(out, who);
		return;
	}
	if (str_ends(domain, STR("/writ")))
		domain.n -= strlen("/writ");
	buf_lit(out, "\"spiffe://");
	buf_add(out, domain);
	buf_lit(out, "/writ/server\"");
}

bool format_succeeded(const struct format_record *r)
{
	static const char *const failures[] = { "failed",    "refused",	     "failure", "timeout",
						"cancelled", "not_executed", NULL };
	struct str kind = format_text(r, "kind"), decision = format_text(r, "decision");

	if (decision.n)
		return str_eq(decision, STR("permit"));
	return !str_ends(kind, STR(".refused")) && !str_ends(kind, STR(".refuse")) &&
	       !str_eq(kind, STR("log.gap")) && !is_one_of(format_text(r, "outcome"), failures);
}

bool format_refused(const struct format_record *r)
{
	struct str kind = format_text(r, "kind");

	return format_text(r, "decision").n || str_ends(kind, STR(".refused")) ||
	       str_ends(kind, STR(".refuse")) || str_eq(format_text(r, "outcome"), STR("refused"));
}

enum format_gravity format_gravity(const struct format_record *r)
{
	struct str kind = format_text(r, "kind");

	if (str_eq(kind, STR("log.gap")) || str_eq(kind, STR("log.prune")) ||
	    str_eq(format_text(r, "anchor"), STR("missing")))
		return GRAVITY_HIGH;
	if (str_starts(kind, STR("authz.")))
		return format_succeeded(r) ? GRAVITY_INFO : GRAVITY_LOW;
	if (!format_succeeded(r) || (str_eq(kind, STR("tool.definition")) &&
				     str_eq(format_text(r, "outcome"), STR("changed"))))
		return GRAVITY_MEDIUM;
	return str_starts(kind, STR("policy.")) || str_starts(kind, STR("key.")) ||
			       str_starts(kind, STR("admin.")) || str_eq(kind, STR("log.export"))
		       ? GRAVITY_LOW
		       : GRAVITY_INFO;
}

void format_message(const struct format_record *r, struct buf *out)
{
	static const char *const targets[] = { "tool", "model", "act", "search", "svid", NULL };
	struct str decision = format_text(r, "decision"), reason = format_text(r, "reason");
	struct str who = format_text(r, "agent");

	buf_add(out, decision.n ? decision : format_text(r, "kind"));
	for (size_t i = 0; targets[i]; i++) {
		struct str target = format_text(r, targets[i]);

		if (!target.n)
			continue;
		buf_char(out, ' ');
		buf_add(out, target);
		break;
	}
	if (who.n) {
		buf_lit(out, " for ");
		buf_add(out, who);
	}
	if (reason.n) {
		buf_lit(out, " (");
		buf_add(out, reason);
		buf_char(out, ')');
	}
}

/* ---- the leaf as it is ---- */

static void jsonl_row(const struct format_record *r, struct buf *out)
{
	buf_add(out, r->leaf);
}

const struct audit_format format_jsonl = {
	.name = "jsonl",
	.media_type = "application/jsonl",
	.help = "writ's own: with proofs, so it can be verified; in sinks the records alone",
	.row = jsonl_row,
	.line_end = "\n",
	.batch_type = "application/x-ndjson",
	.batch_between = "\n",
	.batch_close = "\n",
};
