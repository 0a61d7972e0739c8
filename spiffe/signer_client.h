/*
 * signer_client - what signer.c and signer_client.c share: the parent's side of the channels.
 */
#ifndef WRIT_SPIFFE_SIGNER_CLIENT_H
#define WRIT_SPIFFE_SIGNER_CLIENT_H

#include <stdatomic.h>

#include "authz/base/snapshot.h"
#include "spiffe/signer.h"

struct signer_excuse {
	struct shared shared;
	char text[400];
};

struct signer {
	pid_t pid;
	unsigned n;	  /* channels */
	atomic_uint next; /* the next one nobody has */
	atomic_bool dead;
	atomic_bool failing[AUTHORITY_KINDS]; /* the last SVID of the kind */
	struct slot why[AUTHORITY_KINDS];     /* struct signer_excuse */
	struct signer_public public;
	struct buf greeting; /* what public points into */
	int fds[SIGNER_CHANNELS_MAX];
};

#endif
