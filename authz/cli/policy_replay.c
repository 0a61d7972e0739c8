/* policy replay: recorded decisions computed again, here, from the data folder. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "authz/cli/commands.h"
#include "authz/cli/policy_data.h"
#include "authz/cli/print.h"
#include "authz/decide/replay.h"

#define GROUPS_MAX 1000
#define IDS_SHOWN 10
#define IDS_MAX 10000
#define LOOK_EVERY 1024	  /* decisions between two looks at the clock */
#define SHOW_NS 100000000 /* between two pictures of the progress */

/* Decisions that change in the same way. */
struct group {
	char *key; /* "permit finance/payments -> ask finance/payment over 500" */
	uint64_t count, *seqs;
	size_t nseqs;
};

struct report {
	uint64_t pruned; /* records before it */
	uint64_t counts[REPLAY_VERDICTS], settlers[REPLAY_SETTLERS], total;
	struct group groups[GROUPS_MAX];
	size_t ngroups, ids;
	uint64_t more; /* changed, but of further groups */
	int64_t ns;
	char key_id[9];
};

static void put_side(struct buf *b, const struct replay_side *s)
{
	print_safe(b, s->decision);
	buf_char(b, ' ');
	if (s->rule.n) {
		print_safe(b, s->rule);
		buf_lit(b, " (");
		print_safe(b, s->reason);
		buf_char(b, ')');
	} else {
		print_safe(b, s->reason);
	}
}

/* What sets a change apart from others. An error's text differs from request to request. */
static void put_key(struct buf *b, const struct replay_row *row)
{
	const struct replay_side *was = &row->was, *is = &row->is;

	put_side(b, was);
	buf_lit(b, " -> ");
	put_side(b, is);
	if (str_eq(was->decision, is->decision) && str_eq(was->rule, is->rule) &&
	    str_eq(was->reason, is->reason))
		buf_add(b, str_eq(was->answer, is->answer) ? STR(": tool or model")
							   : STR(": message or obligations"));
}

static struct group *find_group(struct report *r, struct str key)
{
	struct group *g;

	for (size_t i = 0; i < r->ngroups; i++)
		if (str_eq(str_c(r->groups[i].key), key))
			return &r->groups[i];
	if (r->ngroups == GROUPS_MAX)
		return NULL;
	g = &r->groups[r->ngroups];
	g->key = strndup(key.p, key.n);
	g->seqs = calloc(r->ids + 1, sizeof(*g->seqs));
	if (!g->key || !g->seqs) {
		free(g->key);
		free(g->seqs);
		*g = (struct group){ 0 };
		return NULL;
	}
	r->ngroups++;
	return g;
}

static void count_change(struct report *r, const struct replay_row *row)
{
	struct group *g;
	AUTO_BUF b;

	buf_init(&b, mem_system, 65536);
	put_key(&b, row);
	g = buf_ok(&b) ? find_group(r, buf_str(&b)) : NULL;
	if (!g) {
		r->more++;
		return;
	}
	g->count++;
	if (g->nseqs < r->ids)
		g->seqs[g->nseqs++] = row->seq;
}

/* [########------------]  40%  41013 of 102532 records, 12 changed */
static void put_progress(const struct report *r, uint64_t done, uint64_t all)
{
	static const char full[] = "####################", empty[] = "--------------------";
	int width = (int)(sizeof(full) - 1), filled = all ? (int)(done * 20 / all) : width;

	fprintf(stderr,
		"\r[%.*s%.*s] %3d%%  %" PRIu64 " of %" PRIu64 " records, %" PRIu64 " changed ",
		filled, full, width - filled, empty, filled * 5, done, all,
		r->counts[REPLAY_CHANGED]);
}

static bool replay_all(struct replay *replay, struct report *r, bool progress, struct err *e)
{
	uint64_t all = replay_left(replay);
	int64_t began = clock_mono_ns(&clock_system), shown = began;
	struct replay_row row;
	bool got = true;

	r->pruned = replay_pruned(replay);
	if (progress)
		put_progress(r, 0, all);
	while (replay_next(replay, &row, &got, e) && got) {
		r->counts[row.verdict]++;
		if (row.verdict == REPLAY_CHANGED)
			count_change(r, &row);
		if (row.verdict == REPLAY_SETTLED)
			r->settlers[row.settler]++;
		if (++r->total % LOOK_EVERY || !progress ||
		    clock_mono_ns(&clock_system) - shown < SHOW_NS)
			continue;
		shown = clock_mono_ns(&clock_system);
		put_progress(r, all - replay_left(replay), all);
	}
	if (progress)
		fprintf(stderr, "\r\033[K");
	r->ns = clock_mono_ns(&clock_system) - began;
	return e->class == ERR_NONE;
}

/* Before the first checkpoint the key's id is not known; explain takes the bare number as well. */
static void put_id(struct buf *b, const struct report *r, uint64_t seq)
{
	if (r->key_id[0])
		buf_printf(b, "ev_%s_", r->key_id);
	buf_printf(b, "%" PRIu64, seq);
}

static int by_count(const void *pa, const void *pb)
{
	const struct group *a = pa, *b = pb;

	if (a->count != b->count)
		return a->count < b->count ? 1 : -1;
	return strcmp(a->key, b->key);
}

static void put_json(struct cli *c, const struct report *r, const char *folder, const char *with)
{
	AUTO_BUF b;

	buf_init(&b, mem_system, (size_t)256 * 1024 * 1024);
	buf_lit(&b, "{\"data\":");
	buf_json(&b, str_c(folder));
	buf_lit(&b, ",\"policies\":");
	buf_json(&b, str_c(with));
	buf_printf(&b, ",\"decisions\":%" PRIu64, r->total);
	if (r->pruned)
		buf_printf(&b, ",\"pruned\":%" PRIu64, r->pruned);
	for (int i = 0; i < REPLAY_VERDICTS; i++)
		buf_printf(&b, ",\"%s\":%" PRIu64, replay_verdict_names[i], r->counts[i]);
	buf_lit(&b, ",\"settled_by\":{");
	for (int i = 0; i < REPLAY_SETTLERS; i++)
		buf_printf(&b, "%s\"%s\":%" PRIu64, i ? "," : "", replay_settlers[i],
			   r->settlers[i]);
	buf_printf(&b, "},\"microseconds\":%" PRId64 ",\"changes\":[", r->ns / 1000);
	for (size_t i = 0; i < r->ngroups; i++) {
		buf_add(&b, i ? STR(",{\"change\":") : STR("{\"change\":"));
		buf_json(&b, str_c(r->groups[i].key));
		buf_printf(&b, ",\"count\":%" PRIu64 ",\"evaluations\":[", r->groups[i].count);
		for (size_t k = 0; k < r->groups[i].nseqs; k++) {
			buf_add(&b, k ? STR(",\"") : STR("\""));
			put_id(&b, r, r->groups[i].seqs[k]);
			buf_char(&b, '"');
		}
		buf_lit(&b, "]}");
	}
	buf_printf(&b, "],\"other_changes\":%" PRIu64 "}\n", r->more);
	fwrite(b.p, 1, b.n, c->out);
}

/* These were never the policies' to decide, so no policy changes them. */
static void put_settled(struct cli *c, const struct report *r)
{
	if (!r->counts[REPLAY_SETTLED])
		return;
	fprintf(c->out,
		"denied before the policies were asked, so not computed again: %" PRIu64 "\n",
		r->counts[REPLAY_SETTLED]);
	for (int i = 0; i < REPLAY_SETTLERS; i++)
		if (r->settlers[i])
			fprintf(c->out, "    %s: %" PRIu64 "\n", replay_settlers[i],
				r->settlers[i]);
}

static void put_text(struct cli *c, const struct report *r, const char *folder, const char *with)
{
	static const struct {
		enum replay_verdict verdict;
		const char *text;
	} lines[] = {
		{ REPLAY_REDACTED, "redacted (erased or masked), so not computed again" },
		{ REPLAY_TIMED, "ran out of time, which cannot be repeated" },
		{ REPLAY_ENGINE, "decided by another version of writ" },
		{ REPLAY_UNKNOWN, "the policies that decided are not stored" },
	};
	uint64_t computed = r->counts[REPLAY_SAME] + r->counts[REPLAY_CHANGED];

	fprintf(c->out, "%s, by %s\n", folder, with);
	fprintf(c->out, "computed again: %" PRIu64 ", same: %" PRIu64 ", changed: %" PRIu64 "\n",
		computed, r->counts[REPLAY_SAME], r->counts[REPLAY_CHANGED]);
	if (r->pruned)
		fprintf(c->out, "records before %" PRIu64 " were pruned, so not computed again\n",
			r->pruned);
	put_settled(c, r);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++)
		if (r->counts[lines[i].verdict])
			fprintf(c->out, "%s: %" PRIu64 "\n", lines[i].text,
				r->counts[lines[i].verdict]);
	for (size_t i = 0; i < r->ngroups; i++) {
		const struct group *g = &r->groups[i];

		fprintf(c->out, "\n%" PRIu64 "  %s\n", g->count, g->key);
		for (size_t k = 0; k < g->nseqs; k++) {
			AUTO_BUF id;

			buf_init(&id, mem_system, 64);
			put_id(&id, r, g->seqs[k]);
			fprintf(c->out, "    %.*s\n", STR_FMT(buf_str(&id)));
		}
		if (g->count > g->nseqs)
			fprintf(c->out, "    and %" PRIu64 " more (--ids)\n", g->count - g->nseqs);
	}
	if (r->more)
		fprintf(c->out, "\nchanged in other ways: %" PRIu64 "\n", r->more);
	if (r->total && r->ns)
		fprintf(c->out, "\n%.2f s, %.0f decisions/s\n", (double)r->ns / 1e9,
			(double)r->total * 1e9 / (double)r->ns);
}

bool cli_moment(struct cli *c, const char *option, int64_t *ms, int *exit_code)
{
	const char *text = cli_value(c, option);
	int64_t seconds;

	if (!text)
		return true;
	if (text_duration(str_c(text), &seconds)) {
		*ms = clock_wall_ms(&clock_system) - seconds * 1000;
		return true;
	}
	if (clock_parse_rfc3339(str_c(text), ms))
		return true;
	*exit_code = cli_misuse(c,
				"%s %.60s: expected a time like 2026-11-21T10:00:00Z, or 7d for "
				"a week ago",
				option, text);
	return false;
}

static struct report *new_report(uint64_t ids)
{
	struct report *r = calloc(1, sizeof(*r));

	if (r)
		r->ids = ids;
	return r;
}

static void free_report(struct report *r)
{
	for (size_t i = 0; r && i < r->ngroups; i++) {
		free(r->groups[i].key);
		free(r->groups[i].seqs);
	}
	free(r);
}

static bool run_replay(struct cli *c, struct policy_data *d, struct replay_config *rc,
		       struct report *r, struct err *e)
{
	bool progress = !c->json && isatty(STDERR_FILENO) == 1, ok;
	struct replay *replay = NULL;

	if (!r)
		return err_set(e, ERR_NOMEM, "no memory to replay");
	rc->alloc = &mem_system;
	rc->folder = d->config->data;
	rc->limits = d->limits;
	policy_data_key_id(d, r->key_id);
	ok = replay_open(rc, &replay, e) && replay_all(replay, r, progress, e);
	replay_close(replay);
	qsort(r->groups, r->ngroups, sizeof(*r->groups), by_count);
	return ok;
}

static void put_report(struct cli *c, const struct report *r, const char *folder, const char *with)
{
	if (c->json)
		put_json(c, r, folder, with);
	else
		put_text(c, r, folder, with);
}

/* --ids, --since, --until */
static bool read_options(struct cli *c, struct replay_config *rc, uint64_t *shown, int *exit_code)
{
	const char *ids = cli_value(c, "--ids");

	*shown = c->json ? IDS_MAX : IDS_SHOWN;
	if (ids && !text_u64(str_c(ids), IDS_MAX, shown)) {
		*exit_code = cli_misuse(c, "--ids %.60s: expected a number up to %d", ids, IDS_MAX);
		return false;
	}
	return cli_moment(c, "--since", &rc->since_ms, exit_code) &&
	       cli_moment(c, "--until", &rc->until_ms, exit_code);
}

int run_policy_replay(struct cli *c)
{
	const char *agent = cli_value(c, "--agent"), *tool = cli_value(c, "--tool");
	struct replay_config rc = { .agent = str_c(agent ? agent : ""),
				    .tool = str_c(tool ? tool : "") };
	struct policy_data d = { 0 };
	struct report *r = NULL;
	struct err e = { 0 };
	char with[300] = "the generation that each record names";
	uint64_t shown;
	int exit_code;

	if (!read_options(c, &rc, &shown, &exit_code))
		return exit_code;
	if (policy_data_open(c, &d, &e) &&
	    (!c->noperands ||
	     policy_data_set(&d, c->operands[0], &rc.candidate, with, sizeof(with), &e)))
		r = new_report(shown);
	if (e.class != ERR_NONE || !run_replay(c, &d, &rc, r, &e)) {
		exit_code = cli_fail(c, &e);
	} else {
		put_report(c, r, d.config->data, with);
		exit_code = r->counts[REPLAY_CHANGED] ? CLI_FAILED : CLI_DONE;
	}
	free_report(r);
	if (rc.candidate)
		shared_release(&rc.candidate->shared);
	policy_data_close(&d);
	return exit_code;
}

int policy_replay_between(struct cli *c, uint64_t from, uint64_t to, struct str before,
			  struct str after)
{
	struct replay_config rc = { .from = 0 };
	struct policy_data d = { 0 };
	struct report *r = NULL;
	struct err e = { 0 };
	char name[24], with[300];
	uint64_t shown;
	int exit_code = CLI_DONE;

	if (!read_options(c, &rc, &shown, &exit_code))
		return exit_code;
	snprintf(name, sizeof(name), "%" PRIu64, from);
	if (policy_data_open(c, &d, &e) &&
	    policy_data_set(&d, name, &rc.baseline, with, sizeof(with), &e)) {
		snprintf(name, sizeof(name), "%" PRIu64, to);
		if (policy_data_set(&d, name, &rc.candidate, with, sizeof(with), &e))
			r = new_report(shown);
	}
	if (e.class != ERR_NONE || !run_replay(c, &d, &rc, r, &e)) {
		exit_code = cli_fail(c, &e);
	} else {
		snprintf(with, sizeof(with), "generation %" PRIu64 " against generation %" PRIu64,
			 to, from);
		fwrite(before.p, 1, before.n, c->out);
		put_report(c, r, d.config->data, with);
		fwrite(after.p, 1, after.n, c->out);
	}
	free_report(r);
	if (rc.candidate)
		shared_release(&rc.candidate->shared);
	if (rc.baseline)
		shared_release(&rc.baseline->shared);
	policy_data_close(&d);
	return exit_code;
}
