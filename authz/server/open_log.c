#include "authz/server/open_log.h"

struct audit_reader *open_log_reader(struct open_log *o, const char *folder, struct err *e)
{
	if (!o->reader && !audit_reader_open(folder, &mem_system, &o->reader, e))
		return NULL;
	return o->reader;
}

struct tiles *open_log_tiles(struct open_log *o, const char *folder, struct err *e)
{
	if (!o->tiles && !tiles_open(folder, &mem_system, &o->tiles, e))
		return NULL;
	return o->tiles;
}

struct index_search *open_log_search(struct open_log *o, const char *folder, struct err *e)
{
	if (!o->search && !index_search_open(folder, &o->search, e))
		return NULL;
	return o->search;
}

void open_log_close(struct open_log *o)
{
	audit_reader_close(o->reader);
	tiles_close(o->tiles);
	index_search_close(o->search);
	*o = (struct open_log){ 0 };
}
