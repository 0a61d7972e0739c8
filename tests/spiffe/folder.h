/*
 * folder - a temporary folder for the signer's keys, as set-up and tear-down of a test.
 */
#ifndef WRIT_TESTS_SPIFFE_FOLDER_H
#define WRIT_TESTS_SPIFFE_FOLDER_H

#include "spiffe/signer_keys.h"

extern char base[64];	/* the temporary folder */
extern char folder[96]; /* base/keys; not there yet */

int fresh_folder(void **state);
int drop_folder(void **state);
void remove_tree(const char *path);
void path_of(const char *name, char out[static 160]); /* below folder */

/* signer_keys_open there, at FORGE_NOW, for a year; made() also closes them and fails the test. */
bool open_keys(const char *trust_domain, struct signer_keys *k, struct err *e);
void made(void);

#endif
