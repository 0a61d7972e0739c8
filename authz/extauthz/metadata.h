/*
 * metadata - Envoy's dynamic metadata, as far as filters put texts and numbers into it.
 *
 * Purpose    Filters tell each other things by namespace; ext_authz keeps there what writ answered
 *            (grpc_write.c), a filter that reads answers of models how many tokens they took. Only
 *            the first level of a namespace is read, so nothing recurses (fact sheet 1.8).
 * Ownership  What is read borrows from the message.
 * Threads    No state: call from any thread.
 * Standards  envoy.config.core.v3.Metadata: 1 filter_metadata, map<string, Struct>.
 *            google.protobuf.Struct: 1 fields, map<string, Value>; Value: 2 number, 3 string.
 */
#ifndef WRIT_EXTAUTHZ_METADATA_H
#define WRIT_EXTAUTHZ_METADATA_H

#include "authz/base/protobuf.h"

/* Where Envoy keeps what a CheckResponse had in dynamic_metadata. */
#define METADATA_EXT_AUTHZ "envoy.filters.http.ext_authz"

struct metadata_member {
	struct str name;
	struct str text; /* p == NULL: it is no text */
	bool is_number;
	double number;
};

/* The next namespace of a Metadata: its name, and a cursor over its Struct. False at the end, or
 * when something is wrong with @in. What is wrong with @members is the caller's to carry up. */
bool metadata_next(struct pb_reader *in, struct str *name, struct pb_reader *members);

/* The next member of a Struct. */
bool metadata_member(struct pb_reader *in, struct metadata_member *out);

#endif
