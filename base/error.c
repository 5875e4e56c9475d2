/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as values; error.h says how they travel. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err) {
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
	}
	return -code;
}

int error_sys(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (err) {
		err->code = code;
		va_start(ap, fmt);
		n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
		if (n >= 0 && (size_t)n < sizeof(err->msg))
			snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %s",
				 strerror(code));
	}
	return -code;
}

int error_wrap(struct error *err, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	va_list ap;
	int n;

	if (!err)
		return -EIO;
	if (!err->code)
		err->code = EIO;
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(err->msg) && old[0])
		snprintf(err->msg + n, sizeof(err->msg) - (size_t)n, ": %.990s", old);
	return -err->code;
}

void error_clear(struct error *err)
{
	if (err) {
		err->code = 0;
		err->msg[0] = '\0';
	}
}

int error_http_status(int code)
{
	switch (code) {
	case 0:
		return 200;
	case EINVAL:
	case EBADMSG:
	case E2BIG:
	case ENAMETOOLONG:
	case ERANGE:
		return 400;
	case EACCES:
	case EPERM:
	case EKEYREJECTED: /* a token or certificate of another cluster */
	case ETIME:	   /* a token that has expired */
		return 403;
	case ENOENT:
	case ESRCH:
	case ENODEV:
		return 404;
	case EBUSY:
	case EEXIST:
	case ECANCELED:
	case EALREADY:
	case EXDEV: /* the container runs on another host */
	case ENOTEMPTY:
	case EADDRINUSE:
	case EPROTO: /* an object that cannot travel: the container's state is in the way */
		return 409;
	case EFBIG:
		return 413;
	case ENOSYS:
	case EOPNOTSUPP:
		return 501;
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case EAGAIN:
	case ECONNRESET:
	case ENOMEM: /* a destination without memory */
		return 503;
	default:
		return 500;
	}
}

int error_exit_status(int code)
{
	return code == 0 ? 0 : code == EINVAL ? 2 : 1;
}
