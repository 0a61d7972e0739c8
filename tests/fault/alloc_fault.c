#include "tests/fault/alloc_fault.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

static atomic_long countdown; /* calls until one fails; 0: none */
static atomic_bool lasting, failed;

void alloc_fault_arm(long nth, bool stays)
{
	atomic_store(&failed, false);
	atomic_store(&lasting, stays);
	atomic_store(&countdown, nth);
}

bool alloc_fault_disarm(void)
{
	atomic_store(&countdown, 0);
	atomic_store(&lasting, false);
	return atomic_load(&failed);
}

static bool fails(void)
{
	if (atomic_load(&failed))
		return atomic_load(&lasting);
	if (atomic_load(&countdown) <= 0 || atomic_fetch_sub(&countdown, 1) != 1)
		return false;
	atomic_store(&failed, true);
	return true;
}

/* The linker's names. Weak: other test programs hold this file, too, and do not wrap. */
/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
void *__real_malloc(size_t n) __attribute__((weak));
void *__real_calloc(size_t n, size_t size) __attribute__((weak));
void *__real_realloc(void *p, size_t n) __attribute__((weak));
char *__real_strdup(const char *s) __attribute__((weak));
char *__real_strndup(const char *s, size_t n) __attribute__((weak));
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return fails() ? NULL : __real_strndup(s, n);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

static sqlite3_mem_methods system_memory;

static void *sq_malloc(int n)
{
	return fails() ? NULL : system_memory.xMalloc(n);
}

static void *sq_realloc(void *p, int n)
{
	return fails() ? NULL : system_memory.xRealloc(p, n);
}

int alloc_fault_hook(void **state)
{
	sqlite3_mem_methods m;

	(void)state;
	sqlite3_shutdown();
	sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_memory);
	m = system_memory;
	m.xMalloc = sq_malloc;
	m.xRealloc = sq_realloc;
	sqlite3_config(SQLITE_CONFIG_MALLOC, &m);
	return sqlite3_initialize();
}
