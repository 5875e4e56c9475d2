/* SPDX-License-Identifier: Apache-2.0 */
/* Image names: parsing, checking, long and short form; ref.h is the contract. */
#include "runtime/image/ref.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/image/digest.h"

#define MAX_NAME 255
#define MAX_TAG	 128

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* path-component: alnum runs joined by ".", "_", "__" or any number of "-". */
static bool component_ok(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t start = i;

		while (i < n && is_lower_alnum(s[i]))
			i++;
		if (i == start)
			return false;
		if (i == n)
			return true;
		if (s[i] == '-') {
			while (i < n && s[i] == '-')
				i++;
		} else if (s[i] == '.') {
			i++;
		} else if (s[i] == '_') {
			i++;
			if (i < n && s[i] == '_')
				i++;
		} else {
			return false;
		}
	}
	return false; /* empty, or ends in a separator */
}

static bool path_ok(const char *path)
{
	for (const char *p = path;;) {
		size_t n = strcspn(p, "/");

		if (!component_ok(p, n))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

static bool domain_ok(const char *s, size_t n)
{
	size_t host = n;
	const char *colon = NULL;

	if (n && s[0] == '[') { /* an IPv6 address */
		const char *end = memchr(s, ']', n);

		if (!end || strspn(s + 1, "0123456789abcdefABCDEF:") != (size_t)(end - s - 1))
			return false;
		colon = end + 1 < s + n ? end + 1 : NULL;
		if (colon && *colon != ':')
			return false;
	} else {
		colon = memchr(s, ':', n);
		host = colon ? (size_t)(colon - s) : n;
		if (!host)
			return false;
		/* labels of letters, digits and inner dashes, joined by dots */
		for (size_t i = 0; i < host; i++) {
			bool inner = i > 0 && i < host - 1;

			if (is_alnum(s[i]))
				continue;
			if (!inner || (s[i] != '-' && s[i] != '.'))
				return false;
			if (s[i - 1] == '.' || (s[i] == '.' && s[i - 1] == '-'))
				return false;
		}
	}
	if (colon) {
		size_t digits = (size_t)(s + n - colon - 1);

		if (digits < 1 || digits > 5 || strspn(colon + 1, "0123456789") < digits)
			return false;
	}
	return true;
}

static bool tag_ok(const char *s)
{
	size_t n = strlen(s);

	if (!n || n > MAX_TAG || (!is_alnum(s[0]) && s[0] != '_'))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!is_alnum(s[i]) && !strchr("_.-", s[i]))
			return false;
	return true;
}

int image_ref_normalize(const char *name, char **whole, struct error *err)
{
	CLEANUP_FREE char *repo = str_dup(name);
	CLEANUP_FREE char *domain = NULL;
	const char *tag = "latest", *path = repo;
	char *slash, *colon;

	*whole = NULL;
	if (strlen(name) > 2 * MAX_NAME)
		return error_set(err, EINVAL, "image name is longer than %d bytes", 2 * MAX_NAME);
	if (strchr(name, '@'))
		return error_set(err, EINVAL,
				 "\"%s\": names with a digest are not kept in this store; use "
				 "name:tag or the image id",
				 name);
	slash = strrchr(repo, '/');
	colon = strchr(slash ? slash : repo, ':');
	if (colon) {
		*colon = '\0';
		tag = colon + 1;
	}
	if (!*repo || image_is_hex(repo))
		return error_set(err, EINVAL, "\"%s\" is no image name: %s", name,
				 *repo ? "64 hex digits are an id" : "it is empty");
	slash = strchr(repo, '/');
	if (slash) {
		size_t n = (size_t)(slash - repo);
		bool upper = false;

		for (size_t i = 0; i < n; i++)
			upper |= isupper((unsigned char)repo[i]) != 0;
		if (upper || memchr(repo, '.', n) || memchr(repo, ':', n) ||
		    (n == 9 && memcmp(repo, "localhost", 9) == 0)) {
			if (!domain_ok(repo, n))
				return error_set(err, EINVAL,
						 "\"%s\": \"%.*s\" is no registry host", name,
						 (int)n, repo);
			domain = str_format("%.*s", (int)n, repo);
			path = slash + 1;
		}
	}
	if (!path_ok(path)) {
		for (const char *p = path; *p; p++)
			if (isupper((unsigned char)*p))
				return error_set(err, EINVAL,
						 "\"%s\" is no image name: it must be lower-case",
						 name);
		return error_set(err, EINVAL,
				 "\"%s\" is no image name: expected [host/]path[:tag] of "
				 "lower-case letters, digits and single separators",
				 name);
	}
	if (!tag_ok(tag))
		return error_set(err, EINVAL, "\"%s\": \"%.130s\" is no valid tag", name, tag);
	if (!domain || strcmp(domain, "docker.io") == 0 || strcmp(domain, "index.docker.io") == 0)
		*whole = str_format("docker.io/%s%s:%s", strchr(path, '/') ? "" : "library/", path,
				    tag);
	else
		*whole = str_format("%s/%s:%s", domain, path, tag);
	if (strlen(*whole) - strlen(tag) - 1 > MAX_NAME) {
		free(TAKE_PTR(*whole));
		return error_set(err, EINVAL, "image name is longer than %d bytes", MAX_NAME);
	}
	return 0;
}

char *image_ref_short(const char *whole)
{
	if (str_starts(whole, "docker.io/library/") && !strchr(whole + 18, '/'))
		return str_dup(whole + 18);
	if (str_starts(whole, "docker.io/"))
		return str_dup(whole + 10);
	return str_dup(whole);
}
