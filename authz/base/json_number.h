/*
 * json_number - the numbers of JSON: the reader's half; json_number() in json.h is the writer's.
 *
 * Purpose    One place that decides which numbers can be kept without changing their meaning.
 *            Only json.c includes this.
 * Ownership  Nothing is allocated.
 * Threads    No state: call from any thread.
 */
#ifndef WRIT_JSON_NUMBER_H
#define WRIT_JSON_NUMBER_H

#include "authz/base/json.h"

#define JSON_INT_MAX 9007199254740991 /* 2^53 - 1, RFC 7493 section 2.2 */

/* Read the number that starts at *at, a digit or '-', into v->type and its value; *at moves past
 * it. NULL, or what is wrong with it: then *at is the byte to name. */
const char *json_read_number(const char **at, const char *end, struct json *v);

#endif
