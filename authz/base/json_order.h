/*
 * json_order - the canonical order of the members of an object (RFC 8785 3.2.3).
 *
 * Purpose    Names are compared by UTF-16 code units, not by bytes.
 * Ownership  Nothing is allocated.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_JSON_ORDER_H
#define WRIT_JSON_ORDER_H

#include "authz/base/json.h"

/* Negative, zero or positive. Names are well-formed UTF-8 without U+0000. */
int json_name_cmp(struct str a, struct str b);

/* Copy the @n members @from to @to in canonical order; @from is left in no particular order.
 * NULL, or the later of two members of one name. */
const struct json *json_order(struct json *from, uint32_t n, struct json *to);

#endif
