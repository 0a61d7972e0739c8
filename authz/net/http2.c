#include "authz/net/conn.h"
bool http2_open(struct conn *c)
{
	(void)c;
	return false;
}
void http2_close(struct conn *c)
{
	(void)c;
}
bool http2_read(struct conn *c, struct str in)
{
	(void)c;
	(void)in;
	return false;
}
bool http2_write(struct conn *c)
{
	(void)c;
	return false;
}
bool http2_over(const struct conn *c)
{
	(void)c;
	return true;
}
void http2_drain(struct conn *c)
{
	(void)c;
}
void http2_answer(struct exchange *x)
{
	(void)x;
}
bool http2_timeout(struct conn *c)
{
	(void)c;
	return false;
}
