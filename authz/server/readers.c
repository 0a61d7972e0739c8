#include "authz/server/readers.h"

bool readers_noted(const struct readers *r, const uint8_t digest[static SHA256_LEN], int64_t now_ms)
{
	for (size_t i = 0; i < READERS_MAX; i++)
		if (r->items[i].until_ms > now_ms &&
		    memcmp(r->items[i].digest, digest, SHA256_LEN) == 0)
			return true;
	return false;
}

void readers_note(struct readers *r, const uint8_t digest[static SHA256_LEN], int64_t until_ms)
{
	size_t first = 0;

	for (size_t i = 0; i < READERS_MAX; i++) {
		/* Noted long ago, it ended and is noted again; noted just now, it is this one. */
		if (memcmp(r->items[i].digest, digest, SHA256_LEN) == 0 && r->items[i].until_ms) {
			first = i;
			break;
		}
		if (r->items[i].until_ms < r->items[first].until_ms)
			first = i;
	}
	memcpy(r->items[first].digest, digest, SHA256_LEN);
	r->items[first].until_ms = until_ms;
}
