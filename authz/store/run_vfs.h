/*
 * run_vfs - pages of a large database in long runs, around the page cache.
 *
 * Purpose    A log only grows. What a checkpoint moves into it is read back by few, and still each
 *            page would take new memory from the page cache, be copied, and be written by the sync
 *            at the end while commits wait. Here the pages of a checkpoint, which come by
 *            ascending number, gather and go to the disk in runs of VFS_PIECE bytes by O_DIRECT
 *            (direct_io.h), and a reader that walks through the file gets it in such runs.
 *            VFS_RUNS of vfs_layer.h.
 * Threads    As the VFS below: a file is its connection's.
 *
 * What a checkpoint promises stays SQLite's: the WAL is synced before, every page is handed to the
 * file below before the checkpoint says how far it came, and the sync before the WAL is begun
 * anew covers all. SQLite asks nobody after the last page, though: if that is not the file's last
 * one, and neither O_DIRECT nor an ordinary write takes the last run, the process is ended at once,
 * as by a power cut. Room for all pages is taken at the beginning, so a full disk is no such case;
 * without it pages go one by one.
 *
 * What was read ahead is forgotten whenever a lock of the file or of the WAL's index is taken,
 * and with the latter when it is given back, so it serves within one transaction: there, no page
 * that SQLite asks this file for can be changed by anyone.
 */
#ifndef WRIT_RUN_VFS_H
#define WRIT_RUN_VFS_H

#include "authz/store/vfs_layer.h"

#endif
