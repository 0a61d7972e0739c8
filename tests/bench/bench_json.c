/* Reading and writing a request of 600 bytes: ours against jansson, in turns, the best of each. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "authz/base/json.h"
#include "tests/jansson.h"

static const char request[] =
	"{\"subject\":{\"type\":\"agent\",\"id\":\"spiffe://acme.example/agent/invoice-bot\","
	"\"properties\":{\"department\":\"finance\",\"region\":\"eu-west-1\",\"trust_level\":3}},"
	"\"action\":{\"name\":\"tools/call\",\"properties\":{\"amount\":1250.75,\"currency\":\"EUR\","
	"\"recipient\":\"DE89370400440532013000\",\"memo\":\"Invoice 2024-118, second part\","
	"\"urgent\":false,\"approvers\":[\"alice@acme.example\",\"bob@acme.example\"]}},"
	"\"resource\":{\"type\":\"tool\",\"id\":\"payments/transfer\",\"properties\":{\"owner\":\"treasury\","
	"\"tier\":\"critical\"}},\"context\":{\"time\":\"2026-11-21T10:00:00Z\",\"ip\":\"10.1.2.3\","
	"\"session\":\"0f8c2a\",\"attempt\":1,\"tags\":[\"batch\",\"q4\",\"auto\"]}}";

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

#define ROUNDS 25
#define TIMES 4000

struct bench {
	struct arena arena;
	struct buf out;
	const struct json *v;
	json_t *theirs;
};

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_json: %s failed\n", what);
	exit(1);
}

static void ours_read(struct bench *s)
{
	arena_reset(&s->arena);
	need(json_parse((struct str){ request, sizeof(request) - 1 }, &json_default_limits,
			&s->arena, &s->v, NULL),
	     "json_parse");
}

static void theirs_read(struct bench *s)
{
	json_decref(s->theirs);
	s->theirs = json_loadb(request, sizeof(request) - 1, JSON_REJECT_DUPLICATES, NULL);
	need(s->theirs, "json_loadb");
}

static void ours_write(struct bench *s)
{
	buf_reset(&s->out);
	json_canonical(&s->out, s->v);
	need(buf_ok(&s->out), "json_canonical");
}

static void theirs_write(struct bench *s)
{
	char *text = json_dumps(s->theirs, JSON_COMPACT | JSON_SORT_KEYS);

	need(text, "json_dumps");
	free(text);
}

static double once(void (*f)(struct bench *s), struct bench *s, double best)
{
	double start = now_us(), took;

	for (int i = 0; i < TIMES; i++)
		f(s);
	took = (now_us() - start) / TIMES;
	return took < best ? took : best;
}

int main(void)
{
	double r = 1e9, rj = 1e9, w = 1e9, wj = 1e9;
	struct bench s = { 0 };

	arena_init(&s.arena, &mem_system, 1 << 20);
	buf_init(&s.out, mem_system, 1 << 20);
	for (int i = 0; i < ROUNDS; i++) {
		r = once(ours_read, &s, r);
		rj = once(theirs_read, &s, rj);
		w = once(ours_write, &s, w);
		wj = once(theirs_write, &s, wj);
	}
	printf("json read   %4zu bytes  %6.3f us  jansson, duplicates refused %6.3f us  ratio %.1f\n",
	       sizeof(request) - 1, r, rj, rj / r);
	printf("json write  %4zu bytes  %6.3f us  jansson, sorted             %6.3f us  ratio %.1f\n",
	       s.out.n, w, wj, wj / w);
	json_decref(s.theirs);
	buf_clear(&s.out);
	arena_clear(&s.arena);
	return 0;
}
