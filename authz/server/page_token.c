/* version (1) || expires (8) || limit (4) || after || HMAC-SHA256 over request || these (32), in
 * base64url. Numbers are big-endian. */
#include "authz/server/page_token.h"

#include <endian.h>
#include <openssl/crypto.h>

#include "authz/base/text.h"

#define VERSION 1
#define HEAD 13
#define BAD "invalid_page_token"

/* RFC 2104 with a key that is shorter than a block. */
static void seal(struct sha256 *sha, const uint8_t key[static 32], const uint8_t *request,
		 struct str payload, uint8_t out[static SHA256_LEN])
{
	uint8_t pad[64] = { 0 }, inner[SHA256_LEN];
	struct str parts[3] = { { (const char *)pad, sizeof(pad) },
				{ (const char *)request, SHA256_LEN },
				payload };

	memcpy(pad, key, 32);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36;
	sha256_parts(sha, parts, 3, inner);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36 ^ 0x5c;
	parts[1] = (struct str){ (const char *)inner, sizeof(inner) };
	sha256_parts(sha, parts, 2, out);
	OPENSSL_cleanse(pad, sizeof(pad));
}

void page_token_write(struct buf *out, const struct page_token *t, const uint8_t key[static 32],
		      const uint8_t request[static SHA256_LEN], struct sha256 *sha)
{
	char bytes[PAGE_TOKEN_TEXT * 3 / 4];
	uint64_t expires = htobe64((uint64_t)t->expires_ms);
	uint32_t limit = htobe32(t->limit);
	size_t n = HEAD + t->after.n;

	if (n + SHA256_LEN > sizeof(bytes)) {
		out->failed = true;
		return;
	}
	bytes[0] = VERSION;
	memcpy(bytes + 1, &expires, 8);
	memcpy(bytes + 9, &limit, 4);
	memcpy(bytes + HEAD, t->after.p, t->after.n);
	seal(sha, key, request, (struct str){ bytes, n }, (uint8_t *)bytes + n);
	text_base64(out, BASE64_URL, bytes, n + SHA256_LEN);
}

bool page_token_read(struct str text, const uint8_t key[static 32],
		     const uint8_t request[static SHA256_LEN], struct sha256 *sha, int64_t now_ms,
		     struct arena *a, struct page_token *out, struct err *e)
{
	uint8_t bytes[PAGE_TOKEN_TEXT], mac[SHA256_LEN];
	struct page_token t = { 0 };
	uint64_t expires;
	uint32_t limit;
	size_t n = 0;

	if (text.n > PAGE_TOKEN_TEXT || !text_unbase64(text, BASE64_URL, bytes, &n) ||
	    n < HEAD + SHA256_LEN || bytes[0] != VERSION)
		return err_code(e, ERR_INVALID, BAD, "page.token is none of ours");
	n -= SHA256_LEN;
	seal(sha, key, request, (struct str){ (const char *)bytes, n }, mac);
	if (CRYPTO_memcmp(mac, bytes + n, sizeof(mac)) != 0)
		return err_code(e, ERR_INVALID, BAD,
				"page.token belongs to another search: between pages only page may "
				"change (a restart of the server ends searches, too)");
	memcpy(&expires, bytes + 1, 8);
	memcpy(&limit, bytes + 9, 4);
	t.expires_ms = (int64_t)be64toh(expires);
	t.limit = be32toh(limit);
	if (now_ms > t.expires_ms)
		return err_code(e, ERR_INVALID, BAD,
				"page.token has expired; search again from the start");
	t.after = arena_dup(a, (struct str){ (const char *)bytes + HEAD, n - HEAD });
	if (!t.after.p)
		return err_set(e, ERR_UNAVAILABLE, "memory is short; try again later");
	*out = t;
	return true;
}
