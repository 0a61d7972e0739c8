/*
 * Which policy set is in force. A set is loaded and checked whole, its sources are stored as a
 * generation, its activation is put on record, and only then is it published. Whatever fails on
 * the way leaves the set in force as it is, and says so in the standing.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/log.h"
#include "authz/base/text.h"
#include "authz/decide/control.h"
#include "authz/decide/rollout_acts.h"
#include "authz/decide/signing.h"

#define RETRY_NS 5000000000LL /* after storage was short */

static void free_standing(struct shared *s)
{
	free(s);
}

/* Publish how things stand: the set in force (NULL: none) and what is wrong with the folder. */
static void publish_standing(struct control *c, const struct policy_set *set, bool pinned,
			     int64_t since_ms, const struct err *failed)
{
	struct policy_standing *s = calloc(1, sizeof(*s));

	if (!s)
		return; /* the old standing stays: only a report */
	shared_init(&s->shared, free_standing);
	if (set) {
		s->generation = set->generation;
		text_hex(set->hash, sizeof(set->hash), s->hash);
		s->rules = policy_set_rule_count(set);
		s->since_ms = since_ms;
		s->pinned = pinned;
	}
	if (failed)
		s->failed = *failed;
	slot_publish(&c->standing, &s->shared);
}

static void stands_failed(struct control *c, const struct err *why)
{
	struct policy_standing *old = (struct policy_standing *)slot_acquire(&c->standing);
	struct policy_set *set = (struct policy_set *)slot_acquire(&c->core->policies);

	publish_standing(c, set, old && old->pinned, old ? old->since_ms : 0, why);
	shared_release(old ? &old->shared : NULL);
	shared_release(set ? &set->shared : NULL);
}

static uint64_t in_force(struct control *c)
{
	struct policy_set *set = (struct policy_set *)slot_acquire(&c->core->policies);
	uint64_t generation = set ? set->generation : 0;

	shared_release(set ? &set->shared : NULL);
	return generation;
}

static bool record_load(struct control *c, const struct policy_set *set,
			const struct policy_act *act, const char *outcome, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_str(&r.job.record, STR("act"), act->word);
	record_int(&r.job.record, STR("generation"), (int64_t)set->generation);
	record_str(&r.job.record, STR("kind"), STR("policy.load"));
	record_str(&r.job.record, STR("outcome"), str_c(outcome));
	record_str(&r.job.record, STR("pep"), act->by);
	if (act->pinned)
		record_int(&r.job.record, STR("pinned"), 1);
	record_hash(&r.job.record, STR("policy_sha256"), set->hash);
	record_int(&r.job.record, STR("rules"), (int64_t)policy_set_rule_count(set));
	signing_record(c, set->hash, &r.job.record);
	return act_record_append(c, &r, e);
}

/* Activation grants: the record comes before the change (design 12, Storage). */
static bool put_in_force(struct control *c, struct policy_set *set, const struct policy_act *act,
			 struct err *e)
{
	int64_t now = clock_wall_ms(c->core->clock);
	struct err ignored = { 0 };

	if (!record_load(c, set, act, "done", e))
		return false;
	if (!generations_activate(c->generations, set->generation, act->pinned, act->by, now, e)) {
		/* The log now tells of something that did not happen: say so there too. */
		if (!record_load(c, set, act, "failed", &ignored))
			log_event(LOG_ERROR, "policy.unrecorded", "why=\"%s\"", ignored.msg);
		return false;
	}
	publish_standing(c, set, act->pinned, now, NULL);
	log_event(LOG_INFO, "policy.active", "generation=%llu rules=%zu",
		  (unsigned long long)set->generation, policy_set_rule_count(set));
	slot_publish(&c->core->policies, &set->shared);
	return true;
}

/* Is @s in force already, pinned or not as @act wants it? Then *set is it. */
static bool stands_already(struct control *c, const struct policy_sources *s,
			   const struct policy_act *act, struct policy_set **set)
{
	struct policy_standing *old = (struct policy_standing *)slot_acquire(&c->standing);
	struct policy_set *now = (struct policy_set *)slot_acquire(&c->core->policies);
	bool same = old && now && !memcmp(now->hash, s->hash, sizeof(s->hash)) &&
		    old->pinned == act->pinned;

	if (same && old->failed.class != ERR_NONE) /* mended by going back */
		publish_standing(c, now, old->pinned, old->since_ms, NULL);
	shared_release(old ? &old->shared : NULL);
	if (same)
		*set = now;
	else
		shared_release(now ? &now->shared : NULL);
	return same;
}

bool control_activate_sources(struct control *c, struct policy_sources *s,
			      const struct policy_act *act, struct policy_set **out,
			      struct policy_findings *findings, struct err *e)
{
	struct policy_set *set;
	bool stored;

	if (!signing_admits(c, s, act, e))
		return false;
	if (stands_already(c, s, act, out))
		return true;
	if (!generations_recall(c->generations, s, e) ||
	    !policy_set_load(s, &c->config.limits, &set, findings, e))
		return false;
	if (!generations_store(c->generations, s, set, act->by, act->message,
			       clock_wall_ms(c->core->clock), &set->generation, &stored, e)) {
		shared_release(&set->shared);
		return false;
	}
	shared_acquire(&set->shared); /* the caller's; the other goes to the slot */
	if (!put_in_force(c, set, act, e)) {
		shared_release(&set->shared);
		shared_release(&set->shared);
		return false;
	}
	*out = set;
	return true;
}

/* ---- the folder ---- */

/* What the folder held when it was last activated or passed over. It stays as it is over a restart:
 * a folder decides when it changes, not because it is there, or else a restart would undo an
 * apply. */
static const char *const folder_schema[] = {
	"CREATE TABLE policy_folder ("
	"  one INTEGER PRIMARY KEY CHECK (one = 1),"
	"  hash BLOB NOT NULL) STRICT;",
};

struct folder_memory {
	struct db_stmt *recall, *remember;
};

bool control_folder_open(struct control *c, struct err *e)
{
	struct folder_memory *m = c->folder = calloc(1, sizeof(*m));

	if (!m)
		return err_set(e, ERR_NOMEM, "no memory for the policies folder");
	return db_migrate(c->db, "policy_folder", folder_schema, ARRAY_LEN(folder_schema), e) &&
	       db_prepare(c->db, "SELECT 1 FROM policy_folder WHERE hash = ?", &m->recall, e) &&
	       db_prepare(c->db, "INSERT OR REPLACE INTO policy_folder VALUES (1, ?)", &m->remember,
			  e);
}

void control_folder_close(struct control *c)
{
	if (!c->folder)
		return;
	db_finish(c->folder->recall);
	db_finish(c->folder->remember);
	free(c->folder);
	c->folder = NULL;
}

static bool folder_recall(struct control *c, const uint8_t hash[static SHA256_LEN], bool *same,
			  struct err *e)
{
	AUTO_RESET *q = c->folder->recall;
	bool row;

	db_bind_blob(q, 1, hash, SHA256_LEN);
	if (!db_step(q, &row, e))
		return false;
	*same = row;
	return true;
}

static bool folder_remember(struct control *c, const uint8_t hash[static SHA256_LEN], struct err *e)
{
	struct db_stmt *q = c->folder->remember;
	bool same;

	if (!folder_recall(c, hash, &same, e))
		return false;
	if (same)
		return true;
	db_bind_blob(q, 1, hash, SHA256_LEN);
	return db_run(q, e);
}

/* Whatever comes of this, the set in force stays: unremembered, the folder is only activated once
 * more at the next start. */
static void folder_note(struct control *c, const struct policy_sources *s)
{
	struct err e = { 0 };

	if (!folder_remember(c, s->hash, &e))
		log_event(LOG_WARN, "policy.folder", "why=\"%s\"", e.msg);
}

/* At start a stored set is in force, and the folder has not been looked at in this run. */
static bool folder_unchanged(struct control *c, const struct policy_sources *s)
{
	struct policy_standing *now = (struct policy_standing *)slot_acquire(&c->standing);
	bool first = !c->folder_seen && now && now->generation && !now->pinned, same = false;
	struct err e = { 0 };

	shared_release(now ? &now->shared : NULL);
	return first && folder_recall(c, s->hash, &same, &e) && same;
}

bool control_activate_folder(struct control *c, struct str by, struct err *e)
{
	const struct policy_act act = { .word = STR("watch"), .by = by };
	struct policy_set *set = NULL;
	struct policy_sources s;
	bool ok;

	if (!policy_sources_read(&s, c->config.policies, e))
		return false;
	ok = folder_unchanged(c, &s);
	if (!ok && control_activate_sources(c, &s, &act, &set, NULL, e)) {
		ok = true;
		folder_note(c, &s);
	}
	policy_sources_clear(&s);
	shared_release(set ? &set->shared : NULL);
	return ok;
}

/* At start: the set that was in force when writ stopped decides until the folder says otherwise,
 * so a folder that was broken meanwhile does not leave the service without policies. */
bool control_activate_stored(struct control *c, struct err *e)
{
	const struct policy_act act = { .word = STR("start"), .by = STR("writ:start") };
	struct generation_active active;
	struct policy_sources s;
	struct policy_set *set;
	bool ok;

	if (!generations_active(c->generations, &active, e))
		return false;
	if (!active.number) {
		publish_standing(c, NULL, false, 0, NULL);
		return true;
	}
	if (!generations_load(c->generations, active.number, &s, e))
		return err_prefix(e, "policy generation %llu cannot be read back",
				  (unsigned long long)active.number);
	ok = signing_admits(c, &s, &act, e) &&
	     policy_set_load(&s, &c->config.limits, &set, NULL, e);
	policy_sources_clear(&s);
	if (!ok) { /* a newer writ may be stricter: the folder may still be fine */
		log_event(LOG_ERROR, "policy.stored", "generation=%llu why=\"%s\"",
			  (unsigned long long)active.number, e->msg);
		publish_standing(c, NULL, false, 0, e);
		return true;
	}
	set->generation = active.number;
	publish_standing(c, set, active.pinned, active.since_ms, NULL);
	slot_publish(&c->core->policies, &set->shared);
	return true;
}

/* Names, sizes and times of everything below: differs when anything was changed. */
static void fingerprint(int dir, const char *name, unsigned depth, uint64_t seed, uint64_t *h)
{
	/* The folder itself may be a link, as it may for those who read it. */
	int fd = openat(dir, name,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC | (dir == AT_FDCWD ? 0 : O_NOFOLLOW));
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	if (!d) {
		if (fd >= 0)
			close(fd);
		*h += 1;
		return;
	}
	/* Entries come in any order, so their hashes are added up; each starts from its folder's,
	 * as a file that moved to another means something else there. */
	for (const char *p = name; *p; p++)
		seed = (seed ^ (unsigned char)*p) * 0x100000001b3u;
	while ((entry = readdir(d))) { /* NOLINT(concurrency-mt-unsafe): one thread */
		uint64_t one = seed;

		if (entry->d_name[0] == '.' || fstatat(fd, entry->d_name, &st, 0))
			continue;
		if (S_ISDIR(st.st_mode)) {
			if (depth)
				fingerprint(fd, entry->d_name, depth - 1, seed, h);
			continue;
		}
		for (const char *p = entry->d_name; *p; p++)
			one = (one ^ (unsigned char)*p) * 0x100000001b3u;
		one = (one ^ (uint64_t)st.st_size) * 0x100000001b3u;
		one = (one ^ (uint64_t)st.st_ino) * 0x100000001b3u;
		one = (one ^ (uint64_t)st.st_mtim.tv_nsec) * 0x100000001b3u;
		one = (one ^ (uint64_t)st.st_mtim.tv_sec) * 0x100000001b3u;
		one = (one ^ (uint64_t)st.st_ctim.tv_nsec) * 0x100000001b3u;
		*h += one;
	}
	closedir(d);
}

void control_look(struct control *c, bool asked)
{
	struct policy_standing *standing;
	struct err e = { 0 };
	uint64_t seen = 0;
	bool pinned;

	if (!c->config.watch && !asked)
		return;
	standing = (struct policy_standing *)slot_acquire(&c->standing);
	/* A pin from before the files became the only writer could not be taken off again. */
	pinned = standing && standing->pinned && !c->config.files_only;
	shared_release(standing ? &standing->shared : NULL);
	fingerprint(AT_FDCWD, c->config.policies, 4, 0xcbf29ce484222325u, &seen);
	/* A roll-out compares with the set in force, which therefore stays until it is over. */
	if (seen == c->folder_seen || pinned || rollouts_running(c))
		return;
	if (!control_activate_folder(c, STR("writ:watch"), &e)) {
		stands_failed(c, &e);
		log_event(LOG_ERROR, "policy.refused",
			  "folder=\"%s\" why=\"%s\" in_force=%llu effect=\"%s\"",
			  c->config.policies, e.msg, (unsigned long long)in_force(c),
			  in_force(c) ? "nothing changed" : "every answer is deny");
		/* Storage may be short for a moment; a policy mistake stays until it is mended. */
		if (e.class == ERR_UNAVAILABLE || e.class == ERR_IO) {
			/* Not at once: each try may write to the log. */
			c->next_look_ns = clock_mono_ns(c->core->clock) + RETRY_NS;
			return;
		}
	}
	c->folder_seen = seen;
}

void control_folder_seen(struct control *c)
{
	struct policy_sources s;
	struct err e = { 0 };
	uint64_t seen = 0;

	fingerprint(AT_FDCWD, c->config.policies, 4, 0xcbf29ce484222325u, &seen);
	if (policy_sources_read(&s, c->config.policies, &e)) {
		folder_note(c, &s);
		policy_sources_clear(&s);
	}
	c->folder_seen = seen;
}
