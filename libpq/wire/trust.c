/*
 * trust.c: whether what calls itself a Connection Manager is believed, and
 * whether its answer is. Run by the application's thread that connects;
 * blocks on nothing but the look-up of a user's name, and that only for a
 * peer that is neither root's nor this process's own user's.
 *
 * Whoever listens on conmgr's port decides by his answers where applications
 * go, and under which name a server's certificate is checked. So, before
 * anything that he says is believed, and before anything is asked of him but
 * by a question that goes with the startup (link_knock), which tells him no
 * more than that does:
 *
 * - known: his user is root, this process's own one, conmgr, or one of
 *   PGCMUSER; or requirepeer names him (Unix sockets). Others are refused.
 * - gone: he has closed his end before he was looked at. Refused.
 * - unknown: refused where the application has asked for a server that is
 *   identified (sslmode verify-ca, verify-full), as it is the answer that
 *   says which one. Not if verify-full goes with PGCMHOSTS: the application
 *   itself has the list of names then. Else let through: libpq promises no
 *   server's identity there.
 *
 * Whoever answers for conmgr when it was away (resume.c) must be whom the
 * application has believed: the watcher thread looks nobody up.
 *
 * uid 65534 is nobody's in particular: the kernel shows it for all users
 * that this process's user namespace does not know.
 */
#include "link.h"
#include "owner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define OVERFLOW_UID 65534
#define MAX_PASSWD (1024 * 1024)

/* ---- lists in the environment ---- */

/*
 * The next element of a comma-separated list, without the blanks around it.
 * False: there is none.
 */
static bool
next_element(const char **list, const char **element, size_t *len)
{
	size_t		n;

	while (**list == ',' || **list == ' ' || **list == '\t')
		(*list)++;
	if (!**list)
		return false;
	*element = *list;
	n = strcspn(*list, ",");
	*list += n;
	while (n > 0 && ((*element)[n - 1] == ' ' || (*element)[n - 1] == '\t'))
		n--;
	*len = n;
	return true;
}

/* Not of a set-user-ID program: its environment is somebody else's. */
static const char *
listed(const char *variable)
{
	const char *value = secure_getenv(variable);

	return value ? value : "";
}

static bool
is_empty(const char *list)
{
	const char *element;
	size_t		len;

	return !next_element(&list, &element, &len);
}

static bool
any_user(void)
{
	const char *list = listed("PGCMUSER");
	const char *element;
	size_t		len;

	while (next_element(&list, &element, &len))
		if (len == 1 && *element == '*')
			return true;
	return false;
}

/* ---- users ---- */

/* The entry by name, or by uid if that is NULL. False: there is none. */
static bool
look_up(const char *name, uid_t *uid, Text *found)
{
	struct passwd entry;
	struct passwd *p = NULL;
	char	   *buffer = NULL;
	int			error = ERANGE;

	for (size_t n = 1024; error == ERANGE && n <= MAX_PASSWD; n *= 4)
	{
		char	   *bigger = realloc(buffer, n);

		if (!bigger)
			break;
		buffer = bigger;
		error = name ? getpwnam_r(name, &entry, buffer, n, &p) :
			getpwuid_r(*uid, &entry, buffer, n, &p);
	}
	if (p)
	{
		*uid = p->pw_uid;
		if (found)
			text_add(found, p->pw_name);
	}
	free(buffer);
	return p != NULL;
}

static bool
is_user(const char *name, size_t len, uid_t uid)
{
	char	   *copy = strndup(name, len);
	uid_t		other;
	bool		same;

	if (!copy)
		return false;
	if (copy[strspn(copy, "0123456789")] == '\0')
	{
		errno = 0;
		same = strtoul(copy, NULL, 10) == uid && errno == 0;
	}
	else
		same = look_up(copy, &other, NULL) && other == uid;
	free(copy);
	return same;
}

static bool
is_trusted(uid_t uid)
{
	const char *list = listed("PGCMUSER");
	const char *element;
	size_t		len;

	if (uid == OVERFLOW_UID || uid == (uid_t) -1)
		return false;
	if (uid == 0 || uid == geteuid())
		return true;
	while (next_element(&list, &element, &len))
		if (is_user(element, len, uid))
			return true;
	return is_user("conmgr", strlen("conmgr"), uid);
}

/* ---- the peer ---- */

/*
 * libpq's own rule, which it has seen to already if the connection is its
 * own.
 */
static bool
is_required_peer(const char *required, uid_t uid, Text *why)
{
	Text		name = {0};
	bool		known = look_up(NULL, &uid, &name);
	bool		same = known && !strcmp(text_of(&name), required);

	if (!known)
		text_addf(why, "could not look up local user ID %u: "
				  "user does not exist\n", (unsigned) uid);
	else if (!same)
		text_addf(why, "requirepeer specifies \"%s\", "
				  "but actual peer user name is \"%s\"\n",
				  required, text_of(&name));
	text_free(&name);
	return same;
}

static void
complain_of_user(uid_t uid, bool local, Text *why)
{
	const char *otherwise = local ? "use requirepeer" :
		"connect by its Unix-domain socket (host=DIRECTORY) with requirepeer";
	Text		name = {0};

	text_add(why, "the process that listens there belongs to ");
	if (uid == OVERFLOW_UID)
		text_addf(why, "user ID %u, which may be anybody's, and is not trusted"
				  " to be the Connection Manager\n"
				  "HINT:  If it is the right one, %s, or set the environment"
				  " variable PGCMUSER to *.\n", (unsigned) uid, otherwise);
	else
	{
		if (look_up(NULL, &uid, &name))
			text_addf(why, "user \"%s\" (user ID %u)", text_of(&name),
					  (unsigned) uid);
		else
			text_addf(why, "user ID %u", (unsigned) uid);
		text_addf(why, ", who is not trusted to be the Connection Manager\n"
				  "HINT:  If it is the right one, name the user in the"
				  " environment variable PGCMUSER, or %s.\n", otherwise);
	}
	text_free(&name);
}

static bool
unknown_will_do(const char *verifies, const Owner *owner, Text *why)
{
	bool		full = verifies && !strcmp(verifies, "verify-full");

	if (!verifies)
		return true;
	if (full && !is_empty(listed("PGCMHOSTS")))
		return true;
	text_addf(why, "sslmode \"%s\" needs a trusted Connection Manager, and "
			  "whose process listens there is not known: %s\n"
			  "HINT:  Connect by its Unix-domain socket (host=DIRECTORY), %s"
			  "or set the environment variable PGCMUSER to *.\n",
			  verifies, owner->why,
			  full ? "or name the acceptable servers in the "
			  "environment variable PGCMHOSTS, " : "");
	return false;
}

static bool
peer_is_trusted(int fd, const Demands *d, Belief *belief, Text *why)
{
	const char *required = d->local ? d->requirepeer : NULL;
	bool		named = required && *required;
	Owner		owner;

	if (any_user() && !named)
	{
		belief->because = BELIEVED_ANYBODY;
		return true;
	}
	owner = owner_of_peer(fd);
	switch (owner.state)
	{
		case OWNER_KNOWN:
			belief->because = BELIEVED_USER;
			belief->uid = owner.uid;
			if (named)
				return is_required_peer(required, owner.uid, why);
			if (is_trusted(owner.uid))
				return true;
			complain_of_user(owner.uid, d->local, why);
			return false;
		case OWNER_GONE:
			text_add(why, "whatever has answered there has closed the "
					 "connection before its user could be told\n");
			return false;
		case OWNER_UNKNOWN:
			break;
	}
	belief->because = BELIEVED_UNKNOWN;
	return unknown_will_do(d->verifies, &owner, why);
}

/* Looked at once a link. */
bool
link_is_trusted(CmLink *link, const Demands *demands, Text *why)
{
	Belief		belief = {BELIEVED_NOT, 0};

	if (link->belief.because == BELIEVED_NOT &&
		peer_is_trusted(link->fd, demands, &belief, why))
		link->belief = belief;
	return link->belief.because != BELIEVED_NOT;
}

bool
link_is_believed_again(CmLink *link, const Belief *before)
{
	Owner		owner;

	if (before->because != BELIEVED_ANYBODY)
	{
		owner = owner_of_peer(link->fd);
		if (before->because == BELIEVED_USER ?
			owner.state != OWNER_KNOWN || owner.uid != before->uid :
			owner.state != OWNER_UNKNOWN)
			return false;
	}
	link->belief = *before;
	return true;
}

/* ---- the answer ---- */

static bool
has_control(const char *s)
{
	for (; *s; s++)
		if ((unsigned char) *s < 0x20 || *s == 0x7f)
			return true;
	return false;
}

/* Of IPv6 with a zone, too: fe80::1%eth0. */
static bool
is_address(const char *s)
{
	struct in6_addr address;
	char		v6[INET6_ADDRSTRLEN];
	size_t		n = strcspn(s, "%");

	if (inet_pton(AF_INET, s, &address) == 1)
		return true;
	if (n >= sizeof v6 || (s[n] == '%' && !s[n + 1]))
		return false;
	memcpy(v6, s, n);
	v6[n] = '\0';
	return inet_pton(AF_INET6, v6, &address) == 1 &&
		!strpbrk(s + n, ", '\\/@#");
}

static bool
is_port(const char *s)
{
	size_t		n = strlen(s);
	long		port;

	if (n == 0 || n > 5 || strspn(s, "0123456789") != n)
		return false;
	port = strtol(s, NULL, 10);
	return port >= 1 && port <= 65535;
}

static bool
is_pinned(const char *host)
{
	const char *list = listed("PGCMHOSTS");
	const char *element;
	size_t		len;

	if (is_empty(list))
		return true;
	while (next_element(&list, &element, &len))
		if (strlen(host) == len && !strncasecmp(host, element, len))
			return true;
	return false;
}

/* It becomes a part of the session's options. */
static bool
is_label(const char *s)
{
	return strlen(s) == CM_LABEL_LENGTH &&
		strspn(s, "0123456789abcdef") == CM_LABEL_LENGTH;
}

#define SHOWN "\"%.100s\""

/*
 * libpq takes more for a host than a name, and this must be one: it decides
 * whether TLS is used at all, and which certificate will do.
 */
bool
target_is_sound(const CmTarget *t, Text *why)
{
	const char *client = t->client ? t->client : "";
	const char *resume = t->resume ? t->resume : "";

	if (has_control(t->host) || has_control(t->hostaddr) ||
		has_control(t->port) || has_control(t->instance) ||
		has_control(client) || has_control(resume))
		text_add(why, "the answer has a control character\n");
	else if (!*t->instance)
		text_add(why, "the answer's instance is empty\n");
	else if (!*t->host)
		text_add(why, "the answer's host is empty\n");
	else if (*t->host == '/' || *t->host == '@')
		text_addf(why, "the answer's host " SHOWN
				  " is the directory of a socket\n", t->host);
	else if (strchr(t->host, ','))
		text_addf(why, "the answer's host " SHOWN " is a list\n", t->host);
	else if (!is_address(t->hostaddr))
		text_addf(why, "the answer's hostaddr " SHOWN
				  " is not an IP address\n", t->hostaddr);
	else if (!is_port(t->port))
		text_addf(why, "the answer's port " SHOWN
				  " is not a port number\n", t->port);
	else if (*client && !is_label(client))
		text_addf(why, "the answer's client " SHOWN
				  " is not a label\n", client);
	else if (strlen(resume) > CM_MAX_RESUME)
		text_add(why, "the answer's resume is too long\n");
	else if (!is_pinned(t->host))
		text_addf(why, "the answer's host " SHOWN
				  " is not one of PGCMHOSTS\n", t->host);
	else
		return true;
	return false;
}
