#include "include/writ/err.h"

#include <stdarg.h>
#include <stdio.h>

#include "authz/base/text.h"

static const struct {
	const char *code;
	int status;
} classes[] = {
	[ERR_NONE] = { "none", 500 },
	[ERR_INVALID] = { "invalid_request", 400 },
	[ERR_UNAUTHENTICATED] = { "unauthenticated", 401 },
	[ERR_FORBIDDEN] = { "forbidden", 403 },
	[ERR_NOT_FOUND] = { "not_found", 404 },
	[ERR_CONFLICT] = { "conflict", 409 },
	[ERR_TOO_LARGE] = { "too_large", 413 },
	[ERR_RATE] = { "rate_limited", 429 },
	[ERR_UNAVAILABLE] = { "unavailable", 503 },
	[ERR_TIMEOUT] = { "timeout", 504 },
	[ERR_IO] = { "io_error", 500 },
	[ERR_NOMEM] = { "out_of_memory", 500 },
	[ERR_INTERNAL] = { "internal", 500 },
};

int err_status(enum err_class class)
{
	return classes[class].status;
}

/* Messages quote foreign text: leave nothing that could steer a terminal or break JSON. */
static void tidy(char *msg)
{
	bool utf8 = text_is_utf8(str_c(msg));

	for (unsigned char *c = (unsigned char *)msg; *c; c++)
		if (*c < 0x20 || *c == 0x7f || (!utf8 && *c >= 0x80))
			*c = '?';
}

static void set(struct err *e, enum err_class class, const char *code, const char *fmt, va_list ap)
	PRINTF(4, 0);

static void set(struct err *e, enum err_class class, const char *code, const char *fmt, va_list ap)
{
	if (!e)
		return;
	e->class = class;
	e->code = code;
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	tidy(e->msg);
}

void err_fill(struct err *e, enum err_class class, const char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set(e, class, code ? code : classes[class].code, fmt, ap);
	va_end(ap);
}

void err_put_before(struct err *e, const char *fmt, ...)
{
	struct err old;
	va_list ap;
	size_t n;

	if (!e)
		return;
	old = *e;
	va_start(ap, fmt);
	set(e, old.class, old.code, fmt, ap);
	va_end(ap);
	n = strlen(e->msg);
	snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", old.msg);
	tidy(e->msg);
}
