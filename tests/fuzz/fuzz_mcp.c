/* The reader of mcp: see tests/fuzz/traffic.h. */
#include "tests/fuzz/traffic.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	return fuzz_traffic(p, n, TRAFFIC_MCP);
}
