#include "authz/base/background.h"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICE 10		/* a tenth of what a thread of decisions gets, where both want a core */
#define SLICE_NS 100000 /* the shortest that Linux takes */

void background_thread(void)
{
	struct sched_attr a = { .size = sizeof(a),
				.sched_policy = SCHED_NORMAL,
				.sched_nice = NICE,
				.sched_runtime = SLICE_NS };

	/* glibc 2.36 has no name for it. */
	if (syscall(SYS_sched_setattr, 0, &a, 0) != 0)
		(void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
}
