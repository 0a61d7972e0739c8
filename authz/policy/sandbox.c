#include "authz/policy/sandbox.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

#include "authz/base/log.h"

#define CLASS_SIZE 16
#define SMALL_MAX (SANDBOX_CLASSES * CLASS_SIZE)
#define SLAB_SIZE (16 * 1024 - sizeof(struct slab))
#define COPIED_MAX (128 * 1024) /* bytes asked for between two looks at the clock */

struct slab {
	struct slab *next;
	size_t pad; /* keeps the data aligned */
};

/* Blocks over SMALL_MAX are linked, so that closing finds them whatever Lua says of their size. */
struct large {
	struct large *prev, *next;
	size_t size, pad;
};

static void *small_new(struct sandbox *sb, size_t n)
{
	size_t class = (n - 1) / CLASS_SIZE, size = (class + 1) * CLASS_SIZE;
	void *p = sb->free[class];

	if (p) {
		memcpy(&sb->free[class], p, sizeof(void *));
		return p;
	}
	if ((size_t)(sb->fresh_end - sb->fresh) < size) {
		struct slab *s = mem_new(sb->alloc, sizeof(*s) + SLAB_SIZE);

		if (!s)
			return NULL;
		s->next = sb->slabs;
		sb->slabs = s;
		sb->fresh = (char *)(s + 1);
		sb->fresh_end = sb->fresh + SLAB_SIZE;
	}
	p = sb->fresh;
	sb->fresh += size;
	return p;
}

static void small_free(struct sandbox *sb, void *p, size_t n)
{
	size_t class = (n - 1) / CLASS_SIZE;

	memcpy(p, &sb->free[class], sizeof(void *));
	sb->free[class] = p;
}

static void large_link(struct sandbox *sb, struct large *l)
{
	l->prev = NULL;
	l->next = sb->larges;
	if (l->next)
		l->next->prev = l;
	sb->larges = l;
}

static void large_unlink(struct sandbox *sb, struct large *l)
{
	if (l->prev)
		l->prev->next = l->next;
	else
		sb->larges = l->next;
	if (l->next)
		l->next->prev = l->prev;
}

static void *large_new(struct sandbox *sb, size_t n)
{
	struct large *l = mem_new(sb->alloc, sizeof(*l) + n);

	if (!l)
		return NULL;
	l->size = n;
	large_link(sb, l);
	return l + 1;
}

static void large_free(struct sandbox *sb, void *p)
{
	struct large *l = (struct large *)p - 1;

	large_unlink(sb, l);
	mem_free(sb->alloc, l, sizeof(*l) + l->size);
}

static void *large_resize(struct sandbox *sb, void *p, size_t n)
{
	struct large *l = (struct large *)p - 1, *moved;

	large_unlink(sb, l);
	moved = mem_resize(sb->alloc, l, sizeof(*l) + l->size, sizeof(*l) + n);
	if (moved)
		moved->size = n;
	large_link(sb, moved ? moved : l);
	return moved ? moved + 1 : NULL;
}

static void *block_new(struct sandbox *sb, size_t n)
{
	return n <= SMALL_MAX ? small_new(sb, n) : large_new(sb, n);
}

static void block_free(struct sandbox *sb, void *p, size_t n)
{
	if (n <= SMALL_MAX)
		small_free(sb, p, n);
	else
		large_free(sb, p);
}

static void *block_resize(struct sandbox *sb, void *p, size_t old, size_t n)
{
	void *q;

	if (old <= SMALL_MAX && n <= SMALL_MAX && (old - 1) / CLASS_SIZE == (n - 1) / CLASS_SIZE)
		return p;
	if (old > SMALL_MAX && n > SMALL_MAX) {
		q = large_resize(sb, p, n);
		return q || n > old ? q : p;
	}
	q = block_new(sb, n);
	if (!q) /* Lua cannot bear a failed shrink: the block stays, larger than needed */
		return n < old ? p : NULL;
	memcpy(q, p, n < old ? n : old);
	block_free(sb, p, old);
	return q;
}

/* The clock is started at the first look, so that what is over before it, as nearly everything is,
 * reads no clock. */
static bool too_late(struct sandbox *sb)
{
	int64_t now;

	if (!sb->wall_ms)
		return false;
	now = clock_mono_ns(sb->clock);
	if (!sb->deadline_ns)
		sb->deadline_ns = now + (int64_t)sb->wall_ms * 1000000;
	return now > sb->deadline_ns;
}

/* Integer keys hash without a seed, so numbers from a request can all collide; growing such a
 * table is one instruction that takes the square of its size (32,768 keys: a second). What comes
 * here as a new vector of hash nodes is known by its size, nodes of 24 bytes times a power of
 * two: the hash part is bounded, lists (which live in the other part) are not. */
static bool too_many_nodes(const struct sandbox *sb, size_t tag, size_t n)
{
	size_t nodes = n / 24;

	return sb->max_nodes && tag == 0 && n % 24 == 0 && nodes > sb->max_nodes &&
	       (nodes & (nodes - 1)) == 0;
}

/* May @n bytes more be had, of a block of @size? Making a string of a megabyte is one instruction
 * to the hook, so the bytes asked for count as time, too. */
static bool may_grow(struct sandbox *sb, size_t n, size_t size)
{
	if (n > sb->cap || sb->used > sb->cap - n)
		return false;
	sb->copied += size;
	sb->asked += n;
	if (sb->copied > COPIED_MAX) {
		sb->copied = 0;
		sb->starved = sb->trip == TRIP_NONE && too_late(sb);
	}
	return !sb->starved;
}

/* The one allocator of the state. Nearly all calls make or free a small block. */
static void *lua_alloc(void *ud, void *p, size_t old, size_t n)
{
	struct sandbox *sb = ud;
	void *q;

	if (n == 0) {
		if (p && old) {
			block_free(sb, p, old);
			sb->used -= old;
		}
		return NULL;
	}
	if (!p) { /* @old is the kind of object */
		if (too_many_nodes(sb, old, n) || !may_grow(sb, n, n))
			return NULL;
		q = block_new(sb, n);
		if (q)
			sb->used += n;
		return q;
	}
	if (n > old && !may_grow(sb, n - old, n))
		return NULL;
	q = old ? block_resize(sb, p, old, n) : block_new(sb, n);
	if (q)
		sb->used = sb->used - old + n;
	return q;
}

/* Nothing that may raise runs outside lua_pcall; if it did, the state of this thread would be
 * unknown, and no answer is better than a wrong one. */
static int on_panic(lua_State *L)
{
	const char *why = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "no text";

	log_event(LOG_ERROR, "policy.panic", "error=\"%s\"", why);
	abort();
}

/* Raise, naming the line: of the Lua function at work, or of the caller of a C function. */
static void trip(lua_State *L, enum sandbox_trip kind)
{
	struct sandbox *sb = sandbox_of(L);

	sb->trip = kind;
	sb->starved = false; /* the message takes memory, too */
	luaL_where(L, 0);
	if (lua_rawlen(L, -1) == 0)
		luaL_where(L, 1);
	if (kind == TRIP_WALL)
		lua_pushfstring(L, "%sstopped after %d ms", lua_tostring(L, -1), (int)sb->wall_ms);
	else
		lua_pushfstring(L, "%sstopped after %d instructions", lua_tostring(L, -1),
				(int)sb->max_steps);
	lua_error(L);
}

static void look(lua_State *L, struct sandbox *sb)
{
	if (sb->steps > sb->max_steps)
		trip(L, TRIP_INSTRUCTIONS);
	sb->looked = sb->steps;
	sb->copied = 0;
	if (sb->starved || too_late(sb))
		trip(L, TRIP_WALL);
}

static void on_count(lua_State *L, lua_Debug *ar)
{
	struct sandbox *sb = sandbox_of(L);

	if (ar->event == LUA_HOOKLINE) {
		sb->line(sb->line_ctx, L, ar);
		return;
	}
	sb->steps += (uint64_t)sb->step;
	look(L, sb);
}

void sandbox_charge(lua_State *L, size_t steps)
{
	struct sandbox *sb = sandbox_of(L);

	sb->steps += steps;
	if (sb->steps > sb->max_steps || sb->steps - sb->looked > SANDBOX_STEP)
		look(L, sb);
}

bool sandbox_open(struct sandbox *sb, const struct alloc *alloc, const struct clock *clock,
		  size_t cap, struct err *e)
{
	*sb = (struct sandbox){ .alloc = alloc, .clock = clock, .cap = cap, .step = SANDBOX_STEP };
	sb->lua = lua_newstate(lua_alloc, sb);
	if (!sb->lua) {
		sandbox_close(sb);
		return err_set(e, ERR_NOMEM, "no memory for a Lua state");
	}
	lua_atpanic(sb->lua, on_panic);
	*(struct sandbox **)lua_getextraspace(sb->lua) = sb;
	return true;
}

void sandbox_close(struct sandbox *sb)
{
	if (sb->lua) {
		lua_sethook(sb->lua, NULL, 0, 0);
		lua_close(sb->lua);
		sb->lua = NULL;
	}
	while (sb->larges) { /* only those that could not shrink are left */
		struct large *l = sb->larges;

		sb->larges = l->next;
		mem_free(sb->alloc, l, sizeof(*l) + l->size);
	}
	while (sb->slabs) {
		struct slab *s = sb->slabs;

		sb->slabs = s->next;
		mem_free(sb->alloc, s, sizeof(*s) + SLAB_SIZE);
	}
	memset(sb->free, 0, sizeof(sb->free));
	sb->fresh = sb->fresh_end = NULL;
	sb->used = 0;
}

/* The error as one line. Whatever else was thrown is not looked into: turning it into text
 * could run code of the policy, outside every budget. */
static void explain(lua_State *L, int rc, char *why, size_t n)
{
	const char *text;
	size_t len, i;

	if (rc == LUA_ERRMEM)
		text = sandbox_of(L)->trip == TRIP_WALL ? "stopped: no time left"
							: "not enough memory";
	else if (lua_type(L, -1) == LUA_TSTRING)
		text = lua_tostring(L, -1);
	else
		text = "an error that is not a text";
	len = strlen(text);
	for (i = 0; i < len && i + 1 < n; i++)
		why[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
	why[i] = '\0';
}

bool sandbox_call(struct sandbox *sb, lua_CFunction fn, void *arg, uint32_t instructions,
		  uint32_t wall_ms, char *why, size_t nwhy)
{
	lua_State *L = sb->lua;
	int rc;

	sb->steps = sb->looked = 0;
	sb->copied = 0;
	sb->max_steps = instructions;
	sb->wall_ms = wall_ms;
	sb->trip = TRIP_NONE;
	sb->starved = false;
	sb->deadline_ns = 0;
	lua_settop(L, 0);
	lua_sethook(L, on_count, LUA_MASKCOUNT | (sb->line ? LUA_MASKLINE : 0), sb->step);
	lua_pushcfunction(L, fn); /* a light function and a pointer: nothing is allocated */
	lua_pushlightuserdata(L, arg);
	rc = lua_pcall(L, 1, 0, 0);
	lua_sethook(L, NULL, 0, 0);
	sb->wall_ms = 0;
	if (rc == LUA_OK)
		return true;
	if (rc == LUA_ERRMEM && sb->trip == TRIP_NONE)
		sb->trip = sb->starved ? TRIP_WALL : TRIP_MEMORY;
	explain(L, rc, why, nwhy);
	lua_settop(L, 0);
	return false;
}
