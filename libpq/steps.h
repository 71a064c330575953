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

/* tried.c */
struct sockaddr;
void		tried_set(Front *f, const char *host, const char *hostaddr, const char *port);
void		tried_free(Front *f);
void		tried_show(Front *f);
const char *tried_address(Front *f);
bool		tried_moved(const Front *f);
bool		tried_goes_on(const Front *f);
void		tried_message(Front *f);
void		tried_verbose_message(Front *f, char sqlstate[6]);
void		verbose_errors(Front *f, bool on);
void		add_host(Text *out, const char *host, const char *hostaddr, const char *port, bool bogus);
void		address_text(const struct sockaddr *address, size_t len, char *out, size_t size);
PostgresPollingStatusType real_step(Front *f);

/* stage1.c */
bool		for_console(const Front *f);
void		host_conninfo(const Front *f, const Host *h, bool bogus, Text *out);
bool		start_real(Front *f, Text *conninfo);
bool		later_address(Front *f);
void		forget_addresses(Front *f);
Step		stage1_start(Front *f);
Step		stage1(Front *f);
Step		probe(Front *f);
Step		check(Front *f);

/* trust.c */
bool		conmgr_is_trusted(const Front *f, Text *why);
bool		target_is_sound(const CmTarget *t, Text *why);

/* stage2.c */
void		conmgr_failed(Front *f, const char *what, const char *why);
Step		ask(Front *f);
Step		answer(Front *f);
Step		stage2(Front *f);

#endif							/* STEPS_H */
