/*
 * link.h: the inside of wire/: what a link is, for dial.c, link.c, answer.c,
 * trust.c and resume.c; the news that come on a bound one, and being bound
 * again, for watch.c.
 */
#ifndef LINK_H
#define LINK_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "cm.h"
#include "wire.h"

typedef enum LinkState
{
	LS_CONNECTING, LS_SSL_ANSWER, LS_CONNECTED, LS_GREETING, LS_STARTUP, LS_IDLE,
	LS_SENDING, LS_ANSWER
} LinkState;

struct addrinfo;

/* An address of conmgr's. */
typedef struct Place
{
	struct sockaddr_storage address;
	socklen_t	size;			/* 0: not known */
} Place;

/* Why the process at the other end was believed. */
typedef struct Belief
{
	enum
	{
		BELIEVED_NOT, BELIEVED_ANYBODY, BELIEVED_USER, BELIEVED_UNKNOWN
	}			because;
	uid_t		uid;			/* of BELIEVED_USER */
} Belief;

struct CmLink
{
	int			fd;
	bool		borrowed;		/* fd is its owner's to close, link_adopt */
	LinkState	state;
	struct addrinfo *addresses; /* of a connection that we make */
	struct addrinfo *next_address;
	Place		place;			/* that it is connected to, or about to be */
	Text		startup;		/* also of one that was adopted: whoever binds
								 * again says the same */
	Text		out;
	size_t		sent;
	char	   *in;
	size_t		in_len;
	size_t		in_size;
	size_t		received;		/* of this answer, all its messages */
	bool		is_conmgr;
	bool		knocks;			/* the question goes with the startup */
	Offers		expected;		/* link_knock: by which it was put */
	Offers		offers;
	const char *attribute;		/* asked for last; NULL: nothing yet */
	bool		got_target;
	bool		got_error;
	char		sqlstate[6];	/* of that error */
	Belief		belief;			/* trust.c has looked at its user */
	int			fields;			/* of a row; 0: not described yet */
	int			columns[CM_COLUMNS];	/* where the columns are in it; -1:
										 * nowhere */
	CmTarget	target;
	Text		error;			/* message of conmgr or of the system */
	char		peer[64];		/* its address, numeric */
};

/* address.c */
bool		socket_place(const Host *h, Place *place);

/* dial.c */
extern const Offers no_offers;

void		put32(Text *out, uint32_t n);
bool		dial(CmLink *link);
CmLink	   *link_again(const Place *place, const Text *startup);
void		target_free(CmTarget *t);

/* link.c */
bool		link_is_writing(const CmLink *link);
void		link_query(CmLink *link, const char *attribute,
					   const Text *statement);

/* answer.c */
LinkStep	link_receive(CmLink *link);

/* trust.c */
bool		link_is_believed_again(CmLink *link, const Belief *before);

/* ---- news.c ---- */
typedef enum News
{
	NEWS_NONE,					/* but told may have changed */
	NEWS_ENDED,					/* conmgr has said so, in said, or talks
								 * nonsense */
	NEWS_CLOSED					/* without a word */
} News;

/* What conmgr has said that ends nothing. */
typedef struct Told
{
	bool		draining;		/* the server, or its use by this host, ends */
	bool		role;			/* it is not what was asked for any more */
	int64_t		away;			/* ms that conmgr is going to be away; -1: it
								 * has not said so */
} Told;

News		news_take(int cm_socket, Told *told, char *said, size_t size);

/* ---- resume.c: bound again, when conmgr was away ---- */
typedef struct Resume Resume;

typedef enum ResumeStep
{
	RESUME_WAITS,				/* for its socket, or the time */
	RESUME_BOUND,				/* by resume_link */
	RESUME_LOST					/* said holds */
} ResumeStep;

Resume	   *resume_of(const CmLink *link);
void		resume_free(Resume *r, bool quietly);
int64_t		resume_grace(const Resume *r);
void		resume_begin(Resume *r, int64_t now, int64_t within);
void		resume_anew(Resume *r, int64_t now);
ResumeStep	resume_step(Resume *r, int64_t now, char *said, size_t size);
CmLink	   *resume_link(const Resume *r);
bool		resume_knocks(const Resume *r);
int64_t		resume_due(const Resume *r);
int64_t		resume_deadline(const Resume *r);

/* ---- alive.c: whether the server is, is TCP's to find out meanwhile ---- */
typedef struct Alive
{
	bool		set;
	int			keepalive;		/* what the socket had before */
	int			idle;
	int			interval;
	int			user_timeout;
} Alive;

void		alive_watch(int sql_socket, int64_t within, Alive *before);
void		alive_leave(int sql_socket, Alive *before);

#endif							/* LINK_H */
