/*
 * open_log - the log as operators' requests read it, kept open from one to the next.
 *
 * Purpose    To open a database and look whether it took its settings costs more than most of what
 *            is asked for: a tile, a page of a search, a checkpoint. What a request has read with
 *            stays open for the next one, with little memory and without a transaction; what failed
 *            once is opened anew.
 * Ownership  Held by value. What is lent is used before the handler returns, and not closed.
 * Threads    The operators' home thread alone; after it ended, whoever stops the server.
 */
#ifndef WRIT_SERVER_OPEN_LOG_H
#define WRIT_SERVER_OPEN_LOG_H

#include "authz/audit/index_search.h"
#include "authz/audit/read.h"
#include "authz/audit/tiles.h"

struct open_log {
	struct audit_reader *reader;
	struct tiles *tiles;
	struct index_search *search;
};

/* Of the log in data folder @folder. NULL: it cannot be opened. */
struct audit_reader *open_log_reader(struct open_log *o, const char *folder, struct err *e);
struct tiles *open_log_tiles(struct open_log *o, const char *folder, struct err *e);
struct index_search *open_log_search(struct open_log *o, const char *folder, struct err *e);

/* After a failure, and at the end. It can be used again. */
void open_log_close(struct open_log *o);

#endif
