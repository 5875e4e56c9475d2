/* SPDX-License-Identifier: Apache-2.0 */
/* Matching of paths and versions; see route.h. */
#include <ctype.h>
#include <string.h>

#include "api/route.h"
#include "base/str.h"

/* "/a/{}/b/{}" */
static bool match_two(const char *pattern, const char *path, char **arg)
{
	size_t head = strcspn(pattern, "{"), middle = strcspn(pattern + head + 2, "{"), first;
	const char *second;

	if (strncmp(pattern, path, head))
		return false;
	path += head;
	first = strcspn(path, "/");
	if (!first || strncmp(path + first, pattern + head + 2, middle))
		return false;
	second = path + first + middle;
	if (!*second || strchr(second, '/'))
		return false;
	*arg = str_format("%.*s/%s", (int)first, path, second);
	return true;
}

bool route_match(const char *pattern, const char *path, char **arg)
{
	const char *open = strchr(pattern, '{'), *tail;
	size_t head = open ? (size_t)(open - pattern) : 0, len = strlen(path), end;
	bool many = open && open[1] == '*';

	*arg = NULL;
	if (!open)
		return strcmp(pattern, path) == 0;
	tail = strchr(open, '}') + 1;
	if (strchr(tail, '{'))
		return match_two(pattern, path, arg);
	end = strlen(tail);
	if (strncmp(pattern, path, head) || len <= head + end || strcmp(path + len - end, tail))
		return false;
	if (!many && memchr(path + head, '/', len - head - end))
		return false;
	*arg = str_format("%.*s", (int)(len - head - end), path + head);
	return true;
}

/* "1.47" at p: its end, or NULL. */
static const char *version_number(const char *p, int *major, int *minor)
{
	int *const parts[] = { major, minor };

	for (int i = 0; i < 2; i++) {
		int n = 0, digits = 0;

		for (; isdigit((unsigned char)*p) && digits < 4; digits++)
			n = n * 10 + (*p++ - '0');
		if (!digits || isdigit((unsigned char)*p))
			return NULL;
		*parts[i] = n;
		if (i == 0 && *p++ != '.')
			return NULL;
	}
	return p;
}

int route_version(const char *path, const char **rest, int *minor, struct error *err)
{
	int major = 0, n = 0;
	const char *end;

	*rest = path;
	*minor = API_VERSION_MAX_MINOR;
	if (path[0] != '/' || path[1] != 'v' || !isdigit((unsigned char)path[2]))
		return 0;
	end = version_number(path + 2, &major, &n);
	if (!end || *end != '/')
		return 0;
	/* The texts are those of moby's daemon/server/middleware/version.go. */
	if (major > 1 || (major == 1 && n > API_VERSION_MAX_MINOR))
		return error_set(
			err, EINVAL,
			"client version %d.%d is too new. Maximum supported API version is %s",
			major, n, API_VERSION_MAX);
	if (major < 1 || n < API_VERSION_MIN_MINOR)
		return error_set(err, EINVAL,
				 "client version %d.%d is too old. Minimum supported API version "
				 "is %s, please upgrade your client to a newer version",
				 major, n, API_VERSION_MIN);
	*rest = end;
	*minor = n;
	return 0;
}
