/*
 * k8s_psat: a projected service-account token of a configured Kubernetes cluster.
 *
 * k8s:cluster:<name> k8s:ns:<namespace> k8s:sa:<service account> k8s:pod-name:<pod>
 * k8s:pod-uid:<uid> and, if the token says so, k8s:node-name:<node>.
 *
 * The signature is checked against the cluster's keys without asking its API server: so a token of
 * a pod that was deleted is good until it ends. Only tokens that are bound to a pod are taken; a
 * secret of the old kind is neither bound nor for us alone.
 */
#include "spiffe/attest_inside.h"

static struct str text_at(const struct json *v, const char *object, const char *name)
{
	const struct json *o = object ? json_get_type(v, str_c(object), JSON_OBJECT) : v;
	const struct json *s = json_get_type(o, str_c(name), JSON_STRING);

	return s ? s->s : (struct str){ 0 };
}

/* "sub" and the cluster's own claim must say the same. */
static bool same_subject(const struct attest_call *c, const struct json *claims, struct str ns,
			 struct str sa)
{
	struct str expected = arena_printf(c->arena, "system:serviceaccount:%.*s:%.*s", STR_FMT(ns),
					   STR_FMT(sa));

	return expected.p && str_eq(text_at(claims, NULL, "sub"), expected);
}

static bool prove(const struct attest_call *c, struct attested *out, struct err *e)
{
	const struct attest_issuer *whose = NULL;
	struct str ns, sa, pod, uid, node;
	const struct json *k;
	int64_t expires_s = 0;
	struct jws j;

	if (!attest_token(c, c->attest->k8s, c->attest->config.nk8s, &j, &whose, &expires_s, e))
		return false;
	k = json_get_type(j.claims, STR("kubernetes.io"), JSON_OBJECT);
	ns = text_at(k, NULL, "namespace");
	sa = text_at(k, "serviceaccount", "name");
	pod = text_at(k, "pod", "name");
	uid = text_at(k, "pod", "uid");
	node = text_at(k, "node", "name");
	if (!ns.n || !sa.n || !same_subject(c, j.claims, ns, sa))
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
				"token: it is no service-account token: claim \"kubernetes.io\" "
				"with namespace and serviceaccount, and a sub that says the same, "
				"are expected");
	if (!pod.n || !uid.n)
		return err_code(e, ERR_UNAUTHENTICATED, "invalid_token",
				"token: it is not bound to a pod; mount a projected "
				"service-account token");
	attest_token_once(c, whose, &j, expires_s, out);
	return attested_add(c, out, "k8s", STR("cluster"), whose->cluster, e) &&
	       attested_add(c, out, "k8s", STR("ns"), ns, e) &&
	       attested_add(c, out, "k8s", STR("sa"), sa, e) &&
	       attested_add(c, out, "k8s", STR("pod-name"), pod, e) &&
	       attested_add(c, out, "k8s", STR("pod-uid"), uid, e) &&
	       attested_add(c, out, "k8s", STR("node-name"), node, e);
}

const struct attestor attest_k8s_psat = { "k8s_psat", "a projected service-account token", prove };
