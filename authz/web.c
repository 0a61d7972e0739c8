#include "authz/web.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

#include "authz/store/file.h"

#define PEM_MAX (256 * 1024)

static bool changed(struct web *w, bool *yes, struct err *e)
{
	const char *files[] = { w->cert_file, w->key_file };

	*yes = false;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		struct stat st;

		if (stat(files[i], &st) != 0)
			return err_set(e, ERR_IO, "%s: %s", files[i], strerror(errno));
		if (files[i] == w->key_file && (st.st_mode & (S_IROTH | S_IWOTH)))
			return err_set(e, ERR_INVALID,
				       "%s can be read or written by every user of this machine; a "
				       "private key must not be",
				       files[i]);
		*yes |= st.st_mtim.tv_sec != w->seen[i].tv_sec ||
			st.st_mtim.tv_nsec != w->seen[i].tv_nsec;
		w->seen[i] = st.st_mtim;
	}
	return true;
}

/* Links are followed: what renews certificates points them to the newest. */
static bool read_file(const char *path, struct buf *out, struct err *e)
{
	char real[PATH_MAX];

	if (!realpath(path, real))
		return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
	return file_read(AT_FDCWD, real, PEM_MAX, out, e);
}

bool web_look(struct web *w, struct err *e)
{
	struct tls_certificate *c;
	AUTO_BUF cert, key;
	bool again, ok;

	buf_init(&cert, mem_system, PEM_MAX);
	buf_init(&key, mem_system, PEM_MAX);
	if (!w->cert_file)
		return true;
	if (!changed(w, &again, e)) {
		again = !w->refused;
		w->refused = true;
		return !again || err_prefix(e, "tls.web");
	}
	if (!again)
		return true;
	ok = read_file(w->cert_file, &cert, e) && read_file(w->key_file, &key, e);
	c = ok ? tls_certificate_from_pem(buf_str(&cert), buf_str(&key), e) : NULL;
	if (key.p)
		mem_wipe(key.p, key.n);
	w->refused = !c;
	if (!c)
		return err_prefix(e, "tls.web");
	slot_publish(&w->certificate, &c->shared);
	return true;
}
