/* Model APIs: model, operation, limits, tools, and what is never let through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "tests/extauthz/traffic_help.h"

/* OpenAI, Azure, Cohere, vLLM */
static const struct traffic_row
	openai_rows[] = {
		{ "chat", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 10, \"stream\": true, \"n\": 2, \"user\": \"u\"}",
		  "models/invoke model gpt {\"images\":false,\"input_bytes\":35,\"max_tokens\":10,\"mcp_servers\":[],\"messages\":1,\"n\":2,\"operation\":\"chat\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":true,\"tools\":[],\"user\":\"u\"}" },
		{ "chat without a declared route", "",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
		  "models/invoke model gpt {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "the larger of two limits", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 10, \"max_completion_tokens\": 99}",
		  "models/invoke model gpt {\"images\":false,\"input_bytes\":35,\"max_tokens\":99,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "functions by name", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}, {\"type\": \"custom\", \"custom\": {\"name\": \"c\"}}], \"functions\": [{\"name\": \"old\"}]}",
		  "models/invoke model gpt {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[\"f\",\"c\",\"old\"]}" },
		{ "images", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"x\"}}]}]}",
		  "models/invoke model gpt {\"images\":true,\"input_bytes\":81,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "completions", "protocol=openai",
		  "POST /v1/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"prompt\": \"hi\"}",
		  "models/invoke model gpt {\"images\":false,\"input_bytes\":4,\"mcp_servers\":[],\"messages\":1,\"operation\":\"complete\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "embeddings", "protocol=openai",
		  "POST /v1/embeddings\ncontent-type: application/json\n\n{\"model\": \"e\", \"input\": [\"a\", \"b\"]}",
		  "models/invoke model e {\"images\":false,\"input_bytes\":10,\"mcp_servers\":[],\"messages\":2,\"operation\":\"embed\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "without prefix", "protocol=openai",
		  "POST /chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}", "models/invoke model gpt {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "responses with tools of the provider", "protocol=openai",
		  "POST /v1/responses\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"input\": \"hi\", \"max_output_tokens\": 5, \"tools\": [{\"type\": \"function\", \"name\": \"f\"}, {\"type\": \"web_search\"}, {\"type\": \"mcp\", \"server_label\": \"l\", \"server_url\": \"https://evil/mcp\", \"allowed_tools\": [\"x\"], \"require_approval\": \"never\", \"authorization\": \"secret\"}]}",
		  "models/invoke model gpt {\"images\":false,\"input_bytes\":4,\"max_tokens\":5,\"mcp_servers\":[\"https://evil/mcp\"],\"messages\":1,\"operation\":\"responses\",\"provider\":\"openai\",\"server_tools\":[\"web_search\"],\"stream\":false,\"tools\":[\"f\"]}; models/server_tool tool openai/web_search {\"model\":\"gpt\"}; models/mcp_server mcp_server https://evil/mcp {\"allowed_tools\":[\"x\"],\"label\":\"l\",\"model\":\"gpt\",\"require_approval\":\"never\"}" },
		{ "responses with a connector", "protocol=openai",
		  "POST /v1/responses\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"input\": \"hi\", \"tools\": [{\"type\": \"mcp\", \"connector_id\": \"connector_gmail\"}]}",
		  "models/invoke model gpt {\"images\":false,\"input_bytes\":4,\"mcp_servers\":[\"connector_gmail\"],\"messages\":1,\"operation\":\"responses\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}; models/mcp_server mcp_server connector_gmail {\"model\":\"gpt\"}" },
		{ "an mcp tool with two servers", "protocol=openai",
		  "POST /v1/responses\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"input\": \"hi\", \"tools\": [{\"type\": \"mcp\", \"connector_id\": \"c\", \"server_url\": \"https://x/\"}]}",
		  "!invalid_member" },
		{ "an mcp tool with none", "protocol=openai",
		  "POST /v1/responses\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"input\": \"hi\", \"tools\": [{\"type\": \"mcp\"}]}",
		  "!invalid_member" },
		{ "hidden state is named",
		  "protocol=openai", "POST /v1/responses\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"input\": \"hi\", \"previous_response_id\": \"r1\", \"store\": true, \"background\": true}", "models/invoke model gpt {\"background\":true,\"images\":false,\"input_bytes\":4,\"mcp_servers\":[],\"messages\":1,\"operation\":\"responses\",\"previous_response_id\":\"r1\",\"provider\":\"openai\",\"server_tools\":[],\"store\":true,\"stream\":false,\"tools\":[]}" },
		{ "get a response", "protocol=openai", "GET /v1/responses/r1?stream=true\n\n",
		  "responses/get response r1" },
		{ "delete a response", "protocol=openai", "DELETE /v1/responses/r1\n\n",
		  "responses/delete response r1" },
		{ "cancel a response", "protocol=openai", "POST /v1/responses/r1/cancel\n\n",
		  "responses/cancel response r1" },
		{ "search as an option", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"web_search_options\": {}}",
		  "models/invoke model gpt {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"openai\",\"server_tools\":[\"web_search\"],\"stream\":false,\"tools\":[]}; models/server_tool tool openai/web_search {\"model\":\"gpt\"}" },
		{ "list of models", "protocol=openai", "GET /v1/models\n\n",
		  "models/list model_api openai" },
		{ "one model", "protocol=openai", "GET /v1/models/gpt\n\n",
		  "models/list model_api openai" },
		{ "Azure, model in the path", "",
		  "POST /openai/deployments/gpt-4/chat/completions?api-version=1\ncontent-type: application/json\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
		  "models/invoke model gpt-4 {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "Azure, another model in the body", "",
		  "POST /openai/deployments/gpt-4/chat/completions\ncontent-type: application/json\n\n{\"model\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
		  "!model_mismatch" },
		{ "Azure v1", "",
		  "POST /openai/v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
		  "models/invoke model gpt {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "Cohere chat", "protocol=openai",
		  "POST /v2/chat\ncontent-type: application/json\n\n{\"model\": \"command\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
		  "models/invoke model command {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"cohere\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "rerank", "protocol=openai",
		  "POST /rerank\ncontent-type: application/json\n\n{\"model\": \"r\", \"query\": \"q\"}",
		  "models/invoke model r {\"images\":false,\"input_bytes\":3,\"mcp_servers\":[],\"messages\":1,\"operation\":\"rerank\",\"provider\":\"openai\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
		{ "model missing", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
		  "!model_missing" },
		{ "model is a list", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": [\"a\"], \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
		  "!invalid_member" },
		{ "max_tokens is a text", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": \"9\"}",
		  "!invalid_member" },
		{ "max_tokens is negative", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": -1}",
		  "!invalid_member" },
		{ "stream is a text", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"stream\": \"true\"}",
		  "!invalid_member" },
		{ "a tool without a type", "protocol=openai",
		  "POST /v1/chat/completions\ncontent-type: application/json\n\n{\"model\": \"gpt\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"tools\": [{\"function\": {\"name\": \"f\"}}]}",
		  "!invalid_member" },
		{ "no body", "protocol=openai", "POST /v1/chat/completions\n\n",
		  "!body_required -32700" },
	};

/* endpoints that hold calls nobody sees, or administration */
static const struct traffic_row hidden_calls_rows[] = {
	{ "/v1/batches is refused", "protocol=openai",
	  "POST /v1/batches\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/v1/files is refused", "protocol=openai",
	  "POST /v1/files\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/v1/uploads is refused", "protocol=openai",
	  "POST /v1/uploads\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/v1/chat/completions/batch is refused", "protocol=openai",
	  "POST /v1/chat/completions/batch\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/invocations is refused", "protocol=openai",
	  "POST /invocations\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/v1/load_lora_adapter is refused", "protocol=openai",
	  "POST /v1/load_lora_adapter\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/sleep is refused", "protocol=openai",
	  "POST /sleep\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/collective_rpc is refused", "protocol=openai",
	  "POST /collective_rpc\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/v1/realtime is refused", "protocol=openai",
	  "POST /v1/realtime\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/v1/fine_tuning/jobs is refused", "protocol=openai",
	  "POST /v1/fine_tuning/jobs\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/metrics is refused", "protocol=openai",
	  "POST /metrics\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/inference/v1/x is refused", "protocol=openai",
	  "POST /inference/v1/x\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "/v1/audio/transcriptions is refused", "protocol=openai",
	  "POST /v1/audio/transcriptions\ncontent-type: application/json\n\n{\"model\":\"gpt\"}",
	  "!endpoint_refused" },
	{ "batches where the operator allows them", "protocol=openai batches=allow",
	  "POST /v1/batches\ncontent-type: application/json\n\n{}",
	  "models/batch model_api openai {\"path\":\"/v1/batches\"}" },
	{ "allowing batches opens nothing else", "protocol=openai batches=allow",
	  "POST /v1/load_lora_adapter\ncontent-type: application/json\n\n{}", "!endpoint_refused" },
	{ "GET of a call", "protocol=openai", "GET /v1/chat/completions\n\n", "!endpoint_refused" },
	{ "Anthropic batches", "protocol=anthropic",
	  "POST /v1/messages/batches\ncontent-type: application/json\n\n{}", "!endpoint_refused" },
	{ "Gemini batches", "protocol=gemini",
	  "POST /v1beta/models/g:batchGenerateContent\ncontent-type: application/json\n\n{}",
	  "!endpoint_refused" },
	{ "Gemini files", "protocol=gemini",
	  "POST /v1beta/files\ncontent-type: application/json\n\n{}", "!endpoint_refused" },
	{ "Bedrock jobs", "protocol=bedrock",
	  "POST /model-invocation-job\ncontent-type: application/json\n\n{}", "!endpoint_refused" },
	{ "Ollama pull", "protocol=ollama",
	  "POST /api/pull\ncontent-type: application/json\n\n{\"model\": \"x\"}",
	  "!endpoint_refused" },
	{ "Ollama delete", "protocol=ollama",
	  "DELETE /api/delete\ncontent-type: application/json\n\n{\"model\":\"x\"}",
	  "!endpoint_refused" },
	{ "Vertex rawPredict of a vendor that is not known", "protocol=gemini",
	  "POST /v1/projects/p/locations/l/publishers/mistral/models/m:rawPredict\ncontent-type: application/json\n\n{}",
	  "!endpoint_refused" },
};

/* Anthropic */
static const struct traffic_row anthropic_rows[] = {
	{ "messages", "protocol=anthropic",
	  "POST /v1/messages\ncontent-type: application/json\nanthropic-version: 2023-06-01\n\n{\"model\": \"claude\", \"max_tokens\": 9, \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"metadata\": {\"user_id\": \"u\"}, \"tools\": [{\"name\": \"f\", \"input_schema\": {}}]}",
	  "models/invoke model claude {\"images\":false,\"input_bytes\":35,\"max_tokens\":9,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"anthropic\",\"server_tools\":[],\"stream\":false,\"tools\":[\"f\"],\"user\":\"u\"}" },
	{ "by its header", "",
	  "POST /v1/messages\ncontent-type: application/json\nanthropic-version: 2023-06-01\n\n{\"model\": \"claude\", \"max_tokens\": 9, \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
	  "models/invoke model claude {\"images\":false,\"input_bytes\":35,\"max_tokens\":9,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"anthropic\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
	{ "server tools and MCP servers", "protocol=anthropic",
	  "POST /v1/messages\ncontent-type: application/json\n\n{\"model\": \"claude\", \"max_tokens\": 9, \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"tools\": [{\"type\": \"web_search_20250305\", \"name\": \"web_search\"}], \"mcp_servers\": [{\"type\": \"url\", \"url\": \"https://x/mcp\", \"name\": \"n\", \"authorization_token\": \"s\", \"tool_configuration\": {\"enabled\": true}}]}",
	  "models/invoke model claude {\"images\":false,\"input_bytes\":35,\"max_tokens\":9,\"mcp_servers\":[\"https://x/mcp\"],\"messages\":1,\"operation\":\"chat\",\"provider\":\"anthropic\",\"server_tools\":[\"web_search_20250305\"],\"stream\":false,\"tools\":[]}; models/mcp_server mcp_server https://x/mcp {\"allowed_tools\":{\"enabled\":true},\"label\":\"n\",\"model\":\"claude\"}; models/server_tool tool anthropic/web_search_20250305 {\"model\":\"claude\"}" },
	{ "count tokens", "protocol=anthropic",
	  "POST /v1/messages/count_tokens\ncontent-type: application/json\n\n{\"model\": \"claude\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
	  "models/invoke model claude {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"count_tokens\",\"provider\":\"anthropic\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
	{ "models of Anthropic", "", "GET /v1/models\nanthropic-version: 2023-06-01\n\n",
	  "models/list model_api anthropic" },
};

/* Gemini and Vertex AI */
static const struct
	traffic_row
		gemini_rows
			[] = {
				{ "generate", "protocol=gemini",
				  "POST /v1beta/models/gemini-2:generateContent\ncontent-type: application/json\n\n{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}], \"generationConfig\": {\"maxOutputTokens\": 7, \"candidateCount\": 2}, \"tools\": [{\"functionDeclarations\": [{\"name\": \"f\"}]}, {\"googleSearch\": {}}]}",
				  "models/invoke model gemini-2 {\"images\":false,\"input_bytes\":29,\"max_tokens\":7,\"mcp_servers\":[],\"messages\":1,\"n\":2,\"operation\":\"chat\",\"provider\":\"gemini\",\"server_tools\":[\"googleSearch\"],\"stream\":false,\"tools\":[\"f\"]}; models/server_tool tool gemini/googleSearch {\"model\":\"gemini-2\"}" },
				{ "stream", "",
				  "POST /v1beta/models/gemini-2:streamGenerateContent?alt=sse\ncontent-type: application/json\n\n{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}]}",
				  "models/invoke model gemini-2 {\"images\":false,\"input_bytes\":29,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"gemini\",\"server_tools\":[],\"stream\":true,\"tools\":[]}" },
				{ "MCP servers", "protocol=gemini",
				  "POST /v1beta/models/g:generateContent\ncontent-type: application/json\n\n{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}], \"tools\": [{\"mcpServers\": [{\"name\": \"n\", \"streamableHttpTransport\": {\"url\": \"https://x/mcp\"}}]}]}",
				  "models/invoke model g {\"images\":false,\"input_bytes\":29,\"mcp_servers\":[\"https://x/mcp\"],\"messages\":1,\"operation\":\"chat\",\"provider\":\"gemini\",\"server_tools\":[],\"stream\":false,\"tools\":[]}; models/mcp_server mcp_server https://x/mcp {\"label\":\"n\",\"model\":\"g\"}" },
				{ "one member in two spellings", "protocol=gemini",
				  "POST /v1beta/models/g:generateContent\ncontent-type: application/json\n\n{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}], \"generationConfig\": {}, \"generation_config\": {\"maxOutputTokens\": 1}}",
				  "!ambiguous_member" },
				{ "snake case", "protocol=gemini",
				  "POST /v1beta/models/g:generateContent\ncontent-type: application/json\n\n{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}], \"generation_config\": {\"max_output_tokens\": 3}}",
				  "models/invoke model g {\"images\":false,\"input_bytes\":29,\"max_tokens\":3,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"gemini\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
				{ "embed many, of another model", "protocol=gemini",
				  "POST /v1beta/models/g:batchEmbedContents\ncontent-type: application/json\n\n{\"requests\": [{\"model\": \"models/other\", \"content\": {}}]}",
				  "!model_mismatch" },
				{ "embed many, of a model whose name ends like it",
				  "protocol=gemini",
				  "POST /v1beta/models/g:batchEmbedContents\ncontent-type: application/json\n\n"
				  "{\"requests\":[{\"model\":\"models/xg\",\"content\":{}}]}",
				  "!model_mismatch" },
				{ "embed many",
				  "protocol=gemini", "POST /v1beta/models/g:batchEmbedContents\ncontent-type: application/json\n\n{\"requests\": [{\"model\": \"models/g\", \"content\": {}}]}", "models/invoke model g {\"images\":false,\"input_bytes\":38,\"mcp_servers\":[],\"messages\":1,\"operation\":\"embed\",\"provider\":\"gemini\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
				{ "a percent code in the model", "protocol=gemini",
				  "POST /v1beta/models/g%3AgenerateContent\ncontent-type: application/json\n\n{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}]}",
				  "!path_not_normal" },
				{ "Vertex", "",
				  "POST /v1/projects/p/locations/l/publishers/google/models/gemini-2:generateContent\ncontent-type: application/json\n\n{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}]}",
				  "models/invoke model gemini-2 {\"images\":false,\"input_bytes\":29,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"gemini\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
				{ "Vertex, Anthropic", "",
				  "POST /v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict\ncontent-type: application/json\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 3}",
				  "models/invoke model claude {\"images\":false,\"input_bytes\":35,\"max_tokens\":3,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"vertex\",\"server_tools\":[],\"stream\":true,\"tools\":[]}" },
				{ "Vertex, OpenAI", "",
				  "POST /v1/projects/p/locations/l/endpoints/openapi/chat/completions\ncontent-type: application/json\n\n{\"model\": \"google/g\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}",
				  "models/invoke model google/g {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"vertex\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
				{ "list", "protocol=gemini", "GET /v1beta/models?key=secret\n\n",
				  "models/list model_api gemini" },
			};

/* Bedrock */
static const struct traffic_row bedrock_rows[] = {
	{ "converse", "",
	  "POST /model/anthropic.claude-v1%3A0/converse\ncontent-type: application/json\n\n{\"messages\": [{\"role\": \"user\", \"content\": [{\"text\": \"hi\"}]}], \"inferenceConfig\": {\"maxTokens\": 5}, \"toolConfig\": {\"tools\": [{\"toolSpec\": {\"name\": \"f\"}}]}}",
	  "models/invoke model anthropic.claude-v1:0 {\"images\":false,\"input_bytes\":47,\"max_tokens\":5,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"bedrock\",\"server_tools\":[],\"stream\":false,\"tools\":[\"f\"]}" },
	{ "an ARN", "",
	  "POST /model/arn%3aaws%3Abedrock%3Aus%3A1%3Ainference-profile%2fx/converse-stream\ncontent-type: application/json\n\n{\"messages\": [{\"role\": \"user\", \"content\": [{\"text\": \"hi\"}]}]}",
	  "models/invoke model arn:aws:bedrock:us:1:inference-profile/x {\"images\":false,\"input_bytes\":47,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"bedrock\",\"server_tools\":[],\"stream\":true,\"tools\":[]}" },
	{ "invoke with the body of Anthropic", "",
	  "POST /model/claude/invoke\ncontent-type: application/json\n\n{\"anthropic_version\": \"bedrock-2023-05-31\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"max_tokens\": 4}",
	  "models/invoke model claude {\"images\":false,\"input_bytes\":35,\"max_tokens\":4,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"bedrock\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
	{ "invoke with another body", "",
	  "POST /model/titan/invoke-with-response-stream\ncontent-type: application/json\n\n{\"inputText\": \"hi\"}",
	  "models/invoke model titan {\"images\":false,\"input_bytes\":19,\"mcp_servers\":[],\"messages\":1,\"operation\":\"invoke\",\"provider\":\"bedrock\",\"server_tools\":[],\"stream\":true,\"tools\":[]}" },
	{ "invoke with tools that are not known", "",
	  "POST /model/titan/invoke\ncontent-type: application/json\n\n{\"tools\": []}",
	  "!endpoint_refused" },
};

/* Ollama */
static const struct traffic_row ollama_rows[] = {
	{ "chat streams unless told not to", "",
	  "POST /api/chat\ncontent-type: application/json\n\n{\"model\": \"llama\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"options\": {\"num_predict\": 3}}",
	  "models/invoke model llama {\"images\":false,\"input_bytes\":35,\"max_tokens\":3,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"ollama\",\"server_tools\":[],\"stream\":true,\"tools\":[]}" },
	{ "chat without stream", "protocol=ollama",
	  "POST /api/chat\ncontent-type: application/json\n\n{\"model\": \"llama\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"stream\": false, \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]}",
	  "models/invoke model llama {\"images\":false,\"input_bytes\":35,\"mcp_servers\":[],\"messages\":1,\"operation\":\"chat\",\"provider\":\"ollama\",\"server_tools\":[],\"stream\":false,\"tools\":[\"f\"]}" },
	{ "no limit", "protocol=ollama",
	  "POST /api/generate\ncontent-type: application/json\n\n{\"model\": \"llama\", \"prompt\": \"hi\", \"options\": {\"num_predict\": -1}}",
	  "models/invoke model llama {\"images\":false,\"input_bytes\":4,\"mcp_servers\":[],\"messages\":1,\"operation\":\"complete\",\"provider\":\"ollama\",\"server_tools\":[],\"stream\":true,\"tools\":[]}" },
	{ "embed", "protocol=ollama",
	  "POST /api/embed\ncontent-type: application/json\n\n{\"model\": \"llama\", \"input\": \"hi\"}",
	  "models/invoke model llama {\"images\":false,\"input_bytes\":4,\"mcp_servers\":[],\"messages\":1,\"operation\":\"embed\",\"provider\":\"ollama\",\"server_tools\":[],\"stream\":false,\"tools\":[]}" },
	{ "list", "", "GET /api/tags\n\n", "models/list model_api ollama" },
};

static void openai(void **state)
{
	(void)state;
	traffic_rows(openai_rows, ARRAY_LEN(openai_rows));
}

static void hidden_calls(void **state)
{
	(void)state;
	traffic_rows(hidden_calls_rows, ARRAY_LEN(hidden_calls_rows));
}

static void anthropic(void **state)
{
	(void)state;
	traffic_rows(anthropic_rows, ARRAY_LEN(anthropic_rows));
}

static void gemini(void **state)
{
	(void)state;
	traffic_rows(gemini_rows, ARRAY_LEN(gemini_rows));
}

static void bedrock(void **state)
{
	(void)state;
	traffic_rows(bedrock_rows, ARRAY_LEN(bedrock_rows));
}

static void ollama(void **state)
{
	(void)state;
	traffic_rows(ollama_rows, ARRAY_LEN(ollama_rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(openai),    cmocka_unit_test(hidden_calls),
		cmocka_unit_test(anthropic), cmocka_unit_test(gemini),
		cmocka_unit_test(bedrock),   cmocka_unit_test(ollama),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
