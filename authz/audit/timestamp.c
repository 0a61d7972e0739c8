#include "authz/audit/timestamp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ts.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "authz/base/pem.h"
#include "authz/base/text.h"
#include "authz/store/file.h"

#define NONCE_LEN 8

static bool refused(struct err *e, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return err_code(e, ERR_INVALID, "bad_timestamp", "%s%s%s", what, reason ? ": " : "",
			reason ? reason : "");
}

static bool hash_of(struct str text, uint8_t out[static SHA256_LEN], struct err *e)
{
	struct sha256 *sha = sha256_new(e);

	if (!sha)
		return false;
	sha256_parts(sha, &text, 1, out);
	sha256_free(sha);
	return true;
}

/* ---- requests ---- */

static bool fill_imprint(TS_MSG_IMPRINT *imprint, uint8_t hash[static SHA256_LEN])
{
	X509_ALGOR *algorithm = X509_ALGOR_new();
	bool ok;

	if (algorithm)
		X509_ALGOR_set_md(algorithm, EVP_sha256());
	ok = algorithm && TS_MSG_IMPRINT_set_algo(imprint, algorithm) &&
	     TS_MSG_IMPRINT_set_msg(imprint, hash, SHA256_LEN);
	X509_ALGOR_free(algorithm);
	return ok;
}

static ASN1_INTEGER *fresh_nonce(void)
{
	uint8_t bytes[NONCE_LEN];
	BIGNUM *n = NULL;
	ASN1_INTEGER *nonce = NULL;

	if (RAND_bytes(bytes, sizeof(bytes)) == 1) {
		bytes[0] |= 0x80; /* never a short one */
		n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	}
	if (n)
		nonce = BN_to_ASN1_INTEGER(n, NULL);
	BN_free(n);
	return nonce;
}

bool timestamp_request(struct str text, struct buf *out, struct err *e)
{
	TS_MSG_IMPRINT *imprint = TS_MSG_IMPRINT_new();
	ASN1_INTEGER *nonce = fresh_nonce();
	TS_REQ *q = TS_REQ_new();
	uint8_t hash[SHA256_LEN], *der = NULL;
	int n = -1;

	if (imprint && nonce && q && hash_of(text, hash, e) && fill_imprint(imprint, hash) &&
	    TS_REQ_set_version(q, 1) && TS_REQ_set_msg_imprint(q, imprint) &&
	    TS_REQ_set_nonce(q, nonce) && TS_REQ_set_cert_req(q, 1))
		n = i2d_TS_REQ(q, &der);
	if (n > 0)
		buf_add(out, (struct str){ (const char *)der, (size_t)n });
	OPENSSL_free(der);
	TS_REQ_free(q);
	ASN1_INTEGER_free(nonce);
	TS_MSG_IMPRINT_free(imprint);
	if (n > 0 && buf_ok(out))
		return true;
	ERR_clear_error();
	return err_set(e, ERR_NOMEM, "no memory for a time-stamp request");
}

/* ---- checking ---- */

static X509_STORE *store_of(struct str ca, int64_t at_s, struct err *e)
{
	X509_STORE *store = X509_STORE_new();
	BIO *in = BIO_new_mem_buf(ca.p, (int)ca.n);
	X509 *cert;
	size_t n = 0;

	while (store && in && (cert = pem_certificate(in))) {
		n += X509_STORE_add_cert(store, cert) == 1;
		X509_free(cert);
	}
	BIO_free(in);
	ERR_clear_error(); /* the end of the PEM */
	if (n) {
		/* An authority's certificate ends; what it signed before does not. */
		X509_VERIFY_PARAM_set_time(X509_STORE_get0_param(store), at_s);
		return store;
	}
	X509_STORE_free(store);
	err_code(e, ERR_INVALID, "wrong_usage",
		 "the certificates to check time stamps by: expected at least one in PEM");
	return NULL;
}

/* The time a token says, and that its imprint is a SHA-256. */
static bool read_info(PKCS7 *token, int64_t *at_s, struct err *e)
{
	TS_TST_INFO *info = PKCS7_to_TS_TST_INFO(token);
	const ASN1_GENERALIZEDTIME *at = info ? TS_TST_INFO_get_time(info) : NULL;
	X509_ALGOR *algorithm = info ? TS_MSG_IMPRINT_get_algo(TS_TST_INFO_get_msg_imprint(info))
				     : NULL;
	const ASN1_OBJECT *oid = NULL;
	struct tm tm;
	bool ok;

	if (algorithm)
		X509_ALGOR_get0(&oid, NULL, NULL, algorithm);
	ok = at && oid && OBJ_obj2nid(oid) == NID_sha256 && ASN1_TIME_to_tm(at, &tm) == 1;
	if (ok)
		*at_s = timegm(&tm);
	TS_TST_INFO_free(info);
	return ok || refused(e, "the time stamp is not one over SHA-256");
}

/* @ctx gets the imprint and, if there is one, the store; and is used up. */
static bool check_with(TS_VERIFY_CTX *ctx, PKCS7 *token, TS_RESP *response, struct str text,
		       struct str ca, int64_t *at_s, struct err *e)
{
	uint8_t hash[SHA256_LEN], *own;
	X509_STORE *store;

	if (!hash_of(text, hash, e) || !read_info(token, at_s, e))
		return false;
	own = OPENSSL_memdup(hash, sizeof(hash));
	if (!own)
		return err_set(e, ERR_NOMEM, "no memory to check a time stamp");
	TS_VERIFY_CTX_set_imprint(ctx, own, sizeof(hash)); /* its own from here on */
	TS_VERIFY_CTX_add_flags(ctx, TS_VFY_VERSION | TS_VFY_IMPRINT);
	if (ca.p) {
		store = store_of(ca, *at_s, e);
		if (!store)
			return false;
		TS_VERIFY_CTX_set_store(ctx, store);
		TS_VERIFY_CTX_add_flags(ctx, TS_VFY_SIGNATURE);
	}
	if (response ? TS_RESP_verify_response(ctx, response) == 1
		     : TS_RESP_verify_token(ctx, token) == 1)
		return true;
	return refused(e, "the time stamp does not hold");
}

static PKCS7 *token_of(struct str der)
{
	const unsigned char *p = (const unsigned char *)der.p;
	PKCS7 *token = der.n && der.n <= TIMESTAMP_MAX ? d2i_PKCS7(NULL, &p, (long)der.n) : NULL;

	if (token && p != (const unsigned char *)der.p + der.n) {
		PKCS7_free(token);
		token = NULL;
	}
	return token;
}

bool timestamp_verify(struct str token, struct str text, struct str ca, int64_t *at_s,
		      struct err *e)
{
	TS_VERIFY_CTX *ctx = TS_VERIFY_CTX_new();
	PKCS7 *p7 = token_of(token);
	bool ok;

	ERR_clear_error();
	if (!p7)
		ok = refused(e, "the time stamp is no RFC 3161 token in DER");
	else if (!ctx)
		ok = err_set(e, ERR_NOMEM, "no memory to check a time stamp");
	else
		ok = check_with(ctx, p7, NULL, text, ca, at_s, e);
	TS_VERIFY_CTX_free(ctx);
	PKCS7_free(p7);
	return ok;
}

static bool take_token(TS_RESP *r, struct buf *token, struct err *e)
{
	uint8_t *der = NULL;
	int n = i2d_PKCS7(TS_RESP_get_token(r), &der);

	if (n > TIMESTAMP_MAX) {
		OPENSSL_free(der);
		return err_code(e, ERR_TOO_LARGE, "bad_timestamp",
				"the time stamp has %d bytes, at most %d fit into a checkpoint", n,
				TIMESTAMP_MAX);
	}
	if (n > 0)
		buf_add(token, (struct str){ (const char *)der, (size_t)n });
	OPENSSL_free(der);
	return (n > 0 && buf_ok(token)) || err_set(e, ERR_NOMEM, "no memory for a time stamp");
}

bool timestamp_answer(struct str response, struct str request, struct str text, struct str ca,
		      struct buf *token, int64_t *at_s, struct err *e)
{
	const unsigned char *p = (const unsigned char *)response.p,
			    *q = (const unsigned char *)request.p;
	TS_RESP *r = response.n ? d2i_TS_RESP(NULL, &p, (long)response.n) : NULL;
	TS_REQ *asked = request.n ? d2i_TS_REQ(NULL, &q, (long)request.n) : NULL;
	TS_VERIFY_CTX *ctx = asked ? TS_REQ_to_TS_VERIFY_CTX(asked, NULL) : NULL;
	bool ok;

	if (!ctx || q != (const unsigned char *)request.p + request.n)
		ok = refused(e, "not a time-stamp request in DER");
	else if (!r || p != (const unsigned char *)response.p + response.n)
		ok = refused(e, "the authority's answer is no time-stamp response in DER");
	else if (!TS_RESP_get_token(r)) {
		ERR_clear_error();
		ok = err_code(e, ERR_INVALID, "bad_timestamp",
			      "the authority did not grant a time stamp (status %ld)",
			      ASN1_INTEGER_get(
				      TS_STATUS_INFO_get0_status(TS_RESP_get_status_info(r))));
	} else
		ok = check_with(ctx, TS_RESP_get_token(r), r, text, ca, at_s, e) &&
		     take_token(r, token, e);
	TS_VERIFY_CTX_free(ctx);
	TS_REQ_free(asked);
	TS_RESP_free(r);
	ERR_clear_error();
	return ok;
}

/* ---- in notes ---- */

void timestamp_line(struct str token, struct buf *out)
{
	AUTO_BUF bytes;

	buf_init(&bytes, mem_system, TIMESTAMP_MAX + 4);
	for (unsigned i = 0; i < 4; i++)
		buf_char(&bytes, (char)(uint8_t)(TIMESTAMP_ID >> (24 - 8 * i)));
	buf_add(&bytes, token);
	if (!buf_ok(&bytes)) {
		out->failed = true;
		return;
	}
	buf_lit(out, "\xe2\x80\x94 " TIMESTAMP_NAME " ");
	text_base64(out, BASE64_STD, bytes.p, bytes.n);
	buf_char(out, '\n');
}

bool timestamp_find(const struct note *n, struct buf *token)
{
	for (size_t i = 0; i < n->n; i++) {
		const struct note_signature *s = &n->signatures[i];
		char *room;
		size_t len;

		if (s->id != TIMESTAMP_ID || !str_eq(s->name, STR(TIMESTAMP_NAME)))
			continue;
		room = buf_room(token, 3 * s->base64.n / 4 + 3);
		if (!room || !text_unbase64(s->base64, BASE64_STD, (uint8_t *)room, &len))
			return false;
		memmove(room, room + 4, len - 4); /* a line has at least five bytes */
		token->n += len - 4;
		return true;
	}
	return false;
}

/* ---- beside the checkpoints ---- */

static int open_folder(const char *folder, bool make, struct err *e)
{
	char path[4200];
	int dir;

	snprintf(path, sizeof(path), "%s/" TIMESTAMP_FOLDER, folder);
	if (make && mkdir(path, 0700) != 0 && errno != EEXIST) {
		err_set(e, ERR_IO, "%s cannot be made: %s", path, strerror(errno));
		return -1;
	}
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
	return dir;
}

bool timestamp_store(const char *folder, uint64_t size, struct str token, struct err *e)
{
	int dir = open_folder(folder, true, e);
	char name[40];
	bool ok;

	if (dir < 0)
		return false;
	snprintf(name, sizeof(name), "%" PRIu64 ".token", size);
	ok = file_replace(NULL, dir, name, token, 0600, e);
	close(dir);
	return ok;
}

void timestamp_add(const char *folder, struct buf *note)
{
	int dir = open_folder(folder, false, NULL);
	struct checkpoint c = { .size = 0 };
	struct note n = { .n = 0 };
	size_t end = note->n;
	char name[40];
	int64_t at;
	AUTO_BUF token;

	buf_init(&token, mem_system, 2 * TIMESTAMP_MAX);
	if (dir < 0)
		return;
	if (note_parse(buf_str(note), &n, NULL) && checkpoint_parse(n.text, &c, NULL)) {
		snprintf(name, sizeof(name), "%" PRIu64 ".token", c.size);
		if (file_read(dir, name, TIMESTAMP_MAX, &token, NULL) &&
		    timestamp_verify(buf_str(&token), n.text, (struct str){ 0 }, &at, NULL))
			timestamp_line(buf_str(&token), note);
	}
	close(dir);
	if (!buf_ok(note)) { /* it is an addition */
		note->n = end;
		note->failed = false;
	}
}

uint64_t timestamp_newest(const char *folder)
{
	int fd = open_folder(folder, false, NULL);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	uint64_t newest = 0, size;

	if (!d && fd >= 0)
		close(fd);
	while (d && (entry = readdir(d))) {
		struct str name = str_c(entry->d_name);

		if (str_ends(name, STR(".token")) &&
		    text_u64(str_first(name, name.n - 6), INT64_MAX, &size) && size > newest)
			newest = size;
	}
	if (d)
		closedir(d);
	return newest;
}
