#include "authz/extauthz/known_headers.h"

const struct str header_names[HEADERS] = {
	[HEADER_OTHER] = JSON_NAME_INIT(""),
	[HEADER_A2A_EXTENSIONS] = JSON_NAME_INIT("a2a-extensions"),
	[HEADER_A2A_VERSION] = JSON_NAME_INIT("a2a-version"),
	[HEADER_ACCEPT] = JSON_NAME_INIT("accept"),
	[HEADER_ANTHROPIC_BETA] = JSON_NAME_INIT("anthropic-beta"),
	[HEADER_ANTHROPIC_VERSION] = JSON_NAME_INIT("anthropic-version"),
	[HEADER_AUTHORIZATION] = JSON_NAME_INIT("authorization"),
	[HEADER_CONTENT_ENCODING] = JSON_NAME_INIT("content-encoding"),
	[HEADER_CONTENT_LENGTH] = JSON_NAME_INIT("content-length"),
	[HEADER_CONTENT_TYPE] = JSON_NAME_INIT("content-type"),
	[HEADER_HOST] = JSON_NAME_INIT("host"),
	[HEADER_MCP_METHOD] = JSON_NAME_INIT("mcp-method"),
	[HEADER_MCP_NAME] = JSON_NAME_INIT("mcp-name"),
	[HEADER_MCP_PROTOCOL_VERSION] = JSON_NAME_INIT("mcp-protocol-version"),
	[HEADER_MCP_SESSION_ID] = JSON_NAME_INIT("mcp-session-id"),
	[HEADER_OPENAI_BETA] = JSON_NAME_INIT("openai-beta"),
	[HEADER_OPENAI_ORGANIZATION] = JSON_NAME_INIT("openai-organization"),
	[HEADER_OPENAI_PROJECT] = JSON_NAME_INIT("openai-project"),
	[HEADER_ORIGIN] = JSON_NAME_INIT("origin"),
	[HEADER_TRANSFER_ENCODING] = JSON_NAME_INIT("transfer-encoding"),
	[HEADER_USER_AGENT] = JSON_NAME_INIT("user-agent"),
	[HEADER_X_ENVOY_AUTH_PARTIAL_BODY] = JSON_NAME_INIT("x-envoy-auth-partial-body"),
	[HEADER_X_FORWARDED_CLIENT_CERT] = JSON_NAME_INIT("x-forwarded-client-cert"),
	[HEADER_X_GOOG_API_KEY] = JSON_NAME_INIT("x-goog-api-key"),
	[HEADER_X_GOOG_USER_PROJECT] = JSON_NAME_INIT("x-goog-user-project"),
	[HEADER_X_HTTP_METHOD] = JSON_NAME_INIT("x-http-method"),
	[HEADER_X_HTTP_METHOD_OVERRIDE] = JSON_NAME_INIT("x-http-method-override"),
	[HEADER_X_METHOD_OVERRIDE] = JSON_NAME_INIT("x-method-override"),
	[HEADER_X_ORIGINAL_METHOD] = JSON_NAME_INIT("x-original-method"),
	[HEADER_X_ORIGINAL_URI] = JSON_NAME_INIT("x-original-uri"),
	[HEADER_X_ORIGINAL_URL] = JSON_NAME_INIT("x-original-url"),
	[HEADER_X_REWRITE_URL] = JSON_NAME_INIT("x-rewrite-url"),
};

#define LENGTHS 26

/* Those of each length, ended by HEADER_OTHER. */
static const uint8_t by_length[LENGTHS][9] = {
	[4] = { HEADER_HOST },
	[6] = { HEADER_ACCEPT, HEADER_ORIGIN },
	[8] = { HEADER_MCP_NAME },
	[10] = { HEADER_USER_AGENT, HEADER_MCP_METHOD },
	[11] = { HEADER_A2A_VERSION, HEADER_OPENAI_BETA },
	[12] = { HEADER_CONTENT_TYPE },
	[13] = { HEADER_AUTHORIZATION, HEADER_X_HTTP_METHOD, HEADER_X_REWRITE_URL },
	[14] = { HEADER_CONTENT_LENGTH, HEADER_MCP_SESSION_ID, HEADER_A2A_EXTENSIONS,
		 HEADER_ANTHROPIC_BETA, HEADER_OPENAI_PROJECT, HEADER_X_GOOG_API_KEY,
		 HEADER_X_ORIGINAL_URI, HEADER_X_ORIGINAL_URL },
	[16] = { HEADER_CONTENT_ENCODING },
	[17] = { HEADER_TRANSFER_ENCODING, HEADER_ANTHROPIC_VERSION, HEADER_X_METHOD_OVERRIDE,
		 HEADER_X_ORIGINAL_METHOD },
	[19] = { HEADER_OPENAI_ORGANIZATION, HEADER_X_GOOG_USER_PROJECT },
	[20] = { HEADER_MCP_PROTOCOL_VERSION },
	[22] = { HEADER_X_HTTP_METHOD_OVERRIDE },
	[23] = { HEADER_X_FORWARDED_CLIENT_CERT },
	[25] = { HEADER_X_ENVOY_AUTH_PARTIAL_BODY },
};

enum header header_of(struct str name)
{
	if (name.n >= LENGTHS)
		return HEADER_OTHER;
	for (const uint8_t *h = by_length[name.n]; *h != HEADER_OTHER; h++)
		if (name.p[0] == header_names[*h].p[0] && str_eq_short(name, header_names[*h]))
			return (enum header) * h;
	return HEADER_OTHER;
}

/* The two are set in place of whatever the client sent. */
bool header_is_forged(struct str name)
{
	return str_starts(name, STR("x-writ-")) && !str_eq(name, STR("x-writ-agent")) &&
	       !str_eq(name, STR("x-writ-decision-id"));
}

void header_index(struct header_index *index, const struct http_header *all, size_t n)
{
	index->all = all;
	index->there = index->twice = 0;
	index->other_mcp = false;
	index->forged = 0;
	for (size_t i = 0; i < n; i++) {
		enum header h = header_of(all[i].name);
		uint64_t bit = HEADER_BIT(h);

		if (h == HEADER_OTHER) {
			index->other_mcp |= str_starts(all[i].name, STR("mcp-"));
			index->forged += header_is_forged(all[i].name);
			continue;
		}
		if (index->there & bit) {
			index->twice |= bit;
			continue;
		}
		index->there |= bit;
		index->first[h] = (uint32_t)i;
	}
}
