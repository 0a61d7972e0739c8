/* /ext-authz/: the request of somebody else, as a proxy describes it. The front that reads it is a
 * neighbour (authz/extauthz); here only the caller is known. */
#include "authz/server/handlers.h"
#include "authz/server/service.h"

void handle_ext_authz(struct request *r)
{
	r->site->service->ext_authz(r->worker, r->call, &r->caller, r->request_id, r->trace_id);
}

void handle_ext_authz_grpc(struct request *r)
{
	r->site->service->ext_authz_grpc(r->worker, r->call, &r->caller, r->request_id,
					 r->trace_id);
}

void handle_ext_mcp(struct request *r)
{
	r->site->service->ext_mcp(r->worker, r->call, &r->caller, r->request_id, r->trace_id);
}

void ext_authz_refuse(struct request *r, const struct err *e)
{
	const struct service *s = r->site->service;

	if (str_starts(r->call->path, STR("/agentgateway.")))
		s->ext_mcp_refuse(r->call, e);
	else
		s->ext_authz_refuse(r->call, e);
}
