/*
 * direct_io - SQLite's reads and writes around the page cache, where the caller wants it.
 *
 * Purpose    What is read or written here goes by O_DIRECT through the very descriptor that SQLite
 *            uses: a second one of the same file would take all its POSIX locks away when it is
 *            closed. It is one call of the system's however long it is (SQLite's unix VFS takes a
 *            write of 128 KiB and more for a full disk): each wait for the disk costs as much as
 *            copying 100 KiB. Buffers, lengths and places must be multiples of DIRECT_IO_ALIGN;
 *            the kernel keeps what others see through the page cache right. Where O_DIRECT is not
 *            possible (the file system has none, its blocks are larger) the call goes the ordinary
 *            way, unnoticed.
 * Threads    A file is its connection's: its descriptor must be used by no other meanwhile.
 */
#ifndef WRIT_DIRECT_IO_H
#define WRIT_DIRECT_IO_H

#include <sqlite3.h>
#include <stddef.h>

#define DIRECT_IO_ALIGN 4096

/* As xWrite and xRead of @f, which is a file of SQLite's unix VFS or of one that passes calls on to
 * it: such a one hears of the first DIRECT_IO_TOLD bytes, and stands for all of them. Nothing is
 * known of the rest if the call fails. */
#define DIRECT_IO_TOLD (120 * 1024)
int direct_io_write(sqlite3_file *f, const void *p, size_t n, sqlite3_int64 at);
int direct_io_read(sqlite3_file *f, void *p, size_t n, sqlite3_int64 at);

/* Take room on the disk for @n bytes from @at on, without a change to the file's size. It fails if
 * there is no room, or no way to take it. */
int direct_io_room(sqlite3_file *f, sqlite3_int64 n, sqlite3_int64 at);

#endif
