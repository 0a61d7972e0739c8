/*
 * jansson - the library as an oracle, beside ours in one file.
 *
 * Purpose    Both name their types JSON_STRING and so on; jansson's get another prefix here.
 */
#ifndef WRIT_TESTS_JANSSON_H
#define WRIT_TESTS_JANSSON_H

#define json_type jansson_type
#define JSON_NULL JANSSON_NULL
#define JSON_REAL JANSSON_REAL
#define JSON_STRING JANSSON_STRING
#define JSON_ARRAY JANSSON_ARRAY
#define JSON_OBJECT JANSSON_OBJECT
#include <jansson.h>
#undef json_type
#undef JSON_NULL
#undef JSON_REAL
#undef JSON_STRING
#undef JSON_ARRAY
#undef JSON_OBJECT

#endif
