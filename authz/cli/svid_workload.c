/* SVIDs from a SPIFFE Workload API: the server knows this process by itself, and makes the key. */
#include <openssl/err.h>
#include <openssl/x509.h>

#include "authz/base/protobuf.h"
#include "authz/base/text.h"
#include "authz/cli/svid.h"
#include "authz/cli/workload.h"
#include "spiffe/crypto.h"
#include "spiffe/x509_svid.h"

#define PEM_BYTES (256 * 1024)

struct found {
	struct str id, chain, key, bundle, token;
};

/* The first one that is wanted: X509SVID has 1 ID, 2 chain, 3 key, 4 bundle; JWTSVID 1 ID, 2 token.
 */
static bool choose(struct str message, struct str wanted, struct found *out, struct err *e)
{
	struct pb_reader in = pb_reader(message);
	struct pb_field f;
	bool have = false;

	while (pb_next(&in, &f)) {
		struct pb_reader one;
		struct pb_field g;
		struct found svid = { 0 };

		if (f.number != 1)
			continue;
		pb_message(&in, &f, &one);
		while (pb_next(&one, &g)) {
			if (g.number == 1)
				pb_string(&one, &g, &svid.id);
			else if (g.number == 2)
				pb_bytes(&one, &g, &svid.chain);
			else if (g.number == 3)
				pb_bytes(&one, &g, &svid.key);
			else if (g.number == 4)
				pb_bytes(&one, &g, &svid.bundle);
		}
		pb_fail_with(&in, &one);
		svid.token = svid.chain;
		if (!have && (!wanted.n || str_eq(svid.id, wanted))) {
			*out = svid;
			have = true;
		}
	}
	if (!pb_ok(&in, "the Workload API's answer", e))
		return false;
	return have || err_code(e, ERR_FORBIDDEN, "no_identity",
				"the Workload API gives this process no %.*s",
				STR_FMT(wanted.n ? str_first(wanted, 300) : STR("SVID")));
}

static bool read_key(struct str der, EVP_PKEY **out, struct err *e)
{
	const unsigned char *p = (const unsigned char *)der.p;

	*out = der.n ? d2i_AutoPrivateKey(NULL, &p, (long)der.n) : NULL;
	ERR_clear_error();
	return *out ||
	       err_code(e, ERR_INTERNAL, "bad_response", "the Workload API's key is no PKCS#8 key");
}

static bool keep(const struct found *svid, const struct svid_files *files, struct svid_found *out,
		 struct err *e)
{
	AUTO_PKEY *key = NULL;
	AUTO_BUF chain, bundle;

	buf_init(&chain, mem_system, PEM_BYTES);
	buf_init(&bundle, mem_system, PEM_BYTES);
	x509_chain_pem(&chain, svid->chain);
	x509_chain_pem(&bundle, svid->bundle);
	if (!chain.n || !bundle.n || !buf_ok(&chain) || !buf_ok(&bundle))
		return err_code(e, ERR_INTERNAL, "bad_response",
				"the Workload API's chain or bundle is not certificates in DER");
	return read_key(svid->key, &key, e) &&
	       svid_keep(files, key, svid->id, buf_str(&chain), buf_str(&bundle), out, e);
}

bool svid_from_message(const struct cli *c, struct str message, const struct svid_files *files,
		       struct svid_found *out, struct err *e)
{
	const char *id = cli_value(c, "--id");
	struct found svid;

	return choose(message, id ? str_c(id) : (struct str){ NULL, 0 }, &svid, e) &&
	       keep(&svid, files, out, e);
}

bool svid_from_workload(const struct cli *c, const struct svid_files *files, struct svid_found *out,
			struct err *e)
{
	AUTO_BUF message;
	bool ok;

	buf_init(&message, mem_system, WORKLOAD_REPLY_MAX);
	if (svid_proof_given(c))
		return err_code(e, ERR_INVALID, "wrong_usage",
				"--socket needs no proof: the server knows this process by itself");
	ok = workload_ask(cli_value(c, "--socket"), "FetchX509SVID", (struct str){ "", 0 },
			  &message, e) &&
	     svid_from_message(c, buf_str(&message), files, out, e);
	if (message.p)
		mem_wipe(message.p, message.n);
	return ok;
}

/* @request is a JWTSVIDRequest that has its audiences. */
static bool ask_token(const char *uri, struct buf *request, struct str id, struct buf *token,
		      struct err *e)
{
	AUTO_BUF message;
	struct found svid;

	buf_init(&message, mem_system, WORKLOAD_REPLY_MAX);
	if (id.n)
		pb_put_bytes(request, 2, id);
	if (!buf_ok(request))
		return err_set(e, ERR_TOO_LARGE, "the audiences are too long");
	if (!workload_ask(uri, "FetchJWTSVID", buf_str(request), &message, e) ||
	    !choose(buf_str(&message), id, &svid, e))
		return false;
	if (!svid.token.n || !text_is_printable(svid.token))
		return err_code(e, ERR_INTERNAL, "bad_response",
				"the Workload API's token is none");
	buf_add(token, svid.token);
	return true;
}

bool svid_token_for(const char *uri, struct str audience, struct str id, struct buf *token,
		    struct err *e)
{
	AUTO_BUF request;

	buf_init(&request, mem_system, 65536);
	pb_put_bytes(&request, 1, audience);
	return ask_token(uri, &request, id, token, e);
}

bool svid_token_from_workload(struct cli *c, struct buf *token, struct err *e)
{
	const char *id = cli_value(c, "--id"), *audience;
	AUTO_BUF request;
	size_t at = 0;

	buf_init(&request, mem_system, 65536);
	while ((audience = cli_next(c, "--audience", &at)))
		pb_put_bytes(&request, 1, str_c(audience));
	return ask_token(cli_value(c, "--socket"), &request,
			 id ? str_c(id) : (struct str){ NULL, 0 }, token, e);
}
