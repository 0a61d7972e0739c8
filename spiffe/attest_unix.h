/*
 * attest_unix - what the kernel says of the process at the other end of a Unix socket.
 *
 * Purpose    Selectors of a caller that proves nothing itself (SPIFFE sheet 12): user, groups,
 *            executable, its digest, cgroup, systemd unit. All come from the kernel's view of one
 *            process, pinned before the first look and checked after the last, so that a process
 *            which ends meanwhile lends its pid to nobody.
 *
 *            unix:uid:1000                 effective, as SO_PEERCRED and /proc/PID/status agree
 *            unix:user:bot                 if the number has a name
 *            unix:gid:1000  unix:group:bot
 *            unix:supplementary_gid:27     one each, at most ATTEST_UNIX_GROUPS
 *            unix:supplementary_group:sudo
 *            unix:path:/usr/bin/agent      of the executable, if that path names the very same
 *                                          file for us (see below)
 *            unix:sha256:<64 hex>          of the executable
 *            unix:cgroup:/system.slice/agent.service
 *            systemd:id:agent.service      the unit that systemd itself started
 *
 *            A fact that cannot be read is left out: an entry that asks for it then does not match.
 *            A path is a name in a mount namespace, and any user can make a namespace in which
 *            /usr/bin/agent is his own file; so it is given only if our name leads to that file.
 *            The digest is of the file that runs, whatever its name, but not if it lies on a FUSE
 *            file system: there each reader can be shown another content. A unit is the first
 *            part of the cgroup that is no slice: what a user's own service manager starts
 *            lies below user@UID.service and bears that name.
 *
 *            An interpreter is its own executable: path and sha256 of a Python agent are Python's.
 *            Agents in one process look the same to the kernel.
 * Ownership  Selectors live in the caller's arena. A pin owns a descriptor.
 * Threads    Any, but one that may wait: names are looked up (NSS) and a file may be hashed. The
 *            digests of the last files are remembered per thread.
 */
#ifndef WRIT_SPIFFE_ATTEST_UNIX_H
#define WRIT_SPIFFE_ATTEST_UNIX_H

#include <stdint.h>
#include <sys/types.h>

#include "authz/base/arena.h"
#include "include/writ/err.h"

#define ATTEST_UNIX_GROUPS 128			   /* supplementary ones; of more, none is given */
#define ATTEST_UNIX_HASH_MAX (512ll * 1024 * 1024) /* bytes of an executable that is hashed */
#define ATTEST_UNIX_SELECTORS (2 * ATTEST_UNIX_GROUPS + 8)

/* A process, held so that its pid cannot come to mean another one unnoticed. */
struct attest_unix_pin {
	int dir;	/* /proc/PID; -1: none */
	uint64_t start; /* field 22 of its stat */
	pid_t pid;
	uid_t uid;
	gid_t gid;
};

/* Pin the peer of an accepted socket, at once after accept; the three are its SO_PEERCRED.
 * Refusals: ERR_UNAVAILABLE, code "attestation_failed": pid 0 (a process of a pid namespace that we
 * do not see), ended, or no longer of that user and group. */
MUST_USE bool attest_unix_pin(pid_t pid, uid_t uid, gid_t gid, struct attest_unix_pin *out,
			      struct err *e);
void attest_unix_unpin(struct attest_unix_pin *p); /* unpinned already: nothing */

/* Is it still the process that was pinned, alive, and of that user and group? */
MUST_USE bool attest_unix_check(const struct attest_unix_pin *p, struct err *e);

/* Its selectors, in the order above. Checked before and after. */
MUST_USE bool attest_unix_selectors_of(const struct attest_unix_pin *p, struct arena *a,
				       struct str **out, size_t *n, struct err *e);

/* Pin, read, unpin: for a single request. */
MUST_USE bool attest_unix_selectors(pid_t pid, uid_t uid, gid_t gid, struct arena *a,
				    struct str **out, size_t *n, struct err *e);

/* --- for tests --- */

/* The same with @proc, an open folder, in place of /proc. */
MUST_USE bool attest_unix_pin_at(int proc, pid_t pid, uid_t uid, gid_t gid,
				 struct attest_unix_pin *out, struct err *e);
/* Files hashed by this thread so far. */
uint64_t attest_unix_hashed(void);

#endif
