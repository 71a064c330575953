/*
 * steps.h: the inside of connect/: the steps of connecting.
 *
 * connect.c calls the steps (stage1.c, stage2.c), and they call what they
 * share (tried.c, target.c, sql.c, options.c). A step goes nowhere by itself:
 * it says what comes next.
 */
#ifndef STEPS_H
#define STEPS_H

#include "cm.h"
#include "connect.h"

typedef enum Step
{
	AGAIN,						/* go on with c->phase at once */
	READ, WRITE,				/* wait for PQsocket() */
	STAGE1,						/* this host by the real libpq */
	ASK,						/* it is a conmgr: ask it for an instance */
	ANEW,						/* this host from its beginning */
	NEXT,						/* the next host */
	DONE, FAILED
} Step;

/* options.c */
void		options_conninfo(const Options *o, Text *out);
Login		options_login(const Options *o);
void		options_labelled(const Options *o, const char *client, Text *out);
void		options_free(Options *o);
const char *options_verify(const Options *o);

/* words.c */
bool		split_wait(const char *options, char **wait, char **rest);

/* wait.c */
int64_t		wait_left(const Connection *c);
bool		wait_text(Connection *c, Text *out);

/* sql.c */
PGconn	   *real_blank(void);
bool		ends_quietly(const Connection *c);
bool		replace_sql(Connection *c, PGconn *real_conn, bool quietly);
bool		adopt_conmgr(Connection *c);
void		leave_conmgr(Connection *c);
void		real_finish(PGconn *real_conn, bool quietly);

/* tried.c */
bool		start_real(Connection *c, Text *conninfo);
PostgresPollingStatusType real_step(Connection *c);
void		tried_set(Connection *c, const char *host, const char *hostaddr,
					  const char *port);
void		tried_free(Connection *c);
void		tried_show(Connection *c);
bool		tried_moved(const Connection *c);
bool		tried_goes_on(const Connection *c);
void		tried_message(Connection *c);
void		tried_silently(Connection *c);
void		tried_verbose_message(Connection *c, char sqlstate[6]);
void		verbose_errors(Connection *c, bool on);
void		add_host(Text *out, const char *host, const char *hostaddr,
					 const char *port, bool bogus);

/* target.c */
typedef enum Suits
{
	SUITS, SUITS_NOT, SUITS_ASK
} Suits;

Suits		target_suits(Connection *c, Text *why);
bool		target_ask(Connection *c);
PostgresPollingStatusType target_poll(Connection *c, Suits *answer, Text *why);
const char *target_name(const Connection *c);
void		server_identity(PGconn *real_conn, Text *out);

/* known.c */
bool		is_known(const Connection *c, Offers *offers);
void		make_known(const Connection *c, const Offers *offers);
void		forget_known(const Connection *c);

/* stage1.c */
bool		for_console(const Connection *c);
void		host_conninfo(const Connection *c, const Host *h, bool bogus,
						  Text *out);
bool		later_address(Connection *c);
void		forget_addresses(Connection *c);
bool		probe_start(Connection *c, const Offers *expected);
Step		stage1_start(Connection *c);
Step		stage1(Connection *c);
Step		probe(Connection *c);
Step		check(Connection *c);

/* stage2.c */
void		conmgr_failed(Connection *c, const char *what, const char *why);
bool		conmgr_trusted(Connection *c);
void		put_question(Connection *c);
Step		ask(Connection *c);
Step		answer(Connection *c);
Step		stage2(Connection *c);

#endif							/* STEPS_H */
