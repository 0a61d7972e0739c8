#include "tests/extauthz/traffic_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

static void read_route(const char *why, const char *text, struct traffic_request *r)
{
	struct str rest = str_c(text), one, name = { NULL, 0 }, value = { NULL, 0 };
	struct err e;

	while (rest.n) {
		one = rest;
		if (!str_cut(rest, ' ', &one, &rest))
			rest.n = 0;
		if (str_eq(one, STR("truncated"))) {
			r->truncated = true;
			continue;
		}
		if (str_eq(one, STR("size=-1"))) {
			r->size = -1;
			continue;
		}
		if (!str_cut(one, '=', &name, &value) ||
		    !traffic_route_set(&r->route, name, value, &e))
			fail_msg("%s: route %s", why, text);
	}
}

static void read_request(const char *why, const char *text, struct traffic_request *r,
			 struct http_header *headers)
{
	struct str rest = str_c(text), line = { NULL, 0 }, target = { NULL, 0 };

	if (!str_cut(rest, '\n', &line, &rest)) {
		line = rest;
		rest.n = 0;
	}
	if (!str_cut(line, ' ', &r->method, &target))
		fail_msg("%s: %s", why, text);
	r->path = target;
	(void)str_cut(target, '?', &r->path, &r->query);
	r->headers = headers;
	while (rest.n && str_cut(rest, '\n', &line, &rest) && line.n) {
		struct http_header *h = &headers[r->nheaders++];

		if (!str_cut(line, ':', &h->name, &h->value))
			fail_msg("%s: header %.*s", why, STR_FMT(line));
		h->value = str_from(h->value, 1);
		if (!h->value.p)
			h->value = STR("");
	}
	r->body = rest;
	r->host = STR("tools.example");
	r->scheme = STR("https");
}

const struct traffic_request *traffic_request_of(const char *why, const char *route,
						 const char *request, struct arena *a)
{
	struct http_header *headers = arena_alloc(a, 64 * sizeof(*headers));
	struct traffic_request *r = arena_zero(a, sizeof(*r));

	assert_true(headers && r);
	read_route(why, route, r);
	read_request(why, request, r, headers);
	return r;
}

struct str traffic_line(const struct traffic_request *r, struct arena *work, struct arena *text,
			struct traffic *out, struct err *e)
{
	struct buf b;

	buf_in_arena(&b, text, 65536);
	if (!traffic_read(r, &json_default_limits, work, out, e)) {
		buf_printf(&b, "!%s", e->code);
		if (out->rpc_code)
			buf_printf(&b, " %d", out->rpc_code);
		return buf_str(&b);
	}
	for (size_t i = 0; i < out->n; i++) {
		const struct traffic_action *t = &out->actions[i];

		buf_printf(&b, "%s%.*s %.*s %.*s", i ? "; " : "", STR_FMT(t->name),
			   STR_FMT(t->type), STR_FMT(t->id));
		if (t->args && t->args->n) {
			buf_char(&b, ' ');
			json_canonical(&b, t->args);
		}
	}
	return buf_str(&b);
}

void traffic_rows(const struct traffic_row *rows, size_t n)
{
	size_t failed = 0;

	for (size_t i = 0; i < n; i++) {
		struct traffic out;
		struct arena a;
		struct str got;
		struct err e;

		arena_init(&a, &mem_system, 1 << 24);
		got = traffic_line(traffic_request_of(rows[i].why, rows[i].route, rows[i].request,
						      &a),
				   &a, &a, &out, &e);
		if (!str_eq(got, str_c(rows[i].expected))) {
			failed++;
			print_error("%s:\n  got      %.*s\n  expected %s\n  (%s)\n", rows[i].why,
				    STR_FMT(got), rows[i].expected, e.msg);
		}
		arena_clear(&a);
	}
	if (failed)
		fail_msg("%zu of %zu rows", failed, n);
}
