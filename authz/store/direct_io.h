/*
 * direct_io - SQLite's reads and writes around the page cache, where the caller wants it.
 *
 * Purpose    Between direct_io_begin and direct_io_end what this thread has SQLite's unix VFS read
 *            or write goes by O_DIRECT through the very descriptor that SQLite uses: a second one
 *            of the same file would take all its POSIX locks away when it is closed. Buffers,
 *            lengths and places must be multiples of DIRECT_IO_ALIGN; the kernel keeps what others
 *            see through the page cache right. Where O_DIRECT is not possible (the file system has
 *            none, its blocks are larger) the call goes the ordinary way, unnoticed.
 * Threads    The wish is the thread's own; the descriptor must be used by no other meanwhile,
 *            which a connection's is not.
 */
#ifndef WRIT_DIRECT_IO_H
#define WRIT_DIRECT_IO_H

#define DIRECT_IO_ALIGN 4096

void direct_io_begin(void);
void direct_io_end(void);

/* The next write, which must be one of no bytes, takes room on the disk instead: for @n bytes from
 * its place on, without a change to the file's size. It fails if there is no room, or no way to
 * take it. @n 0: back to writing. */
void direct_io_room(long long n);

#endif
