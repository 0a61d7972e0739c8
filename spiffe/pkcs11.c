/*
 * Each call of the module is a step that gives a CK_RV; a failure is said once, with the step's
 * name, by pkcs11_say(). Whatever a step needs before it - an initialised module, a slot, a
 * session, a login - it asks ready() for, so that after reset() all of it comes back by itself.
 */
#include "spiffe/pkcs11_inside.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "authz/base/text.h"
#include "spiffe/crypto.h"

#define SLOTS_MAX 256
#define FIND_AT_ONCE 16
#define RESET_PAUSE_NS 1000000000LL /* between two resets that did not help */

static const struct {
	CK_RV rv;
	const char *text;
} reasons[] = {
	{ CKR_PIN_INCORRECT, "the PIN is wrong" },
	{ CKR_PIN_INVALID, "the PIN is wrong" },
	{ CKR_PIN_LEN_RANGE, "the PIN is too short or too long" },
	{ CKR_PIN_EXPIRED, "the PIN has expired" },
	{ CKR_PIN_LOCKED, "the PIN is locked" },
	{ CKR_USER_PIN_NOT_INITIALIZED, "the token has no user PIN yet" },
	{ CKR_USER_NOT_LOGGED_IN, "the login is lost" },
	{ CKR_TOKEN_NOT_PRESENT, "the token is not there" },
	{ CKR_TOKEN_NOT_RECOGNIZED, "the token is not recognised" },
	{ CKR_TOKEN_WRITE_PROTECTED, "the token is write-protected" },
	{ CKR_DEVICE_REMOVED, "the token was removed" },
	{ CKR_DEVICE_ERROR, "the device failed" },
	{ CKR_DEVICE_MEMORY, "the token is full" },
	{ CKR_SLOT_ID_INVALID, "the slot is gone" },
	{ CKR_SESSION_HANDLE_INVALID, "the session is lost" },
	{ CKR_SESSION_CLOSED, "the session was closed" },
	{ CKR_SESSION_COUNT, "the token has no session to spare" },
	{ CKR_SESSION_READ_ONLY, "the token is read-only" },
	{ CKR_KEY_HANDLE_INVALID, "the key is gone" },
	{ CKR_OBJECT_HANDLE_INVALID, "the key is gone" },
	{ CKR_KEY_FUNCTION_NOT_PERMITTED, "the key may not sign" },
	{ CKR_MECHANISM_INVALID, "the token does not do ECDSA on P-256" },
	{ CKR_DOMAIN_PARAMS_INVALID, "the token does not know the curve P-256" },
	{ CKR_CURVE_NOT_SUPPORTED, "the token does not know the curve P-256" },
	{ CKR_NEED_TO_CREATE_THREADS, "the module wants threads of its own, which the signer has "
				      "not" },
	{ CKR_CANT_LOCK, "the module cannot lock" },
	{ CKR_CRYPTOKI_NOT_INITIALIZED, "the module is not initialised" },
	{ CKR_HOST_MEMORY, "no memory" },
	{ CKR_FUNCTION_FAILED, "the function failed" },
	{ CKR_GENERAL_ERROR, "the module failed" },
};

bool pkcs11_say(struct err *e, enum err_class class, const char *step, CK_RV rv)
{
	for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
		if (reasons[i].rv == rv)
			return err_code(e, class, "token_failed", "token: %s: %s", step,
					reasons[i].text);
	return err_code(e, class, "token_failed", "token: %s: CKR 0x%lx", step, rv);
}

/* ---- module ---- */

static bool initialise(struct pkcs11 *p, struct err *e)
{
	CK_C_INITIALIZE_ARGS args = { .flags = CKF_LIBRARY_CANT_CREATE_OS_THREADS |
					       CKF_OS_LOCKING_OK };
	CK_RV rv;

	if (p->initialised)
		return true;
	rv = p->f->C_Initialize(&args);
	if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
		return pkcs11_say(e, ERR_UNAVAILABLE, "the module's C_Initialize", rv);
	p->initialised = true;
	p->generation++;
	return true;
}

/* Forget all sessions, and what the module believes about the slots. */
static void reset(struct pkcs11 *p)
{
	if (p->initialised)
		(void)p->f->C_Finalize(NULL);
	p->initialised = false;
}

static bool module_is_ours(const char *path, struct err *e)
{
	struct stat st;

	if (path[0] != '/' || stat(path, &st) != 0)
		return err_set(e, ERR_NOT_FOUND, "PKCS#11 module %s: %s", path,
			       path[0] == '/' ? strerror(errno) : "an absolute path is expected");
	if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()) ||
	    (st.st_mode & 022))
		return err_set(e, ERR_FORBIDDEN,
			       "PKCS#11 module %s may be written by others than root and writ's "
			       "user, so it is not loaded: chown root %s && chmod go-w %s",
			       path, path, path);
	return true;
}

bool pkcs11_load(const char *path, const struct clock *clock, struct pkcs11 **out, struct err *e)
{
	struct pkcs11 *p = calloc(1, sizeof(*p));
	CK_C_GetFunctionList get;
	void *symbol;
	CK_RV rv;

	if (!p)
		return err_set(e, ERR_NOMEM, "no memory for a PKCS#11 module");
	p->clock = clock ? clock : &clock_system;
	if (!module_is_ours(path, e)) {
		pkcs11_unload(p);
		return false;
	}
	p->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	symbol = p->library ? dlsym(p->library, "C_GetFunctionList") : NULL;
	if (!symbol) {
		err_set(e, ERR_INVALID, "PKCS#11 module %s cannot be loaded: %s", path, dlerror());
		pkcs11_unload(p);
		return false;
	}
	memcpy(&get, &symbol, sizeof(symbol)); /* POSIX: a pointer to data becomes one to code */
	rv = get(&p->f);
	if (rv != CKR_OK || !p->f || p->f->version.major < 2) {
		err_set(e, ERR_INVALID, "%s is no module of PKCS#11 v2", path);
		p->f = NULL;
		pkcs11_unload(p);
		return false;
	}
	if (!initialise(p, e)) {
		pkcs11_unload(p);
		return false;
	}
	*out = p;
	return true;
}

void pkcs11_unload(struct pkcs11 *p)
{
	if (!p)
		return;
	if (p->f)
		reset(p);
	if (p->library)
		dlclose(p->library);
	mem_wipe(p->tokens, sizeof(p->tokens));
	free(p);
}

void **pkcs11_functions(struct pkcs11 *p)
{
	return (void **)(void *)&p->f;
}

/* ---- token ---- */

/* A field of a token: filled up with blanks, not ended by NUL. */
static bool field_is(const unsigned char *field, size_t n, const char *wanted)
{
	while (n && (field[n - 1] == ' ' || !field[n - 1]))
		n--;
	return !*wanted || str_eq((struct str){ (const char *)field, n }, str_c(wanted));
}

static bool fits(const CK_TOKEN_INFO *info, CK_SLOT_ID slot, const struct pkcs11_uri *u)
{
	return (!u->has_slot || u->slot == slot) &&
	       field_is(info->label, sizeof(info->label), u->token) &&
	       field_is(info->manufacturerID, sizeof(info->manufacturerID), u->manufacturer) &&
	       field_is(info->model, sizeof(info->model), u->model) &&
	       field_is(info->serialNumber, sizeof(info->serialNumber), u->serial) &&
	       (info->flags & CKF_TOKEN_INITIALIZED);
}

static const char *name_of(const struct pkcs11_uri *u)
{
	return *u->token ? u->token : *u->serial ? u->serial : "of that slot";
}

static bool find_slot(struct pkcs11_token *t, CK_SLOT_ID *slot, CK_TOKEN_INFO *out, struct err *e)
{
	CK_SLOT_ID slots[SLOTS_MAX];
	CK_ULONG n = SLOTS_MAX;
	unsigned found = 0;
	CK_RV rv = t->module->f->C_GetSlotList(CK_TRUE, slots, &n);

	if (rv != CKR_OK)
		return pkcs11_say(e, ERR_UNAVAILABLE, "the list of slots", rv);
	for (CK_ULONG i = 0; i < n && i < SLOTS_MAX; i++) {
		CK_TOKEN_INFO info;

		if (t->module->f->C_GetTokenInfo(slots[i], &info) != CKR_OK ||
		    !fits(&info, slots[i], &t->uri))
			continue;
		*slot = slots[i];
		*out = info;
		found++;
	}
	if (found == 1)
		return true;
	if (found)
		return err_code(e, ERR_CONFLICT, "token_ambiguous",
				"token: %u tokens are \"%s\"; say which by serial=", found,
				name_of(&t->uri));
	return err_code(e, ERR_NOT_FOUND, "token_missing",
			"token: no token \"%s\" is there; is it plugged in, and does the module's "
			"configuration name it to writ's user?",
			name_of(&t->uri));
}

/* One more wrong try may lock the PIN for good, and this one was not seen to be right. */
static bool may_try(const struct pkcs11_token *t, const CK_TOKEN_INFO *info, struct err *e)
{
	if (t->module->refused)
		return err_code(e, ERR_FORBIDDEN, PKCS11_PIN_REFUSED,
				"token: \"%s\" refused the PIN; it is not tried again",
				name_of(&t->uri));
	if (info->flags & CKF_USER_PIN_LOCKED)
		return err_code(e, ERR_FORBIDDEN, "pin_locked",
				"token: the PIN of \"%s\" is locked; unlock it with its security "
				"officer's PIN",
				name_of(&t->uri));
	if (info->flags & CKF_USER_PIN_FINAL_TRY)
		return err_code(e, ERR_FORBIDDEN, "pin_final_try",
				"token: one more wrong PIN locks \"%s\", so writ does not try; log "
				"in once by another tool",
				name_of(&t->uri));
	return true;
}

static bool open_session(struct pkcs11_token *t, struct err *e)
{
	struct pkcs11 *p = t->module;
	CK_TOKEN_INFO info = { .flags = 0 };
	CK_SLOT_ID slot = 0;
	CK_RV rv;

	if (!find_slot(t, &slot, &info, e) || !may_try(t, &info, e))
		return false;
	rv = p->f->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
				 &t->session);
	if (rv != CKR_OK)
		return pkcs11_say(e, ERR_UNAVAILABLE, "a session", rv);
	rv = p->f->C_Login(t->session, CKU_USER, (unsigned char *)t->pin, t->pin_len);
	if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) {
		t->generation = p->generation;
		return true;
	}
	(void)p->f->C_CloseSession(t->session);
	if (rv != CKR_PIN_INCORRECT && rv != CKR_PIN_INVALID && rv != CKR_PIN_LEN_RANGE)
		return pkcs11_say(e, ERR_UNAVAILABLE, "login", rv);
	/* It held before, so somebody changed it: the other token's session, which has the same
	 * PIN and often is the same token, must not try it again. */
	t->module->refused = t->module->refused || t->generation;
	pkcs11_say(e, ERR_FORBIDDEN, "login", rv);
	if (e)
		e->code = PKCS11_PIN_REFUSED;
	return false;
}

static bool ready(struct pkcs11_token *t, struct err *e)
{
	return initialise(t->module, e) &&
	       (t->generation == t->module->generation || open_session(t, e));
}

bool pkcs11_login(struct pkcs11 *p, const struct pkcs11_uri *uri, struct str pin,
		  struct pkcs11_token **out, struct err *e)
{
	struct pkcs11_token *t = &p->tokens[p->ntokens];

	if (p->ntokens == TOKENS_MAX)
		return err_set(e, ERR_INVALID, "token: two at most");
	if (!pin.n || pin.n > PKCS11_PIN_MAX)
		return err_set(e, ERR_INVALID, "token: a PIN has 1 to %d bytes", PKCS11_PIN_MAX);
	*t = (struct pkcs11_token){ .module = p, .uri = *uri, .pin_len = pin.n };
	memcpy(t->pin, pin.p, pin.n);
	if (!ready(t, e)) {
		mem_wipe(t->pin, sizeof(t->pin));
		return false;
	}
	p->ntokens++;
	*out = t;
	return true;
}

/* While writ runs, whatever is wrong with a token is not the fault of who asked for a signature. */
static bool unavailable(const struct err *why, struct err *e)
{
	*e = *why;
	e->class = ERR_UNAVAILABLE;
	return false;
}

bool pkcs11_with_session(struct pkcs11_token *t,
			 bool (*step)(struct pkcs11_token *, void *, struct err *), void *ctx,
			 struct err *e)
{
	struct err why = { 0 };
	int64_t now;

	if (ready(t, &why) && step(t, ctx, &why))
		return true;
	now = clock_mono_ns(t->module->clock);
	if (why.class == ERR_FORBIDDEN || now < t->module->next_reset_ns)
		return unavailable(&why, e);
	reset(t->module);
	if (ready(t, &why) && step(t, ctx, &why))
		return true;
	t->module->next_reset_ns = clock_mono_ns(t->module->clock) + RESET_PAUSE_NS;
	return unavailable(&why, e);
}

/* ---- objects ---- */

bool pkcs11_find(struct pkcs11_token *t, CK_ATTRIBUTE *template, CK_ULONG n, CK_OBJECT_HANDLE *out,
		 size_t max, size_t *found, struct err *e)
{
	CK_FUNCTION_LIST *f = t->module->f;
	CK_RV rv = f->C_FindObjectsInit(t->session, template, n);
	CK_ULONG got = 1;

	*found = 0;
	if (rv != CKR_OK)
		return pkcs11_say(e, ERR_UNAVAILABLE, "a search", rv);
	while (rv == CKR_OK && got && *found < max) {
		CK_ULONG room = max - *found < FIND_AT_ONCE ? max - *found : FIND_AT_ONCE;

		got = 0;
		rv = f->C_FindObjects(t->session, out + *found, room, &got);
		if (rv == CKR_OK && got <= room)
			*found += got;
	}
	(void)f->C_FindObjectsFinal(t->session);
	return rv == CKR_OK || pkcs11_say(e, ERR_UNAVAILABLE, "a search", rv);
}

static bool find_key(struct pkcs11_token *t, struct pkcs11_key *k, struct err *e)
{
	CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
	CK_ATTRIBUTE template[] = { ATTR(CKA_CLASS, class), { CKA_ID, k->id, sizeof(k->id) } };
	CK_OBJECT_HANDLE handles[2];
	char id[2 * PKCS11_ID_LEN + 1];
	size_t n;

	if (k->generation == t->generation)
		return true;
	if (!pkcs11_find(t, template, ARRAY_LEN(template), handles, ARRAY_LEN(handles), &n, e))
		return false;
	text_hex(k->id, sizeof(k->id), id);
	id[sizeof(id) - 1] = '\0';
	if (n != 1)
		return err_code(e, n ? ERR_CONFLICT : ERR_NOT_FOUND, "token_key_missing",
				"token: \"%s\" has %s private key with id %s", name_of(&t->uri),
				n ? "more than one" : "no", id);
	k->handle = handles[0];
	k->generation = t->generation;
	return true;
}

/* ---- signing ---- */

struct sign_step {
	struct pkcs11_key *key;
	uint8_t digest[SHA256_LEN];
	uint8_t *out;
};

static bool sign(struct pkcs11_token *t, void *ctx, struct err *e)
{
	struct sign_step *s = ctx;
	CK_MECHANISM ecdsa = { CKM_ECDSA, NULL, 0 };
	CK_ULONG n = PKCS11_SIGNATURE;
	CK_RV rv;

	if (!find_key(t, s->key, e))
		return false;
	rv = t->module->f->C_SignInit(t->session, &ecdsa, s->key->handle);
	if (rv == CKR_OK)
		rv = t->module->f->C_Sign(t->session, s->digest, SHA256_LEN, s->out, &n);
	if (rv == CKR_OK && n == PKCS11_SIGNATURE)
		return true;
	return rv == CKR_OK ? err_set(e, ERR_INTERNAL, "token: a signature of %lu bytes, not %d", n,
				      PKCS11_SIGNATURE)
			    : pkcs11_say(e, ERR_UNAVAILABLE, "signing", rv);
}

bool pkcs11_sign(struct pkcs11_key *k, const uint8_t digest[static SHA256_LEN],
		 uint8_t out[static PKCS11_SIGNATURE], struct err *e)
{
	struct sign_step step = { .key = k, .out = out };
	struct err why = { 0 };

	memcpy(step.digest, digest, SHA256_LEN);
	if (pkcs11_with_session(k->token, sign, &step, &why))
		return true;
	if (e)
		*e = why;
	return false;
}
