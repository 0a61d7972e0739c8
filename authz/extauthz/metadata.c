#include "authz/extauthz/metadata.h"

/* A map's entry: 1 key, 2 value, which is a message. */
static bool next_entry(struct pb_reader *in, struct str *key, struct pb_reader *value)
{
	struct pb_reader entry;
	struct pb_field f;

	while (pb_next(in, &f)) {
		if (f.number != 1)
			continue;
		entry = *value = pb_reader((struct str){ "", 0 });
		*key = (struct str){ "", 0 };
		pb_message(in, &f, &entry);
		while (pb_next(&entry, &f)) {
			if (f.number == 1)
				pb_string(&entry, &f, key);
			else if (f.number == 2)
				pb_message(&entry, &f, value);
		}
		pb_fail_with(in, &entry);
		return !in->why;
	}
	return false;
}

bool metadata_next(struct pb_reader *in, struct str *name, struct pb_reader *members)
{
	return next_entry(in, name, members);
}

bool metadata_member(struct pb_reader *in, struct metadata_member *out)
{
	struct pb_reader value;
	struct pb_field f;

	*out = (struct metadata_member){ .is_number = false };
	if (!next_entry(in, &out->name, &value))
		return false;
	while (pb_next(&value, &f)) {
		out->is_number = f.number == 2;
		out->text = (struct str){ NULL, 0 }; /* a oneof: the last one counts */
		if (f.number == 2)
			pb_double(&value, &f, &out->number);
		else if (f.number == 3)
			pb_string(&value, &f, &out->text);
	}
	pb_fail_with(in, &value);
	return !in->why;
}
