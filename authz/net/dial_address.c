/* Where writ may connect to: addresses of special use are not on the way to a public server. */
#include <netinet/in.h>
#include <string.h>

#include "authz/net/dial.h"

enum reach { NEVER, PRIVATE };

struct range {
	uint8_t prefix[16];
	uint8_t bits;
	enum reach reach;
};

/* RFC 6890 and IANA's registry of IPv4 special-purpose addresses, and what clouds answer at. */
static const struct range v4_ranges[] = {
	{ { 168, 63, 129, 16 }, 32, NEVER },   /* Azure's host, a public address */
	{ { 100, 100, 100, 200 }, 32, NEVER }, /* Alibaba's metadata, a shared one */
	{ { 0 }, 8, NEVER },
	{ { 10 }, 8, PRIVATE },
	{ { 100, 64 }, 10, PRIVATE },
	{ { 127 }, 8, PRIVATE },
	{ { 169, 254 }, 16, NEVER },
	{ { 172, 16 }, 12, PRIVATE },
	{ { 192, 0, 0 }, 24, NEVER },
	{ { 192, 0, 2 }, 24, NEVER },
	{ { 192, 88, 99 }, 24, NEVER },
	{ { 192, 168 }, 16, PRIVATE },
	{ { 198, 18 }, 15, NEVER },
	{ { 198, 51, 100 }, 24, NEVER },
	{ { 203, 0, 113 }, 24, NEVER },
	{ { 224 }, 4, NEVER },
	{ { 240 }, 4, NEVER },
};

/* Only 2000::/3 is global unicast (RFC 4291 2.4); within it these are special. */
static const struct range v6_ranges[] = {
	{ { 0x20, 0x01 }, 23, NEVER }, /* Teredo, ORCHID, benchmarks */
	{ { 0x20, 0x01, 0x0d, 0xb8 }, 32, NEVER },
	{ { 0x20, 0x02 }, 16, NEVER }, /* 6to4: an IPv4 address inside */
	{ { 0x3f, 0xff }, 20, NEVER },
};

static bool within(const uint8_t *a, const struct range *r)
{
	size_t whole = r->bits / 8;
	uint8_t mask = (uint8_t)(0xff00 >> r->bits % 8);

	return memcmp(a, r->prefix, whole) == 0 &&
	       (r->bits % 8 == 0 || ((a[whole] ^ r->prefix[whole]) & mask) == 0);
}

static bool v4_ok(const uint8_t *a, bool private_ok)
{
	for (size_t i = 0; i < ARRAY_LEN(v4_ranges); i++)
		if (within(a, &v4_ranges[i]))
			return private_ok && v4_ranges[i].reach == PRIVATE;
	return true;
}

static bool v6_ok(const uint8_t *a, bool private_ok)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
	static const uint8_t loopback[16] = { [15] = 1 };
	static const uint8_t metadata[16] = { 0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54 };

	if (memcmp(a, mapped, sizeof(mapped)) == 0 || memcmp(a, nat64, sizeof(nat64)) == 0)
		return v4_ok(a + 12, private_ok);
	if (memcmp(a, loopback, sizeof(loopback)) == 0 || (a[0] & 0xfe) == 0xfc)
		return private_ok && memcmp(a, metadata, sizeof(metadata)) != 0;
	if ((a[0] & 0xe0) != 0x20)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(v6_ranges); i++)
		if (within(a, &v6_ranges[i]))
			return false;
	return true;
}

bool dial_address_ok(const struct sockaddr *a, bool private_ok)
{
	uint8_t bytes[16];

	if (a->sa_family == AF_INET) {
		memcpy(bytes, &((const struct sockaddr_in *)(const void *)a)->sin_addr, 4);
		return v4_ok(bytes, private_ok);
	}
	if (a->sa_family == AF_INET6) {
		memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, 16);
		return v6_ok(bytes, private_ok);
	}
	return false;
}
