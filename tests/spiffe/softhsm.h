/*
 * softhsm - tokens of SoftHSM in a temporary folder, as set-up and tear-down of a test.
 *
 * Purpose    $SOFTHSM2_CONF is set to a configuration below the folder (fault/tmp_dir.h).
 */
#ifndef WRIT_TESTS_SPIFFE_SOFTHSM_H
#define WRIT_TESTS_SPIFFE_SOFTHSM_H

#define SOFTHSM_MODULE "/usr/lib/softhsm/libsofthsm2.so"
#define SOFTHSM_PIN "4711"

int softhsm_make(void **state); /* without a token */
int softhsm_remove(void **state);

/* A new token in a free slot. */
void softhsm_token(const char *label);

#endif
