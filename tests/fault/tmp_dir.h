/* tmp_dir - a folder for one test, gone afterwards. */
#ifndef WRIT_TEST_TMP_DIR_H
#define WRIT_TEST_TMP_DIR_H

/* Make a fresh folder below $TMPDIR; its path is in *state (cmocka set-up and tear-down). */
int tmp_dir_make(void **state);
int tmp_dir_remove(void **state);

/* "<folder>/<name>" in one of eight rotating static buffers. */
const char *tmp_dir_path(void *const *state, const char *name);

#endif
