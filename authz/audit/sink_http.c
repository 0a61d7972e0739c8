/*
 * A webhook, signed as Standard Webhooks has it, and OTLP/HTTP in JSON. A page is taken when the
 * answer is one of success; one that the receiver finds too large is halved and sent again.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/audit/sink_out.h"
#include "authz/base/digest.h"
#include "authz/base/json.h"
#include "authz/base/text.h"
#include "authz/net/fetch.h"
#include "authz/store/file.h"

#define SECRET_FILE_MAX 4096
#define SECRET_MIN 24 /* bytes, as Standard Webhooks asks; and at most 64 */
#define SECRET_MAX 64
#define ANSWER_MAX (64 * 1024)

static void append(const struct sink_out *o, const struct format_record *r, struct sink_page *page)
{
	const struct audit_format *f = o->settings->format;
	const char *before = page->n ? f->batch_between : f->batch_open;

	if (before)
		buf_add(&page->text, str_c(before));
	f->row(r, &page->text);
}

bool sink_owner_only(const char *path, struct err *e)
{
	struct stat st;

	return stat(path, &st) != 0 || !(st.st_mode & 077) ||
	       err_set(e, ERR_IO,
		       "%s can be read or changed by others than its owner; chmod 600 it", path);
}

/* One line of a file that its owner alone can read. It is read each time, so that it can be
 * replaced while writ runs. */
static bool read_secret(const char *path, struct buf *out, struct err *e)
{
	if (!sink_owner_only(path, e))
		return false;
	if (!file_read(AT_FDCWD, path, SECRET_FILE_MAX, out, e))
		return err_prefix(e, "%s", path);
	while (out->n && (out->p[out->n - 1] == '\n' || out->p[out->n - 1] == '\r'))
		out->n--;
	return (out->n && text_is_printable(buf_str(out))) ||
	       err_set(e, ERR_IO, "%s must hold one line of text", path);
}

bool sink_sign(struct str secret, struct str id, int64_t seconds, struct str body, struct buf *out,
	       struct err *e)
{
	uint8_t key[SECRET_MAX + 3], mac[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	size_t nkey = 0;
	struct buf text;
	bool ok;

	if (!str_starts(secret, STR("whsec_")) || secret.n > 6 + (SECRET_MAX + 2) / 3 * 4 ||
	    !text_unbase64(str_from(secret, 6), BASE64_STD, key, &nkey) || nkey < SECRET_MIN ||
	    nkey > SECRET_MAX)
		return err_set(e, ERR_INVALID,
			       "the secret must be \"whsec_\" and the base64 of 24 to 64 random "
			       "bytes");
	buf_init(&text, mem_system, body.n + 512);
	buf_add(&text, id);
	buf_printf(&text, ".%lld.", (long long)seconds);
	buf_add(&text, body);
	ok = buf_ok(&text) &&
	     HMAC(EVP_sha256(), key, (int)nkey, (const unsigned char *)text.p, text.n, mac, &n);
	if (ok) {
		buf_lit(out, "v1,");
		text_base64(out, BASE64_STD, mac, n);
	}
	OPENSSL_cleanse(key, sizeof(key));
	buf_clear(&text);
	return ok || err_set(e, ERR_NOMEM, "no memory for a signature");
}

/* The same page has the same id, however often it is sent. No full stop may be in it. */
static bool sign_headers(const struct sink_out *o, const struct sink_page *page,
			 struct buf *headers, struct err *e)
{
	int64_t seconds = clock_wall_ms(o->config->clock) / 1000;
	struct sha256 *sha = sha256_new(e);
	uint8_t log[SHA256_LEN];
	char hex[8], id[96];
	AUTO_BUF secret;
	bool ok;

	buf_init(&secret, mem_system, (size_t)4 * SECRET_FILE_MAX);
	if (!sha)
		return false;
	sha256_of(sha, str_c(o->config->origin), log);
	sha256_free(sha);
	text_hex(log, 4, hex);
	snprintf(id, sizeof(id), "rec_%.8s_%llu_%llu", hex, (unsigned long long)page->first,
		 (unsigned long long)page->last);
	buf_printf(headers, "webhook-id: %s\r\nwebhook-timestamp: %lld\r\nwebhook-signature: ", id,
		   (long long)seconds);
	ok = read_secret(o->settings->secret_file, &secret, e) &&
	     sink_sign(buf_str(&secret), str_c(id), seconds, buf_str(&page->text), headers, e);
	if (secret.p)
		OPENSSL_cleanse(secret.p, secret.n);
	buf_lit(headers, "\r\n");
	return ok;
}

static bool add_token(const struct sink_out *o, struct buf *headers, struct err *e)
{
	AUTO_BUF token;
	bool ok;

	buf_init(&token, mem_system, (size_t)4 * SECRET_FILE_MAX);
	if (!o->settings->token_file)
		return true;
	ok = read_secret(o->settings->token_file, &token, e);
	if (ok) {
		buf_lit(headers, "Authorization: Bearer ");
		buf_add(headers, buf_str(&token));
		buf_lit(headers, "\r\n");
	}
	if (token.p)
		OPENSSL_cleanse(token.p, token.n);
	return ok;
}

/* A collector may take a page in part, and must not be sent it again (OTLP, partial success). What
 * it refused is in our log; how many is in the sink's status. */
static void count_rejected(struct sink_out *o, struct str body)
{
	const struct json *v = NULL, *n;
	struct arena a;
	uint64_t number = 0;

	if (o->settings->type != SINK_OTLP || !body.n)
		return;
	arena_init(&a, &mem_system, (size_t)16 * ANSWER_MAX);
	if (json_parse(body, &json_default_limits, &a, &v, NULL)) {
		n = json_get(json_get(v, STR("partialSuccess")), STR("rejectedLogRecords"));
		if (n && n->type == JSON_INT && n->i > 0)
			number = (uint64_t)n->i;
		else if (n && n->type == JSON_STRING && !text_u64(n->s, INT64_MAX, &number))
			number = 0;
	}
	arena_clear(&a);
	atomic_fetch_add(&o->rejected, number);
}

static bool send_page(struct sink_out *o, struct sink_page *page, struct err *e)
{
	static const char *const types[] = { "application/json", "*/*", NULL };
	const struct audit_format *f = o->settings->format;
	struct fetch request = { .url = str_c(o->settings->target),
				 .types = types,
				 .body_max = ANSWER_MAX,
				 .timeout_ms = SINK_SEND_MS,
				 .private_ok = true, /* the URL stands in the configuration */
				 .ca_file = o->config->ca_file,
				 .post_type = f->batch_type,
				 .stop = o->stop };
	struct fetch_reply reply = { .status = 0 };
	AUTO_BUF headers;
	bool ok;

	buf_init(&headers, mem_system, (size_t)4 * SECRET_FILE_MAX);
	if (f->batch_close)
		buf_add(&page->text, str_c(f->batch_close));
	if (!buf_ok(&page->text))
		return err_set(e, ERR_NOMEM, "no memory for a page of records");
	ok = (o->settings->type != SINK_WEBHOOK || sign_headers(o, page, &headers, e)) &&
	     add_token(o, &headers, e);
	if (!ok)
		return false;
	request.post = buf_str(&page->text);
	request.headers = buf_str(&headers);
	ok = fetch_post(&request, &reply, e);
	if (headers.p)
		OPENSSL_cleanse(headers.p, headers.n);
	if (reply.status == 413 && o->rows > 1)
		o->rows /= 2;
	if (ok && (reply.status < 200 || reply.status > 299))
		ok = err_code(e, ERR_INTERNAL, "unexpected_status",
			      "%s answered with status %d, expected 200", o->settings->target,
			      reply.status);
	if (ok)
		count_rejected(o, buf_str(&reply.body));
	buf_clear(&reply.body);
	return ok;
}

const struct sink_ops sink_http_ops = { append, send_page };
