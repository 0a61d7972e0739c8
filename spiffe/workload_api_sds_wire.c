#include "spiffe/workload_api_sds_wire.h"

#include "authz/base/protobuf.h"
#include "authz/base/text.h"

#define VALIDATOR_NAME "envoy.tls.cert_validator.spiffe"
#define VALIDATOR_TYPE \
	"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
#define DISABLE_KEY "disable_spiffe_cert_validation"
#define NAME_MAX_BYTES 2048

/* ---- reading ---- */

static void add_name(struct pb_reader *in, struct sds_request *q, struct str name)
{
	size_t at = q->nnames;

	if (!name.n || name.n > NAME_MAX_BYTES || !text_is_printable(name)) {
		pb_fail(in, "a resource name is empty, longer than 2048 bytes or not printable");
		return;
	}
	for (size_t i = 0; i < q->nnames; i++)
		if (str_eq(q->names[i], name))
			return;
	if (q->nnames == SDS_NAMES_MAX) {
		pb_fail(in, "more than 64 resource names");
		return;
	}
	while (at > 0 && str_cmp(q->names[at - 1], name) > 0) {
		q->names[at] = q->names[at - 1];
		at--;
	}
	q->names[at] = name;
	q->nnames++;
}

/* SemanticVersion { 1 major, 2 minor } inside BuildVersion { 1 version } */
static bool since_1_18(struct pb_reader *build)
{
	uint32_t major = 0, minor = 0;
	struct pb_reader version;
	struct pb_field f, v;

	while (pb_next(build, &f)) {
		if (f.number != 1)
			continue;
		pb_message(build, &f, &version);
		while (!build->why && pb_next(&version, &v)) {
			if (v.number == 1)
				pb_u32(&version, &v, &major);
			else if (v.number == 2)
				pb_u32(&version, &v, &minor);
		}
		pb_fail_with(build, &version);
	}
	return major > 1 || (major == 1 && minor >= 18);
}

/* An entry of a Struct's fields: is it ours, and true? */
static bool is_disabled(struct pb_reader *entry)
{
	struct str key = { NULL, 0 }, text = { NULL, 0 };
	struct pb_reader value;
	struct pb_field f, v;
	bool yes = false;

	while (pb_next(entry, &f)) {
		if (f.number == 1)
			pb_string(entry, &f, &key);
		if (f.number != 2)
			continue;
		pb_message(entry, &f, &value);
		while (!entry->why && pb_next(&value, &v)) {
			if (v.number == 4)
				pb_bool(&value, &v, &yes);
			else if (v.number == 3)
				pb_string(&value, &v, &text);
		}
		pb_fail_with(entry, &value);
	}
	return str_eq(key, STR(DISABLE_KEY)) && (yes || str_eq(text, STR("true")));
}

/* Node { 3 metadata, 8 user_agent_build_version } */
static void read_node(struct pb_reader *node, struct sds_request *q)
{
	bool disabled = false, recent = false;
	struct pb_reader inside, entry;
	struct pb_field f, m;

	while (pb_next(node, &f)) {
		if (f.number != 3 && f.number != 8)
			continue;
		pb_message(node, &f, &inside);
		if (node->why)
			return;
		if (f.number == 8)
			recent = since_1_18(&inside);
		while (f.number == 3 && pb_next(&inside, &m)) {
			if (m.number != 1)
				continue;
			pb_message(&inside, &m, &entry);
			if (inside.why)
				break;
			disabled = is_disabled(&entry) || disabled;
			pb_fail_with(&inside, &entry);
		}
		pb_fail_with(node, &inside);
	}
	q->has_node = true;
	q->validator = recent && !disabled;
}

/* google.rpc.Status { 1 code, 2 message } */
static void read_error(struct pb_reader *status, struct str *message)
{
	struct pb_field f;

	*message = STR("no message");
	while (pb_next(status, &f))
		if (f.number == 2)
			pb_string(status, &f, message);
}

static void read_field(struct pb_reader *in, const struct pb_field *f, struct sds_request *q)
{
	struct str text = { NULL, 0 };
	struct pb_reader inside;

	switch (f->number) {
	case 1:
		pb_string(in, f, &q->version);
		break;
	case 3:
		pb_string(in, f, &text);
		if (!in->why)
			add_name(in, q, text);
		break;
	case 4:
		pb_string(in, f, &text);
		if (text.n && !str_eq(text, STR(SDS_SECRET_TYPE)))
			pb_fail(in, "type_url is not that of a Secret (" SDS_SECRET_TYPE ")");
		break;
	case 5:
		pb_string(in, f, &q->nonce);
		break;
	case 2:
	case 6:
		pb_message(in, f, &inside);
		if (in->why)
			break;
		if (f->number == 2)
			read_node(&inside, q);
		else
			read_error(&inside, &q->error);
		pb_fail_with(in, &inside);
		break;
	default:
		break;
	}
}

bool sds_read(struct str message, struct sds_request *out, struct err *e)
{
	struct pb_reader in = pb_reader(message);
	struct pb_field f;

	*out = (struct sds_request){ .nnames = 0 };
	while (pb_next(&in, &f))
		read_field(&in, &f, out);
	return pb_ok(&in, "DiscoveryRequest", e);
}

/* ---- writing ---- */

/* Any { 1 type_url, 2 value }, whose value is what is put until any_end. */
struct any {
	size_t all, value;
};

static struct any any_begin(struct buf *b, uint32_t field, struct str type)
{
	struct any a = { .all = pb_begin(b, field) };

	pb_put_text(b, 1, type);
	a.value = pb_begin(b, 2);
	return a;
}

static void any_end(struct buf *b, struct any a)
{
	pb_end(b, a.value);
	pb_end(b, a.all);
}

/* DataSource { 2 inline_bytes } */
static void put_source(struct buf *b, uint32_t field, struct str bytes)
{
	size_t source = pb_begin(b, field);

	pb_put_bytes(b, 2, bytes);
	pb_end(b, source);
}

static struct any secret_begin(struct buf *b, struct str name)
{
	struct any a = any_begin(b, 2, STR(SDS_SECRET_TYPE));

	pb_put_text(b, 1, name);
	return a;
}

void sds_put_certificate(struct buf *b, struct str name, struct str chain, struct str key)
{
	struct any secret = secret_begin(b, name);
	size_t certificate = pb_begin(b, 2);

	put_source(b, 1, chain);
	put_source(b, 2, key);
	pb_end(b, certificate);
	any_end(b, secret);
}

void sds_put_roots(struct buf *b, struct str name, struct str pem)
{
	struct any secret = secret_begin(b, name);
	size_t context = pb_begin(b, 4);

	put_source(b, 1, pem);
	pb_end(b, context);
	any_end(b, secret);
}

void sds_put_validator(struct buf *b, struct str name, const struct sds_roots *roots, size_t n)
{
	struct any secret = secret_begin(b, name), config;
	size_t context = pb_begin(b, 4), extension = pb_begin(b, 12);

	pb_put_text(b, 1, STR(VALIDATOR_NAME));
	config = any_begin(b, 2, STR(VALIDATOR_TYPE));
	for (size_t i = 0; i < n; i++) {
		size_t domain = pb_begin(b, 1);

		pb_put_text(b, 1, roots[i].trust_domain);
		put_source(b, 2, roots[i].pem);
		pb_end(b, domain);
	}
	any_end(b, config);
	pb_end(b, extension);
	pb_end(b, context);
	any_end(b, secret);
}

void sds_put_rest(struct buf *b, struct str version, struct str nonce)
{
	size_t plane;

	pb_put_text(b, 1, version);
	pb_put_text(b, 4, STR(SDS_SECRET_TYPE));
	pb_put_text(b, 5, nonce);
	plane = pb_begin(b, 6);
	pb_put_text(b, 1, STR("writ"));
	pb_end(b, plane);
}
