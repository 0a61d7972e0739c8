/*
 * roles - as what a caller may use writ's interfaces.
 *
 * Purpose    Configuration gives them, authentication collects them, handlers ask for them.
 * Ownership  Constants only.
 */
#ifndef WRIT_ROLES_H
#define WRIT_ROLES_H

/* A set of roles is the sum of these. */
enum role {
	ROLE_AGENT = 1,	   /* asks about itself */
	ROLE_PEP = 2,	   /* asks about others, reports usage and outcomes */
	ROLE_ADMIN = 4,	   /* changes what writ knows */
	ROLE_APPROVER = 8, /* says yes or no to an `ask` */
	ROLE_AUDITOR = 16, /* reads log and proofs */
	ROLE_METRICS = 32, /* reads metrics */
};

/* Names in the order of the bits; NULL-terminated. */
#define ROLE_NAMES                                                              \
	{                                                                       \
		"agent", "pep", "admin", "approver", "auditor", "metrics", NULL \
	}

#endif
