/*
 * link.h: the inside of wire/: what a link is, for link.c, answer.c and
 * trust.c, and the news that come on a bound one, for watcher.c.
 */
#ifndef LINK_H
#define LINK_H

#include "cm.h"
#include "wire.h"

typedef enum LinkState
{
	LS_CONNECTING, LS_SSL_ANSWER, LS_STARTUP, LS_IDLE, LS_SENDING, LS_ANSWER
} LinkState;

struct addrinfo;

struct CmLink
{
	int			fd;
	bool		borrowed;		/* fd is its owner's to close, link_adopt */
	LinkState	state;
	struct addrinfo *addresses; /* of a connection that we make */
	struct addrinfo *next_address;
	Text		startup;
	Text		out;
	size_t		sent;
	char	   *in;
	size_t		in_len;
	size_t		in_size;
	size_t		received;		/* of this answer, all its messages */
	bool		is_conmgr;
	bool		got_target;
	bool		got_error;
	bool		rejects;		/* the error is 57P03: conmgr shuts down */
	bool		trusted;		/* trust.c has looked at its user */
	int			fields;			/* of a row; 0: not described yet */
	int			columns[CM_COLUMNS];	/* where the columns are in it; -1:
										 * nowhere */
	CmTarget	target;
	Text		error;			/* message of conmgr or of the system */
	char		peer[64];		/* its address, numeric */
};

/* answer.c */
LinkStep	link_receive(CmLink *link);

/* news.c */
bool		news_come(int cm_socket);
bool		news_read(int cm_socket, char *said, size_t size);

#endif							/* LINK_H */
