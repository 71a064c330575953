/*
 * wire.h: the lowest layer of the front: talk with a Connection Manager on a
 * socket. It knows addresses and descriptors, and nothing of a PGconn or of
 * the application's handle; it includes base/text.h and cm.h, no libpq.
 *
 * - A link: the connection to conmgr (dial.c, link.c, answer.c): asked for an
 *   instance while an application connects, and then left alone.
 * - Trust: whose process the other end is (owner.c, ownerproc.c), whether
 *   that one and its answer are believed (trust.c).
 * - A watch: a link that is bound, with the SQL socket that goes with it
 *   (watcher.c, watch.c, news.c), also over an absence of conmgr (resume.c,
 *   alive.c). Its thread is all that the front runs by itself.
 *
 * A link belongs to one thread at a time and has no lock. A watch may be used
 * beside the watcher's thread: watcher.c's one lock is inside, and no lock is
 * held when a function returns.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

struct sockaddr;

/* ---- address.c: where something listens ---- */
typedef struct Host
{
	char	   *host;			/* NULL: not given */
	char	   *hostaddr;
	char	   *port;
} Host;

bool		host_is_tcp(const Host *h);
bool		host_is_loopback(const Host *h);
const char *host_port(const Host *h);
void		address_text(const struct sockaddr *address, size_t len,
						 char *out, size_t size);

/* ---- dial.c, link.c, answer.c: the connection to conmgr ---- */
typedef enum LinkStep
{
	LINK_READ, LINK_WRITE,		/* wait for the socket */
	LINK_CONNECTED,				/* link_knock: it may be asked at once */
	LINK_READY,					/* it is a conmgr, and idle, or answers */
	LINK_TARGET,				/* the answer has come: link_target */
	LINK_NO_TARGET,				/* conmgr has no such instance: link_error */
	LINK_STRANGER,				/* not a conmgr */
	LINK_FAILED					/* link_error says why */
} LinkStep;

typedef struct CmTarget
{
	char	   *instance;
	char	   *host;
	char	   *hostaddr;
	char	   *port;
	char	   *client;			/* label of sessions there; NULL or "": none */
	char	   *resume;			/* by which another conmgr binds to that very
								 * instance; NULL or "": none does */
} CmTarget;

/* What a conmgr can do, and 1.0 cannot, as it announces it. */
typedef struct Offers
{
	bool		wait;
	bool		notify;
	bool		resume;
	int64_t		target_wait;	/* ms that hold without a WAIT; -1: not told */
	int64_t		grace;			/* ms that it may be away; 0: its end is a
								 * loss */
} Offers;

typedef struct Question
{
	const char *attribute;		/* a constant */
	const char *except;			/* instances, separated by commas; "": none */
	const char *wait;			/* a duration; NULL: conmgr's own default */
} Question;

typedef struct CmLink CmLink;

/* As what an application introduces itself; NULL: not given. */
typedef struct Login
{
	const char *user;
	const char *dbname;
	const char *application_name;
} Login;

CmLink	   *link_open(const Host *h, const Login *login);
CmLink	   *link_knock(const Host *h, const Login *login,
					   const Offers *expected);
CmLink	   *link_adopt(int fd, const Host *h, const Login *login);
void		link_announce(CmLink *link, const char *parameter,
						  const char *value);
void		link_close(CmLink *link, bool quietly);
void		link_ask(CmLink *link, const Question *question);
LinkStep	link_step(CmLink *link);

int			link_socket(const CmLink *link);
const char *link_peer(const CmLink *link);
bool		link_is_connecting(const CmLink *link);
bool		link_is_sending(const CmLink *link);
bool		link_is_asked(const CmLink *link);
bool		link_shuts_down(const CmLink *link);
bool		link_tells_of_loss(const CmLink *link);
bool		link_has_none(const CmLink *link);
const Offers *link_offers(const CmLink *link);
const CmTarget *link_target(const CmLink *link);
const char *link_error(const CmLink *link);

/* ---- trust.c: whether conmgr, and its answer, is believed ---- */

/* What the application demands. */
typedef struct Demands
{
	bool		local;			/* connected by a Unix socket */
	const char *requirepeer;	/* NULL: not given */
	const char *verifies;		/* the sslmode by which it verifies servers;
								 * NULL: it does not */
} Demands;

bool		link_is_trusted(CmLink *link, const Demands *demands, Text *why);
bool		target_is_sound(const CmTarget *t, Text *why);

/* ---- watcher.c, watch.c, news.c: what comes while nobody asks ---- */
typedef struct Watch Watch;

/* CLOCK_MONOTONIC. */
int64_t		monotonic_ms(void);

/* Forks between the start of the program and this process. */
extern volatile unsigned fork_count;

Watch	   *watch_start(const CmLink *link, int sql_socket,
						const char **problem);
bool		watch_move(Watch *w, int sql_socket);
void		watch_adopt(Watch *w);
bool		watch_look(Watch *w);
bool		watch_is_away(Watch *w);
int			watch_signal(Watch *w);
bool		watch_draining(Watch *w);
void		watch_used(Watch *w);
const char *watch_said(const Watch *w);
bool		says_own_end(const char *said);
void		watch_drop_sql(Watch *w);
void		watch_end(Watch *w);

#endif							/* WIRE_H */
