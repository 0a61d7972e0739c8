#include "authz/net/chars.h"

#include "authz/base/text.h"
#include "include/writ/words.h"

/* Token characters, in lower case; 0 for all others. */
static const char token[256] = {
	['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
	['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`',	['|'] = '|',
	['~'] = '~', ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',	['5'] = '5',
	['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9', ['a'] = 'a', ['A'] = 'a',	['b'] = 'b',
	['B'] = 'b', ['c'] = 'c', ['C'] = 'c', ['d'] = 'd', ['D'] = 'd', ['e'] = 'e',	['E'] = 'e',
	['f'] = 'f', ['F'] = 'f', ['g'] = 'g', ['G'] = 'g', ['h'] = 'h', ['H'] = 'h',	['i'] = 'i',
	['I'] = 'i', ['j'] = 'j', ['J'] = 'j', ['k'] = 'k', ['K'] = 'k', ['l'] = 'l',	['L'] = 'l',
	['m'] = 'm', ['M'] = 'm', ['n'] = 'n', ['N'] = 'n', ['o'] = 'o', ['O'] = 'o',	['p'] = 'p',
	['P'] = 'p', ['q'] = 'q', ['Q'] = 'q', ['r'] = 'r', ['R'] = 'r', ['s'] = 's',	['S'] = 's',
	['t'] = 't', ['T'] = 't', ['u'] = 'u', ['U'] = 'u', ['v'] = 'v', ['V'] = 'v',	['w'] = 'w',
	['W'] = 'w', ['x'] = 'x', ['X'] = 'x', ['y'] = 'y', ['Y'] = 'y', ['z'] = 'z',	['Z'] = 'z',
};

bool http_is_token(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!token[(unsigned char)s.p[i]])
			return false;
	return s.n > 0;
}

bool http_lower_token(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char c = token[(unsigned char)p[i]];

		if (!c)
			return false;
		p[i] = c;
	}
	return n > 0;
}

struct str http_trim(struct str s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool http_equal_fold(struct str a, struct str b)
{
	if (a.n != b.n)
		return false;
	if (str_eq_short(a, b)) /* most are written as expected */
		return true;
	for (size_t i = 0; i < a.n; i++)
		if (lower(a.p[i]) != lower(b.p[i]))
			return false;
	return true;
}

bool http_value_ok(struct str s)
{
	if (text_is_printable(s))
		return true;
	for (size_t i = 0; i < s.n; i++)
		if (((unsigned char)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
			return false;
	return true;
}

static bool visible(char c)
{
	return c > 0x20 && c < 0x7f;
}

bool http_target_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!visible(s.p[i]) || s.p[i] == '#')
			return false;
	return s.n > 0 && s.p[0] == '/';
}

bool http_host_ok(struct str s)
{
	/* Visible ASCII but for / ? # @ \ , " < > ^ ` { | } */
	static const bool host[256] = {
		['!'] = 1,	   ['$' ... '+'] = 1, ['-'] = 1,	 ['.'] = 1,
		['0' ... ';'] = 1, ['='] = 1,	      ['A' ... '['] = 1, [']'] = 1,
		['_'] = 1,	   ['a' ... 'z'] = 1, ['~'] = 1,
	};

	for (size_t i = 0; i < s.n; i++)
		if (!host[(unsigned char)s.p[i]])
			return false;
	return true;
}

bool http_request_id_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!visible(s.p[i]) && s.p[i] != ' ')
			return false;
	return s.n <= LIMIT_REQUEST_ID;
}
