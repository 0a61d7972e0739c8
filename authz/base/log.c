#include "authz/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "authz/base/clock.h"

static atomic_int least = LOG_INFO;

void log_set_level(enum log_level level)
{
	atomic_store(&least, (int)level);
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	static const char *const names[] = { "debug", "info", "warn", "error" };
	char line[1024], when[CLOCK_RFC3339_MAX];
	int head, tail;
	size_t n;
	va_list ap;

	if ((int)level < atomic_load(&least))
		return;
	clock_rfc3339(clock_wall_ms(&clock_system), when);
	head = snprintf(line, sizeof(line), "%s %-5s %s%s", when, names[level], event,
			*fmt ? " " : "");
	if (head < 0 || (size_t)head >= sizeof(line) - 1)
		return;
	va_start(ap, fmt);
	tail = vsnprintf(line + head, sizeof(line) - 1 - (size_t)head, fmt, ap);
	va_end(ap);
	n = (size_t)head + (tail < 0 ? 0 : (size_t)tail);
	if (n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[n] = '\n';
	(void)!write(STDERR_FILENO, line, n + 1);
}
