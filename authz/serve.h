/*
 * serve - `writ serve`: put the parts together, run them, take them apart.
 *
 * Purpose    The only place that knows all floors. Start and stop are each one list, read from
 *            top to bottom; whatever fails on the way undoes what was done before.
 * Threads    Called once, from main.
 */
#ifndef WRIT_SERVE_H
#define WRIT_SERVE_H

/* Serve until SIGTERM or SIGINT. @config_path may be NULL (config.h: config_choose). Returns the
 * exit code: 0 after a clean stop, 1 if it could not start or had to give up. */
int serve_main(const char *config_path);

#endif
