/* Plain HTTP: the method on a path. Of the body nothing is read, so nothing in it is vouched for.
 */
#include "authz/extauthz/parts.h"

/* Descriptions that clients fetch to learn how to prove themselves (RFC 9728 3.1). */
static bool is_discovery(const struct reader *rd)
{
	static const struct str names[] = { STR_INIT("/.well-known/oauth-protected-resource"),
					    STR_INIT("/.well-known/oauth-authorization-server"),
					    STR_INIT("/.well-known/openid-configuration") };

	if (!str_eq(rd->r->method, STR("GET")) || rd->state != BODY_NONE)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_starts(rd->path, names[i]) &&
		    (rd->path.n == names[i].n || rd->path.p[names[i].n] == '/'))
			return true;
	return false;
}

bool http_route_read(struct reader *rd)
{
	struct str type;

	/* Both would tunnel what is not seen here. */
	if (str_eq(rd->r->method, STR("CONNECT")) || str_eq(rd->r->method, STR("TRACE")))
		return refuse(rd, ERR_FORBIDDEN, "http_method", "%.*s is never let through",
			      STR_FMT(rd->r->method));
	if (!header_once(rd, HEADER_CONTENT_TYPE, &type))
		return false;
	rd->out->discovery = is_discovery(rd);
	return add_action(rd, rd->r->method, STR("route"), rd->path, NULL);
}
