/* HTTP/1.1 with one request at a time on a connection. */
#include <stdlib.h>
#include <strings.h>

#include "tests/bench/load.h"

#define H1_ANSWER_MAX (4 * 1024 * 1024)

bool load_h1_request(struct lane *c, int64_t start)
{
	const struct template *t = &c->load->request;

	c->start = start;
	c->inflight = 1;
	c->load->inflight++;
	if (!t->width)
		return lane_send(c, t->bytes, t->n);
	/* Only the number differs from what this connection sent before. */
	load_number(t->bytes, t, c->load->number);
	return lane_send(c, t->bytes, t->n);
}

/* The value of header @name (lower case, with its colon) in the head, or an empty str. */
static struct str header(struct str head, struct str name)
{
	struct str line, rest = head, value;

	while (str_cut(rest, '\n', &line, &rest)) {
		if (line.n <= name.n || strncasecmp(line.p, name.p, name.n) != 0)
			continue;
		value = str_from(line, name.n);
		while (value.n && value.p[0] == ' ')
			value = str_from(value, 1);
		while (value.n && (value.p[value.n - 1] == '\r' || value.p[value.n - 1] == ' '))
			value.n--;
		return value;
	}
	return (struct str){ NULL, 0 };
}

/* Take one whole answer off the buffer. 1: taken, 0: more bytes are needed, -1: nonsense. */
static int take_answer(struct lane *c)
{
	const char *end = c->in_n > 16 ? memmem(c->in, c->in_n, "\r\n\r\n", 4) : NULL;
	struct str head, length, body;
	size_t need = 0;
	int status;

	if (!end)
		return 0;
	head = (struct str){ c->in, (size_t)(end - c->in) + 2 };
	if (memcmp(c->in, "HTTP/1.", 7) != 0)
		return -1;
	status = (c->in[9] - '0') * 100 + (c->in[10] - '0') * 10 + (c->in[11] - '0');
	if (status < 100 || status > 599)
		return -1;
	length = header(head, STR("content-length:"));
	for (size_t i = 0; i < length.n; i++) {
		if (length.p[i] < '0' || length.p[i] > '9' || need > H1_ANSWER_MAX)
			return -1;
		need = need * 10 + (size_t)(length.p[i] - '0');
	}
	/* Without a length the end cannot be seen; what we measure always gives one. */
	if (!length.n && status != 204 && status != 304)
		return -1;
	if (c->in_n < head.n + 2 + need)
		return 0;
	if (strncasecmp(header(head, STR("connection:")).p ?: "", "close", 5) == 0)
		c->closing = true;
	body = (struct str){ c->in + head.n + 2, need };
	c->inflight = 0;
	c->load->inflight--;
	load_answered(c, &(struct answer){ .status = status,
					   .grpc = -1,
					   .body = body,
					   .latency = load_now() - c->start });
	memmove(c->in, c->in + head.n + 2 + need, c->in_n - head.n - 2 - need);
	c->in_n -= head.n + 2 + need;
	return 1;
}

bool load_h1_readable(struct lane *c)
{
	for (;;) {
		ssize_t n;
		int r;

		if (c->in_n == c->in_cap) {
			size_t cap = c->in_cap ? c->in_cap * 2 : 16384;
			char *p = cap <= 2 * H1_ANSWER_MAX ? realloc(c->in, cap) : NULL;

			if (!p)
				return false;
			c->in = p;
			c->in_cap = cap;
		}
		n = lane_receive(c, c->in + c->in_n, c->in_cap - c->in_n);
		if (n <= 0)
			return n == 0;
		c->in_n += (size_t)n;
		if (!c->inflight)
			return false; /* an answer to nothing */
		r = take_answer(c);
		if (r < 0)
			return false;
		if (r == 1)
			return c->closing ? false : load_next(c);
	}
}
