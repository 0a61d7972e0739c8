/*
 * cosigned - the newest checkpoint that witnesses have cosigned, as a file of the data folder.
 *
 * Purpose    `cosigned-checkpoint` is what is shown to others once a log has witnesses: served,
 *            published and put into exports. It is one of the log's stored checkpoints with lines
 *            behind it; the cosigner alone writes it.
 * Ownership  Nothing is kept.
 * Threads    Any: the file is replaced whole.
 */
#ifndef WRIT_AUDIT_COSIGNED_H
#define WRIT_AUDIT_COSIGNED_H

#include "authz/audit/note.h"

#define COSIGNED_FILE "cosigned-checkpoint"

/* Append it to @note; *size: its records. False without @e->class (ERR_NONE): there is none. */
MUST_USE bool cosigned_read(const char *folder, struct buf *note, uint64_t *size, struct err *e);

/* If @note is the checkpoint that was cosigned, replace it by the one with the lines; if it has a
 * time stamp (timestamp.h), add that. What cannot be read leaves it as it is: these are additions.
 */
void cosigned_add(const char *folder, struct buf *note);

#endif
