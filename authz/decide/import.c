#include "authz/decide/import.h"

#include <stdlib.h>

#include "authz/base/log.h"

#define RECORD_ENTRIES 250	    /* in one record */
#define RECORD_OPENING (128 * 1024) /* from so many bytes on, the next record */

struct import {
	struct arena arena;
	char name[IMPORT_NAME + 1];
	struct str by;
	struct import_entry *entries; /* IMPORT_MAX, of which n are used */
	size_t n;
	int64_t touched_ms;
};

void import_drop(struct control *c)
{
	if (!c->import)
		return;
	arena_clear(&c->import->arena);
	free(c->import->entries);
	free(c->import);
	c->import = NULL;
}

/* --- keeping parts --- */

static bool copy(struct arena *a, struct str *s)
{
	*s = arena_dup(a, *s);
	return s->p != NULL;
}

static bool copy_spec(struct arena *a, struct registry_spec *s)
{
	struct registry_attribute *attributes = arena_alloc(a,
							    s->nattributes * sizeof(*attributes));
	struct registry_selector *selectors = arena_alloc(a, s->nselectors * sizeof(*selectors));

	if (!attributes || !selectors || !copy(a, &s->id) || !copy(a, &s->owner) ||
	    !copy(a, &s->purpose) || !copy(a, &s->definition) || !copy(a, &s->federates))
		return false;
	for (size_t i = 0; i < s->nattributes; i++) {
		attributes[i] = s->attributes[i];
		if (!copy(a, &attributes[i].name) || !copy(a, &attributes[i].value))
			return false;
	}
	for (size_t i = 0; i < s->nselectors; i++) {
		selectors[i] = s->selectors[i];
		if (!copy(a, &selectors[i].type) || !copy(a, &selectors[i].value))
			return false;
	}
	s->attributes = attributes;
	s->selectors = selectors;
	return true;
}

static bool too_large(struct err *e)
{
	return err_code(e, ERR_TOO_LARGE, "import_too_large",
			"an import has at most %d entries, and %ld MiB; send the rest as another",
			IMPORT_MAX, IMPORT_BYTES / 1024 / 1024);
}

static bool start(struct control *c, const struct import_part *p, struct err *e)
{
	struct import *m = calloc(1, sizeof(*m));

	if (m)
		m->entries = calloc(IMPORT_MAX, sizeof(*m->entries));
	if (!m || !m->entries) {
		free(m);
		return err_set(e, ERR_NOMEM, "no memory for an import");
	}
	arena_init(&m->arena, &mem_system, IMPORT_BYTES);
	memcpy(m->name, p->name.p, p->name.n);
	c->import = m;
	m->by = p->by;
	if (copy(&m->arena, &m->by))
		return true;
	import_drop(c);
	return err_set(e, ERR_NOMEM, "no memory for an import");
}

static bool keep(struct control *c, const struct import_part *p, struct err *e)
{
	struct import *m = c->import;

	if (p->n > IMPORT_MAX - m->n)
		return too_large(e);
	for (size_t i = 0; i < p->n; i++) {
		struct import_entry *to = &m->entries[m->n];

		*to = p->entries[i];
		if (!registry_check_spec(&to->spec, c->core->trust_domain, e))
			return err_prefix(e, "agents[%zu]", m->n + 1);
		if (!copy_spec(&m->arena, &to->spec))
			return too_large(e);
		m->n++;
	}
	return true;
}

/* Is this part the one that is due? */
static bool expected(struct control *c, const struct import_part *p, int64_t now_ms, struct err *e)
{
	struct import *m = c->import;
	bool same = m && str_eq(str_c(m->name), p->name) && str_eq(m->by, p->by);

	if (m && !same && now_ms - m->touched_ms < IMPORT_PAUSE_MS && now_ms >= m->touched_ms)
		return err_code(e, ERR_CONFLICT, "import_busy",
				"another import is going on; try again in a minute");
	if (m && (!same || p->from == 0))
		import_drop(c);
	if (!c->import && p->from == 0)
		return start(c, p, e);
	return (c->import && p->from == c->import->n) ||
	       err_code(e, ERR_CONFLICT, "import_order",
			"this part begins at entry %llu, but %zu are here; start the import again",
			(unsigned long long)p->from, c->import ? c->import->n : 0);
}

/* --- writing --- */

static bool prepare_one(struct control *c, const struct import_entry *k,
			const struct bundle_set *bundles, int64_t now_ms, struct err *e)
{
	struct registry_change change = { .verb = REGISTRY_REGISTER,
					  .spec = k->spec,
					  .by = c->import->by,
					  .reason = STR("import"),
					  .now_ms = now_ms,
					  .as_it_was = true };

	if ((k->state != ENTRY_RETIRED &&
	     !registry_federates_known(k->spec.federates, bundles, e)) ||
	    !registry_prepare(c->registry, &change, e))
		return false;
	if (k->state == ENTRY_ACTIVE)
		return true;
	change.verb = k->state == ENTRY_RETIRED ? REGISTRY_RETIRE : REGISTRY_SUSPEND;
	return registry_prepare(c->registry, &change, e);
}

static void put_entry(struct buf *b, const struct import_entry *k)
{
	const struct registry_spec *s = &k->spec;

	buf_lit(b, "{\"attributes\":{");
	for (size_t i = 0; i < s->nattributes; i++) {
		if (i)
			buf_char(b, ',');
		buf_json(b, s->attributes[i].name);
		buf_char(b, ':');
		buf_json(b, s->attributes[i].value);
	}
	buf_printf(b, "},\"expires\":%lld,", (long long)s->expires_ms);
	if (s->federates.n) {
		buf_lit(b, "\"federates_with\":");
		registry_write_federates(b, s->federates);
		buf_char(b, ',');
	}
	buf_lit(b, "\"owner\":");
	buf_json(b, s->owner);
	buf_lit(b, ",\"purpose\":");
	buf_json(b, s->purpose);
	buf_lit(b, ",\"selectors\":[");
	for (size_t i = 0; i < s->nselectors; i++) {
		AUTO_BUF line = { 0 };

		buf_init(&line, mem_system, REGISTRY_VALUE + REGISTRY_NAME + 2);
		buf_add(&line, s->selectors[i].type);
		buf_char(&line, ':');
		buf_add(&line, s->selectors[i].value);
		if (i)
			buf_char(b, ',');
		buf_json(b, buf_str(&line));
		b->failed |= !buf_ok(&line);
	}
	buf_lit(b, "],\"spiffe_id\":");
	buf_json(b, s->id);
	buf_printf(b, ",\"state\":\"%s\"}", registry_state_name(k->state));
}

/* One record of the entries from *at on; *at moves behind them. */
static bool record_some(struct control *c, size_t *at, struct err *e)
{
	struct import *m = c->import;
	struct act_record r;
	size_t from = *at;
	struct buf b;

	act_record_begin(&r);
	buf_in_arena(&b, &r.arena, RECORD_OPENING + 1024 * 1024);
	buf_lit(&b, "{\"agents\":[");
	while (*at < m->n && *at - from < RECORD_ENTRIES && b.n < RECORD_OPENING) {
		if (*at > from)
			buf_char(&b, ',');
		put_entry(&b, &m->entries[(*at)++]);
	}
	buf_lit(&b, "]}");
	record_str(&r.job.record, STR("act"), STR("agent.import"));
	record_int(&r.job.record, STR("agents"), (int64_t)(*at - from));
	record_str(&r.job.record, STR("import"), str_c(m->name));
	if (buf_ok(&b))
		record_commit(&r.job.record, OPENING_INPUT, buf_str(&b), c->sha);
	else /* what was granted is the point of the record */
		r.text.failed = true;
	record_str(&r.job.record, STR("kind"), STR("admin.action"));
	record_str(&r.job.record, STR("outcome"), STR("done"));
	record_str(&r.job.record, STR("pep"), m->by);
	return act_record_append(c, &r, e);
}

/* The log tells of grants that did not come: say so there too. */
static void record_failure(struct control *c)
{
	struct act_record r;
	struct err e = { 0 };

	act_record_begin(&r);
	record_str(&r.job.record, STR("act"), STR("agent.import"));
	record_str(&r.job.record, STR("import"), str_c(c->import->name));
	record_str(&r.job.record, STR("kind"), STR("admin.action"));
	record_str(&r.job.record, STR("outcome"), STR("failed"));
	record_str(&r.job.record, STR("pep"), c->import->by);
	if (!act_record_append(c, &r, &e))
		log_event(LOG_ERROR, "admin.unrecorded", "why=\"%s\"", e.msg);
}

static bool prepare_all(struct control *c, struct err *e)
{
	struct bundle_set *bundles = (struct bundle_set *)slot_acquire(&c->core->bundles);
	int64_t now_ms = clock_wall_ms(c->core->clock);
	const struct import *m = c->import;
	bool ok = true;

	for (size_t i = 0; i < m->n && ok; i++) {
		ok = prepare_one(c, &m->entries[i], bundles, now_ms, e);
		if (!ok)
			(void)err_prefix(e, "agents[%zu]", i + 1);
	}
	bundle_set_release(bundles);
	return ok;
}

static bool write_all(struct control *c, struct err *e)
{
	struct import *m = c->import;

	if (!prepare_all(c, e)) {
		registry_abort(c->registry);
		return false;
	}
	for (size_t at = 0; at < m->n;)
		if (!record_some(c, &at, e)) {
			registry_abort(c->registry);
			record_failure(c);
			return false;
		}
	if (registry_commit(c->registry, e))
		return true;
	record_failure(c);
	return false;
}

bool import_take(struct control *c, const struct import_part *p, uint64_t *registered,
		 struct err *e)
{
	int64_t now_ms = clock_wall_ms(c->core->clock);
	bool ok;

	*registered = 0;
	if (!expected(c, p, now_ms, e))
		return false;
	c->import->touched_ms = now_ms;
	ok = keep(c, p, e) && (!p->last || write_all(c, e));
	if (ok && p->last)
		*registered = c->import->n;
	if (!ok || p->last)
		import_drop(c);
	return ok;
}
