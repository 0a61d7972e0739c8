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

void handle_ext_proc(struct request *r)
{
	r->site->service->ext_proc(r->worker, r->call, &r->caller);
}

void handle_access_log(struct request *r)
{
	r->site->service->access_log(r->worker, r->call, &r->caller, r->site->service->folder,
				     r->trace_id);
}

void ext_authz_refuse(const struct site *site, struct call *c, const struct err *e)
{
	if (str_starts(c->path, STR("/agentgateway.")))
		site->service->ext_mcp_refuse(c, e);
	else if (str_starts(c->path, STR("/envoy.service.ext_proc.")))
		site->service->ext_proc_refuse(c, e);
	else
		site->service->ext_authz_refuse(c, e);
}
