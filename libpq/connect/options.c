/*
 * options.c: the connection string as libpq resolves it (keywords, URI, dbname
 * expansion, service, environment, defaults), and its list of hosts. Run by
 * the application's threads; blocks on reading the service file, and on asking
 * for the root certificate, as libpq does.
 *
 * Only libpq knows its rules, so libpq is asked: a connection is started with
 * a list of hosts that cannot be matched, which libpq refuses after it has
 * resolved everything and before it has done anything. PQconninfo() then tells
 * the values. One such connection has an impossible host list and tells the
 * rest, a second one an impossible port list and tells the hosts.
 */
#include "steps.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* "could not match 3 host names to 2 hostaddr values" */
#define NO_HOST "0,0,0"
#define NO_HOSTADDR "0,0"
#define NO_PORT \
	"0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0," \
	"0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"

/* What the front decides itself, host by host. */
static bool
ours(const char *keyword)
{
	return !strcmp(keyword, "host") || !strcmp(keyword, "hostaddr") ||
		!strcmp(keyword, "port") ||
		!strcmp(keyword, "target_session_attrs") ||
		!strcmp(keyword, "load_balance_hosts");
}

static char *
value_of(const PQconninfoOption *list, const char *keyword)
{
	for (; list && list->keyword; list++)
		if (!strcmp(list->keyword, keyword))
			return list->val;
	return NULL;
}

static bool
copy(char **to, const char *value)
{
	*to = NULL;
	return !value || (*to = strdup(value));
}

const char *
options_get(const Options *o, const char *keyword)
{
	for (int i = 0; i < o->count; i++)
		if (!strcmp(o->keywords[i], keyword))
			return o->values[i];
	return NULL;
}

static bool
is(const Options *o, const char *keyword, const char *value)
{
	const char *v = options_get(o, keyword);

	return v && !strcmp(v, value);
}

/*
 * Cuts one element off a comma-separated list; NULL for an empty one, which
 * means the default.
 */
static bool
element(const char **list, char **out)
{
	size_t		n = strcspn(*list, ",");

	*out = NULL;
	if (n > 0 && !(*out = strndup(*list, n)))
		return false;
	*list += n + ((*list)[n] == ',');
	return true;
}

static int
elements(const char *list)
{
	int			n = 1;

	for (; *list; list++)
		n += *list == ',';
	return n;
}

/*
 * False: out of memory. A list that does not fit together leaves nhosts 0: the
 * real libpq then says what is wrong with it.
 */
static bool
split_hosts(Options *o)
{
	const char *host = o->host && *o->host ? o->host : NULL;
	const char *hostaddr = o->hostaddr && *o->hostaddr ? o->hostaddr : NULL;
	const char *port = o->port ? o->port : "";
	int			n = hostaddr ? elements(hostaddr) : host ? elements(host) : 1;
	int			nports = elements(port);

	if ((host && elements(host) != n) || (nports != 1 && nports != n))
		return true;
	o->hosts = calloc((size_t) n, sizeof *o->hosts);
	if (!o->hosts)
		return false;
	o->nhosts = n;
	for (int i = 0; i < n; i++)
	{
		const char *one = o->port ? o->port : "";

		if (host && !element(&host, &o->hosts[i].host))
			return false;
		if (hostaddr && !element(&hostaddr, &o->hosts[i].hostaddr))
			return false;
		if (!element(nports == 1 ? &one : &port, &o->hosts[i].port))
			return false;
	}
	return true;
}

static void
judge(Options *o)
{
	static const struct
	{
		const char *name;
		Target		target;
	}			targets[] = {
#define X(name, text) {text, TARGET_##name},
		CM_ATTRIBUTES(X)
#undef X
	};
	const char *name = o->target_session_attrs;
	const char *v;

	if (name)
	{
		o->odd_target = true;
		for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
			if (!strcmp(targets[i].name, name))
			{
				o->target = targets[i].target;
				o->odd_target = false;
			}
	}
	o->random = o->load_balance_hosts &&
		!strcmp(o->load_balance_hosts, "random");
	o->strict_locally = is(o, "gssencmode", "require") ||
		is(o, "channel_binding", "require") ||
		is(o, "sslcertmode", "require") ||
		((v = options_get(o, "require_auth")) && *v);
	o->strict = o->strict_locally || is(o, "sslmode", "require") ||
		is(o, "sslmode", "verify-ca") || is(o, "sslmode", "verify-full") ||
		is(o, "sslnegotiation", "direct") || is(o, "sslrootcert", "system");
}

/* Takes what the two connections have resolved. */
static bool
collect(Options *o, const PQconninfoOption *values, PGconn *hosts,
		const char *service)
{
	PQconninfoOption *addresses = real.PQconninfo(hosts);
	const char *given;
	bool		ok = values && addresses;
	int			n = 1;

	for (const PQconninfoOption *v = values; ok && v->keyword; v++)
		n++;
	if (ok)
	{
		o->keywords = calloc((size_t) n, sizeof *o->keywords);
		o->values = calloc((size_t) n, sizeof *o->values);
		ok = o->keywords && o->values;
	}

	/*
	 * Not among PQconninfo's answers, but PGSERVICE must not come in its
	 * place.
	 */
	if (ok && service && *service)
	{
		ok = copy(&o->keywords[0], "service") && copy(&o->values[0], service);
		o->count = 1;
	}
	for (const PQconninfoOption *v = values; ok && v->keyword; v++)
		if (v->val && !ours(v->keyword) && strcmp(v->keyword, "service") != 0)
		{
			ok = copy(&o->keywords[o->count], v->keyword) &&
				copy(&o->values[o->count], v->val);
			o->count++;
		}
	ok = ok && copy(&o->host, value_of(addresses, "host")) &&
		copy(&o->hostaddr, value_of(addresses, "hostaddr")) &&
		copy(&o->port, value_of(values, "port")) &&
		copy(&o->target_session_attrs,
			 value_of(values, "target_session_attrs")) &&
		copy(&o->load_balance_hosts, value_of(values, "load_balance_hosts")) &&
		split_hosts(o);
	given = ok ? options_get(o, "options") : NULL;
	if (given)
		ok = split_wait(given, &o->wait, &o->server_options);
	if (ok)
		judge(o);
	real.PQconninfoFree(addresses);
	return ok;
}

static PGconn *
finish_parse(Options *o, PGconn *rest, PGconn *hosts, const char *service,
			 bool *oom)
{
	PQconninfoOption *values = rest ? real.PQconninfo(rest) : NULL;
	const char *host = value_of(values, "host");

	/*
	 * libpq has resolved the string if the list of hosts that it was given
	 * has arrived; else it says in rest what is wrong.
	 */
	if (values && hosts && !(host && !strcmp(host, NO_HOST)))
	{
		real.PQconninfoFree(values);
		real.PQfinish(hosts);
		return rest;
	}
	*oom = !values || !hosts || !collect(o, values, hosts, service);
	real.PQconninfoFree(values);
	real.PQfinish(rest);
	real.PQfinish(hosts);
	return NULL;
}

PGconn *
options_parse_string(Options *o, const char *conninfo, bool *oom)
{
	PQconninfoOption *list = real.PQconninfoParse(conninfo, NULL);
	Text		string = {0};
	size_t		len;
	PGconn	   *rest;
	PGconn	   *hosts;
	PGconn	   *failed;

	*oom = false;
	memset(o, 0, sizeof *o);
	if (!list)
	{
		/*
		 * It fails in the same way, and has the message; if it does not, the
		 * list was not to be had for want of memory.
		 */
		failed = real.PQconnectStart(conninfo);
		if (failed && real.PQstatus(failed) != CONNECTION_BAD)
		{
			real.PQfinish(failed);
			failed = NULL;
		}
		*oom = !failed;
		return failed;
	}
	for (PQconninfoOption *v = list; v->keyword; v++)
		if (v->val)
			text_add_conninfo(&string, v->keyword, v->val);
	len = string.len;
	text_add_conninfo(&string, "host", NO_HOST);
	text_add_conninfo(&string, "hostaddr", NO_HOSTADDR);
	rest = string.broken ? NULL : real.PQconnectStart(string.data);
	text_cut(&string, len);
	text_add_conninfo(&string, "port", NO_PORT);
	hosts = string.broken ? NULL : real.PQconnectStart(string.data);
	failed = finish_parse(o, rest, hosts, value_of(list, "service"), oom);
	text_free(&string);
	real.PQconninfoFree(list);
	return failed;
}

PGconn *
options_parse(Options *o, const char *const *keywords,
			  const char *const *values, int expand_dbname, bool *oom)
{
	const char **k;
	const char **v;
	int			n = 0;
	PGconn	   *rest;
	PGconn	   *hosts;
	PGconn	   *failed;
	char	   *service = NULL;

	memset(o, 0, sizeof *o);
	while (keywords[n])
		n++;
	k = calloc((size_t) n + 3, sizeof *k);
	v = calloc((size_t) n + 3, sizeof *v);
	if (!(*oom = !k || !v))
	{
		for (int i = 0; i < n; i++)
		{
			k[i] = keywords[i];
			v[i] = values[i];
			if (v[i] && *v[i] && !strcmp(k[i], "service"))
			{
				free(service);
				service = strdup(v[i]);
			}
			else if (expand_dbname && v[i] && !strcmp(k[i], "dbname"))
			{
				PQconninfoOption *list = real.PQconninfoParse(v[i], NULL);
				const char *inner = value_of(list, "service");

				if (inner)
				{
					free(service);
					service = strdup(inner);
				}
				real.PQconninfoFree(list);
			}
		}
		k[n] = "host", v[n] = NO_HOST;
		k[n + 1] = "hostaddr", v[n + 1] = NO_HOSTADDR;
		rest = real.PQconnectStartParams(k, v, expand_dbname);
		k[n] = "port", v[n] = NO_PORT;
		k[n + 1] = NULL;
		hosts = real.PQconnectStartParams(k, v, expand_dbname);
		failed = finish_parse(o, rest, hosts, service, oom);
	}
	else
		failed = NULL;
	free(service);
	free(k);
	free(v);
	return failed;
}

/*
 * Everything but what differs from host to host, for a server: what is
 * conmgr's among the options is none of its.
 */
void
options_conninfo(const Options *o, Text *out)
{
	for (int i = 0; i < o->count; i++)
		text_add_conninfo(out, o->keywords[i], o->server_options &&
						  !strcmp(o->keywords[i], "options") ?
						  o->server_options : o->values[i]);
}

/* As what conmgr knows the application. */
Login
options_login(const Options *o)
{
	const char *name = options_get(o, "application_name");
	Login		login = {
		.user = options_get(o, "user"),
		.dbname = options_get(o, "dbname"),
		.application_name = name && *name ? name :
		options_get(o, "fallback_application_name")
	};

	return login;
}

/*
 * The application's own options, or PGOPTIONS, and before them what labels the
 * session: whatever stands there, such as a backslash at the end, has no part
 * in that.
 */
void
options_labelled(const Options *o, const char *client, Text *out)
{
	const char *given = o->server_options ? o->server_options :
		options_get(o, "options");
	Text		all = {0};

	text_addf(&all, "-c " CM_LABEL_SETTING "=%s%s%s", client,
			  given && *given ? " " : "", given ? given : "");
	text_add_conninfo(out, "options", text_of(&all));
	out->broken |= all.broken;
	text_free(&all);
}

void
options_free(Options *o)
{
	for (int i = 0; o->keywords && i < o->count; i++)
	{
		free(o->keywords[i]);
		if (o->values[i])
			explicit_bzero(o->values[i], strlen(o->values[i]));
		free(o->values[i]);
	}
	for (int i = 0; i < o->nhosts; i++)
	{
		free(o->hosts[i].host);
		free(o->hosts[i].hostaddr);
		free(o->hosts[i].port);
	}
	free(o->keywords);
	free(o->values);
	free(o->hosts);
	free(o->host);
	free(o->hostaddr);
	free(o->port);
	free(o->target_session_attrs);
	free(o->load_balance_hosts);
	free(o->wait);
	free(o->server_options);
	memset(o, 0, sizeof *o);
}

/* ---- what is verified ---- */

/* libpq's own rule: with a root certificate, sslmode=require is verify-ca. */
static bool
has_root_certificate(const Options *o)
{
	const char *file = options_get(o, "sslrootcert");
	const char *home = getenv("HOME");
	Text		path = {0};
	struct stat s;
	bool		there;

	if (file && *file)
		text_add(&path, file);
	else if (home && *home)
		text_addf(&path, "%s/.postgresql/root.crt", home);
	there = path.len > 0 && !path.broken && stat(path.data, &s) == 0;
	text_free(&path);
	return there;
}

/* The sslmode that says what is verified of a server, NULL if nothing is. */
const char *
options_verify(const Options *o)
{
	const char *mode = options_get(o, "sslmode");

	if (!mode)
		return NULL;
	if (!strcmp(mode, "verify-full") || !strcmp(mode, "verify-ca"))
		return mode;
	return !strcmp(mode, "require") && has_root_certificate(o) ? "verify-ca" :
		NULL;
}
