/*
 * expbuffer.c: libpq's variadic functions, which cannot be forwarded as they
 * are, and the one behind them that psql calls since 18. Run by the
 * application's threads, and by the real libpq itself; block on nothing.
 */
#include "handle.h"

void		appendPQExpBuffer(PQExpBuffer str, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));
void		printfPQExpBuffer(PQExpBuffer str, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));
bool		appendPQExpBufferVA(PQExpBuffer str, const char *fmt, va_list args)
			__attribute__((format(printf, 2, 0)));

static void append(PQExpBuffer str, const char *fmt, va_list args,
				   int saved_errno) __attribute__((format(printf, 2, 0)));

static void
append(PQExpBuffer str, const char *fmt, va_list args, int saved_errno)
{
	char		fixed[1024];
	char	   *all = fixed;
	va_list		again;
	int			n;

	va_copy(again, args);
	errno = saved_errno;		/* for %m */
	n = vsnprintf(fixed, sizeof fixed, fmt, args);
	if (n >= (int) sizeof fixed)
	{
		all = malloc((size_t) n + 1);
		if (all)
		{
			errno = saved_errno;
			vsnprintf(all, (size_t) n + 1, fmt, again);
		}
	}
	va_end(again);
	/* what cannot be had marks the buffer as broken, as libpq does */
	if (n < 0 || !all)
		real.enlargePQExpBuffer(str, SIZE_MAX / 2);
	else
		real.appendBinaryPQExpBuffer(str, all, (size_t) n);
	if (all != fixed)
		free(all);
}

EXPORT void
appendPQExpBuffer(PQExpBuffer str, const char *fmt,...)
{
	int			saved_errno = errno;
	va_list		args;

	va_start(args, fmt);
	append(str, fmt, args, saved_errno);
	va_end(args);
}

EXPORT void
printfPQExpBuffer(PQExpBuffer str, const char *fmt,...)
{
	int			saved_errno = errno;
	va_list		args;

	real.resetPQExpBuffer(str);
	va_start(args, fmt);
	append(str, fmt, args, saved_errno);
	va_end(args);
}

/*
 * libpq's may ask to be called again with more room; this one makes room
 * itself.
 */
EXPORT bool
appendPQExpBufferVA(PQExpBuffer str, const char *fmt, va_list args)
{
	append(str, fmt, args, errno);
	return true;
}
