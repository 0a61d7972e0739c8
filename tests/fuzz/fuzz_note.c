/* A note, a checkpoint or a key that is accepted means its bytes, and only them. */
#include <stdint.h>
#include <stdlib.h>

#include "authz/audit/rotation.h"
#include "authz/audit/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct str in = { (const char *)p, n };
	struct note note;
	struct rotations told;
	struct note_key key;
	struct checkpoint c;
	struct err e;
	struct buf out;

	buf_init(&out, mem_system, 1 << 20);
	if (note_parse(in, &note, &e)) {
		/* Text, blank line, lines: put together they are the input again. */
		buf_add(&out, note.text);
		buf_char(&out, '\n');
		for (size_t i = 0; i < note.n; i++) {
			buf_lit(&out, "\xe2\x80\x94 ");
			buf_add(&out, note.signatures[i].name);
			buf_char(&out, ' ');
			buf_add(&out, note.signatures[i].base64);
			buf_char(&out, '\n');
		}
		if (!str_eq(buf_str(&out), in))
			abort();
		if (note_verify(&note, NULL, 0, &e))
			abort();
		/* A line of rotations that is read is written again as it stood. */
		buf_reset(&out);
		if (rotations_read(&note, &told, &e) && told.n) {
			rotations_line(&told, UINT64_MAX, &out);
			if (!memmem(in.p, in.n, out.p, out.n))
				abort();
		}
	}
	buf_reset(&out);
	if (checkpoint_parse(in, &c, &e)) {
		checkpoint_format(&out, &c);
		if (!str_starts(in, buf_str(&out))) /* extension lines may follow */
			abort();
	}
	buf_reset(&out);
	if (note_key_parse(in, &key, &e)) {
		note_key_format(&key, &out);
		if (!str_eq(buf_str(&out), in))
			abort();
	}
	buf_clear(&out);
	return 0;
}
