/* Load a set: look at every file, run what states rules and entries, check it as a whole. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/policy/lint.h"
#include "authz/policy/rules.h"
#include "authz/policy/scan.h"
#include "authz/policy/state.h"
#include "authz/policy/test_inside.h"

#define LOAD_STEPS 20000000 /* per file */
#define LOAD_MS 10000	    /* for all files */
#define LOAD_MEMORY ((size_t)64 * 1024 * 1024)
#define SET_MEMORY ((size_t)1024 * 1024 * 1024)
#define ZONES_MAX 64

const struct policy_limits policy_default_limits = { 200000, 5, 1024 * 1024 };

struct loader {
	struct job job; /* first: zone() gets it */
	const struct policy_options *o;
	struct sandbox sb;
	int64_t deadline_ns;
	uint32_t room_zones;
	bool stored; /* the sources are a stored generation's */
};

static void set_free(struct shared *shared)
{
	struct set *s = (struct set *)shared;
	const struct alloc *alloc = s->alloc;

	arena_clear(&s->arena);
	mem_free(alloc, s, sizeof(*s));
}

static enum file_kind kind_of(struct str path)
{
	if (str_ends(path, STR("_test.lua")))
		return FILE_TEST;
	return str_starts(path, STR("catalogue/")) ? FILE_CATALOGUE : FILE_RULES;
}

/* Text only, and text that may stand in JSON: what begins with ESC would be bytecode. */
static bool text_ok(struct job *j, struct str text)
{
	int line = 1;

	if (text_is_utf8(text) && !(text.n && memchr(text.p, '\0', text.n)) &&
	    !str_starts(text, STR("\x1b")))
		return true;
	for (size_t i = 0; i < text.n && text_is_utf8(str_first(text, i + 4)) && text.p[i]; i++)
		line += text.p[i] == '\n';
	job_error(j, line, "this is not UTF-8 text");
	return false;
}

/* Zones */

const struct zone *set_zone(const struct set *s, struct str name)
{
	for (uint32_t i = 0; i < s->nzones; i++)
		if (str_eq(s->zones[i].file.path, name))
			return &s->zones[i];
	return NULL;
}

static bool zone_from_folder(struct job *j, const char *dir, struct str name, struct str *bytes)
{
	char path[512];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/%.*s", dir, STR_FMT(name)), fd;
	ssize_t got = -1;
	char *p;

	if (n < 0 || (size_t)n >= sizeof(path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= TZ_FILE_MAX &&
	    (p = arena_alloc(&j->set->arena, (size_t)st.st_size))) {
		got = read(fd, p, (size_t)st.st_size);
		*bytes = (struct str){ p, (size_t)st.st_size };
	}
	close(fd);
	return got == st.st_size;
}

/* What a stored generation merely mentions (@literal false) and was no zone when it was stored
 * does not become one because tzdata has it now. */
static bool zone_bytes(struct loader *l, struct str name, bool literal, struct str *bytes)
{
	for (size_t i = 0; i < l->o->nzones; i++)
		if (str_eq(l->o->zones[i].path, name)) {
			*bytes = arena_dup(&l->job.set->arena, l->o->zones[i].text);
			return bytes->p != NULL;
		}
	if (l->stored && !literal)
		return false;
	return zone_from_folder(&l->job, l->o->zoneinfo, name, bytes);
}

/* A text of a policy file that may name a zone. What is no argument of time.* is tried only if
 * it looks like one ("Europe/Berlin"), for policies that keep the name in a local. */
static void add_zone(struct job *j, struct str name, int line, bool literal)
{
	struct loader *l = (struct loader *)j;
	struct set *s = j->set;
	void *zones = s->zones;
	struct zone z = { 0 };
	struct err e = { 0 };

	if (str_eq(name, STR("UTC")) || set_zone(s, name))
		return;
	if (!literal &&
	    (!name.n || name.p[0] < 'A' || name.p[0] > 'Z' || !memchr(name.p, '/', name.n)))
		return;
	if (!tz_name_ok(name) || !zone_bytes(l, name, literal, &z.file.text)) {
		if (literal)
			job_error(j, line,
				  "there is no time zone \"%.*s\" in %s; names are as "
				  "\"Europe/Berlin\"",
				  STR_FMT(name), l->o->zoneinfo);
		return;
	}
	if (!tz_parse(z.file.text, &z.tz, &e)) {
		if (literal)
			job_error(j, line, "time zone \"%.*s\": %s", STR_FMT(name), e.msg);
		return;
	}
	z.file.path = arena_dup(&s->arena, name);
	if (s->nzones >= ZONES_MAX)
		job_error(j, line, "more than %d time zones are named", ZONES_MAX);
	else if (z.file.path.p && job_room(j, &zones, s->nzones, &l->room_zones, sizeof(z))) {
		s->zones = zones;
		s->zones[s->nzones++] = z;
	}
}

const struct policy_file *policy_set_zones(const struct policy_set *set, size_t *n)
{
	*n = set_of(set)->nzones;
	return set_of(set)->zone_files;
}

/* Run one file */

static int dump_into(lua_State *L, const void *p, size_t n, void *ud)
{
	(void)L;
	buf_add(ud, (struct str){ p, n });
	return !buf_ok(ud);
}

static void words_of(enum file_kind kind, const struct prelude_word **words,
		     const char *const **names)
{
	*words = kind == FILE_CATALOGUE ? catalogue_words : rules_words;
	*names = kind == FILE_CATALOGUE ? catalogue_word_names
		 : kind == FILE_TEST	? test_word_names
					: rules_word_names;
}

static int run_file(lua_State *L)
{
	struct job *j = lua_touserdata(L, 1);
	struct source_file *f = &j->set->files[j->file];
	const struct prelude_word *words;
	const char *const *names;
	size_t before = j->findings->errors;
	char name[16];
	struct buf b;

	j->findings->code = "syntax";
	snprintf(name, sizeof(name), "=%u", j->file);
	words_of(f->kind, &words, &names);
	prelude_push(L, words);
	if (luaL_loadbufferx(L, f->text.p, f->text.n, name, "t") != LUA_OK)
		return lua_error(L);
	if (f->kind == FILE_TEST && !j->lint)
		return 0; /* run by `writ policy test` */
	buf_in_arena(&b, &j->set->arena, 16 * 1024 * 1024);
	if (lua_dump(L, dump_into, &b, 0) != 0)
		return luaL_error(L, "no memory for the compiled form");
	j->findings->code = "global";
	scan_dump(j, buf_str(&b), names);
	if (j->findings->errors != before || f->kind == FILE_TEST)
		return 0; /* running it would say the same again, worse */
	if (f->kind == FILE_RULES)
		f->dump = buf_str(&b);
	j->findings->code = f->kind == FILE_CATALOGUE ? "catalogue" : "rule";
	prelude_push_env(L, 2);
	if (!lua_setupvalue(L, -2, 1))
		return luaL_error(L, "the chunk has no environment");
	lua_call(L, 0, 0);
	rules_check_pending(j);
	return 0;
}

static void say(struct job *j, const char *why)
{
	struct str path;
	const char *text;
	int line;

	if (state_where(j->set, why, &path, &line, &text))
		finding(j->findings, true, path, line, "%s", text);
	else
		job_error(j, 0, "%s", why);
}

static void load_file(struct loader *l, uint32_t file)
{
	struct job *j = &l->job;
	int64_t left = l->deadline_ns - clock_mono_ns(&clock_system);
	uint32_t ms = left > 1000000 ? (uint32_t)(left / 1000000) : 1;
	struct err e = { 0 };
	char why[WHY_MAX];

	j->file = file;
	if (!text_ok(j, j->set->files[file].text))
		return;
	/* A state of its own for each file: nothing of one reaches another. */
	if (!sandbox_open(&l->sb, l->o->alloc, &clock_system, LOAD_MEMORY, &e)) {
		job_error(j, 0, "%s", e.msg);
		return;
	}
	l->sb.work = j;
	l->sb.set = j->set;
	if (!sandbox_call(&l->sb, run_file, j, LOAD_STEPS, ms, why, sizeof(why)))
		say(j, why);
	j->npending = 0;
	sandbox_close(&l->sb);
}

/* All files at once, once everything is known */

static void check_rules_exist(struct loader *l)
{
	struct set *s = l->job.set;

	for (uint32_t i = 0; i < s->nfiles; i++) {
		bool any = false;

		l->job.file = i;
		for (uint32_t k = 0; k < s->nrules && !any; k++)
			any = s->rules[k].file == i;
		if (s->files[i].kind == FILE_RULES && !any && s->files[i].dump.p)
			job_warn(&l->job, 0, "this file states no rules");
	}
}

static void scan_all(struct loader *l)
{
	struct set *s = l->job.set;

	for (uint32_t i = 0; i < s->nfiles; i++) {
		l->job.file = i;
		if (s->files[i].kind != FILE_TEST && text_is_utf8(s->files[i].text))
			scan_source(&l->job, s->files[i].text, add_zone);
	}
}

static bool publish_zones(struct set *s)
{
	s->zone_files = arena_alloc(&s->arena, (s->nzones + 1) * sizeof(*s->zone_files));
	for (uint32_t i = 0; s->zone_files && i < s->nzones; i++)
		s->zone_files[i] = s->zones[i].file;
	return s->zone_files != NULL;
}

/* The second run of every file, as each state will do it: constants must freeze. */
static void try_binding(struct loader *l)
{
	struct set *s = l->job.set;
	struct err e = { 0 };
	struct policy_state *st = policy_state_new(&s->pub, l->o->alloc, &clock_system, &e);
	char why[WHY_MAX];

	if (!st) {
		job_error(&l->job, 0, "%s", e.msg);
		return;
	}
	for (uint32_t i = 0; i < s->nfiles; i++) {
		l->job.file = i;
		if (s->files[i].dump.p && (!state_open(st, why) || !state_bind(st, i, why)))
			say(&l->job, why);
	}
	policy_state_free(st);
}

static void place_findings(struct policy_findings *f, const struct set *s)
{
	for (size_t i = 0; i < f->n; i++)
		for (uint32_t k = 0; k < s->nfiles; k++)
			if (str_eq(f->items[i].file, s->files[k].path))
				finding_place(&f->items[i], s->files[k].text);
}

static void load_all(struct loader *l)
{
	struct set *s = l->job.set;
	const char **code = &l->job.findings->code;

	for (uint32_t i = 0; i < s->nfiles; i++)
		load_file(l, i);
	*code = "duplicate";
	rules_finish(&l->job);
	catalogue_finish(&l->job);
	*code = "unknown-name";
	catalogue_check_rules(&l->job);
	*code = "source";
	scan_all(l);
	*code = "policy";
	check_rules_exist(l);
	l->job.file = 0;
	s->index = index_build(s->rules, s->nrules, &s->arena);
	if (!s->index || !names_collect(s) || !publish_zones(s) || l->job.out_of_memory)
		finding(l->job.findings, true, (struct str){ NULL, 0 }, 0,
			"no memory for the policy set");
	else if (!l->job.findings->errors)
		try_binding(l);
	if (l->o->lint && s->by_name)
		lint_set(&l->job);
	place_findings(l->job.findings, s);
	/* The sources are the caller's. */
	for (uint32_t i = 0; i < s->nfiles; i++)
		s->files[i].text = (struct str){ NULL, 0 };
}

static struct set *set_new(const struct policy_sources *src, const struct policy_options *o)
{
	struct set *s = mem_zero(o->alloc, sizeof(*s));

	if (!s)
		return NULL;
	s->alloc = o->alloc;
	s->limits = o->limits;
	arena_init(&s->arena, o->alloc, SET_MEMORY);
	shared_init(&s->pub.shared, set_free);
	memcpy(s->pub.hash, src->hash, sizeof(src->hash));
	s->nfiles = (uint32_t)src->n;
	s->files = arena_zero(&s->arena, (src->n + 1) * sizeof(*s->files));
	for (size_t i = 0; s->files && i < src->n; i++) {
		struct source_file *f = &s->files[i];

		f->path = arena_dup(&s->arena, src->files[i].path);
		f->text = src->files[i].text;
		f->kind = kind_of(f->path);
		if (!f->path.p)
			s->files = NULL;
	}
	if (s->files)
		return s;
	shared_release(&s->pub.shared);
	return NULL;
}

static bool first_error(const struct policy_findings *f, struct err *e)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct policy_finding *x = &f->items[i];

		if (x->error)
			return err_code(e, ERR_INVALID, "invalid_policy", "%.*s:%d: %.*s",
					STR_FMT(x->file), x->line, STR_FMT(x->message));
	}
	return err_set(e, ERR_NOMEM, "no memory to load the policies");
}

bool policy_set_load_with(const struct policy_sources *src, const struct policy_options *given,
			  struct policy_set **out, struct policy_findings *findings, struct err *e)
{
	struct policy_options o = *given;
	struct policy_findings own = { 0 }, *f = findings ? findings : &own;
	struct loader l = { .o = &o, .stored = src->stored };
	bool ok = true;

	if (src->stored && !o.nzones) {
		o.zones = src->zones;
		o.nzones = src->nzones;
	}
	o.alloc = o.alloc ? o.alloc : &mem_system;
	o.zoneinfo = o.zoneinfo ? o.zoneinfo : "/usr/share/zoneinfo";
	if (!o.limits.instructions)
		o.limits = policy_default_limits;
	findings_init(f, o.alloc);
	l.job = (struct job){
		.kind = JOB_LOAD, .findings = f, .lint = o.lint, .set = set_new(src, &o)
	};
	if (!l.job.set)
		return err_set(e, ERR_NOMEM, "no memory to load the policies");
	l.deadline_ns = clock_mono_ns(&clock_system) + (int64_t)LOAD_MS * 1000000;
	load_all(&l);
	findings_sort(f);
	if (f->errors)
		ok = first_error(f, e);
	if (ok)
		*out = &l.job.set->pub;
	else
		shared_release(&l.job.set->pub.shared);
	policy_findings_clear(&own);
	return ok;
}

bool policy_set_load(const struct policy_sources *s, const struct policy_limits *limits,
		     struct policy_set **out, struct policy_findings *findings, struct err *e)
{
	struct policy_options o = { .limits = limits ? *limits : policy_default_limits };

	return policy_set_load_with(s, &o, out, findings, e);
}

size_t policy_set_rule_count(const struct policy_set *s)
{
	return set_of(s)->nrules;
}

void policy_set_rules(const struct policy_set *set,
		      void (*each)(void *ctx, struct str policy, struct str rule,
				   const char *effect, struct str file, int line, struct str on),
		      void *ctx)
{
	const struct set *s = set_of(set);

	for (uint32_t i = 0; i < s->nrules; i++) {
		const struct rule *r = s->by_name[i];

		each(ctx, r->policy, r->name,
		     r->effect == DECISION_DENY	 ? "deny"
		     : r->effect == DECISION_ASK ? "ask"
						 : "permit",
		     s->files[r->file].path, r->line, r->on_text);
	}
}
