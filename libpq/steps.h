/*
 * steps.h: the steps of connecting, for connect.c, stage1.c and stage2.c.
 */
#ifndef STEPS_H
#define STEPS_H

#include "front.h"

typedef enum Step
{
	AGAIN,						/* go on with f->phase at once */
	READ, WRITE,				/* wait for PQsocket() */
	DONE, FAILED
} Step;

/* connect.c */
const Host *current_host(const Front *f);
Step		next_host(Front *f);
Step		start_host(Front *f);

/* stage1.c */
void		host_conninfo(const Front *f, const Host *h, bool bogus, Text *out);
bool		start_real(Front *f, Text *conninfo);
bool		later_address(Front *f);
void		forget_addresses(Front *f);
Step		stage1_start(Front *f);
Step		stage1(Front *f);
Step		probe(Front *f);
Step		check(Front *f);

/* stage2.c */
void		conmgr_failed(Front *f, const char *what, const char *why);
Step		ask(Front *f);
Step		answer(Front *f);
Step		stage2(Front *f);

#endif							/* STEPS_H */
