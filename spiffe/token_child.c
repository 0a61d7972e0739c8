#include "spiffe/token_child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "spiffe/pkcs11.h"
#include "spiffe/signer_child.h"
#include "spiffe/signer_wire.h"

struct desk {
	const char *path;
	bool network;
	struct pkcs11 *module; /* NULL: not loaded yet */
	struct pkcs11_token *of[AUTHORITY_KINDS];
	struct pkcs11_key keys[AUTHORITY_KINDS]; /* signed with last: their handles are known */
};

/* ---- requests ---- */

static bool login(struct desk *d, enum authority_kind kind, struct wire *w, struct buf *out,
		  struct err *e)
{
	struct str uri = wire_str(w), pin = wire_str(w);
	struct pkcs11_uri parsed;

	(void)out;
	if (w->bad)
		return err_set(e, ERR_INVALID, "token: malformed request");
	if (!d->module) {
		if (!pkcs11_load(d->path, NULL, &d->module, e))
			return false;
		if (!signer_confine(d->network ? CONFINE_NETWORK : CONFINE_LOCAL))
			return err_set(e, ERR_UNAVAILABLE,
				       "token: the kernel does not offer to confine its module");
	}
	return pkcs11_uri_parse(uri, &parsed, e) &&
	       pkcs11_login(d->module, &parsed, pin, &d->of[kind], e);
}

static bool generate(struct desk *d, enum authority_kind kind, struct wire *w, struct buf *out,
		     struct err *e)
{
	char label[PKCS11_LABEL_MAX + 1] = "";
	uint8_t id[PKCS11_ID_LEN];
	struct str text = wire_str(w);
	AUTO_BUF spki = { 0 };

	if (w->bad || !text.n || text.n > PKCS11_LABEL_MAX)
		return err_set(e, ERR_INVALID, "token: malformed request");
	memcpy(label, text.p, text.n);
	buf_init(&spki, mem_system, 1024);
	if (!pkcs11_generate(d->of[kind], label, id, &spki, e))
		return false;
	wire_put_str(out, (struct str){ (const char *)id, sizeof(id) });
	wire_put_str(out, buf_str(&spki));
	return true;
}

static bool sign(struct desk *d, enum authority_kind kind, struct wire *w, struct buf *out,
		 struct err *e)
{
	struct str id = wire_str(w), digest = wire_str(w);
	struct pkcs11_key *k = &d->keys[kind];
	uint8_t signature[PKCS11_SIGNATURE];

	if (w->bad || id.n != PKCS11_ID_LEN || digest.n != SHA256_LEN)
		return err_set(e, ERR_INVALID, "token: malformed request");
	if (memcmp(k->id, id.p, id.n) != 0) {
		*k = (struct pkcs11_key){ .token = d->of[kind] };
		memcpy(k->id, id.p, id.n);
	}
	k->token = d->of[kind];
	if (!pkcs11_sign(k, (const uint8_t *)digest.p, signature, e))
		return false;
	wire_put_str(out, (struct str){ (const char *)signature, sizeof(signature) });
	return true;
}

static bool keep(struct desk *d, enum authority_kind kind, struct wire *w, struct buf *out,
		 struct err *e)
{
	char label[PKCS11_LABEL_MAX + 1] = "";
	struct str text = wire_str(w), ids = wire_str(w);
	size_t removed = 0;

	if (w->bad || !text.n || text.n > PKCS11_LABEL_MAX)
		return err_set(e, ERR_INVALID, "token: malformed request");
	memcpy(label, text.p, text.n);
	if (!pkcs11_keep(d->of[kind], label, ids, &removed, e))
		return false;
	wire_put_i64(out, (int64_t)removed);
	return true;
}

static const struct {
	enum token_op op;
	bool (*answer)(struct desk *d, enum authority_kind kind, struct wire *w, struct buf *out,
		       struct err *e);
} table[] = {
	{ TOKEN_LOGIN, login },
	{ TOKEN_GENERATE, generate },
	{ TOKEN_SIGN, sign },
	{ TOKEN_KEEP, keep },
};

static bool answer(struct desk *d, struct str body, struct buf *out, struct err *e)
{
	struct wire w = { .rest = body };
	uint8_t op = wire_u8(&w), kind = wire_u8(&w);

	if (w.bad || kind >= AUTHORITY_KINDS || (op != TOKEN_LOGIN && !d->of[kind]))
		return err_set(e, ERR_INVALID, "token: malformed request");
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (table[i].op == (enum token_op)op)
			return table[i].answer(d, (enum authority_kind)kind, &w, out, e);
	return err_set(e, ERR_INVALID, "token: unknown request");
}

/* ---- the loop ---- */

static bool reply(int fd, struct desk *d, struct str body)
{
	struct err e = { 0 };
	AUTO_BUF out = { 0 };
	size_t at;

	buf_init(&out, mem_system, SIGNER_FRAME_MAX + 4);
	at = wire_begin(&out);
	wire_put_u8(&out, ERR_NONE);
	if (!answer(d, body, &out, &e)) {
		out.n = at;
		at = wire_begin(&out);
		wire_put_u8(&out, (uint8_t)(e.class ? e.class : ERR_INTERNAL));
		wire_put_str(&out, str_c(e.code ? e.code : ""));
		buf_add(&out, str_c(e.msg));
	}
	return wire_end(&out, at) && send(fd, out.p, out.n, MSG_NOSIGNAL) == (ssize_t)out.n;
}

static void serve(int fd, struct desk *d)
{
	AUTO_SECRET in = { 0 }; /* a login holds the PIN */
	struct str body;

	buf_init(&in, mem_system, SIGNER_FRAME_MAX + 4);
	if (!buf_room(&in, SIGNER_FRAME_MAX + 4))
		return;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = wire_frame(buf_str(&in), &body);

		if (n > 0) {
			if (!reply(fd, d, body))
				return;
			buf_drop(&in, (size_t)n);
			continue;
		}
		if (n < 0 || (poll(&p, 1, -1) < 0 && errno != EINTR))
			return;
		n = recv(fd, in.p + in.n, in.max - in.n, MSG_DONTWAIT);
		if (n > 0)
			in.n += (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return;
	}
}

_Noreturn void token_child(const char *module, bool network, int fd, pid_t parent)
{
	struct desk d = { .path = module, .network = network };

	if (fd > 3)
		close_range(3, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0u, 0);
	prctl(PR_SET_NAME, "writ-token");
	if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
	    getppid() != parent) /* it died before PDEATHSIG was set */
		_exit(1);
	serve(fd, &d);
	pkcs11_unload(d.module);
	_exit(0);
}
