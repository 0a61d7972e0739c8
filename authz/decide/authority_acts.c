/*
 * The acts. What grants (prepare, activate) is on record before it holds; what takes away (taint,
 * revoke, retire) holds before it is on record (design 12, Storage).
 */
#include "authz/base/log.h"
#include "authz/base/text.h"
#include "authz/decide/authorities.h"
#include "authz/decide/control.h"

#define MADE_MAX (32 * 1024)

static bool record(struct authorities *a, enum authority_verb verb, const struct authority *of,
		   struct str by, const char *outcome, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_str(&r.job.record, STR("act"), str_c(authority_verb_name(verb)));
	record_str(&r.job.record, STR("authority"), str_c(of->id));
	record_int(&r.job.record, STR("expires"), of->not_after_s);
	record_str(&r.job.record, STR("kind"), STR("key.rotate"));
	record_str(&r.job.record, STR("outcome"), str_c(outcome));
	record_str(&r.job.record, STR("pep"), by);
	if (of->token[0])
		record_str(&r.job.record, STR("token"), str_c(of->token));
	record_str(&r.job.record, STR("use"), str_c(authority_kind_name(of->kind)));
	return act_record_append(a->c, &r, e);
}

/* The log tells of something that did not happen: say so there too. */
static void record_failed(struct authorities *a, enum authority_verb verb,
			  const struct authority *of, struct str by)
{
	struct err e = { 0 };

	if (!record(a, verb, of, by, "failed", &e))
		log_event(LOG_ERROR, "authority.unrecorded", "why=\"%s\"", e.msg);
}

static void say(const struct authority *of, enum authority_verb verb)
{
	log_event(LOG_INFO, "authority.changed", "act=%s kind=%s id=%s state=%s",
		  authority_verb_name(verb), authority_kind_name(of->kind), of->id,
		  authority_state_name(of->state));
}

/* writ's own TLS leaf must not hang on an authority that is on its way out. */
static void renew_leaf(struct authorities *a)
{
	struct err e = { 0 };

	if (control_renew_leaf(a->c, &e))
		return;
	a->c->leaf_ends_ms = 0; /* tried again within a minute */
	log_event(LOG_ERROR, "tls.leaf", "why=\"%s\"", e.msg);
}

/* After a change: what is not published now is by the next tick. */
static bool publish(struct authorities *a, struct err *e)
{
	if (authorities_publish(a, e))
		return true;
	a->stale = true;
	return false;
}

/* The act holds, but verifiers do not hear of it yet. */
static bool fail_late(const struct authority *of, const struct err *late, struct err *e)
{
	return err_set(e, late->class,
		       "authority %s is %s, but the trust bundle is not published yet: %s", of->id,
		       authority_state_name(of->state), late->msg);
}

static bool find(const struct authorities *a, struct str id, const struct authority_row **out,
		 struct err *e)
{
	*out = authority_db_find(&a->db, id);
	return *out || err_code(e, ERR_NOT_FOUND, "unknown_authority",
				"no authority \"%.*s\" is in the trust bundle; "
				"`writ authority show` lists them",
				STR_FMT(str_first(id, AUTHORITY_ID_MAX)));
}

/* A change of the rows. If it was committed but could not be read back, the rows are read again
 * later: until then what is held is what was before. */
static bool move(struct authorities *a, const struct authority *of, enum authority_state to,
		 struct err *e)
{
	if (authority_db_move(&a->db, of, to, clock_wall_ms(a->c->core->clock) / 1000, e))
		return true;
	a->stale = true;
	return false;
}

/* ---- prepare ---- */

static bool make(struct authorities *a, enum authority_kind kind, struct buf *answer,
		 struct signer_made *made, struct err *e)
{
	struct signer_job job = { .op = SIGNER_MAKE_KEY, .make = kind, .out = answer };

	buf_init(answer, mem_system, MADE_MAX);
	return signer_call(a->c->signer, &job, e) && signer_made_read(buf_str(answer), made, e);
}

static void row_of(const struct authorities *a, enum authority_kind kind,
		   const struct signer_made *made, struct str by, struct authority_row *row)
{
	*row = (struct authority_row){
		.a = { .kind = kind,
		       .state = AUTHORITY_PREPARED,
		       .not_before_s = made->begins_s,
		       .not_after_s = made->ends_s,
		       .prepared_s = clock_wall_ms(a->c->core->clock) / 1000 },
		.spki = made->spki,
		.chain = made->chain,
		.roots = kind == AUTHORITY_X509 ? buf_str(&a->roots) : (struct str){ 0 },
		.by = by
	};
	memcpy(row->a.id, made->id.p, made->id.n);
	text_hex((const uint8_t *)made->token.p, made->token.n, row->a.token);
}

bool authority_prepare(struct authorities *a, enum authority_kind kind, struct str by,
		       struct authority *out, struct err *e)
{
	AUTO_BUF answer = { 0 };
	struct signer_made made;
	struct authority_row row;
	struct err late = { 0 };

	if (kind == AUTHORITY_WIT && !a->config.wit)
		return err_code(e, ERR_CONFLICT, "wit_off",
				"WIT-SVIDs are switched off; set workload.wit = true");
	if (!authority_may_prepare(a->db.all, a->db.n, kind, e) ||
	    !make(a, kind, &answer, &made, e))
		return false;
	row_of(a, kind, &made, by, &row);
	/* A file without a row is no authority: a stop from here on costs nothing. */
	if (!authority_file_write(a, kind, made.id, made.sealed, e))
		return false;
	if (!record(a, AUTHORITY_PREPARE, &row.a, by, "done", e)) {
		authority_files_sweep(a);
		return false;
	}
	if (!authority_db_add(&a->db, &row, e)) {
		a->stale = true;
		record_failed(a, AUTHORITY_PREPARE, &row.a, by);
		return false; /* the file stays until it is known that no row speaks of it */
	}
	*out = row.a;
	say(&row.a, AUTHORITY_PREPARE);
	return publish(a, &late) || fail_late(out, &late, e);
}

/* ---- activate ---- */

static bool use(struct authorities *a, const struct authority_row *row, struct err *e)
{
	AUTO_BUF pem = { 0 };
	AUTO_BUF none = { 0 };
	struct signer_job job = { .op = SIGNER_USE_KEY,
				  .use = { .kind = row->a.kind, .id = str_c(row->a.id) },
				  .out = &none };

	buf_init(&none, mem_system, 64);
	if (!row->first && !authority_file_read(a, &row->a, &pem, e))
		return false;
	if (!row->first)
		job.use.sealed = buf_str(&pem);
	return signer_call(a->c->signer, &job, e);
}

bool authority_use_active(struct authorities *a, enum authority_kind kind, struct err *e)
{
	const struct authority_row *active = authority_db_active(&a->db, kind);

	if (!active && kind == AUTHORITY_WIT) /* never made, or run out after it was switched off */
		return true;
	if (!active)
		return err_set(e, ERR_INTERNAL, "writ.db names no active %s authority",
			       authority_kind_name(kind));
	return use(a, active, e) ||
	       err_prefix(e, "the active %s authority %s", authority_kind_name(kind), active->a.id);
}

/* After a failure: back to what the rows say. */
static void use_again(struct authorities *a, enum authority_kind kind)
{
	struct err e = { 0 };

	/* What was signed meanwhile verifies: the prepared one is in the bundle. */
	if (!authority_use_active(a, kind, &e))
		log_event(LOG_ERROR, "authority.unused", "why=\"%s\"", e.msg);
}

bool authority_activate(struct authorities *a, struct str id, bool force, struct str by,
			struct authority *out, struct err *e)
{
	int64_t now = clock_wall_ms(a->c->core->clock) / 1000;
	const struct authority_row *row;
	enum authority_state to;
	struct authority was;
	struct err late = { 0 };
	bool published;

	if (!find(a, id, &row, e) || !authority_after(&row->a, AUTHORITY_ACTIVATE, &to, e) ||
	    (!force && !authority_propagated(&a->plan[row->a.kind], &row->a, now, e)))
		return false;
	was = row->a;
	if (was.not_after_s <= now)
		return err_code(e, ERR_CONFLICT, "authority_expired",
				"%s authority %s has expired; prepare another",
				authority_kind_name(was.kind), was.id);
	/* Used before it is committed: what cannot be used must not become the active one. */
	if (!record(a, AUTHORITY_ACTIVATE, &was, by, "done", e))
		return false;
	if (!use(a, row, e) || !move(a, &was, to, e)) {
		use_again(a, was.kind);
		record_failed(a, AUTHORITY_ACTIVATE, &was, by);
		return false;
	}
	*out = was;
	out->state = to;
	out->activated_s = now;
	say(out, AUTHORITY_ACTIVATE);
	published = publish(a, &late);
	authority_files_sweep(a); /* the old key signs no more: its file goes, last */
	if (was.kind == AUTHORITY_X509)
		renew_leaf(a);
	return published || fail_late(out, &late, e);
}

/* ---- taint, revoke, retire ---- */

bool authority_withdraw(struct authorities *a, struct str id, enum authority_verb verb,
			struct str by, struct authority *out, struct err *e)
{
	const struct authority_row *row;
	enum authority_state to;
	struct authority was;
	struct err late = { 0 };
	bool published;

	if (!find(a, id, &row, e) || !authority_after(&row->a, verb, &to, e))
		return false;
	was = row->a;
	if (!move(a, &was, to, e))
		return false;
	*out = was;
	out->state = to;
	say(out, verb);
	published = publish(a, &late);
	authority_files_sweep(a);
	if (was.kind == AUTHORITY_X509 && verb != AUTHORITY_RETIRE)
		renew_leaf(a);
	if (!record(a, verb, out, by, "done", e))
		return err_prefix(e, "authority %s is %s, but this act is not on record", was.id,
				  authority_state_name(to));
	return published || fail_late(out, &late, e);
}
