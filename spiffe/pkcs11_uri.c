#include "spiffe/pkcs11_uri.h"

#include <stddef.h>
#include <string.h>

#include "authz/base/text.h"

#define SCHEME "pkcs11:"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* unreserved / pk11-res-avail of RFC 7512 2.3, without those that would end a path attribute. */
static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("-._~:[]@!$'()*+,=&", c));
}

static bool decode(struct str name, struct str text, char *out, size_t max, struct err *e)
{
	size_t n = 0;

	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];

		if (c == '%') {
			int high = i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1;
			int low = high < 0 ? -1 : hex_digit(text.p[i + 2]);

			if (low < 0)
				return err_set(
					e, ERR_INVALID,
					"%.*s: \"%%\" and two hexadecimal digits are expected",
					STR_FMT(name));
			c = (char)(high << 4 | low);
			i += 2;
			if (!c)
				return err_set(e, ERR_INVALID, "%.*s holds a NUL", STR_FMT(name));
		} else if (!is_plain(c)) {
			return err_set(e, ERR_INVALID,
				       "%.*s: byte 0x%02x must be written as %%%02X", STR_FMT(name),
				       (unsigned char)c, (unsigned char)c);
		}
		if (n == max)
			return err_set(e, ERR_INVALID, "%.*s has more than %zu bytes",
				       STR_FMT(name), max);
		out[n++] = c;
	}
	if (!n)
		return err_set(e, ERR_INVALID, "%.*s is empty", STR_FMT(name));
	out[n] = '\0';
	return true;
}

static bool attribute(struct pkcs11_uri *u, struct str name, struct str value, struct err *e)
{
	const struct {
		const char *name;
		char *to;
		size_t max;
	} known[] = {
		{ "token", u->token, sizeof(u->token) - 1 },
		{ "manufacturer", u->manufacturer, sizeof(u->manufacturer) - 1 },
		{ "model", u->model, sizeof(u->model) - 1 },
		{ "serial", u->serial, sizeof(u->serial) - 1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (str_eq(name, str_c(known[i].name)))
			return !*known[i].to ? decode(name, value, known[i].to, known[i].max, e)
					     : err_set(e, ERR_INVALID, "%.*s is there twice",
						       STR_FMT(name));
	if (str_eq(name, STR("slot-id"))) {
		if (u->has_slot || !text_u64(value, UINT32_MAX, &u->slot))
			return err_set(e, ERR_INVALID, "slot-id: one decimal number is expected");
		u->has_slot = true;
		return true;
	}
	if (str_eq(name, STR("object")) || str_eq(name, STR("id")) || str_eq(name, STR("type")))
		return err_set(e, ERR_INVALID,
			       "%.*s names a key, but writ makes its own keys; name the token only",
			       STR_FMT(name));
	return err_set(e, ERR_INVALID,
		       "\"%.*s\" is not understood; token, serial, manufacturer, model and slot-id "
		       "are",
		       STR_FMT(str_first(name, 40)));
}

bool pkcs11_uri_parse(struct str text, struct pkcs11_uri *out, struct err *e)
{
	struct pkcs11_uri u = { 0 };
	struct str rest, one, name, value;
	bool more = true;

	if (!str_starts(text, STR(SCHEME)))
		return err_set(e, ERR_INVALID, "expected \"pkcs11:token=NAME\" (RFC 7512)");
	if (text.n && memchr(text.p, '?', text.n))
		return err_set(e, ERR_INVALID,
			       "a query is not taken: module and PIN have settings of their own");
	rest = str_from(text, strlen(SCHEME));
	while (more) {
		more = str_cut(rest, ';', &one, &rest);
		if (!more)
			one = rest;
		if (!str_cut(one, '=', &name, &value))
			return err_set(e, ERR_INVALID, "\"%.*s\": expected NAME=VALUE",
				       STR_FMT(str_first(one, 40)));
		if (!attribute(&u, name, value, e))
			return false;
	}
	if (!*u.token && !*u.serial && !u.has_slot)
		return err_set(e, ERR_INVALID,
			       "it names no token: token=NAME, serial=NUMBER or slot-id=NUMBER");
	*out = u;
	return true;
}
