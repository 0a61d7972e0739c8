/* The signer's side. */
#include "spiffe/token_process.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "spiffe/signer_wire.h"
#include "spiffe/token_child.h"

static bool gone(struct token_process *p, struct err *e)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	return err_code(e, ERR_UNAVAILABLE, "token_gone",
			"token: the process with its module has ended; restart writ, and see what "
			"it said last");
}

bool token_process_start(const char *module, bool network, struct token_process *out, struct err *e)
{
	int pair[2];
	pid_t parent = getpid(), pid;

	*out = (struct token_process){ .fd = -1 };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return err_set(e, ERR_IO, "token: no socket pair: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
		token_child(module, network, pair[1], parent);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return err_set(e, ERR_IO, "token: cannot fork: %s", strerror(errno));
	}
	out->fd = pair[0];
	buf_init(&out->in, mem_system, SIGNER_FRAME_MAX + 4);
	return true;
}

void token_process_stop(struct token_process *p)
{
	if (p->fd >= 0)
		close(p->fd);
	buf_clear(&p->in);
	*p = (struct token_process){ .fd = -1 };
}

/* One frame into p->in, which it then fills alone. */
static bool receive(struct token_process *p, int timeout_ms, struct str *body, struct err *e)
{
	for (;;) {
		struct pollfd fd = { .fd = p->fd, .events = POLLIN };
		char *at;
		ssize_t n = wire_frame(buf_str(&p->in), body);

		if (n > 0)
			return true;
		if (n < 0)
			return gone(p, e);
		n = poll(&fd, 1, timeout_ms);
		if (n == 0) {
			p->late = true;
			return err_code(e, ERR_UNAVAILABLE, "token_timeout",
					"token: it did not answer within %d ms", timeout_ms);
		}
		if (n < 0 && errno == EINTR)
			continue;
		at = buf_room(&p->in, 1024);
		n = at ? recv(p->fd, at, 1024, MSG_DONTWAIT) : 0;
		if (n > 0)
			p->in.n += (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return gone(p, e);
	}
}

/* What was given up on comes first. Without it nothing can be asked. */
static bool catch_up(struct token_process *p, struct err *e)
{
	struct str body;

	if (!p->late)
		return true;
	if (!receive(p, 0, &body, e))
		return err_prefix(e, "an earlier request");
	p->late = false;
	buf_reset(&p->in);
	return true;
}

/* An answer: class 0 and what was asked for, or a class, a code and a message. */
static bool judge(struct str body, struct wire *answer, struct err *e)
{
	static const char *const codes[] = { PKCS11_PIN_REFUSED, "pin_locked",	    "pin_final_try",
					     "token_missing",	 "token_ambiguous", "token_failed",
					     "token_key_missing" };
	struct str code;
	uint8_t class;

	*answer = (struct wire){ .rest = body };
	class = wire_u8(answer);
	if (class == ERR_NONE)
		return true;
	code = wire_str(answer);
	if (answer->bad || !text_is_utf8(answer->rest) || !text_is_printable(answer->rest))
		return err_set(e, ERR_INTERNAL, "token: malformed answer");
	err_set(e, class <= ERR_INTERNAL ? (enum err_class) class : ERR_INTERNAL, "%.*s",
		STR_FMT(answer->rest));
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (str_eq(code, str_c(codes[i])))
			e->code = codes[i];
	return false;
}

/* Send @request, a frame, and wait. The answer lives until the next call. */
static bool call(struct token_process *p, const struct buf *request, int timeout_ms,
		 struct wire *answer, struct err *e)
{
	struct err ignored;
	struct str body;

	if (!e)
		e = &ignored;
	if (p->fd < 0)
		return gone(p, e);
	if (!catch_up(p, e))
		return false;
	buf_reset(&p->in);
	/* Nothing is under way, so a frame fits into the socket's buffer. */
	if (send(p->fd, request->p, request->n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)request->n)
		return gone(p, e);
	return receive(p, timeout_ms, &body, e) && judge(body, answer, e);
}

/* A request's frame, begun: the op and the kind of key. */
static size_t begin(struct buf *b, enum token_op op, enum authority_kind kind)
{
	size_t at;

	buf_init(b, mem_system, SIGNER_FRAME_MAX + 4);
	at = buf_room(b, 4096) ? wire_begin(b) : 0; /* no copies of a PIN by growing */
	wire_put_u8(b, (uint8_t)op);
	wire_put_u8(b, (uint8_t)kind);
	return at;
}

bool token_process_login(struct token_process *p, enum authority_kind kind, struct str uri,
			 struct str pin, struct err *e)
{
	AUTO_SECRET request = { 0 };
	struct wire answer;
	size_t at = begin(&request, TOKEN_LOGIN, kind);

	wire_put_str(&request, uri);
	wire_put_str(&request, pin);
	return wire_end(&request, at) ? call(p, &request, TOKEN_START_MS, &answer, e)
				      : err_set(e, ERR_NOMEM, "no memory for a request");
}

bool token_process_generate(struct token_process *p, enum authority_kind kind, const char *label,
			    uint8_t id[static PKCS11_ID_LEN], struct buf *spki, struct err *e)
{
	AUTO_BUF request = { 0 };
	struct wire answer;
	struct str got;
	size_t at = begin(&request, TOKEN_GENERATE, kind);

	wire_put_str(&request, str_c(label));
	if (!wire_end(&request, at))
		return err_set(e, ERR_NOMEM, "no memory for a request");
	if (!call(p, &request, TOKEN_CALL_MS, &answer, e))
		return false;
	got = wire_str(&answer);
	buf_add(spki, wire_str(&answer));
	if (answer.bad || got.n != PKCS11_ID_LEN || !buf_ok(spki))
		return err_set(e, ERR_INTERNAL, "token: malformed answer");
	memcpy(id, got.p, PKCS11_ID_LEN);
	return true;
}

bool token_process_sign(struct token_process *p, enum authority_kind kind,
			const uint8_t id[static PKCS11_ID_LEN],
			const uint8_t digest[static SHA256_LEN],
			uint8_t out[static PKCS11_SIGNATURE], struct err *e)
{
	AUTO_BUF request = { 0 };
	struct wire answer;
	struct str got;
	size_t at = begin(&request, TOKEN_SIGN, kind);

	wire_put_str(&request, (struct str){ (const char *)id, PKCS11_ID_LEN });
	wire_put_str(&request, (struct str){ (const char *)digest, SHA256_LEN });
	if (!wire_end(&request, at))
		return err_set(e, ERR_NOMEM, "no memory for a request");
	if (!call(p, &request, TOKEN_CALL_MS, &answer, e))
		return false;
	got = wire_str(&answer);
	if (answer.bad || got.n != PKCS11_SIGNATURE)
		return err_set(e, ERR_INTERNAL, "token: malformed answer");
	memcpy(out, got.p, PKCS11_SIGNATURE);
	return true;
}

bool token_process_keep(struct token_process *p, enum authority_kind kind, const char *label,
			struct str keep, size_t *removed, struct err *e)
{
	AUTO_BUF request = { 0 };
	struct wire answer;
	size_t at = begin(&request, TOKEN_KEEP, kind);

	wire_put_str(&request, str_c(label));
	wire_put_str(&request, keep);
	if (!wire_end(&request, at))
		return err_set(e, ERR_NOMEM, "no memory for a request");
	if (!call(p, &request, TOKEN_CALL_MS, &answer, e))
		return false;
	*removed = (size_t)wire_i64(&answer);
	return !answer.bad || err_set(e, ERR_INTERNAL, "token: malformed answer");
}
