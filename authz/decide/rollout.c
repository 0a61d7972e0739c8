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

static bool record_load(struct control *c, const struct policy_set *set, struct str by,
			const char *outcome, struct err *e)
{
	struct act_record r;

	act_record_begin(&r);
	record_int(&r.job.record, STR("generation"), (int64_t)set->generation);
	record_str(&r.job.record, STR("kind"), STR("policy.load"));
	record_str(&r.job.record, STR("outcome"), str_c(outcome));
	record_str(&r.job.record, STR("pep"), by);
	record_hash(&r.job.record, STR("policy_sha256"), set->hash);
	record_int(&r.job.record, STR("rules"), (int64_t)policy_set_rule_count(set));
	return act_record_append(c, &r, e);
}

/* Activation grants: the record comes before the change (design 12, Storage). */
static bool put_in_force(struct control *c, struct policy_set *set, struct str by, struct err *e)
{
	int64_t now = clock_wall_ms(c->core->clock);
	struct err ignored = { 0 };

	if (!record_load(c, set, by, "done", e))
		return false;
	if (!generations_activate(c->generations, set->generation, false, by, now, e)) {
		/* The log now tells of something that did not happen: say so there too. */
		if (!record_load(c, set, by, "failed", &ignored))
			log_event(LOG_ERROR, "policy.unrecorded", "why=\"%s\"", ignored.msg);
		return false;
	}
	publish_standing(c, set, false, now, NULL);
	log_event(LOG_INFO, "policy.active", "generation=%llu rules=%zu",
		  (unsigned long long)set->generation, policy_set_rule_count(set));
	slot_publish(&c->core->policies, &set->shared);
	return true;
}

static bool same_as_active(struct control *c, const struct policy_sources *s)
{
	struct policy_set *set = (struct policy_set *)slot_acquire(&c->core->policies);
	bool same = set && !memcmp(set->hash, s->hash, sizeof(s->hash));

	shared_release(set ? &set->shared : NULL);
	return same;
}

static bool activate_sources(struct control *c, struct policy_sources *s, struct str by,
			     struct err *e)
{
	struct policy_set *set;
	bool stored;

	if (same_as_active(c, s)) {
		struct policy_standing *old = (struct policy_standing *)slot_acquire(&c->standing);

		if (old && old->failed.class != ERR_NONE) { /* mended by going back */
			struct policy_set *now = (struct policy_set *)slot_acquire(
				&c->core->policies);

			publish_standing(c, now, old->pinned, old->since_ms, NULL);
			shared_release(now ? &now->shared : NULL);
		}
		shared_release(old ? &old->shared : NULL);
		return true;
	}
	if (!generations_recall(c->generations, s, e) ||
	    !policy_set_load(s, &c->config.limits, &set, NULL, e))
		return false;
	if (!generations_store(c->generations, s, set, by, STR(""), clock_wall_ms(c->core->clock),
			       &set->generation, &stored, e) ||
	    !put_in_force(c, set, by, e)) {
		shared_release(&set->shared);
		return false;
	}
	return true;
}

bool control_activate_folder(struct control *c, struct str by, struct err *e)
{
	struct policy_sources s;
	bool ok;

	if (!policy_sources_read(&s, c->config.policies, e))
		return false;
	ok = activate_sources(c, &s, by, e);
	policy_sources_clear(&s);
	return ok;
}

/* At start: the set that was in force when writ stopped decides until the folder says otherwise,
 * so a folder that was broken meanwhile does not leave the service without policies. */
bool control_activate_stored(struct control *c, struct err *e)
{
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
	ok = policy_set_load(&s, &c->config.limits, &set, NULL, e);
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
	pinned = standing && standing->pinned;
	shared_release(standing ? &standing->shared : NULL);
	fingerprint(AT_FDCWD, c->config.policies, 4, 0xcbf29ce484222325u, &seen);
	if (seen == c->folder_seen || pinned)
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
