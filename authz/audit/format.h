/*
 * format - one record of the log in the words of another system: CSV, CEF, OCSF, OTLP ...
 *
 * Purpose    SIEMs, spreadsheets and collectors do not read leaves. Each format is one pure
 *            function from a leaf to a piece of text, so it is tested by table, and exports and
 *            sinks share it. None of them can be verified; each row carries the record's number and
 *            leaf hash, by which it is taken back to the proof (audit-log sheet 18.1). Openings are
 *            in none of them: they hold what is foreign or personal, and a copy in a SIEM cannot be
 *            erased.
 * Ownership  A record borrows the leaf and the scratch it was read with, and the chain.
 * Threads    No state of their own: call from any thread; a chain belongs to one file.
 */
#ifndef WRIT_AUDIT_FORMAT_H
#define WRIT_AUDIT_FORMAT_H

#include "authz/audit/flat.h"
#include "authz/base/digest.h"
#include "include/writ/err.h"

#define FORMAT_MEMBERS_MAX 64 /* of one leaf; writ's own have fewer than 30 */
#define FORMAT_ROW_MAX                                                                          \
	(640 * 1024)	      /* bytes of one row: a leaf of control characters, escaped and in \
				 its own text once more */
#define FORMAT_LEAF_MAX 65535 /* bytes of a leaf */
#define FORMAT_OCSF_VERSION "1.8.0"

struct format_member {
	struct str name;
	struct str text;  /* unescaped; of an integer its digits */
	struct str value; /* as JSON, with quotes if it is a string */
	bool is_string;
};

/* What a row of a chained format knows of the row before. Of one file: zero it where a file begins,
 * and give it a hasher. */
struct format_chain {
	struct sha256 *sha;
	bool begun;		       /* there is a row before */
	char previous[2 * SHA256_LEN]; /* its hash, hex */
	char session[2 * SHA256_LEN];  /* a name for the file, made of its first row */
};

/* A leaf, taken apart. */
struct format_record {
	struct format_chain *chain; /* for chained formats; reading leaves it alone */
	struct str origin;	    /* of the log: "acme.example/writ" */
	struct str leaf;	    /* verbatim */
	struct str leaf_hash;	    /* 64 hex digits */
	uint64_t seq;
	int64_t time_ms;
	struct format_member members[FORMAT_MEMBERS_MAX];
	size_t n;
};

/* Take @leaf apart. @scratch is reset, and holds unescaped texts for as long as the record is used:
 * its maximum must be at least that of a leaf. ERR_INTERNAL: not a leaf, as writ writes them. */
MUST_USE bool format_record_read(struct format_record *r, struct str origin, struct str leaf,
				 struct str leaf_hash, struct buf *scratch, struct err *e);

/* The text of a member, empty if there is none. */
struct str format_text(const struct format_record *r, const char *name);

/* Append what the members that are not in @known (NULL-terminated) say, as one JSON object without
 * its braces: "name":value,... Nothing if there are none; how many. */
size_t format_others(const struct format_record *r, const char *const *known, struct buf *out);

/* How grave a record is, in the words that formats share. */
enum format_gravity { GRAVITY_INFO, GRAVITY_LOW, GRAVITY_MEDIUM, GRAVITY_HIGH };
enum format_gravity format_gravity(const struct format_record *r);

/* Did what the record is about succeed? A denial, a refusal and a failure did not. */
bool format_succeeded(const struct format_record *r);

/* Of what did not succeed: did somebody say no, rather than something fail? */
bool format_refused(const struct format_record *r);

/* Who did it, as a JSON string: the agent, else who called, else writ itself by its server's ID. */
void format_principal(const struct format_record *r, struct buf *out);

/* The row is out: @text is what the next one hashes. */
void format_chain_add(struct format_chain *c, struct str text);
struct str format_chain_hash(const struct format_chain *c);
void format_chain_name(struct format_chain *c, struct str text);

/* A sentence for people: "deny payments/create for spiffe://... (no_rule)". */
void format_message(const struct format_record *r, struct buf *out);

/* Append a member to a JSON object under way: a comma unless the object was just opened. */
void format_json_str(struct buf *out, const char *name, struct str value); /* nothing if empty */

struct audit_format {
	const char *name;	/* "csv" */
	const char *media_type; /* of lines */
	const char *help;
	const char *head; /* the first line of a file, or NULL */
	/* A first line that depends on the first record, or NULL. */
	void (*begin)(const struct format_record *first, struct buf *out);
	/* One row, without what stands between rows. */
	void (*row)(const struct format_record *r, struct buf *out);
	/* As a line of a file; NULL: nothing. */
	const char *line_open, *line_close, *line_end;
	/* Many in the body of one request. */
	const char *batch_type, *batch_open, *batch_close, *batch_between;
	bool chained; /* each row holds a hash of the one before: whole files only */
};
extern const struct audit_format *const audit_formats[]; /* NULL-terminated */

/* By name, or NULL with "format must be one of ..., not "x"" (ERR_INVALID, invalid_request). */
const struct audit_format *audit_format_find(struct str name, struct err *e);

/* The same for what has no end (sinks, --follow): chained formats are refused too. */
const struct audit_format *audit_format_find_endless(struct str name, struct err *e);

/* Append @r as one line of a file. */
void audit_format_line(const struct audit_format *f, const struct format_record *r,
		       struct buf *out);

extern const struct audit_format format_jsonl, format_csv, format_cef, format_ocsf, format_otlp,
	format_cloudevents, format_sep3004, format_aat;

#endif
