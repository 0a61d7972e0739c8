#include "authz/decide/clock_watch.h"

#include <inttypes.h>

#include "authz/base/log.h"
#include "authz/decide/control.h"

int64_t clock_watch_step(struct clock_watch *w, int64_t wall_ms, int64_t mono_ns)
{
	int64_t apart = wall_ms - mono_ns / 1000000;
	int64_t step = w->looked ? apart - w->apart_ms : 0;

	w->apart_ms = apart;
	w->looked = true;
	return step >= CLOCK_STEP_MS || step <= -CLOCK_STEP_MS ? step : 0;
}

void clock_watch_look(struct control *c)
{
	int64_t wall = clock_wall_ms(c->core->clock), mono = clock_mono_ns(c->core->clock);
	int64_t step = clock_watch_step(&c->clock_watch, wall, mono);
	struct act_record r;
	struct err e = { 0 };

	if (!step)
		return;
	log_event(LOG_WARN, "clock.step", "ms=%" PRId64, step);
	act_record_begin(&r);
	record_int(&r.job.record, STR("clock_ms"), wall);
	record_str(&r.job.record, STR("kind"), STR("log.clock"));
	record_int(&r.job.record, STR("step_ms"), step);
	if (!act_record_append(c, &r, &e))
		log_event(LOG_WARN, "clock.unrecorded", "ms=%" PRId64 " why=\"%s\"", step, e.msg);
}
