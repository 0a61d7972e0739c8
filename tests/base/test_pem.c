/* base/pem: whoever sends a block of PEM that is encrypted must not have anybody asked for a
 * passphrase. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ui.h>

#include "authz/base/pem.h"

static int questions;

static int ask(UI *ui)
{
	(void)ui;
	questions++;
	return 0;
}

/* Instead of the terminal. */
static int listen_to_questions(void **state)
{
	UI_METHOD *m = UI_create_method("counts");

	if (!m || UI_method_set_opener(m, ask) != 0)
		return -1;
	UI_set_default_method(m);
	*state = m;
	return 0;
}

static int stop_listening(void **state)
{
	UI_set_default_method(NULL);
	UI_destroy_method(*state);
	return 0;
}

static X509 *certificate(EVP_PKEY *key)
{
	X509 *cert = X509_new();

	assert_non_null(cert);
	assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(cert), 7), 1);
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), 0));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), 60));
	assert_int_equal(X509_set_pubkey(cert, key), 1);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	return cert;
}

static void put_certificate(BIO *out, X509 *cert, const EVP_CIPHER *cipher)
{
	static const unsigned char secret[] = "secret";

	assert_true(PEM_ASN1_write_bio((i2d_of_void *)i2d_X509, PEM_STRING_X509, out, cert, cipher,
				       cipher ? secret : NULL, cipher ? 6 : 0, NULL, NULL));
}

static void certificates_are_read_without_a_question(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = certificate(key), *found;
	BIO *text = BIO_new(BIO_s_mem());

	(void)state;
	put_certificate(text, cert, NULL);
	put_certificate(text, cert, EVP_aes_128_cbc());
	found = pem_certificate(text);
	assert_non_null(found);
	assert_int_equal(X509_cmp(found, cert), 0);
	X509_free(found);
	assert_null(pem_certificate(text));
	assert_int_equal(questions, 0);

	put_certificate(text, cert, EVP_aes_128_cbc());
	assert_null(PEM_read_bio_X509(text, NULL, NULL, NULL)); /* it is there to be asked for */
	assert_int_equal(questions, 1);
	questions = 0;
	ERR_clear_error();
	BIO_free(text);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void private_keys_are_read_without_a_question(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256"), *found;

	(void)state;
	for (int i = 0; i < 3; i++) { /* plain, PKCS #8 encrypted, and encrypted as of old */
		const EVP_CIPHER *cipher = i ? EVP_aes_128_cbc() : NULL;
		BIO *text = BIO_new(BIO_s_mem());
		char secret[] = "secret";

		assert_true(i == 2 ? PEM_write_bio_PrivateKey_traditional(text, key, cipher,
									  (unsigned char *)secret,
									  6, NULL, NULL)
				   : PEM_write_bio_PKCS8PrivateKey(text, key, cipher,
								   i ? secret : NULL, i ? 6 : 0,
								   NULL, NULL));
		found = pem_private_key(text);
		if (!found != !!i || questions)
			fail_msg("%d: %s, %d questions", i, found ? "read" : "not read", questions);
		EVP_PKEY_free(found);
		ERR_clear_error();
		BIO_free(text);
	}
	EVP_PKEY_free(key);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(certificates_are_read_without_a_question),
		cmocka_unit_test(private_keys_are_read_without_a_question),
	};

	return cmocka_run_group_tests(tests, listen_to_questions, stop_listening);
}
