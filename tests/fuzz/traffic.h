/*
 * traffic - what the fuzz targets of the traffic readers share.
 *
 * Purpose    The input is a request as text: "METHOD path", header lines, an empty line, the body.
 *            What is accepted has at least one action, and each has a name, a type and an id that
 *            can be shown; its body in canonical form asks for the same; cut off it asks for
 *            nothing that needed it; and no header of ours or credential reaches q.http.
 */
#ifndef TESTS_FUZZ_TRAFFIC_H
#define TESTS_FUZZ_TRAFFIC_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/text.h"
#include "authz/extauthz/traffic.h"

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fuzz: %s\n", what);
	abort();
}

static bool split(struct str text, struct traffic_request *r, struct http_header *h, size_t room)
{
	struct str line, rest = text, name, value;

	if (!str_cut(rest, '\n', &line, &rest) || !str_cut(line, ' ', &r->method, &r->path))
		return false;
	(void)str_cut(r->path, '?', &r->path, &r->query);
	while (rest.n && str_cut(rest, '\n', &line, &rest) && line.n && r->nheaders < room) {
		if (!str_cut(line, ':', &name, &value))
			return false;
		if (value.n && value.p[0] == ' ')
			value = str_from(value, 1);
		h[r->nheaders++] = (struct http_header){ name, value.p ? value : STR("") };
	}
	r->headers = h;
	r->body = rest;
	r->host = STR("h");
	return true;
}

static bool shown(struct str s)
{
	return s.n && text_is_utf8(s) && text_is_printable(s);
}

/* The canonical text of all actions, without what counts bytes of the text. */
static struct str line_of(const struct traffic *t, struct arena *a)
{
	struct buf b;

	buf_in_arena(&b, a, 1 << 24);
	for (size_t i = 0; i < t->n; i++) {
		const struct json *args = t->actions[i].args;

		buf_json(&b, t->actions[i].name);
		buf_json(&b, t->actions[i].type);
		buf_json(&b, t->actions[i].id);
		for (uint32_t k = 0; args && k < args->n; k++)
			if (!str_eq(args->items[k].name, STR("input_bytes"))) {
				buf_json(&b, args->items[k].name);
				json_canonical(&b, &args->items[k]);
			}
	}
	need(buf_ok(&b), "memory");
	return buf_str(&b);
}

static void check_http(const struct json *http)
{
	const struct json *headers = json_get(http, STR("headers"));

	need(headers && headers->type == JSON_OBJECT, "q.http has no headers");
	need(!json_get(headers, STR("authorization")) && !json_get(headers, STR("cookie")) &&
		     !json_get(headers, STR("mcp-session-id")) &&
		     !json_get(headers, STR("x-api-key")),
	     "a credential is in q.http");
}

static void check_again(const struct traffic_request *r, const struct traffic *first,
			struct arena *a)
{
	struct traffic_request again = *r;
	struct traffic out;
	const struct json *v;
	struct err e;
	struct buf b;

	if (!r->body.n || !json_parse(r->body, &json_default_limits, a, &v, &e))
		return;
	for (size_t i = 0; i < r->nheaders; i++)
		if (str_eq(r->headers[i].name, STR("content-length")))
			return;
	buf_in_arena(&b, a, 1 << 24);
	json_canonical(&b, v);
	need(buf_ok(&b), "memory");
	again.body = buf_str(&b);
	need(traffic_read(&again, &json_default_limits, a, &out, &e), e.msg);
	need(str_eq(line_of(first, a), line_of(&out, a)),
	     "the canonical body asks for something else");
	again.truncated = true;
	need(!traffic_read(&again, &json_default_limits, a, &out, &e) ||
		     out.protocol == TRAFFIC_HTTP || out.protocol == TRAFFIC_A2A ||
		     str_eq(out.actions[0].name, STR("models/list")) ||
		     str_eq(out.actions[0].name, STR("models/batch")) ||
		     str_starts(out.actions[0].name, STR("responses/")),
	     "half a body is taken for a whole one");
}

static int fuzz_traffic(const uint8_t *p, size_t n, enum traffic_protocol protocol)
{
	struct str text = { (const char *)p, n };
	struct traffic_request r = { .size = 0 };
	struct http_header headers[32];
	struct traffic out;
	struct arena a;
	struct err e;

	r.route.protocol = protocol;
	r.route.server = STR("s");
	r.route.batches = n % 2;
	r.route.headers_validated = n % 3 == 0;
	if (!split(text, &r, headers, ARRAY_LEN(headers)))
		return 0;
	arena_init(&a, &mem_system, 1 << 26);
	if (traffic_read(&r, &json_default_limits, &a, &out, &e)) {
		need(out.n && out.n <= TRAFFIC_ACTIONS_MAX, "no action");
		for (size_t i = 0; i < out.n; i++)
			need(shown(out.actions[i].name) && shown(out.actions[i].type) &&
				     (shown(out.actions[i].id) ||
				      str_eq(out.actions[i].id, r.host)),
			     "an action that cannot be shown");
		check_http(out.http);
		check_again(&r, &out, &a);
	} else {
		need(e.class != ERR_NONE && e.code && e.msg[0], "a refusal without a reason");
	}
	arena_clear(&a);
	return 0;
}

#endif
