/* The command line of the load generator. */
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/un.h>

#include "tests/bench/load.h"

static const char usage[] =
	"usage: bench_load --to ADDRESS [options]\n"
	"  --to 127.0.0.1:PORT | [::1]:PORT | unix:PATH   nothing but this machine\n"
	"  --connections N      kept open (1)\n"
	"  --streams M          HTTP/2 by prior knowledge (ALPN over TLS), M requests at a time on each\n"
	"  --seconds S          how long (5); --warmup S before it (0)\n"
	"  --count N            so many requests instead of a time\n"
	"  --rate R             R requests per second at fixed times, for latency\n"
	"  --method M --path P  (GET, or POST with a body) (/)\n"
	"  --body FILE          a run of '@' in it becomes a number, new for each request\n"
	"  --header 'N: V'      up to 8\n"
	"                  (content-type: application/grpc and te: trailers make it gRPC; the body is a\n"
	"                  message with its five-byte prefix; then grpc-status must be 0 in each answer)\n"
	"  --expect TEXT        must be in each answer\n"
	"  --answers FILE       write each answer's body, one per line\n"
	"  --tls, --cert F --key F, --ca F   TLS, with a client certificate, verifying the server\n"
	"  --quiet              JSON only;  --tolerant  exit 0 whatever was answered\n"
	"Prints a text on stderr and one line of JSON on stdout. Exit 1: something was not answered, or\n"
	"not with 2xx and the expected text.\n";

void load_options_usage(FILE *to)
{
	fputs(usage, to);
}

static bool unix_address(struct options *o, const char *path, struct err *e)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(un.sun_path))
		return err_set(e, ERR_INVALID, "--to: a socket's path has at most %zu bytes",
			       sizeof(un.sun_path) - 1);
	strcpy(un.sun_path, path);
	memcpy(&o->address, &un, sizeof(un));
	o->address_len = sizeof(un);
	return true;
}

/* Loopback only: a load generator that can reach further is a weapon. */
static bool address_parse(struct options *o, const char *to, struct err *e)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	char host[64];
	const char *colon = strrchr(to, ':');
	char *end;
	unsigned long port;

	if (strncmp(to, "unix:", 5) == 0 || to[0] == '/')
		return unix_address(o, to[0] == '/' ? to : to + 5, e);
	if (!colon || colon == to || (size_t)(colon - to) >= sizeof(host))
		return err_set(e, ERR_INVALID, "--to %s: expected ADDRESS:PORT or unix:PATH", to);
	memcpy(host, to, (size_t)(colon - to));
	host[colon - to] = '\0';
	port = strtoul(colon + 1, &end, 10);
	if (!port || port > 65535 || *end)
		return err_set(e, ERR_INVALID, "--to %s: the port is a number up to 65535", to);
	v4.sin_port = v6.sin6_port = htons((uint16_t)port);
	if (strcmp(host, "localhost") == 0)
		strcpy(host, "127.0.0.1");
	if (inet_pton(AF_INET, host, &v4.sin_addr) == 1 &&
	    (ntohl(v4.sin_addr.s_addr) >> 24) == IN_LOOPBACKNET) {
		memcpy(&o->address, &v4, sizeof(v4));
		o->address_len = sizeof(v4);
		return true;
	}
	if (strcmp(host, "[::1]") == 0) {
		v6.sin6_addr = in6addr_loopback;
		memcpy(&o->address, &v6, sizeof(v6));
		o->address_len = sizeof(v6);
		return true;
	}
	return err_set(e, ERR_INVALID,
		       "--to %s: only loopback addresses and Unix sockets are loaded", to);
}

static bool number(const char *name, const char *text, double min, double max, double *out,
		   struct err *e)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= min && v <= max))
		return err_set(e, ERR_INVALID, "--%s %s: expected a number from %g to %g", name,
			       text, min, max);
	*out = v;
	return true;
}

enum {
	O_TO = 256,
	O_CONNECTIONS,
	O_STREAMS,
	O_SECONDS,
	O_WARMUP,
	O_COUNT,
	O_RATE,
	O_METHOD,
	O_PATH,
	O_BODY,
	O_HEADER,
	O_EXPECT,
	O_ANSWERS,
	O_TLS,
	O_CERT,
	O_KEY,
	O_CA,
	O_QUIET,
	O_TOLERANT,
	O_HELP
};

static const struct option longs[] = {
	{ "to", required_argument, NULL, O_TO },
	{ "connections", required_argument, NULL, O_CONNECTIONS },
	{ "streams", required_argument, NULL, O_STREAMS },
	{ "seconds", required_argument, NULL, O_SECONDS },
	{ "warmup", required_argument, NULL, O_WARMUP },
	{ "count", required_argument, NULL, O_COUNT },
	{ "rate", required_argument, NULL, O_RATE },
	{ "method", required_argument, NULL, O_METHOD },
	{ "path", required_argument, NULL, O_PATH },
	{ "body", required_argument, NULL, O_BODY },
	{ "header", required_argument, NULL, O_HEADER },
	{ "expect", required_argument, NULL, O_EXPECT },
	{ "answers", required_argument, NULL, O_ANSWERS },
	{ "tls", no_argument, NULL, O_TLS },
	{ "cert", required_argument, NULL, O_CERT },
	{ "key", required_argument, NULL, O_KEY },
	{ "ca", required_argument, NULL, O_CA },
	{ "quiet", no_argument, NULL, O_QUIET },
	{ "tolerant", no_argument, NULL, O_TOLERANT },
	{ "help", no_argument, NULL, O_HELP },
	{ 0 },
};

static bool take_number(struct options *o, int which, const char *text, struct err *e)
{
	double v = 0;

	switch (which) {
	case O_CONNECTIONS:
		if (!number("connections", text, 1, 4096, &v, e))
			return false;
		o->connections = (unsigned)v;
		return true;
	case O_STREAMS:
		if (!number("streams", text, 1, 1000, &v, e))
			return false;
		o->streams = (unsigned)v;
		return true;
	case O_COUNT:
		if (!number("count", text, 1, 1e9, &v, e))
			return false;
		o->count = (uint64_t)v;
		return true;
	case O_RATE:
		if (!number("rate", text, 1, 1e6, &v, e))
			return false;
		o->rate = (unsigned)v;
		return true;
	case O_SECONDS:
		return number("seconds", text, 0.1, 3600, &o->seconds, e);
	default:
		return number("warmup", text, 0, 60, &o->warmup, e);
	}
}

static bool take_header(struct options *o, const char *text, struct err *e)
{
	static const char type[] = "content-type: ", grpc[] = "application/grpc";
	size_t name = strcspn(text, ":");

	if (o->nheaders == LOAD_HEADERS_MAX || !name || name > LOAD_NAME_MAX ||
	    strncmp(text + name, ": ", 2) != 0)
		return err_set(e, ERR_INVALID,
			       "--header '%s': up to %d of 'Name: value', names of up to %d bytes",
			       text, LOAD_HEADERS_MAX, LOAD_NAME_MAX);
	o->headers[o->nheaders++] = text;
	if (strncasecmp(text, type, strlen(type)) == 0) {
		o->typed = true;
		o->grpc = strncmp(text + strlen(type), grpc, strlen(grpc)) == 0;
	}
	return true;
}

static bool take(struct options *o, int which, const char *text, struct err *e)
{
	switch (which) {
	case O_TO:
		o->to = text;
		return address_parse(o, text, e);
	case O_METHOD:
		o->method = text;
		return true;
	case O_PATH:
		o->path = text;
		return true;
	case O_BODY:
		o->body_file = text;
		return true;
	case O_HEADER:
		return take_header(o, text, e);
	case O_EXPECT:
		o->expect = text;
		return true;
	case O_ANSWERS:
		o->answers = text;
		return true;
	case O_CERT:
		o->cert = text;
		o->tls = true;
		return true;
	case O_KEY:
		o->key = text;
		return true;
	case O_CA:
		o->ca = text;
		o->tls = true;
		return true;
	default:
		return take_number(o, which, text, e);
	}
}

bool load_options_parse(struct options *o, int argc, char **argv, struct err *e)
{
	int c;

	*o = (struct options){ .connections = 1, .seconds = 5, .path = "/" };
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == O_HELP) {
			load_options_usage(stdout);
			exit(0);
		}
		if (c == '?')
			return err_set(e, ERR_INVALID, "unknown option; see --help");
		if (c == O_TLS)
			o->tls = true;
		else if (c == O_QUIET)
			o->quiet = true;
		else if (c == O_TOLERANT)
			o->tolerant = true;
		else if (!take(o, c, optarg, e))
			return false;
	}
	if (optind != argc)
		return err_set(e, ERR_INVALID, "'%s' is no option; see --help", argv[optind]);
	if (!o->to)
		return err_set(e, ERR_INVALID, "--to is missing; see --help");
	if (!o->cert != !o->key)
		return err_set(e, ERR_INVALID, "--cert and --key go together");
	if (!o->method)
		o->method = o->body_file ? "POST" : "GET";
	return true;
}
